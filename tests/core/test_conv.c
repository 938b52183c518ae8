/* Convolutions: all three products against a plain sum in double precision, over drawn shapes, strides, dilations, paddings, groups and batches, at each
 * level of vector code; the same bytes for any team; what shapes are refused and by which option. */
#include "core/conv.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/exec.h"
#include "core/mem.h"
#include "core/rng.h"
#include "tests/suite.h"

enum { DRAWS = 60, GUARD = 64 };

/* ---- an op call and its memory ---- */

struct layer {
    const struct op *op;
    struct plug_value conf;
    struct shape in;
    struct op_plan plan;
    int n;
    float *x, *y, *w, *bias, *dy, *dx, *dw, *db, *state, *scratch;
};

static float *filled(size_t n, uint32_t stream)
{
    const struct rng r = { 3, RNG_TEST, stream, 0 };
    float *x = mem_vector(n + GUARD);

    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&r, i);
    return x;
}

static enum err_code layer_shape(struct layer *l, const char *op, const char *options, struct shape in, struct err *e)
{
    const struct shape *at = &l->in;
    json_t *json = json_loads(options, 0, NULL);

    *l = (struct layer){ .op = op_find(op), .in = in };
    l->conf.plug = &l->op->plug;
    ck_assert_ptr_nonnull(json);
    ck_assert_msg(params_parse(l->conf.conf, l->op->plug.conf_size, l->op->plug.params, json, e) == ERR_OK, "%s: %s", options, e ? e->msg : "");
    json_decref(json);
    return l->op->shape(l->conf.conf, &at, 1, &l->plan, e);
}

/* Uninitialised memory holds NaN: nothing of it may be read. */
static float *spoilt(size_t n)
{
    float *x = mem_vector(n + GUARD);

    for (size_t i = 0; i < n + GUARD; i++)
        x[i] = NAN;
    return x;
}

static void layer_fill(struct layer *l, int n, int threads)
{
    size_t out = shape_len(&l->plan.out) * (size_t)n, in = shape_len(&l->in) * (size_t)n, len = shape_len(&l->plan.weight[0].shape);

    l->n = n;
    l->x = filled(in, 1);
    l->dy = filled(out, 2);
    l->w = filled(len, 3);
    l->bias = filled((size_t)l->plan.out.d[0], 4);
    l->y = spoilt(out);
    l->dx = spoilt(in);
    l->dw = spoilt(len);
    l->db = spoilt((size_t)l->plan.out.d[0]);
    l->state = spoilt(l->plan.state_len);
    l->scratch = spoilt((l->plan.scratch_len + GUARD) * (size_t)threads);
}

static void layer_clear(struct layer *l)
{
    float *a[] = { l->x, l->y, l->w, l->bias, l->dy, l->dx, l->dw, l->db, l->state, l->scratch };

    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++)
        mem_free(a[i]);
}

static struct op_call layer_call(struct layer *l, struct team *team)
{
    struct op_call c = { .conf = l->conf.conf, .n = l->n, .n_in = 1, .in_shape = { &l->in }, .out_shape = &l->plan.out, .x = { l->x }, .y = l->y,
                         .w = { l->w }, .state = l->state, .scratch = l->scratch, .scratch_stride = l->plan.scratch_len, .team = team,
                         .training = true, .dy = l->dy, .dx = { l->dx }, .dw = { l->dw } };

    if (l->plan.n_weights > 1) {
        c.w[1] = l->bias;
        c.dw[1] = l->db;
    }
    return c;
}

/* ---- the plain sum ---- */

struct plain {
    int c, h, w, o, oh, ow, kh, kw, sh, sw, dh, dw, top, left, groups, n;
    double *y, *size, *dx, *dx_size, *dwk, *dwk_size, *db;
};

/* Keras' rule of "same", written down once more. */
static int pad_before(int in, int k, int s, int d)
{
    int out = (in + s - 1) / s, total = (out - 1) * s + (k - 1) * d + 1 - in;

    return total > 0 ? total / 2 : 0;
}

static double *zeros(size_t n) { return mem_zalloc(n, sizeof(double)); }

