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
    USE_NEUTRAL,    /* must have one of the values in `value`, as JSON: "null|false" */
    USE_IGNORE,     /* names, types, hints: no effect on what is computed */
    USE_INIT,       /* an initialiser */
    USE_AXIS,       /* a number, or (Keras 2) an array of one */
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
    struct key key[16];
};

static const struct key common[] = {
    { "name", USE_IGNORE, NULL }, { "dtype", USE_IGNORE, NULL }, { "trainable", USE_NEUTRAL, "true" },
    { "batch_input_shape", USE_IGNORE, NULL }, { "batch_shape", USE_IGNORE, NULL }, /* read by keras.c */
    { "build_config", USE_IGNORE, NULL }, { "activity_regularizer", USE_NEUTRAL, "null" },
    { "quantization_config", USE_NEUTRAL, "null" }, { NULL, USE_IGNORE, NULL }
};

static const struct class classes[] = {
    { "InputLayer", "input", { { "sparse", USE_NEUTRAL, "false" }, { "ragged", USE_NEUTRAL, "false" }, { "optional", USE_NEUTRAL, "false" } } },
    { "Dense", "dense",
      { { "units", USE_UNITS, NULL }, { "activation", USE_ACTIVATION, NULL }, { "use_bias", USE_OPTION, NULL },
        { "kernel_initializer", USE_INIT, NULL }, { "bias_initializer", USE_INIT, NULL }, { "kernel_regularizer", USE_NEUTRAL, "null" },
        { "bias_regularizer", USE_NEUTRAL, "null" }, { "kernel_constraint", USE_NEUTRAL, "null" },
        { "bias_constraint", USE_NEUTRAL, "null" }, { "lora_rank", USE_NEUTRAL, "null" }, { "lora_alpha", USE_NEUTRAL, "null" } } },
    { "Activation", NULL, { { "activation", USE_ACTIVATION, NULL } } },
    { "ReLU", "relu",
      { { "max_value", USE_OPTION, NULL }, { "negative_slope", USE_NEUTRAL, "0|null" }, { "threshold", USE_NEUTRAL, "0|null" } } },
    { "ReLU", "leaky_relu",
      { { "negative_slope", USE_OPTION, NULL }, { "max_value", USE_NEUTRAL, "null" }, { "threshold", USE_NEUTRAL, "0|null" } } },
    { "LeakyReLU", "leaky_relu", { { "negative_slope", USE_OPTION, NULL }, { "alpha", USE_OPTION, "negative_slope" } } },
    { "ELU", "elu", { { "alpha", USE_OPTION, NULL } } },
    { "Softmax", "softmax", { { "axis", USE_NEUTRAL, "-1" } } },
    { "Dropout", "dropout", { { "rate", USE_OPTION, NULL }, { "seed", USE_IGNORE, NULL }, { "noise_shape", USE_NEUTRAL, "null" } } },
    { "Flatten", "reshape", { { "data_format", USE_NEUTRAL, "\"channels_last\"|null" } } },
    { "Reshape", "reshape", { { "target_shape", USE_SHAPE, NULL } } },
    { "BatchNormalization", "batch_norm",
      { { "axis", USE_AXIS, NULL }, { "momentum", USE_OPTION, NULL }, { "epsilon", USE_OPTION, NULL }, { "center", USE_OPTION, NULL },
        { "scale", USE_OPTION, NULL }, { "beta_initializer", USE_INIT, NULL }, { "gamma_initializer", USE_INIT, NULL },
        { "moving_mean_initializer", USE_INIT, "zeros" }, { "moving_variance_initializer", USE_INIT, "ones" },
        { "beta_regularizer", USE_NEUTRAL, "null" }, { "gamma_regularizer", USE_NEUTRAL, "null" },
        { "beta_constraint", USE_NEUTRAL, "null" }, { "gamma_constraint", USE_NEUTRAL, "null" },
        { "synchronized", USE_NEUTRAL, "false" }, { "renorm", USE_NEUTRAL, "false" } } },
    { "Add", "add", { { NULL, USE_IGNORE, NULL } } },
    { "Concatenate", "concatenate", { { "axis", USE_OPTION, NULL } } },
    { NULL, NULL, { { NULL, USE_IGNORE, NULL } } }
};

