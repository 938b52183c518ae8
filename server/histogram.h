/* server/histogram.h: how long things took, in the buckets that Prometheus wants. A plain value: whoever owns it guards it with a lock. */
#ifndef SERVER_HISTOGRAM_H
#define SERVER_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_MAX = 16 };
struct histogram {
    const double *bound; /* upper bounds of the buckets, growing; the last is INFINITY */
    uint64_t bucket[HISTOGRAM_MAX];
    double sum;
};
extern const double histogram_short[]; /* a request, a transaction: 1 ms to 30 s */
extern const double histogram_long[];  /* a job: 1 s to 2 days */

void histogram_add(struct histogram *h, double seconds);

#endif
