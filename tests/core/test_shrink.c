/* Shrinking: by hand for each way in which a neuron dies; and for random graphs, that the smaller model computes the same, that it is a model like any
 * other (through files and back), and that nothing is left to shrink. */
#include "core/gemm.h"
#include "core/mem.h"
#include "tests/core/shrink_fixture.h"

/* ---- by hand ---- */

/* Unit 0 has no inputs: sigmoid(0.5) for every sample. Unit 1 is read by nobody; only it reads input 2. */
START_TEST(chain)
{
    struct sketch s = sketch_of(3);
    struct model m, small;
    json_t *report;
    float y = 1 / (1 + expf(-0.5f));

    add_layer(&s, "Dense", "a", "{\"units\": 4, \"activation\": \"sigmoid\"}", "in", NULL);
    add_layer(&s, "Dropout", "drop", "{\"rate\": 0.5}", "a", NULL);
    add_layer(&s, "Dense", "b", "{\"units\": 2, \"use_bias\": false}", "drop", NULL);
    m = model_of(&s);
    set(m.net, "a/kernel", (float[]){ 0, 0, 0, 1, 2, 3, 4, 5, 0, 6, 7, 0 });
    set(m.net, "a/bias", (float[]){ 0.5f, 9, 0.1f, 0.2f });
    set(m.net, "b/kernel", (float[]){ 2, 0, 3, 4, -4, 0, 5, 6 });
    small = shrunk(&m, &report);
    same(small.net, "a/kernel", 6, (float[]){ 4, 5, 0, 6, 7, 0 });
    same(small.net, "a/bias", 2, (float[]){ 0.1f, 0.2f });
    same(small.net, "b/kernel", 4, (float[]){ 3, 4, 5, 6 });
    same(small.net, "b/bias", 2, (float[]){ 2 * y, -4 * y });
    ck_assert(small.net->trained);
    ck_assert_int_eq(json_integer_value(json_object_get(config_of(&small, "a"), "units")), 2);
    ck_assert_int_eq(json_integer_value(json_object_get(config_of(&small, "b"), "units")), 2);
    ck_assert(json_is_true(json_object_get(config_of(&small, "b"), "use_bias")));
    ck_assert(json_is_false(json_object_get(config_of(&m, "b"), "use_bias")));
    ck_assert_int_eq(figure(report, "neurons_removed"), 2);
    ck_assert_int_eq(figure(report, "constants_folded"), 1);
    ck_assert_int_eq(figure(report, "biases_added"), 1);
    ck_assert_int_eq(figure(report, "dead_inputs"), 1);
    ck_assert_int_eq(figure(report, "inputs"), 3);
    ck_assert_int_eq(figure(json_object_get(report, "before"), "macs"), 20);
    ck_assert_int_eq(figure(json_object_get(report, "after"), "macs"), 10);
    ck_assert(json_real_value(json_object_get(report, "max_relative_difference")) < 1e-6);
    json_decref(report);
    model_clear(&small);
    model_clear(&m);
}
END_TEST

