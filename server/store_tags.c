/* server/store_tags.c: the one thing about models, data sets and jobs that clients may change. */
#include <string.h>

#include "server/store_impl.h"

struct set { enum tagged what; const char *id, *tags, *seen; };

static enum err_code tags_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)n_col;
    (void)e;
    col_copy(&col[0], user, TAGS_LEN);
    return ERR_OK;
}

static enum err_code set(struct txn *t, void *arg, struct err *e)
{
    static const struct { const char *name, *read, *write; } kind[] = {
        [TAGGED_MODEL] = { "model", "SELECT tags FROM models WHERE id = $1", "UPDATE models SET tags = $2 WHERE id = $1" },
        [TAGGED_DATASET] = { "data set", "SELECT tags FROM datasets WHERE id = $1", "UPDATE datasets SET tags = $2 WHERE id = $1" },
        [TAGGED_JOB] = { "job", "SELECT tags FROM jobs WHERE id = $1", "UPDATE jobs SET tags = $2 WHERE id = $1" },
    };
    const struct set *a = arg;
    char now[TAGS_LEN] = "?";
    enum err_code rc = txn_query(t, kind[a->what].read, ARGS(DB_S(a->id)), tags_row, now, e);

    if (rc == ERR_OK && *now == '?') /* a row's tags begin with a comma */
        return err_set(e, ERR_NOT_FOUND, "no %s %.40s", kind[a->what].name, a->id);
    if (rc == ERR_OK && a->seen && strcmp(now, a->seen) != 0)
        return err_set(e, ERR_PRECONDITION, "the tags have changed meanwhile");
    return rc == ERR_OK ? txn_query(t, kind[a->what].write, ARGS(DB_S(a->id), DB_S(a->tags)), NULL, NULL, e) : rc;
}

enum err_code store_tags_set(struct store *s, enum tagged what, const char *id, const char *tags, const char *seen, struct err *e)
{
    return store_write(s, set, &(struct set){ what, id, tags, seen }, e);
}
