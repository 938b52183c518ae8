/* api/datasets.c: data sets: options first, then one upload per split and part; each is converted while its client waits. GET says whether the
 * whole is ready for jobs, or exactly what is wrong. */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "core/data.h"
#include "core/mem.h"
#include "server/log.h"

enum { PATH_LEN = 4096, PARTS = 2 }; /* stored parts: features, labels */

/* ---- opening ---- */

static enum err_code row_conf(struct data_conf *conf, const struct dataset_row *row, struct err *e)
{
    json_t *doc = api_stored(row->conf);
    enum err_code rc = doc ? params_parse(conf, sizeof *conf, data_params, doc, e) : err_set(e, ERR_NOMEM, "out of memory");

    json_decref(doc);
    return rc;
}

enum err_code api_dataset_open(struct dataset **out, struct data_conf *conf, struct store *s, const struct dataset_row *row, struct err *e)
{
    char *path = mem_alloc(DATA_SPLITS * PARTS * PATH_LEN);
    const char *paths[DATA_SPLITS][2] = { { NULL } };
    enum err_code rc = path ? row_conf(conf, row, e) : err_set(e, ERR_NOMEM, "out of memory");

    for (int i = 0; i < DATA_SPLITS * PARTS && rc == ERR_OK; i++) {
        const struct dataset_part *p = &row->part[i / PARTS][i % PARTS];

        if (!*p->blob.id)
            continue;
        blob_path(s, p->blob.id, path + i * PATH_LEN, PATH_LEN);
        paths[i / PARTS][i % PARTS] = path + i * PATH_LEN;
    }
    if (rc == ERR_OK)
        rc = dataset_open(out, conf, paths, e);
    mem_free(path);
    return rc;
}

/* ---- JSON ---- */

static enum err_code add_problem(json_t *list, const char *pointer, const char *detail, struct err *e)
{
    return api_append(list, json_pack("{s:s,s:s}", "pointer", pointer, "detail", detail), e);
}

/* Parts that are missing; where none is, what dataset_open finds. *shape and *classes are set when it is ready. */
static enum err_code find_problems(json_t *list, struct dataset **data, struct store *s, const struct dataset_row *row, struct err *e)
{
    struct data_conf conf;
    enum err_code rc = ERR_OK;
    struct err why = { 0 };
    char pointer[40];

    for (int i = 0; i < DATA_SPLITS * PARTS && rc == ERR_OK; i++) {
        const struct dataset_part *both = row->part[i / PARTS];

        if (*both[i % PARTS].blob.id || (i / PARTS != DATA_TRAIN && !*both[1 - i % PARTS].blob.id))
            continue;
        snprintf(pointer, sizeof pointer, "/%s/%s", data_split_name[i / PARTS], data_part_name[i % PARTS]);
        rc = add_problem(list, pointer, "has not been uploaded", e);
    }
    if (rc != ERR_OK || json_array_size(list) > 0)
        return rc;
    rc = api_dataset_open(data, &conf, s, row, &why);
    if (rc == ERR_INVALID || rc == ERR_UNSUPPORTED)
        return add_problem(list, why.at, why.msg, e);
    if (rc != ERR_OK && e)
        *e = why;
    return rc;
}

static json_t *part_json(const struct dataset_part *p)
{
    json_t *j = api_stored(*p->blob.id ? p->info : NULL), *file;

    if (!json_is_object(j))
        return j;
    file = json_pack("{s:I,s:s}", "bytes", (json_int_t)p->blob.bytes, "sha256", p->blob.hash);
    if (!file || json_object_update(j, file) != 0) {
        json_decref(j);
        j = NULL;
    }
    json_decref(file);
    return j;
}

static json_t *splits_json(const struct dataset_row *row)
{
    json_t *splits = json_object();

    for (int i = 0; i < DATA_SPLITS; i++)
        if (json_object_set_new(splits, data_split_name[i], json_pack("{s:o,s:o}", "features", part_json(&row->part[i][0]), "labels",
                                                                     part_json(&row->part[i][1]))) != 0) {
            json_decref(splits);
            return NULL;
        }
    return splits;
}

static enum err_code dataset_json(json_t **out, struct store *s, const struct dataset_row *row, struct err *e)
{
    json_t *problems = json_array(), *conf = api_stored(row->conf);
    struct dataset *data = NULL;
    enum err_code rc = problems && conf ? find_problems(problems, &data, s, row, e) : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK) {
        json_t *j = json_pack("{s:s,s:s,s:s,s:o,s:o,s:b,s:O,s:o,s:o,s:O?}", "id", row->id, "object", "dataset", "name", row->name, "tags", api_tags_json(row->tags), "created_at",
                              api_seconds(row->created_ms), "ready", data != NULL, "problems", problems, "splits", splits_json(row), "shape",
                              shape_json(data ? &data->shape : NULL), "classes", data ? data->classes : NULL);

        if (j && json_object_update_missing(j, conf) == 0)
            *out = j;
        else
            rc = err_set(e, ERR_NOMEM, "out of memory");
        if (rc != ERR_OK)
            json_decref(j);
    }
    dataset_free(data);
    json_decref(problems);
    json_decref(conf);
    return rc;
}

