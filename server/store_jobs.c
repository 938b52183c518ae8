/* server/store_jobs.c: jobs as clients see them: post, read, cancel, delete; their iterations and events. What workers do stands in store_queue.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "server/store_impl.h"

/* ---- moves and events ---- */

void txn_events_clear(struct txn *t)
{
    for (struct txn_event *next; t->events; t->events = next) {
        next = t->events->next;
        mem_free(t->events);
    }
    t->last_event = &t->events;
}

/* Type and data stand behind the struct. */
static enum err_code remember_event(struct txn *t, const struct event_row *ev, struct err *e)
{
    size_t n_type = strlen(ev->type) + 1, n_data = strlen(ev->data) + 1;
    struct txn_event *copy = mem_zalloc(1, sizeof *copy + n_type + n_data);
    char *text = (char *)(copy + 1);

    if (!copy)
        return err_set(e, ERR_NOMEM, "out of memory");
    copy->row = *ev;
    copy->row.type = memcpy(text, ev->type, n_type);
    copy->row.data = memcpy(text + n_type, ev->data, n_data);
    *t->last_event = copy;
    t->last_event = &copy->next;
    return ERR_OK;
}

static enum err_code new_event_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct event_row *ev = user;

    (void)n_col;
    (void)e;
    ev->seq = col_int(&col[0]);
    col_copy(&col[1], ev->tenant, sizeof ev->tenant);
    return ERR_OK;
}

enum err_code job_event(struct txn *t, const char *job, int64_t now_ms, const char *type, const char *data, struct err *e)
{
    static const char next[] = "UPDATE counters SET value = value + 1 WHERE name = 'events' RETURNING value";
    static const char sql[] = "INSERT INTO events (job, seq, created_ms, type, data, position, tenant)"
                              " SELECT $1, COALESCE(MAX(seq), 0) + 1, $2, $3, $4, $5, (SELECT tenant FROM jobs WHERE id = $1)"
                              " FROM events WHERE job = $1 RETURNING seq, tenant";
    struct event_row ev = { .created_ms = now_ms, .type = type, .data = data };
    enum err_code rc = txn_query(t, next, NULL, 0, store_int_row, &ev.position, e);

    snprintf(ev.job, sizeof ev.job, "%s", job);
    if (rc == ERR_OK)
        rc = txn_query(t, sql, ARGS(DB_S(job), DB_I(now_ms), DB_S(type), DB_S(data), DB_I(ev.position)), new_event_row, &ev, e);
    return rc == ERR_OK ? remember_event(t, &ev, e) : rc;
}

static enum err_code state_event(struct txn *t, const struct job_move *m, struct err *e)
{
    size_t n = 64 + (m->json ? strlen(m->key) + strlen(m->json) : 0);
    char *data = mem_alloc(n);
    enum err_code rc;

    if (!data)
        return err_set(e, ERR_NOMEM, "out of memory");
    if (m->json)
        snprintf(data, n, "{\"state\":\"%s\",\"%s\":%s}", job_state_name(m->to), m->key, m->json);
    else
        snprintf(data, n, "{\"state\":\"%s\"}", job_state_name(m->to));
    rc = job_event(t, m->id, m->now_ms, "state", data, e);
    mem_free(data);
    return rc;
}

enum err_code job_move(struct txn *t, const struct job_move *m, struct err *e)
{
    static const char sql[] = "UPDATE jobs SET state = $3, pause_requested = 0, finished_ms = $4, error = $5,"
                              " checkpoint = CASE WHEN $4 IS NULL THEN checkpoint END,"
                              " lease_owner = CASE WHEN $3 = 'cancelling' THEN lease_owner END,"
                              " lease_until_ms = CASE WHEN $3 = 'cancelling' THEN lease_until_ms END"
                              " WHERE id = $1 AND state = $2";
    static const char checkpoint[] = "SELECT checkpoint FROM jobs WHERE id = $1";
    bool final = job_state_final(m->to);
    enum err_code rc = ERR_OK;

