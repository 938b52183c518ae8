/* core/prune_rules.c: what can be asked for, and what it means for each layer of a net. */
#include "core/prune_impl.h"

#include <fnmatch.h>
#include <stdio.h>

#include "core/mem.h"

static const struct param rule_params[] = {
    FIELD_TEXT(struct prune_rule, layer, NULL, "Name of a layer, or a pattern with * and ?."),
    FIELD_BOOL(struct prune_rule, ignore, 0, "Never pruned."),
    FIELD_REAL(struct prune_rule, target_sparsity, 0, 1, PARAM_NONE, "Target of this layer alone, by the same schedule."),
    FIELD_REAL(struct prune_rule, min_sparsity, 0, 1, PARAM_NONE, "The layer gets at least this sparse, by the same schedule."),
    FIELD_REAL(struct prune_rule, max_sparsity, 0, 1, PARAM_NONE, "The layer never gets sparser than this."), FIELD_END
};
const struct param prune_params[] = {
    FIELD_PLUG(struct prune_conf, criterion, &criterion_table, "magnitude", "What scores the weights."),
    FIELD_PLUG(struct prune_conf, unit, &unit_table, "weight", "What falls together."),
    FIELD_PLUG(struct prune_conf, scope, &scope_table, "global", "Whether units compete over all layers, or how the target is divided among layers."),
    FIELD_PLUG(struct prune_conf, schedule, &schedule_table, "cubic", "How much of the target at which iteration."),
    FIELD_CHOICE(struct prune_conf, measure, "weights|units|macs", MEASURE_WEIGHTS,
                 "What sparsities here are shares of: weights, units, or multiply-adds per sample."),
    FIELD_INT(struct prune_conf, iterations, 1, 1000, 10, "Rounds of pruning and retraining."),
    FIELD_REAL(struct prune_conf, target_sparsity, 0, 1, 0.95,
               "Share of what can be pruned, rules' layers taken out, that is zero in the end. Unit n:m: n and m say it instead."),
    FIELD_PLUG(struct prune_conf, rewind, &rewind_table, "none", "What retraining starts from."),
    FIELD_PLUG(struct prune_conf, regrow, &regrow_table, "none", "How weights come back while the net is retrained."),
    FIELD_INT(struct prune_conf, min_units, 1, 1000000, 1, "Units that every layer keeps at least."),
    FIELD_LIST(struct prune_conf, layers, n_layers, rule_params, "Rules for single layers; the first that matches counts."), FIELD_END
};

/* ---- are the rules sound? ---- */

static enum err_code rule_error(struct err *e, int i, const char *field, const char *msg)
{
    char at[64];

    snprintf(at, sizeof at, "/layers/%d/%s", i, field);
    return err_field(e, ERR_INVALID, at, "%s", msg);
}

static enum err_code check_bounds(const struct pruner *p, int i, struct err *e)
{
    const struct prune_rule *r = &p->conf.layers[i];
    bool says = !(isnan(r->target_sparsity) && isnan(r->min_sparsity) && isnan(r->max_sparsity));

    if (!r->ignore && !says)
        return rule_error(e, i, "layer", "the rule says nothing: give ignore, target_sparsity, min_sparsity or max_sparsity");
    if (r->ignore && says)
        return rule_error(e, i, "ignore", "an ignored layer has neither target nor bound");
    if (says && p->unit->implied)
        return rule_error(e, i, "layer", "the unit says how sparse a layer gets: a rule can only ignore it");
    if (r->target_sparsity > r->max_sparsity)
        return rule_error(e, i, "target_sparsity", "must not be above max_sparsity");
    if (r->min_sparsity > r->max_sparsity)
        return rule_error(e, i, "min_sparsity", "must not be above max_sparsity");
    if (r->min_sparsity > r->target_sparsity)
        return rule_error(e, i, "min_sparsity", "must not be above target_sparsity");
    return ERR_OK;
}

static bool matches(const struct pruner *p, const struct net *net, const struct layer *l, int rule)
{
    const char *pattern = p->conf.layers[rule].layer;

    return p->unit->neurons ? neuron_layer_matches(p, net, l, pattern) : fnmatch(pattern, layer_name(net, l), 0) == 0;
}

static enum err_code check_rules(const struct pruner *p, const struct net *net, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (int i = 0; i < p->conf.n_layers && rc == ERR_OK; i++) {
        int n = 0, taken = 0;

        for (int l = 0; l < p->n_layers; l++) {
            int before = 0;

            if (!matches(p, net, &p->layer[l], i))
                continue;
            while (before < i && !matches(p, net, &p->layer[l], before))
                before++;
            n++;
            taken += before < i;
        }
        if (n == 0)
            return rule_error(e, i, "layer", p->unit->neurons ? "matches no layer with neurons that can go" : "matches no layer with prunable weights");
        if (taken == n)
            return rule_error(e, i, "layer", "every layer that it matches is taken by a rule before it");
        rc = check_bounds(p, i, e);
    }
    return rc;
}

