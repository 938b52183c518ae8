/* Writes of the store that must change nothing: under a stale lease, and at every failure of database and memory. */
#include "tests/server/store_fixture.h"

/* ---- what workers do, as a table: each row is one write under a lease ---- */

static struct blob extra[2];
static const char *job_id;
static enum err_code do_heartbeat(int64_t token)
{
    struct job_asked asked = { false, false };

    return store_job_heartbeat(st, job_id, token, 900, 1000, "{\"phase\":\"x\"}", &asked, &err);
}
static enum err_code do_checkpoint(int64_t token)
{
    return store_job_publish(st, job_id, token, &(struct job_publish){ .now_ms = 900, .type = "checkpoint", .checkpoint = &extra[0] }, &err);
}
static enum err_code do_baseline(int64_t token)
{
    return store_job_publish(st, job_id, token, &(struct job_publish){ .now_ms = 900, .type = "baseline", .record = "{}", .weights = &extra[0],
                                                                         .checkpoint = &extra[1] }, &err);
}
static enum err_code do_iteration(int64_t token)
{
    return store_job_publish(st, job_id, token, &(struct job_publish){ .now_ms = 200, .iteration = 1, .type = "iteration", .record = "{}",
                                                                         .weights = &extra[0], .checkpoint = &extra[1] }, &err);
}
static enum err_code do_succeed(int64_t token)
{
    return store_job_finish(st, job_id, token, 900, JOB_SUCCEEDED, "{}", &extra[0], NULL, &err);
}
static enum err_code do_fail(int64_t token)
{
    return store_job_finish(st, job_id, token, 900, JOB_FAILED, NULL, NULL, "{}", &err);
}
static enum err_code do_cancelled(int64_t token)
{
    return store_job_finish(st, job_id, token, 900, JOB_CANCELLED, NULL, NULL, NULL, &err);
}
static enum err_code do_release(int64_t token)
{
    return store_job_release(st, job_id, token, 900, &err);
}
static const struct { const char *name; enum err_code (*fn)(int64_t token); } writes[] = {
    { "heartbeat", do_heartbeat }, { "checkpoint", do_checkpoint }, { "baseline", do_baseline }, { "iteration", do_iteration },
    { "succeed", do_succeed }, { "fail", do_fail }, { "cancelled", do_cancelled }, { "release", do_release },
};
enum { N_WRITES = sizeof writes / sizeof writes[0] };

/* Everything the database says of the job. */
static void dump_rows(char *text, size_t n, const char *id)
{
    ck_assert_uint_eq(n, 4096);
    *text = '\0';
    OK(store_read(st, "SELECT * FROM jobs WHERE id = $1", ARGS(DB_S(id)), dump_row, text, &err));
    OK(store_read(st, "SELECT * FROM iterations WHERE job = $1 ORDER BY iteration", ARGS(DB_S(id)), dump_row, text, &err));
    OK(store_read(st, "SELECT * FROM events WHERE job = $1 ORDER BY seq", ARGS(DB_S(id)), dump_row, text, &err));
}

START_TEST(a_stale_lease_writes_nothing)
{
    struct job_row posted = make_job(0), old = claim_job(), now;
    char before[4096], after[4096];
    int requeued = 0;

    OK(store_jobs_recover(st, 400, 10, &requeued, &err));
    ck_assert_int_eq(requeued, 1);
    job_id = posted.id;
    extra[0] = make_blob();
    extra[1] = make_blob();
    for (int round = 0; round < 2; round++) { /* first nobody has it, then somebody else */
        dump_rows(before, sizeof before, posted.id);
        ck_assert_msg(writes[_i].fn(old.lease_token) == ERR_CONFLICT, "%s", writes[_i].name);
        dump_rows(after, sizeof after, posted.id);
        ck_assert_str_eq(before, after);
        if (round == 0) {
            now = claim_job();
            ck_assert_int_eq(now.lease_token, old.lease_token + 1);
        }
    }
    blob_discard(st, extra[0].id);
    blob_discard(st, extra[1].id);
    check_invariants();
    job_row_clear(&old);
    job_row_clear(&now);
}
END_TEST

/* ---- every failure of the database and of memory ---- */

static enum err_code do_add_model(int64_t token)
{
    struct model_row m = { .tenant = TENANT_DEFAULT, .name = "x", .architecture = extra[0], .weights = extra[1], .summary = (char *)(uintptr_t)"{}" };

    (void)token;
    id_new(m.id, "mdl");
    return store_model_add(st, &m, &err);
}
static char free_model[ID_LEN], free_dataset[ID_LEN], final_job[ID_LEN];
static enum err_code do_set_weights(int64_t token)
{
    (void)token;
    return store_model_set_weights(st, TENANT_DEFAULT, free_model, &extra[0], "{}", &err);
}
static enum err_code do_delete_model(int64_t token)
{
    (void)token;
    return store_model_delete(st, TENANT_DEFAULT, free_model, &err);
}
static enum err_code do_set_part(int64_t token)
{
    struct dataset_part p[2] = { { extra[0], (char *)(uintptr_t)"{}" }, { extra[1], (char *)(uintptr_t)"{}" } };

