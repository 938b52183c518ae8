/* core/conv_int8_level.h: the integer micro-kernels of convolutions; compiled by conv_int8_kernels.c for each level (core/int8_levels.h says what it
 * may use). OUTPUTS by VECTORS sums stay in registers, twice as many vectors where outputs are few. */
#define OUTPUTS (LANES == 16 ? 8 : 4)
#define VECTORS (LANES == 16 ? 3 : 2)

/* Sums of output q, v vectors from word `at` of the run on. */
TARGET SIMD_INLINE void LEVEL(leave)(const struct conv_words *p, int q, int at, const VECTOR *sum, const int v)
{
    const struct int8_row row = p->row[q];

    SIMD_UNROLL
    for (int j = 0; j < v; j++) {
        const int n = at + j * LANES;

        if (p->out)
            STORE_NUMBERS(p->out + (size_t)q * p->stride + p->at[n / CONV_GRAIN] + n % CONV_GRAIN) =
                LEVEL(scaled)(p->zero ? LEVEL(less_zero)((INTS)sum[j], p->zero + n, &row) : (INTS)sum[j], LOAD_NUMBERS(p->s + n), &row);
        else
            STORE(p->sum + (size_t)q * p->stride + n, sum[j]);
    }
}

/* q outputs from `first` on by v vectors of the run from word `at` on. */
TARGET SIMD_INLINE void LEVEL(block)(const struct conv_words *p, int first, int at, const int q, const int v)
{
    const uint32_t *in = p->in + at, *tap = p->tap, *end = tap + p->n_words;
    const int32_t *w = p->w + first;
    VECTOR sum[OUTPUTS * VECTORS];

    SIMD_UNROLL
    for (int i = 0; i < q * v; i++)
        sum[i] = ALL(p->row[first + i / v].start);
    for (; tap < end; tap++, w += p->n_out) {
        const uint32_t *x = in + *tap;
        VECTOR a[2 * VECTORS];

        SIMD_UNROLL
        for (int j = 0; j < v; j++)
            a[j] = LOAD(x + j * LANES);
        SIMD_UNROLL
        for (int i = 0; i < q; i++) {
            const WEIGHTS word = READY(ALL(w[i]));

            SIMD_UNROLL
            for (int j = 0; j < v; j++)
                sum[i * v + j] = DOT(sum[i * v + j], a[j], word);
        }
    }
    SIMD_UNROLL
    for (int i = 0; i < q; i++)
        LEVEL(leave)(p, first + i, at, sum + i * v, v);
}

/* The run in pieces, none much shorter than the others. */
TARGET SIMD_INLINE void LEVEL(run)(const struct conv_words *p, int first, const int q)
{
    const int most = q * 2 <= OUTPUTS ? 2 * VECTORS : VECTORS;

    for (int at = 0; at < p->n;) {
        int left = (p->n - at) / LANES, v = left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;

        switch (v) {
        case 1: LEVEL(block)(p, first, at, q, 1); break;
        case 2: LEVEL(block)(p, first, at, q, 2); break;
        case 3: if (q * 2 <= OUTPUTS || VECTORS > 2) LEVEL(block)(p, first, at, q, 3); break;
        case 4: if (q * 2 <= OUTPUTS) LEVEL(block)(p, first, at, q, 4); break;
        case 5: if (q * 2 <= OUTPUTS && VECTORS > 2) LEVEL(block)(p, first, at, q, 5); break;
        case 6: if (q * 2 <= OUTPUTS && VECTORS > 2) LEVEL(block)(p, first, at, q, 6); break;
        }
        at += v * LANES;
    }
}

TARGET static void LEVEL(blocks)(const struct conv_words *p)
{
    for (int first = 0, n; first < p->n_out; first += n) {
        n = p->n_out - first < OUTPUTS ? p->n_out - first : OUTPUTS;
        switch (n) {
        case 1: LEVEL(run)(p, first, 1); break;
        case 2: LEVEL(run)(p, first, 2); break;
        case 3: LEVEL(run)(p, first, 3); break;
        case 4: LEVEL(run)(p, first, 4); break;
#if LANES == 16
        case 5: LEVEL(run)(p, first, 5); break;
        case 6: LEVEL(run)(p, first, 6); break;
        case 7: LEVEL(run)(p, first, 7); break;
        case 8: LEVEL(run)(p, first, 8); break;
#endif
        }
    }
}

TARGET SIMD_INLINE void LEVEL(line_piece)(const struct conv_words *p, int at, const int v)
{
    VECTOR sum[8];

    SIMD_UNROLL
    for (int j = 0; j < v; j++)
        sum[j] = ALL(p->row->start);
    for (uint32_t i = p->start; i < p->end; i++) {
        const uint32_t *x = p->in + p->tap[p->across[i]] + at;
        const WEIGHTS word = READY(ALL(p->w[i]));

        SIMD_UNROLL
        for (int j = 0; j < v; j++)
            sum[j] = DOT(sum[j], LOAD(x + j * LANES), word);
    }
    LEVEL(leave)(p, 0, at, sum, v);
}

TARGET static void LEVEL(line)(const struct conv_words *p)
{
    int at = 0;

    for (; at + 8 * LANES <= p->n; at += 8 * LANES)
        LEVEL(line_piece)(p, at, 8);
    for (; at + 2 * LANES <= p->n; at += 2 * LANES)
        LEVEL(line_piece)(p, at, 2);
    for (; at < p->n; at += LANES)
        LEVEL(line_piece)(p, at, 1);
}

#undef OUTPUTS
#undef VECTORS
