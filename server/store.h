/* server/store.h: what the daemon remembers: models, data sets, jobs, their iterations and events. Every function here is one transaction;
 * all SQL of the project stands in server/store*.c, migrate.c and migrations/.
 *
 * Files: a blob is an immutable file <data>/blobs/<id>, published (temp, fsync, rename, fsync of the directory) BEFORE the row that names it
 * is committed. Rows refer to blobs; a blob that no row refers to is removed, after the commit that dropped the last reference, and by
 * the sweep at start. Time is an argument (Unix ms), so tests own the clock.
 *
 * Jobs: one transition table (job_states.c), moved by compare-and-set; every write of a worker carries its lease token: ERR_CONFLICT
 * means that the lease is lost and nothing was written.
 *
 * Tenants: what a client names, it names within its tenant: another's id is ERR_NOT_FOUND, as if it were not there. */
#ifndef SERVER_STORE_H
#define SERVER_STORE_H

#include <jansson.h>

#include "core/file.h"
#include "server/histogram.h"
#include "server/tenant.h"

enum { ID_LEN = 32 }; /* "mdl_" and 20 characters of [0-9a-z], NUL */
/* A new id with a prefix: "mdl", "dst", "job", "blb". 9 characters of time (each id of a process is greater than the one before), then 11 random
 * ones: newest first is by id, and a page's cursor stays good when its row is deleted. Aborts the process when the system has no entropy. */
void id_new(char id[ID_LEN], const char *prefix);
bool id_valid(const char *id, const char *prefix);

struct store;
/* dir: the data directory, made if missing (0700), locked by flock (ERR_CONFLICT: another daemon has it). Network file systems are refused.
 * Opens the database, runs migrations, sweeps. */
MUST enum err_code store_open(struct store **out, const char *dir, struct err *e);
void store_close(struct store *s); /* NULL is legal */
/* What each tenant may have, 0: no limit. Set before threads use the store. bytes: uploads and new jobs are refused beyond it (ERR_NO_SPACE); a job that
 * runs is not. waiting: jobs that are queued or paused, others are refused (ERR_TOO_MANY). running: at a time; more wait. */
struct store_limits { int64_t bytes, waiting, running; };
void store_set_limits(struct store *s, const struct store_limits *l);
/* What one tenant may have in place of that, in the database. -1: as all. */
struct tenant_limits { char tenant[TENANT_LEN]; int64_t storage_mb, waiting_jobs, running_jobs, streams, requests_per_second; };
MUST enum err_code store_tenant_limits(struct store *s, const char *tenant, struct tenant_limits *out, struct err *e);
MUST enum err_code store_tenant_limits_set(struct store *s, const struct tenant_limits *row, struct err *e);
/* Of a data directory that a daemon may have. */
MUST enum err_code store_tenant_limits_read(const char *dir, const char *tenant, struct tenant_limits *out, struct err *e);
MUST enum err_code store_tenant_limits_all(struct store *s, enum err_code (*fn)(void *user, const void *row, struct err *e), void *user, struct err *e);
/* ERR_NO_SPACE when the tenant would have more than it may after `bytes` more. */
MUST enum err_code store_tenant_room(struct store *s, const char *tenant, uint64_t bytes, struct err *e);
/* Writable and enough disk: for /readyz. */
MUST enum err_code store_ready(struct store *s, struct err *e);
/* ERR_NO_SPACE when, after `bytes` more, less than the floor would be free. The floor is 0 until set. */
MUST enum err_code store_room(struct store *s, uint64_t bytes, struct err *e);
void store_set_disk_floor(struct store *s, uint64_t bytes);

/* ---- tags ---- */
enum { MAX_TAGS = 16, TAG_LEN = 65, TAGS_LEN = MAX_TAGS * TAG_LEN + 2 }; /* a tag: at most 64 bytes, no comma; tags of a row: ",a,b,", or "" */
enum tagged { TAGGED_MODEL, TAGGED_DATASET, TAGGED_JOB };
/* seen NULL: whatever they were; else ERR_PRECONDITION when they are not that any more. ERR_NOT_FOUND. */
MUST enum err_code store_tags_set(struct store *s, enum tagged what, const char *id, const char *tags, const char *seen, struct err *e);

