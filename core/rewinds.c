/* core/rewinds.c: the table of rewind.h. */
#include "core/rewind.h"

static const struct param epoch_params[] = {
    FIELD_INT(struct rewind_conf, epoch, 1, 1e6, 1, "Epochs of train after which the weights are saved; retraining goes on from there."), FIELD_END
};
static const struct param rate_params[] = {
    FIELD_INT(struct rewind_conf, epoch, 0, 1e6, 0, "Epochs of train that retraining leaves out: its learning rate starts as it was there."), FIELD_END
};

static const struct rewind none = { { "none", "Retraining goes on with the weights that pruning left.", NULL, 0 }, REWIND_NONE, false };
static const struct rewind initial = {
    { "initial", "The weights of before training, under the mask: lottery tickets (Frankle and Carbin 2019).", NULL, 0 }, REWIND_SAVED, true
};
static const struct rewind epoch = {
    { "epoch", "The weights of early in training, under the mask (Frankle et al. 2019).", epoch_params, sizeof(struct rewind_conf) }, REWIND_SAVED, true
};
static const struct rewind learning_rate = {
    { "learning_rate", "The weights stay, the learning rate is that of training again (Renda et al. 2020).", rate_params, sizeof(struct rewind_conf) },
    REWIND_NONE, true
};
static const struct rewind reinitialise = {
    { "random", "Newly drawn weights under the mask: the control of lottery tickets.", NULL, 0 }, REWIND_FRESH, true
};

static const struct plug *const rows[] = { &none.plug, &initial.plug, &epoch.plug, &learning_rate.plug, &reinitialise.plug, NULL };
const struct plug_table rewind_table = { "rewind", rows };
