/* core/net.h: a network: a directed acyclic graph of nodes in topological order, and its weights.
 *
 * Node 0 is the input (op "input"); the output is the last node's value. Built by net_add, then read-only in structure. A net belongs to
 * one thread. Batch-size dependent memory is exec's (core/exec.h), not here.
 *
 * Dense and sparse: x always exists, and everybody but training reads and writes x. A weight with `sparse` set runs and trains on
 * sparse->value, the numbers that its mask keeps. The two agree, except inside of trainer_run, which sets `ahead` while it writes values and
 * calls net_sync before anybody else looks. Whoever changes masks or x calls net_pack afterwards.
 *
 * A quantised kernel (`int8`) runs in integers, forward only, and x holds exactly the numbers that its integers mean. */
#ifndef CORE_NET_H
#define CORE_NET_H

#include "core/int8.h"
#include "core/op.h"
#include "core/sparse.h"

enum { NET_MAX_NODES = 4096 };

struct weight {
    char name[OP_NAME_MAX]; /* "dense/kernel": layer and Keras' weight name */
    int node;               /* that owns it */
    struct op_weight info;
    int positions;  /* of the flattened images that it lies beside: see node. Of a kernel along axis 1, of a vector along axis 0. 0, 1: none */
    int multiplier; /* of a depthwise kernel: models have two axes, inputs and multiplier, where the engine has axis 0. 0: it is none */
    size_t len;
    float *x;      /* len floats, 64-byte aligned; a masked number is exactly 0 */
    uint8_t *mask; /* NULL: nothing is masked; else len bytes, 1 = kept, 0 = pruned */
    struct sparse *sparse; /* NULL: runs dense; else of this very mask */
    struct int8 *int8;     /* NULL: not quantised */
};

struct node {
    char layer[OP_NAME_MAX - 24]; /* Keras layer it came from; "dense" for both its dense and its activation node */
    const struct op *op;
    struct plug_value conf;
    int n_in, in[OP_MAX_IN]; /* earlier nodes */
    struct op_plan plan;
    struct op_line *given;   /* [plan.n_lines] set by the reader of the model; NULL: none */
    int first_weight;        /* its weights are net->weight[first_weight .. + plan.n_weights - 1] */
    /* Set by readers of models, for those who show or write them; nobody computes with these. */
    int positions;           /* 0: the value's numbers stand in the model's order. Else channel after channel, so many of each, and the model has the
                              * channels of each position together: of several axes, our first is its last */
    bool arranges;           /* put in to bring numbers into the engine's order, or back: not what the layer does */
};

struct net {
    int n_nodes, n_weights;
    struct node *node;
    struct weight *weight;
    bool trained; /* weights were loaded or trained; else they are net_init's */
    bool ahead;   /* sparse values are newer than x */
    unsigned packing; /* changes with every net_pack */
    int forward;      /* samples of the batches that net_pack_forward made it for; 0: another form */
};

/* input: the shape of one sample, features in the order that the data set stores them. */
MUST enum err_code net_new(struct net **out, const struct shape *input, struct err *e);
void net_free(struct net *net);
/* Appends a node; *index (may be NULL) is its number. conf: options of op, parsed. Shapes are checked here. Layer names may repeat only
 * within one layer's nodes; a weight name is unique (ERR_INVALID). */
MUST enum err_code net_add(struct net *net, const struct op *op, const struct plug_value *conf, const char *layer, const int *in,
                           int n_in, int *index, struct err *e);
/* Deep copy, masks included; the copy runs dense, in floats. */
MUST enum err_code net_clone(struct net **out, const struct net *net, struct err *e);
/* Sets every weight by its initialiser, but those of a trained net that were adapted to data: a pure function of the seed.
 * Removes masks; all runs dense, in floats. */
