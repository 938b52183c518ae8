/* Jobs that prune something else than single weights over all layers: what is asked for is what the records say, in the end and after a crash. */
#include "tests/core/job_fixture.h"

#define JOB(prune) "{\"train\": {\"epochs\": 2, \"batch_size\": 50}, \"retrain\": {\"epochs\": 1}, \"prune\": {\"iterations\": 3, " prune "}}"
/* The net has 192 + 128 + 8 = 328 weights, and as many multiply-adds. tolerance: the most that half a unit is, of these. */
static const struct { const char *json, *key; double left, tolerance; } ways[] = {
    { JOB("\"unit\": \"n:m\""), "nonzero", 164, 0 },
    { JOB("\"unit\": {\"type\": \"n:m\", \"n\": 1}, \"scope\": \"erk\", \"criterion\": \"lamp\""), "nonzero", 82, 0 },
    { JOB("\"unit\": {\"type\": \"block\", \"rows\": 4, \"columns\": 2}, \"target_sparsity\": 0.75"), "nonzero", 82, 4 },
    { JOB("\"unit\": \"neuron\", \"measure\": \"macs\", \"target_sparsity\": 0.5"), "macs", 164, 12 },
    { JOB("\"unit\": \"neuron\", \"scope\": \"layer\", \"criterion\": \"random\", \"target_sparsity\": 0.5"), "nonzero", 164, 12 },
    { JOB("\"scope\": \"erk\", \"target_sparsity\": 0.8, \"min_units\": 2, \"layers\": [{\"layer\": \"dense_1\", \"min_sparsity\": 0.9}]"), "nonzero", 66, 0 },
};

START_TEST(what_is_asked_for_is_what_comes_out)
{
    static struct table t;
    struct caller whole, c;
    const json_t *last;

    table_init(&t, 200, 0, 50, false);
    caller_init(&whole, &t, ways[_i].json);
    run_through(&whole, 1);
    last = whole.event[3].record;
    ck_assert_msg(fabs(number(last, ways[_i].key) - ways[_i].left) <= ways[_i].tolerance, "%g", number(last, ways[_i].key));
    for (int i = 2; i <= 3; i++)
        ck_assert(number(whole.event[i].record, "nonzero") <= number(whole.event[i - 1].record, "nonzero"));
    for (int at = 2; at <= whole.n_commits; at++) {
        caller_init(&c, &t, ways[_i].json);
        c.crash_at = at;
        ck_assert_int_eq(run(&c, 1, NULL), ERR_IO);
        c.crash_at = 0;
        run_through(&c, 2);
        same_history(&whole, &c, "crash");
        caller_clear(&c);
    }
    caller_clear(&whole);
}
END_TEST

static void cases(Suite *s)
{
    tcase_add_loop_test(suite_case(s, "job_units"), what_is_asked_for_is_what_comes_out, 0, sizeof ways / sizeof ways[0]);
}
SUITE_MAIN("job_units", cases)
