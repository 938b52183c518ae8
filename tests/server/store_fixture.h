/* A store in a temporary directory, with makers of models, data sets and jobs, and the invariants that hold after whatever happened. */
#ifndef TESTS_SERVER_STORE_FIXTURE_H
#define TESTS_SERVER_STORE_FIXTURE_H

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"
#include "server/store_impl.h"
#include "tests/suite.h"

static struct store *st;
static char home[64];
static struct err err;

/* call takes &err. */
#define OK(call) \
    do { \
        enum err_code ok_rc = (call); \
        ck_assert_msg(ok_rc == ERR_OK, "%s: %s", err_slug(ok_rc), err.msg); \
    } while (0)

static int remove_one(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
    (void)sb;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static void store_setup(void)
{
    snprintf(home, sizeof home, "/tmp/espalier-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(home));
    OK(store_open(&st, home, &err));
}

static void store_teardown(void)
{
    store_close(st);
    st = NULL;
    nftw(home, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void store_reopen(void)
{
    store_close(st);
    st = NULL;
    OK(store_open(&st, home, &err));
}

/* A published file that no row names yet. */
static struct blob make_blob(void)
{
    struct blob b = { .bytes = 3 };
    char path[4096];

    blob_new(st, b.id, path, sizeof path);
    OK(file_write(path, "abc", 3, &err));
    memset(b.hash, 'a', 64);
    return b;
}

static inline bool blob_exists(const char *id)
{
    char path[4096];

    blob_path(st, id, path, sizeof path);
    return access(path, F_OK) == 0;
}

static inline struct model_row make_model(bool trained)
{
    struct model_row m = { .tenant = TENANT_DEFAULT, .name = "net", .created_ms = 5, .architecture = make_blob(), .summary = (char *)(uintptr_t)"{\"n\":1}" };

    id_new(m.id, "mdl");
    if (trained)
        m.weights = make_blob();
    OK(store_model_add(st, &m, &err));
    return m;
}

static inline struct dataset_row make_dataset(void)
{
    struct dataset_row d = { .tenant = TENANT_DEFAULT, .name = "data", .created_ms = 6, .conf = (char *)(uintptr_t)"{}" };

    id_new(d.id, "dst");
    OK(store_dataset_add(st, &d, &err));
    return d;
}

static struct job_row job_for(const struct model_row *m, const struct dataset_row *d, int64_t priority)
{
    struct job_row j = { .tenant = TENANT_DEFAULT, .name = "job", .priority = priority, .created_ms = 7, .conf = (char *)(uintptr_t)"{\"a\":1}" };

    id_new(j.id, "job");
    snprintf(j.model, sizeof j.model, "%s", m->id);
    snprintf(j.dataset, sizeof j.dataset, "%s", d->id);
    snprintf(j.architecture, sizeof j.architecture, "%s", m->architecture.id);
    snprintf(j.weights, sizeof j.weights, "%s", m->weights.id);
    return j;
}

/* With a model and a data set of its own. */
static inline struct job_row make_job_of(const char *tenant, int64_t priority)
{
    struct model_row m = { .name = "net", .created_ms = 5, .architecture = make_blob(), .weights = make_blob(), .summary = (char *)(uintptr_t)"{\"n\":1}" };
    struct dataset_row d = { .name = "data", .created_ms = 6, .conf = (char *)(uintptr_t)"{}" };
    struct job_row j;

    id_new(m.id, "mdl");
    id_new(d.id, "dst");
    snprintf(m.tenant, sizeof m.tenant, "%s", tenant);
    snprintf(d.tenant, sizeof d.tenant, "%s", tenant);
    OK(store_model_add(st, &m, &err));
    OK(store_dataset_add(st, &d, &err));
    j = job_for(&m, &d, priority);
    snprintf(j.tenant, sizeof j.tenant, "%s", tenant);
    OK(store_job_add(st, &j, &err));
    return j;
}

static inline struct job_row make_job(int64_t priority)
{
    return make_job_of(TENANT_DEFAULT, priority);
}

static inline struct job_row claim_job(void)
{
    struct job_row j = { 0 };
    bool found = false;

    OK(store_job_claim(st, "me", 100, 30000, &j, &found, &err));
    ck_assert(found);
    return j;
}

static inline enum job_state state_now_of(const char *tenant, const char *id)
{
    struct job_row j = { 0 };
    enum job_state s;

    OK(store_job_get(st, tenant, id, &j, &err));
    s = j.state;
    job_row_clear(&j);
    return s;
}

static inline enum job_state state_now(const char *id)
{
    return state_now_of(TENANT_DEFAULT, id);
}

/* ---- invariants ---- */

static enum err_code text_is_ok(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)user;
    (void)n_col;
    (void)e;
    ck_assert_str_eq(col[0].u.s, "ok");
    return ERR_OK;
}

static enum err_code no_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)n_col;
    (void)e;
    ck_abort_msg("%s: %s", (const char *)user, col[0].type == DB_TEXT ? col[0].u.s : "a row");
    return ERR_OK;
}

static enum err_code file_is_there(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)n_col;
    (void)e;
    ck_assert_msg(blob_exists(col[0].u.s), "a row names %s, which is not there", col[0].u.s);
    ++*(int *)user;
    return ERR_OK;
}

