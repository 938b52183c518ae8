/* core/exec.c: see exec.h.
 *
 * The plan comes first and is also what exec_memory counts: which node's value lies in which block of memory, which gradient goes
 * where. A view (reshape, linear) has no block of its own. While training every other node has one, and so has every gradient: a node with
 * one consumer gets its gradient written in place; with several, each consumer has a block and the blocks are added in the order of the
 * consumers. Inference reuses blocks whose last reader is past. Only nodes behind something that learns have gradients, and the
 * last ones, where a loss may start. */
#include "core/exec.h"

#include <assert.h>
#include <string.h>

#include "core/mem.h"
#include "core/simd.h"

enum { NONE = -1, RANGE = 16384, ESTIMATED_THREADS = 4 };

struct node_plan {
    int value;               /* block */
    int grad;                /* block, or NONE */
    int last_use;            /* node that reads the value last */
    int n_consumers;
    bool needs_grad;         /* it or an earlier node learns */
    bool is_end;             /* the output, what it is a view of, and what that is computed from: a loss may start there */
    int dx[OP_MAX_IN];       /* blocks that its backward writes, or NONE */
};
struct block {
    size_t len;              /* floats per sample */
    int free_after;          /* inference: node after which it may be reused */
    float *x;
};
struct plan {
    int n_nodes, n_blocks, max_blocks;
    struct node_plan *node;
    struct block *block;
};

/* One node's ready messages, on the way to the caller: weight numbers become the net's. */
struct relay {
    struct exec *exec;
    int first_weight;
};
struct exec {
    struct net *net;
    int max_n, n;
    bool training;           /* it goes backward too */
    struct plan plan;
    struct op_call *call;    /* per node */
    struct relay *relay;     /* per node */
    bool *active;            /* per node: the running backward passes through it */
    float **dw;              /* per weight, NULL: not trainable */
    unsigned packing;        /* of the net, when weights were bound */
    float *memory;
    void (*ready)(void *user, int w, size_t first, size_t n);
    void *ready_user;
};

/* ---- the plan ---- */

static int new_block(struct plan *p, size_t len)
{
    p->block[p->n_blocks] = (struct block){ .len = len };
    return p->n_blocks++;
}

static bool learns(const struct node *node)
{
    for (int i = 0; i < node->plan.n_weights; i++)
        if (node->plan.weight[i].trainable)
            return true;
    return false;
}

static void mark_ends(struct plan *p, const struct net *net)
{
    int i = p->n_nodes - 1;

    for (; net->node[i].op->view; i = net->node[i].in[0])
        p->node[i].is_end = true;
    p->node[i].is_end = true;
    for (int k = 0; k < net->node[i].n_in; k++)
        p->node[net->node[i].in[k]].is_end = true;
}

static void plan_uses(struct plan *p, const struct net *net)
{
    for (int i = 0; i < p->n_nodes; i++) {
        p->node[i] = (struct node_plan){ .grad = NONE, .last_use = i, .needs_grad = learns(&net->node[i]) };
        for (int k = 0; k < net->node[i].n_in; k++) {
            struct node_plan *from = &p->node[net->node[i].in[k]];

            from->last_use = i;
            from->n_consumers++;
            p->node[i].needs_grad |= from->needs_grad;
        }
    }
    mark_ends(p, net);
    for (int i = 0; i < p->n_nodes; i++)
        if (p->node[i].is_end)
            p->node[i].last_use = p->n_nodes;
}

static int reusable_block(struct plan *p, int node, size_t len)
{
    int best = NONE;

    for (int b = 0; b < p->n_blocks; b++)
        if (p->block[b].free_after < node && (best == NONE || p->block[b].len > p->block[best].len))
            best = b;
    if (best == NONE)
        return new_block(p, len);
    if (p->block[best].len < len)
        p->block[best].len = len;
    return best;
}

