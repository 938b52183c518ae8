/* api/api.h: the contract: the route table and the handlers, one file per resource. Handlers are parse -> store -> reply; they know neither sockets nor SQL. */
#ifndef API_API_H
#define API_API_H

#include "core/model.h"
#include "server/auth.h"
#include "server/config.h"
#include "server/http.h"
#include "server/hub.h"
#include "server/quota.h"
#include "server/store.h"
#include "server/worker.h"

struct app {
    struct store *store;
    struct workers *workers; /* NULL in tests without workers */
    struct hub *hub;         /* NULL in tests: no streams, nothing is waited for */
    struct auth *auth;       /* NULL in tests: no tokens are asked for */
    struct quota *quota;     /* NULL in tests: no limits */
    struct shelf *shelf;     /* NULL: no model is kept open */
    bool local_only;         /* while no tokens are asked for, Host must name this machine */
    const struct config *config;
    uint64_t memory_per_job; /* bytes; 0: not limited */
    int64_t started_ms;
    bool (*draining)(void);  /* /readyz says 503 then; NULL: never */
};
enum { API_MAX_JSON = 256 * 1024, API_MAX_LIMIT = 200, API_DEFAULT_LIMIT = 20, API_NAME_LEN = 128, API_MAX_WAIT = 60 /* seconds */, API_MAX_CURVES = 20, API_MAX_SAMPLES = 10000, API_MAX_SAMPLES_TEXT = 16 << 20 };
extern const struct route api_routes[];             /* all */
extern const struct route api_probe_routes[];       /* /healthz, /readyz, /metrics: for a listener of their own, */
extern const struct route *const api_plain_routes;  /* and what the main one then has */

/* RFC 9457: {"type": "urn:espalier:problem:<code>", "title", "status", "detail", "code", "instance", "errors": [{"pointer", "detail"}], "request_id"};
 * an error in the query has "parameter" in place of "pointer". The only place where an error code becomes an HTTP status. */
json_t *api_problem(const struct err *e, const struct req *rq, int *status);

handler api_model_create, api_model_list, api_model_get, api_model_patch, api_model_delete, api_model_weights, api_model_weights_before, api_model_file;
handler api_dataset_create, api_dataset_list, api_dataset_get, api_dataset_patch, api_dataset_delete, api_dataset_part, api_dataset_part_before;
handler api_job_create, api_job_list, api_job_get, api_job_patch, api_job_delete, api_job_cancel, api_job_pause, api_job_resume, api_job_retry;
handler api_job_iterations, api_job_iteration, api_job_iteration_model, api_job_events, api_job_model;
handler api_model_predict, api_job_predict, api_job_iteration_predict, api_model_evaluate, api_job_evaluate, api_job_iteration_evaluate;
handler api_events, api_curves;
handler api_token_create, api_token_list, api_token_get, api_token_revoke;
handler api_limits_get, api_limits_put;
/* What the command line left (server/limits.h). */
MUST enum err_code api_limits_take(struct app *app, struct err *e);
/* All tables of plug-ins by their keys in capabilities; ends with a NULL key. */
extern const struct api_kind { const char *key; const struct plug_table *table; } api_kinds[];
handler api_capabilities, api_openapi, api_healthz, api_readyz, api_metrics, api_root;

/* Who asks, and may they? For http_conf.admit. */
MUST enum err_code api_admit(struct app *app, struct req *rq, const struct route *r, struct reply *rp, struct err *e);

/* ---- reply.c: what the handlers share ---- */

