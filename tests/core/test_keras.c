/* Keras model JSONs: the examples of both versions become the nets they are, and what is not offered is refused by pointer. Each
 * refusal is an example with one spot changed. */
#include "core/keras.h"

#include <math.h>
#include <string.h>

#include "core/exec.h"
#include "core/mem.h"
#include "core/rng.h"
#include "tests/suite.h"

#define EXAMPLES SOURCE_DIR "/tests/data/keras/"

static json_t *load(const char *name)
{
    char path[256];
    struct file_map m;
    json_t *v = NULL;

    snprintf(path, sizeof path, "%s%s", EXAMPLES, name);
    ck_assert_int_eq(file_map_open(&m, path, NULL), ERR_OK);
    ck_assert_int_eq(json_read(&v, (const char *)m.data, m.len, MODEL_MAX_TOKENS, NULL), ERR_OK);
    file_map_close(&m);
    return v;
}

/* The nodes as "layer:op(inputs)", those that only arrange numbers as "layer~op(inputs)". */
static void describe(char *buf, size_t n, const struct net *net)
{
    size_t at = 0;

    for (int i = 1; i < net->n_nodes; i++) {
        at += (size_t)snprintf(buf + at, n - at, "%s%s%c%s(", i > 1 ? " " : "", net->node[i].layer, net->node[i].arranges ? '~' : ':',
                               net->node[i].op->plug.name);
        for (int k = 0; k < net->node[i].n_in; k++)
            at += (size_t)snprintf(buf + at, n - at, "%s%d", k ? "," : "", net->node[i].in[k]);
        at += (size_t)snprintf(buf + at, n - at, ")");
        ck_assert_uint_lt(at, n);
    }
}

static const struct { const char *file, *nodes; int n_weights; uint64_t params; } examples[] = {
#define MLP "dense:dense(0) dense:relu(1) dense_1:dense(2) dense_1:relu(3) dense_2:dense(4) dense_2:softmax(5)"
    { "mlp_keras2.json", MLP, 6, 11274 },
    { "mlp_keras3.json", MLP, 6, 11274 },
#define LENET "flatten:reshape(0) dense:dense(1) dense:relu(2) dense_1:dense(3) dense_1:relu(4) dense_2:dense(5) dense_2:softmax(6)"
    { "lenet_300_100_keras2.json", LENET, 6, 266610 },
    { "lenet_300_100_keras3.json", LENET, 6, 266610 },
    { "no_input_layer_keras2.json", "dense:dense(0) dense:tanh(1) dense_1:dense(2)", 3, 72 },
    { "no_input_layer_keras3.json", "dense:dense(0) dense:tanh(1) dense_1:dense(2)", 3, 72 },
#define LAYERS "reshape:reshape(0) flatten:reshape(1) dense:dense(2) dense:relu(3) dropout:dropout(4) dense_1:dense(5) dense_1:leaky_relu(6) " \
    "batch_normalization:batch_norm(7) re_lu:relu(8) dense_2:dense(9) dense_2:gelu(10) leaky_re_lu_1:leaky_relu(11) dense_3:dense(12) " \
    "dense_3:elu(13) elu:elu(14) re_lu_1:leaky_relu(15) dense_4:dense(16) dense_4:sigmoid(17) activation:tanh(18) dense_5:dense(19) " \
    "softmax:softmax(20)"
    { "layers_keras2.json", LAYERS, 16, 1285 },
    { "layers_keras3.json", LAYERS, 16, 1285 },
#define RESIDUAL "dense:dense(0) dense:relu(1) dense_1:dense(2) batch_normalization:batch_norm(3) add:add(4,2) activation:relu(5) " \
    "dense_2:dense(0) dense_2:tanh(7) concatenate:concatenate(6,8) dropout:dropout(9) dense_3:dense(10) dense_3:softmax(11)"
    { "residual_keras2.json", RESIDUAL, 12, 1058 },
    { "residual_keras3.json", RESIDUAL, 12, 1058 },
#define LENET5 "conv2d~reshape(0) conv2d:conv2d(1) conv2d:relu(2) max_pooling2d:max_pool2d(3) conv2d_1:conv2d(4) conv2d_1:relu(5) " \
    "max_pooling2d_1:max_pool2d(6) flatten:reshape(7) dense:dense(8) dense:relu(9) dense_1:dense(10) dense_1:softmax(11)"
    { "lenet5_keras2.json", LENET5, 8, 431080 },
    { "lenet5_keras3.json", LENET5, 8, 431080 },
#define RESIDUAL_IMAGE "conv2d~channels_first(0) conv2d:conv2d(1) batch_normalization:batch_norm(2) activation:relu(3) conv2d_1:conv2d(4) " \
    "batch_normalization_1:batch_norm(5) activation_1:relu(6) conv2d_2:conv2d(7) batch_normalization_2:batch_norm(8) add:add(9,4) " \
    "activation_2:relu(10) conv2d_3:conv2d(11) batch_normalization_3:batch_norm(12) activation_3:relu(13) conv2d_4:conv2d(14) " \
    "batch_normalization_4:batch_norm(15) conv2d_5:conv2d(11) batch_normalization_5:batch_norm(17) add_1:add(16,18) activation_4:relu(19) " \
    "global_average_pooling2d:global_average_pool(20) dense:dense(21) dense:softmax(22)"
    { "residual_image_keras2.json", RESIDUAL_IMAGE, 32, 1090 },
    { "residual_image_keras3.json", RESIDUAL_IMAGE, 32, 1090 },
#define MOBILE "conv2d~channels_first(0) conv2d:conv2d(1) batch_normalization:batch_norm(2) re_lu:relu(3) cropping2d:cropping2d(4) " \
    "zero_padding2d:zero_pad2d(5) global_average_pooling2d:global_average_pool(6) conv2d_3:conv2d(7) conv2d_3:silu(8) " \
    "conv2d_4:conv2d(9) conv2d_4:hard_sigmoid(10) multiply:multiply(6,11) layer_normalization:layer_norm(12) " \
    "depthwise_conv2d:depthwise_conv2d(13) depthwise_conv2d:tanh(14) conv2d_1:conv2d(15) conv2d_1:relu(16) " \
    "max_pooling2d:max_pool2d(17) concatenate:concatenate(12,18) separable_conv2d:depthwise_conv2d(19) " \
    "separable_conv2d:conv2d(20) separable_conv2d:elu(21) average_pooling2d:average_pool2d(22) dropout:dropout(23) " \
    "conv2d_2:conv2d(19) average_pooling2d_1:average_pool2d(25) flatten:reshape(26) batch_normalization_1:batch_norm(27) " \
    "layer_normalization_1:layer_norm(28) dense:dense(29) dense:softplus(30) flatten_1:reshape(24) " \
    "concatenate_1~reshape(27) concatenate_1~channels_last(33) concatenate_1~reshape(34) concatenate_1~reshape(32) " \
    "concatenate_1~channels_last(36) concatenate_1~reshape(37) concatenate_1:concatenate(35,38) dense_1:dense(39) " \
    "dense_1:tanh(40) global_max_pooling2d:global_max_pool(19) concatenate_2:concatenate(31,41,42) dense_2:dense(43) " \
    "dense_2:softmax(44)"
    { "mobile_keras2.json", MOBILE, 32, 2195 },
    { "mobile_keras3.json", MOBILE, 32, 2195 },
#define SEQUENCE "conv1d~channels_first(0) conv1d:conv1d(1) conv1d:relu(2) max_pooling1d:max_pool1d(3) conv1d_1:conv1d(4) " \
    "zero_padding1d:zero_pad1d(5) cropping1d:cropping1d(6) batch_normalization:batch_norm(7) reshape~channels_last(8) " \
    "reshape:reshape(9) conv2d~channels_first(10) conv2d:conv2d(11) softmax~channels_last(12) softmax:softmax(13) " \
    "average_pooling2d~channels_first(14) average_pooling2d:average_pool2d(15) average_pooling2d~channels_last(16)"
    { "sequence_keras2.json", SEQUENCE, 10, 157 },
    { "sequence_keras3.json", SEQUENCE, 10, 157 },
#define PLACES "rescaling:rescale(0) dense~channels_first(1) dense:dense(2) dense:tanh(3) conv1d:conv1d(4) conv1d:relu(5) " \
    "spatial_dropout1d:spatial_dropout(6) dense_1:dense(7) dense_1~channels_last(8) dense_1:softmax(9) conv1d_1~channels_first(10) " \
    "conv1d_1:conv1d(11) batch_normalization:batch_norm(12) dense_2:dense(13) rescaling_1:rescale(14) flatten:reshape(15) " \
    "dense_3:dense(16) dense_3:softmax(17)"
    { "places_keras2.json", PLACES, 16, 280 },
    { "places_keras3.json", PLACES, 16, 280 },
#define FIRST "rescaling:rescale(0) zero_padding2d:zero_pad2d(1) conv2d:conv2d(2) batch_normalization:batch_norm(3) activation:relu(4) " \
    "depthwise_conv2d:depthwise_conv2d(5) "
#define RANGES "rescaling:rescale(0) normalization~channels_first(1) normalization:standardize(2) rescaling_1:standardize(3) conv2d:conv2d(4) conv2d:relu(5) " \
    "normalization_1:standardize(6) conv2d_1:conv2d(7) normalization_2:standardize(8) flatten:reshape(9) normalization_3:standardize(10) " \
    "rescaling_2:standardize(11) dense:dense(12) normalization_4:standardize(13)"
    { "ranges_keras2.json", RANGES, 10, 198 },
    { "ranges_keras3.json", RANGES, 10, 198 },
    { "first_keras2.json", FIRST "spatial_dropout2d~channels_first(6) spatial_dropout2d:spatial_dropout(7) layer_normalization~channels_last(8) " /* no data_format */
      "layer_normalization:layer_norm(9) separable_conv2d:depthwise_conv2d(10) separable_conv2d:conv2d(11) separable_conv2d:elu(12) add:add(5,13) "
      "max_pooling2d:max_pool2d(5) concatenate:concatenate(14,15) softmax:softmax(16) average_pooling2d:average_pool2d(17) flatten:reshape(18) "
      "dense:dense(19) dense:tanh(20) global_max_pooling2d:global_max_pool(18) concatenate_1:concatenate(21,22) dense_1:dense(23) dense_1:softmax(24)",
      16, 1007 },
    { "first_keras3.json", FIRST "spatial_dropout2d:spatial_dropout(6) layer_normalization:layer_norm(7) separable_conv2d:depthwise_conv2d(8) "
      "separable_conv2d:conv2d(9) separable_conv2d:elu(10) add:add(5,11) max_pooling2d:max_pool2d(5) concatenate:concatenate(12,13) "
      "softmax:softmax(14) average_pooling2d:average_pool2d(15) flatten:reshape(16) dense:dense(17) dense:tanh(18) "
      "global_max_pooling2d:global_max_pool(16) concatenate_1:concatenate(19,20) dense_1:dense(21) dense_1:softmax(22)", 16, 1007 },
};
enum { N_EXAMPLES = sizeof examples / sizeof examples[0] };

