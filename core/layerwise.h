/* core/layerwise.h: what layerwise second-order criteria share (crit_sparsegpt.c, crit_obs.c): one layer in double, and what its inputs say.
 *
 * A layer computes W X; the columns of X are samples, of a convolution the patches (patch.h) of each sample. When a row w of W becomes w + d, its output
 * changes by d'Hd in the mean square over samples, summed over places: H = XX'/samples, the same H for all rows of a group. A bias is one more
 * column of W whose input is always 1: it is repaired as the others are, but never goes. So all that such a criterion looks at is W and the inverse
 * of H + lambda I. lambda is `damping` times the mean diagonal of H; where that leaves no inverse it is ten times as much, and so on.
 *
 * Neighbouring patches say nearly the same. Of a large image so many places are looked at, one drawn from each of as many equal runs, by seed, step
 * and kernel, the same for all samples; they stand for all. Patches are gathered some places at a time, never all of them.
 *
 * An input that is 0 in every sample is dead. It is uncoupled (H_jj = 1, nothing beside it), and its weights cost nothing: they go first. */
#ifndef CORE_LAYERWISE_H
#define CORE_LAYERWISE_H

#include "core/patch.h"
#include "core/probe.h"

struct layerwise_conf { int64_t samples, batch_size; double damping; int64_t places; };
#define LAYERWISE_FIELDS(st) \
    PROBE_FIELDS(st, 2048, 128), \
    FIELD_REAL(st, damping, 0, 10, 0.01, "Added to the diagonal of the inputs' XX', as a share of its mean; times ten as long as that is not positive definite."), \
    FIELD_INT(st, places, 1, 1e9, 64, "Places of a convolution's output to look at, of each sample, spread over the image; at most all.")

struct layerwise {
    struct weight *kernel, *bias; /* of the net; bias NULL: none */
    struct conv g;                /* see patch_shape */
    int rows, cols, n;            /* n: columns of the kernel, and 1 for the bias */
    int group_rows;               /* consecutive rows that read the same channels */
    double *w;                    /* rows,n */
    double *h;                    /* groups,n,n: H + lambda I, upper triangle */
    double *inverse;              /* groups,n,n: of H + lambda I, both triangles; factor: U instead, inverse = U'U, upper triangle */
    bool *dead;                   /* groups,n */
    struct unit_runs runs;        /* of in */
};

/* Runs samples through in->net as it is now and looks at the inputs of kernel w. ERR_STOPPED; ERR_DIVERGED: no damping helps. */
MUST enum err_code layerwise_init(struct layerwise *l, const struct crit_net *in, int w, bool factor, const struct layerwise_conf *conf,
                                   struct err *e);
void layerwise_clear(struct layerwise *l);
/* a (n,n): the lower triangle becomes the upper one's mirror image. */
void layerwise_mirror(double *a, int n);
/* Of row r's group. */
static inline const double *layerwise_h(const struct layerwise *l, int r) { return l->h + (size_t)(r / l->group_rows) * (size_t)l->n * (size_t)l->n; }
static inline const double *layerwise_inverse(const struct layerwise *l, int r) { return l->inverse + (size_t)(r / l->group_rows) * (size_t)l->n * (size_t)l->n; }
static inline const bool *layerwise_dead(const struct layerwise *l, int r) { return l->dead + (size_t)(r / l->group_rows) * (size_t)l->n; }
/* Columns of the run that column j lies in: *first .. *end - 1; where there are no runs, of the row. */
static inline void layerwise_run(const struct layerwise *l, int j, int *first, int *end)
{
    int len = l->runs.len > 0 ? l->runs.len : l->cols;

    *first = j - j % len;
    *end = *first + len < l->cols ? *first + len : l->cols;
}
/* How many more may go of columns first .. end - 1 of row r: a run, or where there are none any columns. */
int layerwise_spare(const struct layerwise *l, int r, int first, int end);
/* Masks what costs nothing, at most n numbers: first what is masked already, then zeros, then weights of dead inputs, as far as runs let them go.
 * Returns how many of n are left. */
uint64_t layerwise_mask_free(struct layerwise *l, uint64_t n);
/* Writes w to kernel and bias; 0 where the mask says so. ERR_DIVERGED: a number is not finite. */
MUST enum err_code layerwise_store(const struct layerwise *l, struct err *e);
/* Bytes, at most: of the largest layer, and of running samples. */
uint64_t layerwise_memory(const struct net *net, const struct layerwise_conf *conf);

#endif
