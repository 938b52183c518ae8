/* core/optim.c: the optimizers; learning-rate schedules stand in core/lr.c.
 *
 * The formulas are PyTorch's (torch.optim, the documentation's algorithm boxes); the options have Keras' names and, where nothing else is
 * said, Keras' defaults. Two things are PyTorch's on purpose: epsilon stands outside the square root and outside the bias correction,
 * sqrt(v_hat) + epsilon, so its default is 1e-8; and the momentum buffer collects gradients, not steps, so a changed learning rate counts at once.
 *
 * weight_decay is L2: decay * w is added to the gradient; adamw alone shrinks w itself. Every update is one pass of plain IEEE arithmetic
 * per number (no contraction, no approximate division): any split of a range gives the same bytes. A first moment
 * that gets no more gradients would decay into denormal numbers, which are slow, and stay there: below 1e-30 it is taken as 0. */
#include "core/optim.h"

#include "core/simd.h"

#define DECAY_HELP "L2: this times the weight is added to its gradient; kernels only."
enum { MOMENT = 0, SQUARE = 1 }; /* slots */

SIMD_INLINE float settle(float x)
{
    return fabsf(x) < 1e-30f ? 0 : x;
}

/* ---- gradient descent ---- */

static const struct param descent_params[] = {
    FIELD_REAL(struct optim_conf_head, learning_rate, 0, 1e6, 0.01, "Step size."),
    FIELD_REAL(struct optim_conf_head, weight_decay, 0, 1e3, 0, DECAY_HELP), FIELD_END
};

SIMD static void descent(size_t n, float *restrict w, const float *restrict g, float lr, float decay)
{
    for (size_t i = 0; i < n; i++)
        w[i] -= lr * (g[i] + decay * w[i]);
}

static void descent_update(const struct optim_call *c)
{
    descent(c->n, c->w, c->g, (float)c->lr, (float)c->decay);
}

static const struct optimizer gradient_descent = {
    .plug = { "gradient_descent", "Gradient descent: w -= lr * g, one step per epoch, g of the whole training set.", descent_params,
              sizeof(struct optim_conf_head) },
    .full_batch = true, .update = descent_update
};

/* ---- sgd ---- */

struct sgd_conf {
    struct optim_conf_head head;
    double momentum;
    bool nesterov;
};
#define HEAD_FIELDS(st, rate, decay, decay_help) \
    { .name = "learning_rate", .type = PARAM_REAL, .offset = FIELD_AT(st, head.learning_rate, double), .min = 0, .max = 1e6, .def = rate, \
      .help = "Step size." }, \
    { .name = "weight_decay", .type = PARAM_REAL, .offset = FIELD_AT(st, head.weight_decay, double), .min = 0, .max = 1e3, .def = decay, \
      .help = decay_help }
static const struct param sgd_params[] = {
    HEAD_FIELDS(struct sgd_conf, 0.01, 0, DECAY_HELP),
    FIELD_REAL(struct sgd_conf, momentum, 0, 0.99999, 0, "Share of the momentum kept from step to step."),
    FIELD_BOOL(struct sgd_conf, nesterov, 0, "Nesterov's momentum: looks one step ahead."), FIELD_END
};

/* b = momentum * b + g; w -= lr * b, with Nesterov lr * (g + momentum * b) */
SIMD static void momentum_step(size_t n, float *restrict w, const float *restrict g, float *restrict b, float lr, float momentum,
                               float decay, float ahead, float own)
{
    for (size_t i = 0; i < n; i++) {
        float x = g[i] + decay * w[i];

        b[i] = settle(momentum * b[i] + x);
        w[i] -= lr * (own * x + ahead * b[i]);
    }
}

static void sgd_update(const struct optim_call *c)
{
    const struct sgd_conf *s = c->conf;
    float mu = (float)s->momentum;

    if (s->momentum == 0)
        descent_update(c);
    else
        momentum_step(c->n, c->w, c->g, c->slot[MOMENT], (float)c->lr, mu, (float)c->decay, s->nesterov ? mu : 1, s->nesterov ? 1 : 0);
}

static const struct optimizer sgd = {
    .plug = { "sgd", "Stochastic gradient descent, with momentum or Nesterov's (Sutskever et al. 2013).", sgd_params,
              sizeof(struct sgd_conf) },
    .n_slots = 1, .update = sgd_update
};

/* ---- rmsprop ---- */

struct rmsprop_conf {
    struct optim_conf_head head;
    double rho, momentum, epsilon;
};
static const struct param rmsprop_params[] = {
    HEAD_FIELDS(struct rmsprop_conf, 0.001, 0, DECAY_HELP),
    FIELD_REAL(struct rmsprop_conf, rho, 0, 0.99999, 0.9, "Share of the mean square kept from step to step."),
    FIELD_REAL(struct rmsprop_conf, momentum, 0, 0.99999, 0, "Share of the momentum kept from step to step."),
    FIELD_REAL(struct rmsprop_conf, epsilon, 1e-12, 1, 1e-8, "Added to the root of the mean square."), FIELD_END
};

