/* core/data_npy.c: reads NPY, numpy's file of one array (numpy.lib.format): 1. "\x93NUMPY", a byte for the version, a zero byte; 2. the length of
 * the header, little-endian, u16 in version 1, else u32; 3. the header, a Python dictionary in text: 'descr' the type ("<f4"), 'fortran_order',
 * 'shape'; 4. the numbers. And NPZ: a zip of such files, of which the names say what they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/data_impl.h"
#include "core/mem.h"

enum { HEADER_MAX = 10000 /* numpy's own limit */, NPZ_MAX = 1000 /* members */ };
static const char magic[] = "\x93NUMPY";

/* ---- the header ---- */

/* The header's text while it is read. */
struct header {
    struct data_numbers *a;
    uint64_t dims[SHAPE_MAX];
    int rank;
    bool has_descr, has_order, has_shape;
    const char *at;
};

static enum err_code syntax(const char *what, struct err *e)
{
    return err_set(e, ERR_SYNTAX, "the NPY header %s", what);
}

static bool next_is(struct header *h, char c)
{
    h->at += strspn(h->at, " \n");
    if (*h->at != c)
        return false;
    h->at++;
    return true;
}

/* A quoted text of at most size - 1 bytes without escapes. */
static bool next_text(struct header *h, char *buf, size_t size)
{
    char quote = next_is(h, '\'') ? '\'' : next_is(h, '"') ? '"' : '\0';
    const char *end = quote ? strchr(h->at, quote) : NULL;

    if (!end || (size_t)(end - h->at) >= size)
        return false;
    snprintf(buf, size, "%.*s", (int)(end - h->at), h->at);
    h->at = end + 1;
    return true;
}

static enum err_code take_descr(struct header *h, struct err *e)
{
    char text[16], quoted[CSV_QUOTE_LEN];
    struct number_type *t = &h->a->type;

    if (next_is(h, '['))
        return err_set(e, ERR_INVALID, "an NPY array of records cannot be taken: it must hold plain numbers");
    if (!next_text(h, text, sizeof text))
        return syntax("has no type", e);
    if (strlen(text) == 3 && strchr("<>|=", text[0]) && strchr("biuf", text[1]) && strchr("1248", text[2])) {
        *t = (struct number_type){ text[1], (uint8_t)(text[2] - '0'), text[0] == '>' };
        if (t->kind == 'b' ? t->size == 1 : t->kind != 'f' || t->size > 1)
            return ERR_OK;
    }
    return err_set(e, ERR_INVALID, "an NPY array of type \"%s\" cannot be taken: it must hold integers, bool, or floats of up to 64 bits",
                   csv_quote(quoted, text));
}

static enum err_code take_order(struct header *h, struct err *e)
{
    if (strncmp(h->at, "False", 5) == 0) {
        h->at += 5;
        return ERR_OK;
    }
    if (strncmp(h->at, "True", 4) == 0)
        return err_set(e, ERR_INVALID, "the NPY array lies in Fortran order: save numpy.ascontiguousarray(x)");
    return syntax("has no order", e);
}

static enum err_code take_shape(struct header *h, struct err *e)
{
    if (!next_is(h, '('))
        return syntax("has no shape", e);
    while (!next_is(h, ')')) {
        char *end;

        if (*h->at < '0' || *h->at > '9' || strspn(h->at, "0123456789") > 18)
            return syntax("has no sound shape", e);
        if (h->rank == SHAPE_MAX)
            return err_set(e, ERR_INVALID, "the NPY array has more than %d dimensions", (int)SHAPE_MAX);
        h->dims[h->rank++] = strtoull(h->at, &end, 10);
        h->at = end;
        if (!next_is(h, ',') && *h->at != ')')
            return syntax("has no sound shape", e);
    }
    return h->rank > 0 ? ERR_OK : err_set(e, ERR_INVALID, "the NPY array is a single number, its first dimension must count the samples");
}

/* {'descr': '<f4', 'fortran_order': False, 'shape': (60000, 28, 28), } */
static enum err_code parse_header(struct header *h, struct err *e)
{
    const struct { const char *key; bool *seen; enum err_code (*take)(struct header *h, struct err *e); } keys[] = {
        { "descr", &h->has_descr, take_descr }, { "fortran_order", &h->has_order, take_order }, { "shape", &h->has_shape, take_shape },
    };
    enum err_code rc = next_is(h, '{') ? ERR_OK : syntax("is no dictionary", e);
    char key[16];

