/* api/artifacts.c: models in the store: an architecture blob (Keras JSON) and a weights blob (safetensors), or both in one packed file, written by
 * the same rows of model_format_table that clients fetch them in. So a stored file is sent as it lies there; other forms are written for the client,
 * under an ETag that is known before. */
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "core/packed.h"
#include "core/safetensors.h"

enum { PATH_LEN = 4096 };
#define STORED_ARCHITECTURE "keras" /* the formats of stored files */
#define STORED_WEIGHTS "safetensors"
#define STORED_BOTH "packed"

enum err_code api_load_weights(struct net *net, const char *path, struct err *e)
{
    struct file_map map = { 0 };
    struct st_file f = { 0 };
    enum err_code rc = file_map_open(&map, path, e);

    if (rc == ERR_OK)
        rc = st_parse(&f, map.data, map.len, e);
    if (rc == ERR_OK)
        rc = model_load_weights(net, &f, e);
    st_file_free(&f);
    file_map_close(&map);
    return rc;
}

/* Is the weights' blob a packed file, with the whole model in it? "" : it is not. */
static enum err_code is_packed(bool *is, struct store *s, const char *weights, struct err *e)
{
    struct file_map map = { 0 };
    char path[PATH_LEN];
    enum err_code rc;

    *is = false;
    if (!*weights)
        return ERR_OK;
    blob_path(s, weights, path, sizeof path);
    rc = file_map_open(&map, path, e);
    *is = rc == ERR_OK && packed_is(map.data, map.len);
    file_map_close(&map);
    return rc;
}

static enum err_code open_packed(struct model *out, struct store *s, const char *weights, struct err *e)
{
    struct file_map map = { 0 };
    char path[PATH_LEN];
    enum err_code rc;

    blob_path(s, weights, path, sizeof path);
    rc = file_map_open(&map, path, e);
    if (rc == ERR_OK)
        rc = packed_read(out, map.data, map.len, e);
    file_map_close(&map);
    return rc;
}

enum err_code api_model_open(struct model *out, struct store *s, const char *architecture, const char *weights, struct err *e)
{
    struct model m = { 0 };
    struct file_map map = { 0 };
    char path[PATH_LEN];
    bool packed;
    enum err_code rc = is_packed(&packed, s, weights, e);

    if (rc != ERR_OK || packed)
        return rc == ERR_OK ? open_packed(out, s, weights, e) : rc;
    blob_path(s, architecture, path, sizeof path);
    rc = file_map_open(&map, path, e);
    if (rc == ERR_OK)
        rc = document_read(&m, (const char *)map.data, map.len, e);
    file_map_close(&map);
    if (rc == ERR_OK && *weights) {
        blob_path(s, weights, path, sizeof path);
        rc = api_load_weights(m.net, path, e);
    }
    if (rc == ERR_OK)
        *out = m;
    else
        model_clear(&m);
    return rc;
}

static enum err_code write_model(const struct model *m, const struct model_format *format, const char *path, char *hash, uint64_t *bytes,
                                 struct err *e)
{
    struct file_out *f = NULL;
    enum err_code rc = file_out_new(&f, path, e);

    if (rc == ERR_OK)
        rc = format->write(m, f, e);
    if (rc == ERR_OK) {
        *bytes = file_out_size(f);
        rc = file_out_publish(f, hash, e);
    }
    file_out_free(f);
    return rc;
}

static const struct model_format *find_format(const char *name)
{
    return (const struct model_format *)(const void *)plug_find(&model_format_table, name);
}

enum err_code api_model_publish(struct blob *out, struct store *s, const struct model *m, const char *format, struct err *e)
{
    struct blob b = { 0 };
    char path[PATH_LEN];
    enum err_code rc;

    blob_new(s, b.id, path, sizeof path);
    rc = write_model(m, find_format(format), path, b.hash, &b.bytes, e);
    if (rc == ERR_OK)
        *out = b;
    return rc;
}

/* ---- which model an address names ---- */

enum err_code api_served_model(struct api_served *out, struct app *app, const struct req *rq, struct err *e)
{
    struct model_row row = { 0 };
    enum err_code rc = api_id(rq, 0, "mdl", e);

    if (rc == ERR_OK)
        rc = store_model_get(app->store, rq->tenant, rq->arg[0], &row, e);
    if (rc == ERR_OK) {
        *out = (struct api_served){ .architecture = row.architecture, .weights = row.weights };
        snprintf(out->name, sizeof out->name, "%s", row.id);
    }
    model_row_clear(&row);
    return rc;
}

static enum err_code take_files(struct api_served *out, struct store *s, const char *weights, struct err *e)
{
    enum err_code rc = store_blob_get(s, out->job.architecture, &out->architecture, e);

    return rc == ERR_OK ? store_blob_get(s, weights, &out->weights, e) : rc;
}

enum err_code api_served_job(struct api_served *out, struct app *app, const struct req *rq, struct err *e)
{
    struct job_row *job = &out->job;
    enum err_code rc = api_id(rq, 0, "job", e);

    if (rc == ERR_OK)
        rc = store_job_get(app->store, rq->tenant, rq->arg[0], job, e);
    if (rc == ERR_OK && !*job->result_weights)
        rc = err_set(e, ERR_CONFLICT, "the job is %s: it has no model%s", job_state_name(job->state), job_state_final(job->state) ? "" : " yet");
    if (rc != ERR_OK)
        return rc;
    snprintf(out->name, sizeof out->name, "%s", job->id);
    return take_files(out, app->store, job->result_weights, e);
}

