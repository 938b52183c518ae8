/* core/packed_write.c: a model into a packed file (see packed.h). For each array every way to say which numbers are stored is tried, with the smallest
 * kind of value that loses nothing, and the shortest after entropy coding is taken. Same model, same bytes. */
#include <stdlib.h>
#include <string.h>

#include <zlib.h>
#include <zstd.h>

#include "core/half.h"
#include "core/mem.h"
#include "core/packed.h"

/* Levels of zstd. What packing leaves is nearly random: matches that a higher level finds in it cost more than they save. */
enum { LEVEL = 1, PLAIN_LEVEL = 6, SLOTS = 1024 };

const char *const packed_places_name[PLACES_KINDS] = { "all", "mask", "gaps" };
const char *const packed_values_name[VALUES_KINDS] = { "float32", "float16", "int8", "codebook" };

/* ---- bytes that grow ---- */

struct bytes { unsigned char *p; size_t n, room; bool failed; };

static unsigned char *extend(struct bytes *b, size_t n)
{
    size_t room = b->room;
    unsigned char *p = b->p;

    while (!b->failed && (!room || b->n + n > room))
        room = room ? 2 * room : 256;
    if (room > b->room)
        p = mem_realloc(b->p, room);
    if (b->failed || !p) {
        b->failed = true;
        return NULL;
    }
    b->p = p;
    b->room = room;
    b->n += n;
    return p + b->n - n;
}

static void add(struct bytes *b, const void *data, size_t n)
{
    unsigned char *p = extend(b, n);

    if (p && n > 0)
        memcpy(p, data, n);
}

static void add_u8(struct bytes *b, unsigned v) { add(b, &(unsigned char){ (unsigned char)v }, 1); }
static void add_u32(struct bytes *b, uint32_t v) { add(b, &v, sizeof v); }

/* ---- codes ---- */

/* Different numbers, up to PACKED_MAX_CODES, by bits. */
struct codes {
    int n; /* more than PACKED_MAX_CODES: too many */
    uint32_t bits[PACKED_MAX_CODES + 1];
    int16_t slot[SLOTS]; /* number + 1 of a hash table with open places */
};

static int find_code(const struct codes *c, uint32_t bits, unsigned *slot)
{
    for (*slot = bits * 2654435761u >> 22;; *slot = (*slot + 1) % SLOTS)
        if (c->slot[*slot] == 0 || c->bits[c->slot[*slot] - 1] == bits)
            return c->slot[*slot] - 1;
}

static void note_code(struct codes *c, uint32_t bits)
{
    unsigned slot;

    if (c->n <= PACKED_MAX_CODES && find_code(c, bits, &slot) < 0) {
        c->bits[c->n++] = bits;
        c->slot[slot] = (int16_t)c->n;
    }
}

static int by_size(const void *a, const void *b)
{
    float x = float_from_bits(*(const uint32_t *)a), y = float_from_bits(*(const uint32_t *)b);

    return x != y ? (x > y) - (x < y) : (*(const uint32_t *)a > *(const uint32_t *)b) - (*(const uint32_t *)a < *(const uint32_t *)b);
}

/* Entries in ascending order, so that near numbers have near codes. */
static void sort_codes(struct codes *c)
{
    qsort(c->bits, (size_t)c->n, sizeof c->bits[0], by_size);
    memset(c->slot, 0, sizeof c->slot);
    for (int i = 0; i < c->n; i++) {
        unsigned slot;

        if (find_code(c, c->bits[i], &slot) < 0)
            c->slot[slot] = (int16_t)(i + 1);
    }
}

/* ---- one array ---- */

struct coded {
    enum packed_places places;
    enum packed_values values;
    uint32_t stored;
    struct bytes index, table, value;
    size_t cost; /* bytes after entropy coding */
};

static void coded_clear(struct coded *c)
{
    mem_free(c->index.p);
    mem_free(c->table.p);
    mem_free(c->value.p);
    *c = (struct coded){ .cost = 0 };
}

/* A negative zero is stored: it has bits. */
static bool is_zero(const struct weight *w, size_t i)
{
    return w->int8 ? w->int8->q[i] == 0 : float_bits(w->x[i]) == 0;
}

