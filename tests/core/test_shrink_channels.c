/* Shrinking of channels: by hand for padding, depthwise kernels, residual sums and flattened images; and for random graphs of convolutions, that the
 * smaller model computes the same; or, shrunk approximately, nearly the same where an image has no edges. */
#include "core/gemm.h"
#include "core/mem.h"
#include "tests/core/shrink_fixture.h"

#define CONV(filters, side, more) "{\"filters\": " #filters ", \"kernel_size\": [" #side ", " #side "]" more "}"
#define SAME ", \"padding\": \"same\""
#define NO_BIAS ", \"use_bias\": false"

static void zero(const struct net *net, const char *name, size_t first, size_t n)
{
    memset(net_weight(net, name)->x + first, 0, n * sizeof(float));
}

static int filters(const struct model *m, const char *layer) { return (int)json_integer_value(json_object_get(config_of(m, layer), "filters")); }

/* ---- by hand ---- */

/* Channel 1 is 0.5 everywhere. What a convolution without padding reads of it, or a dense layer behind the mean, goes into their biases. */
START_TEST(constants_fold_without_padding)
{
    struct sketch s = sketch_of_shape("5, 5, 2");
    struct model m, small;
    const struct weight *w;
    json_t *report;
    double sum = 0;

    add_layer(&s, "Conv2D", "a", CONV(3, 3, ", \"activation\": \"relu\""), "in", NULL);
    add_layer(&s, "Conv2D", "b", CONV(4, 2, NO_BIAS), "a", NULL);
    add_layer(&s, "GlobalAveragePooling2D", "mean", "{}", "b", NULL);
    add_layer(&s, "Dense", "out", "{\"units\": 3}", "mean", NULL);
    m = model_of(&s);
    zero(m.net, "a/kernel", 18, 18);
    net_weight(m.net, "a/bias")->x[1] = 0.5f;
    w = net_weight(m.net, "b/kernel");
    for (int i = 0; i < 4; i++)
        sum += (double)w->x[12 * 2 + 4 + i]; /* row 2 */
    small = shrunk(&m, &report);
    ck_assert(filters(&small, "a") == 2 && filters(&small, "b") == 4);
    ck_assert(fabs((double)net_weight(small.net, "b/bias")->x[2] - 0.5 * sum) < 1e-6);
    ck_assert(figure(report, "neurons_removed") == 1 && figure(report, "constants_folded") == 1 && figure(report, "biases_added") == 1);
    json_decref(report);
    shrinks_soundly(&m, 0, 1e-6f);
    model_clear(&small);
    model_clear(&m);
}
END_TEST

/* With padding it is no constant at the edges: it stays, unless it is 0. */
START_TEST(constants_stay_where_zeros_are_padded)
{
    struct sketch s = sketch_of_shape("5, 5, 2");
    struct model m, small;

    add_layer(&s, "Conv2D", "a", CONV(3, 3, ", \"activation\": \"relu\""), "in", NULL);
    add_layer(&s, "Conv2D", "b", CONV(4, 3, SAME), "a", NULL);
    add_layer(&s, "GlobalAveragePooling2D", "mean", "{}", "b", NULL);
    add_layer(&s, "Dense", "out", "{\"units\": 3}", "mean", NULL);
    m = model_of(&s);
    zero(m.net, "a/kernel", 18, 36);
    net_weight(m.net, "a/bias")->x[1] = 0.5f;
    net_weight(m.net, "a/bias")->x[2] = -0.5f; /* 0 behind the relu */
    small = shrunk(&m, NULL);
    ck_assert_int_eq(filters(&small, "a"), 2);
    shrinks_soundly(&m, 0, 1e-6f);
    model_clear(&small);
    model_clear(&m);
}
END_TEST

/* ---- approximately ---- */

