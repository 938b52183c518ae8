/* core/data_file.c: writes and maps the compact file (layout in data.h).
 *
 * The statistics are merged chunk by chunk (Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance"): within a
 * chunk the mean, then the squared deviations from it, so that nothing cancels however large the mean is. */
#include <string.h>

#include "core/data_impl.h"
#include "core/jsonguard.h"
#include "core/mem.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the compact file is mapped as it lies");

enum { NUMBERS_AT = 4096 };
static const char magic[8] = "ESPDATA1";
const char *const data_kind_name[DATA_KINDS] = { "features", "classes", "targets" };
const char *const data_dtype_name[DATA_DTYPES] = { "u8", "f32", "i32" };
const size_t data_dtype_size[DATA_DTYPES] = { 1, 4, 4 };

struct head_bytes {
    char magic[8];
    uint32_t kind, dtype, rank, dims[SHAPE_MAX], zero;
    uint64_t n, stats_at, notes_at;
};
_Static_assert(sizeof(struct head_bytes) == 80, "no padding");

struct data_out {
    struct file_out *file;
    struct data_head head;
    json_t *json;     /* becomes info->json */
    uint64_t n;       /* samples so far */
    size_t width;
    double *stats;     /* mean, m2, min, max: width each; NULL: not features */
    double *mean, *sq; /* of the chunk, width each, behind them */
};

size_t data_head_width(const struct data_head *h)
{
    return shape_len(&h->shape);
}

size_t data_head_chunk(const struct data_head *h)
{
    size_t n = DATA_CHUNK / (data_head_width(h) * data_dtype_size[h->dtype]);

    return n > 0 ? n : 1;
}

/* ---- write ---- */

static enum err_code put_head(struct data_out *o, struct err *e)
{
    const struct data_head *h = &o->head;
    union { struct head_bytes b; char page[NUMBERS_AT]; } u = { .page = { 0 } };

    memcpy(u.b.magic, magic, sizeof magic);
    u.b.kind = h->kind;
    u.b.dtype = h->dtype;
    u.b.rank = (uint32_t)h->shape.n_d;
    for (int i = 0; i < h->shape.n_d; i++)
        u.b.dims[i] = (uint32_t)h->shape.d[i];
    u.b.n = h->n;
    u.b.stats_at = h->stats_at;
    u.b.notes_at = h->notes_at;
    return file_out_write(o->file, u.page, sizeof u.page, e);
}

static json_t *describe(const struct data_head *h)
{
    return json_pack("{s:s,s:s,s:o,s:I}", "kind", data_kind_name[h->kind], "dtype", data_dtype_name[h->dtype], "shape",
                     shape_json(&h->shape), "samples", (json_int_t)h->n);
}

static enum err_code place(struct data_head *h, uint64_t max_bytes, struct err *e)
{
    uint64_t sample = data_head_width(h) * data_dtype_size[h->dtype], bytes;
    bool overflow = __builtin_mul_overflow(sample, h->n, &bytes);

    if (h->n == 0)
        return err_set(e, ERR_INVALID, "there are no samples");
    if (data_head_width(h) > DATA_MAX_FEATURES)
        return err_set(e, ERR_TOO_LARGE, "a sample of %zu numbers: at most %d", data_head_width(h), (int)DATA_MAX_FEATURES);
    if (h->n > INT32_MAX)
        return err_set(e, ERR_TOO_LARGE, "%llu samples: at most %d", (unsigned long long)h->n, INT32_MAX);
    if (overflow || bytes > INT64_MAX / 2 || (max_bytes > 0 && bytes > max_bytes))
        return err_set(e, ERR_TOO_LARGE, "the numbers take more than %llu bytes", (unsigned long long)max_bytes);
    h->notes_at = (NUMBERS_AT + bytes + 7) / 8 * 8;
    h->stats_at = h->kind == DATA_KIND_FEATURES ? h->notes_at : 0;
    if (h->stats_at > 0)
        h->notes_at += 4 * sizeof(double) * data_head_width(h);
    return ERR_OK;
}

enum err_code data_out_new(struct data_out **out, const char *path, const struct data_head *head, uint64_t max_bytes, struct err *e)
{
    struct data_out *o = mem_zalloc(1, sizeof *o);
    enum err_code rc;

