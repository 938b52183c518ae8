/* core/life.c: see life.h. What is known is found forwards, what is needed backwards; how a number passes a node stands in its op's plan. */
#include "core/life.h"

#include <string.h>

#include "core/mem.h"
#include "core/patch.h"

#define SAME 1e-6f /* that places of one number may differ: a convolution rounds by place */

static const struct shape *value_shape(const struct net *net, int node) { return &net->node[node].plan.out; }
static size_t value_len(const struct net *net, int node) { return shape_len(value_shape(net, node)); }
static size_t first_axis(const struct shape *s) { return s->n_d > 0 ? (size_t)s->d[0] : 1; }

static bool any(const bool *flag, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (flag[i])
            return true;
    return false;
}

static bool all(const bool *flag, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!flag[i])
            return false;
    return true;
}

/* ---- kernels: rows and columns as runs of the values before and behind ---- */

struct run { size_t first, len; };

static struct run row_run(const struct net *net, int w, int row)
{
    size_t len = value_len(net, net->weight[w].node) / (size_t)net->weight[w].info.shape.d[0];

    return (struct run){ (size_t)row * len, len };
}

static struct run column_run(const struct net *net, int w, int column)
{
    size_t len = value_len(net, net->node[net->weight[w].node].in[0]) / (size_t)net->weight[w].info.shape.d[1];

    return (struct run){ (size_t)column * len, len };
}

static bool has_weight(const struct weight *w, int row, int column)
{
    size_t each = w->len / (size_t)w->info.shape.d[0] / (size_t)w->info.shape.d[1];
    const float *x = w->x + ((size_t)row * (size_t)w->info.shape.d[1] + (size_t)column) * each;

    for (size_t i = 0; i < each; i++)
        if (x[i] != 0)
            return true;
    return false;
}

/* Of a node of NEURONS_PLACES: `each` rows for a neuron, a row makes `out` numbers of a neuron's `in`. Without a kernel one row each. */
struct rows { size_t n, each, in, out; };

static struct rows rows_of(const struct net *net, int i)
{
    const struct node *node = &net->node[i];
    size_t neurons = first_axis(value_shape(net, node->in[0])), n = node_has_kernel(node) ? (size_t)node->plan.weight[0].shape.d[0] : neurons;

    return (struct rows){ n, n / neurons, value_len(net, node->in[0]) / neurons, value_len(net, i) / n };
}

/* true without a kernel. */
static bool row_has_weight(const struct net *net, int i, size_t row)
{
    const struct node *node = &net->node[i];
    const struct weight *w = &net->weight[node->first_weight];

    if (!node_has_kernel(node))
        return true;
    for (int c = 0; c < w->info.shape.d[1]; c++)
        if (has_weight(w, (int)row, c))
            return true;
    return false;
}

bool life_row_needed(const struct life *l, int w, int row)
{
    struct run r = row_run(l->net, w, row);

    return any(l->needed[l->net->weight[w].node] + r.first, r.len);
}

static const float *column_values(const struct life *l, int w, int column)
{
    return exec_value(l->exec, l->net->node[l->net->weight[w].node].in[0]) + column_run(l->net, w, column).first;
}

enum life_column life_column(const struct life *l, int w, int column)
{
    const struct node *node = &l->net->node[l->net->weight[w].node];
    const struct run r = column_run(l->net, w, column);
    const float *value = column_values(l, w, column);
    bool alike = true;

    if (!all(l->known[node->in[0]] + r.first, r.len))
        return LIFE_VARIES;
    for (size_t i = 0; i < r.len; i++)
        alike = alike && fabsf(value[i] - value[0]) <= SAME * fabsf(value[0]);
    if (alike && (value[0] == 0 || !node->plan.pads))
        return LIFE_CONSTANT;
    return l->approximate ? LIFE_NEARLY : LIFE_VARIES;
}

double life_column_gives(const struct life *l, int w, int column, int row)
{
    const struct weight *kernel = &l->net->weight[w];
    const float *value = exec_value(l->exec, l->net->node[kernel->node].in[0]);
    const struct conv g = patch_shape(l->net, w);
    const int taps = patch_taps(&g), middle = g.oh / 2 * g.ow + g.ow / 2;
    double sum = 0;

    for (int k = 0; k < taps; k++) {
        const int64_t at = patch_source(&g, 0, column * taps + k, middle);

        if (at >= 0)
            sum += (double)kernel->x[((size_t)row * (size_t)g.c + (size_t)column) * (size_t)taps + (size_t)k] * (double)value[at];
    }
    return sum;
}

