/* core/keras.c: a Keras model JSON into a net. Both forms, Sequential and Functional, and both versions' dialects become one list of
 * layers with the places of their inputs; the list is then put in order and added. What the net cannot express is refused: several
 * inputs or outputs, shared layers, models inside models. */
#include "core/keras.h"

#include <string.h>

#include "core/mem.h"

struct layer {
    const json_t *json;
    const char *name;
    int n_in, in[OP_MAX_IN]; /* other layers */
    int node;                /* -1: not added yet */
    bool used, is_input;
};
struct graph {
    const json_t *doc, *layers; /* "/config/layers" */
    json_t *place;              /* layer's name -> its number */
    int n;
    struct layer *layer;
    int version;                /* of Keras: 2 or 3 */
    int input, output;          /* -1: Sequential without InputLayer */
    struct shape shape;         /* of a sample */
    struct net *net;
};

static bool is_text(const json_t *v, const char *text)
{
    return json_is_string(v) && strcmp(json_string_value(v), text) == 0;
}

/* ---- shapes and names ---- */

/* [null, 28, 28]: the batch, then the sample. */
static enum err_code read_batch_shape(struct shape *out, const json_t *v, struct err *e)
{
    size_t n = json_array_size(v);

    if (!json_is_array(v) || n < 2 || n > SHAPE_MAX + 1)
        return err_set(e, ERR_UNSUPPORTED, "must be an array: the batch, then 1 to %d dimensions of a sample", SHAPE_MAX);
    out->n_d = (int)n - 1;
    for (size_t i = 1; i < n; i++) {
        const json_t *d = json_array_get(v, i);

        if (!json_is_integer(d) || json_integer_value(d) < 1 || json_integer_value(d) > INT32_MAX)
            return err_set(e, json_is_null(d) ? ERR_UNSUPPORTED : ERR_INVALID, "every dimension of a sample must be an integer of at least 1");
        out->d[i - 1] = (int)json_integer_value(d);
    }
    return shape_check(out, e);
}

/* Reads key of obj if it is there. */
static enum err_code try_shape(struct shape *out, bool *found, const json_t *obj, const char *key, const char *at, struct err *e)
{
    const json_t *v = json_object_get(obj, key);
    enum err_code rc;

    if (*found || !v || json_is_null(v))
        return ERR_OK;
    *found = true;
    rc = read_batch_shape(out, v, e);
    return rc == ERR_OK ? rc : err_at(e, rc, "%s/%s", at, key);
}

/* Where the shape may stand, in this order: the input (or first) layer's config, the model's config, the model's build_config. */
static enum err_code read_input_shape(struct graph *g, struct err *e)
{
    int first = g->input < 0 ? 0 : g->input;
    const json_t *config = json_object_get(g->layer[first].json, "config"), *model = json_object_get(g->doc, "config");
    bool found = false;
    char at[64];
    enum err_code rc;

    snprintf(at, sizeof at, "%s/%d/config", json_is_array(model) ? "/config" : "/config/layers", first);
    rc = try_shape(&g->shape, &found, config, "batch_shape", at, e);
    if (rc == ERR_OK)
        rc = try_shape(&g->shape, &found, config, "batch_input_shape", at, e);
    if (rc == ERR_OK)
        rc = try_shape(&g->shape, &found, model, "build_input_shape", "/config", e);
    if (rc == ERR_OK)
        rc = try_shape(&g->shape, &found, json_object_get(g->doc, "build_config"), "input_shape", "/build_config", e);
    if (rc == ERR_OK && !found)
        return err_field(e, ERR_INVALID, at, "the model has no input shape: it needs an InputLayer, or batch_input_shape here");
    return rc;
}

/* Keras 2 has the name in Functional beside the config, too. */
static enum err_code read_name(const char **out, const json_t *layer, struct err *e)
{
    const json_t *beside = json_object_get(layer, "name"), *v = beside ? beside : json_object_get(json_object_get(layer, "config"), "name");

