/* The API without sockets, on a real store: what every route answers, what it refuses and where, and that a failure leaves nothing behind. */
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

static enum err_code temp_path(void *user, const struct req *rq, char *path, size_t n, uint64_t declared, struct err *e)
{
    (void)declared;
    (void)rq;
    (void)e;
    store_temp_path(user, path, n);
    return ERR_OK;
}

static struct reply call_bytes(const char *method, const char *target, const void *body, size_t n)
{
    struct reply r;

    http_call(&w.conf, method, target, NULL, body, n, &r);
    return r;
}

static struct reply call(const char *method, const char *target, const char *body)
{
    return call_bytes(method, target, body, body ? strlen(body) : 0);
}

/* What is answered is what openapi.json says. */
static void check_contract(const char *method, const char *target, int status, const json_t *reply)
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
static json_t *expect(int status, const char *method, const char *target, const char *body)
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

static const char *string(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));

    ck_assert_msg(s, "no %s", key);
    return s;
}

static void take_id(char id[ID_LEN], const json_t *j)
{
    snprintf(id, ID_LEN, "%s", string(j, "id"));
}

/* format's %s is the id. */
static const char *at(const char *format, const char *id)
{
    static char text[2][400];
    static int i;

    i = 1 - i;
    snprintf(text[i], sizeof text[i], format, id);
    return text[i];
}

static int n_files(const char *folder)
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