    if (!job_may_move(m->from, m->to))
        return err_set(e, ERR_CONFLICT, "the job is %s, it cannot become %s", job_state_name(m->from), job_state_name(m->to));
    if (final)
        rc = txn_query(t, checkpoint, ARGS(DB_S(m->id)), id_list_row, &t->gone, e);
    if (rc == ERR_OK)
        rc = txn_change(t, sql, ARGS(DB_S(m->id), DB_S(job_state_name(m->from)), DB_S(job_state_name(m->to)),
                                     final ? DB_I(m->now_ms) : DB_S(NULL), DB_S(m->error)),
                        ERR_CONFLICT, "the job changed its state meanwhile", e);
    if (rc == ERR_OK)
        rc = line_update(t, m->id, false, e);
    t->moved[m->to]++;
    return rc == ERR_OK ? state_event(t, m, e) : rc;
}

static enum err_code state_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)n_col;
    return job_state_parse(col[0].u.s, user) ? ERR_OK : err_set(e, ERR_INTERNAL, "unknown job state %.20s", col[0].u.s);
}

static enum err_code state_of(struct txn *t, const char *tenant, const char *id, enum job_state *out, struct err *e)
{
    enum err_code rc;

    *out = JOB_STATES;
    rc = txn_query(t, "SELECT state FROM jobs WHERE id = $1 AND tenant = $2", ARGS(DB_S(id), DB_S(tenant)), state_row, out, e);
    return rc == ERR_OK && *out == JOB_STATES ? err_set(e, ERR_NOT_FOUND, "no job %.40s", id) : rc;
}

/* ---- post ---- */

static enum err_code add(struct txn *t, void *arg, struct err *e)
{
    static const char model[] = "UPDATE models SET name = name WHERE id = $1 AND architecture = $2 AND tenant = $3";
    static const char dataset[] = "UPDATE datasets SET name = name WHERE id = $1 AND tenant = $2";
    static const char insert[] =
        "INSERT INTO jobs (id, name, model, dataset, state, priority, created_ms, attempt, crashes, lease_token, n_iterations,"
        " architecture, weights, conf, retry_of, tenant, tags) VALUES ($1, $2, $3, $4, 'queued', $5, $6, 0, 0, 0, 0, $7, $8, $9, $10, $11, $12)";
    const struct job_row *j = arg;
    enum err_code rc = txn_change(t, model, ARGS(DB_S(j->model), DB_S(j->architecture), DB_S(j->tenant)), ERR_INVALID, "no such model", e);

    if (rc == ERR_INVALID)
        return err_at(e, rc, "/model");
    if (rc == ERR_OK)
        rc = txn_change(t, dataset, ARGS(DB_S(j->dataset), DB_S(j->tenant)), ERR_INVALID, "no such data set", e);
    if (rc == ERR_INVALID)
        return err_at(e, rc, "/dataset");
    if (rc == ERR_OK)
        rc = limit_bytes(t, j->tenant, e);
    if (rc == ERR_OK)
        rc = limit_jobs(t, j->tenant, e);
    if (rc == ERR_OK)
        rc = txn_query(t, insert, ARGS(DB_S(j->id), DB_S(j->name), DB_S(j->model), DB_S(j->dataset), DB_I(j->priority), DB_I(j->created_ms),
                                       DB_S(j->architecture), DB_S(text_or_null(j->weights)), DB_S(j->conf), DB_S(text_or_null(j->retry_of)),
                                       DB_S(j->tenant), DB_S(j->tags)), NULL, NULL, e);
    if (rc == ERR_OK)
        rc = line_update(t, j->id, false, e);
    if (rc == ERR_OK)
        rc = answer_row_add(t, j->answer, j->tenant, e);
    t->moved[JOB_QUEUED]++;
    return rc == ERR_OK ? job_event(t, j->id, j->created_ms, "state", "{\"state\":\"queued\"}", e) : rc;
}

