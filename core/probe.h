/* core/probe.h: a net looked at while it works: some samples of the training set run through it, batch by batch, and what then stands in it is
 * shown: activations, and the loss' gradients by them and by the weights.
 *
 * Nothing is trained: batch norm uses its tracked statistics, dropout drops nothing, no weight changes. Which samples is a pure function of seed
 * and step; what is shown depends on batch_size in the last bits at most, and never on the team. */
#ifndef CORE_PROBE_H
#define CORE_PROBE_H

#include "core/criterion.h"

/* The options of whoever looks: fields `samples` and `batch_size` of its conf. */
#define PROBE_FIELDS(st, n_samples, n_batch) \
    FIELD_INT(st, samples, 1, 1e9, n_samples, "Samples of the training set to look at, drawn anew for each iteration; at most all."), \
    FIELD_INT(st, batch_size, 1, 65536, n_batch, "Samples per mini-batch.")

/* What fn looks at: the less, the less memory it takes. */
enum probe_look {
    PROBE_VALUES,  /* exec_value of every node up to the output; nothing goes backward */
    PROBE_WEIGHTS, /* exec_dw */
    PROBE_ALL      /* exec_value of every node, exec_grad of those that the loss depends on, exec_dw */
};
struct probe_conf {
    int64_t samples, batch_size; /* more than there are means all */
    enum probe_look look;
    bool accumulate;             /* exec_dw are of all samples so far; else of each batch alone */
    double temperature;          /* what the logits of a cross-entropy are divided by; 0: not */
};
struct probe_batch {
    struct exec *exec;   /* gradients are of the SUM of the losses of the samples: divide by n, or by samples, for a mean */
    int first, n;        /* samples first .. first + n - 1 of those that are looked at */
    int samples;         /* all of them; the last batch has first + n == samples */
    const struct loss_call *loss; /* as it was run: z divided by the temperature, dz not yet; sample: the n losses */
};
typedef enum err_code probe_fn(void *user, const struct probe_batch *b, struct err *e);

/* Calls fn after each batch; the first that is not ERR_OK ends it. in->net runs, all of in but conf counts. ERR_DIVERGED: a loss is not finite;
 * ERR_STOPPED. */
MUST enum err_code probe_run(const struct crit_net *in, const struct probe_conf *conf, probe_fn *fn, void *user, struct err *e);
/* Gradient of the mean loss by every number of the weights, masked ones too: gradient[w], as long as in->net->weight[w]; NULL: not wanted. in->net
 * runs dense (net_clone makes it so). samples and batch_size of conf count. */
MUST enum err_code probe_gradient(const struct crit_net *in, const struct probe_conf *conf, float *const *gradient, struct err *e);
/* Divides all scores by their sum (SNIP's and others' normalisation): of the order of the net, not of how many samples were looked at. */
void probe_share(const struct net *net, float *const *score);
/* Bytes that a run needs, in->net included. */
uint64_t probe_memory(const struct net *net, int64_t samples, int64_t batch_size, enum probe_look look);

#endif
