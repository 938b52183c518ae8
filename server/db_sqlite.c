/* server/db_sqlite.c: the driver for SQLite, and the only file that includes sqlite3.h.
 *
 * 3.40.1 can corrupt a database whose WAL two connections write or checkpoint at the same instant, so this is a duty and not a matter of speed: the
 * one DB_WRITE connection of the process owns every checkpoint; DB_READ connections are opened read-only, never checkpoint, and leave the WAL
 * alone when they close. Write transactions are BEGIN IMMEDIATE: a deferred one that reads first fails with SQLITE_BUSY_SNAPSHOT, whatever the
 * timeout. Every statement is stepped to its end and reset before query returns, so no reader pins the WAL. */
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "server/db.h"

_Thread_local long db_fail_in;

enum { CACHE_LEN = 64, MAX_COLUMNS = 32, BUSY_MS = 5000, TIDY_BUSY_MS = 50, APPLICATION_ID = 0x45535041 /* "ESPA" */ };

struct lite {
    struct db db; /* first: a struct lite is a struct db */
    sqlite3 *h;
    enum db_mode mode;
    sqlite3_stmt *cache[CACHE_LEN]; /* filled in order, then replaced round robin */
    int n_cached, next;
};

static struct lite *lite_of(struct db *db)
{
    return (struct lite *)(void *)db;
}

static bool fails_now(void)
{
    return db_fail_in > 0 && --db_fail_in == 0;
}

static enum err_code injected(struct err *e)
{
    return err_set(e, ERR_NO_SPACE, "database: the disk is full (injected)");
}

/* The error of the last call on l->h. */
static enum err_code lite_error(struct lite *l, struct err *e)
{
    int rc = sqlite3_extended_errcode(l->h), os = sqlite3_system_errno(l->h);
    enum err_code code = ERR_INTERNAL;

    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED: code = ERR_BUSY; break;
    case SQLITE_FULL: code = ERR_NO_SPACE; break;
    case SQLITE_NOMEM: code = ERR_NOMEM; break;
    case SQLITE_IOERR: code = os == ENOSPC || os == EDQUOT || os == EFBIG ? ERR_NO_SPACE : ERR_IO; break;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: code = ERR_IO; break;
    case SQLITE_CONSTRAINT: code = rc == SQLITE_CONSTRAINT_CHECK || rc == SQLITE_CONSTRAINT_NOTNULL ? ERR_INTERNAL : ERR_CONFLICT; break;
    default: break;
    }
    return err_set(e, code, "database: %s (%d)", sqlite3_errmsg(l->h), rc);
}

static enum err_code lite_script(struct db *db, const char *sql, struct err *e)
{
    struct lite *l = lite_of(db);

    if (fails_now())
        return injected(e);
    return sqlite3_exec(l->h, sql, NULL, NULL, NULL) == SQLITE_OK ? ERR_OK : lite_error(l, e);
}

/* ---- statements ---- */

static enum err_code prepare(struct lite *l, sqlite3_stmt **out, const char *sql, struct err *e)
{
    sqlite3_stmt *st = NULL;
    int at;

    for (int i = 0; i < l->n_cached; i++)
        if (strcmp(sqlite3_sql(l->cache[i]), sql) == 0) {
            *out = l->cache[i];
            return ERR_OK;
        }
    if (sqlite3_prepare_v3(l->h, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL) != SQLITE_OK)
        return lite_error(l, e);
    if (!st)
        return err_set(e, ERR_INTERNAL, "database: empty statement");
    at = l->n_cached < CACHE_LEN ? l->n_cached++ : l->next++ % CACHE_LEN;
    sqlite3_finalize(l->cache[at]);
    l->cache[at] = *out = st;
    return ERR_OK;
}

/* By name: SQLite numbers $n by first appearance. */
static enum err_code bind(struct lite *l, sqlite3_stmt *st, const struct db_val *arg, int n_arg, struct err *e)
{
    char name[16];
    int at, rc = SQLITE_OK;

    for (int i = 0; i < n_arg && rc == SQLITE_OK; i++) {
        snprintf(name, sizeof name, "$%d", i + 1);
        at = sqlite3_bind_parameter_index(st, name);
        if (at == 0)
            return err_set(e, ERR_INTERNAL, "database: the statement has no %s", name);
        switch (arg[i].type) {
        case DB_NULL: rc = sqlite3_bind_null(st, at); break;
        case DB_INT: rc = sqlite3_bind_int64(st, at, arg[i].u.i); break;
        case DB_REAL: rc = sqlite3_bind_double(st, at, arg[i].u.r); break;
        case DB_TEXT: rc = sqlite3_bind_text(st, at, arg[i].u.s, -1, SQLITE_STATIC); break;
        }
    }
    return rc == SQLITE_OK ? ERR_OK : lite_error(l, e);
}

