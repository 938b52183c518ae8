/* core/calibrate.h: what is learned from samples without training: batch norm's statistics, ranges of activations, and the integers that they lead to.
 *
 * Samples are taken evenly spaced from the training view: no random numbers, the same for any team. */
#ifndef CORE_CALIBRATE_H
#define CORE_CALIBRATE_H

#include "core/data.h"
#include "core/exec.h"

struct calibration {
    const struct data_view *train;
    int64_t samples;           /* at most; all when there are fewer */
    struct team *team;
    bool (*stop)(void *user);  /* NULL: never; asked for each batch: ERR_STOPPED */
    void *user;
};
/* Runs the net over the samples, forward, as it predicts, and calls see after each batch of n: every node's value is there. */
MUST enum err_code calibrate(struct net *net, const struct calibration *c, void (*see)(void *ctx, const struct exec *x, int n), void *ctx, struct err *e);

/* Sets the moving mean and variance of every batch norm to those of its input over the samples, pooled exactly (not a moving average of batches), from
 * the first to the last, each behind those before it. *n_layers: how many there are; without any, no sample is looked at. */
MUST enum err_code recalibrate_batch_norm(struct net *net, const struct calibration *c, int *n_layers, struct err *e);

/* Bytes of a calibration; looks: calibrate(), else recalibrate_batch_norm(). */
uint64_t calibration_memory(const struct net *net, bool looks);

/* Quantises every kernel that can run in integers, symmetric, per output. */
enum quantize_mode { QUANTIZE_DYNAMIC, QUANTIZE_MAX, QUANTIZE_PERCENTILE }; /* activations: each sample's own range; the samples' range, or most of it */
#define QUANTIZE_MODES "dynamic|max|percentile"
struct quantized { int kernels; uint64_t pruned, rounded; }; /* zeros that were there before; numbers that became zero */
MUST enum err_code quantize_net(struct net *net, enum quantize_mode mode, double percentile, const struct calibration *c, struct quantized *out,
                                struct err *e);

#endif
