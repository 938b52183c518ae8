/* core/prune_neuron.c: unit neuron (see prune_impl.h): what is a layer of neurons, how many go, and what falls with them.
 *
 * A layer here is a bundle of neurons, counted in neurons. What a neuron weighs is what its kernels lose with it: a kernel of r rows and c columns
 * of which a rows and b columns go keeps (r - a)(c - b). So counts of neurons say exactly how many weights and multiply-adds are left. */
#include "core/prune_impl.h"

#include <fnmatch.h>
#include <float.h>
#include <string.h>

#include "core/mem.h"

static const struct bundle *bundle_of(const struct pruner *p, const struct layer *l) { return &p->bundles.bundle[l->bundle]; }

/* ---- layers ---- */

static bool all_zero(const struct weight *w, struct group_slice s)
{
    for (int k = 0; k < s.n; k++)
        for (size_t i = 0; i < s.len; i++)
            if (w->x[s.first + (size_t)k * s.stride + i] != 0)
                return false;
    return true;
}

static bool all_masked(const struct weight *w, struct group_slice s)
{
    for (int k = 0; k < s.n && w->mask; k++)
        for (size_t i = 0; i < s.len; i++)
            if (w->mask[s.first + (size_t)k * s.stride + i])
                return false;
    return w->mask;
}

/* KEY_GOES: all that makes and reads neuron j is masked; KEY_DEAD: is zero; KEY_STAYS: neither. */
static uint32_t state_of(const struct net *net, const struct bundle *b, int j)
{
    uint32_t state = KEY_GOES;

    for (int m = 0; m < b->n_members && state != KEY_STAYS; m++) {
        const struct weight *w = &net->weight[b->member[m].w];
        struct group_slice s;

        if (!w->info.prunable)
            continue;
        s = group_slice(w, &b->member[m], j);
        if (!all_masked(w, s))
            state = all_zero(w, s) ? KEY_DEAD : KEY_STAYS;
    }
    return state;
}

static void find_kernels(struct pruner *p, const struct net *net)
{
    for (int i = 0; i < net->n_weights; i++) {
        const struct weight *w = &net->weight[i];
        struct kernel *k = &p->kernel[i];

        if (!w->info.prunable)
            continue;
        *k = (struct kernel){ (uint64_t)w->info.shape.d[0], (uint64_t)w->info.shape.d[1], 0, 0 };
        k->weights = w->len / (k->rows * k->columns);
        k->each = p->conf.measure == MEASURE_MACS ? k->weights * weight_macs(net, w) : k->weights;
        p->whole += k->rows * k->columns * k->each;
    }
}

enum err_code neuron_layers_find(struct pruner *p, const struct net *net, struct err *e)
{
    p->n_weights = net->n_weights;
    p->kernel = mem_zalloc((size_t)net->n_weights, sizeof *p->kernel);
    if (!p->kernel)
        return err_set(e, ERR_NOMEM, "out of memory");
    find_kernels(p, net);
    for (int i = 0; i < p->bundles.n; i++) {
        const struct bundle *b = &p->bundles.bundle[i];
        struct layer *l = &p->layer[p->n_layers];
        int m = 0;

        while (m < b->n_members && !(b->member[m].role == GROUP_MAKES && net->weight[b->member[m].w].info.prunable))
            m++;
        if (b->fixed || m == b->n_members)
            continue;
        *l = (struct layer){ .w = b->member[m].w, .bundle = i, .n_units = (size_t)b->n, .each = 1 };
        prune_layer_add(p, net, l);
        for (int j = 0; j < b->n; j++)
            l->gone_at_start += state_of(net, b, j) != KEY_STAYS;
        p->n_layers++;
    }
    return p->n_layers > 0 ? ERR_OK : err_field(e, ERR_INVALID, "/unit", "the model has no neurons that can go: all reach its output");
}

bool neuron_layer_matches(const struct pruner *p, const struct net *net, const struct layer *l, const char *pattern)
{
    const struct bundle *b = bundle_of(p, l);

    for (int m = 0; m < b->n_members; m++)
        if (b->member[m].role == GROUP_MAKES && fnmatch(pattern, net->node[net->weight[b->member[m].w].node].layer, 0) == 0)
            return true;
    return false;
}

/* ---- how many ---- */

struct size { uint64_t rows, columns; };

static struct size kernel_size(const struct pruner *p, int w, const uint64_t *count)
{
    struct size left = { p->kernel[w].rows, p->kernel[w].columns };

    for (int l = 0; l < p->n_layers; l++) {
        const struct bundle *b = bundle_of(p, &p->layer[l]);

        for (int m = 0; m < b->n_members; m++)
            if (b->member[m].w == w)
                *(b->member[m].axis == 0 ? &left.rows : &left.columns) -= (count ? count[l] : p->layer[l].gone_at_start) * (uint64_t)b->member[m].run;
    }
    return left;
}

