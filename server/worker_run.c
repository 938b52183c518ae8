/* server/worker_run.c: one job: opens its files, checks its memory, and runs it with hooks that publish under the lease.
 *
 * Order of publishing: core has written, synced and renamed the files; then one transaction names them. Files that no transaction came to
 * name (the lease was lost, the disk was full) are removed at the end of the run. */
#include <stdio.h>
#include <string.h>

#include "core/jsonguard.h"
#include "core/mem.h"
#include "server/log.h"
#include "server/worker_impl.h"

#define AT_ONCE 1e-9 /* seconds between checkpoints */

struct run {
    struct lease *lease;
    const struct job_row *job;
    const struct run_conf *limits;
    struct job_conf *conf;
    struct model model;
    struct dataset *data;
    char unnamed[4][ID_LEN]; /* files handed out since the last commit; more than a commit ever has */
    int n_unnamed;
    bool finished;
    struct job_hooks hooks;
};

/* ---- open ---- */

static enum err_code parse_text(json_t **out, const char *text, struct err *e)
{
    *out = json_loads(text, 0, NULL);
    return *out ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

static enum err_code open_conf(struct run *r, struct err *e)
{
    json_t *doc = NULL;
    enum err_code rc = parse_text(&doc, r->job->conf, e);

    r->conf = mem_zalloc(1, sizeof *r->conf);
    if (rc == ERR_OK && !r->conf)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK)
        rc = job_conf_parse(r->conf, doc, *r->job->weights != '\0', e);
    json_decref(doc);
    return rc;
}

static enum err_code open_weights(struct run *r, struct err *e)
{
    char path[4096];
    struct file_map map = { 0 };
    struct st_file file = { 0 };
    enum err_code rc;

    blob_path(r->lease->store, r->job->weights, path, sizeof path);
    rc = file_map_open(&map, path, e);
    if (rc == ERR_OK)
        rc = st_parse(&file, map.data, map.len, e);
    if (rc == ERR_OK) {
        rc = model_load_weights(r->model.net, &file, e);
        st_file_free(&file);
    }
    file_map_close(&map);
    return rc;
}

static enum err_code open_model(struct run *r, struct err *e)
{
    char path[4096];
    struct file_map map = { 0 };
    enum err_code rc;

    blob_path(r->lease->store, r->job->architecture, path, sizeof path);
    rc = file_map_open(&map, path, e);
    if (rc == ERR_OK)
        rc = document_read(&r->model, (const char *)map.data, map.len, e);
    file_map_close(&map);
    if (rc != ERR_OK)
        return rc;
    if (*r->job->weights)
        return open_weights(r, e);
    net_init(r->model.net, (uint64_t)r->conf->seed);
    return ERR_OK;
}

static enum err_code open_files(struct run *r, const struct dataset_row *d, struct err *e)
{
    char path[6][4096];
    const char *paths[DATA_SPLITS][2];
    struct data_conf conf;
    json_t *doc = NULL;
    enum err_code rc = parse_text(&doc, d->conf, e);

    for (int i = 0; i < 6; i++) {
        const char *id = d->part[i / 2][i % 2].blob.id;

        blob_path(r->lease->store, id, path[i], sizeof path[i]);
        paths[i / 2][i % 2] = *id ? path[i] : NULL;
    }
    if (rc == ERR_OK)
        rc = params_parse(&conf, sizeof conf, data_params, doc, e);
    json_decref(doc);
    return rc == ERR_OK ? dataset_open(&r->data, &conf, paths, e) : rc;
}

static enum err_code open_data(struct run *r, struct err *e)
{
    struct dataset_row d = { 0 };
    enum err_code rc = store_dataset_get(r->lease->store, r->job->tenant, r->job->dataset, &d, e);

    if (rc == ERR_OK)
        rc = open_files(r, &d, e);
    dataset_row_clear(&d);
    return rc;
}

static enum err_code check_memory(const struct run *r, struct err *e)
{
    uint64_t need = job_memory(r->conf, r->model.net, r->data);

    if (need <= r->limits->memory)
        return ERR_OK;
    return err_set(e, ERR_NOMEM, "needs more memory: about %llu MB, a job may use %llu MB", (unsigned long long)(need >> 20),
                   (unsigned long long)(r->limits->memory >> 20));
}

/* ---- hooks ---- */

static bool on_stop(void *user)
{
    struct run *r = user;

    r->hooks.checkpoint_seconds = atomic_load(&r->lease->pause) ? AT_ONCE : r->limits->checkpoint_seconds;
    return lease_must_stop(r->lease);
}

static void on_progress(void *user, const struct job_progress *p)
{
    struct lease *l = ((struct run *)user)->lease;

    pthread_mutex_lock(&l->progress_lock);
    if (!*l->phase) {
        l->started = clock_mono_ms();
        l->started_fraction = p->fraction;
    }
    lease_lap(l, p, clock_mono_ms());
    l->progress = *p;
    snprintf(l->phase, sizeof l->phase, "%s", p->phase);
    pthread_mutex_unlock(&l->progress_lock);
}

static enum err_code on_new_file(void *user, const char *kind, char *path, size_t n, struct err *e)
{
    struct run *r = user;
    enum err_code rc = store_room(r->lease->store, 0, e);

