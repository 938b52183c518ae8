/* core/keras.h: what keras.c (models), keras_layer.c (one layer), keras_layout.c (the order of numbers) and keras_resize.c (other sizes) share; others
 * use core/model.h. */
#ifndef CORE_KERAS_H
#define CORE_KERAS_H

#include "core/model.h"

/* Adds the nodes of one layer, all but an InputLayer: its own, one for its activation, and those that bring its inputs in order. layer:
 * {"class_name", "config"}; version: 2 or 3, of Keras; *index: the node that holds its value. Errors name the layer; their pointer is relative to
 * `layer`. */
MUST enum err_code keras_layer_add(struct net *net, const json_t *layer, int version, const char *name, const int *in, int n_in, int *index,
                                   struct err *e);
/* Checks the options of an InputLayer; its shape is read by keras.c. */
MUST enum err_code keras_input_check(const json_t *layer, struct err *e);
/* A weight's initialiser, by name or as an object, into {"kind", "a", "b"}. New reference. */
MUST enum err_code keras_initializer(json_t **out, const json_t *v, struct err *e);
/* The key of config that says how many neurons a layer of this class makes; NULL: it makes none. */
const char *keras_units_key(const char *class_name);

/* core/keras_layout.c. Before a node is added: brings its inputs into the order that its op takes; nodes that do so are added, *in and value's axis
 * changed. first: the layer has the channels first in the model, too. */
MUST enum err_code keras_arrange(struct net *net, struct plug_value *value, bool first, const char *layer, int *in, int n_in, struct err *e);
/* Behind it: says how the numbers of node and weights stand. */
void keras_settle(struct net *net, int node, bool first);
/* The value of *at in the model's order: perhaps another node. */
MUST enum err_code keras_restore(struct net *net, const char *layer, int *at, struct err *e);

/* core/keras_resize.c: the architecture of a model that was read, changed in place. Gives a layer another number of units, and a bias. */
MUST enum err_code keras_set_units(json_t *doc, const char *layer, int units, bool bias, struct err *e);
/* Reshape to one dimension takes what comes. */
MUST enum err_code keras_free_targets(json_t *doc, struct err *e);
/* Where it repeats shapes that follow from others (Keras 3's build_config and tensors), they become those of net, read from it. */
MUST enum err_code keras_set_shapes(json_t *doc, const struct net *net, struct err *e);

/* core/keras_channels.c: a key that has a number for each channel, or one for all; then what such keys of a config say becomes the node's lines. */
MUST enum err_code keras_channels_check(const char *key, const json_t *v, struct err *e);
MUST enum err_code keras_channels_give(struct node *node, const json_t *config, struct err *e);

/* Says what is wrong with a key of a layer's config. Returns code. */
enum err_code keras_key_error(struct err *e, enum err_code code, const char *key, const char *what);
/* Puts the name of the layer before the message. Returns code. */
enum err_code keras_name_layer(struct err *e, enum err_code code, const char *name);

#endif
