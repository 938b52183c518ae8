/* core/prune.c: a pruner's life, and its steps: scores become keys, keys masks (see prune_impl.h). */
#include "core/prune_impl.h"

#include <assert.h>
#include <float.h>
#include <string.h>

#include "core/mem.h"

enum err_code pruner_new(struct pruner **out, const struct prune_conf *conf, const struct net *net, uint64_t seed, struct err *e)
{
    struct pruner *p = mem_zalloc(1, sizeof *p);
    enum err_code rc = ERR_OK;
    size_t most; /* layers */

    if (!p)
        return err_set(e, ERR_NOMEM, "out of memory");
    p->conf = *conf;
    p->unit = prune_unit_of(p->conf.unit.plug);
    p->scope = prune_scope_of(p->conf.scope.plug);
    p->seed = seed;
    p->n_groups = 1;
    p->aim = p->damping = NAN;
    if (p->unit->neurons)
        rc = groups_find(&p->bundles, net, e);
    most = (size_t)(p->unit->neurons ? p->bundles.n : net->n_weights);
    p->layer = mem_zalloc(most, sizeof *p->layer);
    p->group = mem_zalloc(most + 1, sizeof *p->group);
    if (rc == ERR_OK && (!p->layer || !p->group))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK) {
        p->group[0].target = conf->target_sparsity;
        rc = prune_layers_find(p, net, e);
    }
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
    for (int l = 0; p->layer && l < p->n_layers; l++)
        mem_free(p->layer[l].size);
    mem_free(p->layer);
    mem_free(p->group);
    groups_clear(&p->bundles);
    mem_free(p->kernel);
    mem_free(p);
}

json_t *pruner_save(const struct pruner *p)
{
    json_t *list = json_array();

    for (int i = 0; i < p->n_layers; i++)
        if (json_array_append_new(list, json_integer((json_int_t)p->layer[i].gone_at_start)) != 0) {
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
        json_int_t gone = json_integer_value(json_array_get(saved, (size_t)i));

        if (gone < 0 || (uint64_t)gone > p->layer[i].amount)
            return err_set(e, ERR_INVALID, "number %d is out of range", i);
        p->layer[i].gone_at_start = (uint64_t)gone;
    }
    return ERR_OK;
}

/* ---- one step ---- */

struct pooled { double score; uint32_t n; }; /* n: of weights, zeros too */
struct step {
    uint32_t *key;    /* of all units */
    float *score;     /* of all prunable weights, or of one layer where the criterion looks at one at a time */
    float **of;       /* per weight of the net: its place in score, or NULL */
    float **neurons;  /* per bundle the same, of neurons */
    uint32_t *work;   /* keys, where the number of neurons is searched */
    struct crit_net in; /* net: the copy, or NULL */
    struct pooled *pooled; /* per unit of one layer; NULL where units are weights */
    struct span *span;
    uint64_t *count;  /* per layer, where a scope divides */
    float *const *moved;
};

static void step_clear(struct step *s)
{
    mem_free(s->key);
    mem_free(s->score);
    mem_free(s->of);
    mem_free(s->neurons);
    mem_free(s->work);
    net_free(s->in.net);
    mem_free(s->pooled);
    mem_free(s->span);
    mem_free(s->count);
}

static bool make_mask(struct weight *w)
{
    if (w->mask || !w->info.prunable)
        return true;
    w->mask = mem_alloc(w->len);
    if (w->mask)
        memset(w->mask, 1, w->len);
    return w->mask;
}

static bool make_masks(const struct pruner *p, struct net *net)
{
    for (int l = 0; l < p->n_layers; l++) {
        const struct bundle *b = p->unit->neurons ? &p->bundles.bundle[p->layer[l].bundle] : NULL;

        if (p->layer[l].group != IGNORED && !b && !make_mask(&net->weight[p->layer[l].w]))
            return false;
        for (int m = 0; b && m < b->n_members && p->layer[l].group != IGNORED; m++)
            if (!make_mask(&net->weight[b->member[m].w]))
                return false;
    }
    return true;
}

/* Does the criterion look at neurons by itself, or at kernels all together? */
static bool scores_neurons(const struct pruner *p)
{
    return p->unit->neurons && criterion_scores_neurons(criterion_of(p->conf.criterion.plug));
}
static bool scores_net(const struct pruner *p) { return !scores_neurons(p) && criterion_of(p->conf.criterion.plug)->score_net; }
/* Scores of all kernels are there at the same time. */
static bool scores_stand(const struct pruner *p) { return !scores_neurons(p) && (scores_net(p) || p->unit->neurons); }

static enum err_code step_init(struct step *s, struct pruner *p, struct net *net, int64_t i, const struct prune_data *data, struct err *e)
{
    const struct criterion *c = criterion_of(p->conf.criterion.plug);
    enum err_code rc = ERR_OK;

