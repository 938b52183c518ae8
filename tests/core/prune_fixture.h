/* tests/core/prune_fixture.h: nets made by hand, of kernels and biases alone: pruning knows only a net's weights. */
#ifndef TESTS_CORE_PRUNE_FIXTURE_H
#define TESTS_CORE_PRUNE_FIXTURE_H

#include "core/prune.h"

#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "tests/core/prune_conf.h"
#include "tests/suite.h"

enum { MAX_LAYERS = 8 };
struct bench {
    struct net net;
    struct node node[MAX_LAYERS];
    struct weight weight[2 * MAX_LAYERS]; /* a kernel and a bias each */
};

static inline void bench_shape(struct bench *b, int l, struct shape shape)
{
    struct weight *kernel = &b->weight[2 * l];

    mem_free(kernel->x);
    kernel->info.shape = shape;
    kernel->len = shape_len(&shape);
    kernel->x = mem_vector(kernel->len);
}

static inline void bench_init(struct bench *b, int n_layers, const int *len)
{
    memset(b, 0, sizeof *b);
    b->net = (struct net){ .n_nodes = n_layers, .n_weights = 2 * n_layers, .node = b->node, .weight = b->weight };
    for (int l = 0; l < n_layers; l++) {
        struct weight *kernel = &b->weight[2 * l], *bias = kernel + 1;

        snprintf(b->node[l].layer, sizeof b->node[l].layer, "dense_%d", l);
        snprintf(kernel->name, sizeof kernel->name, "dense_%d/kernel", l);
        *bias = (struct weight){ .name = "bias", .node = l, .len = 3, .x = mem_vector(3) };
        kernel->node = l;
        kernel->info.prunable = true;
        bench_shape(b, l, (struct shape){ 2, { 1, len[l] } });
    }
}

static inline void bench_clear(struct bench *b)
{
    for (int i = 0; i < b->net.n_weights; i++) {
        mem_free(b->weight[i].x);
        mem_free(b->weight[i].mask);
    }
}

/* levels 0: normal numbers; else that many different values, zero among them. */
static inline void fill(struct bench *b, uint64_t seed, int levels)
{
    for (int i = 0; i < b->net.n_weights; i++)
        for (size_t k = 0; k < b->weight[i].len; k++) {
            struct rng r = { seed, RNG_TEST, (uint32_t)i, 0 };

            b->weight[i].x[k] = levels ? (float)((int)rng_below(&r, k, (uint64_t)levels) - levels / 2) : (float)rng_normal(&r, k);
        }
}

static inline uint64_t masked(const struct bench *b, int l)
{
    const struct weight *w = &b->weight[2 * l];
    uint64_t n = 0;
    bool zero = true; /* an assertion in the loop would cost a system call each time */

    ck_assert_ptr_null(w[1].mask);
    for (size_t k = 0; w->mask && k < w->len; k++) {
        zero = zero && (w->mask[k] || w->x[k] == 0);
        n += !w->mask[k];
    }
    ck_assert(zero);
    return n;
}

static inline uint64_t masked_all(const struct bench *b)
{
    uint64_t n = 0;

    for (int l = 0; l < b->net.n_nodes; l++)
        n += masked(b, l);
    return n;
}

#endif
