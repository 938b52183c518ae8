/* Criteria that look at samples or at the whole net: scores as PyTorch's differentiation gives them (tests/golden/criteria.py), what single rows promise,
 * and which samples they are shown. */
#include "core/gemm.h"
#include "tests/core/criteria_fixture.h"

enum { GOLDEN_CASES = 5, GOLDEN_SCORES = 9 };

/* ---- golden numbers ---- */

struct golden {
    json_t *all, *c;
    struct net *net;
    struct loss_binding loss;
    struct dataset data;
    struct data_views views;
    float *x, *target, *center, *scale;
    int32_t label[16];
};

static float *floats(const json_t *list)
{
    float *x = mem_vector(json_array_size(list));

    for (size_t i = 0; i < json_array_size(list); i++)
        x[i] = (float)json_number_value(json_array_get(list, i));
    return x;
}

static void shape_of(void *conf, const json_t *list)
{
    struct reshape_conf c = { .shape.n_d = (int)json_array_size(list) };

    for (int i = 0; i < c.shape.n_d; i++)
        c.shape.d[i] = (int)json_integer_value(json_array_get(list, (size_t)i));
    memcpy(conf, &c, sizeof c);
}

static void build(struct golden *g)
{
    const char *name;
    json_t *node, *value;
    size_t i;

    g->net = net_of((int)json_integer_value(json_object_get(g->c, "features")));
    json_array_foreach(json_object_get(g->c, "nodes"), i, node)
    {
        const struct op *op = op_find(json_string_value(json_object_get(node, "op")));
        struct plug_value conf = { .plug = &op->plug };
        const json_t *from = json_object_get(node, "in");
        int in[OP_MAX_IN], n_in = (int)json_array_size(from);

        for (int k = 0; k < n_in; k++)
            in[k] = (int)json_integer_value(json_array_get(from, (size_t)k));
        if (op == op_find("reshape"))
            shape_of(conf.conf, json_object_get(json_object_get(node, "options"), "shape"));
        else
            ck_assert_int_eq(params_parse(conf.conf, op->plug.conf_size, op->plug.params, json_object_get(node, "options"), NULL), ERR_OK);
        ck_assert_int_eq(net_add(g->net, op, &conf, json_string_value(json_object_get(node, "layer")), in, n_in, NULL, NULL), ERR_OK);
    }
    json_object_foreach(json_object_get(g->c, "weights"), name, value)
    {
        float *x = floats(value);

        ck_assert_uint_eq(net_weight(g->net, name)->len, json_array_size(value));
        memcpy(net_weight(g->net, name)->x, x, json_array_size(value) * sizeof(float));
        mem_free(x);
    }
    json_object_foreach(json_object_get(g->c, "masks"), name, value)
    {
        struct weight *w = net_weight(g->net, name);

        w->mask = mem_alloc(w->len);
        for (i = 0; i < w->len; i++)
            w->mask[i] = json_integer_value(json_array_get(value, i)) != 0;
    }
}

static void golden_open(struct golden *g, int i)
{
    const json_t *labels;
    int n, k;

    *g = (struct golden){ .all = json_load_file(GOLDEN_DIR "/criteria.json", 0, NULL) };
    ck_assert_uint_eq(json_array_size(g->all), GOLDEN_CASES);
    g->c = json_array_get(g->all, (size_t)i);
    build(g);
    labels = json_object_get(g->c, "label");
    n = (int)json_integer_value(json_object_get(g->c, "n"));
    k = (int)shape_len(net_output(g->net));
    g->x = floats(json_object_get(g->c, "x"));
    g->target = labels ? NULL : floats(json_object_get(g->c, "target"));
    for (int j = 0; j < n && labels; j++)
        g->label[j] = (int32_t)json_integer_value(json_array_get(labels, (size_t)j));
    g->data = (struct dataset){ .shape = *net_input(g->net), .n_features = net_input(g->net)->d[0], .n_classes = !labels ? 0 : k == 1 ? 2 : k,
                                .n_target = labels ? 0 : k,
                                .split = { { .n = n, .x = g->x, .label = labels ? g->label : NULL, .target = g->target } } };
    g->data.center = g->center = mem_vector((size_t)g->data.n_features);
    g->data.scale = g->scale = mem_vector((size_t)g->data.n_features);
    for (int j = 0; j < g->data.n_features; j++)
        g->scale[j] = 1;
    ck_assert_int_eq(data_views_new(&g->views, &g->data, 0, 1, NULL), ERR_OK);
    ck_assert_int_eq(loss_bind(&g->loss, loss_named(json_string_value(json_object_get(g->c, "loss"))), g->net, g->data.n_classes, k, NULL), ERR_OK);
}

