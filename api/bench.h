/* api/bench.h: a model and a data set put together for predict and evaluate. */
#ifndef API_BENCH_H
#define API_BENCH_H

#include "api/api.h"
#include "core/job.h"

struct bench {
    struct app *app;
    struct api_served served;
    struct model model;      /* from the shelf, and back to it, with masks, packed (predict_pack) */
    struct dataset *data;    /* NULL: none */
    char dataset[ID_LEN];
    struct data_views views; /* of data */
    struct job_conf *conf;   /* the job's; of an uploaded model all zero, which means: the loss that fits, nothing carved */
    int64_t until_ms;        /* monotonic: longer than this nobody's request may take */
};
/* ERR_INVALID at "/dataset": it is not there, or does not fit; ERR_CONFLICT: not ready. dataset "" : the job's own; of an uploaded model, none. Clear
 * always; start with = { .app = NULL }. */
MUST enum err_code bench_open(struct bench *b, api_serve_fn *find, const char *dataset, struct app *app, const struct req *rq, struct err *e);
void bench_clear(struct bench *b);
/* The loss, which also says whether the outputs fit the data set's classes or targets. ERR_INVALID at "/dataset". */
MUST enum err_code bench_loss(struct loss_binding *out, const struct bench *b, struct err *e);
/* Samples of a split (enum data_split_id): lists of them are made at the first call. */
MUST enum err_code bench_view(const struct data_view **out, struct bench *b, int split, struct err *e);
/* ERR_TOO_LARGE when n samples at a time need more memory than a job may have. */
MUST enum err_code bench_memory(const struct bench *b, int n, struct err *e);
bool bench_stop(void *bench); /* the server stops, or the time is over */
MUST enum err_code bench_stopped(const struct bench *b, enum err_code rc, struct err *e); /* says why in place of ERR_STOPPED */
/* "model", or "job" and "iteration", and "dataset" into a reply. */
MUST enum err_code bench_names(json_t *reply, const struct bench *b, const struct req *rq, struct err *e);

#endif
