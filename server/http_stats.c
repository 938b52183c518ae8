/* server/http_stats.c: see http_stats.h. A fixed table: routes times the few statuses each can answer; what does not fit is not counted. */
#include "server/http_stats.h"

#include <pthread.h>
#include <string.h>

enum { MAX_COUNTS = 512 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct http_count table[MAX_COUNTS];
static int n_counts;

void http_count_add(const struct route *route, int status, int64_t ms)
{
    struct http_count key = { route ? route->method : "", route ? route->path : "unmatched", status, 1, (uint64_t)(ms > 0 ? ms : 0) };
    int i = 0;

    pthread_mutex_lock(&lock);
    while (i < n_counts && !(table[i].status == status && strcmp(table[i].route, key.route) == 0 && strcmp(table[i].method, key.method) == 0))
        i++;
    if (i < n_counts) {
        table[i].n++;
        table[i].ms += key.ms;
    } else if (n_counts < MAX_COUNTS) {
        table[n_counts++] = key;
    }
    pthread_mutex_unlock(&lock);
}

void http_counts(void (*fn)(void *user, const struct http_count *c), void *user)
{
    for (int i = 0;; i++) {
        struct http_count c;

        pthread_mutex_lock(&lock);
        if (i >= n_counts) {
            pthread_mutex_unlock(&lock);
            return;
        }
        c = table[i];
        pthread_mutex_unlock(&lock);
        fn(user, &c);
    }
}
