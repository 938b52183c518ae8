/* core/crit_obs.c: layerwise optimal brain surgeon, exact (OBS: Hassibi & Stork 1993; row by row: ExactOBS, Frantar, Singh & Alistarh 2022).
 *
 * In each row again and again: the weight q goes whose loss, w_q^2 / A_qq, is the least; the others of its row take over what it did, w -= w_q /
 * A_qq A[:,q]; and A, the inverse Hessian of the weights that stay, loses its row and column q, A -= A[:,q] A[q,:] / A_qq. The record of a row until
 * nothing is left, its trace, says what each further weight of it costs. Over all rows of a layer the next to go is the cheapest next one of
 * any row, until n_masked are gone. What a row has become by then follows from which of its weights went, whatever the order: those that stay, K,
 * have taken over as is best for all others, M: w_K += H_KK^-1 H_KM w_M. Where most stay, it goes through its steps once more instead.
 *
 * Where runs of so many columns must keep some (unit n:m), what is left of a run stays once no more of it may go.
 *
 * The downdates of A are put off and done BLOCK at a time as one product, with A compacted to what stays: the vectors of a block, A[:,q] /
 * sqrt(A_qq), are columns of a Cholesky factor whose order is found on the way. A row costs about 1/3 of columns^3 multiply-adds, in the cache. */
#include <float.h>
#include <string.h>

#include "core/gemm.h"
#include "core/layerwise.h"
#include "core/mem.h"
#include "core/simd.h"

enum { BLOCK = 64, PANEL = 128 };

struct obs_conf {
    int64_t samples, batch_size, places;
    double damping, max_macs;
};
static const struct param obs_params[] = {
    LAYERWISE_FIELDS(struct obs_conf),
    FIELD_REAL(struct obs_conf, max_macs, 1, 1e18, 1e12, "A layer whose rows times columns^3 is above this is refused when the job is posted."), FIELD_END
};

static struct layerwise_conf shared(const struct obs_conf *c) { return (struct layerwise_conf){ c->samples, c->batch_size, c->damping, c->places }; }

/* ---- one row ---- */

/* What a row needs while weights go. Weights that are left are numbered 0 .. left-1; those that went since the last compaction are among them. */
struct row {
    int left;
    double *a;      /* left,left: inverse Hessian as of the last compaction */
    double *v;      /* BLOCK,left: what has been taken off since: a - v'v */
    double *w, *diagonal; /* left: as of now */
    double *fee;    /* left: infinite for what cannot go (any more), else 0 */
    double *cost;   /* left */
    int *column;    /* left: of the layer */
    bool *gone;     /* left */
    int *spare;     /* by run: how many more may go */
};
/* One step of a trace. cost: what the loss grows by, never falling along the row; zeros have -1, so they go first. */
struct step { double cost; int column; };

static bool is_masked(const struct layerwise *l, int r, int column) { return !l->kernel->mask[(size_t)r * (size_t)l->cols + (size_t)column]; }

/* What is left of a run stays; what is masked already is no part of it. */
static void close_run(struct row *t, const struct layerwise *l, int r, int run)
{
    for (int i = 0; i < t->left; i++)
        if (t->column[i] < l->cols && t->column[i] / l->runs.len == run && !is_masked(l, r, t->column[i]))
            t->fee[i] = HUGE_VAL;
}

static void open_runs(struct row *t, const struct layerwise *l, int r)
{
    for (int first = 0, end; l->runs.len > 0 && first < l->cols; first = end) {
        layerwise_run(l, first, &first, &end);
        t->spare[first / l->runs.len] = layerwise_spare(l, r, first, end);
        if (t->spare[first / l->runs.len] == 0)
            close_run(t, l, r, first / l->runs.len);
    }
}

static void note_removed(struct row *t, const struct layerwise *l, int r, int column)
{
    if (l->runs.len > 0 && !is_masked(l, r, column) && --t->spare[column / l->runs.len] == 0)
        close_run(t, l, r, column / l->runs.len);
}

