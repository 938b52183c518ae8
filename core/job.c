/* core/job.c: the cycle, as a table of phases.
 *
 *   train -> baseline -> (prune -> damage -> retrain -> recovery)* -> finish
 *
 * A phase does its work and names the next one in the state; between phases, and inside training after any step, the state can be written
 * and read back (checkpoint.c). Everything that a later phase looks at is in the state, in the net's arrays or in the kept model's; so a
 * job that goes on from a checkpoint computes what the undisturbed one would have. The clock decides when a checkpoint is due and fills
 * `seconds` and `latency_us`; no result depends on it, but for the rule max_seconds.
 *
 * Publishing: files first, then commit. The state in a checkpoint is already that of the next phase: what was committed is not done again. */
#include "core/job.h"

#include <stdio.h>
#include <string.h>

#include "core/job_impl.h"
#include "core/mem.h"

enum { CHECKPOINT_SECONDS = 20 };
#define ROUNDING 1e-12 /* a drop of exactly what the contract allows keeps it */

const char *const job_commit_name[] = { "checkpoint", "baseline", "iteration", "result" };

struct job {
    const struct job_conf *conf;
    const struct model *model;
    struct net *net;
    const struct dataset *data;
    const struct job_hooks *hooks;
    enum metric metric;
    struct loss_binding loss;
    struct data_views views;
    struct team *team;
    struct exec *exec; /* evaluates */
    struct pruner *pruner;
    struct trainer *trainer; /* of the running training phase */
    float **kept;            /* weights of the model that would be the result now */
    struct job_state state;
    struct checkpoint_file resume; /* until the first phase has taken its part */
    double lap;                    /* when the clock was last read into the state */
    double saved;                  /* when the last checkpoint was committed */
    double work, work_done;        /* of the whole job, of the phases before this one */
};

/* One phase: its name to clients, what its time counts as, its share of work (samples forward; training counts three), its function. */
struct phase {
    const char *shown;
    enum job_spent spent;
    double (*work)(const struct job *j);
    enum err_code (*run)(struct job *j, struct err *e);
};
static const struct phase phases[JOB_PHASES];

/* ---- clock and progress ---- */

/* Adds the time since the last call to the state. */
static void lap(struct job *j)
{
    double now = report_clock(), passed = now - j->lap;

    j->state.spent[phases[j->state.phase].spent] += passed;
    j->state.seconds += passed;
    j->lap = now;
}

static double checkpoint_seconds(const struct job *j)
{
    return j->hooks->checkpoint_seconds > 0 ? j->hooks->checkpoint_seconds : CHECKPOINT_SECONDS;
}

static bool due(void *user)
{
    const struct job *j = user;

    return report_clock() - j->saved >= checkpoint_seconds(j);
}

static bool stop(void *user)
{
    const struct job *j = user;

    return j->hooks->stop(j->hooks->user);
}

static void show(struct job *j, const struct train_progress *t)
{
    const struct phase *p = &phases[j->state.phase];
    struct job_progress shown = { .phase = p->shown, .iteration = j->state.iteration, .iterations = j->conf->prune.iterations, .loss = NAN };
    double done = j->work_done;

    if (t) {
        shown.epoch = t->epoch;
        shown.epochs = t->epochs;
        shown.loss = t->loss;
        done += t->fraction * p->work(j);
    }
    shown.fraction = j->work > 0 ? fmin(done / j->work, 1) : 0;
    j->hooks->progress(j->hooks->user, &shown);
}

static void show_training(void *user, const struct train_progress *t) { show(user, t); }

static double no_work(const struct job *j) { return (void)j, 0; }
static double train_work(const struct job *j) { return 3.0 * (double)j->conf->train.epochs * j->views.train.n; }
static double retrain_work(const struct job *j) { return 3.0 * (double)j->conf->retrain.epochs * j->views.train.n; }
static double validation_work(const struct job *j) { return j->views.validation.n; }
static double test_work(const struct job *j) { return j->views.test.n; }
static double baseline_work(const struct job *j) { return validation_work(j) + test_work(j); }

