/* core/crit_magnitude.c: small weights go (Han et al. 2015: p = 1), as they are or beside the norm of their layer. Needs the weights only. */
#include <float.h>

#include "core/criterion.h"

struct magnitude_conf {
    double p;
    int normalize;
};
enum { NORMALIZE_NONE, NORMALIZE_LAYER };
static const struct param magnitude_params[] = {
    FIELD_REAL(struct magnitude_conf, p, 0.1, 4, 1, "Exponent of the absolute weight."),
    FIELD_CHOICE(struct magnitude_conf, normalize, "none|layer", NORMALIZE_NONE, "layer: |w| / ||W||_2 of its kernel, so that layers compare."), FIELD_END
};

static double norm(const struct weight *w)
{
    double sum = 0;

    for (size_t i = 0; i < w->len; i++)
        sum += (double)w->x[i] * (double)w->x[i];
    return sqrt(sum);
}

static void magnitude_score(const struct crit_in *in, float *score)
{
    const struct magnitude_conf *c = in->conf;
    float p = (float)c->p;
    double by = c->normalize == NORMALIZE_LAYER ? norm(in->w) : 1;

    for (size_t i = 0; i < in->w->len; i++)
        score[i] = by > 0 ? (float)(fabsf(in->w->x[i]) / by) : fabsf(in->w->x[i]);
    if (p == 1)
        return;
    for (size_t i = 0; i < in->w->len; i++) { /* a finite weight keeps a finite score */
        float s = powf(score[i], p);

        score[i] = s > FLT_MAX && isfinite(score[i]) ? FLT_MAX : s;
    }
}

const struct criterion crit_magnitude = {
    .plug = { "magnitude", "Keeps the largest weights: |w|^p (Han et al. 2015).", magnitude_params, sizeof(struct magnitude_conf) },
    .score = magnitude_score
};
