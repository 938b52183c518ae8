/* core/keras_layer.c: one Keras layer into nodes. The table says for every Keras class which op it is, and for every key of its config what to
 * do: read it, ignore it, or insist on the value that changes nothing. A key that stands nowhere is refused: a model that would
 * compute something else here than in Keras is never accepted. Both versions' keys stand in one row. */
#include <string.h>

#include "core/keras.h"

enum {
    MAX_NUMBERS =
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
        1 << 16
#else
        1 << 26 /* of all weights of a model: 256 MB. A text of one line may ask for any size */
#endif
};

enum use {
    USE_OPTION,     /* an option of the op, by `value`'s name or its own */
    USE_SCALAR,     /* the same, where Keras also takes a number for each channel: then another row is the right one */
    USE_CHANNELS,   /* a number for each channel, or one for all: lines of channels, which the model then gives */
    USE_NUMBERS,    /* the options in `value`, or of its own name: one number for all, or an array of two, each for half of them (of one for one, or none) */
    USE_NEUTRAL,    /* must have one of the values in `value`, as JSON: "null|false" */
    USE_IGNORE,     /* names, types, hints: no effect on what is computed */
    USE_INIT,       /* an initialiser: an option, by `value`'s name or its own */
    USE_ONLY_INIT,  /* an initialiser that must be `value` */
    USE_SHAPE,      /* the target of Reshape */
    USE_UNITS,      /* an option: how many neurons the layer makes; keras_resize.c changes it */
    USE_ACTIVATION  /* adds a node */
};
struct key {
    const char *name;
    enum use use;
    const char *value;
};
struct class {
    const char *name; /* Keras'; a class with several rows takes the first one that fits */
    const char *op;   /* NULL: the activation alone */
    struct key key[20];
    int rank;               /* of the samples: 3 images, 2 sequences; 0: any */
    const char *kernel[2];  /* how Keras 2 and 3 call the kernel; NULL: as we do */
    const char *options;    /* JSON: the op's options that no key gives */
    bool more;              /* the next row is another node of the layer, behind this one: each knows all keys */
};

static const struct key common[] = {
    { "name", USE_IGNORE, NULL }, { "dtype", USE_IGNORE, NULL }, { "trainable", USE_NEUTRAL, "true" },
    { "batch_input_shape", USE_IGNORE, NULL }, { "batch_shape", USE_IGNORE, NULL }, /* read by keras.c */
    { "build_config", USE_IGNORE, NULL }, { "activity_regularizer", USE_NEUTRAL, "null" },
    { "quantization_config", USE_NEUTRAL, "null" }, { "data_format", USE_NEUTRAL, "\"channels_last\"|\"channels_first\"|null" },
    { "lora_rank", USE_NEUTRAL, "null" }, { "lora_alpha", USE_NEUTRAL, "null" },
#define PLAIN(what) { what "_regularizer", USE_NEUTRAL, "null" }, { what "_constraint", USE_NEUTRAL, "null" }
    PLAIN("kernel"), PLAIN("depthwise"), PLAIN("pointwise"), PLAIN("bias"), PLAIN("beta"), PLAIN("gamma"),
    { NULL, USE_IGNORE, NULL }
};

/* What convolutions have in common, and what windows of images do. */
#define CONV_2D \
    { "kernel_size", USE_NUMBERS, "kernel_height|kernel_width" }, { "strides", USE_NUMBERS, "stride_height|stride_width" }, \
    { "dilation_rate", USE_NUMBERS, "dilation_height|dilation_width" }, { "padding", USE_OPTION, NULL }
#define BIAS_AND_ACTIVATION \
    { "use_bias", USE_OPTION, NULL }, { "bias_initializer", USE_INIT, NULL }, { "activation", USE_ACTIVATION, NULL }
#define POOL_2D \
    { { "pool_size", USE_NUMBERS, "pool_height|pool_width" }, { "strides", USE_NUMBERS, "stride_height|stride_width" }, { "padding", USE_OPTION, NULL } }
