/* core/loss.c: see loss.h. Samples are columns: every loss runs over blocks of COLUMNS samples, row by row, so that loops vectorise
 * whatever the number of outputs. Values are summed in double. */
#include "core/loss.h"

#include "core/simd.h"

enum { COLUMNS = 64 };
#define CLIP 1e-7 /* Keras' epsilon */

typedef void block_fn(const struct loss_call *c, int first, int columns);

static void over_blocks(const struct loss_call *c, block_fn *fn)
{
    for (int j = 0; j < c->n; j += COLUMNS)
        fn(c, j, c->n - j < COLUMNS ? c->n - j : COLUMNS);
}

static size_t place(const struct loss_call *c, int i, int j)
{
    return (size_t)i * (size_t)c->n + (size_t)j;
}

/* What output i of sample j should be. */
static double wanted(const struct loss_call *c, int i, int j)
{
    if (c->target)
        return (double)c->target[place(c, i, j)];
    return c->k == 1 ? c->label[j] : c->label[j] == i;
}

/* ---- categorical cross-entropy: -sum of t log p, p = softmax(z) ---- */

/* Largest logit, and the sum of exp(z - largest). */
SIMD static void softmax_sums(const struct loss_call *c, int first, int columns, float *most, float *sum)
{
    const float *z = c->z + first;

    memcpy(most, z, (size_t)columns * sizeof *most);
    memset(sum, 0, (size_t)columns * sizeof *sum);
    for (int i = 1; i < c->k; i++)
        for (int j = 0; j < columns; j++)
            most[j] = z[place(c, i, j)] > most[j] ? z[place(c, i, j)] : most[j];
    for (int i = 0; i < c->k; i++)
        for (int j = 0; j < columns; j++)
            sum[j] += simd_exp(z[place(c, i, j)] - most[j]);
}

/* dz = weight * (total * p - t): here without t. */
SIMD static void softmax_gradient(const struct loss_call *c, int first, int columns, const float *most, const float *factor)
{
    const float *z = c->z + first;
    float *dz = c->dz + first;

    for (int i = 0; i < c->k; i++)
        for (int j = 0; j < columns; j++)
            dz[place(c, i, j)] = simd_exp(z[place(c, i, j)] - most[j]) * factor[j];
}

static void logits_block(const struct loss_call *c, int first, int columns)
{
    float most[COLUMNS], sum[COLUMNS], factor[COLUMNS];
    double total[COLUMNS] = { 0 };

    softmax_sums(c, first, columns, most, sum);
    for (int j = 0; j < columns; j++) {
        double lse = (double)most[j] + log((double)sum[j]), loss = 0;
        int label = c->target ? -1 : c->label[first + j];

        for (int i = label < 0 ? 0 : label; i < (label < 0 ? c->k : label + 1); i++) {
            double t = wanted(c, i, first + j);

            total[j] += t;
            loss += t != 0 ? t * (lse - (double)c->z[place(c, i, first + j)]) : 0;
        }
        c->sample[first + j] = loss;
        factor[j] = (float)(c->weight * total[j] / (double)sum[j]);
    }
    if (!c->dz)
        return;
    softmax_gradient(c, first, columns, most, factor);
    for (int i = 0; c->target && i < c->k; i++)
        for (int j = first; j < first + columns; j++)
            c->dz[place(c, i, j)] -= (float)(c->weight * (double)c->target[place(c, i, j)]);
    for (int j = first; !c->target && j < first + columns; j++)
        c->dz[place(c, c->label[j], j)] -= (float)c->weight;
}

static double clipped(double p)
{
    return p < CLIP ? CLIP : p > 1 - CLIP ? 1 - CLIP : p;
}

/* q = p / S with S = sum of p, then clipped. d/dp_k = (sum of t where q is not clipped - t_k / q_k, 0 if q_k is clipped) / S. */
static void probabilities_sample(const struct loss_call *c, int j)
{
    double s = 0, inside = 0, loss = 0;

    for (int i = 0; i < c->k; i++)
        s += (double)c->z[place(c, i, j)];
    s = s < CLIP ? CLIP : s;
    for (int i = 0; i < c->k; i++) {
        double q = (double)c->z[place(c, i, j)] / s, t = wanted(c, i, j);

        loss -= t != 0 ? t * log(clipped(q)) : 0;
        inside += q == clipped(q) ? t : 0;
    }
    c->sample[j] = loss;
    for (int i = 0; c->dz && i < c->k; i++) {
        double q = (double)c->z[place(c, i, j)] / s;

        c->dz[place(c, i, j)] = (float)(c->weight * (inside - (q == clipped(q) ? wanted(c, i, j) / q : 0)) / s);
    }
}

static void cross_entropy(const struct loss_call *c)
{
    if (c->from == LOSS_FROM_LOGITS)
        over_blocks(c, logits_block);
    else
        for (int j = 0; j < c->n; j++)
            probabilities_sample(c, j);
}

