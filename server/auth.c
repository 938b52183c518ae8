/* server/auth.c: see auth.h. A table sorted by id. Locks: take_lock is held while files are taken, which writes to the store; lock, innermost, for a
 * look at the table. */
#include "server/auth.h"

#include <nettle/memops.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "server/log.h"
#include "server/token.h"

enum { LOOK_MS = 250, COMPLAIN_MS = 60000, ADMIN_TOKEN_MIN = 32 };
#define ADMIN_ID "admin_token" /* of the configuration's */

struct entry { char id[ID_LEN], tenant[TENANT_LEN], hash[FILE_HASH_LEN]; enum scope scope; int64_t expires_ms, used_ms; bool used; };
struct auth {
    struct store *store;
    char data[3072];
    enum access access;
    bool loopback;
    char admin_hash[FILE_HASH_LEN]; /* "" : none */
    atomic_bool any;                /* there is a token, or was */
    atomic_int_least64_t looked_ms, complained_ms;
    pthread_mutex_t take_lock, lock;
    struct entry *entry;
    size_t n, room;
};

/* ---- the table; the lock is held ---- */

/* Where id stands, or would. */
static size_t place(const struct auth *a, const char *id)
{
    size_t low = 0, high = a->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(a->entry[middle].id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct entry *find(struct auth *a, const char *id)
{
    size_t at = place(a, id);

    return at < a->n && strcmp(a->entry[at].id, id) == 0 ? &a->entry[at] : NULL;
}

static bool is_valid(const struct entry *t, int64_t now_ms)
{
    return !t->expires_ms || now_ms < t->expires_ms;
}

static enum err_code insert(struct auth *a, const struct token_row *row, struct err *e)
{
    size_t at = place(a, row->id);

    if (find(a, row->id))
        return ERR_OK;
    if (a->n == a->room) {
        size_t room = a->room ? 2 * a->room : 16;
        void *more = mem_realloc(a->entry, room * sizeof *a->entry);

        if (!more)
            return err_set(e, ERR_NOMEM, "out of memory");
        a->entry = more;
        a->room = room;
    }
    memmove(a->entry + at + 1, a->entry + at, (a->n - at) * sizeof *a->entry);
    a->n++;
    a->entry[at] = (struct entry){ .scope = row->scope, .expires_ms = row->expires_ms };
    memcpy(a->entry[at].id, row->id, ID_LEN);
    memcpy(a->entry[at].tenant, row->tenant, TENANT_LEN);
    memcpy(a->entry[at].hash, row->hash, FILE_HASH_LEN);
    return ERR_OK;
}

static void drop(struct auth *a, const char *id)
{
    struct entry *t = find(a, id);

    if (t)
        memmove(t, t + 1, (size_t)(a->entry + a->n-- - (t + 1)) * sizeof *t);
}

/* ---- tokens come and go ---- */

static enum err_code load_row(void *user, const void *row, struct err *e)
{
    const struct token_row *t = row;
    struct auth *a = user;
    enum err_code rc = ERR_OK;

    atomic_store(&a->any, true);
    pthread_mutex_lock(&a->lock);
    if (!t->revoked_ms)
        rc = insert(a, t, e);
    pthread_mutex_unlock(&a->lock);
    return rc;
}

enum err_code auth_add(struct auth *a, const struct token_row *row, struct err *e)
{
    enum err_code rc = store_token_add(a->store, row, e);

    return rc == ERR_OK ? load_row(a, row, e) : rc;
}

/* take_lock is held: nobody takes a file of the same token. */
static enum err_code revoke(struct auth *a, const char *tenant, const char *id, int64_t now_ms, struct err *e)
{
    enum err_code rc = store_token_revoke(a->store, tenant, id, now_ms, e);

    if (rc != ERR_OK)
        return rc;
    pthread_mutex_lock(&a->lock);
    drop(a, id);
    pthread_mutex_unlock(&a->lock);
    return ERR_OK;
}

enum err_code auth_revoke(struct auth *a, const char *tenant, const char *id, int64_t now_ms, struct err *e)
{
    enum err_code rc;

    pthread_mutex_lock(&a->take_lock);
    rc = revoke(a, tenant, id, now_ms, e);
    pthread_mutex_unlock(&a->take_lock);
    return rc;
}

struct taking { struct auth *a; int64_t now_ms; };

/* One that was taken and revoked before its file was removed must not come back: what the table says counts. */
static enum err_code take_one(void *user, const void *row, struct err *e)
{
    const struct token_row *t = row;
    const struct taking *k = user;
    struct token_row stored;
    enum err_code rc;

    if (!*t->hash) {
        log_event(LOG_INFO, "token revoked from the command line", LOG_S("token", t->id));
        return revoke(k->a, NULL, t->id, k->now_ms, e);
    }
    rc = store_token_add(k->a->store, t, e);
    if (rc == ERR_OK)
        rc = store_token_get(k->a->store, t->tenant, t->id, &stored, e);
    if (rc == ERR_OK)
        rc = load_row(k->a, &stored, e);
    if (rc == ERR_OK)
        log_event(LOG_INFO, "token from the command line", LOG_S("token", t->id), LOG_S("tenant", t->tenant), LOG_S("scope", scope_name(t->scope)));
    return rc;
}

static enum err_code take_files(struct auth *a, int64_t now_ms, struct err *e)
{
    enum err_code rc;

    pthread_mutex_lock(&a->take_lock);
    atomic_store(&a->looked_ms, now_ms);
    rc = token_files(a->data, true, take_one, &(struct taking){ a, now_ms }, e);
    pthread_mutex_unlock(&a->take_lock);
    return rc;
}

/* now: even if the last look was just now. */
static void look(struct auth *a, bool now, int64_t now_ms)
{
    int64_t since = now_ms - atomic_load(&a->looked_ms);
    struct err e = { 0 };

    if (!now && since >= 0 && since < LOOK_MS)
        return;
    if (take_files(a, now_ms, &e) == ERR_OK || now_ms - atomic_load(&a->complained_ms) < COMPLAIN_MS)
        return;
    atomic_store(&a->complained_ms, now_ms);
    log_event(LOG_WARN, "new tokens cannot be taken", LOG_S("error", e.msg));
}

/* ---- start and end ---- */

static bool asked_for(struct auth *a)
{
    return a->access == ACCESS_TOKEN || (a->access == ACCESS_AUTO && (!a->loopback || *a->admin_hash || atomic_load(&a->any)));
}

static enum err_code check_admin_token(const struct auth_conf *c, struct err *e)
{
    if (*c->admin_token && strlen(c->admin_token) < ADMIN_TOKEN_MIN)
        return err_set(e, ERR_INVALID, "admin_token must have at least %d characters", ADMIN_TOKEN_MIN);
    return ERR_OK;
}

static enum err_code nobody_could_come_in(bool loopback, struct err *e)
{
    return err_set(e, ERR_FORBIDDEN, "tokens are asked for%s, and there is no valid one: make one (espalierd token create), or set admin_token; "
                   "--access open lets everybody in who reaches the address", loopback ? "" : " where the address is not loopback");
}

static enum err_code init(struct auth *a, const struct auth_conf *c, int64_t now_ms, struct err *e)
{
    enum err_code rc = check_admin_token(c, e);

    if (rc == ERR_OK && *c->admin_token)
        token_hash(a->admin_hash, c->admin_token);
    if (rc == ERR_OK)
        rc = take_files(a, now_ms, e);
    if (rc == ERR_OK)
        rc = store_tokens_all(a->store, load_row, a, e);
    if (rc == ERR_OK && asked_for(a) && !*a->admin_hash && auth_count(a, now_ms) == 0)
        rc = nobody_could_come_in(a->loopback, e);
    return rc;
}

struct preview { int64_t now_ms, valid; bool any; };

static enum err_code preview_row(void *user, const void *row, struct err *e)
{
    const struct token_row *t = row;
    struct preview *p = user;

    (void)e;
    p->any = p->any || *t->hash;
    p->valid += *t->hash && !t->revoked_ms && (!t->expires_ms || p->now_ms < t->expires_ms);
    return ERR_OK;
}

enum err_code auth_preview(const struct auth_conf *c, int64_t now_ms, struct err *e)
{
    struct preview p = { .now_ms = now_ms };
    bool asked;
    enum err_code rc = check_admin_token(c, e);

    if (rc == ERR_OK)
        rc = store_tokens_read(c->data, preview_row, &p, e);
    if (rc == ERR_OK)
        rc = token_files(c->data, false, preview_row, &p, e);
    asked = c->access == ACCESS_TOKEN || (c->access == ACCESS_AUTO && (!c->loopback || p.any));
    return rc == ERR_OK && asked && !*c->admin_token && p.valid == 0 ? nobody_could_come_in(c->loopback, e) : rc;
}

enum err_code auth_new(struct auth **out, struct store *s, const struct auth_conf *c, int64_t now_ms, struct err *e)
{
    struct auth *a = mem_zalloc(1, sizeof *a);
    enum err_code rc;

    if (!a)
        return err_set(e, ERR_NOMEM, "out of memory");
    a->store = s;
    a->access = c->access;
    a->loopback = c->loopback;
    snprintf(a->data, sizeof a->data, "%s", c->data);
    pthread_mutex_init(&a->lock, NULL);
    pthread_mutex_init(&a->take_lock, NULL);
    rc = init(a, c, now_ms, e);
    if (rc == ERR_OK)
        *out = a;
    else
        auth_free(a);
    return rc;
}

void auth_free(struct auth *a)
{
    struct err e = { 0 };

    if (!a)
        return;
    if (auth_flush(a, &e) != ERR_OK)
        log_event(LOG_WARN, "the last uses of tokens are not written", LOG_S("error", e.msg));
    pthread_mutex_destroy(&a->lock);
    pthread_mutex_destroy(&a->take_lock);
    mem_free(a->entry);
    mem_free(a);
}

/* ---- requests ---- */

bool auth_on(struct auth *a, int64_t now_ms)
{
    if (a->access == ACCESS_OPEN)
        return false;
    look(a, false, now_ms);
    return asked_for(a);
}

/* Constant time: how much of a hash is right does not show. */
static bool same(const char *hash, const char *other)
{
    return memeql_sec(hash, other, FILE_HASH_LEN - 1) != 0;
}

static bool known(struct auth *a, const char *id, const char *hash, int64_t now_ms, struct auth_who *out, bool *expired)
{
    struct entry *t;
    bool ok;

    pthread_mutex_lock(&a->lock);
    t = find(a, id);
    ok = t && same(t->hash, hash);
    *expired = ok && !is_valid(t, now_ms);
    ok = ok && !*expired;
    if (ok) {
        memcpy(out->token, t->id, sizeof out->token);
        memcpy(out->tenant, t->tenant, sizeof out->tenant);
        out->scope = t->scope;
        t->used_ms = now_ms;
        t->used = true;
    }
    pthread_mutex_unlock(&a->lock);
    return ok;
}

enum err_code auth_check(struct auth *a, const char *text, int64_t now_ms, struct auth_who *out, struct err *e)
{
    char id[ID_LEN], hash[FILE_HASH_LEN];
    bool expired = false, ours = token_id(id, text);

    token_hash(hash, text);
    if (*a->admin_hash && same(hash, a->admin_hash)) {
        *out = (struct auth_who){ .token = ADMIN_ID, .tenant = TENANT_DEFAULT, .scope = SCOPE_ADMIN };
        return ERR_OK;
    }
    if (ours && known(a, id, hash, now_ms, out, &expired))
        return ERR_OK;
    if (ours && !expired) { /* perhaps it was made just now */
        look(a, true, now_ms);
        if (known(a, id, hash, now_ms, out, &expired))
            return ERR_OK;
    }
    return err_set(e, ERR_UNAUTHORIZED, expired ? "the token has expired" : "the token is not valid");
}

bool auth_alive(struct auth *a, const char *token, int64_t now_ms)
{
    const struct entry *t;
    bool alive;

    if (strcmp(token, ADMIN_ID) == 0)
        return true;
    look(a, false, now_ms);
    pthread_mutex_lock(&a->lock);
    t = find(a, token);
    alive = t && is_valid(t, now_ms);
    pthread_mutex_unlock(&a->lock);
    return alive;
}

int64_t auth_last_use(struct auth *a, const char *id)
{
    const struct entry *t;
    int64_t ms;

    pthread_mutex_lock(&a->lock);
    t = find(a, id);
    ms = t ? t->used_ms : 0;
    pthread_mutex_unlock(&a->lock);
    return ms;
}

int64_t auth_count(struct auth *a, int64_t now_ms)
{
    int64_t n = 0;

    pthread_mutex_lock(&a->lock);
    for (size_t i = 0; i < a->n; i++)
        n += is_valid(&a->entry[i], now_ms);
    pthread_mutex_unlock(&a->lock);
    return n;
}

/* ---- last uses ---- */

/* A copy of those that were used since the last call; NULL: none, or out of memory, and then they keep. */
static struct token_use *uses(struct auth *a, size_t *n)
{
    struct token_use *list = NULL;

    *n = 0;
    pthread_mutex_lock(&a->lock);
    list = a->n ? mem_alloc(a->n * sizeof *list) : NULL;
    for (size_t i = 0; list && i < a->n; i++)
        if (a->entry[i].used) {
            memcpy(list[*n].id, a->entry[i].id, ID_LEN);
            list[(*n)++].ms = a->entry[i].used_ms;
            a->entry[i].used = false;
        }
    pthread_mutex_unlock(&a->lock);
    return list;
}

enum err_code auth_flush(struct auth *a, struct err *e)
{
    size_t n;
    struct token_use *list = uses(a, &n);
    enum err_code rc = store_tokens_used(a->store, list, n, e);

    mem_free(list);
    return rc;
}
