/* Winograd convolutions: the products against plain loops in double, over random shapes, paddings, batches and every level of vector code that
 * this processor has; what lay in memory before does not matter; the same bytes for any team. */
#include "core/winograd.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "tests/core/draw.h"
#include "tests/suite.h"

#define N(a) ((int)(sizeof(a) / sizeof(a)[0]))
/* libcheck's own asserts make a system call each. */
#define SURE(holds, ...) do { if (!(holds)) ck_abort_msg(__VA_ARGS__); } while (0)

enum { RANDOM_SHAPES = 40, COUNTS = 30, THREADS = 4, GUARD = 64 };
static const struct winograd_shape some_shape[] = {
    { 1, 1, 1, 1, 1, 1, 1, 1, 1 }, { 2, 3, 3, 3, 16, 0, 0, 0, 0 }, { 3, 2, 1, 1, 5, 2, 2, 2, 2 }, { 16, 16, 6, 6, 32, 1, 1, 1, 1 },
    { 70, 9, 4, 5, 18, 1, 0, 0, 1 }, { 9, 70, 5, 4, 18, 0, 1, 1, 0 }, { 130, 67, 2, 2, 3, 1, 1, 1, 1 }, { 5, 24, 3, 3, 150, 1, 1, 1, 1 },
    /* three vectors of outputs, cells enough that they are summed up in several goes */
    { 20, 48, 8, 8, 64, 1, 1, 1, 1 }, { 20, 90, 6, 6, 48, 1, 1, 1, 1 },
};

/* ---- one convolution ---- */

struct layer {
    struct winograd_shape s;
    int oh, ow;
    size_t len_x, len_y, len_w;
    float *x, *w, *bias, *y, *dy, *gate, *dx, *dw, *db, *old; /* gate: what forward gave, where the gradient is masked by it. old: dw before */
    double *want, *size;                      /* of the product at hand: sums of the terms, and of their sizes */
    struct winograd_room room;
};

