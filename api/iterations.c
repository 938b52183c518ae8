/* api/iterations.c: what a job published while it ran: iterations as JSON and CSV, the model as of an iteration. */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "core/mem.h"

static enum err_code check_job(struct job_row *row, struct app *app, const struct req *rq, struct err *e)
{
    enum err_code rc = api_id(rq, 0, "job", e);

    return rc == ERR_OK ? store_job_get(app->store, rq->arg[0], row, e) : rc;
}

/* ---- CSV: a record's numbers, objects within it as prefix_name, in the order of the first record; lists are left out ---- */

struct csv { struct api_text text; json_t *columns; /* of the first record: the flat names */ int64_t last; int n; };

static void csv_value(struct api_text *t, const json_t *v)
{
    if (json_is_integer(v))
        api_text_add(t, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        api_text_add(t, "%.15g", json_real_value(v));
    else if (json_is_boolean(v))
        api_text_add(t, "%s", json_is_true(v) ? "true" : "false");
    else if (json_is_string(v)) {
        api_text_add(t, "\"");
        for (const char *s = json_string_value(v); *s; s++)
            api_text_add(t, *s == '"' ? "\"%c" : "%c", *s);
        api_text_add(t, "\"");
    }
}

/* columns gets [key, inner key or ""] of every column. */
static enum err_code csv_columns(json_t *columns, const json_t *record, struct err *e)
{
    const char *key, *inner;
    json_t *v, *w;
    enum err_code rc = ERR_OK;

    json_object_foreach((json_t *)(uintptr_t)record, key, v)
    {
        if (json_is_object(v)) {
            json_object_foreach(v, inner, w)
            {
                if (rc == ERR_OK && !json_is_object(w) && !json_is_array(w))
                    rc = api_append(columns, json_pack("[ss]", key, inner), e);
            }
        } else if (rc == ERR_OK && !json_is_array(v)) {
            rc = api_append(columns, json_pack("[ss]", key, ""), e);
        }
    }
    return rc;
}

static void csv_line(struct csv *c, const json_t *record)
{
    for (size_t i = 0; i < json_array_size(c->columns); i++) {
        const json_t *name = json_array_get(c->columns, i);
        const char *key = json_string_value(json_array_get(name, 0)), *inner = json_string_value(json_array_get(name, 1));

        if (i > 0)
            api_text_add(&c->text, ",");
        if (!record)
            api_text_add(&c->text, *inner ? "%s_%s" : "%s%s", key, inner);
        else
            csv_value(&c->text, *inner ? json_object_get(json_object_get(record, key), inner) : json_object_get(record, key));
    }
    api_text_add(&c->text, "\n");
}

static enum err_code csv_row(void *user, const void *row, struct err *e)
{
    const struct iteration_row *it = row;
    struct csv *c = user;
    json_t *record = api_stored(it->record);
    enum err_code rc = record ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK && c->n++ == 0) {
        rc = csv_columns(c->columns, record, e);
        csv_line(c, NULL);
    }
    if (rc == ERR_OK)
        csv_line(c, record);
    c->last = it->iteration;
    json_decref(record);
    return rc;
}

/* Without a limit all of them. */
static enum err_code reply_csv(struct app *app, const struct req *rq, int64_t after, int64_t limit, struct reply *rp, struct err *e)
{
    struct csv c = { .columns = json_array(), .last = after };
    bool more = true, all = !rq->query(rq, "limit");
    enum err_code rc = c.columns ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    api_text_add(&c.text, "%s", "");
    while (more && rc == ERR_OK) {
        rc = store_iterations(app->store, rq->arg[0], c.last, all ? API_MAX_LIMIT : (int)limit, csv_row, &c, &more, e);
        more = more && all;
    }
    json_decref(c.columns);
    if (rc == ERR_OK)
        return api_reply_text(rp, &c.text, "text/csv; charset=utf-8", e);
    mem_free(c.text.s);
    return rc;
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
    bool more = false, csv = false;
    enum err_code rc = api_numbered_page(rq, &after, &limit, e);

    if (rc == ERR_OK)
        rc = api_wants_csv(rq, &csv, e);
    if (rc == ERR_OK)
        rc = check_job(&job, app, rq, e);
    job_row_clear(&job);
    if (rc != ERR_OK)
        return rc;
    if (csv)
        return reply_csv(app, rq, after, limit, rp, e);
    data = json_array();
    rc = store_iterations(app->store, rq->arg[0], after, (int)limit, json_row, data, &more, e);
    if (rc == ERR_OK)
        return api_reply(rp, 0, api_list(data, more), e);
    json_decref(data);
    return rc;
}

/* Iteration 0 is the baseline. */
static enum err_code get(struct app *app, const struct req *rq, struct job_row *job, char weights[ID_LEN], json_t **record, struct err *e)
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
    enum err_code rc = get(app, rq, &job, weights, &record, e);

    job_row_clear(&job);
    return rc == ERR_OK ? api_reply(rp, 0, record, e) : rc;
}

enum err_code api_job_iteration_model(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct job_row job = { .conf = NULL };
    char weights[ID_LEN] = "", name[60];
    json_t *record = NULL;
    enum err_code rc = get(app, rq, &job, weights, &record, e);

    json_decref(record);
    if (rc == ERR_OK) {
        snprintf(name, sizeof name, "%s-%.8s", job.id, rq->arg[1]);
        rc = api_model_send(app, rq, rp, job.architecture, weights, name, e);
    }
    job_row_clear(&job);
    return rc;
}