static uint64_t kernel_left(const struct pruner *p, int w, const uint64_t *count)
{
    struct size left = kernel_size(p, w, count);

    return left.rows * left.columns;
}

uint64_t neuron_kernel_gone(const struct pruner *p, int w, const uint64_t *count)
{
    const struct kernel *k = &p->kernel[w];

    return k->rows > 0 ? (k->rows * k->columns - kernel_left(p, w, count)) * k->weights : 0;
}

uint64_t neuron_gone(const struct pruner *p, const uint64_t *count)
{
    uint64_t left = 0;

    for (int w = 0; w < p->n_weights; w++)
        left += p->kernel[w].rows > 0 ? kernel_left(p, w, count) * p->kernel[w].each : 0;
    return p->whole - left;
}

double neuron_target(const struct pruner *p, int64_t i)
{
    return prune_share_at(p, (double)neuron_gone(p, NULL) / (double)p->whole, p->group[0].target, i);
}

/* How k neurons of the shared group fall on its layers: by keys, or divided. */
struct search {
    const struct pruner *p;
    int64_t i;
    const uint32_t *key; /* NULL: divided */
    uint32_t *work;
    uint64_t *count;
};

static void count_by_keys(const struct search *s, uint64_t k)
{
    const struct pruner *p = s->p;
    struct span all = { s->work, p->n_units, NULL, 1 };

    memcpy(s->work, s->key, p->n_units * sizeof *s->work);
    for (int l = 0; l < p->n_layers; l++)
        for (size_t u = 0; u < p->layer[l].n_units && p->layer[l].group != 0; u++)
            s->work[p->layer[l].offset + u] = KEY_STAYS;
    select_smallest(&all, 1, k);
    for (int l = 0; l < p->n_layers; l++) {
        if (p->layer[l].group != 0)
            continue;
        s->count[l] = 0;
        for (size_t u = 0; u < p->layer[l].n_units; u++)
            s->count[l] += s->work[p->layer[l].offset + u] == KEY_GOES;
    }
}

static uint64_t gone_with(const struct search *s, uint64_t k)
{
    if (s->key)
        count_by_keys(s, k);
    else
        group_divide(s->p, 0, s->i, k, s->count);
    for (int l = 0; l < s->p->n_layers; l++)
        if (s->p->layer[l].group == 0)
            s->count[l] = neuron_multiple_of(s->p, &s->p->layer[l], s->i, s->count[l]);
    return neuron_gone(s->p, s->count);
}

uint64_t neuron_multiple_of(const struct pruner *p, const struct layer *l, int64_t i, uint64_t count)
{
    const uint64_t of = (uint64_t)p->unit->multiple(p->conf.unit.conf), n = l->n_units;
    const uint64_t stay = (n - count + of - 1) / of * of, least = layer_least(p, l, i);
    uint64_t must = least > l->gone_at_start ? least : l->gone_at_start, left;

    if (of == 1 || (stay < n ? n - stay : 0) >= must)
        return stay < n ? n - stay : 0;
    left = (n - must) / of * of;
    return left > 0 && n - left <= l->cap ? n - left : count;
}

/* The number of neurons with which what goes comes nearest to the target: by bisection, since more neurons never take less. */
static void search(const struct search *s)
{
    const struct pruner *p = s->p;
    uint64_t aim = pruner_count(p, s->i), low = group_least(p, 0, s->i), high = p->group[0].cap, least = low;

    for (int l = 0; l < p->n_layers; l++)
        if (p->layer[l].group != 0)
            s->count[l] = p->layer[l].group == IGNORED ? p->layer[l].gone_at_start : group_count(p, p->layer[l].group, s->i);
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;

        if (gone_with(s, mid) >= aim)
            high = mid;
        else
            low = mid + 1;
    }
    if (low > least) {
        uint64_t over = gone_with(s, low), under = gone_with(s, low - 1);

        if (over > aim && aim - under < over - aim)
            low--;
    }
    gone_with(s, low);
}

void neuron_divide(const struct pruner *p, int64_t i, uint64_t *count) { search(&(struct search){ p, i, NULL, NULL, count }); }

void neuron_compete(const struct pruner *p, int64_t i, const uint32_t *key, uint32_t *work, uint64_t *count)
{
    search(&(struct search){ p, i, key, work, count });
}

/* ---- keys ---- */

/* Mean, sum or largest of the scores of the weights that make neuron j, those of zeros counted as 0. */
static enum err_code pool_scores(const struct pruner *p, const struct net *net, const struct bundle *b, int j, float *const *of, double *score,
                                 struct err *e)
{
    enum unit_pool pool = p->unit->pool(p->conf.unit.conf);
    double sum = 0, largest = -HUGE_VAL;
    size_t n = 0;

