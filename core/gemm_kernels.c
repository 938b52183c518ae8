/* core/gemm_kernels.c: the vector code of dense products (see gemm_kernels.h). It stands once, in gemm_level.h, and is compiled for each level that a
 * processor may have. The build allows contraction to fused multiply-adds in this file, and leaves vectors to the code. */
#include "core/gemm_kernels.h"

#include <string.h>

#include "core/simd.h"

enum { PANEL = 8192 }; /* floats of a panel of b: 32 KB, of a first-level cache of as much or more */

#define LEVEL_CODE "core/gemm_level.h"
#include "core/vector_levels.h"

static const struct level {
    const char *name;
    void (*product)(const struct gemm_product *p);
} levels[] = {
#if defined(SIMD_X86_LEVELS)
    { "avx512", product_avx512 },
    { "avx2", product_avx2 },
#endif
    { "portable", product_portable },
};
enum { N_LEVELS = sizeof levels / sizeof levels[0] };

int gemm_n_levels(void)
{
    return N_LEVELS - simd_best_level();
}

const char *gemm_level_name(int level)
{
    return levels[simd_best_level() + level].name;
}

void gemm_level(int level, const struct gemm_product *p)
{
    levels[simd_best_level() + level].product(p);
}
