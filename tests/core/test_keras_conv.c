/* Convolutional Keras models: what they compute, in Keras' order of samples, weights and outputs, is what PyTorch computes in that order
 * (tests/golden/keras_conv.py); their weights go out and in by Keras' names and in Keras' layout; resized architectures say what shapes follow. */
#include "core/keras.h"

#include <string.h>
#include <unistd.h>

#include "core/exec.h"
#include "core/gemm.h"
#include "core/mem.h"
#include "core/packed.h"
#include "tests/golden.h"
#include "tests/suite.h"

enum { CASES = 14, N_MAX = 4, SAMPLE_MAX = 28 * 28 };

static const struct golden_bound bound = { 2e-6, 1e-5 };

/* Number i of the array of that name, as in keras_conv.py. */
static double number(const char *name, size_t i)
{
    uint32_t x = 0;

    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        x = x * 31 + *c;
    x = (x + (uint32_t)i) * 2654435761u;
    return (double)((x ^ x >> 15) * 2246822519u) / 4294967296.0 - 0.5;
}

/* Number i, in Keras' order, of a weight. */
static float weight_number(const struct weight *w, size_t i)
{
    const struct shape s = model_weight_shape(w);
    double x = number(w->name, i);

    if (strcmp(w->info.name, "gamma") == 0 || strstr(w->info.name, "variance"))
        x += 1;
    else if (s.n_d > 1)
        x *= 3 / sqrt((double)(w->len / (size_t)s.d[s.n_d - 1]));
    return (float)x;
}

static struct model open_model(const char *name)
{
    char path[300];
    struct model m;
    struct err e = { 0 };
    json_t *doc;

    snprintf(path, sizeof path, SOURCE_DIR "/tests/data/keras/%s.json", name);
    doc = json_load_file(path, 0, NULL);
    ck_assert_msg(doc && keras_read(&m, doc, &e) == ERR_OK, "%s: %s: %s", name, e.at, e.msg);
    json_decref(doc);
    for (struct weight *w = m.net->weight; w < m.net->weight + m.net->n_weights; w++)
        for (size_t i = 0; i < w->len; i++)
            w->x[model_weight_place(w, i)] = weight_number(w, i);
    m.net->trained = true;
    return m;
}

static void check_shape(const struct shape *s, const json_t *want, const char *what)
{
    ck_assert_msg((size_t)s->n_d == json_array_size(want), "%s has %d axes", what, s->n_d);
    for (int i = 0; i < s->n_d; i++)
        ck_assert_msg(s->d[i] == (int)json_integer_value(json_array_get(want, (size_t)i)), "%s: axis %d is %d", what, i, s->d[i]);
}

static json_t *golden_case(int i)
{
    json_t *all = json_load_file(GOLDEN_DIR "/keras_conv.json", 0, NULL), *c = json_incref(json_array_get(all, (size_t)i));

    ck_assert_uint_eq(json_array_size(all), CASES);
    json_decref(all);
    return c;
}

START_TEST(outputs_are_golden)
{
    json_t *c = golden_case(_i), *shape;
    struct model m = open_model(json_string_value(json_object_get(c, "model")));
    const size_t n = (size_t)json_integer_value(json_object_get(c, "n")), in = shape_len(net_input(m.net)), out = shape_len(net_output(m.net));
    float *y = mem_vector(n * out);
    struct exec *x;
    const char *name;

    ck_assert_uint_eq(json_object_size(json_object_get(c, "weights")), (size_t)m.net->n_weights);
    json_object_foreach(json_object_get(c, "weights"), name, shape)
    {
        struct shape ours;

        ck_assert_msg(net_weight(m.net, name) != NULL, "%s", name);
        ours = model_weight_shape(net_weight(m.net, name));
        check_shape(&ours, shape, name);
    }
    check_shape(net_output(m.net), json_object_get(c, "shape"), "output");
    ck_assert_int_eq(exec_new(&x, m.net, N_MAX, EXEC_INFER, 0, NULL, NULL), ERR_OK);
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < in; i++)
            exec_input(x)[i * n + j] = (float)number("x", j * in + i) * 4;
    exec_forward(x, (int)n, false, 0);
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < out; i++)
            y[j * out + i] = exec_value(x, m.net->n_nodes - 1)[i * n + j];
    golden_near(y, json_object_get(c, "output"), n * out, "output", bound);
    exec_free(x);
    mem_free(y);
    model_clear(&m);
    json_decref(c);
}
END_TEST

/* ---- out and in ---- */

static char path[64];

static void scratch(void)
{
    snprintf(path, sizeof path, "/tmp/espalier-keras-conv-%ld", (long)getpid());
}

static struct file_map write_as(const struct model *m, const char *format)
{
    const struct model_format *row = (const struct model_format *)(const void *)plug_find(&model_format_table, format);
    struct file_map map;
    struct file_out *f;

