/* CSV: what is refused, and where; what is read, down to the number; scaling as scikit-learn does it; nothing left behind. */
#include <math.h>
#include <string.h>
#include <sys/resource.h>

#include "core/mem.h"
#include "tests/core/data_fixture.h"

static struct data_conf parse_conf(const char *json)
{
    json_t *j = json_loads(json, 0, NULL);
    struct data_conf conf;
    struct err e = { 0 };

    ck_assert_msg(params_parse(&conf, sizeof conf, data_params, j, &e) == ERR_OK, "%s %s", e.at, e.msg);
    json_decref(j);
    return conf;
}

static enum err_code convert(const char *text, size_t n, const struct data_conf *conf, struct err *e)
{
    ck_assert_int_eq(file_write(upload, text, n, NULL), ERR_OK);
    return data_convert(upload, false, DATA_TRAIN, DATA_TABLE, conf, x_path, y_path, NULL, NULL, 1 << 20, e);
}

static struct dataset *open_train(const struct data_conf *conf)
{
    const char *paths[DATA_SPLITS][2] = { { x_path, y_path } };
    struct dataset *d = NULL;
    struct err e = { 0 };

    ck_assert_msg(dataset_open(&d, conf, paths, &e) == ERR_OK, "%s %s", e.at, e.msg);
    return d;
}

/* ---- refused ---- */

