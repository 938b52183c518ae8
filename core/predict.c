/* core/predict.c: see predict.h. Samples that are brought become a small data set in memory, so that they go the way of all samples: gathered, scaled
 * and run batch by batch. */
#include "core/predict.h"

#include <string.h>

#include "core/exec.h"
#include "core/mem.h"

enum { BATCH = 512, DEPTH = 16 };

static enum err_code no_memory(struct err *e)
{
    return err_set(e, ERR_NOMEM, "out of memory");
}

/* ---- samples that are brought ---- */

/* How many elements the array at s has, and how deep its first sample is nested; s stays. */
static enum err_code look(struct json_scan s, int max_n, int *n, int *depth, struct err *e)
{
    size_t tokens = SIZE_MAX;
    struct json_token t;
    bool more;
    enum err_code rc = scan_next(&s, &t, e);

    *n = 0;
    if (rc == ERR_OK && t.kind != '[')
        return err_set(e, ERR_INVALID, "must be an array of samples");
    for (bool first = true; rc == ERR_OK; first = false) {
        rc = scan_more(&s, ']', first, &more, e);
        if (rc != ERR_OK || !more)
            break;
        if (*n == max_n)
            return err_set(e, ERR_TOO_LARGE, "more than %d samples", max_n);
        if (first) {
            struct json_scan inner = s;

            while (scan_next(&inner, &t, NULL) == ERR_OK && t.kind == '[')
                ++*depth;
        }
        rc = scan_skip(&s, DEPTH, &tokens, e);
        ++*n;
    }
    return rc == ERR_OK && *n == 0 ? err_set(e, ERR_INVALID, "must have at least one sample") : rc;
}

static enum err_code put(void *user, size_t i, float x, struct err *e)
{
    if (!isfinite(x))
        return err_set(e, ERR_INVALID, "is not finite as float32");
    ((float *)user)[i] = x;
    return ERR_OK;
}

static enum err_code prepare(struct predict_samples *p, const struct net *net, const struct dataset *like, int n, struct err *e)
{
    int width = (int)shape_len(net_input(net));

    p->x = mem_alloc((size_t)n * (size_t)width * sizeof(float));
    p->center = mem_zalloc((size_t)width, sizeof(float));
    p->scale = mem_zalloc((size_t)width, sizeof(float));
    p->view.index = mem_alloc((size_t)n * sizeof(uint32_t));
    if (!p->x || !p->center || !p->scale || !p->view.index)
        return no_memory(e);
    for (int f = 0; f < width; f++) {
        p->center[f] = like ? like->center[f] : 0;
        p->scale[f] = like ? like->scale[f] : 1;
    }
    for (int i = 0; i < n; i++)
        p->view.index[i] = (uint32_t)i;
    p->split = (struct data_split){ .n = n, .x = p->x };
    p->data = (struct dataset){ .shape = *net_input(net), .n_features = width, .center = p->center, .scale = p->scale };
    p->view.n = n;
    return ERR_OK;
}

/* The shape of n samples nested so deep: flat, or the net's, as far as its depth says so without axes of one number. */
static struct shape shape_of(int n, int depth, const struct shape *in)
{
    struct shape all = { 1, { n } };
    int ones = 0;

    for (int i = 0; i < in->n_d; i++)
        ones += in->d[i] == 1;
    for (int i = 0; i < in->n_d && in->n_d < SHAPE_MAX && depth > 1; i++)
        if (in->d[i] != 1 || depth != in->n_d - ones)
            all.d[all.n_d++] = in->d[i];
    if (all.n_d == 1)
        all.d[all.n_d++] = (int)shape_len(in);
    return all;
}

enum err_code predict_read(struct predict_samples *out, struct json_scan *s, const struct net *net, const struct dataset *like, int max_n,
                           struct err *e)
{
    const struct shape *in = net_input(net);
    struct shape all;
    int n = 0, depth = 0;
    enum err_code rc = look(*s, max_n, &n, &depth, e);

