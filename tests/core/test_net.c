/* Nets: initialisers, counts and masks, what cannot be added, packing by masks, clones, and every allocation failing once. */
#include "core/exec.h"

#include <stdio.h>

#include "core/gemm.h"
#include "core/mem.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

/* ---- initialisers: options, mean, deviation, bound of the absolute value (0: none), for 300 inputs and 100 outputs ---- */

static const struct { const char *kind, *more; double mean, deviation, bound; } inits[] = {
    { "zeros", "", 0, 0, 1e-30 }, { "ones", "", 1, 0, 1 }, { "constant", ", \"a\": -2.5", -2.5, 0, 2.5 },
    { "random_uniform", ", \"a\": -0.5, \"b\": 0.5", 0, 0.288675, 0.5 }, { "random_normal", ", \"a\": 1, \"b\": 0.2", 1, 0.2, 0 },
    { "truncated_normal", ", \"b\": 0.1", 0, 0.0879626, 0.2 },
    { "glorot_uniform", "", 0, 0.0707107, 0.122475 }, { "glorot_normal", "", 0, 0.0707107, 0.160774 },
    { "he_uniform", "", 0, 0.0816497, 0.141422 }, { "he_normal", "", 0, 0.0816497, 0.185646 },
    { "lecun_uniform", "", 0, 0.0577350, 0.100001 }, { "lecun_normal", "", 0, 0.0577350, 0.131272 },
};

START_TEST(initialisers)
{
    struct net *net = net_of(300);
    const struct weight *w;
    char options[200];
    double sum = 0, square = 0, most = 0, n;

    snprintf(options, sizeof options, "{\"units\": 100, \"kernel_initializer\": {\"kind\": \"%s\"%s}}", inits[_i].kind, inits[_i].more);
    net_chain(net, "dense", options, "d");
    net_init(net, 1);
    w = net_weight(net, "d/kernel:0");
    n = (double)w->len;
    for (size_t i = 0; i < w->len; i++) {
        double x = (double)w->x[i];

        sum += x;
        square += (x - inits[_i].mean) * (x - inits[_i].mean);
        most = fabs(x) > most ? fabs(x) : most;
    }
    ck_assert_double_eq_tol(sum / n, inits[_i].mean, 0.02 * inits[_i].deviation + 1e-9);
    ck_assert_double_eq_tol(sqrt(square / n), inits[_i].deviation, 0.02 * inits[_i].deviation + 1e-9);
    if (inits[_i].bound > 0)
        ck_assert(most <= inits[_i].bound && (inits[_i].deviation == 0 || most > 0.98 * inits[_i].bound));
    for (int i = 0; i < 100; i++)
        ck_assert(net_weight(net, "d/bias")->x[i] == 0);
    net_free(net);
}
END_TEST

static struct net *two_layers(void)
{
    struct net *net = net_of(6);

    net_chain(net, "dense", "{\"units\": 5}", "a");
    net_chain(net, "batch_norm", "", "n");
    net_chain(net, "dense", "{\"units\": 5}", "b");
    return net;
}

START_TEST(init_is_a_function_of_the_seed)
{
    struct net *a = two_layers(), *b = two_layers();

    net_init(a, 1), net_init(b, 2);
    ck_assert_mem_ne(a->weight[0].x, b->weight[0].x, a->weight[0].len * 4);
    b->weight[0].mask = mem_zalloc(b->weight[0].len, 1);
    net_init(b, 1);
    ck_assert_ptr_null(b->weight[0].mask);
    for (int w = 0; w < a->n_weights; w++)
        ck_assert_mem_eq(a->weight[w].x, b->weight[w].x, a->weight[w].len * 4);
    net_free(a), net_free(b);
}
END_TEST

/* ---- nets ---- */

