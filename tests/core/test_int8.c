/* Kernels in integers: numpy's numbers to the last bit, at every level of vector code, for any team and batch; the structure; and what quantising
 * a net promises. Convolutions' products stand in test_conv.c. */
#include "core/int8.h"

#include "core/calibrate.h"
#include "core/mem.h"
#include "tests/core/train_fixture.h"
#include "tests/engine_net.h"

#define N(a) ((int)(sizeof(a) / sizeof(a)[0]))
#define SURE(holds, ...) do { if (!(holds)) ck_abort_msg(__VA_ARGS__); } while (0)

/* ---- golden ---- */

static float *floats(const json_t *j, const char *key)
{
    const json_t *list = json_object_get(j, key);
    float *x = mem_vector(json_array_size(list));

    for (size_t i = 0; i < json_array_size(list); i++)
        x[i] = (float)json_number_value(json_array_get(list, i));
    return x;
}

static void check_golden(const json_t *j)
{
    const int rows = (int)json_integer_value(json_object_get(j, "rows")), cols = (int)json_integer_value(json_object_get(j, "cols"));
    const int n = (int)json_integer_value(json_object_get(j, "n"));
    const json_t *range = json_object_get(j, "range");
    float *w = floats(j, "w"), *b = floats(j, "b"), *x = floats(j, "x"), *q = floats(j, "q"), *scale = floats(j, "scale"), *y = floats(j, "y");
    float *got = mem_vector((size_t)rows * (size_t)n), *s = mem_vector((size_t)rows);
    int8_t *ours = mem_alloc((size_t)rows * (size_t)cols);
    struct int8 *k;

    for (int r = 0; r < rows; r++) {
        s[r] = int8_row_scale(w + r * cols, cols);
        int8_row(ours + r * cols, w + r * cols, s[r], cols);
        SURE(s[r] == scale[r], "scale %d: %.9g, not %.9g", r, (double)s[r], (double)scale[r]);
    }
    for (int i = 0; i < rows * cols; i++)
        SURE((float)ours[i] == q[i] && (w[i] != 0 || ours[i] == 0), "integer %d: %d, not %g", i, ours[i], (double)q[i]);
    ck_assert_int_eq(int8_new(&k, ours, s, rows, cols, NULL), ERR_OK);
    if (json_is_array(range))
        k->input = int8_scale_of((float)json_number_value(json_array_get(range, 0)), (float)json_number_value(json_array_get(range, 1)));
    int8_forward(k, x, b, got, n, NULL);
    for (int i = 0; i < rows * n; i++)
        SURE(got[i] == y[i], "output %d: %.9g, not %.9g", i, (double)got[i], (double)y[i]);
    int8_free(k);
    float *all[] = { w, b, x, q, scale, y, got, s };
    for (int i = 0; i < N(all); i++)
        mem_free(all[i]);
    mem_free(ours);
}

START_TEST(golden)
{
    json_t *cases = json_load_file(GOLDEN_DIR "/int8.json", 0, NULL), *j;
    size_t i;

    int8_skip_levels = _i;
    ck_assert_uint_ge(json_array_size(cases), 4);
    json_array_foreach(cases, i, j)
        check_golden(j);
    json_decref(cases);
}
END_TEST

/* ---- all ways to the same bytes ---- */

struct layer { int rows, cols; int8_t *q; float *scale; struct int8 *k; };

static void layer_init(struct layer *l, int rows, int cols, double density)
{
    const struct rng r = { 7, RNG_TEST, 1, 0 };

    *l = (struct layer){ rows, cols, mem_alloc((size_t)rows * (size_t)cols), mem_vector((size_t)rows), NULL };
    for (int i = 0; i < rows * cols; i++)
        l->q[i] = (int8_t)(rng_unit(&r, 2 * (uint64_t)i) < density ? (int)rng_below(&r, 2 * (uint64_t)i + 1, 255) - 127 : 0);
    for (int i = 0; i < rows; i++)
        l->scale[i] = 0.01f * (float)(1 + i % 5);
    ck_assert_int_eq(int8_new(&l->k, l->q, l->scale, rows, cols, NULL), ERR_OK);
}

static void layer_clear(struct layer *l)
{
    int8_free(l->k);
    mem_free(l->q);
    mem_free(l->scale);
}

