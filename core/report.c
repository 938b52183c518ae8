/* core/report.c: a model's size and speed as JSON: what baseline, iterations and result have in common.
 *
 *   sparsity            zeros / weights, of prunable weights (kernels)
 *   params              all learned numbers; params_nonzero those that are not zero
 *   macs                multiply-adds per sample without the zero weights
 *   compression_ratio   params / params_nonzero
 *   bytes.dense         the fp32 safetensors file
 *   bytes.packed        4 per non-zero weight, one bit per weight for its place, 4 per other number of the net
 *   latency_us          median of warmed-up forward passes on one thread: the only field that differs from run to run */
#include <stdlib.h>
#include <time.h>

#include "core/job_impl.h"

enum { MAX_RUNS = 51, WARM_UP = 3 };
#define MAX_SECONDS 0.05

bool report_put(json_t *object, const char *key, json_t *v)
{
    return json_object_set_new(object, key, v) == 0;
}

static json_t *shape_json(const struct shape *s)
{
    json_t *list = json_array();

    for (int i = 0; i < s->n_d; i++)
        if (json_array_append_new(list, json_integer(s->d[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *layer_json(const struct net *net, const struct weight *w)
{
    json_t *j = json_object();
    size_t nonzero = 0;

    for (size_t i = 0; i < w->len; i++)
        nonzero += w->x[i] != 0;
    if (report_put(j, "name", json_string(net->node[w->node].layer)) && report_put(j, "shape", shape_json(&w->info.shape)) &&
        report_put(j, "weights", json_integer((json_int_t)w->len)) && report_put(j, "nonzero", json_integer((json_int_t)nonzero)) &&
        report_put(j, "sparsity", json_real((double)(w->len - nonzero) / (double)w->len)) && report_put(j, "kernel", json_string(w->sparse ? "sparse" : "dense")))
        return j;
    json_decref(j);
    return NULL;
}

static json_t *layers_json(const struct net *net)
{
    json_t *list = json_array();

    for (int i = 0; i < net->n_weights; i++)
        if (net->weight[i].info.prunable && json_array_append_new(list, layer_json(net, &net->weight[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *bytes_json(const struct net *net, const struct net_size *n, uint64_t file_bytes)
{
    uint64_t others = 0;

    for (int i = 0; i < net->n_weights; i++)
        others += net->weight[i].info.prunable ? 0 : net->weight[i].len;
    return json_pack("{s:I,s:I}", "dense", (json_int_t)file_bytes, "packed",
                     (json_int_t)(4 * n->nonzero + (n->weights + 7) / 8 + 4 * others));
}

json_t *report_size(const struct net *net, uint64_t file_bytes)
{
    json_t *j = json_object();
    struct net_size n;

    net_count(net, &n);
    if (report_put(j, "sparsity", json_real((double)(n.weights - n.nonzero) / (double)n.weights)) &&
        report_put(j, "weights", json_integer((json_int_t)n.weights)) && report_put(j, "nonzero", json_integer((json_int_t)n.nonzero)) &&
        report_put(j, "params", json_integer((json_int_t)n.params)) &&
        report_put(j, "params_nonzero", json_integer((json_int_t)n.params_nonzero)) &&
        report_put(j, "macs", json_integer((json_int_t)n.macs_nonzero)) &&
        report_put(j, "compression_ratio", n.params_nonzero ? json_real((double)n.params / (double)n.params_nonzero) : json_null()) &&
        report_put(j, "layers", layers_json(net)) && report_put(j, "bytes", bytes_json(net, &n, file_bytes)))
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

static enum err_code median_time(struct exec *x, int batch, bool (*stop)(void *user), void *user, double *us, struct err *e)
{
    double time[MAX_RUNS], begin = report_clock(), at = begin;
    int n = 0;

    for (int run = 0; n < MAX_RUNS && (n == 0 || at - begin < MAX_SECONDS); run++) {
        double before = report_clock();

        if (stop(user))
            return err_set(e, ERR_STOPPED, "stopped on request");
        exec_forward(x, batch, false, 0);
        at = report_clock();
        if (run >= WARM_UP)
            time[n++] = at - before;
    }
    qsort(time, (size_t)n, sizeof time[0], compare);
    *us = 1e6 * time[n / 2];
    return ERR_OK;
}

enum err_code report_measure(struct latency *out, struct net *net, bool (*stop)(void *user), void *user, struct err *e)
{
    struct exec *x = NULL;
    enum err_code rc = exec_new(&x, net, 128, false, 0, NULL, e);

    if (rc == ERR_OK)
        rc = median_time(x, 1, stop, user, &out->batch_1, e);
    if (rc == ERR_OK)
        rc = median_time(x, 128, stop, user, &out->batch_128, e);
    exec_free(x);
    return rc;
}

json_t *report_latency(const struct latency *l)
{
    return json_pack("{s:f,s:f}", "batch_1", round(10 * l->batch_1) / 10, "batch_128", round(10 * l->batch_128) / 10);
}
