/* The adaptive schedule: against a contract that holds up to a known sparsity it ends at most the smallest step below it, turns as it should and tries
 * nothing twice; in a job its records say what it did, and the chosen model is the sparsest that kept the contract. */
#include "core/job_run.h"
#include "tests/core/job_fixture.h"

/* ---- the search alone ---- */

struct sought { double limit, target; const char *schedule; };
static const struct sought soughts[] = {
    { 0.62, 0.95, "{\"type\": \"adaptive\", \"patience\": 0}" }, { 0.05, 0.95, "{\"type\": \"adaptive\", \"patience\": 0}" },
    { 0.001, 0.95, "{\"type\": \"adaptive\", \"patience\": 0}" }, { 1, 0.95, "{\"type\": \"adaptive\", \"patience\": 0}" },
    { 0.949, 0.95, "{\"type\": \"adaptive\", \"patience\": 0}" }, { 0.31, 1, "{\"type\": \"adaptive\", \"patience\": 2, \"initial_step\": 0.5}" },
    { 0.7, 0.9, "{\"type\": \"adaptive\", \"patience\": 0, \"initial_step\": 0.07, \"minimal_step\": 0.001, \"step_factor\": 0.7}" },
    { 0.7, 0.9, "{\"type\": \"adaptive\", \"patience\": 0, \"initial_step\": 1, \"minimal_step\": 1}" },
};

static void conf_of(struct job_conf *c, const char *schedule, double target)
{
    char text[400];
    json_t *j;

    snprintf(text, sizeof text, "{\"model\": \"m\", \"dataset\": \"d\", \"prune\": {\"schedule\": %s, \"target_sparsity\": %g}}", schedule, target);
    j = json_loads(text, 0, NULL);
    ck_assert_int_eq(job_conf_parse(c, j, false, NULL), ERR_OK);
    json_decref(j);
}

START_TEST(finds_the_limit)
{
    const struct sought *g = &soughts[_i];
    struct net *net = make_net(false);
    struct job_conf conf;
    struct job j = { .conf = &conf, .net = net };
    const struct adaptive_conf *o = (const void *)conf.prune.schedule.conf;
    enum job_reason reason = REASON_NONE;
    int rounds = 0;

    conf_of(&conf, g->schedule, g->target);
    net_init(net, 1);
    ck_assert_int_eq(pruner_new(&j.pruner, &conf.prune, net, 1, NULL), ERR_OK);
    ck_assert_int_eq(job_search_begin(&j, NULL), ERR_OK);
    j.state.kept_path = json_incref(j.state.path);
    while (reason == REASON_NONE) {
        struct job_search before = j.state.search;
        bool kept = before.level <= g->limit;

        ck_assert_int_eq(job_search_aim(&j, NULL), ERR_OK);
        if (kept) {
            json_decref(j.state.kept_path);
            j.state.kept_path = json_incref(j.state.path);
        }
        ck_assert(json_number_value(json_object_get(json_array_get(j.state.path, json_array_size(j.state.path) - 1), "level")) == before.level);
        ck_assert(!before.roll_back || json_array_size(j.state.path) == json_array_size(j.state.kept_path) + !kept);
        ck_assert(fabs(pruner_target(j.pruner, 1) - before.level) < 1e-9 && before.level > before.kept && before.level < before.failed);
        ck_assert(before.level <= g->target && ++rounds < 200);
        reason = job_search_next(&j, kept);
        ck_assert(j.state.search.roll_back == (!kept && before.tries >= o->patience));
        ck_assert(fabs(j.state.search.rate - pow(j.state.search.step / o->initial_step, log(o->learning_rate_factor) / log(o->step_factor))) < 1e-9);
        if (!kept && before.tries < o->patience)
            ck_assert(reason == REASON_NONE && j.state.search.level == before.level && j.state.search.tries == before.tries + 1);
    }
    ck_assert_int_eq(reason, g->limit >= g->target ? REASON_SPARSITY : REASON_SEARCH);
    ck_assert_msg(j.state.search.kept <= g->limit && (j.state.search.kept == g->target || g->limit - j.state.search.kept <= o->minimal_step / o->step_factor + 1e-9),
                  "kept %g of %g", j.state.search.kept, g->limit);
    for (size_t i = 1; i < json_array_size(j.state.kept_path); i++) /* the way to what was kept only goes up */
        ck_assert(json_number_value(json_object_get(json_array_get(j.state.kept_path, i), "level")) >=
                  json_number_value(json_object_get(json_array_get(j.state.kept_path, i - 1), "level")));
    job_state_clear(&j.state);
    pruner_free(j.pruner);
    net_free(net);
}
END_TEST

/* ---- in a job ---- */

#define SEARCH "\"prune\": {\"iterations\": 12, \"schedule\": {\"type\": \"adaptive\", \"initial_step\": 0.4, \"minimal_step\": 0.04}}"