    *out = json_string_value(v);
    if (!*out || !**out)
        return err_field(e, ERR_INVALID, beside ? "/name" : "/config/name", "a layer needs a name");
    for (const char *p = *out; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return err_field(e, ERR_INVALID, beside ? "/name" : "/config/name", "a layer's name must not contain control characters");
    return ERR_OK;
}

static enum err_code check_keys(const json_t *obj, const char *const *known, struct err *e)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)obj, key, v)
    {
        char at[sizeof e->at] = "";
        int i = 0;

        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        err_step(at, sizeof at, key);
        if (!known[i])
            return err_field(e, ERR_UNSUPPORTED, at, "option \"%.60s\" is not supported", key);
        if (strcmp(key, "trainable") == 0 && !json_is_true(v))
            return err_field(e, ERR_UNSUPPORTED, at, "option \"trainable\" is supported as true only");
    }
    return ERR_OK;
}

/* ---- layers ---- */

static enum err_code read_layer(struct graph *g, int i, struct err *e)
{
    static const char *const known[] = { "class_name", "name", "config", "inbound_nodes", "module", "registered_name", "build_config",
                                         "shared_object_id", NULL };
    struct layer *l = &g->layer[i];
    const json_t *class_name;
    enum err_code rc;

    l->json = json_array_get(g->layers, (size_t)i);
    l->node = -1;
    class_name = json_object_get(l->json, "class_name");
    if (!json_is_object(l->json))
        return err_set(e, ERR_INVALID, "a layer must be an object");
    rc = read_name(&l->name, l->json, e);
    if (rc != ERR_OK)
        return rc;
    rc = check_keys(l->json, known, e);
    if (rc != ERR_OK)
        return keras_name_layer(e, rc, l->name);
    if (is_text(class_name, "Sequential") || is_text(class_name, "Functional") || is_text(class_name, "Model"))
        return keras_name_layer(e, err_field(e, ERR_UNSUPPORTED, "/class_name", "a model inside a model is not supported"), l->name);
    if (json_object_get(g->place, l->name))
        return keras_name_layer(e, err_set(e, ERR_INVALID, "two layers have this name"), l->name);
    if (json_object_set_new(g->place, l->name, json_integer(i)) != 0)
        return err_set(e, ERR_NOMEM, "out of memory");
    l->is_input = is_text(class_name, "InputLayer");
    rc = l->is_input ? keras_input_check(l->json, e) : ERR_OK;
    return rc == ERR_OK ? rc : keras_name_layer(e, rc, l->name);
}

static enum err_code layer_error(const struct graph *g, int i, enum err_code rc, struct err *e)
{
    return err_at(e, rc, "%s/%d", json_is_array(json_object_get(g->doc, "config")) ? "/config" : "/config/layers", i);
}

static enum err_code read_layers(struct graph *g, struct err *e)
{
    const json_t *config = json_object_get(g->doc, "config");

    g->layers = json_is_array(config) ? config : json_object_get(config, "layers");
    if (!json_is_array(g->layers) || json_array_size(g->layers) == 0)
        return err_field(e, ERR_INVALID, "/config/layers", "must be an array of layers");
    if (json_array_size(g->layers) > NET_MAX_NODES)
        return err_field(e, ERR_TOO_LARGE, "/config/layers", "a model has at most %d layers", NET_MAX_NODES);
    g->n = (int)json_array_size(g->layers);
    g->layer = mem_zalloc((size_t)g->n, sizeof *g->layer);
    g->place = json_object();
    if (!g->layer || !g->place)
        return err_set(e, ERR_NOMEM, "out of memory");
    for (int i = 0; i < g->n; i++) {
        enum err_code rc = read_layer(g, i, e);

        if (rc != ERR_OK)
            return layer_error(g, i, rc, e);
    }
    return ERR_OK;
}

/* ---- Sequential ---- */

static enum err_code link_sequential(struct graph *g, struct err *e)
{
    static const char *const known[] = { "name", "layers", "build_input_shape", "trainable", "dtype", NULL };
    const json_t *config = json_object_get(g->doc, "config");
    enum err_code rc = json_is_object(config) ? check_keys(config, known, e) : ERR_OK;

    if (rc != ERR_OK)
        return err_at(e, rc, "/config");
    g->input = g->layer[0].is_input ? 0 : -1;
    g->output = g->n - 1;
    for (int i = g->input + 1; i < g->n; i++) {
        g->layer[i].n_in = i > 0;
        g->layer[i].in[0] = i - 1;
        if (i > 0)
            g->layer[i - 1].used = true;
    }
    return ERR_OK;
}

