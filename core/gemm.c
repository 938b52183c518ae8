/* core/gemm.c: see gemm.h. The only file that includes OpenBLAS.
 *
 * Products in float are our own (gemm_kernels.h): a layer's shapes are small, and OpenBLAS copies both factors before it multiplies. */
#include "core/gemm.h"

#include <cblas.h>
#include <f77blas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/gemm_kernels.h"
#include "core/simd.h"

static char description[256];

void gemm(bool ta, bool tb, int m, int n, int k, const float *a, int lda, const float *b, int ldb, bool add, float *c, int ldc)
{
    if (n == 1 && ldc == 1 && (tb || ldb == 1)) { /* limited by memory: vectors of the batch would be mostly empty */
        cblas_sgemv(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, ta ? k : m, ta ? m : k, 1, a, lda, b, 1, add, c, 1);
        return;
    }
    gemm_level(0, &(struct gemm_product){ .m = m, .n = n, .k = k, .a = a, .a_row = ta ? 1 : (size_t)lda, .a_step = ta ? (size_t)lda : 1, .b = b,
                                          .ldb = (size_t)ldb, .turned = tb, .add = add, .c = c, .ldc = (size_t)ldc });
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

void cholesky_solve(int n, const double *u, double *b)
{
    cblas_dtrsv(CblasRowMajor, CblasUpper, CblasTrans, CblasNonUnit, n, u, n, b, 1);
    cblas_dtrsv(CblasRowMajor, CblasUpper, CblasNoTrans, CblasNonUnit, n, u, n, b, 1);
}

int tile_rows(int m, int most)
{
    int n_tiles = (m + most - 1) / most;
    int rows = (m + n_tiles - 1) / n_tiles;

    return (rows + 3) / 4 * 4;
}

void gemm_choose_core(char **argv)
{
    static const char *const cores[] = { "SkylakeX", "Haswell" }; /* of levels avx512 and avx2 */
    const int level = simd_best_level();

    if (strcmp(openblas_get_corename(), "Prescott") == 0 && level < (int)(sizeof cores / sizeof cores[0]) && !getenv("OPENBLAS_CORETYPE") &&
        setenv("OPENBLAS_CORETYPE", cores[level], 1) == 0)
        execv("/proc/self/exe", argv);
}

void gemm_init(void)
{
    simd_flush_denormals();
    openblas_set_num_threads(1);
    snprintf(description, sizeof description, "%s, %s", gemm_level_name(0), openblas_get_config());
}

const char *gemm_describe(void)
{
    return description;
}
