/* core/hasher.c: see hasher.h. */
#include "core/hasher.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "core/mem.h"

enum { BLOCK_LEN = 65536 };

struct hasher {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    uint64_t size; /* under lock, as `ends` and `stops` are */
    bool ends;     /* size is the last one */
    bool stops;    /* nobody wants the hash */
    int fd, error; /* error: errno of a read, -1: the file is shorter than was said */
    uint64_t at;
    struct sha256_ctx sha;
    unsigned char block[BLOCK_LEN];
};

/* How many bytes lie ahead, at most a block; 0: the end. */
static size_t wait_more(struct hasher *h)
{
    uint64_t ahead;

    pthread_mutex_lock(&h->lock);
    while (h->at == h->size && !h->ends)
        pthread_cond_wait(&h->more, &h->lock);
    ahead = h->stops ? 0 : h->size - h->at;
    pthread_mutex_unlock(&h->lock);
    return ahead < BLOCK_LEN ? (size_t)ahead : BLOCK_LEN;
}

static void *follow(void *arg)
{
    struct hasher *h = arg;
    size_t n;

    while (!h->error && (n = wait_more(h)) > 0) {
        ssize_t k = pread(h->fd, h->block, n, (off_t)h->at);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            h->error = k < 0 ? errno : -1;
        } else {
            sha256_update(&h->sha, (size_t)k, h->block);
            h->at += (uint64_t)k;
        }
    }
    return NULL;
}

enum err_code hasher_new(struct hasher **out, int fd, const struct sha256_ctx *sha, uint64_t at, struct err *e)
{
    struct hasher *h = mem_alloc(sizeof *h);

    if (!h)
        return err_set(e, ERR_NOMEM, "out of memory");
    h->size = h->at = at;
    h->ends = h->stops = false;
    h->fd = fd;
    h->error = 0;
    h->sha = *sha;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->more, NULL);
    if (pthread_create(&h->thread, NULL, follow, h) != 0) {
        pthread_cond_destroy(&h->more);
        pthread_mutex_destroy(&h->lock);
        mem_free(h);
        return err_set(e, ERR_NOMEM, "cannot start a thread");
    }
    *out = h;
    return ERR_OK;
}

void hasher_reach(struct hasher *h, uint64_t size)
{
    pthread_mutex_lock(&h->lock);
    h->size = size;
    pthread_cond_signal(&h->more);
    pthread_mutex_unlock(&h->lock);
}

enum err_code hasher_finish(struct hasher *h, struct sha256_ctx *sha, struct err *e)
{
    int error;

    if (!h)
        return ERR_OK;
    pthread_mutex_lock(&h->lock);
    h->ends = true;
    h->stops = !sha;
    pthread_cond_signal(&h->more);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    error = h->error;
    if (sha)
        *sha = h->sha;
    pthread_cond_destroy(&h->more);
    pthread_mutex_destroy(&h->lock);
    mem_free(h);
    return !sha || !error ? ERR_OK : error > 0 ? err_errno(e, error, "cannot read back") : err_set(e, ERR_IO, "cannot read back: the file was cut");
}
