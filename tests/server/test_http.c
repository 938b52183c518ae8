/* The HTTP transport over real sockets: what it refuses and how, limits at their edges, bodies that lie, drip or break off, and its stop. */
#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/rng.h"
#include "server/http_exchange.h"
#include "server/log.h"
#include "tests/suite.h"

enum { JSON_LIMIT = 1000, FILE_LIMIT = 100000 };
static atomic_int n_handled, slow_running, slow_may_end;
static char temp_dir[64];

/* ---- a small API ---- */

static enum err_code echo(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    (void)app;
    atomic_fetch_add(&n_handled, 1);
    rp->json = json_pack("{s:s,s:s?,s:s?,s:I,s:s,s:O?}", "method", rq->method, "arg", rq->arg[0], "q", rq->query(rq, "q"), "bytes",
                         (json_int_t)rq->body_bytes, "hash", rq->body_hash, "body", rq->body);
    return rp->json ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

static enum err_code slow(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    const struct timespec pause = { 0, 1000000 };

    atomic_fetch_add(&slow_running, 1);
    while (!atomic_load(&slow_may_end))
        nanosleep(&pause, NULL);
    return echo(app, rq, rp, e);
}

static enum err_code no_such(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    (void)app;
    (void)rp;
    return strcmp(rq->arg[0], "missing") == 0 ? err_set(e, ERR_NOT_FOUND, "no such thing") : ERR_OK;
}

static enum err_code tagged(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    snprintf(rp->etag, sizeof rp->etag, "abc");
    return echo(app, rq, rp, e);
}

/* 26 bytes with an ETag */
static enum err_code alphabet(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    FILE *f = tmpfile();

    (void)app;
    (void)rq;
    (void)e;
    fputs("abcdefghijklmnopqrstuvwxyz", f);
    fflush(f);
    rp->fd = dup(fileno(f));
    fclose(f);
    rp->fd_bytes = 26;
    rp->content_type = "text/plain";
    snprintf(rp->etag, sizeof rp->etag, "abc");
    return ERR_OK;
}

static const struct route routes[] = {
    { "GET", "/alphabet", SCOPE_OPEN, 0, 0, NULL, alphabet, NULL },
    { "GET", "/tagged", SCOPE_OPEN, 0, 0, NULL, tagged, NULL },
    { "GET", "/things", SCOPE_OPEN, 0, 0, "q", echo, NULL },
    { "POST", "/things", SCOPE_OPEN, BODY_JSON, JSON_LIMIT, NULL, echo, NULL },
    { "GET", "/things/{id}", SCOPE_OPEN, 0, 0, NULL, echo, NULL },
    { "DELETE", "/things/{id}", SCOPE_OPEN, 0, 0, NULL, echo, NULL },
    { "POST", "/things/{id}/go", SCOPE_OPEN, 0, 0, NULL, echo, NULL },
    { "PUT", "/things/{id}/file", SCOPE_OPEN, BODY_FILE, FILE_LIMIT, NULL, echo, no_such },
    { "GET", "/slow", SCOPE_OPEN, SLOW, 0, NULL, slow, NULL },
    { NULL, NULL, SCOPE_MISSING, 0, 0, NULL, NULL, NULL }
};

static enum err_code temp_path(void *user, const struct req *rq, char *path, size_t n, uint64_t declared, struct err *e)
{
    static atomic_int serial;

    (void)user;
    (void)rq;
    if (declared == 77777)
        return err_set(e, ERR_NO_SPACE, "the disk is full");
    snprintf(path, n, "%s/up-%d", temp_dir, atomic_fetch_add(&serial, 1));
    return ERR_OK;
}

static json_t *problem(const struct err *e, const struct req *rq, int *status)
{
    static const int statuses[ERR_COUNT] = {
        [ERR_SYNTAX] = 400, [ERR_INVALID] = 422, [ERR_FORBIDDEN] = 403, [ERR_NOT_FOUND] = 404, [ERR_METHOD] = 405, [ERR_TOO_LARGE] = 413,
        [ERR_MEDIA] = 415, [ERR_RANGE] = 416, [ERR_BUSY] = 503, [ERR_NO_SPACE] = 507, [ERR_NOMEM] = 503,
    };

    *status = statuses[e->code] ? statuses[e->code] : 500;
    return json_pack("{s:s,s:s,s:s}", "detail", e->msg, "at", e->at, "request_id", rq->request_id);
}

static struct http_conf conf(void)
{
    snprintf(temp_dir, sizeof temp_dir, "/tmp/test_http.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(temp_dir));
    log_set_level(LOG_ERROR);
    atomic_store(&n_handled, 0);
    atomic_store(&slow_running, 0);
    atomic_store(&slow_may_end, 1);
    return (struct http_conf){ .listen = "127.0.0.1:0", .routes = routes, .max_upload = FILE_LIMIT, .temp_path = temp_path, .problem = problem };
}

static struct http *start(const struct http_conf *c)
{
    struct http *h = NULL;
    struct err e = { 0 };

    ck_assert_msg(http_start(&h, c, &e) == ERR_OK, "%s", e.msg);
    return h;
}

static int n_temp_files(void)
{
    DIR *d = opendir(temp_dir);
    int n = 0;

    ck_assert_ptr_nonnull(d);
    for (const struct dirent *f; (f = readdir(d));)
        n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

static void stop(struct http *h)
{
    http_stop(h, 2000);
    ck_assert_int_eq(n_temp_files(), 0);
    rmdir(temp_dir);
}

/* ---- a small client ---- */

static int dial(const struct http *h)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)http_port(h)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

enum { QUIET_MS = 60 };
/* Reads until the server closes, or nothing comes: for wait_ms at first, then for QUIET_MS. *closed says which. */
static char *hear(int fd, int wait_ms, bool *closed)
{
    static char text[1 << 16];
    struct pollfd p = { fd, POLLIN, 0 };
    size_t n = 0;

    *closed = false;
    while (n + 1 < sizeof text && poll(&p, 1, n ? QUIET_MS : wait_ms) == 1) {
        ssize_t k = recv(fd, text + n, sizeof text - 1 - n, 0);

        if (k <= 0) {
            *closed = true;
            break;
        }
        n += (size_t)k;
    }
    text[n] = '\0';
    return text;
}

static int count(const char *text, const char *word)
{
    int n = 0;

    for (; (text = strstr(text, word)); text++)
        n++;
    return n;
}

/* One conversation; the status of the first answer, 0: none. */
static int ask(const struct http *h, const char *request, char **text, bool *closed)
{
    int fd = dial(h), status = 0;

    say(fd, request);
    *text = hear(fd, 2000, closed);
    close(fd);
    sscanf(*text, "HTTP/1.1 %d", &status);
    return status;
}

/* ---- smuggling ---- */

#define NEXT "GET /things?q=smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
static const char *const smuggling[] = {
    "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 60\r\n\r\n{}" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: foo\r\n\r\n0\r\n\r\n" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length : 2\r\n\r\n{}" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}" NEXT,
    "GET /things HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" NEXT,
    "GET /things HTTP/1.1\r\n\r\n" NEXT,
    "GET /things HTTP/1.1\r\nHost: x\r\nX\x01Y: 1\r\n\r\n" NEXT,
    "GET /things HTTP/1.1\r\nHost: x\r\nX\xc3\xa9: 1\r\n\r\n" NEXT,
};

START_TEST(smuggling_is_refused)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    char *text;
    bool closed;
    int status = ask(h, smuggling[_i], &text, &closed);

    ck_assert_msg(status == 400, "%s", text);
    ck_assert(closed);
    ck_assert_int_eq(atomic_load(&n_handled), 0);
    stop(h);
}
END_TEST