static const struct loss sparse_categorical = {
    .plug = { "sparse_categorical_crossentropy", "Cross-entropy of class numbers and the outputs' softmax.", NULL, 0 },
    .fuses = "softmax", .labels = true, .min_outputs = 2, .run = cross_entropy
};
static const struct loss categorical = {
    .plug = { "categorical_crossentropy", "Cross-entropy of class vectors and the outputs' softmax.", NULL, 0 },
    .fuses = "softmax", .labels = true, .targets = true, .min_outputs = 2, .run = cross_entropy
};

/* ---- binary cross-entropy, the mean over the outputs: -(t log p + (1 - t) log(1 - p)), p = sigmoid(z) ---- */

/* From a logit: max(z, 0) - t z + log(1 + exp(-|z|)); from a probability, clipped. *slope: its derivative. */
static double binary_one(double z, double t, enum loss_from from, double *slope)
{
    if (from == LOSS_FROM_LOGITS) {
        double small = exp(-fabs(z)), p = z > 0 ? 1 / (1 + small) : small / (1 + small);

        *slope = p - t;
        return (z > 0 ? z : 0) - t * z + log1p(small);
    } else {
        double p = clipped(z);

        *slope = p == z ? (p - t) / (p * (1 - p)) : 0;
        return -(t * log(p) + (1 - t) * log(1 - p));
    }
}

static double square_one(double z, double t, enum loss_from from, double *slope)
{
    (void)from;
    *slope = 2 * (z - t);
    return (z - t) * (z - t);
}

/* The mean of one term per output. */
static void mean_of(const struct loss_call *c, double (*one)(double z, double t, enum loss_from from, double *slope))
{
    for (int j = 0; j < c->n; j++)
        c->sample[j] = 0;
    for (int i = 0; i < c->k; i++)
        for (int j = 0; j < c->n; j++) {
            double slope;

            c->sample[j] += one((double)c->z[place(c, i, j)], wanted(c, i, j), c->from, &slope) / c->k;
            if (c->dz)
                c->dz[place(c, i, j)] = (float)(c->weight * slope / c->k);
        }
}

static void binary_run(const struct loss_call *c) { mean_of(c, binary_one); }
static void square_run(const struct loss_call *c) { mean_of(c, square_one); }

static const struct loss binary = {
    .plug = { "binary_crossentropy", "Cross-entropy of yes and no, the mean over the outputs' sigmoids.", NULL, 0 },
    .fuses = "sigmoid", .labels = true, .targets = true, .min_outputs = 1, .run = binary_run
};
static const struct loss mean_squared_error = {
    .plug = { "mean_squared_error", "Squared difference, the mean over the outputs.", NULL, 0 },
    .labels = true, .targets = true, .min_outputs = 1, .run = square_run
};

static const struct plug *const rows[] = { &sparse_categorical.plug, &categorical.plug, &binary.plug, &mean_squared_error.plug, NULL };
const struct plug_table loss_table = { "loss", rows };

/* ---- which loss, and from where ---- */

static enum err_code fits(const struct loss *loss, int k, int n_classes, int n_target, struct err *e)
{
    const char *name = loss->plug.name;

    if (k < loss->min_outputs)
        return err_set(e, ERR_INVALID, "%s needs one output per class, the model has %d", name, k);
    if (n_classes == 0 && !loss->targets)
        return err_set(e, ERR_INVALID, "%s needs class labels, the data set has targets", name);
    if (n_classes > 0 && !loss->labels)
        return err_set(e, ERR_INVALID, "%s needs targets, the data set has class labels", name);
    if (n_classes == 0 && k != n_target)
        return err_set(e, ERR_INVALID, "the model has %d outputs, the data set's targets have %d", k, n_target);
    if (n_classes > 0 && k != n_classes && !(k == 1 && n_classes == 2))
        return err_set(e, ERR_INVALID, "the model has %d outputs, the data set %d classes", k, n_classes);
    return ERR_OK;
}

enum err_code loss_bind(struct loss_binding *out, const struct loss *loss, const struct net *net, int n_classes, int n_target, struct err *e)
{
    const struct shape *shape = net_output(net);
    const struct node *last;
    int at = net->n_nodes - 1;
    char text[96];
    enum err_code rc;

    if (shape->n_d != 1)
        return err_set(e, ERR_INVALID, "the model's output must have one dimension, not %s", shape_text(shape, text, sizeof text));
    rc = fits(loss, shape->d[0], n_classes, n_target, e);
    if (rc != ERR_OK)
        return rc;
    while (net->node[at].op->view)
        at = net->node[at].in[0];
    last = &net->node[at];
    *out = (struct loss_binding){ loss, at, last->op->activation ? LOSS_FROM_PROBABILITIES : LOSS_FROM_LOGITS };
    /* softmax of several groups and a reshape behind it are no distribution over the outputs */
    if (loss->fuses && last->op == op_find(loss->fuses) && shape_equal(&last->plan.out, shape))
        *out = (struct loss_binding){ loss, last->in[0], LOSS_FROM_LOGITS };
    return ERR_OK;
}

const struct loss *loss_default(const struct net *net, int n_classes)
{
    if (n_classes == 0)
        return &mean_squared_error;
    return shape_len(net_output(net)) == 1 ? &binary : &sparse_categorical;
}
