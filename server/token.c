/* server/token.c: see token.h. */
#include "server/token.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { SECRET_BYTES = 32, ID_DIGITS = 20 };

const struct param token_command_params[] = {
    FIELD_TEXT(struct token_conf, tenant, TENANT_DEFAULT, "Whose things the token opens: 1 to 31 of a-z, 0-9, - and _."),
    FIELD_TEXT(struct token_conf, name, "", "What it is for, for people."),
    FIELD_CHOICE(struct token_conf, scope, "read|submit|admin", 1, "What it may do: read; also upload, post and delete; also make and revoke tokens."),
    FIELD_REAL(struct token_conf, expires_days, 0, 36500, 0, "It is valid for so many days; 0: until it is revoked."),
    FIELD_END
};

static void hex(char *text, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

void token_hash(char hash[FILE_HASH_LEN], const char *text)
{
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];

    sha256_init(&sha);
    sha256_update(&sha, strlen(text), (const uint8_t *)text);
    sha256_digest(&sha, sizeof digest, digest);
    hex(hash, digest, sizeof digest);
}

void token_make(struct token_row *row, char text[TOKEN_TEXT_LEN], const struct token_conf *conf, int64_t now_ms)
{
    uint8_t random[SECRET_BYTES];
    char secret[2 * SECRET_BYTES + 1];

    if (getrandom(random, sizeof random, 0) != sizeof random)
        abort();
    hex(secret, random, sizeof random);
    *row = (struct token_row){ .scope = SCOPE_READ + conf->scope, .created_ms = now_ms };
    id_new(row->id, "tok");
    memcpy(row->tenant, conf->tenant, sizeof row->tenant);
    memcpy(row->name, conf->name, sizeof row->name);
    if (conf->expires_days > 0)
        row->expires_ms = now_ms + (int64_t)(conf->expires_days * 24 * 3600 * 1000);
    snprintf(text, TOKEN_TEXT_LEN, "esp_%s_%s", row->id + strlen("tok_"), secret);
    token_hash(row->hash, text);
}

bool token_id(char id[ID_LEN], const char *text)
{
    if (strlen(text) != TOKEN_TEXT_LEN - 1 || strncmp(text, "esp_", 4) != 0 || text[4 + ID_DIGITS] != '_')
        return false;
    snprintf(id, ID_LEN, "tok_%.*s", ID_DIGITS, text + 4);
    return id_valid(id, "tok");
}
