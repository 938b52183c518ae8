/* Rewinding: what retraining starts from is exactly what the option says, under the mask; the masks stay; what is saved is saved once. */
#include "tests/core/job_fixture.h"

/* ---- a caller that looks at the net when retraining begins ---- */

static const struct net *expected; /* weights, without masks; NULL: anything */
static int looks, n_same;          /* numbers that are as expected, zeros left out */

static void compare(struct caller *c)
{
    looks++;
    n_same = 0;
    for (int i = 0; i < c->net->n_weights; i++) {
        const struct weight *w = &c->net->weight[i];

        for (size_t k = 0; k < w->len; k++) {
            bool kept = !w->mask || w->mask[k];

            ck_assert(kept || w->x[k] == 0);
            n_same += kept && w->x[k] != 0 && w->x[k] == expected->weight[i].x[k];
        }
    }
}

#define REWIND(what, epochs) "{" TRAIN_ONLY ", \"retrain\": {\"epochs\": " epochs "}, \"prune\": {\"iterations\": 3, \"target_sparsity\": 0.8, \"rewind\": " what "}}"
#define TRAIN_ONLY "\"train\": {\"epochs\": 3, \"batch_size\": 32, \"optimizer\": {\"type\": \"adam\", \"learning_rate\": 0.01}}"

static int nonzero(const struct net *net)
{
    int n = 0;

    for (int i = 0; i < net->n_weights; i++)
        for (size_t k = 0; k < net->weight[i].len; k++)
            n += net->weight[i].x[k] != 0;
    return n;
}

/* The weights of this net after so many epochs of the same training. */
static struct net *trained_for(struct table *t, int epochs)
{
    char options[300];
    struct caller c;
    struct net *net;

    snprintf(options, sizeof options, "{\"train\": {\"epochs\": %d, \"batch_size\": 32, \"optimizer\": {\"type\": \"adam\", \"learning_rate\": 0.01}},"
             "\"prune\": {\"iterations\": 1, \"target_sparsity\": 0}, \"retrain\": {\"epochs\": 0}}", epochs);
    caller_init(&c, t, options);
    c.keep_net = true;
    run_through(&c, 1);
    net = c.net;
    caller_clear(&c);
    return net;
}

static const struct { const char *json; int epoch; bool same; } rows[] = {
    { REWIND("\"initial\"", "3"), 0, true }, { REWIND("{\"type\": \"epoch\", \"epoch\": 1}", "3"), 1, true },
    { REWIND("{\"type\": \"epoch\", \"epoch\": 2}", "3"), 2, true }, { REWIND("\"random\"", "1"), 0, false },
    { REWIND("\"initial\"", "1"), 3, false }, { REWIND("{\"type\": \"learning_rate\", \"epoch\": 2}", "3"), 0, false },
};

START_TEST(retraining_starts_from)
{
    static struct table t;
    struct caller c;
    struct net *at;

    table_init(&t, 200, 0, 0, false);
    expected = at = trained_for(&t, rows[_i].epoch);
    looks = 0;
    caller_init(&c, &t, rows[_i].json);
    c.keep_net = true;
    c.retraining = compare;
    run_through(&c, 1);
    ck_assert_int_eq(looks, 3);
    for (int i = 1; i <= 3; i++)
        ck_assert(fabs(number(c.event[i].record, "sparsity") - number(c.event[i].record, "target_sparsity")) < 2e-3);
    ck_assert_msg(rows[_i].same ? n_same > 60 : n_same < 40, "%s: %d numbers of %d as expected", rows[_i].json, n_same, nonzero(c.net));
    net_free(c.net);
    net_free(at);
    caller_clear(&c);
}
END_TEST

START_TEST(every_number_is_the_saved_one)
{
    static struct table t;
    struct caller c;
    struct net *at;

    table_init(&t, 200, 0, 0, false);
    expected = at = trained_for(&t, 0);
    caller_init(&c, &t, REWIND("\"initial\"", "0"));
    c.keep_net = true;
    c.retraining = compare;
    run_through(&c, 1);
    ck_assert_int_eq(n_same, nonzero(c.net));
    net_free(c.net);
    net_free(at);
    caller_clear(&c);
}
END_TEST

static const struct { const char *json, *at; int64_t retrain; } parsed[] = {
    { "{\"prune\": {\"rewind\": \"initial\"}}", NULL, 10 }, { "{\"train\": {\"epochs\": 6}, \"prune\": {\"rewind\": \"random\"}}", NULL, 6 },
    { "{\"train\": {\"epochs\": 6}, \"prune\": {\"rewind\": {\"type\": \"epoch\", \"epoch\": 2}}, \"retrain\": {\"epochs\": 4}}", NULL, 4 },
    { "{\"train\": {\"epochs\": 6}, \"prune\": {\"rewind\": \"none\"}}", NULL, 2 },
    { "{\"train\": {\"epochs\": 6}, \"prune\": {\"rewind\": {\"type\": \"epoch\", \"epoch\": 7}}, \"retrain\": {\"epochs\": 9}}", "/prune/rewind/epoch", 9 },
    { "{\"train\": {\"epochs\": 6}, \"prune\": {\"rewind\": {\"type\": \"epoch\", \"epoch\": 6}}}", "/prune/rewind/epoch", 6 },
    { "{\"train\": {\"augment\": {\"flip\": \"both\"}}}", "/train/augment", 2 }, /* samples in a row are no image */
    { "{\"retrain\": {\"augment\": {\"shift\": 1}}}", "/retrain/augment", 2 },
};

START_TEST(retrain_is_as_train_by_default)
{
    static struct table t;
    struct caller c;
    struct net *net = make_net(false);
    struct err e = { 0 };

    table_init(&t, 100, 0, 0, false);
    caller_init(&c, &t, parsed[_i].json);
    ck_assert_int_eq(c.conf.retrain.epochs, parsed[_i].retrain);
    ck_assert_int_eq(job_check(&c.conf, net, &t.d, &e), parsed[_i].at ? ERR_INVALID : ERR_OK);
    ck_assert_str_eq(e.at, parsed[_i].at ? parsed[_i].at : "");
    net_free(net);
    caller_clear(&c);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "rewind");

    tcase_add_loop_test(tc, retraining_starts_from, 0, sizeof rows / sizeof rows[0]);
    tcase_add_test(tc, every_number_is_the_saved_one);
    tcase_add_loop_test(tc, retrain_is_as_train_by_default, 0, sizeof parsed / sizeof parsed[0]);
}
SUITE_MAIN("job_rewind", cases)
