/* core/prune_plan.c: how much goes, when and where, as far as that can be said before anything is scored. */
#include "core/prune_impl.h"

#include "core/mem.h"

/* ---- how much ---- */

double prune_share_at(const struct pruner *p, double start, double target, int64_t i)
{
    const struct schedule *s = schedule_of(p->conf.schedule.plug);

    if (isnan(p->aim) ? i >= p->conf.iterations : p->aim >= 1)
        return target;
    if (!isnan(p->aim))
        return start < target ? start + (target - start) * p->aim : target;
    return s->at(p->conf.schedule.conf, fmin(start, target), target, (double)i / (double)p->conf.iterations);
}

void pruner_aim(struct pruner *p, double share) { p->aim = share; }

static double group_sparsity(const struct pruner *p, int g, int64_t i)
{
    const struct group *group = &p->group[g];
    uint64_t gone = 0;

    for (int l = 0; l < p->n_layers; l++)
        gone += p->layer[l].group == g ? p->layer[l].gone_at_start : 0;
    return prune_share_at(p, group->amount > 0 ? (double)gone / (double)group->amount : 0, group->target, i);
}

/* In whole units of q each. */
static uint64_t nearest(double share, uint64_t amount, uint64_t q) { return q * (uint64_t)floor(share * (double)amount / (double)q + 0.5); }

uint64_t layer_least(const struct pruner *p, const struct layer *l, int64_t i)
{
    uint64_t q = layer_quantum(l), least;

    if (isnan(l->min))
        return 0;
    least = q * (uint64_t)ceil(prune_share_at(p, (double)l->gone_at_start / (double)l->amount, l->min, i) * (double)l->amount / (double)q - 1e-6);
    return least < l->cap ? least : l->cap;
}

uint64_t group_least(const struct pruner *p, int g, int64_t i)
{
    uint64_t least = 0;

    for (int l = 0; l < p->n_layers; l++)
        least += p->layer[l].group == g ? layer_least(p, &p->layer[l], i) : 0;
    return least;
}

uint64_t group_count(const struct pruner *p, int g, int64_t i)
{
    const struct group *group = &p->group[g];
    uint64_t k = group->amount > 0 ? nearest(group_sparsity(p, g, i), group->amount, group->quantum) : 0, least = group_least(p, g, i);

    k = k > least ? k : least;
    k = k < group->cap ? k : group->cap;
    for (int l = 0; l < p->n_layers && p->unit->neurons && g > 0; l++) /* a layer with a target of its own */
        k = p->layer[l].group == g ? neuron_multiple_of(p, &p->layer[l], i, k) : k;
    return k;
}

double pruner_target(const struct pruner *p, int64_t i)
{
    double sum = 0;

    if (neurons_are_searched(p, 0))
        return neuron_target(p, i);
    for (int g = 0; g < p->n_groups; g++)
        sum += group_sparsity(p, g, i) * ((double)p->group[g].amount / (double)p->amount);
    return sum;
}

uint64_t pruner_count(const struct pruner *p, int64_t i)
{
    uint64_t sum = 0;

    if (neurons_are_searched(p, 0))
        return nearest(neuron_target(p, i), p->whole, 1);
    for (int g = 0; g < p->n_groups; g++)
        sum += group_count(p, g, i);
    return sum;
}

/* ---- where: a group's count divided among its layers ---- */

struct division {
    const struct pruner *p;
    int g;
    int64_t i;
};

/* What goes of a layer when densities are `scale` times the scope's. */
static uint64_t layer_count(const struct division *d, const struct layer *l, double scale)
{
    double density = scale * l->density;
    uint64_t k = density < 1 ? nearest(1 - density, l->amount, layer_quantum(l)) : 0, least = layer_least(d->p, l, d->i);

    k = k > least ? k : least;
    return k < l->cap ? k : l->cap;
}

static uint64_t total_at(const struct division *d, double scale)
{
    uint64_t sum = 0;

    for (int l = 0; l < d->p->n_layers; l++)
        sum += d->p->layer[l].group == d->g ? layer_count(d, &d->p->layer[l], scale) : 0;
    return sum;
}

/* The smallest scale at which no more than k goes, by bisection; *below: the largest known at which more goes. */
static double find_scale(const struct division *d, uint64_t k, double *below)
{
    double low = 0, high = 1;

    *below = 0;
    if (total_at(d, 0) <= k)
        return 0;
    for (int l = 0; l < d->p->n_layers; l++)
        high = d->p->layer[l].group == d->g ? fmax(high, 1 / d->p->layer[l].density) : high;
    for (int step = 0; step < 80; step++) {
        double mid = low + (high - low) / 2;

        if (total_at(d, mid) <= k)
            high = mid;
        else
            low = mid;
    }
    *below = low;
    return high;
}

/* Each layer gets its density, to the nearest integer of whole units, such that the sum is k: the method of Webster, with bounds. Layers that round at the
 * same scale get theirs in order. Never falls, for any layer, when k grows. With one density for all, all get the same share; with those of
 * Erdos-Renyi this is what freezing too dense layers one after another comes to. */
void group_divide(const struct pruner *p, int g, int64_t i, uint64_t k, uint64_t *count)
{
    struct division d = { p, g, i };
    uint64_t left = k;
    double below, scale = find_scale(&d, k, &below);

    for (int l = 0; l < p->n_layers; l++)
        if (p->layer[l].group == g)
            left -= count[l] = layer_count(&d, &p->layer[l], scale);
    for (int l = 0; l < p->n_layers; l++) {
        uint64_t q = layer_quantum(&p->layer[l]);

        if (p->layer[l].group == g && left >= q && layer_count(&d, &p->layer[l], below) > count[l]) {
            count[l] += q;
            left -= q;
        }
    }
}

