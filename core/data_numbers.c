/* core/data_numbers.c: arrays of numbers as IDX and NPY have them, of any type and byte order, to a compact file. Bytes stay bytes; everything
 * else becomes float32, classes int32. Every number goes through a double, which is exact for all types but 64-bit integers beyond 2^53. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/data_impl.h"
#include "core/half.h"
#include "core/mem.h"
#include "core/simd.h"

/* A conversion under way. */
struct run {
    const struct data_numbers *a;
    struct data_out *out;
    unsigned char *raw; /* one chunk as read */
    void *x;            /* and as written: the same where the bytes stay as they are */
    json_int_t *count;  /* [DATA_MAX_CLASSES] of classes */
    int n_classes;      /* largest class + 1 */
};

static uint64_t load(const unsigned char *p, const struct number_type *t)
{
    uint16_t b2;
    uint32_t b4;
    uint64_t b8;

    switch (t->size) {
    case 1:
        return *p;
    case 2:
        memcpy(&b2, p, 2);
        return t->big ? __builtin_bswap16(b2) : b2;
    case 4:
        memcpy(&b4, p, 4);
        return t->big ? __builtin_bswap32(b4) : b4;
    default:
        memcpy(&b8, p, 8);
        return t->big ? __builtin_bswap64(b8) : b8;
    }
}

static double number(const unsigned char *p, const struct number_type *t)
{
    uint64_t u = load(p, t);
    int unused = 64 - 8 * t->size;
    double d;

    if (t->kind == 'i')
        return (double)((int64_t)(u << unused) >> unused);
    if (t->kind != 'f')
        return t->kind == 'b' ? u != 0 : (double)u;
    if (t->size == 2)
        return (double)half_to_float((uint16_t)u);
    if (t->size == 4)
        return (double)float_from_bits((uint32_t)u);
    memcpy(&d, &u, sizeof d);
    return d;
}

/* ---- the head ---- */

enum err_code data_numbers_head(struct data_numbers *a, enum data_kind kind, int rank, const uint64_t *dims, struct err *e)
{
    struct data_head *h = &a->head;
    enum err_code rc;

    *h = (struct data_head){ .kind = kind, .n = dims[0], .shape = { .n_d = rank - 1 } };
    for (int i = 1; i < rank; i++) {
        if (dims[i] == 0 || dims[i] > INT32_MAX)
            return err_set(e, ERR_INVALID, "dimension %d is %llu", i, (unsigned long long)dims[i]);
        h->shape.d[i - 1] = (int)dims[i];
    }
    if (kind == DATA_KIND_CLASSES && a->type.kind == 'f')
        return err_set(e, ERR_INVALID, "class labels must be integers of rank 1, not floating point");
    if (kind == DATA_KIND_CLASSES && rank == 2 && dims[1] == 1)
        h->shape.n_d = 0;
    if (kind == DATA_KIND_CLASSES && h->shape.n_d != 0)
        return err_set(e, ERR_INVALID, "class labels must be integers of rank 1, not of rank %d%s", rank,
                       rank == 2 ? " (one-hot? give the numbers of the classes)" : "");
    if (kind == DATA_KIND_TARGETS && rank > 2)
        return err_set(e, ERR_INVALID, "targets must have rank 1 or 2, not %d", rank);
    if (rank == 1 && kind != DATA_KIND_CLASSES) /* a sample is one number */
        h->shape = (struct shape){ 1, { 1 } };
    h->dtype = kind == DATA_KIND_CLASSES                                                       ? DATA_I32
               : kind == DATA_KIND_FEATURES && a->type.kind == 'u' && a->type.size == 1 ? DATA_U8
                                                                                           : DATA_F32;
    rc = shape_check(&h->shape, e);
    if (rc == ERR_OK && (__builtin_mul_overflow(h->n, data_head_width(h) * a->type.size, &a->bytes) || a->bytes > INT64_MAX))
        rc = err_set(e, ERR_TOO_LARGE, "the dimensions make more than 2^63 bytes");
    return rc;
}

/* ---- the numbers ---- */

static enum err_code take_class(struct run *r, double v, int32_t *x, struct err *e)
{
    if (!(v >= 0 && v < DATA_MAX_CLASSES))
        return err_set(e, ERR_INVALID, "class %.0f: it must be 0 to %d", v, DATA_MAX_CLASSES - 1);
    *x = (int32_t)v;
    r->count[*x]++;
    if (*x >= r->n_classes)
        r->n_classes = *x + 1;
    return ERR_OK;
}

static enum err_code take_real(double v, float *x, struct err *e)
{
    *x = (float)v;
    return isfinite(*x) ? ERR_OK : err_set(e, ERR_INVALID, "%s", isnan(v) ? "not a number" : "not a finite float32 number");
}

/* Are the numbers written as they were read? */
static bool stays(const struct data_numbers *a)
{
    const struct number_type *t = &a->type;

    return a->head.dtype == DATA_U8 || (a->head.dtype == DATA_F32 && t->kind == 'f' && t->size == 4 && !t->big);
}

SIMD static bool all_finite(const float *x, size_t n)
{
    int bad = 0;

    for (size_t i = 0; i < n; i++)
        bad |= !(fabsf(x[i]) <= FLT_MAX);
    return !bad;
}

