/* tests/core/draw.h: random numbers for tests of kernels. */
#ifndef TESTS_CORE_DRAW_H
#define TESTS_CORE_DRAW_H

#include "core/mem.h"
#include "core/rng.h"
#include "tests/suite.h"

/* n normal numbers, the same for the same stream; mem_free. */
static inline float *draw(size_t n, uint32_t stream)
{
    const struct rng r = { 5, RNG_TEST, stream, 0 };
    float *x = mem_vector(n);

    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&r, i);
    return x;
}

#endif
