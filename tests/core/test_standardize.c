/* Numbers brought to a range channel by channel (core/op_standardize.c): the op against a plain loop, and what becomes of such layers where models are
 * drawn anew, made thinner, shrunk, folded, quantised and scored. What they compute in Keras' order is golden in test_keras_conv.c. */
#include "core/calibrate.h"
#include "core/compare.h"
#include "core/criterion.h"
#include "core/fold.h"
#include "core/gemm.h"
#include "core/packed.h"
#include "core/thin.h"
#include "tests/core/op_fixture.h"
#include "tests/core/shrink_fixture.h"

/* ---- the op ---- */

START_TEST(op_is_a_line)
{
    static const struct shape shapes[] = { { 1, { 30 } }, { 2, { 5, 9 } }, { 3, { 3, 7, 11 } } };
    static const char *const options[] = { "{\"given\": true}", "{}", "{\"invert\": true}" };
    double y[3000], dx[3000];

    teams_open();
    for (int k = 0; k < 9; k++) {
        struct op_line given[30];
        struct rig r;

        rig_open(&r, "standardize", options[k % 3], &shapes[k / 3], 1, 12);
        for (int c = 0; c < shapes[k / 3].d[0]; c++) {
            given[c] = (struct op_line){ (float)c, 0.5f - (float)c, 2 };
            for (int w = 0; w < r.plan.n_weights; w++)
                r.w[w][c] = w == 0 ? (float)(3 * c) : c == 0 ? 0 : 0.1f * (float)c; /* a variance of 0 has the least deviation that is taken */
        }
        r.call.given = given;
        rig_run(&r);
        for (size_t i = 0; i < len_y(&r); i++) {
            const size_t c = i / (len_y(&r) / (size_t)shapes[k / 3].d[0]);
            const double mean = 3.0 * (double)c, deviation = c == 0 ? 1e-7 : sqrt((double)(0.1f * (float)c)), x = (double)r.x[0][i];

            y[i] = k % 3 == 0 ? (x - (double)c) * (0.5 - (double)c) + 2 : k % 3 == 1 ? (x - mean) / deviation : x * deviation + mean;
            dx[i] = (double)r.dy[i] * (k % 3 == 0 ? 0.5 - (double)c : k % 3 == 1 ? 1 / deviation : deviation);
        }
        near(r.y, y, len_y(&r), 1e-6, "y");
        near(r.dx[0], dx, len_x(&r, 0), 1e-6, "dx");
        rig_close(&r);
    }
    teams_close();
}
END_TEST

/* ---- models ---- */

#define STATISTICS "{\"axis\": [-1], \"mean\": null, \"variance\": null}"
#define LISTS "{\"scale\": [1, 2, 0.5, 4], \"offset\": [0.1, -1, 3, 0]}"

/* Samples are brought to a range, and so are values further on. */
static struct model model_of_ranges(void)
{
    struct sketch s = sketch_of_shape("6, 6, 2");
    struct model m;

    add_layer(&s, "Rescaling", "first", "{\"scale\": [0.5, 2], \"offset\": [1, -1]}", "in", NULL);
    add_layer(&s, "Normalization", "second", STATISTICS, "first", NULL);
    add_layer(&s, "Conv2D", "a", "{\"filters\": 8, \"kernel_size\": 3}", "second", NULL);
    add_layer(&s, "Normalization", "a_range", STATISTICS, "a", NULL);
    add_layer(&s, "Conv2D", "b", "{\"filters\": 4, \"kernel_size\": 3}", "a_range", NULL);
    add_layer(&s, "BatchNormalization", "norm", "{}", "b", NULL);
    add_layer(&s, "Rescaling", "b_range", LISTS, "norm", NULL);
    add_layer(&s, "Flatten", "flat", "{}", "b_range", NULL);
    add_layer(&s, "Dense", "out", "{\"units\": 3}", "flat", NULL);
    m = model_of(&s);
    for (int w = 0; w < m.net->n_weights; w++) {
        fill_normal(m.net->weight[w].x, m.net->weight[w].len, 30 + (uint32_t)w);
        for (size_t i = 0; i < m.net->weight[w].len && strstr(m.net->weight[w].name, "variance"); i++)
            m.net->weight[w].x[i] = 0.2f + fabsf(m.net->weight[w].x[i]);
    }
    return m;
}

