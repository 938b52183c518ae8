/* Ops on images and sequences: pooling for all kinds of windows, global pooling, padding, cropping, the order of channels, batch norm and layer norm over
 * channels, gates and sums, each against a plain loop in double, forward and backward, with the same bytes for any number of threads. Golden numbers from
 * PyTorch stand in test_engine_golden.c, finite differences in test_engine_ops.c. */
#include <stdio.h>
#include <string.h>

#include "core/calibrate.h"
#include "core/gemm.h"
#include "core/hessian.h"
#include "core/mem.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

enum { MAX_IN = 3, THREADS = 3, NUMBERS = 2 * 3 * 4 };

/* One op with numbers of its own; run with 1 to 4 threads. */
struct rig {
    const struct op *op;
    struct plug_value conf;
    int n, n_in;
    struct shape in[MAX_IN];
    struct op_plan plan;
    float *x[MAX_IN], *dx[MAX_IN], *y, *dy, *state, *w[OP_MAX_WEIGHTS], *dw[OP_MAX_WEIGHTS];
    struct op_call call;
};

static size_t len_x(const struct rig *r, int i) { return shape_len(&r->in[i]) * (size_t)r->n; }
static size_t len_y(const struct rig *r) { return shape_len(&r->plan.out) * (size_t)r->n; }

static enum err_code shape_of(struct rig *r, const char *op, const char *options, const struct shape *in, int n_in, struct err *e)
{
    const struct shape *at[MAX_IN];
    json_t *json = json_loads(options, 0, NULL);

    *r = (struct rig){ .op = op_find(op), .n_in = n_in };
    r->conf.plug = &r->op->plug;
    ck_assert_int_eq(params_parse(r->conf.conf, r->op->plug.conf_size, r->op->plug.params, json, NULL), ERR_OK);
    json_decref(json);
    for (int i = 0; i < n_in; i++) {
        r->in[i] = in[i];
        at[i] = &r->in[i];
    }
    return r->op->shape(r->conf.conf, at, n_in, &r->plan, e);
}

static struct op_call *rig_open(struct rig *r, const char *op, const char *options, const struct shape *in, int n_in, int n)
{
    struct err e = { 0 };
    enum err_code rc = shape_of(r, op, options, in, n_in, &e);

    ck_assert_msg(rc == ERR_OK, "%s %s: %s", op, options, e.msg);
    r->n = n;
    r->call = (struct op_call){ .conf = r->conf.conf, .n = n, .n_in = n_in, .out_shape = &r->plan.out, .training = true };
    for (int i = 0; i < n_in; i++) {
        r->x[i] = mem_vector(len_x(r, i));
        r->dx[i] = mem_vector(len_x(r, i));
        fill_normal(r->x[i], len_x(r, i), 1 + (uint32_t)i);
        fill_normal(r->dx[i], len_x(r, i), 99); /* to be overwritten */
        r->call.in_shape[i] = &r->in[i], r->call.x[i] = r->x[i], r->call.dx[i] = r->dx[i];
    }
    for (int i = 0; i < r->plan.n_weights; i++) {
        r->w[i] = mem_vector(shape_len(&r->plan.weight[i].shape));
        r->dw[i] = mem_vector(shape_len(&r->plan.weight[i].shape));
        fill_normal(r->w[i], shape_len(&r->plan.weight[i].shape), 20 + (uint32_t)i);
        r->call.w[i] = r->w[i];
        r->call.dw[i] = r->plan.weight[i].trainable ? r->dw[i] : NULL;
    }
    r->y = mem_vector(len_y(r));
    r->dy = mem_vector(len_y(r));
    r->state = mem_vector(r->plan.state_len + (size_t)n * r->plan.state_len_per_sample);
    fill_normal(r->dy, len_y(r), 10);
    r->call.y = r->y, r->call.dy = r->dy, r->call.state = r->state;
    return &r->call;
}

static void rig_close(struct rig *r)
{
    for (int i = 0; i < MAX_IN; i++)
        mem_free(r->x[i]), mem_free(r->dx[i]);
    for (int i = 0; i < OP_MAX_WEIGHTS; i++)
        mem_free(r->w[i]), mem_free(r->dw[i]);
    mem_free(r->y), mem_free(r->dy), mem_free(r->state);
}

static struct team *teams[THREADS];
static int n_teams;
static void teams_open(void)
{
    n_teams = THREADS;
    for (int k = 0; k < THREADS; k++)
        ck_assert_int_eq(team_new(&teams[k], 2 + k, NULL), ERR_OK);
}
static void teams_close(void)
{
    while (n_teams > 0)
        team_free(teams[--n_teams]);
}

