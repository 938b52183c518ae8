/* Who may do what, over the whole route table: without a token, with too small a scope, with another tenant's; so a new route is tested by itself. */
#include "api/api.h"
#include "server/http_exchange.h"
#include "server/log.h"
#include "server/token.h"
#include "tests/api/value.h"
#include "tests/server/store_fixture.h"

#define OTHER "other"

static struct app app;
static struct http_conf conf;
static char tokens[2][SCOPES][TOKEN_TEXT_LEN]; /* of the default tenant, of the other one */
static struct job_row mine, theirs;            /* with model and data set; nothing of mine may be seen by the other */
static char my_token[ID_LEN];
static struct reply reply = { .fd = -1 };

static enum err_code temp_path(void *user, const struct req *rq, char *path, size_t n, uint64_t declared, struct err *e)
{
    enum err_code rc = store_tenant_room(user, rq->tenant, declared, e);

    store_temp_path(user, path, n);
    return rc;
}

static void forward(void *user, const struct event_row *ev)
{
    hub_publish(user, ev);
}

static void make_tokens(void)
{
    static const char *const tenants[] = { TENANT_DEFAULT, OTHER };
    struct token_row row;

    for (int t = 0; t < 2; t++)
        for (int s = SCOPE_READ; s < SCOPES; s++) {
            struct token_conf c = { .scope = s - SCOPE_READ };

            snprintf(c.tenant, sizeof c.tenant, "%s", tenants[t]);
            token_make(&row, tokens[t][s], &c, clock_ms());
            OK(auth_add(app.auth, &row, &err));
            if (t == 0)
                memcpy(my_token, row.id, sizeof my_token);
        }
}

static void set_up(void)
{
    log_set_level(LOG_ERROR);
    store_setup();
    OK(st->drv->script(st->writer, "PRAGMA synchronous = OFF", &err)); /* nothing crashes here */
    app = (struct app){ .store = st };
    OK(hub_new(&app.hub, &err));
    OK(auth_new(&app.auth, st, &(struct auth_conf){ home, "", ACCESS_AUTO, true }, clock_ms(), &err));
    OK(quota_new(&app.quota, 0, 0, &err));
    store_listen(st, forward, app.hub);
    conf = (struct http_conf){ .routes = api_routes, .app = &app, .max_upload = 1 << 20, .admit = api_admit, .temp_path = temp_path,
                               .problem = api_problem, .user = st };
    make_tokens();
    mine = make_job_of(TENANT_DEFAULT, 0);
    theirs = make_job_of(OTHER, 0);
}

static void tear_down(void)
{
    reply_clear(&reply);
    auth_free(app.auth);
    quota_free(app.quota);
    store_teardown();
    hub_free(app.hub);
}

/* The status; token NULL: none. */
static int call(const char *method, const char *target, const char *token, const char *body)
{
    char value[200];
    const char *headers[] = { "Authorization", value, NULL };

    snprintf(value, sizeof value, "Bearer %s", token ? token : "");
    reply_clear(&reply);
    http_call_with(&conf, method, target, token ? headers : headers + 2, body, body ? strlen(body) : 0, &reply);
    reply_value(&reply);
    return reply.status;
}

/* The route's address, of my things. */
static const char *address(const struct route *r)
{
    static const struct { const char *name, *value; } args[] = {
        { "{model}", mine.model }, { "{dataset}", mine.dataset }, { "{job}", mine.id }, { "{token}", my_token }, { "{tenant}", TENANT_DEFAULT }, { "{iteration}", "1" },
        { "{split}", "train" }, { "{part}", "features" },
    };
    static char text[400];
    size_t n = 0;

    for (const char *p = r->path; *p;) {
        size_t i = 0, k = sizeof args / sizeof args[0];

        while (i < k && strncmp(p, args[i].name, strlen(args[i].name)) != 0)
            i++;
        ck_assert_msg(*p != '{' || i < k, "%s: what stands for it?", p);
        n += (size_t)(i < k ? snprintf(text + n, sizeof text - n, "%s", args[i].value) : snprintf(text + n, sizeof text - n, "%c", *p));
        p += i < k ? strlen(args[i].name) : 1;
    }
    text[n] = '\0';
    return text;
}

