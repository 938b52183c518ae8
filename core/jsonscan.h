/* core/jsonscan.h: a strict JSON scanner (RFC 8259) over text in memory: tokens are places in the text, nothing is allocated.
 *
 * For what Jansson cannot do: look at a text before memory is spent on it, and read large arrays out of a mapped file in place. */
#ifndef CORE_JSONSCAN_H
#define CORE_JSONSCAN_H

#include "core/err.h"

struct json_scan {
    const char *text;
    size_t n, at; /* at: the next byte to look at */
};
/* kind: one of { } [ ] : , for itself, '"' a string (with its quotes), '0' a number, 't' 'f' 'n' a literal, SCAN_END the end of the text. */
struct json_token {
    char kind;
    size_t first, end;
};
enum { SCAN_END = 'E', SCAN_MAX_DEPTH = 64 };

/* The next token. ERR_SYNTAX with line and column. */
MUST enum err_code scan_next(struct json_scan *s, struct json_token *t, struct err *e);
/* Same, without moving. */
MUST enum err_code scan_peek(const struct json_scan *s, struct json_token *t, struct err *e);
/* The next token must be of this kind. */
MUST enum err_code scan_expect(struct json_scan *s, char kind, struct json_token *t, struct err *e);
/* Passes one whole value. max_depth at most SCAN_MAX_DEPTH; *n_tokens counts down, one for each value and key: ERR_TOO_LARGE. */
MUST enum err_code scan_skip(struct json_scan *s, int max_depth, size_t *n_tokens, struct err *e);
/* Between the elements of an array or object that was opened by a bracket: *more says whether another one follows; else its closing
 * bracket (']' or '}') has been passed. first: nothing was read yet. */
MUST enum err_code scan_more(struct json_scan *s, char close, bool first, bool *more, struct err *e);
/* ERR_SYNTAX at byte `at`: "line 3 column 7: what". */
enum err_code scan_error(const struct json_scan *s, size_t at, const char *what, struct err *e);

#endif
