/* core/simd.h: loops that the compiler turns into vector code.
 *
 * SIMD in front of a function compiles it once per level of x86-64 (AVX-512, AVX2, plain) and picks at load time what the processor
 * has; elsewhere, and under the sanitizers, it is empty. The helpers are branch-free, so that loops over them vectorise; they are
 * inlined into the versions. Sums run in lanes of fixed number: the result depends on the length alone. */
#ifndef CORE_SIMD_H
#define CORE_SIMD_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(ESPALIER_SANITIZE)
#define SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SIMD
#endif
/* In front of a loop of constant length over an array that is to stay in registers. Others than gcc do so by themselves, and clang takes minutes when it is
 * told to. */
#if defined(__GNUC__) && !defined(__clang__) && !defined(ESPALIER_SANITIZE)
#define SIMD_UNROLL _Pragma("GCC unroll 32")
#else
#define SIMD_UNROLL
#endif
/* In front of a loop whose arrays are apart, or the same. */
#if defined(__GNUC__) && !defined(__clang__)
#define SIMD_IN_PLACE _Pragma("GCC ivdep")
#else
#define SIMD_IN_PLACE
#endif
#define SIMD_INLINE static inline __attribute__((always_inline))
/* A vector that is loaded once: gcc loads it again for each use otherwise, and loads may be what a loop waits for. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define SIMD_HOLD(v) __asm__("" : "+v"(v))
#else
#define SIMD_HOLD(v) ((void)(v))
#endif

/* Whether core/vector_levels.h has levels of x86-64. Fuzzers read files: they do without, and are built in half the time. */
#if defined(__x86_64__) && !defined(FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION)
#define SIMD_X86_LEVELS
#endif
/* Of the levels of core/vector_levels.h, best first: the first one that this processor has; it has all behind it too. */
int simd_best_level(void);
/* For the calling thread and those that it makes: numbers too small to be normal are read and written as 0. */
void simd_flush_denormals(void);

/* x = k ln 2 + r with |r| <= ln 2 / 2: gives 2^k, and e^r - 1 in *tail (Taylor to r^8, relative error below 1e-8 before rounding). x within
 * [-87.3, 88.3]; NaN stays NaN. */
SIMD_INLINE float simd_exp_parts(float x, float *tail)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, left in the low bits */
    float shifted = x * 1.44269504f + round, k = shifted - round, scale;
    float r = (x - k * 0.693359375f) + k * 2.12194440e-4f; /* ln 2 in two parts, the first exact in the product */
    uint32_t bits;

    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3f800000u;
    memcpy(&scale, &bits, sizeof scale);
    *tail = r * (1 + r * (1 / 2.0f + r * (1 / 6.0f + r * (1 / 24.0f + r * (1 / 120.0f + r * (1 / 720.0f + r * (1 / 5040.0f)))))));
    return scale;
}

/* e^x; below -87.3 the smallest normal numbers, above 88.3 2.2e38: always finite. */
SIMD_INLINE float simd_exp(float x)
{
    float tail, scale;

    x = x < -87.3f ? -87.3f : x;
    x = x > 88.3f ? 88.3f : x;
    scale = simd_exp_parts(x, &tail);
    return scale * (1 + tail); /* not scale + scale * tail: that product may be too small to be normal */
}

/* e^x - 1, accurate near 0 too. */
SIMD_INLINE float simd_expm1(float x)
{
    float tail, scale;

    x = x < -87.3f ? -87.3f : x;
    x = x > 88.3f ? 88.3f : x;
    scale = simd_exp_parts(x, &tail);
    return scale * tail + (scale - 1);
}

SIMD_INLINE float simd_tanh(float x)
{
    float a = fabsf(x), em;

    a = a > 20 ? 20 : a;
    em = simd_expm1(2 * a);
    return copysignf(em / (em + 2), x);
}

SIMD_INLINE float simd_sigmoid(float x)
{
    return 1 / (1 + simd_exp(-x));
}

/* log(1 + u) for u in [0, 1]: 2 artanh(u / (2 + u)) by its series. */
SIMD_INLINE float simd_log1p(float u)
{
    const float z = u / (2 + u), q = z * z;

    return 2 * z * (1 + q * (1 / 3.0f + q * (1 / 5.0f + q * (1 / 7.0f + q * (1 / 9.0f + q * (1 / 11.0f + q * (1 / 13.0f)))))));
}

/* Least-squares fits at Chebyshev points: erf(a)/a in a^2 on [0, 1], -ln erfc(a) on [1, 4]; errors below 1e-7. */
SIMD_INLINE float simd_erf(float x)
{
    float a = fabsf(x), u, near, far;

    a = a > 4 ? 4 : a;
    u = a < 1 ? a * a : 1;
    near = a * (1.12837911f + u * (-0.37612626f + u * (0.11283597f + u * (-0.02685433f + u * (0.00518931f + u * (-0.00080188554f +
           u * 7.8824975e-5f))))));
    far = 7.5696863e-4f + a * (1.1259259f + a * (0.63909334f + a * (0.10331898f + a * (-0.022621986f + a * (0.0034368676f +
          a * (-3.1757203e-4f + a * 1.3309390e-5f))))));
    far = 1 - simd_exp(-far);
    return copysignf(a < 1 ? near : far, x);
}

/* Sums in eight lanes of double. */
enum { SIMD_LANES = 8 };
SIMD_INLINE double simd_lanes(const double *lane)
{
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}
SIMD_INLINE double simd_sum(const float *x, int n)
{
    double lane[SIMD_LANES] = { 0 };
    int i = 0;

    for (; i + SIMD_LANES <= n; i += SIMD_LANES)
        for (int j = 0; j < SIMD_LANES; j++)
            lane[j] += (double)x[i + j];
    for (; i < n; i++)
        lane[i % SIMD_LANES] += (double)x[i];
    return simd_lanes(lane);
}
/* Sum of (x - cx) * (y - cy). */
SIMD_INLINE double simd_dot(const float *x, double cx, const float *y, double cy, int n)
{
    double lane[SIMD_LANES] = { 0 };
    int i = 0;

    for (; i + SIMD_LANES <= n; i += SIMD_LANES)
        for (int j = 0; j < SIMD_LANES; j++)
            lane[j] += ((double)x[i + j] - cx) * ((double)y[i + j] - cy);
    for (; i < n; i++)
        lane[i % SIMD_LANES] += ((double)x[i] - cx) * ((double)y[i] - cy);
    return simd_lanes(lane);
}

/* Sum of 64 lanes of float: for blocks so short (2048 numbers) that float is enough within them. */
enum { SIMD_WIDE = 64, SIMD_BLOCK = 2048 };
SIMD_INLINE double simd_wide_lanes(const float *lane)
{
    double sum[SIMD_LANES] = { 0 };

    for (int i = 0; i < SIMD_WIDE; i += SIMD_LANES)
        for (int j = 0; j < SIMD_LANES; j++)
            sum[j] += (double)lane[i + j];
    return simd_lanes(sum);
}

#endif
