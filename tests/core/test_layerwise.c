/* Layerwise criteria (wanda, sparsegpt, obs): what every criterion that solves promises: exact counts, masks that only grow, an output nearer
 * to the old one than plain masking leaves it, the same bytes for any team. */
#include "tests/core/layerwise_fixture.h"

/* ---- laws of every criterion that solves ---- */

static int n_solvers(void)
{
    int n = 0;

    for (const struct plug *const *row = criterion_table.rows; *row; row++)
        n += criterion_of(*row)->solve != NULL;
    return n;
}

static struct plug_value solver(int i)
{
    struct plug_value conf = { 0 };

    for (const struct plug *const *row = criterion_table.rows; *row; row++)
        if (criterion_of(*row)->solve && i-- == 0) {
            conf.plug = *row;
            ck_assert_int_eq(params_parse(conf.conf, conf.plug->conf_size, conf.plug->params, NULL, NULL), ERR_OK);
        }
    return conf;
}

/* Inputs that hang together, some dead; some weights zero, some of those masked. */
static void random_layer(struct bench *b, int round, int *size, bool use_bias)
{
    struct rng r = { 5, RNG_TEST, 1, (uint64_t)round };
    struct weight *w;
    int n;

    size[0] = 2 + (int)rng_below(&r, 0, 70);
    size[1] = 1 + (int)rng_below(&r, 1, 40);
    size[2] = CLASSES;
    n = 3 + (int)rng_below(&r, 2, 200);
    bench_open(b, size, 2, n, use_bias);
    fill_normal(b->x, (size_t)(n * size[0]), (uint32_t)round);
    for (int i = 0; i < n; i++)
        for (int j = 1; j < size[0]; j++)
            b->x[i * size[0] + j] = j % 9 == 4 ? 0 : 0.7f * b->x[i * size[0] + j - 1] + b->x[i * size[0] + j];
    w = &b->net->weight[0];
    fill_normal(w->x, w->len, 77);
    for (size_t k = 0; k < w->len; k++) {
        w->x[k] = k % 11 == 3 || k % 13 == 5 ? 0 : w->x[k];
        w->mask[k] = k % 11 != 3;
    }
}

static uint64_t zeros(const struct weight *w)
{
    uint64_t n = 0;

    for (size_t k = 0; k < w->len; k++)
        n += w->x[k] == 0;
    return n;
}

/* Repair beats plain masking; that of one sweep is sure to while the later inputs of a row are there to take over. */
static double beats_magnitude_up_to(const char *name) { return strcmp(name, "sparsegpt") == 0 ? 0.5 : 1; }

static void law_round(const struct plug_value *conf, int round, double share)
{
    struct bench b, plain;
    int size[3];
    bool use_bias = round % 3 != 2;
    struct crit_net in;
    struct weight *w;
    uint64_t n;
    float *y;
    double error;
    bool kept = true, clean = true;

    random_layer(&b, round, size, use_bias);
    random_layer(&plain, round, size, use_bias);
    y = outputs(&b);
    in = in_of(&b, conf, NULL);
    w = &b.net->weight[0];
    n = zeros(w) + (uint64_t)(share * (double)(w->len - zeros(w)));
    ck_assert_int_eq(criterion_of(conf->plug)->solve(&in, 0, n, NULL), ERR_OK);
    ck_assert_uint_eq(n_masked(w), n);
    for (size_t k = 0; k < w->len; k++) {
        kept = kept && !(w->mask[k] && k % 11 == 3);
        clean = clean && isfinite(w->x[k]) && (w->mask[k] || w->x[k] == 0);
    }
    for (size_t k = 0; use_bias && k < w[1].len; k++)
        clean = clean && isfinite(w[1].x[k]);
    ck_assert(kept && clean);
    mask_by_magnitude(&plain.net->weight[0], n);
    error = error_from(&b, y);
    ck_assert_msg(share > beats_magnitude_up_to(conf->plug->name) || error <= error_from(&plain, y) * (1 + 1e-5) + 1e-6, "%s, round %d, %g: error %g, magnitude's %g", conf->plug->name, round, share, error,
                  error_from(&plain, y));
    mem_free(y);
    bench_close(&b);
    bench_close(&plain);
}

