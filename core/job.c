/* core/job.c: the cycle, as a table of phases.
 *
 *   train -> baseline -> (prune -> damage -> retrain -> recovery)* -> (control -> control_train)* control_judge)* -> finish
 *
 * A phase does its work and names the next one in the state; between phases, and inside training after any step, the state can be written
 * and read back (checkpoint.c). Everything that a later phase looks at is in the state, in the net's arrays or in the kept model's; so a
 * job that goes on from a checkpoint computes what the undisturbed one would have. The clock decides when a checkpoint is due and fills
 * `seconds` and `latency_us`; no result depends on it, but for the rule max_seconds.
 *
 * Publishing: files first, then commit. The state in a checkpoint is already that of the next phase: what was committed is not done again. */
#include <string.h>

#include "core/job_run.h"
#include "core/mem.h"

const char *const job_commit_name[] = { "checkpoint", "baseline", "iteration", "control", "result" };

/* ---- parts of phases ---- */

static enum err_code save(void *user, struct err *e)
{
    job_lap(user);
    return job_commit_state(user, JOB_COMMIT_CHECKPOINT, NULL, NULL, e);
}

static bool stop_or_late(void *user)
{
    struct job *j = user;

    if (job_stop(j))
        return true;
    j->time_is_up = job_time_is_up(j);
    return j->time_is_up;
}

enum err_code job_train(struct job *j, const struct train_conf *conf, uint32_t number, int64_t first, double rate, struct err *e)
{
    bool retrains = number > 0 && j->model == j->given;
    struct trainer_in in = { .net = j->net, .views = &j->views, .loss = &j->loss, .conf = conf, .metric = j->metric,
                             .seed = (uint64_t)j->conf->seed, .phase = number, .first_epoch = first, .rate = rate,
                             .regrow = retrains ? &j->conf->prune.regrow : NULL, .behind = retrains ? j->array[ARRAYS_BEHIND] : NULL,
                             .moved = j->state.phase < PHASE_CONTROL ? j->array[ARRAYS_MOVED] : NULL, .team = j->team };
    struct train_hooks hooks = { .stop = stop_or_late, .progress = job_show_training, .checkpoint_due = job_due, .save = save, .epoch = number == 0 ? job_epoch_done : NULL, .user = j };
    enum err_code rc;

    if (conf->epochs == 0)
        return ERR_OK;
    rc = trainer_new(&j->trainer, &in, e);
    if (rc == ERR_OK && json_object_get(j->resume.meta, "train"))
        rc = trainer_load(j->trainer, &j->resume.st, j->resume.meta, e);
    checkpoint_close(&j->resume);
    if (rc == ERR_OK)
        rc = trainer_run(j->trainer, &hooks, e);
    trainer_free(j->trainer);
    j->trainer = NULL;
    if (rc == ERR_OK && in.behind) /* it ran dense */
        rc = job_pack(j, e);
    return rc;
}

static json_t *spent_json(const struct job *j, bool training)
{
    const double *s = j->state.spent;

    return training ? json_pack("{s:f,s:f}", "train", s[SPENT_TRAIN], "evaluate", s[SPENT_EVALUATE])
                    : json_pack("{s:f,s:f,s:f}", "score", s[SPENT_SCORE], "retrain", s[SPENT_RETRAIN], "evaluate", s[SPENT_EVALUATE]);
}

/* ---- the phases ---- */

static enum err_code run_train(struct job *j, struct err *e)
{
    enum err_code rc;

    if (rewind_epoch(&j->conf->prune.rewind) == 0)
        job_save_origin(j);
    rc = job_train(j, &j->conf->train, 0, 0, 1, e);
    if (rc == ERR_STOPPED && j->time_is_up) /* the weights as they are become the result */
        rc = ERR_OK;
    if (rc == ERR_OK) {
        j->net->trained = true;
        job_lap(j);
        j->state.phase = PHASE_BASELINE;
    }
    return rc;
}

static enum err_code run_baseline(struct job *j, struct err *e)
{
    struct job_state *s = &j->state;
    struct job_file weights = { "", "", 0 };
    json_t *record = json_object();
    enum err_code rc = record ? pruner_new(&j->pruner, &j->conf->prune, j->net, (uint64_t)j->conf->seed, e) : job_no_memory(e);

