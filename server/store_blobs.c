/* server/store_blobs.c: immutable files and their rows. A file is published before the transaction that names it, and removed after the one that
 * dropped its last reference; a crash in between leaves a file without a row, which the sweep at the next start removes. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/store_impl.h"

void blob_path(struct store *s, const char *id, char *path, size_t n)
{
    snprintf(path, n, "%s/blobs/%s", s->dir, id);
}

void blob_new(struct store *s, char id[ID_LEN], char *path, size_t n)
{
    id_new(id, "blb");
    blob_path(s, id, path, n);
}

void store_temp_path(struct store *s, char *path, size_t n)
{
    snprintf(path, n, "%s/tmp/%llu", s->dir, (unsigned long long)atomic_fetch_add(&s->n_temp, 1));
}


const char *text_or_null(const char *s)
{
    return s && *s ? s : NULL;
}

enum err_code blob_row_add(struct txn *t, const struct blob *b, const char *tenant, struct err *e)
{
    static const char sql[] = "INSERT INTO blobs (id, hash, bytes, tenant) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING";

    if (!b || !*b->id)
        return ERR_OK;
    return txn_query(t, sql, ARGS(DB_S(b->id), DB_S(b->hash), DB_I((int64_t)b->bytes), DB_S(tenant)), NULL, NULL, e);
}

enum err_code blob_rows_drop(struct txn *t, struct err *e)
{
    static const char sql[] = /* every column that refers to a blob */
        "DELETE FROM blobs WHERE id = $1"
        " AND NOT EXISTS (SELECT 1 FROM models WHERE architecture = $1)"
        " AND NOT EXISTS (SELECT 1 FROM models WHERE weights = $1)"
        " AND NOT EXISTS (SELECT 1 FROM dataset_parts WHERE blob = $1)"
        " AND NOT EXISTS (SELECT 1 FROM jobs WHERE architecture = $1)"
        " AND NOT EXISTS (SELECT 1 FROM jobs WHERE weights = $1)"
        " AND NOT EXISTS (SELECT 1 FROM jobs WHERE checkpoint = $1)"
        " AND NOT EXISTS (SELECT 1 FROM jobs WHERE result_weights = $1)"
        " AND NOT EXISTS (SELECT 1 FROM iterations WHERE weights = $1)";
    size_t kept = 0;

    for (size_t i = 0; i < t->gone.n; i++) {
        int64_t n = 0;
        enum err_code rc = t->db->drv->query(t->db, sql, ARGS(DB_S(t->gone.id[i])), NULL, NULL, &n, e);

        if (rc != ERR_OK)
            return rc;
        if (n > 0)
            memmove(t->gone.id[kept++], t->gone.id[i], ID_LEN);
    }
    t->gone.n = kept;
    return ERR_OK;
}

static enum err_code found(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)col;
    (void)n_col;
    (void)e;
    *(bool *)user = true;
    return ERR_OK;
}

static enum err_code blob_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct blob *b = user;

    (void)n_col;
    (void)e;
    col_copy(&col[0], b->id, sizeof b->id);
    col_copy(&col[1], b->hash, sizeof b->hash);
    b->bytes = (uint64_t)col_int(&col[2]);
    return ERR_OK;
}

enum err_code store_blob_get(struct store *s, const char *id, struct blob *out, struct err *e)
{
    enum err_code rc;

    *out = (struct blob){ .id = "" };
    if (!*id)
        return ERR_OK;
    rc = store_read(s, "SELECT id, hash, bytes FROM blobs WHERE id = $1", ARGS(DB_S(id)), blob_row, out, e);
    return rc == ERR_OK && !*out->id ? err_set(e, ERR_NOT_FOUND, "the file has been deleted") : rc;
}

/* Only when it is certain that no row names it: a file too many is swept at the next start, one too few is a loss. */
void blob_discard(struct store *s, const char *id)
{
    char path[STORE_PATH_LEN];
    bool named = false;

    if (*id && store_read(s, "SELECT 1 FROM blobs WHERE id = $1", ARGS(DB_S(id)), found, &named, NULL) == ERR_OK && !named) {
        blob_path(s, id, path, sizeof path);
        unlink(path);
    }
}

/* ---- the sweep at start ---- */

/* Is there a row for this file? */
static enum err_code is_named(struct store *s, const char *name, bool *named, struct err *e)
{
    *named = false;
    return s->writer->drv->query(s->writer, "SELECT 1 FROM blobs WHERE id = $1", ARGS(DB_S(name)), found, named, NULL, e);
}

static enum err_code sweep_dir(struct store *s, const char *sub, bool keep_named, struct err *e)
{
    char path[STORE_PATH_LEN];
    struct dirent *entry;
    enum err_code rc = ERR_OK;
    bool named = false;
    DIR *dir;

    snprintf(path, sizeof path, "%s/%s", s->dir, sub);
    dir = opendir(path);
    if (!dir)
        return err_errno(e, errno, "cannot read the data directory");
    while (rc == ERR_OK && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (keep_named)
            rc = is_named(s, entry->d_name, &named, e);
        if (rc == ERR_OK && !named && unlinkat(dirfd(dir), entry->d_name, 0) != 0)
            rc = err_errno(e, errno, "cannot remove a file without a row");
    }
    closedir(dir);
    return rc;
}

enum err_code blobs_sweep(struct store *s, struct err *e)
{
    enum err_code rc = sweep_dir(s, "tmp", false, e);

    return rc == ERR_OK ? sweep_dir(s, "blobs", true, e) : rc;
}
