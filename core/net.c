/* core/net.c: see net.h. Initialisers stand in net_init.c, the memory estimate in exec.c beside the plan it is made from. */
#include "core/net.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"

static void weight_clear(struct weight *w)
{
    mem_free(w->x);
    mem_free(w->mask);
    sparse_free(w->sparse);
    int8_free(w->int8);
    *w = (struct weight){ 0 };
}

void net_free(struct net *net)
{
    if (!net)
        return;
    for (int i = 0; i < net->n_weights; i++)
        weight_clear(&net->weight[i]);
    for (int i = 0; i < net->n_nodes; i++)
        mem_free(net->node[i].given);
    mem_free(net->weight);
    mem_free(net->node);
    mem_free(net);
}

enum err_code net_new(struct net **out, const struct shape *input, struct err *e)
{
    struct plug_value conf = { .plug = &op_find("input")->plug };
    struct net *net = mem_zalloc(1, sizeof *net);
    enum err_code rc;

    *out = NULL;
    if (!net)
        return err_set(e, ERR_NOMEM, "out of memory");
    memcpy(conf.conf, input, sizeof *input);
    rc = net_add(net, op_of(conf.plug), &conf, "input", NULL, 0, NULL, e);
    if (rc == ERR_OK)
        *out = net;
    else
        net_free(net);
    return rc;
}

/* A layer's nodes stand together: the name of another layer may not come back later. */
static bool layer_is_taken(const struct net *net, const char *layer)
{
    int last = net->n_nodes - 1;

    while (last >= 0 && strcmp(net->node[last].layer, layer) == 0)
        last--;
    for (int i = 0; i <= last; i++)
        if (i > 0 && strcmp(net->node[i].layer, layer) == 0)
            return true;
    return false;
}

/* Fills *node; nothing of the net changes. */
static enum err_code node_make(struct node *node, const struct net *net, const struct op *op, const struct plug_value *conf,
                               const char *layer, const int *in, int n_in, struct err *e)
{
    const struct shape *shape[OP_MAX_IN];

    *node = (struct node){ .op = op, .conf = *conf, .n_in = n_in, .first_weight = net->n_weights };
    if (net->n_nodes >= NET_MAX_NODES)
        return err_set(e, ERR_TOO_LARGE, "a net has at most %d nodes", NET_MAX_NODES);
    if (strlen(layer) >= sizeof node->layer)
        return err_set(e, ERR_INVALID, "the layer's name has more than %zu bytes", sizeof node->layer - 1);
    if (layer_is_taken(net, layer))
        return err_set(e, ERR_INVALID, "two layers have the name \"%s\"", layer);
    if (n_in < op->min_in || n_in > op->max_in || (n_in == 0 && net->n_nodes > 0))
        return err_set(e, n_in > OP_MAX_IN ? ERR_UNSUPPORTED : ERR_INVALID, "%s takes %d to %d inputs, not %d", op->plug.name, op->min_in,
                       op->max_in, n_in);
    for (int i = 0; i < n_in; i++) {
        if (in[i] < 0 || in[i] >= net->n_nodes)
            return err_set(e, ERR_INVALID, "input %d is not an earlier node", i);
        node->in[i] = in[i];
        shape[i] = &net->node[in[i]].plan.out;
    }
    snprintf(node->layer, sizeof node->layer, "%s", layer);
    return op->shape(node->conf.conf, shape, n_in, &node->plan, e);
}

/* Its lines, as they are in `from`; NULL: zeros. */
static bool node_give(struct node *node, const struct op_line *from)
{
    const size_t n = (size_t)node->plan.n_lines;

    node->given = n > 0 ? mem_zalloc(n, sizeof *node->given) : NULL;
    if (node->given && from)
        memcpy(node->given, from, n * sizeof *node->given);
    return n == 0 || node->given;
}

static enum err_code weight_make(struct weight *w, const struct net *net, const struct node *node, int i, struct err *e)
{
    *w = (struct weight){ .node = net->n_nodes, .info = node->plan.weight[i], .len = shape_len(&node->plan.weight[i].shape) };
    snprintf(w->name, sizeof w->name, "%s/%s", node->layer, w->info.name);
    for (const struct weight *v = net->weight; v < net->weight + net->n_weights; v++)
        if (strcmp(v->name, w->name) == 0)
            return err_set(e, ERR_INVALID, "two weights have the name \"%s\"", w->name);
    w->x = mem_vector(w->len);
    return w->x ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

/* Room for one more node and n more weights; the net stays as it is. */
static enum err_code make_room(struct net *net, int n, struct err *e)
{
    struct node *node = mem_realloc(net->node, ((size_t)net->n_nodes + 1) * sizeof *node);
    struct weight *weight;

