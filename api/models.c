/* api/models.c: models. An upload is one body: a Keras model JSON, a document with weights, or a packed file; what is stored is always the same two files. */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "core/mem.h"
#include "core/packed.h"
#include "server/log.h"

static json_t *file_json(const struct blob *b)
{
    return *b->id ? json_pack("{s:I,s:s}", "bytes", (json_int_t)b->bytes, "sha256", b->hash) : json_null();
}

/* The layers are left out of lists. */
static json_t *model_json(const struct model_row *m, bool layers)
{
    json_t *j = json_pack("{s:s,s:s,s:s,s:o,s:o,s:b,s:{s:o,s:o}}", "id", m->id, "object", "model", "name", m->name, "tags", api_tags_json(m->tags), "created_at",
                          api_seconds(m->created_ms), "trained", *m->weights.id != '\0', "files", "architecture", file_json(&m->architecture),
                          "weights", file_json(&m->weights));
    json_t *summary = api_stored(m->summary);

    if (!j || !summary || (json_is_object(summary) && json_object_update(j, summary) != 0)) {
        json_decref(j);
        j = NULL;
    }
    if (j && !layers)
        json_object_del(j, "layers");
    json_decref(summary);
    return j;
}

/* ---- create ---- */

static enum err_code model_name(struct model_row *row, const struct req *rq, const struct model *m, struct err *e)
{
    const char *name = rq->query(rq, "name");
    const char *inner = json_string_value(json_object_get(json_object_get(m->architecture, "config"), "name"));

    if (name && (!*name || strlen(name) >= API_NAME_LEN))
        return err_field(e, ERR_INVALID, "?name", "name must have 1 to %d bytes", API_NAME_LEN - 1);
    if (!name)
        name = inner && strlen(inner) < API_NAME_LEN ? inner : "";
    snprintf(row->name, sizeof row->name, "%s", name);
    return ERR_OK;
}

static enum err_code read_upload(struct model *m, const struct req *rq, struct err *e)
{
    struct file_map map = { 0 };
    enum err_code rc = file_map_open(&map, rq->body_path, e);

    if (rc == ERR_OK)
        rc = packed_is(map.data, map.len) ? packed_read(m, map.data, map.len, e) : document_read(m, (const char *)map.data, map.len, e);
    file_map_close(&map);
    return rc;
}

static enum err_code describe(char **text, const struct net *net, struct err *e)
{
    json_t *summary = model_describe(net);
    enum err_code rc = api_dump(text, summary, e);

    json_decref(summary);
    return rc;
}

/* Files first, then the row; without the row no files. *j: what the client gets. */
static enum err_code store_model(json_t **j, struct app *app, const struct req *rq, const char *location, struct model_row *row,
                                 const struct model *m, struct err *e)
{
    struct api_answer answer = { .body = NULL };
    enum err_code rc = api_model_publish(&row->architecture, app->store, m, "keras", e);

    if (rc == ERR_OK && m->net->trained)
        rc = api_model_publish(&row->weights, app->store, m, "safetensors", e);
    if (rc == ERR_OK) {
        *j = model_json(row, true);
        rc = api_answer_make(&answer, rq, location, *j, e);
    }
    row->answer = api_answer_row(&answer);
    if (rc == ERR_OK)
        rc = store_model_add(app->store, row, e);
    api_answer_clear(&answer);
    row->answer = NULL;
    if (rc != ERR_OK && *row->architecture.id)
        blob_discard(app->store, row->architecture.id);
    if (rc != ERR_OK && *row->weights.id)
        blob_discard(app->store, row->weights.id);
    return rc;
}

static enum err_code create(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct model_row row = { .created_ms = clock_ms() };
    struct model m = { 0 };
    json_t *j = NULL;
    char location[80];
    enum err_code rc = read_upload(&m, rq, e);

    id_new(row.id, "mdl");
    memcpy(row.tenant, rq->tenant, sizeof row.tenant);
    if (rc == ERR_OK)
        rc = model_name(&row, rq, &m, e);
    if (rc == ERR_OK)
        rc = api_tags_query(row.tags, rq, e);
    if (rc == ERR_OK)
        rc = describe(&row.summary, m.net, e);
    snprintf(location, sizeof location, "/v1/models/%s", row.id);
    if (rc == ERR_OK)
        rc = store_model(&j, app, rq, location, &row, &m, e);
    if (rc == ERR_OK)
        rc = api_created(rp, location, j, e);
    else
        json_decref(j);
    model_row_clear(&row);
    model_clear(&m);
    return rc;
}

