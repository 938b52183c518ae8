/* Training that was interrupted: whatever the mini-batch, saving there and going on from the file in a fresh process state ends with the
 * bytes of an undisturbed run, for every optimizer row; checkpoints of something else are refused. */
#include "tests/core/train_fixture.h"

enum { SAMPLES = 70 }; /* 56 to train on: with batch 12 five steps an epoch, the last of 8 samples */

struct story {
    struct fixture *f;
    char path[60];
    long steps, save_at; /* 0: never */
    bool saved;
    int epochs;
    double loss[20], validation[20];
};

static bool saved_already(void *user)
{
    return ((struct story *)user)->saved;
}

static bool due(void *user)
{
    struct story *s = user;

    return ++s->steps == s->save_at;
}

static enum err_code save(void *user, struct err *e)
{
    struct story *s = user;

    s->saved = true;
    return save_to(s->path, s->f, e);
}

static void note_epoch(void *user, int64_t epoch, double loss, const struct metrics *validation)
{
    struct story *s = user;

    s->epochs = (int)epoch;
    s->loss[epoch] = loss;
    s->validation[epoch] = validation ? validation->value[METRIC_LOSS] : 0;
}

static const struct train_hooks hooks = { .stop = saved_already, .checkpoint_due = due, .save = save, .epoch = note_epoch };

static enum err_code tell(struct story *s)
{
    struct train_hooks h = hooks;

    h.user = s;
    return trainer_run(s->f->trainer, &h, NULL);
}

static struct story begin(const char *conf, long save_at)
{
    struct story s = { .f = open_fixture(conf, SAMPLES, 8, true, 1), .save_at = save_at };

    snprintf(s.path, sizeof s.path, "resume-%d.safetensors", (int)getpid());
    return s;
}

static void check_interrupted(const char *conf, long at, const struct story *whole)
{
    struct story first = begin(conf, at), second = begin(conf, 0);
    enum err_code rc = tell(&first);

    /* the last step of all may end the phase before it is asked to stop again */
    ck_assert_msg(rc == ERR_STOPPED || (rc == ERR_OK && at == whole->steps), "%s at %ld: %d", conf, at, rc);
    ck_assert_int_eq(load_from(first.path, second.f, NULL), ERR_OK);
    memset(second.loss, 0, sizeof second.loss);
    ck_assert_int_eq(tell(&second), ERR_OK);
    ck_assert_int_eq(second.epochs, whole->epochs);
    for (int i = 1; i <= whole->epochs; i++)
        if (second.loss[i] != 0)
            ck_assert(second.loss[i] == whole->loss[i] && second.validation[i] == whole->validation[i]);
    same_weights(second.f->net, whole->f->net, conf);
    ck_assert_int_eq(file_remove(first.path, NULL), ERR_OK);
    close_fixture(first.f);
    close_fixture(second.f);
}

static void check_every_step(const char *conf)
{
    struct story whole = begin(conf, 0);

    ck_assert_int_eq(tell(&whole), ERR_OK);
    ck_assert_int_gt(whole.steps, 2);
    for (long at = 1; at <= whole.steps; at++)
        check_interrupted(conf, at, &whole);
    close_fixture(whole.f);
}

START_TEST(goes_on_from_any_step)
{
    char conf[400];

    fixture_sparse = _i % 2;
    check_every_step(optimizer_conf(conf, sizeof conf, _i / 2, 0.05, 0.01, ", 'epochs': 3, 'batch_size': 12, "
                                    "'learning_rate_schedule': {'type': 'cosine', 'warm_up_epochs': 0.6}"));
}
END_TEST

static const char stopping[] = "{'optimizer': {'type': 'adam', 'learning_rate': 0.3}, 'batch_size': 12, 'epochs': 15, 'clip_norm': 0.5, "
                               "'clip_weights': 2, 'early_stopping': {'patience': 2}}";

START_TEST(goes_on_with_early_stopping) /* that does stop early, and restores */
{
    fixture_sparse = _i;
    check_every_step(stopping);
}
END_TEST

START_TEST(goes_on_with_augmentation)
{
    fixture_sparse = _i;
    check_every_step("{'batch_size': 12, 'epochs': 3, 'augment': {'flip': 'both', 'shift': 1, 'cutout': 1}}");
}
END_TEST

START_TEST(an_early_stop_happens) /* in the run above: else it would show nothing */
{
    struct story s = begin(stopping, 0);
    int best = 1;

    ck_assert_int_eq(tell(&s), ERR_OK);
    for (int i = 2; i <= s.epochs; i++)
        best = s.validation[i] < s.validation[best] ? i : best;
    ck_assert_int_lt(s.epochs, 15);
    ck_assert_int_eq(s.epochs, best + 2);
    ck_assert_int_gt(best, 1);
    close_fixture(s.f);
}
END_TEST

START_TEST(a_finished_phase_stays_finished)
{
    struct story s = begin("{'epochs': 1}", 0), again = begin("{'epochs': 1}", 0);

    ck_assert_int_eq(tell(&s), ERR_OK);
    ck_assert_int_eq(save_to(s.path, s.f, NULL), ERR_OK);
    ck_assert_int_eq(load_from(s.path, again.f, NULL), ERR_OK);
    ck_assert_int_eq(tell(&again), ERR_OK);
    ck_assert_int_eq(again.steps, 0);
    same_weights(s.f->net, again.f->net, "finished");
    ck_assert_int_eq(file_remove(s.path, NULL), ERR_OK);
    close_fixture(s.f);
    close_fixture(again.f);
}
END_TEST

