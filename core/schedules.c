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

static const struct schedule one_shot_row = { { "one_shot", "All at the first iteration; the others only retrain.", NULL, 0 }, one_shot };
static const struct schedule linear_row = { { "linear", "The same number of weights at each iteration.", NULL, 0 }, linear };
static const struct schedule cubic_row = {
    { "cubic", "Much early, little late: target + (start - target) (1 - t)^3 (Zhu and Gupta 2017).", NULL, 0 }, cubic
};
static const struct schedule exponential_row = {
    { "exponential", "A constant share of what is left at each iteration (iterative magnitude pruning).", NULL, 0 }, exponential
};

static const struct plug *const rows[] = { &one_shot_row.plug, &linear_row.plug, &cubic_row.plug, &exponential_row.plug, NULL };
const struct plug_table schedule_table = { "schedule", rows };
