/* server/auth.h: who may come in. All tokens stand in memory, so a request costs one hash and one look, whatever the database does.
 *
 * The daemon is the only writer of the tokens' table. What the command line leaves in <data>/tokens (token.h) is taken at start, and looked for at most
 * four times a second while requests come; a token that nobody knows is looked for at once. */
#ifndef SERVER_AUTH_H
#define SERVER_AUTH_H

#include "server/store.h"

enum access { ACCESS_AUTO, ACCESS_TOKEN, ACCESS_OPEN }; /* asked for: if there is one, or the address is not loopback; always; never */
struct auth_conf {
    const char *data;        /* the data directory */
    const char *admin_token; /* a token by configuration, SCOPE_ADMIN of TENANT_DEFAULT; "" : none */
    enum access access;
    bool loopback;           /* of the address to listen on */
};
struct auth;
/* ERR_FORBIDDEN: tokens are asked for, and there is none that is valid: nobody could come in. */
MUST enum err_code auth_new(struct auth **out, struct store *s, const struct auth_conf *c, int64_t now_ms, struct err *e);
/* What auth_new would say of these settings and the data directory, which stays as it is: a daemon may have it. */
MUST enum err_code auth_preview(const struct auth_conf *c, int64_t now_ms, struct err *e);
void auth_free(struct auth *a); /* writes the last uses; NULL is legal */
/* Are tokens asked for? With ACCESS_AUTO: from the first token on, though it be revoked or expired since. */
bool auth_on(struct auth *a, int64_t now_ms);

struct auth_who { char token[ID_LEN], tenant[TENANT_LEN]; enum scope scope; };
/* text: a token. ERR_UNAUTHORIZED: not one of ours, revoked, or expired. */
MUST enum err_code auth_check(struct auth *a, const char *text, int64_t now_ms, struct auth_who *out, struct err *e);
/* Is it still valid? For what began with it and goes on. */
bool auth_alive(struct auth *a, const char *token, int64_t now_ms);

MUST enum err_code auth_add(struct auth *a, const struct token_row *row, struct err *e);
MUST enum err_code auth_revoke(struct auth *a, const char *tenant, const char *id, int64_t now_ms, struct err *e);
int64_t auth_last_use(struct auth *a, const char *id); /* ms; 0: not since the start */
int64_t auth_count(struct auth *a, int64_t now_ms);    /* valid ones */
MUST enum err_code auth_flush(struct auth *a, struct err *e); /* writes the last uses */

#endif
