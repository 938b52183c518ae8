/* The cycle on made data: what is reported, when it stops, what it keeps, what is refused. That nothing changes what comes out: test_job_resume.c. */
#include "tests/core/job_fixture.h"

/* ---- what is reported ---- */

static void check_latency(const json_t *l)
{
    static const char *const forms[] = { "dense", "masked", "sparse" }, *const batches[] = { "batch_1", "batch_128" };

    ck_assert(number(l, "threads") == 1);
    for (int b = 0; b < 2; b++) {
        ck_assert(number(l, batches[b]) > 0 && number(json_object_get(l, "p95"), batches[b]) >= number(l, batches[b]));
        for (int f = 0; f < 3; f++) {
            const json_t *t = json_object_get(json_object_get(l, forms[f]), batches[b]);

            ck_assert(number(t, "median") > 0 && number(t, "p95") >= number(t, "median"));
        }
    }
}

static bool is_kernel(const json_t *kernel, const char *batch)
{
    const char *name = json_string_value(json_object_get(kernel, batch));
    int i = 0;

    while (name && job_kernel_names[i] && strcmp(job_kernel_names[i], name) != 0)
        i++;
    return name && job_kernel_names[i];
}

/* Every layer with weights is there once, and all of them take about as long as the net. */
static void check_layer_times(const json_t *r)
{
    const json_t *l = json_object_get(r, "latency_us"), *layer, *time;
    double sum = 0;
    size_t i, k;

    json_array_foreach(json_object_get(r, "layers"), i, layer)
    {
        int n = 0;

        json_array_foreach(json_object_get(l, "layers"), k, time)
            if (strcmp(json_string_value(json_object_get(time, "name")), json_string_value(json_object_get(layer, "name"))) == 0) {
                ck_assert(is_kernel(json_object_get(time, "kernel"), "batch_1") && is_kernel(json_object_get(time, "kernel"), "batch_128"));
                n++;
            }
        ck_assert_int_eq(n, 1);
    }
    json_array_foreach(json_object_get(l, "layers"), k, time)
    {
        ck_assert(number(time, "batch_128") >= 0);
        sum += number(time, "batch_128");
    }
    ck_assert_msg(sum > 0 && sum < 2 * number(l, "batch_128") + 10, "%g us in all, the net %g", sum, number(l, "batch_128"));
}

static void check_iteration(const json_t *r, int i)
{
    static const char *const metrics[] = { "loss", "accuracy", "f1", "auc", "precision", "recall", "f1_macro", "f1_weighted", "top5_accuracy" };
    double weights = number(r, "weights"), nonzero = number(r, "nonzero"), sum = 0, macs = 0;
    size_t l;
    json_t *layer;

    ck_assert(number(r, "iteration") == i && weights == FEATURES * 16 + 16 * 8 + 8);
    ck_assert(nonzero == weights - floor(number(r, "target_sparsity") * weights + 0.5));
    ck_assert(number(r, "sparsity") == (weights - nonzero) / weights && number(r, "macs") >= nonzero);
    ck_assert(fabs(number(r, "compression_ratio") - number(r, "params") / number(r, "params_nonzero")) < 1e-12);
    json_array_foreach(json_object_get(r, "layers"), l, layer)
        sum += number(layer, "nonzero"), macs += number(layer, "macs");
    ck_assert(sum == nonzero && macs == nonzero && l == 3);
    for (size_t m = 0; m < sizeof metrics / sizeof metrics[0]; m++) {
        double a = number(json_object_get(r, "pruned"), metrics[m]), b = number(json_object_get(r, "retrained"), metrics[m]);

        ck_assert(a >= 0 && b >= 0 && (m == 0 || (a <= 1 && b <= 1)));
    }
    ck_assert(json_array_size(json_object_get(json_object_get(r, "retrained"), "confusion_matrix")) == 2);
    ck_assert(number(json_object_get(r, "bytes"), "dense") > number(json_object_get(r, "bytes"), "packed"));
    ck_assert(number(json_object_get(r, "seconds"), "retrain") > 0);
    check_latency(json_object_get(r, "latency_us"));
    check_layer_times(r);
}