/* ---- Functional ---- */

/* ["dense", 0, 0], in Keras 2 perhaps with a fourth, the arguments: the layer it names. */
static enum err_code read_place(const struct graph *g, int *out, const json_t *v, struct err *e)
{
    const json_t *name = json_array_get(v, 0), *node = json_array_get(v, 1), *tensor = json_array_get(v, 2), *place;

    if (!json_is_string(name) || !json_is_integer(node) || !json_is_integer(tensor))
        return err_set(e, ERR_INVALID, "must be [layer's name, node, tensor]");
    if (json_integer_value(node) != 0 || json_integer_value(tensor) != 0)
        return err_set(e, ERR_UNSUPPORTED, "shared layers and layers of several outputs are not supported");
    place = json_object_get(g->place, json_string_value(name));
    if (!place)
        return err_set(e, ERR_INVALID, "there is no layer \"%.60s\"", json_string_value(name));
    *out = (int)json_integer_value(place);
    return ERR_OK;
}

/* Arguments that change nothing: null, and in Keras 3 "training": false, which every call of the model overrides. */
static enum err_code check_arguments(const json_t *args, bool keras3, struct err *e)
{
    const char *key;
    json_t *v;

    if (args && !json_is_object(args))
        return err_set(e, ERR_INVALID, "must be an object");
    json_object_foreach((json_t *)(uintptr_t)args, key, v)
    {
        char at[sizeof e->at] = "";

        err_step(at, sizeof at, key);
        if (!json_is_null(v) && !(keras3 && strcmp(key, "training") == 0 && json_is_false(v)))
            return err_field(e, ERR_UNSUPPORTED, at, "argument \"%.60s\" of a call is not supported", key);
    }
    return ERR_OK;
}

static enum err_code add_input(struct graph *g, struct layer *l, const json_t *place, struct err *e)
{
    int from;
    enum err_code rc = read_place(g, &from, place, e);

    if (rc != ERR_OK)
        return rc;
    if (l->n_in == OP_MAX_IN)
        return err_set(e, ERR_UNSUPPORTED, "a layer of more than %d inputs is not supported", OP_MAX_IN);
    l->in[l->n_in++] = from;
    g->layer[from].used = true;
    return ERR_OK;
}

/* Keras 2: [["a", 0, 0, {}], ["b", 0, 0, {}]], or for one input perhaps ["a", 0, 0, {}]. */
static enum err_code read_call2(struct graph *g, struct layer *l, const json_t *call, struct err *e)
{
    bool one = json_is_string(json_array_get(call, 0));
    size_t n = one ? 1 : json_array_size(call);
    enum err_code rc;

    for (size_t i = 0; i < n; i++) {
        const json_t *place = one ? call : json_array_get(call, i);

        rc = add_input(g, l, place, e);
        if (rc == ERR_OK && (rc = check_arguments(json_array_get(place, 3), false, e)) != ERR_OK)
            err_at(e, rc, "/3");
        if (rc != ERR_OK)
            return one ? rc : err_at(e, rc, "/%zu", i);
    }
    return ERR_OK;
}

/* Keras 3: {"class_name": "__keras_tensor__", "config": {"keras_history": ["a", 0, 0], ..}}. */
static enum err_code read_tensor(struct graph *g, struct layer *l, const json_t *v, struct err *e)
{
    enum err_code rc;

    if (!is_text(json_object_get(v, "class_name"), "__keras_tensor__"))
        return err_set(e, ERR_UNSUPPORTED, "an argument that is no tensor of the model is not supported");
    rc = add_input(g, l, json_object_get(json_object_get(v, "config"), "keras_history"), e);
    return rc == ERR_OK ? rc : err_at(e, rc, "/config/keras_history");
}

/* {"args": [tensor, ..] or [[tensor, ..]], "kwargs": {}}. */
static enum err_code read_call3(struct graph *g, struct layer *l, const json_t *call, struct err *e)
{
    const json_t *args = json_object_get(call, "args");
    enum err_code rc;

