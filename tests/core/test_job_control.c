/* Controls: reported beside the result, of the chosen model's size, by the schedule that led to it; the main result is what it is without them; when
 * there is nothing to compare, that is said. The thin net comes as near to a size as one neuron lets it. */
#include "tests/core/job_fixture.h"

#include "core/thin.h"

#define BOTH "\"controls\": {\"random\": true, \"small_dense\": true}"

static const json_t *control(const struct caller *c, const char *name)
{
    json_t *list = json_object_get(result(c), "controls"), *r;
    size_t i;

    json_array_foreach(list, i, r)
        if (strcmp(text_of(r, "control"), name) == 0)
            return r;
    ck_abort_msg("no control %s", name);
}

/* Events without those of controls, and results without what controls add. */
static void same_main(const struct caller *a, const struct caller *b)
{
    int k = 0;

    for (int i = 0; i < b->n_events; i++) {
        json_t *was, *now;

        if (b->event[i].kind == JOB_COMMIT_CONTROL)
            continue;
        was = json_loads(a->event[k].text, 0, NULL);
        now = json_loads(b->event[i].text, 0, NULL);
        json_object_del(was, "controls");
        json_object_del(now, "controls");
        ck_assert_msg(json_equal(was, now), "%s\n%s", a->event[k].text, b->event[i].text);
        ck_assert_str_eq(a->event[k].hash, b->event[i].hash);
        json_decref(was);
        json_decref(now);
        k++;
    }
    ck_assert_int_eq(k, a->n_events);
}

static const char *const jobs[][2] = {
    { "{" TRAIN ", \"prune\": {\"iterations\": 3, \"target_sparsity\": 0.8}}", "{" TRAIN ", " BOTH ", \"prune\": {\"iterations\": 3, \"target_sparsity\": 0.8}}" },
    { "{" TRAIN ", \"prune\": {\"iterations\": 3, \"unit\": \"neuron\", \"target_sparsity\": 0.5}, \"stop\": {\"max_drop\": 0.1}, \"export\": {\"shrink\": true}}",
      "{" TRAIN ", " BOTH ", \"prune\": {\"iterations\": 3, \"unit\": \"neuron\", \"target_sparsity\": 0.5}, \"stop\": {\"max_drop\": 0.1}, \"export\": {\"shrink\": true}}" },
    { "{" TRAIN ", \"prune\": {\"iterations\": 6, \"schedule\": {\"type\": \"adaptive\", \"initial_step\": 0.4, \"patience\": 1}}, \"stop\": {\"max_drop\": 0.04}}",
      "{" TRAIN ", " BOTH ", \"prune\": {\"iterations\": 6, \"schedule\": {\"type\": \"adaptive\", \"initial_step\": 0.4, \"patience\": 1}}, \"stop\": {\"max_drop\": 0.04}}" },
};

/* The record of the iteration that was chosen. */
static const json_t *chosen(const struct caller *c)
{
    for (int i = 0; i < c->n_events; i++)
        if (c->event[i].kind == JOB_COMMIT_ITERATION && c->event[i].iteration == number(result(c), "chosen_iteration"))
            return c->event[i].record;
    ck_abort_msg("no iteration was chosen");
}

