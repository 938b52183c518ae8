/* api/metrics.c: the server's figures for Prometheus, text format 0.0.4. No label has a value that a client chose. */
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "server/log.h"

static void head(struct api_text *t, const char *name, const char *type, const char *help)
{
    api_text_add(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(struct api_text *t, const char *name, const char *type, const char *help, double value)
{
    head(t, name, type, help);
    api_text_add(t, "%s %.15g\n", name, value);
}

/* labels: `state="failed",` or "". */
static void put_histogram(struct api_text *t, const char *name, const char *labels, const struct histogram *h)
{
    int n_labels = (int)strlen(labels);
    uint64_t n = 0;

    for (int i = 0;; i++) {
        n += h->bucket[i];
        if (!isfinite(h->bound[i]))
            break;
        api_text_add(t, "%s_bucket{%sle=\"%g\"} %llu\n", name, labels, h->bound[i], (unsigned long long)n);
    }
    api_text_add(t, "%s_bucket{%sle=\"+Inf\"} %llu\n", name, labels, (unsigned long long)n);
    if (n_labels > 0) { /* without the comma at its end */
        api_text_add(t, "%s_sum{%.*s} %.15g\n%s_count{%.*s} %llu\n", name, n_labels - 1, labels, h->sum, name, n_labels - 1, labels,
                     (unsigned long long)n);
    } else {
        api_text_add(t, "%s_sum %.15g\n%s_count %llu\n", name, h->sum, name, (unsigned long long)n);
    }
}

/* ---- requests ---- */

static void put_count(void *user, const struct http_count *c)
{
    api_text_add(user, "espalier_http_requests_total{method=\"%s\",route=\"%s\",code=\"%d\"} %llu\n", c->method, c->route, c->status,
                 (unsigned long long)c->n);
}

static void put_time(void *user, const struct http_time *c)
{
    char labels[200];

    snprintf(labels, sizeof labels, "method=\"%s\",route=\"%s\",", c->method, c->route);
    put_histogram(user, "espalier_http_request_duration_seconds", labels, &c->seconds);
}

static void put_requests(struct api_text *t)
{
    head(t, "espalier_http_requests_total", "counter", "Requests answered.");
    http_counts(put_count, t);
    head(t, "espalier_http_request_duration_seconds", "histogram", "From the request's first byte to its answer, the body included.");
    http_times(put_time, t);
    one(t, "espalier_http_requests_in_flight", "gauge", "Requests under way, their answers included.", http_in_flight());
    one(t, "espalier_sse_clients", "gauge", "Event streams and waiting requests.", http_streams());
    one(t, "espalier_http_upload_bytes_total", "counter", "Bytes of files taken.", (double)http_uploaded());
}

/* ---- jobs and the store ---- */

static void put_jobs(struct api_text *t, const int64_t count[JOB_STATES], const struct store_figures *f)
{
    char labels[60];

    head(t, "espalier_jobs", "gauge", "Jobs stored, by state.");
    for (int s = 0; s < JOB_STATES; s++)
        api_text_add(t, "espalier_jobs{state=\"%s\"} %lld\n", job_state_name((enum job_state)s), (long long)count[s]);
    head(t, "espalier_job_transitions_total", "counter", "Jobs that came into a state.");
    for (int s = 0; s < JOB_STATES; s++)
        api_text_add(t, "espalier_job_transitions_total{to=\"%s\"} %llu\n", job_state_name((enum job_state)s), (unsigned long long)f->moved[s]);
    head(t, "espalier_job_queue_seconds", "histogram", "From the post of a job to the first time a worker took it.");
    put_histogram(t, "espalier_job_queue_seconds", "", &f->queue_seconds);
    head(t, "espalier_job_duration_seconds", "histogram", "From the first time a worker took a job to its end, by how it ended.");
    for (int s = 0; s < JOB_STATES; s++)
        if (job_state_final((enum job_state)s)) {
            snprintf(labels, sizeof labels, "state=\"%s\",", job_state_name((enum job_state)s));
            put_histogram(t, "espalier_job_duration_seconds", labels, &f->job_seconds[s]);
        }
}

static void put_store(struct api_text *t, const struct store_figures *f)
{
    one(t, "espalier_db_writes_total", "counter", "Write transactions.", (double)f->writes);
    one(t, "espalier_db_write_errors_total", "counter", "Write transactions that the database failed.", (double)f->write_errors);
    one(t, "espalier_db_busy_total", "counter", "Write transactions that were run again because the database was busy.", (double)f->busy);
    head(t, "espalier_db_write_duration_seconds", "histogram", "Of a write transaction, its wait for the writer included.");
    put_histogram(t, "espalier_db_write_duration_seconds", "", &f->write_seconds);
    one(t, "espalier_db_wal_bytes", "gauge", "Size of the write-ahead log.", (double)f->wal_bytes);
    one(t, "espalier_disk_free_bytes", "gauge", "Free on the disk of the data directory.", (double)f->disk_free);
    one(t, "espalier_disk_floor_bytes", "gauge", "Kept free: below it, uploads and checkpoints are refused.", (double)f->disk_floor);
}

/* ---- access ---- */

static void put_access(struct api_text *t, struct app *app, const struct store_figures *f)
{
    static const char refused[] = "espalier_quota_rejections_total";
    struct quota_figures q;

    quota_figures(app->quota, &q);
    one(t, "espalier_tokens", "gauge", "Tokens that are valid.", app->auth ? (double)auth_count(app->auth, clock_ms()) : 0);
    one(t, "espalier_auth_failures_total", "counter", "Requests with a wrong token.", (double)q.wrong_tokens);
    one(t, "espalier_auth_limited_total", "counter", "Those of them that came too often from one address.", (double)q.limited_addresses);
    head(t, refused, "counter", "Requests refused by a tenant's limit, by limit.");
    api_text_add(t, "%s{limit=\"bytes\"} %llu\n", refused, (unsigned long long)f->over_bytes);
    api_text_add(t, "%s{limit=\"jobs\"} %llu\n", refused, (unsigned long long)f->over_jobs);
    api_text_add(t, "%s{limit=\"streams\"} %llu\n", refused, (unsigned long long)q.streams);
    api_text_add(t, "%s{limit=\"requests\"} %llu\n", refused, (unsigned long long)q.requests);
}

/* ---- the process ---- */

/* Pages of /proc/self/statm: all, and resident. */
static void memory_pages(long long *all, long long *resident)
{
    char text[128] = "", *end;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    *all = strtoll(text, &end, 10);
    *resident = strtoll(end, NULL, 10);
}

static int open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = -1; /* the folder's own */

    if (!d)
        return 0;
    for (const struct dirent *f; (f = readdir(d));)
        n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

static void put_process(struct api_text *t, int64_t started_ms)
{
    struct timespec cpu = { 0 };
    struct rlimit files = { 0 };
    long long all, resident;
    double page = (double)sysconf(_SC_PAGESIZE);

    memory_pages(&all, &resident);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    getrlimit(RLIMIT_NOFILE, &files);
    one(t, "process_cpu_seconds_total", "counter", "CPU time, user and system.", (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    one(t, "process_open_fds", "gauge", "Open file descriptors.", open_files());
    one(t, "process_max_fds", "gauge", "File descriptors allowed.", (double)files.rlim_cur);
    one(t, "process_resident_memory_bytes", "gauge", "Resident memory.", (double)resident * page);
    one(t, "process_virtual_memory_bytes", "gauge", "Virtual memory.", (double)all * page);
    one(t, "process_start_time_seconds", "gauge", "Unix time of the start.", (double)(started_ms / 1000));
}

enum err_code api_metrics(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct api_text t = { 0 };
    struct store_figures figures;
    int64_t count[JOB_STATES] = { 0 };
    enum err_code rc = store_job_counts(app->store, count, e);

    (void)rq;
    if (rc != ERR_OK)
        return rc;
    store_figures(app->store, &figures);
    head(&t, "espalier_build_info", "gauge", "Always 1; the version is a label.");
    api_text_add(&t, "espalier_build_info{version=\"" ESPALIER_VERSION "\"} 1\n");
    put_jobs(&t, count, &figures);
    one(&t, "espalier_workers", "gauge", "Jobs that may run at a time.", app->config ? (double)app->config->workers : 0);
    one(&t, "espalier_workers_alive", "gauge", "Worker threads that tick.", app->workers ? workers_alive(app->workers) : 0);
    put_requests(&t);
    put_store(&t, &figures);
    put_access(&t, app, &figures);
    put_process(&t, app->started_ms);
    return api_reply_text(rp, &t, "text/plain; version=0.0.4; charset=utf-8", e);
}
