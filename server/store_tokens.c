/* server/store_tokens.c: tokens. Their secrets are nowhere; who may do what is decided in memory (auth.c), these rows are what it remembers. */
#include <stdio.h>
#include <string.h>

#include "server/store_impl.h"

#define TOKEN_COLUMNS "SELECT id, tenant, name, scope, hash, created_ms, expires_ms, revoked_ms, used_ms FROM tokens"

static void read_token(void *row, const struct db_val *col)
{
    struct token_row *t = row;

    *t = (struct token_row){ .created_ms = col_int(&col[5]), .expires_ms = col_int(&col[6]), .revoked_ms = col_int(&col[7]),
                             .used_ms = col_int(&col[8]) };
    col_copy(&col[0], t->id, sizeof t->id);
    col_copy(&col[1], t->tenant, sizeof t->tenant);
    col_copy(&col[2], t->name, sizeof t->name);
    if (!scope_parse(col[3].u.s, &t->scope))
        t->scope = SCOPE_MISSING; /* a CHECK of the table forbids it */
    col_copy(&col[4], t->hash, sizeof t->hash);
}

static struct db_val time_or_null(int64_t ms)
{
    return ms ? DB_I(ms) : DB_S(NULL);
}

static enum err_code add(struct txn *t, void *arg, struct err *e)
{
    static const char sql[] = "INSERT INTO tokens (id, tenant, name, scope, hash, created_ms, expires_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)"
                              " ON CONFLICT (id) DO NOTHING";
    const struct token_row *r = arg;

    return txn_query(t, sql, ARGS(DB_S(r->id), DB_S(r->tenant), DB_S(r->name), DB_S(scope_name(r->scope)), DB_S(r->hash), DB_I(r->created_ms),
                                  time_or_null(r->expires_ms)), NULL, NULL, e);
}

enum err_code store_token_add(struct store *s, const struct token_row *row, struct err *e)
{
    return store_write(s, add, (void *)(uintptr_t)row, e);
}

static enum err_code one_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)n_col;
    (void)e;
    read_token(user, col);
    return ERR_OK;
}

enum err_code store_token_get(struct store *s, const char *tenant, const char *id, struct token_row *out, struct err *e)
{
    struct token_row row = { .scope = SCOPE_MISSING };
    enum err_code rc = store_read(s, TOKEN_COLUMNS " WHERE id = $1 AND tenant = $2", ARGS(DB_S(id), DB_S(tenant)), one_row, &row, e);

    if (rc == ERR_OK && !*row.id)
        rc = err_set(e, ERR_NOT_FOUND, "no token %.40s", id);
    if (rc == ERR_OK)
        *out = row;
    return rc;
}

enum err_code store_token_list(struct store *s, const struct page *p, store_row_fn *fn, void *user, bool *more, struct err *e)
{
    static const char sql[] = TOKEN_COLUMNS " WHERE tenant = $3 AND id < $1 ORDER BY id DESC LIMIT $2";
    struct token_row row;
    struct lister l = { read_token, &row, fn, user, p->limit, more };

    *more = false;
    return store_read(s, sql, ARGS(DB_S(*p->after ? p->after : PAGE_LAST), DB_I(p->limit + 1), DB_S(p->tenant)), lister_row, &l, e);
}

/* ---- of all tenants ---- */

struct all { store_row_fn *fn; void *user; };

static enum err_code all_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    const struct all *a = user;
    struct token_row row;

    (void)n_col;
    read_token(&row, col);
    return a->fn(a->user, &row, e);
}

enum err_code store_tokens_all(struct store *s, store_row_fn *fn, void *user, struct err *e)
{
    return store_read(s, TOKEN_COLUMNS " ORDER BY id", NULL, 0, all_row, &(struct all){ fn, user }, e);
}

enum err_code store_tokens_read(const char *dir, store_row_fn *fn, void *user, struct err *e)
{
    return store_look(dir, "tokens", TOKEN_COLUMNS " ORDER BY tenant, id", NULL, 0, all_row, &(struct all){ fn, user }, e);
}

/* ---- revocation and use ---- */

struct revoke { const char *tenant, *id; int64_t now_ms; };

static enum err_code revoke(struct txn *t, void *arg, struct err *e)
{
    static const char sql[] = "UPDATE tokens SET revoked_ms = COALESCE(revoked_ms, $3) WHERE id = $1 AND ($2 IS NULL OR tenant = $2)";
    const struct revoke *a = arg;

    return txn_change(t, sql, ARGS(DB_S(a->id), DB_S(a->tenant), DB_I(a->now_ms)), ERR_NOT_FOUND, "there is no such token", e);
}

enum err_code store_token_revoke(struct store *s, const char *tenant, const char *id, int64_t now_ms, struct err *e)
{
    return store_write(s, revoke, &(struct revoke){ tenant, id, now_ms }, e);
}

struct uses { const struct token_use *use; size_t n; };

static enum err_code note_uses(struct txn *t, void *arg, struct err *e)
{
    const struct uses *a = arg;
    enum err_code rc = ERR_OK;

    for (size_t i = 0; i < a->n && rc == ERR_OK; i++)
        rc = txn_query(t, "UPDATE tokens SET used_ms = $2 WHERE id = $1", ARGS(DB_S(a->use[i].id), DB_I(a->use[i].ms)), NULL, NULL, e);
    return rc;
}

enum err_code store_tokens_used(struct store *s, const struct token_use *use, size_t n, struct err *e)
{
    return n ? store_write(s, note_uses, &(struct uses){ use, n }, e) : ERR_OK;
}
