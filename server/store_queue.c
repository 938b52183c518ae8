/* server/store_queue.c: the queue: what workers do with jobs. Each function first looks the lease up (id, token, a state in which a worker holds
 * it) in its own transaction; when it is lost, ERR_CONFLICT, and nothing was written. */
#include <stdio.h>
#include <string.h>

#include "server/store_impl.h"

struct lease { enum job_state state; char tenant[TENANT_LEN]; };

static enum err_code lease_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct lease *l = user;

    (void)n_col;
    col_copy(&col[1], l->tenant, sizeof l->tenant);
    return job_state_parse(col[0].u.s, &l->state) ? ERR_OK : err_set(e, ERR_INTERNAL, "unknown job state %.20s", col[0].u.s);
}

/* Whose job it is and its state, JOB_RUNNING or JOB_CANCELLING, if the lease is still held. */
static enum err_code lease_state(struct txn *t, const char *id, int64_t token, struct lease *out, struct err *e)
{
    static const char sql[] = "SELECT state, tenant FROM jobs WHERE id = $1 AND lease_token = $2 AND state IN ('running', 'cancelling')";
    enum err_code rc;

    *out = (struct lease){ .state = JOB_STATES };
    rc = txn_query(t, sql, ARGS(DB_S(id), DB_I(token)), lease_row, out, e);
    return rc == ERR_OK && out->state == JOB_STATES ? err_set(e, ERR_CONFLICT, "the lease of the job is lost") : rc;
}

/* ---- claim ---- */

struct claim { const char *owner; int64_t now_ms, lease_ms; struct job_row *out; };

static enum err_code claim(struct txn *t, void *arg, struct err *e)
{
    static const char sql[] =
        "UPDATE jobs SET state = 'running', attempt = attempt + 1, lease_token = lease_token + 1, lease_owner = $1, lease_until_ms = $2,"
        " started_ms = COALESCE(started_ms, $3)"
        " WHERE id = (" LINE_NEXT ") RETURNING id";
    const struct claim *a = arg;
    struct id_list id = { 0 };
    enum err_code rc;

    job_row_clear(a->out);
    rc = txn_query(t, sql, ARGS(DB_S(a->owner), DB_I(a->now_ms + a->lease_ms), DB_I(a->now_ms), DB_I(t->limits.running)), id_list_row, &id, e);
    if (rc == ERR_OK && id.n > 0)
        rc = job_event(t, id.id[0], a->now_ms, "state", "{\"state\":\"running\"}", e);
    if (rc == ERR_OK && id.n > 0)
        rc = line_update(t, id.id[0], true, e);
    t->moved[JOB_RUNNING] = id.n > 0;
    if (rc == ERR_OK && id.n > 0)
        rc = txn_query(t, job_select, ARGS(DB_S(id.id[0])), job_row_read, a->out, e);
    id_list_clear(&id);
    return rc;
}

enum err_code store_job_claim(struct store *s, const char *owner, int64_t now_ms, int64_t lease_ms, struct job_row *out, bool *found,
                              struct err *e)
{
    struct job_row j = { 0 };
    enum err_code rc = store_write(s, claim, &(struct claim){ owner, now_ms, lease_ms, &j }, e);

    *found = rc == ERR_OK && *j.id;
    if (*found && j.attempt == 1)
        figures_job(s, &s->figures.queue_seconds, j.created_ms, now_ms);
    if (*found)
        *out = j;
    else
        job_row_clear(&j);
    return rc;
}

/* ---- heartbeat ---- */

struct heartbeat { const char *id; int64_t token, until_ms; const char *progress; struct job_asked *asked; struct lease *lease; };

static enum err_code heartbeat(struct txn *t, void *arg, struct err *e)
{
    static const char sql[] = "UPDATE jobs SET lease_until_ms = $2, progress = COALESCE($3, progress) WHERE id = $1 RETURNING pause_requested";
    const struct heartbeat *a = arg;
    int64_t pause = 0;
    enum err_code rc = lease_state(t, a->id, a->token, a->lease, e);

    if (rc == ERR_OK)
        rc = txn_query(t, sql, ARGS(DB_S(a->id), DB_I(a->until_ms), DB_S(a->progress)), store_int_row, &pause, e);
    *a->asked = (struct job_asked){ rc == ERR_OK && a->lease->state == JOB_CANCELLING, pause != 0 };
    return rc;
}

enum err_code store_job_heartbeat(struct store *s, const char *id, int64_t token, int64_t now_ms, int64_t lease_ms, const char *progress,
                                  struct job_asked *asked, struct err *e)
{
    struct event_row ev = { .created_ms = now_ms, .type = "progress", .data = progress };
    struct lease lease = { .state = JOB_STATES };
    enum err_code rc = store_write(s, heartbeat, &(struct heartbeat){ id, token, now_ms + lease_ms, progress, asked, &lease }, e);

