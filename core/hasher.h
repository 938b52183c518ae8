/* core/hasher.h: SHA-256 of a file that still grows: a thread follows its writer and reads what has just been written out of the cache. Hashing costs
 * as much as all the rest of writing a large file; so it takes another processor's time instead of the writer's. */
#ifndef CORE_HASHER_H
#define CORE_HASHER_H

#include <nettle/sha2.h>

#include "core/err.h"

struct hasher;
/* *sha has hashed the first `at` bytes of fd, which is borrowed until hasher_finish. ERR_NOMEM: there is no memory or no thread. */
MUST enum err_code hasher_new(struct hasher **out, int fd, const struct sha256_ctx *sha, uint64_t at, struct err *e);
/* The file's first `size` bytes are written, and stay as they are. */
void hasher_reach(struct hasher *h, uint64_t size);
/* Waits until they are hashed, and ends; sha NULL: without waiting for that. h NULL is legal then. */
MUST enum err_code hasher_finish(struct hasher *h, struct sha256_ctx *sha, struct err *e);

#endif