static void plain_run(struct plain *p, const struct layer *l, bool clamp)
{
    const int cg = p->c / p->groups, og = p->o / p->groups;
    size_t out = (size_t)p->o * (size_t)p->oh * (size_t)p->ow * (size_t)p->n, in = (size_t)p->c * (size_t)p->h * (size_t)p->w * (size_t)p->n;
    size_t len = (size_t)p->o * (size_t)cg * (size_t)p->kh * (size_t)p->kw;

    p->y = zeros(out), p->size = zeros(out), p->dx = zeros(in), p->dx_size = zeros(in), p->dwk = zeros(len), p->dwk_size = zeros(len);
    p->db = zeros((size_t)p->o);
    for (int backward = 0; backward < 2; backward++)
        for (int o = 0; o < p->o; o++)
            for (int y = 0; y < p->oh; y++)
                for (int x = 0; x < p->ow; x++)
                    for (int s = 0; s < p->n; s++) {
                        size_t at = (((size_t)o * (size_t)p->oh + (size_t)y) * (size_t)p->ow + (size_t)x) * (size_t)p->n + (size_t)s;
                        double g = clamp && !(l->y[at] > 0) ? 0 : (double)l->dy[at];

                        if (backward)
                            p->db[o] += g;
                        else if (l->plan.n_weights > 1)
                            p->y[at] = (double)l->bias[o];
                        for (int k = 0; k < cg * p->kh * p->kw; k++) {
                            int c = o / og * cg + k / p->kw / p->kh, yy = y * p->sh - p->top + k / p->kw % p->kh * p->dh;
                            int xx = x * p->sw - p->left + k % p->kw * p->dw;
                            size_t from = (((size_t)c * (size_t)p->h + (size_t)yy) * (size_t)p->w + (size_t)xx) * (size_t)p->n + (size_t)s;
                            size_t w = (size_t)o * (size_t)(cg * p->kh * p->kw) + (size_t)k;
                            double v;

                            if (yy < 0 || yy >= p->h || xx < 0 || xx >= p->w)
                                continue;
                            if (!backward) {
                                v = (double)l->w[w] * (double)l->x[from];
                                p->y[at] += v, p->size[at] += fabs(v);
                                continue;
                            }
                            v = g * (double)l->w[w];
                            p->dx[from] += v, p->dx_size[from] += fabs(v);
                            v = g * (double)l->x[from];
                            p->dwk[w] += v, p->dwk_size[w] += fabs(v);
                        }
                    }
}

static void plain_clear(struct plain *p)
{
    double *a[] = { p->y, p->size, p->dx, p->dx_size, p->dwk, p->dwk_size, p->db };

    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++)
        mem_free(a[i]);
}

/* The rounding error of a sum of terms, each in float. */
static void near(const float *got, const double *want, const double *size, size_t n, double times, const char *what, const char *options)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - times * want[i]) <= 2e-6 * times * size[i] + 3e-6))
            ck_abort_msg("%s of %s: number %zu is %g, not %g", what, options, i, (double)got[i], times * want[i]);
}

/* ---- drawn cases ---- */

struct draw { const char *op; char options[300]; struct shape in; struct plain p; };

static int pick(const struct rng *r, uint64_t *at, int lo, int hi) { return lo + (int)(rng_unit(r, (*at)++) * (hi - lo + 1)); }

static struct draw draw_case(int i)
{
    static const int batch[] = { 1, 2, 5, 16, 17, 32, 37, 100, 128, 150 };
    const struct rng r = { 9, RNG_TEST, (uint32_t)i, 0 };
    uint64_t at = 0;
    const int kind = i % 5 < 3 ? 0 : i % 5 - 2; /* conv2d, depthwise, conv1d */
    struct draw d = { .op = kind == 0 ? "conv2d" : kind == 1 ? "depthwise_conv2d" : "conv1d" };
    struct plain *p = &d.p;
    bool same = pick(&r, &at, 0, 1), bias = pick(&r, &at, 0, 3) > 0;
    int more, filters;

