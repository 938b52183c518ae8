/* Finishing steps: laws over their table (deterministic, whole models, what they say), each one's own promise, and a job that takes them all. */
#include "core/finish.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/calibrate.h"
#include "core/fold.h"
#include "core/gemm.h"
#include "core/packed.h"
#include "tests/core/job_fixture.h"

#define SURE(holds, ...) do { if (!(holds)) ck_abort_msg(__VA_ARGS__); } while (0)

static int n_steps(void)
{
    int n = 0;

    while (finish_table.rows[n])
        n++;
    return n;
}

/* ---- a model with everything in it ---- */

#define LAYER(class, name, options, in) "{\"class_name\": \"" class "\", \"name\": \"" name "\", \"config\": {\"name\": \"" name "\"" options "}, \"inbound_nodes\": " in "}"
#define FROM(name) "[[[\"" name "\", 0, 0, {}]]]"

/* A norm that can be folded, one behind an activation, one whose input has two readers, and one that is the output's. */
static const char text[] = "{\"class_name\": \"Functional\", \"config\": {\"name\": \"m\", \"layers\": ["
    LAYER("InputLayer", "in", ", \"batch_input_shape\": [null, 12]", "[]") ","
    LAYER("Dense", "a", ", \"units\": 16, \"use_bias\": false", FROM("in")) ","
    LAYER("BatchNormalization", "fold", "", FROM("a")) "," LAYER("ReLU", "a_relu", "", FROM("fold")) ","
    LAYER("Dense", "b", ", \"units\": 16, \"activation\": \"relu\"", FROM("a_relu")) ","
    LAYER("BatchNormalization", "stay", ", \"scale\": false", FROM("b")) ","
    LAYER("Dense", "c", ", \"units\": 16", FROM("stay")) "," LAYER("BatchNormalization", "shared", "", FROM("c")) ","
    LAYER("Add", "sum", "", "[[[\"shared\", 0, 0, {}], [\"c\", 0, 0, {}]]]") ","
    LAYER("Dense", "out", ", \"units\": 1", FROM("sum")) "," LAYER("BatchNormalization", "last", ", \"center\": false", FROM("out"))
    "], \"input_layers\": [[\"in\", 0, 0]], \"output_layers\": [[\"last\", 0, 0]]}}";

static void fill(struct net *net)
{
    for (int i = 0; i < net->n_weights; i++) {
        struct weight *w = &net->weight[i];

        fill_normal(w->x, w->len, (uint32_t)i);
        for (size_t k = 0; k < w->len; k++) {
            w->x[k] *= w->info.prunable ? 0.4f : 0.2f;
            if (w->info.prunable && (k * 7919 % 10 < 7 || k / (size_t)w->info.shape.d[1] == 3))
                w->x[k] = 0; /* 70 %, and all of unit 3 */
            if (strstr(w->name, "variance") || strstr(w->name, "gamma"))
                w->x[k] = 1 + fabsf(w->x[k]);
        }
    }
    net->trained = true;
}

static struct model read_model(const char *json)
{
    json_t *doc = json_loads(json, 0, NULL);
    struct model m;
    struct err e = { 0 };

    ck_assert_msg(doc && keras_read(&m, doc, &e) == ERR_OK, "%s %s", e.at, e.msg);
    json_decref(doc);
    return m;
}

static struct model open_model(void)
{
    struct model m = read_model(text);

    fill(m.net);
    return m;
}

/* Outputs of the first 100 training samples. */
static void outputs(float out[100], struct net *net, const struct data_view *v)
{
    struct exec *x;
    int32_t label[100];
    struct data_batch b = { .label = label };

    ck_assert_int_eq(exec_new(&x, net, 100, EXEC_INFER, 0, NULL, NULL), ERR_OK);
    b.x = exec_input(x);
    data_gather(v, NULL, 0, 100, &b, NULL);
    exec_forward(x, 100, false, 0);
    memcpy(out, exec_value(x, net->n_nodes - 1), 100 * sizeof *out);
    exec_free(x);
}

static double apart(const float *a, const float *b)
{
    double most = 0, size = 0;

    for (int i = 0; i < 100; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
        size = fmax(size, fabs((double)a[i]));
    }
    return most / size;
}

struct setting { struct table *table; struct data_views views; };
static void setting_init(struct setting *s)
{
    static struct table t;

    gemm_init();
    table_init(&t, 300, 0, 0, false);
    *s = (struct setting){ .table = &t };
    ck_assert_int_eq(data_views_new(&s->views, &t.d, 0.1, 1, NULL), ERR_OK);
}