static void golden_close(struct golden *g)
{
    net_free(g->net);
    data_views_free(&g->views);
    mem_free(g->x), mem_free(g->target), mem_free(g->center), mem_free(g->scale);
    json_decref(g->all);
}

static void compare(const struct scores *s, const struct golden *g, const json_t *want, const json_t *criterion)
{
    const char *name;
    json_t *list;
    double most = 0, offset = strcmp(json_string_value(json_object_get(criterion, "type")), "synflow") == 0 ? 1 : 0;

    json_object_foreach((json_t *)want, name, list)
        for (size_t k = 0; k < json_array_size(list); k++)
            most = fmax(most, fabs(json_number_value(json_array_get(list, k)) - offset));
    json_object_foreach((json_t *)want, name, list)
    {
        long w = net_weight(g->net, name) - g->net->weight;
        char *text = json_dumps(criterion, JSON_COMPACT);

        for (size_t k = 0; k < json_array_size(list); k++) {
            double x = json_number_value(json_array_get(list, k));

            if (g->net->weight[w].x[k] != 0)
                ck_assert_msg(fabs(x - (double)s->at[w][k]) <= 5e-5 * most, "%s: %s: %s[%zu] is %g, must be %g; the largest is %g",
                              json_string_value(json_object_get(g->c, "name")), text, name, k, (double)s->at[w][k], x, most);
        }
        free(text);
    }
}

START_TEST(golden)
{
    struct golden g;
    json_t *row;
    size_t i;

    golden_open(&g, _i);
    ck_assert_uint_eq(json_array_size(json_object_get(g.c, "golden")), GOLDEN_SCORES);
    json_array_foreach(json_object_get(g.c, "golden"), i, row)
    {
        struct crit_net in = { .train = &g.views.train, .loss = &g.loss, .seed = 5, .step = 1 };
        struct scores s;
        struct err e = { 0 };

        ck_assert_msg(score(&s, in, g.net, json_object_get(row, "criterion"), &e) == ERR_OK, "%s", e.msg);
        compare(&s, &g, json_object_get(row, "scores"), json_object_get(row, "criterion"));
        scores_clear(&s);
    }
    golden_close(&g);
}
END_TEST

/* ---- what single rows promise ---- */

static int row_of(const char *name)
{
    int i = 0;

    while (strcmp(criterion_table.rows[i]->name, name) != 0)
        i++;
    return i;
}

/* What no sample reaches is worth nothing: inputs that are always 0. */
START_TEST(dead_inputs_go_first)
{
    static const char *const rows[] = { "snip", "taylor", "obd", "grasp" };
    struct room *r = room_open(0, "{}", "global", SMALL);
    struct scores s;
    bool others = false;

    for (int i = 0; i < 600; i++)
        r->f.x[i * FEATURES + 3] = 0;
    must_score(&s, r, NULL, row_of(rows[_i]), "{}");
    for (size_t k = 0; k < s.len[0]; k++) {
        ck_assert(k % FEATURES != 3 || s.at[0][k] == 0);
        others = others || (k % FEATURES != 3 && s.at[0][k] != 0);
    }
    ck_assert(others);
    scores_clear(&s);
    room_close(r);
}
END_TEST