    while (rc == ERR_OK && !next_is(h, '}')) {
        size_t k = 0;

        if (!next_text(h, key, sizeof key) || !next_is(h, ':'))
            return syntax("is no dictionary", e);
        while (k < 3 && strcmp(keys[k].key, key) != 0)
            k++;
        if (k == 3 || *keys[k].seen)
            return syntax("has a key twice, or an unknown one", e);
        *keys[k].seen = true;
        h->at += strspn(h->at, " \n");
        rc = keys[k].take(h, e);
        if (rc == ERR_OK && !next_is(h, ',') && *h->at != '}')
            rc = syntax("is no dictionary", e);
    }
    if (rc == ERR_OK && !(h->has_descr && h->has_order && h->has_shape))
        rc = syntax("has no descr, fortran_order or shape", e);
    return rc;
}

static enum err_code read_bytes(struct data_numbers *a, void *buf, size_t n, struct err *e)
{
    size_t got;
    enum err_code rc = a->read(a->from, buf, n, &got, e);

    a->at += got;
    return rc == ERR_OK && got < n ? err_set(e, ERR_SYNTAX, "the NPY file ends at byte %llu, in its head", (unsigned long long)a->at) : rc;
}

enum err_code data_npy_head(struct data_numbers *a, enum data_kind kind, struct err *e)
{
    unsigned char b[8], len[4] = { 0 };
    char text[HEADER_MAX + 1];
    struct header h = { .a = a, .at = text };
    size_t n;
    enum err_code rc;

    a->name = "NPY";
    a->at = 0;
    rc = read_bytes(a, b, sizeof b, e);
    if (rc == ERR_OK && memcmp(b, magic, 6) != 0)
        rc = err_set(e, ERR_SYNTAX, "not an NPY file: it must begin with \\x93NUMPY");
    if (rc == ERR_OK && (b[6] < 1 || b[6] > 3 || b[7] != 0))
        rc = err_set(e, ERR_SYNTAX, "NPY version %d.%d is unknown: 1.0, 2.0 or 3.0 are read", b[6], b[7]);
    if (rc == ERR_OK)
        rc = read_bytes(a, len, b[6] == 1 ? 2 : 4, e);
    n = (size_t)len[0] | (size_t)len[1] << 8 | (size_t)len[2] << 16 | (size_t)len[3] << 24;
    if (rc == ERR_OK && n > HEADER_MAX)
        rc = err_set(e, ERR_SYNTAX, "the NPY header has %zu bytes: at most %d", n, (int)HEADER_MAX);
    if (rc == ERR_OK)
        rc = read_bytes(a, text, n, e);
    if (rc != ERR_OK)
        return rc;
    text[n] = '\0';
    rc = parse_header(&h, e);
    if (rc == ERR_OK && (h.at += strspn(h.at, " \n")) != text + n)
        rc = syntax("goes on behind the dictionary", e);
    return rc == ERR_OK ? data_numbers_head(a, kind, h.rank, h.dims, e) : rc;
}

/* ---- one array ---- */

static enum err_code convert_npy(const struct data_upload *u, struct err *e)
{
    return data_numbers_upload(u, NULL, "npy", data_npy_head, e);
}

static bool sniff_npy(const struct data_start *s)
{
    return data_start_has(s, 0, magic);
}

/* ---- several by name ---- */

/* What the words of a member's name say: "x_train.npy", "val_images.npy", "labels.npy". */
struct meaning { int part, split; }; /* -1: nothing */

static bool word_is(const char *const *list, const char *word, size_t n)
{
    while (*list && !(strlen(*list) == n && strncasecmp(*list, word, n) == 0))
        list++;
    return *list != NULL;
}

static struct meaning meaning_of(const char *name)
{
    static const char *const features[] = { "x", "features", "images", "data", NULL }, *const labels[] = { "y", "labels", "targets", NULL };
    struct meaning m = { -1, -1 };
    size_t len = strlen(name);
    int words = 0;

    if (len < 5 || strcmp(name + len - 4, ".npy") != 0)
        return m;
    for (const char *p = name, *end = name + len - 4; p < end; words++) {
        size_t n = strcspn(p, "_.");
        int split = data_split_word(p, n);

        if (split >= 0 && m.split < 0)
            m.split = split;
        else if (m.part < 0)
            m.part = word_is(features, p, n) ? 0 : word_is(labels, p, n) ? 1 : -1;
        p += n + 1;
    }
    return words == (m.part >= 0) + (m.split >= 0) ? m : (struct meaning){ -1, -1 };
}

/* The members to take: those of this split, else those that name none. */
struct npz {
    const struct data_upload *u;
    struct members *in;
    int at[2];      /* number of the member; -1: none */
    bool fits[2];   /* it names the split */
    char names[128]; /* of the first members, for a message */
    struct data_out *out[2];
};

static enum err_code look_at(struct npz *z, const char *name, int number, struct err *e)
{
    struct meaning m = meaning_of(name);
    char quoted[CSV_QUOTE_LEN];
    size_t len = strlen(z->names);

