/* Tags and versions: they come with what is made, are found by it, and are changed by whoever has seen the newest version. */
#include "tests/api/world.h"

static struct reply with(const char *method, const char *target, const char *header, const char *value, const char *body)
{
    const char *const headers[] = { header, value, NULL };
    struct reply r;

    http_call_with(&w.conf, method, target, headers, body, body ? strlen(body) : 0, &r);
    reply_value(&r);
    return r;
}

static int status_with(const char *method, const char *target, const char *header, const char *value, const char *body)
{
    struct reply r = with(method, target, header, value, body);
    int status = r.status;

    reply_clear(&r);
    return status;
}

static void quoted_etag(char *out, size_t n, const char *target)
{
    struct reply r = call("GET", target, NULL);

    ck_assert_int_eq(r.status, 200);
    ck_assert_msg(*r.etag, "%s has no ETag", target);
    snprintf(out, n, "\"%s\"", r.etag);
    reply_clear(&r);
}

/* "a b " */
static const char *tags_of(const json_t *j)
{
    static char text[300];
    const json_t *list = json_object_get(j, "tags");
    size_t k = 0;

    ck_assert(json_is_array(list));
    text[0] = '\0';
    for (size_t i = 0; i < json_array_size(list); i++)
        k += (size_t)snprintf(text + k, sizeof text - k, "%s ", json_string_value(json_array_get(list, i)));
    return text;
}

static const struct { const char *list, *make, *body; } kinds[] = {
    { "/v1/models", "/v1/models?tags=a,long%20one", KERAS },
    { "/v1/datasets", "/v1/datasets", "{\"tags\": [\"a\", \"long one\"]}" },
    { "/v1/jobs", "/v1/jobs", "{\"model\": \"{trained}\", \"dataset\": \"{dataset}\", \"tags\": [\"a\", \"long one\"]}" },
};

START_TEST(made_found_changed)
{
    char body[1000], target[200], id[ID_LEN], etag[100], old[100];
    const json_t *j;
    struct reply r;

    fill_in(body, sizeof body, kinds[_i].body);
    j = expect(201, "POST", kinds[_i].make, body);
    ck_assert_str_eq(tags_of(j), "a long one ");
    take_id(id, j);
    snprintf(target, sizeof target, "%s?tag=long%%20one", kinds[_i].list);
    j = json_object_get(expect(200, "GET", target, NULL), "data");
    ck_assert_uint_eq(json_array_size(j), 1);
    ck_assert_str_eq(string(json_array_get(j, 0), "id"), id);
    for (const char *const *none = (const char *const[]){ "long", "A", "one", "a%25", NULL }; *none; none++) { /* whole tags, exactly */
        snprintf(target, sizeof target, "%s?tag=%s", kinds[_i].list, *none);
        ck_assert_uint_eq(json_array_size(json_object_get(expect(200, "GET", target, NULL), "data")), 0);
    }
    snprintf(target, sizeof target, "%s/%s", kinds[_i].list, id);
    ck_assert_str_eq(tags_of(expect(200, "GET", target, NULL)), "a long one ");
    quoted_etag(old, sizeof old, target);
    ck_assert_int_eq(status_with("GET", target, "If-None-Match", old, NULL), 304);
    r = with("PATCH", target, "If-Match", old, "{\"tags\": [\"b\"]}");
    ck_assert_int_eq(r.status, 200);
    ck_assert_str_eq(tags_of(r.json), "b ");
    snprintf(etag, sizeof etag, "\"%s\"", r.etag);
    reply_clear(&r);
    ck_assert_str_ne(etag, old);
    quoted_etag(body, sizeof body, target);
    ck_assert_str_eq(body, etag);
    ck_assert_int_eq(status_with("PATCH", target, "If-Match", old, "{\"tags\": []}"), 412);
    ck_assert_int_eq(status_with("DELETE", target, "If-Match", old, NULL), 412);
    ck_assert_str_eq(tags_of(expect(200, "GET", target, NULL)), "b ");
    expect(200, "PATCH", target, "{\"tags\": []}"); /* without a condition */
    ck_assert_str_eq(tags_of(expect(200, "GET", target, NULL)), "");
    expect(422, "PATCH", target, "{}");
    expect(422, "PATCH", target, "{\"tags\": [], \"name\": \"x\"}");
    expect(422, "PATCH", target, "[]");
    ck_assert_int_eq(status_with("PATCH", target, "If-Match", "*", "{\"tags\": [\"c\"]}"), 200);
    if (_i == 2)
        expect(200, "POST", at("/v1/jobs/%s/cancel", id), NULL);
    quoted_etag(etag, sizeof etag, target);
    ck_assert_int_eq(status_with("DELETE", target, "If-Match", etag, NULL), 204);
    expect(404, "PATCH", target, "{\"tags\": []}");
}
END_TEST