/* The plain loop. */
static void naive(const struct layer *l, const float *x, float *y, int n)
{
    for (int j = 0; j < n; j++) {
        float low = 0, high = 0;
        struct int8_scale s;

        for (int c = 0; c < l->cols; c++) {
            low = fminf(low, x[c * n + j]);
            high = fmaxf(high, x[c * n + j]);
        }
        s = int8_scale_of(low, high);
        for (int r = 0; r < l->rows; r++) {
            int64_t sum = 0;

            for (int c = 0; c < l->cols; c++) {
                float v = x[c * n + j] * (1 / s.s);

                v = fminf(fmaxf(v, s.zero ? -127 : 0), s.zero ? 127 : 255);
                sum += (int64_t)l->q[r * l->cols + c] * lrintf(v);
            }
            y[r * n + j] = (float)sum * (s.s * l->scale[r]);
        }
    }
}

static const int shape[][2] = { { 1, 1 }, { 10, 100 }, { 7, 33 }, { 3, 64 }, { 33, 130 } };
static const double density[] = { 0, 0.02, 0.1, 0.6, 1 };
static const int batch[] = { 1, 2, 15, 16, 17, 64, 100, 128, 130, 257 };

START_TEST(every_way_the_same_bytes)
{
    struct team *team;

    int8_skip_levels = _i;
    ck_assert_int_eq(team_new(&team, 3, NULL), ERR_OK);
    for (int s = 0; s < N(shape); s++)
        for (int d = 0; d < N(density); d++)
            for (int b = 0; b < N(batch); b++) {
                const int rows = shape[s][0], cols = shape[s][1], n = batch[b];
                float *x = mem_vector((size_t)cols * (size_t)n), *want = mem_vector((size_t)rows * (size_t)n);
                float *y = mem_vector((size_t)rows * (size_t)n);
                struct layer l;

                layer_init(&l, rows, cols, density[d]);
                fill_normal(x, (size_t)cols * (size_t)n, 3);
                for (int c = 0; c < cols; c++)
                    x[c * n] = fabsf(x[c * n]); /* a sample without negative numbers */
                naive(&l, x, want, n);
                int8_forward(l.k, x, NULL, y, n, d % 2 ? team : NULL);
                SURE(memcmp(y, want, (size_t)rows * (size_t)n * sizeof *y) == 0, "%s: %dx%d n %d density %g", int8_level_name(_i), rows, cols, n,
                     density[d]);
                layer_clear(&l);
                mem_free(x);
                mem_free(y);
                mem_free(want);
            }
    team_free(team);
}
END_TEST

START_TEST(widest_sums_do_not_overflow)
{
    const int cols = INT8_MAX_COLS;
    int8_t *q = mem_alloc((size_t)cols);
    float scale = 1, *x = mem_vector((size_t)cols), y;
    struct int8 *k;

    int8_skip_levels = _i;
    for (int sign = -1; sign <= 1; sign += 2) {
        memset(q, sign * 127, (size_t)cols);
        for (int i = 0; i < cols; i++)
            x[i] = 1;
        ck_assert_int_eq(int8_new(&k, q, &scale, 1, cols, NULL), ERR_OK);
        int8_forward(k, x, NULL, &y, 1, NULL);
        ck_assert_float_eq(y, (float)(sign * 127LL * 255 * cols) * (1.0f / 255));
        x[0] = -1;
        int8_forward(k, x, NULL, &y, 1, NULL);
        ck_assert_float_eq(y, (float)(sign * 127LL * 127 * (cols - 2)) * (1.0f / 127));
        int8_free(k);
    }
    ck_assert_int_eq(int8_new(&k, q, &scale, 1, cols + 1, NULL), ERR_UNSUPPORTED);
    ck_assert_ptr_null(k);
    mem_free(q);
    mem_free(x);
}
END_TEST

