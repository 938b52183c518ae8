/* Training: every optimizer row gives the same bytes on any number of threads, keeps masked weights at zero and clipped ones in bounds;
 * early stopping, divergence, stop flag, failing memory. Going on from a checkpoint: test_train_resume.c. */
#include "tests/core/train_fixture.h"

enum { SAMPLES = 70 }; /* 56 to train on */

START_TEST(defaults)
{
    struct train_conf c;
    struct err e = { 0 };

    ck_assert_msg(params_check(train_params, &e) == ERR_OK, "%s", e.msg);
    ck_assert_int_eq(params_parse(&c, sizeof c, train_params, NULL, NULL), ERR_OK);
    ck_assert(c.epochs == 10 && c.batch_size == 128 && strcmp(c.optimizer.plug->name, "adam") == 0);
    ck_assert(((const struct optim_conf_head *)(const void *)c.optimizer.conf)->learning_rate == 1e-3);
    ck_assert(isnan(c.clip_norm) && isnan(c.clip_value) && isnan(c.clip_weights) && c.early_stopping.patience == 0);
}
END_TEST

struct log { int epochs; double train[20], validation[20]; struct fixture *f; long asked, stop_at, steps; };

static void log_epoch(void *user, int64_t epoch, double loss, const struct metrics *validation)
{
    struct log *l = user;

    ck_assert_int_eq(epoch, ++l->epochs);
    l->train[epoch] = loss;
    l->validation[epoch] = validation ? validation->value[METRIC_LOSS] : NAN;
}

static bool count_asks(void *user)
{
    struct log *l = user;

    return ++l->asked == l->stop_at;
}

START_TEST(learns)
{
    char conf[300];
    struct fixture *f = open_fixture(optimizer_conf(conf, sizeof conf, _i, 0.02, 0, ", 'epochs': 19, 'batch_size': 8"), SAMPLES, 8, false, 1);
    struct log l = { 0 };

    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ .epoch = log_epoch, .user = &l }, NULL), ERR_OK);
    ck_assert_int_eq(l.epochs, 19);
    ck_assert_msg(l.train[19] < 0.97 * l.train[1], "%g -> %g", l.train[1], l.train[19]);
    ck_assert(f->net->trained);
    close_fixture(f);
}
END_TEST

static bool after_two_epochs(void *user)
{
    return ((struct log *)user)->epochs == 2;
}

/* Left-out epochs: learning rate, order and draws are those of an undisturbed training. */
START_TEST(starts_at_an_epoch)
{
    static const char conf[] = "{'optimizer': 'sgd', 'epochs': 4, 'batch_size': 12, 'learning_rate_schedule': 'cosine'}";
    struct fixture *whole = open_fixture(conf, SAMPLES, 8, true, 1), *f = open_fixture(conf, SAMPLES, 8, true, 1);
    struct trainer_in in = inputs(f);
    struct log l = { 0 };

    ck_assert_int_eq(trainer_run(whole->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK);
    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ .stop = after_two_epochs, .epoch = log_epoch, .user = &l }, NULL), ERR_STOPPED);
    trainer_free(f->trainer);
    in.first_epoch = 2;
    ck_assert_int_eq(trainer_new(&f->trainer, &in, NULL), ERR_OK);
    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK);
    same_weights(whole->net, f->net, conf);
    close_fixture(whole);
    close_fixture(f);
}
END_TEST

START_TEST(an_epoch_sees_every_sample_once) /* at rate 0 its loss is that of the training set */
{
    struct fixture *f = open_fixture("{'optimizer': {'type': 'sgd', 'learning_rate': 0}, 'epochs': 3, 'batch_size': 12}", SAMPLES, 8, false, 2);
    struct exec *x;
    struct metrics m = { 0 };
    struct log l = { 0 };

    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ .epoch = log_epoch, .user = &l }, NULL), ERR_OK);
    ck_assert_int_eq(exec_new(&x, f->net, 64, EXEC_INFER, 0, NULL, NULL), ERR_OK);
    ck_assert_int_eq(metrics_evaluate(&m, x, f->net, &f->loss, &f->views.train, NULL, NULL, NULL, NULL), ERR_OK);
    for (int i = 1; i <= 3; i++)
        ck_assert_double_eq_tol(l.train[i], m.value[METRIC_LOSS], 1e-6);
    metrics_clear(&m);
    exec_free(x);
    close_fixture(f);
}
END_TEST

