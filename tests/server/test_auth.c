/* Tokens and who may come in: what is valid, until when; how tokens come from the command line; what is asked for where; limits by time. */
#include <pthread.h>
#include <sys/stat.h>

#include "core/jsonguard.h"
#include "server/auth.h"
#include "server/config.h"
#include "server/log.h"
#include "server/quota.h"
#include "server/token.h"
#include "tests/server/store_fixture.h"

static struct auth *auth;
static struct auth_who who;
static const int64_t T0 = 1000000, DAY = 24 * 3600 * 1000;

static void set_up(void)
{
    log_set_level(LOG_ERROR);
    store_setup();
    OK(st->drv->script(st->writer, "PRAGMA synchronous = OFF", &err)); /* nothing crashes here */
    auth = NULL;
}

static void tear_down(void)
{
    auth_free(auth);
    store_teardown();
}

/* And the preview says the same. */
static enum err_code begin(enum access access, bool loopback, const char *admin)
{
    const struct auth_conf c = { home, admin, access, loopback };
    bool told = mem_fail_in == 0 && db_fail_in == 0;
    enum err_code before = told ? auth_preview(&c, T0, &err) : ERR_OK, rc;

    auth_free(auth);
    auth = NULL;
    rc = auth_new(&auth, st, &c, T0, &err);
    ck_assert_msg(!told || rc == before, "%s before, then %s", err_slug(before), err_slug(rc));
    return rc;
}

static struct token_row token(const char *tenant, int scope, double days, char text[TOKEN_TEXT_LEN])
{
    struct token_conf conf = { .name = "n", .scope = scope, .expires_days = days };
    struct token_row row;

    snprintf(conf.tenant, sizeof conf.tenant, "%s", tenant);
    token_make(&row, text, &conf, T0);
    return row;
}