START_TEST(beside_the_result)
{
    static struct table t;
    struct caller without, c;
    const json_t *random, *small;
    double epochs;
    int n = 0;

    table_init(&t, 300, 0, 100, false);
    caller_init(&without, &t, jobs[_i][0]);
    caller_init(&c, &t, jobs[_i][1]);
    run_through(&without, 1);
    run_through(&c, 1);
    same_main(&without, &c);
    ck_assert_uint_eq(json_array_size(json_object_get(result(&without), "controls")), 0);
    random = control(&c, "random");
    small = control(&c, "small_dense");
    for (int i = 0; i < c.n_events; i++)
        if (c.event[i].kind == JOB_COMMIT_CONTROL)
            ck_assert(json_equal(c.event[i].record, json_array_get(json_object_get(result(&c), "controls"), (size_t)n++)));
    ck_assert_int_eq(n, 2);
    epochs = number(random, "epochs");
    ck_assert(epochs == number(small, "epochs") && epochs > 4 && epochs <= 4 + 2 * number(result(&c), "chosen_iteration"));
    ck_assert(_i == 2 || epochs == 4 + 2 * number(result(&c), "chosen_iteration"));
    if (_i != 1) /* neurons are of different sizes */
        ck_assert(number(random, "nonzero") == number(chosen(&c), "nonzero"));
    ck_assert(fabs(number(random, "sparsity") - number(chosen(&c), "sparsity")) < 0.1 && number(small, "sparsity") == 0);
    ck_assert(fabs(number(small, "params") - number(chosen(&c), "params_nonzero")) <= 12 + 16 + 4);
    for (int i = 0; i < 2; i++) {
        const json_t *r = i ? small : random;

        ck_assert(number(json_object_get(r, "metrics"), "accuracy") > 0.4 && number(json_object_get(r, "test"), "accuracy") > 0.4);
        ck_assert(fabs(number(r, "metric_difference") - (number(json_object_get(r, "metrics"), "accuracy") -
                                                         number(json_object_get(chosen(&c), "retrained"), "accuracy"))) < 1e-12);
        ck_assert(json_object_get(r, "latency_us") && json_object_get(r, "bytes") && json_object_get(r, "layers"));
    }
    caller_clear(&without);
    caller_clear(&c);
}
END_TEST

/* What is drawn is drawn: another criterion leads to the same control. */
START_TEST(random_does_not_look_at_the_criterion)
{
    static const char *const criteria[] = { "magnitude", "random" };
    static struct table t;
    struct caller c[2];
    char text[400];

    table_init(&t, 100, 0, 50, false);
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof text, "{\"train\": {\"epochs\": 0}, \"retrain\": {\"epochs\": 1}, \"controls\": {\"random\": true},"
                 "\"prune\": {\"criterion\": \"%s\", \"iterations\": 2, \"target_sparsity\": 0.6}}", criteria[i]);
        caller_init(&c[i], &t, text);
        run_through(&c[i], 1);
    }
    ck_assert(json_equal(json_object_get(control(&c[0], "random"), "metrics"), json_object_get(control(&c[1], "random"), "metrics")));
    ck_assert(json_equal(json_object_get(control(&c[0], "random"), "layers"), json_object_get(control(&c[1], "random"), "layers")));
    ck_assert(json_equal(json_object_get(control(&c[1], "random"), "layers"), json_object_get(chosen(&c[1]), "layers")));
    caller_clear(&c[0]);
    caller_clear(&c[1]);
}
END_TEST

/* Where weights go back after each pruning and masks stay, only the last retraining of the drawn masks counts, and no other is done. */
static int begun;

static void count_trainings(void *user, const struct job_progress *p)
{
    on_progress(user, p);
    begun += strcmp(p->phase, "control") == 0 && p->epoch == 1;
}

static const struct { const char *prune; bool sparse; int trainings; } rewound[] = {
    { "\"rewind\": \"initial\"", false, 1 }, { "\"rewind\": \"random\", \"unit\": \"neuron\"", false, 1 }, { "\"rewind\": \"none\"", false, 3 },
    { "\"rewind\": \"learning_rate\"", false, 3 }, { "\"rewind\": \"initial\", \"regrow\": {\"type\": \"set\", \"interval\": 1}", false, 3 },
    { "\"rewind\": \"initial\"", true, 3 }, /* zeros go first: those that training left */
};

START_TEST(random_trains_what_counts)
{
    static struct table t;
    struct caller c;
    struct job_hooks hooks = { on_stop, count_trainings, on_new_file, on_commit, 1000, &c };
    struct model model = make_model(false);
    char text[500];
    struct err e = { 0 };

    snprintf(text, sizeof text, "{" TRAIN ", \"controls\": {\"random\": true}, \"prune\": {\"iterations\": 3, \"target_sparsity\": 0.7, %s}}", rewound[_i].prune);
    begun = 0;
    table_init(&t, 32, 8, 8, false); /* one mini-batch an epoch */
    caller_init(&c, &t, text);
    net_init(model.net, 42);
    for (size_t k = 0; rewound[_i].sparse && k < model.net->weight[0].len; k += 2)
        model.net->weight[0].x[k] = 0;
    ck_assert_msg(job_run(&c.conf, &model, &t.d, NULL, 1, &hooks, &e) == ERR_OK, "%s", e.msg);
    ck_assert_int_eq(begun, rewound[_i].trainings);
    ck_assert(rewound[_i].sparse || number(control(&c, "random"), "sparsity") > 0.6);
    model_clear(&model);
    caller_clear(&c);
}
END_TEST

