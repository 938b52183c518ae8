/* core/conv_kernels.c: the vector code of convolutions (see conv_kernels.h). It stands once, in conv_level.h, and is compiled for each level that a
 * processor may have; the best is chosen at run time. The build allows contraction to fused multiply-adds in this file. */
#include "core/conv_kernels.h"

#include "core/conv.h"
#include "core/simd.h"

/* Loaded once, not by each operation that needs it. */
#if defined(__x86_64__)
#define IN_REGISTER(v) __asm__("" : "+v"(v))
#else
#define IN_REGISTER(v) (void)0
#endif

#define LEVEL_CODE "core/conv_level.h"
#include "core/vector_levels.h"

static const struct conv_level levels[] = {
#if defined(SIMD_X86_LEVELS)
    { "avx512", 8, product_avx512, dots_avx512, kept_product_avx512, kept_dots_avx512, total_avx512, pack_avx512 },
    { "avx2", 4, product_avx2, dots_avx2, kept_product_avx2, kept_dots_avx2, total_avx2, pack_avx2 },
#endif
    { "portable", 4, product_portable, dots_portable, kept_product_portable, kept_dots_portable, total_portable, pack_portable },
};
enum { N_LEVELS = sizeof levels / sizeof levels[0] };
int conv_skip_levels;

int conv_n_levels(void)
{
    return N_LEVELS - simd_best_level();
}

const char *conv_level_name(int level)
{
    return levels[simd_best_level() + level].name;
}

const struct conv_level *conv_level(void)
{
    return &levels[simd_best_level() + conv_skip_levels];
}