static struct export_conf conf_of(const char *json)
{
    struct export_conf c;
    struct err e = { 0 };
    json_t *j = json_loads(json, 0, NULL);

    ck_assert_msg(params_parse(&c, sizeof c, export_params, j, &e) == ERR_OK, "%s %s", e.at, e.msg);
    json_decref(j);
    return c;
}

static const char all_on[] = "{\"shrink\": true, \"recalibrate\": {\"samples\": 200}, \"fold\": true, \"quantize\": true, \"pack\": true}";

/* ---- laws ---- */

START_TEST(rows_and_fields_agree)
{
    struct export_conf off = conf_of("{}"), on = conf_of(all_on);
    struct err e = { 0 };
    json_t *dump;
    int i = 0;

    ck_assert_msg(plugs_check(&finish_table, &e) == ERR_OK && params_check(export_params, &e) == ERR_OK, "%s", e.msg);
    for (; finish_table.rows[i]; i++) {
        const struct finish_step *s = finish_of(finish_table.rows[i]);

        ck_assert_str_eq(s->plug.name, export_params[i].name);
        ck_assert(s->offset == export_params[i].offset && s->plug.params == export_params[i].sub && s->run);
        ck_assert((finish_conf(s, &off) != NULL) == (strcmp(s->plug.name, "recalibrate") == 0) && finish_conf(s, &on));
    }
    ck_assert_ptr_null(export_params[i].name);
    dump = params_dump(export_params, &on);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(dump, "recalibrate"), "samples")), 200);
    ck_assert_int_eq(params_parse(&off, sizeof off, export_params, dump, NULL), ERR_OK);
    ck_assert(memcmp(&off, &on, sizeof on) == 0);
    json_decref(dump);
}
END_TEST

/* Threads and repetition change nothing; the result is a model that can be packed and read; zeros stay zeros. */
START_TEST(deterministic_and_whole)
{
    const struct finish_step *s = finish_of(finish_table.rows[_i]);
    struct export_conf c = conf_of(all_on);
    struct setting in;
    struct packed first = { 0 };

    setting_init(&in);
    for (int threads = 1; threads < 4; threads++) {
        struct model m = open_model(), back;
        struct finish_in fin = { &in.views.train, NULL, NULL, NULL, 1000 };
        struct packed p;
        struct net_size before, after;
        struct err e = { 0 };
        json_t *report = json_object();

        net_count(m.net, &before);
        ck_assert_int_eq(team_new(&fin.team, threads, NULL), ERR_OK);
        ck_assert_msg(s->run(&m, finish_conf(s, &c), &fin, report, &e) == ERR_OK, "%s: %s", s->plug.name, e.msg);
        net_count(m.net, &after);
        ck_assert(after.nonzero <= before.nonzero && json_object_size(report) > 0 && !json_object_get(report, "skipped"));
        ck_assert_int_eq(packed_make(&p, &m, NULL, NULL), ERR_OK);
        ck_assert_int_eq(packed_read(&back, p.data, p.n, NULL), ERR_OK);
        model_clear(&back);
        if (threads == 1)
            first = p;
        else
            ck_assert_msg(p.n == first.n && memcmp(p.data, first.data, p.n) == 0, "%s: %d threads", s->plug.name, threads);
        if (threads > 1)
            packed_clear(&p);
        json_decref(report);
        team_free(fin.team);
        model_clear(&m);
    }
    packed_clear(&first);
    data_views_free(&in.views);
}
END_TEST

