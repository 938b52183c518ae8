/* server/token_files.c: see token.h: tokens on their way from the command line to the daemon. A file gets its last name when it is whole and
 * belongs to whom it must. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/jsonguard.h"
#include "core/mem.h"
#include "server/log.h"
#include "server/store_impl.h"
#include "server/token.h"

enum { MAX_FILE = 4096, MAX_TOKENS = 100 };

static void folder(char *path, size_t n, const char *data)
{
    snprintf(path, n, "%s/tokens", data);
}

/* ---- leaving ---- */

/* What root makes for a daemon that is not root. */
static enum err_code give(const char *path, const struct stat *owner, struct err *e)
{
    if (geteuid() != 0 || lchown(path, owner->st_uid, owner->st_gid) == 0)
        return ERR_OK;
    return err_errno(e, errno, "cannot give the token to the owner of the data directory");
}

static enum err_code leave(const char *data, const char *id, const char *extension, const char *text, struct err *e)
{
    char dir[STORE_PATH_LEN], part[STORE_PATH_LEN + 2 * ID_LEN], path[STORE_PATH_LEN + 2 * ID_LEN];
    struct stat owner;
    enum err_code rc;

    folder(dir, sizeof dir, data);
    snprintf(part, sizeof part, "%s/%s.new", dir, id);
    snprintf(path, sizeof path, "%s/%s.%s", dir, id, extension);
    rc = store_make_dirs(dir, e);
    if (rc == ERR_OK && stat(data, &owner) != 0)
        rc = err_errno(e, errno, "cannot stat the data directory");
    if (rc == ERR_OK)
        rc = give(dir, &owner, e);
    if (rc == ERR_OK)
        rc = file_write(part, text, strlen(text), e);
    if (rc == ERR_OK)
        rc = give(part, &owner, e);
    if (rc == ERR_OK && rename(part, path) != 0)
        rc = err_errno(e, errno, "cannot name the token's file");
    if (rc != ERR_OK)
        unlink(part);
    return rc;
}

enum err_code token_leave(const char *data, const struct token_row *row, struct err *e)
{
    json_t *j = json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:I}", "id", row->id, "tenant", row->tenant, "name", row->name, "scope",
                          scope_name(row->scope), "hash", row->hash, "created_ms", (json_int_t)row->created_ms, "expires_ms",
                          (json_int_t)row->expires_ms);
    char *text = j ? json_text(j, JSON_COMPACT, NULL) : NULL;
    enum err_code rc = text ? leave(data, row->id, "json", text, e) : err_set(e, ERR_NOMEM, "out of memory");

    json_decref(j);
    mem_free(text);
    return rc;
}

enum err_code token_leave_revoke(const char *data, const char *id, struct err *e)
{
    return leave(data, id, "revoke", "", e);
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

static enum err_code read_token(struct token_row *row, const char *path, struct err *e)
{
    struct file_map map = { 0 };
    json_t *j = NULL;
    enum err_code rc = file_map_open(&map, path, e);

    if (rc == ERR_OK && map.len > MAX_FILE)
        rc = err_set(e, ERR_TOO_LARGE, "this is no token");
    if (rc == ERR_OK)
        rc = json_read(&j, (const char *)map.data, map.len, MAX_TOKENS, e);
    if (rc == ERR_OK)
        rc = parse(row, j, e);
    json_decref(j);
    file_map_close(&map);
    return rc;
}

/* The id of a file's name, "<id>.<extension>". */
static bool is_named(const char *name, const char *extension, char id[ID_LEN])
{
    size_t n = strcspn(name, ".");

    snprintf(id, ID_LEN, "%.*s", n < ID_LEN ? (int)n : 0, name);
    return name[n] == '.' && strcmp(name + n + 1, extension) == 0 && id_valid(id, "tok");
}

static enum err_code show(const char *path, const char *id, bool token, store_row_fn *fn, void *user, struct err *e)
{
    struct token_row row = { .scope = SCOPE_MISSING };
    enum err_code rc = token ? read_token(&row, path, e) : ERR_OK;

    if (rc == ERR_OK && token && strcmp(row.id, id) != 0)
        rc = err_set(e, ERR_INVALID, "this is another token");
    snprintf(row.id, sizeof row.id, "%s", id);
    return rc == ERR_OK ? fn(user, &row, e) : rc;
}

enum err_code token_files(const char *data, bool take, store_row_fn *fn, void *user, struct err *e)
{
    static const char *const extensions[] = { "json", "revoke" };
    char dir[STORE_PATH_LEN], path[STORE_PATH_LEN + 300], id[ID_LEN];
    enum err_code rc = ERR_OK;
    const struct dirent *f;
    DIR *d;

    folder(dir, sizeof dir, data);
    d = opendir(dir);
    if (!d)
        return errno == ENOENT ? ERR_OK : err_errno(e, errno, "cannot read the folder of new tokens");
    for (int i = 0; i < 2 && rc == ERR_OK; i++) {
        rewinddir(d);
        while (rc == ERR_OK && (f = readdir(d))) {
            struct err why = { 0 };

            if (!is_named(f->d_name, extensions[i], id))
                continue;
            snprintf(path, sizeof path, "%s/%s", dir, f->d_name);
            rc = show(path, id, i == 0, fn, user, &why);
            if (rc == ERR_OK && take)
                rc = unlink(path) == 0 || errno == ENOENT ? ERR_OK : err_errno(&why, errno, "cannot remove the file of a new token");
            if (rc == ERR_INVALID || rc == ERR_SYNTAX || rc == ERR_TOO_LARGE || rc == ERR_NOT_FOUND) {
                log_event(LOG_WARN, "a file of a new token was skipped", LOG_S("file", f->d_name), LOG_S("error", why.msg));
                rc = take && unlink(path) != 0 && errno != ENOENT ? err_errno(&why, errno, "cannot remove the file of a new token") : ERR_OK;
            }
            if (rc != ERR_OK && e)
                *e = why;
        }
    }
    closedir(d);
    return rc;
}