static inline int files_in_blobs(void)
{
    char path[128];
    struct dirent *entry;
    DIR *dir;
    int n = 0;

    snprintf(path, sizeof path, "%s/blobs", home);
    dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    while ((entry = readdir(dir)))
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* Returns the number of blobs that rows name; every one is there, and is referred to. */
static inline int check_invariants(void)
{
    int n = 0;
    const char *gap = "events with gaps", *orphan = "orphan blob row", *wrong = "iterations do not count", *line = "the line of tenants is not as the jobs are";

    OK(store_read(st, "PRAGMA integrity_check", NULL, 0, text_is_ok, NULL, &err));
    OK(store_read(st, "PRAGMA foreign_key_check", NULL, 0, no_row, (void *)(uintptr_t)"foreign key", &err));
    OK(store_read(st, "SELECT job FROM events GROUP BY job HAVING count(*) <> max(seq) OR min(seq) <> 1", NULL, 0, no_row,
                  (void *)(uintptr_t)gap, &err));
    OK(store_read(st, "SELECT id FROM jobs WHERE NOT EXISTS (SELECT 1 FROM events WHERE job = jobs.id)", NULL, 0, no_row,
                  (void *)(uintptr_t)gap, &err));
    OK(store_read(st, "SELECT id FROM jobs WHERE n_iterations <> (SELECT count(*) FROM iterations WHERE job = jobs.id AND iteration > 0)",
                  NULL, 0, no_row, (void *)(uintptr_t)wrong, &err));
    OK(store_read(st, "SELECT tenant FROM jobs WHERE state IN ('queued', 'running', 'cancelling') EXCEPT SELECT tenant FROM turns", NULL, 0, no_row,
                  (void *)(uintptr_t)line, &err));
    OK(store_read(st, "SELECT tenant FROM turns WHERE running <> (SELECT count(*) FROM jobs WHERE tenant = turns.tenant AND state IN ('running',"
                      " 'cancelling')) OR COALESCE(head, '') <> COALESCE((SELECT id FROM jobs WHERE tenant = turns.tenant AND state = 'queued'"
                      " ORDER BY priority DESC, id LIMIT 1), '')", NULL, 0, no_row, (void *)(uintptr_t)line, &err));
    OK(store_read(st, "SELECT id FROM blobs EXCEPT SELECT architecture FROM models EXCEPT SELECT weights FROM models"
                      " EXCEPT SELECT blob FROM dataset_parts EXCEPT SELECT architecture FROM jobs EXCEPT SELECT weights FROM jobs"
                      " EXCEPT SELECT checkpoint FROM jobs EXCEPT SELECT result_weights FROM jobs EXCEPT SELECT weights FROM iterations",
                  NULL, 0, no_row, (void *)(uintptr_t)orphan, &err));
    OK(store_read(st, "SELECT id FROM blobs", NULL, 0, file_is_there, &n, &err));
    return n;
}

/* Appends a row to a text of 4096 bytes. */
static inline enum err_code dump_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    char *text = user;

    (void)e;
    for (int i = 0; i < n_col; i++) {
        size_t at = strlen(text);

        if (col[i].type == DB_TEXT)
            snprintf(text + at, 4096 - at, "%s|", col[i].u.s);
        else
            snprintf(text + at, 4096 - at, "%lld|", col[i].type == DB_INT ? (long long)col[i].u.i : -1LL);
    }
    return ERR_OK;
}

#endif
