/* core/op_activation.c: the activations of Keras. All but softmax work number by number: a row is the two range functions beside their
 * formula, and ACTIVATION. */
#include "core/op.h"
#include "core/simd.h"

static enum err_code same_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)conf, (void)n_in, (void)e;
    p->out = *in[0];
    p->neurons = NEURONS_PASS;
    return ERR_OK;
}

/* x, y, dy and dx are the range's numbers; CONF is the options' type. */
#define FORWARD(name, formula) \
    SIMD static void name##_y(const struct op_call *c, size_t first, size_t n) \
    { \
        const float *restrict in = c->x[0] + first; \
        float *restrict out = c->y + first; \
        name##_OPTIONS; \
        for (size_t i = 0; i < n; i++) { \
            const float x = in[i]; \
            out[i] = (formula); \
        } \
    } \
    static void name##_forward(const struct op_call *c) { op_ranges(c, name##_y); }
/* The derivative, from x or y. */
#define BACKWARD(name, derivative) \
    SIMD static void name##_dx(const struct op_call *c, size_t first, size_t n) \
    { \
        const float *restrict in = c->x[0] + first, *restrict out = c->y + first, *restrict up = c->dy + first; \
        float *restrict down = c->dx[0] + first; \
        name##_OPTIONS; \
        for (size_t i = 0; i < n; i++) { \
            const float x = in[i], y = out[i]; \
            (void)x, (void)y; \
            down[i] = up[i] * (derivative); \
        } \
    } \
    static void name##_backward(const struct op_call *c) \
    { \
        if (c->dx[0]) \
            op_ranges(c, name##_dx); \
    }
/* The second derivative, from x or y. */
#define BEND(name, second) \
    SIMD static void name##_ddx(const struct op_call *c, size_t first, size_t n) \
    { \
        const float *restrict in = c->x[0] + first, *restrict out = c->y + first, *restrict up = c->dy + first, *restrict along = c->along[0] + first; \
        float *restrict down = c->dx[0] + first; \
        name##_OPTIONS; \
        for (size_t i = 0; i < n; i++) { \
            const float x = in[i], y = out[i]; \
            (void)x, (void)y; \
            down[i] += up[i] * along[i] * (second); \
        } \
    } \
    static void name##_bend(const struct op_call *c) { op_ranges(c, name##_ddx); }
/* Behind the size: .bend, and whatever else the row has. */
#define ACTIVATION(name, help, table, size, ...) \
    const struct op op_##name = { .plug = { #name, help, table, size }, .min_in = 1, .max_in = 1, .activation = true, \
                                  .shape = same_shape, .forward = name##_forward, .backward = name##_backward, .bend = __VA_ARGS__ }

const struct op op_linear = { .plug = { "linear", "The identity.", NULL, 0 }, .min_in = 1, .max_in = 1, .view = true, .shape = same_shape };

struct relu_conf { double max_value; };
static const struct param relu_params[] = {
    FIELD_REAL(struct relu_conf, max_value, 0, 1e30, PARAM_NONE, "Upper bound of the output; null: none."), FIELD_END
};
#define relu_OPTIONS \
    const struct relu_conf *conf = c->conf; \
    const float most = isnan(conf->max_value) ? INFINITY : (float)conf->max_value
FORWARD(relu, x > most ? most : x > 0 ? x : x != x ? x : 0)
BACKWARD(relu, y > 0 && x < most ? 1.0f : 0.0f)
static bool relu_is_clamp(const void *conf) { return isnan(((const struct relu_conf *)conf)->max_value); }
ACTIVATION(relu, "max(x, 0).", relu_params, sizeof(struct relu_conf), NULL, .is_clamp = relu_is_clamp);

struct leaky_relu_conf { double negative_slope; };
static const struct param leaky_relu_params[] = {
    FIELD_REAL(struct leaky_relu_conf, negative_slope, 0, 1e6, 0.3, "Slope below 0."), FIELD_END
};
#define leaky_relu_OPTIONS const float slope = (float)((const struct leaky_relu_conf *)c->conf)->negative_slope
FORWARD(leaky_relu, x > 0 ? x : slope * x)
BACKWARD(leaky_relu, x > 0 ? 1.0f : slope)
ACTIVATION(leaky_relu, "x above 0, negative_slope * x below.", leaky_relu_params, sizeof(struct leaky_relu_conf), NULL);

struct elu_conf { double alpha; };
static const struct param elu_params[] = { FIELD_REAL(struct elu_conf, alpha, 0, 1e6, 1, "Bound below 0."), FIELD_END };
#define elu_OPTIONS const float alpha = (float)((const struct elu_conf *)c->conf)->alpha
FORWARD(elu, x > 0 ? x : alpha * simd_expm1(x))
BACKWARD(elu, x > 0 ? 1.0f : y + alpha)
BEND(elu, x > 0 ? 0.0f : y + alpha)
ACTIVATION(elu, "x above 0, alpha * (exp(x) - 1) below (Clevert et al. 2015).", elu_params, sizeof(struct elu_conf), elu_bend);

/* Exact: x Phi(x). Approximate: Phi(x) ~ (1 + tanh(t)) / 2, t = sqrt(2/pi) (x + 0.044715 x^3). */
struct gelu_conf { bool approximate; };
static const struct param gelu_params[] = { FIELD_BOOL(struct gelu_conf, approximate, 0, "By tanh instead of erf."), FIELD_END };
#define GELU_T(x) (0.797884561f * ((x) + 0.044715f * (x) * (x) * (x)))

SIMD_INLINE float gelu_slope_exact(float x)
{
    return 0.5f * (1 + simd_erf(x * 0.707106781f)) + x * 0.398942280f * simd_exp(-0.5f * x * x);
}
SIMD_INLINE float gelu_slope_approximate(float x)
{
    float t = simd_tanh(GELU_T(x));

    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.797884561f * (1 + 3 * 0.044715f * x * x);
}
SIMD_INLINE float gelu_bend_exact(float x) { return 0.398942280f * simd_exp(-0.5f * x * x) * (2 - x * x); }
SIMD_INLINE float gelu_bend_approximate(float x)
{
    float t = simd_tanh(GELU_T(x)), first = 0.797884561f * (1 + 3 * 0.044715f * x * x), second = 0.797884561f * 6 * 0.044715f * x;

    return (1 - t * t) * (first + 0.5f * x * (second - 2 * t * first * first));
}
#define gelu_exact_OPTIONS (void)0
#define gelu_approximate_OPTIONS (void)0
FORWARD(gelu_exact, 0.5f * x * (1 + simd_erf(x * 0.707106781f)))
BACKWARD(gelu_exact, gelu_slope_exact(x))
BEND(gelu_exact, gelu_bend_exact(x))
FORWARD(gelu_approximate, 0.5f * x * (1 + simd_tanh(GELU_T(x))))
BACKWARD(gelu_approximate, gelu_slope_approximate(x))
BEND(gelu_approximate, gelu_bend_approximate(x))

static bool is_approximate(const struct op_call *c) { return ((const struct gelu_conf *)c->conf)->approximate; }
static void gelu_forward(const struct op_call *c) { (is_approximate(c) ? gelu_approximate_forward : gelu_exact_forward)(c); }
static void gelu_backward(const struct op_call *c) { (is_approximate(c) ? gelu_approximate_backward : gelu_exact_backward)(c); }
static void gelu_bend(const struct op_call *c) { (is_approximate(c) ? gelu_approximate_bend : gelu_exact_bend)(c); }
ACTIVATION(gelu, "x times the normal distribution function of x (Hendrycks & Gimpel 2016).", gelu_params, sizeof(struct gelu_conf), gelu_bend);

#define sigmoid_OPTIONS (void)0
FORWARD(sigmoid, simd_sigmoid(x))
BACKWARD(sigmoid, y * (1 - y))
BEND(sigmoid, y * (1 - y) * (1 - 2 * y))
ACTIVATION(sigmoid, "1 / (1 + exp(-x)).", NULL, 0, sigmoid_bend);

#define tanh_OPTIONS (void)0
FORWARD(tanh, simd_tanh(x))
BACKWARD(tanh, 1 - y * y)
BEND(tanh, -2 * y * (1 - y * y))
ACTIVATION(tanh, "Hyperbolic tangent.", NULL, 0, tanh_bend);

struct hard_conf { double slope; };
static const struct param hard_params[] = {
    FIELD_REAL(struct hard_conf, slope, 1e-6, 1e6, 0.16666666666666666, "Slope of the middle part (Keras 2's hard_sigmoid: 0.2)."), FIELD_END
};
SIMD_INLINE float hard(float x, float slope) { return x * slope < -0.5f ? 0 : x * slope > 0.5f ? 1 : x * slope + 0.5f; }
SIMD_INLINE float hard_slope(float x, float slope) { return fabsf(x * slope) < 0.5f ? slope : 0; }
#define hard_sigmoid_OPTIONS const float slope = (float)((const struct hard_conf *)c->conf)->slope
FORWARD(hard_sigmoid, hard(x, slope))
BACKWARD(hard_sigmoid, hard_slope(x, slope))
ACTIVATION(hard_sigmoid, "slope * x + 1/2 within 0 and 1.", hard_params, sizeof(struct hard_conf), NULL);

#define hard_silu_OPTIONS hard_sigmoid_OPTIONS
FORWARD(hard_silu, x * hard(x, slope))
BACKWARD(hard_silu, hard(x, slope) + x * hard_slope(x, slope))
BEND(hard_silu, 2 * hard_slope(x, slope))
ACTIVATION(hard_silu, "x * hard_sigmoid(x), also called hard swish (Howard et al. 2019).", hard_params, sizeof(struct hard_conf), hard_silu_bend);

SIMD_INLINE float silu_slope(float x)
{
    const float s = simd_sigmoid(x);

    return s * (1 + x * (1 - s));
}
SIMD_INLINE float silu_second(float x)
{
    const float s = simd_sigmoid(x);

    return s * (1 - s) * (2 + x * (1 - 2 * s));
}
#define silu_OPTIONS (void)0
FORWARD(silu, x * simd_sigmoid(x))
BACKWARD(silu, silu_slope(x))
BEND(silu, silu_second(x))
ACTIVATION(silu, "x * sigmoid(x), also called swish.", NULL, 0, silu_bend);

SIMD_INLINE float logistic_slope(float x)
{
    const float s = simd_sigmoid(x);

    return s * (1 - s);
}
#define softplus_OPTIONS (void)0
FORWARD(softplus, (x > 0 ? x : x != x ? x : 0) + simd_log1p(simd_exp(-fabsf(x))))
BACKWARD(softplus, simd_sigmoid(x))
BEND(softplus, logistic_slope(x))
ACTIVATION(softplus, "log(1 + exp(x)).", NULL, 0, softplus_bend);

#define softsign_OPTIONS (void)0
FORWARD(softsign, x / (1 + fabsf(x)))
BACKWARD(softsign, 1 / ((1 + fabsf(x)) * (1 + fabsf(x))))
BEND(softsign, -copysignf(2, x) / ((1 + fabsf(x)) * (1 + fabsf(x)) * (1 + fabsf(x))))
ACTIVATION(softsign, "x / (1 + |x|).", NULL, 0, softsign_bend);

#define SELU_SCALE 1.05070098f
#define SELU_BOUND 1.75809934f /* scale * alpha */
#define selu_OPTIONS (void)0
FORWARD(selu, x > 0 ? SELU_SCALE * x : SELU_BOUND * simd_expm1(x))
BACKWARD(selu, x > 0 ? SELU_SCALE : y + SELU_BOUND)
BEND(selu, x > 0 ? 0.0f : y + SELU_BOUND)
ACTIVATION(selu, "elu whose scale and bound keep mean 0 and variance 1 (Klambauer et al. 2017).", NULL, 0, selu_bend);

#define exponential_OPTIONS (void)0
FORWARD(exponential, simd_exp(x))
BACKWARD(exponential, y)
BEND(exponential, y)
ACTIVATION(exponential, "exp(x).", NULL, 0, exponential_bend);

/* ---- softmax along the last axis: for [groups][k][n], over k. A tile is a run of samples of one group. ---- */

enum { COLUMNS = 64 };
struct softmax_tiles {
    const struct op_call *c;
    int k, per_group;
};

static enum err_code softmax_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)conf, (void)n_in;
    if (in[0]->n_d < 1)
        return err_set(e, ERR_INVALID, "softmax needs at least one dimension");
    p->out = *in[0];
    return ERR_OK;
}

