/* server/http_guard.c: what libmicrohttpd 0.9.75 lets pass: ambiguous headers, and clients that send one byte a second.
 *
 * Headers: it serves requests with two Content-Lengths, with Content-Length beside Transfer-Encoding, and with encodings that it does not know; what
 * one parser takes for a body, another takes for the next request. All of these get 400 and the connection is closed.
 * Deadlines: its timeout counts inactivity only. One thread looks at all connections and shuts the sockets of those that are late down, which
 * libmicrohttpd sees as the client's close. Time in which this process did not run (it was stopped, or the machine was) is no client's fault: it shows as a
 * round that took longer than rounds take, and is taken off. What a round misses of it is an eighth of the shortest deadline at most. */
#include "server/http_daemon.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "core/mem.h"
#include "server/log.h"

/* ---- headers ---- */

struct seen { int n_length, n_encoding, n_host; bool bad_name, other_encoding; const char *length; };

static bool is(const char *key, size_t n, const char *name)
{
    return strlen(name) == n && strncasecmp(key, name, n) == 0;
}

static enum MHD_Result look(void *user, enum MHD_ValueKind kind, const char *key, size_t n, const char *value, size_t n_value)
{
    struct seen *s = user;

    (void)kind;
    if (n == 0)
        s->bad_name = true;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)key[i] <= 0x20 || (unsigned char)key[i] >= 0x7f)
            s->bad_name = true;
    if (is(key, n, "Content-Length")) {
        s->n_length++;
        s->length = value;
    } else if (is(key, n, "Transfer-Encoding")) {
        s->n_encoding++;
        s->other_encoding |= !value || n_value != 7 || strncasecmp(value, "chunked", 7) != 0;
    } else if (is(key, n, "Host")) {
        s->n_host++;
    }
    return MHD_YES;
}

static bool parse_length(const char *s, uint64_t *out)
{
    *out = 0;
    if (!s || !*s)
        return false;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, (uint64_t)(*s - '0'), out))
            return false;
    return *s == '\0' && *out != HTTP_UNDECLARED;
}

enum err_code http_guard(struct MHD_Connection *connection, uint64_t *declared, struct err *e)
{
    struct seen s = { 0 };

    *declared = 0;
    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, look, &s);
    if (s.bad_name)
        return err_set(e, ERR_SYNTAX, "a header's name has bytes that no name has");
    if (s.n_host != 1)
        return err_set(e, ERR_SYNTAX, "a request must have one Host header, not %d", s.n_host);
    if (s.n_length > 1 || s.n_encoding > 1 || (s.n_length && s.n_encoding))
        return err_set(e, ERR_SYNTAX, "the body's length must be given once: Content-Length, or Transfer-Encoding: chunked");
    if (s.other_encoding)
        return err_set(e, ERR_SYNTAX, "the only Transfer-Encoding is chunked");
    if (s.n_length && !parse_length(s.length, declared))
        return err_set(e, ERR_SYNTAX, "Content-Length must be a number");
    if (s.n_encoding)
        *declared = HTTP_UNDECLARED;
    return ERR_OK;
}

/* ---- connections and their deadlines ---- */

struct http_conn *http_conn_open(struct http *h, int fd)
{
    struct http_conn *c = mem_zalloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->fd = fd;
    c->first = true;
    c->since_ms = clock_mono_ms();
    pthread_mutex_lock(&h->conn_lock);
    c->next = h->conns;
    if (c->next)
        c->next->prev = c;
    h->conns = c;
    c->over = ++h->n_conns > h->conf.max_connections;
    pthread_mutex_unlock(&h->conn_lock);
    return c;
}

void http_conn_close(struct http *h, struct http_conn *c)
{
    pthread_mutex_lock(&h->conn_lock);
    *(c->prev ? &c->prev->next : &h->conns) = c->next;
    if (c->next)
        c->next->prev = c->prev;
    h->n_conns--;
    pthread_mutex_unlock(&h->conn_lock);
    mem_free(c);
}

void http_conn_phase(struct http *h, struct http_conn *c, int phase)
{
    pthread_mutex_lock(&h->conn_lock);
    c->phase = phase;
    c->since_ms = clock_mono_ms();
    c->body_bytes = 0;
    c->first = false;
    pthread_mutex_unlock(&h->conn_lock);
}

void http_conn_body(struct http *h, struct http_conn *c, size_t n)
{
    pthread_mutex_lock(&h->conn_lock);
    c->body_bytes += n;
    pthread_mutex_unlock(&h->conn_lock);
}

static bool late(const struct http_conf *conf, const struct http_conn *c, int64_t now_ms)
{
    int64_t age = now_ms - c->since_ms;

    switch (c->phase) {
    case CONN_WAITS: return age > (c->first ? conf->headers_ms / (c->over ? 8 : 1) : conf->idle_ms);
    case CONN_BODY: return age > conf->upload_ms && c->body_bytes < (uint64_t)age * (uint64_t)conf->upload_rate / 1000;
    case CONN_BUSY: return false;
    }
    return false;
}

/* conn_lock is held, so the socket is still this client's. */
static void cut(struct http_conn *c)
{
    static const char text[] = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

    c->cut = true;
    if (c->phase == CONN_BODY || c->first)
        (void)!send(c->fd, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(c->fd, SHUT_RDWR);
}

/* conn_lock is held. */
static void check_all(struct http *h, int64_t now_ms, int64_t lost_ms)
{
    for (struct http_conn *c = h->conns; c; c = c->next) {
        if (c->since_ms < now_ms)
            c->since_ms = c->since_ms + lost_ms < now_ms ? c->since_ms + lost_ms : now_ms;
        if (!c->cut && late(&h->conf, c, now_ms))
            cut(c);
    }
}

static void *watch(void *arg)
{
    struct http *h = arg;
    int64_t shortest = h->conf.headers_ms < h->conf.upload_ms ? h->conf.headers_ms : h->conf.upload_ms;
    int64_t period_ms = shortest / 8 < 10 ? 10 : shortest / 8 > 1000 ? 1000 : shortest / 8;
    int64_t last_ms = clock_mono_ms();

    pthread_mutex_lock(&h->conn_lock);
    while (!h->watchdog_stops) {
        int64_t now_ms = clock_mono_ms(), over_ms = now_ms - last_ms - period_ms, next_ms = now_ms + period_ms;
        const struct timespec until = { next_ms / 1000, next_ms % 1000 * 1000000 };

        pthread_mutex_unlock(&h->conn_lock);
        http_streams_tick(h, now_ms);
        pthread_mutex_lock(&h->conn_lock);
        if (h->watchdog_stops)
            break;
        check_all(h, now_ms, over_ms > period_ms ? over_ms : 0);
        last_ms = now_ms;
        pthread_cond_timedwait(&h->conn_cond, &h->conn_lock, &until);
    }
    pthread_mutex_unlock(&h->conn_lock);
    return NULL;
}

enum err_code http_watchdog_start(struct http *h, struct err *e)
{
    int rc = pthread_create(&h->watchdog, NULL, watch, h);

    return rc == 0 ? ERR_OK : err_errno(e, rc, "cannot start a thread");
}

void http_watchdog_stop(struct http *h)
{
    pthread_mutex_lock(&h->conn_lock);
    h->watchdog_stops = true;
    pthread_cond_signal(&h->conn_cond);
    pthread_mutex_unlock(&h->conn_lock);
    pthread_join(h->watchdog, NULL);
}
