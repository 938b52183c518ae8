/* core/conv_level.h: the micro-kernels of convolutions; compiled by conv_kernels.c for each level (core/vector_level.h says what it may use). OUTPUTS: of
 * a block, so that OUTPUTS * 3 vectors of sums stay in registers. */
#define OUTPUTS (LANES == 16 ? 8 : 4)

/* q outputs by v vectors of the run, from number `at` on. */
TARGET SIMD_INLINE void LEVEL(block)(const struct conv_product *p, size_t at, const int q, const int v)
{
    const float *in = p->in + at, *w = p->w;
    const uint32_t *tap = p->tap, *end = tap + p->n_taps;
    VECTOR sum[OUTPUTS * 3];

    SIMD_UNROLL
    for (int i = 0; i < q; i++)
        SIMD_UNROLL
        for (int j = 0; j < v; j++)
            sum[i * v + j] = (VECTOR){ 0 } + (p->bias ? p->bias[i] : 0);
    for (; tap < end; tap++, w += q) {
        const float *x = in + *tap;
        VECTOR a[6];

        SIMD_UNROLL
        for (int j = 0; j < v; j++)
            a[j] = LOAD(x + j * LANES);
        SIMD_UNROLL
        for (int i = 0; i < q; i++)
            SIMD_UNROLL
            for (int j = 0; j < v; j++)
                sum[i * v + j] += w[i] * a[j];
    }
    SIMD_UNROLL
    for (int i = 0; i < q; i++)
        SIMD_UNROLL
        for (int j = 0; j < v; j++) {
            size_t n = at + (size_t)j * LANES;
            VECTOR s = sum[i * v + j];

            if (p->more)
                s += LOAD(p->more + (size_t)i * p->out_stride + p->at[n / CONV_GRAIN] + n % CONV_GRAIN);
            if (p->clamp)
                s = (VECTOR)((BITS)s & ~(s < 0)); /* NaN stays */
            STORE(p->out + (size_t)i * p->out_stride + p->at[n / CONV_GRAIN] + n % CONV_GRAIN) = s;
        }
}

/* The run in pieces of at most 3 vectors, 6 where outputs are few; none much shorter than the others. */
TARGET SIMD_INLINE void LEVEL(run)(const struct conv_product *p, const int q)
{
    const size_t most = q * 2 <= OUTPUTS ? 6 : 3;

    for (size_t at = 0, n = (size_t)p->n; at < n;) {
        size_t left = (n - at) / LANES, v = left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;

        switch (v) {
        case 1: LEVEL(block)(p, at, q, 1); break;
        case 2: LEVEL(block)(p, at, q, 2); break;
        case 3: LEVEL(block)(p, at, q, 3); break;
        case 4: if (q * 2 <= OUTPUTS) LEVEL(block)(p, at, q, 4); break;
        case 5: if (q * 2 <= OUTPUTS) LEVEL(block)(p, at, q, 5); break;
        case 6: if (q * 2 <= OUTPUTS) LEVEL(block)(p, at, q, 6); break;
        }
        at += v * LANES;
    }
}

TARGET static void LEVEL(product)(const struct conv_product *p)
{
    switch (p->n_out) {
    case 1: LEVEL(run)(p, 1); break;
    case 2: LEVEL(run)(p, 2); break;
    case 3: LEVEL(run)(p, 3); break;
    case 4: LEVEL(run)(p, 4); break;
#if OUTPUTS > 4
    case 5: LEVEL(run)(p, 5); break;
    case 6: LEVEL(run)(p, 6); break;
    case 7: LEVEL(run)(p, 7); break;
    case 8: LEVEL(run)(p, 8); break;
#endif
    }
}

