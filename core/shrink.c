/* core/shrink.c: see shrink.h. What is alive comes from life.c, what falls together from group.c; the architecture is rewritten, read again as any
 * upload is (so the two agree), and the weights that stay are copied into the new net. */
#include "core/shrink.h"

#include <float.h>
#include <string.h>

#include "core/compare.h"
#include "core/group.h"
#include "core/keras.h"
#include "core/life.h"
#include "core/mem.h"

struct shrink {
    const struct model *in;
    struct net *net;      /* a dense copy of its net */
    struct groups groups;
    struct life life;
    bool **keep[2];       /* per axis and weight: the indexes that stay; axis 1 of kernels only */
    double **shift;       /* per kernel that makes neurons: what its rows take over from constants; else NULL */
    int removed, biases;
    struct model out;
    struct comparison apart;
};

/* ---- what stays ---- */

static bool allocate(struct shrink *s)
{
    size_t n = (size_t)s->net->n_weights;
    bool ok;

    s->keep[0] = mem_zalloc(n, sizeof *s->keep[0]);
    s->keep[1] = mem_zalloc(n, sizeof *s->keep[1]);
    s->shift = mem_zalloc(n, sizeof *s->shift);
    ok = s->keep[0] && s->keep[1] && s->shift;
    for (int w = 0; w < s->net->n_weights && ok; w++) {
        for (int axis = 0; axis < 2 && ok; axis++) {
            size_t len = (size_t)weight_axis(&s->net->weight[w], axis);

            s->keep[axis][w] = mem_alloc(len * sizeof(bool));
            ok = s->keep[axis][w] != NULL;
            if (ok)
                memset(s->keep[axis][w], true, len * sizeof(bool));
        }
        if (ok && s->life.reads[w]) {
            s->shift[w] = mem_zalloc((size_t)weight_axis(&s->net->weight[w], 0), sizeof(double));
            ok = s->shift[w] != NULL;
        }
    }
    return ok;
}

static bool is_read(const struct shrink *s, const struct bundle *b, int j)
{
    for (const struct group_member *m = b->member; m < b->member + b->n_members; m++)
        for (int r = 0; r < m->run && m->role == GROUP_READS; r++)
            if (s->life.reads[m->w][m->offset + j * m->run + r])
                return true;
    return false;
}

static void drop(struct shrink *s, const struct bundle *b, int j)
{
    for (const struct group_member *m = b->member; m < b->member + b->n_members; m++)
        memset(s->keep[m->axis][m->w] + m->offset + j * m->run, false, (size_t)m->run * sizeof(bool));
    s->removed++;
}

static void choose(struct shrink *s)
{
    for (const struct bundle *b = s->groups.bundle; b < s->groups.bundle + s->groups.n; b++) {
        int left = b->n;

        for (int j = b->n - 1; j >= 0 && !b->fixed; j--)
            if (!is_read(s, b, j) && left > 1) {
                drop(s, b, j);
                left--;
            }
    }
}

/* ---- constants go into biases ---- */

static void fold(struct shrink *s, int number)
{
    const struct weight *w = &s->net->weight[number];

    for (int c = 0; c < weight_axis(w, 1); c++) {
        const enum life_column is = s->life.reads[number][c] ? LIFE_VARIES : life_column(&s->life, number, c);

        for (int o = 0; o < weight_axis(w, 0) && is != LIFE_VARIES; o++)
            if (life_row_needed(&s->life, number, o))
                s->shift[number][o] += life_column_gives(&s->life, number, c, o);
    }
}

static bool shifts(const struct shrink *s, int kernel)
{
    for (int o = 0; o < weight_axis(&s->net->weight[kernel], 0); o++)
        if (s->shift[kernel][o] != 0)
            return true;
    return false;
}

static bool has_bias(const struct node *node)
{
    for (int k = 0; k < node->plan.n_weights; k++)
        if (strcmp(node->plan.weight[k].name, "bias") == 0)
            return true;
    return false;
}

/* ---- the new model ---- */

static int count(const bool *flag, int n)
{
    int sum = 0;

    for (int i = 0; i < n; i++)
        sum += flag[i];
    return sum;
}