    p->groups = kind != 1 && pick(&r, &at, 0, 2) == 0 ? pick(&r, &at, 2, 3) : 1;
    p->kh = kind == 2 ? 1 : pick(&r, &at, 1, 4), p->kw = pick(&r, &at, 1, 4);
    p->sh = kind == 2 ? 1 : pick(&r, &at, 1, 3), p->sw = pick(&r, &at, 1, 3);
    p->dh = kind == 2 ? 1 : pick(&r, &at, 1, 2), p->dw = pick(&r, &at, 1, 3);
    p->h = kind == 2 ? 1 : (same ? 1 : (p->kh - 1) * p->dh + 1) + pick(&r, &at, 0, 6);
    p->w = (same ? 1 : (p->kw - 1) * p->dw + 1) + pick(&r, &at, 0, 8);
    p->c = p->groups * pick(&r, &at, 1, 5);
    filters = p->groups * pick(&r, &at, 1, 11 / p->groups), more = pick(&r, &at, 1, 3);
    p->n = batch[pick(&r, &at, 0, 9)];
    p->groups = kind == 1 ? p->c : p->groups;
    p->o = kind == 1 ? p->c * more : filters;
    p->oh = same ? (p->h + p->sh - 1) / p->sh : (p->h - (p->kh - 1) * p->dh - 1) / p->sh + 1;
    p->ow = same ? (p->w + p->sw - 1) / p->sw : (p->w - (p->kw - 1) * p->dw - 1) / p->sw + 1;
    p->top = same ? pad_before(p->h, p->kh, p->sh, p->dh) : 0;
    p->left = same ? pad_before(p->w, p->kw, p->sw, p->dw) : 0;
    d.in = kind == 2 ? (struct shape){ 2, { p->c, p->w } } : (struct shape){ 3, { p->c, p->h, p->w } };
    if (kind == 2)
        snprintf(d.options, sizeof d.options, "{\"filters\": %d, \"kernel_size\": %d, \"stride\": %d, \"dilation\": %d, \"groups\": %d, ", p->o,
                 p->kw, p->sw, p->dw, p->groups);
    else
        snprintf(d.options, sizeof d.options, "{\"%s\": %d, \"kernel_height\": %d, \"kernel_width\": %d, \"stride_height\": %d, \"stride_width\": %d, "
                 "\"dilation_height\": %d, \"dilation_width\": %d, ", kind == 1 ? "depth_multiplier" : "filters", kind == 1 ? more : p->o, p->kh, p->kw,
                 p->sh, p->sw, p->dh, p->dw);
    if (kind == 0)
        snprintf(d.options + strlen(d.options), 40, "\"groups\": %d, ", p->groups);
    snprintf(d.options + strlen(d.options), 60, "\"padding\": \"%s\", \"use_bias\": %s}", same ? "same" : "valid", bias ? "true" : "false");
    return d;
}

static void check_case(int i, bool clamp)
{
    struct draw d = draw_case(i);
    struct plain *p = &d.p;
    struct layer l;
    struct op_call c;
    struct err e = { 0 };
    size_t len;

    ck_assert_msg(layer_shape(&l, d.op, d.options, d.in, &e) == ERR_OK, "%s: %s", d.options, e.msg);
    layer_fill(&l, p->n, 1);
    len = shape_len(&l.plan.weight[0].shape);
    snprintf(d.options + strlen(d.options), 60, " on %d x %d x %d x %d%s", p->c, p->h, p->w, p->n, clamp ? ", clamped" : "");
    c = layer_call(&l, NULL);
    c.clamp = clamp;
    ck_assert_uint_eq(shape_len(&l.plan.out), (size_t)p->o * (size_t)p->oh * (size_t)p->ow);
    ck_assert_uint_eq(l.plan.macs, (uint64_t)len * (uint64_t)p->oh * (uint64_t)p->ow);
    l.op->forward(&c);
    plain_run(p, &l, clamp);
    for (size_t k = 0; clamp && k < shape_len(&l.plan.out) * (size_t)p->n; k++)
        p->y[k] = p->y[k] > 0 ? p->y[k] : 0;
    near(l.y, p->y, p->size, shape_len(&l.plan.out) * (size_t)p->n, 1, "y", d.options);
    l.op->backward(&c);
    near(l.dx, p->dx, p->dx_size, shape_len(&l.in) * (size_t)p->n, 1, "dx", d.options);
    near(l.dw, p->dwk, p->dwk_size, len, 1, "dw", d.options);
    c.accumulate = true;
    c.dx[0] = NULL;
    l.op->backward(&c);
    near(l.dw, p->dwk, p->dwk_size, len, 2, "dw added", d.options);
    for (int o = 0; o < p->o && l.plan.n_weights > 1; o++)
        ck_assert_msg(fabs((double)l.db[o] - 2 * p->db[o]) <= 1e-5 * p->oh * p->ow * p->n + 1e-5, "bias %d of %s: %g, not %g", o, d.options,
                      (double)l.db[o], 2 * p->db[o]);
    ck_assert(isnan(l.y[shape_len(&l.plan.out) * (size_t)p->n]) && isnan(l.dx[shape_len(&l.in) * (size_t)p->n]) && isnan(l.dw[len]));
    plain_clear(p);
    layer_clear(&l);
}

/* Once per level of vector code, the better ones left out. */
START_TEST(products)
{
    ck_assert(*conv_level_name(_i));
    conv_skip_levels = _i;
    for (int i = 0; i < DRAWS; i++)
        check_case(i * conv_n_levels() + _i, i % 2);
    conv_skip_levels = 0;
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "convolutions");

    tcase_add_loop_test(tc, products, 0, conv_n_levels());
}
SUITE_MAIN("convolutions", cases)
