/* Jobs: one, lists of them, their iterations, what can be done to them. */
#include "tests/api/world.h"

START_TEST(jobs)
{
    const json_t *j = expect(200, "GET", at("/v1/jobs/%s", w.job), NULL), *config = json_object_get(j, "config");

    ck_assert_str_eq(string(j, "state"), "queued");
    ck_assert_str_eq(string(j, "name"), "second");
    ck_assert(json_is_null(json_object_get(j, "finished_at")));
    ck_assert(json_is_object(json_object_get(config, "prune")));
    ck_assert_ptr_null(json_object_get(json_object_get(j, "links"), "model"));
    j = expect(200, "GET", at("/v1/jobs/%s", w.done), NULL);
    ck_assert_str_eq(string(j, "state"), "succeeded");
    ck_assert_int_eq(json_integer_value(json_object_get(j, "iterations")), 3);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(j, "config"), "seed")), 1);
    ck_assert(json_is_object(json_object_get(j, "baseline")) && json_is_object(json_object_get(j, "result")));
    string(json_object_get(j, "links"), "model");
    j = expect(200, "GET", "/v1/jobs?state=queued", NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(j, "data")), 1);
    j = expect(200, "GET", at("/v1/jobs?limit=1&after=%s", w.job), NULL);
    ck_assert_str_eq(string(json_array_get(json_object_get(j, "data"), 0), "id"), w.done);
    j = expect(200, "POST", at("/v1/jobs/%s/cancel", w.job), NULL);
    ck_assert_str_eq(string(j, "state"), "cancelled");
    expect(204, "DELETE", at("/v1/jobs/%s", w.job), NULL);
    expect(404, "GET", at("/v1/jobs/%s", w.job), NULL);
}
END_TEST

/* An answer takes what is stored as it stands: whatever a name has, and whatever numbers. */
/* An iteration that diverged has no sizes; those behind it have. */
START_TEST(a_table_has_the_columns_of_all_records)
{
    struct api_table t;
    struct reply r = { .status = 0 };

    ck_assert_int_eq(api_table_begin(&t, API_CSV, NULL), ERR_OK);
    ck_assert_int_eq(api_table_add(&t, json_pack("{s:i, s:{s:n}}", "iteration", 1, "pruned", "loss"), NULL), ERR_OK);
    ck_assert_int_eq(api_table_add(&t, json_pack("{s:i, s:{s:i, s:i}, s:[i], s:{s:i}}", "iteration", 2, "bytes", "dense", 9, "packed", 3, "list", 1, "pruned",
                                                 "loss", 4), NULL), ERR_OK);
    ck_assert_int_eq(api_table_add(&t, json_pack("{s:i}", "iteration", 3), NULL), ERR_OK);
    ck_assert_int_eq(api_table_end(&t, ERR_OK, &r, NULL), ERR_OK);
    ck_assert_str_eq(r.text, "iteration,pruned_loss,bytes_dense,bytes_packed\n1,,,\n2,4,9,3\n3,,,\n");
    reply_clear(&r);
}
END_TEST