START_TEST(nothing_to_compare)
{
    static const struct { const char *job, *why; } cases[] = {
        { "{" TRAIN ", " BOTH ", \"prune\": {\"iterations\": 1}, \"stop\": {\"min_metric\": 1}}", "baseline" },
        { "{\"train\": {\"epochs\": 0}, \"retrain\": {\"epochs\": 0}, " BOTH ", \"prune\": {\"iterations\": 1}}", "trains nothing" },
        { "{" TRAIN ", " BOTH ", \"prune\": {\"iterations\": 1}, \"stop\": {\"max_seconds\": 0}}", "baseline" },
        { "{\"train\": {\"epochs\": 1}, \"retrain\": {\"epochs\": 1, \"optimizer\": {\"type\": \"sgd\", \"learning_rate\": 0.01}}, " BOTH
          ", \"prune\": {\"iterations\": 1}, \"seed\": 3}", NULL },
    };
    static struct table t;
    struct caller c;

    table_init(&t, 60, 0, 20, false);
    caller_init(&c, &t, cases[_i].job);
    run_through(&c, 1);
    ck_assert_uint_eq(json_array_size(json_object_get(result(&c), "controls")), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *why = json_object_get(json_array_get(json_object_get(result(&c), "controls"), i), "skipped");

        ck_assert(cases[_i].why ? why && strstr(json_string_value(why), cases[_i].why) != NULL : !why);
    }
    caller_clear(&c);
}
END_TEST

/* A control that runs out of time, or diverges, is given up; the result stands. */
static void out_of_time(void *user, const struct job_progress *p)
{
    struct caller *c = user;

    on_progress(user, p);
    if (strcmp(p->phase, "control") == 0 && p->epoch > 0)
        c->conf.stop.max_seconds = 0;
}

START_TEST(given_up)
{
    static struct table t;
    struct caller c;
    struct job_hooks hooks = { on_stop, out_of_time, on_new_file, on_commit, 1000, &c };
    struct model model = make_model(false);
    struct err e = { 0 };

    table_init(&t, 100, 0, 50, false);
    caller_init(&c, &t, "{" TRAIN ", " BOTH ", \"prune\": {\"iterations\": 2}}");
    net_init(model.net, 42);
    ck_assert_msg(job_run(&c.conf, &model, &t.d, NULL, 1, &hooks, &e) == ERR_OK, "%s", e.msg);
    ck_assert(strstr(text_of(control(&c, "random"), "skipped"), "seconds") && strstr(text_of(control(&c, "small_dense"), "skipped"), "seconds"));
    ck_assert(number(result(&c), "chosen_iteration") == 2);
    model_clear(&model);
    caller_clear(&c);
}
END_TEST

START_TEST(memory_counts_them)
{
    static struct table t;
    struct model m = make_model(false);
    struct caller c;
    uint64_t before;

    table_init(&t, 40, 8, 8, false);
    caller_init(&c, &t, plain);
    before = job_memory(&c.conf, m.net, &t.d);
    c.conf.controls.random.on = true;
    ck_assert_uint_gt(job_memory(&c.conf, m.net, &t.d), before);
    before = job_memory(&c.conf, m.net, &t.d);
    c.conf.controls.small_dense.on = true;
    ck_assert_uint_gt(job_memory(&c.conf, m.net, &t.d), before);
    model_clear(&m);
    caller_clear(&c);
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    static struct table t;
    struct caller c;
    bool fired = true;

    table_init(&t, 24, 8, 8, false);
    json_set_alloc_funcs(mem_alloc, mem_free);
    for (long k = 1; fired; k += 97) {
        struct job_hooks hooks = { on_stop, on_progress, on_new_file, on_commit, 1000, &c };
        struct model model = make_model(false);
        struct err e = { 0 };
        enum err_code rc;

        net_init(model.net, 1);
        caller_init(&c, &t, "{\"train\": {\"epochs\": 1, \"batch_size\": 16}, \"retrain\": {\"epochs\": 1}, " BOTH ", \"prune\": {\"iterations\": 1}}");
        mem_fail_in = k;
        rc = job_run(&c.conf, &model, &t.d, NULL, 1, &hooks, &e);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_msg(rc == (fired ? ERR_NOMEM : ERR_OK), "allocation %ld: %s %s", k, err_slug(rc), e.msg);
        model_clear(&model);
        caller_clear(&c);
    }
}
END_TEST

