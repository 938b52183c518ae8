/* server/http.c: the daemon: libmicrohttpd's callbacks around the exchange of http_exchange.h.
 *
 * A request's life: on_uri makes it (the target as it came: libmicrohttpd's decoding is off), on_request sees it first with its headers (guard, all
 * refusals), then with each piece of its body, then once more when the body is whole, on_completed logs and frees it. A reply queued at the first
 * call is sent without reading the body and closes the connection; so it is queued there only when a body is coming.
 *
 * Stop order: no new connections; requests on old ones get 503; streams say goodbye, what waits is answered as it is; those under way are waited for; the
 * slow threads are ended, which resumes every suspended connection; then libmicrohttpd is stopped, which closes the rest. */
#include "server/http_daemon.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/mem.h"
#include "server/http_stats.h"
#include "server/log.h"

enum { CONNECTION_MEMORY = 128 * 1024, SILENT_SECONDS = 120, STREAM_BLOCK = 4096, MAX_DROPPED = 16 << 20 };

/* ---- callbacks ---- */

static void on_message(void *user, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));
static void on_message(void *user, const char *fmt, va_list args) /* at most one a second */
{
    static atomic_llong last_ms;
    long long now = clock_mono_ms();
    char text[256];

    (void)user;
    if (now - atomic_load(&last_ms) < 1000)
        return;
    atomic_store(&last_ms, now);
    vsnprintf(text, sizeof text, fmt, args);
    log_event(LOG_DEBUG, "http library", LOG_S("detail", text));
}

static void on_panic(void *user, const char *file, unsigned int line, const char *reason)
{
    (void)user;
    log_event(LOG_ERROR, "http library gave up", LOG_S("file", file), LOG_I("line", line), LOG_S("detail", reason ? reason : ""));
    abort();
}

static size_t on_unescape(void *user, struct MHD_Connection *connection, char *s)
{
    (void)user;
    (void)connection;
    return strlen(s);
}

static const char *live_header(void *user, const char *name)
{
    return MHD_lookup_connection_value(user, MHD_HEADER_KIND, name);
}

static void client_address(char *text, size_t n, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = info ? info->client_addr : NULL;

    if (a && a->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr, text, (socklen_t)n);
    else if (a && a->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, text, (socklen_t)n);
}

static void *on_uri(void *user, const char *uri, struct MHD_Connection *connection)
{
    struct http *h = user;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct http_live *l = info && info->socket_context ? mem_zalloc(1, sizeof *l) : NULL;

    if (!l)
        return NULL;
    *l = (struct http_live){ .h = h, .conn = info->socket_context, .connection = connection, .x = exchange_new(&h->conf, uri) };
    if (!l->x) {
        mem_free(l);
        return NULL;
    }
    l->waker.wake = http_stream_wake;
    l->x->rq.waker = &l->waker;
    l->x->header = live_header;
    l->x->header_user = connection;
    client_address(l->x->rq.client, sizeof l->x->rq.client, connection);
    l->x->stream_room = http_stream_open;
    l->x->stream_user = l;
    return l;
}

static void on_connection(void *user, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode what)
{
    const union MHD_ConnectionInfo *info;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = info ? http_conn_open(user, info->connect_fd) : NULL;
    } else if (*context) {
        http_conn_close(user, *context);
        *context = NULL;
    }
}

static void add(struct MHD_Response *r, const char *name, const char *value)
{
    if (value && *value)
        (void)MHD_add_response_header(r, name, value);
}

static void add_headers(struct MHD_Response *r, const struct http_live *l)
{
    const struct reply *rp = &l->x->reply;
    char text[96];

    add(r, "Content-Type", rp->content_type);
    add(r, "X-Content-Type-Options", "nosniff");
    add(r, "X-Request-Id", l->x->rq.request_id);
    add(r, "Location", rp->location);
    add(r, "Content-Disposition", rp->disposition);
    add(r, "Allow", rp->allow);
    add(r, "WWW-Authenticate", rp->authenticate);
    add(r, "Content-Range", rp->content_range);
    if (rp->etag[0]) {
        snprintf(text, sizeof text, "\"%s\"", rp->etag);
        add(r, "ETag", text);
    } else {
        add(r, "Cache-Control", "no-store");
    }
    if (rp->retry_after) {
        snprintf(text, sizeof text, "%d", rp->retry_after);
        add(r, "Retry-After", text);
    }
    if (rp->source)
        add(r, "X-Accel-Buffering", "no"); /* nginx would collect a block before it sends any */
    if (l->close)
        add(r, "Connection", "close");
}