    if (!json_is_array(args))
        return err_field(e, ERR_INVALID, "/args", "must be an array");
    for (size_t i = 0; i < json_array_size(args); i++) {
        const json_t *a = json_array_get(args, i);
        size_t n = json_is_array(a) ? json_array_size(a) : 1;

        for (size_t k = 0; k < n; k++) {
            rc = read_tensor(g, l, json_is_array(a) ? json_array_get(a, k) : a, e);
            if (rc != ERR_OK && json_is_array(a))
                err_at(e, rc, "/%zu", k);
            if (rc != ERR_OK)
                return err_at(e, rc, "/args/%zu", i);
        }
    }
    rc = check_arguments(json_object_get(call, "kwargs"), true, e);
    return rc == ERR_OK ? rc : err_at(e, rc, "/kwargs");
}

static enum err_code link_layer(struct graph *g, struct layer *l, struct err *e)
{
    const json_t *calls = json_object_get(l->json, "inbound_nodes"), *call = json_array_get(calls, 0);
    enum err_code rc;

    if (!json_is_array(calls))
        return err_set(e, ERR_INVALID, "must be an array");
    if (json_array_size(calls) > 1)
        return err_set(e, ERR_UNSUPPORTED, "a layer that is called several times (a shared layer) is not supported");
    if (l->is_input)
        return call ? err_set(e, ERR_INVALID, "an InputLayer has no inputs") : ERR_OK;
    if (!json_is_array(call) && !json_is_object(call))
        return err_set(e, ERR_INVALID, "must hold one array or object: the layer's inputs");
    rc = json_is_array(call) ? read_call2(g, l, call, e) : read_call3(g, l, call, e);
    if (rc != ERR_OK)
        return err_at(e, rc, "/0");
    return l->n_in > 0 ? ERR_OK : err_set(e, ERR_INVALID, "the layer has no inputs");
}

/* "input_layers" and "output_layers": [["a", 0, 0]], in Keras 3 also ["a", 0, 0]. */
static enum err_code read_end(const struct graph *g, int *out, const char *key, struct err *e)
{
    const json_t *v = json_object_get(json_object_get(g->doc, "config"), key);
    enum err_code rc;

    if (!json_is_string(json_array_get(v, 0))) {
        if (!json_is_array(v) || json_array_size(v) != 1)
            return err_field(e, ERR_UNSUPPORTED, "", "a model of exactly one input and one output is supported");
        v = json_array_get(v, 0);
    }
    rc = read_place(g, out, v, e);
    return rc;
}

static enum err_code link_functional(struct graph *g, struct err *e)
{
    static const char *const known[] = { "name", "layers", "input_layers", "output_layers", "trainable", "dtype", NULL };
    enum err_code rc = check_keys(json_object_get(g->doc, "config"), known, e);

    if (rc != ERR_OK)
        return err_at(e, rc, "/config");
    if ((rc = read_end(g, &g->input, "input_layers", e)) != ERR_OK)
        return err_at(e, rc, "/config/input_layers");
    if ((rc = read_end(g, &g->output, "output_layers", e)) != ERR_OK)
        return err_at(e, rc, "/config/output_layers");
    if (!g->layer[g->input].is_input)
        return err_field(e, ERR_INVALID, "/config/input_layers", "must name an InputLayer");
    for (int i = 0; i < g->n; i++) {
        rc = link_layer(g, &g->layer[i], e);
        if (rc != ERR_OK) {
            err_at(e, rc, "/inbound_nodes");
            return layer_error(g, i, keras_name_layer(e, rc, g->layer[i].name), e);
        }
    }
    return ERR_OK;
}

/* ---- into the net ---- */

static enum err_code check_uses(const struct graph *g, struct err *e)
{
    for (int i = 0; i < g->n; i++) {
        const struct layer *l = &g->layer[i];

        if (l->is_input && i != g->input)
            return layer_error(g, i, keras_name_layer(e, err_set(e, ERR_UNSUPPORTED, "a second InputLayer is not supported"), l->name), e);
        if (l->used == (i == g->output))
            return layer_error(g, i, keras_name_layer(e, err_set(e, ERR_UNSUPPORTED, l->used ?
                "the output must not be the input of another layer" : "the layer does not lead to the output"), l->name), e);
    }
    if (g->input == g->output)
        return err_field(e, ERR_INVALID, "/config/layers", "the model has no layers behind its input");
    return ERR_OK;
}

