/* tests/golden.h: numbers out of a golden file, and numbers compared with them. */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include <check.h>
#include <jansson.h>
#include <math.h>

/* How far a number may be from what it must be: absolute + relative * |what it must be|. */
struct golden_bound { double absolute, relative; };

static inline void golden_floats(float *out, const json_t *list, size_t n)
{
    ck_assert_uint_eq(json_array_size(list), n);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)json_number_value(json_array_get(list, i));
}

static inline void golden_near(const float *x, const json_t *list, size_t n, const char *what, struct golden_bound bound)
{
    ck_assert_uint_eq(json_array_size(list), n);
    for (size_t i = 0; i < n; i++) {
        double want = json_number_value(json_array_get(list, i));

        ck_assert_msg(fabs((double)x[i] - want) <= bound.absolute + bound.relative * fabs(want), "%s[%zu] is %.9g, must be %.9g", what, i,
                      (double)x[i], want);
    }
}

#endif
