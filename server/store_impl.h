/* server/store_impl.h: what store*.c share: the store itself, its transactions and its reads. Nobody else includes it, but for tests.
 *
 * Locks: writer_lock is held over one whole transaction; pool_lock guards only the list of idle readers. Neither is held while the other is taken. */
#ifndef SERVER_STORE_IMPL_H
#define SERVER_STORE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/db.h"
#include "server/store.h"

enum { STORE_READERS = 4, STORE_PATH_LEN = 4096 };

struct store {
    char dir[3072];
    int lock_fd;
    const struct db_driver *drv;
    pthread_mutex_t writer_lock;
    struct db *writer;
    pthread_mutex_t pool_lock; /* and of under_way */
    pthread_cond_t pool_free;
    struct db *idle[STORE_READERS];
    int n_idle, n_readers; /* readers are opened when first needed */
    struct under_way *under_way; /* keys of store_answer_begin */
    atomic_uint_least64_t disk_floor, n_temp;
    struct store_limits limits;
    pthread_mutex_t figures_lock; /* innermost */
    struct store_figures figures;
    void (*listener)(void *user, const struct event_row *ev); /* NULL: none */
    void *listener_user;
};

/* ---- ids ---- */
struct id_list { char (*id)[ID_LEN]; size_t n, room; };
MUST enum err_code id_list_add(struct id_list *l, const char *id, struct err *e); /* NULL and "" are left out */
void id_list_clear(struct id_list *l);
db_row_fn store_int_row; /* user: int64_t, of the first column */
db_row_fn id_list_row; /* user: struct id_list; every column of a row is an id or NULL */

/* ---- transactions ---- */
struct txn_event { struct event_row row; struct txn_event *next; };
struct txn {
    struct db *db;
    struct store_limits limits;
    bool over_bytes, over_jobs; /* refused by one of them */
    struct txn_event *events, **last_event; /* for the listener, after the commit; the newest is last */
    struct id_list gone; /* blobs that lost a reference: before the commit, those without any other lose their row; after it, their file */
    int moved[JOB_STATES]; /* jobs that came into this state */
};
typedef enum err_code txn_fn(struct txn *t, void *arg, struct err *e);
/* BEGIN, fn, COMMIT; all of it again on ERR_BUSY, so fn must not change *arg in a way that a second run would mind. */
MUST enum err_code store_write(struct store *s, txn_fn *fn, void *arg, struct err *e);

struct named { const char *tenant, *id; }; /* the argument of a transaction about one thing */

/* Arguments of a statement: ARGS(DB_S(id), DB_I(now)) gives array and length. */
#define ARGS(...) (const struct db_val[]){ __VA_ARGS__ }, (int)(sizeof((const struct db_val[]){ __VA_ARGS__ }) / sizeof(struct db_val))
/* A statement within a transaction. */
MUST enum err_code txn_query(struct txn *t, const char *sql, const struct db_val *arg, int n_arg, db_row_fn *row, void *user, struct err *e);
/* The same for one that must change a row; 0 rows: code with that message. */
MUST enum err_code txn_change(struct txn *t, const char *sql, const struct db_val *arg, int n_arg, enum err_code code, const char *msg,
                              struct err *e);
/* A read outside of transactions, by a reader of the pool. */
MUST enum err_code store_read(struct store *s, const char *sql, const struct db_val *arg, int n_arg, db_row_fn *row, void *user,
                              struct err *e);

/* A read of a data directory that a daemon may have; no rows where it has no such table yet (store_check.c). */
MUST enum err_code store_look(const char *dir, const char *table, const char *sql, const struct db_val *arg, int n_arg, db_row_fn *row, void *user,
                              struct err *e);

/* ---- columns ---- */
void col_copy(const struct db_val *v, char *buf, size_t n); /* NULL: "" */
const char *col_text(const struct db_val *v);               /* borrowed; NULL stays NULL */
int64_t col_int(const struct db_val *v);                    /* NULL: 0 */
/* Makes *text, which is borrowed from a row, the caller's own. On error it is NULL. */
MUST enum err_code own_text(char **text, struct err *e);

/* ---- pages ---- */
/* Calls fn for each of at most `limit` rows; the statement asks for limit + 1, so that *more is known. */
struct lister {
    void (*read)(void *row, const struct db_val *col);
    void *row;
    store_row_fn *fn;
    void *user;
    int left;
    bool *more;
};
db_row_fn lister_row;
#define PAGE_LAST "zzzz" /* greater than every id: the cursor of the first page */

/* ---- blobs (store_blobs.c) ---- */
MUST enum err_code blob_row_add(struct txn *t, const struct blob *b, const char *tenant, struct err *e);
/* Before the commit: deletes the rows of those t->gone that nothing refers to, and leaves only them in the list. */
MUST enum err_code blob_rows_drop(struct txn *t, struct err *e);
MUST enum err_code blobs_sweep(struct store *s, struct err *e);
const char *text_or_null(const char *s); /* "" -> NULL */

/* ---- answers (store_answers.c) ---- */
MUST enum err_code answer_row_add(struct txn *t, const struct answer *a, const char *tenant, struct err *e); /* NULL is legal */

/* ---- jobs ---- */
void txn_events_clear(struct txn *t);
MUST enum err_code job_event(struct txn *t, const char *job, int64_t now_ms, const char *type, const char *data, struct err *e);
/* The one function that changes a job's state; makes the event {"state": to, key: json} (json NULL: without). Final: lease and checkpoint go. */
struct job_move { const char *id; enum job_state from, to; int64_t now_ms; const char *error, *key, *json; };
MUST enum err_code job_move(struct txn *t, const struct job_move *m, struct err *e);
extern const char job_select[]; /* one job by id, $1 */
db_row_fn job_row_read;         /* user: struct job_row, whose strings become its own */

/* ---- the line of tenants (store_line.c) ---- */
/* The id of the job whose turn it is; $4: at most so many running of a tenant that has no limit of its own, 0: any number. */
#define LINE_NEXT \
    "SELECT head FROM turns WHERE head IS NOT NULL AND (running = 0 OR running <" \
    " COALESCE(NULLIF(COALESCE((SELECT running_jobs FROM limits WHERE tenant = turns.tenant), $4), 0), running + 1))" \
    " ORDER BY running, served, head LIMIT 1"
/* After a job was added or its state has changed: its tenant's place. served: it is this tenant's turn now. */
MUST enum err_code line_update(struct txn *t, const char *job, bool served, struct err *e);

/* ---- limits of a tenant (store_limits.c), within a transaction ---- */
MUST enum err_code limit_bytes(struct txn *t, const char *tenant, struct err *e); /* after the rows of its blobs were added */
MUST enum err_code limit_jobs(struct txn *t, const char *tenant, struct err *e);  /* before one more is */

/* ---- figures (store_figures.c) ---- */
void figures_init(struct store_figures *f);
void figures_write(struct store *s, const struct txn *t, int tries, int64_t ms, enum err_code rc);
void figures_job(struct store *s, struct histogram *h, int64_t from_ms, int64_t to_ms); /* h: one of s->figures */

MUST enum err_code store_make_dirs(const char *path, struct err *e); /* mkdir -p, 0700 */
/* Why a file system cannot carry the database ("NFS"), by statfs' f_type; NULL: it can. */
const char *store_fs_refused(uint64_t f_type);
#define STORE_DATABASE "espalier.db" /* in the data directory */

#endif