static const char *csv(void)
{
    static char text[4000];
    size_t n = (size_t)snprintf(text, sizeof text, "a,b,label\n");

    for (int i = 0; i < 60; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%d,%d,%s\n", i % 7, i % 5, i % 3 == 0 ? "red" : i % 3 == 1 ? "green" : "blue");
    return text;
}

static const char *job_body(const char *model, const char *dataset, const char *more)
{
    static char text[1000];

    snprintf(text, sizeof text, "{\"model\": \"%s\", \"dataset\": \"%s\"%s}", model, dataset, more);
    return text;
}

static struct blob weights_blob(void)
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
static void finish_job(void)
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

static void set_up(void)
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

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void tear_down(void)
{
    expect(200, "GET", "/healthz", NULL);
    ck_assert_int_eq(n_files("tmp"), 0);
    store_close(w.app.store);
    nftw(w.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- refusals ---- */

#define NO_MODEL "/v1/models/mdl_00000000000000000000"
#define NO_JOB "/v1/jobs/job_00000000000000000000"
static const struct { const char *method, *target, *body; int status; const char *where; } refused[] = { /* where: pointer, ?parameter, or NULL */
    { "GET", "/v1/nowhere", NULL, 404, NULL },
    { "DELETE", "/healthz", NULL, 405, NULL },
    { "POST", "/v1/models", "not json", 400, NULL },
    { "POST", "/v1/models", "{}", 422, NULL },
    { "POST", "/v1/models?name=", KERAS, 422, "?name" },
    { "POST", "/v1/models?nom=x", KERAS, 422, "?nom" },
    { "POST", "/v1/models", NULL, 400, NULL },
    { "GET", NO_MODEL, NULL, 404, NULL },
    { "GET", "/v1/models/{job}", NULL, 404, NULL },
    { "GET", "/v1/models/nonsense", NULL, 404, NULL },
    { "DELETE", NO_MODEL, NULL, 404, NULL },
    { "DELETE", "/v1/models/{model}", NULL, 409, NULL },
    { "GET", "/v1/models?limit=0", NULL, 422, "?limit" },
    { "GET", "/v1/models?limit=201", NULL, 422, "?limit" },
    { "GET", "/v1/models?limit=1e2", NULL, 422, "?limit" },
    { "GET", "/v1/models?limit=", NULL, 422, "?limit" },
    { "GET", "/v1/models?limit=99999999999999999999", NULL, 422, "?limit" },
    { "GET", "/v1/models?after=x", NULL, 422, "?after" },
    { "PUT", "/v1/models/{model}/weights", "junk", 400, NULL },
    { "PUT", "/v1/models/{trained}/weights", "junk", 409, NULL },
    { "PUT", NO_MODEL "/weights", "junk", 404, NULL },
    { "GET", "/v1/models/{model}/file?format=safetensors", NULL, 409, NULL },
    { "GET", "/v1/models/{model}/file?format=packed", NULL, 409, NULL },
    { "GET", "/v1/models/{model}/file?format=onnx", NULL, 422, "?format" },
    { "POST", "/v1/datasets", "[]", 422, NULL },
    { "POST", "/v1/datasets", "{\"colour\": 1}", 422, "/colour" },
    { "POST", "/v1/datasets", "{\"name\": 1}", 422, "/name" },
    { "POST", "/v1/datasets", "{\"csv\": {\"delimiter\": \"two\"}}", 422, "/csv/delimiter" },
    { "POST", "/v1/datasets", "{", 400, NULL },
    { "GET", "/v1/datasets/dst_00000000000000000000", NULL, 404, NULL },
    { "DELETE", "/v1/datasets/{dataset}", NULL, 409, NULL },
    { "PUT", "/v1/datasets/{half}/dev/features", "x", 404, NULL },
    { "PUT", "/v1/datasets/{half}/train/pictures", "x", 404, NULL },
    { "PUT", "/v1/datasets/{half}/train/features", "x", 400, NULL },
    { "PUT", "/v1/datasets/{half}/train/table", "a,b,label\nnan,1,x\n", 422, NULL },
    { "PUT", "/v1/datasets/{dataset}/train/table", "a,b\n1,2\n", 409, NULL },
    { "PUT", "/v1/datasets/{dataset}/train/labels", "x", 409, NULL },
    { "POST", "/v1/jobs", NULL, 400, NULL },
    { "POST", "/v1/jobs", "[1]", 422, NULL },
    { "POST", "/v1/jobs", "{}", 422, "/model" },
    { "POST", "/v1/jobs", "{\"model\": 1, \"dataset\": \"{dataset}\"}", 422, "/model" },
    { "POST", "/v1/jobs", "{\"model\": \"mdl_00000000000000000000\", \"dataset\": \"{dataset}\"}", 422, "/model" },
    { "POST", "/v1/jobs", "{\"model\": \"{model}\"}", 422, "/dataset" },
    { "POST", "/v1/jobs", "{\"model\": \"{model}\", \"dataset\": \"{job}\"}", 422, "/dataset" },
    { "POST", "/v1/jobs", "{\"model\": \"{model}\", \"dataset\": \"{half}\"}", 409, "/dataset" },
    { "POST", "/v1/jobs", "{\"model\": \"{model}\", \"dataset\": \"{dataset}\", \"colour\": 1}", 422, "/colour" },
    { "POST", "/v1/jobs", "{\"model\": \"{model}\", \"dataset\": \"{dataset}\", \"prune\": {\"target_sparsity\": 2}}", 422, "/prune/target_sparsity" },
    { "POST", "/v1/jobs", "{\"model\": \"{model}\", \"dataset\": \"{dataset}\", \"prune\": {\"layers\": [{\"layer\": \"x*\", \"ignore\": true}]}}", 422,
      "/prune/layers/0/layer" },
    { "POST", "/v1/jobs", "{\"model\": \"{model}\", \"dataset\": \"{dataset}\", \"train\": {\"optimizer\": {\"type\": \"adam\", \"speed\": 1}}}", 422,
      "/train/optimizer/speed" },
    { "GET", NO_JOB, NULL, 404, NULL },
    { "GET", "/v1/jobs?state=happy", NULL, 422, "?state" },
    { "DELETE", "/v1/jobs/{job}", NULL, 409, NULL },
    { "DELETE", NO_JOB, NULL, 404, NULL },
    { "POST", NO_JOB "/cancel", NULL, 404, NULL },
    { "POST", "/v1/jobs/{done}/cancel", NULL, 409, NULL },
    { "POST", "/v1/jobs/{job}/cancel", "{}", 413, NULL },
    { "POST", NO_JOB "/pause", NULL, 404, NULL },
    { "POST", "/v1/jobs/{done}/pause", NULL, 409, NULL },
    { "POST", "/v1/jobs/{done}/resume", NULL, 409, NULL },
    { "POST", NO_JOB "/retry", NULL, 404, NULL },
    { "POST", "/v1/jobs/{done}/retry", NULL, 409, NULL },
    { "POST", "/v1/jobs/{job}/retry", NULL, 409, NULL },
    { "GET", "/v1/jobs/{job}?wait=61", NULL, 422, "?wait" },
    { "GET", "/v1/jobs?sort=size", NULL, 422, "?sort" },
    { "GET", "/v1/jobs?sort=-metric&after={job}", NULL, 422, "?after" },
    { "GET", "/v1/jobs?sort=-metric&after=nan,{job}", NULL, 422, "?after" },
    { "GET", "/v1/jobs?format=xml", NULL, 422, "?format" },
    { "GET", "/v1/iterations", NULL, 422, "?jobs" },
    { "GET", "/v1/iterations?jobs={job},x", NULL, 422, "?jobs" },
    { "GET", "/v1/iterations?jobs=job_00000000000000000000", NULL, 404, NULL },
    { "GET", "/v1/iterations?jobs={job}&format=xml", NULL, 422, "?format" },
    { "POST", "/v1/jobs?dry_run=maybe", "{\"model\": \"{model}\", \"dataset\": \"{dataset}\"}", 422, "?dry_run" },
    { "POST", "/v1/jobs?dry_run=true", "{\"model\": \"{model}\", \"dataset\": \"{half}\"}", 409, "/dataset" },
    { "POST", "/v1/jobs?dry_run=true", "{\"model\": \"{model}\", \"dataset\": \"{dataset}\", \"x\": 1}", 422, "/x" },
    { "GET", NO_JOB "/iterations", NULL, 404, NULL },
    { "GET", "/v1/jobs/{job}/iterations?format=xml", NULL, 422, "?format" },
    { "GET", "/v1/jobs/{job}/iterations?after=-1", NULL, 422, "?after" },
    { "GET", "/v1/jobs/{job}/iterations/1", NULL, 404, NULL },
    { "GET", "/v1/jobs/{done}/iterations/9", NULL, 404, NULL },
    { "GET", "/v1/jobs/{done}/iterations/99999999999999999999", NULL, 404, NULL },
    { "GET", "/v1/jobs/{done}/iterations/one", NULL, 404, NULL },
    { "GET", "/v1/jobs/{job}/iterations/1/model", NULL, 404, NULL },
    { "GET", "/v1/jobs/{done}/iterations/1/model?format=onnx", NULL, 422, "?format" },
    { "GET", NO_JOB "/events", NULL, 404, NULL },
    { "GET", "/v1/jobs/{job}/model", NULL, 409, NULL },
    { "GET", NO_JOB "/model", NULL, 404, NULL },
};

/* {model} and so on become ids. */
static void fill_in(char *out, size_t n, const char *text)
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

START_TEST(refusals)
{
    int blobs = n_files("blobs");

    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char target[200], body[1000];
        const char *where = refused[i].where;
        const json_t *problem, *error;

        fill_in(target, sizeof target, refused[i].target);
        fill_in(body, sizeof body, refused[i].body ? refused[i].body : "");
        problem = expect(refused[i].status, refused[i].method, target, refused[i].body ? body : NULL);
        string(problem, "title");
        string(problem, "detail");
        string(problem, "request_id");
        ck_assert_int_eq(json_integer_value(json_object_get(problem, "status")), refused[i].status);
        if (!where)
            continue;
        error = json_array_get(json_object_get(problem, "errors"), 0);
        ck_assert_msg(error, "%s %s names no field", refused[i].method, target);
        ck_assert_str_eq(string(error, *where == '?' ? "parameter" : "pointer"), where + (*where == '?'));
    }
    ck_assert_int_eq(n_files("blobs"), blobs);
}
END_TEST

START_TEST(every_code_has_a_status) /* and a title; only ERR_OK is no error */
{
    struct reply r = call("GET", "/nowhere", NULL);
    struct req rq = { .path = "/x\xff", .request_id = "r" };

    for (int c = 1; c < ERR_COUNT; c++) {
        struct err e = { .code = (enum err_code)c, .at = "/a\xff", .msg = "quoted: \xfe" };
        int status = 0;
        json_t *j = api_problem(&e, &rq, &status);

        ck_assert(status >= 400 && status < 600);
        ck_assert_str_eq(string(j, "code"), err_slug(e.code));
        ck_assert_str_eq(string(j, "detail"), "quoted: ?");
        json_decref(j);
    }
    reply_clear(&r);
}
END_TEST

/* ---- happy paths ---- */

START_TEST(models)
{
    const json_t *j = expect(200, "GET", at("/v1/models/%s", w.trained), NULL), *files = json_object_get(j, "files");

    ck_assert_str_eq(string(j, "name"), "trained");
    ck_assert(json_is_true(json_object_get(j, "trained")));
    ck_assert_int_eq(json_integer_value(json_object_get(j, "params")), 9);
    ck_assert_uint_eq(json_array_size(json_object_get(j, "layers")) > 0, 1);
    ck_assert_uint_eq(strlen(string(json_object_get(files, "weights"), "sha256")), 64);
    j = expect(200, "GET", at("/v1/models/%s", w.model), NULL);
    ck_assert_str_eq(string(j, "name"), "net");
    ck_assert(json_is_null(json_object_get(json_object_get(j, "files"), "weights")));
    j = expect(200, "GET", "/v1/models?limit=1", NULL);
    ck_assert(json_is_true(json_object_get(j, "has_more")));
    j = json_array_get(json_object_get(j, "data"), 0);
    ck_assert_str_eq(string(j, "id"), w.trained);
    ck_assert_ptr_null(json_object_get(j, "layers"));
    j = expect(200, "GET", at("/v1/models?after=%s", w.trained), NULL);
    ck_assert(json_is_false(json_object_get(j, "has_more")));
    ck_assert_str_eq(string(json_array_get(json_object_get(j, "data"), 0), "id"), w.model);
}
END_TEST

static char *download(const char *target, size_t *n)
{
    struct reply r = call("GET", target, NULL);
    char *text;

    ck_assert_msg(r.status == 200 && r.fd >= 0, "%s: %d", target, r.status);
    ck_assert_uint_eq(strlen(r.etag), 64);
    ck_assert_ptr_nonnull(strstr(r.disposition, "attachment; filename=\""));
    *n = r.fd_bytes;
    text = mem_alloc(*n + 1);
    ck_assert_int_eq(read(r.fd, text, *n + 1), (ssize_t)*n);
    reply_clear(&r);
    return text;
}

START_TEST(weights_go_in_as_they_came_out) /* in every format, by every way */
{
    size_t n, n2;
    char *st = download(at("/v1/models/%s/file?format=safetensors", w.trained), &n), *again, *doc;
    const char *target = at("/v1/models/%s/weights", w.model);
    struct reply r = call_bytes("PUT", target, st, n);
    char id[ID_LEN];

    ck_assert_int_eq(r.status, 201);
    ck_assert(json_is_true(json_object_get(r.json, "trained")));
    reply_clear(&r);
    again = download(at("/v1/models/%s/file?format=safetensors", w.model), &n2);
    ck_assert(n == n2 && memcmp(st, again, n) == 0);
    mem_free(again);
    for (const char *const *p = (const char *const[]){ "/v1/models/%s/file?format=packed", "/v1/models/%s/file", NULL }; *p; p++) {
        doc = download(at(*p, w.model), &n2);
        r = call_bytes("POST", "/v1/models", doc, n2);
        ck_assert_int_eq(r.status, 201);
        take_id(id, r.json);
        reply_clear(&r);
        mem_free(doc);
        again = download(at("/v1/models/%s/file?format=safetensors", id), &n2);
        ck_assert(n == n2 && memcmp(st, again, n) == 0);
        mem_free(again);
    }
    r = call_bytes("POST", "/v1/models", "ESPACKED", 8);
    ck_assert_int_eq(r.status, 400);
    reply_clear(&r);
    for (const char *const *p = (const char *const[]){ "/v1/jobs/%s/model?format=safetensors", "/v1/jobs/%s/iterations/2/model?format=safetensors",
                                                       "/v1/jobs/%s/iterations/0/model?format=safetensors", NULL }; *p; p++) {
        again = download(at(*p, w.done), &n2);
        ck_assert(n == n2 && memcmp(st, again, n) == 0);
        mem_free(again);
    }
    mem_free(st);
    again = download(at("/v1/jobs/%s/model?format=keras", w.done), &n2);
    mem_free(again);
    expect(204, "DELETE", at("/v1/models/%s", id), NULL);
    expect(404, "GET", at("/v1/models/%s", id), NULL);
}
END_TEST

START_TEST(datasets)
{
    const json_t *j = expect(200, "GET", at("/v1/datasets/%s", w.dataset), NULL), *splits = json_object_get(j, "splits");

    ck_assert(json_is_true(json_object_get(j, "ready")));
    ck_assert_uint_eq(json_array_size(json_object_get(j, "problems")), 0);
    ck_assert_uint_eq(json_array_size(json_object_get(j, "classes")), 3);
    ck_assert_str_eq(string(j, "task"), "classification");
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(json_object_get(splits, "train"), "features"), "samples")), 60);
    ck_assert(json_is_null(json_object_get(json_object_get(splits, "test"), "features")));
    j = expect(200, "GET", at("/v1/datasets/%s", w.half), NULL);
    ck_assert(json_is_false(json_object_get(j, "ready")));
    ck_assert_str_eq(string(json_array_get(json_object_get(j, "problems"), 0), "pointer"), "/train/features");
    ck_assert_str_eq(string(json_array_get(json_object_get(j, "problems"), 1), "pointer"), "/train/labels");
    expect(201, "PUT", at("/v1/datasets/%s/train/table", w.half), "a,b,label\n1,2,x\n2,1,y\n");
    j = expect(201, "PUT", at("/v1/datasets/%s/test/table", w.half), "a,b,label\n1,2,z\n");
    ck_assert(json_is_false(json_object_get(j, "ready"))); /* a class that train does not know */
    ck_assert_str_eq(string(json_array_get(json_object_get(j, "problems"), 0), "pointer"), "/test/labels");
    j = expect(200, "GET", "/v1/datasets", NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(j, "data")), 2);
    ck_assert(json_is_true(json_object_get(json_array_get(json_object_get(j, "data"), 1), "ready")));
    expect(204, "DELETE", at("/v1/datasets/%s", w.half), NULL);
    expect(404, "GET", at("/v1/datasets/%s", w.half), NULL);
}
END_TEST

