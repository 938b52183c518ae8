/* Ops that do the work of those behind them (core/exec_plan.h): residual blocks of several kinds give what an exec gives that keeps every value apart, forward
 * and backward, for any number of threads, and their gradients are those of finite differences. */
#include "core/exec.h"

#include "core/conv.h"
#include "core/gemm.h"
#include "core/mem.h"
#include "core/winograd.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

enum { C = 16, SIDE = 6, CLASSES = 3, MAX_N = 33 };

/* ---- nets: two blocks of a kind, so that gradients come from two sides ---- */

static int conv(struct net *net, const char *layer, int at, int filters, int side)
{
    char options[160];

    snprintf(options, sizeof options, "{\"filters\": %d, \"kernel_height\": %d, \"kernel_width\": %d, \"padding\": \"same\", \"use_bias\": %s}", filters, side, side,
             at % 2 ? "true" : "false");
    return net_with(net, "conv2d", options, layer, at, -1);
}
static int norm(struct net *net, const char *layer, int at, const char *options) { return net_with(net, "batch_norm", options, layer, at, -1); }
static int relu(struct net *net, const char *layer, int at) { return net_with(net, "relu", "", layer, at, -1); }
static int sum(struct net *net, const char *layer, int a, int b) { return net_with(net, "add", "", layer, a, b); }

#define NAMES() char name[8][24]; \
    for (int i = 0; i < 8; i++) \
        snprintf(name[i], sizeof name[i], "%c%d", 'a' + i, at)

static int identity(struct net *net, int at)
{
    NAMES();
    int a = relu(net, name[0], norm(net, name[0], conv(net, name[0], at, 12, 3), ""));

    return relu(net, name[2], sum(net, name[2], norm(net, name[1], conv(net, name[1], a, C, 3), ""), at));
}

/* The other way is a convolution too, which comes last. */
static int projection(struct net *net, int at)
{
    NAMES();
    int a = norm(net, name[0], conv(net, name[0], at, C, 3), ""), b = norm(net, name[1], conv(net, name[1], at, C, 1), "");

    return relu(net, name[2], sum(net, name[2], a, b));
}

/* Its sum goes on as it is, to two. */
static int before_activation(struct net *net, int at)
{
    NAMES();
    int a = relu(net, name[0], norm(net, name[0], at, ""));

    return sum(net, name[2], at, norm(net, name[1], conv(net, name[1], a, C, 3), ""));
}

/* A sum of sums: a gradient that several have. */
static int sums(struct net *net, int at)
{
    NAMES();
    int a = norm(net, name[0], conv(net, name[0], at, C, 3), ""), b = norm(net, name[1], conv(net, name[1], at, C, 1), "");
    int c = sum(net, name[2], sum(net, name[3], a, at), b);

    return relu(net, name[4], sum(net, name[4], norm(net, name[5], conv(net, name[5], c, C, 1), "{\"center\": false}"), c));
}

/* What is added is read by a third, and the norm learns nothing. */
static int third(struct net *net, int at)
{
    NAMES();
    int a = norm(net, name[0], conv(net, name[0], at, C, 3), "{\"center\": false, \"scale\": false}"), b = relu(net, name[1], sum(net, name[1], a, at));

    return sum(net, name[2], net_with(net, "tanh", "", name[2], b, -1), at);
}

static int without_norm(struct net *net, int at)
{
    NAMES();

    return relu(net, name[1], sum(net, name[1], at, conv(net, name[0], at, C, 3)));
}

static int depthwise(struct net *net, int at)
{
    NAMES();
    int a = net_with(net, "depthwise_conv2d", "{\"kernel_height\": 3, \"kernel_width\": 3, \"padding\": \"same\"}", name[0], at, -1);

    return sum(net, name[1], norm(net, name[0], a, ""), at);
}

/* In groups, and the norm's relu behind a view. */
static int viewed(struct net *net, int at)
{
    NAMES();
    int a = net_with(net, "conv2d", "{\"filters\": 16, \"kernel_height\": 3, \"kernel_width\": 3, \"padding\": \"same\", \"groups\": 4}", name[0], at, -1);

    return relu(net, name[2], net_with(net, "linear", "", name[1], sum(net, name[1], norm(net, name[0], a, ""), at), -1));
}

