/* Dense products against plain loops in double, over shapes, transposes, and every level of vector code that this processor has; and that a
 * product cut into parts has the same bytes. */
#include <math.h>
#include <string.h>

#include "core/gemm.h"
#include "core/gemm_kernels.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/team.h"
#include "tests/core/draw.h"
#include "tests/suite.h"

static const int size[] = { 1, 2, 5, 6, 13, 31, 48, 65, 130 };
static const int depth[] = { 1, 3, 16, 37, 130, 700 };
#define N(a) ((int)(sizeof(a) / sizeof(a)[0]))
#define SURE(holds, ...) do { if (!(holds)) ck_abort_msg(__VA_ARGS__); } while (0)
enum { GAP = 3 /* numbers between two rows, not to be touched */ };

struct shape3 { int m, n, k; bool ta, tb, add; };

static void product(int level, const struct shape3 *s, const float *a, const float *b, float *c)
{
    size_t lda = (size_t)(s->ta ? s->m : s->k) + GAP, ldb = (size_t)(s->tb ? s->k : s->n) + GAP;

    gemm_level(level, &(struct gemm_product){ .m = s->m, .n = s->n, .k = s->k, .a = a, .a_row = s->ta ? 1 : lda, .a_step = s->ta ? lda : 1, .b = b,
                                              .ldb = ldb, .turned = s->tb, .add = s->add, .c = c, .ldc = (size_t)s->n + GAP });
}

static void check(const struct shape3 *s, const float *a, const float *b, const float *before, const float *c, const char *what)
{
    int lda = (s->ta ? s->m : s->k) + GAP, ldb = (s->tb ? s->k : s->n) + GAP, ldc = s->n + GAP;

    for (int i = 0; i < s->m; i++) {
        for (int j = 0; j < s->n; j++) {
            double sum = s->add ? (double)before[i * ldc + j] : 0, most = fabs(sum);

            for (int k = 0; k < s->k; k++) {
                double x = (double)a[s->ta ? k * lda + i : i * lda + k] * (double)b[s->tb ? j * ldb + k : k * ldb + j];

                sum += x;
                most += fabs(x);
            }
            SURE(fabs((double)c[i * ldc + j] - sum) <= 1e-6 * most + 1e-30, "%s, %dx%dx%d: (%d, %d)", what, s->m, s->n, s->k, i, j);
        }
        SURE(memcmp(c + i * ldc + s->n, before + i * ldc + s->n, GAP * sizeof *c) == 0, "%s: behind row %d", what, i);
    }
}

START_TEST(products_are_right)
{
    const bool ta = _i & 1, tb = _i & 2, add = _i & 4;
    const size_t most = (size_t)(130 + GAP) * (700 + GAP);
    float *a = draw(most, 1), *b = draw(most, 2), *before = draw(most, 3), *c = mem_vector(most);

    for (int m = 0; m < N(size); m++)
        for (int n = 0; n < N(size); n++) {
            const struct shape3 s = { size[m], size[n], depth[(m * 5 + n) % N(depth)], ta, tb, add };

            for (int level = 0; level < gemm_n_levels(); level++) {
                memcpy(c, before, (size_t)s.m * (size_t)(s.n + GAP) * sizeof *c);
                product(level, &s, a, b, c);
                check(&s, a, b, before, c, gemm_level_name(level));
            }
        }
    mem_free(a);
    mem_free(b);
    mem_free(before);
    mem_free(c);
}
END_TEST

/* Rows and columns may be cut anywhere. */
START_TEST(parts_have_the_same_bytes)
{
    const struct shape3 s = { 61, 117, 300, _i & 1, _i & 2, false };
    const int lda = (s.ta ? s.m : s.k) + GAP, ldb = (s.tb ? s.k : s.n) + GAP, ldc = s.n + GAP, half = 23;
    float *a = draw(303 * 303, 1), *b = draw(303 * 303, 2), *c = mem_vector(61 * 120), *parts = mem_vector(61 * 120);

    gemm(s.ta, s.tb, s.m, s.n, s.k, a, lda, b, ldb, false, c, ldc);
    for (int row = 0; row < s.m; row += half)
        for (int col = 0; col < s.n; col += half)
            gemm(s.ta, s.tb, s.m - row < half ? s.m - row : half, s.n - col < half ? s.n - col : half, s.k, a + row * (s.ta ? 1 : lda), lda,
                 b + col * (s.tb ? ldb : 1), ldb, false, parts + row * ldc + col, ldc);
    for (int i = 0; i < s.m; i++)
        ck_assert(memcmp(c + i * ldc, parts + i * ldc, (size_t)s.n * sizeof *c) == 0);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(parts);
}
END_TEST

START_TEST(no_terms_make_zero)
{
    float x[4] = { 1, 2, 3, 4 };

    gemm(false, false, 2, 2, 0, x, 1, x, 2, true, x, 2);
    ck_assert(x[0] == 1 && x[3] == 4);
    gemm(false, false, 2, 2, 0, x, 1, x, 2, false, x, 2);
    ck_assert(x[0] == 0 && x[3] == 0);
}
END_TEST

static void halve_the_least(void *ctx, int tile)
{
    volatile float least = 1.17549435e-38f; /* that is normal */

    ((float *)ctx)[tile] = least * 0.5f;
}

/* Numbers that a processor takes a hundred times as long for count as 0, for every thread of a job. */
START_TEST(the_smallest_numbers_are_zero)
{
    enum { TILES = 64 };
    float half[TILES];
    struct team *team;
    struct err e;

    gemm_init();
    ck_assert(team_new(&team, 4, &e) == ERR_OK);
    team_for(team, TILES, halve_the_least, half);
    team_free(team);
    for (int i = 0; i < TILES; i++)
        SURE(half[i] == 0, "tile %d: %g", i, (double)half[i]);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "gemm");

    tcase_add_loop_test(tc, products_are_right, 0, 8);
    tcase_add_loop_test(tc, parts_have_the_same_bytes, 0, 4);
    tcase_add_test(tc, no_terms_make_zero);
    tcase_add_test(tc, the_smallest_numbers_are_zero);
}
SUITE_MAIN("gemm", cases)