bool life_can_shift(const struct op *op)
{
    for (const struct param *p = op->plug.params; p && p->name; p++)
        if (strcmp(p->name, "use_bias") == 0)
            return true;
    return false;
}

/* ---- forwards: what is known ---- */

static void know_mix(struct life *l, int i)
{
    const struct node *node = &l->net->node[i];
    bool known = node->n_in > 0; /* the input is not */

    for (int k = 0; k < node->n_in; k++)
        known = known && all(l->known[node->in[k]], value_len(l->net, node->in[k]));
    memset(l->known[i], known, value_len(l->net, i));
}

static void know_make(struct life *l, int i)
{
    const struct node *node = &l->net->node[i];
    const struct weight *w = &l->net->weight[node->first_weight];

    for (int o = 0; o < w->info.shape.d[0]; o++) {
        struct run r = row_run(l->net, node->first_weight, o);
        bool known = true;

        for (int c = 0; c < w->info.shape.d[1] && known; c++) {
            struct run in = column_run(l->net, node->first_weight, c);

            known = all(l->known[node->in[0]] + in.first, in.len) || !has_weight(w, o, c);
        }
        memset(l->known[i] + r.first, known, r.len);
    }
}

static void know_pass(struct life *l, int i)
{
    memcpy(l->known[i], l->known[l->net->node[i].in[0]], value_len(l->net, i) * sizeof(bool));
}

static void know_places(struct life *l, int i)
{
    const struct rows rows = rows_of(l->net, i);

    for (size_t r = 0; r < rows.n; r++) {
        bool known = all(l->known[l->net->node[i].in[0]] + r / rows.each * rows.in, rows.in) || !row_has_weight(l->net, i, r);

        memset(l->known[i] + r * rows.out, known, rows.out);
    }
}

/* What input k of a merging node has for number j of its value. */
static bool *merged(bool **flag, const struct net *net, int i, int k, size_t j)
{
    int from = net->node[i].in[k];

    return &flag[from][j / (value_len(net, i) / value_len(net, from))];
}

static void know_merge(struct life *l, int i)
{
    for (size_t j = 0; j < value_len(l->net, i); j++) {
        l->known[i][j] = true;
        for (int k = 0; k < l->net->node[i].n_in; k++)
            l->known[i][j] = l->known[i][j] && *merged(l->known, l->net, i, k, j);
    }
}

static void know_join(struct life *l, int i)
{
    const struct node *node = &l->net->node[i];
    size_t at = 0;

    for (int k = 0; k < node->n_in; at += value_len(l->net, node->in[k++]))
        memcpy(l->known[i] + at, l->known[node->in[k]], value_len(l->net, node->in[k]) * sizeof(bool));
}

/* ---- backwards: what is needed ---- */

static void need_mix(struct life *l, int i)
{
    const struct node *node = &l->net->node[i];

    for (int k = 0; k < node->n_in && any(l->needed[i], value_len(l->net, i)); k++)
        memset(l->needed[node->in[k]], true, value_len(l->net, node->in[k]));
}

/* Whether a bias can take over what the column reads. */
static bool fold_column(struct life *l, int w, int column)
{
    const enum life_column is = life_column(l, w, column);

    l->n_nearly += is == LIFE_NEARLY;
    l->n_folded += is == LIFE_NEARLY || (is == LIFE_CONSTANT && *column_values(l, w, column) != 0);
    return is != LIFE_VARIES;
}

static void need_make(struct life *l, int i)
{
    const struct node *node = &l->net->node[i];
    int number = node->first_weight;
    const struct weight *w = &l->net->weight[number];
    bool *reads = l->reads[number];

    for (int o = 0; o < w->info.shape.d[0]; o++)
        for (int c = 0; c < w->info.shape.d[1] && life_row_needed(l, number, o); c++)
            reads[c] = reads[c] || has_weight(w, o, c);
    for (int c = 0; c < w->info.shape.d[1]; c++) {
        struct run r = column_run(l->net, number, c);

        if (reads[c] && life_can_shift(node->op))
            reads[c] = !fold_column(l, number, c);
        if (reads[c])
            memset(l->needed[node->in[0]] + r.first, true, r.len);
    }
}

