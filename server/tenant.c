/* server/tenant.c: see tenant.h. */
#include "server/tenant.h"

#include <string.h>

bool tenant_valid(const char *name)
{
    size_t n = strlen(name);

    return n >= 1 && n < TENANT_LEN && name[0] != '-' && name[0] != '_' && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

const char *scope_name(enum scope s)
{
#define X(id, name) name,
    static const char *const names[] = { "missing", SCOPE_LIST(X) };
#undef X
    return s < SCOPES ? names[s] : "missing";
}

bool scope_parse(const char *name, enum scope *out)
{
    for (int s = SCOPE_READ; s < SCOPES; s++)
        if (strcmp(name, scope_name((enum scope)s)) == 0) {
            *out = (enum scope)s;
            return true;
        }
    return false;
}
