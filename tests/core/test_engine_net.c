/* Execution of nets: the team, gradients of whole graphs, the same bytes for any number of threads, dropout. */
#include "core/exec.h"

#include <stdatomic.h>
#include <stdio.h>

#include "core/gemm.h"
#include "core/mem.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

/* ---- the team ---- */

enum { TILES = 1000 };
static void count_tile(void *ctx, int tile)
{
    ((int *)ctx)[tile]++;
}

START_TEST(team_runs_each_tile_once)
{
    for (int threads = 1; threads <= 5; threads++) {
        static int times[TILES];
        struct team *t;

        memset(times, 0, sizeof times);
        ck_assert_int_eq(team_new(&t, threads, NULL), ERR_OK);
        ck_assert_int_eq(team_size(t), threads);
        for (int loop = 1; loop <= 300; loop++)
            team_for(t, 1 + loop % 17, count_tile, times);
        team_for(t, TILES, count_tile, times);
        for (int i = 0; i < TILES; i++) {
            int want = 1;

            for (int loop = 1; loop <= 300; loop++)
                want += i < 1 + loop % 17;
            ck_assert_int_eq(times[i], want);
        }
        team_free(t);
    }
    ck_assert(strstr(gemm_describe(), "OpenBLAS"));
    ck_assert_int_eq(team_size(NULL), 1);
    ck_assert_int_eq(team_new(&(struct team *){ NULL }, 0, NULL), ERR_INVALID);
}
END_TEST

/* ---- gradients of graphs ---- */

/* Branches, a node with three consumers, a shared input twice, views in between, a dead end that learns. */
static struct net *graph(void)
{
    struct net *net = net_of(6);
    int a = net_with(net, "dense", "{\"units\": 5}", "a", 0, -1), view = net_with(net, "linear", "", "a", a, -1);
    int b = net_with(net, "tanh", "", "b", view, -1), c = net_with(net, "sigmoid", "", "c", view, -1);
    int d = net_with(net, "add", "", "d", b, c), twice = net_with(net, "add", "", "twice", d, d);
    int dead = net_with(net, "dense", "{\"units\": 2}", "dead", a, -1);
    int e = net_with(net, "concatenate", "", "e", twice, view), norm = net_with(net, "batch_norm", "", "norm", e, -1);

    ck_assert_int_eq(dead, 7);
    net_with(net, "dense", "{\"units\": 3, \"use_bias\": false}", "out", norm, -1);
    net_init(net, 5);
    fill_normal(net_weight(net, "norm/beta")->x, 10, 9);
    return net;
}

static double objective(struct exec *x, int n, const float *coefficient)
{
    double sum = 0;

    exec_forward(x, n, true, 0);
    for (int i = 0; i < 3 * n; i++)
        sum += (double)coefficient[i] * (double)exec_value(x, 10)[i];
    return sum;
}

START_TEST(graph_gradients)
{
    enum { SAMPLES = 7 };
    struct net *net = graph();
    struct exec *x;
    float coefficient[3 * SAMPLES];

    ck_assert_int_eq(net->n_nodes, 11);
    ck_assert_int_eq(exec_new(&x, net, 9, EXEC_KEEP, 1, NULL, NULL), ERR_OK);
    fill_normal(exec_input(x), 6 * SAMPLES, 1);
    fill_normal(coefficient, 3 * SAMPLES, 2);
    objective(x, SAMPLES, coefficient);
    memcpy(exec_grad(x, 10), coefficient, sizeof coefficient);
    exec_backward(x, 10, false, NULL, NULL);
    for (int w = 0; w < net->n_weights; w++)
        for (size_t i = 0; exec_dw(x, w) && i < net->weight[w].len; i++) {
            float *at = &net->weight[w].x[i], kept = *at;
            double up, down, h = 1e-3, slope;

            *at = kept + (float)h;
            up = objective(x, SAMPLES, coefficient);
            *at = kept - (float)h;
            down = objective(x, SAMPLES, coefficient);
            *at = kept;
            slope = (up - down) / (2 * h);
            ck_assert_msg(fabs(slope - (double)exec_dw(x, w)[i]) < 5e-3 + 1e-2 * fabs(slope), "%s[%zu]: %g, differences %g",
                          net->weight[w].name, i, (double)exec_dw(x, w)[i], slope);
        }
    exec_free(x);
    net_free(net);
}
END_TEST

static void count_ready(void *user, int w, size_t first, size_t n)
{
    (void)first;
    atomic_fetch_add((atomic_size_t *)user + w, n);
}

