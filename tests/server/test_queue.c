/* The queue: who gets which job, the life of one, cancel against finish, pause, recovery. */
#include <pthread.h>

#include "tests/server/store_fixture.h"

static struct job_publish iteration(int64_t n, const struct blob *weights, const struct blob *checkpoint)
{
    return (struct job_publish){ .now_ms = 200, .iteration = n, .type = "iteration", .record = "{\"sparsity\":0.5}", .weights = weights,
                                 .checkpoint = checkpoint };
}

START_TEST(claims_by_priority_then_age)
{
    static const int64_t priority[] = { 0, 5, -1, 5, 0 };
    static const int order[] = { 1, 3, 0, 4, 2 };
    struct job_row j[5], got = { 0 };
    bool found = true;

    OK(store_job_claim(st, "me", 1, 1000, &got, &found, &err));
    ck_assert(!found);
    for (int i = 0; i < 5; i++)
        j[i] = make_job(priority[i]);
    for (int i = 0; i < 5; i++) {
        got = claim_job();
        ck_assert_str_eq(got.id, j[order[i]].id);
        ck_assert(got.state == JOB_RUNNING && got.attempt == 1 && got.lease_token == 1 && got.started_ms == 100);
        ck_assert_str_eq(got.conf, "{\"a\":1}");
        job_row_clear(&got);
    }
    OK(store_job_claim(st, "me", 1, 1000, &got, &found, &err));
    ck_assert(!found);
    check_invariants();
}
END_TEST

/* ---- many threads ---- */

enum { N_JOBS = 500, N_THREADS = 8 };
struct claimer { pthread_t thread; struct id_list ids; };

static void *claim_all(void *arg)
{
    struct claimer *c = arg;
    struct job_row j = { 0 };
    struct err e = { 0 };
    bool found = true;

    while (store_job_claim(st, "me", 1, 1000, &j, &found, &e) == ERR_OK && found) {
        if (id_list_add(&c->ids, j.id, &e) != ERR_OK)
            break;
        job_row_clear(&j);
    }
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(a, b);
}

START_TEST(threads_never_claim_a_job_twice)
{
    struct model_row m = make_model(true);
    struct dataset_row d = make_dataset();
    struct claimer c[N_THREADS];
    struct id_list all = { 0 };

    for (int i = 0; i < N_JOBS; i++) {
        struct job_row j = job_for(&m, &d, i % 3);

        OK(store_job_add(st, &j, &err));
    }
    memset(c, 0, sizeof c);
    for (int i = 0; i < N_THREADS; i++)
        pthread_create(&c[i].thread, NULL, claim_all, &c[i]);
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(c[i].thread, NULL);
        for (size_t k = 0; k < c[i].ids.n; k++)
            OK(id_list_add(&all, c[i].ids.id[k], &err));
        id_list_clear(&c[i].ids);
    }
    ck_assert_uint_eq(all.n, N_JOBS);
    qsort(all.id, all.n, sizeof all.id[0], compare_ids);
    for (size_t i = 1; i < all.n; i++)
        ck_assert_str_ne(all.id[i - 1], all.id[i]);
    id_list_clear(&all);
    check_invariants();
}
END_TEST

/* ---- life of a job ---- */

static struct event_row last_event;
static char last_data[256];

static enum err_code see_event(void *user, const void *row, struct err *e)
{
    const struct event_row *ev = row;

    (void)e;
    ++*(int *)user;
    ck_assert_int_eq(ev->seq, *(int *)user);
    snprintf(last_data, sizeof last_data, "%s", ev->data);
    last_event = *ev;
    return ERR_OK;
}

static int count_events(const char *job)
{
    int n = 0;
    bool more = true;

    while (more)
        OK(store_events(st, job, n, 2, see_event, &n, &more, &err));
    return n;
}

static enum err_code see_iteration(void *user, const void *row, struct err *e)
{
    const struct iteration_row *i = row;

    (void)e;
    ++*(int *)user;
    ck_assert_int_eq(i->iteration, *(int *)user);
    ck_assert_str_eq(i->record, "{\"sparsity\":0.5}");
    ck_assert(blob_exists(i->weights));
    return ERR_OK;
}

