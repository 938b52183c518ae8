/* Windows of images and sequences: pooling of all kinds, global pooling, padding, cropping, the order of channels, each against a plain loop in double,
 * forward and backward, with the same bytes for any number of threads; and what ops refuse. Golden numbers from PyTorch stand in test_engine_golden.c,
 * finite differences in test_engine_ops.c. */
#include "tests/core/op_fixture.h"

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
    tc = suite_case(s, "refusals");
    tcase_add_loop_test(tc, refusals, 0, sizeof wrong / sizeof wrong[0]);
}
SUITE_MAIN("ops on images", cases)