START_TEST(every_step_and_phase_drops_others) /* at rate 0 a full batch differs from epoch to epoch by its dropout alone */
{
    static const char conf[] = "{'optimizer': {'type': 'gradient_descent', 'learning_rate': 0}, 'epochs': 2}";
    struct fixture *f = open_fixture(conf, MAX_SAMPLES, 8, true, 1);
    struct log first = { 0 }, second = { 0 };
    struct trainer_in in = inputs(f);
    struct trainer *t;

    in.phase++;
    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ .epoch = log_epoch, .user = &first }, NULL), ERR_OK);
    ck_assert_int_eq(trainer_new(&t, &in, NULL), ERR_OK);
    ck_assert_int_eq(trainer_run(t, &(struct train_hooks){ .epoch = log_epoch, .user = &second }, NULL), ERR_OK);
    ck_assert(first.train[1] != first.train[2] && first.train[1] != second.train[1] && first.train[2] != second.train[1]);
    trainer_free(t);
    close_fixture(f);
}
END_TEST

/* 16,800 numbers in the first kernel: two ranges, several tiles of the gradient. */
START_TEST(threads_do_not_change_bytes)
{
    static const char *const rest[] = { ", 'epochs': 2, 'batch_size': 12", ", 'epochs': 2, 'batch_size': 12, 'clip_norm': 0.05" };
    char conf[300];

    fixture_sparse = _i / 2 % 2;
    optimizer_conf(conf, sizeof conf, _i / 4, 0.01, 0.01, rest[_i % 2]);
    struct fixture *one = open_fixture(conf, SAMPLES, 4200, true, 1);
    ck_assert_int_eq(trainer_run(one->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK);
    for (int threads = 2; threads <= 4; threads += 2) {
        struct fixture *many = open_fixture(conf, SAMPLES, 4200, true, threads);

        ck_assert_int_eq(trainer_run(many->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK);
        same_weights(one->net, many->net, conf);
        close_fixture(many);
    }
    close_fixture(one);
}
END_TEST

START_TEST(augmentation_is_drawn_anew) /* each epoch and phase, the same for any number of threads; and off it changes nothing */
{
    static const char *const confs[] = { "{'batch_size': 12, 'epochs': 2}", "{'batch_size': 12, 'epochs': 2, 'augment': {'flip': 'none'}}",
                                         "{'batch_size': 12, 'epochs': 2, 'augment': {'flip': 'horizontal', 'cutout': 1}}" };
    struct fixture *f[4];

    for (int i = 0; i < 4; i++) {
        f[i] = open_fixture(confs[i < 3 ? i : 2], SAMPLES, 8, false, i < 3 ? 1 : 3);
        ck_assert_int_eq(trainer_run(f[i]->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK);
    }
    same_weights(f[0]->net, f[1]->net, "off");
    same_weights(f[2]->net, f[3]->net, "threads");
    ck_assert(memcmp(net_weight(f[0]->net, "out/bias")->x, net_weight(f[2]->net, "out/bias")->x, CLASSES * sizeof(float)) != 0);
    for (int i = 0; i < 4; i++)
        close_fixture(f[i]);
}
END_TEST

/* ---- after every step ---- */

static void check_masks_and_bounds(void *user, const struct train_progress *p)
{
    struct log *l = user;
    struct net *net = l->f->net;

    net_sync(net);
    ck_assert(p->fraction > 0 && p->fraction <= 1 && p->epoch >= 1 && p->epoch <= p->epochs && isfinite(p->loss));
    l->steps++;
    for (int w = 0; w < net->n_weights; w++)
        for (size_t i = 0; i < net->weight[w].len; i++) {
            if (net->weight[w].mask && !net->weight[w].mask[i])
                ck_assert(net->weight[w].x[i] == 0);
            if (net->weight[w].info.prunable && !isnan(l->f->conf.clip_weights))
                ck_assert(fabsf(net->weight[w].x[i]) <= (float)l->f->conf.clip_weights);
        }
}

static void check_masked_slots(struct fixture *f)
{
    char path[60];
    struct file_map map;
    struct st_file st;
    int seen = 0;

    snprintf(path, sizeof path, "slots-%d.safetensors", (int)getpid());
    ck_assert_int_eq(save_to(path, f, NULL), ERR_OK);
    ck_assert_int_eq(file_map_open(&map, path, NULL), ERR_OK);
    ck_assert_int_eq(st_parse(&st, map.data, map.len, NULL), ERR_OK);
    for (int i = 0; i < st.n; i++) {
        const char *name = strncmp(st.array[i].name, "train/slot", 10) == 0 ? st.array[i].name + 12 : NULL;
        const struct weight *weight = name ? net_weight(f->net, name) : NULL;
        float x;

        if (weight && weight->sparse)
            seen += st.array[i].shape.n_d == 1 && st.array[i].bytes == 4 * weight->sparse->n;
        for (size_t j = 0; weight && weight->mask && !weight->sparse && j < weight->len; j++, seen++) {
            memcpy(&x, (const char *)st.array[i].data + j * sizeof x, sizeof x);
            ck_assert(weight->mask[j] || x == 0);
        }
    }
    ck_assert_int_eq(seen > 0, ((const struct optimizer *)(const void *)f->conf.optimizer.plug)->n_slots > 0);
    st_file_free(&st);
    file_map_close(&map);
    ck_assert_int_eq(file_remove(path, NULL), ERR_OK);
}

static const char *const clippings[] = {
    "", ", 'clip_weights': 0.2", ", 'clip_norm': 0.1, 'clip_weights': 0.3", ", 'clip_value': 0.01", ", 'clip_value': 0.01, 'clip_norm': 0.05"
};
enum { N_CLIPPINGS = sizeof clippings / sizeof clippings[0] };

START_TEST(masks_and_bounds_hold_after_every_step)
{
    char conf[400], rest[200];

    fixture_sparse = _i / N_CLIPPINGS % 2;
    snprintf(rest, sizeof rest, ", 'epochs': 4, 'batch_size': 12%s", clippings[_i % N_CLIPPINGS]);
    struct fixture *f = open_fixture(optimizer_conf(conf, sizeof conf, _i / N_CLIPPINGS / 2, 0.05, 0.1, rest), SAMPLES, 8, true, 2);
    struct log l = { .f = f };
    bool full = ((const struct optimizer *)(const void *)f->conf.optimizer.plug)->full_batch;

    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ .progress = check_masks_and_bounds, .user = &l }, NULL), ERR_OK);
    ck_assert_int_eq(l.steps, full ? 4 : 20);
    check_masked_slots(f);
    close_fixture(f);
}
END_TEST