/* Takes json; NULL: ERR_NOMEM. status 0: 200. */
MUST enum err_code api_reply(struct reply *rp, int status, json_t *json, struct err *e);
MUST enum err_code api_created(struct reply *rp, const char *location, json_t *json, struct err *e); /* 201 */
/* ERR_NOT_FOUND unless rq's argument i is an id with that prefix. */
MUST enum err_code api_id(const struct req *rq, int i, const char *prefix, struct err *e);
/* A whole number of the query within low..high; dflt when absent. */
MUST enum err_code api_query_int(const struct req *rq, const char *name, int64_t low, int64_t high, int64_t dflt, int64_t *out, struct err *e);
/* limit and after (an id of that prefix). */
MUST enum err_code api_page(struct page *p, const struct req *rq, const char *prefix, struct err *e);
/* limit and after, of items that are numbered. */
MUST enum err_code api_numbered_page(const struct req *rq, int64_t *after, int64_t *limit, struct err *e);
/* {"object": "list", "data": [...], "has_more": b}; takes data. */
json_t *api_list(json_t *data, bool more);
json_t *api_stored(const char *text);  /* JSON out of a row: null for NULL; NULL when memory is short */
json_t *api_seconds(int64_t ms);       /* Unix seconds; null for 0 */
MUST enum err_code api_append(json_t *list, json_t *item, struct err *e); /* takes item, which may be NULL: ERR_NOMEM */
MUST enum err_code api_dump(char **text, const json_t *j, struct err *e); /* for a row; mem_free; j may be NULL: ERR_NOMEM */

/* ---- job_json.c: jobs as clients see them ---- */
json_t *api_job_json(const struct job_row *j, bool in_list); /* in_list: without what is long. NULL: out of memory */
json_t *api_job_flat(const struct job_row *j);               /* a row of CSV: what fits into columns */
struct api_text;
void api_job_text(struct api_text *t, const struct job_row *j, int64_t position); /* the whole, with its place in the queue (0: null) */
/* "<state>-<iterations>-<hash of what else changes>": a client that waits does so for the first two. */
void api_job_etag(const struct job_row *j, int64_t position, char *etag, size_t n);

/* ---- tags.c: tags of models, data sets and jobs; versions ---- */

/* All as a row keeps them. ERR_INVALID at "/tags/0" or "?tags". list NULL: none. */
MUST enum err_code api_tags_parse(char tags[TAGS_LEN], const json_t *list, struct err *e);
MUST enum err_code api_tags_query(char tags[TAGS_LEN], const struct req *rq, struct err *e); /* ?tags=a,b */
/* ?tag=a of a list as ",a,", in *out; NULL when absent. */
MUST enum err_code api_tag_query(char tag[TAG_LEN + 2], const char **out, const struct req *rq, struct err *e);
json_t *api_tags_json(const char *tags);
/* A body into its tags and the rest, a new reference (NULL: no body), which a field table can parse. */
MUST enum err_code api_untag(json_t **rest, char tags[TAGS_LEN], const json_t *body, struct err *e);
/* A version of what json shows; json NULL: ERR_NOMEM. */
/* FNV-1a of a text, on top of h (to begin with: API_HASH), so that texts follow each other. NULL: of none. */
#define API_HASH 14695981039346656037u
uint64_t api_hash(uint64_t h, const char *s);
MUST enum err_code api_etag(char *etag, size_t n, const json_t *json, struct err *e);
MUST enum err_code api_reply_version(struct reply *rp, json_t *json, struct err *e); /* api_reply with ETag; takes json */
MUST enum err_code api_if_match(const struct req *rq, const char *etag, struct err *e); /* ERR_PRECONDITION when the client has seen another version */
/* {"tags": [...]} for the resource of the address, whose version and tags were just read. */
MUST enum err_code api_patch_tags(struct app *app, const struct req *rq, enum tagged what, const char *etag, const char *seen, char tags[TAGS_LEN],
                                  struct err *e);