    p->damping = NAN;
    *s = (struct step){ .moved = data ? data->moved : NULL, .in = { .seed = p->seed, .step = (uint64_t)i, .conf = p->conf.criterion.conf } };
    if (data)
        s->in = (struct crit_net){ NULL, data->train, data->loss, data->team, p->seed, (uint64_t)i, p->conf.criterion.conf, data->stop, data->user, { 0 }, NULL };
    s->in.damping = &p->damping;
    if (p->unit->runs)
        s->in.runs = p->unit->runs(p->conf.unit.conf);
    s->key = mem_zalloc(p->n_units, sizeof *s->key);
    s->score = mem_zalloc(scores_neurons(p) ? p->n_units : scores_stand(p) ? p->weights : p->longest, sizeof *s->score);
    s->neurons = mem_zalloc((size_t)p->bundles.n, sizeof *s->neurons);
    s->work = mem_zalloc(neurons_are_searched(p, 0) ? p->n_units : 0, sizeof *s->work);
    s->pooled = mem_zalloc(p->unit->unit_at ? p->most_units : 0, sizeof *s->pooled);
    s->of = mem_zalloc((size_t)net->n_weights, sizeof *s->of);
    s->span = mem_zalloc((size_t)p->n_layers, sizeof *s->span);
    s->count = mem_zalloc((size_t)p->n_layers, sizeof *s->count);
    if (!s->key || !s->score || !s->of || !s->neurons || !s->work || !s->pooled || !s->span || !s->count || !make_masks(p, net))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK && (scores_net(p) || scores_neurons(p) || c->solve))
        rc = net_clone(&s->in.net, net, e);
    if (rc != ERR_OK)
        step_clear(s);
    return rc;
}

/* ---- keys ---- */

static enum err_code check_score(const struct weight *w, size_t k, float score, struct err *e)
{
    return isfinite(score) ? ERR_OK : err_set(e, ERR_DIVERGED, "score %zu of %s is not finite", k, w->name);
}

static uint32_t key_of_zero(const struct weight *w, size_t k) { return w->mask && !w->mask[k] ? KEY_GOES : KEY_DEAD; }

static enum err_code keys_of_weights(const struct weight *w, const float *score, uint32_t *key, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (size_t k = 0; k < w->len && rc == ERR_OK; k++) {
        if (w->x[k] != 0)
            rc = check_score(w, k, score[k], e);
        key[k] = w->x[k] == 0 ? key_of_zero(w, k) : order_key(score[k]);
    }
    return rc;
}

/* A unit's score is the mean, the sum or the largest of its weights' scores, where those of zeros are 0; it is dead when all are zeros. */
static enum err_code keys_of_units(const struct pruner *p, const struct layer *l, const struct weight *w, const float *score, struct pooled *sum,
                                   uint32_t *key, struct err *e)
{
    enum unit_pool pool = p->unit->pool(p->conf.unit.conf);
    enum err_code rc = ERR_OK;

    memset(sum, 0, l->n_units * sizeof *sum);
    memset(key, KEY_GOES, l->n_units * sizeof *key);
    for (size_t k = 0; k < w->len && rc == ERR_OK; k++) {
        size_t u = layer_unit_at(p, l, k);
        bool alive = w->x[k] != 0;
        double s = alive ? (double)score[k] : 0;

        if (alive)
            rc = check_score(w, k, score[k], e);
        sum[u].score = pool != POOL_MAX ? sum[u].score + s : sum[u].n == 0 ? s : fmax(sum[u].score, s);
        sum[u].n++;
        if (key[u] != KEY_STAYS)
            key[u] = alive ? KEY_STAYS : key[u] | key_of_zero(w, k);
    }
    for (size_t u = 0; u < l->n_units; u++)
        if (key[u] == KEY_STAYS)
            key[u] = order_key((float)fmin(fmax(sum[u].score / (pool == POOL_MEAN ? sum[u].n : 1), -FLT_MAX), FLT_MAX));
    return rc;
}

/* What must stay and what must go whatever the scores. */
static void bind_keys(const struct pruner *p, const struct layer *l, int64_t i, uint32_t *keys)
{
    struct span span = layer_span(l, keys), units = { span.key, span.n, NULL, 1 };
    uint64_t kept = (uint64_t)p->conf.min_units, least = layer_least(p, l, i);

    if (p->unit->protect)
        p->unit->protect(p->conf.unit.conf, l->rows, l->columns, span.key);
    select_protect(&units, l->n_units > kept ? l->n_units - kept : 0);
    select_protect(&span, l->cap);
    if (least > 0)
        select_force(&span, least);
}

static void score_kernel(const struct pruner *p, const struct net *net, int w, int64_t i, const struct step *s, float *score)
{
    struct crit_in in = { &net->weight[w], p->seed, (uint32_t)w, (uint64_t)i, p->conf.criterion.conf, s->moved ? s->moved[w] : NULL };

    criterion_of(p->conf.criterion.plug)->score(&in, score);
}

static enum err_code kernel_keys(const struct pruner *p, const struct layer *l, const struct net *net, int64_t i, const struct step *s, struct err *e)
{
    const struct weight *w = &net->weight[l->w];
    const float *score = scores_net(p) ? s->of[l->w] : s->score;

