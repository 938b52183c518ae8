/* core/winograd_level.h: Winograd's transforms and products in vectors of LANES floats; included by winograd.c once for each level of vector
 * code, with LANES, ROWS (outputs of a register block), LEVEL(name) (a name of this level) and TARGET (attribute: what the compiler may use) set.
 *
 * A cell is one tile times one vector of the batch. Transformed cells lie in blocks of BLOCK: [block][16][channel][BLOCK][LANES], and a vector
 * between two of the 16 so that they do not meet in the same lines of the cache. */
typedef float LEVEL(vector) __attribute__((vector_size(LANES * sizeof(float))));
typedef float LEVEL(packed) __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias)); /* in memory */
typedef int LEVEL(bits) __attribute__((vector_size(LANES * sizeof(int))));
#define VECTOR LEVEL(vector)
#define BITS LEVEL(bits)
#define LOAD(p) ((VECTOR)*(const LEVEL(packed) *)(p))
#define STORE(p) (*(LEVEL(packed) *)(p))
#define WIDTH (BLOCK * LANES)

/* The columns of a cell; those past the batch are 0. */
TARGET SIMD_INLINE VECTOR LEVEL(load)(const float *p, int n, const bool whole)
{
    float some[LANES] = { 0 };

    if (whole)
        return LOAD(p);
    memcpy(some, p, (size_t)n * sizeof *p);
    return LOAD(some);
}

TARGET SIMD_INLINE void LEVEL(store)(float *p, VECTOR v, int n, const bool whole)
{
    if (whole)
        STORE(p) = v;
    else
        memcpy(p, &v, (size_t)n * sizeof *p);
}

/* An input, or 0 where the mask is not positive. */
TARGET SIMD_INLINE VECTOR LEVEL(input)(const struct pass *p, ptrdiff_t at, int n, const bool whole, const bool masked)
{
    VECTOR v = LEVEL(load)(p->in + at, n, whole);

    if (masked) {
        VECTOR m = LEVEL(load)(p->mask + at, n, whole);

        v = (VECTOR)((BITS)v & (BITS)(m > (VECTOR){ 0 }));
    }
    return v;
}

/* Transforms n_c channels of a cell: v = B' d B. whole: nothing of the tile lies in the padding, nor past the batch. */
TARGET SIMD_INLINE void LEVEL(spread)(const struct pass *p, const struct cell *t, int first, int n_c, float *v, const bool whole,
                                      const bool masked)
{
    const ptrdiff_t col = p->n, row = p->w * col, plane = p->h * row;
    const size_t step = (size_t)(n_c * BLOCK + 1) * LANES;
    ptrdiff_t at = first * plane + t->y * row + t->x * col + t->at;

    for (int c = 0; c < n_c; c++, at += plane, v += WIDTH) {
        VECTOR r[4][4];

        UNROLL
        for (int i = 0; i < 4; i++) {
            VECTOR d[4] = { { 0 } };

            UNROLL
            for (int j = 0; j < 4; j++)
                if (whole || (t->rows >> i & t->cols >> j & 1))
                    d[j] = LEVEL(input)(p, at + i * row + j * col, t->n, whole, masked);
            r[i][0] = d[0] - d[2];
            r[i][1] = d[1] + d[2];
            r[i][2] = d[2] - d[1];
            r[i][3] = d[1] - d[3];
        }
        UNROLL
        for (int j = 0; j < 4; j++) {
            float *to = v + (size_t)j * step;

            STORE(to) = r[0][j] - r[2][j];
            STORE(to + 4 * step) = r[1][j] + r[2][j];
            STORE(to + 8 * step) = r[2][j] - r[1][j];
            STORE(to + 12 * step) = r[1][j] - r[3][j];
        }
    }
}

TARGET static void LEVEL(spread_cell)(const struct pass *p, const struct cell *t, int first, int n_c, float *v)
{
    const bool whole = t->rows == 15 && t->cols == 15 && t->n == LANES;

    if (whole && p->mask)
        LEVEL(spread)(p, t, first, n_c, v, true, true);
    else if (whole)
        LEVEL(spread)(p, t, first, n_c, v, true, false);
    else if (p->mask)
        LEVEL(spread)(p, t, first, n_c, v, false, true);
    else
        LEVEL(spread)(p, t, first, n_c, v, false, false);
}

/* m [16][ROWS][BLOCK] (+)= u [16][n_c][ROWS] times v, for q outputs and b cells of a block. */
TARGET SIMD_INLINE void LEVEL(multiply)(const float *u, const float *v, float *m, int n_c, const int q, const int b, bool add)
{
    for (int k = 0; k < 16; k++, m += ROWS * WIDTH, v += LANES) {
        VECTOR sum[ROWS][BLOCK];

        UNROLL
        for (int r = 0; r < q; r++)
            UNROLL
            for (int i = 0; i < b; i++)
                sum[r][i] = add ? LOAD(m + r * WIDTH + i * LANES) : (VECTOR){ 0 };
        for (int c = 0; c < n_c; c++, u += ROWS, v += WIDTH) {
            VECTOR x[BLOCK];

            UNROLL
            for (int i = 0; i < b; i++)
                x[i] = LOAD(v + i * LANES);
            UNROLL
            for (int r = 0; r < q; r++)
                UNROLL
                for (int i = 0; i < b; i++)
                    sum[r][i] += u[r] * x[i];
        }
        UNROLL
        for (int r = 0; r < q; r++)
            UNROLL
            for (int i = 0; i < b; i++)
                STORE(m + r * WIDTH + i * LANES) = sum[r][i];
    }
}