START_TEST(counts_masks_and_errors)
{
    static const double share[] = { 0, 0.1, 0.5, 0.8, 0.97, 1 };
    struct plug_value conf = solver(_i);

    for (int round = 0; round < 12; round++)
        for (size_t s = 0; s < sizeof share / sizeof share[0]; s++)
            law_round(&conf, round, share[s]);
}
END_TEST

START_TEST(fewer_than_the_zeros) /* a bound may forbid to mask all zeros: those that are masked stay so */
{
    struct plug_value conf = solver(_i);
    struct bench b;
    int size[3];
    struct crit_net in;
    uint64_t n;

    random_layer(&b, 1, size, true);
    in = in_of(&b, &conf, NULL);
    n = n_masked(&b.net->weight[0]) + 1;
    ck_assert_uint_lt(n, zeros(&b.net->weight[0]));
    ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, n, NULL), ERR_OK);
    ck_assert_uint_eq(n_masked(&b.net->weight[0]), n);
    for (size_t k = 3; k < b.net->weight[0].len; k += 11)
        ck_assert(!b.net->weight[0].mask[k]);
    bench_close(&b);
}
END_TEST

/* Of each run the n smallest go, nothing is repaired. */
static void mask_runs_by_magnitude(struct weight *w, struct unit_runs runs)
{
    size_t cols = w->len / (size_t)w->info.shape.d[0];

    for (size_t k = 0, end; k < w->len; k = end) {
        size_t left = cols - k % cols;

        end = k + (left < (size_t)runs.len ? left : (size_t)runs.len);
        for (int go = (int)(end - k) - runs.keep; go > 0; go--) {
            size_t best = end;

            for (size_t i = k; i < end; i++)
                if (w->mask[i] && (best == end || fabsf(w->x[i]) < fabsf(w->x[best])))
                    best = i;
            if (best == end)
                break;
            w->mask[best] = 0;
            w->x[best] = 0;
        }
    }
}

/* Full runs and half of them, by steps: exact counts, masks grow, no run loses more than it may, and the layer's output is nearer than without repair. */
START_TEST(runs_keep_their_number)
{
    static const struct unit_runs all[] = { { 4, 2 }, { 8, 3 }, { 5, 1 }, { 64, 63 }, { 3, 3 } };
    struct plug_value conf = solver(_i);

    for (int round = 0; round < 8; round++)
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
            struct bench b, plain;
            struct crit_net in;
            struct weight *w;
            int size[3];
            uint64_t most = 0;
            float *y;

            random_layer(&b, round, size, true);
            random_layer(&plain, round, size, true);
            for (size_t k = 0; k < b.net->weight[0].len; k++)
                b.net->weight[0].mask[k] = plain.net->weight[0].mask[k] = 1;
            y = outputs(&b);
            in = in_of(&b, &conf, NULL);
            in.runs = all[i];
            w = &b.net->weight[0];
            mask_runs_by_magnitude(&plain.net->weight[0], in.runs);
            most = n_masked(&plain.net->weight[0]);
            ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, most / 3, NULL), ERR_OK);
            ck_assert(n_masked(w) == most / 3 && keeps_runs(w, in.runs));
            ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, most, NULL), ERR_OK);
            ck_assert(n_masked(w) == most && keeps_runs(w, in.runs));
            if (size[0] > 8) /* the sweep's last columns have nobody to repair them */
                ck_assert_msg(error_from(&b, y) <= error_from(&plain, y) * 1.02 + 1e-6, "%s, round %d, %d:%d: error %g, magnitude's %g", conf.plug->name,
                              round, all[i].keep, all[i].len, error_from(&b, y), error_from(&plain, y));
            mem_free(y);
            bench_close(&b);
            bench_close(&plain);
        }
}
END_TEST