/* Forward and backward, alone and with each team that is open: the same bytes. Moving statistics are put back before each run. */
static void rig_run(struct rig *r)
{
    float *y = mem_vector(len_y(r)), *dx[MAX_IN], moved[2][64];
    int n_w = r->plan.n_weights, first = n_w > 0 && !r->plan.weight[n_w - 1].trainable ? n_w - 2 : n_w;

    for (int i = first; i < n_w; i++)
        memcpy(moved[i - first], r->w[i], shape_len(&r->plan.weight[i].shape) * sizeof(float));
    for (int k = 0; k <= n_teams; k++) {
        r->call.team = k > 0 ? teams[k - 1] : NULL;
        for (int i = first; i < n_w; i++)
            memcpy(r->w[i], moved[i - first], shape_len(&r->plan.weight[i].shape) * sizeof(float));
        r->op->forward(&r->call);
        r->op->backward(&r->call);
        if (k == 0)
            memcpy(y, r->y, len_y(r) * sizeof *y);
        ck_assert_mem_eq(y, r->y, len_y(r) * sizeof *y);
        for (int i = 0; i < (r->op->same_dx ? 1 : r->n_in); i++) {
            if (k == 0) {
                dx[i] = mem_vector(len_x(r, i));
                memcpy(dx[i], r->dx[i], len_x(r, i) * sizeof(float));
            }
            ck_assert_mem_eq(dx[i], r->dx[i], len_x(r, i) * sizeof(float));
            if (k == n_teams)
                mem_free(dx[i]);
        }
    }
    mem_free(y);
}

static void near(const float *x, const double *want, size_t n, double bound, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)x[i] - want[i]) <= bound * (1 + fabs(want[i]))))
            ck_abort_msg("%s[%zu] is %.9g, must be %.9g", what, i, (double)x[i], want[i]);
}

/* ---- pooling ---- */

struct window { int h, w, pool_h, pool_w, stride_h, stride_w; bool same; };

static void place(int in, int pool, int stride, bool same, int *out, int *before)
{
    int all;

    *out = same ? (in + stride - 1) / stride : (in - pool) / stride + 1;
    all = (*out - 1) * stride + pool - in;
    *before = same && all > 0 ? all / 2 : 0;
}

/* y and dx as Keras defines them, one number after the other. */
static void reference(const struct rig *r, const struct window *k, bool max, double *y, double *dx)
{
    int oh, ow, top, left, n = r->n;

    place(k->h, k->pool_h, k->stride_h, k->same, &oh, &top);
    place(k->w, k->pool_w, k->stride_w, k->same, &ow, &left);
    memset(dx, 0, len_x(r, 0) * sizeof *dx);
    for (int c = 0; c < r->in[0].d[0]; c++)
        for (int o = 0; o < oh * ow * n; o++) {
            int i = o / n / ow * k->stride_h - top, l = o / n % ow * k->stride_w - left, count = 0;
            size_t out = (size_t)c * (size_t)(oh * ow * n) + (size_t)o, best = 0;
            double sum = 0, most = -INFINITY;

            for (int pass = 0; pass < 2; pass++)
                for (int a = i; a < i + k->pool_h; a++)
                    for (int b = l; b < l + k->pool_w; b++) {
                        size_t at = (((size_t)c * (size_t)k->h + (size_t)a) * (size_t)k->w + (size_t)b) * (size_t)n + (size_t)(o % n);

                        if (a < 0 || a >= k->h || b < 0 || b >= k->w)
                            continue;
                        if (pass == 1) {
                            dx[at] += max ? 0 : (double)r->dy[out] / count;
                            continue;
                        }
                        count++;
                        sum += (double)r->x[0][at];
                        if ((double)r->x[0][at] > most)
                            most = (double)r->x[0][at], best = at;
                    }
            y[out] = max ? most : sum / count;
            dx[best] += max ? (double)r->dy[out] : 0;
        }
}

static void check_pool(const struct window *k, bool max, int dims, int n)
{
    struct rig r;
    struct shape in = { 3, { 3, k->h, k->w } }, line = { 2, { 3, k->w } };
    char options[200];
    double *y, *dx;

    if (dims == 2)
        snprintf(options, sizeof options, "{\"pool_height\": %d, \"pool_width\": %d, \"stride_height\": %d, \"stride_width\": %d, \"padding\": \"%s\"}",
                 k->pool_h, k->pool_w, k->stride_h, k->stride_w, k->same ? "same" : "valid");
    else
        snprintf(options, sizeof options, "{\"pool_size\": %d, \"stride\": %d, \"padding\": \"%s\"}", k->pool_w, k->stride_w, k->same ? "same" : "valid");
    rig_open(&r, max ? dims == 2 ? "max_pool2d" : "max_pool1d" : dims == 2 ? "average_pool2d" : "average_pool1d", options, dims == 2 ? &in : &line, 1, n);
    for (size_t i = 0; max && i < len_x(&r, 0); i++)
        r.x[0][i] = (float)((int)(r.x[0][i] * 2)) / 2; /* with equals: the first one gets the gradient */
    rig_run(&r);
    y = mem_alloc(len_y(&r) * sizeof *y);
    dx = mem_alloc(len_x(&r, 0) * sizeof *dx);
    reference(&r, k, max, y, dx);
    near(r.y, y, len_y(&r), 1e-6, options);
    near(r.dx[0], dx, len_x(&r, 0), 1e-6, options);
    mem_free(y), mem_free(dx);
    rig_close(&r);
}

