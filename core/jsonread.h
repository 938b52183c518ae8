/* core/jsonread.h: members of objects and arrays of numbers, read in place out of a JSON text that may be large (jsonscan.h). */
#ifndef CORE_JSONREAD_H
#define CORE_JSONREAD_H

#include "core/jsonscan.h"
#include "core/tensor.h"

/* Called for each member, with s at its value; must pass the value. */
typedef enum err_code member_fn(void *user, struct json_scan *s, const char *key, struct err *e);
/* Reads an object. What fn reports gets the member's step in front of its pointer. */
MUST enum err_code scan_members(struct json_scan *s, member_fn *fn, void *user, struct err *e);

/* Gets number i, in row-major order. */
typedef enum err_code number_fn(void *user, size_t i, float x, struct err *e);
/* Reads nested arrays of exactly that shape. Numbers have a point, whatever the process's locale; those that are not finite as float32 come as
 * infinities. Errors with the step of each array: "/3/0". */
MUST enum err_code scan_numbers(struct json_scan *s, const struct shape *shape, number_fn *put, void *user, struct err *e);

#endif
