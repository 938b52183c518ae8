/* core/loss.h: losses, computed stably together with the last activation.
 *
 * A loss row works on what stands before the last activation where that can be fused (softmax with the cross-entropies, sigmoid with the
 * binary one): loss_bind finds the node it starts from. Else it works on the output: as probabilities when the last op is an activation (clipped to
 * [1e-7, 1 - 1e-7] as Keras does; several are first divided by their sum), as logits after any other (dense, add ...). */
#ifndef CORE_LOSS_H
#define CORE_LOSS_H

#include "core/exec.h"

enum loss_from { LOSS_FROM_LOGITS, LOSS_FROM_PROBABILITIES };

struct loss_call {
    int k, n;             /* outputs, samples */
    const float *z;       /* [k][n] logits or probabilities */
    const int32_t *label; /* n class numbers, or NULL; a one-hot is implied, with one output the number itself */
    const float *target;  /* [k][n], or NULL */
    enum loss_from from;
    double weight;        /* the gradient is that of weight * sum over samples: 1 / batch size for the mean */
    float *dz;            /* [k][n], overwritten; NULL: value only */
    double *sample;       /* n losses, one per sample */
};
struct loss {
    struct plug plug;
    const char *fuses; /* the activation op it is computed together with, NULL: none */
    bool labels;       /* takes class numbers (a one-hot is implied); else only targets */
    bool targets;      /* takes target vectors */
    int min_outputs;   /* 2 where one output alone means nothing */
    void (*run)(const struct loss_call *c);
};
extern const struct plug_table loss_table;

struct loss_binding {
    const struct loss *loss;
    int node; /* whose value is z and whose gradient backward starts from */
    enum loss_from from;
};
/* ERR_INVALID when the net's output does not fit: not one-dimensional, k outputs against n_classes classes (binary: one output, two
 * classes), or targets of another width. n_classes 0: the data set has targets of width n_target. */
MUST enum err_code loss_bind(struct loss_binding *out, const struct loss *loss, const struct net *net, int n_classes, int n_target,
                             struct err *e);
/* The loss that fits net and data when the job names none. */
const struct loss *loss_default(const struct net *net, int n_classes);

#endif