START_TEST(pools_as_keras)
{
    static const int size[][2] = { { 1, 4 }, { 5, 7 }, { 6, 8 }, { 4, 1 }, { 9, 4 } };
    const bool max = _i % 2;

    for (int s = 0; s < 5; s++)
        for (int pool = 1; pool <= 4; pool++)
            for (int stride = 1; stride <= 3; stride++) {
                struct window k = { size[s][0], size[s][1], pool, 1 + (pool + s) % 3, stride, 1 + (stride + s) % 3, _i >= 2 };

                if (k.same || (k.pool_h <= k.h && k.pool_w <= k.w))
                    check_pool(&k, max, 2, stride == 1 ? 70 : 3);
                k.h = k.pool_h = k.stride_h = 1;
                if (k.same || k.pool_w <= k.w)
                    check_pool(&k, max, 1, 5);
            }
    teams_open();
    for (int n = 1; n <= 129; n += 64) { /* the common windows, and several tiles of a channel */
        check_pool(&(struct window){ 12, 10, 2, 2, 2, 2, _i >= 2 }, max, 2, n);
        check_pool(&(struct window){ 13, 11, 2, 2, 2, 2, _i >= 2 }, max, 2, n);
        check_pool(&(struct window){ 31, 30, 2, 2, 2, 2, _i >= 2 }, max, 2, n);
        check_pool(&(struct window){ 24, 20, 2, 3, 3, 2, _i >= 2 }, max, 2, n);
    }
    teams_close();
}
END_TEST

/* A stride of 0 is the window's size. */
START_TEST(strides_follow_the_window)
{
    struct rig r;

    ck_assert_int_eq(shape_of(&r, "max_pool2d", "{\"pool_height\": 3, \"pool_width\": 2, \"stride_width\": 1}", &(struct shape){ 3, { 2, 9, 9 } }, 1, NULL), ERR_OK);
    ck_assert(r.plan.out.d[1] == 3 && r.plan.out.d[2] == 8);
    ck_assert_int_eq(shape_of(&r, "average_pool1d", "{}", &(struct shape){ 2, { 2, 9 } }, 1, NULL), ERR_OK);
    ck_assert(r.plan.out.d[0] == 2 && r.plan.out.d[1] == 4);
}
END_TEST

START_TEST(global_pools)
{
    static const struct shape shapes[] = { { 2, { 5, 7 } }, { 3, { 4, 5, 6 } }, { 4, { 3, 2, 3, 4 } } };

    teams_open();
    for (int s = 0; s < 3; s++)
        for (int max = 0; max < 2; max++) {
            struct rig r;
            size_t places, n = 67;
            double *y, *dx;

            rig_open(&r, max ? "global_max_pool" : "global_average_pool", s == 1 ? "{\"keepdims\": true}" : "{}", &shapes[s], 1, (int)n);
            ck_assert(r.plan.out.n_d == (s == 1 ? 3 : 1) && shape_len(&r.plan.out) == (size_t)shapes[s].d[0]);
            rig_run(&r);
            places = len_x(&r, 0) / len_y(&r);
            y = mem_zalloc(len_y(&r), sizeof *y);
            dx = mem_zalloc(len_x(&r, 0), sizeof *dx);
            for (size_t o = 0; o < len_y(&r); o++) {
                size_t first = o / n * places * n + o % n, best = first;

                for (size_t p = 0; p < places; p++) {
                    y[o] += (double)r.x[0][first + p * n] / (double)places;
                    dx[first + p * n] = max ? 0 : (double)r.dy[o] / (double)places;
                    best = r.x[0][first + p * n] > r.x[0][best] ? first + p * n : best;
                }
                if (max)
                    y[o] = (double)r.x[0][best], dx[best] = (double)r.dy[o];
            }
            near(r.y, y, len_y(&r), 1e-6, r.op->plug.name);
            near(r.dx[0], dx, len_x(&r, 0), 1e-6, r.op->plug.name);
            mem_free(y), mem_free(dx);
            rig_close(&r);
        }
    teams_close();
}
END_TEST

/* What is not a number is not lost on the way. */
START_TEST(not_a_number_stays)
{
    static const char *const ops[] = { "max_pool2d", "average_pool2d", "global_max_pool", "global_average_pool", "batch_norm", "layer_norm" };

    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        for (size_t at = 0; at < 8; at++) {
            struct rig r;
            int seen = 0;

            rig_open(&r, ops[i], "{}", &(struct shape){ 3, { 1, 2, 4 } }, 1, 1);
            r.x[0][at] = NAN;
            r.op->forward(&r.call);
            for (size_t o = 0; o < len_y(&r); o++)
                seen += isnan(r.y[o]);
            ck_assert_msg(seen > 0, "%s loses number %zu", ops[i], at);
            rig_close(&r);
        }
}
END_TEST

