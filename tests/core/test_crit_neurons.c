/* Criteria of neurons: laws for every row that has them, golden numbers from PyTorch (tests/golden/neurons.py, channels.py), and the mistakes that
 * others made. Two nets, of units and of channels: a residual stream (a with batch norm, b added to it), and a branch, concatenated; the channels of
 * the stream have a depthwise convolution too, those of the branch are flattened. */
#include "core/prune.h"

#include "core/gemm.h"
#include "core/mem.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

enum { STREAM = 1, BRANCH = 2, N_BUNDLES = 4, MAX_N = 6, MAX_SAMPLES = 24, FEATURES = 5, MAX_FEATURES = 50 };
enum { UNITS, CHANNELS, N_KINDS };

struct bench {
    json_t *golden;
    struct net *net;
    struct groups groups;
    struct dataset data;
    struct data_views views;
    struct loss_binding loss;
    float x[MAX_SAMPLES * MAX_FEATURES], center[MAX_FEATURES], scale[MAX_FEATURES];
    int32_t label[MAX_SAMPLES];
};

static void load_weights(struct bench *b)
{
    const char *name;
    json_t *list, *v;
    size_t i;

    json_object_foreach(json_object_get(b->golden, "weights"), name, list)
    {
        ck_assert_uint_eq(json_array_size(list), net_weight(b->net, name)->len);
        json_array_foreach(list, i, v)
            net_weight(b->net, name)->x[i] = (float)json_number_value(v);
    }
}

static void load_samples(struct bench *b)
{
    const struct shape *shape = net_input(b->net);
    int features = (int)shape_len(shape);

    for (int i = 0; i < MAX_SAMPLES; i++) {
        b->label[i] = (int32_t)json_integer_value(json_array_get(json_object_get(b->golden, "label"), (size_t)i));
        for (int f = 0; f < features; f++)
            b->x[i * features + f] = (float)json_number_value(json_array_get(json_object_get(b->golden, "x"), (size_t)(f * MAX_SAMPLES + i)));
    }
    for (int f = 0; f < features; f++)
        b->scale[f] = 1;
    b->data = (struct dataset){ .shape = *shape, .n_features = features, .n_classes = 3, .center = b->center, .scale = b->scale,
                                .split = { { .n = MAX_SAMPLES, .x = b->x, .label = b->label } } };
    ck_assert_int_eq(data_views_new(&b->views, &b->data, 0, 1, NULL), ERR_OK);
}

static struct net *net_of_units(void)
{
    struct net *net = net_of(FEATURES);
    int r, s;

    net_chain(net, "dense", "{\"units\": 6}", "a");
    net_chain(net, "batch_norm", "", "norm");
    r = net_chain(net, "relu", "", "r");
    net_with(net, "dense", "{\"units\": 6, \"use_bias\": false}", "b", r, -1);
    net_with(net, "add", "", "sum", r, net->n_nodes - 1);
    s = net_chain(net, "relu", "", "s");
    net_chain(net, "dense", "{\"units\": 4}", "c");
    net_chain(net, "tanh", "", "c");
    net_with(net, "concatenate", "", "join", s, net->n_nodes - 1);
    return net;
}

static struct net *net_of_channels(void)
{
    static const char conv[] = "{\"filters\": %d, \"kernel_height\": %d, \"kernel_width\": %d, \"padding\": \"same\", \"use_bias\": %s}";
    struct net *net = net_of_image(2, 5, 5);
    char text[160];
    int r, s, c;

    snprintf(text, sizeof text, conv, 4, 3, 3, "true");
    net_chain(net, "conv2d", text, "a");
    net_chain(net, "batch_norm", "", "norm");
    r = net_chain(net, "relu", "", "r");
    snprintf(text, sizeof text, conv, 4, 3, 3, "false");
    net_with(net, "conv2d", text, "b", r, -1);
    net_with(net, "add", "", "sum", r, net->n_nodes - 1);
    s = net_chain(net, "relu", "", "s");
    net_chain(net, "max_pool2d", "", "pool");
    snprintf(text, sizeof text, conv, 3, 2, 2, "true");
    net_chain(net, "conv2d", text, "c");
    net_chain(net, "relu", "", "c");
    net_must(net_add(net, op_find("reshape"), &(struct plug_value){ .plug = &op_find("reshape")->plug }, "flat", &(int){ net->n_nodes - 1 }, 1, &c, NULL),
             "flat", &(struct err){ 0 });
    net_with(net, "depthwise_conv2d", "{\"kernel_height\": 3, \"kernel_width\": 3}", "d", s, -1);
    net_chain(net, "global_average_pool", "", "mean");
    net_with(net, "concatenate", "", "join", c, net->n_nodes - 1);
    return net;
}

