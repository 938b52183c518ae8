/* server/http.h: the HTTP transport. Only http*.c know libmicrohttpd; handlers (api/) see requests and replies, and are tested without sockets.
 *
 * The dispatcher does, in this order: header guard (request smuggling), path (404), method (405 with Allow), who asks (401, 403, 429), query (422), size (413), content encoding
 * and type (415), body (streamed to a buffer or, hashed, to a file), JSON syntax and limits (400), handler, error code -> problem document. All that can
 * be refused without the body is refused before it is read. Routes marked SLOW, and all that take a file, run on their own few threads while the
 * connection is suspended, so that they hold up nobody. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include <jansson.h>

#include "core/file.h"
#include "server/histogram.h"
#include "server/tenant.h"

struct app; /* what handlers work on: api/api.h */

/* Rings when something that a request waits for has happened. wake may be called by any thread, at any time, under the caller's locks; it is quick. */
struct waker { void (*wake)(struct waker *w); };

/* A reply without a known end, or something that a request waits for. The transport asks read for bytes whenever the client can take some; with none
 * at hand the connection sleeps, without a thread, until its waker rings. All calls come from one thread at a time. Owned by the reply. */
enum source_call {
    SOURCE_GO,   /* what is there */
    SOURCE_IDLE, /* nothing was sent for idle_ms: something must be, or a client that is gone is never noticed */
    SOURCE_STOP  /* the server stops: called until it returns SOURCE_END or 0 */
};
#define SOURCE_END (-1)
struct source {
    long (*read)(struct source *s, char *buf, size_t max, enum source_call why); /* bytes; 0: none now; NULL when it is only waited for */
    void (*free)(struct source *s); /* afterwards nobody rings the waker */
    int idle_ms;
};

enum { REQ_MAX_ARGS = 4 };
struct req {
    const char *method, *path;     /* path: as it came, without the query */
    const char *arg[REQ_MAX_ARGS]; /* the {parts} of the path, decoded, in order; ids are checked by handlers */
    const json_t *body;            /* BODY_JSON: parsed, NULL when empty and the route allows it */
    const char *body_path;         /* BODY_FILE: the upload, a temporary file, not synced; removed after the handler */
    uint64_t body_bytes;
    const char *body_hash;         /* BODY_HASH: sha256, hex */
    const char *content_type;      /* lower case, without parameters; "" when absent */
    char request_id[40];
    char client[48];           /* its address, numeric; "" : not known */
    char tenant[TENANT_LEN];   /* whose things it sees, and what it may do with them: by conf.admit, */
    enum scope scope;          /* else TENANT_DEFAULT and SCOPE_ADMIN */
    char token[32];            /* id of the token it came with, "" : none */
    /* Query parameter by name, decoded; NULL: absent. Only names that the route lists get as far as the handler, each once. */
    const char *(*query)(const struct req *rq, const char *name);
    /* Request header by name; NULL: absent. */
    const char *(*header)(const struct req *rq, const char *name);
    struct waker *waker; /* of this request, for what it waits for; rings until the reply's source is freed */
    bool last_call;      /* the reply must come now: it cannot be waited for any longer */
    void *transport;
};
struct reply {
    int status;            /* 200 unless set */
    json_t *json;          /* owned; or */
    char *text;            /* owned (mem_free), with content_type; or */
    struct source *source; /* owned; with content_type; or */
    int fd;                /* -1 unless a file is sent: owned; with content_type */
    uint64_t fd_bytes, fd_offset; /* of a file with an ETag, one part may be sent: Range */
    char content_range[80];
    const char *content_type;
    char location[160];    /* "" : none */
    char disposition[200]; /* Content-Disposition, "" : none */
    char etag[80];         /* without quotes, "" : none; If-None-Match then gets 304 */
    char allow[64];        /* of a 405 */
    int retry_after;       /* seconds, of a 429 or 503; 0: none */
    const char *authenticate; /* WWW-Authenticate of a 401, NULL: none */
    int64_t ask_again_ms;  /* with a source and nothing else: call the handler again, with this reply, when the waker rings or at this time (monotonic) */
};
typedef enum err_code handler(struct app *app, const struct req *rq, struct reply *rp, struct err *e);

