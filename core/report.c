/* core/report.c: a model's size and speed as JSON: what baseline, iterations and result have in common.
 *
 *   sparsity            zeros / weights, of prunable weights (kernels)
 *   params              all learned numbers; params_nonzero those that are not zero
 *   macs                multiply-adds per sample without the zero weights; of a layer those of its kernel
 *   compression_ratio   params / params_nonzero
 *   bytes.dense         the fp32 safetensors file
 *   bytes.packed        the packed file (packed.h): what ?format=packed downloads
 *   saturated           of a layer trained with clip_weights: its numbers at the bound / those that are not zero
 *   latency_us          warmed-up forward passes on one thread, the only field that differs from run to run: median of the net as it predicts, p95
 *                       beside it, and both of three forms of it: dense, masked, sparse; layers: medians of each that runs, a relu that its
 *                       op does (exec.h) included, in the same passes of batch 128; of one that runs in integers also what it takes in floats; and the
 *                       kernels that ran */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/job_impl.h"
#include "core/mem.h"
#include "core/packed.h"

enum { MAX_RUNS = 101, WARM_UP = 3 };
#define WARM_UP_SECONDS 0.0002 /* at least: wide vectors take a while to be awake */
#define MAX_SECONDS 0.01

bool report_put(json_t *object, const char *key, json_t *v)
{
    return json_object_set_new(object, key, v) == 0;
}

const char *const job_kernel_names[] = { "dense", "sparse", "int8", "single", NULL };

static const char *kernel_name(const struct weight *w)
{
    return job_kernel_names[w->int8 ? 2 : w->sparse && w->sparse->single ? 3 : w->sparse ? 1 : 0];
}

/* Share of the numbers that are not zero. */
static double share_at(const struct weight *w, float bound, size_t nonzero)
{
    size_t n = 0;

    for (size_t i = 0; i < w->len; i++)
        n += fabsf(w->x[i]) >= bound;
    return nonzero ? (double)n / (double)nonzero : 0;
}

static json_t *layer_json(const struct net *net, const struct weight *w, double clip_weights)
{
    json_t *j = json_object();
    size_t nonzero = 0;

    for (size_t i = 0; i < w->len; i++)
        nonzero += w->x[i] != 0;
    if (report_put(j, "name", json_string(net->node[w->node].layer)) && report_put(j, "shape", shape_json(&w->info.shape)) &&
        report_put(j, "weights", json_integer((json_int_t)w->len)) && report_put(j, "nonzero", json_integer((json_int_t)nonzero)) &&
        report_put(j, "macs", json_integer((json_int_t)(weight_macs(net, w) * nonzero))) &&
        report_put(j, "sparsity", json_real((double)(w->len - nonzero) / (double)w->len)) && report_put(j, "kernel", json_string(kernel_name(w))) &&
        (isnan(clip_weights) || report_put(j, "saturated", json_real(share_at(w, (float)clip_weights, nonzero)))))
        return j;
    json_decref(j);
    return NULL;
}

