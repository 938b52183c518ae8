/* Predictions: what a net says of samples is what its forward pass says, whatever their number; samples are read as a data set has them, and what is
 * wrong with them is named to the number. */
#include "core/predict.h"

#include <math.h>

#include "core/exec.h"
#include "core/mem.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

enum { FEATURES = 3, K = 2, MANY = 1100 /* more than two batches */ };

static struct net *small_net(const char *activation, int k)
{
    char options[40];
    struct net *net = net_of(FEATURES);

    snprintf(options, sizeof options, "{\"units\": %d}", k);
    net_chain(net, "dense", options, "out");
    if (*activation)
        net_chain(net, activation, "", "out");
    net_init(net, 3);
    return net;
}

static enum err_code read_text(struct predict_samples *out, const char *text, const struct net *net, const struct dataset *like, int max_n, struct err *e)
{
    struct json_scan s = { text, strlen(text), 0 };

    return predict_read(out, &s, net, like, max_n, e);
}

/* One sample, by an exec of its own. */
static void one(float *out, struct net *net, const float *x)
{
    struct exec *exec = NULL;

    ck_assert_int_eq(exec_new(&exec, net, 1, EXEC_INFER, 0, NULL, NULL), ERR_OK);
    memcpy(exec_input(exec), x, FEATURES * sizeof *x);
    exec_forward(exec, 1, false, 0);
    memcpy(out, exec_value(exec, net->n_nodes - 1), K * sizeof *out);
    exec_free(exec);
}

START_TEST(as_the_forward_pass)
{
    static const int counts[] = { 1, 2, 17, 512, 513, MANY };
    static float x[MANY * FEATURES], center[FEATURES] = { 0, 1, 0 }, scale[FEATURES] = { 1, 2, 1 }, out[MANY * K];
    static uint32_t index[MANY];
    struct data_split split = { .n = MANY, .x = x };
    struct dataset data = { .shape = { 1, { FEATURES } }, .n_features = FEATURES, .center = center, .scale = scale };
    struct data_view view = { &data, &split, index, MANY };
    struct net *net = small_net("softmax", K);

    fill_normal(x, MANY * FEATURES, 1);
    for (int i = 0; i < MANY; i++)
        index[i] = (uint32_t)(MANY - 1 - i);
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        int n = counts[c], first = MANY - n;

        ck_assert_int_eq(predict_run(out, net, &view, first, n, NULL, NULL, NULL), ERR_OK);
        for (int i = 0; i < n; i += n > 100 ? 97 : 1) {
            const float *raw = x + index[first + i] * FEATURES;
            float scaled[FEATURES] = { raw[0], (raw[1] - 1) * 2, raw[2] }, want[K];

            one(want, net, scaled);
            for (int k = 0; k < K; k++)
                ck_assert_float_eq_tol(out[i * K + k], want[k], 1e-5f);
        }
    }
    net_free(net);
}
END_TEST

/* Kernels run in other forms, by how many samples there are: the zeros left out, a few samples one by one. */
START_TEST(pruned_nets)
{
    enum { WIDE = 40, OUT = 30 };
    static const int counts[] = { 1, 2, 4, 5, 513 };
    static float x[513 * WIDE], zero[WIDE], one_each[WIDE], out[513 * OUT];
    static uint32_t index[513];
    struct data_split split = { .n = 513, .x = x };
    struct dataset data = { .shape = { 1, { WIDE } }, .n_features = WIDE, .center = zero, .scale = one_each };
    struct data_view view = { &data, &split, index, 513 };
    struct net *net = net_of(WIDE);

    net_chain(net, "dense", "{\"units\": 30}", "out");
    net_init(net, 3);
    for (size_t i = 0; i < net->weight[0].len; i++)
        net->weight[0].x[i] *= i % 7 == 0;
    fill_normal(x, 513 * WIDE, 1);
    for (int i = 0; i < 513; i++)
        index[i] = (uint32_t)i;
    for (int i = 0; i < WIDE; i++)
        one_each[i] = 1;
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        ck_assert_int_eq(predict_run(out, net, &view, 0, counts[c], NULL, NULL, NULL), ERR_OK);
        ck_assert(net->forward == (counts[c] <= 4 ? 1 : counts[c] < 512 ? counts[c] : 512) && net->weight[0].sparse);
        for (int i = 0; i < counts[c]; i++)
            for (int o = 0; o < OUT; o++) {
                float want = 0;

                for (int k = 0; k < WIDE; k++)
                    want += net->weight[0].x[o * WIDE + k] * x[i * WIDE + k];
                ck_assert_float_eq_tol(out[i * OUT + o], want, 1e-5f);
            }
    }
    net_free(net);
}
END_TEST

