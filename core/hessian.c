/* core/hessian.c: see hessian.h.
 *
 * R{a} is the derivative of a along the direction V of the kernels W; nothing else moves. Every op is one of four kinds:
 *   a view              R{y} = R{x}                     R{dx} = R{dy}                                            (so does a sum pass it back)
 *   one with a kernel   R{y} = W R{x} + V x             R{dx} = W' R{dy} + V' dy,  R{dW} = R{dy} x' + dy R{x}'   (its bias stands still)
 *   a linear one        R{y} = op(R{x})                 R{dx} = backward(R{dy})
 *   any other           R{y} = slope or backward(R{x})  R{dx} = backward(R{dy}) + bend                           (see op.h)
 * so the ops' own forward and backward compute it all. */
#include "core/hessian.h"

#include <string.h>

#include "core/mem.h"


struct hessian {
    const struct crit_net *in;
    double temperature;
    float *const *direction, *const *product;
    bool *live;             /* per node: on the way from a kernel to the loss */
    float **value, **grad;  /* per live node: R{y}, R{dy} */
    float *scratch;         /* as long as the inputs of any node, or its output */
    float *zero;            /* in place of an input that does not move */
    float *state;           /* of one op */
    float *unused;          /* gradients of weights that are no kernels */
    float *work;            /* op_scratch of all threads */
    size_t work_stride;
    float *z[2];            /* outputs on both sides */
    double *sample;
    float *memory;
};

static size_t node_len(const struct net *net, int i) { return shape_len(&net->node[i].plan.out); }

static void mark_live(struct hessian *h)
{
    const struct net *net = h->in->net;

    h->live[h->in->loss->node] = true;
    for (int i = h->in->loss->node; i > 0; i--) /* what the loss depends on */
        for (int k = 0; h->live[i] && k < net->node[i].n_in; k++)
            h->live[net->node[i].in[k]] = true;
    for (int i = 0; i < net->n_nodes; i++) { /* and that depends on a kernel */
        bool moves = node_has_kernel(&net->node[i]);

        for (int k = 0; k < net->node[i].n_in; k++)
            moves |= h->live[net->node[i].in[k]];
        h->live[i] &= moves;
    }
}

static size_t padded(size_t n) { return (n + 15) / 16 * 16; }

/* Floats for a batch of n; with at not NULL also hands them out. */
static size_t place(struct hessian *h, const struct net *net, size_t n, int threads, float *at)
{
    size_t most = 0, state = 0, unused = 0, work = 0, total = 0;

    for (int i = 0; i < net->n_nodes; i++) {
        const struct op_plan *p = &net->node[i].plan;
        size_t inputs = 0;

        for (int k = 0; k < net->node[i].n_in; k++)
            inputs += padded(node_len(net, net->node[i].in[k]) * n);
        most = inputs > most ? inputs : most;
        most = padded(node_len(net, i) * n) > most ? padded(node_len(net, i) * n) : most;
        state = p->state_len + n * p->state_len_per_sample > state ? p->state_len + n * p->state_len_per_sample : state;
        work = padded(p->scratch_len + n * p->scratch_len_per_sample) > work ? padded(p->scratch_len + n * p->scratch_len_per_sample) : work;
        for (int k = 0; k < p->n_weights; k++)
            unused = !p->weight[k].prunable && shape_len(&p->weight[k].shape) > unused ? shape_len(&p->weight[k].shape) : unused;
        for (int k = 0; k < 2; k++, total += padded(node_len(net, i) * n))
            if (at)
                (k ? h->grad : h->value)[i] = at + total;
    }
    if (at) {
        float **const part[] = { &h->scratch, &h->zero, &h->z[0], &h->z[1], &h->state, &h->unused, &h->work };
        const size_t len[] = { most, most, most, most, padded(state), padded(unused) };

        at += total;
        for (size_t k = 0; k < 7; at += k < 6 ? len[k] : 0, k++)
            *part[k] = at;
        h->work_stride = work;
    }
    return total + 4 * most + padded(state) + padded(unused) + work * (size_t)threads;
}

uint64_t hessian_memory(const struct net *net, int max_n) { return place(NULL, net, (size_t)max_n, EXEC_ESTIMATED_THREADS, NULL) * sizeof(float); }

