/* core/gemm_kernels.h: dense products in vectors of 8 or 16 floats, for gemm.c.
 *
 * c (m,n) = a b, or c += a b. Each number of c is one chain of multiply-adds in the order of k: how a caller cuts m and n changes no byte. */
#ifndef CORE_GEMM_KERNELS_H
#define CORE_GEMM_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

struct gemm_product {
    int m, n, k;
    const float *a;
    size_t a_row, a_step; /* from one row, and from one of the k numbers of a row, to the next */
    const float *b;       /* [k][n], or [n][k] when turned */
    size_t ldb;
    bool turned, add;
    float *c;
    size_t ldc;
};

/* Levels of vector code that this processor has, best first; 0: none. */
int gemm_n_levels(void);
const char *gemm_level_name(int level);
void gemm_level(int level, const struct gemm_product *p);

#endif
