/* Laws of every criterion that scores weights, row by row of the table, on a net of dense layers and on one of convolutions. Golden numbers, and what single
 * rows promise: test_crit_weights.c, test_crit_net.c. */
#include "core/gemm.h"
#include "tests/core/criteria_fixture.h"

static bool at_once(void *user) { return (void)user, true; }

static bool has_option(int row, const char *name)
{
    json_t *j = json_pack("{s:i}", name, 1);
    char *text = json_dumps(j, 0);
    json_t *c = criterion_json(row, text);
    bool has = json_object_get(c, name) != NULL;

    json_decref(j), json_decref(c);
    free(text);
    return has;
}

static const enum kind kinds[] = { SMALL, CONVS, PLACES };
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* Finite, the same bytes again and with any team, and the net is as it was. */
START_TEST(scoring_is_pure)
{
    const int row = _i / KINDS;
    const enum kind kind = kinds[_i % KINDS] == SMALL ? LARGE : kinds[_i % KINDS];
    static const char options[] = "{\"samples\": 300, \"rounds\": 10}";
    struct room *r = room_open(row, options, "global", kind);
    struct net *before;
    struct scores first, again;

    ck_assert_int_eq(net_clone(&before, r->f.net, NULL), ERR_OK);
    must_score(&first, r, NULL, row, options);
    for (int i = 0; i < first.n; i++)
        for (size_t k = 0; k < first.len[i]; k++)
            if (r->f.net->weight[i].x[k] != 0 && !isfinite(first.at[i][k]))
                ck_abort_msg("score %zu of weight %d is %g", k, i, (double)first.at[i][k]);
    for (int threads = 1; threads <= 4; threads *= 2) {
        struct team *team;

        ck_assert_int_eq(team_new(&team, threads, NULL), ERR_OK);
        must_score(&again, r, team, row, options);
        for (int i = 0; i < first.n; i++)
            if (first.at[i])
                ck_assert_msg(memcmp(first.at[i], again.at[i], first.len[i] * sizeof(float)) == 0, "%d threads give other scores", threads);
        scores_clear(&again);
        team_free(team);
    }
    same_weights(before, r->f.net, "scoring");
    scores_clear(&first);
    net_free(before);
    room_close(r);
}
END_TEST

/* The same samples in other batches, but where a score is defined by batches; and more samples than there are. */
START_TEST(batches_do_not_matter)
{
    const int row = _i / KINDS;
    const enum kind kind = kinds[_i % KINDS];
    struct room *r = room_open(row, "{}", "global", kind);
    struct scores a, b;
    double most = 0;

    must_score(&a, r, NULL, row, "{\"samples\": 200, \"batch_size\": 7}");
    must_score(&b, r, NULL, row, "{\"samples\": 200, \"batch_size\": 64}");
    for (int i = 0; i < a.n; i++)
        for (size_t k = 0; k < a.len[i]; k++)
            most = fmax(most, fabs((double)a.at[i][k]));
    for (int i = 0; i < a.n && strcmp(criterion_table.rows[row]->name, "taylor") != 0; i++)
        for (size_t k = 0; k < a.len[i]; k++)
            if (r->f.net->weight[i].x[k] != 0)
                ck_assert_msg(fabs((double)(a.at[i][k] - b.at[i][k])) <= 1e-4 * most, "%g, not %g", (double)a.at[i][k], (double)b.at[i][k]);
    scores_clear(&a), scores_clear(&b);
    must_score(&a, r, NULL, row, "{\"samples\": 1000000, \"batch_size\": 65536}");
    scores_clear(&a);
    room_close(r);
}
END_TEST

/* A step masks what was planned, and unless the criterion repairs what stays, that is as it was. */
START_TEST(steps_mask_the_count)
{
    const int row = _i / KINDS;
    const enum kind kind = kinds[_i % KINDS];
    for (int scope = 0; scope < 2; scope++) {
        struct room *r = room_open(row, "{\"samples\": 200}", scope ? "layer" : "global", kind);
        struct net *before;
        struct err e = { 0 };
        uint64_t n = 0;
        bool kept = true;

        ck_assert_int_eq(net_clone(&before, r->f.net, NULL), ERR_OK);
        ck_assert_msg(pruner_step(r->pruner, r->f.net, 1, &r->data, &e) == ERR_OK, "%s", e.msg);
        for (int i = 0; i < r->f.net->n_weights; i++) {
            const struct weight *w = &r->f.net->weight[i];

            for (size_t k = 0; k < w->len; k++) {
                n += w->mask && !w->mask[k];
                kept = kept && (w->mask && !w->mask[k] ? w->x[k] == 0 : w->x[k] == before->weight[i].x[k]);
            }
        }
        ck_assert_uint_eq(n, pruner_count(r->pruner, 1));
        ck_assert(kept || criterion_of(criterion_table.rows[row])->solve);
        net_free(before);
        room_close(r);
    }
}
END_TEST