    for (int m = 0; m < b->n_members; m++) {
        const struct weight *w = &net->weight[b->member[m].w];
        struct group_slice s;

        if (b->member[m].role != GROUP_MAKES || !w->info.prunable)
            continue;
        s = group_slice(w, &b->member[m], j);
        for (size_t k = s.first; k < s.first + s.len; k++, n++) { /* rows: one run */
            double x = w->x[k] != 0 ? (double)of[b->member[m].w][k] : 0;

            if (!isfinite(x))
                return err_set(e, ERR_DIVERGED, "score %zu of %s is not finite", k, w->name);
            sum += x;
            largest = fmax(largest, x);
        }
    }
    *score = pool == POOL_MAX ? largest : pool == POOL_MEAN ? sum / (double)n : sum;
    return ERR_OK;
}

/* What goes with one neuron of a layer of which, and of the others, so many are gone; at least 1. A number that a convolution or a dense layer puts
 * out takes as long as OUTPUT_MACS multiply-adds, with what is behind it: so tests/bench/bench_shrink finds it for ResNet-20, training and inference,
 * at batch 128. */
static double cost_of(const struct pruner *p, const struct net *net, const struct layer *l, const uint64_t *gone)
{
    enum { OUTPUT_MACS = 200 };
    const enum unit_cost kind = p->unit->cost(p->conf.unit.conf);
    const struct bundle *b = bundle_of(p, l);
    double cost = 0;

    if (kind == COST_NONE)
        return 1;
    for (const struct group_member *m = b->member; m < b->member + b->n_members; m++) {
        const struct weight *w = &net->weight[m->w];
        struct size left;
        double macs;

        if (!w->info.prunable)
            continue;
        left = kernel_size(p, m->w, gone);
        macs = kind == COST_WEIGHTS ? 1 : (double)weight_macs(net, w);
        cost += macs * m->run * (double)p->kernel[m->w].weights * (double)(m->axis == 0 ? left.columns : left.rows);
        if (kind == COST_TIME && m->role == GROUP_MAKES)
            cost += macs * m->run * OUTPUT_MACS;
    }
    return fmax(cost, 1);
}

static enum err_code layer_keys(const struct pruner *p, const struct net *net, const struct layer *l, const float *neurons, float *const *of, double cost,
                                uint32_t *key, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (int j = 0; j < (int)l->n_units && rc == ERR_OK; j++) {
        double score = 0;

        if (key[j] != KEY_STAYS)
            continue;
        if (neurons)
            score = (double)neurons[j];
        else
            rc = pool_scores(p, net, bundle_of(p, l), j, of, &score, e);
        if (rc == ERR_OK && !isfinite(score))
            rc = err_set(e, ERR_DIVERGED, "score of neuron %d of %s is not finite", j, layer_name(net, l));
        score = score < 0 ? score * cost : score / cost; /* the dearest first, in either case */
        key[j] = order_key((float)fmin(fmax(score, -FLT_MAX), FLT_MAX));
    }
    return rc;
}

enum err_code neuron_keys(const struct pruner *p, const struct net *net, float *const *neurons, float *const *of, uint32_t *key, uint64_t *gone,
                          struct err *e)
{
    enum err_code rc = ERR_OK;

    for (int l = 0; l < p->n_layers; l++) {
        gone[l] = 0;
        for (size_t j = 0; j < p->layer[l].n_units; j++) {
            key[p->layer[l].offset + j] = state_of(net, bundle_of(p, &p->layer[l]), (int)j);
            gone[l] += key[p->layer[l].offset + j] != KEY_STAYS;
        }
    }
    for (int l = 0; l < p->n_layers && rc == ERR_OK; l++)
        if (p->layer[l].group != IGNORED)
            rc = layer_keys(p, net, &p->layer[l], neurons ? neurons[p->layer[l].bundle] : NULL, of, cost_of(p, net, &p->layer[l], gone),
                            key + p->layer[l].offset, e);
    return rc;
}

/* ---- masks ---- */

static void drop(struct net *net, const struct bundle *b, int j)
{
    for (int m = 0; m < b->n_members; m++) {
        struct weight *w = &net->weight[b->member[m].w];
        struct group_slice s = group_slice(w, &b->member[m], j);

        for (int k = 0; k < s.n; k++)
            for (size_t i = s.first + (size_t)k * s.stride; i < s.first + (size_t)k * s.stride + s.len; i++) {
                if (w->info.prunable)
                    w->mask[i] = 0;
                if (w->info.trainable)
                    w->x[i] = 0;
            }
    }
}

void neuron_mask(const struct pruner *p, struct net *net, const uint32_t *key)
{
    for (int l = 0; l < p->n_layers; l++)
        for (size_t j = 0; j < p->layer[l].n_units && p->layer[l].group != IGNORED; j++)
            if (key[p->layer[l].offset + j] != KEY_STAYS)
                drop(net, bundle_of(p, &p->layer[l]), (int)j);
}