enum err_code store_job_add(struct store *s, const struct job_row *j, struct err *e)
{
    return store_write(s, add, (void *)(uintptr_t)j, e);
}

/* ---- read ---- */

#define JOB_COLUMNS \
    "SELECT id, name, model, dataset, state, priority, created_ms, started_ms, finished_ms, attempt, lease_token, n_iterations," \
    " architecture, weights, checkpoint, result_weights, conf, progress," \
    " (SELECT record FROM iterations WHERE job = jobs.id AND iteration = 0), result, error, pause_requested, retry_of, best_metric, tenant, tags FROM jobs"

static void read_job(void *row, const struct db_val *col)
{
    struct job_row *j = row;
    char **text[] = { &j->conf, &j->progress, &j->baseline, &j->result, &j->error };

    col_copy(&col[0], j->id, sizeof j->id);
    col_copy(&col[1], j->name, sizeof j->name);
    col_copy(&col[2], j->model, sizeof j->model);
    col_copy(&col[3], j->dataset, sizeof j->dataset);
    if (!job_state_parse(col[4].u.s, &j->state))
        j->state = JOB_FAILED; /* a CHECK of the table forbids it */
    j->priority = col_int(&col[5]);
    j->created_ms = col_int(&col[6]);
    j->started_ms = col_int(&col[7]);
    j->finished_ms = col_int(&col[8]);
    j->attempt = col_int(&col[9]);
    j->lease_token = col_int(&col[10]);
    j->n_iterations = col_int(&col[11]);
    col_copy(&col[12], j->architecture, sizeof j->architecture);
    col_copy(&col[13], j->weights, sizeof j->weights);
    col_copy(&col[14], j->checkpoint, sizeof j->checkpoint);
    col_copy(&col[15], j->result_weights, sizeof j->result_weights);
    j->pause_requested = col_int(&col[21]) != 0;
    col_copy(&col[22], j->retry_of, sizeof j->retry_of);
    col_copy(&col[24], j->tenant, sizeof j->tenant);
    j->best_metric = col[23].type == DB_REAL ? col[23].u.r : (double)NAN;
    col_copy(&col[25], j->tags, sizeof j->tags);
    for (int i = 0; i < 5; i++)
        *text[i] = (char *)(uintptr_t)col_text(&col[16 + i]);
}

enum err_code job_row_read(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct job_row *j = user;
    char **text[] = { &j->conf, &j->progress, &j->baseline, &j->result, &j->error };
    enum err_code rc = ERR_OK;

    (void)n_col;
    read_job(j, col);
    for (int i = 0; i < 5; i++)
        if (rc == ERR_OK)
            rc = own_text(text[i], e);
        else
            *text[i] = NULL;
    return rc;
}

const char job_select[] = JOB_COLUMNS " WHERE id = $1";

enum err_code store_job_get(struct store *s, const char *tenant, const char *id, struct job_row *out, struct err *e)
{
    struct job_row j = { 0 };
    enum err_code rc = store_read(s, JOB_COLUMNS " WHERE id = $1 AND tenant = $2", ARGS(DB_S(id), DB_S(tenant)), job_row_read, &j, e);

    if (rc == ERR_OK && !*j.id)
        rc = err_set(e, ERR_NOT_FOUND, "no job %.40s", id);
    if (rc == ERR_OK)
        *out = j;
    else
        job_row_clear(&j);
    return rc;
}

void job_row_clear(struct job_row *j)
{
    char *text[] = { j->conf, j->progress, j->baseline, j->result, j->error };

    for (int i = 0; i < 5; i++)
        mem_free(text[i]);
    *j = (struct job_row){ 0 };
}

