/* core/op_dense.c: y (units,n) = w (units,in) * x (in,n) + b. Where samples have places behind the first axis, each place of each sample is a column.
 *
 * Every product is cut in row tiles by its shape alone. The other factor is packed anew for each tile, so tiles are few and large; those of the weight
 * gradient are as large as fits the cache together with the optimizer's slots, since the optimizer follows each tile at once.
 *
 * A sparse kernel has tiles of its own, by its structure; so has one in integers. */
#include "core/gemm.h"
#include "core/op_init.h"
#include "core/simd.h"

struct dense_conf {
    int64_t units;
    bool use_bias;
    struct init kernel_initializer, bias_initializer;
};
INIT_PARAMS(kernel_init_params, INIT_GLOROT_UNIFORM);
INIT_PARAMS(bias_init_params, INIT_ZEROS);
static const struct param dense_params[] = {
    FIELD_INT(struct dense_conf, units, 1, 2147483647, PARAM_REQUIRED, "Number of outputs."),
    FIELD_BOOL(struct dense_conf, use_bias, 1, "Whether a learned number is added to each output."),
    FIELD_OBJECT(struct dense_conf, kernel_initializer, kernel_init_params, "How the kernel starts."),
    FIELD_OBJECT(struct dense_conf, bias_initializer, bias_init_params, "How the bias starts."),
    FIELD_END
};

enum { KERNEL, BIAS };
enum { MOST_PLACES = 32767 /* times a batch it is an int */ };

static enum err_code dense_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    const struct dense_conf *c = conf;
    int units = (int)c->units, inputs = in[0]->d[0];
    struct shape kernel = { 2, { units, inputs } };

    (void)n_in;
    if (shape_check(&kernel, NULL) != ERR_OK)
        return err_field(e, ERR_INVALID, "/units", "a kernel of %d by %d is too large", units, inputs);
    if (shape_len(in[0]) / (size_t)inputs > MOST_PLACES)
        return err_set(e, ERR_UNSUPPORTED, "a dense layer takes at most %d places", (int)MOST_PLACES);
    p->out = *in[0];
    p->out.d[0] = units;
    if (shape_check(&p->out, NULL) != ERR_OK)
        return err_field(e, ERR_INVALID, "/units", "%d numbers at each place are too many", units);
    p->neurons = NEURONS_MAKE;
    p->n_weights = c->use_bias ? 2 : 1;
    p->weight[KERNEL] = (struct op_weight){ .name = "kernel", .shape = kernel, .prunable = true, .trainable = true, .decayed = true,
                                            .fan_in = inputs, .fan_out = units, .init = c->kernel_initializer };
    if (c->use_bias)
        p->weight[BIAS] = (struct op_weight){ .name = "bias", .shape = { 1, { units } }, .trainable = true, .fan_in = units, .fan_out = units,
                                              .init = c->bias_initializer };
    p->macs = (uint64_t)shape_len(&p->out) * (uint64_t)inputs;
    return ERR_OK;
}

struct tiles {
    const struct op_call *c;
    int rows, units, inputs, n; /* n: columns */
};
static int columns(const struct op_call *c) { return (int)(shape_len(c->in_shape[0]) / (size_t)c->in_shape[0]->d[0]) * c->n; }
static int n_tiles(int m, int rows) { return (m + rows - 1) / rows; }
static int tile_len(int m, int rows, int first) { return m - first < rows ? m - first : rows; }

enum { SMALL = 1 << 20 }; /* multiply-adds: less is not worth a second tile */
static bool is_small(int m, int n, int k) { return (double)m * n * k < SMALL; }

/* Rows of a tile of a product of m rows: two tiles, or as many of 256 rows. */
static int product_rows(int m, int n, int k)
{
    return tile_rows(m, is_small(m, n, k) ? m : m <= 512 ? (m + 1) / 2 : 256);
}

/* Rows of a tile of the weight gradient: with weights and two slots about 640 KB. */
static int dw_rows(int units, int inputs, int n)
{
    int rows = 40000 / inputs, half = is_small(units, inputs, n) ? units : (units + 1) / 2;

    rows = rows < 16 ? 16 : rows > 128 ? 128 : rows;
    return tile_rows(units, rows < half ? rows : half);
}

static void forward_tile(void *ctx, int tile)
{
    const struct tiles *t = ctx;
    const struct op_call *c = t->c;
    int first = tile * t->rows, m = tile_len(t->units, t->rows, first);
    float *y = c->y + (size_t)first * (size_t)t->n;

    if (c->w[BIAS])
        for (int o = 0; o < m; o++)
            for (int j = 0; j < t->n; j++)
                y[(size_t)o * (size_t)t->n + (size_t)j] = c->w[BIAS][first + o];
    gemm(false, false, m, t->n, t->inputs, c->w[KERNEL] + (size_t)first * (size_t)t->inputs, t->inputs, c->x[0], t->n,
         c->w[BIAS], y, t->n);
}