#define TEXT(s) s, sizeof s - 1
#define REG "{\"task\": \"regression\"}"
static const struct { const char *conf, *text; size_t n; enum err_code code; const char *says; } refused[] = {
    { "{}", TEXT(""), ERR_INVALID, "is empty" },
    { "{}", TEXT("\n\r\n\n"), ERR_INVALID, "is empty" },
    { "{}", TEXT("\xef\xbb\xbf"), ERR_INVALID, "is empty" },
    { "{}", TEXT("a,b,c\n"), ERR_INVALID, "no rows" },
    { "{}", TEXT("1\n2\n"), ERR_INVALID, "one cell" },
    { "{}", TEXT("1,2,x\n3,4\n"), ERR_SYNTAX, "line 2: the row has 2 cells, the first one 3" },
    { "{}", TEXT("1,2,x\n3,4,y,5\n"), ERR_SYNTAX, "line 2: the row has more than 3 cells" },
    { "{}", TEXT("1,2,x\n3,4,\n"), ERR_INVALID, "line 2, column 3: \"\" is no label" },
    { "{}", TEXT("a,b,c\n1,2,x\n1,zwei,y\n"), ERR_INVALID, "line 3, column 2 (b): \"zwei\" is not a number" },
    { "{}", TEXT("1,2,x\n,4,y\n"), ERR_INVALID, "line 2, column 1: \"\" is empty" },
    { "{}", TEXT("1,2,x\n3,NaN,y\n"), ERR_INVALID, "line 2, column 2: \"NaN\" is not a finite" },
    { "{}", TEXT("nan,2,x\n3,4,y\n"), ERR_INVALID, "line 1, column 1: \"nan\" is not a finite" },
    { "{}", TEXT("1,2,x\n3,-inf,y\n"), ERR_INVALID, "is not a finite" },
    { "{}", TEXT("1,2,x\n3,0x10,y\n"), ERR_INVALID, "\"0x10\" is not a number" },
    { "{}", TEXT("1,2,x\n3,1e39,y\n"), ERR_INVALID, "too large for a float32" },
    { "{}", TEXT("1,2,x\n3,1e999,y\n"), ERR_INVALID, "too large for a float32" },
    { "{}", TEXT("1,2,x\n3,1e,y\n"), ERR_INVALID, "is not a number" },
    { "{}", TEXT("1,2,x\n3,.,y\n"), ERR_INVALID, "is not a number" },
    { "{}", TEXT("1,2,x\n3,1 000,y\n"), ERR_INVALID, "is not a number" },
    { "{}", TEXT("1,2,x\n3,\"4,y\n"), ERR_SYNTAX, "line 2, column 2: the quote that begins here" },
    { "{}", TEXT("1,2,x\n3,\"4\"5,y\n"), ERR_SYNTAX, "line 2, column 2: text behind" },
    { "{}", TEXT("1,2,x\n3,4\"5,y\n"), ERR_SYNTAX, "line 2, column 2: a quote inside" },
    { "{}", TEXT("1,2,x\r3,4,y\r"), ERR_SYNTAX, "line 1, column 3: a carriage return" },
    { "{}", TEXT("1,2,x\n3,\0004,y\n"), ERR_SYNTAX, "line 2, column 2: a zero byte" },
    { "{}", TEXT("1,2,x\n3,4,\xff\n"), ERR_INVALID, "line 2, column 3" },
    { "{}", TEXT("a\xff,2,x\n3,4,y\n"), ERR_INVALID, "is not UTF-8" },
    { "{}", TEXT("1,2,x\n3,z\xff,y\n"), ERR_INVALID, "line 2, column 2: \"z?\" is not a number" },
    { "{}", TEXT("\xff\xfe" "1\0,\0"), ERR_UNSUPPORTED, "UTF-16" },
    { "{}", TEXT("\x1f\x8b\x08"), ERR_SYNTAX, "gzip" },
    { REG, TEXT("1,2,3\n3,4,x\n"), ERR_INVALID, "line 2, column 3: \"x\" is not a number" },
    { REG, TEXT("1,2,3\n3,4,nan\n"), ERR_INVALID, "not a finite" },
    { "{\"csv\":{\"header\":\"no\"}}", TEXT("a,b,c\n1,2,x\n"), ERR_INVALID, "line 1, column 1: \"a\" is not a number" },
    { "{\"csv\":{\"label\":\"d\"}}", TEXT("a,b,c\n1,2,x\n"), ERR_INVALID, "no column \"d\"" },
    { "{\"csv\":{\"label\":\"3\"}}", TEXT("a,b,c\n1,2,x\n"), ERR_INVALID, "has 3 columns" },
    { "{\"csv\":{\"label\":\"-4\"}}", TEXT("a,b,c\n1,2,x\n"), ERR_INVALID, "has 3 columns" },
    { "{\"csv\":{\"label\":\"c\",\"header\":\"no\"}}", TEXT("a,b,c\n1,2,x\n"), ERR_INVALID, "needs a header" },
    { "{\"csv\":{\"delimiter\":\";;\"}}", TEXT("1;2\n"), ERR_INVALID, "one character" },
    { "{\"csv\":{\"delimiter\":\"\"}}", TEXT("1;2\n"), ERR_INVALID, "one character" },
};

START_TEST(refuses)
{
    struct data_conf conf = parse_conf(refused[_i].conf);
    struct err e = { 0 };

    ck_assert_int_eq(convert(refused[_i].text, refused[_i].n, &conf, &e), refused[_i].code);
    ck_assert_msg(strstr(e.msg, refused[_i].says) != NULL, "\"%s\" does not say \"%s\"", e.msg, refused[_i].says);
    ck_assert_int_eq(files_in_dir(), 1);
}
END_TEST

/* ---- taken: all as two features and a label ---- */