#define POOL_1D { { "pool_size", USE_NUMBERS, NULL }, { "strides", USE_NUMBERS, "stride" }, { "padding", USE_OPTION, NULL } }
#define SPATIAL_DROPOUT { { "rate", USE_OPTION, NULL }, { "seed", USE_IGNORE, NULL }, { "noise_shape", USE_NEUTRAL, "null" } }
#define GLOBAL_POOL { { "keepdims", USE_OPTION, NULL } }

static const struct class classes[] = {
    { "InputLayer", "input", .key = { { "sparse", USE_NEUTRAL, "false" }, { "ragged", USE_NEUTRAL, "false" }, { "optional", USE_NEUTRAL, "false" } } },
    { "Dense", "dense", .key = { { "units", USE_UNITS, NULL }, { "kernel_initializer", USE_INIT, NULL }, BIAS_AND_ACTIVATION } },
    { "Conv2D", "conv2d",
      .key = { { "filters", USE_UNITS, NULL }, CONV_2D, { "groups", USE_OPTION, NULL }, { "kernel_initializer", USE_INIT, NULL }, BIAS_AND_ACTIVATION }, .rank = 3 },
    { "DepthwiseConv2D", "depthwise_conv2d",
      .key = { { "depth_multiplier", USE_OPTION, NULL }, CONV_2D, { "groups", USE_NEUTRAL, "1" }, { "depthwise_initializer", USE_INIT, "kernel_initializer" },
        BIAS_AND_ACTIVATION }, .rank = 3, .kernel = { "depthwise_kernel", "kernel" } },
    { "SeparableConv2D", "depthwise_conv2d",
      .key = { { "depth_multiplier", USE_OPTION, NULL }, CONV_2D, { "groups", USE_NEUTRAL, "1" }, { "depthwise_initializer", USE_INIT, "kernel_initializer" },
        { "filters", USE_IGNORE, NULL }, { "pointwise_initializer", USE_IGNORE, NULL }, { "kernel_initializer", USE_IGNORE, NULL },
        { "use_bias", USE_IGNORE, NULL }, { "bias_initializer", USE_IGNORE, NULL }, { "activation", USE_IGNORE, NULL } },
      .rank = 3, .kernel = { "depthwise_kernel", "depthwise_kernel" }, .options = "{\"use_bias\": false}", .more = true },
    { "SeparableConv2D", "conv2d",
      .key = { { "filters", USE_UNITS, NULL }, { "pointwise_initializer", USE_INIT, "kernel_initializer" }, BIAS_AND_ACTIVATION,
        { "depth_multiplier", USE_IGNORE, NULL }, { "kernel_size", USE_IGNORE, NULL }, { "strides", USE_IGNORE, NULL }, { "padding", USE_IGNORE, NULL },
        { "dilation_rate", USE_IGNORE, NULL }, { "groups", USE_IGNORE, NULL }, { "depthwise_initializer", USE_IGNORE, NULL },
        { "kernel_initializer", USE_IGNORE, NULL } },
      .kernel = { "pointwise_kernel", "pointwise_kernel" }, .options = "{\"kernel_height\": 1, \"kernel_width\": 1}" },
    { "Conv1D", "conv1d",
      .key = { { "filters", USE_UNITS, NULL }, { "kernel_size", USE_NUMBERS, NULL }, { "strides", USE_NUMBERS, "stride" },
        { "dilation_rate", USE_NUMBERS, "dilation" }, { "padding", USE_OPTION, NULL }, { "groups", USE_OPTION, NULL },
        { "kernel_initializer", USE_INIT, NULL }, BIAS_AND_ACTIVATION }, .rank = 2 },
    { "MaxPooling2D", "max_pool2d", .key = POOL_2D, .rank = 3 },
    { "AveragePooling2D", "average_pool2d", .key = POOL_2D, .rank = 3 },
    { "MaxPooling1D", "max_pool1d", .key = POOL_1D, .rank = 2 },
    { "AveragePooling1D", "average_pool1d", .key = POOL_1D, .rank = 2 },
    { "GlobalMaxPooling2D", "global_max_pool", .key = GLOBAL_POOL, .rank = 3 },
    { "GlobalAveragePooling2D", "global_average_pool", .key = GLOBAL_POOL, .rank = 3 },
    { "GlobalMaxPooling1D", "global_max_pool", .key = GLOBAL_POOL, .rank = 2 },
    { "GlobalAveragePooling1D", "global_average_pool", .key = GLOBAL_POOL, .rank = 2 },
    { "ZeroPadding2D", "zero_pad2d", .key = { { "padding", USE_NUMBERS, "pad_top|pad_bottom|pad_left|pad_right" } }, .rank = 3 },
    { "ZeroPadding1D", "zero_pad1d", .key = { { "padding", USE_NUMBERS, "pad_left|pad_right" } }, .rank = 2 },
    { "Cropping2D", "cropping2d", .key = { { "cropping", USE_NUMBERS, "crop_top|crop_bottom|crop_left|crop_right" } }, .rank = 3 },
    { "Cropping1D", "cropping1d", .key = { { "cropping", USE_NUMBERS, "crop_left|crop_right" } }, .rank = 2 },
    { "Activation", NULL, .key = { { "activation", USE_ACTIVATION, NULL } } },
    { "ReLU", "relu",
      .key = { { "max_value", USE_OPTION, NULL }, { "negative_slope", USE_NEUTRAL, "0|null" }, { "threshold", USE_NEUTRAL, "0|null" } } },
    { "ReLU", "leaky_relu",
      .key = { { "negative_slope", USE_OPTION, NULL }, { "max_value", USE_NEUTRAL, "null" }, { "threshold", USE_NEUTRAL, "0|null" } } },
    { "LeakyReLU", "leaky_relu", .key = { { "negative_slope", USE_OPTION, NULL }, { "alpha", USE_OPTION, "negative_slope" } } },
    { "ELU", "elu", .key = { { "alpha", USE_OPTION, NULL } } },
    { "Softmax", "softmax", .key = { { "axis", USE_NEUTRAL, "-1" } } },
    { "Dropout", "dropout", .key = { { "rate", USE_OPTION, NULL }, { "seed", USE_IGNORE, NULL }, { "noise_shape", USE_NEUTRAL, "null" } } },
    { "SpatialDropout1D", "spatial_dropout", .key = SPATIAL_DROPOUT, .rank = 2 },
    { "SpatialDropout2D", "spatial_dropout", .key = SPATIAL_DROPOUT, .rank = 3 },
    { "Rescaling", "rescale", .key = { { "scale", USE_SCALAR, NULL }, { "offset", USE_SCALAR, NULL } } },
    { "Rescaling", "standardize", .key = { { "scale", USE_CHANNELS, NULL }, { "offset", USE_CHANNELS, NULL } }, .options = "{\"given\": true}" },
    { "Normalization", "standardize",
      .key = { { "axis", USE_NUMBERS, NULL }, { "invert", USE_OPTION, NULL }, { "mean", USE_CHANNELS, NULL }, { "variance", USE_CHANNELS, NULL } } },
    { "Flatten", "reshape", .key = { { NULL, USE_IGNORE, NULL } } },
    { "Reshape", "reshape", .key = { { "target_shape", USE_SHAPE, NULL } } },
    { "BatchNormalization", "batch_norm",
      .key = { { "axis", USE_NUMBERS, NULL }, { "momentum", USE_OPTION, NULL }, { "epsilon", USE_OPTION, NULL }, { "center", USE_OPTION, NULL },
        { "scale", USE_OPTION, NULL }, { "beta_initializer", USE_INIT, NULL }, { "gamma_initializer", USE_INIT, NULL },
        { "moving_mean_initializer", USE_ONLY_INIT, "zeros" }, { "moving_variance_initializer", USE_ONLY_INIT, "ones" },
        { "synchronized", USE_NEUTRAL, "false" }, { "renorm", USE_NEUTRAL, "false" } } },
    { "LayerNormalization", "layer_norm",
      .key = { { "axis", USE_NUMBERS, NULL }, { "epsilon", USE_OPTION, NULL }, { "center", USE_OPTION, NULL }, { "scale", USE_OPTION, NULL },
        { "beta_initializer", USE_INIT, NULL }, { "gamma_initializer", USE_INIT, NULL }, { "rms_scaling", USE_NEUTRAL, "false" } } },
    { "Add", "add", .key = { { NULL, USE_IGNORE, NULL } } },
    { "Multiply", "multiply", .key = { { NULL, USE_IGNORE, NULL } } },
    { "Concatenate", "concatenate", .key = { { "axis", USE_OPTION, NULL } } },
    { .name = NULL }
};