/* A net that is sure of nearly every sample: squares of its gradients lie far below the smallest float, and still tell the weights apart. */
START_TEST(taylor_near_convergence)
{
    struct room *r = room_open(0, "{}", "global", SMALL);
    struct weight *first = net_weight(r->f.net, "one/kernel"), *out = net_weight(r->f.net, "out/kernel");
    struct scores s;
    double sum = 0;
    int ties = 0;

    for (size_t k = 0; k < out->len; k++)
        out->x[k] = 0;
    for (int c = 0; c < CLASSES; c++) /* the label is the sign of one direction: all samples of class 0 */
        net_weight(r->f.net, "out/bias")->x[c] = c == 0 ? 60 : 0;
    for (size_t k = 0; k < out->len; k++)
        out->x[k] = (float)(k % 5 + 1) * 0.1f;
    for (int i = 0; i < 600; i++)
        r->f.label[i] = 0;
    must_score(&s, r, NULL, row_of("taylor"), "{}");
    for (int i = 0; i < s.n; i++)
        for (size_t k = 0; k < s.len[i]; k++)
            sum += (double)s.at[i][k];
    for (size_t k = 1; k < s.len[0]; k++)
        ties += first->x[k] != 0 && first->x[k - 1] != 0 && s.at[0][k] == s.at[0][k - 1];
    ck_assert_double_eq_tol(sum, 1, 1e-5);
    ck_assert_int_lt(ties, 3);
    scores_clear(&s);
    room_close(r);
}
END_TEST

static struct net *chain_of(int inputs, const int *units, int n, double constant)
{
    struct net *net = net_of(inputs);
    char options[40], layer[24];

    for (int i = 0; i < n; i++) {
        snprintf(options, sizeof options, "{\"units\": %d}", units[i]);
        snprintf(layer, sizeof layer, "layer_%d", i);
        net_chain(net, "dense", options, layer);
        net_chain(net, i + 1 < n ? "relu" : "softmax", "{}", layer);
    }
    net_init(net, 3);
    for (int w = 0; w < net->n_weights && constant > 0; w++)
        for (size_t k = 0; k < net->weight[w].len; k++)
            net->weight[w].x[k] = (float)constant;
    return net;
}

/* Number of kept weights of the poorest layer, after one cut to 98.5 %. */
static uint64_t poorest_layer(const char *criterion)
{
    static const int units[] = { 120, 60, 12, 60, 3 };
    struct net *net = chain_of(200, units, 5, 0);
    json_t *j = json_pack("{s:o,s:i,s:f}", "criterion", json_loads(criterion, 0, NULL), "iterations", 1, "target_sparsity", 0.985);
    struct prune_conf conf;
    struct pruner *p;
    uint64_t least = UINT64_MAX;

    ck_assert_int_eq(params_parse(&conf, sizeof conf, prune_params, j, NULL), ERR_OK);
    ck_assert_int_eq(pruner_new(&p, &conf, net, 1, NULL), ERR_OK);
    ck_assert_int_eq(pruner_step(p, net, 1, NULL, NULL), ERR_OK);
    for (int w = 0; w < net->n_weights; w++) {
        uint64_t n = 0;

        for (size_t k = 0; k < net->weight[w].len && net->weight[w].mask; k++)
            n += net->weight[w].mask[k];
        least = net->weight[w].mask && n < least ? n : least;
    }
    pruner_free(p);
    net_free(net);
    json_decref(j);
    return least;
}

START_TEST(synflow_does_not_collapse) /* scored once it leaves the large layer its last weight alone */
{
    ck_assert_uint_eq(poorest_layer("{\"type\": \"synflow\", \"rounds\": 1, \"density\": 1}"), 1);
    ck_assert_uint_ge(poorest_layer("{\"type\": \"synflow\"}"), 20);
}
END_TEST

START_TEST(synflow_of_a_deep_net) /* the product of its weights is 64^30, or 2^-300: every layer carries all of it, all weights the same */
{
    static const double constant[] = { 1, 1.0 / 64 / 128 };
    int units[30];
    struct plug_value conf;
    struct crit_net in = { .seed = 1 };
    struct scores s = { 0 };
    float *at[60] = { 0 };
    json_t *j = json_loads("{\"type\": \"synflow\", \"rounds\": 1, \"density\": 1}", 0, NULL);
    struct err e = { 0 };

    for (int i = 0; i < 30; i++)
        units[i] = 64;
    in.net = chain_of(64, units, _i ? 14 : 30, constant[_i]);
    ck_assert_int_eq(plug_parse(&conf, &criterion_table, j, NULL), ERR_OK);
    in.conf = conf.conf;
    for (int i = 0; i < in.net->n_weights; i += 2)
        at[i] = mem_vector(in.net->weight[i].len);
    ck_assert_msg(criterion_of(conf.plug)->score_net(&in, at, &e) == ERR_OK, "%s", e.msg);
    for (int i = 0; i < in.net->n_weights; i += 2)
        for (size_t k = 0; k < in.net->weight[i].len; k += 100)
            ck_assert_double_eq_tol((double)at[i][k], 1.999, 1e-6);
    for (int i = 0; i < 60; i++)
        mem_free(at[i]);
    scores_clear(&s);
    json_decref(j);
    net_free(in.net);
}
END_TEST

