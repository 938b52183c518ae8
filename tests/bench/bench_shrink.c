/* What removing neurons brings: a net beside what was left of it, as a dense net of its own: a training step (batch gathered, forward, loss, backward,
 * Adam) and inference, both nets alternating, on one thread (its own time) and on two. The ratio is that of the medians of the rounds. Run in the source
 * folder.
 *
 *     cmake --build build --target bench_shrink && build/tests/bench_shrink [--batch N] [--rounds N] [DENSE SHRUNK]
 *
 * DENSE and SHRUNK are documents as GET /v1/jobs/{id}/iterations/0/model?format=document gives them, and .../model. Without them: LeNet-300-100 with half
 * of its multiply-adds taken out. */
#include "core/file.h"
#include "core/gemm.h"
#include "core/group.h"
#include "core/shrink.h"
#include "core/train.h"
#include "tests/engine_net.h"
#include "tests/bench/bench.h"

enum { MAX_ROUNDS = 1000 };

static struct model lenet(void)
{
    json_t *doc = json_load_file("api/examples/lenet-300-100.json", 0, NULL);
    struct model m;
    struct err e = { 0 };

    net_must(keras_read(&m, doc, &e), "lenet-300-100.json", &e);
    net_init(m.net, 1);
    json_decref(doc);
    return m;
}

/* The last neurons of each hidden layer, the same share of both, until half the multiply-adds are left. */
static void prune(struct net *net)
{
    struct groups g;
    struct err e = { 0 };
    double keep = 1, dense = 784 * 300 + 300 * 100 + 1000;

    net_must(groups_find(&g, net, &e), "groups", &e);
    while (round(keep * 300) * 784 + round(keep * 300) * round(keep * 100) + round(keep * 100) * 10 > dense / 2)
        keep -= 0.001;
    for (const struct bundle *b = g.bundle; b < g.bundle + g.n; b++)
        for (int m = 0; m < b->n_members && !b->fixed; m++)
            for (int j = (int)round(keep * b->n); j < b->n; j++) {
                struct weight *w = &net->weight[b->member[m].w];
                struct group_slice s = group_slice(w, &b->member[m], j);

                for (int k = 0; k < s.n; k++)
                    memset(w->x + s.first + (size_t)k * s.stride, 0, s.len * sizeof(float));
            }
    groups_clear(&g);
}

static struct model document(const char *path)
{
    struct model m;
    struct file_map map;
    struct err e = { 0 };

    net_must(file_map_open(&map, path, &e), path, &e);
    net_must(document_read(&m, (const char *)map.data, map.len, &e), path, &e);
    file_map_close(&map);
    return m;
}

/* ---- one net ---- */

struct runner {
    struct net *net;
    struct exec *exec;
    struct dataset *data;
    struct data_views views;
    struct loss_binding loss;
    struct train_conf conf;
    struct trainer *trainer;
    int steps; /* that are left of this round */
    double seconds[2][MAX_ROUNDS];
};

static void runner_init(struct runner *r, struct net *net, int batch, struct team *team)
{
    const struct shape *out = net_output(net);
    struct err e = { 0 };

    *r = (struct runner){ .net = net };
    r->data = random_data(net_input(net), (int)shape_len(out));
    must(params_parse(&r->conf, sizeof r->conf, train_params, NULL, &e), &e);
    r->conf.epochs = 100000;
    r->conf.batch_size = batch;
    must(data_views_new(&r->views, r->data, 0, 1, &e), &e);
    must(loss_bind(&r->loss, loss_default(net, r->data->n_classes), net, r->data->n_classes, 0, &e), &e);
    must(trainer_new(&r->trainer, &(struct trainer_in){ .net = net, .views = &r->views, .loss = &r->loss, .conf = &r->conf, .metric = METRIC_ACCURACY, .seed = 1,
                                                        .team = team }, &e), &e);
    must(exec_new(&r->exec, net, batch, EXEC_INFER, 0, team, &e), &e);
    fill_normal(exec_input(r->exec), shape_len(net_input(net)) * (size_t)batch, 1);
}

static void runner_clear(struct runner *r)
{
    exec_free(r->exec);
    trainer_free(r->trainer);
    data_views_free(&r->views);
    random_data_free(r->data);
}

