/* core/safetensors.c: see safetensors.h. The reader trusts nothing: every number of the header is checked against the bytes there
 * are before anything is computed from it. */
#include "core/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/jsonguard.h"
#include "core/mem.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are copied as they lie in the file");

enum { PREFIX = 8, HEADER_MAX = 16 << 20, MAX_TOKENS = 500000, NAME_TEXT = 100 };
#define METADATA "__metadata__"

static const struct { const char *name; size_t size; } dtypes[ST_DTYPES] = {
    [ST_F32] = { "F32", 4 }, [ST_F64] = { "F64", 8 }, [ST_F16] = { "F16", 2 }, [ST_BF16] = { "BF16", 2 },
    [ST_I64] = { "I64", 8 }, [ST_I32] = { "I32", 4 }, [ST_U8] = { "U8", 1 }
};

/* ---- read ---- */

static enum err_code read_dtype(enum st_dtype *out, const json_t *v, struct err *e)
{
    if (!json_is_string(v))
        return err_field(e, ERR_INVALID, "/dtype", "must be a string");
    for (int i = 0; i < ST_DTYPES; i++)
        if (strcmp(json_string_value(v), dtypes[i].name) == 0) {
            *out = (enum st_dtype)i;
            return ERR_OK;
        }
    return err_field(e, ERR_UNSUPPORTED, "/dtype", "dtype \"%.20s\" is not supported", json_string_value(v));
}

static enum err_code read_shape(struct shape *out, const json_t *v, struct err *e)
{
    enum err_code rc;

    if (!json_is_array(v) || json_array_size(v) > SHAPE_MAX)
        return err_field(e, ERR_INVALID, "/shape", "must be an array of at most %d numbers", SHAPE_MAX);
    out->n_d = (int)json_array_size(v);
    for (int i = 0; i < out->n_d; i++) {
        const json_t *d = json_array_get(v, (size_t)i);

        if (!json_is_integer(d) || json_integer_value(d) < 1 || json_integer_value(d) > INT32_MAX)
            return err_field(e, ERR_INVALID, "/shape", "dimension %d must be an integer of at least 1", i);
        out->d[i] = (int)json_integer_value(d);
    }
    rc = shape_check(out, e);
    return rc == ERR_OK ? rc : err_at(e, rc, "/shape");
}

/* data and bytes from "data_offsets", which must lie in the n bytes at `arrays` and agree with the shape. */
static enum err_code read_place(struct st_array *a, const json_t *v, const char *arrays, size_t n, struct err *e)
{
    const json_t *first = json_array_get(v, 0), *last = json_array_get(v, 1);
    size_t want = shape_len(&a->shape) * dtypes[a->dtype].size; /* below 2^34 */
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);

    if (json_array_size(v) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return err_field(e, ERR_INVALID, "/data_offsets", "must be an array of two integers");
    if (begin < 0 || end < begin || (uint64_t)end > n)
        return err_field(e, ERR_INVALID, "/data_offsets", "must lie within the %zu bytes behind the header", n);
    if ((uint64_t)(end - begin) != want)
        return err_field(e, ERR_INVALID, "/data_offsets", "hold %lld bytes, but dtype and shape need %zu", (long long)(end - begin), want);
    a->data = arrays + begin;
    a->bytes = want;
    return ERR_OK;
}

static enum err_code read_array(struct st_array *a, const char *name, const json_t *v, const char *arrays, size_t n, struct err *e)
{
    enum err_code rc;

    a->name = name;
    if (!json_is_object(v))
        return err_set(e, ERR_INVALID, "must be an object");
    if (json_object_size(v) != 3)
        return err_set(e, ERR_INVALID, "must have dtype, shape and data_offsets, nothing else");
    rc = read_dtype(&a->dtype, json_object_get(v, "dtype"), e);
    if (rc == ERR_OK)
        rc = read_shape(&a->shape, json_object_get(v, "shape"), e);
    return rc == ERR_OK ? read_place(a, json_object_get(v, "data_offsets"), arrays, n, e) : rc;
}

static enum err_code check_metadata(const json_t *meta, struct err *e)
{
    const char *key;
    json_t *v;

    if (!json_is_object(meta))
        return err_field(e, ERR_INVALID, "/" METADATA, "must be an object of strings");
    json_object_foreach((json_t *)(uintptr_t)meta, key, v)
        if (!json_is_string(v))
            return err_field(e, ERR_INVALID, "/" METADATA, "must hold strings only");
    return ERR_OK;
}

static int by_place(const void *a, const void *b)
{
    const char *p = ((const struct st_array *)a)->data, *q = ((const struct st_array *)b)->data;

    return (p > q) - (p < q);
}

/* Puts the arrays in the file's order; they must cover the bytes exactly. */
static enum err_code check_cover(struct st_file *f, const char *arrays, size_t n, struct err *e)
{
    const char *at = arrays;

