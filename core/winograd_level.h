/* core/winograd_level.h: Winograd's transforms and products; compiled by winograd.c for each level (core/vector_level.h says what it may use). CHANNELS:
 * of the weight gradient's register blocks, at most.
 *
 * A cell is one tile times one vector of the batch. Transformed cells lie in blocks: [block][16][channel][cell][LANES], and a vector between two of the
 * 16 so that they do not meet in the same lines of the cache. */
#define MOST_ROWS (LANES == 16 ? 14 : 6)
#define ROWS_OF_3 (LANES == 16 ? 9 : 4)
#define CHANNELS (LANES == 16 ? 16 : 12)

/* The columns of a cell; those past the batch are 0. */
TARGET SIMD_INLINE VECTOR LEVEL(load)(const float *p, int n, const bool whole)
{
    float some[LANES] = { 0 };

    if (whole)
        return LOAD(p);
    memcpy(some, p, (size_t)n * sizeof *p);
    return LOAD(some);
}

/* Columns from .. to-1 of a cell. */
TARGET SIMD_INLINE void LEVEL(store)(float *p, VECTOR v, int from, int to, const bool whole)
{
    float some[LANES];

    if (whole) {
        STORE(p) = v;
        return;
    }
    STORE(some) = v;
    SIMD_UNROLL
    for (int half = LANES; half > 0; half /= 2)
        if ((to - from) & half) {
            memcpy(p + from, some + from, (size_t)half * sizeof *p);
            from += half;
        }
}

/* An input, or 0 where the mask is not positive. */
TARGET SIMD_INLINE VECTOR LEVEL(input)(const float *in, const float *mask, ptrdiff_t at, int n, const bool whole, const bool masked)
{
    VECTOR v = LEVEL(load)(in + at, n, whole);

    if (masked) {
        VECTOR m = LEVEL(load)(mask + at, n, whole);

        v = (VECTOR)((BITS)v & (BITS)(m > (VECTOR){ 0 }));
    }
    return v;
}

/* Transforms one channel of a cell, v = B' d B; the 16 results lie step apart. inside: nothing of the tile lies in the padding; whole: the batch
 * has a whole vector. */
TARGET SIMD_INLINE void LEVEL(spread)(const struct pass *p, const struct cell *t, ptrdiff_t at, float *v, size_t step, const bool inside,
                                      const bool whole, const bool masked)
{
    const ptrdiff_t col = p->n, row = p->w * col;
    VECTOR r[4][4];

    SIMD_UNROLL
    for (int i = 0; i < 4; i++) {
        VECTOR d[4] = { { 0 } };

        SIMD_UNROLL
        for (int j = 0; j < 4; j++)
            if (inside || (t->rows >> i & t->cols >> j & 1))
                d[j] = LEVEL(input)(p->in, p->mask, at + i * row + j * col, t->to, whole, masked);
        r[i][0] = d[0] - d[2];
        r[i][1] = d[1] + d[2];
        r[i][2] = d[2] - d[1];
        r[i][3] = d[1] - d[3];
    }
    SIMD_UNROLL
    for (int j = 0; j < 4; j++, v += step) {
        STORE(v) = r[0][j] - r[2][j];
        STORE(v + 4 * step) = r[1][j] + r[2][j];
        STORE(v + 8 * step) = r[2][j] - r[1][j];
        STORE(v + 12 * step) = r[1][j] - r[3][j];
    }
}

/* Two columns of some rows of an image, into the cache: in a training step they were last touched a step ago, and forward is a fifth faster for it. Where the
 * arrays of a benchmark stay near, it costs 2 %. */
TARGET SIMD_INLINE void LEVEL(fetch)(const float *image, ptrdiff_t at, ptrdiff_t row, ptrdiff_t col, unsigned rows, unsigned cols)
{
    for (; rows; rows >>= 1, at += row) {
        if (rows & cols & 1)
            __builtin_prefetch(image + at);
        if (rows & 1 && cols & 2)
            __builtin_prefetch(image + at + col);
    }
}