/* ---- layers ---- */

/* Weights of each unit, and whether they differ. */
static enum err_code measure_units(const struct pruner *p, struct layer *l, uint64_t per_weight, struct err *e)
{
    bool same = true;

    l->each = p->conf.measure == MEASURE_UNITS ? 1 : per_weight;
    l->unit_weights = 1;
    if (!p->unit->unit_at)
        return ERR_OK;
    l->size = mem_zalloc(l->n_units, sizeof *l->size);
    if (!l->size)
        return err_set(e, ERR_NOMEM, "out of memory");
    for (size_t k = 0; k < l->weights; k++)
        l->size[layer_unit_at(p, l, k)]++;
    for (size_t u = 1; u < l->n_units; u++)
        same = same && l->size[u] == l->size[0];
    l->unit_weights = same ? l->size[0] : 0;
    if (!same && p->conf.measure != MEASURE_UNITS)
        return ERR_OK;
    l->each *= p->conf.measure == MEASURE_UNITS ? 1 : l->unit_weights;
    mem_free(l->size);
    l->size = NULL;
    return ERR_OK;
}

static enum err_code count_gone(const struct pruner *p, struct layer *l, const float *x, struct err *e)
{
    uint8_t *alive = mem_zalloc(l->n_units, 1);

    if (!alive)
        return err_set(e, ERR_NOMEM, "out of memory");
    for (size_t k = 0; k < l->weights; k++)
        alive[layer_unit_at(p, l, k)] |= x[k] != 0;
    for (size_t u = 0; u < l->n_units; u++)
        l->gone_at_start += alive[u] ? 0 : layer_amount(l, u);
    mem_free(alive);
    return ERR_OK;
}

static uint64_t largest_unit(const struct layer *l)
{
    uint64_t largest = 0;

    for (size_t u = 0; u < l->n_units; u++)
        largest = layer_amount(l, u) > largest ? layer_amount(l, u) : largest;
    return largest;
}

void prune_layer_add(struct pruner *p, const struct net *net, struct layer *l)
{
    uint64_t kept = (uint64_t)p->conf.min_units * largest_unit(l);

    l->offset = p->n_units;
    l->min = NAN;
    l->density = p->scope->density ? p->scope->density(&net->weight[l->w].info.shape) : 0;
    for (size_t u = 0; u < l->n_units; u++)
        l->amount += layer_amount(l, u);
    l->cap = l->amount > kept ? l->amount - kept : 0;
    p->n_units += l->n_units;
    p->amount += l->amount;
    p->most_units = l->n_units > p->most_units ? l->n_units : p->most_units;
}

static enum err_code add_kernel(struct pruner *p, const struct net *net, int i, struct err *e)
{
    const struct weight *w = &net->weight[i];
    struct layer *l = &p->layer[p->n_layers++];
    uint64_t per_weight = p->conf.measure == MEASURE_MACS ? weight_macs(net, w) : 1, most;
    enum err_code rc;

    *l = (struct layer){ .w = i, .weights = w->len };
    l->rows = w->info.shape.n_d >= 2 ? (size_t)w->info.shape.d[0] : 1;
    l->columns = w->len / l->rows;
    l->n_units = p->unit->n_units ? p->unit->n_units(p->conf.unit.conf, l->rows, l->columns) : w->len;
    rc = measure_units(p, l, per_weight > 0 ? per_weight : 1, e);
    if (rc != ERR_OK)
        return rc;
    prune_layer_add(p, net, l);
    most = p->unit->most ? p->unit->most(p->conf.unit.conf, l->rows, l->columns) * l->each : l->cap;
    l->cap = most < l->cap ? most : l->cap;
    return count_gone(p, l, w->x, e);
}

static enum err_code find_kernels(struct pruner *p, const struct net *net, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (int i = 0; i < net->n_weights && rc == ERR_OK; i++)
        if (net->weight[i].info.prunable)
            rc = add_kernel(p, net, i, e);
    return rc == ERR_OK && p->n_layers == 0 ? err_set(e, ERR_INVALID, "the model has no prunable weights") : rc;
}

/* ---- groups ---- */

/* The largest number of whole units not above share * amount, forgiving what rounding took from an exact product. */
static uint64_t bound(double share, const struct layer *l)
{
    uint64_t q = layer_quantum(l);

    return q * (uint64_t)floor(share * (double)l->amount / (double)q + 1e-6);
}