/* ---- the plan, layer by layer ---- */

enum { UNKNOWN = -1 };

/* Amount that iteration i will have taken of each layer that is pruned, into count. false: layers compete, so the scores decide. */
static bool plan_group(const struct pruner *p, int g, int64_t i, uint64_t *count)
{
    uint64_t k = group_count(p, g, i);
    bool all = k == p->group[g].cap && !neurons_are_searched(p, g);
    int n = 0;

    for (int l = 0; l < p->n_layers; l++)
        n += p->layer[l].group == g;
    if (n > 1 && !all && !p->scope->density)
        return false;
    if (n > 1 && !all)
        group_divide(p, g, i, k, count);
    for (int l = 0; l < p->n_layers && (n == 1 || all); l++)
        if (p->layer[l].group == g)
            count[l] = all ? p->layer[l].cap : k;
    return true;
}

/* known[l]: whether the plan says what goes of layer l. */
static void plan_counts(const struct pruner *p, int64_t i, uint64_t *count, bool *known)
{
    for (int l = 0; l < p->n_layers; l++) {
        count[l] = p->layer[l].gone_at_start;
        known[l] = true;
    }
    if (neurons_are_searched(p, 0) && p->scope->density) {
        neuron_divide(p, i, count);
        return;
    }
    for (int g = 0; g < p->n_groups; g++) {
        bool is = !neurons_are_searched(p, g) && plan_group(p, g, i, count);

        for (int l = 0; l < p->n_layers; l++)
            if (p->layer[l].group == g)
                known[l] = is;
    }
}

/* Weights of the layer's kernel that will be masked; UNKNOWN. */
static json_int_t planned_weights(const struct pruner *p, int l, const uint64_t *count, const bool *known)
{
    const struct layer *at = &p->layer[l];

    for (int k = 0; k < p->n_layers && p->unit->neurons; k++)
        if (!known[k])
            return UNKNOWN;
    if (p->unit->neurons)
        return (json_int_t)neuron_kernel_gone(p, at->w, count);
    return known[l] && at->unit_weights > 0 ? (json_int_t)(count[l] / at->each * at->unit_weights) : UNKNOWN;
}

/* ---- as JSON ---- */

json_t *pruner_describe_layers(const struct pruner *p, const struct net *net)
{
    json_t *list = json_array();

    for (int i = 0; i < p->n_layers; i++) {
        const struct layer *l = &p->layer[i];

        if (json_array_append_new(list, json_pack("{s:s,s:o,s:I,s:I,s:b}", "name", layer_name(net, l), "shape", shape_json(&net->weight[l->w].info.shape),
                                                  "weights", (json_int_t)net->weight[l->w].len, "units", (json_int_t)l->n_units, "ignored",
                                                  l->group == IGNORED)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* *all: weights of the layers that are pruned that will be masked; UNKNOWN. */
static json_t *plan_layers(const struct pruner *p, const struct net *net, const uint64_t *count, const bool *known, json_int_t *all)
{
    json_t *list = json_array();

    *all = 0;
    for (int l = 0; list && l < p->n_layers; l++) {
        const struct layer *at = &p->layer[l];
        json_int_t len = (json_int_t)net->weight[at->w].len, masked = planned_weights(p, l, count, known);
        json_t *o = masked != UNKNOWN ? json_pack("{s:s,s:I,s:f}", "name", layer_name(net, at), "nonzero", len - masked, "sparsity",
                                                  (double)masked / (double)len)
                                      : json_pack("{s:s,s:n,s:n}", "name", layer_name(net, at), "nonzero", "sparsity");

        *all = masked == UNKNOWN || *all == UNKNOWN ? UNKNOWN : *all + (at->group == IGNORED ? 0 : masked);
        if (json_array_append_new(list, o) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* Share by the measure and weights that are masked in all; UNKNOWN. */
static double plan_whole(const struct pruner *p, int64_t i, const uint64_t *count, const bool *known, json_int_t *masked)
{
    bool all = true;

    for (int l = 0; l < p->n_layers; l++)
        all = all && known[l];
    if (p->unit->neurons) {
        *masked = all ? 0 : UNKNOWN;
        for (int w = 0; w < p->n_weights && all; w++)
            *masked += (json_int_t)neuron_kernel_gone(p, w, count);
    } else if (p->conf.measure == MEASURE_WEIGHTS)
        *masked = (json_int_t)pruner_count(p, i);
    if (!neurons_are_searched(p, 0))
        return (double)pruner_count(p, i) / (double)p->amount;
    return all ? (double)neuron_gone(p, count) / (double)p->whole : UNKNOWN;
}

json_t *pruner_plan(const struct pruner *p, const struct net *net, int64_t i)
{
    uint64_t *count = mem_zalloc((size_t)p->n_layers, sizeof *count);
    bool *known = mem_zalloc((size_t)p->n_layers, sizeof *known);
    json_t *plan = NULL, *layers;
    json_int_t masked;
    double share;

    if (count && known) {
        plan_counts(p, i, count, known);
        layers = plan_layers(p, net, count, known, &masked);
        share = plan_whole(p, i, count, known, &masked);
        plan = json_pack("{s:I,s:f,s:o,s:o,s:o}", "iteration", (json_int_t)i, "target_sparsity", pruner_target(p, i), "sparsity",
                         share == UNKNOWN ? json_null() : json_real(share), "nonzero",
                         masked == UNKNOWN ? json_null() : json_integer((json_int_t)p->weights - masked), "layers", layers);
    }
    mem_free(count);
    mem_free(known);
    return plan;
}
