/* safetensors: the golden bytes of another implementation, round trips, every truncation, thousands of flipped bytes, and each refusal
 * by its pointer. JSON text into values, which the reader stands on, is tested here too. */
#include "core/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/jsonguard.h"
#include "core/mem.h"
#include "core/rng.h"
#include "tests/suite.h"

static char path[64]; /* of a scratch file, one per test process */

static void scratch(void)
{
    snprintf(path, sizeof path, "/tmp/espalier-st-%ld", (long)getpid());
}

static enum err_code write_small(struct err *e)
{
    static const float kernel[6] = { -0.5f, -0.25f, 0, 0.25f, 0.5f, 0.75f };
    static const unsigned char mask[3] = { 1, 0, 1 };
    static const int64_t step = 42;
    json_t *meta = json_pack("{s:s}", "format", "espalier");
    struct st_writer *w = NULL;
    struct file_out *f = NULL;
    enum err_code rc = meta ? st_writer_new(&w, e) : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK)
        rc = st_add(w, "dense/kernel", ST_F32, &(struct shape){ 2, { 2, 3 } }, kernel, e);
    if (rc == ERR_OK)
        rc = st_add(w, "mask", ST_U8, &(struct shape){ 1, { 3 } }, mask, e);
    if (rc == ERR_OK)
        rc = st_add(w, "step", ST_I64, &(struct shape){ 0 }, &step, e);
    if (rc == ERR_OK)
        rc = file_out_new(&f, path, e);
    if (rc == ERR_OK)
        rc = st_write(w, meta, f, e);
    if (rc == ERR_OK)
        rc = file_out_publish(f, NULL, e);
    file_out_free(f);
    st_writer_free(w);
    json_decref(meta);
    return rc;
}

static struct file_map map_file(const char *name)
{
    struct file_map m;

    ck_assert_int_eq(file_map_open(&m, name, NULL), ERR_OK);
    return m;
}

START_TEST(writes_the_golden_bytes)
{
    struct file_map ours, golden = map_file(GOLDEN_DIR "/small.safetensors");
    struct st_file f;

    ck_assert_int_eq(write_small(NULL), ERR_OK);
    ours = map_file(path);
    ck_assert_uint_eq(ours.len, golden.len);
    ck_assert_int_eq(memcmp(ours.data, golden.data, golden.len), 0);
    ck_assert_int_eq(st_parse(&f, ours.data, ours.len, NULL), ERR_OK);
    ck_assert_int_eq(f.n, 3);
    ck_assert_str_eq(json_string_value(json_object_get(f.metadata, "format")), "espalier");
    ck_assert_int_eq(st_find(&f, "step")->shape.n_d, 0);
    ck_assert_uint_eq(st_find(&f, "mask")->bytes, 3);
    ck_assert_ptr_null(st_find(&f, "__metadata__"));
    st_file_free(&f);
    file_map_close(&ours);
    file_map_close(&golden);
    unlink(path);
}
END_TEST

/* More numbers than are put in order at a time. */
START_TEST(writes_in_another_order)
{
    enum { LEN = 3001 };
    const struct shape shape = { 1, { LEN } };
    struct st_writer *w;
    struct file_out *out;
    struct file_map map;
    struct st_file f;
    static float x[LEN];
    static uint32_t order[LEN];

    for (uint32_t i = 0; i < LEN; i++) {
        order[i] = i * 7 % LEN;
        x[order[i]] = (float)i;
    }
    ck_assert_int_eq(st_writer_new(&w, NULL), ERR_OK);
    ck_assert_int_eq(st_add_ordered(w, "ordered", &shape, x, order, NULL), ERR_OK);
    ck_assert_int_eq(st_add_ordered(w, "as it is", &shape, x, NULL, NULL), ERR_OK);
    ck_assert_int_eq(file_out_new(&out, path, NULL), ERR_OK);
    ck_assert_int_eq(st_write(w, NULL, out, NULL), ERR_OK);
    ck_assert_int_eq(file_out_publish(out, NULL, NULL), ERR_OK);
    file_out_free(out);
    st_writer_free(w);
    map = map_file(path);
    ck_assert_int_eq(st_parse(&f, map.data, map.len, NULL), ERR_OK);
    ck_assert_int_eq(memcmp(st_find(&f, "as it is")->data, x, sizeof x), 0);
    for (size_t i = 0; i < LEN; i++) {
        float got;

        memcpy(&got, (const char *)st_find(&f, "ordered")->data + i * sizeof got, sizeof got);
        ck_assert(got == (float)i);
    }
    st_file_free(&f);
    file_map_close(&map);
    unlink(path);
}
END_TEST