    if (node)
        net->node = node;
    weight = node ? mem_realloc(net->weight, (size_t)(net->n_weights + n + 1) * sizeof *weight) : NULL;
    if (weight)
        net->weight = weight;
    return weight ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

enum err_code net_add(struct net *net, const struct op *op, const struct plug_value *conf, const char *layer, const int *in, int n_in,
                      int *index, struct err *e)
{
    struct weight made[OP_MAX_WEIGHTS] = { 0 };
    struct node node;
    int n = 0;
    enum err_code rc = node_make(&node, net, op, conf, layer, in, n_in, e);

    for (; rc == ERR_OK && n < node.plan.n_weights; n++)
        rc = weight_make(&made[n], net, &node, n, e);
    if (rc == ERR_OK)
        rc = make_room(net, n, e);
    if (rc == ERR_OK && !node_give(&node, NULL))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc != ERR_OK) {
        while (n > 0)
            weight_clear(&made[--n]);
        return rc;
    }
    memcpy(net->weight + net->n_weights, made, (size_t)n * sizeof made[0]);
    net->n_weights += n;
    net->node[net->n_nodes] = node;
    if (index)
        *index = net->n_nodes;
    net->n_nodes++;
    return ERR_OK;
}

static bool weight_copy(struct weight *out, const struct weight *w)
{
    *out = *w;
    out->sparse = NULL;
    out->int8 = NULL;
    out->x = mem_vector(w->len);
    out->mask = w->mask ? mem_alloc(w->len) : NULL;
    if (!out->x || (w->mask && !out->mask)) {
        weight_clear(out);
        return false;
    }
    memcpy(out->x, w->x, w->len * sizeof(float));
    if (w->mask)
        memcpy(out->mask, w->mask, w->len);
    return true;
}

enum err_code net_clone(struct net **out, const struct net *net, struct err *e)
{
    struct net *copy = mem_zalloc(1, sizeof *copy);

    assert(!net->ahead);
    *out = NULL;
    if (!copy)
        return err_set(e, ERR_NOMEM, "out of memory");
    copy->trained = net->trained;
    copy->node = mem_alloc((size_t)net->n_nodes * sizeof *copy->node);
    copy->weight = mem_zalloc((size_t)net->n_weights + 1, sizeof *copy->weight);
    if (copy->node && copy->weight) {
        memcpy(copy->node, net->node, (size_t)net->n_nodes * sizeof *copy->node);
        while (copy->n_nodes < net->n_nodes && node_give(&copy->node[copy->n_nodes], net->node[copy->n_nodes].given))
            copy->n_nodes++;
        while (copy->n_weights < net->n_weights && weight_copy(&copy->weight[copy->n_weights], &net->weight[copy->n_weights]))
            copy->n_weights++;
    }
    if (copy->n_nodes < net->n_nodes || copy->n_weights < net->n_weights) {
        net_free(copy);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    *out = copy;
    return ERR_OK;
}

struct weight *net_weight(const struct net *net, const char *name)
{
    size_t n = strlen(name);

