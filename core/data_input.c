/* core/data_input.c: the bytes of an upload, plain or gzip (told by its magic), in bounded memory.
 *
 * A gzip stream may pack a thousand to one: what comes out is limited to 100 times what went in beyond the first MiB, and absolutely.
 * zlib checks the CRC and length at the end of each member; members may follow each other (RFC 1952), anything else behind is refused.
 *
 * A file that is consumed gives back to the file system what has been read, while the converted file grows: pages of the cache that it has just left are
 * taken again at once, where fresh ones may cost a virtual machine more than all the rest of a conversion (measured: 0.5 s against 4 s for 1 GiB). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "core/data_impl.h"
#include "core/mem.h"

enum { BUF_LEN = 65536, DIRECT_LEN = 16384 /* so much is read past buf */, HOLE_LEN = 4 << 20, RATIO = 100, RATIO_FREE = 1 << 20 };

struct input {
    int fd, hole_fd; /* hole_fd: for writing; -1: the file stays as it is */
    bool packed, at_end; /* at_end: of the file */
    bool in_member;      /* inside a gzip member */
    uint64_t size, max_bytes, taken, given; /* taken: bytes read from the file */
    uint64_t holes; /* bytes given back */
    size_t pos, len;     /* of buf */
    z_stream z;
    unsigned char buf[BUF_LEN];
};

static void *z_alloc(void *opaque, unsigned count, unsigned size)
{
    (void)opaque;
    return mem_zalloc(count, size);
}

static void z_release(void *opaque, void *p)
{
    (void)opaque;
    mem_free(p);
}

static void give_back(struct input *in)
{
    if (in->hole_fd < 0 || in->taken - in->holes < HOLE_LEN)
        return;
    (void)fallocate(in->hole_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)in->holes, (off_t)(in->taken - in->holes));
    in->holes = in->taken;
}

/* Up to n bytes of the file, n > 0; at_end when there is nothing more. */
static enum err_code take(struct input *in, unsigned char *to, size_t n, size_t *got, struct err *e)
{
    ssize_t k;

    do {
        k = read(in->fd, to, n);
    } while (k < 0 && errno == EINTR);
    if (k < 0)
        return err_errno(e, errno, "cannot read the upload");
    in->at_end = k == 0;
    in->taken += (uint64_t)k;
    give_back(in);
    *got = (size_t)k;
    return ERR_OK;
}

/* Reads on when buf is used up. */
static enum err_code fill(struct input *in, struct err *e)
{
    if (in->pos < in->len || in->at_end)
        return ERR_OK;
    in->pos = in->len = 0;
    return take(in, in->buf, BUF_LEN, &in->len, e);
}

enum err_code input_open(struct input **out, const char *path, uint64_t max_bytes, struct err *e)
{
    struct input *in = mem_zalloc(1, sizeof *in);
    struct stat st;
    enum err_code rc;

    if (!in)
        return err_set(e, ERR_NOMEM, "out of memory");
    in->max_bytes = max_bytes ? max_bytes : UINT64_MAX;
    in->hole_fd = -1;
    in->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (in->fd < 0 || fstat(in->fd, &st) != 0)
        rc = errno == ENOENT ? err_set(e, ERR_NOT_FOUND, "no such file") : err_errno(e, errno, "cannot open the upload");
    else
        rc = fill(in, e);
    if (rc == ERR_OK) {
        in->packed = in->len >= 2 && in->buf[0] == 0x1f && in->buf[1] == 0x8b;
        in->size = in->packed ? UINT64_MAX : (uint64_t)st.st_size;
        in->z.zalloc = z_alloc;
        in->z.zfree = z_release;
        in->in_member = in->packed;
        if (in->packed && inflateInit2(&in->z, 16 + MAX_WBITS) != Z_OK)
            rc = err_set(e, ERR_NOMEM, "out of memory");
    }
    if (rc != ERR_OK) {
        input_close(in);
        return rc;
    }
    *out = in;
    return ERR_OK;
}

void input_consume(struct input *in, const char *path)
{
    in->hole_fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
}

