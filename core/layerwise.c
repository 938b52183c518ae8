/* core/layerwise.c: see layerwise.h. H is summed batch by batch in double, in row tiles cut by its shape: the same bytes for any team. */
#include "core/layerwise.h"

#include <string.h>

#include "core/exec.h"
#include "core/gemm.h"
#include "core/mem.h"

enum { TILE = 64, LADDER = 12 };

static int n_tiles(int n) { return (n + TILE - 1) / TILE; }
static int tile_end(int tile, int n) { return (tile + 1) * TILE < n ? (tile + 1) * TILE : n; }
static size_t square(int n) { return (size_t)n * (size_t)n; }

/* ---- H ---- */

struct gram {
    const struct layerwise *l;
    struct team *team;
    int input;       /* node */
    double *h;       /* l->n,l->n: the upper triangle */
    const float *x;  /* cols,n: the inputs of a batch */
    double *columns; /* l->n,n: the same in double, and a row of ones for the bias */
    int n;
};

static void widen_tile(void *ctx, int tile)
{
    const struct gram *g = ctx;
    size_t n = (size_t)g->n;

    for (int j = tile * TILE; j < tile_end(tile, g->l->n); j++)
        for (size_t i = 0; i < n; i++)
            g->columns[(size_t)j * n + i] = j < g->l->cols ? (double)g->x[(size_t)j * n + i] : 1;
}

static void gram_tile(void *ctx, int tile)
{
    const struct gram *g = ctx;
    int n = g->l->n, first = tile * TILE;
    const double *a = g->columns + (size_t)first * (size_t)g->n;

    gemm_double(false, true, tile_end(tile, n) - first, n - first, g->n, 1, a, g->n, a, g->n, 1, g->h + (size_t)first * (size_t)n + first, n);
}

static enum err_code add_batch(void *user, const struct probe_batch *b, struct err *e)
{
    struct gram *g = user;

    if (!g->columns) /* the first batch is the largest */
        g->columns = mem_alloc((size_t)g->l->n * (size_t)b->n * sizeof *g->columns);
    if (!g->columns)
        return err_set(e, ERR_NOMEM, "out of memory");
    g->x = exec_value(b->exec, g->input);
    g->n = b->n;
    team_for(g->team, n_tiles(g->l->n), widen_tile, g);
    team_for(g->team, n_tiles(g->l->n), gram_tile, g);
    if (b->first + b->n == b->samples)
        for (size_t k = 0; k < square(g->l->n); k++)
            g->h[k] /= b->samples;
    return ERR_OK;
}

static enum err_code gather(const struct layerwise *l, const struct crit_net *in, const struct layerwise_conf *conf, double *h, struct err *e)
{
    const struct probe_conf probe = { .samples = conf->samples, .batch_size = conf->batch_size };
    struct gram g = { .l = l, .team = in->team, .input = in->net->node[l->kernel->node].in[0], .h = h };
    enum err_code rc = probe_run(in, &probe, add_batch, &g, e);

    mem_free(g.columns);
    return rc;
}

/* The lower triangle becomes that of the transpose. */
static void mirror(double *a, int n)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            a[(size_t)i * (size_t)n + (size_t)j] = a[(size_t)j * (size_t)n + (size_t)i];
}

/* Marks dead inputs and uncouples them. Returns the mean diagonal of the others. */
static double find_dead(struct layerwise *l, double *h)
{
    size_t n = (size_t)l->n;
    double sum = 0;
    int alive = 0;

    for (size_t j = 0; j < n; j++) {
        l->dead[j] = h[j * n + j] == 0; /* then all of its row is 0 too */
        alive += !l->dead[j];
        sum += h[j * n + j];
        if (l->dead[j])
            h[j * n + j] = 1;
    }
    return alive > 0 ? sum / alive : 1;
}

static bool try_inverse(struct layerwise *l, const double *h, double lambda, bool factor)
{
    size_t n = (size_t)l->n;

    memcpy(l->inverse, h, square(l->n) * sizeof *h);
    for (size_t j = 0; j < n; j++)
        l->inverse[j * n + j] += lambda;
    return cholesky(l->n, l->inverse) && cholesky_inverse(l->n, l->inverse) && (!factor || cholesky(l->n, l->inverse));
}

static enum err_code invert(struct layerwise *l, const double *h, double mean, double damping, bool factor, double *used, struct err *e)
{
    for (int step = 0; step < LADDER; step++) {
        if (try_inverse(l, h, damping * mean, factor)) {
            if (used)
                *used = fmax(*used, damping); /* NAN: nothing yet */
            if (!factor)
                mirror(l->inverse, l->n);
            return ERR_OK;
        }
        damping = damping > 0 ? 10 * damping : 1e-8;
    }
    return err_set(e, ERR_DIVERGED, "the inputs of %s have no usable inverse, even when damped by %g", l->kernel->name, damping / 10);
}

/* ---- a layer ---- */

static void load(struct layerwise *l)
{
    for (size_t r = 0; r < (size_t)l->rows; r++) {
        double *w = l->w + r * (size_t)l->n;

        for (size_t j = 0; j < (size_t)l->cols; j++)
            w[j] = (double)l->kernel->x[r * (size_t)l->cols + j];
        if (l->bias)
            w[l->cols] = (double)l->bias->x[r];
    }
}