static const struct {
    const char *conf, *text;
    int n, is_u8;
    float x[6];
    const char *classes;
    int label[3];
} taken[] = {
    { "{}", "1,2,x\n3,4,y\n", 2, 1, { 1, 2, 3, 4 }, "[\"x\",\"y\"]", { 0, 1 } },
    { "{}", "\xef\xbb\xbfone,two,label\r\n1,2.5,y\r\n\r\n3,4,x", 2, 0, { 1, 2.5f, 3, 4 }, "[\"x\",\"y\"]", { 1, 0 } },
    { "{\"csv\":{\"header\":\"no\"}}", "256,0,10\n1,2,9\n1,2,10\n", 3, 0, { 256, 0, 1, 2, 1, 2 }, "[\"9\",\"10\"]", { 1, 0, 1 } },
    { "{\"csv\":{\"label\":\"kind\"}}",
      "a,kind,b\n-1,\"p \"\"q\"\"\",2\n3,\"r\ns,t\",4\n", 2, 0, { -1, 2, 3, 4 },
      "[\"p \\\"q\\\"\",\"r\\ns,t\"]", { 0, 1 } },
    { "{\"csv\":{\"label\":\"0\",\"delimiter\":\"tab\"}}", "b\t1e2\t+.5\na\t 5. \t-0\n", 2, 0, { 100, 0.5f, 5, 0 }, "[\"a\",\"b\"]", { 1, 0 } },
    { "{\"csv\":{\"delimiter\":\";\"}}", "1;2;species\n1;2;1\n3;4;0\n", 2, 1, { 1, 2, 3, 4 }, "[\"0\",\"1\"]", { 1, 0 } },
    { "{\"csv\":{\"label\":\"-2\",\"header\":\"yes\"}}", "1,2,3\n0,b,255\n7,a,8\n", 2, 1, { 0, 255, 7, 8 }, "[\"a\",\"b\"]", { 1, 0 } },
    { "{}", "1,2,x\n3,4,1\n", 2, 1, { 1, 2, 3, 4 }, NULL, { 0 } }, /* a label that is text only in the first row makes it a header */
    { "{}", "123456789012345678901234567890,1e-30,a\n0.1,16777217,b\n", 2, 0, { 123456789012345678901234567890.f, 1e-30f, 0.1f, 16777216 },
      "[\"a\",\"b\"]", { 0, 1 } },
};

START_TEST(takes)
{
    struct data_conf conf = parse_conf(taken[_i].conf);
    struct err e = { 0 };
    json_t *classes = taken[_i].classes ? json_loads(taken[_i].classes, 0, NULL) : NULL;
    struct dataset *d;

    ck_assert_msg(convert(taken[_i].text, strlen(taken[_i].text), &conf, &e) == ERR_OK, "%s", e.msg);
    if (!classes) { /* one class is left: refused when it is opened */
        const char *paths[DATA_SPLITS][2] = { { x_path, y_path } };

        ck_assert_int_eq(dataset_open(&d, &conf, paths, &e), ERR_INVALID);
        ck_assert_str_eq(e.at, "/train/labels");
        return;
    }
    d = open_train(&conf);
    ck_assert_int_eq(d->split[0].n, taken[_i].n);
    ck_assert_int_eq(d->split[0].is_u8, taken[_i].is_u8);
    ck_assert_int_eq(d->n_features, 2);
    for (int i = 0; i < 2 * d->split[0].n; i++)
        ck_assert_float_eq(d->split[0].is_u8 ? ((const uint8_t *)d->split[0].x)[i] : ((const float *)d->split[0].x)[i], taken[_i].x[i]);
    for (int i = 0; i < d->split[0].n; i++)
        ck_assert_int_eq(d->split[0].label[i], taken[_i].label[i]);
    ck_assert(json_equal(d->classes, classes));
    dataset_free(d);
    json_decref(classes);
}
END_TEST

START_TEST(regression)
{
    static const char text[] = "a,y\n1,0.25\n2,-3\n";
    struct data_conf conf = parse_conf(REG);
    struct dataset *d;

    ck_assert_int_eq(convert(text, strlen(text), &conf, NULL), ERR_OK);
    d = open_train(&conf);
    ck_assert_int_eq(d->n_classes, 0);
    ck_assert_int_eq(d->n_target, 1);
    ck_assert_float_eq(d->split[0].target[0], 0.25f);
    ck_assert_float_eq(d->split[0].target[1], -3);
    dataset_free(d);
}
END_TEST

