/* api/tokens.c: tokens of the caller's tenant. A token is shown once, when it is made; for other tenants they are made on the command line. */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "server/log.h"
#include "server/token.h"

static json_t *token_json(struct app *app, const struct token_row *t)
{
    int64_t used = app->auth ? auth_last_use(app->auth, t->id) : 0;

    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:o,s:o,s:o,s:o}", "id", t->id, "object", "token", "name", t->name, "tenant", t->tenant, "scope",
                     scope_name(t->scope), "created_at", api_seconds(t->created_ms), "expires_at", api_seconds(t->expires_ms), "revoked_at",
                     api_seconds(t->revoked_ms), "last_used_at", api_seconds(used ? used : t->used_ms));
}

/* Where no tokens are asked for, whoever comes by could make one and keep it for later. */
static enum err_code check_asked_for(const struct app *app, const struct req *rq, struct err *e)
{
    return app->auth && *rq->token ? ERR_OK : err_set(e, ERR_FORBIDDEN, "this server asks for no tokens: make the first on its command line "
                                                      "(espalierd token create)");
}

enum err_code api_token_create(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct token_conf conf = { .tenant = "" };
    struct token_row row = { .scope = SCOPE_MISSING };
    char text[TOKEN_TEXT_LEN], location[80];
    json_t *j = NULL;
    enum err_code rc = check_asked_for(app, rq, e);

    if (rc == ERR_OK)
        rc = params_parse(&conf, sizeof conf, token_command_params + TOKEN_API_PARAMS, rq->body, e);
    if (rc != ERR_OK)
        return rc;
    memcpy(conf.tenant, rq->tenant, sizeof conf.tenant);
    token_make(&row, text, &conf, clock_ms());
    snprintf(location, sizeof location, "/v1/tokens/%s", row.id);
    j = token_json(app, &row);
    if (j && json_object_set_new(j, "token", json_string(text)) == 0)
        rc = auth_add(app->auth, &row, e);
    else
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK)
        return api_created(rp, location, j, e);
    json_decref(j);
    return rc;
}

struct listing { struct app *app; json_t *data; };

static enum err_code list_row(void *user, const void *row, struct err *e)
{
    const struct listing *l = user;

    return api_append(l->data, token_json(l->app, row), e);
}

enum err_code api_token_list(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct listing l = { app, json_array() };
    struct page page;
    bool more = false;
    enum err_code rc = api_page(&page, rq, "tok", e);

    if (rc == ERR_OK)
        rc = store_token_list(app->store, &page, list_row, &l, &more, e);
    if (rc == ERR_OK)
        return api_reply(rp, 0, api_list(l.data, more), e);
    json_decref(l.data);
    return rc;
}

enum err_code api_token_get(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct token_row row;
    enum err_code rc = api_id(rq, 0, "tok", e);

    if (rc == ERR_OK)
        rc = store_token_get(app->store, rq->tenant, rq->arg[0], &row, e);
    return rc == ERR_OK ? api_reply(rp, 0, token_json(app, &row), e) : rc;
}

enum err_code api_token_revoke(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    enum err_code rc = api_id(rq, 0, "tok", e);

    rp->status = 204;
    if (rc == ERR_OK && !app->auth)
        rc = check_asked_for(app, rq, e);
    return rc == ERR_OK ? auth_revoke(app->auth, rq->tenant, rq->arg[0], clock_ms(), e) : rc;
}