static struct bench *bench_of(int kind)
{
    struct bench *b = mem_zalloc(1, sizeof *b);

    b->golden = json_load_file(kind == UNITS ? GOLDEN_DIR "/neurons.json" : GOLDEN_DIR "/channels.json", 0, NULL);
    b->net = kind == UNITS ? net_of_units() : net_of_channels();
    net_chain(b->net, "dense", "{\"units\": 3}", "out");
    net_chain(b->net, "softmax", "", "out");
    load_weights(b);
    load_samples(b);
    ck_assert_int_eq(groups_find(&b->groups, b->net, NULL), ERR_OK);
    ck_assert_int_ge(b->groups.n, N_BUNDLES);
    ck_assert_int_eq(loss_bind(&b->loss, loss_default(b->net, 3), b->net, 3, 0, NULL), ERR_OK);
    return b;
}

static struct bench *bench_open(void) { return bench_of(UNITS); }

static void bench_close(struct bench *b)
{
    json_decref(b->golden);
    groups_clear(&b->groups);
    data_views_free(&b->views);
    net_free(b->net);
    mem_free(b);
}

/* Scores of the two bundles, all else not wanted. options: JSON with ' for ". */
static enum err_code score(float out[2][MAX_N], const struct bench *b, const struct criterion *c, const char *options, struct team *team,
                           uint64_t step, struct err *e)
{
    char text[200];
    json_t *j;
    struct plug_value conf;
    struct crit_net in = { .net = b->net, .train = &b->views.train, .loss = &b->loss, .team = team, .seed = 7, .step = step, .conf = conf.conf };
    float *of[16] = { [STREAM] = out[0], [BRANCH] = out[1] };
    long k = mem_fail_in;

    mem_fail_in = 0;
    snprintf(text, sizeof text, "{\"type\": \"%s\"%s%s}", c->plug.name, *options ? ", " : "", options);
    for (char *p = text; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    j = json_loads(text, 0, NULL);
    ck_assert_int_eq(plug_parse(&conf, &criterion_table, j, NULL), ERR_OK);
    json_decref(j);
    mem_fail_in = k;
    return c->score_neurons(&in, &b->groups, of, e);
}

static const struct criterion *row(const char *name) { return criterion_of(plug_find(&criterion_table, name)); }

/* ---- golden numbers ---- */

static const struct { const char *criterion, *options, *golden; double tolerance; } golden[] = {
    { "incoming_norm", "'normalize': 'none'", "incoming_norm_1", 1e-6 },
    { "incoming_norm", "'normalize': 'none', 'p': 2", "incoming_norm_2", 1e-6 },
    { "outgoing_norm", "'normalize': 'none'", "outgoing_norm_1", 1e-6 },
    { "outgoing_norm", "'normalize': 'none', 'p': 2", "outgoing_norm_2", 1e-6 },
    { "in_times_out", "'normalize': 'none'", "in_times_out_1", 1e-6 },
    { "in_times_out", "'normalize': 'none', 'p': 2", "in_times_out_2", 1e-6 },
    { "incoming_norm", "'normalize': 'fan'", "incoming_fan_1", 1e-6 },
    { "incoming_norm", "'normalize': 'fan', 'p': 2", "incoming_fan_2", 1e-6 },
    { "in_times_out", "'normalize': 'fan'", "in_times_out_fan_1", 1e-6 },
    { "in_times_out", "'normalize': 'fan', 'p': 2", "in_times_out_fan_2", 1e-6 },
    { "fpgm", "'normalize': 'none'", "fpgm", 1e-6 },
    { "batch_norm_scale", "", "batch_norm_scale", 1e-6 },
    { "mean_activation", "'normalize': 'none'", "mean_activation", 1e-5 },
    { "apoz", "", "apoz_share", 0.5 / 24 }, /* what the size adds among equals */
    { "taylor_gate", "'batch_size': 24", "taylor_gate_24", 1e-5 },
    { "taylor_gate", "'batch_size': 1", "taylor_gate_1", 1e-5 },
};
enum { N_GOLDEN = sizeof golden / sizeof golden[0] };

START_TEST(golden_scores)
{
    struct bench *b = bench_of(_i % N_KINDS);
    json_t *want = json_object_get(json_object_get(b->golden, "scores"), golden[_i / N_KINDS].golden);
    double tolerance = golden[_i / N_KINDS].tolerance;
    float have[2][MAX_N];

    ck_assert_int_eq(score(have, b, row(golden[_i / N_KINDS].criterion), golden[_i / N_KINDS].options, NULL, 0, NULL), ERR_OK);
    for (int k = 0; k < 2; k++)
        for (int j = 0; j < b->groups.bundle[STREAM + k].n; j++) {
            double x = json_number_value(json_array_get(json_array_get(want, (size_t)k), (size_t)j)), h = (double)have[k][j];

            ck_assert_msg(fabs(h - x) <= tolerance * fmax(1, fabs(x)), "%s: %d of %d is %g, must be %g", golden[_i / N_KINDS].golden, j, k, h, x);
        }
    bench_close(b);
}
END_TEST

START_TEST(the_nets_are_the_golden_ones)
{
    static const int n[N_KINDS][2] = { { 6, 4 }, { 4, 3 } };
    struct bench *b = bench_of(_i);
    int numbers = (int)shape_len(net_input(b->net)) * MAX_SAMPLES;
    struct exec *x;
    const float *y;

    ck_assert_int_eq(b->groups.bundle[STREAM].n, n[_i][0]);
    ck_assert_int_eq(b->groups.bundle[BRANCH].n, n[_i][1]);
    ck_assert_int_eq(exec_new(&x, b->net, MAX_SAMPLES, EXEC_KEEP, 0, NULL, NULL), ERR_OK);
    for (int i = 0; i < numbers; i++)
        exec_input(x)[i] = (float)json_number_value(json_array_get(json_object_get(b->golden, "x"), (size_t)i));
    exec_forward(x, MAX_SAMPLES, false, 0);
    y = exec_value(x, b->loss.node);
    for (int i = 0; i < 3 * MAX_SAMPLES; i++)
        ck_assert(fabs((double)y[i] - json_number_value(json_array_get(json_object_get(b->golden, "output"), (size_t)i))) < 2e-5);
    exec_free(x);
    bench_close(b);
}
END_TEST

/* ---- laws ---- */

static bool has_golden(const struct criterion *c)
{
    for (size_t i = 0; i < N_GOLDEN; i++)
        if (strcmp(golden[i].criterion, c->plug.name) == 0)
            return true;
    return strcmp(c->plug.name, "random") == 0;
}

START_TEST(laws)
{
    for (const struct plug *const *p = criterion_table.rows; *p; p++) {
        const struct criterion *c = criterion_of(*p);
        struct bench *b;
        struct net *before;
        struct team *team;
        float s[3][2][MAX_N];

        ck_assert_msg(criterion_scores_weights(c) || criterion_scores_neurons(c), "%s scores nothing", c->plug.name);
        if (!criterion_scores_neurons(c))
            continue;
        ck_assert_msg(has_golden(c), "no golden scores of %s for neurons", c->plug.name);
        b = bench_of(_i);
        ck_assert_int_eq(net_clone(&before, b->net, NULL), ERR_OK);
        ck_assert_int_eq(team_new(&team, 2, NULL), ERR_OK);
        memset(s, 0, sizeof s);
        for (int k = 0; k < 3; k++)
            ck_assert_int_eq(score(s[k], b, c, "", k == 1 ? team : NULL, 1, NULL), ERR_OK);
        ck_assert_msg(memcmp(s[0], s[1], sizeof s[0]) == 0, "%s depends on the team", c->plug.name);
        ck_assert_msg(memcmp(s[0], s[2], sizeof s[0]) == 0, "%s is not repeatable", c->plug.name);
        for (int j = 0; j < MAX_N; j++)
            ck_assert(isfinite(s[0][0][j]) && isfinite(s[0][1][j]));
        for (int w = 0; w < before->n_weights; w++)
            ck_assert_msg(memcmp(before->weight[w].x, b->net->weight[w].x, before->weight[w].len * sizeof(float)) == 0, "%s changes the net", c->plug.name);
        team_free(team);
        net_free(before);
        bench_close(b);
    }
}
END_TEST

START_TEST(dead_or_huge_weights_keep_scores_finite)
{
    for (const struct plug *const *p = criterion_table.rows; *p; p++)
        for (int k = 0; k < 2 && criterion_scores_neurons(criterion_of(*p)); k++) {
            struct bench *b = bench_of(_i);
            float s[2][MAX_N] = { { 0 } };

            for (int w = 0; w < b->net->n_weights; w++)
                for (size_t i = 0; i < b->net->weight[w].len && b->net->weight[w].info.prunable; i++)
                    b->net->weight[w].x[i] = k == 0 ? 0 : i % 2 ? 3e5f : -1e6f;
            ck_assert_int_eq(score(s, b, criterion_of(*p), "", NULL, 1, NULL), ERR_OK);
            for (int j = 0; j < MAX_N; j++)
                ck_assert_msg(isfinite(s[0][j]) && isfinite(s[1][j]), "%s", (*p)->name);
            bench_close(b);
        }
}
END_TEST

START_TEST(memory_is_short)
{
    for (const struct plug *const *p = criterion_table.rows; *p; p++) {
        bool fired = criterion_scores_neurons(criterion_of(*p));
        struct bench *b = bench_open();

        for (long k = 1; fired; k++) {
            float s[2][MAX_N];
            enum err_code rc;

            mem_fail_in = k;
            rc = score(s, b, criterion_of(*p), "", NULL, 1, NULL);
            fired = mem_fail_in == 0;
            mem_fail_in = 0;
            ck_assert(rc == (fired ? ERR_NOMEM : ERR_OK));
        }
        bench_close(b);
    }
}
END_TEST

/* ---- what each promises ---- */

START_TEST(random_differs_by_iteration)
{
    struct bench *b = bench_open();
    float s[2][2][MAX_N];

    for (uint64_t step = 0; step < 2; step++)
        ck_assert_int_eq(score(s[step], b, row("random"), "", NULL, step, NULL), ERR_OK);
    for (int j = 0; j < 4; j++)
        ck_assert(s[0][0][j] != s[1][0][j] && s[0][0][j] != s[0][1][j] && s[0][0][j] >= 0 && s[0][0][j] < 1);
    bench_close(b);
}
END_TEST

static void scale(struct weight *w, float by)
{
    for (size_t i = 0; i < w->len; i++)
        w->x[i] *= by;
}

/* A net of ReLUs computes the same when a layer is scaled up and the next one down: the product of norms does not notice. */
START_TEST(product_ignores_scale)
{
    struct net *net = net_of(3);
    struct groups g;
    struct plug_value conf;
    json_t *j = json_pack("{s:s,s:s}", "type", "in_times_out", "normalize", "none");
    float s[2][4], *of[3] = { 0 };

    net_chain(net, "dense", "{\"units\": 4}", "a");
    net_chain(net, "relu", "", "a");
    net_chain(net, "dense", "{\"units\": 2}", "b");
    net_init(net, 3);
    ck_assert_int_eq(groups_find(&g, net, NULL), ERR_OK);
    ck_assert_int_eq(plug_parse(&conf, &criterion_table, j, NULL), ERR_OK);
    for (int k = 0; k < 2; k++) {
        of[1] = s[k];
        ck_assert_int_eq(criterion_of(conf.plug)->score_neurons(&(struct crit_net){ .net = net, .conf = conf.conf }, &g, of, NULL), ERR_OK);
        scale(net_weight(net, "a/kernel"), 8);
        scale(net_weight(net, "b/kernel"), 0.125f);
    }
    ck_assert_mem_eq(s[0], s[1], sizeof s[0]);
    json_decref(j);
    groups_clear(&g);
    net_free(net);
}
END_TEST

/* Layers compare: scaling one does not change a normalised score, and the mean over a layer is 1. */
START_TEST(normalized_scores_compare)
{
    static const char *const names[] = { "incoming_norm", "outgoing_norm", "in_times_out", "fpgm", "mean_activation" };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct bench *b = bench_open();
        float s[2][MAX_N];

        ck_assert_int_eq(score(s, b, row(names[i]), "", NULL, 0, NULL), ERR_OK);
        ck_assert(fabsf(s[1][0] + s[1][1] + s[1][2] + s[1][3] - 4) < 1e-5f);
        ck_assert(fabsf(s[0][0] + s[0][1] + s[0][2] + s[0][3] + s[0][4] + s[0][5] - 6) < 1e-5f);
        bench_close(b);
    }
}
END_TEST

