/* Neurons found from the graph: by hand for chains, residual sums, concatenations and what mixes; and laws over random graphs. */
#include "core/group.h"

#include "core/mem.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

#define CONV(filters, side) "{\"filters\": " #filters ", \"kernel_height\": " #side ", \"kernel_width\": " #side

/* One line per bundle: "4 fixed: makes w0+0, shifts w1+0, reads w2+3x2" (offset, and run where it is not 1), w by number. */
static void describe(char *buf, size_t n, const struct groups *g)
{
    static const char *const role[] = { [GROUP_MAKES] = "makes", [GROUP_SHIFTS] = "shifts", [GROUP_READS] = "reads" };
    size_t at = 0;

    for (int b = 0; b < g->n; b++) {
        at += (size_t)snprintf(buf + at, n - at, "%d%s:", g->bundle[b].n, g->bundle[b].fixed ? " fixed" : "");
        for (int m = 0; m < g->bundle[b].n_members; m++) {
            const struct group_member *p = &g->bundle[b].member[m];
            char run[16] = "";

            ck_assert_int_eq(p->axis, p->role == GROUP_READS);
            if (p->run != 1)
                snprintf(run, sizeof run, "x%d", p->run);
            at += (size_t)snprintf(buf + at, n - at, "%s %s %d+%d%s", m ? "," : "", role[p->role], p->w, p->offset, run);
        }
        at += (size_t)snprintf(buf + at, n - at, "\n");
    }
}

static void expect(const struct net *net, const char *want)
{
    struct groups g;
    char have[4000];

    ck_assert_int_eq(groups_find(&g, net, NULL), ERR_OK);
    describe(have, sizeof have, &g);
    ck_assert_str_eq(have, want);
    groups_clear(&g);
}

START_TEST(chain)
{
    struct net *net = net_of(5);

    net_chain(net, "dense", "{\"units\": 4}", "a");              /* 0 kernel, 1 bias */
    net_chain(net, "batch_norm", "", "norm");                    /* 2 gamma, 3 beta, 4 mean, 5 variance */
    net_chain(net, "relu", "", "relu");
    net_chain(net, "dropout", "", "drop");
    net_chain(net, "reshape", "", "flat");
    net_chain(net, "dense", "{\"units\": 3, \"use_bias\": false}", "b"); /* 6 */
    net_chain(net, "softmax", "", "b");
    expect(net, "5 fixed: reads 0+0\n"
                "4: makes 0+0, shifts 1+0, shifts 2+0, shifts 3+0, shifts 4+0, shifts 5+0, reads 6+0\n"
                "3 fixed: makes 6+0\n"
                "3 fixed:\n");
    net_free(net);
}
END_TEST

START_TEST(residual) /* what is added is one neuron from then on, in the branch too */
{
    struct net *net = net_of(5);
    int a = net_chain(net, "dense", "{\"units\": 4}", "a"), b, c;   /* 0, 1 */

    b = net_with(net, "dense", "{\"units\": 6}", "b", a, -1);       /* 2, 3 */
    c = net_with(net, "dense", "{\"units\": 4}", "c", b, -1);       /* 4, 5 */
    net_with(net, "add", "", "sum", a, c);
    net_chain(net, "relu", "", "relu");
    net_chain(net, "dense", "{\"units\": 2}", "d");                 /* 6, 7 */
    expect(net, "5 fixed: reads 0+0\n"
                "4: makes 0+0, shifts 1+0, reads 2+0, makes 4+0, shifts 5+0, reads 6+0\n"
                "6: makes 2+0, shifts 3+0, reads 4+0\n"
                "2 fixed: makes 6+0, shifts 7+0\n");
    net_free(net);
}
END_TEST

