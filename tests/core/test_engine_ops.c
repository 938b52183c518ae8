/* Ops: every row of the table against finite differences, by inputs and by weights, for option sets that are made from its field
 * table: the defaults, and each option at other legal values. A new row is tested by itself. */
#include "core/op.h"

#include <stdio.h>
#include <string.h>

#include "core/gemm.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/simd.h"
#include "tests/suite.h"

enum { N = 5, MAX_IN = 3, MAX_WEIGHT = 1024, MAX_X = 1024, RANKS = 3 };

struct bench {
    const struct op *op;
    struct plug_value conf;
    struct shape in[MAX_IN];
    const struct shape *in_at[MAX_IN];
    int n_in;
    struct op_plan plan;
    float *x[MAX_IN], *dx[MAX_IN], *y, *dy, *state, *scratch, *w[OP_MAX_WEIGHTS], *dw[OP_MAX_WEIGHTS];
    struct op_line *given;
    bool training;
};

static int n_rows(void)
{
    int n = 0;

    while (op_table.rows[n])
        n++;
    return n;
}

static void fill(float *x, size_t n, uint32_t stream, double away)
{
    const struct rng r = { 7, RNG_TEST, stream, 0 };

    for (size_t i = 0; i < n; i++) {
        double v = rng_normal(&r, i);

        x[i] = (float)(v + (v < 0 ? -away : away)); /* away from the kinks at 0 */
    }
}

/* Numbers in random order, but evenly apart and away from 0: a small step meets no kink, not even where the largest of some is taken. */
static void fill_apart(float *x, size_t n, uint32_t stream)
{
    const double step = 5.0 / (double)n > 0.02 ? 5.0 / (double)n : 0.02;
    float drawn[MAX_X];

    ck_assert_uint_le(n, MAX_X);
    fill(drawn, n, stream, 0);
    for (size_t i = 0; i < n; i++) {
        size_t below = 0;

        for (size_t j = 0; j < n; j++)
            below += drawn[j] < drawn[i];
        x[i] = (float)(((double)below - (double)(n / 2) + 0.5) * step);
    }
}

/* One value of an option beside its default; false: no such. JSON text that params_parse takes or refuses. */
static bool option_value(const struct param *p, int k, char *buf, size_t n)
{
    static const double share[] = { 0.1, 0.5, 0.9 };
    const char *choice;

    switch (p->type) {
    case PARAM_BOOL: snprintf(buf, n, "%s", k ? "true" : "false"); return k < 2;
    case PARAM_INT: snprintf(buf, n, "%d", k + 1); return k < 3 && k + 1 >= p->min && k + 1 <= p->max;
    case PARAM_REAL:
        if (k >= 3)
            return false;
        snprintf(buf, n, "%.3f", p->max > 2 ? (p->min < 0 ? 0 : p->min) + share[k] : p->min + share[k] * (p->max - p->min));
        return true;
    case PARAM_CHOICE:
        for (choice = p->choices; k > 0 && choice; k--)
            choice = strchr(choice, '|') ? strchr(choice, '|') + 1 : NULL;
        if (choice)
            snprintf(buf, n, "\"%.*s\"", (int)strcspn(choice, "|"), choice);
        return choice != NULL;
    default: return false;
    }
}

/* Option set v of a row: 0 the defaults, then one option changed at a time. false: past the last. */
static bool options(const struct plug *plug, int v, json_t **out)
{
    char text[64];
    int at = 1;

    *out = json_object();
    for (const struct param *p = plug->params; p && p->name; p++)
        if (p->def == PARAM_REQUIRED)
            json_object_set_new(*out, p->name, json_integer(p->max < 4 ? 3 : 4));
    if (v == 0)
        return true;
    for (const struct param *p = plug->params; p && p->name; p++)
        for (int k = 0; option_value(p, k, text, sizeof text); k++)
            if (at++ == v) {
                json_object_set_new(*out, p->name, json_loads(text, JSON_DECODE_ANY, NULL));
                return true;
            }
    json_decref(*out);
    return false;
}

