/* core/conv_kernels.h: what conv.c wants computed in vectors (conv_kernels.c). */
#ifndef CORE_CONV_KERNELS_H
#define CORE_CONV_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONV_GRAIN = 16 }; /* floats that every level's vectors divide: runs are padded to it */

/* A run of the output for some outputs: out[q][..] = sum over taps of w[tap][q] * in[tap[k] + ..]. */
struct conv_product {
    const float *in;
    const uint32_t *tap;  /* [n_taps] where each tap's run begins */
    int n_taps;
    const float *w;       /* [n_taps][n_out] */
    const float *bias;    /* [n_out], or NULL */
    int n_out;            /* at most `outputs` of the level */
    float *out;
    size_t out_stride;    /* from one output to the next */
    const size_t *at;     /* [n / CONV_GRAIN] where each piece of the run goes */
    int n;                /* length of the run, a multiple of CONV_GRAIN */
    bool clamp;
};
/* Dot products over `rows` runs of n numbers: sum[q * sum_stride + place[t]] += dy[q] . in[tap[t]]. */
struct conv_dots {
    const float *in, *dy;
    size_t in_row, dy_row, dy_stride; /* from one row to the next; dy: from one output to the next */
    int rows, n;
    const uint32_t *tap;
    int n_taps;           /* any number */
    int n_out;            /* at most `outputs` of the level */
    float *sum;
    size_t sum_stride;
    int place, place_step; /* tap t = (channel, j), j of kw: place + t / kw * place_step + t % kw */
    int kw;
};
struct conv_level {
    const char *name;
    int outputs;               /* of one block */
    bool (*is_there)(void);    /* NULL: always */
    void (*product)(const struct conv_product *p);
    void (*dots)(const struct conv_dots *d);
    /* sum of n numbers, a multiple of CONV_GRAIN */
    float (*total)(const float *x, int n);
    /* n runs of nb numbers from x (a stride apart) become one; y not NULL: only those where y > 0, the others are 0 */
    void (*pack)(float *out, const float *x, const float *y, int n, size_t stride, size_t nb);
};
const struct conv_level *conv_level(void);

#endif