static enum err_code columns(struct lite *l, sqlite3_stmt *st, struct db_val *col, int n, struct err *e)
{
    for (int i = 0; i < n; i++)
        switch (sqlite3_column_type(st, i)) {
        case SQLITE_INTEGER: col[i] = DB_I(sqlite3_column_int64(st, i)); break;
        case SQLITE_FLOAT: col[i] = DB_R(sqlite3_column_double(st, i)); break;
        case SQLITE_NULL: col[i] = DB_S(NULL); break;
        default:
            col[i] = DB_S((const char *)sqlite3_column_text(st, i));
            if (col[i].type == DB_NULL)
                return lite_error(l, e);
        }
    return ERR_OK;
}

static enum err_code step_all(struct lite *l, sqlite3_stmt *st, db_row_fn *row, void *user, struct err *e)
{
    struct db_val col[MAX_COLUMNS];
    int n = sqlite3_column_count(st), rc;
    enum err_code err = ERR_OK;

    if (n > MAX_COLUMNS)
        return err_set(e, ERR_INTERNAL, "database: too many columns");
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && err == ERR_OK) {
        err = columns(l, st, col, n, e);
        if (err == ERR_OK && row)
            err = row(user, col, n, e);
    }
    if (err == ERR_OK && rc != SQLITE_DONE)
        err = lite_error(l, e);
    return err;
}

static enum err_code lite_query(struct db *db, const char *sql, const struct db_val *arg, int n_arg, db_row_fn *row, void *user,
                                int64_t *n_changed, struct err *e)
{
    struct lite *l = lite_of(db);
    sqlite3_stmt *st = NULL;
    enum err_code rc = fails_now() ? injected(e) : prepare(l, &st, sql, e);

    if (rc != ERR_OK)
        return rc;
    rc = bind(l, st, arg, n_arg, e);
    if (rc == ERR_OK)
        rc = step_all(l, st, row, user, e);
    if (n_changed)
        *n_changed = rc == ERR_OK && !sqlite3_stmt_readonly(st) ? sqlite3_changes64(l->h) : 0;
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return rc;
}

/* After some errors (disk full, out of memory) SQLite has rolled back by itself: then there is nothing left to do. */
static enum err_code lite_txn(struct db *db, enum db_step step, struct err *e)
{
    static const char *const sql[] = { "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK" };
    struct lite *l = lite_of(db);
    enum err_code rc;

    if (step == DB_ROLLBACK)
        return sqlite3_get_autocommit(l->h) || sqlite3_exec(l->h, sql[step], NULL, NULL, NULL) == SQLITE_OK ? ERR_OK : lite_error(l, e);
    if (step == DB_COMMIT && sqlite3_get_autocommit(l->h))
        return err_set(e, ERR_INTERNAL, "database: the transaction is gone");
    rc = fails_now() ? injected(e) : ERR_OK;
    if (rc == ERR_OK && sqlite3_exec(l->h, sql[step], NULL, NULL, NULL) != SQLITE_OK)
        rc = lite_error(l, e);
    return rc;
}

/* ---- open and close ---- */

static enum err_code one_int(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)n_col;
    (void)e;
    *(int64_t *)user = col[0].u.i;
    return ERR_OK;
}

/* A database of another program is refused, not changed. *is_new: an empty one. */
static enum err_code check_application(struct lite *l, bool *is_new, struct err *e)
{
    int64_t id = 0, tables = 0;
    enum err_code rc = lite_query(&l->db, "PRAGMA application_id", NULL, 0, one_int, &id, NULL, e);

    if (rc == ERR_OK)
        rc = lite_query(&l->db, "SELECT count(*) FROM sqlite_master", NULL, 0, one_int, &tables, NULL, e);
    if (rc != ERR_OK || id == APPLICATION_ID)
        return rc;
    *is_new = id == 0 && tables == 0;
    return *is_new ? ERR_OK : err_set(e, ERR_CONFLICT, "the database belongs to another program");
}

/* After the switch to the log: a commit there costs one sync, before it four. */
static enum err_code name_application(struct lite *l, struct err *e)
{
    char sql[64];

