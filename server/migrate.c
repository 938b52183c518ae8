/* server/migrate.c: see migrate.h. What was applied stands in the table migrations, with the SHA-256 of the text: a file is never edited once
 * released, and a database that disagrees is refused rather than guessed at. */
#include "server/migrate.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HASH_LEN = 2 * SHA256_DIGEST_SIZE + 1 };

struct applied { const struct embedded_file *files; int n_files; int64_t last; };

static void hash_text(char hash[HASH_LEN], const struct embedded_file *f)
{
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];

    sha256_init(&sha);
    sha256_update(&sha, f->len, (const uint8_t *)f->text);
    sha256_digest(&sha, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(hash + 2 * i, 3, "%02x", digest[i]);
}

static enum err_code check_applied(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct applied *a = user;
    char hash[HASH_LEN];

    (void)n_col;
    a->last = col[0].u.i;
    if (a->last < 1 || a->last > a->n_files)
        return err_set(e, ERR_CONFLICT, "the database is of a newer version of this program (migration %lld, known are %d)",
                       (long long)a->last, a->n_files);
    hash_text(hash, &a->files[a->last - 1]);
    if (strcmp(hash, col[1].u.s) != 0)
        return err_set(e, ERR_CONFLICT, "the database was made by another text of migration %lld", (long long)a->last);
    return ERR_OK;
}

static enum err_code apply(struct db *db, const struct embedded_file *f, int64_t version, int64_t now_ms, struct err *e)
{
    static const char record[] = "INSERT INTO migrations (version, name, hash, applied_ms) VALUES ($1, $2, $3, $4)";
    char hash[HASH_LEN];
    const struct db_val arg[] = { DB_I(version), DB_S(f->name), DB_S(hash), DB_I(now_ms) };
    enum err_code rc = db->drv->txn(db, DB_BEGIN, e);

    if (rc != ERR_OK)
        return rc;
    hash_text(hash, f);
    rc = db->drv->script(db, f->text, e);
    if (rc == ERR_OK)
        rc = db->drv->query(db, record, arg, 4, NULL, NULL, NULL, e);
    if (rc == ERR_OK)
        rc = db->drv->txn(db, DB_COMMIT, e);
    if (rc != ERR_OK)
        (void)db->drv->txn(db, DB_ROLLBACK, NULL);
    return rc;
}

enum err_code migrate_check(struct db *db, const struct embedded_file *files, int64_t *version, struct err *e)
{
    struct applied a = { files, 0, 0 };
    enum err_code rc;

    for (; files[a.n_files].name; a.n_files++)
        if (strtol(files[a.n_files].name, NULL, 10) != a.n_files + 1)
            return err_set(e, ERR_INTERNAL, "migration %s: numbers must run 1, 2, ...", files[a.n_files].name);
    rc = db->drv->query(db, "SELECT version, hash FROM migrations ORDER BY version", NULL, 0, check_applied, &a, NULL, e);
    *version = a.last;
    return rc;
}

enum err_code migrate(struct db *db, const struct embedded_file *files, int64_t now_ms, struct err *e)
{
    static const char table[] = "CREATE TABLE IF NOT EXISTS migrations (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, "
                                "hash TEXT NOT NULL, applied_ms BIGINT NOT NULL)";
    int64_t version = 0;
    enum err_code rc = db->drv->script(db, table, e);

    if (rc == ERR_OK)
        rc = migrate_check(db, files, &version, e);
    for (; rc == ERR_OK && files[version].name; version++)
        rc = apply(db, &files[version], version + 1, now_ms, e);
    return rc;
}
