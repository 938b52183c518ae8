/* core/exec_plan.c: see exec_plan.h. First who reads what, then relus and sums into the ops before them, then values, then gradients, backwards. */
#include "core/exec_plan.h"

#include "core/mem.h"

static int new_block(struct exec_plan *p, size_t len)
{
    p->block[p->n_blocks] = (struct exec_block){ .len = len };
    return p->n_blocks++;
}

static bool learns(const struct node *node)
{
    for (int i = 0; i < node->plan.n_weights; i++)
        if (node->plan.weight[i].trainable)
            return true;
    return false;
}

static void mark_ends(struct exec_plan *p, const struct net *net)
{
    int i = p->n_nodes - 1;

    for (; net->node[i].op->view; i = net->node[i].in[0])
        p->node[i].is_end = true;
    p->node[i].is_end = true;
    for (int k = 0; k < net->node[i].n_in; k++)
        p->node[net->node[i].in[k]].is_end = true;
}

/* Those that the output depends on: others have no gradient. */
static void count_consumers(struct exec_plan *p, const struct net *net)
{
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        if (p->node[i].n_consumers == 0 && i < p->n_nodes - 1)
            p->node[i].needs_grad = false;
        else
            for (int k = 0; k < net->node[i].n_in; k++)
                p->node[net->node[i].in[k]].n_consumers++;
    }
}