static int files(void)
{
    char path[128];
    DIR *d;
    int n = 0;

    snprintf(path, sizeof path, "%s/tokens", home);
    d = opendir(path);
    for (const struct dirent *f; d && (f = readdir(d));)
        n += f->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

START_TEST(a_token_is_known_by_all_of_it)
{
    char text[TOKEN_TEXT_LEN], other[TOKEN_TEXT_LEN], id[ID_LEN];
    struct token_row row = token("team", 1, 0, text), second = token("team", 2, 0, other);

    ck_assert_uint_eq(strlen(text), TOKEN_TEXT_LEN - 1);
    ck_assert_str_ne(text + 25, other + 25);
    ck_assert(token_id(id, text) && strcmp(id, row.id) == 0);
    ck_assert_ptr_null(strstr(row.hash, text + 25));
    OK(begin(ACCESS_AUTO, true, ""));
    ck_assert(!auth_on(auth, T0));
    OK(auth_add(auth, &row, &err));
    OK(auth_add(auth, &second, &err));
    ck_assert(auth_on(auth, T0));
    OK(auth_check(auth, text, T0, &who, &err));
    ck_assert_str_eq(who.tenant, "team");
    ck_assert_str_eq(who.token, row.id);
    ck_assert_int_eq(who.scope, SCOPE_SUBMIT);
    for (size_t i = 0; i < strlen(text); i++) { /* any other character, anywhere */
        char wrong[TOKEN_TEXT_LEN];

        memcpy(wrong, text, sizeof wrong);
        wrong[i] = wrong[i] == '0' ? '1' : '0';
        ck_assert_int_eq(auth_check(auth, wrong, T0, &who, &err), ERR_UNAUTHORIZED);
        ck_assert_ptr_null(strstr(err.msg, "esp_"));
        wrong[i] = '\0';
        ck_assert_int_eq(auth_check(auth, wrong, T0, &who, &err), ERR_UNAUTHORIZED);
    }
    memcpy(other, text, 25); /* another's secret */
    ck_assert_int_eq(auth_check(auth, other, T0, &who, &err), ERR_UNAUTHORIZED);
    OK(begin(ACCESS_AUTO, true, "")); /* out of the store */
    OK(auth_check(auth, text, T0, &who, &err));
}
END_TEST

START_TEST(expiry_and_revocation)
{
    char text[TOKEN_TEXT_LEN], for_ever[TOKEN_TEXT_LEN];
    struct token_row row = token("team", 0, 2, text), second = token("team", 0, 0, for_ever);

    OK(begin(ACCESS_AUTO, true, ""));
    OK(auth_add(auth, &row, &err));
    OK(auth_add(auth, &second, &err));
    OK(auth_check(auth, text, T0 + 2 * DAY - 1, &who, &err));
    ck_assert_int_eq(auth_check(auth, text, T0 + 2 * DAY, &who, &err), ERR_UNAUTHORIZED);
    ck_assert_ptr_nonnull(strstr(err.msg, "expired"));
    ck_assert(auth_alive(auth, row.id, T0 + 2 * DAY - 1) && !auth_alive(auth, row.id, T0 + 2 * DAY));
    ck_assert_int_eq(auth_count(auth, T0), 2);
    ck_assert_int_eq(auth_count(auth, T0 + 2 * DAY), 1);
    OK(auth_check(auth, for_ever, T0 + 10000 * DAY, &who, &err));
    ck_assert_int_eq(auth_revoke(auth, "other", second.id, T0, &err), ERR_NOT_FOUND);
    OK(auth_check(auth, for_ever, T0, &who, &err));
    for (int i = 0; i < 2; i++) { /* and again: as it is */
        OK(auth_revoke(auth, "team", second.id, T0 + i, &err));
        ck_assert_int_eq(auth_check(auth, for_ever, T0, &who, &err), ERR_UNAUTHORIZED);
        ck_assert(!auth_alive(auth, second.id, T0));
    }
    OK(store_token_get(st, "team", second.id, &second, &err));
    ck_assert_int_eq(second.revoked_ms, T0);
    OK(auth_revoke(auth, "team", row.id, T0, &err));
    ck_assert(auth_on(auth, T0)); /* the last is gone: that lets nobody in */
    ck_assert_int_eq(begin(ACCESS_AUTO, true, ""), ERR_FORBIDDEN);
}
END_TEST

START_TEST(what_is_asked_for_where)
{
    static const char admin[] = "0123456789abcdef0123456789abcdef";
    char text[TOKEN_TEXT_LEN];
    struct token_row row = token("team", 0, 0, text);

    ck_assert_int_eq(begin(ACCESS_AUTO, false, ""), ERR_FORBIDDEN);
    ck_assert_int_eq(begin(ACCESS_TOKEN, true, ""), ERR_FORBIDDEN);
    OK(begin(ACCESS_OPEN, false, ""));
    ck_assert(!auth_on(auth, T0));
    OK(auth_add(auth, &row, &err));
    ck_assert(!auth_on(auth, T0)); /* open is open */
    OK(begin(ACCESS_AUTO, false, ""));
    ck_assert(auth_on(auth, T0));
    OK(begin(ACCESS_AUTO, true, ""));
    ck_assert(auth_on(auth, T0));
    OK(auth_revoke(auth, "team", row.id, T0, &err));
    OK(begin(ACCESS_AUTO, true, admin));
    ck_assert(auth_on(auth, T0));
    OK(auth_check(auth, admin, T0, &who, &err));
    ck_assert_str_eq(who.tenant, TENANT_DEFAULT);
    ck_assert_int_eq(who.scope, SCOPE_ADMIN);
    ck_assert(auth_alive(auth, who.token, T0));
    ck_assert_int_eq(auth_check(auth, "0123456789abcdef0123456789abcdeF", T0, &who, &err), ERR_UNAUTHORIZED);
    ck_assert_int_eq(auth_check(auth, "", T0, &who, &err), ERR_UNAUTHORIZED);
    ck_assert_int_eq(begin(ACCESS_AUTO, true, "short"), ERR_INVALID);
    ck_assert_ptr_null(strstr(err.msg, "short"));
}
END_TEST

START_TEST(the_command_line_reaches_a_daemon_that_runs)
{
    char text[TOKEN_TEXT_LEN], second[TOKEN_TEXT_LEN], third[TOKEN_TEXT_LEN];
    struct token_row row = token("team", 0, 0, text), row2 = token("b", 1, 5, second), row3 = token("b", 2, 0, third);

    OK(begin(ACCESS_AUTO, true, ""));
    OK(token_leave(home, &row, &err));
    ck_assert_int_eq(files(), 1);
    ck_assert(!auth_on(auth, T0 + 1)); /* looked just now */
    ck_assert(auth_on(auth, T0 + 1000));
    ck_assert_int_eq(files(), 0);
    OK(auth_check(auth, text, T0 + 1000, &who, &err));
    OK(token_leave(home, &row2, &err)); /* an unknown token is looked for at once */
    OK(auth_check(auth, second, T0 + 1000, &who, &err));
    ck_assert_str_eq(who.tenant, "b");
    ck_assert_int_eq(who.scope, SCOPE_SUBMIT);
    OK(store_token_get(st, "b", row2.id, &row2, &err));
    ck_assert_int_eq(row2.expires_ms, T0 + 5 * DAY);
    OK(token_leave_revoke(home, row.id, &err));
    ck_assert(!auth_alive(auth, row.id, T0 + 2000));
    ck_assert_int_eq(auth_check(auth, text, T0 + 2000, &who, &err), ERR_UNAUTHORIZED);
    OK(token_leave(home, &row, &err)); /* a file that a crash left behind brings nothing back */
    ck_assert_int_eq(auth_check(auth, text, T0 + 3000, &who, &err), ERR_UNAUTHORIZED);
    OK(token_leave_revoke(home, row3.id, &err)); /* both at once: revoked */
    OK(token_leave(home, &row3, &err));
    OK(begin(ACCESS_AUTO, true, ""));
    ck_assert_int_eq(auth_check(auth, third, T0, &who, &err), ERR_UNAUTHORIZED);
    OK(auth_check(auth, second, T0, &who, &err));
    ck_assert_int_eq(files(), 0);
}
END_TEST

START_TEST(files_that_are_no_tokens_do_no_harm)
{
    static const char *const texts[] = { "", "{", "[]", "{\"id\": \"tok_00000000000000000000\"}",
        "{\"id\":\"tok_00000000000000000001\",\"tenant\":\"A B\",\"name\":\"\",\"scope\":\"admin\",\"hash\":\"\",\"created_ms\":1,\"expires_ms\":0}" };
    char path[200], text[TOKEN_TEXT_LEN];
    struct token_row row = token("team", 0, 0, text);

    OK(token_leave(home, &row, &err));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        snprintf(path, sizeof path, "%s/tokens/tok_0000000000000000000%zu.json", home, i);
        OK(file_write(path, texts[i], strlen(texts[i]), &err));
    }
    OK(token_leave_revoke(home, "tok_00000000000000000009", &err)); /* of none */
    OK(begin(ACCESS_AUTO, true, ""));
    OK(auth_check(auth, text, T0, &who, &err));
    ck_assert_int_eq(auth_count(auth, T0), 1);
    ck_assert_int_eq(files(), 0);
}
END_TEST