/* Activations by name, with the one option where Keras' function has another default than our op. */
static const struct { const char *name, *op, *option; double value; } activations[] = {
    { "linear", "linear", NULL, 0 }, { "relu", "relu", NULL, 0 }, { "relu6", "relu", "max_value", 6 },
    { "leaky_relu", "leaky_relu", "negative_slope", 0.2 }, { "elu", "elu", NULL, 0 }, { "gelu", "gelu", NULL, 0 },
    { "sigmoid", "sigmoid", NULL, 0 }, { "tanh", "tanh", NULL, 0 }, { "softmax", "softmax", NULL, 0 }
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

static enum err_code key_error(struct err *e, enum err_code code, const char *key, const char *what)
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

static enum err_code read_init(json_t *options, const struct key *key, const json_t *v, struct err *e)
{
    json_t *init = NULL;
    enum err_code rc = keras_initializer(&init, v, e);

    if (rc != ERR_OK)
        return err_at(e, rc, "/%s", key->name);
    if (!key->value)
        return json_object_set_new(options, key->name, init) == 0 ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
    if (strcmp(json_string_value(json_object_get(init, "kind")), key->value) != 0)
        rc = key_error(e, ERR_UNSUPPORTED, key->name, "is supported with its default only");
    json_decref(init);
    return rc;
}

static enum err_code read_shape(struct plug_value *value, const struct key *key, const json_t *v, struct err *e)
{
    struct reshape_conf conf = { 0 };
    size_t n = json_array_size(v);

    if (!json_is_array(v) || n < 1 || n > SHAPE_MAX)
        return key_error(e, ERR_INVALID, key->name, "must be an array of 1 to 8 integers");
    for (; conf.shape.n_d < (int)n; conf.shape.n_d++) {
        const json_t *d = json_array_get(v, (size_t)conf.shape.n_d);

        if (!json_is_integer(d) || json_integer_value(d) < -1 || json_integer_value(d) == 0 || json_integer_value(d) > INT32_MAX)
            return key_error(e, ERR_INVALID, key->name, "must hold integers of at least 1, and -1 once");
        conf.shape.d[conf.shape.n_d] = (int)json_integer_value(d);
    }
    memcpy(value->conf, &conf, sizeof conf);
    return ERR_OK;
}

/* Reads one key into the op's options, or into its conf where it has no field table. Activations are the caller's. */
static enum err_code read_key(json_t *options, struct plug_value *value, const struct key *key, const json_t *v, struct err *e)
{
    const char *name = (key->use == USE_OPTION || key->use == USE_UNITS) && key->value ? key->value : key->name;
    char what[80];

    switch (key->use) {
    case USE_AXIS:
        if (json_array_size(v) == 1)
            v = json_array_get(v, 0);
        /* fallthrough */
    case USE_UNITS:
    case USE_OPTION:
        return json_object_set(options, name, (json_t *)(uintptr_t)v) == 0 ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
    case USE_NEUTRAL:
        snprintf(what, sizeof what, "is supported as %s only", key->value);
        return is_neutral(v, key->value) ? ERR_OK : key_error(e, ERR_UNSUPPORTED, key->name, what);
    case USE_INIT: return read_init(options, key, v, e);
    case USE_SHAPE: return read_shape(value, key, v, e);
    case USE_IGNORE:
    case USE_ACTIVATION: break;
    }
    return ERR_OK;
}

/* An option's error comes with our name of it. */
static enum err_code rename_option(const struct class *class, const json_t *config, enum err_code rc, struct err *e)
{
    for (const struct key *k = class->key; e && k->name; k++)
        if ((k->use == USE_OPTION || k->use == USE_UNITS) && k->value && e->at[0] == '/' && strcmp(e->at + 1, k->value) == 0 && json_object_get(config, k->name))
            snprintf(e->at, sizeof e->at, "/%s", k->name);
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
        rc = key ? read_key(options, value, key, v, e) : key_error(e, ERR_UNSUPPORTED, name, "is not supported");
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

/* The config into the op's conf by one row. */
static enum err_code read_config(struct plug_value *value, const struct class *class, const json_t *config, struct err *e)
{
    const struct op *op = op_find(class->op ? class->op : "linear");
    json_t *options = json_object();
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

/* The class by its first row that takes the config; *row is that row. Where none does, the first one says why. */
static enum err_code read_class(struct plug_value *value, const struct class **row, const json_t *layer, struct err *e)
{
    const json_t *name = json_object_get(layer, "class_name"), *config = json_object_get(layer, "config");
    enum err_code rc = ERR_UNSUPPORTED, first = ERR_OK;

    *row = NULL;
    if (!json_is_string(name))
        return err_field(e, ERR_INVALID, "/class_name", "must be a string");
    if (!json_is_object(config))
        return err_field(e, ERR_INVALID, "/config", "must be an object");
    for (const struct class *c = classes; c->name && rc != ERR_OK && rc != ERR_NOMEM; c++)
        if (strcmp(c->name, json_string_value(name)) == 0) {
            *row = c;
            rc = read_config(value, c, config, first == ERR_OK ? e : NULL);
            first = first == ERR_OK ? rc : first;
        }
    if (!*row)
        return err_field(e, ERR_UNSUPPORTED, "/class_name", "layer class \"%.60s\" is not supported", json_string_value(name));
    return rc == ERR_OK ? rc : err_at(e, first, "/config");
}

/* ---- activations ---- */

static enum err_code activation_by_name(struct plug_value *value, const char *name, struct err *e)
{
    for (size_t i = 0; i < sizeof activations / sizeof activations[0]; i++) {
        const struct plug *plug;
        json_t *options;
        enum err_code rc;

        if (strcmp(activations[i].name, name) != 0)
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
static enum err_code read_activation(struct plug_value *value, const json_t *v, struct err *e)
{
    const json_t *class_name = json_object_get(v, "class_name"), *config = json_object_get(v, "config");
    const struct class *row;
    enum err_code rc;

    if (!v || json_is_null(v))
        return activation_by_name(value, "linear", e);
    if (json_is_string(v))
        return activation_by_name(value, json_string_value(v), e);
    if (!json_is_object(v))
        return err_set(e, ERR_INVALID, "must be the name of an activation, or an object");
    if (json_is_string(class_name) && strcmp(json_string_value(class_name), "function") == 0) {
        if (!json_is_string(config))
            return err_field(e, ERR_INVALID, "/config", "must be the name of an activation");
        rc = activation_by_name(value, json_string_value(config), e);
        return rc == ERR_OK ? rc : err_at(e, rc, "/config");
    }
    rc = read_class(value, &row, v, e);
    if (rc == ERR_OK && !op_of(value->plug)->activation)
        return err_field(e, ERR_UNSUPPORTED, "/class_name", "a layer of this class is no activation");
    return rc;
}

/* ---- nodes ---- */

/* net_add, unless the model's weights would outgrow the limit: nothing is allocated before that is known. */
static enum err_code node_add(struct net *net, const struct plug_value *value, const char *name, const int *in, int n_in, int *index,
                              struct err *e)
{
    const struct op *op = op_of(value->plug);
    const struct shape *shape[OP_MAX_IN];
    struct op_plan plan = { 0 };
    size_t n = 0;
    enum err_code rc;

    if (n_in >= op->min_in && n_in <= op->max_in) {
        for (int i = 0; i < n_in; i++)
            shape[i] = &net->node[in[i]].plan.out;
        rc = op->shape(value->conf, shape, n_in, &plan, e);
        if (rc != ERR_OK)
            return rc;
    }
    for (int i = 0; i < net->n_weights; i++)
        n += net->weight[i].len;
    for (int i = 0; i < plan.n_weights; i++)
        n += shape_len(&plan.weight[i].shape);
    if (n > MAX_NUMBERS)
        return err_set(e, ERR_TOO_LARGE, "the model's weights are more than %d numbers", MAX_NUMBERS);
    return net_add(net, op, value, name, in, n_in, index, e);
}

/* Options of an op carry Keras' names: their errors belong to the config. */
static enum err_code add_nodes(struct net *net, const json_t *layer, const char *name, const int *in, int n_in, int *index, struct err *e)
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
    rc = read_activation(&activation, act, e);
    if (rc != ERR_OK)
        return err_at(e, rc, "/config/activation");
    if (row->op)
        rc = node_add(net, &value, name, in, n_in, index, e);
    if (rc == ERR_OK && (!row->op || strcmp(activation.plug->name, "linear") != 0))
        rc = node_add(net, &activation, name, row->op ? index : in, row->op ? 1 : n_in, index, e);
    return rc == ERR_OK ? rc : err_at(e, rc, "/config");
}

enum err_code keras_layer_add(struct net *net, const json_t *layer, const char *name, const int *in, int n_in, int *index, struct err *e)
{
    enum err_code rc = add_nodes(net, layer, name, in, n_in, index, e);

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
