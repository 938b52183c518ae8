/* api/jobs.c: jobs. All that can be said about a job is said when it is posted: the same files are opened as when it runs, and what a job will use
 * is what they were then. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "core/job.h"
#include "core/jsonguard.h"
#include "core/mem.h"
#include "server/log.h"

/* ---- create ---- */

/* All that posting a job opens. */
struct posting {
    json_t *body; /* without its tags */
    char tags[TAGS_LEN];
    struct job_conf conf;
    struct model_row model_row;
    struct dataset_row dataset_row;
    struct model model;
    struct dataset *dataset;
    struct data_conf data_conf;
};

static void posting_free(struct posting *p)
{
    if (!p)
        return;
    json_decref(p->body);
    model_row_clear(&p->model_row);
    dataset_row_clear(&p->dataset_row);
    model_clear(&p->model);
    dataset_free(p->dataset);
    mem_free(p);
}

/* What the job names but is not there is a fault of that field. */
static enum err_code missing(enum err_code rc, const char *at, const char *what, const char *id, struct err *e)
{
    return rc == ERR_NOT_FOUND ? err_field(e, ERR_INVALID, at, "there is no %s \"%.40s\"", what, id) : rc;
}

/* Whether the model came trained decides defaults, so it is looked up before the job is parsed. */
static enum err_code parse(struct posting *p, struct store *s, const char *tenant, const json_t *body, struct err *e)
{
    const char *id = json_string_value(json_object_get(body, "model"));
    enum err_code rc = ERR_OK;

    if (id)
        rc = missing(id_valid(id, "mdl") ? store_model_get(s, tenant, id, &p->model_row, e) : ERR_NOT_FOUND, "/model", "model", id, e);
    if (rc == ERR_OK)
        rc = job_conf_parse(&p->conf, body, *p->model_row.weights.id != '\0', e);
    if (rc == ERR_OK && !id)
        rc = err_field(e, ERR_INVALID, "/model", "is required");
    if (rc != ERR_OK)
        return rc;
    id = p->conf.dataset;
    return missing(id_valid(id, "dst") ? store_dataset_get(s, tenant, id, &p->dataset_row, e) : ERR_NOT_FOUND, "/dataset", "data set", id, e);
}

/* A data set that is not ready is the job's conflict, not its client's typing error. */
static enum err_code open_dataset(struct posting *p, struct store *s, struct err *e)
{
    struct err why = { 0 };
    enum err_code rc = api_dataset_open(&p->dataset, &p->data_conf, s, &p->dataset_row, &why);

    if (rc == ERR_INVALID || rc == ERR_UNSUPPORTED)
        return err_field(e, ERR_CONFLICT, "/dataset", "the data set is not ready: %.80s: %.200s", why.at, why.msg);
    if (rc != ERR_OK)
        *e = why;
    return rc;
}

static enum err_code check_memory(const struct posting *p, const struct app *app, struct err *e)
{
    uint64_t need = job_memory(&p->conf, p->model.net, p->dataset);

    if (app->memory_per_job == 0 || need <= app->memory_per_job)
        return ERR_OK;
    return err_set(e, ERR_INVALID, "the job needs about %llu MB of memory, and this server gives a job %llu MB",
                   (unsigned long long)(need >> 20), (unsigned long long)(app->memory_per_job >> 20));
}

static enum err_code fill_row(struct job_row *row, const struct posting *p, struct err *e)
{
    json_t *resolved = job_conf_dump(&p->conf);
    enum err_code rc = api_dump(&row->conf, resolved, e);

    json_decref(resolved);
    id_new(row->id, "job");
    snprintf(row->name, sizeof row->name, "%s", p->conf.name);
    memcpy(row->tenant, p->model_row.tenant, sizeof row->tenant);
    memcpy(row->model, p->model_row.id, sizeof row->model);
    memcpy(row->dataset, p->dataset_row.id, sizeof row->dataset);
    memcpy(row->architecture, p->model_row.architecture.id, sizeof row->architecture);
    memcpy(row->weights, p->model_row.weights.id, sizeof row->weights);
    memcpy(row->tags, p->tags, sizeof row->tags);
    row->priority = p->conf.priority;
    row->created_ms = clock_ms();
    row->state = JOB_QUEUED;
    return rc;
}

static enum err_code check(struct posting *p, struct app *app, const struct req *rq, struct err *e)
{
    enum err_code rc = api_untag(&p->body, p->tags, rq->body, e);

