/* Pruning: laws of every schedule, golden values, and above all counts: exactly what was planned, for any shapes, units, scopes and targets, with ties
 * everywhere. Criteria: test_crit_weights.c, test_criteria.c. */
#include "tests/core/prune_fixture.h"

/* ---- tables ---- */

START_TEST(tables_are_complete)
{
    struct err e = { 0 };

    ck_assert_msg(params_check(prune_params, &e) == ERR_OK, "%s", e.msg);
}
END_TEST

/* start 0, target 0.9, at t = 0.25, 0.5, 0.75, 1 */
static const struct { const char *name; double at[4]; } golden_schedules[] = {
    { "one_shot", { 0.9, 0.9, 0.9, 0.9 } },
    { "linear", { 0.225, 0.45, 0.675, 0.9 } },
    { "cubic", { 0.520312, 0.7875, 0.885938, 0.9 } },
    { "exponential", { 0.437659, 0.683772, 0.822172, 0.9 } },
    { "adaptive", { 0.9, 0.9, 0.9, 0.9 } }, /* at most */
};

START_TEST(schedule_laws)
{
    static const double target[] = { 0, 0.3, 0.9, 0.95, 0.999, 1 };

    for (const struct plug *const *row = schedule_table.rows; *row; row++) {
        const struct schedule *s = schedule_of(*row);
        bool golden = false;

        for (size_t k = 0; k < sizeof target / sizeof target[0]; k++)
            for (double start = 0; start <= target[k]; start += 0.1) {
                double last = start;

                for (int i = 1; i <= 100; i++) {
                    double x = s->at(NULL, start, target[k], i / 100.0);

                    ck_assert_msg(x >= last - 1e-15 && x <= target[k], "%s falls or overshoots at %d", s->plug.name, i);
                    last = x;
                }
                ck_assert(s->at(NULL, start, target[k], 1) == target[k]);
            }
        for (size_t g = 0; g < sizeof golden_schedules / sizeof golden_schedules[0]; g++)
            for (int i = 0; i < 4 && strcmp(golden_schedules[g].name, s->plug.name) == 0; i++) {
                golden = true;
                ck_assert(fabs(s->at(NULL, 0, 0.9, (i + 1) / 4.0) - golden_schedules[g].at[i]) < 1e-6);
            }
        ck_assert_msg(golden, "no golden values of %s", s->plug.name);
    }
}
END_TEST

START_TEST(iterative_magnitude_pruning) /* 20 % of what is left, 15 times: the percentages of Frankle and Carbin */
{
    static const double left[15] = { 80, 64, 51.2, 40.96, 32.77, 26.21, 20.97, 16.78, 13.42, 10.74, 8.59, 6.87, 5.5, 4.4, 3.52 };
    const struct schedule *s = schedule_of(plug_find(&schedule_table, "exponential"));

    for (int i = 1; i <= 15; i++)
        ck_assert(fabs(100 * (1 - s->at(NULL, 0, 1 - pow(0.8, 15), i / 15.0)) - left[i - 1]) < 0.006);
    /* from half sparse, two halvings of what is left */
    ck_assert(fabs(s->at(NULL, 0.5, 0.875, 0.5) - 0.75) < 1e-12);
}
END_TEST

/* ---- counts ---- */

START_TEST(ties_go_by_lower_index)
{
    static const int len = 4;
    struct prune_conf c = conf_of("{\"iterations\": 1, \"target_sparsity\": 0.5}");
    struct pruner *p;
    struct bench b;

    bench_init(&b, 1, &len);
    memcpy(b.weight[0].x, (float[]){ 1, 1, 1, 2 }, 16);
    ck_assert_int_eq(pruner_new(&p, &c, &b.net, 1, NULL), ERR_OK);
    ck_assert_int_eq(pruner_step(p, &b.net, 1, NULL, NULL), ERR_OK);
    ck_assert_mem_eq(b.weight[0].mask, ((uint8_t[]){ 0, 0, 1, 1 }), 4);
    ck_assert_mem_eq(b.weight[0].x, ((float[]){ 0, 0, 1, 2 }), 16);
    pruner_free(p);
    bench_clear(&b);
}
END_TEST