START_TEST(jobs)
{
    const json_t *j = expect(200, "GET", at("/v1/jobs/%s", w.job), NULL), *config = json_object_get(j, "config");

    ck_assert_str_eq(string(j, "state"), "queued");
    ck_assert_str_eq(string(j, "name"), "second");
    ck_assert(json_is_null(json_object_get(j, "finished_at")));
    ck_assert(json_is_object(json_object_get(config, "prune")));
    ck_assert_ptr_null(json_object_get(json_object_get(j, "links"), "model"));
    j = expect(200, "GET", at("/v1/jobs/%s", w.done), NULL);
    ck_assert_str_eq(string(j, "state"), "succeeded");
    ck_assert_int_eq(json_integer_value(json_object_get(j, "iterations")), 3);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(j, "config"), "seed")), 1);
    ck_assert(json_is_object(json_object_get(j, "baseline")) && json_is_object(json_object_get(j, "result")));
    string(json_object_get(j, "links"), "model");
    j = expect(200, "GET", "/v1/jobs?state=queued", NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(j, "data")), 1);
    j = expect(200, "GET", at("/v1/jobs?limit=1&after=%s", w.job), NULL);
    ck_assert_str_eq(string(json_array_get(json_object_get(j, "data"), 0), "id"), w.done);
    j = expect(200, "POST", at("/v1/jobs/%s/cancel", w.job), NULL);
    ck_assert_str_eq(string(j, "state"), "cancelled");
    expect(204, "DELETE", at("/v1/jobs/%s", w.job), NULL);
    expect(404, "GET", at("/v1/jobs/%s", w.job), NULL);
}
END_TEST