START_TEST(truncated_anywhere)
{
    static const char text[] = "a,\"b\"\"\",c\r\n1,2,x\r\n3,\"4\",\"y\nz\"\r\n";
    struct data_conf conf = parse_conf("{}");

    for (size_t n = 0; n < sizeof text; n++) {
        struct err e = { 0 };
        enum err_code rc = convert(text, n, &conf, &e);

        ck_assert_msg(rc == ERR_OK || ((rc == ERR_SYNTAX || rc == ERR_INVALID) && *e.msg), "%zu: %d", n, rc);
        ck_assert_int_eq(files_in_dir(), rc == ERR_OK ? 3 : 1);
        unlink(x_path);
        unlink(y_path);
    }
}
END_TEST

START_TEST(too_many)
{
    struct data_conf conf = parse_conf("{}");
    struct err e = { 0 };
    char *text = mem_alloc(200000);
    size_t n = 0;

    for (int i = 0; i <= 10000; i++)
        n += (size_t)snprintf(text + n, 200000 - n, "1,%d\n", i);
    ck_assert_int_eq(convert(text, n, &conf, &e), ERR_TOO_LARGE);
    ck_assert_ptr_nonnull(strstr(e.msg, "line 10001, column 2"));
    memset(text, 'x', 10000);
    ck_assert_int_eq(convert(text, 10000, &conf, &e), ERR_SYNTAX);
    ck_assert_ptr_nonnull(strstr(e.msg, "4096"));
    ck_assert_int_eq(files_in_dir(), 1);
    mem_free(text);
}
END_TEST

/* ---- classes between the splits ---- */

START_TEST(splits_by_name)
{
    static const struct { const char *text, *says; } tests[] = {
        { "1,dog\n2,cat\n", NULL }, { "1,cat\n2,cow\n", "class \"cow\" is not in" }, { "1,2,cat\n", "shape (2,)" },
        { "b,k\n1,cat\n", "column \"b\" stands where the train split has \"a\"" },
    };
    static const char train[] = "a,k\n1,cat\n2,ape\n3,dog\n";
    struct data_conf conf = parse_conf("{}");
    char tx[64], ty[64];
    const char *paths[DATA_SPLITS][2] = { { x_path, y_path }, { NULL, NULL }, { tx, ty } };
    struct dataset *d;
    struct err e = { 0 };

    snprintf(tx, sizeof tx, "%s/tx", dir);
    snprintf(ty, sizeof ty, "%s/ty", dir);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        enum err_code rc;

        ck_assert_int_eq(convert(tests[i].text, strlen(tests[i].text), &conf, NULL), ERR_OK);
        ck_assert_int_eq(rename(x_path, tx) | rename(y_path, ty), 0);
        ck_assert_int_eq(convert(train, strlen(train), &conf, NULL), ERR_OK);
        rc = dataset_open(&d, &conf, paths, &e);
        if (!tests[i].says) {
            ck_assert_int_eq(rc, ERR_OK);
            ck_assert_int_eq(d->split[DATA_TEST].label[0], 2);
            ck_assert_int_eq(d->split[DATA_TEST].label[1], 1);
            dataset_free(d);
            continue;
        }
        ck_assert_int_eq(rc, ERR_INVALID);
        ck_assert_msg(strstr(e.msg, tests[i].says) != NULL, "%s", e.msg);
        ck_assert_int_eq(strncmp(e.at, "/test/", 6), 0);
    }
    paths[2][1] = NULL;
    ck_assert_int_eq(dataset_open(&d, &conf, paths, &e), ERR_INVALID);
    unlink(tx);
    unlink(ty);
}
END_TEST

/* ---- golden numbers ---- */