/* One that is not refused for itself. */
static const char *body(const struct route *r)
{
    if (strstr(r->path, "/predict"))
        return "{\"samples\": [[1, 2]]}";
    return r->flags & (BODY_JSON | BODY_FILE) ? "{}" : NULL;
}

/* ---- over the table ---- */

static void check_every_route_states_what_it_needs(const struct route *r)
{
    bool v1 = strncmp(r->path, "/v1/", 4) == 0;

    ck_assert_msg(r->scope > SCOPE_MISSING && r->scope < SCOPES, "%s %s: which scope?", r->method, r->path);
    ck_assert_msg(!v1 || r->scope >= SCOPE_READ, "%s %s is open", r->method, r->path);
    ck_assert_msg(strcmp(r->method, "GET") == 0 || r->scope >= SCOPE_SUBMIT || strstr(r->path, "/predict") || strstr(r->path, "/evaluate"), "%s %s changes something", r->method, r->path);
    ck_assert_msg(strcmp(r->method, "DELETE") != 0 || r->scope >= SCOPE_SUBMIT, "%s %s changes something", r->method, r->path);
    ck_assert_msg(!strstr(r->path, "tokens") || r->scope == SCOPE_ADMIN, "%s %s", r->method, r->path);
}

START_TEST(every_route_states_what_it_needs)
{
    for (const struct route *r = api_routes; r->method; r++)
        check_every_route_states_what_it_needs(r);
}
END_TEST

static void check_no_token_wrong_token_small_scope(const struct route *r)
{
    char wrong[TOKEN_TEXT_LEN];

    if (r->scope == SCOPE_OPEN) {
        ck_assert_int_lt(call(r->method, address(r), NULL, body(r)), 400);
        return;
    }
    ck_assert_int_eq(call(r->method, address(r), NULL, body(r)), 401);
    ck_assert_str_eq(reply.authenticate, "Bearer realm=\"espalier\"");
    memcpy(wrong, tokens[0][SCOPE_ADMIN], sizeof wrong);
    wrong[TOKEN_TEXT_LEN - 2] ^= 1;
    ck_assert_int_eq(call(r->method, address(r), wrong, body(r)), 401);
    ck_assert_ptr_nonnull(strstr(reply.authenticate, "invalid_token"));
    for (int s = SCOPE_READ; s < (int)r->scope; s++) {
        ck_assert_int_eq(call(r->method, address(r), tokens[0][s], body(r)), 403);
        ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(reply.json, "detail")), scope_name(r->scope)));
    }
    OK(auth_check(app.auth, tokens[0][SCOPE_ADMIN], clock_ms(), &(struct auth_who){ .token = "" }, &err));
}

START_TEST(no_token_wrong_token_small_scope)
{
    quota_free(app.quota); /* there will be many wrong tokens */
    app.quota = NULL;
    for (const struct route *r = api_routes; r->method; r++)
        check_no_token_wrong_token_small_scope(r);
}
END_TEST

/* 404, as for what was never there: not 403, and the same words. */
static void check_foreign_ids_are_not_there(const struct route *r)
{
    struct token_row t;
    struct model_row m;
    struct dataset_row d;
    int status;

    if (!strchr(r->path, '{'))
        return;
    status = call(r->method, address(r), tokens[1][SCOPE_ADMIN], body(r));
    ck_assert_msg(status == 404, "%s %s of another tenant: %d", r->method, r->path, status);
    ck_assert_int_eq(state_now(mine.id), JOB_QUEUED);
    OK(store_model_get(st, TENANT_DEFAULT, mine.model, &m, &err));
    OK(store_dataset_get(st, TENANT_DEFAULT, mine.dataset, &d, &err));
    OK(store_token_get(st, TENANT_DEFAULT, my_token, &t, &err));
    ck_assert(t.revoked_ms == 0 && strcmp(m.weights.id, mine.weights) == 0 && !*d.part[0][0].blob.id);
    model_row_clear(&m);
    dataset_row_clear(&d);
}