START_TEST(a_running_job_is_cancelled_later)
{
    struct job_row row = { .conf = NULL };
    bool found;

    ck_assert_int_eq(store_job_claim(w.app.store, "test", clock_ms(), 30000, &row, &found, NULL), ERR_OK);
    ck_assert(found);
    for (int i = 0; i < 2; i++) {
        const json_t *j = expect(202, "POST", at("/v1/jobs/%s/cancel", w.job), NULL);

        ck_assert_str_eq(string(j, "state"), "cancelling");
    }
    job_row_clear(&row);
}
END_TEST

START_TEST(a_job_must_fit_into_memory)
{
    w.app.memory_per_job = 1;
    ck_assert_ptr_nonnull(strstr(string(expect(422, "POST", "/v1/jobs", job_body(w.model, w.dataset, "")), "detail"), "memory"));
    w.app.memory_per_job = 0;
}
END_TEST

START_TEST(iterations_and_events)
{
    const json_t *j = expect(200, "GET", at("/v1/jobs/%s/iterations?limit=2", w.done), NULL);
    struct reply r;

    ck_assert_uint_eq(json_array_size(json_object_get(j, "data")), 2);
    ck_assert(json_is_true(json_object_get(j, "has_more")));
    j = expect(200, "GET", at("/v1/jobs/%s/iterations?after=2", w.done), NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(j, "data")), 1);
    j = expect(200, "GET", at("/v1/jobs/%s/iterations/3", w.done), NULL);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "iteration")), 3);
    r = call("GET", at("/v1/jobs/%s/iterations?format=csv", w.done), NULL);
    ck_assert_str_eq(r.text, "iteration,sparsity,pruned_accuracy,pruned_auc,note\n1,0.1,0.25,,\"a \"\"b\"\"\"\n2,0.2,0.25,,\"a \"\"b\"\"\"\n"
                             "3,0.3,0.25,,\"a \"\"b\"\"\"\n");
    ck_assert_ptr_nonnull(strstr(r.content_type, "text/csv"));
    reply_clear(&r);
    r = call("GET", at("/v1/jobs/%s/iterations?format=csv&limit=1&after=2", w.done), NULL);
    ck_assert_str_eq(r.text, "iteration,sparsity,pruned_accuracy,pruned_auc,note\n3,0.3,0.25,,\"a \"\"b\"\"\"\n");
    reply_clear(&r);
    r = call("GET", at("/v1/jobs/%s/iterations?format=csv", w.job), NULL);
    ck_assert_str_eq(r.text, "");
    reply_clear(&r);
    j = expect(200, "GET", at("/v1/jobs/%s/events?limit=200", w.done), NULL);
    j = json_object_get(j, "data");
    ck_assert_uint_ge(json_array_size(j), 5);
    for (size_t i = 0; i < json_array_size(j); i++)
        ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(j, i), "id")), (json_int_t)i + 1);
}
END_TEST