/* q outputs by v taps, from tap t on. */
TARGET SIMD_INLINE void LEVEL(dot_block)(const struct conv_dots *d, int t, const int q, const int v)
{
    VECTOR sum[(OUTPUTS * 3 + LANES - 1) / LANES * LANES];
    float all[(OUTPUTS * 3 + LANES - 1) / LANES * LANES];

    SIMD_UNROLL
    for (int i = 0; i < (OUTPUTS * 3 + LANES - 1) / LANES * LANES; i++)
        sum[i] = (VECTOR){ 0 };
    for (int r = 0; r < d->rows; r++) {
        const float *x = d->in + d->row[r], *dy = d->dy + (size_t)r * d->dy_row;

        for (int k = 0; k < d->n; k += LANES) {
            VECTOR a[3];

            SIMD_UNROLL
            for (int j = 0; j < v; j++)
                a[j] = LOAD(x + d->tap[t + j] + k);
            SIMD_UNROLL
            for (int i = 0; i < q; i++) {
                VECTOR g = LOAD(dy + (size_t)i * d->dy_stride + k);

                IN_REGISTER(g);
                SIMD_UNROLL
                for (int j = 0; j < v; j++)
                    sum[i * v + j] += g * a[j];
            }
        }
    }
    for (int i = 0; i < q * v; i += LANES)
        STORE(all + i) = LEVEL(sums)(sum + i);
    for (int j = 0; j < v; j++) {
        float *out = d->sum + d->place + (t + j) / d->kw * d->place_step + (t + j) % d->kw;

        for (int i = 0; i < q; i++)
            out[(size_t)i * d->sum_stride] += all[i * v + j];
    }
}

TARGET SIMD_INLINE void LEVEL(dot_taps)(const struct conv_dots *d, const int q)
{
    for (int t = 0; t < d->n_taps;) {
        int left = d->n_taps - t, v = left == 4 ? 2 : left < 3 ? left : 3;

        switch (v) {
        case 1: LEVEL(dot_block)(d, t, q, 1); break;
        case 2: LEVEL(dot_block)(d, t, q, 2); break;
        case 3: LEVEL(dot_block)(d, t, q, 3); break;
        }
        t += v;
    }
}

TARGET static void LEVEL(dots)(const struct conv_dots *d)
{
    switch (d->n_out) {
    case 1: LEVEL(dot_taps)(d, 1); break;
    case 2: LEVEL(dot_taps)(d, 2); break;
    case 3: LEVEL(dot_taps)(d, 3); break;
    case 4: LEVEL(dot_taps)(d, 4); break;
#if OUTPUTS > 4
    case 5: LEVEL(dot_taps)(d, 5); break;
    case 6: LEVEL(dot_taps)(d, 6); break;
    case 7: LEVEL(dot_taps)(d, 7); break;
    case 8: LEVEL(dot_taps)(d, 8); break;
#endif
    }
}

/* ---- sparse kernels ---- */

/* q vectors of the run from number `at` on: of all lines, one after the other. */
TARGET SIMD_INLINE void LEVEL(kept_block)(const struct conv_kept *p, size_t at, const int q, const bool mapped)
{
    const float *in = p->in + at, *value = p->value;
    const uint32_t *tap = p->tap, *across = p->across;

    for (int l = 0; l < p->n_lines; l++) {
        float *out = p->out + (size_t)l * p->out_stride;
        VECTOR sum[8];

        SIMD_UNROLL
        for (int i = 0; i < q; i++)
            sum[i] = (VECTOR){ 0 } + (p->bias ? p->bias[l] : 0);
        for (uint32_t k = p->start[l]; k < p->end[l]; k++) {
            const float *x = in + (mapped ? tap[across[k]] : across[k]);
            float v = value[k];

            SIMD_UNROLL
            for (int i = 0; i < q; i++)
                sum[i] += v * LOAD(x + i * LANES);
        }
        SIMD_UNROLL
        for (int i = 0; i < q; i++) {
            size_t n = at + (size_t)i * LANES;

            if (p->clamp)
                sum[i] = (VECTOR)((BITS)sum[i] & ~(sum[i] < 0));
            STORE(out + p->at[n / CONV_GRAIN] + n % CONV_GRAIN) = sum[i];
        }
    }
}

