/* core/augment.h: images changed at random while they are gathered for training: flipped, shifted with zeros at the edges (which is padding and
 * cropping), a square cut out (DeVries and Taylor 2017, "Improved regularization of convolutional neural networks with cutout").
 *
 * What happens to a sample is a pure function of (seed, phase, epoch, sample): the same for any number of threads, and after a restart. It happens
 * after scaling, so that the zeros are zeros to the net. */
#ifndef CORE_AUGMENT_H
#define CORE_AUGMENT_H

#include "core/params.h"
#include "core/tensor.h"

enum augment_flip { FLIP_NONE, FLIP_HORIZONTAL, FLIP_VERTICAL, FLIP_BOTH };
struct augment_conf {
    int flip;       /* enum augment_flip: each of its directions with probability 1/2 */
    int64_t shift;  /* pixels: -shift .. shift in either direction; 0: none */
    int64_t cutout; /* side of the square, whose centre may be any pixel; 0: none */
};
extern const struct param augment_params[];

struct augment {
    struct augment_conf conf;
    int planes, h, w, c; /* of a sample, (h, w, c) or, planes of the channels, (planes, h, w), c 1; h 0: nothing is changed */
    uint64_t seed, epoch;
    uint32_t phase;
};
/* For samples of this shape, in a data set and as the model takes them: one of the two must be (h, w) or (h, w, c), or (c, h, w) where channels_first says
 * so of it. ERR_INVALID with a pointer below the options. seed, epoch and phase are the caller's to set. */
struct augment_samples { struct shape shape; bool channels_first; };
MUST enum err_code augment_bind(struct augment *out, const struct augment_conf *conf, const struct augment_samples *data,
                                const struct augment_samples *input, struct err *e);

/* What becomes of one sample: out(y, x) = in(y + dy, x + dx), of an image flipped before; 0 outside of it and in the square. */
struct augment_pick {
    bool flip_x, flip_y;
    int dx, dy, cut_x, cut_y; /* the square begins there, perhaps outside */
};
struct augment_pick augment_pick(const struct augment *a, uint32_t sample);
/* Features f .. f+n-1 of the changed sample, scaled; x, center and scale are the whole sample's. */
void augment_u8(float *to, const struct augment *a, struct augment_pick p, int f, int n, const uint8_t *x, const float *center, const float *scale);
void augment_f32(float *to, const struct augment *a, struct augment_pick p, int f, int n, const float *x, const float *center, const float *scale);

#endif