/* ---- samples ---- */

struct seen { int n, batches; float x[600]; };
static enum err_code see(void *user, const struct probe_batch *b, struct err *e)
{
    struct seen *s = user;

    (void)e;
    ck_assert_int_eq(b->first, s->n);
    for (int i = 0; i < b->n; i++)
        s->x[s->n++] = exec_value(b->exec, 0)[i];
    s->batches++;
    return b->n == 1 ? ERR_CONFLICT : ERR_OK;
}

static struct seen draw(const struct room *r, uint64_t seed, uint64_t step, int64_t samples, int64_t batch_size, enum err_code want)
{
    struct crit_net in = crit_of(r, NULL);
    struct probe_conf conf = { .samples = samples, .batch_size = batch_size };
    struct seen s = { 0 };

    in.net = r->f.net;
    in.seed = seed;
    in.step = step;
    ck_assert_int_eq(probe_run(&in, &conf, see, &s, NULL), want);
    return s;
}

START_TEST(draws)
{
    struct room *r = room_open(0, "{}", "global", SMALL);
    struct seen a = draw(r, 1, 1, 100, 30, ERR_OK), same = draw(r, 1, 1, 100, 100, ERR_OK), all = draw(r, 1, 1, 1000000, 64, ERR_OK);
    struct seen step = draw(r, 1, 2, 100, 30, ERR_OK), seed = draw(r, 2, 1, 100, 30, ERR_OK), ended = draw(r, 1, 1, 100, 1, ERR_CONFLICT);

    ck_assert(a.n == 100 && a.batches == 4 && same.batches == 1 && all.n == r->f.views.train.n && ended.batches == 1);
    ck_assert_mem_eq(a.x, same.x, 100 * sizeof(float));
    ck_assert(memcmp(a.x, step.x, 100 * sizeof(float)) != 0 && memcmp(a.x, seed.x, 100 * sizeof(float)) != 0);
    for (int i = 0; i < 100; i++)
        for (int j = 0; j < i; j++)
            if (a.x[i] == a.x[j])
                ck_abort_msg("a sample was drawn twice");
    room_close(r);
}
END_TEST

START_TEST(gradient_of_masked_weights) /* by every number, as differences of the loss give it */
{
    struct room *r = room_open(0, "{}", "global", SMALL);
    struct crit_net in = crit_of(r, NULL);
    struct probe_conf conf = { .samples = 1000, .batch_size = 37 };
    float *g[16] = { 0 };
    double most = 0;

    ck_assert_int_eq(net_clone(&in.net, r->f.net, NULL), ERR_OK);
    g[0] = mem_vector(in.net->weight[0].len);
    ck_assert_int_eq(probe_gradient(&in, &conf, g, NULL), ERR_OK);
    for (size_t k = 0; k < in.net->weight[0].len; k++)
        most = in.net->weight[0].mask[k] ? most : fmax(most, fabs((double)g[0][k]));
    ck_assert(most > 1e-3);
    mem_free(g[0]);
    net_free(in.net);
    room_close(r);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "criteria of nets");

    gemm_init();
    tcase_add_loop_test(tc, golden, 0, GOLDEN_CASES);
    tcase_add_loop_test(tc, dead_inputs_go_first, 0, 4);
    tcase_add_test(tc, taylor_near_convergence);
    tcase_add_test(tc, synflow_does_not_collapse);
    tcase_add_loop_test(tc, synflow_of_a_deep_net, 0, 2);
    tcase_add_test(tc, draws);
    tcase_add_test(tc, gradient_of_masked_weights);
}
SUITE_MAIN("crit_net", cases)
