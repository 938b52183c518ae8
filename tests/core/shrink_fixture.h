/* tests/core/shrink_fixture.h: models in one line per layer, and what holds for whatever is shrunk. */
#ifndef TESTS_CORE_SHRINK_FIXTURE_H
#define TESTS_CORE_SHRINK_FIXTURE_H

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/exec.h"
#include "core/rng.h"
#include "core/shrink.h"
#include "tests/suite.h"

/* ---- Keras' JSON, in one line per layer ---- */

struct sketch { json_t *layers; };

static inline void add_layer(struct sketch *s, const char *class_name, const char *name, const char *config, const char *in, const char *in2)
{
    json_t *conf = json_loads(config, 0, NULL), *calls = json_array(), *call = json_array();

    ck_assert_ptr_nonnull(conf);
    json_object_set_new(conf, "name", json_string(name));
    if (in)
        json_array_append_new(call, json_pack("[s,i,i,{}]", in, 0, 0));
    if (in2)
        json_array_append_new(call, json_pack("[s,i,i,{}]", in2, 0, 0));
    if (in)
        json_array_append_new(calls, call);
    else
        json_decref(call);
    json_array_append_new(s->layers, json_pack("{s:s,s:s,s:o,s:o}", "class_name", class_name, "name", name, "config", conf, "inbound_nodes", calls));
}

/* dims: "4", "6, 6, 2" */
static inline struct sketch sketch_of_shape(const char *dims)
{
    struct sketch s = { json_array() };
    char config[80];

    snprintf(config, sizeof config, "{\"batch_input_shape\": [null, %s]}", dims);
    add_layer(&s, "InputLayer", "in", config, NULL, NULL);
    return s;
}

static inline struct sketch sketch_of(int features)
{
    char dims[16];

    snprintf(dims, sizeof dims, "%d", features);
    return sketch_of_shape(dims);
}

/* The last layer is the output. Takes the sketch. */
static inline struct model model_of(struct sketch *s)
{
    json_t *last = json_array_get(s->layers, json_array_size(s->layers) - 1);
    json_t *doc = json_pack("{s:s,s:{s:s,s:O,s:[[s,i,i]],s:[[O,i,i]]}}", "class_name", "Functional", "config", "name", "model", "layers", s->layers,
                            "input_layers", "in", 0, 0, "output_layers", json_object_get(last, "name"), 0, 0);
    struct model m;
    struct err e = { 0 };

    ck_assert_msg(keras_read(&m, doc, &e) == ERR_OK, "%s %s", e.at, e.msg);
    m.net->trained = true;
    json_decref(doc);
    json_decref(s->layers);
    return m;
}

static inline void set(const struct net *net, const char *name, const float *x)
{
    memcpy(net_weight(net, name)->x, x, net_weight(net, name)->len * sizeof(float));
}

static inline void same(const struct net *net, const char *name, int len, const float *want)
{
    const struct weight *w = net_weight(net, name);

    ck_assert_msg(w && w->len == (size_t)len, "%s", name);
    for (int i = 0; i < len; i++)
        ck_assert_msg(fabsf(w->x[i] - want[i]) < 1e-6f, "%s[%d] is %g", name, i, w->x[i]);
}

static inline json_int_t figure(const json_t *report, const char *key) { return json_integer_value(json_object_get(report, key)); }

static const json_t *config_of(const struct model *m, const char *layer)
{
    json_t *l;
    size_t i;

    json_array_foreach(json_object_get(json_object_get(m->architecture, "config"), "layers"), i, l)
        if (strcmp(json_string_value(json_object_get(l, "name")), layer) == 0)
            return json_object_get(l, "config");
    return NULL;
}

static inline struct model shrunk_by(const struct model *m, bool approximate, json_t **report)
{
    struct model out = { 0 };
    struct err e = { 0 };

    ck_assert_msg(shrink_model(&out, report, m, approximate, NULL, NULL, &e) == ERR_OK, "%s", e.msg);
    return out;
}

static inline struct model shrunk(const struct model *m, json_t **report) { return shrunk_by(m, false, report); }

/* ---- laws ---- */

enum { N = 16 };

