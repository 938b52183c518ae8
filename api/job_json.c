/* api/job_json.c: jobs as clients see them. Most of an answer is JSON that the job's row has as text, which goes in as it stands: to parse it, only to write
 * it again, took four fifths of the time of a request for a job. So an answer is made as text, and a value, where one is needed, of that text. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "core/digits.h"
#include "core/jsonguard.h"
#include "core/mem.h"

/* A value as it stands; NULL: null. */
static void add(struct api_text *t, const char *key, const char *json)
{
    api_text_cat(t, ",\"", key, "\":", json ? json : "null", NULL);
}

static void add_string(struct api_text *t, const char *key, const char *value)
{
    api_text_cat(t, ",\"", key, "\":", NULL);
    api_text_string(t, value);
}

static void add_int(struct api_text *t, const char *key, int64_t v)
{
    char text[DIGITS_LEN];

    digits(text, v);
    add(t, key, text);
}

static void add_seconds(struct api_text *t, const char *key, int64_t ms)
{
    if (ms)
        add_int(t, key, ms / 1000);
    else
        add(t, key, NULL);
}

static json_t *metric_json(const struct job_row *j)
{
    return isnan(j->best_metric) ? json_null() : json_real(j->best_metric);
}

/* Takes v. */
static void add_value(struct api_text *t, const char *key, json_t *v)
{
    char *text = json_text(v, JSON_COMPACT | JSON_ENCODE_ANY, NULL);

    t->failed = t->failed || !text;
    add(t, key, text);
    mem_free(text);
    json_decref(v);
}

/* When a job that does not run will end, nobody knows. */
static void add_progress(struct api_text *t, const struct job_row *j)
{
    static const char eta[] = "\"eta_seconds\":";
    const char *at = j->progress && j->state != JOB_RUNNING ? strstr(j->progress, eta) : NULL;

    add(t, "progress", at ? "" : j->progress);
    if (!at)
        return;
    at += sizeof eta - 1;
    api_text_put(t, j->progress, (size_t)(at - j->progress));
    api_text_cat(t, "null", at + strcspn(at, ",}"), NULL);
}

static void add_links(struct api_text *t, const struct job_row *j)
{
    static const char base[] = "\":\"/v1/jobs/";

    api_text_cat(t, ",\"links\":{\"self", base, j->id, "\",\"iterations", base, j->id, "/iterations\",\"events", base, j->id, "/events\"", NULL);
    if (*j->result_weights)
        api_text_cat(t, ",\"model", base, j->id, "/model\"", NULL);
    api_text_cat(t, "}", NULL);
}

/* Lists leave out what is long. */
static void add_job(struct api_text *t, const struct job_row *j, bool in_list)
{
    api_text_cat(t, "{\"object\":\"job\"", NULL);
    add_string(t, "id", j->id);
    add_string(t, "name", j->name);
    add_value(t, "tags", api_tags_json(j->tags));
    add_string(t, "state", job_state_name(j->state));
    add(t, "pause_requested", j->pause_requested ? "true" : "false");
    if (*j->retry_of)
        add_string(t, "retry_of", j->retry_of);
    else
        add(t, "retry_of", NULL);
    add_value(t, "best_metric", metric_json(j));
    add_int(t, "priority", j->priority);
    add_string(t, "model", j->model);
    add_string(t, "dataset", j->dataset);
    add_seconds(t, "created_at", j->created_ms);
    add_seconds(t, "started_at", j->started_ms);
    add_seconds(t, "finished_at", j->finished_ms);
    add_int(t, "attempt", j->attempt);
    add_int(t, "iterations", j->n_iterations);
    add_progress(t, j);
    add(t, "error", j->error);
    if (!in_list) {
        add(t, "baseline", j->baseline);
        add(t, "result", j->result);
        add(t, "config", j->conf);
    }
    add_links(t, j);
}

json_t *api_job_json(const struct job_row *j, bool in_list)
{
    struct api_text t = { 0 };
    json_t *o;

    add_job(&t, j, in_list);
    api_text_cat(&t, "}", NULL);
    o = t.failed ? NULL : json_loads(t.s, 0, NULL);
    mem_free(t.s);
    return o;
}

void api_job_text(struct api_text *t, const struct job_row *j, int64_t position)
{
    add_job(t, j, false);
    if (position)
        add_int(t, "queue_position", position);
    else
        add(t, "queue_position", NULL);
    api_text_cat(t, "}\n", NULL);
}

json_t *api_job_flat(const struct job_row *j)
{
    size_t n = strlen(j->tags);

    return json_pack("{s:s,s:s,s:s,s:I,s:s,s:s,s:o,s:o,s:o,s:I,s:I,s:o,s:s?,s:s%}", "id", j->id, "name", j->name, "state", job_state_name(j->state),
                     "priority", (json_int_t)j->priority, "model", j->model, "dataset", j->dataset, "created_at", api_seconds(j->created_ms),
                     "started_at", api_seconds(j->started_ms), "finished_at", api_seconds(j->finished_ms), "attempt", (json_int_t)j->attempt,
                     "iterations", (json_int_t)j->n_iterations, "best_metric", metric_json(j), "retry_of",
                     *j->retry_of ? j->retry_of : NULL, "tags", j->tags + (n > 0), n > 0 ? n - 2 : (size_t)0);
}

void api_job_etag(const struct job_row *j, int64_t position, char *etag, size_t n)
{
    const char *text[] = { j->progress, j->baseline, j->error, j->tags };
    uint64_t h = API_HASH ^ (uint64_t)j->attempt ^ (uint64_t)position << 32 ^ (uint64_t)j->pause_requested << 31;

    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
        h = api_hash(h, text[i]);
    snprintf(etag, n, "%s-%lld-%016llx", job_state_name(j->state), (long long)j->n_iterations, (unsigned long long)h);
}