    if (rc == ERR_OK)
        rc = job_evaluate(j, &j->views.validation, true, &s->baseline, e);
    if (rc == ERR_OK)
        rc = job_evaluate(j, &j->views.test, true, &s->test, e);
    if (rc == ERR_OK)
        rc = report_put(record, "metrics", json_incref(s->baseline)) && report_put(record, "test", json_incref(s->test)) ? ERR_OK
                                                                                                                        : job_no_memory(e);
    job_lap(j);
    if (rc == ERR_OK)
        rc = job_weigh(j, record, &weights, e);
    if (rc == ERR_OK && !(report_put(record, "seconds", spent_json(j, true)) && (s->start = pruner_save(j->pruner))))
        rc = job_no_memory(e);
    job_save_origin(j); /* training ended early, or there was none */
    job_store(j, ARRAYS_BASE);
    if (rc == ERR_OK && job_searches(j))
        rc = job_search_begin(j, e);
    if (rc == ERR_OK) {
        job_keep(j, json_incref(s->baseline));
        s->reason = job_time_is_up(j) ? REASON_SECONDS : REASON_NONE;
        s->phase = s->reason == REASON_NONE ? PHASE_PRUNE : PHASE_CONTROL;
        rc = job_commit_state(j, JOB_COMMIT_BASELINE, record, &weights, e);
    }
    json_decref(record);
    return rc;
}

/* The metrics that there would be: null each. */
static json_t *no_metrics(const struct job *j)
{
    json_t *none = json_object(), *value;
    const char *name;

    json_object_foreach(j->state.baseline, name, value)
        if (none && !report_put(none, name, json_null())) {
            json_decref(none);
            none = NULL;
        }
    return none;
}

/* retrained NULL: it did not come to that. */
static json_t *iteration_head(const struct job *j, json_t *retrained, bool kept)
{
    const struct job_state *s = &j->state;
    json_t *r = json_object();

    if (report_put(r, "iteration", json_integer(s->iteration)) &&
        report_put(r, "target_sparsity", json_real(pruner_target(j->pruner, s->iteration))) &&
        report_put(r, "pruned", s->pruned ? json_incref(s->pruned) : no_metrics(j)) &&
        report_put(r, "retrained", retrained ? json_incref(retrained) : no_metrics(j)) &&
        report_put(r, "contract_kept", job_has_contract(&j->conf->stop) ? json_boolean(kept) : json_null()) &&
        (isnan(s->damping) || report_put(r, "damping", json_real(s->damping))) &&
        (!job_searches(j) || report_put(r, "search", job_search_json(j))))
        return r;
    json_decref(r);
    return NULL;
}

/* An iteration is over, and its record made but for the time it took: what comes next. */
static enum err_code end_iteration(struct job *j, bool kept, const struct net_size *size, json_t *record, const struct job_file *weights, struct err *e)
{
    struct job_state *s = &j->state;

    if (!report_put(record, "seconds", spent_json(j, false)))
        return job_no_memory(e);
    s->reason = job_reason_to_stop(j, kept, size);
    if (job_searches(j) && s->reason == REASON_NONE)
        s->reason = job_search_next(j, kept);
    s->phase = s->reason == REASON_NONE ? PHASE_PRUNE : PHASE_CONTROL;
    return job_commit_state(j, JOB_COMMIT_ITERATION, record, weights, e);
}

/* An iteration of a search diverged: a sparsity that broke the contract, and that retraining more cannot mend. The net is the kept model again; the
 * record says why in place of metrics and figures, and there is no model of this iteration. */
static enum err_code give_up(struct job *j, const struct err *why, struct err *e)
{
    struct net_size size;
    json_t *record = iteration_head(j, NULL, false);
    enum err_code rc;

    net_count(j->net, &size);
    j->state.search.tries = INT32_MAX; /* no patience */
    rc = report_put(record, "diverged", json_string(why->msg)) &&
         report_put(record, "sparsity", json_real((double)(size.weights - size.nonzero) / (double)size.weights)) ? job_take_kept(j, e) : job_no_memory(e);
    if (rc == ERR_OK)
        rc = end_iteration(j, false, &size, record, NULL, e);
    json_decref(record);
    return rc;
}

/* How a part of an iteration ended, and what comes next. When it diverged, or time was up, the iteration is dropped, and what was kept before it is the
 * result; but a search goes on after it diverged. */
static enum err_code settle(struct job *j, enum err_code rc, enum job_phase next, const struct err *why, struct err *e)
{
    struct job_state *s = &j->state;
    bool dropped = rc == ERR_DIVERGED || (rc == ERR_STOPPED && j->time_is_up);

