/* core/model.c: see model.h: between the engine's layout of weights and Keras', and out into files. Writers hold a few kilobytes,
 * whatever the model's size. */
#include "core/model.h"

#include <string.h>

#include "core/mem.h"
#include "core/packed.h"

void model_clear(struct model *m)
{
    net_free(m->net);
    json_decref(m->architecture);
    *m = (struct model){ 0 };
}

/* ---- layout: the engine's [out][in][rest...] is Keras' [rest...][in][out]; vectors are the same in both. Where flattened images are read, the engine
 * has the positions of each channel together, Keras the channels of each position ---- */

struct shape model_weight_shape(const struct weight *w)
{
    const struct shape *ours = &w->info.shape;
    struct shape s = *ours;

    for (int i = 2; i < ours->n_d; i++)
        s.d[i - 2] = ours->d[i];
    if (ours->n_d >= 2) {
        s.d[s.n_d - 2] = w->multiplier ? ours->d[0] / w->multiplier : ours->d[1];
        s.d[s.n_d - 1] = w->multiplier ? w->multiplier : ours->d[0];
    }
    return s;
}

size_t model_place(size_t i, size_t n, int positions)
{
    size_t p = positions > 1 ? (size_t)positions : 1;

    return i % (n / p) * p + i / (n / p);
}

size_t model_weight_place(const struct weight *w, size_t i)
{
    size_t n_out, n_in, out, in;

    if (w->info.shape.n_d < 2)
        return model_place(i, w->len, w->positions);
    n_out = (size_t)w->info.shape.d[0];
    n_in = (size_t)w->info.shape.d[1];
    out = i % n_out;
    in = model_place(i / n_out % n_in, n_in, w->positions);
    return (out * n_in + in) * (w->len / (n_out * n_in)) + i / (n_out * n_in);
}

void model_weight_copy(float *out, const struct weight *w, size_t first, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = w->x[model_weight_place(w, first + i)];
}

struct shape model_value_shape(const struct node *node)
{
    struct shape s = node->plan.out;

    for (int i = 0; node->positions && i < s.n_d; i++)
        s.d[i] = node->plan.out.d[(i + 1) % s.n_d];
    return s;
}

/* ---- weights in ---- */

struct weight *model_weight(const struct net *net, const char *name)
{
    static const char *const twins[] = { "kernel", "depthwise_kernel" };
    const char *slash = strrchr(name, '/');
    struct weight *w = net_weight(net, name);
    char other[OP_NAME_MAX];

    for (int i = 0; slash && !w && i < 2; i++) {
        size_t n = strlen(twins[i]);

        if (strncmp(slash + 1, twins[i], n) != 0 || (slash[1 + n] && strcmp(slash + 1 + n, ":0") != 0))
            continue;
        snprintf(other, sizeof other, "%.*s/%s", (int)(slash - name), name, twins[1 - i]);
        w = net_weight(net, other);
        w = w && w->multiplier ? w : NULL;
    }
    return w;
}

bool model_passes_over(const struct net *net, const char *name)
{
    const char *slash = strrchr(name, '/');

    for (int i = 1; i < net->n_nodes && slash; i++) {
        const char *layer = net->node[i].layer;

        if (net->node[i].op == op_find("standardize") && strlen(layer) == (size_t)(slash - name) && strncmp(layer, name, strlen(layer)) == 0)
            return strcmp(slash, "/count") == 0 || strcmp(slash, "/count:0") == 0;
    }
    return false;
}

static enum err_code weight_error(struct err *e, const char *name, const char *what)
{
    char at[sizeof e->at] = "";

    err_step(at, sizeof at, name);
    return err_field(e, ERR_INVALID, at, "weight \"%.100s\" %s", name, what);
}

/* The weight that array a is for; it must fit. */
static enum err_code match(struct weight **out, struct net *net, bool *seen, const struct st_array *a, struct err *e)
{
    struct weight *w = model_weight(net, a->name);
    struct shape want;
    char what[240], is[96], has[96];