START_TEST(singular_inputs_are_damped) /* every input is the same, or nearly; more inputs than samples; no damping asked for */
{
    struct plug_value conf = solver(_i);
    static const int size[] = { 30, 8, CLASSES };

    ck_assert_ptr_nonnull(strstr(conf.plug->params[2].name, "damping"));
    *(double *)(void *)(conf.conf + conf.plug->params[2].offset) = 0;
    for (int kind = 0; kind < 3; kind++) {
        struct bench b;
        struct crit_net in;
        struct weight *w;
        double damping = NAN;

        bench_open(&b, size, 2, 10, true);
        fill_normal(b.x, 300, 3);
        for (int k = 0; k < 300 && kind > 0; k++)
            b.x[k] = kind == 1 ? b.x[k / 30 * 30] : 0; /* or all of them dead */
        in = in_of(&b, &conf, NULL);
        in.damping = &damping;
        w = &b.net->weight[0];
        ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, 120, NULL), ERR_OK);
        ck_assert_msg(kind == 2 ? damping == 0 : damping > 0 && damping < 0.01, "%d: %g", kind, damping); /* what was needed is told */
        ck_assert_uint_eq(n_masked(w), 120);
        for (size_t k = 0; k < w->len; k++)
            ck_assert(isfinite(w->x[k]) && fabsf(w->x[k]) < 100);
        bench_close(&b);
    }
}
END_TEST

START_TEST(infinite_inputs_are_an_error)
{
    struct plug_value conf = solver(_i);
    struct bench b;
    int size[3];
    struct crit_net in;
    struct err e = { 0 };

    random_layer(&b, 2, size, true);
    b.x[0] = INFINITY;
    in = in_of(&b, &conf, NULL);
    ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, b.net->weight[0].len / 2, &e), ERR_DIVERGED);
    bench_close(&b);
}
END_TEST

/* ---- a whole step of pruning ---- */

static const char *const step_confs[] = { "\"wanda\"", "\"sparsegpt\"", "\"obs\"" };
static const int step_size[] = { 150, 20, 10, CLASSES }, small_size[] = { 20, 6, 5, CLASSES };

struct trial {
    const char *criterion;
    const int *size;
    int scope, threads;
    long fail;       /* this allocation; 0: none */
    int stop_after;  /* so many questions; -1: never */
    bool fired;      /* out: the allocation was reached */
};

static bool stop(void *user)
{
    struct trial *t = user;

    return t->stop_after >= 0 && t->stop_after-- == 0;
}

/* A step on a net of its own, which stays open. */
static enum err_code run_step(struct bench *b, struct trial *t)
{
    struct prune_conf conf;
    struct pruner *p = NULL;
    struct team *team = NULL;
    struct prune_data data;
    enum err_code rc;

    ck_assert_int_eq(params_parse(&conf, sizeof conf, prune_params, NULL, NULL), ERR_OK);
    conf.criterion = conf_of(t->criterion);
    conf.scope.plug = scope_table.rows[t->scope]; /* global, layer */
    conf.iterations = 1;
    conf.target_sparsity = 0.7;
    bench_open(b, t->size, 3, 100, true);
    fill_normal(b->x, (size_t)t->size[0] * 100, 9);
    ck_assert(t->threads < 2 || team_new(&team, t->threads, NULL) == ERR_OK);
    data = (struct prune_data){ &b->view, &b->loss, team, stop, t, NULL };
    mem_fail_in = t->fail;
    rc = pruner_new(&p, &conf, b->net, 1, NULL);
    if (rc == ERR_OK)
        rc = pruner_step(p, b->net, 1, &data, NULL);
    t->fired = t->fail > 0 && mem_fail_in == 0;
    mem_fail_in = 0;
    ck_assert(rc != ERR_OK || n_masked(&b->net->weight[0]) + n_masked(&b->net->weight[2]) + n_masked(&b->net->weight[4]) == pruner_count(p, 1));
    pruner_free(p);
    team_free(team);
    return rc;
}

static bool same_weights(const struct net *a, const struct net *b)
{
    for (int w = 0; w < a->n_weights; w++)
        if (memcmp(a->weight[w].x, b->weight[w].x, a->weight[w].len * sizeof(float)) != 0)
            return false;
    return true;
}

