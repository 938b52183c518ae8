/* The HTTP transport and clients that lie, drip, break off or come in crowds; slow requests; its stop. */
#include "tests/server/http_fixture.h"

/* ---- bodies that lie, break off or drip ---- */

static void wait_no_temp_files(void)
{
    const struct timespec pause = { 0, 5000000 };

    for (int i = 0; i < 400 && n_temp_files() > 0; i++)
        nanosleep(&pause, NULL);
    ck_assert_int_eq(n_temp_files(), 0);
}

START_TEST(broken_off_upload_leaves_nothing)
{
    static const char *const head[] = { "Content-Length: 50000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n400\r\nhalf",
                                        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n" };
    struct http_conf c = conf();
    struct http *h = start(&c);
    const struct timespec pause = { 0, 50000000 };

    for (size_t i = 0; i < 3; i++) {
        int fd = dial(h);

        say(fd, "PUT /things/1/file HTTP/1.1\r\nHost: x\r\n");
        say(fd, head[i]);
        nanosleep(&pause, NULL);
        if (i < 2)
            ck_assert_int_eq(n_temp_files(), 1);
        close(fd);
        wait_no_temp_files();
    }
    ck_assert_int_eq(atomic_load(&n_handled), 0);
    stop(h);
}
END_TEST

/* Sends text, then a byte every 20 ms; how long until the server has closed, in ms. */
static int64_t drip(const struct http *h, const char *text, char **answer)
{
    const struct timespec pause = { 0, 20000000 };
    int64_t begun = clock_mono_ms();
    int fd = dial(h);
    bool closed = false;

    say(fd, text);
    for (int i = 0; i < 150 && !closed; i++) {
        char c;

        say(fd, "a");
        nanosleep(&pause, NULL);
        closed = recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) >= 0;
    }
    *answer = hear(fd, 100, &closed);
    close(fd);
    return clock_mono_ms() - begun;
}

START_TEST(slow_clients_are_cut)
{
    static const char *const text[] = { "GET /things HTTP/1.1\r\nHost: x\r\nX: ", "G",
                                        "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" };
    struct http_conf c = conf();
    struct http *h;
    char *answer;
    bool closed;

    c.headers_ms = 300;
    c.idle_ms = 400;
    c.upload_ms = 300;
    h = start(&c);
    for (size_t i = 0; i < 3; i++) {
        int64_t ms = drip(h, text[i], &answer);

        ck_assert_msg(ms >= 290 && ms < 1500, "%zu: %d ms", i, (int)ms);
        ck_assert_msg(strncmp(answer, "HTTP/1.1 408", 12) == 0, "%zu: %s", i, answer);
    }
    ck_assert(drip(h, "GET /things HTTP/1.1\r\nHost: x\r\n\r\n", &answer) < 2000); /* an idle connection, then dripped on */
    ck_assert_int_eq(ask(h, "GET /things HTTP/1.1\r\nHost: x\r\n\r\n", &answer, &closed), 200);
    wait_no_temp_files();
    stop(h);
}
END_TEST

START_TEST(too_many_connections_get_503)
{
    struct http_conf c = conf();
    struct http *h;
    int fd[4];
    char *text;
    bool closed;

    c.max_connections = 4;
    h = start(&c);
    for (int i = 0; i < 4; i++) {
        fd[i] = dial(h);
        say(fd[i], "GET /things HTTP/1.1\r\nHost: x\r\n\r\n");
        text = hear(fd[i], 2000, &closed);
        ck_assert(strncmp(text, "HTTP/1.1 200", 12) == 0 && !closed);
    }
    ck_assert_int_eq(ask(h, "GET /things HTTP/1.1\r\nHost: x\r\n\r\n", &text, &closed), 503);
    ck_assert_ptr_nonnull(strstr(text, "Retry-After: "));
    ck_assert(closed);
    close(fd[0]);
    for (int i = 0; i < 100 && ask(h, "GET /things HTTP/1.1\r\nHost: x\r\n\r\n", &text, &closed) != 200; i++)
        ck_assert_int_lt(i, 99);
    for (int i = 1; i < 4; i++)
        close(fd[i]);
    stop(h);
}
END_TEST

/* ---- slow requests and the stop ---- */

