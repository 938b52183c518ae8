/* core/jsonguard.c: JSON text into Jansson values. Jansson takes up to fifty times the text's size in memory and recurses; so the text
 * is first passed by the scanner, which allocates nothing, and counts. And back: Jansson writes reals with 17 digits, most of them noise. */
#include "core/jsonguard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/digits.h"
#include "core/jsonscan.h"
#include "core/mem.h"

enum { JSON_DEPTH = 32 };

enum err_code json_guard(const char *text, size_t n, int max_depth, size_t max_tokens, struct err *e)
{
    struct json_scan s = { text, n, 0 };
    struct json_token t;
    enum err_code rc = scan_skip(&s, max_depth, &max_tokens, e);

    return rc == ERR_OK ? scan_expect(&s, SCAN_END, &t, e) : rc;
}

/* The text is well-formed, so few reasons are left. Jansson does not always say that memory was short: it is what remains. */
static enum err_code reason(const json_error_t *error, struct err *e)
{
    switch (json_error_code(error)) {
    case json_error_duplicate_key:
    case json_error_invalid_utf8:
    case json_error_null_character:
    case json_error_null_byte_in_key:
    case json_error_numeric_overflow:
    case json_error_invalid_syntax: /* a lone surrogate */
        return err_set(e, ERR_SYNTAX, "line %d column %d: %s", error->line, error->column, error->text);
    default:
        return err_set(e, ERR_NOMEM, "out of memory");
    }
}

enum err_code json_read(json_t **out, const char *text, size_t n, size_t max_tokens, struct err *e)
{
    json_error_t error;
    enum err_code rc = json_guard(text, n, JSON_DEPTH, max_tokens, e);

    if (rc != ERR_OK)
        return rc;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    return *out ? ERR_OK : reason(&error, e);
}

/* The number at *from, which ends before `end`, to *to, which is not behind it: with fewer digits, where Jansson's 17 are more than it needs. */
static void put_number(char **to, const char *from, size_t n)
{
    char shorter[DIGITS_REAL_LEN + 2];
    size_t m = n;

    if (n > 15 && strcspn(from, ".e") < n) {
        m = digits_real(shorter, strtod(from, NULL));
        if (strcspn(shorter, ".e") == m)
            m += (size_t)snprintf(shorter + m, 3, ".0");
    }
    if (m < n) {
        memcpy(*to, shorter, m);
    } else {
        memmove(*to, from, n);
        m = n;
    }
    *to += m;
}

/* Shortens the numbers of a text that Jansson wrote, in place; its new length. */
static size_t shorten(char *text)
{
    bool in_string = false;
    char *to = text;

    for (const char *p = text; *p;) {
        size_t n = in_string ? 0 : strspn(p, "+-.0123456789e"); /* "true" and "false" do not begin so */

        if (n > 0 && *p != 'e') {
            put_number(&to, p, n);
            p += n;
            continue;
        }
        in_string ^= *p == '"';
        if (in_string && *p == '\\')
            *to++ = *p++;
        *to++ = *p++;
    }
    *to = '\0';
    return (size_t)(to - text);
}

char *json_text(const json_t *j, size_t flags, size_t *n)
{
    size_t len = j ? json_dumpb(j, NULL, 0, flags) : 0;
    char *text = len > 0 ? mem_alloc(len + 1) : NULL;

    if (text && json_dumpb(j, text, len, flags) == len) {
        text[len] = '\0';
        len = shorten(text);
        if (n)
            *n = len;
        return text;
    }
    mem_free(text);
    return NULL;
}