START_TEST(records_tell_the_search)
{
    static struct table t;
    struct caller c;
    double best = 0;
    int n_back = 0;

    table_init(&t, 300, 0, 40, false);
    caller_init(&c, &t, "{" TRAIN ", " SEARCH ", \"stop\": {\"max_drop\": 0.02}}");
    run_through(&c, 1);
    for (int i = 1; i < c.n_events - 1; i++) {
        const json_t *r = c.event[i].record, *s = json_object_get(r, "search"), *next = i < c.n_events - 2 ? c.event[i + 1].record : NULL;
        bool kept = json_is_true(json_object_get(r, "contract_kept")), back = json_is_true(json_object_get(s, "rolled_back"));

        ck_assert_msg(fabs(number(r, "sparsity") - number(r, "target_sparsity")) < 2e-3, "%d: %g", i, number(r, "sparsity"));
        best = kept ? fmax(best, number(r, "sparsity")) : best;
        n_back += back;
        if (kept && next)
            ck_assert(number(next, "target_sparsity") > number(r, "target_sparsity"));
        if (!kept && next && strcmp(text_of(json_object_get(next, "search"), "direction"), "again") == 0)
            ck_assert(number(next, "sparsity") == number(r, "sparsity"));
        else if (!kept && next)
            ck_assert(number(next, "target_sparsity") < number(r, "target_sparsity") &&
                      json_is_true(json_object_get(json_object_get(next, "search"), "rolled_back")));
    }
    ck_assert(n_back > 0 && best > 0.3);
    ck_assert(number(result(&c), "sparsity") == best);
    ck_assert_str_eq(text_of(result(&c), "reason"), "search_done");
    caller_clear(&c);
}
END_TEST

/* What is rolled back with the kept model, seen in checkpoints: its sums of movement, and what its masks hide. */
static int n_back, n_other;

static const struct st_array *array_of(const struct checkpoint_file *f, const char *name)
{
    const struct st_array *a = st_find(&f->st, name);

    ck_assert_msg(a != NULL, "%s", name);
    return a;
}

static bool moved_is_kept(const struct checkpoint_file *f)
{
    const struct st_array *now = array_of(f, "moved/dense/kernel"), *kept = array_of(f, "kept_moved/dense/kernel");

    ck_assert_uint_eq(now->bytes, kept->bytes);
    return memcmp(now->data, kept->data, now->bytes) == 0;
}

static bool hidden_is_kept(const struct checkpoint_file *f)
{
    const struct st_array *now = array_of(f, "behind/dense/kernel"), *kept = array_of(f, "kept_behind/dense/kernel"),
                          *mask = array_of(f, "kept_mask/dense/kernel");
    bool same = true;

    ck_assert(now->bytes == kept->bytes && now->bytes == 4 * mask->bytes);
    for (size_t k = 0; k < mask->bytes; k++)
        same = same && (((const uint8_t *)mask->data)[k] || memcmp((const char *)now->data + 4 * k, (const char *)kept->data + 4 * k, 4) == 0);
    return same;
}

static enum err_code look_back(void *user, const struct job_commit *m, struct err *e)
{
    struct checkpoint_file f = { 0 };

    if (m->checkpoint)
        ck_assert_int_eq(checkpoint_open(&f, m->checkpoint->path, NULL), ERR_OK);
    if (m->kind == JOB_COMMIT_ITERATION) {
        bool is_kept = number(f.meta, "kept_iteration") == (double)m->iteration;

        ck_assert(!is_kept || (moved_is_kept(&f) && hidden_is_kept(&f)));
        n_other += !moved_is_kept(&f) && !hidden_is_kept(&f);
    }
    if (m->kind == JOB_COMMIT_CHECKPOINT && strcmp(text_of(f.meta, "phase"), "damage") == 0 &&
        json_is_true(json_object_get(json_object_get(f.meta, "search"), "roll_back"))) {
        ck_assert(moved_is_kept(&f) && hidden_is_kept(&f));
        n_back++;
    }
    checkpoint_close(&f);
    return on_commit(user, m, e);
}

START_TEST(all_of_the_kept_model_comes_back)
{
    static struct table t;
    struct caller c;
    const struct job_hooks hooks = { on_stop, on_progress, on_new_file, look_back, 1e-9, &c };
    struct model model = make_model(false);
    struct err e = { 0 };

    table_init(&t, 150, 0, 0, false);
    caller_init(&c, &t, "{" TRAIN ", \"prune\": {\"iterations\": 8, \"criterion\": \"movement\", \"regrow\": {\"type\": \"surgery\", \"until\": 1},"
                "\"schedule\": {\"type\": \"adaptive\", \"initial_step\": 0.4}}, \"stop\": {\"max_drop\": 0.01}}");
    net_init(model.net, 42);
    ck_assert_msg(job_run(&c.conf, &model, &t.d, NULL, 1, &hooks, &e) == ERR_OK, "%s", e.msg);
    ck_assert_msg(n_back > 0 && n_other > 0, "%d, %d", n_back, n_other);
    model_clear(&model);
    caller_clear(&c);
}
END_TEST