    if (rc == ERR_OK)
        rc = parse(p, app->store, rq->tenant, p->body, e);
    if (rc == ERR_OK)
        rc = open_dataset(p, app->store, e);
    if (rc == ERR_OK)
        rc = missing(api_model_open(&p->model, app->store, p->model_row.architecture.id, p->model_row.weights.id, e), "/model", "model",
                     p->model_row.id, e);
    if (rc == ERR_OK)
        rc = job_check(&p->conf, p->model.net, p->dataset, e);
    return rc == ERR_OK ? check_memory(p, app, e) : rc;
}

/* ---- dry run ---- */

static enum err_code plan_iterations(json_t *list, const struct pruner *p, const struct posting *posting, struct err *e)
{
    enum err_code rc = list ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    for (int64_t i = 1; i <= posting->conf.prune.iterations && rc == ERR_OK; i++)
        rc = api_append(list, pruner_plan(p, posting->model.net, i), e);
    return rc;
}

/* What the job would do, as far as that can be said before it is done; nothing is stored. */
static enum err_code reply_plan(struct app *app, const struct posting *p, struct reply *rp, struct err *e)
{
    struct pruner *pruner = NULL;
    json_t *iterations = json_array();
    double seconds = 0;
    enum err_code rc = pruner_new(&pruner, &p->conf.prune, p->model.net, (uint64_t)p->conf.seed, e);

    if (rc == ERR_OK)
        rc = plan_iterations(iterations, pruner, p, e);
    if (rc == ERR_OK)
        rc = api_estimate(&seconds, &p->conf, p->model.net, p->dataset, iterations, e);
    if (rc == ERR_OK)
        rc = api_reply(rp, 200, json_pack("{s:s,s:o,s:o,s:O,s:{s:f,s:i},s:{s:I,s:o}}", "object", "plan", "config", job_conf_dump(&p->conf), "layers",
                                          pruner_describe_layers(pruner, p->model.net), "iterations", iterations, "seconds", "estimate", seconds, "threads", 1, "memory", "needed_bytes",
                                          (json_int_t)job_memory(&p->conf, p->model.net, p->dataset), "limit_bytes",
                                          app->memory_per_job ? json_integer((json_int_t)app->memory_per_job) : json_null()), e);
    json_decref(iterations);
    pruner_free(pruner);
    return rc;
}

static enum err_code wants_dry_run(const struct req *rq, bool *dry, struct err *e)
{
    const char *v = rq->query(rq, "dry_run");

    *dry = v && strcmp(v, "true") == 0;
    return !v || *dry || strcmp(v, "false") == 0 ? ERR_OK : err_field(e, ERR_INVALID, "?dry_run", "dry_run must be true or false");
}

/* Stores a new job, with the answer to this request if it has a key. */
static enum err_code add_job(struct app *app, const struct req *rq, struct job_row *row, struct reply *rp, struct err *e)
{
    struct api_answer answer = { .body = NULL };
    json_t *j = api_job_json(row, false);
    char location[80];
    enum err_code rc;

    snprintf(location, sizeof location, "/v1/jobs/%s", row->id);
    rc = api_answer_make(&answer, rq, location, j, e);
    row->answer = api_answer_row(&answer);
    if (rc == ERR_OK)
        rc = store_job_add(app->store, row, e);
    row->answer = NULL;
    api_answer_clear(&answer);
    if (rc != ERR_OK) {
        json_decref(j);
        return rc;
    }
    if (app->workers)
        workers_wake(app->workers);
    return api_created(rp, location, j, e);
}

static enum err_code create(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct posting *p = mem_zalloc(1, sizeof *p);
    struct job_row row = { .best_metric = NAN };
    bool dry = false;
    enum err_code rc = p ? wants_dry_run(rq, &dry, e) : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK)
        rc = check(p, app, rq, e);
    if (rc == ERR_OK && dry)
        rc = reply_plan(app, p, rp, e);
    else if (rc == ERR_OK)
        rc = fill_row(&row, p, e);
    posting_free(p);
    if (rc == ERR_OK && !dry)
        rc = add_job(app, rq, &row, rp, e);
    job_row_clear(&row);
    return rc;
}

enum err_code api_job_create(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return api_once(create, app, rq, rp, e);
}

/* ---- read, cancel, delete ---- */

static enum err_code get(struct job_row *row, struct app *app, const struct req *rq, struct err *e)
{
    enum err_code rc = api_id(rq, 0, "job", e);

    return rc == ERR_OK ? store_job_get(app->store, rq->tenant, rq->arg[0], row, e) : rc;
}

/* ---- lists ---- */

struct listing {
    struct job_query query;
    enum api_format format;
    json_t *data;
    struct api_table table;
    char next[80]; /* cursor behind the last job seen */
    char tag[TAG_LEN + 2];
};