    qsort(f->array, (size_t)f->n, sizeof *f->array, by_place);
    for (int i = 0; i < f->n; i++) {
        if (f->array[i].data != at) {
            char where[sizeof e->at] = "";

            err_step(where, sizeof where, f->array[i].name);
            return err_field(e, ERR_INVALID, where, "there is a gap or an overlap before this array");
        }
        at += f->array[i].bytes;
    }
    if (at != arrays + n)
        return err_set(e, ERR_INVALID, "%zu bytes behind the last array", (size_t)(arrays + n - at));
    return ERR_OK;
}

static enum err_code read_header(struct st_file *f, const char *text, size_t n_text, const char *arrays, size_t n, struct err *e)
{
    const char *name;
    json_t *v;
    enum err_code rc = json_read(&f->header, text, n_text, MAX_TOKENS, e);

    if (rc != ERR_OK)
        return rc;
    if (!json_is_object(f->header))
        return err_set(e, ERR_SYNTAX, "the header must be a JSON object");
    f->array = mem_zalloc(json_object_size(f->header), sizeof *f->array);
    if (!f->array)
        return err_set(e, ERR_NOMEM, "out of memory");
    f->metadata = json_object_get(f->header, METADATA);
    if (f->metadata && (rc = check_metadata(f->metadata, e)) != ERR_OK)
        return rc;
    json_object_foreach(f->header, name, v)
    {
        if (v == f->metadata)
            continue;
        rc = read_array(&f->array[f->n++], name, v, arrays, n, e);
        if (rc != ERR_OK) {
            char step[sizeof e->at] = "";

            err_step(step, sizeof step, name);
            return err_at(e, rc, "%s", step);
        }
    }
    return check_cover(f, arrays, n, e);
}

enum err_code st_parse(struct st_file *out, const void *data, size_t n, struct err *e)
{
    struct st_file f = { 0 };
    const char *bytes = data;
    uint64_t n_header;
    enum err_code rc;

    if (n < PREFIX)
        return err_set(e, ERR_SYNTAX, "too short for a safetensors file: %zu bytes", n);
    memcpy(&n_header, bytes, PREFIX);
    if (n_header > n - PREFIX)
        return err_set(e, ERR_SYNTAX, "the header needs %llu bytes, but the file ends after %zu", (unsigned long long)n_header, n - PREFIX);
    if (n_header > HEADER_MAX)
        return err_set(e, ERR_TOO_LARGE, "the header is longer than %d bytes", HEADER_MAX);
    rc = read_header(&f, bytes + PREFIX, (size_t)n_header, bytes + PREFIX + n_header, n - PREFIX - (size_t)n_header, e);
    if (rc == ERR_OK)
        *out = f;
    else
        st_file_free(&f);
    return rc;
}

void st_file_free(struct st_file *f)
{
    mem_free(f->array);
    json_decref(f->header);
    *f = (struct st_file){ 0 };
}

const struct st_array *st_find(const struct st_file *f, const char *name)
{
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->array[i].name, name) == 0)
            return &f->array[i];
    return NULL;
}

/* ---- numbers ---- */

static float number_at(enum st_dtype dtype, const unsigned char *p)
{
    uint16_t half;
    double real;
    float x;

    switch (dtype) {
    case ST_F16: memcpy(&half, p, sizeof half); return half_to_float(half);
    case ST_BF16: memcpy(&half, p, sizeof half); return float_from_bits((uint32_t)half << 16);
    case ST_F64: memcpy(&real, p, sizeof real); return (float)real;
    default: memcpy(&x, p, sizeof x); return x;
    }
}

enum err_code st_floats(const struct st_array *a, float *out, struct err *e)
{
    size_t n = shape_len(&a->shape), size = dtypes[a->dtype].size;
    char at[sizeof e->at] = "";

    err_step(at, sizeof at, a->name);
    if (a->dtype > ST_BF16)
        return err_field(e, ERR_UNSUPPORTED, at, "dtype %s holds no floating-point numbers", dtypes[a->dtype].name);
    for (size_t i = 0; i < n; i++) {
        out[i] = number_at(a->dtype, (const unsigned char *)a->data + i * size);
        if (!isfinite(out[i]))
            return err_field(e, ERR_INVALID, at, "%.*s: number %zu is not finite", NAME_TEXT, a->name, i);
    }
    return ERR_OK;
}

/* ---- write ---- */

struct st_writer {
    json_t *header; /* object, without metadata */
    int n, capacity;
    struct piece { const void *data; size_t bytes; const uint32_t *order; } *piece; /* order: of floats, or NULL */
    size_t bytes; /* of all pieces */
};

enum err_code st_writer_new(struct st_writer **out, struct err *e)
{
    struct st_writer *w = mem_zalloc(1, sizeof *w);

