/* core/job.h: a pruning job: its configuration, and the cycle train -> evaluate -> (prune -> evaluate -> retrain -> evaluate)* -> choose.
 *
 * The cycle is a state machine whose whole state goes into a checkpoint (a safetensors file: weights, masks, optimizer slots, the chosen
 * model so far; position and numbers as JSON text in its metadata). job_run from a checkpoint ends with the same bytes as an undisturbed
 * run. core knows no database: it writes files where the caller says, and calls commit when they are safe on disk. */
#ifndef CORE_JOB_H
#define CORE_JOB_H

#include "core/control.h"
#include "core/data.h"
#include "core/finish.h"
#include "core/model.h"
#include "core/prune.h"
#include "core/train.h"

struct stop_conf {            /* every rule looks at validation alone; NAN (target_params: 0): no such rule */
    double max_drop;          /* the contract: metric at most this much worse than the baseline (absolute) */
    double max_relative_drop; /* the same, as a share of the baseline */
    double min_metric;        /* contract too: the metric itself at least (a metric where smaller is better: at most) this */
    double target_sparsity;   /* stop when reached */
    int64_t target_params;    /* stop when at most this many non-zero params are left */
    double max_seconds;       /* of work, restarts included */
    bool continue_on_breach;  /* go on to the last iteration although the contract broke */
};
struct job_conf {
    char name[128], model[64], dataset[64]; /* model and dataset: ids that the caller resolves */
    int64_t seed, priority;
    int64_t threads; /* 0: the server's share */
    int metric;      /* METRIC_CHOICES: see job_metric */
    struct plug_value loss; /* absent: loss_default */
    double validation_fraction; /* carved from train when the data set has no validation split */
    struct train_conf train;    /* epochs 0 when the model came trained and the client did not ask for training */
    struct prune_conf prune;
    struct train_conf retrain;  /* inherits every field that is absent from train, but for epochs (2) */
    struct stop_conf stop;
    struct controls_conf controls;
    struct export_conf export;
};
extern const struct param job_params[];
/* trained: the model has weights. Errors with JSON pointers. */
MUST enum err_code job_conf_parse(struct job_conf *c, const json_t *doc, bool trained, struct err *e);
json_t *job_conf_dump(const struct job_conf *c); /* new reference: resolved, every default filled in */
/* All that can be said before the job is queued: model fits data, loss fits, rules match, fractions leave samples. `at` is a pointer into the job. */
MUST enum err_code job_check(const struct job_conf *c, const struct net *net, const struct dataset *d, struct err *e);
/* Does the model take this data set's samples? ERR_INVALID at "/dataset". */
MUST enum err_code job_check_shape(const struct net *net, const struct dataset *d, struct err *e);
bool job_has_contract(const struct stop_conf *s);
/* The metric of contracts and early stopping. */
enum metric job_metric(const struct job_conf *c, int n_classes);
/* The loss that the job names, or the one that fits. */
MUST enum err_code job_bind_loss(struct loss_binding *out, const struct job_conf *c, const struct net *net, const struct dataset *d,
                                 struct err *e);
enum { JOB_EVALUATION_BATCH = 256 }; /* samples */
/* Peak bytes, mapped data excluded. */
uint64_t job_memory(const struct job_conf *c, const struct net *net, const struct dataset *d);

/* Words in progress and records, for the API's document. The i-th; NULL: there is none. A phase's may come more than once. */
const char *job_phase_name(int i);
const char *job_reason_name(int i);
extern const char *const job_kernel_names[], *const job_direction_names[]; /* end with NULL */

struct job_progress {
    const char *phase;           /* job_phase_name's */
    int64_t iteration, iterations;
    int64_t epoch, epochs;       /* of a training phase, else 0 */
    double fraction;             /* of the whole job, 0..1, by samples of work */
    double loss;                 /* running training loss; NAN outside training */
};
struct job_file { char path[4096]; char hash[FILE_HASH_LEN]; uint64_t bytes; }; /* path "" : no file */
enum job_commit_kind { JOB_COMMIT_CHECKPOINT, JOB_COMMIT_BASELINE, JOB_COMMIT_ITERATION, JOB_COMMIT_CONTROL, JOB_COMMIT_RESULT };
extern const char *const job_commit_name[]; /* "checkpoint", "baseline", "iteration", "control", "result" */
struct job_commit {
    enum job_commit_kind kind;
    int64_t iteration;          /* of ITERATION */
    const json_t *record;       /* BASELINE: metrics and size; ITERATION: as in DESIGN section 3; CONTROL: metrics, test metrics, size; RESULT: chosen iteration, reason, test metrics, the controls; CHECKPOINT: NULL */
    const struct job_file *checkpoint; /* the newest checkpoint, replaces the one before; NULL with RESULT */
    const struct job_file *weights;    /* BASELINE, ITERATION, RESULT: safetensors of the model as it is then (none of an ITERATION that diverged; RESULT: the chosen one; a packed file, with its architecture, when finishing steps changed it) */
};
struct job_hooks {
    bool (*stop)(void *user);       /* asked at least once per mini-batch, from the job's thread */
    void (*progress)(void *user, const struct job_progress *p); /* each mini-batch: must be cheap */
    /* A path where the next file may be published; kind "checkpoint" or "weights". */
    enum err_code (*new_file)(void *user, const char *kind, char *path, size_t n, struct err *e);
    /* The files are published; the caller records them, all in one transaction. An error ends the run with that error. */
    enum err_code (*commit)(void *user, const struct job_commit *c, struct err *e);
    double checkpoint_seconds;      /* within long phases a checkpoint at least this often; 0: 20. Read each time: the hooks may change it */
    void *user;
};
/* Runs the job to its end. net: initialised or trained weights are in it (a checkpoint replaces them); it is changed. checkpoint_path NULL: from the
 * start. threads >= 1. ERR_STOPPED: the stop flag; the last committed checkpoint stands. ERR_DIVERGED, ERR_NOMEM, ERR_NO_SPACE ... */
MUST enum err_code job_run(const struct job_conf *c, const struct model *model, const struct dataset *d, const char *checkpoint_path, int threads,
                           const struct job_hooks *h, struct err *e);

#endif