/* The cursor of a page sorted by creation is the last job's id, of others "<value>,<id>". */
static void set_cursor(struct listing *l, const struct job_row *j)
{
    const double value[JOB_SORTS] = { [JOB_BY_FINISHED] = (double)j->finished_ms,
                                      [JOB_BY_METRIC] = isnan(j->best_metric) ? JOB_NO_METRIC : j->best_metric };

    char *plus;

    if (l->query.sort == JOB_BY_CREATED)
        snprintf(l->next, sizeof l->next, "%s", j->id);
    else
        snprintf(l->next, sizeof l->next, "%.17g,%s", value[l->query.sort], j->id);
    plus = strchr(l->next, '+'); /* of 1e+20: means a blank in a query, and nothing in a number */
    if (plus)
        memmove(plus, plus + 1, strlen(plus));
}

static enum err_code list_row(void *user, const void *row, struct err *e)
{
    struct listing *l = user;

    set_cursor(l, row);
    if (l->format == API_JSON)
        return api_append(l->data, api_job_json(row, true), e);
    return api_table_add(&l->table, l->format == API_CSV ? api_job_flat(row) : api_job_json(row, true), e);
}

static enum err_code parse_sort(struct job_query *q, const char *sort, struct err *e)
{
    static const char *const names[JOB_SORTS] = { "created", "finished", "metric" };

    q->up = sort && *sort != '-';
    sort = sort ? sort + (*sort == '-') : names[0];
    for (int i = 0; i < JOB_SORTS; i++)
        if (strcmp(sort, names[i]) == 0) {
            q->sort = (enum job_sort)i;
            return ERR_OK;
        }
    return err_field(e, ERR_INVALID, "?sort", "sort must be created, finished or metric, with - before it for the largest first");
}

static enum err_code parse_cursor(struct job_query *q, const char *after, struct err *e)
{
    const char *id = after;
    char *end = NULL;

    if (after && q->sort != JOB_BY_CREATED) {
        q->after_value = strtod(after, &end);
        id = end > after && *end == ',' && isfinite(q->after_value) ? end + 1 : "";
    }
    if (after && !id_valid(id, "job"))
        return err_field(e, ERR_INVALID, "?after", "after must be what the page before said as next, in the same order");
    snprintf(q->after, sizeof q->after, "%s", after ? id : "");
    return ERR_OK;
}

static enum err_code parse_query(struct listing *l, const struct req *rq, struct err *e)
{
    struct job_query *q = &l->query;
    enum job_state state;
    int64_t limit;
    enum err_code rc = api_query_int(rq, "limit", 1, API_MAX_LIMIT, API_DEFAULT_LIMIT, &limit, e);

    if (rc != ERR_OK)
        return rc;
    *q = (struct job_query){ .tenant = rq->tenant, .state = rq->query(rq, "state"), .name = rq->query(rq, "name"), .model = rq->query(rq, "model"),
                             .dataset = rq->query(rq, "dataset"), .limit = (int)limit };
    if (q->state && !job_state_parse(q->state, &state))
        return err_field(e, ERR_INVALID, "?state", "state must be one of queued, running, paused, cancelling, succeeded, failed, cancelled");
    rc = api_tag_query(l->tag, &q->tag, rq, e);
    if (rc == ERR_OK)
        rc = parse_sort(q, rq->query(rq, "sort"), e);
    if (rc == ERR_OK)
        rc = parse_cursor(q, rq->query(rq, "after"), e);
    return rc == ERR_OK ? api_format(rq, &l->format, e) : rc;
}

/* The common list, newest first, has an index for each state; others are looked for. */
static enum err_code run_query(struct store *s, struct listing *l, bool *more, struct err *e)
{
    const struct job_query *q = &l->query;
    struct page page = { .tenant = q->tenant, .limit = q->limit, .state = q->state };

    memcpy(page.after, q->after, sizeof page.after);
    if (q->sort == JOB_BY_CREATED && !q->up && !q->name && !q->model && !q->dataset && !q->tag)
        return store_job_list(s, &page, list_row, l, more, e);
    return store_job_query(s, q, list_row, l, more, e);
}

enum err_code api_job_list(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct listing l = { .format = API_JSON };
    json_t *list;
    bool more = false;
    enum err_code rc = parse_query(&l, rq, e);

    if (rc != ERR_OK)
        return rc;
    if (l.format != API_JSON) {
        rc = api_table_begin(&l.table, l.format, e);
        if (rc == ERR_OK)
            rc = run_query(app->store, &l, &more, e);
        return api_table_end(&l.table, rc, rp, e);
    }
    l.data = json_array();
    rc = run_query(app->store, &l, &more, e);
    if (rc != ERR_OK) {
        json_decref(l.data);
        return rc;
    }
    list = api_list(l.data, more);
    if (list && json_object_set_new(list, "next", more ? json_string(l.next) : json_null()) != 0) {
        json_decref(list);
        list = NULL;
    }
    return api_reply(rp, 0, list, e);
}