/* ---- one request, one answer ---- */

static const struct { const char *request; int status; const char *holds; } plain[] = {
    { "GET /things?q=a%20b+c HTTP/1.1\r\nHost: x\r\n\r\n", 200, "\"q\":\"a b c\"" },
    { "GET /things/%C3%A9 HTTP/1.1\r\nHost: x\r\n\r\n", 200, "\"arg\":\"\xc3\xa9\"" },
    { "GET /things?q=1 HTTP/1.1\r\nHost: x\r\nX-Request-Id: abc-1.2_3\r\n\r\n", 200, "X-Request-Id: abc-1.2_3\r\n" },
    { "GET /things HTTP/1.1\r\nHost: x\r\nX-Request-Id: a b\r\n\r\n", 200, "X-Request-Id: req_" },
    { "GET /things HTTP/1.1\r\nHost: x\r\n\r\n", 200, "X-Content-Type-Options: nosniff" },
    { "GET /things?colour=red HTTP/1.1\r\nHost: x\r\n\r\n", 422, "?colour" },
    { "GET /things?q=1&q=2 HTTP/1.1\r\nHost: x\r\n\r\n", 422, "twice" },
    { "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404, "\"detail\"" },
    { "GET /things/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, "" },
    { "GET /things/../things HTTP/1.1\r\nHost: x\r\n\r\n", 404, "" },
    { "GET /a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p HTTP/1.1\r\nHost: x\r\n\r\n", 404, "" },
    { "GET /tagged HTTP/1.1\r\nHost: x\r\n\r\n", 200, "ETag: \"abc\"\r\n" },
    { "GET /tagged HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"x\", \"abc\"\r\n\r\n", 304, "ETag: \"abc\"\r\n" },
    { "GET /tagged HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"abcd\"\r\n\r\n", 200, "\"method\":\"GET\"" },
    { "PATCH /things/1 HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: GET, HEAD, DELETE\r\n" },
    { "GET /things/a%00b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "%00" },
    { "GET /things/a%2fb HTTP/1.1\r\nHost: x\r\n\r\n", 400, "" },
    { "GET /things/a%0ab HTTP/1.1\r\nHost: x\r\n\r\n", 400, "" },
    { "GET /things/%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400, "UTF-8" },
    { "GET /things/%C0%AF HTTP/1.1\r\nHost: x\r\n\r\n", 400, "UTF-8" },
    { "GET /things/%4 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "" },
    { "GET http://x/things HTTP/1.1\r\nHost: x\r\n\r\n", 400, "" },
    { "GET /things HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 413, "no body" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{\"a\":1}", 200, "\"body\":{\"a\":1}" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/merge+json; a=b\r\nContent-Length: 2\r\n\r\n{}", 200, "" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{]", 400, "line 1" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 400, "empty" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"a\":1,\"a\":2}", 400, "" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415, "application/json" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415, "Content-Encoding" },
    { "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\n{}", 415, "multipart" },
    { "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nContent-Length: 77777\r\n\r\nabc", 507, "full" },
    { "PUT /things/missing/file HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\nabc", 404, "no such thing" },
    { "PUT /things/1/file HTTP/1.1\r\nHost: x\r\n\r\n", 400, "empty" },
    { "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 200,
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 200,
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "empty" },
    { "POST /things/1/go HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n\r\n", 403, "origin" },
    { "POST /things/1/go HTTP/1.1\r\nHost: x:80\r\nOrigin: http://x:80\r\n\r\n", 200, "" },
};

START_TEST(one_request)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    char *text;
    bool closed;
    int status = ask(h, plain[_i].request, &text, &closed);

    ck_assert_msg(status == plain[_i].status, "%s\n%s", plain[_i].request, text);
    ck_assert_msg(strstr(text, plain[_i].holds), "%s\n%s", plain[_i].holds, text);
    ck_assert_int_eq(count(text, "HTTP/1.1 "), 1);
    stop(h);
}
END_TEST

START_TEST(head_is_get_without_body)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    char *text;
    bool closed;

    ck_assert_int_eq(ask(h, "HEAD /things HTTP/1.1\r\nHost: x\r\n\r\n", &text, &closed), 200);
    ck_assert_ptr_nonnull(strstr(text, "Content-Length: "));
    ck_assert_str_eq(strstr(text, "\r\n\r\n"), "\r\n\r\n");
    ck_assert_int_eq(ask(h, "HEAD /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", &text, &closed), 404);
    stop(h);
}
END_TEST

static const struct { const char *headers; int status; const char *range, *body; } ranges[] = {
    { "", 200, NULL, "abcdefghijklmnopqrstuvwxyz" },
    { "Range: bytes=0-0\r\n", 206, "bytes 0-0/26", "a" },
    { "Range: bytes=2-5\r\n", 206, "bytes 2-5/26", "cdef" },
    { "Range: bytes=20-\r\n", 206, "bytes 20-25/26", "uvwxyz" },
    { "Range: bytes=20-99\r\n", 206, "bytes 20-25/26", "uvwxyz" },
    { "Range: bytes=-3\r\n", 206, "bytes 23-25/26", "xyz" },
    { "Range: bytes=-99\r\n", 206, "bytes 0-25/26", "abcdefghijklmnopqrstuvwxyz" },
    { "Range: bytes=26-\r\n", 416, "bytes */26", NULL },
    { "Range: bytes=-0\r\n", 416, "bytes */26", NULL },
    { "Range: bytes=5-2\r\n", 200, NULL, NULL },
    { "Range: bytes=0-1,4-5\r\n", 200, NULL, NULL },
    { "Range: bytes=\r\n", 200, NULL, NULL },
    { "Range: bytes=-\r\n", 200, NULL, NULL },
    { "Range: bytes=x-3\r\n", 200, NULL, NULL },
    { "Range: bytes=1-9999999999999999999\r\n", 200, NULL, NULL },
    { "Range: lines=1-2\r\n", 200, NULL, NULL },
    { "Range: bytes=2-5\r\nIf-Range: \"abc\"\r\n", 206, "bytes 2-5/26", "cdef" },
    { "Range: bytes=2-5\r\nIf-Range: \"old\"\r\n", 200, NULL, "abcdefghijklmnopqrstuvwxyz" },
    { "Range: bytes=2-5\r\nIf-Range: W/\"abc\"\r\n", 200, NULL, NULL },
    { "Range: bytes=2-5\r\nIf-None-Match: \"abc\"\r\n", 304, NULL, "" },
};

START_TEST(parts_of_files)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    char request[300], want[100];
    const char *body;
    char *text;
    bool closed;

    snprintf(request, sizeof request, "GET /alphabet HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n", ranges[_i].headers);
    ck_assert_int_eq(ask(h, request, &text, &closed), ranges[_i].status);
    if (ranges[_i].range) {
        snprintf(want, sizeof want, "Content-Range: %s\r\n", ranges[_i].range);
        ck_assert_msg(strstr(text, want), "%s", text);
    } else {
        ck_assert_ptr_null(strstr(text, "Content-Range"));
    }
    ck_assert_int_eq(strstr(text, "Accept-Ranges: bytes") != NULL, ranges[_i].status < 300);
    body = strstr(text, "\r\n\r\n");
    ck_assert_ptr_nonnull(body);
    if (ranges[_i].body)
        ck_assert_str_eq(body + 4, ranges[_i].body);
    snprintf(request, sizeof request, "HEAD /alphabet HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n", ranges[_i].headers);
    ck_assert_int_eq(ask(h, request, &text, &closed), ranges[_i].status == 304 ? 304 : 200); /* Range is for GET alone */
    if (ranges[_i].status != 304)
        ck_assert_ptr_nonnull(strstr(text, "Content-Length: 26\r\n"));
    ck_assert_str_eq(strstr(text, "\r\n\r\n"), "\r\n\r\n");
    stop(h);
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_order)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    char *text;
    bool closed;

    ask(h, "GET /things?q=one HTTP/1.1\r\nHost: x\r\n\r\nPOST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
           "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /things?q=two HTTP/1.1\r\nHost: x\r\n\r\n", &text, &closed);
    ck_assert_int_eq(count(text, "HTTP/1.1 200"), 4);
    ck_assert_int_eq(count(text, "HTTP/1.1 404"), 1);
    ck_assert(strstr(text, "\"q\":\"one\"") < strstr(text, "\"q\":\"two\""));
    stop(h);
}
END_TEST