START_TEST(ready_names_every_number_and_accumulate_adds)
{
    struct net *net = graph();
    struct exec *x;
    struct team *team;
    atomic_size_t seen[16] = { 0 };

    ck_assert_int_eq(team_new(&team, 2, NULL), ERR_OK);
    ck_assert_int_eq(exec_new(&x, net, 7, EXEC_KEEP, 1, team, NULL), ERR_OK);
    fill_normal(exec_input(x), 6 * 7, 1);
    exec_forward(x, 7, true, 0);
    fill_normal(exec_grad(x, 10), 3 * 7, 2);
    exec_backward(x, 10, false, count_ready, seen);
    for (int w = 0; w < net->n_weights; w++) {
        float *dw = exec_dw(x, w), first = dw ? dw[0] : 0;

        ck_assert_uint_eq(atomic_load(&seen[w]), net->weight[w].info.trainable ? net->weight[w].len : 0);
        ck_assert(!dw == !net->weight[w].info.trainable);
        exec_backward(x, 10, true, NULL, NULL);
        ck_assert(!dw || fabsf(dw[0] - 2 * first) <= 1e-5f * (1 + fabsf(first)));
        exec_backward(x, 10, false, NULL, NULL);
        ck_assert(!dw || dw[0] == first);
    }
    exec_free(x);
    team_free(team);
    net_free(net);
}
END_TEST

START_TEST(inference_gives_what_training_memory_gives)
{
    struct net *net = graph();
    struct exec *keep, *look, *reuse;

    ck_assert_int_eq(exec_new(&keep, net, 7, EXEC_KEEP, 1, NULL, NULL), ERR_OK);
    ck_assert_int_eq(exec_new(&look, net, 7, EXEC_LOOK, 1, NULL, NULL), ERR_OK);
    ck_assert_int_eq(exec_new(&reuse, net, 7, EXEC_INFER, 1, NULL, NULL), ERR_OK);
    for (int n = 1; n <= 7; n += 3) {
        fill_normal(exec_input(keep), 6 * (size_t)n, 1);
        fill_normal(exec_input(look), 6 * (size_t)n, 1);
        exec_forward(keep, n, false, 0);
        exec_forward(look, n, false, 0);
        for (int node = 1; node < net->n_nodes; node++) {
            const size_t bytes = shape_len(&net->node[node].plan.out) * (size_t)n * sizeof(float);

            ck_assert_mem_eq(exec_value(keep, node), exec_value(look, node), bytes);
            fill_normal(exec_input(reuse), 6 * (size_t)n, 1);
            exec_forward_to(reuse, n, node);
            ck_assert_mem_eq(exec_value(keep, node), exec_value(reuse, node), bytes);
        }
        fill_normal(exec_input(reuse), 6 * (size_t)n, 1);
        exec_forward(reuse, n, false, 0);
        for (int node = 9; node <= 10; node++)
            ck_assert_mem_eq(exec_value(keep, node), exec_value(reuse, node), shape_len(&net->node[node].plan.out) * (size_t)n * sizeof(float));
    }
    ck_assert_int_eq(exec_max_n(reuse), 7);
    ck_assert(exec_memory(net, 64, EXEC_INFER) < exec_memory(net, 64, EXEC_LOOK) && exec_memory(net, 64, EXEC_LOOK) < exec_memory(net, 64, EXEC_KEEP));
    ck_assert(exec_memory(net, 1, EXEC_KEEP) < exec_memory(net, 64, EXEC_KEEP));
    exec_free(keep);
    exec_free(look);
    exec_free(reuse);
    net_free(net);
}
END_TEST

/* Residual blocks: relus behind batch norm and add, a sum that three read, a sum of sums. */
static struct net *residual(void)
{
    struct net *net = net_of(6);
    int at = net_with(net, "dense", "{\"units\": 8}", "first", 0, -1);

    for (int i = 0; i < 4; i++) {
        char layer[4][16];
        int a, b;

        for (int k = 0; k < 4; k++)
            snprintf(layer[k], sizeof layer[k], "%c%d", 'a' + k, i);
        a = net_with(net, "batch_norm", "", layer[0], net_with(net, "dense", "{\"units\": 8}", layer[1], at, -1), -1);
        a = net_with(net, "relu", "", layer[0], a, -1);
        b = net_with(net, "dense", "{\"units\": 8}", layer[2], a, -1);
        a = net_with(net, "add", "", layer[3], b, at);
        at = i == 2 ? net_with(net, "add", "", "more", a, at) : net_with(net, "relu", "", layer[3], a, -1);
    }
    net_with(net, "dense", "{\"units\": 3}", "out", at, -1);
    net_with(net, "softmax", "", "out", net->n_nodes - 1, -1);
    net_init(net, 5);
    return net;
}

