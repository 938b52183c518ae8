/* core/packed_read.c: a packed file into a model (see packed.h). The head is bounded; the architecture in it says how long every part may be; only
 * then is the rest unpacked, and it must be exactly as long as the descriptions say. */
#include <math.h>
#include <string.h>

#include <zstd.h>

#include "core/half.h"
#include "core/mem.h"
#include "core/packed.h"

enum { FIXED = 20 /* bytes before the head's frame */ };

/* What lies in memory, from at on. */
struct cursor { const unsigned char *p; size_t n, at; };

struct description {
    unsigned places, values, zero;
    uint32_t stored, index, table;
    float scale;
};
struct packed_file {
    struct net *net;
    struct description *array; /* of each weight */
    unsigned char *head, *parts;
    size_t n_parts;
};

static enum err_code broken(struct err *e, const char *what)
{
    return err_set(e, ERR_SYNTAX, "packed file: %s", what);
}

static enum err_code misfit(struct err *e, const struct weight *w, const char *what)
{
    char at[sizeof e->at] = "";

    err_step(at, sizeof at, w->name);
    return err_field(e, ERR_INVALID, at, "packed file: weight \"%.100s\" %s", w->name, what);
}

static const unsigned char *take(struct cursor *c, size_t n)
{
    const unsigned char *p = c->p + c->at;

    if (n > c->n - c->at)
        return NULL;
    c->at += n;
    return p;
}

static bool take_u8(struct cursor *c, unsigned *v)
{
    const unsigned char *p = take(c, 1);

    *v = p ? *p : 0;
    return p != NULL;
}

static bool take_u32(struct cursor *c, uint32_t *v)
{
    const unsigned char *p = take(c, sizeof *v);

    if (p)
        memcpy(v, p, sizeof *v);
    return p != NULL;
}

bool packed_is(const void *data, size_t n)
{
    return n >= 8 && memcmp(data, "ESPACKED", 8) == 0;
}

/* ---- frames ---- */

/* One frame of exactly n bytes, which unpack to exactly `len`, the caller's bound. */
static enum err_code unpack(unsigned char **out, size_t len, const unsigned char *frame, size_t n, struct err *e)
{
    size_t used = ZSTD_findFrameCompressedSize(frame, n), got;

    if (ZSTD_isError(used) || used != n || ZSTD_getFrameContentSize(frame, n) != len)
        return broken(e, "a frame is cut off, or not as long as it should be");
    *out = mem_alloc(len);
    if (!*out)
        return err_set(e, ERR_NOMEM, "out of memory");
    got = ZSTD_decompress(*out, len, frame, n);
    return ZSTD_isError(got) || got != len ? broken(e, "a frame is damaged") : ERR_OK;
}

/* ---- descriptions ---- */

static size_t width_of(unsigned values) { return values == VALUES_F32 ? 4 : values == VALUES_F16 ? 2 : 1; }

static uint64_t part_len(const struct description *d)
{
    return d->index + 4 * (uint64_t)d->table + width_of(d->values) * (uint64_t)d->stored;
}

static enum err_code check_description(const struct net *net, const struct weight *w, const struct description *d, struct err *e)
{
    const uint64_t len = w->len;
    bool index = d->places == PLACES_ALL ? d->index == 0 && d->stored == len
               : d->places == PLACES_MASK ? d->index == (len + 7) / 8
                                          : d->index >= d->stored && d->index <= d->stored + len / 255;
    bool table = d->values == VALUES_INT8 ? net_can_int8(net, w) && d->table == (uint32_t)w->info.shape.d[0]
               : d->values == VALUES_CODEBOOK ? d->table <= PACKED_MAX_CODES
                                              : d->table == 0;

    if (d->places >= PLACES_KINDS || d->values >= VALUES_KINDS)
        return misfit(e, w, "is of an unknown kind");
    if (!index || d->stored > len || !table)
        return misfit(e, w, "has parts of impossible lengths");
    if (!(d->scale == 0 || (d->scale > 1e-30f && d->scale < 1e30f)) || (d->zero != 0 && d->zero != 128))
        return misfit(e, w, "has an impossible scale of activations");
    return ERR_OK;
}

