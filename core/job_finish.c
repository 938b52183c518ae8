/* core/job_finish.c: the last phase: the kept model goes through the finishing steps, each evaluated on validation; what it is then is the result, is
 * evaluated on test and published. The steps work on a copy, which takes the place of the job's net until the end. */
#include "core/job_run.h"

#include <stdio.h>

/* ---- finishing steps ---- */

static enum err_code adopt(struct job *j, struct model *m, struct err *e)
{
    enum err_code rc = net_mask_zeros(m->net, e);

    j->net = m->net;
    if (rc == ERR_OK)
        rc = job_pack(j, e);
    return rc == ERR_OK ? job_adopt(j, m, e) : rc;
}

/* "size", "bytes" and "latency_us". */
static enum err_code weigh_step(struct job *j, json_t *report, struct err *e)
{
    json_t *size = json_object();
    enum err_code rc = size ? job_measure(j, size, e) : job_no_memory(e);

    if (rc == ERR_OK && !(report_put(report, "bytes", json_incref(json_object_get(size, "bytes"))) &&
                          report_put(report, "latency_us", json_incref(json_object_get(size, "latency_us")))))
        rc = job_no_memory(e);
    json_object_del(size, "bytes");
    json_object_del(size, "latency_us");
    if (rc == ERR_OK && !report_put(report, "size", json_incref(size)))
        rc = job_no_memory(e);
    json_decref(size);
    return rc;
}

/* What a step has done, as metrics and figures. *metrics: of the model before; then of the model now. */
static enum err_code judge(struct job *j, struct model *m, json_t *report, json_t **metrics, struct err *e)
{
    json_t *now = NULL;
    double before = job_metric_of(j, *metrics), after;
    enum err_code rc = adopt(j, m, e);

    if (rc == ERR_OK)
        rc = job_evaluate(j, &j->views.validation, true, &now, e);
    if (rc != ERR_OK)
        return rc;
    after = job_metric_of(j, now);
    json_decref(*metrics);
    *metrics = now;
    if (!report_put(report, "metrics", json_incref(now)) ||
        !report_put(report, "metric_change", isfinite(after - before) ? json_real(after - before) : json_null()) ||
        !report_put(report, "contract_kept", job_has_contract(&j->conf->stop) ? json_boolean(job_contract_kept(j, now)) : json_null()))
        return job_no_memory(e);
    return weigh_step(j, report, e);
}

static enum err_code take_step(struct job *j, const struct finish_step *s, struct model *m, const struct finish_in *in, json_t *list, json_t **metrics,
                               struct err *e)
{
    json_t *report = json_pack("{s:s}", "step", s->plug.name);
    enum err_code rc = report ? s->run(m, finish_conf(s, &j->conf->export), in, report, e) : job_no_memory(e);

    if (rc == ERR_OK && !json_object_get(report, "skipped")) {
        j->reshaped = true;
        rc = judge(j, m, report, metrics, e);
    }
    j->work_done += j->views.validation.n;
    job_show(j, NULL);
    if (rc == ERR_OK && json_array_append(list, report) != 0)
        rc = job_no_memory(e);
    json_decref(report);
    return rc;
}

/* *m: the finished model, which the job then holds; to be cleared. */
static enum err_code take_steps(struct job *j, struct model *m, json_t *list, json_t **metrics, struct err *e)
{
    struct finish_in in = { &j->views.train, j->team, job_stop, j, 0 };
    enum err_code rc = model_dense_bytes(j->net, &in.dense_bytes, e);

    if (rc == ERR_OK)
        rc = net_clone(&m->net, j->net, e);
    m->architecture = json_incref(j->model->architecture);
    for (const struct plug *const *s = finish_table.rows; *s && rc == ERR_OK; s++)
        if (finish_conf(finish_of(*s), &j->conf->export))
            rc = take_step(j, finish_of(*s), m, &in, list, metrics, e);
    return rc;
}

