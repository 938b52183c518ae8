/* core/prune.c: planning, selection and masks (see prune.h).
 *
 * Layers that share a target are a group; a layer with a target of its own is a group by itself. Each layer has a cap, the most weights that
 * may go: its bound, and always one less than it has. A group's count is its target times its weights, to the nearest integer, but at
 * most the sum of its caps. In global scope the count is selected over the group as one array; in layer scope it is divided first.
 *
 * Scores become integers of the same order (order.h). A weight that must stay has the key STAYS, above all scores; one that is zero has DEAD,
 * below all. Finding the k smallest is then counting digits: no sort, no comparison of floats, ties exact.
 *
 * Counts never fall from one iteration to the next, per layer too, and zeros go first: so masks only grow. */
#include "core/prune.h"

#include <assert.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "core/order.h"

enum { DEAD = 0, IGNORED = -1 };
#define STAYS UINT32_MAX

struct layer {
    int w;         /* of net->weight */
    int group;     /* or IGNORED */
    uint64_t len, cap, zeros_at_start;
    size_t offset; /* of its keys during a step */
};
struct group { double target; uint64_t len, cap; };

struct pruner {
    struct prune_conf conf;
    uint64_t seed, len; /* all prunable weights */
    size_t longest;     /* layer */
    int n_layers, n_groups;
    double aim; /* see pruner_aim; NAN: the schedule counts */
    struct layer *layer;
    struct group *group; /* [0] is the shared one; it may have no layers */
};

enum { SCOPE_GLOBAL, SCOPE_LAYER };

static const struct param rule_params[] = {
    FIELD_TEXT(struct prune_rule, layer, NULL, "Name of a layer, or a pattern with * and ?."),
    FIELD_BOOL(struct prune_rule, ignore, 0, "Never pruned."),
    FIELD_REAL(struct prune_rule, target_sparsity, 0, 1, PARAM_NONE, "Target of this layer alone, by the same schedule."),
    FIELD_REAL(struct prune_rule, max_sparsity, 0, 1, PARAM_NONE, "The layer never gets sparser than this."), FIELD_END
};
const struct param prune_params[] = {
    FIELD_PLUG(struct prune_conf, criterion, &criterion_table, "magnitude", "What scores the weights."),
    FIELD_CHOICE(struct prune_conf, unit, "weight", 0, "What is removed."),
    FIELD_CHOICE(struct prune_conf, scope, "global|layer", SCOPE_GLOBAL, "Whether weights compete over all layers, or each layer gets the target."),
    FIELD_PLUG(struct prune_conf, schedule, &schedule_table, "cubic", "How much of the target at which iteration."),
    FIELD_INT(struct prune_conf, iterations, 1, 1000, 10, "Rounds of pruning and retraining."),
    FIELD_REAL(struct prune_conf, target_sparsity, 0, 1, 0.95, "Share of the prunable weights, rules' layers taken out, that is zero in the end."),
    FIELD_PLUG(struct prune_conf, rewind, &rewind_table, "none", "What retraining starts from."),
    FIELD_LIST(struct prune_conf, layers, n_layers, rule_params, "Rules for single layers; the first that matches counts."), FIELD_END
};

/* ---- rules ---- */

static const char *layer_name(const struct net *net, const struct layer *l) { return net->node[net->weight[l->w].node].layer; }

static enum err_code rule_error(struct err *e, int i, const char *field, const char *msg)
{
    char at[64];

    snprintf(at, sizeof at, "/layers/%d/%s", i, field);
    return err_field(e, ERR_INVALID, at, "%s", msg);
}

static enum err_code check_rules(const struct pruner *p, const struct net *net, struct err *e)
{
    for (int i = 0; i < p->conf.n_layers; i++) {
        const struct prune_rule *r = &p->conf.layers[i];
        int matches = 0, taken = 0;

        for (int l = 0; l < p->n_layers; l++) {
            const char *name = layer_name(net, &p->layer[l]);
            int before = 0;

            if (fnmatch(r->layer, name, 0) != 0)
                continue;
            while (before < i && fnmatch(p->conf.layers[before].layer, name, 0) != 0)
                before++;
            matches++;
            taken += before < i;
        }
        if (matches == 0)
            return rule_error(e, i, "layer", "matches no layer with prunable weights");
        if (taken == matches)
            return rule_error(e, i, "layer", "every layer that it matches is taken by a rule before it");
        if (!r->ignore && isnan(r->target_sparsity) && isnan(r->max_sparsity))
            return rule_error(e, i, "layer", "the rule says nothing: give ignore, target_sparsity or max_sparsity");
        if (r->ignore && !(isnan(r->target_sparsity) && isnan(r->max_sparsity)))
            return rule_error(e, i, "ignore", "an ignored layer has neither target nor bound");
        if (r->target_sparsity > r->max_sparsity)
            return rule_error(e, i, "target_sparsity", "must not be above max_sparsity");
    }
    return ERR_OK;
}

