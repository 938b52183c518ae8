/* core/thin.c: see thin.h. Which numbers go with a neuron says group.h; the architecture is rewritten and read again, as shrink.c does it. */
#include "core/thin.h"

#include <string.h>

#include "core/group.h"
#include "core/keras.h"
#include "core/mem.h"

struct thin {
    const struct net *net;
    enum thin_measure measure;
    struct groups groups;
    int *left;    /* per bundle: neurons that stay */
    int *more;    /* per bundle: the same a little above the wanted size */
    int *gone[2]; /* per axis and weight: indexes that go */
};

static void count_gone(const struct thin *t)
{
    for (int axis = 0; axis < 2; axis++)
        for (int w = 0; w < t->net->n_weights; w++)
            t->gone[axis][w] = 0;
    for (int b = 0; b < t->groups.n; b++) {
        const struct bundle *bundle = &t->groups.bundle[b];

        for (const struct group_member *m = bundle->member; m < bundle->member + bundle->n_members; m++)
            t->gone[m->axis][m->w] += (bundle->n - t->left[b]) * m->run;
    }
}

/* Of the net with t->left neurons. */
static uint64_t size_now(const struct thin *t)
{
    uint64_t size = 0;

    count_gone(t);
    for (int i = 0; i < t->net->n_weights; i++) {
        const struct weight *w = &t->net->weight[i];
        uint64_t rows = (uint64_t)weight_axis(w, 0), columns = (uint64_t)weight_axis(w, 1), each = w->len / rows / columns;
        uint64_t len = (rows - (uint64_t)t->gone[0][i]) * (columns - (uint64_t)t->gone[1][i]) * each;

        if (t->measure == THIN_PARAMS)
            size += w->info.trainable ? len : 0;
        else
            size += w->info.prunable ? weight_macs(t->net, w) * len : 0;
    }
    return size;
}

static void scale_to(const struct thin *t, double share, int *left)
{
    for (int b = 0; b < t->groups.n; b++) {
        const struct bundle *bundle = &t->groups.bundle[b];
        double n = floor(share * bundle->n + 0.5);

        left[b] = bundle->fixed || n > bundle->n ? bundle->n : n < 1 ? 1 : (int)n;
    }
}

static uint64_t distance(uint64_t a, uint64_t b) { return a > b ? a - b : b - a; }

/* The largest share that is not too large, by bisection; then, layer by layer, what the next share has more, as long as that comes nearer. */
static void choose(const struct thin *t, uint64_t want)
{
    double low = 0, high = 1;

    for (int step = 0; step < 60; step++) {
        double mid = low + (high - low) / 2;

        scale_to(t, mid, t->left);
        *(size_now(t) <= want ? &low : &high) = mid;
    }
    scale_to(t, high, t->more);
    scale_to(t, low, t->left);
    for (int b = 0; b < t->groups.n; b++) {
        int before = t->left[b];
        uint64_t off = distance(size_now(t), want);

        t->left[b] = t->more[b];
        if (distance(size_now(t), want) >= off)
            t->left[b] = before;
    }
}

static enum err_code resize(const struct thin *t, json_t *doc, struct err *e)
{
    enum err_code rc = keras_free_targets(doc, e);

    count_gone(t);
    for (int i = 0; i < t->net->n_nodes && rc == ERR_OK; i++) {
        const struct node *node = &t->net->node[i];

        if (node->plan.neurons == NEURONS_MAKE && t->gone[0][node->first_weight] > 0)
            rc = keras_set_units(doc, node->layer, weight_axis(&t->net->weight[node->first_weight], 0) - t->gone[0][node->first_weight], false, e);
    }
    return rc;
}

static enum err_code build(struct model *out, const struct thin *t, const json_t *architecture, struct err *e)
{
    json_t *doc = json_deep_copy(architecture);
    enum err_code rc = doc ? resize(t, doc, e) : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK)
        rc = keras_read(out, doc, e);
    if (rc == ERR_OK) {
        rc = keras_set_shapes(doc, out->net, e);
        if (rc != ERR_OK)
            model_clear(out);
    }
    json_decref(doc);
    return rc;
}

/* Anew, but for what is known of the data. */
static void draw(struct net *net, const struct net *from, uint64_t seed)
{
    net_init(net, seed);
    for (struct weight *w = net->weight; w < net->weight + net->n_weights; w++) {
        const struct weight *old = net_weight(from, w->name);

        if (w->info.adapted && old && old->len == w->len)
            memcpy(w->x, old->x, w->len * sizeof *w->x);
    }
}

enum err_code model_thin(struct model *out, const struct model *in, enum thin_measure measure, uint64_t want, uint64_t seed, struct err *e)
{
    struct thin t = { .net = in->net, .measure = measure };
    size_t n = (size_t)in->net->n_weights;
    enum err_code rc = groups_find(&t.groups, in->net, e);

    *out = (struct model){ 0 };
    if (rc != ERR_OK)
        return rc;
    t.left = mem_alloc((size_t)t.groups.n * sizeof *t.left);
    t.more = mem_alloc((size_t)t.groups.n * sizeof *t.more);
    t.gone[0] = mem_alloc(n * sizeof *t.gone[0]);
    t.gone[1] = mem_alloc(n * sizeof *t.gone[1]);
    if (!t.left || !t.more || !t.gone[0] || !t.gone[1])
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK) {
        choose(&t, want);
        rc = build(out, &t, in->architecture, e);
    }
    if (rc == ERR_OK)
        draw(out->net, in->net, seed);
    groups_clear(&t.groups);
    mem_free(t.left);
    mem_free(t.more);
    mem_free(t.gone[0]);
    mem_free(t.gone[1]);
    return rc;
}