static void row_start(struct row *t, const struct layerwise *l, int r)
{
    const double *inverse = layerwise_inverse(l, r);
    const bool *dead = layerwise_dead(l, r);
    size_t n = (size_t)l->n;

    t->left = 0;
    for (int j = 0; j < l->n; j++)
        if (!dead[j])
            t->column[t->left++] = j;
    for (int i = 0; i < t->left; i++) {
        const double *from = inverse + (size_t)t->column[i] * n;
        double *to = t->a + (size_t)i * (size_t)t->left;

        for (int j = 0; j < t->left; j++)
            to[j] = from[t->column[j]];
        t->w[i] = l->w[(size_t)r * n + (size_t)t->column[i]];
        t->diagonal[i] = to[i];
        t->gone[i] = false;
        t->fee[i] = 0;
    }
    if (l->bias)
        t->fee[t->left - 1] = HUGE_VAL;
    open_runs(t, l, r);
}

/* Zeros cost nothing, and less than that. What is not finite costs the most: it shows when the row is stored. */
SIMD static void costs(double *restrict cost, const double *restrict w, const double *restrict diagonal, const double *restrict fee, int n)
{
    for (int i = 0; i < n; i++) {
        double c = w[i] == 0 ? -1 : w[i] * w[i] / diagonal[i];

        cost[i] = (c < DBL_MAX ? c : DBL_MAX) + fee[i];
    }
}

/* Ties to the lower column. Something must be able to go. */
static int cheapest(const struct row *t)
{
    int best = 0;

    costs(t->cost, t->w, t->diagonal, t->fee, t->left);
    for (int i = 1; i < t->left; i++)
        if (t->cost[i] < t->cost[best])
            best = i;
    return best;
}

SIMD static void subtract(double *restrict y, double f, const double *restrict x, int n)
{
    for (int i = 0; i < n; i++)
        y[i] -= f * x[i];
}

SIMD static void take_off(double *restrict w, double f, double *restrict diagonal, const double *restrict v, int n)
{
    for (int i = 0; i < n; i++) {
        w[i] -= f * v[i];
        diagonal[i] -= v[i] * v[i];
    }
}

/* Weight q goes, the b-th since the last compaction. */
static void remove_weight(struct row *t, int q, int b)
{
    double *v = t->v + (size_t)b * (size_t)t->left, root;

    memcpy(v, t->a + (size_t)q * (size_t)t->left, (size_t)t->left * sizeof *v);
    for (int s = 0; s < b; s++)
        subtract(v, t->v[(size_t)s * (size_t)t->left + (size_t)q], t->v + (size_t)s * (size_t)t->left, t->left);
    root = sqrt(v[q]);
    for (int i = 0; i < t->left; i++)
        v[i] = t->gone[i] ? 0 : v[i] / root;
    take_off(t->w, t->w[q] / root, t->diagonal, v, t->left);
    t->w[q] = 0;
    t->gone[q] = true;
    t->fee[q] = HUGE_VAL;
}

/* Keeps, of each of `rows` rows, what is not gone. */
static void compact_rows(const struct row *t, double *a, int rows, const bool *drop)
{
    size_t at = 0;

    for (int i = 0; i < rows; i++)
        for (int j = 0; j < t->left && !(drop && drop[i]); j++)
            if (!t->gone[j])
                a[at++] = a[(size_t)i * (size_t)t->left + (size_t)j];
}

static void compact(struct row *t, int b)
{
    int left = 0;

    compact_rows(t, t->a, t->left, t->gone);
    compact_rows(t, t->v, b, NULL);
    for (int i = 0; i < t->left; i++)
        if (!t->gone[i]) {
            t->w[left] = t->w[i];
            t->fee[left] = t->fee[i];
            t->column[left++] = t->column[i];
        }
    t->left = left;
    for (int i = 0; i < left; i += PANEL) /* both triangles are alike */
        gemm_double(true, false, left - i < PANEL ? left - i : PANEL, left - i, b, -1, t->v + i, left, t->v + i, left, 1,
                    t->a + (size_t)i * (size_t)left + i, left);
    layerwise_mirror(t->a, left);
    for (int i = 0; i < left; i++) {
        t->diagonal[i] = t->a[(size_t)i * (size_t)left + (size_t)i];
        t->gone[i] = false;
    }
}

