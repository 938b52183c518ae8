/* core/fold.h: batch norm folded into the kernel before it, of a dense layer or a convolution: a scale of its rows and a shift of its bias. */
#ifndef CORE_FOLD_H
#define CORE_FOLD_H

#include "core/model.h"

/* Folds every batch norm whose input is such a layer without an activation, which nobody else reads, and takes it out of net and architecture.
 * *n_folded: how many; 0: the model is as it was. On error too. Masks stay; all runs in floats, dense. */
MUST enum err_code fold_batch_norm(struct model *m, int *n_folded, struct err *e);

#endif