static void plan_values(struct plan *p, const struct net *net, bool training)
{
    for (int i = 0; i < p->n_nodes; i++) {
        size_t len = shape_len(&net->node[i].plan.out);

        if (net->node[i].op->view)
            p->node[i].value = p->node[net->node[i].in[0]].value;
        else
            p->node[i].value = training ? new_block(p, len) : reusable_block(p, i, len);
        if (p->block[p->node[i].value].free_after < p->node[i].last_use)
            p->block[p->node[i].value].free_after = p->node[i].last_use;
    }
}

/* Backwards: a node's gradient is placed by its only consumer, or by itself. */
static void plan_grads(struct plan *p, const struct net *net)
{
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        const struct node *node = &net->node[i];
        struct node_plan *np = &p->node[i];

        if (np->grad == NONE && (np->needs_grad || np->is_end))
            np->grad = new_block(p, shape_len(&node->plan.out));
        for (int k = 0; k < node->n_in; k++) {
            struct node_plan *from = &p->node[node->in[k]];

            np->dx[k] = NONE;
            if (!from->needs_grad)
                continue;
            np->dx[k] = node->op->view ? np->grad : new_block(p, shape_len(&net->node[node->in[k]].plan.out));
            if (from->n_consumers == 1)
                from->grad = np->dx[k];
        }
    }
}

static bool plan_make(struct plan *p, const struct net *net, enum exec_kind kind)
{
    int edges = 0;

    for (int i = 0; i < net->n_nodes; i++)
        edges += net->node[i].n_in;
    *p = (struct plan){ .n_nodes = net->n_nodes };
    p->node = mem_zalloc((size_t)net->n_nodes, sizeof *p->node);
    p->block = mem_zalloc(2 * (size_t)net->n_nodes + (size_t)edges, sizeof *p->block);
    if (!p->node || !p->block)
        return false;
    plan_uses(p, net);
    plan_values(p, net, kind != EXEC_INFER);
    if (kind != EXEC_INFER)
        plan_grads(p, net);
    return true;
}

static void plan_clear(struct plan *p)
{
    mem_free(p->node);
    mem_free(p->block);
    *p = (struct plan){ 0 };
}

/* ---- memory: one allocation, cut into 64-byte aligned pieces ---- */

static size_t padded(size_t len)
{
    return (len + 15) / 16 * 16;
}

static size_t state_len(const struct node *node, int max_n)
{
    return node->plan.state_len + (size_t)max_n * node->plan.state_len_per_sample;
}

/* Of one thread: what the op that needs most needs. */
static size_t scratch_len(const struct net *net, int max_n)
{
    size_t most = 0;

    for (int i = 0; i < net->n_nodes; i++) {
        const struct op_plan *p = &net->node[i].plan;
        size_t len = padded(p->scratch_len + (size_t)max_n * p->scratch_len_per_sample);

        most = len > most ? len : most;
    }
    return most;
}

static size_t plan_len(const struct plan *p, const struct net *net, int max_n, bool training, int threads)
{
    size_t len = scratch_len(net, max_n) * (size_t)threads;

    for (int b = 0; b < p->n_blocks; b++)
        len += padded(p->block[b].len * (size_t)max_n);
    for (int i = 0; i < net->n_nodes; i++)
        len += padded(state_len(&net->node[i], max_n));
    for (int w = 0; training && w < net->n_weights; w++)
        len += net->weight[w].info.trainable ? padded(weight_n_values(&net->weight[w])) : 0;
    return len;
}

uint64_t exec_memory(const struct net *net, int max_n, enum exec_kind kind)
{
    struct plan p;
    uint64_t bytes = UINT64_MAX; /* no memory even for the plan */

    if (plan_make(&p, net, kind)) {
        bytes = plan_len(&p, net, max_n, kind != EXEC_INFER, ESTIMATED_THREADS) * sizeof(float);
        for (int w = 0; w < net->n_weights; w++)
            bytes += padded(net->weight[w].len) * sizeof(float);
    }
    plan_clear(&p);
    return bytes;
}

static float *cut(float **at, size_t len)
{
    float *x = *at;

    *at += padded(len);
    return x;
}

static float *block_at(const struct exec *x, int block)
{
    return block == NONE ? NULL : x->plan.block[block].x;
}

