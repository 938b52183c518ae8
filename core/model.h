/* core/model.h: models as clients see them: a Keras architecture, and weights by Keras' names and in Keras' layout (kernels [in][out]).
 *
 * A file format is a row of model_format_table; to add one: its reader or writer file, and its row. Readers report the place of what
 * they refuse as a JSON pointer into the document. */
#ifndef CORE_MODEL_H
#define CORE_MODEL_H

#include "core/net.h"
#include "core/safetensors.h"

struct model {
    struct net *net;
    json_t *architecture; /* the Keras JSON as it came: pruning weights does not change it */
};
void model_clear(struct model *m);

/* core/keras.c. A Keras model JSON, Sequential or Functional, as model.to_json() of Keras 2 and 3 prints it. Weights are left as net_init
 * would set them (net_init is called with seed 0; net->trained false). One input, one output. ERR_UNSUPPORTED names layer and option. */
MUST enum err_code keras_read(struct model *out, const json_t *doc, struct err *e);

/* Copies weights out of a safetensors file into the net: every weight exactly once, none unknown, shapes as Keras has them, all finite.
 * Names "dense/kernel" or "dense/kernel:0". Sets net->trained. */
MUST enum err_code model_load_weights(struct net *net, const struct st_file *f, struct err *e);

/* core/document.c. {"architecture": <Keras JSON>, "weights": {name: {"shape": [..], "data": "<base64 of little-endian float32>" | nested
 * arrays}}}; "weights" may be absent. Also takes a bare Keras JSON. Parsed in place from a mapped file: memory is that of the weights, not of
 * the text. Limits: depth 32, 256 KiB... of architecture as model_limits says. */
MUST enum err_code document_read(struct model *out, const char *text, size_t n, struct err *e);

/* What can be fetched: rows "keras" (architecture JSON), "safetensors" (weights), "document" (both in one JSON). */
struct model_format {
    struct plug plug;
    const char *content_type, *extension;
    enum err_code (*write)(const struct model *m, struct file_out *f, struct err *e);
};
extern const struct plug_table model_format_table;

/* Guards before Jansson, which amplifies 50x: depth at most 32, at most max_tokens values and keys. ERR_SYNTAX / ERR_TOO_LARGE. core/jsonguard.c */
MUST enum err_code json_guard(const char *text, size_t n, int max_depth, size_t max_tokens, struct err *e);
/* json_guard, then Jansson with JSON_REJECT_DUPLICATES; messages say line and column. */
MUST enum err_code json_read(json_t **out, const char *text, size_t n, size_t max_tokens, struct err *e);

/* New reference: {"layers": [{"name", "op", "shape", "weights", "params", "macs", "nonzero", "sparsity"}], "input", "output",
 * "weights", "nonzero", "params", "macs", "sparsity"}. */
json_t *model_describe(const struct net *net);

#endif