/* The output, an image [side][side][c], of one sample of random numbers. */
static void image(float *out, const struct model *m, size_t len)
{
    const struct rng r = { 5, RNG_TEST, 2, 0 };
    struct exec *x;

    ck_assert_int_eq(exec_new(&x, m->net, 1, EXEC_INFER, 0, NULL, NULL), ERR_OK);
    for (size_t i = 0; i < shape_len(net_input(m->net)); i++)
        exec_input(x)[i] = (float)rng_normal(&r, i);
    exec_forward(x, 1, false, 0);
    ck_assert_uint_eq(shape_len(&m->net->node[m->net->n_nodes - 1].plan.out), len);
    memcpy(out, exec_value(x, m->net->n_nodes - 1), len * sizeof *out);
    exec_free(x);
}

/* Both models on the same image: alike `rim` places and more from the edges, and not everywhere. */
static void differ_at_the_edges(const struct model *a, const struct model *b, int channels, int side, int rim)
{
    const size_t len = (size_t)(channels * side * side);
    float *x = malloc(len * sizeof *x), *y = malloc(len * sizeof *y);
    bool differs = false;

    image(x, a, len);
    image(y, b, len);
    for (int i = 0; i < (int)len; i++) {
        const int row = i / channels / side, column = i / channels % side;
        const bool edge = row < rim || column < rim || row >= side - rim || column >= side - rim, alike = fabsf(x[i] - y[i]) < 1e-5f;

        ck_assert_msg(edge || alike, "channel %d (%d, %d): %g, was %g", i % channels, row, column, (double)y[i], (double)x[i]);
        differs = differs || !alike;
    }
    ck_assert(differs);
    free(x);
    free(y);
}

/* A channel is what batch norm makes of 0, and a padded convolution reads it: exactly, nothing can be removed; approximately it goes, and what comes out
 * differs as far from the edges as the kernel reaches. */
static const struct { const char *config; int rim; } readers[] = {
    { CONV(4, 3, SAME), 1 },
    { CONV(4, 3, SAME ", \"strides\": [2, 2]"), 1 },
    { CONV(4, 5, SAME NO_BIAS), 2 },
    { CONV(4, 3, SAME ", \"dilation_rate\": [2, 2]"), 2 },
};

START_TEST(constants_fold_nearly_where_zeros_are_padded)
{
    struct sketch s = sketch_of_shape("9, 9, 2");
    struct model m, exact, nearly, again;
    json_t *report;
    int side;

    add_layer(&s, "Conv2D", "a", CONV(3, 3, SAME NO_BIAS), "in", NULL);
    add_layer(&s, "BatchNormalization", "norm", "{}", "a", NULL);
    add_layer(&s, "Activation", "relu", "{\"activation\": \"relu\"}", "norm", NULL);
    add_layer(&s, "Conv2D", "b", readers[_i].config, "relu", NULL);
    m = model_of(&s);
    side = m.net->node[m.net->n_nodes - 1].plan.out.d[1];
    zero(m.net, "a/kernel", 18, 18);
    net_weight(m.net, "norm/beta")->x[1] = 0.75f;
    exact = shrunk(&m, &report);
    ck_assert(filters(&exact, "a") == 3 && figure(report, "constants_folded") == 0 && figure(report, "constants_approximate") == 0);
    json_decref(report);
    nearly = shrunk_by(&m, true, &report);
    ck_assert_msg(filters(&nearly, "a") == 2 && figure(report, "neurons_removed") == 1, "%s", readers[_i].config);
    ck_assert(figure(report, "constants_folded") == 1 && figure(report, "constants_approximate") == 1);
    ck_assert(json_real_value(json_object_get(report, "max_relative_difference")) > SHRINK_TOLERANCE);
    ck_assert(json_real_value(json_object_get(report, "max_difference")) > 0);
    json_decref(report);
    differ_at_the_edges(&m, &nearly, 4, side, readers[_i].rim);
    again = shrunk_by(&nearly, true, &report);
    ck_assert(figure(report, "neurons_removed") == 0 && figure(report, "constants_folded") == 0);
    json_decref(report);
    model_clear(&again);
    model_clear(&nearly);
    model_clear(&exact);
    model_clear(&m);
}
END_TEST