/* ---- orders, edges ---- */

static const struct { const char *op, *back, *options, *undo; struct shape in, out; } moves[] = {
    { "channels_first", "channels_last", "{}", "{}", { 3, { 4, 5, 3 } }, { 3, { 3, 4, 5 } } },
    { "channels_first", "channels_last", "{}", "{}", { 2, { 40, 3 } }, { 2, { 3, 40 } } },
    { "channels_last", "channels_first", "{}", "{}", { 4, { 2, 3, 4, 5 } }, { 4, { 3, 4, 5, 2 } } },
    { "zero_pad2d", "cropping2d", "{\"pad_top\": 2, \"pad_bottom\": 0, \"pad_left\": 1, \"pad_right\": 3}",
      "{\"crop_top\": 2, \"crop_bottom\": 0, \"crop_left\": 1, \"crop_right\": 3}", { 3, { 3, 4, 5 } }, { 3, { 3, 6, 9 } } },
    { "zero_pad1d", "cropping1d", "{\"pad_left\": 0, \"pad_right\": 2}", "{\"crop_left\": 0, \"crop_right\": 2}", { 2, { 3, 4 } }, { 2, { 3, 6 } } },
};

/* Each is undone by the other one, whose forward is its backward. */
START_TEST(moves_are_undone)
{
    struct rig there, back;

    teams_open();
    rig_open(&there, moves[_i].op, moves[_i].options, &moves[_i].in, 1, 7);
    ck_assert(shape_equal(&there.plan.out, &moves[_i].out));
    rig_run(&there);
    rig_open(&back, moves[_i].back, moves[_i].undo, &moves[_i].out, 1, 7);
    ck_assert(shape_equal(&back.plan.out, &moves[_i].in));
    memcpy(back.x[0], there.y, len_y(&there) * sizeof(float));
    back.op->forward(&back.call);
    ck_assert_mem_eq(back.y, there.x[0], len_x(&there, 0) * sizeof(float));
    memcpy(back.x[0], there.dy, len_y(&there) * sizeof(float));
    back.op->forward(&back.call);
    ck_assert_mem_eq(back.y, there.dx[0], len_x(&there, 0) * sizeof(float));
    rig_close(&there), rig_close(&back);
    teams_close();
}
END_TEST

START_TEST(places_of_moved_numbers)
{
    struct rig r;

    rig_open(&r, "channels_first", "{}", &(struct shape){ 3, { 2, 3, 4 } }, 1, 5);
    r.op->forward(&r.call);
    for (int i = 0; i < 2 * 3 * 4 * 5; i++) { /* y[c][h][w][n] */
        int n = i % 5, w = i / 5 % 3, h = i / 15 % 2, c = i / 30;

        ck_assert(r.y[i] == r.x[0][((h * 3 + w) * 4 + c) * 5 + n]);
    }
    rig_close(&r);
    rig_open(&r, "zero_pad2d", "{\"pad_top\": 2, \"pad_left\": 3}", &(struct shape){ 3, { 2, 3, 4 } }, 1, 5);
    r.op->forward(&r.call);
    for (int i = 0; i < 2 * 6 * 8 * 5; i++) {
        int n = i % 5, w = i / 5 % 8 - 3, h = i / 40 % 6 - 2, c = i / 240;
        bool inside = h >= 0 && h < 3 && w >= 0 && w < 4;

        ck_assert(r.y[i] == (inside ? r.x[0][((c * 3 + h) * 4 + w) * 5 + n] : 0));
    }
    rig_close(&r);
}
END_TEST

/* ---- norms ---- */

/* Channels of m numbers each, far from 0: y, moved statistics, and the gradients, all in double. */
static void norm_reference(const struct rig *r, const double *start, double *y, double *dx, double *dgamma, double *dbeta, double *moved)
{
    size_t m = len_x(r, 0) / (size_t)r->in[0].d[0], n_c = (size_t)r->in[0].d[0];

    for (size_t c = 0; c < n_c; c++) {
        const float *x = r->x[0] + c * m, *dy = r->dy + c * m;
        double mean = 0, variance = 0, s, sum = 0, product = 0, gamma = (double)r->w[0][c], beta = (double)r->w[1][c];

        for (size_t i = 0; i < m; i++)
            mean += (double)x[i] / (double)m;
        for (size_t i = 0; i < m; i++)
            variance += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)m;
        moved[c] = 0.99 * start[c] + 0.01 * mean;
        moved[n_c + c] = 0.99 * start[n_c + c] + 0.01 * variance;
        s = 1 / sqrt(variance + 0.001);
        for (size_t i = 0; i < m; i++) {
            double d;

            y[c * m + i] = gamma * ((double)x[i] - mean) * s + beta;
            d = r->call.clamp && y[c * m + i] <= 0 ? 0 : (double)dy[i];
            if (r->call.clamp && y[c * m + i] < 0)
                y[c * m + i] = 0;
            sum += d;
            product += d * ((double)x[i] - mean) * s;
        }
        for (size_t i = 0; i < m; i++) {
            double xh = ((double)x[i] - mean) * s, d = r->call.clamp && !(y[c * m + i] > 0) ? 0 : (double)dy[i];

            dx[c * m + i] = gamma * s * (d - (sum + xh * product) / (double)m);
        }
        dgamma[c] = product;
        dbeta[c] = sum;
    }
}

