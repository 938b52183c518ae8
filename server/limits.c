/* server/limits.c: see limits.h. A file holds {"tenant", "given": {the fields that were given}}. */
#include "server/limits.h"

#include <stdio.h>
#include <string.h>

#include "core/jsonguard.h"
#include "core/mem.h"
#include "server/inbox.h"

#define LIMIT(f, h) FIELD_INT(struct tenant_limits, f, -1, 1 << 30, -1, h " 0: no limit; -1: as the server's settings have it.")
const struct param tenant_limits_params[] = {
    LIMIT(storage_mb, "What the tenant may store, MB."),
    LIMIT(waiting_jobs, "Its jobs that are queued or paused."),
    LIMIT(running_jobs, "Its jobs that run at a time; more wait."),
    LIMIT(streams, "Its event streams and waiting requests at a time."),
    LIMIT(requests_per_second, "Its requests a second, in bursts of ten seconds' worth."),
    FIELD_END
};
static const char folder[] = "limits", prefix[] = "lim", extension[] = "json";

enum err_code limits_change(struct tenant_limits *l, const json_t *given, struct err *e)
{
    struct tenant_limits changed = { .tenant = "" };
    json_t *all = params_dump(tenant_limits_params, l);
    enum err_code rc = all && json_object_update(all, (json_t *)(uintptr_t)given) == 0 ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK)
        rc = params_parse(&changed, sizeof changed, tenant_limits_params, all, e);
    json_decref(all);
    if (rc != ERR_OK)
        return rc;
    memcpy(changed.tenant, l->tenant, sizeof changed.tenant);
    *l = changed;
    return ERR_OK;
}

/* ---- from the command line ---- */

enum err_code limits_leave(const char *data, const char *tenant, const json_t *given, struct err *e)
{
    json_t *j = json_pack("{s:s,s:O}", "tenant", tenant, "given", given);
    char *text = j ? json_text(j, JSON_COMPACT, NULL) : NULL;
    char id[ID_LEN];
    enum err_code rc;

    id_new(id, prefix);
    rc = text ? inbox_leave(data, folder, id, extension, text, e) : err_set(e, ERR_NOMEM, "out of memory");
    json_decref(j);
    mem_free(text);
    return rc;
}

struct shown { store_row_fn *fn; void *user; };

static enum err_code show(void *user, const char *path, const char *id, struct err *e)
{
    const struct shown *s = user;
    struct tenant_limits tried = { .tenant = "" };
    struct limits_waiting w = { .given = NULL };
    const char *tenant = NULL;
    json_t *j = NULL;
    enum err_code rc = inbox_read(&j, path, e);

    (void)id;
    if (rc == ERR_OK) {
        tenant = json_string_value(json_object_get(j, "tenant"));
        w.given = json_object_get(j, "given");
    }
    if (rc == ERR_OK && (!tenant || !tenant_valid(tenant) || !json_is_object(w.given)))
        rc = err_set(e, ERR_INVALID, "these are no limits");
    if (rc == ERR_OK)
        rc = params_parse(&tried, sizeof tried, tenant_limits_params, w.given, e);
    if (rc == ERR_OK) {
        snprintf(w.tenant, sizeof w.tenant, "%s", tenant);
        rc = s->fn(s->user, &w, e);
    }
    json_decref(j);
    return rc;
}

enum err_code limits_files(const char *data, bool take, store_row_fn *fn, void *user, struct err *e)
{
    return inbox_each(data, folder, prefix, extension, take, show, &(struct shown){ fn, user }, e);
}

/* ---- what they come to ---- */

struct collected { const char *tenant; json_t *given; };

static enum err_code collect(void *user, const void *row, struct err *e)
{
    struct collected *c = user;
    const struct limits_waiting *w = row;

    if (strcmp(w->tenant, c->tenant) == 0 && json_object_update(c->given, (json_t *)(uintptr_t)w->given) != 0)
        return err_set(e, ERR_NOMEM, "out of memory");
    return ERR_OK;
}

/* The files first: what a daemon takes in between is in the database then, and changes nothing once more. */
enum err_code limits_preview(const char *data, const char *tenant, struct tenant_limits *out, struct err *e)
{
    struct collected c = { tenant, json_object() };
    enum err_code rc = c.given ? limits_files(data, false, collect, &c, e) : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK)
        rc = store_tenant_limits_read(data, tenant, out, e);
    if (rc == ERR_OK)
        rc = limits_change(out, c.given, e);
    json_decref(c.given);
    return rc;
}
