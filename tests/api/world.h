/* tests/api/world.h: the API without sockets, on a real store: a small world of models, data sets and jobs, and calls that are held against openapi.json. */
#ifndef TESTS_API_WORLD_H
#define TESTS_API_WORLD_H

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "core/mem.h"
#include "server/embed.h"
#include "server/log.h"
#include "tests/api/schema.h"
#include "tests/api/value.h"
#include "tests/suite.h"

#define KERAS "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"net\", \"layers\": [" \
    "{\"class_name\": \"InputLayer\", \"config\": {\"name\": \"in\", \"batch_input_shape\": [null, 2]}}," \
    "{\"class_name\": \"Dense\", \"config\": {\"name\": \"dense\", \"units\": 3, \"activation\": \"softmax\", \"use_bias\": true}}]}}"
#define WEIGHTS "{\"dense/kernel\": {\"shape\": [2, 3], \"data\": [[1, 2, 3], [4, 5, 6]]}, \"dense/bias\": {\"shape\": [3], \"data\": [0, 0, 0.5]}}"

/* ---- a server without sockets ---- */

struct world {
    char dir[64], model[ID_LEN], trained[ID_LEN], dataset[ID_LEN], half[ID_LEN], job[ID_LEN], done[ID_LEN];
    struct app app;
    struct config config;
    struct http_conf conf;
};
static struct world w;

static inline enum err_code temp_path(void *user, const struct req *rq, char *path, size_t n, uint64_t declared, struct err *e)
{
    (void)declared;
    (void)rq;
    (void)e;
    store_temp_path(user, path, n);
    return ERR_OK;
}

static inline struct reply call_bytes(const char *method, const char *target, const void *body, size_t n)
{
    struct reply r;

    http_call(&w.conf, method, target, NULL, body, n, &r);
    reply_value(&r);
    return r;
}

static inline struct reply call(const char *method, const char *target, const char *body)
{
    return call_bytes(method, target, body, body ? strlen(body) : 0);
}

/* What is answered is what openapi.json says. */
static inline void check_contract(const char *method, const char *target, int status, const json_t *reply)
{
    static json_t *doc;
    const char *why = "";
    const json_t *schema;

    if (!doc)
        doc = json_loads(embedded_api[0].text, 0, NULL);
    schema = schema_of_reply(doc, method, target, status);
    ck_assert_msg(schema || status == 404 || status == 405, "%s %s: %d is not described", method, target, status);
    ck_assert_msg(!schema || schema_fits(doc, schema, reply, &why), "%s %s: %d: not as described at \"%s\"", method, target, status, why);
}

/* A call that must get this status; its JSON, borrowed until the next one. */
static inline json_t *expect(int status, const char *method, const char *target, const char *body)
{
    static struct reply r = { .fd = -1 };
    char *text;

    reply_clear(&r);
    r = call(method, target, body);
    text = r.json ? json_dumps(r.json, 0) : NULL;
    ck_assert_msg(r.status == status, "%s %s: %d, not %d: %s", method, target, r.status, status, text ? text : "");
    free(text);
    if (r.json)
        check_contract(method, target, r.status, r.json);
    return r.json;
}

static inline const char *string(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));

    ck_assert_msg(s, "no %s", key);
    return s;
}

static inline void take_id(char id[ID_LEN], const json_t *j)
{
    snprintf(id, ID_LEN, "%s", string(j, "id"));
}

/* format's %s is the id. */
static inline const char *at(const char *format, const char *id)
{
    static char text[2][400];
    static int i;

    i = 1 - i;
    snprintf(text[i], sizeof text[i], format, id);
    return text[i];
}

