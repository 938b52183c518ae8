/* server/hub.c: see hub.h. One lock for the list, the rings and the references; wakers are rung under it, so that none is rung after hub_unsubscribe.
 * A message is one allocation, shared by all rings that hold it. When memory is short a message is lost, and everybody concerned is told of a gap.
 *
 * Waking a stream costs a job some microseconds of its processors, and progress comes every second: a crowd gets it in turns, HUB_CROWD a second. */
#include "server/hub.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"

struct hub_sub {
    struct hub *hub;
    struct hub_sub *prev, *next;
    char tenant[TENANT_LEN], job[ID_LEN];
    enum hub_want want;
    int64_t number;
    struct waker *waker;
    struct hub_message *ring[HUB_RING];
    int first, n;
    bool gap;
};
struct hub { pthread_mutex_t lock; struct hub_sub *subs; int64_t n_subs, last_number; };

enum err_code hub_new(struct hub **out, struct err *e)
{
    struct hub *h = mem_zalloc(1, sizeof *h);

    if (!h)
        return err_set(e, ERR_NOMEM, "out of memory");
    pthread_mutex_init(&h->lock, NULL);
    *out = h;
    return ERR_OK;
}

void hub_free(struct hub *h)
{
    if (!h)
        return;
    pthread_mutex_destroy(&h->lock);
    mem_free(h);
}

static struct hub_message *copy(const struct event_row *ev)
{
    size_t n_type = strlen(ev->type) + 1, n_data = strlen(ev->data) + 1;
    struct hub_message *m = mem_alloc(sizeof *m + n_type + n_data);
    char *text = (char *)(m + 1);

    if (!m)
        return NULL;
    m->refs = 1;
    m->event = *ev;
    m->event.type = memcpy(text, ev->type, n_type);
    m->event.data = memcpy(text + n_type, ev->data, n_data);
    return m;
}

/* The lock is held, here and in the three that follow. */
static void drop(struct hub_message *m)
{
    if (m && --m->refs == 0)
        mem_free(m);
}

static void empty(struct hub_sub *s)
{
    for (; s->n > 0; s->n--) {
        drop(s->ring[s->first]);
        s->first = (s->first + 1) % HUB_RING;
    }
}

/* m NULL: it was lost. */
static void push(struct hub_sub *s, struct hub_message *m, bool progress)
{
    if (progress && (!m || s->n == HUB_RING))
        return;
    if (!m || s->n == HUB_RING) {
        empty(s);
        s->gap = true;
    }
    if (m) {
        m->refs++;
        s->ring[(s->first + s->n++) % HUB_RING] = m;
    }
}

/* Is progress of that second for this subscriber? */
static bool has_turn(const struct hub_sub *s, const struct event_row *ev)
{
    int64_t turns = (s->hub->n_subs + HUB_CROWD - 1) / HUB_CROWD;

    return (ev->created_ms / 1000 + s->number) % turns == 0;
}

static void offer(struct hub_sub *s, const struct event_row *ev, struct hub_message *m)
{
    bool progress = ev->seq == 0;

    if (strcmp(s->tenant, ev->tenant) != 0 || (*s->job && strcmp(s->job, ev->job) != 0) || (progress && (s->want == HUB_STORED || !has_turn(s, ev))))
        return;
    if (s->want == HUB_EVENTS)
        push(s, m, progress);
    s->waker->wake(s->waker);
}

void hub_publish(struct hub *h, const struct event_row *ev)
{
    struct hub_message *m;

    pthread_mutex_lock(&h->lock);
    m = h->subs ? copy(ev) : NULL;
    for (struct hub_sub *s = h->subs; s; s = s->next)
        offer(s, ev, m);
    drop(m);
    pthread_mutex_unlock(&h->lock);
}

enum err_code hub_subscribe(struct hub_sub **out, struct hub *h, const char *tenant, const char *job, enum hub_want want, struct waker *waker,
                            struct err *e)
{
    struct hub_sub *s = mem_zalloc(1, sizeof *s);

    if (!s)
        return err_set(e, ERR_NOMEM, "out of memory");
    s->hub = h;
    snprintf(s->tenant, sizeof s->tenant, "%s", tenant);
    snprintf(s->job, sizeof s->job, "%s", job);
    s->want = want;
    s->waker = waker;
    pthread_mutex_lock(&h->lock);
    s->number = ++h->last_number;
    h->n_subs++;
    s->next = h->subs;
    if (s->next)
        s->next->prev = s;
    h->subs = s;
    pthread_mutex_unlock(&h->lock);
    *out = s;
    return ERR_OK;
}

void hub_unsubscribe(struct hub_sub *s)
{
    struct hub *h;

    if (!s)
        return;
    h = s->hub;
    pthread_mutex_lock(&h->lock);
    *(s->prev ? &s->prev->next : &h->subs) = s->next;
    if (s->next)
        s->next->prev = s->prev;
    h->n_subs--;
    empty(s);
    pthread_mutex_unlock(&h->lock);
    mem_free(s);
}

enum hub_take hub_take(struct hub_sub *s, const struct hub_message **out)
{
    enum hub_take what = HUB_NONE;

    pthread_mutex_lock(&s->hub->lock);
    if (s->gap) {
        s->gap = false;
        what = HUB_GAP;
    } else if (s->n > 0) {
        *out = s->ring[s->first];
        s->first = (s->first + 1) % HUB_RING;
        s->n--;
        what = HUB_MESSAGE;
    }
    pthread_mutex_unlock(&s->hub->lock);
    return what;
}

void hub_give(struct hub_sub *s, const struct hub_message *m)
{
    pthread_mutex_lock(&s->hub->lock);
    drop((struct hub_message *)(uintptr_t)m);
    pthread_mutex_unlock(&s->hub->lock);
}

bool hub_restart(struct hub_sub *s)
{
    bool gap;

    pthread_mutex_lock(&s->hub->lock);
    gap = s->gap;
    if (gap)
        empty(s);
    s->gap = false;
    pthread_mutex_unlock(&s->hub->lock);
    return gap;
}
