/* api/limits.c: what one tenant may have in place of what the settings give to all. They are set by an admin of the tenant "default", which is whoever runs
 * the server; for other tenants' admins there is nothing here, or no limit would hold. */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "server/limits.h"
#include "server/log.h"

static enum err_code check_tenant(const struct req *rq, struct err *e)
{
    if (strcmp(rq->tenant, TENANT_DEFAULT) == 0 && tenant_valid(rq->arg[0]))
        return ERR_OK;
    return err_set(e, ERR_NOT_FOUND, "no tenant \"%.40s\"", rq->arg[0]);
}

static enum err_code reply_limits(struct reply *rp, const struct tenant_limits *l, struct err *e)
{
    json_t *j = json_pack("{s:s,s:s}", "object", "limits", "tenant", l->tenant), *fields = params_dump(tenant_limits_params, l);

    if (!fields || json_object_update(j, fields) != 0) {
        json_decref(j);
        j = NULL;
    }
    json_decref(fields);
    return api_reply(rp, 0, j, e);
}

enum err_code api_limits_get(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct tenant_limits l;
    enum err_code rc = check_tenant(rq, e);

    if (rc == ERR_OK)
        rc = store_tenant_limits(app->store, rq->arg[0], &l, e);
    return rc == ERR_OK ? reply_limits(rp, &l, e) : rc;
}

static enum err_code apply(struct app *app, const struct tenant_limits *l, struct err *e)
{
    enum err_code rc = store_tenant_limits_set(app->store, l, e);

    if (rc == ERR_OK)
        rc = quota_set(app->quota, l->tenant, l->requests_per_second, l->streams, clock_mono_ms(), e);
    if (rc == ERR_OK && app->workers)
        workers_wake(app->workers); /* more of its jobs may run now */
    return rc;
}

enum err_code api_limits_put(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct tenant_limits l = { .tenant = "" };
    enum err_code rc = check_tenant(rq, e);

    if (rc == ERR_OK)
        rc = params_parse(&l, sizeof l, tenant_limits_params, rq->body, e);
    if (rc != ERR_OK)
        return rc;
    snprintf(l.tenant, sizeof l.tenant, "%s", rq->arg[0]);
    rc = apply(app, &l, e);
    return rc == ERR_OK ? reply_limits(rp, &l, e) : rc;
}

static enum err_code take_one(void *user, const void *row, struct err *e)
{
    const struct limits_waiting *w = row;
    struct app *app = user;
    struct tenant_limits l;
    enum err_code rc = store_tenant_limits(app->store, w->tenant, &l, e);

    if (rc == ERR_OK)
        rc = limits_change(&l, w->given, e);
    if (rc == ERR_OK)
        rc = apply(app, &l, e);
    if (rc == ERR_OK)
        log_event(LOG_INFO, "limits from the command line", LOG_S("tenant", l.tenant));
    return rc;
}

enum err_code api_limits_take(struct app *app, struct err *e)
{
    return limits_files(app->config->data, true, take_one, app, e);
}
