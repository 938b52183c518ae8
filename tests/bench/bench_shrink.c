/* What removing neurons brings: LeNet-300-100 with half of its multiply-adds taken out, shrunk, against the dense net: inference of 128 samples, both
 * alternating, on one thread and on two. Each round times some forward passes of each; the ratio is that of the medians. Run in the source folder. */
#include "core/gemm.h"
#include "core/group.h"
#include "core/shrink.h"
#include "tests/engine_net.h"
#include "tests/bench/bench.h"

enum { BATCH = 128, PASSES = 50, ROUNDS = 41 };

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

static void time_both(struct net *dense, struct net *small, int threads)
{
    struct net *net[2] = { dense, small };
    struct exec *x[2];
    struct team *team;
    struct err e = { 0 };
    static double seconds[2][ROUNDS];

    net_must(team_new(&team, threads, &e), "team", &e);
    for (int k = 0; k < 2; k++) {
        net_must(exec_new(&x[k], net[k], BATCH, EXEC_INFER, 0, team, &e), "exec", &e);
        fill_normal(exec_input(x[k]), 784 * BATCH, 1);
    }
    for (int r = 0; r < ROUNDS; r++)
        for (int k = 0; k < 2; k++) {
            double start = now();

            for (int i = 0; i < PASSES; i++)
                exec_forward(x[k], BATCH, false, 0);
            seconds[k][r] = (now() - start) / PASSES;
        }
    for (int k = 0; k < 2; k++) {
        qsort(seconds[k], ROUNDS, sizeof seconds[k][0], by_size);
        exec_free(x[k]);
    }
    printf("%d thread%s: dense %.1f us, shrunk %.1f us: %.2fx (best %.1f, %.1f: %.2fx)\n", threads, threads > 1 ? "s" : "", seconds[0][ROUNDS / 2] * 1e6,
           seconds[1][ROUNDS / 2] * 1e6, seconds[0][ROUNDS / 2] / seconds[1][ROUNDS / 2], seconds[0][0] * 1e6, seconds[1][0] * 1e6,
           seconds[0][0] / seconds[1][0]);
    team_free(team);
}

int main(void)
{
    struct model dense = lenet(), masked = lenet(), small;
    struct net_size size[2];
    struct err e = { 0 };

    gemm_init();
    prune(masked.net);
    net_must(shrink_model(&small, NULL, &masked, NULL, NULL, &e), "shrink", &e);
    net_count(dense.net, &size[0]);
    net_count(small.net, &size[1]);
    printf("%s\nmultiply-adds %llu -> %llu (%.3f), units %d-%d -> %d-%d\n", gemm_describe(), (unsigned long long)size[0].macs,
           (unsigned long long)size[1].macs, (double)size[1].macs / (double)size[0].macs, 300, 100,
           small.net->weight[0].info.shape.d[0], small.net->weight[2].info.shape.d[0]);
    for (int threads = 1; threads <= 2; threads++)
        time_both(dense.net, small.net, threads);
    model_clear(&dense);
    model_clear(&masked);
    model_clear(&small);
    return 0;
}
