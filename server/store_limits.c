/* server/store_limits.c: what a tenant may have. Bytes and jobs are counted in the transaction that adds to them, by an index, so they are exact
 * whatever else goes on, and nothing has to be kept in step. */
#include "server/store_impl.h"

void store_set_limits(struct store *s, const struct store_limits *l)
{
    s->limits = *l;
}

static const char stored[] = "SELECT COALESCE(SUM(bytes), 0) FROM blobs WHERE tenant = $1";

static enum err_code too_much(int64_t have, int64_t limit, struct err *e)
{
    return err_set(e, ERR_NO_SPACE, "the tenant would store %lld bytes, and may store %lld", (long long)have, (long long)limit);
}

enum err_code limit_bytes(struct txn *t, const char *tenant, struct err *e)
{
    int64_t have = 0;
    enum err_code rc = t->limits.bytes ? txn_query(t, stored, ARGS(DB_S(tenant)), store_int_row, &have, e) : ERR_OK;

    t->over_bytes = rc == ERR_OK && t->limits.bytes && have > t->limits.bytes;
    return t->over_bytes ? too_much(have, t->limits.bytes, e) : rc;
}

enum err_code limit_jobs(struct txn *t, const char *tenant, struct err *e)
{
    static const char sql[] = "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE tenant = $1 AND state IN ('queued', 'paused') LIMIT $2) AS some";
    int64_t limit = t->limits.waiting, have = 0;
    enum err_code rc = limit ? txn_query(t, sql, ARGS(DB_S(tenant), DB_I(limit)), store_int_row, &have, e) : ERR_OK;

    t->over_jobs = rc == ERR_OK && limit && have >= limit;
    return t->over_jobs ? err_set(e, ERR_TOO_MANY, "the tenant has %lld jobs waiting, as many as it may", (long long)have) : rc;
}

enum err_code store_tenant_room(struct store *s, const char *tenant, uint64_t bytes, struct err *e)
{
    int64_t limit = s->limits.bytes, have = 0;
    enum err_code rc = limit ? store_read(s, stored, ARGS(DB_S(tenant)), store_int_row, &have, e) : ERR_OK;

    if (rc != ERR_OK || !limit || (have <= limit && bytes <= (uint64_t)(limit - have)))
        return rc;
    pthread_mutex_lock(&s->figures_lock);
    s->figures.over_bytes++;
    pthread_mutex_unlock(&s->figures_lock);
    return too_much(bytes < INT64_MAX / 2 ? have + (int64_t)bytes : INT64_MAX, limit, e);
}
