/* core/sparse_single_level.h: the product of sparse_single.c; compiled for each level of vector code (core/vector_level.h) that can shuffle by a variable. */
#if LANES > 4

/* Lanes of the blocks a and b, as byte i of each pick says. */
#if LANES == 16
#define PICK(a, b, p, i) ((VECTOR)_mm512_permutex2var_ps(a, _mm512_srli_epi32((__m512i)(p), 8 * (i)), b))
#define GATHER(from, at) ((VECTOR)_mm512_i32gather_ps(_mm512_loadu_si512(at), from, sizeof(float)))
#else
#define SHIFTED(p, i) _mm256_srli_epi32((__m256i)(p), 8 * (i))
#define PICK(a, b, p, i) \
    ((VECTOR)_mm256_blendv_ps(_mm256_permutevar8x32_ps(a, SHIFTED(p, i)), _mm256_permutevar8x32_ps(b, SHIFTED(p, i)), \
                              _mm256_castsi256_ps(_mm256_slli_epi32((__m256i)(p), 28 - 8 * (i)))))
#define GATHER(from, at) \
    ((VECTOR){ (from)[(at)[0]], (from)[(at)[1]], (from)[(at)[2]], (from)[(at)[3]], (from)[(at)[4]], (from)[(at)[5]], (from)[(at)[6]], (from)[(at)[7]] })
#endif

/* Four sums in turn: none waits for the one before. The blocks of a four come in one load: loads are what bounds a step. */
TARGET SIMD_INLINE void LEVEL(slices)(const struct sparse_single *p, const float *x)
{
    VECTOR last = LOAD(x);

    for (int i = 0; i < p->n_slices; i++) {
        VECTOR a = { 0 }, b = a, c = a, d = a;

        for (size_t k = p->first[i]; k < p->first[i + 1]; k++) {
            const float *value = p->value + k * FOUR * LANES;
            const BITS pick = *(const BITS *)(const void *)(p->pick + k * FOUR * LANES);
            VECTOR block[FOUR];
            uint64_t at;

            memcpy(&at, p->block + k * FOUR, sizeof at);
            SIMD_UNROLL
            for (int j = 0; j < FOUR; j++)
                block[j] = LOAD(x + (uint16_t)(at >> 16 * j));
            a += PICK(last, block[0], pick, 0) * LOAD(value);
            b += PICK(block[0], block[1], pick, 1) * LOAD(value + LANES);
            c += PICK(block[1], block[2], pick, 2) * LOAD(value + 2 * LANES);
            d += PICK(block[2], block[3], pick, 3) * LOAD(value + 3 * LANES);
            last = block[3];
        }
        STORE(p->sum + i * LANES) = (a + b) + (c + d);
    }
}

/* False: a result is not finite. */
TARGET static bool LEVEL(run)(const struct sparse_single *p, const float *x, const float *bias, float *y)
{
    VECTOR none = { 0 }; /* what is finite, minus itself, is 0 */
    bool finite = true;

    LEVEL(slices)(p, x);
    for (int r = 0; r < p->rows; r += LANES) {
        const int at = r < p->rows - LANES ? r : p->rows - LANES;
        const VECTOR sum = GATHER(p->sum, p->place + at);
        const VECTOR out = bias ? sum + LOAD(bias + at) : sum;

        none += out - out;
        STORE(y + at) = out;
    }
    for (int i = 0; i < LANES; i++)
        finite = finite && none[i] == 0;
    return finite;
}
#undef PICK
#undef GATHER
#undef SHIFTED
#endif