static enum MHD_Result answer(struct http_live *l)
{
    struct reply *rp = &l->x->reply;
    struct MHD_Response *r;
    enum MHD_Result ok;
    char *text = NULL;
    size_t n = 0;

    if (rp->fd >= 0) {
        l->sent = rp->fd_bytes;
        r = MHD_create_response_from_fd_at_offset64(rp->fd_bytes, rp->fd, rp->fd_offset);
        if (r) {
            rp->fd = -1;
            add(r, "Accept-Ranges", rp->etag[0] ? "bytes" : "none");
        }
    } else if (rp->source) {
        r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, http_stream_read, l, NULL);
    } else {
        text = exchange_text(l->x, &n);
        l->sent = n;
        r = MHD_create_response_from_buffer_with_free_callback(n, text ? text : (void *)(uintptr_t)"", text ? mem_free : NULL);
        if (!r)
            mem_free(text);
    }
    if (!r)
        return MHD_NO;
    add_headers(r, l);
    ok = MHD_queue_response(l->connection, (unsigned)rp->status, r);
    MHD_destroy_response(r);
    l->answered = ok == MHD_YES;
    return ok;
}

static enum MHD_Result first_call(struct http_live *l, const char *method)
{
    struct http *h = l->h;
    struct exchange *x = l->x;
    uint64_t declared;

    l->begun = true;
    atomic_fetch_add(&h->under_way, 1);
    http_in_flight_add(1);
    l->close = http_guard(l->connection, &declared, &x->err) != ERR_OK;
    if (!l->close && (l->conn->over || atomic_load(&h->draining))) {
        l->close = true;
        err_set(&x->err, ERR_BUSY, l->conn->over ? "too many connections" : "the server is shutting down");
    }
    exchange_begin(x, method, declared);
    if (x->err.code != ERR_OK && (l->close || declared > 0)) {
        http_conn_phase(h, l->conn, CONN_BUSY);
        exchange_finish(x);
        return answer(l);
    }
    http_conn_phase(h, l->conn, CONN_BODY);
    return MHD_YES;
}

/* A body that turned out wrong is read to its end, unheeded, so that the client sees why; a chunked one, which may have no end, not for ever. */
static enum MHD_Result piece(struct http_live *l, const char *data, size_t *n)
{
    http_conn_body(l->h, l->conn, *n);
    if (l->x->err.code != ERR_OK)
        l->dropped += *n;
    exchange_body(l->x, data, *n);
    *n = 0;
    return l->dropped > MAX_DROPPED && l->x->declared == HTTP_UNDECLARED ? MHD_NO : MHD_YES;
}

/* The handler, as often as it asks for; the connection sleeps in between. */
static enum MHD_Result finish(struct http_live *l)
{
    for (;;) {
        l->x->rq.last_call = !http_stream_look(l);
        exchange_finish(l->x);
        if (!exchange_waits(l->x))
            return answer(l);
        if (http_stream_sleep(l, l->x->reply.ask_again_ms))
            return MHD_YES;
    }
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
                                  const char *data, size_t *n, void **context)
{
    struct http_live *l = *context;

    (void)user;
    (void)connection;
    (void)url;
    (void)version;
    if (!l)
        return MHD_NO;
    if (!l->begun)
        return first_call(l, method);
    if (*n > 0)
        return piece(l, data, n);
    if (l->finished)
        return answer(l);
    http_conn_phase(l->h, l->conn, CONN_BUSY);
    if (exchange_slow(l->x)) {
        if (http_pool_push(l))
            return MHD_YES;
        err_set(&l->x->err, ERR_BUSY, "too many large requests at once");
    }
    return finish(l);
}

