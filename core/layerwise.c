/* core/layerwise.c: see layerwise.h. H is summed batch by batch in double, some places at a time, in row tiles cut by its shape: the same bytes for
 * any team. */
#include "core/layerwise.h"

#include <string.h>

#include "core/exec.h"
#include "core/gemm.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/simd.h"

enum {
    TILE = 64, LADDER = 12,
    PATCHES = 1024,      /* that are gathered at once, unless a batch is larger */
    STREAM = 1 << 21     /* of the draws of places: above probe.c's */
};

static int n_tiles(int n) { return (n + TILE - 1) / TILE; }
static int tile_end(int tile, int n) { return (tile + 1) * TILE < n ? (tile + 1) * TILE : n; }
static size_t square(int n) { return (size_t)n * (size_t)n; }
static size_t groups(const struct layerwise *l) { return (size_t)l->g.groups; }

/* ---- H ---- */

struct gram {
    const struct layerwise *l;
    struct team *team;
    int input;       /* node */
    const float *x;  /* c,h,w,n: the inputs of a batch */
    double *columns; /* groups,l->n,places * n: patches in double, and a row of ones for the bias */
    int *place;      /* n_places */
    int n_places, first, end; /* place first .. end - 1 are gathered */
    int n;
};

/* Places that are gathered at once. */
static int64_t chunk(int64_t places, int64_t n)
{
    int64_t fit = n < PATCHES ? PATCHES / n : 1;

    return fit < places ? fit : places;
}

static size_t n_patches(const struct gram *g) { return (size_t)(g->end - g->first) * (size_t)g->n; }

static void draw_places(struct gram *g, const struct crit_net *in, int w)
{
    const struct rng r = { in->seed, RNG_CRITERION, STREAM + (uint32_t)w, in->step };
    int64_t all = patch_places(&g->l->g);

    for (int64_t i = 0; i < g->n_places; i++) {
        int64_t first = all * i / g->n_places, end = all * (i + 1) / g->n_places;

        g->place[i] = (int)(first + rng_below(&r, (uint64_t)i, (uint32_t)(end - first)));
    }
}

static void fill(double *to, size_t n, double x)
{
    for (size_t i = 0; i < n; i++)
        to[i] = x;
}

SIMD static void widen(double *restrict to, const float *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (double)from[i];
}

/* One column of a group, of the places that are gathered. */
static void gather_column(const struct gram *g, int group, int j, double *to)
{
    size_t n = (size_t)g->n;

    for (int p = g->first; p < g->end; p++, to += n) {
        int64_t at = j < g->l->cols ? patch_source(&g->l->g, group, j, g->place[p]) : -1;

        if (at < 0)
            fill(to, n, j < g->l->cols ? 0 : 1);
        else
            widen(to, g->x + (size_t)at * n, n);
    }
}

static void gather_tile(void *ctx, int tile)
{
    const struct gram *g = ctx;
    int n = g->l->n, per = n_tiles(n), group = tile / per;

    for (int j = tile % per * TILE; j < tile_end(tile % per, n); j++)
        gather_column(g, group, j, g->columns + ((size_t)group * (size_t)n + (size_t)j) * n_patches(g));
}

static void gram_tile(void *ctx, int tile)
{
    const struct gram *g = ctx;
    int n = g->l->n, per = n_tiles(n), group = tile / per, first = tile % per * TILE, k = (int)n_patches(g);
    const double *a = g->columns + ((size_t)group * (size_t)n + (size_t)first) * n_patches(g);
    double *h = g->l->h + (size_t)group * square(n) + (size_t)first * (size_t)n + first;

    gemm_double(false, true, tile_end(tile % per, n) - first, n - first, k, 1, a, k, a, k, 1, h, n);
}

static enum err_code add_batch(void *user, const struct probe_batch *b, struct err *e)
{
    struct gram *g = user;
    int tiles = g->l->g.groups * n_tiles(g->l->n), step = (int)chunk(g->n_places, b->n);
    double scale = (double)patch_places(&g->l->g) / g->n_places / b->samples;

    if (!g->columns) /* the first batch is the largest */
        g->columns = mem_alloc(groups(g->l) * (size_t)g->l->n * (size_t)(b->n > PATCHES ? b->n : PATCHES) * sizeof *g->columns);
    if (!g->columns)
        return err_set(e, ERR_NOMEM, "out of memory");
    g->x = exec_value(b->exec, g->input);
    g->n = b->n;
    for (g->first = 0; g->first < g->n_places; g->first = g->end) {
        g->end = step < g->n_places - g->first ? g->first + step : g->n_places;
        team_for(g->team, tiles, gather_tile, g);
        team_for(g->team, tiles, gram_tile, g);
    }
    if (b->first + b->n == b->samples)
        for (size_t k = 0; k < groups(g->l) * square(g->l->n); k++)
            g->l->h[k] *= scale;
    return ERR_OK;
}

static enum err_code gather(const struct layerwise *l, const struct crit_net *in, const struct layerwise_conf *conf, struct err *e)
{
    const struct probe_conf probe = { .samples = conf->samples, .batch_size = conf->batch_size };
    int w = (int)(l->kernel - in->net->weight), all = patch_places(&l->g);
    struct gram g = { .l = l, .team = in->team, .input = in->net->node[l->kernel->node].in[0],
                      .n_places = conf->places < all ? (int)conf->places : all };
    enum err_code rc = ERR_NOMEM;