/* A depthwise kernel makes another constant of a channel at the edges; who reads it without padding takes what it is in the middle. */
START_TEST(what_padding_bent_is_folded_nearly)
{
    struct sketch s = sketch_of_shape("7, 7, 2");
    struct model m, nearly;
    json_t *report;

    add_layer(&s, "Conv2D", "a", CONV(3, 1, ""), "in", NULL);
    add_layer(&s, "DepthwiseConv2D", "d", "{\"kernel_size\": 3" SAME "}", "a", NULL);
    add_layer(&s, "Conv2D", "b", CONV(4, 1, ""), "d", NULL);
    m = model_of(&s);
    zero(m.net, "a/kernel", 2, 2);
    net_weight(m.net, "a/bias")->x[1] = 0.5f;
    nearly = shrunk(&m, NULL);
    ck_assert_int_eq(filters(&nearly, "a"), 3);
    model_clear(&nearly);
    nearly = shrunk_by(&m, true, &report);
    ck_assert(filters(&nearly, "a") == 2 && figure(report, "constants_approximate") == 1);
    differ_at_the_edges(&m, &nearly, 4, 7, 1);
    json_decref(report);
    model_clear(&nearly);
    model_clear(&m);
}
END_TEST

/* An image that is all edge: of the kernel only what the output's middle meets. */
START_TEST(the_middle_of_a_small_image)
{
    struct sketch s = sketch_of_shape("1, 1, 2");
    struct model m, small;
    json_t *report;

    add_layer(&s, "Conv2D", "a", CONV(2, 1, ""), "in", NULL);
    add_layer(&s, "Conv2D", "b", CONV(3, 3, SAME), "a", NULL);
    m = model_of(&s);
    zero(m.net, "a/kernel", 0, 2);
    net_weight(m.net, "a/bias")->x[0] = 2;
    small = shrunk_by(&m, true, &report);
    ck_assert(filters(&small, "a") == 1 && figure(report, "constants_approximate") == 1);
    ck_assert(json_real_value(json_object_get(report, "max_relative_difference")) < 1e-6);
    json_decref(report);
    model_clear(&small);
    model_clear(&m);
}
END_TEST

/* ---- by hand ---- */

/* A channel whose depthwise row is zero is its bias from then on; one that nobody reads behind it takes its row along. */
START_TEST(depthwise_rows)
{
    struct sketch s = sketch_of_shape("6, 6, 2");
    struct model m, small;

    add_layer(&s, "Conv2D", "a", CONV(4, 3, ""), "in", NULL);
    add_layer(&s, "DepthwiseConv2D", "d", "{\"kernel_size\": [3, 3], \"depth_multiplier\": 2" SAME "}", "a", NULL);
    add_layer(&s, "Conv2D", "b", CONV(3, 1, ""), "d", NULL);
    add_layer(&s, "MaxPooling2D", "pool", "{}", "b", NULL);
    add_layer(&s, "Flatten", "flat", "{}", "pool", NULL);
    add_layer(&s, "Dense", "out", "{\"units\": 3}", "flat", NULL);
    m = model_of(&s);
    zero(m.net, "d/depthwise_kernel", 2 * 9, 2 * 9); /* both of channel 1 */
    net_weight(m.net, "d/bias")->x[2] = 1;
    for (size_t o = 0; o < 3; o++)
        zero(m.net, "b/kernel", 8 * o + 6, 2); /* nobody reads channel 3 */
    zero(m.net, "d/depthwise_kernel", 0, 9);   /* channel 0 has another row */
    small = shrunk(&m, NULL);
    ck_assert_int_eq(filters(&small, "a"), 2);
    ck_assert_uint_eq(net_weight(small.net, "d/depthwise_kernel")->len, 4 * 9);
    ck_assert_uint_eq(net_weight(small.net, "b/kernel")->len, 3 * 4);
    shrinks_soundly(&m, 0, 1e-6f);
    model_clear(&small);
    model_clear(&m);
}
END_TEST

