/* server/log.c: see log.h. A line is built in a buffer on the stack and written by one write(), so lines of threads never mix and logging
 * neither allocates nor locks. A value that does not fit is cut between characters; the line stays valid JSON. */
#include "server/log.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/digits.h"
#include "core/utf8.h"

enum { LINE_LEN = 4096, TAIL_LEN = 4 }; /* the tail: room for `"}` and a line feed */

static atomic_int max_level = LOG_INFO;
static const char *const level_names[] = { "error", "warn", "info", "debug" };

struct line { char text[LINE_LEN]; size_t n; };

void log_set_level(enum log_level level)
{
    atomic_store(&max_level, (int)level);
}

bool log_level_parse(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++)
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

/* Appends n bytes whole, or nothing. */
static bool put(struct line *l, const char *s, size_t n)
{
    if (l->n + n + TAIL_LEN > LINE_LEN)
        return false;
    memcpy(l->text + l->n, s, n);
    l->n += n;
    return true;
}

static void put_string(struct line *l, const char *value)
{
    const char *s = value ? value : "";
    char code[8];

    for (size_t n; *s; s += n) {
        bool fits;

        n = (unsigned char)*s < 0x20 || *s == 0x7f ? 0 : utf8_len(s);
        if (n > 0 && *s != '"' && *s != '\\') {
            fits = put(l, s, n);
        } else {
            if (n > 0)
                snprintf(code, sizeof code, "\\%c", *s);
            else
                snprintf(code, sizeof code, "\\u%04x", (unsigned char)*s < 0x80 ? (unsigned)*s : 0xfffdu);
            fits = put(l, code, strlen(code));
            n = 1;
        }
        if (!fits)
            return;
    }
}

static bool put_key(struct line *l, const char *key)
{
    return put(l, ",\"", 2) && put(l, key, strlen(key)) && put(l, "\":", 2);
}

static void put_field(struct line *l, const struct log_field *f)
{
    char number[32] = "null";
    size_t before = l->n;

    if (!put_key(l, f->key)) {
        l->n = before;
        return;
    }
    if (f->type == LOG_TYPE_STR) {
        if (put(l, "\"", 1)) {
            put_string(l, f->u.s);
            l->text[l->n++] = '"'; /* the tail keeps room for it */
            return;
        }
    } else {
        if (f->type == LOG_TYPE_INT)
            digits(number, f->u.i);
        else if (isfinite(f->u.r))
            snprintf(number, sizeof number, "%.9g", f->u.r);
        if (put(l, number, strlen(number)))
            return;
    }
    l->n = before;
}

void log_fields(enum log_level level, const char *msg, const struct log_field *f)
{
    struct line l = { .n = 0 };
    struct timespec now;
    struct tm tm;
    ssize_t rc;

    if ((int)level > atomic_load(&max_level))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    l.n = strftime(l.text, sizeof l.text, "{\"ts\":\"%Y-%m-%dT%H:%M:%S", &tm);
    l.n += (size_t)snprintf(l.text + l.n, sizeof l.text - l.n, ".%03dZ\",\"level\":\"%s\",\"msg\":\"", (int)(now.tv_nsec / 1000000),
                            level_names[level]);
    put_string(&l, msg);
    l.text[l.n++] = '"';
    for (; f->type != LOG_END; f++)
        put_field(&l, f);
    l.text[l.n++] = '}';
    l.text[l.n++] = '\n';
    rc = write(STDOUT_FILENO, l.text, l.n);
    (void)rc; /* a log that cannot be written must not stop the daemon */
}

static int64_t clock_of(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t clock_ms(void)
{
    return clock_of(CLOCK_REALTIME);
}

int64_t clock_mono_ms(void)
{
    return clock_of(CLOCK_MONOTONIC);
}