enum err_code store_job_list(struct store *s, const struct page *p, store_row_fn *fn, void *user, bool *more, struct err *e)
{
    static const char all[] = JOB_COLUMNS " WHERE tenant = $3 AND id < $1 ORDER BY id DESC LIMIT $2";
    static const char some[] = JOB_COLUMNS " WHERE tenant = $3 AND state = $4 AND id < $1 ORDER BY id DESC LIMIT $2";
    const struct db_val arg[] = { DB_S(*p->after ? p->after : PAGE_LAST), DB_I(p->limit + 1), DB_S(p->tenant), DB_S(p->state) };
    struct job_row j = { 0 };
    struct lister l = { read_job, &j, fn, user, p->limit, more };

    *more = false;
    return store_read(s, p->state ? some : all, arg, p->state ? 4 : 3, lister_row, &l, e);
}

/* "%text%" for LIKE, in lower case, what it would take for a wildcard escaped. ERR_NOMEM */
static enum err_code pattern(char **out, const char *text, struct err *e)
{
    char *p = mem_alloc(2 * strlen(text) + 3);

    *out = p;
    if (!p)
        return err_set(e, ERR_NOMEM, "out of memory");
    *p++ = '%';
    for (; *text; text++) {
        if (*text == '%' || *text == '_' || *text == '\\')
            *p++ = '\\';
        *p++ = (char)(*text >= 'A' && *text <= 'Z' ? *text + 32 : *text);
    }
    *p++ = '%';
    *p = '\0';
    return ERR_OK;
}

/* The ids of the page are found first, so that only short keys are sorted, not whole jobs. */
#define JOB_PAGE(key, behind, order) \
    JOB_COLUMNS " WHERE id IN (SELECT id FROM jobs WHERE tenant = $8 AND ($1 IS NULL OR state = $1) AND ($2 IS NULL OR model = $2)" \
    " AND ($3 IS NULL OR dataset = $3) AND ($4 IS NULL OR lower(name) LIKE $4 ESCAPE '\\') AND ($9 IS NULL OR replace(tags, $9, '') <> tags)" \
    " AND ($5 IS NULL OR (" behind ")) ORDER BY " key " " order ", id " order " LIMIT $7) ORDER BY " key " " order ", id " order
#define JOB_PAGE_BY(key) { JOB_PAGE(key, "(" key ", id) < ($6, $5)", "DESC"), JOB_PAGE(key, "(" key ", id) > ($6, $5)", "ASC") }

enum err_code store_job_query(struct store *s, const struct job_query *q, store_row_fn *fn, void *user, bool *more, struct err *e)
{
    static const char *const sql[JOB_SORTS][2] = {
        [JOB_BY_CREATED] = { JOB_PAGE("id", "id < $5 AND $6 = $6", "DESC"), JOB_PAGE("id", "id > $5 AND $6 = $6", "ASC") },
        [JOB_BY_FINISHED] = JOB_PAGE_BY("COALESCE(finished_ms, 0)"),
        [JOB_BY_METRIC] = JOB_PAGE_BY("COALESCE(best_metric, -1e300)"),
    };
    struct job_row j = { 0 };
    struct lister l = { read_job, &j, fn, user, q->limit, more };
    char *name = NULL;
    enum err_code rc = q->name ? pattern(&name, q->name, e) : ERR_OK;

    *more = false;
    if (rc == ERR_OK)
        rc = store_read(s, sql[q->sort][q->up], ARGS(DB_S(q->state), DB_S(q->model), DB_S(q->dataset), DB_S(name), DB_S(text_or_null(q->after)),
                                                     DB_R(q->after_value), DB_I(q->limit + 1), DB_S(q->tenant), DB_S(q->tag)), lister_row, &l, e);
    mem_free(name);
    return rc;
}

static enum err_code count_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    enum job_state state;

    (void)n_col;
    (void)e;
    if (job_state_parse(col[0].u.s, &state))
        ((int64_t *)user)[state] = col_int(&col[1]);
    return ERR_OK;
}

