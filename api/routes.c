/* api/routes.c: every address that the server knows. A test holds this table and openapi.json together. */
#include "api/api.h"

#define PAGE "limit after"

#define END { NULL, NULL, 0, 0, NULL, NULL, NULL }
#define PROBES \
    { "GET", "/healthz", 0, 0, NULL, api_healthz, NULL }, \
    { "GET", "/readyz", 0, 0, NULL, api_readyz, NULL }, \
    { "GET", "/metrics", 0, 0, NULL, api_metrics, NULL }

const struct route api_probe_routes[] = { PROBES, END };

const struct route api_routes[] = {
    PROBES, /* first: see api_plain_routes */
    { "GET", "/", 0, 0, NULL, api_root, NULL },
    { "GET", "/openapi.json", 0, 0, NULL, api_openapi, NULL },
    { "GET", "/v1/capabilities", 0, 0, NULL, api_capabilities, NULL },

    { "POST", "/v1/models", BODY_FILE, HTTP_MAX_UPLOAD, "name", api_model_create, NULL },
    { "GET", "/v1/models", 0, 0, PAGE, api_model_list, NULL },
    { "GET", "/v1/models/{model}", 0, 0, NULL, api_model_get, NULL },
    { "DELETE", "/v1/models/{model}", 0, 0, NULL, api_model_delete, NULL },
    { "PUT", "/v1/models/{model}/weights", BODY_FILE, HTTP_MAX_UPLOAD, NULL, api_model_weights, api_model_weights_before },
    { "GET", "/v1/models/{model}/file", SLOW, 0, "format", api_model_file, NULL },

    { "POST", "/v1/datasets", BODY_JSON | BODY_OPTIONAL, API_MAX_JSON, NULL, api_dataset_create, NULL },
    { "GET", "/v1/datasets", SLOW, 0, PAGE, api_dataset_list, NULL },
    { "GET", "/v1/datasets/{dataset}", 0, 0, NULL, api_dataset_get, NULL },
    { "DELETE", "/v1/datasets/{dataset}", 0, 0, NULL, api_dataset_delete, NULL },
    { "PUT", "/v1/datasets/{dataset}/{split}/{part}", BODY_FILE, HTTP_MAX_UPLOAD, NULL, api_dataset_part, api_dataset_part_before },

    { "POST", "/v1/jobs", BODY_JSON | SLOW, API_MAX_JSON, "dry_run", api_job_create, NULL },
    { "GET", "/v1/jobs", 0, 0, PAGE " state name model dataset sort format", api_job_list, NULL },
    { "GET", "/v1/jobs/{job}", 0, 0, "wait", api_job_get, NULL },
    { "DELETE", "/v1/jobs/{job}", 0, 0, NULL, api_job_delete, NULL },
    { "POST", "/v1/jobs/{job}/cancel", 0, 0, NULL, api_job_cancel, NULL },
    { "POST", "/v1/jobs/{job}/pause", 0, 0, NULL, api_job_pause, NULL },
    { "POST", "/v1/jobs/{job}/resume", 0, 0, NULL, api_job_resume, NULL },
    { "POST", "/v1/jobs/{job}/retry", 0, 0, NULL, api_job_retry, NULL },
    { "GET", "/v1/jobs/{job}/iterations", 0, 0, PAGE " format", api_job_iterations, NULL },
    { "GET", "/v1/jobs/{job}/iterations/{iteration}", 0, 0, NULL, api_job_iteration, NULL },
    { "GET", "/v1/jobs/{job}/iterations/{iteration}/model", SLOW, 0, "format", api_job_iteration_model, NULL },
    { "GET", "/v1/jobs/{job}/events", 0, 0, PAGE, api_job_events, NULL },
    { "GET", "/v1/iterations", SLOW, 0, "jobs format", api_curves, NULL },
    { "GET", "/v1/events", 0, 0, PAGE, api_events, NULL },
    { "GET", "/v1/jobs/{job}/model", SLOW, 0, "format", api_job_model, NULL },
    END
};

const struct route *const api_plain_routes = api_routes + sizeof api_probe_routes / sizeof api_probe_routes[0] - 1;
