/* api/tags.c: tags, and the versions (ETag, If-Match) that guard their change. A row keeps them as ",a,b,". */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "core/jsonguard.h"
#include "core/mem.h"
#include "core/utf8.h"

/* Appends one; tags has room for all that may be. */
static enum err_code add(char tags[TAGS_LEN], int n, const char *tag, size_t len, struct err *e)
{
    char whole[TAG_LEN + 2];
    size_t at = strlen(tags);

    if (n == MAX_TAGS)
        return err_set(e, ERR_INVALID, "more than %d tags", MAX_TAGS);
    if (len < 1 || len >= TAG_LEN)
        return err_set(e, ERR_INVALID, "a tag must have 1 to %d bytes", TAG_LEN - 1);
    snprintf(whole, sizeof whole, ",%.*s,", (int)len, tag);
    for (const char *p = tag; p < tag + len; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == ',')
            return err_set(e, ERR_INVALID, "a tag must not contain commas or control characters");
    if (strstr(tags, whole))
        return err_set(e, ERR_INVALID, "stands twice");
    snprintf(tags + at, TAGS_LEN - at, "%s", whole + (at > 0));
    return ERR_OK;
}

enum err_code api_tags_parse(char tags[TAGS_LEN], const json_t *list, struct err *e)
{
    json_t *item;
    size_t i;

    *tags = '\0';
    if (list && !json_is_array(list))
        return err_field(e, ERR_INVALID, "/tags", "must be an array of strings");
    json_array_foreach(list, i, item)
    {
        enum err_code rc = json_is_string(item) ? add(tags, (int)i, json_string_value(item), json_string_length(item), e)
                                                : err_set(e, ERR_INVALID, "must be a string");

        if (rc != ERR_OK)
            return err_at(e, rc, "/tags/%zu", i);
    }
    return ERR_OK;
}

enum err_code api_tags_query(char tags[TAGS_LEN], const struct req *rq, struct err *e)
{
    const char *list = rq->query(rq, "tags");
    enum err_code rc = ERR_OK;

    *tags = '\0';
    for (int n = 0; list && *list && rc == ERR_OK; n++) {
        size_t len = strcspn(list, ",");

        rc = add(tags, n, list, len, e);
        list += len + (list[len] == ',');
    }
    return rc == ERR_OK ? rc : err_at(e, rc, "?tags");
}

enum err_code api_tag_query(char tag[TAG_LEN + 2], const char **out, const struct req *rq, struct err *e)
{
    const char *text = rq->query(rq, "tag");
    char one[TAGS_LEN] = "";
    enum err_code rc = text ? add(one, 0, text, strlen(text), e) : ERR_OK;

    snprintf(tag, TAG_LEN + 2, "%.*s", TAG_LEN + 1, one);
    *out = text ? tag : NULL;
    return rc == ERR_OK ? rc : err_at(e, rc, "?tag");
}

json_t *api_tags_json(const char *tags)
{
    json_t *list = json_array();

    for (const char *p = tags; list && *p == ',' && p[1];) {
        size_t n = strcspn(++p, ",");

        if (json_array_append_new(list, json_stringn(p, n)) != 0) {
            json_decref(list);
            list = NULL;
        }
        p += n;
    }
    return list;
}

enum err_code api_untag(json_t **rest, char tags[TAGS_LEN], const json_t *body, struct err *e)
{
    enum err_code rc = api_tags_parse(tags, json_object_get(body, "tags"), e);

    *rest = NULL;
    if (rc != ERR_OK || !body)
        return rc;
    *rest = json_copy((json_t *)(uintptr_t)body);
    if (!*rest)
        return err_set(e, ERR_NOMEM, "out of memory");
    json_object_del(*rest, "tags");
    return ERR_OK;
}

/* ---- versions ---- */

uint64_t api_hash(uint64_t h, const char *s)
{
    for (; s && *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211u;
    return h;
}

enum err_code api_etag(char *etag, size_t n, const json_t *json, struct err *e)
{
    char *text = NULL;
    enum err_code rc = api_dump(&text, json, e);

    snprintf(etag, n, "%016llx", (unsigned long long)api_hash(API_HASH, text));
    mem_free(text);
    return rc;
}

enum err_code api_reply_version(struct reply *rp, json_t *json, struct err *e)
{
    enum err_code rc = api_etag(rp->etag, sizeof rp->etag, json, e);

    if (rc == ERR_OK)
        return api_reply(rp, 0, json, e);
    json_decref(json);
    return rc;
}

enum err_code api_if_match(const struct req *rq, const char *etag, struct err *e)
{
    const char *given = rq->header(rq, "If-Match");

    return !given || http_etag_matches(given, etag) ? ERR_OK : err_set(e, ERR_PRECONDITION, "it has changed: its ETag is now \"%s\"", etag);
}

enum err_code api_patch_tags(struct app *app, const struct req *rq, enum tagged what, const char *etag, const char *seen, char tags[TAGS_LEN],
                             struct err *e)
{
    json_t *rest = NULL;
    enum err_code rc = api_if_match(rq, etag, e);

    if (rc == ERR_OK && !json_is_object(rq->body))
        rc = err_set(e, ERR_INVALID, "must be an object");
    if (rc == ERR_OK)
        rc = api_untag(&rest, tags, rq->body, e);
    if (rc == ERR_OK && !json_object_get(rq->body, "tags"))
        rc = err_field(e, ERR_INVALID, "/tags", "is required");
    if (rc == ERR_OK && json_object_size(rest) > 0) {
        char at[sizeof e->at] = "";

        err_step(at, sizeof at, json_object_iter_key(json_object_iter(rest)));
        rc = err_field(e, ERR_INVALID, at, "only tags can be changed");
    }
    json_decref(rest);
    return rc == ERR_OK ? store_tags_set(app->store, what, rq->arg[0], tags, rq->header(rq, "If-Match") ? seen : NULL, e) : rc;
}