enum err_code store_job_counts(struct store *s, int64_t count[JOB_STATES], struct err *e)
{
    memset(count, 0, JOB_STATES * sizeof *count);
    return store_read(s, "SELECT state, count(*) FROM jobs GROUP BY state", NULL, 0, count_row, count, e);
}

/* ---- cancel and delete ---- */

struct cancel { const char *tenant, *id; int64_t now_ms; enum job_state *now; };

static enum err_code cancel(struct txn *t, void *arg, struct err *e)
{
    const struct cancel *a = arg;
    struct job_move m = { .id = a->id, .to = JOB_CANCELLED, .now_ms = a->now_ms };
    enum err_code rc = state_of(t, a->tenant, a->id, &m.from, e);

    if (rc != ERR_OK)
        return rc;
    if (job_state_final(m.from))
        return err_set(e, ERR_CONFLICT, "the job is %s already", job_state_name(m.from));
    if (m.from == JOB_RUNNING || m.from == JOB_CANCELLING)
        m.to = JOB_CANCELLING;
    *a->now = m.to;
    return m.from == m.to ? ERR_OK : job_move(t, &m, e);
}

enum err_code store_job_cancel(struct store *s, const char *tenant, const char *id, int64_t now_ms, enum job_state *now, struct err *e)
{
    return store_write(s, cancel, &(struct cancel){ tenant, id, now_ms, now }, e);
}

/* ---- pause and resume ---- */

struct hold { const char *tenant, *id; bool pause; int64_t now_ms; enum job_state *now; };

static enum err_code hold(struct txn *t, void *arg, struct err *e)
{
    static const char ask[] = "UPDATE jobs SET pause_requested = $2 WHERE id = $1";
    const struct hold *a = arg;
    struct job_move m = { .id = a->id, .now_ms = a->now_ms };
    enum err_code rc = state_of(t, a->tenant, a->id, &m.from, e);

    if (rc != ERR_OK)
        return rc;
    *a->now = m.from;
    if (m.from == JOB_RUNNING)
        return txn_query(t, ask, ARGS(DB_S(a->id), DB_I(a->pause)), NULL, NULL, e);
    if (m.from != JOB_QUEUED && m.from != JOB_PAUSED)
        return err_set(e, ERR_CONFLICT, "the job is %s: it cannot be %s", job_state_name(m.from), a->pause ? "paused" : "resumed");
    m.to = *a->now = a->pause ? JOB_PAUSED : JOB_QUEUED;
    return m.from == m.to ? ERR_OK : job_move(t, &m, e);
}

enum err_code store_job_pause(struct store *s, const char *tenant, const char *id, int64_t now_ms, enum job_state *now, struct err *e)
{
    return store_write(s, hold, &(struct hold){ tenant, id, true, now_ms, now }, e);
}

enum err_code store_job_resume(struct store *s, const char *tenant, const char *id, int64_t now_ms, enum job_state *now, struct err *e)
{
    return store_write(s, hold, &(struct hold){ tenant, id, false, now_ms, now }, e);
}

static enum err_code delete_job(struct txn *t, void *arg, struct err *e)
{
    static const char own[] = "SELECT architecture, weights, checkpoint, result_weights FROM jobs WHERE id = $1";
    const struct named *a = arg;
    enum job_state state;
    enum err_code rc = state_of(t, a->tenant, a->id, &state, e);

    if (rc == ERR_OK && !job_state_final(state))
        return err_set(e, ERR_CONFLICT, "the job is %s; cancel it first", job_state_name(state));
    if (rc == ERR_OK)
        rc = txn_query(t, own, ARGS(DB_S(a->id)), id_list_row, &t->gone, e);
    if (rc == ERR_OK)
        rc = txn_query(t, "SELECT weights FROM iterations WHERE job = $1", ARGS(DB_S(a->id)), id_list_row, &t->gone, e);
    return rc == ERR_OK ? txn_query(t, "DELETE FROM jobs WHERE id = $1", ARGS(DB_S(a->id)), NULL, NULL, e) : rc;
}

