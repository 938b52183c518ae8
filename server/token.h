/* server/token.h: the text of a token, and how tokens come from the command line to a daemon that may be running.
 *
 * A token is "esp_<id>_<secret>": the id's 20 characters, and 32 random bytes in hex. Only its SHA-256 is stored: with 256 random bits a hash needs no salt.
 *
 * The command line leaves files in <data>/tokens (inbox.h): <id>.json, a new token without its secret, and <id>.revoke. The daemon takes them at start and
 * while it serves (auth.h). */
#ifndef SERVER_TOKEN_H
#define SERVER_TOKEN_H

#include "core/params.h"
#include "server/store.h"

enum { TOKEN_TEXT_LEN = 4 + 20 + 1 + 64 + 1 };

/* What one may say of a new token. */
struct token_conf {
    char tenant[TENANT_LEN]; /* on the command line alone */
    char name[128];
    int scope;               /* 0: SCOPE_READ */
    double expires_days;     /* 0: never */
};
extern const struct param token_command_params[]; /* the tenant first, */
enum { TOKEN_API_PARAMS = 1 };                    /* and what the API takes behind it */

/* A new token of the tenant that conf names, and its text, which is nowhere else. Aborts the process when the system has no entropy. */
void token_make(struct token_row *row, char text[TOKEN_TEXT_LEN], const struct token_conf *conf, int64_t now_ms);
/* SHA-256 of any text, hex. */
void token_hash(char hash[FILE_HASH_LEN], const char *text);
/* The id, "tok_...", out of a token's text; false: it has not the form of one. */
bool token_id(char id[ID_LEN], const char *text);

/* ---- files in <data>/tokens (token_files.c) ---- */
MUST enum err_code token_leave(const char *data, const struct token_row *row, struct err *e);
MUST enum err_code token_leave_revoke(const char *data, const char *id, struct err *e);
/* Shows fn the tokens, then the revocations (hash ""), that wait. Files that are none are skipped. fn's ERR_OK removes the file if take. */
MUST enum err_code token_files(const char *data, bool take, store_row_fn *fn, void *user, struct err *e);

#endif