static const char *const units[] = { /* each unit, with options */
    "\"weight\"", "\"n:m\"", "{\"type\": \"n:m\", \"n\": 1, \"m\": 7}", "{\"type\": \"block\", \"rows\": 2, \"columns\": 3}",
    "{\"type\": \"block\", \"rows\": 1, \"columns\": 16, \"pool\": \"max\"}", "{\"type\": \"block\", \"rows\": 1, \"columns\": 1, \"pool\": \"sum\"}",
};
enum { N_UNITS = sizeof units / sizeof units[0] };

/* By the measure; the amount of a unit is noted: 0 for units that differ. */
static uint64_t gone(const struct bench *b, const struct prune_conf *c, int l, uint64_t *each, uint64_t *largest)
{
    const struct prune_unit *unit = prune_unit_of(c->unit.plug);
    const struct weight *w = &b->weight[2 * l];
    size_t rows = (size_t)w->info.shape.d[0], columns = (size_t)w->info.shape.d[1];
    size_t n = unit->n_units ? unit->n_units(c->unit.conf, rows, columns) : w->len;
    uint64_t *size = mem_zalloc(n, sizeof *size), sum = 0;
    bool *stays = mem_zalloc(n, sizeof *stays), together = true;

    for (size_t k = 0; k < w->len; k++) {
        size_t u = unit->unit_at ? unit->unit_at(c->unit.conf, columns, k / columns, k % columns) : k;

        together = together && u < n && (size[u] == 0 || stays[u] == w->mask[k]);
        stays[u] = w->mask[k];
        size[u]++;
    }
    for (size_t u = 0; u < n; u++) {
        uint64_t amount = c->measure == MEASURE_UNITS ? 1 : size[u];

        together = together && size[u] > 0;
        *largest = amount > *largest ? amount : *largest;
        *each = amount == (u == 0 && l == 0 ? amount : *each) ? amount : 0;
        sum += stays[u] ? 0 : amount;
    }
    ck_assert(together);
    mem_free(size);
    mem_free(stays);
    return sum;
}

static void check_pattern(const struct bench *b, const struct prune_conf *c, int l)
{
    const struct weight *w = &b->weight[2 * l];
    const int64_t *nm = (const int64_t *)(const void *)c->unit.conf;
    size_t columns = (size_t)w->info.shape.d[1];
    bool good = true;

    for (size_t row = 0; row < w->len; row += columns)
        for (size_t first = 0; first < columns; first += (size_t)nm[1]) {
            size_t len = columns - first < (size_t)nm[1] ? columns - first : (size_t)nm[1], kept = 0;

            for (size_t k = 0; k < len; k++)
                kept += w->mask[row + first + k];
            good = good && kept == (len < (size_t)nm[0] ? len : (size_t)nm[0]);
        }
    ck_assert(good);
}

/* A criterion that looks at nothing but kernels: the nets here have no ops. */
static const char *some_criterion(const struct rng *r, uint64_t at)
{
    int n = 0;

    while (criterion_table.rows[n])
        n++;
    for (int i = (int)rng_below(r, at, (uint64_t)n);; i = (i + 1) % n) {
        const struct criterion *c = criterion_of(criterion_table.rows[i]);

        if (c->score || strcmp(c->plug.name, "lamp") == 0)
            return c->plug.name;
    }
}

static const char *some_row(const struct plug_table *t, const struct rng *r, uint64_t at)
{
    int n = 0;

    while (t->rows[n])
        n++;
    return t->rows[rng_below(r, at, (uint64_t)n)]->name;
}

static bool grew(uint8_t **last, const struct weight *w)
{
    bool all = true;

    for (size_t k = 0; *last && k < w->len; k++)
        all = all && ((*last)[k] || !w->mask[k]);
    mem_free(*last);
    *last = mem_alloc(w->len);
    memcpy(*last, w->mask, w->len);
    return all;
}

/* Any shapes, unit, scope, schedule, measure, target and values: what each iteration masks is pruner_count, exactly, or where units differ in size
 * to within one in each layer; masks only grow; no layer is emptied. */