    if (w)
        w->header = json_object();
    if (!w || !w->header) {
        mem_free(w);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    *out = w;
    return ERR_OK;
}

static json_t *describe(const struct st_writer *w, enum st_dtype dtype, const struct shape *shape, size_t bytes)
{
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtypes[dtype].name, "shape", shape_json(shape), "data_offsets", (json_int_t)w->bytes,
                     (json_int_t)(w->bytes + bytes));
}

static bool grow(struct st_writer *w)
{
    int more = w->capacity ? 2 * w->capacity : 16;
    struct piece *p = w->n < w->capacity ? w->piece : mem_realloc(w->piece, (size_t)more * sizeof *p);

    if (!p)
        return false;
    if (w->n == w->capacity)
        w->capacity = more;
    w->piece = p;
    return true;
}

enum err_code st_add(struct st_writer *w, const char *name, enum st_dtype dtype, const struct shape *shape, const void *data, struct err *e)
{
    enum err_code rc = shape_check(shape, e);
    size_t bytes;

    if (rc != ERR_OK)
        return rc;
    if (strcmp(name, METADATA) == 0 || json_object_get(w->header, name))
        return err_set(e, ERR_INVALID, "array \"%.*s\" stands twice, or its name is reserved", NAME_TEXT, name);
    bytes = shape_len(shape) * dtypes[dtype].size;
    if (!grow(w) || json_object_set_new(w->header, name, describe(w, dtype, shape, bytes)) != 0)
        return err_set(e, ERR_NOMEM, "out of memory, or a name that is not UTF-8");
    w->piece[w->n++] = (struct piece){ data, bytes, NULL };
    w->bytes += bytes;
    return ERR_OK;
}

enum err_code st_add_ordered(struct st_writer *w, const char *name, const struct shape *shape, const float *data, const uint32_t *order,
                             struct err *e)
{
    enum err_code rc = st_add(w, name, ST_F32, shape, data, e);

    if (rc == ERR_OK)
        w->piece[w->n - 1].order = order;
    return rc;
}

static enum err_code write_piece(const struct piece *p, struct file_out *f, struct err *e)
{
    const float *data = p->data;
    const size_t len = p->bytes / sizeof *data;
    enum err_code rc = ERR_OK;
    float some[1024];

    if (!p->order)
        return file_out_write(f, p->data, p->bytes, e);
    for (size_t at = 0, n; at < len && rc == ERR_OK; at += n) {
        for (n = 0; n < sizeof some / sizeof some[0] && at + n < len; n++)
            some[n] = data[p->order[at + n]];
        rc = file_out_write(f, some, n * sizeof *data, e);
    }
    return rc;
}

/* Length and text, padded with spaces so that the arrays begin on a multiple of 8, as the reference implementation does. */
static enum err_code write_padded(const json_t *header, struct file_out *f, struct err *e)
{
    size_t n = 0;
    char *text = json_text(header, JSON_COMPACT, &n);
    uint64_t padded = (n + 7) / 8 * 8;
    enum err_code rc = text ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    if (padded > HEADER_MAX)
        rc = err_set(e, ERR_TOO_LARGE, "the header would be longer than %d bytes", HEADER_MAX);
    if (rc == ERR_OK)
        rc = file_out_write(f, &padded, sizeof padded, e);
    if (rc == ERR_OK)
        rc = file_out_write(f, text, n, e);
    if (rc == ERR_OK)
        rc = file_out_write(f, "       ", (size_t)padded - n, e);
    mem_free(text);
    return rc;
}

enum err_code st_write_header(const struct st_writer *w, const json_t *metadata, struct file_out *f, struct err *e)
{
    json_t *header = json_object();
    enum err_code rc;

    if (header && (!metadata || json_object_set(header, METADATA, (json_t *)(uintptr_t)metadata) == 0) &&
        json_object_update(header, w->header) == 0)
        rc = write_padded(header, f, e);
    else
        rc = err_set(e, ERR_NOMEM, "out of memory");
    json_decref(header);
    return rc;
}

enum err_code st_write(const struct st_writer *w, const json_t *metadata, struct file_out *f, struct err *e)
{
    enum err_code rc = st_write_header(w, metadata, f, e);

    for (int i = 0; i < w->n && rc == ERR_OK; i++)
        rc = write_piece(&w->piece[i], f, e);
    return rc;
}

enum err_code st_size(const struct st_writer *w, uint64_t *bytes, struct err *e)
{
    size_t n = 0;
    char *text = json_text(w->header, JSON_COMPACT, &n);

    if (!text)
        return err_set(e, ERR_NOMEM, "out of memory");
    mem_free(text);
    *bytes = 8 + (n + 7) / 8 * 8 + w->bytes;
    return ERR_OK;
}

void st_writer_free(struct st_writer *w)
{
    if (!w)
        return;
    json_decref(w->header);
    mem_free(w->piece);
    mem_free(w);
}
