/* Benchmark of a crowd: what N event streams on a running daemon cost the job that they follow, and how long GET takes meanwhile.
 *
 *     build/tests/bench_streams PORT PID JOB STREAMS PAIRS [SECONDS]
 *
 * A job's pace drifts with the machine by more than the crowd costs. So windows of SECONDS (5) without and with the crowd take turns, PAIRS of them and one
 * without at the end, and each with it is held against the mean of its two neighbours, which takes out a drift that is even; the median of these ratios
 * is the answer, their quartiles and an interval of order statistics its uncertainty. One GET of the job every 10 ms goes on in all windows: its times
 * are the "other requests", and it shows when the job's progress changes (once a second), so that pace is taken between two such moments.
 *
 * The kernel's account of each thread tells whose time it is: the job's (threads that are busy when nobody follows), the rest of the daemon's, this program's. */
#include <arpa/inet.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_STREAMS = 20000, MAX_TIMES = 200000, MAX_PAIRS = 100, MAX_THREADS = 64, GET_EVERY_MS = 10, SETTLE_MS = 1000, GONE_MS = 30000 };
enum who { JOB, DAEMON, CLIENT, WHOS };

struct thread { int id; double ns, first; bool of_job; };
struct moment { double ms, fraction, ns[WHOS]; };                /* of a change of the job's progress */
struct window { double pace, job_per_progress, share[WHOS]; };   /* progress a second; the job's CPU for it; of all processors */

static struct { int port, pid, n; double seconds; char job[100], events[100]; } conf;
static int fd_of_stream[MAX_STREAMS], ep, get_fd;
static long n_events;
static struct thread threads[MAX_THREADS];
static int n_threads;
static double times[2][MAX_TIMES]; /* ms, without and with the crowd */
static int n_times[2];

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void give_up(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

/* ---- the clients ---- */

static int request(const char *path, const char *more)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)conf.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[400];
    int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, more);

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0 || write(fd, text, (size_t)n) != n)
        give_up("connect");
    return fd;
}

/* Reads what has come to streams, until `until`. */
static void drain(double until)
{
    struct epoll_event ev[256];
    char buf[65536];

    do {
        int wait = (int)(until - now_ms()), n = epoll_wait(ep, ev, 256, wait > 0 ? wait : 0);

        for (int i = 0; i < n; i++) {
            int *fd = ev[i].data.ptr;
            ssize_t k = recv(*fd, buf, sizeof buf - 1, MSG_DONTWAIT);

            if (k == 0) {
                close(*fd);
                *fd = -1;
            } else if (k > 0) {
                buf[k] = '\0';
                for (const char *p = buf; (p = strstr(p, "event: ")); p++)
                    n_events++;
            }
        }
    } while (now_ms() < until);
}

static int descriptors(void)
{
    char path[64];
    DIR *d;
    int n = 0;

    snprintf(path, sizeof path, "/proc/%d/fd", conf.pid);
    d = opendir(path);
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

/* All streams come, or go; the daemon learns that they have gone when it next sends something. */
static void crowd(bool comes)
{
    static int before;
    double end = now_ms() + GONE_MS;

    if (comes)
        before = descriptors();
    for (int i = 0; i < conf.n; i++) {
        if (comes) {
            fd_of_stream[i] = request(conf.events, "Accept: text/event-stream\r\n");
            epoll_ctl(ep, EPOLL_CTL_ADD, fd_of_stream[i], &(struct epoll_event){ .events = EPOLLIN, .data.ptr = &fd_of_stream[i] });
        } else if (fd_of_stream[i] >= 0) {
            setsockopt(fd_of_stream[i], SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger)); /* the first thing that is sent fails */
            close(fd_of_stream[i]);
        }
    }
    while (!comes && descriptors() > before + conf.n / 100 && now_ms() < end)
        usleep(100000);
    drain(now_ms() + SETTLE_MS);
}