START_TEST(any_team_gives_the_same_bytes)
{
    struct trial one = { step_confs[_i / 2], step_size, _i % 2, 1, 0, -1, false }, three = { step_confs[_i / 2], step_size, _i % 2, 3, 0, -1, false };
    struct bench a, b;

    ck_assert_int_eq(run_step(&a, &one), ERR_OK);
    ck_assert_int_eq(run_step(&b, &three), ERR_OK);
    ck_assert(same_weights(a.net, b.net));
    bench_close(&a);
    bench_close(&b);
}
END_TEST

START_TEST(the_bias_is_repaired) /* in the net, not in the copy alone */
{
    struct trial t = { step_confs[1 + _i], step_size, 1, 1, 0, -1, false };
    struct bench a, fresh;

    ck_assert_int_eq(run_step(&a, &t), ERR_OK);
    bench_open(&fresh, step_size, 3, 100, true);
    ck_assert_mem_ne(a.net->weight[1].x, fresh.net->weight[1].x, 20 * sizeof(float));
    bench_close(&a);
    bench_close(&fresh);
}
END_TEST

/* Every unit of the table with every criterion that solves: weights, and those whose runs can be said; they fill up over two steps. */
START_TEST(units_that_can_be_repaired)
{
    const struct plug_value conf = solver(_i);

    for (const struct plug *const *row = unit_table.rows; *row; row++) {
        const struct prune_unit *unit = prune_unit_of(*row);
        bool can = !unit->unit_at && !unit->neurons && (!unit->protect || unit->runs);
        struct prune_conf c;
        struct pruner *p = NULL;
        struct bench b;
        struct prune_data data = { 0 };
        struct err e = { 0 };

        ck_assert_int_eq(params_parse(&c, sizeof c, prune_params, NULL, NULL), ERR_OK);
        c.criterion = conf;
        c.iterations = 2;
        c.unit.plug = *row;
        ck_assert_int_eq(params_parse(c.unit.conf, (*row)->conf_size, (*row)->params, NULL, NULL), ERR_OK);
        bench_open(&b, step_size, 3, 100, true);
        fill_normal(b.x, (size_t)step_size[0] * 100, 9);
        data.train = &b.view;
        data.loss = &b.loss;
        ck_assert_int_eq(pruner_new(&p, &c, b.net, 1, &e), can ? ERR_OK : ERR_INVALID);
        ck_assert_str_eq(e.at, can ? "" : "/unit");
        for (int64_t i = 1; can && i <= 2; i++) {
            ck_assert_int_eq(pruner_step(p, b.net, i, &data, NULL), ERR_OK);
            ck_assert_uint_eq(n_masked(&b.net->weight[0]) + n_masked(&b.net->weight[2]) + n_masked(&b.net->weight[4]), pruner_count(p, i));
            ck_assert(pruner_damping(p) >= 0.01); /* the option's default, or more */
            ck_assert(!unit->runs || (keeps_runs(&b.net->weight[0], unit->runs(c.unit.conf)) && keeps_runs(&b.net->weight[2], unit->runs(c.unit.conf))));
        }
        pruner_free(p);
        bench_close(&b);
    }
}
END_TEST

START_TEST(errors_leave_the_net_as_it_was)
{
    struct trial t = { step_confs[_i], small_size, 0, 1, 0, -1, true };
    struct bench b, fresh;
    enum err_code rc;
    int stops = 0;

    bench_open(&fresh, small_size, 3, 100, true);
    for (t.fail = 1; t.fired; t.fail++) {
        rc = run_step(&b, &t);
        ck_assert_int_eq(rc, t.fired ? ERR_NOMEM : ERR_OK);
        ck_assert(!t.fired || same_weights(b.net, fresh.net));
        bench_close(&b);
    }
    t.fail = 0;
    for (rc = ERR_STOPPED; rc != ERR_OK; stops++) {
        t.stop_after = stops;
        rc = run_step(&b, &t);
        ck_assert(rc == ERR_OK || (rc == ERR_STOPPED && same_weights(b.net, fresh.net)));
        bench_close(&b);
    }
    ck_assert_int_gt(stops, 1);
    bench_close(&fresh);
}
END_TEST