START_TEST(concatenate)
{
    struct net *net = net_of(5);
    int a = net_with(net, "dense", "{\"units\": 4}", "a", 0, -1);   /* 0, 1 */
    int b = net_with(net, "dense", "{\"units\": 2}", "b", 0, -1);   /* 2, 3 */

    net_with(net, "concatenate", "", "join", a, b);
    net_chain(net, "batch_norm", "{\"scale\": false, \"center\": false}", "norm"); /* 4, 5 */
    net_with(net, "concatenate", "", "again", net->n_nodes - 1, a);
    net_chain(net, "dense", "{\"units\": 2}", "d");                 /* 6, 7 */
    expect(net, "5 fixed: reads 0+0, reads 2+0\n"
                "4: makes 0+0, shifts 1+0, shifts 4+0, shifts 5+0, reads 6+0, reads 6+6\n"
                "2: makes 2+0, shifts 3+0, shifts 4+4, shifts 5+4, reads 6+4\n"
                "2 fixed: makes 6+0, shifts 7+0\n");
    net_free(net);
}
END_TEST

START_TEST(sum_of_a_concatenation) /* cuts the layer that it is added to, and others cut it again */
{
    struct net *net = net_of(3);
    int a = net_with(net, "dense", "{\"units\": 4, \"use_bias\": false}", "a", 0, -1); /* 0 */
    int b = net_with(net, "dense", "{\"units\": 6, \"use_bias\": false}", "b", 0, -1); /* 1 */
    int c = net_with(net, "dense", "{\"units\": 10, \"use_bias\": false}", "c", 0, -1); /* 2 */
    int d = net_with(net, "dense", "{\"units\": 5, \"use_bias\": false}", "d", 0, -1); /* 3 */
    int sum = net_with(net, "add", "", "sum", c, net_with(net, "concatenate", "", "ab", a, b));

    net_with(net, "dense", "{\"units\": 1, \"use_bias\": false}", "read", sum, -1); /* 4 */
    expect(net, "3 fixed: reads 0+0, reads 1+0, reads 2+0, reads 3+0\n"
                "4: makes 0+0, makes 2+0, reads 4+0\n"
                "6: makes 1+0, makes 2+4, reads 4+4\n"
                "5: makes 3+0\n"
                "1 fixed: makes 4+0\n");
    net_with(net, "add", "", "more", c, net_with(net, "concatenate", "", "dd", d, d));
    net_with(net, "dense", "{\"units\": 1, \"use_bias\": false}", "end", net->n_nodes - 1, -1); /* 5 */
    net_free(net);
}
END_TEST

START_TEST(one_layer_twice) /* c + (d, d): neuron j of d is that of c at j and at j + 5 */
{
    struct net *net = net_of(3);
    int c = net_with(net, "dense", "{\"units\": 10, \"use_bias\": false}", "c", 0, -1); /* 0 */
    int d = net_with(net, "dense", "{\"units\": 5, \"use_bias\": false}", "d", 0, -1);  /* 1 */

    net_with(net, "add", "", "more", c, net_with(net, "concatenate", "", "dd", d, d));
    net_chain(net, "dense", "{\"units\": 1, \"use_bias\": false}", "end");             /* 2 */
    expect(net, "3 fixed: reads 0+0, reads 1+0\n"
                "5: makes 0+0, makes 0+5, makes 1+0, reads 2+0, reads 2+5\n"
                "1 fixed: makes 2+0\n");
    net_free(net);
}
END_TEST

START_TEST(what_mixes_is_fixed)
{
    struct net *net = net_of(6);
    int a = net_chain(net, "dense", "{\"units\": 4}", "a"), b;      /* 0, 1 */

    net_chain(net, "softmax", "", "soft");
    b = net_chain(net, "dense", "{\"units\": 3}", "b");             /* 2, 3 */
    net_with(net, "dense", "{\"units\": 3}", "c", a, -1);           /* 4, 5 */
    net_with(net, "add", "", "sum", b, net->n_nodes - 1);
    net_chain(net, "dense", "{\"units\": 1}", "d");                 /* 6, 7 */
    expect(net, "6 fixed: reads 0+0\n"
                "4 fixed: makes 0+0, shifts 1+0, reads 4+0\n"
                "4 fixed: reads 2+0\n"
                "3: makes 2+0, shifts 3+0, makes 4+0, shifts 5+0, reads 6+0\n"
                "1 fixed: makes 6+0, shifts 7+0\n");
    net_free(net);
}
END_TEST

