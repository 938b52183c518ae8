/* api/system.c: what the server says about itself: what it can do (out of the plug-in and field tables), its contract, its health. */
#include <string.h>

#include "api/api.h"
#include "core/job.h"
#include "core/mem.h"
#include "server/embed.h"

/* ---- capabilities ---- */

static json_t *metrics_list(void)
{
    json_t *list = json_array();

    for (int m = 0; m < METRIC_COUNT; m++)
        if (json_array_append_new(list, json_pack("{s:s,s:s,s:b}", "name", metric_name((enum metric)m), "help", metric_help((enum metric)m),
                                                  "larger_is_better", (int)metric_larger_is_better((enum metric)m))) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

const struct api_kind api_kinds[] = {
    { "ops", &op_table }, { "losses", &loss_table }, { "optimizers", &optimizer_table }, { "learning_rate_schedules", &lr_schedule_table },
    { "criteria", &criterion_table }, { "units", &unit_table }, { "scopes", &scope_table }, { "schedules", &schedule_table },
    { "rewinds", &rewind_table }, { "regrows", &regrow_table }, { "controls", &control_table }, { "formats", &model_format_table }, { "finishing_steps", &finish_table },
    { "dataset_formats", &data_format_table },
    { NULL, NULL }
};

enum err_code api_capabilities(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    json_t *j = json_pack("{s:s,s:s,s:o,s:o,s:o,s:{s:i,s:I,s:I}}", "object", "capabilities", "version", ESPALIER_VERSION, "metrics",
                          metrics_list(), "job", params_describe(job_params), "dataset", params_describe(data_params), "limits",
                          "json_bytes", API_MAX_JSON, "upload_bytes", (json_int_t)(app->config ? app->config->max_upload_mb : 0) << 20,
                          "memory_per_job_bytes", (json_int_t)app->memory_per_job);

    (void)rq;
    for (const struct api_kind *k = api_kinds; j && k->key; k++)
        if (json_object_set_new(j, k->key, plugs_describe(k->table)) != 0) {
            json_decref(j);
            j = NULL;
        }
    return api_reply(rp, 0, j, e);
}

/* ---- contract ---- */

enum err_code api_openapi(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    (void)app;
    (void)rq;
    for (const struct embedded_file *f = embedded_api; f->name; f++)
        if (strcmp(f->name, "openapi.json") == 0) {
            rp->text = mem_strdup(f->text);
            rp->content_type = "application/json";
            return rp->text ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
        }
    return err_set(e, ERR_NOT_FOUND, "this build has no openapi.json");
}

enum err_code api_root(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    const bool apart = app->config && *app->config->listen_health; /* the probes are not at this address */

    (void)rq;
    return api_reply(rp, 0, json_pack("{s:s,s:s,s:s,s:{s:s,s:s,s:s,s:s,s:s,s:s*,s:s*,s:s*}}", "name", "espalier", "version", ESPALIER_VERSION,
                                      "description", "Prunes neural networks.", "links", "openapi", "/openapi.json", "capabilities",
                                      "/v1/capabilities", "models", "/v1/models", "datasets", "/v1/datasets", "jobs", "/v1/jobs", "healthz",
                                      apart ? NULL : "/healthz", "readyz", apart ? NULL : "/readyz", "metrics", apart ? NULL : "/metrics"), e);
}

/* ---- probes ---- */

enum err_code api_healthz(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    (void)app;
    (void)rq;
    return api_reply(rp, 0, json_pack("{s:s}", "status", "ok"), e);
}

enum err_code api_readyz(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct err why = { 0 };
    bool store = store_ready(app->store, &why) == ERR_OK, draining = app->draining && app->draining();
    bool workers = !app->workers || workers_alive(app->workers) > 0, ready = store && !draining && workers;

    (void)rq;
    rp->retry_after = ready ? 0 : 2;
    return api_reply(rp, ready ? 200 : 503, json_pack("{s:s,s:{s:s,s:s,s:s}}", "status", ready ? "ok" : "unavailable", "checks", "store",
                                                      store ? "ok" : why.msg, "workers", workers ? "ok" : "no worker is alive", "accepting",
                                                      draining ? "shutting down" : "ok"), e);
}
