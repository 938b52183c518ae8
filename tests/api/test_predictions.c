/* predict and evaluate: of an uploaded model, a job's result and an iteration; samples that come with the request and those of a split; the numbers. */
#include <math.h>

#include "api/shelf.h"
#include "tests/api/world.h"

static double real(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

/* The trained model is a softmax of x * [[1, 2, 3], [4, 5, 6]] + [0, 0, 0.5]. */
static void softmax_of(double a, double b, double p[3])
{
    const double z[] = { a + 4 * b, 2 * a + 5 * b, 3 * a + 6 * b + 0.5 };
    double sum = 0;

    for (int i = 0; i < 3; i++)
        sum += p[i] = exp(z[i] - z[2]);
    for (int i = 0; i < 3; i++)
        p[i] /= sum;
}

START_TEST(samples_of_the_request)
{
    const char *const paths[] = { at("/v1/models/%s/predict", w.trained), NULL };
    const json_t *j = expect(200, "POST", paths[0], "{\"samples\": [[-1, -2], [0.5, -0.5]]}"), *data = json_object_get(j, "data"), *last;
    double p[3];

    ck_assert_str_eq(string(j, "model"), w.trained);
    ck_assert(json_is_null(json_object_get(j, "dataset")) && json_is_null(json_object_get(j, "classes")) && json_is_null(json_object_get(j, "job")));
    ck_assert_uint_eq(json_array_size(data), 2);
    last = json_array_get(data, 1);
    softmax_of(0.5, -0.5, p);
    for (size_t i = 0; i < 3; i++)
        ck_assert_double_eq_tol(real(json_object_get(last, "outputs"), i), p[i], 1e-6);
    ck_assert_int_eq(json_integer_value(json_object_get(last, "class")), p[0] > p[1] && p[0] > p[2] ? 0 : p[1] > p[2] ? 1 : 2);
    ck_assert_ptr_null(json_object_get(last, "class_name"));
    ck_assert_ptr_null(json_object_get(last, "label"));
}
END_TEST

START_TEST(scaled_like_the_data_set) /* and its class names */
{
    char body[300], id[ID_LEN];
    const json_t *j, *one;
    double p[3];

    take_id(id, expect(201, "POST", "/v1/datasets", "{\"scaling\": \"minmax\"}"));
    expect(201, "PUT", at("/v1/datasets/%s/train/table", id), csv()); /* a 0..6, b 0..4 */
    snprintf(body, sizeof body, "{\"dataset\": \"%s\", \"samples\": [[3, 1]]}", id);
    j = expect(200, "POST", at("/v1/models/%s/predict", w.trained), body);
    one = json_array_get(json_object_get(j, "data"), 0);
    softmax_of(0.5, 0.25, p);
    ck_assert_double_eq_tol(real(json_object_get(one, "outputs"), 0), p[0], 1e-6);
    ck_assert_str_eq(string(one, "class_name"), json_string_value(json_array_get(json_object_get(j, "classes"), 2)));
    snprintf(body, sizeof body, "{\"dataset\": \"%s\", \"samples\": [[0.5, 0.25]], \"scale\": false}", id);
    one = json_array_get(json_object_get(expect(200, "POST", at("/v1/models/%s/predict", w.trained), body), "data"), 0);
    ck_assert_double_eq_tol(real(json_object_get(one, "outputs"), 0), p[0], 1e-6);
}
END_TEST

static const char *const job_paths[] = { "/v1/jobs/%s", "/v1/jobs/%s/iterations/2", "/v1/jobs/%s/iterations/0" };

START_TEST(of_a_job) /* whose data set is meant unless another is named */
{
    char path[100];
    const json_t *j, *one;

    snprintf(path, sizeof path, "%s/predict", job_paths[_i]);
    j = expect(200, "POST", at(path, w.done), "{\"split\": \"validation\", \"first\": 1, \"limit\": 2}");
    ck_assert_str_eq(string(j, "job"), w.done);
    ck_assert_str_eq(string(j, "dataset"), w.dataset);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "iteration")), _i == 1 ? 2 : 0);
    ck_assert_int_eq(json_is_null(json_object_get(j, "iteration")), _i == 0);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "of")), 6); /* a tenth of 60 is carved */
    ck_assert(json_is_true(json_object_get(j, "has_more")));
    one = json_array_get(json_object_get(j, "data"), 0);
    ck_assert_int_eq(json_integer_value(json_object_get(one, "sample")), 1);
    ck_assert(json_is_integer(json_object_get(one, "label")));
    string(one, "class_name");
    snprintf(path, sizeof path, "%s/evaluate", job_paths[_i]);
    j = expect(200, "POST", at(path, w.done), "{\"split\": \"train\"}");
    ck_assert_int_eq(json_integer_value(json_object_get(j, "samples")), 54);
    expect(422, "POST", at(path, w.done), NULL); /* test, which this data set does not have */
}
END_TEST