static const struct { const char *name; int (*block)(struct net *net, int at); } kinds[] = {
    { "identity", identity }, { "projection", projection }, { "before activation", before_activation }, { "sums", sums },
    { "third", third }, { "without norm", without_norm }, { "depthwise", depthwise }, { "viewed", viewed },
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static struct net *net_of_kind(int kind)
{
    struct net *net = net_of_image(C, SIDE, SIDE);
    int at = kinds[kind].block(net, kinds[kind].block(net, 0)); /* the first one adds the input, which has no gradient */

    at = net_with(net, "global_average_pool", "", "pool", relu(net, "last", conv(net, "last", at, C, 1)), -1);
    net_with(net, "softmax", "", "out", net_with(net, "dense", "{\"units\": 3}", "out", at, -1), -1);
    net_init(net, 5);
    for (int w = 0; w < net->n_weights; w++) /* norms that do something */
        if (!net->weight[w].info.prunable) {
            fill_normal(net->weight[w].x, net->weight[w].len, 50 + (uint32_t)w);
            for (size_t i = 0; i < net->weight[w].len; i++)
                net->weight[w].x[i] = strcmp(net->weight[w].info.name, "moving_variance") == 0 ? 0.2f + fabsf(net->weight[w].x[i]) : 0.3f + 0.4f * net->weight[w].x[i];
        }
    return net;
}

static struct exec *exec_for(struct net *net, enum exec_kind kind, struct team *team)
{
    struct exec *x;
    struct err e = { 0 };

    net_must(exec_new(&x, net, MAX_N, kind, 1, team, &e), "exec", &e);
    return x;
}

static void forward(struct exec *x, int n, bool training)
{
    fill_normal(exec_input(x), (size_t)(C * SIDE * SIDE * n), (uint32_t)n);
    exec_forward(x, n, training, 0);
}

#define CLOSE 2e-5 /* of the largest number: sums are rounded in another order */
static void same_numbers(const char *what, int n, const float *want, const float *got, size_t len, double bound)
{
    double size = 1e-3;

    for (size_t i = 0; i < len; i++)
        size = fmax(size, fabs((double)want[i]));
    for (size_t i = 0; i < len; i++)
        ck_assert_msg(fabs((double)want[i] - (double)got[i]) <= bound * size, "%s, %d samples: number %zu is %g, not %g", what, n, i, (double)got[i], (double)want[i]);
}

static const int batches[] = { 32, MAX_N, 5 }; /* Winograd's products, direct ones, outputs that are staged */
enum { N_BATCHES = 3 };

/* ---- forward ---- */

static void compare_values(struct net *net, const char *what, double bound)
{
    struct exec *keep = exec_for(net, EXEC_KEEP, NULL), *infer = exec_for(net, EXEC_INFER, NULL);

    for (int b = 0; b < N_BATCHES; b++) {
        const int n = batches[b];

        forward(keep, n, false);
        forward(infer, n, false);
        same_numbers(what, n, exec_value(keep, net->n_nodes - 1), exec_value(infer, net->n_nodes - 1), (size_t)(CLASSES * n), bound);
        for (int i = 1; i < net->n_nodes; i++) /* what a norm reads is there for whoever runs so far (core/calibrate.c) */
            if (net->node[i].op == op_find("batch_norm")) {
                const int from = net->node[i].in[0];

                fill_normal(exec_input(infer), (size_t)(C * SIDE * SIDE * n), (uint32_t)n);
                exec_forward_to(infer, n, from);
                same_numbers(net->node[from].layer, n, exec_value(keep, from), exec_value(infer, from), shape_len(&net->node[from].plan.out) * (size_t)n,
                             bound);
            }
        forward(keep, n, true);
        forward(infer, n, true);
        same_numbers("with statistics of the batch", n, exec_value(keep, net->n_nodes - 1), exec_value(infer, net->n_nodes - 1), (size_t)(CLASSES * n), bound);
    }
    exec_free(keep);
    exec_free(infer);
}

START_TEST(predictions)
{
    struct net *net = net_of_kind(_i);
    const struct rng r = { 5, RNG_TEST, 6, 0 };

    for (conv_skip_levels = 0; conv_skip_levels < conv_n_levels(); conv_skip_levels++) {
        winograd_skip_levels = conv_skip_levels;
        compare_values(net, kinds[_i].name, CLOSE);
    }
    conv_skip_levels = winograd_skip_levels = 0;
    for (int w = 0; w < net->n_weights; w++)
        if (net->weight[w].info.prunable) {
            net->weight[w].mask = mem_alloc(net->weight[w].len);
            for (size_t i = 0; i < net->weight[w].len; i++)
                net->weight[w].mask[i] = rng_unit(&r, i + 10000 * (size_t)w) < 0.15;
        }
    net_apply_masks(net);
    ck_assert_int_eq(net_pack(net, 128, NULL), ERR_OK);
    ck_assert(net_weight(net, "last/kernel")->sparse);
    compare_values(net, "sparse", CLOSE);
    net_free(net);
}
END_TEST

/* Kernels in integers, all or every other one: these do no tail's work, which then runs in place. Behind one in floats a rounding may move a number by a
 * step of the next one's input. */
static void set_int8(struct net *net, int every, struct int8_scale input)
{
    for (int w = 0, k = 0; w < net->n_weights; w++) {
        struct weight *kernel = &net->weight[w];
        const int rows = weight_axis(kernel, 0), cols = (int)(kernel->len / (size_t)rows);
        int8_t *q;
        float *scale;

        if (!net_can_int8(net, kernel) || k++ % every != 0)
            continue;
        q = mem_alloc(kernel->len);
        scale = mem_vector((size_t)rows);
        for (int r = 0; r < rows; r++) {
            scale[r] = int8_row_scale(kernel->x + (size_t)r * (size_t)cols, cols);
            int8_row(q + (size_t)r * (size_t)cols, kernel->x + (size_t)r * (size_t)cols, scale[r], cols);
        }
        ck_assert_int_eq(net_set_int8(net, kernel, q, scale, input, NULL), ERR_OK);
        mem_free(q);
        mem_free(scale);
    }
}

START_TEST(predictions_in_integers)
{
    static const struct int8_scale inputs[] = { { 0, 0 }, { 0.04f, 128 } };

    for (int k = 0; k < 4; k++) {
        struct net *net = net_of_kind(_i);

        set_int8(net, 1 + k % 2, inputs[k / 2]);
        for (int8_skip_levels = 0; int8_skip_levels < int8_n_levels(); int8_skip_levels++)
            compare_values(net, kinds[_i].name, k % 2 ? 0.02 : CLOSE);
        int8_skip_levels = 0;
        net_free(net);
    }
}
END_TEST

/* ---- backward ---- */

static void backward(struct exec *x, int n, int from, bool accumulate)
{
    forward(x, n, true);
    fill_normal(exec_grad(x, from), (size_t)(CLASSES * n), 2);
    exec_backward(x, from, accumulate, NULL, NULL);
}

START_TEST(gradients)
{
    struct net *net = net_of_kind(_i);
    struct exec *keep = exec_for(net, EXEC_KEEP, NULL), *train = exec_for(net, EXEC_TRAIN, NULL);

    for (int b = 0; b < N_BATCHES; b++)
        for (int from = net->n_nodes - 1; from >= net->n_nodes - 2; from--)
            for (int accumulate = 0; accumulate < 2; accumulate++) {
                backward(keep, batches[b], from, accumulate);
                backward(train, batches[b], from, accumulate);
                for (int w = 0; w < net->n_weights; w++)
                    if (exec_dw(keep, w))
                        same_numbers(net->weight[w].name, batches[b], exec_dw(keep, w), exec_dw(train, w), net->weight[w].len, CLOSE);
            }
    ck_assert_uint_lt(exec_memory(net, MAX_N, EXEC_TRAIN), exec_memory(net, MAX_N, EXEC_KEEP));
    exec_free(keep);
    exec_free(train);
    net_free(net);
}
END_TEST

static double objective(struct exec *x, const struct net *net, const float *coefficient)
{
    double total = 0;

    forward(x, MAX_N, true);
    for (int i = 0; i < CLASSES * MAX_N; i++)
        total += (double)coefficient[i] * (double)exec_value(x, net->n_nodes - 2)[i];
    return total;
}

/* Along a direction of each weight; a relu that turns on the way is why not every one is exact. */
START_TEST(finite_differences)
{
    struct net *net = net_of_kind(_i);
    struct exec *x = exec_for(net, EXEC_TRAIN, NULL);
    const int from = net->n_nodes - 2;
    float coefficient[CLASSES * MAX_N];

    fill_normal(coefficient, CLASSES * MAX_N, 2);
    for (int w = 0; w < net->n_weights; w++) {
        const size_t len = net->weight[w].len;
        float *kept = mem_alloc(len * sizeof *kept), *along = mem_alloc(len * sizeof *along);
        double slope = 0, length = 0, value[2];

        forward(x, MAX_N, true);
        memcpy(exec_grad(x, from), coefficient, sizeof coefficient);
        exec_backward(x, from, false, NULL, NULL);
        for (size_t i = 0; i < len && exec_dw(x, w); i++) {
            along[i] = exec_dw(x, w)[i];
            length += (double)along[i] * (double)along[i];
        }
        memcpy(kept, net->weight[w].x, len * sizeof *kept);
        for (int s = 0; s < 2 && length > 1e-4; s++) {
            for (size_t i = 0; i < len; i++)
                net->weight[w].x[i] = kept[i] + (s ? 1 : -1) * 2e-3f * along[i] / (float)sqrt(length);
            value[s] = objective(x, net, coefficient);
        }
        memcpy(net->weight[w].x, kept, len * sizeof *kept);
        slope = length > 1e-4 ? (value[1] - value[0]) / 4e-3 : 0;
        ck_assert_msg(length <= 1e-4 || fabs(slope - sqrt(length)) <= 0.03 * sqrt(length) + 0.02, "%s, %s: %g, not %g", kinds[_i].name, net->weight[w].name,
                      sqrt(length), slope);
        mem_free(kept);
        mem_free(along);
    }
    exec_free(x);
    net_free(net);
}
END_TEST

START_TEST(any_team)
{
    struct net *net = net_of_kind(_i);
    struct exec *alone[2] = { exec_for(net, EXEC_TRAIN, NULL), exec_for(net, EXEC_INFER, NULL) };

    for (int threads = 2; threads <= 4; threads += 2) {
        struct team *team;
        struct exec *many[2];

        ck_assert_int_eq(team_new(&team, threads, NULL), ERR_OK);
        many[0] = exec_for(net, EXEC_TRAIN, team);
        many[1] = exec_for(net, EXEC_INFER, team);
        backward(alone[0], MAX_N, net->n_nodes - 1, false);
        backward(many[0], MAX_N, net->n_nodes - 1, false);
        for (int w = 0; w < net->n_weights; w++)
            ck_assert(!exec_dw(alone[0], w) || memcmp(exec_dw(alone[0], w), exec_dw(many[0], w), net->weight[w].len * sizeof(float)) == 0);
        for (int x = 0; x < 2; x++)
            forward(x ? many[1] : alone[1], MAX_N, false);
        ck_assert_mem_eq(exec_value(alone[1], net->n_nodes - 1), exec_value(many[1], net->n_nodes - 1), CLASSES * MAX_N * sizeof(float));
        exec_free(many[0]);
        exec_free(many[1]);
        team_free(team);
    }
    exec_free(alone[0]);
    exec_free(alone[1]);
    net_free(net);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "joined ops");

    gemm_init();
    tcase_add_loop_test(tc, predictions, 0, N_KINDS);
    tcase_add_loop_test(tc, predictions_in_integers, 0, N_KINDS);
    tcase_add_loop_test(tc, gradients, 0, N_KINDS);
    tcase_add_loop_test(tc, finite_differences, 0, N_KINDS);
    tcase_add_loop_test(tc, any_team, 0, N_KINDS);
}
SUITE_MAIN("joined ops", cases)
