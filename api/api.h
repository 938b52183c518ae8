/* api/api.h: the contract: the route table and the handlers, one file per resource. Handlers are parse -> store -> reply; they know neither sockets nor SQL. */
#ifndef API_API_H
#define API_API_H

#include "server/config.h"
#include "server/http.h"
#include "server/store.h"
#include "server/worker.h"

struct app {
    struct store *store;
    struct workers *workers; /* NULL in tests without workers */
    const struct config *config;
    uint64_t memory_per_job;
    int64_t started_ms;
    bool (*draining)(void);  /* /readyz says 503 then */
};
extern const struct route api_routes[];

/* RFC 9457: {"type": "about:blank"-like slug URI, "title", "status", "detail", "code", "errors": [{"pointer", "detail"}], "request_id"}.
 * The only place where an error code becomes an HTTP status. */
json_t *api_problem(const struct err *e, const struct req *rq, int *status);

handler api_model_create, api_model_list, api_model_get, api_model_delete, api_model_weights, api_model_file;
handler api_dataset_create, api_dataset_list, api_dataset_get, api_dataset_delete, api_dataset_part;
handler api_job_create, api_job_list, api_job_get, api_job_delete, api_job_cancel;
handler api_job_iterations, api_job_iteration, api_job_iteration_model, api_job_events, api_job_model;
handler api_capabilities, api_openapi, api_healthz, api_readyz, api_metrics, api_root;

#endif
