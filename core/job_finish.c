/* core/job_finish.c: the last phase: the kept model becomes the result, is evaluated on test and published. */
#include "core/job_run.h"

#include <stdio.h>

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

enum err_code job_run_finish(struct job *j, struct err *e)
{
    struct job_file weights = { "", "", 0 };
    struct job_commit c = { .kind = JOB_COMMIT_RESULT, .iteration = j->state.kept_iteration, .weights = &weights };
    json_t *test = NULL, *record = NULL;
    enum err_code rc = job_take_kept(j, e);

    if (rc == ERR_OK)
        rc = job_evaluate(j, &j->views.test, true, &test, e);
    if (rc == ERR_OK) {
        record = result_head(j, test);
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
    j->state.phase = PHASE_DONE;
    return rc;
}