START_TEST(records_are_sane)
{
    static struct table t;
    struct caller c;
    const json_t *r;

    table_init(&t, 300, 0, 100, false);
    caller_init(&c, &t, plain);
    run_through(&c, 1);
    ck_assert_int_eq(c.n_events, 6);
    ck_assert_int_eq(c.event[0].kind, JOB_COMMIT_BASELINE);
    r = c.event[0].record;
    ck_assert(number(json_object_get(r, "metrics"), "accuracy") > 0.85 && number(json_object_get(r, "test"), "accuracy") > 0.8);
    ck_assert(number(r, "sparsity") == 0 && number(json_object_get(r, "seconds"), "train") > 0);
    for (int i = 1; i <= 4; i++) {
        ck_assert(c.event[i].kind == JOB_COMMIT_ITERATION && c.event[i].iteration == i);
        check_iteration(c.event[i].record, i);
    }
    ck_assert(number(c.event[4].record, "target_sparsity") == 0.9);
    ck_assert(n_sparse(c.event[0].record) == 0 && n_sparse(c.event[4].record) >= 2 && n_sparse(result(&c)) == n_sparse(c.event[4].record));
    r = result(&c);
    ck_assert_str_eq(text_of(r, "reason"), "iterations_done");
    ck_assert(number(r, "chosen_iteration") == 4 && number(r, "sparsity") == number(c.event[4].record, "sparsity"));
    ck_assert_str_eq(c.event[5].hash, c.event[4].hash);
    ck_assert(json_equal(json_object_get(json_object_get(r, "chosen"), "validation"), json_object_get(c.event[4].record, "retrained")));
    ck_assert(json_equal(json_object_get(json_object_get(r, "baseline"), "test"), json_object_get(c.event[0].record, "test")));
    ck_assert(number(json_object_get(json_object_get(r, "chosen"), "test"), "accuracy") > 0.5);
    ck_assert_int_eq(files(&c, "checkpoint", false), 1);
    caller_clear(&c);
}
END_TEST

START_TEST(masked_weights_are_zero_in_the_files)
{
    static struct table t;
    struct caller c;
    char path[160];
    int seen = 0;

    table_init(&t, 200, 60, 0, false);
    caller_init(&c, &t, plain);
    run_through(&c, 2);
    ck_assert(json_is_null(json_object_get(json_object_get(result(&c), "chosen"), "test")));
    for (int i = 0; i < c.n_files; i++) {
        struct file_map m;
        struct st_file f;
        uint64_t nonzero = 0;

        snprintf(path, sizeof path, "%s/weights-%d", c.dir, i);
        if (file_map_open(&m, path, NULL) != ERR_OK)
            continue;
        ck_assert_int_eq(st_parse(&f, m.data, m.len, NULL), ERR_OK);
        for (int a = 0; a < f.n; a++)
            for (size_t k = 0; strstr(f.array[a].name, "kernel") && k < shape_len(&f.array[a].shape); k++) {
                float x;

                memcpy(&x, (const char *)f.array[a].data + 4 * k, 4);
                nonzero += x != 0;
            }
        ck_assert_uint_eq(nonzero, (uint64_t)number(c.event[seen].record, "nonzero"));
        ck_assert_uint_eq(m.len, (uint64_t)number(json_object_get(c.event[seen].record, "bytes"), "dense"));
        seen++;
        st_file_free(&f);
        file_map_close(&m);
    }
    ck_assert_int_eq(seen, c.n_events);
    caller_clear(&c);
}
END_TEST

/* ---- stop rules and the choice ---- */