START_TEST(foreign_ids_are_not_there)
{
    for (const struct route *r = api_routes; r->method; r++)
        check_foreign_ids_are_not_there(r);
}
END_TEST

/* No list tells another's ids, in any format. */
static void check_lists_show_nothing_foreign(const struct route *r)
{
    static const char *const formats[] = { "", "?format=csv", "?format=ndjson" };
    const char *const ids[] = { mine.id, mine.model, mine.dataset, my_token };

    if (strcmp(r->method, "GET") != 0 || strchr(r->path, '{') || r->scope == SCOPE_OPEN)
        return;
    for (int f = 0; f < (r->query && strstr(r->query, "format") ? 3 : 1); f++) {
        char target[100], *text;

        snprintf(target, sizeof target, "%s%s", r->path, formats[f]);
        call("GET", target, tokens[1][SCOPE_ADMIN], NULL);
        text = reply.json ? json_dumps(reply.json, 0) : NULL;
        for (size_t i = 0; i < 4; i++)
            ck_assert_msg(!strstr(text ? text : reply.text, ids[i]), "%s tells %s", target, ids[i]);
        free(text);
    }
}

START_TEST(lists_show_nothing_foreign)
{
    for (const struct route *r = api_routes; r->method; r++)
        check_lists_show_nothing_foreign(r);
}
END_TEST

START_TEST(ids_in_queries_and_bodies_are_the_tenants_own)
{
    char text[300];

    snprintf(text, sizeof text, "/v1/iterations?jobs=%s", mine.id);
    ck_assert_int_eq(call("GET", text, tokens[1][SCOPE_READ], NULL), 404);
    ck_assert_int_eq(call("GET", text, tokens[0][SCOPE_READ], NULL), 200);
    snprintf(text, sizeof text, "/v1/iterations?jobs=%s,%s", theirs.id, mine.id);
    ck_assert_int_eq(call("GET", text, tokens[1][SCOPE_READ], NULL), 404);
    snprintf(text, sizeof text, "/v1/jobs?after=%s", mine.id); /* a cursor is a place in one's own list */
    ck_assert_int_eq(call("GET", text, tokens[1][SCOPE_READ], NULL), 200);
    for (int i = 0; i < 2; i++) {
        const char *dry = i ? "/v1/jobs?dry_run=true" : "/v1/jobs";

        snprintf(text, sizeof text, "{\"model\": \"%s\", \"dataset\": \"%s\"}", mine.model, theirs.dataset);
        ck_assert_int_eq(call("POST", dry, tokens[1][SCOPE_SUBMIT], text), 422);
        ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(reply.json, "detail")), "there is no model"));
        snprintf(text, sizeof text, "{\"model\": \"%s\", \"dataset\": \"%s\"}", theirs.model, mine.dataset);
        ck_assert_int_eq(call("POST", dry, tokens[1][SCOPE_SUBMIT], text), 422);
        ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(reply.json, "detail")), "there is no data set"));
    }
}
END_TEST

/* ---- streams ---- */

static void ring(struct waker *w)
{
    (void)w;
}
static struct waker waker = { ring };

static const char *stream_header(void *user, const char *name)
{
    return strcmp(name, "Accept") == 0 ? "text/event-stream" : strcmp(name, "Authorization") == 0 ? user : NULL;
}

static struct exchange *open_stream(const char *target, char authorization[200], const char *token)
{
    struct exchange *x = exchange_new(&conf, target);

    snprintf(authorization, 200, "bearer %s", token); /* the scheme is of any case */
    x->header = stream_header;
    x->header_user = authorization;
    x->rq.waker = &waker;
    exchange_begin(x, "GET", 0);
    exchange_finish(x);
    return x;
}

static char *bytes(struct exchange *x, bool *ended)
{
    static char text[1 << 16];
    struct source *s = x->reply.source;
    size_t at = 0;
    long n;

    while ((n = s->read(s, text + at, sizeof text - 1 - at, SOURCE_GO)) > 0)
        at += (size_t)n;
    text[at] = '\0';
    *ended = n == SOURCE_END;
    return text;
}