/* The largest integer not above share * len, forgiving what rounding took from an exact product. */
static uint64_t bound(double share, uint64_t len) { return (uint64_t)floor(share * (double)len + 1e-6); }

static void place_layer(struct pruner *p, const struct net *net, struct layer *l)
{
    const struct prune_rule *r = p->conf.layers, *end = r + p->conf.n_layers;

    l->cap = l->len - 1;
    while (r < end && fnmatch(r->layer, layer_name(net, l), 0) != 0)
        r++;
    if (r < end && r->ignore) {
        l->group = IGNORED;
        return;
    }
    if (r < end && !isnan(r->target_sparsity)) {
        l->group = p->n_groups++;
        p->group[l->group].target = r->target_sparsity;
    }
    if (r < end && !isnan(r->max_sparsity) && bound(r->max_sparsity, l->len) < l->cap)
        l->cap = bound(r->max_sparsity, l->len);
    p->group[l->group].len += l->len;
    p->group[l->group].cap += l->cap;
}

static void find_layers(struct pruner *p, const struct net *net)
{
    for (int i = 0; i < net->n_weights; i++) {
        const struct weight *w = &net->weight[i];
        struct layer *l = &p->layer[p->n_layers];

        if (!w->info.prunable)
            continue;
        *l = (struct layer){ .w = i, .len = w->len, .offset = p->len };
        for (size_t k = 0; k < w->len; k++)
            l->zeros_at_start += w->x[k] == 0;
        p->n_layers++;
        p->len += w->len;
        p->longest = w->len > p->longest ? w->len : p->longest;
    }
}

static enum err_code check_criterion(const struct pruner *p, const struct net *net, struct err *e)
{
    const struct criterion *c = criterion_of(p->conf.criterion.plug);
    enum err_code rc = ERR_OK;

    for (int l = 0; l < p->n_layers && rc == ERR_OK && c->check; l++)
        if (p->layer[l].group != IGNORED)
            rc = c->check(p->conf.criterion.conf, net, p->layer[l].w, e);
    return rc == ERR_OK ? rc : err_at(e, rc, "/criterion");
}

enum err_code pruner_new(struct pruner **out, const struct prune_conf *conf, const struct net *net, uint64_t seed, struct err *e)
{
    struct pruner *p = mem_zalloc(1, sizeof *p);
    enum err_code rc;

