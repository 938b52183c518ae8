/* core/crit_random.c: the control that every other criterion must beat. */
#include "core/criterion.h"
#include "core/rng.h"

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

const struct criterion crit_random = { .plug = { "random", "Uniform random scores: the control.", NULL, 0 }, .score = random_score };