START_TEST(a_stream_of_all_is_of_one_tenants)
{
    char value[200];
    struct exchange *x = open_stream("/v1/events", value, tokens[1][SCOPE_READ]);
    bool ended;

    ck_assert_int_eq(x->reply.status, 200);
    ck_assert_ptr_nonnull(strstr(bytes(x, &ended), "retry:"));
    OK(store_job_pause(st, TENANT_DEFAULT, mine.id, 1, &(enum job_state){ 0 }, &err));
    ck_assert_str_eq(bytes(x, &ended), "");
    OK(store_job_pause(st, OTHER, theirs.id, 1, &(enum job_state){ 0 }, &err));
    ck_assert_ptr_nonnull(strstr(bytes(x, &ended), theirs.id));
    exchange_free(x);
    x = open_stream("/v1/events?after=0", value, tokens[1][SCOPE_READ]); /* from the beginning */
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_null(strstr(bytes(x, &ended), mine.id));
    exchange_free(x);
}
END_TEST

START_TEST(a_stream_ends_with_its_token)
{
    char value[200];
    struct exchange *x = open_stream("/v1/events", value, tokens[0][SCOPE_ADMIN]);
    bool ended;

    bytes(x, &ended);
    ck_assert(!ended);
    OK(auth_revoke(app.auth, TENANT_DEFAULT, my_token, clock_ms(), &err));
    OK(store_job_pause(st, TENANT_DEFAULT, mine.id, 1, &(enum job_state){ 0 }, &err));
    ck_assert_str_eq(bytes(x, &ended), "");
    ck_assert(ended);
    exchange_free(x);
}
END_TEST

