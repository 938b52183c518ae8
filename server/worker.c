/* server/worker.c: see worker.h. Threads: one per worker, and one heartbeat thread that renews the leases of all of them each second.
 *
 * Locks: a worker's lease_lock, then the pool's lock. A lease is given (busy, id, token) under both, so that either is enough to read it: the
 * heartbeat thread holds lease_lock over a renewal, cancel holds the pool's lock; the pool's lock is never held over a call to the store. A lease is
 * busy from the claim to the end of its settling, so that heartbeats go on until the job is handed back.
 *
 * How a run ends decides what becomes of the job: its result is recorded -> done. Cancelled -> cancelled. Saved for a pause -> paused. Stopping, a full disk, a busy
 * database -> released, to be run again. Any other error -> failed, with code and message. Where the database cannot be written just now,
 * the worker tries again until it can, or the daemon stops: then the next start recovers the job. */
#include "server/worker_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/jsonguard.h"
#include "core/mem.h"
#include "server/log.h"

enum { BEAT_MS = 1000, POLL_MS = 5000, RETRY_MS = 1000, NO_SPACE_PAUSE_MS = 10000, DEAD_MS = 120000, STOP_TRIES = 3 };

struct worker {
    struct workers *pool;
    pthread_t thread;
    int number;
    bool started;
    pthread_mutex_t lease_lock;
    bool busy; /* the lease is held */
    struct lease lease;
};
struct workers {
    struct store *store;
    struct run_conf run;
    char owner[64];
    pthread_mutex_t lock;
    pthread_cond_t wake; /* a job may be there, or stopping */
    pthread_cond_t quit; /* beats_stopping */
    bool stopping, beats_stopping, beats_started;
    unsigned wakes;       /* counts workers_wake, so that none is missed between claim and wait */
    int64_t paused_until; /* monotonic ms: the disk was full */
    pthread_t beats;
    int n;
    struct worker worker[];
};

/* ---- leases ---- */

bool lease_must_stop(struct lease *l)
{
    int64_t now = clock_mono_ms();

    atomic_store(&l->ticked, now);
    if (now - atomic_load(&l->renewed) > FENCE_MS)
        atomic_store(&l->lost, true);
    return atomic_load(&l->stop) || atomic_load(&l->cancel) || atomic_load(&l->saved) || atomic_load(&l->lost);
}

static json_t *real_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

void lease_lap(struct lease *l, const struct job_progress *p, int64_t now_ms)
{
    if (p->iteration == l->lap_iteration && l->lap != 0)
        return;
    if (l->lap_iteration > 0 && l->lap != 0 && p->fraction > l->lap_fraction)
        l->pace = (double)(now_ms - l->lap) / 1000 / (p->fraction - l->lap_fraction);
    l->lap_iteration = p->iteration;
    l->lap = now_ms;
    l->lap_fraction = p->fraction;
}

/* Seconds left. The sparser, the faster: by the pace of the last whole iteration, which is slower than those that follow; before there is one, by that of
 * this attempt. NAN: no telling yet. */
static double seconds_left(const struct lease *l, double fraction)
{
    double gone = (double)(clock_mono_ms() - l->started) / 1000, done = fraction - l->started_fraction;

    if (fraction >= 1)
        return 0;
    if (l->pace > 0)
        return l->pace * (1 - fraction);
    return done > 0 && gone > 0 ? gone * (1 - fraction) / done : (double)NAN;
}

/* JSON, to be mem_freed; NULL: nothing to tell. */
static char *progress_text(struct lease *l)
{
    struct job_progress p;
    char phase[sizeof l->phase];
    double left;
    json_t *j;
    char *text;

    pthread_mutex_lock(&l->progress_lock);
    p = l->progress;
    memcpy(phase, l->phase, sizeof phase);
    left = seconds_left(l, p.fraction);
    pthread_mutex_unlock(&l->progress_lock);
    if (!*phase)
        return NULL;
    j = json_pack("{s:s,s:I,s:I,s:I,s:I,s:o,s:o,s:o}", "phase", phase, "iteration", (json_int_t)p.iteration, "iterations",
                  (json_int_t)p.iterations, "epoch", (json_int_t)p.epoch, "epochs", (json_int_t)p.epochs, "fraction",
                  real_or_null(p.fraction), "loss", real_or_null(p.loss), "eta_seconds", real_or_null(left));
    text = j ? json_text(j, JSON_COMPACT | JSON_REAL_PRECISION(6), NULL) : NULL;
    json_decref(j);
    return text;
}

