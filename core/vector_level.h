/* core/vector_level.h: one level of vector_levels.h. LEVEL_CODE has: LANES, the floats of a vector; LEVEL(name), a name of this level; TARGET, the
 * attribute that says what the compiler may use; VECTOR, LOAD and STORE (anywhere in memory); BITS, a vector's bits, for masks; LOW_HALVES and HIGH_HALVES,
 * of two vectors, interleaved; LEVEL(sums), LEVEL(put_sums), LEVEL(put_some_sums), LEVEL(transpose). */
typedef float LEVEL(vector) __attribute__((vector_size(LANES * sizeof(float))));
typedef float LEVEL(packed) __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias)); /* in memory */
typedef int32_t LEVEL(bits) __attribute__((vector_size(LANES * sizeof(float))));
#define VECTOR LEVEL(vector)
#define BITS LEVEL(bits)
#define LOAD(p) ((VECTOR)*(const LEVEL(packed) *)(p))
#define STORE(p) (*(LEVEL(packed) *)(p))

/* Sums of the LANES vectors in a, in their order. */
TARGET SIMD_INLINE VECTOR LEVEL(sums)(VECTOR *a)
{
    SIMD_UNROLL
    for (int half = LANES / 2; half > 0; half /= 2)
        SIMD_UNROLL
        for (int i = 0; i < half; i++)
            a[i] = LOW_HALVES(a[i], a[i + half]) + HIGH_HALVES(a[i], a[i + half]);
    return a[0];
}

/* to[0 .. LANES - 1] (+)= the sums of so many vectors. They go through registers: gcc would write each step of `sums` back to memory. */
TARGET SIMD_INLINE void LEVEL(put_sums)(float *to, const VECTOR *part, bool add)
{
    VECTOR a[LANES], sum;

    SIMD_UNROLL
    for (int i = 0; i < LANES; i++)
        a[i] = part[i];
    sum = LEVEL(sums)(a);
    STORE(to) = add ? LOAD(to) + sum : sum;
}

/* The same of n < LANES vectors; the rest of part is overwritten. */
TARGET SIMD_INLINE void LEVEL(put_some_sums)(float *to, VECTOR *part, int n, bool add)
{
    float some[LANES];

    for (int i = n; i < LANES; i++)
        part[i] = (VECTOR){ 0 };
    LEVEL(put_sums)(some, part, false);
    for (int i = 0; i < n; i++)
        to[i] = add ? to[i] + some[i] : some[i];
}

/* a[i][j] becomes a[j][i]: each step turns the bits of row and lane, taken together, by one place. */
TARGET SIMD_INLINE void LEVEL(transpose)(VECTOR *a)
{
    SIMD_UNROLL
    for (int step = 1; step < LANES; step *= 2) {
        VECTOR b[LANES];

        SIMD_UNROLL
        for (int i = 0; i < LANES / 2; i++) {
            b[2 * i] = LOW_HALVES(a[i], a[i + LANES / 2]);
            b[2 * i + 1] = HIGH_HALVES(a[i], a[i + LANES / 2]);
        }
        SIMD_UNROLL
        for (int i = 0; i < LANES; i++)
            a[i] = b[i];
    }
}

#include LEVEL_CODE

#undef VECTOR
#undef BITS
#undef LOAD
#undef STORE
#undef LANES
#undef LEVEL
#undef TARGET
#undef LOW_HALVES
#undef HIGH_HALVES