#define CYCLE(stop) "{" TRAIN ", \"prune\": {\"iterations\": 6, \"target_sparsity\": 1, \"schedule\": \"linear\"}, \"stop\": {" stop "}}"
static const struct { const char *json, *reason; int iterations; } rules[] = {
    { CYCLE(""), "iterations_done", 6 },
    { CYCLE("\"target_sparsity\": 0.5"), "target_reached", 3 },
    { CYCLE("\"target_params\": 300"), "target_params_reached", 2 },
    { CYCLE("\"max_seconds\": 1e-9"), "time_spent", 0 },
    { CYCLE("\"min_metric\": 1.1"), "contract_broken", 1 },
    { CYCLE("\"min_metric\": 1.1, \"continue_on_breach\": true"), "iterations_done", 6 },
    { CYCLE("\"max_drop\": 0.02"), "contract_broken", -1 },
    { CYCLE("\"max_relative_drop\": 0.02, \"continue_on_breach\": true"), "iterations_done", 6 },
    { CYCLE("\"max_drop\": 1"), "iterations_done", 6 },
};

/* The choice made again from the records alone. */
static int choose(const struct caller *c, bool contract)
{
    const struct stop_conf *s = &c->conf.stop;
    double base = number(json_object_get(c->event[0].record, "metrics"), "accuracy"), most = -1;
    int chosen = 0;

    for (int i = 1; i < c->n_events - 1; i++) {
        double now = number(json_object_get(c->event[i].record, "retrained"), "accuracy");
        bool kept = !(base - now > s->max_drop + 1e-9) && !(base - now > base * s->max_relative_drop + 1e-9) && !(now < s->min_metric);

        ck_assert(!contract ? json_is_null(json_object_get(c->event[i].record, "contract_kept"))
                            : json_is_true(json_object_get(c->event[i].record, "contract_kept")) == kept);
        if ((kept || !contract) && number(c->event[i].record, "sparsity") > most) {
            most = number(c->event[i].record, "sparsity");
            chosen = i;
        }
    }
    return chosen;
}

START_TEST(stop_rules)
{
    static struct table t;
    struct caller c;
    const json_t *r;
    bool contract;
    int chosen;

    table_init(&t, 300, 0, 40, false);
    caller_init(&c, &t, rules[_i].json);
    run_through(&c, 1);
    r = result(&c);
    contract = strstr(rules[_i].json, "max_drop") || strstr(rules[_i].json, "relative") || strstr(rules[_i].json, "min_metric");
    ck_assert_msg(strcmp(text_of(r, "reason"), rules[_i].reason) == 0, "%s: %s", rules[_i].json, text_of(r, "reason"));
    if (rules[_i].iterations >= 0)
        ck_assert_int_eq(c.n_events, rules[_i].iterations + 2);
    ck_assert(number(r, "iterations") == c.n_events - 2);
    chosen = choose(&c, contract);
    ck_assert_int_eq((int)number(r, "chosen_iteration"), chosen);
    ck_assert_str_eq(c.event[c.n_events - 1].hash, c.event[chosen].hash);
    ck_assert(number(r, "nonzero") == number(c.event[chosen].record, "nonzero"));
    ck_assert_ptr_nonnull(strstr(text_of(r, "message"), chosen ? "the result is iteration" : "baseline model"));
    if (rules[_i].iterations == -1)
        ck_assert(chosen == c.n_events - 3 && chosen > 0); /* the one before the breach */
    caller_clear(&c);
}
END_TEST

/* An iteration that came to nothing is dropped: what stood before it is the result. */
START_TEST(time_is_up_while_retraining)
{
    static struct table t;
    struct caller c;

    table_init(&t, 200, 0, 40, false);
    caller_init(&c, &t, plain);
    c.late_in = 3;
    run_through(&c, 1);
    ck_assert_int_eq(c.n_events, 4);
    ck_assert_str_eq(text_of(result(&c), "reason"), "time_spent");
    ck_assert(number(result(&c), "iterations") == 2 && number(result(&c), "chosen_iteration") == 2);
    ck_assert_str_eq(c.event[3].hash, c.event[2].hash);
    caller_clear(&c);
}
END_TEST

