/* core/vector_levels.h: vector code that stands once and is compiled for each level that a processor may have. A source that has such code says
 *
 *     #define LEVEL_CODE "core/sparse_level.h"
 *     #include "core/vector_levels.h"
 *
 * and has a table of what came out, best level first, in the order of this file; simd_best_level (core/simd.h) says where this processor's levels
 * begin. What the code may use stands in core/vector_level.h. */
#if defined(SIMD_X86_LEVELS)
#define LANES 16
#define LEVEL(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define LOW_HALVES(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH_HALVES(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#include "core/vector_level.h"

#define LANES 8
#define LEVEL(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LOW_HALVES(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH_HALVES(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#include "core/vector_level.h"
#endif

#define LANES 4
#define LEVEL(name) name##_portable
#define TARGET
#define LOW_HALVES(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define HIGH_HALVES(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#include "core/vector_level.h"

#undef LEVEL_CODE
