/* The HTTP transport over real sockets: requests, what it refuses and how, limits at their edges; the dispatcher without sockets. */
#include "tests/server/http_fixture.h"

/* ---- smuggling ---- */

#define NEXT "GET /things?q=smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
static const char *const smuggling[] = {
    "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 60\r\n\r\n{}" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: foo\r\n\r\n0\r\n\r\n" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length : 2\r\n\r\n{}" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}" NEXT,
    "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}" NEXT,
    "GET /things HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" NEXT,
    "GET /things HTTP/1.1\r\n\r\n" NEXT,
    "GET /things HTTP/1.1\r\nHost: x\r\nX\x01Y: 1\r\n\r\n" NEXT,
    "GET /things HTTP/1.1\r\nHost: x\r\nX\xc3\xa9: 1\r\n\r\n" NEXT,
};

START_TEST(smuggling_is_refused)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    char *text;
    bool closed;
    int status = ask(h, smuggling[_i], &text, &closed);

    ck_assert_msg(status == 400, "%s", text);
    ck_assert(closed);
    ck_assert_int_eq(atomic_load(&n_handled), 0);
    stop(h);
}
END_TEST

/* ---- one request, one answer ---- */

static const struct { const char *request; int status; const char *holds; } plain[] = {
    { "GET /things?q=a%20b+c HTTP/1.1\r\nHost: x\r\n\r\n", 200, "\"q\":\"a b c\"" },
    { "GET /things/%C3%A9 HTTP/1.1\r\nHost: x\r\n\r\n", 200, "\"arg\":\"\xc3\xa9\"" },
    { "GET /things?q=1 HTTP/1.1\r\nHost: x\r\nX-Request-Id: abc-1.2_3\r\n\r\n", 200, "X-Request-Id: abc-1.2_3\r\n" },
    { "GET /things HTTP/1.1\r\nHost: x\r\nX-Request-Id: a b\r\n\r\n", 200, "X-Request-Id: req_" },
    { "GET /things HTTP/1.1\r\nHost: x\r\n\r\n", 200, "X-Content-Type-Options: nosniff" },
    { "GET /things?colour=red HTTP/1.1\r\nHost: x\r\n\r\n", 422, "?colour" },
    { "GET /things?q=1&q=2 HTTP/1.1\r\nHost: x\r\n\r\n", 422, "twice" },
    { "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404, "\"detail\"" },
    { "GET /things/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, "" },
    { "GET /things/../things HTTP/1.1\r\nHost: x\r\n\r\n", 404, "" },
    { "GET /a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p HTTP/1.1\r\nHost: x\r\n\r\n", 404, "" },
    { "GET /tagged HTTP/1.1\r\nHost: x\r\n\r\n", 200, "ETag: \"abc\"\r\n" },
    { "GET /tagged HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"x\", \"abc\"\r\n\r\n", 304, "ETag: \"abc\"\r\n" },
    { "GET /tagged HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"abcd\"\r\n\r\n", 200, "\"method\":\"GET\"" },
    { "PATCH /things/1 HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: GET, HEAD, DELETE\r\n" },
    { "GET /things/a%00b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "%00" },
    { "GET /things/a%2fb HTTP/1.1\r\nHost: x\r\n\r\n", 400, "" },
    { "GET /things/a%0ab HTTP/1.1\r\nHost: x\r\n\r\n", 400, "" },
    { "GET /things/%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400, "UTF-8" },
    { "GET /things/%C0%AF HTTP/1.1\r\nHost: x\r\n\r\n", 400, "UTF-8" },
    { "GET /things/%4 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "" },
    { "GET http://x/things HTTP/1.1\r\nHost: x\r\n\r\n", 400, "" },
    { "GET /things HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 413, "no body" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{\"a\":1}", 200, "\"body\":{\"a\":1}" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/merge+json; a=b\r\nContent-Length: 2\r\n\r\n{}", 200, "" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{]", 400, "line 1" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 400, "empty" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"a\":1,\"a\":2}", 400, "" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415, "application/json" },
    { "POST /things HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415, "Content-Encoding" },
    { "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\n{}", 415, "multipart" },
    { "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nContent-Length: 77777\r\n\r\nabc", 507, "full" },
    { "PUT /things/missing/file HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\nabc", 404, "no such thing" },
    { "PUT /things/1/file HTTP/1.1\r\nHost: x\r\n\r\n", 400, "empty" },
    { "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 200,
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 200,
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "empty" },
    { "POST /things/1/go HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n\r\n", 403, "origin" },
    { "POST /things/1/go HTTP/1.1\r\nHost: x:80\r\nOrigin: http://x:80\r\n\r\n", 200, "" },
};

START_TEST(one_request)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    char *text;
    bool closed;
    int status = ask(h, plain[_i].request, &text, &closed);

    ck_assert_msg(status == plain[_i].status, "%s\n%s", plain[_i].request, text);
    ck_assert_msg(strstr(text, plain[_i].holds), "%s\n%s", plain[_i].holds, text);
    ck_assert_int_eq(count(text, "HTTP/1.1 "), 1);
    stop(h);
}
END_TEST

START_TEST(head_is_get_without_body)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    char *text;
    bool closed;

    ck_assert_int_eq(ask(h, "HEAD /things HTTP/1.1\r\nHost: x\r\n\r\n", &text, &closed), 200);
    ck_assert_ptr_nonnull(strstr(text, "Content-Length: "));
    ck_assert_str_eq(strstr(text, "\r\n\r\n"), "\r\n\r\n");
    ck_assert_int_eq(ask(h, "HEAD /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", &text, &closed), 404);
    stop(h);
}
END_TEST

static const struct { const char *headers; int status; const char *range, *body; } ranges[] = {
    { "", 200, NULL, "abcdefghijklmnopqrstuvwxyz" },
    { "Range: bytes=0-0\r\n", 206, "bytes 0-0/26", "a" },
    { "Range: bytes=2-5\r\n", 206, "bytes 2-5/26", "cdef" },
    { "Range: bytes=20-\r\n", 206, "bytes 20-25/26", "uvwxyz" },
    { "Range: bytes=20-99\r\n", 206, "bytes 20-25/26", "uvwxyz" },
    { "Range: bytes=-3\r\n", 206, "bytes 23-25/26", "xyz" },
    { "Range: bytes=-99\r\n", 206, "bytes 0-25/26", "abcdefghijklmnopqrstuvwxyz" },
    { "Range: bytes=26-\r\n", 416, "bytes */26", NULL },
    { "Range: bytes=-0\r\n", 416, "bytes */26", NULL },
    { "Range: bytes=5-2\r\n", 200, NULL, NULL },
    { "Range: bytes=0-1,4-5\r\n", 200, NULL, NULL },
    { "Range: bytes=\r\n", 200, NULL, NULL },
    { "Range: bytes=-\r\n", 200, NULL, NULL },
    { "Range: bytes=x-3\r\n", 200, NULL, NULL },
    { "Range: bytes=1-9999999999999999999\r\n", 200, NULL, NULL },
    { "Range: lines=1-2\r\n", 200, NULL, NULL },
    { "Range: bytes=2-5\r\nIf-Range: \"abc\"\r\n", 206, "bytes 2-5/26", "cdef" },
    { "Range: bytes=2-5\r\nIf-Range: \"old\"\r\n", 200, NULL, "abcdefghijklmnopqrstuvwxyz" },
    { "Range: bytes=2-5\r\nIf-Range: W/\"abc\"\r\n", 200, NULL, NULL },
    { "Range: bytes=2-5\r\nIf-None-Match: \"abc\"\r\n", 304, NULL, "" },
};

START_TEST(parts_of_files)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    char request[300], want[100];
    const char *body;
    char *text;
    bool closed;

    snprintf(request, sizeof request, "GET /alphabet HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n", ranges[_i].headers);
    ck_assert_int_eq(ask(h, request, &text, &closed), ranges[_i].status);
    if (ranges[_i].range) {
        snprintf(want, sizeof want, "Content-Range: %s\r\n", ranges[_i].range);
        ck_assert_msg(strstr(text, want), "%s", text);
    } else {
        ck_assert_ptr_null(strstr(text, "Content-Range"));
    }
    ck_assert_int_eq(strstr(text, "Accept-Ranges: bytes") != NULL, ranges[_i].status < 300);
    body = strstr(text, "\r\n\r\n");
    ck_assert_ptr_nonnull(body);
    if (ranges[_i].body)
        ck_assert_str_eq(body + 4, ranges[_i].body);
    snprintf(request, sizeof request, "HEAD /alphabet HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n", ranges[_i].headers);
    ck_assert_int_eq(ask(h, request, &text, &closed), ranges[_i].status == 304 ? 304 : 200); /* Range is for GET alone */
    if (ranges[_i].status != 304)
        ck_assert_ptr_nonnull(strstr(text, "Content-Length: 26\r\n"));
    ck_assert_str_eq(strstr(text, "\r\n\r\n"), "\r\n\r\n");
    stop(h);
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_order)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    char *text;
    bool closed;

    ask(h, "GET /things?q=one HTTP/1.1\r\nHost: x\r\n\r\nPOST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
           "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /things?q=two HTTP/1.1\r\nHost: x\r\n\r\n", &text, &closed);
    ck_assert_int_eq(count(text, "HTTP/1.1 200"), 4);
    ck_assert_int_eq(count(text, "HTTP/1.1 404"), 1);
    ck_assert(strstr(text, "\"q\":\"one\"") < strstr(text, "\"q\":\"two\""));
    stop(h);
}
END_TEST

/* ---- limits at their edges ---- */

/* A body of n bytes, declared or in chunks: JSON (a string) or a file. */
static int send_body(const struct http *h, const char *start_line, size_t n, bool chunked)
{
    char *body = mem_alloc(n + 1), head[200], *text;
    int fd = dial(h), status = 0;
    bool closed;

    memset(body, 'x', n);
    body[0] = body[n - 1] = '"';
    snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: x\r\n", start_line);
    say(fd, head);
    snprintf(head, sizeof head, chunked ? "Transfer-Encoding: chunked\r\n\r\n%zx\r\n" : "Content-Length: %zu\r\n\r\n", n);
    say(fd, head);
    (void)!send(fd, body, n, MSG_NOSIGNAL);
    if (chunked)
        say(fd, "\r\n0\r\n\r\n");
    text = hear(fd, 2000, &closed);
    sscanf(text, "HTTP/1.1 %d", &status);
    close(fd);
    mem_free(body);
    return status;
}

START_TEST(limits)
{
    static const struct { const char *start_line; size_t limit; } row[] = { { "POST /things", JSON_LIMIT }, { "PUT /things/1/file", FILE_LIMIT } };
    struct http_conf c = conf();
    struct http *h = start(&c);

    for (size_t i = 0; i < 2; i++)
        for (int chunked = 0; chunked < 2; chunked++) {
            ck_assert_int_eq(send_body(h, row[i].start_line, row[i].limit - 1, chunked), 200);
            ck_assert_int_eq(send_body(h, row[i].start_line, row[i].limit, chunked), 200);
            ck_assert_int_eq(send_body(h, row[i].start_line, row[i].limit + 1, chunked), 413);
        }
    stop(h);
}
END_TEST

START_TEST(expect_continue)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    int fd = dial(h);
    bool closed;
    char *text;

    say(fd, "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    text = hear(fd, 2000, &closed);
    ck_assert_msg(strncmp(text, "HTTP/1.1 100", 12) == 0, "%s", text);
    say(fd, "abc");
    text = hear(fd, 2000, &closed);
    ck_assert_msg(strncmp(text, "HTTP/1.1 200", 12) == 0, "%s", text);
    close(fd);
    ask(h, "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 900000\r\n\r\n", &text, &closed);
    ck_assert_msg(strncmp(text, "HTTP/1.1 413", 12) == 0, "%s", text);
    stop(h);
}
END_TEST

/* ---- without sockets ---- */

START_TEST(targets_of_random_bytes) /* never reads or writes outside (ASan), and what it accepts is clean */
{
    static const char some[] = "/%?&=+#.aA0f2\xc3\xa9\x01";
    struct rng r = { 7, RNG_TEST, 0, 0 };
    uint64_t draw = 0;

    for (int i = 0; i < 50000; i++) {
        size_t n = rng_below(&r, draw++, 60);
        char *text = mem_alloc(n + 2);
        struct http_target t;

        text[0] = '/';
        for (size_t k = 1; k <= n; k++)
            text[k] = i % 2 ? some[rng_below(&r, draw++, sizeof some - 1)] : (char)(1 + rng_below(&r, draw++, 255));
        text[n + 1] = '\0';
        if (http_target_parse(&t, text, NULL) == ERR_OK)
            for (int s = 0; s < t.n_segments && s < HTTP_MAX_SEGMENTS; s++) {
                json_t *utf8 = json_string(t.segment[s]);

                ck_assert_ptr_nonnull(utf8);
                ck_assert_ptr_null(strpbrk(t.segment[s], "/\x01\x1f\x7f"));
                json_decref(utf8);
            }
        mem_free(text);
    }
}
END_TEST

/* Every allocation and every file operation of an upload fails once: an error status, and nothing stays. */
START_TEST(faults)
{
    struct http_conf c = conf();
    struct reply rp;
    bool fired = true;

    for (long k = 1; fired; k++) {
        mem_fail_in = k;
        http_call(&c, "POST", "/things", "application/json", "{\"a\": [1, 2]}", 13, &rp);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_int_eq(rp.status, fired ? 503 : 200);
        reply_clear(&rp);
    }
    fired = true;
    for (long k = 1; fired; k++) {
        file_fail_in = k;
        http_call(&c, "PUT", "/things/1/file", NULL, "abc", 3, &rp);
        fired = file_fail_in == 0;
        file_fail_in = 0;
        ck_assert_int_eq(rp.status, fired ? 507 : 200);
        ck_assert_int_eq(n_temp_files(), 0);
        reply_clear(&rp);
    }
    rmdir(temp_dir);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "requests");

    tcase_add_loop_test(tc, smuggling_is_refused, 0, sizeof smuggling / sizeof smuggling[0]);
    tcase_add_loop_test(tc, one_request, 0, sizeof plain / sizeof plain[0]);
    tcase_add_test(tc, head_is_get_without_body);
    tcase_add_loop_test(tc, parts_of_files, 0, sizeof ranges / sizeof ranges[0]);
    tcase_add_test(tc, pipelined_requests_are_answered_in_order);
    tcase_add_test(tc, limits);
    tcase_add_test(tc, expect_continue);
    tc = suite_case(s, "dispatcher");
    tcase_add_test(tc, targets_of_random_bytes);
    tcase_add_test(tc, faults);
}
SUITE_MAIN("http", cases)
