/* server/store_check.c: would a daemon start on this data directory, and what is in it? Nothing is changed by asking. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "server/migrate.h"
#include "server/store_impl.h"

/* The nearest folder above that is there must take it. */
static enum err_code may_be_made(const char *dir, char *what, size_t n, struct err *e)
{
    char path[STORE_PATH_LEN];
    struct stat st;
    char *slash;

    snprintf(path, sizeof path, "%s", dir);
    do {
        slash = strrchr(path, '/');
        if (slash)
            slash[slash == path] = '\0';
        else
            snprintf(path, sizeof path, ".");
    } while (stat(path, &st) != 0 && errno == ENOENT);
    if (access(path, W_OK | X_OK) != 0)
        return err_set(e, ERR_IO, "the data directory %.100s is not there, and cannot be made in %.100s", dir, path);
    snprintf(what, n, "not there yet: the first start makes it");
    return ERR_OK;
}

static bool in_use(const char *dir)
{
    char path[STORE_PATH_LEN];
    bool locked = false;
    int fd;

    snprintf(path, sizeof path, "%s/lock", dir);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) {
        locked = flock(fd, LOCK_SH | LOCK_NB) != 0;
        close(fd);
    }
    return locked;
}

/* *db NULL: no daemon has been here yet. */
static enum err_code open_to_read(struct db **db, const char *dir, struct err *e)
{
    char path[STORE_PATH_LEN];
    struct stat st;

    *db = NULL;
    snprintf(path, sizeof path, "%s/" STORE_DATABASE, dir);
    return stat(path, &st) == 0 ? db_sqlite.open(db, path, DB_READ, e) : ERR_OK;
}

static enum err_code check_database(const char *dir, char *what, size_t n, struct err *e)
{
    struct db *db;
    int64_t version = 0;
    enum err_code rc = open_to_read(&db, dir, e);

    if (rc == ERR_OK && !db) {
        snprintf(what, n, "no database yet: the first start makes it");
        return ERR_OK;
    }
    if (rc == ERR_OK)
        rc = migrate_check(db, embedded_migrations, &version, e);
    db_sqlite.close(db);
    snprintf(what, n, "database of version %lld, %s", (long long)version, in_use(dir) ? "in use by a daemon" : "in use by nobody");
    return rc;
}

enum err_code store_check(const char *dir, char *what, size_t n, struct err *e)
{
    struct statfs fs;
    const char *refused;

    if (!*dir || strlen(dir) >= STORE_PATH_LEN - ID_LEN)
        return err_set(e, ERR_INVALID, "the path of the data directory is empty or too long");
    if (statfs(dir, &fs) != 0)
        return errno == ENOENT ? may_be_made(dir, what, n, e) : err_errno(e, errno, "cannot read the data directory");
    refused = store_fs_refused((uint64_t)fs.f_type);
    if (refused)
        return err_set(e, ERR_UNSUPPORTED, "the data directory %.200s is on %s; use a local disk", dir, refused);
    if (access(dir, R_OK | W_OK | X_OK) != 0)
        return err_set(e, ERR_IO, "cannot write to the data directory %.200s", dir);
    return check_database(dir, what, n, e);
}

enum err_code store_look(const char *dir, const char *table, const char *sql, const struct db_val *arg, int n_arg, db_row_fn *row, void *user,
                         struct err *e)
{
    struct db *db;
    int64_t tables = 0;
    enum err_code rc = open_to_read(&db, dir, e);

    if (rc == ERR_OK && !db)
        return ERR_OK;
    if (rc == ERR_OK)
        rc = db->drv->query(db, "SELECT count(*) FROM sqlite_master WHERE name = $1", ARGS(DB_S(table)), store_int_row, &tables, NULL, e);
    if (rc == ERR_OK && tables > 0)
        rc = db->drv->query(db, sql, arg, n_arg, row, user, NULL, e);
    db_sqlite.close(db);
    return rc;
}