    (void)token;
    return store_dataset_set_part(st, TENANT_DEFAULT, free_dataset, 0, &p[0], &p[1], &err);
}
static enum err_code do_delete_dataset(int64_t token)
{
    (void)token;
    return store_dataset_delete(st, TENANT_DEFAULT, free_dataset, &err);
}
static enum err_code do_cancel(int64_t token)
{
    enum job_state now;

    (void)token;
    return store_job_cancel(st, TENANT_DEFAULT, job_id, 900, &now, &err);
}
static enum err_code do_delete_job(int64_t token)
{
    (void)token;
    return store_job_delete(st, TENANT_DEFAULT, final_job, &err);
}
static enum err_code do_recover(int64_t token)
{
    int n;

    (void)token;
    return store_jobs_recover(st, 900, 1, &n, &err);
}
static enum err_code do_get(int64_t token)
{
    struct job_row j = { 0 };
    enum err_code rc = store_job_get(st, TENANT_DEFAULT, job_id, &j, &err);

    (void)token;
    job_row_clear(&j);
    return rc;
}
static enum err_code do_get_dataset(int64_t token)
{
    struct dataset_row d = { 0 };
    enum err_code rc = store_dataset_get(st, TENANT_DEFAULT, free_dataset, &d, &err);

    (void)token;
    dataset_row_clear(&d);
    return rc;
}
static enum err_code do_claim(int64_t token)
{
    struct job_row j = { 0 };
    bool found;
    enum err_code rc = store_job_claim(st, "me", 900, 1000, &j, &found, &err);

    (void)token;
    job_row_clear(&j);
    return rc;
}
static const struct { const char *name; enum err_code (*fn)(int64_t token); } others[] = {
    { "add model", do_add_model }, { "set weights", do_set_weights }, { "delete model", do_delete_model }, { "set part", do_set_part },
    { "delete data set", do_delete_dataset }, { "cancel", do_cancel }, { "delete job", do_delete_job }, { "recover", do_recover },
    { "get job", do_get }, { "get data set", do_get_dataset }, { "claim", do_claim },
};
enum { N_OTHERS = sizeof others / sizeof others[0] };

/* Fails the k-th query (even _i) or the k-th allocation (odd) until the call gets through: each time an error, and nothing was changed. */
START_TEST(faults_change_nothing)
{
    int at = _i / 2;
    enum err_code (*fn)(int64_t) = at < N_WRITES ? writes[at].fn : others[at - N_WRITES].fn;
    const char *name = at < N_WRITES ? writes[at].name : others[at - N_WRITES].name;
    long *fail_in = _i % 2 == 0 ? &db_fail_in : &mem_fail_in;
    struct job_row done = make_job(9), old = claim_job(), posted = make_job(5), j = claim_job();
    char before[4096], after[4096];
    int rows, files;

    make_job(0);
    OK(store_job_finish(st, done.id, old.lease_token, 100, JOB_SUCCEEDED, "{}", NULL, NULL, &err));
    job_id = posted.id;
    snprintf(final_job, sizeof final_job, "%s", done.id);
    snprintf(free_model, sizeof free_model, "%s", make_model(false).id);
    snprintf(free_dataset, sizeof free_dataset, "%s", make_dataset().id);
    extra[0] = make_blob();
    extra[1] = make_blob();
    if (fn == do_cancelled)
        ck_assert_int_eq(do_cancel(0), ERR_OK);
    rows = check_invariants();
    files = files_in_blobs();
    dump_rows(before, sizeof before, posted.id);
    for (long k = 1;; k++) {
        enum err_code rc;
        bool fired;

        *fail_in = k;
        rc = fn(j.lease_token);
        fired = *fail_in == 0;
        *fail_in = 0;
        if (!fired) {
            ck_assert_msg(rc == ERR_OK, "%s: %s", name, err.msg);
            break;
        }
        ck_assert_msg(rc != ERR_OK, "%s: failure %ld went unseen", name, k);
        ck_assert_int_eq(check_invariants(), rows);
        ck_assert_int_eq(files_in_blobs(), files);
        dump_rows(after, sizeof after, posted.id);
        ck_assert_str_eq(before, after);
    }
    check_invariants();
    job_row_clear(&old);
    job_row_clear(&j);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "queue faults");

    tcase_add_checked_fixture(tc, store_setup, store_teardown);
    tcase_add_loop_test(tc, a_stale_lease_writes_nothing, 0, N_WRITES);
    tcase_add_loop_test(tc, faults_change_nothing, 0, 2 * (N_WRITES + N_OTHERS));
}
SUITE_MAIN("queue faults", cases)
