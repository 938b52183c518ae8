/* Workers with a run of the test's own making instead of a training: what becomes of a job after each way a run may end; cancel, stop, a lost lease;
 * priorities; many jobs on many threads. */
#include <time.h>

#include "server/log.h"
#include "server/worker_impl.h"
#include "tests/server/store_fixture.h"

static struct workers *pool;
static atomic_int n_runs, n_running, most_running;
static enum err_code next_rc; /* what run_error returns */

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static void setup(void)
{
    log_set_level(LOG_ERROR);
    store_setup();
}

static void teardown(void)
{
    workers_free(pool);
    workers_free(NULL);
    pool = NULL;
    store_teardown();
}

static void start(int n, run_fn *run)
{
    OK(workers_start_with(&pool, st, n, &(struct run_conf){ .threads = 1, .memory = 1, .run = run }, &err));
}

static void wait_state(const char *id, enum job_state want)
{
    int64_t begun = clock_mono_ms();

    while (state_now(id) != want) {
        ck_assert_msg(clock_mono_ms() - begun < 20000, "the job is %s, not %s", job_state_name(state_now(id)), job_state_name(want));
        sleep_ms(2);
    }
}

/* ---- runs ---- */

static enum err_code run_succeed(struct lease *l, const struct job_row *j, const struct run_conf *c, struct err *e)
{
    int running = atomic_fetch_add(&n_running, 1) + 1;

    (void)c;
    if (running > atomic_load(&most_running))
        atomic_store(&most_running, running);
    atomic_fetch_add(&n_runs, 1);
    sleep_ms(1);
    atomic_fetch_sub(&n_running, 1);
    return store_job_finish(l->store, j->id, l->token, 5, JOB_SUCCEEDED, "{}", NULL, NULL, e);
}

static enum err_code run_error(struct lease *l, const struct job_row *j, const struct run_conf *c, struct err *e)
{
    (void)l;
    (void)j;
    (void)c;
    atomic_fetch_add(&n_runs, 1);
    return err_field(e, next_rc, "/train/labels", "it \"went\" wrong");
}

static enum err_code run_until_stopped(struct lease *l, const struct job_row *j, const struct run_conf *c, struct err *e)
{
    (void)j;
    (void)c;
    atomic_fetch_add(&n_runs, 1);
    while (!lease_must_stop(l))
        sleep_ms(1);
    return err_set(e, ERR_STOPPED, "stopped on request");
}

/* Does not look at its lease: it must be refused when it publishes. */
static atomic_bool let_go;
static enum err_code run_blindly(struct lease *l, const struct job_row *j, const struct run_conf *c, struct err *e)
{
    (void)c;
    atomic_fetch_add(&n_runs, 1);
    while (!atomic_load(&let_go))
        sleep_ms(1);
    return store_job_finish(l->store, j->id, l->token, 5, JOB_SUCCEEDED, "{}", NULL, NULL, e);
}

/* ---- tests ---- */

START_TEST(every_job_runs_once)
{
    struct model_row m = make_model(false);
    struct dataset_row d = make_dataset();
    struct job_row j[40];
    int64_t count[JOB_STATES];

    start(4, run_succeed);
    for (int i = 0; i < 40; i++) {
        j[i] = job_for(&m, &d, 0);
        OK(store_job_add(st, &j[i], &err));
        workers_wake(pool);
    }
    for (int i = 0; i < 40; i++)
        wait_state(j[i].id, JOB_SUCCEEDED);
    ck_assert_int_eq(atomic_load(&n_runs), 40);
    ck_assert_int_le(atomic_load(&most_running), 4);
    OK(store_job_counts(st, count, &err));
    ck_assert_int_eq(count[JOB_SUCCEEDED], 40);
    ck_assert_int_eq(workers_alive(pool), 4);
    check_invariants();
}
END_TEST

