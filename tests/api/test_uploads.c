/* Models, data sets and the server itself: what their routes answer. */
#include "tests/api/world.h"

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
    string(expect(200, "GET", "/openapi.json", NULL), "openapi");
    string(json_object_get(expect(200, "GET", "/", NULL), "links"), "jobs");
    expect(200, "GET", "/readyz", NULL);
    w.app.draining = never_ready;
    expect(503, "GET", "/readyz", NULL);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "uploads");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, models);
    tcase_add_test(tc, weights_go_in_as_they_came_out);
    tcase_add_test(tc, datasets);
    tcase_add_test(tc, the_server_itself);
}
SUITE_MAIN("uploads", cases)
