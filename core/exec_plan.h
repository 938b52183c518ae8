/* core/exec_plan.h: where an exec keeps what: which node's value lies in which block of memory, and which gradient goes where. For exec.c alone.
 *
 * A view (reshape, linear) has no block of its own, and neither has a relu, or a sum of two, that the op before it does (`clamp`, `more`): to these exec is as
 * to a view. Such an op also leaves the sum's gradient for the other input, and takes the last term of its own one, unsummed (`dmore`, `late`). An
 * EXEC_INFER has pairs of ops besides, head and tail, in one block: the head does the tail's work where it can at that time (op.joins), else the tail
 * works in place.
 * Blocks are used again whose last reader is past, unless every value stays to be looked at; while training, backward is a reader too (op.h: unread).
 *
 * Gradients go through in the order backward: each consumer of a node leaves its gradient in a block, or passes its own on (views, sums of inputs);
 * several are added up in the order of the consumers, into the first one's block where nobody else reads that. EXEC_TRAIN uses blocks again whose readers
 * are past. Only nodes behind something that learns have gradients, and the last ones, where a loss may start: those have a block of their own. */
#ifndef CORE_EXEC_PLAN_H
#define CORE_EXEC_PLAN_H

#include "core/exec.h"

enum { EXEC_NONE = -1 };

struct exec_node {
    int value;               /* block */
    int grad;                /* block that its gradient is found in, or EXEC_NONE */
    int own;                 /* block for the gradient that nobody leaves, or that cannot be added up in place; or EXEC_NONE */
    int last_use;            /* node that reads the value last; n_nodes: an end, or backward */
    int n_consumers;
    bool needs_grad;         /* it or an earlier node learns */
    bool is_end;             /* the output, what it is a view of, and what that is computed from: a loss may start there */
    bool clamp;              /* its op does the relu behind it */
    bool skip;               /* a view, or a relu or a sum that was done: nothing to run */
    int same;                /* node whose value it has: of what is skipped, and of a tail; or EXEC_NONE */
    int more;                /* node whose value the sum that its op does adds; or EXEC_NONE */
    int tail;                /* node whose work its op does as well, where it can; or EXEC_NONE. That node's `same` is this one */
    int late;                /* node whose op adds the last term of this one's gradient; or EXEC_NONE */
    int late_of;             /* node of whose gradient its op adds the last term; or EXEC_NONE */
    int dmore;               /* block of the gradient that its op leaves for `more`; or EXEC_NONE: that is its own */
    bool passes;             /* its inputs' gradients are its own */
    int dx[OP_MAX_IN];       /* blocks that its backward writes, or EXEC_NONE */
};
struct exec_block {
    size_t len;              /* floats per sample */
    int free_after;          /* value: node after which it may be used again */
    int free_before;         /* gradient: node whose backward is the last to read it: it may be used again before that, as backward goes */
    bool is_grad, shared;    /* shared: several nodes have it as their gradient */
    float *x;
};
struct exec_plan {
    int n_nodes, n_blocks;
    struct exec_node *node;
    struct exec_block *block;
};

static inline bool exec_goes_back(enum exec_kind kind) { return kind == EXEC_KEEP || kind == EXEC_TRAIN; }
/* false: memory is short; what there is of the plan is to be cleared. */
bool exec_plan_make(struct exec_plan *p, const struct net *net, enum exec_kind kind);
void exec_plan_clear(struct exec_plan *p);

#endif
