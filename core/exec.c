/* core/exec.c: see exec.h. The plan (exec_plan.h) comes first and is also what exec_memory counts; memory is one allocation. Which block a node's gradient
 * ends up in is known only at run time, since a backward may start at either of the last nodes. */
#include "core/exec_plan.h"

#include <assert.h>
#include <string.h>

#include "core/mem.h"
#include "core/simd.h"

enum { RANGE = 16384 };

/* One node's ready messages, on the way to the caller: weight numbers become the net's. */
struct relay {
    struct exec *exec;
    int first_weight;
};
struct exec {
    struct net *net;
    int max_n, n;
    bool training;           /* it goes backward too: exec_goes_back */
    struct exec_plan plan;
    struct op_call *call;    /* per node */
    struct relay *relay;     /* per node */
    bool *active;            /* per node: the running backward passes through it */
    float **grad;            /* per node: its gradient, as the running backward has it */
    float **dw;              /* per weight, NULL: not trainable */
    unsigned packing;        /* of the net, when weights were bound */
    float *memory;
    void (*ready)(void *user, int w, size_t first, size_t n);
    void *ready_user;
    void (*watch)(void *user, int node);
    void *watch_user;
};

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

static size_t plan_len(const struct exec_plan *p, const struct net *net, int max_n, bool training, int threads)
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
    struct exec_plan p;
    uint64_t bytes = UINT64_MAX; /* no memory even for the plan */

    if (exec_plan_make(&p, net, kind)) {
        bytes = plan_len(&p, net, max_n, exec_goes_back(kind), EXEC_ESTIMATED_THREADS) * sizeof(float);
        for (int w = 0; w < net->n_weights; w++)
            bytes += padded(net->weight[w].len) * sizeof(float);
    }
    exec_plan_clear(&p);
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
    return block == EXEC_NONE ? NULL : x->plan.block[block].x;
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
    const struct exec_node *np = &x->plan.node[i];
    struct op_call *c = &x->call[i];

    c->conf = node->conf.conf;
    c->given = node->given;
    c->n_in = node->n_in;
    c->out_shape = &node->plan.out;
    c->y = block_at(x, np->value);
    c->clamp = np->clamp;
    c->more = np->more == EXEC_NONE ? NULL : block_at(x, x->plan.node[np->more].value);
    c->dmore = x->training ? block_at(x, np->dmore) : NULL;
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
    x->training = exec_goes_back(kind);
    x->call = mem_zalloc(n_nodes, sizeof *x->call);
    x->relay = mem_zalloc(n_nodes, sizeof *x->relay);
    x->active = mem_zalloc(n_nodes, sizeof *x->active);
    x->grad = mem_zalloc(n_nodes, sizeof *x->grad);
    x->dw = mem_zalloc((size_t)net->n_weights, sizeof *x->dw);
    if (exec_plan_make(&x->plan, net, kind))
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
    exec_plan_clear(&x->plan);
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

void exec_watch(struct exec *x, void (*fn)(void *user, int node), void *user)
{
    x->watch = fn;
    x->watch_user = user;
}

/* Whether node i does its tail's work in this forward, up to node `last`. A line is none where the statistics are the batch's. */
static bool joins(const struct exec *x, int i, int last, bool training)
{
    const int tail = x->plan.node[i].tail;

    return tail != EXEC_NONE && tail <= last && !x->call[i].sparse && !x->call[i].int8 && !(training && x->net->node[tail].op->line);
}

static void forward_joined(struct exec *x, int i)
{
    const int at = x->plan.node[i].tail;
    const struct op_call *tail = &x->call[at];
    struct op_call c = x->call[i];

    c.more = tail->more;
    c.clamp = tail->clamp;
    if (x->net->node[at].op->line) {
        x->net->node[at].op->line(tail, c.w[1]);
        c.factor = tail->state;
        c.w[1] = tail->state + c.out_shape->d[0];
    }
    x->net->node[i].op->forward(&c);
}

static void run_nodes(struct exec *x, int n, int last, bool training, uint64_t step)
{
    assert(!x->training || x->packing == x->net->packing); /* the gradients are as long as the values were */
    if (x->packing != x->net->packing)
        bind_weights(x);
    x->n = n;
    for (int i = 0; i <= last; i++) {
        const struct exec_node *np = &x->plan.node[i];
        struct op_call *c = &x->call[i];

        c->n = n;
        c->training = training;
        c->step = step;
        if (np->skip || !x->net->node[i].op->forward || (np->same != EXEC_NONE && joins(x, np->same, last, training)))
            continue;
        if (joins(x, i, last, training))
            forward_joined(x, i);
        else
            x->net->node[i].op->forward(c);
        if (x->watch)
            x->watch(x->watch_user, i);
    }
}

void exec_forward(struct exec *x, int n, bool training, uint64_t step) { run_nodes(x, n, x->net->n_nodes - 1, training, step); }
void exec_forward_to(struct exec *x, int n, int last) { run_nodes(x, n, last, false, 0); }

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

/* The gradient of node i, from what its consumers left; they come later in the order of nodes and have run. Of two the second may come late. */
static void gather(struct exec *x, int i)
{
    const struct exec_node *np = &x->plan.node[i];
    struct sum s = { block_at(x, np->grad), NULL, shape_len(x->call[i].out_shape) * (size_t)x->n, np->grad == np->own };

    if (np->late != EXEC_NONE)
        x->call[np->late].dy_more = NULL;

    for (int c = i + 1; c < x->net->n_nodes; c++)
        for (int k = 0; x->active[c] && k < x->net->node[c].n_in; k++) {
            if (x->net->node[c].in[k] != i)
                continue;
            s.from = x->call[c].dx[k];
            if (np->n_consumers == 1)
                s.to = x->call[c].dx[k];
            else if (np->late != EXEC_NONE && s.from != s.to && !s.first)
                x->call[np->late].dy_more = s.from;
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
    const struct exec_node *by = &x->plan.node[x->plan.node[i].skip ? x->plan.node[i].same : i];

    for (int k = 0; k < c->n_in; k++)
        if (x->plan.node[x->net->node[i].in[k]].needs_grad)
            c->dx[k] = c->n_in > 1 && x->net->node[i].in[k] == by->more && by->dmore != EXEC_NONE ? block_at(x, by->dmore) : x->grad[i];
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