/* Work of the phases before (phase, iteration); a whole job is what is before DONE after the last iteration. */
static double work_before(const struct job *j, enum job_phase phase, int64_t iteration)
{
    double once = 0, each = 0, before = 0;

    for (int p = PHASE_TRAIN; p < PHASE_DONE; p++) {
        bool in_cycle = p >= PHASE_PRUNE && p < PHASE_FINISH;

        *(in_cycle ? &each : &once) += phases[p].work(j);
        if (p < (int)phase && in_cycle)
            before += phases[p].work(j);
    }
    if (phase < PHASE_PRUNE)
        return phase == PHASE_TRAIN ? 0 : phases[PHASE_TRAIN].work(j);
    if (phase >= PHASE_FINISH)
        return once + each * (double)j->conf->prune.iterations - (phase == PHASE_FINISH ? test_work(j) : 0);
    return once - test_work(j) + each * (double)(iteration - (phase > PHASE_PRUNE)) + before;
}

/* ---- files and commits ---- */

typedef enum err_code write_fn(struct job *j, struct file_out *f, struct err *e);

static enum err_code publish(struct job *j, const char *kind, write_fn *write, struct job_file *out, struct err *e)
{
    struct file_out *f = NULL;
    enum err_code rc = j->hooks->new_file(j->hooks->user, kind, out->path, sizeof out->path, e);

    if (rc == ERR_OK)
        rc = file_out_new(&f, out->path, e);
    if (rc == ERR_OK)
        rc = write(j, f, e);
    if (rc == ERR_OK)
        rc = file_out_publish(f, out->hash, e);
    if (rc == ERR_OK)
        out->bytes = file_out_size(f);
    file_out_free(f);
    return rc;
}

static enum err_code write_weights(struct job *j, struct file_out *f, struct err *e)
{
    const struct model_format *format = (const struct model_format *)(const void *)plug_find(&model_format_table, "safetensors");

    return format->write(j->model, f, e);
}

static enum err_code write_checkpoint(struct job *j, struct file_out *f, struct err *e)
{
    struct checkpoint c = { j->net, j->state.kept ? j->kept : NULL, j->trainer, &j->state };

    return checkpoint_write(&c, f, e);
}

/* A commit with a checkpoint of the state as it is now. */
static enum err_code commit(struct job *j, enum job_commit_kind kind, const json_t *record, const struct job_file *weights, struct err *e)
{
    struct job_file checkpoint = { "", "", 0 };
    struct job_commit c = { kind, j->state.iteration, record, &checkpoint, weights };
    enum err_code rc = publish(j, "checkpoint", write_checkpoint, &checkpoint, e);

    if (rc == ERR_OK)
        rc = j->hooks->commit(j->hooks->user, &c, e);
    if (rc == ERR_OK)
        j->saved = report_clock();
    return rc;
}

static enum err_code save(void *user, struct err *e)
{
    lap(user);
    return commit(user, JOB_COMMIT_CHECKPOINT, NULL, NULL, e);
}

/* ---- parts of phases ---- */

/* Masks have changed: dense or sparse, layer by layer, for retraining. */
static enum err_code pack(struct job *j, struct err *e)
{
    int64_t n = j->conf->retrain.batch_size;

    return net_pack(j->net, n < j->views.train.n ? (int)n : j->views.train.n, e);
}

static enum err_code no_memory(struct err *e) { return err_set(e, ERR_NOMEM, "out of memory"); }

/* *out: new reference; null for an empty view. */
static enum err_code evaluate(struct job *j, const struct data_view *view, bool confusion, json_t **out, struct err *e)
{
    struct metrics m;
    enum err_code rc;

    if (view->n == 0) {
        *out = json_null();
        return ERR_OK;
    }
    rc = metrics_evaluate(&m, j->exec, j->net, &j->loss, view, j->team, stop, j, e);
    if (rc != ERR_OK)
        return rc;
    *out = metrics_json(&m, confusion);
    metrics_clear(&m);
    return *out ? ERR_OK : no_memory(e);
}