START_TEST(examples_become_nets)
{
    json_t *doc = load(examples[_i].file), *described;
    struct model m;
    struct net_size size;
    struct err e = { 0 };
    char text[2048];

    ck_assert_msg(keras_read(&m, doc, &e) == ERR_OK, "%s: %s: %s", examples[_i].file, e.at, e.msg);
    describe(text, sizeof text, m.net);
    ck_assert_str_eq(text, examples[_i].nodes);
    ck_assert_int_eq(m.net->n_weights, examples[_i].n_weights);
    net_count(m.net, &size);
    ck_assert_uint_eq(size.params, examples[_i].params);
    ck_assert(!m.net->trained);
    ck_assert(json_equal(m.architecture, doc));
    described = model_describe(m.net);
    ck_assert_uint_eq((uint64_t)json_integer_value(json_object_get(described, "params")), size.params);
    ck_assert_uint_eq((uint64_t)json_integer_value(json_object_get(described, "weights")), size.weights);
    json_decref(described);
    model_clear(&m);
    json_decref(doc);
}
END_TEST

/* Options come through: both versions of a model give the same net and, from the same weights, the same output. */
START_TEST(versions_agree)
{
    static const char *const pairs[][2] = {
        { "layers_keras2.json", "layers_keras3.json" }, { "residual_keras2.json", "residual_keras3.json" }
    };
    float y[2][32];
    size_t n_out = 0;

    for (int v = 0; v < 2; v++) {
        json_t *doc = load(pairs[_i][v]);
        struct model m;
        struct exec *x;
        struct rng r = { .seed = 1 };

        ck_assert_int_eq(keras_read(&m, doc, NULL), ERR_OK);
        ck_assert_int_eq(exec_new(&x, m.net, 1, EXEC_INFER, 1, NULL, NULL), ERR_OK);
        for (size_t i = 0; i < shape_len(net_input(m.net)); i++)
            exec_input(x)[i] = (float)rng_normal(&r, i);
        exec_forward(x, 1, false, 0);
        n_out = shape_len(net_output(m.net));
        memcpy(y[v], exec_value(x, m.net->n_nodes - 1), n_out * sizeof(float));
        exec_free(x);
        model_clear(&m);
        json_decref(doc);
    }
    for (size_t i = 0; i < n_out; i++)
        ck_assert(fabsf(y[0][i] - y[1][i]) < 1e-6f);
}
END_TEST