static const struct { enum err_code rc; enum job_state state; } ends[] = {
    { ERR_INVALID, JOB_FAILED }, { ERR_DIVERGED, JOB_FAILED }, { ERR_NOMEM, JOB_FAILED }, { ERR_IO, JOB_FAILED }, { ERR_INTERNAL, JOB_FAILED },
    { ERR_NO_SPACE, JOB_QUEUED },
};

START_TEST(an_error_ends_the_job_or_puts_it_back)
{
    struct job_row j = make_job(0), got = { 0 };
    char code[64];

    next_rc = ends[_i].rc;
    start(1, run_error);
    while (atomic_load(&n_runs) == 0)
        sleep_ms(1);
    wait_state(j.id, ends[_i].state);
    OK(store_job_get(st, TENANT_DEFAULT, j.id, &got, &err));
    ck_assert_int_eq(got.attempt, ends[_i].state == JOB_FAILED);
    if (ends[_i].state == JOB_FAILED) {
        json_t *error = json_loads(got.error, 0, NULL);

        snprintf(code, sizeof code, "%s", json_string_value(json_object_get(error, "code")));
        ck_assert_str_eq(code, err_slug(ends[_i].rc));
        ck_assert_str_eq(json_string_value(json_object_get(error, "message")), "/train/labels: it \"went\" wrong");
        json_decref(error);
    }
    job_row_clear(&got);
    sleep_ms(50);
    ck_assert_int_eq(atomic_load(&n_runs), 1); /* a full disk: a pause first */
    check_invariants();
}
END_TEST

START_TEST(cancel_stops_within_a_second)
{
    struct job_row j = make_job(0);
    enum job_state now;
    int64_t begun;

    start(2, run_until_stopped);
    wait_state(j.id, JOB_RUNNING);
    begun = clock_mono_ms();
    OK(store_job_cancel(st, TENANT_DEFAULT, j.id, 5, &now, &err));
    if (_i == 0)
        workers_cancel(pool, j.id); /* else the heartbeat sees it */
    wait_state(j.id, JOB_CANCELLED);
    ck_assert_int_lt(clock_mono_ms() - begun, _i == 0 ? 1000 : 3000);
    check_invariants();
}
END_TEST

START_TEST(stop_puts_running_jobs_back)
{
    struct job_row a = make_job(0), b = make_job(0), waiting = make_job(-1), got = { 0 };
    enum job_state now;
    int64_t begun;

    start(2, run_until_stopped);
    wait_state(a.id, JOB_RUNNING);
    wait_state(b.id, JOB_RUNNING);
    begun = clock_mono_ms();
    OK(store_job_cancel(st, TENANT_DEFAULT, b.id, 5, &now, &err)); /* nobody told the worker: the table of states does */
    workers_free(pool);
    pool = NULL;
    ck_assert_int_lt(clock_mono_ms() - begun, 2000);
    ck_assert_int_eq(state_now(b.id), JOB_CANCELLED);
    ck_assert_int_eq(state_now(waiting.id), JOB_QUEUED);
    OK(store_job_get(st, TENANT_DEFAULT, a.id, &got, &err));
    ck_assert(got.state == JOB_QUEUED && got.attempt == 0);
    job_row_clear(&got);
    check_invariants();
}
END_TEST

START_TEST(a_lost_lease_publishes_nothing)
{
    struct job_row j = make_job(0), other;
    int requeued;

    start(1, run_blindly);
    wait_state(j.id, JOB_RUNNING);
    OK(store_jobs_recover(st, 5, 10, &requeued, &err));
    other = claim_job();
    ck_assert_str_eq(other.id, j.id);
    atomic_store(&let_go, true);
    sleep_ms(100);
    ck_assert_int_eq(state_now(j.id), JOB_RUNNING); /* the other's */
    OK(store_job_finish(st, j.id, other.lease_token, 6, JOB_SUCCEEDED, "{\"by\":\"other\"}", NULL, NULL, &err));
    job_row_clear(&other);
    check_invariants();
}
END_TEST

