/* core/crit_weight.c: criteria that need the weights only. */
#include <float.h>

#include "core/prune.h"
#include "core/rng.h"

struct magnitude_conf { double p; };
static const struct param magnitude_params[] = {
    FIELD_REAL(struct magnitude_conf, p, 0.1, 4, 1, "Exponent of the absolute weight."), FIELD_END
};

static void magnitude_score(const struct crit_in *in, float *score)
{
    float p = (float)((const struct magnitude_conf *)in->conf)->p;

    for (size_t i = 0; i < in->w->len; i++)
        score[i] = fabsf(in->w->x[i]);
    if (p == 1)
        return;
    for (size_t i = 0; i < in->w->len; i++) { /* a finite weight keeps a finite score */
        float s = powf(score[i], p);

        score[i] = s > FLT_MAX && isfinite(score[i]) ? FLT_MAX : s;
    }
}

static void random_score(const struct crit_in *in, float *score)
{
    struct rng r = { in->seed, RNG_CRITERION, in->stream, in->step };
    uint32_t u[4] = { 0 };

    for (size_t i = 0; i < in->w->len; i++) {
        if (i % 4 == 0)
            rng_block(u, &r, (uint32_t)(i / 4));
        score[i] = (float)(u[i % 4] >> 8) * 0x1p-24f;
    }
}

static const struct criterion magnitude_row = {
    { "magnitude", "Keeps the largest weights: |w|^p (Han et al. 2015).", magnitude_params, sizeof(struct magnitude_conf) }, magnitude_score
};
static const struct criterion random_row = { { "random", "Uniform random scores: the control.", NULL, 0 }, random_score };

static const struct plug *const rows[] = { &magnitude_row.plug, &random_row.plug, NULL };
const struct plug_table criterion_table = { "criterion", rows };
