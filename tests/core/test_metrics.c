/* Metrics: scikit-learn's numbers (tests/golden/metrics.py) to 1e-6; JSON and back to the last bit; allocation failures. */
#include "core/metrics.h"

#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "tests/suite.h"

static json_t *golden;

static void load(void)
{
    golden = json_load_file(GOLDEN_DIR "/metrics.json", 0, NULL);
    ck_assert_ptr_nonnull(golden);
}

static void unload(void) { json_decref(golden); }

/* [k][n] nested arrays; the caller frees. */
static float *floats(const json_t *rows, int *k, int *n)
{
    float *x;

    *k = (int)json_array_size(rows);
    *n = (int)json_array_size(json_array_get(rows, 0));
    x = mem_vector((size_t)*k * (size_t)*n);
    ck_assert_ptr_nonnull(x);
    for (int c = 0; c < *k; c++)
        for (int i = 0; i < *n; i++)
            x[c * *n + i] = (float)json_number_value(json_array_get(json_array_get(rows, (size_t)c), (size_t)i));
    return x;
}

static void compare(const json_t *got, const json_t *want, const char *name)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)want, key, v)
    {
        const json_t *g = json_object_get(got, key);

        ck_assert_msg(g != NULL, "%s: no %s", name, key);
        if (json_is_number(v))
            ck_assert_msg(fabs(json_number_value(g) - json_number_value(v)) < 1e-6, "%s: %s is %.9g, not %.9g", name, key,
                          json_number_value(g), json_number_value(v));
        else
            ck_assert_msg(json_equal(g, v), "%s: %s differs", name, key);
    }
}

static enum err_code classify(const json_t *c, struct metrics *m)
{
    int k, n;
    float *p = floats(json_object_get(c, "probability"), &k, &n);
    int32_t label[512];
    enum err_code rc;

    ck_assert_int_le(n, 512);
    for (int i = 0; i < n; i++)
        label[i] = (int32_t)json_integer_value(json_array_get(json_object_get(c, "label"), (size_t)i));
    rc = metrics_classify(m, (int)json_integer_value(json_object_get(c, "n_classes")), n, p, k, label, NULL);
    mem_free(p);
    return rc;
}

START_TEST(classification_agrees_with_scikit_learn)
{
    size_t i;
    json_t *c;

    load();
    json_array_foreach(json_object_get(golden, "classify"), i, c)
    {
        struct metrics m;
        json_t *got;

        ck_assert_int_eq(classify(c, &m), ERR_OK);
        got = metrics_json(&m, true);
        compare(got, json_object_get(c, "expect"), json_string_value(json_object_get(c, "name")));
        ck_assert(isnan(m.value[METRIC_MSE]) && !json_object_get(got, "mse"));
        json_decref(got);
        metrics_clear(&m);
    }
    ck_assert_int_ge((int)i, 9);
    unload();
}
END_TEST

START_TEST(regression_agrees_with_scikit_learn)
{
    const json_t *c;
    struct metrics m;
    int k, n;
    float *x, *t;
    json_t *got;

    load();
    c = json_object_get(golden, "regress");
    x = floats(json_object_get(c, "prediction"), &k, &n);
    t = floats(json_object_get(c, "target"), &k, &n);
    ck_assert_int_eq(metrics_regress(&m, n, k, x, t, NULL), ERR_OK);
    got = metrics_json(&m, true);
    compare(got, json_object_get(c, "expect"), "regression");
    ck_assert(isnan(m.value[METRIC_ACCURACY]) && !json_object_get(got, "accuracy"));
    json_decref(got);
    mem_free(x);
    mem_free(t);
    metrics_clear(&m);
    unload();
}
END_TEST