/* v = rho * v + (1 - rho) * g^2; b = momentum * b + g / (sqrt(v) + epsilon); w -= lr * b */
SIMD static void rmsprop_step(size_t n, float *restrict w, const float *restrict g, float *restrict b, float *restrict v, float lr,
                              float rho, float rest, float momentum, float eps, float decay)
{
    for (size_t i = 0; i < n; i++) {
        float x = g[i] + decay * w[i];

        v[i] = settle(rho * v[i] + rest * (x * x));
        b[i] = settle(momentum * b[i] + x / (sqrtf(v[i]) + eps));
        w[i] -= lr * b[i];
    }
}

static void rmsprop_update(const struct optim_call *c)
{
    const struct rmsprop_conf *r = c->conf;

    rmsprop_step(c->n, c->w, c->g, c->slot[MOMENT], c->slot[SQUARE], (float)c->lr, (float)r->rho, (float)(1 - r->rho),
                 (float)r->momentum, (float)r->epsilon, (float)c->decay);
}

static const struct optimizer rmsprop = {
    .plug = { "rmsprop", "RMSprop (Tieleman and Hinton 2012): the gradient over the root of its running mean square.", rmsprop_params,
              sizeof(struct rmsprop_conf) },
    .n_slots = 2, .update = rmsprop_update
};

/* ---- adam, adamw ---- */

struct adam_conf {
    struct optim_conf_head head;
    double beta_1, beta_2, epsilon;
};
#define ADAM_FIELDS \
    FIELD_REAL(struct adam_conf, beta_1, 0, 0.99999, 0.9, "Share of the mean kept from step to step."), \
    FIELD_REAL(struct adam_conf, beta_2, 0, 0.99999, 0.999, "Share of the mean square kept from step to step."), \
    FIELD_REAL(struct adam_conf, epsilon, 1e-12, 1, 1e-8, "Added to the root of the corrected mean square."), FIELD_END
static const struct param adam_params[] = { HEAD_FIELDS(struct adam_conf, 0.001, 0, DECAY_HELP), ADAM_FIELDS };
static const struct param adamw_params[] = {
    HEAD_FIELDS(struct adam_conf, 0.001, 0.01, "Decoupled: each step multiplies the weight by 1 - learning_rate * this; kernels only."),
    ADAM_FIELDS
};

/* m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g^2; w = keep * w - lr' * m / (sqrt(v) + epsilon'), both divided by the root of
 * v's bias correction: lr' = lr * sqrt(1 - b2^t) / (1 - b1^t), epsilon' = epsilon * sqrt(1 - b2^t) */
struct adam_step { float b1, rest1, b2, rest2, lr, eps, decay, keep; };

SIMD static void adam_step(size_t n, float *restrict w, const float *restrict g, float *restrict m, float *restrict v, struct adam_step s)
{
    for (size_t i = 0; i < n; i++) {
        float x = g[i] + s.decay * w[i];
        float m1 = settle(s.b1 * m[i] + s.rest1 * x), v1 = settle(s.b2 * v[i] + s.rest2 * (x * x));

        m[i] = m1;
        v[i] = v1;
        w[i] = s.keep * w[i] - s.lr * m1 / (sqrtf(v1) + s.eps);
    }
}

static void adam_with(const struct optim_call *c, double l2, double keep)
{
    const struct adam_conf *a = c->conf;
    double root = sqrt(1 - pow(a->beta_2, (double)c->t));
    struct adam_step s = {
        .b1 = (float)a->beta_1, .rest1 = (float)(1 - a->beta_1), .b2 = (float)a->beta_2, .rest2 = (float)(1 - a->beta_2),
        .lr = (float)(c->lr * root / (1 - pow(a->beta_1, (double)c->t))), .eps = (float)(a->epsilon * root), .decay = (float)l2,
        .keep = (float)keep
    };

    adam_step(c->n, c->w, c->g, c->slot[MOMENT], c->slot[SQUARE], s);
}

static void adam_update(const struct optim_call *c)
{
    adam_with(c, c->decay, 1);
}

static void adamw_update(const struct optim_call *c)
{
    adam_with(c, 0, 1 - c->lr * c->decay);
}

static const struct optimizer adam = {
    .plug = { "adam", "Adam (Kingma and Ba 2015, algorithm 1): the running mean over the root of the running mean square.", adam_params,
              sizeof(struct adam_conf) },
    .n_slots = 2, .update = adam_update
};
static const struct optimizer adamw = {
    .plug = { "adamw", "Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).", adamw_params,
              sizeof(struct adam_conf) },
    .n_slots = 2, .update = adamw_update
};

/* To add an optimizer: its formula above, and its row here. */
static const struct plug *const optimizers[] = { &gradient_descent.plug, &sgd.plug, &rmsprop.plug, &adam.plug, &adamw.plug, NULL };
const struct plug_table optimizer_table = { "optimizer", optimizers };
