/* server/http_path.c: request targets: "/v1/jobs/job_1?limit=3" into decoded segments and query parameters.
 *
 * libmicrohttpd decodes before we can look ("/files/a%00b" becomes "/files/a"), so its decoding is switched off and this is all there is. A segment
 * is decoded after the path was cut, so an escaped slash cannot move a boundary; it is refused all the same, with everything else that no id
 * contains: control bytes, NUL, broken UTF-8. Nothing here ever becomes a file name. */
#include <string.h>

#include "core/utf8.h"
#include "server/http_exchange.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static enum err_code decode(char *s, bool plus_is_space, bool slash, struct err *e)
{
    char *to = s;

    for (const char *p = s; *p; p++) {
        if (*p != '%') {
            *to++ = plus_is_space && *p == '+' ? ' ' : *p;
            continue;
        }
        if (hex(p[1]) < 0 || hex(p[2]) < 0)
            return err_set(e, ERR_SYNTAX, "the address has a %% without two hexadecimal digits");
        *to = (char)(hex(p[1]) * 16 + hex(p[2]));
        if (*to == '\0' || (*to == '/' && !slash))
            return err_set(e, ERR_SYNTAX, "the address must not contain %%00, nor %%2F in its path");
        to++;
        p += 2;
    }
    *to = '\0';
    for (const char *p = s; *p;) {
        size_t n = utf8_len(p);

        if (n == 0 || (unsigned char)*p < 0x20 || *p == 0x7f)
            return err_set(e, ERR_SYNTAX, "the address must be UTF-8 without control characters");
        p += n;
    }
    return ERR_OK;
}

static enum err_code parse_query(struct http_target *t, char *s, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (char *next; s && rc == ERR_OK; s = next) {
        char *value;

        next = strchr(s, '&');
        if (next)
            *next++ = '\0';
        if (!*s)
            continue;
        if (t->n_query == HTTP_MAX_QUERY)
            return err_set(e, ERR_SYNTAX, "more than %d query parameters", HTTP_MAX_QUERY);
        value = strchr(s, '=');
        if (value)
            *value++ = '\0';
        else
            value = s + strlen(s);
        rc = decode(s, true, true, e);
        if (rc == ERR_OK && *value)
            rc = decode(value, true, true, e);
        t->query[t->n_query].name = s;
        t->query[t->n_query++].value = value;
    }
    return rc;
}

enum err_code http_target_parse(struct http_target *t, char *text, struct err *e)
{
    enum err_code rc = ERR_OK;
    char *query;

    memset(t, 0, sizeof *t);
    if (text[0] != '/')
        return err_set(e, ERR_SYNTAX, "the address must begin with a slash");
    text[strcspn(text, "#")] = '\0';
    query = strchr(text, '?');
    if (query)
        *query++ = '\0';
    if (text[1])
        for (char *s = text + 1, *next; s && rc == ERR_OK; s = next) {
            next = strchr(s, '/');
            if (next)
                *next++ = '\0';
            rc = decode(s, false, false, e);
            if (t->n_segments < HTTP_MAX_SEGMENTS)
                t->segment[t->n_segments] = s;
            if (t->n_segments <= HTTP_MAX_SEGMENTS)
                t->n_segments++;
        }
    return rc == ERR_OK ? parse_query(t, query, e) : rc;
}
