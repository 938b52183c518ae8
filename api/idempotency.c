/* api/idempotency.c: a request that makes something may be repeated safely when it carries an Idempotency-Key: within a day, the same request gets
 * the first answer again and makes nothing; another one under that key is refused (422), as is one while the first is under way (409). Only
 * what was made is remembered: a refusal may be tried again. */
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "core/jsonguard.h"
#include "core/mem.h"
#include "server/log.h"

static enum err_code check_key(const char *key, struct err *e)
{
    size_t n = strlen(key);

    for (size_t i = 0; i < n; i++)
        if (key[i] < 0x21 || key[i] > 0x7e)
            n = 0;
    return n >= 1 && n <= 255 ? ERR_OK : err_set(e, ERR_INVALID, "Idempotency-Key must have 1 to 255 visible ASCII characters");
}

/* Of method, address and body; JSON counts as a value, whatever its spaces and the order of its keys. */
static enum err_code fingerprint(char hash[FILE_HASH_LEN], const struct req *rq, struct err *e)
{
    static const char *const queries[] = { "name", "tags", "dry_run" };
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];
    char *body = rq->body ? json_text(rq->body, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY, NULL) : mem_strdup(rq->body_hash);
    const char *part[] = { rq->method, rq->path, rq->query(rq, queries[0]), rq->query(rq, queries[1]), rq->query(rq, queries[2]), body };

    if (!body)
        return err_set(e, ERR_NOMEM, "out of memory");
    sha256_init(&sha);
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) /* with the NUL: "ab" "c" is not "a" "bc" */
        sha256_update(&sha, part[i] ? strlen(part[i]) + 1 : 1, (const uint8_t *)(part[i] ? part[i] : ""));
    sha256_digest(&sha, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(hash + 2 * i, 3, "%02x", digest[i]);
    mem_free(body);
    return ERR_OK;
}

enum err_code api_once(handler *make, struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    const char *key = rq->header(rq, "Idempotency-Key");
    char hash[FILE_HASH_LEN], *body = NULL;
    enum err_code rc;

    if (!key)
        return make(app, rq, rp, e);
    rc = check_key(key, e);
    if (rc == ERR_OK)
        rc = fingerprint(hash, rq, e);
    if (rc == ERR_OK)
        rc = store_answer_begin(app->store, rq->tenant, key, hash, clock_ms(), rp->location, sizeof rp->location, &body, e);
    if (rc != ERR_OK)
        return rc;
    if (body) {
        rc = api_reply(rp, 201, api_stored(body), e);
        mem_free(body);
        return rc;
    }
    rc = make(app, rq, rp, e);
    store_answer_end(app->store, rq->tenant, key);
    return rc;
}

enum err_code api_answer_make(struct api_answer *a, const struct req *rq, const char *location, const json_t *json, struct err *e)
{
    const char *key = rq->header(rq, "Idempotency-Key");
    enum err_code rc;

    *a = (struct api_answer){ .body = NULL };
    if (!json)
        return err_set(e, ERR_NOMEM, "out of memory");
    if (!key)
        return ERR_OK;
    rc = fingerprint(a->fingerprint, rq, e);
    if (rc == ERR_OK)
        rc = api_dump(&a->body, json, e);
    if (rc == ERR_OK)
        a->answer = (struct answer){ key, a->fingerprint, location, a->body, clock_ms() };
    return rc;
}

const struct answer *api_answer_row(const struct api_answer *a)
{
    return a->answer.key ? &a->answer : NULL;
}

void api_answer_clear(struct api_answer *a)
{
    mem_free(a->body);
    *a = (struct api_answer){ .body = NULL };
}
