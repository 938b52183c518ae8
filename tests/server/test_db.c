/* The driver: values, names of parameters, errors by meaning, one statement more than the cache holds. Migrations: on an empty database, on an
 * existing one, on a newer one, on one made by another text, and one that breaks in the middle. */
#include "server/db.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/migrate.h"
#include "tests/suite.h"

static char path[64];
static struct db *db;
static struct err err;

#define OK(call) \
    do { \
        enum err_code ok_rc = (call); \
        ck_assert_msg(ok_rc == ERR_OK, "%s: %s", err_slug(ok_rc), err.msg); \
    } while (0)

static void setup(void)
{
    int fd;

    snprintf(path, sizeof path, "/tmp/espalier-test-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    OK(db_sqlite.open(&db, path, DB_WRITE, &err));
}

static void teardown(void)
{
    char side[96];

    db_sqlite.close(db);
    db_sqlite.close(NULL);
    unlink(path);
    snprintf(side, sizeof side, "%s-wal", path);
    ck_assert_int_ne(access(side, F_OK), 0); /* a clean close leaves no log behind */
    snprintf(side, sizeof side, "%s-shm", path);
    unlink(side);
}

static enum err_code query(struct db *c, const char *sql, const struct db_val *arg, int n, db_row_fn *row, void *user)
{
    return c->drv->query(c, sql, arg, n, row, user, NULL, &err);
}

static enum err_code keep_int(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)e;
    ck_assert_int_eq(n_col, 1);
    *(int64_t *)user = col[0].u.i;
    return ERR_OK;
}

static int64_t number(struct db *c, const char *sql)
{
    int64_t v = -1;

    OK(query(c, sql, NULL, 0, keep_int, &v));
    return v;
}

static enum err_code check_row(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)e;
    ck_assert_int_eq(n_col, 4);
    ck_assert(col[0].type == DB_INT && col[0].u.i == INT64_MIN);
    ck_assert(col[1].type == DB_REAL && col[1].u.r == 0.1);
    ck_assert(col[2].type == DB_TEXT && strcmp(col[2].u.s, "gr\xc3\xbcn'; --") == 0);
    ck_assert(col[3].type == DB_NULL);
    ++*(int *)user;
    return ERR_OK;
}

START_TEST(values_and_names)
{
    const struct db_val arg[] = { DB_I(INT64_MIN), DB_R(0.1), DB_S("gr\xc3\xbcn'; --"), DB_S(NULL) };
    int64_t changed = -1;
    int rows = 0;

    OK(db->drv->script(db, "CREATE TABLE t (i BIGINT, r DOUBLE PRECISION, s TEXT, z TEXT)", &err));
    OK(db->drv->query(db, "INSERT INTO t (z, s, r, i) VALUES ($4, $3, $2, $1), ($4, $3, $2, $1)", arg, 4, NULL, NULL, &changed, &err));
    ck_assert_int_eq(changed, 2);
    OK(db->drv->query(db, "SELECT i, r, s, z FROM t WHERE s = $1", &arg[2], 1, check_row, &rows, &changed, &err));
    ck_assert(rows == 2 && changed == 0);
    ck_assert_int_eq(query(db, "SELECT 1 WHERE 1 = $1", arg, 2, NULL, NULL), ERR_INTERNAL);
    ck_assert_int_eq(query(db, "SELEC", NULL, 0, NULL, NULL), ERR_INTERNAL);
    ck_assert_int_eq(query(db, "", NULL, 0, NULL, NULL), ERR_INTERNAL);
}
END_TEST

START_TEST(more_statements_than_the_cache_holds)
{
    char sql[64];

    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 200; i++) {
            snprintf(sql, sizeof sql, "SELECT %d", i);
            ck_assert_int_eq(number(db, sql), i);
        }
}
END_TEST

START_TEST(errors_by_meaning)
{
    struct db *reader = NULL, *second = NULL;

    OK(db->drv->script(db, "CREATE TABLE p (id TEXT NOT NULL PRIMARY KEY CHECK (id <> 'bad')); CREATE TABLE c (p TEXT REFERENCES p (id));"
                           "INSERT INTO p VALUES ('a')", &err));
    ck_assert_int_eq(query(db, "INSERT INTO p VALUES ('a')", NULL, 0, NULL, NULL), ERR_CONFLICT);
    ck_assert_int_eq(query(db, "INSERT INTO c VALUES ('none')", NULL, 0, NULL, NULL), ERR_CONFLICT);
    ck_assert_int_eq(query(db, "INSERT INTO p VALUES ('bad')", NULL, 0, NULL, NULL), ERR_INTERNAL);
    OK(db_sqlite.open(&reader, path, DB_READ, &err));
    ck_assert_int_eq(number(reader, "SELECT count(*) FROM p"), 1);
    ck_assert_int_eq(query(reader, "INSERT INTO p VALUES ('b')", NULL, 0, NULL, NULL), ERR_IO);
    ck_assert_int_eq(number(reader, "PRAGMA wal_autocheckpoint"), 0);
    OK(db_sqlite.open(&second, path, DB_WRITE, &err));
    OK(query(second, "PRAGMA busy_timeout = 1", NULL, 0, NULL, NULL));
    OK(db->drv->txn(db, DB_BEGIN, &err));
    ck_assert_int_eq(second->drv->txn(second, DB_BEGIN, &err), ERR_BUSY);
    OK(db->drv->txn(db, DB_ROLLBACK, &err));
    db_sqlite.close(second);
    db_sqlite.close(reader);
    ck_assert_int_eq(db_sqlite.open(&reader, "/nowhere/x", DB_WRITE, &err), ERR_IO);
}
END_TEST

