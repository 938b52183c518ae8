/* api/events.c: what happened to jobs, as lists and as Server-Sent Events: of one job, where an event's number is its `id`, and of all jobs, where it is
 * its `position`.
 *
 * A stream first repeats what the store has behind Last-Event-ID (one page at a time: no statement stays open), then goes on with what the hub brings; it
 * subscribed before it began to read, so nothing falls between, and what comes twice is known by its number. Progress is not stored and has no
 * number. A client that does not keep up is told so (`event: gap`) and goes on with what is new. The stream of one job ends when the job has. */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "core/digits.h"
#include "core/mem.h"
#include "server/log.h"

enum { REPLAY_PAGE = 16, HEARTBEAT_MS = 15000, RETRY_MS = 2000, KEPT_ROOM = 8192 };

/* ---- one event ---- */

static json_t *number_or_null(int64_t n)
{
    return n ? json_integer(n) : json_null();
}

static enum err_code event_row(void *user, const void *row, struct err *e)
{
    const struct event_row *ev = row;

    return api_append(user, json_pack("{s:o,s:s,s:s,s:o,s:o,s:s,s:o}", "id", number_or_null(ev->seq), "object", "event", "job", ev->job,
                                      "position", number_or_null(ev->position), "created_at", api_seconds(ev->created_ms), "type", ev->type,
                                      "data", api_stored(ev->data)), e);
}

/* The same as text; data is compact JSON, so it has no line ends. */
static void event_text(struct api_text *t, const struct event_row *ev, int64_t number)
{
    char id[DIGITS_LEN], seq[DIGITS_LEN] = "null", position[DIGITS_LEN] = "null", created[DIGITS_LEN];

    digits(created, ev->created_ms / 1000);
    if (number) {
        digits(id, number);
        digits(seq, ev->seq);
        digits(position, ev->position);
        api_text_cat(t, "id: ", id, "\n", NULL);
    }
    api_text_cat(t, "event: ", ev->type, "\ndata: {\"id\":", seq, ",\"object\":\"event\",\"job\":\"", ev->job, "\",\"position\":", position,
                 ",\"created_at\":", created, ",\"type\":\"", ev->type, "\",\"data\":", ev->data, "}\n\n", NULL);
}

/* Does the event say that its job has ended? */
static bool is_end(const struct event_row *ev)
{
    json_t *data = strcmp(ev->type, "state") == 0 ? json_loads(ev->data, 0, NULL) : NULL;
    const char *name = json_string_value(json_object_get(data, "state"));
    enum job_state state;
    bool end = name && job_state_parse(name, &state) && job_state_final(state);

    json_decref(data);
    return end;
}

/* ---- a stream ---- */

struct follow {
    struct source source; /* first */
    struct app *app;
    char token[ID_LEN];   /* that it was opened with: it ends with it. "" : none */
    struct hub_sub *sub;
    char tenant[TENANT_LEN], job[ID_LEN]; /* job "" : all */
    int64_t last;         /* number of the last event that was sent */
    bool begun, replaying, ended;
    struct api_text out;
    size_t sent;          /* of out */
};

static void tell(struct follow *f, const struct event_row *ev)
{
    int64_t number = *f->job ? ev->seq : ev->position;

    if (f->ended || (number && number <= f->last))
        return;
    event_text(&f->out, ev, number);
    f->last = number ? number : f->last;
    f->ended = *f->job && is_end(ev);
}

static enum err_code replay_row(void *user, const void *row, struct err *e)
{
    (void)e;
    tell(user, row);
    return ERR_OK;
}

/* When the ring ran over meanwhile, what it lost is in the store. */
static void replay(struct follow *f)
{
    bool more = false;
    struct err e = { 0 };
    enum err_code rc = *f->job ? store_events(f->app->store, f->job, f->last, REPLAY_PAGE, replay_row, f, &more, &e)
                               : store_events_all(f->app->store, f->tenant, f->last, REPLAY_PAGE, replay_row, f, &more, &e);

    if (rc != ERR_OK) { /* the client comes back and says where it was */
        log_event(LOG_WARN, "event stream ended", LOG_S("error", e.msg));
        f->ended = true;
    }
    f->replaying = more || hub_restart(f->sub);
}

static void go_on(struct follow *f)
{
    const struct hub_message *m;
    enum hub_take what;

    while (!f->ended && (what = hub_take(f->sub, &m)) != HUB_NONE) {
        if (what == HUB_GAP) {
            api_text_add(&f->out, "event: gap\ndata: {\"after\":%lld}\n\n", (long long)f->last);
            continue;
        }
        tell(f, &m->event);
        hub_give(f->sub, m);
    }
}

static void fill(struct follow *f, enum source_call why)
{
    if (f->out.room > KEPT_ROOM) { /* of a long replay; a stream lasts for hours */
        mem_free(f->out.s);
        f->out = (struct api_text){ 0 };
    }
    f->sent = f->out.n = 0;
    if (*f->token && !auth_alive(f->app->auth, f->token, clock_ms())) {
        f->ended = true;
        return;
    }
    if (!f->begun)
        api_text_add(&f->out, "retry: %d\n\n", RETRY_MS);
    f->begun = true;
    while (f->replaying && !f->ended && f->out.n == 0)
        replay(f);
    if (!f->replaying)
        go_on(f);
    if (why == SOURCE_STOP && !f->ended && f->out.n == 0) {
        api_text_add(&f->out, "event: shutdown\ndata: {\"after\":%lld}\n\n", (long long)f->last);
        f->ended = true;
    } else if (why == SOURCE_IDLE && f->out.n == 0) {
        api_text_add(&f->out, ": still here\n\n");
    }
}