START_TEST(life_of_a_job)
{
    struct job_row posted = make_job(0), j = claim_job(), got = { 0 };
    struct blob w0 = make_blob(), w1 = make_blob(), c1 = make_blob(), c2 = make_blob(), result = make_blob();
    struct job_publish base = { .now_ms = 150, .type = "baseline", .record = "{\"accuracy\":1}", .weights = &w0, .checkpoint = &c1 };
    struct job_publish next = iteration(1, &w1, &c2), gap = iteration(3, NULL, NULL);
    char weights[ID_LEN];
    json_t *record = NULL;
    struct job_asked asked = { true, true };
    bool more;
    int n = 0;

    OK(store_job_publish(st, j.id, j.lease_token, &base, &err));
    OK(store_job_publish(st, j.id, j.lease_token, &next, &err));
    ck_assert(!blob_exists(c1.id) && blob_exists(c2.id)); /* the newest checkpoint alone is kept */
    ck_assert_int_eq(store_job_publish(st, j.id, j.lease_token, &gap, &err), ERR_INTERNAL);
    ck_assert_int_ne(store_job_publish(st, j.id, j.lease_token, &base, &err), ERR_OK);
    OK(store_job_heartbeat(st, j.id, j.lease_token, 300, 1000, "{\"phase\":\"retrain\"}", &asked, &err));
    ck_assert(!asked.cancel);
    OK(store_job_heartbeat(st, j.id, j.lease_token, 400, 1000, NULL, &asked, &err)); /* no news */
    OK(store_job_get(st, TENANT_DEFAULT, j.id, &got, &err));
    ck_assert_str_eq(got.progress, "{\"phase\":\"retrain\"}");
    ck_assert_str_eq(got.baseline, "{\"accuracy\":1}");
    ck_assert_str_eq(got.checkpoint, c2.id);
    ck_assert_int_eq(got.n_iterations, 1);
    job_row_clear(&got);
    OK(store_job_finish(st, j.id, j.lease_token, 500, JOB_SUCCEEDED, "{\"iteration\":1}", &result, NULL, &err));
    OK(store_job_get(st, TENANT_DEFAULT, j.id, &got, &err));
    ck_assert(got.state == JOB_SUCCEEDED && got.finished_ms == 500 && !got.error);
    ck_assert_str_eq(got.result, "{\"iteration\":1}");
    ck_assert_str_eq(got.result_weights, result.id);
    ck_assert_str_eq(got.checkpoint, "");
    job_row_clear(&got);
    ck_assert(!blob_exists(c2.id));
    OK(store_iterations(st, j.id, 0, 1, see_iteration, &n, &more, &err));
    ck_assert(n == 1 && !more);
    OK(store_iteration_get(st, j.id, 0, weights, &record, &err));
    ck_assert_str_eq(weights, w0.id);
    ck_assert_int_eq(json_integer_value(json_object_get(record, "accuracy")), 1);
    json_decref(record);
    ck_assert_int_eq(store_iteration_get(st, j.id, 2, weights, &record, &err), ERR_NOT_FOUND);
    ck_assert_int_eq(count_events(j.id), 6); /* result, then the state */
    ck_assert_str_eq(last_data, "{\"state\":\"succeeded\"}");
    ck_assert_int_eq(check_invariants(), 5);
    ck_assert_int_eq(files_in_blobs(), 5);
    OK(store_model_delete(st, TENANT_DEFAULT, posted.model, &err));
    OK(store_job_delete(st, TENANT_DEFAULT, j.id, &err));
    ck_assert_int_eq(files_in_blobs(), 0);
    job_row_clear(&j);
}
END_TEST

START_TEST(failed_and_released)
{
    struct job_row j = (make_job(0), claim_job()), got = { 0 };

    OK(store_job_release(st, j.id, j.lease_token, 200, &err));
    job_row_clear(&j);
    j = claim_job();
    ck_assert(j.attempt == 1 && j.lease_token == 2); /* a release does not count as an attempt; the token grows nevertheless */
    OK(store_job_finish(st, j.id, j.lease_token, 300, JOB_FAILED, NULL, NULL, "{\"code\":\"diverged\"}", &err));
    OK(store_job_get(st, TENANT_DEFAULT, j.id, &got, &err));
    ck_assert(got.state == JOB_FAILED && !got.result);
    ck_assert_str_eq(got.error, "{\"code\":\"diverged\"}");
    job_row_clear(&got);
    ck_assert_int_eq(count_events(j.id), 5);
    ck_assert_str_eq(last_data, "{\"state\":\"failed\",\"error\":{\"code\":\"diverged\"}}");
    job_row_clear(&j);
    check_invariants();
}
END_TEST

/* ---- cancel ---- */