START_TEST(streams_and_requests_are_limited)
{
    char value[3][200], target[100];
    struct exchange *x[3];

    quota_free(app.quota);
    OK(quota_new(&app.quota, 1, 1, &err));
    x[0] = open_stream("/v1/events", value[0], tokens[0][SCOPE_READ]);
    snprintf(target, sizeof target, "/v1/jobs/%s?wait=5", mine.id);
    x[1] = open_stream(target, value[1], tokens[0][SCOPE_READ]);
    x[2] = open_stream("/v1/events", value[2], tokens[1][SCOPE_READ]); /* another's */
    ck_assert(x[0]->reply.status == 200 && x[1]->reply.status == 429 && x[2]->reply.status == 200);
    ck_assert_int_gt(x[1]->reply.retry_after, 0);
    exchange_free(x[0]);
    exchange_free(x[1]);
    exchange_free(x[2]);
    x[0] = open_stream("/v1/events", value[0], tokens[0][SCOPE_READ]); /* the place is free again */
    ck_assert_int_eq(x[0]->reply.status, 200);
    exchange_free(x[0]);
    for (int i = 0; i < QUOTA_BURST; i++)
        call("GET", "/v1/jobs", tokens[0][SCOPE_READ], NULL);
    ck_assert_int_eq(call("GET", "/v1/jobs", tokens[0][SCOPE_READ], NULL), 429);
    ck_assert_int_ge(reply.retry_after, 1);
    ck_assert_int_eq(call("GET", "/v1/jobs", tokens[1][SCOPE_READ], NULL), 200);
    ck_assert_int_eq(call("GET", "/healthz", NULL, NULL), 200);
    ck_assert_int_eq(call("GET", "/metrics", tokens[1][SCOPE_READ], NULL), 200);
    ck_assert_ptr_nonnull(strstr(reply.text, "espalier_quota_rejections_total{limit=\"streams\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(reply.text, "espalier_tokens 6\n"));
}
END_TEST

START_TEST(what_a_tenant_stores_is_limited)
{
    store_set_limits(st, &(struct store_limits){ .bytes = 8, .waiting = 1 });
    ck_assert_int_eq(call("POST", "/v1/models", tokens[0][SCOPE_SUBMIT], "some bytes"), 507); /* refused before it is read */
    ck_assert_int_eq(call("POST", "/v1/datasets", tokens[0][SCOPE_SUBMIT], "{}"), 201);
    OK(store_job_cancel(st, TENANT_DEFAULT, mine.id, 1, &(enum job_state){ 0 }, &err));
    for (int i = 0; i < 2; i++) {
        char target[100];

        snprintf(target, sizeof target, "/v1/jobs/%s/retry", mine.id);
        ck_assert_int_eq(call("POST", target, tokens[0][SCOPE_SUBMIT], NULL), i == 0 ? 201 : 429);
    }
    ck_assert_int_gt(reply.retry_after, 0);
    ck_assert_str_eq(json_string_value(json_object_get(reply.json, "code")), "too_many");
}
END_TEST

/* By whoever runs the server, for any tenant; at once. */
START_TEST(limits_of_one_tenant)
{
    const char *target = "/v1/tenants/" OTHER "/limits";

    ck_assert_int_eq(call("GET", target, tokens[0][SCOPE_ADMIN], NULL), 200);
    ck_assert_int_eq(json_integer_value(json_object_get(reply.json, "waiting_jobs")), -1);
    ck_assert_int_eq(call("PUT", target, tokens[0][SCOPE_ADMIN], "{\"waiting_jobs\": 5, \"requests_per_second\": 1}"), 200);
    ck_assert_int_eq(call("GET", target, tokens[0][SCOPE_ADMIN], NULL), 200);
    ck_assert_int_eq(json_integer_value(json_object_get(reply.json, "waiting_jobs")), 5);
    ck_assert_int_eq(json_integer_value(json_object_get(reply.json, "storage_mb")), -1);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(call("GET", "/v1/jobs", tokens[1][SCOPE_READ], NULL), 200);
    ck_assert_int_eq(call("GET", "/v1/jobs", tokens[1][SCOPE_READ], NULL), 429);
    ck_assert_int_eq(call("PUT", target, tokens[0][SCOPE_ADMIN], "{}"), 200); /* as all */
    ck_assert_int_eq(call("PUT", target, tokens[0][SCOPE_ADMIN], "{\"streams\": -2}"), 422);
    ck_assert_int_eq(call("PUT", target, tokens[0][SCOPE_SUBMIT], "{}"), 403);
    ck_assert_int_eq(call("GET", "/v1/tenants/-/limits", tokens[0][SCOPE_ADMIN], NULL), 404);
    ck_assert_int_eq(call("PUT", target, tokens[1][SCOPE_ADMIN], "{}"), 404); /* not even its own */
}
END_TEST

/* ---- tokens ---- */

START_TEST(tokens_by_the_api)
{
    char text[TOKEN_TEXT_LEN], target[100], *all;
    const json_t *j;

    ck_assert_int_eq(call("POST", "/v1/tokens", tokens[1][SCOPE_ADMIN], "{\"name\": \"ci\", \"scope\": \"read\", \"expires_days\": 1}"), 201);
    j = reply.json;
    snprintf(text, sizeof text, "%s", json_string_value(json_object_get(j, "token")));
    snprintf(target, sizeof target, "/v1/tokens/%s", json_string_value(json_object_get(j, "id")));
    ck_assert_str_eq(reply.location, target);
    ck_assert_str_eq(json_string_value(json_object_get(j, "tenant")), OTHER);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "expires_at")) - json_integer_value(json_object_get(j, "created_at")), 24 * 3600);
    ck_assert_int_eq(call("GET", "/v1/jobs", text, NULL), 200);
    ck_assert_int_eq(call("GET", "/v1/tokens", text, NULL), 403);
    ck_assert_int_eq(call("GET", target, tokens[1][SCOPE_ADMIN], NULL), 200);
    ck_assert(json_is_integer(json_object_get(reply.json, "last_used_at")) && !json_object_get(reply.json, "token"));
    ck_assert_int_eq(call("GET", "/v1/tokens", tokens[1][SCOPE_ADMIN], NULL), 200);
    ck_assert_uint_eq(json_array_size(json_object_get(reply.json, "data")), 4);
    all = json_dumps(reply.json, 0);
    ck_assert(!strstr(all, "esp_") && !strstr(all, text + 25)); /* shown once */
    free(all);
    ck_assert_int_eq(call("DELETE", target, tokens[0][SCOPE_ADMIN], NULL), 404);
    ck_assert_int_eq(call("GET", "/v1/jobs", text, NULL), 200);
    ck_assert_int_eq(call("DELETE", target, tokens[1][SCOPE_ADMIN], NULL), 204);
    ck_assert_int_eq(call("GET", "/v1/jobs", text, NULL), 401);
    ck_assert_int_eq(call("GET", target, tokens[1][SCOPE_ADMIN], NULL), 200);
    ck_assert(json_is_integer(json_object_get(reply.json, "revoked_at")));
    ck_assert_int_eq(call("POST", "/v1/tokens", tokens[1][SCOPE_ADMIN], "{\"tenant\": \"default\"}"), 422); /* of another tenant */
    ck_assert_int_eq(call("POST", "/v1/tokens", tokens[1][SCOPE_ADMIN], "{\"scope\": \"root\"}"), 422);
}
END_TEST