static void late_in_pruning(void *user, const struct job_progress *p)
{
    struct caller *c = user;

    on_progress(user, p);
    if (strcmp(p->phase, "prune") == 0 && p->iteration == 1)
        c->conf.stop.max_seconds = 0;
}

START_TEST(time_is_up_while_pruning)
{
    static struct table t;
    struct caller c;
    const struct job_hooks hooks = { on_stop, late_in_pruning, on_new_file, on_commit, 1000, &c };
    struct model model = make_model(false);

    table_init(&t, 200, 0, 40, false);
    caller_init(&c, &t, "{" TRAIN ", \"prune\": {\"criterion\": \"obd\", \"iterations\": 3}}");
    net_init(model.net, 42);
    ck_assert_int_eq(job_run(&c.conf, &model, &t.d, NULL, 1, &hooks, NULL), ERR_OK);
    ck_assert_int_eq(c.n_events, 3);
    ck_assert_str_eq(text_of(result(&c), "reason"), "time_spent");
    ck_assert(number(result(&c), "iterations") == 1 && number(result(&c), "chosen_iteration") == 1);
    ck_assert_str_eq(c.event[2].hash, c.event[1].hash);
    model_clear(&model);
    caller_clear(&c);
}
END_TEST

static void blow_up(struct caller *c)
{
    if (c->n_events == 3) /* the baseline and two iterations */
        ((struct optim_conf_head *)(void *)c->conf.retrain.optimizer.conf)->learning_rate = 1e30;
}

START_TEST(what_was_good_before_a_divergence_is_the_result)
{
    static struct table t;
    struct caller c;

    table_init(&t, 200, 0, 40, false);
    caller_init(&c, &t, plain);
    c.retraining = blow_up;
    run_through(&c, 1);
    ck_assert_int_eq(c.n_events, 4);
    ck_assert_str_eq(text_of(result(&c), "reason"), "diverged");
    ck_assert(strstr(text_of(result(&c), "message"), "not finite in epoch") && strstr(text_of(result(&c), "message"), "the result is iteration 2"));
    ck_assert(number(result(&c), "chosen_iteration") == 2 && number(result(&c), "sparsity") == number(c.event[2].record, "sparsity"));
    ck_assert_str_eq(c.event[3].hash, c.event[2].hash);
    caller_clear(&c);
}
END_TEST

START_TEST(retraining_that_diverges_ends_the_job_with_what_stands)
{
    static struct table t;
    struct caller c;

    table_init(&t, 200, 0, 40, false);
    caller_init(&c, &t, "{\"train\": {\"epochs\": 2}, \"retrain\": {\"optimizer\": {\"type\": \"sgd\", \"learning_rate\": 1e6}}}");
    run_through(&c, 1);
    ck_assert_int_eq(c.n_events, 2);
    ck_assert_str_eq(text_of(result(&c), "reason"), "diverged");
    ck_assert_msg(strstr(text_of(result(&c), "message"), "not finite in epoch") && strstr(text_of(result(&c), "message"), "baseline model"), "%s",
                  text_of(result(&c), "message"));
    ck_assert_str_eq(c.event[1].hash, c.event[0].hash);
    caller_clear(&c);
}
END_TEST

START_TEST(training_that_diverges_fails_the_job)
{
    static struct table t;
    struct caller c;

    table_init(&t, 200, 0, 40, false);
    caller_init(&c, &t, "{\"train\": {\"optimizer\": {\"type\": \"sgd\", \"learning_rate\": 1e6}}}");
    ck_assert_int_eq(run(&c, 1, NULL), ERR_DIVERGED);
    caller_clear(&c);
}
END_TEST