static void add_mask(struct coded *c, const struct weight *w)
{
    unsigned char *bits = extend(&c->index, (w->len + 7) / 8);

    if (bits)
        memset(bits, 0, c->index.n);
    for (size_t i = 0; bits && i < w->len; i++)
        bits[i / 8] = (unsigned char)(bits[i / 8] | !is_zero(w, i) << i % 8);
}

static void add_gaps(struct coded *c, const struct weight *w)
{
    unsigned gap = 0;

    for (size_t i = 0; i < w->len; i++)
        if (!is_zero(w, i)) {
            add_u8(&c->index, gap);
            gap = 0;
        } else if (++gap == 255) {
            add_u8(&c->index, 255);
            gap = 0;
        }
}

static bool is_stored(const struct coded *c, const struct weight *w, size_t i)
{
    return c->places == PLACES_ALL || !is_zero(w, i);
}

/* The smallest kind that loses nothing, and what it needs. */
static void choose_values(struct coded *c, const struct weight *w, struct codes *codes)
{
    bool half = true;
    size_t width;

    *codes = (struct codes){ 0 };
    c->stored = 0;
    for (size_t i = 0; i < w->len; i++) {
        if (!is_stored(c, w, i))
            continue;
        c->stored++;
        note_code(codes, float_bits(w->x[i]));
        half = half && float_bits(half_to_float(half_of_float(w->x[i]))) == float_bits(w->x[i]);
    }
    width = half ? 2 : 4;
    c->values = w->int8 ? VALUES_INT8 : half ? VALUES_F16 : VALUES_F32;
    if (!w->int8 && codes->n <= PACKED_MAX_CODES && 4 * (size_t)codes->n + c->stored < width * c->stored)
        c->values = VALUES_CODEBOOK;
    sort_codes(codes);
}

static void add_table(struct coded *c, const struct weight *w, const struct codes *codes)
{
    if (c->values == VALUES_INT8)
        add(&c->table, w->int8->scale, (size_t)w->int8->rows * sizeof(float));
    if (c->values == VALUES_CODEBOOK)
        add(&c->table, codes->bits, (size_t)codes->n * sizeof codes->bits[0]);
}

static void add_values(struct coded *c, const struct weight *w, const struct codes *codes)
{
    const size_t width = c->values == VALUES_F32 ? 4 : c->values == VALUES_F16 ? 2 : 1;
    unsigned char *out = extend(&c->value, width * c->stored);
    unsigned slot;
    size_t k = 0;

    for (size_t i = 0; out && i < w->len; i++) {
        uint32_t bits = float_bits(w->x[i]);

        if (!is_stored(c, w, i))
            continue;
        if (c->values == VALUES_INT8)
            bits = (uint8_t)w->int8->q[i];
        else if (c->values == VALUES_F16)
            bits = half_of_float(w->x[i]);
        else if (c->values == VALUES_CODEBOOK)
            bits = (uint32_t)find_code(codes, bits, &slot);
        for (size_t b = 0; b < width; b++)
            out[b * c->stored + k] = (unsigned char)(bits >> 8 * b);
        k++;
    }
}

/* Bytes of a part after entropy coding; scratch has room for any part of the array. */
static size_t cost_of(ZSTD_CCtx *z, const struct bytes *b, void *scratch, size_t room)
{
    size_t n = b->n ? ZSTD_compressCCtx(z, scratch, room, b->p, b->n, LEVEL) : 0;

    return ZSTD_isError(n) ? b->n : n;
}

static enum err_code code(struct coded *c, enum packed_places places, const struct weight *w, ZSTD_CCtx *z, struct err *e)
{
    struct codes codes;
    size_t room = ZSTD_compressBound(4 * w->len + 64);
    void *scratch = mem_alloc(room);

    *c = (struct coded){ .places = places };
    choose_values(c, w, &codes);
    if (places == PLACES_MASK)
        add_mask(c, w);
    if (places == PLACES_GAPS)
        add_gaps(c, w);
    add_table(c, w, &codes);
    add_values(c, w, &codes);
    if (!scratch || c->index.failed || c->table.failed || c->value.failed) {
        mem_free(scratch);
        coded_clear(c);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    c->cost = cost_of(z, &c->index, scratch, room) + c->table.n + cost_of(z, &c->value, scratch, room);
    mem_free(scratch);
    return ERR_OK;
}

static enum err_code code_best(struct coded *best, const struct weight *w, ZSTD_CCtx *z, struct err *e)
{
    size_t zeros = 0;
    enum err_code rc = code(best, PLACES_ALL, w, z, e);

