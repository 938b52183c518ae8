/* core/int8_kernels.h: what the integer products of dense layers (int8_kernels.c) and of convolutions (conv_int8.c) share: from floats to bytes, and
 * from sums back to floats. All levels of vector code give the same bytes. */
#ifndef CORE_INT8_KERNELS_H
#define CORE_INT8_KERNELS_H

#include "core/int8.h"

/* How sums of a row become numbers: (sum - zero * of_weights) * (s * scale) + bias; clamp: 0 where that is negative. start: what a convolution's sums
 * begin with: - zero * of_weights, where all samples have the same zero. */
struct int8_row { float scale, bias; int32_t of_weights, start; bool clamp; };

/* Row of a table of levels (core/int8_levels.h) that is to be taken. */
int int8_level(void);
/* Makes low and high of n columns as small and as large as their numbers; stride: floats from one row to the next. */
void int8_ranges(const float *x, size_t stride, size_t rows, int n, float *low, float *high);
/* What int8_scale_of makes of each range, and 1 / s. */
void int8_scales(const float *low, const float *high, int n, float *s, float *inverse, int32_t *zero);
/* Words of four zeros of n samples; whether they are all the same. */
bool int8_zeros(uint32_t *out, const int32_t *zero, int n);
/* A row of `columns` places of `samples` numbers each, of which the first `before` and those behind the next `inside` are zeros around the image. */
struct int8_line {
    const float *x;      /* where the first one in the image is */
    size_t step;         /* floats from one place to the next */
    int before, inside, columns, samples;
    int every;           /* places from one word to the next */
    const float *inverse;
    const int32_t *zero; /* of each sample */
    bool clamp;          /* numbers may lie outside of the range */
};
/* Of n samples, or of n numbers that have scales of their own. */
struct int8_floats {
    /* four numbers become the bytes of a word, lowest first: x times inverse, rounded to the nearest, ties to even, and zero */
    void (*words)(uint32_t *out, const float *const x[4], const float *inverse, const int32_t *zero, int n);
    /* one number the lowest byte of a word; and such words, four each, the bytes of one */
    void (*bytes)(uint32_t *out, const float *x, const float *inverse, const int32_t *zero, int n);
    void (*join)(uint32_t *out, const uint32_t *const in[4], int n);
    /* words of four places each, for all samples, at least 16, of each place that is `every` behind the last one and has three behind it */
    void (*roll)(uint32_t *out, const struct int8_line *l);
    void (*scale_back)(float *y, const int32_t *sum, const float *s, const int32_t *zero, int n, struct int8_row row);
};
const struct int8_floats *int8_floats(void);

#endif
