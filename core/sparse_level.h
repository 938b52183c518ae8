/* core/sparse_level.h: the sparse products; compiled by sparse_kernels.c for each level (core/vector_level.h says what it may use).
 *
 * A line's results are kept in up to eight registers while its numbers pass: each is loaded once and multiplied with whole
 * vectors of the batch. The gradients go through columns, whose x and dx stay in registers: a kept number's row of dy is loaded and meets both; or
 * through rows, the other way round and without dx. What is gathered for the number's own gradient, a vector, is summed together with those of
 * the next numbers by one tree of shuffles, LANES at a time. */

/* The block's part of lines first .. last-1 for columns at .. at + q * LANES - 1 of the batch. Mapped: the values stand in the other order; far: in more
 * memory than the cache has. */
TARGET SIMD_INLINE void LEVEL(lines)(const struct product *p, int first, int last, size_t at, const int q, const bool mapped, const bool far)
{
    const struct sparse_order *o = p->order;
    const uint32_t *start = block_start(p), *end = start + o->n_lines, *across = o->across, *number = o->number;
    const float *in = p->in + at, *value = p->value;
    const size_t n = p->n;

    for (int l = first; l < last; l++) {
        float *out = p->out + (size_t)l * n + at;
        VECTOR sum[8], base = (VECTOR){ 0 } + (p->bias ? p->bias[l] : 0);

        SIMD_UNROLL
        for (int i = 0; i < q; i++)
            sum[i] = p->block > 0 ? LOAD(out + i * LANES) : base;
        for (uint32_t k = start[l]; k < end[l]; k++) {
            const float *x = in + across[k] * n;
            float v = value[mapped ? number[k] : k];

            if (far) /* the next rows find theirs behind it, in a line of the cache that nothing else would fetch ahead */
                __builtin_prefetch(value + number[k] + 16);

            SIMD_UNROLL
            for (int i = 0; i < q; i++)
                sum[i] += v * LOAD(x + i * LANES);
        }
        SIMD_UNROLL
        for (int i = 0; i < q; i++)
            STORE(out + i * LANES) = sum[i];
    }
}

TARGET SIMD_INLINE void LEVEL(any_lines)(const struct product *p, int first, int last, size_t from, size_t to, const bool mapped, const bool far)
{
    for (size_t at = from; at < to;) {
        size_t left = (to - at) / LANES;

        if (left >= 8)
            LEVEL(lines)(p, first, last, at, 8, mapped, far);
        else if (left >= 4)
            LEVEL(lines)(p, first, last, at, 4, mapped, far);
        else if (left >= 2)
            LEVEL(lines)(p, first, last, at, 2, mapped, far);
        else
            LEVEL(lines)(p, first, last, at, 1, mapped, far);
        at += (left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1) * LANES;
    }
}

TARGET static void LEVEL(product)(const struct product *p, int first, int last, size_t from, size_t to)
{
    if (p->order->number && p->order->n_blocks > 1)
        LEVEL(any_lines)(p, first, last, from, to, true, true);
    else if (p->order->number)
        LEVEL(any_lines)(p, first, last, from, to, true, false);
    else
        LEVEL(any_lines)(p, first, last, from, to, false, false);
}

/* Of lines whose numbers stand one behind the other: all, or a single one where there are blocks. */
TARGET SIMD_INLINE void LEVEL(gradients)(const struct product *p, int first, int last, size_t at, const int q, const bool both, bool add)
{
    const struct sparse_order *o = p->order;
    const uint32_t *start = block_start(p), *end = start + o->n_lines, *across = o->across;
    const float *in = p->in + at, *value = p->value;
    const size_t n = p->n;
    VECTOR part[LANES];
    int n_part = 0;
    float *dw = p->dw + start[first];

    for (int l = first; l < last; l++) {
        const float *from = p->line + (size_t)l * n + at;
        float *out = both ? p->out + (size_t)l * n + at : NULL;
        VECTOR line[8], sum[8];

        SIMD_UNROLL
        for (int i = 0; i < q; i++) {
            line[i] = LOAD(from + i * LANES);
            if (both)
                sum[i] = p->block > 0 ? LOAD(out + i * LANES) : (VECTOR){ 0 };
        }
        for (uint32_t k = start[l]; k < end[l]; k++) {
            const float *x = in + across[k] * n, v = value[k];
            VECTOR pair[2] = { 0 };

            SIMD_UNROLL
            for (int i = 0; i < q; i++) {
                VECTOR xi = LOAD(x + i * LANES);

                SIMD_HOLD(xi);
                pair[i % 2] = i < 2 ? line[i] * xi : pair[i % 2] + line[i] * xi;
                if (both)
                    sum[i] += v * xi;
            }
            part[n_part++] = pair[0] + pair[1];
            if (n_part == LANES) {
                LEVEL(put_sums)(dw, part, add);
                dw += LANES;
                n_part = 0;
            }
        }
        SIMD_UNROLL
        for (int i = 0; i < q; i++)
            if (both)
                STORE(out + i * LANES) = sum[i];
    }
    if (n_part > 0)
        LEVEL(put_some_sums)(dw, part, n_part, add);
}

/* A line and its result have as many registers each: of sixteen registers, four. */
TARGET SIMD_INLINE void LEVEL(any_gradients)(const struct product *p, int first, int last, size_t from, size_t to, const bool both, bool add)
{
    for (size_t at = from; at < to; add = true) {
        size_t left = (to - at) / LANES, q = left >= 8 && (LANES == 16 || !both) ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;

        if (q == 8)
            LEVEL(gradients)(p, first, last, at, 8, both, add);
        else if (q == 4)
            LEVEL(gradients)(p, first, last, at, 4, both, add);
        else if (q == 2)
            LEVEL(gradients)(p, first, last, at, 2, both, add);
        else
            LEVEL(gradients)(p, first, last, at, 1, both, add);
        at += q * LANES;
    }
}

TARGET static void LEVEL(backward)(const struct product *p, int first, int last, size_t from, size_t to, bool add)
{
    const int together = p->order->n_blocks > 1 ? 1 : last - first;

    for (int l = first; l < last; l += together)
        if (p->out)
            LEVEL(any_gradients)(p, l, l + together, from, to, true, add);
        else
            LEVEL(any_gradients)(p, l, l + together, from, to, false, add);
}