/* ---- blobs ---- */
struct blob { char id[ID_LEN]; char hash[FILE_HASH_LEN]; uint64_t bytes; };
/* A new id and the path where to publish it. */
void blob_new(struct store *s, char id[ID_LEN], char *path, size_t n);
void blob_path(struct store *s, const char *id, char *path, size_t n);
/* A path in <data>/tmp for an upload in progress; emptied at start. */
void store_temp_path(struct store *s, char *path, size_t n);
MUST enum err_code store_blob_get(struct store *s, const char *id, struct blob *out, struct err *e); /* id "" : an empty one */
/* Removes a published file that no row came to name (after a failed transaction); one that a row names stays. */
void blob_discard(struct store *s, const char *id);

/* ---- lists: keyset pages, newest first ---- */
struct page { const char *tenant; char after[ID_LEN]; /* "" : from the newest */ int limit; const char *state; /* jobs only; NULL: all */ const char *tag; /* ",a,"; NULL: all */ };
/* The row and its strings are borrowed: valid until fn returns. fn must not call the store. */
typedef enum err_code store_row_fn(void *user, const void *row, struct err *e);

/* ---- answers to repeated requests (Idempotency-Key) ---- */
#define ANSWER_KEEP_MS ((int64_t)24 * 3600 * 1000)
struct answer { const char *key, *fingerprint, *location, *body; int64_t created_ms; }; /* key: 1 to 255 ASCII characters */
/* Keys are each tenant's own. *body NULL: there is no answer yet, and the key is now under way until store_answer_end; else it is the first answer, to be mem_freed, with its
 * location. ERR_CONFLICT: the key is under way; ERR_INVALID: it was used with another fingerprint. */
MUST enum err_code store_answer_begin(struct store *s, const char *tenant, const char *key, const char *fingerprint, int64_t now_ms,
                                      char *location, size_t n, char **body, struct err *e);
void store_answer_end(struct store *s, const char *tenant, const char *key);
MUST enum err_code store_answers_expire(struct store *s, int64_t now_ms, struct err *e); /* those older than ANSWER_KEEP_MS go */

/* ---- models ---- */
struct model_row {
    char id[ID_LEN], tenant[TENANT_LEN], name[128];
    int64_t created_ms;
    struct blob architecture; /* Keras JSON */
    struct blob weights;      /* safetensors; id "" : none yet */
    char tags[TAGS_LEN];
    char *summary;            /* JSON of model_describe; owned by the row while it is shown */
    const struct answer *answer; /* of store_model_add: recorded with it; NULL: none. The same in the other rows */
};
MUST enum err_code store_model_add(struct store *s, const struct model_row *m, struct err *e);
MUST enum err_code store_model_get(struct store *s, const char *tenant, const char *id, struct model_row *out, struct err *e); /* free with model_row_clear */
void model_row_clear(struct model_row *m);
MUST enum err_code store_model_list(struct store *s, const struct page *p, store_row_fn *fn, void *user, bool *more, struct err *e);
/* ERR_CONFLICT: it has weights already: what was uploaded never changes. */
MUST enum err_code store_model_set_weights(struct store *s, const char *tenant, const char *id, const struct blob *w, const char *summary,
                                           struct err *e);
/* ERR_CONFLICT while an unfinished job uses it. */
MUST enum err_code store_model_delete(struct store *s, const char *tenant, const char *id, struct err *e);

/* ---- data sets ---- */
struct dataset_part { struct blob blob; char *info; /* JSON of data_file_info; owned */ };
struct dataset_row {
    char id[ID_LEN], tenant[TENANT_LEN], name[128];
    int64_t created_ms;
    char tags[TAGS_LEN];
    char *conf;                      /* JSON of data_conf; owned */
    struct dataset_part part[3][2];  /* [split][0 features, 1 labels]; blob.id "" : not there */
    const struct answer *answer;
};
MUST enum err_code store_dataset_add(struct store *s, const struct dataset_row *d, struct err *e);
MUST enum err_code store_dataset_get(struct store *s, const char *tenant, const char *id, struct dataset_row *out, struct err *e);
void dataset_row_clear(struct dataset_row *d);
MUST enum err_code store_dataset_list(struct store *s, const struct page *p, store_row_fn *fn, void *user, bool *more, struct err *e);
/* features and labels: one of them may be NULL. ERR_CONFLICT: that part is there already, or a job uses the data set. */
MUST enum err_code store_dataset_set_part(struct store *s, const char *tenant, const char *id, int split, const struct dataset_part *features,
                                          const struct dataset_part *labels, struct err *e);