static void step_done(void *user, const struct train_progress *p)
{
    (void)p;
    ((struct runner *)user)->steps--;
}
static bool enough(void *user) { return ((const struct runner *)user)->steps == 0; }

/* One thread has its own clock: the machine may have other work. */
static clockid_t clock_used;

static double some_steps(struct runner *r, int n)
{
    const double start = seconds_of(clock_used);
    struct err e = { 0 };

    r->steps = n;
    if (trainer_run(r->trainer, &(struct train_hooks){ .progress = step_done, .stop = enough, .user = r }, &e) != ERR_STOPPED)
        must(ERR_INTERNAL, &e);
    return (seconds_of(clock_used) - start) / n;
}

static double some_passes(struct runner *r, int n)
{
    const double start = seconds_of(clock_used);

    for (int i = 0; i < n; i++)
        exec_forward(r->exec, (int)r->conf.batch_size, false, 0);
    return (seconds_of(clock_used) - start) / n;
}

/* ---- both ---- */

static const struct { const char *name; double (*some)(struct runner *r, int n); } kinds[] = { { "training step", some_steps }, { "inference", some_passes } };
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static void time_both(struct net *dense, struct net *small, int batch, int rounds, int threads)
{
    static struct runner r[2];
    struct team *team;
    struct err e = { 0 };

    clock_used = threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
    net_must(team_new(&team, threads, &e), "team", &e);
    runner_init(&r[0], dense, batch, team);
    runner_init(&r[1], small, batch, team);
    for (int k = 0; k < N_KINDS; k++) {
        const int n = (int)fmax(1, 0.02 / kinds[k].some(&r[0], 2)); /* of a round: 20 ms, or one */

        for (int i = 0; i < rounds; i++)
            for (int side = 0; side < 2; side++)
                r[side].seconds[k][i] = kinds[k].some(&r[side], n);
        for (int side = 0; side < 2; side++)
            qsort(r[side].seconds[k], (size_t)rounds, sizeof r[side].seconds[k][0], by_size);
        printf("%d thread%s, %-13s: dense %9.3f ms, shrunk %9.3f ms: %.2fx (best %.3f, %.3f: %.2fx)\n", threads, threads > 1 ? "s" : " ", kinds[k].name,
               r[0].seconds[k][rounds / 2] * 1e3, r[1].seconds[k][rounds / 2] * 1e3, r[0].seconds[k][rounds / 2] / r[1].seconds[k][rounds / 2],
               r[0].seconds[k][0] * 1e3, r[1].seconds[k][0] * 1e3, r[0].seconds[k][0] / r[1].seconds[k][0]);
        fflush(stdout);
    }
    runner_clear(&r[0]);
    runner_clear(&r[1]);
    team_free(team);
}

int main(int argc, char **argv)
{
    int batch = 128, rounds = 41, at = 1;
    struct model dense, small;
    struct net_size size[2];
    struct err e = { 0 };

    gemm_choose_core(argv);
    gemm_init();
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2)
        *(strcmp(argv[at], "--batch") == 0 ? &batch : &rounds) = (int)strtol(argv[at + 1], NULL, 10);
    rounds = rounds < 1 ? 1 : rounds > MAX_ROUNDS ? MAX_ROUNDS : rounds;
    if (at + 1 < argc) {
        dense = document(argv[at]);
        small = document(argv[at + 1]);
    } else {
        dense = lenet();
        prune(dense.net);
        net_must(shrink_model(&small, NULL, &dense, false, NULL, NULL, &e), "shrink", &e);
        net_init(dense.net, 1);
    }
    net_count(dense.net, &size[0]);
    net_count(small.net, &size[1]);
    printf("%s, batch %d\nmultiply-adds %llu -> %llu (%.3f), parameters %llu -> %llu\n", gemm_describe(), batch, (unsigned long long)size[0].macs,
           (unsigned long long)size[1].macs, (double)size[1].macs / (double)size[0].macs, (unsigned long long)size[0].params,
           (unsigned long long)size[1].params);
    for (int threads = 1; threads <= 2; threads++)
        time_both(dense.net, small.net, batch, rounds, threads);
    model_clear(&dense);
    model_clear(&small);
    return 0;
}
