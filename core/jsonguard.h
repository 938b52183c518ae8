/* core/jsonguard.h: JSON text into Jansson values, with limits checked before memory is spent: Jansson amplifies 50x. */
#ifndef CORE_JSONGUARD_H
#define CORE_JSONGUARD_H

#include "core/err.h"

#include <jansson.h>

/* The text is one JSON value, at most max_depth levels deep, of at most max_tokens values and keys. ERR_SYNTAX / ERR_TOO_LARGE. */
MUST enum err_code json_guard(const char *text, size_t n, int max_depth, size_t max_tokens, struct err *e);
/* json_guard with depth 32, then Jansson; ERR_SYNTAX for duplicate keys too. Messages say line and column. */
MUST enum err_code json_read(json_t **out, const char *text, size_t n, size_t max_tokens, struct err *e);

#endif