SIMD static void softmax_columns(float *y, const float *x, int k, int n, int columns)
{
    float most[COLUMNS], sum[COLUMNS] = { 0 };

    memcpy(most, x, (size_t)columns * sizeof most[0]);
    for (int i = 1; i < k; i++)
        for (int j = 0; j < columns; j++)
            most[j] = x[(size_t)i * (size_t)n + (size_t)j] > most[j] ? x[(size_t)i * (size_t)n + (size_t)j] : most[j];
    for (int i = 0; i < k; i++)
        for (int j = 0; j < columns; j++) {
            float p = simd_exp(x[(size_t)i * (size_t)n + (size_t)j] - most[j]);

            y[(size_t)i * (size_t)n + (size_t)j] = p;
            sum[j] += p;
        }
    for (int i = 0; i < k; i++)
        for (int j = 0; j < columns; j++)
            y[(size_t)i * (size_t)n + (size_t)j] /= sum[j];
}

/* dx = y (dy - sum of y dy) */
SIMD static void softmax_columns_back(float *dx, const float *y, const float *dy, int k, int n, int columns)
{
    float sum[COLUMNS] = { 0 };

    for (int i = 0; i < k; i++)
        for (int j = 0; j < columns; j++)
            sum[j] += y[(size_t)i * (size_t)n + (size_t)j] * dy[(size_t)i * (size_t)n + (size_t)j];
    for (int i = 0; i < k; i++)
        for (int j = 0; j < columns; j++)
            dx[(size_t)i * (size_t)n + (size_t)j] =
                y[(size_t)i * (size_t)n + (size_t)j] * (dy[(size_t)i * (size_t)n + (size_t)j] - sum[j]);
}