/* The largest difference of outputs, as a share of the largest output. */
static double apart(struct net *a, struct net *b)
{
    struct comparison c;

    ck_assert_int_eq(compare_nets(&c, a, b, NULL, NULL, NULL), ERR_OK);
    ck_assert(c.largest > 0);
    return compare_relative(&c);
}

/* What is known of data stays where weights are drawn anew. */
START_TEST(statistics_stay)
{
    struct model m = model_of_ranges(), thin;
    float mean[2], kernel;

    memcpy(mean, net_weight(m.net, "second/mean")->x, sizeof mean);
    kernel = net_weight(m.net, "a/kernel")->x[0];
    net_draw(m.net, 3);
    ck_assert_mem_eq(net_weight(m.net, "second/mean")->x, mean, sizeof mean);
    ck_assert(net_weight(m.net, "a/kernel")->x[0] != kernel);
    ck_assert_int_eq(model_thin(&thin, &m, THIN_PARAMS, 150, 1, NULL), ERR_OK);
    ck_assert(weight_axis(net_weight(thin.net, "a/kernel"), 0) < 8 && weight_axis(net_weight(thin.net, "b/kernel"), 0) == 4); /* the list is of 4 */
    ck_assert_mem_eq(net_weight(thin.net, "second/mean")->x, mean, sizeof mean);
    m.net->trained = false;
    net_init(m.net, 3);
    ck_assert(net_weight(m.net, "second/mean")->x[0] == 0 && net_weight(m.net, "second/variance")->x[1] == 1);
    model_clear(&thin);
    model_clear(&m);
}
END_TEST

/* Channels go with their statistics, but not where a list counts them. */
START_TEST(shrinks)
{
    struct model m = model_of_ranges(), small;
    json_t *report;

    for (int layer = 0; layer < 2; layer++) {
        struct weight *kernel = net_weight(m.net, layer ? "b/kernel" : "a/kernel");
        const size_t row = kernel->len / (size_t)weight_axis(kernel, 0);

        memset(kernel->x + row, 0, 2 * row * sizeof(float)); /* channels 1 and 2 are constant */
    }
    small = shrunk(&m, &report);
    ck_assert_int_eq(figure(report, "neurons_removed"), 2);
    ck_assert_uint_eq(net_weight(small.net, "a_range/mean")->len, 6);
    ck_assert_int_eq(weight_axis(net_weight(small.net, "b/kernel"), 0), 4);
    ck_assert(json_equal(config_of(&m, "b_range"), config_of(&small, "b_range")));
    ck_assert(apart(m.net, small.net) < 1e-5);
    json_decref(report);
    model_clear(&small);
    model_clear(&m);
}
END_TEST

START_TEST(folds_quantises_and_packs)
{
    struct model m = model_of_ranges(), back;
    struct net *before, *folded;
    struct packed p;
    struct quantized q;
    int n;

    ck_assert_int_eq(net_clone(&before, m.net, NULL), ERR_OK);
    ck_assert(apart(before, m.net) == 0);
    ck_assert_int_eq(fold_batch_norm(&m, &n, NULL), ERR_OK);
    ck_assert_int_eq(n, 1);
    ck_assert(apart(before, m.net) < 1e-5);
    ck_assert_int_eq(net_clone(&folded, m.net, NULL), ERR_OK);
    ck_assert_int_eq(quantize_net(m.net, QUANTIZE_DYNAMIC, 100, &(struct calibration){ 0 }, &q, NULL), ERR_OK);
    ck_assert(q.kernels == 3 && apart(folded, m.net) < 0.1);
    ck_assert_int_eq(packed_make(&p, &m, NULL, NULL), ERR_OK);
    ck_assert_int_eq(packed_read(&back, p.data, p.n, NULL), ERR_OK);
    ck_assert(apart(m.net, back.net) == 0);
    packed_clear(&p);
    net_free(before);
    net_free(folded);
    model_clear(&back);
    model_clear(&m);
}
END_TEST