START_TEST(describes_layers)
{
    json_t *doc = load("mlp_keras3.json"), *d, *want;
    struct model m;

    ck_assert_int_eq(keras_read(&m, doc, NULL), ERR_OK);
    net_weight(m.net, "dense/kernel")->x[0] = 0;
    d = model_describe(m.net);
    want = json_loads("{\"name\": \"dense\", \"op\": \"dense\", \"output\": [64], \"shape\": [64, 100], \"weights\": 6400, \"nonzero\": 6399,"
                      "\"params\": 6464, \"macs\": 6400, \"sparsity\": 0.00015625}", 0, NULL);
    json_object_set_new(want, "sparsity", json_real(1 - 6399.0 / 6400.0));
    ck_assert(json_equal(json_array_get(json_object_get(d, "layers"), 0), want));
    ck_assert_uint_eq(json_array_size(json_object_get(d, "layers")), 3);
    ck_assert_int_eq(json_integer_value(json_array_get(json_object_get(d, "input"), 0)), 100);
    ck_assert_int_eq(json_integer_value(json_array_get(json_object_get(d, "output"), 0)), 10);
    json_decref(want);
    json_decref(d);
    model_clear(&m);
    json_decref(doc);
}
END_TEST

/* The place in a document that a pointer without escapes names; the last step is left in *last. */
static json_t *walk(json_t *v, const char *pointer, char last[64])
{
    const char *p = pointer + 1, *slash;

    for (; (slash = strchr(p, '/')); p = slash + 1) {
        snprintf(last, 64, "%.*s", (int)(slash - p), p);
        v = json_is_array(v) ? json_array_get(v, (size_t)strtol(last, NULL, 10)) : json_object_get(v, last);
    }
    snprintf(last, 64, "%s", p);
    return v;
}

/* Sets (or, without a value, removes) what the pointer names. */
static void edit(json_t *doc, const char *pointer, const char *value)
{
    char last[64];
    json_t *v = walk(doc, pointer, last), *x = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;

    ck_assert_msg(v && (!value || x), "%s", pointer);
    if (json_is_array(v))
        ck_assert_int_eq(x ? json_array_set_new(v, (size_t)strtol(last, NULL, 10), x)
                           : json_array_remove(v, (size_t)strtol(last, NULL, 10)), 0);
    else
        ck_assert_int_eq(x ? json_object_set_new(v, last, x) : json_object_del(v, last), 0);
}

