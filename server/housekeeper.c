/* server/housekeeper.c: see housekeeper.h. What fails is logged, and tried again a minute later. */
#include "server/housekeeper.h"

#include <pthread.h>
#include <time.h>

#include "core/mem.h"
#include "server/log.h"

enum { ROUND_MS = 60000, LOOK_SECONDS = 1 };
static const int64_t DAY_MS = (int64_t)24 * 3600 * 1000;

struct housekeeper {
    struct store *store;
    struct auth *auth;
    const struct config *config;
    enum err_code (*take)(void *user, struct err *e);
    void *user;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t quit;
    bool stopping;
};

static void tell(enum err_code rc, const struct err *e, const char *what, int64_t n)
{
    if (rc != ERR_OK)
        log_event(LOG_WARN, "housekeeping failed", LOG_S("what", what), LOG_S("error", e->msg));
    else if (n > 0)
        log_event(LOG_INFO, "housekeeping removed what was old", LOG_S("what", what), LOG_I("n", n));
}

static void clean(struct store *s, struct auth *a, const struct config *c, int64_t now_ms)
{
    struct err e = { 0 };
    int64_t n = 0;

    if (c->keep_jobs_days > 0)
        tell(store_jobs_expire(s, now_ms - c->keep_jobs_days * DAY_MS, &n, &e), &e, "jobs", n);
    if (c->keep_uploads_days > 0)
        tell(store_uploads_expire(s, now_ms - c->keep_uploads_days * DAY_MS, &n, &e), &e, "models and data sets", n);
    tell(store_answers_expire(s, now_ms, &e), &e, "answers", 0);
    tell(auth_flush(a, &e), &e, "last uses of tokens", 0);
    tell(store_tidy(s, &e), &e, "log of the database", 0);
}

/* round: it is time for the rest too; what cannot be taken is told that often. */
static void look(struct housekeeper *k, bool round)
{
    struct err e = { 0 };
    enum err_code rc = k->take(k->user, &e);

    if (round)
        tell(rc, &e, "what the command line left", 0);
    if (round)
        clean(k->store, k->auth, k->config, clock_ms());
}

static void *run(void *arg)
{
    struct housekeeper *k = arg;
    struct timespec until;
    int64_t next_ms = clock_mono_ms();

    pthread_mutex_lock(&k->lock);
    while (!k->stopping) {
        bool round = clock_mono_ms() >= next_ms;

        pthread_mutex_unlock(&k->lock);
        look(k, round);
        next_ms += round ? ROUND_MS : 0;
        pthread_mutex_lock(&k->lock);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += LOOK_SECONDS;
        while (!k->stopping && pthread_cond_timedwait(&k->quit, &k->lock, &until) == 0)
            continue;
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

enum err_code housekeeper_start(struct housekeeper **out, struct store *s, struct auth *a, const struct config *c,
                                enum err_code (*take)(void *user, struct err *e), void *user, struct err *e)
{
    struct housekeeper *k = mem_zalloc(1, sizeof *k);
    pthread_condattr_t attr;

    if (!k)
        return err_set(e, ERR_NOMEM, "out of memory");
    k->store = s;
    k->auth = a;
    k->config = c;
    k->take = take;
    k->user = user;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&k->quit, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&k->lock, NULL);
    if (pthread_create(&k->thread, NULL, run, k) != 0) {
        pthread_cond_destroy(&k->quit);
        pthread_mutex_destroy(&k->lock);
        mem_free(k);
        return err_set(e, ERR_NOMEM, "cannot start a thread");
    }
    *out = k;
    return ERR_OK;
}

void housekeeper_stop(struct housekeeper *k)
{
    if (!k)
        return;
    pthread_mutex_lock(&k->lock);
    k->stopping = true;
    pthread_cond_signal(&k->quit);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
    pthread_cond_destroy(&k->quit);
    pthread_mutex_destroy(&k->lock);
    mem_free(k);
}
