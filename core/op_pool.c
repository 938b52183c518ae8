/* core/op_pool.c: pooling. Of [c][h][w][n] (1d: [c][w][n]) each output is the largest number of a window, or the mean; global pooling
 * takes a channel's positions as one window. As Keras has it: padding is never the largest, and a mean counts only what is there.
 *
 * All inner loops run over the n samples of one place. A tile is a run of output rows of one channel, and what its windows read; where
 * windows share rows, backward's tile is the channel. Backward of max finds the largest by comparing x with y again: that costs less
 * than to store where it was, for inference never asks. The first of equals, in row-major order, gets the gradient. */
#include "core/op.h"
#include "core/simd.h"
#include "core/window.h"

struct pool2d_conf {
    int64_t pool_height, pool_width, stride_height, stride_width;
    int padding;
};
struct pool1d_conf {
    int64_t pool_size, stride;
    int padding;
};
enum { MOST = 1 << 20 };
#define PADDING_HELP "valid: windows lie inside; same: there is an output for every stride."
static const struct param pool2d_params[] = {
    FIELD_INT(struct pool2d_conf, pool_height, 1, MOST, 2, "Height of the window."),
    FIELD_INT(struct pool2d_conf, pool_width, 1, MOST, 2, "Width of the window."),
    FIELD_INT(struct pool2d_conf, stride_height, 0, MOST, 0, "Rows from one window to the next; 0: its height."),
    FIELD_INT(struct pool2d_conf, stride_width, 0, MOST, 0, "Columns from one window to the next; 0: its width."),
    FIELD_CHOICE(struct pool2d_conf, padding, "valid|same", PADDING_VALID, PADDING_HELP),
    FIELD_END
};
static const struct param pool1d_params[] = {
    FIELD_INT(struct pool1d_conf, pool_size, 1, MOST, 2, "Length of the window."),
    FIELD_INT(struct pool1d_conf, stride, 0, MOST, 0, "Places from one window to the next; 0: its length."),
    FIELD_CHOICE(struct pool1d_conf, padding, "valid|same", PADDING_VALID, PADDING_HELP),
    FIELD_END
};

/* One axis: windows of `pool` places, `stride` apart, the first one `before` places ahead of the input. */
struct axis { int in, out, pool, stride, before; };

static struct axis axis_of(int in, int64_t pool, int64_t stride, int padding)
{
    const int64_t apart = stride > 0 ? stride : pool;
    const struct windows w = windows_of(in, pool, apart, (enum window_padding)padding);

    return (struct axis){ in, (int)w.n, (int)pool, (int)apart, (int)w.before };
}

/* The places first .. end-1 that window i really has. */
static int first_of(const struct axis *a, int i) { return i * a->stride > a->before ? i * a->stride - a->before : 0; }
static int end_of(const struct axis *a, int i)
{
    const int at = i * a->stride - a->before;

    return at > a->in - a->pool ? a->in : at + a->pool;
}

/* By the shape's rank the options are of two dimensions or of one, whose height is 1. */
static void axes_of(const void *conf, const struct shape *in, struct axis *h, struct axis *w)
{
    const struct pool2d_conf *two = conf;
    const struct pool1d_conf *one = conf;

    if (in->n_d == 3) {
        *h = axis_of(in->d[1], two->pool_height, two->stride_height, two->padding);
        *w = axis_of(in->d[2], two->pool_width, two->stride_width, two->padding);
    } else {
        *h = axis_of(1, 1, 1, PADDING_VALID);
        *w = axis_of(in->d[1], one->pool_size, one->stride, one->padding);
    }
}

static enum err_code pool_shape(const void *conf, const struct shape *in, int rank, struct op_plan *p, struct err *e)
{
    struct axis h, w;

