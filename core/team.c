/* core/team.c: see team.h.
 *
 * One atomic word, the ticket, holds the number of the loop (high half) and how many of its tiles nobody has taken yet (low
 * half). Taking a tile is one compare-and-swap that lowers it. What a loop does (fn, ctx, n_tiles) is written while the ticket
 * stands at 0 tiles, so a swap that succeeds proves that what was read before it belongs to that very loop; a helper that comes late
 * fails its swap and harms nobody. Hence the caller waits for tiles, never for helpers: one that the system did not wake in
 * time costs nothing. Memory order: the ticket is published after the loop's fields and data; `left` reaches 0 after all tiles' writes. */
#include "core/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "core/mem.h"

enum { SPIN_NS = 50000, SPIN_ROUND = 64 };

typedef void tile_fn(void *ctx, int tile);

struct team {
    _Atomic uint64_t ticket;
    char apart[64]; /* the two counters on cache lines of their own */
    atomic_int left; /* tiles of this loop that are not done */
    char apart2[64];
    _Atomic(tile_fn *) fn;
    _Atomic(void *) ctx;
    atomic_int n_tiles;
    atomic_int n_asleep;
    atomic_bool quit;
    pthread_mutex_t lock; /* guards only falling asleep and waking up */
    pthread_cond_t wake;
    int n_helpers;
    pthread_t helper[];
};

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

/* Takes and runs one tile; false when none is left to take. */
static bool run_tile(struct team *t)
{
    uint64_t ticket = atomic_load_explicit(&t->ticket, memory_order_acquire);

    while ((uint32_t)ticket > 0) {
        tile_fn *fn = atomic_load_explicit(&t->fn, memory_order_relaxed);
        void *ctx = atomic_load_explicit(&t->ctx, memory_order_relaxed);
        int n_tiles = atomic_load_explicit(&t->n_tiles, memory_order_relaxed);

        if (atomic_compare_exchange_weak_explicit(&t->ticket, &ticket, ticket - 1, memory_order_acq_rel, memory_order_acquire)) {
            fn(ctx, n_tiles - (int)(uint32_t)ticket);
            atomic_fetch_sub_explicit(&t->left, 1, memory_order_release);
            return true;
        }
    }
    return false;
}

static bool has_tiles(struct team *t)
{
    return (uint32_t)atomic_load_explicit(&t->ticket, memory_order_acquire) > 0;
}

static void wait_for_tiles(struct team *t)
{
    int64_t end = now_ns() + SPIN_NS;

    do {
        for (int i = 0; i < SPIN_ROUND; i++) {
            if (has_tiles(t) || atomic_load(&t->quit))
                return;
            relax();
        }
    } while (now_ns() < end);
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->n_asleep, 1); /* before the ticket is looked at again: team_for does it the other way round */
    while ((uint32_t)atomic_load(&t->ticket) == 0 && !atomic_load(&t->quit))
        pthread_cond_wait(&t->wake, &t->lock);
    atomic_fetch_sub(&t->n_asleep, 1);
    pthread_mutex_unlock(&t->lock);
}

static void *helper_main(void *arg)
{
    struct team *t = arg;

    while (!atomic_load(&t->quit))
        if (!run_tile(t))
            wait_for_tiles(t);
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
    uint64_t loop;

    if (n_tiles <= 1 || !t || t->n_helpers == 0) {
        for (int i = 0; i < n_tiles; i++)
            fn(ctx, i);
        return;
    }
    loop = (atomic_load_explicit(&t->ticket, memory_order_relaxed) >> 32) + 1;
    atomic_store_explicit(&t->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&t->ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&t->n_tiles, n_tiles, memory_order_relaxed);
    atomic_store_explicit(&t->left, n_tiles, memory_order_relaxed);
    atomic_store(&t->ticket, loop << 32 | (uint32_t)n_tiles);
    wake_all(t);
    while (run_tile(t))
        continue;
    for (unsigned spins = 0; atomic_load_explicit(&t->left, memory_order_acquire) > 0; spins++) {
        relax();
        if (spins % 64 == 63)
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
    if (!t)
        return err_set(e, ERR_NOMEM, "out of memory");
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    for (; t->n_helpers < n_threads - 1; t->n_helpers++) {
        int rc = pthread_create(&t->helper[t->n_helpers], NULL, helper_main, t);

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
        pthread_join(t->helper[i], NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

int team_size(const struct team *t)
{
    return t ? t->n_helpers + 1 : 1;
}
