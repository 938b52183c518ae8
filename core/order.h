/* core/order.h: floats as integers of the same order, for selection and sorting by digits: exact, and without a comparison function. */
#ifndef CORE_ORDER_H
#define CORE_ORDER_H

#include <stdint.h>
#include <string.h>

/* a < b exactly when order_key(a) < order_key(b), for finite a and b; -0 and +0 are equal. Between ORDER_KEY_MIN and ORDER_KEY_MAX. */
static inline uint32_t order_key(float x)
{
    uint32_t u;

    x += 0.0f; /* -0 becomes +0 */
    memcpy(&u, &x, sizeof u);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}
#define ORDER_KEY_MIN 0x00800000u
#define ORDER_KEY_MAX 0xff7fffffu

#endif