static void bind_memory(struct exec *x, int threads)
{
    float *at = x->memory, *scratch;
    size_t stride = scratch_len(x->net, x->max_n);

    scratch = cut(&at, stride * (size_t)threads);
    for (int i = 0; i < x->net->n_nodes; i++) {
        x->call[i].scratch = scratch;
        x->call[i].scratch_stride = stride;
    }

    for (int b = 0; b < x->plan.n_blocks; b++)
        x->plan.block[b].x = cut(&at, x->plan.block[b].len * (size_t)x->max_n);
    for (int i = 0; i < x->net->n_nodes; i++)
        x->call[i].state = cut(&at, state_len(&x->net->node[i], x->max_n));
    for (int w = 0; x->training && w < x->net->n_weights; w++)
        x->dw[w] = x->net->weight[w].info.trainable ? cut(&at, weight_n_values(&x->net->weight[w])) : NULL;
}

static void relay_ready(void *user, int i, size_t first, size_t n)
{
    const struct relay *r = user;

    r->exec->ready(r->exec->ready_user, r->first_weight + i, first, n);
}

/* The net's weights as they run now: dense or sparse. */
static void bind_weights(struct exec *x)
{
    for (int i = 0; i < x->net->n_nodes; i++) {
        const struct node *node = &x->net->node[i];
        const struct weight *w = &x->net->weight[node->first_weight];

        for (int k = 0; k < node->plan.n_weights; k++)
            x->call[i].w[k] = weight_values(&w[k]);
        x->call[i].sparse = node->plan.n_weights > 0 ? w->sparse : NULL;
        x->call[i].int8 = node->plan.n_weights > 0 ? w->int8 : NULL;
    }
    x->packing = x->net->packing;
}

static void bind_call(struct exec *x, int i, uint64_t seed, struct team *team)
{
    const struct node *node = &x->net->node[i];
    const struct node_plan *np = &x->plan.node[i];
    struct op_call *c = &x->call[i];

    c->conf = node->conf.conf;
    c->n_in = node->n_in;
    c->out_shape = &node->plan.out;
    c->y = block_at(x, np->value);
    c->dy = block_at(x, np->grad);
    c->seed = seed;
    c->node = (uint32_t)i;
    c->team = team;
    for (int k = 0; k < node->n_in; k++) {
        c->in_shape[k] = &x->net->node[node->in[k]].plan.out;
        c->x[k] = block_at(x, x->plan.node[node->in[k]].value);
        c->dx[k] = x->training ? block_at(x, np->dx[k]) : NULL;
    }
    for (int k = 0; k < node->plan.n_weights; k++)
        c->dw[k] = x->training ? x->dw[node->first_weight + k] : NULL;
    x->relay[i] = (struct relay){ x, node->first_weight };
    c->ready_user = &x->relay[i];
}

enum err_code exec_new(struct exec **out, struct net *net, int max_n, enum exec_kind kind, uint64_t seed, struct team *team, struct err *e)
{
    struct exec *x = mem_zalloc(1, sizeof *x);
    size_t n_nodes = (size_t)net->n_nodes;