/* Does If-None-Match or If-Match (NULL: absent, false) name the ETag (without quotes)? "*" names all. */
bool http_etag_matches(const char *given, const char *etag);

enum route_flags { BODY_JSON = 1, BODY_FILE = 2, BODY_OPTIONAL = 4, SLOW = 8, BODY_HASH = 16 /* of a file: body_hash is wanted */ };
struct route {
    const char *method, *path; /* "/v1/jobs/{id}/cancel"; HEAD is served where GET is */
    enum scope scope;          /* that the request needs */
    unsigned flags;
    uint64_t max_body;         /* bytes; 0: none is taken. HTTP_MAX_UPLOAD: the configured limit */
    const char *query;         /* names of the query parameters it takes, "limit after"; NULL: none */
    handler *fn;
    handler *before;           /* BODY_FILE, may be NULL: refuses early, before the body is read; must be quick */
};
#define HTTP_MAX_UPLOAD UINT64_MAX

struct http_conf {
    const char *listen;            /* "127.0.0.1:8080", "[::1]:0"; port 0: the system chooses */
    const struct route *routes;    /* ends with a NULL method */
    struct app *app;
    uint64_t max_upload;
    int max_connections, threads;  /* 0: 512; of the transport, 0: 4 */
    int max_per_address;           /* connections of one client address, 0: no limit; more are closed at once, without an answer */
    int max_streams;               /* replies with a source at a time, others get 503; 0: half of max_connections */
    /* Before anything else is looked at: who asks, and may they? Fills tenant and scope. NULL: everybody may. */
    enum err_code (*admit)(struct app *app, struct req *rq, const struct route *r, struct reply *rp, struct err *e);
    /* Where an upload goes while it arrives; may refuse (disk floor, quota). declared: 0 when the client does not say. */
    enum err_code (*temp_path)(void *user, const struct req *rq, char *path, size_t n, uint64_t declared_bytes, struct err *e);
    /* Makes the problem document of an error: api/problem.c. New reference; sets *status. */
    json_t *(*problem)(const struct err *e, const struct req *rq, int *status);
    void *user;
    /* Deadlines, each 0: the default. A request's headers must be there headers_ms after the client connected (10 s) or idle_ms after its
     * request before (60 s); a body must have come at upload_rate bytes/s (1024) on average once upload_ms (30 s) have passed. */
    int headers_ms, idle_ms, upload_ms, upload_rate;
};
struct http;
MUST enum err_code http_start(struct http **out, const struct http_conf *c, struct err *e);
int http_port(const struct http *h);
/* "host:port" or "[v6]:port" into its parts; *port points into s. */
MUST enum err_code http_split_address(const char *s, char *host, size_t n, const char **port, struct err *e);
/* Can it be reached from this machine alone? false also where that cannot be said. */
bool http_is_loopback(const char *listen);
/* Quiesces, waits up to grace_ms for requests under way, stops, frees. A SLOW handler that runs is waited for, however long it takes; those that
 * still queue get 503. NULL is legal. */
void http_stop(struct http *h, int grace_ms);

/* The dispatcher without sockets, for tests and fuzzers: method, target ("/v1/jobs?limit=3"), body (may be NULL). The reply is filled as a client would
 * see it, problems included; free with reply_clear. */
void http_call(const struct http_conf *c, const char *method, const char *target, const char *content_type, const void *body, size_t n,
               struct reply *out);
/* The same with headers: pairs of name and value, ends with NULL. */
void http_call_with(const struct http_conf *c, const char *method, const char *target, const char *const *headers, const void *body, size_t n,
                    struct reply *out);
void reply_clear(struct reply *r);

/* What this process has answered, on all its listeners, for /metrics: once per route (template; "unmatched") and status; times once per route. */
struct http_count { const char *method, *route; int status; uint64_t n; };
struct http_time { const char *method, *route; struct histogram seconds; };
void http_counts(void (*fn)(void *user, const struct http_count *c), void *user);
void http_times(void (*fn)(void *user, const struct http_time *t), void *user);
int http_in_flight(void);
int http_streams(void); /* replies with a source, and requests that wait */
uint64_t http_uploaded(void); /* bytes of files taken */

#endif
