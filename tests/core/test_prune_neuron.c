/* Pruning of neurons, on nets with all that carries neurons along: for every criterion, scope and measure, what goes is whole neurons, as near to the
 * target as whole neurons come, and never the last of a layer. */
#include "core/prune.h"

#include "core/mem.h"
#include "tests/core/prune_conf.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

static struct net *plain(void)
{
    struct net *net = net_of(12);

    net_chain(net, "dense", "{\"units\": 20}", "a");
    net_chain(net, "relu", "", "a");
    net_chain(net, "dense", "{\"units\": 9}", "b");
    net_chain(net, "batch_norm", "", "norm");
    net_chain(net, "tanh", "", "t");
    net_chain(net, "dense", "{\"units\": 5}", "out");
    net_chain(net, "softmax", "", "out");
    return net;
}

static struct net *residual(void)
{
    struct net *net = net_of(7);
    int a = net_chain(net, "dense", "{\"units\": 16}", "a"), b = net_chain(net, "dense", "{\"units\": 16}", "b");
    int c;

    net_with(net, "add", "", "sum", a, b);
    c = net_chain(net, "dense", "{\"units\": 11, \"use_bias\": false}", "c");
    net_with(net, "concatenate", "", "cat", c, a);
    net_chain(net, "dense", "{\"units\": 3}", "out");
    return net;
}

#define CONV(filters, side) "{\"filters\": " #filters ", \"kernel_height\": " #side ", \"kernel_width\": " #side ", \"padding\": \"same\", \"use_bias\": false}"

/* Two blocks, the second with half the side; flattened channels; a depthwise kernel with two rows each. */
static struct net *images(void)
{
    struct net *net = net_of_image(2, 6, 6);
    int a = net_chain(net, "conv2d", CONV(7, 3), "stem"), b;

    net_chain(net, "conv2d", CONV(5, 3), "a");
    net_chain(net, "batch_norm", "", "norm");
    net_chain(net, "relu", "", "relu");
    b = net_chain(net, "conv2d", CONV(7, 1), "b");
    net_with(net, "add", "", "sum", a, b);
    net_chain(net, "average_pool2d", "", "half");
    net_chain(net, "depthwise_conv2d", "{\"kernel_height\": 2, \"kernel_width\": 2, \"depth_multiplier\": 2}", "d");
    net_chain(net, "conv2d", CONV(6, 2), "c");
    net_must(net_add(net, op_find("reshape"), &(struct plug_value){ .plug = &op_find("reshape")->plug }, "flat", &(int){ net->n_nodes - 1 }, 1, NULL, NULL),
             "flat", &(struct err){ 0 });
    net_chain(net, "dense", "{\"units\": 3}", "out");
    return net;
}

/* Dense layers at each place; flattened, the second one's neurons are read at all places. */
static struct net *places(void)
{
    struct net *net = net_of_image(3, 4, 2);

    net_chain(net, "dense", "{\"units\": 8}", "a");
    net_chain(net, "batch_norm", "", "norm");
    net_chain(net, "relu", "", "relu");
    net_chain(net, "dense", "{\"units\": 6, \"use_bias\": false}", "b");
    net_must(net_add(net, op_find("reshape"), &(struct plug_value){ .plug = &op_find("reshape")->plug }, "flat", &(int){ net->n_nodes - 1 }, 1, NULL, NULL),
             "flat", &(struct err){ 0 });
    net_chain(net, "dense", "{\"units\": 3}", "out");
    return net;
}

static struct net *(*const nets[])(void) = { plain, residual, images, places };
enum { N_NETS = sizeof nets / sizeof nets[0] };

static struct net *some_net(int i)
{
    struct net *net = nets[i]();

    net_init(net, 3);
    for (int w = 0; w < net->n_weights; w++)
        if (net->weight[w].info.trainable)
            fill_normal(net->weight[w].x, net->weight[w].len, (uint32_t)w);
    return net;
}

/* ---- what is masked ---- */

