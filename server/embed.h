/* server/embed.h: text files that travel inside the binary (see embed.cmake): tables that end with a NULL name, in name order. */
#ifndef SERVER_EMBED_H
#define SERVER_EMBED_H

#include <stddef.h>

struct embedded_file { const char *name, *text; size_t len; };
extern const struct embedded_file embedded_migrations[]; /* migrations/NNNN_*.sql */
extern const struct embedded_file embedded_api[];        /* api/openapi.json */

#endif