static void plan_uses(struct exec_plan *p, const struct net *net)
{
    for (int i = 0; i < p->n_nodes; i++) {
        p->node[i] = (struct exec_node){ .grad = EXEC_NONE, .own = EXEC_NONE, .last_use = i, .needs_grad = learns(&net->node[i]), .skip = net->node[i].op->view,
                                         .same = net->node[i].op->view ? net->node[i].in[0] : EXEC_NONE, .more = EXEC_NONE, .tail = EXEC_NONE, .late = EXEC_NONE,
                                         .late_of = EXEC_NONE, .dmore = EXEC_NONE };
        for (int k = 0; k < net->node[i].n_in; k++) {
            struct exec_node *from = &p->node[net->node[i].in[k]];

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

/* Node i becomes part of the one before, whose block it has. */
static void share_value(struct exec_plan *p, int i, int before)
{
    p->node[i].same = before;
    if (p->node[before].last_use < p->node[i].last_use)
        p->node[before].last_use = p->node[i].last_use;
}

/* Relus into the ops before them. A loss may start at an end: that stays as it is. */
static void plan_clamps(struct exec_plan *p, const struct net *net)
{
    for (int i = 1; i < p->n_nodes; i++) {
        const struct node *node = &net->node[i];
        struct exec_node *before = &p->node[node->in[0]];

        if (!node->op->is_clamp || !node->op->is_clamp(node->conf.conf) || !net->node[node->in[0]].op->clamp || before->n_consumers > 1 || before->is_end)
            continue;
        before->clamp = true;
        p->node[i].skip = true;
        share_value(p, i, node->in[0]);
    }
}

/* The input of a sum of two whose op comes last, so that the other one is there when it runs. EXEC_NONE: node i is no such sum. */
static int last_summand(const struct net *net, int i)
{
    const struct node *node = &net->node[i];

    if (!node->op->is_sum || node->n_in != 2 || node->in[0] == node->in[1])
        return EXEC_NONE;
    return node->in[0] > node->in[1] ? node->in[0] : node->in[1];
}
static int other_summand(const struct net *net, int i, int last) { return net->node[i].in[net->node[i].in[0] == last]; }

/* An op whose value is read by the next one alone, which it might do as well. */
static bool may_go_on(const struct exec_node *np) { return !np->skip && !np->clamp && !np->is_end && np->n_consumers == 1; }

/* Sums into the ops before them. Which of a node's gradients comes late: where two come together, and that op is the first to read them. */
static void plan_sums(struct exec_plan *p, const struct net *net, bool back)
{
    for (int i = 1; i < p->n_nodes; i++) {
        const int last = last_summand(net, i);
        struct exec_node *before = last == EXEC_NONE ? NULL : &p->node[last];

        if (!before || !net->node[last].op->sum || !may_go_on(before) || p->node[i].is_end || (back && !before->needs_grad))
            continue;
        before->more = other_summand(net, i, last);
        before->clamp = p->node[i].clamp;
        p->node[i].clamp = false;
        p->node[i].skip = true;
        share_value(p, i, last);
    }
    for (int i = 1; i < p->n_nodes && back; i++) {
        int at = i;

        while (p->node[at].skip && (at == i || p->node[at].n_consumers == 1))
            at = p->node[at].same;
        if (at == i || p->node[i].n_consumers != 2 || p->node[i].is_end || p->node[at].n_consumers != 1 || p->node[at].more == EXEC_NONE)
            continue;
        p->node[i].late = at;
        p->node[at].late_of = i;
    }
}

/* Heads and tails: a line, with a sum and a relu perhaps that are its own by now, or a sum. */
static void plan_tails(struct exec_plan *p, const struct net *net)
{
    for (int i = 1; i < p->n_nodes; i++) {
        const int before = net->node[i].op->line ? net->node[i].in[0] : last_summand(net, i);

        if (p->node[i].skip || before == EXEC_NONE || !net->node[before].op->joins || !may_go_on(&p->node[before]) || p->node[before].tail != EXEC_NONE ||
            p->node[i].is_end || p->node[i].more >= before)
            continue;
        if (!net->node[i].op->line)
            p->node[i].more = other_summand(net, i, before);
        p->node[before].tail = i;
        share_value(p, i, before);
    }
}

/* Values that backward reads stay until then. */
static void plan_backward_uses(struct exec_plan *p, const struct net *net)
{
    for (int i = 1; i < p->n_nodes; i++) {
        const struct exec_node *np = &p->node[i];

        if (np->skip || !np->needs_grad)
            continue;
        for (int k = 0; k < net->node[i].n_in && op_reads_x(net->node[i].op); k++)
            p->node[net->node[i].in[k]].last_use = p->n_nodes;
        if (op_reads_y(net->node[i].op, np->clamp) || (np->more != EXEC_NONE && np->clamp))
            p->node[i].last_use = p->n_nodes;
    }
}

/* Whether a block of length a is to be preferred to one of length b for len numbers: the smallest that they fit, else the largest. */
static bool fits_better(size_t a, size_t b, size_t len) { return a < len ? a > b : b < len || a < b; }

static int reusable_block(struct exec_plan *p, int node, size_t len)
{
    int best = EXEC_NONE;

    for (int b = 0; b < p->n_blocks; b++)
        if (!p->block[b].is_grad && p->block[b].free_after < node && (best == EXEC_NONE || fits_better(p->block[b].len, p->block[best].len, len)))
            best = b;
    if (best == EXEC_NONE)
        return new_block(p, len);
    if (p->block[best].len < len)
        p->block[best].len = len;
    return best;
}

static void plan_values(struct exec_plan *p, const struct net *net, bool stay)
{
    for (int i = 0; i < p->n_nodes; i++) {
        size_t len = shape_len(&net->node[i].plan.out);

        if (p->node[i].same != EXEC_NONE)
            p->node[i].value = p->node[p->node[i].same].value;
        else
            p->node[i].value = stay ? new_block(p, len) : reusable_block(p, i, len);
        if (p->block[p->node[i].value].free_after < p->node[i].last_use)
            p->block[p->node[i].value].free_after = p->node[i].last_use;
    }
}

/* The block becomes one for len numbers of a gradient that node `to` reads. */
static int take_block(struct exec_plan *p, int block, int to, size_t len)
{
    p->block[block] = (struct exec_block){ .len = p->block[block].len < len ? len : p->block[block].len, .is_grad = true, .free_before = to };
    return block;
}

/* A block for the gradient of len numbers that node `from` leaves for node `to`. */
static int grad_block(struct exec_plan *p, int from, int to, size_t len, bool reuse)
{
    int best = EXEC_NONE;

    for (int b = 0; reuse && b < p->n_blocks; b++)
        if (p->block[b].is_grad && p->block[b].free_before > from && (best == EXEC_NONE || fits_better(p->block[b].len, p->block[best].len, len)))
            best = b;
    if (best == EXEC_NONE)
        best = new_block(p, len);
    return take_block(p, best, to, len);
}

/* An end has a block of its own, but for what a view of it has. */
static void plan_ends(struct exec_plan *p, const struct net *net)
{
    for (int i = p->n_nodes - 1; i >= 0; i--)
        if (p->node[i].is_end && p->node[i].own == EXEC_NONE) {
            p->node[i].own = grad_block(p, i, -1, shape_len(&net->node[i].plan.out), false);
            for (int v = i; p->node[v].skip && p->node[net->node[v].in[0]].is_end; v = net->node[v].in[0])
                p->node[net->node[v].in[0]].own = p->node[i].own;
        }
}

/* The block that node i's gradient is found in: of its only consumer, of the first that nobody else reads, or its own. EXEC_NONE: there is none yet. */
static int gathered(const struct exec_plan *p, const struct net *net, int i)
{
    if (p->node[i].own != EXEC_NONE)
        return p->node[i].own;
    for (int c = i + 1; c < p->n_nodes; c++)
        for (int k = 0; k < net->node[c].n_in; k++)
            if (net->node[c].in[k] == i && p->node[c].needs_grad && (p->node[i].n_consumers == 1 || !p->block[p->node[c].dx[k]].shared))
                return p->node[c].dx[k];
    return EXEC_NONE;
}

/* Two of a node's consumers leave gradients that the op of another node adds up: it reads both. */
static void keep_late(struct exec_plan *p, const struct net *net, int i)
{
    for (int c = i + 1; c < p->n_nodes; c++)
        for (int k = 0; k < net->node[c].n_in; k++)
            if (net->node[c].in[k] == i && p->node[c].needs_grad && p->block[p->node[c].dx[k]].free_before > p->node[i].late)
                p->block[p->node[c].dx[k]].free_before = p->node[i].late;
}

/* The block of the term that comes late to node i's op, if nobody reads it after that. */
static int late_block(const struct exec_plan *p, const struct net *net, int i)
{
    const int sum = p->node[i].late_of;

    for (int c = sum + 1; sum != EXEC_NONE && c < p->n_nodes; c++)
        for (int k = 0; k < net->node[c].n_in; k++)
            if (net->node[c].in[k] == sum && p->node[c].needs_grad && p->node[c].dx[k] != p->node[sum].grad && p->block[p->node[c].dx[k]].free_before == i)
                return p->node[c].dx[k];
    return EXEC_NONE;
}

/* Sum i is done by the op of a node before: where that leaves the gradient for the other input. Over its own, if nobody else reads that. */
static void plan_dmore(struct exec_plan *p, const struct net *net, int i, bool reuse)
{
    const int by = p->node[i].same;
    struct exec_node *np = &p->node[by];

    if (!np->clamp && np->late_of == EXEC_NONE)
        return;
    np->dmore = p->node[i].grad;
    if (p->block[np->dmore].shared)
        np->dmore = grad_block(p, by, np->more, shape_len(&net->node[by].plan.out), reuse);
}

/* Where node i leaves the gradient of node `from`. block: of its own gradient, or of that of an input before this one. */
static int input_block(struct exec_plan *p, const struct net *net, int i, int from, int block, bool reuse)
{
    const size_t len = shape_len(&net->node[from].plan.out);
    const bool over = reuse && net->node[i].op->dx_over;
    const int late = over ? late_block(p, net, i) : EXEC_NONE;
    const struct exec_node *to = &p->node[from], *np = &p->node[i];
    const struct exec_node *sum = np->skip && np->same != EXEC_NONE && from == p->node[np->same].more ? &p->node[np->same] : NULL;

    if (sum && sum->dmore != EXEC_NONE)
        return sum->dmore;
    if (np->passes || block != EXEC_NONE)
        return block;
    if (to->is_end && to->n_consumers == 1)
        return to->own;
    if (over && np->dmore == EXEC_NONE && !np->is_end && !p->block[np->grad].shared)
        return np->grad;
    return late == EXEC_NONE ? grad_block(p, i, from, len, reuse) : take_block(p, late, from, len);
}

static void plan_inputs(struct exec_plan *p, const struct net *net, int i, bool reuse)
{
    const struct node *node = &net->node[i];
    struct exec_node *np = &p->node[i];
    bool same = np->skip || node->op->same_dx;
    int block, n = 0;

    np->passes = np->skip || (node->op->same_dx && !np->clamp);
    block = np->passes ? np->grad : EXEC_NONE;
    if (np->skip && p->node[np->same].more != EXEC_NONE && node->n_in == 2)
        plan_dmore(p, net, i, reuse);
    for (int k = 0; k < node->n_in; k++) {
        int from = node->in[k], at;

        np->dx[k] = EXEC_NONE;
        if (!p->node[from].needs_grad)
            continue;
        at = np->dx[k] = input_block(p, net, i, from, block, reuse);
        if (p->block[at].free_before > from)
            p->block[at].free_before = from;
        p->block[at].shared |= same && n++ > 0;
        block = same ? at : EXEC_NONE;
    }
}

static void plan_grads(struct exec_plan *p, const struct net *net, bool reuse)
{
    plan_ends(p, net);
    for (int i = p->n_nodes - 1; i > 0; i--) {
        struct exec_node *np = &p->node[i];

        if (!np->needs_grad && !np->is_end)
            continue;
        np->grad = gathered(p, net, i); /* as it is now: node i itself may share the block out */
        if (np->grad == EXEC_NONE)
            np->grad = np->own = grad_block(p, i, i, shape_len(&net->node[i].plan.out), reuse);
        if (np->late != EXEC_NONE)
            keep_late(p, net, i);
        plan_inputs(p, net, i, reuse);
    }
}

bool exec_plan_make(struct exec_plan *p, const struct net *net, enum exec_kind kind)
{
    int edges = 0;

    for (int i = 0; i < net->n_nodes; i++)
        edges += net->node[i].n_in;
    *p = (struct exec_plan){ .n_nodes = net->n_nodes };
    p->node = mem_zalloc((size_t)net->n_nodes, sizeof *p->node);
    p->block = mem_zalloc(2 * (size_t)net->n_nodes + (size_t)edges, sizeof *p->block);
    if (!p->node || !p->block)
        return false;
    plan_uses(p, net);
    if (kind == EXEC_INFER || kind == EXEC_TRAIN) {
        plan_clamps(p, net);
        plan_sums(p, net, kind == EXEC_TRAIN);
    }
    if (kind == EXEC_INFER)
        plan_tails(p, net);
    if (kind == EXEC_TRAIN)
        plan_backward_uses(p, net);
    plan_values(p, net, kind == EXEC_KEEP || kind == EXEC_LOOK);
    if (exec_goes_back(kind))
        plan_grads(p, net, kind == EXEC_TRAIN);
    return true;
}

void exec_plan_clear(struct exec_plan *p)
{
    mem_free(p->node);
    mem_free(p->block);
    *p = (struct exec_plan){ 0 };
}