/* Channel j of a flattened image is h*w columns of the dense kernel, in Keras' file (h, w, c). */
START_TEST(flattened_channels)
{
    struct sketch s = sketch_of_shape("4, 4, 1");
    struct model m, small;
    const struct weight *before, *after;

    add_layer(&s, "Conv2D", "a", CONV(3, 3, SAME), "in", NULL);
    add_layer(&s, "MaxPooling2D", "pool", "{}", "a", NULL);
    add_layer(&s, "Flatten", "flat", "{}", "pool", NULL);
    add_layer(&s, "Dense", "out", "{\"units\": 3}", "flat", NULL);
    m = model_of(&s);
    before = net_weight(m.net, "out/kernel");
    for (size_t o = 0; o < 3; o++)
        zero(m.net, "out/kernel", 12 * o + 4, 4);
    small = shrunk(&m, NULL);
    after = net_weight(small.net, "out/kernel");
    ck_assert_int_eq(filters(&small, "a"), 2);
    for (size_t o = 0; o < 3; o++)
        for (size_t i = 0; i < 8; i++)
            ck_assert(after->x[8 * o + i] == before->x[12 * o + (i < 4 ? i : i + 4)]);
    for (size_t i = 0; i < 4; i++) /* position by position, two channels each */
        ck_assert(model_weight_place(after, 6 * i + 3) == 4 + i);
    shrinks_soundly(&m, 0, 1e-6f);
    model_clear(&small);
    model_clear(&m);
}
END_TEST

/* What is added falls in both branches, or in none. */
START_TEST(residual_channels)
{
    struct sketch s = sketch_of_shape("6, 6, 2");
    struct model m, small;

    add_layer(&s, "Conv2D", "stem", CONV(4, 3, SAME NO_BIAS), "in", NULL);
    add_layer(&s, "BatchNormalization", "norm", "{}", "stem", NULL);
    add_layer(&s, "Activation", "relu", "{\"activation\": \"relu\"}", "norm", NULL);
    add_layer(&s, "Conv2D", "a", CONV(5, 3, SAME ", \"activation\": \"relu\""), "relu", NULL);
    add_layer(&s, "Conv2D", "b", CONV(4, 3, SAME NO_BIAS), "a", NULL);
    add_layer(&s, "Add", "sum", "{}", "b", "relu");
    add_layer(&s, "GlobalAveragePooling2D", "mean", "{}", "sum", NULL);
    add_layer(&s, "Dense", "out", "{\"units\": 3}", "mean", NULL);
    m = model_of(&s);
    for (size_t o = 0; o < 5; o++)
        zero(m.net, "a/kernel", 36 * o + 9, 9); /* channel 1 of the stream is read by nobody, channel 2 still by out */
    for (size_t o = 0; o < 5; o++)
        zero(m.net, "a/kernel", 36 * o + 18, 9);
    for (size_t o = 0; o < 3; o++)
        zero(m.net, "out/kernel", 4 * o + 1, 1);
    zero(m.net, "a/kernel", 0, 36); /* a's channel 0 is 0 */
    small = shrunk(&m, NULL);
    ck_assert(filters(&small, "stem") == 3 && filters(&small, "b") == 3 && filters(&small, "a") == 4);
    ck_assert_uint_eq(net_weight(small.net, "norm/gamma")->len, 3);
    shrinks_soundly(&m, 0, 1e-6f);
    model_clear(&small);
    model_clear(&m);
}
END_TEST

/* ---- random graphs ---- */

enum { MAX_VALUES = 40, SIDE = 6 };
struct value { char name[8]; int channels, side; bool used; }; /* side 0: flat */
struct draw {
    struct rng r;
    uint64_t next;
    struct sketch s;
    int n;
    struct value value[MAX_VALUES];
};

static int below(struct draw *d, int n) { return (int)rng_below(&d->r, d->next++, (uint64_t)n); }

static void add_value(struct draw *d, const char *class_name, const char *config, int channels, int side, int in, int in2)
{
    struct value *v = &d->value[d->n];

    *v = (struct value){ "", channels, side, false };
    snprintf(v->name, sizeof v->name, "v%d", d->n++);
    add_layer(&d->s, class_name, v->name, config, d->value[in].name, in2 >= 0 ? d->value[in2].name : NULL);
    d->value[in].used = true;
    if (in2 >= 0)
        d->value[in2].used = true;
}

