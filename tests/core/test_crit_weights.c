/* Criteria that look at the weights alone: golden scores of every row, and what is promised of single ones. Those that look at samples or at the whole
 * net: test_criteria.c, test_crit_net.c. */
#include "core/prune.h"

#include <string.h>

#include "core/mem.h"
#include "tests/suite.h"

/* What each row says of these weights, default options. */
static const float sample[6] = { -3, 2, 0, 1, -1, 4 };
static const struct { const char *name; float score[6]; } golden_scores[] = {
    { "magnitude", { 3, 2, 0, 1, 1, 4 } },
    { "movement", { 3e-30f, 2e-30f, 0, 1e-30f, 1e-30f, 4e-30f } }, /* nothing was trained */
    { "lamp", { 9 / 25.f, 4 / 29.f, 0, 1 / 31.f, 1 / 30.f, 1 } },
    { "random", { 0.64319056f, 0.10310155f, 0.75501537f, 0.96417511f, 0.81430471f, 0.52373976f } }, /* tests/golden/philox.py */
};

/* Scores of a net of one kernel. */
static void score_one(const struct criterion *c, const void *conf, struct weight *w, float *score)
{
    struct net net = { .n_weights = 1, .weight = w };

    if (c->score)
        c->score(&(struct crit_in){ .w = w, .seed = 5, .stream = 2, .step = 1, .conf = conf }, score);
    else
        ck_assert_int_eq(c->score_net(&(struct crit_net){ .net = &net, .seed = 5, .step = 1, .conf = conf }, &score, NULL), ERR_OK);
}

START_TEST(criterion_laws)
{
    const struct plug *const *row = criterion_table.rows;

    for (; *row; row++) {
        const struct criterion *c = (const struct criterion *)(const void *)*row;
        float x[6], s[2][6];
        struct weight w = { .len = 6, .x = x };
        struct plug_value conf;
        json_t *name = json_string(c->plug.name);
        bool golden = false;

        if (!c->score && strcmp(c->plug.name, "lamp") != 0) { /* tests/core/test_crit_net.c */
            json_decref(name);
            continue;
        }
        memcpy(x, sample, sizeof x);
        ck_assert_int_eq(plug_parse(&conf, &criterion_table, name, NULL), ERR_OK);
        json_decref(name);
        for (int k = 0; k < 2; k++)
            score_one(c, conf.conf, &w, s[k]);
        ck_assert_mem_eq(s[0], s[1], sizeof s[0]);
        ck_assert_mem_eq(x, sample, sizeof x);
        for (int i = 0; i < 6; i++)
            ck_assert(isfinite(s[0][i]));
        for (size_t g = 0; g < sizeof golden_scores / sizeof golden_scores[0]; g++)
            if (strcmp(golden_scores[g].name, c->plug.name) == 0) {
                golden = true;
                for (int i = 0; i < 6; i++)
                    ck_assert_msg(fabsf(s[0][i] - golden_scores[g].score[i]) < 1e-6f, "%s: %d is %.8f", c->plug.name, i, s[0][i]);
            }
        ck_assert_msg(golden, "no golden scores of %s", c->plug.name);
    }
}
END_TEST

START_TEST(magnitude_stays_finite)
{
    float x[3] = { 3e30f, -2, 1e-30f }, s[3];
    struct weight w = { .len = 3, .x = x };
    json_t *j = json_pack("{s:s,s:f}", "type", "magnitude", "p", 2.0);
    struct plug_value conf;

    ck_assert_int_eq(plug_parse(&conf, &criterion_table, j, NULL), ERR_OK);
    ((const struct criterion *)(const void *)conf.plug)->score(&(struct crit_in){ .w = &w, .conf = conf.conf }, s);
    ck_assert(isfinite(s[0]) && s[0] > 1e38f && fabsf(s[1] - 4) < 1e-6f);
    json_decref(j);
}
END_TEST

static void score_as(const char *json, struct weight *w, float *score)
{
    json_t *j = json_loads(json, 0, NULL);
    struct plug_value conf;

    ck_assert_int_eq(plug_parse(&conf, &criterion_table, j, NULL), ERR_OK);
    score_one(criterion_of(conf.plug), conf.conf, w, score);
    json_decref(j);
}

START_TEST(lamp_is_the_papers)
{
    static const float want[4] = { 0.033333f, 0.137931f, 0.36f, 1 }; /* Lee et al. 2021 */
    float x[4] = { .1f, -.2f, .3f, .4f }, ties[3] = { 2, -2, 2 }, zeros[2] = { 0, -0.f }, s[4];

    score_as("{\"type\": \"lamp\"}", &(struct weight){ .len = 4, .x = x }, s);
    for (int i = 0; i < 4; i++)
        ck_assert(fabsf(s[i] - want[i]) < 1e-6f);
    score_as("{\"type\": \"lamp\"}", &(struct weight){ .len = 3, .x = ties }, s);
    ck_assert(fabsf(s[0] - 1 / 3.f) < 1e-6f && s[1] == 0.5f && s[2] == 1);
    score_as("{\"type\": \"lamp\"}", &(struct weight){ .len = 2, .x = zeros }, s);
    ck_assert(s[0] == 0 && s[1] == 0);
}
END_TEST

START_TEST(normalised_magnitude)
{
    float x[3] = { 3, 0, -4 }, zeros[2] = { 0, 0 }, s[3];

    score_as("{\"type\": \"magnitude\", \"normalize\": \"layer\"}", &(struct weight){ .len = 3, .x = x }, s);
    ck_assert(fabsf(s[0] - 0.6f) < 1e-6f && s[1] == 0 && fabsf(s[2] - 0.8f) < 1e-6f);
    score_as("{\"type\": \"magnitude\", \"normalize\": \"layer\"}", &(struct weight){ .len = 2, .x = zeros }, s);
    ck_assert(s[0] == 0 && s[1] == 0);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "criteria of weights");

    tcase_add_test(tc, criterion_laws);
    tcase_add_test(tc, magnitude_stays_finite);
    tcase_add_test(tc, lamp_is_the_papers);
    tcase_add_test(tc, normalised_magnitude);
}
SUITE_MAIN("crit_weights", cases)
