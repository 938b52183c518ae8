/* server/store_retention.c: removes what is older than it is to be kept. Each thing goes in a transaction of its own, as when a client deletes it,
 * so nobody waits long; what a client deletes meanwhile, or a new job has come to use, is passed over. */
#include "server/store_impl.h"

enum { BATCH = 100 };
typedef enum err_code delete_fn(struct store *s, const char *tenant, const char *id, struct err *e);

/* select: tenants and ids. */
static enum err_code remove_all(struct store *s, const char *select, delete_fn *del, int64_t before_ms, int64_t *n, struct err *e)
{
    struct id_list list = { 0 };
    bool more = true;
    enum err_code rc = ERR_OK;

    while (more && rc == ERR_OK) {
        list.n = 0;
        more = false;
        rc = store_read(s, select, ARGS(DB_I(before_ms), DB_I(BATCH)), id_list_row, &list, e);
        for (size_t i = 0; i < list.n && rc == ERR_OK; i += 2) {
            rc = del(s, list.id[i], list.id[i + 1], e);
            *n += rc == ERR_OK;
            more = more || rc == ERR_OK;
            if (rc == ERR_NOT_FOUND || rc == ERR_CONFLICT)
                rc = ERR_OK;
        }
    }
    id_list_clear(&list);
    return rc;
}

enum err_code store_jobs_expire(struct store *s, int64_t before_ms, int64_t *n, struct err *e)
{
    *n = 0;
    return remove_all(s, "SELECT tenant, id FROM jobs WHERE finished_ms < $1 ORDER BY finished_ms LIMIT $2", store_job_delete, before_ms, n, e);
}

enum err_code store_uploads_expire(struct store *s, int64_t before_ms, int64_t *n, struct err *e)
{
    static const char models[] = "SELECT tenant, id FROM models WHERE created_ms < $1 AND id NOT IN (SELECT model FROM jobs) ORDER BY id LIMIT $2";
    static const char datasets[] = "SELECT tenant, id FROM datasets WHERE created_ms < $1 AND id NOT IN (SELECT dataset FROM jobs) ORDER BY id LIMIT $2";
    enum err_code rc;

    *n = 0;
    rc = remove_all(s, models, store_model_delete, before_ms, n, e);
    return rc == ERR_OK ? remove_all(s, datasets, store_dataset_delete, before_ms, n, e) : rc;
}

enum err_code store_tidy(struct store *s, struct err *e)
{
    enum err_code rc;

    pthread_mutex_lock(&s->writer_lock);
    rc = s->drv->tidy(s->writer, e);
    pthread_mutex_unlock(&s->writer_lock);
    return rc;
}
