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

#if defined(__x86_64__)
#define LANES 16
#define OUTPUTS 8
#define LEVEL(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define LOW_HALVES(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH_HALVES(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#include "core/conv_level.h"

#define LANES 8
#define OUTPUTS 4
#define LEVEL(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LOW_HALVES(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH_HALVES(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#include "core/conv_level.h"

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

#define LANES 4
#define OUTPUTS 4
#define LEVEL(name) name##_portable
#define TARGET
#define LOW_HALVES(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define HIGH_HALVES(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#include "core/conv_level.h"

static const struct conv_level levels[] = {
#if defined(__x86_64__)
    { "avx512", 8, has_avx512, product_avx512, dots_avx512, kept_product_avx512, kept_dots_avx512, total_avx512, pack_avx512 },
    { "avx2", 4, has_avx2, product_avx2, dots_avx2, kept_product_avx2, kept_dots_avx2, total_avx2, pack_avx2 },
#endif
    { "portable", 4, NULL, product_portable, dots_portable, kept_product_portable, kept_dots_portable, total_portable, pack_portable },
};
enum { N_LEVELS = sizeof levels / sizeof levels[0] };
int conv_skip_levels;

static int best_level(void)
{
    int i = 0;

    while (levels[i].is_there && !levels[i].is_there())
        i++;
    return i;
}

int conv_n_levels(void)
{
    return N_LEVELS - best_level();
}

const char *conv_level_name(int level)
{
    return levels[best_level() + level].name;
}

const struct conv_level *conv_level(void)
{
    return &levels[best_level() + conv_skip_levels];
}