/* The same training, sums in another order: every number comes out nearly the same. No batch normalisation: the gradient of a bias before it is
 * nothing but rounding, which adam makes large. */
START_TEST(sparse_trains_as_dense)
{
    char conf[400], rest[200];

    fixture_sparse = true;
    snprintf(rest, sizeof rest, ", 'epochs': 2, 'batch_size': 12%s", clippings[_i % N_CLIPPINGS]);
    optimizer_conf(conf, sizeof conf, _i / N_CLIPPINGS, 0.001, 0.1, rest);
    struct fixture *sparse = open_fixture(conf, SAMPLES, 40, false, 1), *dense = open_fixture(conf, SAMPLES, 40, false, 1);
    struct trainer_in in = inputs(dense);

    trainer_free(dense->trainer);
    for (int w = 0; w < dense->net->n_weights; w++) {
        sparse_free(dense->net->weight[w].sparse);
        dense->net->weight[w].sparse = NULL;
    }
    ck_assert_int_eq(trainer_new(&dense->trainer, &in, NULL), ERR_OK);
    ck_assert_int_eq(trainer_run(sparse->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK);
    ck_assert_int_eq(trainer_run(dense->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK);
    for (int w = 0; w < dense->net->n_weights; w++)
        for (size_t i = 0; i < dense->net->weight[w].len; i++)
            if (!(fabsf(dense->net->weight[w].x[i] - sparse->net->weight[w].x[i]) < 2e-4f))
                ck_abort_msg("%s, %s[%zu]: %g, not %g", conf, dense->net->weight[w].name, i, (double)sparse->net->weight[w].x[i],
                             (double)dense->net->weight[w].x[i]);
    close_fixture(sparse);
    close_fixture(dense);
}
END_TEST

/* ---- what one step does, against the whole gradient computed at once ---- */

/* Fills the gradients of a fresh exec for all training samples. */
static struct exec *whole_gradient(struct fixture *f)
{
    int n = f->views.train.n;
    struct exec *x;
    int32_t *label = mem_alloc((size_t)n * sizeof *label);
    double *sample = mem_alloc((size_t)n * sizeof *sample);

    ck_assert_int_eq(exec_new(&x, f->net, n, EXEC_KEEP, 0, NULL, NULL), ERR_OK);
    data_gather(&f->views.train, NULL, 0, n, &(struct data_batch){ exec_input(x), label, NULL }, NULL);
    exec_forward(x, n, true, 0);
    f->loss.loss->run(&(struct loss_call){ .k = CLASSES, .n = n, .z = exec_value(x, f->loss.node), .label = label, .from = f->loss.from,
                                           .weight = 1.0 / n, .dz = exec_grad(x, f->loss.node), .sample = sample });
    exec_backward(x, f->loss.node, false, NULL, NULL);
    mem_free(label);
    mem_free(sample);
    return x;
}

/* clip_value, clip_norm: how the one step of gradient descent at rate 1 should have treated the gradient. */
static void check_step(const char *conf, int samples, double clip_value, double clip_norm)
{
    struct fixture *f = open_fixture(conf, samples, 8, false, 2), *before = open_fixture(conf, samples, 8, false, 1);
    struct exec *x = whole_gradient(before);
    double norm = 0, scale;

    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK);
    for (int pass = 0; pass < 2; pass++)
        for (int w = 0; w < f->net->n_weights; w++)
            for (size_t i = 0; i < f->net->weight[w].len; i++) {
                const uint8_t *mask = f->net->weight[w].mask;
                double g = mask && !mask[i] ? 0 : fmax(fmin((double)exec_dw(x, w)[i], clip_value), -clip_value);

                norm += pass == 0 ? g * g : 0;
                scale = sqrt(norm) > clip_norm ? clip_norm / sqrt(norm) : 1;
                if (pass == 1)
                    ck_assert_double_eq_tol((double)before->net->weight[w].x[i] - (double)f->net->weight[w].x[i], g * scale, 3e-7);
            }
    exec_free(x);
    close_fixture(f);
    close_fixture(before);
}

START_TEST(a_full_batch_is_the_sum_of_its_chunks)
{
    check_step("{'optimizer': {'type': 'gradient_descent', 'learning_rate': 1}, 'epochs': 1}", MAX_SAMPLES, INFINITY, INFINITY);
}
END_TEST

START_TEST(clips_by_value_then_norm)
{
    const char *sgd = "{'optimizer': {'type': 'sgd', 'learning_rate': 1}, 'epochs': 1, 'batch_size': 1000%s}";
    char conf[200];

    snprintf(conf, sizeof conf, sgd, "");
    check_step(conf, SAMPLES, INFINITY, INFINITY);
    snprintf(conf, sizeof conf, sgd, ", 'clip_value': 0.03");
    check_step(conf, SAMPLES, 0.03, INFINITY);
    snprintf(conf, sizeof conf, sgd, ", 'clip_norm': 0.05");
    check_step(conf, SAMPLES, INFINITY, 0.05);
    snprintf(conf, sizeof conf, sgd, ", 'clip_norm': 0.05, 'clip_value': 0.03");
    check_step(conf, SAMPLES, 0.03, 0.05);
    snprintf(conf, sizeof conf, sgd, ", 'clip_norm': 1000");
    check_step(conf, SAMPLES, INFINITY, 1000);
}
END_TEST

/* ---- endings ---- */

START_TEST(early_stopping_keeps_the_best)
{
    static const char *const monitor[] = { "loss", "metric" };
    char conf[300];
    struct log l = { 0 };
    struct exec *x;
    struct metrics m = { 0 };
    int best = 1;

    snprintf(conf, sizeof conf, "{'optimizer': {'type': 'sgd', 'learning_rate': 1.5, 'momentum': 0.9}, 'batch_size': 8, 'epochs': 19, "
             "'early_stopping': {'patience': 2, 'monitor': '%s'}}", monitor[_i]);
    struct fixture *f = open_fixture(conf, SAMPLES, 8, true, 1);
    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ .epoch = log_epoch, .user = &l }, NULL), ERR_OK);
    ck_assert_int_lt(l.epochs, 19);
    for (int i = 2; i <= l.epochs; i++)
        best = l.validation[i] < l.validation[best] ? i : best;
    if (_i == 0) {
        ck_assert_int_eq(l.epochs, best + 2);
        ck_assert_int_eq(exec_new(&x, f->net, 256, EXEC_INFER, 0, NULL, NULL), ERR_OK);
        ck_assert_int_eq(metrics_evaluate(&m, x, f->net, &f->loss, &f->views.validation, NULL, NULL, NULL, NULL), ERR_OK);
        ck_assert(m.value[METRIC_LOSS] == l.validation[best]);
        metrics_clear(&m);
        exec_free(x);
    }
    close_fixture(f);
}
END_TEST