static const struct { struct shape in; int n; double mean; } norms[] = {
    { { 1, { 40 } }, 33, 3 }, { { 2, { 5, 9 } }, 64, -20 }, { { 3, { 3, 20, 41 } }, 67, 30 }, { { 3, { 17, 8, 8 } }, 1, 0 }, { { 3, { 2, 16, 16 } }, 8, 100 }
};

START_TEST(batch_norm_over_channels)
{
    struct rig r;
    size_t n_c = (size_t)norms[_i].in.d[0];
    double *y, *dx, dgamma[64], dbeta[64], moved[128], start[128], slack;

    teams_open();
    rig_open(&r, "batch_norm", "{}", &norms[_i].in, 1, norms[_i].n);
    for (size_t i = 0; i < len_x(&r, 0); i++)
        r.x[0][i] += (float)norms[_i].mean;
    for (size_t c = 0; c < n_c; c++)
        start[c] = (double)r.w[2][c], start[n_c + c] = (double)r.w[3][c];
    y = mem_alloc(len_y(&r) * sizeof *y);
    dx = mem_alloc(len_x(&r, 0) * sizeof *dx);
    slack = 2e-6 * (1 + fabs(norms[_i].mean)); /* what x itself is rounded by */
    for (int clamp = 0; clamp < 2; clamp++) {
        for (size_t c = 0; c < n_c; c++)
            r.w[2][c] = (float)start[c], r.w[3][c] = (float)start[n_c + c];
        r.call.clamp = clamp;
        rig_run(&r);
        norm_reference(&r, start, y, dx, dgamma, dbeta, moved);
        near(r.y, y, len_y(&r), slack, "y");
        if (clamp == 0 || norms[_i].mean < 50) /* else y > 0 may be decided by rounding */
            near(r.dx[0], dx, len_x(&r, 0), clamp ? 3e-4 : slack, "dx");
        near(r.w[2], moved, n_c, 1e-6, "moving mean");
        near(r.w[3], moved + n_c, n_c, 1e-5, "moving variance");
        for (size_t c = 0; c < n_c && clamp == 0; c++) {
            double scale = sqrt((double)len_x(&r, 0) / (double)n_c);

            ck_assert(fabs((double)r.dw[0][c] - dgamma[c]) <= slack * scale && fabs((double)r.dw[1][c] - dbeta[c]) <= slack * scale);
        }
    }
    mem_free(y), mem_free(dx);
    rig_close(&r);
    teams_close();
}
END_TEST

START_TEST(layer_norm_over_channels)
{
    struct rig r;
    enum { CHANNELS = 6, COLUMNS = 5 * 4 * 13 };
    const size_t n_c = CHANNELS, m = COLUMNS;
    static double y[CHANNELS * COLUMNS], dx[CHANNELS * COLUMNS];

    teams_open();
    rig_open(&r, "layer_norm", "{\"epsilon\": 0.01}", &(struct shape){ 3, { 6, 5, 4 } }, 1, 13);
    rig_run(&r);
    for (size_t j = 0; j < m; j++) {
        double mean = 0, variance = 0, s, g = 0, gx = 0;

        for (size_t c = 0; c < n_c; c++)
            mean += (double)r.x[0][c * m + j] / 6;
        for (size_t c = 0; c < n_c; c++)
            variance += ((double)r.x[0][c * m + j] - mean) * ((double)r.x[0][c * m + j] - mean) / 6;
        s = 1 / sqrt(variance + 0.01);
        for (size_t c = 0; c < n_c; c++) {
            double d = (double)r.dy[c * m + j] * (double)r.w[0][c] / 6, xh = ((double)r.x[0][c * m + j] - mean) * s;

            g += d;
            gx += d * xh;
            y[c * m + j] = (double)r.w[0][c] * xh + (double)r.w[1][c];
        }
        for (size_t c = 0; c < n_c; c++) {
            double xh = ((double)r.x[0][c * m + j] - mean) * s;

            dx[c * m + j] = s * ((double)r.dy[c * m + j] * (double)r.w[0][c] - g - xh * gx);
        }
    }
    near(r.y, y, len_y(&r), 1e-5, "y");
    near(r.dx[0], dx, len_x(&r, 0), 1e-5, "dx");
    rig_close(&r);
    teams_close();
}
END_TEST