/* Always zero: the lowest. As often zero: the smaller mean goes first. */
START_TEST(apoz_breaks_ties_by_size)
{
    struct bench *b = bench_open();
    struct weight *kernel = net_weight(b->net, "c/kernel"), *bias = net_weight(b->net, "c/bias");
    float s[2][MAX_N];

    memset(kernel->x, 0, kernel->len * sizeof(float));
    bias->x[0] = 0, bias->x[1] = 0.5f, bias->x[2] = 0.25f, bias->x[3] = -3;
    ck_assert_int_eq(score(s, b, row("apoz"), "", NULL, 0, NULL), ERR_OK);
    ck_assert(s[1][0] == 0 && s[1][0] < s[1][2] && s[1][2] < s[1][1] && s[1][1] < s[1][3] && s[1][2] >= 1);
    bench_close(b);
}
END_TEST

/* Nearly equal rows far from 0: the way over the Gram matrix would give 0, or less. */
START_TEST(fpgm_does_not_cancel)
{
    struct bench *b = bench_open();
    struct weight *kernel = net_weight(b->net, "c/kernel");
    float s[2][MAX_N];

    for (size_t i = 0; i < kernel->len; i++)
        kernel->x[i] = 4096;
    kernel->x[0] += 0.0009765625f * 2;
    ck_assert_int_eq(score(s, b, row("fpgm"), "'normalize': 'none'", NULL, 0, NULL), ERR_OK);
    ck_assert(fabsf(s[1][1] - 0.001953125f) < 1e-9f && fabsf(s[1][0] - 3 * 0.001953125f) < 1e-8f);
    bench_close(b);
}
END_TEST