static void place_layer(struct pruner *p, const struct net *net, struct layer *l)
{
    const struct prune_rule *r = p->conf.layers, *end = r + p->conf.n_layers;
    struct group *g;

    while (r < end && !matches(p, net, l, (int)(r - p->conf.layers)))
        r++;
    if (r < end && r->ignore) {
        l->group = IGNORED;
        return;
    }
    if (r < end && !isnan(r->target_sparsity)) {
        l->group = p->n_groups++;
        p->group[l->group].target = r->target_sparsity;
    }
    if (r < end && !isnan(r->max_sparsity) && bound(r->max_sparsity, l) < l->cap)
        l->cap = bound(r->max_sparsity, l);
    if (r < end)
        l->min = r->min_sparsity;
    g = &p->group[l->group];
    g->quantum = g->amount == 0 || g->quantum == layer_quantum(l) ? layer_quantum(l) : 1;
    g->amount += l->amount;
    g->cap += l->cap;
    if (p->unit->implied)
        g->target = (double)g->cap / (double)g->amount;
}

/* Can this criterion score these units? */
static enum err_code check_units(const struct pruner *p, struct err *e)
{
    const struct criterion *c = criterion_of(p->conf.criterion.plug);

    if (!p->unit->neurons && !criterion_scores_weights(c))
        return err_field(e, ERR_INVALID, "/criterion", "%s scores neurons only: it needs unit neuron", c->plug.name);
    if (p->unit->multiple && p->unit->multiple(p->conf.unit.conf) > 1 && p->conf.measure == MEASURE_UNITS)
        return err_field(e, ERR_INVALID, "/unit/round_to", "needs measure weights or macs: units are what it rounds");
    if (p->unit->cost && p->unit->cost(p->conf.unit.conf) != COST_NONE && p->scope->density)
        return err_field(e, ERR_INVALID, "/unit/cost", "needs scope global: neurons of one layer cost the same");
    if (c->solve && (p->unit->unit_at || p->unit->neurons || (p->unit->protect && !p->unit->runs)))
        return err_field(e, ERR_INVALID, "/unit", "criterion %s repairs what stays of single weights only, or of n:m", c->plug.name);
    return ERR_OK;
}

/* And the kernels of this layer? Of neurons those whose scores are pooled. */
static enum err_code check_kernels(const struct pruner *p, const struct net *net, const struct layer *l, struct err *e)
{
    const struct criterion *c = criterion_of(p->conf.criterion.plug);
    const struct bundle *b = p->unit->neurons ? &p->bundles.bundle[l->bundle] : NULL;
    enum err_code rc = b ? ERR_OK : c->check(p->conf.criterion.conf, net, l->w, e);

    for (int m = 0; b && m < b->n_members && rc == ERR_OK && !criterion_scores_neurons(c); m++)
        if (b->member[m].role == GROUP_MAKES && net->weight[b->member[m].w].info.prunable)
            rc = c->check(p->conf.criterion.conf, net, b->member[m].w, e);
    return rc;
}

static enum err_code check_criterion(const struct pruner *p, const struct net *net, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (int l = 0; l < p->n_layers && rc == ERR_OK && criterion_of(p->conf.criterion.plug)->check; l++)
        if (p->layer[l].group != IGNORED)
            rc = check_kernels(p, net, &p->layer[l], e);
    return rc == ERR_OK ? rc : err_at(e, rc, "/criterion");
}

enum err_code prune_layers_find(struct pruner *p, const struct net *net, struct err *e)
{
    enum err_code rc = check_units(p, e);

    for (int i = 0; i < net->n_weights; i++)
        if (net->weight[i].info.prunable) {
            p->weights += net->weight[i].len;
            p->longest = net->weight[i].len > p->longest ? net->weight[i].len : p->longest;
        }
    if (rc == ERR_OK)
        rc = p->unit->neurons ? neuron_layers_find(p, net, e) : find_kernels(p, net, e);
    if (rc == ERR_OK)
        rc = check_rules(p, net, e);
    for (int l = 0; rc == ERR_OK && l < p->n_layers; l++)
        place_layer(p, net, &p->layer[l]);
    if (rc == ERR_OK)
        rc = check_criterion(p, net, e);
    if (rc == ERR_OK && p->n_groups == 1 && p->group[0].amount == 0)
        rc = err_field(e, ERR_INVALID, "/layers", "the rules leave nothing to prune");
    if (rc == ERR_OK && p->unit->implied && p->group[0].cap == 0)
        rc = err_field(e, ERR_INVALID, "/unit", "leaves nothing to prune: every run may keep all of its weights");
    return rc;
}
