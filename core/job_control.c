/* core/job_control.c: controls (control.h): what a pruned model has to be better than, trained as long as it was.
 *
 *   random       the cycle of the chosen iteration again, from the baseline's weights: the same targets, the same retraining, but what goes is drawn
 *   small_dense  the same architecture with fewer neurons, as large as what is left of the chosen model, trained from new weights for as many
 *                epochs as the chosen model was, those of retraining included
 *
 * A control is so many trainings, one after another, and a judgement. Its place is in the state; what it trains is the job's net, or a net of its
 * own, which is made again from the chosen model after a crash and gets its numbers from the checkpoint. */
#include <string.h>

#include "core/job_run.h"
#include "core/mem.h"
#include "core/thin.h"

struct control {
    struct plug plug;
    size_t offset; /* of its options in struct controls_conf; their first member says whether it is on */
    int64_t (*trainings)(const struct job *j);
    double (*work)(const struct job *j); /* of all trainings, if every iteration is run */
    /* Before training j->state.training; the first has the chosen model to start from. */
    enum err_code (*prepare)(struct job *j, struct err *e);
    enum err_code (*train)(struct job *j, struct err *e);
    enum err_code (*resume)(struct job *j, struct err *e); /* NULL: it trains the job's net */
    int64_t (*epochs)(const struct job *j);                /* that what is judged was trained for, at most */
};
enum { PHASE_NUMBER = 1 << 20 }; /* of the first training of controls; each has as many as there are iterations at most */

static const struct control *control_at(const struct job *j) { return (const struct control *)(const void *)control_table.rows[j->state.control]; }

static bool is_on(const struct job *j, const struct control *c) { return *(const bool *)((const char *)&j->conf->controls + c->offset); }

static uint32_t phase_number(const struct job *j, int64_t training) { return (uint32_t)(PHASE_NUMBER * (j->state.control + 1) + training); }

/* Iterations that led to the chosen model. */
static int64_t iterations(const struct job *j)
{
    return job_searches(j) ? (int64_t)json_array_size(j->state.kept_path) : j->state.kept_iteration;
}

static int64_t retrain_epochs(const struct job *j) { return j->conf->retrain.epochs - rewind_epoch(&j->conf->prune.rewind); }
static int64_t all_epochs(const struct job *j) { return j->conf->train.epochs + iterations(j) * retrain_epochs(j); }

static double retrain_work(const struct job *j)
{
    return 3.0 * (double)(j->conf->prune.iterations * retrain_epochs(j)) * j->views.train.n;
}

/* ---- random ---- */

/* The pruner of the cycle with another criterion. */
static enum err_code random_pruner(struct pruner **out, const struct job *j, struct err *e)
{
    struct prune_conf *conf = mem_alloc(sizeof *conf);
    enum err_code rc;

    if (!conf)
        return job_no_memory(e);
    *conf = j->conf->prune;
    conf->criterion = (struct plug_value){ .plug = plug_find(&criterion_table, "random") };
    rc = pruner_new(out, conf, j->net, (uint64_t)j->conf->seed, e);
    mem_free(conf);
    return rc == ERR_OK ? pruner_load(*out, j->state.start, e) : rc;
}

/* Of an iteration that led to the chosen model of a search: "level", "rate". */
static double on_path(const struct job *j, int64_t iteration, const char *what)
{
    return json_number_value(json_object_get(json_array_get(j->state.kept_path, (size_t)iteration - 1), what));
}

static bool rewinds_whole(const struct job *j)
{
    return rewind_of(&j->conf->prune.rewind)->weights != REWIND_NONE && !regrow_changes(&j->conf->prune.regrow);
}

/* Where weights go back after each pruning, and masks stay, what retraining makes of them is seen by nobody but after the last: what is drawn does not look
 * at weights, unless they are zero: those of a model that came sparse and rewinds to that. So only the last is done. */
static bool only_last_counts(const struct job *j)
{
    const struct net *net = j->given->net;

    for (int i = 0; j->array[ARRAYS_ORIGIN] && i < net->n_weights; i++)
        for (size_t k = 0; net->weight[i].info.prunable && k < net->weight[i].len; k++)
            if (j->array[ARRAYS_ORIGIN][i][k] == 0)
                return false;
    return rewinds_whole(j);
}
static int64_t random_trainings(const struct job *j) { return only_last_counts(j) ? 1 : iterations(j); }
static double random_work(const struct job *j) { return retrain_work(j) / (rewinds_whole(j) ? (double)j->conf->prune.iterations : 1); }
/* Of the cycle, that the running training is. */
static int64_t random_iteration(const struct job *j) { return only_last_counts(j) ? iterations(j) : j->state.training; }

static void start_from_baseline(struct job *j)
{
    job_recall(j, ARRAYS_BASE);
    for (struct weight *w = j->net->weight; w < j->net->weight + j->net->n_weights; w++)
        if (w->mask)
            memset(w->mask, 1, w->len);
}

