/* core/int8.h: the kernel of a dense layer in eight-bit integers, and its product in integer arithmetic.
 *
 * Weights are symmetric, one scale per output: w = q * scale[row], q in -127 .. 127, so zeros stay zeros. Activations are bytes: x = (u - zero) * s, zero 0
 * where no number is negative, else 128; (s, zero) of each sample by its own largest number, or, once calibrated, the same for all. So
 * y = (sum q u - zero * sum q) * (s * scale[row]) + bias: the sum is exact in 32 bits (up to INT8_MAX_COLS inputs), and every level of vector code, batch size
 * and team gives the same bytes.
 *
 * Four inputs of a sample lie in one 32-bit word, and so do the four weights of a row that meet them. Words of weights that are all zero are left
 * out, unless most are not: sparse and dense kernels are one structure. */
#ifndef CORE_INT8_H
#define CORE_INT8_H

#include "core/team.h"

enum { INT8_MAX_COLS = 65536, INT8_MAX_TILES = 32, INT8_BATCH = 128 /* samples that are quantised at a time */ };

struct int8_scale { float s; int zero; }; /* x = (u - zero) * s; s 0: each sample has its own */
struct int8 {
    int rows, cols, words;    /* words of a row: cols / 4, rounded up */
    int8_t *q;                /* [rows][cols] */
    float *scale;             /* [rows] */
    struct int8_scale input;
    int32_t *sum;             /* [rows] of q */
    size_t n;                 /* words that are held */
    bool whole;               /* all words, in their order: no `across` */
    uint32_t *start, *across; /* [rows + 1], [n] */
    int32_t *word;            /* [n] four weights each, the first in the lowest byte */
    int n_tiles, tile[INT8_MAX_TILES + 1];
    uint32_t *x;              /* [words][INT8_BATCH] the batch at hand, in bytes: a net belongs to one thread */
};

/* The scale of a row of n weights: largest / 127, 1 if all are zero; and each number on it. */
float int8_row_scale(const float *w, int n);
void int8_row(int8_t *q, const float *w, float scale, int n);
/* Takes q and scale of a kernel, [rows][cols] and [rows]. */
MUST enum err_code int8_new(struct int8 **out, const int8_t *q, const float *scale, int rows, int cols, struct err *e);
void int8_free(struct int8 *k);
/* Bytes of a kernel, at most. */
uint64_t int8_memory(int rows, int cols);
/* The range [low, high] as a scale: 0 lies on it. */
struct int8_scale int8_scale_of(float low, float high);

/* core/int8_kernels.c. y (rows,n) = W x (cols,n) + bias; bias [rows] may be NULL; team may be NULL. */
void int8_forward(const struct int8 *k, const float *x, const float *bias, float *y, int n, struct team *team);
/* Levels of vector code that this processor has, best first: for tests and reports. */
int int8_n_levels(void);
const char *int8_level_name(int level);
/* Tests: leaves out the best levels. */
extern int int8_skip_levels;

#endif