    if (!w)
        return weight_error(e, a->name, "is not in the model");
    if (seen[w - net->weight])
        return weight_error(e, a->name, "stands twice");
    seen[w - net->weight] = true;
    want = model_weight_shape(w);
    snprintf(what, sizeof what, "has the shape %s, but the model's is %s", shape_text(&a->shape, is, sizeof is), shape_text(&want, has, sizeof has));
    if (!shape_equal(&want, &a->shape))
        return weight_error(e, a->name, what);
    *out = w;
    return ERR_OK;
}

static enum err_code load(struct weight *w, const struct st_array *a, struct err *e)
{
    float *x = mem_alloc(w->len * sizeof *x);
    enum err_code rc = x ? st_floats(a, x, e) : err_set(e, ERR_NOMEM, "out of memory");

    for (size_t i = 0; rc == ERR_OK && i < w->len; i++)
        w->x[model_weight_place(w, i)] = x[i];
    mem_free(x);
    return rc;
}

enum err_code model_load_weights(struct net *net, const struct st_file *f, struct err *e)
{
    bool *seen = mem_zalloc((size_t)net->n_weights, sizeof *seen);
    enum err_code rc = seen ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
    struct weight *w;

    for (int i = 0; i < f->n && rc == ERR_OK; i++) {
        if (model_passes_over(net, f->array[i].name))
            continue;
        rc = match(&w, net, seen, &f->array[i], e);
        if (rc == ERR_OK)
            rc = load(w, &f->array[i], e);
    }
    for (int i = 0; i < net->n_weights && rc == ERR_OK; i++)
        if (!seen[i])
            rc = weight_error(e, net->weight[i].name, "is missing");
    mem_free(seen);
    if (rc == ERR_OK)
        net->trained = true;
    return rc;
}

/* ---- formats out ---- */

struct json_out {
    struct file_out *f;
    struct err *e;
    enum err_code rc; /* the first error: Jansson may go on after one */
};

static int json_piece(const char *text, size_t n, void *user)
{
    struct json_out *out = user;

    if (out->rc == ERR_OK)
        out->rc = file_out_write(out->f, text, n, out->e);
    return out->rc == ERR_OK ? 0 : -1;
}

enum err_code model_write_architecture(const struct model *m, struct file_out *f, struct err *e)
{
    struct json_out out = { f, e, ERR_OK };
    int failed = json_dump_callback(m->architecture, json_piece, &out, JSON_COMPACT);

    if (failed && out.rc == ERR_OK)
        return err_set(e, ERR_NOMEM, "out of memory");
    return out.rc;
}

static enum err_code write_numbers(const struct weight *w, struct file_out *f, struct err *e)
{
    float chunk[4096];
    enum err_code rc = ERR_OK;

    for (size_t i = 0, n; i < w->len && rc == ERR_OK; i += n) {
        n = w->len - i < 4096 ? w->len - i : 4096;
        model_weight_copy(chunk, w, i, n);
        rc = file_out_write(f, chunk, n * sizeof chunk[0], e);
    }
    return rc;
}

/* *out: a writer that knows what the arrays are, not their numbers; to be freed on error too. */
static enum err_code describe_arrays(struct st_writer **out, const struct net *net, struct err *e)
{
    enum err_code rc;

    *out = NULL;
    rc = st_writer_new(out, e);
    for (int i = 0; i < net->n_weights && rc == ERR_OK; i++) {
        struct shape shape = model_weight_shape(&net->weight[i]);

        rc = st_add(*out, net->weight[i].name, ST_F32, &shape, NULL, e);
    }
    return rc;
}

enum err_code model_dense_bytes(const struct net *net, uint64_t *bytes, struct err *e)
{
    struct st_writer *w;
    enum err_code rc = describe_arrays(&w, net, e);

