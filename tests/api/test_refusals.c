/* What the API refuses, with which status, and which field it names. */
#include "tests/api/world.h"

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

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "refusals");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, every_code_has_a_status);
}
SUITE_MAIN("refusals", cases)
