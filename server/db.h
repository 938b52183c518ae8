/* server/db.h: all that differs between databases: a statement-level driver interface. All SQL stands once, in store_*.c, in the subset
 * that SQLite and PostgreSQL share: TEXT, BIGINT, DOUBLE PRECISION, ON CONFLICT, RETURNING, $1..$n; time, ids and flags are bound values.
 *
 * SQLite's rules, which the driver keeps (3.40.1's WAL-reset bug makes them a duty): one writer connection per process owns every
 * checkpoint, all others are opened read-only; every write transaction is BEGIN IMMEDIATE; synchronous=FULL on the writer. */
#ifndef SERVER_DB_H
#define SERVER_DB_H

#include "core/err.h"

enum db_type { DB_NULL, DB_INT, DB_REAL, DB_TEXT };
struct db_val {
    enum db_type type;
    union { int64_t i; double r; const char *s; } u;
};
#define DB_I(v) ((struct db_val){ DB_INT, { .i = (v) } })
#define DB_R(v) ((struct db_val){ DB_REAL, { .r = (v) } })
#define DB_S(v) db_text(v)
static inline struct db_val db_text(const char *s) { return s ? (struct db_val){ DB_TEXT, { .s = s } } : (struct db_val){ DB_NULL, { .i = 0 } }; }

enum db_mode { DB_READ, DB_WRITE };
enum db_step { DB_BEGIN, DB_COMMIT, DB_ROLLBACK };
struct db { const struct db_driver *drv; }; /* one connection, one thread at a time; drivers embed it first */
/* col: valid until the function returns. An error ends the query with it. */
typedef enum err_code db_row_fn(void *user, const struct db_val *col, int n_col, struct err *e);
struct db_driver {
    const char *scheme; /* "sqlite" */
    enum err_code (*open)(struct db **out, const char *target, enum db_mode mode, struct err *e);
    /* One statement with $1..$n, prepared once per connection; row and n_changed may be NULL. Stepped to its end, then reset.
     * ERR_BUSY: run the whole transaction again. ERR_NO_SPACE: the disk is full. */
    enum err_code (*query)(struct db *db, const char *sql, const struct db_val *arg, int n_arg, db_row_fn *row, void *user,
                           int64_t *n_changed, struct err *e);
    enum err_code (*script)(struct db *db, const char *sql, struct err *e); /* a migration: several statements */
    enum err_code (*txn)(struct db *db, enum db_step step, struct err *e);
    /* Of the DB_WRITE connection: gives back what the log has grown by. Does nothing while readers are in the way. */
    enum err_code (*tidy)(struct db *db, struct err *e);
    /* A consistent copy in a new file, synced, whatever is written meanwhile; a DB_READ connection will do. */
    enum err_code (*copy)(struct db *db, const char *target, struct err *e);
    void (*close)(struct db *db); /* NULL is legal */
};
extern const struct db_driver db_sqlite;

/* Tests: the k-th query of this thread from now fails with ERR_NO_SPACE. */
extern _Thread_local long db_fail_in;

#endif
