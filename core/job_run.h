/* core/job_run.h: a running job, for core/job*.c alone: the table of phases stands in job.c, what its rows share in the files named here. */
#ifndef CORE_JOB_RUN_H
#define CORE_JOB_RUN_H

#include "core/job_impl.h"

struct job {
    const struct job_conf *conf;
    const struct model *given; /* the job's */
    const struct model *model; /* that runs: the job's; what it has become, while it finishes; that of a control */
    struct net *net;           /* the model's */
    const struct dataset *data;
    const struct job_hooks *hooks;
    enum metric metric;
    struct loss_binding loss;
    struct data_views views;
    struct team *team;
    struct exec *exec; /* evaluates */
    struct pruner *pruner;
    struct trainer *trainer; /* of the running training phase */
    float **array[JOB_ARRAYS]; /* of the job's net; NULL: not wanted */
    uint8_t **kept_mask;     /* of prunable weights */
    struct model control;    /* that a control trains instead; net NULL: none */
    struct train_conf control_train; /* how */
    struct job_state state;
    struct checkpoint_file resume; /* until the first phase has taken its part */
    double lap;                    /* when the clock was last read into the state */
    double saved;                  /* when the last checkpoint was committed */
    double work, work_done;        /* of the whole job, of the phases before this one */
    bool reshaped;                 /* finishing steps changed the model: its file is packed */
    bool time_is_up;               /* training was stopped by the rule max_seconds */
};

/* One phase: its name to clients, what its time counts as, its share of work (samples forward; training counts three), its function. */
struct phase {
    const char *shown;
    enum job_spent spent;
    double (*work)(const struct job *j);
    enum err_code (*run)(struct job *j, struct err *e);
};
extern const struct phase job_phases[JOB_PHASES];

/* job_progress.c. Hooks of training and evaluation get the job as user. */
void job_lap(struct job *j); /* adds the time since the last call to the state */
bool job_due(void *job);     /* for a checkpoint */
bool job_stop(void *job);
bool job_time_is_up(const struct job *j); /* max_seconds are over */
void job_show(struct job *j, const struct train_progress *t); /* t NULL: no training runs */
void job_show_training(void *job, const struct train_progress *t);
/* Work of the phases before (phase, iteration); a whole job is what is before DONE after the last iteration. */
double job_work_before(const struct job *j, enum job_phase phase, int64_t iteration);

/* job_arrays.c */
MUST enum err_code job_arrays_new(struct job *j, struct err *e); /* those that the job wants */
void job_arrays_free(struct job *j);
/* From and to the weights of the net, which is the job's. Nothing is stored where the array is not wanted. */
void job_store(struct job *j, enum job_arrays array);
void job_recall(struct job *j, enum job_arrays array);
/* Nothing where one of them is not wanted. */
void job_copy(struct job *j, enum job_arrays to, enum job_arrays from);
/* What masks are to hide from now on, before there are more of them: the weights that are not masked yet, or all. Nothing where that is not wanted. */
void job_hold(struct job *j, bool masked_too);

/* job_publish.c */
enum err_code job_no_memory(struct err *e);
/* Masks have changed: dense or sparse, layer by layer, for retraining. */
MUST enum err_code job_pack(struct job *j, struct err *e);
/* *out: new reference; null for an empty view. */
MUST enum err_code job_evaluate(struct job *j, const struct data_view *view, bool confusion, json_t **out, struct err *e);
double job_metric_of(const struct job *j, const json_t *metrics); /* NAN: not there */
/* The net as it is becomes the model that would be the result. Takes metrics. */
void job_keep(struct job *j, json_t *metrics);
/* The net becomes the kept model, with its masks; of a search, with what moved it and what its masks hid. */
MUST enum err_code job_take_kept(struct job *j, struct err *e);
/* The job goes on with m, which is packed. */
MUST enum err_code job_adopt(struct job *j, const struct model *m, struct err *e);
typedef enum err_code job_write_fn(struct job *j, struct file_out *f, struct err *e);
MUST enum err_code job_publish(struct job *j, const char *kind, job_write_fn *write, struct job_file *out, struct err *e);
/* A commit with a checkpoint of the state as it is now. */
MUST enum err_code job_commit_state(struct job *j, enum job_commit_kind kind, const json_t *record, const struct job_file *weights,
                                    struct err *e);
/* Size and speed of the net as it is, into record; and before that its file. */
MUST enum err_code job_measure(struct job *j, json_t *record, struct err *e);
MUST enum err_code job_weigh(struct job *j, json_t *record, struct job_file *weights, struct err *e);

/* job_rules.c */
bool job_contract_kept(const struct job *j, const json_t *metrics);
enum job_reason job_reason_to_stop(const struct job *j, bool kept, const struct net_size *size);
/* Whether the net is a better result than the kept one: without a contract the later; else the sparser of those that kept it, and of
 * equally sparse ones that with the better metric. */
bool job_is_better(const struct job *j, bool kept, const struct net_size *size, const json_t *metrics);

/* job_search.c: what an adaptive schedule does between iterations. */
bool job_searches(const struct job *j);
MUST enum err_code job_search_begin(struct job *j, struct err *e); /* the baseline stands */
MUST enum err_code job_search_aim(struct job *j, struct err *e);   /* tells the pruner; the iteration becomes part of the path */
/* The same without a record of it: p is to aim at this level. */
void job_search_aim_at(struct pruner *p, double level);
/* The iteration kept the contract or not: where the next one aims. REASON_NONE: it is to be run. */
enum job_reason job_search_next(struct job *j, bool kept);
json_t *job_search_json(const struct job *j);  /* of an iteration's record; new reference, NULL when memory is short */

/* job_rewind.c: what retraining starts from. */
void job_save_origin(struct job *j);                                     /* the net as it is, unless something is saved already */
void job_epoch_done(void *job, int64_t epoch, double loss, const struct metrics *validation); /* hook of training */
MUST enum err_code job_rewind(struct job *j, int64_t iteration, struct err *e); /* net_pack is done */

/* job_control.c: the controls that the job asks for, one after another. */
MUST enum err_code job_run_control(struct job *j, struct err *e);       /* what comes next: a training, a control, or the end */
MUST enum err_code job_run_control_train(struct job *j, struct err *e);
MUST enum err_code job_run_control_judge(struct job *j, struct err *e);
/* A checkpoint was read: what the running control trains. */
MUST enum err_code job_resume_control(struct job *j, struct err *e);
double job_controls_work(const struct job *j);      /* of all of them */
double job_controls_work_done(const struct job *j); /* by the state */
double job_control_training_work(const struct job *j); /* of the one that runs */

/* job.c: one phase of training. number: of the phase, for random numbers; first: epochs of conf that are left out; rate: share of the learning rate. */
MUST enum err_code job_train(struct job *j, const struct train_conf *conf, uint32_t number, int64_t first, double rate, struct err *e);

/* job_finish.c: the kept model, through the finishing steps, evaluated on test and published. */
MUST enum err_code job_run_finish(struct job *j, struct err *e);

#endif
