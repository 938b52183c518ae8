/* server/http_dispatch.c: see http_exchange.h: route, refuse, collect the body, call the handler, make the reply. The order of refusals is the
 * order of the functions here. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/model.h"
#include "server/http_exchange.h"
#include "server/http_stats.h"
#include "server/log.h"

/* ---- what the handler sees ---- */

static const char *query_value(const struct req *rq, const char *name)
{
    const struct exchange *x = rq->transport;

    for (int i = 0; i < x->target.n_query; i++)
        if (strcmp(x->target.query[i].name, name) == 0)
            return x->target.query[i].value;
    return NULL;
}

static const char *header_value(const struct req *rq, const char *name)
{
    const struct exchange *x = rq->transport;

    return x->header ? x->header(x->header_user, name) : NULL;
}

static void make_request_id(char id[40], const char *given)
{
    static const char safe[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-";
    uint64_t r[2] = { 0 };

    if (given && *given && strlen(given) < 40 && given[strspn(given, safe)] == '\0')
        snprintf(id, 40, "%s", given);
    else if (getrandom(r, sizeof r, GRND_NONBLOCK) == sizeof r)
        snprintf(id, 40, "req_%016llx%08llx", (unsigned long long)r[0], (unsigned long long)(r[1] & 0xffffffff));
    else
        snprintf(id, 40, "req_%llx", (unsigned long long)clock_mono_ms());
}

static void content_type(struct exchange *x, const char *value)
{
    size_t n = value ? strcspn(value, "; \t") : 0;

    if (n >= sizeof x->content_type)
        n = sizeof x->content_type - 1;
    for (size_t i = 0; i < n; i++)
        x->content_type[i] = (char)(value[i] >= 'A' && value[i] <= 'Z' ? value[i] + 32 : value[i]);
    x->content_type[n] = '\0';
}

struct exchange *exchange_new(const struct http_conf *conf, const char *target)
{
    struct exchange *x = mem_zalloc(1, sizeof *x);

    if (!x)
        return NULL;
    x->conf = conf;
    x->begun_ms = clock_mono_ms();
    x->reply.fd = -1;
    x->target_text = mem_strdup(target);
    x->path = mem_strdup(target);
    if (!x->target_text || !x->path) {
        exchange_free(x);
        return NULL;
    }
    x->path[strcspn(x->path, "?#")] = '\0';
    x->rq = (struct req){ .method = x->method, .path = x->path, .content_type = x->content_type, .body_path = "", .body_hash = "",
                          .query = query_value, .header = header_value, .transport = x, .tenant = TENANT_DEFAULT, .scope = SCOPE_ADMIN };
    return x;
}

/* ---- route ---- */

/* Does the path fit the pattern? Fills args. */
static bool fits(const char *pattern, const struct http_target *t, const char *arg[REQ_MAX_ARGS])
{
    int n_arg = 0, i = 0;

    for (const char *p = pattern + 1; *p; i++) {
        size_t n = strcspn(p, "/");

        if (i >= t->n_segments || i >= HTTP_MAX_SEGMENTS || !*t->segment[i])
            return false;
        if (*p == '{' && n_arg < REQ_MAX_ARGS)
            arg[n_arg++] = t->segment[i];
        else if (strlen(t->segment[i]) != n || memcmp(t->segment[i], p, n) != 0)
            return false;
        p += n + (p[n] == '/');
    }
    return i == t->n_segments;
}

static void allow(char *list, size_t n, const char *method)
{
    size_t at = strlen(list);

    snprintf(list + at, n - at, "%s%s%s", at ? ", " : "", method, strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

static enum err_code find_route(struct exchange *x, struct err *e)
{
    const char *method = strcmp(x->method, "HEAD") == 0 ? "GET" : x->method, *arg[REQ_MAX_ARGS] = { NULL };

    for (const struct route *r = x->conf->routes; r->method; r++) {
        if (!fits(r->path, &x->target, arg))
            continue;
        if (strcmp(r->method, method) == 0) {
            x->route = r;
            memcpy(x->rq.arg, arg, sizeof arg);
            return ERR_OK;
        }
        allow(x->reply.allow, sizeof x->reply.allow, r->method);
    }
    if (x->reply.allow[0])
        return err_set(e, ERR_METHOD, "this address takes %s", x->reply.allow);
    return err_set(e, ERR_NOT_FOUND, "nothing is at this address");
}

static bool listed(const char *names, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = names; p && *p; p += strcspn(p, " "), p += *p == ' ')
        if (strcspn(p, " ") == n && memcmp(p, name, n) == 0)
            return true;
    return false;
}

static enum err_code check_query(const struct exchange *x, struct err *e)
{
    const char *names = x->route->query;
    char at[100];

    for (int i = 0; i < x->target.n_query; i++) {
        const char *name = x->target.query[i].name;

        snprintf(at, sizeof at, "?%.80s", name);
        if (!listed(names, name))
            return err_field(e, ERR_INVALID, at, "unknown query parameter; known: %s", names ? names : "none");
        if (query_value(&x->rq, name) != x->target.query[i].value)
            return err_field(e, ERR_INVALID, at, "query parameter given twice");
    }
    return ERR_OK;
}

/* ---- refusals that need no body ---- */

static enum err_code too_large(const struct exchange *x, struct err *e)
{
    if (x->max_body == 0)
        return err_set(e, ERR_TOO_LARGE, "this request takes no body");
    return err_set(e, ERR_TOO_LARGE, "the body is larger than %llu bytes", (unsigned long long)x->max_body);
}

/* A web page elsewhere may make a browser send simple requests here; the browser then says so. */
static enum err_code check_origin(const struct exchange *x, struct err *e)
{
    const char *origin = header_value(&x->rq, "Origin"), *host = header_value(&x->rq, "Host"), *name;

    if (!origin || strcmp(x->route->method, "GET") == 0)
        return ERR_OK;
    name = strstr(origin, "://");
    if (host && name && strcasecmp(name + 3, host) == 0)
        return ERR_OK;
    return err_set(e, ERR_FORBIDDEN, "requests that change something must not come from pages of another origin");
}

static enum err_code check_type(const struct exchange *x, struct err *e)
{
    static const char *const json_types[] = { "", "application/json", "application/x-www-form-urlencoded" /* curl's when none is given */ };
    const char *encoding = header_value(&x->rq, "Content-Encoding"), *type = x->content_type;
    size_t n = strlen(type);

    if (encoding && strcasecmp(encoding, "identity") != 0)
        return err_set(e, ERR_MEDIA, "Content-Encoding is not supported: send the body as it is");
    if (strncmp(type, "multipart/", 10) == 0)
        return err_set(e, ERR_MEDIA, "multipart is not supported: send the file itself as the body (curl -T FILE)");
    if (!(x->route->flags & BODY_JSON))
        return ERR_OK;
    for (size_t i = 0; i < sizeof json_types / sizeof json_types[0]; i++)
        if (strcmp(type, json_types[i]) == 0)
            return ERR_OK;
    if (n > 5 && strcmp(type + n - 5, "+json") == 0)
        return ERR_OK;
    return err_set(e, ERR_MEDIA, "the body must be application/json");
}

static enum err_code open_upload(struct exchange *x, struct err *e)
{
    enum err_code rc = x->conf->temp_path(x->conf->user, &x->rq, x->upload_path, sizeof x->upload_path,
                                          x->declared == HTTP_UNDECLARED ? 0 : x->declared, e);

    return rc == ERR_OK ? file_out_scratch(&x->upload, x->upload_path, x->route->flags & BODY_HASH, e) : rc;
}

static enum err_code begin(struct exchange *x, struct err *e)
{
    enum err_code rc = x->err.code == ERR_OK ? http_target_parse(&x->target, x->target_text, e) : x->err.code;
    bool has_body = x->declared > 0;

    if (rc == ERR_OK)
        rc = find_route(x, e);
    if (rc == ERR_OK && x->conf->admit)
        rc = x->conf->admit(x->conf->app, &x->rq, x->route, &x->reply, e);
    if (rc != ERR_OK)
        return rc;
    x->max_body = x->route->max_body == HTTP_MAX_UPLOAD ? x->conf->max_upload : x->route->max_body;
    rc = check_origin(x, e);
    if (rc == ERR_OK)
        rc = check_query(x, e);
    if (rc == ERR_OK && x->declared != HTTP_UNDECLARED && x->declared > x->max_body)
        rc = too_large(x, e);
    if (rc == ERR_OK && has_body && x->max_body > 0)
        rc = check_type(x, e);
    if (rc == ERR_OK && x->route->before)
        rc = x->route->before(x->conf->app, &x->rq, &x->reply, e);
    if (rc == ERR_OK && (x->route->flags & BODY_FILE))
        rc = has_body ? open_upload(x, e) : err_set(e, ERR_SYNTAX, "the body is empty: it must be the file");
    return rc;
}

/* Handlers may leave e->code as an inner function set it: the returned code counts. */
static void keep(struct exchange *x, enum err_code rc, const struct err *e)
{
    if (rc == ERR_OK)
        return;
    x->err = *e;
    x->err.code = rc;
}

void exchange_begin(struct exchange *x, const char *method, uint64_t declared)
{
    struct err e = x->err;

    snprintf(x->method, sizeof x->method, "%s", strlen(method) < sizeof x->method ? method : "?");
    x->declared = declared;
    content_type(x, header_value(&x->rq, "Content-Type"));
    make_request_id(x->rq.request_id, header_value(&x->rq, "X-Request-Id"));
    keep(x, begin(x, &e), &e);
}

/* ---- body ---- */

static enum err_code take(struct exchange *x, const void *data, size_t n, struct err *e)
{
    if (n > x->max_body - x->rq.body_bytes)
        return too_large(x, e);
    x->rq.body_bytes += n;
    if (x->upload)
        return file_out_write(x->upload, data, n, e);
    if (x->rq.body_bytes > x->body_room) {
        size_t room = x->body_room ? 2 * x->body_room : 4096;
        char *more;

        while (room < x->rq.body_bytes)
            room *= 2;
        more = mem_realloc(x->body, room);
        if (!more)
            return err_set(e, ERR_NOMEM, "out of memory");
        x->body = more;
        x->body_room = room;
    }
    memcpy(x->body + x->rq.body_bytes - n, data, n);
    return ERR_OK;
}

void exchange_body(struct exchange *x, const void *data, size_t n)
{
    struct err e = { 0 };

    if (x->err.code != ERR_OK)
        return;
    keep(x, take(x, data, n, &e), &e);
    if (x->err.code != ERR_OK) { /* its bytes are of no use to anybody */
        file_out_free(x->upload);
        x->upload = NULL;
    }
}

static enum err_code finish_body(struct exchange *x, struct err *e)
{
    enum err_code rc;

    if (x->upload) {
        if (x->rq.body_bytes == 0)
            return err_set(e, ERR_SYNTAX, "the body is empty: it must be the file");
        rc = file_out_publish(x->upload, x->route->flags & BODY_HASH ? x->upload_hash : NULL, e);
        x->published = rc == ERR_OK;
        x->rq.body_path = x->upload_path;
        x->rq.body_hash = x->upload_hash;
        return rc;
    }
    if (!(x->route->flags & BODY_JSON))
        return ERR_OK;
    if (x->rq.body_bytes == 0)
        return x->route->flags & BODY_OPTIONAL ? ERR_OK : err_set(e, ERR_SYNTAX, "the body is empty: it must be JSON");
    rc = json_read(&x->json, x->body, (size_t)x->rq.body_bytes, HTTP_MAX_TOKENS, e);
    x->rq.body = x->json;
    return rc;
}

/* ---- reply ---- */

static enum err_code run(struct exchange *x, struct err *e)
{
    enum err_code rc = finish_body(x, e);

    return rc == ERR_OK ? x->route->fn(x->conf->app, &x->rq, &x->reply, e) : rc;
}

static void clear_content(struct reply *r)
{
    json_decref(r->json);
    mem_free(r->text);
    if (r->source)
        r->source->free(r->source);
    if (r->fd >= 0)
        close(r->fd);
    r->source = NULL;
    r->json = NULL;
    r->text = NULL;
    r->fd = -1;
    r->fd_bytes = r->fd_offset = 0;
}

void reply_clear(struct reply *r)
{
    clear_content(r);
    memset(r, 0, sizeof *r);
    r->fd = -1;
}

static void problem_reply(struct exchange *x)
{
    struct reply *rp = &x->reply;

    clear_content(rp);
    rp->location[0] = rp->disposition[0] = rp->etag[0] = '\0';
    rp->ask_again_ms = 0;
    rp->json = x->conf->problem(&x->err, &x->rq, &rp->status);
    rp->content_type = "application/problem+json";
    if ((rp->status == 503 || rp->status == 429) && !rp->retry_after)
        rp->retry_after = rp->status == 503 ? 2 : 10;
}

bool http_etag_matches(const char *given, const char *etag)
{
    char quoted[sizeof ((struct reply *)0)->etag + 2];

    if (!given || !*etag)
        return false;
    snprintf(quoted, sizeof quoted, "\"%s\"", etag);
    return strcmp(given, "*") == 0 || strstr(given, quoted) != NULL;
}

/* Does If-None-Match name the reply's ETag? */
static bool not_modified(const struct exchange *x)
{
    return x->reply.status == 200 && strcmp(x->route->method, "GET") == 0 &&
           http_etag_matches(header_value(&x->rq, "If-None-Match"), x->reply.etag);
}

static enum err_code ask(struct exchange *x, struct err *e)
{
    struct reply *rp = &x->reply;
    enum err_code rc;

    rp->ask_again_ms = 0;
    rc = run(x, e);
    if (rc == ERR_OK && rp->source && x->stream_room && !x->stream_room(x->stream_user))
        return err_set(e, ERR_BUSY, "too many event streams and waiting requests at once");
    if (rp->source && (rp->json || rp->text || rp->fd >= 0)) { /* it was waited for */
        rp->source->free(rp->source);
        rp->source = NULL;
    }
    return rc;
}

bool exchange_waits(const struct exchange *x)
{
    return x->err.code == ERR_OK && x->reply.source && x->reply.ask_again_ms != 0;
}

void exchange_finish(struct exchange *x)
{
    struct err e = { 0 };

    if (x->err.code == ERR_OK)
        keep(x, ask(x, &e), &e);
    if (exchange_waits(x))
        return;
    if (x->reply.status == 0)
        x->reply.status = 200;
    if (x->err.code == ERR_OK && strcmp(x->method, "GET") == 0 && !not_modified(x))
        keep(x, http_range(&x->reply, header_value(&x->rq, "Range"), header_value(&x->rq, "If-Range"), &e), &e);
    if (x->err.code != ERR_OK) {
        problem_reply(x);
    } else if (not_modified(x)) {
        clear_content(&x->reply);
        x->reply.status = 304;
    } else if (x->reply.json && !x->reply.content_type) {
        x->reply.content_type = "application/json";
    }
    if (x->published) /* whatever the handler did not take away */
        unlink(x->upload_path);
    x->published = false;
    http_count_add(x->route, x->reply.status, clock_mono_ms() - x->begun_ms, 
                   x->route && (x->route->flags & BODY_FILE) ? x->rq.body_bytes : 0);
}

bool exchange_slow(const struct exchange *x)
{
    return x->err.code == ERR_OK && x->route && (x->route->flags & (SLOW | BODY_FILE));
}

const char *exchange_route(const struct exchange *x)
{
    return x->route ? x->route->path : "unmatched";
}

char *exchange_text(struct exchange *x, size_t *n)
{
    static const char last_resort[] = "{\"title\":\"out of memory\",\"status\":503,\"code\":\"out_of_memory\"}";
    char *text = x->reply.text;

    x->reply.text = NULL;
    *n = text ? strlen(text) : 0;
    if (x->reply.json) {
        text = json_text(x->reply.json, JSON_COMPACT, n);
        if (text)
            text[(*n)++] = '\n'; /* in the place of the NUL */
    }
    if (!text && (x->reply.json || x->reply.status >= 400)) {
        text = mem_strdup(last_resort);
        *n = text ? sizeof last_resort - 1 : 0;
        x->reply.status = 503;
    }
    return text;
}

void exchange_free(struct exchange *x)
{
    if (!x)
        return;
    file_out_free(x->upload);
    if (x->published)
        unlink(x->upload_path);
    json_decref(x->json);
    mem_free(x->body);
    mem_free(x->target_text);
    mem_free(x->path);
    reply_clear(&x->reply);
    mem_free(x);
}

/* ---- without sockets ---- */

static void nobody_sleeps(struct waker *w)
{
    (void)w;
}

static const char *given_header(void *user, const char *name)
{
    for (const char *const *h = user; *h; h += 2)
        if (strcasecmp(h[0], name) == 0)
            return h[1];
    return NULL;
}

void http_call_with(const struct http_conf *c, const char *method, const char *target, const char *const *headers, const void *body, size_t n,
                    struct reply *out)
{
    struct exchange *x = exchange_new(c, target);
    static struct waker nobody = { nobody_sleeps };

    if (!x) {
        *out = (struct reply){ .status = 503, .fd = -1 };
        return;
    }
    x->header = given_header;
    x->header_user = (void *)(uintptr_t)headers;
    x->rq.waker = &nobody;
    x->rq.last_call = true;
    exchange_begin(x, method, body ? n : 0);
    if (body && n > 0 && x->err.code == ERR_OK)
        exchange_body(x, body, n);
    exchange_finish(x);
    *out = x->reply;
    x->reply = (struct reply){ .fd = -1 };
    exchange_free(x);
}

void http_call(const struct http_conf *c, const char *method, const char *target, const char *type, const void *body, size_t n, struct reply *out)
{
    http_call_with(c, method, target, (const char *const[]){ "Content-Type", type ? type : "", NULL }, body, n, out);
}
