/* core/simd.c: which level of vector code this processor has, and how it treats the smallest numbers. */
#include "core/simd.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

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

void simd_flush_denormals(void)
{
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040); /* flush to zero, denormals are zero */
#elif defined(__aarch64__)
    uint64_t fpcr;

    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | 1u << 24));
#endif
}