TARGET SIMD_INLINE void LEVEL(kept_run)(const struct conv_kept *p, const bool mapped)
{
    for (size_t at = 0, n = (size_t)p->n; at < n;) {
        size_t left = (n - at) / LANES, q = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;

        switch (q) {
        case 8: LEVEL(kept_block)(p, at, 8, mapped); break;
        case 4: LEVEL(kept_block)(p, at, 4, mapped); break;
        case 2: LEVEL(kept_block)(p, at, 2, mapped); break;
        case 1: LEVEL(kept_block)(p, at, 1, mapped); break;
        }
        at += q * LANES;
    }
}

TARGET static void LEVEL(kept_product)(const struct conv_kept *p)
{
    if (p->tap)
        LEVEL(kept_run)(p, true);
    else
        LEVEL(kept_run)(p, false);
}

/* A line of dy stays in registers; the vectors that its numbers gather are summed up LANES at a time. */
TARGET SIMD_INLINE void LEVEL(kept_dot_block)(const struct conv_kept *p, size_t at, const int q)
{
    const float *in = p->in + at;
    VECTOR part[LANES];
    float *sum = p->sum + p->start[0];
    int n_part = 0;

    for (int l = 0; l < p->n_lines; l++) {
        const float *dy = p->dy + (size_t)l * p->dy_stride + at;
        VECTOR d[8];

        SIMD_UNROLL
        for (int i = 0; i < q; i++)
            d[i] = LOAD(dy + i * LANES);
        for (uint32_t k = p->start[l]; k < p->end[l]; k++) {
            const float *x = in + p->tap[p->across[k]];
            VECTOR even = d[0] * LOAD(x), odd = { 0 };

            SIMD_UNROLL
            for (int i = 1; i < q; i += 2)
                odd += d[i] * LOAD(x + i * LANES);
            SIMD_UNROLL
            for (int i = 2; i < q; i += 2)
                even += d[i] * LOAD(x + i * LANES);
            part[n_part++] = even + odd;
            if (n_part == LANES) {
                LEVEL(put_sums)(sum, part, true);
                sum += LANES;
                n_part = 0;
            }
        }
    }
    if (n_part > 0)
        LEVEL(put_some_sums)(sum, part, n_part, true);
}

TARGET static void LEVEL(kept_dots)(const struct conv_kept *p)
{
    for (size_t at = 0, n = (size_t)p->n; at < n;) {
        size_t left = (n - at) / LANES, q = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;

        switch (q) {
        case 8: LEVEL(kept_dot_block)(p, at, 8); break;
        case 4: LEVEL(kept_dot_block)(p, at, 4); break;
        case 2: LEVEL(kept_dot_block)(p, at, 2); break;
        case 1: LEVEL(kept_dot_block)(p, at, 1); break;
        }
        at += q * LANES;
    }
}

/* ---- sums and packing ---- */

TARGET static float LEVEL(total)(const float *x, int n)
{
    VECTOR sum = { 0 };
    float all = 0;

    for (int k = 0; k < n; k += LANES)
        sum += LOAD(x + k);
    for (int i = 0; i < LANES; i++)
        all += sum[i];
    return all;
}

TARGET static void LEVEL(pack)(float *out, const float *x, const float *y, int n, size_t stride, size_t nb)
{
    size_t whole = nb / LANES * LANES;

    for (int r = 0; r < n; r++, x += stride, out += nb) {
        for (size_t k = 0; k < whole; k += CONV_GRAIN)
            __builtin_prefetch(x + k + 8 * stride);
        for (size_t k = 0; k < whole; k += LANES)
            if (y)
                STORE(out + k) = (VECTOR)((BITS)LOAD(x + k) & (LOAD(y + k) > 0));
            else
                STORE(out + k) = LOAD(x + k);
        for (size_t k = whole; k < nb; k++)
            out[k] = !y || y[k] > 0 ? x[k] : 0;
        y = y ? y + stride : NULL;
    }
}

#undef OUTPUTS