MUST enum err_code store_dataset_delete(struct store *s, const char *tenant, const char *id, struct err *e);

/* ---- jobs ---- */
#define JOB_STATE_LIST(X) \
    X(QUEUED, "queued", 0) X(RUNNING, "running", 0) X(PAUSED, "paused", 0) X(CANCELLING, "cancelling", 0) \
    X(SUCCEEDED, "succeeded", 1) X(FAILED, "failed", 1) X(CANCELLED, "cancelled", 1)
#define X(id, name, final) JOB_##id,
enum job_state { JOB_STATE_LIST(X) JOB_STATES };
#undef X
#define JOB_CRASHED "worker_crashed" /* code of the error of a job given up by recovery; any other is err_slug's */
const char *job_state_name(enum job_state s);
bool job_state_final(enum job_state s);
bool job_state_parse(const char *name, enum job_state *out);
bool job_may_move(enum job_state from, enum job_state to); /* the transition table */

struct job_row {
    char id[ID_LEN], tenant[TENANT_LEN], name[128], model[ID_LEN], dataset[ID_LEN];
    enum job_state state;
    int64_t priority, created_ms, started_ms, finished_ms; /* 0: not yet */
    int64_t attempt;            /* times a worker took it */
    int64_t lease_token;        /* grows with each claim */
    int64_t n_iterations;       /* published */
    bool pause_requested;       /* running: to be paused at its next checkpoint */
    double best_metric;         /* of the chosen model, on validation; NAN: none yet */
    char retry_of[ID_LEN];      /* "" : of none */
    char architecture[ID_LEN], weights[ID_LEN]; /* blobs of the model as it was when the job was posted; weights "" : to be trained */
    char checkpoint[ID_LEN];    /* blob, "" : none */
    char result_weights[ID_LEN];/* blob, "" : none */
    char tags[TAGS_LEN];
    char *conf;                 /* JSON, resolved; owned */
    char *progress;             /* JSON or NULL; owned */
    char *baseline;             /* JSON record or NULL; owned */
    char *result;               /* JSON record or NULL; owned */
    char *error;                /* JSON {"code","message"} or NULL; owned */
    const struct answer *answer;
};
void job_row_clear(struct job_row *j);
MUST enum err_code store_job_add(struct store *s, const struct job_row *j, struct err *e); /* state queued; ERR_INVALID at "/model" or "/dataset": it is not there any more */
MUST enum err_code store_job_get(struct store *s, const char *tenant, const char *id, struct job_row *out, struct err *e);
MUST enum err_code store_job_list(struct store *s, const struct page *p, store_row_fn *fn, void *user, bool *more, struct err *e);
/* The same, filtered and sorted. A job that has not ended (has no metric) counts as 0 (JOB_NO_METRIC). */
enum job_sort { JOB_BY_CREATED, JOB_BY_FINISHED, JOB_BY_METRIC, JOB_SORTS };
#define JOB_NO_METRIC (-1e300)
struct job_query {
    const char *tenant;
    const char *state, *name, *model, *dataset; /* NULL: any; name: a part of it, letters of either case */
    const char *tag;                            /* ",a,"; NULL: any */
    enum job_sort sort;
    bool up;                                    /* smallest first */
    char after[ID_LEN];                         /* the last job of the page before, "" : none, */
    double after_value;                         /* and what it is sorted by (not for JOB_BY_CREATED) */
    int limit;
};
MUST enum err_code store_job_query(struct store *s, const struct job_query *q, store_row_fn *fn, void *user, bool *more, struct err *e);
/* queued, paused -> cancelled at once; running -> cancelling; cancelling: as it is; final: ERR_CONFLICT. *now is the state after it. */
MUST enum err_code store_job_cancel(struct store *s, const char *tenant, const char *id, int64_t now_ms, enum job_state *now, struct err *e);
/* queued -> paused at once; running: pause_requested, until its worker has saved it; paused: as it is; else ERR_CONFLICT. *now as above. */
MUST enum err_code store_job_pause(struct store *s, const char *tenant, const char *id, int64_t now_ms, enum job_state *now, struct err *e);
/* paused -> queued; running: no longer pause_requested; queued: as it is; else ERR_CONFLICT. */
MUST enum err_code store_job_resume(struct store *s, const char *tenant, const char *id, int64_t now_ms, enum job_state *now, struct err *e);
/* Of a queued job: 1 is the next, by the rule of store_job_claim as if no running job ended. 0: it is not queued. */
MUST enum err_code store_job_position(struct store *s, const struct job_row *j, int64_t *position, struct err *e);
MUST enum err_code store_job_delete(struct store *s, const char *tenant, const char *id, struct err *e); /* only final ones, else ERR_CONFLICT */
MUST enum err_code store_job_counts(struct store *s, int64_t count[JOB_STATES], struct err *e);

