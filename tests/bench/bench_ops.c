/* Speed of the ops beside the products: gigabytes a second of each pass over an image's numbers, as what must be read and written at least once, at the
 * sizes of ResNet-20 and LeNet-5 (batch 128), on one and two threads. A plain copy stands above as what the memory gives. */
#include "tests/engine_net.h"
#include "tests/bench/bench.h"

enum { BATCH = 128, ROUNDS = 15 };

/* Values that a pass reads or writes: of inputs (x, dx) and outputs (y, dy); forward, backward. */
static const struct row {
    const char *what, *op, *options;
    struct shape in;
    int n_in;
    bool clamp;
    int inputs[2], outputs[2];
} rows[] = {
    { "batch norm", "batch_norm", "", { 3, { 16, 32, 32 } }, 1, false, { 1, 2 }, { 1, 1 } },
    { "batch norm, relu", "batch_norm", "", { 3, { 16, 32, 32 } }, 1, true, { 1, 2 }, { 1, 1 } },
    { "batch norm, relu", "batch_norm", "", { 3, { 32, 16, 16 } }, 1, true, { 1, 2 }, { 1, 1 } },
    { "batch norm, relu", "batch_norm", "", { 3, { 64, 8, 8 } }, 1, true, { 1, 2 }, { 1, 1 } },
    { "add, relu", "add", "", { 3, { 16, 32, 32 } }, 2, true, { 2, 1 }, { 1, 2 } },
    { "add, relu", "add", "", { 3, { 64, 8, 8 } }, 2, true, { 2, 1 }, { 1, 2 } },
    { "relu", "relu", "", { 3, { 16, 32, 32 } }, 1, false, { 1, 2 }, { 1, 2 } },
    { "global average", "global_average_pool", "", { 3, { 64, 8, 8 } }, 1, false, { 1, 1 }, { 1, 1 } },
    { "max pool", "max_pool2d", "", { 3, { 20, 24, 24 } }, 1, false, { 1, 2 }, { 1, 2 } },
    { "max pool", "max_pool2d", "", { 3, { 50, 8, 8 } }, 1, false, { 1, 2 }, { 1, 2 } },
    { "max pool 3x3/2", "max_pool2d", "{\"pool_height\": 3, \"pool_width\": 3, \"stride_height\": 2, \"stride_width\": 2}", { 3, { 20, 24, 24 } }, 1, false,
      { 1, 2 }, { 1, 2 } },
    { "average pool", "average_pool2d", "", { 3, { 20, 24, 24 } }, 1, false, { 1, 1 }, { 1, 1 } },
    { "layer norm", "layer_norm", "", { 3, { 32, 16, 16 } }, 1, false, { 1, 2 }, { 1, 1 } },
    { "channels first", "channels_first", "", { 3, { 32, 32, 3 } }, 1, false, { 1, 1 }, { 1, 1 } },
    { "zero pad", "zero_pad2d", "", { 3, { 16, 32, 32 } }, 1, false, { 1, 1 }, { 1, 1 } },
    { "multiply", "multiply", "", { 3, { 16, 32, 32 } }, 2, false, { 2, 4 }, { 1, 2 } }
};

static double best_of(const struct op_call *c, void (*pass)(const struct op_call *c))
{
    double best = 1e9;

    for (int r = 0; r < ROUNDS; r++) {
        double start = now();

        pass(c);
        start = now() - start;
        best = start < best ? start : best;
    }
    return best;
}

static void copy_tile(void *ctx, int tile)
{
    const struct op_call *c = ctx;
    size_t part = shape_len(c->in_shape[0]) * BATCH / 16;

    memcpy(c->y + part * (size_t)tile, c->x[0] + part * (size_t)tile, part * sizeof(float));
}
static void copy(const struct op_call *c) { team_for(c->team, 16, copy_tile, (void *)(uintptr_t)c); }

static float *numbers(const struct shape *s, uint32_t stream)
{
    float *x = mem_vector(shape_len(s) * BATCH);

    fill_normal(x, shape_len(s) * BATCH, stream);
    return x;
}

static void run(const struct row *r, struct team *team)
{
    const struct op *op = op_find(r->op);
    struct plug_value conf = { .plug = &op->plug };
    json_t *options = *r->options ? json_loads(r->options, 0, NULL) : NULL;
    const struct shape *in[2] = { &r->in, &r->in };
    struct op_plan plan = { .n_weights = 0 };
    struct op_call c = { .conf = conf.conf, .n = BATCH, .n_in = r->n_in, .out_shape = &plan.out, .clamp = r->clamp, .training = true, .team = team };
    double forward, backward, out, all;
    char text[96];

    net_must(params_parse(conf.conf, op->plug.conf_size, op->plug.params, options, NULL), r->options, &(struct err){ 0 });
    net_must(op->shape(conf.conf, in, r->n_in, &plan, NULL), r->op, &(struct err){ 0 });
    for (int i = 0; i < r->n_in; i++)
        c.in_shape[i] = in[i], c.x[i] = numbers(in[i], (uint32_t)i), c.dx[i] = numbers(in[i], 9);
    for (int i = 0; i < plan.n_weights; i++)
        c.w[i] = numbers(&plan.weight[i].shape, 3), c.dw[i] = plan.weight[i].trainable ? numbers(&plan.weight[i].shape, 3) : NULL;
    c.y = numbers(&plan.out, 4);
    c.dy = numbers(&plan.out, 5);
    c.state = mem_vector(plan.state_len + BATCH * plan.state_len_per_sample);
    forward = best_of(&c, op->forward);
    backward = best_of(&c, op->backward);
    out = (double)shape_len(&plan.out) * BATCH * 4e-9;
    all = (double)shape_len(&r->in) * BATCH * 4e-9;
    printf("%-18s %-14s %d thread%s  forward %6.2f GB/s %7.0f us   backward %6.2f GB/s %7.0f us", r->what, shape_text(&r->in, text, sizeof text),
           team_size(team), team_size(team) > 1 ? "s" : " ", (r->inputs[0] * all + r->outputs[0] * out) / forward, forward * 1e6,
           (r->inputs[1] * all + r->outputs[1] * out) / backward, backward * 1e6);
    if (shape_len(&plan.out) >= shape_len(&r->in))
        printf("   copy %6.2f GB/s", 2 * all / best_of(&c, copy));
    printf("\n");
    json_decref(options);
    for (int i = 0; i < r->n_in; i++)
        mem_free((void *)(uintptr_t)c.x[i]), mem_free(c.dx[i]);
    for (int i = 0; i < plan.n_weights; i++)
        mem_free(c.w[i]), mem_free(c.dw[i]);
    mem_free(c.y), mem_free((void *)(uintptr_t)c.dy), mem_free(c.state);
}

int main(void)
{
    for (int threads = 1; threads <= 2; threads++) {
        struct team *team;

        if (team_new(&team, threads, NULL) != ERR_OK)
            return 1;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            run(&rows[i], team);
        team_free(team);
    }
    return 0;
}
