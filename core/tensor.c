/* core/tensor.c: see tensor.h. */
#include "core/tensor.h"

#include <stdio.h>

size_t shape_len(const struct shape *s)
{
    size_t n = 1;

    for (int i = 0; i < s->n_d; i++)
        n *= (size_t)s->d[i];
    return n;
}

enum err_code shape_check(const struct shape *s, struct err *e)
{
    size_t n = 1;

    if (s->n_d < 0 || s->n_d > SHAPE_MAX)
        return err_set(e, ERR_INVALID, "a shape has at most %d dimensions", SHAPE_MAX);
    for (int i = 0; i < s->n_d; i++) {
        if (s->d[i] < 1)
            return err_set(e, ERR_INVALID, "dimension %d of the shape must be at least 1, not %d", i, s->d[i]);
        if (__builtin_mul_overflow(n, (size_t)s->d[i], &n) || n > SHAPE_MAX_LEN)
            return err_set(e, ERR_INVALID, "the shape holds more than %zu numbers", SHAPE_MAX_LEN);
    }
    return ERR_OK;
}

bool shape_equal(const struct shape *a, const struct shape *b)
{
    if (a->n_d != b->n_d)
        return false;
    for (int i = 0; i < a->n_d; i++)
        if (a->d[i] != b->d[i])
            return false;
    return true;
}

const char *shape_text(const struct shape *s, char *buf, size_t n)
{
    size_t at = (size_t)snprintf(buf, n, "(");

    for (int i = 0; i < s->n_d && at < n; i++)
        at += (size_t)snprintf(buf + at, n - at, "%s%d", i ? ", " : "", s->d[i]);
    if (at < n)
        snprintf(buf + at, n - at, s->n_d == 1 ? ",)" : ")");
    return buf;
}

json_t *shape_json(const struct shape *s)
{
    json_t *list = s ? json_array() : json_null();

    for (int i = 0; s && i < s->n_d; i++)
        if (json_array_append_new(list, json_integer(s->d[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}