/* Of a job that the caller has got by its tenant. Iteration 0 is the baseline: store_iterations with after 0 begins behind it, store_iteration_get finds it. */
struct iteration_row { int64_t iteration; char weights[ID_LEN]; const char *record; };
MUST enum err_code store_iterations(struct store *s, const char *job, int64_t after, int limit, store_row_fn *fn, void *user, bool *more,
                                    struct err *e);
MUST enum err_code store_iteration_get(struct store *s, const char *job, int64_t n, char weights[ID_LEN], json_t **record, struct err *e);
/* seq: per job 1, 2, ... without gaps; position: grows with each event of any job. Progress is an event that is not stored: both are 0. */
struct event_row { char job[ID_LEN], tenant[TENANT_LEN]; int64_t seq, position, created_ms; const char *type, *data; };
MUST enum err_code store_events(struct store *s, const char *job, int64_t after, int limit, store_row_fn *fn, void *user, bool *more,
                                struct err *e);
/* Of all jobs of a tenant, behind a position. */
MUST enum err_code store_events_all(struct store *s, const char *tenant, int64_t after, int limit, store_row_fn *fn, void *user, bool *more, struct err *e);
MUST enum err_code store_events_last(struct store *s, int64_t *position, struct err *e);
/* fn sees each event once it is committed, in their order; it must be quick and must not call the store. Set before threads use the store. */
void store_listen(struct store *s, void (*fn)(void *user, const struct event_row *ev), void *user);

/* ---- tokens (store_tokens.c) ---- */
struct token_row {
    char id[ID_LEN], tenant[TENANT_LEN], name[128], hash[FILE_HASH_LEN]; /* hash: of the token's text */
    enum scope scope;
    int64_t created_ms, expires_ms, revoked_ms, used_ms; /* 0: never */
};
MUST enum err_code store_token_add(struct store *s, const struct token_row *row, struct err *e); /* one that is there already stays as it is */
MUST enum err_code store_token_get(struct store *s, const char *tenant, const char *id, struct token_row *out, struct err *e);
MUST enum err_code store_token_list(struct store *s, const struct page *p, store_row_fn *fn, void *user, bool *more, struct err *e);
/* tenant NULL: of any, for who may write the data directory. One that is revoked stays as it is. */
MUST enum err_code store_token_revoke(struct store *s, const char *tenant, const char *id, int64_t now_ms, struct err *e);
MUST enum err_code store_tokens_all(struct store *s, store_row_fn *fn, void *user, struct err *e);
struct token_use { char id[ID_LEN]; int64_t ms; };
MUST enum err_code store_tokens_used(struct store *s, const struct token_use *use, size_t n, struct err *e);

/* ---- the queue: what workers do ---- */
/* Of the tenant with the fewest running jobs, of those the one whose last turn is the longest ago: its highest priority, then its oldest. So a
 * thousand jobs of one tenant do not delay the first of another. *found false: nothing to do. attempt + 1, lease_token + 1. */