/* What evaluate counts is what the predictions say. */
START_TEST(figures_agree_with_predictions)
{
    char body[200];
    const json_t *j, *data, *row, *confusion;
    int right = 0, counted = 0;

    snprintf(body, sizeof body, "{\"dataset\": \"%s\", \"split\": \"train\"}", w.dataset);
    data = json_object_get(expect(200, "POST", at("/v1/models/%s/predict", w.trained), body), "data");
    ck_assert_uint_eq(json_array_size(data), 60);
    for (size_t i = 0; i < 60; i++) {
        row = json_array_get(data, i);
        right += json_equal(json_object_get(row, "class"), json_object_get(row, "label"));
    }
    j = expect(200, "POST", at("/v1/models/%s/evaluate", w.trained), body);
    ck_assert_double_eq_tol(json_number_value(json_object_get(json_object_get(j, "metrics"), "accuracy")), right / 60.0, 1e-9);
    confusion = json_object_get(json_object_get(j, "metrics"), "confusion_matrix");
    for (size_t i = 0; i < 3; i++)
        counted += (int)json_integer_value(json_array_get(json_array_get(confusion, i), i));
    ck_assert_int_eq(counted, right);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "weights")), 6);
    ck_assert_double_eq(json_number_value(json_object_get(j, "sparsity")), 0);
}
END_TEST

/* But for the time that it took. */
static json_t *figures(const char *body)
{
    json_t *j = json_deep_copy(expect(200, "POST", at("/v1/models/%s/evaluate", w.trained), body));

    json_object_del(j, "seconds");
    return j;
}

/* A model that stays open answers as one that is opened each time, whatever it was asked in between. */
START_TEST(from_the_shelf)
{
    static const char *const bodies[] = { "{\"samples\": [[1, 2]]}", "{\"samples\": [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]}", "{\"samples\": [[1, 2]]}" };
    json_t *plain[3], *evaluation;
    char body[100];

    snprintf(body, sizeof body, "{\"dataset\": \"%s\", \"split\": \"train\"}", w.dataset);
    evaluation = figures(body);
    for (int i = 0; i < 3; i++)
        plain[i] = json_deep_copy(expect(200, "POST", at("/v1/models/%s/predict", w.trained), bodies[i]));
    ck_assert_int_eq(shelf_new(&w.app.shelf, NULL), ERR_OK);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 3; i++) {
            json_t *again = figures(body);

            ck_assert(json_equal(evaluation, again));
            json_decref(again);
            ck_assert(json_equal(plain[i], expect(200, "POST", at("/v1/models/%s/predict", w.trained), bodies[i])));
        }
    expect(404, "POST", "/v1/models/mdl_0000000000000000/predict", bodies[0]);
    for (int i = 0; i < 3; i++)
        json_decref(plain[i]);
    json_decref(evaluation);
    shelf_free(w.app.shelf);
    w.app.shelf = NULL;
}
END_TEST

static struct model small_model(void)
{
    json_t *doc = json_loads(KERAS, 0, NULL);
    struct model m;

    ck_assert_int_eq(keras_read(&m, doc, NULL), ERR_OK);
    json_decref(doc);
    return m;
}

static bool on_shelf(struct shelf *s, const char *weights)
{
    struct model m = { .net = NULL };
    bool there = shelf_take(s, "architecture", weights, &m);

    ck_assert(there == (m.net != NULL));
    model_clear(&m);
    return there;
}

static void put_on_shelf(struct shelf *s, const char *weights, uint64_t bytes)
{
    struct model m = small_model();

    shelf_put(s, "architecture", weights, &m, bytes);
    ck_assert_ptr_null(m.net);
}