    if (!o)
        return err_set(e, ERR_NOMEM, "out of memory");
    o->head = *head;
    o->width = data_head_width(head);
    rc = place(&o->head, max_bytes, e);
    if (rc != ERR_OK)
        goto fail;
    o->json = describe(&o->head);
    if (o->head.stats_at > 0)
        o->stats = mem_zalloc(6 * o->width, sizeof(double));
    if (!o->json || (o->head.stats_at > 0 && !o->stats)) {
        rc = err_set(e, ERR_NOMEM, "out of memory");
        goto fail;
    }
    if (o->stats) {
        o->mean = o->stats + 4 * o->width;
        o->sq = o->mean + o->width;
    }
    rc = file_out_new(&o->file, path, e);
    if (rc == ERR_OK)
        rc = put_head(o, e);
    if (rc != ERR_OK)
        goto fail;
    *out = o;
    return ERR_OK;
fail:
    data_out_free(o);
    return rc;
}

void data_out_free(struct data_out *o)
{
    if (!o)
        return;
    file_out_free(o->file);
    json_decref(o->json);
    mem_free(o->stats);
    mem_free(o);
}

/* Mean, squared deviations, min and max of one chunk, features inside so that the loops vectorise; once per dtype. */
#define CHUNK_STATS(name, type) \
    static void name(double *restrict mean, double *restrict sq, double *restrict min, double *restrict max, const type *x, size_t n, \
                     size_t width) \
    { \
        for (size_t s = 0; s < n; s++) \
            for (size_t i = 0; i < width; i++) { \
                double v = x[s * width + i]; \
                mean[i] += v; \
                min[i] = v < min[i] ? v : min[i]; \
                max[i] = v > max[i] ? v : max[i]; \
            } \
        for (size_t i = 0; i < width; i++) \
            mean[i] /= (double)n; \
        for (size_t s = 0; s < n; s++) \
            for (size_t i = 0; i < width; i++) { \
                double d = x[s * width + i] - mean[i]; \
                sq[i] += d * d; \
            } \
    }
CHUNK_STATS(chunk_u8, uint8_t)
CHUNK_STATS(chunk_f32, float)

static void take_stats(struct data_out *o, const void *x, size_t n)
{
    size_t w = o->width;
    double *mean = o->stats, *m2 = mean + w, *min = m2 + w, *max = min + w;
    double before = (double)o->n, here = (double)n, all = before + here;

    memset(o->mean, 0, 2 * w * sizeof *o->mean);
    for (size_t i = 0; o->n == 0 && i < w; i++)
        min[i] = max[i] = o->head.dtype == DATA_U8 ? ((const uint8_t *)x)[i] : ((const float *)x)[i];
    if (o->head.dtype == DATA_U8)
        chunk_u8(o->mean, o->sq, min, max, x, n, w);
    else
        chunk_f32(o->mean, o->sq, min, max, x, n, w);
    for (size_t i = 0; i < w; i++) {
        double delta = o->mean[i] - mean[i];

        mean[i] += delta * here / all;
        m2[i] += o->sq[i] + delta * delta * before * here / all;
    }
}

enum err_code data_out_put(struct data_out *o, const void *samples, size_t n, struct err *e)
{
    if (n == 0)
        return ERR_OK;
    if (n > o->head.n - o->n)
        return err_set(e, ERR_INTERNAL, "more samples than announced");
    if (o->stats)
        take_stats(o, samples, n);
    o->n += n;
    return file_out_write(o->file, samples, n * o->width * data_dtype_size[o->head.dtype], e);
}

/* The first 100 of what may be thousands, for people. */
static int show_classes(json_t *json, const json_t *notes)
{
    static const char *const lists[] = { "classes", "counts" };
    int bad = json_object_set(json, "n_classes", json_object_get(notes, "n_classes"));

    for (size_t l = 0; l < 2; l++) {
        json_t *all = json_object_get(notes, lists[l]), *some = json_is_array(all) ? json_array() : json_null();

        for (size_t i = 0; i < json_array_size(all) && i < 100; i++)
            bad |= json_array_append(some, json_array_get(all, i));
        bad |= json_object_set_new(json, lists[l], some);
    }
    return bad;
}

static enum err_code put_notes(struct data_out *o, const json_t *notes, struct err *e)
{
    size_t n;
    char *text = json_text(notes, JSON_COMPACT, &n);
    enum err_code rc = text ? file_out_write(o->file, text, n, e) : err_set(e, ERR_NOMEM, "out of memory");

    mem_free(text);
    return rc;
}

enum err_code data_out_finish(struct data_out *o, const json_t *notes, struct err *e)
{
    static const char zeros[8];
    uint64_t size = file_out_size(o->file);
    enum err_code rc;