TARGET static void LEVEL(multiply_any)(const float *u, const float *v, float *m, int n_c, int q, int b, bool add)
{
#define CASE(rows) \
    case rows: \
        if (b == BLOCK) \
            LEVEL(multiply)(u, v, m, n_c, rows <= ROWS ? rows : ROWS, BLOCK, add); \
        else if (b == 2) \
            LEVEL(multiply)(u, v, m, n_c, rows <= ROWS ? rows : ROWS, 2, add); \
        else \
            LEVEL(multiply)(u, v, m, n_c, rows <= ROWS ? rows : ROWS, 1, add); \
        break;
    switch (q) {
        CASE(1) CASE(2) CASE(3) CASE(4)
#if ROWS > 4
        CASE(5) CASE(6) CASE(7) CASE(8)
#endif
    }
#undef CASE
}

/* q outputs of a cell from their products: y = A' m A + bias. whole: all of the tile is output, and all columns. */
TARGET SIMD_INLINE void LEVEL(gather)(const struct pass *p, const struct cell *t, int first, int q, const float *m, const bool whole)
{
    const ptrdiff_t col = p->n, row = p->ow * col, plane = p->oh * row;
    const int rows = p->oh - t->out_y, cols = p->ow - t->out_x;
    float *y = p->out + first * plane + t->out_y * row + t->out_x * col + t->at;
    const VECTOR zero = { 0 };

    for (int r = 0; r < q; r++, m += WIDTH, y += plane) {
        VECTOR s[2][4], bias = zero + (p->bias ? p->bias[first + r] : 0);

        UNROLL
        for (int j = 0; j < 4; j++) {
            VECTOR a[4];

            UNROLL
            for (int i = 0; i < 4; i++)
                a[i] = LOAD(m + (i * 4 + j) * ROWS * WIDTH);
            s[0][j] = a[0] + a[1] + a[2];
            s[1][j] = a[1] - a[2] - a[3];
        }
        UNROLL
        for (int i = 0; i < 2; i++) {
            VECTOR out[2] = { s[i][0] + s[i][1] + s[i][2] + bias, s[i][1] - s[i][2] - s[i][3] + bias };

            UNROLL
            for (int j = 0; j < 2; j++) {
                if (p->clamp)
                    out[j] = (VECTOR)((BITS)out[j] & ~(BITS)(out[j] <= zero));
                if (whole || (i < rows && j < cols))
                    LEVEL(store)(y + i * row + j * col, out[j], t->n, whole);
            }
        }
    }
}

TARGET static void LEVEL(gather_cell)(const struct pass *p, const struct cell *t, int first, int q, const float *m)
{
    if (t->out_y + 2 <= p->oh && t->out_x + 2 <= p->ow && t->n == LANES)
        LEVEL(gather)(p, t, first, q, m, true);
    else
        LEVEL(gather)(p, t, first, q, m, false);
}

TARGET static void LEVEL(spread_all)(const struct pass *p, const struct cell *cell, int n, int first, int n_c, float *v)
{
    const size_t of_block = 16 * (size_t)(n_c * BLOCK + 1) * LANES;

    for (int i = 0; i < n; i++)
        LEVEL(spread_cell)(p, &cell[i], first, n_c, v + (size_t)(i / BLOCK) * of_block + (size_t)(i % BLOCK) * LANES);
}

/* Some cells of some outputs. With more than one chunk of channels the products of all are kept and added to, else only those at hand. */
TARGET static void LEVEL(convolve)(const struct pass *p, const struct cell *cell, int n, int first, int last, float *v)
{
    const int blocks = (n + BLOCK - 1) / BLOCK;
    float *kept = v + (size_t)p->blocks * 16 * (size_t)(p->chunk * BLOCK + 1) * LANES;

    for (int from = 0; from < p->c; from += p->chunk) {
        const int n_c = p->c - from < p->chunk ? p->c - from : p->chunk;
        const bool end = from + n_c == p->c;
        float *m = kept;

        LEVEL(spread_all)(p, cell, n, from, n_c, v);
        for (int o = first; o < last; o += ROWS) {
            const float *u = p->u + ((size_t)o * (size_t)p->c + (size_t)from * ROWS) * 16;
            const int q = last - o < ROWS ? last - o : ROWS;

            for (int b = 0; b < blocks; b++) {
                const int in_block = n - b * BLOCK < BLOCK ? n - b * BLOCK : BLOCK;

                LEVEL(multiply_any)(u, v + (size_t)b * 16 * (size_t)(n_c * BLOCK + 1) * LANES, m, n_c, q, in_block, from > 0);
                for (int i = 0; end && i < in_block; i++)
                    LEVEL(gather_cell)(p, &cell[b * BLOCK + i], o, q, m + i * LANES);
                if (p->chunk < p->c)
                    m += 16 * ROWS * WIDTH;
            }
        }
    }
}

#undef VECTOR
#undef BITS
#undef LOAD
#undef STORE
#undef WIDTH
#undef LANES
#undef ROWS
#undef LEVEL
#undef TARGET
#undef LOW_HALVES
#undef HIGH_HALVES
