/* core/winograd_columns_level.h: Winograd's weight gradient of few channels; the end of winograd_level.h.
 *
 * A vector is of the batch, not of outputs: no dy is turned and no lane is idle where outputs fill no vector. Each pair of channels has 16 vectors of
 * sums instead, which are read and written for some cells at a time and summed up in the end: with many pairs that takes longer. PAIR_C channels
 * by PAIR_O outputs make a register block. */
#define PAIR_C (LANES == 16 ? 4 : 3)
#define PAIR_O (LANES == 16 ? 6 : 4)

/* d [16][o][n] of n cells, and a vector between two of the 16; db (may be NULL) [o] vectors += their sums. */
TARGET SIMD_INLINE void LEVEL(spread_dy_columns)(const struct gradient *g, const struct cell *cell, int n, float *d, float *db, const bool masked)
{
    const ptrdiff_t col = g->pass.n, row = g->pass.ow * col, plane = g->pass.oh * row;
    const size_t step = (size_t)(g->pass.o * n + 1) * LANES;

    for (int o = 0; o < g->pass.o; o++)
        for (int i = 0; i < n; i++, d += LANES) {
            const struct cell *t = &cell[i];
            const ptrdiff_t at = o * plane + t->out_y * row + t->out_x * col + t->at;
            const unsigned rows = t->out_y + 1 < g->pass.oh ? 3 : 1, cols = t->out_x + 1 < g->pass.ow ? 3 : 1;
            VECTOR y[4] = { { 0 } };

            if (o + 1 < g->pass.o) {
                LEVEL(fetch)(g->dy, at + plane, row, col, rows, cols);
                if (masked)
                    LEVEL(fetch)(g->gate, at + plane, row, col, rows, cols);
            }
            SIMD_UNROLL
            for (int k = 0; k < 4; k++)
                if (rows >> k / 2 & cols >> k % 2 & 1)
                    y[k] = LEVEL(columns)(g, t, at + k / 2 * row + k % 2 * col, masked);
            LEVEL(spread_outputs)(y[0], y[1], y[2], y[3], d, step);
            if (db)
                STORE(db + o * LANES) = LOAD(db + o * LANES) + ((y[0] + y[1]) + (y[2] + y[3]));
        }
}

/* sum [q][ld] vectors (+)= v [q][n] times d [b][n], for q channels and b outputs. */
TARGET SIMD_INLINE void LEVEL(dots)(const float *v, const float *d, int n, float *sum, size_t ld, bool add, const int q, const int b)
{
    const size_t line = (size_t)n * LANES;
    VECTOR s[PAIR_C * PAIR_O];

    SIMD_UNROLL
    for (int r = 0; r < q; r++)
        SIMD_UNROLL
        for (int i = 0; i < b; i++)
            s[r * b + i] = add ? LOAD(sum + ((size_t)r * ld + (size_t)i) * LANES) : (VECTOR){ 0 };
    for (size_t k = 0; k < line; k += LANES) {
        VECTOR x[PAIR_C];

        SIMD_UNROLL
        for (int r = 0; r < q; r++)
            x[r] = LOAD(v + (size_t)r * line + k);
        SIMD_UNROLL
        for (int i = 0; i < b; i++) {
            VECTOR y = LOAD(d + (size_t)i * line + k);

            SIMD_HOLD(y);
            SIMD_UNROLL
            for (int r = 0; r < q; r++)
                s[r * b + i] += x[r] * y;
        }
    }
    SIMD_UNROLL
    for (int r = 0; r < q; r++)
        SIMD_UNROLL
        for (int i = 0; i < b; i++)
            STORE(sum + ((size_t)r * ld + (size_t)i) * LANES) = s[r * b + i];
}