    ck_assert_int_eq(file_out_new(&f, path, NULL), ERR_OK);
    ck_assert_int_eq(row->write(m, f, NULL), ERR_OK);
    ck_assert_int_eq(file_out_publish(f, NULL, NULL), ERR_OK);
    file_out_free(f);
    ck_assert_int_eq(file_map_open(&map, path, NULL), ERR_OK);
    return map;
}

/* The file's arrays hold the numbers in Keras' order, by Keras' names. */
static void check_arrays(const struct st_file *f, const struct net *net)
{
    ck_assert_int_eq(f->n, net->n_weights);
    for (int k = 0; k < f->n; k++) {
        const struct weight *w = net_weight(net, f->array[k].name);
        const struct shape shape = model_weight_shape(w);

        ck_assert(w && shape_equal(&f->array[k].shape, &shape));
        for (size_t i = 0; i < w->len; i++) {
            float x;

            memcpy(&x, (const char *)f->array[k].data + i * sizeof x, sizeof x);
            ck_assert_msg(x == weight_number(w, i), "%s[%zu]", w->name, i);
        }
    }
}

static void check_same(const struct net *a, const struct net *b)
{
    ck_assert_int_eq(a->n_weights, b->n_weights);
    for (int w = 0; w < a->n_weights; w++) {
        ck_assert_str_eq(a->weight[w].name, b->weight[w].name);
        ck_assert_mem_eq(a->weight[w].x, b->weight[w].x, a->weight[w].len * sizeof(float));
    }
}

START_TEST(weights_come_back)
{
    json_t *c = golden_case(_i);
    struct model m = open_model(json_string_value(json_object_get(c, "model"))), back = { NULL };
    struct file_map map;
    struct st_file f;
    struct err e = { 0 };

    map = write_as(&m, "safetensors");
    ck_assert_int_eq(st_parse(&f, map.data, map.len, NULL), ERR_OK);
    check_arrays(&f, m.net);
    ck_assert_int_eq(keras_read(&back, m.architecture, NULL), ERR_OK);
    ck_assert_msg(model_load_weights(back.net, &f, &e) == ERR_OK, "%s: %s", e.at, e.msg);
    check_same(m.net, back.net);
    model_clear(&back);
    st_file_free(&f);
    file_map_close(&map);
    map = write_as(&m, "document");
    ck_assert_msg(document_read(&back, (const char *)map.data, map.len, &e) == ERR_OK, "%s: %s", e.at, e.msg);
    check_same(m.net, back.net);
    model_clear(&back);
    file_map_close(&map);
    map = write_as(&m, "packed");
    ck_assert_msg(packed_read(&back, map.data, map.len, &e) == ERR_OK, "%s: %s", e.at, e.msg);
    check_same(m.net, back.net);
    model_clear(&back);
    file_map_close(&map);
    unlink(path);
    model_clear(&m);
    json_decref(c);
}
END_TEST

/* Keras 2 and 3 call the kernel of a depthwise convolution differently: each reads the other's weights. */
START_TEST(either_name_of_a_depthwise_kernel)
{
    static const char *const names[][2] = { { "mobile_keras2", "depthwise_conv2d/depthwise_kernel" }, { "mobile_keras3", "depthwise_conv2d/kernel" } };
    struct model from = open_model(names[_i][0]), to = open_model(names[1 - _i][0]);
    struct file_map map = write_as(&from, "safetensors");
    struct st_file f;
    char name[80];

    ck_assert_int_eq(st_parse(&f, map.data, map.len, NULL), ERR_OK);
    ck_assert_int_eq(model_load_weights(to.net, &f, NULL), ERR_OK);
    ck_assert_mem_eq(net_weight(to.net, names[1 - _i][1])->x, net_weight(from.net, names[_i][1])->x, net_weight(from.net, names[_i][1])->len * sizeof(float));
    snprintf(name, sizeof name, "%s:0", names[1 - _i][1]);
    ck_assert_ptr_eq(model_weight(from.net, name), net_weight(from.net, names[_i][1]));
    ck_assert_ptr_null(net_weight(from.net, name));
    ck_assert_ptr_null(model_weight(from.net, "conv2d/depthwise_kernel"));
    ck_assert_ptr_null(model_weight(from.net, "depthwise_conv2d/kernel2"));
    st_file_free(&f);
    file_map_close(&map);
    unlink(path);
    model_clear(&from);
    model_clear(&to);
}
END_TEST

/* ---- other sizes ---- */

START_TEST(shapes_are_written_as_keras_writes_them)
{
    json_t *c = golden_case(_i), *doc;
    struct model m = open_model(json_string_value(json_object_get(c, "model")));

    doc = json_deep_copy(m.architecture);
    ck_assert_int_eq(keras_set_shapes(doc, m.net, NULL), ERR_OK);
    ck_assert_msg(json_equal(doc, m.architecture), "%s", json_string_value(json_object_get(c, "model")));
    json_decref(doc);
    model_clear(&m);
    json_decref(c);
}
END_TEST