enum err_code hessian_new(struct hessian **out, const struct crit_net *in, int max_n, double temperature, float *const *direction, float *const *product,
                          struct err *e)
{
    struct hessian *h = mem_zalloc(1, sizeof *h);
    size_t n = (size_t)in->net->n_nodes;

    if (!h)
        return err_set(e, ERR_NOMEM, "out of memory");
    *h = (struct hessian){ .in = in, .temperature = temperature, .direction = direction, .product = product };
    h->live = mem_zalloc(n, sizeof *h->live);
    h->value = mem_zalloc(n, sizeof *h->value);
    h->grad = mem_zalloc(n, sizeof *h->grad);
    h->sample = mem_zalloc((size_t)max_n, sizeof *h->sample);
    h->memory = mem_vector(place(h, in->net, (size_t)max_n, team_size(in->team), NULL));
    if (!h->live || !h->value || !h->grad || !h->sample || !h->memory) {
        hessian_free(h);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    place(h, in->net, (size_t)max_n, team_size(in->team), h->memory);
    mark_live(h);
    *out = h;
    return ERR_OK;
}

void hessian_free(struct hessian *h)
{
    if (!h)
        return;
    mem_free(h->live);
    mem_free(h->value);
    mem_free(h->grad);
    mem_free(h->sample);
    mem_free(h->memory);
    mem_free(h);
}

/* ---- one node ---- */

/* As exec called it, but for what is to be filled in: dy, dx, dw. The weights that are no kernels stand still: a bias is left out. */
static struct op_call call_of(const struct hessian *h, const struct probe_batch *b, int i)
{
    const struct net *net = h->in->net;
    const struct node *node = &net->node[i];
    struct op_call c = { .conf = node->conf.conf, .n = b->n, .n_in = node->n_in, .out_shape = &node->plan.out, .state = h->state,
                         .scratch = h->work, .scratch_stride = h->work_stride, .team = h->in->team, .y = (float *)exec_value(b->exec, i),
                         .accumulate = node_has_kernel(&net->node[i]) };

    for (int k = 0; k < node->n_in; k++) {
        c.in_shape[k] = &net->node[node->in[k]].plan.out;
        c.x[k] = exec_value(b->exec, node->in[k]);
    }
    for (int k = 0; k < node->plan.n_weights && !(k > 0 && node_has_kernel(&net->node[i])); k++) {
        c.w[k] = net->weight[node->first_weight + k].x;
        c.dw[k] = node_has_kernel(&net->node[i]) ? h->product[node->first_weight] : h->unused;
    }
    return c;
}

static void add(float *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] += from[i];
}

/* What forward leaves for backward. */
static void fill_state(const struct hessian *h, const struct op_call *c, const struct node *node)
{
    struct op_call again = *c;

    again.y = h->scratch;
    if (node->plan.state_len + node->plan.state_len_per_sample > 0)
        node->op->forward(&again);
}

/* R{x} of input k. */
static const float *moved(const struct hessian *h, const struct node *node, int k) { return h->live[node->in[k]] ? h->value[node->in[k]] : h->zero; }

static void forward_node(const struct hessian *h, const struct probe_batch *b, int i)
{
    const struct node *node = &h->in->net->node[i];
    int from = node->in[0];
    size_t len = node_len(h->in->net, i) * (size_t)b->n;
    struct op_call c = call_of(h, b, i);

    if (node->op->view) {
        memcpy(h->value[i], h->value[from], len * sizeof(float));
    } else if (node_has_kernel(&h->in->net->node[i])) {
        c.w[0] = h->direction[node->first_weight];
        c.y = h->value[i];
        node->op->forward(&c);
        if (!h->live[from])
            return;
        c.w[0] = h->in->net->weight[node->first_weight].x;
        c.x[0] = h->value[from];
        c.y = h->scratch;
        node->op->forward(&c);
        add(h->value[i], h->scratch, len);
    } else if (node->op->linear) {
        for (int k = 0; k < node->n_in; k++)
            c.x[k] = moved(h, node, k);
        c.y = h->value[i];
        node->op->forward(&c);
    } else if (node->op->slope) {
        fill_state(h, &c, node);
        for (int k = 0; k < node->n_in; k++)
            c.along[k] = moved(h, node, k);
        c.y = h->value[i];
        node->op->slope(&c);
    } else {
        fill_state(h, &c, node);
        c.dy = h->value[from];
        c.dx[0] = h->value[i];
        node->op->backward(&c);
    }
}