/* What EXEC_TRAIN folds and uses again changes no gradient, wherever the backward starts. */
struct watched { int n, node[8]; };
static void note(void *user, int node)
{
    struct watched *w = user;

    ck_assert_int_lt(w->n, 8);
    w->node[w->n++] = node;
}

START_TEST(watchers_see_what_runs) /* not the relu that the layer before it does, nor a view */
{
    static const enum exec_kind kinds[] = { EXEC_INFER, EXEC_KEEP };
    struct net *net = net_of(6);
    struct watched w = { 0 };
    struct exec *x;

    net_chain(net, "dense", "{\"units\": 4}", "one");
    net_chain(net, "batch_norm", "", "norm");
    net_chain(net, "relu", "", "relu");
    net_chain(net, "reshape", "", "flat");
    net_chain(net, "dense", "{\"units\": 3}", "two");
    net_chain(net, "softmax", "", "two");
    net_init(net, 1);
    ck_assert_int_eq(exec_new(&x, net, 2, kinds[_i], 1, NULL, NULL), ERR_OK);
    exec_watch(x, note, &w);
    exec_forward(x, 2, false, 0);
    exec_watch(x, NULL, NULL);
    exec_forward(x, 2, false, 0);
    if (_i == 0)
        ck_assert(w.n == 4 && w.node[0] == 1 && w.node[1] == 2 && w.node[2] == 5 && w.node[3] == 6);
    else
        ck_assert(w.n == 5 && w.node[2] == 3);
    exec_free(x);
    net_free(net);
}
END_TEST

START_TEST(training_memory_gives_the_same_gradients)
{
    enum { SAMPLES = 33 };
    struct net *net = _i ? residual() : graph();
    struct exec *x[2];
    const size_t k = shape_len(net_output(net)) * SAMPLES;

    for (int kind = 0; kind < 2; kind++)
        ck_assert_int_eq(exec_new(&x[kind], net, SAMPLES, kind ? EXEC_TRAIN : EXEC_KEEP, 1, NULL, NULL), ERR_OK);
    for (int from = net->n_nodes - 1; from >= net->n_nodes - 2; from--) {
        if (from < net->n_nodes - 1 && !_i)
            break; /* graph ends with a dense layer */
        for (int kind = 0; kind < 2; kind++) {
            fill_normal(exec_input(x[kind]), 6 * SAMPLES, 1);
            exec_forward(x[kind], SAMPLES, true, 0);
            fill_normal(exec_grad(x[kind], from), k, 2);
            exec_backward(x[kind], from, false, NULL, NULL);
        }
        for (int w = 0; w < net->n_weights; w++)
            for (size_t i = 0; exec_dw(x[0], w) && i < net->weight[w].len; i++)
                ck_assert_msg(fabsf(exec_dw(x[0], w)[i] - exec_dw(x[1], w)[i]) <= 1e-5f * (1 + fabsf(exec_dw(x[0], w)[i])), "%s[%zu] from %d: %g, not %g",
                              net->weight[w].name, i, from, exec_dw(x[1], w)[i], exec_dw(x[0], w)[i]);
    }
    ck_assert_uint_lt(exec_memory(net, SAMPLES, EXEC_TRAIN), exec_memory(net, SAMPLES, EXEC_KEEP));
    exec_free(x[0]);
    exec_free(x[1]);
    net_free(net);
}
END_TEST

/* ---- the same bytes for any number of threads: a net of all rows of the table, twice over ---- */

