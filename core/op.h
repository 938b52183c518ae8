/* core/op.h: what an op is. One const struct op and one row in core/op.c; tests walk the table (finite differences for every
 * row), so does the Keras reader. Ops never allocate and never fail once shaped: all errors come from shape().
 *
 * To add an op: core/op_<name>.c with its struct op (shape rule, forward and backward on one screen), a row in op.c, a row in
 * core/keras.c for the Keras class that means it. */
#ifndef CORE_OP_H
#define CORE_OP_H

#include "core/int8.h"
#include "core/params.h"
#include "core/sparse.h"
#include "core/team.h"
#include "core/tensor.h"

enum { OP_MAX_IN = 8, OP_MAX_WEIGHTS = 4, OP_NAME_MAX = 96 };

/* Keras' initialisers. fan_in and fan_out as Keras counts them. */
enum init_kind {
    INIT_ZEROS, INIT_ONES, INIT_CONSTANT, INIT_RANDOM_UNIFORM, INIT_RANDOM_NORMAL, INIT_TRUNCATED_NORMAL,
    INIT_GLOROT_UNIFORM, INIT_GLOROT_NORMAL, INIT_HE_UNIFORM, INIT_HE_NORMAL, INIT_LECUN_UNIFORM, INIT_LECUN_NORMAL
};
struct init {
    int kind;    /* enum init_kind; in JSON by name, "glorot_uniform" */
    double a, b; /* constant: a; random_uniform: low a, high b; random_normal and truncated_normal: mean a, deviation b */
};

/* A learned (or, for batch-norm statistics, tracked) array of one node. */
struct op_weight {
    const char *name;   /* Keras' name: "kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance" */
    struct shape shape; /* as the engine stores it: kernels [out][in] */
    bool prunable;      /* kernels only: what `sparsity` counts */
    bool trainable;     /* false: moving statistics */
    bool decayed;       /* weight decay applies: kernels, not biases nor norm parameters */
    bool adapted;       /* to data, before training: a net that starts anew keeps it */
    int fan_in, fan_out;
    struct init init;
};
/* How the op carries neurons from its inputs to its output: what core/group.c and core/shrink.c need to know of it. A neuron lies along the first axis
 * of a value, as a run of numbers (a channel's is height times width). */
enum op_neurons {
    NEURONS_MIX,   /* each output depends on all inputs, or may: what it reads and what it makes cannot be removed */
    NEURONS_MAKE,  /* a kernel (weight 0) reads the input along axis 1 and makes neurons along axis 0, weights of one axis shift each */
    NEURONS_PASS,  /* one input, number by number; weights, if any, lie along axis 0 */
    NEURONS_PLACES, /* one input, neuron by neuron, but the numbers of a neuron mix, and may become more or less: pooling, padding. A kernel
                     * (weight 0), if there is one, has the same number of rows (axis 0) for each neuron, which read that one alone */
    NEURONS_MERGE, /* inputs of one shape, or of one number for each neuron, number by number: neurons at the same place are from here on one */
    NEURONS_JOIN   /* the inputs one after the other along the first axis */
};
/* What backward leaves alone; where the op clamps, it may read y all the same, but for UNREAD_CLAMPED. */
enum { UNREAD_X = 1, UNREAD_Y = 2, UNREAD_CLAMPED = 4 };
/* In which order an op takes numbers: the engine has the channels of a grid first, models have them last. core/keras_layout.c brings them into it. */
enum op_order {
    ORDER_ANY,      /* any, the same for all inputs */
    ORDER_CHANNELS, /* the channels first */
    ORDER_MODEL     /* the model's */
};
/* y = (x - center) factor + shift: of a channel, by numbers that stand in the architecture, or by statistics of data. */
struct op_line { float center, factor, shift; };
struct op_line op_line_of(double mean, double variance, bool invert);

/* What shape() finds out. */
struct op_plan {
    struct shape out;
    enum op_neurons neurons;
    bool pads;                   /* a kernel reads zeros around the input: what is constant there is not so for its edges */
    int n_weights;
    struct op_weight weight[OP_MAX_WEIGHTS];
    int n_lines;                 /* that the architecture gives, of channels */
    size_t state_len;            /* floats that forward leaves for backward, whatever the batch */
    size_t state_len_per_sample; /* and floats for each sample */
    size_t scratch_len, scratch_len_per_sample; /* floats that each thread has for itself while forward or backward runs (op_scratch) */
    uint64_t macs;               /* multiply-adds per sample, dense */
    double sparse_density;       /* share of kept numbers up to which weight 0 runs faster sparse, at most SPARSE_MAX_DENSITY; 0: sparse_pays says */
};