/* Two channels of 3 x 4 positions. */
static int image_node(struct net *net, int at)
{
    struct plug_value reshape = { .plug = &op_find("reshape")->plug };
    struct reshape_conf image = { { 3, { 2, 3, 4 } } };

    memcpy(reshape.conf, &image, sizeof image);
    ck_assert_int_eq(net_add(net, op_of(reshape.plug), &reshape, "image", &at, 1, &at, NULL), ERR_OK);
    return at;
}

/* Statistics are taken anew from the samples' own, position by position. */
START_TEST(recalibrated_over_channels)
{
    enum { SAMPLES = 300, FEATURES = NUMBERS };
    static float x[SAMPLES * FEATURES], center[FEATURES], scale[FEATURES];
    static int32_t label[SAMPLES];
    struct dataset d = { .shape = { 1, { FEATURES } }, .n_features = FEATURES, .n_classes = 2, .center = center, .scale = scale,
                         .split = { { .n = SAMPLES, .x = x, .label = label } } };
    struct data_views views;
    struct net *net = net_of(FEATURES);
    struct calibration c = { .samples = SAMPLES };
    int n;

    fill_normal(x, SAMPLES * FEATURES, 5);
    for (int i = 0; i < FEATURES; i++)
        scale[i] = 1;
    ck_assert_int_eq(data_views_new(&views, &d, 0, 1, NULL), ERR_OK);
    image_node(net, 0);
    net_chain(net, "batch_norm", "", "norm");
    net_chain(net, "global_average_pool", "", "pool");
    net_init(net, 1);
    c.train = &views.train;
    ck_assert_int_eq(recalibrate_batch_norm(net, &c, &n, NULL), ERR_OK);
    ck_assert_int_eq(n, 1);
    for (int ch = 0; ch < 2; ch++) {
        double mean = 0, square = 0, count = views.train.n * 12;

        for (int i = 0; i < views.train.n; i++)
            for (int p = 0; p < 12; p++)
                mean += (double)x[i * FEATURES + ch * 12 + p] / count;
        for (int i = 0; i < views.train.n; i++)
            for (int p = 0; p < 12; p++)
                square += ((double)x[i * FEATURES + ch * 12 + p] - mean) * ((double)x[i * FEATURES + ch * 12 + p] - mean) / count;
        ck_assert(fabs((double)net_weight(net, "norm/moving_mean")->x[ch] - mean) < 1e-6);
        ck_assert(fabs((double)net_weight(net, "norm/moving_variance")->x[ch] - square) < 1e-6);
    }
    data_views_free(&views);
    net_free(net);
}
END_TEST

/* ---- several inputs ---- */

START_TEST(sums_with_the_relu_behind)
{
    struct shape in[] = { { 3, { 3, 50, 4 } }, { 3, { 3, 50, 4 } }, { 3, { 3, 50, 4 } } };

    teams_open();
    for (int n_in = 2; n_in <= 3; n_in++)
        for (int clamp = 0; clamp < 2; clamp++) {
            struct rig r;
            int off = 0;

            rig_open(&r, "add", "{}", in, n_in, 67);
            r.call.clamp = clamp;
            rig_run(&r);
            for (size_t i = 0; i < len_y(&r); i++) {
                double y = (double)r.x[0][i] + (double)r.x[1][i] + (n_in == 3 ? (double)r.x[2][i] : 0);

                off += fabs((double)r.y[i] - (clamp && y < 0 ? 0 : y)) > 1e-5 || r.dx[0][i] != (clamp && !(r.y[i] > 0) ? 0 : r.dy[i]);
            }
            ck_assert_int_eq(off, 0);
            rig_close(&r);
        }
    teams_close();
}
END_TEST

/* A number for each channel times an image, from either side. */
START_TEST(gates)
{
    static const struct shape image = { 3, { 3, 6, 5 } }, gate[] = { { 1, { 3 } }, { 3, { 3, 1, 1 } } };

    teams_open();
    for (int k = 0; k < 4; k++) {
        struct shape in[] = { k % 2 ? image : gate[k / 2], k % 2 ? gate[k / 2] : image };
        struct rig r;
        const float *x, *g, *dx, *dg;
        double sum[3 * 13] = { 0 };
        int off = 0;

        rig_open(&r, "multiply", "{}", in, 2, 13);
        ck_assert(shape_equal(&r.plan.out, &image) && r.plan.neurons == NEURONS_MERGE);
        rig_run(&r);
        x = r.x[!(k % 2)], g = r.x[k % 2], dx = r.dx[!(k % 2)], dg = r.dx[k % 2];
        for (size_t i = 0; i < len_y(&r); i++) {
            size_t at = i / (30 * 13) * 13 + i % 13;

            off += r.y[i] != x[i] * g[at] || dx[i] != r.dy[i] * g[at];
            sum[at] += (double)r.dy[i] * (double)x[i];
        }
        ck_assert_int_eq(off, 0);
        near(dg, sum, 3 * 13, 1e-5, "dx of the gate");
        rig_close(&r);
    }
    teams_close();
}
END_TEST

