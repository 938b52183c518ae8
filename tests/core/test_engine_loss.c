/* Losses: every row against finite differences, from logits and from probabilities, by labels and by targets; extremes; what fits
 * which net. */
#include "core/loss.h"

#include "core/gemm.h"
#include "core/mem.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

enum { N = 70, MAX_K = 4 };

static int n_rows(void)
{
    int n = 0;

    while (loss_table.rows[n])
        n++;
    return n;
}

struct setting {
    const struct loss *loss;
    int k;
    enum loss_from from;
    bool labels;
    float z[MAX_K * N], dz[MAX_K * N], target[MAX_K * N];
    int32_t label[N];
    double sample[N];
};

static double run(struct setting *s, bool gradient)
{
    struct loss_call c = { .k = s->k, .n = N, .z = s->z, .label = s->labels ? s->label : NULL, .target = s->labels ? NULL : s->target,
                           .from = s->from, .weight = 0.25, .dz = gradient ? s->dz : NULL, .sample = s->sample };
    double sum = 0;

    s->loss->run(&c);
    for (int j = 0; j < N; j++)
        sum += s->sample[j];
    return 0.25 * sum;
}

static void prepare(struct setting *s)
{
    const struct rng r = { 5, RNG_TEST, (uint32_t)s->k, s->from };

    for (int i = 0; i < s->k * N; i++) {
        s->z[i] = (float)(s->from == LOSS_FROM_LOGITS ? 2 * rng_normal(&r, (uint64_t)i) : 0.1 + 0.8 * rng_unit(&r, (uint64_t)i));
        s->target[i] = (float)rng_unit(&r, (uint64_t)i + 5000);
    }
    for (int j = 0; j < N; j++)
        s->label[j] = (int32_t)rng_below(&r, (uint64_t)j + 9000, s->k == 1 ? 2 : (uint64_t)s->k);
}

static void check_gradient(struct setting *s)
{
    const double h = 1e-3;

    prepare(s);
    run(s, true);
    for (int i = 0; i < s->k * N; i++) {
        float kept = s->z[i];
        double up, down, slope;

        s->z[i] = kept + (float)h;
        up = run(s, false);
        s->z[i] = kept - (float)h;
        down = run(s, false);
        slope = (up - down) / (double)((kept + (float)h) - (kept - (float)h));
        s->z[i] = kept;
        ck_assert_msg(fabs(slope - (double)s->dz[i]) < 1e-3 + 1e-3 * fabs(slope), "%s k %d from %d: %g, differences %g", s->loss->plug.name,
                      s->k, s->from, (double)s->dz[i], slope);
    }
}

START_TEST(gradients)
{
    static struct setting s;

    s.loss = (const struct loss *)(const void *)loss_table.rows[_i];
    ck_assert(s.loss->run && (s.loss->labels || s.loss->targets));
    ck_assert(!s.loss->fuses || op_find(s.loss->fuses));
    for (s.k = s.loss->min_outputs; s.k <= MAX_K; s.k++)
        for (int from = 0; from < 2; from++)
            for (int labels = 0; labels < 2; labels++) {
                s.from = from ? LOSS_FROM_PROBABILITIES : LOSS_FROM_LOGITS;
                s.labels = labels;
                if (labels ? s.loss->labels : s.loss->targets)
                    check_gradient(&s);
            }
}
END_TEST

/* Logits of +-1000, probabilities of exactly 0 and 1: loss and gradient stay finite; the wrong answer costs, the right one does not. */
START_TEST(extremes)
{
    static struct setting s;

    s.loss = (const struct loss *)(const void *)loss_table.rows[_i];
    s.labels = s.loss->labels;
    s.k = s.loss->min_outputs;
    for (int from = 0; from < 2; from++) {
        float low = from ? 0 : -1000, high = from ? 1 : 1000;

        s.from = from ? LOSS_FROM_PROBABILITIES : LOSS_FROM_LOGITS;
        for (int j = 0; j < N; j++) {
            s.label[j] = 1;
            for (int i = 0; i < s.k; i++)
                s.z[i * N + j] = (j % 2 == 0) == (i == s.k - 1) ? high : low; /* even samples are right */
        }
        run(&s, true);
        for (int j = 0; j < N; j++) {
            ck_assert(isfinite(s.sample[j]) && s.sample[j] >= 0);
            for (int i = 0; i < s.k; i++)
                ck_assert(isfinite(s.dz[i * N + j]));
            if (s.loss->fuses)
                ck_assert(j % 2 == 0 ? s.sample[j] < 1e-6 : s.sample[j] > 15);
        }
    }
    for (int i = 0; i < s.k * N; i++)
        s.z[i] = 0; /* nothing at all, as from a dead relu */
    run(&s, true);
    for (int j = 0; j < N; j++)
        ck_assert(isfinite(s.sample[j]) && isfinite(s.dz[j]));
}
END_TEST