/* One call of forward or backward. Arrays are [features][n] unless said otherwise. */
struct op_call {
    const void *conf;
    int n;                           /* samples in this batch */
    int n_in;
    const struct shape *in_shape[OP_MAX_IN], *out_shape;
    const float *x[OP_MAX_IN];       /* inputs */
    float *y;                        /* output; written by forward, read by backward */
    float *w[OP_MAX_WEIGHTS];        /* const in all ops but batch norm's moving statistics */
    const struct op_line *given;     /* NULL: none */
    const struct sparse *sparse;     /* of weight 0; NULL: dense. Else w[0] and dw[0] are its kept numbers */
    const struct int8 *int8;         /* of weight 0; NULL: in floats. Else forward only */
    float *state;                    /* state_len + n * state_len_per_sample floats */
    float *scratch;                  /* of all threads: see op_scratch */
    size_t scratch_stride;           /* floats from one thread's to the next one's, at least scratch_len + n * scratch_len_per_sample */
    bool clamp;                      /* the relu behind this op runs in it: y = max(y, 0), and dy counts only where y > 0 */
    const float *more;               /* what the sum behind this op, which runs in it, adds before the clamp; NULL: there is none */
    const float *factor;             /* forward of ops with `joins`: of each row of weight 0, which counts so many times; NULL: once */
    bool training;                   /* dropout drops, batch norm uses the batch's statistics and tracks them */
    uint64_t seed, step;             /* of the random numbers: dropout */
    uint32_t node;                   /* rng stream */
    struct team *team;
    /* backward only */
    const float *dy;                 /* gradient of the loss by y */
    const float *dy_more;            /* where `more`: the rest of it, still to be added; NULL: none */
    float *dmore;                    /* where `more`: gradient by it, to be written: dy + dy_more where the clamp lets them through; may be dy. NULL: dy is it */
    float *dx[OP_MAX_IN];            /* to be overwritten; NULL where nobody needs it */
    float *dw[OP_MAX_WEIGHTS];       /* to be written, or added to when accumulate; NULL for what is not trainable */
    bool accumulate;
    const float *along[OP_MAX_IN];   /* slope and bend only: a direction of each input */
    /* Called (may be NULL) from any thread of the team when numbers first .. first+n-1 of dw[i] are final, each exactly once: the
     * optimizer then updates them while they are in the cache. An op has written all its dx before the first call. */
    void (*ready)(void *user, int i, size_t first, size_t n);
    void *ready_user;
};

/* The calling thread's scratch, 64-byte aligned; holds nothing from one call to the next. For tiles, and for the thread that calls the op. */
static inline float *op_scratch(const struct op_call *c) { return c->scratch + (size_t)team_number() * c->scratch_stride; }

/* Of ops that work number by number: fn for ranges first .. first + n - 1 that cover the output, whatever its shape, on the team's threads. They are cut by
 * its length alone, at multiples of 4. */
typedef void op_range_fn(const struct op_call *c, size_t first, size_t n);
void op_ranges(const struct op_call *c, op_range_fn *fn);
/* Of ops along the channels, an option `axis` as Keras counts: refused unless it is the last one. */
MUST enum err_code op_check_axis(int64_t axis, const struct shape *in, struct err *e);
/* fn for each index of the output's first axis, with the call, on the team's threads. */
void op_channels_each(const struct op_call *c, void (*fn)(void *call, int channel));

struct op {
    struct plug plug; /* name, help and options; the options' names are Keras' */
    int min_in, max_in;
    bool view;        /* the output is the input, perhaps in another shape: exec gives both one buffer; no forward, no backward */
    bool sparse;      /* weight 0 (out, in..) of a plan of NEURONS_MAKE may come sparse */
    bool int8;        /* weight 0 (out, in..) may come in integers */
    bool clamp;       /* can run the relu behind it: op_call.clamp */
    bool sum;         /* can run the sum behind it: op_call.more */
    bool joins;       /* as the net predicts and with a dense kernel in floats: can run a `line` behind it and the sum behind both: op_call.factor, more. Bias: weight 1 */
    bool is_sum;      /* it is the sum of its inputs, which the op before it can do */
    bool dx_over;     /* backward may write dx[0] over dy, and over dy_more */
    bool same_dx;     /* all inputs get the same gradient: backward writes dx[0] alone. Without clamp it is dy itself, and exec does not call it */
    bool linear;      /* in its inputs, and 0 makes 0: without weights its backward reads neither x nor y */
    unsigned unread;  /* UNREAD_: what else backward does not read, so that memory of it is free before */
    bool (*is_clamp)(const void *conf); /* whether it is max(x, 0) exactly, which the op before it can do; NULL: never */
    enum op_order grid, flat; /* of inputs of several axes, and of one */
    bool activation;  /* elementwise or along an axis, without weights: what a Keras layer's "activation" may name */
    /* Fills *p (zeroed before) from the inputs' shapes. ERR_INVALID or ERR_UNSUPPORTED with the option's pointer, if it is one. */
    enum err_code (*shape)(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e);
    void (*forward)(const struct op_call *c);
    void (*backward)(const struct op_call *c);
    /* As the net predicts, y = factor (x + bias) + shift, with numbers for each index of the first axis: leaves factor, then bias and shift in one, in the
     * state. bias may be NULL. NULL: it is no such op. */
    void (*line)(const struct op_call *c, const float *bias);
    /* Of ops without kernels, at x and with what forward left. slope: y = d/ds of what forward gives at x + s along. NULL: `linear`, and forward of `along`
     * is it; or the Jacobian is symmetric, and backward of it is. bend: dx[k] += d/ds of what backward gives at x + s along, dy as it is. NULL: 0. */
    void (*slope)(const struct op_call *c);
    void (*bend)(const struct op_call *c);
};

/* Options that have no field table: filled by net_new and by the readers of models. */
struct input_conf { struct shape shape; };
struct reshape_conf { struct shape shape; }; /* n_d 0: flatten; one dimension may be -1: what is left over */

extern const struct plug_table op_table;
bool op_reads_x(const struct op *op);             /* its backward does */
bool op_reads_y(const struct op *op, bool clamp);
static inline const struct op *op_of(const struct plug *p) { return (const struct op *)(const void *)p; }
const struct op *op_find(const char *name); /* NULL: no such op */

#endif
