/* Fuzzes what clients send, without sockets: targets, methods, JSON bodies through the dispatcher; Range and If-Range on a file. Lines of the input: target,
 * Range, If-Range; then the body. */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "server/http_exchange.h"
#include "server/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { FILE_BYTES = 1000 };

static enum err_code echo(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    (void)app;
    (void)e;
    for (int i = 0; i < REQ_MAX_ARGS; i++)
        if (rq->arg[i] && strchr(rq->arg[i], '/'))
            abort();
    rp->json = json_pack("{s:s?,s:O?}", "q", rq->query(rq, "q"), "body", rq->body);
    return ERR_OK;
}

static const struct route routes[] = {
    { .method = "GET", .path = "/things", .query = "q limit", .fn = echo },
    { .method = "POST", .path = "/things", .flags = BODY_JSON, .max_body = 4096, .query = "q", .fn = echo },
    { .method = "GET", .path = "/things/{a}/{b}/{c}", .fn = echo },
    { .method = NULL },
};

static json_t *problem(const struct err *e, const struct req *rq, int *status)
{
    (void)rq;
    *status = e->code == ERR_OK ? 500 : 400;
    return json_pack("{s:s}", "at", "x");
}

/* The next line of the input, to be freed. */
static char *line(const uint8_t **data, size_t *n)
{
    const uint8_t *end = memchr(*data, '\n', *n);
    size_t len = end ? (size_t)(end - *data) : *n;
    char *s = malloc(len + 1);

    memcpy(s, *data, len);
    s[len] = '\0';
    *data += len + (end != NULL);
    *n -= len + (end != NULL);
    return s;
}

static void check_range(const char *range, const char *if_range)
{
    struct reply rp = { .status = 200, .fd = 0, .fd_bytes = FILE_BYTES, .etag = "abc" };
    enum err_code rc = http_range(&rp, range, if_range, NULL);

    if (rc == ERR_OK && (rp.fd_bytes == 0 || rp.fd_offset + rp.fd_bytes > FILE_BYTES || (rp.status != 206) != (rp.fd_bytes == FILE_BYTES && !*rp.content_range)))
        abort();
    if (rc != ERR_OK && rc != ERR_RANGE)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const methods[] = { "GET", "POST", "HEAD", "DELETE", "PATCH" };
    const struct http_conf conf = { .routes = routes, .problem = problem };
    char *target = line(&data, &n), *range = line(&data, &n), *if_range = line(&data, &n);
    struct reply rp;

    log_set_level(LOG_ERROR);
    check_range(range, NULL);
    check_range(range, if_range);
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        http_call(&conf, methods[i], target, "application/json", data, n, &rp);
        if (rp.status < 200 || rp.status > 599)
            abort();
        reply_clear(&rp);
    }
    free(target);
    free(range);
    free(if_range);
    return 0;
}