/* ---- the result ---- */

static const struct { const char *slug, *text; } reasons[] = {
#define X(id, slug, text) { slug, text },
    JOB_REASON_LIST(X)
#undef X
};

const char *job_reason_name(int i) { return REASON_NONE + 1 + i < JOB_REASONS ? reasons[REASON_NONE + 1 + i].slug : NULL; }

/* metrics: of the finished model on validation, and test. */
static json_t *result_head(const struct job *j, json_t *metrics, json_t *test, json_t *finishing)
{
    const struct job_state *s = &j->state;
    json_t *r = json_object(), *before = json_pack("{s:O,s:O?}", "validation", s->baseline, "test", s->test),
           *after = json_pack("{s:O,s:O}", "validation", metrics, "test", test);
    char message[600], chosen[80];
    bool contract = job_has_contract(&j->conf->stop);

    if (s->kept_iteration > 0)
        snprintf(chosen, sizeof chosen, "the result is iteration %lld", (long long)s->kept_iteration);
    else
        snprintf(chosen, sizeof chosen, "the result is the baseline model%s", contract ? ": no iteration kept the contract" : "");
    snprintf(message, sizeof message, "%s%s%s; %s", reasons[s->reason].text, s->detail ? ": " : "",
             s->detail ? json_string_value(s->detail) : "", chosen);
    if (report_put(r, "reason", json_string(reasons[s->reason].slug)) && report_put(r, "message", json_string(message)) &&
        report_put(r, "iterations", json_integer(s->iteration)) &&
        report_put(r, "chosen_iteration", json_integer(s->kept_iteration)) &&
        report_put(r, "contract_kept", contract ? json_boolean(s->kept_iteration > 0) : json_null()) &&
        report_put(r, "metric", json_string(metric_name(j->metric))) && report_put(r, "baseline", json_incref(before)) &&
        report_put(r, "chosen", json_incref(after)) && report_put(r, "finishing", json_incref(finishing)) &&
        report_put(r, "controls", s->controls ? json_incref(s->controls) : json_array()) && before && after) {
        json_decref(before);
        json_decref(after);
        return r;
    }
    json_decref(before);
    json_decref(after);
    json_decref(r);
    return NULL;
}

/* Of the model that the job holds now. */
static enum err_code publish_result(struct job *j, json_t *metrics, json_t *finishing, struct err *e)
{
    struct job_file weights = { "", "", 0 };
    struct job_commit c = { .kind = JOB_COMMIT_RESULT, .iteration = j->state.kept_iteration, .weights = &weights };
    json_t *test = NULL, *record = NULL;
    enum err_code rc = job_evaluate(j, &j->views.test, true, &test, e);

    if (rc == ERR_OK) {
        record = result_head(j, metrics, test, finishing);
        rc = record ? job_weigh(j, record, &weights, e) : job_no_memory(e);
    }
    job_lap(j);
    if (rc == ERR_OK && !report_put(record, "seconds", json_pack("{s:f}", "total", j->state.seconds)))
        rc = job_no_memory(e);
    if (rc == ERR_OK) {
        c.record = record;
        rc = j->hooks->commit(j->hooks->user, &c, e);
    }
    json_decref(test);
    json_decref(record);
    return rc;
}

enum err_code job_run_finish(struct job *j, struct err *e)
{
    struct model finished = { 0 };
    json_t *list = json_array(), *metrics = json_incref(j->state.kept);
    enum err_code rc = list ? job_take_kept(j, e) : job_no_memory(e);

    if (rc == ERR_OK)
        rc = take_steps(j, &finished, list, &metrics, e);
    if (rc == ERR_OK)
        rc = publish_result(j, metrics, list, e);
    j->model = j->given;
    j->net = j->given->net;
    model_clear(&finished);
    json_decref(list);
    json_decref(metrics);
    j->state.phase = PHASE_DONE;
    return rc;
}
