/* Tenants in the store: what belongs to one, another does not find by any function; what they may have; whose turn it is in the queue. */
#include "server/limits.h"
#include "server/token.h"
#include "tests/server/store_fixture.h"

#define A TENANT_DEFAULT
#define B "other"

static void must_miss(enum err_code rc)
{
    ck_assert_msg(rc == ERR_NOT_FOUND, "%s: %s", err_slug(rc), err.msg);
}

static int n_rows;
static enum err_code count(void *user, const void *row, struct err *e)
{
    (void)user;
    (void)row;
    (void)e;
    n_rows++;
    return ERR_OK;
}

START_TEST(what_is_foreign_is_not_there)
{
    struct job_row j = make_job_of(A, 0), got = { 0 };
    struct model_row m;
    struct dataset_row d;
    struct token_row t;
    struct blob b = make_blob();
    enum job_state now;

    must_miss(store_model_get(st, B, j.model, &m, &err));
    must_miss(store_model_set_weights(st, B, j.model, &b, "{}", &err));
    must_miss(store_model_delete(st, B, j.model, &err));
    must_miss(store_dataset_get(st, B, j.dataset, &d, &err));
    must_miss(store_dataset_set_part(st, B, j.dataset, 0, &(struct dataset_part){ .blob = b, .info = (char *)(uintptr_t)"{}" }, NULL, &err));
    must_miss(store_dataset_delete(st, B, j.dataset, &err));
    must_miss(store_job_get(st, B, j.id, &got, &err));
    must_miss(store_job_pause(st, B, j.id, 1, &now, &err));
    must_miss(store_job_resume(st, B, j.id, 1, &now, &err));
    must_miss(store_job_cancel(st, B, j.id, 1, &now, &err));
    OK(store_job_cancel(st, A, j.id, 1, &now, &err));
    must_miss(store_job_delete(st, B, j.id, &err));
    must_miss(store_token_get(st, B, "tok_00000000000000000000", &t, &err));
    blob_discard(st, b.id);
    check_invariants();
}
END_TEST

START_TEST(a_job_names_only_what_its_tenant_has)
{
    struct job_row a = make_job_of(A, 0), b = make_job_of(B, 0), mixed = b;

    id_new(mixed.id, "job");
    memcpy(mixed.model, a.model, sizeof mixed.model);
    memcpy(mixed.architecture, a.architecture, sizeof mixed.architecture);
    ck_assert_int_eq(store_job_add(st, &mixed, &err), ERR_INVALID);
    ck_assert_str_eq(err.at, "/model");
    memcpy(mixed.model, b.model, sizeof mixed.model);
    memcpy(mixed.architecture, b.architecture, sizeof mixed.architecture);
    memcpy(mixed.dataset, a.dataset, sizeof mixed.dataset);
    ck_assert_int_eq(store_job_add(st, &mixed, &err), ERR_INVALID);
    ck_assert_str_eq(err.at, "/dataset");
    mixed = b;
    id_new(mixed.id, "job");
    snprintf(mixed.tenant, sizeof mixed.tenant, "%s", "");
    ck_assert_int_ne(store_job_add(st, &mixed, &err), ERR_OK); /* nobody's: not there for anybody */
}
END_TEST