/* Activations by name, with the one option where Keras' function has another default than our op. version: of Keras, 0: both. */
static const struct { const char *name; int version; const char *op, *option; double value; } activations[] = {
    { "linear", 0, "linear", NULL, 0 }, { "relu", 0, "relu", NULL, 0 }, { "relu6", 0, "relu", "max_value", 6 },
    { "leaky_relu", 0, "leaky_relu", "negative_slope", 0.2 }, { "elu", 0, "elu", NULL, 0 }, { "gelu", 0, "gelu", NULL, 0 },
    { "sigmoid", 0, "sigmoid", NULL, 0 }, { "tanh", 0, "tanh", NULL, 0 }, { "softmax", 0, "softmax", NULL, 0 },
    { "hard_sigmoid", 2, "hard_sigmoid", "slope", 0.2 }, { "hard_sigmoid", 3, "hard_sigmoid", NULL, 0 },
    { "silu", 0, "silu", NULL, 0 }, { "swish", 0, "silu", NULL, 0 }, { "hard_silu", 3, "hard_silu", NULL, 0 }, { "hard_swish", 3, "hard_silu", NULL, 0 },
    { "softplus", 0, "softplus", NULL, 0 }, { "softsign", 0, "softsign", NULL, 0 }, { "selu", 0, "selu", NULL, 0 },
    { "exponential", 0, "exponential", NULL, 0 }
};