/* Removes n weights; trace may be NULL. */
static void run_row(struct row *t, const struct layerwise *l, int r, int n, struct step *trace)
{
    double highest = -1;
    int b = 0;

    row_start(t, l, r);
    for (int i = 0; i < n; i++) {
        int q = cheapest(t);

        highest = t->cost[q] > highest ? t->cost[q] : highest;
        if (trace)
            trace[i] = (struct step){ highest, t->column[q] };
        remove_weight(t, q, b++);
        note_removed(t, l, r, t->column[q]);
        if (b == BLOCK) {
            compact(t, b);
            b = 0;
        }
    }
}

static bool row_alloc(struct row *t, int n)
{
    size_t len = (size_t)n;

    t->a = mem_alloc(len * len * sizeof *t->a);
    t->v = mem_alloc(BLOCK * len * sizeof *t->v);
    t->w = mem_alloc(len * sizeof *t->w);
    t->diagonal = mem_alloc(len * sizeof *t->diagonal);
    t->fee = mem_alloc(len * sizeof *t->fee);
    t->cost = mem_alloc(len * sizeof *t->cost);
    t->column = mem_alloc(len * sizeof *t->column);
    t->gone = mem_alloc(len * sizeof *t->gone);
    t->spare = mem_alloc(len * sizeof *t->spare);
    return t->a && t->v && t->w && t->diagonal && t->fee && t->cost && t->column && t->gone && t->spare;
}

static void row_clear(struct row *t)
{
    mem_free(t->a);
    mem_free(t->v);
    mem_free(t->w);
    mem_free(t->diagonal);
    mem_free(t->fee);
    mem_free(t->cost);
    mem_free(t->column);
    mem_free(t->gone);
    mem_free(t->spare);
}

/* ---- all rows ---- */

enum { AT_ONCE = 8 }; /* rows, at most: each needs an A of its own */

struct obs {
    struct layerwise l;
    struct row *row;    /* n_at_once */
    int n_at_once, first, live; /* live: columns that are not dead, of the row that has most */
    struct step *trace; /* rows,live */
    int *count;         /* rows: steps of the trace that are done */
    int *steps;         /* rows: that there are */
    int *heap;          /* rows: the one whose next step is cheapest on top */
};

static void obs_clear(struct obs *o)
{
    for (int i = 0; o->row && i < o->n_at_once; i++)
        row_clear(&o->row[i]);
    mem_free(o->row);
    mem_free(o->trace);
    mem_free(o->count);
    mem_free(o->steps);
    mem_free(o->heap);
    layerwise_clear(&o->l);
}

static int live_columns(const struct layerwise *l, int r)
{
    const bool *dead = layerwise_dead(l, r);
    int n = 0;

    for (int j = 0; j < l->cols; j++)
        n += !dead[j];
    return n;
}

static enum err_code obs_init(struct obs *o, const struct crit_net *in, int w, struct err *e)
{
    const struct layerwise_conf conf = shared(in->conf);
    enum err_code rc = layerwise_init(&o->l, in, w, false, &conf, e);
    const struct layerwise *l = &o->l;
    bool ok;