/* A net that blew up is seen in its loss. */
START_TEST(nan_and_infinity_show)
{
    static const float bad[] = { NAN, INFINITY };
    static struct setting s;

    s.loss = (const struct loss *)(const void *)loss_table.rows[_i];
    s.labels = s.loss->labels;
    s.k = MAX_K;
    for (int k = 0; k < MAX_K; k++)
        for (int b = 0; b < 2; b++) {
            prepare(&s);
            for (int i = 0; i < MAX_K; i++)
                s.z[i * N] = b ? -bad[b] : 0;
            s.z[k * N] = bad[b];
            s.label[0] = (k + 1) % MAX_K;
            run(&s, true);
            ck_assert_msg(!isfinite(s.sample[0]) && isfinite(s.sample[1]), "%s: output %d is %g, the loss %g", s.loss->plug.name, k,
                          (double)bad[b], s.sample[0]);
        }
}
END_TEST

/* Fused with the activation, the gradient by the logits equals the one that goes through the activation's backward. */
static const struct { const char *loss, *activation; int k; } fused[] = {
    { "sparse_categorical_crossentropy", "softmax", 3 }, { "categorical_crossentropy", "softmax", 3 }, { "binary_crossentropy", "sigmoid", 1 },
};

START_TEST(fused_equals_the_long_way)
{
    struct net *net = net_of(2);
    struct loss_binding b;
    struct exec *x;
    int32_t label[4] = { 0, 1, 1, 0 };
    double sample[2][4];
    struct loss_call c = { .k = fused[_i].k, .n = 4, .label = label, .weight = 0.25 };
    float kept[16];

    net_chain(net, "dense", fused[_i].k == 3 ? "{\"units\": 3}" : "{\"units\": 1}", "a");
    net_chain(net, fused[_i].activation, "", "a");
    net_chain(net, "linear", "", "name");
    net_init(net, 2);
    ck_assert_int_eq(loss_bind(&b, loss_named(fused[_i].loss), net, fused[_i].k == 1 ? 2 : 3, 0, NULL), ERR_OK);
    ck_assert_int_eq(b.node, 1);
    ck_assert_int_eq(b.from, LOSS_FROM_LOGITS);
    ck_assert_int_eq(exec_new(&x, net, 4, EXEC_KEEP, 1, NULL, NULL), ERR_OK);
    fill_normal(exec_input(x), 8, 1);
    exec_forward(x, 4, true, 0);
    for (int way = 0; way < 2; way++) {
        int node = way ? 3 : b.node;

        c.from = way ? LOSS_FROM_PROBABILITIES : b.from;
        c.z = exec_value(x, node);
        c.dz = exec_grad(x, node);
        c.sample = sample[way];
        b.loss->run(&c);
        exec_backward(x, node, false, NULL, NULL);
        if (way == 0)
            memcpy(kept, exec_grad(x, 1), sizeof(float) * 4 * (size_t)c.k);
    }
    for (int j = 0; j < 4; j++)
        ck_assert_double_eq_tol(sample[0][j], sample[1][j], 1e-5);
    for (int i = 0; i < 4 * c.k; i++)
        ck_assert(fabsf(kept[i] - exec_grad(x, 1)[i]) < 1e-5f);
    exec_free(x);
    net_free(net);
}
END_TEST

