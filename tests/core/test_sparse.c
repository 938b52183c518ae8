/* Sparse kernels: the structure of a mask, and the three products against plain loops in double, over shapes, densities, batches and every
 * level of vector code that this processor has. */
#include "core/sparse.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "tests/core/draw.h"
#include "tests/suite.h"

static const int shape[][2] = { { 1, 1 }, { 10, 100 }, { 7, 33 }, { 100, 30 }, { 2, 1100 }, { 1100, 2 } }; /* rows, columns */
static const double density[] = { 0, 0.01, 0.1, 0.5, 1 };
static const int batch[] = { 1, 2, 7, 16, 100, 128, 130, 331 };
#define N(a) ((int)(sizeof(a) / sizeof(a)[0]))
/* libcheck's own asserts make a system call each. */
#define SURE(holds, ...) do { if (!(holds)) ck_abort_msg(__VA_ARGS__); } while (0)

/* ---- a layer, dense and sparse ---- */

struct layer {
    int rows, cols, n;
    uint8_t *mask;
    float *w, *bias, *x, *y, *dy, *dx, *dw;
    struct sparse *s;
};

static uint8_t *draw_mask(int rows, int cols, double d)
{
    const struct rng r = { 5, RNG_TEST, 99, 0 };
    uint8_t *mask = mem_alloc((size_t)rows * (size_t)cols);

    for (size_t i = 0; i < (size_t)rows * (size_t)cols; i++)
        mask[i] = rng_unit(&r, i) < d;
    if (rows > 5)
        memset(mask + 4 * (size_t)cols, 0, (size_t)cols); /* an empty row and an empty column at any density */
    for (int i = 0; i < rows && cols > 5; i++)
        mask[(size_t)i * (size_t)cols + 3] = 0;
    return mask;
}

static void layer_init(struct layer *l, int rows, int cols, double d, int n)
{
    size_t len = (size_t)rows * (size_t)cols, in = (size_t)cols * (size_t)n, out = (size_t)rows * (size_t)n;

    *l = (struct layer){ rows, cols, n, draw_mask(rows, cols, d), draw(len, 1), draw((size_t)rows, 2), draw(in, 3), draw(out, 4),
                         draw(out, 5), draw(in, 6), draw(len, 7), NULL };
    for (size_t i = 0; i < len; i++)
        l->w[i] *= l->mask[i];
    ck_assert_int_eq(sparse_new(&l->s, l->mask, rows, cols, SPARSE_BY_COL, NULL), ERR_OK);
    sparse_gather(l->s, l->w);
}

static void layer_clear(struct layer *l)
{
    float *a[] = { l->w, l->bias, l->x, l->y, l->dy, l->dx, l->dw };

    for (int i = 0; i < N(a); i++)
        mem_free(a[i]);
    mem_free(l->mask);
    sparse_free(l->s);
}

static void gradients(const struct layer *l, bool input, bool accumulate)
{
    const struct sparse_order *o = sparse_leading(l->s);

    for (int b = 0; b < o->n_blocks; b++)
        for (int t = 0; t < o->n_tiles; t++)
            sparse_gradients(l->s, b, t, l->x, l->dy, input ? l->dx : NULL, l->dw, l->n, accumulate);
}

/* ---- structure ---- */

static void check_order(const struct sparse_order *o, int lines, int across, size_t n)
{
    uint32_t k = 0;

    ck_assert_int_eq(o->n_lines, lines);
    ck_assert(o->tile[0] == 0 && o->tile[o->n_tiles] == lines && o->n_tiles >= 1 && o->n_tiles <= SPARSE_MAX_TILES);
    for (int t = 0; t < o->n_tiles; t++)
        ck_assert_int_le(o->tile[t], o->tile[t + 1]);
    for (int l = 0; l < lines; l++) {
        int last = -1;

        for (int b = 0; b < o->n_blocks; b++) {
            SURE(o->start[(size_t)b * (size_t)lines + (size_t)l] == k, "block %d, line %d", b, l);
            for (; k < o->start[((size_t)b + 1) * (size_t)lines + (size_t)l]; k++) {
                SURE((int)o->across[k] > last && (int)o->across[k] < across, "number %u", (unsigned)k);
                last = (int)o->across[k];
            }
        }
    }
    ck_assert_uint_eq(k, n);
}