START_TEST(answers_are_exact)
{
    const char *more = ", \"name\": \"a \\\"b\\\" \\\\ \\u00fc \\u20ac\", \"stop\": {\"max_drop\": 0.1, \"min_metric\": 0.123456789012345678}";
    struct job_row row = { .conf = NULL };
    char id[ID_LEN];
    const json_t *j, *stop;
    bool found = true;

    take_id(id, expect(201, "POST", "/v1/jobs", job_body(w.trained, w.dataset, more)));
    j = expect(200, "GET", at("/v1/jobs/%s", id), NULL);
    stop = json_object_get(json_object_get(j, "config"), "stop");
    ck_assert_str_eq(string(j, "name"), "a \"b\" \\ \xc3\xbc \xe2\x82\xac");
    ck_assert(json_number_value(json_object_get(stop, "max_drop")) == 0.1);
    ck_assert(json_number_value(json_object_get(stop, "min_metric")) == 0.123456789012345678);
    while (found && strcmp(row.id, id) != 0) {
        job_row_clear(&row);
        ck_assert_int_eq(store_job_claim(w.app.store, "test", clock_ms(), 30000, &row, &found, NULL), ERR_OK);
    }
    ck_assert_int_eq(store_job_heartbeat(w.app.store, id, row.lease_token, clock_ms(), 30000, "{\"phase\":\"train\",\"eta_seconds\":12.5,\"loss\":1}",
                                         &(struct job_asked){ 0 }, NULL), ERR_OK);
    j = json_object_get(expect(200, "GET", at("/v1/jobs/%s", id), NULL), "progress");
    ck_assert(json_number_value(json_object_get(j, "eta_seconds")) == 12.5);
    ck_assert_int_eq(store_job_release(w.app.store, id, row.lease_token, clock_ms(), NULL), ERR_OK);
    j = json_object_get(expect(200, "GET", at("/v1/jobs/%s", id), NULL), "progress");
    ck_assert(json_is_null(json_object_get(j, "eta_seconds")) && json_is_integer(json_object_get(j, "loss")));
    job_row_clear(&row);
}
END_TEST

START_TEST(a_running_job_is_cancelled_later)
{
    struct job_row row = { .conf = NULL };
    bool found;

    ck_assert_int_eq(store_job_claim(w.app.store, "test", clock_ms(), 30000, &row, &found, NULL), ERR_OK);
    ck_assert(found);
    for (int i = 0; i < 2; i++) {
        const json_t *j = expect(202, "POST", at("/v1/jobs/%s/cancel", w.job), NULL);

        ck_assert_str_eq(string(j, "state"), "cancelling");
    }
    job_row_clear(&row);
}
END_TEST

START_TEST(a_job_must_fit_into_memory)
{
    w.app.memory_per_job = 1;
    ck_assert_ptr_nonnull(strstr(string(expect(422, "POST", "/v1/jobs", job_body(w.model, w.dataset, "")), "detail"), "memory"));
    w.app.memory_per_job = 0;
}
END_TEST

START_TEST(iterations_and_events)
{
    const json_t *j = expect(200, "GET", at("/v1/jobs/%s/iterations?limit=2", w.done), NULL);
    struct reply r;

    ck_assert_uint_eq(json_array_size(json_object_get(j, "data")), 2);
    ck_assert(json_is_true(json_object_get(j, "has_more")));
    j = expect(200, "GET", at("/v1/jobs/%s/iterations?after=2", w.done), NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(j, "data")), 1);
    j = expect(200, "GET", at("/v1/jobs/%s/iterations/3", w.done), NULL);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "iteration")), 3);
    r = call("GET", at("/v1/jobs/%s/iterations?format=csv", w.done), NULL);
    ck_assert_str_eq(r.text, "iteration,sparsity,pruned_accuracy,pruned_auc,note\n1,0.1,0.25,,\"a \"\"b\"\"\"\n2,0.2,0.25,,\"a \"\"b\"\"\"\n"
                             "3,0.3,0.25,,\"a \"\"b\"\"\"\n");
    ck_assert_ptr_nonnull(strstr(r.content_type, "text/csv"));
    reply_clear(&r);
    r = call("GET", at("/v1/jobs/%s/iterations?format=csv&limit=1&after=2", w.done), NULL);
    ck_assert_str_eq(r.text, "iteration,sparsity,pruned_accuracy,pruned_auc,note\n3,0.3,0.25,,\"a \"\"b\"\"\"\n");
    reply_clear(&r);
    r = call("GET", at("/v1/jobs/%s/iterations?format=csv", w.job), NULL);
    ck_assert_str_eq(r.text, "");
    reply_clear(&r);
    j = expect(200, "GET", at("/v1/jobs/%s/events?limit=200", w.done), NULL);
    j = json_object_get(j, "data");
    ck_assert_uint_ge(json_array_size(j), 5);
    for (size_t i = 0; i < json_array_size(j); i++)
        ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(j, i), "id")), (json_int_t)i + 1);
}
END_TEST