/* A constant passes batch norm; a reader with a bias takes it; what only a dead unit read dies with it, two layers back. */
START_TEST(norm_and_cascade)
{
    struct sketch s = sketch_of(2);
    struct model m, small;
    json_t *report;
    float y;

    add_layer(&s, "Dense", "a", "{\"units\": 3, \"activation\": \"relu\"}", "in", NULL);
    add_layer(&s, "Dense", "b", "{\"units\": 3}", "a", NULL);
    add_layer(&s, "BatchNormalization", "norm", "{}", "b", NULL);
    add_layer(&s, "Activation", "act", "{\"activation\": \"tanh\"}", "norm", NULL);
    add_layer(&s, "Dense", "c", "{\"units\": 1}", "act", NULL);
    m = model_of(&s);
    set(m.net, "a/kernel", (float[]){ 1, 2, 3, 4, 5, 6 });
    set(m.net, "b/kernel", (float[]){ 0, 0, 0, 7, 0, 0, 1, 1, 0 }); /* 0: constant; 1: alive, reads a 0; 2: nobody reads it, alone with a 1; a 2: nobody */
    set(m.net, "b/bias", (float[]){ 1, 2, 3 });
    set(m.net, "norm/gamma", (float[]){ 2, 3, 4 });
    set(m.net, "norm/beta", (float[]){ 0.25f, 0.5f, 1 });
    set(m.net, "norm/moving_mean", (float[]){ 0.5f, 0.1f, 0.2f });
    set(m.net, "norm/moving_variance", (float[]){ 3.999f, 1, 1 });
    set(m.net, "c/kernel", (float[]){ 3, 5, 0 });
    set(m.net, "c/bias", (float[]){ 10 });
    small = shrunk(&m, &report);
    y = tanhf(2 * (1 - 0.5f) / 2 + 0.25f);
    same(small.net, "a/kernel", 2, (float[]){ 1, 2 });
    same(small.net, "b/kernel", 1, (float[]){ 7 });
    same(small.net, "norm/gamma", 1, (float[]){ 3 });
    same(small.net, "norm/moving_variance", 1, (float[]){ 1 });
    same(small.net, "c/kernel", 1, (float[]){ 5 });
    same(small.net, "c/bias", 1, (float[]){ 10 + 3 * y });
    ck_assert_int_eq(figure(report, "biases_added"), 0);
    json_decref(report);
    model_clear(&small);
    model_clear(&m);
}
END_TEST

/* sum = a + f(a): neuron 0 is dead in a but not in f, 1 in both, 2 in neither; 3 is needed behind the sum only. */
START_TEST(residual)
{
    struct sketch s = sketch_of(2);
    struct model m, small;
    json_t *report;

    add_layer(&s, "Dense", "a", "{\"units\": 4}", "in", NULL);
    add_layer(&s, "Dense", "f", "{\"units\": 4, \"use_bias\": false}", "a", NULL);
    add_layer(&s, "Add", "sum", "{}", "a", "f");
    add_layer(&s, "Dense", "out", "{\"units\": 1}", "sum", NULL);
    m = model_of(&s);
    set(m.net, "a/kernel", (float[]){ 0, 0, 0, 0, 1, 1, 1, -1 });
    set(m.net, "a/bias", (float[]){ 0.5f, 0.25f, 0, 0 });
    set(m.net, "f/kernel", (float[]){ 0, 0, 1, 0, 0, 0, 0, 0, 1, 3, 1, 0, 1, 0, 1, 0 });
    set(m.net, "out/kernel", (float[]){ 1, 2, 3, 4 });
    set(m.net, "out/bias", (float[]){ 7 });
    small = shrunk(&m, &report);
    /* f's rows take what they read of a's constants 0 and 1 into a bias; out that of neuron 1 */
    same(small.net, "a/kernel", 6, (float[]){ 0, 0, 1, 1, 1, -1 });
    same(small.net, "a/bias", 3, (float[]){ 0.5f, 0, 0 });
    same(small.net, "f/kernel", 9, (float[]){ 0, 1, 0, 0, 1, 0, 0, 1, 0 });
    same(small.net, "f/bias", 3, (float[]){ 0, 0.5f + 0.75f, 0.5f });
    same(small.net, "out/kernel", 3, (float[]){ 1, 3, 4 });
    same(small.net, "out/bias", 1, (float[]){ 7 + 2 * 0.25f });
    ck_assert_int_eq(figure(report, "neurons_removed"), 1);
    json_decref(report);
    model_clear(&small);
    model_clear(&m);
}
END_TEST

