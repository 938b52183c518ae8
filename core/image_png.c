/* core/image_png.c: PNG, with libpng. Its errors jump back to where setjmp stands: what must survive the jump is in struct png, and the functions
 * below setjmp hold nothing themselves. A warning is none: libpng has then set right what was wrong. */
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include "core/image.h"
#include "core/mem.h"

struct png {
    const unsigned char *data;
    size_t left;
    png_structp png;
    png_infop info;
    png_bytep *row;
    char why[80];
    bool no_memory;
};

static void on_error(png_structp png, png_const_charp text)
{
    struct png *p = png_get_error_ptr(png);

    snprintf(p->why, sizeof p->why, "%s", text);
    longjmp(*png_set_longjmp_fn(png, longjmp, sizeof(jmp_buf)), 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static png_voidp take_memory(png_structp png, png_alloc_size_t n)
{
    void *x = mem_alloc(n);

    if (!x)
        ((struct png *)png_get_mem_ptr(png))->no_memory = true;
    return x;
}

static void give_memory(png_structp png, png_voidp x)
{
    (void)png;
    mem_free(x);
}

static void read_bytes(png_structp png, png_bytep to, size_t n)
{
    struct png *p = png_get_io_ptr(png);

    if (n > p->left)
        png_error(png, "it ends too early");
    memcpy(to, p->data, n);
    p->data += n;
    p->left -= n;
}

static enum err_code failed(const struct png *p, struct err *e)
{
    return p->no_memory ? err_set(e, ERR_NOMEM, "out of memory") : err_set(e, ERR_SYNTAX, "broken PNG: %s", p->why);
}

static enum err_code begin(struct png *p, struct err *e)
{
    p->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, p, on_error, on_warning, p, take_memory, give_memory);
    p->info = p->png ? png_create_info_struct(p->png) : NULL;
    return p->info ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

static void end(struct png *p)
{
    png_destroy_read_struct(&p->png, &p->info, NULL);
    mem_free(p->row);
}

/* Jumps on error. */
static void read_head(struct png *p, struct image_info *out)
{
    int colour;

    png_set_read_fn(p->png, p, read_bytes);
    png_set_user_limits(p->png, IMAGE_SIDE_MAX, IMAGE_SIDE_MAX);
    png_set_chunk_cache_max(p->png, 16);
    png_set_chunk_malloc_max(p->png, 1 << 20);
    png_read_info(p->png, p->info);
    colour = png_get_color_type(p->png, p->info);
    *out = (struct image_info){ (int)png_get_image_width(p->png, p->info), (int)png_get_image_height(p->png, p->info),
                                colour == PNG_COLOR_TYPE_GRAY || colour == PNG_COLOR_TYPE_GRAY_ALPHA ? 1 : 3 };
}

static void read_rows(struct png *p, const struct image_info *as)
{
    int colour = png_get_color_type(p->png, p->info);

    png_set_scale_16(p->png);
    if (colour == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(p->png);
    else if (colour == PNG_COLOR_TYPE_GRAY)
        png_set_expand_gray_1_2_4_to_8(p->png);
    png_set_strip_alpha(p->png);
    if (as->channels == 3)
        png_set_gray_to_rgb(p->png); /* does nothing to colours */
    png_set_interlace_handling(p->png);
    png_read_update_info(p->png, p->info);
    if (png_get_rowbytes(p->png, p->info) != (size_t)as->width * (size_t)as->channels)
        png_error(p->png, "its rows are of another length");
    png_read_image(p->png, p->row);
    png_read_end(p->png, NULL);
}

static enum err_code info(struct image_info *out, const unsigned char *data, size_t n, struct err *e)
{
    struct png p = { .data = data, .left = n };
    enum err_code rc = begin(&p, e);

    if (rc == ERR_OK && setjmp(png_jmpbuf(p.png)) != 0)
        rc = failed(&p, e);
    else if (rc == ERR_OK)
        read_head(&p, out);
    end(&p);
    return rc;
}

static enum err_code decode(unsigned char *to, const struct image_info *as, const unsigned char *data, size_t n, struct err *e)
{
    struct png p = { .data = data, .left = n };
    struct image_info is = { 0, 0, 0 };
    enum err_code rc = begin(&p, e);

    p.row = mem_alloc((size_t)as->height * sizeof(png_bytep));
    if (!p.row)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    for (int i = 0; i < as->height && p.row; i++)
        p.row[i] = to + (size_t)i * (size_t)as->width * (size_t)as->channels;
    if (rc == ERR_OK && setjmp(png_jmpbuf(p.png)) != 0) {
        rc = failed(&p, e);
    } else if (rc == ERR_OK) {
        read_head(&p, &is);
        if (is.width != as->width || is.height != as->height || is.channels > as->channels)
            png_error(p.png, "it is of another size");
        read_rows(&p, as);
    }
    end(&p);
    return rc;
}

const struct image_codec image_png = { "\x89PNG\r\n\x1a\n", info, decode };
