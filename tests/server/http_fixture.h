/* tests/server/http_fixture.h: a small API on the HTTP transport, and a small client with real sockets. */
#ifndef TESTS_SERVER_HTTP_FIXTURE_H
#define TESTS_SERVER_HTTP_FIXTURE_H

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

static inline enum err_code echo(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    (void)app;
    atomic_fetch_add(&n_handled, 1);
    rp->json = json_pack("{s:s,s:s?,s:s?,s:I,s:s,s:O?}", "method", rq->method, "arg", rq->arg[0], "q", rq->query(rq, "q"), "bytes",
                         (json_int_t)rq->body_bytes, "hash", rq->body_hash, "body", rq->body);
    return rp->json ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

static inline enum err_code slow(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    const struct timespec pause = { 0, 1000000 };

    atomic_fetch_add(&slow_running, 1);
    while (!atomic_load(&slow_may_end))
        nanosleep(&pause, NULL);
    return echo(app, rq, rp, e);
}

static inline enum err_code no_such(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    (void)app;
    (void)rp;
    return strcmp(rq->arg[0], "missing") == 0 ? err_set(e, ERR_NOT_FOUND, "no such thing") : ERR_OK;
}

static inline enum err_code tagged(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    snprintf(rp->etag, sizeof rp->etag, "abc");
    return echo(app, rq, rp, e);
}

/* 26 bytes with an ETag */
static inline enum err_code alphabet(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
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
    { "PUT", "/things/{id}/file", SCOPE_OPEN, BODY_FILE | BODY_HASH, FILE_LIMIT, NULL, echo, no_such },
    { "GET", "/slow", SCOPE_OPEN, SLOW, 0, NULL, slow, NULL },
    { NULL, NULL, SCOPE_MISSING, 0, 0, NULL, NULL, NULL }
};

static inline enum err_code temp_path(void *user, const struct req *rq, char *path, size_t n, uint64_t declared, struct err *e)
{
    static atomic_int serial;

    (void)user;
    (void)rq;
    if (declared == 77777)
        return err_set(e, ERR_NO_SPACE, "the disk is full");
    snprintf(path, n, "%s/up-%d", temp_dir, atomic_fetch_add(&serial, 1));
    return ERR_OK;
}

static inline json_t *problem(const struct err *e, const struct req *rq, int *status)
{
    static const int statuses[ERR_COUNT] = {
        [ERR_SYNTAX] = 400, [ERR_INVALID] = 422, [ERR_FORBIDDEN] = 403, [ERR_NOT_FOUND] = 404, [ERR_METHOD] = 405, [ERR_TOO_LARGE] = 413,
        [ERR_MEDIA] = 415, [ERR_RANGE] = 416, [ERR_BUSY] = 503, [ERR_NO_SPACE] = 507, [ERR_NOMEM] = 503,
    };

    *status = statuses[e->code] ? statuses[e->code] : 500;
    return json_pack("{s:s,s:s,s:s}", "detail", e->msg, "at", e->at, "request_id", rq->request_id);
}

static inline struct http_conf conf(void)
{
    snprintf(temp_dir, sizeof temp_dir, "/tmp/test_http.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(temp_dir));
    log_set_level(LOG_ERROR);
    atomic_store(&n_handled, 0);
    atomic_store(&slow_running, 0);
    atomic_store(&slow_may_end, 1);
    return (struct http_conf){ .listen = "127.0.0.1:0", .routes = routes, .max_upload = FILE_LIMIT, .temp_path = temp_path, .problem = problem };
}

static inline struct http *start(const struct http_conf *c)
{
    struct http *h = NULL;
    struct err e = { 0 };

    ck_assert_msg(http_start(&h, c, &e) == ERR_OK, "%s", e.msg);
    return h;
}

static inline int n_temp_files(void)
{
    DIR *d = opendir(temp_dir);
    int n = 0;

    ck_assert_ptr_nonnull(d);
    for (const struct dirent *f; (f = readdir(d));)
        n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

static inline void stop(struct http *h)
{
    http_stop(h, 2000);
    ck_assert_int_eq(n_temp_files(), 0);
    rmdir(temp_dir);
}

/* ---- a small client ---- */

static inline int dial(const struct http *h)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)http_port(h)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static inline void say(int fd, const char *text)
{
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

enum { QUIET_MS = 60 };
/* Reads until the server closes, or nothing comes: for wait_ms at first, then for QUIET_MS. *closed says which. */
static inline char *hear(int fd, int wait_ms, bool *closed)
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

static inline int count(const char *text, const char *word)
{
    int n = 0;

    for (; (text = strstr(text, word)); text++)
        n++;
    return n;
}

/* One conversation; the status of the first answer, 0: none. */
static inline int ask(const struct http *h, const char *request, char **text, bool *closed)
{
    int fd = dial(h), status = 0;

    say(fd, request);
    *text = hear(fd, 2000, closed);
    close(fd);
    sscanf(*text, "HTTP/1.1 %d", &status);
    return status;
}

#endif
