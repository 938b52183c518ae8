/* api/reply.c: what handlers share: pages and queries in, lists and rows' JSON out. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "core/jsonguard.h"
#include "core/mem.h"

static enum err_code no_memory(struct err *e)
{
    return err_set(e, ERR_NOMEM, "out of memory");
}

enum err_code api_reply(struct reply *rp, int status, json_t *json, struct err *e)
{
    if (!json)
        return no_memory(e);
    rp->status = status ? status : 200;
    rp->json = json;
    return ERR_OK;
}

enum err_code api_created(struct reply *rp, const char *location, json_t *json, struct err *e)
{
    snprintf(rp->location, sizeof rp->location, "%s", location);
    return api_reply(rp, 201, json, e);
}

enum err_code api_id(const struct req *rq, int i, const char *prefix, struct err *e)
{
    return id_valid(rq->arg[i], prefix) ? ERR_OK : err_set(e, ERR_NOT_FOUND, "\"%.40s\" is no id that begins with %s_", rq->arg[i], prefix);
}

enum err_code api_query_int(const struct req *rq, const char *name, int64_t low, int64_t high, int64_t dflt, int64_t *out, struct err *e)
{
    const char *text = rq->query(rq, name);
    char at[40], *end = NULL;
    long long v;

    *out = dflt;
    if (!text)
        return ERR_OK;
    errno = 0;
    v = strtoll(text, &end, 10);
    if (errno == 0 && *text && text[strspn(text, "0123456789")] == '\0' && v >= low && v <= high) {
        *out = v;
        return ERR_OK;
    }
    snprintf(at, sizeof at, "?%s", name);
    return err_field(e, ERR_INVALID, at, "%s must be a whole number from %lld to %lld", name, (long long)low, (long long)high);
}

enum err_code api_page(struct page *p, const struct req *rq, const char *prefix, struct err *e)
{
    const char *after = rq->query(rq, "after");
    int64_t limit;
    enum err_code rc = api_query_int(rq, "limit", 1, API_MAX_LIMIT, API_DEFAULT_LIMIT, &limit, e);

    if (rc != ERR_OK)
        return rc;
    *p = (struct page){ .tenant = rq->tenant, .limit = (int)limit };
    if (after && !id_valid(after, prefix))
        return err_field(e, ERR_INVALID, "?after", "after must be the id of the last item of the page before, %s_...", prefix);
    if (after)
        snprintf(p->after, sizeof p->after, "%s", after);
    return ERR_OK;
}

enum err_code api_numbered_page(const struct req *rq, int64_t *after, int64_t *limit, struct err *e)
{
    enum err_code rc = api_query_int(rq, "after", 0, INT64_MAX, 0, after, e);

    return rc == ERR_OK ? api_query_int(rq, "limit", 1, API_MAX_LIMIT, API_DEFAULT_LIMIT, limit, e) : rc;
}

json_t *api_list(json_t *data, bool more)
{
    return data ? json_pack("{s:s,s:o,s:b}", "object", "list", "data", data, "has_more", (int)more) : NULL;
}

json_t *api_stored(const char *text)
{
    return text ? json_loads(text, JSON_DECODE_ANY, NULL) : json_null();
}

json_t *api_seconds(int64_t ms)
{
    return ms ? json_integer(ms / 1000) : json_null();
}

enum err_code api_append(json_t *list, json_t *item, struct err *e)
{
    return json_array_append_new(list, item) == 0 ? ERR_OK : no_memory(e);
}

enum err_code api_dump(char **text, const json_t *j, struct err *e)
{
    *text = json_text(j, JSON_COMPACT, NULL);
    return *text ? ERR_OK : no_memory(e);
}

/* Room for n more bytes and a NUL? */
static bool has_room(struct api_text *t, size_t n)
{
    size_t room = 2 * t->room + n + 1024;
    char *more;

    if (t->failed || t->n + n < t->room)
        return !t->failed;
    more = mem_realloc(t->s, room);
    t->failed = !more;
    if (!more)
        return false;
    t->s = more;
    t->room = room;
    return true;
}

void api_text_put(struct api_text *t, const char *s, size_t n)
{
    if (!has_room(t, n))
        return;
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = '\0';
}

void api_text_cat(struct api_text *t, ...)
{
    va_list args;
    const char *s;

    va_start(args, t);
    while ((s = va_arg(args, const char *)))
        api_text_put(t, s, strlen(s));
    va_end(args);
}

void api_text_string(struct api_text *t, const char *s)
{
    api_text_put(t, "\"", 1);
    while (*s) {
        size_t n = 0;

        while ((unsigned char)s[n] >= 0x20 && s[n] != '"' && s[n] != '\\')
            n++;
        api_text_put(t, s, n);
        s += n;
        if (*s)
            api_text_add(t, "\\u%04x", (unsigned char)*s++);
    }
    api_text_put(t, "\"", 1);
}

void api_text_add(struct api_text *t, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0 || !has_room(t, (size_t)n))
        return;
    va_start(args, fmt);
    vsnprintf(t->s + t->n, t->room - t->n, fmt, args);
    va_end(args);
    t->n += (size_t)n;
}

enum err_code api_reply_text(struct reply *rp, struct api_text *t, const char *content_type, struct err *e)
{
    if (!t->s || t->failed) {
        mem_free(t->s);
        return no_memory(e);
    }
    rp->text = t->s;
    rp->content_type = content_type;
    return ERR_OK;
}
