/* core/file.c: see file.h. */
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/hasher.h"
#include "core/mem.h"

_Thread_local long file_fail_in;

enum { BUF_LEN = 65536, DIRECT_LEN = 16384 /* so much is written as it comes */, AHEAD_LEN = 8 << 20 };

struct file_out {
    int fd;
    char path[PATH_MAX], temp[PATH_MAX];
    uint64_t size; /* with what is still in buf */
    uint64_t begun; /* the disk was asked to write so far */
    size_t n_buf;
    bool scratch, hashed;
    bool published;
    struct sha256_ctx sha;
    struct hasher *hasher; /* hashes in place of sha; NULL: the file is small, or scratch */
    unsigned char buf[BUF_LEN];
};

static bool fails_now(void)
{
    if (file_fail_in > 0 && --file_fail_in == 0) {
        errno = ENOSPC;
        return true;
    }
    return false;
}

static enum err_code write_all(int fd, const unsigned char *p, size_t n, struct err *e)
{
    while (n > 0) {
        ssize_t k = fails_now() ? -1 : write(fd, p, n);

        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return err_errno(e, errno, "cannot write");
        p += k;
        n -= (size_t)k;
    }
    return ERR_OK;
}

static enum err_code fsync_dir(const char *path, struct err *e)
{
    char dir[PATH_MAX];
    char *slash;
    int fd, rc;

    snprintf(dir, sizeof dir, "%s", path);
    slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = '\0';
    else
        memcpy(dir, ".", 2);
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "cannot open the directory");
    rc = fails_now() ? -1 : fsync(fd);
    close(fd);
    return rc == 0 ? ERR_OK : err_errno(e, errno, "cannot sync the directory");
}

static enum err_code begin(struct file_out **out, const char *path, bool scratch, bool hashed, struct err *e)
{
    struct file_out *f = mem_alloc(sizeof *f);

    if (!f)
        return err_set(e, ERR_NOMEM, "out of memory");
    f->size = f->begun = 0;
    f->n_buf = 0;
    f->scratch = scratch;
    f->hashed = hashed;
    f->published = false;
    f->hasher = NULL;
    sha256_init(&f->sha);
    if ((size_t)snprintf(f->path, sizeof f->path, "%s", path) >= sizeof f->path ||
        (size_t)snprintf(f->temp, sizeof f->temp, "%s.tmp", path) >= sizeof f->temp) {
        mem_free(f);
        return err_set(e, ERR_IO, "path too long");
    }
    f->fd = fails_now() ? -1 : open(f->temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (f->fd < 0) {
        enum err_code rc = err_errno(e, errno, "cannot create a file");

        mem_free(f);
        return rc;
    }
    *out = f;
    return ERR_OK;
}

enum err_code file_out_new(struct file_out **out, const char *path, struct err *e)
{
    return begin(out, path, false, true, e);
}

enum err_code file_out_scratch(struct file_out **out, const char *path, bool hashed, struct err *e)
{
    return begin(out, path, true, hashed, e);
}

static enum err_code flush(struct file_out *f, struct err *e)
{
    enum err_code rc = write_all(f->fd, f->buf, f->n_buf, e);

    if (rc == ERR_OK)
        f->n_buf = 0;
    return rc;
}

/* While more comes, the disk writes, so that the sync at the end finds little left to do, and another thread hashes. */
static void go_ahead(struct file_out *f)
{
    if (f->scratch || f->size - f->begun < AHEAD_LEN)
        return;
    (void)sync_file_range(f->fd, (off_t)f->begun, (off_t)(f->size - f->begun), SYNC_FILE_RANGE_WRITE);
    if (f->hashed && !f->hasher && f->n_buf == 0)
        (void)!hasher_new(&f->hasher, f->fd, &f->sha, f->size, NULL); /* else it is hashed here */
    if (f->hasher)
        hasher_reach(f->hasher, f->size - f->n_buf);
    f->begun = f->size;
}

enum err_code file_out_write(struct file_out *f, const void *data, size_t n, struct err *e)
{
    enum err_code rc;

    if (f->hashed && !f->hasher)
        sha256_update(&f->sha, n, data);
    if (f->n_buf + n > BUF_LEN || n >= DIRECT_LEN) {
        rc = flush(f, e);
        if (rc != ERR_OK)
            return rc;
    }
    if (n >= DIRECT_LEN) {
        rc = write_all(f->fd, data, n, e);
        if (rc != ERR_OK)
            return rc;
    } else {
        memcpy(f->buf + f->n_buf, data, n);
        f->n_buf += n;
    }
    f->size += n;
    go_ahead(f);
    return ERR_OK;
}

uint64_t file_out_size(const struct file_out *f)
{
    return f->size;
}

enum err_code file_out_publish(struct file_out *f, char *hash, struct err *e)
{
    enum err_code rc = flush(f, e);
    uint8_t digest[SHA256_DIGEST_SIZE];

    if (rc != ERR_OK)
        return rc;
    if (f->hasher)
        hasher_reach(f->hasher, f->size);
    if (!f->scratch && (fails_now() || fsync(f->fd) != 0))
        return err_errno(e, errno, "cannot sync");
    rc = hasher_finish(f->hasher, &f->sha, e);
    f->hasher = NULL;
    if (rc != ERR_OK)
        return rc;
    if (fails_now() || rename(f->temp, f->path) != 0)
        return err_errno(e, errno, "cannot rename");
    rc = f->scratch ? ERR_OK : fsync_dir(f->path, e);
    if (rc != ERR_OK) {
        unlink(f->path);
        return rc;
    }
    f->published = true;
    if (hash) {
        sha256_digest(&f->sha, sizeof digest, digest);
        for (size_t i = 0; i < sizeof digest; i++)
            snprintf(hash + 2 * i, 3, "%02x", digest[i]);
    }
    return ERR_OK;
}

void file_out_free(struct file_out *f)
{
    if (!f)
        return;
    (void)!hasher_finish(f->hasher, NULL, NULL);
    close(f->fd);
    if (!f->published)
        unlink(f->temp);
    mem_free(f);
}

enum err_code file_map_open(struct file_map *m, const char *path, struct err *e)
{
    struct stat st;
    enum err_code rc = ERR_OK;
    void *p = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    *m = (struct file_map){ 0 };
    if (fd < 0)
        return errno == ENOENT ? err_set(e, ERR_NOT_FOUND, "no such file") : err_errno(e, errno, "cannot open");
    if (fstat(fd, &st) != 0)
        rc = err_errno(e, errno, "cannot stat");
    else if (st.st_size > 0 && (p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED)
        rc = err_errno(e, errno, "cannot map");
    else if (st.st_size > 0)
        *m = (struct file_map){ p, (size_t)st.st_size };
    else
        m->data = (const unsigned char *)"";
    close(fd);
    return rc;
}

void file_map_close(struct file_map *m)
{
    if (m->len > 0)
        munmap((void *)(uintptr_t)m->data, m->len);
    *m = (struct file_map){ 0 };
}

enum err_code file_write(const char *path, const void *data, size_t n, struct err *e)
{
    struct file_out *f = NULL;
    enum err_code rc = file_out_new(&f, path, e);

    if (rc == ERR_OK)
        rc = file_out_write(f, data, n, e);
    if (rc == ERR_OK)
        rc = file_out_publish(f, NULL, e);
    file_out_free(f);
    return rc;
}

enum err_code file_remove(const char *path, struct err *e)
{
    if (unlink(path) != 0)
        return errno == ENOENT ? ERR_OK : err_errno(e, errno, "cannot remove");
    return fsync_dir(path, e);
}
