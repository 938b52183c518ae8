/* core/exec.c: see exec.h.
 *
 * The plan comes first and is also what exec_memory counts: which node's value lies in which block of memory, which gradient goes where. A view
 * (reshape, linear) has no block of its own, and neither has a relu that the op before it does (`clamp`): to such a relu exec is as to a view. While training
 * every other value has a block; inference uses blocks again whose last reader is past.
 *
 * Gradients go through in the order backward: each consumer of a node leaves its gradient in a block, or passes its own on (views, sums of inputs);
 * several are added up in the order of the consumers, into the first one's block where nobody else reads that. Which block a node's gradient ends up in is known
 * only at run time, since a backward may start at either of the last nodes. EXEC_TRAIN uses blocks again whose readers are past. Only nodes
 * behind something that learns have gradients, and the last ones, where a loss may start: those have a block of their own. */
#include "core/exec.h"

#include <assert.h>
#include <string.h>

#include "core/mem.h"
#include "core/simd.h"

enum { NONE = -1, RANGE = 16384 };

struct node_plan {
    int value;               /* block */
    int grad;                /* block that its gradient is found in, or NONE */
    int own;                 /* block for the gradient that nobody leaves, or that cannot be added up in place; or NONE */
    int last_use;            /* node that reads the value last */
    int n_consumers;
    bool needs_grad;         /* it or an earlier node learns */
    bool is_end;             /* the output, what it is a view of, and what that is computed from: a loss may start there */
    bool clamp;              /* its op does the relu behind it */
    bool skip;               /* a view, or a relu that was done: nothing to run */
    bool passes;             /* its inputs' gradients are its own */
    int dx[OP_MAX_IN];       /* blocks that its backward writes, or NONE */
};
struct block {
    size_t len;              /* floats per sample */
    int free_after;          /* value: node after which it may be used again */
    int free_before;         /* gradient: node whose backward is the last to read it: it may be used again before that, as backward goes */
    bool is_grad, shared;    /* shared: several nodes have it as their gradient */
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
    float **grad;            /* per node: its gradient, as the running backward has it */
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

/* Those that the output depends on: others have no gradient. */
static void count_consumers(struct plan *p, const struct net *net)
{
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        if (p->node[i].n_consumers == 0 && i < p->n_nodes - 1)
            p->node[i].needs_grad = false;
        else
            for (int k = 0; k < net->node[i].n_in; k++)
                p->node[net->node[i].in[k]].n_consumers++;
    }
}

static void plan_uses(struct plan *p, const struct net *net)
{
    for (int i = 0; i < p->n_nodes; i++) {
        p->node[i] = (struct node_plan){ .grad = NONE, .own = NONE, .last_use = i, .needs_grad = learns(&net->node[i]), .skip = net->node[i].op->view };
        for (int k = 0; k < net->node[i].n_in; k++) {
            struct node_plan *from = &p->node[net->node[i].in[k]];

            from->last_use = i;
            p->node[i].needs_grad |= from->needs_grad;
        }
    }
    mark_ends(p, net);
    count_consumers(p, net);
    for (int i = 0; i < p->n_nodes; i++)
        if (p->node[i].is_end)
            p->node[i].last_use = p->n_nodes;
}

/* Relus into the ops before them. A loss may start at an end: that stays as it is. */
static void plan_clamps(struct plan *p, const struct net *net)
{
    for (int i = 1; i < p->n_nodes; i++) {
        const struct node *node = &net->node[i];
        struct node_plan *before = &p->node[node->in[0]];

        if (!node->op->is_clamp || !node->op->is_clamp(node->conf.conf) || !net->node[node->in[0]].op->clamp || before->n_consumers > 1 || before->is_end)
            continue;
        before->clamp = true;
        p->node[i].skip = true;
        if (before->last_use < p->node[i].last_use)
            before->last_use = p->node[i].last_use;
    }
}

static int reusable_block(struct plan *p, int node, size_t len)
{
    int best = NONE;

    for (int b = 0; b < p->n_blocks; b++)
        if (!p->block[b].is_grad && p->block[b].free_after < node && (best == NONE || p->block[b].len > p->block[best].len))
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

        if (p->node[i].skip)
            p->node[i].value = p->node[net->node[i].in[0]].value;
        else
            p->node[i].value = training ? new_block(p, len) : reusable_block(p, i, len);
        if (p->block[p->node[i].value].free_after < p->node[i].last_use)
            p->block[p->node[i].value].free_after = p->node[i].last_use;
    }
}

/* A block for the gradient of len numbers that node `from` leaves for node `to`. */
static int grad_block(struct plan *p, int from, int to, size_t len, bool reuse)
{
    int best = NONE;

    for (int b = 0; reuse && b < p->n_blocks; b++)
        if (p->block[b].is_grad && p->block[b].free_before > from && (best == NONE || p->block[b].len > p->block[best].len))
            best = b;
    if (best == NONE)
        best = new_block(p, len);
    p->block[best] = (struct block){ .len = p->block[best].len < len ? len : p->block[best].len, .is_grad = true, .free_before = to };
    return best;
}

/* An end has a block of its own, but for what a view of it has. */
static void plan_ends(struct plan *p, const struct net *net)
{
    for (int i = p->n_nodes - 1; i >= 0; i--)
        if (p->node[i].is_end && p->node[i].own == NONE) {
            p->node[i].own = grad_block(p, i, -1, shape_len(&net->node[i].plan.out), false);
            for (int v = i; p->node[v].skip && p->node[net->node[v].in[0]].is_end; v = net->node[v].in[0])
                p->node[net->node[v].in[0]].own = p->node[i].own;
        }
}

