/* tests/core/layerwise_fixture.h: a net, samples and what a layer gives, for tests of the layerwise criteria. */
#ifndef TESTS_CORE_LAYERWISE_FIXTURE_H
#define TESTS_CORE_LAYERWISE_FIXTURE_H

#include "core/layerwise.h"

#include "core/exec.h"
#include "core/gemm.h"
#include "core/mem.h"
#include "core/prune.h"
#include "tests/engine_net.h"
#include "tests/golden.h"
#include "tests/suite.h"

enum { CLASSES = 4 };

/* A data set of n samples, all of them looked at, and a net. */
struct bench {
    struct dataset data;
    struct data_view view;
    struct loss_binding loss;
    struct net *net;
    float *x, *center, *scale;
};

static inline void bench_data(struct bench *b, struct net *net, int n)
{
    int len = (int)shape_len(net_input(net));

    gemm_init();
    *b = (struct bench){ .net = net, .x = mem_vector((size_t)len * (size_t)n), .center = mem_vector((size_t)len), .scale = mem_vector((size_t)len) };
    b->data = (struct dataset){ .shape = *net_input(net), .n_features = len, .n_classes = CLASSES, .center = b->center, .scale = b->scale,
                                .split = { { .n = n, .x = b->x, .label = mem_zalloc((size_t)n, sizeof(int32_t)) } } };
    b->view = (struct data_view){ &b->data, &b->data.split[0], mem_alloc((size_t)n * sizeof(uint32_t)), n };
    for (int i = 0; i < n; i++)
        b->view.index[i] = (uint32_t)i;
    for (int j = 0; j < len; j++)
        b->scale[j] = 1;
}

/* The net is whole. */
static inline void bench_net(struct bench *b)
{
    net_init(b->net, 3);
    ck_assert_int_eq(loss_bind(&b->loss, loss_default(b->net, CLASSES), b->net, CLASSES, 0, NULL), ERR_OK);
    for (int w = 0; w < b->net->n_weights; w++)
        if (b->net->weight[w].info.prunable) {
            b->net->weight[w].mask = mem_alloc(b->net->weight[w].len);
            memset(b->net->weight[w].mask, 1, b->net->weight[w].len);
        }
}

/* A net of dense layers: `sizes` of them with relu between. */
static inline void bench_open(struct bench *b, const int *size, int n_layers, int n, bool use_bias)
{
    char options[80];

    bench_data(b, net_of(size[0]), n);
    for (int l = 1; l <= n_layers; l++) {
        snprintf(options, sizeof options, "{\"units\": %d, \"use_bias\": %s}", size[l], use_bias ? "true" : "false");
        net_chain(b->net, "dense", options, (char[]){ 'd', (char)('0' + l), 0 });
        net_chain(b->net, l < n_layers ? "relu" : "softmax", "", (char[]){ 'a', (char)('0' + l), 0 });
    }
    bench_net(b);
}

/* A convolution and what the loss needs behind it. shape: of the image, or of a sequence. */
static inline void conv_open(struct bench *b, const struct shape *shape, int n, const char *op, const char *options)
{
    struct net *net;

    ck_assert_int_eq(net_new(&net, shape, NULL), ERR_OK);
    bench_data(b, net, n);
    net_chain(net, op, options, "conv");
    net_chain(net, "reshape", "", "flat");
    net_chain(net, "dense", "{\"units\": 4}", "out");
    net_chain(net, "softmax", "", "out");
    bench_net(b);
}

static inline void bench_close(struct bench *b)
{
    net_free(b->net);
    mem_free(b->x);
    mem_free(b->center);
    mem_free(b->scale);
    mem_free(b->view.index);
    mem_free((void *)b->data.split[0].label);
}

static inline struct plug_value conf_of(const char *json)
{
    struct plug_value conf;
    json_t *j = json_loads(json, JSON_DECODE_ANY, NULL);
    struct err e = { 0 };

    ck_assert_msg(plug_parse(&conf, &criterion_table, j, &e) == ERR_OK, "%s: %s %s", json, e.at, e.msg);
    json_decref(j);
    return conf;
}

static inline struct crit_net in_of(const struct bench *b, const struct plug_value *conf, struct team *team)
{
    return (struct crit_net){ .net = b->net, .train = &b->view, .loss = &b->loss, .team = team, .seed = 1, .step = 1, .conf = conf->conf };
}

static inline uint64_t n_masked(const struct weight *w)
{
    uint64_t n = 0;

    for (size_t k = 0; k < w->len; k++)
        n += !w->mask[k];
    return n;
}

/* ---- what a layer gives ---- */

/* Outputs of the first layer, [units][n]. */
static inline float *outputs(struct bench *b)
{
    size_t units = shape_len(&b->net->node[1].plan.out), n = (size_t)b->view.n;
    float *y = mem_alloc(units * n * sizeof *y);
    int32_t *label = mem_alloc(n * sizeof *label);
    struct exec *x;

    ck_assert_int_eq(exec_new(&x, b->net, (int)n, EXEC_KEEP, 1, NULL, NULL), ERR_OK);
    data_gather(&b->view, NULL, 0, (int)n, &(struct data_batch){ .x = exec_input(x), .label = label }, NULL);
    exec_forward(x, (int)n, false, 0);
    memcpy(y, exec_value(x, 1), units * n * sizeof *y);
    exec_free(x);
    mem_free(label);
    return y;
}

/* Squared difference of the first layer's outputs from y. */
static inline double error_from(struct bench *b, const float *y)
{
    size_t len = shape_len(&b->net->node[1].plan.out) * (size_t)b->view.n;
    float *now = outputs(b);
    double sum = 0;

    for (size_t k = 0; k < len; k++)
        sum += ((double)now[k] - (double)y[k]) * ((double)now[k] - (double)y[k]);
    mem_free(now);
    return sum;
}

/* The n_masked smallest of the kernel go, nothing is repaired. */
static inline void mask_by_magnitude(struct weight *w, uint64_t n)
{
    memset(w->mask, 1, w->len);
    for (; n > 0; n--) {
        size_t best = w->len;

        for (size_t k = 0; k < w->len; k++)
            if (w->mask[k] && (best == w->len || fabsf(w->x[k]) < fabsf(w->x[best])))
                best = k;
        w->mask[best] = 0;
        w->x[best] = 0;
    }
}

/* At most keep of every len consecutive columns stay, in rows of cols. */
static inline bool keeps_runs(const struct weight *w, struct unit_runs runs)
{
    size_t cols = w->len / (size_t)w->info.shape.d[0];

    for (size_t k = 0; k < w->len;) {
        size_t left = cols - k % cols, end = k + (left < (size_t)runs.len ? left : (size_t)runs.len);
        int kept = 0, all = (int)(end - k);

        for (; k < end; k++)
            kept += w->mask[k] != 0;
        if (kept < (all < runs.keep ? all : runs.keep))
            return false;
    }
    return true;
}

#endif