    if (!scores_net(p))
        score_kernel(p, net, l->w, i, s, s->score);
    return p->unit->unit_at ? keys_of_units(p, l, w, score, s->pooled, s->key + l->offset, e)
                            : keys_of_weights(w, score, s->key + l->offset, e);
}

/* Whose scores are wanted: kernels that are layers, or make neurons. */
static bool is_wanted(const struct pruner *p, const struct layer *l, int w)
{
    const struct bundle *b = p->unit->neurons ? &p->bundles.bundle[l->bundle] : NULL;

    for (int m = 0; b && m < b->n_members; m++)
        if (b->member[m].w == w && b->member[m].role == GROUP_MAKES && l->group != IGNORED)
            return true;
    return !b && l->w == w && l->group != IGNORED;
}

static void place_scores(const struct pruner *p, const struct net *net, const struct step *s)
{
    size_t offset = 0;

    for (int l = 0; l < p->n_layers && scores_neurons(p); l++)
        if (p->layer[l].group != IGNORED)
            s->neurons[p->layer[l].bundle] = s->score + p->layer[l].offset;
    for (int w = 0; w < net->n_weights && scores_stand(p); w++) {
        if (!net->weight[w].info.prunable)
            continue;
        for (int l = 0; l < p->n_layers && !s->of[w]; l++)
            if (is_wanted(p, &p->layer[l], w))
                s->of[w] = s->score + offset;
        offset += net->weight[w].len;
    }
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

    place_scores(p, net, s);
    if (scores_neurons(p))
        rc = c->score_neurons(&s->in, &p->bundles, s->neurons, e);
    else if (scores_net(p))
        rc = c->score_net(&s->in, s->of, e);
    for (int w = 0; w < net->n_weights && scores_stand(p) && !scores_net(p); w++)
        if (s->of[w])
            score_kernel(p, net, w, i, s, s->of[w]);
    if (rc == ERR_OK && p->unit->neurons)
        rc = neuron_keys(p, net, scores_neurons(p) ? s->neurons : NULL, s->of, s->key, s->count, e);
    for (int l = 0; l < p->n_layers && rc == ERR_OK; l++) {
        if (p->layer[l].group == IGNORED)
            continue;
        rc = p->unit->neurons ? ERR_OK : kernel_keys(p, &p->layer[l], net, i, s, e);
        if (rc == ERR_OK)
            bind_keys(p, &p->layer[l], i, s->key);
    }
    return name_criterion(p, rc, e);
}

/* ---- selection and masks ---- */

static void select_group(const struct pruner *p, int g, int64_t i, const struct step *s)
{
    bool searched = neurons_are_searched(p, g), divided = searched || p->scope->density;
    int n = 0;

    if (searched && p->scope->density)
        neuron_divide(p, i, s->count);
    else if (searched)
        neuron_compete(p, i, s->key, s->work, s->count);
    else if (divided)
        group_divide(p, g, i, group_count(p, g, i), s->count);
    for (int l = 0; l < p->n_layers; l++) {
        struct span one = layer_span(&p->layer[l], s->key);

        if (p->layer[l].group != g)
            continue;
        if (divided)
            select_smallest(&one, 1, s->count[l]);
        else
            s->span[n++] = one;
    }
    if (n > 0)
        select_smallest(s->span, n, group_count(p, g, i));
}

static void mask_layer(const struct pruner *p, const struct layer *l, struct net *net, const uint32_t *key)
{
    struct weight *w = &net->weight[l->w];

    for (size_t k = 0; k < w->len; k++) {
        w->mask[k] = key[layer_unit_at(p, l, k)] == KEY_STAYS;
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

        for (size_t k = 0; k < at->weights; k++)
            n += s->key[at->offset + k] != KEY_STAYS;
        if (at->group != IGNORED)
            rc = criterion_of(p->conf.criterion.plug)->solve(&s->in, at->w, n, e);
    }
    rc = name_criterion(p, rc, e);
    for (int l = 0; l < p->n_layers && rc == ERR_OK; l++)
        if (p->layer[l].group != IGNORED)
            take_layer(net, s->in.net, p->layer[l].w);
    return rc;
}

double pruner_damping(const struct pruner *p) { return p->damping; }

uint64_t pruner_memory(const struct prune_conf *conf, const struct net *net)
{
    const struct criterion *c = criterion_of(conf->criterion.plug);
    uint64_t bytes = 0;

    for (int w = 0; w < net->n_weights; w++) { /* key, score, count and span; a mask where there is none yet */
        bytes += net->weight[w].info.prunable ? net->weight[w].len * (sizeof(uint32_t) + sizeof(float) + 1) : 0;
        bytes += prune_unit_of(conf->unit.plug)->unit_at && net->weight[w].info.prunable ? net->weight[w].len * (sizeof(struct pooled) + sizeof(uint32_t)) : 0;
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
    if (rc == ERR_OK && p->unit->neurons)
        neuron_mask(p, net, s.key);
    for (int l = 0; l < p->n_layers && rc == ERR_OK && !c->solve && !p->unit->neurons; l++)
        if (p->layer[l].group != IGNORED)
            mask_layer(p, &p->layer[l], net, s.key + p->layer[l].offset);
    step_clear(&s);
    return rc;
}