static bool take_shape(struct cursor *c, const struct weight *w)
{
    const struct shape *s = &w->info.shape;
    unsigned rank;
    uint32_t d;

    if (!take_u8(c, &rank) || rank != (unsigned)s->n_d)
        return false;
    for (int i = 0; i < s->n_d; i++)
        if (!take_u32(c, &d) || d != (uint32_t)s->d[i])
            return false;
    return true;
}

static enum err_code read_description(struct description *d, const struct net *net, const struct weight *w, struct cursor *c, struct err *e)
{
    unsigned n;
    const unsigned char *name = take_u8(c, &n) ? take(c, n) : NULL;

    if (!name || n != strlen(w->name) || memcmp(name, w->name, n) != 0)
        return misfit(e, w, "is missing: arrays must be those of the architecture, in its order");
    if (!take_shape(c, w))
        return misfit(e, w, "has another shape than the architecture says");
    if (!take_u8(c, &d->places) || !take_u8(c, &d->values) || !take_u32(c, &d->stored) || !take_u32(c, &d->index) || !take_u32(c, &d->table) ||
        !take_u32(c, (uint32_t *)(void *)&d->scale) || !take_u8(c, &d->zero))
        return broken(e, "its head is cut off");
    return check_description(net, w, d, e);
}

static enum err_code read_descriptions(struct packed_file *f, struct cursor *c, struct err *e)
{
    uint32_t n;
    enum err_code rc = ERR_OK;

    if (!take_u32(c, &n) || n != (uint32_t)f->net->n_weights)
        return broken(e, "the number of its arrays is not the architecture's");
    f->array = mem_zalloc(n, sizeof *f->array);
    if (!f->array)
        return err_set(e, ERR_NOMEM, "out of memory");
    for (uint32_t i = 0; i < n && rc == ERR_OK; i++) {
        rc = read_description(&f->array[i], f->net, &f->net->weight[i], c, e);
        f->n_parts += rc == ERR_OK ? part_len(&f->array[i]) : 0;
    }
    return rc == ERR_OK && c->at != c->n ? broken(e, "bytes are left over in its head") : rc;
}

static enum err_code read_architecture(struct model *m, struct cursor *c, struct err *e)
{
    uint32_t n = 0;
    const unsigned char *text = take_u32(c, &n) ? take(c, n) : NULL;
    json_t *doc = NULL;
    enum err_code rc;

    if (!text || n > MODEL_MAX_TEXT)
        return broken(e, "its architecture is cut off or too long");
    rc = json_read(&doc, (const char *)text, n, MODEL_MAX_TOKENS, e);
    if (rc == ERR_OK)
        rc = keras_read(m, doc, e);
    json_decref(doc);
    return rc;
}

/* ---- numbers ---- */

/* Which numbers have a value: place[k] of the k-th. */
static bool read_places(uint32_t *place, const struct description *d, size_t len, const unsigned char *index)
{
    size_t k = 0, at = 0;

    for (size_t i = 0; d->places == PLACES_ALL && i < len; i++)
        place[k++] = (uint32_t)i;
    for (size_t i = 0; d->places == PLACES_MASK && i < 8 * (size_t)d->index; i++) {
        if (!(index[i / 8] >> i % 8 & 1))
            continue;
        if (i >= len || k == d->stored)
            return false;
        place[k++] = (uint32_t)i;
    }
    for (size_t i = 0; d->places == PLACES_GAPS && i < d->index; i++) {
        at += index[i];
        if (at > len)
            return false;
        if (index[i] == 255)
            continue;
        if (at == len || k == d->stored)
            return false;
        place[k++] = (uint32_t)at++;
    }
    return k == d->stored;
}

static uint32_t bits_at(const struct description *d, const unsigned char *value, size_t k)
{
    uint32_t bits = 0;

    for (size_t b = 0; b < width_of(d->values); b++)
        bits |= (uint32_t)value[b * d->stored + k] << 8 * b;
    return bits;
}

