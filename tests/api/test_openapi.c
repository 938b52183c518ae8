/* openapi.json against the code, in both directions: routes, query parameters, bodies, field tables; and its own examples against its schemas.
 *
 * The schemas JobConfig, DatasetOptions and TokenOptions are what the field tables say, the values that answers may have what the tables of names say.
 * When a table has changed:
 *     UPDATE_OPENAPI=1 build/tests/test_openapi
 * writes them into api/openapi.json; look at the difference, and commit it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "core/job.h"
#include "server/embed.h"
#include "server/store.h"
#include "server/limits.h"
#include "server/token.h"
#include "tests/api/schema.h"
#include "tests/suite.h"

/* other: a property of the body that is no field of the table. */
static const struct { const char *name; const struct param *table; const char *other; } tables[] = {
    { "JobConfig", job_params, "tags" }, { "DatasetOptions", data_params, "tags" }, { "Predict", api_predict_params, "samples" },
    { "Evaluate", api_evaluate_params, NULL }, { "TokenOptions", token_command_params + TOKEN_API_PARAMS, NULL },
    { "LimitsOptions", tenant_limits_params, NULL },
};
enum { N_TABLES = sizeof tables / sizeof tables[0] };
static json_t *doc;

/* ---- the values that a field of an answer may have ---- */

/* Unless it is there already. */
static void add_name(json_t *list, const char *name)
{
    size_t i;
    json_t *have;

    json_array_foreach(list, i, have)
        if (strcmp(json_string_value(have), name) == 0)
            return;
    json_array_append_new(list, json_string(name));
}

static void add_names(json_t *list, const char *const *name)
{
    while (*name)
        add_name(list, *name++);
}

static void add_rows(json_t *list, const struct plug_table *t)
{
    for (const struct plug *const *row = t->rows; *row; row++)
        add_name(list, (*row)->name);
}

static void add_choices(json_t *list, const char *field)
{
    json_t *all = params_describe(data_params);

    json_array_extend(list, json_object_get(json_object_get(json_object_get(all, "properties"), field), "enum"));
    json_decref(all);
}

static void list_states(json_t *list)
{
    for (int s = 0; s < JOB_STATES; s++)
        add_name(list, job_state_name((enum job_state)s));
}

static void list_events(json_t *list)
{
    add_name(list, "state");
    for (int k = JOB_COMMIT_CHECKPOINT + 1; k <= JOB_COMMIT_RESULT; k++)
        add_name(list, job_commit_name[k]);
    add_name(list, "progress"); /* not stored */
}

static void list_phases(json_t *list)
{
    for (int p = 0; job_phase_name(p); p++)
        add_name(list, job_phase_name(p));
}

static void list_reasons(json_t *list)
{
    for (int r = 0; job_reason_name(r); r++)
        add_name(list, job_reason_name(r));
}

static void list_metrics(json_t *list)
{
    for (int m = 0; m < METRIC_COUNT; m++)
        add_name(list, metric_name((enum metric)m));
}

static void list_codes(json_t *list)
{
    for (int c = ERR_OK + 1; c < ERR_COUNT; c++)
        add_name(list, err_slug((enum err_code)c));
}

static void list_job_codes(json_t *list)
{
    list_codes(list);
    add_name(list, JOB_CRASHED);
}

static void list_kernels(json_t *list) { add_names(list, job_kernel_names); }
static void list_directions(json_t *list) { add_names(list, job_direction_names); }
static void list_steps(json_t *list) { add_rows(list, &finish_table); }
static void list_controls(json_t *list) { add_rows(list, &control_table); }
static void list_scalings(json_t *list) { add_choices(list, "scaling"); }
static void list_channels(json_t *list) { add_choices(list, "channels"); }
static void list_tasks(json_t *list) { add_choices(list, "task"); }