/* Whichever order leads: value v is the one of its place in the dense kernel, by rows and by columns. */
static void check_lead(const struct layer *l)
{
    for (int lead = SPARSE_BY_ROW; lead <= SPARSE_BY_COL; lead++) {
        struct sparse *s;

        ck_assert_int_eq(sparse_new(&s, l->mask, l->rows, l->cols, (enum sparse_lead)lead, NULL), ERR_OK);
        ck_assert(!s->by_row.number == (lead == SPARSE_BY_ROW) && !s->by_col.number == (lead == SPARSE_BY_COL));
        sparse_gather(s, l->w);
        for (int r = 0; r < l->rows; r++)
            for (size_t k = sparse_first(&s->by_row, r); k < sparse_first(&s->by_row, r + 1); k++)
                SURE(s->value[sparse_number(&s->by_row, k)] == l->w[r * l->cols + (int)s->by_row.across[k]], "row %d", r);
        for (int b = 0; b < s->by_col.n_blocks; b++)
            for (int c = 0; c < l->cols; c++)
                for (uint32_t k = s->by_col.start[b * l->cols + c]; k < s->by_col.start[(b + 1) * l->cols + c]; k++)
                    SURE(s->value[sparse_number(&s->by_col, k)] == l->w[(int)s->by_col.across[k] * l->cols + c], "column %d", c);
        sparse_free(s);
    }
}

START_TEST(structure)
{
    const int rows = shape[_i][0], cols = shape[_i][1];

    for (int d = 0; d < N(density); d++) {
        struct layer l;
        size_t n = 0, len = (size_t)rows * (size_t)cols;
        int empty_rows = 0, empty_cols = 0;
        float *back;

        layer_init(&l, rows, cols, density[d], 1);
        for (int r = 0; r < rows; r++)
            empty_rows += memchr(l.mask + (size_t)r * (size_t)cols, 1, (size_t)cols) == NULL;
        for (int c = 0; c < cols; c++) {
            size_t in_col = 0;

            for (int r = 0; r < rows; r++)
                in_col += l.mask[(size_t)r * (size_t)cols + (size_t)c];
            empty_cols += in_col == 0;
            n += in_col;
        }
        ck_assert_uint_eq(l.s->n, n);
        ck_assert(l.s->empty_rows == empty_rows && l.s->empty_cols == empty_cols);
        check_order(&l.s->by_row, rows, cols, n);
        check_order(&l.s->by_col, cols, rows, n);
        back = mem_vector(len);
        sparse_scatter(l.s, back);
        for (size_t i = 0; i < len; i++)
            SURE(back[i] == l.w[i], "number %zu", i);
        mem_free(back);
        check_lead(&l);
        layer_clear(&l);
    }
}
END_TEST

START_TEST(tiles_share_the_work)
{
    struct layer l;

    layer_init(&l, 300, 784, 0.05, 1);
    ck_assert_int_gt(l.s->by_row.n_tiles, 3);
    for (int t = 0; t < l.s->by_row.n_tiles; t++) {
        const struct sparse_order *o = &l.s->by_row;
        uint32_t end = t + 1 < o->n_tiles ? o->start[o->tile[t + 1]] : (uint32_t)l.s->n, work = end - o->start[o->tile[t]];

        ck_assert(work > l.s->n / (size_t)o->n_tiles / 2 && work < 2 * l.s->n / (size_t)o->n_tiles);
    }
    layer_clear(&l);
}
END_TEST

