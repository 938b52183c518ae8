/* core/conv.h: convolutions of images [c][h][w][n] with kernels [o][c/groups][kh][kw]; one-dimensional ones are of height 1.
 *
 * Direct: there is no matrix of gathered inputs. The rows that a row of the output needs are packed into the thread's scratch for some samples, as
 * [row][channel][phase][x][sample]: zero padding included, and a stride's phases apart, so that for each tap (channel, i, j) of the kernel the
 * inputs of a whole row of the output are one straight run of (x, sample). A micro-kernel then sees nothing but a list of where each tap's run begins. Padding,
 * strides, dilation and odd batches end at the packing. The input gradient is the same product: dy packed, each phase of dx with the
 * taps that meet it. The weight gradient is dot products of runs of dy with runs of x. */
#ifndef CORE_CONV_H
#define CORE_CONV_H

#include "core/op.h"

struct conv {
    int c, h, w;   /* input */
    int o, oh, ow; /* output */
    int kh, kw;    /* kernel */
    int sh, sw, dh, dw; /* strides, dilation */
    int top, left; /* zeros before the image */
    int groups;
};
enum { CONV_MAX_SPAN = 65536 }; /* (kh - 1) * dh + 1, and likewise kw, sh, sw: more is not packed */

/* The geometry of a node that takes `in`, which its op's shape() found no fault in; false: the op is no convolution. */
bool conv_geometry(struct conv *g, const struct op *op, const void *conf, const struct shape *in);
/* Floats of op_plan: state whatever the batch, and for each sample; scratch of each thread. */
size_t conv_state_len(const struct conv *g);
size_t conv_state_len_per_sample(const struct conv *g);
size_t conv_scratch_len(const struct conv *g);
/* y = clamp(factor * w * x + bias + more); weights 0 and 1 of the call are kernel and bias (NULL: none). The kernel may be sparse or in integers: then
 * there are no factor and no more. */
void conv_forward(const struct conv *g, const struct op_call *c);
void conv_input_gradient(const struct conv *g, const struct op_call *c); /* dx[0] is wanted */
void conv_weight_gradient(const struct conv *g, const struct op_call *c);

/* Levels of vector code that this processor has, best first: for tests and reports. */
int conv_n_levels(void);
const char *conv_level_name(int level);
/* Tests: leaves out the best levels. */
extern int conv_skip_levels;

#endif