static struct token_row listed[4];
static int n_listed;
static enum err_code list(void *user, const void *row, struct err *e)
{
    (void)user;
    (void)e;
    listed[n_listed++ % 4] = *(const struct token_row *)row;
    return ERR_OK;
}

START_TEST(rows_lists_and_last_use)
{
    char text[TOKEN_TEXT_LEN];
    struct token_row a = token("a", 0, 1, text), b = token("b", 2, 0, text), got;
    bool more;

    OK(begin(ACCESS_AUTO, true, ""));
    OK(auth_add(auth, &a, &err));
    OK(auth_add(auth, &b, &err));
    n_listed = 0;
    OK(store_token_list(st, &(struct page){ .tenant = "a", .limit = 9 }, list, NULL, &more, &err));
    ck_assert_int_eq(n_listed, 1);
    ck_assert(memcmp(&listed[0].id, a.id, ID_LEN) == 0 && strcmp(listed[0].hash, a.hash) == 0 && listed[0].expires_ms == T0 + DAY && !more);
    n_listed = 0;
    OK(store_tokens_read(home, list, NULL, &err));
    ck_assert_int_eq(n_listed, 2);
    OK(store_tokens_read("/nonexistent", list, NULL, &err));
    ck_assert_int_eq(store_token_get(st, "a", b.id, &got, &err), ERR_NOT_FOUND);
    OK(auth_check(auth, text, T0 + 77, &who, &err));
    ck_assert_int_eq(auth_last_use(auth, b.id), T0 + 77);
    OK(store_token_get(st, "b", b.id, &got, &err));
    ck_assert_int_eq(got.used_ms, 0); /* not at each use */
    OK(auth_flush(auth, &err));
    OK(store_token_get(st, "b", b.id, &got, &err));
    ck_assert_int_eq(got.used_ms, T0 + 77);
    OK(auth_check(auth, text, T0 + 99, &who, &err));
    auth_free(auth); /* at the latest at the end */
    auth = NULL;
    OK(store_token_get(st, "b", b.id, &got, &err));
    ck_assert_int_eq(got.used_ms, T0 + 99);
}
END_TEST

