/* core/op_batch_norm.c: y = gamma (x - mean) / sqrt(variance + epsilon) + beta, for one-dimensional samples (Ioffe & Szegedy 2015).
 *
 * Training takes mean and (biased) variance of the batch and moves the tracked ones towards them, as Keras does; else the tracked
 * ones count. A feature's samples are contiguous: a tile is a run of features. State: mean, then 1 / sqrt(variance + epsilon). */
#include "core/op_init.h"
#include "core/simd.h"

struct batch_norm_conf {
    int64_t axis;
    double momentum, epsilon;
    bool center, scale;
    struct init beta_initializer, gamma_initializer;
};
INIT_PARAMS(beta_init_params, INIT_ZEROS);
INIT_PARAMS(gamma_init_params, INIT_ONES);
static const struct param batch_norm_params[] = {
    FIELD_INT(struct batch_norm_conf, axis, -1, 1, -1, "The features' axis: -1 or 1."),
    FIELD_REAL(struct batch_norm_conf, momentum, 0, 1, 0.99, "Share of the tracked statistics that a batch leaves."),
    FIELD_REAL(struct batch_norm_conf, epsilon, 0, 1, 0.001, "Added to the variance."),
    FIELD_BOOL(struct batch_norm_conf, center, 1, "Whether beta is added."),
    FIELD_BOOL(struct batch_norm_conf, scale, 1, "Whether gamma multiplies."),
    FIELD_OBJECT(struct batch_norm_conf, beta_initializer, beta_init_params, "How beta starts."),
    FIELD_OBJECT(struct batch_norm_conf, gamma_initializer, gamma_init_params, "How gamma starts."),
    FIELD_END
};

enum { FEATURES = 32 }; /* of one tile */
/* Numbers of the weights; -1: not there. */
struct places { int gamma, beta, mean, variance; };

static struct places places_of(const struct batch_norm_conf *c)
{
    int n = 0;
    struct places p = { -1, -1, 0, 0 };

    if (c->scale)
        p.gamma = n++;
    if (c->center)
        p.beta = n++;
    p.mean = n++;
    p.variance = n;
    return p;
}

static enum err_code batch_norm_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    const struct batch_norm_conf *c = conf;
    struct places at = places_of(c);
    char text[96];

    (void)n_in;
    if (in[0]->n_d != 1)
        return err_set(e, ERR_UNSUPPORTED, "batch normalisation takes one-dimensional samples here, not %s", shape_text(in[0], text, sizeof text));
    if (c->axis == 0)
        return err_field(e, ERR_UNSUPPORTED, "/axis", "must be -1 or 1: axis 0 is the batch");
    p->out = *in[0];
    p->neurons = NEURONS_PASS;
    p->n_weights = at.variance + 1;
    for (int i = 0; i < p->n_weights; i++)
        p->weight[i] = (struct op_weight){ .shape = *in[0], .trainable = i < at.mean, .fan_in = in[0]->d[0], .fan_out = in[0]->d[0] };
    if (at.gamma >= 0)
        p->weight[at.gamma].name = "gamma", p->weight[at.gamma].init = c->gamma_initializer;
    if (at.beta >= 0)
        p->weight[at.beta].name = "beta", p->weight[at.beta].init = c->beta_initializer;
    p->weight[at.mean].name = "moving_mean";
    p->weight[at.mean].init = (struct init){ .kind = INIT_ZEROS };
    p->weight[at.variance].name = "moving_variance";
    p->weight[at.variance].init = (struct init){ .kind = INIT_ONES };
    p->state_len = 2 * (size_t)in[0]->d[0];
    return ERR_OK;
}

static void track(float *tracked, double batch, double momentum)
{
    *tracked = (float)(momentum * (double)*tracked + (1 - momentum) * batch);
}

/* Mean and variance that count for feature f. */
SIMD static void moments(const struct op_call *c, const struct places *at, int f, double *mean, double *variance)
{
    const struct batch_norm_conf *conf = c->conf;
    const float *x = c->x[0] + (size_t)f * (size_t)c->n;

    if (!c->training) {
        *mean = (double)c->w[at->mean][f];
        *variance = (double)c->w[at->variance][f];
        return;
    }
    *mean = simd_sum(x, c->n) / c->n;
    *variance = simd_dot(x, *mean, x, *mean, c->n) / c->n;
    track(&c->w[at->mean][f], *mean, conf->momentum);
    track(&c->w[at->variance][f], *variance, conf->momentum);
}

