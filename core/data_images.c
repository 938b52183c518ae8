/* core/data_images.c: pictures in folders, in a zip or tar archive: the folder that a picture lies in is its class, the classes are numbered by their
 * names' bytes, as Keras and PyTorch do it. Pictures (PNG, JPEG) of one size become samples (height, width, channels) in the order of the archive: 3
 * channels when one of the archive has colour, else 1. Where folders further up are named train, validation (val, valid) or test, those of the
 * upload's split are taken. Other files are passed over, but for pictures in a format that is not read.
 *
 * The archive is read twice: the first pass looks at every picture's head, so that size, count and classes are known before anything is decoded. */
#include <string.h>
#include <strings.h>

#include "core/data_impl.h"
#include "core/image.h"
#include "core/mem.h"
#include "core/utf8.h"

enum { FILE_MAX = 64 << 20 /* bytes of one picture */ };

struct run {
    const struct data_upload *u;
    struct members *in;
    struct class_names names;
    struct image_info size;    /* of all; width 0: not known yet */
    char first[CSV_QUOTE_LEN]; /* the picture that said so */
    uint64_t n;                /* of the split */
    bool writing;              /* the second pass */
    unsigned char *file;       /* the picture at hand */
    size_t len, cap;
    struct data_writer out;
};

/* ---- names ---- */

const struct image_codec *image_codec_of(const unsigned char *data, size_t n)
{
    static const struct image_codec *const codecs[] = { &image_png, &image_jpeg };

    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++)
        if (n >= strlen(codecs[i]->magic) && memcmp(data, codecs[i]->magic, strlen(codecs[i]->magic)) == 0)
            return codecs[i];
    return NULL;
}

/* Whether the file is a picture by its name; other: in a format that is not read. */
static bool is_picture(const char *name, bool *other)
{
    static const struct { const char *end; bool read; } ends[] = {
        { ".png", true },  { ".jpg", true },   { ".jpeg", true },  { ".gif", false }, { ".bmp", false },
        { ".tif", false }, { ".tiff", false }, { ".webp", false }, { ".ppm", false }, { ".pgm", false },
    };
    const char *slash = strrchr(name, '/'), *dot = strrchr(name, '.');

    if (!dot || (slash && dot < slash) || (slash ? slash[1] : name[0]) == '.')
        return false;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (strcasecmp(dot, ends[i].end) == 0) {
            *other = !ends[i].read;
            return true;
        }
    return false;
}

/* The folder that the file lies in, to buf of CLASS_NAME_MAX + 1; *ours: not another split's. */
static enum err_code class_of(char *buf, bool *ours, const char *name, enum data_split_id split, struct err *e)
{
    const char *slash = strrchr(name, '/'), *from = name;
    size_t n;

    *ours = true;
    for (const char *p = strchr(name, '/'); p && p < slash; from = p + 1, p = strchr(p + 1, '/')) {
        int word = data_split_word(from, (size_t)(p - from));

        *ours = *ours && (word < 0 || word == (int)split);
    }
    n = slash ? (size_t)(slash - from) : 0;
    if (n == 0 || (n == 1 && *from == '.'))
        return err_set(e, ERR_INVALID, "lies in no folder: the folder is the class");
    if (n > CLASS_NAME_MAX)
        return err_set(e, ERR_INVALID, "the folder's name has more than %d bytes", (int)CLASS_NAME_MAX);
    memcpy(buf, from, n);
    buf[n] = '\0';
    return utf8_valid(buf) ? ERR_OK : err_set(e, ERR_INVALID, "the folder's name is not UTF-8");
}

/* ---- files ---- */

static enum err_code grow(struct run *r, struct err *e)
{
    size_t cap = r->cap ? 2 * r->cap : 65536;
    unsigned char *more = mem_realloc(r->file, cap);

    if (!more)
        return err_set(e, ERR_NOMEM, "out of memory");
    r->file = more;
    r->cap = cap;
    return ERR_OK;
}

/* The member to r->file. */
static enum err_code read_file(struct run *r, struct err *e)
{
    size_t got = 1;

    for (r->len = 0; got > 0; r->len += got) {
        enum err_code rc = r->len < r->cap ? ERR_OK : grow(r, e);

        if (rc == ERR_OK)
            rc = members_read(r->in, r->file + r->len, r->cap - r->len, &got, e);
        if (rc != ERR_OK)
            return rc;
        if (r->len + got > FILE_MAX)
            return err_set(e, ERR_TOO_LARGE, "has more than %d bytes", (int)FILE_MAX);
    }
    return ERR_OK;
}

/* Called for each picture, read to r->file; class is NULL for one of another split, which only the first pass looks at. What is wrong is said of the file. */
typedef enum err_code take_fn(struct run *r, const char *name, const char *class, struct err *e);

static enum err_code take_picture(struct run *r, const char *name, bool other, take_fn *take, struct err *e)
{
    char class[CLASS_NAME_MAX + 1];
    bool ours = true;
    enum err_code rc = class_of(class, &ours, name, r->u->split, e);

    if (rc != ERR_OK || (!ours && r->writing))
        return rc;
    if (other)
        return err_set(e, ERR_INVALID, "is a picture, but neither PNG nor JPEG");
    rc = read_file(r, e);
    return rc == ERR_OK ? take(r, name, ours ? class : NULL, e) : rc;
}

