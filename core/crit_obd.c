/* core/crit_obd.c: optimal brain damage (LeCun, Denker & Solla 1990): removing w raises the loss by h w^2 / 2, h the diagonal of the Hessian; for
 * h stands the diagonal of the Fisher matrix: the mean over samples of each sample's squared gradient, exact, not the square of a mean.
 *
 * A dense kernel's gradient of one sample is d a', so the sum of their squares is one product of squared arrays: (D.D)(A.A)'. That of a
 * convolution is a sum over places, which patch_squares takes sample by sample. */
#include <string.h>

#include "core/gemm.h"
#include "core/mem.h"
#include "core/patch.h"
#include "core/probe.h"

struct obd_conf { int64_t samples, batch_size; };
static const struct param obd_params[] = { PROBE_FIELDS(struct obd_conf, 2048, 64), FIELD_END };

enum { ROWS = 64 }; /* of a tile */
struct obd {
    const struct crit_net *in;
    float *const *score; /* sums of squares so far */
    float *dd, *aa;      /* squared arrays of one dense layer */
    float *room;         /* of patch_squares */
};

/* Of flat samples: one place. */
static bool is_dense(const struct net *net, int w)
{
    const struct node *node = &net->node[net->weight[w].node];

    return node->op == op_find("dense") && node->plan.out.n_d == 1;
}

static void square(float *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = from[i] * from[i];
}

struct product { const float *dd, *aa; float *to; int rows, cols, n; };

static void product_tile(void *ctx, int tile)
{
    const struct product *p = ctx;
    int first = tile * ROWS, m = p->rows - first < ROWS ? p->rows - first : ROWS;

    gemm(false, true, m, p->cols, p->n, p->dd + (size_t)first * (size_t)p->n, p->n, p->aa, p->n, true, p->to + (size_t)first * (size_t)p->cols, p->cols);
}

static void add_dense(const struct obd *o, const struct probe_batch *b, int w)
{
    const struct weight *weight = &o->in->net->weight[w];
    int from = o->in->net->node[weight->node].in[0];
    struct product p = { o->dd, o->aa, o->score[w], weight->info.shape.d[0], weight->info.shape.d[1], b->n };

    square(o->dd, exec_grad(b->exec, weight->node), (size_t)p.rows * (size_t)p.n);
    square(o->aa, exec_value(b->exec, from), (size_t)p.cols * (size_t)p.n);
    team_for(o->in->team, (p.rows + ROWS - 1) / ROWS, product_tile, &p);
}

static void add_conv(const struct obd *o, const struct probe_batch *b, int w)
{
    const struct conv g = patch_shape(o->in->net, w);
    int node = o->in->net->weight[w].node;

    patch_squares(&g, exec_value(b->exec, o->in->net->node[node].in[0]), exec_grad(b->exec, node), b->n, o->score[w], o->room, o->in->team);
}

static enum err_code add_batch(void *user, const struct probe_batch *b, struct err *e)
{
    const struct obd *o = user;

    (void)e;
    for (int i = 0; i < o->in->net->n_weights; i++)
        if (o->score[i])
            (is_dense(o->in->net, i) ? add_dense : add_conv)(o, b, i);
    return ERR_OK;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Floats of room for every kernel of the net. */
static size_t room_len(const struct net *net)
{
    size_t most = 0;

    for (int i = 0; i < net->n_weights; i++)
        if (net->weight[i].info.prunable && !is_dense(net, i)) {
            const struct conv g = patch_shape(net, i);

            most = larger(most, patch_squares_len(&g));
        }
    return most;
}

/* The most outputs (of: 0) or inputs (1) of a dense layer: floats of their squares for each sample. */
static size_t squares_len(const struct net *net, int of)
{
    size_t most = 0;

    for (int i = 0; i < net->n_weights; i++)
        if (net->weight[i].info.prunable && is_dense(net, i))
            most = larger(most, (size_t)net->weight[i].info.shape.d[of]);
    return most;
}

static enum err_code obd_score(const struct crit_net *in, float *const *score, struct err *e)
{
    const struct obd_conf *c = in->conf;
    const struct probe_conf probe = { .samples = c->samples, .batch_size = c->batch_size, .look = PROBE_ALL };
    struct obd o = { .in = in, .score = score };
    size_t n = (size_t)(c->batch_size < in->train->n ? c->batch_size : in->train->n);
    enum err_code rc;

    o.dd = mem_vector(squares_len(in->net, 0) * n);
    o.aa = mem_vector(squares_len(in->net, 1) * n);
    o.room = mem_vector(room_len(in->net));
    rc = o.dd && o.aa && o.room ? probe_run(in, &probe, add_batch, &o, e) : err_set(e, ERR_NOMEM, "out of memory");
    for (int i = 0; i < in->net->n_weights && rc == ERR_OK; i++)
        for (size_t k = 0; score[i] && k < in->net->weight[i].len; k++)
            score[i][k] *= 0.5f * in->net->weight[i].x[k] * in->net->weight[i].x[k];
    if (rc == ERR_OK)
        probe_share(in->net, score);
    mem_free(o.dd);
    mem_free(o.aa);
    mem_free(o.room);
    return rc;
}

static uint64_t obd_memory(const struct net *net, const void *conf)
{
    const struct obd_conf *c = conf;

    return probe_memory(net, c->samples, c->batch_size, PROBE_ALL) +
           sizeof(float) * ((size_t)c->batch_size * (squares_len(net, 0) + squares_len(net, 1)) + room_len(net));
}

const struct criterion crit_obd = {
    .plug = { "obd", "Keeps the weights with the largest h w^2 / 2, h the exact diagonal of the Fisher matrix (LeCun, Denker & Solla 1990).", obd_params,
              sizeof(struct obd_conf) },
    .samples = true, .score_net = obd_score, .memory = obd_memory
};