/* Adds layer i if its inputs are there. */
static enum err_code add_layer(struct graph *g, int i, bool *added, struct err *e)
{
    struct layer *l = &g->layer[i];
    int in[OP_MAX_IN] = { 0 }; /* without inputs it is the first of a Sequential: node 0 feeds it */
    enum err_code rc;

    for (int k = 0; k < l->n_in; k++) {
        in[k] = g->layer[l->in[k]].node;
        if (in[k] < 0)
            return ERR_OK;
    }
    *added = true;
    rc = keras_layer_add(g->net, l->json, g->version, l->name, in, l->n_in > 0 ? l->n_in : 1, &l->node, e);
    return rc == ERR_OK ? rc : layer_error(g, i, rc, e);
}

/* In the order of the file, as far as inputs come first: rounds, until all are added. The output is then the last. */
static enum err_code add_layers(struct graph *g, struct err *e)
{
    bool added = true;
    int waiting = -1;
    enum err_code rc;

    if (g->input >= 0)
        g->layer[g->input].node = 0;
    while (added) {
        added = false;
        waiting = -1;
        for (int i = 0; i < g->n; i++) {
            if (g->layer[i].node < 0 && (rc = add_layer(g, i, &added, e)) != ERR_OK)
                return rc;
            if (g->layer[i].node < 0)
                waiting = i;
        }
    }
    if (waiting >= 0)
        return layer_error(g, waiting, keras_name_layer(e, err_set(e, ERR_INVALID, "the layers' inputs form a cycle"),
                                                        g->layer[waiting].name), e);
    return ERR_OK;
}

/* The version writes itself, or it is 3: that one names modules instead. */
static int version_of(const json_t *doc)
{
    const json_t *version = json_object_get(doc, "keras_version");

    if (json_is_string(version))
        return json_string_value(version)[0] >= '3' ? 3 : 2;
    return json_object_get(doc, "module") || json_object_get(doc, "registered_name") ? 3 : 2;
}

static enum err_code read_graph(struct graph *g, struct err *e)
{
    static const char *const known[] = { "class_name", "config", "keras_version", "backend", "module", "registered_name", "build_config",
                                         "compile_config", NULL };
    const json_t *class_name = json_object_get(g->doc, "class_name");
    bool functional = is_text(class_name, "Functional") || is_text(class_name, "Model");
    enum err_code rc;

    if (!json_is_object(g->doc))
        return err_set(e, ERR_INVALID, "must be an object: a Keras model JSON%s",
                       json_is_string(g->doc) ? " (the text that to_json() returns, itself, not as a string)" : "");
    if (!functional && !is_text(class_name, "Sequential"))
        return err_field(e, json_is_string(class_name) ? ERR_UNSUPPORTED : ERR_INVALID, "/class_name",
                         "must be \"Sequential\" or \"Functional\", as Keras' to_json() prints it");
    rc = check_keys(g->doc, known, e);
    if (rc == ERR_OK)
        rc = read_layers(g, e);
    if (rc == ERR_OK)
        rc = functional ? link_functional(g, e) : link_sequential(g, e);
    if (rc == ERR_OK)
        rc = check_uses(g, e);
    if (rc == ERR_OK)
        rc = read_input_shape(g, e);
    if (rc == ERR_OK)
        rc = net_new(&g->net, &g->shape, e);
    g->version = version_of(g->doc);
    if (rc == ERR_OK)
        rc = add_layers(g, e);
    return rc == ERR_OK ? keras_restore(g->net, g->layer[g->output].name, &g->layer[g->output].node, e) : rc;
}

enum err_code keras_read(struct model *out, const json_t *doc, struct err *e)
{
    struct graph g = { .doc = doc, .input = -1 };
    enum err_code rc = read_graph(&g, e);

    if (rc == ERR_OK) {
        net_init(g.net, 0);
        *out = (struct model){ g.net, json_incref((json_t *)(uintptr_t)doc) };
    } else {
        net_free(g.net);
    }
    mem_free(g.layer);
    json_decref(g.place);
    return rc;
}
