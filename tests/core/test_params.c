/* Field tables: what they refuse, by pointer; that what they dump parses again to the same struct. */
#include "core/params.h"

#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "tests/suite.h"

struct inner { double rate; };
static const struct param inner_params[] = { FIELD_REAL(struct inner, rate, 0, 1, 0.5, "A rate."), FIELD_END };
struct step_conf { int64_t every; };
static const struct param step_params[] = { FIELD_INT(struct step_conf, every, 1, 10, 3, "Steps."), FIELD_END };
static const struct plug plain = { "plain", "Nothing.", NULL, 0 }, step = { "step", "Steps.", step_params, sizeof(struct step_conf) };
static const struct plug *const rows[] = { &plain, &step, NULL };
static const struct plug_table table = { "pace", rows };

struct conf {
    int64_t n;
    double x, maybe;
    bool flag;
    int mode;
    char name[8];
    struct inner in;
    struct plug_value pace;
    struct inner list[3];
    int n_list;
};
static const struct param params[] = {
    FIELD_INT(struct conf, n, -5, 5, 2, "A count."), FIELD_REAL(struct conf, x, 0, 10, 1, "A number."),
    FIELD_REAL(struct conf, maybe, 0, 1, PARAM_NONE, "Perhaps."), FIELD_BOOL(struct conf, flag, 1, "A flag."),
    FIELD_CHOICE(struct conf, mode, "fast|slow", 1, "A mode."), FIELD_TEXT(struct conf, name, "bob", "A name."),
    FIELD_OBJECT(struct conf, in, inner_params, "Inside."), FIELD_PLUG(struct conf, pace, &table, "step", "A pace."),
    FIELD_LIST(struct conf, list, n_list, inner_params, "Some."), FIELD_END
};

static const struct { const char *json, *at; } refused[] = {
    { "{\"n\": 6}", "/n" }, { "{\"n\": 1.5}", "/n" }, { "{\"n\": \"1\"}", "/n" }, { "{\"x\": -1}", "/x" }, { "{\"flag\": 1}", "/flag" },
    { "{\"mode\": \"fas\"}", "/mode" }, { "{\"name\": \"12345678\"}", "/name" }, { "{\"name\": \"a\\u0001\"}", "/name" },
    { "{\"in\": {\"rate\": 2}}", "/in/rate" }, { "{\"in\": {\"a/b\": 2}}", "/in/a~1b" }, { "{\"pace\": \"no\"}", "/pace" },
    { "{\"pace\": {\"type\": \"step\", \"every\": 0}}", "/pace/every" }, { "{\"pace\": {\"every\": 1}}", "/pace/type" },
    { "{\"list\": [{}, {\"rate\": -1}]}", "/list/1/rate" }, { "{\"list\": [{},{},{},{}]}", "/list" }, { "{\"more\": 1}", "/more" },
    { "[]", "" }, { "{\"x\": null}", "/x" },
};

START_TEST(refuses_by_pointer)
{
    json_t *j = json_loads(refused[_i].json, 0, NULL);
    struct conf c = { .n = 77 };
    struct err e = { 0 };

    ck_assert_int_eq(params_parse(&c, sizeof c, params, j, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, refused[_i].at);
    ck_assert_int_eq(c.n, 77);
    json_decref(j);
}
END_TEST

START_TEST(dump_parses_again)
{
    json_t *j = json_loads("{\"n\": -5, \"maybe\": 0.25, \"pace\": {\"type\":\"step\",\"every\":9}, \"list\":[{\"rate\":1}]}", 0, NULL);
    struct conf a, b;
    json_t *d, *d2;

    ck_assert_int_eq(params_check(params, NULL), ERR_OK);
    ck_assert_int_eq(params_parse(&a, sizeof a, params, j, NULL), ERR_OK);
    ck_assert_int_eq(((struct step_conf *)(void *)a.pace.conf)->every, 9);
    d = params_dump(params, &a);
    ck_assert_int_eq(params_parse(&b, sizeof b, params, d, NULL), ERR_OK);
    d2 = params_dump(params, &b);
    ck_assert(json_equal(d, d2));
    ck_assert_str_eq(b.name, "bob");
    json_decref(d2);
    json_decref(d);
    d = params_describe(params);
    ck_assert_int_eq(json_object_size(json_object_get(d, "properties")), 9);
    json_decref(d);
    json_decref(j);
}
END_TEST

START_TEST(philox_known_answers) /* Random123's kat_vectors: philox4x32-10 of zeros */
{
    uint32_t out[4];
    struct rng r = { 0 };

    rng_block(out, &r, 0);
    ck_assert_uint_eq(out[0], 0x6627e8d5u);
    ck_assert_uint_eq(out[1], 0xe169c58du);
    ck_assert_uint_eq(out[2], 0xbc57ac4cu);
    ck_assert_uint_eq(out[3], 0x9b00dbd8u);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "params");

    tcase_add_loop_test(tc, refuses_by_pointer, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(tc, dump_parses_again);
    tcase_add_test(tc, philox_known_answers);
}
SUITE_MAIN("params", cases)