static void add_conv(struct draw *d, int in, int filters_n)
{
    static const char *const acts[] = { "relu", "sigmoid", "linear", "elu" };
    bool same = below(d, 2) || d->value[in].side < 4;
    int side = d->value[in].side, kernel = 1 + below(d, 3), stride = 1 + (below(d, 4) == 0 && side > 3);
    char config[200];

    snprintf(config, sizeof config, "{\"filters\": %d, \"kernel_size\": %d, \"strides\": %d, \"padding\": \"%s\", \"activation\": \"%s\", \"use_bias\": %s}",
             filters_n, kernel, stride, same ? "same" : "valid", acts[below(d, 4)], below(d, 2) ? "true" : "false");
    add_value(d, "Conv2D", config, filters_n, same ? (side + stride - 1) / stride : (side - kernel) / stride + 1, in, -1);
}

static void add_depthwise(struct draw *d, int in)
{
    int multiplier = 1 + below(d, 2);
    char config[160];

    snprintf(config, sizeof config, "{\"kernel_size\": %d, \"depth_multiplier\": %d, \"padding\": \"same\", \"use_bias\": %s}", 1 + below(d, 3), multiplier,
             below(d, 2) ? "true" : "false");
    add_value(d, "DepthwiseConv2D", config, d->value[in].channels * multiplier, d->value[in].side, in, -1);
}

static int fits(struct draw *d, int in, bool channels)
{
    int found = -1;

    for (int i = 0; i < d->n; i++)
        if (d->value[i].side == d->value[in].side && (!channels || d->value[i].channels == d->value[in].channels) && (found < 0 || below(d, 2)))
            found = i;
    return found;
}

static void add_random(struct draw *d)
{
    static const char *const acts[] = { "relu", "sigmoid", "tanh", "elu", "gelu", "linear" };
    int in = below(d, d->n), kind = below(d, 12), other = fits(d, in, kind == 0);
    const struct value v = d->value[in];
    char config[80];

    snprintf(config, sizeof config, "{\"activation\": \"%s\"}", acts[below(d, 6)]);
    switch (kind) {
    case 0: add_value(d, "Add", "{}", v.channels, v.side, in, other); break;
    case 1: add_value(d, "Concatenate", "{\"axis\": -1}", v.channels + d->value[other].channels, v.side, in, other); break;
    case 2: add_value(d, "BatchNormalization", "{}", v.channels, v.side, in, -1); break;
    case 3: add_value(d, "Activation", config, v.channels, v.side, in, -1); break;
    case 4: add_value(d, below(d, 2) ? "MaxPooling2D" : "AveragePooling2D", "{\"pool_size\": 2, \"padding\": \"same\"}", v.channels, (v.side + 1) / 2, in, -1); break;
    case 5: add_value(d, "MaxPooling2D", "{\"pool_size\": 3, \"strides\": 1, \"padding\": \"same\"}", v.channels, v.side, in, -1); break;
    case 6: add_depthwise(d, in); break;
    default: add_conv(d, in, kind < 9 ? d->value[below(d, d->n)].channels : 2 + below(d, 5)); break;
    }
}

/* Kernels lose rows, columns and single weights; the rest is anything. */
static void kill(struct draw *d, struct net *net)
{
    for (int i = 0; i < net->n_weights; i++) {
        struct weight *w = &net->weight[i];
        bool kernel = w->info.prunable;
        size_t columns = kernel ? (size_t)w->info.shape.d[1] : 1, each = kernel ? w->len / columns / (size_t)w->info.shape.d[0] : 1;
        int dead_row = below(d, 3), dead_column = below(d, 3), sparse = below(d, 6);
        double size = 1.2 / sqrt((double)(columns * each));

        for (size_t k = 0; k < w->len; k++)
            w->x[k] = (float)(size * rng_normal(&d->r, d->next++)) + (w->info.trainable ? 0 : 2);
        for (size_t k = 0; k < w->len && kernel; k++)
            if ((int)(k / each / columns % 4) < dead_row || (int)(k / each % columns * 7 % 4) < dead_column || below(d, 10) < sparse)
                w->x[k] = 0;
        for (size_t k = 0; k < w->len && strcmp(w->info.name, "moving_variance") == 0; k++)
            w->x[k] = fabsf(w->x[k]) + 0.5f;
    }
}