    job_lap(j);
    s->phase = next;
    if (!dropped) {
        if (rc != ERR_OK && e)
            *e = *why;
        return rc;
    }
    if (rc == ERR_DIVERGED && job_searches(j))
        return give_up(j, why, e);
    json_decref(s->detail);
    s->detail = rc == ERR_DIVERGED ? json_string(why->msg) : NULL;
    if (rc == ERR_DIVERGED && !s->detail)
        return job_no_memory(e);
    s->reason = rc == ERR_DIVERGED ? REASON_DIVERGED : REASON_SECONDS;
    s->iteration--;
    s->phase = PHASE_CONTROL;
    return ERR_OK;
}

static enum err_code run_prune(struct job *j, struct err *e)
{
    struct prune_data data = { &j->views.train, &j->loss, j->team, stop_or_late, j, j->array[ARRAYS_MOVED] };
    struct err why = { 0 };
    enum err_code rc;

    job_lap(j); /* what measuring and committing took is in `seconds` alone */
    memset(j->state.spent, 0, sizeof j->state.spent);
    json_decref(j->state.pruned);
    j->state.pruned = NULL;
    j->state.iteration++;
    rc = job_searches(j) && j->state.search.roll_back ? job_take_kept(j, &why) : ERR_OK;
    if (rc == ERR_OK && job_searches(j))
        rc = job_search_aim(j, &why);
    job_hold(j, false);
    if (rc == ERR_OK)
        rc = pruner_step(j->pruner, j->net, j->state.iteration, &data, &why);
    j->state.damping = pruner_damping(j->pruner);
    if (rc == ERR_OK)
        rc = job_pack(j, &why);
    return settle(j, rc, PHASE_DAMAGE, &why, e);
}

static enum err_code run_damage(struct job *j, struct err *e)
{
    struct err why = { 0 };
    enum err_code rc = job_evaluate(j, &j->views.validation, false, &j->state.pruned, &why);

    if (rc == ERR_OK)
        rc = job_rewind(j, j->state.iteration, &why);
    return settle(j, rc, PHASE_RETRAIN, &why, e);
}

static enum err_code run_retrain(struct job *j, struct err *e)
{
    struct err why = { 0 };
    enum err_code rc = job_train(j, &j->conf->retrain, (uint32_t)j->state.iteration, rewind_epoch(&j->conf->prune.rewind),
                             job_searches(j) ? j->state.search.rate : 1, &why);

    return settle(j, rc, PHASE_RECOVERY, &why, e);
}

static enum err_code run_recovery(struct job *j, struct err *e)
{
    struct job_file weights = { "", "", 0 };
    struct net_size size;
    struct err why = { 0 };
    json_t *retrained = NULL, *record = NULL;
    bool kept = false;
    enum err_code rc = job_evaluate(j, &j->views.validation, true, &retrained, &why);

    if (rc != ERR_OK)
        return settle(j, rc, PHASE_RECOVERY, &why, e);
    kept = job_contract_kept(j, retrained);
    record = iteration_head(j, retrained, kept);
    job_lap(j);
    rc = record ? job_weigh(j, record, &weights, e) : job_no_memory(e);
    if (rc == ERR_OK) {
        net_count(j->net, &size);
        if (job_is_better(j, kept, &size, retrained))
            job_keep(j, json_incref(retrained));
        rc = end_iteration(j, kept, &size, record, &weights, e);
    }
    json_decref(retrained);
    json_decref(record);
    return rc;
}

/* ---- the table ---- */

static double no_work(const struct job *j) { return (void)j, 0; }
static double train_work(const struct job *j) { return 3.0 * (double)j->conf->train.epochs * j->views.train.n; }
static double retrain_work(const struct job *j) { return 3.0 * (double)(j->conf->retrain.epochs - rewind_epoch(&j->conf->prune.rewind)) * j->views.train.n; }
static double validation_work(const struct job *j) { return j->views.validation.n; }
static double test_work(const struct job *j) { return j->views.test.n; }
static double baseline_work(const struct job *j) { return validation_work(j) + test_work(j); }

static double finish_work(const struct job *j)
{
    int steps = 0;

    for (const struct plug *const *s = finish_table.rows; *s; s++)
        steps += finish_conf(finish_of(*s), &j->conf->export) != NULL;
    return test_work(j) + steps * validation_work(j);
}

