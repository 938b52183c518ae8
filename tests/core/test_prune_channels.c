/* Every criterion with every unit and scope on a small net of convolutions: either it is refused before anything is scored, at its field, or it masks
 * exactly what the plan says, the same every time and for any team, and leaves the numbers that stay as they were. A new row is tested by itself. */
#include "core/gemm.h"
#include "core/mem.h"
#include "core/prune.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

enum { SAMPLES = 12, FEATURES = 50, CLASSES = 3 };

struct bench {
    struct net *net;
    struct dataset data;
    struct data_views views;
    struct loss_binding loss;
    float x[SAMPLES * FEATURES], center[FEATURES], scale[FEATURES];
    int32_t label[SAMPLES];
};

static void bench_open(struct bench *b)
{
    int a, c;

    *b = (struct bench){ .net = net_of_image(2, 5, 5) };
    a = net_chain(b->net, "conv2d", "{\"filters\": 6, \"kernel_height\": 3, \"kernel_width\": 3, \"padding\": \"same\"}", "a");
    net_chain(b->net, "batch_norm", "", "norm");
    net_chain(b->net, "relu", "", "relu");
    net_chain(b->net, "depthwise_conv2d", "{\"kernel_height\": 3, \"kernel_width\": 3, \"padding\": \"same\"}", "d");
    c = net_chain(b->net, "conv2d", "{\"filters\": 6, \"kernel_height\": 1, \"kernel_width\": 1, \"use_bias\": false}", "c");
    net_with(b->net, "add", "", "sum", a, c);
    net_chain(b->net, "max_pool2d", "", "pool");
    net_chain(b->net, "conv2d", "{\"filters\": 5, \"kernel_height\": 2, \"kernel_width\": 2}", "e");
    net_chain(b->net, "global_average_pool", "", "mean");
    net_chain(b->net, "dense", "{\"units\": 3}", "out");
    net_chain(b->net, "softmax", "", "out");
    net_init(b->net, 4);
    fill_normal(b->x, SAMPLES * FEATURES, 1);
    for (int i = 0; i < FEATURES; i++)
        b->scale[i] = 1;
    for (int i = 0; i < SAMPLES; i++)
        b->label[i] = i % CLASSES;
    b->data = (struct dataset){ .shape = *net_input(b->net), .n_features = FEATURES, .n_classes = CLASSES, .center = b->center, .scale = b->scale,
                                .split = { { .n = SAMPLES, .x = b->x, .label = b->label } } };
    ck_assert_int_eq(data_views_new(&b->views, &b->data, 0, 1, NULL), ERR_OK);
    ck_assert_int_eq(loss_bind(&b->loss, loss_default(b->net, CLASSES), b->net, CLASSES, 0, NULL), ERR_OK);
}

static void bench_close(struct bench *b)
{
    data_views_free(&b->views);
    net_free(b->net);
}

/* Amount that is masked, by the measure: of units weight and n:m, where a unit is a number. */
static uint64_t masked(const struct net *net)
{
    uint64_t n = 0;

    for (const struct weight *w = net->weight; w < net->weight + net->n_weights; w++)
        for (size_t k = 0; k < w->len && w->mask; k++)
            n += !w->mask[k];
    return n;
}

/* Two steps on a copy. */
static struct net *pruned(const struct bench *b, const struct prune_conf *conf, struct team *team, const char *what)
{
    const struct prune_data data = { .train = &b->views.train, .loss = &b->loss, .team = team };
    const bool solves = criterion_of(conf->criterion.plug)->solve, neurons = prune_unit_of(conf->unit.plug)->neurons;
    bool numbers = !neurons && !prune_unit_of(conf->unit.plug)->unit_at;
    struct pruner *p = NULL;
    struct net *net;
    struct err e = { 0 };

    ck_assert_int_eq(net_clone(&net, b->net, NULL), ERR_OK);
    ck_assert_msg(pruner_new(&p, conf, net, 7, &e) == ERR_OK, "%s: %s %s", what, e.at, e.msg);
    for (int i = 1; i <= 2; i++) {
        ck_assert_msg(pruner_step(p, net, i, &data, &e) == ERR_OK, "%s: %s", what, e.msg);
        ck_assert_msg(!numbers || masked(net) == pruner_count(p, i), "%s: %d are masked", what, (int)masked(net));
    }
    for (int w = 0; w < net->n_weights; w++) {
        const struct weight *now = &net->weight[w], *before = &b->net->weight[w];

        for (size_t k = 0; k < now->len; k++)
            ck_assert_msg(now->mask && !now->mask[k] ? now->x[k] == 0 : now->x[k] == before->x[k] || solves || (neurons && now->x[k] == 0), "%s: %s", what, now->name);
    }
    pruner_free(p);
    return net;
}

