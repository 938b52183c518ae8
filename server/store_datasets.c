/* server/store_datasets.c: data sets and their parts. */
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "server/store_impl.h"

static enum err_code add_part(struct txn *t, const char *tenant, const char *id, int split, int part, const struct dataset_part *p, struct err *e)
{
    static const char sql[] = "INSERT INTO dataset_parts (dataset, split, part, blob, info) VALUES ($1, $2, $3, $4, $5)"
                              " ON CONFLICT (dataset, split, part) DO NOTHING";
    enum err_code rc;

    if (!p || !*p->blob.id)
        return ERR_OK;
    rc = blob_row_add(t, &p->blob, tenant, e);
    return rc == ERR_OK ? txn_change(t, sql, ARGS(DB_S(id), DB_I(split), DB_I(part), DB_S(p->blob.id), DB_S(p->info)), ERR_CONFLICT,
                                     "this part is there already; post another data set", e) : rc;
}

static enum err_code add(struct txn *t, void *arg, struct err *e)
{
    static const char sql[] = "INSERT INTO datasets (id, name, created_ms, conf, tenant, tags) VALUES ($1, $2, $3, $4, $5, $6)";
    const struct dataset_row *d = arg;
    enum err_code rc = txn_query(t, sql, ARGS(DB_S(d->id), DB_S(d->name), DB_I(d->created_ms), DB_S(d->conf), DB_S(d->tenant), DB_S(d->tags)), NULL, NULL, e);

    for (int i = 0; i < 6 && rc == ERR_OK; i++)
        rc = add_part(t, d->tenant, d->id, i / 2, i % 2, &d->part[i / 2][i % 2], e);
    if (rc == ERR_OK)
        rc = limit_bytes(t, d->tenant, e);
    return rc == ERR_OK ? answer_row_add(t, d->answer, d->tenant, e) : rc;
}

enum err_code store_dataset_add(struct store *s, const struct dataset_row *d, struct err *e)
{
    return store_write(s, add, (void *)(uintptr_t)d, e);
}

/* One row per part; without parts one row whose part columns are NULL. */
static enum err_code get_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct dataset_row *d = user;
    struct dataset_part *p;

    (void)n_col;
    if (!*d->id) {
        col_copy(&col[0], d->id, sizeof d->id);
        col_copy(&col[1], d->name, sizeof d->name);
        d->created_ms = col_int(&col[2]);
        col_copy(&col[11], d->tags, sizeof d->tags);
        col_copy(&col[10], d->tenant, sizeof d->tenant);
        d->conf = (char *)(uintptr_t)col_text(&col[3]);
        if (own_text(&d->conf, e) != ERR_OK)
            return ERR_NOMEM;
    }
    if (col[4].type == DB_NULL)
        return ERR_OK;
    p = &d->part[col_int(&col[4])][col_int(&col[5])];
    col_copy(&col[6], p->blob.id, sizeof p->blob.id);
    col_copy(&col[7], p->blob.hash, sizeof p->blob.hash);
    p->blob.bytes = (uint64_t)col_int(&col[8]);
    p->info = (char *)(uintptr_t)col_text(&col[9]);
    return own_text(&p->info, e);
}

enum err_code store_dataset_get(struct store *s, const char *tenant, const char *id, struct dataset_row *out, struct err *e)
{
    static const char sql[] = "SELECT d.id, d.name, d.created_ms, d.conf, p.split, p.part, b.id, b.hash, b.bytes, p.info, d.tenant, d.tags"
                              " FROM datasets d LEFT JOIN dataset_parts p ON p.dataset = d.id LEFT JOIN blobs b ON b.id = p.blob"
                              " WHERE d.id = $1 AND d.tenant = $2";
    struct dataset_row d = { 0 };
    enum err_code rc = store_read(s, sql, ARGS(DB_S(id), DB_S(tenant)), get_row, &d, e);

    if (rc == ERR_OK && !*d.id)
        rc = err_set(e, ERR_NOT_FOUND, "no data set %.40s", id);
    if (rc == ERR_OK)
        *out = d;
    else
        dataset_row_clear(&d);
    return rc;
}