START_TEST(cancel_of_a_running_job)
{
    struct job_row posted = make_job(0), j = claim_job();
    enum job_state now;
    struct job_asked asked = { false, false };

    OK(store_job_cancel(st, TENANT_DEFAULT, posted.id, 300, &now, &err));
    ck_assert_int_eq(now, JOB_CANCELLING);
    OK(store_job_cancel(st, TENANT_DEFAULT, posted.id, 301, &now, &err)); /* again: as it is */
    ck_assert_int_eq(now, JOB_CANCELLING);
    OK(store_job_heartbeat(st, j.id, j.lease_token, 310, 1000, NULL, &asked, &err));
    ck_assert(asked.cancel);
    ck_assert_int_eq(store_job_finish(st, j.id, j.lease_token, 320, JOB_SUCCEEDED, "{}", NULL, NULL, &err), ERR_CONFLICT);
    ck_assert_int_eq(store_job_finish(st, j.id, j.lease_token, 320, JOB_FAILED, NULL, NULL, "{}", &err), ERR_CONFLICT);
    ck_assert_int_eq(store_job_release(st, j.id, j.lease_token, 320, &err), ERR_CONFLICT);
    OK(store_job_finish(st, j.id, j.lease_token, 330, JOB_CANCELLED, NULL, NULL, NULL, &err));
    ck_assert_int_eq(state_now(j.id), JOB_CANCELLED);
    ck_assert_int_eq(count_events(j.id), 4);
    check_invariants();
    job_row_clear(&j);
}
END_TEST

static void *cancel_thread(void *arg)
{
    enum job_state now;
    struct err e = { 0 };

    return (void *)(intptr_t)store_job_cancel(st, TENANT_DEFAULT, arg, 300, &now, &e);
}

START_TEST(cancel_races_finish)
{
    struct model_row m = make_model(false);
    struct dataset_row d = make_dataset();

    for (int i = 0; i < 100; i++) {
        struct job_row j = job_for(&m, &d, 0), got = { 0 };
        void *cancelled;
        enum err_code finished;
        pthread_t t;

        OK(store_job_add(st, &j, &err));
        got = claim_job();
        pthread_create(&t, NULL, cancel_thread, j.id);
        finished = store_job_finish(st, j.id, got.lease_token, 300, JOB_SUCCEEDED, "{}", NULL, NULL, &err);
        pthread_join(t, &cancelled);
        if (finished == ERR_CONFLICT)
            OK(store_job_finish(st, j.id, got.lease_token, 300, JOB_CANCELLED, NULL, NULL, NULL, &err));
        ck_assert((finished == ERR_OK) == ((intptr_t)cancelled == ERR_CONFLICT));
        ck_assert_int_eq(state_now(j.id), finished == ERR_OK ? JOB_SUCCEEDED : JOB_CANCELLED);
        ck_assert_int_eq(store_job_finish(st, j.id, got.lease_token, 300, JOB_FAILED, NULL, NULL, "{}", &err), ERR_CONFLICT);
        job_row_clear(&got);
    }
    check_invariants();
}
END_TEST

/* ---- pause ---- */

START_TEST(pause_and_resume)
{
    struct job_row a = make_job(1), j, got = { 0 };
    struct job_asked asked;
    enum job_state now;
    int requeued = -1;
    bool found;

    OK(store_job_pause(st, TENANT_DEFAULT, a.id, 10, &now, &err));
    ck_assert(now == JOB_PAUSED && state_now(a.id) == JOB_PAUSED);
    OK(store_job_claim(st, "me", 100, 30000, &got, &found, &err));
    ck_assert(!found);
    OK(store_job_pause(st, TENANT_DEFAULT, a.id, 10, &now, &err)); /* as it is */
    OK(store_job_resume(st, TENANT_DEFAULT, a.id, 11, &now, &err));
    OK(store_job_resume(st, TENANT_DEFAULT, a.id, 11, &now, &err));
    ck_assert_int_eq(now, JOB_QUEUED);
    j = claim_job();
    OK(store_job_pause(st, TENANT_DEFAULT, a.id, 12, &now, &err));
    ck_assert_int_eq(now, JOB_RUNNING);
    OK(store_job_heartbeat(st, a.id, j.lease_token, 13, 1000, NULL, &asked, &err));
    ck_assert(asked.pause && !asked.cancel);
    OK(store_job_get(st, TENANT_DEFAULT, a.id, &got, &err));
    ck_assert(got.pause_requested);
    job_row_clear(&got);
    OK(store_job_release(st, a.id, j.lease_token, 14, &err));
    OK(store_job_get(st, TENANT_DEFAULT, a.id, &got, &err));
    ck_assert(got.state == JOB_PAUSED && !got.pause_requested && got.attempt == 0);
    job_row_clear(&got);
    OK(store_job_resume(st, TENANT_DEFAULT, a.id, 15, &now, &err));
    job_row_clear(&j);
    j = claim_job();
    OK(store_job_pause(st, TENANT_DEFAULT, a.id, 16, &now, &err));
    OK(store_job_resume(st, TENANT_DEFAULT, a.id, 16, &now, &err)); /* thought better of it */
    OK(store_job_heartbeat(st, a.id, j.lease_token, 17, 1000, NULL, &asked, &err));
    ck_assert(!asked.pause);
    OK(store_job_pause(st, TENANT_DEFAULT, a.id, 18, &now, &err));
    OK(store_jobs_recover(st, 19, 3, &requeued, &err)); /* the process died before it was saved */
    ck_assert(requeued == 0 && state_now(a.id) == JOB_PAUSED);
    OK(store_job_cancel(st, TENANT_DEFAULT, a.id, 20, &now, &err));
    ck_assert_int_eq(now, JOB_CANCELLED);
    ck_assert_int_eq(store_job_pause(st, TENANT_DEFAULT, a.id, 21, &now, &err), ERR_CONFLICT);
    ck_assert_int_eq(store_job_resume(st, TENANT_DEFAULT, a.id, 21, &now, &err), ERR_CONFLICT);
    ck_assert_int_eq(store_job_pause(st, TENANT_DEFAULT, "job_00000000000000000000", 21, &now, &err), ERR_NOT_FOUND);
    check_invariants();
    job_row_clear(&j);
}
END_TEST