static void scaled_like(const char *scaling, const json_t *golden)
{
    char text[64];
    struct data_conf conf;
    struct dataset *d;
    struct data_views v;
    float x[30];
    int32_t label;
    json_t *rows = json_object_get(golden, "rows");

    snprintf(text, sizeof text, "{\"scaling\": \"%s\", \"csv\": {\"label\": \"diagnosis\"}}", scaling);
    conf = parse_conf(text);
    ck_assert_int_eq(data_convert(SOURCE_DIR "/tests/data/breast_cancer.csv", false, DATA_TRAIN, DATA_TABLE, &conf, x_path, y_path, NULL, NULL, 0, NULL), ERR_OK);
    d = open_train(&conf);
    ck_assert_int_eq(d->split[0].n, 569);
    ck_assert(json_equal(d->classes, json_object_get(golden, "classes")));
    ck_assert_int_eq(data_views_new(&v, d, 0, 0, NULL), ERR_OK);
    for (size_t r = 0; r < json_array_size(rows); r++) {
        const json_t *row = json_array_get(json_object_get(golden, scaling), r);

        data_gather(&v.train, NULL, (int)json_integer_value(json_array_get(rows, r)), 1, &(struct data_batch){ .x = x, .label = &label }, NULL);
        ck_assert_int_eq(label, json_integer_value(json_array_get(json_object_get(golden, "labels"), r)));
        for (size_t i = 0; i < 30; i++)
            ck_assert_double_eq_tol((double)x[i], json_real_value(json_array_get(row, i)), 1e-5);
    }
    data_views_free(&v);
    dataset_free(d);
}

START_TEST(scaling_is_sklearns)
{
    json_t *golden = json_load_file(GOLDEN_DIR "/breast_cancer.json", 0, NULL);

    ck_assert_ptr_nonnull(golden);
    scaled_like("minmax", golden);
    scaled_like("standardize", golden);
    json_decref(golden);
}
END_TEST

START_TEST(scaling_of_bytes_and_constants)
{
    static const struct { const char *scaling; float x[4]; } want[] = {
        { "auto", { 51 / 255.f, 7 / 255.f, 255 / 255.f, 7 / 255.f } }, { "none", { 51, 7, 255, 7 } },
        { "unit", { 51 / 255.f, 7 / 255.f, 1, 7 / 255.f } }, { "minmax", { 0, 0, 1, 0 } }, { "standardize", { -1, 0, 1, 0 } },
    };
    static const char text[] = "51,7,a\n255,7,b\n";

    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        char json[64];
        struct data_conf conf;
        struct dataset *d;
        struct data_views v;
        float x[4];
        int32_t label[2];

        snprintf(json, sizeof json, "{\"scaling\": \"%s\"}", want[i].scaling);
        conf = parse_conf(json);
        ck_assert_int_eq(convert(text, strlen(text), &conf, NULL), ERR_OK);
        d = open_train(&conf);
        ck_assert_int_eq(data_views_new(&v, d, 0, 0, NULL), ERR_OK);
        data_gather(&v.train, NULL, 0, 2, &(struct data_batch){ .x = x, .label = label }, NULL);
        for (int k = 0; k < 4; k++)
            ck_assert_float_eq_tol(x[k / 2 + k % 2 * 2], want[i].x[k], 1e-6);
        data_views_free(&v);
        dataset_free(d);
    }
}
END_TEST

/* ---- failures of the machine ---- */

static const char sound[] = "a,b,c\n1,2,x\n3,4,y\n";