    if (in->n_d != rank)
        return err_set(e, ERR_INVALID, "pooling takes %s here", rank == 3 ? "images" : "sequences");
    axes_of(conf, in, &h, &w);
    if (h.out == 0)
        return err_field(e, ERR_INVALID, "/pool_height", "a window of %d rows does not fit into %d", h.pool, h.in);
    if (w.out == 0)
        return err_field(e, ERR_INVALID, rank == 3 ? "/pool_width" : "/pool_size", "a window of %d places does not fit into %d", w.pool, w.in);
    p->out = *in;
    p->out.d[rank - 2] = rank == 3 ? h.out : p->out.d[rank - 2];
    p->out.d[rank - 1] = w.out;
    p->neurons = NEURONS_PLACES;
    return ERR_OK;
}
static enum err_code pool2d_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)n_in;
    return pool_shape(conf, in[0], 3, p, e);
}
static enum err_code pool1d_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)n_in;
    return pool_shape(conf, in[0], 2, p, e);
}

/* ---- one window: x is its first place, a row of the input has `row` floats ---- */

enum { COLUMNS = 64 };
struct window { int h, w, n; size_t row; };
static bool is_two_by_two(const struct window *k) { return k->h == 2 && k->w == 2; }

/* NaN wins. In two steps, or the loops are not vectorised. */
SIMD_INLINE float larger(float a, float b)
{
    const float m = b > a ? b : a;

    return b != b ? b : m;
}

SIMD_INLINE void max_window(float *restrict y, const float *restrict x, struct window k)
{
    const size_t n = (size_t)k.n;

    if (is_two_by_two(&k)) {
        for (size_t j = 0; j < n; j++)
            y[j] = larger(larger(x[j], x[n + j]), larger(x[k.row + j], x[k.row + n + j]));
        return;
    }
    memcpy(y, x, n * sizeof *y);
    for (int i = 0; i < k.h; i++)
        for (int l = 0; l < k.w; l++) {
            const float *at = x + (size_t)i * k.row + (size_t)l * n;

            for (size_t j = 0; j < n; j++)
                y[j] = larger(y[j], at[j]);
        }
}

SIMD_INLINE void average_window(float *restrict y, const float *restrict x, struct window k)
{
    const size_t n = (size_t)k.n;
    const float share = 1 / (float)(k.h * k.w);

    if (is_two_by_two(&k)) {
        for (size_t j = 0; j < n; j++)
            y[j] = share * ((x[j] + x[n + j]) + (x[k.row + j] + x[k.row + n + j]));
        return;
    }
    memset(y, 0, n * sizeof *y);
    for (int i = 0; i < k.h; i++)
        for (int l = 0; l < k.w; l++) {
            const float *at = x + (size_t)i * k.row + (size_t)l * n;

            for (size_t j = 0; j < n; j++)
                y[j] += at[j];
        }
    for (size_t j = 0; j < n; j++)
        y[j] *= share;
}

/* dy goes to the first place where x is y; left is what no place has taken so far. */
SIMD_INLINE void max_window_back(float *restrict dx, const float *restrict x, const float *restrict y, const float *restrict dy, struct window k)
{
    for (int first = 0; first < k.n; first += COLUMNS) {
        const int m = k.n - first < COLUMNS ? k.n - first : COLUMNS;
        float left[COLUMNS];

        memcpy(left, dy + first, (size_t)m * sizeof *left);
        for (int i = 0; i < k.h; i++)
            for (int l = 0; l < k.w; l++) {
                const size_t at = (size_t)i * k.row + (size_t)(l * k.n + first);

                for (int j = 0; j < m; j++) {
                    const bool hit = x[at + (size_t)j] == y[first + j];

                    dx[at + (size_t)j] += hit ? left[j] : 0;
                    left[j] = hit ? 0 : left[j];
                }
            }
    }
}

SIMD_INLINE void average_window_back(float *restrict dx, const float *restrict dy, struct window k)
{
    const float share = 1 / (float)(k.h * k.w);

    for (int i = 0; i < k.h; i++)
        for (int l = 0; l < k.w; l++)
            for (int j = 0; j < k.n; j++)
                dx[(size_t)i * k.row + (size_t)(l * k.n + j)] += share * dy[j];
}