static enum err_code look(struct layerwise *l, const struct crit_net *in, bool factor, const struct layerwise_conf *conf, double *h, struct err *e)
{
    enum err_code rc = gather(l, in, conf, h, e);
    double mean;

    if (rc != ERR_OK)
        return rc;
    mean = find_dead(l, h);
    if (!isfinite(mean))
        return err_set(e, ERR_DIVERGED, "the inputs of %s are not finite", l->kernel->name);
    return invert(l, h, mean, conf->damping, factor, in->damping, e);
}

enum err_code layerwise_init(struct layerwise *l, const struct crit_net *in, int w, bool factor, const struct layerwise_conf *conf,
                              struct err *e)
{
    struct weight *kernel = &in->net->weight[w];
    bool has_bias = in->net->node[kernel->node].plan.n_weights > 1;
    double *h;
    enum err_code rc;

    *l = (struct layerwise){ .runs = in->runs, .kernel = kernel, .bias = has_bias ? kernel + 1 : NULL, .rows = kernel->info.shape.d[0], .cols = kernel->info.shape.d[1] };
    l->n = l->cols + has_bias;
    l->w = mem_alloc((size_t)l->rows * (size_t)l->n * sizeof *l->w);
    l->inverse = mem_alloc(square(l->n) * sizeof *l->inverse);
    l->dead = mem_zalloc((size_t)l->n, sizeof *l->dead);
    h = mem_zalloc(square(l->n), sizeof *h);
    rc = l->w && l->inverse && l->dead && h ? look(l, in, factor, conf, h, e) : err_set(e, ERR_NOMEM, "out of memory");
    mem_free(h);
    if (rc == ERR_OK)
        load(l);
    else
        layerwise_clear(l);
    return rc;
}

void layerwise_clear(struct layerwise *l)
{
    mem_free(l->w);
    mem_free(l->inverse);
    mem_free(l->dead);
    *l = (struct layerwise){ 0 };
}

enum { MASKED, ZERO, DEAD, COSTS };

static int cost_class(const struct layerwise *l, size_t k)
{
    const struct weight *w = l->kernel;

    return !w->mask[k] ? MASKED : w->x[k] == 0 ? ZERO : l->dead[k % (size_t)l->cols] ? DEAD : COSTS;
}

int layerwise_spare(const struct layerwise *l, int r, int first, int end)
{
    int kept = 0;

    for (int j = first; j < end; j++)
        kept += l->kernel->mask[(size_t)r * (size_t)l->cols + (size_t)j] != 0;
    return kept > l->runs.keep ? kept - l->runs.keep : 0;
}

static bool may_go(const struct layerwise *l, size_t k)
{
    int first, end;

    if (l->runs.len == 0 || !l->kernel->mask[k])
        return true;
    layerwise_run(l, (int)(k % (size_t)l->cols), &first, &end);
    return layerwise_spare(l, (int)(k / (size_t)l->cols), first, end) > 0;
}

uint64_t layerwise_mask_free(struct layerwise *l, uint64_t n)
{
    for (int class = MASKED; class < COSTS; class++)
        for (size_t k = 0; k < l->kernel->len && n > 0; k++)
            if (cost_class(l, k) == class && may_go(l, k)) {
                l->kernel->mask[k] = 0;
                n--;
            }
    return n;
}

enum err_code layerwise_store(const struct layerwise *l, struct err *e)
{
    for (size_t r = 0; r < (size_t)l->rows; r++) {
        const double *w = l->w + r * (size_t)l->n;

        for (size_t j = 0; j < (size_t)l->cols; j++) {
            size_t k = r * (size_t)l->cols + j;

            l->kernel->x[k] = l->kernel->mask[k] ? (float)w[j] : 0;
            if (!isfinite(l->kernel->x[k]))
                return err_set(e, ERR_DIVERGED, "number %zu of %s is not finite", k, l->kernel->name);
        }
        if (l->bias)
            l->bias->x[r] = (float)w[l->cols];
        if (l->bias && !isfinite(l->bias->x[r]))
            return err_set(e, ERR_DIVERGED, "number %zu of %s is not finite", r, l->bias->name);
    }
    return ERR_OK;
}

enum err_code layerwise_check(const struct net *net, int w, struct err *e)
{
    const struct node *node = &net->node[net->weight[w].node];

    if (node->op == op_find("dense"))
        return ERR_OK;
    return err_set(e, ERR_UNSUPPORTED, "layer %s is %s: only dense layers are known to this criterion", node->layer, node->op->plug.name);
}

uint64_t layerwise_memory(const struct net *net, const struct layerwise_conf *conf)
{
    uint64_t most = 0;

    for (int i = 0; i < net->n_weights; i++) {
        const struct op_weight *info = &net->weight[i].info;
        uint64_t rows = (uint64_t)info->shape.d[0], n = (uint64_t)info->shape.d[1] + 1, batch = (uint64_t)conf->batch_size;
        uint64_t bytes = info->prunable ? 8 * (2 * n * n + rows * n + batch * n) : 0;

        most = bytes > most ? bytes : most;
    }
    return most + probe_memory(net, conf->samples, conf->batch_size);
}