static void dense_forward(const struct op_call *c)
{
    int units = c->out_shape->d[0], inputs = c->in_shape[0]->d[0], n = columns(c);
    struct tiles t = { c, product_rows(units, n, inputs), units, inputs, n };

    if (c->int8) {
        int8_forward(c->int8, c->x[0], c->w[BIAS], c->y, n, c->team);
        return;
    }
    if (c->sparse) {
        sparse_forward(c->sparse, c->x[0], c->w[BIAS], c->y, n, c->team);
        return;
    }
    team_for(c->team, n_tiles(units, t.rows), forward_tile, &t);
}

static void dx_tile(void *ctx, int tile)
{
    const struct tiles *t = ctx;
    int first = tile * t->rows, m = tile_len(t->inputs, t->rows, first);

    gemm(true, false, m, t->n, t->units, t->c->w[KERNEL] + first, t->inputs, t->c->dy, t->n, false,
         t->c->dx[0] + (size_t)first * (size_t)t->n, t->n);
}

SIMD static void bias_gradient(float *db, const float *dy, int rows, int n, bool accumulate)
{
    for (int o = 0; o < rows; o++)
        db[o] = (float)((accumulate ? (double)db[o] : 0.0) + simd_sum(dy + (size_t)o * (size_t)n, n));
}

static void ready(const struct op_call *c, int weight, size_t from, size_t len)
{
    if (c->ready && len > 0)
        c->ready(c->ready_user, weight, from, len);
}

static void dw_tile(void *ctx, int tile)
{
    const struct tiles *t = ctx;
    const struct op_call *c = t->c;
    int first = tile * t->rows, m = tile_len(t->units, t->rows, first);
    size_t at = (size_t)first * (size_t)t->inputs;
    const float *dy = c->dy + (size_t)first * (size_t)t->n;

    gemm(false, true, m, t->inputs, t->n, dy, t->n, c->x[0], t->n, c->accumulate, c->dw[KERNEL] + at, t->inputs);
    if (c->w[BIAS])
        bias_gradient(c->dw[BIAS] + first, dy, m, t->n, c->accumulate);
    ready(c, KERNEL, at, (size_t)m * (size_t)t->inputs);
    if (c->w[BIAS])
        ready(c, BIAS, (size_t)first, (size_t)m);
}

struct sparse_tiles {
    const struct op_call *c;
    float *dx; /* computed along with the kernel's gradient; or NULL */
    int block;
};

static void sparse_kernel_tile(const struct sparse_tiles *t, int tile)
{
    const struct op_call *c = t->c;
    const struct sparse_order *o = sparse_leading(c->sparse);
    const size_t from = sparse_first(o, o->tile[tile]);

    sparse_gradients(c->sparse, t->block, tile, c->x[0], c->dy, t->dx, c->dw[KERNEL], columns(c), c->accumulate);
    if (t->block == o->n_blocks - 1)
        ready(c, KERNEL, from, sparse_first(o, o->tile[tile + 1]) - from);
}

static void sparse_bias_tile(const struct op_call *c, int tile)
{
    const int *end = c->sparse->by_row.tile + tile, first = end[0], m = end[1] - first, n = columns(c);

    bias_gradient(c->dw[BIAS] + first, c->dy + (size_t)first * (size_t)n, m, n, c->accumulate);
    ready(c, BIAS, (size_t)first, (size_t)m);
}

/* Tiles of the kernel, behind them those of the bias. */
static void sparse_tile(void *ctx, int tile)
{
    const struct sparse_tiles *t = ctx;
    const int n = sparse_leading(t->c->sparse)->n_tiles;

    if (tile < n)
        sparse_kernel_tile(t, tile);
    else
        sparse_bias_tile(t->c, tile - n);
}

static void sparse_backward(const struct op_call *c)
{
    const struct sparse *s = c->sparse;
    const struct sparse_order *o = sparse_leading(s);
    struct sparse_tiles t = { c, o == &s->by_col ? c->dx[0] : NULL, 0 };

    if (c->dx[0] && !t.dx)
        sparse_input_gradient(s, c->dy, c->dx[0], columns(c), c->team);
    for (; t.block < o->n_blocks; t.block++)
        team_for(c->team, o->n_tiles + (c->w[BIAS] && t.block == 0 ? s->by_row.n_tiles : 0), sparse_tile, &t);
}

static void dense_backward(const struct op_call *c)
{
    int units = c->out_shape->d[0], inputs = c->in_shape[0]->d[0], n = columns(c);
    struct tiles t = { c, product_rows(inputs, n, units), units, inputs, n };

    if (c->sparse) {
        sparse_backward(c);
        return;
    }
    if (c->dx[0])
        team_for(c->team, n_tiles(inputs, t.rows), dx_tile, &t);
    t.rows = dw_rows(units, inputs, n);
    team_for(c->team, n_tiles(units, t.rows), dw_tile, &t);
}

const struct op op_dense = {
    .plug = { "dense", "Fully connected: every output is a weighted sum of all inputs, at each place.", dense_params, sizeof(struct dense_conf) },
    .min_in = 1, .max_in = 1, .sparse = true, .int8 = true, .unread = UNREAD_Y, .grid = ORDER_CHANNELS, .shape = dense_shape,
    .forward = dense_forward, .backward = dense_backward
};
