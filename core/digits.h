/* core/digits.h: whole numbers as text, for where there are many a second. OpenBLAS brings libquadmath along, which hooks into printf: every printf of the
 * process then takes glibc's slow path. */
#ifndef CORE_DIGITS_H
#define CORE_DIGITS_H

#include <stddef.h>
#include <stdint.h>

enum { DIGITS_LEN = 21 }; /* of any int64_t, with its sign and a NUL */
size_t digits(char text[DIGITS_LEN], int64_t v); /* its length */

#endif