/* Channel after channel of n cells, so that neighbours in memory are read one after the other. v [n / block][16][n_c][block], and a vector
 * between two of the 16. */
TARGET SIMD_INLINE void LEVEL(spread_cells)(const struct pass *p, const struct cell *cell, int n, int first, int n_c, float *v, int block,
                                            const bool masked)
{
    const ptrdiff_t col = p->n, row = p->w * col, plane = p->h * row;
    const size_t width = (size_t)block * LANES, step = (size_t)n_c * width + LANES;

    for (int c = 0; c < n_c; c++, v += width) {
        float *to = v;

        for (int i = 0, in_block = 0; i < n; i++) {
            const struct cell *t = &cell[i];
            const ptrdiff_t at = (first + c) * plane + t->in;

            if (c + 1 < n_c) {
                LEVEL(fetch)(p->in, at + plane + 2 * col, row, col, t->rows, t->cols >> 2);
                if (masked)
                    LEVEL(fetch)(p->mask, at + plane + 2 * col, row, col, t->rows, t->cols >> 2);
            }
            if (t->to < LANES)
                LEVEL(spread)(p, t, at, to, step, false, false, masked);
            else if (t->rows == 15 && t->cols == 15)
                LEVEL(spread)(p, t, at, to, step, true, true, masked);
            else
                LEVEL(spread)(p, t, at, to, step, false, true, masked);
            to += LANES;
            if (++in_block == block) {
                in_block = 0;
                to += 16 * step - width;
            }
        }
    }
}

/* m [16][rows][block] (+)= u [16][n_c][rows] times v [16][n_c][block], for q outputs and b cells. */
TARGET SIMD_INLINE void LEVEL(multiply)(const struct pass *p, const float *u, const float *v, float *m, int n_c, bool add, const int q, const int b)
{
    const size_t rows = (size_t)p->rows, width = (size_t)p->block * LANES;

    for (int k = 0; k < 16; k++, m += rows * width, v += LANES) {
        VECTOR sum[MOST_ROWS * 2];

        SIMD_UNROLL
        for (int r = 0; r < q; r++)
            SIMD_UNROLL
            for (int i = 0; i < b; i++)
                sum[r * b + i] = add ? LOAD(m + (size_t)r * width + i * LANES) : (VECTOR){ 0 };
        for (int c = 0; c < n_c; c++, u += rows, v += width) {
            VECTOR x[BLOCK];

            SIMD_UNROLL
            for (int i = 0; i < b; i++)
                x[i] = LOAD(v + i * LANES);
            SIMD_UNROLL
            for (int r = 0; r < q; r++)
                SIMD_UNROLL
                for (int i = 0; i < b; i++)
                    sum[r * b + i] += u[r] * x[i];
        }
        SIMD_UNROLL
        for (int r = 0; r < q; r++)
            SIMD_UNROLL
            for (int i = 0; i < b; i++)
                STORE(m + (size_t)r * width + i * LANES) = sum[r * b + i];
    }
}

TARGET static void LEVEL(multiply_any)(const struct pass *p, const float *u, const float *v, float *m, int n_c, bool add, int q, int b)
{
#define CASE(outputs) \
    case outputs: \
        if (b == BLOCK) \
            LEVEL(multiply)(p, u, v, m, n_c, add, outputs <= ROWS_OF_3 ? outputs : 1, BLOCK); \
        else if (b == 2) \
            LEVEL(multiply)(p, u, v, m, n_c, add, outputs, 2); \
        else \
            LEVEL(multiply)(p, u, v, m, n_c, add, outputs, 1); \
        break;
    switch (q) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if LANES == 16
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
    }
#undef CASE
}