static void exact_round(int round)
{
    struct rng r = { 99, RNG_TEST, 0, (uint64_t)round };
    int len[MAX_LAYERS], n_layers = 1 + (int)rng_below(&r, 0, MAX_LAYERS);
    uint64_t before = 0;
    char json[400];
    struct prune_conf c;
    struct pruner *p;
    struct bench b;
    uint8_t *last[MAX_LAYERS] = { 0 };
    double target = round % 7 == 0 ? 1 : round % 7 == 1 ? 0.99 : rng_unit(&r, 60);
    int levels = (int[]){ 0, 1, 2, 3, 9 }[rng_below(&r, 20, 5)];

    for (int l = 0; l < n_layers; l++)
        len[l] = rng_below(&r, 1 + (uint64_t)l, 4) == 0 ? 40 : 1 + (int)rng_below(&r, 30 + (uint64_t)l, 900);
    snprintf(json, sizeof json, "{\"criterion\": \"%s\", \"unit\": %s, \"scope\": \"%s\", \"schedule\": \"%s\", \"measure\": \"%s\", \"iterations\": 5,"
             "\"target_sparsity\": %.17g}", some_criterion(&r, 21), units[round % N_UNITS], some_row(&scope_table, &r, 22),
             some_row(&schedule_table, &r, 23), (const char *[]){ "weights", "units", "macs" }[rng_below(&r, 24, 3)], target);
    c = conf_of(json);
    bench_init(&b, n_layers, len);
    for (int l = 0; l < n_layers; l++)
        if (rng_below(&r, 70 + (uint64_t)l, 3) > 0)
            bench_shape(&b, l, (struct shape){ 2, { 1 + (int)rng_below(&r, 80 + (uint64_t)l, 20), 1 + (int)rng_below(&r, 90 + (uint64_t)l, 40) } });
    fill(&b, (uint64_t)round, levels);
    if (pruner_new(&p, &c, &b.net, 7, NULL) != ERR_OK) { /* runs longer than these rows */
        ck_assert(prune_unit_of(c.unit.plug)->implied);
        bench_clear(&b);
        return;
    }
    for (int64_t i = 1; i <= 5; i++) {
        uint64_t sum = 0, slack = 0, each = 0, largest = 0;

        ck_assert_int_eq(pruner_step(p, &b.net, i, NULL, NULL), ERR_OK);
        ck_assert_uint_ge(pruner_count(p, i), before);
        before = pruner_count(p, i);
        for (int l = 0; l < n_layers; l++) {
            const struct weight *w = &b.weight[2 * l];

            sum += gone(&b, &c, l, &each, &largest);
            slack += largest;
            ck_assert_uint_lt(masked(&b, l), w->len);
            ck_assert(grew(&last[l], w));
            if (prune_unit_of(c.unit.plug)->implied && i == 5)
                check_pattern(&b, &c, l);
            for (size_t k = 0; k < w->len; k++) /* retraining moves what is left */
                b.weight[2 * l].x[k] *= 1 + (float)((k * 7 + (size_t)i) % 5);
        }
        ck_assert_msg((sum > before ? sum - before : before - sum) <= (each ? 0 : slack), "%s: %d gone, not %d", json, (int)sum, (int)before);
    }
    ck_assert(prune_unit_of(c.unit.plug)->implied || pruner_target(p, 5) == target);
    for (int l = 0; l < n_layers; l++)
        mem_free(last[l]);
    pruner_free(p);
    bench_clear(&b);
}

START_TEST(exactly_the_count)
{
    for (int round = 0; round < 180; round++)
        exact_round(round);
}
END_TEST

START_TEST(single_weights_to_the_nearest_integer)
{
    static const int len[3] = { 40, 700, 333 };

    for (int round = 0; round < 30; round++) {
        struct rng r = { 98, RNG_TEST, 0, (uint64_t)round };
        double target = round < 3 ? 1 - 0.01 * round : rng_unit(&r, 0);
        uint64_t want = (uint64_t)floor(target * 1073 + 0.5);
        char json[160];
        struct prune_conf c;
        struct pruner *p;
        struct bench b;

        snprintf(json, sizeof json, "{\"scope\": \"%s\", \"iterations\": 1, \"target_sparsity\": %.17g}", some_row(&scope_table, &r, 1), target);
        c = conf_of(json);
        bench_init(&b, 3, len);
        fill(&b, (uint64_t)round, round % 3);
        ck_assert_int_eq(pruner_new(&p, &c, &b.net, 7, NULL), ERR_OK);
        ck_assert_uint_eq(pruner_count(p, 1), want < 1070 ? want : 1070);
        ck_assert_int_eq(pruner_step(p, &b.net, 1, NULL, NULL), ERR_OK);
        ck_assert_uint_eq(masked_all(&b), pruner_count(p, 1));
        pruner_free(p);
        bench_clear(&b);
    }
}
END_TEST

