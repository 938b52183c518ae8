/* core/int8_kernels.h: what the integer products of dense layers (int8_kernels.c) and of convolutions (conv_int8.c) share: from floats to bytes, and
 * from sums back to floats. All levels of vector code give the same bytes. */
#ifndef CORE_INT8_KERNELS_H
#define CORE_INT8_KERNELS_H

#include "core/int8.h"

/* How sums of a row become numbers: (sum - zero * of_weights) * (s * scale) + bias; clamp: 0 where that is negative. */
struct int8_row { float scale, bias; int32_t of_weights; bool clamp; };

/* Row of a table of levels (core/int8_levels.h) that is to be taken. */
int int8_level(void);
/* Smallest and largest number of each of n columns, and 0; stride: floats from one row to the next. */
void int8_ranges(const float *x, size_t stride, size_t rows, int n, float *low, float *high);
/* Of n samples, or of n numbers that have scales of their own. */
struct int8_floats {
    /* four numbers become the bytes of a word, lowest first: x times inverse, rounded to the nearest, ties to even, and zero */
    void (*words)(uint32_t *out, const float *const x[4], const float *inverse, const int32_t *zero, int n);
    /* one number the lowest byte of a word; and such words, four each, the bytes of one */
    void (*bytes)(uint32_t *out, const float *x, const float *inverse, const int32_t *zero, int n);
    void (*join)(uint32_t *out, const uint32_t *const in[4], int n);
    void (*scale_back)(float *y, const int32_t *sum, const float *s, const int32_t *zero, int n, struct int8_row row);
};
const struct int8_floats *int8_floats(void);

#endif