START_TEST(a_layer_that_is_too_large_is_refused)
{
    struct prune_conf conf;
    struct pruner *p = NULL;
    struct bench b;
    struct err e = { 0 };

    ck_assert_int_eq(params_parse(&conf, sizeof conf, prune_params, NULL, NULL), ERR_OK);
    conf.criterion = conf_of("{\"type\": \"obs\", \"max_macs\": 6e7}");
    bench_open(&b, step_size, 3, 10, true);
    ck_assert_int_eq(pruner_new(&p, &conf, b.net, 1, &e), ERR_INVALID); /* 20 * 150^3 = 6.75e7 */
    ck_assert_str_eq(e.at, "/criterion/max_macs");
    ck_assert_ptr_nonnull(strstr(e.msg, "layer d1"));
    conf.layers[0] = (struct prune_rule){ .layer = "d1", .ignore = true, .target_sparsity = NAN, .min_sparsity = NAN, .max_sparsity = NAN };
    conf.n_layers = 1;
    ck_assert_int_eq(pruner_new(&p, &conf, b.net, 1, NULL), ERR_OK);
    pruner_free(p);
    bench_close(&b);
}
END_TEST

START_TEST(memory_grows_with_the_layers)
{
    static const int larger[] = { 400, 20, 10, CLASSES };
    struct plug_value conf = conf_of(step_confs[_i]);
    const struct criterion *c = criterion_of(conf.plug);
    struct bench a, b;

    bench_open(&a, step_size, 3, 10, true);
    bench_open(&b, larger, 3, 10, true);
    ck_assert_uint_gt(c->memory(b.net, conf.conf), c->memory(a.net, conf.conf));
    ck_assert_uint_gt(c->memory(a.net, conf.conf), _i == 0 ? 150 * 8 : 150 * 150 * 8 * 2);
    bench_close(&a);
    bench_close(&b);
}
END_TEST

/* ---- factors ---- */

START_TEST(factors)
{
    double a[9] = { 4, 2, -2, 99, 10, 2, 99, 99, 6 }, bad[4] = { 1, 2, 0, 1 };

    ck_assert(cholesky(3, a));
    ck_assert(a[0] == 2 && a[1] == 1 && a[2] == -1 && a[4] == 3 && a[5] == 1 && a[8] == 2); /* below the diagonal nothing has changed */
    ck_assert(a[3] == 99 && a[6] == 99 && a[7] == 99);
    ck_assert(cholesky_inverse(3, a));
    ck_assert(fabs(a[0] - 56 / 144.0) < 1e-12 && fabs(a[1] + 16 / 144.0) < 1e-12 && fabs(a[2] - 24 / 144.0) < 1e-12);
    ck_assert(fabs(a[4] - 20 / 144.0) < 1e-12 && fabs(a[5] + 12 / 144.0) < 1e-12 && fabs(a[8] - 36 / 144.0) < 1e-12);
    ck_assert(!cholesky(2, bad));
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "layerwise");
    int n = n_solvers();

    tcase_add_loop_test(tc, runs_keep_their_number, 0, n);
    tcase_add_loop_test(tc, counts_masks_and_errors, 0, n);
    tcase_add_loop_test(tc, fewer_than_the_zeros, 0, n);
    tcase_add_loop_test(tc, singular_inputs_are_damped, 0, n);
    tcase_add_loop_test(tc, infinite_inputs_are_an_error, 0, n);
    tcase_add_loop_test(tc, any_team_gives_the_same_bytes, 0, 6);
    tcase_add_loop_test(tc, the_bias_is_repaired, 0, 2);
    tcase_add_loop_test(tc, units_that_can_be_repaired, 0, n);
    tcase_add_loop_test(tc, errors_leave_the_net_as_it_was, 0, 3);
    tcase_add_test(tc, a_layer_that_is_too_large_is_refused);
    tcase_add_loop_test(tc, memory_grows_with_the_layers, 0, 3);
    tcase_add_test(tc, factors);
}
SUITE_MAIN("layerwise", cases)
