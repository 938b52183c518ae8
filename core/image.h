/* core/image.h: decodes pictures in memory to bytes, channels last: 1 (grey) or 3 (red, green, blue).
 *
 * Palettes become colours, 16 bits are rounded to 8, alpha is dropped. A decoder runs on whatever was uploaded: it allocates nothing before the size was
 * looked at, and nothing stays when it fails. */
#ifndef CORE_IMAGE_H
#define CORE_IMAGE_H

#include "core/err.h"

enum { IMAGE_SIDE_MAX = 16384 };
struct image_info { int width, height, channels; }; /* channels of the file: 1 or 3 */

struct image_codec {
    const char *magic;     /* the first bytes */
    MUST enum err_code (*info)(struct image_info *out, const unsigned char *data, size_t n, struct err *e);
    /* To height * width * channels bytes: channels is the file's, or 3, then grey becomes a colour. */
    MUST enum err_code (*decode)(unsigned char *to, const struct image_info *as, const unsigned char *data, size_t n, struct err *e);
};
/* The one whose magic this is; NULL: none. */
const struct image_codec *image_codec_of(const unsigned char *data, size_t n);
extern const struct image_codec image_png, image_jpeg;

#endif