/* Sparsity of each layer in the end, by the reference's arithmetic: densities by (sum of dimensions) / (product), too dense ones frozen one after another. */
static const struct { const char *scope; double target; int n; struct shape shape[4]; double want[4]; } golden_scopes[] = {
#define LENET_300_100 3, { { 2, { 300, 784 } }, { 2, { 100, 300 } }, { 2, { 10, 100 } } }
#define LENET_5 4, { { 4, { 20, 1, 5, 5 } }, { 4, { 50, 20, 5, 5 } }, { 2, { 500, 800 } }, { 2, { 10, 500 } } }
    { "erk", 0.90, LENET_300_100, { 0.920432, 0.769811, 0 } },
    { "erk", 0.95, LENET_300_100, { 0.961516, 0.888666, 0.081493 } },
    { "erk", 0.98, LENET_300_100, { 0.984606, 0.955466, 0.632597 } },
    { "erk", 0.99, LENET_300_100, { 0.992303, 0.977733, 0.816299 } },
    { "er", 0.95, LENET_300_100, { 0.961516, 0.888666, 0.081493 } },
    { "layer", 0.95, LENET_300_100, { 0.95, 0.95, 0.95 } },
    { "erk", 0.90, LENET_5, { 0, 0.912928, 0.911567, 0 } },
    { "erk", 0.98, LENET_5, { 0.722113, 0.985657, 0.985433, 0.542832 } },
};

START_TEST(scopes_divide_as_the_papers_do)
{
    int n = golden_scopes[_i].n, len[4] = { 1, 1, 1, 1 };
    char json[160];
    struct prune_conf c;
    struct pruner *p;
    struct bench b;

    snprintf(json, sizeof json, "{\"scope\": \"%s\", \"iterations\": 1, \"target_sparsity\": %.17g}", golden_scopes[_i].scope, golden_scopes[_i].target);
    c = conf_of(json);
    bench_init(&b, n, len);
    for (int l = 0; l < n; l++)
        bench_shape(&b, l, golden_scopes[_i].shape[l]);
    fill(&b, 4, 0);
    ck_assert_int_eq(pruner_new(&p, &c, &b.net, 7, NULL), ERR_OK);
    ck_assert_int_eq(pruner_step(p, &b.net, 1, NULL, NULL), ERR_OK);
    for (int l = 0; l < n; l++) {
        double is = (double)masked(&b, l) / (double)b.weight[2 * l].len;

        ck_assert_msg(fabs(is - golden_scopes[_i].want[l]) <= 1.0 / (double)b.weight[2 * l].len + 1e-6, "layer %d: %.6f", l, is);
    }
    pruner_free(p);
    bench_clear(&b);
}
END_TEST

START_TEST(lower_bounds_and_last_units)
{
    static const int len[3] = { 1000, 500, 20 };
    struct prune_conf c = conf_of("{\"iterations\": 4, \"target_sparsity\": 0.5, \"min_units\": 15, \"layers\": [{\"layer\": \"dense_1\", \"min_sparsity\": 0.9}]}");
    struct pruner *p;
    struct bench b;

    bench_init(&b, 3, len);
    fill(&b, 3, 0);
    for (int k = 0; k < 1000; k++)
        b.weight[0].x[k] *= k < 500 ? 1e3f : 1; /* what is large in the second layer still goes: the rule says so */
    for (int k = 0; k < 20; k++)
        b.weight[4].x[k] *= 1e-3f;
    ck_assert_int_eq(pruner_new(&p, &c, &b.net, 1, NULL), ERR_OK);
    for (int i = 1; i <= 4; i++) {
        ck_assert_int_eq(pruner_step(p, &b.net, i, NULL, NULL), ERR_OK);
        ck_assert_uint_eq(masked_all(&b), pruner_count(p, i));
    }
    ck_assert_uint_ge(masked(&b, 1), 450);
    ck_assert_uint_eq(masked(&b, 2), 5);
    ck_assert_uint_eq(masked_all(&b), 760);
    pruner_free(p);
    bench_clear(&b);
}
END_TEST

START_TEST(largest_of_each_layer_stays)
{
    static const int len[2] = { 40, 1000 };
    struct prune_conf c = conf_of("{\"iterations\": 1, \"target_sparsity\": 0.99}");
    struct pruner *p;
    struct bench b;

    bench_init(&b, 2, len);
    fill(&b, 3, 0);
    for (int k = 0; k < 40; k++)
        b.weight[0].x[k] = 1e-3f * (float)(1 + k % 20); /* all below the other layer's; the largest twice, the later one stays */
    ck_assert_int_eq(pruner_new(&p, &c, &b.net, 1, NULL), ERR_OK);
    ck_assert_int_eq(pruner_step(p, &b.net, 1, NULL, NULL), ERR_OK);
    ck_assert_uint_eq(masked_all(&b), 1030); /* 0.99 * 1040 = 1029.6 */
    ck_assert_uint_eq(masked(&b, 0), 39);
    ck_assert(b.weight[0].mask[39]);
    pruner_free(p);
    bench_clear(&b);
}
END_TEST

