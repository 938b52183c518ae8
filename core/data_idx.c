/* core/data_idx.c: reads IDX, the format of MNIST (Y. LeCun): 1. two zero bytes; 2. a byte for the type, a byte for the rank; 3. the
 * dimensions, big-endian u32 each, the first one counts the samples; 4. the numbers, big-endian, to the last byte of the file. */
#include <math.h>
#include <string.h>

#include "core/data_impl.h"
#include "core/mem.h"

/* Big-endian numbers to native doubles: exact for every type. */
static double get_u8(const unsigned char *p) { return p[0]; }
static double get_i8(const unsigned char *p) { return (int8_t)p[0]; }
static double get_i16(const unsigned char *p) { return (int16_t)(uint16_t)(p[0] << 8 | p[1]); }
static uint32_t get_u32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static double get_i32(const unsigned char *p) { return (int32_t)get_u32(p); }
static double get_f32(const unsigned char *p)
{
    uint32_t u = get_u32(p);
    float f;

    memcpy(&f, &u, sizeof f);
    return (double)f;
}
static double get_f64(const unsigned char *p)
{
    uint64_t u = (uint64_t)get_u32(p) << 32 | get_u32(p + 4);
    double d;

    memcpy(&d, &u, sizeof d);
    return d;
}

static const struct idx_type { unsigned char code; uint8_t size; bool real; double (*get)(const unsigned char *p); } types[] = {
    { 0x08, 1, false, get_u8 },  { 0x09, 1, false, get_i8 }, { 0x0b, 2, false, get_i16 },
    { 0x0c, 4, false, get_i32 }, { 0x0d, 4, true, get_f32 }, { 0x0e, 8, true, get_f64 },
};

struct idx {
    struct input *in;
    const struct idx_type *type;
    struct data_head head;
    uint64_t numbers_at;
    struct data_out *out;
    unsigned char *raw; /* one chunk as read */
    void *x;            /* and as written */
    json_int_t *count;  /* [DATA_MAX_CLASSES] of classes */
    int n_classes;      /* largest class + 1 */
};

static enum err_code too_short(const struct idx *r, uint64_t expected, struct err *e)
{
    return err_set(e, ERR_SYNTAX, "the IDX file ends at byte %llu, expected %llu bytes", (unsigned long long)input_offset(r->in),
                   (unsigned long long)expected);
}

static enum err_code read_dims(struct idx *r, int rank, struct err *e)
{
    unsigned char b[4 * SHAPE_MAX];
    struct shape *s = &r->head.shape;
    size_t got;
    enum err_code rc = input_read(r->in, b, 4 * (size_t)rank, &got, e);

    if (rc != ERR_OK)
        return rc;
    if (got < 4 * (size_t)rank)
        return too_short(r, 4 + 4 * (uint64_t)rank, e);
    r->head.n = get_u32(b);
    s->n_d = rank - 1;
    for (int i = 1; i < rank; i++) {
        uint32_t d = get_u32(b + 4 * i);

        if (d == 0 || d > INT32_MAX)
            return err_set(e, ERR_INVALID, "dimension %d at offset %d is %lu", i, 4 + 4 * i, (unsigned long)d);
        s->d[i - 1] = (int)d;
    }
    if (rank == 1 && r->head.kind != DATA_KIND_CLASSES) /* a sample is one number */
        *s = (struct shape){ 1, { 1 } };
    return shape_check(s, e);
}

static enum err_code check_length(const struct idx *r, struct err *e)
{
    uint64_t bytes, size = input_size(r->in);

    if (__builtin_mul_overflow(r->head.n, data_head_width(&r->head) * r->type->size, &bytes) || bytes > INT64_MAX)
        return err_set(e, ERR_TOO_LARGE, "the dimensions make more than 2^63 bytes");
    if (size == UINT64_MAX || size == r->numbers_at + bytes)
        return ERR_OK;
    return err_set(e, ERR_SYNTAX, "the IDX file has %llu bytes, its dimensions at offset 4 ask for %llu", (unsigned long long)size,
                   (unsigned long long)(r->numbers_at + bytes));
}

static enum err_code read_head(struct idx *r, struct err *e)
{
    unsigned char b[4];
    size_t got;
    enum err_code rc = input_read(r->in, b, sizeof b, &got, e);

    if (rc != ERR_OK)
        return rc;
    if (got < sizeof b && (got < 2 || (b[0] == 0 && b[1] == 0)))
        return too_short(r, sizeof b, e);
    if (b[0] != 0 || b[1] != 0)
        return err_set(e, ERR_SYNTAX, "not an IDX file: it must begin with two zero bytes");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].code == b[2])
            r->type = &types[i];
    if (!r->type)
        return err_set(e, ERR_SYNTAX, "unknown IDX type 0x%02x at offset 2", b[2]);
    if (b[3] < 1 || b[3] > SHAPE_MAX)
        return err_set(e, ERR_SYNTAX, "the rank at offset 3 is %d, it must be 1 to %d", b[3], SHAPE_MAX);
    if (r->head.kind == DATA_KIND_CLASSES && (r->type->real || b[3] != 1))
        return err_set(e, ERR_INVALID, "class labels must be integers of rank 1");
    if (r->head.kind == DATA_KIND_TARGETS && b[3] > 2)
        return err_set(e, ERR_INVALID, "targets must have rank 1 or 2, not %d", b[3]);
    r->head.dtype = r->head.kind == DATA_KIND_CLASSES                                ? DATA_I32
                    : r->head.kind == DATA_KIND_FEATURES && r->type->code == 0x08 ? DATA_U8
                                                                                     : DATA_F32;
    rc = read_dims(r, b[3], e);
    r->numbers_at = 4 + 4 * (uint64_t)b[3];
    return rc == ERR_OK ? check_length(r, e) : rc;
}

