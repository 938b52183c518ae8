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
    const float *more;    /* as out: added before the clamp; NULL: nothing */
    size_t out_stride;    /* from one output to the next */
    const size_t *at;     /* [n / CONV_GRAIN] where each piece of the run goes */
    int n;                /* length of the run, a multiple of CONV_GRAIN */
    bool clamp;
};
/* Dot products over `rows` runs of n numbers: sum of (q, t) += dy[q] . in[tap[t] + ..]. */
struct conv_dots {
    const float *in, *dy;
    const uint32_t *row;  /* [rows] where each row of `in` begins */
    size_t dy_row, dy_stride; /* from one row, and from one output, to the next */
    int rows, n;
    const uint32_t *tap;
    int n_taps;           /* any number */
    int n_out;            /* at most `outputs` of the level */
    float *sum;
    size_t sum_stride;    /* from one output to the next */
    int place, place_step, kw; /* tap t is (channel, j), j of kw: its sum stands at place + channel * place_step + j */
};
/* Lines of a sparse kernel: number k of line l, start[l] <= k < end[l], meets the run at in + tap[across[k]] (tap NULL: in + across[k]). */
struct conv_kept {
    const float *in;
    const uint32_t *tap, *start, *end, *across;
    int n_lines, n;       /* lines; length of the run, a multiple of CONV_GRAIN */
    /* product: out[l] = bias[l] + sum over its numbers of value[k] * run */
    const float *value, *bias;
    float *out;
    size_t out_stride;
    const size_t *at;
    bool clamp;
    /* dots: sum[k] += dy[l] . run */
    const float *dy;
    size_t dy_stride;     /* from one line to the next */
    float *sum;
};
struct conv_level {
    const char *name;
    int outputs;               /* of one block */
    void (*product)(const struct conv_product *p);
    void (*dots)(const struct conv_dots *d);
    void (*kept_product)(const struct conv_kept *p);
    void (*kept_dots)(const struct conv_kept *p);
    /* sum of n numbers, a multiple of CONV_GRAIN */
    float (*total)(const float *x, int n);
    /* n runs of nb numbers from x (a stride apart) become one; y not NULL: only those where y > 0, the others are 0 */
    void (*pack)(float *out, const float *x, const float *y, int n, size_t stride, size_t nb);
};
const struct conv_level *conv_level(void);

#endif
