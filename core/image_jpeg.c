/* core/image_jpeg.c: JPEG, with libjpeg-turbo. Its errors jump back to where setjmp stands, as in image_png.c. Of its warnings those that say that
 * part of the picture is missing are errors. A progressive file of some kilobytes may have thousands of scans over the whole picture: SCANS are
 * enough for any encoder. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "core/image.h"

enum { SCANS = 100 };

struct jpeg {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr error;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    char why[JMSG_LENGTH_MAX];
};

static void on_error(j_common_ptr d)
{
    struct jpeg *j = d->client_data;

    d->err->format_message(d, j->why);
    longjmp(j->back, 1);
}

static void on_message(j_common_ptr d, int level)
{
    int code = d->err->msg_code;

    if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE || code == JWRN_ARITH_BAD_CODE ||
                      code == JWRN_MUST_RESYNC))
        on_error(d);
}

static void on_progress(j_common_ptr d)
{
    struct jpeg *j = d->client_data;

    if (d->is_decompressor && ((j_decompress_ptr)d)->input_scan_number > SCANS) {
        snprintf(j->why, sizeof j->why, "it has more than %d scans", (int)SCANS);
        longjmp(j->back, 1);
    }
}

static void begin(struct jpeg *j)
{
    memset(j, 0, sizeof *j);
    j->d.err = jpeg_std_error(&j->error);
    j->error.error_exit = on_error;
    j->error.emit_message = on_message;
    j->d.client_data = j;
}

/* Jumps on error; false: a form that is not read. */
static bool read_head(struct jpeg *j, struct image_info *out, const unsigned char *data, size_t n)
{
    jpeg_create_decompress(&j->d);
    j->d.client_data = j;
    j->progress.progress_monitor = on_progress;
    j->d.progress = &j->progress;
    jpeg_mem_src(&j->d, data, n);
    jpeg_read_header(&j->d, TRUE);
    *out = (struct image_info){ (int)j->d.image_width, (int)j->d.image_height, j->d.num_components == 1 ? 1 : 3 };
    return j->d.num_components == 1 || j->d.num_components == 3;
}

static void read_rows(struct jpeg *j, unsigned char *to, const struct image_info *as)
{
    size_t width = (size_t)as->width * (size_t)as->channels;

    j->d.out_color_space = as->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_start_decompress(&j->d);
    while (j->d.output_scanline < j->d.output_height) {
        JSAMPROW row = to + j->d.output_scanline * width;

        jpeg_read_scanlines(&j->d, &row, 1);
    }
    jpeg_finish_decompress(&j->d);
}

static enum err_code failed(const struct jpeg *j, struct err *e)
{
    return j->error.msg_code == JERR_OUT_OF_MEMORY ? err_set(e, ERR_NOMEM, "out of memory") : err_set(e, ERR_SYNTAX, "broken JPEG: %.80s", j->why);
}

static enum err_code four_channels(struct err *e)
{
    return err_set(e, ERR_INVALID, "a JPEG of four channels (CMYK): only grey and colour are read");
}

static enum err_code info_of(struct jpeg *j, struct image_info *out, const unsigned char *data, size_t n, struct err *e)
{
    if (setjmp(j->back) != 0)
        return failed(j, e);
    return read_head(j, out, data, n) ? ERR_OK : four_channels(e);
}

static enum err_code info(struct image_info *out, const unsigned char *data, size_t n, struct err *e)
{
    struct jpeg j;
    enum err_code rc;

    begin(&j);
    rc = info_of(&j, out, data, n, e);
    jpeg_destroy_decompress(&j.d);
    return rc;
}

static enum err_code rows_of(struct jpeg *j, unsigned char *to, const struct image_info *as, const unsigned char *data, size_t n, struct err *e)
{
    struct image_info is;

    if (setjmp(j->back) != 0)
        return failed(j, e);
    if (!read_head(j, &is, data, n))
        return four_channels(e);
    if (is.width != as->width || is.height != as->height || is.channels > as->channels)
        return err_set(e, ERR_SYNTAX, "broken JPEG: it is of another size");
    read_rows(j, to, as);
    return ERR_OK;
}

static enum err_code decode(unsigned char *to, const struct image_info *as, const unsigned char *data, size_t n, struct err *e)
{
    struct jpeg j;
    enum err_code rc;

    begin(&j);
    rc = rows_of(&j, to, as, data, n, e);
    jpeg_destroy_decompress(&j.d);
    return rc;
}

const struct image_codec image_jpeg = { "\xff\xd8\xff", info, decode };