START_TEST(reads_every_number_type)
{
    static const char *const names[] = { "f", "h", "b", "d" };
    struct file_map m = map_file(GOLDEN_DIR "/dtypes.safetensors");
    struct st_file f;
    struct err e;
    float x[4];

    ck_assert_int_eq(st_parse(&f, m.data, m.len, NULL), ERR_OK);
    ck_assert_str_eq(f.array[0].name, "f"); /* in the file's order, not the header's */
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(st_floats(st_find(&f, names[i]), x, NULL), ERR_OK);
        ck_assert(x[0] == 1.5f && x[1] == 0 && signbit(x[1]));
        ck_assert(fabsf(x[2] - 6e-8f) < 1e-8f && fabsf(x[3] + 65504) < 300);
    }
    ck_assert_int_eq(st_floats(st_find(&f, "e"), x, &e), ERR_UNSUPPORTED);
    ck_assert_str_eq(e.at, "/e");
    st_file_free(&f);
    file_map_close(&m);
}
END_TEST

START_TEST(half_precision_is_exact) /* against the compiler's own conversion of all 65,536 patterns, through float arithmetic */
{
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t bits = (uint16_t)h;
        struct st_array a = { "x", ST_F16, { 0 }, &bits, 2 };
        int exponent = (int)(h >> 10 & 31);
        double want = exponent ? ldexp(1 + (h & 1023) / 1024.0, exponent - 15) : ldexp((h & 1023) / 1024.0, -14);
        float got;
        enum err_code rc = st_floats(&a, &got, NULL);

        ck_assert_int_eq(rc, exponent == 31 ? ERR_INVALID : ERR_OK);
        if (rc == ERR_OK)
            ck_assert(got == (float)(h & 0x8000 ? -want : want) && !signbit(got) == !(h & 0x8000));
    }
}
END_TEST

/* Whatever comes: no crash (the sanitizers watch), and what parses is inside the bytes. */
static enum err_code probe(const unsigned char *data, size_t n)
{
    unsigned char *exact = malloc(n ? n : 1); /* so that a read behind the end is seen */
    struct st_file f;
    enum err_code rc;
    float x[64];

    memcpy(exact, data, n);
    rc = st_parse(&f, exact, n, NULL);
    if (rc == ERR_OK) {
        for (int i = 0; i < f.n; i++) {
            ck_assert((const unsigned char *)f.array[i].data + f.array[i].bytes <= exact + n);
            if (shape_len(&f.array[i].shape) <= 64 && st_floats(&f.array[i], x, NULL) == ERR_OK)
                ck_assert(isfinite(x[0]));
        }
        st_file_free(&f);
    }
    free(exact);
    return rc;
}

START_TEST(every_truncation_is_refused)
{
    struct file_map m = map_file(GOLDEN_DIR "/dtypes.safetensors");
    unsigned char longer[1024] = { 0 };

    for (size_t n = 0; n < m.len; n++)
        ck_assert_int_ne(probe(m.data, n), ERR_OK);
    ck_assert_int_eq(probe(m.data, m.len), ERR_OK);
    memcpy(longer, m.data, m.len);
    ck_assert_int_eq(probe(longer, m.len + 1), ERR_INVALID);
    file_map_close(&m);
}
END_TEST

START_TEST(flipped_bytes_do_no_harm)
{
    struct file_map m = map_file(_i ? GOLDEN_DIR "/dtypes.safetensors" : GOLDEN_DIR "/small.safetensors");
    unsigned char copy[1024];
    uint32_t r = 12345;

    ck_assert(m.len <= sizeof copy);
    for (int i = 0; i < 20000; i++) {
        memcpy(copy, m.data, m.len);
        for (int k = 0; k <= i % 3; k++) {
            r = r * 1664525 + 1013904223;
            copy[(r >> 8) % m.len] ^= (unsigned char)(1 + (r & 0x7f));
        }
        probe(copy, m.len);
    }
    file_map_close(&m);
}
END_TEST

