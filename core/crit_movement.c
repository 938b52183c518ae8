/* core/crit_movement.c: which way training moves a weight (movement pruning: Sanh, Wolf & Rush 2020): minus the sum over its steps of w dL/dw. What
 * grows away from 0 stays, however small it is yet; what shrinks towards 0 goes, however large. The sum is the trainer's to make (train.h), over
 * all steps of training and retraining so far, as long as a weight is not masked.
 *
 * Where it is 0, as before any step and for inputs that are always 0, the larger weight stays: by so little that any movement counts more. */
#include "core/criterion.h"

#define HARDLY 1e-30f

static void movement_score(const struct crit_in *in, float *score)
{
    for (size_t i = 0; i < in->w->len; i++)
        score[i] = in->moved && in->moved[i] != 0 ? in->moved[i] : HARDLY * fabsf(in->w->x[i]);
}

const struct criterion crit_movement = {
    .plug = { "movement", "Keeps the weights that training moves away from 0: minus the sum of w g over its steps (movement pruning: Sanh, Wolf & Rush 2020).",
              NULL, 0 },
    .moved = true, .score = movement_score
};