/* ---- second derivatives of nets of them: H v against differences of the gradient ---- */

enum { SEEN = 40, PARTS = 16 };

static struct net *image_net(void)
{
    struct net *net = net_of(NUMBERS);
    int at = image_node(net, 0), gate, more;

    at = net_with(net, "conv2d", "{\"filters\": 4, \"kernel_height\": 2, \"kernel_width\": 2, \"padding\": \"same\"}", "conv", at, -1);
    at = net_with(net, "silu", "", "silu", net_with(net, "layer_norm", "", "layer", at, -1), -1);
    more = net_with(net, "max_pool2d", "{\"stride_height\": 1, \"stride_width\": 1, \"padding\": \"same\"}", "most", at, -1);
    at = net_with(net, "add", "", "sum", net_with(net, "batch_norm", "", "norm", at, -1), more);
    gate = net_with(net, "dense", "{\"units\": 4}", "gate", net_with(net, "global_average_pool", "", "mean", at, -1), -1);
    at = net_with(net, "multiply", "", "gated", at, net_with(net, "sigmoid", "", "open", gate, -1));
    at = net_with(net, "average_pool2d", "", "pool", net_with(net, "zero_pad2d", "", "pad", at, -1), -1);
    at = net_with(net, "channels_last", "", "last", net_with(net, "cropping2d", "{\"crop_top\": 0, \"crop_left\": 0}", "crop", at, -1), -1);
    at = net_with(net, "reshape", "", "flat", at, -1);
    net_with(net, "softmax", "", "out", net_with(net, "dense", "{\"units\": 3}", "end", at, -1), -1);
    net_init(net, 4);
    return net;
}

static enum err_code add_batch(void *user, const struct probe_batch *b, struct err *e)
{
    (void)e;
    hessian_add(user, b);
    return ERR_OK;
}

static void shift(struct net *net, float *const *along, double by)
{
    for (int w = 0; w < net->n_weights; w++)
        for (size_t i = 0; along[w] && i < net->weight[w].len; i++)
            net->weight[w].x[i] = (float)((double)net->weight[w].x[i] + by * (double)along[w][i]);
}

START_TEST(hessian_of_an_image_net)
{
    static float x[SEEN * NUMBERS], center[NUMBERS], scale[NUMBERS];
    static int32_t label[SEEN];
    struct dataset d = { .shape = { 1, { NUMBERS } }, .n_features = NUMBERS, .n_classes = 3, .center = center, .scale = scale,
                         .split = { { .n = SEEN, .x = x, .label = label } } };
    const struct probe_conf conf = { SEEN, 16, true, true, 1 };
    struct data_views views;
    struct net *net = image_net();
    struct loss_binding loss;
    struct crit_net in = { .net = net, .loss = &loss };
    float *along[PARTS] = { NULL }, *product[PARTS] = { NULL }, *up[PARTS] = { NULL }, *down[PARTS] = { NULL };
    struct hessian *h;
    const double step = 1e-4; /* small: the largest of a window must stay it */

    fill_normal(x, SEEN * NUMBERS, 5);
    for (int i = 0; i < SEEN; i++)
        label[i] = i % 3;
    for (int i = 0; i < NUMBERS; i++)
        scale[i] = 1;
    ck_assert_int_eq(data_views_new(&views, &d, 0, 1, NULL), ERR_OK);
    ck_assert_int_eq(loss_bind(&loss, loss_default(net, 3), net, 3, 0, NULL), ERR_OK);
    ck_assert_int_eq(team_new(&in.team, 2, NULL), ERR_OK);
    in.train = &views.train;
    for (int w = 0; w < net->n_weights; w++) {
        float **const part[] = { &along[w], &product[w], &up[w], &down[w] };

        for (int k = 0; net->weight[w].info.prunable && k < 4; k++)
            *part[k] = mem_vector(net->weight[w].len);
        if (along[w])
            fill_normal(along[w], net->weight[w].len, 60 + (uint32_t)w);
    }
    ck_assert_int_eq(hessian_new(&h, &in, 16, 1, along, product, NULL), ERR_OK);
    ck_assert_int_eq(probe_run(&in, &conf, add_batch, h, NULL), ERR_OK);
    hessian_free(h);
    shift(net, along, step);
    ck_assert_int_eq(probe_gradient(&in, &conf, up, NULL), ERR_OK);
    shift(net, along, -2 * step);
    ck_assert_int_eq(probe_gradient(&in, &conf, down, NULL), ERR_OK);
    for (int w = 0; w < net->n_weights; w++) {
        double off = 0, all = 0;

        for (size_t i = 0; along[w] && i < net->weight[w].len; i++) {
            double want = ((double)up[w][i] - (double)down[w][i]) / (2 * step), given = (double)product[w][i] / SEEN;

            off += (want - given) * (want - given);
            all += want * want;
        }
        ck_assert_msg(off <= 4e-4 * all, "%s: off by %g of %g", net->weight[w].name, sqrt(off), sqrt(all));
        mem_free(along[w]), mem_free(product[w]), mem_free(up[w]), mem_free(down[w]);
    }
    team_free(in.team);
    data_views_free(&views);
    net_free(net);
}
END_TEST

