/* core/crit_magnitude.c: small weights go (Han et al. 2015: p = 1). Needs the weights only. */
#include <float.h>

#include "core/criterion.h"

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

const struct criterion crit_magnitude = {
    .plug = { "magnitude", "Keeps the largest weights: |w|^p (Han et al. 2015).", magnitude_params, sizeof(struct magnitude_conf) },
    .score = magnitude_score
};
