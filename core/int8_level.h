/* core/int8_level.h: the integer product of a dense layer in vectors of LANES samples; compiled by int8_kernels.c for each level (core/int8_levels.h says
 * what it may use).
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

/* ---- floats ---- */

/* Vectors one after the other; the last one may overlap the one before it. Fewer numbers than one has go through a copy. */
TARGET SIMD_INLINE void LEVEL(words_at)(uint32_t *out, const float *const x[4], const float *inverse, const int32_t *zero, int j)
{
    const struct LEVEL(range) r = LEVEL(range_of)(inverse + j, zero + j);
    const INTS a = LEVEL(byte_of)(x[0] + j, &r), b = LEVEL(byte_of)(x[1] + j, &r), c = LEVEL(byte_of)(x[2] + j, &r), d = LEVEL(byte_of)(x[3] + j, &r);

    STORE_INTS(out + j) = ((a & 0xff) | (b & 0xff) << 8 | (c & 0xff) << 16 | d << 24) ^ r.zero;
}

TARGET static void LEVEL(words)(uint32_t *out, const float *const x[4], const float *inverse, const int32_t *zero, int n)
{
    for (int j = 0; j < n - LANES; j += LANES)
        LEVEL(words_at)(out, x, inverse, zero, j);
    if (n >= LANES) {
        LEVEL(words_at)(out, x, inverse, zero, n - LANES);
    } else {
        float some[4][LANES] = { { 0 } }, inv[LANES] = { 0 };
        const float *const in[4] = { some[0], some[1], some[2], some[3] };
        int32_t z[LANES] = { 0 };
        uint32_t to[LANES];

        for (int b = 0; b < 4; b++)
            memcpy(some[b], x[b], (size_t)n * sizeof(float));
        memcpy(inv, inverse, (size_t)n * sizeof *inv);
        memcpy(z, zero, (size_t)n * sizeof *z);
        LEVEL(words_at)(to, in, inv, z, 0);
        memcpy(out, to, (size_t)n * sizeof *out);
    }
}

TARGET SIMD_INLINE void LEVEL(bytes_at)(uint32_t *out, const float *x, const float *inverse, const int32_t *zero, int j)
{
    const struct LEVEL(range) r = LEVEL(range_of)(inverse + j, zero + j);

    STORE_INTS(out + j) = (LEVEL(byte_of)(x + j, &r) ^ r.zero) & 0xff;
}

TARGET static void LEVEL(bytes)(uint32_t *out, const float *x, const float *inverse, const int32_t *zero, int n)
{
    for (int j = 0; j < n - LANES; j += LANES)
        LEVEL(bytes_at)(out, x, inverse, zero, j);
    if (n >= LANES) {
        LEVEL(bytes_at)(out, x, inverse, zero, n - LANES);
    } else {
        float some[LANES] = { 0 }, inv[LANES] = { 0 };
        int32_t z[LANES] = { 0 };
        uint32_t to[LANES];

        memcpy(some, x, (size_t)n * sizeof *x);
        memcpy(inv, inverse, (size_t)n * sizeof *inv);
        memcpy(z, zero, (size_t)n * sizeof *z);
        LEVEL(bytes_at)(to, some, inv, z, 0);
        memcpy(out, to, (size_t)n * sizeof *out);
    }
}

TARGET static void LEVEL(join)(uint32_t *out, const uint32_t *const in[4], int n)
{
    int j = 0;

    for (; j + LANES <= n; j += LANES)
        STORE_INTS(out + j) = LOAD_INTS(in[0] + j) | LOAD_INTS(in[1] + j) << 8 | LOAD_INTS(in[2] + j) << 16 | LOAD_INTS(in[3] + j) << 24;
    for (; j < n; j++)
        out[j] = in[0][j] | in[1][j] << 8 | in[2][j] << 16 | in[3][j] << 24;
}

/* v vectors of samples from j on: the word of the place before loses its lowest byte and gets a new one. */
TARGET SIMD_INLINE void LEVEL(roll_at)(uint32_t *out, const struct int8_line *line, int j, const bool clamp, const int v)
{
    const struct int8_line l = *line; /* in registers, whatever out is */
    const float *x = l.x + j;
    struct LEVEL(range) r[4];
    LEVEL(bits) word[4];

    SIMD_UNROLL
    for (int k = 0; k < v; k++) {
        r[k] = LEVEL(range_of)(l.inverse + j + k * LANES, l.zero + j + k * LANES);
        word[k] = (LEVEL(bits)){ 0 };
    }
    out += j;
    for (int i = 0, wait = 3; i < l.columns; i++, wait = wait > 0 ? wait - 1 : l.every - 1) {
        const bool inside = i >= l.before && i < l.before + l.inside;

        SIMD_UNROLL
        for (int k = 0; k < v; k++) {
            word[k] >>= 8;
            if (inside)
                word[k] |= (LEVEL(bits))(clamp ? LEVEL(byte_of)(x + k * LANES, &r[k])
                                               : LEVEL(rounded)(LOAD_NUMBERS(x + k * LANES) * r[k].inverse)) << 24;
            if (wait == 0)
                STORE_INTS(out + k * LANES) = (INTS)word[k] ^ r[k].zero;
        }
        x += inside ? l.step : 0;
        out += wait == 0 ? l.samples : 0;
    }
}

/* The last vector may overlap the one before it. */
TARGET SIMD_INLINE void LEVEL(roll_all)(uint32_t *out, const struct int8_line *l, const bool clamp)
{
    int j = 0;

    for (; j + 4 * LANES <= l->samples; j += 4 * LANES)
        LEVEL(roll_at)(out, l, j, clamp, 4);
    for (; j + LANES <= l->samples; j += LANES)
        LEVEL(roll_at)(out, l, j, clamp, 1);
    if (j < l->samples)
        LEVEL(roll_at)(out, l, l->samples - LANES, clamp, 1);
}

TARGET static void LEVEL(roll)(uint32_t *out, const struct int8_line *l)
{
    if (l->clamp)
        LEVEL(roll_all)(out, l, true);
    else
        LEVEL(roll_all)(out, l, false);
}

TARGET SIMD_INLINE void LEVEL(scale_back_at)(float *y, const int32_t *sum, const float *s, const int32_t *zero, int j, const struct int8_row *row)
{
    STORE_NUMBERS(y + j) = LEVEL(scaled)(LEVEL(less_zero)(LOAD_INTS(sum + j), zero + j, row), LOAD_NUMBERS(s + j), row);
}

TARGET static void LEVEL(scale_back)(float *y, const int32_t *sum, const float *s, const int32_t *zero, int n, struct int8_row row)
{
    for (int j = 0; j < n - LANES; j += LANES)
        LEVEL(scale_back_at)(y, sum, s, zero, j, &row);
    if (n >= LANES) {
        LEVEL(scale_back_at)(y, sum, s, zero, n - LANES, &row);
    } else {
        float scale[LANES] = { 0 }, to[LANES];
        int32_t some[LANES] = { 0 }, z[LANES] = { 0 };

        memcpy(some, sum, (size_t)n * sizeof *sum);
        memcpy(scale, s, (size_t)n * sizeof *s);
        memcpy(z, zero, (size_t)n * sizeof *z);
        LEVEL(scale_back_at)(to, some, scale, z, 0, &row);
        memcpy(y, to, (size_t)n * sizeof *y);
    }
}