START_TEST(rules)
{
    static const int len[4] = { 1000, 500, 200, 100 };
    struct prune_conf c = conf_of("{\"iterations\": 4, \"target_sparsity\": 0.9, \"layers\": [{\"layer\": \"dense_3\", \"ignore\": true},"
                                  "{\"layer\": \"dense_2\", \"target_sparsity\": 0.5}, {\"layer\": \"dense_[01]\", \"max_sparsity\": 0.95}]}");
    struct pruner *p;
    struct bench b;

    bench_init(&b, 4, len);
    fill(&b, 3, 0);
    for (int k = 0; k < 500; k++)
        b.weight[2].x[k] *= 1e-3f;
    ck_assert_int_eq(pruner_new(&p, &c, &b.net, 1, NULL), ERR_OK);
    for (int i = 1; i <= 4; i++)
        ck_assert_int_eq(pruner_step(p, &b.net, i, NULL, NULL), ERR_OK);
    ck_assert_ptr_null(b.weight[6].mask);
    ck_assert_uint_eq(masked(&b, 2), 100);
    ck_assert_uint_eq(masked(&b, 1), 475); /* the bound; the shortfall comes from the other */
    ck_assert_uint_eq(masked(&b, 0), 1350 - 475);
    ck_assert_uint_eq(masked_all(&b), pruner_count(p, 4));
    ck_assert(fabs(pruner_target(p, 4) - (1350 + 100) / 1800.0) < 1e-12);
    pruner_free(p);
    bench_clear(&b);
}
END_TEST

static const struct { const char *json, *at; } bad_rules[] = {
    { "{\"layers\": [{\"layer\": \"dense_0\", \"ignore\": true}, {\"layer\": \"conv*\", \"ignore\": true}]}", "/layers/1/layer" },
    { "{\"layers\": [{\"layer\": \"dense_0\"}]}", "/layers/0/layer" },
    { "{\"layers\": [{\"layer\": \"dense*\", \"max_sparsity\": 0.5}, {\"layer\": \"dense_1\", \"ignore\": true}]}", "/layers/1/layer" },
    { "{\"layers\": [{\"layer\": \"dense_0\", \"ignore\": true, \"max_sparsity\": 0.5}]}", "/layers/0/ignore" },
    { "{\"layers\": [{\"layer\": \"dense_0\", \"target_sparsity\": 0.6, \"max_sparsity\": 0.5}]}", "/layers/0/target_sparsity" },
    { "{\"layers\": [{\"layer\": \"dense_0\", \"min_sparsity\": 0.6, \"max_sparsity\": 0.5}]}", "/layers/0/min_sparsity" },
    { "{\"layers\": [{\"layer\": \"dense_0\", \"min_sparsity\": 0.6, \"target_sparsity\": 0.5}]}", "/layers/0/min_sparsity" },
    { "{\"unit\": \"n:m\", \"layers\": [{\"layer\": \"dense_0\", \"max_sparsity\": 0.5}]}", "/layers/0/layer" },
    { "{\"unit\": {\"type\": \"n:m\", \"n\": 4}}", "/unit" },
    { "{\"layers\": [{\"layer\": \"*\", \"ignore\": true}]}", "/layers" },
};