static void same(const struct net *a, const struct net *b, const char *what)
{
    for (int w = 0; w < a->n_weights; w++)
        ck_assert_msg(memcmp(a->weight[w].x, b->weight[w].x, a->weight[w].len * sizeof(float)) == 0, "%s differs from one run to the next", what);
}

/* false: refused, and why is said at a field. */
static bool is_taken(const struct bench *b, const struct prune_conf *conf, const char *what)
{
    struct pruner *p = NULL;
    struct err e = { 0 };
    enum err_code rc = pruner_new(&p, conf, b->net, 7, &e);

    ck_assert_msg(rc == ERR_OK || rc == ERR_INVALID || rc == ERR_UNSUPPORTED, "%s: %s", what, e.msg);
    ck_assert_msg(rc == ERR_OK || (strncmp(e.at, "/criterion", 10) == 0 || strcmp(e.at, "/unit") == 0), "%s: %s %s", what, e.at, e.msg);
    pruner_free(p);
    return rc == ERR_OK;
}

static int n_rows(const struct plug_table *t)
{
    int n = 0;

    while (t->rows[n])
        n++;
    return n;
}

START_TEST(every_criterion)
{
    const char *criterion = criterion_table.rows[_i]->name;
    struct team *team;
    struct bench b;

    bench_open(&b);
    ck_assert_int_eq(team_new(&team, 2, NULL), ERR_OK);
    for (int u = 0; u < n_rows(&unit_table); u++)
        for (int s = 0; s < n_rows(&scope_table); s++) {
            json_t *j = json_pack("{s:s,s:s,s:s,s:i,s:f,s:s}", "criterion", criterion, "unit", unit_table.rows[u]->name, "scope", scope_table.rows[s]->name,
                                  "iterations", 2, "target_sparsity", 0.6, "measure", s % 2 ? "weights" : "units");
            char what[100];
            struct prune_conf conf;
            struct net *one, *two;

            snprintf(what, sizeof what, "%s, %s, %s", criterion, unit_table.rows[u]->name, scope_table.rows[s]->name);
            ck_assert_int_eq(params_parse(&conf, sizeof conf, prune_params, j, NULL), ERR_OK);
            json_decref(j);
            if (!is_taken(&b, &conf, what))
                continue;
            one = pruned(&b, &conf, NULL, what);
            two = pruned(&b, &conf, team, what);
            same(one, two, what);
            net_free(one);
            net_free(two);
        }
    team_free(team);
    bench_close(&b);
}
END_TEST

/* Density by (height + width + inputs + outputs) / their product: the 1x1 kernel stays denser than the 3x3 one. */
START_TEST(erk_knows_windows)
{
    struct bench b;
    struct prune_conf conf;
    struct pruner *p;
    json_t *j = json_pack("{s:s,s:i,s:f}", "scope", "erk", "iterations", 1, "target_sparsity", 0.7), *plan, *layer;
    double sparsity[8] = { 0 };
    size_t i;

    bench_open(&b);
    ck_assert_int_eq(params_parse(&conf, sizeof conf, prune_params, j, NULL), ERR_OK);
    ck_assert_int_eq(pruner_new(&p, &conf, b.net, 1, NULL), ERR_OK);
    plan = pruner_plan(p, b.net, 1);
    json_array_foreach(json_object_get(plan, "layers"), i, layer) /* a 6x2x3x3, d 6x1x3x3, c 6x6x1x1, e 5x6x2x2, out 3x5 */
        sparsity[i] = json_real_value(json_object_get(layer, "sparsity"));
    ck_assert_uint_eq(i, 5);
    ck_assert(sparsity[1] < sparsity[0] && sparsity[2] < sparsity[0]);
    ck_assert(fabs((1 - sparsity[3]) / (1 - sparsity[0]) - 15.0 / 120 / (14.0 / 108)) < 0.05); /* the counts are whole numbers */
    json_decref(plan);
    json_decref(j);
    pruner_free(p);
    bench_close(&b);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "laws");

    gemm_init();
    tcase_add_loop_test(tc, every_criterion, 0, n_rows(&criterion_table));
    tcase_add_test(tc, erk_knows_windows);
}
SUITE_MAIN("pruning of channels", cases)
