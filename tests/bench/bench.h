/* tests/bench/bench.h: what benchmarks share: the clock, errors that end it, numbers to work on, OpenBLAS' product as a peer. */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <cblas.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/data.h"
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

/* Samples of random bytes, scaled to about -2 .. 2, of random classes: a train split. */
static inline struct dataset *random_data(const struct shape *shape, int n_classes)
{
    enum { SAMPLES = 2048 };
    struct dataset *d = mem_zalloc(1, sizeof *d);
    const size_t n = shape_len(shape);
    uint8_t *x = mem_alloc(n * SAMPLES);
    int32_t *label = mem_alloc(SAMPLES * sizeof *label);
    const struct rng r = { 1, RNG_TEST, 0, 0 };

    *d = (struct dataset){ .shape = *shape, .n_features = (int)n, .n_classes = n_classes, .center = mem_vector(n), .scale = mem_vector(n) };
    for (size_t i = 0; i < n; i++)
        d->scale[i] = 1 / 64.0F, d->center[i] = 127;
    for (size_t i = 0; i < n * SAMPLES; i++)
        x[i] = (uint8_t)rng_u32(&r, i);
    for (int i = 0; i < SAMPLES; i++)
        label[i] = (int32_t)(rng_u32(&r, (uint64_t)i + 7) % (uint32_t)n_classes);
    d->split[DATA_TRAIN] = (struct data_split){ .n = SAMPLES, .is_u8 = true, .x = x, .label = label };
    return d;
}

static inline void random_data_free(struct dataset *d)
{
    mem_free((void *)(uintptr_t)d->split[DATA_TRAIN].x);
    mem_free((void *)(uintptr_t)d->split[DATA_TRAIN].label);
    mem_free(d->center);
    mem_free(d->scale);
    mem_free(d);
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