/* ---- limits at their edges ---- */

/* A body of n bytes, declared or in chunks: JSON (a string) or a file. */
static int send_body(const struct http *h, const char *start_line, size_t n, bool chunked)
{
    char *body = mem_alloc(n + 1), head[200], *text;
    int fd = dial(h), status = 0;
    bool closed;

    memset(body, 'x', n);
    body[0] = body[n - 1] = '"';
    snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: x\r\n", start_line);
    say(fd, head);
    snprintf(head, sizeof head, chunked ? "Transfer-Encoding: chunked\r\n\r\n%zx\r\n" : "Content-Length: %zu\r\n\r\n", n);
    say(fd, head);
    (void)!send(fd, body, n, MSG_NOSIGNAL);
    if (chunked)
        say(fd, "\r\n0\r\n\r\n");
    text = hear(fd, 2000, &closed);
    sscanf(text, "HTTP/1.1 %d", &status);
    close(fd);
    mem_free(body);
    return status;
}

START_TEST(limits)
{
    static const struct { const char *start_line; size_t limit; } row[] = { { "POST /things", JSON_LIMIT }, { "PUT /things/1/file", FILE_LIMIT } };
    struct http_conf c = conf();
    struct http *h = start(&c);

    for (size_t i = 0; i < 2; i++)
        for (int chunked = 0; chunked < 2; chunked++) {
            ck_assert_int_eq(send_body(h, row[i].start_line, row[i].limit - 1, chunked), 200);
            ck_assert_int_eq(send_body(h, row[i].start_line, row[i].limit, chunked), 200);
            ck_assert_int_eq(send_body(h, row[i].start_line, row[i].limit + 1, chunked), 413);
        }
    stop(h);
}
END_TEST