const struct phase job_phases[JOB_PHASES] = {
    [PHASE_TRAIN] = { "train", SPENT_TRAIN, train_work, run_train },
    [PHASE_BASELINE] = { "baseline", SPENT_EVALUATE, baseline_work, run_baseline },
    [PHASE_PRUNE] = { "prune", SPENT_SCORE, no_work, run_prune },
    [PHASE_DAMAGE] = { "evaluate", SPENT_EVALUATE, validation_work, run_damage },
    [PHASE_RETRAIN] = { "retrain", SPENT_RETRAIN, retrain_work, run_retrain },
    [PHASE_RECOVERY] = { "evaluate", SPENT_EVALUATE, validation_work, run_recovery },
    [PHASE_CONTROL] = { "control", SPENT_SCORE, no_work, job_run_control },
    [PHASE_CONTROL_TRAIN] = { "control", SPENT_TRAIN, job_control_training_work, job_run_control_train },
    [PHASE_CONTROL_JUDGE] = { "control", SPENT_EVALUATE, baseline_work, job_run_control_judge },
    [PHASE_FINISH] = { "finish", SPENT_EVALUATE, finish_work, job_run_finish },
    [PHASE_DONE] = { "finish", SPENT_EVALUATE, no_work, NULL },
};

const char *job_phase_name(int i) { return i < JOB_PHASES ? job_phases[i].shown : NULL; }

/* ---- the job ---- */

static void job_clear(struct job *j)
{
    checkpoint_close(&j->resume);
    job_state_clear(&j->state);
    job_arrays_free(j);
    trainer_free(j->trainer);
    pruner_free(j->pruner);
    exec_free(j->exec);
    model_clear(&j->control);
    team_free(j->team);
    data_views_free(&j->views);
}

static enum err_code job_init(struct job *j, int threads, struct err *e)
{
    uint64_t seed = (uint64_t)j->conf->seed;
    enum err_code rc = job_check(j->conf, j->net, j->data, e);

    if (rc == ERR_OK)
        rc = job_bind_loss(&j->loss, j->conf, j->net, j->data, e);
    if (rc == ERR_OK)
        rc = data_views_new(&j->views, j->data, j->conf->validation_fraction, seed, e);
    if (rc == ERR_OK)
        rc = team_new(&j->team, threads, e);
    if (rc == ERR_OK)
        rc = exec_new(&j->exec, j->net, JOB_EVALUATION_BATCH, EXEC_INFER, seed, j->team, e);
    if (rc != ERR_OK)
        return rc;
    j->metric = job_metric(j->conf, j->data->n_classes);
    return job_arrays_new(j, e);
}

static enum err_code job_resume(struct job *j, const char *path, struct err *e)
{
    enum err_code rc = checkpoint_open(&j->resume, path, e);

    if (rc == ERR_OK)
        rc = checkpoint_restore(&j->resume, j->net, (float *const *const *)j->array, j->kept_mask, &j->state, e);
    if (rc == ERR_OK)
        rc = job_pack(j, e);
    if (rc == ERR_OK && j->state.start) {
        rc = pruner_new(&j->pruner, &j->conf->prune, j->net, (uint64_t)j->conf->seed, e);
        if (rc == ERR_OK)
            rc = pruner_load(j->pruner, j->state.start, e);
        if (rc == ERR_OK && job_searches(j))
            job_search_aim_at(j->pruner, j->state.search.level);
    }
    return rc == ERR_OK ? job_resume_control(j, e) : rc;
}

enum err_code job_run(const struct job_conf *c, const struct model *model, const struct dataset *d, const char *checkpoint_path, int threads,
                      const struct job_hooks *h, struct err *e)
{
    struct job j = { .conf = c, .given = model, .model = model, .net = model->net, .data = d, .hooks = h };
    enum err_code rc = job_init(&j, threads, e);

    if (rc == ERR_OK && checkpoint_path)
        rc = job_resume(&j, checkpoint_path, e);
    j.work = rc == ERR_OK ? job_work_before(&j, PHASE_DONE, c->prune.iterations) : 0;
    j.lap = j.saved = report_clock();
    while (rc == ERR_OK && j.state.phase != PHASE_DONE) {
        j.work_done = job_work_before(&j, j.state.phase, j.state.iteration);
        job_show(&j, NULL);
        rc = job_stop(&j) ? err_set(e, ERR_STOPPED, "stopped on request") : job_phases[j.state.phase].run(&j, e);
        checkpoint_close(&j.resume);
        if (rc == ERR_OK && j.state.phase != PHASE_DONE && job_due(&j))
            rc = save(&j, e);
    }
    job_clear(&j);
    return rc;
}