static enum err_code take_class(struct idx *r, double v, int32_t *x, struct err *e)
{
    if (v < 0 || v >= DATA_MAX_CLASSES)
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

/* Converts n numbers of raw to x; at: the offset of the first one. */
static enum err_code take_chunk(struct idx *r, size_t n, uint64_t at, struct err *e)
{
    struct err why = { 0 };
    enum err_code rc = ERR_OK;

    if (r->head.dtype == DATA_U8) {
        memcpy(r->x, r->raw, n);
        return ERR_OK;
    }
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        double v = r->type->get(r->raw + i * r->type->size);

        rc = r->head.dtype == DATA_I32 ? take_class(r, v, (int32_t *)r->x + i, &why) : take_real(v, (float *)r->x + i, &why);
        if (rc != ERR_OK)
            err_set(e, rc, "%s, at offset %llu", why.msg, (unsigned long long)(at + i * r->type->size));
    }
    return rc;
}

static enum err_code convert_numbers(struct idx *r, struct err *e)
{
    size_t width = data_head_width(&r->head), size = width * r->type->size, chunk = data_head_chunk(&r->head), got;
    enum err_code rc = ERR_OK;

    for (uint64_t done = 0; done < r->head.n && rc == ERR_OK; done += chunk) {
        size_t n = r->head.n - done < chunk ? (size_t)(r->head.n - done) : chunk;

        rc = input_read(r->in, r->raw, n * size, &got, e);
        if (rc == ERR_OK && got < n * size)
            rc = too_short(r, r->numbers_at + r->head.n * size, e);
        if (rc == ERR_OK)
            rc = take_chunk(r, n * width, r->numbers_at + done * size, e);
        if (rc == ERR_OK)
            rc = data_out_put(r->out, r->x, n, e);
    }
    if (rc == ERR_OK)
        rc = input_read(r->in, r->raw, 1, &got, e);
    if (rc == ERR_OK && got > 0)
        rc = err_set(e, ERR_SYNTAX, "the IDX file goes on after the last number at offset %llu",
                     (unsigned long long)(r->numbers_at + r->head.n * size));
    return rc;
}

static json_t *notes(const struct idx *r)
{
    json_t *counts;

    if (r->head.kind != DATA_KIND_CLASSES)
        return json_pack("{s:s}", "format", "idx");
    counts = json_array();
    for (int i = 0; i < r->n_classes; i++)
        if (json_array_append_new(counts, json_integer(r->count[i])) != 0) {
            json_decref(counts);
            return NULL;
        }
    return json_pack("{s:s,s:i,s:n,s:o}", "format", "idx", "n_classes", r->n_classes, "classes", "counts", counts);
}

static enum err_code convert(struct idx *r, const char *path, uint64_t max_bytes, struct data_file_info *info, struct err *e)
{
    size_t chunk;
    json_t *text;
    enum err_code rc = read_head(r, e);

    if (rc == ERR_OK)
        rc = data_out_new(&r->out, path, &r->head, max_bytes, e);
    if (rc != ERR_OK)
        return rc;
    chunk = data_head_chunk(&r->head) * data_head_width(&r->head);
    r->raw = mem_alloc(chunk * r->type->size);
    r->x = mem_alloc(chunk * data_dtype_size[r->head.dtype]);
    r->count = r->head.kind == DATA_KIND_CLASSES ? mem_zalloc(DATA_MAX_CLASSES, sizeof *r->count) : NULL;
    if (!r->raw || !r->x || (r->head.kind == DATA_KIND_CLASSES && !r->count))
        return err_set(e, ERR_NOMEM, "out of memory");
    rc = convert_numbers(r, e);
    if (rc != ERR_OK)
        return rc;
    text = notes(r);
    rc = text ? data_out_finish(r->out, text, e) : err_set(e, ERR_NOMEM, "out of memory");
    json_decref(text);
    return rc == ERR_OK ? data_out_publish(r->out, info, e) : rc;
}

enum err_code data_idx_convert(const char *upload, enum data_kind kind, const char *path, uint64_t max_bytes,
                               struct data_file_info *info, struct err *e)
{
    struct idx r = { .head.kind = kind };
    enum err_code rc = input_open(&r.in, upload, max_bytes, e);

    if (rc == ERR_OK)
        rc = convert(&r, path, max_bytes, info, e);
    data_out_free(r.out);
    input_close(r.in);
    mem_free(r.raw);
    mem_free(r.x);
    mem_free(r.count);
    return rc;
}
