/* Following jobs without sockets: what a stream repeats, goes on with, leaves out and says at its end; what a request that waits is woken by. */
#include "api/api.h"
#include "server/http_exchange.h"
#include "tests/api/value.h"
#include "tests/server/store_fixture.h"

struct headers { const char *last_event_id, *if_none_match; bool stream; };
static struct app app;
static struct http_conf conf;
static int rung;

static void ring(struct waker *w)
{
    (void)w;
    rung++;
}
static struct waker waker = { ring };

static void forward(void *user, const struct event_row *ev)
{
    hub_publish(user, ev);
}

static void set_up(void)
{
    store_setup();
    rung = 0;
    OK(hub_new(&app.hub, &err));
    app.store = st;
    store_listen(st, forward, app.hub);
    conf = (struct http_conf){ .routes = api_routes, .app = &app, .problem = api_problem };
}

static void tear_down(void)
{
    store_teardown();
    hub_free(app.hub);
}

static const char *header(void *user, const char *name)
{
    const struct headers *h = user;

    return strcmp(name, "Accept") == 0 && h->stream ? "text/event-stream" : strcmp(name, "Last-Event-ID") == 0 ? h->last_event_id
         : strcmp(name, "If-None-Match") == 0 ? h->if_none_match : NULL;
}

static struct exchange *begin(const char *target, struct headers *h)
{
    struct exchange *x = exchange_new(&conf, target);

    ck_assert_ptr_nonnull(x);
    x->header = header;
    x->header_user = h;
    x->rq.waker = &waker;
    exchange_begin(x, "GET", 0);
    exchange_finish(x);
    return x;
}

/* format's %s is the job. */
static struct exchange *job_stream(const char *job, const char *last)
{
    struct headers h = { last, NULL, true };
    char target[80];

    snprintf(target, sizeof target, "/v1/jobs/%s/events", job);
    return begin(target, &h);
}

static char text[1 << 17];

/* All that the stream has now, in small bites; true: it has ended. */
static bool bytes(struct exchange *x, enum source_call why)
{
    struct source *s = x->reply.source;
    size_t at = 0;
    long n;

    while ((n = s->read(s, text + at, 7, why)) > 0) {
        at += (size_t)n;
        why = why == SOURCE_IDLE ? SOURCE_GO : why;
    }
    text[at] = '\0';
    return n == SOURCE_END;
}

/* "1state 2baseline -progress ": ids and types of what bytes() has got. */
static const char *seen(void)
{
    static char out[8192];
    size_t at = 0;
    long id = 0;

    out[0] = '\0';
    for (const char *p = text; p && *p; p = strchr(p, '\n'), p += p ? 1 : 0) {
        if (sscanf(p, "id: %ld", &id) == 1)
            continue;
        if (strncmp(p, "event: ", 7) == 0) {
            at += (size_t)snprintf(out + at, sizeof out - at, id ? "%ld" : "-", id);
            at += (size_t)snprintf(out + at, sizeof out - at, "%.*s ", (int)strcspn(p + 7, "\n"), p + 7);
            id = 0;
        }
    }
    return out;
}

static void iteration(const struct job_row *j, int n)
{
    OK(store_job_publish(st, j->id, j->lease_token, &(struct job_publish){ .now_ms = 1, .iteration = n, .type = "iteration", .record = "{}" }, &err));
}

static void progress(const struct job_row *j)
{
    struct job_asked asked = { false, false };

    OK(store_job_heartbeat(st, j->id, j->lease_token, 1, 1000, "{\"fraction\":0.5}", &asked, &err));
}

START_TEST(a_stream_repeats_and_goes_on)
{
    struct job_row posted = make_job(0), j = claim_job();
    struct exchange *x = job_stream(posted.id, NULL), *late;

    ck_assert_str_eq(x->reply.content_type, "text/event-stream");
    ck_assert(!bytes(x, SOURCE_GO));
    ck_assert_str_eq(seen(), "1state 2state ");
    ck_assert_int_eq(strncmp(text, "retry: ", 7), 0);
    ck_assert(!bytes(x, SOURCE_GO) && !*text);
    iteration(&j, 1);
    progress(&j);
    iteration(&j, 2);
    ck_assert_int_eq(rung, 3);
    ck_assert(!bytes(x, SOURCE_GO));
    ck_assert_str_eq(seen(), "3iteration -progress 4iteration ");
    ck_assert(!bytes(x, SOURCE_IDLE));
    ck_assert_str_eq(text, ": still here\n\n");
    late = job_stream(posted.id, "3");
    ck_assert(!bytes(late, SOURCE_GO));
    ck_assert_str_eq(seen(), "4iteration ");
    make_job(0); /* of no interest here */
    OK(store_job_finish(st, j.id, j.lease_token, 5, JOB_SUCCEEDED, "{\"n\":1}", NULL, NULL, &err));
    ck_assert(bytes(x, SOURCE_GO));
    ck_assert_str_eq(seen(), "5result 6state ");
    ck_assert(bytes(late, SOURCE_GO));
    exchange_free(x);
    exchange_free(late);
    x = job_stream(posted.id, "6");
    ck_assert(x->reply.status == 204 && !x->reply.source);
    exchange_free(x);
    x = job_stream(posted.id, "4");
    ck_assert(bytes(x, SOURCE_GO));
    ck_assert_str_eq(seen(), "5result 6state ");
    exchange_free(x);
    job_row_clear(&j);
}
END_TEST