START_TEST(a_lease_that_is_not_renewed_fences_itself)
{
    struct lease l = { .store = st };

    atomic_store(&l.renewed, clock_mono_ms());
    ck_assert(!lease_must_stop(&l));
    atomic_store(&l.renewed, clock_mono_ms() - FENCE_MS - 1);
    ck_assert(lease_must_stop(&l));
    ck_assert(atomic_load(&l.lost));
    atomic_store(&l.renewed, clock_mono_ms()); /* what was lost stays lost */
    ck_assert(lease_must_stop(&l));
}
END_TEST

START_TEST(renewals_record_progress)
{
    struct job_row j = (make_job(0), claim_job()), got = { 0 };
    struct lease l = { .store = st, .token = j.lease_token };
    json_t *p;

    snprintf(l.id, sizeof l.id, "%s", j.id);
    pthread_mutex_init(&l.progress_lock, NULL);
    OK(lease_renew(&l, &err)); /* nothing to tell yet */
    l.started = clock_mono_ms() - 1000;
    l.started_fraction = 0.25;
    l.progress = (struct job_progress){ .iteration = 2, .iterations = 10, .epoch = 1, .epochs = 3, .fraction = 0.5, .loss = NAN };
    snprintf(l.phase, sizeof l.phase, "retrain");
    OK(lease_renew(&l, &err));
    OK(store_job_get(st, TENANT_DEFAULT, j.id, &got, &err));
    p = json_loads(got.progress, 0, NULL);
    ck_assert_str_eq(json_string_value(json_object_get(p, "phase")), "retrain");
    ck_assert_int_eq(json_integer_value(json_object_get(p, "iteration")), 2);
    ck_assert_int_eq(json_integer_value(json_object_get(p, "epochs")), 3);
    ck_assert(json_number_value(json_object_get(p, "fraction")) == 0.5);
    ck_assert(json_is_null(json_object_get(p, "loss")));
    ck_assert_double_eq_tol(json_number_value(json_object_get(p, "eta_seconds")), 2, 0.5);
    json_decref(p);
    job_row_clear(&got);
    l.token++;
    ck_assert_int_eq(lease_renew(&l, &err), ERR_CONFLICT);
    ck_assert(atomic_load(&l.lost));
    pthread_mutex_destroy(&l.progress_lock);
    job_row_clear(&j);
}
END_TEST

/* Training took 10 s for half of the job; an iteration, then, 2 s for a tenth: the 0.4 that are left take 8 s, whatever training took. */
START_TEST(the_time_left_is_that_of_iterations)
{
    static const struct { int64_t at_ms, iteration; double fraction, pace; } laps[] = {
        { 1000, 0, 0, 0 }, { 11000, 0, 0.49, 0 }, { 11000, 1, 0.5, 0 }, { 12000, 1, 0.55, 0 }, { 13000, 2, 0.6, 20 }, { 13500, 2, 0.65, 20 },
        { 14000, 3, 0.7, 10 }, { 14500, 3, 0.7, 10 },
    };
    struct lease l = { .store = NULL };

    for (size_t i = 0; i < sizeof laps / sizeof laps[0]; i++) {
        lease_lap(&l, &(struct job_progress){ .iteration = laps[i].iteration, .fraction = laps[i].fraction }, laps[i].at_ms);
        ck_assert_double_eq_tol(l.pace, laps[i].pace, 1e-9);
    }
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "worker");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, every_job_runs_once);
    tcase_add_test(tc, the_time_left_is_that_of_iterations);
    tcase_add_loop_test(tc, an_error_ends_the_job_or_puts_it_back, 0, sizeof ends / sizeof ends[0]);
    tcase_add_loop_test(tc, cancel_stops_within_a_second, 0, 2);
    tcase_add_test(tc, stop_puts_running_jobs_back);
    tcase_add_test(tc, a_lost_lease_publishes_nothing);
    tcase_add_test(tc, a_lease_that_is_not_renewed_fences_itself);
    tcase_add_test(tc, renewals_record_progress);
}
SUITE_MAIN("worker", cases)