START_TEST(settings_of_the_writer)
{
    ck_assert_int_eq(number(db, "PRAGMA synchronous"), 2);
    ck_assert_int_eq(number(db, "PRAGMA foreign_keys"), 1);
    ck_assert_int_eq(number(db, "PRAGMA trusted_schema"), 0);
    ck_assert_int_eq(number(db, "PRAGMA application_id"), 0x45535041);
    ck_assert_int_eq(number(db, "PRAGMA journal_size_limit"), 67108864);
}
END_TEST

START_TEST(a_full_disk_says_so)
{
    enum err_code rc = ERR_OK;

    OK(db->drv->script(db, "CREATE TABLE t (s TEXT)", &err));
    number(db, "PRAGMA max_page_count = 20");
    OK(db->drv->txn(db, DB_BEGIN, &err));
    for (int i = 0; i < 100 && rc == ERR_OK; i++)
        rc = query(db, "INSERT INTO t VALUES (hex(zeroblob(4000)))", NULL, 0, NULL, NULL);
    ck_assert_int_eq(rc, ERR_NO_SPACE);
    OK(db->drv->txn(db, DB_ROLLBACK, &err));
    ck_assert_int_eq(number(db, "SELECT count(*) FROM t"), 0);
}
END_TEST

static enum err_code refuse(void *user, const struct db_val *col, int n_col, struct err *e)
{
    (void)col;
    (void)n_col;
    ++*(int *)user;
    return err_set(e, ERR_TOO_LARGE, "enough");
}

START_TEST(an_error_of_a_row_ends_the_query)
{
    int seen = 0;

    ck_assert_int_eq(query(db, "SELECT 1 UNION SELECT 2", NULL, 0, refuse, &seen), ERR_TOO_LARGE);
    ck_assert_int_eq(seen, 1);
}
END_TEST

/* ---- migrations ---- */

#define FILE_OF(name, text) { name, text, sizeof text - 1 }
static const struct embedded_file one[] = { FILE_OF("0001_a.sql", "CREATE TABLE a (x TEXT);"), { 0 } };
static const struct embedded_file two[] = { FILE_OF("0001_a.sql", "CREATE TABLE a (x TEXT);"),
                                            FILE_OF("0002_b.sql", "CREATE TABLE b (x TEXT); INSERT INTO b VALUES ('1');"), { 0 } };
static const struct embedded_file other[] = { FILE_OF("0001_a.sql", "CREATE TABLE a (y TEXT);"), { 0 } };
static const struct embedded_file broken[] = { FILE_OF("0001_a.sql", "CREATE TABLE a (x TEXT);"),
                                               FILE_OF("0002_b.sql", "CREATE TABLE b (x TEXT); CREATE TABLE a (x TEXT);"), { 0 } };
static const struct embedded_file hole[] = { FILE_OF("0002_b.sql", "CREATE TABLE b (x TEXT);"), { 0 } };

START_TEST(migrations_run_once)
{
    OK(migrate(db, one, 1, &err));
    OK(migrate(db, one, 2, &err)); /* again: nothing to do */
    ck_assert_int_eq(number(db, "SELECT sum(applied_ms) FROM migrations"), 1);
    ck_assert_int_eq(migrate(db, other, 3, &err), ERR_CONFLICT);
    ck_assert_int_ne(migrate(db, broken, 3, &err), ERR_OK); /* whole or not at all */
    ck_assert_int_eq(number(db, "SELECT count(*) FROM sqlite_master WHERE name = 'b'"), 0);
    OK(migrate(db, two, 4, &err));
    ck_assert_int_eq(number(db, "SELECT count(*) FROM b"), 1);
    ck_assert_int_eq(migrate(db, one, 5, &err), ERR_CONFLICT);
    ck_assert_ptr_nonnull(strstr(err.msg, "newer"));
    ck_assert_int_eq(migrate(db, hole, 5, &err), ERR_INTERNAL);
}
END_TEST

START_TEST(migrations_survive_each_failure)
{
    bool fired = true;

    for (long k = 1; fired; k++) {
        enum err_code rc;

        db_fail_in = k;
        rc = migrate(db, embedded_migrations, 1, &err);
        fired = db_fail_in == 0;
        db_fail_in = 0;
        ck_assert_int_eq(rc, fired ? ERR_NO_SPACE : ERR_OK);
    }
    ck_assert_int_ge(number(db, "SELECT count(*) FROM migrations"), 6);
    OK(migrate(db, embedded_migrations, 2, &err));
}
END_TEST

START_TEST(a_database_of_another_program_is_refused)
{
    struct db *again = NULL;

    OK(db->drv->script(db, "PRAGMA application_id = 7", &err));
    ck_assert_int_eq(db_sqlite.open(&again, path, DB_WRITE, &err), ERR_CONFLICT);
    OK(db->drv->script(db, "PRAGMA application_id = 0; CREATE TABLE t (x TEXT)", &err));
    ck_assert_int_eq(db_sqlite.open(&again, path, DB_WRITE, &err), ERR_CONFLICT);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "db");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, values_and_names);
    tcase_add_test(tc, more_statements_than_the_cache_holds);
    tcase_add_test(tc, errors_by_meaning);
    tcase_add_test(tc, settings_of_the_writer);
    tcase_add_test(tc, a_full_disk_says_so);
    tcase_add_test(tc, an_error_of_a_row_ends_the_query);
    tcase_add_test(tc, migrations_run_once);
    tcase_add_test(tc, migrations_survive_each_failure);
    tcase_add_test(tc, a_database_of_another_program_is_refused);
}
SUITE_MAIN("db", cases)
