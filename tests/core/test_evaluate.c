/* Evaluation of a net over a view: logits are made probabilities, the numbers do not depend on batch size or threads, the stop flag is
 * obeyed, and what is not finite is an error. */
#include "core/data.h"
#include "core/mem.h"
#include "core/metrics.h"

#include "tests/engine_net.h"
#include "tests/suite.h"

enum { N = 300, FEATURES = 6, CLASSES = 4 };

static float x[N * FEATURES], target[2 * N], center[FEATURES], scale[FEATURES];
static int32_t label[N], label2[N];
static uint32_t order[N];
static struct data_split split = { .n = N, .x = x };
static struct dataset data = { .shape = { 1, { FEATURES } }, .n_features = FEATURES, .center = center, .scale = scale };
static struct data_view view = { &data, &split, order, N };

static void data_init(int n_classes)
{
    const struct rng r = { 5, RNG_TEST, 0, 0 };

    fill_normal(x, N * FEATURES, 1);
    fill_normal(target, 2 * N, 2);
    for (int i = 0; i < N; i++) {
        label[i] = (int32_t)rng_below(&r, (uint64_t)i, CLASSES);
        label2[i] = label[i] & 1;
        order[i] = (uint32_t)(N - 1 - i);
    }
    for (int f = 0; f < FEATURES; f++)
        scale[f] = 1;
    data.n_classes = n_classes;
    data.n_target = n_classes ? 0 : 2;
    split.label = n_classes == CLASSES ? label : n_classes == 2 ? label2 : NULL;
    split.target = n_classes ? NULL : target;
}

/* A linear net of k outputs, with an activation behind it or not ("": none). */
static struct net *net_init_of(int k, const char *activation)
{
    char options[40];
    struct net *net = net_of(FEATURES);

    snprintf(options, sizeof options, "{\"units\": %d}", k);
    net_chain(net, "dense", options, "out");
    if (*activation)
        net_chain(net, activation, "", "out");
    net_init(net, 3);
    return net;
}

static long stops;
static bool stop_at_second(void *user) { return (void)user, ++stops == 2; }

static enum err_code evaluate(struct net *net, const char *loss, int max_n, int threads, bool (*stop)(void *user), struct metrics *m)
{
    struct loss_binding b;
    struct exec *exec = NULL;
    struct team *team = NULL;
    enum err_code rc = loss_bind(&b, loss_named(loss), net, data.n_classes, data.n_target, NULL);

    if (rc == ERR_OK)
        rc = team_new(&team, threads, NULL);
    if (rc == ERR_OK)
        rc = exec_new(&exec, net, max_n, EXEC_INFER, 0, team, NULL);
    if (rc == ERR_OK)
        rc = metrics_evaluate(m, exec, net, &b, &view, team, stop, NULL, NULL);
    exec_free(exec);
    team_free(team);
    return rc;
}

static const struct { const char *activation, *loss; int k, n_classes; } pairs[] = {
    { "softmax", "sparse_categorical_crossentropy", CLASSES, CLASSES }, { "sigmoid", "binary_crossentropy", 1, 2 },
    { "softmax", "categorical_crossentropy", 2, 2 },
};

START_TEST(logits_are_made_probabilities)
{
    struct net *with = net_init_of(pairs[_i].k, pairs[_i].activation), *without = net_init_of(pairs[_i].k, ""),
               *linear = net_init_of(pairs[_i].k, "linear");
    struct metrics a, b, c;

    data_init(pairs[_i].n_classes);
    ck_assert_int_eq(evaluate(with, pairs[_i].loss, 64, 1, NULL, &a), ERR_OK);
    ck_assert_int_eq(evaluate(without, pairs[_i].loss, 64, 1, NULL, &b), ERR_OK);
    ck_assert_int_eq(evaluate(linear, pairs[_i].loss, 64, 1, NULL, &c), ERR_OK);
    ck_assert(a.n == N && a.value[METRIC_LOSS] > 0.5 && a.value[METRIC_ACCURACY] > 0.1);
    for (int i = 0; i < METRIC_MSE; i++)
        ck_assert_msg(fabs(a.value[i] - b.value[i]) < 1e-5 && b.value[i] == c.value[i], "%s: %.9g, %.9g, %.9g", metric_name((enum metric)i),
                      a.value[i], b.value[i], c.value[i]);
    metrics_clear(&a);
    metrics_clear(&b);
    metrics_clear(&c);
    net_free(with);
    net_free(without);
    net_free(linear);
}
END_TEST

START_TEST(any_batch_size_and_threads)
{
    struct net *net = net_init_of(CLASSES, "softmax");
    struct metrics a, b;

    data_init(CLASSES);
    ck_assert_int_eq(evaluate(net, pairs[0].loss, 64, 1, NULL, &a), ERR_OK);
    for (int threads = 1; threads <= 4; threads++) {
        ck_assert_int_eq(evaluate(net, pairs[0].loss, 64, threads, NULL, &b), ERR_OK);
        ck_assert_mem_eq(a.value, b.value, sizeof a.value);
        metrics_clear(&b);
        ck_assert_int_eq(evaluate(net, pairs[0].loss, 512, threads, NULL, &b), ERR_OK);
        for (int i = 0; i < METRIC_MSE; i++) /* products of another shape may have other last bits */
            ck_assert(fabs(a.value[i] - b.value[i]) < 1e-6);
        metrics_clear(&b);
    }
    metrics_clear(&a);
    net_free(net);
}
END_TEST

START_TEST(regression)
{
    struct net *net = net_init_of(2, "");
    struct metrics m;

    data_init(0);
    ck_assert_int_eq(evaluate(net, "mean_squared_error", 64, 1, NULL, &m), ERR_OK);
    ck_assert(m.value[METRIC_MSE] > 0.5 && fabs(m.value[METRIC_MSE] - m.value[METRIC_LOSS]) < 1e-6 && isnan(m.value[METRIC_ACCURACY]));
    metrics_clear(&m);
    net_free(net);
}
END_TEST

START_TEST(stops_and_divergence)
{
    struct net *net = net_init_of(CLASSES, "softmax");
    struct metrics m = { 0 };

    data_init(CLASSES);
    ck_assert_int_eq(evaluate(net, pairs[0].loss, 64, 1, stop_at_second, &m), ERR_STOPPED);
    ck_assert_int_eq(stops, 2);
    net->weight[0].x[0] = INFINITY;
    ck_assert_int_eq(evaluate(net, pairs[0].loss, 64, 1, NULL, &m), ERR_DIVERGED);
    ck_assert_ptr_null(m.confusion);
    net_free(net);
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    struct net *net = net_init_of(CLASSES, "softmax");
    bool fired = true;

    data_init(CLASSES);
    for (long k = 1; fired; k++) {
        struct metrics m = { 0 };
        enum err_code rc;

        mem_fail_in = k;
        rc = evaluate(net, pairs[0].loss, 64, 1, NULL, &m);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_int_eq(rc, fired ? ERR_NOMEM : ERR_OK);
        metrics_clear(&m);
    }
    net_free(net);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "evaluate");

    tcase_add_loop_test(tc, logits_are_made_probabilities, 0, sizeof pairs / sizeof pairs[0]);
    tcase_add_test(tc, any_batch_size_and_threads);
    tcase_add_test(tc, regression);
    tcase_add_test(tc, stops_and_divergence);
    tcase_add_test(tc, every_allocation_fails_once);
}
SUITE_MAIN("evaluate", cases)