/* false: the op refuses these options or this shape, which is its right for all but the defaults. */
static bool bench_open(struct bench *b, const struct op *op, const json_t *opts, int rank, bool training)
{
    static const struct shape shapes[RANKS] = { { 1, { 4 } }, { 2, { 4, 5 } }, { 3, { 4, 6, 5 } } };

    *b = (struct bench){ .op = op, .training = training, .n_in = op->max_in < 2 ? op->max_in : MAX_IN };
    b->conf.plug = &op->plug;
    ck_assert_int_eq(params_parse(b->conf.conf, op->plug.conf_size, op->plug.params, opts, NULL), ERR_OK);
    if (op->max_in == 0)
        memcpy(b->conf.conf, &shapes[rank - 1], sizeof shapes[0]);
    for (int i = 0; i < b->n_in; i++) {
        b->in[i] = shapes[rank - 1];
        b->in_at[i] = &b->in[i];
    }
    if (op->shape(b->conf.conf, b->in_at, b->n_in, &b->plan, NULL) != ERR_OK)
        return false;
    ck_assert_int_eq(shape_check(&b->plan.out, NULL), ERR_OK);
    for (int i = 0; i < b->n_in; i++) {
        b->x[i] = mem_vector(shape_len(&b->in[i]) * N);
        b->dx[i] = mem_vector(shape_len(&b->in[i]) * N);
        fill_apart(b->x[i], shape_len(&b->in[i]) * N, (uint32_t)i);
    }
    for (int i = 0; i < b->plan.n_weights; i++) {
        size_t len = shape_len(&b->plan.weight[i].shape);

        b->w[i] = mem_vector(len);
        b->dw[i] = b->plan.weight[i].trainable ? mem_vector(len) : NULL;
        fill(b->w[i], len, 100 + (uint32_t)i, 0.02);
        for (size_t j = 0; !b->plan.weight[i].trainable && j < len; j++)
            b->w[i][j] = fabsf(b->w[i][j]); /* a variance is positive */
    }
    b->given = b->plan.n_lines > 0 ? mem_alloc((size_t)b->plan.n_lines * sizeof *b->given) : NULL;
    for (int i = 0; i < b->plan.n_lines; i++)
        b->given[i] = (struct op_line){ 0.1f * (float)i, 2 - (float)i, 0.3f - 0.2f * (float)i };
    b->y = mem_vector(shape_len(&b->plan.out) * N);
    b->dy = mem_vector(shape_len(&b->plan.out) * N);
    b->state = mem_vector(b->plan.state_len + N * b->plan.state_len_per_sample);
    b->scratch = mem_vector(b->plan.scratch_len + N * b->plan.scratch_len_per_sample);
    fill(b->dy, shape_len(&b->plan.out) * N, 200, 0);
    return true;
}

static void bench_close(struct bench *b)
{
    for (int i = 0; i < MAX_IN; i++)
        mem_free(b->x[i]), mem_free(b->dx[i]);
    for (int i = 0; i < OP_MAX_WEIGHTS; i++)
        mem_free(b->w[i]), mem_free(b->dw[i]);
    mem_free(b->y), mem_free(b->dy), mem_free(b->state), mem_free(b->scratch), mem_free(b->given);
}

static struct op_call bench_call(const struct bench *b)
{
    struct op_call c = { .conf = b->conf.conf, .given = b->given, .n = N, .n_in = b->n_in, .out_shape = &b->plan.out, .y = b->y, .state = b->state,
                         .training = b->training, .seed = 3, .step = 4, .node = 5, .dy = b->dy, .scratch = b->scratch };

    for (int i = 0; i < b->n_in; i++)
        c.in_shape[i] = b->in_at[i], c.x[i] = b->x[i], c.dx[i] = b->dx[i];
    for (int i = 0; i < b->plan.n_weights; i++)
        c.w[i] = b->w[i], c.dw[i] = b->dw[i];
    return c;
}

static size_t weight_len(const struct bench *b, int i)
{
    size_t len = shape_len(&b->plan.weight[i].shape);

    ck_assert_uint_le(len, MAX_WEIGHT);
    return len;
}