/* The ids of a page in their order, blanks between; *next: its cursor. */
static const char *page_of_jobs(const char *target, char next[80])
{
    static char text[2000];
    const json_t *j = expect(200, "GET", target, NULL), *data = json_object_get(j, "data");
    size_t k = 0;

    text[0] = '\0';
    for (size_t i = 0; i < json_array_size(data); i++)
        k += (size_t)snprintf(text + k, sizeof text - k, "%s ", string(json_array_get(data, i), "id"));
    snprintf(next, 80, "%s", json_is_null(json_object_get(j, "next")) ? "" : string(j, "next"));
    return text;
}

START_TEST(jobs_sorted_and_filtered)
{
    static const char *const sorts[] = { "created", "-created", "finished", "-finished", "metric", "-metric" };
    char next[80], whole[2000], pages[2000], target[200];
    struct reply r;

    for (int i = 0; i < 3; i++)
        expect(201, "POST", "/v1/jobs", job_body(w.model, w.dataset, i == 1 ? ", \"name\": \"An_Odd%One\"" : ""));
    for (size_t s = 0; s < sizeof sorts / sizeof sorts[0]; s++) {
        snprintf(target, sizeof target, "/v1/jobs?sort=%s&limit=200", sorts[s]);
        snprintf(whole, sizeof whole, "%s", page_of_jobs(target, next));
        ck_assert_str_eq(next, "");
        ck_assert_uint_eq(strlen(whole), 5 * 25);
        pages[0] = '\0';
        do { /* two at a time: nothing is left out, nothing comes twice */
            snprintf(target, sizeof target, "/v1/jobs?sort=%s&limit=2%s%s", sorts[s], *next ? "&after=" : "", next);
            snprintf(pages + strlen(pages), sizeof pages - strlen(pages), "%s", page_of_jobs(target, next));
        } while (*next);
        ck_assert_str_eq(pages, whole);
        ck_assert_msg(s < 2 || strncmp(whole + (*sorts[s] == '-' ? 0 : 100), w.done, 24) == 0, "%s: the only job that has ended", sorts[s]);
    }
    ck_assert_uint_eq(strlen(page_of_jobs("/v1/jobs?name=an_odd%25", next)), 25);
    ck_assert_uint_eq(strlen(page_of_jobs("/v1/jobs?name=_", next)), 25);
    ck_assert_uint_eq(strlen(page_of_jobs("/v1/jobs?sort=metric&state=succeeded", next)), 25);
    ck_assert_uint_eq(strlen(page_of_jobs(at("/v1/jobs?model=%s&limit=1", w.trained), next)), 25); /* the one that is done */
    ck_assert_uint_gt(strlen(page_of_jobs(at("/v1/jobs?dataset=%s", w.dataset), next)), 50);
    r = call("GET", "/v1/jobs?format=csv&limit=1&name=odd", NULL);
    ck_assert_int_eq(strncmp(r.text, "id,name,state,priority,model,dataset,created_at,started_at,finished_at,attempt,iterations,best_metric,retry_of\n\"job_", 115), 0);
    ck_assert_ptr_nonnull(strstr(r.text, "\",\"An_Odd%One\",\"queued\",0,"));
    reply_clear(&r);
    r = call("GET", "/v1/jobs?format=ndjson&limit=3", NULL);
    ck_assert_str_eq(r.content_type, "application/x-ndjson");
    for (const char *line = r.text, *end; *line; line = end + 1) {
        json_t *j = json_loadb(line, (size_t)((end = strchr(line, '\n')) - line), 0, NULL);

        ck_assert_str_eq(string(j, "object"), "job");
        json_decref(j);
    }
    reply_clear(&r);
}
END_TEST