static int reshape(struct net *net, int n_d, int d0, int d1, int d2, const char *layer)
{
    struct plug_value conf = { .plug = &op_find("reshape")->plug };
    struct reshape_conf c = { { n_d, { d0, d1, d2 } } };
    int in = net->n_nodes - 1;

    memcpy(conf.conf, &c, sizeof c);
    ck_assert_int_eq(net_add(net, op_of(conf.plug), &conf, layer, &in, 1, NULL, NULL), ERR_OK);
    return net->n_nodes - 1;
}

START_TEST(grids) /* an image's rows are runs of the flat value; a layer given the shape of a grid stays whole */
{
    struct shape image = { 2, { 3, 4 } };
    struct net *net;

    ck_assert_int_eq(net_new(&net, &image, NULL), ERR_OK);
    reshape(net, 0, 0, 0, 0, "flat");
    net_chain(net, "dense", "{\"units\": 12, \"use_bias\": false}", "a"); /* 0 */
    reshape(net, 3, 3, 2, 2, "grid");
    reshape(net, 1, 12, 0, 0, "line");
    net_chain(net, "dense", "{\"units\": 2, \"use_bias\": false}", "b");  /* 1 */
    expect(net, "3 fixed: reads 0+0x4\n"
                "12 fixed: makes 0+0\n"
                "3 fixed: reads 1+0x4\n"
                "2 fixed: makes 1+0\n");
    net_free(net);
}
END_TEST

/* A channel: kernels (out, in, kh, kw), and a flattened channel is a run of the next layer's columns. */
START_TEST(channels)
{
    struct net *net = net_of_image(2, 6, 6);
    struct groups g;
    struct group_slice s;
    struct group_value v;

    net_chain(net, "conv2d", CONV(4, 3) ", \"padding\": \"same\", \"use_bias\": false}", "a"); /* 0 */
    net_chain(net, "batch_norm", "{\"scale\": false}", "norm");    /* 1 beta, 2, 3 */
    net_chain(net, "max_pool2d", "", "pool");
    net_chain(net, "conv2d", CONV(3, 2) "}", "b");                  /* 4, 5 */
    reshape(net, 0, 0, 0, 0, "flat");
    net_chain(net, "batch_norm", "{\"scale\": false, \"center\": false}", "wide"); /* 6, 7 */
    net_chain(net, "dense", "{\"units\": 5, \"use_bias\": false}", "out"); /* 8 */
    expect(net, "2 fixed: reads 0+0\n"
                "4: makes 0+0, shifts 1+0, shifts 2+0, shifts 3+0, reads 4+0\n"
                "3: makes 4+0, shifts 5+0, shifts 6+0x4, shifts 7+0x4, reads 8+0x4\n"
                "5 fixed: makes 8+0\n");
    ck_assert_int_eq(groups_find(&g, net, NULL), ERR_OK);
    s = group_slice(&net->weight[0], &g.bundle[1].member[0], 2);
    ck_assert(s.first == 36 && s.len == 18 && s.n == 1);
    s = group_slice(&net->weight[0], &g.bundle[0].member[0], 1);
    ck_assert(s.first == 9 && s.len == 9 && s.stride == 18 && s.n == 4);
    s = group_slice(&net->weight[1], &g.bundle[1].member[1], 3);
    ck_assert(s.first == 3 && s.len == 1 && s.n == 1);
    s = group_slice(&net->weight[8], &g.bundle[2].member[4], 1);
    ck_assert(s.first == 4 && s.len == 4 && s.stride == 12 && s.n == 5);
    v = group_value(net, &g.bundle[2].member[4], 1);
    ck_assert(v.node == 6 && v.first == 4 && v.len == 4);
    v = group_value(net, &g.bundle[1].member[4], 1);
    ck_assert(v.node == 3 && v.first == 9 && v.len == 9);
    groups_clear(&g);
    net_free(net);
}
END_TEST