/* sum of dy * y: its gradient is what backward gives. Tracked statistics are put back. */
static double objective(const struct bench *b)
{
    struct op_call c = bench_call(b);
    float kept[OP_MAX_WEIGHTS][MAX_WEIGHT];
    double sum = 0;

    for (int i = 0; i < b->plan.n_weights; i++)
        memcpy(kept[i], b->w[i], sizeof(float) * weight_len(b, i));
    b->op->forward(&c);
    for (int i = 0; i < b->plan.n_weights; i++)
        if (!b->plan.weight[i].trainable)
            memcpy(b->w[i], kept[i], sizeof(float) * weight_len(b, i));
    for (size_t i = 0; i < shape_len(&b->plan.out) * N; i++)
        sum += (double)b->dy[i] * (double)b->y[i];
    return sum;
}

/* What rounding in float may move the objective by. */
static double rounding(const struct bench *b)
{
    double square = 0;

    for (size_t i = 0; i < shape_len(&b->plan.out) * N; i++)
        square += (double)b->dy[i] * (double)b->y[i] * (double)b->dy[i] * (double)b->y[i];
    return 2e-7 * sqrt(square);
}

static void compare(const struct bench *b, float *at, const float *gradient, size_t n, const char *what, int which)
{
    const double h = 1e-3, rough = rounding(b) / h;

    for (size_t i = 0; i < n; i++) {
        float kept = at[i];
        double up, down, difference, given = (double)gradient[i];

        at[i] = (float)((double)kept + h);
        up = objective(b);
        at[i] = (float)((double)kept - h);
        down = objective(b);
        at[i] = kept;
        difference = (up - down) / (2 * h);
        ck_assert_msg(fabs(difference - given) <= 2e-3 + rough + 1e-2 * fabs(difference), "%s, %s %d[%zu]: backward gives %g, differences %g",
                      b->op->plug.name, what, which, i, given, difference);
    }
}

static void check_gradients(struct bench *b)
{
    struct op_call c = bench_call(b);

    if (b->op->view) {
        ck_assert(!b->op->forward && !b->op->backward);
        return;
    }
    objective(b);
    b->op->backward(&c);
    for (int i = 0; i < b->n_in; i++)
        compare(b, b->x[i], b->dx[b->op->same_dx ? 0 : i], shape_len(&b->in[i]) * N, "x", i);
    for (int i = 0; i < b->plan.n_weights; i++)
        if (b->dw[i])
            compare(b, b->w[i], b->dw[i], shape_len(&b->plan.weight[i].shape), "w", i);
}

/* What a value does along a direction of all inputs, by differences: of y, or of the dx one behind the other (up: len numbers). At the end x is where it
 * was, and forward has run there. */
static void differences(struct bench *b, float *const *along, bool of_dx, float *up, size_t len)
{
    const double h = 2e-3;
    struct op_call c = bench_call(b);
    float *kept[MAX_IN];

    for (int k = 0; k < b->n_in; k++) {
        kept[k] = mem_vector(shape_len(&b->in[k]) * N);
        memcpy(kept[k], b->x[k], shape_len(&b->in[k]) * N * sizeof(float));
    }
    for (int side = 1; side >= -1; side--) { /* above, below, and last where it is */
        const double at = side == 1 ? h : side == 0 ? -h : 0;
        size_t first = 0;

        for (int k = 0; k < b->n_in; k++)
            for (size_t i = 0; i < shape_len(&b->in[k]) * N; i++)
                b->x[k][i] = (float)((double)kept[k][i] + at * (double)along[k][i]);
        b->op->forward(&c);
        b->op->backward(&c);
        for (int k = 0; k < (of_dx ? b->op->same_dx ? 1 : b->n_in : 1) && side >= 0; k++) {
            const float *from = of_dx ? b->dx[k] : b->y;

            for (size_t i = 0; i < (of_dx ? shape_len(&b->in[k]) * N : len); i++, first++)
                up[first] = side == 1 ? from[i] : (float)(((double)up[first] - (double)from[i]) / (2 * h));
        }
    }
    for (int k = 0; k < b->n_in; k++)
        mem_free(kept[k]);
}

