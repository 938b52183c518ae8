/* server/quota.c: see quota.h. Buckets that fill up with time: what a request takes out is there again later. Tenants come out of tokens, so there are
 * as many as were made; addresses come from outside, so they have a table of fixed size, where the one that has failed least makes room. One lock,
 * held for a moment. */
#include "server/quota.h"

#include <arpa/inet.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "server/tenant.h"

enum { TENANT_LISTS = 64, ADDRESS_SETS = 256, ADDRESS_WAYS = 4, ADDRESS_LEN = 48 };

struct bucket { double full; int64_t at_ms; };
struct quota_tenant { struct quota_tenant *next; char name[TENANT_LEN]; struct bucket requests; int64_t streams, own_rate, own_streams; /* own: -1: as all */ };
struct quota_address { char name[ADDRESS_LEN]; struct bucket wrong; };
struct quota {
    pthread_mutex_t lock;
    double rate; /* requests per second */
    int64_t max_streams;
    struct quota_tenant *tenants[TENANT_LISTS];
    struct quota_address addresses[ADDRESS_SETS][ADDRESS_WAYS];
    struct quota_figures figures;
};

enum err_code quota_new(struct quota **out, int64_t requests_per_second, int64_t streams, struct err *e)
{
    struct quota *q = mem_zalloc(1, sizeof *q);

    if (!q)
        return err_set(e, ERR_NOMEM, "out of memory");
    pthread_mutex_init(&q->lock, NULL);
    q->rate = (double)requests_per_second;
    q->max_streams = streams;
    *out = q;
    return ERR_OK;
}

void quota_free(struct quota *q)
{
    if (!q)
        return;
    for (int i = 0; i < TENANT_LISTS; i++)
        for (struct quota_tenant *t = q->tenants[i], *next; t; t = next) {
            next = t->next;
            mem_free(t);
        }
    pthread_mutex_destroy(&q->lock);
    mem_free(q);
}

/* ---- buckets ---- */

static void fill(struct bucket *b, double per_ms, double most, int64_t now_ms)
{
    int64_t passed = now_ms > b->at_ms ? now_ms - b->at_ms : 0;

    b->full = fmin(most, b->full + (double)passed * per_ms);
    b->at_ms = now_ms;
}

/* Takes one out; false: there is none, and *retry_after says when. */
static bool take(struct bucket *b, double per_ms, double most, int64_t now_ms, int *retry_after)
{
    fill(b, per_ms, most, now_ms);
    if (b->full >= 1) {
        b->full -= 1;
        return true;
    }
    *retry_after = (int)ceil((1 - b->full) / per_ms / 1000 - 1e-9);
    return false;
}

static uint32_t hash(const char *s)
{
    uint32_t h = 2166136261u;

    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    return h ^ h >> 16;
}

/* ---- tenants ---- */

/* The lock is held. NULL: out of memory. */
static struct quota_tenant *tenant_of(struct quota *q, const char *name, int64_t now_ms)
{
    struct quota_tenant **list = &q->tenants[hash(name) % TENANT_LISTS], *t = *list;

    while (t && strcmp(t->name, name) != 0)
        t = t->next;
    if (t)
        return t;
    t = mem_zalloc(1, sizeof *t);
    if (!t)
        return NULL;
    snprintf(t->name, sizeof t->name, "%s", name);
    t->own_rate = t->own_streams = -1;
    t->requests = (struct bucket){ q->rate * QUOTA_BURST, now_ms };
    t->next = *list;
    *list = t;
    return t;
}

static double rate_of(const struct quota *q, const struct quota_tenant *t)
{
    return t->own_rate < 0 ? q->rate : (double)t->own_rate;
}

static int64_t streams_of(const struct quota *q, const struct quota_tenant *t)
{
    return t->own_streams < 0 ? q->max_streams : t->own_streams;
}

enum err_code quota_set(struct quota *q, const char *tenant, int64_t requests_per_second, int64_t streams, int64_t now_ms, struct err *e)
{
    struct quota_tenant *t;

    if (!q)
        return ERR_OK;
    pthread_mutex_lock(&q->lock);
    t = tenant_of(q, tenant, now_ms);
    if (t) {
        t->own_rate = requests_per_second;
        t->own_streams = streams;
        t->requests = (struct bucket){ rate_of(q, t) * QUOTA_BURST, now_ms };
    }
    pthread_mutex_unlock(&q->lock);
    return t ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

enum err_code quota_request(struct quota *q, const char *tenant, int64_t now_ms, int *retry_after, struct err *e)
{
    struct quota_tenant *t;
    double rate = 0;
    bool ok;