static size_t softmax_place(const struct softmax_tiles *t, int tile, int *columns)
{
    int first = tile % t->per_group * COLUMNS, n = t->c->n;

    *columns = n - first < COLUMNS ? n - first : COLUMNS;
    return (size_t)(tile / t->per_group) * (size_t)t->k * (size_t)n + (size_t)first;
}

/* With a = t - sum of y t and b = dy - sum of y dy: dx += y a b - y (sum of y a dy). */
SIMD static void softmax_columns_bend(float *dx, const float *y, const float *dy, const float *t, int k, int n, int columns)
{
    float yt[COLUMNS] = { 0 }, yd[COLUMNS] = { 0 }, ytd[COLUMNS] = { 0 };

    for (int i = 0; i < k; i++)
        for (int j = 0; j < columns; j++) {
            size_t at = (size_t)i * (size_t)n + (size_t)j;

            yt[j] += y[at] * t[at];
            yd[j] += y[at] * dy[at];
            ytd[j] += y[at] * t[at] * dy[at];
        }
    for (int i = 0; i < k; i++)
        for (int j = 0; j < columns; j++) {
            size_t at = (size_t)i * (size_t)n + (size_t)j;

            dx[at] += y[at] * ((t[at] - yt[j]) * (dy[at] - yd[j]) - (ytd[j] - yt[j] * yd[j]));
        }
}