/* The same for two by two places that no other window shares: dx is written. */
SIMD_INLINE void max_square_back(float *restrict dx, const float *restrict x, const float *restrict y, const float *restrict dy, struct window k)
{
    const size_t n = (size_t)k.n;

    for (size_t j = 0; j < n; j++) {
        const float most = y[j];
        float left = dy[j];

        dx[j] = x[j] == most ? left : 0;
        left = x[j] == most ? 0 : left;
        dx[n + j] = x[n + j] == most ? left : 0;
        left = x[n + j] == most ? 0 : left;
        dx[k.row + j] = x[k.row + j] == most ? left : 0;
        left = x[k.row + j] == most ? 0 : left;
        dx[k.row + n + j] = x[k.row + n + j] == most ? left : 0;
    }
}
SIMD_INLINE void average_square_back(float *restrict dx, const float *restrict dy, struct window k)
{
    const size_t n = (size_t)k.n;

    for (size_t j = 0; j < n; j++)
        dx[j] = dx[n + j] = dx[k.row + j] = dx[k.row + n + j] = 0.25f * dy[j];
}

/* y = along where x is largest. */
SIMD_INLINE void max_window_slope(float *restrict y, const float *restrict x, const float *restrict along, struct window k)
{
    for (int first = 0; first < k.n; first += COLUMNS) {
        const int m = k.n - first < COLUMNS ? k.n - first : COLUMNS;
        float most[COLUMNS];

        memcpy(most, x + first, (size_t)m * sizeof *most);
        memcpy(y + first, along + first, (size_t)m * sizeof *y);
        for (int i = 0; i < k.h; i++)
            for (int l = 0; l < k.w; l++) {
                const size_t at = (size_t)i * k.row + (size_t)(l * k.n + first);

                for (int j = 0; j < m; j++) {
                    y[first + j] = x[at + (size_t)j] > most[j] ? along[at + (size_t)j] : y[first + j];
                    most[j] = x[at + (size_t)j] > most[j] ? x[at + (size_t)j] : most[j];
                }
            }
    }
}

/* ---- tiles ---- */

enum { TILE = 16384 }; /* floats of a tile's input, about */
struct pool {
    const struct op_call *c;
    struct axis h, w;
    int rows, per_channel; /* output rows of a tile; tiles of a channel */
};
typedef void rows_fn(const struct pool *p, size_t channel, int first, int end); /* of output rows */

/* Window (i, l) of a channel; *at: floats from the channel's first to the window's. */
static inline struct window window_at(const struct pool *p, int i, int l, size_t *at)
{
    const int top = first_of(&p->h, i), left = first_of(&p->w, l);
    const size_t row = (size_t)p->w.in * (size_t)p->c->n;

    *at = (size_t)top * row + (size_t)left * (size_t)p->c->n;
    return (struct window){ end_of(&p->h, i) - top, end_of(&p->w, l) - left, p->c->n, row };
}
static size_t channel_in(const struct pool *p) { return (size_t)p->h.in * (size_t)p->w.in * (size_t)p->c->n; }
static size_t place_out(const struct pool *p, size_t channel, int i, int l)
{
    return ((channel * (size_t)p->h.out + (size_t)i) * (size_t)p->w.out + (size_t)l) * (size_t)p->c->n;
}

/* The loops over a tile's windows; `step` uses x (or dx) and y (or dy) at the offsets `in` and `out`. */
#define OVER_WINDOWS(step) \
    for (int i = first; i < end; i++) \
        for (int l = 0; l < p->w.out; l++) { \
            size_t at; \
            const struct window k = window_at(p, i, l, &at); \
            const size_t in = channel * channel_in(p) + at, out = place_out(p, channel, i, l); \
            step; \
        }

SIMD static void max_rows(const struct pool *p, size_t channel, int first, int end)
{
    OVER_WINDOWS(max_window(p->c->y + out, p->c->x[0] + in, k))
}
SIMD static void average_rows(const struct pool *p, size_t channel, int first, int end)
{
    OVER_WINDOWS(average_window(p->c->y + out, p->c->x[0] + in, k))
}

SIMD static void max_rows_slope(const struct pool *p, size_t channel, int first, int end)
{
    OVER_WINDOWS(max_window_slope(p->c->y + out, p->c->x[0] + in, p->c->along[0] + in, k))
}

