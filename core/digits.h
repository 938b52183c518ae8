/* core/digits.h: numbers as text: whole ones for where there are many a second (OpenBLAS brings libquadmath along, which hooks into printf: every printf
 * of the process then takes glibc's slow path), real ones as short as they can be without loss. */
#ifndef CORE_DIGITS_H
#define CORE_DIGITS_H

#include <stddef.h>
#include <stdint.h>

enum { DIGITS_LEN = 21 }; /* of any int64_t, with its sign and a NUL */
size_t digits(char text[DIGITS_LEN], int64_t v); /* its length */

/* The shortest text that reads back as this double, as printf's %g writes it; its length. x is finite. */
enum { DIGITS_REAL_LEN = 32 };
size_t digits_real(char text[DIGITS_REAL_LEN], double x);
/* The double with the shortest text among those that round to this float: where it is printed as above, 0.1f is 0.1, not 0.10000000149011612. */
double digits_of_float(float x);

#endif