static enum err_code each_picture(struct run *r, take_fn *take, struct err *e)
{
    const char *name = "";
    char quoted[CSV_QUOTE_LEN];
    enum err_code rc = ERR_OK;

    while (rc == ERR_OK && name) {
        struct err why = { 0 };
        bool other;

        rc = members_next(r->in, &name, e);
        if (rc != ERR_OK || !name || !is_picture(name, &other))
            continue;
        rc = take_picture(r, name, other, take, &why);
        if (rc != ERR_OK)
            err_set(e, rc, "%s: %s", csv_quote(quoted, name), why.msg);
    }
    return rc;
}

/* ---- the first pass ---- */

static enum err_code check_size(struct run *r, const char *name, const struct image_info *is, struct err *e)
{
    if (r->size.width == 0) {
        r->size = *is;
        csv_quote(r->first, name);
    }
    if (is->width != r->size.width || is->height != r->size.height)
        return err_set(e, ERR_INVALID, "is %d pixels wide and %d high, but %s %d and %d: all must be of one size", is->width, is->height, r->first,
                       r->size.width, r->size.height);
    if ((int64_t)is->width * is->height * 3 > DATA_MAX_FEATURES)
        return err_set(e, ERR_TOO_LARGE, "is %d pixels wide and %d high: too large", is->width, is->height);
    if (is->channels > r->size.channels)
        r->size.channels = is->channels;
    return ERR_OK;
}

static enum err_code look_at(struct run *r, const char *name, const char *class, struct err *e)
{
    const struct image_codec *codec = image_codec_of(r->file, r->len);
    struct image_info is;
    int at;
    enum err_code rc = codec ? codec->info(&is, r->file, r->len, e) : err_set(e, ERR_SYNTAX, "is neither PNG nor JPEG");

    if (rc == ERR_OK)
        rc = check_size(r, name, &is, e);
    if (rc != ERR_OK || !class)
        return rc;
    if (!class_names_find(&r->names, class, &at))
        rc = r->names.n < DATA_MAX_CLASSES ? class_names_add(&r->names, json_string(class), at, e)
                                           : err_set(e, ERR_TOO_LARGE, "would be of class %d", (int)DATA_MAX_CLASSES + 1);
    if (rc != ERR_OK)
        return rc;
    r->names.at[at].count++;
    r->n++;
    return ERR_OK;
}

/* ---- the second pass ---- */

static enum err_code decode(struct run *r, const char *name, const char *class, struct err *e)
{
    const struct image_codec *codec = image_codec_of(r->file, r->len);
    int at;
    enum err_code rc;

    (void)name;
    if (!codec || !class_names_find(&r->names, class, &at))
        return err_set(e, ERR_INTERNAL, "the upload changed while it was read");
    rc = codec->decode(data_writer_at(&r->out, 0), &r->size, r->file, r->len, e);
    *(int32_t *)data_writer_at(&r->out, 1) = r->names.at[at].number;
    return rc == ERR_OK ? data_writer_next(&r->out, e) : rc;
}

static enum err_code write_all(struct run *r, json_t *const notes[2], struct err *e)
{
    const struct data_head head[2] = {
        { .kind = DATA_KIND_FEATURES, .dtype = DATA_U8, .shape = { 3, { r->size.height, r->size.width, r->size.channels } }, .n = r->n },
        { .kind = DATA_KIND_CLASSES, .dtype = DATA_I32, .n = r->n }
    };
    enum err_code rc = data_writer_open(&r->out, r->u, head, e);

    r->writing = true;
    if (rc == ERR_OK)
        rc = members_rewind(r->in, e);
    if (rc == ERR_OK)
        rc = each_picture(r, decode, e);
    return rc == ERR_OK ? data_writer_publish(&r->out, notes, e) : rc;
}

static enum err_code convert_all(struct run *r, struct err *e)
{
    json_t *notes[2];
    enum err_code rc = members_open(&r->in, r->u->path, r->u->max_bytes, e);

    if (rc == ERR_OK)
        rc = each_picture(r, look_at, e);
    if (rc == ERR_OK && r->n == 0)
        rc = err_set(e, ERR_INVALID, "the archive has no PNG or JPEG pictures of split %s", data_split_name[r->u->split]);
    if (rc != ERR_OK)
        return rc;
    notes[0] = json_pack("{s:s}", "format", "images");
    notes[1] = class_names_notes(&r->names, "images", false);
    rc = write_all(r, notes, e);
    json_decref(notes[0]);
    json_decref(notes[1]);
    return rc;
}

static enum err_code convert(const struct data_upload *u, struct err *e)
{
    struct run r = { .u = u };
    enum err_code rc = u->conf->task == DATA_CLASSIFICATION ? convert_all(&r, e)
                                          : err_set(e, ERR_INVALID, "pictures in folders have classes: task must be classification");

    members_close(r.in);
    data_writer_free(&r.out);
    class_names_free(&r.names);
    mem_free(r.file);
    return rc;
}

const struct data_format data_format_images = {
    .plug = { "images", "PNG and JPEG pictures of one size in a .zip, .tar or .tar.gz; the folder that a picture lies in is its class.", NULL, 0 },
    .parts = 1 << DATA_TABLE, .images = true, .sniff = data_start_is_archive, .convert = convert
};