static void near_differences(const struct bench *b, const char *what, const float *given, const float *up, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ck_assert_msg(fabsf(up[i] - given[i]) <= 2e-3f + 1e-2f * fabsf(up[i]), "%s: %s gives %g, differences %g", b->op->plug.name, what, (double)given[i],
                      (double)up[i]);
}

/* The derivative of y along a direction, as op.h says how it is found: what does not say must have a symmetric Jacobian. */
static void check_slope(struct bench *b, float *const *along)
{
    const size_t len = shape_len(&b->plan.out) * N;
    struct op_call c = bench_call(b);
    float *up = mem_vector(len), *slope = mem_vector(len);

    differences(b, along, false, up, len);
    c.y = slope;
    for (int k = 0; k < b->n_in; k++)
        c.along[k] = along[k];
    if (b->op->slope) {
        b->op->slope(&c);
    } else if (b->op->linear) {
        for (int k = 0; k < b->n_in; k++)
            c.x[k] = along[k];
        b->op->forward(&c);
    } else {
        ck_assert(b->n_in == 1 && shape_len(&b->in[0]) == shape_len(&b->plan.out));
        c.y = b->y;
        c.dy = along[0];
        c.dx[0] = slope;
        b->op->backward(&c);
    }
    near_differences(b, "slope", slope, up, len);
    mem_free(up), mem_free(slope);
}

/* bend against differences of backward along a direction; an op without it must have none, away from kinks. */
static void check_bend(struct bench *b, float *const *along)
{
    const int n = b->op->same_dx ? 1 : b->n_in;
    const size_t each = shape_len(&b->in[0]) * N, len = each * (size_t)n;
    struct op_call c = bench_call(b);
    float *bent = mem_vector(len), *up = mem_vector(len);

    differences(b, along, true, up, len);
    memset(bent, 0, len * sizeof *bent);
    for (int k = 0; k < n; k++)
        c.dx[k] = bent + (size_t)k * each;
    for (int k = 0; k < b->n_in; k++)
        c.along[k] = along[k];
    if (b->op->bend)
        b->op->bend(&c);
    near_differences(b, "bend", bent, up, len);
    mem_free(bent), mem_free(up);
}

static void check_second(struct bench *b)
{
    float *along[MAX_IN];

    for (int k = 0; k < b->n_in; k++) {
        along[k] = mem_vector(shape_len(&b->in[k]) * N);
        fill(along[k], shape_len(&b->in[k]) * N, 300 + (uint32_t)k, 0);
    }
    check_slope(b, along);
    check_bend(b, along);
    for (int k = 0; k < b->n_in; k++)
        mem_free(along[k]);
}

START_TEST(gradients)
{
    const struct op *op = op_of(op_table.rows[_i]);
    bool taken = false;
    json_t *opts;

    for (int v = 0; options(&op->plug, v, &opts); v++) {
        for (int rank = 1; rank <= (op->activation ? 2 : RANKS); rank++) /* many numbers would meet an activation's kinks */
            for (int training = 0; training < 2; training++) {
                struct bench b;

                if (!bench_open(&b, op, opts, rank, training))
                    continue;
                taken |= v == 0;
                if (op->max_in > 0)
                    check_gradients(&b);
                if (op->backward && !training && !(b.plan.n_weights > 0 && b.plan.weight[0].prunable))
                    check_second(&b);
                bench_close(&b);
            }
        json_decref(opts);
    }
    ck_assert_msg(taken, "%s refuses its defaults", op->plug.name);
}
END_TEST

static void forget(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = NAN;
}

