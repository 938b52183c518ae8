/* api/routes.c: every address that the server knows. A test holds this table and openapi.json together. */
#include "api/api.h"

#define PAGE "limit after"

#define END { NULL, NULL, SCOPE_MISSING, 0, 0, NULL, NULL, NULL }
/* /metrics tells of all tenants together: free on a listener of its own, which is not for clients. */
#define PROBES(metrics_scope) \
    { "GET", "/healthz", SCOPE_OPEN, 0, 0, NULL, api_healthz, NULL }, \
    { "GET", "/readyz", SCOPE_OPEN, 0, 0, NULL, api_readyz, NULL }, \
    { "GET", "/metrics", metrics_scope, 0, 0, NULL, api_metrics, NULL }

const struct route api_probe_routes[] = { PROBES(SCOPE_OPEN), END };

const struct route api_routes[] = {
    PROBES(SCOPE_READ), /* first: see api_plain_routes */
    { "GET", "/", SCOPE_OPEN, 0, 0, NULL, api_root, NULL },
    { "GET", "/openapi.json", SCOPE_OPEN, 0, 0, NULL, api_openapi, NULL },
    { "GET", "/v1/capabilities", SCOPE_READ, 0, 0, NULL, api_capabilities, NULL },

    { "POST", "/v1/models", SCOPE_SUBMIT, BODY_FILE | BODY_HASH, HTTP_MAX_UPLOAD, "name tags", api_model_create, NULL },
    { "GET", "/v1/models", SCOPE_READ, 0, 0, PAGE " tag", api_model_list, NULL },
    { "GET", "/v1/models/{model}", SCOPE_READ, 0, 0, NULL, api_model_get, NULL },
    { "PATCH", "/v1/models/{model}", SCOPE_SUBMIT, BODY_JSON, API_MAX_JSON, NULL, api_model_patch, NULL },
    { "DELETE", "/v1/models/{model}", SCOPE_SUBMIT, 0, 0, NULL, api_model_delete, NULL },
    { "PUT", "/v1/models/{model}/weights", SCOPE_SUBMIT, BODY_FILE, HTTP_MAX_UPLOAD, NULL, api_model_weights, api_model_weights_before },
    { "GET", "/v1/models/{model}/file", SCOPE_READ, SLOW, 0, "format", api_model_file, NULL },
    { "POST", "/v1/models/{model}/predict", SCOPE_READ, BODY_FILE, API_MAX_SAMPLES_TEXT, "format", api_model_predict, NULL },
    { "POST", "/v1/models/{model}/evaluate", SCOPE_READ, BODY_JSON | BODY_OPTIONAL | SLOW, API_MAX_JSON, NULL, api_model_evaluate, NULL },

    { "POST", "/v1/datasets", SCOPE_SUBMIT, BODY_JSON | BODY_OPTIONAL, API_MAX_JSON, NULL, api_dataset_create, NULL },
    { "GET", "/v1/datasets", SCOPE_READ, SLOW, 0, PAGE " tag", api_dataset_list, NULL },
    { "GET", "/v1/datasets/{dataset}", SCOPE_READ, 0, 0, NULL, api_dataset_get, NULL },
    { "PATCH", "/v1/datasets/{dataset}", SCOPE_SUBMIT, BODY_JSON, API_MAX_JSON, NULL, api_dataset_patch, NULL },
    { "DELETE", "/v1/datasets/{dataset}", SCOPE_SUBMIT, 0, 0, NULL, api_dataset_delete, NULL },
    { "PUT", "/v1/datasets/{dataset}/{split}/{part}", SCOPE_SUBMIT, BODY_FILE, HTTP_MAX_UPLOAD, NULL, api_dataset_part, api_dataset_part_before },

    { "POST", "/v1/jobs", SCOPE_SUBMIT, BODY_JSON | SLOW, API_MAX_JSON, "dry_run", api_job_create, NULL },
    { "GET", "/v1/jobs", SCOPE_READ, 0, 0, PAGE " state name model dataset tag sort format", api_job_list, NULL },
    { "GET", "/v1/jobs/{job}", SCOPE_READ, 0, 0, "wait", api_job_get, NULL },
    { "PATCH", "/v1/jobs/{job}", SCOPE_SUBMIT, BODY_JSON, API_MAX_JSON, NULL, api_job_patch, NULL },
    { "DELETE", "/v1/jobs/{job}", SCOPE_SUBMIT, 0, 0, NULL, api_job_delete, NULL },
    { "POST", "/v1/jobs/{job}/cancel", SCOPE_SUBMIT, 0, 0, NULL, api_job_cancel, NULL },
    { "POST", "/v1/jobs/{job}/pause", SCOPE_SUBMIT, 0, 0, NULL, api_job_pause, NULL },
    { "POST", "/v1/jobs/{job}/resume", SCOPE_SUBMIT, 0, 0, NULL, api_job_resume, NULL },
    { "POST", "/v1/jobs/{job}/retry", SCOPE_SUBMIT, 0, 0, NULL, api_job_retry, NULL },
    { "GET", "/v1/jobs/{job}/iterations", SCOPE_READ, 0, 0, PAGE " format", api_job_iterations, NULL },
    { "GET", "/v1/jobs/{job}/iterations/{iteration}", SCOPE_READ, 0, 0, NULL, api_job_iteration, NULL },
    { "GET", "/v1/jobs/{job}/iterations/{iteration}/model", SCOPE_READ, SLOW, 0, "format", api_job_iteration_model, NULL },
    { "POST", "/v1/jobs/{job}/iterations/{iteration}/predict", SCOPE_READ, BODY_FILE, API_MAX_SAMPLES_TEXT, "format", api_job_iteration_predict, NULL },
    { "POST", "/v1/jobs/{job}/iterations/{iteration}/evaluate", SCOPE_READ, BODY_JSON | BODY_OPTIONAL | SLOW, API_MAX_JSON, NULL, api_job_iteration_evaluate, NULL },
    { "GET", "/v1/jobs/{job}/events", SCOPE_READ, 0, 0, PAGE, api_job_events, NULL },
    { "GET", "/v1/iterations", SCOPE_READ, SLOW, 0, "jobs format", api_curves, NULL },
    { "GET", "/v1/events", SCOPE_READ, 0, 0, PAGE, api_events, NULL },
    { "GET", "/v1/jobs/{job}/model", SCOPE_READ, SLOW, 0, "format", api_job_model, NULL },
    { "POST", "/v1/jobs/{job}/predict", SCOPE_READ, BODY_FILE, API_MAX_SAMPLES_TEXT, "format", api_job_predict, NULL },
    { "POST", "/v1/jobs/{job}/evaluate", SCOPE_READ, BODY_JSON | BODY_OPTIONAL | SLOW, API_MAX_JSON, NULL, api_job_evaluate, NULL },

    { "POST", "/v1/tokens", SCOPE_ADMIN, BODY_JSON | BODY_OPTIONAL, API_MAX_JSON, NULL, api_token_create, NULL },
    { "GET", "/v1/tokens", SCOPE_ADMIN, 0, 0, PAGE, api_token_list, NULL },
    { "GET", "/v1/tokens/{token}", SCOPE_ADMIN, 0, 0, NULL, api_token_get, NULL },
    { "DELETE", "/v1/tokens/{token}", SCOPE_ADMIN, 0, 0, NULL, api_token_revoke, NULL },
    { "GET", "/v1/tenants/{tenant}/limits", SCOPE_ADMIN, 0, 0, NULL, api_limits_get, NULL },
    { "PUT", "/v1/tenants/{tenant}/limits", SCOPE_ADMIN, BODY_JSON, API_MAX_JSON, NULL, api_limits_put, NULL },
    END
};

const struct route *const api_plain_routes = api_routes + sizeof api_probe_routes / sizeof api_probe_routes[0] - 1;
