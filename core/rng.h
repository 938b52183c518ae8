/* core/rng.h: counter-based random numbers, Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
 *
 * A number is a pure function of (seed, purpose, stream, step, index): no state to save, the same whatever the number of
 * threads and whether or not the job was interrupted. */
#ifndef CORE_RNG_H
#define CORE_RNG_H

#include <stdint.h>

enum rng_purpose { RNG_INIT = 1, RNG_SHUFFLE, RNG_DROPOUT, RNG_SPLIT, RNG_CRITERION, RNG_TEST, RNG_REGROW, RNG_AUGMENT };

struct rng {
    uint64_t seed;
    uint32_t purpose; /* enum rng_purpose */
    uint32_t stream;  /* below 2^24: a node, a weight, a class */
    uint64_t step;    /* a training step, an epoch, an iteration */
};

/* Four numbers: block b of the sequence; index i of a sequence of single numbers is out[i % 4] of block i / 4. */
void rng_block(uint32_t out[4], const struct rng *r, uint32_t block);
uint32_t rng_u32(const struct rng *r, uint64_t index);
double rng_unit(const struct rng *r, uint64_t index);                  /* uniform on [0, 1) */
double rng_normal(const struct rng *r, uint64_t index);                /* standard normal (Box-Muller) */
uint64_t rng_below(const struct rng *r, uint64_t index, uint64_t n);   /* 0 .. n-1, n > 0 */
/* Fisher-Yates over p[0..n). */
void rng_shuffle(const struct rng *r, uint32_t *p, uint32_t n);

#endif