START_TEST(many_tokens)
{
    char text[200][TOKEN_TEXT_LEN];
    struct token_row row[200];

    OK(begin(ACCESS_AUTO, true, ""));
    for (int i = 0; i < 200; i++)
        row[i] = token(i % 2 ? "a" : "b", 0, 0, text[i]);
    for (int i = 0; i < 200; i++)
        OK(auth_add(auth, &row[i * 37 % 200], &err)); /* in any order */
    for (int i = 0; i < 200; i += 3)
        OK(auth_revoke(auth, i % 2 ? "a" : "b", row[i].id, T0, &err));
    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(auth_check(auth, text[i], T0, &who, &err), i % 3 ? ERR_OK : ERR_UNAUTHORIZED);
}
END_TEST

struct caller { pthread_t thread; const char *good, *bad; int wrong; };

static void *ask_often(void *arg)
{
    struct caller *c = arg;
    struct auth_who w;

    for (int i = 0; i < 500; i++) {
        c->wrong += auth_check(auth, c->good, T0 + i, &w, NULL) != ERR_OK || strcmp(w.tenant, "a") != 0;
        c->wrong += auth_check(auth, c->bad, T0 + i, &w, NULL) == ERR_OK;
        c->wrong += !auth_on(auth, T0 + i);
    }
    return NULL;
}

START_TEST(threads_ask_while_tokens_come_and_go)
{
    char good[TOKEN_TEXT_LEN], bad[TOKEN_TEXT_LEN], text[TOKEN_TEXT_LEN];
    struct token_row row = token("a", 0, 0, good), revoked = token("a", 0, 0, bad);
    struct caller c[4];

    OK(begin(ACCESS_AUTO, true, ""));
    OK(auth_add(auth, &row, &err));
    OK(auth_add(auth, &revoked, &err));
    OK(auth_revoke(auth, "a", revoked.id, T0, &err));
    for (int i = 0; i < 4; i++) {
        c[i] = (struct caller){ .good = good, .bad = bad };
        ck_assert_int_eq(pthread_create(&c[i].thread, NULL, ask_often, &c[i]), 0);
    }
    for (int i = 0; i < 30; i++) {
        row = token("b", 0, 0, text);
        if (i % 2)
            OK(auth_add(auth, &row, &err));
        else
            OK(token_leave(home, &row, &err));
        OK(auth_check(auth, text, T0, &who, &err));
        OK(auth_revoke(auth, "b", row.id, T0, &err));
        OK(auth_flush(auth, &err));
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(c[i].thread, NULL);
        ck_assert_int_eq(c[i].wrong, 0);
    }
}
END_TEST