static inline int n_files(const char *folder)
{
    char path[100];
    DIR *d;
    int n = 0;

    snprintf(path, sizeof path, "%s/%s", w.dir, folder);
    d = opendir(path);
    ck_assert_ptr_nonnull(d);
    for (const struct dirent *f; (f = readdir(d));)
        n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- a small world: models, data sets, a queued job, and one that a worker has finished ---- */

static inline const char *csv(void)
{
    static char text[4000];
    size_t n = (size_t)snprintf(text, sizeof text, "a,b,label\n");

    for (int i = 0; i < 60; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%d,%d,%s\n", i % 7, i % 5, i % 3 == 0 ? "red" : i % 3 == 1 ? "green" : "blue");
    return text;
}

static inline const char *job_body(const char *model, const char *dataset, const char *more)
{
    static char text[1000];

    snprintf(text, sizeof text, "{\"model\": \"%s\", \"dataset\": \"%s\"%s}", model, dataset, more);
    return text;
}

static inline struct blob weights_blob(void)
{
    struct model_row row = { 0 };
    struct model m = { 0 };
    struct blob b;

    ck_assert_int_eq(store_model_get(w.app.store, TENANT_DEFAULT, w.trained, &row, NULL), ERR_OK);
    ck_assert_int_eq(api_model_open(&m, w.app.store, row.architecture.id, row.weights.id, NULL), ERR_OK);
    ck_assert_int_eq(api_model_publish(&b, w.app.store, &m, "safetensors", NULL), ERR_OK);
    model_clear(&m);
    model_row_clear(&row);
    return b;
}

/* What a worker would do with the oldest job. */
static inline void finish_job(void)
{
    struct job_row row = { .conf = NULL };
    struct blob b;
    bool found;

    ck_assert_int_eq(store_job_claim(w.app.store, "test", clock_ms(), 30000, &row, &found, NULL), ERR_OK);
    ck_assert(found);
    b = weights_blob();
    ck_assert_int_eq(store_job_publish(w.app.store, row.id, row.lease_token, &(struct job_publish){ .now_ms = clock_ms(), .type = "baseline",
                     .record = "{\"metrics\": {\"accuracy\": 0.5}}", .weights = &b }, NULL), ERR_OK);
    for (int i = 1; i <= 3; i++) {
        char record[200];

        b = weights_blob();
        snprintf(record, sizeof record, "{\"iteration\": %d, \"sparsity\": 0.%d, \"pruned\": {\"accuracy\": 0.25, \"auc\": null}, "
                 "\"layers\": [{\"kernel\": \"dense\"}], \"note\": \"a \\\"b\\\"\"}", i, i);
        ck_assert_int_eq(store_job_publish(w.app.store, row.id, row.lease_token, &(struct job_publish){ .now_ms = clock_ms(), .iteration = i,
                         .type = "iteration", .record = record, .weights = &b }, NULL), ERR_OK);
    }
    b = weights_blob();
    ck_assert_int_eq(store_job_finish(w.app.store, row.id, row.lease_token, clock_ms(), JOB_SUCCEEDED,
                                      "{\"iteration\": 2, \"metric\": \"accuracy\", \"chosen\": {\"validation\": {\"accuracy\": 0.9}}}", &b, NULL, NULL), ERR_OK);
    memcpy(w.done, row.id, sizeof w.done);
    job_row_clear(&row);
}

static inline void set_up(void)
{
    log_set_level(LOG_ERROR);
    memset(&w, 0, sizeof w);
    snprintf(w.dir, sizeof w.dir, "/tmp/test_api.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(w.dir));
    w.config.max_upload_mb = 1;
    w.app = (struct app){ .config = &w.config, .started_ms = clock_ms() };
    ck_assert_int_eq(store_open(&w.app.store, w.dir, NULL), ERR_OK);
    w.conf = (struct http_conf){ .routes = api_routes, .app = &w.app, .max_upload = 1 << 20, .temp_path = temp_path, .problem = api_problem,
                                 .user = w.app.store };
    take_id(w.model, expect(201, "POST", "/v1/models", KERAS));
    take_id(w.trained, expect(201, "POST", "/v1/models?name=trained", "{\"architecture\": " KERAS ", \"weights\": " WEIGHTS "}"));
    take_id(w.dataset, expect(201, "POST", "/v1/datasets", "{\"name\": \"colours\"}"));
    expect(201, "PUT", at("/v1/datasets/%s/train/table", w.dataset), csv());
    take_id(w.half, expect(201, "POST", "/v1/datasets", NULL));
    expect(201, "POST", "/v1/jobs", job_body(w.trained, w.dataset, ""));
    finish_job();
    take_id(w.job, expect(201, "POST", "/v1/jobs", job_body(w.model, w.dataset, ", \"name\": \"second\"")));
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void tear_down(void)
{
    expect(200, "GET", "/healthz", NULL);
    ck_assert_int_eq(n_files("tmp"), 0);
    store_close(w.app.store);
    nftw(w.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* {model} and so on become ids. */
static inline void fill_in(char *out, size_t n, const char *text)
{
    const struct { const char *word, *id; } names[] = { { "{model}", w.model }, { "{trained}", w.trained }, { "{dataset}", w.dataset },
                                                        { "{half}", w.half }, { "{job}", w.job }, { "{done}", w.done } };
    size_t k = 0;

    while (*text && k + ID_LEN < n) {
        size_t i = 0;

        while (i < 6 && strncmp(text, names[i].word, strlen(names[i].word)) != 0)
            i++;
        if (i < 6) {
            k += (size_t)snprintf(out + k, n - k, "%s", names[i].id);
            text += strlen(names[i].word);
        } else {
            out[k++] = *text++;
        }
    }
    out[k] = '\0';
}

#endif
