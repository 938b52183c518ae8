/* core/team.c: see team.h.
 *
 * The tiles of a loop are dealt out in equal runs, one to each thread and the same in every loop: the rows of a weight stay in the cache of
 * the core that works on them, and threads do not fight for one counter. Who has done its own takes what is left of the others'.
 *
 * One atomic word per share, the ticket, holds the number of the loop (high half) and how many of the share's tiles nobody has taken yet (low
 * half). Taking a tile is one compare-and-swap that lowers it. What a loop does (fn, ctx, n_tiles) is written while all tickets
 * stand at 0 tiles, so a swap that succeeds proves that what was read before it belongs to that very loop; a helper that comes late
 * fails its swap and harms nobody. Hence the caller waits for tiles, never for helpers: one that the system did not wake in
 * time costs nothing. Memory order: a ticket is published after the loop's fields and data; `left` reaches 0 after all tiles' writes. */
#include "core/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "core/mem.h"

enum { SPIN_NS = 50000, SPIN_ROUND = 64 };

typedef void tile_fn(void *ctx, int tile);

/* A thread's own tiles of the running loop; on a cache line of its own. */
struct share {
    _Alignas(64) _Atomic uint64_t ticket;
};
struct team;
struct helper {
    struct team *team;
    int number; /* of its share; the caller's is 0 */
    pthread_t thread;
};

struct team {
    struct share *share; /* n_helpers + 1 */
    char apart[64];
    atomic_int left; /* tiles of this loop that are not done */
    char apart2[64];
    _Atomic(tile_fn *) fn;
    _Atomic(void *) ctx;
    atomic_int n_tiles;
    atomic_int n_asleep;
    atomic_bool quit;
    pthread_mutex_t lock; /* guards only falling asleep and waking up */
    pthread_cond_t wake;
    uint32_t loop;
    int n_threads, n_helpers;
    struct helper helper[];
};

static _Thread_local int own_number;

int team_number(void)
{
    return own_number;
}

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int first_tile(int n_tiles, int share, int n_threads)
{
    return (int)((int64_t)n_tiles * share / n_threads);
}

/* Takes and runs one tile of a share; false when none is left to take. */
static bool run_tile(struct team *t, int share)
{
    _Atomic uint64_t *at = &t->share[share].ticket;
    uint64_t ticket = atomic_load_explicit(at, memory_order_acquire);

    while ((uint32_t)ticket > 0) {
        tile_fn *fn = atomic_load_explicit(&t->fn, memory_order_relaxed);
        void *ctx = atomic_load_explicit(&t->ctx, memory_order_relaxed);
        int n_tiles = atomic_load_explicit(&t->n_tiles, memory_order_relaxed);

        if (atomic_compare_exchange_weak_explicit(at, &ticket, ticket - 1, memory_order_acq_rel, memory_order_acquire)) {
            fn(ctx, first_tile(n_tiles, share + 1, t->n_threads) - (int)(uint32_t)ticket);
            atomic_fetch_sub_explicit(&t->left, 1, memory_order_release);
            return true;
        }
    }
    return false;
}

/* Its own share, then what is left of the others'. */
static void run_tiles(struct team *t, int own)
{
    for (int i = 0; i < t->n_threads; i++)
        while (run_tile(t, (own + i) % t->n_threads))
            continue;
}

static bool is_due(const struct helper *h)
{
    return (uint32_t)atomic_load(&h->team->share[h->number].ticket) > 0 || atomic_load(&h->team->quit);
}

static void wait_for_tiles(const struct helper *h)
{
    struct team *t = h->team;
    int64_t end = now_ns() + SPIN_NS;

    do {
        for (int i = 0; i < SPIN_ROUND; i++) {
            if (is_due(h))
                return;
            relax();
        }
    } while (now_ns() < end);
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->n_asleep, 1); /* before the ticket is looked at again: team_for does it the other way round */
    while (!is_due(h))
        pthread_cond_wait(&t->wake, &t->lock);
    atomic_fetch_sub(&t->n_asleep, 1);
    pthread_mutex_unlock(&t->lock);
}

static void *helper_main(void *arg)
{
    const struct helper *h = arg;

    own_number = h->number;
    while (!atomic_load(&h->team->quit)) {
        run_tiles(h->team, h->number);
        wait_for_tiles(h);
    }
    return NULL;
}

static void wake_all(struct team *t)
{
    if (atomic_load(&t->n_asleep) == 0)
        return;
    pthread_mutex_lock(&t->lock);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

void team_for(struct team *t, int n_tiles, void (*fn)(void *ctx, int tile), void *ctx)
{
    if (n_tiles <= 1 || !t || t->n_helpers == 0) {
        for (int i = 0; i < n_tiles; i++)
            fn(ctx, i);
        return;
    }
    t->loop++;
    atomic_store_explicit(&t->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&t->ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&t->n_tiles, n_tiles, memory_order_relaxed);
    atomic_store_explicit(&t->left, n_tiles, memory_order_relaxed);
    for (int i = t->n_threads - 1; i >= 0; i--) {
        int n = first_tile(n_tiles, i + 1, t->n_threads) - first_tile(n_tiles, i, t->n_threads);

        atomic_store(&t->share[i].ticket, (uint64_t)t->loop << 32 | (uint32_t)n);
    }
    wake_all(t);
    run_tiles(t, 0);
    for (unsigned spins = 0; atomic_load_explicit(&t->left, memory_order_acquire) > 0; spins++) {
        relax();
        if (spins % 2048 == 2047)
            sched_yield(); /* whoever holds the last tile may be waiting for this CPU */
    }
}

enum err_code team_new(struct team **out, int n_threads, struct err *e)
{
    struct team *t;

    *out = NULL;
    if (n_threads < 1)
        return err_set(e, ERR_INVALID, "a team has at least one thread, not %d", n_threads);
    t = mem_zalloc(1, sizeof *t + (size_t)n_threads * sizeof t->helper[0]);
    if (t)
        t->share = (struct share *)(void *)mem_vector((size_t)n_threads * sizeof t->share[0] / sizeof(float));
    if (!t || !t->share) {
        mem_free(t);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    t->n_threads = n_threads;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    for (; t->n_helpers < n_threads - 1; t->n_helpers++) {
        struct helper *h = &t->helper[t->n_helpers];
        int rc;

        *h = (struct helper){ .team = t, .number = t->n_helpers + 1 };
        rc = pthread_create(&h->thread, NULL, helper_main, h);

        if (rc != 0) {
            team_free(t);
            return err_errno(e, rc, "cannot start a thread");
        }
    }
    *out = t;
    return ERR_OK;
}

void team_free(struct team *t)
{
    if (!t)
        return;
    atomic_store(&t->quit, true);
    wake_all(t);
    for (int i = 0; i < t->n_helpers; i++)
        pthread_join(t->helper[i].thread, NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    mem_free(t->share);
    mem_free(t);
}

int team_size(const struct team *t)
{
    return t ? t->n_helpers + 1 : 1;
}