/* last: the op behind a dense layer of k outputs, or "". node counts back from the output. */
static const struct {
    const char *loss, *last;
    int k, n_classes, n_target;
    enum err_code rc;
    int back;
    enum loss_from from;
} bindings[] = {
    { "sparse_categorical_crossentropy", "softmax", 10, 10, 0, ERR_OK, 1, LOSS_FROM_LOGITS },
    { "sparse_categorical_crossentropy", "", 10, 10, 0, ERR_OK, 0, LOSS_FROM_LOGITS },
    { "sparse_categorical_crossentropy", "sigmoid", 10, 10, 0, ERR_OK, 0, LOSS_FROM_PROBABILITIES },
    { "sparse_categorical_crossentropy", "softmax", 10, 9, 0, ERR_INVALID, 0, 0 },
    { "sparse_categorical_crossentropy", "sigmoid", 1, 2, 0, ERR_INVALID, 0, 0 },
    { "sparse_categorical_crossentropy", "softmax", 3, 0, 3, ERR_INVALID, 0, 0 },
    { "categorical_crossentropy", "softmax", 3, 0, 3, ERR_OK, 1, LOSS_FROM_LOGITS },
    { "categorical_crossentropy", "softmax", 3, 3, 0, ERR_OK, 1, LOSS_FROM_LOGITS },
    { "categorical_crossentropy", "softmax", 3, 0, 4, ERR_INVALID, 0, 0 },
    { "binary_crossentropy", "sigmoid", 1, 2, 0, ERR_OK, 1, LOSS_FROM_LOGITS },
    { "binary_crossentropy", "", 1, 2, 0, ERR_OK, 0, LOSS_FROM_LOGITS },
    { "binary_crossentropy", "sigmoid", 1, 3, 0, ERR_INVALID, 0, 0 },
    { "binary_crossentropy", "softmax", 2, 2, 0, ERR_OK, 0, LOSS_FROM_PROBABILITIES },
    { "mean_squared_error", "", 2, 0, 2, ERR_OK, 0, LOSS_FROM_LOGITS },
    { "mean_squared_error", "", 2, 0, 1, ERR_INVALID, 0, 0 },
};

START_TEST(binding)
{
    struct net *net = net_of(4);
    struct loss_binding b;
    struct err e = { 0 };
    char options[40];

    snprintf(options, sizeof options, "{\"units\": %d}", bindings[_i].k);
    net_chain(net, "dense", options, "a");
    if (*bindings[_i].last)
        net_chain(net, bindings[_i].last, "", "a");
    ck_assert_int_eq(loss_bind(&b, loss_named(bindings[_i].loss), net, bindings[_i].n_classes, bindings[_i].n_target, &e), bindings[_i].rc);
    if (bindings[_i].rc == ERR_OK) {
        ck_assert_int_eq(b.node, net->n_nodes - 1 - bindings[_i].back);
        ck_assert_int_eq(b.from, bindings[_i].from);
    } else {
        ck_assert(*e.msg);
    }
    net_free(net);
}
END_TEST

START_TEST(defaults)
{
    struct net *one = net_of(4), *three = net_of(4), *plane;
    struct loss_binding b;

    net_chain(one, "dense", "{\"units\": 1}", "a");
    net_chain(three, "dense", "{\"units\": 3}", "a");
    ck_assert_str_eq(loss_default(one, 2)->plug.name, "binary_crossentropy");
    ck_assert_str_eq(loss_default(three, 3)->plug.name, "sparse_categorical_crossentropy");
    ck_assert_str_eq(loss_default(one, 0)->plug.name, "mean_squared_error");
    ck_assert_str_eq(loss_default(three, 0)->plug.name, "mean_squared_error");
    ck_assert_int_eq(plugs_check(&loss_table, NULL), ERR_OK);
    ck_assert_int_eq(net_new(&plane, &(struct shape){ 2, { 2, 2 } }, NULL), ERR_OK);
    ck_assert_int_eq(loss_bind(&b, loss_default(plane, 2), plane, 4, 0, NULL), ERR_INVALID);
    net_free(one), net_free(three), net_free(plane);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "losses");

    gemm_init();
    tcase_add_loop_test(tc, gradients, 0, n_rows());
    tcase_add_loop_test(tc, extremes, 0, n_rows());
    tcase_add_loop_test(tc, nan_and_infinity_show, 0, n_rows());
    tcase_add_loop_test(tc, fused_equals_the_long_way, 0, sizeof fused / sizeof fused[0]);
    tcase_add_loop_test(tc, binding, 0, sizeof bindings / sizeof bindings[0]);
    tcase_add_test(tc, defaults);
}
SUITE_MAIN("engine losses", cases)