static bool never(void *user)
{
    (void)user;
    return false;
}

/* Paths are worth the same wherever the numbers' range is. */
START_TEST(synaptic_flow_passes)
{
    struct model m = model_of_ranges();
    float *score[2][32] = { { NULL } };

    for (int k = 0; k < 2; k++) {
        struct plug_value conf;
        struct crit_net in = { .seed = 5, .step = 1, .stop = never };
        json_t *name = json_string("synflow");

        ck_assert_int_eq(plug_parse(&conf, &criterion_table, name, NULL), ERR_OK);
        in.conf = conf.conf;
        ck_assert_int_eq(net_clone(&in.net, m.net, NULL), ERR_OK);
        for (int i = 0; i < in.net->n_nodes && k > 0; i++)
            for (int c = 0; c < in.net->node[i].plan.n_lines; c++)
                in.net->node[i].given[c] = (struct op_line){ 0, 1, 0 };
        for (int w = 0; w < in.net->n_weights; w++)
            score[k][w] = in.net->weight[w].info.prunable ? mem_vector(in.net->weight[w].len) : NULL;
        ck_assert_int_eq(criterion_of(conf.plug)->score_net(&in, score[k], NULL), ERR_OK);
        net_free(in.net);
        json_decref(name);
    }
    for (int w = 0; w < m.net->n_weights; w++) {
        for (size_t i = 0; score[0][w] && i < m.net->weight[w].len; i++)
            ck_assert(isfinite(score[0][w][i]) && score[0][w][i] == score[1][w][i]);
        mem_free(score[0][w]);
        mem_free(score[1][w]);
    }
    model_clear(&m);
}
END_TEST

/* Keras also saves how many samples the statistics are of: nobody needs it, and it may be there. */
START_TEST(count_is_passed_over)
{
    static const char *const names[] = { "second/count", "a_range/count:0", "a/count", "second/counts", "count" };
    struct model m = model_of_ranges();

    for (int i = 0; i < 5; i++) {
        char path[64];
        struct model back = { NULL };
        struct file_out *f;
        struct err e = { 0 };
        json_t *doc;
        char *text;
        enum err_code rc;

        snprintf(path, sizeof path, "/tmp/espalier-standardize-%ld", (long)getpid());
        ck_assert_int_eq(file_out_new(&f, path, NULL), ERR_OK);
        ck_assert_int_eq(document_write(&m, f, NULL), ERR_OK);
        ck_assert_int_eq(file_out_publish(f, NULL, NULL), ERR_OK);
        file_out_free(f);
        doc = json_load_file(path, 0, NULL);
        unlink(path);
        json_object_set_new(json_object_get(doc, "weights"), names[i], json_pack("{s:[],s:i}", "shape", "data", 12));
        text = json_dumps(doc, 0);
        rc = document_read(&back, text, strlen(text), &e);
        ck_assert_msg(i < 2 ? rc == ERR_OK : rc == ERR_INVALID && strstr(e.msg, "not in the model"), "%s: %s %s", names[i], e.at, e.msg);
        ck_assert_int_eq(model_passes_over(m.net, names[i]), i < 2);
        ck_assert(i >= 2 || apart(m.net, back.net) == 0);
        free(text);
        json_decref(doc);
        model_clear(&back);
    }
    model_clear(&m);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "standardize");

    gemm_init();
    tcase_add_test(tc, op_is_a_line);
    tcase_add_test(tc, statistics_stay);
    tcase_add_test(tc, shrinks);
    tcase_add_test(tc, folds_quantises_and_packs);
    tcase_add_test(tc, synaptic_flow_passes);
    tcase_add_test(tc, count_is_passed_over);
}
SUITE_MAIN("standardize", cases)