enum err_code api_model_create(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return api_once(create, app, rq, rp, e);
}

/* ---- read ---- */

static enum err_code get(struct model_row *row, struct app *app, const struct req *rq, struct err *e)
{
    enum err_code rc = api_id(rq, 0, "mdl", e);

    return rc == ERR_OK ? store_model_get(app->store, rq->tenant, rq->arg[0], row, e) : rc;
}

static enum err_code list_row(void *user, const void *row, struct err *e)
{
    return api_append(user, model_json(row, false), e);
}

enum err_code api_model_list(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    json_t *data = json_array();
    struct page page;
    bool more = false;
    char tag[TAG_LEN + 2];
    enum err_code rc = api_page(&page, rq, "mdl", e);

    if (rc == ERR_OK)
        rc = api_tag_query(tag, &page.tag, rq, e);
    if (rc == ERR_OK)
        rc = store_model_list(app->store, &page, list_row, data, &more, e);
    if (rc == ERR_OK)
        return api_reply(rp, 0, api_list(data, more), e);
    json_decref(data);
    return rc;
}

enum err_code api_model_get(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct model_row row = { 0 };
    enum err_code rc = get(&row, app, rq, e);

    if (rc == ERR_OK)
        rc = api_reply_version(rp, model_json(&row, true), e);
    model_row_clear(&row);
    return rc;
}

/* The model and its version. */
static enum err_code get_version(struct model_row *row, char *etag, size_t n, struct app *app, const struct req *rq, struct err *e)
{
    enum err_code rc = get(row, app, rq, e);
    json_t *j = rc == ERR_OK ? model_json(row, true) : NULL;

    if (rc == ERR_OK)
        rc = api_etag(etag, n, j, e);
    json_decref(j);
    return rc;
}

enum err_code api_model_patch(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct model_row row = { 0 };
    char etag[sizeof rp->etag], tags[TAGS_LEN];
    enum err_code rc = get_version(&row, etag, sizeof etag, app, rq, e);

    if (rc == ERR_OK)
        rc = api_patch_tags(app, rq, TAGGED_MODEL, etag, row.tags, tags, e);
    if (rc == ERR_OK) {
        memcpy(row.tags, tags, sizeof row.tags);
        rc = api_reply_version(rp, model_json(&row, true), e);
    }
    model_row_clear(&row);
    return rc;
}

enum err_code api_model_delete(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct model_row row = { 0 };
    char etag[sizeof rp->etag];
    bool guarded = rq->header(rq, "If-Match") != NULL;
    enum err_code rc = guarded ? get_version(&row, etag, sizeof etag, app, rq, e) : api_id(rq, 0, "mdl", e);

    rp->status = 204;
    model_row_clear(&row);
    if (rc == ERR_OK && guarded)
        rc = api_if_match(rq, etag, e);
    return rc == ERR_OK ? store_model_delete(app->store, rq->tenant, rq->arg[0], e) : rc;
}

/* ---- weights ---- */

enum err_code api_model_weights_before(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct model_row row = { 0 };
    enum err_code rc = get(&row, app, rq, e);

    (void)rp;
    if (rc == ERR_OK && *row.weights.id)
        rc = err_set(e, ERR_CONFLICT, "the model has weights already: post another model");
    model_row_clear(&row);
    return rc;
}

enum err_code api_model_weights(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct model_row row = { 0 };
    struct model m = { 0 };
    struct blob weights = { 0 };
    char *summary = NULL, location[80];
    enum err_code rc = get(&row, app, rq, e);

    if (rc == ERR_OK)
        rc = api_model_open(&m, app->store, row.architecture.id, "", e);
    if (rc == ERR_OK)
        rc = api_load_weights(m.net, rq->body_path, e);
    if (rc == ERR_OK)
        rc = describe(&summary, m.net, e);
    if (rc == ERR_OK)
        rc = api_model_publish(&weights, app->store, &m, "safetensors", e);
    if (rc == ERR_OK)
        rc = store_model_set_weights(app->store, rq->tenant, row.id, &weights, summary, e);
    if (rc != ERR_OK && *weights.id)
        blob_discard(app->store, weights.id);
    if (rc == ERR_OK) {
        row.weights = weights;
        mem_free(row.summary);
        row.summary = summary;
        summary = NULL;
        snprintf(location, sizeof location, "/v1/models/%s", row.id);
        rc = api_created(rp, location, model_json(&row, true), e);
    }
    mem_free(summary);
    model_row_clear(&row);
    model_clear(&m);
    return rc;
}
