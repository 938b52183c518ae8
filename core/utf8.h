/* core/utf8.h: what is UTF-8 (RFC 3629), for everybody who takes text from outside. */
#ifndef CORE_UTF8_H
#define CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the character at s, 1 to 4; 0: none is well-formed there (overlong, surrogate, above U+10FFFF, cut short). Never reads past a NUL,
 * which is itself a character of one byte. */
size_t utf8_len(const char *s);
bool utf8_valid(const char *s); /* up to its NUL */

#endif