START_TEST(expect_continue)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    int fd = dial(h);
    bool closed;
    char *text;

    say(fd, "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    text = hear(fd, 2000, &closed);
    ck_assert_msg(strncmp(text, "HTTP/1.1 100", 12) == 0, "%s", text);
    say(fd, "abc");
    text = hear(fd, 2000, &closed);
    ck_assert_msg(strncmp(text, "HTTP/1.1 200", 12) == 0, "%s", text);
    close(fd);
    ask(h, "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 900000\r\n\r\n", &text, &closed);
    ck_assert_msg(strncmp(text, "HTTP/1.1 413", 12) == 0, "%s", text);
    stop(h);
}
END_TEST

/* ---- bodies that lie, break off or drip ---- */

static void wait_no_temp_files(void)
{
    const struct timespec pause = { 0, 5000000 };

    for (int i = 0; i < 400 && n_temp_files() > 0; i++)
        nanosleep(&pause, NULL);
    ck_assert_int_eq(n_temp_files(), 0);
}

START_TEST(broken_off_upload_leaves_nothing)
{
    static const char *const head[] = { "Content-Length: 50000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n400\r\nhalf",
                                        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n" };
    struct http_conf c = conf();
    struct http *h = start(&c);
    const struct timespec pause = { 0, 50000000 };

    for (size_t i = 0; i < 3; i++) {
        int fd = dial(h);

        say(fd, "PUT /things/1/file HTTP/1.1\r\nHost: x\r\n");
        say(fd, head[i]);
        nanosleep(&pause, NULL);
        if (i < 2)
            ck_assert_int_eq(n_temp_files(), 1);
        close(fd);
        wait_no_temp_files();
    }
    ck_assert_int_eq(atomic_load(&n_handled), 0);
    stop(h);
}
END_TEST

/* Sends text, then a byte every 20 ms; how long until the server has closed, in ms. */
static int64_t drip(const struct http *h, const char *text, char **answer)
{
    const struct timespec pause = { 0, 20000000 };
    int64_t begun = clock_mono_ms();
    int fd = dial(h);
    bool closed = false;

    say(fd, text);
    for (int i = 0; i < 150 && !closed; i++) {
        char c;

        say(fd, "a");
        nanosleep(&pause, NULL);
        closed = recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) >= 0;
    }
    *answer = hear(fd, 100, &closed);
    close(fd);
    return clock_mono_ms() - begun;
}

