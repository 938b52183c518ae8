/* core/utf8.c: the well-formed byte sequences of the Unicode standard (table 3-7), one row each: the range of the first byte, that of the second, the
 * length; third and fourth bytes are 80..bf. */
#include "core/utf8.h"

size_t utf8_len(const char *text)
{
    static const struct { unsigned char low, high, second_low, second_high, n; } row[] = {
        { 0x00, 0x7f, 0, 0, 1 },       { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
        { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };
    const unsigned char *s = (const unsigned char *)text;

    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        if (s[0] < row[i].low || s[0] > row[i].high)
            continue;
        if (row[i].n > 1 && (s[1] < row[i].second_low || s[1] > row[i].second_high))
            return 0;
        for (size_t k = 2; k < row[i].n; k++)
            if ((s[k] & 0xc0) != 0x80)
                return 0;
        return row[i].n;
    }
    return 0;
}

bool utf8_valid(const char *s)
{
    size_t n = 1;

    for (; *s && n > 0; s += n)
        n = utf8_len(s);
    return n > 0;
}
