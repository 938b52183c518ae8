/* Nothing that may happen to a job (threads, stops at any point, crashes at any commit, short memory, a full disk) changes what comes out. */
#include "tests/core/job_fixture.h"

/* ---- the same bytes ---- */

START_TEST(any_number_of_threads)
{
    static struct table t;
    struct caller c[3];

    trainer_small_step = 0;
    table_init(&t, 300, 0, 100, false);
    for (int i = 0; i < 3; i++) {
        caller_init(&c[i], &t, plain);
        run_through(&c[i], 1 << i);
        same_history(&c[0], &c[i], "threads");
    }
    for (int i = 0; i < 3; i++)
        caller_clear(&c[i]);
}
END_TEST

static const char *const resumed[] = {
    "{" TRAIN ", \"prune\": {\"iterations\": 4, \"target_sparsity\": 0.9}, \"stop\": {\"max_drop\": 0.05, \"continue_on_breach\": true}}",
    "{\"train\": {\"epochs\": 3, \"batch_size\": 50, \"clip_norm\": 1, \"early_stopping\": {\"patience\": 1},"
    "\"optimizer\": {\"type\": \"sgd\", \"learning_rate\": 0.1, \"momentum\": 0.9}, \"learning_rate_schedule\": \"cosine\"},"
    "\"retrain\": {\"epochs\": 3}, \"prune\": {\"criterion\": \"random\", \"scope\": \"layer\", \"iterations\": 3, \"schedule\": \"exponential\"}}",
    "{" TRAIN ", \"prune\": {\"iterations\": 7, \"schedule\": {\"type\": \"adaptive\", \"initial_step\": 0.4, \"patience\": 1}},"
    "\"stop\": {\"max_drop\": 0.02}}",
    "{\"train\": {\"epochs\": 3, \"batch_size\": 50, \"learning_rate_schedule\": \"cosine\"},"
    "\"prune\": {\"iterations\": 2, \"rewind\": {\"type\": \"epoch\", \"epoch\": 1}}}",
    "{\"train\": {\"epochs\": 2}, \"prune\": {\"iterations\": 2, \"rewind\": \"random\"}}",
    "{" TRAIN ", \"prune\": {\"iterations\": 2, \"target_sparsity\": 0.7}, \"export\": {\"shrink\": true, \"quantize\": true, \"pack\": true}}",
    "{" TRAIN ", \"prune\": {\"iterations\": 2, \"regrow\": {\"type\": \"rigl\", \"interval\": 3, \"until\": 1}}}",
    "{" TRAIN ", \"prune\": {\"iterations\": 2, \"criterion\": \"movement\", \"regrow\": {\"type\": \"surgery\", \"gamma\": 0.01, \"until\": 1}},"
    "\"controls\": {\"random\": true}}",
    "{" TRAIN ", \"prune\": {\"iterations\": 2, \"criterion\": \"movement\", \"target_sparsity\": 0.9}}",
    "{\"train\": {\"epochs\": 1}, \"prune\": {\"iterations\": 2, \"criterion\": \"sparsegpt\", \"unit\": \"n:m\"}}",
    "{" TRAIN ", \"prune\": {\"iterations\": 2, \"rewind\": \"initial\"}, \"controls\": {\"random\": true, \"small_dense\": {\"match\": \"macs\"}}}",
    "{" TRAIN ", \"prune\": {\"iterations\": 6, \"schedule\": {\"type\": \"adaptive\", \"initial_step\": 0.4}}, \"stop\": {\"max_drop\": 0.02},"
    "\"controls\": {\"random\": true}}",
    "{" TRAIN ", \"prune\": {\"iterations\": 6, \"criterion\": \"movement\", \"regrow\": {\"type\": \"surgery\", \"until\": 1},"
    "\"schedule\": {\"type\": \"adaptive\", \"initial_step\": 0.4}}, \"stop\": {\"max_drop\": 0.01}}",
    "{\"train\": {\"epochs\": 2}, \"retrain\": {\"optimizer\": {\"type\": \"sgd\", \"learning_rate\": 1e6}}, \"prune\": {\"iterations\": 6," /* each diverges */
    "\"schedule\": \"adaptive\"}, \"stop\": {\"max_drop\": 0.5}}",
};

START_TEST(crash_at_every_commit)
{
    static struct table t;
    struct caller whole, c;
    int n_commits;

    table_init(&t, 200, 0, 50, false);
    caller_init(&whole, &t, resumed[_i]);
    run_through(&whole, 1);
    n_commits = whole.n_commits;
    ck_assert_int_eq(n_commits, whole.n_events);
    for (int at = 1; at <= n_commits; at++) {
        caller_init(&c, &t, resumed[_i]);
        c.crash_at = at;
        ck_assert_int_eq(run(&c, 1, NULL), ERR_IO);
        c.crash_at = 0;
        run_through(&c, 2);
        same_history(&whole, &c, "crash");
        caller_clear(&c);
    }
    caller_clear(&whole);
}
END_TEST

enum { ROUNDS = 9 };

