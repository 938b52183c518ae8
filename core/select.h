/* core/select.h: which units go, by their keys alone.
 *
 * Scores become integers of the same order (order.h), and what is known without scores becomes a key below or above them all: so finding
 * the smallest that make up a given amount is counting digits: no sort, no comparison of floats, ties exact, by lower position first. */
#ifndef CORE_SELECT_H
#define CORE_SELECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/order.h"

enum { KEY_GOES = 0, KEY_DEAD = 1 }; /* goes whatever the amount (it is masked, or a lower bound asks for it); is zero already: goes first */
#define KEY_STAYS UINT32_MAX

/* n units with their keys. Unit i amounts to size[i] * each (size NULL: to each). */
struct span {
    uint32_t *key;
    size_t n;
    const uint32_t *size;
    uint64_t each;
};
/* The smallest of all spans together, in order, whose amounts come nearest to `amount` (half a unit too much rather than half too little), become
 * KEY_GOES, the others KEY_STAYS. Units with these keys already keep them. */
void select_smallest(const struct span *s, int n_spans, uint64_t amount);
/* All but the smallest that amount to no more than `amount` become KEY_STAYS. */
void select_protect(const struct span *s, uint64_t amount);
/* The smallest that come nearest to `amount` become KEY_GOES; the others keep their keys. */
void select_force(const struct span *s, uint64_t amount);
/* All but the n smallest of a few keys become KEY_STAYS. */
void select_protect_few(uint32_t *key, size_t n_keys, size_t n);

#endif
