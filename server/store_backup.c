/* server/store_backup.c: a consistent copy of a data directory while a daemon works on it. The database is copied as of one moment; a blob that its rows
 * name is immutable, but the daemon may have removed it since (a newer checkpoint took its place): then the database is copied anew, and what
 * is there already is not copied twice. Files that only an earlier try needed are swept by the first start on the copy. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/store_impl.h"

enum { BACKUP_TRIES = 50 };

struct backup { const char *from, *to; struct store_copied *out; };

/* ---- blobs ---- */

static enum err_code copy_blob(const struct backup *b, const char *id, uint64_t bytes, struct err *e)
{
    char from[STORE_PATH_LEN], to[STORE_PATH_LEN];
    struct file_map map = { 0 };
    struct stat st;
    enum err_code rc;

    snprintf(from, sizeof from, "%s/blobs/%s", b->from, id);
    snprintf(to, sizeof to, "%s/blobs/%s", b->to, id);
    if (stat(to, &st) == 0 || link(from, to) == 0) /* a try before, or just now */
        return ERR_OK;
    rc = file_map_open(&map, from, e); /* another disk: copied. ERR_NOT_FOUND: it is gone */
    if (rc == ERR_OK && map.len != bytes)
        rc = err_set(e, ERR_IO, "the file %.40s has %llu bytes, not %llu", id, (unsigned long long)map.len, (unsigned long long)bytes);
    if (rc == ERR_OK)
        rc = file_write(to, map.data, map.len, e);
    file_map_close(&map);
    return rc;
}

static enum err_code blob_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    const struct backup *b = user;
    enum err_code rc = copy_blob(b, col[0].u.s, (uint64_t)col[1].u.i, e);

    (void)n_col;
    b->out->blobs += rc == ERR_OK;
    b->out->bytes += rc == ERR_OK ? (uint64_t)col[1].u.i : 0;
    return rc;
}

/* Checkpoints first: they are what goes away. */
static enum err_code copy_blobs(const struct backup *b, const char *database, struct err *e)
{
    static const char sql[] = "SELECT id, bytes FROM blobs ORDER BY id IN (SELECT checkpoint FROM jobs WHERE checkpoint IS NOT NULL) DESC, id";
    struct db *db = NULL;
    enum err_code rc = db_sqlite.open(&db, database, DB_WRITE, e);

    *b->out = (struct store_copied){ 0 };
    if (rc == ERR_OK)
        rc = db->drv->query(db, sql, NULL, 0, blob_row, (void *)(uintptr_t)b, NULL, e);
    db_sqlite.close(db);
    return rc;
}

/* ---- the directory ---- */

static enum err_code sync_dir(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err_code rc = fd >= 0 && fsync(fd) == 0 ? ERR_OK : err_errno(e, errno, "cannot sync the copy's directory");

    if (fd >= 0)
        close(fd);
    return rc;
}

static bool is_empty(const char *path)
{
    DIR *d = opendir(path);
    const struct dirent *f;
    bool empty = d != NULL;

    while (empty && (f = readdir(d)))
        empty = strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0;
    if (d)
        closedir(d);
    return empty;
}

static enum err_code make_target(const struct backup *b, struct err *e)
{
    char blobs[STORE_PATH_LEN], what[300];

    snprintf(what, sizeof what, "cannot make the directory %.200s", b->to);
    if (mkdir(b->to, 0700) != 0 && errno != EEXIST)
        return err_errno(e, errno, what);
    if (!is_empty(b->to))
        return err_set(e, ERR_CONFLICT, "%.200s is not an empty directory", b->to);
    snprintf(blobs, sizeof blobs, "%s/blobs", b->to);
    return mkdir(blobs, 0700) == 0 ? ERR_OK : err_errno(e, errno, what);
}

/* A copy that failed leaves nothing behind. */
static void remove_target(const struct backup *b, const char *part)
{
    char blobs[STORE_PATH_LEN];
    const struct dirent *f;
    DIR *d;

    snprintf(blobs, sizeof blobs, "%s/blobs", b->to);
    d = opendir(blobs);
    while (d && (f = readdir(d)))
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0)
            unlinkat(dirfd(d), f->d_name, 0);
    if (d)
        closedir(d);
    unlink(part);
    rmdir(blobs);
    rmdir(b->to);
}

/* ---- all of it ---- */

static enum err_code copy_all(const struct backup *b, struct db *from, const char *part, struct err *e)
{
    enum err_code rc = ERR_NOT_FOUND;

    for (int i = 0; i < BACKUP_TRIES && rc == ERR_NOT_FOUND; i++) {
        unlink(part);
        rc = from->drv->copy(from, part, e);
        if (rc == ERR_OK)
            rc = copy_blobs(b, part, e);
    }
    return rc == ERR_NOT_FOUND ? err_set(e, ERR_BUSY, "files go away faster than they can be copied; try again") : rc;
}

static enum err_code publish(const struct backup *b, const char *part, struct err *e)
{
    char path[STORE_PATH_LEN];
    enum err_code rc;

    snprintf(path, sizeof path, "%s/blobs", b->to);
    rc = sync_dir(path, e);
    snprintf(path, sizeof path, "%s/" STORE_DATABASE, b->to);
    if (rc == ERR_OK && rename(part, path) != 0)
        rc = err_errno(e, errno, "cannot name the copy of the database");
    return rc == ERR_OK ? sync_dir(b->to, e) : rc;
}

enum err_code store_backup(const char *from, const char *to, struct store_copied *out, struct err *e)
{
    const struct backup b = { from, to, out };
    char path[STORE_PATH_LEN], part[STORE_PATH_LEN];
    struct db *db = NULL;
    struct stat st;
    enum err_code rc;

    if ((size_t)snprintf(path, sizeof path, "%s/" STORE_DATABASE, from) >= sizeof path - ID_LEN || strlen(to) >= sizeof part - 2 * ID_LEN)
        return err_set(e, ERR_INVALID, "the path is too long");
    snprintf(part, sizeof part, "%s/" STORE_DATABASE ".part", to);
    if (stat(path, &st) != 0)
        return err_set(e, ERR_NOT_FOUND, "no database is in %.200s", from);
    rc = make_target(&b, e);
    if (rc != ERR_OK)
        return rc;
    rc = db_sqlite.open(&db, path, DB_READ, e);
    if (rc == ERR_OK)
        rc = copy_all(&b, db, part, e);
    db_sqlite.close(db);
    if (rc == ERR_OK)
        rc = publish(&b, part, e);
    if (rc != ERR_OK)
        remove_target(&b, part);
    return rc;
}