START_TEST(memory_fails)
{
    const struct finish_step *s = finish_of(finish_table.rows[_i]);
    struct export_conf c = conf_of(all_on);
    struct setting in;
    bool fired = true;

    setting_init(&in);
    for (long k = 1; fired; k++) {
        struct model m = open_model();
        struct finish_in fin = { &in.views.train, NULL, NULL, NULL, 1000 };
        json_t *report = json_object();
        enum err_code rc;

        mem_fail_in = k;
        rc = s->run(&m, finish_conf(s, &c), &fin, report, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert(rc == (fired ? ERR_NOMEM : ERR_OK) && m.net && m.architecture);
        json_decref(report);
        model_clear(&m);
    }
    data_views_free(&in.views);
}
END_TEST

/* How far the outputs may move: shrink and pack not at all, int8 a little; recalibration is there to move them. */
static const struct { const char *step; double most; } moves[] = { { "shrink", 1e-5 }, { "fold", 1e-5 }, { "quantize", 0.05 }, { "pack", 0 } };

START_TEST(outputs_stay)
{
    const struct finish_step *s = finish_of(plug_find(&finish_table, moves[_i].step));
    struct export_conf c = conf_of(all_on);
    struct setting in;
    struct model m = open_model();
    float before[100], after[100];
    json_t *report = json_object();
    struct finish_in fin = { NULL, NULL, NULL, NULL, 1000 };

    setting_init(&in);
    fin.train = &in.views.train;
    outputs(before, m.net, fin.train);
    ck_assert_int_eq(s->run(&m, finish_conf(s, &c), &fin, report, NULL), ERR_OK);
    outputs(after, m.net, fin.train);
    SURE(apart(before, after) <= moves[_i].most, "%s: %g", moves[_i].step, apart(before, after));
    json_decref(report);
    model_clear(&m);
    data_views_free(&in.views);
}
END_TEST

/* ---- shrinking ---- */

static const char padded[] = "{\"class_name\": \"Functional\", \"config\": {\"name\": \"m\", \"layers\": ["
    LAYER("InputLayer", "in", ", \"batch_input_shape\": [null, 12]", "[]") ","
    LAYER("Reshape", "image", ", \"target_shape\": [2, 2, 3]", FROM("in")) ","
    LAYER("Conv2D", "a", ", \"filters\": 2, \"kernel_size\": 1", FROM("image")) ","
    LAYER("Conv2D", "b", ", \"filters\": 2, \"kernel_size\": 3, \"padding\": \"same\"", FROM("a")) ","
    LAYER("Flatten", "flat", "", FROM("b")) "," LAYER("Dense", "out", ", \"units\": 1", FROM("flat"))
    "], \"input_layers\": [[\"in\", 0, 0]], \"output_layers\": [[\"out\", 0, 0]]}}";

/* A constant channel that a padded convolution reads goes if it was asked for, however much the outputs differ then; the report says so. */
START_TEST(shrinks_nearly)
{
    struct export_conf c = conf_of(_i ? "{\"shrink\": {\"approximate\": true}}" : "{\"shrink\": true}");
    struct setting in;
    struct model m = read_model(padded);
    struct finish_in fin = { NULL, NULL, NULL, NULL, 1000 };
    json_t *report = json_object();

    setting_init(&in);
    fin.train = &in.views.train;
    for (int k = 0; k < 3; k++)
        net_weight(m.net, "a/kernel")->x[k] = 0;
    net_weight(m.net, "a/bias")->x[0] = 100;
    ck_assert_int_eq(finish_of(finish_table.rows[0])->run(&m, finish_conf(finish_of(finish_table.rows[0]), &c), &fin, report, NULL), ERR_OK);
    ck_assert_int_eq(json_integer_value(json_object_get(report, "constants_approximate")), _i);
    ck_assert_int_eq(net_weight(m.net, "a/bias")->len, 2 - _i);
    ck_assert((json_real_value(json_object_get(report, "max_relative_difference")) > 0.01) == (_i == 1));
    json_decref(report);
    model_clear(&m);
    data_views_free(&in.views);
}
END_TEST

/* ---- batch norm folded ---- */

START_TEST(folds_what_follows_a_dense_layer)
{
    struct setting in;
    struct model m = open_model();
    float before[100], after[100];
    int n;

    setting_init(&in);
    outputs(before, m.net, &in.views.train);
    ck_assert_int_eq(fold_batch_norm(&m, &n, NULL), ERR_OK);
    ck_assert_int_eq(n, 2); /* "fold" and "last" */
    ck_assert(!net_weight(m.net, "fold/gamma") && !net_weight(m.net, "last/gamma") && net_weight(m.net, "a/bias"));
    ck_assert(net_weight(m.net, "stay/beta") && net_weight(m.net, "shared/gamma"));
    outputs(after, m.net, &in.views.train);
    SURE(apart(before, after) < 1e-5, "%g", apart(before, after));
    for (size_t k = 0; k < net_weight(m.net, "a/kernel")->len; k++)
        SURE(k * 7919 % 10 >= 7 || net_weight(m.net, "a/kernel")->x[k] == 0, "a zero is gone");
    ck_assert_int_eq(fold_batch_norm(&m, &n, NULL), ERR_OK);
    ck_assert_int_eq(n, 0);
    model_clear(&m);
    data_views_free(&in.views);
}
END_TEST

/* ---- codebook ---- */

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

/* A fixed point of Lloyd's iterations: each number went to the nearest code, and each code is the mean of its numbers. */
START_TEST(codebook)
{
    enum { LEN = 3000 };
    float x[LEN], old[LEN], code[300];
    double sum[300] = { 0 };
    int count[300] = { 0 }, used, n = 0;

    fill_normal(x, LEN, 5);
    for (int i = 0; i < LEN; i += 3)
        x[i] = 0;
    memcpy(old, x, sizeof x);
    ck_assert_int_eq(codebook_fit(x, LEN, _i, &used, NULL), ERR_OK);
    ck_assert(used >= 2 && used <= 1 << _i);
    for (int i = 0; i < LEN; i++) {
        int c = 0;

        SURE((old[i] == 0) == (x[i] == 0), "number %d", i);
        while (x[i] != 0 && c < n && code[c] != x[i])
            c++;
        if (x[i] == 0)
            continue;
        SURE(c < 1 << _i, "too many codes");
        code[c] = x[i];
        n = c == n ? n + 1 : n;
        sum[c] += (double)old[i];
        count[c]++;
    }
    ck_assert_int_eq(n, used);
    for (int c = 0; c < n; c++)
        SURE(fabs(sum[c] / count[c] - (double)code[c]) < 1e-5, "code %d is %g, the mean %g", c, (double)code[c], sum[c] / count[c]);
    qsort(code, (size_t)n, sizeof *code, compare);
    for (int i = 0; i < LEN; i++)
        for (int c = 0; c < n && x[i] != 0; c++)
            SURE(fabsf(old[i] - x[i]) <= fabsf(old[i] - code[c]) * 1.00001f + 1e-6f, "number %d: a nearer code", i);
    memcpy(old, x, sizeof x);
    ck_assert_int_eq(codebook_fit(x, LEN, _i, &used, NULL), ERR_OK);
    for (int i = 0; i < LEN; i++)
        SURE(fabsf(x[i] - old[i]) < 2, "number %d", i);
    memset(x, 0, sizeof x);
    ck_assert(codebook_fit(x, LEN, _i, &used, NULL) == ERR_OK && used == 0);
}
END_TEST

/* By hand: two codes, at first -1 and 3: {-1, 0.5} and {2, 3}. */
START_TEST(codebook_by_hand)
{
    float x[] = { 3, -1, 0, 2, 0.5f }, want[] = { 2.5f, -0.25f, 0, 2.5f, -0.25f };
    int used;

    ck_assert_int_eq(codebook_fit(x, 5, 1, &used, NULL), ERR_OK);
    ck_assert(used == 2 && memcmp(x, want, sizeof x) == 0);
}
END_TEST

/* ---- a job ---- */

static const json_t *step_of(const json_t *record, const char *name)
{
    const json_t *list = json_object_get(record, "finishing");

    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(list, i), "step")), name) == 0)
            return json_array_get(list, i);
    return NULL;
}