START_TEST(wrong_tokens_are_limited_right_ones_are_not)
{
    for (int i = 0; i < QUOTA_WRONG; i++)
        ck_assert_int_eq(call("GET", "/v1/jobs", "esp_guess", NULL), 401);
    ck_assert_int_eq(call("GET", "/v1/jobs", "esp_guess", NULL), 429);
    ck_assert_int_gt(reply.retry_after, 0);
    ck_assert_ptr_null(strstr(json_string_value(json_object_get(reply.json, "detail")), "guess"));
    ck_assert_int_eq(call("GET", "/v1/jobs", tokens[0][SCOPE_READ], NULL), 200);
}
END_TEST

/* ---- without tokens, on loopback ---- */

static int call_host(const char *host)
{
    reply_clear(&reply);
    http_call_with(&conf, "GET", "/v1/jobs", (const char *const[]){ "Host", host, NULL }, NULL, 0, &reply);
    return reply.status;
}

START_TEST(without_tokens_everybody_is_the_default_tenant)
{
    static const char *const here[] = { "localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:1", "127.8.9.1", "[::1]", "[::1]:80" };
    static const char *const elsewhere[] = { "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example",
                                             "localhost:80@evil", "192.0.2.1:80", "", "[::2]", "0.0.0.0" };

    auth_free(app.auth);
    OK(auth_new(&app.auth, st, &(struct auth_conf){ home, "", ACCESS_OPEN, true }, clock_ms(), &err));
    ck_assert_int_eq(call("GET", "/v1/jobs", NULL, NULL), 200);
    ck_assert_uint_eq(json_array_size(json_object_get(reply.json, "data")), 1);
    ck_assert_int_eq(call("GET", "/v1/tokens", NULL, NULL), 200);
    ck_assert_int_eq(call("POST", "/v1/tokens", NULL, NULL), 403); /* nobody takes a key along from a house that is open */
    app.local_only = true;
    for (size_t i = 0; i < sizeof here / sizeof here[0]; i++)
        ck_assert_msg(call_host(here[i]) == 200, "%s", here[i]);
    for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++)
        ck_assert_msg(call_host(elsewhere[i]) == 403, "%s", elsewhere[i]);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "access");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, every_route_states_what_it_needs);
    tcase_add_test(tc, no_token_wrong_token_small_scope);
    tcase_add_test(tc, foreign_ids_are_not_there);
    tcase_add_test(tc, lists_show_nothing_foreign);
    tcase_add_test(tc, ids_in_queries_and_bodies_are_the_tenants_own);
    tcase_add_test(tc, a_stream_of_all_is_of_one_tenants);
    tcase_add_test(tc, a_stream_ends_with_its_token);
    tcase_add_test(tc, streams_and_requests_are_limited);
    tcase_add_test(tc, limits_of_one_tenant);
    tcase_add_test(tc, what_a_tenant_stores_is_limited);
    tcase_add_test(tc, tokens_by_the_api);
    tcase_add_test(tc, wrong_tokens_are_limited_right_ones_are_not);
    tcase_add_test(tc, without_tokens_everybody_is_the_default_tenant);
}
SUITE_MAIN("access", cases)