static void softmax_tile(void *ctx, int tile)
{
    const struct softmax_tiles *t = ctx;
    int columns;
    size_t at = softmax_place(t, tile, &columns);

    softmax_columns(t->c->y + at, t->c->x[0] + at, t->k, t->c->n, columns);
}

static void softmax_back_tile(void *ctx, int tile)
{
    const struct softmax_tiles *t = ctx;
    int columns;
    size_t at = softmax_place(t, tile, &columns);

    softmax_columns_back(t->c->dx[0] + at, t->c->y + at, t->c->dy + at, t->k, t->c->n, columns);
}

static void softmax_bend_tile(void *ctx, int tile)
{
    const struct softmax_tiles *t = ctx;
    int columns;
    size_t at = softmax_place(t, tile, &columns);

    softmax_columns_bend(t->c->dx[0] + at, t->c->y + at, t->c->dy + at, t->c->along[0] + at, t->k, t->c->n, columns);
}

static void softmax_run(const struct op_call *c, void (*fn)(void *ctx, int tile))
{
    struct softmax_tiles t = { c, c->out_shape->d[c->out_shape->n_d - 1], (c->n + COLUMNS - 1) / COLUMNS };

    team_for(c->team, (int)(shape_len(c->out_shape) / (size_t)t.k) * t.per_group, fn, &t);
}

static void softmax_forward(const struct op_call *c) { softmax_run(c, softmax_tile); }
static void softmax_backward(const struct op_call *c)
{
    if (c->dx[0])
        softmax_run(c, softmax_back_tile);
}
static void softmax_bend(const struct op_call *c) { softmax_run(c, softmax_bend_tile); }

const struct op op_softmax = {
    .plug = { "softmax", "exp(x) divided by its sum, along the last axis.", NULL, 0 }, .min_in = 1, .max_in = 1, .activation = true, .grid = ORDER_MODEL,
    .shape = softmax_shape, .forward = softmax_forward, .backward = softmax_backward, .bend = softmax_bend
};
