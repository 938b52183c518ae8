/* core/quantize.c: a net's kernels into eight-bit integers (see calibrate.h and int8.h). Biases stay floats. */
#include <string.h>

#include "core/calibrate.h"
#include "core/mem.h"

enum { BINS = 4096 };

/* What a kernel's activations are, over the samples. */
struct range {
    int node;       /* whose value they are */
    float low, high;
    uint32_t *bins; /* of |x| up to the largest; NULL in the first pass */
};
struct ranges { int n; struct range *range; const struct net *net; };

static void see_range(void *ctx, const struct exec *x, int n)
{
    const struct ranges *all = ctx;

    for (struct range *r = all->range; r < all->range + all->n; r++) {
        const float *v = exec_value(x, r->node);
        const size_t len = shape_len(&all->net->node[r->node].plan.out) * (size_t)n;

        for (size_t i = 0; i < len; i++) {
            r->low = v[i] < r->low ? v[i] : r->low;
            r->high = v[i] > r->high ? v[i] : r->high;
        }
    }
}

static float largest(const struct range *r) { return -r->low > r->high ? -r->low : r->high; }

static void see_bins(void *ctx, const struct exec *x, int n)
{
    const struct ranges *all = ctx;

    for (struct range *r = all->range; r < all->range + all->n; r++) {
        const float *v = exec_value(x, r->node), most = largest(r), per = most > 0 ? BINS / most : 0;
        const size_t len = shape_len(&all->net->node[r->node].plan.out) * (size_t)n;

        for (size_t i = 0; i < len; i++) {
            float at = fabsf(v[i]) * per;

            r->bins[at < BINS - 1 ? (int)at : BINS - 1]++; /* a NaN in the last one */
        }
    }
}

/* Cuts the range where `percentile` percent of the numbers lie below, by size. */
static void cut(struct range *r, double percentile)
{
    uint64_t all = 0, below = 0;
    float most = largest(r), edge = most;

    for (int b = 0; b < BINS; b++)
        all += r->bins[b];
    for (int b = 0; b < BINS; b++) {
        below += r->bins[b];
        if ((double)below >= percentile / 100 * (double)all) {
            edge = most * (float)(b + 1) / BINS;
            break;
        }
    }
    r->low = r->low < -edge ? -edge : r->low;
    r->high = r->high > edge ? edge : r->high;
}

static enum err_code find_ranges(struct ranges *all, struct net *net, enum quantize_mode mode, double percentile, const struct calibration *c,
                                 struct err *e)
{
    uint32_t *bins = NULL;
    enum err_code rc = calibrate(net, c, see_range, all, e);

    if (rc != ERR_OK || mode == QUANTIZE_MAX)
        return rc;
    bins = mem_zalloc((size_t)all->n * BINS, sizeof *bins);
    for (int i = 0; bins && i < all->n; i++)
        all->range[i].bins = bins + (size_t)i * BINS;
    rc = bins ? calibrate(net, c, see_bins, all, e) : err_set(e, ERR_NOMEM, "out of memory");
    for (int i = 0; i < all->n && rc == ERR_OK; i++)
        cut(&all->range[i], percentile);
    mem_free(bins);
    return rc;
}

static enum err_code quantize(struct net *net, struct weight *w, struct int8_scale input, struct quantized *out, struct err *e)
{
    const int rows = w->info.shape.d[0], cols = (int)(w->len / (size_t)rows);
    int8_t *q = mem_alloc(w->len);
    float *scale = mem_vector((size_t)rows);
    uint64_t zeros = 0, before = 0;
    enum err_code rc = q && scale ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    for (int r = 0; rc == ERR_OK && r < rows; r++) {
        const size_t at = (size_t)r * (size_t)cols;

        scale[r] = int8_row_scale(w->x + at, cols);
        int8_row(q + at, w->x + at, scale[r], cols);
    }
    for (size_t i = 0; rc == ERR_OK && i < w->len; i++) {
        before += w->x[i] == 0;
        zeros += q[i] == 0;
    }
    if (rc == ERR_OK)
        rc = net_set_int8(net, w, q, scale, input, e);
    if (rc == ERR_OK) {
        out->kernels++;
        out->pruned += before;
        out->rounded += zeros - before;
    }
    mem_free(q);
    mem_free(scale);
    return rc;
}

enum err_code quantize_net(struct net *net, enum quantize_mode mode, double percentile, const struct calibration *c, struct quantized *out,
                           struct err *e)
{
    struct ranges all = { 0, mem_zalloc((size_t)net->n_weights, sizeof(struct range)), net };
    enum err_code rc = all.range ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    *out = (struct quantized){ 0 };
    for (int i = 0; rc == ERR_OK && i < net->n_weights; i++)
        if (net_can_int8(net, &net->weight[i]))
            all.range[all.n++].node = net->node[net->weight[i].node].in[0];
    if (rc == ERR_OK && mode != QUANTIZE_DYNAMIC && all.n > 0)
        rc = find_ranges(&all, net, mode, percentile, c, e);
    for (int i = 0, k = 0; rc == ERR_OK && i < net->n_weights; i++)
        if (net_can_int8(net, &net->weight[i])) {
            const struct range *r = &all.range[k++];
            const struct int8_scale dynamic = { 0, 0 };

            rc = quantize(net, &net->weight[i], mode == QUANTIZE_DYNAMIC ? dynamic : int8_scale_of(r->low, r->high), out, e);
        }
    mem_free(all.range);
    return rc;
}