static json_t *layers_json(const struct net *net, double clip_weights)
{
    json_t *list = json_array();

    for (int i = 0; i < net->n_weights; i++)
        if (net->weight[i].info.prunable && json_array_append_new(list, layer_json(net, &net->weight[i], clip_weights)) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *bytes_json(const struct model *m)
{
    struct packed p = { 0 };
    uint64_t dense = 0;
    json_t *j = NULL;

    if (model_dense_bytes(m->net, &dense, NULL) == ERR_OK && packed_make(&p, m, NULL, NULL) == ERR_OK)
        j = json_pack("{s:I,s:I}", "dense", (json_int_t)dense, "packed", (json_int_t)p.n);
    packed_clear(&p);
    return j;
}

json_t *report_size(const struct model *m, double clip_weights)
{
    const struct net *net = m->net;
    json_t *j = json_object();
    struct net_size n;

    net_count(net, &n);
    if (report_put(j, "sparsity", json_real((double)(n.weights - n.nonzero) / (double)n.weights)) &&
        report_put(j, "weights", json_integer((json_int_t)n.weights)) && report_put(j, "nonzero", json_integer((json_int_t)n.nonzero)) &&
        report_put(j, "params", json_integer((json_int_t)n.params)) &&
        report_put(j, "params_nonzero", json_integer((json_int_t)n.params_nonzero)) &&
        report_put(j, "macs", json_integer((json_int_t)n.macs_nonzero)) &&
        report_put(j, "compression_ratio", n.params_nonzero ? json_real((double)n.params / (double)n.params_nonzero) : json_null()) &&
        report_put(j, "layers", layers_json(net, clip_weights)) && report_put(j, "bytes", bytes_json(m)))
        return j;
    json_decref(j);
    return NULL;
}

/* ---- speed ---- */

double report_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static const int latency_batch[LATENCY_BATCHES] = { 1, 128 };

/* How long each node took, in each run. */
struct lap {
    int n_nodes, run;
    double at, *time; /* MAX_RUNS,n_nodes */
    double *median;   /* n_nodes, to be filled */
};

static void end_lap(void *user, int node)
{
    struct lap *l = user;
    double now = report_clock();

    l->time[l->run * l->n_nodes + node] = now - l->at;
    l->at = now;
}

static void node_medians(const struct lap *l, int runs)
{
    double time[MAX_RUNS];

    for (int i = 0; i < l->n_nodes; i++) {
        for (int run = 0; run < runs; run++)
            time[run] = l->time[run * l->n_nodes + i];
        qsort(time, (size_t)runs, sizeof time[0], compare);
        l->median[i] = 1e6 * time[runs / 2];
    }
}

/* Anew for each pass: the memory of the inputs is used again within one. */
static void fill_input(struct exec *x, const struct net *net, int n)
{
    const size_t len = shape_len(net_input(net)) * (size_t)n;
    float *in = exec_input(x);

    for (size_t i = 0; i < len; i++)
        in[i] = (float)(i % 16) / 16;
}

/* lap: to be filled; NULL: not wanted. */
static enum err_code measure(struct exec *x, const struct net *net, struct latency *out, enum latency_form form, int b, struct lap *lap,
                             bool (*stop)(void *user), void *user, struct err *e)
{
    double time[MAX_RUNS], begin = report_clock(), at = begin;
    int n = 0;

    exec_watch(x, lap ? end_lap : NULL, lap);
    for (int run = 0; n < MAX_RUNS && (n == 0 || at - begin < MAX_SECONDS); run++) {
        double before;

        if (stop(user))
            return err_set(e, ERR_STOPPED, "stopped on request");
        fill_input(x, net, latency_batch[b]);
        before = report_clock();
        if (lap)
            lap->run = n, lap->at = before;
        exec_forward(x, latency_batch[b], false, 0);
        at = report_clock();
        if (n > 0 || (run >= WARM_UP && before - begin >= WARM_UP_SECONDS))
            time[n++] = at - before;
    }
    if (lap)
        node_medians(lap, n);
    qsort(time, (size_t)n, sizeof time[0], compare);
    out->time[form][b].median = 1e6 * time[n / 2];
    out->time[form][b].p95 = 1e6 * time[n * 95 / 100];
    return ERR_OK;
}

/* Brings a copy of the net into a form, for a batch. The dense form loses the zeros: it comes last. */
static enum err_code take_form(struct net *copy, enum latency_form form, int batch, struct err *e)
{
    if (form == LATENCY_SPARSE)
        return net_pack_forward(copy, batch, e);
    if (form == LATENCY_DENSE)
        net_init(copy, 0);
    return ERR_OK;
}

static bool in_integers(const struct net *net, const char *layer) /* NULL: any */
{
    for (const struct weight *w = net->weight; w < net->weight + net->n_weights; w++)
        if (w->int8 && (!layer || strcmp(net->node[w->node].layer, layer) == 0))
            return true;
    return false;
}

static void note_kernels(const char **kernel, const struct net *net)
{
    for (int i = 0; i < net->n_nodes; i++)
        kernel[i] = node_has_kernel(&net->node[i]) ? kernel_name(&net->weight[net->node[i].first_weight]) : NULL;
}

/* Without integers, the sparse form is how the net predicts. */
static void now_is_sparse(struct latency *out, int n_nodes)
{
    memcpy(out->time[LATENCY_NOW], out->time[LATENCY_SPARSE], sizeof out->time[LATENCY_NOW]);
    memcpy(out->node, out->floats, (size_t)n_nodes * sizeof *out->node);
}

static enum err_code measure_forms(struct net *net, struct exec *now, struct net *copy, struct exec *x, struct latency *out, struct lap *lap,
                                   bool (*stop)(void *user), void *user, struct err *e)
{
    static const enum latency_form order[] = { LATENCY_NOW, LATENCY_MASKED, LATENCY_SPARSE, LATENCY_DENSE };
    const bool integers = in_integers(net, NULL);
    enum err_code rc = net_mask_zeros(copy, e);

    for (int f = integers ? 0 : 1; f < LATENCY_FORMS; f++)
        for (int b = 0; b < LATENCY_BATCHES && rc == ERR_OK; b++) {
            rc = take_form(copy, order[f], latency_batch[b], e);
            if (order[f] == (integers ? LATENCY_NOW : LATENCY_SPARSE))
                note_kernels(out->kernel[b], integers ? net : copy);
            lap->median = order[f] == LATENCY_NOW ? out->node : order[f] == LATENCY_SPARSE ? out->floats : NULL;
            if (rc == ERR_OK)
                rc = measure(order[f] == LATENCY_NOW ? now : x, net, out, order[f], b, lap->median && latency_batch[b] == 128 ? lap : NULL, stop, user, e);
        }
    if (!integers)
        now_is_sparse(out, net->n_nodes);
    return rc;
}

enum err_code report_measure(struct latency *out, struct net *net, bool (*stop)(void *user), void *user, struct err *e)
{
    struct net *copy = NULL;
    struct exec *now = NULL, *x = NULL;
    struct lap lap = { .n_nodes = net->n_nodes, .time = mem_zalloc((size_t)net->n_nodes * MAX_RUNS, sizeof *lap.time) };
    enum err_code rc;

    *out = (struct latency){ .node = mem_zalloc((size_t)net->n_nodes, sizeof *out->node),
                             .floats = mem_zalloc((size_t)net->n_nodes, sizeof *out->floats) };
    for (int b = 0; b < LATENCY_BATCHES; b++)
        out->kernel[b] = mem_zalloc((size_t)net->n_nodes, sizeof *out->kernel[b]);
    rc = lap.time && out->node && out->floats && out->kernel[0] && out->kernel[1] ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK)
        rc = exec_new(&now, net, 128, EXEC_INFER, 0, NULL, e);

    if (rc == ERR_OK)
        rc = net_clone(&copy, net, e);
    if (rc == ERR_OK)
        rc = exec_new(&x, copy, 128, EXEC_INFER, 0, NULL, e);
    if (rc == ERR_OK)
        rc = measure_forms(net, now, copy, x, out, &lap, stop, user, e);
    exec_free(now);
    exec_free(x);
    net_free(copy);
    mem_free(lap.time);
    return rc;
}

void latency_clear(struct latency *l)
{
    mem_free(l->node);
    mem_free(l->floats);
    for (int b = 0; b < LATENCY_BATCHES; b++)
        mem_free(l->kernel[b]);
    *l = (struct latency){ .node = NULL };
}

static double tenths(double us) { return round(10 * us) / 10; }

/* Whether node i is the first one of its layer. */
static bool begins_layer(const struct net *net, int i)
{
    for (int k = i - 1; k > 0; k--)
        if (strcmp(net->node[k].layer, net->node[i].layer) == 0)
            return false;
    return true;
}

/* Microseconds of the nodes of a layer that begins with node i. */
static double layer_time(const struct net *net, int i, const double *node)
{
    double us = 0;

    for (int k = i; k < net->n_nodes; k++)
        us += strcmp(net->node[k].layer, net->node[i].layer) == 0 ? node[k] : 0;
    return us;
}

/* Of the first kernel of a layer that begins with node i, as it ran in each batch; NULL: it has none. */
static const char *layer_kernel(const struct latency *l, const struct net *net, int i, int b)
{
    int k = i;

    while (k < net->n_nodes && (!l->kernel[b][k] || strcmp(net->node[k].layer, net->node[i].layer) != 0))
        k++;
    return k < net->n_nodes ? l->kernel[b][k] : NULL;
}

static json_t *layer_times(const struct latency *l, const struct net *net)
{
    json_t *list = json_array();

    for (int i = 1; i < net->n_nodes; i++) {
        const char *name = net->node[i].layer;
        const double us = begins_layer(net, i) ? layer_time(net, i, l->node) : 0;
        json_t *layer;

        if (us <= 0)
            continue;
        layer = json_pack("{s:s,s:f}", "name", name, "batch_128", tenths(us));
        if (json_array_append_new(list, layer) != 0 ||
            (layer_kernel(l, net, i, 0) && !report_put(layer, "kernel", json_pack("{s:s,s:s}", "batch_1", layer_kernel(l, net, i, 0), "batch_128",
                                                                                  layer_kernel(l, net, i, 1)))) ||
            (in_integers(net, name) && !report_put(layer, "batch_128_floats", json_real(tenths(layer_time(net, i, l->floats)))))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *report_latency(const struct latency *l, const struct net *net)
{
    static const struct { enum latency_form form; const char *name; } forms[] = {
        { LATENCY_DENSE, "dense" }, { LATENCY_MASKED, "masked" }, { LATENCY_SPARSE, "sparse" }
    };
    json_t *j = json_pack("{s:f, s:f, s:{s:f, s:f}, s:i}", "batch_1", tenths(l->time[LATENCY_NOW][0].median), "batch_128",
                          tenths(l->time[LATENCY_NOW][1].median), "p95", "batch_1", tenths(l->time[LATENCY_NOW][0].p95), "batch_128",
                          tenths(l->time[LATENCY_NOW][1].p95), "threads", 1);
    bool ok = report_put(j, "layers", layer_times(l, net));

    for (size_t i = 0; ok && i < sizeof forms / sizeof forms[0]; i++) {
        const enum latency_form f = forms[i].form;

        ok = report_put(j, forms[i].name, json_pack("{s:{s:f, s:f}, s:{s:f, s:f}}", "batch_1", "median", tenths(l->time[f][0].median), "p95",
                                                    tenths(l->time[f][0].p95), "batch_128", "median", tenths(l->time[f][1].median), "p95",
                                                    tenths(l->time[f][1].p95)));
    }
    if (ok)
        return j;
    json_decref(j);
    return NULL;
}
