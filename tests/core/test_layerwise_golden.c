/* Layerwise criteria (wanda, sparsegpt, obs): the numbers of tests/golden/layerwise.py, and one vector by hand. */
#include "tests/core/layerwise_fixture.h"

/* ---- golden numbers ---- */

static const struct golden_bound bound = { 1e-6, 2e-5 };

static json_t *golden_open(struct bench *b)
{
    json_t *g = json_load_file(GOLDEN_DIR "/layerwise.json", 0, NULL);
    static const int size[] = { 10, 6, CLASSES };
    int n = (int)json_integer_value(json_object_get(g, "n"));

    bench_open(b, size, 2, n, true);
    golden_floats(b->x, json_object_get(g, "x"), (size_t)(n * size[0]));
    for (size_t l = 0; l < 2; l++) {
        golden_floats(b->net->weight[2 * l].x, json_array_get(json_object_get(g, "kernel"), l), b->net->weight[2 * l].len);
        golden_floats(b->net->weight[2 * l + 1].x, json_array_get(json_object_get(g, "bias"), l), b->net->weight[2 * l + 1].len);
    }
    return g;
}

static const struct { const char *name, *conf; } golden_scores[] = {
    { "wanda_row", "\"wanda\"" }, { "wanda_kernel", "{\"type\": \"wanda\", \"compare\": \"kernel\"}" }, { "sparsegpt", "\"sparsegpt\"" }, { "obs", "\"obs\"" },
};

START_TEST(scores_are_golden)
{
    struct plug_value conf = conf_of(golden_scores[_i].conf);
    struct bench b;
    json_t *g = golden_open(&b), *want = json_object_get(json_object_get(g, "scores"), golden_scores[_i].name);
    struct crit_net in = in_of(&b, &conf, NULL);
    float s[2][60], *score[4] = { s[0], NULL, s[1], NULL };

    ck_assert_int_eq(criterion_of(conf.plug)->score_net(&in, score, NULL), ERR_OK);
    for (size_t l = 0; l < 2; l++) {
        const struct weight *w = &b.net->weight[2 * l];

        for (size_t k = 0; k < w->len; k++) /* scores of zeros do not matter */
            s[l][k] = w->x[k] == 0 ? (float)json_number_value(json_array_get(json_array_get(want, l), k)) : s[l][k];
        golden_near(s[l], json_array_get(want, l), w->len, golden_scores[_i].name, bound);
    }
    json_decref(g);
    bench_close(&b);
}
END_TEST

START_TEST(solutions_are_golden)
{
    static const char *const confs[] = { "{\"type\": \"sparsegpt\", \"block\": 4}", "\"obs\"" };
    struct plug_value conf = conf_of(confs[_i]);
    struct bench b;
    json_t *g = golden_open(&b), *want = json_object_get(json_object_get(g, "solved"), conf.plug->name);
    struct crit_net in = in_of(&b, &conf, NULL);

    for (int l = 0; l < 2; l++) {
        uint64_t go = (uint64_t)json_integer_value(json_array_get(json_object_get(g, "go"), (size_t)l));
        const struct weight *kernel = &b.net->weight[2 * l];

        ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 2 * l, go, NULL), ERR_OK);
        ck_assert_uint_eq(n_masked(kernel), go);
        golden_near(kernel->x, json_array_get(json_object_get(want, "kernel"), (size_t)l), kernel->len, kernel->name, bound);
        golden_near(kernel[1].x, json_array_get(json_object_get(want, "bias"), (size_t)l), kernel[1].len, kernel[1].name, bound);
    }
    json_decref(g);
    bench_close(&b);
}
END_TEST

START_TEST(runs_are_golden)
{
    struct bench b;
    json_t *g = golden_open(&b), *want = json_array_get(json_object_get(g, "solved_runs"), (size_t)_i);
    char name[40];
    struct plug_value conf;
    struct crit_net in;

    snprintf(name, sizeof name, "\"%s\"", json_string_value(json_object_get(want, "criterion")));
    conf = conf_of(name);
    in = in_of(&b, &conf, NULL);
    in.runs = (struct unit_runs){ 4, 2 };
    for (int l = 0; l < 2; l++) {
        uint64_t go = (uint64_t)json_integer_value(json_array_get(json_object_get(want, "go"), (size_t)l));
        const struct weight *kernel = &b.net->weight[2 * l];

        ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 2 * l, go, NULL), ERR_OK);
        ck_assert(n_masked(kernel) == go && keeps_runs(kernel, in.runs));
        golden_near(kernel->x, json_array_get(json_object_get(want, "kernel"), (size_t)l), kernel->len, kernel->name, bound);
        golden_near(kernel[1].x, json_array_get(json_object_get(want, "bias"), (size_t)l), kernel[1].len, kernel[1].name, bound);
    }
    json_decref(g);
    bench_close(&b);
}
END_TEST

