/* core/data_format.c: the table of upload formats, and which of them an upload is: the one that the data set names, else told by the first
 * bytes; what no row knows is taken for the part's plain one, whose reader says what is wrong. To add a format: its reader, its row. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/data_impl.h"
#include "core/mem.h"

/* Asked in this order. */
static const struct plug *const rows[] = {
    &data_format_idx.plug, &data_format_npy.plug, &data_format_npz.plug, &data_format_cifar10.plug, &data_format_cifar100.plug,
    &data_format_images.plug, &data_format_csv.plug, NULL
};
const struct plug_table data_format_table = { "format", rows };

enum { START_LEN = 65536 };
static const struct data_format *const plain[DATA_PARTS] = { &data_format_idx, &data_format_idx, &data_format_csv };

static const struct data_format *format_of(const struct plug *p)
{
    return (const struct data_format *)(const void *)p;
}

bool data_start_has(const struct data_start *start, size_t at, const char *text)
{
    size_t n = strlen(text);

    return start->n >= at + n && memcmp(start->x + at, text, n) == 0;
}

int data_split_word(const char *word, size_t n)
{
    static const struct { const char *word; enum data_split_id split; } words[] = {
        { "train", DATA_TRAIN }, { "validation", DATA_VALIDATION }, { "val", DATA_VALIDATION }, { "valid", DATA_VALIDATION }, { "test", DATA_TEST },
    };

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strlen(words[i].word) == n && strncasecmp(words[i].word, word, n) == 0)
            return words[i].split;
    return -1;
}

enum data_kind data_label_kind(const struct data_conf *conf)
{
    return conf->task == DATA_CLASSIFICATION ? DATA_KIND_CLASSES : DATA_KIND_TARGETS;
}

bool data_start_is_archive(const struct data_start *start)
{
    return data_start_has(start, 257, "ustar") || data_start_has(start, 0, "PK\3\4");
}

enum err_code data_start_read(struct data_start *s, unsigned char *buf, size_t n, const char *path, struct err *e)
{
    struct input *in = NULL;
    enum err_code rc = input_open(&in, path, 0, e);

    *s = (struct data_start){ .x = buf };
    if (rc == ERR_OK) {
        s->size = input_size(in);
        rc = input_read(in, buf, n, &s->n, e);
        if (s->n < n)
            s->size = s->n;
    }
    input_close(in);
    return rc;
}

/* The row that knows these first bytes, of those for the part if there is one. */
static const struct data_format *sniffed(const struct data_start *s, enum data_part part)
{
    const struct data_format *other = NULL;

    for (const struct plug *const *p = rows; *p; p++) {
        const struct data_format *f = format_of(*p);

        if (!f->sniff || !f->sniff(s))
            continue;
        if (f->parts >> part & 1)
            return f;
        other = other ? other : f;
    }
    return part == DATA_TABLE && other == &data_format_idx ? NULL : other; /* two zero bytes prove little */
}

static enum err_code find_format(const struct data_format **out, const struct data_upload *u, struct err *e)
{
    unsigned char *buf = mem_alloc(START_LEN);
    struct data_start s;
    enum err_code rc = buf ? data_start_read(&s, buf, START_LEN, u->path, e) : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK)
        *out = sniffed(&s, u->part);
    mem_free(buf);
    return rc;
}

static enum err_code check_part(const struct data_format *f, enum data_part part, struct err *e)
{
    char parts[40] = "";
    size_t at = 0;

    if (f->parts >> part & 1)
        return ERR_OK;
    for (int i = 0; i < DATA_PARTS; i++)
        if (f->parts >> i & 1)
            at += (size_t)snprintf(parts + at, sizeof parts - at, "%s%s", at ? " or " : "", data_part_name[i]);
    return err_set(e, ERR_INVALID, "a file of format %s goes to %s, not to %s", f->plug.name, parts, data_part_name[part]);
}

enum err_code data_convert(const char *upload_path, bool scratch, enum data_split_id split, enum data_part part, const struct data_conf *conf,
                           const char *features_path, const char *labels_path, struct data_file_info *features,
                           struct data_file_info *labels, uint64_t max_bytes, struct err *e)
{
    struct data_upload u = { upload_path, scratch, split, part, conf, { features_path, labels_path }, { features, labels }, max_bytes };
    const struct data_format *format = format_of(conf->format.plug);
    enum err_code rc = format ? ERR_OK : find_format(&format, &u, e);

    format = format ? format : plain[part];
    if (rc == ERR_OK)
        rc = check_part(format, part, e);
    if (rc == ERR_OK && format->images && conf->channels == DATA_CHANNELS_FIRST)
        rc = err_set(e, ERR_INVALID, "files of format %s become images (height, width, channels), but the data set says that its channels are first",
                     format->plug.name);
    return rc == ERR_OK ? format->convert(&u, e) : rc;
}
