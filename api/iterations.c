/* api/iterations.c: what a job published while it ran: iterations, of one job and of several. */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "core/mem.h"

static enum err_code check_job(struct job_row *row, struct app *app, const struct req *rq, struct err *e)
{
    enum err_code rc = api_id(rq, 0, "job", e);

    return rc == ERR_OK ? store_job_get(app->store, rq->tenant, rq->arg[0], row, e) : rc;
}

/* ---- as a table ---- */

struct rows { struct api_table table; int64_t last; const struct job_row *job; /* NULL: of one job; else a column */ };

/* What a curve needs: without layers and matrices. Takes record. */
static json_t *point(json_t *record, const struct job_row *job)
{
    static const char *const parts[] = { "pruned", "retrained" };
    json_t *p = record && job ? json_pack("{s:s}", "job", job->id) : NULL;

    if (!job)
        return record;
    json_object_del(record, "layers");
    for (int i = 0; i < 2; i++)
        json_object_del(json_object_get(record, parts[i]), "confusion");
    if (p && json_object_update(p, record) != 0) {
        json_decref(p);
        p = NULL;
    }
    json_decref(record);
    return p;
}

static enum err_code table_row(void *user, const void *row, struct err *e)
{
    const struct iteration_row *it = row;
    struct rows *r = user;

    r->last = it->iteration;
    return api_table_add(&r->table, point(api_stored(it->record), r->job), e);
}

/* Without a limit all of them. */
static enum err_code reply_table(struct app *app, const struct req *rq, enum api_format format, int64_t after, int64_t limit, struct reply *rp,
                                 struct err *e)
{
    struct rows r = { .last = after };
    bool more = true, all = !rq->query(rq, "limit");
    enum err_code rc = api_table_begin(&r.table, format, e);

    while (more && rc == ERR_OK) {
        rc = store_iterations(app->store, rq->arg[0], r.last, all ? API_MAX_LIMIT : (int)limit, table_row, &r, &more, e);
        more = more && all;
    }
    return api_table_end(&r.table, rc, rp, e);
}

/* ---- iterations ---- */

static enum err_code json_row(void *user, const void *row, struct err *e)
{
    return api_append(user, api_stored(((const struct iteration_row *)row)->record), e);
}

enum err_code api_job_iterations(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct job_row job = { .conf = NULL };
    json_t *data;
    int64_t after, limit;
    enum api_format format = API_JSON;
    bool more = false;
    enum err_code rc = api_numbered_page(rq, &after, &limit, e);

    if (rc == ERR_OK)
        rc = api_format(rq, &format, e);
    if (rc == ERR_OK)
        rc = check_job(&job, app, rq, e);
    job_row_clear(&job);
    if (rc != ERR_OK)
        return rc;
    if (format != API_JSON)
        return reply_table(app, rq, format, after, limit, rp, e);
    data = json_array();
    rc = store_iterations(app->store, rq->arg[0], after, (int)limit, json_row, data, &more, e);
    if (rc == ERR_OK)
        return api_reply(rp, 0, api_list(data, more), e);
    json_decref(data);
    return rc;
}

/* Iteration 0 is the baseline. */
enum err_code api_iteration_get(struct app *app, const struct req *rq, struct job_row *job, char weights[ID_LEN], json_t **record, struct err *e)
{
    const char *text = rq->arg[1];
    int64_t n = 0;
    enum err_code rc = check_job(job, app, rq, e);

    for (const char *p = text; rc == ERR_OK && *p; p++) {
        if (*p < '0' || *p > '9' || p - text > 8)
            rc = err_set(e, ERR_NOT_FOUND, "\"%.40s\" is no iteration", text);
        n = 10 * n + (*p - '0');
    }
    return rc == ERR_OK ? store_iteration_get(app->store, job->id, n, weights, record, e) : rc;
}

enum err_code api_job_iteration(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct job_row job = { .conf = NULL };
    char weights[ID_LEN] = "";
    json_t *record = NULL;
    enum err_code rc = api_iteration_get(app, rq, &job, weights, &record, e);

    job_row_clear(&job);
    return rc == ERR_OK ? api_reply_version(rp, record, e) : rc;
}

/* ---- the curves of several jobs ---- */

struct curve { json_t *list; int64_t last; const struct job_row *job; };

static enum err_code curve_row(void *user, const void *row, struct err *e)
{
    const struct iteration_row *it = row;
    struct curve *c = user;
    json_t *p = point(api_stored(it->record), c->job);

    c->last = it->iteration;
    json_object_del(p, "job"); /* the curve says so */
    return api_append(c->list, p, e);
}

static enum err_code add_curve(json_t *data, struct store *s, const struct job_row *job, struct err *e)
{
    struct curve c = { json_array(), 0, job };
    json_t *o = json_pack("{s:s,s:s,s:s,s:s,s:o}", "job", job->id, "object", "curve", "name", job->name, "state", job_state_name(job->state),
                          "data", c.list);
    bool more = true;
    enum err_code rc = api_append(data, o, e);

    while (more && rc == ERR_OK)
        rc = store_iterations(s, job->id, c.last, API_MAX_LIMIT, curve_row, &c, &more, e);
    return rc;
}

static enum err_code add_rows(struct rows *r, struct store *s, const struct job_row *job, struct err *e)
{
    bool more = true;
    enum err_code rc = ERR_OK;

    r->job = job;
    r->last = 0;
    while (more && rc == ERR_OK)
        rc = store_iterations(s, job->id, r->last, API_MAX_LIMIT, table_row, r, &more, e);
    return rc;
}

/* The next id of a list with commas; NULL: it has ended. ERR_INVALID, at "?jobs". */
static enum err_code next_id(const char **list, char id[ID_LEN], struct err *e)
{
    size_t n = strcspn(*list, ",");

    snprintf(id, ID_LEN, "%.*s", n < ID_LEN ? (int)n : 0, *list);
    *list += n + ((*list)[n] == ',');
    return id_valid(id, "job") ? ERR_OK : err_field(e, ERR_INVALID, "?jobs", "jobs must be ids of jobs, with commas between them");
}

enum err_code api_curves(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    const char *list = rq->query(rq, "jobs");
    struct rows rows = { .last = 0 };
    enum api_format format = API_JSON;
    json_t *data = json_array();
    enum err_code rc = list && *list ? api_format(rq, &format, e) : err_field(e, ERR_INVALID, "?jobs", "is required: at most %d ids", API_MAX_CURVES);

    if (rc == ERR_OK)
        rc = api_table_begin(&rows.table, format, e);
    for (int n = 0; rc == ERR_OK && *list; n++) {
        struct job_row job = { .conf = NULL };
        char id[ID_LEN];

        rc = n < API_MAX_CURVES ? next_id(&list, id, e) : err_field(e, ERR_INVALID, "?jobs", "more than %d jobs", API_MAX_CURVES);
        if (rc == ERR_OK)
            rc = store_job_get(app->store, rq->tenant, id, &job, e);
        if (rc == ERR_OK)
            rc = format == API_JSON ? add_curve(data, app->store, &job, e) : add_rows(&rows, app->store, &job, e);
        job_row_clear(&job);
    }
    if (format != API_JSON) {
        json_decref(data);
        return api_table_end(&rows.table, rc, rp, e);
    }
    json_decref(rows.table.records);
    mem_free(rows.table.text.s);
    if (rc == ERR_OK)
        return api_reply(rp, 0, api_list(data, false), e);
    json_decref(data);
    return rc;
}