/* The ids of a page in their order, blanks between; *next: its cursor. */
static const char *page_of_jobs(const char *target, char next[80])
{
    static char text[2000];
    const json_t *j = expect(200, "GET", target, NULL), *data = json_object_get(j, "data");
    size_t k = 0;

    text[0] = '\0';
    for (size_t i = 0; i < json_array_size(data); i++)
        k += (size_t)snprintf(text + k, sizeof text - k, "%s ", string(json_array_get(data, i), "id"));
    snprintf(next, 80, "%s", json_is_null(json_object_get(j, "next")) ? "" : string(j, "next"));
    return text;
}

START_TEST(jobs_sorted_and_filtered)
{
    static const char *const sorts[] = { "created", "-created", "finished", "-finished", "metric", "-metric" };
    char next[80], whole[2000], pages[2000], target[200];
    struct reply r;

    for (int i = 0; i < 3; i++)
        expect(201, "POST", "/v1/jobs", job_body(w.model, w.dataset, i == 1 ? ", \"name\": \"An_Odd%One\"" : ""));
    for (size_t s = 0; s < sizeof sorts / sizeof sorts[0]; s++) {
        snprintf(target, sizeof target, "/v1/jobs?sort=%s&limit=200", sorts[s]);
        snprintf(whole, sizeof whole, "%s", page_of_jobs(target, next));
        ck_assert_str_eq(next, "");
        ck_assert_uint_eq(strlen(whole), 5 * 25);
        pages[0] = '\0';
        do { /* two at a time: nothing is left out, nothing comes twice */
            snprintf(target, sizeof target, "/v1/jobs?sort=%s&limit=2%s%s", sorts[s], *next ? "&after=" : "", next);
            snprintf(pages + strlen(pages), sizeof pages - strlen(pages), "%s", page_of_jobs(target, next));
        } while (*next);
        ck_assert_str_eq(pages, whole);
        ck_assert_msg(s < 2 || strncmp(whole + (*sorts[s] == '-' ? 0 : 100), w.done, 24) == 0, "%s: the only job that has ended", sorts[s]);
    }
    ck_assert_uint_eq(strlen(page_of_jobs("/v1/jobs?name=an_odd%25", next)), 25);
    ck_assert_uint_eq(strlen(page_of_jobs("/v1/jobs?name=_", next)), 25);
    ck_assert_uint_eq(strlen(page_of_jobs("/v1/jobs?sort=metric&state=succeeded", next)), 25);
    ck_assert_uint_eq(strlen(page_of_jobs(at("/v1/jobs?model=%s&limit=1", w.trained), next)), 25); /* the one that is done */
    ck_assert_uint_gt(strlen(page_of_jobs(at("/v1/jobs?dataset=%s", w.dataset), next)), 50);
    r = call("GET", "/v1/jobs?format=csv&limit=1&name=odd", NULL);
    ck_assert_int_eq(strncmp(r.text, "id,name,state,priority,model,dataset,created_at,started_at,finished_at,attempt,iterations,best_metric,retry_of,tags\n\"job_", 120), 0);
    ck_assert_ptr_nonnull(strstr(r.text, "\",\"An_Odd%One\",\"queued\",0,"));
    reply_clear(&r);
    r = call("GET", "/v1/jobs?format=ndjson&limit=3", NULL);
    ck_assert_str_eq(r.content_type, "application/x-ndjson");
    for (const char *line = r.text, *end; *line; line = end + 1) {
        json_t *j = json_loadb(line, (size_t)((end = strchr(line, '\n')) - line), 0, NULL);

        ck_assert_str_eq(string(j, "object"), "job");
        json_decref(j);
    }
    reply_clear(&r);
}
END_TEST

