/* core/patch.h: what a row of a kernel reads: for each sample, and for each place of a convolution's output, one number per column: a patch of
 * the row's group of channels, zeros beyond the image. A dense layer is a convolution that reads one place at a time; of flat samples that
 * is all of the input. */
#ifndef CORE_PATCH_H
#define CORE_PATCH_H

#include "core/conv.h"
#include "core/net.h"

/* Of kernel w. */
struct conv patch_shape(const struct net *net, int w);
static inline int patch_taps(const struct conv *g) { return g->kh * g->kw; }
/* Columns are in the order of the kernel: channel of the group, row, column. */
static inline int patch_columns(const struct conv *g) { return g->c / g->groups * patch_taps(g); }
static inline int patch_places(const struct conv *g) { return g->oh * g->ow; }
/* The input (c,h,w) that column j of a group has at a place; -1: zero, beyond the image. */
int64_t patch_source(const struct conv *g, int group, int j, int place);
/* Sum over all places of what each column of a group has, of any numbers at (c,h,w). */
void patch_sums(const struct conv *g, int group, const double *input, double *sum);

/* patch_squares.c: adds to sum, for every number of the kernel, the squares of its gradient by each of n samples: x (c,h,w,n), dy (o,oh,ow,n). room: as many
 * floats as patch_squares_len says, 64-byte aligned. */
void patch_squares(const struct conv *g, const float *x, const float *dy, int n, float *sum, float *room, struct team *team);
size_t patch_squares_len(const struct conv *g);

#endif