static long follow_read(struct source *s, char *buf, size_t max, enum source_call why)
{
    struct follow *f = (struct follow *)(void *)s;
    size_t n;

    if (f->sent == f->out.n && !f->ended)
        fill(f, why);
    if (f->out.failed)
        return SOURCE_END;
    n = f->out.n - f->sent < max ? f->out.n - f->sent : max;
    if (n == 0)
        return f->ended ? SOURCE_END : 0;
    memcpy(buf, f->out.s + f->sent, n);
    f->sent += n;
    return (long)n;
}

static void follow_free(struct source *s)
{
    struct follow *f = (struct follow *)(void *)s;

    hub_unsubscribe(f->sub);
    quota_stream_close(f->app->quota, f->tenant);
    mem_free(f->out.s);
    mem_free(f);
}

/* job "": all. */
static enum err_code follow(struct app *app, const struct req *rq, const char *job, int64_t last, bool from_store, struct reply *rp, struct err *e)
{
    struct follow *f = mem_zalloc(1, sizeof *f);
    enum err_code rc;

    if (!f)
        return err_set(e, ERR_NOMEM, "out of memory");
    f->source = (struct source){ follow_read, follow_free, HEARTBEAT_MS };
    f->app = app;
    memcpy(f->token, rq->token, sizeof f->token);
    memcpy(f->tenant, rq->tenant, sizeof f->tenant);
    snprintf(f->job, sizeof f->job, "%s", job);
    f->last = last;
    f->replaying = from_store;
    rc = quota_stream_open(app->quota, f->tenant, e);
    if (rc == ERR_OK) {
        rc = hub_subscribe(&f->sub, app->hub, f->tenant, job, HUB_EVENTS, rq->waker, e);
        if (rc != ERR_OK)
            quota_stream_close(app->quota, f->tenant);
    }
    if (rc != ERR_OK) {
        mem_free(f);
        return rc;
    }
    rp->source = &f->source;
    rp->content_type = "text/event-stream";
    return ERR_OK;
}

/* ---- routes ---- */

static bool wants_stream(const struct app *app, const struct req *rq)
{
    const char *accept = rq->header(rq, "Accept");

    return app->hub && accept && strstr(accept, "text/event-stream");
}

/* Where a client was: Last-Event-ID, else ?after; *given: it said so. */
static enum err_code last_seen(const struct req *rq, int64_t *last, bool *given, struct err *e)
{
    const char *id = rq->header(rq, "Last-Event-ID");
    int64_t n = 0;

    *given = true;
    if (!id || !*id) {
        *given = rq->query(rq, "after") != NULL;
        return api_query_int(rq, "after", 0, INT64_MAX, 0, last, e);
    }
    for (const char *p = id; *p; p++) {
        if (*p < '0' || *p > '9' || p - id > 17)
            return err_set(e, ERR_INVALID, "Last-Event-ID must be the id of an event of this stream");
        n = 10 * n + (*p - '0');
    }
    *last = n;
    return ERR_OK;
}

/* Is the job over, and has the client seen all of it? Then a browser is told not to come back. */
static enum err_code nothing_more(struct app *app, const struct job_row *job, int64_t last, bool *nothing, struct err *e)
{
    json_t *none = json_array();
    bool more = false;
    enum err_code rc = none ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    *nothing = false;
    if (rc == ERR_OK && job_state_final(job->state)) {
        rc = store_events(app->store, job->id, last, 1, event_row, none, &more, e);
        *nothing = rc == ERR_OK && json_array_size(none) == 0;
    }
    json_decref(none);
    return rc;
}

static enum err_code stream_of_job(struct app *app, const struct req *rq, const struct job_row *job, struct reply *rp, struct err *e)
{
    int64_t last = 0;
    bool given, nothing = false;
    enum err_code rc = last_seen(rq, &last, &given, e);

    if (rc == ERR_OK)
        rc = nothing_more(app, job, last, &nothing, e);
    if (rc == ERR_OK && nothing)
        rp->status = 204;
    else if (rc == ERR_OK)
        rc = follow(app, rq, job->id, last, true, rp, e);
    return rc;
}

/* From now on, unless the client says where it was; what it saw of another database counts for nothing. */
static enum err_code stream_of_all(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    int64_t last = 0, newest = 0;
    bool given = false;
    enum err_code rc = last_seen(rq, &last, &given, e);

    if (rc == ERR_OK)
        rc = store_events_last(app->store, &newest, e);
    if (!given || last > newest)
        last = newest;
    return rc == ERR_OK ? follow(app, rq, "", last, true, rp, e) : rc;
}

/* job "": all. */
static enum err_code list(struct app *app, const struct req *rq, const char *job, struct reply *rp, struct err *e)
{
    json_t *data = NULL;
    int64_t after, limit;
    bool more = false;
    enum err_code rc = api_numbered_page(rq, &after, &limit, e);

    if (rc != ERR_OK)
        return rc;
    data = json_array();
    rc = *job ? store_events(app->store, job, after, (int)limit, event_row, data, &more, e)
              : store_events_all(app->store, rq->tenant, after, (int)limit, event_row, data, &more, e);
    if (rc == ERR_OK)
        return api_reply(rp, 0, api_list(data, more), e);
    json_decref(data);
    return rc;
}

enum err_code api_job_events(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct job_row job = { .conf = NULL };
    enum err_code rc = api_id(rq, 0, "job", e);

    if (rc == ERR_OK)
        rc = store_job_get(app->store, rq->tenant, rq->arg[0], &job, e);
    if (rc == ERR_OK)
        rc = wants_stream(app, rq) ? stream_of_job(app, rq, &job, rp, e) : list(app, rq, job.id, rp, e);
    job_row_clear(&job);
    return rc;
}

enum err_code api_events(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return wants_stream(app, rq) ? stream_of_all(app, rq, rp, e) : list(app, rq, "", rp, e);
}
