/* core/lr.c: learning-rate schedules. A schedule is a share of the base rate, a pure function of the step.
 *
 * Each begins with an optional linear warm-up; what follows counts its steps from the warm-up's end, so that a schedule's shape does not depend
 * on it. Every conf begins with struct warm. */
#include "core/optim.h"

#include <math.h>

struct warm { double warm_up_epochs; };
#define WARM_FIELD(st) \
    { .name = "warm_up_epochs", .type = PARAM_REAL, .offset = FIELD_AT(st, warm.warm_up_epochs, double), .min = 0, .max = 1e6, .def = 0, \
      .help = "Epochs over which the rate rises linearly from near 0; fractions are allowed." }

/* Moves *t and *n past the warm-up; its own share of the rate, 1 after it. */
static double warm_up(const struct warm *c, int64_t *t, int64_t *n, int64_t steps_per_epoch)
{
    int64_t steps = llround(fmin(c->warm_up_epochs * (double)steps_per_epoch, 0x1p62)), at = *t;

    *t = at > steps ? at - steps : 0;
    *n = *n > steps ? *n - steps : 1;
    return at < steps ? (double)(at + 1) / (double)steps : 1;
}

/* ---- constant ---- */

struct constant_conf { struct warm warm; };
static const struct param constant_params[] = { WARM_FIELD(struct constant_conf), FIELD_END };

static double constant_at(const void *conf, int64_t t, int64_t n, int64_t steps_per_epoch)
{
    return warm_up(conf, &t, &n, steps_per_epoch);
}

static const struct lr_schedule constant = {
    { "constant", "The base rate throughout.", constant_params, sizeof(struct constant_conf) }, constant_at
};

/* ---- step ---- */

struct step_conf { struct warm warm; double factor; int64_t every; };
static const struct param step_params[] = {
    WARM_FIELD(struct step_conf), FIELD_REAL(struct step_conf, factor, 0, 1, 0.1, "What the rate is multiplied with."),
    FIELD_INT(struct step_conf, every, 1, 1e6, 1, "Epochs from one multiplication to the next."), FIELD_END
};

static double step_at(const void *conf, int64_t t, int64_t n, int64_t steps_per_epoch)
{
    const struct step_conf *c = conf;
    double warm = warm_up(&c->warm, &t, &n, steps_per_epoch);

    return warm * pow(c->factor, (double)(t / steps_per_epoch / c->every));
}

static const struct lr_schedule step = {
    { "step", "Multiplied by a factor every few epochs.", step_params, sizeof(struct step_conf) }, step_at
};

/* ---- exponential ---- */

struct exponential_conf { struct warm warm; double factor; };
static const struct param exponential_params[] = {
    WARM_FIELD(struct exponential_conf),
    FIELD_REAL(struct exponential_conf, factor, 1e-6, 1, 0.9, "What is left of the rate after each epoch."), FIELD_END
};

static double exponential_at(const void *conf, int64_t t, int64_t n, int64_t steps_per_epoch)
{
    const struct exponential_conf *c = conf;
    double warm = warm_up(&c->warm, &t, &n, steps_per_epoch);

    return warm * pow(c->factor, (double)t / (double)steps_per_epoch);
}

static const struct lr_schedule exponential = {
    { "exponential", "Falls by a constant factor per epoch, a little each step.", exponential_params, sizeof(struct exponential_conf) },
    exponential_at
};

/* ---- cosine ---- */

struct cosine_conf { struct warm warm; double final; };
static const struct param cosine_params[] = {
    WARM_FIELD(struct cosine_conf), FIELD_REAL(struct cosine_conf, final, 0, 1, 0, "Share of the base rate at the end."), FIELD_END
};

static double cosine_at(const void *conf, int64_t t, int64_t n, int64_t steps_per_epoch)
{
    const struct cosine_conf *c = conf;
    double warm = warm_up(&c->warm, &t, &n, steps_per_epoch);

    return warm * (c->final + (1 - c->final) * 0.5 * (1 + cos(3.14159265358979323846 * (double)t / (double)n)));
}

static const struct lr_schedule cosine = {
    { "cosine", "Half a cosine from the base rate down to its final share (Loshchilov and Hutter 2017, eq. 5, one period).", cosine_params,
      sizeof(struct cosine_conf) }, cosine_at
};

/* To add a schedule: its formula above, and its row here. */
static const struct plug *const schedules[] = { &constant.plug, &step.plug, &exponential.plug, &cosine.plug, NULL };
const struct plug_table lr_schedule_table = { "learning_rate_schedule", schedules };
