/* core/evaluate.c: runs a net over a view of a data set and asks metrics.c for the figures.
 *
 * The outputs of all samples are collected ([k][n]), then judged at once. The loss is summed in sample order, so it does not depend
 * on the batch size or on the threads. */
#include <string.h>

#include "core/data.h"
#include "core/mem.h"
#include "core/metrics.h"

struct evaluation {
    int k, n;
    float *output;  /* [k][n]: probabilities or predictions */
    int32_t *label; /* n, or NULL */
    float *target;  /* [k][n], or NULL */
    double loss;    /* sum */
    bool logits;    /* output is what the loss takes a softmax or sigmoid of */
    struct data_batch batch;
    double *sample; /* losses of a batch */
};

static void evaluation_clear(struct evaluation *v)
{
    mem_free(v->output);
    mem_free(v->label);
    mem_free(v->target);
    mem_free(v->batch.label);
    mem_free(v->batch.target);
    mem_free(v->sample);
}

static enum err_code evaluation_init(struct evaluation *v, int k, const struct data_view *view, int max_n, struct err *e)
{
    size_t all = (size_t)k * (size_t)view->n, size = (size_t)max_n;
    bool classes = view->data->n_classes > 0;
    size_t width = classes ? 0 : (size_t)view->data->n_target;

    *v = (struct evaluation){ .k = k, .n = view->n };
    v->output = mem_zalloc(all, sizeof(float));
    v->label = classes ? mem_zalloc((size_t)view->n, sizeof(int32_t)) : NULL;
    v->target = classes ? NULL : mem_zalloc(all, sizeof(float));
    v->batch.label = classes ? mem_zalloc(size, sizeof(int32_t)) : NULL;
    v->batch.target = classes ? NULL : mem_vector(width * size);
    v->sample = mem_zalloc(size, sizeof(double));
    if (!v->output || !v->sample || !(classes ? v->label && v->batch.label : v->target && v->batch.target)) {
        evaluation_clear(v);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    return ERR_OK;
}

static void scatter(float *all, const float *part, int k, int n_all, int first, int n)
{
    for (int c = 0; c < k; c++)
        memcpy(all + (size_t)c * (size_t)n_all + first, part + (size_t)c * (size_t)n, (size_t)n * sizeof *all);
}

/* Logits [k][n] of n samples to probabilities, in place: softmax, or sigmoid of one output. */
static void to_probabilities(float *z, int k, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float top = z[i];
        double sum = 0;

        if (k == 1) {
            z[i] = (float)(1 / (1 + exp(-(double)z[i])));
            continue;
        }
        for (int c = 1; c < k; c++)
            top = fmaxf(top, z[(size_t)c * n + i]);
        for (int c = 0; c < k; c++)
            sum += exp((double)z[(size_t)c * n + i] - (double)top);
        for (int c = 0; c < k; c++)
            z[(size_t)c * n + i] = (float)(exp((double)z[(size_t)c * n + i] - (double)top) / sum);
    }
}

static void run_batch(struct evaluation *v, struct exec *x, const struct net *net, const struct loss_binding *b,
                      const struct data_view *view, int first, int n, struct team *team)
{
    struct loss_call call = { .k = v->k, .n = n, .label = v->batch.label, .target = v->batch.target, .from = b->from,
                              .weight = 1, .sample = v->sample };

    v->batch.x = exec_input(x);
    data_gather(view, NULL, first, n, &v->batch, team);
    exec_forward(x, n, false, 0);
    call.z = exec_value(x, b->node);
    b->loss->run(&call);
    v->logits = b->from == LOSS_FROM_LOGITS && b->loss->fuses && call.z == exec_value(x, net->n_nodes - 1);
    for (int i = 0; i < n; i++)
        v->loss += v->sample[i];
    scatter(v->output, exec_value(x, net->n_nodes - 1), v->k, v->n, first, n);
    if (v->label)
        memcpy(v->label + first, v->batch.label, (size_t)n * sizeof *v->label);
    else
        scatter(v->target, v->batch.target, v->k, v->n, first, n);
}

enum err_code metrics_evaluate(struct metrics *m, struct exec *x, const struct net *net, const struct loss_binding *b,
                               const struct data_view *view, struct team *team, bool (*stop)(void *user), void *user, struct err *e)
{
    struct evaluation v;
    int max_n = exec_max_n(x);
    enum err_code rc = evaluation_init(&v, (int)shape_len(net_output(net)), view, max_n, e);

    if (rc != ERR_OK)
        return rc;
    for (int first = 0; first < view->n && rc == ERR_OK; first += max_n) {
        if (stop && stop(user))
            rc = err_set(e, ERR_STOPPED, "stopped on request");
        else
            run_batch(&v, x, net, b, view, first, view->n - first < max_n ? view->n - first : max_n, team);
    }
    if (rc == ERR_OK && !isfinite(v.loss))
        rc = err_set(e, ERR_DIVERGED, "the loss is not finite");
    if (rc == ERR_OK && v.label && v.logits)
        to_probabilities(v.output, v.k, (size_t)v.n);
    if (rc == ERR_OK)
        rc = v.label ? metrics_classify(m, view->data->n_classes, v.n, v.output, v.k, v.label, e)
                     : metrics_regress(m, v.n, v.k, v.output, v.target, e);
    if (rc == ERR_OK)
        m->value[METRIC_LOSS] = v.n > 0 ? v.loss / v.n : NAN;
    evaluation_clear(&v);
    return rc;
}
