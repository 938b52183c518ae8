/* core/err.h: how every module reports failure.
 *
 * A function that can fail returns enum err_code and takes struct err *e last. The caller owns the struct; an error is a
 * plain value that may travel between threads. `at` is the JSON pointer of the offending field (RFC 6901), built from the
 * inside out on the way up: the innermost function names the field, each caller puts its own step in front with err_at().
 * Only main.c calls exit(): one bad job must not end the daemon. */
#ifndef CORE_ERR_H
#define CORE_ERR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* id, slug (stable, part of the HTTP API). The HTTP status of each stands in one switch, api/problem.c. */
#define ERR_LIST(X) \
    X(OK, "ok") \
    X(SYNTAX, "malformed")          /* not JSON, not a file of its format */ \
    X(INVALID, "invalid")           /* understood, but not acceptable; `at` names the field */ \
    X(UNSUPPORTED, "unsupported")   /* valid elsewhere, not offered here: a layer, an option, a dtype */ \
    X(UNAUTHORIZED, "unauthorized") \
    X(FORBIDDEN, "forbidden") \
    X(NOT_FOUND, "not_found") \
    X(METHOD, "method_not_allowed") \
    X(PRECONDITION, "precondition_failed") /* If-Match names another version */ \
    X(CONFLICT, "conflict")         /* wrong state, or already exists */ \
    X(TOO_LARGE, "too_large") \
    X(MEDIA, "unsupported_media_type") \
    X(RANGE, "range_not_satisfiable") \
    X(BUSY, "busy")                 /* transient: may be tried again */ \
    X(TIMEOUT, "timeout") \
    X(TOO_MANY, "too_many")         /* a quota or a rate: may be tried again later */ \
    X(NO_SPACE, "no_space")         /* disk or quota full */ \
    X(STOPPED, "stopped")           /* the stop flag was set */ \
    X(DIVERGED, "diverged")         /* loss is NaN or infinite */ \
    X(NOMEM, "out_of_memory") \
    X(IO, "io_error") \
    X(INTERNAL, "internal")
#define X(id, slug) ERR_##id,
enum err_code { ERR_LIST(X) ERR_COUNT };
#undef X

struct err {
    enum err_code code;
    char at[192];  /* JSON pointer of the field, "" for the whole document */
    char msg[320]; /* one line, for people; begins in lower case, no full stop */
};                 /* start with = {0} */

#define MUST __attribute__((warn_unused_result))

/* Fills *e (may be NULL) with an empty pointer, and returns code. */
enum err_code err_set(struct err *e, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* err_set with the pointer of one field: err_field(e, ERR_INVALID, "/rate", "must be below 1"). */
enum err_code err_field(struct err *e, enum err_code code, const char *at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Puts a step in front of e->at ("/layers/3") and returns e->code; e may be NULL, then code is `code`. */
enum err_code err_at(struct err *e, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Takes errno's value: ENOSPC, EDQUOT and EFBIG become ERR_NO_SPACE, ENOMEM ERR_NOMEM, others ERR_IO. `what` says what failed. */
enum err_code err_errno(struct err *e, int number, const char *what);
/* Appends `key` as one escaped JSON pointer step ("~" and "/" escaped) to buf of size n. Always terminates; cuts what is too long. */
void err_step(char *buf, size_t n, const char *key);

const char *err_slug(enum err_code code);

#endif