START_TEST(stops_at_random_points)
{
    static struct table t;
    struct caller whole, c;
    long calls;
    int checkpoints = 0;

    table_init(&t, 200, 0, 50, false);
    caller_init(&whole, &t, resumed[_i]);
    run_through(&whole, 1);
    calls = whole.stop_calls;
    for (int round = 0; round < ROUNDS; round++) {
        struct rng r = { 8, RNG_TEST, (uint32_t)_i, (uint64_t)round };
        enum err_code rc = ERR_STOPPED;

        caller_init(&c, &t, resumed[_i]);
        c.checkpoint_seconds = round % 3 == 0 ? 1e-9 : 1e-3;
        for (uint64_t attempt = 0; rc == ERR_STOPPED; attempt++) {
            c.stop_at = attempt < 5 ? 1 + (long)rng_below(&r, attempt, (uint64_t)calls / (1 + attempt % 2 * 4)) : 0;
            rc = run(&c, 1 + round % 2, NULL);
            ck_assert_int_eq(files(&c, ".tmp", false), 0);
        }
        ck_assert_int_eq(rc, ERR_OK);
        same_history(&whole, &c, "stops");
        checkpoints += c.n_checkpoints;
        caller_clear(&c);
    }
    ck_assert_int_gt(checkpoints, ROUNDS * whole.n_events);
    caller_clear(&whole);
}
END_TEST

START_TEST(stops_at_once)
{
    static struct table t;
    struct caller c;
    struct err e = { 0 };

    table_init(&t, 200, 0, 50, false);
    for (long at = 1; at < 40; at += 3) {
        caller_init(&c, &t, plain);
        c.stop_at = at;
        ck_assert_int_eq(run(&c, 1, &e), ERR_STOPPED);
        ck_assert_int_eq(c.stop_calls, at); /* asked once more by nobody */
        caller_clear(&c);
    }
}
END_TEST

/* ---- what goes wrong ---- */

static const char finished[] = "{\"train\": {\"epochs\": 1, \"batch_size\": 16}, \"retrain\": {\"epochs\": 1}, \"prune\": {\"iterations\": 1},"
                               "\"export\": {\"shrink\": true, \"quantize\": {\"activations\": \"max\"}, \"pack\": true}}";
static const char tiny[] = "{\"train\": {\"epochs\": 1, \"batch_size\": 16}, \"retrain\": {\"epochs\": 1}, \"prune\": {\"iterations\": 1}}";

START_TEST(a_checkpoint_of_another_model)
{
    static struct table t, other;
    struct caller c;
    struct err e = { 0 };

    table_init(&t, 40, 10, 0, false);
    table_init(&other, 40, 10, 0, true);
    caller_init(&c, &t, tiny);
    c.crash_at = 2;
    ck_assert_int_eq(run(&c, 1, NULL), ERR_IO);
    ck_assert_int_eq(truncate(c.checkpoint, 1000), 0);
    ck_assert_int_ne(run(&c, 1, &e), ERR_OK);
    ck_assert(*e.msg);
    ck_assert_int_eq(file_write(c.checkpoint, "", 0, NULL), ERR_OK);
    ck_assert_int_ne(run(&c, 1, &e), ERR_OK);
    unlink(c.checkpoint);
    ck_assert_int_eq(run(&c, 1, &e), ERR_NOT_FOUND);
    caller_clear(&c);
}
END_TEST

/* Thousands of runs: a part of them will do. */
#ifdef ESPALIER_SANITIZE
enum { WALK = 11 };
#else
enum { WALK = 3 };
#endif

static const char *const tinies[] = { tiny, finished };

START_TEST(every_allocation_fails_once)
{
    static struct table t;
    struct caller c;
    bool fired = true;

    table_init(&t, 24, 8, 8, false);
    json_set_alloc_funcs(mem_alloc, mem_free);
    for (long k = 1; fired; k += _i ? 41 * WALK : WALK) {
        struct job_hooks hooks = { on_stop, on_progress, on_new_file, on_commit, 1000, &c };
        struct model model = make_model(false);
        struct err e = { 0 };
        enum err_code rc;

        net_init(model.net, 1);
        caller_init(&c, &t, tinies[_i]);
        mem_fail_in = k;
        rc = job_run(&c.conf, &model, &t.d, NULL, 1, &hooks, &e);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_msg(rc == (fired ? ERR_NOMEM : ERR_OK), "allocation %ld: %s %s", k, err_slug(rc), e.msg);
        ck_assert_int_eq(files(&c, ".tmp", false), 0);
        model_clear(&model);
        caller_clear(&c);
    }
}
END_TEST

START_TEST(every_write_fails_once)
{
    static struct table t;
    struct caller whole, c;
    bool fired = true;

    table_init(&t, 24, 8, 8, false);
    caller_init(&whole, &t, tiny);
    run_through(&whole, 1);
    for (long k = 1; fired; k++) {
        enum err_code rc;

        caller_init(&c, &t, tiny);
        file_fail_in = k;
        rc = run(&c, 1, NULL);
        fired = file_fail_in == 0;
        file_fail_in = 0;
        ck_assert_int_eq(rc, fired ? ERR_NO_SPACE : ERR_OK);
        ck_assert_int_eq(files(&c, ".tmp", false), 0);
        if (fired)
            run_through(&c, 1); /* when there is room again */
        same_history(&whole, &c, "full disk");
        caller_clear(&c);
    }
    caller_clear(&whole);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "job_resume");

    tcase_add_test(tc, any_number_of_threads);
    tcase_add_loop_test(tc, crash_at_every_commit, 0, sizeof resumed / sizeof resumed[0]);
    tcase_add_loop_test(tc, stops_at_random_points, 0, sizeof resumed / sizeof resumed[0]);
    tcase_add_test(tc, stops_at_once);
    tcase_add_test(tc, a_checkpoint_of_another_model);
    tcase_add_loop_test(tc, every_allocation_fails_once, 0, 2);
    tcase_add_test(tc, every_write_fails_once);
}
SUITE_MAIN("job_resume", cases)