static void on_completed(void *user, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode how)
{
    struct http_live *l = *context;
    const struct exchange *x;

    (void)user;
    (void)connection;
    *context = NULL;
    if (!l)
        return;
    x = l->x;
    http_stream_close(l);
    if (l->begun) {
        http_conn_phase(l->h, l->conn, CONN_WAITS);
        log_event(LOG_INFO, "request", LOG_S("method", x->method), LOG_S("route", exchange_route(x)), LOG_S("tenant", x->rq.tenant),
                  LOG_I("status", l->answered ? x->reply.status : 499), LOG_I("ms", clock_mono_ms() - x->begun_ms),
                  LOG_I("bytes_in", (int64_t)x->rq.body_bytes), LOG_I("bytes", (int64_t)l->sent), LOG_S("request_id", x->rq.request_id),
                  LOG_S("detail", x->err.code != ERR_OK ? x->err.msg : how == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "" : "client went away"));
        atomic_fetch_sub(&l->h->under_way, 1);
        http_in_flight_add(-1);
    }
    exchange_free(l->x);
    mem_free(l);
}

/* ---- start and stop ---- */

enum err_code http_split_address(const char *s, char *host, size_t n, const char **port, struct err *e)
{
    const char *colon = strrchr(s, ':');
    size_t len = colon ? (size_t)(colon - s) : 0;

    if (!colon || !colon[1] || colon[1 + strspn(colon + 1, "0123456789")] || len >= n)
        return err_set(e, ERR_INVALID, "cannot listen on \"%.100s\": must be HOST:PORT", s);
    if (len >= 2 && s[0] == '[' && s[len - 1] == ']') {
        s++;
        len -= 2;
    }
    memcpy(host, s, len);
    host[len] = '\0';
    *port = colon + 1;
    return ERR_OK;
}

/* What the address means may change later, as names do: it must be loopback whatever it means now. */
static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

bool http_is_loopback(const char *listen)
{
    const struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list = NULL;
    char host[256];
    const char *port = NULL;
    bool all;

    if (http_split_address(listen, host, sizeof host, &port, NULL) != ERR_OK || getaddrinfo(*host ? host : NULL, port, &hints, &list) != 0)
        return false;
    all = list != NULL;
    for (const struct addrinfo *a = list; a; a = a->ai_next)
        all = all && is_loopback(a->ai_addr);
    freeaddrinfo(list);
    return all;
}

static int try_listen(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, saved;

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 511) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static int port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    char port[16];

    if (getsockname(fd, (struct sockaddr *)&at, &n) != 0 ||
        getnameinfo((struct sockaddr *)&at, n, NULL, 0, port, sizeof port, NI_NUMERICSERV) != 0)
        return 0;
    return (int)strtol(port, NULL, 10);
}

static enum err_code listen_on(int *fd, bool *v6, const char *address, struct err *e)
{
    const struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list = NULL;
    char host[256], what[400];
    const char *port = NULL;
    enum err_code rc = http_split_address(address, host, sizeof host, &port, e);
    int number;

    if (rc != ERR_OK)
        return rc;
    number = getaddrinfo(*host ? host : NULL, port, &hints, &list);
    if (number != 0)
        return err_set(e, ERR_INVALID, "cannot listen on %.100s: %s", address, gai_strerror(number));
    *fd = -1;
    for (const struct addrinfo *a = list; a && *fd < 0; a = a->ai_next) {
        *fd = try_listen(a);
        *v6 = a->ai_family == AF_INET6;
    }
    number = errno;
    freeaddrinfo(list);
    snprintf(what, sizeof what, "cannot listen on %.100s", address);
    return *fd >= 0 ? ERR_OK : err_errno(e, number, what);
}

static enum err_code start_mhd(struct http *h, struct err *e)
{
    bool v6 = false;
    int fd = -1;
    enum err_code rc = listen_on(&fd, &v6, h->conf.listen, e);