/* The block that node i's gradient is found in: of its only consumer, of the first that nobody else reads, or its own. NONE: there is none yet. */
static int gathered(const struct plan *p, const struct net *net, int i)
{
    if (p->node[i].own != NONE)
        return p->node[i].own;
    for (int c = i + 1; c < p->n_nodes; c++)
        for (int k = 0; k < net->node[c].n_in; k++)
            if (net->node[c].in[k] == i && p->node[c].needs_grad && (p->node[i].n_consumers == 1 || !p->block[p->node[c].dx[k]].shared))
                return p->node[c].dx[k];
    return NONE;
}

/* Where node i leaves the gradient of node `from`. block: of its own gradient, or of that of an input before this one. */
static int input_block(struct plan *p, const struct net *net, int i, int from, int block, bool reuse)
{
    const struct node_plan *to = &p->node[from];

    if (p->node[i].passes || block != NONE)
        return block;
    if (to->is_end && to->n_consumers == 1)
        return to->own;
    return grad_block(p, i, from, shape_len(&net->node[from].plan.out), reuse);
}

static void plan_inputs(struct plan *p, const struct net *net, int i, bool reuse)
{
    const struct node *node = &net->node[i];
    struct node_plan *np = &p->node[i];
    bool same = np->skip || node->op->same_dx;
    int block, n = 0;

    np->passes = np->skip || (node->op->same_dx && !np->clamp);
    block = np->passes ? np->grad : NONE;
    for (int k = 0; k < node->n_in; k++) {
        int from = node->in[k], at;

        np->dx[k] = NONE;
        if (!p->node[from].needs_grad)
            continue;
        at = np->dx[k] = input_block(p, net, i, from, block, reuse);
        if (p->block[at].free_before > from)
            p->block[at].free_before = from;
        p->block[at].shared |= same && n++ > 0;
        block = same ? at : NONE;
    }
}

static void plan_grads(struct plan *p, const struct net *net, bool reuse)
{
    plan_ends(p, net);
    for (int i = p->n_nodes - 1; i > 0; i--) {
        struct node_plan *np = &p->node[i];

        if (!np->needs_grad && !np->is_end)
            continue;
        np->grad = gathered(p, net, i); /* as it is now: node i itself may share the block out */
        if (np->grad == NONE)
            np->grad = np->own = grad_block(p, i, i, shape_len(&net->node[i].plan.out), reuse);
        plan_inputs(p, net, i, reuse);
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
    if (kind != EXEC_KEEP)
        plan_clamps(p, net);
    plan_values(p, net, kind != EXEC_INFER);
    if (kind != EXEC_INFER)
        plan_grads(p, net, kind == EXEC_TRAIN);
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
        bytes = plan_len(&p, net, max_n, kind != EXEC_INFER, EXEC_ESTIMATED_THREADS) * sizeof(float);
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

static float *first_dx(const struct op_call *c)
{
    int k = 0;

    while (k < c->n_in - 1 && !c->dx[k])
        k++;
    return c->dx[k];
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
    c->clamp = np->clamp;
    x->grad[i] = x->training ? block_at(x, np->own) : NULL;
    c->dy = x->grad[i];
    c->seed = seed;
    c->node = (uint32_t)i;
    c->team = team;
    for (int k = 0; k < node->n_in; k++) {
        c->in_shape[k] = &x->net->node[node->in[k]].plan.out;
        c->x[k] = block_at(x, x->plan.node[node->in[k]].value);
        c->dx[k] = x->training ? block_at(x, np->dx[k]) : NULL;
    }
    if (x->training && x->net->node[i].op->same_dx)
        c->dx[0] = first_dx(c);
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
    x->grad = mem_zalloc(n_nodes, sizeof *x->grad);
    x->dw = mem_zalloc((size_t)net->n_weights, sizeof *x->dw);
    if (plan_make(&x->plan, net, kind))
        x->memory = mem_vector(plan_len(&x->plan, net, max_n, x->training, team_size(team)));
    if (!x->call || !x->relay || !x->active || !x->grad || !x->dw || !x->memory) {
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
    mem_free(x->grad);
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
    return x->grad[node];
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
        if (!x->plan.node[i].skip && x->net->node[i].op->forward)
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

/* The gradient of node i, from what its consumers left; they come later in the order of nodes and have run. */
static void gather(struct exec *x, int i)
{
    const struct node_plan *np = &x->plan.node[i];
    struct sum s = { block_at(x, np->grad), NULL, shape_len(x->call[i].out_shape) * (size_t)x->n, np->grad == np->own };

    for (int c = i + 1; c < x->net->n_nodes; c++)
        for (int k = 0; x->active[c] && k < x->net->node[c].n_in; k++) {
            if (x->net->node[c].in[k] != i)
                continue;
            s.from = x->call[c].dx[k];
            if (np->n_consumers == 1)
                s.to = x->call[c].dx[k];
            else if (s.from != s.to)
                team_for(x->call[i].team, (int)((s.len + RANGE - 1) / RANGE), sum_tile, &s);
            s.first = false;
        }
    x->grad[i] = s.to;
    x->call[i].dy = s.to;
}

static void pass_on(struct exec *x, int i)
{
    struct op_call *c = &x->call[i];

    for (int k = 0; k < c->n_in; k++)
        if (x->plan.node[x->net->node[i].in[k]].needs_grad)
            c->dx[k] = x->grad[i];
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
        if (i != node)
            gather(x, i);
        c->dy = x->grad[i];
        c->accumulate = accumulate;
        c->ready = ready ? relay_ready : NULL;
        if (x->plan.node[i].passes)
            pass_on(x, i);
        else if (op->backward)
            op->backward(c);
    }
}