MUST enum err_code store_job_claim(struct store *s, const char *owner, int64_t now_ms, int64_t lease_ms, struct job_row *out, bool *found,
                                   struct err *e);
/* Renews the lease and records progress (JSON). asked: what clients want of it. ERR_CONFLICT: not ours any more. */
struct job_asked { bool cancel, pause; };
MUST enum err_code store_job_heartbeat(struct store *s, const char *id, int64_t token, int64_t now_ms, int64_t lease_ms, const char *progress,
                                       struct job_asked *asked, struct err *e);
/* One transaction: event, checkpoint (the blob before it goes), baseline or iteration row with its weights. NULL: not part of it. */
struct job_publish {
    int64_t now_ms, iteration; /* of type "iteration": 1, 2, ... without gaps */
    const char *type;          /* "baseline", "iteration", or "checkpoint", which makes no event */
    const char *record;        /* JSON or NULL */
    const struct blob *checkpoint, *weights;
};
MUST enum err_code store_job_publish(struct store *s, const char *id, int64_t token, const struct job_publish *p, struct err *e);
/* Terminal state, result, error and event in one transaction; the checkpoint goes. ERR_CONFLICT also when a client has asked to cancel it
 * and state is not JOB_CANCELLED. */
MUST enum err_code store_job_finish(struct store *s, const char *id, int64_t token, int64_t now_ms, enum job_state state, const char *result,
                                    const struct blob *weights, const char *error, struct err *e);
/* Graceful: back to queued, or paused if that was asked for; attempt not counted. */
MUST enum err_code store_job_release(struct store *s, const char *id, int64_t token, int64_t now_ms, struct err *e);
/* At start: jobs that a dead process of this data directory was running are queued again (or paused, or cancelled, as asked), its deaths counted;
 * one that died crash_limit times in a row without a new checkpoint fails with "worker_crashed". */
MUST enum err_code store_jobs_recover(struct store *s, int64_t now_ms, int crash_limit, int *n_requeued, struct err *e);

/* ---- what may go (store_retention.c) ---- */
/* Finished before that; *n: how many went. */
MUST enum err_code store_jobs_expire(struct store *s, int64_t before_ms, int64_t *n, struct err *e);
/* Models and data sets made before that, which no job names, finished ones included. */
MUST enum err_code store_uploads_expire(struct store *s, int64_t before_ms, int64_t *n, struct err *e);
MUST enum err_code store_tidy(struct store *s, struct err *e); /* the write-ahead log becomes empty, unless it is being read just now */

/* ---- without opening the store: while a daemon may have it (store_backup.c, store_check.c) ---- */
/* A consistent copy of the data directory `from` in `to`, which is made, or is empty: the database as of one moment, then the blobs that its rows name,
 * hard-linked on the same disk, else copied; all synced. The database gets its name last: without it the copy is not whole. A daemon that starts
 * on the copy goes on with its jobs. An error leaves nothing behind. */
struct store_copied { uint64_t blobs, bytes; };
MUST enum err_code store_backup(const char *from, const char *to, struct store_copied *out, struct err *e);
/* All tokens in dir, in the order of their tenants; none where no daemon has been yet. */
MUST enum err_code store_tokens_read(const char *dir, store_row_fn *fn, void *user, struct err *e);
/* What store_open would say about dir, changing nothing. what: a sentence for people about its state. */
MUST enum err_code store_check(const char *dir, char *what, size_t n, struct err *e);

/* ---- figures since the store was opened, for /metrics ---- */
struct store_figures {
    uint64_t writes, write_errors, busy; /* transactions; those that the database failed; those that were run again */
    uint64_t moved[JOB_STATES];          /* jobs that came into this state */
    uint64_t over_bytes, over_jobs;      /* refused by a limit */
    uint64_t wal_bytes, disk_free, disk_floor;
    struct histogram write_seconds;
    struct histogram queue_seconds;           /* from the post to the first claim */
    struct histogram job_seconds[JOB_STATES]; /* of final ones: from the first claim to the end */
};
void store_figures(struct store *s, struct store_figures *out);

#endif
