/* server/inbox.c: see inbox.h. A file gets its last name when it is whole and belongs to whom it must. */
#include "server/inbox.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/jsonguard.h"
#include "server/log.h"
#include "server/store_impl.h"

enum { MAX_FILE = 4096, MAX_TOKENS = 100, NAME_LEN = ID_LEN + 16 };

/* ---- leaving ---- */

/* What root makes for a daemon that is not root. */
static enum err_code give(const char *path, const struct stat *owner, struct err *e)
{
    if (geteuid() != 0 || lchown(path, owner->st_uid, owner->st_gid) == 0)
        return ERR_OK;
    return err_errno(e, errno, "cannot give the file to the owner of the data directory");
}

enum err_code inbox_leave(const char *data, const char *folder, const char *id, const char *extension, const char *text, struct err *e)
{
    char dir[STORE_PATH_LEN], part[STORE_PATH_LEN + 2 * ID_LEN], path[STORE_PATH_LEN + 2 * ID_LEN];
    struct stat owner;
    enum err_code rc;

    snprintf(dir, sizeof dir, "%s/%s", data, folder);
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
        rc = err_errno(e, errno, "cannot name the file");
    if (rc != ERR_OK)
        unlink(part);
    return rc;
}

/* ---- taking ---- */

enum err_code inbox_read(json_t **out, const char *path, struct err *e)
{
    struct file_map map = { 0 };
    enum err_code rc = file_map_open(&map, path, e);

    if (rc == ERR_OK && map.len > MAX_FILE)
        rc = err_set(e, ERR_TOO_LARGE, "the file is too large");
    if (rc == ERR_OK)
        rc = json_read(out, (const char *)map.data, map.len, MAX_TOKENS, e);
    file_map_close(&map);
    return rc;
}

/* The id of a file's name, "<id>.<extension>". */
static bool is_named(const char *name, const char *prefix, const char *extension, char id[ID_LEN])
{
    size_t n = strcspn(name, ".");

    snprintf(id, ID_LEN, "%.*s", n < ID_LEN ? (int)n : 0, name);
    return name[n] == '.' && strcmp(name + n + 1, extension) == 0 && id_valid(id, prefix);
}

/* The first id behind `last`, into next; "" : there is none. */
static void find_next(DIR *d, const char *prefix, const char *extension, const char *last, char next[ID_LEN])
{
    const struct dirent *f;
    char id[ID_LEN];

    *next = '\0';
    rewinddir(d);
    while ((f = readdir(d)))
        if (is_named(f->d_name, prefix, extension, id) && strcmp(id, last) > 0 && (!*next || strcmp(id, next) < 0))
            memcpy(next, id, ID_LEN);
}

static enum err_code show(const char *path, const char *id, bool take, inbox_fn *fn, void *user, struct err *e)
{
    struct err why = { 0 };
    enum err_code rc = fn(user, path, id, &why);

    if (rc == ERR_INVALID || rc == ERR_SYNTAX || rc == ERR_TOO_LARGE || rc == ERR_NOT_FOUND) {
        log_event(LOG_WARN, "a file from the command line was skipped", LOG_S("file", path), LOG_S("error", why.msg));
        rc = ERR_OK;
    }
    if (rc == ERR_OK && take && unlink(path) != 0 && errno != ENOENT)
        rc = err_errno(&why, errno, "cannot remove a file from the command line");
    if (rc != ERR_OK && e)
        *e = why;
    return rc;
}

enum err_code inbox_each(const char *data, const char *folder, const char *prefix, const char *extension, bool take, inbox_fn *fn, void *user,
                         struct err *e)
{
    char dir[STORE_PATH_LEN], path[STORE_PATH_LEN + 2 * NAME_LEN], id[ID_LEN], last[ID_LEN] = "";
    enum err_code rc = ERR_OK;
    DIR *d;

    snprintf(dir, sizeof dir, "%s/%s", data, folder);
    d = opendir(dir);
    if (!d)
        return errno == ENOENT ? ERR_OK : err_errno(e, errno, "cannot read the folder of what the command line left");
    for (find_next(d, prefix, extension, last, id); *id && rc == ERR_OK; find_next(d, prefix, extension, last, id)) {
        snprintf(path, sizeof path, "%s/%s.%s", dir, id, extension);
        rc = show(path, id, take, fn, user, e);
        memcpy(last, id, sizeof last);
    }
    closedir(d);
    return rc;
}