static struct model random_model(struct draw *d, uint64_t seed)
{
    struct model m;
    int images;

    *d = (struct draw){ .r = { seed, RNG_TEST, 0, 0 }, .s = sketch_of_shape("6, 6, 2"), .n = 1, .value = { { "in", 2, SIDE, false } } };
    for (int i = 0; i < 10; i++)
        add_random(d);
    images = d->n;
    for (int i = 0, flat = -1; i < images; i++) { /* all lead to the output */
        if (d->value[i].used)
            continue;
        add_value(d, below(d, 2) ? "GlobalAveragePooling2D" : "GlobalMaxPooling2D", "{}", d->value[i].channels, 0, i, -1);
        if (flat >= 0)
            add_value(d, "Concatenate", "{}", d->value[flat].channels + d->value[i].channels, 0, flat, d->n - 1);
        flat = d->n - 1;
    }
    if (d->value[images].used) /* more than one */
        add_value(d, "Dense", "{\"units\": 4, \"activation\": \"relu\"}", 4, 0, d->n - 1, -1);
    add_value(d, "Dense", "{\"units\": 3, \"activation\": \"softmax\"}", 3, 0, d->n - 1, -1);
    m = model_of(&d->s);
    kill(d, m.net);
    return m;
}

START_TEST(random_graphs)
{
    for (int seed = 15 * _i; seed < 15 * (_i + 1); seed++) {
        struct draw d;
        struct model m = random_model(&d, (uint64_t)seed);

        shrinks_soundly(&m, seed, 1e-5f);
        model_clear(&m);
    }
}
END_TEST

/* Approximately at least as much goes, and nothing is left to go; what was not folded approximately is exact. */
START_TEST(random_graphs_nearly)
{
    for (int seed = 15 * _i; seed < 15 * (_i + 1); seed++) {
        struct draw d;
        struct model m = random_model(&d, (uint64_t)seed), exact, nearly, again;
        json_t *of_exact, *of_nearly, *of_again;

        exact = shrunk(&m, &of_exact);
        nearly = shrunk_by(&m, true, &of_nearly);
        again = shrunk_by(&nearly, true, &of_again);
        ck_assert_int_eq(figure(of_exact, "constants_approximate"), 0);
        ck_assert_int_ge(figure(of_nearly, "constants_folded"), figure(of_nearly, "constants_approximate"));
        ck_assert_int_ge(figure(of_nearly, "neurons_removed"), figure(of_exact, "neurons_removed"));
        ck_assert(figure(of_nearly, "constants_approximate") > 0 || json_equal(of_exact, of_nearly));
        ck_assert_msg(figure(of_again, "neurons_removed") == 0 && figure(of_again, "constants_folded") == 0, "net %d", seed);
        same_model(&nearly, &again);
        json_decref(of_exact);
        json_decref(of_nearly);
        json_decref(of_again);
        model_clear(&exact);
        model_clear(&nearly);
        model_clear(&again);
        model_clear(&m);
    }
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "by hand");

    gemm_init();
    json_set_alloc_funcs(mem_alloc, mem_free);
    tcase_add_test(tc, constants_fold_without_padding);
    tcase_add_test(tc, constants_stay_where_zeros_are_padded);
    tcase_add_loop_test(tc, constants_fold_nearly_where_zeros_are_padded, 0, sizeof readers / sizeof readers[0]);
    tcase_add_test(tc, what_padding_bent_is_folded_nearly);
    tcase_add_test(tc, the_middle_of_a_small_image);
    tcase_add_test(tc, depthwise_rows);
    tcase_add_test(tc, flattened_channels);
    tcase_add_test(tc, residual_channels);
    tc = suite_case(s, "laws");
    tcase_add_loop_test(tc, random_graphs, 0, 4);
    tcase_add_loop_test(tc, random_graphs_nearly, 0, 4);
}
SUITE_MAIN("shrinking of channels", cases)