static double metric_of(const struct job *j, const json_t *metrics)
{
    const json_t *v = json_object_get(metrics, metric_name(j->metric));

    return json_is_number(v) ? json_number_value(v) : NAN;
}

static enum err_code train(struct job *j, const struct train_conf *conf, uint32_t number, struct err *e)
{
    struct trainer_in in = { .net = j->net, .views = &j->views, .loss = &j->loss, .conf = conf, .metric = j->metric,
                             .seed = (uint64_t)j->conf->seed, .phase = number, .team = j->team };
    struct train_hooks hooks = { .stop = stop, .progress = show_training, .checkpoint_due = due, .save = save, .user = j };
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
    return rc;
}

/* The net as it is becomes the model that would be the result. Takes metrics. */
static void keep(struct job *j, json_t *metrics)
{
    struct net_size size;

    net_count(j->net, &size);
    for (int i = 0; i < j->net->n_weights; i++)
        memcpy(j->kept[i], j->net->weight[i].x, j->net->weight[i].len * sizeof(float));
    json_decref(j->state.kept);
    j->state.kept = metrics;
    j->state.kept_iteration = j->state.iteration;
    j->state.kept_nonzero = size.nonzero;
}

static json_t *spent_json(const struct job *j, bool training)
{
    const double *s = j->state.spent;

    return training ? json_pack("{s:f,s:f}", "train", s[SPENT_TRAIN], "evaluate", s[SPENT_EVALUATE])
                    : json_pack("{s:f,s:f,s:f}", "score", s[SPENT_SCORE], "retrain", s[SPENT_RETRAIN], "evaluate", s[SPENT_EVALUATE]);
}

/* Weights file, then size and speed of the net as it is, into record. */
static enum err_code weigh(struct job *j, json_t *record, struct job_file *weights, struct err *e)
{
    struct latency latency;
    json_t *size;
    bool ok;
    enum err_code rc = publish(j, "weights", write_weights, weights, e);

    if (rc == ERR_OK)
        rc = report_measure(&latency, j->net, stop, j, e);
    if (rc != ERR_OK)
        return rc;
    size = report_size(j->net, weights->bytes);
    ok = size && json_object_update(record, size) == 0 && report_put(record, "latency_us", report_latency(&latency));
    json_decref(size);
    return ok ? ERR_OK : no_memory(e);
}

/* ---- contract and stop rules ---- */

static bool has_contract(const struct stop_conf *s)
{
    return !(isnan(s->max_drop) && isnan(s->max_relative_drop) && isnan(s->min_metric));
}

static bool contract_kept(const struct job *j, const json_t *metrics)
{
    const struct stop_conf *s = &j->conf->stop;
    double sign = metric_larger_is_better(j->metric) ? 1 : -1, base = metric_of(j, j->state.baseline), now = metric_of(j, metrics);
    double drop = sign * (base - now);

    if (!has_contract(s))
        return true;
    if (!isfinite(drop))
        return false;
    return !(drop > s->max_drop + ROUNDING) && !(drop > s->max_relative_drop * fabs(base) + ROUNDING) &&
           !(sign * now < sign * s->min_metric - ROUNDING);
}

static enum job_reason reason_to_stop(const struct job *j, bool kept, const struct net_size *size)
{
    const struct stop_conf *s = &j->conf->stop;
    double sparsity = (double)(size->weights - size->nonzero) / (double)size->weights;

    if (!kept && !s->continue_on_breach)
        return REASON_CONTRACT;
    if (sparsity >= s->target_sparsity)
        return REASON_SPARSITY;
    if (s->target_params > 0 && size->params_nonzero <= (uint64_t)s->target_params)
        return REASON_PARAMS;
    if (j->state.seconds >= s->max_seconds)
        return REASON_SECONDS;
    return j->state.iteration >= j->conf->prune.iterations ? REASON_ITERATIONS : REASON_NONE;
}

/* Whether the net is a better result than the kept one: without a contract the later; else the sparser of those that kept it, and of
 * equally sparse ones that with the better metric. */
