/* Speed of the engine: one training step of LeNet-300-100 at batch 128, forward and backward with plain SGD behind each gradient, on
 * one and two threads, against the products alone (three forward, two for inputs, three for weights) as single OpenBLAS calls. */
#include "core/gemm.h"
#include "tests/engine_net.h"
#include "tests/bench/bench.h"

enum { BATCH = 128, STEPS = 50, ROUNDS = 40 };
static const int width[] = { 784, 300, 100, 10 };

struct state { struct net *net; struct exec *x; };
static void update(void *user, int w, size_t first, size_t n)
{
    const struct state *s = user;
    float *restrict x = s->net->weight[w].x + first;
    const float *restrict g = exec_dw(s->x, w) + first;

    for (size_t i = 0; i < n; i++)
        x[i] -= 1e-4f * g[i];
}

/* Best of some rounds, in microseconds per step. */
static void engine(struct net *net, int threads, bool with_update)
{
    struct team *team;
    struct state s = { net, NULL };
    struct loss_binding loss;
    double sample[BATCH], best[2] = { 1e9, 1e9 };
    int32_t label[BATCH];

    if (team_new(&team, threads, NULL) != ERR_OK || exec_new(&s.x, net, BATCH, EXEC_KEEP, 1, team, NULL) != ERR_OK ||
        loss_bind(&loss, loss_default(net, 10), net, 10, 0, NULL) != ERR_OK)
        return;
    fill_normal(exec_input(s.x), 784 * BATCH, 1);
    for (int i = 0; i < BATCH; i++)
        label[i] = i % 10;
    for (int r = 0; r < ROUNDS; r++) {
        double forward = 0, start = now();

        for (int k = 0; k < STEPS; k++) {
            struct loss_call c = { .k = 10, .n = BATCH, .label = label, .from = loss.from, .weight = 1.0 / BATCH, .sample = sample };
            double t = now();

            exec_forward(s.x, BATCH, true, (uint64_t)k);
            forward += now() - t;
            c.z = exec_value(s.x, loss.node);
            c.dz = exec_grad(s.x, loss.node);
            loss.loss->run(&c);
            exec_backward(s.x, loss.node, false, with_update ? update : NULL, &s);
        }
        start = now() - start;
        best[0] = start < best[0] ? start : best[0];
        best[1] = forward < best[1] ? forward : best[1];
    }
    printf("engine, %d thread%s%s: %.0f us a step (forward %.0f), %.3f s per 60000\n", threads, threads > 1 ? "s" : "",
           with_update ? ", SGD" : "", best[0] / STEPS * 1e6, best[1] / STEPS * 1e6, best[0] / STEPS * 60000 / BATCH);
    exec_free(s.x);
    team_free(team);
}

static void products(void)
{
    float *w[3], *x[4], *dw[3], *dx[4];
    double best = 1e9;

    for (int l = 0; l < 4; l++) {
        x[l] = mem_vector((size_t)width[l] * BATCH);
        dx[l] = mem_vector((size_t)width[l] * BATCH);
        fill_normal(x[l], (size_t)width[l] * BATCH, 1);
    }
    for (int l = 0; l < 3; l++) {
        w[l] = mem_vector((size_t)width[l] * (size_t)width[l + 1]);
        dw[l] = mem_vector((size_t)width[l] * (size_t)width[l + 1]);
        fill_normal(w[l], (size_t)width[l] * (size_t)width[l + 1], 2);
    }
    for (int r = 0; r < ROUNDS; r++) {
        double start = now();

        for (int k = 0; k < STEPS; k++) {
            for (int l = 0; l < 3; l++)
                blas(false, false, width[l + 1], BATCH, width[l], w[l], width[l], x[l], BATCH, 0, dx[l + 1], BATCH);
            for (int l = 2; l > 0; l--)
                blas(true, false, width[l], BATCH, width[l + 1], w[l], width[l], x[l + 1], BATCH, 0, dx[l], BATCH);
            for (int l = 2; l >= 0; l--)
                blas(false, true, width[l + 1], width[l], BATCH, x[l + 1], BATCH, x[l], BATCH, 0, dw[l], width[l]);
        }
        start = now() - start;
        best = start < best ? start : best;
    }
    printf("products alone, 1 thread: %.0f us a step\n", best / STEPS * 1e6);
    for (int l = 0; l < 4; l++)
        mem_free(x[l]), mem_free(dx[l]);
    for (int l = 0; l < 3; l++)
        mem_free(w[l]), mem_free(dw[l]);
}

int main(int argc, char **argv)
{
    struct net *net = net_of(784);

    (void)argc;
    gemm_choose_core(argv);
    gemm_init();
    printf("%s\n", gemm_describe());
    for (int l = 1; l < 4; l++) {
        char options[40], name[16];

        snprintf(options, sizeof options, "{\"units\": %d}", width[l]);
        snprintf(name, sizeof name, "layer_%d", l);
        net_chain(net, "dense", options, name);
        net_chain(net, l < 3 ? "relu" : "softmax", "", name);
    }
    net_init(net, 1);
    products();
    for (int threads = 1; threads <= 2; threads++)
        for (int u = 0; u < 2; u++)
            engine(net, threads, u);
    net_free(net);
    return 0;
}