void dataset_row_clear(struct dataset_row *d)
{
    mem_free(d->conf);
    for (int i = 0; i < 6; i++)
        mem_free(d->part[i / 2][i % 2].info);
    *d = (struct dataset_row){ 0 };
}

/* Ids first, then each with its parts; one that was deleted in between is left out. */
enum err_code store_dataset_list(struct store *s, const struct page *p, store_row_fn *fn, void *user, bool *more, struct err *e)
{
    static const char sql[] = "SELECT id FROM datasets WHERE tenant = $3 AND id < $1 AND ($4 IS NULL OR replace(tags, $4, '') <> tags)"
                              " ORDER BY id DESC LIMIT $2";
    struct id_list ids = { 0 };
    enum err_code rc = store_read(s, sql, ARGS(DB_S(*p->after ? p->after : PAGE_LAST), DB_I(p->limit + 1), DB_S(p->tenant), DB_S(p->tag)), id_list_row, &ids, e);

    *more = rc == ERR_OK && ids.n > (size_t)p->limit;
    for (size_t i = 0; i < ids.n && i < (size_t)p->limit && rc == ERR_OK; i++) {
        struct dataset_row d = { 0 };

        rc = store_dataset_get(s, p->tenant, ids.id[i], &d, e);
        if (rc == ERR_OK)
            rc = fn(user, &d, e);
        else if (rc == ERR_NOT_FOUND)
            rc = ERR_OK;
        dataset_row_clear(&d);
    }
    id_list_clear(&ids);
    return rc;
}

static enum err_code usage_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)n_col;
    (void)e;
    *(int64_t *)user = col_int(&col[0]);
    return ERR_OK;
}

/* It is there, and no unfinished job uses it. */
static enum err_code must_be_free(struct txn *t, const char *tenant, const char *id, struct err *e)
{
    static const char sql[] = "SELECT (SELECT count(*) FROM jobs WHERE dataset = $1 AND finished_ms IS NULL) FROM datasets"
                              " WHERE id = $1 AND tenant = $2";
    int64_t jobs = -1;
    enum err_code rc = txn_query(t, sql, ARGS(DB_S(id), DB_S(tenant)), usage_row, &jobs, e);

    if (rc == ERR_OK && jobs < 0)
        return err_set(e, ERR_NOT_FOUND, "no data set %.40s", id);
    return rc == ERR_OK && jobs > 0 ? err_set(e, ERR_CONFLICT, "an unfinished job uses the data set") : rc;
}

struct set_part { const char *tenant, *id; int split; const struct dataset_part *part[2]; };

static enum err_code set_part(struct txn *t, void *arg, struct err *e)
{
    const struct set_part *a = arg;
    enum err_code rc = must_be_free(t, a->tenant, a->id, e);

    for (int i = 0; i < 2 && rc == ERR_OK; i++)
        rc = add_part(t, a->tenant, a->id, a->split, i, a->part[i], e);
    return rc == ERR_OK ? limit_bytes(t, a->tenant, e) : rc;
}

enum err_code store_dataset_set_part(struct store *s, const char *tenant, const char *id, int split, const struct dataset_part *features,
                                     const struct dataset_part *labels, struct err *e)
{
    return store_write(s, set_part, &(struct set_part){ tenant, id, split, { features, labels } }, e);
}

static enum err_code delete_dataset(struct txn *t, void *arg, struct err *e)
{
    const struct named *a = arg;
    enum err_code rc = must_be_free(t, a->tenant, a->id, e);

    if (rc == ERR_OK)
        rc = txn_query(t, "SELECT blob FROM dataset_parts WHERE dataset = $1", ARGS(DB_S(a->id)), id_list_row, &t->gone, e);
    return rc == ERR_OK ? txn_query(t, "DELETE FROM datasets WHERE id = $1", ARGS(DB_S(a->id)), NULL, NULL, e) : rc;
}

enum err_code store_dataset_delete(struct store *s, const char *tenant, const char *id, struct err *e)
{
    return store_write(s, delete_dataset, &(struct named){ tenant, id }, e);
}
