/* core/model.h: models as clients see them: a Keras architecture, and weights by Keras' names and in Keras' layout (kernels [in][out]).
 *
 * A file format is a row of model_format_table; to add one: its reader or writer file, and its row. Readers report the place of what
 * they refuse as a JSON pointer into the document. */
#ifndef CORE_MODEL_H
#define CORE_MODEL_H

#include "core/jsonguard.h"
#include "core/net.h"
#include "core/safetensors.h"

struct model {
    struct net *net;
    json_t *architecture; /* the Keras JSON as it came: pruning weights does not change it, shrinking makes another (core/shrink.h) */
};
void model_clear(struct model *m);

/* Limits of an architecture's text, for whoever reads one. */
enum { MODEL_MAX_TEXT = 1 << 20, MODEL_MAX_TOKENS = 100000 };

/* core/keras.c. A Keras model JSON, Sequential or Functional, as model.to_json() of Keras 2 and 3 prints it. Weights are left as net_init
 * would set them (net_init is called with seed 0; net->trained false). One input, one output. ERR_UNSUPPORTED names layer and option. */
MUST enum err_code keras_read(struct model *out, const json_t *doc, struct err *e);

/* Keras' layout of a weight: its shape there ([in][out], [kh][kw][in][out]), and where the engine keeps number i of it. */
struct shape model_weight_shape(const struct weight *w);
size_t model_weight_place(const struct weight *w, size_t i);
/* A weight by Keras' name, with ":0" or without; Keras 2 and 3 name depthwise kernels differently, and each name is taken. NULL: there is none. */
struct weight *model_weight(const struct net *net, const char *name);
/* Whether a weight by that name is none, though Keras has it: how many samples a Normalization was adapted to. */
bool model_passes_over(const struct net *net, const char *name);
/* Where number i of Keras' n stands among ours: of a value or vector along flattened images of so many positions (0, 1: none). */
size_t model_place(size_t i, size_t n, int positions);
/* The shape of a node's value in the model: channels last. */
struct shape model_value_shape(const struct node *node);
/* The numbers first .. first+n-1 in Keras' order. */
void model_weight_copy(float *out, const struct weight *w, size_t first, size_t n);

/* Copies weights out of a safetensors file into the net: every weight exactly once, none unknown, shapes as Keras has them, all finite.
 * Names "dense/kernel" or "dense/kernel:0". Sets net->trained. On error the weights are partly written: the net is to be freed. */
MUST enum err_code model_load_weights(struct net *net, const struct st_file *f, struct err *e);

/* core/document.c. {"architecture": <Keras JSON>, "weights": {name: {"shape": [..], "data": "<base64 of little-endian float32>" | nested
 * arrays}}}; "weights" may be absent. Also takes a bare Keras JSON. Parsed in place from a mapped file: memory is that of the weights, not of
 * the text. Limits: depth 32, MODEL_MAX_TEXT and MODEL_MAX_TOKENS of architecture. */
MUST enum err_code document_read(struct model *out, const char *text, size_t n, struct err *e);
MUST enum err_code document_write(const struct model *m, struct file_out *f, struct err *e);
/* The Keras JSON alone. */
MUST enum err_code model_write_architecture(const struct model *m, struct file_out *f, struct err *e);

/* Bytes of the weights as a safetensors file of float32. */
MUST enum err_code model_dense_bytes(const struct net *net, uint64_t *bytes, struct err *e);

/* What can be fetched: rows "keras" (architecture JSON), "safetensors" (weights), "document" (both in one JSON), "packed" (both, small). */
struct model_format {
    struct plug plug;
    const char *content_type, *extension;
    bool weights; /* of no use without weights */
    enum err_code (*write)(const struct model *m, struct file_out *f, struct err *e);
};
extern const struct plug_table model_format_table;

/* New reference, NULL when memory is short: {"layers": [{"name", "op", "output", "shape", "weights", "nonzero", "params", "macs",
 * "sparsity"}], "input", "output", "weights", "nonzero", "params", "macs", "sparsity"}. "input" and "output" are shapes of one sample as Keras has
 * them, a layer's "shape" is that of its kernel, [out, in] and what the window has, or null. The input is no layer. */
json_t *model_describe(const struct net *net);

#endif