static bool neuron_is_gone(const struct net *net, const struct bundle *b, int j)
{
    for (int m = 0; m < b->n_members; m++) {
        const struct weight *w = &net->weight[b->member[m].w];
        struct group_slice s = group_slice(w, &b->member[m], j);

        for (int k = 0; k < s.n && w->info.prunable; k++)
            for (size_t i = 0; i < s.len; i++)
                if (!w->mask || w->mask[s.first + (size_t)k * s.stride + i])
                    return false;
    }
    return true;
}

/* Masks are exactly those of the neurons that are gone, biases of these are zero, and no bundle is without a neuron. Returns how many neurons are gone. */
static uint64_t check_neurons(const struct net *net)
{
    struct groups g;
    uint64_t n = 0;
    uint8_t *mask[32] = { 0 };
    bool same = true;

    ck_assert_int_eq(groups_find(&g, net, NULL), ERR_OK);
    for (int w = 0; w < net->n_weights; w++) {
        mask[w] = mem_alloc(net->weight[w].len);
        memset(mask[w], 1, net->weight[w].len);
    }
    for (int i = 0; i < g.n; i++) {
        const struct bundle *b = &g.bundle[i];
        int gone = 0;

        for (int j = 0; j < b->n; j++) {
            if (b->fixed || !neuron_is_gone(net, b, j))
                continue;
            gone++;
            for (int m = 0; m < b->n_members; m++) {
                struct group_slice s = group_slice(&net->weight[b->member[m].w], &b->member[m], j);

                for (int k = 0; k < s.n; k++)
                    memset(mask[b->member[m].w] + s.first + (size_t)k * s.stride, 0, s.len);
            }
        }
        ck_assert(b->fixed || gone < b->n);
        n += (uint64_t)gone;
    }
    for (int w = 0; w < net->n_weights; w++) {
        const struct weight *at = &net->weight[w];

        for (size_t k = 0; k < at->len; k++) {
            same = same && (!at->info.prunable || !at->mask || at->mask[k] == mask[w][k]);
            same = same && (mask[w][k] || !at->info.trainable || at->x[k] == 0);
        }
        mem_free(mask[w]);
    }
    ck_assert(same);
    groups_clear(&g);
    return n;
}

static uint64_t masked(const struct net *net)
{
    uint64_t n = 0;

    for (int w = 0; w < net->n_weights; w++)
        for (size_t k = 0; k < net->weight[w].len && net->weight[w].info.prunable; k++)
            n += net->weight[w].mask && !net->weight[w].mask[k];
    return n;
}

/* The most that a neuron takes with it, of the measure. */
static uint64_t largest(const struct net *net, bool macs)
{
    struct groups g;
    uint64_t most = 0;

    ck_assert_int_eq(groups_find(&g, net, NULL), ERR_OK);
    for (const struct bundle *b = g.bundle; b < g.bundle + g.n; b++) {
        uint64_t sum = 0;

        for (int m = 0; m < b->n_members && !b->fixed; m++) {
            const struct weight *w = &net->weight[b->member[m].w];
            struct group_slice s = group_slice(w, &b->member[m], 0);

            sum += w->info.prunable ? (uint64_t)s.n * s.len * (macs ? net->node[w->node].plan.macs / w->len : 1) : 0;
        }
        most = sum > most ? sum : most;
    }
    groups_clear(&g);
    return most;
}

static uint64_t macs_gone(const struct net *net)
{
    struct net_size size;

    net_count(net, &size);
    return size.macs - size.macs_nonzero;
}

/* What stays of each bundle is a multiple, or all. */
static void check_multiples(const struct net *net, int of)
{
    struct groups g;

    ck_assert_int_eq(groups_find(&g, net, NULL), ERR_OK);
    for (const struct bundle *b = g.bundle; b < g.bundle + g.n; b++) {
        int left = b->n;

        for (int j = 0; j < b->n && !b->fixed; j++)
            left -= neuron_is_gone(net, b, j);
        ck_assert_msg(left == b->n || left % of == 0, "%d of %d stay", left, b->n);
    }
    groups_clear(&g);
}

/* ---- laws ---- */

static const double targets[] = { 0.3, 0.75, 1 };

static const char *const costs[] = { "none", "weights", "macs", "time" };
enum { N_COSTS = sizeof costs / sizeof costs[0] };

