/* Replies that go on and requests that wait, over real sockets: bytes as they come, the cap, the heartbeat that finds dead clients, the stop. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/mem.h"
#include "server/http.h"
#include "server/log.h"
#include "tests/suite.h"

enum { MAX_STREAMS = 3, IDLE_MS = 300 };

/* ---- a number that grows: streams tell each of its values, waiters wait for it to change ---- */

struct fan { struct source source; struct waker *waker; struct fan *next; int told; };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fan *fans;
static int number;
static atomic_int n_fans, n_calls;

static void grow(void)
{
    pthread_mutex_lock(&lock);
    number++;
    for (struct fan *f = fans; f; f = f->next)
        f->waker->wake(f->waker);
    pthread_mutex_unlock(&lock);
}

static long fan_say(struct fan *f, char *buf, size_t max, enum source_call why)
{
    if (f->told < number)
        return snprintf(buf, max, "<%d>", ++f->told);
    if (why == SOURCE_STOP && f->told < 1000) {
        f->told = 1000;
        return snprintf(buf, max, "bye");
    }
    if (why == SOURCE_STOP || number == 99)
        return SOURCE_END;
    return why == SOURCE_IDLE ? snprintf(buf, max, ".") : 0;
}

static long fan_read(struct source *s, char *buf, size_t max, enum source_call why)
{
    long n;

    pthread_mutex_lock(&lock);
    n = fan_say((struct fan *)(void *)s, buf, max, why);
    pthread_mutex_unlock(&lock);
    return n;
}

static void fan_free(struct source *s)
{
    struct fan *f = (struct fan *)(void *)s;

    pthread_mutex_lock(&lock);
    for (struct fan **at = &fans; *at; at = &(*at)->next)
        if (*at == f) {
            *at = f->next;
            break;
        }
    pthread_mutex_unlock(&lock);
    mem_free(f);
    atomic_fetch_sub(&n_fans, 1);
}

static enum err_code join(const struct req *rq, struct reply *rp, struct err *e)
{
    struct fan *f = mem_zalloc(1, sizeof *f);

    if (!f)
        return err_set(e, ERR_NOMEM, "out of memory");
    f->source = (struct source){ fan_read, fan_free, IDLE_MS };
    f->waker = rq->waker;
    pthread_mutex_lock(&lock);
    f->told = number;
    f->next = fans;
    fans = f;
    pthread_mutex_unlock(&lock);
    atomic_fetch_add(&n_fans, 1);
    rp->source = &f->source;
    return ERR_OK;
}

static enum err_code stream(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    (void)app;
    rp->content_type = "text/plain";
    return join(rq, rp, e);
}

/* Waits until the number has grown by two, or for 700 ms. */
static enum err_code waits(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    static _Thread_local int64_t until;
    enum err_code rc = ERR_OK;
    int grown;

    (void)app;
    atomic_fetch_add(&n_calls, 1);
    if (!rp->source) {
        rc = join(rq, rp, e);
        until = clock_mono_ms() + 700;
    }
    if (rc != ERR_OK)
        return rc;
    pthread_mutex_lock(&lock);
    grown = number - ((struct fan *)(void *)rp->source)->told;
    pthread_mutex_unlock(&lock);
    if (grown < 2 && !rq->last_call && clock_mono_ms() < until) {
        rp->ask_again_ms = until;
        return ERR_OK;
    }
    rp->json = json_pack("{s:i}", "grown", grown);
    return ERR_OK;
}

static const struct route routes[] = {
    { "GET", "/stream", SCOPE_OPEN, 0, 0, NULL, stream, NULL },
    { "GET", "/wait", SCOPE_OPEN, 0, 0, NULL, waits, NULL },
    { NULL, NULL, SCOPE_MISSING, 0, 0, NULL, NULL, NULL }
};

static json_t *problem(const struct err *e, const struct req *rq, int *status)
{
    (void)rq;
    *status = e->code == ERR_BUSY ? 503 : 500;
    return json_pack("{s:s}", "detail", e->msg);
}

/* ---- a server and clients ---- */

static struct http *http;
static struct http_conf conf = { .listen = "127.0.0.1:0", .routes = routes, .max_streams = MAX_STREAMS, .threads = 1, .problem = problem,
                                 .headers_ms = 800 /* so the tick comes each 100 ms */ };

static void set_up(void)
{
    struct err e = { 0 };

    log_set_level(LOG_ERROR);
    number = 0;
    atomic_store(&n_calls, 0);
    ck_assert_msg(http_start(&http, &conf, &e) == ERR_OK, "%s", e.msg);
}

static void tear_down(void)
{
    http_stop(http, 2000);
    ck_assert_int_eq(atomic_load(&n_fans), 0);
    ck_assert_ptr_null(fans);
}

static int get(const char *method, const char *path)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)http_port(http)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[200];
    int n = snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: x\r\n\r\n", method, path);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(write(fd, text, (size_t)n), n);
    return fd;
}

/* Reads until what came contains the text (within 3 s); what came, until the next call. */
static const char *until(int fd, const char *want)
{
    static char got[8192];
    size_t n = 0;
    struct pollfd p = { fd, POLLIN, 0 };

    got[0] = '\0';
    while (!strstr(got, want)) {
        ssize_t k;

        ck_assert_msg(poll(&p, 1, 3000) == 1, "no \"%s\" came, but: %s", want, got);
        k = read(fd, got + n, sizeof got - 1 - n);
        ck_assert_msg(k > 0, "no \"%s\" came, then the end: %s", want, got);
        n += (size_t)k;
        got[n] = '\0';
    }
    return got;
}