START_TEST(regression_and_a_metric_where_less_is_better)
{
    static struct table t;
    struct caller c;

    table_init(&t, 300, 80, 40, true);
    caller_init(&c, &t, "{" TRAIN ", \"prune\": {\"iterations\": 8, \"target_sparsity\": 0.99, \"schedule\": \"linear\"},"
                        "\"stop\": {\"max_relative_drop\": 0.5}}");
    run_through(&c, 1);
    ck_assert_str_eq(text_of(result(&c), "metric"), "mse");
    ck_assert_str_eq(text_of(result(&c), "reason"), "contract_broken");
    ck_assert(number(json_object_get(json_object_get(result(&c), "chosen"), "validation"), "mse") <=
              1.5 * number(json_object_get(c.event[0].record, "metrics"), "mse"));
    caller_clear(&c);
}
END_TEST

START_TEST(a_model_that_came_sparse)
{
    static struct table t;
    struct caller c;

    table_init(&t, 200, 60, 0, false);
    caller_init(&c, &t, "{\"train\": {\"epochs\": 0}, \"retrain\": {\"epochs\": 1, \"batch_size\": 64},"
                        "\"prune\": {\"iterations\": 2, \"target_sparsity\": 0.875, \"schedule\": \"exponential\"}}");
    c.sparse = true;
    run_through(&c, 1);
    ck_assert(number(c.event[0].record, "sparsity") == 0.5);
    ck_assert(number(c.event[1].record, "sparsity") == 0.75 && number(c.event[2].record, "target_sparsity") == 0.875);
    caller_clear(&c);
}
END_TEST

static const struct { const char *json, *at; } misfits[] = {
    { "{\"metric\": \"mse\"}", "/metric" },
    { "{\"loss\": \"sparse_categorical_crossentropy\"}", "/loss" },
    { "{\"prune\": {\"layers\": [{\"layer\": \"conv\", \"ignore\": true}]}}", "/prune/layers/0/layer" },
    { "{\"validation_fraction\": 0.01}", "/validation_fraction" },
};

