/* Norms over channels, sums and gates, each against a plain loop in double, with the same bytes for any number of threads; statistics taken anew, and
 * second derivatives of a net of them. Golden numbers from PyTorch stand in test_engine_golden.c, finite differences in test_engine_ops.c. */
#include "core/calibrate.h"
#include "core/hessian.h"
#include "tests/core/op_fixture.h"

enum { NUMBERS = 2 * 3 * 4 };

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
    const struct probe_conf conf = { SEEN, 16, PROBE_ALL, true, 1 };
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

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "norms");

    gemm_init();
    tcase_add_loop_test(tc, batch_norm_over_channels, 0, sizeof norms / sizeof norms[0]);
    tcase_add_test(tc, layer_norm_over_channels);
    tcase_add_test(tc, recalibrated_over_channels);
    tc = suite_case(s, "several inputs");
    tcase_add_test(tc, sums_with_the_relu_behind);
    tcase_add_test(tc, gates);
    tcase_add_test(tc, hessian_of_an_image_net);
}
SUITE_MAIN("norms and merges", cases)
