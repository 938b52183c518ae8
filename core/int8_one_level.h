/* core/int8_one_level.h: one level of int8_levels.h, with what every LEVEL_CODE needs: from floats to bytes, and from sums back to floats. Neither of the
 * two is ever contracted to a fused multiply-add, so that all levels give the same bytes. */
typedef float LEVEL(numbers) __attribute__((vector_size(4 * LANES)));
typedef float LEVEL(numbers_in_memory) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t LEVEL(ints) __attribute__((vector_size(4 * LANES)));
typedef uint32_t LEVEL(bits) __attribute__((vector_size(4 * LANES)));
typedef int32_t LEVEL(ints_in_memory) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define NUMBERS LEVEL(numbers)
#define INTS LEVEL(ints)
#define LOAD_NUMBERS(p) ((NUMBERS)*(const LEVEL(numbers_in_memory) *)(p))
#define LOAD_INTS(p) ((INTS)*(const LEVEL(ints_in_memory) *)(const void *)(p))
#define STORE_NUMBERS(p) (*(LEVEL(numbers_in_memory) *)(p))
#define STORE_INTS(p) (*(LEVEL(ints_in_memory) *)(void *)(p))

/* What numbers of samples with these scales become; a zero of 128 is put on by who makes words of them. */
struct LEVEL(range) { NUMBERS inverse, low, high; INTS zero; };

TARGET SIMD_INLINE struct LEVEL(range) LEVEL(range_of)(const float *inverse, const int32_t *zero)
{
    const INTS below = LOAD_INTS(zero) != 0;
    const NUMBERS none = { 0 };

    return (struct LEVEL(range)){ LOAD_NUMBERS(inverse), (NUMBERS)(below & (INTS)(none - 127)),
                                  (NUMBERS)((below & (INTS)(none + 127)) | (~below & (INTS)(none + 255))), below & (int32_t)0x80808080 };
}

/* The lowest byte of each is the integer: rounded to the nearest, ties to even. */
TARGET SIMD_INLINE INTS LEVEL(rounded)(NUMBERS x)
{
    return (INTS)(x + 12582912.0f); /* 1.5 * 2^23: the integer is left in the low bits */
}

TARGET SIMD_INLINE INTS LEVEL(byte_of)(const float *x, const struct LEVEL(range) *r)
{
    return LEVEL(rounded)(CLAMP(LOAD_NUMBERS(x) * r->inverse, r->low, r->high));
}

/* The sum less zero times the sum of weights. */
TARGET SIMD_INLINE INTS LEVEL(less_zero)(INTS sum, const int32_t *zero, const struct int8_row *row)
{
    return sum - ((INTS)(LOAD_INTS(zero) != 0) & (int32_t)(128 * (uint32_t)row->of_weights));
}

TARGET SIMD_INLINE NUMBERS LEVEL(scaled)(INTS sum, NUMBERS s, const struct int8_row *row)
{
    NUMBERS y = __builtin_convertvector(sum, NUMBERS) * (s * row->scale);

    y += row->bias;
    return row->clamp ? (NUMBERS)((INTS)y & ~(INTS)(y < 0)) : y;
}

#include LEVEL_CODE

#undef NUMBERS
#undef INTS
#undef LOAD_NUMBERS
#undef LOAD_INTS
#undef STORE_NUMBERS
#undef STORE_INTS
#undef CLAMP
#undef VECTOR
#undef WEIGHTS
#undef LOAD
#undef STORE
#undef ALL
#undef READY
#undef DOT
#undef GATHER
#undef LANES
#undef LEVEL
#undef TARGET