/* Sizes into the new architecture. */
static enum err_code resize(struct shrink *s, json_t *doc, struct err *e)
{
    enum err_code rc = s->removed > 0 ? keras_free_targets(doc, e) : ERR_OK;

    for (int i = 0; i < s->net->n_nodes && rc == ERR_OK; i++) {
        const struct node *node = &s->net->node[i];
        int kernel = node->first_weight, units, left;
        bool bias;

        if (node->plan.neurons != NEURONS_MAKE)
            continue;
        units = weight_axis(&s->net->weight[kernel], 0);
        left = count(s->keep[0][kernel], units);
        bias = !has_bias(node) && shifts(s, kernel);
        s->biases += bias;
        if (left < units || bias)
            rc = keras_set_units(doc, node->layer, left, bias, e);
    }
    return rc;
}

/* A kernel whose rows make neurons. */
static bool own_rows(const struct shrink *s, int number)
{
    return s->net->weight[number].info.prunable && s->net->node[s->net->weight[number].node].plan.neurons != NEURONS_MIX;
}

/* The numbers of w that stay, into the new weight; those that nothing needs as zeros. */
static void copy_weight(const struct shrink *s, struct weight *to, int number)
{
    const struct weight *w = &s->net->weight[number];
    const bool *reads = s->life.reads[number];
    size_t each = w->len / (size_t)weight_axis(w, 0) / (size_t)weight_axis(w, 1), at = 0;

    for (int o = 0; o < weight_axis(w, 0); o++) {
        bool needed = !own_rows(s, number) || life_row_needed(&s->life, number, o);

        for (int c = 0; c < weight_axis(w, 1); c++) {
            size_t from = ((size_t)o * (size_t)weight_axis(w, 1) + (size_t)c) * each;
            bool live = needed && (!reads || reads[c]);

            if (!s->keep[0][number][o] || !s->keep[1][number][c])
                continue;
            for (size_t i = 0; i < each; i++, at++) {
                to->x[at] = live ? w->x[from + i] : 0;
                if (to->mask)
                    to->mask[at] = live && w->mask[from + i];
            }
        }
    }
}

static void add_shift(const struct shrink *s, struct weight *bias, int kernel)
{
    for (int o = 0, at = 0; o < weight_axis(&s->net->weight[kernel], 0); o++)
        if (s->keep[0][kernel][o]) {
            bias->x[at] = (float)((double)bias->x[at] + s->shift[kernel][o]);
            at++;
        }
}

static size_t count_left(const struct shrink *s, int number)
{
    const struct weight *w = &s->net->weight[number];
    int rows = weight_axis(w, 0), columns = weight_axis(w, 1);

    return w->len / (size_t)rows / (size_t)columns * (size_t)count(s->keep[0][number], rows) * (size_t)count(s->keep[1][number], columns);
}

static enum err_code fill(struct shrink *s, struct err *e)
{
    for (struct weight *to = s->out.net->weight; to < s->out.net->weight + s->out.net->n_weights; to++) {
        const struct weight *from = net_weight(s->net, to->name);
        int kernel = s->net->node[to->node].first_weight;

        if (from && count_left(s, (int)(from - s->net->weight)) != to->len)
            return err_set(e, ERR_INTERNAL, "weight \"%.100s\" does not fit the shrunk architecture", to->name);
        to->mask = from && from->mask ? mem_alloc(to->len) : NULL;
        if (from && from->mask && !to->mask)
            return err_set(e, ERR_NOMEM, "out of memory");
        if (from)
            copy_weight(s, to, (int)(from - s->net->weight));
        else
            memset(to->x, 0, to->len * sizeof(float));
        if (s->shift[kernel] && strcmp(to->info.name, "bias") == 0)
            add_shift(s, to, kernel);
    }
    s->out.net->trained = s->net->trained;
    return ERR_OK;
}

static enum err_code build(struct shrink *s, struct err *e)
{
    json_t *doc = json_deep_copy(s->in->architecture);
    enum err_code rc = doc ? resize(s, doc, e) : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK)
        rc = keras_read(&s->out, doc, e);
    if (rc == ERR_OK)
        rc = fill(s, e);
    if (rc == ERR_OK)
        rc = keras_set_shapes(doc, s->out.net, e);
    json_decref(doc);
    return rc;
}