START_TEST(lists_are_of_one_tenant)
{
    const char *const tenants[] = { A, B, "nobody" };
    const int want[] = { 2, 1, 0 };
    int64_t last;
    bool more;

    make_job_of(A, 0);
    make_job_of(A, 0);
    make_job_of(B, 0);
    for (int i = 0; i < 3; i++) {
        const struct page p = { .tenant = tenants[i], .limit = 9 }, queued = { .tenant = tenants[i], .limit = 9, .state = "queued" };

        n_rows = 0;
        OK(store_model_list(st, &p, count, NULL, &more, &err));
        OK(store_dataset_list(st, &p, count, NULL, &more, &err));
        OK(store_job_list(st, &p, count, NULL, &more, &err));
        OK(store_job_list(st, &queued, count, NULL, &more, &err));
        for (int sort = 0; sort < JOB_SORTS; sort++)
            OK(store_job_query(st, &(struct job_query){ .tenant = tenants[i], .sort = (enum job_sort)sort, .limit = 9 }, count, NULL, &more, &err));
        OK(store_events_all(st, tenants[i], 0, 9, count, NULL, &more, &err));
        ck_assert_int_eq(n_rows, (5 + JOB_SORTS) * want[i]);
    }
    n_rows = 0; /* whoever forgets to say whose, gets nothing */
    OK(store_job_list(st, &(struct page){ .limit = 9 }, count, NULL, &more, &err));
    OK(store_job_query(st, &(struct job_query){ .limit = 9 }, count, NULL, &more, &err));
    ck_assert_int_eq(n_rows, 0);
    OK(store_events_last(st, &last, &err));
    ck_assert_int_eq(last, 3);
}
END_TEST

static struct event_row heard;
static void hear(void *user, const struct event_row *ev)
{
    (void)user;
    heard = *ev;
}

START_TEST(events_say_whose_they_are)
{
    struct job_row claimed;
    struct job_asked asked;

    store_listen(st, hear, NULL);
    make_job_of(A, 0);
    ck_assert_str_eq(heard.tenant, A);
    make_job_of(B, 5);
    ck_assert_str_eq(heard.tenant, B);
    claimed = claim_job();
    ck_assert_str_eq(heard.tenant, claimed.tenant);
    memset(&heard, 0, sizeof heard);
    OK(store_job_heartbeat(st, claimed.id, claimed.lease_token, 5, 1000, "{}", &asked, &err));
    ck_assert_str_eq(heard.tenant, claimed.tenant);
    job_row_clear(&claimed);
}
END_TEST

START_TEST(idempotency_keys_are_each_tenants_own)
{
    struct dataset_row d = make_dataset();
    const struct answer a = { "key", "print", "/v1/datasets/x", "{}", 1000 };
    char location[64], *body = NULL;

    OK(store_answer_begin(st, A, "key", "print", 1000, location, sizeof location, &body, &err));
    OK(store_answer_begin(st, B, "key", "other", 1000, location, sizeof location, &body, &err)); /* under way for another does not count */
    store_answer_end(st, B, "key");
    id_new(d.id, "dst");
    d.answer = &a;
    OK(store_dataset_add(st, &d, &err));
    store_answer_end(st, A, "key");
    OK(store_answer_begin(st, B, "key", "other", 1000, location, sizeof location, &body, &err));
    ck_assert_ptr_null(body);
    store_answer_end(st, B, "key");
    OK(store_answer_begin(st, A, "key", "print", 1000, location, sizeof location, &body, &err));
    ck_assert_ptr_nonnull(body);
    mem_free(body);
}
END_TEST

/* ---- limits ---- */

START_TEST(bytes_are_limited) /* three a blob, two blobs a model, and what was refused left nothing */
{
    struct model_row m = { .tenant = B, .name = "x", .summary = (char *)(uintptr_t)"{}" };
    struct store_figures f;
    struct job_row j;

    store_set_limits(st, &(struct store_limits){ .bytes = 8 });
    make_job_of(A, 0);
    j = make_job_of(B, 0);
    OK(store_tenant_room(st, B, 2, &err));
    ck_assert_int_eq(store_tenant_room(st, B, 3, &err), ERR_NO_SPACE);
    ck_assert_int_eq(store_tenant_room(st, B, UINT64_MAX, &err), ERR_NO_SPACE);
    id_new(m.id, "mdl");
    m.architecture = make_blob();
    ck_assert_int_eq(store_model_add(st, &m, &err), ERR_NO_SPACE);
    must_miss(store_model_get(st, B, m.id, &m, &err));
    store_set_limits(st, &(struct store_limits){ .bytes = 9 });
    OK(store_model_add(st, &m, &err));
    store_set_limits(st, &(struct store_limits){ .bytes = 8 });
    id_new(j.id, "job");
    ck_assert_int_eq(store_job_add(st, &j, &err), ERR_NO_SPACE); /* it has too much already */
    OK(store_model_delete(st, B, m.id, &err));
    OK(store_job_add(st, &j, &err));
    store_figures(st, &f);
    ck_assert_uint_eq(f.over_bytes, 4);
    ck_assert_uint_eq(f.write_errors, 0);
    check_invariants();
}
END_TEST