static void wait_for(atomic_int *n, int want)
{
    const struct timespec pause = { 0, 1000000 };

    for (int i = 0; i < 5000 && atomic_load(n) < want; i++)
        nanosleep(&pause, NULL);
    ck_assert_int_ge(atomic_load(n), want);
}

START_TEST(slow_requests_hold_up_nobody)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    char *text;
    bool closed;
    int fd[6];

    atomic_store(&slow_may_end, 0);
    for (int i = 0; i < 6; i++) {
        fd[i] = dial(h);
        say(fd[i], "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    wait_for(&slow_running, 2);
    close(fd[5]); /* a client that goes away while it waits */
    close(fd[0]);
    ck_assert_int_eq(ask(h, "GET /things HTTP/1.1\r\nHost: x\r\n\r\n", &text, &closed), 200);
    atomic_store(&slow_may_end, 1);
    for (int i = 1; i < 5; i++) {
        text = hear(fd[i], 2000, &closed);
        ck_assert_msg(strncmp(text, "HTTP/1.1 200", 12) == 0, "%d: %s", i, text);
        close(fd[i]);
    }
    stop(h);
}
END_TEST

static void *end_soon(void *arg)
{
    const struct timespec pause = { 0, 200000000 };

    (void)arg;
    nanosleep(&pause, NULL);
    atomic_store(&slow_may_end, 1);
    return NULL;
}

START_TEST(stop_during_slow_requests)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    pthread_t t;
    int fd[4], n_ok = 0, n_busy = 0;
    bool closed;

    atomic_store(&slow_may_end, 0);
    for (int i = 0; i < 4; i++) {
        fd[i] = dial(h);
        say(fd[i], "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    wait_for(&slow_running, 2);
    ck_assert_int_eq(pthread_create(&t, NULL, end_soon, NULL), 0);
    http_stop(h, 50); /* two run and are waited for, two still queue and get 503 */
    pthread_join(t, NULL);
    for (int i = 0; i < 4; i++) {
        const char *text = hear(fd[i], 2000, &closed);

        n_ok += strncmp(text, "HTTP/1.1 200", 12) == 0;
        n_busy += strncmp(text, "HTTP/1.1 503", 12) == 0;
        close(fd[i]);
    }
    ck_assert_int_eq(n_ok, 2);
    ck_assert_int_eq(n_busy, 2);
    rmdir(temp_dir);
}
END_TEST

START_TEST(stop_with_open_connections)
{
    struct http_conf c = conf();
    struct http *h = start(&c);
    int idle = dial(h), half = dial(h);
    int64_t begun;
    const struct timespec pause = { 0, 50000000 };

    say(half, "PUT /things/1/file HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\nhalf");
    nanosleep(&pause, NULL);
    begun = clock_mono_ms();
    http_stop(h, 100);
    ck_assert_int_lt(clock_mono_ms() - begun, 1500);
    ck_assert_int_eq(n_temp_files(), 0);
    close(idle);
    close(half);
    rmdir(temp_dir);
}
END_TEST

START_TEST(addresses)
{
    static const char *const bad[] = { "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "no such host.invalid:80", "" };
    struct http_conf c = conf();
    struct http *h, *h2 = NULL;
    struct err e;
    char taken[40];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        c.listen = bad[i];
        ck_assert_int_ne(http_start(&h2, &c, &e), ERR_OK);
    }
    c.listen = "127.0.0.1:0";
    h = start(&c);
    snprintf(taken, sizeof taken, "127.0.0.1:%d", http_port(h));
    c.listen = taken;
    ck_assert_int_eq(http_start(&h2, &c, &e), ERR_IO);
    ck_assert_msg(strstr(e.msg, taken), "%s", e.msg);
    stop(h);
    http_stop(NULL, 0);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "clients");

    tcase_add_test(tc, broken_off_upload_leaves_nothing);
    tcase_add_test(tc, slow_clients_are_cut);
    tcase_add_test(tc, too_many_connections_get_503);
    tcase_add_test(tc, slow_requests_hold_up_nobody);
    tcase_add_test(tc, stop_during_slow_requests);
    tcase_add_test(tc, stop_with_open_connections);
    tcase_add_test(tc, addresses);
}
SUITE_MAIN("http clients", cases)