START_TEST(samples_flat_and_nested)
{
    static const struct shape images[] = { { 2, { 2, 2 } }, { 3, { 2, 2, 1 } }, { 2, { 2, 2 } }, { 3, { 2, 2, 1 } }, { 3, { 2, 2, 1 } }, { 4, { 1, 2, 1, 2 } } };
    static float center[4] = { 1, 1, 1, 1 }, scale[4] = { 2, 2, 2, 2 };
    const struct dataset like = { .center = center, .scale = scale };
#define FLAT "[[1, 2.5, -3e1, 4], [5, 6, 7, 8]]"
#define NESTED " [[[1, 2.5], [-3e1, 4]], [[5, 6], [7, 8]]] , "
    static const char *const text[] = { FLAT, FLAT, NESTED, NESTED, "[[[[1], [2.5]], [[-3e1], [4]]], [[[5], [6]], [[7], [8]]]]", NESTED };

    for (int i = 0; i < 6; i++)
        for (int scaled = 0; scaled < 2; scaled++) {
            struct predict_samples p;
            struct net *net;

            ck_assert_int_eq(net_new(&net, &images[i], NULL), ERR_OK);
            ck_assert_int_eq(read_text(&p, text[i], net, scaled ? &like : NULL, 2, NULL), ERR_OK);
            ck_assert_int_eq(p.view.n, 2);
            ck_assert(p.view.data == &p.data && p.view.split == &p.split);
            ck_assert(p.x[1] == 2.5f && p.x[2] == -30 && p.x[7] == 8);
            ck_assert(p.center[3] == (scaled ? 1 : 0) && p.scale[0] == (scaled ? 2 : 1));
            predict_samples_free(&p);
            net_free(net);
        }
}
END_TEST

static const struct { const char *text, *at; enum err_code code; } refused[] = {
    { "7", "", ERR_INVALID }, { "{}", "", ERR_INVALID }, { "[]", "", ERR_INVALID }, { "[1]", "/0", ERR_INVALID },
    { "[[1, 2]]", "/0", ERR_INVALID }, { "[[1, 2, 3, 4]]", "/0", ERR_INVALID }, { "[[1, 2, 3], [1, \"2\", 3]]", "/1/1", ERR_INVALID },
    { "[[1, 2, null]]", "/0/2", ERR_INVALID }, { "[[1, 2, 1e39]]", "/0/2", ERR_INVALID }, { "[[[1, 2, 3]]]", "/0/0", ERR_INVALID },
    { "[[1, 2, 3], [1, 2, 3], [1, 2, 3]]", "", ERR_TOO_LARGE }, { "[[1, 2, 3]", "", ERR_SYNTAX }, { "[[1, 2, 0x3]]", "", ERR_SYNTAX },
    { "", "", ERR_INVALID },
};

START_TEST(refuses)
{
    struct net *net = small_net("", K);
    struct predict_samples p;
    struct err e = { 0 };

    ck_assert_int_eq(read_text(&p, refused[_i].text, net, NULL, 2, &e), refused[_i].code);
    ck_assert_str_eq(e.at, refused[_i].at);
    ck_assert_ptr_null(p.x);
    net_free(net);
}
END_TEST

START_TEST(what_outputs_mean)
{
    static const float of_three[] = { 0.2f, 0.5f, 0.5f }, half[] = { 0.5f, 0.51f, 0.49f };
    struct net *softmax = small_net("softmax", 3), *sigmoid = small_net("sigmoid", 1), *plain = small_net("", 1), *several = small_net("sigmoid", 2);

    ck_assert(predict_is_classifier(softmax) && predict_is_classifier(sigmoid));
    ck_assert(!predict_is_classifier(plain) && !predict_is_classifier(several));
    ck_assert_int_eq(predict_class(softmax, of_three, 3), 1); /* ties go to the lower class */
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(predict_class(sigmoid, half + i, 1), i == 1);
    ck_assert_int_eq(predict_class(plain, half, 1), 1); /* a logit above 0 */
    net_free(softmax);
    net_free(sigmoid);
    net_free(plain);
    net_free(several);
}
END_TEST

static long asked;
static bool stop_at_second(void *user) { return (void)user, ++asked == 2; }

START_TEST(stops_between_batches)
{
    static float x[MANY * FEATURES], zero[FEATURES], out[MANY * K];
    static uint32_t index[MANY];
    struct data_split split = { .n = MANY, .x = x };
    struct dataset data = { .shape = { 1, { FEATURES } }, .n_features = FEATURES, .center = zero, .scale = zero };
    struct data_view view = { &data, &split, index, MANY };
    struct net *net = small_net("", K);

    asked = 0;
    ck_assert_int_eq(predict_run(out, net, &view, 0, MANY, stop_at_second, NULL, NULL), ERR_STOPPED);
    ck_assert_int_eq(asked, 2);
    ck_assert_uint_gt(predict_memory(net, MANY), MANY * (FEATURES + K) * sizeof(float));
    net_free(net);
}
END_TEST

START_TEST(memory_failures)
{
    struct net *net = small_net("softmax", K);
    bool fired = true;

    for (long k = 1; fired; k++) {
        struct predict_samples p;
        float out[2 * K];
        enum err_code rc;

        mem_fail_in = k;
        rc = read_text(&p, "[[1, 2, 3], [4, 5, 6]]", net, NULL, 2, NULL);
        if (rc == ERR_OK)
            rc = predict_run(out, net, &p.view, 0, 2, NULL, NULL, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_int_eq(rc, fired ? ERR_NOMEM : ERR_OK);
        predict_samples_free(&p);
    }
    net_free(net);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "predict");

    tcase_add_test(tc, as_the_forward_pass);
    tcase_add_test(tc, pruned_nets);
    tcase_add_test(tc, samples_flat_and_nested);
    tcase_add_loop_test(tc, refuses, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(tc, what_outputs_mean);
    tcase_add_test(tc, stops_between_batches);
    tcase_add_test(tc, memory_failures);
}
SUITE_MAIN("predict", cases)
