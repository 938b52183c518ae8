/* server/token_files.c: see token.h: tokens on their way from the command line to the daemon. */
#include <stdio.h>
#include <string.h>

#include "core/jsonguard.h"
#include "core/mem.h"
#include "server/inbox.h"
#include "server/token.h"

static const char folder[] = "tokens";

/* ---- leaving ---- */

enum err_code token_leave(const char *data, const struct token_row *row, struct err *e)
{
    json_t *j = json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:I}", "id", row->id, "tenant", row->tenant, "name", row->name, "scope",
                          scope_name(row->scope), "hash", row->hash, "created_ms", (json_int_t)row->created_ms, "expires_ms",
                          (json_int_t)row->expires_ms);
    char *text = j ? json_text(j, JSON_COMPACT, NULL) : NULL;
    enum err_code rc = text ? inbox_leave(data, folder, row->id, "json", text, e) : err_set(e, ERR_NOMEM, "out of memory");

    json_decref(j);
    mem_free(text);
    return rc;
}

enum err_code token_leave_revoke(const char *data, const char *id, struct err *e)
{
    return inbox_leave(data, folder, id, "revoke", "", e);
}

/* ---- taking ---- */

static enum err_code parse(struct token_row *row, const json_t *j, struct err *e)
{
    const char *id, *tenant, *name, *scope, *hash;
    json_int_t created, expires;

    if (json_unpack((json_t *)(uintptr_t)j, "{s:s,s:s,s:s,s:s,s:s,s:I,s:I}", "id", &id, "tenant", &tenant, "name", &name, "scope", &scope, "hash",
                    &hash, "created_ms", &created, "expires_ms", &expires) != 0 || !id_valid(id, "tok") || !tenant_valid(tenant) ||
        strlen(name) >= sizeof row->name || !scope_parse(scope, &row->scope) || strlen(hash) != FILE_HASH_LEN - 1)
        return err_set(e, ERR_INVALID, "this is no token");
    snprintf(row->id, sizeof row->id, "%s", id);
    snprintf(row->tenant, sizeof row->tenant, "%s", tenant);
    snprintf(row->name, sizeof row->name, "%s", name);
    snprintf(row->hash, sizeof row->hash, "%s", hash);
    row->created_ms = created;
    row->expires_ms = expires;
    return ERR_OK;
}

struct shown { store_row_fn *fn; void *user; };

static enum err_code show_token(void *user, const char *path, const char *id, struct err *e)
{
    const struct shown *s = user;
    struct token_row row = { .scope = SCOPE_MISSING };
    json_t *j = NULL;
    enum err_code rc = inbox_read(&j, path, e);

    if (rc == ERR_OK)
        rc = parse(&row, j, e);
    if (rc == ERR_OK && strcmp(row.id, id) != 0)
        rc = err_set(e, ERR_INVALID, "this is another token");
    json_decref(j);
    return rc == ERR_OK ? s->fn(s->user, &row, e) : rc;
}

static enum err_code show_revoke(void *user, const char *path, const char *id, struct err *e)
{
    const struct shown *s = user;
    struct token_row row = { .scope = SCOPE_MISSING };

    (void)path;
    snprintf(row.id, sizeof row.id, "%s", id);
    return s->fn(s->user, &row, e);
}

enum err_code token_files(const char *data, bool take, store_row_fn *fn, void *user, struct err *e)
{
    struct shown s = { fn, user };
    enum err_code rc = inbox_each(data, folder, "tok", "json", take, show_token, &s, e);

    return rc == ERR_OK ? inbox_each(data, folder, "tok", "revoke", take, show_revoke, &s, e) : rc;
}