static bool better(const struct job *j, bool kept, const struct net_size *size, const json_t *metrics)
{
    double sign = metric_larger_is_better(j->metric) ? 1 : -1;

    if (!has_contract(&j->conf->stop))
        return true;
    if (!kept || size->nonzero != j->state.kept_nonzero)
        return kept && size->nonzero < j->state.kept_nonzero;
    return j->state.kept_iteration == 0 || sign * metric_of(j, metrics) > sign * metric_of(j, j->state.kept);
}

/* ---- the phases ---- */

static enum err_code run_train(struct job *j, struct err *e)
{
    enum err_code rc = train(j, &j->conf->train, 0, e);

    if (rc == ERR_OK) {
        j->net->trained = true;
        lap(j);
        j->state.phase = PHASE_BASELINE;
    }
    return rc;
}

static enum err_code run_baseline(struct job *j, struct err *e)
{
    struct job_state *s = &j->state;
    struct job_file weights = { "", "", 0 };
    json_t *record = json_object();
    enum err_code rc = record ? pruner_new(&j->pruner, &j->conf->prune, j->net, (uint64_t)j->conf->seed, e) : no_memory(e);

    if (rc == ERR_OK)
        rc = evaluate(j, &j->views.validation, true, &s->baseline, e);
    if (rc == ERR_OK)
        rc = evaluate(j, &j->views.test, true, &s->test, e);
    if (rc == ERR_OK)
        rc = report_put(record, "metrics", json_incref(s->baseline)) && report_put(record, "test", json_incref(s->test)) ? ERR_OK
                                                                                                                        : no_memory(e);
    lap(j);
    if (rc == ERR_OK)
        rc = weigh(j, record, &weights, e);
    if (rc == ERR_OK && !(report_put(record, "seconds", spent_json(j, true)) && (s->start = pruner_save(j->pruner))))
        rc = no_memory(e);
    if (rc == ERR_OK) {
        keep(j, json_incref(s->baseline));
        s->phase = PHASE_PRUNE;
        rc = commit(j, JOB_COMMIT_BASELINE, record, &weights, e);
    }
    json_decref(record);
    return rc;
}

static enum err_code run_prune(struct job *j, struct err *e)
{
    struct prune_data data = { &j->views.train, &j->loss, j->team, stop, j };
    enum err_code rc;

    lap(j); /* what measuring and committing took is in `seconds` alone */
    memset(j->state.spent, 0, sizeof j->state.spent);
    j->state.iteration++;
    rc = pruner_step(j->pruner, j->net, j->state.iteration, &data, e);
    if (rc == ERR_OK)
        rc = pack(j, e);
    lap(j);
    j->state.phase = PHASE_DAMAGE;
    return rc;
}

static enum err_code run_damage(struct job *j, struct err *e)
{
    enum err_code rc;

    json_decref(j->state.pruned);
    j->state.pruned = NULL;
    rc = evaluate(j, &j->views.validation, false, &j->state.pruned, e);
    lap(j);
    j->state.phase = PHASE_RETRAIN;
    return rc;
}

static enum err_code run_retrain(struct job *j, struct err *e)
{
    enum err_code rc = train(j, &j->conf->retrain, (uint32_t)j->state.iteration, e);

    if (rc == ERR_OK) {
        lap(j);
        j->state.phase = PHASE_RECOVERY;
    }
    return rc;
}

static json_t *iteration_head(const struct job *j, const json_t *retrained, bool kept)
{
    json_t *r = json_object();

    if (report_put(r, "iteration", json_integer(j->state.iteration)) &&
        report_put(r, "target_sparsity", json_real(pruner_target(j->pruner, j->state.iteration))) &&
        report_put(r, "pruned", json_incref(j->state.pruned)) && report_put(r, "retrained", json_incref((json_t *)retrained)) &&
        report_put(r, "contract_kept", has_contract(&j->conf->stop) ? json_boolean(kept) : json_null()))
        return r;
    json_decref(r);
    return NULL;
}

