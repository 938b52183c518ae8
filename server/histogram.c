/* server/histogram.c: see histogram.h. */
#include "server/histogram.h"

#include <math.h>

const double histogram_short[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, (double)INFINITY };
const double histogram_long[] = { 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 48 * 3600, (double)INFINITY };

void histogram_add(struct histogram *h, double seconds)
{
    int i = 0;

    while (seconds > h->bound[i])
        i++;
    h->bucket[i]++;
    h->sum += seconds;
}