/* file, the change, and what comes of it: ERR_OK, or an error at a pointer (NULL: that of the change) that mentions a word. */
static const struct { const char *file, *pointer, *value; enum err_code code; const char *at, *word; } changes[] = {
#define M3 "mlp_keras3.json"
#define M2 "mlp_keras2.json"
#define R2 "residual_keras2.json"
#define R3 "residual_keras3.json"
#define L2 "layers_keras2.json"
#define L3 "layers_keras3.json"
#define DENSE "/config/layers/1/config"
    /* the model */
    { M3, "/class_name", "\"Subclassed\"", ERR_UNSUPPORTED, NULL, "Sequential" },
    { M3, "/class_name", NULL, ERR_INVALID, NULL, "Sequential" },
    { M3, "/more", "1", ERR_UNSUPPORTED, NULL, "more" },
    { M3, "/config", "1", ERR_INVALID, "/config/layers", "array" },
    { M3, "/config/layers", "[]", ERR_INVALID, NULL, "array" },
    { M3, "/config/trainable", "false", ERR_UNSUPPORTED, NULL, "trainable" },
    { M3, "/config/more", "1", ERR_UNSUPPORTED, NULL, "more" },
    { M3, "/config/layers/1", "7", ERR_INVALID, NULL, "object" },
    { M3, "/config/layers/1/more", "7", ERR_UNSUPPORTED, NULL, "\"dense\"" },
    { M3, "/config/layers/1/class_name", "\"Conv3D\"", ERR_UNSUPPORTED, NULL, "\"dense\": layer class \"Conv3D\"" },
    { M3, "/config/layers/1/class_name", "\"Conv2D\"", ERR_UNSUPPORTED, "/config/layers/1/config/units", "units" },
    { M3, "/config/layers/1/class_name", "\"Functional\"", ERR_UNSUPPORTED, NULL, "inside" },
    { M3, "/config/layers/1/class_name", "3", ERR_INVALID, NULL, "string" },
    { M3, "/config/layers/1/config", "3", ERR_INVALID, "/config/layers/1/config/name", "name" },
    { M3, "/config/layers/2/config/name", "\"dense\"", ERR_INVALID, "/config/layers/2", "two layers" },
    { M3, "/config/layers/2/config/name", "\"\"", ERR_INVALID, NULL, "name" },
    { M3, "/config/layers/2/config/name", "\"a\\u0007b\"", ERR_INVALID, NULL, "control" },
    { M3, "/config/layers/2/config/name", NULL, ERR_INVALID, NULL, "name" },
    { M3, "/config/layers/2/config/name", "\"0123456789012345678901234567890123456789012345678901234567890123456789012345\"", ERR_INVALID,
      "/config/layers/2/config", "bytes" },
    { M3, "/config/layers/2/class_name", "\"InputLayer\"", ERR_UNSUPPORTED, "/config/layers/2/config/units", "units" },
    /* the input's shape */
    { M3, "/config/layers/0/config/batch_shape", "[null, null]", ERR_UNSUPPORTED, NULL, "dimension" },
    { M3, "/config/layers/0/config/batch_shape", "[null]", ERR_UNSUPPORTED, NULL, "array" },
    { M3, "/config/layers/0/config/batch_shape", "[null, 0]", ERR_INVALID, NULL, "dimension" },
    { M3, "/config/layers/0/config/batch_shape", "[null, \"3\"]", ERR_INVALID, NULL, "dimension" },
    { M3, "/config/layers/0/config/batch_shape", "[null, 65536, 65536]", ERR_INVALID, NULL, "numbers" },
    { M3, "/config/layers/0/config/batch_shape", "[null, 10, 10]", ERR_OK, NULL, NULL }, /* at each of ten places */
    { M3, "/config/layers/0/config/batch_shape", "[null, 40000, 10]", ERR_UNSUPPORTED, "/config/layers/1/config", "places; its input is (40000, 10)" },
    { M3, "/config/layers/0/config/batch_shape", "[32, 50]", ERR_OK, NULL, NULL },
    { M3, "/config/layers/0/config/sparse", "true", ERR_UNSUPPORTED, NULL, "sparse" },
    { M3, "/config/layers/0/config/optional", "false", ERR_OK, NULL, NULL },
    { "no_input_layer_keras2.json", "/config/layers/0/config/batch_input_shape", NULL, ERR_INVALID, "/config/layers/0/config", "input shape" },
    { "no_input_layer_keras3.json", "/config/build_input_shape", NULL, ERR_OK, NULL, NULL }, /* build_config has it too */
    { "no_input_layer_keras3.json", "/config/build_input_shape", "3", ERR_UNSUPPORTED, NULL, "array" },
    /* options of layers */
    { M3, DENSE "/trainable", "false", ERR_UNSUPPORTED, NULL, "trainable" },
    { M3, DENSE "/units", "0", ERR_INVALID, NULL, "between" },
    { M3, DENSE "/units", "\"64\"", ERR_INVALID, NULL, "integer" },
    { M3, DENSE "/units", NULL, ERR_INVALID, NULL, "required" },
    { M3, DENSE "/units", "100000000", ERR_INVALID, NULL, "too large" },
    { M3, DENSE "/units", "10000000", ERR_TOO_LARGE, DENSE, "numbers" },
    { M3, DENSE "/use_bias", "1", ERR_INVALID, NULL, "true or false" },
    { M3, DENSE "/kernel_regularizer", "{\"class_name\": \"L2\", \"config\": {\"l2\": 0.01}}", ERR_UNSUPPORTED, NULL, "kernel_regularizer" },
    { M3, DENSE "/kernel_constraint", "{}", ERR_UNSUPPORTED, NULL, "kernel_constraint" },
    { M3, DENSE "/activity_regularizer", "{}", ERR_UNSUPPORTED, NULL, "activity_regularizer" },
    { M3, DENSE "/dtype", "\"mixed_float16\"", ERR_OK, NULL, NULL },
    { M3, DENSE "/a~1b", "1", ERR_UNSUPPORTED, DENSE "/a~01b", "a~1b" },
    /* initialisers */
    { M3, DENSE "/kernel_initializer", "\"he_normal\"", ERR_OK, NULL, NULL },
    { M3, DENSE "/kernel_initializer", "\"HeNormal\"", ERR_OK, NULL, NULL },
    { M3, DENSE "/kernel_initializer", "null", ERR_INVALID, NULL, "initialiser" },
    { M3, DENSE "/kernel_initializer", "\"orthogonal\"", ERR_UNSUPPORTED, NULL, "orthogonal" },
    { M3, DENSE "/kernel_initializer/class_name", "\"Orthogonal\"", ERR_UNSUPPORTED, NULL, "Orthogonal" },
    { M3, DENSE "/kernel_initializer/config", "{\"gain\": 1}", ERR_UNSUPPORTED, DENSE "/kernel_initializer/config/gain", "gain" },
    { M3, DENSE "/kernel_initializer", "{\"class_name\": \"Constant\", \"config\": {\"value\": \"x\"}}", ERR_INVALID,
      DENSE "/kernel_initializer/config/value", "number" },
    { M3, DENSE "/kernel_initializer", "{\"class_name\": \"Constant\", \"config\": {\"value\": 1e300}}", ERR_INVALID,
      DENSE "/kernel_initializer/config/value", "number" },
    { M3, DENSE "/kernel_initializer", "{\"class_name\": \"Constant\", \"config\": 1}", ERR_INVALID, DENSE "/kernel_initializer/config", "object" },
    { M3, DENSE "/kernel_initializer", "{\"class_name\": \"VarianceScaling\", \"config\": {\"scale\": 2, \"mode\": \"fan_in\", "
      "\"distribution\": \"truncated_normal\", \"seed\": 3}}", ERR_OK, NULL, NULL },
    { M3, DENSE "/kernel_initializer", "{\"class_name\": \"VarianceScaling\", \"config\": {\"scale\": 3, \"mode\": \"fan_in\", "
      "\"distribution\": \"uniform\"}}", ERR_UNSUPPORTED, DENSE "/kernel_initializer/config", "VarianceScaling" },
    /* activations */
    { M3, DENSE "/activation", "null", ERR_OK, NULL, NULL },
    { M3, DENSE "/activation", "\"relu6\"", ERR_OK, NULL, NULL },
    { M3, DENSE "/activation", "\"leaky_relu\"", ERR_OK, NULL, NULL },
    { M3, DENSE "/activation", "\"selu\"", ERR_OK, NULL, NULL },
    { M3, DENSE "/activation", "\"hard_silu\"", ERR_OK, NULL, NULL },
    { M2, "/config/layers/1/config/activation", "\"hard_silu\"", ERR_UNSUPPORTED, NULL, "hard_silu" }, /* of Keras 3 */
    { M3, DENSE "/activation", "\"mish\"", ERR_UNSUPPORTED, NULL, "mish" },
    { M3, DENSE "/activation", "1", ERR_INVALID, NULL, "activation" },
    { M3, DENSE "/activation", "{\"class_name\": \"function\", \"config\": \"mish\"}", ERR_UNSUPPORTED, DENSE "/activation/config", "mish" },
    { M3, DENSE "/activation", "{\"class_name\": \"function\"}", ERR_INVALID, DENSE "/activation/config", "name" },
    { M3, DENSE "/activation", "{\"class_name\": \"PReLU\", \"config\": {}}", ERR_UNSUPPORTED, DENSE "/activation/class_name", "PReLU" },
    { M3, DENSE "/activation", "{\"class_name\": \"Dropout\", \"config\": {\"rate\": 0.5}}", ERR_UNSUPPORTED, DENSE "/activation/class_name",
      "no activation" },
    { M3, DENSE "/activation", "{\"class_name\": \"LeakyReLU\", \"config\": {\"negative_slope\": -1}}", ERR_INVALID,
      DENSE "/activation/config/negative_slope", "between" },
    { L2, "/config/layers/1/config/target_shape", "[-1, -1]", ERR_INVALID, "/config/layers/1/config", "" },
    { L2, "/config/layers/1/config/target_shape", "[5, -1]", ERR_INVALID, "/config/layers/1/config", "shape" },
    { L2, "/config/layers/1/config/target_shape", "[0, 24]", ERR_INVALID, NULL, "integers" },
    { L2, "/config/layers/1/config/target_shape", "\"x\"", ERR_INVALID, NULL, "array" },
    { L2, "/config/layers/2/config/data_format", "\"channels_first\"", ERR_OK, NULL, NULL },
    { L2, "/config/layers/2/config/data_format", "\"channels\"", ERR_UNSUPPORTED, NULL, "channels_last" },
    { L2, "/config/layers/4/config/rate", "1.0", ERR_INVALID, NULL, "between" },
    { L2, "/config/layers/4/config/noise_shape", "[1]", ERR_UNSUPPORTED, NULL, "noise_shape" },
    { L2, "/config/layers/4/config/seed", "7", ERR_OK, NULL, NULL },
    { L2, "/config/layers/6/config/axis", "[2]", ERR_INVALID, NULL, "channels'" },
    { L2, "/config/layers/6/config/axis", "[1, 2]", ERR_INVALID, NULL, "integer" },
    { L2, "/config/layers/6/config/moving_mean_initializer", "\"ones\"", ERR_UNSUPPORTED, NULL, "default" },
    { L3, "/config/layers/6/config/synchronized", "true", ERR_UNSUPPORTED, NULL, "synchronized" },
    { L3, "/config/layers/6/config/scale", "false", ERR_OK, NULL, NULL },
    { L2, "/config/layers/7/config/threshold", "1.0", ERR_UNSUPPORTED, NULL, "threshold" },
    { L2, "/config/layers/7/config/negative_slope", "0.5", ERR_UNSUPPORTED, NULL, "negative_slope" },
    { L2, "/config/layers/9/config/alpha", "-1", ERR_INVALID, NULL, "between" },
    { L3, "/config/layers/16/config/axis", "1", ERR_UNSUPPORTED, NULL, "axis" },
    { L3, "/config/layers/14/config/activation", "\"log_softmax\"", ERR_UNSUPPORTED, NULL, "log_softmax" },
    /* convolutions and windows */
#define C3 "lenet5_keras3.json"
#define CONV "/config/layers/1/config"
#define POOL "/config/layers/2/config"
#define I2 "residual_image_keras2.json"
#define N2 "mobile_keras2.json"
#define N3 "mobile_keras3.json"
#define S2 "sequence_keras2.json"
    { C3, "/config/layers/1/class_name", "\"Conv2DTranspose\"", ERR_UNSUPPORTED, NULL, "Conv2DTranspose" },
    { C3, "/config/layers/1/class_name", "\"Conv1D\"", ERR_INVALID, CONV "/kernel_size", "array of one" },
    { C3, "/config/layers/0/config/batch_shape", "[null, 28, 28]", ERR_INVALID, CONV, "images (height, width, channels), not samples of shape (28, 28)" },
    { C3, "/config/layers/0/config/batch_shape", "[null, 784]", ERR_INVALID, CONV, "images" },
    { C3, CONV "/data_format", "\"channels_first\"", ERR_INVALID, CONV "/kernel_size", "an input of 1; its input is (28, 28, 1)" },
    { C3, CONV "/kernel_size", "5", ERR_OK, NULL, NULL },
    { C3, CONV "/kernel_size", "[5]", ERR_INVALID, NULL, "array of two" },
    { C3, CONV "/kernel_size", "[5, 5, 5]", ERR_INVALID, NULL, "array of two" },
    { C3, CONV "/kernel_size", "[5, 0]", ERR_INVALID, NULL, "between" },
    { C3, CONV "/kernel_size", "[29, 5]", ERR_INVALID, NULL, "" },
    { C3, CONV "/kernel_size", "\"5\"", ERR_INVALID, NULL, "integer" },
    { C3, CONV "/kernel_size", NULL, ERR_INVALID, NULL, "required" },
    { C3, CONV "/strides", "[1, 2.5]", ERR_INVALID, NULL, "integer" },
    { C3, CONV "/strides", "[0, 1]", ERR_INVALID, NULL, "between" },
    { C3, CONV "/dilation_rate", "[2, 1]", ERR_OK, NULL, NULL },
    { C3, CONV "/padding", "\"causal\"", ERR_INVALID, NULL, "valid" },
    { C3, CONV "/groups", "3", ERR_INVALID, NULL, "" },
    { C3, CONV "/filters", "0", ERR_INVALID, NULL, "between" },
    { C3, CONV "/filters", "2000000000", ERR_INVALID, NULL, "large" },
    { C3, CONV "/filters", "3000000", ERR_TOO_LARGE, CONV, "numbers" },
    { C3, CONV "/kernel_regularizer", "{}", ERR_UNSUPPORTED, NULL, "kernel_regularizer" },
    { C3, POOL "/strides", "null", ERR_OK, NULL, NULL },
    { C3, POOL "/strides", "[1, 3]", ERR_OK, NULL, NULL },
    { C3, POOL "/pool_size", "[2, 25]", ERR_INVALID, NULL, "" },
    { C3, POOL "/pool_size", "null", ERR_OK, NULL, NULL },
    { C3, "/config/layers/2/class_name", "\"MaxPooling3D\"", ERR_UNSUPPORTED, NULL, "MaxPooling3D" },
    { I2, "/config/layers/2/config/axis", "[2]", ERR_UNSUPPORTED, NULL, "last" },
    { I2, "/config/layers/2/config/axis", "[1]", ERR_OK, NULL, NULL },
    { I2, "/config/layers/2/config/axis", "[-1]", ERR_OK, NULL, NULL },
    { I2, "/config/layers/2/config/axis", "[2, 3]", ERR_INVALID, NULL, "array of one" },
    { I2, "/config/layers/20/config/keepdims", "true", ERR_OK, NULL, NULL },
    { I2, "/config/layers/9/inbound_nodes/0/1/0", "\"input_1\"", ERR_INVALID, "/config/layers/9/config", "added; its inputs are (8, 8, 4) and (8, 8, 3)" },
    { N2, "/config/layers/12/config/groups", "5", ERR_INVALID, NULL, "groups" },
    { N2, "/config/layers/11/config/groups", "2", ERR_UNSUPPORTED, NULL, "groups" },
    { N2, "/config/layers/11/config/depthwise_regularizer", "{}", ERR_UNSUPPORTED, NULL, "depthwise_regularizer" },
    { N2, "/config/layers/11/config/depthwise_initializer", "\"orthogonal\"", ERR_UNSUPPORTED, NULL, "orthogonal" },
    { N2, "/config/layers/14/config/axis", "1", ERR_INVALID, "/config/layers/14/config", "join" },
    { N2, "/config/layers/14/config/axis", "4", ERR_INVALID, NULL, "axis" },
    { N2, "/config/layers/14/config/axis", "0", ERR_INVALID, NULL, "axis" },
    { N2, "/config/layers/15/config/pointwise_initializer", "1", ERR_INVALID, NULL, "initialiser" },
    { N2, "/config/layers/15/config/filters", "0", ERR_INVALID, NULL, "between" },
    { N2, "/config/layers/15/config/kernel_size", "[0, 1]", ERR_INVALID, NULL, "between" },
    { N2, "/config/layers/4/config/cropping", "[[5, 4], [0, 0]]", ERR_INVALID, NULL, "left" },
    { N2, "/config/layers/4/config/cropping", "1", ERR_OK, NULL, NULL },
    { N2, "/config/layers/4/config/cropping", "[1, 0]", ERR_OK, NULL, NULL },
    { N2, "/config/layers/4/config/cropping", "[1, 0, 0, 0]", ERR_INVALID, NULL, "array of two" },
    { N2, "/config/layers/5/config/padding", "[[1, -1], [0, 0]]", ERR_INVALID, NULL, "between" },
    { N2, "/config/layers/5/config/padding", "[[1, 0], [0]]", ERR_INVALID, NULL, "array of two" },
    { N2, "/config/layers/10/config/axis", "[1, 2, 3]", ERR_INVALID, NULL, "array of one" },
    { N2, "/config/layers/10/config/axis", "[2]", ERR_UNSUPPORTED, NULL, "last" },
    { N3, "/config/layers/10/config/rms_scaling", "true", ERR_UNSUPPORTED, NULL, "rms_scaling" },
    { N3, "/config/layers/15/config/use_bias", "false", ERR_OK, NULL, NULL },
    { S2, "/config/layers/2/class_name", "\"AveragePooling1D\"", ERR_OK, NULL, NULL },
    { S2, "/config/layers/2/class_name", "\"GlobalMaxPooling1D\"", ERR_UNSUPPORTED, "/config/layers/2/config/pool_size", "pool_size" },
    { S2, "/config/layers/2/class_name", "\"MaxPooling2D\"", ERR_INVALID, "/config/layers/2/config/pool_size", "array of two" },
    { I2, "/config/layers/20/class_name", "\"GlobalMaxPooling2D\"", ERR_OK, NULL, NULL },
    { I2, "/config/layers/20/class_name", "\"GlobalMaxPooling1D\"", ERR_INVALID, "/config/layers/20/config", "sequences" },
    { I2, "/config/layers/20/class_name", "\"GlobalAveragePooling1D\"", ERR_INVALID, "/config/layers/20/config", "sequences" },
    { I2, "/config/layers/9/class_name", "\"Multiply\"", ERR_OK, NULL, NULL },
    { S2, "/config/layers/1/config/kernel_size", "3", ERR_OK, NULL, NULL },
    { S2, "/config/layers/1/config/kernel_size", "[3, 3]", ERR_INVALID, NULL, "array of one" },
    { S2, "/config/layers/1/config/padding", "\"causal\"", ERR_OK, NULL, NULL },
    { S2, "/config/layers/0/config/batch_input_shape", "[null, 12, 3, 1]", ERR_INVALID, "/config/layers/1/config", "sequences (steps, channels)" },
    { S2, "/config/layers/7/config/target_shape", "[2, 3, 5]", ERR_INVALID, "/config/layers/7/config", "shape" },
    /* numbers rescaled, places, channels first */
#define P2 "places_keras2.json"
#define F3 "first_keras3.json"
    { P2, "/config/layers/1/config/scale", "[0.5, 1, 2]", ERR_OK, NULL, NULL },
    { P2, "/config/layers/1/config/scale", "[0.5]", ERR_OK, NULL, NULL },
    { P2, "/config/layers/1/config/scale", "[0.5, 1]", ERR_INVALID, NULL, "one number, or 3" },
    { P2, "/config/layers/1/config/scale", "[]", ERR_INVALID, NULL, "one number, or 3" },
    { P2, "/config/layers/1/config/scale", "[0.5, 1, true]", ERR_INVALID, NULL, "array of such" },
    { P2, "/config/layers/1/config/scale", "[[0.5, 1, 2]]", ERR_INVALID, NULL, "array of such" },
    { P2, "/config/layers/1/config/scale", "[0.5, 1, 1e31]", ERR_INVALID, NULL, "1e30" },
    { P2, "/config/layers/1/config/scale", "{\"class_name\": \"__numpy__\", \"config\": {\"value\": [1, 2, 3], \"dtype\": \"float32\"}}", ERR_OK, NULL, NULL },
    { P2, "/config/layers/1/config/scale", "{\"class_name\": \"__numpy__\", \"config\": {}}", ERR_INVALID, NULL, "array of such" },
    { P2, "/config/layers/1/config/scale", "\"a\"", ERR_INVALID, NULL, "number" },
    { P2, "/config/layers/1/config/scale", NULL, ERR_INVALID, NULL, "required" },
    { P2, "/config/layers/1/config/offset", NULL, ERR_OK, NULL, NULL },
    { P2, "/config/layers/1/config/offset", "1e300", ERR_INVALID, NULL, "between" },
    { P2, "/config/layers/1/config/offset", "[1, 2, 3]", ERR_OK, NULL, NULL },
    { P2, "/config/layers/1/config/offset", "[1, 2, 3, 4]", ERR_INVALID, NULL, "one number, or 3" },
#define G2 "ranges_keras2.json"
    { G2, "/config/layers/2/config/axis", "null", ERR_OK, NULL, NULL },
    { G2, "/config/layers/2/config/axis", "2", ERR_UNSUPPORTED, NULL, "last" },
    { G2, "/config/layers/2/config/axis", "[1, 2]", ERR_INVALID, NULL, "array of one" },
    { G2, "/config/layers/2/config/invert", "1", ERR_INVALID, NULL, "true or false" },
    { G2, "/config/layers/2/config/mean", "[1, 2, 3]", ERR_INVALID, "/config/layers/2/config/variance", "required" },
    { G2, "/config/layers/2/config/variance", "2", ERR_INVALID, "/config/layers/2/config/mean", "required" },
    { G2, "/config/layers/5/config/mean", "[1, 2, 3]", ERR_INVALID, NULL, "one number, or 4" },
    { G2, "/config/layers/5/config/variance", "[1, 2, 3, -1]", ERR_INVALID, NULL, "0 to 1e30" },
    { G2, "/config/layers/5/config/variance", NULL, ERR_INVALID, NULL, "required" },
    { P2, "/config/layers/4/config/rate", "1", ERR_INVALID, NULL, "between" },
    { P2, "/config/layers/4/config/noise_shape", "[1, 2]", ERR_UNSUPPORTED, NULL, "noise_shape" },
    { P2, "/config/layers/4/class_name", "\"SpatialDropout2D\"", ERR_INVALID, "/config/layers/4/config", "images (height, width, channels), not" },
    { P2, "/config/layers/4/class_name", "\"SpatialDropout3D\"", ERR_UNSUPPORTED, NULL, "SpatialDropout3D" },
    { F3, "/config/layers/2/config/data_format", "\"channels_last\"", ERR_OK, NULL, NULL },
    { F3, "/config/layers/2/config/data_format", "\"first\"", ERR_UNSUPPORTED, NULL, "channels_first" },
    { F3, "/config/layers/0/config/batch_shape", "[null, 9, 8]", ERR_INVALID, "/config/layers/2/config", "images (channels, height, width), not" },
    { F3, "/config/layers/11/config/pool_size", "[20, 1]", ERR_OK, NULL, NULL }, /* same: windows reach out */
    { F3, "/config/layers/11/config/strides", "2", ERR_INVALID, "/config/layers/12/config", "equal; its inputs are (6, 5, 9) and (6, 3, 5)" },
    /* the graph */
    { R2, "/config/input_layers", "[[\"input_1\", 0, 0], [\"dense\", 0, 0]]", ERR_UNSUPPORTED, NULL, "one input" },
    { R2, "/config/output_layers", "[[\"dense_3\", 0, 0], [\"dense\", 0, 0]]", ERR_UNSUPPORTED, NULL, "one output" },
    { R2, "/config/output_layers", "[[\"dense_3\", 0, 1]]", ERR_UNSUPPORTED, NULL, "outputs" },
    { R2, "/config/output_layers", "[[\"nobody\", 0, 0]]", ERR_INVALID, NULL, "nobody" },
    { R2, "/config/output_layers", "[[\"activation\", 0, 0]]", ERR_UNSUPPORTED, "/config/layers/5", "output" },
    { R2, "/config/input_layers", "[[\"dense\", 0, 0]]", ERR_INVALID, NULL, "InputLayer" },
    { R2, "/config/input_layers", "{\"a\": [\"input_1\", 0, 0]}", ERR_UNSUPPORTED, NULL, "one input" },
    { R2, "/config/layers/1/inbound_nodes", "[[[\"input_1\", 0, 0, {}]], [[\"input_1\", 0, 0, {}]]]", ERR_UNSUPPORTED, NULL, "shared" },
    { R2, "/config/layers/1/inbound_nodes", "[[[\"input_1\", 1, 0, {}]]]", ERR_UNSUPPORTED, "/config/layers/1/inbound_nodes/0/0", "shared" },
    { R2, "/config/layers/1/inbound_nodes", "[[\"input_1\", 0, 0, {}]]", ERR_OK, NULL, NULL },
    { R2, "/config/layers/1/inbound_nodes", "[[\"input_1\", 0, 0]]", ERR_OK, NULL, NULL },
    { R2, "/config/layers/1/inbound_nodes", "[]", ERR_INVALID, NULL, "inputs" },
    { R2, "/config/layers/1/inbound_nodes", "[[]]", ERR_INVALID, NULL, "inputs" },
    { R2, "/config/layers/1/inbound_nodes", "7", ERR_INVALID, NULL, "array" },
    { R2, "/config/layers/1/inbound_nodes", NULL, ERR_INVALID, NULL, "array" },
    { R2, "/config/layers/0/inbound_nodes", "[[[\"dense\", 0, 0, {}]]]", ERR_INVALID, NULL, "InputLayer" },
    { R2, "/config/layers/1/inbound_nodes/0/0/0", "\"dense_3\"", ERR_UNSUPPORTED, "/config/layers/9", "output" },
    { R2, "/config/layers/1/inbound_nodes/0/0/0", "\"activation\"", ERR_INVALID, "/config/layers/9", "cycle" },
    { R2, "/config/layers/1/inbound_nodes/0/0/0", "\"dense\"", ERR_INVALID, "/config/layers/9", "cycle" },
    { R2, "/config/layers/6/inbound_nodes/0/0/0", "\"nobody\"", ERR_INVALID, "/config/layers/6/inbound_nodes/0/0", "nobody" },
    { R2, "/config/layers/6/inbound_nodes/0/0/3/training", "true", ERR_UNSUPPORTED, NULL, "training" },
    { R2, "/config/layers/7/inbound_nodes/0/1/0", "\"activation\"", ERR_UNSUPPORTED, "/config/layers/6", "lead" },
    { R2, "/config/layers/7/config/axis", "2", ERR_INVALID, NULL, "axis" },
    { R2, "/config/layers/4/inbound_nodes/0/1/0", "\"input_1\"", ERR_INVALID, "/config/layers/4/config", "add" },
    { R2, "/config/layers/6/class_name", "\"InputLayer\"", ERR_UNSUPPORTED, "/config/layers/6/config/units", "units" },
    { R3, "/config/layers/1/inbound_nodes/0/args", "[7]", ERR_UNSUPPORTED, "/config/layers/1/inbound_nodes/0/args/0", "tensor" },
    { R3, "/config/layers/1/inbound_nodes/0/args", "7", ERR_INVALID, NULL, "array" },
    { R3, "/config/layers/4/inbound_nodes/0/args/0/1", "null", ERR_UNSUPPORTED, NULL, "tensor" },
    { R3, "/config/layers/1/inbound_nodes/0/kwargs/scale", "2", ERR_UNSUPPORTED, NULL, "scale" },
    { R3, "/config/layers/8/inbound_nodes/0/kwargs/training", "true", ERR_UNSUPPORTED, NULL, "training" },
    { R3, "/config/layers/4/inbound_nodes/0/args/0/1/config/keras_history", "[\"dense\", 2, 0]", ERR_UNSUPPORTED, NULL, "shared" },
    { R3, "/config/layers/4/inbound_nodes/0/args/0/1/config/keras_history", "7", ERR_INVALID, NULL, "must be" },
};

