/* core/int8_level.h: the integer product in vectors of LANES samples; included by int8_kernels.c once for each level of vector code, with LANES,
 * LEVEL(name), TARGET, and the vector's operations: VECTOR, WEIGHTS (a vector of words of weights, made ready), LOAD, STORE, ALL (one word in every lane),
 * READY, DOT (adds the four products of each lane) and GATHER.
 *
 * A whole kernel runs in blocks of ROWS rows by four vectors of samples, whose sums stay in registers; a sparse one row by row, its sums in registers
 * while its words pass. A single sample has no neighbours: there the lanes are words. */

/* Sums of rows row .. row+m-1 for the samples at .. at + q * LANES - 1. */
TARGET SIMD_INLINE void LEVEL(block)(const struct product *p, int row, const int m, int at, const int q)
{
    const int32_t *w = p->k->word + (size_t)row * (size_t)p->k->words;
    const uint32_t *x = p->k->x + at;
    VECTOR sum[ROWS * 4];

    SIMD_UNROLL
    for (int i = 0; i < m * q; i++)
        sum[i] = ALL(0);
    for (int i = 0; i < p->k->words; i++, x += p->ld) {
        VECTOR in[4];

        SIMD_UNROLL
        for (int j = 0; j < q; j++)
            in[j] = LOAD(x + j * LANES);
        SIMD_UNROLL
        for (int r = 0; r < m; r++) {
            const WEIGHTS word = READY(ALL(w[(size_t)r * (size_t)p->k->words + (size_t)i]));

            SIMD_UNROLL
            for (int j = 0; j < q; j++)
                sum[r * q + j] = DOT(sum[r * q + j], in[j], word);
        }
    }
    SIMD_UNROLL
    for (int r = 0; r < m; r++)
        SIMD_UNROLL
        for (int j = 0; j < q; j++)
            STORE(p->sum[r] + at + j * LANES, sum[r * q + j]);
}

TARGET SIMD_INLINE void LEVEL(blocks)(const struct product *p, int row, const int m)
{
    int at = 0;

    for (; at + 4 * LANES <= p->ld; at += 4 * LANES)
        LEVEL(block)(p, row, m, at, 4);
    for (; at < p->ld; at += LANES)
        LEVEL(block)(p, row, m, at, 1);
}

TARGET SIMD_INLINE void LEVEL(line)(const struct product *p, int row, int at, const int q)
{
    const uint32_t *across = p->k->across;
    const uint32_t end = p->k->start[row + 1];
    VECTOR sum[8];

    SIMD_UNROLL
    for (int j = 0; j < q; j++)
        sum[j] = ALL(0);
    for (uint32_t i = p->k->start[row]; i < end; i++) {
        const uint32_t *x = p->k->x + (size_t)across[i] * (size_t)p->ld + at;
        const WEIGHTS word = READY(ALL(p->k->word[i]));

        SIMD_UNROLL
        for (int j = 0; j < q; j++)
            sum[j] = DOT(sum[j], LOAD(x + j * LANES), word);
    }
    SIMD_UNROLL
    for (int j = 0; j < q; j++)
        STORE(p->sum[0] + at + j * LANES, sum[j]);
}

TARGET SIMD_INLINE void LEVEL(lines)(const struct product *p, int row)
{
    int at = 0;

    for (; at + 8 * LANES <= p->ld; at += 8 * LANES)
        LEVEL(line)(p, row, at, 8);
    for (; at + 2 * LANES <= p->ld; at += 2 * LANES)
        LEVEL(line)(p, row, at, 2);
    for (; at < p->ld; at += LANES)
        LEVEL(line)(p, row, at, 1);
}

/* One sample. */
TARGET SIMD_INLINE int32_t LEVEL(dot)(const struct int8 *k, int row)
{
    uint32_t i = k->start[row];
    const uint32_t first = i, end = k->start[row + 1];
    VECTOR sum = ALL(0);
    int32_t lane[LANES], all = 0;

    for (; i + LANES <= end; i += LANES)
        sum = DOT(sum, k->whole ? LOAD(k->x + (i - first)) : GATHER(k->x, k->across + i), READY(LOAD(k->word + i)));
    STORE(lane, sum);
    for (int j = 0; j < LANES; j++)
        all += lane[j];
    for (; i < end; i++)
        all += dot_word(k->x[k->whole ? i - first : k->across[i]], k->word[i]);
    return all;
}

/* Sums of up to ROWS rows; returns how many. */
TARGET static int LEVEL(sums)(const struct product *p, int row, int last)
{
    if (p->ld == 1) {
        *p->sum[0] = LEVEL(dot)(p->k, row);
        return 1;
    }
    if (p->k->whole && last - row >= ROWS) {
        LEVEL(blocks)(p, row, ROWS);
        return ROWS;
    }
    if (p->k->whole)
        LEVEL(blocks)(p, row, 1);
    else
        LEVEL(lines)(p, row);
    return 1;
}

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
