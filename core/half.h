/* core/half.h: IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits. */
#ifndef CORE_HALF_H
#define CORE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float float_from_bits(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t float_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;

    if (exponent == 0)
        return float_from_bits(sign | 0x3f800000u) * ((float)fraction * 0x1p-24f);
    return float_from_bits(sign | (exponent == 31 ? 255u : exponent + 112) << 23 | fraction << 13);
}

/* The nearest, ties to even; what is too large becomes the largest, 65504. x is finite. */
static inline uint16_t half_of_float(float x)
{
    uint32_t bits = float_bits(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;

    if (size >= 0x477ff000u) /* 65520 would round to infinity */
        return (uint16_t)(sign | 0x7bff);
    if (size < 0x38800000u) { /* below 2^-14: adding 0.5 leaves a multiple of 2^-24 in the low bits */
        uint32_t shifted = float_bits(float_from_bits(size) + 0.5f);

        return (uint16_t)(sign | (shifted - 0x3f000000u));
    }
    size += 0xfff + (size >> 13 & 1);
    return (uint16_t)(sign | ((size >> 13) - (112u << 10)));
}

#endif