static const struct { const char *tags, *where; } wrong[] = {
    { "\"a\"", "/tags" }, { "{}", "/tags" }, { "[1]", "/tags/0" }, { "[\"a\", \"\"]", "/tags/1" }, { "[\"a,b\"]", "/tags/0" }, { "[\"a\\nb\"]", "/tags/0" },
    { "[\"a\", \"b\", \"a\"]", "/tags/2" }, { "[\"0123456789012345678901234567890123456789012345678901234567890123x\"]", "/tags/0" },
    { "[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\",\"13\",\"14\",\"15\",\"16\",\"17\"]", "/tags/16" },
};

START_TEST(bounds)
{
    char body[400];

    snprintf(body, sizeof body, "{\"tags\": %s}", wrong[_i].tags);
    ck_assert_str_eq(string(json_array_get(json_object_get(expect(422, "POST", "/v1/datasets", body), "errors"), 0), "pointer"), wrong[_i].where);
    ck_assert_str_eq(string(json_array_get(json_object_get(expect(422, "PATCH", at("/v1/jobs/%s", w.job), body), "errors"), 0), "pointer"), wrong[_i].where);
}
END_TEST

START_TEST(as_many_and_as_long_as_allowed)
{
    char body[2000] = "{\"tags\": [", id[ID_LEN];
    const json_t *j;

    for (int i = 0; i < MAX_TAGS; i++)
        snprintf(body + strlen(body), sizeof body - strlen(body), "%s\"%02d%062d\"", i ? "," : "", i, 0);
    snprintf(body + strlen(body), sizeof body - strlen(body), "]}");
    take_id(id, expect(201, "POST", "/v1/datasets", body));
    j = json_object_get(expect(200, "GET", at("/v1/datasets/%s", id), NULL), "tags");
    ck_assert_uint_eq(json_array_size(j), MAX_TAGS);
    ck_assert_uint_eq(strlen(json_string_value(json_array_get(j, MAX_TAGS - 1))), TAG_LEN - 1);
}
END_TEST

START_TEST(a_retried_job_keeps_them) /* and is made once under one key */
{
    struct reply first, again;
    char target[100];

    expect(200, "PATCH", at("/v1/jobs/%s", w.job), "{\"tags\": [\"x\", \"y\"]}");
    expect(200, "POST", at("/v1/jobs/%s/cancel", w.job), NULL);
    snprintf(target, sizeof target, "/v1/jobs/%s/retry", w.job);
    first = with("POST", target, "Idempotency-Key", "once", NULL);
    again = with("POST", target, "Idempotency-Key", "once", NULL);
    ck_assert(first.status == 201 && again.status == 201);
    ck_assert_str_eq(tags_of(first.json), "x y ");
    ck_assert_str_eq(string(first.json, "id"), string(again.json, "id"));
    ck_assert_str_eq(first.location, again.location);
    reply_clear(&first);
    reply_clear(&again);
    ck_assert_uint_eq(json_array_size(json_object_get(expect(200, "GET", "/v1/jobs?tag=x&sort=created&state=queued", NULL), "data")), 1);
    first = call("GET", "/v1/jobs?tag=y&limit=1&format=csv", NULL);
    ck_assert_ptr_nonnull(strstr(first.text, ",\"x,y\"\n"));
    reply_clear(&first);
    first = with("GET", at("/v1/jobs/%s/iterations/2", w.done), "Accept", "*/*", NULL);
    ck_assert(*first.etag);
    reply_clear(&first);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "tags");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_loop_test(tc, made_found_changed, 0, sizeof kinds / sizeof kinds[0]);
    tcase_add_loop_test(tc, bounds, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_test(tc, as_many_and_as_long_as_allowed);
    tcase_add_test(tc, a_retried_job_keeps_them);
}
SUITE_MAIN("tags", cases)