static void law(int which, const struct criterion *c, const char *scope, const char *measure, double target, int round_to, const char *cost)
{
    char json[300];
    struct net *net = some_net(which);
    struct net_size size;
    uint64_t before = 0, most;
    struct prune_conf conf;
    struct pruner *p;
    struct err e = { 0 };

    snprintf(json, sizeof json, "{\"criterion\": \"%s\", \"unit\": {\"type\": \"neuron\", \"round_to\": %d, \"cost\": \"%s\"}, \"scope\": \"%s\", "
             "\"measure\": \"%s\", \"iterations\": 3, \"target_sparsity\": %g}", c->plug.name, round_to, cost, scope, measure, target);
    conf = conf_of(json);
    net_count(net, &size);
    most = largest(net, conf.measure == MEASURE_MACS);
    ck_assert_msg(pruner_new(&p, &conf, net, 5, &e) == ERR_OK, "%s: %s %s", json, e.at, e.msg);
    for (int i = 1; i <= 3; i++) {
        json_t *plan = pruner_plan(p, net, i), *nonzero = json_object_get(plan, "nonzero");
        uint64_t neurons, weights, gone;

        ck_assert_msg(pruner_step(p, net, i, NULL, &e) == ERR_OK, "%s: %s", json, e.msg);
        neurons = check_neurons(net);
        check_multiples(net, round_to);
        weights = masked(net);
        gone = conf.measure == MEASURE_MACS ? macs_gone(net) : weights;
        ck_assert_uint_ge(weights, before);
        before = weights;
        if (conf.measure == MEASURE_UNITS)
            ck_assert_uint_eq(neurons, pruner_count(p, i));
        else if (target * round_to < 1) /* within reach */
            ck_assert_msg(fabs((double)gone - (double)pruner_count(p, i)) <= 0.5 * round_to * (double)most, "%s: %d, not %d", json, (int)gone, (int)pruner_count(p, i));
        if (prune_scope_of(conf.scope.plug)->density)
            ck_assert_int_eq(json_integer_value(nonzero), (json_int_t)(size.weights - weights));
        for (int w = 0; w < net->n_weights; w++) /* retraining moves what is left */
            for (size_t k = 0; k < net->weight[w].len && net->weight[w].info.trainable; k++)
                net->weight[w].x[k] *= 1 + (float)((k * 7 + (size_t)i) % 5);
        json_decref(plan);
    }
    pruner_free(p);
    net_free(net);
}

START_TEST(whole_neurons_for_every_criterion_and_scope)
{
    static const char *const measures[] = { "weights", "units", "macs" };
    int round = 0;

    for (const struct plug *const *row = criterion_table.rows; *row; row++) {
        const struct criterion *c = criterion_of(*row);

        for (const struct plug *const *scope = scope_table.rows; *scope && !c->samples && !c->solve; scope++)
            for (int m = 0; m < 3; m++, round++)
                for (int n = 0; n < N_NETS; n++)
                    for (int round_to = 1; round_to <= (m == MEASURE_UNITS ? 1 : 4); round_to += round_to)
                        law(n, c, (*scope)->name, measures[m], targets[round % 3], round_to, prune_scope_of(*scope)->density ? "none" : costs[round % N_COSTS]);
    }
}
END_TEST

/* ---- single cases ---- */

START_TEST(the_neuron_with_the_smallest_mean_goes)
{
    static const float kernel[3][2] = { { 1, -4 }, { 3, 1 }, { -2, 4 } }; /* means of |w|: 2.5, 2, 3; largest: 4, 3, 4 */
    struct net *net = net_of(2);
    struct prune_conf c = conf_of("{\"unit\": \"neuron\", \"measure\": \"units\", \"iterations\": 1, \"target_sparsity\": 0.33}");
    struct pruner *p;

    net_chain(net, "dense", "{\"units\": 3}", "a");
    net_chain(net, "dense", "{\"units\": 2}", "out");
    net_init(net, 1);
    memcpy(net_weight(net, "a/kernel")->x, kernel, sizeof kernel);
    fill_normal(net_weight(net, "a/bias")->x, 3, 1);
    ck_assert_int_eq(pruner_new(&p, &c, net, 1, NULL), ERR_OK);
    ck_assert_int_eq(pruner_step(p, net, 1, NULL, NULL), ERR_OK);
    ck_assert_mem_eq(net_weight(net, "a/kernel")->mask, ((uint8_t[]){ 1, 1, 0, 0, 1, 1 }), 6);
    ck_assert_mem_eq(net_weight(net, "out/kernel")->mask, ((uint8_t[]){ 1, 0, 1, 1, 0, 1 }), 6);
    ck_assert(net_weight(net, "a/bias")->x[0] != 0 && net_weight(net, "a/bias")->x[1] == 0 && net_weight(net, "a/bias")->x[2] != 0);
    pruner_free(p);
    net_free(net);
}
END_TEST