/* at: steps from the schemas to the field. */
static const struct { const char *at; void (*list)(json_t *list); } values[] = {
    { "JobState", list_states },
    { "Event/properties/type", list_events },
    { "Job/properties/progress/oneOf/0/properties/phase", list_phases },
    { "Job/properties/result/oneOf/0/properties/reason", list_reasons },
    { "Job/properties/result/oneOf/0/properties/metric", list_metrics },
    { "Job/properties/result/oneOf/0/properties/finishing/items/properties/step", list_steps },
    { "Job/properties/result/oneOf/0/properties/controls/items/properties/control", list_controls },
    { "Job/properties/error/oneOf/0/properties/code", list_job_codes },
    { "Problem/properties/code", list_codes },
    { "Kernel", list_kernels },
    { "Iteration/properties/search/properties/direction", list_directions },
    { "Dataset/properties/scaling", list_scalings },
    { "Dataset/properties/channels", list_channels },
    { "Dataset/properties/task", list_tasks },
};
enum { N_VALUES = sizeof values / sizeof values[0] };

static void load(void)
{
    json_error_t error;

    for (const struct embedded_file *f = embedded_api; f->name; f++)
        if (strcmp(f->name, "openapi.json") == 0)
            doc = json_loadb(f->text, f->len, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(doc, "line %d: %s", error.line, error.text);
}

static void unload(void)
{
    json_decref(doc);
}

static json_t *schemas(void)
{
    return json_object_get(json_object_get(doc, "components"), "schemas");
}

/* The schema at some steps from them. */
static json_t *schema_at(const char *at)
{
    json_t *s = schemas();
    char step[60];

    while (s && *at) {
        size_t n = strcspn(at, "/");

        snprintf(step, sizeof step, "%.*s", (int)n, at);
        s = json_is_array(s) ? json_array_get(s, (size_t)strtoul(step, NULL, 10)) : json_object_get(s, step);
        at += n + (at[n] == '/');
    }
    return s;
}

static json_t *operation(const char *path, const char *method)
{
    char name[16];

    snprintf(name, sizeof name, "%s", method);
    for (char *p = name; *p; p++)
        *p = (char)(*p + ('a' - 'A'));
    return json_object_get(json_object_get(json_object_get(doc, "paths"), path), name);
}

/* "a b c" of the operation's parameters of one place, in order, spaces around. */
static void parameters(char *buf, size_t n, const json_t *op, const char *in)
{
    size_t i, at = (size_t)snprintf(buf, n, " ");
    json_t *p;

    json_array_foreach(json_object_get(op, "parameters"), i, p)
        if (strcmp(json_string_value(json_object_get(p, "in")), in) == 0)
            at += (size_t)snprintf(buf + at, n - at, "%s ", json_string_value(json_object_get(p, "name")));
}

static void check_body(const struct route *r, const json_t *op)
{
    const json_t *body = json_object_get(op, "requestBody"), *content = json_object_get(body, "content");

    ck_assert_msg(!(r->flags & (BODY_JSON | BODY_FILE)) == !body, "%s %s: body", r->method, r->path);
    if (r->flags & BODY_JSON)
        ck_assert_ptr_nonnull(json_object_get(content, "application/json"));
    if (r->flags & BODY_FILE)
        ck_assert_ptr_nonnull(json_object_get(content, "application/octet-stream"));
    if (body)
        ck_assert_int_eq(json_is_true(json_object_get(body, "required")), !(r->flags & BODY_OPTIONAL));
}

START_TEST(every_route_is_described)
{
    const struct route *r = &api_routes[_i];
    const json_t *op = operation(r->path, r->method);
    char have[200], want[200] = " ";
    size_t at = 1;

    ck_assert_msg(op, "%s %s is not in openapi.json", r->method, r->path);
    ck_assert_ptr_nonnull(json_object_get(op, "summary"));
    check_body(r, op);
    parameters(have, sizeof have, op, "query");
    if (r->query)
        snprintf(want, sizeof want, " %s ", r->query);
    ck_assert_msg(strcmp(have, want) == 0, "%s %s: query \"%s\", not \"%s\"", r->method, r->path, have, want);
    snprintf(want, sizeof want, " ");
    for (const char *p = strchr(r->path, '{'); p; p = strchr(p + 1, '{'))
        at += (size_t)snprintf(want + at, sizeof want - at, "%.*s ", (int)strcspn(p + 1, "}"), p + 1);
    parameters(have, sizeof have, op, "path");
    ck_assert_str_eq(have, want);
    ck_assert_ptr_nonnull(json_object_get(json_object_get(op, "responses"), "default"));
    ck_assert_uint_ge(json_object_size(json_object_get(op, "responses")), 2);
}
END_TEST

/* Which scope it needs, and what is answered without it. */
START_TEST(access_is_described)
{
    const struct route *r = &api_routes[_i];
    const json_t *op = operation(r->path, r->method), *list = json_object_get(op, "security"), *responses = json_object_get(op, "responses");
    const char *scope = json_string_value(json_array_get(json_object_get(json_array_get(list, 0), "token"), 0));

    ck_assert_msg(json_is_array(list), "%s %s: no security", r->method, r->path);
    ck_assert_str_eq(scope ? scope : "open", scope_name(r->scope));
    for (const char *const *code = (const char *const[]){ "401", "403", "429", NULL }; *code; code++)
        ck_assert_msg((r->scope == SCOPE_OPEN) == !json_object_get(responses, *code), "%s %s: %s", r->method, r->path, *code);
    ck_assert_msg(!(r->flags & BODY_FILE) || json_object_get(responses, "507"), "%s %s: 507", r->method, r->path);
}
END_TEST

START_TEST(everything_described_is_a_route)
{
    const char *path, *method, *ids[100];
    json_t *item, *op;
    int n = 0;

    json_object_foreach(json_object_get(doc, "paths"), path, item)
    {
        json_object_foreach(item, method, op)
        {
            const struct route *r = api_routes;

            while (r->method && (strcmp(r->path, path) != 0 || operation(path, r->method) != op))
                r++;
            ck_assert_msg(r->method, "%s %s is no route", method, path);
            ids[n] = json_string_value(json_object_get(op, "operationId"));
            for (int i = 0; i < n; i++)
                ck_assert_str_ne(ids[i], ids[n]);
            n++;
        }
    }
}
END_TEST

START_TEST(the_version_is_ours)
{
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(doc, "info"), "version")), ESPALIER_VERSION);
}
END_TEST