/* ---- the thin net ---- */

static const char branches[] = "{\"class_name\": \"Functional\", \"config\": {\"name\": \"m\", \"layers\": ["
    "{\"class_name\": \"InputLayer\", \"name\": \"in\", \"config\": {\"name\": \"in\", \"batch_input_shape\": [null, 12]}, \"inbound_nodes\": []},"
    "{\"class_name\": \"Dense\", \"name\": \"a\", \"config\": {\"name\": \"a\", \"units\": 20, \"activation\": \"relu\"}, \"inbound_nodes\": [[[\"in\", 0, 0, {}]]]},"
    "{\"class_name\": \"Dense\", \"name\": \"b\", \"config\": {\"name\": \"b\", \"units\": 20}, \"inbound_nodes\": [[[\"a\", 0, 0, {}]]]},"
    "{\"class_name\": \"Add\", \"name\": \"sum\", \"config\": {\"name\": \"sum\"}, \"inbound_nodes\": [[[\"a\", 0, 0, {}], [\"b\", 0, 0, {}]]]},"
    "{\"class_name\": \"Dense\", \"name\": \"c\", \"config\": {\"name\": \"c\", \"units\": 9}, \"inbound_nodes\": [[[\"in\", 0, 0, {}]]]},"
    "{\"class_name\": \"Concatenate\", \"name\": \"both\", \"config\": {\"name\": \"both\"}, \"inbound_nodes\": [[[\"sum\", 0, 0, {}], [\"c\", 0, 0, {}]]]},"
    "{\"class_name\": \"Dense\", \"name\": \"out\", \"config\": {\"name\": \"out\", \"units\": 3}, \"inbound_nodes\": [[[\"both\", 0, 0, {}]]]}],"
    "\"input_layers\": [[\"in\", 0, 0]], \"output_layers\": [[\"out\", 0, 0]]}}";

START_TEST(thin_net_is_as_near_as_a_neuron)
{
    enum thin_measure measure = _i ? THIN_MACS : THIN_PARAMS;
    json_t *doc = json_loads(branches, 0, NULL);
    struct model m, thin;
    struct net_size whole, size;
    struct err e = { 0 };
    uint64_t last = 0, want, got, all;

    ck_assert_msg(keras_read(&m, doc, &e) == ERR_OK, "%s %s", e.at, e.msg);
    json_decref(doc);
    net_count(m.net, &whole);
    all = measure == THIN_PARAMS ? whole.params : whole.macs;
    for (want = 1; want <= all + 50; want += 7) {
        ck_assert_msg(model_thin(&thin, &m, measure, want, 5, &e) == ERR_OK, "%s %s", e.at, e.msg);
        net_count(thin.net, &size);
        got = measure == THIN_PARAMS ? size.params : size.macs;
        ck_assert_uint_ge(got, last);
        if (want > 60 && want <= all)
            ck_assert_msg(llabs((long long)got - (long long)want) <= 12 + 2 * 20 + 3 + 2, "%llu, not %llu", (unsigned long long)got, (unsigned long long)want);
        ck_assert(!thin.net->trained && shape_equal(net_output(thin.net), net_output(m.net)) && shape_equal(net_input(thin.net), net_input(m.net)));
        last = got;
        model_clear(&thin);
    }
    ck_assert_uint_eq(last, all);
    model_clear(&m);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "job_control");

    tcase_add_loop_test(tc, beside_the_result, 0, sizeof jobs / sizeof jobs[0]);
    tcase_add_test(tc, random_does_not_look_at_the_criterion);
    tcase_add_loop_test(tc, random_trains_what_counts, 0, sizeof rewound / sizeof rewound[0]);
    tcase_add_loop_test(tc, nothing_to_compare, 0, 4);
    tcase_add_test(tc, given_up);
    tcase_add_test(tc, memory_counts_them);
    tcase_add_test(tc, every_allocation_fails_once);
    tcase_add_loop_test(tc, thin_net_is_as_near_as_a_neuron, 0, 2);
}
SUITE_MAIN("job_control", cases)
