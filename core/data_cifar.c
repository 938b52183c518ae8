/* core/data_cifar.c: CIFAR-10's and CIFAR-100's own binary files (A. Krizhevsky, "Learning multiple layers of features from tiny images"): record after
 * record, of which 1. a byte for the class (CIFAR-100: a byte for the superclass before it); 2. 1024 bytes of red, as many of green, of blue, each
 * a plane of 32 rows. They become images (32, 32, 3). The upload is such a file (several are concatenated), plain or gzip, or the archive as it is
 * distributed: then the members of the split are taken, in their order.
 *
 * The upload is read twice: the first pass counts the records and checks the classes, the second one writes. */
#include <string.h>

#include "core/data_impl.h"

enum { PLANE = 32 * 32, IMAGE = 3 * PLANE, RECORD_MAX = IMAGE + 2 };

struct cifar {
    const char *format;
    int labels;                    /* bytes before the image; the last one counts */
    int n_classes;
    const char *member[DATA_SPLITS]; /* how the names of a split's members begin; NULL: it has none */
};
static const struct cifar cifar10 = { "cifar10", 1, 10, { "data_batch", NULL, "test_batch" } },
                          cifar100 = { "cifar100", 2, 100, { "train.bin", NULL, "test.bin" } };

struct run {
    const struct cifar *c;
    const struct data_upload *u;
    bool in_archive;
    struct input *in;
    struct members *members;
    bool at_end;              /* of an archive */
    uint64_t n;               /* records so far */
    json_int_t count[100];
    struct data_writer out;
};