static bool is_halved(const struct axis *a) { return a->pool == 2 && a->stride == 2 && a->in == 2 * a->out; }
static bool in_squares(const struct pool *p) { return is_halved(&p->h) && is_halved(&p->w); }
/* The input rows that belong to a tile: from its first window's to the next tile's. */
static void clear_rows(const struct pool *p, size_t channel, int first, int end)
{
    const int top = first == 0 ? 0 : first_of(&p->h, first), below = end == p->h.out ? p->h.in : first_of(&p->h, end);
    const size_t row = (size_t)p->w.in * (size_t)p->c->n;

    memset(p->c->dx[0] + channel * channel_in(p) + (size_t)top * row, 0, (size_t)(below - top) * row * sizeof(float));
}

SIMD static void max_rows_back(const struct pool *p, size_t channel, int first, int end)
{
    const struct op_call *c = p->c;

    if (in_squares(p)) {
        OVER_WINDOWS(max_square_back(c->dx[0] + in, c->x[0] + in, c->y + out, c->dy + out, k))
        return;
    }
    clear_rows(p, channel, first, end);
    OVER_WINDOWS(max_window_back(c->dx[0] + in, c->x[0] + in, c->y + out, c->dy + out, k))
}
SIMD static void average_rows_back(const struct pool *p, size_t channel, int first, int end)
{
    if (in_squares(p)) {
        OVER_WINDOWS(average_square_back(p->c->dx[0] + in, p->c->dy + out, k))
        return;
    }
    clear_rows(p, channel, first, end);
    OVER_WINDOWS(average_window_back(p->c->dx[0] + in, p->c->dy + out, k))
}

struct pool_loop {
    struct pool pool;
    rows_fn *fn;
};

static void pool_tile(void *ctx, int tile)
{
    const struct pool_loop *loop = ctx;
    const struct pool *p = &loop->pool;
    const int first = tile % p->per_channel * p->rows, end = first + p->rows < p->h.out ? first + p->rows : p->h.out;

    loop->fn(p, (size_t)(tile / p->per_channel), first, end);
}

static void pool_run(const struct op_call *c, rows_fn *fn, bool back)
{
    struct pool_loop loop = { { .c = c }, fn };
    struct pool *p = &loop.pool;
    size_t row;

    axes_of(c->conf, c->in_shape[0], &p->h, &p->w);
    row = (size_t)p->w.in * (size_t)c->n * (size_t)p->h.stride;
    p->rows = row >= TILE ? 1 : (int)(TILE / row);
    if (p->rows > p->h.out || (back && p->h.stride < p->h.pool))
        p->rows = p->h.out;
    p->per_channel = (p->h.out + p->rows - 1) / p->rows;
    team_for(c->team, c->out_shape->d[0] * p->per_channel, pool_tile, &loop);
}

static void max_forward(const struct op_call *c) { pool_run(c, max_rows, false); }
static void max_slope(const struct op_call *c) { pool_run(c, max_rows_slope, false); }
static void average_forward(const struct op_call *c) { pool_run(c, average_rows, false); }
static void max_backward(const struct op_call *c)
{
    if (c->dx[0])
        pool_run(c, max_rows_back, true);
}
static void average_backward(const struct op_call *c)
{
    if (c->dx[0])
        pool_run(c, average_rows_back, true);
}

#define POOL(name, kind, dims, help, ...) \
    const struct op op_##name = { .plug = { #name, help, dims##_params, sizeof(struct dims##_conf) }, .min_in = 1, .max_in = 1, .grid = ORDER_CHANNELS, \
                                  .shape = dims##_shape, .forward = kind##_forward, .backward = kind##_backward, __VA_ARGS__ }
POOL(max_pool2d, max, pool2d, "The largest number of each window of an image, channel by channel.", .slope = max_slope);
POOL(average_pool2d, average, pool2d, "The mean of each window of an image, channel by channel.", .linear = true);
POOL(max_pool1d, max, pool1d, "The largest number of each window of a sequence, channel by channel.", .slope = max_slope);
POOL(average_pool1d, average, pool1d, "The mean of each window of a sequence, channel by channel.", .linear = true);

/* ---- global: a tile is a channel ---- */

struct global_conf { bool keepdims; };
static const struct param global_params[] = {
    FIELD_BOOL(struct global_conf, keepdims, 0, "Whether the axes stay, with one place each."), FIELD_END
};

