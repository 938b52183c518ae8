/* Batch norm folded into convolutions; norms behind dense layers are test_finish.c's. */
#include "core/fold.h"

#include "core/compare.h"
#include "core/gemm.h"
#include "core/mem.h"
#include "tests/core/shrink_fixture.h"

/* Anything, with variances and scales above 0, and 40 % zeros in kernels. */
static void fill(struct net *net)
{
    for (int i = 0; i < net->n_weights; i++) {
        struct weight *w = &net->weight[i];
        const struct rng r = { 5, RNG_TEST, (uint32_t)i, 0 };

        for (size_t k = 0; k < w->len; k++) {
            w->x[k] = 0.3f * (float)rng_normal(&r, k);
            if (w->info.prunable && k * 7919 % 10 < 4)
                w->x[k] = 0;
            if (strstr(w->name, "variance") || strstr(w->name, "gamma"))
                w->x[k] = 0.2f + fabsf(w->x[k]);
        }
    }
}

/* Behind convolutions of every kind, at the end of a chain and of a branch; not behind an activation. */
START_TEST(folds_what_follows_a_convolution)
{
    struct sketch s = sketch_of_shape("8, 8, 3");
    struct model m;
    struct comparison c;
    struct net *before;
    int n;

    add_layer(&s, "Conv2D", "a", "{\"filters\": 8, \"kernel_size\": [3, 3], \"padding\": \"same\", \"use_bias\": false}", "in", NULL);
    add_layer(&s, "BatchNormalization", "a_norm", "{}", "a", NULL);
    add_layer(&s, "ReLU", "a_relu", "{}", "a_norm", NULL);
    add_layer(&s, "DepthwiseConv2D", "d", "{\"kernel_size\": 3, \"depth_multiplier\": 2, \"padding\": \"same\"}", "a_relu", NULL);
    add_layer(&s, "BatchNormalization", "d_norm", "{\"scale\": false}", "d", NULL);
    add_layer(&s, "SeparableConv2D", "s", "{\"filters\": 8, \"kernel_size\": 3, \"padding\": \"same\", \"use_bias\": false}", "d_norm", NULL);
    add_layer(&s, "BatchNormalization", "s_norm", "{\"center\": false}", "s", NULL);
    add_layer(&s, "Add", "sum", "{}", "s_norm", "a_relu");
    add_layer(&s, "Conv2D", "b", "{\"filters\": 4, \"kernel_size\": 3, \"groups\": 2, \"activation\": \"relu\"}", "sum", NULL);
    add_layer(&s, "BatchNormalization", "stays", "{}", "b", NULL);
    add_layer(&s, "Reshape", "flat", "{\"target_shape\": [36, 4]}", "stays", NULL);
    add_layer(&s, "Conv1D", "c", "{\"filters\": 5, \"kernel_size\": 4, \"strides\": 2}", "flat", NULL);
    add_layer(&s, "BatchNormalization", "c_norm", "{}", "c", NULL);
    add_layer(&s, "GlobalAveragePooling1D", "mean", "{}", "c_norm", NULL);
    add_layer(&s, "Dense", "out", "{\"units\": 3}", "mean", NULL);
    m = model_of(&s);
    fill(m.net);
    ck_assert_int_eq(net_clone(&before, m.net, NULL), ERR_OK);
    ck_assert_int_eq(fold_batch_norm(&m, &n, NULL), ERR_OK);
    ck_assert_int_eq(n, 4);
    ck_assert_ptr_null(config_of(&m, "s_norm"));
    ck_assert(net_weight(m.net, "a/bias") && net_weight(m.net, "s/bias") && net_weight(m.net, "stays/gamma") && !net_weight(m.net, "c_norm/gamma"));
    ck_assert_int_eq(compare_nets(&c, before, m.net, NULL, NULL, NULL), ERR_OK);
    ck_assert_msg(c.largest > 0 && compare_relative(&c) < 1e-5, "%g", compare_relative(&c));
    for (int w = 0; w < m.net->n_weights; w++)
        for (size_t k = 0; k < m.net->weight[w].len && m.net->weight[w].info.prunable; k++)
            ck_assert_msg(net_weight(before, m.net->weight[w].name)->x[k] != 0 || m.net->weight[w].x[k] == 0, "a zero of %s is gone", m.net->weight[w].name);
    net_free(before);
    model_clear(&m);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "fold");

    gemm_init();
    json_set_alloc_funcs(mem_alloc, mem_free);
    tcase_add_test(tc, folds_what_follows_a_convolution);
}
SUITE_MAIN("fold", cases)
