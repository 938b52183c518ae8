/* tests/bench/bench.h: what benchmarks share: the clock, errors that end it, numbers to work on, OpenBLAS' product as a peer. */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <cblas.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/mem.h"
#include "core/net.h"
#include "core/rng.h"

static inline double seconds_of(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static inline double now(void) { return seconds_of(CLOCK_MONOTONIC); }

static inline void must(enum err_code rc, const struct err *e)
{
    if (rc != ERR_OK) {
        fprintf(stderr, "%s: %s %s\n", program_invocation_short_name, e->at, e->msg);
        exit(1);
    }
}

/* As gemm (core/gemm.h). */
static inline void blas(bool ta, bool tb, int m, int n, int k, const float *a, int lda, const float *b, int ldb, bool add, float *c, int ldc)
{
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, k, 1, a, lda, b, ldb, add, c, ldc);
}

/* For qsort: doubles, ascending. */
static inline int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Numbers around 0, the same in every run; they repeat, so that large ones are quickly made. To be freed. */
static inline float *filled(size_t n, uint32_t stream)
{
    const struct rng r = { 1, RNG_TEST, stream, 0 };
    float *x = mem_vector(n), some[64];

    if (!x)
        exit(1);
    for (size_t i = 0; i < 64; i++)
        some[i] = (float)rng_unit(&r, i) - 0.5f;
    for (size_t i = 0; i < n; i++)
        x[i] = some[i % 61];
    return x;
}

/* Masks a share of every kernel by chance, and packs the net for batches of n samples. */
static inline void mask_by_chance(struct net *net, double sparsity, int n)
{
    struct err e = { 0 };

    for (int i = 0; i < net->n_weights && sparsity > 0; i++) {
        struct weight *w = &net->weight[i];
        const struct rng r = { 1, RNG_TEST, (uint32_t)i, 0 };

        if (!w->info.prunable)
            continue;
        w->mask = mem_alloc(w->len);
        for (size_t k = 0; w->mask && k < w->len; k++)
            w->mask[k] = rng_unit(&r, k) >= sparsity;
    }
    net_apply_masks(net);
    must(net_pack(net, n, &e), &e);
}

#endif