    (void)kind;
    if (rc != ERR_OK)
        return rc;
    if (r->n_unnamed == (int)(sizeof r->unnamed / sizeof r->unnamed[0]))
        return err_set(e, ERR_INTERNAL, "too many files without a commit");
    blob_new(r->lease->store, r->unnamed[r->n_unnamed++], path, n);
    return ERR_OK;
}

static const struct blob *blob_of(struct blob *b, const struct job_file *f)
{
    const char *name;

    if (!f || !*f->path)
        return NULL;
    name = strrchr(f->path, '/');
    snprintf(b->id, sizeof b->id, "%.*s", ID_LEN - 1, name ? name + 1 : f->path);
    snprintf(b->hash, sizeof b->hash, "%s", f->hash);
    b->bytes = f->bytes;
    return b;
}

static void log_commit(const struct run *r, const struct job_commit *c)
{
    const json_t *sparsity = json_object_get(c->record, "sparsity");

    if (c->kind == JOB_COMMIT_ITERATION)
        log_event(LOG_INFO, "job iteration", LOG_S("job_id", r->lease->id), LOG_I("iteration", c->iteration),
                  LOG_R("sparsity", json_number_value(sparsity)));
    else
        log_event(c->kind == JOB_COMMIT_CHECKPOINT ? LOG_DEBUG : LOG_INFO, "job progress", LOG_S("job_id", r->lease->id),
                  LOG_S("published", job_commit_name[c->kind]));
}

/* A cancel that came before the result: the lease is held, but only "cancelled" may follow. */
static enum err_code record_result(struct run *r, const char *record, const struct blob *weights, struct err *e)
{
    struct lease *l = r->lease;
    enum err_code rc = lease_renew(l, e); /* the last progress: all done */

    if (rc == ERR_OK)
        rc = store_job_finish(l->store, l->id, l->token, clock_ms(), JOB_SUCCEEDED, record, weights, NULL, e);
    r->finished = rc == ERR_OK;
    return rc;
}

static enum err_code record_commit(struct run *r, const struct job_commit *c, const char *record, struct err *e)
{
    struct blob checkpoint, weights;
    const struct job_publish p = { .now_ms = clock_ms(), .iteration = c->iteration, .type = job_commit_name[c->kind], .record = record,
                                   .checkpoint = blob_of(&checkpoint, c->checkpoint), .weights = blob_of(&weights, c->weights) };

    if (c->kind == JOB_COMMIT_RESULT)
        return record_result(r, record, p.weights, e);
    return store_job_publish(r->lease->store, r->lease->id, r->lease->token, &p, e);
}

static enum err_code on_commit(void *user, const struct job_commit *c, struct err *e)
{
    struct run *r = user;
    char *record = NULL;
    enum err_code rc;

    if (lease_must_stop(r->lease) && atomic_load(&r->lease->lost))
        return err_set(e, ERR_STOPPED, "the lease is lost");
    if (c->record && !(record = json_text(c->record, JSON_COMPACT, NULL)))
        return err_set(e, ERR_NOMEM, "out of memory");
    rc = record_commit(r, c, record, e);
    mem_free(record);
    if (rc == ERR_OK) {
        if (c->checkpoint && atomic_load(&r->lease->pause))
            atomic_store(&r->lease->saved, true);
        r->n_unnamed = 0;
        log_commit(r, c);
    } else if (rc == ERR_CONFLICT) {
        atomic_store(c->kind == JOB_COMMIT_RESULT ? &r->lease->cancel : &r->lease->lost, true);
        rc = err_set(e, ERR_STOPPED, "stopped on request");
    }
    return rc;
}

/* ---- run ---- */

static enum err_code run_open(struct run *r, struct err *e)
{
    char checkpoint[4096];
    int threads = r->limits->threads;
    enum err_code rc;

    r->hooks = (struct job_hooks){ on_stop, on_progress, on_new_file, on_commit, r->limits->checkpoint_seconds, r };
    if (r->conf->threads > 0 && r->conf->threads < threads)
        threads = (int)r->conf->threads;
    blob_path(r->lease->store, r->job->checkpoint, checkpoint, sizeof checkpoint);
    rc = job_run(r->conf, &r->model, r->data, *r->job->checkpoint ? checkpoint : NULL, threads, &r->hooks, e);
    return rc == ERR_OK && !r->finished ? err_set(e, ERR_INTERNAL, "the job ended without a result") : rc;
}

enum err_code worker_run(struct lease *l, const struct job_row *j, const struct run_conf *c, struct err *e)
{
    struct run r = { .lease = l, .job = j, .limits = c };
    enum err_code rc = open_conf(&r, e);

    if (rc == ERR_OK)
        rc = open_model(&r, e);
    if (rc == ERR_OK)
        rc = open_data(&r, e);
    if (rc == ERR_OK)
        rc = check_memory(&r, e);
    if (rc == ERR_OK)
        rc = run_open(&r, e);
    for (int i = 0; i < r.n_unnamed; i++)
        blob_discard(l->store, r.unnamed[i]);
    dataset_free(r.data);
    model_clear(&r.model);
    mem_free(r.conf);
    return r.finished ? ERR_OK : rc;
}