static void backward_kernel(const struct hessian *h, const struct probe_batch *b, int i, struct op_call *c)
{
    const struct node *node = &h->in->net->node[i];
    int from = node->in[0];
    size_t len = node_len(h->in->net, from) * (size_t)b->n;

    c->dy = h->grad[i];
    c->dx[0] = h->live[from] ? h->scratch : NULL;
    node->op->backward(c);
    if (!h->live[from])
        return;
    add(h->grad[from], h->scratch, len);
    c->w[0] = h->direction[node->first_weight];
    c->x[0] = h->value[from];
    c->dy = exec_grad(b->exec, i);
    node->op->backward(c);
    add(h->grad[from], h->scratch, len);
}

static void backward_node(const struct hessian *h, const struct probe_batch *b, int i)
{
    const struct node *node = &h->in->net->node[i];
    struct op_call c = call_of(h, b, i);
    float *at = h->scratch;

    if (node_has_kernel(&h->in->net->node[i])) {
        backward_kernel(h, b, i, &c);
        return;
    }
    if (node->op->view || node->op->same_dx) {
        for (int k = 0; k < node->n_in; k++)
            if (h->live[node->in[k]])
                add(h->grad[node->in[k]], h->grad[i], node_len(h->in->net, i) * (size_t)b->n);
        return;
    }
    c.dy = h->grad[i];
    for (int k = 0; k < node->n_in; k++, at += padded(node_len(h->in->net, node->in[k - 1]) * (size_t)b->n))
        c.dx[k] = h->live[node->in[k]] ? at : NULL;
    fill_state(h, &c, node);
    node->op->backward(&c);
    if (node->op->bend) {
        c.dy = exec_grad(b->exec, i);
        for (int k = 0; k < node->n_in; k++)
            c.along[k] = moved(h, node, k);
        node->op->bend(&c);
    }
    for (int k = 0; k < node->n_in; k++)
        if (c.dx[k])
            add(h->grad[node->in[k]], c.dx[k], node_len(h->in->net, node->in[k]) * (size_t)b->n);
}

/* ---- the loss, and the whole ---- */

static double largest(const float *x, size_t n)
{
    float most = 0;

    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(x[i]));
    return (double)most;
}

/* R{dz}: by the difference of dz, a hundredth of the scale on which a loss bends to both sides. */
static void bend_loss(const struct hessian *h, const struct probe_batch *b)
{
    struct loss_call c = *b->loss;
    int at = h->in->loss->node;
    size_t len = (size_t)c.k * (size_t)c.n;
    double t = b->loss->z == exec_value(b->exec, at) ? 1 : h->temperature, moved = largest(h->value[at], len) / t, step;

    memset(h->grad[at], 0, len * sizeof(float));
    if (!(moved > 0))
        return;
    step = 0.01 * (h->in->loss->loss->fuses ? 1 : fmax(1, largest(c.z, len))) / moved;
    c.sample = h->sample;
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < len; i++)
            h->z[side][i] = (float)((double)b->loss->z[i] + (side ? -step : step) * (double)h->value[at][i] / t);
        c.z = h->z[side];
        c.dz = side ? h->scratch : h->grad[at];
        h->in->loss->loss->run(&c);
    }
    for (size_t i = 0; i < len; i++)
        h->grad[at][i] = (float)(((double)h->grad[at][i] - (double)h->scratch[i]) / (2 * step * t));
}

void hessian_add(struct hessian *h, const struct probe_batch *b)
{
    const struct net *net = h->in->net;

    for (int i = 1; i < net->n_nodes; i++)
        if (h->live[i]) {
            memset(h->grad[i], 0, node_len(net, i) * (size_t)b->n * sizeof(float));
            forward_node(h, b, i);
        }
    bend_loss(h, b);
    for (int i = h->in->loss->node; i > 0; i--)
        if (h->live[i])
            backward_node(h, b, i);
}
