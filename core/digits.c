/* core/digits.c: see digits.h. */
#include "core/digits.h"

#include <string.h>

size_t digits(char text[DIGITS_LEN], int64_t v)
{
    uint64_t left = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    char buf[DIGITS_LEN];
    size_t at = sizeof buf;

    do
        buf[--at] = (char)('0' + left % 10);
    while (left /= 10);
    if (v < 0)
        buf[--at] = '-';
    memcpy(text, buf + at, sizeof buf - at);
    text[sizeof buf - at] = '\0';
    return sizeof buf - at;
}