    snprintf(z->names + len, sizeof z->names - len, "%s%s", len ? ", " : "", csv_quote(quoted, name));
    if (m.part < 0 || (m.split >= 0 && m.split != (int)z->u->split) || (m.split < 0 && z->fits[m.part]))
        return ERR_OK;
    if (z->at[m.part] >= 0 && z->fits[m.part] == (m.split >= 0))
        return err_set(e, ERR_INVALID, "two arrays of the NPZ file could be the %s, the second one is %s", data_part_name[m.part], quoted);
    z->at[m.part] = number;
    z->fits[m.part] = m.split >= 0;
    return ERR_OK;
}

static enum err_code choose(struct npz *z, struct err *e)
{
    const char *name = "";
    enum err_code rc = members_open(&z->in, z->u->path, z->u->max_bytes, e);

    for (int i = 0; rc == ERR_OK && name; i++) {
        rc = members_next(z->in, &name, e);
        if (rc == ERR_OK && name && i == NPZ_MAX)
            rc = err_set(e, ERR_TOO_LARGE, "the NPZ file has more than %d members", (int)NPZ_MAX);
        if (rc == ERR_OK && name)
            rc = look_at(z, name, i, e);
    }
    members_close(z->in);
    z->in = NULL;
    for (int i = 0; i < 2 && rc == ERR_OK; i++)
        if (z->at[i] < 0)
            rc = err_set(e, ERR_INVALID, "the NPZ file has no %s of split %s, named as %s_%s.npy or %s.npy; it has %s", data_part_name[i],
                         data_split_name[z->u->split], i ? "y" : "x", data_split_name[z->u->split], i ? "y" : "x", z->names);
    return rc;
}

static enum err_code read_member(void *in, void *buf, size_t n, size_t *got, struct err *e)
{
    return members_read(in, buf, n, got, e);
}

static enum err_code take_member(struct npz *z, int part, const char *name, struct err *e)
{
    struct data_numbers a = { .format = "npz", .read = read_member, .from = z->in };
    struct err why = { 0 };
    char quoted[CSV_QUOTE_LEN];
    enum err_code rc = data_npy_head(&a, part == 1 ? data_label_kind(z->u->conf) : DATA_KIND_FEATURES, &why);

    if (rc == ERR_OK)
        rc = data_numbers_convert(&z->out[part], &a, z->u->to[part], z->u->max_bytes, &why);
    return rc == ERR_OK ? rc : err_set(e, rc, "%s: %s", csv_quote(quoted, name), why.msg);
}

static enum err_code take_members(struct npz *z, struct err *e)
{
    const char *name = "";
    enum err_code rc = members_open(&z->in, z->u->path, z->u->max_bytes, e);

    for (int i = 0; rc == ERR_OK && name; i++) {
        rc = members_next(z->in, &name, e);
        for (int part = 0; part < 2 && rc == ERR_OK && name; part++)
            if (i == z->at[part])
                rc = take_member(z, part, name, e);
    }
    return rc == ERR_OK && !(z->out[0] && z->out[1]) ? err_set(e, ERR_INTERNAL, "the upload changed while it was read") : rc;
}

static enum err_code convert_npz(const struct data_upload *u, struct err *e)
{
    struct npz z = { .u = u, .at = { -1, -1 } };
    enum err_code rc = choose(&z, e);

    if (rc == ERR_OK)
        rc = take_members(&z, e);
    if (rc == ERR_OK)
        rc = data_out_publish_both(z.out, u->to, u->info, e);
    members_close(z.in);
    data_out_free(z.out[0]);
    data_out_free(z.out[1]);
    return rc;
}

/* A zip file whose first member is an array. */
static bool sniff_npz(const struct data_start *s)
{
    size_t n = s->n >= 30 ? (size_t)s->x[26] | (size_t)s->x[27] << 8 : 0;

    return data_start_has(s, 0, "PK\3\4") && n > 4 && data_start_has(s, 30 + n - 4, ".npy");
}

const struct data_format data_format_npy = {
    .plug = { "npy", "NPY, numpy.save's format: features and labels apart; integers or floats of any size, in C order.", NULL, 0 },
    .parts = 1 << DATA_FEATURES | 1 << DATA_LABELS, .sniff = sniff_npy, .convert = convert_npy
};
const struct data_format data_format_npz = {
    .plug = { "npz", "NPZ, numpy.savez's: features x, features, images or data and labels y, labels or targets, alone or as x_train, test_images ...: those of the split are taken.",
              NULL, 0 },
    .parts = 1 << DATA_TABLE, .sniff = sniff_npz, .convert = convert_npz
};