START_TEST(curves_of_several_jobs)
{
    char target[300];
    const json_t *j;
    struct reply r;

    snprintf(target, sizeof target, "/v1/iterations?jobs=%s,%s", w.job, w.done);
    j = json_object_get(expect(200, "GET", target, NULL), "data");
    ck_assert_uint_eq(json_array_size(j), 2);
    ck_assert_uint_eq(json_array_size(json_object_get(json_array_get(j, 0), "data")), 0);
    ck_assert_str_eq(string(json_array_get(j, 1), "job"), w.done);
    ck_assert_uint_eq(json_array_size(json_object_get(json_array_get(j, 1), "data")), 3);
    snprintf(target, sizeof target, "/v1/iterations?jobs=%s&format=csv", w.done);
    r = call("GET", target, NULL);
    ck_assert_int_eq(strncmp(r.text, "job,iteration,sparsity,", 23), 0);
    reply_clear(&r);
    r = call("GET", at("/v1/jobs/%s/iterations?format=ndjson", w.done), NULL);
    j = json_object_get(expect(200, "GET", at("/v1/jobs/%s/iterations", w.done), NULL), "data");
    for (size_t i = 0; i < 3; i++) { /* the same text, to the last digit */
        char *line = json_text(json_array_get(j, i), JSON_COMPACT, NULL);

        ck_assert_msg(strstr(r.text, line), "%s\n%s", line, r.text);
        mem_free(line);
    }
    reply_clear(&r);
}
END_TEST

START_TEST(a_dry_run_tells_and_stores_nothing)
{
    char next[80];
    const json_t *j = expect(200, "POST", "/v1/jobs?dry_run=true", job_body(w.model, w.dataset, ", \"prune\": {\"iterations\": 2, \"scope\": \"layer\","
                                                                            " \"schedule\": \"linear\", \"target_sparsity\": 0.5}"));
    const json_t *layer = json_array_get(json_object_get(j, "layers"), 0), *last = json_array_get(json_object_get(j, "iterations"), 1);

    ck_assert_str_eq(string(layer, "name"), "dense");
    ck_assert_int_eq(json_integer_value(json_object_get(layer, "weights")), 6);
    ck_assert_int_eq(json_integer_value(json_object_get(last, "nonzero")), 3);
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(json_object_get(last, "layers"), 0), "nonzero")), 3);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(json_object_get(j, "config"), "prune"), "iterations")), 2);
    ck_assert_int_gt(json_integer_value(json_object_get(json_object_get(j, "memory"), "needed_bytes")), 0);
    ck_assert_double_gt(json_number_value(json_object_get(json_object_get(j, "seconds"), "estimate")), 0);
    ck_assert_uint_eq(strlen(page_of_jobs("/v1/jobs", next)), 50);
}
END_TEST

START_TEST(pause_resume_retry)
{
    const json_t *j = expect(200, "POST", at("/v1/jobs/%s/pause", w.job), NULL);
    char again[ID_LEN];

    ck_assert_str_eq(string(j, "state"), "paused");
    j = expect(200, "POST", at("/v1/jobs/%s/resume", w.job), NULL);
    ck_assert_str_eq(string(j, "state"), "queued");
    j = expect(200, "GET", at("/v1/jobs/%s", w.job), NULL);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "queue_position")), 1);
    expect(200, "POST", at("/v1/jobs/%s/cancel", w.job), NULL);
    j = expect(201, "POST", at("/v1/jobs/%s/retry", w.job), NULL);
    ck_assert_str_eq(string(j, "retry_of"), w.job);
    ck_assert_str_eq(string(j, "state"), "queued");
    ck_assert_str_ne(string(j, "id"), w.job);
    take_id(again, j);
    j = expect(200, "GET", at("/v1/jobs/%s", again), NULL);
    ck_assert(json_is_null(json_object_get(j, "started_at")) && json_is_null(json_object_get(j, "error")));
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "jobs");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, jobs);
    tcase_add_test(tc, a_table_has_the_columns_of_all_records);
    tcase_add_test(tc, answers_are_exact);
    tcase_add_test(tc, a_running_job_is_cancelled_later);
    tcase_add_test(tc, a_job_must_fit_into_memory);
    tcase_add_test(tc, iterations_and_events);
    tcase_add_test(tc, pause_resume_retry);
    tcase_add_test(tc, jobs_sorted_and_filtered);
    tcase_add_test(tc, curves_of_several_jobs);
    tcase_add_test(tc, a_dry_run_tells_and_stores_nothing);
}
SUITE_MAIN("jobs", cases)
