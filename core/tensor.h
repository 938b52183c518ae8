/* core/tensor.h: shapes and arrays.
 *
 * Row-major. Activations are feature-major, batch-minor: [features...][n], images [c][h][w][n]; the batch is the contiguous
 * dimension, so every inner loop runs over samples and a pruned weight skips n contiguous multiply-adds. Weights are
 * [out][in] and [out][in][kh][kw]. Files and other frameworks put the batch first (and Keras the input first): readers and
 * writers transpose, nothing inside does. A shape here never includes the batch. */
#ifndef CORE_TENSOR_H
#define CORE_TENSOR_H

#include <jansson.h>

#include "core/err.h"

enum { SHAPE_MAX = 8 };
/* At most 2^31 - 1 numbers in one tensor: indices fit an int, offsets are computed in size_t. */
#define SHAPE_MAX_LEN ((size_t)2147483647)

struct shape {
    int n_d; /* 0 (a scalar) .. SHAPE_MAX */
    int d[SHAPE_MAX];
};

struct tensor {
    struct shape shape;
    float *x; /* shape_len(&shape) floats */
};

/* Product of the dimensions; the shape must have passed shape_check. */
size_t shape_len(const struct shape *s);
/* ERR_INVALID unless every dimension is >= 1, the rank <= SHAPE_MAX and the product <= SHAPE_MAX_LEN. */
MUST enum err_code shape_check(const struct shape *s, struct err *e);
bool shape_equal(const struct shape *a, const struct shape *b);
/* "(784, 300)"; buf of at least 96 bytes holds any shape. Returns buf. */
const char *shape_text(const struct shape *s, char *buf, size_t n);
/* [784, 300]; null of no shape. New reference; NULL when memory is short. */
json_t *shape_json(const struct shape *s);

#endif
