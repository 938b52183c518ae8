/* server/http_stats.c: see http_stats.h. Fixed tables: routes times the few statuses each can answer; what does not fit is not counted. */
#include "server/http_stats.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { MAX_COUNTS = 512, MAX_ROUTES = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct http_count counts[MAX_COUNTS];
static struct http_time times[MAX_ROUTES];
static int n_counts, n_times;
static atomic_uint_least64_t uploaded;
static atomic_int in_flight, streams;

static void count(const char *method, const char *route, int status)
{
    int i = 0;

    while (i < n_counts && !(counts[i].status == status && strcmp(counts[i].route, route) == 0 && strcmp(counts[i].method, method) == 0))
        i++;
    if (i == n_counts && n_counts < MAX_COUNTS)
        counts[n_counts++] = (struct http_count){ method, route, status, 0 };
    if (i < n_counts)
        counts[i].n++;
}

static void time_taken(const char *method, const char *route, double seconds)
{
    int i = 0;

    while (i < n_times && !(strcmp(times[i].route, route) == 0 && strcmp(times[i].method, method) == 0))
        i++;
    if (i == n_times && n_times < MAX_ROUTES)
        times[n_times++] = (struct http_time){ method, route, { .bound = histogram_short } };
    if (i < n_times)
        histogram_add(&times[i].seconds, seconds);
}

void http_count_add(const struct route *route, int status, int64_t ms, uint64_t body)
{
    const char *method = route ? route->method : "", *path = route ? route->path : "unmatched";

    atomic_fetch_add(&uploaded, body);
    pthread_mutex_lock(&lock);
    count(method, path, status);
    time_taken(method, path, (double)(ms > 0 ? ms : 0) / 1000);
    pthread_mutex_unlock(&lock);
}

void http_in_flight_add(int n)
{
    atomic_fetch_add(&in_flight, n);
}

void http_streams_add(int n)
{
    atomic_fetch_add(&streams, n);
}

int http_streams(void)
{
    return atomic_load(&streams);
}

int http_in_flight(void)
{
    return atomic_load(&in_flight);
}

uint64_t http_uploaded(void)
{
    return atomic_load(&uploaded);
}

void http_counts(void (*fn)(void *user, const struct http_count *c), void *user)
{
    for (int i = 0;; i++) {
        struct http_count c;
        bool more;

        pthread_mutex_lock(&lock);
        more = i < n_counts;
        c = counts[more ? i : 0];
        pthread_mutex_unlock(&lock);
        if (!more)
            return;
        fn(user, &c);
    }
}

void http_times(void (*fn)(void *user, const struct http_time *t), void *user)
{
    for (int i = 0;; i++) {
        struct http_time t;
        bool more;

        pthread_mutex_lock(&lock);
        more = i < n_times;
        t = times[more ? i : 0];
        pthread_mutex_unlock(&lock);
        if (!more)
            return;
        fn(user, &t);
    }
}