START_TEST(memory)
{
    const struct int8_window window = int8_window_of(5, 3, 2);
    struct layer l;
    bool fired = true;

    layer_init(&l, 20, 30, 0.2);
    for (long i = 1; fired; i++) {
        struct int8 *k;
        enum err_code rc;

        mem_fail_in = i;
        rc = _i ? int8_new_conv(&k, l.q, l.scale, 20, 10, &window, NULL) : int8_new(&k, l.q, l.scale, 20, 30, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert(rc == (fired ? ERR_NOMEM : ERR_OK) && (k == NULL) == fired);
        int8_free(k);
    }
    layer_clear(&l);
}
END_TEST

/* ---- a net ---- */

static struct calibration samples_of(const struct fixture *f, int64_t n) { return (struct calibration){ &f->views.train, n, f->team, NULL, NULL }; }

START_TEST(a_quantised_net)
{
    static const enum quantize_mode modes[] = { QUANTIZE_DYNAMIC, QUANTIZE_MAX, QUANTIZE_PERCENTILE };
    struct fixture *f = open_fixture("{'epochs': 2}", 900, 40, true, 2);
    struct calibration c = samples_of(f, 300);
    struct metrics before, after;
    struct quantized report;
    struct exec *x;
    struct net *kept;
    uint64_t zeros = 0;

    trainer_free(f->trainer);
    f->trainer = NULL;
    ck_assert_int_eq(exec_new(&x, f->net, 100, EXEC_INFER, 0, f->team, NULL), ERR_OK);
    ck_assert_int_eq(metrics_evaluate(&before, x, f->net, &f->loss, &f->views.validation, f->team, NULL, NULL, NULL), ERR_OK);
    ck_assert_int_eq(net_clone(&kept, f->net, NULL), ERR_OK);
    ck_assert_int_eq(quantize_net(f->net, modes[_i], 99.9, &c, &report, NULL), ERR_OK);
    ck_assert_int_eq(report.kernels, 2);
    for (int i = 0; i < f->net->n_weights; i++) {
        struct weight *w = &f->net->weight[i], *old = &kept->weight[i];

        ck_assert_int_eq(w->int8 != NULL, w->info.prunable);
        ck_assert((!w->int8 && memcmp(w->x, old->x, w->len * sizeof(float)) == 0) || (w->int8 && (w->int8->input.s == 0) == (_i == 0)));
        for (size_t k = 0; w->int8 && k < w->len; k++) {
            zeros += old->x[k] == 0;
            SURE(old->x[k] != 0 || w->x[k] == 0, "a zero of %s is gone", w->name);
            SURE(fabsf(w->x[k] - old->x[k]) <= 0.5001f * w->int8->scale[k / (size_t)w->int8->cols], "%s[%zu]", w->name, k);
            SURE(w->x[k] == (float)w->int8->q[k] * w->int8->scale[k / (size_t)w->int8->cols], "%s[%zu] is no multiple", w->name, k);
        }
    }
    ck_assert_uint_eq(report.pruned, zeros);
    ck_assert_int_eq(metrics_evaluate(&after, x, f->net, &f->loss, &f->views.validation, f->team, NULL, NULL, NULL), ERR_OK);
    ck_assert_double_eq_tol(before.value[METRIC_LOSS], after.value[METRIC_LOSS], 0.02);
    metrics_clear(&before);
    metrics_clear(&after);
    net_free(kept);
    exec_free(x);
    close_fixture(f);
}
END_TEST

START_TEST(batch_does_not_matter)
{
    struct fixture *f = open_fixture("{'epochs': 1}", 400, 20, true, 2);
    struct calibration c = samples_of(f, 100);
    struct metrics m[2];
    struct quantized report;
    struct exec *x;

    trainer_free(f->trainer);
    f->trainer = NULL;
    ck_assert_int_eq(quantize_net(f->net, QUANTIZE_DYNAMIC, 100, &c, &report, NULL), ERR_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(exec_new(&x, f->net, i ? 1 : 130, EXEC_INFER, 0, i ? NULL : f->team, NULL), ERR_OK);
        ck_assert_int_eq(metrics_evaluate(&m[i], x, f->net, &f->loss, &f->views.validation, NULL, NULL, NULL, NULL), ERR_OK);
        exec_free(x);
    }
    ck_assert(memcmp(m[0].value, m[1].value, sizeof m[0].value) == 0);
    metrics_clear(&m[0]);
    metrics_clear(&m[1]);
    close_fixture(f);
}
END_TEST

/* ---- convolutions ---- */

enum { IMAGES = 150, PIXELS = 3 * 6 * 8 };

struct images { struct dataset d; struct data_views views; struct net *net; };

static void images_init(struct images *im)
{
    static float x[IMAGES * PIXELS], center[PIXELS], scale[PIXELS];
    static int32_t label[IMAGES];
    struct plug_value reshape = { .plug = &op_find("reshape")->plug };
    struct reshape_conf image = { { 3, { 3, 6, 8 } } };
    int at = 0;

    fill_normal(x, IMAGES * PIXELS, 5);
    for (int i = 0; i < PIXELS; i++)
        scale[i] = 1;
    im->d = (struct dataset){ .shape = { 1, { PIXELS } }, .n_features = PIXELS, .n_classes = 2, .center = center, .scale = scale,
                              .split = { { .n = IMAGES, .x = x, .label = label } } };
    ck_assert_int_eq(data_views_new(&im->views, &im->d, 0, 1, NULL), ERR_OK);
    im->net = net_of(PIXELS);
    memcpy(reshape.conf, &image, sizeof image);
    ck_assert_int_eq(net_add(im->net, op_of(reshape.plug), &reshape, "image", &at, 1, &at, NULL), ERR_OK);
    net_chain(im->net, "conv2d", "{\"filters\": 9, \"kernel_height\": 3, \"kernel_width\": 3, \"padding\": \"same\"}", "a");
    net_chain(im->net, "relu", "", "a");
    net_chain(im->net, "depthwise_conv2d", "{\"kernel_height\": 3, \"kernel_width\": 3, \"stride_width\": 2, \"depth_multiplier\": 2}", "b");
    net_chain(im->net, "conv2d", "{\"filters\": 6, \"kernel_height\": 2, \"kernel_width\": 1, \"groups\": 3, \"use_bias\": false}", "c");
    net_chain(im->net, "relu", "", "c");
    net_chain(im->net, "dense", "{\"units\": 7}", "d");
    net_chain(im->net, "relu", "", "d");
    net_chain(im->net, "global_average_pool", "", "pool");
    net_chain(im->net, "dense", "{\"units\": 5}", "out");
    net_init(im->net, 1);
    for (struct weight *w = im->net->weight; w < im->net->weight + im->net->n_weights; w++)
        for (size_t k = 0; k < w->len && w->info.prunable; k += 3)
            w->x[k] = 0;
}

static void images_clear(struct images *im)
{
    net_free(im->net);
    data_views_free(&im->views);
}

static void predict(struct images *im, float *y, int size, struct team *team)
{
    struct data_batch b = { .label = mem_alloc(IMAGES * sizeof(int32_t)) };
    struct exec *x;

    ck_assert_int_eq(exec_new(&x, im->net, size, EXEC_INFER, 0, team, NULL), ERR_OK);
    b.x = exec_input(x);
    for (int first = 0; first < IMAGES; first += size) {
        const int n = IMAGES - first < size ? IMAGES - first : size;

        data_gather(&im->views.train, NULL, first, n, &b, NULL);
        exec_forward(x, n, false, 0);
        for (int k = 0; k < 5; k++)
            for (int i = 0; i < n; i++)
                y[5 * (first + i) + k] = exec_value(x, im->net->n_nodes - 1)[k * n + i];
    }
    mem_free(b.label);
    exec_free(x);
}

/* All kernels; zeros stay, outputs move a little, and are the same bytes for any batch and team. */
START_TEST(quantised_convolutions)
{
    static const enum quantize_mode modes[] = { QUANTIZE_DYNAMIC, QUANTIZE_MAX, QUANTIZE_PERCENTILE };
    static const int batches[] = { 1, 3, 64, 100 };
    float before[5 * IMAGES], after[5 * IMAGES], again[5 * IMAGES];
    double most = 0, size = 0;
    struct images im;
    struct calibration c;
    struct quantized report;
    struct net *kept;
    struct team *team;

    images_init(&im);
    c = (struct calibration){ .train = &im.views.train, .samples = IMAGES };
    predict(&im, before, IMAGES, NULL);
    ck_assert_int_eq(net_clone(&kept, im.net, NULL), ERR_OK);
    ck_assert_int_eq(quantize_net(im.net, modes[_i], 99.99, &c, &report, NULL), ERR_OK);
    ck_assert_int_eq(report.kernels, 5);
    for (int i = 0; i < im.net->n_weights; i++) {
        const struct weight *w = &im.net->weight[i];

        for (size_t k = 0; w->int8 && k < w->len; k++)
            SURE((kept->weight[i].x[k] != 0 || w->x[k] == 0) && w->x[k] == (float)w->int8->q[k] * w->int8->scale[k / (size_t)w->int8->cols], "%s", w->name);
    }
    predict(&im, after, IMAGES, NULL);
    for (int i = 0; i < 5 * IMAGES; i++) {
        most = fmax(most, fabs((double)before[i] - (double)after[i]));
        size = fmax(size, fabs((double)before[i]));
    }
    SURE(most < 0.05 * size && most > 0, "%g of %g", most, size);
    ck_assert_int_eq(team_new(&team, 3, NULL), ERR_OK);
    for (int b = 0; b < N(batches); b++) {
        predict(&im, again, batches[b], team);
        SURE(memcmp(again, after, sizeof after) == 0, "batches of %d", batches[b]);
    }
    team_free(team);
    net_free(kept);
    images_clear(&im);
}
END_TEST

/* ---- batch norm ---- */

/* By the definition: the mean and variance of each norm's input over all samples, the norms before it already set. */
START_TEST(pooled_statistics)
{
    struct fixture *f = open_fixture("{'epochs': 1}", 700, 10, true, _i);
    struct calibration c = samples_of(f, 1000);
    const int n = f->views.train.n, width = 10;
    struct weight *kernel = net_weight(f->net, "dense/kernel"), *mean = net_weight(f->net, "norm/moving_mean");
    struct weight *variance = net_weight(f->net, "norm/moving_variance");
    int layers;

    trainer_free(f->trainer);
    f->trainer = NULL;
    for (int u = 0; u < width; u++)
        mean->x[u] = 1e6f, variance->x[u] = 77;
    ck_assert_int_eq(recalibrate_batch_norm(f->net, &c, &layers, NULL), ERR_OK);
    ck_assert_int_eq(layers, 1);
    for (int u = 0; u < width; u++) {
        double sum = 0, squares = 0;

        for (int i = 0; i < n; i++) {
            double z = 0;

            for (int k = 0; k < FEATURES; k++)
                z += (double)kernel->x[u * FEATURES + k] * (double)f->x[f->views.train.index[i] * FEATURES + (uint32_t)k];
            sum += z;
            squares += z * z;
        }
        sum /= n;
        ck_assert_double_eq_tol((double)mean->x[u], sum, 1e-5);
        ck_assert_double_eq_tol((double)variance->x[u], squares / n - sum * sum, 1e-5);
    }
    close_fixture(f);
}
END_TEST

START_TEST(failures_leave_nothing)
{
    struct fixture *f = open_fixture("{'epochs': 1}", 300, 10, true, 1);
    struct calibration c = samples_of(f, 100);
    bool fired = true;

    trainer_free(f->trainer);
    f->trainer = NULL;
    for (long i = 1; fired; i++) {
        struct quantized report;
        int layers;
        enum err_code rc;

        mem_fail_in = i;
        rc = recalibrate_batch_norm(f->net, &c, &layers, NULL);
        if (rc == ERR_OK)
            rc = quantize_net(f->net, QUANTIZE_PERCENTILE, 99, &c, &report, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_int_eq(rc, fired ? ERR_NOMEM : ERR_OK);
    }
    close_fixture(f);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "int8");

    tcase_add_loop_test(tc, golden, 0, int8_n_levels());
    tcase_add_loop_test(tc, every_way_the_same_bytes, 0, int8_n_levels());
    tcase_add_loop_test(tc, widest_sums_do_not_overflow, 0, int8_n_levels());
    tcase_add_loop_test(tc, memory, 0, 2);
    tcase_add_loop_test(tc, a_quantised_net, 0, 3);
    tcase_add_test(tc, batch_does_not_matter);
    tcase_add_loop_test(tc, quantised_convolutions, 0, 3);
    tcase_add_loop_test(tc, pooled_statistics, 1, 3);
    tcase_add_test(tc, failures_leave_nothing);
}
SUITE_MAIN("int8", cases)