/* q outputs of a cell from their products: y = A' m A, and what is behind. whole: all of the tile is output, and all columns. */
TARGET SIMD_INLINE void LEVEL(gather)(const struct pass *p, const struct cell *t, int first, int q, const float *m, const bool whole)
{
    const ptrdiff_t col = p->n, row = p->ow * col, plane = p->oh * row;
    const int rows = p->oh - t->out_y, cols = p->ow - t->out_x;
    const size_t width = (size_t)p->block * LANES, step = (size_t)p->rows * width;
    float *y = p->out + first * plane + t->out_y * row + t->out_x * col + t->at;
    const VECTOR zero = { 0 };

    for (int r = 0; r < q; r++, m += width, y += plane) {
        VECTOR s[2][4], bias = zero + (p->behind.bias ? p->behind.bias[first + r] : 0);

        SIMD_UNROLL
        for (int j = 0; j < 4; j++) {
            VECTOR a[4];

            SIMD_UNROLL
            for (int i = 0; i < 4; i++)
                a[i] = LOAD(m + (size_t)(i * 4 + j) * step);
            s[0][j] = a[0] + a[1] + a[2];
            s[1][j] = a[1] - a[2] - a[3];
        }
        SIMD_UNROLL
        for (int i = 0; i < 2; i++) {
            VECTOR out[2] = { s[i][0] + s[i][1] + s[i][2] + bias, s[i][1] - s[i][2] - s[i][3] + bias };

            SIMD_UNROLL
            for (int j = 0; j < 2; j++) {
                if (p->behind.more && (whole || (i < rows && j < cols)))
                    out[j] += LEVEL(load)(p->behind.more + (y - p->out) + i * row + j * col, t->to, whole);
                if (p->behind.clamp)
                    out[j] = (VECTOR)((BITS)out[j] & ~(BITS)(out[j] <= zero));
                if (whole || (i < rows && j < cols))
                    LEVEL(store)(y + i * row + j * col, out[j], t->from, t->to, whole);
            }
        }
    }
}

TARGET static void LEVEL(gather_cell)(const struct pass *p, const struct cell *t, int first, int q, const float *m)
{
    if (t->out_y + 2 <= p->oh && t->out_x + 2 <= p->ow && t->from == 0 && t->to == LANES)
        LEVEL(gather)(p, t, first, q, m, true);
    else
        LEVEL(gather)(p, t, first, q, m, false);
}

/* q outputs of a cell, before they are wanted. */
TARGET SIMD_INLINE void LEVEL(fetch_outputs)(const struct pass *p, const struct cell *t, const float *y, int first, int q)
{
    const ptrdiff_t col = p->n, row = p->ow * col, plane = p->oh * row;
    ptrdiff_t at = first * plane + t->out_y * row + t->out_x * col + t->at;

    for (int r = 0; r < q; r++, at += plane)
        LEVEL(fetch)(y, at, row, col, t->out_y + 1 < p->oh ? 3 : 1, t->out_x + 1 < p->ow ? 3 : 1);
}

/* Some cells of some outputs. With more than one chunk of channels the products of all are kept and added to, else only those at hand. */
TARGET static void LEVEL(convolve)(const struct pass *p, const struct cell *cell, int n, int first, int last, float *v)
{
    const int block = p->block, blocks = (n + block - 1) / block;
    float *kept = v + (size_t)p->blocks * 16 * (size_t)(p->chunk * block + 1) * LANES;

    for (int from = 0; from < p->c; from += p->chunk) {
        const int n_c = p->c - from < p->chunk ? p->c - from : p->chunk;
        const bool end = from + n_c == p->c;
        float *m = kept;

        if (p->mask)
            LEVEL(spread_cells)(p, cell, n, from, n_c, v, block, true);
        else
            LEVEL(spread_cells)(p, cell, n, from, n_c, v, block, false);
        for (int o = first; o < last; o += p->rows) {
            const float *u = p->u + ((size_t)o * (size_t)p->c + (size_t)(from * p->rows)) * 16;
            const int q = last - o < p->rows ? last - o : p->rows;

            for (int b = 0; b < blocks; b++) {
                const int in_block = n - b * block < block ? n - b * block : block;

                for (int i = 0; end && i < in_block; i++)
                    LEVEL(fetch_outputs)(p, &cell[b * block + i], p->out, o, q);
                LEVEL(multiply_any)(p, u, v + (size_t)b * 16 * (size_t)(n_c * block + 1) * LANES, m, n_c, from > 0, q, in_block);
                for (int i = 0; end && i < in_block; i++)
                    LEVEL(gather_cell)(p, &cell[b * block + i], o, q, m + i * LANES);
                if (p->chunk < p->c)
                    m += 16 * p->rows * block * LANES;
            }
        }
    }
}