    if (o->n != o->head.n)
        return err_set(e, ERR_INTERNAL, "fewer samples than announced");
    if (json_object_set(o->json, "format", json_object_get(notes, "format")) != 0 ||
        (o->head.kind == DATA_KIND_CLASSES && show_classes(o->json, notes) != 0))
        return err_set(e, ERR_NOMEM, "out of memory");
    rc = file_out_write(o->file, zeros, (8 - size % 8) % 8, e);
    if (rc == ERR_OK && o->stats)
        rc = file_out_write(o->file, o->stats, 4 * o->width * sizeof *o->stats, e);
    return rc == ERR_OK ? put_notes(o, notes, e) : rc;
}

enum err_code data_out_publish(struct data_out *o, struct data_file_info *info, struct err *e)
{
    enum err_code rc = file_out_publish(o->file, info ? info->hash : NULL, e);

    if (rc == ERR_OK && info) {
        info->bytes = file_out_size(o->file);
        info->json = json_incref(o->json);
    }
    return rc;
}

enum err_code data_out_publish_both(struct data_out *const o[2], const char *const paths[2], struct data_file_info *const info[2],
                                    struct err *e)
{
    enum err_code rc = data_out_publish(o[0], info[0], e);

    if (rc != ERR_OK)
        return rc;
    rc = data_out_publish(o[1], info[1], e);
    if (rc == ERR_OK)
        return ERR_OK;
    if (file_remove(paths[0], NULL) != ERR_OK)
        rc = err_set(e, ERR_IO, "cannot take back the features");
    if (info[0]) {
        json_decref(info[0]->json);
        info[0]->json = NULL;
    }
    return rc;
}

/* ---- read ---- */

static bool head_fits(const struct head_bytes *b, struct data_head *h, size_t len)
{
    uint64_t bytes;

    if (memcmp(b->magic, magic, sizeof magic) != 0 || b->kind >= DATA_KINDS || b->dtype >= DATA_DTYPES || b->rank > SHAPE_MAX)
        return false;
    *h = (struct data_head){ b->kind, b->dtype, { .n_d = (int)b->rank }, b->n, b->stats_at, b->notes_at };
    for (int i = 0; i < h->shape.n_d; i++)
        h->shape.d[i] = (int)b->dims[i];
    if (shape_check(&h->shape, NULL) != ERR_OK || h->n == 0 || h->n > INT32_MAX || h->notes_at > len || h->stats_at % 8 != 0)
        return false;
    if (__builtin_mul_overflow(h->n, data_head_width(h) * data_dtype_size[h->dtype], &bytes) || bytes > len - NUMBERS_AT)
        return false;
    if (h->kind != DATA_KIND_FEATURES)
        return h->dtype == (h->kind == DATA_KIND_CLASSES ? DATA_I32 : DATA_F32) && h->stats_at == 0 && h->notes_at >= NUMBERS_AT + bytes;
    return h->dtype != DATA_I32 && h->stats_at >= NUMBERS_AT + bytes && h->stats_at <= h->notes_at &&
           (h->notes_at - h->stats_at) / (4 * sizeof(double)) == data_head_width(h);
}

enum err_code data_in_open(struct data_in *in, const char *path, struct err *e)
{
    struct data_in d = { 0 };
    struct head_bytes b;
    json_error_t why = { .line = 0 };
    enum err_code rc = file_map_open(&d.map, path, e);

    if (rc != ERR_OK)
        return rc;
    if (d.map.len >= NUMBERS_AT) {
        memcpy(&b, d.map.data, sizeof b);
        if (head_fits(&b, &d.head, d.map.len))
            d.notes = json_loadb((const char *)d.map.data + d.head.notes_at, d.map.len - d.head.notes_at, 0, &why);
    }
    if (!json_is_object(d.notes)) {
        data_in_close(&d);
        return json_error_code(&why) == json_error_out_of_memory ? err_set(e, ERR_NOMEM, "out of memory")
                                                                 : err_set(e, ERR_SYNTAX, "not a compact data file");
    }
    d.x = d.map.data + NUMBERS_AT;
    if (d.head.stats_at > 0) {
        size_t width = data_head_width(&d.head);

        d.mean = (const double *)(const void *)(d.map.data + d.head.stats_at);
        d.m2 = d.mean + width;
        d.min = d.m2 + width;
        d.max = d.min + width;
    }
    *in = d;
    return ERR_OK;
}

void data_in_close(struct data_in *in)
{
    json_decref(in->notes);
    file_map_close(&in->map);
    *in = (struct data_in){ 0 };
}
