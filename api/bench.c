/* api/bench.c: see bench.h. What is opened here is bounded before it is opened: the sizes of the files are known, memory is compared with what a job may
 * have, and a request ends after a minute of work. */
#include "api/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/shelf.h"
#include "core/mem.h"
#include "core/predict.h"
#include "server/log.h"

enum { MAX_WORK_MS = 60000 };

static enum err_code too_much_memory(uint64_t need, const struct app *app, struct err *e)
{
    return err_set(e, ERR_TOO_LARGE, "this needs about %llu MB of memory, and this server gives a job %llu MB", (unsigned long long)(need >> 20),
                   (unsigned long long)(app->memory_per_job >> 20));
}

enum err_code bench_memory(const struct bench *b, int n, struct err *e)
{
    uint64_t need = predict_memory(b->model.net, n) + 32 * (uint64_t)n;

    return b->app->memory_per_job == 0 || need <= b->app->memory_per_job ? ERR_OK : too_much_memory(need, b->app, e);
}

static enum err_code open_model(struct bench *b, struct err *e)
{
    const struct api_served *s = &b->served;

    if (!*s->weights.id)
        return err_set(e, ERR_CONFLICT, "the model has no weights yet");
    if (b->app->memory_per_job != 0 && s->weights.bytes > b->app->memory_per_job)
        return too_much_memory(s->weights.bytes, b->app, e);
    if (shelf_take(b->app->shelf, s->architecture.id, s->weights.id, &b->model))
        return ERR_OK;
    return api_model_open(&b->model, b->app->store, s->architecture.id, s->weights.id, e);
}

/* What the job said of loss and validation. */
static enum err_code open_conf(struct bench *b, struct err *e)
{
    json_t *doc = api_stored(b->served.job.conf);
    enum err_code rc = doc ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    b->conf = mem_zalloc(1, sizeof *b->conf);
    if (rc == ERR_OK && !b->conf)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK && *b->served.job.id)
        rc = job_conf_parse(b->conf, doc, *b->served.job.weights != '\0', e);
    json_decref(doc);
    return rc;
}

static enum err_code open_data(struct bench *b, const char *tenant, const char *id, bool given, struct err *e)
{
    struct dataset_row row = { 0 };
    struct data_conf conf;
    struct err why = { 0 };
    enum err_code rc = id_valid(id, "dst") ? store_dataset_get(b->app->store, tenant, id, &row, e) : ERR_NOT_FOUND;

    if (rc == ERR_NOT_FOUND)
        rc = given ? err_field(e, ERR_INVALID, "/dataset", "there is no data set \"%.40s\"", id)
                   : err_field(e, ERR_CONFLICT, "/dataset", "the job's data set has been deleted: name another one");
    if (rc == ERR_OK) {
        rc = api_dataset_open(&b->data, &conf, b->app->store, &row, &why);
        if (rc == ERR_INVALID || rc == ERR_UNSUPPORTED)
            rc = err_field(e, ERR_CONFLICT, "/dataset", "the data set is not ready: %.80s: %.200s", why.at, why.msg);
        else if (rc != ERR_OK)
            *e = why;
    }
    if (rc == ERR_OK)
        rc = job_check_shape(b->model.net, b->data, e);
    snprintf(b->dataset, sizeof b->dataset, "%s", row.id);
    dataset_row_clear(&row);
    return rc;
}

enum err_code bench_open(struct bench *b, api_serve_fn *find, const char *dataset, struct app *app, const struct req *rq, struct err *e)
{
    const char *id = dataset;
    enum err_code rc;

    b->app = app;
    b->until_ms = clock_mono_ms() + MAX_WORK_MS;
    rc = find(&b->served, app, rq, e);
    if (rc == ERR_OK)
        rc = open_conf(b, e);
    if (rc == ERR_OK)
        rc = open_model(b, e);
    if (rc == ERR_OK && !*id)
        id = b->served.job.dataset;
    return rc == ERR_OK && *id ? open_data(b, rq->tenant, id, *dataset != '\0', e) : rc;
}

/* Of a model that is packed, at most. */
static uint64_t kept_bytes(const struct net *net)
{
    uint64_t bytes = net_pack_memory(net);

    for (const struct weight *w = net->weight; w < net->weight + net->n_weights; w++)
        bytes += w->len * (sizeof *w->x + (w->info.prunable ? sizeof *w->mask : 0));
    return bytes;
}

void bench_clear(struct bench *b)
{
    data_views_free(&b->views);
    dataset_free(b->data);
    if (b->model.net)
        shelf_put(b->app->shelf, b->served.architecture.id, b->served.weights.id, &b->model, kept_bytes(b->model.net));
    model_clear(&b->model);
    mem_free(b->conf);
    api_served_clear(&b->served);
}

enum err_code bench_loss(struct loss_binding *out, const struct bench *b, struct err *e)
{
    enum err_code rc = job_bind_loss(out, b->conf, b->model.net, b->data, e);

    if (rc == ERR_INVALID) /* a job's loss fits its own data set */
        snprintf(e->at, sizeof e->at, "/dataset");
    return rc;
}

enum err_code bench_view(const struct data_view **out, struct bench *b, int split, struct err *e)
{
    enum err_code rc = b->views.train.data ? ERR_OK : data_views_new(&b->views, b->data, b->conf->validation_fraction, (uint64_t)b->conf->seed, e);

    *out = split == DATA_TRAIN ? &b->views.train : split == DATA_VALIDATION ? &b->views.validation : &b->views.test;
    return rc;
}

bool bench_stop(void *bench)
{
    const struct bench *b = bench;

    return clock_mono_ms() >= b->until_ms || (b->app->draining && b->app->draining());
}

enum err_code bench_stopped(const struct bench *b, enum err_code rc, struct err *e)
{
    if (rc != ERR_STOPPED)
        return rc;
    return clock_mono_ms() >= b->until_ms ? err_set(e, ERR_TOO_LARGE, "this takes more than a minute: ask for fewer samples")
                                          : err_set(e, ERR_BUSY, "the server is shutting down");
}

enum err_code bench_names(json_t *reply, const struct bench *b, const struct req *rq, struct err *e)
{
    bool job = *b->served.job.id;
    json_t *names = json_pack("{s:s?,s:s?,s:s?,s:s?}", "model", job ? NULL : b->served.name, "job", job ? b->served.job.id : NULL, "iteration",
                              rq->arg[1], "dataset", *b->dataset ? b->dataset : NULL);
    int failed = names ? json_object_update(reply, names) : -1;

    if (job && rq->arg[1])
        failed |= json_object_set_new(reply, "iteration", json_integer(strtol(rq->arg[1], NULL, 10)));
    json_decref(names);
    return failed ? err_set(e, ERR_NOMEM, "out of memory") : ERR_OK;
}