    if (n > 2 && strcmp(name + n - 2, ":0") == 0)
        n -= 2;
    for (struct weight *w = net->weight; w < net->weight + net->n_weights; w++)
        if (strncmp(w->name, name, n) == 0 && w->name[n] == '\0')
            return w;
    return NULL;
}

const struct shape *net_input(const struct net *net)
{
    return &net->node[0].plan.out;
}

const struct shape *net_output(const struct net *net)
{
    return &net->node[net->n_nodes - 1].plan.out;
}

/* What the first op reads that needs the channels first; NULL: there is none. */
static const struct node *images(const struct net *net)
{
    for (int i = 1; i < net->n_nodes; i++) {
        const struct node *node = &net->node[i], *from = &net->node[node->in[0]];

        if (node->op->grid == ORDER_CHANNELS && (node_has_kernel(node) || node->plan.neurons == NEURONS_PLACES) && from->plan.out.n_d > 1)
            return from;
    }
    return NULL;
}

bool net_channels_first(const struct net *net)
{
    const struct node *from = images(net);

    return from && from->positions == 0;
}

bool net_channels_last(const struct net *net)
{
    const struct node *from = images(net);

    return from && from->positions > 0;
}

static uint64_t count_nonzero(const float *x, size_t n)
{
    uint64_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += x[i] != 0;
    return count;
}

void net_count(const struct net *net, struct net_size *out)
{
    assert(!net->ahead);
    *out = (struct net_size){ 0 };
    for (int i = 0; i < net->n_nodes; i++)
        out->macs += net->node[i].plan.macs;
    out->macs_nonzero = out->macs;
    for (int i = 0; i < net->n_weights; i++) {
        const struct weight *w = &net->weight[i];
        uint64_t nonzero = count_nonzero(w->x, w->len);

        if (w->info.trainable) {
            out->params += w->len;
            out->params_nonzero += nonzero;
        }
        if (w->info.prunable) {
            out->weights += w->len;
            out->nonzero += nonzero;
            out->macs_nonzero -= weight_macs(net, w) * (w->len - nonzero);
        }
    }
}

void net_apply_masks(struct net *net)
{
    for (int i = 0; i < net->n_weights; i++) {
        struct weight *w = &net->weight[i];

        for (size_t j = 0; w->mask && j < w->len; j++)
            if (!w->mask[j])
                w->x[j] = 0;
    }
}

enum err_code net_mask_zeros(struct net *net, struct err *e)
{
    for (struct weight *w = net->weight; w < net->weight + net->n_weights; w++) {
        if (w->info.prunable && !w->mask && !(w->mask = mem_alloc(w->len)))
            return err_set(e, ERR_NOMEM, "out of memory");
        for (size_t i = 0; w->mask && i < w->len; i++)
            w->mask[i] = w->x[i] != 0;
    }
    return ERR_OK;
}

/* ---- dense and sparse ---- */

/* Kernels that their op can run sparse: weight 0 of a dense layer, or of a convolution whose outputs see all channels. */
static bool can_be_sparse(const struct net *net, const struct weight *w)
{
    const struct node *node = &net->node[w->node];

    return node->op->sparse && node->plan.neurons == NEURONS_MAKE && w == &net->weight[node->first_weight];
}

/* A kernel as rows of outputs. */
static int n_rows(const struct weight *w) { return w->info.shape.d[0]; }
static int n_cols(const struct weight *w) { return (int)(w->len / (size_t)w->info.shape.d[0]); }

/* Columns of the product for n samples: a dense layer may have places. */
static int n_columns(const struct net *net, const struct weight *w, int n)
{
    return w->info.shape.n_d == 2 ? (int)(shape_len(&net->node[w->node].plan.out) / (size_t)n_rows(w)) * n : n;
}

static bool pays(const struct net *net, const struct weight *w, size_t kept, int n)
{
    const double most = net->node[w->node].plan.sparse_density;

    return most > 0 ? kept > 0 && (double)kept <= most * (double)w->len : sparse_pays(n_rows(w), n_cols(w), kept, n_columns(net, w, n));
}

static size_t count_kept(const struct weight *w)
{
    size_t n = 0;

    for (size_t i = 0; i < w->len; i++)
        n += w->mask[i] != 0;
    return n;
}

void net_unpack(struct net *net)
{
    for (struct weight *w = net->weight; w < net->weight + net->n_weights; w++) {
        sparse_free(w->sparse);
        w->sparse = NULL;
    }
    net->packing++;
    net->forward = 0;
}

/* Whether forward passes of n samples may run in the form for one column. */
static bool may_be_single(const struct net *net, const struct weight *w, int n) { return w->info.shape.n_d == 2 && n_columns(net, w, n) == 1; }

/* A dense layer's values stand by columns where the gradient of its inputs is computed too: where something before it learns (see sparse.h). */
static enum sparse_lead lead(const struct net *net, const struct weight *w)
{
    const struct weight *before = net->weight;

    while (before->node < w->node && !before->info.trainable)
        before++;
    return w->info.shape.n_d == 2 && before->node < w->node ? SPARSE_BY_COL : SPARSE_BY_ROW;
}

/* Sparse where that pays; forward, where there is a form for one column, too. */
static enum err_code pack_weight(struct net *net, struct weight *w, int n, bool forward, struct err *e)
{
    const size_t kept = count_kept(w);
    const bool sparse = pays(net, w, kept, n), single = forward && may_be_single(net, w, n) && sparse_single_may_pay(w->len, kept);
    enum err_code rc;