    *out = (struct predict_samples){ .x = NULL };
    if (rc == ERR_OK)
        rc = prepare(out, net, like, n, e);
    all = shape_of(n, depth, in);
    if (rc == ERR_OK)
        rc = scan_numbers(s, &all, put, out->x, e);
    if (rc != ERR_OK)
        predict_samples_free(out);
    out->view.data = &out->data; /* the caller's struct stays where it is */
    out->view.split = &out->split;
    return rc;
}

void predict_samples_free(struct predict_samples *p)
{
    mem_free(p->x);
    mem_free(p->center);
    mem_free(p->scale);
    mem_free(p->view.index);
    *p = (struct predict_samples){ .x = NULL };
}

/* ---- outputs ---- */

static void transpose(float *out, const float *y, int k, int n)
{
    for (int i = 0; i < n; i++)
        for (int c = 0; c < k; c++)
            out[(size_t)i * (size_t)k + (size_t)c] = y[(size_t)c * (size_t)n + (size_t)i];
}

static enum err_code run(float *out, struct net *net, struct exec *x, const struct data_view *v, int first, int n, bool (*stop)(void *user), void *user,
                         struct err *e)
{
    int k = (int)shape_len(net_output(net)), max = exec_max_n(x);
    struct data_batch batch = { exec_input(x), mem_zalloc((size_t)max, sizeof(int32_t)),
                                mem_vector((size_t)max * (size_t)(v->data->n_target > 0 ? v->data->n_target : 1)) };
    enum err_code rc = batch.label && batch.target ? ERR_OK : no_memory(e);

    for (int at = 0; at < n && rc == ERR_OK; at += max) {
        int some = n - at < max ? n - at : max;

        if (stop && stop(user)) {
            rc = err_set(e, ERR_STOPPED, "stopped on request");
            break;
        }
        data_gather(v, NULL, first + at, some, &batch, NULL);
        exec_forward(x, some, false, 0);
        transpose(out + (size_t)at * (size_t)k, exec_value(x, net->n_nodes - 1), k, some);
    }
    mem_free(batch.label);
    mem_free(batch.target);
    return rc;
}

static int batch_of(const struct net *net, int n)
{
    return net_samples_at_once(net, n < BATCH ? n : BATCH);
}

enum err_code predict_pack(struct net *net, int batch, struct err *e)
{
    enum err_code rc = net->forward == batch ? ERR_OK : net_mask_zeros(net, e);

    return rc == ERR_OK && net->forward != batch ? net_pack_forward(net, batch, e) : rc;
}

enum err_code predict_run(float *out, struct net *net, const struct data_view *v, int first, int n, bool (*stop)(void *user), void *user,
                          struct err *e)
{
    const int batch = batch_of(net, n);
    struct exec *x = NULL;
    enum err_code rc = predict_pack(net, batch, e);

    if (rc == ERR_OK)
        rc = exec_new(&x, net, batch, EXEC_INFER, 0, NULL, e);
    if (rc == ERR_OK)
        rc = run(out, net, x, v, first, n, stop, user, e);
    exec_free(x);
    return rc;
}

uint64_t predict_memory(const struct net *net, int n)
{
    uint64_t masks = 0;

    for (const struct weight *w = net->weight; w < net->weight + net->n_weights; w++)
        masks += w->info.prunable ? w->len : 0;
    return exec_memory(net, batch_of(net, n), EXEC_INFER) + net_pack_memory(net) + masks +
           (uint64_t)n * (shape_len(net_output(net)) + shape_len(net_input(net))) * sizeof(float);
}

/* ---- what outputs mean ---- */

static const struct node *last_node(const struct net *net)
{
    int at = net->n_nodes - 1;

    while (net->node[at].op->view)
        at = net->node[at].in[0];
    return &net->node[at];
}

bool predict_is_classifier(const struct net *net)
{
    const struct op *last = last_node(net)->op;

    return last == op_find("softmax") || (last == op_find("sigmoid") && shape_len(net_output(net)) == 1);
}

int predict_class(const struct net *net, const float *out, int k)
{
    int best = 0;

    if (k == 1)
        return out[0] > (last_node(net)->op->activation ? 0.5f : 0.0f);
    for (int c = 1; c < k; c++)
        if (out[c] > out[best])
            best = c;
    return best;
}
