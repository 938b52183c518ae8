/* server/http_daemon.h: what http.c (callbacks), http_guard.c (headers, deadlines), http_pool.c (slow requests) and http_stream.c share.
 *
 * Locks: conn_lock, pool_lock and wake_lock are never held together, and never while a handler runs; libmicrohttpd may be called under pool_lock and
 * wake_lock. A publisher may hold its own locks when it takes wake_lock. */
#ifndef SERVER_HTTP_DAEMON_H
#define SERVER_HTTP_DAEMON_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "server/http_exchange.h"

enum { HTTP_SLOW_THREADS = 2, HTTP_SLOW_QUEUE = 64, HTTP_SPARE_CONNECTIONS = 64 };

/* A client's connection, as the deadlines see it. */
struct http_conn {
    struct http_conn *prev, *next;
    int fd;
    enum { CONN_WAITS, CONN_BODY, CONN_BUSY } phase; /* waits for headers; for a body; works or sends: no deadline of ours */
    int64_t since_ms;    /* of the phase, monotonic */
    uint64_t body_bytes; /* of this phase */
    bool first;          /* no request was read yet */
    bool over;           /* above the limit: gets 503 */
    bool cut;            /* its deadline has passed: it is being closed */
};
/* A request on a connection. */
struct http_live {
    struct exchange *x;
    struct http *h;
    struct http_conn *conn;
    struct MHD_Connection *connection;
    bool begun, finished, answered, close;
    uint64_t dropped, sent;
    struct http_live *next; /* in the slow queue */
    struct waker waker;
    /* under wake_lock: */
    struct http_live *stream_prev, *stream_next;
    bool streams;           /* stands in the list, counted */
    bool woken, asleep;     /* asleep: suspended by http_stream.c */
    int64_t due_ms;         /* wake at this time, monotonic */
};
struct http {
    struct http_conf conf; /* defaults filled in */
    struct MHD_Daemon *mhd;
    int port;
    atomic_int under_way;
    atomic_bool draining;
    pthread_mutex_t conn_lock;
    pthread_cond_t conn_cond;
    pthread_t watchdog;
    struct http_conn *conns;
    int n_conns;
    bool watchdog_stops;
    pthread_mutex_t pool_lock;
    pthread_cond_t pool_cond;
    pthread_t pool[HTTP_SLOW_THREADS];
    int n_pool, n_queued;
    struct http_live *queue, **queue_end;
    bool pool_stops;
    pthread_mutex_t wake_lock;
    struct http_live *streams;
    int n_streams;
    bool streams_stop;
};

/* http_guard.c */
/* Refuses what makes two parsers see two requests. *declared: as exchange_begin takes it. */
MUST enum err_code http_guard(struct MHD_Connection *connection, uint64_t *declared, struct err *e);
struct http_conn *http_conn_open(struct http *h, int fd); /* NULL: out of memory */
void http_conn_close(struct http *h, struct http_conn *c);
void http_conn_phase(struct http *h, struct http_conn *c, int phase);
void http_conn_body(struct http *h, struct http_conn *c, size_t n);
MUST enum err_code http_watchdog_start(struct http *h, struct err *e);
void http_watchdog_stop(struct http *h);

/* http_pool.c */
MUST enum err_code http_pool_start(struct http *h, struct err *e);
/* Suspends the connection and queues the request: false when the queue is full or the daemon stops. */
bool http_pool_push(struct http_live *l);
/* Waits for what runs, answers what still queues with 503, ends the threads. Afterwards nothing is suspended. */
void http_pool_stop(struct http *h);

/* http_stream.c */
void http_stream_wake(struct waker *w);
bool http_stream_open(void *live);                              /* false: too many. Once is enough, more are legal */
bool http_stream_sleep(struct http_live *l, int64_t until_ms);  /* false: woken meanwhile, or the daemon stops */
ssize_t http_stream_read(void *live, uint64_t pos, char *buf, size_t max); /* MHD_ContentReaderCallback */
void http_stream_close(struct http_live *l);
bool http_stream_look(struct http_live *l);                     /* before the handler looks for what it waits for; false: the daemon stops */
void http_streams_tick(struct http *h, int64_t now_ms);         /* wakes those whose time has come */
void http_streams_stop(struct http *h);                         /* wakes all; from now on nobody sleeps */

#endif
