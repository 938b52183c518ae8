/* server/store.c: the store as a whole: the data directory, the transaction runner, the pool of readers, ids, pages. See store.h, store_impl.h.
 *
 * Layout of the data directory: espalier.db (with -wal and -shm), blobs/<id>, tmp/ (uploads under way; emptied at start), lock (flock: one
 * daemon at a time). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "core/mem.h"
#include "server/log.h"
#include "server/migrate.h"
#include "server/store_impl.h"

enum { BUSY_TRIES = 8, ID_TIME = 9, ID_RANDOM = 11 };

/* ---- ids ---- */

/* Unix ms, but each greater than the one before. */
static uint64_t next_tick(void)
{
    static atomic_uint_least64_t last;
    uint64_t now = (uint64_t)clock_ms(), before = atomic_load(&last), tick;

    do
        tick = now > before ? now : before + 1;
    while (!atomic_compare_exchange_weak(&last, &before, tick));
    return tick;
}

void id_new(char id[ID_LEN], const char *prefix)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    uint64_t tick = next_tick();
    uint8_t random[ID_RANDOM];
    char text[ID_TIME + ID_RANDOM + 1];

    for (int i = ID_TIME; i-- > 0; tick /= 36)
        text[i] = digits[tick % 36];
    for (int i = 0; i < ID_RANDOM;) {
        if (getrandom(random, sizeof random, 0) != sizeof random)
            abort();
        for (size_t k = 0; k < sizeof random && i < ID_RANDOM; k++)
            if (random[k] < 252) /* 7 * 36: every digit is equally likely */
                text[ID_TIME + i++] = digits[random[k] % 36];
    }
    text[ID_TIME + ID_RANDOM] = '\0';
    snprintf(id, ID_LEN, "%.8s_%s", prefix, text);
}

bool id_valid(const char *id, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(id, prefix, n) == 0 && id[n] == '_' && strlen(id + n + 1) == ID_TIME + ID_RANDOM &&
           strspn(id + n + 1, "0123456789abcdefghijklmnopqrstuvwxyz") == ID_TIME + ID_RANDOM;
}

enum err_code id_list_add(struct id_list *l, const char *id, struct err *e)
{
    if (!id || !*id)
        return ERR_OK;
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 16;
        void *p = mem_realloc(l->id, room * sizeof *l->id);

        if (!p)
            return err_set(e, ERR_NOMEM, "out of memory");
        l->id = p;
        l->room = room;
    }
    snprintf(l->id[l->n++], ID_LEN, "%s", id);
    return ERR_OK;
}

void id_list_clear(struct id_list *l)
{
    mem_free(l->id);
    *l = (struct id_list){ 0 };
}

enum err_code id_list_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (int i = 0; i < n_col && rc == ERR_OK; i++)
        rc = id_list_add(user, col_text(&col[i]), e);
    return rc;
}

/* ---- columns and pages ---- */

const char *col_text(const struct db_val *v)
{
    return v->type == DB_TEXT ? v->u.s : NULL;
}

void col_copy(const struct db_val *v, char *buf, size_t n)
{
    snprintf(buf, n, "%s", v->type == DB_TEXT ? v->u.s : "");
}

int64_t col_int(const struct db_val *v)
{
    return v->type == DB_INT ? v->u.i : 0;
}

enum err_code store_int_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)n_col;
    (void)e;
    *(int64_t *)user = col_int(&col[0]);
    return ERR_OK;
}

enum err_code own_text(char **text, struct err *e)
{
    if (!*text)
        return ERR_OK;
    *text = mem_strdup(*text);
    return *text ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

enum err_code lister_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    struct lister *l = user;

    (void)n_col;
    if (l->left-- == 0) {
        *l->more = true;
        return ERR_OK;
    }
    l->read(l->row, col);
    return l->fn(l->user, l->row, e);
}

/* ---- transactions and reads ---- */

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

enum err_code txn_query(struct txn *t, const char *sql, const struct db_val *arg, int n_arg, db_row_fn *row, void *user, struct err *e)
{
    return t->db->drv->query(t->db, sql, arg, n_arg, row, user, NULL, e);
}

enum err_code txn_change(struct txn *t, const char *sql, const struct db_val *arg, int n_arg, enum err_code code, const char *msg,
                         struct err *e)
{
    int64_t n = 0;
    enum err_code rc = t->db->drv->query(t->db, sql, arg, n_arg, NULL, NULL, &n, e);

    return rc == ERR_OK && n == 0 ? err_set(e, code, "%s", msg) : rc;
}

static enum err_code run_once(struct txn *t, txn_fn *fn, void *arg, struct err *e)
{
    enum err_code rc = t->db->drv->txn(t->db, DB_BEGIN, e);