START_TEST(changes_are_judged)
{
    json_t *doc = load(changes[_i].file);
    struct model m;
    struct err e = { 0 };
    enum err_code rc;

    edit(doc, changes[_i].pointer, changes[_i].value);
    rc = keras_read(&m, doc, &e);
    ck_assert_msg(rc == changes[_i].code, "%s: %s at %s: %s", changes[_i].pointer, err_slug(rc), e.at, e.msg);
    if (rc == ERR_OK) {
        model_clear(&m);
    } else {
        ck_assert_str_eq(e.at, changes[_i].at ? changes[_i].at : changes[_i].pointer);
        ck_assert_msg(strstr(e.msg, changes[_i].word) != NULL, "%s: %s", changes[_i].pointer, e.msg);
    }
    json_decref(doc);
}
END_TEST

/* Every key that has only one good value is refused with another; every value is refused when it is of no sensible type. */
static void each_place(json_t *doc, json_t *v, int *n)
{
    const char *key;
    json_t *child;
    struct model m;

    if (json_is_array(v)) {
        for (size_t i = 0; i < json_array_size(v); i++)
            each_place(doc, json_array_get(v, i), n);
        return;
    }
    for (void *it = json_object_iter(v), *next; it; it = next) {
        key = json_object_iter_key(it);
        child = json_incref(json_object_iter_value(it));
        next = json_object_iter_next(v, it);
        json_object_set_new(v, key, json_pack("[{s:[i]}]", "odd", 1));
        if (keras_read(&m, doc, NULL) == ERR_OK)
            model_clear(&m);
        else
            (*n)++;
        json_object_set(v, key, child);
        each_place(doc, child, n);
        json_decref(child);
        next = json_object_key_to_iter(key) ? json_object_iter_next(v, json_object_key_to_iter(key)) : NULL;
    }
}