START_TEST(counts_and_masks)
{
    struct net *net = net_of(784), *copy;
    struct net_size size;
    struct weight *w;

    net_chain(net, "dense", "{\"units\": 300}", "a");
    net_chain(net, "batch_norm", "", "n");
    net_chain(net, "dense", "{\"units\": 100, \"use_bias\": false}", "b");
    net_init(net, 1);
    net_count(net, &size);
    ck_assert_uint_eq(size.weights, 784 * 300 + 300 * 100);
    ck_assert_uint_eq(size.nonzero, size.weights);
    ck_assert_uint_eq(size.macs, size.weights);
    ck_assert_uint_eq(size.params, size.weights + 300 + 600);
    ck_assert_uint_eq(size.params_nonzero, size.weights + 300); /* bias and beta start at 0 */
    w = net_weight(net, "b/kernel");
    w->mask = mem_alloc(w->len);
    memset(w->mask, 1, w->len);
    memset(w->mask, 0, 1000);
    net_apply_masks(net);
    ck_assert_int_eq(net_clone(&copy, net, NULL), ERR_OK);
    net_free(net);
    net_count(copy, &size);
    ck_assert_uint_eq(size.nonzero, size.weights - 1000);
    ck_assert_uint_eq(size.macs_nonzero, size.weights - 1000);
    ck_assert_uint_eq(net_weight(copy, "b/kernel")->mask[1000], 1);
    ck_assert_ptr_null(net_weight(copy, "b/bias"));
    ck_assert_ptr_null(net_weight(copy, "b/kernel:1"));
    net_free(copy);
}
END_TEST

/* What net_add refuses, and that it leaves the net as it was. */
static enum err_code refused(struct net *net, const char *op, const char *options, const char *layer, int in, int n_in, struct err *e)
{
    struct plug_value conf = { .plug = &op_find(op)->plug };
    json_t *json = json_loads(options, 0, NULL);
    int inputs[12] = { 0 }, nodes = net->n_nodes, weights = net->n_weights;
    enum err_code rc;

    inputs[0] = in;
    ck_assert_int_eq(params_parse(conf.conf, conf.plug->conf_size, conf.plug->params, json, NULL), ERR_OK);
    json_decref(json);
    rc = net_add(net, op_of(conf.plug), &conf, layer, inputs, n_in, NULL, e);
    ck_assert(rc != ERR_OK && net->n_nodes == nodes && net->n_weights == weights && *e->msg);
    return rc;
}