START_TEST(waiting_jobs_are_limited)
{
    struct job_row j = make_job_of(B, 0), claimed;
    enum job_state now;

    store_set_limits(st, &(struct store_limits){ .waiting = 2 });
    OK(store_job_pause(st, B, j.id, 1, &now, &err)); /* a paused one waits, too */
    id_new(j.id, "job");
    OK(store_job_add(st, &j, &err));
    id_new(j.id, "job");
    ck_assert_int_eq(store_job_add(st, &j, &err), ERR_TOO_MANY);
    make_job_of(A, 0);
    claimed = claim_job();
    ck_assert_str_eq(claimed.tenant, B);
    OK(store_job_add(st, &j, &err));
    job_row_clear(&claimed);
}
END_TEST

START_TEST(running_jobs_are_limited)
{
    struct job_row j[4];
    bool found;

    store_set_limits(st, &(struct store_limits){ .running = 1 });
    for (int i = 0; i < 3; i++)
        make_job_of(i < 2 ? A : B, 0);
    for (int i = 0; i < 3; i++) {
        memset(&j[i], 0, sizeof j[i]);
        OK(store_job_claim(st, "me", 1, 1000, &j[i], &found, &err));
        ck_assert(found == (i < 2));
    }
    ck_assert_str_ne(j[0].tenant, j[1].tenant);
    OK(store_job_release(st, j[0].id, j[0].lease_token, 2, &err));
    OK(store_job_claim(st, "me", 1, 1000, &j[2], &found, &err));
    ck_assert(found && strcmp(j[2].tenant, j[0].tenant) == 0);
    for (int i = 0; i < 3; i++)
        job_row_clear(&j[i]);
}
END_TEST

/* ---- whose turn it is ---- */

static void end_job(struct job_row *j)
{
    OK(store_job_finish(st, j->id, j->lease_token, 9, JOB_FAILED, NULL, NULL, "{\"code\":\"x\",\"message\":\"y\"}", &err));
    job_row_clear(j);
}

/* One more like j. */
static struct job_row another(struct job_row j, int64_t priority)
{
    id_new(j.id, "job");
    j.priority = priority;
    OK(store_job_add(st, &j, &err));
    return j;
}

static void repeat(struct job_row j, int n)
{
    for (int i = 0; i < n; i++)
        another(j, j.priority);
}

static int64_t take_all(int64_t count[2])
{
    struct job_row j = { 0 };
    bool found = true;

    for (count[0] = count[1] = 0; found;) {
        OK(store_job_claim(st, "me", 1, 1000, &j, &found, &err));
        if (found)
            count[strcmp(j.tenant, B) == 0]++;
        job_row_clear(&j);
    }
    return count[0] + count[1];
}

