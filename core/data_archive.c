/* core/data_archive.c: the files in a zip or tar archive, one after the other, with libarchive. Nothing is unpacked to disk: names are texts for the
 * caller to look at, links and devices are passed over.
 *
 * A zip file is mapped, since its directory is at its end; of a tar file the bytes come through struct input, which unpacks gzip. What comes out
 * is limited as there, of the upload's size (a sparse tar file packs well, too). libarchive keeps the whole directory of a zip file in memory, so that
 * its entries are counted first, once. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <string.h>

#include "core/data_impl.h"
#include "core/mem.h"

enum { BLOCK = 65536, ZIP_ENTRIES = 1 << 21 };

struct members {
    const char *path;
    struct archive *archive;
    struct file_map map;  /* of a zip file, else empty */
    struct input *input;  /* of a tar file */
    struct err why;       /* why input failed */
    uint64_t size, given, max_bytes; /* size: of the upload */
    locale_t names;       /* libarchive converts names to the locale's charset: UTF-8 */
    unsigned char block[BLOCK];
};

/* ---- the way in ---- */

static la_ssize_t read_block(struct archive *a, void *user, const void **block)
{
    struct members *m = user;
    size_t got;

    if (input_read(m->input, m->block, BLOCK, &got, &m->why) != ERR_OK) {
        archive_set_error(a, EIO, "cannot be read");
        return ARCHIVE_FATAL;
    }
    *block = m->block;
    return (la_ssize_t)got;
}

static enum err_code broken(const struct members *m, struct err *e)
{
    const char *text = archive_error_string(m->archive);
    char quoted[CSV_QUOTE_LEN];

    if (m->why.code != ERR_OK)
        return err_set(e, m->why.code, "%s", m->why.msg);
    if (archive_errno(m->archive) == ENOMEM)
        return err_set(e, ERR_NOMEM, "out of memory");
    return err_set(e, ERR_SYNTAX, "the archive cannot be read: %s", csv_quote(quoted, text ? text : "it is broken"));
}

/* At most: the signature of an entry may also stand in a file. */
static size_t count_entries(const struct file_map *m)
{
    const unsigned char *p = m->data, *end = m->data + m->len;
    size_t n = 0;

    while ((p = memmem(p, (size_t)(end - p), "PK\1\2", 4)) != NULL) {
        p += 4;
        n++;
    }
    return n;
}

static enum err_code open_zip(struct members *m, struct err *e)
{
    if (archive_read_support_format_zip_seekable(m->archive) != ARCHIVE_OK ||
        archive_read_open_memory(m->archive, m->map.data, m->map.len) != ARCHIVE_OK)
        return broken(m, e);
    return ERR_OK;
}

static enum err_code open_tar(struct members *m, struct err *e)
{
    enum err_code rc = input_open(&m->input, m->path, m->max_bytes, e);

    if (rc != ERR_OK)
        return rc;
    if (archive_read_support_format_tar(m->archive) != ARCHIVE_OK || archive_read_open(m->archive, m, NULL, read_block, NULL) != ARCHIVE_OK)
        return broken(m, e);
    return ERR_OK;
}

enum err_code members_rewind(struct members *m, struct err *e)
{
    archive_read_free(m->archive);
    input_close(m->input);
    m->input = NULL;
    m->given = 0;
    m->why = (struct err){ 0 };
    m->archive = archive_read_new();
    if (!m->archive)
        return err_set(e, ERR_NOMEM, "out of memory");
    return m->map.data ? open_zip(m, e) : open_tar(m, e);
}

/* What the first bytes say it is; the file stays mapped where it is a zip file. */
static enum err_code look(struct members *m, struct err *e)
{
    enum err_code rc = file_map_open(&m->map, m->path, e);

    m->size = m->map.len;
    if (rc == ERR_OK && (m->size < 4 || memcmp(m->map.data, "PK", 2) != 0))
        file_map_close(&m->map);
    else if (rc == ERR_OK && count_entries(&m->map) > ZIP_ENTRIES)
        rc = err_set(e, ERR_TOO_LARGE, "the zip file has more than %d members", (int)ZIP_ENTRIES);
    return rc;
}

enum err_code members_open(struct members **out, const char *path, uint64_t max_bytes, struct err *e)
{
    struct members *m = mem_zalloc(1, sizeof *m);
    enum err_code rc;

    if (!m)
        return err_set(e, ERR_NOMEM, "out of memory");
    m->path = path;
    m->max_bytes = max_bytes ? max_bytes : UINT64_MAX;
    m->names = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0); /* without it names stay bytes */
    rc = look(m, e);
    if (rc == ERR_OK)
        rc = members_rewind(m, e);
    if (rc == ERR_OK)
        *out = m;
    else
        members_close(m);
    return rc;
}

void members_close(struct members *m)
{
    if (!m)
        return;
    archive_read_free(m->archive);
    input_close(m->input);
    file_map_close(&m->map);
    if (m->names)
        freelocale(m->names);
    mem_free(m);
}

/* ---- members ---- */

/* A tar file ends with two blocks of zeros (POSIX ustar; one will do): where a header would begin there is more. One that was cut between two members
 * has none, and would pass for a smaller archive. */
static bool ends_early(const struct members *m)
{
    return m->input && (uint64_t)archive_read_header_position(m->archive) >= input_offset(m->input);
}

static enum err_code next(struct members *m, const char **name, struct err *e)
{
    struct archive_entry *entry;

    for (;;) {
        int r = archive_read_next_header(m->archive, &entry);

        *name = NULL;
        if (r == ARCHIVE_EOF)
            return ends_early(m) ? err_set(e, ERR_SYNTAX, "the tar file has no end: it was cut behind a member") : ERR_OK;
        if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
            return broken(m, e);
        if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry))
            continue;
        *name = archive_entry_pathname(entry);
        return *name ? ERR_OK : err_set(e, ERR_SYNTAX, "the archive has a member whose name is no text");
    }
}

enum err_code members_next(struct members *m, const char **name, struct err *e)
{
    locale_t before = m->names ? uselocale(m->names) : (locale_t)0;
    enum err_code rc = next(m, name, e);

    if (m->names)
        uselocale(before);
    return rc;
}

enum err_code members_read(struct members *m, void *buf, size_t n, size_t *got, struct err *e)
{
    enum err_code rc = ERR_OK;

    *got = 0;
    while (*got < n && rc == ERR_OK) {
        la_ssize_t k = archive_read_data(m->archive, (char *)buf + *got, n - *got);

        if (k < 0)
            return broken(m, e);
        if (k == 0)
            break;
        *got += (size_t)k;
        m->given += (size_t)k;
        rc = input_check(m->given, m->size, m->max_bytes, "archive", e);
    }
    return rc;
}