START_TEST(residual_channels) /* a block whose shortcut is a convolution, one whose shortcut is none, joined with its input, and the mean of each channel */
{
    struct net *net = net_of_image(3, 6, 6);
    int stem = net_chain(net, "conv2d", CONV(4, 3) ", \"padding\": \"same\", \"use_bias\": false}", "stem"), a, b; /* 0 */

    a = net_with(net, "conv2d", CONV(6, 3) ", \"padding\": \"same\", \"use_bias\": false, \"stride_height\": 2, \"stride_width\": 2}", "a", stem, -1); /* 1 */
    b = net_with(net, "conv2d", CONV(6, 1) ", \"use_bias\": false, \"stride_height\": 2, \"stride_width\": 2}", "b", stem, -1); /* 2 */
    a = net_with(net, "add", "", "sum", a, b);
    b = net_with(net, "conv2d", CONV(6, 3) ", \"padding\": \"same\"}", "c", a, -1); /* 3, 4 */
    a = net_with(net, "add", "", "again", a, b);
    b = net_with(net, "average_pool2d", "", "half", stem, -1);
    net_with(net, "concatenate", "{\"axis\": 1}", "join", b, a);
    net_chain(net, "global_average_pool", "", "mean");
    net_chain(net, "dense", "{\"units\": 2}", "out");              /* 5, 6 */
    expect(net, "3 fixed: reads 0+0\n"
                "4: makes 0+0, reads 1+0, reads 2+0, reads 5+0\n"
                "6: makes 1+0, makes 2+0, reads 3+0, makes 3+0, shifts 4+0, reads 5+4\n"
                "2 fixed: makes 5+0, shifts 6+0\n");
    net_free(net);
}
END_TEST

START_TEST(depthwise) /* a row of the kernel for each channel, or two */
{
    struct net *net = net_of_image(1, 5, 5);

    net_chain(net, "conv2d", CONV(4, 1) ", \"use_bias\": false}", "a");              /* 0 */
    net_chain(net, "depthwise_conv2d", "{\"kernel_height\": 3, \"kernel_width\": 3}", "one");                                /* 1, 2 */
    net_chain(net, "depthwise_conv2d", "{\"kernel_height\": 3, \"kernel_width\": 3, \"depth_multiplier\": 2}", "two"); /* 3, 4 */
    net_chain(net, "batch_norm", "{\"scale\": false, \"center\": false}", "norm");  /* 5, 6 */
    net_chain(net, "conv2d", CONV(3, 1) "}", "b");                                    /* 7, 8 */
    net_chain(net, "global_max_pool", "", "max");
    net_chain(net, "dense", "{\"units\": 2}", "out");                                /* 9, 10 */
    expect(net, "1 fixed: reads 0+0\n"
                "4: makes 0+0, makes 1+0, shifts 2+0, makes 3+0x2, shifts 4+0x2, shifts 5+0x2, shifts 6+0x2, reads 7+0x2\n"
                "3: makes 7+0, shifts 8+0, reads 9+0\n"
                "2 fixed: makes 9+0, shifts 10+0\n");
    net_free(net);
}
END_TEST

START_TEST(gate) /* squeeze and excitation: one number for each channel */
{
    struct net *net = net_of_image(1, 5, 5);
    int a = net_chain(net, "conv2d", CONV(4, 3) "}", "a"), pad = net_chain(net, "zero_pad2d", "", "pad"); /* 0, 1 */

    net_with(net, "global_average_pool", "", "mean", a, -1);
    net_chain(net, "dense", "{\"units\": 2}", "squeeze");          /* 2, 3 */
    net_chain(net, "dense", "{\"units\": 4}", "excite");           /* 4, 5 */
    net_with(net, "multiply", "", "gate", net_chain(net, "sigmoid", "", "excite"), pad);
    net_chain(net, "conv2d", CONV(2, 1) "}", "out");               /* 6, 7 */
    expect(net, "1 fixed: reads 0+0\n"
                "4: makes 0+0, shifts 1+0, reads 2+0, makes 4+0, shifts 5+0, reads 6+0\n"
                "2: makes 2+0, shifts 3+0, reads 4+0\n"
                "2 fixed: makes 6+0, shifts 7+0\n");
    net_free(net);
}
END_TEST