/* One tenant's own limits count in place of those of all, in both directions. */
START_TEST(a_tenant_may_have_limits_of_its_own)
{
    struct tenant_limits own;
    struct job_row first;
    int64_t count[2];

    store_set_limits(st, &(struct store_limits){ .bytes = 100, .waiting = 2, .running = 1 });
    OK(store_tenant_limits(st, A, &own, &err));
    ck_assert(own.storage_mb == -1 && own.waiting_jobs == -1 && own.running_jobs == -1 && own.streams == -1 && own.requests_per_second == -1);
    own.waiting_jobs = 4;
    own.running_jobs = 3;
    own.storage_mb = 1;
    OK(store_tenant_limits_set(st, &own, &err));
    OK(store_tenant_limits(st, A, &own, &err));
    ck_assert(strcmp(own.tenant, A) == 0 && own.waiting_jobs == 4 && own.running_jobs == 3 && own.storage_mb == 1 && own.streams == -1);
    OK(store_tenant_room(st, A, 1 << 20, &err));
    ck_assert_int_eq(store_tenant_room(st, A, (1 << 20) + 1, &err), ERR_NO_SPACE);
    ck_assert_int_eq(store_tenant_room(st, B, 101, &err), ERR_NO_SPACE);
    first = make_job_of(B, 0);
    another(first, 0);
    ck_assert_int_eq(store_job_add(st, &first, &err), ERR_TOO_MANY);
    first = make_job_of(A, 0);
    repeat(first, 3);
    ck_assert_int_eq(store_job_add(st, &first, &err), ERR_TOO_MANY);
    ck_assert_int_eq(take_all(count), 4);
    ck_assert(count[0] == 3 && count[1] == 1);
    own.running_jobs = 0; /* none at all */
    OK(store_tenant_limits_set(st, &own, &err));
    ck_assert_int_eq(take_all(count), 1);
    own = (struct tenant_limits){ B, -1, -1, -1, -1, -1 };
    OK(store_tenant_limits_set(st, &own, &err));
    ck_assert_int_eq(take_all(count), 0);
    check_invariants();
}
END_TEST

struct taken { int n; int64_t storage[8]; bool fails; };
static enum err_code take_change(void *user, const void *row, struct err *e)
{
    const struct limits_waiting *w = row;
    struct taken *t = user;
    struct tenant_limits l;
    enum err_code rc = store_tenant_limits(st, w->tenant, &l, e);

    if (rc == ERR_OK)
        rc = limits_change(&l, w->given, e);
    if (rc == ERR_OK)
        rc = store_tenant_limits_set(st, &l, e);
    t->storage[t->n++ % 8] = l.storage_mb;
    return t->fails ? err_set(e, ERR_BUSY, "later") : rc;
}

static void leave_change(const char *tenant, const char *fields)
{
    json_t *given = json_loads(fields, 0, NULL);

    OK(limits_leave(home, tenant, given, &err));
    json_decref(given);
}

/* Changes from the command line: in their order, each of what it names alone; foreseen before they are taken, and taken once. */
START_TEST(limits_come_from_the_command_line)
{
    static const char *const bad[] = { "", "{", "[]", "{\"tenant\":\"A B\",\"given\":{}}", "{\"tenant\":\"other\"}",
        "{\"tenant\":\"other\",\"given\":{\"storage_mb\":-2}}", "{\"tenant\":\"other\",\"given\":{\"tenant\":\"x\"}}" };
    struct tenant_limits l = { .tenant = B, .storage_mb = 9, .waiting_jobs = -1, .running_jobs = 2, .streams = -1, .requests_per_second = -1 };
    struct taken t = { .fails = true };
    char path[200];

    OK(store_tenant_limits_set(st, &l, &err));
    leave_change(B, "{\"storage_mb\": 5}");
    leave_change(A, "{\"storage_mb\": 1, \"streams\": 0}");
    leave_change(B, "{\"storage_mb\": 6, \"waiting_jobs\": 3}");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(path, sizeof path, "%s/limits/lim_0000000000000000000%zu.json", home, i);
        OK(file_write(path, bad[i], strlen(bad[i]), &err));
    }
    OK(limits_preview(home, B, &l, &err));
    ck_assert(strcmp(l.tenant, B) == 0 && l.storage_mb == 6 && l.waiting_jobs == 3 && l.running_jobs == 2 && l.streams == -1);
    ck_assert_int_eq(limits_files(home, true, take_change, &t, &err), ERR_BUSY); /* it stays, and is taken again */
    t.fails = false;
    OK(limits_files(home, true, take_change, &t, &err));
    ck_assert(t.n == 4 && t.storage[0] == 5 && t.storage[1] == 5 && t.storage[2] == 1 && t.storage[3] == 6);
    OK(limits_files(home, true, take_change, &t, &err));
    ck_assert_int_eq(t.n, 4);
    OK(limits_preview(home, A, &l, &err));
    ck_assert(l.storage_mb == 1 && l.streams == 0 && l.waiting_jobs == -1);
    snprintf(path, sizeof path, "%s/nowhere", home);
    OK(limits_preview(path, B, &l, &err)); /* where no daemon has been */
    ck_assert(l.storage_mb == -1 && l.running_jobs == -1);
}
END_TEST

