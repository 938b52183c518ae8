/* core/codebook.c: weights shared by k-means (see finish.h). In one dimension and in sorted order a cluster is a run, so an iteration is one pass. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/finish.h"
#include "core/mem.h"

enum { MAX_ITERATIONS = 300, MAX_CODES = 256 };

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

/* The first of the numbers, from `at` on, that is nearer to centroid c+1 than to c; ties stay. */
static size_t run_end(const float *sorted, size_t n, size_t at, const double *centroid, int c, int k)
{
    const double edge = c + 1 < k ? (centroid[c] + centroid[c + 1]) / 2 : INFINITY;

    while (at < n && (double)sorted[at] <= edge)
        at++;
    return at;
}

/* One iteration; whether a centroid moved. An empty cluster stays where it is. */
static bool move(const float *sorted, size_t n, double *centroid, int k)
{
    double old[MAX_CODES];
    bool moved = false;
    size_t at = 0;

    memcpy(old, centroid, (size_t)k * sizeof *old);
    for (int c = 0; c < k; c++) {
        const size_t end = run_end(sorted, n, at, old, c, k);
        double sum = 0;

        for (size_t i = at; i < end; i++)
            sum += (double)sorted[i];
        if (end > at)
            centroid[c] = sum / (double)(end - at);
        moved = moved || centroid[c] != old[c];
        at = end;
    }
    return moved;
}

/* A number of x is replaced by the nearest centroid: the runs' edges say which. */
static void assign(float *x, size_t n, const double *centroid, int k, int *used)
{
    bool hit[MAX_CODES] = { false };

    for (size_t i = 0; i < n; i++) {
        int low = 0, high = k - 1;

        while (x[i] != 0 && low < high) {
            int middle = (low + high) / 2;

            if ((double)x[i] <= (centroid[middle] + centroid[middle + 1]) / 2)
                high = middle;
            else
                low = middle + 1;
        }
        if (x[i] == 0)
            continue;
        hit[low] = true;
        x[i] = (float)centroid[low];
    }
    *used = 0;
    for (int c = 0; c < k; c++)
        *used += hit[c];
}

enum err_code codebook_fit(float *x, size_t n, int bits, int *used, struct err *e)
{
    const int k = 1 << bits;
    float *sorted = mem_alloc(n * sizeof *sorted);
    double centroid[MAX_CODES] = { 0 };
    size_t stored = 0;

    *used = 0;
    if (!sorted)
        return err_set(e, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        if (x[i] != 0)
            sorted[stored++] = x[i];
    qsort(sorted, stored, sizeof *sorted, ascending);
    for (int c = 0; stored > 0 && c < k; c++)
        centroid[c] = (double)sorted[0] + ((double)sorted[stored - 1] - (double)sorted[0]) * c / (k - 1);
    for (int i = 0; stored > 0 && i < MAX_ITERATIONS && move(sorted, stored, centroid, k); i++)
        ;
    if (stored > 0)
        assign(x, n, centroid, k, used);
    mem_free(sorted);
    return ERR_OK;
}