static double at(const json_t *j, const char *a, const char *b)
{
    const json_t *v = json_object_get(json_object_get(j, a), b);

    ck_assert_msg(json_is_number(v), "no number %s.%s", a, b);
    return json_number_value(v);
}

/* Whether a layer's time is that of one with a kernel. */
static bool is_dense(const json_t *record, const json_t *time)
{
    const json_t *layer;
    size_t i;

    json_array_foreach(json_object_get(record, "layers"), i, layer)
        if (json_equal(json_object_get(layer, "name"), json_object_get(time, "name")))
            return true;
    return false;
}

/* Every step is reported, and the file is the model that was judged. */
START_TEST(a_job_takes_all_steps)
{
    static const char *const packs[] = { "true", "{\"values\": \"float16\"}", "{\"values\": \"codebook\", \"bits\": 4}" };
    static struct table t;
    struct caller c;
    char options[600];
    const json_t *result, *pack, *layer;
    size_t k;
    struct file_map map;
    struct model m;

    table_init(&t, 300, 0, 100, false);
    snprintf(options, sizeof options, "{\"train\": {\"epochs\": 15, \"batch_size\": 30, \"clip_weights\": 0.4, \"optimizer\": {\"type\": \"adam\", \"learning_rate\": 0.01}}, \"prune\": {\"iterations\": 2, \"target_sparsity\": 0.6},"
             " \"export\": {\"shrink\": true, \"quantize\": %s, \"pack\": %s}}", _i == 0 ? "true" : "false", packs[_i]);
    caller_init(&c, &t, options);
    run_through(&c, 2);
    result = c.event[c.n_events - 1].record;
    for (int i = 0; i < n_steps(); i++) {
        const char *name = finish_table.rows[i]->name;
        const json_t *s = step_of(result, name);

        ck_assert_msg((s != NULL) == (strcmp(name, "fold") != 0 && (strcmp(name, "quantize") != 0 || _i == 0)), "%s", name);
        if (!s)
            continue;
        ck_assert_msg(at(s, "metrics", "accuracy") > 0.5 && at(s, "bytes", "packed") > 0 && at(s, "latency_us", "batch_1") > 0, "%s", name);
        ck_assert(json_is_number(json_object_get(s, "metric_change")) && json_is_array(json_object_get(json_object_get(s, "size"), "layers")));
    }
    json_array_foreach(json_object_get(json_object_get(result, "latency_us"), "layers"), k, layer) /* what integers save, or not */
        ck_assert((json_number_value(json_object_get(layer, "batch_128_floats")) > 0) == (_i == 0 && is_dense(result, layer)));
    pack = step_of(result, "pack");
    ck_assert(json_equal(json_object_get(pack, "metrics"), json_object_get(json_object_get(result, "chosen"), "validation")));
    ck_assert(at(pack, "file", "packed") == at(pack, "bytes", "packed") && at(result, "bytes", "packed") == at(pack, "bytes", "packed"));
    ck_assert((strcmp(json_string_value(json_object_get(json_array_get(json_object_get(result, "layers"), 0), "kernel")), "int8") == 0) == (_i == 0));
    ck_assert(json_is_number(json_object_get(json_array_get(json_object_get(c.event[1].record, "layers"), 0), "saturated")));
    ck_assert_int_eq(file_map_open(&map, c.last_weights, NULL), ERR_OK);
    ck_assert(map.len == (size_t)at(pack, "file", "packed"));
    ck_assert_int_eq(packed_read(&m, map.data, map.len, NULL), ERR_OK);
    ck_assert((m.net->weight[0].int8 != NULL) == (_i == 0));
    file_map_close(&map);
    model_clear(&m);
    caller_clear(&c);
}
END_TEST