START_TEST(slow_clients_are_cut)
{
    static const char *const text[] = { "GET /things HTTP/1.1\r\nHost: x\r\nX: ", "G",
                                        "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" };
    struct http_conf c = conf();
    struct http *h;
    char *answer;
    bool closed;

    c.headers_ms = 300;
    c.idle_ms = 400;
    c.upload_ms = 300;
    h = start(&c);
    for (size_t i = 0; i < 3; i++) {
        int64_t ms = drip(h, text[i], &answer);

        ck_assert_msg(ms >= 290 && ms < 1500, "%zu: %d ms", i, (int)ms);
        ck_assert_msg(strncmp(answer, "HTTP/1.1 408", 12) == 0, "%zu: %s", i, answer);
    }
    ck_assert(drip(h, "GET /things HTTP/1.1\r\nHost: x\r\n\r\n", &answer) < 2000); /* an idle connection, then dripped on */
    ck_assert_int_eq(ask(h, "GET /things HTTP/1.1\r\nHost: x\r\n\r\n", &answer, &closed), 200);
    wait_no_temp_files();
    stop(h);
}
END_TEST

START_TEST(too_many_connections_get_503)
{
    struct http_conf c = conf();
    struct http *h;
    int fd[4];
    char *text;
    bool closed;

    c.max_connections = 4;
    h = start(&c);
    for (int i = 0; i < 4; i++) {
        fd[i] = dial(h);
        say(fd[i], "GET /things HTTP/1.1\r\nHost: x\r\n\r\n");
        text = hear(fd[i], 2000, &closed);
        ck_assert(strncmp(text, "HTTP/1.1 200", 12) == 0 && !closed);
    }
    ck_assert_int_eq(ask(h, "GET /things HTTP/1.1\r\nHost: x\r\n\r\n", &text, &closed), 503);
    ck_assert_ptr_nonnull(strstr(text, "Retry-After: "));
    ck_assert(closed);
    close(fd[0]);
    for (int i = 0; i < 100 && ask(h, "GET /things HTTP/1.1\r\nHost: x\r\n\r\n", &text, &closed) != 200; i++)
        ck_assert_int_lt(i, 99);
    for (int i = 1; i < 4; i++)
        close(fd[i]);
    stop(h);
}
END_TEST