/* An op that takes images, or sequences: of 7 channels, then flat again. */
static void add_between_reshapes(struct net *net, const struct op *op, const struct plug_value *conf, const char *layer)
{
    struct plug_value reshape = { .plug = &op_find("reshape")->plug };
    struct reshape_conf image = { { 3, { 7, 10, 10 } } }, sequence = { { 2, { 7, 100 } } }, flat = { { 0, { 0 } } };
    char name[80];
    int in[2];

    if (shape_len(net_output(net)) != 700) {
        snprintf(name, sizeof name, "wide_%s", layer);
        net_chain(net, "dense", "{\"units\": 700}", name);
    }
    snprintf(name, sizeof name, "norm_%s", layer); /* or the gradient would die out on its way */
    net_chain(net, "batch_norm", "", name);
    in[0] = in[1] = net->n_nodes;
    snprintf(name, sizeof name, "image_%s", layer);
    memcpy(reshape.conf, &image, sizeof image);
    ck_assert_int_eq(net_add(net, op_of(reshape.plug), &reshape, name, (int[]){ in[0] - 1 }, 1, NULL, NULL), ERR_OK);
    if (net_add(net, op, conf, layer, in, op->max_in > 1 ? 2 : 1, NULL, NULL) != ERR_OK) {
        snprintf(name, sizeof name, "sequence_%s", layer);
        memcpy(reshape.conf, &sequence, sizeof sequence);
        in[0] = in[1] = net->n_nodes;
        ck_assert_int_eq(net_add(net, op_of(reshape.plug), &reshape, name, (int[]){ in[0] - 1 }, 1, NULL, NULL), ERR_OK);
        ck_assert_int_eq(net_add(net, op, conf, layer, in, op->max_in > 1 ? 2 : 1, NULL, NULL), ERR_OK);
    }
    snprintf(name, sizeof name, "flat_%s", layer);
    memcpy(reshape.conf, &flat, sizeof flat);
    ck_assert_int_eq(net_add(net, op_of(reshape.plug), &reshape, name, (int[]){ net->n_nodes - 1 }, 1, NULL, NULL), ERR_OK);
}

static struct net *all_ops(void)
{
    struct net *net = net_of(700);

    for (int round = 0; round < 2; round++)
        for (int i = 0; op_table.rows[i]; i++) {
            const struct op *op = op_of(op_table.rows[i]);
            struct plug_value conf = { .plug = &op->plug };
            json_t *options = json_object();
            int last = net->n_nodes - 1, in[2] = { last, last };
            char layer[64];

            for (const struct param *p = op->plug.params; p && p->name; p++)
                if (p->def == PARAM_REQUIRED)
                    json_object_set_new(options, p->name, json_integer(strcmp(p->name, "units") == 0 ? 530 : 7));
            ck_assert_int_eq(params_parse(conf.conf, op->plug.conf_size, op->plug.params, options, NULL), ERR_OK);
            json_decref(options);
            snprintf(layer, sizeof layer, "%s_%d", op->plug.name, round);
            if (op->max_in > 0 && net_add(net, op, &conf, layer, in, op->max_in > 1 ? 2 : 1, NULL, NULL) != ERR_OK)
                add_between_reshapes(net, op, &conf, layer);
        }
    net_chain(net, "dense", "{\"units\": 10}", "out");
    net_chain(net, "softmax", "", "out");
    net_init(net, 3);
    return net;
}

struct step { struct net *net; struct exec *exec; };
static void descend(void *user, int w, size_t first, size_t n)
{
    const struct step *s = user;

    for (size_t i = first; i < first + n; i++)
        s->net->weight[w].x[i] -= 0.05f * exec_dw(s->exec, w)[i];
}

/* Some steps of training; net is the result. */
static void train(struct net *net, struct team *team)
{
    static const int batch[] = { 96, 37, 1, 96 };
    struct loss_binding loss;
    struct step s = { net, NULL };
    int32_t label[96];
    double sample[96];

    ck_assert_int_eq(loss_bind(&loss, loss_default(net, 10), net, 10, 0, NULL), ERR_OK);
    ck_assert_int_eq(exec_new(&s.exec, net, 96, EXEC_KEEP, 1, team, NULL), ERR_OK);
    for (int k = 0; k < 4; k++) {
        struct loss_call c = { .k = 10, .n = batch[k], .label = label, .from = loss.from, .weight = 1.0 / batch[k], .sample = sample };

        fill_normal(exec_input(s.exec), 700 * (size_t)batch[k], (uint32_t)k);
        for (int i = 0; i < 96; i++)
            label[i] = (i * 7 + k) % 10;
        exec_forward(s.exec, batch[k], true, (uint64_t)k);
        c.z = exec_value(s.exec, loss.node);
        c.dz = exec_grad(s.exec, loss.node);
        loss.loss->run(&c);
        exec_backward(s.exec, loss.node, false, descend, &s);
    }
    exec_free(s.exec);
}