enum err_code keras_name_layer(struct err *e, enum err_code code, const char *name)
{
    char msg[sizeof e->msg];

    if (!e)
        return code;
    memcpy(msg, e->msg, sizeof msg);
    snprintf(e->msg, sizeof e->msg, "layer \"%.80s\": %.220s", name, msg);
    return code;
}

enum err_code keras_key_error(struct err *e, enum err_code code, const char *key, const char *what)
{
    char at[sizeof e->at] = "";

    err_step(at, sizeof at, key);
    return err_field(e, code, at, "option \"%.60s\" %s", key, what);
}

static const struct key *find_key(const struct key *keys, const char *name)
{
    for (; keys->name; keys++)
        if (strcmp(keys->name, name) == 0)
            return keys;
    return NULL;
}

/* ---- values of keys ---- */

/* v as it stands in the table; whole numbers have one form, 0 or 0.0. */
static void value_text(char *buf, size_t n, const json_t *v)
{
    snprintf(buf, n, "?");
    if (json_is_number(v))
        snprintf(buf, n, "%g", json_number_value(v) + 0.0);
    else if (json_is_string(v))
        snprintf(buf, n, "\"%s\"", json_string_value(v));
    else if (json_is_null(v) || json_is_boolean(v))
        snprintf(buf, n, "%s", json_is_null(v) ? "null" : json_is_true(v) ? "true" : "false");
}

static bool is_neutral(const json_t *v, const char *values)
{
    char text[80];

    value_text(text, sizeof text, v);
    for (const char *p = values; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strcspn(p, "|") == strlen(text) && strncmp(p, text, strlen(text)) == 0)
            return true;
    return false;
}

static enum err_code set_option(json_t *options, const char *name, json_t *v, struct err *e)
{
    return json_object_set_new(options, name, v) == 0 ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

static enum err_code read_init(json_t *options, const struct key *key, const json_t *v, struct err *e)
{
    json_t *init = NULL;
    enum err_code rc = keras_initializer(&init, v, e);

