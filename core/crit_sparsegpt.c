/* core/crit_sparsegpt.c: layerwise optimal brain surgeon in one sweep over the columns (SparseGPT: Frantar & Alistarh 2023).
 *
 * The inputs of a layer, columns of a patch, are gone through in their order. What a weight that goes did is taken over by the weights of later inputs in its row and
 * by the bias, the last column: best by the inverse Hessian of what is not gone through yet. For all rows these are the rows of U, inverse =
 * U'U: U_jj^2 is the corner of the inverse of H[j:, j:], not the diagonal of the inverse of H. Which weights go is chosen block by block of
 * columns, by w^2 / U_jj^2 as they are by then.
 *
 * As in the paper each block loses the same share. So that exactly n_masked go: what is masked already, zeros and weights of dead inputs first;
 * what is left of n_masked is dealt out over the others, in proportion and cumulatively, block after block. Where runs of so many columns must keep
 * some (unit n:m), a block is one run of every row, and the others are what may go of each. */
#include <stdlib.h>

#include "core/gemm.h"
#include "core/layerwise.h"
#include "core/mem.h"

enum { TILE = 16 };

struct sparsegpt_conf {
    int64_t samples, batch_size, places, block;
    double damping;
};
static const struct param sparsegpt_params[] = {
    LAYERWISE_FIELDS(struct sparsegpt_conf),
    FIELD_INT(struct sparsegpt_conf, block, 1, 65536, 128, "Inputs whose weights are chosen together, each block the same share."), FIELD_END
};

static struct layerwise_conf shared(const struct sparsegpt_conf *c) { return (struct layerwise_conf){ c->samples, c->batch_size, c->damping, c->places }; }

struct candidate { double score; size_t k; }; /* of the kernel's numbers */
struct sweep {
    struct layerwise l; /* with U */
    double *removed; /* rows,block: what each weight of the block that went is divided by U_jj */
    struct candidate *candidate;
    int first, end; /* columns of the block */
};

static int by_score(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    return x->score != y->score ? (x->score < y->score ? -1 : 1) : (x->k > y->k) - (x->k < y->k);
}

/* Those of the block that are not masked; of a run the cheapest, as many as may go. */
static uint64_t find_candidates(struct sweep *s)
{
    const struct layerwise *l = &s->l;
    uint64_t n = 0;

    for (int r = 0; r < l->rows; r++) {
        uint64_t begin = n, spare = (uint64_t)layerwise_spare(l, r, s->first, s->end);

        for (int j = s->first; j < s->end; j++) {
            size_t k = (size_t)r * (size_t)l->cols + (size_t)j;
            double e = l->w[(size_t)r * (size_t)l->n + (size_t)j] / layerwise_inverse(l, r)[(size_t)j * (size_t)l->n + (size_t)j];

            if (l->kernel->mask[k])
                s->candidate[n++] = (struct candidate){ e * e, k };
        }
        if (n - begin > spare) {
            qsort(s->candidate + begin, n - begin, sizeof *s->candidate, by_score);
            n = begin + spare;
        }
    }
    return n;
}

/* Of all blocks. */
static uint64_t count_candidates(const struct layerwise *l)
{
    uint64_t n = 0;

    for (int r = 0; r < l->rows; r++)
        for (int first = 0, end; first < l->cols; first = end) {
            layerwise_run(l, first, &first, &end);
            n += (uint64_t)layerwise_spare(l, r, first, end);
        }
    return n;
}

static void mask_smallest(struct sweep *s, uint64_t n, uint64_t go)
{
    qsort(s->candidate, n, sizeof *s->candidate, by_score);
    for (uint64_t i = 0; i < go; i++)
        s->l.kernel->mask[s->candidate[i].k] = 0;
}

/* Of a group. */
static int n_tiles(const struct layerwise *l) { return (l->group_rows + TILE - 1) / TILE; }

static void repair_tile(void *ctx, int tile)
{
    const struct sweep *s = ctx;
    const struct layerwise *l = &s->l;
    int at = tile % n_tiles(l) * TILE, first = tile / n_tiles(l) * l->group_rows + at;
    int rows = l->group_rows - at < TILE ? l->group_rows - at : TILE, width = s->end - s->first;
    double *removed = s->removed + (size_t)first * (size_t)width, *w = l->w + (size_t)first * (size_t)l->n;
    const double *inverse = layerwise_inverse(l, first);
    const uint8_t *mask = l->kernel->mask + (size_t)first * (size_t)l->cols;

    for (int r = 0; r < rows; r++)
        for (int j = s->first; j < s->end; j++) {
            const double *u = inverse + (size_t)j * (size_t)l->n;
            double *row = w + (size_t)r * (size_t)l->n, e = mask[(size_t)r * (size_t)l->cols + (size_t)j] ? 0 : row[j] / u[j];

            removed[r * width + j - s->first] = e;
            for (int i = j; i < s->end && e != 0; i++)
                row[i] -= e * u[i];
        }
    gemm_double(false, false, rows, l->n - s->end, width, -1, removed, width, inverse + (size_t)s->first * (size_t)l->n + s->end, l->n, 1, w + s->end,
                l->n);
}