/* Every failure is reported and leaves nothing, or made no difference (Jansson does without some memory). */
static void walk_failures(long *countdown, enum err_code expected)
{
    struct data_conf conf = parse_conf("{}");
    struct data_file_info want[2], got[2];
    bool fired = true;

    ck_assert_int_eq(file_write(upload, sound, strlen(sound), NULL), ERR_OK);
    ck_assert_int_eq(data_convert(upload, false, DATA_TRAIN, DATA_TABLE, &conf, x_path, y_path, &want[0], &want[1], 0, NULL), ERR_OK);
    for (long k = 1; fired; k++) {
        enum err_code rc;

        unlink(x_path);
        unlink(y_path);
        got[0].json = got[1].json = NULL;
        *countdown = k;
        rc = data_convert(upload, false, DATA_TRAIN, DATA_TABLE, &conf, x_path, y_path, &got[0], &got[1], 0, NULL);
        fired = *countdown == 0;
        *countdown = 0;
        if (rc != ERR_OK) {
            ck_assert_int_eq(rc, expected);
            ck_assert_int_eq(files_in_dir(), 1);
        }
        for (int i = 0; i < 2; i++) {
            ck_assert(rc == ERR_OK ? json_equal(got[i].json, want[i].json) : !got[i].json);
            ck_assert(rc != ERR_OK || strcmp(got[i].hash, want[i].hash) == 0);
            json_decref(got[i].json);
        }
    }
    json_decref(want[0].json);
    json_decref(want[1].json);
}

START_TEST(failures)
{
    const char *paths[DATA_SPLITS][2] = { { x_path, y_path }, { x_path, y_path }, { NULL, NULL } };
    struct data_conf conf = parse_conf("{}");
    struct dataset *d = NULL;

    json_set_alloc_funcs(mem_alloc, mem_free);
    walk_failures(&mem_fail_in, ERR_NOMEM);
    walk_failures(&file_fail_in, ERR_NO_SPACE);
    for (long k = 1; !d; k++) {
        mem_fail_in = k;
        if (dataset_open(&d, &conf, paths, NULL) != ERR_OK) /* Jansson does not always say that it was memory */
            ck_assert_ptr_null(d);
        ck_assert(k < 1000);
        mem_fail_in = 0;
    }
    dataset_free(d);
}
END_TEST

/* ---- memory ---- */

#ifndef ESPALIER_SANITIZE

static long peak_kib(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return r.ru_maxrss;
}

START_TEST(memory_is_flat)
{
    struct data_conf conf = parse_conf("{}");
    long peaks[2];

    for (int i = 0; i < 2; i++) {
        struct file_out *f;

        ck_assert_int_eq(file_out_new(&f, upload, NULL), ERR_OK);
        for (int row = 0; row < (i ? 200000 : 20000); row++) { /* 4 MB, and 2.4 MB as converted */
            char line[64];
            int n = snprintf(line, sizeof line, "%d,%d.5,%d,%s\n", row, row % 7, row % 11, row % 3 ? "yes" : "no");

            ck_assert_int_eq(file_out_write(f, line, (size_t)n, NULL), ERR_OK);
        }
        ck_assert_int_eq(file_out_publish(f, NULL, NULL), ERR_OK);
        file_out_free(f);
        ck_assert_int_eq(data_convert(upload, false, DATA_TRAIN, DATA_TABLE, &conf, x_path, y_path, NULL, NULL, 0, NULL), ERR_OK);
        peaks[i] = peak_kib();
    }
    ck_assert_int_le(peaks[1], peaks[0] + 512);
}
END_TEST

#endif

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "csv");

    tcase_add_checked_fixture(tc, make_dir, remove_dir);
    tcase_add_loop_test(tc, refuses, 0, sizeof refused / sizeof refused[0]);
    tcase_add_loop_test(tc, takes, 0, sizeof taken / sizeof taken[0]);
    tcase_add_test(tc, regression);
    tcase_add_test(tc, truncated_anywhere);
    tcase_add_test(tc, too_many);
    tcase_add_test(tc, splits_by_name);
    tcase_add_test(tc, scaling_is_sklearns);
    tcase_add_test(tc, scaling_of_bytes_and_constants);
    tcase_add_test(tc, failures);
#ifndef ESPALIER_SANITIZE /* whose own memory grows */
    tcase_add_test(tc, memory_is_flat);
#endif
}
SUITE_MAIN("data_csv", cases)
