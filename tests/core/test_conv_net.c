/* Convolutions before they run, and in nets: which shapes are refused and by which option, what a plan says, masked kernels that run sparse. Their products:
 * test_conv.c. */
#include "core/conv.h"
#include "core/winograd.h"
#include "tests/core/op_fixture.h"

/* ---- plans ---- */

static const struct { const char *op, *options; struct shape in; enum err_code rc; const char *at; } refused[] = {
    { "conv2d", "{\"filters\": 4, \"kernel_height\": 3, \"kernel_width\": 3}", { 1, { 9 } }, ERR_UNSUPPORTED, "" },
    { "conv1d", "{\"filters\": 4, \"kernel_size\": 3}", { 3, { 2, 9, 9 } }, ERR_UNSUPPORTED, "" },
    { "depthwise_conv2d", "{\"kernel_height\": 3, \"kernel_width\": 3}", { 2, { 2, 9 } }, ERR_UNSUPPORTED, "" },
    { "conv2d", "{\"filters\": 4, \"kernel_height\": 10, \"kernel_width\": 3}", { 3, { 2, 9, 9 } }, ERR_INVALID, "/kernel_height" },
    { "conv2d", "{\"filters\": 4, \"kernel_height\": 3, \"kernel_width\": 3, \"dilation_width\": 5}", { 3, { 2, 9, 9 } }, ERR_INVALID, "/kernel_width" },
    { "conv1d", "{\"filters\": 4, \"kernel_size\": 10}", { 2, { 2, 9 } }, ERR_INVALID, "/kernel_size" },
    { "conv2d", "{\"filters\": 4, \"kernel_height\": 3, \"kernel_width\": 3, \"groups\": 2}", { 3, { 3, 9, 9 } }, ERR_INVALID, "/groups" },
    { "conv1d", "{\"filters\": 3, \"kernel_size\": 3, \"groups\": 2}", { 2, { 2, 9 } }, ERR_INVALID, "/groups" },
    { "conv2d", "{\"filters\": 4, \"kernel_height\": 65536, \"kernel_width\": 3, \"dilation_height\": 65536, \"padding\": \"same\"}", { 3, { 2, 9, 9 } },
      ERR_UNSUPPORTED, "/kernel_height" },
    { "conv2d", "{\"filters\": 2147483647, \"kernel_height\": 3, \"kernel_width\": 3}", { 3, { 2, 9, 9 } }, ERR_INVALID, "/filters" },
    { "conv2d", "{\"filters\": 100000000, \"kernel_height\": 1, \"kernel_width\": 1}", { 3, { 2, 9, 9 } }, ERR_INVALID, "/filters" },
    { "depthwise_conv2d", "{\"kernel_height\": 65536, \"kernel_width\": 65536, \"padding\": \"same\"}", { 3, { 2, 9, 9 } }, ERR_INVALID,
      "/depth_multiplier" },
    { "depthwise_conv2d", "{\"kernel_height\": 3, \"kernel_width\": 3, \"depth_multiplier\": 2147483647}", { 3, { 2, 9, 9 } }, ERR_INVALID,
      "/depth_multiplier" },
};

START_TEST(shapes_refused)
{
    struct rig l;
    struct err e = { 0 };

    ck_assert_int_eq(shape_of(&l, refused[_i].op, refused[_i].options, &refused[_i].in, 1, &e), refused[_i].rc);
    ck_assert_str_eq(e.at, refused[_i].at);
    ck_assert(*e.msg);
}
END_TEST

/* fan_in and fan_out as Keras counts them. */
START_TEST(plans)
{
    struct rig l;

    ck_assert_int_eq(shape_of(&l, "conv2d", "{\"filters\": 8, \"kernel_height\": 3, \"kernel_width\": 5, \"groups\": 2}", &(struct shape){ 3, { 4, 9, 9 } }, 1,
                                 NULL), ERR_OK);
    ck_assert(l.plan.weight[0].fan_in == 2 * 15 && l.plan.weight[0].fan_out == 8 * 15 && l.plan.neurons == NEURONS_MIX);
    ck_assert_int_eq(shape_of(&l, "depthwise_conv2d", "{\"depth_multiplier\": 2, \"kernel_height\": 3, \"kernel_width\": 5}",
                                 &(struct shape){ 3, { 4, 9, 9 } }, 1, NULL), ERR_OK);
    ck_assert(l.plan.weight[0].fan_in == 4 * 15 && l.plan.weight[0].fan_out == 2 * 15 && l.plan.weight[0].prunable && l.plan.weight[0].decayed);
    ck_assert_int_eq(shape_of(&l, "conv1d", "{\"filters\": 8, \"kernel_size\": 3}", &(struct shape){ 2, { 4, 9 } }, 1, NULL), ERR_OK);
    ck_assert(l.plan.weight[0].shape.n_d == 3 && l.plan.weight[0].fan_in == 12 && l.plan.neurons == NEURONS_MAKE);
    ck_assert(l.plan.sparse_density > 0 && l.plan.sparse_density <= SPARSE_MAX_DENSITY);
}
END_TEST