/* GET of the job on the connection that stays open: its progress. */
static double get(bool with)
{
    char text[400], buf[65536], *body, *found;
    size_t n = 0, length = 0;
    double begun = now_ms();
    int k = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", conf.job);

    if (write(get_fd, text, (size_t)k) != k)
        give_up("write");
    do {
        ssize_t got = read(get_fd, buf + n, sizeof buf - 1 - n);

        if (got <= 0)
            give_up("read");
        n += (size_t)got;
        buf[n] = '\0';
        body = strstr(buf, "\r\n\r\n");
        if (body && !length && (found = strstr(buf, "Content-Length: ")))
            length = (size_t)(body + 4 - buf) + strtoul(found + 16, NULL, 10);
    } while (!body || n < length);
    if (n_times[with] < MAX_TIMES)
        times[with][n_times[with]++] = now_ms() - begun;
    found = strstr(body, "\"fraction\":");
    return found ? strtod(found + 11, NULL) : 0;
}

static double memory_kb(void)
{
    char path[64];
    double pages = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/statm", conf.pid);
    f = fopen(path, "r");
    if (f && fscanf(f, "%*s %lf", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (double)sysconf(_SC_PAGESIZE) / 1024;
}

/* ---- whose time ---- */

static struct thread *thread_of(int id)
{
    for (int i = 0; i < n_threads; i++)
        if (threads[i].id == id)
            return &threads[i];
    if (n_threads == MAX_THREADS)
        give_up("too many threads");
    threads[n_threads] = (struct thread){ .id = id };
    return &threads[n_threads++];
}

static void read_threads(void)
{
    char path[400];
    const struct dirent *f;
    DIR *d;

    snprintf(path, sizeof path, "/proc/%d/task", conf.pid);
    d = opendir(path);
    if (!d)
        give_up(path);
    while ((f = readdir(d))) {
        FILE *stat;
        uint64_t ns;

        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", conf.pid, f->d_name);
        stat = *f->d_name == '.' ? NULL : fopen(path, "r");
        if (stat && fscanf(stat, "%" SCNu64, &ns) == 1)
            thread_of((int)strtol(f->d_name, NULL, 10))->ns = (double)ns;
        if (stat)
            fclose(stat);
    }
    closedir(d);
}

/* The job's threads are those that are busy for a fifth of the time while nobody follows. */
static void find_job(void)
{
    read_threads();
    for (int i = 0; i < n_threads; i++)
        threads[i].first = threads[i].ns;
    drain(now_ms() + SETTLE_MS);
    read_threads();
    for (int i = 0; i < n_threads; i++)
        threads[i].of_job = threads[i].ns - threads[i].first > SETTLE_MS * 1e6 / 5;
}

static struct moment moment(double fraction)
{
    struct moment m = { .ms = now_ms(), .fraction = fraction };
    struct timespec t;

    read_threads();
    for (int i = 0; i < n_threads; i++)
        m.ns[threads[i].of_job ? JOB : DAEMON] += threads[i].ns;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    m.ns[CLIENT] = (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
    return m;
}

/* ---- windows ---- */

static struct window measure(bool with)
{
    double end = now_ms() + conf.seconds * 1000, last = get(with), fraction, passed;
    struct moment first = { .ms = 0 }, latest = { .ms = 0 };
    struct window w;

    while (now_ms() < end || latest.ms <= first.ms) {
        double due = now_ms() + GET_EVERY_MS;

        fraction = get(with);
        if (fraction != last) {
            latest = moment(fraction);
            first = first.ms > 0 ? first : latest;
        }
        last = fraction;
        drain(due);
    }
    passed = latest.ms - first.ms;
    w.pace = (latest.fraction - first.fraction) / passed * 1000;
    w.job_per_progress = (latest.ns[JOB] - first.ns[JOB]) / (latest.fraction - first.fraction);
    for (int i = 0; i < WHOS; i++)
        w.share[i] = 100 * (latest.ns[i] - first.ns[i]) / (passed * 1e6) / (double)sysconf(_SC_NPROCESSORS_ONLN);
    return w;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The interval of two order statistics that holds the median with at least 95 %: that many are cut off at either end. */
static int cut_off(int n)
{
    double p = 1, below = 0;
    int k = 0;

    for (int i = 0; i < n; i++)
        p /= 2;
    for (; k < n / 2 && below + p <= 0.025; k++) {
        below += p;
        p = p * (n - k) / (k + 1);
    }
    return k > 0 ? k - 1 : 0;
}

static void print_spread(const char *what, double *v, int n)
{
    int k = cut_off(n);

    qsort(v, (size_t)n, sizeof v[0], compare);
    printf("%s: median %.2f %%, quartiles %.2f and %.2f, between %.2f and %.2f with %s\n", what, (v[(n - 1) / 2] + v[n / 2]) / 2, v[n / 4], v[(n - 1) - n / 4],
           v[k], v[n - 1 - k],
           n >= 6 ? "95 %" : "all");
}

static void print_times(const char *what, double *v, int n)
{
    qsort(v, (size_t)n, sizeof v[0], compare);
    printf("%d GETs %s: p50 %.2f ms, p99 %.2f ms, most %.2f ms\n", n, what, v[n / 2], v[n * 99 / 100], v[n - 1]);
}

/* window[0, 2, ...] without the crowd, [1, 3, ...] with it. */
static void report(const struct window *window, int pairs)
{
    static const char *const names[] = { "the job", "the rest of the daemon", "this client" };
    static double slower[MAX_PAIRS], dearer[MAX_PAIRS], share[MAX_PAIRS];

    for (int i = 0; i < pairs; i++) {
        const struct window *a = &window[2 * i], *b = a + 1, *c = a + 2;

        slower[i] = 100 * (1 - 2 * b->pace / (a->pace + c->pace));
        dearer[i] = 100 * (2 * b->job_per_progress / (a->job_per_progress + c->job_per_progress) - 1);
        printf("pair %d: the job's pace %.4g, %.4g, %.4g: %.2f %% slower with the crowd\n", i + 1, a->pace, b->pace, c->pace, slower[i]);
    }
    print_spread("the job slowed", slower, pairs);
    print_spread("its CPU time for the same work, more", dearer, pairs);
    for (int who = 0; who < WHOS; who++) {
        for (int i = 0; i < pairs; i++)
            share[i] = window[2 * i + 1].share[who] - (window[2 * i].share[who] + window[2 * i + 2].share[who]) / 2;
        printf("%s of all processors, %.2f %% without and more with the crowd", names[who], window[0].share[who]);
        print_spread("", share, pairs);
    }
    print_times("without", times[0], n_times[0]);
    print_times("with the crowd", times[1], n_times[1]);
}

int main(int argc, char **argv)
{
    static struct window window[2 * MAX_PAIRS + 1];
    static char first[65536];
    struct rlimit r = { 0, 0 };
    double memory[2];
    int pairs, open = 0;

    if (argc < 6) {
        fprintf(stderr, "usage: bench_streams PORT PID JOB STREAMS PAIRS [SECONDS]\n");
        return EXIT_FAILURE;
    }
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    conf.port = (int)strtol(argv[1], NULL, 10);
    conf.pid = (int)strtol(argv[2], NULL, 10);
    conf.n = (int)strtol(argv[4], NULL, 10);
    conf.n = conf.n < MAX_STREAMS ? conf.n : MAX_STREAMS;
    pairs = (int)strtol(argv[5], NULL, 10);
    pairs = pairs < 1 ? 1 : pairs < MAX_PAIRS ? pairs : MAX_PAIRS;
    conf.seconds = argc > 6 ? strtod(argv[6], NULL) : 5;
    snprintf(conf.events, sizeof conf.events, "/v1/jobs/%s/events", argv[3]);
    snprintf(conf.job, sizeof conf.job, "/v1/jobs/%s", argv[3]);
    ep = epoll_create1(EPOLL_CLOEXEC);
    get_fd = request(conf.job, "");
    usleep(100000);
    if (read(get_fd, first, sizeof first) <= 0)
        give_up("read");
    find_job();
    for (int i = 0; i < 2 * pairs + 1; i++) {
        if (i > 0)
            crowd(i % 2);
        window[i] = measure(i % 2);
        if (i < 2)
            memory[i] = memory_kb();
        for (int s = 0; i == 1 && s < conf.n; s++)
            open += fd_of_stream[s] >= 0;
    }
    printf("%d streams open of %d, %.1f events each while they were, %.1f KB each\n", open, conf.n, (double)n_events / conf.n / pairs,
           (memory[1] - memory[0]) / conf.n);
    report(window, pairs);
    return EXIT_SUCCESS;
}