/* A row that scores neurons alone is no criterion of single weights: said before a job runs, at its field. */
START_TEST(units_must_fit)
{
    for (const struct plug *const *p = criterion_table.rows; *p; p++) {
        struct bench *b = bench_open();
        json_t *j = json_pack("{s:s,s:s}", "criterion", (*p)->name, "unit", "weight");
        struct prune_conf conf;
        struct pruner *pruner = NULL;
        struct err e = { 0 };

        ck_assert_int_eq(params_parse(&conf, sizeof conf, prune_params, j, NULL), ERR_OK);
        if (criterion_scores_weights(criterion_of(*p))) {
            ck_assert_int_eq(pruner_new(&pruner, &conf, b->net, 1, &e), ERR_OK);
        } else {
            ck_assert_int_eq(pruner_new(&pruner, &conf, b->net, 1, &e), ERR_INVALID);
            ck_assert_str_eq(e.at, "/criterion");
        }
        pruner_free(pruner);
        json_decref(j);
        bench_close(b);
    }
}
END_TEST

static bool at_once(void *user)
{
    return user == NULL;
}

START_TEST(stops)
{
    for (const struct plug *const *p = criterion_table.rows; *p; p++) {
        const struct criterion *c = criterion_of(*p);
        struct bench *b = bench_open();
        struct plug_value conf;
        json_t *name = json_string(c->plug.name);
        struct crit_net in = { .net = b->net, .train = &b->views.train, .loss = &b->loss, .seed = 7, .conf = conf.conf, .stop = at_once };
        float s[2][MAX_N], *of[16] = { [STREAM] = s[0], [BRANCH] = s[1] };

        ck_assert_int_eq(plug_parse(&conf, &criterion_table, name, NULL), ERR_OK);
        if (c->samples && criterion_scores_neurons(c))
            ck_assert_int_eq(c->score_neurons(&in, &b->groups, of, NULL), ERR_STOPPED);
        json_decref(name);
        bench_close(b);
    }
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "golden");

    gemm_init();
    tcase_add_loop_test(tc, the_nets_are_the_golden_ones, 0, N_KINDS);
    tcase_add_loop_test(tc, golden_scores, 0, N_GOLDEN * N_KINDS);
    tc = suite_case(s, "laws");
    tcase_add_loop_test(tc, laws, 0, N_KINDS);
    tcase_add_loop_test(tc, dead_or_huge_weights_keep_scores_finite, 0, N_KINDS);
    tcase_add_test(tc, memory_is_short);
    tcase_add_test(tc, stops);
    tcase_add_test(tc, units_must_fit);
    tc = suite_case(s, "promises");
    tcase_add_test(tc, random_differs_by_iteration);
    tcase_add_test(tc, product_ignores_scale);
    tcase_add_test(tc, normalized_scores_compare);
    tcase_add_test(tc, apoz_breaks_ties_by_size);
    tcase_add_test(tc, fpgm_does_not_cancel);
}
SUITE_MAIN("criteria of neurons", cases)
