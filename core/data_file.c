/* core/data_file.c: writes and maps the compact file (layout in data.h).
 *
 * The statistics are merged chunk by chunk (Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance"): within a
 * chunk the mean, then the squared deviations from it, so that nothing cancels however large the mean is. Bytes are summed as integers, exactly and in
 * one pass, and merged only before 32 bits overflow: an upload of bytes is to be as fast as the disk. */
#include <string.h>

#include "core/data_impl.h"
#include "core/jsonguard.h"
#include "core/mem.h"
#include "core/simd.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the compact file is mapped as it lies");

enum { NUMBERS_AT = 4096 };
static const uint64_t sums_max = UINT32_MAX / (255 * 255); /* samples: the squares of so many bytes fit 32 bits */
_Static_assert(UINT32_MAX / (255 * 255) >= DATA_CHUNK, "any chunk can be summed");
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
    uint64_t merged;   /* samples in them; of bytes, the others are in the sums */
    double *mean, *sq; /* of what is merged next, width each, behind them */
    uint32_t *sum, *sum_sq;
    uint8_t *low, *high; /* of bytes, so far */
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

static void begin_stats(struct data_out *o)
{
    double *min = o->stats + 2 * o->width, *max = min + o->width;

    memset(o->low, 255, o->width);
    for (size_t i = 0; i < o->width; i++) {
        min[i] = INFINITY;
        max[i] = -INFINITY;
    }
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
        o->stats = mem_zalloc(o->width, 6 * sizeof(double) + 2 * sizeof(uint32_t) + 2);
    if (!o->json || (o->head.stats_at > 0 && !o->stats)) {
        rc = err_set(e, ERR_NOMEM, "out of memory");
        goto fail;
    }
    if (o->stats) {
        o->mean = o->stats + 4 * o->width;
        o->sq = o->mean + o->width;
        o->sum = (uint32_t *)(void *)(o->sq + o->width);
        o->sum_sq = o->sum + o->width;
        o->low = (uint8_t *)(o->sum_sq + o->width);
        o->high = o->low + o->width;
        begin_stats(o);
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

/* Mean and squared deviations of one chunk, its min and max merged into those so far; features inside so that the loops vectorise. */
SIMD static void chunk_f32(double *restrict mean, double *restrict sq, double *restrict min, double *restrict max, const float *restrict x, size_t n,
                           size_t width)
{
    for (size_t s = 0; s < n; s++)
        for (size_t i = 0; i < width; i++) {
            double v = (double)x[s * width + i];

            mean[i] += v;
            min[i] = v < min[i] ? v : min[i];
            max[i] = v > max[i] ? v : max[i];
        }
    for (size_t i = 0; i < width; i++)
        mean[i] /= (double)n;
    for (size_t s = 0; s < n; s++)
        for (size_t i = 0; i < width; i++) {
            double d = (double)x[s * width + i] - mean[i];

            sq[i] += d * d;
        }
}

SIMD static void sums_u8(uint32_t *restrict sum, uint32_t *restrict sum_sq, uint8_t *restrict low, uint8_t *restrict high, const uint8_t *restrict x,
                         size_t n, size_t width)
{
    for (size_t s = 0; s < n; s++)
        for (size_t i = 0; i < width; i++) {
            uint8_t v = x[s * width + i];

            sum[i] += v;
            sum_sq[i] += (uint32_t)v * v;
            low[i] = v < low[i] ? v : low[i];
            high[i] = v > high[i] ? v : high[i];
        }
}

/* n samples, of mean and sq, to those before. */
SIMD static void merge(double *restrict mean, double *restrict m2, const double *restrict mean_n, const double *restrict sq_n, size_t width, double before,
                       double n)
{
    double share = n / (before + n), weight = before * share;

    for (size_t i = 0; i < width; i++) {
        double delta = mean_n[i] - mean[i];

        mean[i] += delta * share;
        m2[i] += sq_n[i] + delta * delta * weight;
    }
}

static void take_merged(struct data_out *o, uint64_t n)
{
    merge(o->stats, o->stats + o->width, o->mean, o->sq, o->width, (double)o->merged, (double)n);
    o->merged += n;
    memset(o->mean, 0, 2 * o->width * sizeof *o->mean);
}

static void merge_sums(struct data_out *o)
{
    uint64_t n = o->n - o->merged;

    for (size_t i = 0; i < o->width; i++) {
        uint64_t sum = o->sum[i];

        o->mean[i] = (double)sum / (double)n;
        o->sq[i] = (double)(n * o->sum_sq[i] - sum * sum) / (double)n;
    }
    take_merged(o, n);
    memset(o->sum, 0, 2 * o->width * sizeof *o->sum);
}

static void take_stats(struct data_out *o, const void *x, size_t n)
{
    size_t w = o->width;
    double *min = o->stats + 2 * w, *max = min + w;

    if (o->head.dtype == DATA_U8) {
        if (o->n - o->merged + n > sums_max)
            merge_sums(o);
        sums_u8(o->sum, o->sum_sq, o->low, o->high, x, n, w);
        return;
    }
    chunk_f32(o->mean, o->sq, min, max, x, n, w);
    take_merged(o, n);
}

/* What is still in the sums. */
static void finish_stats(struct data_out *o)
{
    double *min = o->stats + 2 * o->width, *max = min + o->width;

    if (o->head.dtype != DATA_U8)
        return;
    merge_sums(o);
    for (size_t i = 0; i < o->width; i++) {
        min[i] = o->low[i];
        max[i] = o->high[i];
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
    if (rc == ERR_OK && o->stats) {
        finish_stats(o);
        rc = file_out_write(o->file, o->stats, 4 * o->width * sizeof *o->stats, e);
    }
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