SIMD static void affine(float *restrict y, const float *restrict x, float mean, float factor, float shift, int n)
{
    for (int j = 0; j < n; j++)
        y[j] = (x[j] - mean) * factor + shift;
}

static void forward_tile(void *ctx, int tile)
{
    const struct op_call *c = ctx;
    const struct batch_norm_conf *conf = c->conf;
    struct places at = places_of(conf);
    int n_f = c->out_shape->d[0];

    for (int f = tile * FEATURES; f < n_f && f < (tile + 1) * FEATURES; f++) {
        double mean, variance, factor;

        moments(c, &at, f, &mean, &variance);
        factor = 1 / sqrt(variance + conf->epsilon);
        c->state[f] = (float)mean;
        c->state[n_f + f] = (float)factor;
        factor *= at.gamma >= 0 ? (double)c->w[at.gamma][f] : 1;
        affine(c->y + (size_t)f * (size_t)c->n, c->x[0] + (size_t)f * (size_t)c->n, (float)mean, (float)factor,
               at.beta >= 0 ? c->w[at.beta][f] : 0, c->n);
    }
}

/* With s the factor of normalisation and xh = (x - mean) s: dgamma = sum dy xh, dbeta = sum dy, and
 * dx = gamma s (dy - (dbeta + xh dgamma) / n); statistics that are tracked, not the batch's, leave only dx = gamma s dy. */
SIMD static void backward_feature(const struct op_call *c, const struct places *at, int f)
{
    size_t first = (size_t)f * (size_t)c->n;
    const float *restrict x = c->x[0] + first, *restrict dy = c->dy + first;
    double mean = (double)c->state[f], s = (double)c->state[c->out_shape->d[0] + f];
    double dbeta = simd_sum(dy, c->n), dgamma = simd_dot(dy, 0, x, mean, c->n) * s;
    float *restrict dx = c->dx[0] ? c->dx[0] + first : NULL;

    if (dx) {
        double factor = s * (at->gamma >= 0 ? (double)c->w[at->gamma][f] : 1);
        double per_x = c->training ? -factor * s * dgamma / c->n : 0;
        float a = (float)factor, b = (float)per_x, shift = c->training ? (float)(-factor * dbeta / c->n) : 0, m = (float)mean;

        for (int j = 0; j < c->n; j++)
            dx[j] = a * dy[j] + (b * (x[j] - m) + shift);
    }
    if (at->gamma >= 0)
        c->dw[at->gamma][f] = (float)(dgamma + (c->accumulate ? (double)c->dw[at->gamma][f] : 0));
    if (at->beta >= 0)
        c->dw[at->beta][f] = (float)(dbeta + (c->accumulate ? (double)c->dw[at->beta][f] : 0));
}

static void backward_tile(void *ctx, int tile)
{
    const struct op_call *c = ctx;
    struct places at = places_of(c->conf);

    for (int f = tile * FEATURES; f < c->out_shape->d[0] && f < (tile + 1) * FEATURES; f++)
        backward_feature(c, &at, f);
}

static void batch_norm_run(const struct op_call *c, void (*fn)(void *ctx, int tile))
{
    struct op_call call = *c;

    team_for(c->team, (c->out_shape->d[0] + FEATURES - 1) / FEATURES, fn, &call);
}

static void batch_norm_forward(const struct op_call *c) { batch_norm_run(c, forward_tile); }
static void batch_norm_backward(const struct op_call *c)
{
    batch_norm_run(c, backward_tile);
    for (int i = 0; c->ready && i < places_of(c->conf).mean; i++)
        c->ready(c->ready_user, i, 0, (size_t)c->out_shape->d[0]);
}

const struct op op_batch_norm = {
    .plug = { "batch_norm", "Normalises each feature by its mean and variance over the batch.", batch_norm_params,
              sizeof(struct batch_norm_conf) },
    .min_in = 1, .max_in = 1, .shape = batch_norm_shape, .forward = batch_norm_forward, .backward = batch_norm_backward
};