/* ---- create, read, delete ---- */

static enum err_code create(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct api_answer answer = { .body = NULL };
    struct dataset_row row = { .created_ms = clock_ms() };
    struct data_conf conf;
    json_t *resolved = NULL, *j = NULL, *options = NULL;
    char location[80];
    enum err_code rc = api_untag(&options, row.tags, rq->body, e);

    id_new(row.id, "dst");
    if (rc == ERR_OK)
        rc = params_parse(&conf, sizeof conf, data_params, options, e);
    json_decref(options);
    memcpy(row.tenant, rq->tenant, sizeof row.tenant);
    if (rc == ERR_OK)
        rc = data_conf_check(&conf, e);
    if (rc == ERR_OK) {
        snprintf(row.name, sizeof row.name, "%s", conf.name);
        resolved = params_dump(data_params, &conf);
        rc = api_dump(&row.conf, resolved, e);
    }
    if (rc == ERR_OK)
        rc = dataset_json(&j, app->store, &row, e);
    snprintf(location, sizeof location, "/v1/datasets/%s", row.id);
    if (rc == ERR_OK)
        rc = api_answer_make(&answer, rq, location, j, e);
    row.answer = api_answer_row(&answer);
    if (rc == ERR_OK)
        rc = store_dataset_add(app->store, &row, e);
    if (rc == ERR_OK)
        rc = api_created(rp, location, j, e);
    else
        json_decref(j);
    api_answer_clear(&answer);
    json_decref(resolved);
    dataset_row_clear(&row);
    return rc;
}

enum err_code api_dataset_create(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return api_once(create, app, rq, rp, e);
}

static enum err_code get(struct dataset_row *row, struct app *app, const struct req *rq, struct err *e)
{
    enum err_code rc = api_id(rq, 0, "dst", e);

    return rc == ERR_OK ? store_dataset_get(app->store, rq->tenant, rq->arg[0], row, e) : rc;
}

struct listing { struct store *store; json_t *data; };

static enum err_code list_row(void *user, const void *row, struct err *e)
{
    struct listing *l = user;
    json_t *j = NULL;
    enum err_code rc = dataset_json(&j, l->store, row, e);

    return rc == ERR_OK ? api_append(l->data, j, e) : rc;
}

enum err_code api_dataset_list(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct listing l = { app->store, json_array() };
    struct page page;
    bool more = false;
    char tag[TAG_LEN + 2];
    enum err_code rc = api_page(&page, rq, "dst", e);

    if (rc == ERR_OK)
        rc = api_tag_query(tag, &page.tag, rq, e);
    if (rc == ERR_OK)
        rc = store_dataset_list(app->store, &page, list_row, &l, &more, e);
    if (rc == ERR_OK)
        return api_reply(rp, 0, api_list(l.data, more), e);
    json_decref(l.data);
    return rc;
}

/* The data set as clients see it, and its version. */
static enum err_code get_version(struct dataset_row *row, json_t **j, char *etag, size_t n, struct app *app, const struct req *rq, struct err *e)
{
    enum err_code rc = get(row, app, rq, e);

    if (rc == ERR_OK)
        rc = dataset_json(j, app->store, row, e);
    return rc == ERR_OK ? api_etag(etag, n, *j, e) : rc;
}

enum err_code api_dataset_get(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct dataset_row row = { 0 };
    json_t *j = NULL;
    enum err_code rc = get_version(&row, &j, rp->etag, sizeof rp->etag, app, rq, e);

    dataset_row_clear(&row);
    if (rc == ERR_OK)
        return api_reply(rp, 0, j, e);
    json_decref(j);
    return rc;
}

enum err_code api_dataset_patch(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct dataset_row row = { 0 };
    json_t *j = NULL;
    char etag[sizeof rp->etag], tags[TAGS_LEN];
    enum err_code rc = get_version(&row, &j, etag, sizeof etag, app, rq, e);

    if (rc == ERR_OK)
        rc = api_patch_tags(app, rq, TAGGED_DATASET, etag, row.tags, tags, e);
    if (rc == ERR_OK && json_object_set_new(j, "tags", api_tags_json(tags)) != 0)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    dataset_row_clear(&row);
    if (rc == ERR_OK)
        return api_reply_version(rp, j, e);
    json_decref(j);
    return rc;
}

