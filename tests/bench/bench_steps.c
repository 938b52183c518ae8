/* Milliseconds of a training step (batch gathered, forward, loss, backward, Adam) and of inference of LeNet-5 (20-50-500) and ResNet-20 on random
 * images: the least and the median of some steps.
 *
 *     cmake --build build --target bench_steps && build/tests/bench_steps [--net lenet5|resnet20] [--threads N] [--steps N] [--batch N]
 *         [--sparsity S] [--width W] [--profile 1] [--json FILE]
 *
 * Without --net both, without --threads one thread, then two. --sparsity masks that share of every kernel by chance. --width scales the channels of
 * ResNet-20: 0.70 has about half the multiply-adds. --profile times every op by itself, and adds up by kinds of op and by layer. */
#include <string.h>

#include "core/gemm.h"
#include "core/train.h"
#include "tests/bench/bench.h"

enum { MAX_STEPS = 1000, CLASSES = 10 };
static double width = 1;

/* ---- nets ---- */

/* Appends an op behind node a (and b, if it is not negative); returns its node. */
static int add(struct net *net, const char *op, const char *layer, int a, int b, const char *options)
{
    struct plug_value conf = { .plug = &op_find(op)->plug };
    struct err e = { 0 };
    json_t *j = options ? json_loads(options, 0, NULL) : NULL;
    int in[2] = { a, b }, at;

    if (conf.plug->params)
        must(params_parse(conf.conf, conf.plug->conf_size, conf.plug->params, j, &e), &e);
    must(net_add(net, op_of(conf.plug), &conf, layer, in, b < 0 ? 1 : 2, &at, &e), &e);
    json_decref(j);
    return at;
}

static int conv(struct net *net, const char *layer, int in, int filters, int size, int stride, bool same, bool bias)
{
    char options[256];

    snprintf(options, sizeof options, "{\"filters\": %d, \"kernel_height\": %d, \"kernel_width\": %d, \"stride_height\": %d, \"stride_width\": %d, "
             "\"padding\": \"%s\", \"use_bias\": %s}", filters, size, size, stride, stride, same ? "same" : "valid", bias ? "true" : "false");
    return add(net, "conv2d", layer, in, -1, options);
}

static int dense(struct net *net, const char *layer, int in, int units)
{
    char options[64];

    snprintf(options, sizeof options, "{\"units\": %d}", units);
    return add(net, "dense", layer, in, -1, options);
}

static void lenet5(struct net *net)
{
    static const char pool[] = "{\"pool_height\": 2, \"pool_width\": 2}";
    int at = add(net, "relu", "conv1", conv(net, "conv1", 0, 20, 5, 1, false, true), -1, NULL);

    at = add(net, "max_pool2d", "pool1", at, -1, pool);
    at = add(net, "relu", "conv2", conv(net, "conv2", at, 50, 5, 1, false, true), -1, NULL);
    at = add(net, "max_pool2d", "pool2", at, -1, pool);
    at = add(net, "reshape", "flatten", at, -1, NULL);
    at = add(net, "relu", "dense", dense(net, "dense", at, 500), -1, NULL);
    add(net, "softmax", "out", dense(net, "out", at, CLASSES), -1, NULL);
}

static int norm_conv(struct net *net, const char *prefix, int in, int filters, int size, int stride, bool relu)
{
    char layer[64];
    int at;

    snprintf(layer, sizeof layer, "%s_conv", prefix);
    at = conv(net, layer, in, filters, size, stride, true, false);
    snprintf(layer, sizeof layer, "%s_norm", prefix);
    at = add(net, "batch_norm", layer, at, -1, NULL);
    return relu ? add(net, "relu", layer, at, -1, NULL) : at;
}

