/* core/file.h: files that are there whole or not at all.
 *
 * Publishing: write to a temporary name in the same directory, fsync, rename, fsync the directory. Only after file_out_publish
 * returned ERR_OK may anybody be told that the bytes are saved. Temporary names end in ".tmp": a start-up sweep removes them.
 * SHA-256 of what was written is computed on the way. */
#ifndef CORE_FILE_H
#define CORE_FILE_H

#include "core/err.h"

/* Tests: as mem_fail_in, for the k-th open-for-writing, write, fsync or rename of this thread from now. It fails with errno ENOSPC. */
extern _Thread_local long file_fail_in;

enum { FILE_HASH_LEN = 65 }; /* 64 hex digits and NUL */

struct file_out;

/* Starts writing `path`. Buffers 64 KiB. */
MUST enum err_code file_out_new(struct file_out **out, const char *path, struct err *e);
MUST enum err_code file_out_write(struct file_out *f, const void *data, size_t n, struct err *e);
/* A file that is read once and removed: nothing is synced, and without `hashed` it has no hash. */
MUST enum err_code file_out_scratch(struct file_out **out, const char *path, bool hashed, struct err *e);
/* Bytes written so far. */
uint64_t file_out_size(const struct file_out *f);
/* Flush, fsync, rename, fsync the directory. hash (FILE_HASH_LEN) may be NULL. On error nothing stays. f remains to be freed. */
MUST enum err_code file_out_publish(struct file_out *f, char *hash, struct err *e);
/* Removes the temporary file unless it was published. NULL is legal. */
void file_out_free(struct file_out *f);

/* A whole file mapped read-only and shared; len 0 maps to data "" . */
struct file_map {
    const unsigned char *data;
    size_t len;
};
MUST enum err_code file_map_open(struct file_map *m, const char *path, struct err *e); /* ERR_NOT_FOUND when it is not there */
void file_map_close(struct file_map *m); /* zeroed and closed maps are legal */

/* Whole file at once, through file_out. */
MUST enum err_code file_write(const char *path, const void *data, size_t n, struct err *e);
/* Unlink, and fsync of the directory; a missing file is no error. */
MUST enum err_code file_remove(const char *path, struct err *e);

#endif
