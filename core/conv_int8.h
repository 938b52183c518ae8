/* core/conv_int8.h: what conv_int8.c wants computed in vectors (conv_int8_kernels.c): sums of integer products along a run of words. */
#ifndef CORE_CONV_INT8_H
#define CORE_CONV_INT8_H

#include "core/conv_kernels.h"
#include "core/int8_kernels.h"

/* Output q has the sum over words of w[word][q] . in[tap[word] + ..], four products of bytes each, for a run of n words, a multiple of CONV_GRAIN. */
struct conv_words {
    const uint32_t *in, *tap; /* tap: where each word's run begins */
    int n;
    /* the sums become numbers */
    const struct int8_row *row; /* of each output */
    const float *s;             /* [n] scales */
    const int32_t *zero;        /* or NULL: rows' starts say it */
    float *out;
    const size_t *at;           /* [n / CONV_GRAIN] where each piece of the run goes */
    /* or, out NULL, are left as they are */
    int32_t *sum;
    size_t stride;            /* of out or sum, from one output to the next */
    /* all words of a block of outputs: w[n_words][n_out] */
    const int32_t *w;
    int n_words, n_out;
    /* or one output's, without those that are zero: w[start .. end - 1], of the words across[..] */
    const uint32_t *across;
    uint32_t start, end;
};
struct conv_words_level {
    void (*block)(const struct conv_words *p);
    void (*line)(const struct conv_words *p);
};
const struct conv_words_level *conv_words_level(void);

#endif