    if (rc != ERR_OK)
        return err_at(e, rc, "/%s", key->name);
    if (key->use == USE_INIT)
        return set_option(options, key->value ? key->value : key->name, init, e);
    if (strcmp(json_string_value(json_object_get(init, "kind")), key->value) != 0)
        rc = keras_key_error(e, ERR_UNSUPPORTED, key->name, "is supported with its default only");
    json_decref(init);
    return rc;
}

/* Number k of n of a key, v its value: a number of its own, or that of the half it lies in. NULL: v is no such value. */
static json_t *number_at(const json_t *v, int k, int n)
{
    size_t parts = n == 1 ? 1 : 2;

    if (json_is_integer(v))
        return (json_t *)(uintptr_t)v;
    if (json_array_size(v) != parts)
        return NULL;
    return n <= 2 ? json_array_get(v, (size_t)k) : number_at(json_array_get(v, (size_t)k / 2), k % 2, 2);
}

static enum err_code read_numbers(json_t *options, const struct key *key, const json_t *v, struct err *e)
{
    const char *p = key->value ? key->value : key->name;
    int n = 1;
    enum err_code rc = ERR_OK;

    for (const char *c = p; *c; c++)
        n += *c == '|';
    for (int k = 0; k < n && rc == ERR_OK && !json_is_null(v) && !(n == 1 && json_is_array(v) && json_array_size(v) == 0); k++, p += strcspn(p, "|") + 1) {
        json_t *number = number_at(v, k, n);
        char name[32];

        snprintf(name, sizeof name, "%.*s", (int)strcspn(p, "|"), p);
        if (!json_is_integer(number))
            return keras_key_error(e, ERR_INVALID, key->name, n == 1 ? "must be an integer, or an array of one" : "must be an integer, or an array of two");
        rc = set_option(options, name, json_incref(number), e);
    }
    return rc;
}

static enum err_code read_channels(json_t *options, const struct key *key, const json_t *v, struct err *e)
{
    enum err_code rc = json_is_null(v) ? ERR_OK : keras_channels_check(key->name, v, e);

    return rc == ERR_OK && !json_is_null(v) ? set_option(options, "given", json_true(), e) : rc;
}

static enum err_code read_shape(struct plug_value *value, const struct key *key, const json_t *v, struct err *e)
{
    struct reshape_conf conf = { 0 };
    size_t n = json_array_size(v);

    if (!json_is_array(v) || n < 1 || n > SHAPE_MAX)
        return keras_key_error(e, ERR_INVALID, key->name, "must be an array of 1 to 8 integers");
    for (; conf.shape.n_d < (int)n; conf.shape.n_d++) {
        const json_t *d = json_array_get(v, (size_t)conf.shape.n_d);

        if (!json_is_integer(d) || json_integer_value(d) < -1 || json_integer_value(d) == 0 || json_integer_value(d) > INT32_MAX)
            return keras_key_error(e, ERR_INVALID, key->name, "must hold integers of at least 1, and -1 once");
        conf.shape.d[conf.shape.n_d] = (int)json_integer_value(d);
    }
    memcpy(value->conf, &conf, sizeof conf);
    return ERR_OK;
}

/* Reads one key into the op's options, or into its conf where it has no field table. Activations are the caller's. */
static enum err_code read_key(json_t *options, struct plug_value *value, const struct key *key, const json_t *v, struct err *e)
{
    char what[80];

    switch (key->use) {
    case USE_SCALAR:
        if (json_is_array(v) || json_is_object(v))
            return keras_key_error(e, ERR_UNSUPPORTED, key->name, "is supported as one number only");
        /* fall through */
    case USE_UNITS:
    case USE_OPTION: return set_option(options, key->value ? key->value : key->name, json_incref((json_t *)(uintptr_t)v), e);
    case USE_CHANNELS: return read_channels(options, key, v, e);
    case USE_NUMBERS: return read_numbers(options, key, v, e);
    case USE_NEUTRAL:
        snprintf(what, sizeof what, "is supported as %s only", key->value);
        return is_neutral(v, key->value) ? ERR_OK : keras_key_error(e, ERR_UNSUPPORTED, key->name, what);
    case USE_INIT:
    case USE_ONLY_INIT: return read_init(options, key, v, e);
    case USE_SHAPE: return read_shape(value, key, v, e);
    case USE_IGNORE:
    case USE_ACTIVATION: break;
    }
    return ERR_OK;
}

/* Whether the key gives this option. */
static bool gives(const struct key *key, const char *option)
{
    const char *p = key->value ? key->value : key->name;
    size_t n = strlen(option);

    if (key->use == USE_NEUTRAL || key->use == USE_ONLY_INIT)
        return false;
    for (; strncmp(p, option, n) != 0 || (p[n] && p[n] != '|'); p += strcspn(p, "|") + 1)
        if (!p[strcspn(p, "|")])
            return false;
    return true;
}

/* An option's error comes with our name of it: it is that of the key that gave it, or would have. */
static enum err_code rename_option(const struct class *class, const json_t *config, enum err_code rc, struct err *e)
{
    const struct key *found = NULL;