START_TEST(curves_of_several_jobs)
{
    char target[300];
    const json_t *j;
    struct reply r;

    snprintf(target, sizeof target, "/v1/iterations?jobs=%s,%s", w.job, w.done);
    j = json_object_get(expect(200, "GET", target, NULL), "data");
    ck_assert_uint_eq(json_array_size(j), 2);
    ck_assert_uint_eq(json_array_size(json_object_get(json_array_get(j, 0), "data")), 0);
    ck_assert_str_eq(string(json_array_get(j, 1), "job"), w.done);
    ck_assert_uint_eq(json_array_size(json_object_get(json_array_get(j, 1), "data")), 3);
    snprintf(target, sizeof target, "/v1/iterations?jobs=%s&format=csv", w.done);
    r = call("GET", target, NULL);
    ck_assert_int_eq(strncmp(r.text, "job,iteration,sparsity,", 23), 0);
    reply_clear(&r);
}
END_TEST

START_TEST(a_dry_run_tells_and_stores_nothing)
{
    char next[80];
    const json_t *j = expect(200, "POST", "/v1/jobs?dry_run=true", job_body(w.model, w.dataset, ", \"prune\": {\"iterations\": 2, \"scope\": \"layer\","
                                                                            " \"schedule\": \"linear\", \"target_sparsity\": 0.5}"));
    const json_t *layer = json_array_get(json_object_get(j, "layers"), 0), *last = json_array_get(json_object_get(j, "iterations"), 1);

    ck_assert_str_eq(string(layer, "name"), "dense");
    ck_assert_int_eq(json_integer_value(json_object_get(layer, "weights")), 6);
    ck_assert_int_eq(json_integer_value(json_object_get(last, "nonzero")), 3);
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(json_object_get(last, "layers"), 0), "nonzero")), 3);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(json_object_get(j, "config"), "prune"), "iterations")), 2);
    ck_assert_int_gt(json_integer_value(json_object_get(json_object_get(j, "memory"), "needed_bytes")), 0);
    ck_assert_uint_eq(strlen(page_of_jobs("/v1/jobs", next)), 50);
}
END_TEST