    snprintf(sql, sizeof sql, "PRAGMA application_id = %d", APPLICATION_ID);
    return lite_script(&l->db, sql, e);
}

static enum err_code is_wal(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)user;
    if (n_col == 1 && col[0].type == DB_TEXT && strcmp(col[0].u.s, "wal") == 0)
        return ERR_OK;
    return err_set(e, ERR_IO, "database: the file system does not support the write-ahead log");
}

static enum err_code configure(struct lite *l, struct err *e)
{
    static const char both[] = "PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;";
    static const char reader[] = "PRAGMA query_only = ON; PRAGMA cache_size = -512; PRAGMA wal_autocheckpoint = 0;";
    static const char writer[] = "PRAGMA synchronous = FULL; PRAGMA cache_size = -1024; PRAGMA wal_autocheckpoint = 1000;"
                                 "PRAGMA journal_size_limit = 67108864;";
    bool is_new = false;
    enum err_code rc;

    sqlite3_extended_result_codes(l->h, 1);
    sqlite3_busy_timeout(l->h, BUSY_MS);
    rc = lite_script(&l->db, both, e);
    if (rc == ERR_OK && l->mode == DB_READ) {
        sqlite3_db_config(l->h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        return lite_script(&l->db, reader, e);
    }
    if (rc == ERR_OK)
        rc = check_application(l, &is_new, e);
    if (rc == ERR_OK)
        rc = lite_query(&l->db, "PRAGMA journal_mode = WAL", NULL, 0, is_wal, NULL, NULL, e);
    if (rc == ERR_OK)
        rc = lite_script(&l->db, writer, e);
    return rc == ERR_OK && is_new ? name_application(l, e) : rc;
}

static void lite_close(struct db *db)
{
    struct lite *l;

    if (!db)
        return;
    l = lite_of(db);
    for (int i = 0; i < l->n_cached; i++)
        sqlite3_finalize(l->cache[i]);
    if (l->mode == DB_WRITE && l->h)
        sqlite3_wal_checkpoint_v2(l->h, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sqlite3_close_v2(l->h);
    mem_free(l);
}

static enum err_code lite_open(struct db **out, const char *target, enum db_mode mode, struct err *e)
{
    int flags = mode == DB_READ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    struct lite *l = mem_zalloc(1, sizeof *l);
    enum err_code rc;

    if (!l)
        return err_set(e, ERR_NOMEM, "out of memory");
    l->db.drv = &db_sqlite;
    l->mode = mode;
    if (sqlite3_open_v2(target, &l->h, flags, NULL) != SQLITE_OK)
        rc = l->h ? lite_error(l, e) : err_set(e, ERR_NOMEM, "out of memory");
    else
        rc = configure(l, e);
    if (rc != ERR_OK) {
        lite_close(&l->db);
        return rc;
    }
    *out = &l->db;
    return ERR_OK;
}

static enum err_code lite_tidy(struct db *db, struct err *e)
{
    struct lite *l = lite_of(db);
    int rc;

    sqlite3_busy_timeout(l->h, TIDY_BUSY_MS); /* writers wait meanwhile */
    rc = sqlite3_wal_checkpoint_v2(l->h, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sqlite3_busy_timeout(l->h, BUSY_MS);
    return rc == SQLITE_OK || (rc & 0xff) == SQLITE_BUSY ? ERR_OK : lite_error(l, e);
}

/* In one step, that is, under one read lock: what another process commits meanwhile is not in it. */
static enum err_code lite_copy(struct db *db, const char *target, struct err *e)
{
    struct lite *from = lite_of(db), to = { .mode = DB_WRITE };
    sqlite3_backup *b = NULL;
    enum err_code rc = fails_now() ? injected(e) : ERR_OK;

    if (rc != ERR_OK)
        return rc;
    if (sqlite3_open_v2(target, &to.h, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) == SQLITE_OK)
        b = sqlite3_backup_init(to.h, "main", from->h, "main");
    if (b) {
        sqlite3_backup_step(b, -1);
        sqlite3_backup_finish(b);
    }
    if (!to.h)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    else if (sqlite3_errcode(to.h) != SQLITE_OK)
        rc = lite_error(&to, e);
    sqlite3_close_v2(to.h);
    return rc;
}

const struct db_driver db_sqlite = {
    .scheme = "sqlite", .open = lite_open, .query = lite_query, .script = lite_script, .txn = lite_txn, .tidy = lite_tidy, .copy = lite_copy, .close = lite_close
};
