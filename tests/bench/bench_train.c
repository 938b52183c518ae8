/* Seconds per epoch of LeNet-300-100 on Fashion-MNIST: 60,000 samples, batch 128, Adam; the least of some epochs.
 *
 *     cmake --build build --target bench_train && build/tests/bench_train [threads [epochs [data folder]]]
 *
 * Without arguments one thread, then two. Compact files are made in a temporary folder and removed. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/gemm.h"
#include "core/train.h"

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void must(enum err_code rc, const struct err *e)
{
    if (rc != ERR_OK) {
        fprintf(stderr, "bench_train: %s %s\n", e->at, e->msg);
        exit(1);
    }
}

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
    must(data_convert(images, DATA_FEATURES, &conf, x, NULL, &info, NULL, 0, &e), &e);
    json_decref(info.json);
    must(data_convert(labels, DATA_LABELS, &conf, NULL, y, NULL, &info, 0, &e), &e);
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

struct clock { double last, least; };

static void epoch_done(void *user, int64_t epoch, double loss, const struct metrics *validation)
{
    struct clock *c = user;
    double t = now();

    (void)validation;
    printf("  epoch %d: %.3f s, loss %.4f\n", (int)epoch, t - c->last, loss);
    c->least = epoch == 1 || t - c->last < c->least ? t - c->last : c->least;
    c->last = now();
}

static void run(const struct dataset *d, int threads, int64_t epochs)
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
    conf.epochs = epochs;
    must(data_views_new(&views, d, 0, 1, &e), &e);
    must(loss_bind(&loss, loss_default(net, d->n_classes), net, d->n_classes, 0, &e), &e);
    must(team_new(&team, threads, &e), &e);
    must(trainer_new(&t, &(struct trainer_in){ net, &views, &loss, &conf, METRIC_ACCURACY, 1, 0, team }, &e), &e);
    printf("%d thread%s, %d samples, %s\n", threads, threads > 1 ? "s" : "", views.train.n, gemm_describe());
    c.last = now();
    must(trainer_run(t, &(struct train_hooks){ .epoch = epoch_done, .user = &c }, &e), &e);
    printf("  least: %.3f s per epoch\n", c.least);
    trainer_free(t);
    team_free(team);
    data_views_free(&views);
    net_free(net);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0;
    int64_t epochs = argc > 2 ? strtol(argv[2], NULL, 10) : 4;
    struct dataset *d;

    gemm_init();
    d = open_data(argc > 3 ? argv[3] : "/usr/share/datasets/fashion-mnist");
    for (int n = threads > 0 ? threads : 1; n <= (threads > 0 ? threads : 2); n++)
        run(d, n, epochs);
    dataset_free(d);
    return 0;
}
