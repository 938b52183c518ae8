/* Outputs, losses, gradients and moved statistics of small nets as PyTorch computes them (tests/golden/engine.py). */
#include "core/loss.h"

#include "core/gemm.h"
#include "core/mem.h"
#include "tests/engine_net.h"
#include "tests/golden.h"
#include "tests/suite.h"

enum { CASES = 12, N_MAX = 16 };

static const struct golden_bound bound = { 2e-6, 5e-6 };

static struct net *build(const json_t *c)
{
    struct shape shape = { .n_d = 0 };
    struct net *net;
    const char *name;
    json_t *node, *value;
    size_t i;

    json_array_foreach(json_object_get(c, "shape"), i, value)
        shape.d[shape.n_d++] = (int)json_integer_value(value);
    ck_assert_int_eq(net_new(&net, &shape, NULL), ERR_OK);
    json_array_foreach(json_object_get(c, "nodes"), i, node)
    {
        const struct op *op = op_find(json_string_value(json_object_get(node, "op")));
        struct plug_value conf = { .plug = &op->plug };
        const json_t *from = json_object_get(node, "in");
        int in[OP_MAX_IN], n_in = (int)json_array_size(from);

        for (int k = 0; k < n_in; k++)
            in[k] = (int)json_integer_value(json_array_get(from, (size_t)k));
        ck_assert_int_eq(params_parse(conf.conf, op->plug.conf_size, op->plug.params, json_object_get(node, "options"), NULL), ERR_OK);
        ck_assert_int_eq(net_add(net, op, &conf, json_string_value(json_object_get(node, "layer")), in, n_in, NULL, NULL), ERR_OK);
    }
    json_object_foreach(json_object_get(c, "weights"), name, value)
        golden_floats(net_weight(net, name)->x, value, net_weight(net, name)->len);
    return net;
}

static void check_weights(const struct net *net, struct exec *x, const json_t *c)
{
    const char *name;
    json_t *value;

    json_object_foreach(json_object_get(c, "gradients"), name, value)
        golden_near(exec_dw(x, (int)(net_weight(net, name) - net->weight)), value, net_weight(net, name)->len, name, bound);
    json_object_foreach(json_object_get(c, "moved"), name, value)
        golden_near(net_weight(net, name)->x, value, net_weight(net, name)->len, name, bound);
}

START_TEST(golden)
{
    json_t *all = json_load_file(GOLDEN_DIR "/engine.json", 0, NULL), *c = json_array_get(all, (size_t)_i), *labels = json_object_get(c, "label");
    struct net *net = build(c);
    int n = (int)json_integer_value(json_object_get(c, "n")), k = (int)shape_len(net_output(net)), output = net->n_nodes - 1;
    struct loss_binding b;
    struct exec *x;
    int32_t label[N_MAX];
    float target[N_MAX * 8];
    double sample[N_MAX], mean = 0, value;
    struct loss_call call = { .k = k, .n = n, .weight = 1.0 / n, .sample = sample };

    ck_assert_uint_eq(json_array_size(all), CASES);
    ck_assert_int_eq(loss_bind(&b, loss_named(json_string_value(json_object_get(c, "loss"))), net, !labels ? 0 : k == 1 ? 2 : k, k, NULL), ERR_OK);
    ck_assert_int_eq(exec_new(&x, net, n, EXEC_KEEP, 1, NULL, NULL), ERR_OK);
    golden_floats(exec_input(x), json_object_get(c, "x"), shape_len(net_input(net)) * (size_t)n);
    for (int j = 0; labels && j < n; j++)
        label[j] = (int32_t)json_integer_value(json_array_get(labels, (size_t)j));
    if (!labels)
        golden_floats(target, json_object_get(c, "target"), (size_t)(k * n));
    exec_forward(x, n, json_is_true(json_object_get(c, "training")), 0);
    golden_near(exec_value(x, output), json_object_get(c, "output"), (size_t)(k * n), "output", bound);
    call.from = b.from;
    call.z = exec_value(x, b.node);
    call.dz = exec_grad(x, b.node);
    call.label = labels ? label : NULL;
    call.target = labels ? NULL : target;
    b.loss->run(&call);
    for (int j = 0; j < n; j++)
        mean += sample[j] / n;
    value = json_number_value(json_object_get(c, "value"));
    ck_assert_double_eq_tol(mean, value, 1e-6 * (1 + value));
    exec_backward(x, b.node, false, NULL, NULL);
    check_weights(net, x, c);
    exec_free(x);
    net_free(net);
    json_decref(all);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "golden");

    gemm_init();
    tcase_add_loop_test(tc, golden, 0, CASES);
}
SUITE_MAIN("engine golden", cases)