/* Concatenation moves the columns; a target of one dimension follows. */
START_TEST(concatenation)
{
    struct sketch s = sketch_of(2);
    struct model m, small;

    add_layer(&s, "Dense", "a", "{\"units\": 3, \"activation\": \"relu\"}", "in", NULL);
    add_layer(&s, "Dense", "b", "{\"units\": 2, \"activation\": \"relu\"}", "in", NULL);
    add_layer(&s, "Concatenate", "ab", "{\"axis\": -1}", "a", "b");
    add_layer(&s, "Reshape", "line", "{\"target_shape\": [5]}", "ab", NULL);
    add_layer(&s, "Dense", "out", "{\"units\": 1}", "line", NULL);
    m = model_of(&s);
    set(m.net, "out/kernel", (float[]){ 0, 2, 3, 0, 5 });
    small = shrunk(&m, NULL);
    ck_assert_int_eq(net_weight(small.net, "a/kernel")->len, 4);
    ck_assert_int_eq(net_weight(small.net, "b/kernel")->len, 2);
    ck_assert_mem_eq(net_weight(small.net, "a/kernel")->x, net_weight(m.net, "a/kernel")->x + 2, 4 * sizeof(float));
    ck_assert_mem_eq(net_weight(small.net, "b/kernel")->x, net_weight(m.net, "b/kernel")->x + 2, 2 * sizeof(float));
    same(small.net, "out/kernel", 3, (float[]){ 2, 3, 5 });
    model_clear(&small);
    model_clear(&m);
}
END_TEST

/* Nothing lives: every layer keeps one unit, the output is its constant. */
START_TEST(never_empty)
{
    struct sketch s = sketch_of(3);
    struct model m, small;
    json_t *report;
    struct net_size size;

    add_layer(&s, "Dense", "a", "{\"units\": 5, \"activation\": \"sigmoid\"}", "in", NULL);
    add_layer(&s, "Dense", "b", "{\"units\": 4, \"activation\": \"sigmoid\"}", "a", NULL);
    add_layer(&s, "Dense", "out", "{\"units\": 2}", "b", NULL);
    m = model_of(&s);
    memset(net_weight(m.net, "a/kernel")->x, 0, 15 * sizeof(float));
    small = shrunk(&m, &report);
    net_count(small.net, &size);
    ck_assert_int_eq(size.params, 3 + 1 + 1 + 1 + 2 + 2);
    ck_assert_int_eq(size.nonzero, 0);
    ck_assert_int_eq(figure(report, "dead_inputs"), 3);
    json_decref(report);
    model_clear(&small);
    model_clear(&m);
}
END_TEST

/* Masks come along, and a packed net shrinks as well. */
START_TEST(masked)
{
    struct sketch s = sketch_of(40);
    struct model m, small;
    struct weight *w;

    add_layer(&s, "Dense", "a", "{\"units\": 64, \"activation\": \"relu\"}", "in", NULL);
    add_layer(&s, "Dense", "out", "{\"units\": 2}", "a", NULL);
    m = model_of(&s);
    w = net_weight(m.net, "a/kernel");
    w->mask = mem_zalloc(w->len, 1);
    for (size_t i = 0; i < w->len; i++)
        w->mask[i] = i < 1280 && i % 40 == 3; /* the lower half keeps one input */
    net_apply_masks(m.net);
    ck_assert_int_eq(net_pack(m.net, 128, NULL), ERR_OK);
    ck_assert_ptr_nonnull(w->sparse);
    small = shrunk(&m, NULL);
    w = net_weight(small.net, "a/kernel");
    ck_assert_uint_eq(w->len, 1280);
    for (size_t i = 0; i < w->len; i++)
        ck_assert(w->mask[i] == (i % 40 == 3) && (w->x[i] != 0) == w->mask[i]);
    ck_assert_ptr_null(net_weight(small.net, "out/kernel")->mask);
    model_clear(&small);
    model_clear(&m);
}
END_TEST