START_TEST(different_runs_are_fixed) /* two channels of one neuron, added to two neurons; convolutions in groups mix */
{
    struct net *net = net_of_image(1, 3, 3);
    int a = net_chain(net, "conv2d", CONV(4, 1) ", \"use_bias\": false}", "a");         /* 0 */
    int d = net_chain(net, "depthwise_conv2d", "{\"kernel_height\": 3, \"kernel_width\": 3, \"depth_multiplier\": 2, \"use_bias\": false}", "d"); /* 1 */

    net_with(net, "add", "", "sum", d, net_with(net, "conv2d", CONV(8, 3) ", \"use_bias\": false}", "b", a, -1)); /* 2 */
    net_chain(net, "conv2d", CONV(2, 1) ", \"use_bias\": false}", "c");               /* 3 */
    net_chain(net, "conv2d", CONV(4, 1) ", \"use_bias\": false, \"groups\": 2}", "g"); /* 4 */
    net_chain(net, "conv2d", CONV(2, 1) ", \"use_bias\": false}", "out");             /* 5 */
    expect(net, "1 fixed: reads 0+0\n"
                "4 fixed: makes 0+0, makes 1+0x2, reads 2+0, reads 3+0x2\n"
                "8 fixed: makes 2+0\n"
                "2 fixed: makes 3+0\n"
                "4 fixed: makes 4+0, reads 5+0\n"
                "2 fixed: makes 5+0\n");
    net_free(net);
}
END_TEST

/* ---- laws ---- */

/* Some layers, each on any earlier value. */
static struct net *random_net(uint32_t stream)
{
    const struct rng r = { 7, RNG_TEST, stream, 0 };
    struct net *net = net_of(4);

    for (uint64_t i = 0; i < 14; i++) {
        int in = (int)rng_below(&r, 4 * i, (uint64_t)net->n_nodes), other = (int)rng_below(&r, 4 * i + 1, (uint64_t)net->n_nodes);
        bool same = shape_equal(&net->node[in].plan.out, &net->node[other].plan.out);
        static const char *const units[] = { "{\"units\": 2}", "{\"units\": 4, \"use_bias\": false}", "{\"units\": 6}" };
        char name[8];

        snprintf(name, sizeof name, "l%d", (int)i);
        switch (rng_below(&r, 4 * i + 2, 8)) {
        case 0: net_with(net, "relu", "", name, in, -1); break;
        case 1: net_with(net, "batch_norm", "", name, in, -1); break;
        case 2: case 3: net_with(net, same ? "add" : "concatenate", "", name, in, other); break;
        case 4: net_with(net, i % 5 ? "concatenate" : "softmax", "", name, in, -1); break;
        default: net_with(net, "dense", units[rng_below(&r, 4 * i + 3, 3)], name, in, -1); break;
        }
    }
    net_chain(net, "dense", "{\"units\": 3}", "out");
    return net;
}

/* Each index of axis 0 of every weight lies in one bundle, of axis 1 of every kernel too (there are no grids here); the same for slices. */
static void index_once(uint32_t stream)
{
    struct net *net = random_net(stream);
    struct groups g;
    uint8_t *seen[2];

    ck_assert_int_eq(groups_find(&g, net, NULL), ERR_OK);
    for (int w = 0; w < net->n_weights; w++) {
        const struct weight *weight = &net->weight[w];

        for (int axis = 0; axis < 2; axis++)
            seen[axis] = calloc(weight->len, 1);
        for (int b = 0; b < g.n; b++)
            for (int m = 0; m < g.bundle[b].n_members; m++)
                for (int j = 0; j < g.bundle[b].n && g.bundle[b].member[m].w == w; j++) {
                    struct group_slice s = group_slice(weight, &g.bundle[b].member[m], j);

                    for (int k = 0; k < s.n; k++)
                        for (size_t i = 0; i < s.len; i++)
                            seen[g.bundle[b].member[m].axis][s.first + (size_t)k * s.stride + i]++;
                }
        for (size_t i = 0; i < weight->len; i++)
            if (seen[0][i] != 1 || seen[1][i] != (weight->info.prunable ? 1 : 0))
                ck_abort_msg("net %u: number %zu of %s", stream, i, weight->name);
        free(seen[0]);
        free(seen[1]);
    }
    groups_clear(&g);
    net_free(net);
}

