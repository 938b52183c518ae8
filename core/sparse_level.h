/* core/sparse_level.h: the sparse products; compiled by sparse_kernels.c for each level (core/vector_level.h says what it may use).
 *
 * A line's results are kept in up to eight registers while its numbers pass: each is loaded once and multiplied with whole
 * vectors of the batch. For weight gradients it is the other way round: a row of dy stays in registers, and what a number gathers, a vector, is
 * summed together with those of the next numbers by one tree of shuffles, LANES at a time. */

/* One block's part of lines first .. last-1 for columns at .. at + q * LANES - 1 of the batch. */
TARGET SIMD_INLINE void LEVEL(lines)(const struct product *p, int b, int first, int last, size_t at, const int q, const bool mapped)
{
    const struct sparse_order *o = p->order;
    const uint32_t *start = o->start + (size_t)b * (size_t)o->n_lines, *end = start + o->n_lines;
    const uint32_t *across = o->across, *number = o->number;
    const float *in = p->in + at, *value = p->value;
    const size_t n = p->n;

    for (int l = first; l < last; l++) {
        float *out = p->out + (size_t)l * n + at;
        VECTOR sum[8], base = (VECTOR){ 0 } + (p->bias ? p->bias[l] : 0);

        SIMD_UNROLL
        for (int i = 0; i < q; i++)
            sum[i] = b > 0 ? LOAD(out + i * LANES) : base;
        for (uint32_t k = start[l]; k < end[l]; k++) {
            const float *x = in + across[k] * n;
            float v = value[mapped ? number[k] : k];

            SIMD_UNROLL
            for (int i = 0; i < q; i++)
                sum[i] += v * LOAD(x + i * LANES);
        }
        SIMD_UNROLL
        for (int i = 0; i < q; i++)
            STORE(out + i * LANES) = sum[i];
    }
}

TARGET SIMD_INLINE void LEVEL(any_lines)(const struct product *p, int b, int first, int last, size_t from, size_t to, const bool mapped)
{
    for (size_t at = from; at < to;) {
        size_t left = (to - at) / LANES;

        if (left >= 8)
            LEVEL(lines)(p, b, first, last, at, 8, mapped);
        else if (left >= 4)
            LEVEL(lines)(p, b, first, last, at, 4, mapped);
        else if (left >= 2)
            LEVEL(lines)(p, b, first, last, at, 2, mapped);
        else
            LEVEL(lines)(p, b, first, last, at, 1, mapped);
        at += (left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1) * LANES;
    }
}

TARGET static void LEVEL(product)(const struct product *p, int first, int last, size_t from, size_t to)
{
    for (int b = 0; b < p->order->n_blocks; b++)
        if (p->order->number)
            LEVEL(any_lines)(p, b, first, last, from, to, true);
        else
            LEVEL(any_lines)(p, b, first, last, from, to, false);
}

TARGET SIMD_INLINE void LEVEL(settle)(float *dw, VECTOR *part, int n, bool add)
{
    VECTOR sum;
    float some[LANES];

    for (int i = n; i < LANES; i++)
        part[i] = (VECTOR){ 0 };
    sum = LEVEL(sums)(part);
    if (n == LANES) {
        if (add)
            sum += LOAD(dw);
        STORE(dw) = sum;
        return;
    }
    memcpy(some, &sum, sizeof some);
    for (int i = 0; i < n; i++)
        dw[i] = add ? dw[i] + some[i] : some[i];
}

TARGET SIMD_INLINE void LEVEL(outer)(const struct product *p, int first, int last, size_t at, const int q, bool add)
{
    const struct sparse_order *o = p->order;
    const uint32_t *start = o->start, *end = start + (size_t)o->n_blocks * (size_t)o->n_lines;
    const uint32_t *across = o->across;
    const float *in = p->in + at;
    const size_t n = p->n;
    VECTOR part[LANES];
    int n_part = 0;
    float *dw = p->out + start[first];

    for (int l = first; l < last; l++) {
        const float *dy = p->dy + (size_t)l * n + at;
        VECTOR d[8];

        SIMD_UNROLL
        for (int i = 0; i < q; i++)
            d[i] = LOAD(dy + i * LANES);
        for (uint32_t k = start[l]; k < end[l]; k++) {
            const float *x = in + across[k] * n;
            VECTOR even = d[0] * LOAD(x), odd = { 0 };

            SIMD_UNROLL
            for (int i = 1; i < q; i += 2)
                odd += d[i] * LOAD(x + i * LANES);
            SIMD_UNROLL
            for (int i = 2; i < q; i += 2)
                even += d[i] * LOAD(x + i * LANES);
            part[n_part++] = even + odd;
            if (n_part == LANES) {
                LEVEL(settle)(dw, part, LANES, add);
                dw += LANES;
                n_part = 0;
            }
        }
    }
    if (n_part > 0)
        LEVEL(settle)(dw, part, n_part, add);
}

TARGET static void LEVEL(gradient)(const struct product *p, int first, int last, size_t from, size_t to, bool add)
{
    for (size_t at = from; at < to; add = true) {
        size_t left = (to - at) / LANES;

        if (left >= 8)
            LEVEL(outer)(p, first, last, at, 8, add);
        else if (left >= 4)
            LEVEL(outer)(p, first, last, at, 4, add);
        else if (left >= 2)
            LEVEL(outer)(p, first, last, at, 2, add);
        else
            LEVEL(outer)(p, first, last, at, 1, add);
        at += (left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1) * LANES;
    }
}