enum err_code api_dataset_delete(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct dataset_row row = { 0 };
    json_t *j = NULL;
    char etag[sizeof rp->etag];
    bool guarded = rq->header(rq, "If-Match") != NULL;
    enum err_code rc = guarded ? get_version(&row, &j, etag, sizeof etag, app, rq, e) : api_id(rq, 0, "dst", e);

    rp->status = 204;
    json_decref(j);
    dataset_row_clear(&row);
    if (rc == ERR_OK && guarded)
        rc = api_if_match(rq, etag, e);
    return rc == ERR_OK ? store_dataset_delete(app->store, rq->tenant, rq->arg[0], e) : rc;
}

/* ---- parts ---- */

static enum err_code find(int *out, const char *const *names, int n, const char *what, const char *name, struct err *e)
{
    char known[80] = "";
    size_t at = 0;

    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], name) == 0) {
            *out = i;
            return ERR_OK;
        }
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", names[i]);
    }
    return err_set(e, ERR_NOT_FOUND, "no %s \"%.40s\": must be one of %s", what, name, known);
}

/* Which split and part the address means, and that they are still free. */
static enum err_code find_part(struct dataset_row *row, int *split, int *part, struct app *app, const struct req *rq, struct err *e)
{
    enum err_code rc = get(row, app, rq, e);

    if (rc == ERR_OK)
        rc = find(split, data_split_name, DATA_SPLITS, "split", rq->arg[1], e);
    if (rc == ERR_OK)
        rc = find(part, data_part_name, DATA_PARTS, "part", rq->arg[2], e);
    for (int i = 0; i < PARTS && rc == ERR_OK; i++)
        if ((*part == DATA_TABLE || *part == i) && *row->part[*split][i].blob.id)
            rc = err_set(e, ERR_CONFLICT, "%s %s is there already: post another data set", data_split_name[*split], data_part_name[i]);
    return rc;
}

enum err_code api_dataset_part_before(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct dataset_row row = { 0 };
    int split, part;
    enum err_code rc = find_part(&row, &split, &part, app, rq, e);

    (void)rp;
    dataset_row_clear(&row);
    return rc;
}

/* Converts the upload into the parts wanted of p[0] features and p[1] labels. */
static enum err_code convert(struct dataset_part p[PARTS], struct app *app, const struct dataset_row *row, int split, int part,
                             const struct req *rq, struct err *e)
{
    struct data_file_info info[PARTS] = { { .json = NULL }, { .json = NULL } };
    char path[PARTS][PATH_LEN];
    struct data_conf conf;
    enum err_code rc = row_conf(&conf, row, e);

    for (int i = 0; i < PARTS; i++)
        blob_new(app->store, p[i].blob.id, path[i], sizeof path[i]);
    if (rc == ERR_OK)
        rc = store_room(app->store, rq->body_bytes, e);
    if (rc == ERR_OK)
        rc = data_convert(rq->body_path, true, (enum data_split_id)split, (enum data_part)part, &conf, path[0], path[1], &info[0], &info[1],
                          (uint64_t)(app->config ? app->config->max_upload_mb : 4096) << 20, e);
    for (int i = 0; i < PARTS; i++) {
        bool made = rc == ERR_OK && (part == DATA_TABLE || part == i);

        if (made) {
            memcpy(p[i].blob.hash, info[i].hash, sizeof p[i].blob.hash);
            p[i].blob.bytes = info[i].bytes;
            rc = api_dump(&p[i].info, info[i].json, e);
        } else {
            p[i].blob.id[0] = '\0';
        }
        json_decref(info[i].json);
    }
    return rc;
}

enum err_code api_dataset_part(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct dataset_row row = { 0 };
    struct dataset_part made[PARTS] = { { .info = NULL }, { .info = NULL } };
    int split = 0, part = 0;
    json_t *j = NULL;
    char location[80];
    enum err_code rc = find_part(&row, &split, &part, app, rq, e);

    if (rc == ERR_OK)
        rc = convert(made, app, &row, split, part, rq, e);
    if (rc == ERR_OK)
        rc = store_dataset_set_part(app->store, rq->tenant, row.id, split, *made[0].blob.id ? &made[0] : NULL, *made[1].blob.id ? &made[1] : NULL, e);
    for (int i = 0; i < PARTS; i++) {
        if (rc != ERR_OK && *made[i].blob.id)
            blob_discard(app->store, made[i].blob.id);
        mem_free(made[i].info);
    }
    if (rc == ERR_OK) {
        dataset_row_clear(&row);
        rc = get(&row, app, rq, e);
    }
    if (rc == ERR_OK)
        rc = dataset_json(&j, app->store, &row, e);
    if (rc == ERR_OK) {
        snprintf(location, sizeof location, "/v1/datasets/%s", row.id);
        rc = api_created(rp, location, j, e);
    }
    dataset_row_clear(&row);
    return rc;
}