/* ---- slow requests and the stop ---- */

static void wait_for(atomic_int *n, int want)
{
    const struct timespec pause = { 0, 1000000 };

    for (int i = 0; i < 5000 && atomic_load(n) < want; i++)
        nanosleep(&pause, NULL);
    ck_assert_int_ge(atomic_load(n), want);
}

START_TEST(slow_requests_hold_up_nobody)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    char *text;
    bool closed;
    int fd[6];

    atomic_store(&slow_may_end, 0);
    for (int i = 0; i < 6; i++) {
        fd[i] = dial(h);
        say(fd[i], "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    wait_for(&slow_running, 2);
    close(fd[5]); /* a client that goes away while it waits */
    close(fd[0]);
    ck_assert_int_eq(ask(h, "GET /things HTTP/1.1\r\nHost: x\r\n\r\n", &text, &closed), 200);
    atomic_store(&slow_may_end, 1);
    for (int i = 1; i < 5; i++) {
        text = hear(fd[i], 2000, &closed);
        ck_assert_msg(strncmp(text, "HTTP/1.1 200", 12) == 0, "%d: %s", i, text);
        close(fd[i]);
    }
    stop(h);
}
END_TEST

static void *end_soon(void *arg)
{
    const struct timespec pause = { 0, 200000000 };

    (void)arg;
    nanosleep(&pause, NULL);
    atomic_store(&slow_may_end, 1);
    return NULL;
}

START_TEST(stop_during_slow_requests)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    pthread_t t;
    int fd[4], n_ok = 0, n_busy = 0;
    bool closed;

    atomic_store(&slow_may_end, 0);
    for (int i = 0; i < 4; i++) {
        fd[i] = dial(h);
        say(fd[i], "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    wait_for(&slow_running, 2);
    ck_assert_int_eq(pthread_create(&t, NULL, end_soon, NULL), 0);
    http_stop(h, 50); /* two run and are waited for, two still queue and get 503 */
    pthread_join(t, NULL);
    for (int i = 0; i < 4; i++) {
        const char *text = hear(fd[i], 2000, &closed);

        n_ok += strncmp(text, "HTTP/1.1 200", 12) == 0;
        n_busy += strncmp(text, "HTTP/1.1 503", 12) == 0;
        close(fd[i]);
    }
    ck_assert_int_eq(n_ok, 2);
    ck_assert_int_eq(n_busy, 2);
    rmdir(temp_dir);
}
END_TEST

START_TEST(stop_with_open_connections)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    int idle = dial(h), half = dial(h);
    int64_t begun;
    const struct timespec pause = { 0, 50000000 };

    say(half, "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\nhalf");
    nanosleep(&pause, NULL);
    begun = clock_mono_ms();
    http_stop(h, 100);
    ck_assert_int_lt(clock_mono_ms() - begun, 1500);
    ck_assert_int_eq(n_temp_files(), 0);
    close(idle);
    close(half);
    rmdir(temp_dir);
}
END_TEST

START_TEST(addresses)
{
    static const char *const bad[] = { "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "no such host.invalid:80", "" };
    struct http_conf c = conf();
    struct http *h, *h2 = NULL;
    struct err e;
    char taken[40];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        c.listen = bad[i];
        ck_assert_int_ne(http_start(&h2, &c, &e), ERR_OK);
    }
    c.listen = "127.0.0.1:0";
    h = start(&c);
    snprintf(taken, sizeof taken, "127.0.0.1:%d", http_port(h));
    c.listen = taken;
    ck_assert_int_eq(http_start(&h2, &c, &e), ERR_IO);
    ck_assert_msg(strstr(e.msg, taken), "%s", e.msg);
    stop(h);
    http_stop(NULL, 0);
}
END_TEST

/* ---- without sockets ---- */

START_TEST(targets_of_random_bytes) /* never reads or writes outside (ASan), and what it accepts is clean */
{
    static const char some[] = "/%?&=+#.aA0f2\xc3\xa9\x01";
    struct rng r = { 7, RNG_TEST, 0, 0 };
    uint64_t draw = 0;

    for (int i = 0; i < 50000; i++) {
        size_t n = rng_below(&r, draw++, 60);
        char *text = mem_alloc(n + 2);
        struct http_target t;

        text[0] = '/';
        for (size_t k = 1; k <= n; k++)
            text[k] = i % 2 ? some[rng_below(&r, draw++, sizeof some - 1)] : (char)(1 + rng_below(&r, draw++, 255));
        text[n + 1] = '\0';
        if (http_target_parse(&t, text, NULL) == ERR_OK)
            for (int s = 0; s < t.n_segments && s < HTTP_MAX_SEGMENTS; s++) {
                json_t *utf8 = json_string(t.segment[s]);

                ck_assert_ptr_nonnull(utf8);
                ck_assert_ptr_null(strpbrk(t.segment[s], "/\x01\x1f\x7f"));
                json_decref(utf8);
            }
        mem_free(text);
    }
}
END_TEST

/* Every allocation and every file operation of an upload fails once: an error status, and nothing stays. */
START_TEST(faults)
{
    struct http_conf c = conf();
    struct reply rp;
    bool fired = true;

    for (long k = 1; fired; k++) {
        mem_fail_in = k;
        http_call(&c, "POST", "/things", "application/json", "{\"a\": [1, 2]}", 13, &rp);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_int_eq(rp.status, fired ? 503 : 200);
        reply_clear(&rp);
    }
    fired = true;
    for (long k = 1; fired; k++) {
        file_fail_in = k;
        http_call(&c, "PUT", "/things/1/file", NULL, "abc", 3, &rp);
        fired = file_fail_in == 0;
        file_fail_in = 0;
        ck_assert_int_eq(rp.status, fired ? 507 : 200);
        ck_assert_int_eq(n_temp_files(), 0);
        reply_clear(&rp);
    }
    rmdir(temp_dir);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "requests");

    tcase_add_loop_test(tc, smuggling_is_refused, 0, sizeof smuggling / sizeof smuggling[0]);
    tcase_add_loop_test(tc, one_request, 0, sizeof plain / sizeof plain[0]);
    tcase_add_test(tc, head_is_get_without_body);
    tcase_add_loop_test(tc, parts_of_files, 0, sizeof ranges / sizeof ranges[0]);
    tcase_add_test(tc, pipelined_requests_are_answered_in_order);
    tcase_add_test(tc, limits);
    tcase_add_test(tc, expect_continue);
    tc = suite_case(s, "clients");
    tcase_add_test(tc, broken_off_upload_leaves_nothing);
    tcase_add_test(tc, slow_clients_are_cut);
    tcase_add_test(tc, too_many_connections_get_503);
    tcase_add_test(tc, slow_requests_hold_up_nobody);
    tcase_add_test(tc, stop_during_slow_requests);
    tcase_add_test(tc, stop_with_open_connections);
    tcase_add_test(tc, addresses);
    tc = suite_case(s, "dispatcher");
    tcase_add_test(tc, targets_of_random_bytes);
    tcase_add_test(tc, faults);
}
SUITE_MAIN("http", cases)