/* ---- the report ---- */

static json_t *describe_layers(const struct shrink *s)
{
    json_t *list = json_array();

    for (int w = 0; list && w < s->net->n_weights; w++) {
        const struct weight *before = &s->net->weight[w], *after = net_weight(s->out.net, before->name);

        if (before->info.prunable &&
            json_array_append_new(list, json_pack("{s:s,s:o,s:o}", "name", s->net->node[before->node].layer, "shape_before",
                                                  shape_json(&before->info.shape), "shape_after", shape_json(&after->info.shape))) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *describe_size(const struct net *net)
{
    struct net_size size;

    net_count(net, &size);
    return json_pack("{s:I,s:I,s:I,s:I}", "weights", (json_int_t)size.weights, "nonzero", (json_int_t)size.nonzero, "params", (json_int_t)size.params,
                     "macs", (json_int_t)size.macs);
}

static json_t *describe(const struct shrink *s)
{
    int inputs = (int)shape_len(net_input(s->net));

    return json_pack("{s:o,s:o,s:o,s:i,s:i,s:i,s:i,s:i,s:i,s:f,s:f,s:i}", "layers", describe_layers(s), "before", describe_size(s->net), "after",
                     describe_size(s->out.net), "neurons_removed", s->removed, "constants_folded", s->life.n_folded, "constants_approximate",
                     s->life.n_nearly, "biases_added", s->biases, "inputs", inputs, "dead_inputs", inputs - count(s->life.needed[0], inputs),
                     "max_difference", s->apart.difference, "max_relative_difference", compare_relative(&s->apart), "samples", s->apart.n_samples);
}

static void clear(struct shrink *s)
{
    for (int w = 0; s->net && w < s->net->n_weights; w++) {
        mem_free(s->keep[0] ? s->keep[0][w] : NULL);
        mem_free(s->keep[1] ? s->keep[1][w] : NULL);
        mem_free(s->shift ? s->shift[w] : NULL);
    }
    mem_free(s->keep[0]);
    mem_free(s->keep[1]);
    mem_free(s->shift);
    life_clear(&s->life);
    groups_clear(&s->groups);
    net_free(s->net);
    model_clear(&s->out);
}

enum err_code shrink_model(struct model *out, json_t **report, const struct model *in, bool approximate, const struct data_view *samples,
                           struct team *team, struct err *e)
{
    struct shrink s = { .in = in };
    enum err_code rc = net_clone(&s.net, in->net, e);

    if (rc == ERR_OK)
        rc = groups_find(&s.groups, s.net, e);
    if (rc == ERR_OK)
        rc = life_new(&s.life, s.net, approximate, e);
    if (rc == ERR_OK && !allocate(&s))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK) {
        choose(&s);
        for (int w = 0; w < s.net->n_weights; w++)
            if (s.shift[w])
                fold(&s, w);
        rc = build(&s, e);
    }
    if (rc == ERR_OK)
        rc = compare_nets(&s.apart, s.net, s.out.net, samples, team, e);
    if (rc == ERR_OK && !(compare_relative(&s.apart) <= (s.life.n_nearly > 0 ? DBL_MAX : SHRINK_TOLERANCE)))
        rc = err_set(e, ERR_INTERNAL, "the shrunk model's outputs differ by %g, %g of the largest", s.apart.difference, compare_relative(&s.apart));
    if (rc == ERR_OK && report && !(*report = describe(&s)))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK) {
        *out = s.out;
        s.out = (struct model){ 0 };
    }
    clear(&s);
    return rc;
}

/* Both run on samples; what is known and needed of each number, what stays of each index. */
uint64_t shrink_memory(const struct net *net)
{
    uint64_t flags = 0;

    for (int i = 0; i < net->n_nodes; i++)
        flags += shape_len(&net->node[i].plan.out) * 2 * sizeof(bool);
    for (const struct weight *w = net->weight; w < net->weight + net->n_weights; w++)
        flags += (uint64_t)weight_axis(w, 0) * (sizeof(double) + sizeof(bool)) + 2 * (uint64_t)weight_axis(w, 1) * sizeof(bool);
    return compare_memory(net) + exec_memory(net, 1, EXEC_KEEP) + flags;
}