START_TEST(positions_in_the_queue)
{
    const int64_t priority[] = { 0, 5, 0, 5, -1 }, want[] = { 3, 1, 4, 2, 5 };
    struct job_row j[5];

    for (int i = 0; i < 5; i++)
        j[i] = make_job(priority[i]);
    for (int i = 0; i < 5; i++) {
        int64_t position = -1;

        OK(store_job_position(st, &j[i], &position, &err));
        ck_assert_int_eq(position, want[i]);
        j[i].state = JOB_RUNNING;
        OK(store_job_position(st, &j[i], &position, &err));
        ck_assert_int_eq(position, 0);
    }
}
END_TEST

/* ---- recovery ---- */

static void save(const struct job_row *j, const struct blob *checkpoint)
{
    OK(store_job_publish(st, j->id, j->lease_token, &(struct job_publish){ .now_ms = 900, .type = "checkpoint", .checkpoint = checkpoint }, &err));
}

START_TEST(recovery_after_a_crash)
{
    struct job_row running = make_job(9), j = claim_job(), cancelling = make_job(8), k = claim_job(), queued = make_job(7);
    struct blob c = make_blob();
    enum job_state now;
    int requeued = -1;

    save(&j, &c);
    OK(store_job_cancel(st, TENANT_DEFAULT, cancelling.id, 200, &now, &err));
    store_reopen();
    OK(store_jobs_recover(st, 300, 3, &requeued, &err));
    ck_assert_int_eq(requeued, 1);
    ck_assert_int_eq(state_now(running.id), JOB_QUEUED);
    ck_assert_int_eq(state_now(cancelling.id), JOB_CANCELLED);
    ck_assert_int_eq(state_now(queued.id), JOB_QUEUED);
    job_row_clear(&j);
    j = claim_job();
    ck_assert_str_eq(j.id, running.id);
    ck_assert_str_eq(j.checkpoint, c.id);
    ck_assert_int_eq(j.attempt, 2);
    ck_assert(blob_exists(c.id));
    OK(store_jobs_recover(st, 300, 3, &requeued, &err));
    job_row_clear(&j);
    j = claim_job();
    c = make_blob();
    save(&j, &c); /* deaths are counted from the last checkpoint */
    for (int death = 1; death <= 3; death++) {
        OK(store_jobs_recover(st, 400, 3, &requeued, &err));
        ck_assert_int_eq(requeued, death < 3);
        job_row_clear(&j);
        if (death < 3)
            j = claim_job();
    }
    OK(store_job_get(st, TENANT_DEFAULT, running.id, &j, &err));
    ck_assert_int_eq(j.state, JOB_FAILED);
    ck_assert_ptr_nonnull(strstr(j.error, "\"worker_crashed\""));
    OK(store_jobs_recover(st, 400, 3, &requeued, &err));
    ck_assert_int_eq(requeued, 0);
    check_invariants();
    job_row_clear(&j);
    job_row_clear(&k);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "queue");

    tcase_add_checked_fixture(tc, store_setup, store_teardown);
    tcase_add_test(tc, claims_by_priority_then_age);
    tcase_add_test(tc, threads_never_claim_a_job_twice);
    tcase_add_test(tc, life_of_a_job);
    tcase_add_test(tc, failed_and_released);
    tcase_add_test(tc, cancel_of_a_running_job);
    tcase_add_test(tc, cancel_races_finish);
    tcase_add_test(tc, pause_and_resume);
    tcase_add_test(tc, positions_in_the_queue);
    tcase_add_test(tc, recovery_after_a_crash);
}
SUITE_MAIN("queue", cases)
