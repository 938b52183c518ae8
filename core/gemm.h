/* core/gemm.h: dense products. The only file pair that knows OpenBLAS.
 *
 * All run on the calling thread: the engine splits the work itself. In double (and one column in float) the work is OpenBLAS', and one product
 * computed whole or in parts gives different last bits: so callers cut by shape alone (tile_rows), never by the number of threads. */
#ifndef CORE_GEMM_H
#define CORE_GEMM_H

#include <stdbool.h>

/* c (m,n) = op(a) (m,k) * op(b) (k,n), or c += it; row-major, ld = floats from one row to the next in memory; ta, tb: the stored matrix is the
 * transpose of op(). */
void gemm(bool ta, bool tb, int m, int n, int k, const float *a, int lda, const float *b, int ldb, bool add, float *c, int ldc);

/* The same in double, with a factor: c = alpha * op(a) * op(b) + beta * c. */
void gemm_double(bool ta, bool tb, int m, int n, int k, double alpha, const double *a, int lda, const double *b, int ldb, double beta, double *c,
                 int ldc);
/* a (n,n): the upper triangle of a symmetric matrix becomes that of U, a = U'U. false: it is not positive definite; the triangle is spoilt. What is
 * below the diagonal is neither read nor written. */
bool cholesky(int n, double *a);
/* The triangle of U becomes that of the inverse of U'U. */
bool cholesky_inverse(int n, double *a);
/* b (n) becomes x, U'U x = b. */
void cholesky_solve(int n, const double *u, double *b);

/* Rows of one tile when m rows are cut into tiles of at most `most`: tiles of equal size, a multiple of 4 but for the last. */
int tile_rows(int m, int most);

/* OpenBLAS chooses its kernels while it is loaded, and takes those of 2004 on a processor that is younger than itself: then the process begins anew,
 * once, with a better choice named in its environment. First thing in main; returns when all is well, or cannot be made so. */
void gemm_choose_core(char **argv);
/* Once, before the first product and before threads are made. From here on, in those threads too, floats below 1.2e-38 count as 0: processors take a
 * hundred times as long for them, and the gradients of a net that has learnt its samples by heart are full of them. */
void gemm_init(void);
/* "avx512, OpenBLAS 0.3.21 ... SkylakeX": for the log and the reports. */
const char *gemm_describe(void);

#endif