/* Each is there once, for one taker; who is the longest there makes room. */
START_TEST(shelf_laws)
{
    struct shelf *s = NULL;
    char name[12];

    ck_assert(!on_shelf(NULL, "a"));
    put_on_shelf(NULL, "a", 1);
    mem_fail_in = 1;
    ck_assert_int_eq(shelf_new(&s, NULL), ERR_NOMEM);
    mem_fail_in = 0;
    ck_assert_int_eq(shelf_new(&s, NULL), ERR_OK);
    ck_assert(!on_shelf(s, "a"));
    put_on_shelf(s, "a", 1);
    put_on_shelf(s, "a", 1);
    ck_assert(!on_shelf(s, "b") && on_shelf(s, "a") && !on_shelf(s, "a"));
    for (int i = 0; i <= SHELF_PLACES; i++) {
        snprintf(name, sizeof name, "%d", i);
        put_on_shelf(s, name, 1);
    }
    ck_assert(!on_shelf(s, "0") && on_shelf(s, "1"));
    put_on_shelf(s, "large", SHELF_BYTES - 3);
    ck_assert(!on_shelf(s, "5") && on_shelf(s, "6") && on_shelf(s, "large") && on_shelf(s, "8"));
    put_on_shelf(s, "too large", (uint64_t)SHELF_BYTES + 1);
    ck_assert(!on_shelf(s, "too large") && on_shelf(s, "7"));
    put_on_shelf(s, "last", 1);
    shelf_free(s);
}
END_TEST

START_TEST(as_tables)
{
    struct reply r = call("POST", at("/v1/models/%s/predict?format=csv", w.trained), "{\"samples\": [[-100, 0], [100, 100]]}");

    ck_assert_int_eq(strncmp(r.text, "sample,class,outputs_0,outputs_1,outputs_2\n0,0,1,", 49), 0);
    ck_assert_ptr_nonnull(strstr(r.text, "\n1,2,"));
    reply_clear(&r);
    r = call("POST", at("/v1/jobs/%s/predict?format=ndjson", w.done), "{\"split\": \"train\", \"limit\": 3}");
    ck_assert_int_eq(strncmp(r.text, "{\"sample\":0,\"class\":", 20), 0);
    ck_assert_ptr_nonnull(strstr(r.text, "\n{\"sample\":2,"));
    reply_clear(&r);
}
END_TEST

#define PREDICT(id) "/v1/models/" id "/predict"
#define EVALUATE(id) "/v1/models/" id "/evaluate"
static const struct { const char *target, *body; int status; const char *where; } wrong[] = {
    { PREDICT("{trained}"), "", 400, NULL },
    { PREDICT("{trained}"), "[]", 422, NULL },
    { PREDICT("{trained}"), "{\"samples\": [[1, 2]]", 400, NULL },
    { PREDICT("{trained}"), "{\"samples\": [[1, 2]]} x", 400, NULL },
    { PREDICT("{trained}"), "{}", 422, "/samples" },
    { PREDICT("{trained}"), "{\"samples\": []}", 422, "/samples" },
    { PREDICT("{trained}"), "{\"samples\": [[1, 2]], \"samples\": [[1, 2]]}", 400, "/samples" },
    { PREDICT("{trained}"), "{\"samples\": [[1, 2], [1]]}", 422, "/samples/1" },
    { PREDICT("{trained}"), "{\"samples\": [[1, 2], [1, true]]}", 422, "/samples/1/1" },
    { PREDICT("{trained}"), "{\"samples\": [[1, 2]], \"split\": \"test\"}", 422, "/samples" },
    { PREDICT("{trained}"), "{\"samples\": [[1, 2]], \"colour\": 1}", 422, "/colour" },
    { PREDICT("{trained}"), "{\"samples\": [[1, 2]], \"dataset\": \"dst_00000000000000000000\"}", 422, "/dataset" },
    { PREDICT("{trained}"), "{\"samples\": [[1, 2]], \"dataset\": \"{half}\"}", 409, "/dataset" },
    { PREDICT("{trained}"), "{\"split\": \"test\"}", 422, "/dataset" },
    { PREDICT("{trained}"), "{\"split\": \"test\", \"dataset\": \"{dataset}\"}", 422, "/split" },
    { PREDICT("{trained}"), "{\"split\": \"dev\", \"dataset\": \"{dataset}\"}", 422, "/split" },
    { PREDICT("{trained}"), "{\"split\": \"train\", \"first\": 60, \"dataset\": \"{dataset}\"}", 422, "/first" },
    { PREDICT("{trained}"), "{\"split\": \"train\", \"limit\": 10001, \"dataset\": \"{dataset}\"}", 422, "/limit" },
    { PREDICT("{trained}") "?format=xml", "{\"samples\": [[1, 2]]}", 422, "?format" },
    { PREDICT("{model}"), "{\"samples\": [[1, 2]]}", 409, NULL },
    { PREDICT("mdl_00000000000000000000"), "{\"samples\": [[1, 2]]}", 404, NULL },
    { "/v1/jobs/{job}/predict", "{\"samples\": [[1, 2]]}", 409, NULL },
    { "/v1/jobs/{done}/iterations/9/predict", "{\"samples\": [[1, 2]]}", 404, NULL },
    { EVALUATE("{trained}"), NULL, 422, "/dataset" },
    { EVALUATE("{trained}"), "{\"dataset\": \"{half}\"}", 409, "/dataset" },
    { EVALUATE("{trained}"), "{\"dataset\": \"{dataset}\", \"split\": \"validation\"}", 422, "/split" },
    { EVALUATE("{trained}"), "{\"dataset\": \"{dataset}\", \"split\": \"none\"}", 422, "/split" },
    { EVALUATE("{trained}"), "{\"dataset\": \"{dataset}\", \"x\": 1}", 422, "/x" },
    { EVALUATE("{model}"), "{\"dataset\": \"{dataset}\"}", 409, NULL },
    { "/v1/jobs/{job}/evaluate", NULL, 409, NULL },
    { "/v1/jobs/{done}/iterations/9/evaluate", NULL, 404, NULL },
};

