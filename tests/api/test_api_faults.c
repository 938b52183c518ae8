/* Memory and disk fail, at every place once: an error status, and nothing is left behind. */
#include "tests/api/world.h"

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
    TCase *tc = suite_case(s, "api faults");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_loop_test(tc, memory_failures, 0, sizeof walked / sizeof walked[0]);
    tcase_add_test(tc, disk_failures);
}
SUITE_MAIN("api faults", cases)