/* ---- an iteration that diverges ---- */

static double sane_rate;
static int first_bad, n_bad; /* iterations */

static void blow_up(struct caller *c)
{
    struct optim_conf_head *o = (void *)c->conf.retrain.optimizer.conf;

    if (sane_rate == 0)
        sane_rate = o->learning_rate;
    o->learning_rate = c->n_events >= first_bad && c->n_events < first_bad + n_bad ? 1e30 : sane_rate;
}

static const struct { const char *search; int first, n; } divergences[] = {
    { SEARCH, 1, 1 }, { SEARCH, 2, 1 }, { SEARCH, 3, 2 }, { SEARCH, 1, 12 },
    { "\"prune\": {\"iterations\": 3, \"schedule\": {\"type\": \"adaptive\", \"initial_step\": 0.4}}", 3, 1 },
};

/* It is a sparsity given up at once, whatever the patience; the search goes on from the kept model with a smaller step. */
START_TEST(an_iteration_that_diverges_breaks_the_contract)
{
    static struct table t;
    struct caller c;
    char options[600];
    double best = 0, sparsest_failed = 2;

    sane_rate = 0;
    first_bad = divergences[_i].first;
    n_bad = divergences[_i].n;
    table_init(&t, 300, 0, 40, false);
    snprintf(options, sizeof options, "{" TRAIN ", %s, \"stop\": {\"max_drop\": 0.5}}", divergences[_i].search);
    caller_init(&c, &t, options);
    c.retraining = blow_up;
    run_through(&c, 1);
    for (int i = 1; i < c.n_events - 1; i++) {
        const json_t *r = c.event[i].record, *s = json_object_get(r, "search"), *next = i < c.n_events - 2 ? c.event[i + 1].record : NULL;
        const json_t *after = json_object_get(next, "search");
        bool bad = i >= first_bad && i < first_bad + n_bad;

        ck_assert(number(r, "iteration") == i && (json_object_get(r, "diverged") != NULL) == bad);
        ck_assert(fabs(number(r, "sparsity") - number(r, "target_sparsity")) < 2e-3 && number(r, "target_sparsity") < sparsest_failed);
        if (!bad) {
            ck_assert(json_is_true(json_object_get(r, "contract_kept")) && number(r, "sparsity") > best);
            best = number(r, "sparsity");
            continue;
        }
        sparsest_failed = fmin(sparsest_failed, number(r, "target_sparsity"));
        ck_assert_ptr_nonnull(strstr(text_of(r, "diverged"), "not finite in epoch"));
        ck_assert(json_is_false(json_object_get(r, "contract_kept")) && json_is_number(json_object_get(json_object_get(r, "pruned"), "loss")));
        ck_assert(json_is_null(json_object_get(json_object_get(r, "retrained"), "loss")) && !*c.event[i].hash);
        ck_assert(!next || (json_is_true(json_object_get(after, "rolled_back")) && number(next, "target_sparsity") < number(r, "target_sparsity") &&
                            number(after, "step") < number(s, "step") + (strcmp(text_of(s, "direction"), "down") == 0)));
    }
    ck_assert(number(result(&c), "sparsity") == best);
    ck_assert_str_ne(text_of(result(&c), "reason"), "diverged");
    ck_assert_int_le(c.n_events - 2, (int)c.conf.prune.iterations);
    if (best == 0)
        ck_assert(number(result(&c), "chosen_iteration") == 0 && strcmp(text_of(result(&c), "reason"), "search_done") == 0);
    caller_clear(&c);
}
END_TEST

START_TEST(a_search_needs_a_contract)
{
    static struct table t;
    struct caller c;
    struct err e = { 0 };

    table_init(&t, 100, 0, 0, false);
    caller_init(&c, &t, "{" SEARCH "}");
    ck_assert_int_eq(run(&c, 1, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, "/stop/max_drop");
    caller_clear(&c);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "search");

    tcase_add_loop_test(tc, finds_the_limit, 0, sizeof soughts / sizeof soughts[0]);
    tcase_add_test(tc, records_tell_the_search);
    tcase_add_test(tc, all_of_the_kept_model_comes_back);
    tcase_add_loop_test(tc, an_iteration_that_diverges_breaks_the_contract, 0, sizeof divergences / sizeof divergences[0]);
    tcase_add_test(tc, a_search_needs_a_contract);
}
SUITE_MAIN("job_search", cases)