START_TEST(refusals)
{
    struct net *net = net_of(4);
    struct plug_value conf = { .plug = &op_find("reshape")->plug };
    struct reshape_conf square = { { 2, { 2, -1 } } }, wrong = { { 2, { 3, -1 } } };
    struct err e;

    net_chain(net, "dense", "{\"units\": 3}", "a");
    net_chain(net, "relu", "", "a");
    net_chain(net, "dense", "{\"units\": 3}", "b");
    memcpy(conf.conf, &square, sizeof square);
    ck_assert_int_eq(net_add(net, op_find("reshape"), &conf, "square", (int[]){ 0 }, 1, NULL, NULL), ERR_OK);
    ck_assert_int_eq(net_output(net)->d[1], 2);
    memcpy(conf.conf, &wrong, sizeof wrong);
    ck_assert_int_eq(net_add(net, op_find("reshape"), &conf, "wrong", (int[]){ 0 }, 1, NULL, &e), ERR_INVALID);
    ck_assert_int_eq(refused(net, "dense", "{\"units\": 3}", "a", 0, 1, &e), ERR_INVALID);
    ck_assert_int_eq(refused(net, "conv2d", "{\"filters\": 3, \"kernel_height\": 1, \"kernel_width\": 1}", "c", 4, 1, &e), ERR_UNSUPPORTED);
    ck_assert_int_eq(refused(net, "dense", "{\"units\": 2000000000}", "c", 0, 1, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, "/units");
    ck_assert_int_eq(refused(net, "dense", "{\"units\": 3}", "c", 99, 1, &e), ERR_INVALID);
    ck_assert_int_eq(refused(net, "dense", "{\"units\": 3}", "c", 0, 2, &e), ERR_INVALID);
    ck_assert_int_eq(refused(net, "add", "{}", "c", 1, 2, &e), ERR_INVALID);
    ck_assert_int_eq(refused(net, "add", "{}", "c", 0, 9, &e), ERR_UNSUPPORTED);
    ck_assert_int_eq(refused(net, "input", "{}", "c", 0, 0, &e), ERR_INVALID);
    ck_assert_int_eq(refused(net, "batch_norm", "{\"axis\": 0}", "c", 1, 1, &e), ERR_UNSUPPORTED);
    ck_assert_str_eq(e.at, "/axis");
    ck_assert_int_eq(refused(net, "concatenate", "{\"axis\": 2}", "c", 0, 2, &e), ERR_INVALID);
    ck_assert_int_eq(refused(net, "relu", "{}", "a name that is so long that it does not fit into the field of a node, by far", 0, 1, &e), ERR_INVALID);
    net_free(net);
    ck_assert_int_eq(net_new(&net, &(struct shape){ 1, { 0 } }, NULL), ERR_INVALID);
}
END_TEST

/* Builds, clones and runs with the k-th allocation failing; false when all went through. */
static bool with_failure(long k)
{
    struct net *net = NULL, *copy = NULL;
    struct exec *x = NULL;
    struct team *team = NULL;
    struct plug_value dense = { .plug = &op_find("dense")->plug };
    json_t *options = json_pack("{s:i}", "units", 3);
    struct shape shape = { 1, { 4 } };
    enum err_code rc = params_parse(dense.conf, dense.plug->conf_size, dense.plug->params, options, NULL);
    bool fired;

    json_decref(options);
    ck_assert_int_eq(rc, ERR_OK);
    mem_fail_in = k;
    rc = net_new(&net, &shape, NULL);
    if (rc == ERR_OK)
        rc = net_add(net, op_of(dense.plug), &dense, "a", (int[]){ 0 }, 1, NULL, NULL);
    if (rc == ERR_OK)
        net->weight[0].mask = mem_zalloc(12, 1);
    if (rc == ERR_OK)
        rc = net->weight[0].mask ? net_clone(&copy, net, NULL) : ERR_NOMEM;
    if (rc == ERR_OK)
        rc = team_new(&team, 2, NULL);
    if (rc == ERR_OK)
        rc = exec_memory(copy, 8, EXEC_KEEP) == UINT64_MAX ? ERR_NOMEM : ERR_OK;
    if (rc == ERR_OK)
        rc = exec_new(&x, copy, 8, EXEC_KEEP, 1, team, NULL);
    fired = mem_fail_in == 0;
    mem_fail_in = 0;
    ck_assert_int_eq(rc, fired ? ERR_NOMEM : ERR_OK);
    ck_assert(!x == fired);
    exec_free(x);
    team_free(team);
    net_free(copy);
    net_free(net);
    return fired;
}

START_TEST(allocation_failures)
{
    long k = 1;

    while (with_failure(k))
        k++;
    ck_assert_int_gt(k, 15);
}
END_TEST

/* ---- dense and sparse ---- */

/* 40 inputs, two hidden layers; the mask of the first kernel keeps one number of `every`, that of the second all. */
static struct net *masked_net(size_t every)
{
    struct net *net = net_of(40);

    net_chain(net, "dense", "{\"units\": 30}", "one");
    net_chain(net, "relu", "", "one");
    net_chain(net, "dense", "{\"units\": 20}", "two");
    net_init(net, 1);
    for (int w = 0; w < net->n_weights; w++) {
        struct weight *weight = &net->weight[w];

        weight->mask = weight->info.prunable ? mem_alloc(weight->len) : NULL;
        for (size_t i = 0; weight->mask && i < weight->len; i++)
            weight->mask[i] = w > 0 || i % every == 0;
    }
    net_apply_masks(net);
    return net;
}

START_TEST(packs_by_the_masks)
{
    struct net *net = masked_net(6), *copy;
    struct exec *x;
    float dense[20 * 32];

    ck_assert_int_eq(exec_new(&x, net, 32, EXEC_INFER, 0, NULL, NULL), ERR_OK);
    fill_normal(exec_input(x), 40 * 32, 3);
    exec_forward(x, 32, false, 0);
    memcpy(dense, exec_value(x, 3), sizeof dense);
    ck_assert_int_eq(net_pack(net, 32, NULL), ERR_OK);
    ck_assert(net->weight[0].sparse && !net->weight[1].sparse && !net->weight[2].sparse);
    ck_assert(weight_n_values(&net->weight[0]) == 200 && weight_values(&net->weight[2]) == net->weight[2].x);
    fill_normal(exec_input(x), 40 * 32, 3);
    exec_forward(x, 32, false, 0); /* an exec for inference follows */
    for (int i = 0; i < 20 * 32; i++)
        ck_assert_float_eq_tol(exec_value(x, 3)[i], dense[i], 1e-5f);
    weight_values(&net->weight[0])[sparse_number(&net->weight[0].sparse->by_row, 1)] = 7;
    net->ahead = true;
    net_sync(net);
    ck_assert(net->weight[0].x[6] == 7 && !net->ahead);
    ck_assert_int_eq(net_clone(&copy, net, NULL), ERR_OK);
    ck_assert(!copy->weight[0].sparse && copy->weight[0].x[6] == 7);
    memset(net->weight[0].mask, 1, net->weight[0].len);
    ck_assert_int_eq(net_pack(net, 32, NULL), ERR_OK); /* dense again */
    ck_assert(!net->weight[0].sparse && net->weight[0].x[6] == 7);
    exec_free(x);
    net_free(copy);
    net_free(net);
}
END_TEST

/* One sample at a time: sparse where a batch is not, with the form made for it; what trains has none. */
START_TEST(packs_for_single_samples)
{
    struct net *net = masked_net(6);
    struct exec *x;
    float dense[20];

    ck_assert_int_eq(exec_new(&x, net, 1, EXEC_INFER, 0, NULL, NULL), ERR_OK);
    fill_normal(exec_input(x), 40, 3);
    exec_forward(x, 1, false, 0);
    memcpy(dense, exec_value(x, 3), sizeof dense);
    ck_assert_int_eq(net_pack_forward(net, 1, NULL), ERR_OK);
    fill_normal(exec_input(x), 40, 3);
    exec_forward(x, 1, false, 0);
    for (int i = 0; i < 20; i++)
        ck_assert_float_eq_tol(exec_value(x, 3)[i], dense[i], 1e-5f);
    ck_assert_int_eq(net_pack(net, 1, NULL), ERR_OK);
    ck_assert(!net->weight[0].sparse || !net->weight[0].sparse->single);
    exec_free(x);
    net_free(net);
}
END_TEST

START_TEST(packing_survives_every_failing_allocation)
{
    struct net *net = masked_net(6);
    bool fired = true;

    for (long k = 1; fired; k++) {
        enum err_code rc;

        mem_fail_in = k;
        rc = net_pack_forward(net, 32, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert(rc == (fired ? ERR_NOMEM : ERR_OK) && (net->weight[0].sparse == NULL) == fired);
    }
    ck_assert_uint_gt(net_pack_memory(net), sparse_memory(30, 40, 200) + sparse_memory(20, 30, 0));
    net_init(net, 2);
    ck_assert(!net->weight[0].sparse && !net->weight[0].mask);
    net_free(net);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "net");

    gemm_init();
    tcase_add_loop_test(tc, initialisers, 0, sizeof inits / sizeof inits[0]);
    tcase_add_test(tc, init_is_a_function_of_the_seed);
    tcase_add_test(tc, counts_and_masks);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, allocation_failures);
    tc = suite_case(s, "dense and sparse");
    tcase_add_test(tc, packs_by_the_masks);
    tcase_add_test(tc, packs_for_single_samples);
    tcase_add_test(tc, packing_survives_every_failing_allocation);
}
SUITE_MAIN("net", cases)