static inline void run(float *out, struct net *net)
{
    const struct rng r = { 3, RNG_TEST, 1, 0 };
    struct exec *x;

    ck_assert_int_eq(exec_new(&x, net, N, EXEC_INFER, 0, NULL, NULL), ERR_OK);
    for (size_t i = 0; i < shape_len(net_input(net)) * N; i++)
        exec_input(x)[i] = (float)(3 * rng_normal(&r, i));
    exec_forward(x, N, false, 0);
    memcpy(out, exec_value(x, net->n_nodes - 1), 3 * N * sizeof *out);
    exec_free(x);
}

/* Architecture and weights as files, read again. */
static inline struct model through_files(const struct model *m)
{
    static const char *const formats[] = { "keras", "safetensors" };
    struct model back = { 0 };
    struct file_map map = { 0 };
    struct st_file st = { 0 };
    char path[2][64];
    struct err e = { 0 };
    json_t *doc;

    for (int k = 0; k < 2; k++) {
        const struct model_format *f = (const struct model_format *)(const void *)plug_find(&model_format_table, formats[k]);
        struct file_out *out;

        snprintf(path[k], sizeof path[k], "/tmp/test_shrink.%ld.%d", (long)getpid(), k);
        ck_assert_int_eq(file_out_new(&out, path[k], NULL), ERR_OK);
        ck_assert_int_eq(f->write(m, out, NULL), ERR_OK);
        ck_assert_int_eq(file_out_publish(out, NULL, NULL), ERR_OK);
        file_out_free(out);
    }
    doc = json_load_file(path[0], 0, NULL);
    ck_assert_int_eq(keras_read(&back, doc, &e), ERR_OK);
    ck_assert_int_eq(file_map_open(&map, path[1], NULL), ERR_OK);
    ck_assert_int_eq(st_parse(&st, map.data, map.len, NULL), ERR_OK);
    ck_assert_msg(model_load_weights(back.net, &st, &e) == ERR_OK, "%s", e.msg);
    st_file_free(&st);
    file_map_close(&map);
    json_decref(doc);
    unlink(path[0]);
    unlink(path[1]);
    return back;
}

static inline void same_model(const struct model *a, const struct model *b)
{
    ck_assert_int_eq(a->net->n_weights, b->net->n_weights);
    ck_assert(json_equal(a->architecture, b->architecture));
    for (int w = 0; w < a->net->n_weights; w++) {
        ck_assert_str_eq(a->net->weight[w].name, b->net->weight[w].name);
        ck_assert_uint_eq(a->net->weight[w].len, b->net->weight[w].len);
        ck_assert_msg(memcmp(a->net->weight[w].x, b->net->weight[w].x, a->net->weight[w].len * sizeof(float)) == 0, "%s", a->net->weight[w].name);
    }
}

/* Of three outputs. The smaller model computes the same, is the same through files, and leaves nothing to shrink. */
static inline void shrinks_soundly(const struct model *m, int seed, float tolerance)
{
    struct model small, back, again;
    struct net_size before, after;
    float want[3 * N], have[3 * N];
    json_t *report;

    run(want, m->net);
    small = shrunk(m, &report);
    run(have, small.net);
    for (int i = 0; i < 3 * N; i++)
        ck_assert_msg(fabsf(want[i] - have[i]) < tolerance, "net %d: output %d is %g, was %g", seed, i, have[i], want[i]);
    net_count(m->net, &before);
    net_count(small.net, &after);
    ck_assert_uint_le(after.macs, before.macs);
    ck_assert_uint_le(after.nonzero, before.nonzero);
    ck_assert_uint_eq((uint64_t)figure(json_object_get(report, "after"), "macs"), after.macs);
    json_decref(report);
    back = through_files(&small);
    same_model(&small, &back);
    again = shrunk(&small, &report);
    ck_assert_msg(figure(report, "neurons_removed") == 0 && figure(report, "constants_folded") == 0, "net %d: %d neurons, %d constants", seed,
                  (int)figure(report, "neurons_removed"), (int)figure(report, "constants_folded"));
    same_model(&small, &again);
    json_decref(report);
    model_clear(&again);
    model_clear(&back);
    model_clear(&small);
}

#endif
