/* api/estimate.c: how long a job may take, before it is queued. The model itself is timed: forward passes of a batch, on one thread; a training step is
 * counted as three of them, and a pass of a pruned model by its share of non-zero weights, but as a tenth of the dense one at least. It is an estimate: other
 * jobs, more threads and stop rules are not in it. */
#include <math.h>
#include <time.h>

#include "api/api.h"
#include "core/job.h"

enum { BATCH = 128, RUNS = 5, MAX_SECONDS = 2 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds per sample of a forward pass: the fastest of some, after one that fills the caches. */
static enum err_code time_forward(double *seconds, struct net *net, struct err *e)
{
    struct exec *x = NULL;
    double begun = now();
    enum err_code rc = exec_new(&x, net, BATCH, EXEC_INFER, 0, NULL, e);

    *seconds = INFINITY;
    for (int run = 0; rc == ERR_OK && run <= RUNS && (run < 2 || now() - begun < MAX_SECONDS); run++) {
        double before = now();

        exec_forward(x, BATCH, false, 0);
        if (run > 0)
            *seconds = fmin(*seconds, (now() - before) / BATCH);
    }
    exec_free(x);
    return rc;
}

/* Samples through a dense forward pass that would take as long. */
static double work(const struct job_conf *c, const struct net *net, const struct dataset *d, const json_t *iterations)
{
    double n = d->split[DATA_TRAIN].n, validation = d->split[DATA_VALIDATION].n, sum;
    struct net_size size;
    json_t *it;
    size_t i;

    net_count(net, &size);
    if (validation == 0) {
        validation = c->validation_fraction * n;
        n -= validation;
    }
    sum = 3 * (double)c->train.epochs * n + validation + 2.0 * d->split[DATA_TEST].n;
    json_array_foreach(iterations, i, it)
    {
        double density = size.weights ? json_number_value(json_object_get(it, "nonzero")) / (double)size.weights : 1;

        sum += fmax(density, 0.1) * (3 * (double)c->retrain.epochs * n + 2 * validation);
    }
    return sum;
}

enum err_code api_estimate(double *seconds, const struct job_conf *c, struct net *net, const struct dataset *d, const json_t *iterations, struct err *e)
{
    double each;
    enum err_code rc = time_forward(&each, net, e);

    *seconds = rc == ERR_OK ? each * work(c, net, d, iterations) : 0;
    return rc;
}
