/* core/schedules.c: how much of the target when. t is the share of the iterations done, this one included; at t = 1 every row gives the
 * target itself, not what rounding makes of it. */
#include "core/prune.h"

static double one_shot(const void *conf, double start, double target, double t)
{
    (void)conf, (void)start, (void)t;
    return target;
}

static double linear(const void *conf, double start, double target, double t)
{
    (void)conf;
    return t >= 1 ? target : start + (target - start) * t;
}

static double cubic(const void *conf, double start, double target, double t)
{
    double left = 1 - t;

    (void)conf;
    return t >= 1 ? target : target + (start - target) * left * left * left;
}

static double exponential(const void *conf, double start, double target, double t)
{
    (void)conf;
    return t >= 1 || start >= target ? target : 1 - (1 - start) * pow((1 - target) / (1 - start), t);
}

static const struct schedule one_shot_row = { .plug = { "one_shot", "All at the first iteration; the others only retrain.", NULL, 0 }, .at = one_shot };
static const struct schedule linear_row = { .plug = { "linear", "The same number of weights at each iteration.", NULL, 0 }, .at = linear };
static const struct schedule cubic_row = {
    .plug = { "cubic", "Much early, little late: target + (start - target) (1 - t)^3 (Zhu and Gupta 2017).", NULL, 0 }, .at = cubic
};
static const struct schedule exponential_row = {
    .plug = { "exponential", "A constant share of what is left at each iteration (iterative magnitude pruning).", NULL, 0 }, .at = exponential
};

static const struct param adaptive_params[] = {
    FIELD_REAL(struct adaptive_conf, initial_step, 0.0001, 1, 0.1, "What the first iteration adds to the sparsity, and each after it until one breaks the contract."),
    FIELD_REAL(struct adaptive_conf, minimal_step, 0.0001, 1, 0.025, "The search ends when the step falls below this."),
    FIELD_REAL(struct adaptive_conf, step_factor, 0.1, 0.9, 0.5, "What is left of the step when the direction turns."),
    FIELD_REAL(struct adaptive_conf, learning_rate_factor, 0.01, 1, 0.5, "What is left of retraining's learning rate then."),
    FIELD_INT(struct adaptive_conf, patience, 0, 1000, 1, "Iterations of retraining more that a sparsity gets before it is given up."), FIELD_END
};
static const struct schedule adaptive_row = {
    .plug = { "adaptive", "Searches the highest sparsity that keeps the contract: up while it holds, back to the best model and down by a smaller step where it "
      "breaks; iterations and target_sparsity are bounds (the loop of NNCF's accuracy-aware training).", adaptive_params, sizeof(struct adaptive_conf) },
    .at = one_shot, .searches = true
};

static const struct plug *const rows[] = {
    &one_shot_row.plug, &linear_row.plug, &cubic_row.plug, &exponential_row.plug, &adaptive_row.plug, NULL
};
const struct plug_table schedule_table = { "schedule", rows };