static enum err_code random_prepare(struct job *j, struct err *e)
{
    const int64_t last = random_iteration(j);
    struct pruner *p = NULL;
    enum err_code rc;

    if (j->state.training == 1)
        start_from_baseline(j);
    rc = random_pruner(&p, j, e);
    job_hold(j, false);
    for (int64_t i = only_last_counts(j) ? 1 : last; i <= last && rc == ERR_OK; i++) {
        if (job_searches(j))
            job_search_aim_at(p, on_path(j, i, "level"));
        rc = pruner_step(p, j->net, i, NULL, e);
    }
    if (rc == ERR_OK)
        rc = job_pack(j, e);
    if (rc == ERR_OK)
        rc = job_rewind(j, last, e);
    pruner_free(p);
    return rc;
}

static enum err_code random_train(struct job *j, struct err *e)
{
    const int64_t i = random_iteration(j);

    return job_train(j, &j->conf->retrain, phase_number(j, i), rewind_epoch(&j->conf->prune.rewind), job_searches(j) ? on_path(j, i, "rate") : 1, e);
}

static const struct param no_params[] = { FIELD_END };

static const struct control random_row = {
    .plug = { "random", "The chosen iteration's cycle again with criterion random, from the baseline: the same targets, the same retraining.", no_params,
              sizeof(struct control_random) },
    .offset = offsetof(struct controls_conf, random), .trainings = random_trainings, .work = random_work, .prepare = random_prepare,
    .train = random_train, .epochs = all_epochs
};

/* ---- small_dense ---- */

static int64_t one(const struct job *j) { return (void)j, 1; }
static double whole_work(const struct job *j) { return retrain_work(j) + 3.0 * (double)j->conf->train.epochs * j->views.train.n; }

/* The net is the chosen model. */
static enum err_code small_make(struct job *j, struct err *e)
{
    int match = j->conf->controls.small_dense.match;
    struct net_size size;
    enum err_code rc;

    net_count(j->net, &size);
    rc = model_thin(&j->control, j->given, (enum thin_measure)match, match == THIN_PARAMS ? size.params_nonzero : size.macs_nonzero,
                    (uint64_t)j->conf->seed, e);
    if (rc != ERR_OK)
        return rc;
    j->control_train = j->conf->train;
    j->control_train.epochs = all_epochs(j);
    return job_adopt(j, &j->control, e);
}

static enum err_code small_train(struct job *j, struct err *e)
{
    return job_train(j, &j->control_train, phase_number(j, 1), 0, 1, e);
}

static enum err_code small_resume(struct job *j, struct err *e)
{
    enum err_code rc = small_make(j, e);

    return rc == ERR_OK ? checkpoint_restore_control(&j->resume, j->control.net, e) : rc;
}

static const struct param small_params[] = {
    FIELD_CHOICE(struct control_small_dense, match, "params|macs", THIN_PARAMS,
                 "What it has as many of as the chosen model: parameters that are not zero, or multiply-adds without the zero weights."), FIELD_END
};
static const struct control small_row = {
    .plug = { "small_dense", "A dense net of the same size: the same architecture with fewer neurons, trained from new weights for the same epochs in all.",
              small_params, sizeof(struct control_small_dense) },
    .offset = offsetof(struct controls_conf, small_dense), .trainings = one, .work = whole_work, .prepare = small_make, .train = small_train,
    .resume = small_resume, .epochs = all_epochs
};

/* ---- the table ---- */

static const struct plug *const rows[] = { &random_row.plug, &small_row.plug, NULL };
const struct plug_table control_table = { "control", rows };
const struct param controls_params[] = {
    FIELD_SWITCH(struct controls_conf, random, 0, no_params, "Random pruning by the same schedule."),
    FIELD_SWITCH(struct controls_conf, small_dense, 0, small_params, "A small dense net of the same size, trained from scratch."), FIELD_END
};

/* ---- records ---- */

static enum err_code add_record(struct job *j, json_t *record, struct err *e)
{
    if (!j->state.controls)
        j->state.controls = json_array();
    return j->state.controls && json_array_append(j->state.controls, record) == 0 ? ERR_OK : job_no_memory(e);
}

/* The job's own net comes back; the next control is due. */
static enum err_code end_control(struct job *j, const json_t *record, struct err *e)
{
    enum err_code rc = ERR_OK;

    if (j->model != j->given)
        rc = job_adopt(j, j->given, e);
    model_clear(&j->control);
    j->state.control++;
    j->state.training = 0;
    j->state.phase = PHASE_CONTROL;
    return rc == ERR_OK ? job_commit_state(j, JOB_COMMIT_CONTROL, record, NULL, e) : rc;
}

static enum err_code skip(struct job *j, const char *why, struct err *e)
{
    json_t *record = json_pack("{s:s,s:s}", "control", control_at(j)->plug.name, "skipped", why);
    enum err_code rc = record ? add_record(j, record, e) : job_no_memory(e);

    job_lap(j);
    if (rc == ERR_OK)
        rc = end_control(j, record, e);
    json_decref(record);
    return rc;
}