START_TEST(pause_resume_retry)
{
    const json_t *j = expect(200, "POST", at("/v1/jobs/%s/pause", w.job), NULL);
    char again[ID_LEN];

    ck_assert_str_eq(string(j, "state"), "paused");
    j = expect(200, "POST", at("/v1/jobs/%s/resume", w.job), NULL);
    ck_assert_str_eq(string(j, "state"), "queued");
    j = expect(200, "GET", at("/v1/jobs/%s", w.job), NULL);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "queue_position")), 1);
    expect(200, "POST", at("/v1/jobs/%s/cancel", w.job), NULL);
    j = expect(201, "POST", at("/v1/jobs/%s/retry", w.job), NULL);
    ck_assert_str_eq(string(j, "retry_of"), w.job);
    ck_assert_str_eq(string(j, "state"), "queued");
    ck_assert_str_ne(string(j, "id"), w.job);
    take_id(again, j);
    j = expect(200, "GET", at("/v1/jobs/%s", again), NULL);
    ck_assert(json_is_null(json_object_get(j, "started_at")) && json_is_null(json_object_get(j, "error")));
}
END_TEST

static bool never_ready(void) { return true; }

START_TEST(the_server_itself)
{
    const json_t *j = expect(200, "GET", "/v1/capabilities", NULL);
    struct reply r = call("GET", "/metrics", NULL);

    ck_assert_uint_gt(json_array_size(json_object_get(j, "criteria")), 1);
    ck_assert_uint_gt(json_array_size(json_object_get(j, "ops")), 5);
    ck_assert_uint_gt(json_array_size(json_object_get(j, "metrics")), 5);
    ck_assert(json_is_object(json_object_get(json_object_get(j, "job"), "properties")));
    ck_assert_ptr_nonnull(strstr(r.text, "espalier_jobs{state=\"queued\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(r.text, "espalier_http_requests_total{method=\"POST\",route=\"/v1/jobs\",code=\"201\"} "));
    reply_clear(&r);
    r = call("GET", "/openapi.json", NULL);
    ck_assert_ptr_nonnull(strstr(r.text, "\"openapi\""));
    reply_clear(&r);
    string(json_object_get(expect(200, "GET", "/", NULL), "links"), "jobs");
    expect(200, "GET", "/readyz", NULL);
    w.app.draining = never_ready;
    expect(503, "GET", "/readyz", NULL);
}
END_TEST

/* ---- failures ---- */

static const struct { const char *method, *target, *body; int status; } walked[] = {
    { "POST", "/v1/models", "{\"architecture\": " KERAS ", \"weights\": " WEIGHTS "}", 201 },
    { "POST", "/v1/datasets", "{\"name\": \"d\"}", 201 },
    { "POST", "/v1/jobs", "{\"model\": \"{trained}\", \"dataset\": \"{dataset}\"}", 201 },
    { "GET", "/v1/models/{trained}", NULL, 200 },
    { "GET", "/v1/models/{trained}/file", NULL, 200 },
    { "GET", "/v1/datasets", NULL, 200 },
    { "GET", "/v1/jobs", NULL, 200 },
    { "GET", "/v1/jobs?sort=metric&name=a&format=csv", NULL, 200 },
    { "GET", "/v1/jobs/{done}", NULL, 200 },
    { "GET", "/v1/jobs/{done}/iterations", NULL, 200 },
    { "GET", "/v1/jobs/{done}/iterations?format=csv", NULL, 200 },
    { "GET", "/v1/jobs/{done}/events", NULL, 200 },
    { "GET", "/metrics", NULL, 200 },
    { "POST", "/v1/jobs", "{\"model\": \"{trained}\", \"dataset\": \"{dataset}\", \"x\": 1}", 422 },
};

/* Every allocation of ours fails once: 503, and no file stays. (Not Jansson's: its parser writes past its buffer when one of its own fails.) */
START_TEST(memory_failures)
{
    char target[200], body[1000];
    bool fired = true;

    fill_in(target, sizeof target, walked[_i].target);
    fill_in(body, sizeof body, walked[_i].body ? walked[_i].body : "");
    for (long k = 1; fired; k++) {
        int blobs = n_files("blobs");
        struct reply r;

        mem_fail_in = k;
        r = call(walked[_i].method, target, walked[_i].body ? body : NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        if (fired) {
            ck_assert_msg(r.status == 503 || r.status == walked[_i].status, "allocation %ld of %s %s: %d", k, walked[_i].method, target, r.status);
            ck_assert_msg(r.status != 503 || n_files("blobs") == blobs, "allocation %ld of %s %s left a file", k, walked[_i].method, target);
        } else {
            ck_assert_int_eq(r.status, walked[_i].status);
        }
        reply_clear(&r);
        ck_assert_int_eq(n_files("tmp"), 0);
    }
}
END_TEST

/* Every write fails once: 507, and no file stays. */
START_TEST(disk_failures)
{
    static const struct { const char *method, *target, *body; int status; } row[] = {
        { "POST", "/v1/models", "{\"architecture\": " KERAS ", \"weights\": " WEIGHTS "}", 201 },
        { "PUT", "/v1/datasets/{half}/train/table", "a,b,label\n1,2,x\n2,1,y\n", 201 },
        { "GET", "/v1/models/{trained}/file", NULL, 200 },
    };

    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        bool fired = true;
        char target[200];

        fill_in(target, sizeof target, row[i].target);
        for (long k = 1; fired; k++) {
            int blobs = n_files("blobs");
            struct reply r;

            file_fail_in = k;
            r = call(row[i].method, target, row[i].body);
            fired = file_fail_in == 0;
            file_fail_in = 0;
            ck_assert_msg(r.status == (fired ? 507 : row[i].status), "write %ld of %s: %d", k, target, r.status);
            ck_assert_msg(!fired || n_files("blobs") == blobs, "write %ld of %s left a file", k, target);
            reply_clear(&r);
        }
    }
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "api");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, every_code_has_a_status);
    tcase_add_test(tc, models);
    tcase_add_test(tc, weights_go_in_as_they_came_out);
    tcase_add_test(tc, datasets);
    tcase_add_test(tc, jobs);
    tcase_add_test(tc, a_running_job_is_cancelled_later);
    tcase_add_test(tc, a_job_must_fit_into_memory);
    tcase_add_test(tc, iterations_and_events);
    tcase_add_test(tc, pause_resume_retry);
    tcase_add_test(tc, jobs_sorted_and_filtered);
    tcase_add_test(tc, curves_of_several_jobs);
    tcase_add_test(tc, a_dry_run_tells_and_stores_nothing);
    tcase_add_test(tc, the_server_itself);
    tcase_add_loop_test(tc, memory_failures, 0, sizeof walked / sizeof walked[0]);
    tcase_add_test(tc, disk_failures);
}
SUITE_MAIN("api", cases)