START_TEST(nothing_to_do)
{
    static struct table t;
    struct caller c;
    const json_t *list;

    table_init(&t, 100, 0, 0, false);
    caller_init(&c, &t, "{\"train\": {\"epochs\": 1}, \"prune\": {\"iterations\": 1}, \"export\": {\"recalibrate\": false}}");
    run_through(&c, 1);
    list = json_object_get(c.event[c.n_events - 1].record, "finishing");
    ck_assert(json_is_array(list) && json_array_size(list) == 0);
    ck_assert_str_eq(c.event[c.n_events - 1].hash, c.event[c.n_events - 2].hash);
    caller_clear(&c);
}
END_TEST

static const struct { const char *json, *at; } wrong[] = {
    { "{\"shrink\": 1}", "/shrink" }, { "{\"shrink\": {\"approximate\": 1}}", "/shrink/approximate" }, { "{\"quantize\": {\"activations\": \"min\"}}", "/quantize/activations" },
    { "{\"pack\": {\"bits\": 9}}", "/pack/bits" }, { "{\"round\": true}", "/round" }, { "{\"pack\": null}", "/pack" },
};

START_TEST(refused_by_pointer)
{
    struct export_conf c = conf_of("{\"quantize\": true, \"pack\": {\"values\": \"codebook\"}}");
    json_t *j = json_loads(wrong[_i].json, 0, NULL);
    struct err e = { 0 };

    ck_assert_int_eq(export_conf_check(&c, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, "/pack/values");
    ck_assert_int_eq(params_parse(&c, sizeof c, export_params, j, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, wrong[_i].at);
    json_decref(j);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "finish");

    tcase_add_test(tc, rows_and_fields_agree);
    tcase_add_loop_test(tc, deterministic_and_whole, 0, n_steps());
    tcase_add_loop_test(tc, memory_fails, 0, n_steps());
    tcase_add_loop_test(tc, outputs_stay, 0, sizeof moves / sizeof moves[0]);
    tcase_add_loop_test(tc, shrinks_nearly, 0, 2);
    tcase_add_test(tc, folds_what_follows_a_dense_layer);
    tcase_add_loop_test(tc, codebook, 1, 9);
    tcase_add_test(tc, codebook_by_hand);
    tcase_add_loop_test(tc, a_job_takes_all_steps, 0, 3);
    tcase_add_test(tc, nothing_to_do);
    tcase_add_loop_test(tc, refused_by_pointer, 0, sizeof wrong / sizeof wrong[0]);
}
SUITE_MAIN("finish", cases)