START_TEST(odd_values_do_no_harm)
{
    json_t *doc = load(examples[_i].file);
    struct model m;
    int n = 0;

    each_place(doc, doc, &n);
    ck_assert_int_gt(n, 15);
    ck_assert_int_eq(keras_read(&m, doc, NULL), ERR_OK);
    model_clear(&m);
    json_decref(doc);
}
END_TEST

START_TEST(order_of_layers_is_free)
{
    json_t *doc = load("residual_keras3.json"), *layers = json_object_get(json_object_get(doc, "config"), "layers"), *turned = json_array();
    struct model m;

    for (size_t i = json_array_size(layers); i-- > 0;)
        json_array_append(turned, json_array_get(layers, i));
    json_object_set_new(json_object_get(doc, "config"), "layers", turned);
    ck_assert_int_eq(keras_read(&m, doc, NULL), ERR_OK);
    ck_assert_int_eq(m.net->n_nodes, 13);
    ck_assert_str_eq(m.net->node[12].layer, "dense_3");
    model_clear(&m);
    json_decref(doc);
}
END_TEST

START_TEST(initialisers_are_kerass)
{
    static const struct { const char *json; int kind; double a, b; } inits[] = {
        { "{\"class_name\": \"RandomUniform\", \"config\": {\"minval\": -0.5, \"maxval\": 0.25, \"seed\": 1}}", INIT_RANDOM_UNIFORM, -0.5, 0.25 },
        { "{\"class_name\": \"RandomNormal\", \"config\": {\"mean\": 1, \"stddev\": 2}}", INIT_RANDOM_NORMAL, 1, 2 },
        { "\"truncated_normal\"", INIT_TRUNCATED_NORMAL, 0, 0.05 },
        { "\"random_uniform\"", INIT_RANDOM_UNIFORM, -0.05, 0.05 },
        { "{\"class_name\": \"Constant\", \"config\": {\"value\": 3}}", INIT_CONSTANT, 3, 0 },
        { "{\"class_name\": \"VarianceScaling\", \"config\": {\"scale\": 1.0, \"mode\": \"fan_avg\", \"distribution\": \"uniform\"}}",
          INIT_GLOROT_UNIFORM, 0, 0 },
        { "{\"class_name\": \"VarianceScaling\", \"config\": {\"scale\": 2.0, \"mode\": \"fan_in\", \"distribution\": \"normal\"}}",
          INIT_HE_NORMAL, 0, 0 },
        { "\"lecun_uniform\"", INIT_LECUN_UNIFORM, 0, 0 }, { "\"ones\"", INIT_ONES, 0, 0 }, { "\"glorot_normal\"", INIT_GLOROT_NORMAL, 0, 0 },
    };

    for (size_t i = 0; i < sizeof inits / sizeof inits[0]; i++) {
        json_t *doc = load("mlp_keras3.json");
        struct model m;
        const struct init *got;

        edit(doc, "/config/layers/1/config/kernel_initializer", inits[i].json);
        ck_assert_int_eq(keras_read(&m, doc, NULL), ERR_OK);
        got = &m.net->node[1].plan.weight[0].init;
        ck_assert_int_eq(got->kind, inits[i].kind);
        ck_assert(got->a == inits[i].a && got->b == inits[i].b);
        model_clear(&m);
        json_decref(doc);
    }
}
END_TEST

START_TEST(survives_every_failed_allocation)
{
    json_t *doc = load(examples[_i].file);
    bool fired = true;

    json_set_alloc_funcs(mem_alloc, mem_free);
    for (long k = 1; fired; k++) {
        struct model m = { 0 };

        mem_fail_in = k;
        enum err_code rc = keras_read(&m, doc, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_msg(fired ? rc != ERR_OK : rc == ERR_OK, "allocation %ld: %s", k, err_slug(rc));
        model_clear(&m);
    }
    json_decref(doc);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "keras");

    tcase_add_loop_test(tc, examples_become_nets, 0, N_EXAMPLES);
    tcase_add_loop_test(tc, versions_agree, 0, 2);
    tcase_add_test(tc, describes_layers);
    tcase_add_loop_test(tc, changes_are_judged, 0, sizeof changes / sizeof changes[0]);
    tcase_add_loop_test(tc, odd_values_do_no_harm, 0, N_EXAMPLES);
    tcase_add_test(tc, order_of_layers_is_free);
    tcase_add_test(tc, initialisers_are_kerass);
    tcase_add_loop_test(tc, survives_every_failed_allocation, 0, N_EXAMPLES);
}
SUITE_MAIN("keras", cases)
