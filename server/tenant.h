/* server/tenant.h: who asks, and what a token may do. A tenant is a name: whatever is stored belongs to one, and nobody else sees it. */
#ifndef SERVER_TENANT_H
#define SERVER_TENANT_H

#include <stdbool.h>

enum { TENANT_LEN = 32 };
#define TENANT_DEFAULT "default" /* of everybody, where no tokens are asked for */
/* 1 to 31 of [a-z0-9_-], the first one no sign. */
bool tenant_valid(const char *name);

/* Each includes those before it. Every route states what it needs; a row without one is a mistake, which a test finds. */
#define SCOPE_LIST(X) X(OPEN, "open") X(READ, "read") X(SUBMIT, "submit") X(ADMIN, "admin")
#define X(id, name) SCOPE_##id,
enum scope { SCOPE_MISSING, SCOPE_LIST(X) SCOPES };
#undef X
const char *scope_name(enum scope s);
bool scope_parse(const char *name, enum scope *out); /* of a token: not "open" */

#endif
