/* core/err.c: see err.h. */
#include "core/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *err_slug(enum err_code code)
{
#define X(id, slug) slug,
    static const char *const slugs[] = { ERR_LIST(X) };
#undef X
    return code < ERR_COUNT ? slugs[code] : "internal";
}

static enum err_code fill(struct err *e, enum err_code code, const char *at, const char *fmt, va_list args)
{
    if (!e)
        return code;
    e->code = code;
    snprintf(e->at, sizeof e->at, "%s", at);
    vsnprintf(e->msg, sizeof e->msg, fmt, args);
    return code;
}

enum err_code err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fill(e, code, "", fmt, args);
    va_end(args);
    return code;
}

enum err_code err_field(struct err *e, enum err_code code, const char *at, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fill(e, code, at, fmt, args);
    va_end(args);
    return code;
}

enum err_code err_at(struct err *e, enum err_code code, const char *fmt, ...)
{
    char front[sizeof e->at], all[2 * sizeof e->at];
    va_list args;

    if (!e)
        return code;
    va_start(args, fmt);
    vsnprintf(front, sizeof front, fmt, args);
    va_end(args);
    snprintf(all, sizeof all, "%s%s", front, e->at);
    memcpy(e->at, all, sizeof e->at);
    e->at[sizeof e->at - 1] = '\0';
    return e->code;
}

enum err_code err_errno(struct err *e, int number, const char *what)
{
    char text[96];
    enum err_code code = ERR_IO;

    if (number == ENOSPC || number == EDQUOT || number == EFBIG)
        code = ERR_NO_SPACE;
    else if (number == ENOMEM)
        code = ERR_NOMEM;
    return err_set(e, code, "%s: %s", what, strerror_r(number, text, sizeof text));
}

void err_step(char *buf, size_t n, const char *key)
{
    size_t at = strlen(buf);

    if (at + 1 < n)
        buf[at++] = '/';
    for (; *key && at + 2 < n; key++) {
        if (*key == '~' || *key == '/') {
            buf[at++] = '~';
            buf[at++] = *key == '~' ? '0' : '1';
        } else {
            buf[at++] = *key;
        }
    }
    buf[at] = '\0';
}
