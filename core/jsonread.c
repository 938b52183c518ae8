/* core/jsonread.c: see jsonread.h. Only names go through Jansson, which unescapes them. */
#include "core/jsonread.h"

#include <jansson.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 600, NUMBER_MAX = 128 };

/* ---- objects ---- */

static enum err_code read_key(char buf[KEY_MAX], const struct json_scan *s, const struct json_token *t, struct err *e)
{
    json_error_t error;
    json_t *v;

    if (t->end - t->first > KEY_MAX)
        return err_set(e, ERR_INVALID, "a name of more than %d bytes", KEY_MAX);
    v = json_loadb(s->text + t->first, t->end - t->first, JSON_DECODE_ANY, &error);
    if (!v)
        return scan_error(s, t->first, error.text[0] ? error.text : "not a name", e);
    snprintf(buf, KEY_MAX, "%s", json_string_value(v));
    json_decref(v);
    return ERR_OK;
}

enum err_code scan_members(struct json_scan *s, member_fn *fn, void *user, struct err *e)
{
    char key[KEY_MAX];
    bool more;
    struct json_token t;
    enum err_code rc = scan_peek(s, &t, e);

    if (rc == ERR_OK && t.kind != '{' && memchr("[\"0tfn", t.kind, 6))
        return err_set(e, ERR_INVALID, "must be an object");
    if (rc == ERR_OK)
        rc = scan_expect(s, '{', &t, e);
    for (bool first = true; rc == ERR_OK; first = false) {
        rc = scan_more(s, '}', first, &more, e);
        if (rc != ERR_OK || !more)
            return rc;
        rc = scan_expect(s, '"', &t, e);
        if (rc == ERR_OK)
            rc = read_key(key, s, &t, e);
        if (rc == ERR_OK)
            rc = scan_expect(s, ':', &t, e);
        if (rc == ERR_OK && (rc = fn(user, s, key, e)) != ERR_OK) {
            char step[sizeof e->at] = "";

            err_step(step, sizeof step, key);
            return err_at(e, rc, "%s", step);
        }
    }
    return rc;
}

/* ---- arrays of numbers ---- */

struct numbers { const struct shape *shape; number_fn *put; void *user; size_t i; locale_t c; };

static enum err_code read_number(struct numbers *r, struct json_scan *s, struct err *e)
{
    char buf[NUMBER_MAX];
    struct json_token t;
    enum err_code rc = scan_next(s, &t, e);

    if (rc != ERR_OK)
        return rc;
    if (t.kind != '0')
        return err_set(e, ERR_INVALID, "must be a number");
    if (t.end - t.first >= sizeof buf)
        return err_set(e, ERR_INVALID, "a number of more than %d characters", NUMBER_MAX - 1);
    memcpy(buf, s->text + t.first, t.end - t.first);
    buf[t.end - t.first] = '\0';
    return r->put(r->user, r->i++, strtof_l(buf, NULL, r->c), e);
}

static enum err_code read_nested(struct numbers *r, struct json_scan *s, int dim, struct err *e)
{
    int want = dim < r->shape->n_d ? r->shape->d[dim] : 0;
    struct json_token t;
    bool more;
    enum err_code rc;

    if (dim == r->shape->n_d)
        return read_number(r, s, e);
    rc = scan_next(s, &t, e);
    if (rc == ERR_OK && t.kind != '[')
        return err_set(e, ERR_INVALID, "must be an array of %d", want);
    for (int k = 0; rc == ERR_OK; k++) {
        rc = scan_more(s, ']', k == 0, &more, e);
        if (rc != ERR_OK || (!more && k == want))
            return rc;
        if (!more || k == want)
            return err_set(e, ERR_INVALID, "must be an array of %d, as the shape says, not %s", want, more ? "more" : "fewer");
        if ((rc = read_nested(r, s, dim + 1, e)) != ERR_OK)
            err_at(e, rc, "/%d", k);
    }
    return rc;
}

enum err_code scan_numbers(struct json_scan *s, const struct shape *shape, number_fn *put, void *user, struct err *e)
{
    struct numbers r = { shape, put, user, 0, newlocale(LC_ALL_MASK, "C", (locale_t)0) };
    enum err_code rc = r.c ? read_nested(&r, s, 0, e) : err_set(e, ERR_NOMEM, "out of memory");

    if (r.c)
        freelocale(r.c);
    return rc;
}
