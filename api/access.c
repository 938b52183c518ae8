/* api/access.c: who asks, and may they: the first thing that is done with a request once its route is known.
 *
 * Where no tokens are asked for, everybody is the default tenant. On loopback the Host header must then name this machine: else a page elsewhere could
 * have its name resolved to 127.0.0.1 and speak to this server as its own (DNS rebinding). */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/api.h"
#include "server/log.h"

/* "localhost:8080", "127.0.0.1", "[::1]:8080"? Names may be of any case. */
static bool names_this_machine(const char *host)
{
    size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    const char *port = host + n;

    if (*port && (*port != ':' || port[1 + strspn(port + 1, "0123456789")]))
        return false;
    if (n == 9 && strncasecmp(host, "localhost", 9) == 0)
        return true;
    if (n == 5 && strncmp(host, "[::1]", 5) == 0)
        return true;
    return strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == n;
}

static enum err_code check_host(const struct app *app, const struct req *rq, struct err *e)
{
    const char *host = rq->header(rq, "Host");

    if (!app->local_only || !host || names_this_machine(host))
        return ERR_OK;
    return err_set(e, ERR_FORBIDDEN, "without tokens, Host must name this machine, as localhost does: make a token (espalierd token create)");
}

/* The token's text; NULL: there is none. */
static const char *bearer(const struct req *rq)
{
    const char *value = rq->header(rq, "Authorization");

    if (!value || strncasecmp(value, "Bearer ", 7) != 0)
        return NULL;
    return value + 7 + strspn(value + 7, " ");
}

static enum err_code check_token(struct app *app, struct req *rq, struct reply *rp, struct err *e)
{
    const char *text = bearer(rq);
    struct auth_who who;
    enum err_code rc;

    if (!text) {
        rp->authenticate = "Bearer realm=\"espalier\"";
        return err_set(e, ERR_UNAUTHORIZED, "a token is needed: Authorization: Bearer esp_...");
    }
    rc = auth_check(app->auth, text, clock_ms(), &who, e);
    if (rc == ERR_OK) {
        memcpy(rq->token, who.token, sizeof rq->token);
        memcpy(rq->tenant, who.tenant, sizeof rq->tenant);
        rq->scope = who.scope;
        return ERR_OK;
    }
    rp->authenticate = "Bearer realm=\"espalier\", error=\"invalid_token\"";
    if (quota_wrong_token(app->quota, rq->client, clock_mono_ms(), &rp->retry_after, e) != ERR_OK) {
        rp->authenticate = NULL;
        return ERR_TOO_MANY;
    }
    return rc;
}

enum err_code api_admit(struct app *app, struct req *rq, const struct route *r, struct reply *rp, struct err *e)
{
    bool on = app->auth && auth_on(app->auth, clock_ms());
    enum err_code rc = on ? ERR_OK : check_host(app, rq, e);

    if (r->scope == SCOPE_OPEN || rc != ERR_OK)
        return rc;
    if (on)
        rc = check_token(app, rq, rp, e);
    if (rc == ERR_OK && rq->scope < r->scope)
        rc = err_set(e, ERR_FORBIDDEN, "this needs a token with scope %s, and the token has %s", scope_name(r->scope), scope_name(rq->scope));
    return rc == ERR_OK ? quota_request(app->quota, rq->tenant, clock_mono_ms(), &rp->retry_after, e) : rc;
}