    snprintf(ev.job, sizeof ev.job, "%s", id);
    memcpy(ev.tenant, lease.tenant, sizeof ev.tenant);
    if (rc == ERR_OK && progress && s->listener)
        s->listener(s->listener_user, &ev);
    return rc;
}

/* ---- publish ---- */

struct publish { const char *id; int64_t token; const struct job_publish *p; };

static enum err_code put_checkpoint(struct txn *t, const char *tenant, const char *id, const struct blob *b, struct err *e)
{
    enum err_code rc = txn_query(t, "SELECT checkpoint FROM jobs WHERE id = $1", ARGS(DB_S(id)), id_list_row, &t->gone, e);

    if (rc == ERR_OK)
        rc = blob_row_add(t, b, tenant, e);
    return rc == ERR_OK ? txn_query(t, "UPDATE jobs SET checkpoint = $2, crashes = 0 WHERE id = $1", ARGS(DB_S(id), DB_S(b->id)), NULL,
                                    NULL, e) : rc;
}

static enum err_code put_iteration(struct txn *t, const char *tenant, const char *id, int64_t n, const struct job_publish *p, struct err *e)
{
    static const char count[] = "UPDATE jobs SET n_iterations = $2 WHERE id = $1 AND n_iterations = $2 - 1";
    static const char insert[] = "INSERT INTO iterations (job, iteration, weights, record) VALUES ($1, $2, $3, $4)";
    enum err_code rc = ERR_OK;

    if (n > 0)
        rc = txn_change(t, count, ARGS(DB_S(id), DB_I(n)), ERR_INTERNAL, "an iteration was published out of order", e);
    if (rc == ERR_OK)
        rc = blob_row_add(t, p->weights, tenant, e);
    if (rc == ERR_OK)
        rc = txn_query(t, insert, ARGS(DB_S(id), DB_I(n), DB_S(p->weights ? p->weights->id : NULL), DB_S(p->record)), NULL, NULL, e);
    return rc == ERR_OK ? job_event(t, id, p->now_ms, p->type, p->record, e) : rc;
}

static enum err_code publish(struct txn *t, void *arg, struct err *e)
{
    const struct publish *a = arg;
    bool baseline = strcmp(a->p->type, "baseline") == 0, iteration = strcmp(a->p->type, "iteration") == 0;
    struct lease lease;
    enum err_code rc = lease_state(t, a->id, a->token, &lease, e);

    if (rc == ERR_OK && a->p->checkpoint)
        rc = put_checkpoint(t, lease.tenant, a->id, a->p->checkpoint, e);
    if (rc == ERR_OK && (baseline || iteration))
        rc = put_iteration(t, lease.tenant, a->id, baseline ? 0 : a->p->iteration, a->p, e);
    else if (rc == ERR_OK && a->p->record)
        rc = job_event(t, a->id, a->p->now_ms, a->p->type, a->p->record, e);
    return rc;
}

enum err_code store_job_publish(struct store *s, const char *id, int64_t token, const struct job_publish *p, struct err *e)
{
    return store_write(s, publish, &(struct publish){ id, token, p }, e);
}

/* ---- finish and release ---- */

struct finish {
    const char *id;
    int64_t token, now_ms, *started_ms;
    enum job_state state;
    const char *result;
    const struct blob *weights;
    const char *error;
};

/* What the job is sorted by: of the result, chosen.validation.<its metric>. */
static struct db_val metric_of(const char *result)
{
    json_t *r = result ? json_loads(result, 0, NULL) : NULL;
    const char *name = json_string_value(json_object_get(r, "metric"));
    const json_t *v = name ? json_object_get(json_object_get(json_object_get(r, "chosen"), "validation"), name) : NULL;
    struct db_val out = json_is_number(v) ? DB_R(json_number_value(v)) : DB_S(NULL);

    json_decref(r);
    return out;
}

static enum err_code finish(struct txn *t, void *arg, struct err *e)
{
    static const char sql[] = "UPDATE jobs SET result = $2, result_weights = $3, best_metric = $4 WHERE id = $1 RETURNING started_ms";
    const struct finish *a = arg;
    struct job_move m = { .id = a->id, .to = a->state, .now_ms = a->now_ms, .error = a->error };
    struct lease lease;
    enum err_code rc = lease_state(t, a->id, a->token, &lease, e);

    m.from = lease.state;
    m.key = "error";
    m.json = a->error;
    if (rc == ERR_OK)
        rc = blob_row_add(t, a->weights, lease.tenant, e);
    if (rc == ERR_OK)
        rc = txn_query(t, sql, ARGS(DB_S(a->id), DB_S(a->result), DB_S(a->weights ? a->weights->id : NULL),
                                     metric_of(a->result)), store_int_row, a->started_ms, e);
    if (rc == ERR_OK && a->result)
        rc = job_event(t, a->id, a->now_ms, "result", a->result, e);
    return rc == ERR_OK ? job_move(t, &m, e) : rc;
}