    if (rc != ERR_OK)
        return rc;
    rc = fn(t, arg, e);
    if (rc == ERR_OK)
        rc = blob_rows_drop(t, e);
    if (rc == ERR_OK)
        rc = t->db->drv->txn(t->db, DB_COMMIT, e);
    if (rc != ERR_OK)
        (void)t->db->drv->txn(t->db, DB_ROLLBACK, NULL); /* the first error is the one to tell */
    return rc;
}

/* Under writer_lock, so that events are seen in the order of their commits. */
static void tell(struct store *s, const struct txn *t)
{
    for (const struct txn_event *ev = t->events; ev && s->listener; ev = ev->next)
        s->listener(s->listener_user, &ev->row);
}

void store_listen(struct store *s, void (*fn)(void *user, const struct event_row *ev), void *user)
{
    s->listener = fn;
    s->listener_user = user;
}

enum err_code store_write(struct store *s, txn_fn *fn, void *arg, struct err *e)
{
    struct txn t = { .db = s->writer, .limits = s->limits };
    char path[STORE_PATH_LEN];
    int64_t begun = clock_mono_ms();
    enum err_code rc = ERR_BUSY;
    int tries = 0;

    pthread_mutex_lock(&s->writer_lock);
    for (; tries < BUSY_TRIES && rc == ERR_BUSY; tries++) {
        if (tries > 0)
            pause_ms(1L << tries);
        t.gone.n = 0;
        memset(t.moved, 0, sizeof t.moved);
        txn_events_clear(&t);
        rc = run_once(&t, fn, arg, e);
    }
    if (rc == ERR_OK)
        tell(s, &t);
    pthread_mutex_unlock(&s->writer_lock);
    figures_write(s, &t, tries, clock_mono_ms() - begun, rc);
    for (size_t i = 0; rc == ERR_OK && i < t.gone.n; i++) {
        blob_path(s, t.gone.id[i], path, sizeof path);
        unlink(path); /* if it stays, the sweep at the next start finds it */
    }
    id_list_clear(&t.gone);
    txn_events_clear(&t);
    return rc;
}

static void database_path(const struct store *s, char *path, size_t n)
{
    snprintf(path, n, "%s/" STORE_DATABASE, s->dir);
}

/* Takes an idle reader, opens one more, or waits for one. */
static enum err_code reader_take(struct store *s, struct db **out, struct err *e)
{
    char path[STORE_PATH_LEN];
    enum err_code rc;

    pthread_mutex_lock(&s->pool_lock);
    while (s->n_idle == 0 && s->n_readers == STORE_READERS)
        pthread_cond_wait(&s->pool_free, &s->pool_lock);
    if (s->n_idle > 0) {
        *out = s->idle[--s->n_idle];
        pthread_mutex_unlock(&s->pool_lock);
        return ERR_OK;
    }
    s->n_readers++;
    pthread_mutex_unlock(&s->pool_lock);
    database_path(s, path, sizeof path);
    rc = s->drv->open(out, path, DB_READ, e);
    if (rc != ERR_OK) {
        pthread_mutex_lock(&s->pool_lock);
        s->n_readers--;
        pthread_cond_signal(&s->pool_free);
        pthread_mutex_unlock(&s->pool_lock);
    }
    return rc;
}

static void reader_give(struct store *s, struct db *db)
{
    pthread_mutex_lock(&s->pool_lock);
    s->idle[s->n_idle++] = db;
    pthread_cond_signal(&s->pool_free);
    pthread_mutex_unlock(&s->pool_lock);
}

enum err_code store_read(struct store *s, const char *sql, const struct db_val *arg, int n_arg, db_row_fn *row, void *user, struct err *e)
{
    struct db *db = NULL;
    enum err_code rc = reader_take(s, &db, e);

    if (rc != ERR_OK)
        return rc;
    rc = db->drv->query(db, sql, arg, n_arg, row, user, NULL, e);
    reader_give(s, db);
    return rc;
}

/* ---- open ---- */

const char *store_fs_refused(uint64_t f_type)
{
    static const struct { uint64_t type; const char *name; } row[] = {
        { 0x6969, "NFS" }, { 0xff534d42, "CIFS" }, { 0xfe534d42, "SMB" }, { 0x517b, "SMB" }, { 0x65735546, "FUSE" },
    };

    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        if (row[i].type == (f_type & 0xffffffff))
            return row[i].name;
    return NULL;
}

enum err_code store_make_dirs(const char *path, struct err *e)
{
    char part[STORE_PATH_LEN], what[256];

    snprintf(part, sizeof part, "%s/", path);
    for (char *p = strchr(part + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            snprintf(what, sizeof what, "cannot make the directory %.200s as user %u", part, geteuid());
            return err_errno(e, errno, what);
        }
        *p = '/';
    }
    return ERR_OK;
}

