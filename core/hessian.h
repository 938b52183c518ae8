/* core/hessian.h: the Hessian of the loss by the kernels, times a direction (Pearlmutter 1994, "Fast exact multiplication by the Hessian"): the
 * derivative, along the direction, of all that forward and backward compute. Exact, where the difference of two gradients would see every
 * activation that passes its kink; only the loss' own second derivative, smooth, is a difference. */
#ifndef CORE_HESSIAN_H
#define CORE_HESSIAN_H

#include "core/probe.h"

struct hessian;
/* direction[w], product[w]: as long as net->weight[w] for every prunable weight; both must outlive it. net runs dense. */
MUST enum err_code hessian_new(struct hessian **out, const struct crit_net *in, int max_n, double temperature, float *const *direction, float *const *product,
                               struct err *e);
void hessian_free(struct hessian *h);
/* Adds to product what the samples of a batch give, just run forward and backward with this temperature: of the sum of their losses. */
void hessian_add(struct hessian *h, const struct probe_batch *b);
/* Bytes, at most. */
uint64_t hessian_memory(const struct net *net, int max_n);

#endif
