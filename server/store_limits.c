/* server/store_limits.c: what a tenant may have. Bytes and jobs are counted in the transaction that adds to them, by an index, so they are exact
 * whatever else goes on, and nothing has to be kept in step. */
#include <stdio.h>

#include "server/store_impl.h"

void store_set_limits(struct store *s, const struct store_limits *l)
{
    s->limits = *l;
}

/* ---- of one tenant ---- */

#define LIMITS "SELECT tenant, storage_mb, waiting_jobs, running_jobs, streams, requests_per_second FROM limits"
static const struct tenant_limits as_all = { .storage_mb = -1, .waiting_jobs = -1, .running_jobs = -1, .streams = -1, .requests_per_second = -1 };

static enum err_code limits_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct tenant_limits *l = user;
    int64_t *const field[] = { &l->storage_mb, &l->waiting_jobs, &l->running_jobs, &l->streams, &l->requests_per_second };

    (void)e;
    *l = as_all;
    col_copy(&col[0], l->tenant, sizeof l->tenant);
    for (int i = 1; i < n_col; i++)
        *field[i - 1] = col[i].type == DB_INT ? col[i].u.i : -1;
    return ERR_OK;
}

static struct db_val or_null(int64_t v)
{
    return v < 0 ? DB_S(NULL) : DB_I(v);
}

static enum err_code set(struct txn *t, void *arg, struct err *e)
{
    static const char sql[] = "INSERT INTO limits (tenant, storage_mb, waiting_jobs, running_jobs, streams, requests_per_second) VALUES ($1, $2, $3, $4,"
                              " $5, $6) ON CONFLICT (tenant) DO UPDATE SET storage_mb = excluded.storage_mb, waiting_jobs = excluded.waiting_jobs,"
                              " running_jobs = excluded.running_jobs, streams = excluded.streams, requests_per_second = excluded.requests_per_second";
    const struct tenant_limits *l = arg;

    return txn_query(t, sql, ARGS(DB_S(l->tenant), or_null(l->storage_mb), or_null(l->waiting_jobs), or_null(l->running_jobs), or_null(l->streams),
                                  or_null(l->requests_per_second)), NULL, NULL, e);
}

enum err_code store_tenant_limits_set(struct store *s, const struct tenant_limits *row, struct err *e)
{
    return store_write(s, set, (void *)(uintptr_t)row, e);
}

enum err_code store_tenant_limits(struct store *s, const char *tenant, struct tenant_limits *out, struct err *e)
{
    *out = as_all;
    snprintf(out->tenant, sizeof out->tenant, "%s", tenant);
    return store_read(s, LIMITS " WHERE tenant = $1", ARGS(DB_S(tenant)), limits_row, out, e);
}

enum err_code store_tenant_limits_read(const char *dir, const char *tenant, struct tenant_limits *out, struct err *e)
{
    *out = as_all;
    snprintf(out->tenant, sizeof out->tenant, "%s", tenant);
    return store_look(dir, "limits", LIMITS " WHERE tenant = $1", ARGS(DB_S(tenant)), limits_row, out, e);
}

struct all { store_row_fn *fn; void *user; };

static enum err_code all_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    const struct all *a = user;
    struct tenant_limits row;
    enum err_code rc = limits_row(&row, col, n_col, e);

    return rc == ERR_OK ? a->fn(a->user, &row, e) : rc;
}

enum err_code store_tenant_limits_all(struct store *s, store_row_fn *fn, void *user, struct err *e)
{
    return store_read(s, LIMITS " ORDER BY tenant", NULL, 0, all_row, &(struct all){ fn, user }, e);
}

/* What the tenant may have after all. */
static struct store_limits merge(const struct store_limits *all, const struct tenant_limits *own)
{
    return (struct store_limits){ own->storage_mb < 0 ? all->bytes : own->storage_mb << 20, own->waiting_jobs < 0 ? all->waiting : own->waiting_jobs,
                                  own->running_jobs < 0 ? all->running : own->running_jobs };
}

static enum err_code limits_of(struct txn *t, const char *tenant, struct store_limits *out, struct err *e)
{
    struct tenant_limits own = as_all;
    enum err_code rc = txn_query(t, LIMITS " WHERE tenant = $1", ARGS(DB_S(tenant)), limits_row, &own, e);

    *out = merge(&t->limits, &own);
    return rc;
}

/* ---- bytes and jobs ---- */

static const char stored[] = "SELECT COALESCE(SUM(bytes), 0) FROM blobs WHERE tenant = $1";

static enum err_code too_much(int64_t have, int64_t limit, struct err *e)
{
    return err_set(e, ERR_NO_SPACE, "the tenant would store %lld bytes, and may store %lld", (long long)have, (long long)limit);
}

enum err_code limit_bytes(struct txn *t, const char *tenant, struct err *e)
{
    struct store_limits limit;
    int64_t have = 0;
    enum err_code rc = limits_of(t, tenant, &limit, e);

    if (rc == ERR_OK && limit.bytes)
        rc = txn_query(t, stored, ARGS(DB_S(tenant)), store_int_row, &have, e);
    t->over_bytes = rc == ERR_OK && limit.bytes && have > limit.bytes;
    return t->over_bytes ? too_much(have, limit.bytes, e) : rc;
}

enum err_code limit_jobs(struct txn *t, const char *tenant, struct err *e)
{
    static const char sql[] = "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE tenant = $1 AND state IN ('queued', 'paused') LIMIT $2) AS some";
    struct store_limits limit;
    int64_t have = 0;
    enum err_code rc = limits_of(t, tenant, &limit, e);

    if (rc == ERR_OK && limit.waiting)
        rc = txn_query(t, sql, ARGS(DB_S(tenant), DB_I(limit.waiting)), store_int_row, &have, e);
    t->over_jobs = rc == ERR_OK && limit.waiting && have >= limit.waiting;
    return t->over_jobs ? err_set(e, ERR_TOO_MANY, "the tenant has %lld jobs waiting, as many as it may", (long long)have) : rc;
}

enum err_code store_tenant_room(struct store *s, const char *tenant, uint64_t bytes, struct err *e)
{
    struct tenant_limits own;
    int64_t limit, have = 0;
    enum err_code rc = store_tenant_limits(s, tenant, &own, e);

    limit = merge(&s->limits, &own).bytes;
    if (rc == ERR_OK && limit)
        rc = store_read(s, stored, ARGS(DB_S(tenant)), store_int_row, &have, e);
    if (rc != ERR_OK || !limit || (have <= limit && bytes <= (uint64_t)(limit - have)))
        return rc;
    pthread_mutex_lock(&s->figures_lock);
    s->figures.over_bytes++;
    pthread_mutex_unlock(&s->figures_lock);
    return too_much(bytes < INT64_MAX / 2 ? have + (int64_t)bytes : INT64_MAX, limit, e);
}