/* However many workers there are: the first job of another is the next that is taken. */
START_TEST(a_hundred_jobs_do_not_delay_anothers_first)
{
    struct job_row running[3], first;

    repeat(make_job_of(A, 1000), 100);
    for (int i = 0; i <= _i; i++)
        running[i] = claim_job();
    make_job_of(B, -1000);
    end_job(&running[0]);
    first = claim_job();
    ck_assert_str_eq(first.tenant, B);
    end_job(&first);
    first = claim_job(); /* and B's end gives the turn back */
    ck_assert_str_eq(first.tenant, A);
    end_job(&first);
    for (int i = 1; i <= _i; i++)
        job_row_clear(&running[i]);
}
END_TEST

START_TEST(tenants_take_turns)
{
    const char *const names[] = { A, B, "third" };
    int turns[3] = { 0 };

    for (int i = 0; i < 3; i++)
        repeat(make_job_of(names[i], i), 9);
    for (int n = 0; n < 30; n++) { /* one worker */
        struct job_row j = claim_job();

        for (int i = 0; i < 3; i++)
            turns[i] += strcmp(j.tenant, names[i]) == 0;
        end_job(&j);
        for (int i = 0; i < 3; i++)
            ck_assert_int_le(abs(3 * turns[i] - n - 1), 3);
    }
}
END_TEST

/* Positions are the order in which jobs are then claimed, from whatever state of the queue. */
START_TEST(positions_tell_the_truth)
{
    static const char *const names[] = { A, B, "third", "d-4" };
    struct job_row j[40], busy[40], first[4];
    int64_t position[40];
    uint32_t r = 12345u + (uint32_t)_i;
    int n_busy = 0, n = 0;

    for (int i = 0; i < 4; i++)
        j[n++] = first[i] = make_job_of(names[i], 1);
    while (n < 40) {
        r = r * 1664525u + 1013904223u;
        j[n++] = another(first[r >> 30], r >> 20 & 3);
        if ((r >> 10 & 3) == 0) {
            busy[n_busy++] = claim_job();
            if (r >> 12 & 1)
                end_job(&busy[--n_busy]);
        }
    }
    for (int i = 0; i < n; i++) {
        j[i].state = state_now_of(j[i].tenant, j[i].id);
        OK(store_job_position(st, &j[i], &position[i], &err));
        ck_assert((position[i] > 0) == (j[i].state == JOB_QUEUED));
    }
    for (int64_t place = 1;; place++) {
        struct job_row next = { 0 };
        bool found;
        int i = 0;

        OK(store_job_claim(st, "me", 1, 1000, &next, &found, &err));
        if (!found)
            break;
        while (strcmp(j[i].id, next.id) != 0)
            i++;
        ck_assert_msg(position[i] == place, "a job at position %lld is taken as number %lld", (long long)position[i], (long long)place);
        job_row_clear(&next);
    }
    check_invariants();
    while (n_busy > 0)
        job_row_clear(&busy[--n_busy]);
}
END_TEST