    if (rc == ERR_OK)
        rc = st_size(w, bytes, e);
    st_writer_free(w);
    return rc;
}

static enum err_code write_safetensors(const struct model *m, struct file_out *f, struct err *e)
{
    struct st_writer *w;
    enum err_code rc = describe_arrays(&w, m->net, e);

    if (rc == ERR_OK)
        rc = st_write_header(w, NULL, f, e);
    for (int i = 0; i < m->net->n_weights && rc == ERR_OK; i++)
        rc = write_numbers(&m->net->weight[i], f, e);
    st_writer_free(w);
    return rc;
}

static const struct model_format keras = {
    { "keras", "The architecture as a Keras model JSON.", NULL, 0 }, "application/json", "json", false, model_write_architecture
};
static const struct model_format safetensors = {
    { "safetensors", "The weights by Keras' names and in Keras' layout.", NULL, 0 }, "application/octet-stream", "safetensors", true, write_safetensors
};
static const struct model_format document = {
    { "document", "Architecture and weights in one JSON document.", NULL, 0 }, "application/json", "json", false, document_write
};
static const struct model_format packed = {
    { "packed", "Architecture and weights in one small file: zeros left out, entropy coded, lossless (core/packed.h).", NULL, 0 }, "application/octet-stream",
    "espk", true, packed_write
};
static const struct plug *const rows[] = { &keras.plug, &safetensors.plug, &document.plug, &packed.plug, NULL };
const struct plug_table model_format_table = { "format", rows };

/* ---- description ---- */

static double share_of_zeros(uint64_t weights, uint64_t nonzero)
{
    return weights ? 1 - (double)nonzero / (double)weights : 0;
}

/* The nodes first .. last of one layer. */
static json_t *describe_layer(const struct net *net, int first, int last)
{
    int from = net->node[first].first_weight, to = last + 1 < net->n_nodes ? net->node[last + 1].first_weight : net->n_weights;
    const struct shape *kernel = NULL, output = model_value_shape(&net->node[last]);
    struct net_size size = { 0 };
    int own = first; /* what the layer does */

    while (own < last && net->node[own].arranges)
        own++;
    for (int i = first; i <= last; i++)
        size.macs += net->node[i].plan.macs;
    for (int i = from; i < to; i++) {
        const struct weight *w = &net->weight[i];

        size.params += w->info.trainable ? w->len : 0;
        size.weights += w->info.prunable ? w->len : 0;
        for (size_t k = 0; w->info.prunable && k < w->len; k++)
            size.nonzero += w->x[k] != 0;
        if (w->info.prunable && !kernel)
            kernel = &w->info.shape;
    }
    return json_pack("{s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:f}", "name", net->node[own].layer, "op", net->node[own].op->plug.name, "output",
                     shape_json(&output), "shape", shape_json(kernel), "weights", (json_int_t)size.weights,
                     "nonzero", (json_int_t)size.nonzero, "params", (json_int_t)size.params, "macs", (json_int_t)size.macs, "sparsity",
                     share_of_zeros(size.weights, size.nonzero));
}

static json_t *describe_layers(const struct net *net)
{
    json_t *list = json_array();

    for (int first = 1, last; list && first < net->n_nodes; first = last + 1) {
        last = first;
        while (last + 1 < net->n_nodes && strcmp(net->node[last + 1].layer, net->node[first].layer) == 0)
            last++;
        if (json_array_append_new(list, describe_layer(net, first, last)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *model_describe(const struct net *net)
{
    struct net_size size;

    net_count(net, &size);
    return json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:f}", "layers", describe_layers(net), "input", shape_json(net_input(net)),
                     "output", shape_json(net_output(net)), "weights", (json_int_t)size.weights, "nonzero", (json_int_t)size.nonzero,
                     "params", (json_int_t)size.params, "macs", (json_int_t)size.macs, "sparsity",
                     share_of_zeros(size.weights, size.nonzero));
}