static uint64_t rows_masked(const struct net *net, const char *name)
{
    const struct weight *w = net_weight(net, name);
    size_t columns = w->len / (size_t)w->info.shape.d[0];
    uint64_t n = 0;

    for (size_t r = 0; r < (size_t)w->info.shape.d[0]; r++) {
        bool kept = !w->mask;

        for (size_t k = 0; k < columns && w->mask; k++)
            kept = kept || w->mask[r * columns + k];
        n += !kept;
    }
    return n;
}

/* A neuron of a goes with 1 + 50 weights, 64 + 50 multiply-adds and 64 numbers; one of b with 3 + 2 weights, as many multiply-adds and 1 number. */
static const struct { float a; const char *cost; bool a_goes; } dear[] = { /* the scores of b are 1 */
    { 0.9f, "none", true },    { 1.1f, "none", false }, { 10, "weights", true }, { 10.5f, "weights", false },
    { 22, "macs", true },      { 23, "macs", false },   { 62, "time", true },    { 64, "time", false },
};
enum { N_DEAR = sizeof dear / sizeof dear[0] };

START_TEST(of_neurons_worth_the_same_the_dearest_goes)
{
    struct net *net = net_of_image(1, 8, 8);
    char json[200];
    struct prune_conf c;
    struct pruner *p;

    snprintf(json, sizeof json, "{\"unit\": {\"type\": \"neuron\", \"cost\": \"%s\"}, \"measure\": \"units\", \"iterations\": 1, \"target_sparsity\": 0.02}",
             dear[_i].cost);
    c = conf_of(json);
    net_chain(net, "conv2d", CONV(3, 1), "a");
    net_chain(net, "global_average_pool", "", "pool");
    net_chain(net, "dense", "{\"units\": 50}", "b");
    net_chain(net, "dense", "{\"units\": 2}", "out");
    net_init(net, 1);
    for (int i = 0; i < 3; i++)
        net_weight(net, "a/kernel")->x[i] = dear[_i].a;
    for (int i = 0; i < 150; i++)
        net_weight(net, "b/kernel")->x[i] = i % 2 ? 1 : -1;
    ck_assert_int_eq(pruner_new(&p, &c, net, 1, NULL), ERR_OK);
    ck_assert_int_eq(pruner_step(p, net, 1, NULL, NULL), ERR_OK);
    ck_assert_uint_eq(rows_masked(net, "a/kernel"), dear[_i].a_goes);
    ck_assert_uint_eq(rows_masked(net, "b/kernel"), !dear[_i].a_goes);
    pruner_free(p);
    net_free(net);
}
END_TEST