    for (const struct key *k = class->key; e && e->at[0] == '/' && k->name; k++)
        if (gives(k, e->at + 1) && (!found || json_object_get(config, k->name)))
            found = k;
    if (found)
        snprintf(e->at, sizeof e->at, "/%s", found->name);
    return rc;
}

static enum err_code read_keys(json_t *options, struct plug_value *value, const struct class *class, const json_t *config, struct err *e)
{
    const char *name;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)config, name, v)
    {
        const struct key *key = find_key(class->key, name);
        enum err_code rc;

        if (!key)
            key = find_key(common, name);
        rc = key ? read_key(options, value, key, v, e) : keras_key_error(e, ERR_UNSUPPORTED, name, "is not supported");
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

/* The config into the op's conf by one row. */
static enum err_code read_config(struct plug_value *value, const struct class *class, const json_t *config, struct err *e)
{
    const struct op *op = op_find(class->op ? class->op : "linear");
    json_t *options = class->options ? json_loads(class->options, 0, NULL) : json_object();
    enum err_code rc;

    if (!options)
        return err_set(e, ERR_NOMEM, "out of memory");
    *value = (struct plug_value){ .plug = &op->plug };
    rc = read_keys(options, value, class, config, e);
    if (rc == ERR_OK && op->plug.params) {
        rc = params_parse(value->conf, op->plug.conf_size, op->plug.params, options, e);
        rc = rename_option(class, config, rc, e);
    }
    json_decref(options);
    return rc;
}

/* The class by its first row that takes the config; *row is that row. Where none does, the first one that finds something invalid says why, or the first. */
static enum err_code read_class(struct plug_value *value, const struct class **row, const json_t *layer, struct err *e)
{
    const json_t *name = json_object_get(layer, "class_name"), *config = json_object_get(layer, "config");
    enum err_code rc = ERR_UNSUPPORTED, first = ERR_OK;
    struct err why = { 0 };

    *row = NULL;
    if (!json_is_string(name))
        return err_field(e, ERR_INVALID, "/class_name", "must be a string");
    if (!json_is_object(config))
        return err_field(e, ERR_INVALID, "/config", "must be an object");
    for (const struct class *c = classes; c->name && rc != ERR_OK && rc != ERR_NOMEM; c++)
        if (strcmp(c->name, json_string_value(name)) == 0 && !(c > classes && c[-1].more)) {
            struct err own = { 0 };

            *row = c;
            rc = read_config(value, c, config, &own);
            if (rc != ERR_OK && (first == ERR_OK || (first == ERR_UNSUPPORTED && rc == ERR_INVALID))) {
                first = rc;
                why = own;
            }
        }
    if (!*row)
        return err_field(e, ERR_UNSUPPORTED, "/class_name", "layer class \"%.60s\" is not supported", json_string_value(name));
    if (rc != ERR_OK && e)
        *e = why;
    return rc == ERR_OK ? rc : err_at(e, first, "/config");
}

/* ---- activations ---- */

static enum err_code activation_by_name(struct plug_value *value, const char *name, int version, struct err *e)
{
    for (size_t i = 0; i < sizeof activations / sizeof activations[0]; i++) {
        const struct plug *plug;
        json_t *options;
        enum err_code rc;

        if (strcmp(activations[i].name, name) != 0 || (activations[i].version && activations[i].version != version))
            continue;
        plug = &op_find(activations[i].op)->plug;
        *value = (struct plug_value){ .plug = plug };
        options = activations[i].option ? json_pack("{s:f}", activations[i].option, activations[i].value) : NULL;
        if (activations[i].option && !options)
            return err_set(e, ERR_NOMEM, "out of memory");
        rc = params_parse(value->conf, plug->conf_size, plug->params, options, e);
        json_decref(options);
        return rc;
    }
    return err_set(e, ERR_UNSUPPORTED, "activation \"%.60s\" is not supported", name);
}

/* A name, a serialized function ({"class_name": "function", "config": "relu"}), or a serialized activation layer. NULL and null: linear. */
static enum err_code read_activation(struct plug_value *value, const json_t *v, int version, struct err *e)
{
    const json_t *class_name = json_object_get(v, "class_name"), *config = json_object_get(v, "config");
    const struct class *row;
    enum err_code rc;

    if (!v || json_is_null(v))
        return activation_by_name(value, "linear", version, e);
    if (json_is_string(v))
        return activation_by_name(value, json_string_value(v), version, e);
    if (!json_is_object(v))
        return err_set(e, ERR_INVALID, "must be the name of an activation, or an object");
    if (json_is_string(class_name) && strcmp(json_string_value(class_name), "function") == 0) {
        if (!json_is_string(config))
            return err_field(e, ERR_INVALID, "/config", "must be the name of an activation");
        rc = activation_by_name(value, json_string_value(config), version, e);
        return rc == ERR_OK ? rc : err_at(e, rc, "/config");
    }
    rc = read_class(value, &row, v, e);
    if (rc == ERR_OK && !op_of(value->plug)->activation)
        return err_field(e, ERR_UNSUPPORTED, "/class_name", "a layer of this class is no activation");
    return rc;
}

/* ---- nodes ---- */

/* What an op says of shapes it says without them: they stand here as the model has them. */
static void say_inputs(const struct net *net, const int *in, int n_in, struct err *e)
{
    size_t at = e ? strlen(e->msg) : 0;
    char text[96];

    for (int i = 0; i < n_in && e && at < sizeof e->msg; i++) {
        const struct shape s = model_value_shape(&net->node[in[i]]);

        at += (size_t)snprintf(e->msg + at, sizeof e->msg - at, "%s%s", i > 0 ? " and " : n_in > 1 ? "; its inputs are " : "; its input is ",
                               shape_text(&s, text, sizeof text));
    }
}

/* The model's weights must not outgrow the limit: known before anything is allocated for a node. */
static enum err_code check_size(const struct net *net, const struct plug_value *value, const int *in, int n_in, struct err *e)
{
    const struct op *op = op_of(value->plug);
    const struct shape *shape[OP_MAX_IN];
    struct op_plan plan = { 0 };
    size_t n = 0;
    enum err_code rc;

    for (int i = 0; i < n_in; i++)
        shape[i] = &net->node[in[i]].plan.out;
    rc = op->shape(value->conf, shape, n_in, &plan, e);
    if (rc != ERR_OK) {
        say_inputs(net, in, n_in, e);
        return rc;
    }
    for (int i = 0; i < net->n_weights; i++)
        n += net->weight[i].len;
    for (int i = 0; i < plan.n_weights; i++)
        n += shape_len(&plan.weight[i].shape);
    n += 3 * (size_t)plan.n_lines;
    return n > MAX_NUMBERS ? err_set(e, ERR_TOO_LARGE, "the model's weights are more than %d numbers", MAX_NUMBERS) : ERR_OK;
}

/* A node, its inputs brought in order before it. */
static enum err_code node_add(struct net *net, struct plug_value *value, bool first, const char *name, const int *in, int n_in, int *index, struct err *e)
{
    const struct op *op = op_of(value->plug);
    int arranged[OP_MAX_IN];
    enum err_code rc = ERR_OK;

    memcpy(arranged, in, (size_t)n_in * sizeof arranged[0]);
    if (n_in >= op->min_in && n_in <= op->max_in) { /* else net_add says so */
        rc = keras_arrange(net, value, first, name, arranged, n_in, e);
        if (rc == ERR_OK)
            rc = check_size(net, value, arranged, n_in, e);
    }
    if (rc == ERR_OK)
        rc = net_add(net, op, value, name, arranged, n_in, index, e);
    if (rc == ERR_OK)
        keras_settle(net, *index, first);
    return rc;
}

/* Whether the layer has the channels of images and sequences first, in the model, too. */
static bool channels_first(const json_t *config)
{
    const char *format = json_string_value(json_object_get(config, "data_format"));

    return format && strcmp(format, "channels_first") == 0;
}

static enum err_code check_rank(const struct net *net, const struct class *class, bool first, const int *in, struct err *e)
{
    static const char *const takes[2][2] = { { "sequences (steps, channels)", "sequences (channels, steps)" },
                                             { "images (height, width, channels)", "images (channels, height, width)" } };
    const struct shape shape = model_value_shape(&net->node[in[0]]);
    char text[96];

    if (class->rank == 0 || shape.n_d == class->rank)
        return ERR_OK;
    return err_set(e, ERR_INVALID, "%s takes %s, not samples of shape %s", class->name, takes[class->rank == 3][first],
                   shape_text(&shape, text, sizeof text));
}

/* The nodes that a layer is, but for its activation; *row becomes the last one's. */
static enum err_code own_nodes(struct net *net, const struct class **row, struct plug_value *value, const json_t *config, int version, const char *name,
                               const int *in, int n_in, int *index, struct err *e)
{
    const bool first = channels_first(config);
    enum err_code rc = check_rank(net, *row, first, in, e);

    for (; rc == ERR_OK; ++*row, in = index, n_in = 1) {
        const char *kernel = (*row)->kernel[version - 2];

        rc = rename_option(*row, config, node_add(net, value, first, name, in, n_in, index, e), e);
        if (rc == ERR_OK)
            rc = keras_channels_give(&net->node[*index], config, e);
        if (rc == ERR_OK && kernel)
            snprintf(net->weight[net->node[*index].first_weight].name, OP_NAME_MAX, "%s/%s", name, kernel);
        if (rc != ERR_OK || !(*row)->more)
            break;
        rc = read_config(value, *row + 1, config, e);
    }
    return rc;
}

/* Options of an op carry Keras' names: their errors belong to the config. */
static enum err_code add_nodes(struct net *net, const json_t *layer, int version, const char *name, const int *in, int n_in, int *index, struct err *e)
{
    struct plug_value value, activation;
    const struct class *row;
    const json_t *config = json_object_get(layer, "config"), *act;
    enum err_code rc = read_class(&value, &row, layer, e);

    if (rc != ERR_OK)
        return rc;
    if (strcmp(value.plug->name, "input") == 0)
        return err_field(e, ERR_UNSUPPORTED, "/class_name", "a second InputLayer: models of one input are supported");
    act = find_key(row->key, "activation") ? json_object_get(config, "activation") : NULL;
    rc = read_activation(&activation, act, version, e);
    if (rc != ERR_OK)
        return err_at(e, rc, "/config/activation");
    if (row->op)
        rc = own_nodes(net, &row, &value, config, version, name, in, n_in, index, e);
    if (rc == ERR_OK && (!row->op || strcmp(activation.plug->name, "linear") != 0))
        rc = node_add(net, &activation, false, name, row->op ? index : in, row->op ? 1 : n_in, index, e);
    return rc == ERR_OK ? rc : err_at(e, rc, "/config");
}

enum err_code keras_layer_add(struct net *net, const json_t *layer, int version, const char *name, const int *in, int n_in, int *index,
                              struct err *e)
{
    enum err_code rc = add_nodes(net, layer, version, name, in, n_in, index, e);

    return rc == ERR_OK ? rc : keras_name_layer(e, rc, name);
}

enum err_code keras_input_check(const json_t *layer, struct err *e)
{
    struct plug_value value;
    const struct class *row;

    return read_class(&value, &row, layer, e);
}

const char *keras_units_key(const char *class_name)
{
    for (const struct class *c = classes; c->name; c++)
        for (const struct key *k = c->key; k->name; k++)
            if (k->use == USE_UNITS && strcmp(c->name, class_name) == 0)
                return k->name;
    return NULL;
}