/* Converts n numbers of raw to x; at: the offset of the first one. */
static enum err_code take_chunk(struct run *r, size_t n, uint64_t at, struct err *e)
{
    const struct number_type type = r->a->type;
    enum err_code rc = ERR_OK;
    struct err why = { 0 };

    if (r->x == r->raw && (r->a->head.dtype == DATA_U8 || all_finite(r->x, n)))
        return ERR_OK;
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        double v = number(r->raw + i * type.size, &type);

        rc = r->a->head.dtype == DATA_I32 ? take_class(r, v, (int32_t *)r->x + i, &why) : take_real(v, (float *)r->x + i, &why);
        if (rc != ERR_OK)
            err_set(e, rc, "%s, at offset %llu", why.msg, (unsigned long long)(at + i * type.size));
    }
    return rc;
}

static enum err_code take_all(struct run *r, struct err *e)
{
    const struct data_numbers *a = r->a;
    size_t width = data_head_width(&a->head), size = width * a->type.size, chunk = data_head_chunk(&a->head), got;
    enum err_code rc = ERR_OK;

    for (uint64_t done = 0; done < a->head.n && rc == ERR_OK; done += chunk) {
        size_t n = a->head.n - done < chunk ? (size_t)(a->head.n - done) : chunk;

        rc = a->read(a->from, r->raw, n * size, &got, e);
        if (rc == ERR_OK && got < n * size)
            rc = err_set(e, ERR_SYNTAX, "the %s file ends at byte %llu, expected %llu bytes", a->name,
                         (unsigned long long)(a->at + done * size + got), (unsigned long long)(a->at + a->bytes));
        if (rc == ERR_OK)
            rc = take_chunk(r, n * width, a->at + done * size, e);
        if (rc == ERR_OK)
            rc = data_out_put(r->out, r->x, n, e);
    }
    if (rc == ERR_OK)
        rc = a->read(a->from, r->raw, 1, &got, e);
    if (rc == ERR_OK && got > 0)
        rc = err_set(e, ERR_SYNTAX, "the %s file goes on after the last number at offset %llu", a->name,
                     (unsigned long long)(a->at + a->bytes));
    return rc;
}

static enum err_code run(struct run *r, const char *path, uint64_t max_bytes, struct err *e)
{
    const struct data_head *h = &r->a->head;
    size_t chunk = data_head_chunk(h) * data_head_width(h);
    json_t *notes;
    enum err_code rc = data_out_new(&r->out, path, h, max_bytes, e);

    if (rc != ERR_OK)
        return rc;
    r->raw = mem_alloc(chunk * r->a->type.size);
    r->x = stays(r->a) ? r->raw : mem_alloc(chunk * data_dtype_size[h->dtype]);
    r->count = h->kind == DATA_KIND_CLASSES ? mem_zalloc(DATA_MAX_CLASSES, sizeof *r->count) : NULL;
    if (!r->raw || !r->x || (h->kind == DATA_KIND_CLASSES && !r->count))
        return err_set(e, ERR_NOMEM, "out of memory");
    rc = take_all(r, e);
    if (rc != ERR_OK)
        return rc;
    notes = h->kind == DATA_KIND_CLASSES ? data_class_notes(r->a->format, r->n_classes, r->count) : json_pack("{s:s}", "format", r->a->format);
    rc = notes ? data_out_finish(r->out, notes, e) : err_set(e, ERR_NOMEM, "out of memory");
    json_decref(notes);
    return rc;
}

enum err_code data_numbers_convert(struct data_out **out, const struct data_numbers *a, const char *path, uint64_t max_bytes, struct err *e)
{
    struct run r = { .a = a };
    enum err_code rc = run(&r, path, max_bytes, e);

    if (r.x != r.raw)
        mem_free(r.x);
    mem_free(r.raw);
    mem_free(r.count);
    if (rc == ERR_OK)
        *out = r.out;
    else
        data_out_free(r.out);
    return rc;
}

static enum err_code read_upload(void *in, void *buf, size_t n, size_t *got, struct err *e)
{
    return input_read(in, buf, n, got, e);
}

enum err_code data_numbers_upload(const struct data_upload *u, const char *name, const char *format,
                                  enum err_code (*read_head)(struct data_numbers *a, enum data_kind kind, struct err *e), struct err *e)
{
    struct data_numbers a = { .name = name, .format = format, .read = read_upload };
    bool labels = u->part == DATA_LABELS;
    struct data_out *out = NULL;
    struct input *in = NULL;
    enum err_code rc = input_open(&in, u->path, u->max_bytes, e);

    a.from = in;
    if (rc == ERR_OK && u->scratch)
        input_consume(in, u->path);
    if (rc == ERR_OK)
        rc = read_head(&a, labels ? data_label_kind(u->conf) : DATA_KIND_FEATURES, e);
    if (rc == ERR_OK)
        rc = data_numbers_convert(&out, &a, u->to[labels], u->max_bytes, e);
    if (rc == ERR_OK)
        rc = data_out_publish(out, u->info[labels], e);
    data_out_free(out);
    input_close(in);
    return rc;
}