START_TEST(json_and_back_to_the_last_bit)
{
    struct metrics m, back;
    json_t *j, *again;
    char *text;

    load();
    ck_assert_int_eq(classify(json_array_get(json_object_get(golden, "classify"), 6), &m), ERR_OK);
    m.value[METRIC_LOSS] = 1.0 / 3;
    m.value[METRIC_AUC] = NAN;
    j = metrics_json(&m, true);
    text = json_dumps(j, 0);
    again = json_loads(text, 0, NULL);
    ck_assert_int_eq(metrics_from_json(&back, again, NULL), ERR_OK);
    ck_assert_mem_eq(back.value, m.value, sizeof m.value);
    ck_assert_ptr_null(back.confusion);
    ck_assert(json_is_null(json_object_get(j, "auc")));
    json_object_set_new(again, "f1", json_string("x"));
    ck_assert_int_eq(metrics_from_json(&back, again, NULL), ERR_INVALID);
    json_decref(j);
    json_decref(again);
    free(text);
    metrics_clear(&m);
    unload();
}
END_TEST

START_TEST(ties_go_to_the_lower_class)
{
    static const float p[14] = { .2f, .1f, .2f, .1f, .2f, .1f, .2f, .1f, .2f, .1f, .2f, .1f, .2f, .4f }; /* [7][2] */
    static const int32_t first[2] = { 0, 4 }, last[2] = { 6, 5 };
    struct metrics m;

    ck_assert_int_eq(metrics_classify(&m, 7, 2, p, 7, first, NULL), ERR_OK); /* 4 is the fifth after 6, 0, 1, 2, 3: sixth */
    ck_assert(m.value[METRIC_ACCURACY] == 0.5 && m.value[METRIC_TOP5] == 0.5);
    metrics_clear(&m);
    ck_assert_int_eq(metrics_classify(&m, 7, 2, p, 7, last, NULL), ERR_OK);
    ck_assert(m.value[METRIC_ACCURACY] == 0 && m.value[METRIC_TOP5] == 0);
    metrics_clear(&m);
}
END_TEST

START_TEST(no_matrix_above_a_hundred_classes)
{
    static float p[101];
    static const int32_t label = 100;
    struct metrics m;

    p[100] = 1;
    ck_assert_int_eq(metrics_classify(&m, 101, 1, p, 101, &label, NULL), ERR_OK);
    ck_assert(!m.confusion && m.value[METRIC_F1] == 1 && isnan(m.value[METRIC_AUC]));
    metrics_clear(&m);
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    bool fired = true;
    const json_t *c;

    load();
    c = json_array_get(json_object_get(golden, "classify"), 6);
    for (long k = 1; fired; k++) {
        struct metrics m;
        enum err_code rc;

        mem_fail_in = k + 1; /* floats() has the first */
        rc = classify(c, &m);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_int_eq(rc, fired ? ERR_NOMEM : ERR_OK);
        ck_assert(!fired || !m.confusion);
        metrics_clear(&m);
    }
    unload();
}
END_TEST

START_TEST(names_are_the_choices)
{
    char all[512] = "auto";

    for (int i = 0; i < METRIC_COUNT; i++) {
        snprintf(all + strlen(all), sizeof all - strlen(all), "|%s", metric_name((enum metric)i));
        ck_assert(*metric_help((enum metric)i));
    }
    ck_assert_str_eq(all, METRIC_CHOICES);
    ck_assert(metric_fits(metric_default(10), 10) && metric_fits(metric_default(0), 0));
    ck_assert(metric_larger_is_better(metric_default(2)) && !metric_larger_is_better(metric_default(0)));
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "metrics");

    tcase_add_test(tc, classification_agrees_with_scikit_learn);
    tcase_add_test(tc, regression_agrees_with_scikit_learn);
    tcase_add_test(tc, json_and_back_to_the_last_bit);
    tcase_add_test(tc, ties_go_to_the_lower_class);
    tcase_add_test(tc, no_matrix_above_a_hundred_classes);
    tcase_add_test(tc, every_allocation_fails_once);
    tcase_add_test(tc, names_are_the_choices);
}
SUITE_MAIN("metrics", cases)
