/* Uploads as numpy, PIL, tarfile and zipfile write them (tests/golden/uploads.py): what is in them comes out, what is wrong is refused by name; and
 * nothing is left behind, whatever breaks. */
#include "core/mem.h"
#include "tests/core/data_fixture.h"
#include "tests/golden.h"

static json_t *golden; /* of all uploads */

static void load_golden(void)
{
    json_error_t error;

    make_dir();
    golden = json_load_file(GOLDEN_DIR "/uploads.json", 0, &error);
    ck_assert_msg(json_is_array(golden), "line %d: %s", error.line, error.text);
}

static void drop_golden(void)
{
    json_decref(golden);
    golden = NULL;
    remove_dir();
}

static const char *text(const json_t *row, const char *key)
{
    const char *s = json_string_value(json_object_get(row, key));

    ck_assert_ptr_nonnull(s);
    return s;
}

static int index_of(const char *const *names, const char *name)
{
    int i = 0;

    while (strcmp(names[i], name) != 0)
        i++;
    return i;
}

static struct data_conf conf_of(const json_t *row, bool by_name)
{
    const char *format = json_string_value(json_object_get(row, "format"));
    struct data_conf conf;
    json_t *j = json_pack("{s:s}", "task", text(row, "task"));

    if (by_name && format)
        json_object_set_new(j, "format", json_string(format));
    ck_assert_int_eq(params_parse(&conf, sizeof conf, data_params, j, NULL), ERR_OK);
    json_decref(j);
    return conf;
}

static enum err_code convert_file(const char *path, const json_t *row, const struct data_conf *conf, struct data_file_info info[2], struct err *e)
{
    return data_convert(path, false, (enum data_split_id)index_of(data_split_name, text(row, "split")), (enum data_part)index_of(data_part_name, text(row, "part")),
                        conf, x_path, y_path, info ? &info[0] : NULL, info ? &info[1] : NULL, 16 << 20, e);
}

static void path_of(char *buf, size_t n, const json_t *row)
{
    snprintf(buf, n, SOURCE_DIR "/tests/data/uploads/%s", text(row, "file"));
}

static void check_file(const char *path, const json_t *info, const json_t *row, const char *numbers)
{
    const json_t *want = json_object_get(row, numbers);
    size_t n = json_array_size(want);
    double bound = json_number_value(json_object_get(row, "tolerance"));
    const char *dtype = text(info, "dtype");
    struct file_map m;

    ck_assert_int_eq(file_map_open(&m, path, NULL), ERR_OK);
    ck_assert_str_eq(text(info, "format"), text(row, "format"));
    if (json_object_get(row, "shape") && strcmp(numbers, "x") == 0) {
        ck_assert_str_eq(dtype, text(row, "dtype"));
        ck_assert(json_equal(json_object_get(info, "shape"), json_object_get(row, "shape")));
    }
    for (size_t i = 0; i < n; i++) {
        double v = json_number_value(json_array_get(want, i)), got;
        const unsigned char *p = m.data + 4096 + i * (dtype[0] == 'u' ? 1 : 4);
        float f;
        int32_t k;

        memcpy(&f, p, dtype[0] == 'u' ? 1 : 4);
        memcpy(&k, p, dtype[0] == 'u' ? 1 : 4);
        got = dtype[0] == 'u' ? *p : dtype[0] == 'f' ? f : k;
        ck_assert_msg(fabs(got - v) <= bound, "%s: %s[%zu] is %.9g, must be %.9g", text(row, "file"), numbers, i, got, v);
    }
    file_map_close(&m);
}

/* As told by its first bytes, then by name. */
START_TEST(what_numpy_says)
{
    size_t i;
    json_t *row;
    char path[256];

    json_array_foreach(golden, i, row) {
        for (int by_name = 0; by_name < 2 && !json_object_get(row, "code"); by_name++) {
            struct data_conf conf = conf_of(row, by_name);
            struct data_file_info info[2] = { { .json = NULL }, { .json = NULL } };
            struct err e = { 0 };
            enum err_code rc;

            path_of(path, sizeof path, row);
            rc = convert_file(path, row, &conf, info, &e);
            ck_assert_msg(rc == ERR_OK, "%s: %s", path, e.msg);
            ck_assert_int_eq(info[0].json != NULL, json_object_get(row, "x") != NULL);
            ck_assert_int_eq(info[1].json != NULL, json_object_get(row, "y") != NULL);
            if (info[0].json)
                check_file(x_path, info[0].json, row, "x");
            if (info[1].json)
                check_file(y_path, info[1].json, row, "y");
            if (info[1].json && json_is_array(json_object_get(row, "classes")))
                ck_assert(json_equal(json_object_get(info[1].json, "classes"), json_object_get(row, "classes")));
            json_decref(info[0].json);
            json_decref(info[1].json);
            ck_assert_int_eq(files_in_dir(), (info[0].json != NULL) + (info[1].json != NULL));
            unlink(x_path);
            unlink(y_path);
        }
    }
}
END_TEST

START_TEST(refusals)
{
    size_t i, n = 0;
    json_t *row;
    char path[256];

    json_array_foreach(golden, i, row) {
        struct data_conf conf = conf_of(row, true);
        struct err e = { 0 };
        enum err_code rc;

        if (!json_object_get(row, "code"))
            continue;
        n++;
        path_of(path, sizeof path, row);
        rc = convert_file(path, row, &conf, NULL, &e);
        ck_assert_msg(strcmp(err_slug(rc), text(row, "code")) == 0, "%s: %s: %s", path, err_slug(rc), e.msg);
        ck_assert_msg(strstr(e.msg, text(row, "says")) != NULL, "%s: \"%s\" does not say \"%s\"", path, e.msg, text(row, "says"));
        ck_assert_int_eq(files_in_dir(), 0);
    }
    ck_assert_uint_gt(n, 50);
}
END_TEST