/* left: to be masked yet. */
static enum err_code sweep_columns(struct sweep *s, const struct crit_net *in, int block, uint64_t left, struct err *e)
{
    const struct layerwise *l = &s->l;
    uint64_t all = count_candidates(l), before = 0;

    for (s->first = 0; s->first < l->cols; s->first = s->end) {
        uint64_t n;

        if (in->stop && in->stop(in->user))
            return err_set(e, ERR_STOPPED, "stopped on request");
        s->end = block < l->cols - s->first ? s->first + block : l->cols;
        n = find_candidates(s);
        if (n > 0)
            mask_smallest(s, n, left * (before + n) / all - left * before / all);
        before += n;
        team_for(in->team, l->g.groups * n_tiles(l), repair_tile, s);
    }
    return ERR_OK;
}

static enum err_code sparsegpt_solve(const struct crit_net *in, int w, uint64_t n_masked, struct err *e)
{
    const struct sparsegpt_conf *c = in->conf;
    const struct layerwise_conf conf = shared(c);
    struct sweep s = { 0 };
    enum err_code rc = layerwise_init(&s.l, in, w, true, &conf, e);
    int64_t wanted = in->runs.len > 0 ? in->runs.len : c->block;
    int block = (int)(wanted < s.l.cols ? wanted : s.l.cols);

    if (rc != ERR_OK)
        return rc;
    s.removed = mem_alloc((size_t)s.l.rows * (size_t)block * sizeof *s.removed);
    s.candidate = mem_alloc((size_t)s.l.rows * (size_t)block * sizeof *s.candidate);
    if (!s.removed || !s.candidate)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    else
        n_masked = layerwise_mask_free(&s.l, n_masked);
    if (rc == ERR_OK && n_masked > 0)
        rc = sweep_columns(&s, in, block, n_masked, e);
    if (rc == ERR_OK)
        rc = layerwise_store(&s.l, e);
    mem_free(s.removed);
    mem_free(s.candidate);
    layerwise_clear(&s.l);
    return rc;
}

/* What the loss of a layer grows by when one weight goes and all others repair: lets kernels compete. */
static enum err_code sparsegpt_score(const struct crit_net *in, float *const *score, struct err *e)
{
    const struct layerwise_conf conf = shared(in->conf);
    enum err_code rc = ERR_OK;

    for (int i = 0; i < in->net->n_weights && rc == ERR_OK; i++) {
        struct layerwise l;

        if (!score[i])
            continue;
        rc = layerwise_init(&l, in, i, false, &conf, e);
        for (size_t k = 0; rc == ERR_OK && k < l.kernel->len; k++) {
            size_t r = k / (size_t)l.cols, j = k % (size_t)l.cols;
            double w = l.w[r * (size_t)l.n + j];

            score[i][k] = layerwise_dead(&l, (int)r)[j] ? 0 : (float)(w * w / layerwise_inverse(&l, (int)r)[j * (size_t)l.n + j]);
        }
        layerwise_clear(&l);
    }
    return rc;
}

static uint64_t sparsegpt_memory(const struct net *net, const void *conf)
{
    const struct layerwise_conf c = shared(conf);
    uint64_t block = (uint64_t)((const struct sparsegpt_conf *)conf)->block, most = 0;

    block = block > UNIT_RUN_MAX ? block : UNIT_RUN_MAX; /* which it is, is not known here */
    for (int i = 0; i < net->n_weights; i++) {
        const struct op_weight *info = &net->weight[i].info;
        uint64_t rows = (uint64_t)info->shape.d[0], cols = shape_len(&info->shape) / rows;
        uint64_t bytes = rows * (block < cols ? block : cols) * (sizeof(double) + sizeof(struct candidate));

        most = info->prunable && bytes > most ? bytes : most;
    }
    return most + layerwise_memory(net, &c);
}

const struct criterion crit_sparsegpt = {
    .plug = { "sparsegpt", "Layerwise optimal brain surgeon, columns in their order, with repair of what stays (SparseGPT: Frantar & Alistarh 2023).",
              sparsegpt_params, sizeof(struct sparsegpt_conf) },
    .samples = true, .score_net = sparsegpt_score, .solve = sparsegpt_solve, .memory = sparsegpt_memory
};