    for (size_t i = 0; i < w->len; i++)
        zeros += is_zero(w, i);
    for (int places = PLACES_MASK; rc == ERR_OK && zeros > w->len / 64 && places < PLACES_KINDS; places++) {
        struct coded c;

        rc = code(&c, (enum packed_places)places, w, z, e);
        if (rc == ERR_OK && c.cost < best->cost) {
            struct coded worse = *best;

            *best = c;
            c = worse;
        }
        if (rc == ERR_OK)
            coded_clear(&c);
    }
    if (rc != ERR_OK)
        coded_clear(best);
    return rc;
}

/* ---- the file ---- */

static void add_description(struct bytes *head, const struct weight *w, const struct coded *c)
{
    const struct shape *s = &w->info.shape;
    const struct int8_scale input = w->int8 ? w->int8->input : (struct int8_scale){ 0, 0 };
    const size_t n = strlen(w->name);

    add_u8(head, (unsigned)n);
    add(head, w->name, n);
    add_u8(head, (unsigned)s->n_d);
    for (int i = 0; i < s->n_d; i++)
        add_u32(head, (uint32_t)s->d[i]);
    add_u8(head, c->places);
    add_u8(head, c->values);
    add_u32(head, c->stored);
    add_u32(head, (uint32_t)c->index.n);
    add_u32(head, (uint32_t)(c->table.n / 4));
    add(head, &input.s, sizeof input.s);
    add_u8(head, (unsigned)input.zero);
}

static bool report(json_t *arrays, const struct weight *w, const struct coded *c)
{
    json_t *j = json_pack("{s:s,s:s,s:s,s:I,s:I}", "name", w->name, "places", packed_places_name[c->places], "values",
                          packed_values_name[c->values], "stored", (json_int_t)c->stored, "bytes",
                          (json_int_t)(c->index.n + c->table.n + c->value.n));

    return json_array_append_new(arrays, j) == 0;
}

static void add_architecture(struct bytes *head, const struct model *m)
{
    size_t n = 0;
    char *text = json_text(m->architecture, JSON_COMPACT, &n);

    head->failed = head->failed || !text;
    add_u32(head, (uint32_t)n);
    add(head, text, text ? n : 0);
    mem_free(text);
}

/* Passes bytes into the frame; a flush ends a block, so that each part has statistics of its own. */
static bool press(ZSTD_CCtx *z, struct bytes *out, const unsigned char *data, size_t n, ZSTD_EndDirective how)
{
    ZSTD_inBuffer in = { data, n, 0 };
    size_t left;

    do {
        const size_t room = ZSTD_compressBound(n - in.pos) + 64;
        unsigned char *p = extend(out, room);
        ZSTD_outBuffer to = { p, room, 0 };

        if (!p)
            return false;
        left = ZSTD_compressStream2(z, &to, &in, how);
        out->n -= room - to.pos;
    } while (!ZSTD_isError(left) && left > 0);
    return !ZSTD_isError(left);
}

static bool begin_frame(ZSTD_CCtx *z, size_t n)
{
    return !ZSTD_isError(ZSTD_CCtx_reset(z, ZSTD_reset_session_and_parameters)) &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, LEVEL)) &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1)) && !ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(z, n));
}

struct maker {
    ZSTD_CCtx *z;
    struct bytes head, parts, file;
    size_t *part_end; /* three per array */
};

static enum err_code code_arrays(struct maker *k, const struct net *net, json_t *arrays, struct err *e)
{
    enum err_code rc = ERR_OK;