#define ARRAY "\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"
static const struct { const char *header; size_t n_data; enum err_code code; const char *at; } refused[] = {
    { "[]", 0, ERR_SYNTAX, "" },
    { "{", 0, ERR_SYNTAX, "" },
    { "{\"a\":{" ARRAY "}} x", 8, ERR_SYNTAX, "" },
    { "{\"a\":{" ARRAY "},\"a\":{" ARRAY "}}", 8, ERR_SYNTAX, "" },
    { "{\"a/b\":1}", 0, ERR_INVALID, "/a~1b" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, ERR_INVALID, "/a" },
    { "{\"a\":{" ARRAY ",\"more\":1}}", 8, ERR_INVALID, "/a" },
    { "{\"a\":{\"dtype\":\"C64\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, ERR_UNSUPPORTED, "/a/dtype" },
    { "{\"a\":{\"dtype\":4,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, ERR_INVALID, "/a/dtype" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, ERR_INVALID, "/a/shape" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, ERR_INVALID, "/a/shape" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, ERR_INVALID, "/a/shape" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967298],\"data_offsets\":[0,8]}}", 8, ERR_INVALID, "/a/shape" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2147483647,2147483647,4],\"data_offsets\":[0,8]}}", 8, ERR_INVALID, "/a/shape" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, ERR_INVALID, "/a/shape" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, ERR_INVALID, "/a/shape" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,12]}}", 12, ERR_INVALID, "/a/data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, ERR_INVALID, "/a/data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, ERR_INVALID, "/a/data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, ERR_INVALID, "/a/data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9223372036854775807]}}", 8, ERR_INVALID, "/a/data_offsets" },
    { "{\"a\":{" ARRAY "}}", 7, ERR_INVALID, "/a/data_offsets" },
    { "{\"a\":{" ARRAY "}}", 9, ERR_INVALID, "" },
    { "{\"a\":{" ARRAY "},\"b\":{" ARRAY "}}", 8, ERR_INVALID, "/b" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, ERR_INVALID, "/a" },
    { "{\"__metadata__\":{\"a\":1}}", 0, ERR_INVALID, "/__metadata__" },
    { "{\"__metadata__\":[]}", 0, ERR_INVALID, "/__metadata__" },
};

START_TEST(refuses_by_pointer)
{
    unsigned char bytes[512] = { 0 };
    uint64_t n = strlen(refused[_i].header);
    struct st_file f;
    struct err e = { 0 };

    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, refused[_i].header, n);
    ck_assert_int_eq(st_parse(&f, bytes, 8 + n + refused[_i].n_data, &e), refused[_i].code);
    ck_assert_str_eq(e.at, refused[_i].at);
    ck_assert(e.msg[0] != '\0');
}
END_TEST

START_TEST(refuses_a_header_of_any_length)
{
    static const uint64_t lengths[] = { 1, 9, 1 << 24, (1 << 24) + 1, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63 };
    unsigned char bytes[16] = { 0 };
    struct st_file f;

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memcpy(bytes, &lengths[i], 8);
        ck_assert_int_ne(st_parse(&f, bytes, sizeof bytes, NULL), ERR_OK);
    }
}
END_TEST

START_TEST(writer_refuses)
{
    struct st_writer *w;
    float x[2] = { 0 };

    ck_assert_int_eq(st_writer_new(&w, NULL), ERR_OK);
    ck_assert_int_eq(st_add(w, "a", ST_F32, &(struct shape){ 1, { 2 } }, x, NULL), ERR_OK);
    ck_assert_int_eq(st_add(w, "a", ST_F32, &(struct shape){ 1, { 2 } }, x, NULL), ERR_INVALID);
    ck_assert_int_eq(st_add(w, "__metadata__", ST_F32, &(struct shape){ 1, { 2 } }, x, NULL), ERR_INVALID);
    ck_assert_int_eq(st_add(w, "b", ST_F32, &(struct shape){ 1, { 0 } }, x, NULL), ERR_INVALID);
    st_writer_free(w);
}
END_TEST