START_TEST(memory)
{
    uint8_t *mask = draw_mask(40, 50, 0.3);
    bool fired = true;

    for (long k = 1; fired; k++) {
        struct sparse *s;
        enum err_code rc;

        mem_fail_in = k;
        rc = sparse_new(&s, mask, 40, 50, SPARSE_BY_COL, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert(rc == (fired ? ERR_NOMEM : ERR_OK) && (s == NULL) == fired);
        sparse_free(s);
    }
    mem_free(mask);
    ck_assert(sparse_memory(300, 784, 11760) < 300 * 784 * sizeof(float) / 2);
}
END_TEST

/* ---- products ---- */

/* The rounding error of a sum of terms, each in float. */
static bool near(double got, double want, double terms)
{
    return fabs(got - want) <= 1e-6 * terms + 1e-6;
}

static void check_forward(const struct layer *l, bool bias)
{
    for (int r = 0; r < l->rows; r++)
        for (int j = 0; j < l->n; j++) {
            double want = bias ? (double)l->bias[r] : 0, size = fabs(want), got = (double)l->y[r * l->n + j];

            for (int c = 0; c < l->cols; c++) {
                double term = (double)l->w[r * l->cols + c] * (double)l->x[c * l->n + j];

                want += term;
                size += fabs(term);
            }
            SURE(near(got, want, size), "%dx%d n %d: y[%d][%d] %g, not %g", l->rows, l->cols, l->n, r, j, got, want);
        }
}

static void check_input_gradient(const struct layer *l)
{
    for (int c = 0; c < l->cols; c++)
        for (int j = 0; j < l->n; j++) {
            double want = 0, size = 0, got = (double)l->dx[c * l->n + j];

            for (int r = 0; r < l->rows; r++) {
                double term = (double)l->w[r * l->cols + c] * (double)l->dy[r * l->n + j];

                want += term;
                size += fabs(term);
            }
            SURE(near(got, want, size), "%dx%d n %d: dx[%d][%d] %g, not %g", l->rows, l->cols, l->n, c, j, got, want);
        }
}

static void check_weight_gradient(const struct layer *l, double times)
{
    size_t k = 0;

    for (int i = 0; i < l->rows * l->cols; i++) {
        double want = 0, size = 0, got;

        if (!l->mask[i])
            continue;
        for (int j = 0; j < l->n; j++) {
            double term = times * (double)l->dy[i / l->cols * l->n + j] * (double)l->x[i % l->cols * l->n + j];

            want += term;
            size += fabs(term);
        }
        got = (double)l->dw[sparse_number(&l->s->by_row, k++)];
        SURE(near(got, want, size), "%dx%d n %d: dw[%d] %g, not %g", l->rows, l->cols, l->n, i, got, want);
    }
    ck_assert_uint_eq(k, l->s->n);
}

static void check_products(const int rows_cols[2], double d, int n)
{
    struct layer l;
    float beyond;

    layer_init(&l, rows_cols[0], rows_cols[1], d, n);
    beyond = l.s->n < (size_t)l.rows * (size_t)l.cols ? l.dw[l.s->n] : 0;
    sparse_forward(l.s, l.x, l.bias, l.y, n, NULL);
    check_forward(&l, true);
    sparse_forward(l.s, l.x, NULL, l.y, n, NULL);
    check_forward(&l, false);
    gradients(&l, true, false);
    check_input_gradient(&l);
    check_weight_gradient(&l, 1);
    gradients(&l, true, true);
    check_input_gradient(&l);
    check_weight_gradient(&l, 2);
    gradients(&l, false, false);
    check_weight_gradient(&l, 1);
    sparse_free(l.s);
    ck_assert_int_eq(sparse_new(&l.s, l.mask, l.rows, l.cols, SPARSE_BY_ROW, NULL), ERR_OK);
    sparse_gather(l.s, l.w);
    sparse_forward(l.s, l.x, NULL, l.y, n, NULL);
    check_forward(&l, false);
    memset(l.dx, 0xff, (size_t)l.cols * (size_t)n * sizeof *l.dx);
    sparse_input_gradient(l.s, l.dy, l.dx, n, NULL);
    check_input_gradient(&l);
    gradients(&l, false, false);
    check_weight_gradient(&l, 1);
    gradients(&l, false, true);
    check_weight_gradient(&l, 2);
    ck_assert(l.s->n == (size_t)l.rows * (size_t)l.cols || l.dw[l.s->n] == beyond);
    layer_clear(&l);
}

/* Once per level of vector code, the better ones left out. */
START_TEST(products)
{
    ck_assert(*sparse_level_name(_i));
    sparse_skip_levels = _i;
    for (int s = 0; s < N(shape); s++)
        for (int d = 0; d < N(density); d++)
            for (int b = 0; b < N(batch); b++)
                if ((double)shape[s][0] * shape[s][1] * batch[b] < 5e5)
                    check_products(shape[s], density[d], batch[b]);
    sparse_skip_levels = 0;
}
END_TEST

/* One sample, in the form made for it, once per level that has one; no allocation that fails leaves half of one. New values drop it. */
static void check_single(const int rows_cols[2], double d)
{
    struct layer l;
    enum err_code rc = ERR_NOMEM;

    layer_init(&l, rows_cols[0], rows_cols[1], d, 1);
    for (int fail = 1; rc == ERR_NOMEM; fail++) {
        mem_fail_in = fail;
        rc = sparse_single_make(l.s, NULL);
        mem_fail_in = 0;
        ck_assert(rc == ERR_OK || !l.s->single);
    }
    ck_assert_int_eq(rc, ERR_OK);
    ck_assert(sparse_single_forward(l.s, l.x, l.bias, l.y) == (l.s->single != NULL));
    sparse_forward(l.s, l.x, l.bias, l.y, 1, NULL);
    check_forward(&l, true);
    sparse_forward(l.s, l.x, NULL, l.y, 1, NULL);
    check_forward(&l, false);
    for (int k = 0; k < l.rows * l.cols; k++)
        l.w[k] *= 2;
    sparse_gather(l.s, l.w);
    ck_assert_ptr_null(l.s->single);
    sparse_forward(l.s, l.x, NULL, l.y, 1, NULL);
    check_forward(&l, false);
    layer_clear(&l);
}

START_TEST(single_samples)
{
    static const int sizes[][2] = { { 300, 784 }, { 16, 32 }, { 16, 16 }, { 17, 33 }, { 31, 17 }, { 7, 100 }, { 8, 8 }, { 100, 1100 }, { 40, 31 }, { 50, 7 } };

    sparse_skip_levels = _i;
    for (int s = 0; s < N(sizes); s++)
        for (int d = 0; d < N(density); d++)
            check_single(sizes[s], density[d]);
    sparse_skip_levels = 0;
}
END_TEST

/* The form and what making it takes are never more than was estimated. */
START_TEST(memory_of_single_samples)
{
    static const int sizes[][2] = { { 8, 8 }, { 16, 16 }, { 17, 33 }, { 31, 17 }, { 16, 1000 }, { 1000, 16 }, { 100, 1100 }, { 300, 784 }, { 513, 129 } };
    static const double shares[] = { 0.001, 0.02, 0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.55, 0.7, 1 };
    int made = 0;

    sparse_skip_levels = _i;
    for (int s = 0; s < N(sizes); s++)
        for (int d = 0; d < N(shares); d++) {
            const int rows = sizes[s][0], cols = sizes[s][1];
            struct layer l;
            size_t before;

            layer_init(&l, rows, cols, shares[d], 1);
            before = mem_asked;
            ck_assert_int_eq(sparse_single_make(l.s, NULL), ERR_OK); /* frees nothing before the end: all that it asks for is its peak */
            made += l.s->single != NULL;
            SURE(mem_asked - before <= sparse_single_memory(rows, cols), "%d x %d, density %g: %zu bytes, estimated as %llu", rows, cols, shares[d],
                 mem_asked - before, (unsigned long long)sparse_single_memory(rows, cols));
            layer_clear(&l);
        }
    sparse_skip_levels = 0;
    ck_assert(made > 20 || (strcmp(sparse_level_name(_i), "avx512") != 0 && strcmp(sparse_level_name(_i), "avx2") != 0));
}
END_TEST

/* Where this processor has it: of thin kernels, whose rows and columns differ as those of trained ones do; not of whole ones. */
START_TEST(single_form_where_it_pays)
{
    const bool can = strcmp(sparse_level_name(_i), "avx512") == 0 || strcmp(sparse_level_name(_i), "avx2") == 0;
    struct layer l;

    sparse_skip_levels = _i;
    layer_init(&l, 300, 784, 1, 1);
    ck_assert_int_eq(sparse_single_make(l.s, NULL), ERR_OK);
    ck_assert_ptr_null(l.s->single);
    sparse_free(l.s);
    for (int k = 0; k < l.rows * l.cols; k++)
        l.mask[k] &= k % l.cols * 7 % (1 + k / l.cols) < 6;
    ck_assert_int_eq(sparse_new(&l.s, l.mask, l.rows, l.cols, SPARSE_BY_ROW, NULL), ERR_OK);
    for (int k = 0; k < l.rows * l.cols; k++)
        l.w[k] *= l.mask[k];
    sparse_gather(l.s, l.w);
    ck_assert(sparse_single_may_pay((size_t)l.rows * (size_t)l.cols, l.s->n) && l.s->n > 10000);
    ck_assert_int_eq(sparse_single_make(l.s, NULL), ERR_OK);
    ck_assert(can == (l.s->single != NULL) && sparse_single_forward(l.s, l.x, l.bias, l.y) == can);
    sparse_forward(l.s, l.x, l.bias, l.y, 1, NULL);
    check_forward(&l, true);
    layer_clear(&l);
    sparse_skip_levels = 0;
}
END_TEST

/* An input that is not finite counts for the rows that keep it, and for no other; so does a weight. */
START_TEST(single_samples_that_are_not_finite)
{
    static const float bad[] = { INFINITY, -INFINITY, NAN };

    sparse_skip_levels = _i;
    for (int b = 0; b < N(bad); b++) {
        struct layer l;

        layer_init(&l, 100, 200, 0.1, 1);
        ck_assert_int_eq(sparse_single_make(l.s, NULL), ERR_OK);
        l.x[50] = bad[b];
        sparse_forward(l.s, l.x, l.bias, l.y, 1, NULL);
        for (int r = 0; r < l.rows; r++)
            ck_assert((isfinite(l.y[r]) != 0) == !l.mask[r * l.cols + 50]);
        l.x[50] = 0;
        l.w[7 * l.cols + l.s->by_row.across[sparse_first(&l.s->by_row, 7)]] = bad[b];
        sparse_gather(l.s, l.w);
        ck_assert_int_eq(sparse_single_make(l.s, NULL), ERR_OK);
        sparse_forward(l.s, l.x, l.bias, l.y, 1, NULL);
        for (int r = 0; r < l.rows; r++)
            ck_assert((isfinite(l.y[r]) != 0) == (r != 7));
        layer_clear(&l);
    }
    sparse_skip_levels = 0;
}
END_TEST

START_TEST(same_bytes_for_any_team)
{
    struct layer one, many;
    struct team *team;

    layer_init(&one, 300, 784, 0.1, 130);
    layer_init(&many, 300, 784, 0.1, 130);
    ck_assert_int_eq(team_new(&team, _i, NULL), ERR_OK);
    sparse_forward(one.s, one.x, one.bias, one.y, one.n, NULL);
    sparse_forward(many.s, many.x, many.bias, many.y, many.n, team);
    sparse_input_gradient(one.s, one.dy, one.dx, one.n, NULL);
    sparse_input_gradient(many.s, many.dy, many.dx, many.n, team);
    ck_assert(memcmp(one.y, many.y, 300 * 130 * sizeof(float)) == 0);
    ck_assert(memcmp(one.dx, many.dx, 784 * 130 * sizeof(float)) == 0);
    team_free(team);
    layer_clear(&one);
    layer_clear(&many);
}
END_TEST

/* The densest kernel that pays; never more than the bound of memory estimates. */
START_TEST(the_rule_is_one_of_density)
{
    for (int b = 0; b < N(batch); b++)
        for (int s = 0; s < N(shape); s++) {
            const int rows = shape[s][0], cols = shape[s][1];
            const size_t all = (size_t)rows * (size_t)cols;

            ck_assert(!sparse_pays(rows, cols, 0, batch[b]));
            ck_assert(!sparse_pays(rows, cols, (size_t)(SPARSE_MAX_DENSITY * (double)all) + 1, batch[b]));
            for (size_t kept = 2; kept <= all; kept++)
                SURE(!sparse_pays(rows, cols, kept, batch[b]) || sparse_pays(rows, cols, kept - 1, batch[b]), "%dx%d: %zu", rows, cols, kept);
        }
    ck_assert(sparse_pays(300, 784, 11760, 128) && sparse_pays(300, 784, 11760, 1) && !sparse_pays(300, 784, 100000, 128));
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "sparse");

    tcase_add_loop_test(tc, structure, 0, N(shape));
    tcase_add_test(tc, tiles_share_the_work);
    tcase_add_test(tc, memory);
    tcase_add_test(tc, the_rule_is_one_of_density);
    tcase_add_loop_test(tc, products, 0, sparse_n_levels());
    tcase_add_loop_test(tc, single_samples, 0, sparse_n_levels());
    tcase_add_loop_test(tc, memory_of_single_samples, 0, sparse_n_levels());
    tcase_add_loop_test(tc, single_form_where_it_pays, 0, sparse_n_levels());
    tcase_add_loop_test(tc, single_samples_that_are_not_finite, 0, sparse_n_levels());
    tcase_add_loop_test(tc, same_bytes_for_any_team, 1, 5);
}
SUITE_MAIN("sparse", cases)
