/* core/jsonguard.h: JSON text into Jansson values, with limits checked before memory is spent: Jansson amplifies 50x; and back into text. */
#ifndef CORE_JSONGUARD_H
#define CORE_JSONGUARD_H

#include "core/err.h"

#include <jansson.h>

/* The text is one JSON value, at most max_depth levels deep, of at most max_tokens values and keys. ERR_SYNTAX / ERR_TOO_LARGE. */
MUST enum err_code json_guard(const char *text, size_t n, int max_depth, size_t max_tokens, struct err *e);
/* json_guard with depth 32, then Jansson; ERR_SYNTAX for duplicate keys too. Messages say line and column. */
MUST enum err_code json_read(json_t **out, const char *text, size_t n, size_t max_tokens, struct err *e);
/* The value as text, NUL behind it, to be mem_freed; *n (may be NULL): its length. NULL when memory is short. flags: Jansson's. json_dumps
 * must not be used: when its buffer cannot grow it leaves out a key without a word. Real numbers have as few digits as read back the same (digits.h),
 * unless flags name a precision. */
char *json_text(const json_t *j, size_t flags, size_t *n);

#endif