/* ---- one job ---- */

/* A request that waits for a job to change: what the client has seen, until when. */
struct waiting {
    struct source source; /* first; only waited for */
    struct hub_sub *sub;
    struct quota *quota;
    char tenant[TENANT_LEN];
    int64_t until_ms;
    char seen[64];        /* "<state>-<iterations>-" */
};

static void waiting_free(struct source *s)
{
    struct waiting *w = (struct waiting *)(void *)s;

    hub_unsubscribe(w->sub);
    quota_stream_close(w->quota, w->tenant);
    mem_free(w);
}

/* Subscribes before the job is read, so that no change is missed in between. */
static enum err_code wait_begin(struct app *app, const struct req *rq, int64_t seconds, struct reply *rp, struct err *e)
{
    struct waiting *w = mem_zalloc(1, sizeof *w);
    const char *seen = rq->header(rq, "If-None-Match");
    enum err_code rc = w ? quota_stream_open(app->quota, rq->tenant, e) : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK) {
        rc = hub_subscribe(&w->sub, app->hub, rq->tenant, rq->arg[0], HUB_STORED, rq->waker, e);
        if (rc != ERR_OK)
            quota_stream_close(app->quota, rq->tenant);
    }
    if (rc != ERR_OK) {
        mem_free(w);
        return rc;
    }
    w->source.free = waiting_free;
    w->quota = app->quota;
    memcpy(w->tenant, rq->tenant, sizeof w->tenant);
    w->until_ms = clock_mono_ms() + seconds * 1000;
    if (seen && *seen == '"')
        snprintf(w->seen, sizeof w->seen, "%s", seen + 1);
    rp->source = &w->source;
    return ERR_OK;
}

/* Is the job still as the client has seen it, and time left? */
static bool wait_on(const struct req *rq, const struct job_row *j, struct reply *rp)
{
    struct waiting *w = (struct waiting *)(void *)rp->source;
    char now[64];

    snprintf(now, sizeof now, "%s-%lld-", job_state_name(j->state), (long long)j->n_iterations);
    if (!*w->seen)
        snprintf(w->seen, sizeof w->seen, "%s", now);
    if (rq->last_call || job_state_final(j->state) || strncmp(w->seen, now, strlen(now)) != 0 || clock_mono_ms() >= w->until_ms)
        return false;
    rp->ask_again_ms = w->until_ms;
    return true;
}

static enum err_code show(struct app *app, const struct job_row *j, struct reply *rp, struct err *e)
{
    struct api_text text = { 0 };
    int64_t position = 0;
    enum err_code rc = store_job_position(app->store, j, &position, e);

    if (rc != ERR_OK)
        return rc;
    api_job_etag(j, position, rp->etag, sizeof rp->etag);
    api_job_text(&text, j, position);
    return api_reply_text(rp, &text, "application/json", e);
}

enum err_code api_job_get(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct job_row row = { .conf = NULL };
    int64_t seconds;
    enum err_code rc = api_query_int(rq, "wait", 0, API_MAX_WAIT, 0, &seconds, e);

    if (rc == ERR_OK && seconds > 0 && app->hub && !rp->source)
        rc = wait_begin(app, rq, seconds, rp, e);
    if (rc == ERR_OK)
        rc = get(&row, app, rq, e);
    if (rc == ERR_OK && !(rp->source && wait_on(rq, &row, rp)))
        rc = show(app, &row, rp, e);
    job_row_clear(&row);
    return rc;
}

static enum err_code reply_job(struct app *app, const struct req *rq, const char *id, int status, struct reply *rp, struct err *e)
{
    struct job_row row = { .conf = NULL };
    enum err_code rc = store_job_get(app->store, rq->tenant, id, &row, e);

    if (rc == ERR_OK)
        rc = api_reply(rp, status, api_job_json(&row, false), e);
    job_row_clear(&row);
    return rc;
}

/* 200: it is cancelled; 202: it will be as soon as its worker has seen it. */
enum err_code api_job_cancel(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    enum job_state now = JOB_QUEUED;
    enum err_code rc = api_id(rq, 0, "job", e);

    if (rc == ERR_OK)
        rc = store_job_cancel(app->store, rq->tenant, rq->arg[0], clock_ms(), &now, e);
    if (rc != ERR_OK)
        return rc;
    if (app->workers)
        workers_cancel(app->workers, rq->arg[0]);
    return reply_job(app, rq, rq->arg[0], job_state_final(now) ? 200 : 202, rp, e);
}