enum err_code store_job_delete(struct store *s, const char *tenant, const char *id, struct err *e)
{
    return store_write(s, delete_job, &(struct named){ tenant, id }, e);
}

/* ---- iterations and events ---- */

static void read_iteration(void *row, const struct db_val *col)
{
    struct iteration_row *i = row;

    i->iteration = col_int(&col[0]);
    col_copy(&col[1], i->weights, sizeof i->weights);
    i->record = col_text(&col[2]);
}

enum err_code store_iterations(struct store *s, const char *job, int64_t after, int limit, store_row_fn *fn, void *user, bool *more,
                               struct err *e)
{
    static const char sql[] = "SELECT iteration, weights, record FROM iterations WHERE job = $1 AND iteration > $2 ORDER BY iteration LIMIT $3";
    struct iteration_row row = { 0 };
    struct lister l = { read_iteration, &row, fn, user, limit, more };

    *more = false;
    return store_read(s, sql, ARGS(DB_S(job), DB_I(after), DB_I(limit + 1)), lister_row, &l, e);
}

struct one_iteration { char *weights; json_t *record; };

static enum err_code iteration_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct one_iteration *one = user;

    (void)n_col;
    col_copy(&col[0], one->weights, ID_LEN);
    one->record = json_loads(col_text(&col[1]), 0, NULL);
    return one->record ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

enum err_code store_iteration_get(struct store *s, const char *job, int64_t n, char weights[ID_LEN], json_t **record, struct err *e)
{
    static const char sql[] = "SELECT weights, record FROM iterations WHERE job = $1 AND iteration = $2";
    struct one_iteration one = { weights, NULL };
    enum err_code rc = store_read(s, sql, ARGS(DB_S(job), DB_I(n)), iteration_row, &one, e);

    if (rc == ERR_OK && !one.record)
        rc = err_set(e, ERR_NOT_FOUND, "the job has no iteration %lld", (long long)n);
    if (rc == ERR_OK)
        *record = one.record;
    else
        json_decref(one.record);
    return rc;
}

#define EVENT_COLUMNS "SELECT job, seq, position, created_ms, type, data, tenant FROM events"

static void read_event(void *row, const struct db_val *col)
{
    struct event_row *ev = row;

    *ev = (struct event_row){ .seq = col_int(&col[1]), .position = col_int(&col[2]), .created_ms = col_int(&col[3]), .type = col_text(&col[4]),
                              .data = col_text(&col[5]) };
    col_copy(&col[0], ev->job, sizeof ev->job);
    col_copy(&col[6], ev->tenant, sizeof ev->tenant);
}

enum err_code store_events(struct store *s, const char *job, int64_t after, int limit, store_row_fn *fn, void *user, bool *more, struct err *e)
{
    static const char sql[] = EVENT_COLUMNS " WHERE job = $1 AND seq > $2 ORDER BY seq LIMIT $3";
    struct event_row row = { .seq = 0 };
    struct lister l = { read_event, &row, fn, user, limit, more };

    *more = false;
    return store_read(s, sql, ARGS(DB_S(job), DB_I(after), DB_I(limit + 1)), lister_row, &l, e);
}

enum err_code store_events_all(struct store *s, const char *tenant, int64_t after, int limit, store_row_fn *fn, void *user, bool *more,
                               struct err *e)
{
    static const char sql[] = EVENT_COLUMNS " WHERE tenant = $3 AND position > $1 ORDER BY position LIMIT $2";
    struct event_row row = { .seq = 0 };
    struct lister l = { read_event, &row, fn, user, limit, more };

    *more = false;
    return store_read(s, sql, ARGS(DB_I(after), DB_I(limit + 1), DB_S(tenant)), lister_row, &l, e);
}

enum err_code store_events_last(struct store *s, int64_t *position, struct err *e)
{
    *position = 0;
    return store_read(s, "SELECT value FROM counters WHERE name = 'events'", NULL, 0, store_int_row, position, e);
}