/* What the schema of a table must be: new reference. */
static json_t *describe(int i)
{
    json_t *want = params_describe(tables[i].table), *have = json_object_get(schemas(), tables[i].name);

    if (tables[i].other)
        json_object_set(json_object_get(want, "properties"), tables[i].other, json_object_get(json_object_get(have, "properties"), tables[i].other));
    return want;
}

/* Numbers as JSON prints them: 1 and 1.0 are the same. */
static char *canonical(const json_t *j)
{
    json_t *again;
    char *text = json_dumps(j, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(15));

    again = json_loads(text, JSON_DECODE_ANY, NULL);
    free(text);
    text = json_dumps(again, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_decref(again);
    return text;
}

START_TEST(field_tables_are_described)
{
    json_t *want = describe(_i);
    char *a = canonical(want), *b = canonical(json_object_get(schemas(), tables[_i].name));

    ck_assert_msg(strcmp(a, b) == 0, "schema %s is not what the field table says; UPDATE_OPENAPI=1 build/tests/test_openapi", tables[_i].name);
    free(a);
    free(b);
    json_decref(want);
}
END_TEST

START_TEST(values_are_described)
{
    json_t *want = json_array(), *have = json_object_get(schema_at(values[_i].at), "enum");

    values[_i].list(want);
    ck_assert_msg(json_array_size(want) > 0 && json_equal(want, have),
                  "%s: its enum is not what the table in the code says; UPDATE_OPENAPI=1 build/tests/test_openapi", values[_i].at);
    json_decref(want);
}
END_TEST

static int n_examples;

static void check_examples(const json_t *j)
{
    const json_t *schema = json_object_get(j, "schema"), *example = json_object_get(j, "example");
    const char *key, *why = "";
    json_t *item;
    size_t i;

    if (schema && example) {
        char *text = json_dumps(example, JSON_ENCODE_ANY);

        ck_assert_msg(schema_fits(doc, schema, example, &why), "at \"%s\": %s", why, text);
        free(text);
        n_examples++;
    }
    json_object_foreach((json_t *)(uintptr_t)j, key, item)
    {
        if (strcmp(key, "schemas") != 0 && strcmp(key, "example") != 0)
            check_examples(item);
    }
    json_array_foreach(j, i, item)
        check_examples(item);
}

START_TEST(examples_fit_their_schemas)
{
    n_examples = 0;
    check_examples(doc);
    ck_assert_int_ge(n_examples, 15);
}
END_TEST

START_TEST(all_json_has_an_example)
{
    const char *path, *method, *status;
    json_t *item, *op, *reply;

    json_object_foreach(json_object_get(doc, "paths"), path, item)
    {
        json_object_foreach(item, method, op)
        {
            const json_t *body = json_object_get(json_object_get(json_object_get(op, "requestBody"), "content"), "application/json");

            ck_assert_msg(!body || json_object_size(json_object_get(body, "examples")) > 0, "%s %s: the body has no example", method, path);
            json_object_foreach(json_object_get(op, "responses"), status, reply)
            {
                const json_t *json = json_object_get(json_object_get(reply, "content"), "application/json");
                const json_t *binary = json_object_get(json_object_get(reply, "content"), "application/octet-stream");

                ck_assert_msg(!json || binary || json_object_get(json, "example"), "%s %s: %s has no example", method, path, status);
            }
        }
    }
}
END_TEST

static json_t *body_examples(const char *path)
{
    const json_t *body = json_object_get(operation(path, "POST"), "requestBody");

    return json_object_get(json_object_get(json_object_get(body, "content"), "application/json"), "examples");
}

START_TEST(example_bodies_are_taken)
{
    const char *key;
    json_t *item;
    struct err e;

    json_object_foreach(body_examples("/v1/jobs"), key, item)
    {
        struct job_conf c;

        ck_assert_msg(job_conf_parse(&c, json_object_get(item, "value"), false, &e) == ERR_OK, "%s: %s %s", key, e.at, e.msg);
    }
    json_object_foreach(body_examples("/v1/datasets"), key, item)
    {
        struct data_conf c;

        ck_assert_msg(params_parse(&c, sizeof c, data_params, json_object_get(item, "value"), &e) == ERR_OK, "%s: %s %s", key, e.at, e.msg);
    }
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "openapi");
    int n = 0;

    while (api_routes[n].method)
        n++;
    tcase_add_checked_fixture(tc, load, unload);
    tcase_add_loop_test(tc, every_route_is_described, 0, n);
    tcase_add_loop_test(tc, access_is_described, 0, n);
    tcase_add_test(tc, everything_described_is_a_route);
    tcase_add_test(tc, the_version_is_ours);
    tcase_add_loop_test(tc, field_tables_are_described, 0, N_TABLES);
    tcase_add_loop_test(tc, values_are_described, 0, N_VALUES);
    tcase_add_test(tc, examples_fit_their_schemas);
    tcase_add_test(tc, all_json_has_an_example);
    tcase_add_test(tc, example_bodies_are_taken);
}

static int update(void)
{
    int rc;

    doc = json_load_file(SOURCE_DIR "/api/openapi.json", 0, NULL);
    for (int i = 0; i < N_TABLES; i++)
        json_object_set_new(schemas(), tables[i].name, describe(i));
    for (int i = 0; i < N_VALUES; i++) {
        json_t *list = json_array();

        values[i].list(list);
        json_object_set_new(schema_at(values[i].at), "enum", list);
    }
    rc = json_dump_file(doc, SOURCE_DIR "/api/openapi.json", JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    json_decref(doc);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(void)
{
    Suite *suite = suite_create("openapi");
    SRunner *runner = srunner_create(suite);
    int failed;

    if (getenv("UPDATE_OPENAPI"))
        return update();
    cases(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