/* Every allocation and every write of the database fails once: an error, and what it made is whole or not there. */
START_TEST(failures)
{
    char text[TOKEN_TEXT_LEN];
    struct token_row row = token("team", 0, 0, text);
    bool fired = true;

    for (long k = 1; fired; k++) {
        mem_fail_in = k;
        if (begin(ACCESS_AUTO, true, "") == ERR_OK)
            (void)!auth_add(auth, &row, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
    }
    fired = true;
    for (long k = 1; fired; k++) {
        row = token("team", 0, 0, text);
        OK(token_leave(home, &row, &err));
        db_fail_in = k;
        (void)!begin(ACCESS_AUTO, true, "");
        fired = db_fail_in == 0;
        db_fail_in = 0;
        OK(begin(ACCESS_AUTO, true, "")); /* the next start takes what this one could not */
        OK(auth_check(auth, text, T0, &who, &err));
    }
    fired = true;
    for (long k = 1; fired; k++) {
        row = token("team", 0, 0, text);
        file_fail_in = k;
        fired = token_leave(home, &row, &err) != ERR_OK;
        file_fail_in = 0;
        ck_assert_int_eq(files(), fired ? 0 : 1);
    }
}
END_TEST

/* ---- limits by time ---- */

START_TEST(requests_a_second)
{
    struct quota *q;
    struct quota_figures f;
    int after = 0;

    OK(quota_new(&q, 2, 0, &err));
    for (int i = 0; i < 2 * QUOTA_BURST; i++)
        OK(quota_request(q, "a", 5000, &after, &err));
    ck_assert_int_eq(quota_request(q, "a", 5000, &after, &err), ERR_TOO_MANY);
    ck_assert_int_eq(after, 1);
    OK(quota_request(q, "b", 5000, &after, &err)); /* another's are another's */
    ck_assert_int_eq(quota_request(q, "a", 5499, &after, &err), ERR_TOO_MANY);
    OK(quota_request(q, "a", 5500, &after, &err));
    ck_assert_int_eq(quota_request(q, "a", 5000, &after, &err), ERR_TOO_MANY); /* a clock that goes back gives nothing */
    quota_figures(q, &f);
    ck_assert_uint_eq(f.requests, 3);
    quota_free(q);
    OK(quota_new(&q, 0, 0, &err));
    for (int i = 0; i < 1000; i++)
        OK(quota_request(q, "a", 1, &after, &err));
    OK(quota_set(q, "a", 1, 1, 1, &err)); /* a limit of its own, where others have none */
    for (int i = 0; i < QUOTA_BURST; i++)
        OK(quota_request(q, "a", 1, &after, &err));
    ck_assert_int_eq(quota_request(q, "a", 1, &after, &err), ERR_TOO_MANY);
    OK(quota_request(q, "b", 1, &after, &err));
    OK(quota_stream_open(q, "a", &err));
    ck_assert_int_eq(quota_stream_open(q, "a", &err), ERR_TOO_MANY);
    OK(quota_set(q, "a", 0, -1, 1, &err));
    OK(quota_request(q, "a", 1, &after, &err));
    OK(quota_stream_open(q, "a", &err));
    quota_free(q);
    OK(quota_request(NULL, "a", 1, &after, &err));
}
END_TEST

START_TEST(streams_at_a_time)
{
    struct quota *q;
    char name[TENANT_LEN];

    OK(quota_new(&q, 0, 2, &err));
    for (int i = 0; i < 200; i++) { /* as many tenants as there are */
        snprintf(name, sizeof name, "t%d", i);
        OK(quota_stream_open(q, name, &err));
        OK(quota_stream_open(q, name, &err));
        ck_assert_int_eq(quota_stream_open(q, name, &err), ERR_TOO_MANY);
    }
    quota_stream_close(q, "t7");
    ck_assert_int_eq(quota_stream_open(q, "t8", &err), ERR_TOO_MANY);
    OK(quota_stream_open(q, "t7", &err));
    quota_free(q);
}
END_TEST

START_TEST(wrong_tokens_from_an_address)
{
    struct quota *q;
    char address[48];
    int after = 0;

    OK(quota_new(&q, 0, 0, &err));
    for (int i = 0; i < QUOTA_WRONG; i++)
        OK(quota_wrong_token(q, "192.0.2.1", 1000, &after, &err));
    ck_assert_int_eq(quota_wrong_token(q, "192.0.2.1", 1000, &after, &err), ERR_TOO_MANY);
    ck_assert_int_eq(after, QUOTA_WRONG_MS / 1000);
    ck_assert_int_eq(quota_wrong_token(q, "::ffff:192.0.2.1", 1000, &after, &err), ERR_TOO_MANY); /* the same */
    OK(quota_wrong_token(q, "192.0.2.2", 1000, &after, &err));
    OK(quota_wrong_token(q, "192.0.2.1", 1000 + QUOTA_WRONG_MS, &after, &err));
    for (int i = 0; i <= QUOTA_WRONG; i++) { /* of IPv6, a network */
        snprintf(address, sizeof address, "2001:db8:0:1::%x", i + 1);
        ck_assert_int_eq(quota_wrong_token(q, address, 1000, &after, &err), i < QUOTA_WRONG ? ERR_OK : ERR_TOO_MANY);
    }
    OK(quota_wrong_token(q, "2001:db8:0:2::1", 1000, &after, &err));
    for (int i = 0; i < 100000; i++) { /* any number of others: the table stays as it is, and who failed much stays in it */
        snprintf(address, sizeof address, "10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        (void)!quota_wrong_token(q, address, 1000, &after, &err);
    }
    ck_assert_int_eq(quota_wrong_token(q, "2001:db8:0:1::1", 1000, &after, &err), ERR_TOO_MANY);
    quota_free(q);
}
END_TEST

/* ---- the command line's flags ---- */

START_TEST(flags_of_a_token)
{
    char *argv[] = { "espalierd", "--data", "/x", "--tenant", "team", "--scope=admin", "--expires-days", "0.5", "--workers", "2" };
    char *bad[][3] = { { "x", "--scope", "root" }, { "x", "--expires-days", "-1" }, { "x", "--name" }, { "x", "--expires-days", "soon" } };
    struct token_conf c;
    int argc = 10;

    OK(config_options(NULL, &c, sizeof c, token_command_params, &argc, argv, &err));
    ck_assert_str_eq(c.tenant, "team");
    ck_assert_int_eq(c.scope, 2);
    ck_assert_double_eq(c.expires_days, 0.5);
    ck_assert_int_eq(argc, 5);
    ck_assert_str_eq(argv[2], "/x");
    ck_assert_str_eq(argv[3], "--workers");
    for (size_t i = 0; i < 4; i++) {
        argc = bad[i][2] ? 3 : 2;
        ck_assert_int_eq(config_options(NULL, &c, sizeof c, token_command_params, &argc, bad[i], &err), ERR_INVALID);
        ck_assert_int_eq(strncmp(err.msg, bad[i][1], strlen(bad[i][1])), 0);
    }
}
END_TEST

START_TEST(settings_are_shown_without_the_secret)
{
    struct config c;
    enum config_action action;
    char *argv[] = { "espalierd", "--admin-token", "0123456789abcdef0123456789abcdef" }, *none[] = { NULL }, *text;
    json_t *j;

    OK(config_load(&c, 3, argv, none, &action, &err));
    j = config_dump(&c);
    text = json_text(j, JSON_COMPACT, NULL);
    ck_assert_ptr_null(strstr(text, "0123456789abcdef"));
    ck_assert_ptr_nonnull(strstr(text, "\"admin_token\":\"(set)\""));
    mem_free(text);
    json_decref(j);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "auth"), *limits = suite_case(s, "limits by time"), *flags = suite_case(s, "flags");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, a_token_is_known_by_all_of_it);
    tcase_add_test(tc, expiry_and_revocation);
    tcase_add_test(tc, what_is_asked_for_where);
    tcase_add_test(tc, the_command_line_reaches_a_daemon_that_runs);
    tcase_add_test(tc, files_that_are_no_tokens_do_no_harm);
    tcase_add_test(tc, rows_lists_and_last_use);
    tcase_add_test(tc, many_tokens);
    tcase_add_test(tc, threads_ask_while_tokens_come_and_go);
    tcase_add_test(tc, failures);
    tcase_add_test(limits, requests_a_second);
    tcase_add_test(limits, streams_at_a_time);
    tcase_add_test(limits, wrong_tokens_from_an_address);
    tcase_add_test(flags, flags_of_a_token);
    tcase_add_test(flags, settings_are_shown_without_the_secret);
}
SUITE_MAIN("auth", cases)