enum err_code lease_renew(struct lease *l, struct err *e)
{
    int64_t start = clock_mono_ms();
    char *progress = progress_text(l);
    struct job_asked asked = { false, false };
    enum err_code rc = store_job_heartbeat(l->store, l->id, l->token, clock_ms(), LEASE_MS, progress, &asked, e);

    mem_free(progress);
    if (rc == ERR_OK) {
        atomic_store(&l->renewed, start);
        atomic_store(&l->pause, asked.pause);
    }
    if (asked.cancel)
        atomic_store(&l->cancel, true);
    if (rc == ERR_CONFLICT)
        atomic_store(&l->lost, true);
    return rc;
}

/* Waits for ms at most; the pool's lock is held. */
static void wait_ms(struct workers *w, pthread_cond_t *cond, int64_t ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(cond, &w->lock, &until);
}

static void beat(struct worker *one)
{
    struct err e = { 0 };

    pthread_mutex_lock(&one->lease_lock);
    if (one->busy) {
        enum err_code rc = lease_renew(&one->lease, &e); /* a conflict: lost, or its worker has just finished it */

        if (rc != ERR_OK && rc != ERR_CONFLICT)
            log_event(LOG_WARN, "heartbeat failed", LOG_S("job_id", one->lease.id), LOG_S("error", e.msg));
    }
    pthread_mutex_unlock(&one->lease_lock);
}