static const char *last_step(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* To the next member of the split. */
static enum err_code next_member(struct run *r, struct err *e)
{
    const char *begin = r->c->member[r->u->split], *name;
    enum err_code rc;

    if (!begin)
        return err_set(e, ERR_INVALID, "the archive has no split %s", data_split_name[r->u->split]);
    do {
        rc = members_next(r->members, &name, e);
    } while (rc == ERR_OK && name && strncmp(last_step(name), begin, strlen(begin)) != 0);
    r->at_end = rc != ERR_OK || !name;
    return rc;
}

/* To the first record, again in the second pass. */
static enum err_code open_upload(struct run *r, struct err *e)
{
    const struct data_upload *u = r->u;
    enum err_code rc;

    r->n = 0;
    if (!r->in_archive) {
        input_close(r->in);
        r->in = NULL;
        return input_open(&r->in, u->path, u->max_bytes, e);
    }
    rc = r->members ? members_rewind(r->members, e) : members_open(&r->members, u->path, u->max_bytes, e);
    return rc == ERR_OK ? next_member(r, e) : rc;
}

/* *got is a whole record or 0, at the end. */
static enum err_code read_record(struct run *r, unsigned char *record, size_t *got, struct err *e)
{
    size_t size = (size_t)r->c->labels + IMAGE;
    enum err_code rc = ERR_OK;

    *got = 0;
    if (!r->in_archive)
        rc = input_read(r->in, record, size, got, e);
    while (r->in_archive && rc == ERR_OK && *got == 0 && !r->at_end) {
        rc = members_read(r->members, record, size, got, e);
        if (rc == ERR_OK && *got == 0)
            rc = next_member(r, e);
    }
    if (rc != ERR_OK || *got == 0)
        return rc;
    if (*got < size)
        return err_set(e, ERR_SYNTAX, "record %llu ends after %zu bytes of %zu", (unsigned long long)r->n, *got, size);
    if (record[r->c->labels - 1] >= r->c->n_classes)
        return err_set(e, ERR_INVALID, "record %llu, at offset %llu, is of class %d: it must be below %d", (unsigned long long)r->n,
                       (unsigned long long)(r->n * size), record[r->c->labels - 1], r->c->n_classes);
    r->n++;
    return ERR_OK;
}

static enum err_code count(struct run *r, struct err *e)
{
    unsigned char record[RECORD_MAX];
    size_t got = 1;
    enum err_code rc = open_upload(r, e);

    while (rc == ERR_OK && got > 0) {
        rc = read_record(r, record, &got, e);
        if (rc == ERR_OK && got > 0)
            r->count[record[r->c->labels - 1]]++;
    }
    if (rc == ERR_OK && r->n == 0)
        rc = err_set(e, ERR_INVALID, "the upload has no records of split %s", data_split_name[r->u->split]);
    return rc;
}

/* ---- the second pass ---- */

static enum err_code copy(struct run *r, uint64_t n, struct err *e)
{
    unsigned char record[RECORD_MAX];
    size_t got = 1;
    enum err_code rc = open_upload(r, e);

    while (rc == ERR_OK && r->n < n) {
        const unsigned char *planes = record + r->c->labels;
        unsigned char *image = data_writer_at(&r->out, 0);

        rc = read_record(r, record, &got, e);
        if (rc == ERR_OK && got == 0)
            rc = err_set(e, ERR_INTERNAL, "the upload changed while it was read");
        if (rc != ERR_OK)
            break;
        for (int i = 0; i < PLANE; i++)
            for (int c = 0; c < 3; c++)
                image[3 * i + c] = planes[c * PLANE + i];
        *(int32_t *)data_writer_at(&r->out, 1) = planes[-1];
        rc = data_writer_next(&r->out, e);
    }
    return rc;
}

static enum err_code write_all(struct run *r, struct err *e)
{
    const uint64_t n = r->n;
    const struct data_head head[2] = { { .kind = DATA_KIND_FEATURES, .dtype = DATA_U8, .shape = { 3, { 32, 32, 3 } }, .n = n },
                                       { .kind = DATA_KIND_CLASSES, .dtype = DATA_I32, .n = n } };
    json_t *notes[2] = { json_pack("{s:s}", "format", r->c->format), data_class_notes(r->c->format, r->c->n_classes, r->count) };
    enum err_code rc = data_writer_open(&r->out, r->u, head, e);

    if (rc == ERR_OK)
        rc = copy(r, n, e);
    if (rc == ERR_OK)
        rc = data_writer_publish(&r->out, notes, e);
    json_decref(notes[0]);
    json_decref(notes[1]);
    return rc;
}

/* ---- which files are such ---- */

static enum err_code look_at_start(struct run *r, struct err *e)
{
    unsigned char b[512];
    struct data_start s;
    enum err_code rc = data_start_read(&s, b, sizeof b, r->u->path, e);

    r->in_archive = rc == ERR_OK && data_start_is_archive(&s);
    return rc;
}

static enum err_code convert(const struct cifar *c, const struct data_upload *u, struct err *e)
{
    struct run r = { .c = c, .u = u };
    enum err_code rc = u->conf->task == DATA_CLASSIFICATION ? look_at_start(&r, e)
                                          : err_set(e, ERR_INVALID, "%s has classes: task must be classification", c->format);

    if (rc == ERR_OK)
        rc = count(&r, e);
    if (rc == ERR_OK)
        rc = write_all(&r, e);
    input_close(r.in);
    members_close(r.members);
    data_writer_free(&r.out);
    return rc;
}

static enum err_code convert10(const struct data_upload *u, struct err *e) { return convert(&cifar10, u, e); }
static enum err_code convert100(const struct data_upload *u, struct err *e) { return convert(&cifar100, u, e); }

/* A class where each record would begin, whole records where the size is known, and a byte that no text has. */
static bool records(const struct cifar *c, const struct data_start *s)
{
    size_t size = (size_t)c->labels + IMAGE;

    if (s->n < size || (s->size != UINT64_MAX && s->size % size != 0) || data_start_is_archive(s))
        return false;
    for (size_t at = 0; at < s->n; at += size)
        if (at + (size_t)c->labels <= s->n && s->x[at + (size_t)c->labels - 1] >= c->n_classes)
            return false;
    for (size_t i = 0; i < s->n; i++)
        if (s->x[i] < ' ' && !memchr("\t\n\r", s->x[i], 3))
            return true;
    return false;
}

static bool sniff10(const struct data_start *s)
{
    return records(&cifar10, s) || (data_start_is_archive(s) && data_start_has(s, 0, "cifar-10-"));
}

static bool sniff100(const struct data_start *s)
{
    return records(&cifar100, s) || (data_start_is_archive(s) && data_start_has(s, 0, "cifar-100-"));
}

const struct data_format data_format_cifar10 = {
    .plug = { "cifar10", "CIFAR-10's binary files, one or several concatenated, or the .tar.gz that has them: features and labels.", NULL, 0 },
    .parts = 1 << DATA_TABLE, .images = true, .sniff = sniff10, .convert = convert10
};
const struct data_format data_format_cifar100 = {
    .plug = { "cifar100", "CIFAR-100's binary files or their .tar.gz: features and the fine labels.", NULL, 0 }, .parts = 1 << DATA_TABLE,
    .images = true, .sniff = sniff100, .convert = convert100
};
