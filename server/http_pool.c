/* server/http_pool.c: the few threads for requests that take long. The connection is suspended while its request is here, so an epoll thread
 * never waits for it; a client that goes away meanwhile is noticed when the reply is sent. libmicrohttpd aborts the process when it is stopped with a
 * suspended connection: http_pool_stop resumes them all. */
#include "server/http_daemon.h"

static void *work(void *arg)
{
    struct http *h = arg;

    pthread_mutex_lock(&h->pool_lock);
    for (;;) {
        struct http_live *l;

        while (!h->queue && !h->pool_stops)
            pthread_cond_wait(&h->pool_cond, &h->pool_lock);
        l = h->queue;
        if (!l)
            break;
        h->queue = l->next;
        if (!h->queue)
            h->queue_end = &h->queue;
        h->n_queued--;
        if (h->pool_stops)
            err_set(&l->x->err, ERR_BUSY, "the server is shutting down");
        pthread_mutex_unlock(&h->pool_lock);
        exchange_finish(l->x);
        l->finished = true;
        MHD_resume_connection(l->connection);
        pthread_mutex_lock(&h->pool_lock);
    }
    pthread_mutex_unlock(&h->pool_lock);
    return NULL;
}

enum err_code http_pool_start(struct http *h, struct err *e)
{
    h->queue_end = &h->queue;
    for (; h->n_pool < HTTP_SLOW_THREADS; h->n_pool++) {
        int rc = pthread_create(&h->pool[h->n_pool], NULL, work, h);

        if (rc != 0)
            return err_errno(e, rc, "cannot start a thread");
    }
    return ERR_OK;
}

bool http_pool_push(struct http_live *l)
{
    struct http *h = l->h;
    bool room;

    pthread_mutex_lock(&h->pool_lock);
    room = !h->pool_stops && h->n_queued < HTTP_SLOW_QUEUE;
    if (room) {
        MHD_suspend_connection(l->connection);
        l->next = NULL;
        *h->queue_end = l;
        h->queue_end = &l->next;
        h->n_queued++;
        pthread_cond_signal(&h->pool_cond);
    }
    pthread_mutex_unlock(&h->pool_lock);
    return room;
}

void http_pool_stop(struct http *h)
{
    pthread_mutex_lock(&h->pool_lock);
    h->pool_stops = true;
    pthread_cond_broadcast(&h->pool_cond);
    pthread_mutex_unlock(&h->pool_lock);
    while (h->n_pool > 0)
        pthread_join(h->pool[--h->n_pool], NULL);
}
