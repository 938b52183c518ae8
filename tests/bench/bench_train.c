/* Seconds per epoch of LeNet-300-100 on Fashion-MNIST: 60,000 samples, Adam; the least and the median of some epochs.
 *
 *     cmake --build build --target bench_train && build/tests/bench_train [--threads N] [--epochs N] [--batch N] [--sparsity S]
 *         [--data FOLDER] [--json FILE]
 *
 * Without --threads one thread, then two; without --sparsity dense, then kernels with random masks of 0.8, 0.95 and 0.98. Compact files are made in
 * a temporary folder and removed. */
#include <string.h>
#include <unistd.h>

#include "core/gemm.h"
#include "core/train.h"
#include "tests/bench/bench.h"

static struct dataset *open_data(const char *folder)
{
    struct data_conf conf;
    struct data_file_info info = { 0 };
    struct dataset *d;
    struct err e = { 0 };
    char dir[] = "/tmp/bench_train.XXXXXX", images[300], labels[300], x[64], y[64];
    const char *paths[DATA_SPLITS][2] = { { x, y } };

    if (!mkdtemp(dir))
        must(err_errno(&e, 0, "temporary folder"), &e);
    snprintf(images, sizeof images, "%s/train-images-idx3-ubyte.gz", folder);
    snprintf(labels, sizeof labels, "%s/train-labels-idx1-ubyte.gz", folder);
    snprintf(x, sizeof x, "%s/x", dir);
    snprintf(y, sizeof y, "%s/y", dir);
    must(params_parse(&conf, sizeof conf, data_params, NULL, &e), &e);
    must(data_convert(images, false, DATA_TRAIN, DATA_FEATURES, &conf, x, NULL, &info, NULL, 0, &e), &e);
    json_decref(info.json);
    must(data_convert(labels, false, DATA_TRAIN, DATA_LABELS, &conf, NULL, y, NULL, &info, 0, &e), &e);
    json_decref(info.json);
    must(dataset_open(&d, &conf, paths, &e), &e);
    unlink(x);
    unlink(y);
    rmdir(dir);
    return d;
}

static void add(struct net *net, const char *op, int units, const char *layer)
{
    struct plug_value conf;
    struct err e = { 0 };
    json_t *j = units ? json_pack("{s:s, s:i}", "type", op, "units", units) : json_pack("{s:s}", "type", op);
    int last = net->n_nodes - 1;

    must(plug_parse(&conf, &op_table, j, &e), &e);
    must(net_add(net, op_of(conf.plug), &conf, layer, &last, 1, NULL, &e), &e);
    json_decref(j);
}

static struct net *lenet_300_100(const struct shape *input)
{
    struct net *net;
    struct err e = { 0 };
    struct plug_value flat = { .plug = &op_find("reshape")->plug };
    int in = 0;

    must(net_new(&net, input, &e), &e);
    must(net_add(net, op_find("reshape"), &flat, "flatten", &in, 1, NULL, &e), &e);
    add(net, "dense", 300, "dense");
    add(net, "relu", 0, "dense");
    add(net, "dense", 100, "dense_1");
    add(net, "relu", 0, "dense_1");
    add(net, "dense", 10, "dense_2");
    add(net, "softmax", 0, "dense_2");
    net_init(net, 1);
    return net;
}

enum { MAX_EPOCHS = 100 };
struct clock { double last, epoch[MAX_EPOCHS]; int n; };

static void epoch_done(void *user, int64_t epoch, double loss, const struct metrics *validation)
{
    struct clock *c = user;
    double t = now();

    (void)validation;
    (void)epoch;
    (void)loss;
    if (c->n < MAX_EPOCHS)
        c->epoch[c->n++] = t - c->last;
    c->last = now();
}

struct options { int threads, epochs, batch; double sparsity; const char *folder, *json; };

static json_t *run(const struct dataset *d, const struct options *o, int threads, double sparsity)
{
    struct net *net = lenet_300_100(&d->shape);
    struct data_views views;
    struct loss_binding loss;
    struct train_conf conf;
    struct team *team;
    struct trainer *t;
    struct err e = { 0 };
    struct clock c = { 0 };

    must(params_parse(&conf, sizeof conf, train_params, NULL, &e), &e);
    conf.epochs = o->epochs;
    conf.batch_size = o->batch;
    mask_by_chance(net, sparsity, o->batch);
    must(data_views_new(&views, d, 0, 1, &e), &e);
    must(loss_bind(&loss, loss_default(net, d->n_classes), net, d->n_classes, 0, &e), &e);
    must(team_new(&team, threads, &e), &e);
    must(trainer_new(&t, &(struct trainer_in){ .net = net, .views = &views, .loss = &loss, .conf = &conf, .metric = METRIC_ACCURACY, .seed = 1,
                                               .team = team }, &e), &e);
    c.last = now();
    must(trainer_run(t, &(struct train_hooks){ .epoch = epoch_done, .user = &c }, &e), &e);
    qsort(c.epoch, (size_t)c.n, sizeof c.epoch[0], by_size);
    printf("threads %d, batch %d, sparsity %.2f: %.3f s per epoch (median %.3f)\n", threads, o->batch, sparsity, c.epoch[0], c.epoch[c.n / 2]);
    fflush(stdout);
    trainer_free(t);
    team_free(team);
    data_views_free(&views);
    net_free(net);
    return json_pack("{s:i, s:i, s:f, s:f, s:f}", "threads", threads, "batch", o->batch, "sparsity", sparsity, "seconds", c.epoch[0], "median",
                     c.epoch[c.n / 2]);
}

static struct options parse(int argc, char **argv)
{
    struct options o = { 0, 4, 128, -1, "/usr/share/datasets/fashion-mnist", NULL };

    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];

        if (strcmp(name, "--threads") == 0)
            o.threads = (int)strtol(value, NULL, 10);
        else if (strcmp(name, "--epochs") == 0)
            o.epochs = (int)strtol(value, NULL, 10);
        else if (strcmp(name, "--batch") == 0)
            o.batch = (int)strtol(value, NULL, 10);
        else if (strcmp(name, "--sparsity") == 0)
            o.sparsity = strtod(value, NULL);
        else if (strcmp(name, "--data") == 0)
            o.folder = value;
        else if (strcmp(name, "--json") == 0)
            o.json = value;
    }
    return o;
}

int main(int argc, char **argv)
{
    static const double sparsities[] = { 0, 0.8, 0.95, 0.98 };
    struct options o = parse(argc, argv);
    json_t *rows = json_array();
    struct dataset *d;

    gemm_choose_core(argv);
    gemm_init();
    d = open_data(o.folder);
    printf("%s; sparse: %s\n", gemm_describe(), sparse_level_name(0));
    for (int n = o.threads > 0 ? o.threads : 1; n <= (o.threads > 0 ? o.threads : 2); n++)
        for (int i = 0; i < (o.sparsity < 0 ? 4 : 1); i++)
            json_array_append_new(rows, run(d, &o, n, o.sparsity < 0 ? sparsities[i] : o.sparsity));
    dataset_free(d);
    if (o.json && json_dump_file(rows, o.json, JSON_INDENT(2)) != 0) {
        fprintf(stderr, "bench_train: cannot write %s\n", o.json);
        return 1;
    }
    json_decref(rows);
    return 0;
}
