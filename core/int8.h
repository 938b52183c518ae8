/* core/int8.h: the kernel of a dense layer or a convolution in eight-bit integers, and its product in integer arithmetic.
 *
 * Weights are symmetric, one scale per output: w = q * scale[row], q in -127 .. 127, so zeros stay zeros. Activations are bytes: x = (u - zero) * s,
 * zero 0 where no number is negative, else 128; (s, zero) of each sample, and of each group of a convolution, by its own largest number that is read, or,
 * once calibrated, the same for all. So y = (sum q u - zero * sum q) * (s * scale[row]) + bias: the sum is exact in 32 bits (up to INT8_MAX_COLS inputs),
 * and every level of vector code, batch size and team gives the same bytes.
 *
 * Four inputs of a sample lie in one 32-bit word, and so do the four weights of a row that meet them. Words of weights that are all zero are left
 * out, unless most are not: sparse and dense kernels are one structure. A convolution's word is of four channels at one place of the window, or of four
 * columns of one channel, whatever makes fewer words: conv_int8.c packs its inputs so. */
#ifndef CORE_INT8_H
#define CORE_INT8_H

#include "core/team.h"

enum {
    INT8_MAX_COLS = 65536, INT8_MAX_TILES = 32, INT8_BATCH = 128, /* samples that are quantised at a time */
    INT8_OUTPUTS = 8 /* of a block of a convolution's kernel, at most */
};

/* The window of a row, [channels][kh][kw], as words: [depth][kh][width] of them; a dense layer's is [inputs][1][1]. */
struct int8_window {
    int channels, kh, kw, depth, width;
    bool across; /* four columns of a channel make a word; else four channels at one place */
};
struct int8_window int8_window_of(int channels, int kh, int kw);

struct int8_scale { float s; int zero; }; /* x = (u - zero) * s; s 0: each sample has its own */
struct int8 {
    int rows, cols, words;    /* words of a row */
    struct int8_window window;
    int group;                /* rows of a convolution's group; 0: of a dense layer */
    int8_t *q;                /* [rows][cols] */
    float *scale;             /* [rows] */
    struct int8_scale input;
    int32_t *sum;             /* [rows] of q */
    size_t n;                 /* words that are held */
    bool whole;               /* all words, no `across`: [row][word], for a convolution [block of rows][word][row] */
    uint32_t *start, *across; /* [rows + 1], [n] */
    int32_t *word;            /* [n] four weights each, the first in the lowest byte */
    int n_tiles, tile[INT8_MAX_TILES + 1];
    uint32_t *x;              /* [words][INT8_BATCH] the batch at hand, in bytes: a net belongs to one thread; NULL: of a convolution */
};

/* The scale of a row of n weights: largest / 127, 1 if all are zero; and each number on it. */
float int8_row_scale(const float *w, int n);
void int8_row(int8_t *q, const float *w, float scale, int n);
/* Takes q and scale of a kernel, [rows][cols] and [rows]. */
MUST enum err_code int8_new(struct int8 **out, const int8_t *q, const float *scale, int rows, int cols, struct err *e);
/* The same of a convolution, rows in groups of so many, each row a window. */
MUST enum err_code int8_new_conv(struct int8 **out, const int8_t *q, const float *scale, int rows, int group, const struct int8_window *w, struct err *e);
void int8_free(struct int8 *k);
/* Blocks of the rows of a group, as equal as can be: block b begins at the result and has *n. */
int int8_n_blocks(int group);
int int8_block(int group, int b, int *n);
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