START_TEST(survives_every_failure) /* of an allocation, then of a file call */
{
    struct file_map m = map_file(GOLDEN_DIR "/small.safetensors");
    bool fired = true;

    json_set_alloc_funcs(mem_alloc, mem_free);
    for (long k = 1; fired; k++) {
        mem_fail_in = k;
        enum err_code rc = write_small(NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_msg(rc == (fired ? ERR_NOMEM : ERR_OK), "allocation %ld: %s", k, err_slug(rc));
        ck_assert_int_eq(access(path, F_OK) == 0, !fired);
    }
    unlink(path);
    fired = true;
    for (long k = 1; fired; k++) {
        file_fail_in = k;
        enum err_code rc = write_small(NULL);
        fired = file_fail_in == 0;
        file_fail_in = 0;
        ck_assert(rc == (fired ? ERR_NO_SPACE : ERR_OK));
        ck_assert_int_eq(access(path, F_OK) == 0, !fired);
    }
    unlink(path);
    fired = true;
    for (long k = 1; fired; k++) {
        struct st_file f = { 0 };

        mem_fail_in = k;
        enum err_code rc = st_parse(&f, m.data, m.len, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert(fired || rc == ERR_OK); /* Jansson alone may pass a failed allocation in silence */
        st_file_free(&f);
    }
    file_map_close(&m);
}
END_TEST

static const struct { const char *text; enum err_code code; const char *where; } texts[] = {
    { "{\"a\": [1, -2.5e+3, true, null, \"x\\u00e9\\n\"]}", ERR_OK, "" },
    { " 0 ", ERR_OK, "" }, { "[]", ERR_OK, "" }, { "{}", ERR_OK, "" },
    { "", ERR_SYNTAX, "line 1 column 1" }, { "{\n \"a\": 01}", ERR_SYNTAX, "line 2 column 8" }, { "[1,]", ERR_SYNTAX, "line 1 column 4" },
    { "[1 2]", ERR_SYNTAX, "line 1 column 4" }, { "{\"a\" 1}", ERR_SYNTAX, "line 1 column 6" }, { "{1: 2}", ERR_SYNTAX, "line 1 column 2" },
    { "[}", ERR_SYNTAX, "line 1 column 2" }, { "{]", ERR_SYNTAX, "line 1 column 2" }, { "[1}", ERR_SYNTAX, "line 1 column 3" },
    { "nul", ERR_SYNTAX, "line 1 column 1" }, { "[NaN]", ERR_SYNTAX, "line 1 column 2" }, { "[Infinity]", ERR_SYNTAX, "line 1 column 2" },
    { "-", ERR_SYNTAX, "line 1 column 1" }, { "1.", ERR_SYNTAX, "line 1 column 1" }, { "1e", ERR_SYNTAX, "line 1 column 1" },
    { ".5", ERR_SYNTAX, "line 1 column 1" }, { "+1", ERR_SYNTAX, "line 1 column 1" }, { "1 2", ERR_SYNTAX, "line 1 column 3" },
    { "\"a", ERR_SYNTAX, "line 1 column 1" }, { "\"\\x\"", ERR_SYNTAX, "line 1 column 3" }, { "\"\\u12g4\"", ERR_SYNTAX, "line 1 column 3" },
    { "\"a\tb\"", ERR_SYNTAX, "line 1 column 3" }, { "{\"a\":1,\"a\":2}", ERR_SYNTAX, "line 1 column" }, { "1e999", ERR_SYNTAX, "line 1" },
    { "99999999999999999999", ERR_SYNTAX, "line 1" }, { "\"\xff\"", ERR_SYNTAX, "line 1" }, { "\"\\ud800\"", ERR_SYNTAX, "line 1" },
    { "[1,2,3,4,5,6,7,8,9,10]", ERR_TOO_LARGE, "" }, { "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5}", ERR_TOO_LARGE, "" },
    { "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", ERR_TOO_LARGE, "" },
};

START_TEST(json_texts) /* at most 10 values and keys, depth 32 */
{
    size_t n = strlen(texts[_i].text);
    char *exact = malloc(n ? n : 1);
    json_t *v = NULL;
    struct err e = { 0 };

    memcpy(exact, texts[_i].text, n);
    ck_assert_int_eq(json_read(&v, exact, n, _i == sizeof texts / sizeof texts[0] - 1 ? 100 : 10, &e), texts[_i].code);
    ck_assert_msg(strncmp(e.msg, texts[_i].where, strlen(texts[_i].where)) == 0, "%s: %s", texts[_i].text, e.msg);
    json_decref(v);
    for (size_t i = 0; i < n; i++) /* every truncation: only a top-level number may stay one */
        if (json_read(&v, exact, i, 1000, NULL) == ERR_OK)
            json_decref(v);
    free(exact);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "safetensors");

    tcase_add_checked_fixture(tc, scratch, NULL);
    tcase_add_test(tc, writes_the_golden_bytes);
    tcase_add_test(tc, writes_in_another_order);
    tcase_add_test(tc, reads_every_number_type);
    tcase_add_test(tc, half_precision_is_exact);
    tcase_add_test(tc, every_truncation_is_refused);
    tcase_add_loop_test(tc, flipped_bytes_do_no_harm, 0, 2);
    tcase_add_loop_test(tc, refuses_by_pointer, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(tc, refuses_a_header_of_any_length);
    tcase_add_test(tc, writer_refuses);
    tcase_add_test(tc, survives_every_failure);
    tcase_add_loop_test(tc, json_texts, 0, sizeof texts / sizeof texts[0]);
}
SUITE_MAIN("safetensors", cases)
