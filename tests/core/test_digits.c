/* Numbers as text: as short as may be, and the same when they are read again. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/digits.h"
#include "core/jsonguard.h"
#include "core/mem.h"
#include "core/rng.h"
#include "tests/suite.h"

enum { DRAWS = 20000 };

/* Of any size that there is. */
static double draw(const struct rng *r, uint64_t i)
{
    const double x = (rng_unit(r, 2 * i) - 0.5) * exp2((double)rng_below(r, 2 * i + 1, 2040) - 1020);

    return i % 3 == 0 ? round(x * 1e4) / 1e4 : i % 3 == 1 ? (double)(float)x : x;
}

static int significant(const char *text)
{
    int n = 0;

    for (; *text && *text != 'e'; text++)
        n += *text >= '0' && *text <= '9' && (n > 0 || *text != '0');
    return n;
}

START_TEST(reals_come_back_the_same)
{
    const double edges[] = { 0, -0.0, 0.1, 1.0 / 3, 5e-324, DBL_MIN, DBL_MAX, 1e15, 1e16, 1e17, 123456789012345678, 2.5e-7, 0.30000000000000004, -1 };
    const struct rng r = { 1, RNG_TEST, 0, 0 };
    char text[DIGITS_REAL_LEN], less[400];

    for (uint64_t i = 0; i < DRAWS; i++) {
        double x = i < sizeof edges / sizeof edges[0] ? edges[i] : draw(&r, i);
        size_t n = digits_real(text, x);

        ck_assert_msg(n == strlen(text) && strtod(text, NULL) == x, "%.17g: %s", x, text);
        if (significant(text) > 15) {
            snprintf(less, sizeof less, "%.*g", significant(text) - 1, x);
            ck_assert_msg(strtod(less, NULL) != x, "%s would do for %s", less, text);
        }
    }
}
END_TEST

START_TEST(floats_are_printed_as_floats)
{
    const float edges[] = { 0.1f, 1.0f / 3, FLT_MIN, FLT_MAX, 1e-45f, 16777216, -2.5f, INFINITY };
    const char *const printed[] = { "0.1", "0.33333334", "1.1754944e-38", "3.4028235e+38", "1.4e-45", "16777216", "-2.5" };
    const struct rng r = { 1, RNG_TEST, 1, 0 };
    char text[DIGITS_REAL_LEN];

    for (uint64_t i = 0; i < DRAWS; i++) {
        float x = i < sizeof edges / sizeof edges[0] ? edges[i] : (float)rng_normal(&r, i);
        double d = digits_of_float(x);

        ck_assert((float)d == x);
        if (isfinite(x)) {
            digits_real(text, d);
            ck_assert_int_le(significant(text), 9);
        }
        if (i < sizeof printed / sizeof printed[0] && i != 4)
            ck_assert_str_eq(text, printed[i]);
    }
}
END_TEST

/* Numbers within strings stay as they are. */
START_TEST(json_is_short_and_exact)
{
    static const char wanted[] = "{\"a\":0.1,\"0.10000000000000001\":[1.0,-2.5e-07,0.30000000000000004,12345678901234567],\"b\":\"\\\"0.10000000000000001\",\"c\":1e+300,\"d\":true,\"e\":[]}";
    json_t *j = json_pack("{s:f,s:[f,f,f,I],s:s,s:f,s:b,s:[]}", "a", 0.1, "0.10000000000000001", 1.0, -2.5e-7, 0.30000000000000004,
                          (json_int_t)12345678901234567, "b", "\"0.10000000000000001", "c", 1e300, "d", 1, "e");
    size_t n = 0;
    char *text = json_text(j, JSON_COMPACT, &n), *round = json_text(j, JSON_COMPACT | JSON_REAL_PRECISION(3), NULL);
    json_t *back = json_loads(text, 0, NULL);

    ck_assert_str_eq(text, wanted);
    ck_assert(n == strlen(text) && json_equal(j, back) && strstr(round, "0.3,"));
    mem_free(text);
    mem_free(round);
    json_decref(j);
    json_decref(back);
}
END_TEST

START_TEST(any_json_comes_back_the_same)
{
    const struct rng r = { 1, RNG_TEST, 2, 0 };
    json_t *j = json_array(), *back;
    char *text;

    for (uint64_t i = 0; i < DRAWS; i++)
        json_array_append_new(j, json_real(draw(&r, i)));
    text = json_text(j, JSON_INDENT(2), NULL);
    back = json_loads(text, 0, NULL);
    ck_assert(json_equal(j, back));
    mem_free(text);
    json_decref(j);
    json_decref(back);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "digits");

    tcase_add_test(tc, reals_come_back_the_same);
    tcase_add_test(tc, floats_are_printed_as_floats);
    tcase_add_test(tc, json_is_short_and_exact);
    tcase_add_test(tc, any_json_comes_back_the_same);
}
SUITE_MAIN("digits", cases)
