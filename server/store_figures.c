/* server/store_figures.c: what the store has done since it was opened, for /metrics. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "server/store_impl.h"

void figures_init(struct store_figures *f)
{
    f->write_seconds.bound = histogram_short;
    f->queue_seconds.bound = histogram_long;
    for (int i = 0; i < JOB_STATES; i++)
        f->job_seconds[i].bound = histogram_long;
}

void figures_write(struct store *s, const struct txn *t, int tries, int64_t ms, enum err_code rc)
{
    struct store_figures *f = &s->figures;

    pthread_mutex_lock(&s->figures_lock);
    f->writes++;
    f->write_errors += rc != ERR_OK && rc != ERR_CONFLICT && rc != ERR_NOT_FOUND && rc != ERR_INVALID && !t->over_bytes && !t->over_jobs;
    f->busy += (uint64_t)(tries - 1);
    f->over_bytes += t->over_bytes;
    f->over_jobs += t->over_jobs;
    histogram_add(&f->write_seconds, (double)ms / 1000);
    for (int i = 0; i < JOB_STATES && rc == ERR_OK; i++)
        f->moved[i] += (uint64_t)t->moved[i];
    pthread_mutex_unlock(&s->figures_lock);
}

void figures_job(struct store *s, struct histogram *h, int64_t from_ms, int64_t to_ms)
{
    pthread_mutex_lock(&s->figures_lock);
    histogram_add(h, to_ms > from_ms ? (double)(to_ms - from_ms) / 1000 : 0);
    pthread_mutex_unlock(&s->figures_lock);
}

void store_figures(struct store *s, struct store_figures *out)
{
    char wal[STORE_PATH_LEN];
    struct statvfs disk;
    struct stat st;

    pthread_mutex_lock(&s->figures_lock);
    *out = s->figures;
    pthread_mutex_unlock(&s->figures_lock);
    snprintf(wal, sizeof wal, "%s/" STORE_DATABASE "-wal", s->dir);
    out->wal_bytes = stat(wal, &st) == 0 ? (uint64_t)st.st_size : 0;
    out->disk_free = statvfs(s->dir, &disk) == 0 ? (uint64_t)disk.f_bavail * disk.f_frsize : 0;
    out->disk_floor = atomic_load(&s->disk_floor);
}
