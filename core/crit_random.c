/* core/crit_random.c: the control that every other criterion must beat. */
#include "core/criterion.h"
#include "core/rng.h"

enum { NEURONS = 1 << 23 }; /* streams of bundles, above those of weights */

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

static enum err_code random_score_neurons(const struct crit_net *in, const struct groups *g, float *const *score, struct err *e)
{
    (void)e;
    for (int b = 0; b < g->n; b++) {
        struct rng r = { in->seed, RNG_CRITERION, NEURONS + (uint32_t)b, in->step };

        for (int j = 0; j < g->bundle[b].n && score[b]; j++)
            score[b][j] = (float)(rng_u32(&r, (uint64_t)j) >> 8) * 0x1p-24f;
    }
    return ERR_OK;
}

const struct criterion crit_random = {
    .plug = { "random", "Uniform random scores: the control.", NULL, 0 }, .score = random_score, .score_neurons = random_score_neurons
};
