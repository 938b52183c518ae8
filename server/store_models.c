/* server/store_models.c: models. */
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "server/store_impl.h"

#define MODEL_COLUMNS \
    "SELECT m.id, m.name, m.created_ms, a.id, a.hash, a.bytes, w.id, w.hash, w.bytes, m.summary, m.tenant, m.tags" \
    " FROM models m JOIN blobs a ON a.id = m.architecture LEFT JOIN blobs w ON w.id = m.weights"

static void read_blob(struct blob *b, const struct db_val *col)
{
    col_copy(&col[0], b->id, sizeof b->id);
    col_copy(&col[1], b->hash, sizeof b->hash);
    b->bytes = (uint64_t)col_int(&col[2]);
}

static void read_model(void *row, const struct db_val *col)
{
    struct model_row *m = row;

    col_copy(&col[0], m->id, sizeof m->id);
    col_copy(&col[1], m->name, sizeof m->name);
    m->created_ms = col_int(&col[2]);
    read_blob(&m->architecture, col + 3);
    read_blob(&m->weights, col + 6);
    m->summary = (char *)(uintptr_t)col_text(&col[9]);
    col_copy(&col[11], m->tags, sizeof m->tags);
    col_copy(&col[10], m->tenant, sizeof m->tenant);
}

static enum err_code add(struct txn *t, void *arg, struct err *e)
{
    static const char sql[] = "INSERT INTO models (id, name, created_ms, architecture, weights, summary, tenant, tags)"
                              " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    const struct model_row *m = arg;
    enum err_code rc = blob_row_add(t, &m->architecture, m->tenant, e);

    if (rc == ERR_OK)
        rc = blob_row_add(t, &m->weights, m->tenant, e);
    if (rc == ERR_OK)
        rc = txn_query(t, sql, ARGS(DB_S(m->id), DB_S(m->name), DB_I(m->created_ms), DB_S(m->architecture.id),
                                    DB_S(text_or_null(m->weights.id)), DB_S(m->summary), DB_S(m->tenant), DB_S(m->tags)), NULL, NULL, e);
    if (rc == ERR_OK)
        rc = limit_bytes(t, m->tenant, e);
    return rc == ERR_OK ? answer_row_add(t, m->answer, m->tenant, e) : rc;
}

enum err_code store_model_add(struct store *s, const struct model_row *m, struct err *e)
{
    return store_write(s, add, (void *)(uintptr_t)m, e);
}

static enum err_code get_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct model_row *m = user;

    (void)n_col;
    read_model(m, col);
    return own_text(&m->summary, e);
}

enum err_code store_model_get(struct store *s, const char *tenant, const char *id, struct model_row *out, struct err *e)
{
    struct model_row m = { 0 };
    enum err_code rc = store_read(s, MODEL_COLUMNS " WHERE m.id = $1 AND m.tenant = $2", ARGS(DB_S(id), DB_S(tenant)), get_row, &m, e);

    if (rc == ERR_OK && !*m.id)
        rc = err_set(e, ERR_NOT_FOUND, "no model %.40s", id);
    if (rc == ERR_OK)
        *out = m;
    else
        model_row_clear(&m);
    return rc;
}

void model_row_clear(struct model_row *m)
{
    mem_free(m->summary);
    *m = (struct model_row){ 0 };
}

enum err_code store_model_list(struct store *s, const struct page *p, store_row_fn *fn, void *user, bool *more, struct err *e)
{
    static const char sql[] = MODEL_COLUMNS " WHERE m.tenant = $3 AND m.id < $1 AND ($4 IS NULL OR replace(m.tags, $4, '') <> m.tags)"
                              " ORDER BY m.id DESC LIMIT $2";
    struct model_row m = { 0 };
    struct lister l = { read_model, &m, fn, user, p->limit, more };

    *more = false;
    return store_read(s, sql, ARGS(DB_S(*p->after ? p->after : PAGE_LAST), DB_I(p->limit + 1), DB_S(p->tenant), DB_S(p->tag)), lister_row, &l, e);
}

struct set_weights { const char *tenant, *id; const struct blob *w; const char *summary; };

static enum err_code exists_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)col;
    (void)n_col;
    (void)e;
    *(bool *)user = true;
    return ERR_OK;
}

static enum err_code must_exist(struct txn *t, const char *tenant, const char *id, struct err *e)
{
    bool there = false;
    enum err_code rc = txn_query(t, "SELECT 1 FROM models WHERE id = $1 AND tenant = $2", ARGS(DB_S(id), DB_S(tenant)), exists_row, &there, e);

    return rc == ERR_OK && !there ? err_set(e, ERR_NOT_FOUND, "no model %.40s", id) : rc;
}

static enum err_code set_weights(struct txn *t, void *arg, struct err *e)
{
    static const char sql[] = "UPDATE models SET weights = $2, summary = $3 WHERE id = $1 AND weights IS NULL";
    const struct set_weights *a = arg;
    enum err_code rc = must_exist(t, a->tenant, a->id, e);

    if (rc == ERR_OK)
        rc = blob_row_add(t, a->w, a->tenant, e);
    if (rc == ERR_OK)
        rc = txn_change(t, sql, ARGS(DB_S(a->id), DB_S(a->w->id), DB_S(a->summary)), ERR_CONFLICT,
                        "the model has weights already; post another model", e);
    return rc == ERR_OK ? limit_bytes(t, a->tenant, e) : rc;
}

enum err_code store_model_set_weights(struct store *s, const char *tenant, const char *id, const struct blob *w, const char *summary, struct err *e)
{
    return store_write(s, set_weights, &(struct set_weights){ tenant, id, w, summary }, e);
}

static enum err_code delete_model(struct txn *t, void *arg, struct err *e)
{
    static const char sql[] = "DELETE FROM models WHERE id = $1"
                              " AND NOT EXISTS (SELECT 1 FROM jobs WHERE model = $1 AND finished_ms IS NULL)";
    const struct named *a = arg;
    enum err_code rc = must_exist(t, a->tenant, a->id, e);

    if (rc == ERR_OK)
        rc = txn_query(t, "SELECT architecture, weights FROM models WHERE id = $1", ARGS(DB_S(a->id)), id_list_row, &t->gone, e);
    return rc == ERR_OK ? txn_change(t, sql, ARGS(DB_S(a->id)), ERR_CONFLICT, "an unfinished job uses the model", e) : rc;
}

enum err_code store_model_delete(struct store *s, const char *tenant, const char *id, struct err *e)
{
    return store_write(s, delete_model, &(struct named){ tenant, id }, e);
}