static void *beat_thread(void *arg)
{
    struct workers *w = arg;
    bool stopping = false;

    while (!stopping) {
        for (int i = 0; i < w->n; i++)
            beat(&w->worker[i]);
        pthread_mutex_lock(&w->lock);
        if (!w->beats_stopping)
            wait_ms(w, &w->quit, BEAT_MS);
        stopping = w->beats_stopping;
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

/* ---- one worker ---- */

static void lease_begin(struct worker *one, const struct job_row *j, int64_t claimed)
{
    struct lease *l = &one->lease;

    pthread_mutex_lock(&one->lease_lock);
    pthread_mutex_lock(&one->pool->lock);
    snprintf(l->id, sizeof l->id, "%s", j->id);
    l->token = j->lease_token;
    atomic_store(&l->renewed, claimed);
    atomic_store(&l->cancel, false);
    atomic_store(&l->pause, false);
    atomic_store(&l->saved, false);
    atomic_store(&l->lost, false);
    atomic_store(&l->stop, one->pool->stopping);
    *l->phase = '\0';
    l->lap = 0;
    l->pace = 0;
    one->busy = true;
    pthread_mutex_unlock(&one->pool->lock);
    pthread_mutex_unlock(&one->lease_lock);
}

static void lease_end(struct worker *one)
{
    pthread_mutex_lock(&one->lease_lock);
    pthread_mutex_lock(&one->pool->lock);
    one->busy = false;
    pthread_mutex_unlock(&one->pool->lock);
    pthread_mutex_unlock(&one->lease_lock);
}

/* Waits for a job. false: the daemon stops. */
static bool take_job(struct worker *one, struct job_row *j, int64_t *claimed)
{
    struct workers *w = one->pool;
    struct err e = { 0 };
    bool found = false;

    for (;;) {
        unsigned seen;
        int64_t pause;
        bool stopping;

        pthread_mutex_lock(&w->lock);
        seen = w->wakes;
        stopping = w->stopping;
        pause = w->paused_until - clock_mono_ms();
        pthread_mutex_unlock(&w->lock);
        if (stopping)
            return false;
        *claimed = clock_mono_ms();
        atomic_store(&one->lease.ticked, *claimed);
        if (pause <= 0 && store_job_claim(w->store, w->owner, clock_ms(), LEASE_MS, j, &found, &e) != ERR_OK)
            log_event(LOG_WARN, "claim failed", LOG_S("error", e.msg));
        if (found)
            return true;
        pthread_mutex_lock(&w->lock);
        if (!w->stopping && (w->wakes == seen || pause > 0))
            wait_ms(w, &w->wake, pause > 0 ? pause : POLL_MS);
        pthread_mutex_unlock(&w->lock);
    }
}

/* What becomes of a job whose run ended with rc (not ERR_OK). */
static enum job_state state_after(struct lease *l, enum err_code rc)
{
    static const enum err_code again[] = { ERR_NO_SPACE, ERR_BUSY, ERR_STOPPED };

    if (atomic_load(&l->cancel))
        return JOB_CANCELLED;
    if (atomic_load(&l->stop) || atomic_load(&l->lost))
        return JOB_QUEUED;
    if (atomic_load(&l->saved) && rc == ERR_STOPPED)
        return JOB_PAUSED;
    for (size_t i = 0; i < sizeof again / sizeof again[0]; i++)
        if (rc == again[i])
            return JOB_QUEUED;
    return JOB_FAILED;
}

static enum err_code settle_as(struct lease *l, enum job_state state, const char *error, struct err *e)
{
    if (state == JOB_QUEUED || state == JOB_PAUSED) /* the store knows which: what was asked last counts */
        return store_job_release(l->store, l->id, l->token, clock_ms(), e);
    return store_job_finish(l->store, l->id, l->token, clock_ms(), state, NULL, NULL, state == JOB_FAILED ? error : NULL, e);
}

/* A client may have asked to cancel meanwhile: then only that is possible. */
static enum err_code settle_once(struct lease *l, enum job_state *state, const char *error, struct err *e)
{
    enum err_code rc = settle_as(l, *state, error, e);

    if (rc == ERR_CONFLICT && *state != JOB_CANCELLED) {
        *state = JOB_CANCELLED;
        rc = settle_as(l, *state, NULL, e);
    }
    return rc;
}

/* Waits a little. false: the daemon stops, and it was tried often enough. */
static bool may_try_again(struct workers *w, int tries)
{
    bool stopping;

    pthread_mutex_lock(&w->lock);
    wait_ms(w, &w->wake, RETRY_MS);
    stopping = w->stopping;
    pthread_mutex_unlock(&w->lock);
    return !stopping || tries < STOP_TRIES;
}

/* {"code", "message"}, to be mem_freed; NULL: memory is short. */
static char *error_text(enum err_code code, const struct err *why)
{
    char message[sizeof why->at + sizeof why->msg + 2];
    json_t *doc;
    char *text;

    snprintf(message, sizeof message, "%s%s%s", why->at, *why->at ? ": " : "", why->msg);
    doc = json_pack("{s:s,s:s}", "code", err_slug(code), "message", message);
    text = doc ? json_text(doc, JSON_COMPACT, NULL) : NULL;
    json_decref(doc);
    return text;
}

static void settle(struct worker *one, enum err_code run_rc, const struct err *why)
{
    struct lease *l = &one->lease;
    enum job_state state = state_after(l, run_rc);
    struct err e = { 0 };
    char *error = error_text(run_rc, why);
    const char *text = error ? error : "{\"code\":\"out_of_memory\",\"message\":\"out of memory\"}";
    enum err_code rc = settle_once(l, &state, text, &e);

    for (int tries = 1; rc != ERR_OK && rc != ERR_CONFLICT && may_try_again(one->pool, tries); tries++)
        rc = settle_once(l, &state, text, &e);
    mem_free(error);
    if (rc == ERR_OK)
        log_event(state == JOB_FAILED ? LOG_WARN : LOG_INFO, job_state_final(state) ? "job ended" : "job released", LOG_S("job_id", l->id),
                  LOG_S("state", job_state_name(state)), LOG_S("code", err_slug(run_rc)), LOG_S("message", why->msg));
    else
        log_event(LOG_WARN, "job not settled", LOG_S("job_id", l->id), LOG_S("error", e.msg), LOG_S("message", why->msg));
}

static void run_job(struct worker *one, const struct job_row *j, int64_t claimed)
{
    struct workers *w = one->pool;
    struct err e = { 0 };
    enum err_code rc;

    lease_begin(one, j, claimed);
    log_event(LOG_INFO, "job started", LOG_S("job_id", j->id), LOG_I("attempt", j->attempt), LOG_I("worker", one->number),
              LOG_I("from_checkpoint", *j->checkpoint != '\0'));
    rc = w->run.run(&one->lease, j, &w->run, &e);
    if (rc == ERR_OK) {
        log_event(LOG_INFO, "job ended", LOG_S("job_id", j->id), LOG_S("state", job_state_name(JOB_SUCCEEDED)),
                  LOG_R("seconds", (double)(clock_mono_ms() - claimed) / 1000));
    } else {
        if (rc == ERR_NO_SPACE) {
            pthread_mutex_lock(&w->lock);
            w->paused_until = clock_mono_ms() + NO_SPACE_PAUSE_MS;
            pthread_mutex_unlock(&w->lock);
        }
        settle(one, rc, &e);
    }
    lease_end(one);
}

static void *worker_thread(void *arg)
{
    struct worker *one = arg;
    struct job_row j = { 0 };
    int64_t claimed;

    while (take_job(one, &j, &claimed)) {
        run_job(one, &j, claimed);
        job_row_clear(&j);
    }
    return NULL;
}

/* ---- the pool ---- */

static void make_conds(struct workers *w)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &attr);
    pthread_cond_init(&w->quit, &attr);
    pthread_condattr_destroy(&attr);
}