enum err_code store_job_finish(struct store *s, const char *id, int64_t token, int64_t now_ms, enum job_state state, const char *result,
                               const struct blob *weights, const char *error, struct err *e)
{
    int64_t started = now_ms;
    enum err_code rc = store_write(s, finish, &(struct finish){ id, token, now_ms, &started, state, result, weights, error }, e);

    if (rc == ERR_OK)
        figures_job(s, &s->figures.job_seconds[state], started, now_ms);
    return rc;
}

struct release { const char *id; int64_t token, now_ms; };

/* Does a client want the job paused? */
static enum err_code is_held(struct txn *t, const char *id, int64_t *held, struct err *e)
{
    return txn_query(t, "SELECT pause_requested FROM jobs WHERE id = $1", ARGS(DB_S(id)), store_int_row, held, e);
}

static enum err_code release(struct txn *t, void *arg, struct err *e)
{
    const struct release *a = arg;
    struct job_move m = { .id = a->id, .to = JOB_QUEUED, .now_ms = a->now_ms, .key = "reason", .json = "\"released\"" };
    int64_t held = 0;
    struct lease lease;
    enum err_code rc = lease_state(t, a->id, a->token, &lease, e);

    m.from = lease.state;
    if (rc == ERR_OK)
        rc = is_held(t, a->id, &held, e);
    if (held)
        m.to = JOB_PAUSED;
    if (rc == ERR_OK)
        rc = job_move(t, &m, e);
    return rc == ERR_OK ? txn_query(t, "UPDATE jobs SET attempt = attempt - 1 WHERE id = $1", ARGS(DB_S(a->id)), NULL, NULL, e) : rc;
}

enum err_code store_job_release(struct store *s, const char *id, int64_t token, int64_t now_ms, struct err *e)
{
    return store_write(s, release, &(struct release){ id, token, now_ms }, e);
}

/* ---- recovery ---- */

struct recover { int64_t now_ms; int crash_limit; int *n_requeued; };

static enum err_code recover_running(struct txn *t, const struct recover *a, const char *id, struct err *e)
{
    static const char sql[] = "UPDATE jobs SET crashes = crashes + 1 WHERE id = $1 RETURNING crashes";
    char error[160];
    int64_t crashes = 0, held = 0;
    struct job_move m = { .id = id, .from = JOB_RUNNING, .to = JOB_QUEUED, .now_ms = a->now_ms, .key = "reason", .json = "\"recovered\"" };
    enum err_code rc = txn_query(t, sql, ARGS(DB_S(id)), store_int_row, &crashes, e);

    if (rc == ERR_OK)
        rc = is_held(t, id, &held, e);
    if (held)
        m.to = JOB_PAUSED;
    if (rc == ERR_OK && crashes >= a->crash_limit) {
        snprintf(error, sizeof error, "{\"code\":\"" JOB_CRASHED "\",\"message\":\"the server died %lld times in a row while it ran this job\"}",
                 (long long)crashes);
        m = (struct job_move){ id, JOB_RUNNING, JOB_FAILED, a->now_ms, error, "error", error };
    }
    if (rc == ERR_OK)
        rc = job_move(t, &m, e);
    *a->n_requeued += rc == ERR_OK && m.to == JOB_QUEUED;
    return rc;
}

/* The lock of the data directory says that no other process runs any of them. */
static enum err_code recover(struct txn *t, void *arg, struct err *e)
{
    const struct recover *a = arg;
    struct id_list running = { 0 }, cancelling = { 0 };
    enum err_code rc = txn_query(t, "SELECT id FROM jobs WHERE state = 'running' ORDER BY id", NULL, 0, id_list_row, &running, e);

    *a->n_requeued = 0;
    if (rc == ERR_OK)
        rc = txn_query(t, "SELECT id FROM jobs WHERE state = 'cancelling' ORDER BY id", NULL, 0, id_list_row, &cancelling, e);
    for (size_t i = 0; i < running.n && rc == ERR_OK; i++)
        rc = recover_running(t, a, running.id[i], e);
    for (size_t i = 0; i < cancelling.n && rc == ERR_OK; i++)
        rc = job_move(t, &(struct job_move){ .id = cancelling.id[i], .from = JOB_CANCELLING, .to = JOB_CANCELLED, .now_ms = a->now_ms }, e);
    id_list_clear(&running);
    id_list_clear(&cancelling);
    return rc;
}

enum err_code store_jobs_recover(struct store *s, int64_t now_ms, int crash_limit, int *n_requeued, struct err *e)
{
    return store_write(s, recover, &(struct recover){ now_ms, crash_limit, n_requeued }, e);
}