void input_close(struct input *in)
{
    if (!in)
        return;
    inflateEnd(&in->z); /* refuses a stream that was never begun */
    if (in->fd >= 0)
        close(in->fd);
    if (in->hole_fd >= 0)
        close(in->hole_fd);
    mem_free(in);
}

uint64_t input_offset(const struct input *in)
{
    return in->given;
}

uint64_t input_size(const struct input *in)
{
    return in->size;
}

static enum err_code copy(struct input *in, unsigned char *to, size_t n, size_t *got, struct err *e)
{
    while (*got < n && !in->at_end) {
        size_t here = in->len - in->pos, k = here < n - *got ? here : n - *got;
        enum err_code rc = ERR_OK;

        if (here == 0 && n - *got >= DIRECT_LEN) {
            rc = take(in, to + *got, n - *got, &k, e);
        } else if (here == 0) {
            rc = fill(in, e);
        } else {
            memcpy(to + *got, in->buf + in->pos, k);
            in->pos += k;
        }
        if (rc != ERR_OK)
            return rc;
        *got += k;
    }
    return ERR_OK;
}

static enum err_code broken(const struct input *in, const char *why, struct err *e)
{
    return err_set(e, ERR_SYNTAX, "the gzip stream is broken at byte %llu: %s", (unsigned long long)(in->taken - in->len + in->pos), why);
}

/* After a member: the end, or the next one. */
static enum err_code next_member(struct input *in, struct err *e)
{
    enum err_code rc = fill(in, e);

    if (rc != ERR_OK || in->at_end)
        return rc;
    if (in->buf[in->pos] != 0x1f)
        return broken(in, "neither the end nor a further member", e);
    in->in_member = true;
    return inflateReset(&in->z) == Z_OK ? ERR_OK : err_set(e, ERR_INTERNAL, "cannot reset zlib");
}

static enum err_code unpack(struct input *in, unsigned char *to, size_t n, size_t *got, struct err *e)
{
    while (*got < n) {
        enum err_code rc = in->in_member ? fill(in, e) : next_member(in, e);
        size_t room = n - *got < INT32_MAX ? n - *got : INT32_MAX;
        int z;

        if (rc != ERR_OK)
            return rc;
        if (in->at_end)
            return in->in_member ? broken(in, "it ends too early", e) : ERR_OK;
        in->z.next_in = in->buf + in->pos;
        in->z.avail_in = (unsigned)(in->len - in->pos);
        in->z.next_out = to + *got;
        in->z.avail_out = (unsigned)room;
        z = inflate(&in->z, Z_NO_FLUSH);
        in->pos = in->len - in->z.avail_in;
        *got += room - in->z.avail_out;
        if (z == Z_MEM_ERROR)
            return err_set(e, ERR_NOMEM, "out of memory");
        if (z != Z_OK && z != Z_STREAM_END)
            return broken(in, in->z.msg ? in->z.msg : "it cannot be unpacked", e);
        in->in_member = z != Z_STREAM_END;
    }
    return ERR_OK;
}

enum err_code input_check(uint64_t given, uint64_t taken, uint64_t max_bytes, const char *what, struct err *e)
{
    if (given > max_bytes)
        return err_set(e, ERR_TOO_LARGE, "more than %llu bytes of data", (unsigned long long)max_bytes);
    if (given > RATIO_FREE && (given - RATIO_FREE) / RATIO > taken)
        return err_set(e, ERR_TOO_LARGE, "the %s unpacks to more than %d times its size", what, (int)RATIO);
    return ERR_OK;
}

enum err_code input_read(struct input *in, void *buf, size_t n, size_t *got, struct err *e)
{
    enum err_code rc;

    *got = 0;
    rc = in->packed ? unpack(in, buf, n, got, e) : copy(in, buf, n, got, e);
    if (rc != ERR_OK)
        return rc;
    in->given += *got;
    return input_check(in->given, in->packed ? in->taken : UINT64_MAX, in->max_bytes, "gzip stream", e);
}