START_TEST(what_save_returns_ends_the_run)
{
    struct story s = begin("{'epochs': 3, 'batch_size': 12}", 4);

    file_fail_in = 1;
    ck_assert_int_eq(tell(&s), ERR_NO_SPACE);
    file_fail_in = 0;
    ck_assert_int_eq(s.steps, 4);
    close_fixture(s.f);
}
END_TEST

/* ---- what is refused ---- */

enum { N_METAS = 8 };

START_TEST(refuses_another_position)
{
    static const char *const metas[N_METAS] = {
        "{}", "{\"train\": 1}", "{\"train\": {}}",
        "{\"train\": {\"epoch\": -1, \"batch\": 0, \"loss_sum\": 0.0, \"finished\": false, \"has_best\": false, \"best\": 0.0, \"wait\": 0}}",
        "{\"train\": {\"epoch\": 3, \"batch\": 0, \"loss_sum\": 0.0, \"finished\": false, \"has_best\": false, \"best\": 0.0, \"wait\": 0}}",
        "{\"train\": {\"epoch\": 0, \"batch\": 6, \"loss_sum\": 0.0, \"finished\": false, \"has_best\": false, \"best\": 0.0, \"wait\": 0}}",
        "{\"train\": {\"epoch\": 0, \"batch\": 0, \"loss_sum\": \"0\", \"finished\": false, \"has_best\": false, \"best\": 0.0, \"wait\": 0}}",
        "{\"train\": {\"epoch\": 0, \"batch\": 0, \"loss_sum\": 0.0, \"finished\": false, \"has_best\": false, \"best\": 0.0, \"wait\": -1}}",
    };
    struct story s = begin("{'epochs': 3, 'batch_size': 12}", 0);
    struct st_file nothing = { 0 };
    struct err e = { 0 };
    json_t *meta = json_loads(metas[_i], 0, NULL);

    ck_assert_int_eq(trainer_load(s.f->trainer, &nothing, meta, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, "/train");
    json_decref(meta);
    close_fixture(s.f);
}
END_TEST

START_TEST(refuses_slots_of_another_mask)
{
    struct story dense = begin("{'epochs': 3, 'batch_size': 12}", 2), sparse;
    struct err e = { 0 };

    ck_assert_int_eq(tell(&dense), ERR_STOPPED);
    fixture_sparse = true;
    sparse = begin("{'epochs': 3, 'batch_size': 12}", 0);
    ck_assert_int_eq(load_from(dense.path, sparse.f, &e), ERR_INVALID);
    ck_assert_msg(strstr(e.msg, "train/slot0/dense/kernel") != NULL, "%s", e.msg);
    ck_assert_int_eq(file_remove(dense.path, NULL), ERR_OK);
    close_fixture(dense.f);
    close_fixture(sparse.f);
}
END_TEST

START_TEST(refuses_other_arrays) /* sgd has no second slot */
{
    struct story sgd = begin("{'epochs': 3, 'batch_size': 12, 'optimizer': 'sgd'}", 2), adam = begin("{'epochs': 3, 'batch_size': 12}", 0);
    struct err e = { 0 };

    ck_assert_int_eq(tell(&sgd), ERR_STOPPED);
    ck_assert_int_eq(load_from(sgd.path, adam.f, &e), ERR_INVALID);
    ck_assert_msg(strstr(e.msg, "train/slot1/dense/kernel") != NULL, "%s", e.msg);
    ck_assert_int_eq(file_remove(sgd.path, NULL), ERR_OK);
    close_fixture(sgd.f);
    close_fixture(adam.f);
}
END_TEST

START_TEST(saving_survives_every_failing_allocation)
{
    struct story s = begin("{'epochs': 2, 'early_stopping': {'patience': 5}}", 0);
    bool fired = true;

    ck_assert_int_eq(tell(&s), ERR_OK);
    json_set_alloc_funcs(mem_alloc, mem_free);
    for (long k = 1; fired; k++) {
        mem_fail_in = k;
        enum err_code rc = save_to(s.path, s.f, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_msg(rc == (fired ? ERR_NOMEM : ERR_OK), "allocation %ld: %d", k, rc);
    }
    ck_assert_int_eq(file_remove(s.path, NULL), ERR_OK);
    close_fixture(s.f);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "resume");

    tcase_add_loop_test(tc, goes_on_from_any_step, 0, 2 * n_optimizers());
    tcase_add_loop_test(tc, goes_on_with_early_stopping, 0, 2);
    tcase_add_loop_test(tc, goes_on_with_augmentation, 0, 2);
    tcase_add_test(tc, an_early_stop_happens);
    tcase_add_test(tc, a_finished_phase_stays_finished);
    tcase_add_test(tc, what_save_returns_ends_the_run);
    tc = suite_case(s, "refusals");
    tcase_add_loop_test(tc, refuses_another_position, 0, N_METAS);
    tcase_add_test(tc, refuses_slots_of_another_mask);
    tcase_add_test(tc, refuses_other_arrays);
    tcase_add_test(tc, saving_survives_every_failing_allocation);
}
SUITE_MAIN("train_resume", cases)