/* Keras 3 writes down what layers were built for, and the shapes of tensors: they follow. */
START_TEST(shapes_of_keras3)
{
    json_t *doc = json_load_file(SOURCE_DIR "/tests/data/keras/residual_keras3.json", 0, NULL), *layers, *l;
    struct model m, small;
    char *before, *after;
    size_t i;

    ck_assert_int_eq(keras_read(&m, doc, NULL), ERR_OK);
    before = json_dumps(doc, JSON_SORT_KEYS);
    memset(net_weight(m.net, "dense_3/kernel")->x, 0, net_weight(m.net, "dense_3/kernel")->len * sizeof(float)); /* all that stays is one unit each */
    small = shrunk(&m, NULL);
    after = json_dumps(m.architecture, JSON_SORT_KEYS);
    ck_assert_str_eq(before, after);
    layers = json_object_get(json_object_get(small.architecture, "config"), "layers");
    json_array_foreach(layers, i, l)
    {
        const char *name = json_string_value(json_object_get(l, "name"));
        json_t *built = json_object_get(json_object_get(l, "build_config"), "input_shape");
        json_t *args = json_object_get(json_array_get(json_object_get(l, "inbound_nodes"), 0), "args"), *a = json_array_get(args, 0);
        json_t *tensor = json_is_array(a) ? json_array_get(a, 0) : a, *shape = json_object_get(json_object_get(tensor, "config"), "shape");
        json_int_t want = strcmp(name, "dense") == 0 || strcmp(name, "dense_2") == 0 ? 20 : strcmp(name, "dropout") == 0 || strcmp(name, "dense_3") == 0 ? 2 : 1;

        if (built)
            ck_assert_int_eq(json_integer_value(json_array_get(built, 1)), want);
        if (shape)
            ck_assert_int_eq(json_integer_value(json_array_get(shape, 1)), want);
    }
    mem_free(before);
    mem_free(after);
    model_clear(&small);
    model_clear(&m);
    json_decref(doc);
}
END_TEST

/* A model that computes nothing is not handed on. */
START_TEST(what_differs_is_refused)
{
    struct sketch s = sketch_of(3);
    struct model m, out = { 0 };
    json_t *report = NULL;

    add_layer(&s, "Dense", "out", "{\"units\": 2}", "in", NULL);
    m = model_of(&s);
    net_weight(m.net, "out/bias")->x[0] = NAN;
    ck_assert_int_eq(shrink_model(&out, &report, &m, false, NULL, NULL, NULL), ERR_INTERNAL);
    ck_assert(!out.net && !report);
    model_clear(&m);
}
END_TEST

/* ---- random graphs ---- */

enum { MAX_VALUES = 40 };
struct draw {
    struct rng r;
    uint64_t next;
    struct sketch s;
    int n, width[MAX_VALUES];
    bool used[MAX_VALUES];
    char name[MAX_VALUES][16];
};

static int below(struct draw *d, int n) { return (int)rng_below(&d->r, d->next++, (uint64_t)n); }

static void add_value(struct draw *d, const char *class_name, const char *config, int width, int in, int in2)
{
    snprintf(d->name[d->n], sizeof d->name[0], "v%d", d->n);
    add_layer(&d->s, class_name, d->name[d->n], config, d->name[in], in2 >= 0 ? d->name[in2] : NULL);
    d->used[in] = true;
    if (in2 >= 0)
        d->used[in2] = true;
    d->width[d->n++] = width;
}

static void add_random(struct draw *d)
{
    static const char *const acts[] = { "relu", "sigmoid", "tanh", "elu", "gelu", "linear", "leaky_relu", "softmax" };
    int in = below(d, d->n), other = below(d, d->n), kind = below(d, 8), units = 2 + below(d, 6);
    char config[120];

    if (kind >= 6 && d->width[in] != d->width[other])
        kind = kind == 6 ? 5 : 7; /* joined, or made to fit */
    snprintf(config, sizeof config, "{\"activation\": \"%s\"}", acts[below(d, below(d, 4) ? 7 : 8)]);
    switch (kind) {
    case 0: add_value(d, "BatchNormalization", "{}", d->width[in], in, -1); break;
    case 1: add_value(d, "Activation", config, d->width[in], in, -1); break;
    case 2: add_value(d, "Dropout", "{\"rate\": 0.3}", d->width[in], in, -1); break;
    case 5: add_value(d, "Concatenate", "{\"axis\": -1}", d->width[in] + d->width[other], in, other); break;
    case 6: add_value(d, "Add", "{}", d->width[in], in, other); break;
    default:
        snprintf(config, sizeof config, "{\"units\": %d, \"activation\": \"%s\", \"use_bias\": %s}", kind == 7 ? d->width[other] : units,
                 acts[below(d, 7)], below(d, 2) ? "true" : "false");
        add_value(d, "Dense", config, kind == 7 ? d->width[other] : units, in, -1);
        if (kind == 7 && other != 0)
            add_value(d, "Add", "{}", d->width[other], d->n - 1, other);
    }
}