    if (!q)
        return ERR_OK;
    pthread_mutex_lock(&q->lock);
    t = tenant_of(q, tenant, now_ms);
    if (t)
        rate = rate_of(q, t);
    ok = t && (rate <= 0 || take(&t->requests, rate / 1000, rate * QUOTA_BURST, now_ms, retry_after));
    q->figures.requests += t && !ok;
    pthread_mutex_unlock(&q->lock);
    if (!t)
        return err_set(e, ERR_NOMEM, "out of memory");
    return ok ? ERR_OK : err_set(e, ERR_TOO_MANY, "more than %g requests a second of this tenant", rate);
}

enum err_code quota_stream_open(struct quota *q, const char *tenant, struct err *e)
{
    struct quota_tenant *t;
    int64_t most = 0;
    bool ok;

    if (!q)
        return ERR_OK;
    pthread_mutex_lock(&q->lock);
    t = tenant_of(q, tenant, 0);
    if (t)
        most = streams_of(q, t);
    ok = t && (most <= 0 || t->streams < most);
    if (ok)
        t->streams++;
    q->figures.streams += t && !ok;
    pthread_mutex_unlock(&q->lock);
    if (!t)
        return err_set(e, ERR_NOMEM, "out of memory");
    return ok ? ERR_OK : err_set(e, ERR_TOO_MANY, "more than %lld event streams and waiting requests of this tenant", (long long)most);
}

void quota_stream_close(struct quota *q, const char *tenant)
{
    struct quota_tenant *t;

    if (!q)
        return;
    pthread_mutex_lock(&q->lock);
    t = tenant_of(q, tenant, 0);
    if (t)
        t->streams--;
    pthread_mutex_unlock(&q->lock);
}

/* ---- addresses ---- */

/* An IPv4 address, also one that is written as IPv6, as it is; of an IPv6 address its network. */
static void network(char name[ADDRESS_LEN], const char *address)
{
    struct in6_addr a;

    snprintf(name, ADDRESS_LEN, "%s", address);
    if (inet_pton(AF_INET6, address, &a) != 1)
        return;
    if (IN6_IS_ADDR_V4MAPPED(&a)) {
        inet_ntop(AF_INET, &a.s6_addr[12], name, ADDRESS_LEN);
        return;
    }
    memset(&a.s6_addr[8], 0, 8);
    inet_ntop(AF_INET6, &a, name, ADDRESS_LEN);
}

/* The lock is held. */
static struct quota_address *address_of(struct quota *q, const char *name, int64_t now_ms)
{
    struct quota_address *set = q->addresses[hash(name) % ADDRESS_SETS], *best = set;

    for (int i = 0; i < ADDRESS_WAYS; i++) {
        if (strcmp(set[i].name, name) == 0)
            return &set[i];
        fill(&set[i].wrong, 1.0 / QUOTA_WRONG_MS, QUOTA_WRONG, now_ms);
        if (!*set[i].name || (*best->name && set[i].wrong.full > best->wrong.full))
            best = &set[i];
    }
    *best = (struct quota_address){ .wrong = { QUOTA_WRONG, now_ms } };
    snprintf(best->name, sizeof best->name, "%s", name);
    return best;
}

enum err_code quota_wrong_token(struct quota *q, const char *address, int64_t now_ms, int *retry_after, struct err *e)
{
    char name[ADDRESS_LEN];
    bool ok;

    if (!q)
        return ERR_OK;
    network(name, address);
    pthread_mutex_lock(&q->lock);
    ok = take(&address_of(q, name, now_ms)->wrong, 1.0 / QUOTA_WRONG_MS, QUOTA_WRONG, now_ms, retry_after);
    q->figures.wrong_tokens++;
    q->figures.limited_addresses += !ok;
    pthread_mutex_unlock(&q->lock);
    return ok ? ERR_OK : err_set(e, ERR_TOO_MANY, "too many wrong tokens from this address");
}

void quota_figures(struct quota *q, struct quota_figures *out)
{
    *out = (struct quota_figures){ 0 };
    if (!q)
        return;
    pthread_mutex_lock(&q->lock);
    *out = q->figures;
    pthread_mutex_unlock(&q->lock);
}