static enum err_code global_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)n_in;
    if (in[0]->n_d < 2)
        return err_set(e, ERR_INVALID, "global pooling takes images and sequences");
    p->out = (struct shape){ ((const struct global_conf *)conf)->keepdims ? in[0]->n_d : 1, { in[0]->d[0] } };
    for (int i = 1; i < p->out.n_d; i++)
        p->out.d[i] = 1;
    p->neurons = NEURONS_PLACES;
    return ERR_OK;
}

static struct window all_places(const struct op_call *c)
{
    const size_t places = shape_len(c->in_shape[0]) / (size_t)c->in_shape[0]->d[0];

    return (struct window){ (int)places, 1, c->n, (size_t)c->n };
}
static size_t channel_at(const struct op_call *c, int channel)
{
    return (size_t)channel * (shape_len(c->in_shape[0]) / (size_t)c->in_shape[0]->d[0]) * (size_t)c->n;
}

SIMD static void global_max_tile(void *ctx, int channel)
{
    const struct op_call *c = ctx;

    max_window(c->y + (size_t)channel * (size_t)c->n, c->x[0] + channel_at(c, channel), all_places(c));
}
SIMD static void global_max_slope_tile(void *ctx, int channel)
{
    const struct op_call *c = ctx;
    const size_t at = channel_at(c, channel);

    max_window_slope(c->y + (size_t)channel * (size_t)c->n, c->x[0] + at, c->along[0] + at, all_places(c));
}
SIMD static void global_max_back_tile(void *ctx, int channel)
{
    const struct op_call *c = ctx;
    const size_t at = channel_at(c, channel), out = (size_t)channel * (size_t)c->n;
    const struct window k = all_places(c);

    memset(c->dx[0] + at, 0, (size_t)k.h * k.row * sizeof(float));
    max_window_back(c->dx[0] + at, c->x[0] + at, c->y + out, c->dy + out, k);
}
/* In double: the places may be many. */
SIMD static void global_average_tile(void *ctx, int channel)
{
    const struct op_call *c = ctx;
    const struct window k = all_places(c);
    const float *x = c->x[0] + channel_at(c, channel);

    for (int first = 0; first < k.n; first += COLUMNS) {
        const int m = k.n - first < COLUMNS ? k.n - first : COLUMNS;
        double sum[COLUMNS] = { 0 };

        for (int i = 0; i < k.h; i++)
            for (int j = 0; j < m; j++)
                sum[j] += (double)x[(size_t)i * k.row + (size_t)(first + j)];
        for (int j = 0; j < m; j++)
            c->y[channel * k.n + first + j] = (float)(sum[j] / k.h);
    }
}
SIMD static void global_average_back_tile(void *ctx, int channel)
{
    const struct op_call *c = ctx;
    const struct window k = all_places(c);
    const float *restrict dy = c->dy + (size_t)channel * (size_t)k.n;
    const float share = 1 / (float)k.h;
    float *restrict dx = c->dx[0] + channel_at(c, channel);

    for (int i = 0; i < k.h; i++)
        for (int j = 0; j < k.n; j++)
            dx[(size_t)i * k.row + (size_t)j] = share * dy[j];
}

static void global_max_forward(const struct op_call *c) { op_channels_each(c, global_max_tile); }
static void global_max_slope(const struct op_call *c) { op_channels_each(c, global_max_slope_tile); }
static void global_average_forward(const struct op_call *c) { op_channels_each(c, global_average_tile); }
static void global_max_backward(const struct op_call *c)
{
    if (c->dx[0])
        op_channels_each(c, global_max_back_tile);
}
static void global_average_backward(const struct op_call *c)
{
    if (c->dx[0])
        op_channels_each(c, global_average_back_tile);
}

#define GLOBAL(name, help, ...) \
    const struct op op_##name##_pool = { .plug = { #name "_pool", help, global_params, sizeof(struct global_conf) }, .min_in = 1, .max_in = 1, \
                                         .grid = ORDER_CHANNELS, .shape = global_shape, .forward = name##_forward, .backward = name##_backward, __VA_ARGS__ }
GLOBAL(global_max, "The largest number of each channel.", .slope = global_max_slope);
GLOBAL(global_average, "The mean of each channel.", .linear = true);