START_TEST(cost_wants_competition)
{
    struct prune_conf c = conf_of("{\"unit\": {\"type\": \"neuron\", \"cost\": \"time\"}, \"scope\": \"layer\"}");
    struct net *net = some_net(0);
    struct err e = { 0 };
    struct pruner *p;

    ck_assert_int_eq(pruner_new(&p, &c, net, 1, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, "/unit/cost");
    net_free(net);
}
END_TEST

static const char *const halves[] = { "layer", "global", "erk" };

START_TEST(half_the_macs)
{
    struct net *net = net_of(784);
    char json[160];
    struct prune_conf c;
    struct net_size size;
    struct pruner *p;

    snprintf(json, sizeof json, "{\"unit\": \"neuron\", \"scope\": \"%s\", \"measure\": \"macs\", \"iterations\": 2, \"target_sparsity\": 0.5}", halves[_i]);
    c = conf_of(json);
    net_chain(net, "dense", "{\"units\": 300}", "a");
    net_chain(net, "relu", "", "a");
    net_chain(net, "dense", "{\"units\": 100}", "b");
    net_chain(net, "relu", "", "b");
    net_chain(net, "dense", "{\"units\": 10}", "out");
    net_init(net, 1);
    ck_assert_int_eq(pruner_new(&p, &c, net, 1, NULL), ERR_OK);
    for (int i = 1; i <= 2; i++)
        ck_assert_int_eq(pruner_step(p, net, i, NULL, NULL), ERR_OK);
    net_count(net, &size);
    ck_assert(fabs((double)size.macs_nonzero - 0.5 * (double)size.macs) <= 884 / 2.0);
    check_neurons(net);
    pruner_free(p);
    net_free(net);
}
END_TEST

START_TEST(widths_for_blocks_of_sixteen)
{
    struct net *net = net_of(784);
    struct prune_conf c = conf_of("{\"unit\": {\"type\": \"neuron\", \"round_to\": 16}, \"measure\": \"macs\", \"iterations\": 2, \"target_sparsity\": 0.5, "
                                  "\"layers\": [{\"layer\": \"b\", \"target_sparsity\": 0.3}]}");
    struct prune_conf units = conf_of("{\"unit\": {\"type\": \"neuron\", \"round_to\": 2}, \"measure\": \"units\"}");
    struct net_size size;
    struct pruner *p;
    struct err e = { 0 };

    net_chain(net, "dense", "{\"units\": 300}", "a");
    net_chain(net, "dense", "{\"units\": 100}", "b");
    net_chain(net, "dense", "{\"units\": 10}", "out");
    net_init(net, 1);
    ck_assert_int_eq(pruner_new(&p, &units, net, 1, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, "/unit/round_to");
    ck_assert_int_eq(pruner_new(&p, &c, net, 1, NULL), ERR_OK);
    for (int i = 1; i <= 2; i++)
        ck_assert_int_eq(pruner_step(p, net, i, NULL, NULL), ERR_OK);
    check_multiples(net, 16);
    ck_assert_uint_eq(rows_masked(net, "b/kernel"), 20); /* 70 would stay: 80 do */
    net_count(net, &size);
    ck_assert(fabs((double)size.macs_nonzero - 0.5 * (double)size.macs) <= 16 * 884 / 2.0);
    pruner_free(p);
    net_free(net);
}
END_TEST

START_TEST(rules_of_layers_of_neurons)
{
    struct net *net = some_net(0), *again;
    struct prune_conf c = conf_of("{\"unit\": \"neuron\", \"iterations\": 2, \"target_sparsity\": 0.6, \"min_units\": 4, \"layers\": [{\"layer\": \"b\", \"target_sparsity\": 1}]}");
    struct prune_conf ignoring = conf_of("{\"unit\": \"neuron\", \"iterations\": 1, \"target_sparsity\": 1, \"layers\": [{\"layer\": \"a\", \"ignore\": true}]}");
    struct prune_conf output = conf_of("{\"unit\": \"neuron\", \"layers\": [{\"layer\": \"out\", \"ignore\": true}]}");
    struct err e = { 0 };
    struct pruner *p;

    ck_assert_int_eq(net_clone(&again, net, NULL), ERR_OK);
    ck_assert_int_eq(pruner_new(&p, &c, net, 1, NULL), ERR_OK);
    for (int i = 1; i <= 2; i++)
        ck_assert_int_eq(pruner_step(p, net, i, NULL, NULL), ERR_OK);
    ck_assert_uint_eq(rows_masked(net, "b/kernel"), 5); /* of 9: min_units stay */
    pruner_free(p);
    ck_assert_int_eq(pruner_new(&p, &ignoring, again, 1, NULL), ERR_OK);
    ck_assert_int_eq(pruner_step(p, again, 1, NULL, NULL), ERR_OK);
    ck_assert(rows_masked(again, "a/kernel") == 0 && rows_masked(again, "b/kernel") == 8);
    pruner_free(p);
    ck_assert_int_eq(pruner_new(&p, &output, again, 1, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, "/layers/0/layer");
    net_free(again);
    net_free(net);
}
END_TEST

START_TEST(a_shrunken_start_counts)
{
    struct net *net = some_net(0);
    struct prune_conf c = conf_of("{\"unit\": \"neuron\", \"scope\": \"layer\", \"measure\": \"units\", \"schedule\": \"linear\", \"iterations\": 2, \"target_sparsity\": 0.5}");
    struct pruner *p;
    struct weight *a = net_weight(net, "a/kernel"), *b = net_weight(net, "b/kernel");

    for (int j = 10; j < 20; j++) { /* half of layer a is dead */
        memset(a->x + 12 * j, 0, 12 * sizeof(float));
        for (int r = 0; r < 9; r++)
            b->x[20 * r + j] = 0;
    }
    ck_assert_int_eq(pruner_new(&p, &c, net, 1, NULL), ERR_OK);
    ck_assert_int_eq(pruner_step(p, net, 1, NULL, NULL), ERR_OK);
    ck_assert_uint_eq(pruner_count(p, 1), 12); /* 10 of 29 on the way to 14.5: 12.25 */
    for (int j = 0; j < 10; j++)
        ck_assert(a->x[12 * j] != 0);
    pruner_free(p);
    net_free(net);
}
END_TEST

START_TEST(criteria_that_do_not_fit)
{
    for (const struct plug *const *row = criterion_table.rows; *row; row++) {
        const struct criterion *c = criterion_of(*row);
        struct net *net = some_net(0);
        struct prune_conf conf;
        struct pruner *p = NULL;
        struct err e = { 0 };
        char json[120];

        snprintf(json, sizeof json, "{\"criterion\": \"%s\", \"unit\": \"%s\"}", c->plug.name, criterion_scores_weights(c) ? "neuron" : "weight");
        conf = conf_of(json);
        ck_assert_int_eq(pruner_new(&p, &conf, net, 1, &e), criterion_scores_weights(c) && !c->solve ? ERR_OK : ERR_INVALID);
        if (!p)
            ck_assert_str_eq(e.at, c->solve ? "/unit" : "/criterion");
        pruner_free(p);
        net_free(net);
    }
}
END_TEST

START_TEST(a_net_of_outputs_only)
{
    struct net *net = net_of(4);
    struct prune_conf c = conf_of("{\"unit\": \"neuron\"}");
    struct pruner *p;
    struct err e = { 0 };

    net_chain(net, "dense", "{\"units\": 3}", "out");
    ck_assert_int_eq(pruner_new(&p, &c, net, 1, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, "/unit");
    net_free(net);
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    struct prune_conf c = conf_of("{\"unit\": \"neuron\", \"iterations\": 1, \"target_sparsity\": 0.5}");
    bool fired = true;

    for (long k = 1; fired; k++) {
        struct net *net = some_net(1);
        struct pruner *p = NULL;
        enum err_code rc;

        mem_fail_in = k;
        rc = pruner_new(&p, &c, net, 1, NULL);
        if (rc == ERR_OK)
            rc = pruner_step(p, net, 1, NULL, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_int_eq(rc, fired ? ERR_NOMEM : ERR_OK);
        ck_assert(!fired || masked(net) == 0);
        pruner_free(p);
        net_free(net);
    }
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "prune_neuron");

    tcase_add_test(tc, whole_neurons_for_every_criterion_and_scope);
    tcase_add_test(tc, the_neuron_with_the_smallest_mean_goes);
    tcase_add_loop_test(tc, of_neurons_worth_the_same_the_dearest_goes, 0, N_DEAR);
    tcase_add_test(tc, cost_wants_competition);
    tcase_add_loop_test(tc, half_the_macs, 0, sizeof halves / sizeof halves[0]);
    tcase_add_test(tc, widths_for_blocks_of_sixteen);
    tcase_add_test(tc, rules_of_layers_of_neurons);
    tcase_add_test(tc, a_shrunken_start_counts);
    tcase_add_test(tc, criteria_that_do_not_fit);
    tcase_add_test(tc, a_net_of_outputs_only);
    tcase_add_test(tc, every_allocation_fails_once);
}
SUITE_MAIN("prune_neuron", cases)
