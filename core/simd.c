/* core/simd.c: which level of vector code this processor has. */
#include "core/simd.h"

int simd_best_level(void)
{
#if defined(SIMD_X86_LEVELS)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");

    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return 0;
    return avx2 ? 1 : 2;
#else
    return 0;
#endif
}