/* ---- weight gradient ---- */

/* Those of LANES outputs of dy at one place of a cell that its columns are. */
TARGET SIMD_INLINE VECTOR LEVEL(columns)(const struct gradient *g, const struct cell *t, ptrdiff_t at, const bool masked)
{
    BITS shown;

    if (t->to < LANES)
        return LEVEL(input)(g->dy, g->gate, at, t->to, false, masked);
    memcpy(&shown, own_columns + MOST_LANES - t->from, sizeof shown);
    return (VECTOR)((BITS)LEVEL(input)(g->dy, g->gate, at, t->to, true, masked) & shown);
}

/* LANES outputs of dy at one place of a cell, [column][output]; those past the last of n_o are any. whole: all columns are there. */
TARGET SIMD_INLINE void LEVEL(turn)(const struct gradient *g, const struct cell *t, ptrdiff_t at, ptrdiff_t plane, int n_o, VECTOR *y,
                                    const bool whole, const bool masked)
{
    VECTOR a[LANES];

    SIMD_UNROLL
    for (int r = 0; r < LANES; r++, at += r < n_o ? plane : 0)
        if (whole)
            a[r] = LEVEL(input)(g->dy, g->gate, at, LANES, true, masked);
        else
            a[r] = LEVEL(columns)(g, t, at, masked);
    LEVEL(transpose)(a);
    SIMD_UNROLL
    for (int r = 0; r < LANES; r++)
        y[r] = a[r];
}

/* d = A dy A' of a cell and one column of the batch; the 16 vectors of outputs lie step apart. */
TARGET SIMD_INLINE void LEVEL(spread_outputs)(VECTOR a, VECTOR b, VECTOR c, VECTOR e, float *d, size_t step)
{
    const VECTOR left[4] = { a, a + c, a - c, -c }, right[4] = { b, b + e, b - e, -e };

    SIMD_UNROLL
    for (int i = 0; i < 4; i++, d += 4 * step) {
        STORE(d) = left[i];
        STORE(d + step) = left[i] + right[i];
        STORE(d + 2 * step) = left[i] - right[i];
        STORE(d + 3 * step) = -right[i];
    }
}

/* n_o outputs of a cell: d [16][LANES columns][g->ld], and a vector between two of the 16. db (may be NULL) += their sums. */
TARGET SIMD_INLINE void LEVEL(spread_dy)(const struct gradient *g, const struct cell *t, int first, int n_o, float *d, float *db,
                                         const bool whole, const bool masked)
{
    const ptrdiff_t col = g->pass.n, row = g->pass.ow * col, plane = g->pass.oh * row;
    const int rows = g->pass.oh - t->out_y, cols = g->pass.ow - t->out_x;
    const size_t ld = (size_t)g->ld, step = LANES * (ld + 1);
    ptrdiff_t at = first * plane + t->out_y * row + t->out_x * col + t->at;

    for (int o = 0; o < n_o; o += LANES, at += LANES * plane, d += LANES) {
        VECTOR y[4][LANES], sum = { 0 };

        for (int k = 0; k < 4; k++)
            if (whole || (k / 2 < rows && k % 2 < cols))
                LEVEL(turn)(g, t, at + k / 2 * row + k % 2 * col, plane, n_o - o, y[k], whole, masked);
            else
                memset(y[k], 0, sizeof y[k]);
        for (int j = 0; j < LANES; j++) {
            LEVEL(spread_outputs)(y[0][j], y[1][j], y[2][j], y[3][j], d + (size_t)j * ld, step);
            sum += (y[0][j] + y[1][j]) + (y[2][j] + y[3][j]);
        }
        if (db)
            STORE(db + o) = LOAD(db + o) + sum;
    }
}