    if (rc != ERR_OK)
        return rc;
    for (int r = 0; r < l->rows; r += l->group_rows)
        o->live = live_columns(l, r) > o->live ? live_columns(l, r) : o->live;
    o->n_at_once = team_size(in->team) < AT_ONCE ? team_size(in->team) : AT_ONCE;
    o->row = mem_zalloc((size_t)o->n_at_once, sizeof *o->row);
    o->trace = mem_alloc((size_t)l->rows * (size_t)o->live * sizeof *o->trace);
    o->count = mem_zalloc((size_t)l->rows, sizeof *o->count);
    o->steps = mem_zalloc((size_t)l->rows, sizeof *o->steps);
    o->heap = mem_alloc((size_t)l->rows * sizeof *o->heap);
    ok = o->row && o->trace && o->count && o->steps && o->heap;
    for (int i = 0; ok && i < o->n_at_once; i++)
        ok = row_alloc(&o->row[i], l->n);
    return ok ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

static enum err_code each_row(struct obs *o, const struct crit_net *in, void (*fn)(void *ctx, int tile), struct err *e)
{
    for (o->first = 0; o->first < o->l.rows; o->first += o->n_at_once) {
        if (in->stop && in->stop(in->user))
            return err_set(e, ERR_STOPPED, "stopped on request");
        team_for(in->team, o->l.rows - o->first < o->n_at_once ? o->l.rows - o->first : o->n_at_once, fn, o);
    }
    return ERR_OK;
}

/* What is masked, and what may go as well: of each row. */
static void count_steps(struct obs *o)
{
    const struct layerwise *l = &o->l;

    for (int r = 0; r < l->rows; r++) {
        o->steps[r] = l->runs.len > 0 ? 0 : live_columns(l, r);
        for (int j = 0; l->runs.len > 0 && j < l->cols; j++)
            o->steps[r] += !layerwise_dead(l, r)[j] && is_masked(l, r, j);
        for (int first = 0, end; l->runs.len > 0 && first < l->cols; first = end) {
            layerwise_run(l, first, &first, &end);
            o->steps[r] += layerwise_spare(l, r, first, end);
        }
    }
}

static struct step *trace_of(const struct obs *o, int r) { return o->trace + (size_t)r * (size_t)o->live; }

static void trace_tile(void *ctx, int tile)
{
    const struct obs *o = ctx;
    int r = o->first + tile;

    run_row(&o->row[tile], &o->l, r, o->steps[r], trace_of(o, r));
}

/* What stays of row r when the steps of its trace are done, at once; false: a pivot is not positive. */
static bool solve_kept(struct row *t, const struct layerwise *l, int r, const struct step *trace, int count)
{
    const double *h = layerwise_h(l, r), *w = l->w + (size_t)r * (size_t)l->n;
    size_t n = (size_t)l->n;

    memcpy(t->gone, layerwise_dead(l, r), n * sizeof *t->gone);
    for (int i = 0; i < count; i++)
        t->gone[trace[i].column] = true;
    t->left = 0;
    for (int j = 0; j < l->n; j++)
        if (!t->gone[j])
            t->column[t->left++] = j;
    for (int i = 0; i < t->left; i++) {
        size_t at = (size_t)t->column[i];

        for (int j = i; j < t->left; j++)
            t->a[(size_t)i * (size_t)t->left + (size_t)j] = h[at * n + (size_t)t->column[j]];
        t->w[i] = 0;
        for (int j = 0; j < count; j++) {
            size_t went = (size_t)trace[j].column;

            t->w[i] += (went < at ? h[went * n + at] : h[at * n + went]) * w[went];
        }
    }
    if (t->left == 0)
        return true;
    if (!cholesky(t->left, t->a))
        return false;
    cholesky_solve(t->left, t->a, t->w);
    for (int i = 0; i < t->left; i++)
        t->w[i] += w[t->column[i]];
    return true;
}

/* Whether that is less work than to go through the steps: left^3 / 3 against the rest of n^3 / 3, and a little more for either. */
static bool few_stay(int live, int count) { return 2 * pow(live - count, 3) < pow(live, 3); }

static void solve_tile(void *ctx, int tile)
{
    const struct obs *o = ctx;
    struct row *t = &o->row[tile];
    int r = o->first + tile;
    double *w = o->l.w + (size_t)r * (size_t)o->l.n;

    if (!few_stay(live_columns(&o->l, r), o->count[r]) || !solve_kept(t, &o->l, r, trace_of(o, r), o->count[r]))
        run_row(t, &o->l, r, o->count[r], NULL);
    for (int i = 0; i < t->left; i++)
        w[t->column[i]] = t->w[i];
    for (int i = 0; i < o->count[r]; i++)
        o->l.kernel->mask[(size_t)r * (size_t)o->l.cols + (size_t)trace_of(o, r)[i].column] = 0;
}

/* ---- which rows lose how many ---- */

static bool before(const struct obs *o, int a, int b)
{
    double x = o->count[a] < o->steps[a] ? trace_of(o, a)[o->count[a]].cost : HUGE_VAL;
    double y = o->count[b] < o->steps[b] ? trace_of(o, b)[o->count[b]].cost : HUGE_VAL;

    return x != y ? x < y : a < b;
}

static void sift_down(struct obs *o, int at)
{
    int *h = o->heap, child;

    while ((child = 2 * at + 1) < o->l.rows) {
        int row = h[at];

        if (child + 1 < o->l.rows && before(o, h[child + 1], h[child]))
            child++;
        if (!before(o, h[child], row))
            return;
        h[at] = h[child];
        h[child] = row;
        at = child;
    }
}

/* n more than what is masked already. */
static void deal_out(struct obs *o, uint64_t n)
{
    const struct layerwise *l = &o->l;

    for (int r = 0; r < l->rows; r++) {
        o->heap[r] = r;
        for (int j = 0; j < l->cols; j++)
            o->count[r] += !layerwise_dead(l, r)[j] && is_masked(l, r, j);
    }
    for (int at = l->rows / 2; at >= 0; at--)
        sift_down(o, at);
    for (; n > 0; n--) {
        o->count[o->heap[0]]++;
        sift_down(o, 0);
    }
}

static enum err_code obs_solve(const struct crit_net *in, int w, uint64_t n_masked, struct err *e)
{
    struct obs o = { 0 };
    enum err_code rc = obs_init(&o, in, w, e);