    if (rc != ERR_OK)
        return rc;
    h->port = port_of(fd);
    MHD_set_panic_func(on_panic, NULL);
    h->mhd = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | (v6 ? MHD_USE_IPv6 : 0), 0, NULL,
                              NULL, on_request, h,
                              MHD_OPTION_EXTERNAL_LOGGER, on_message, NULL,
                              MHD_OPTION_LISTEN_SOCKET, fd,
                              MHD_OPTION_THREAD_POOL_SIZE, (unsigned)h->conf.threads,
                              MHD_OPTION_CONNECTION_LIMIT, (unsigned)(h->conf.max_connections + HTTP_SPARE_CONNECTIONS),
                              MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)h->conf.max_per_address,
                              MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
                              MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SILENT_SECONDS,
                              MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL,
                              MHD_OPTION_URI_LOG_CALLBACK, on_uri, h,
                              MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
                              MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
                              MHD_OPTION_END);
    if (h->mhd)
        return ERR_OK;
    close(fd);
    return err_set(e, ERR_INTERNAL, "cannot start the HTTP daemon");
}

static void set_default(int *value, int dflt)
{
    if (*value <= 0)
        *value = dflt;
}

static enum err_code init(struct http *h, const struct http_conf *c, struct err *e)
{
    pthread_condattr_t attr;

    h->conf = *c;
    set_default(&h->conf.max_connections, 512);
    set_default(&h->conf.threads, 4);
    set_default(&h->conf.max_streams, h->conf.max_connections / 2);
    if (h->conf.max_streams >= h->conf.max_connections) /* some are left for requests that are answered */
        h->conf.max_streams = h->conf.max_connections * 3 / 4;
    set_default(&h->conf.headers_ms, 10000);
    set_default(&h->conf.idle_ms, 60000);
    set_default(&h->conf.upload_ms, 30000);
    set_default(&h->conf.upload_rate, 1024);
    if (pthread_condattr_init(&attr) != 0)
        return err_set(e, ERR_NOMEM, "out of memory");
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&h->conn_lock, NULL);
    pthread_cond_init(&h->conn_cond, &attr);
    pthread_mutex_init(&h->pool_lock, NULL);
    pthread_cond_init(&h->pool_cond, NULL);
    pthread_mutex_init(&h->wake_lock, NULL);
    pthread_condattr_destroy(&attr);
    return ERR_OK;
}

static void destroy(struct http *h)
{
    pthread_mutex_destroy(&h->conn_lock);
    pthread_cond_destroy(&h->conn_cond);
    pthread_mutex_destroy(&h->pool_lock);
    pthread_cond_destroy(&h->pool_cond);
    pthread_mutex_destroy(&h->wake_lock);
    mem_free(h);
}

enum err_code http_start(struct http **out, const struct http_conf *c, struct err *e)
{
    struct http *h = mem_zalloc(1, sizeof *h);
    bool watched = false;
    enum err_code rc;

    if (!h)
        return err_set(e, ERR_NOMEM, "out of memory");
    rc = init(h, c, e);
    if (rc != ERR_OK) {
        mem_free(h);
        return rc;
    }
    rc = http_pool_start(h, e);
    if (rc == ERR_OK)
        rc = http_watchdog_start(h, e);
    watched = rc == ERR_OK;
    if (rc == ERR_OK)
        rc = start_mhd(h, e);
    if (rc == ERR_OK) {
        *out = h;
        return ERR_OK;
    }
    if (watched)
        http_watchdog_stop(h);
    http_pool_stop(h);
    destroy(h);
    return rc;
}

int http_port(const struct http *h)
{
    return h->port;
}

static void wait_idle(const struct http *h, int64_t limit_ms)
{
    const struct timespec pause = { 0, 5 * 1000000 };

    for (int64_t until = clock_mono_ms() + limit_ms; atomic_load(&h->under_way) > 0 && clock_mono_ms() < until;)
        nanosleep(&pause, NULL);
}

void http_stop(struct http *h, int grace_ms)
{
    int fd;

    if (!h)
        return;
    fd = MHD_quiesce_daemon(h->mhd);
    if (fd >= 0)
        close(fd);
    atomic_store(&h->draining, true);
    http_streams_stop(h);
    wait_idle(h, grace_ms);
    http_pool_stop(h);
    wait_idle(h, 500); /* the replies of the slow ones on their way */
    http_watchdog_stop(h);
    MHD_stop_daemon(h->mhd);
    destroy(h);
}