    if (!sparse && !single)
        return ERR_OK;
    rc = sparse_new(&w->sparse, w->mask, n_rows(w), n_cols(w), forward ? SPARSE_BY_ROW : lead(net, w), e);
    if (rc == ERR_OK)
        sparse_gather(w->sparse, w->x);
    if (rc == ERR_OK && single)
        rc = sparse_single_make(w->sparse, e);
    if (rc == ERR_OK && !sparse && !w->sparse->single) {
        sparse_free(w->sparse);
        w->sparse = NULL;
    }
    return rc;
}

static enum err_code pack(struct net *net, int n, bool forward, struct err *e)
{
    assert(!net->ahead);
    net_unpack(net);
    for (struct weight *w = net->weight; w < net->weight + net->n_weights; w++) {
        enum err_code rc = w->mask && !w->int8 && can_be_sparse(net, w) ? pack_weight(net, w, n, forward, e) : ERR_OK;

        if (rc != ERR_OK) {
            net_unpack(net);
            return rc;
        }
    }
    return ERR_OK;
}

enum err_code net_pack(struct net *net, int n, struct err *e) { return pack(net, n, false, e); }
enum err_code net_pack_forward(struct net *net, int n, struct err *e)
{
    enum err_code rc = pack(net, n, true, e);

    net->forward = rc == ERR_OK ? n : 0;
    return rc;
}

int net_samples_at_once(const struct net *net, int n)
{
    enum { FEW = 4 }; /* a product of up to seven columns is hardly faster than seven of one, a sparse one than four */
    bool one = n <= FEW;

    for (const struct weight *w = net->weight; w < net->weight + net->n_weights; w++)
        one = one && (!w->info.prunable || may_be_single(net, w, 1));
    return one ? 1 : n;
}

bool net_can_int8(const struct net *net, const struct weight *w)
{
    return net->node[w->node].op->int8 && w == &net->weight[net->node[w->node].first_weight] && w->len / (size_t)weight_axis(w, 0) <= INT8_MAX_COLS;
}

/* A dense layer's kernel has two axes; a convolution's has the window behind them, and as many groups as its channels go into the input's. */
static enum err_code make_int8(struct int8 **out, const struct net *net, const struct weight *w, const int8_t *q, const float *scale, struct err *e)
{
    const struct shape *in = &net->node[net->node[w->node].in[0]].plan.out, *s = &w->info.shape;
    const struct int8_window window = int8_window_of(s->d[1], s->n_d == 4 ? s->d[2] : 1, s->d[s->n_d - 1]);

    if (s->n_d == 2)
        return int8_new(out, q, scale, s->d[0], s->d[1], e);
    return int8_new_conv(out, q, scale, s->d[0], s->d[0] / (in->d[0] / s->d[1]), &window, e);
}

enum err_code net_set_int8(struct net *net, struct weight *w, const int8_t *q, const float *scale, struct int8_scale input, struct err *e)
{
    const size_t cols = w->len / (size_t)w->info.shape.d[0];
    struct int8 *made;
    enum err_code rc = make_int8(&made, net, w, q, scale, e);

    if (rc != ERR_OK)
        return rc;
    made->input = input;
    int8_free(w->int8);
    w->int8 = made;
    sparse_free(w->sparse);
    w->sparse = NULL;
    for (size_t i = 0; i < w->len; i++)
        w->x[i] = (float)q[i] * scale[i / cols];
    net->packing++;
    net->forward = 0;
    return ERR_OK;
}

enum err_code net_repack(struct net *net, struct err *e)
{
    assert(!net->ahead);
    net->packing++;
    net->forward = 0;
    for (struct weight *w = net->weight; w < net->weight + net->n_weights; w++) {
        if (!w->sparse)
            continue;
        sparse_free(w->sparse);
        if (sparse_new(&w->sparse, w->mask, n_rows(w), n_cols(w), lead(net, w), e) != ERR_OK) {
            net_unpack(net);
            return ERR_NOMEM;
        }
        sparse_gather(w->sparse, w->x);
    }
    return ERR_OK;
}

void net_sync(struct net *net)
{
    for (int i = 0; net->ahead && i < net->n_weights; i++)
        if (net->weight[i].sparse)
            sparse_scatter(net->weight[i].sparse, net->weight[i].x);
    net->ahead = false;
}

uint64_t net_pack_memory(const struct net *net)
{
    uint64_t bytes = 0;

    for (const struct weight *w = net->weight; w < net->weight + net->n_weights; w++) {
        const bool single = may_be_single(net, w, 1);

        if (can_be_sparse(net, w))
            bytes += sparse_memory(n_rows(w), n_cols(w), (size_t)((single ? SPARSE_SINGLE_MAX_DENSITY : SPARSE_MAX_DENSITY) * (double)w->len)) +
                     (single ? sparse_single_memory(n_rows(w), n_cols(w)) : 0);
    }
    return bytes;
}