TARGET static void LEVEL(spread_dy_cell)(const struct gradient *g, const struct cell *t, int first, int n_o, float *d, float *db)
{
    const bool whole = t->out_y + 2 <= g->pass.oh && t->out_x + 2 <= g->pass.ow && t->from == 0 && t->to == LANES;

    if (whole && g->gate)
        LEVEL(spread_dy)(g, t, first, n_o, d, db, true, true);
    else if (whole)
        LEVEL(spread_dy)(g, t, first, n_o, d, db, true, false);
    else if (g->gate)
        LEVEL(spread_dy)(g, t, first, n_o, d, db, false, true);
    else
        LEVEL(spread_dy)(g, t, first, n_o, d, db, false, false);
}

/* u [channel][g->ld] (+)= v [cell][channel][column] times d [cell][column][g->ld], for q channels and b vectors of outputs. */
TARGET SIMD_INLINE void LEVEL(outer)(const float *v, size_t v_step, const float *d, size_t d_step, size_t ld, int cells, float *u, bool add,
                                     const int q, const int b)
{
    VECTOR sum[CHANNELS][4];

    SIMD_UNROLL
    for (int r = 0; r < q; r++)
        SIMD_UNROLL
        for (int i = 0; i < b; i++)
            sum[r][i] = add ? LOAD(u + (size_t)r * ld + i * LANES) : (VECTOR){ 0 };
    for (int k = 0; k < cells; k++, v += v_step, d += d_step) {
        const float *y = d;

        for (int j = 0; j < LANES; j++, y += ld) {
            VECTOR x[4];

            SIMD_UNROLL
            for (int i = 0; i < b; i++)
                x[i] = LOAD(y + i * LANES);
            SIMD_UNROLL
            for (int r = 0; r < q; r++)
                SIMD_UNROLL
                for (int i = 0; i < b; i++)
                    sum[r][i] += v[r * LANES + j] * x[i];
        }
    }
    SIMD_UNROLL
    for (int r = 0; r < q; r++)
        SIMD_UNROLL
        for (int i = 0; i < b; i++)
            STORE(u + (size_t)r * ld + i * LANES) = sum[r][i];
}

/* b vectors of outputs, all channels: in register blocks of at most `most` channels, as equal as can be. */
TARGET SIMD_INLINE void LEVEL(outer_column)(const float *v, size_t v_step, const float *d, size_t d_step, size_t ld, int cells, float *u, bool add,
                                            int n_c, const int most, const int b)
{
#define CASE(channels) \
    case channels: \
        if (channels <= most) \
            LEVEL(outer)(v, v_step, d, d_step, ld, cells, u, add, channels <= most ? channels : most, b); \
        break;
    for (int left = (n_c + most - 1) / most; left > 0; left--) {
        const int q = n_c / left;

        switch (q) {
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14) CASE(15) CASE(16)
        }
        v += q * LANES;
        u += (size_t)q * ld;
        n_c -= q;
    }
#undef CASE
}

TARGET static void LEVEL(outer_all)(const struct gradient *g, const float *v, const float *d, float *u, int cells, int n_c, int n_o, bool add)
{
    const size_t ld = (size_t)g->ld, v_part = (size_t)(n_c + 1) * LANES, d_part = LANES * (ld + 1);

    for (int k = 0; k < 16; k++, v += v_part, d += d_part, u += (size_t)n_c * ld)
        for (int o = 0; o < n_o;)
            if (CHANNELS > 12 && n_o - o > 2 * LANES && g->ld - o >= 4 * LANES) { /* never past the end of a line */
                LEVEL(outer_column)(v, 16 * v_part, d + o, 16 * d_part, ld, cells, u + o, add, n_c, 6, 4);
                o += 4 * LANES;
            } else if (n_o - o > LANES) {
                LEVEL(outer_column)(v, 16 * v_part, d + o, 16 * d_part, ld, cells, u + o, add, n_c, CHANNELS > 12 ? 12 : 6, 2);
                o += 2 * LANES;
            } else {
                LEVEL(outer_column)(v, 16 * v_part, d + o, 16 * d_part, ld, cells, u + o, add, n_c, CHANNELS, 1);
                o += LANES;
            }
}

