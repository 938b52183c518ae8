/* core/keras_resize.c: a Keras model JSON whose layers get other sizes. Two steps, with the reader between them: first the sizes that clients chose
 * (units, biases, flat targets), then the shapes that follow from them, which Keras 3 also writes down: what a layer was built for, and the tensors
 * that it is called with. */
#include <string.h>

#include "core/keras.h"

static json_t *layers_of(json_t *doc)
{
    json_t *config = json_object_get(doc, "config");

    return json_is_array(config) ? config : json_object_get(config, "layers");
}

static const char *name_of(const json_t *layer)
{
    const char *beside = json_string_value(json_object_get(layer, "name"));

    return beside ? beside : json_string_value(json_object_get(json_object_get(layer, "config"), "name"));
}

static enum err_code put(json_t *object, const char *key, json_t *v, struct err *e)
{
    return json_object_set_new(object, key, v) == 0 ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

enum err_code keras_set_units(json_t *doc, const char *layer, int units, bool bias, struct err *e)
{
    json_t *l;
    size_t i;

    json_array_foreach(layers_of(doc), i, l)
    {
        const char *key = keras_units_key(json_string_value(json_object_get(l, "class_name")));
        json_t *config = json_object_get(l, "config");
        enum err_code rc;

        if (!key || strcmp(name_of(l), layer) != 0)
            continue;
        rc = put(config, key, json_integer(units), e);
        return rc == ERR_OK && bias ? put(config, "use_bias", json_true(), e) : rc;
    }
    return err_set(e, ERR_INTERNAL, "layer \"%.80s\" has no number of units", layer);
}

enum err_code keras_free_targets(json_t *doc, struct err *e)
{
    json_t *l;
    size_t i;

    json_array_foreach(layers_of(doc), i, l)
    {
        json_t *target = json_object_get(json_object_get(l, "config"), "target_shape");

        if (json_array_size(target) == 1 && json_array_set_new(target, 0, json_integer(-1)) != 0)
            return err_set(e, ERR_NOMEM, "out of memory");
    }
    return ERR_OK;
}

/* ---- shapes ---- */

/* The value of a node: [null, 300], [null, 28, 28, 1]; NULL when memory is short. */
static json_t *batch_shape(const struct node *node)
{
    const struct shape s = model_value_shape(node);
    json_t *list = json_array();
    bool ok = list && json_array_append_new(list, json_null()) == 0;

    for (int i = 0; i < s.n_d && ok; i++)
        ok = json_array_append_new(list, json_integer(s.d[i])) == 0;
    if (ok)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *input_shapes(const struct net *net, const struct node *node)
{
    json_t *list = json_array();
    bool ok = list != NULL;

    for (int k = 0; k < node->n_in && ok; k++)
        ok = json_array_append_new(list, batch_shape(&net->node[node->in[k]])) == 0;
    if (ok)
        return list;
    json_decref(list);
    return NULL;
}

/* First (of what the layer itself does) or last node of a layer; NULL: an InputLayer. */
static const struct node *layer_node(const struct net *net, const char *name, bool last)
{
    const struct node *found = NULL;

    for (int i = 1; i < net->n_nodes && (last || !found); i++)
        if (strcmp(net->node[i].layer, name) == 0 && (last || !net->node[i].arranges))
            found = &net->node[i];
    return found;
}

/* {"input_shape": [null, 784]}, of layers of several inputs [[..], ..]. */
static enum err_code set_built(json_t *layer, const struct net *net, const struct node *node, struct err *e)
{
    json_t *built = json_object_get(layer, "build_config"), *shape = json_object_get(built, "input_shape");

    if (!json_is_array(shape))
        return ERR_OK;
    return put(built, "input_shape", json_is_array(json_array_get(shape, 0)) ? input_shapes(net, node) : batch_shape(&net->node[node->in[0]]), e);
}

/* {"class_name": "__keras_tensor__", "config": {"shape": [null, 784], "keras_history": ["dense", 0, 0]}} */
static enum err_code set_tensor(json_t *tensor, const struct net *net, struct err *e)
{
    json_t *config = json_object_get(tensor, "config");
    const char *name = json_string_value(json_array_get(json_object_get(config, "keras_history"), 0));
    const struct node *from = name ? layer_node(net, name, true) : NULL;

    return from && json_object_get(config, "shape") ? put(config, "shape", batch_shape(from), e) : ERR_OK;
}

static enum err_code set_tensors(json_t *layer, const struct net *net, struct err *e)
{
    json_t *args = json_object_get(json_array_get(json_object_get(layer, "inbound_nodes"), 0), "args"), *a, *tensor;
    enum err_code rc = ERR_OK;
    size_t i, k;

    json_array_foreach(args, i, a)
    {
        if (json_is_object(a) && rc == ERR_OK)
            rc = set_tensor(a, net, e);
        json_array_foreach(a, k, tensor)
            if (rc == ERR_OK)
                rc = set_tensor(tensor, net, e);
    }
    return rc;
}

enum err_code keras_set_shapes(json_t *doc, const struct net *net, struct err *e)
{
    enum err_code rc = ERR_OK;
    json_t *l;
    size_t i;

    json_array_foreach(layers_of(doc), i, l)
    {
        const struct node *node = layer_node(net, name_of(l), false);

        if (node && rc == ERR_OK)
            rc = set_built(l, net, node, e);
        if (rc == ERR_OK)
            rc = set_tensors(l, net, e);
    }
    return rc;
}