static void spoil(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = NAN;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void layer_init(struct layer *l, const struct winograd_shape *s)
{
    size_t most;

    *l = (struct layer){ .s = *s, .oh = s->h + s->pad_top + s->pad_bottom - 2, .ow = s->w + s->pad_left + s->pad_right - 2 };
    l->len_x = (size_t)(s->c * s->h * s->w * s->n);
    l->len_y = (size_t)(s->o * l->oh * l->ow * s->n);
    l->len_w = (size_t)(s->o * s->c * 9);
    l->x = draw(l->len_x, 1);
    l->w = draw(l->len_w, 2);
    l->bias = draw((size_t)s->o, 3);
    l->y = draw(l->len_y, 4);
    l->dy = draw(l->len_y, 5);
    l->gate = draw(l->len_y, 6);
    l->dx = draw(l->len_x, 7);
    l->dw = draw(l->len_w, 8);
    l->db = draw((size_t)s->o, 9);
    l->old = draw(l->len_w, 10);
    most = larger(larger(l->len_x, l->len_y), l->len_w);
    l->want = mem_alloc(most * sizeof(double));
    l->size = mem_alloc(most * sizeof(double));
}

static void layer_clear(struct layer *l)
{
    void *a[] = { l->x, l->w, l->bias, l->y, l->dy, l->gate, l->dx, l->dw, l->db, l->old, l->want, l->size };

    for (int i = 0; i < N(a); i++)
        mem_free(a[i]);
}

/* Memory for the level in use, full of NaN. */
static void room_init(struct layer *l, int threads)
{
    const size_t shared = winograd_shared_len(&l->s), scratch = winograd_scratch_len(&l->s);

    ck_assert_uint_eq(scratch % 16, 0);
    l->room = (struct winograd_room){ mem_vector(shared + GUARD), mem_vector(scratch * (size_t)threads + GUARD), scratch };
    spoil(l->room.shared, shared + GUARD);
    spoil(l->room.scratch, scratch * (size_t)threads + GUARD);
}

/* Nothing was written behind the last thread's scratch, nor behind what is shared. */
static void check_guards(const struct layer *l, int threads)
{
    const float *shared = l->room.shared + winograd_shared_len(&l->s), *scratch = l->room.scratch + l->room.scratch_stride * (size_t)threads;

    for (int i = 0; i < GUARD; i++)
        SURE(isnan(shared[i]) && isnan(scratch[i]), "%s: memory behind its own was written", winograd_level_name(winograd_skip_levels));
}

static void room_clear(struct layer *l)
{
    mem_free(l->room.shared);
    mem_free(l->room.scratch);
}

/* Each term of the plain sum: its numbers of x, w and y. */
struct term { size_t x, w, y; };

static void for_terms(const struct layer *l, void (*add)(const struct layer *l, struct term t))
{
    const struct winograd_shape *s = &l->s;

    for (int i = 0; i < s->o * s->c * 9; i++)
        for (int at = 0; at < l->oh * l->ow; at++) {
            const int o = i / 9 / s->c, c = i / 9 % s->c, y = at / l->ow + i % 9 / 3 - s->pad_top, x = at % l->ow + i % 3 - s->pad_left;

            for (int j = 0; j < s->n && y >= 0 && y < s->h && x >= 0 && x < s->w; j++)
                add(l, (struct term){ (size_t)(((c * s->h + y) * s->w + x) * s->n + j), (size_t)i,
                                      (size_t)((o * l->oh * l->ow + at) * s->n + j) });
        }
}

static void add_to(const struct layer *l, size_t i, double term)
{
    l->want[i] += term;
    l->size[i] += fabs(term);
}

static void forward_term(const struct layer *l, struct term t)
{
    add_to(l, t.y, (double)l->x[t.x] * (double)l->w[t.w]);
}

static void input_term(const struct layer *l, struct term t)
{
    add_to(l, t.x, (double)l->dy[t.y] * (double)l->w[t.w]);
}

static void input_term_masked(const struct layer *l, struct term t)
{
    if (l->gate[t.y] > 0)
        input_term(l, t);
}

static void want(struct layer *l, void (*add)(const struct layer *l, struct term t), size_t n)
{
    memset(l->want, 0, n * sizeof *l->want);
    memset(l->size, 0, n * sizeof *l->size);
    for_terms(l, add);
}

static void check(const struct layer *l, const char *what, const float *got, size_t n)
{
    const struct winograd_shape *s = &l->s;

    for (size_t i = 0; i < n; i++)
        SURE(fabs((double)got[i] - l->want[i]) <= 1e-5 * (1 + l->size[i]),
             "%s, %s, c %d o %d, %dx%d, n %d, padding %d %d %d %d: number %zu is %g, not %g", winograd_level_name(winograd_skip_levels), what, s->c,
             s->o, s->h, s->w, s->n, s->pad_top, s->pad_left, s->pad_bottom, s->pad_right, i, (double)got[i], l->want[i]);
}

static struct winograd_shape shape_number(int i)
{
    const struct rng r = { 5, RNG_TEST, 100, (uint64_t)i };
    struct winograd_shape s;

    if (i < N(some_shape))
        return some_shape[i];
    if (i >= N(some_shape) + RANDOM_SHAPES) { /* every count of channels, for every register block */
        const int k = i - N(some_shape) - RANDOM_SHAPES + 1;

        return (struct winograd_shape){ k, k, 4, 3, 20, 1, 1, 1, 1 };
    }
#define BELOW(k, n) (int)rng_below(&r, k, n)
    s = (struct winograd_shape){ 1 + BELOW(0, 20), 1 + BELOW(1, 20), 1 + BELOW(2, 7), 1 + BELOW(3, 7), 1 + BELOW(4, 40),
                                 BELOW(5, 3), BELOW(6, 3), BELOW(7, 3), BELOW(8, 3) };
#undef BELOW
    s.h += s.h + s.pad_top + s.pad_bottom < 3 ? 2 : 0;
    s.w += s.w + s.pad_left + s.pad_right < 3 ? 2 : 0;
    return s;
}

static void for_levels(struct layer *l, void (*run)(struct layer *l))
{
    const int n = winograd_n_levels();

    for (winograd_skip_levels = 0; winograd_skip_levels < n; winograd_skip_levels++) {
        room_init(l, 1);
        run(l);
        check_guards(l, 1);
        room_clear(l);
    }
    winograd_skip_levels = 0;
}

/* ---- products ---- */

static void run_forward(struct layer *l)
{
    spoil(l->y, l->len_y);
    winograd_forward(&l->s, l->x, l->w, &(struct winograd_behind){ 0 }, l->y, &l->room, NULL);
    check(l, "forward", l->y, l->len_y);
}

static void run_clamped(struct layer *l)
{
    spoil(l->y, l->len_y);
    winograd_forward(&l->s, l->x, l->w, &(struct winograd_behind){ .bias = l->bias, .clamp = true }, l->y, &l->room, NULL);
    check(l, "forward with bias, clamped", l->y, l->len_y);
}

static float factor_of(size_t o) { return 1.5f - 0.5f * (float)(o % 5); }
static float more_of(size_t i) { return (float)(i % 7) - 3; }

static void run_all(struct layer *l)
{
    float *more = mem_alloc(l->len_y * sizeof *more), *factor = mem_alloc((size_t)l->s.o * sizeof *factor);

    for (size_t i = 0; i < l->len_y; i++)
        more[i] = more_of(i);
    for (size_t o = 0; o < (size_t)l->s.o; o++)
        factor[o] = factor_of(o);
    spoil(l->y, l->len_y);
    winograd_forward(&l->s, l->x, l->w, &(struct winograd_behind){ factor, l->bias, more, true }, l->y, &l->room, NULL);
    check(l, "forward with factor, bias and more, clamped", l->y, l->len_y);
    mem_free(more);
    mem_free(factor);
}

START_TEST(forward)
{
    const struct winograd_shape s = shape_number(_i);
    struct layer l;

    layer_init(&l, &s);
    want(&l, forward_term, l.len_y);
    for_levels(&l, run_forward);
    for (size_t i = 0; i < l.len_y; i++)
        l.want[i] = fmax(0, l.want[i] + (double)l.bias[i / (l.len_y / (size_t)s.o)]);
    for_levels(&l, run_clamped);
    want(&l, forward_term, l.len_y);
    for (size_t i = 0; i < l.len_y; i++) {
        const size_t o = i / (l.len_y / (size_t)s.o);

        l.want[i] = fmax(0, (double)factor_of(o) * l.want[i] + (double)l.bias[o] + (double)more_of(i));
    }
    for_levels(&l, run_all);
    layer_clear(&l);
}
END_TEST

static void run_input(struct layer *l)
{
    spoil(l->dx, l->len_x);
    winograd_input_gradient(&l->s, l->dy, NULL, l->w, l->dx, &l->room, NULL);
    check(l, "input gradient", l->dx, l->len_x);
}

static void run_input_masked(struct layer *l)
{
    spoil(l->dx, l->len_x);
    winograd_input_gradient(&l->s, l->dy, l->gate, l->w, l->dx, &l->room, NULL);
    check(l, "input gradient, masked", l->dx, l->len_x);
}

START_TEST(input_gradient)
{
    const struct winograd_shape s = shape_number(_i);
    struct layer l;

    layer_init(&l, &s);
    want(&l, input_term, l.len_x);
    for_levels(&l, run_input);
    want(&l, input_term_masked, l.len_x);
    for_levels(&l, run_input_masked);
    layer_clear(&l);
}
END_TEST

static void weight_term(const struct layer *l, struct term t)
{
    add_to(l, t.w, (double)l->dy[t.y] * (double)l->x[t.x]);
}

static void weight_term_masked(const struct layer *l, struct term t)
{
    if (l->gate[t.y] > 0)
        weight_term(l, t);
}

static void run_weight(struct layer *l)
{
    spoil(l->dw, l->len_w);
    winograd_weight_gradient(&l->s, l->x, l->dy, NULL, l->dw, NULL, false, &l->room, NULL);
    check(l, "weight gradient", l->dw, l->len_w);
}

static void check_bias(const struct layer *l)
{
    const size_t len = l->len_y / (size_t)l->s.o;

    for (size_t o = 0; o < (size_t)l->s.o; o++) {
        double sum = 0, size = 0;

        for (size_t i = o * len; i < (o + 1) * len; i++)
            if (l->gate[i] > 0) {
                sum += (double)l->dy[i];
                size += fabs((double)l->dy[i]);
            }
        SURE(fabs((double)l->db[o] - sum) <= 1e-5 * (1 + size), "%s: db[%zu] %g, not %g", winograd_level_name(winograd_skip_levels), o,
             (double)l->db[o], sum);
    }
}

static void run_weight_masked(struct layer *l)
{
    spoil(l->dw, l->len_w);
    spoil(l->db, (size_t)l->s.o);
    winograd_weight_gradient(&l->s, l->x, l->dy, l->gate, l->dw, l->db, false, &l->room, NULL);
    check(l, "weight gradient, masked", l->dw, l->len_w);
    check_bias(l);
}

static void run_weight_added(struct layer *l)
{
    memcpy(l->dw, l->old, l->len_w * sizeof(float));
    memset(l->db, 0, (size_t)l->s.o * sizeof(float));
    winograd_weight_gradient(&l->s, l->x, l->dy, l->gate, l->dw, l->db, true, &l->room, NULL);
    check(l, "weight gradient, masked, added", l->dw, l->len_w);
    check_bias(l);
}

START_TEST(weight_gradient)
{
    const struct winograd_shape s = shape_number(_i);
    struct layer l;

    layer_init(&l, &s);
    want(&l, weight_term, l.len_w);
    for_levels(&l, run_weight);
    want(&l, weight_term_masked, l.len_w);
    for_levels(&l, run_weight_masked);
    for (size_t i = 0; i < l.len_w; i++)
        l.want[i] += (double)l.old[i];
    for_levels(&l, run_weight_added);
    layer_clear(&l);
}
END_TEST

/* ---- laws ---- */

/* What is not a number shows in every output that it has a part in, clamped or not. */
START_TEST(not_a_number)
{
    const struct winograd_shape s = { 3, 5, 4, 4, 20, 1, 1, 1, 1 };
    struct layer l;

    layer_init(&l, &s);
    room_init(&l, 1);
    l.x[(5 * s.n) + 7] = NAN; /* row 1, column 1 */
    winograd_forward(&s, l.x, l.w, &(struct winograd_behind){ .bias = l.bias, .clamp = true }, l.y, &l.room, NULL);
    for (int o = 0; o < s.o; o++)
        for (int at = 0; at < 9; at++)
            ck_assert(isnan(l.y[((o * 4 + at / 3) * 4 + at % 3) * s.n + 7]));
    room_clear(&l);
    layer_clear(&l);
}
END_TEST

START_TEST(any_team)
{
    static const struct winograd_shape shape[] = { { 16, 16, 16, 16, 24, 1, 1, 1, 1 }, { 72, 66, 5, 5, 16, 1, 1, 1, 1 } };
    struct layer l, other;

    layer_init(&l, &shape[_i]);
    layer_init(&other, &shape[_i]);
    room_init(&l, THREADS);
    for (int threads = 1; threads <= THREADS; threads *= 2) {
        struct layer *to = threads == 1 ? &l : &other;
        struct team *team;

        ck_assert_int_eq(team_new(&team, threads, NULL), ERR_OK);
        winograd_forward(&l.s, l.x, l.w, &(struct winograd_behind){ .bias = l.bias }, to->y, &l.room, team);
        winograd_input_gradient(&l.s, l.dy, l.gate, l.w, to->dx, &l.room, team);
        winograd_weight_gradient(&l.s, l.x, l.dy, l.gate, to->dw, to->db, false, &l.room, team);
        team_free(team);
        if (threads == 1)
            continue;
        ck_assert_int_eq(memcmp(l.y, other.y, l.len_y * sizeof(float)), 0);
        ck_assert_int_eq(memcmp(l.dw, other.dw, l.len_w * sizeof(float)), 0);
        ck_assert_int_eq(memcmp(l.db, other.db, (size_t)l.s.o * sizeof(float)), 0);
        ck_assert_int_eq(memcmp(l.dx, other.dx, l.len_x * sizeof(float)), 0);
    }
    room_clear(&l);
    layer_clear(&l);
    layer_clear(&other);
}
END_TEST

/* Once for each product. */
START_TEST(where_it_pays)
{
    const enum winograd_product product = (enum winograd_product)_i;
    struct winograd_shape s = { 32, 32, 16, 16, 128, 1, 1, 1, 1 };

    ck_assert(winograd_pays(&s, product));
    s.n = 1;
    ck_assert(!winograd_pays(&s, product));
    for (s.c = 1; s.c < 80; s.c += 13)
        for (s.h = s.w = 1; s.h < 10; s.h = ++s.w) {
            bool some = false;

            for (s.n = 1; s.n < 70; s.n++)
                some |= winograd_pays(&s, product);
            s.n = 128;
            ck_assert(winograd_pays(&s, product) || !some);
        }
    s = (struct winograd_shape){ 32, 32, 1 << 29, 1 << 29, 1 << 29, 1, 1, 1, 1 };
    ck_assert(!winograd_pays(&s, product));
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "products");

    tcase_add_loop_test(tc, forward, 0, N(some_shape) + RANDOM_SHAPES + COUNTS);
    tcase_add_loop_test(tc, input_gradient, 0, N(some_shape) + RANDOM_SHAPES + COUNTS);
    tcase_add_loop_test(tc, weight_gradient, 0, N(some_shape) + RANDOM_SHAPES + COUNTS);
    tc = suite_case(s, "laws");
    tcase_add_test(tc, not_a_number);
    tcase_add_loop_test(tc, where_it_pays, 0, WINOGRAD_WEIGHT + 1);
    tcase_add_loop_test(tc, any_team, 0, 2);
}

SUITE_MAIN("winograd", cases)
