/* core/winograd.h: 3x3 convolutions (stride 1, dilation 1, one group, zero padding of 0 to 2 on each side) by Winograd's F(2x2,3x3).
 *
 * A tile of 4x4 inputs makes 2x2 outputs with 16 multiplications for each pair of channels where the plain sum takes 36 (Lavin and Gray,
 * "Fast Algorithms for Convolutional Neural Networks", 2016). Values are [channel][row][column][n], n contiguous; kernels w [o][c][3][3].
 * Results differ from the plain sum by rounding only (some 1e-6 of the sum of the terms' sizes), and are the same bytes for any team. */
#ifndef CORE_WINOGRAD_H
#define CORE_WINOGRAD_H

#include "core/team.h"

struct winograd_shape {
    int c, o;    /* channels in and out */
    int h, w, n; /* of x; y has h + pad_top + pad_bottom - 2 rows, columns alike, at least one */
    int pad_top, pad_left, pad_bottom, pad_right;
};

/* Memory of a call, given by the caller; contents do not matter before and mean nothing after. */
struct winograd_room {
    float *shared;         /* winograd_shared_len floats */
    float *scratch;        /* thread t's, t = team_number(), begins at scratch + t * scratch_stride; on a 64-byte boundary, else slower */
    size_t scratch_stride; /* at least winograd_scratch_len, a multiple of 16 */
};
size_t winograd_shared_len(const struct winograd_shape *s);  /* floats; whatever n */
size_t winograd_scratch_len(const struct winograd_shape *s); /* floats of each thread, a multiple of 16; whatever n */
enum winograd_product { WINOGRAD_FORWARD, WINOGRAD_INPUT, WINOGRAD_WEIGHT };
/* Whether a product is done sooner than by the direct kernels. Where it is for some n, it is for multiples of 128. */
bool winograd_pays(const struct winograd_shape *s, enum winograd_product product);

/* What is done to a product: times factor [o], plus bias [o], plus more [o][oh][ow][n], each of which may be NULL; clamp: then max(y, 0). */
struct winograd_behind {
    const float *factor, *bias, *more;
    bool clamp;
};
/* y [o][oh][ow][n] = conv(x, w), and what is behind. */
void winograd_forward(const struct winograd_shape *s, const float *x, const float *w, const struct winograd_behind *behind, float *y,
                      const struct winograd_room *room, struct team *team);
/* dx [c][h][w][n] is overwritten. y (may be NULL): dy counts only where y > 0. */
void winograd_input_gradient(const struct winograd_shape *s, const float *dy, const float *y, const float *w, float *dx,
                             const struct winograd_room *room, struct team *team);
/* dw [o][c][3][3] and db [o] (NULL: not wanted) are overwritten, or added to where accumulate. y (may be NULL): dy counts only where y > 0. */
void winograd_weight_gradient(const struct winograd_shape *s, const float *x, const float *dy, const float *y, float *dw, float *db,
                              bool accumulate, const struct winograd_room *room, struct team *team);

/* Levels of vector code that this processor has, best first: for tests and reports. */
int winograd_n_levels(void);
const char *winograd_level_name(int level);
/* Tests: leaves out the best levels. The lengths above belong to one level. */
extern int winograd_skip_levels;

#endif