/* ---- refusals ---- */

static const struct { const char *op, *options, *at, *word; int n_in; struct shape in, other; } wrong[] = {
    { "max_pool2d", "{}", "", "images", 1, { 2, { 4, 4 } }, { 0 } },
    { "max_pool2d", "{\"pool_height\": 5}", "/pool_height", "fit", 1, { 3, { 1, 4, 9 } }, { 0 } },
    { "average_pool2d", "{\"pool_width\": 5}", "/pool_width", "fit", 1, { 3, { 1, 9, 4 } }, { 0 } },
    { "max_pool1d", "{\"pool_size\": 5}", "/pool_size", "fit", 1, { 2, { 1, 4 } }, { 0 } },
    { "average_pool1d", "{}", "", "sequences", 1, { 3, { 4, 4, 4 } }, { 0 } },
    { "global_max_pool", "{}", "", "images", 1, { 1, { 4 } }, { 0 } },
    { "global_average_pool", "{}", "", "images", 1, { 1, { 4 } }, { 0 } },
    { "spatial_dropout", "{}", "", "images", 1, { 1, { 4 } }, { 0 } },
    { "channels_first", "{}", "", "images", 1, { 1, { 4 } }, { 0 } },
    { "batch_norm", "{\"axis\": 1}", "/axis", "channels'", 1, { 3, { 4, 4, 4 } }, { 0 } },
    { "batch_norm", "{\"axis\": 4}", "/axis", "channels'", 1, { 3, { 4, 4, 4 } }, { 0 } },
    { "layer_norm", "{\"axis\": 2}", "/axis", "channels'", 1, { 3, { 4, 4, 4 } }, { 0 } },
    { "zero_pad2d", "{}", "", "images", 1, { 2, { 4, 4 } }, { 0 } },
    { "zero_pad1d", "{}", "", "sequences", 1, { 3, { 4, 4, 4 } }, { 0 } },
    { "zero_pad2d", "{\"pad_top\": 1048576}", "", "more than", 1, { 3, { 4, 4, 2000 } }, { 0 } },
    { "cropping2d", "{\"crop_top\": 3}", "/crop_top", "left", 1, { 3, { 4, 4, 4 } }, { 0 } },
    { "cropping1d", "{\"crop_left\": 3}", "/crop_left", "left", 1, { 2, { 4, 4 } }, { 0 } },
    { "multiply", "{}", "", "multiplied", 2, { 3, { 4, 4, 4 } }, { 1, { 3 } } },
    { "multiply", "{}", "", "multiplied", 2, { 3, { 4, 4, 4 } }, { 3, { 4, 4, 1 } } },
    { "add", "{}", "", "add", 2, { 3, { 4, 4, 4 } }, { 1, { 4 } } },
};

START_TEST(refusals)
{
    struct rig r;
    struct shape in[] = { wrong[_i].in, wrong[_i].other };
    struct err e = { 0 };

    ck_assert_int_ne(shape_of(&r, wrong[_i].op, wrong[_i].options, in, wrong[_i].n_in, &e), ERR_OK);
    ck_assert_str_eq(e.at, wrong[_i].at);
    ck_assert_msg(strstr(e.msg, wrong[_i].word) != NULL, "%s: %s", wrong[_i].op, e.msg);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "pooling");

    gemm_init();
    tcase_add_loop_test(tc, pools_as_keras, 0, 4); /* average, max; valid, same */
    tcase_add_test(tc, strides_follow_the_window);
    tcase_add_test(tc, global_pools);
    tcase_add_test(tc, not_a_number_stays);
    tc = suite_case(s, "orders and edges");
    tcase_add_loop_test(tc, moves_are_undone, 0, sizeof moves / sizeof moves[0]);
    tcase_add_test(tc, places_of_moved_numbers);
    tc = suite_case(s, "norms");
    tcase_add_loop_test(tc, batch_norm_over_channels, 0, sizeof norms / sizeof norms[0]);
    tcase_add_test(tc, layer_norm_over_channels);
    tcase_add_test(tc, recalibrated_over_channels);
    tc = suite_case(s, "several inputs");
    tcase_add_test(tc, sums_with_the_relu_behind);
    tcase_add_test(tc, gates);
    tcase_add_test(tc, hessian_of_an_image_net);
    tc = suite_case(s, "refusals");
    tcase_add_loop_test(tc, refusals, 0, sizeof wrong / sizeof wrong[0]);
}
SUITE_MAIN("ops on images", cases)