START_TEST(a_loss_that_is_not_finite_is_reported)
{
    struct fixture *f = open_fixture("{'batch_size': 12, 'epochs': 2}", SAMPLES, 8, false, 1);
    struct log l = { .f = f };
    struct err e = { 0 };
    char want[60];

    f->x[FEATURES * f->views.train.index[0]] = INFINITY;
    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ .progress = check_masks_and_bounds, .user = &l }, &e), ERR_DIVERGED);
    ck_assert_int_lt(l.steps, 5);
    snprintf(want, sizeof want, "loss is not finite in epoch 1, step %ld", l.steps + 1);
    ck_assert_msg(strstr(e.msg, want) != NULL, "%s", e.msg);
    close_fixture(f);
}
END_TEST

START_TEST(weights_that_are_not_finite_are_reported) /* by the last step, which no loss follows */
{
    struct fixture *f = open_fixture("{'batch_size': 100, 'epochs': 1, 'optimizer': {'type': 'sgd', 'learning_rate': 1e6}}", SAMPLES, 8, false, 1);
    struct err e = { 0 };

    for (int i = 0; i < SAMPLES * FEATURES; i++)
        f->x[i] *= 1e36f;
    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ 0 }, &e), ERR_DIVERGED);
    ck_assert_msg(strstr(e.msg, "weights are not finite in epoch 1, step 1") != NULL, "%s", e.msg);
    close_fixture(f);
}
END_TEST

