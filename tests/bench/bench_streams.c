/* Benchmark of a crowd: N event streams on a running daemon, and how long GET takes on one kept-alive connection meanwhile.
 *
 *     build/tests/bench_streams PORT JOB STREAMS SECONDS
 *
 * Prints streams that are open, events received (per stream, and of the slowest), and percentiles of GET /v1/jobs/JOB. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>


enum { MAX_STREAMS = 20000, MAX_TIMES = 200000 };
struct stream { int fd; long events; };
static struct stream streams[MAX_STREAMS];
static double times[MAX_TIMES]; /* ms */

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int request(int port, const char *path, const char *more)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[400];
    int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, more);

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0 || write(fd, text, (size_t)n) != n) {
        perror("connect");
        exit(EXIT_FAILURE);
    }
    return fd;
}

static long count(const char *text, const char *word)
{
    long n = 0;

    for (const char *p = text; (p = strstr(p, word)); p++)
        n++;
    return n;
}

/* Reads what has come to streams, until `until`. */
static void drain(int ep, double until)
{
    struct epoll_event ev[256];
    char buf[65536];

    do {
        int n = epoll_wait(ep, ev, 256, until > now_ms() ? 1 : 0);

        for (int i = 0; i < n; i++) {
            struct stream *s = ev[i].data.ptr;
            ssize_t k = recv(s->fd, buf, sizeof buf - 1, MSG_DONTWAIT);

            if (k == 0) {
                epoll_ctl(ep, EPOLL_CTL_DEL, s->fd, NULL);
                close(s->fd);
                s->fd = -1;
            } else if (k > 0) {
                buf[k] = '\0';
                s->events += count(buf, "event: ");
            }
        }
    } while (now_ms() < until);
}

/* One GET on a connection that stays open: ms. */
static double get(int fd, const char *path)
{
    char text[400], buf[65536], *body;
    size_t n = 0, length = 0;
    double begun = now_ms();
    int k = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);

    if (write(fd, text, (size_t)k) != k)
        return -1;
    do {
        ssize_t got = read(fd, buf + n, sizeof buf - 1 - n);

        if (got <= 0)
            return -1;
        n += (size_t)got;
        buf[n] = '\0';
        body = strstr(buf, "\r\n\r\n");
        if (body && !length && strstr(buf, "Content-Length: "))
            length = (size_t)(body + 4 - buf) + strtoul(strstr(buf, "Content-Length: ") + 16, NULL, 10);
    } while (!body || n < length);
    return now_ms() - begun;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void report(int n_streams, int n_times)
{
    long sum = 0, least = -1;
    int open = 0;

    for (int i = 0; i < n_streams; i++) {
        open += streams[i].fd >= 0;
        sum += streams[i].events;
        least = least < 0 || streams[i].events < least ? streams[i].events : least;
    }
    qsort(times, (size_t)n_times, sizeof times[0], compare);
    printf("streams open %d of %d, events each %.1f (the slowest %ld); %d GETs: p50 %.2f ms, p99 %.2f ms, most %.2f ms\n", open, n_streams,
           n_streams ? (double)sum / n_streams : 0, least, n_times, times[n_times / 2], times[n_times * 99 / 100], times[n_times - 1]);
}

int main(int argc, char **argv)
{
    struct rlimit r = { 0, 0 };
    char events[100], job[100];
    int ep = epoll_create1(EPOLL_CLOEXEC), port, n, fd, n_times = 0;
    double end;

    if (argc != 5) {
        fprintf(stderr, "usage: bench_streams PORT JOB STREAMS SECONDS\n");
        return EXIT_FAILURE;
    }
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    port = (int)strtol(argv[1], NULL, 10);
    n = (int)strtol(argv[3], NULL, 10);
    snprintf(events, sizeof events, "/v1/jobs/%s/events", argv[2]);
    snprintf(job, sizeof job, "/v1/jobs/%s", argv[2]);
    for (int i = 0; i < n && i < MAX_STREAMS; i++) {
        streams[i].fd = request(port, events, "Accept: text/event-stream\r\n");
        epoll_ctl(ep, EPOLL_CTL_ADD, streams[i].fd, &(struct epoll_event){ .events = EPOLLIN, .data.ptr = &streams[i] });
    }
    drain(ep, now_ms() + 2000); /* what is repeated from the store */
    for (int i = 0; i < n; i++)
        streams[i].events = 0;
    fd = request(port, job, "");
    end = now_ms() + 1000 * strtod(argv[4], NULL);
    (void)get(fd, job); /* the answers of both */
    while (now_ms() < end && n_times < MAX_TIMES) {
        times[n_times++] = get(fd, job);
        drain(ep, now_ms() + 4);
    }
    report(n, n_times);
    return EXIT_SUCCESS;
}