/* ---- whatever breaks ---- */

static const char *const samples[] = { "images_v1.npy", "mnist_compressed.npz", "cifar-10-binary.tar.gz", "colour.zip", "colour.tar.gz", "grey.tar" };

static const json_t *row_of(const char *file)
{
    size_t i;
    json_t *row;

    json_array_foreach(golden, i, row)
        if (strcmp(text(row, "file"), file) == 0)
            return row;
    ck_abort_msg("%s is not there", file);
    return NULL;
}

/* Pictures become images with the channels last; of arrays the data set says where they are. */
START_TEST(channels_of_pictures)
{
    const json_t *row = row_of(samples[_i]);
    struct data_conf conf = conf_of(row, false);
    struct err e = { 0 };
    char path[256];
    const bool array = strstr(samples[_i], ".np") != NULL;

    conf.channels = DATA_CHANNELS_FIRST;
    path_of(path, sizeof path, row);
    ck_assert_int_eq(convert_file(path, row, &conf, NULL, &e), array ? ERR_OK : ERR_INVALID);
    ck_assert(array || strstr(e.msg, "channels are first"));
    ck_assert_int_eq(files_in_dir() > 0, array);
}
END_TEST

/* Cut short, and with a bit of each of some bytes turned: refused, or taken, but nothing stays of what was refused. Nothing is written that a good
 * file's numbers do not bound. */
START_TEST(broken_anywhere)
{
    const json_t *row = row_of(samples[_i]);
    struct data_conf conf = conf_of(row, true);
    char path[256];
    struct file_map m;
    unsigned char *copy;

    path_of(path, sizeof path, row);
    ck_assert_int_eq(file_map_open(&m, path, NULL), ERR_OK);
    copy = mem_alloc(m.len);
    for (size_t k = 0, step = m.len / 40 + 1; k < m.len; k += step)
        for (int cut = 0; cut < 2; cut++) {
            FILE *f = fopen(upload, "wb");
            enum err_code rc;

            memcpy(copy, m.data, m.len);
            copy[k] ^= (unsigned char)(1 << k % 8);
            ck_assert_uint_eq(fwrite(copy, 1, cut ? k : m.len, f), cut ? k : m.len);
            fclose(f);
            rc = convert_file(upload, row, &conf, NULL, NULL);
            ck_assert_int_eq(files_in_dir(), rc != ERR_OK ? 1 : strcmp(text(row, "part"), "table") == 0 ? 3 : 2);
            unlink(x_path);
            unlink(y_path);
        }
    mem_free(copy);
    file_map_close(&m);
}
END_TEST

START_TEST(failures)
{
    const json_t *row = row_of(samples[_i]);
    struct data_conf conf = conf_of(row, false);
    long *const countdown[] = { &mem_fail_in, &file_fail_in };
    char path[256];

    json_set_alloc_funcs(mem_alloc, mem_free);
    path_of(path, sizeof path, row);
    for (int i = 0; i < 2; i++) {
        bool fired = true;

        for (long k = 1; fired; k += i == 0 && k > 40 ? 17 : 1) {
            struct data_file_info info[2] = { { .json = NULL }, { .json = NULL } };
            enum err_code rc;

            *countdown[i] = k;
            rc = convert_file(path, row, &conf, info, NULL);
            fired = *countdown[i] == 0;
            *countdown[i] = 0;
            ck_assert_msg(rc == ERR_OK || rc == (i ? ERR_NO_SPACE : ERR_NOMEM), "%s", err_slug(rc));
            ck_assert(rc == ERR_OK || (!info[0].json && !info[1].json));
            if (rc != ERR_OK)
                ck_assert_int_eq(files_in_dir(), 0);
            json_decref(info[0].json);
            json_decref(info[1].json);
            unlink(x_path);
            unlink(y_path);
        }
    }
}
END_TEST

START_TEST(limit_of_bytes)
{
    const json_t *row = row_of(samples[_i]);
    struct data_conf conf = conf_of(row, false);
    char path[256];

    path_of(path, sizeof path, row);
    ck_assert_int_eq(data_convert(path, false, DATA_TRAIN, strcmp(text(row, "part"), "table") == 0 ? DATA_TABLE : DATA_FEATURES, &conf, x_path, y_path, NULL, NULL, 150, NULL),
                     ERR_TOO_LARGE);
    ck_assert_int_eq(files_in_dir(), 0);
}
END_TEST

static void cases(Suite *s)
{
    const int n = sizeof samples / sizeof samples[0];
    TCase *tc = suite_case(s, "formats");

    tcase_add_checked_fixture(tc, load_golden, drop_golden);
    tcase_add_test(tc, what_numpy_says);
    tcase_add_test(tc, refusals);
    tcase_add_loop_test(tc, channels_of_pictures, 0, n);
    tcase_add_loop_test(tc, broken_anywhere, 0, n);
    tcase_add_loop_test(tc, failures, 0, n);
    tcase_add_loop_test(tc, limit_of_bytes, 0, n);
}
SUITE_MAIN("data_formats", cases)