static bool head(const struct job *j, json_t *r, json_t *metrics, json_t *test)
{
    const struct control *c = control_at(j);
    double difference = job_metric_of(j, metrics) - job_metric_of(j, j->state.kept);

    return report_put(r, "control", json_string(c->plug.name)) && report_put(r, "epochs", json_integer(c->epochs(j))) &&
           report_put(r, "metrics", json_incref(metrics)) && report_put(r, "test", json_incref(test)) &&
           report_put(r, "metric_difference", isfinite(difference) ? json_real(difference) : json_null());
}

/* ---- the phases ---- */

static const char *reason_to_skip(const struct job *j)
{
    if (j->state.kept_iteration == 0)
        return "the result is the baseline model";
    if (all_epochs(j) == 0)
        return "the job trains nothing";
    return job_time_is_up(j) ? "the seconds of work were spent" : NULL;
}

enum err_code job_run_control(struct job *j, struct err *e)
{
    struct job_state *s = &j->state;
    const char *why;
    enum err_code rc = ERR_OK;

    while (control_table.rows[s->control] && !is_on(j, control_at(j)))
        s->control++;
    if (!control_table.rows[s->control]) {
        s->phase = PHASE_FINISH;
        return ERR_OK;
    }
    why = reason_to_skip(j);
    if (why)
        return skip(j, why, e);
    if (s->training == 0) {
        job_lap(j);
        memset(s->spent, 0, sizeof s->spent);
        rc = job_take_kept(j, e);
    }
    s->training++;
    if (rc == ERR_OK)
        rc = control_at(j)->prepare(j, e);
    job_lap(j);
    s->phase = PHASE_CONTROL_TRAIN;
    return rc;
}

enum err_code job_run_control_train(struct job *j, struct err *e)
{
    struct err why = { 0 };
    char text[400];
    enum err_code rc = control_at(j)->train(j, &why);

    job_lap(j);
    if (rc == ERR_STOPPED && j->time_is_up)
        return skip(j, "the seconds of work were spent", e);
    if (rc == ERR_DIVERGED) {
        snprintf(text, sizeof text, "its training diverged: %.300s", why.msg);
        return skip(j, text, e);
    }
    if (rc != ERR_OK && e)
        *e = why;
    j->state.phase = j->state.training < control_at(j)->trainings(j) ? PHASE_CONTROL : PHASE_CONTROL_JUDGE;
    return rc;
}

enum err_code job_run_control_judge(struct job *j, struct err *e)
{
    json_t *metrics = NULL, *test = NULL, *record = json_object();
    enum err_code rc = record ? job_evaluate(j, &j->views.validation, true, &metrics, e) : job_no_memory(e);

    if (rc == ERR_OK)
        rc = job_evaluate(j, &j->views.test, true, &test, e);
    job_lap(j);
    if (rc == ERR_OK && !head(j, record, metrics, test))
        rc = job_no_memory(e);
    if (rc == ERR_OK)
        rc = job_measure(j, record, e);
    if (rc == ERR_OK && !report_put(record, "seconds", json_pack("{s:f,s:f}", "train", j->state.spent[SPENT_TRAIN], "evaluate",
                                                                 j->state.spent[SPENT_EVALUATE])))
        rc = job_no_memory(e);
    if (rc == ERR_OK)
        rc = add_record(j, record, e);
    if (rc == ERR_OK)
        rc = end_control(j, record, e);
    json_decref(metrics);
    json_decref(test);
    json_decref(record);
    return rc;
}

enum err_code job_resume_control(struct job *j, struct err *e)
{
    bool runs = j->state.phase == PHASE_CONTROL_TRAIN || j->state.phase == PHASE_CONTROL_JUDGE;
    int n = 0;

    while (control_table.rows[n])
        n++;
    if (j->state.control > n || (runs && j->state.control == n))
        return err_set(e, ERR_INVALID, "checkpoint: no control of this job");
    return runs && control_at(j)->resume ? control_at(j)->resume(j, e) : ERR_OK;
}

/* ---- figures ---- */

/* Of the first n rows that are on. */
static double work_of(const struct job *j, int n)
{
    double sum = 0;

    for (int i = 0; control_table.rows[i] && i < n; i++) {
        const struct control *c = (const struct control *)(const void *)control_table.rows[i];

        sum += is_on(j, c) ? c->work(j) + job_phases[PHASE_CONTROL_JUDGE].work(j) : 0;
    }
    return sum;
}

double job_controls_work(const struct job *j) { return work_of(j, INT32_MAX); }

double job_control_training_work(const struct job *j)
{
    int64_t n = control_at(j)->trainings(j);

    return control_at(j)->work(j) / (double)(n > 0 ? n : 1);
}

double job_controls_work_done(const struct job *j)
{
    const struct job_state *s = &j->state;
    int64_t done = s->training - (s->phase == PHASE_CONTROL_TRAIN);

    return work_of(j, s->control) + (done > 0 ? (double)done * job_control_training_work(j) : 0);
}