static enum err_code read_floats(struct weight *w, const struct description *d, const uint32_t *place, const unsigned char *table,
                                 const unsigned char *value, struct err *e)
{
    memset(w->x, 0, w->len * sizeof *w->x);
    for (size_t k = 0; k < d->stored; k++) {
        uint32_t bits = bits_at(d, value, k);

        if (d->values == VALUES_CODEBOOK) {
            if (bits >= d->table)
                return misfit(e, w, "has a code that is not in its table");
            memcpy(&bits, table + 4 * bits, sizeof bits);
        }
        w->x[place[k]] = d->values == VALUES_F16 ? half_to_float((uint16_t)bits) : float_from_bits(bits);
        if (!isfinite(w->x[place[k]]))
            return misfit(e, w, "has a number that is not finite");
    }
    return ERR_OK;
}

static enum err_code read_int8(struct net *net, struct weight *w, const struct description *d, const uint32_t *place, const unsigned char *table,
                               const unsigned char *value, struct err *e)
{
    int8_t *q = mem_zalloc(w->len, 1);
    float *scale = mem_vector(d->table);
    enum err_code rc = q && scale ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK)
        memcpy(scale, table, 4 * (size_t)d->table);
    for (size_t r = 0; rc == ERR_OK && r < d->table; r++)
        if (!(scale[r] > 0 && isfinite(127 * scale[r])))
            rc = misfit(e, w, "has an impossible scale");
    for (size_t k = 0; rc == ERR_OK && k < d->stored; k++) {
        q[place[k]] = (int8_t)value[k];
        if (value[k] == 128)
            rc = misfit(e, w, "has an integer below -127");
    }
    if (rc == ERR_OK)
        rc = net_set_int8(net, w, q, scale, (struct int8_scale){ d->scale, (int)d->zero }, e);
    mem_free(q);
    mem_free(scale);
    return rc;
}

static enum err_code read_array(struct net *net, struct weight *w, const struct description *d, struct cursor *c, struct err *e)
{
    const unsigned char *index = take(c, d->index), *table = take(c, 4 * (size_t)d->table), *value = take(c, width_of(d->values) * d->stored);
    uint32_t *place = mem_alloc(d->stored * sizeof *place);
    enum err_code rc = place ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK && !read_places(place, d, w->len, index))
        rc = misfit(e, w, "has places that do not fit its values");
    if (rc == ERR_OK)
        rc = d->values == VALUES_INT8 ? read_int8(net, w, d, place, table, value, e) : read_floats(w, d, place, table, value, e);
    mem_free(place);
    return rc;
}

static enum err_code read_arrays(struct packed_file *f, struct err *e)
{
    struct cursor c = { f->parts, f->n_parts, 0 };
    enum err_code rc = ERR_OK;

    for (int i = 0; i < f->net->n_weights && rc == ERR_OK; i++)
        rc = read_array(f->net, &f->net->weight[i], &f->array[i], &c, e);
    f->net->trained = rc == ERR_OK;
    return rc;
}

/* ---- the file ---- */

static enum err_code read_file(struct model *m, struct packed_file *f, const unsigned char *data, size_t n, struct err *e)
{
    struct cursor c = { data, n, 8 };
    uint32_t version = 0, len = 0, frame = 0;
    enum err_code rc;

    if (!packed_is(data, n) || !take_u32(&c, &version) || version != 1)
        return broken(e, "it does not begin like one of version 1");
    if (!take_u32(&c, &len) || !take_u32(&c, &frame) || len > PACKED_MAX_HEAD || frame > n - FIXED)
        return broken(e, "its head is cut off or too long");
    rc = unpack(&f->head, len, data + FIXED, frame, e);
    c = (struct cursor){ f->head, len, 0 };
    if (rc == ERR_OK)
        rc = read_architecture(m, &c, e);
    f->net = m->net;
    if (rc == ERR_OK)
        rc = read_descriptions(f, &c, e);
    if (rc == ERR_OK)
        rc = unpack(&f->parts, f->n_parts, data + FIXED + frame, n - FIXED - frame, e);
    return rc == ERR_OK ? read_arrays(f, e) : rc;
}

enum err_code packed_read(struct model *out, const void *data, size_t n, struct err *e)
{
    struct packed_file f = { .net = NULL };
    struct model m = { 0 };
    enum err_code rc = read_file(&m, &f, data, n, e);

    mem_free(f.array);
    mem_free(f.head);
    mem_free(f.parts);
    if (rc == ERR_OK)
        *out = m;
    else
        model_clear(&m);
    return rc;
}