/* ---- convolutions ---- */

enum { CONVS = 4 };

/* Golden net number i; *of: of json, which the caller releases. */
static json_t *golden_conv(struct bench *b, int i, const json_t **of)
{
    json_t *g = json_load_file(GOLDEN_DIR "/layerwise.json", 0, NULL), *c = json_array_get(json_object_get(g, "convs"), (size_t)i);
    const char *op = json_string_value(json_object_get(c, "op"));
    struct shape shape = { 3, { 0 } };
    int n = (int)json_integer_value(json_object_get(c, "n"));
    char *options = json_dumps(json_object_get(c, "options"), 0);

    for (int k = 0; k < 3; k++)
        shape.d[k] = (int)json_integer_value(json_array_get(json_object_get(c, "image"), (size_t)k));
    if (strcmp(op, "conv1d") == 0)
        shape = (struct shape){ 2, { shape.d[0], shape.d[2] } };
    conv_open(b, &shape, n, op, options);
    golden_floats(b->x, json_object_get(c, "x"), (size_t)n * shape_len(&shape));
    golden_floats(b->net->weight[0].x, json_object_get(c, "kernel"), b->net->weight[0].len);
    if (json_array_size(json_object_get(c, "bias")) > 0)
        golden_floats(b->net->weight[1].x, json_object_get(c, "bias"), b->net->weight[1].len);
    free(options);
    *of = c;
    return g;
}

START_TEST(scores_of_convolutions_are_golden)
{
    for (size_t i = 0; i < sizeof golden_scores / sizeof golden_scores[0]; i++) {
        struct plug_value conf = conf_of(golden_scores[i].conf);
        struct bench b;
        const json_t *c;
        json_t *g = golden_conv(&b, _i, &c), *want = json_object_get(json_object_get(c, "scores"), golden_scores[i].name);
        struct crit_net in = in_of(&b, &conf, NULL);
        const struct weight *w = &b.net->weight[0];
        float s[64], *score[4] = { s };

        ck_assert_uint_le(w->len, 64);
        ck_assert_int_eq(criterion_of(conf.plug)->score_net(&in, score, NULL), ERR_OK);
        for (size_t k = 0; k < w->len; k++) /* scores of zeros do not matter */
            s[k] = w->x[k] == 0 ? (float)json_number_value(json_array_get(want, k)) : s[k];
        golden_near(s, want, w->len, golden_scores[i].name, bound);
        json_decref(g);
        bench_close(&b);
    }
}
END_TEST

START_TEST(solutions_of_convolutions_are_golden) /* whole, and with 2:4 */
{
    for (size_t i = 0; i < 6; i++) {
        struct bench b;
        const json_t *c;
        json_t *g = golden_conv(&b, _i, &c), *want = json_array_get(json_object_get(c, "solved"), i);
        bool obs = strcmp(json_string_value(json_object_get(want, "criterion")), "obs") == 0;
        struct plug_value conf = conf_of(obs ? "\"obs\"" : "{\"type\": \"sparsegpt\", \"block\": 4}");
        struct crit_net in = in_of(&b, &conf, NULL);
        uint64_t go = (uint64_t)json_integer_value(json_object_get(want, "go"));
        const struct weight *kernel = &b.net->weight[0];

        if (json_array_size(json_object_get(want, "runs")) > 0)
            in.runs = (struct unit_runs){ 4, 2 };
        ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, go, NULL), ERR_OK);
        ck_assert(n_masked(kernel) == go && (in.runs.len == 0 || keeps_runs(kernel, in.runs)));
        golden_near(kernel->x, json_object_get(want, "kernel"), kernel->len, conf.plug->name, bound);
        if (json_array_size(json_object_get(want, "bias")) > 0)
            golden_near(kernel[1].x, json_object_get(want, "bias"), kernel[1].len, "bias", bound);
        json_decref(g);
        bench_close(&b);
    }
}
END_TEST

/* What the sum of squares of outputs grows by, of a layer of images of which few places are looked at: near to that of all, and less than without repair.
 * Batches cut where they like, any team: the same places. */