START_TEST(rules_that_say_nothing_are_errors)
{
    static const int len[2] = { 10, 20 };
    struct prune_conf c = conf_of(bad_rules[_i].json);
    struct pruner *p = NULL;
    struct err e = { 0 };
    struct bench b;

    bench_init(&b, 2, len);
    ck_assert_int_eq(pruner_new(&p, &c, &b.net, 1, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, bad_rules[_i].at);
    ck_assert_ptr_null(p);
    b.weight[0].info.prunable = b.weight[2].info.prunable = false;
    ck_assert_int_eq(pruner_new(&p, &c, &b.net, 1, &e), ERR_INVALID);
    bench_clear(&b);
}
END_TEST

START_TEST(a_sparse_model_starts_where_it_is)
{
    static const int len = 1000;
    static const char *const criteria[] = { "{\"iterations\": 2, \"schedule\": \"exponential\", \"target_sparsity\": 0.875}",
                                            "{\"criterion\": \"random\", \"iterations\": 2, \"schedule\": \"exponential\", \"target_sparsity\": 0.875}" };
    struct prune_conf c = conf_of(criteria[_i]);
    struct pruner *p, *again;
    struct bench b;
    json_t *saved;

    bench_init(&b, 1, &len);
    fill(&b, 3, 0);
    for (int k = 0; k < 1000; k += 2)
        b.weight[0].x[k] = 0;
    ck_assert_int_eq(pruner_new(&p, &c, &b.net, 1, NULL), ERR_OK);
    ck_assert_uint_eq(pruner_count(p, 1), 750);
    ck_assert_int_eq(pruner_step(p, &b.net, 1, NULL, NULL), ERR_OK);
    for (int k = 0; k < 1000; k += 2)
        ck_assert(!b.weight[0].mask[k]); /* the zeros went first */
    saved = pruner_save(p);
    ck_assert_int_eq(pruner_new(&again, &c, &b.net, 1, NULL), ERR_OK);
    ck_assert_uint_ne(pruner_count(again, 1), 750); /* it would start from here ... */
    ck_assert_int_eq(pruner_load(again, saved, NULL), ERR_OK);
    ck_assert_uint_eq(pruner_count(again, 1), 750); /* ... but for what was saved */
    json_array_set_new(saved, 0, json_integer(1001));
    ck_assert_int_eq(pruner_load(again, saved, NULL), ERR_INVALID);
    ck_assert_int_eq(pruner_load(again, NULL, NULL), ERR_INVALID);
    json_decref(saved);
    pruner_free(p);
    pruner_free(again);
    bench_clear(&b);
}
END_TEST

START_TEST(a_score_that_is_not_finite)
{
    static const int len = 10;
    struct prune_conf c = conf_of("{}");
    struct pruner *p;
    struct bench b;
    struct err e = { 0 };

    bench_init(&b, 1, &len);
    fill(&b, 3, 0);
    b.weight[0].x[4] = NAN;
    ck_assert_int_eq(pruner_new(&p, &c, &b.net, 1, NULL), ERR_OK);
    ck_assert_int_eq(pruner_step(p, &b.net, 1, NULL, &e), ERR_DIVERGED);
    ck_assert_ptr_nonnull(strstr(e.msg, "score 4 of dense_0/kernel"));
    ck_assert_uint_eq(masked_all(&b), 0);
    pruner_free(p);
    bench_clear(&b);
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    static const int len[2] = { 10, 20 };
    struct prune_conf c = conf_of("{}");
    bool fired = true;

    for (long k = 1; fired; k++) {
        struct pruner *p = NULL;
        struct bench b;
        enum err_code rc;

        bench_init(&b, 2, len);
        fill(&b, 3, 0);
        mem_fail_in = k;
        rc = pruner_new(&p, &c, &b.net, 1, NULL);
        if (rc == ERR_OK)
            rc = pruner_step(p, &b.net, 1, NULL, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_int_eq(rc, fired ? ERR_NOMEM : ERR_OK);
        ck_assert(!fired || masked_all(&b) == 0);
        pruner_free(p);
        bench_clear(&b);
    }
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "prune");

    tcase_add_test(tc, tables_are_complete);
    tcase_add_test(tc, schedule_laws);
    tcase_add_test(tc, iterative_magnitude_pruning);
    tcase_add_test(tc, ties_go_by_lower_index);
    tcase_add_test(tc, exactly_the_count);
    tcase_add_test(tc, single_weights_to_the_nearest_integer);
    tcase_add_loop_test(tc, scopes_divide_as_the_papers_do, 0, sizeof golden_scopes / sizeof golden_scopes[0]);
    tcase_add_test(tc, lower_bounds_and_last_units);
    tcase_add_test(tc, largest_of_each_layer_stays);
    tcase_add_test(tc, rules);
    tcase_add_loop_test(tc, rules_that_say_nothing_are_errors, 0, sizeof bad_rules / sizeof bad_rules[0]);
    tcase_add_loop_test(tc, a_sparse_model_starts_where_it_is, 0, 2);
    tcase_add_test(tc, a_score_that_is_not_finite);
    tcase_add_test(tc, every_allocation_fails_once);
}
SUITE_MAIN("prune", cases)