    add_u32(&k->head, (uint32_t)net->n_weights);
    for (int i = 0; i < net->n_weights && rc == ERR_OK; i++) {
        struct coded c;

        rc = code_best(&c, &net->weight[i], k->z, e);
        if (rc != ERR_OK)
            return rc;
        add_description(&k->head, &net->weight[i], &c);
        add(&k->parts, c.index.p, c.index.n);
        k->part_end[3 * i] = k->parts.n;
        add(&k->parts, c.table.p, c.table.n);
        k->part_end[3 * i + 1] = k->parts.n;
        add(&k->parts, c.value.p, c.value.n);
        k->part_end[3 * i + 2] = k->parts.n;
        if (k->head.failed || k->parts.failed || (arrays && !report(arrays, &net->weight[i], &c)))
            rc = err_set(e, ERR_NOMEM, "out of memory");
        coded_clear(&c);
    }
    return rc;
}

static bool assemble(struct maker *k, int n_parts)
{
    size_t at = 0, frame_at, begin;
    uint32_t frame;
    bool ok;

    add(&k->file, "ESPACKED", 8);
    add_u32(&k->file, 1);
    add_u32(&k->file, (uint32_t)k->head.n);
    frame_at = k->file.n;
    add_u32(&k->file, 0);
    begin = k->file.n;
    ok = !k->file.failed && begin_frame(k->z, k->head.n) && press(k->z, &k->file, k->head.p, k->head.n, ZSTD_e_end) &&
         begin_frame(k->z, k->parts.n);
    if (!ok)
        return false;
    frame = (uint32_t)(k->file.n - begin);
    memcpy(k->file.p + frame_at, &frame, sizeof frame);
    for (int i = 0; ok && i < n_parts; at = k->part_end[i], i++)
        ok = k->part_end[i] == at || press(k->z, &k->file, k->parts.p + at, k->part_end[i] - at, ZSTD_e_flush);
    return ok && press(k->z, &k->file, NULL, 0, ZSTD_e_end);
}

enum err_code packed_make(struct packed *out, const struct model *m, json_t *arrays, struct err *e)
{
    struct maker k = { .z = ZSTD_createCCtx(), .part_end = mem_zalloc(3 * (size_t)m->net->n_weights + 1, sizeof(size_t)) };
    enum err_code rc = k.z && k.part_end ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    add_architecture(&k.head, m);
    if (rc == ERR_OK)
        rc = code_arrays(&k, m->net, arrays, e);
    if (rc == ERR_OK && k.head.n > PACKED_MAX_HEAD)
        rc = err_set(e, ERR_TOO_LARGE, "the architecture is too long for a packed file");
    if (rc == ERR_OK && !assemble(&k, 3 * m->net->n_weights))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK)
        *out = (struct packed){ k.file.p, k.file.n };
    else
        mem_free(k.file.p);
    mem_free(k.head.p);
    mem_free(k.parts.p);
    mem_free(k.part_end);
    ZSTD_freeCCtx(k.z);
    return rc;
}

void packed_clear(struct packed *p)
{
    mem_free(p->data);
    *p = (struct packed){ 0 };
}

enum err_code packed_write(const struct model *m, struct file_out *f, struct err *e)
{
    struct packed p = { 0 };
    enum err_code rc = packed_make(&p, m, NULL, e);

    if (rc == ERR_OK)
        rc = file_out_write(f, p.data, p.n, e);
    packed_clear(&p);
    return rc;
}

enum err_code packed_plain_sizes(const struct net *net, uint64_t *gzip, uint64_t *zstd, struct err *e)
{
    struct bytes all = { .p = NULL };
    unsigned char *out = NULL;
    uLongf n = 0;
    size_t z = 0;

    for (const struct weight *w = net->weight; w < net->weight + net->n_weights; w++)
        add(&all, w->x, w->len * sizeof(float));
    if (!all.failed)
        out = mem_alloc(compressBound(all.n) > ZSTD_compressBound(all.n) ? compressBound(all.n) : ZSTD_compressBound(all.n));
    if (out) {
        n = compressBound(all.n);
        if (compress2(out, &n, all.p, all.n, 6) != Z_OK)
            n = all.n;
        z = ZSTD_compress(out, ZSTD_compressBound(all.n), all.p, all.n, PLAIN_LEVEL);
    }
    mem_free(all.p);
    mem_free(out);
    if (!out)
        return err_set(e, ERR_NOMEM, "out of memory");
    *gzip = n + 12; /* what gzip's frame is longer than zlib's */
    *zstd = ZSTD_isError(z) ? 0 : z;
    return ERR_OK;
}