/* By an index in each step: what a claim or a page costs does not grow with the number of jobs. */
START_TEST(what_is_asked_often_looks_at_few_rows)
{
    const struct { const char *sql, *index; } row[] = {
        { LINE_NEXT, "turns_line" },
        { "SELECT id FROM jobs WHERE CAST(CASE WHEN state = 'queued' THEN tenant END AS TEXT) = 'a' ORDER BY priority DESC, id LIMIT 1", "jobs_queue" },
        { "SELECT count(*) FROM jobs WHERE tenant = 'a' AND state IN ('running', 'cancelling')", "jobs_tenant_state" },
        { "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE tenant = 'a' AND state IN ('queued', 'paused') LIMIT 5) AS some", "jobs_tenant_state" },
        { "SELECT COALESCE(SUM(bytes), 0) FROM blobs WHERE tenant = 'a'", "blobs_tenant" },
        { "SELECT data FROM events WHERE tenant = 'a' AND position > 5 ORDER BY position LIMIT 9", "events_tenant" },
        { "SELECT id FROM jobs WHERE tenant = 'a' AND state = 'queued' AND id < 'x' ORDER BY id DESC LIMIT 9", "jobs_tenant_state" },
        { "SELECT id FROM jobs WHERE tenant = 'a' AND id < 'x' ORDER BY id DESC LIMIT 9", "jobs_tenant" },
    };

    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char plan[4096] = "", sql[2000];

        snprintf(sql, sizeof sql, "EXPLAIN QUERY PLAN %s", row[i].sql);
        OK(store_read(st, sql, NULL, 0, dump_row, plan, &err));
        ck_assert_msg(strstr(plan, row[i].index) && (i == 0 || strstr(plan, "SEARCH")) && !strstr(plan, "SCAN jobs") && !strstr(plan, "TEMP B-TREE"),
                      "%s: %s", row[i].sql, plan); /* the line is walked from its start, until one may run */
    }
}
END_TEST

START_TEST(names_of_tenants)
{
    static const char *const good[] = { "a", "default", "team-1", "0_x", "abcdefghijklmnopqrstuvwxyz01234" };
    static const char *const bad[] = { "", "A", "-a", "_a", "a b", "a/b", "a\n", "\xc3\xa4", "abcdefghijklmnopqrstuvwxyz012345" };
    enum scope s;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ck_assert_msg(tenant_valid(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!tenant_valid(bad[i]), "%s", bad[i]);
    for (int i = SCOPE_READ; i < SCOPES; i++)
        ck_assert(scope_parse(scope_name((enum scope)i), &s) && (int)s == i);
    ck_assert(!scope_parse("open", &s) && !scope_parse("missing", &s) && !scope_parse("", &s));
}
END_TEST

static void set_up(void) /* no disk has to be waited for: nothing crashes here */
{
    store_setup();
    OK(st->drv->script(st->writer, "PRAGMA synchronous = OFF", &err));
}

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "tenants");

    tcase_add_checked_fixture(tc, set_up, store_teardown);
    tcase_add_test(tc, what_is_foreign_is_not_there);
    tcase_add_test(tc, a_job_names_only_what_its_tenant_has);
    tcase_add_test(tc, lists_are_of_one_tenant);
    tcase_add_test(tc, events_say_whose_they_are);
    tcase_add_test(tc, idempotency_keys_are_each_tenants_own);
    tcase_add_test(tc, bytes_are_limited);
    tcase_add_test(tc, waiting_jobs_are_limited);
    tcase_add_test(tc, running_jobs_are_limited);
    tcase_add_test(tc, a_tenant_may_have_limits_of_its_own);
    tcase_add_test(tc, limits_come_from_the_command_line);
    tcase_add_loop_test(tc, a_hundred_jobs_do_not_delay_anothers_first, 0, 3);
    tcase_add_test(tc, tenants_take_turns);
    tcase_add_loop_test(tc, positions_tell_the_truth, 0, 6);
    tcase_add_test(tc, what_is_asked_often_looks_at_few_rows);
    tcase_add_test(tc, names_of_tenants);
}
SUITE_MAIN("tenants", cases)
