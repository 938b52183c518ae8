/* server/http_exchange.h: one request and its reply, without sockets: what http.c (sockets) and http_call (tests) share.
 *
 * Order of calls: exchange_new, exchange_begin, exchange_body for each piece, exchange_finish, exchange_free. What fails on the way is kept in
 * x->err; exchange_finish makes the problem document of it. After exchange_begin, x->err tells whether the body need be read at all. */
#ifndef SERVER_HTTP_EXCHANGE_H
#define SERVER_HTTP_EXCHANGE_H

#include "server/http.h"

enum { HTTP_MAX_SEGMENTS = 12, HTTP_MAX_QUERY = 16, HTTP_MAX_TOKENS = 10000 };

/* server/http_path.c: a request target, cut and decoded in place. */
struct http_target {
    char *segment[HTTP_MAX_SEGMENTS];
    int n_segments; /* HTTP_MAX_SEGMENTS + 1: more than any route has */
    struct { char *name, *value; } query[HTTP_MAX_QUERY];
    int n_query;
};
/* text is cut into pieces that *t points to. ERR_SYNTAX: no origin form, %00, control bytes, bad UTF-8, "%2f" in a segment, a bad escape. */
MUST enum err_code http_target_parse(struct http_target *t, char *text, struct err *e);

/* server/http_range.c: a whole file of rp, with its ETag, becomes the part that a client asked for, 206; ERR_RANGE: not within it. range, if_range: the
 * headers, NULL: absent. */
MUST enum err_code http_range(struct reply *rp, const char *range, const char *if_range, struct err *e);

#define HTTP_UNDECLARED UINT64_MAX
struct exchange {
    const struct http_conf *conf;
    const struct route *route; /* NULL: none matched */
    struct req rq;
    struct reply reply;
    struct err err; /* ERR_OK: nothing failed so far */
    struct http_target target;
    char *path, *target_text;
    char method[16], content_type[96];
    uint64_t declared, max_body;
    char *body; /* BODY_JSON */
    size_t body_room;
    struct file_out *upload; /* BODY_FILE */
    char upload_path[4096], upload_hash[FILE_HASH_LEN];
    bool published;
    json_t *json;
    const char *(*header)(void *user, const char *name); /* NULL in http_call: only Content-Type */
    void *header_user;
    bool (*stream_room)(void *user); /* asked before a reply with a source: is there room for one more? NULL: always */
    void *stream_user;
    int64_t begun_ms; /* monotonic */
};
/* NULL: out of memory. */
struct exchange *exchange_new(const struct http_conf *conf, const char *target);
/* header and header_user are set before. declared: Content-Length, or HTTP_UNDECLARED for a chunked body. */
void exchange_begin(struct exchange *x, const char *method, uint64_t declared);
void exchange_body(struct exchange *x, const void *data, size_t n);
/* Parses or publishes the body, calls the handler, makes problem documents; counts. Afterwards x->reply is what the client gets. */
void exchange_finish(struct exchange *x);
bool exchange_waits(const struct exchange *x); /* after exchange_finish: call it again at reply.ask_again_ms, or when rq.waker rings */
bool exchange_slow(const struct exchange *x); /* finish belongs to the slow threads */
void exchange_free(struct exchange *x);
/* The reply's text, to be mem_freed; NULL: out of memory, or nothing to send (*n 0). Takes what reply->text owns. */
char *exchange_text(struct exchange *x, size_t *n);
const char *exchange_route(const struct exchange *x); /* the template, or "unmatched" */

#endif
