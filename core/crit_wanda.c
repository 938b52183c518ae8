/* core/crit_wanda.c: small weights of weak inputs go (Wanda: Sun et al. 2024): |W_ij| times the root mean square of input j. Input j of a
 * convolution's kernel is column j of its patches (patch.h), over all places of its output, zeros of the padding included.
 *
 * The paper compares within each output row alone. `compare: row` does so in any scope: the score of a weight is its rank in its row, as a share
 * of the row, so every row of every kernel loses the same share of its weights, and global scope does what layer scope does. `kernel` takes the
 * products themselves: rows of a layer then compete, and in global scope layers whose inputs are large win. */
#include <stdlib.h>

#include "core/exec.h"
#include "core/mem.h"
#include "core/patch.h"
#include "core/probe.h"
#include "core/simd.h"

enum { COMPARE_ROW, COMPARE_KERNEL };
struct wanda_conf {
    int64_t samples, batch_size;
    int compare;
};
static const struct param wanda_params[] = {
    PROBE_FIELDS(struct wanda_conf, 2048, 128),
    FIELD_CHOICE(struct wanda_conf, compare, "row|kernel", COMPARE_ROW,
                 "row: by rank within each output's row, as in the paper, so that every row of every layer loses the same share; kernel: by the products."),
    FIELD_END
};

struct wanda {
    const struct net *net;
    float *const *score;
    double **square;         /* per weight: mean square of each number that its node reads; NULL: not wanted */
};

static size_t n_inputs(const struct net *net, int w) { return shape_len(&net->node[net->node[net->weight[w].node].in[0]].plan.out); }

SIMD static double squares(const float *x, int n) { return simd_dot(x, 0, x, 0, n); }

static enum err_code add_batch(void *user, const struct probe_batch *b, struct err *e)
{
    const struct wanda *s = user;

    (void)e;
    for (int i = 0; i < s->net->n_weights; i++) {
        const struct weight *w = &s->net->weight[i];
        const float *x = exec_value(b->exec, s->net->node[w->node].in[0]);

        for (size_t j = 0; s->square[i] && j < n_inputs(s->net, i); j++)
            s->square[i][j] += squares(x + j * (size_t)b->n, b->n) / b->samples;
    }
    return ERR_OK;
}

struct entry { float score; int col; };

static int by_score(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    return x->score != y->score ? (x->score < y->score ? -1 : 1) : x->col - y->col;
}

static void rank_row(float *score, int cols, struct entry *entry)
{
    for (int j = 0; j < cols; j++)
        entry[j] = (struct entry){ score[j], j };
    qsort(entry, (size_t)cols, sizeof *entry, by_score);
    for (int j = 0; j < cols; j++)
        score[entry[j].col] = (float)(j + 1) / (float)cols;
}

/* Rows of one group. */
static bool score_rows(const struct conv *g, const float *w, const double *column, float *score)
{
    size_t cols = (size_t)patch_columns(g), len = (size_t)(g->o / g->groups) * cols;
    bool finite = true;

    for (size_t k = 0; k < len; k++) {
        score[k] = (float)(fabs((double)w[k]) * sqrt(column[k % cols] / patch_places(g)));
        finite = finite && isfinite(score[k]);
    }
    return finite;
}

static enum err_code score_kernel(const struct net *net, int w, const double *square, int compare, float *score, struct err *e)
{
    const struct weight *weight = &net->weight[w];
    const struct conv g = patch_shape(net, w);
    size_t cols = (size_t)patch_columns(&g), len = weight->len / (size_t)g.groups;
    struct entry *entry = mem_alloc(cols * sizeof *entry);
    double *column = mem_alloc(cols * sizeof *column);
    enum err_code rc = entry && column ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    for (int group = 0; group < g.groups && rc == ERR_OK; group++) {
        patch_sums(&g, group, square, column);
        if (!score_rows(&g, weight->x + (size_t)group * len, column, score + (size_t)group * len))
            rc = err_set(e, ERR_DIVERGED, "a score of %s is not finite", weight->name);
    }
    for (size_t k = 0; k < weight->len && rc == ERR_OK && compare == COMPARE_ROW; k += cols)
        rank_row(score + k, (int)cols, entry);
    mem_free(entry);
    mem_free(column);
    return rc;
}

static enum err_code wanda_score(const struct crit_net *in, float *const *score, struct err *e)
{
    const struct wanda_conf *c = in->conf;
    const struct probe_conf probe = { .samples = c->samples, .batch_size = c->batch_size };
    struct wanda s = { in->net, score, mem_zalloc((size_t)in->net->n_weights, sizeof *s.square) };
    enum err_code rc = ERR_OK;
    bool ok = s.square != NULL;

    for (int i = 0; ok && i < in->net->n_weights; i++)
        if (score[i])
            ok = (s.square[i] = mem_zalloc(n_inputs(in->net, i), sizeof *s.square[i])) != NULL;
    rc = ok ? probe_run(in, &probe, add_batch, &s, e) : err_set(e, ERR_NOMEM, "out of memory");
    for (int i = 0; i < in->net->n_weights && rc == ERR_OK; i++)
        if (score[i])
            rc = score_kernel(in->net, i, s.square[i], c->compare, score[i], e);
    for (int i = 0; s.square && i < in->net->n_weights; i++)
        mem_free(s.square[i]);
    mem_free(s.square);
    return rc;
}

static uint64_t wanda_memory(const struct net *net, const void *conf)
{
    const struct wanda_conf *c = conf;
    uint64_t inputs = 0, columns = 0;

    for (int i = 0; i < net->n_weights; i++)
        if (net->weight[i].info.prunable) {
            inputs += n_inputs(net, i);
            columns += net->weight[i].len / (size_t)net->weight[i].info.shape.d[0];
        }
    return inputs * sizeof(double) + columns * (sizeof(double) + sizeof(struct entry)) + probe_memory(net, c->samples, c->batch_size, PROBE_VALUES);
}

const struct criterion crit_wanda = {
    .plug = { "wanda", "Keeps |w| times the root mean square of its input, compared within each output's row (Wanda: Sun et al. 2024).", wanda_params,
              sizeof(struct wanda_conf) },
    .samples = true, .score_net = wanda_score, .memory = wanda_memory
};