/* He et al. 2016, for 32 x 32 images; a shortcut that changes the size is a 1 x 1 convolution. */
static void resnet20(struct net *net)
{
    int at = norm_conv(net, "first", 0, (int)(16 * width + 0.5), 3, 1, true), channels = 16;

    for (int stage = 0; stage < 3; stage++)
        for (int block = 0; block < 3; block++) {
            int wide = 16 << stage, stride = stage > 0 && block == 0 ? 2 : 1, filters = (int)(wide * width + 0.5), a, b;
            char name[4][32];

            for (int i = 0; i < 4; i++)
                snprintf(name[i], sizeof name[i], "s%db%d%c", stage, block, 'a' + i);
            a = norm_conv(net, name[1], norm_conv(net, name[0], at, filters, 3, stride, true), filters, 3, 1, false);
            b = wide == channels ? at : norm_conv(net, name[2], at, filters, 1, stride, false);
            at = add(net, "relu", name[3], add(net, "add", name[3], a, b, NULL), -1, NULL);
            channels = wide;
        }
    at = add(net, "global_average_pool", "pool", at, -1, NULL);
    add(net, "softmax", "out", dense(net, "out", at, CLASSES), -1, NULL);
}

static const struct { const char *name; void (*build)(struct net *net); struct shape input; } nets[] = {
    { "lenet5", lenet5, { 3, { 1, 28, 28 } } }, { "resnet20", resnet20, { 3, { 3, 32, 32 } } }
};

/* ---- a profile: every op behind a clock ---- */

static struct profile { const struct op *op; struct op timed; double forward, backward; } *profile;

static void timed_forward(const struct op_call *c)
{
    double t = now();

    profile[c->node].op->forward(c);
    profile[c->node].forward += now() - t;
}
static void timed_backward(const struct op_call *c)
{
    double t = now();

    profile[c->node].op->backward(c);
    profile[c->node].backward += now() - t;
}

static void profile_start(struct net *net)
{
    profile = mem_zalloc((size_t)net->n_nodes, sizeof *profile);
    for (int i = 0; i < net->n_nodes; i++) {
        profile[i] = (struct profile){ .op = net->node[i].op, .timed = *net->node[i].op };
        profile[i].timed.forward = profile[i].op->forward ? timed_forward : NULL;
        profile[i].timed.backward = profile[i].op->backward ? timed_backward : NULL;
        net->node[i].op = &profile[i].timed;
    }
}

static void profile_print(const struct net *net, int steps)
{
    for (int i = 0; i < net->n_nodes; i++)
        if (profile[i].forward + profile[i].backward > 0)
            printf("    %-12s %-20s forward %7.3f ms  backward %7.3f ms\n", net->node[i].layer, profile[i].op->plug.name, profile[i].forward / steps * 1e3,
                   profile[i].backward / steps * 1e3);
    for (const struct plug *const *row = op_table.rows; *row; row++) {
        double forward = 0, backward = 0;

        for (int i = 0; i < net->n_nodes; i++)
            if (&profile[i].op->plug == *row)
                forward += profile[i].forward, backward += profile[i].backward;
        if (forward + backward > 0)
            printf("    all %-29s forward %7.3f ms  backward %7.3f ms\n", (*row)->name, forward / steps * 1e3, backward / steps * 1e3);
    }
}

/* ---- steps ---- */

struct clock { double last, step[MAX_STEPS]; int n, most; };
struct result { double least, median; };

static struct result settle(struct clock *c)
{
    qsort(c->step, (size_t)c->n, sizeof c->step[0], by_size);
    return (struct result){ c->step[0] * 1e3, c->step[c->n / 2] * 1e3 };
}

static void tick(struct clock *c)
{
    double t = now();

    if (c->n < c->most)
        c->step[c->n++] = t - c->last;
    c->last = now();
}
static void step_done(void *user, const struct train_progress *p)
{
    (void)p;
    tick(user);
}
static bool enough(void *user)
{
    const struct clock *c = user;

    return c->n >= c->most;
}

struct options { const char *net, *json; int threads, steps, batch; double sparsity; bool profile; };

static struct result train(struct net *net, const struct dataset *d, const struct options *o, struct team *team)
{
    struct data_views views;
    struct loss_binding loss;
    struct train_conf conf;
    struct trainer *t;
    struct err e = { 0 };
    struct clock c = { .most = o->steps };

