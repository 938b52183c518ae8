/* core/gemm_level.h: the micro-kernel of dense products; compiled by gemm_kernels.c for each level (core/vector_level.h says what it may use).
 *
 * Columns of b that fill VECTORS vectors, some of the k numbers deep, are packed into a panel that stays in the first-level cache while the rows of
 * a pass, ROWS at a time: their sums stay in registers, and a is read where it lies. */
#define ROWS 6
#define VECTORS (LANES == 16 ? 4 : 2)
#define DEPTH (PANEL / (VECTORS * LANES))

/* q rows of k numbers times v vectors of a panel. */
TARGET SIMD_INLINE void LEVEL(block)(const float *a, size_t row, size_t step, const float *panel, int k, float *c, size_t ldc, bool add,
                                     const int q, const int v)
{
    VECTOR sum[ROWS * VECTORS];

    SIMD_UNROLL
    for (int i = 0; i < q; i++)
        SIMD_UNROLL
        for (int j = 0; j < v; j++)
            sum[i * v + j] = add ? LOAD(c + (size_t)i * ldc + j * LANES) : (VECTOR){ 0 };
    for (; k > 0; k--, a += step, panel += v * LANES) {
        VECTOR b[VECTORS];

        SIMD_UNROLL
        for (int j = 0; j < v; j++)
            b[j] = LOAD(panel + j * LANES);
        SIMD_UNROLL
        for (int i = 0; i < q; i++)
            SIMD_UNROLL
            for (int j = 0; j < v; j++)
                sum[i * v + j] += a[(size_t)i * row] * b[j];
    }
    SIMD_UNROLL
    for (int i = 0; i < q; i++)
        SIMD_UNROLL
        for (int j = 0; j < v; j++)
            STORE(c + (size_t)i * ldc + j * LANES) = sum[i * v + j];
}

/* The last vector of a panel has fewer columns than LANES: by way of a tile of whole ones. */
TARGET SIMD_INLINE void LEVEL(edge)(const float *a, size_t row, size_t step, const float *panel, int k, float *c, size_t ldc, int n, bool add,
                                    const int q, const int v)
{
    float tile[ROWS * VECTORS * LANES] = { 0 };

    for (int i = 0; add && i < q; i++)
        memcpy(tile + i * v * LANES, c + (size_t)i * ldc, (size_t)n * sizeof *c);
    LEVEL(block)(a, row, step, panel, k, tile, (size_t)v * LANES, add, q, v);
    for (int i = 0; i < q; i++)
        memcpy(c + (size_t)i * ldc, tile + i * v * LANES, (size_t)n * sizeof *c);
}

/* All rows with one panel of n columns. */
TARGET SIMD_INLINE void LEVEL(rows)(const struct gemm_product *p, const float *a, const float *panel, int k, float *c, int n, bool add, const int v)
{
    for (int i = 0; i < p->m;) {
        const float *row = a + (size_t)i * p->a_row;
        float *to = c + (size_t)i * p->ldc;
        const bool whole = n == v * LANES;
        int left = p->m - i;

#define BLOCK(q) \
    if (whole) \
        LEVEL(block)(row, p->a_row, p->a_step, panel, k, to, p->ldc, add, q, v); \
    else \
        LEVEL(edge)(row, p->a_row, p->a_step, panel, k, to, p->ldc, n, add, q, v); \
    i += q;
        if (left >= 6) {
            BLOCK(6)
        } else if (left >= 4) {
            BLOCK(4)
        } else if (left >= 2) {
            BLOCK(2)
        } else {
            BLOCK(1)
        }
#undef BLOCK
    }
}

/* panel [k][width] from n columns of b, filled up with zeros. */
TARGET static void LEVEL(pack)(float *panel, const struct gemm_product *p, const float *b, int k, int n, int width)
{
    for (int l = 0; !p->turned && l < k; l++, b += p->ldb, panel += width) {
        memcpy(panel, b, (size_t)n * sizeof *b);
        memset(panel + n, 0, (size_t)(width - n) * sizeof *b);
    }
    if (!p->turned)
        return;
    for (int l = 0; l < k; l += LANES, b += LANES, panel += LANES * width)
        for (int j = 0; j < width; j += LANES) {
            const int deep = k - l < LANES ? k - l : LANES;
            VECTOR t[LANES];

            for (int i = 0; i < LANES; i++)
                if (j + i < n && deep == LANES) {
                    t[i] = LOAD(b + (size_t)(j + i) * p->ldb);
                } else {
                    t[i] = (VECTOR){ 0 };
                    if (j + i < n)
                        memcpy(&t[i], b + (size_t)(j + i) * p->ldb, (size_t)deep * sizeof *b);
                }
            LEVEL(transpose)(t);
            for (int i = 0; i < deep; i++)
                STORE(panel + i * width + j) = t[i];
        }
}

TARGET static void LEVEL(product)(const struct gemm_product *p)
{
    const int vectors = (p->n + LANES - 1) / LANES, panels = (vectors + VECTORS - 1) / VECTORS, layers = p->k > 0 ? (p->k + DEPTH - 1) / DEPTH : 1;
    _Alignas(64) float panel[PANEL];

    for (int l = 0; l < layers; l++) {
        const int from = (int)((int64_t)p->k * l / layers), k = (int)((int64_t)p->k * (l + 1) / layers) - from;
        const float *a = p->a + (size_t)from * p->a_step;

        for (int i = 0; i < panels; i++) {
            const int first = (int)((int64_t)vectors * i / panels), v = (int)((int64_t)vectors * (i + 1) / panels) - first, at = first * LANES;
            const int n = p->n - at < v * LANES ? p->n - at : v * LANES;
            const bool add = p->add || l > 0;

            LEVEL(pack)(panel, p, p->b + (p->turned ? (size_t)at * p->ldb + (size_t)from : (size_t)from * p->ldb + (size_t)at), k, n, v * LANES);
            switch (v) {
            case 1: LEVEL(rows)(p, a, panel, k, p->c + at, n, add, 1); break;
            case 2: LEVEL(rows)(p, a, panel, k, p->c + at, n, add, 2); break;
#if LANES == 16
            case 3: LEVEL(rows)(p, a, panel, k, p->c + at, n, add, 3); break;
            case 4: LEVEL(rows)(p, a, panel, k, p->c + at, n, add, 4); break;
#endif
            }
        }
    }
}

#undef ROWS
#undef VECTORS
#undef DEPTH