/* Backward gives the same when what it is said not to read is gone. */
static void check_unread(struct bench *b, bool clamp)
{
    const size_t len = shape_len(&b->in[0]) * N;
    struct op_call c = bench_call(b);
    float *dx[MAX_IN], dw[OP_MAX_WEIGHTS][MAX_WEIGHT];

    c.clamp = clamp;
    b->op->forward(&c);
    b->op->backward(&c);
    for (int i = 0; i < b->n_in; i++) {
        dx[i] = mem_vector(len);
        memcpy(dx[i], b->dx[i], len * sizeof(float));
    }
    for (int i = 0; i < b->plan.n_weights; i++)
        if (b->dw[i])
            memcpy(dw[i], b->dw[i], weight_len(b, i) * sizeof(float));
    for (int i = 0; i < b->n_in && !op_reads_x(b->op); i++)
        forget(b->x[i], len);
    if (!op_reads_y(b->op, clamp))
        forget(b->y, shape_len(&b->plan.out) * N);
    b->op->backward(&c);
    for (int i = 0; i < b->n_in; i++) {
        ck_assert_mem_eq(dx[i], b->dx[i], len * sizeof(float));
        mem_free(dx[i]);
    }
    for (int i = 0; i < b->plan.n_weights; i++)
        if (b->dw[i])
            ck_assert_mem_eq(dw[i], b->dw[i], weight_len(b, i) * sizeof(float));
}

START_TEST(unread)
{
    const struct op *op = op_of(op_table.rows[_i]);
    json_t *opts;

    for (int v = 0; options(&op->plug, v, &opts); v++) {
        for (int k = 0; k < RANKS * 4 && op->backward; k++) { /* ranks, training or not, clamping or not */
            struct bench b;

            if ((k % 2 == 0 || op->clamp) && bench_open(&b, op, opts, 1 + k / 4, k / 2 % 2)) {
                check_unread(&b, k % 2);
                bench_close(&b);
            }
        }
        json_decref(opts);
    }
}
END_TEST

struct seen { unsigned char times[OP_MAX_WEIGHTS][MAX_WEIGHT]; };
static void note_ready(void *user, int i, size_t first, size_t n)
{
    for (size_t j = first; j < first + n; j++)
        ((struct seen *)user)->times[i][j]++;
}

/* With its default options, in the first shape that it takes. */
static void bench_default(struct bench *b, const struct op *op)
{
    json_t *opts;
    int rank = 1;

    ck_assert(options(&op->plug, 0, &opts));
    while (!bench_open(b, op, opts, rank, true))
        ck_assert_int_le(++rank, RANKS);
    json_decref(opts);
}

/* accumulate adds; ready names each number of each gradient once; a NULL dx is left alone. */
START_TEST(contract)
{
    const struct op *op = op_of(op_table.rows[_i]);
    struct bench b;
    struct seen seen = { 0 };
    struct op_call c;
    float once[OP_MAX_WEIGHTS][MAX_WEIGHT];

    bench_default(&b, op);
    c = bench_call(&b);
    c.ready = note_ready;
    c.ready_user = &seen;
    if (op->forward) {
        op->forward(&c);
        op->backward(&c);
        for (int i = 0; i < b.plan.n_weights; i++)
            if (b.dw[i])
                memcpy(once[i], b.dw[i], shape_len(&b.plan.weight[i].shape) * sizeof(float));
        c.accumulate = true;
        c.ready = NULL;
        for (int i = 0; i < b.n_in; i++)
            c.dx[i] = NULL;
        op->backward(&c);
    }
    for (int i = 0; i < b.plan.n_weights; i++)
        for (size_t j = 0; b.dw[i] && j < shape_len(&b.plan.weight[i].shape); j++) {
            ck_assert_int_eq(seen.times[i][j], 1);
            ck_assert(fabsf(b.dw[i][j] - 2 * once[i][j]) <= 1e-4f * (1 + fabsf(once[i][j])));
        }
    bench_close(&b);
}
END_TEST

static bool has_nan(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isnan(x[i]))
            return true;
    return false;
}

