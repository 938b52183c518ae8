/* core/digits.c: see digits.h. */
#include "core/digits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
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

size_t digits_real(char text[DIGITS_REAL_LEN], double x)
{
    int n = 0;

    for (int precision = 15; precision <= 17; precision++) {
        n = snprintf(text, DIGITS_REAL_LEN, "%.*g", precision, x);
        if (strtod(text, NULL) == x)
            break;
    }
    return (size_t)n;
}

double digits_of_float(float x)
{
    char text[DIGITS_REAL_LEN];

    for (int precision = 6; isfinite(x) && precision <= 9; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, (double)x);
        if (strtof(text, NULL) == x)
            return strtod(text, NULL);
    }
    return (double)x;
}
