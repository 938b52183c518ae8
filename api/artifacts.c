/* api/artifacts.c: models in the store: an architecture blob (Keras JSON) and a weights blob (safetensors), or both in one packed file, written by
 * the same rows of model_format_table that clients fetch them in. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "core/packed.h"
#include "core/safetensors.h"

enum { PATH_LEN = 4096 };

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

/* The whole model, where the weights' blob is a packed file; *is: whether it is. */
static enum err_code open_packed(struct model *out, bool *is, struct store *s, const char *weights, struct err *e)
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
    if (*is)
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
    enum err_code rc = open_packed(out, &packed, s, weights, e);

    if (rc != ERR_OK || packed)
        return rc;
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

/* The file is without a name as soon as it is open: whatever happens to the client, nothing stays. */
static enum err_code open_unnamed(struct reply *rp, const char *path, struct err *e)
{
    enum err_code rc = ERR_OK;

    rp->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (rp->fd < 0)
        rc = err_set(e, ERR_IO, "cannot open the file that was just written");
    unlink(path);
    return rc;
}

enum err_code api_model_send(struct app *app, const struct req *rq, struct reply *rp, const char *architecture, const char *weights,
                             const char *name, struct err *e)
{
    const char *wanted = rq->query(rq, "format");
    const struct model_format *format = find_format(wanted ? wanted : "document");
    struct model m = { 0 };
    char path[PATH_LEN], hash[FILE_HASH_LEN], names[200];
    enum err_code rc;

    if (!format)
        return err_field(e, ERR_INVALID, "?format", "format must be one of %s", plug_names(&model_format_table, names, sizeof names));
    if (!*weights && format->weights)
        return err_set(e, ERR_CONFLICT, "the model has no weights yet");
    rc = api_model_open(&m, app->store, architecture, weights, e);
    if (rc == ERR_OK) {
        store_temp_path(app->store, path, sizeof path);
        rc = write_model(&m, format, path, hash, &rp->fd_bytes, e);
    }
    if (rc == ERR_OK)
        rc = open_unnamed(rp, path, e);
    model_clear(&m);
    if (rc != ERR_OK)
        return rc;
    rp->content_type = format->content_type;
    snprintf(rp->disposition, sizeof rp->disposition, "attachment; filename=\"%s.%s\"", name, format->extension);
    snprintf(rp->etag, sizeof rp->etag, "%s", hash);
    return ERR_OK;
}