enum err_code api_served_iteration(struct api_served *out, struct app *app, const struct req *rq, struct err *e)
{
    char weights[ID_LEN] = "";
    json_t *record = NULL;
    enum err_code rc = api_iteration_get(app, rq, &out->job, weights, &record, e);

    json_decref(record);
    if (rc == ERR_OK && !*weights)
        rc = err_set(e, ERR_CONFLICT, "iteration %.8s diverged: it has no model", rq->arg[1]);
    if (rc != ERR_OK)
        return rc;
    snprintf(out->name, sizeof out->name, "%s-%.8s", out->job.id, rq->arg[1]);
    return take_files(out, app->store, weights, e);
}

void api_served_clear(struct api_served *s)
{
    job_row_clear(&s->job);
    *s = (struct api_served){ .name = "" };
}

/* ---- downloads ---- */

static enum err_code send_blob(struct reply *rp, struct store *s, const struct blob *b, struct err *e)
{
    char path[PATH_LEN];

    blob_path(s, b->id, path, sizeof path);
    rp->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (rp->fd < 0) /* deleted since its row was read */
        return err_set(e, ERR_NOT_FOUND, "the model has just been deleted");
    rp->fd_bytes = b->bytes;
    return ERR_OK;
}

/* The file is without a name as soon as it is open: whatever happens to the client, nothing stays. */
static enum err_code send_written(struct reply *rp, struct store *s, const struct api_served *served, const struct model_format *format, struct err *e)
{
    struct model m = { 0 };
    char path[PATH_LEN], hash[FILE_HASH_LEN];
    enum err_code rc = api_model_open(&m, s, served->architecture.id, served->weights.id, e);

    if (rc == ERR_OK) {
        store_temp_path(s, path, sizeof path);
        rc = write_model(&m, format, path, hash, &rp->fd_bytes, e);
    }
    model_clear(&m);
    if (rc != ERR_OK)
        return rc;
    rp->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (rp->fd < 0)
        rc = err_set(e, ERR_IO, "cannot open the file that was just written");
    unlink(path);
    return rc;
}

/* Which stored file is the model in this format; NULL: none. */
static enum err_code find_stored(const struct blob **out, struct store *s, const struct api_served *served, const struct model_format *format,
                                 struct err *e)
{
    const char *name = format->plug.name;
    bool packed;
    enum err_code rc = is_packed(&packed, s, served->weights.id, e);

    if (rc == ERR_OK && packed)
        *out = strcmp(name, STORED_BOTH) == 0 ? &served->weights : NULL;
    else if (rc == ERR_OK)
        *out = strcmp(name, STORED_ARCHITECTURE) == 0 ? &served->architecture : strcmp(name, STORED_WEIGHTS) == 0 ? &served->weights : NULL;
    return rc;
}

/* What is written is a pure function of the two files, the format and this program. */
static void written_etag(char etag[FILE_HASH_LEN], const struct api_served *served, const struct model_format *format)
{
    const char *part[] = { served->architecture.hash, served->weights.hash, format->plug.name, ESPALIER_VERSION };
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];

    sha256_init(&sha);
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++)
        sha256_update(&sha, strlen(part[i]) + 1, (const uint8_t *)part[i]);
    sha256_digest(&sha, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(etag + 2 * i, 3, "%02x", digest[i]);
}

static enum err_code send(struct app *app, const struct req *rq, struct reply *rp, const struct api_served *served, struct err *e)
{
    const char *wanted = rq->query(rq, "format");
    const struct model_format *format = find_format(wanted ? wanted : "document");
    const struct blob *stored = NULL;
    char names[200], hash[FILE_HASH_LEN];
    enum err_code rc;

    if (!format)
        return err_field(e, ERR_INVALID, "?format", "format must be one of %s", plug_names(&model_format_table, names, sizeof names));
    if (!*served->weights.id && format->weights)
        return err_set(e, ERR_CONFLICT, "the model has no weights yet");
    rc = find_stored(&stored, app->store, served, format, e);
    if (rc != ERR_OK)
        return rc;
    rp->content_type = format->content_type;
    snprintf(rp->disposition, sizeof rp->disposition, "attachment; filename=\"%s.%s\"", served->name, format->extension);
    if (!stored)
        written_etag(hash, served, format);
    snprintf(rp->etag, sizeof rp->etag, "%s", stored ? stored->hash : hash);
    if (http_etag_matches(rq->header(rq, "If-None-Match"), rp->etag)) /* the transport makes a 304 of it */
        return ERR_OK;
    return stored ? send_blob(rp, app->store, stored, e) : send_written(rp, app->store, served, format, e);
}

static enum err_code find_and_send(api_serve_fn *find, struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct api_served served = { .name = "" };
    enum err_code rc = find(&served, app, rq, e);

    if (rc == ERR_OK)
        rc = send(app, rq, rp, &served, e);
    api_served_clear(&served);
    return rc;
}

enum err_code api_model_file(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return find_and_send(api_served_model, app, rq, rp, e);
}

enum err_code api_job_model(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return find_and_send(api_served_job, app, rq, rp, e);
}

enum err_code api_job_iteration_model(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return find_and_send(api_served_iteration, app, rq, rp, e);
}