START_TEST(every_index_once)
{
    for (uint32_t stream = 0; stream < 200; stream++)
        index_once(stream);
}
END_TEST

/* The first neuron of every bundle that is not fixed: what reads it, or what makes it, becomes x. */
static void set_neurons(struct net *net, const struct groups *g, bool reads, float x)
{
    for (int b = 0; b < g->n; b++)
        for (int m = 0; m < g->bundle[b].n_members && !g->bundle[b].fixed; m++) {
            const struct group_member *p = &g->bundle[b].member[m];
            struct group_slice s = group_slice(&net->weight[p->w], p, 0);

            for (int k = 0; k < s.n && reads == (p->role == GROUP_READS); k++)
                for (size_t i = 0; i < s.len; i++)
                    net->weight[p->w].x[s.first + (size_t)k * s.stride + i] = x;
        }
}

static void run(float *out, struct exec *x, int output)
{
    fill_normal(exec_input(x), 32, 1);
    exec_forward(x, 8, false, 0);
    memcpy(out, exec_value(x, output), 24 * sizeof *out);
}

/* Without its columns a neuron changes nothing: its rows and numbers may be anything. */
static void unread(uint32_t stream)
{
    struct net *net = random_net(stream);
    struct groups g;
    struct exec *x;
    float want[24], have[24];

    net_init(net, 5);
    ck_assert_int_eq(groups_find(&g, net, NULL), ERR_OK);
    ck_assert_int_eq(exec_new(&x, net, 8, EXEC_INFER, 0, NULL, NULL), ERR_OK);
    set_neurons(net, &g, true, 0);
    run(want, x, net->n_nodes - 1);
    set_neurons(net, &g, false, 3);
    set_neurons(net, &g, true, 0); /* where one bundle's columns are another's rows */
    run(have, x, net->n_nodes - 1);
    for (int i = 0; i < 24; i++)
        ck_assert_msg(fabsf(have[i] - want[i]) <= 1e-6f * (1 + fabsf(want[i])), "net %u", stream);
    exec_free(x);
    groups_clear(&g);
    net_free(net);
}

START_TEST(what_nobody_reads_changes_nothing)
{
    for (uint32_t stream = 0; stream < 50; stream++)
        unread(stream);
}
END_TEST

START_TEST(memory_is_short)
{
    struct net *net = random_net(3);
    bool fired = true;

    for (long k = 1; fired; k++) {
        struct groups g = { 0 };
        enum err_code rc;

        mem_fail_in = k;
        rc = groups_find(&g, net, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert(rc == (fired ? ERR_NOMEM : ERR_OK) && fired == !g.bundle);
        groups_clear(&g);
    }
    net_free(net);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "by hand");

    tcase_add_test(tc, chain);
    tcase_add_test(tc, residual);
    tcase_add_test(tc, concatenate);
    tcase_add_test(tc, sum_of_a_concatenation);
    tcase_add_test(tc, one_layer_twice);
    tcase_add_test(tc, what_mixes_is_fixed);
    tcase_add_test(tc, grids);
    tcase_add_test(tc, channels);
    tcase_add_test(tc, residual_channels);
    tcase_add_test(tc, depthwise);
    tcase_add_test(tc, gate);
    tcase_add_test(tc, different_runs_are_fixed);
    tc = suite_case(s, "laws");
    tcase_add_test(tc, every_index_once);
    tcase_add_test(tc, what_nobody_reads_changes_nothing);
    tcase_add_test(tc, memory_is_short);
}
SUITE_MAIN("groups", cases)