    *out = NULL;
    if (!x)
        return err_set(e, ERR_NOMEM, "out of memory");
    x->net = net;
    x->max_n = max_n;
    x->training = kind != EXEC_INFER;
    x->call = mem_zalloc(n_nodes, sizeof *x->call);
    x->relay = mem_zalloc(n_nodes, sizeof *x->relay);
    x->active = mem_zalloc(n_nodes, sizeof *x->active);
    x->dw = mem_zalloc((size_t)net->n_weights, sizeof *x->dw);
    if (plan_make(&x->plan, net, kind))
        x->memory = mem_vector(plan_len(&x->plan, net, max_n, x->training, team_size(team)));
    if (!x->call || !x->relay || !x->active || !x->dw || !x->memory) {
        exec_free(x);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    bind_memory(x, team_size(team));
    for (int i = 0; i < net->n_nodes; i++)
        bind_call(x, i, seed, team);
    bind_weights(x);
    *out = x;
    return ERR_OK;
}

void exec_free(struct exec *x)
{
    if (!x)
        return;
    plan_clear(&x->plan);
    mem_free(x->call);
    mem_free(x->relay);
    mem_free(x->active);
    mem_free(x->dw);
    mem_free(x->memory);
    mem_free(x);
}

/* ---- running ---- */

int exec_max_n(const struct exec *x)
{
    return x->max_n;
}

float *exec_input(struct exec *x)
{
    return x->call[0].y;
}

const float *exec_value(const struct exec *x, int node)
{
    return x->call[node].y;
}

float *exec_grad(struct exec *x, int node)
{
    return block_at(x, x->plan.node[node].grad);
}

float *exec_dw(struct exec *x, int w)
{
    return x->dw[w];
}

void exec_forward(struct exec *x, int n, bool training, uint64_t step)
{
    assert(!x->training || x->packing == x->net->packing); /* the gradients are as long as the values were */
    if (x->packing != x->net->packing)
        bind_weights(x);
    x->n = n;
    for (int i = 0; i < x->net->n_nodes; i++) {
        struct op_call *c = &x->call[i];

        c->n = n;
        c->training = training;
        c->step = step;
        if (x->net->node[i].op->forward)
            x->net->node[i].op->forward(c);
    }
}

/* Nodes whose value the start depends on. */
static void mark_active(struct exec *x, int start)
{
    memset(x->active, 0, (size_t)x->net->n_nodes * sizeof *x->active);
    x->active[start] = true;
    for (int i = start; i > 0; i--)
        for (int k = 0; x->active[i] && k < x->net->node[i].n_in; k++)
            x->active[x->net->node[i].in[k]] = true;
}

struct sum {
    float *to;
    const float *from;
    size_t len;
    bool first;
};

SIMD static void sum_range(float *restrict to, const float *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] += from[i];
}

static void sum_tile(void *ctx, int tile)
{
    const struct sum *s = ctx;
    size_t first = (size_t)tile * RANGE, n = s->len - first < RANGE ? s->len - first : RANGE;

    if (s->first)
        memcpy(s->to + first, s->from + first, n * sizeof(float));
    else
        sum_range(s->to + first, s->from + first, n);
}

/* Adds up what the consumers of node i left. Consumers come later in the order of nodes and have run. */
static void sum_consumers(struct exec *x, int i)
{
    struct sum s = { exec_grad(x, i), NULL, shape_len(x->call[i].out_shape) * (size_t)x->n, true };

    for (int c = i + 1; c < x->net->n_nodes; c++)
        for (int k = 0; x->active[c] && k < x->net->node[c].n_in; k++)
            if (x->net->node[c].in[k] == i) {
                s.from = x->call[c].dx[k];
                team_for(x->call[i].team, (int)((s.len + RANGE - 1) / RANGE), sum_tile, &s);
                s.first = false;
            }
}

/* A node that the loss does not depend on: its gradient is 0. */
static void zero_weights(struct exec *x, int i, bool accumulate)
{
    for (int k = 0; k < x->net->node[i].plan.n_weights; k++) {
        int w = x->net->node[i].first_weight + k;

        if (!x->dw[w])
            continue;
        if (!accumulate)
            memset(x->dw[w], 0, weight_n_values(&x->net->weight[w]) * sizeof(float));
        if (x->ready)
            x->ready(x->ready_user, w, 0, weight_n_values(&x->net->weight[w]));
    }
}

void exec_backward(struct exec *x, int node, bool accumulate, void (*ready)(void *user, int w, size_t first, size_t n), void *user)
{
    x->ready = ready;
    x->ready_user = user;
    mark_active(x, node);
    for (int i = x->net->n_nodes - 1; i > 0; i--) {
        const struct op *op = x->net->node[i].op;
        struct op_call *c = &x->call[i];

        if (!x->active[i]) {
            zero_weights(x, i, accumulate);
            continue;
        }
        if (!x->plan.node[i].needs_grad)
            continue;
        if (i != node && x->plan.node[i].n_consumers > 1)
            sum_consumers(x, i);
        c->accumulate = accumulate;
        c->ready = ready ? relay_ready : NULL;
        if (op->backward)
            op->backward(c);
    }
}