/* 200: it is paused; 202: it will be, as soon as its worker has written a checkpoint. */
enum err_code api_job_pause(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    enum job_state now = JOB_QUEUED;
    enum err_code rc = api_id(rq, 0, "job", e);

    if (rc == ERR_OK)
        rc = store_job_pause(app->store, rq->tenant, rq->arg[0], clock_ms(), &now, e);
    if (rc == ERR_OK && app->workers)
        workers_pause(app->workers, rq->arg[0]);
    return rc == ERR_OK ? reply_job(app, rq, rq->arg[0], now == JOB_RUNNING ? 202 : 200, rp, e) : rc;
}

enum err_code api_job_resume(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    enum job_state now = JOB_QUEUED;
    enum err_code rc = api_id(rq, 0, "job", e);

    if (rc == ERR_OK)
        rc = store_job_resume(app->store, rq->tenant, rq->arg[0], clock_ms(), &now, e);
    if (rc == ERR_OK && app->workers)
        workers_wake(app->workers);
    return rc == ERR_OK ? reply_job(app, rq, rq->arg[0], 200, rp, e) : rc;
}

static enum err_code get_version(struct job_row *row, char *etag, size_t n, struct app *app, const struct req *rq, struct err *e)
{
    int64_t position = 0;
    enum err_code rc = get(row, app, rq, e);

    if (rc == ERR_OK)
        rc = store_job_position(app->store, row, &position, e);
    if (rc == ERR_OK)
        api_job_etag(row, position, etag, n);
    return rc;
}

enum err_code api_job_patch(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct job_row row = { .conf = NULL };
    char etag[sizeof rp->etag], tags[TAGS_LEN];
    enum err_code rc = get_version(&row, etag, sizeof etag, app, rq, e);

    if (rc == ERR_OK)
        rc = api_patch_tags(app, rq, TAGGED_JOB, etag, row.tags, tags, e);
    if (rc == ERR_OK) {
        memcpy(row.tags, tags, sizeof row.tags);
        rc = show(app, &row, rp, e);
    }
    job_row_clear(&row);
    return rc;
}

enum err_code api_job_delete(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct job_row row = { .conf = NULL };
    char etag[sizeof rp->etag];
    bool guarded = rq->header(rq, "If-Match") != NULL;
    enum err_code rc = guarded ? get_version(&row, etag, sizeof etag, app, rq, e) : api_id(rq, 0, "job", e);

    rp->status = 204;
    job_row_clear(&row);
    if (rc == ERR_OK && guarded)
        rc = api_if_match(rq, etag, e);
    return rc == ERR_OK ? store_job_delete(app->store, rq->tenant, rq->arg[0], e) : rc;
}

/* The same job once more: configuration, model and data set as they were; another attempt at what failed, or at what was cancelled after all. */
static enum err_code renew(struct job_row *again, struct job_row *old, struct err *e)
{
    if (old->state != JOB_FAILED && old->state != JOB_CANCELLED)
        return err_set(e, ERR_CONFLICT, "the job is %s: only failed and cancelled ones can be retried", job_state_name(old->state));
    *again = (struct job_row){ .state = JOB_QUEUED, .priority = old->priority, .created_ms = clock_ms(), .best_metric = NAN, .conf = old->conf };
    old->conf = NULL;
    id_new(again->id, "job");
    memcpy(again->retry_of, old->id, sizeof again->retry_of);
    memcpy(again->tenant, old->tenant, sizeof again->tenant);
    memcpy(again->name, old->name, sizeof again->name);
    memcpy(again->tags, old->tags, sizeof again->tags);
    memcpy(again->model, old->model, sizeof again->model);
    memcpy(again->dataset, old->dataset, sizeof again->dataset);
    memcpy(again->architecture, old->architecture, sizeof again->architecture);
    memcpy(again->weights, old->weights, sizeof again->weights);
    return ERR_OK;
}

static enum err_code retry(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct job_row old = { .conf = NULL }, again = { .conf = NULL };
    enum err_code rc = get(&old, app, rq, e);

    if (rc == ERR_OK)
        rc = renew(&again, &old, e);
    if (rc == ERR_OK)
        rc = add_job(app, rq, &again, rp, e);
    job_row_clear(&old);
    job_row_clear(&again);
    return rc;
}

enum err_code api_job_retry(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return api_once(retry, app, rq, rp, e);
}