/* The memory that Winograd's transforms take is there whenever they may be chosen: for some batch, of images so large that a large batch of them is not
 * even counted. */
START_TEST(plans_have_memory_for_every_batch)
{
    static const struct winograd_shape huge = { .c = 16, .o = 16, .h = 4096, .w = 4096, .n = 16, .pad_top = 1, .pad_left = 1, .pad_bottom = 1,
                                                 .pad_right = 1 };
    struct rig l;

    ck_assert_int_eq(shape_of(&l, "conv2d", "{\"filters\": 16, \"kernel_height\": 3, \"kernel_width\": 3, \"padding\": \"same\"}",
                                 &(struct shape){ 3, { 16, 4096, 4096 } }, 1, NULL), ERR_OK);
    ck_assert(winograd_pays(&huge, WINOGRAD_FORWARD));
    ck_assert_uint_ge(l.plan.state_len, winograd_shared_len(&huge));
    ck_assert_uint_ge(l.plan.scratch_len, winograd_scratch_len(&huge));
}
END_TEST

/* ---- in a net ---- */

/* Masks a share of a weight's numbers. */
static void mask_share(struct weight *w, double density)
{
    const struct rng r = { 5, RNG_TEST, 6, 0 };

    w->mask = mem_alloc(w->len);
    for (size_t i = 0; i < w->len; i++)
        w->mask[i] = rng_unit(&r, i) < density;
}

static void run_net(struct net *net, float *dw, float *y, size_t n_y)
{
    struct exec *x;
    const int last = net->n_nodes - 1;

    ck_assert_int_eq(exec_new(&x, net, 32, EXEC_TRAIN, 1, NULL, NULL), ERR_OK);
    fill_normal(exec_input(x), shape_len(net_input(net)) * 32, 1);
    exec_forward(x, 32, true, 0);
    memcpy(y, exec_value(x, last), n_y * sizeof *y);
    fill_normal(exec_grad(x, last), n_y, 2);
    exec_backward(x, last, false, NULL, NULL);
    for (size_t i = 0, k = 0; i < net->weight[0].len; i++) /* of the kept numbers */
        if (net->weight[0].mask[i])
            dw[i] = exec_dw(x, 0)[net->weight[0].sparse ? k++ : i];
    exec_free(x);
}

/* Masked kernels of images and of sequences run sparse once net_pack finds that it pays; those of groups and depthwise ones never do. */
START_TEST(masked_kernels_run_sparse)
{
    static float dw[2][3 * 6 * 25], y[2][3 * 32];
    const struct shape image = { 3, { 3, 12, 12 } };
    struct net *net;

    ck_assert_int_eq(net_new(&net, &image, NULL), ERR_OK);
    net_chain(net, "conv2d", "{\"filters\": 6, \"kernel_height\": 5, \"kernel_width\": 5}", "a");
    net_chain(net, "relu", "", "a");
    net_chain(net, "conv2d", "{\"filters\": 6, \"kernel_height\": 3, \"kernel_width\": 3, \"groups\": 2}", "b");
    net_chain(net, "depthwise_conv2d", "{\"kernel_height\": 3, \"kernel_width\": 3}", "c");
    net_chain(net, "reshape", "", "d");
    net_chain(net, "dense", "{\"units\": 3}", "e");
    net_init(net, 1);
    for (int w = 0; w < net->n_weights; w++)
        if (net->weight[w].info.prunable)
            mask_share(&net->weight[w], 0.1);
    net_apply_masks(net);
    run_net(net, dw[0], y[0], 3 * 32);
    ck_assert_int_eq(net_pack(net, 32, NULL), ERR_OK);
    ck_assert(net_weight(net, "a/kernel")->sparse && !net_weight(net, "b/kernel")->sparse && !net_weight(net, "c/kernel")->sparse);
    run_net(net, dw[1], y[1], 3 * 32);
    for (int i = 0; i < 3 * 32; i++)
        ck_assert_float_eq_tol(y[0][i], y[1][i], 1e-5f);
    for (size_t i = 0; i < net->weight[0].len; i++)
        ck_assert(fabsf(dw[0][i] - dw[1][i]) <= 1e-4f * (1 + fabsf(dw[0][i])));
    net_free(net);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "convolutions in nets");

    gemm_init();
    tcase_add_loop_test(tc, shapes_refused, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(tc, plans);
    tcase_add_test(tc, plans_have_memory_for_every_batch);
    tcase_add_test(tc, masked_kernels_run_sparse);
}
SUITE_MAIN("convolutions in nets", cases)