    if (!p)
        return err_set(e, ERR_NOMEM, "out of memory");
    p->conf = *conf;
    p->seed = seed;
    p->n_groups = 1;
    p->aim = NAN;
    p->layer = mem_zalloc((size_t)net->n_weights, sizeof *p->layer);
    p->group = mem_zalloc((size_t)net->n_weights + 1, sizeof *p->group);
    if (!p->layer || !p->group) {
        pruner_free(p);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    p->group[0].target = conf->target_sparsity;
    find_layers(p, net);
    if (!criterion_scores_weights(criterion_of(conf->criterion.plug)))
        rc = err_field(e, ERR_INVALID, "/criterion", "%s scores neurons only", conf->criterion.plug->name);
    else
        rc = p->n_layers > 0 ? check_rules(p, net, e) : err_set(e, ERR_INVALID, "the model has no prunable weights");
    for (int i = 0; rc == ERR_OK && i < p->n_layers; i++)
        place_layer(p, net, &p->layer[i]);
    if (rc == ERR_OK)
        rc = check_criterion(p, net, e);
    if (rc == ERR_OK && p->n_groups == 1 && p->group[0].len == 0)
        rc = err_field(e, ERR_INVALID, "/layers", "the rules leave no weight to prune");
    if (rc == ERR_OK)
        *out = p;
    else
        pruner_free(p);
    return rc;
}

void pruner_free(struct pruner *p)
{
    if (!p)
        return;
    mem_free(p->layer);
    mem_free(p->group);
    mem_free(p);
}

json_t *pruner_save(const struct pruner *p)
{
    json_t *list = json_array();

    for (int i = 0; i < p->n_layers; i++)
        if (json_array_append_new(list, json_integer((json_int_t)p->layer[i].zeros_at_start)) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

enum err_code pruner_load(struct pruner *p, const json_t *saved, struct err *e)
{
    if (!json_is_array(saved) || json_array_size(saved) != (size_t)p->n_layers)
        return err_set(e, ERR_INVALID, "must be an array of %d numbers", p->n_layers);
    for (int i = 0; i < p->n_layers; i++) {
        json_int_t zeros = json_integer_value(json_array_get(saved, (size_t)i));

        if (zeros < 0 || (uint64_t)zeros > p->layer[i].len)
            return err_set(e, ERR_INVALID, "number %d is out of range", i);
        p->layer[i].zeros_at_start = (uint64_t)zeros;
    }
    return ERR_OK;
}

/* ---- the plan ---- */

/* Sparsity of a group at iteration i. */
static double group_sparsity(const struct pruner *p, int g, int64_t i)
{
    const struct schedule *s = (const struct schedule *)(const void *)p->conf.schedule.plug;
    const struct group *group = &p->group[g];
    uint64_t zeros = 0;
    double start;

    if (isnan(p->aim) ? i >= p->conf.iterations : p->aim >= 1)
        return group->target;
    for (int l = 0; l < p->n_layers; l++)
        zeros += p->layer[l].group == g ? p->layer[l].zeros_at_start : 0;
    start = group->len > 0 ? (double)zeros / (double)group->len : 0;
    if (!isnan(p->aim))
        return start < group->target ? start + (group->target - start) * p->aim : group->target;
    return s->at(p->conf.schedule.conf, fmin(start, group->target), group->target, (double)i / (double)p->conf.iterations);
}

static uint64_t nearest(double share, uint64_t len) { return (uint64_t)floor(share * (double)len + 0.5); }

static uint64_t group_count(const struct pruner *p, int g, int64_t i)
{
    uint64_t k = nearest(group_sparsity(p, g, i), p->group[g].len);

    return k < p->group[g].cap ? k : p->group[g].cap;
}

void pruner_aim(struct pruner *p, double share) { p->aim = share; }

double pruner_target(const struct pruner *p, int64_t i)
{
    double sum = 0;

    for (int g = 0; g < p->n_groups; g++)
        sum += group_sparsity(p, g, i) * ((double)p->group[g].len / (double)p->len);
    return sum;
}

uint64_t pruner_count(const struct pruner *p, int64_t i)
{
    uint64_t sum = 0;

    for (int g = 0; g < p->n_groups; g++)
        sum += group_count(p, g, i);
    return sum;
}

/* ---- selection: the k smallest of some arrays, in order ---- */

struct span { uint32_t *key; size_t n; };
struct cut { uint32_t key; uint64_t ties; }; /* what is below key goes, and the first `ties` that are equal to it */

/* k is less than the numbers in all spans. Digit by digit, from the top: how many have this prefix? */
static struct cut find_cut(const struct span *s, int n_spans, uint64_t k)
{
    uint32_t prefix = 0, known = 0;

    for (int shift = 24; shift >= 0; shift -= 8) {
        uint64_t count[256] = { 0 };
        uint32_t d = 0;

        for (int j = 0; j < n_spans; j++)
            for (size_t i = 0; i < s[j].n; i++)
                if ((s[j].key[i] & known) == prefix)
                    count[s[j].key[i] >> shift & 255]++;
        for (; d < 255 && count[d] <= k; d++)
            k -= count[d];
        prefix |= d << shift;
        known |= 255u << shift;
    }
    return (struct cut){ prefix, k };
}

static bool goes(struct cut *c, uint32_t key)
{
    if (key != c->key)
        return key < c->key;
    if (c->ties == 0)
        return false;
    c->ties--;
    return true;
}

/* Marks the k smallest as DEAD and all others as STAYS. */
static void select_smallest(const struct span *s, int n_spans, uint64_t k)
{
    struct cut c = find_cut(s, n_spans, k);

    for (int j = 0; j < n_spans; j++)
        for (size_t i = 0; i < s[j].n; i++)
            s[j].key[i] = goes(&c, s[j].key[i]) ? DEAD : STAYS;
}

/* All but the cap smallest become STAYS. */
static void protect(struct span s, uint64_t cap)
{
    struct cut c = find_cut(&s, 1, cap);

    for (size_t i = 0; i < s.n; i++)
        if (!goes(&c, s.key[i]))
            s.key[i] = STAYS;
}

/* ---- layer scope: a group's count divided among its layers ---- */

static uint64_t layer_count(const struct layer *l, double share)
{
    uint64_t k = nearest(share, l->len);

    return k < l->cap ? k : l->cap;
}

static uint64_t total_at(const struct pruner *p, int g, double share)
{
    uint64_t sum = 0;

    for (int l = 0; l < p->n_layers; l++)
        sum += p->layer[l].group == g ? layer_count(&p->layer[l], share) : 0;
    return sum;
}

/* Each layer gets the same share, to the nearest integer, such that the sum is k: the method of Webster, with caps. The share is found by
 * bisection; layers that round at the same share get theirs in order. Never falls, for any layer, when k grows. */
static void divide(const struct pruner *p, int g, uint64_t k, uint64_t *count)
{
    double low = 0, high = 1;
    uint64_t left = k;

    if (total_at(p, g, 1) <= k)
        low = 1;
    for (int step = 0; step < 64 && low < 1; step++) {
        double mid = low + (high - low) / 2;

        if (total_at(p, g, mid) <= k)
            low = mid;
        else
            high = mid;
    }
    for (int l = 0; l < p->n_layers; l++)
        if (p->layer[l].group == g)
            left -= count[l] = layer_count(&p->layer[l], low);
    for (int l = 0; l < p->n_layers && left > 0; l++)
        if (p->layer[l].group == g && layer_count(&p->layer[l], high) > count[l]) {
            count[l]++;
            left--;
        }
}

/* ---- the plan, layer by layer ---- */

json_t *pruner_describe_layers(const struct pruner *p, const struct net *net)
{
    json_t *list = json_array();

    for (int i = 0; i < p->n_layers; i++) {
        const struct layer *l = &p->layer[i];
        const struct shape *shape = &net->weight[l->w].info.shape;
        json_t *dims = json_array();

        for (int d = 0; dims && d < shape->n_d; d++)
            if (json_array_append_new(dims, json_integer(shape->d[d])) != 0) {
                json_decref(dims);
                dims = NULL;
            }
        if (json_array_append_new(list, json_pack("{s:s,s:o,s:I,s:b}", "name", layer_name(net, l), "shape", dims, "weights", (json_int_t)l->len,
                                                  "ignored", l->group == IGNORED)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* *masked: how many of the layer's weights iteration i will have masked. false: others compete with them, so the scores decide. */
static bool planned(const struct pruner *p, int layer, int64_t i, uint64_t *count, uint64_t *masked)
{
    int g = p->layer[layer].group, n = 0;

    for (int l = 0; l < p->n_layers; l++)
        n += p->layer[l].group == g;
    if (g == IGNORED)
        *masked = p->layer[layer].zeros_at_start;
    else if (n == 1)
        *masked = group_count(p, g, i);
    else if (p->conf.scope == SCOPE_LAYER) {
        divide(p, g, group_count(p, g, i), count);
        *masked = count[layer];
    } else
        return false;
    return true;
}

static json_t *plan_layers(const struct pruner *p, const struct net *net, int64_t i)
{
    uint64_t *count = mem_zalloc((size_t)p->n_layers, sizeof *count), masked = 0;
    json_t *list = count ? json_array() : NULL;

    for (int l = 0; list && l < p->n_layers; l++) {
        const struct layer *at = &p->layer[l];
        json_t *o = planned(p, l, i, count, &masked)
                        ? json_pack("{s:s,s:I,s:f}", "name", layer_name(net, at), "nonzero", (json_int_t)(at->len - masked), "sparsity",
                                    (double)masked / (double)at->len)
                        : json_pack("{s:s,s:n,s:n}", "name", layer_name(net, at), "nonzero", "sparsity");

        if (json_array_append_new(list, o) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    mem_free(count);
    return list;
}

json_t *pruner_plan(const struct pruner *p, const struct net *net, int64_t i)
{
    uint64_t masked = pruner_count(p, i);

    return json_pack("{s:I,s:f,s:f,s:I,s:o}", "iteration", (json_int_t)i, "target_sparsity", pruner_target(p, i), "sparsity",
                     (double)masked / (double)p->len, "nonzero", (json_int_t)(p->len - masked), "layers", plan_layers(p, net, i));
}

/* ---- one step ---- */

struct step {
    uint32_t *key;    /* of all prunable weights */
    float *score;     /* of all of them, or of one layer where the criterion looks at one at a time */
    float **of;       /* per weight of the net: its place in score, or NULL */
    struct crit_net in; /* net: the copy, or NULL */
    struct span *span;
    uint64_t *count;  /* per layer, in layer scope */
};

static void step_clear(struct step *s)
{
    mem_free(s->key);
    mem_free(s->score);
    mem_free(s->of);
    net_free(s->in.net);
    mem_free(s->span);
    mem_free(s->count);
}

static bool make_masks(const struct pruner *p, struct net *net)
{
    for (int l = 0; l < p->n_layers; l++) {
        struct weight *w = &net->weight[p->layer[l].w];

        if (p->layer[l].group == IGNORED || w->mask)
            continue;
        w->mask = mem_alloc(w->len);
        if (!w->mask)
            return false;
        memset(w->mask, 1, w->len);
    }
    return true;
}

static enum err_code step_init(struct step *s, const struct pruner *p, struct net *net, int64_t i, const struct prune_data *data, struct err *e)
{
    const struct criterion *c = criterion_of(p->conf.criterion.plug);
    enum err_code rc = ERR_OK;

    *s = (struct step){ .in = { .seed = p->seed, .step = (uint64_t)i, .conf = p->conf.criterion.conf } };
    if (data)
        s->in = (struct crit_net){ NULL, data->train, data->loss, data->team, p->seed, (uint64_t)i, p->conf.criterion.conf, data->stop, data->user };
    s->key = mem_zalloc(p->len, sizeof *s->key);
    s->score = mem_zalloc(c->score_net ? p->len : p->longest, sizeof *s->score);
    s->of = mem_zalloc((size_t)net->n_weights, sizeof *s->of);
    s->span = mem_zalloc((size_t)p->n_layers, sizeof *s->span);
    s->count = mem_zalloc((size_t)p->n_layers, sizeof *s->count);
    if (!s->key || !s->score || !s->of || !s->span || !s->count || !make_masks(p, net))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK && (c->score_net || c->solve))
        rc = net_clone(&s->in.net, net, e);
    if (rc != ERR_OK)
        step_clear(s);
    return rc;
}

static enum err_code make_keys(const struct layer *l, const struct weight *w, const float *score, uint32_t *key, struct err *e)
{
    for (size_t k = 0; k < w->len; k++) {
        if (w->x[k] != 0 && !isfinite(score[k]))
            return err_set(e, ERR_DIVERGED, "score %zu of %s is not finite", k, w->name);
        key[k] = w->x[k] == 0 ? DEAD : order_key(score[k]);
    }
    protect((struct span){ key, w->len }, l->cap);
    return ERR_OK;
}

static enum err_code score_layer(const struct pruner *p, const struct layer *l, const struct net *net, int64_t i, const struct step *s,
                                 struct err *e)
{
    const struct weight *w = &net->weight[l->w];
    struct crit_in in = { .w = w, .seed = p->seed, .stream = (uint32_t)l->w, .step = (uint64_t)i, .conf = p->conf.criterion.conf };

    criterion_of(p->conf.criterion.plug)->score(&in, s->score);
    return make_keys(l, w, s->score, s->key + l->offset, e);
}

/* Says whose scores they are. */
static enum err_code name_criterion(const struct pruner *p, enum err_code rc, struct err *e)
{
    struct err was;

    if (rc != ERR_DIVERGED || !e)
        return rc;
    was = *e;
    return err_set(e, rc, "criterion %s: %.250s", p->conf.criterion.plug->name, was.msg);
}

static enum err_code score_all(const struct pruner *p, const struct net *net, int64_t i, const struct step *s, struct err *e)
{
    const struct criterion *c = criterion_of(p->conf.criterion.plug);
    enum err_code rc = ERR_OK;

    for (int l = 0; l < p->n_layers && c->score_net; l++)
        if (p->layer[l].group != IGNORED)
            s->of[p->layer[l].w] = s->score + p->layer[l].offset;
    if (c->score_net)
        rc = c->score_net(&s->in, s->of, e);
    for (int l = 0; l < p->n_layers && rc == ERR_OK; l++) {
        const struct layer *at = &p->layer[l];

        if (at->group != IGNORED)
            rc = c->score_net ? make_keys(at, &net->weight[at->w], s->of[at->w], s->key + at->offset, e) : score_layer(p, at, net, i, s, e);
    }
    return name_criterion(p, rc, e);
}

static void select_group(const struct pruner *p, int g, int64_t i, const struct step *s)
{
    uint64_t k = group_count(p, g, i);
    int n = 0;

    if (p->conf.scope == SCOPE_LAYER)
        divide(p, g, k, s->count);
    for (int l = 0; l < p->n_layers; l++) {
        struct span one = { s->key + p->layer[l].offset, p->layer[l].len };

        if (p->layer[l].group != g)
            continue;
        if (p->conf.scope == SCOPE_LAYER)
            select_smallest(&one, 1, s->count[l]);
        else
            s->span[n++] = one;
    }
    if (n > 0)
        select_smallest(s->span, n, k);
}

static void mask_layer(const struct layer *l, struct net *net, const uint32_t *key)
{
    struct weight *w = &net->weight[l->w];

    for (size_t k = 0; k < w->len; k++) {
        w->mask[k] = key[k] == STAYS;
        if (!w->mask[k])
            w->x[k] = 0;
    }
}

/* What was solved: the mask, and all weights of the node. */
static void take_layer(struct net *net, const struct net *from, int w)
{
    const struct node *node = &net->node[net->weight[w].node];

    memcpy(net->weight[w].mask, from->weight[w].mask, from->weight[w].len);
    for (int i = node->first_weight; i < node->first_weight + node->plan.n_weights; i++)
        memcpy(net->weight[i].x, from->weight[i].x, from->weight[i].len * sizeof(float));
}

/* Leaves the choice within each layer to the criterion: it masks as many as the selection would, and repairs the rest. */
static enum err_code solve_all(const struct pruner *p, struct net *net, const struct step *s, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (int l = 0; l < p->n_layers && rc == ERR_OK; l++) {
        const struct layer *at = &p->layer[l];
        uint64_t n = 0;

        for (size_t k = 0; k < at->len; k++)
            n += s->key[at->offset + k] != STAYS;
        if (at->group != IGNORED)
            rc = criterion_of(p->conf.criterion.plug)->solve(&s->in, at->w, n, e);
    }
    rc = name_criterion(p, rc, e);
    for (int l = 0; l < p->n_layers && rc == ERR_OK; l++)
        if (p->layer[l].group != IGNORED)
            take_layer(net, s->in.net, p->layer[l].w);
    return rc;
}

uint64_t pruner_memory(const struct prune_conf *conf, const struct net *net)
{
    const struct criterion *c = criterion_of(conf->criterion.plug);
    uint64_t bytes = 0;

    for (int w = 0; w < net->n_weights; w++) { /* key, score, count and span; a mask where there is none yet */
        bytes += net->weight[w].info.prunable ? net->weight[w].len * (sizeof(uint32_t) + sizeof(float) + 1) : 0;
        bytes += (c->score_net || c->solve) && !c->memory ? net->weight[w].len * sizeof(float) : 0;
    }
    return bytes + (c->memory ? c->memory(net, conf->criterion.conf) : 0);
}

enum err_code pruner_step(struct pruner *p, struct net *net, int64_t i, const struct prune_data *data, struct err *e)
{
    const struct criterion *c = criterion_of(p->conf.criterion.plug);
    struct step s;
    enum err_code rc = step_init(&s, p, net, i, data, e);

    assert(!net->ahead && (!c->samples || (data && data->train)));
    if (rc != ERR_OK)
        return rc;
    rc = score_all(p, net, i, &s, e);
    for (int g = 0; g < p->n_groups && rc == ERR_OK; g++)
        select_group(p, g, i, &s);
    if (rc == ERR_OK && c->solve)
        rc = solve_all(p, net, &s, e);
    for (int l = 0; l < p->n_layers && rc == ERR_OK && !c->solve; l++)
        if (p->layer[l].group != IGNORED)
            mask_layer(&p->layer[l], net, s.key + p->layer[l].offset);
    step_clear(&s);
    return rc;
}
