/* core/gemm.c: see gemm.h. The only file that includes OpenBLAS. */
#include "core/gemm.h"

#include <cblas.h>
#include <f77blas.h>
#include <stdio.h>

static char description[256];

void gemm(bool ta, bool tb, int m, int n, int k, const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc)
{
    if (n == 1 && ldc == 1 && (tb || ldb == 1)) { /* much faster than a product that first repacks a */
        cblas_sgemv(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, ta ? k : m, ta ? m : k, 1, a, lda, b, 1, beta, c, 1);
        return;
    }
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
}

void gemm_double(bool ta, bool tb, int m, int n, int k, double alpha, const double *a, int lda, const double *b, int ldb, double beta, double *c,
                 int ldc)
{
    cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

/* LAPACK is column-major: its lower triangle is our upper one, and its L with a = LL' our U. */
bool cholesky(int n, double *a)
{
    blasint size = n, info = 0;

    BLASFUNC(dpotrf)((char[]){ 'L', 0 }, &size, a, &size, &info);
    return info == 0;
}

bool cholesky_inverse(int n, double *a)
{
    blasint size = n, info = 0;

    BLASFUNC(dpotri)((char[]){ 'L', 0 }, &size, a, &size, &info);
    return info == 0;
}

int tile_rows(int m, int most)
{
    int n_tiles = (m + most - 1) / most;
    int rows = (m + n_tiles - 1) / n_tiles;

    return (rows + 3) / 4 * 4;
}

void gemm_init(void)
{
    openblas_set_num_threads(1);
    snprintf(description, sizeof description, "%s", openblas_get_config());
}

const char *gemm_describe(void)
{
    return description;
}