struct api_text { char *s; size_t n, room; bool failed; }; /* start with = {0}; s is the owner's to mem_free */
void api_text_add(struct api_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void api_text_put(struct api_text *t, const char *s, size_t n);
void api_text_cat(struct api_text *t, ...) __attribute__((sentinel)); /* strings, NULL behind the last */
void api_text_string(struct api_text *t, const char *s);              /* as JSON has it; s is UTF-8 */
MUST enum err_code api_reply_text(struct reply *rp, struct api_text *t, const char *content_type, struct err *e); /* takes t->s */

/* ---- idempotency.c: requests that may be repeated ---- */

/* Runs make, unless the request's Idempotency-Key has an answer already, which is then given again. */
MUST enum err_code api_once(handler *make, struct app *app, const struct req *rq, struct reply *rp, struct err *e);
struct api_answer { struct answer answer; char fingerprint[FILE_HASH_LEN], *body; };
/* The answer that is to be recorded with what is made; location is borrowed. json NULL: ERR_NOMEM. */
MUST enum err_code api_answer_make(struct api_answer *a, const struct req *rq, const char *location, const json_t *json, struct err *e);
const struct answer *api_answer_row(const struct api_answer *a); /* for a row; NULL: the request has no key */
void api_answer_clear(struct api_answer *a);

/* ---- table.c: lists in other formats ---- */
enum api_format { API_JSON, API_CSV, API_NDJSON };
/* What the client wants: ?format=json|csv|ndjson, else Accept. */
MUST enum err_code api_format(const struct req *rq, enum api_format *out, struct err *e);
struct api_table { enum api_format format; struct api_text text; json_t *records; /* of CSV */ };
MUST enum err_code api_table_begin(struct api_table *t, enum api_format format, struct err *e);
MUST enum err_code api_table_add(struct api_table *t, json_t *record, struct err *e); /* takes record; NULL: ERR_NOMEM */
/* Frees it. rc: of the steps before; when it is ERR_OK, the reply is the table. */
MUST enum err_code api_table_end(struct api_table *t, enum err_code rc, struct reply *rp, struct err *e);

/* ---- artifacts.c: models in the store, and in the formats that clients fetch ---- */

/* weights "" : none. */
MUST enum err_code api_model_open(struct model *out, struct store *s, const char *architecture, const char *weights, struct err *e);
/* Weights out of a safetensors file. */
MUST enum err_code api_load_weights(struct net *net, const char *path, struct err *e);
/* A new published blob: m in the format of that name. */
MUST enum err_code api_model_publish(struct blob *out, struct store *s, const struct model *m, const char *format, struct err *e);
/* The model that an address names: an uploaded one, a job's result, or a job's as of an iteration. Start with = { .name = "" }, clear always. */
struct api_served {
    char name[60]; /* of its file: "job_1-3" */
    struct blob architecture, weights;
    struct job_row job; /* id "" : an uploaded one */
};
typedef enum err_code api_serve_fn(struct api_served *out, struct app *app, const struct req *rq, struct err *e);
api_serve_fn api_served_model, api_served_job, api_served_iteration;
void api_served_clear(struct api_served *s);

/* ---- iterations.c ---- */
/* The iteration that the address names (0: the baseline): its job (to be cleared always), blob and record. */
MUST enum err_code api_iteration_get(struct app *app, const struct req *rq, struct job_row *job, char weights[ID_LEN], json_t **record, struct err *e);

/* ---- predict.c, evaluate.c: the options of their bodies ---- */
extern const struct param api_predict_params[], api_evaluate_params[];

/* ---- estimate.c ---- */
struct job_conf;
struct dataset;
/* How long the job may take, on one thread, from a few timed passes of the model; iterations: what a dry run plans. An estimate. */
MUST enum err_code api_estimate(double *seconds, const struct job_conf *c, struct net *net, const struct dataset *d, const json_t *iterations, struct err *e);

/* ---- datasets.c ---- */
struct data_conf;
/* The data set of a row, opened and checked. ERR_INVALID; `at` names the part: "/train/labels". */
MUST enum err_code api_dataset_open(struct dataset **out, struct data_conf *conf, struct store *s, const struct dataset_row *row, struct err *e);

#endif