/* Fewer filters: what reads them, and a flattened image of them, follows. */
START_TEST(filters_are_set)
{
    static const char *const models[] = { "lenet5_keras2", "lenet5_keras3" };
    struct model m = open_model(models[_i]), small;
    json_t *doc = json_deep_copy(m.architecture), *built;
    struct shape s;

    ck_assert_int_eq(keras_set_units(doc, "conv2d_1", 30, false, NULL), ERR_OK);
    ck_assert_int_eq(keras_read(&small, doc, NULL), ERR_OK);
    ck_assert_int_eq(keras_set_shapes(doc, small.net, NULL), ERR_OK);
    s = model_weight_shape(net_weight(small.net, "conv2d_1/kernel"));
    ck_assert(shape_equal(&s, &(const struct shape){ 4, { 5, 5, 20, 30 } }));
    s = model_weight_shape(net_weight(small.net, "dense/kernel"));
    ck_assert(shape_equal(&s, &(const struct shape){ 2, { 4 * 4 * 30, 500 } }));
    ck_assert_int_eq(net_weight(small.net, "dense/kernel")->positions, 16);
    built = json_object_get(json_object_get(json_array_get(json_object_get(json_object_get(doc, "config"), "layers"), 4), "build_config"), "input_shape");
    ck_assert(_i == 0 || json_integer_value(json_array_get(built, 3)) == 30);
    model_clear(&small);
    model_clear(&m);
    json_decref(doc);
}
END_TEST

/* ---- for people ---- */

START_TEST(layers_are_described_as_keras_has_them)
{
    struct model m = open_model("lenet5_keras3");
    json_t *d = model_describe(m.net), *want = json_loads(
        "[{\"name\": \"conv2d\", \"op\": \"conv2d\", \"output\": [24, 24, 20], \"shape\": [20, 1, 5, 5], \"macs\": 288000, \"params\": 520},"
        " {\"name\": \"max_pooling2d\", \"op\": \"max_pool2d\", \"output\": [12, 12, 20], \"shape\": null, \"macs\": 0, \"params\": 0},"
        " {\"name\": \"conv2d_1\", \"op\": \"conv2d\", \"output\": [8, 8, 50], \"shape\": [50, 20, 5, 5], \"macs\": 1600000, \"params\": 25050},"
        " {\"name\": \"max_pooling2d_1\", \"op\": \"max_pool2d\", \"output\": [4, 4, 50], \"shape\": null, \"macs\": 0, \"params\": 0},"
        " {\"name\": \"flatten\", \"op\": \"reshape\", \"output\": [800], \"shape\": null, \"macs\": 0, \"params\": 0},"
        " {\"name\": \"dense\", \"op\": \"dense\", \"output\": [500], \"shape\": [500, 800], \"macs\": 400000, \"params\": 400500},"
        " {\"name\": \"dense_1\", \"op\": \"dense\", \"output\": [10], \"shape\": [10, 500], \"macs\": 5000, \"params\": 5010}]", 0, NULL);
    const char *key;
    json_t *layer, *v;
    size_t i;

    ck_assert_uint_eq(json_array_size(json_object_get(d, "layers")), json_array_size(want));
    json_array_foreach(want, i, layer)
        json_object_foreach(layer, key, v)
            ck_assert_msg(json_equal(v, json_object_get(json_array_get(json_object_get(d, "layers"), i), key)), "layer %zu: %s", i, key);
    json_decref(want);
    json_decref(d);
    model_clear(&m);
}
END_TEST

/* Who changes images while they are gathered asks for it. */
START_TEST(channels_first_is_known)
{
    static const struct { const char *model; bool first; } models[] = {
        { "first_keras2", true }, { "first_keras3", true }, { "lenet5_keras3", false }, { "residual_image_keras2", false }, { "mobile_keras3", false }
    };

    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        struct model m = open_model(models[i].model);

        ck_assert_int_eq(net_channels_first(m.net), models[i].first);
        model_clear(&m);
    }
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "keras conv");

    gemm_init();
    scratch();
    tcase_add_loop_test(tc, outputs_are_golden, 0, CASES);
    tcase_add_loop_test(tc, weights_come_back, 0, CASES);
    tcase_add_loop_test(tc, either_name_of_a_depthwise_kernel, 0, 2);
    tcase_add_loop_test(tc, shapes_are_written_as_keras_writes_them, 0, CASES);
    tcase_add_loop_test(tc, filters_are_set, 0, 2);
    tcase_add_test(tc, channels_first_is_known);
    tcase_add_test(tc, layers_are_described_as_keras_has_them);
}
SUITE_MAIN("keras conv", cases)