static enum err_code take_lock(struct store *s, struct err *e)
{
    char path[STORE_PATH_LEN], what[256];
    const char *fs;
    struct statfs st;

    if (statfs(s->dir, &st) != 0)
        return err_errno(e, errno, "cannot stat the data directory");
    fs = store_fs_refused((uint64_t)st.f_type);
    if (fs)
        return err_set(e, ERR_UNSUPPORTED, "the data directory %.200s is on %s, where a database gets corrupted; use a local disk", s->dir, fs);
    snprintf(path, sizeof path, "%s/lock", s->dir);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock_fd < 0) {
        snprintf(what, sizeof what, "cannot write to the data directory %.200s as user %u", s->dir, geteuid());
        return err_errno(e, errno, what);
    }
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? err_set(e, ERR_CONFLICT, "another daemon uses the data directory %.200s", s->dir)
                                    : err_errno(e, errno, "cannot lock the data directory");
    return ERR_OK;
}

static enum err_code open_database(struct store *s, struct err *e)
{
    char path[STORE_PATH_LEN];
    enum err_code rc;

    database_path(s, path, sizeof path);
    rc = s->drv->open(&s->writer, path, DB_WRITE, e);
    return rc == ERR_OK ? migrate(s->writer, embedded_migrations, clock_ms(), e) : rc;
}

static enum err_code open_steps(struct store *s, const char *dir, struct err *e)
{
    char path[STORE_PATH_LEN];
    enum err_code rc;

    if (!*dir || (size_t)snprintf(s->dir, sizeof s->dir, "%s", dir) >= sizeof s->dir)
        return err_set(e, ERR_INVALID, "the path of the data directory is empty or too long");
    snprintf(path, sizeof path, "%s/blobs", s->dir);
    rc = store_make_dirs(path, e);
    snprintf(path, sizeof path, "%s/tmp", s->dir);
    if (rc == ERR_OK)
        rc = store_make_dirs(path, e);
    if (rc == ERR_OK)
        rc = take_lock(s, e);
    if (rc == ERR_OK)
        rc = open_database(s, e);
    return rc == ERR_OK ? blobs_sweep(s, e) : rc;
}

enum err_code store_open(struct store **out, const char *dir, struct err *e)
{
    struct store *s = mem_zalloc(1, sizeof *s);
    enum err_code rc;

    if (!s)
        return err_set(e, ERR_NOMEM, "out of memory");
    s->drv = &db_sqlite;
    s->lock_fd = -1;
    pthread_mutex_init(&s->writer_lock, NULL);
    pthread_mutex_init(&s->pool_lock, NULL);
    pthread_mutex_init(&s->figures_lock, NULL);
    figures_init(&s->figures);
    pthread_cond_init(&s->pool_free, NULL);
    rc = open_steps(s, dir, e);
    if (rc != ERR_OK) {
        store_close(s);
        return rc;
    }
    *out = s;
    return ERR_OK;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n_idle; i++)
        s->drv->close(s->idle[i]);
    s->drv->close(s->writer);
    if (s->lock_fd >= 0)
        close(s->lock_fd); /* last: it drops the lock */
    pthread_cond_destroy(&s->pool_free);
    pthread_mutex_destroy(&s->pool_lock);
    pthread_mutex_destroy(&s->figures_lock);
    pthread_mutex_destroy(&s->writer_lock);
    mem_free(s);
}

/* ---- readiness ---- */

void store_set_disk_floor(struct store *s, uint64_t bytes)
{
    atomic_store(&s->disk_floor, bytes);
}

enum err_code store_room(struct store *s, uint64_t bytes, struct err *e)
{
    struct statvfs st;
    uint64_t available, floor = atomic_load(&s->disk_floor);

    if (statvfs(s->dir, &st) != 0)
        return err_errno(e, errno, "cannot stat the data directory");
    available = (uint64_t)st.f_bavail * st.f_frsize;
    if (available < floor || available - floor < bytes)
        return err_set(e, ERR_NO_SPACE, "the disk has %llu MB left, of which %llu MB are kept free", (unsigned long long)(available >> 20),
                       (unsigned long long)(floor >> 20));
    return ERR_OK;
}

static enum err_code touch(struct txn *t, void *arg, struct err *e)
{
    (void)arg;
    return txn_query(t, "UPDATE migrations SET applied_ms = applied_ms WHERE version = 1", NULL, 0, NULL, NULL, e);
}

enum err_code store_ready(struct store *s, struct err *e)
{
    enum err_code rc = store_room(s, 0, e);

    return rc == ERR_OK ? store_write(s, touch, NULL, e) : rc;
}
