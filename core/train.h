/* core/train.h: training, resumable at any mini-batch.
 *
 * The order of samples in an epoch is a pure function of (seed, phase, epoch), so a position is (epoch, batch). What a training phase
 * remembers is in struct trainer: the optimizer's slots, the position, the sum of the running epoch, early stopping's best weights;
 * trainer_save and trainer_load put it into a checkpoint, and training goes on to the same bytes. The net's own weights (moving statistics
 * included) and masks are the caller's to save. */
#ifndef CORE_TRAIN_H
#define CORE_TRAIN_H

#include "core/augment.h"
#include "core/data.h"
#include "core/metrics.h"
#include "core/optim.h"
#include "core/regrow.h"
#include "core/safetensors.h"

struct early_stopping_conf {
    int monitor;      /* "loss|metric" on validation, after each epoch */
    int64_t patience; /* epochs without improvement; 0: off */
    double min_delta; /* the least that counts as improvement */
    bool restore_best; /* at the end the weights are those of the best epoch, also when nothing stopped early */
};
struct train_conf {
    int64_t epochs;                   /* 0: no training */
    int64_t batch_size;               /* samples per step, the last of an epoch may have fewer; a full-batch optimizer ignores it */
    struct plug_value optimizer;
    struct plug_value learning_rate_schedule; /* over this phase's steps */
    double clip_norm, clip_value;     /* gradients: by value, then by global L2 norm; NAN: none */
    double clip_weights;              /* after each step w <- clip(w, -c, c), kernels only; NAN: none */
    struct early_stopping_conf early_stopping;
    struct augment_conf augment;      /* of the training samples alone */
};
extern const struct param train_params[];

struct train_progress { int64_t epoch /* 1 .. epochs */, epochs; double fraction; /* of the phase */ double loss; /* running mean of the epoch */ };
/* Each may be NULL. */
struct train_hooks {
    bool (*stop)(void *user);                                /* asked at least once per mini-batch */
    void (*progress)(void *user, const struct train_progress *p); /* each mini-batch: must be cheap */
    /* Asked after each step; true: the caller wants a checkpoint now, and save is called at once. */
    bool (*checkpoint_due)(void *user);
    enum err_code (*save)(void *user, struct err *e);
    /* After each epoch (1, 2, ..): mean training loss, and validation metrics when early stopping asked for them (else NULL). */
    void (*epoch)(void *user, int64_t epoch, double loss, const struct metrics *validation);
    void *user;
};

struct trainer;
/* One phase: net is trained on views->train by conf; early stopping looks at views->validation and metric. phase numbers the phases of a
 * job (random draws), below 2^24. Everything passed must outlive the trainer. */
struct trainer_in {
    struct net *net;
    const struct data_views *views;
    const struct loss_binding *loss;
    const struct train_conf *conf;
    enum metric metric;
    uint64_t seed;
    uint32_t phase;
    const struct plug_value *regrow; /* of regrow_table; NULL: masks stay */
    /* Arrays of the caller, [n_weights], each as long as a prunable weight, NULL for the others; they are part of the state that a checkpoint must hold,
     * and the caller's to save. Both NULL: not wanted. */
    float *const *moved;  /* minus the sum over steps of w dL/dw is added: which way training moved each weight (core/crit_movement.c) */
    float *const *behind; /* splicing: all numbers of the kernels, those that masks hide too; what is not hidden is taken from the net */
    int64_t first_epoch; /* epochs before it are left out: the learning rate starts as it is there */
    double rate; /* what the learning rate is multiplied with; 0: 1 */
    struct team *team;
};
/* Multiply-adds of a step below which it runs on one thread; tests of threads set it to 0. */
extern double trainer_small_step;
/* How samples of a data set are changed for a net; its seed, epoch and phase are 0. */
MUST enum err_code train_bind_augment(struct augment *out, const struct augment_conf *conf, const struct dataset *d, const struct net *net, struct err *e);
/* ERR_INVALID: no samples, early stopping without validation samples, or augmentation of what is no image. */
MUST enum err_code trainer_new(struct trainer **out, const struct trainer_in *in, struct err *e);
void trainer_free(struct trainer *t);
/* Runs the phase to its end. ERR_STOPPED, ERR_DIVERGED (loss or weights not finite), or what save returned. Masked weights are exactly 0 after
 * every step, and their slots stay 0, but for splicing, which also leaves the net dense: net_pack is due. */
MUST enum err_code trainer_run(struct trainer *t, const struct train_hooks *h, struct err *e);
/* Adds the trainer's tensors (names "train/...") and position (into meta under "train") to a checkpoint being written. Borrowed until written. */
MUST enum err_code trainer_save(const struct trainer *t, struct st_writer *w, json_t *meta, struct err *e);
/* Into a trainer just made with the same net, data and conf. ERR_INVALID when the checkpoint is not one of it; then the trainer is to be freed. */
MUST enum err_code trainer_load(struct trainer *t, const struct st_file *f, const json_t *meta, struct err *e);
/* Peak bytes that training this net with this conf needs, data set excluded. regrow: as in trainer_in. */
uint64_t train_memory(const struct net *net, const struct train_conf *conf, const struct plug_value *regrow);

#endif