void net_init(struct net *net, uint64_t seed);
/* The same numbers without a touch of masks or form: net_apply_masks and net_pack are due. */
void net_draw(struct net *net, uint64_t seed);
/* NULL: no such weight. A trailing ":0" (Keras 2) is ignored. */
struct weight *net_weight(const struct net *net, const char *name);
const struct shape *net_input(const struct net *net);
const struct shape *net_output(const struct net *net);
/* Where the model has the channels of its samples: the first op that needs them first reads samples as they come, or brought into that order. Neither:
 * no op minds. */
bool net_channels_first(const struct net *net);
bool net_channels_last(const struct net *net);

/* Counts; see the words in DESIGN section 3. */
struct net_size {
    uint64_t weights, nonzero;        /* prunable weights; those not zero */
    uint64_t params, params_nonzero;  /* all learned numbers (moving statistics are not learned) */
    uint64_t macs, macs_nonzero;      /* multiply-adds per sample: dense; without the zero weights */
};
void net_count(const struct net *net, struct net_size *out);
/* Zeroes what is masked. */
void net_apply_masks(struct net *net);
/* Masks that hide exactly the zeros of prunable weights: so the net runs as fast as it can. net_pack is due. */
MUST enum err_code net_mask_zeros(struct net *net, struct err *e);

/* Makes every masked kernel sparse, or dense again, as sparse_pays (op_plan.sparse_density) says for batches of n samples; values are x's. Execs for training that
 * stand are void. On error all runs dense. */
MUST enum err_code net_pack(struct net *net, int n, struct err *e);
/* The same for a net that only predicts from now on: one sample by the form made for that (sparse_single.c), where it is fastest. */
MUST enum err_code net_pack_forward(struct net *net, int n, struct err *e);
/* Samples that a net which predicts n does best to run at a time: n, or 1, where all its kernels are dense layers' and a few samples are quicker one by one. */
int net_samples_at_once(const struct net *net, int n);
/* All runs dense. Execs for training are void. */
void net_unpack(struct net *net);
/* Quantises a kernel that its op can run in integers (net_can_int8): q [out][in] and scale [out] are copied, x becomes q * scale. input: of its activations;
 * s 0: each sample its own. */
bool net_can_int8(const struct net *net, const struct weight *w);
MUST enum err_code net_set_int8(struct net *net, struct weight *w, const int8_t *q, const float *scale, struct int8_scale input, struct err *e);
/* Masks have changed, but not how many numbers they keep: each kernel stays sparse or dense; values are x's. Execs for training are void. */
MUST enum err_code net_repack(struct net *net, struct err *e);
/* x takes the sparse values. */
void net_sync(struct net *net);
/* Length of an axis, 1 where there is none. */
static inline int weight_axis(const struct weight *w, int axis) { return w->info.shape.n_d > axis ? w->info.shape.d[axis] : 1; }
/* Multiply-adds of one number of a kernel per sample: 1 in a dense layer, as often as it is used in a convolution. */
static inline uint64_t weight_macs(const struct net *net, const struct weight *w) { return net->node[w->node].plan.macs / w->len; }
static inline bool node_has_kernel(const struct node *node) { return node->plan.n_weights > 0 && node->plan.weight[0].prunable; }
/* The numbers that run and train: all, or the kept ones. */
static inline float *weight_values(const struct weight *w) { return w->sparse ? w->sparse->value : w->x; }
static inline size_t weight_n_values(const struct weight *w) { return w->sparse ? w->sparse->n : w->len; }
/* As they are written to files: in the kernel's own order, value weight_order[i] is the i-th (NULL: they stand so), and in this shape. */
static inline const uint32_t *weight_order(const struct weight *w) { return w->sparse ? w->sparse->by_row.number : NULL; }
static inline struct shape weight_values_shape(const struct weight *w) { return w->sparse ? (struct shape){ 1, { (int)w->sparse->n } } : w->info.shape; }
/* Bytes that either may add, at most. */
uint64_t net_pack_memory(const struct net *net);

#endif