    must(params_parse(&conf, sizeof conf, train_params, NULL, &e), &e);
    conf.epochs = 1000;
    conf.batch_size = o->batch;
    must(data_views_new(&views, d, 0, 1, &e), &e);
    must(loss_bind(&loss, loss_default(net, d->n_classes), net, d->n_classes, 0, &e), &e);
    must(trainer_new(&t, &(struct trainer_in){ .net = net, .views = &views, .loss = &loss, .conf = &conf, .metric = METRIC_ACCURACY, .seed = 1,
                                               .team = team }, &e), &e);
    c.last = now();
    if (trainer_run(t, &(struct train_hooks){ .progress = step_done, .stop = enough, .user = &c }, &e) != ERR_STOPPED)
        must(ERR_INTERNAL, &e);
    trainer_free(t);
    data_views_free(&views);
    return settle(&c);
}

static struct result infer(struct net *net, const struct options *o, struct team *team)
{
    struct clock c = { .most = o->steps };
    struct exec *x;
    struct err e = { 0 };
    const size_t n = shape_len(net_input(net)) * (size_t)o->batch;
    const struct rng r = { 2, RNG_TEST, 0, 0 };

    must(exec_new(&x, net, o->batch, EXEC_INFER, 1, team, &e), &e);
    while (c.n < c.most) {
        for (size_t i = 0; i < n; i++)
            exec_input(x)[i] = (float)rng_unit(&r, i);
        c.last = now();
        exec_forward(x, o->batch, false, 0);
        tick(&c);
    }
    exec_free(x);
    return settle(&c);
}

static json_t *run(int which, const struct options *o, int threads)
{
    struct err e = { 0 };
    struct net *net;
    struct team *team;
    struct dataset *d = random_data(&nets[which].input, CLASSES);
    struct result training, inference;

    must(net_new(&net, &nets[which].input, &e), &e);
    nets[which].build(net);
    net_init(net, 1);
    mask_by_chance(net, o->sparsity, o->batch);
    must(team_new(&team, threads, &e), &e);
    if (o->profile)
        profile_start(net);
    training = train(net, d, o, team);
    if (o->profile) {
        profile_print(net, o->steps + 1);
        mem_free(profile);
        exit(0);
    }
    inference = infer(net, o, team);
    printf("%s, threads %d, batch %d, sparsity %.2f, width %.2f: training step %.2f ms (median %.2f), inference %.2f ms (median %.2f)\n", nets[which].name,
           threads, o->batch, o->sparsity, width, training.least, training.median, inference.least, inference.median);
    fflush(stdout);
    team_free(team);
    net_free(net);
    random_data_free(d);
    return json_pack("{s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f}", "net", nets[which].name, "threads", threads, "batch", o->batch, "sparsity", o->sparsity,
                     "width", width, "train_ms", training.least, "train_median_ms", training.median, "infer_ms", inference.least, "infer_median_ms",
                     inference.median);
}

static struct options parse(int argc, char **argv)
{
    struct options o = { .steps = 15, .batch = 128 };

    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];

        if (strcmp(name, "--net") == 0)
            o.net = value;
        else if (strcmp(name, "--threads") == 0)
            o.threads = (int)strtol(value, NULL, 10);
        else if (strcmp(name, "--steps") == 0)
            o.steps = (int)strtol(value, NULL, 10);
        else if (strcmp(name, "--batch") == 0)
            o.batch = (int)strtol(value, NULL, 10);
        else if (strcmp(name, "--sparsity") == 0)
            o.sparsity = strtod(value, NULL);
        else if (strcmp(name, "--width") == 0)
            width = strtod(value, NULL);
        else if (strcmp(name, "--profile") == 0)
            o.profile = *value == '1';
        else if (strcmp(name, "--json") == 0)
            o.json = value;
    }
    o.steps = o.steps < 1 ? 1 : o.steps > MAX_STEPS ? MAX_STEPS : o.steps;
    return o;
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    json_t *rows = json_array();

    gemm_choose_core(argv);
    gemm_init();
    for (int which = 0; which < (int)(sizeof nets / sizeof nets[0]); which++)
        for (int n = o.threads > 0 ? o.threads : 1; n <= (o.threads > 0 ? o.threads : 2); n++)
            if (!o.net || strcmp(o.net, nets[which].name) == 0)
                json_array_append_new(rows, run(which, &o, n));
    if (o.json && json_dump_file(rows, o.json, JSON_INDENT(2)) != 0) {
        fprintf(stderr, "bench_steps: cannot write %s\n", o.json);
        return 1;
    }
    json_decref(rows);
    return 0;
}