/* sum [16][c][o] vectors (+)= those of n cells. */
TARGET static void LEVEL(dots_all)(const struct gradient *g, const float *v, const float *d, int n, float *sum, bool add)
{
    const int c = g->pass.c, o = g->pass.o, c_parts = (c + PAIR_C - 1) / PAIR_C, o_parts = (o + PAIR_O - 1) / PAIR_O;
    const size_t line = (size_t)n * LANES;

#define CASE(q, b) \
    case q * 8 + b: LEVEL(dots)(x, y, n, to, (size_t)o, add, q <= PAIR_C ? q : 1, b <= PAIR_O ? b : 1); break;
    for (int k = 0; k < 16; k++, v += (size_t)(c * n + 1) * LANES, d += (size_t)(o * n + 1) * LANES)
        for (int i = 0; i < c_parts; i++)
            for (int j = 0; j < o_parts; j++) {
                const int from_c = c * i / c_parts, from_o = o * j / o_parts, q = c * (i + 1) / c_parts - from_c, b = o * (j + 1) / o_parts - from_o;
                const float *x = v + (size_t)from_c * line, *y = d + (size_t)from_o * line;
                float *to = sum + (size_t)((k * c + from_c) * o + from_o) * LANES;

                switch (q * 8 + b) {
                    CASE(1, 1) CASE(1, 2) CASE(1, 3) CASE(1, 4) CASE(2, 1) CASE(2, 2) CASE(2, 3) CASE(2, 4) CASE(3, 1) CASE(3, 2) CASE(3, 3) CASE(3, 4)
#if LANES == 16
                    CASE(1, 5) CASE(1, 6) CASE(2, 5) CASE(2, 6) CASE(3, 5) CASE(3, 6) CASE(4, 1) CASE(4, 2) CASE(4, 3) CASE(4, 4) CASE(4, 5) CASE(4, 6)
#endif
                }
            }
#undef CASE
}

/* to [n][g->ld] numbers of n lines of g->pass.o vectors. */
TARGET static void LEVEL(sum_lines)(const struct gradient *g, const float *sum, int n, float *to)
{
    VECTOR part[LANES];

    for (int l = 0; l < n; l++, to += g->ld)
        for (int o = 0; o < g->ld; o += LANES) {
            for (int i = 0; i < LANES; i++) {
                part[i] = o + i < g->pass.o ? LOAD(sum) : (VECTOR){ 0 };
                sum += o + i < g->pass.o ? LANES : 0;
            }
            LEVEL(put_sums)(to + o, part, false);
        }
}

TARGET static void LEVEL(correlate_columns)(const struct gradient *g, int first, int last, float *v, float *dw, float *db)
{
    const int c = g->pass.c, o = g->pass.o;
    float *d = v + 16 * (size_t)(c * g->cells + 1) * LANES, *sum = d + 16 * (size_t)(o * g->cells + 1) * LANES, *u = sum + (size_t)(16 * c * o * LANES);
    float *bias = db ? u + (size_t)(16 * c * g->ld) : NULL;
    struct cell cell[MOST_CELLS];

    if (db)
        memset(bias, 0, (size_t)(o * LANES) * sizeof *bias);
    for (int at = first; at < last; at += g->cells) {
        const int n = last - at < g->cells ? last - at : g->cells;

        for (int i = 0; i < n; i++)
            cell[i] = cell_at(&g->pass, at + i);
        LEVEL(spread_cells)(&g->pass, cell, n, 0, c, v, n, false);
        if (g->gate)
            LEVEL(spread_dy_columns)(g, cell, n, d, bias, true);
        else
            LEVEL(spread_dy_columns)(g, cell, n, d, bias, false);
        LEVEL(dots_all)(g, v, d, n, sum, at > first);
    }
    LEVEL(sum_lines)(g, sum, 16 * c, u);
    LEVEL(gather_kernels)(u, dw, (size_t)(c * g->ld / LANES));
    if (db)
        LEVEL(sum_lines)(g, bias, 1, db);
}

#undef PAIR_C
#undef PAIR_O