/* Kernels lose rows, columns and single weights; the rest is anything. */
static void kill(struct draw *d, struct net *net)
{
    for (int i = 0; i < net->n_weights; i++) {
        struct weight *w = &net->weight[i];
        int columns = w->info.prunable ? w->info.shape.d[1] : 1, dead_row = below(d, 4), dead_column = below(d, 4), sparse = below(d, 10);

        for (size_t k = 0; k < w->len; k++)
            w->x[k] = (float)(0.7 * rng_normal(&d->r, d->next++)) + (w->info.trainable ? 0 : 2);
        for (size_t k = 0; k < w->len && w->info.prunable; k++)
            if ((int)(k / (size_t)columns) % 4 < dead_row || (int)(k % (size_t)columns * 7) % 4 < dead_column || below(d, 10) < sparse)
                w->x[k] = 0;
        for (size_t k = 0; k < w->len && strcmp(w->info.name, "moving_variance") == 0; k++)
            w->x[k] = fabsf(w->x[k]) + 0.5f;
    }
}

/* places: of images, with a vector of 4 at each. */
static struct model random_model(struct draw *d, uint64_t seed, bool places)
{
    struct model m;

    *d = (struct draw){ .r = { seed, RNG_TEST, 0, 0 }, .s = places ? sketch_of_shape("2, 3, 4") : sketch_of(4), .n = 1, .width = { 4 }, .name = { "in" } };
    for (int i = 0; i < 12; i++)
        add_random(d);
    for (int i = d->n - 2; i >= 0; i--) /* all lead to the output */
        if (!d->used[i])
            add_value(d, "Concatenate", "{\"axis\": -1}", d->width[i] + d->width[d->n - 1], i, d->n - 1);
    if (places)
        add_value(d, "Flatten", "{}", 6 * d->width[d->n - 1], d->n - 1, -1);
    add_value(d, "Dense", "{\"units\": 3, \"activation\": \"softmax\"}", 3, d->n - 1, -1);
    m = model_of(&d->s);
    kill(d, m.net);
    return m;
}

static void random_graph(int seed)
{
    struct draw d;
    struct model m = random_model(&d, (uint64_t)seed, seed % 3 == 2);

    shrinks_soundly(&m, seed, 1e-5f);
    model_clear(&m);
}

START_TEST(random_graphs)
{
    for (int seed = 25 * _i; seed < 25 * (_i + 1); seed++)
        random_graph(seed);
}
END_TEST

START_TEST(memory_is_short)
{
    struct draw d;
    struct model m = random_model(&d, 1, false);
    bool fired = true;

    for (long k = 1; fired; k++) {
        struct model out = { 0 };
        json_t *report = NULL;
        enum err_code rc;

        mem_fail_in = k;
        rc = shrink_model(&out, &report, &m, false, NULL, NULL, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert(rc == (fired ? ERR_NOMEM : ERR_OK) && fired == !out.net && fired == !report);
        json_decref(report);
        model_clear(&out);
    }
    model_clear(&m);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "by hand");

    gemm_init();
    json_set_alloc_funcs(mem_alloc, mem_free);
    tcase_add_test(tc, chain);
    tcase_add_test(tc, norm_and_cascade);
    tcase_add_test(tc, residual);
    tcase_add_test(tc, concatenation);
    tcase_add_test(tc, never_empty);
    tcase_add_test(tc, masked);
    tcase_add_test(tc, shapes_of_keras3);
    tcase_add_test(tc, what_differs_is_refused);
    tc = suite_case(s, "laws");
    tcase_add_loop_test(tc, random_graphs, 0, 4);
    tcase_add_test(tc, memory_is_short);
}
SUITE_MAIN("shrink", cases)