/* A relu inside of the op computes what a relu behind it does, forward and backward. */
START_TEST(clamp)
{
    const struct op *op = op_of(op_table.rows[_i]);
    struct bench b;
    struct op_call c;
    float *y, *dx, dw[OP_MAX_WEIGHTS][MAX_WEIGHT];
    size_t n_y, n_x;

    if (!op->clamp)
        return;
    bench_default(&b, op);
    n_y = shape_len(&b.plan.out) * N;
    n_x = shape_len(&b.in[0]) * N;
    y = mem_vector(n_y);
    dx = mem_vector(n_x);
    c = bench_call(&b);
    op->forward(&c);
    memcpy(y, b.y, n_y * sizeof *y);
    c.clamp = true;
    op->forward(&c);
    for (size_t i = 0; i < n_y; i++)
        ck_assert(fabsf(b.y[i] - (y[i] > 0 ? y[i] : 0)) <= 1e-6f);
    op->backward(&c);
    memcpy(dx, b.dx[0], n_x * sizeof *dx);
    for (int i = 0; i < b.plan.n_weights; i++)
        if (b.dw[i])
            memcpy(dw[i], b.dw[i], weight_len(&b, i) * sizeof(float));
    for (size_t i = 0; i < n_y; i++)
        b.dy[i] = y[i] > 0 ? b.dy[i] : 0;
    c.clamp = false;
    op->forward(&c);
    op->backward(&c);
    for (size_t i = 0; i < n_x; i++)
        ck_assert(fabsf(dx[i] - b.dx[0][i]) <= 1e-5f * (1 + fabsf(dx[i])));
    for (int i = 0; i < b.plan.n_weights; i++)
        for (size_t j = 0; b.dw[i] && j < weight_len(&b, i); j++)
            ck_assert(fabsf(dw[i][j] - b.dw[i][j]) <= 1e-5f * (1 + fabsf(dw[i][j])));
    b.x[0][0] = NAN; /* a net that diverges is not healed */
    c.clamp = true;
    op->forward(&c);
    ck_assert(has_nan(b.y, n_y));
    mem_free(y);
    mem_free(dx);
    bench_close(&b);
}
END_TEST

START_TEST(table_is_whole)
{
    ck_assert_int_eq(plugs_check(&op_table, NULL), ERR_OK);
    for (int i = 0; i < n_rows(); i++) {
        const struct op *op = op_of(op_table.rows[i]);

        ck_assert(op->shape && op->max_in <= OP_MAX_IN && op->min_in <= op->max_in);
        ck_assert(!op->forward == !op->backward && (op->view || op->max_in == 0) == !op->forward);
        ck_assert_ptr_eq(op_find(op->plug.name), op);
    }
    ck_assert_ptr_null(op_find("conv9d"));
}
END_TEST

static double worst(float (*f)(float), double (*exact)(double), double from, double to, bool relative)
{
    double most = 0;

    for (int i = 0; i <= 20000; i++) {
        float x = (float)(from + (to - from) * i / 20000);
        double want = exact((double)x), off = fabs((double)f(x) - want);

        if (relative && want != 0)
            off /= fabs(want);
        most = off > most ? off : most;
    }
    return most;
}
static float f_exp(float x) { return simd_exp(x); }
static float f_expm1(float x) { return simd_expm1(x); }
static float f_log1p(float x) { return simd_log1p(x); }
static float f_tanh(float x) { return simd_tanh(x); }
static float f_erf(float x) { return simd_erf(x); }

START_TEST(simd_functions)
{
    ck_assert(worst(f_exp, exp, -87, 88, true) < 1e-6);
    ck_assert(worst(f_expm1, expm1, -10, 80, true) < 1e-6);
    ck_assert(worst(f_expm1, expm1, -0.01, 0.01, true) < 1e-6);
    ck_assert(worst(f_log1p, log1p, 0, 1, true) < 1e-6);
    ck_assert(worst(f_tanh, tanh, -30, 30, true) < 1e-6);
    ck_assert(worst(f_tanh, tanh, -0.01, 0.01, true) < 1e-6);
    ck_assert(worst(f_erf, erf, -6, 6, true) < 1e-6);
    ck_assert(worst(f_erf, erf, -0.01, 0.01, true) < 1e-6);
    ck_assert(isfinite(simd_exp(1e30f)) && simd_exp(-1e30f) < 1e-37f && isnan(simd_exp(NAN)));
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "ops");

    gemm_init();
    tcase_add_test(tc, table_is_whole);
    tcase_add_loop_test(tc, gradients, 0, n_rows());
    tcase_add_loop_test(tc, contract, 0, n_rows());
    tcase_add_loop_test(tc, clamp, 0, n_rows());
    tcase_add_loop_test(tc, unread, 0, n_rows());
    tcase_add_test(tc, simd_functions);
}
SUITE_MAIN("engine ops", cases)
