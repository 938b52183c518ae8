/* core/rng.c: see rng.h. */
#include "core/rng.h"

#include <math.h>

__extension__ typedef unsigned __int128 wide;

void rng_block(uint32_t out[4], const struct rng *r, uint32_t block)
{
    uint32_t c0 = block, c1 = r->purpose << 24 | (r->stream & 0xffffff), c2 = (uint32_t)r->step, c3 = (uint32_t)(r->step >> 32);
    uint32_t k0 = (uint32_t)r->seed, k1 = (uint32_t)(r->seed >> 32);

    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint32_t rng_u32(const struct rng *r, uint64_t index)
{
    uint32_t out[4];

    rng_block(out, r, (uint32_t)(index / 4));
    return out[index % 4];
}

double rng_unit(const struct rng *r, uint64_t index)
{
    return rng_u32(r, index) * 0x1p-32;
}

double rng_normal(const struct rng *r, uint64_t index)
{
    uint32_t out[4];

    rng_block(out, r, (uint32_t)index);
    /* 53 bits for the radius, so that the tails reach past 8 sigma */
    double u = (((uint64_t)out[0] << 21 ^ out[1] >> 11) + 0.5) * 0x1p-53;
    double angle = 6.283185307179586477 * (out[2] * 0x1p-32);
    return sqrt(-2 * log(u)) * cos(angle);
}

uint64_t rng_below(const struct rng *r, uint64_t index, uint64_t n)
{
    uint32_t out[4];

    rng_block(out, r, (uint32_t)index);
    /* multiply-shift on 64 bits: the bias is below n / 2^64 */
    return (uint64_t)(((wide)((uint64_t)out[0] << 32 | out[1]) * n) >> 64);
}

void rng_shuffle(const struct rng *r, uint32_t *p, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)rng_below(r, i, i), t = p[i - 1];

        p[i - 1] = p[j];
        p[j] = t;
    }
}