START_TEST(the_slow_learn_that_they_missed_something)
{
    struct job_row posted = make_job(0), j = claim_job();
    struct exchange *x = job_stream(posted.id, NULL), *begun = job_stream(posted.id, NULL);

    bytes(x, SOURCE_GO);
    for (int i = 1; i <= HUB_RING + 2; i++)
        iteration(&j, i);
    ck_assert(!bytes(x, SOURCE_GO));
    ck_assert_ptr_nonnull(strstr(text, "event: gap\ndata: {\"after\":2}\n\n"));
    ck_assert_str_eq(seen(), "-gap 67iteration 68iteration ");
    ck_assert(!bytes(begun, SOURCE_GO)); /* had not read yet: the store makes up for the ring */
    ck_assert_ptr_null(strstr(text, "gap"));
    for (int i = 1; i <= HUB_RING + 4; i++) {
        char want[32];

        snprintf(want, sizeof want, "id: %d\n", i);
        ck_assert_ptr_nonnull(strstr(text, want));
    }
    exchange_free(x);
    exchange_free(begun);
    job_row_clear(&j);
}
END_TEST

START_TEST(all_jobs_in_one_order)
{
    struct headers now = { NULL, NULL, true }, from = { "1", NULL, true }, other = { "99", NULL, true }, list = { NULL, NULL, false };
    struct job_row first = make_job(0), second, j;
    struct exchange *x = begin("/v1/events", &now), *back = begin("/v1/events", &from), *elsewhere = begin("/v1/events", &other);

    bytes(x, SOURCE_GO);
    bytes(elsewhere, SOURCE_GO);
    ck_assert_str_eq(seen(), "");
    second = make_job(5);
    j = claim_job();
    ck_assert_str_eq(j.id, second.id);
    ck_assert(!bytes(x, SOURCE_GO));
    ck_assert_str_eq(seen(), "2state 3state ");
    ck_assert_ptr_nonnull(strstr(text, second.id));
    ck_assert(!bytes(elsewhere, SOURCE_GO));
    ck_assert_str_eq(seen(), "2state 3state ");
    ck_assert(!bytes(back, SOURCE_GO));
    ck_assert_str_eq(seen(), "2state 3state ");
    ck_assert(bytes(x, SOURCE_STOP));
    ck_assert_str_eq(text, "event: shutdown\ndata: {\"after\":3}\n\n");
    exchange_free(x);
    exchange_free(back);
    exchange_free(elsewhere);
    x = begin("/v1/events?after=1&limit=1", &list);
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(json_object_get(x->reply.json, "data"), 0), "position")), 2);
    ck_assert(json_is_true(json_object_get(x->reply.json, "has_more")));
    exchange_free(x);
    OK(store_job_cancel(st, TENANT_DEFAULT, first.id, 9, &(enum job_state){ 0 }, &err));
    OK(store_job_delete(st, TENANT_DEFAULT, first.id, &err));
    job_row_clear(&j);
    j = make_job(0); /* numbers are not used again */
    x = begin("/v1/events?after=3", &list);
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(json_object_get(x->reply.json, "data"), 0), "position")), 5);
    exchange_free(x);
}
END_TEST

START_TEST(a_request_waits_until_something_has_changed)
{
    struct headers h = { NULL, NULL, false };
    struct job_row posted = make_job(0), j;
    char target[80], etag[90];
    struct exchange *x;

    snprintf(target, sizeof target, "/v1/jobs/%s?wait=60", posted.id);
    x = begin(target, &h);
    ck_assert(exchange_waits(x));
    exchange_finish(x); /* asked again: still nothing */
    ck_assert(exchange_waits(x));
    j = claim_job();
    ck_assert_int_eq(rung, 1);
    progress(&j); /* nobody is woken by that */
    ck_assert_int_eq(rung, 1);
    exchange_finish(x);
    ck_assert(!exchange_waits(x) && !x->reply.source);
    reply_value(&x->reply);
    ck_assert_str_eq(json_string_value(json_object_get(x->reply.json, "state")), "running");
    snprintf(etag, sizeof etag, "\"%s\"", x->reply.etag);
    exchange_free(x);
    h.if_none_match = "\"queued-0-00\""; /* what the client saw is gone already */
    x = begin(target, &h);
    ck_assert(!exchange_waits(x) && x->reply.text);
    exchange_free(x);
    h.if_none_match = etag;
    x = begin(target, &h);
    ck_assert(exchange_waits(x));
    x->rq.last_call = true;
    exchange_finish(x);
    ck_assert_int_eq(x->reply.status, 304);
    exchange_free(x);
    x = begin(target, &h);
    iteration(&j, 1);
    exchange_finish(x);
    reply_value(&x->reply);
    ck_assert_int_eq(json_integer_value(json_object_get(x->reply.json, "iterations")), 1);
    exchange_free(x);
    OK(store_job_finish(st, j.id, j.lease_token, 5, JOB_FAILED, NULL, NULL, "{}", &err));
    h.if_none_match = NULL;
    x = begin(target, &h); /* nothing will change any more */
    ck_assert(!exchange_waits(x) && x->reply.text);
    exchange_free(x);
    job_row_clear(&j);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "events");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, a_stream_repeats_and_goes_on);
    tcase_add_test(tc, the_slow_learn_that_they_missed_something);
    tcase_add_test(tc, all_jobs_in_one_order);
    tcase_add_test(tc, a_request_waits_until_something_has_changed);
}

SUITE_MAIN("events", cases)