START_TEST(stops_when_asked)
{
    for (long k = 1; k <= 12; k++) {
        struct fixture *f = open_fixture("{'batch_size': 12, 'epochs': 2}", SAMPLES, 8, false, 1);
        struct log l = { .f = f, .stop_at = k };

        ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ .stop = count_asks, .progress = check_masks_and_bounds, .user = &l },
                                     NULL), k <= 10 ? ERR_STOPPED : ERR_OK);
        ck_assert_int_eq(l.steps, k <= 10 ? k - 1 : 10);
        close_fixture(f);
    }
}
END_TEST

START_TEST(no_epochs_no_change)
{
    struct fixture *f = open_fixture("{'epochs': 0}", SAMPLES, 8, false, 1), *untouched = open_fixture("{}", SAMPLES, 8, false, 1);

    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK);
    same_weights(f->net, untouched->net, "no epochs");
    ck_assert(!f->net->trained);
    close_fixture(f);
    close_fixture(untouched);
}
END_TEST

START_TEST(needs_samples)
{
    struct fixture *f = open_fixture("{'early_stopping': {'patience': 3}}", SAMPLES, 8, false, 1);
    struct trainer_in in = inputs(f);
    struct trainer *t;
    struct err e = { 0 };
    int n = f->views.train.n;

    f->views.validation.n = 0;
    ck_assert_int_eq(trainer_new(&t, &in, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, "/early_stopping/patience");
    f->views.train.n = 0;
    ck_assert_int_eq(trainer_new(&t, &in, &e), ERR_INVALID);
    ck_assert(t == NULL);
    f->views.train.n = n;
    close_fixture(f);
}
END_TEST

START_TEST(survives_every_failing_allocation)
{
    static const char *const confs[] = {
        "{'batch_size': 12, 'epochs': 1, 'clip_norm': 1, 'early_stopping': {'patience': 3}}",
        "{'epochs': 1, 'optimizer': 'gradient_descent'}",
    };
    struct fixture *f = open_fixture(confs[_i], SAMPLES, 8, true, 1);
    struct trainer_in in = inputs(f);
    bool fired = true;

    for (long k = 1; fired; k++) {
        struct trainer *t = NULL;

        mem_fail_in = k;
        enum err_code rc = trainer_new(&t, &in, NULL);
        ck_assert_int_eq(rc == ERR_OK, t != NULL);
        if (rc == ERR_OK)
            rc = trainer_run(t, &(struct train_hooks){ 0 }, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_int_eq(rc, fired ? ERR_NOMEM : ERR_OK);
        trainer_free(t);
    }
    close_fixture(f);
}
END_TEST

START_TEST(memory_is_counted) /* slots, best weights and a larger batch all count */
{
    struct fixture *plain = open_fixture("{'optimizer': 'sgd', 'batch_size': 1}", SAMPLES, 4200, false, 1);
    struct fixture *adam = open_fixture("{'batch_size': 1}", SAMPLES, 4200, false, 1);
    struct fixture *best = open_fixture("{'batch_size': 1, 'early_stopping': {'patience': 1}}", SAMPLES, 4200, false, 1);
    uint64_t a = train_memory(plain->net, &plain->conf, NULL), b = train_memory(adam->net, &adam->conf, NULL),
             c = train_memory(best->net, &best->conf, NULL);

    ck_assert_uint_ge(a, exec_memory(plain->net, 1, EXEC_TRAIN) + 4 * (5 * 4200 + 3 * 4200 + 3));
    ck_assert_uint_eq(b - a, 4 * (5 * 4200 + 3 * 4200 + 3));
    ck_assert_uint_gt(c, b + 4 * (5 * 4200 + 3 * 4200 + 3));
    close_fixture(plain);
    close_fixture(adam);
    close_fixture(best);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "steps");
    int n = n_optimizers();

    tcase_add_test(tc, defaults);
    tcase_add_loop_test(tc, learns, 0, n);
    tcase_add_test(tc, starts_at_an_epoch);
    tcase_add_test(tc, an_epoch_sees_every_sample_once);
    tcase_add_test(tc, every_step_and_phase_drops_others);
    tcase_add_loop_test(tc, threads_do_not_change_bytes, 0, 4 * n);
    tcase_add_test(tc, augmentation_is_drawn_anew);
    tcase_add_loop_test(tc, masks_and_bounds_hold_after_every_step, 0, N_CLIPPINGS * 2 * n);
    tcase_add_loop_test(tc, sparse_trains_as_dense, 0, N_CLIPPINGS * n);
    tcase_add_test(tc, a_full_batch_is_the_sum_of_its_chunks);
    tcase_add_test(tc, clips_by_value_then_norm);
    tc = suite_case(s, "endings");
    tcase_add_loop_test(tc, early_stopping_keeps_the_best, 0, 2);
    tcase_add_test(tc, a_loss_that_is_not_finite_is_reported);
    tcase_add_test(tc, weights_that_are_not_finite_are_reported);
    tcase_add_test(tc, stops_when_asked);
    tcase_add_test(tc, no_epochs_no_change);
    tcase_add_test(tc, needs_samples);
    tcase_add_loop_test(tc, survives_every_failing_allocation, 0, 2);
    tcase_add_test(tc, memory_is_counted);
}
SUITE_MAIN("train", cases)
