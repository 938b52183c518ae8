/* core/jsonscan.c: see jsonscan.h. */
#include "core/jsonscan.h"

#include <stdio.h>
#include <string.h>

enum err_code scan_error(const struct json_scan *s, size_t at, const char *what, struct err *e)
{
    size_t line = 1, start = 0;

    for (size_t i = 0; i < at && i < s->n; i++)
        if (s->text[i] == '\n') {
            line++;
            start = i + 1;
        }
    return err_set(e, ERR_SYNTAX, "line %zu column %zu: %s", line, at - start + 1, what);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* The byte at i, NUL behind the end: no token contains one. */
static char byte_at(const struct json_scan *s, size_t i)
{
    return i < s->n ? s->text[i] : '\0';
}

static enum err_code scan_string(const struct json_scan *s, struct json_token *t, struct err *e)
{
    size_t i = t->first + 1;

    for (; i < s->n && s->text[i] != '"'; i++) {
        if ((unsigned char)s->text[i] < 0x20)
            return scan_error(s, i, "control character in a string", e);
        if (s->text[i] != '\\')
            continue;
        i++;
        if (!memchr("\"\\/bfnrtu", byte_at(s, i), 9))
            return scan_error(s, i, "unknown escape in a string", e);
        for (size_t k = 1; s->text[i] == 'u' && k <= 4; k++)
            if (!is_hex(byte_at(s, i + k)))
                return scan_error(s, i, "\\u needs four hexadecimal digits", e);
    }
    if (i >= s->n)
        return scan_error(s, t->first, "string without an end", e);
    t->end = i + 1;
    return ERR_OK;
}

static size_t digits(const struct json_scan *s, size_t i)
{
    while (is_digit(byte_at(s, i)))
        i++;
    return i;
}

static enum err_code scan_number(const struct json_scan *s, struct json_token *t, struct err *e)
{
    size_t i = t->first + (s->text[t->first] == '-'), from = i;

    t->kind = '0';
    i = byte_at(s, i) == '0' ? i + 1 : digits(s, i);
    if (i > from && byte_at(s, i) == '.') {
        from = i + 1;
        i = digits(s, from);
    }
    if (i > from && (byte_at(s, i) == 'e' || byte_at(s, i) == 'E')) {
        from = i + 1 + (byte_at(s, i + 1) == '+' || byte_at(s, i + 1) == '-');
        i = digits(s, from);
    }
    if (i <= from)
        return scan_error(s, t->first, "not a JSON number", e);
    t->end = i;
    return ERR_OK;
}

static enum err_code scan_literal(const struct json_scan *s, struct json_token *t, struct err *e)
{
    static const char *const words[] = { "true", "false", "null" };

    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);

        if (s->n - t->first >= n && memcmp(s->text + t->first, words[i], n) == 0) {
            t->end = t->first + n;
            return ERR_OK;
        }
    }
    return scan_error(s, t->first, "not JSON: a value, a name or a bracket is expected (NaN and Infinity are no numbers)", e);
}

enum err_code scan_peek(const struct json_scan *s, struct json_token *t, struct err *e)
{
    size_t i = s->at;

    while (i < s->n && memchr(" \t\r\n", s->text[i], 4))
        i++;
    *t = (struct json_token){ .kind = i < s->n ? s->text[i] : SCAN_END, .first = i, .end = i + (i < s->n) };
    if (i == s->n || memchr("{}[]:,", t->kind, 6))
        return ERR_OK;
    if (t->kind == '"')
        return scan_string(s, t, e);
    if (t->kind == '-' || is_digit(t->kind))
        return scan_number(s, t, e);
    return scan_literal(s, t, e);
}

enum err_code scan_next(struct json_scan *s, struct json_token *t, struct err *e)
{
    enum err_code rc = scan_peek(s, t, e);

    if (rc == ERR_OK)
        s->at = t->end;
    return rc;
}

enum err_code scan_expect(struct json_scan *s, char kind, struct json_token *t, struct err *e)
{
    static const struct { char kind; const char *what; } names[] = {
        { '"', "a string" }, { '0', "a number" }, { SCAN_END, "the end" }
    };
    char what[48];
    enum err_code rc = scan_next(s, t, e);

    if (rc != ERR_OK || t->kind == kind)
        return rc;
    snprintf(what, sizeof what, "'%c' is expected", kind);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].kind == kind)
            snprintf(what, sizeof what, "%s is expected", names[i].what);
    return scan_error(s, t->first, what, e);
}

enum err_code scan_more(struct json_scan *s, char close, bool first, bool *more, struct err *e)
{
    struct json_token t;
    enum err_code rc = scan_peek(s, &t, e);

    if (rc != ERR_OK)
        return rc;
    *more = t.kind != close;
    if (!*more || (!first && t.kind == ','))
        return scan_next(s, &t, e);
    return first ? ERR_OK : scan_error(s, t.first, close == ']' ? "',' or ']' is expected" : "',' or '}' is expected", e);
}

/* One value's first token, counted; with the name before it, inside an object. */
static enum err_code skip_start(struct json_scan *s, bool named, struct json_token *t, size_t *n_tokens, struct err *e)
{
    enum err_code rc = ERR_OK;
    size_t need = named ? 2 : 1;

    if (named)
        rc = scan_expect(s, '"', t, e);
    if (rc == ERR_OK && named)
        rc = scan_expect(s, ':', t, e);
    if (rc == ERR_OK)
        rc = scan_next(s, t, e);
    if (rc != ERR_OK)
        return rc;
    if (!memchr("{[\"0tfn", t->kind, 7))
        return scan_error(s, t->first, "a value is expected", e);
    if (*n_tokens < need)
        return err_set(e, ERR_TOO_LARGE, "too many values and names in the JSON text");
    *n_tokens -= need;
    return ERR_OK;
}

enum err_code scan_skip(struct json_scan *s, int max_depth, size_t *n_tokens, struct err *e)
{
    char close[SCAN_MAX_DEPTH];
    int depth = 0;
    bool more = true;
    struct json_token t;
    enum err_code rc;

    for (;;) {
        rc = skip_start(s, depth > 0 && close[depth - 1] == '}', &t, n_tokens, e);
        if (rc != ERR_OK)
            return rc;
        bool opened = t.kind == '{' || t.kind == '[';

        if (opened && depth >= max_depth)
            return err_set(e, ERR_TOO_LARGE, "the JSON text is nested deeper than %d levels", max_depth);
        if (opened)
            close[depth++] = t.kind == '{' ? '}' : ']';
        for (; depth > 0; depth--, opened = false) {
            rc = scan_more(s, close[depth - 1], opened, &more, e);
            if (rc != ERR_OK)
                return rc;
            if (more)
                break;
        }
        if (depth == 0)
            return ERR_OK;
    }
}