START_TEST(few_places_stand_for_all)
{
    static const char *const confs[] = { "{\"type\": \"sparsegpt\", \"places\": %d, \"batch_size\": %d}", "{\"type\": \"obs\", \"places\": %d, \"batch_size\": %d}" };
    static const struct { int places, batch_size; } of[] = { { 144, 50 }, { 9, 50 }, { 9, 7 } };
    const struct shape shape = { 3, { 3, 12, 12 } };
    double error[3], plain;

    for (int i = 0; i < 4; i++) {
        struct plug_value conf;
        struct bench b;
        struct crit_net in;
        char json[80];
        float *y;

        snprintf(json, sizeof json, confs[_i], of[i % 3].places, of[i % 3].batch_size);
        conf = conf_of(json);
        conv_open(&b, &shape, 50, "conv2d", "{\"filters\": 6, \"kernel_height\": 3, \"kernel_width\": 3, \"padding\": \"same\"}");
        fill_normal(b.x, 50 * 3 * 144, 4);
        for (int k = 1; k < 50 * 3 * 144; k++)
            b.x[k] += 0.8f * b.x[k - 1];
        in = in_of(&b, &conf, NULL);
        y = outputs(&b);
        if (i < 3)
            ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, 80, NULL), ERR_OK);
        else
            mask_by_magnitude(&b.net->weight[0], 80);
        *(i < 3 ? &error[i] : &plain) = error_from(&b, y);
        mem_free(y);
        bench_close(&b);
    }
    ck_assert_msg(error[0] < 0.8 * plain && error[1] < 1.1 * error[0], "%g, %g, magnitude's %g", error[0], error[1], plain);
    ck_assert_double_eq_tol(error[2] / error[1], 1, 1e-3);
}
END_TEST

/* H = [[1, 0, 0], [0, 1, .9], [0, .9, 1]], w = (.95, 1, 1): the second weight goes, the third takes over. (Its partner is made the least bit larger.) */
static void three_weights(struct bench *b)
{
    static const int size[] = { 3, CLASSES }; /* all other rows are 0 */
    static const double h[3] = { 1, 1.9, 0.1 };

    bench_open(b, size, 1, 3, false);
    for (int i = 0; i < 3; i++) { /* samples along the axes of H */
        double a = sqrt(3 * h[i]);

        b->x[3 * i] = i == 0 ? (float)a : 0;
        b->x[3 * i + 1] = i > 0 ? (float)(a / sqrt(2)) : 0;
        b->x[3 * i + 2] = i > 0 ? (float)((i == 1 ? a : -a) / sqrt(2)) : 0;
    }
    memset(b->net->weight[0].x, 0, 12 * sizeof(float));
    memcpy(b->net->weight[0].x, ((float[]){ 0.95f, 1, 1.000001f }), 3 * sizeof(float));
}

START_TEST(the_vector_of_the_books)
{
    static const struct { const char *conf; float score[3]; bool solve; } of[] = {
        { "{\"type\": \"obs\", \"damping\": 0}", { 0.9025f, 0.19f, 3.61f }, true }, /* what each step costs */
        { "{\"type\": \"sparsegpt\", \"damping\": 0}", { 0.9025f, 0.19f, 0.19f }, true },
        { "{\"type\": \"sparsegpt\", \"damping\": 0.01}", { 0.911526f, 0.20802f, 0.20802f }, false },
    };
    struct plug_value conf = conf_of(of[_i].conf);
    struct bench b;
    struct crit_net in;
    float score[12], *scores[1] = { score };
    const struct weight *w;

    three_weights(&b);
    in = in_of(&b, &conf, NULL);
    w = &b.net->weight[0];
    ck_assert_int_eq(criterion_of(conf.plug)->score_net(&in, scores, NULL), ERR_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_msg(fabsf(score[i] - of[_i].score[i]) < 1e-5f, "%d is %.8f", i, (double)score[i]);
    ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, 10, NULL), ERR_OK);
    ck_assert_mem_eq(w->mask, ((uint8_t[]){ 1, 0, 1 }), 3);
    ck_assert(!of[_i].solve || (fabsf(w->x[0] - 0.95f) < 1e-5f && w->x[1] == 0 && fabsf(w->x[2] - 1.9f) < 1e-5f));
    bench_close(&b);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "layerwise golden");

    tcase_add_loop_test(tc, scores_are_golden, 0, sizeof golden_scores / sizeof golden_scores[0]);
    tcase_add_loop_test(tc, solutions_are_golden, 0, 2);
    tcase_add_loop_test(tc, runs_are_golden, 0, 4);
    tcase_add_loop_test(tc, scores_of_convolutions_are_golden, 0, CONVS);
    tcase_add_loop_test(tc, solutions_of_convolutions_are_golden, 0, CONVS);
    tcase_add_loop_test(tc, few_places_stand_for_all, 0, 2);
    tcase_add_loop_test(tc, the_vector_of_the_books, 0, 3);
}
SUITE_MAIN("layerwise golden", cases)