static enum err_code run_recovery(struct job *j, struct err *e)
{
    struct job_state *s = &j->state;
    struct job_file weights = { "", "", 0 };
    struct net_size size;
    json_t *retrained = NULL, *record = NULL;
    bool kept = false;
    enum err_code rc = evaluate(j, &j->views.validation, true, &retrained, e);

    if (rc == ERR_OK) {
        kept = contract_kept(j, retrained);
        record = iteration_head(j, retrained, kept);
        rc = record ? ERR_OK : no_memory(e);
    }
    lap(j);
    if (rc == ERR_OK)
        rc = weigh(j, record, &weights, e);
    if (rc == ERR_OK && !report_put(record, "seconds", spent_json(j, false)))
        rc = no_memory(e);
    if (rc == ERR_OK) {
        net_count(j->net, &size);
        if (better(j, kept, &size, retrained))
            keep(j, json_incref(retrained));
        s->reason = reason_to_stop(j, kept, &size);
        s->phase = s->reason == REASON_NONE ? PHASE_PRUNE : PHASE_FINISH;
        rc = commit(j, JOB_COMMIT_ITERATION, record, &weights, e);
    }
    json_decref(retrained);
    json_decref(record);
    return rc;
}

static enum err_code take_kept(struct job *j, struct err *e)
{
    for (int i = 0; i < j->net->n_weights; i++) {
        struct weight *w = &j->net->weight[i];

        memcpy(w->x, j->kept[i], w->len * sizeof(float));
        for (size_t k = 0; w->mask && k < w->len; k++)
            w->mask[k] = w->x[k] != 0; /* it was the last iteration's, which need not be this one */
    }
    return pack(j, e);
}

static json_t *result_head(const struct job *j, const json_t *test)
{
    static const struct { const char *slug, *text; } reasons[] = {
#define X(id, slug, text) { slug, text },
        JOB_REASON_LIST(X)
#undef X
    };
    const struct job_state *s = &j->state;
    json_t *r = json_object(), *before = json_pack("{s:O,s:O?}", "validation", s->baseline, "test", s->test),
           *after = json_pack("{s:O,s:O}", "validation", s->kept, "test", (json_t *)test);
    char message[200], chosen[80] = "the result is the baseline model: no iteration kept the contract";
    bool contract = has_contract(&j->conf->stop);

    if (s->kept_iteration > 0)
        snprintf(chosen, sizeof chosen, "the result is iteration %lld", (long long)s->kept_iteration);
    snprintf(message, sizeof message, "%s; %s", reasons[s->reason].text, chosen);
    if (report_put(r, "reason", json_string(reasons[s->reason].slug)) && report_put(r, "message", json_string(message)) &&
        report_put(r, "iterations", json_integer(s->iteration)) &&
        report_put(r, "chosen_iteration", json_integer(s->kept_iteration)) &&
        report_put(r, "contract_kept", contract ? json_boolean(s->kept_iteration > 0) : json_null()) &&
        report_put(r, "metric", json_string(metric_name(j->metric))) && report_put(r, "baseline", json_incref(before)) &&
        report_put(r, "chosen", json_incref(after)) && before && after) {
        json_decref(before);
        json_decref(after);
        return r;
    }
    json_decref(before);
    json_decref(after);
    json_decref(r);
    return NULL;
}

static enum err_code run_finish(struct job *j, struct err *e)
{
    struct job_file weights = { "", "", 0 };
    struct job_commit c = { .kind = JOB_COMMIT_RESULT, .iteration = j->state.kept_iteration, .weights = &weights };
    json_t *test = NULL, *record = NULL;
    enum err_code rc = take_kept(j, e);

