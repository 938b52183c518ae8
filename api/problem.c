/* api/problem.c: error codes as HTTP status and RFC 9457 problem documents. */
#include <stdio.h>
#include <string.h>

#include "api/api.h"

/* No default: the compiler names a code that was forgotten. */
static int status_of(enum err_code code)
{
    switch (code) {
    case ERR_OK: return 200;
    case ERR_SYNTAX: return 400;
    case ERR_INVALID: return 422;
    case ERR_UNSUPPORTED: return 422;
    case ERR_UNAUTHORIZED: return 401;
    case ERR_FORBIDDEN: return 403;
    case ERR_NOT_FOUND: return 404;
    case ERR_METHOD: return 405;
    case ERR_CONFLICT: return 409;
    case ERR_PRECONDITION: return 412;
    case ERR_TOO_LARGE: return 413;
    case ERR_MEDIA: return 415;
    case ERR_RANGE: return 416;
    case ERR_BUSY: return 503;
    case ERR_TIMEOUT: return 408;
    case ERR_TOO_MANY: return 429;
    case ERR_NO_SPACE: return 507;
    case ERR_STOPPED: return 503;
    case ERR_DIVERGED: return 500;
    case ERR_NOMEM: return 503;
    case ERR_IO: return 500;
    case ERR_INTERNAL: return 500;
    case ERR_COUNT: return 500;
    }
    return 500;
}

/* "not_found" -> "Not found" */
static void title_of(enum err_code code, char *buf, size_t n)
{
    snprintf(buf, n, "%s", err_slug(code));
    if (buf[0] >= 'a' && buf[0] <= 'z')
        buf[0] = (char)(buf[0] - 32);
    for (char *p = buf; *p; p++)
        if (*p == '_')
            *p = ' ';
}

/* Messages may quote what a client or a file said: whatever is no UTF-8 becomes '?'. */
static json_t *text(const char *s)
{
    json_t *j = json_string(s);
    char plain[400];
    size_t n = 0;

    for (; !j && s[n] && n + 1 < sizeof plain; n++)
        plain[n] = (unsigned char)s[n] < 0x80 ? s[n] : '?';
    plain[n] = '\0';
    return j ? j : json_string(plain);
}

json_t *api_problem(const struct err *e, const struct req *rq, int *status)
{
    char type[80], title[40];
    json_t *errors = NULL;

    *status = status_of(e->code);
    snprintf(type, sizeof type, "urn:espalier:problem:%s", err_slug(e->code));
    title_of(e->code, title, sizeof title);
    if (e->at[0])
        errors = json_pack("[{s:o,s:o}]", e->at[0] == '?' ? "parameter" : "pointer", text(e->at + (e->at[0] == '?')), "detail", text(e->msg));
    return json_pack("{s:s,s:s,s:i,s:o,s:s,s:o,s:o*,s:s}", "type", type, "title", title, "status", *status, "detail", text(e->msg), "code",
                     err_slug(e->code), "instance", text(rq->path), "errors", errors, "request_id", rq->request_id);
}
