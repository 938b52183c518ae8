/* core/job_impl.h: what the files of a running job share (job*.c, checkpoint.c, report.c). */
#ifndef CORE_JOB_IMPL_H
#define CORE_JOB_IMPL_H

#include "core/job.h"

/* The cycle. Each phase is one row in job.c, and a name in checkpoints. */
#define JOB_PHASE_LIST(X) \
    X(TRAIN, "train") X(BASELINE, "baseline") X(PRUNE, "prune") X(DAMAGE, "damage") X(RETRAIN, "retrain") X(RECOVERY, "recovery") \
    X(CONTROL, "control") X(CONTROL_TRAIN, "control_train") X(CONTROL_JUDGE, "control_judge") X(FINISH, "finish") X(DONE, "done")
#define X(id, name) PHASE_##id,
enum job_phase { JOB_PHASE_LIST(X) JOB_PHASES };
#undef X

/* Why a job ended: slug (stable, part of the HTTP API), sentence. The first rule that holds is given. */
#define JOB_REASON_LIST(X) \
    X(NONE, "", "") \
    X(CONTRACT, "contract_broken", "the metric left what the contract allows") \
    X(SPARSITY, "target_reached", "the sparsity to stop at was reached") \
    X(PARAMS, "target_params_reached", "the number of non-zero parameters to stop at was reached") \
    X(SECONDS, "time_spent", "the seconds of work were spent") \
    X(DIVERGED, "diverged", "an iteration was given up") \
    X(SEARCH, "search_done", "the step of the search fell below the smallest") \
    X(ITERATIONS, "iterations_done", "all iterations were done")
#define X(id, slug, text) REASON_##id,
enum job_reason { JOB_REASON_LIST(X) JOB_REASONS };
#undef X

enum job_spent { SPENT_TRAIN, SPENT_SCORE, SPENT_RETRAIN, SPENT_EVALUATE, SPENT_KINDS };

/* Where the search of an adaptive schedule is. Sparsities are pruner_target's. */
struct job_search {
    double level;       /* that the next iteration, or the running one, aims at */
    double kept;        /* the highest that kept the contract */
    double failed;      /* the lowest that was given up; above 1: none */
    double step, rate;  /* share of retraining's learning rate */
    int64_t tries;      /* iterations at this level before this one */
    bool down;          /* the direction */
    bool roll_back;     /* the iteration starts from the kept model */
};

/* Arrays as long as each weight that travel beside the net, and their names in checkpoints. */
#define JOB_ARRAYS_LIST(X) \
    X(KEPT, "kept")     /* weights of the model that would be the result now */ \
    X(ORIGIN, "origin") /* those that retraining rewinds to */ \
    X(BASE, "base")     /* those of the baseline, that a control starts from */ \
    X(MOVED, "moved")   /* which way training moved them; of prunable ones */ \
    X(BEHIND, "behind") /* what masks hide; of prunable ones */ \
    X(KEPT_MOVED, "kept_moved") X(KEPT_BEHIND, "kept_behind") /* the same of the kept model, that a search rolls back to */
#define X(id, name) ARRAYS_##id,
enum job_arrays { JOB_ARRAYS_LIST(X) JOB_ARRAYS };
#undef X

/* Everything that a checkpoint must hold besides arrays: it travels as JSON. */
struct job_state {
    enum job_phase phase;         /* to be run next, or running */
    int64_t iteration;            /* 0 until the first pruning */
    enum job_reason reason;
    json_t *detail;               /* text beside the reason; NULL: none */
    double seconds;               /* of work, restarts included */
    double spent[SPENT_KINDS];    /* in this iteration, in seconds */
    json_t *start;                /* pruner_save; NULL before the baseline */
    json_t *baseline, *test;      /* metrics of the baseline on validation and test (null without one) */
    json_t *pruned;               /* metrics of this iteration after pruning */
    double damping;               /* of this iteration: pruner_damping */
    struct job_search search;     /* zeros: none */
    bool has_origin;              /* the weights to rewind to are saved */
    int64_t kept_iteration;       /* the model that would be the result now; 0: the baseline */
    uint64_t kept_nonzero;
    json_t *kept;                 /* its metrics */
    json_t *path, *kept_path;     /* of a search: [{"level", "rate"}] of the iterations that led to the net, to the kept model; NULL: none */
    int control;                  /* row of control_table that is to be run next, or running */
    int64_t training;             /* of that control: the one that is running, or that ran last; 0: none yet */
    json_t *controls;             /* records of those that are done; NULL: none */
};
void job_state_clear(struct job_state *s);

/* core/checkpoint.c */
struct checkpoint {
    const struct net *net;
    float *const *const *array;   /* [JOB_ARRAYS]; NULL: not wanted. Written once the state says that they are there */
    uint8_t *const *kept_mask;    /* of prunable weights, beside ARRAYS_KEPT */
    const struct net *control;    /* that a control trains instead of the job's; NULL: none */
    const struct trainer *trainer;/* NULL: no training phase is running */
    const struct job_state *state;
};
MUST enum err_code checkpoint_write(const struct checkpoint *c, struct file_out *f, struct err *e);
/* A checkpoint being read: the trainer's part is wanted later than the rest. */
struct checkpoint_file {
    struct file_map map;
    struct st_file st;
    json_t *meta;
};
MUST enum err_code checkpoint_open(struct checkpoint_file *c, const char *path, struct err *e);
void checkpoint_close(struct checkpoint_file *c); /* zeroed and closed ones are legal */
/* Weights, masks, state, and what is there of the arrays (of the caller; NULL: not wanted); net_pack is due. ERR_INVALID when they do not fit the net. */
MUST enum err_code checkpoint_restore(const struct checkpoint_file *c, struct net *net, float *const *const *array, uint8_t *const *kept_mask,
                                      struct job_state *s, struct err *e);
/* Those of the control's net. */
MUST enum err_code checkpoint_restore_control(const struct checkpoint_file *c, struct net *control, struct err *e);

/* core/report.c: all return a new reference, or NULL when memory is short. */
/* Adds a field; false when memory is short. Takes v. */
bool report_put(json_t *object, const char *key, json_t *v);
/* Sparsity, counts, layers and bytes. clip_weights: that its last training had; NAN: none. */
json_t *report_size(const struct model *m, double clip_weights);
/* Time of a forward pass, microseconds, on one thread, batches of 1 and 128: as the net predicts (in integers, where it has some, else as the last one), dense
 * with weights everywhere, dense with the zeros in it, and with its kernels in the form that is fastest for this batch. */
enum latency_form { LATENCY_NOW, LATENCY_DENSE, LATENCY_MASKED, LATENCY_SPARSE, LATENCY_FORMS };
enum { LATENCY_BATCHES = 2 };
struct latency {
    struct { double median, p95; } time[LATENCY_FORMS][LATENCY_BATCHES];
    double *node;   /* per node, medians: as the net predicts, batch 128; 0: it has nothing to run */
    double *floats; /* the same of LATENCY_SPARSE, which never runs in integers */
    const char **kernel[LATENCY_BATCHES]; /* per node, as the net predicts: of job_kernel_names; NULL: it has no kernel */
};
void latency_clear(struct latency *l); /* a zeroed one is legal */
MUST enum err_code report_measure(struct latency *out, struct net *net, bool (*stop)(void *user), void *user, struct err *e);
json_t *report_latency(const struct latency *l, const struct net *net);
double report_clock(void); /* seconds, monotonic */

#endif