static void nap(long ms)
{
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static void wait_fans(int n)
{
    for (int i = 0; i < 300 && atomic_load(&n_fans) != n; i++)
        nap(10);
    ck_assert_int_eq(atomic_load(&n_fans), n);
}

START_TEST(bytes_come_as_they_are_made)
{
    int a = get("GET", "/stream"), b;
    const char *head = until(a, "\r\n\r\n");

    ck_assert_ptr_nonnull(strstr(head, "200 OK"));
    ck_assert_ptr_nonnull(strstr(head, "X-Accel-Buffering: no"));
    ck_assert_ptr_nonnull(strstr(head, "Transfer-Encoding: chunked"));
    for (int i = 1; i <= 5; i++) {
        char want[16];

        snprintf(want, sizeof want, "<%d>", i);
        grow();
        until(a, want);
    }
    b = get("GET", "/stream");
    until(b, "\r\n\r\n");
    grow();
    until(a, "<6>");
    until(b, "<6>");
    until(a, "."); /* the heartbeat */
    close(b);
    wait_fans(1); /* which finds who has gone */
    pthread_mutex_lock(&lock);
    number = 98;
    pthread_mutex_unlock(&lock);
    grow();
    ck_assert_ptr_nonnull(strstr(until(a, "\r\n0\r\n\r\n"), "<99>")); /* a clean end; the connection is good for more */
    ck_assert_int_eq(write(a, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n", 33), 33);
    until(a, "0\r\n\r\n");
    close(a);
    wait_fans(0);
}
END_TEST

START_TEST(the_cap_is_answered)
{
    int fd[MAX_STREAMS], more;

    for (int i = 0; i < MAX_STREAMS; i++) {
        fd[i] = get("GET", i == 0 ? "/wait" : "/stream");
        if (i > 0)
            until(fd[i], "\r\n\r\n");
    }
    wait_fans(MAX_STREAMS);
    more = get("GET", "/stream");
    ck_assert_ptr_nonnull(strstr(until(more, "}"), "HTTP/1.1 503"));
    close(more);
    more = get("GET", "/wait");
    ck_assert_ptr_nonnull(strstr(until(more, "}"), "Retry-After: 2"));
    close(more);
    until(fd[0], "\"grown\":0");
    more = get("GET", "/stream"); /* there is room again */
    ck_assert_ptr_nonnull(strstr(until(more, "\r\n\r\n"), "200 OK"));
    close(more);
    for (int i = 0; i < MAX_STREAMS; i++)
        close(fd[i]);
    wait_fans(0);
}
END_TEST

START_TEST(a_request_waits_for_a_change_or_its_time)
{
    int64_t begun = clock_mono_ms();
    int fd = get("GET", "/wait");

    wait_fans(1);
    grow();
    nap(50);
    ck_assert_int_eq(atomic_load(&n_calls), 2); /* asked again, not yet enough */
    grow();
    until(fd, "\"grown\":2");
    ck_assert_int_lt(clock_mono_ms() - begun, 600);
    ck_assert_int_eq(atomic_load(&n_calls), 3);
    wait_fans(0);
    begun = clock_mono_ms();
    ck_assert_int_eq(write(fd, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n", 31), 31);
    until(fd, "\"grown\":0");
    ck_assert_int_ge(clock_mono_ms() - begun, 650);
    close(fd);
}
END_TEST

START_TEST(a_head_is_only_a_head)
{
    int fd = get("HEAD", "/stream");

    ck_assert_ptr_nonnull(strstr(until(fd, "\r\n\r\n"), "200 OK"));
    wait_fans(0);
    close(fd);
}
END_TEST

START_TEST(a_stop_says_goodbye)
{
    int a = get("GET", "/stream"), b = get("GET", "/wait");
    int64_t begun = clock_mono_ms();

    until(a, "\r\n\r\n");
    wait_fans(2);
    http_stop(http, 2000);
    http = NULL;
    ck_assert_int_lt(clock_mono_ms() - begun, 1500);
    ck_assert_ptr_nonnull(strstr(until(a, "0\r\n\r\n"), "bye"));
    ck_assert_ptr_nonnull(strstr(until(b, "}"), "200 OK")); /* answered as it was */
    close(a);
    close(b);
}
END_TEST

static void *grow_often(void *arg)
{
    for (int i = 0; i < 500; i++) {
        grow();
        nap(1);
    }
    return arg;
}

START_TEST(nothing_is_lost_between_threads)
{
    pthread_t thread;
    int fd[MAX_STREAMS];

    for (int i = 0; i < MAX_STREAMS; i++) {
        fd[i] = get("GET", "/stream");
        until(fd[i], "\r\n\r\n");
    }
    wait_fans(MAX_STREAMS);
    pthread_mutex_lock(&lock);
    number = -402; /* ends at 98: each value is told, one by one */
    for (struct fan *f = fans; f; f = f->next)
        f->told = -402;
    pthread_mutex_unlock(&lock);
    ck_assert_int_eq(pthread_create(&thread, NULL, grow_often, NULL), 0);
    for (int i = 0; i < MAX_STREAMS; i++)
        until(fd[i], "<90>");
    pthread_join(thread, NULL);
    for (int i = 0; i < MAX_STREAMS; i++)
        close(fd[i]);
    grow();
    wait_fans(0);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "http_stream");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, bytes_come_as_they_are_made);
    tcase_add_test(tc, the_cap_is_answered);
    tcase_add_test(tc, a_request_waits_for_a_change_or_its_time);
    tcase_add_test(tc, a_head_is_only_a_head);
    tcase_add_test(tc, a_stop_says_goodbye);
    tcase_add_test(tc, nothing_is_lost_between_threads);
}

SUITE_MAIN("http_stream", cases)
