/* server/http_stream.c: replies that go on (struct source), and requests that wait: their connections sleep, suspended, and no thread is held.
 *
 * What says that a connection sleeps is one flag, `asleep`, under one lock, and libmicrohttpd is told under the same lock: a connection is suspended
 * once, resumed once, and no wake is lost between "there was nothing" and "it sleeps" (`woken`). libmicrohttpd does not notice that a suspended
 * client has gone: the watchdog's tick wakes each connection when it has been idle for its source's time, and the bytes that are then sent find out.
 * libmicrohttpd aborts the process when it is stopped with a suspended connection: after http_streams_stop none is, and none will be. */
#include "server/http_daemon.h"

#include <stddef.h>

#include "server/http_stats.h"
#include "server/log.h"

enum { MOST_AT_ONCE = 8192 /* of the connection's pool of 128 KiB, whose pages it keeps once they are written to */ };

static struct http_live *live_of(struct waker *w)
{
    return (struct http_live *)(void *)((char *)w - offsetof(struct http_live, waker));
}

/* wake_lock is held. */
static void wake(struct http_live *l)
{
    l->woken = true;
    if (!l->asleep)
        return;
    l->asleep = false;
    MHD_resume_connection(l->connection);
}

void http_stream_wake(struct waker *w)
{
    struct http_live *l = live_of(w);

    pthread_mutex_lock(&l->h->wake_lock);
    wake(l);
    pthread_mutex_unlock(&l->h->wake_lock);
}

bool http_stream_open(void *live)
{
    struct http_live *l = live;
    struct http *h = l->h;

    pthread_mutex_lock(&h->wake_lock);
    if (!l->streams && h->n_streams < h->conf.max_streams) {
        l->streams = true;
        http_streams_add(1);
        l->due_ms = clock_mono_ms() + l->x->reply.source->idle_ms;
        h->n_streams++;
        l->stream_prev = NULL;
        l->stream_next = h->streams;
        if (l->stream_next)
            l->stream_next->stream_prev = l;
        h->streams = l;
    }
    pthread_mutex_unlock(&h->wake_lock);
    return l->streams;
}

void http_stream_close(struct http_live *l)
{
    struct http *h = l->h;

    pthread_mutex_lock(&h->wake_lock);
    if (l->streams) {
        *(l->stream_prev ? &l->stream_prev->stream_next : &h->streams) = l->stream_next;
        if (l->stream_next)
            l->stream_next->stream_prev = l->stream_prev;
        h->n_streams--;
        l->streams = false;
        http_streams_add(-1);
    }
    pthread_mutex_unlock(&h->wake_lock);
}

bool http_stream_sleep(struct http_live *l, int64_t until_ms)
{
    struct http *h = l->h;
    bool sleeps;

    pthread_mutex_lock(&h->wake_lock);
    sleeps = !l->woken && !h->streams_stop;
    l->woken = false;
    l->due_ms = until_ms;
    if (sleeps) {
        l->asleep = true;
        MHD_suspend_connection(l->connection);
    }
    pthread_mutex_unlock(&h->wake_lock);
    return sleeps;
}

static enum source_call why(struct http_live *l, int64_t now_ms)
{
    enum source_call w = SOURCE_GO;

    pthread_mutex_lock(&l->h->wake_lock);
    l->woken = false; /* what rings from here on is not seen by the call that follows, and counts */
    if (l->h->streams_stop)
        w = SOURCE_STOP;
    else if (now_ms >= l->due_ms)
        w = SOURCE_IDLE;
    pthread_mutex_unlock(&l->h->wake_lock);
    return w;
}

ssize_t http_stream_read(void *live, uint64_t pos, char *buf, size_t max)
{
    struct http_live *l = live;
    struct source *s = l->x->reply.source;

    (void)pos;
    max = max < MOST_AT_ONCE ? max : MOST_AT_ONCE;
    for (;;) {
        int64_t now = clock_mono_ms();
        enum source_call w = why(l, now);
        long n = s->read(s, buf, max, w);

        if (n > 0) {
            l->due_ms = now + s->idle_ms;
            l->sent += (uint64_t)n;
            return n;
        }
        if (n < 0 || w == SOURCE_STOP)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (http_stream_sleep(l, w == SOURCE_IDLE ? now + s->idle_ms : l->due_ms))
            return 0;
    }
}

bool http_stream_look(struct http_live *l)
{
    bool stopping;

    pthread_mutex_lock(&l->h->wake_lock);
    l->woken = false;
    stopping = l->h->streams_stop;
    pthread_mutex_unlock(&l->h->wake_lock);
    return !stopping;
}

void http_streams_tick(struct http *h, int64_t now_ms)
{
    pthread_mutex_lock(&h->wake_lock);
    for (struct http_live *l = h->streams; l; l = l->stream_next)
        if (l->asleep && now_ms >= l->due_ms)
            wake(l);
    pthread_mutex_unlock(&h->wake_lock);
}

void http_streams_stop(struct http *h)
{
    pthread_mutex_lock(&h->wake_lock);
    h->streams_stop = true;
    for (struct http_live *l = h->streams; l; l = l->stream_next)
        wake(l);
    pthread_mutex_unlock(&h->wake_lock);
}