    if (rc == ERR_OK)
        n_masked = layerwise_mask_free(&o.l, n_masked);
    if (rc == ERR_OK && n_masked > 0) {
        count_steps(&o);
        rc = each_row(&o, in, trace_tile, e);
    }
    if (rc == ERR_OK && n_masked > 0) {
        deal_out(&o, n_masked);
        rc = each_row(&o, in, solve_tile, e);
    }
    if (rc == ERR_OK)
        rc = layerwise_store(&o.l, e);
    obs_clear(&o);
    return rc;
}

/* The score of a weight is what its step costs. */
static enum err_code score_kernel(const struct crit_net *in, int w, float *score, struct err *e)
{
    struct obs o = { 0 };
    enum err_code rc = obs_init(&o, in, w, e);

    o.l.runs = (struct unit_runs){ 0 }; /* what each would cost if any could go */
    if (rc == ERR_OK) {
        count_steps(&o);
        rc = each_row(&o, in, trace_tile, e);
    }
    memset(score, 0, in->net->weight[w].len * sizeof *score); /* dead inputs are in no trace */
    for (int r = 0; rc == ERR_OK && r < o.l.rows; r++)
        for (int i = 0; i < o.steps[r]; i++)
            score[(size_t)r * (size_t)o.l.cols + (size_t)trace_of(&o, r)[i].column] = (float)trace_of(&o, r)[i].cost;
    obs_clear(&o);
    return rc;
}

static enum err_code obs_score(const struct crit_net *in, float *const *score, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (int i = 0; i < in->net->n_weights && rc == ERR_OK; i++)
        if (score[i])
            rc = score_kernel(in, i, score[i], e);
    return rc;
}

static enum err_code obs_check(const void *conf, const struct net *net, int w, struct err *e)
{
    const struct obs_conf *c = conf;
    const struct conv g = patch_shape(net, w);
    double macs = g.o * pow(patch_columns(&g), 3);

    if (macs > c->max_macs)
        return err_field(e, ERR_INVALID, "/max_macs", "layer %s has %d rows of %d columns: rows times columns^3 is %.3g; sparsegpt is cheaper",
                         net->node[net->weight[w].node].layer, g.o, patch_columns(&g), macs);
    return ERR_OK;
}

static uint64_t obs_memory(const struct net *net, const void *conf)
{
    const struct layerwise_conf c = shared(conf);
    uint64_t most = 0;

    for (int i = 0; i < net->n_weights; i++) {
        const struct op_weight *info = &net->weight[i].info;
        uint64_t rows = (uint64_t)info->shape.d[0], n = shape_len(&info->shape) / rows + 1, at_once = rows < AT_ONCE ? rows : AT_ONCE;
        uint64_t bytes = info->prunable ? at_once * n * 8 * (n + BLOCK + 7) + rows * n * sizeof(struct step) : 0;

        most = bytes > most ? bytes : most;
    }
    return most + layerwise_memory(net, &c);
}

const struct criterion crit_obs = {
    .plug = { "obs", "Layerwise optimal brain surgeon, exact: weight by weight, with repair of what stays (Hassibi & Stork 1993; ExactOBS: Frantar et al. 2022).",
              obs_params, sizeof(struct obs_conf) },
    .samples = true, .check = obs_check, .score_net = obs_score, .solve = obs_solve, .memory = obs_memory
};