START_TEST(what_goes_wrong_leaves_the_net)
{
    const struct criterion *c = criterion_of(criterion_table.rows[_i]);
    struct room *r = room_open(_i, "{\"samples\": 200}", "global", SMALL);
    struct net *before;
    struct err e = { 0 };
    enum err_code rc;
    char name[80];

    snprintf(name, sizeof name, "criterion %s: ", c->plug.name);
    if (c->samples)
        for (int i = 0; i < 600 * FEATURES; i++)
            r->f.x[i] = NAN;
    else
        r->f.net->weight[0].x[0] = INFINITY;
    ck_assert_int_eq(net_clone(&before, r->f.net, NULL), ERR_OK);
    rc = pruner_step(r->pruner, r->f.net, 1, &r->data, &e);
    ck_assert_msg((rc == ERR_DIVERGED && strncmp(e.msg, name, strlen(name)) == 0) || (rc == ERR_OK && !c->samples), "%d: %s", rc, e.msg);
    if (rc != ERR_OK)
        same_weights(before, r->f.net, "an error");
    net_free(before);
    room_close(r);

    r = room_open(_i, "{\"samples\": 200}", "global", SMALL);
    ck_assert_int_eq(net_clone(&before, r->f.net, NULL), ERR_OK);
    r->data.stop = at_once;
    rc = pruner_step(r->pruner, r->f.net, 1, &r->data, &e);
    ck_assert_int_eq(rc, c->samples ? ERR_STOPPED : rc);
    if (rc != ERR_OK)
        same_weights(before, r->f.net, "a stop");
    net_free(before);
    room_close(r);
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    const int row = _i / KINDS;
    const enum kind kind = kinds[_i % KINDS];
    bool fired = true;

    for (long k = 1; fired; k++) {
        struct room *r = room_open(row, "{\"samples\": 5, \"batch_size\": 3, \"places\": 2, \"rounds\": 2}", "global", kind);
        struct net *before;
        enum err_code rc;

        ck_assert_int_eq(net_clone(&before, r->f.net, NULL), ERR_OK);
        mem_fail_in = k;
        rc = pruner_step(r->pruner, r->f.net, 1, &r->data, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_int_eq(rc, fired ? ERR_NOMEM : ERR_OK);
        if (fired)
            same_weights(before, r->f.net, "no memory");
        net_free(before);
        room_close(r);
    }
}
END_TEST

START_TEST(memory_is_counted)
{
    struct room *r = room_open(_i, "{\"batch_size\": 16}", "global", LARGE), *more = room_open(_i, "{\"batch_size\": 512}", "global", LARGE);
    const struct criterion *c = criterion_of(criterion_table.rows[_i]);
    uint64_t weights = 0, bytes = pruner_memory(&r->conf, r->f.net);

    for (int i = 0; i < r->f.net->n_weights; i++)
        weights += r->f.net->weight[i].len;
    ck_assert_uint_ge(bytes, (c->score_net ? 12 : 8) * 160 * 130);
    ck_assert_uint_lt(bytes, 200 * weights + (8 << 20));
    ck_assert(!has_option(_i, "batch_size") || pruner_memory(&more->conf, more->f.net) > bytes);
    room_close(r);
    room_close(more);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "criteria");

    gemm_init();
    for (int i = 0; criterion_table.rows[i]; i++) {
        if (!criterion_scores_weights(criterion_of(criterion_table.rows[i])))
            continue;
        tcase_add_loop_test(tc, scoring_is_pure, KINDS * i, KINDS * i + KINDS);
        tcase_add_loop_test(tc, batches_do_not_matter, KINDS * i, KINDS * i + KINDS);
        tcase_add_loop_test(tc, steps_mask_the_count, KINDS * i, KINDS * i + KINDS);
        tcase_add_loop_test(tc, what_goes_wrong_leaves_the_net, i, i + 1);
        tcase_add_loop_test(tc, every_allocation_fails_once, KINDS * i, KINDS * i + KINDS);
        tcase_add_loop_test(tc, memory_is_counted, i, i + 1);
    }
}
SUITE_MAIN("criteria", cases)