    g.place = mem_alloc((size_t)g.n_places * sizeof *g.place);
    if (g.place) {
        draw_places(&g, in, w);
        rc = probe_run(in, &probe, add_batch, &g, e);
    } else
        rc = err_set(e, ERR_NOMEM, "out of memory");
    mem_free(g.place);
    mem_free(g.columns);
    return rc;
}

void layerwise_mirror(double *a, int n)
{
    enum { SIDE = 16 }; /* of blocks: both triangles' parts stay in the cache */

    for (int top = 0; top < n; top += SIDE)
        for (int left = 0; left <= top; left += SIDE)
            for (int i = top; i < n && i < top + SIDE; i++)
                for (int j = left; j < i && j < left + SIDE; j++)
                    a[(size_t)i * (size_t)n + (size_t)j] = a[(size_t)j * (size_t)n + (size_t)i];
}

/* Marks dead inputs and uncouples them. Returns the mean diagonal of the others. */
static double find_dead(int len, double *h, bool *dead)
{
    size_t n = (size_t)len;
    double sum = 0;
    int alive = 0;

    for (size_t j = 0; j < n; j++) {
        dead[j] = h[j * n + j] == 0; /* then all of its row is 0 too */
        alive += !dead[j];
        sum += h[j * n + j];
        if (dead[j])
            h[j * n + j] = 1;
    }
    return alive > 0 ? sum / alive : 1;
}

static void damp(int len, double *h, double lambda)
{
    size_t n = (size_t)len;

    for (size_t j = 0; j < n; j++)
        h[j * n + j] += lambda;
}

static bool try_inverse(int len, const double *h, double lambda, bool factor, double *inverse)
{
    memcpy(inverse, h, square(len) * sizeof *h);
    damp(len, inverse, lambda);
    return cholesky(len, inverse) && cholesky_inverse(len, inverse) && (!factor || cholesky(len, inverse));
}

/* Of one group. used: see crit_net. */
static enum err_code invert(const struct layerwise *l, int group, double damping, bool factor, double *used, struct err *e)
{
    double *h = l->h + (size_t)group * square(l->n), *inverse = l->inverse + (size_t)group * square(l->n), mean;

    mean = find_dead(l->n, h, l->dead + (size_t)group * (size_t)l->n);
    if (!isfinite(mean))
        return err_set(e, ERR_DIVERGED, "the inputs of %s are not finite", l->kernel->name);
    for (int step = 0; step < LADDER; step++) {
        if (try_inverse(l->n, h, damping * mean, factor, inverse)) {
            if (used)
                *used = fmax(*used, damping); /* NAN: nothing yet */
            if (!factor)
                layerwise_mirror(inverse, l->n);
            damp(l->n, h, damping * mean);
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

static enum err_code look(struct layerwise *l, const struct crit_net *in, bool factor, const struct layerwise_conf *conf, struct err *e)
{
    enum err_code rc = gather(l, in, conf, e);

    for (int group = 0; group < l->g.groups && rc == ERR_OK; group++)
        rc = invert(l, group, conf->damping, factor, in->damping, e);
    return rc;
}

enum err_code layerwise_init(struct layerwise *l, const struct crit_net *in, int w, bool factor, const struct layerwise_conf *conf,
                              struct err *e)
{
    struct weight *kernel = &in->net->weight[w];
    bool has_bias = in->net->node[kernel->node].plan.n_weights > 1;
    enum err_code rc;

    *l = (struct layerwise){ .runs = in->runs, .kernel = kernel, .bias = has_bias ? kernel + 1 : NULL, .g = patch_shape(in->net, w) };
    l->rows = l->g.o;
    l->group_rows = l->g.o / l->g.groups;
    l->cols = patch_columns(&l->g);
    l->n = l->cols + has_bias;
    l->w = mem_alloc((size_t)l->rows * (size_t)l->n * sizeof *l->w);
    l->inverse = mem_alloc(groups(l) * square(l->n) * sizeof *l->inverse);
    l->dead = mem_zalloc(groups(l) * (size_t)l->n, sizeof *l->dead);
    l->h = mem_zalloc(groups(l) * square(l->n), sizeof *l->h);
    rc = l->w && l->inverse && l->dead && l->h ? look(l, in, factor, conf, e) : err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK)
        load(l);
    else
        layerwise_clear(l);
    return rc;
}

void layerwise_clear(struct layerwise *l)
{
    mem_free(l->w);
    mem_free(l->h);
    mem_free(l->inverse);
    mem_free(l->dead);
    *l = (struct layerwise){ 0 };
}

enum { MASKED, ZERO, DEAD, COSTS };

static int cost_class(const struct layerwise *l, size_t k)
{
    const struct weight *w = l->kernel;
    size_t cols = (size_t)l->cols;

    return !w->mask[k] ? MASKED : w->x[k] == 0 ? ZERO : layerwise_dead(l, (int)(k / cols))[k % cols] ? DEAD : COSTS;
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

uint64_t layerwise_memory(const struct net *net, const struct layerwise_conf *conf)
{
    uint64_t most = 0;

    for (int i = 0; i < net->n_weights; i++)
        if (net->weight[i].info.prunable) {
            const struct conv g = patch_shape(net, i);
            uint64_t n = (uint64_t)patch_columns(&g) + 1, patches = (uint64_t)conf->batch_size > PATCHES ? (uint64_t)conf->batch_size : PATCHES;
            uint64_t bytes = 8 * ((uint64_t)g.groups * n * (2 * n + patches + 1) + (uint64_t)g.o * n) + sizeof(int) * (uint64_t)patch_places(&g);

            most = bytes > most ? bytes : most;
        }
    return most + probe_memory(net, conf->samples, conf->batch_size, PROBE_VALUES);
}
