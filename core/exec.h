/* core/exec.h: a net made ready to run on batches of up to max_n samples: memory planned and allocated once; afterwards nothing
 * allocates and nothing fails. Several execs may share one net (one trains, one evaluates), one at a time. */
#ifndef CORE_EXEC_H
#define CORE_EXEC_H

#include "core/net.h"

struct exec;

enum exec_kind {
    EXEC_INFER, /* forward only; memory of values that are read no more is used again, relus, sums and batch norms run in the op before them (exec_plan.h) */
    EXEC_LOOK,  /* forward only; every value of every node stays to be looked at */
    EXEC_KEEP,  /* forward and backward; every value and gradient of every node stays to be looked at */
    EXEC_TRAIN  /* forward and backward; as EXEC_INFER, but values that backward reads stay, and gradients that are read no more make room */
};
/* team may be NULL (one thread); it must outlive the exec. */
MUST enum err_code exec_new(struct exec **out, struct net *net, int max_n, enum exec_kind kind, uint64_t seed, struct team *team,
                            struct err *e);
void exec_free(struct exec *x);
enum { EXEC_ESTIMATED_THREADS = 4 };
/* Bytes that such an exec (of a team of up to so many threads) and the net's weights need: for the estimate before a job. */
uint64_t exec_memory(const struct net *net, int max_n, enum exec_kind kind);
int exec_max_n(const struct exec *x);

/* [features][n] for the n of the next forward: fill it, then run. */
float *exec_input(struct exec *x);
/* training: dropout drops and batch norm uses the batch; step numbers the random draws. */
void exec_forward(struct exec *x, int n, bool training, uint64_t step);
/* fn is called after each node that a forward has run; NULL: no more. */
void exec_watch(struct exec *x, void (*fn)(void *user, int node), void *user);
/* The nodes up to `last` alone, as the net predicts. */
void exec_forward_to(struct exec *x, int n, int last);
/* Value of a node after forward, [features][n]. But for EXEC_KEEP and EXEC_LOOK only the last node's that ran, and that of the node that a loss starts from
 * (loss_bind), are sure to be there. */
const float *exec_value(const struct exec *x, int node);

/* Gradient buffer of a node, [features][n]: the loss fills the one it starts from. */
float *exec_grad(struct exec *x, int node);
/* Backward from `node`, whose gradient is filled. accumulate: dw are added to. ready: see op_call; here w is the index in net->weight. */
void exec_backward(struct exec *x, int node, bool accumulate, void (*ready)(void *user, int w, size_t first, size_t n), void *user);
/* Gradient of weight w, as long as its values (weight_n_values); NULL for what is not trainable. */
float *exec_dw(struct exec *x, int w);

#endif