START_TEST(refusals)
{
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char target[200], body[300];
        const char *where = wrong[i].where;
        const json_t *problem, *error;

        fill_in(target, sizeof target, wrong[i].target);
        fill_in(body, sizeof body, wrong[i].body ? wrong[i].body : "");
        problem = expect(wrong[i].status, "POST", target, wrong[i].body ? body : NULL);
        error = json_array_get(json_object_get(problem, "errors"), 0);
        if (where)
            ck_assert_msg(error && strcmp(string(error, *where == '?' ? "parameter" : "pointer"), where + (*where == '?')) == 0, "%s %s: %s", target,
                          body, json_dumps(problem, 0));
    }
}
END_TEST

START_TEST(another_shape_or_other_classes) /* a data set that the model does not fit */
{
    char id[ID_LEN], body[200];

    for (int i = 0; i < 2; i++) {
        take_id(id, expect(201, "POST", "/v1/datasets", NULL));
        expect(201, "PUT", at("/v1/datasets/%s/train/table", id), i == 0 ? "a,b,c,label\n1,2,3,x\n2,1,3,y\n" : "a,b,label\n1,2,x\n2,1,y\n");
        snprintf(body, sizeof body, "{\"dataset\": \"%s\", \"split\": \"train\"}", id);
        for (int verb = 0; verb < 2; verb++) {
            const json_t *problem = expect(422, "POST", at(verb ? PREDICT("%s") : EVALUATE("%s"), w.trained), body);

            ck_assert_str_eq(string(json_array_get(json_object_get(problem, "errors"), 0), "pointer"), "/dataset");
        }
    }
}
END_TEST

START_TEST(memory_is_bounded)
{
    w.app.memory_per_job = 1;
    expect(413, "POST", at(PREDICT("%s"), w.trained), "{\"samples\": [[1, 2]]}");
    w.app.memory_per_job = 1 << 20;
    expect(200, "POST", at(PREDICT("%s"), w.trained), "{\"samples\": [[1, 2]]}");
    w.app.memory_per_job = 0;
}
END_TEST

START_TEST(a_job_whose_data_set_has_gone)
{
    char body[200], other[ID_LEN];

    take_id(other, expect(201, "POST", "/v1/datasets", NULL));
    expect(201, "PUT", at("/v1/datasets/%s/train/table", other), csv());
    expect(200, "POST", at("/v1/jobs/%s/cancel", w.job), NULL);
    expect(204, "DELETE", at("/v1/datasets/%s", w.dataset), NULL);
    expect(409, "POST", at("/v1/jobs/%s/evaluate", w.done), NULL);
    snprintf(body, sizeof body, "{\"dataset\": \"%s\", \"split\": \"train\"}", other);
    expect(200, "POST", at("/v1/jobs/%s/evaluate", w.done), body);
}
END_TEST

static bool always(void) { return true; }

START_TEST(ends_with_the_server)
{
    w.app.draining = always;
    expect(503, "POST", at("/v1/jobs/%s/predict", w.done), "{\"split\": \"train\"}");
    expect(503, "POST", at("/v1/jobs/%s/evaluate", w.done), "{\"split\": \"train\"}");
    w.app.draining = NULL;
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "predict");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, samples_of_the_request);
    tcase_add_test(tc, scaled_like_the_data_set);
    tcase_add_loop_test(tc, of_a_job, 0, sizeof job_paths / sizeof job_paths[0]);
    tcase_add_test(tc, figures_agree_with_predictions);
    tcase_add_test(tc, from_the_shelf);
    tcase_add_test(tc, shelf_laws);
    tcase_add_test(tc, as_tables);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, another_shape_or_other_classes);
    tcase_add_test(tc, memory_is_bounded);
    tcase_add_test(tc, a_job_whose_data_set_has_gone);
    tcase_add_test(tc, ends_with_the_server);
}
SUITE_MAIN("predict", cases)
