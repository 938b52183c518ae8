/* server/http_range.c: one part of a file, by Range and If-Range (RFC 9110, section 14). What asks for several parts, or is not understood, gets the
 * whole file, as the standard allows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/http_exchange.h"

/* At most 18 digits: no overflow. false: none, or too many. */
static bool number(const char **s, uint64_t *out)
{
    size_t n = strspn(*s, "0123456789");

    if (n == 0 || n > 18)
        return false;
    *out = strtoull(*s, NULL, 10);
    *s += n;
    return true;
}

/* "bytes=2-5", "bytes=2-", "bytes=-5" of a file of that size. false: not understood. *first > *last: not within the file. */
static bool parse(const char *s, uint64_t size, uint64_t *first, uint64_t *last)
{
    static const char unit[] = "bytes=";
    uint64_t n;

    if (strncmp(s, unit, sizeof unit - 1) != 0)
        return false;
    s += sizeof unit - 1;
    *last = size - 1;
    if (*s == '-') {
        s++;
        if (!number(&s, &n) || *s)
            return false;
        *first = n == 0 ? size : n < size ? size - n : 0;
        return true;
    }
    if (!number(&s, first) || *s++ != '-')
        return false;
    if (!*s)
        return true;
    if (!number(&s, &n) || *s || n < *first)
        return false;
    *last = n < *last ? n : *last;
    return true;
}

enum err_code http_range(struct reply *rp, const char *range, const char *if_range, struct err *e)
{
    char tag[sizeof rp->etag + 2];
    uint64_t first, last, size = rp->fd_bytes;

    snprintf(tag, sizeof tag, "\"%s\"", rp->etag);
    if (!range || rp->fd < 0 || rp->status != 200 || !rp->etag[0] || size == 0 || (if_range && strcmp(if_range, tag) != 0) ||
        !parse(range, size, &first, &last))
        return ERR_OK;
    if (first > last) {
        snprintf(rp->content_range, sizeof rp->content_range, "bytes */%llu", (unsigned long long)size);
        return err_set(e, ERR_RANGE, "the file has %llu bytes", (unsigned long long)size);
    }
    snprintf(rp->content_range, sizeof rp->content_range, "bytes %llu-%llu/%llu", (unsigned long long)first, (unsigned long long)last,
             (unsigned long long)size);
    rp->status = 206;
    rp->fd_offset = first;
    rp->fd_bytes = last - first + 1;
    return ERR_OK;
}