static void need_pass(struct life *l, int i)
{
    bool *from = l->needed[l->net->node[i].in[0]];

    for (size_t j = 0; j < value_len(l->net, i); j++)
        from[j] |= l->needed[i][j];
}

static void need_places(struct life *l, int i)
{
    const struct rows rows = rows_of(l->net, i);

    for (size_t r = 0; r < rows.n; r++)
        if (any(l->needed[i] + r * rows.out, rows.out) && row_has_weight(l->net, i, r))
            memset(l->needed[l->net->node[i].in[0]] + r / rows.each * rows.in, true, rows.in);
}

static void need_merge(struct life *l, int i)
{
    for (int k = 0; k < l->net->node[i].n_in; k++)
        for (size_t j = 0; j < value_len(l->net, i); j++)
            *merged(l->needed, l->net, i, k, j) |= l->needed[i][j];
}

static void need_join(struct life *l, int i)
{
    const struct node *node = &l->net->node[i];
    size_t at = 0;

    for (int k = 0; k < node->n_in; at += value_len(l->net, node->in[k++]))
        for (size_t j = 0; j < value_len(l->net, node->in[k]); j++)
            l->needed[node->in[k]][j] |= l->needed[i][at + j];
}

static const struct way { void (*know)(struct life *l, int i), (*need)(struct life *l, int i); } ways[] = {
    [NEURONS_MIX] = { know_mix, need_mix },       [NEURONS_MAKE] = { know_make, need_make }, [NEURONS_PASS] = { know_pass, need_pass },
    [NEURONS_PLACES] = { know_places, need_places }, [NEURONS_MERGE] = { know_merge, need_merge }, [NEURONS_JOIN] = { know_join, need_join }
};

/* ---- the whole ---- */

static bool flags(bool **out, size_t n)
{
    *out = mem_zalloc(n, sizeof **out);
    return *out != NULL;
}

static bool allocate(struct life *l)
{
    size_t n = (size_t)l->net->n_nodes;
    bool ok;

    l->known = mem_zalloc(n, sizeof *l->known);
    l->needed = mem_zalloc(n, sizeof *l->needed);
    l->reads = mem_zalloc((size_t)l->net->n_weights, sizeof *l->reads);
    ok = l->known && l->needed && l->reads;
    for (int i = 0; i < l->net->n_nodes && ok; i++) {
        const struct node *node = &l->net->node[i];

        ok = flags(&l->known[i], value_len(l->net, i)) && flags(&l->needed[i], value_len(l->net, i));
        if (ok && node->plan.neurons == NEURONS_MAKE)
            ok = flags(&l->reads[node->first_weight], (size_t)node->plan.weight[0].shape.d[1]);
    }
    return ok;
}

enum err_code life_new(struct life *out, struct net *net, bool approximate, struct err *e)
{
    struct life l = { .net = net, .approximate = approximate };
    enum err_code rc = allocate(&l) ? exec_new(&l.exec, net, 1, EXEC_KEEP, 0, NULL, e) : err_set(e, ERR_NOMEM, "out of memory");

    if (rc != ERR_OK) {
        life_clear(&l);
        return rc;
    }
    memset(exec_input(l.exec), 0, value_len(net, 0) * sizeof(float));
    exec_forward(l.exec, 1, false, 0);
    for (int i = 0; i < net->n_nodes; i++)
        ways[net->node[i].plan.neurons].know(&l, i);
    memset(l.needed[net->n_nodes - 1], true, value_len(net, net->n_nodes - 1));
    for (int i = net->n_nodes - 1; i > 0; i--)
        ways[net->node[i].plan.neurons].need(&l, i);
    *out = l;
    return ERR_OK;
}

void life_clear(struct life *l)
{
    for (int i = 0; l->net && i < l->net->n_nodes; i++) {
        mem_free(l->known ? l->known[i] : NULL);
        mem_free(l->needed ? l->needed[i] : NULL);
    }
    for (int w = 0; l->net && l->reads && w < l->net->n_weights; w++)
        mem_free(l->reads[w]);
    mem_free(l->known);
    mem_free(l->needed);
    mem_free(l->reads);
    exec_free(l->exec);
    *l = (struct life){ 0 };
}