START_TEST(misfits_are_refused_by_pointer)
{
    static struct table t;
    struct caller c;
    struct err e = { 0 };

    table_init(&t, 40, 0, 0, false);
    caller_init(&c, &t, misfits[_i].json);
    ck_assert_int_eq(run(&c, 1, &e), ERR_INVALID);
    ck_assert_msg(strcmp(e.at, misfits[_i].at) == 0, "%s: %s", e.at, e.msg);
    ck_assert(c.n_files == 0);
    t.d.shape = (struct shape){ 1, { FEATURES + 1 } };
    ck_assert_int_eq(run(&c, 1, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, "/dataset");
    caller_clear(&c);
}
END_TEST

/* Each row of the table: as many weights as without regrowth, in every layer, and layers run sparse again afterwards. */
START_TEST(whatever_grows_the_target_holds)
{
    static struct table t;
    struct caller c, none;
    char json[400];

    table_init(&t, 200, 0, 50, false);
    for (const struct plug *const *row = regrow_table.rows; *row; row++)
        for (int scope = 0; scope < 2; scope++) {
            snprintf(json, sizeof json, "{" TRAIN ", \"prune\": {\"iterations\": 3, \"scope\": \"%s\", \"regrow\": {\"type\": \"%s\"%s}}}",
                     scope ? "erk" : "global", (*row)->name, (*row)->params ? ", \"interval\": 2" : "");
            caller_init(&c, &t, json);
            run_through(&c, 1);
            if (row == regrow_table.rows)
                ck_assert_str_eq((*row)->name, "none");
            snprintf(json, sizeof json, "{" TRAIN ", \"prune\": {\"iterations\": 3, \"scope\": \"%s\"}}", scope ? "erk" : "global");
            caller_init(&none, &t, json);
            run_through(&none, 1);
            for (int i = 1; i <= 3; i++) { /* what has just grown may be 0 yet, where its gradient is */
                double missing = number(none.event[i].record, "nonzero") - number(c.event[i].record, "nonzero");

                ck_assert_msg(missing == 0 || (regrow_of(&c.conf.prune.regrow)->exchanges && missing > 0 && missing < 5), "%s: %g missing", (*row)->name, missing);
            }
            ck_assert_int_ge(n_sparse(result(&c)), 2);
            caller_clear(&c);
            caller_clear(&none);
        }
}
END_TEST

START_TEST(memory_estimate)
{
    static struct table t;
    struct model m = make_model(false);
    struct caller c;
    uint64_t before = 0;

    table_init(&t, 200, 0, 50, false);
    for (int i = 0; i < 3; i++) { /* by gradient needs a dense net as well */
        static const char *const regrow[] = { "{\"prune\": {\"regrow\": \"none\"}}", "{\"prune\": {\"regrow\": \"set\"}}",
                                              "{\"prune\": {\"regrow\": \"rigl\"}}" };

        caller_init(&c, &t, regrow[i]);
        ck_assert_uint_gt(job_memory(&c.conf, m.net, &t.d), before);
        before = job_memory(&c.conf, m.net, &t.d);
        caller_clear(&c);
    }
    for (int i = 0; i < 3; i++) { /* what is kept of each weight beside it */
        static const char *const kept[] = { "{}", "{\"prune\": {\"criterion\": \"movement\"}}",
                                            "{\"prune\": {\"criterion\": \"movement\", \"regrow\": \"surgery\"}}" };

        before = i == 0 ? 0 : before;
        caller_init(&c, &t, kept[i]);
        ck_assert_uint_gt(job_memory(&c.conf, m.net, &t.d), before);
        before = job_memory(&c.conf, m.net, &t.d);
        caller_clear(&c);
    }
    for (int i = 0; i < 2; i++) { /* of what comes one after another, the largest: here training */
        static const char *const steps[] = { "{\"train\": {\"batch_size\": 60000}, \"export\": {}}",
                                             "{\"train\": {\"batch_size\": 60000}, \"export\": {\"shrink\": true, \"quantize\": true, \"pack\": true}}" };

        caller_init(&c, &t, steps[i]);
        if (i)
            ck_assert_uint_eq(job_memory(&c.conf, m.net, &t.d), before);
        before = job_memory(&c.conf, m.net, &t.d);
        c.conf.train.batch_size = c.conf.retrain.batch_size = 1;
        ck_assert_uint_lt(job_memory(&c.conf, m.net, &t.d), before);
        caller_clear(&c);
    }
    caller_init(&c, &t, plain);
    ck_assert_uint_gt(job_memory(&c.conf, m.net, &t.d), exec_memory(m.net, JOB_EVALUATION_BATCH, EXEC_INFER));
    ck_assert_uint_lt(job_memory(&c.conf, m.net, &t.d), 4 << 20);
    model_clear(&m);
    caller_clear(&c);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "job");

    tcase_add_test(tc, records_are_sane);
    tcase_add_test(tc, masked_weights_are_zero_in_the_files);
    tcase_add_loop_test(tc, stop_rules, 0, sizeof rules / sizeof rules[0]);
    tcase_add_test(tc, time_is_up_while_retraining);
    tcase_add_test(tc, time_is_up_while_pruning);
    tcase_add_test(tc, what_was_good_before_a_divergence_is_the_result);
    tcase_add_test(tc, retraining_that_diverges_ends_the_job_with_what_stands);
    tcase_add_test(tc, training_that_diverges_fails_the_job);
    tcase_add_test(tc, regression_and_a_metric_where_less_is_better);
    tcase_add_test(tc, a_model_that_came_sparse);
    tcase_add_loop_test(tc, misfits_are_refused_by_pointer, 0, sizeof misfits / sizeof misfits[0]);
    tcase_add_test(tc, whatever_grows_the_target_holds);
    tcase_add_test(tc, memory_estimate);
}
SUITE_MAIN("job", cases)
