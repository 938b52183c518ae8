/* How long each criterion takes to score LeNet-300-100 and LeNet-5 (20-50-500) with its default options, and to prune them to 95 %, by each unit that it
 * scores: one thread, 20,000 made images, made moves of training. Least of three runs, seconds; of LeNet-300-100 "exact OBS" may take 60, all others 2.
 *   cmake --build build --target bench_criteria && build/tests/bench_criteria [name]... */
#include <time.h>

#include "core/gemm.h"
#include "core/mem.h"
#include "core/prune.h"
#include "tests/engine_net.h"

enum { IMAGES = 20000, PIXELS = 784, CLASSES = 10, RUNS = 3 };

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Images of a class have the same bright places; a border is always dark. */
static void make_data(struct dataset *d, struct data_views *views)
{
    struct rng r = { 7, RNG_TEST, 0, 0 };
    uint8_t *x = mem_alloc((size_t)IMAGES * PIXELS);
    int32_t *label = mem_alloc(IMAGES * sizeof *label);
    float *center = mem_vector(PIXELS), *scale = mem_vector(PIXELS);
    struct err e = { 0 };

    for (int i = 0; i < IMAGES; i++) {
        label[i] = i % CLASSES;
        for (int p = 0; p < PIXELS; p++)
            x[i * PIXELS + p] = p < 56 || p >= PIXELS - 56 ? 0 : (uint8_t)(rng_u32(&r, (uint64_t)(i * PIXELS + p)) >> ((p * 7 + label[i] * 13) % 11 < 4 ? 24 : 27));
    }
    for (int p = 0; p < PIXELS; p++)
        scale[p] = 1 / 255.0f;
    *d = (struct dataset){ .shape = { 1, { PIXELS } }, .n_features = PIXELS, .n_classes = CLASSES, .center = center, .scale = scale,
                           .split = { { .n = IMAGES, .is_u8 = true, .x = x, .label = label } } };
    net_must(data_views_new(views, d, 0.1, 1, &e), "views", &e);
}

static struct net *lenet_5(void)
{
    struct net *net = net_of(PIXELS);
    struct plug_value conf = { .plug = &op_find("reshape")->plug };
    const struct reshape_conf image = { { 3, { 1, 28, 28 } } };
    struct err e = { 0 };

    memcpy(conf.conf, &image, sizeof image);
    net_must(net_add(net, op_of(conf.plug), &conf, "image", (int[]){ 0 }, 1, NULL, &e), "image", &e);
    net_chain(net, "conv2d", "{\"filters\": 20, \"kernel_height\": 5, \"kernel_width\": 5}", "conv");
    net_chain(net, "max_pool2d", "", "pool");
    net_chain(net, "conv2d", "{\"filters\": 50, \"kernel_height\": 5, \"kernel_width\": 5}", "conv_1");
    net_chain(net, "max_pool2d", "", "pool_1");
    net_chain(net, "reshape", "", "flatten");
    net_chain(net, "dense", "{\"units\": 500}", "dense");
    net_chain(net, "relu", "{}", "dense");
    net_chain(net, "dense", "{\"units\": 10}", "dense_1");
    net_chain(net, "softmax", "{}", "dense_1");
    net_init(net, 1);
    return net;
}

static struct net *lenet_300_100(void)
{
    struct net *net = net_of(PIXELS);

    net_chain(net, "dense", "{\"units\": 300}", "dense");
    net_chain(net, "relu", "{}", "dense");
    net_chain(net, "dense", "{\"units\": 100}", "dense_1");
    net_chain(net, "relu", "{}", "dense_1");
    net_chain(net, "dense", "{\"units\": 10}", "dense_2");
    net_chain(net, "softmax", "{}", "dense_2");
    net_init(net, 1);
    return net;
}

/* What a trainer would have noted. One array per weight of the net. */
static float **make_moves(const struct net *net)
{
    float **moved = mem_zalloc((size_t)net->n_weights, sizeof *moved);

    for (int w = 0; w < net->n_weights; w++)
        if (net->weight[w].info.prunable) {
            moved[w] = mem_vector(net->weight[w].len);
            fill_normal(moved[w], net->weight[w].len, (uint32_t)w);
        }
    return moved;
}

static double step_seconds(const char *criterion, const char *unit, struct net *net, const struct data_view *train, struct err *e)
{
    json_t *j = json_pack("{s:s,s:s,s:i,s:f}", "criterion", criterion, "unit", unit, "iterations", 1, "target_sparsity", 0.95);
    float **moved = make_moves(net);
    struct prune_data data = { train, NULL, NULL, NULL, NULL, moved };
    struct loss_binding loss;
    struct prune_conf conf;
    struct pruner *p = NULL;
    double begun;

    net_must(params_parse(&conf, sizeof conf, prune_params, j, e), criterion, e);
    net_must(loss_bind(&loss, loss_default(net, CLASSES), net, CLASSES, 0, e), "loss", e);
    net_must(pruner_new(&p, &conf, net, 1, e), "pruner", e);
    data.loss = &loss;
    begun = seconds();
    net_must(pruner_step(p, net, 1, &data, e), criterion, e);
    begun = seconds() - begun;
    pruner_free(p);
    for (int w = 0; w < net->n_weights; w++)
        mem_free(moved[w]);
    mem_free(moved);
    net_free(net);
    json_decref(j);
    return begun;
}

static void print_row(const char *criterion, const char *unit, const struct data_view *train, struct err *e)
{
    static struct net *(*const nets[])(void) = { lenet_300_100, lenet_5 };

    printf("%-18s %-8s", criterion, unit);
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
        double least = HUGE_VAL;

        for (int run = 0; run < RUNS && (run == 0 || least < 5); run++)
            least = fmin(least, step_seconds(criterion, unit, nets[i](), train, e));
        printf(" %8.3f", least);
        fflush(stdout);
    }
    putchar('\n');
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc < 2;
}

int main(int argc, char **argv)
{
    struct data_views views;
    struct dataset d;
    struct err e = { 0 };

    gemm_choose_core(argv);
    gemm_init();
    make_data(&d, &views);
    for (const struct plug *const *row = criterion_table.rows; *row; row++) {
        const struct criterion *c = criterion_of(*row);

        if (wanted((*row)->name, argc, argv) && criterion_scores_weights(c))
            print_row((*row)->name, "weight", &views.train, &e);
        if (wanted((*row)->name, argc, argv) && criterion_scores_neurons(c))
            print_row((*row)->name, "neuron", &views.train, &e);
    }
    data_views_free(&views);
    return 0;
}