    if (rc == ERR_OK)
        rc = evaluate(j, &j->views.test, true, &test, e);
    if (rc == ERR_OK) {
        record = result_head(j, test);
        rc = record ? weigh(j, record, &weights, e) : no_memory(e);
    }
    lap(j);
    if (rc == ERR_OK && !report_put(record, "seconds", json_pack("{s:f}", "total", j->state.seconds)))
        rc = no_memory(e);
    if (rc == ERR_OK) {
        c.record = record;
        rc = j->hooks->commit(j->hooks->user, &c, e);
    }
    json_decref(test);
    json_decref(record);
    j->state.phase = PHASE_DONE;
    return rc;
}

static const struct phase phases[JOB_PHASES] = {
    [PHASE_TRAIN] = { "train", SPENT_TRAIN, train_work, run_train },
    [PHASE_BASELINE] = { "baseline", SPENT_EVALUATE, baseline_work, run_baseline },
    [PHASE_PRUNE] = { "prune", SPENT_SCORE, no_work, run_prune },
    [PHASE_DAMAGE] = { "evaluate", SPENT_EVALUATE, validation_work, run_damage },
    [PHASE_RETRAIN] = { "retrain", SPENT_RETRAIN, retrain_work, run_retrain },
    [PHASE_RECOVERY] = { "evaluate", SPENT_EVALUATE, validation_work, run_recovery },
    [PHASE_FINISH] = { "finish", SPENT_EVALUATE, test_work, run_finish },
    [PHASE_DONE] = { "finish", SPENT_EVALUATE, no_work, NULL },
};

/* ---- the job ---- */

static void job_clear(struct job *j)
{
    checkpoint_close(&j->resume);
    job_state_clear(&j->state);
    for (int i = 0; j->kept && i < j->net->n_weights; i++)
        mem_free(j->kept[i]);
    mem_free(j->kept);
    trainer_free(j->trainer);
    pruner_free(j->pruner);
    exec_free(j->exec);
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
        rc = exec_new(&j->exec, j->net, JOB_EVALUATION_BATCH, false, seed, j->team, e);
    if (rc != ERR_OK)
        return rc;
    j->metric = job_metric(j->conf, j->data->n_classes);
    j->kept = mem_zalloc((size_t)j->net->n_weights, sizeof *j->kept);
    for (int i = 0; j->kept && i < j->net->n_weights; i++) {
        j->kept[i] = mem_vector(j->net->weight[i].len);
        if (!j->kept[i])
            return no_memory(e);
    }
    return j->kept ? ERR_OK : no_memory(e);
}

static enum err_code job_resume(struct job *j, const char *path, struct err *e)
{
    enum err_code rc = checkpoint_open(&j->resume, path, e);

    if (rc == ERR_OK)
        rc = checkpoint_restore(&j->resume, j->net, j->kept, &j->state, e);
    if (rc == ERR_OK)
        rc = pack(j, e);
    if (rc == ERR_OK && j->state.start) {
        rc = pruner_new(&j->pruner, &j->conf->prune, j->net, (uint64_t)j->conf->seed, e);
        if (rc == ERR_OK)
            rc = pruner_load(j->pruner, j->state.start, e);
    }
    return rc;
}

enum err_code job_run(const struct job_conf *c, const struct model *model, const struct dataset *d, const char *checkpoint_path, int threads,
                      const struct job_hooks *h, struct err *e)
{
    struct job j = { .conf = c, .model = model, .net = model->net, .data = d, .hooks = h };
    enum err_code rc = job_init(&j, threads, e);

    if (rc == ERR_OK && checkpoint_path)
        rc = job_resume(&j, checkpoint_path, e);
    j.work = rc == ERR_OK ? work_before(&j, PHASE_DONE, c->prune.iterations) : 0;
    j.lap = j.saved = report_clock();
    while (rc == ERR_OK && j.state.phase != PHASE_DONE) {
        j.work_done = work_before(&j, j.state.phase, j.state.iteration);
        show(&j, NULL);
        rc = stop(&j) ? err_set(e, ERR_STOPPED, "stopped on request") : phases[j.state.phase].run(&j, e);
        checkpoint_close(&j.resume);
        if (rc == ERR_OK && j.state.phase != PHASE_DONE && due(&j))
            rc = save(&j, e);
    }
    job_clear(&j);
    return rc;
}
