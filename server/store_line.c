/* server/store_line.c: whose turn it is: the line of tenants, and a job's place in it. The next is of the tenant with the fewest running jobs, of those the one
 * whose last turn is the longest ago; of its jobs the one with the highest priority, then the oldest.
 *
 * The table turns has one row per tenant that ever queued a job. What it says about running and queued jobs follows from the table of jobs, by an index
 * each, and is asked anew in every transaction that moves a job: nothing is counted up and down, so nothing can get out of step. */
#include <string.h>

#include "server/store_impl.h"

/* As the index jobs_queue has it. (Without the CAST, SQLite does not take the index for a comparison with a column.) */
#define QUEUED_OF "CAST(CASE WHEN state = 'queued' THEN tenant END AS TEXT)"

enum err_code line_update(struct txn *t, const char *job, bool served, struct err *e)
{
    static const char sql[] =
        "INSERT INTO turns (tenant, served, running, head) SELECT tenant, CASE WHEN $2 THEN (SELECT value FROM counters WHERE name = 'events') ELSE 0 END,"
        " (SELECT count(*) FROM jobs WHERE tenant = moved.tenant AND state IN ('running', 'cancelling')),"
        " (SELECT id FROM jobs WHERE " QUEUED_OF " = moved.tenant ORDER BY priority DESC, id LIMIT 1)"
        " FROM jobs AS moved WHERE id = $1"
        " ON CONFLICT (tenant) DO UPDATE SET running = excluded.running, head = excluded.head,"
        " served = CASE WHEN $2 THEN excluded.served ELSE turns.served END";

    return txn_query(t, sql, ARGS(DB_S(job), DB_I(served)), NULL, NULL, e);
}

/* ---- a job's place ---- */

/* A queued job: how many of its tenant's come before it, and its tenant's place in the line. */
struct place { const char *tenant; int64_t before, running, served; char head[ID_LEN]; int64_t position; };

static enum err_code own_place(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct place *p = user;

    (void)n_col;
    (void)e;
    p->before = col_int(&col[0]);
    p->running = col_int(&col[1]);
    p->served = col_int(&col[2]);
    col_copy(&col[3], p->head, sizeof p->head);
    return ERR_OK;
}

/* Another tenant, with n jobs: at each turn a tenant gets one more running job, so of these jobs as many come before ours as it takes to have no fewer
 * running than our tenant then has; and one more if it is then in front of our tenant. Who came to that number last is behind; of those who were
 * there from the start, whose last turn is the longer ago is in front. */
static enum err_code other_place(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct place *p = user;
    int64_t running = col_int(&col[1]), served = col_int(&col[2]), n = col_int(&col[4]), behind = p->running + p->before - running;
    bool front = running != p->running ? running > p->running : served != p->served ? served < p->served : strcmp(col[3].u.s, p->head) < 0;

    (void)n_col;
    (void)e;
    if (behind >= 0 && strcmp(col[0].u.s, p->tenant) != 0)
        p->position += n <= behind ? n : behind + front;
    return ERR_OK;
}

enum err_code store_job_position(struct store *s, const struct job_row *j, int64_t *position, struct err *e)
{
    static const char own[] = "SELECT (SELECT count(*) FROM jobs WHERE " QUEUED_OF " = $1 AND priority > $2)"
                              " + (SELECT count(*) FROM jobs WHERE " QUEUED_OF " = $1 AND priority = $2 AND id < $3),"
                              " running, served, head FROM turns WHERE tenant = $1 AND head IS NOT NULL";
    static const char others[] = "SELECT tenant, running, served, head,"
                                 " (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE " QUEUED_OF " = turns.tenant LIMIT $1) AS some)"
                                 " FROM turns WHERE head IS NOT NULL AND running < $1";
    struct place p = { .tenant = j->tenant, .before = -1 };
    enum err_code rc = ERR_OK;

    *position = 0;
    if (j->state != JOB_QUEUED)
        return ERR_OK;
    rc = store_read(s, own, ARGS(DB_S(j->tenant), DB_I(j->priority), DB_S(j->id)), own_place, &p, e);
    if (rc != ERR_OK || p.before < 0) /* it has left the queue meanwhile */
        return rc;
    p.position = p.before + 1;
    rc = store_read(s, others, ARGS(DB_I(p.running + p.position)), other_place, &p, e);
    *position = p.position;
    return rc;
}
