/* core/int8_levels.h: integer vector code that stands once and is compiled for each level that a processor may have, as core/vector_levels.h has it for
 * floats. A source that has such code says
 *
 *     #define LEVEL_CODE "core/int8_level.h"
 *     #include "core/int8_levels.h"
 *
 * and has a table of what came out, best level first, in the order of this file; int8_level (core/int8_kernels.h) is the one to take.
 *
 * LEVEL_CODE has: LANES, LEVEL(name), TARGET; VECTOR, a word in each lane; WEIGHTS, a vector of words of weights, made ready by READY; LOAD, STORE, ALL (one
 * word in every lane), DOT (adds the four products of each lane), GATHER and CLAMP (numbers, to low and high; NaN stays); and what core/int8_one_level.h
 * has. AVX2 has no exact product of bytes (vpmaddubsw saturates): it widens them to 16 bits, even and odd ones apart. */
#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 16
#define LEVEL(name) name##_vnni
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define VECTOR __m512i
#define WEIGHTS __m512i
#define LOAD(p) _mm512_loadu_si512(p)
#define STORE(p, v) _mm512_storeu_si512(p, v)
#define ALL(w) _mm512_set1_epi32(w)
#define READY(v) (v)
#define DOT(sum, x, w) _mm512_dpbusd_epi32(sum, x, w)
#define GATHER(x, at) _mm512_i32gather_epi32(_mm512_loadu_si512(at), x, 4)
#define CLAMP(v, low, high) ((NUMBERS)_mm512_min_ps((__m512)(high), _mm512_max_ps((__m512)(low), (__m512)(v))))
#include "core/int8_one_level.h"

struct pairs { __m256i even, odd; };
#define LANES 8
#define LEVEL(name) name##_avx2
#define TARGET __attribute__((target("avx2")))
#define VECTOR __m256i
#define WEIGHTS struct pairs
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define ALL(w) _mm256_set1_epi32(w)
#define READY(v) ready_avx2(v)
#define DOT(sum, x, w) add4_avx2(sum, x, w)
#define GATHER(x, at) _mm256_i32gather_epi32((const int *)(const void *)(x), LOAD(at), 4)
#define CLAMP(v, low, high) ((NUMBERS)_mm256_min_ps((__m256)(high), _mm256_max_ps((__m256)(low), (__m256)(v))))
TARGET SIMD_INLINE struct pairs ready_avx2(__m256i w)
{
    return (struct pairs){ _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(w, 8) };
}
TARGET SIMD_INLINE __m256i add4_avx2(__m256i sum, __m256i x, struct pairs w)
{
    __m256i even = _mm256_and_si256(x, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(x, 8);

    return _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(even, w.even), _mm256_madd_epi16(odd, w.odd)));
}
#include "core/int8_one_level.h"
#endif

typedef int32_t lanes4 __attribute__((vector_size(16)));
typedef int32_t packed4 __attribute__((vector_size(16), aligned(4), may_alias)); /* in memory */
struct bytes4 { lanes4 b[4]; };
#define LANES 4
#define LEVEL(name) name##_portable
#define TARGET
#define VECTOR lanes4
#define WEIGHTS struct bytes4
#define LOAD(p) ((lanes4)*(const packed4 *)(const void *)(p))
#define STORE(p, v) (*(packed4 *)(void *)(p) = (v))
#define ALL(w) ((lanes4){ 0 } + (w))
#define READY(v) ready_portable(v)
#define DOT(sum, x, w) add4_portable(sum, x, w)
#define GATHER(x, at) ((lanes4){ (int32_t)(x)[(at)[0]], (int32_t)(x)[(at)[1]], (int32_t)(x)[(at)[2]], (int32_t)(x)[(at)[3]] })
#define CLAMP(v, low, high) clamp_portable(v, low, high)
typedef float floats4 __attribute__((vector_size(16)));
SIMD_INLINE floats4 clamp_portable(floats4 v, floats4 low, floats4 high)
{
    for (int i = 0; i < 4; i++) {
        v[i] = v[i] < low[i] ? low[i] : v[i];
        v[i] = v[i] > high[i] ? high[i] : v[i];
    }
    return v;
}
SIMD_INLINE struct bytes4 ready_portable(lanes4 w)
{
    typedef uint32_t bits4 __attribute__((vector_size(16)));
    const bits4 u = (bits4)w;

    return (struct bytes4){ { (lanes4)(u << 24) >> 24, (lanes4)(u << 16) >> 24, (lanes4)(u << 8) >> 24, w >> 24 } };
}
SIMD_INLINE lanes4 add4_portable(lanes4 sum, lanes4 x, struct bytes4 w)
{
    return sum + (x & 255) * w.b[0] + (x >> 8 & 255) * w.b[1] + (x >> 16 & 255) * w.b[2] + (x >> 24 & 255) * w.b[3];
}
#include "core/int8_one_level.h"

#undef LEVEL_CODE