static enum err_code start_threads(struct workers *w, struct err *e)
{
    if (pthread_create(&w->beats, NULL, beat_thread, w) != 0)
        return err_set(e, ERR_NOMEM, "cannot start a thread");
    w->beats_started = true;
    for (int i = 0; i < w->n; i++) {
        if (pthread_create(&w->worker[i].thread, NULL, worker_thread, &w->worker[i]) != 0)
            return err_set(e, ERR_NOMEM, "cannot start a thread");
        w->worker[i].started = true;
    }
    return ERR_OK;
}

enum err_code workers_start_with(struct workers **out, struct store *s, int n, const struct run_conf *run, struct err *e)
{
    struct workers *w = mem_zalloc(1, sizeof *w + (size_t)n * sizeof w->worker[0]);
    enum err_code rc;

    if (!w)
        return err_set(e, ERR_NOMEM, "out of memory");
    w->store = s;
    w->n = n;
    w->run = *run;
    snprintf(w->owner, sizeof w->owner, "process %ld", (long)getpid());
    make_conds(w);
    for (int i = 0; i < n; i++) {
        struct worker *one = &w->worker[i];

        one->pool = w;
        one->number = i;
        one->lease.store = s;
        atomic_store(&one->lease.ticked, clock_mono_ms());
        pthread_mutex_init(&one->lease_lock, NULL);
        pthread_mutex_init(&one->lease.progress_lock, NULL);
    }
    rc = start_threads(w, e);
    if (rc != ERR_OK)
        workers_free(w);
    else
        *out = w;
    return rc;
}

enum err_code workers_start(struct workers **out, struct store *s, const struct config *c, int threads_per_job, uint64_t memory_per_job,
                            struct err *e)
{
    return workers_start_with(out, s, (int)c->workers, &(struct run_conf){ threads_per_job, memory_per_job, c->checkpoint_seconds, worker_run }, e);
}

void workers_wake(struct workers *w)
{
    pthread_mutex_lock(&w->lock);
    w->wakes++;
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

void workers_pause(struct workers *w, const char *job_id)
{
    pthread_mutex_lock(&w->lock);
    for (int i = 0; i < w->n; i++)
        if (w->worker[i].busy && strcmp(w->worker[i].lease.id, job_id) == 0)
            atomic_store(&w->worker[i].lease.pause, true);
    pthread_mutex_unlock(&w->lock);
}

void workers_cancel(struct workers *w, const char *job_id)
{
    pthread_mutex_lock(&w->lock);
    for (int i = 0; i < w->n; i++)
        if (w->worker[i].busy && strcmp(w->worker[i].lease.id, job_id) == 0)
            atomic_store(&w->worker[i].lease.cancel, true);
    pthread_mutex_unlock(&w->lock);
}

int workers_alive(struct workers *w)
{
    int64_t now = clock_mono_ms();
    int n = 0;

    for (int i = 0; i < w->n; i++)
        n += now - atomic_load(&w->worker[i].lease.ticked) < DEAD_MS;
    return n;
}

static void join_workers(struct workers *w)
{
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    for (int i = 0; i < w->n; i++)
        atomic_store(&w->worker[i].lease.stop, true);
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->lock);
    for (int i = 0; i < w->n; i++)
        if (w->worker[i].started) {
            pthread_join(w->worker[i].thread, NULL);
            w->worker[i].started = false;
        }
}

void workers_stop(struct workers *w)
{
    if (!w)
        return;
    join_workers(w);
    pthread_mutex_lock(&w->lock);
    w->beats_stopping = true;
    pthread_cond_signal(&w->quit);
    pthread_mutex_unlock(&w->lock);
    if (w->beats_started)
        pthread_join(w->beats, NULL);
    w->beats_started = false;
}

void workers_free(struct workers *w)
{
    if (!w)
        return;
    workers_stop(w);
    for (int i = 0; i < w->n; i++) {
        pthread_mutex_destroy(&w->worker[i].lease_lock);
        pthread_mutex_destroy(&w->worker[i].lease.progress_lock);
    }
    pthread_cond_destroy(&w->quit);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}