START_TEST(threads_give_the_same_bytes)
{
    static const int threads[] = { 2, 3, 4 };
    struct net *net = all_ops(), *alone, *many;
    struct team *team;

    ck_assert_int_eq(net_clone(&alone, net, NULL), ERR_OK);
    train(alone, NULL);
    for (int w = 0; w < net->n_weights; w++) /* something was learned, and it is finite */
        ck_assert(isfinite(alone->weight[w].x[0]));
    ck_assert_mem_ne(alone->weight[0].x, net->weight[0].x, net->weight[0].len * 4);
    for (int k = 0; k < 3; k++) {
        ck_assert_int_eq(net_clone(&many, net, NULL), ERR_OK);
        ck_assert_int_eq(team_new(&team, threads[k], NULL), ERR_OK);
        train(many, team);
        for (int w = 0; w < net->n_weights; w++)
            ck_assert_msg(memcmp(alone->weight[w].x, many->weight[w].x, net->weight[w].len * 4) == 0, "%s differs for %d threads",
                          net->weight[w].name, threads[k]);
        team_free(team);
        net_free(many);
    }
    net_free(alone);
    net_free(net);
}
END_TEST

/* ---- dropout ---- */

START_TEST(dropout_keeps_the_expectation_and_repeats)
{
    enum { F = 200, SAMPLES = 50 };
    struct net *net = net_of(F);
    struct exec *x;
    static float first[F * SAMPLES];
    double sum = 0;
    int dropped = 0, changed = 0;

    net_chain(net, "dropout", "{\"rate\": 0.3}", "drop");
    ck_assert_int_eq(exec_new(&x, net, SAMPLES, EXEC_KEEP, 8, NULL, NULL), ERR_OK);
    for (int i = 0; i < F * SAMPLES; i++)
        exec_input(x)[i] = 1;
    exec_forward(x, SAMPLES, true, 1);
    memcpy(first, exec_value(x, 1), sizeof first);
    for (int i = 0; i < F * SAMPLES; i++) {
        sum += (double)first[i];
        dropped += first[i] == 0;
    }
    ck_assert_double_eq_tol(sum / (F * SAMPLES), 1, 0.03);
    ck_assert_double_eq_tol(dropped / (double)(F * SAMPLES), 0.3, 0.02);
    exec_forward(x, SAMPLES, true, 2);
    for (int i = 0; i < F * SAMPLES; i++)
        changed += first[i] != exec_value(x, 1)[i];
    ck_assert_int_gt(changed, F * SAMPLES / 4);
    exec_forward(x, SAMPLES, true, 1);
    ck_assert_mem_eq(first, exec_value(x, 1), sizeof first);
    exec_forward(x, SAMPLES, false, 1);
    ck_assert_mem_eq(exec_input(x), exec_value(x, 1), sizeof first);
    exec_free(x);
    net_free(net);
}
END_TEST

/* Whole channels go, each sample's by itself, and the others are scaled. */
START_TEST(spatial_dropout_drops_channels)
{
    enum { C = 60, PLACES = 6, SAMPLES = 50 };
    struct net *net = net_of_image(C, 2, 3);
    struct exec *x;
    int dropped = 0;

    net_chain(net, "spatial_dropout", "{\"rate\": 0.2}", "drop");
    ck_assert_int_eq(exec_new(&x, net, SAMPLES, EXEC_KEEP, 8, NULL, NULL), ERR_OK);
    for (int i = 0; i < C * PLACES * SAMPLES; i++)
        exec_input(x)[i] = 1;
    exec_forward(x, SAMPLES, true, 1);
    for (int c = 0; c < C; c++)
        for (int j = 0; j < SAMPLES; j++) {
            const float *y = exec_value(x, 1) + c * PLACES * SAMPLES + j;

            dropped += y[0] == 0;
            ck_assert(y[0] == 0 || y[0] == 1.25f);
            for (int p = 1; p < PLACES; p++)
                ck_assert(y[p * SAMPLES] == y[0]);
        }
    ck_assert_double_eq_tol(dropped / (double)(C * SAMPLES), 0.2, 0.03);
    exec_free(x);
    net_free(net);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "net and exec");

    gemm_init();
    tcase_add_test(tc, team_runs_each_tile_once);
    tcase_add_test(tc, graph_gradients);
    tcase_add_test(tc, ready_names_every_number_and_accumulate_adds);
    tcase_add_test(tc, inference_gives_what_training_memory_gives);
    tcase_add_loop_test(tc, watchers_see_what_runs, 0, 2);
    tcase_add_loop_test(tc, training_memory_gives_the_same_gradients, 0, 2);
    tcase_add_test(tc, threads_give_the_same_bytes);
    tcase_add_test(tc, dropout_keeps_the_expectation_and_repeats);
    tcase_add_test(tc, spatial_dropout_drops_channels);
}
SUITE_MAIN("engine net", cases)
