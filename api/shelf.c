/* api/shelf.c: see shelf.h. */
#include "api/shelf.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "server/store.h"

struct place {
    char architecture[ID_LEN], weights[ID_LEN];
    struct model model; /* net NULL: the place is free */
    uint64_t bytes, put;
};
struct shelf {
    pthread_mutex_t lock;
    uint64_t puts;
    struct place place[SHELF_PLACES];
};

enum err_code shelf_new(struct shelf **out, struct err *e)
{
    *out = mem_zalloc(1, sizeof **out);
    if (!*out)
        return err_set(e, ERR_NOMEM, "out of memory");
    pthread_mutex_init(&(*out)->lock, NULL);
    return ERR_OK;
}

void shelf_free(struct shelf *s)
{
    if (!s)
        return;
    for (int i = 0; i < SHELF_PLACES; i++)
        model_clear(&s->place[i].model);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

static struct place *find(struct shelf *s, const char *architecture, const char *weights)
{
    for (struct place *p = s->place; p < s->place + SHELF_PLACES; p++)
        if (p->model.net && strcmp(p->architecture, architecture) == 0 && strcmp(p->weights, weights) == 0)
            return p;
    return NULL;
}

bool shelf_take(struct shelf *s, const char *architecture, const char *weights, struct model *out)
{
    struct place *p;

    if (!s)
        return false;
    pthread_mutex_lock(&s->lock);
    p = find(s, architecture, weights);
    if (p) {
        *out = p->model;
        *p = (struct place){ .bytes = 0 };
    }
    pthread_mutex_unlock(&s->lock);
    return p != NULL;
}

static uint64_t bytes_of(const struct shelf *s)
{
    uint64_t bytes = 0;

    for (int i = 0; i < SHELF_PLACES; i++)
        bytes += s->place[i].bytes;
    return bytes;
}

/* The place that is free, or whose model was put back the longest ago: free ones have put 0. full: only among models. */
static struct place *oldest(struct shelf *s, bool full)
{
    struct place *best = NULL;

    for (struct place *p = s->place; p < s->place + SHELF_PLACES; p++)
        if ((!full || p->model.net) && (!best || p->put < best->put))
            best = p;
    return best;
}

static void clear(struct place *p)
{
    model_clear(&p->model);
    *p = (struct place){ .bytes = 0 };
}

void shelf_put(struct shelf *s, const char *architecture, const char *weights, struct model *m, uint64_t bytes)
{
    struct place *p;

    if (!s || bytes > SHELF_BYTES) {
        model_clear(m);
        return;
    }
    pthread_mutex_lock(&s->lock);
    p = find(s, architecture, weights);
    if (p)
        clear(p);
    while (bytes_of(s) + bytes > SHELF_BYTES)
        clear(oldest(s, true));
    p = oldest(s, false);
    clear(p);
    *p = (struct place){ .model = *m, .bytes = bytes, .put = ++s->puts };
    snprintf(p->architecture, sizeof p->architecture, "%s", architecture);
    snprintf(p->weights, sizeof p->weights, "%s", weights);
    *m = (struct model){ .net = NULL };
    pthread_mutex_unlock(&s->lock);
}
