/* server/store_answers.c: answers to repeated requests. What was made and the answer under its key are one transaction, so a crash leaves both or
 * neither. Which keys are under way stands in memory alone: after a crash none is. */
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "server/store_impl.h"

struct under_way { struct under_way *next; char tenant[TENANT_LEN], key[]; };

enum err_code answer_row_add(struct txn *t, const struct answer *a, const char *tenant, struct err *e)
{
    static const char sql[] = "INSERT INTO answers (key, fingerprint, created_ms, location, body, tenant) VALUES ($1, $2, $3, $4, $5, $6)"
                              " ON CONFLICT (tenant, key) DO UPDATE SET fingerprint = $2, created_ms = $3, location = $4, body = $5";

    if (!a)
        return ERR_OK;
    return txn_query(t, sql, ARGS(DB_S(a->key), DB_S(a->fingerprint), DB_I(a->created_ms), DB_S(a->location), DB_S(a->body), DB_S(tenant)),
                     NULL, NULL, e);
}

static struct under_way **find(struct store *s, const char *tenant, const char *key)
{
    struct under_way **at = &s->under_way;

    while (*at && (strcmp((*at)->tenant, tenant) != 0 || strcmp((*at)->key, key) != 0))
        at = &(*at)->next;
    return at;
}

static enum err_code mark(struct store *s, const char *tenant, const char *key, struct err *e)
{
    size_t n = strlen(key) + 1;
    struct under_way *u = mem_alloc(sizeof *u + n);
    bool taken;

    if (!u)
        return err_set(e, ERR_NOMEM, "out of memory");
    snprintf(u->tenant, sizeof u->tenant, "%s", tenant);
    memcpy(u->key, key, n);
    pthread_mutex_lock(&s->pool_lock);
    taken = *find(s, tenant, key) != NULL;
    if (!taken) {
        u->next = s->under_way;
        s->under_way = u;
    }
    pthread_mutex_unlock(&s->pool_lock);
    if (!taken)
        return ERR_OK;
    mem_free(u);
    return err_set(e, ERR_CONFLICT, "a request with this Idempotency-Key is under way");
}

void store_answer_end(struct store *s, const char *tenant, const char *key)
{
    struct under_way **at, *u;

    pthread_mutex_lock(&s->pool_lock);
    at = find(s, tenant, key);
    u = *at;
    if (u)
        *at = u->next;
    pthread_mutex_unlock(&s->pool_lock);
    mem_free(u);
}

struct found { const char *fingerprint; char *location; size_t n; char **body; bool other; };

static enum err_code answer_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct found *f = user;

    (void)n_col;
    f->other = strcmp(col[0].u.s, f->fingerprint) != 0;
    if (f->other)
        return ERR_OK;
    col_copy(&col[1], f->location, f->n);
    *f->body = (char *)(uintptr_t)col_text(&col[2]);
    return own_text(f->body, e);
}

enum err_code store_answer_begin(struct store *s, const char *tenant, const char *key, const char *fingerprint, int64_t now_ms, char *location,
                                 size_t n, char **body, struct err *e)
{
    static const char sql[] = "SELECT fingerprint, location, body FROM answers WHERE tenant = $1 AND key = $2 AND created_ms > $3";
    struct found f = { fingerprint, location, n, body, false };
    enum err_code rc;

    *body = NULL;
    rc = mark(s, tenant, key, e);
    if (rc != ERR_OK)
        return rc;
    rc = store_read(s, sql, ARGS(DB_S(tenant), DB_S(key), DB_I(now_ms - ANSWER_KEEP_MS)), answer_row, &f, e);
    if (rc == ERR_OK && f.other)
        rc = err_set(e, ERR_INVALID, "this Idempotency-Key was used for another request");
    if (rc != ERR_OK || *body)
        store_answer_end(s, tenant, key);
    return rc;
}

static enum err_code expire(struct txn *t, void *arg, struct err *e)
{
    return txn_query(t, "DELETE FROM answers WHERE created_ms <= $1", ARGS(DB_I(*(const int64_t *)arg)), NULL, NULL, e);
}

enum err_code store_answers_expire(struct store *s, int64_t now_ms, struct err *e)
{
    int64_t before = now_ms - ANSWER_KEEP_MS;

    return store_write(s, expire, &before, e);
}