/* dw = G' u G of n vectors: u [16][n], dw [9][n]. */
TARGET static void LEVEL(gather_kernels)(const float *u, float *dw, size_t n)
{
    const size_t step = n * LANES;

    for (size_t at = 0; at < n; at++, u += LANES, dw += LANES) {
        VECTOR t[3][4];

        SIMD_UNROLL
        for (int j = 0; j < 4; j++) {
            const float *a = u + (size_t)j * step;
            const VECTOR p = 0.5f * (LOAD(a + 4 * step) + LOAD(a + 8 * step)), m = 0.5f * (LOAD(a + 4 * step) - LOAD(a + 8 * step));

            t[0][j] = LOAD(a) + p;
            t[1][j] = m;
            t[2][j] = p + LOAD(a + 12 * step);
        }
        SIMD_UNROLL
        for (int i = 0; i < 3; i++) {
            const VECTOR p = 0.5f * (t[i][1] + t[i][2]);

            STORE(dw + (size_t)(3 * i) * step) = t[i][0] + p;
            STORE(dw + (size_t)(3 * i + 1) * step) = 0.5f * (t[i][1] - t[i][2]);
            STORE(dw + (size_t)(3 * i + 2) * step) = p + t[i][3];
        }
    }
}

/* The part of cells first .. last-1 in the gradients of some kernels: dw [9][n_c][g->ld], db (may be NULL) [g->ld]. */
TARGET static void LEVEL(correlate)(const struct gradient *g, int first, int last, int c, int n_c, int o, int n_o, float *v, float *dw, float *db)
{
    const size_t ld = (size_t)g->ld, v_len = 16 * (size_t)(n_c + 1) * LANES, d_len = 16 * LANES * (ld + 1);
    float *d = v + (size_t)g->cells * v_len, *u = d + (size_t)g->cells * d_len;
    struct cell cell[MOST_CELLS];

    if (db)
        memset(db, 0, ld * sizeof *db);
    for (int at = first; at < last; at += g->cells) {
        const int n = last - at < g->cells ? last - at : g->cells;

        for (int i = 0; i < n; i++)
            cell[i] = cell_at(&g->pass, at + i);
        LEVEL(spread_cells)(&g->pass, cell, n, c, n_c, v, 1, false);
        for (int i = 0; i < n; i++) {
            if (i + 1 < n)
                LEVEL(fetch_outputs)(&g->pass, &cell[i + 1], g->dy, o, n_o);
            if (i + 1 < n && g->gate)
                LEVEL(fetch_outputs)(&g->pass, &cell[i + 1], g->gate, o, n_o);
            LEVEL(spread_dy_cell)(g, &cell[i], o, n_o, d + (size_t)i * d_len, db);
        }
        LEVEL(outer_all)(g, v, d, u, n, n_c, n_o, at > first);
    }
    LEVEL(gather_kernels)(u, dw, (size_t)n_c * ld / LANES);
}

/* sum [n] of the groups' parts, which lie step apart; n a multiple of LANES. */
TARGET static void LEVEL(add_groups)(const float *part, size_t step, int groups, size_t n, float *sum)
{
    for (size_t i = 0; i < n; i += LANES) {
        VECTOR s = LOAD(part + i);

        for (int k = 1; k < groups; k++)
            s += LOAD(part + (size_t)k * step + i);
        STORE(sum + i) = s;
    }
}

#include "core/winograd_columns_level.h"

#undef MOST_ROWS
#undef ROWS_OF_3
#undef CHANNELS
