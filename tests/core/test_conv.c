/* Convolutions: all three products against a plain sum in double precision, over drawn shapes, strides, dilations, paddings, groups and batches, at each
 * level of vector code; the same bytes for any team. Plans, and convolutions in nets: test_conv_net.c. */
#include "core/conv.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/gemm.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/winograd.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

enum { DRAWS = 20, COUNTS = 17, GUARD = 64 };

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
    l->state = spoilt(l->plan.state_len + (size_t)n * l->plan.state_len_per_sample);
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

/* Number k of output o's kernel, at place (y, x) of the output: all samples. */
static void plain_tap(struct plain *p, const struct layer *l, int o, int y, int x, int k, const double *g, bool backward)
{
    const int cg = p->c / p->groups, taps = p->kh * p->kw, c = o / (p->o / p->groups) * cg + k / taps;
    const int yy = y * p->sh - p->top + k / p->kw % p->kh * p->dh, xx = x * p->sw - p->left + k % p->kw * p->dw;
    const size_t at = (((size_t)o * (size_t)p->oh + (size_t)y) * (size_t)p->ow + (size_t)x) * (size_t)p->n;
    const size_t from = (((size_t)c * (size_t)p->h + (size_t)yy) * (size_t)p->w + (size_t)xx) * (size_t)p->n, w = (size_t)(o * cg * taps + k);

    if (yy < 0 || yy >= p->h || xx < 0 || xx >= p->w)
        return;
    for (size_t s = 0; s < (size_t)p->n; s++) {
        double v = (double)l->w[w], u = (double)l->x[from + s];

        if (!backward) {
            p->y[at + s] += v * u, p->size[at + s] += fabs(v * u);
            continue;
        }
        p->dx[from + s] += v * g[s], p->dx_size[from + s] += fabs(v * g[s]);
        p->dwk[w] += u * g[s], p->dwk_size[w] += fabs(u * g[s]);
    }
}

static void plain_run(struct plain *p, const struct layer *l, bool clamp)
{
    const size_t places = (size_t)p->oh * (size_t)p->ow, n = (size_t)p->n, out = (size_t)p->o * places * n;
    const size_t in = (size_t)p->c * (size_t)p->h * (size_t)p->w * n, len = shape_len(&l->plan.weight[0].shape);
    double *g = zeros(n);

    p->y = zeros(out), p->size = zeros(out), p->dx = zeros(in), p->dx_size = zeros(in), p->dwk = zeros(len), p->dwk_size = zeros(len);
    p->db = zeros((size_t)p->o);
    for (int backward = 0; backward < 2; backward++)
        for (size_t i = 0; i < (size_t)p->o * places; i++) {
            const int o = (int)(i / places), y = (int)(i % places) / p->ow, x = (int)(i % places) % p->ow;

            for (size_t s = 0; s < n; s++) {
                g[s] = clamp && !(l->y[i * n + s] > 0) ? 0 : (double)l->dy[i * n + s];
                p->db[o] += backward ? g[s] : 0;
                p->y[i * n + s] += !backward && l->plan.n_weights > 1 ? (double)l->bias[o] : 0;
            }
            for (int k = 0; k < p->c / p->groups * p->kh * p->kw; k++)
                plain_tap(p, l, o, y, x, k, g, backward);
        }
    mem_free(g);
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

/* ---- cases: drawn ones, and some that need more than one block of everything ---- */

enum kind { CONV2D, DEPTHWISE, CONV1D };
struct sides { enum kind kind; int c, o, h, w, kh, kw, sh, sw, dh, dw, groups, n; bool same, bias; }; /* depthwise: o outputs for each channel */
static const struct sides large[] = {
    { CONV2D, 40, 9, 3, 50, 3, 3, 1, 1, 1, 1, 1, 33, false, true },
    { CONV2D, 40, 9, 3, 50, 3, 3, 1, 2, 1, 1, 1, 33, true, true },
    { CONV2D, 24, 9, 13, 14, 4, 5, 2, 2, 1, 1, 1, 32, true, false },
    { CONV2D, 16, 17, 9, 10, 3, 3, 1, 1, 1, 1, 1, 19, true, true },
    { CONV2D, 18, 16, 6, 6, 3, 3, 1, 1, 1, 1, 1, 16, false, false },
    { CONV2D, 70, 20, 4, 3, 1, 1, 1, 1, 1, 1, 1, 100, false, true },
    { CONV2D, 20, 9, 7, 7, 1, 1, 2, 2, 1, 1, 1, 32, true, true },
    { DEPTHWISE, 20, 1, 12, 20, 3, 3, 2, 2, 1, 1, 20, 64, true, true },
    { DEPTHWISE, 5, 2, 9, 30, 3, 5, 1, 1, 1, 1, 5, 20, true, true },
    { CONV2D, 90, 3, 4, 9, 3, 2, 1, 1, 1, 1, 1, 130, true, true }, /* whose weight gradient has room for few samples */
    { CONV1D, 1, 3, 1, 6000, 1, 5, 1, 1, 1, 1, 1, 18, true, true }, /* in chunks of columns */
    { CONV1D, 30, 12, 1, 80, 1, 5, 1, 1, 1, 3, 1, 40, true, true },
    { CONV1D, 300, 3, 1, 40, 1, 3, 1, 2, 1, 1, 1, 5, true, true },
};
enum { N_LARGE = sizeof large / sizeof large[0] };
struct drawn { const char *op; char text[400]; struct shape in; struct plain p; };

static struct drawn case_of(const struct sides *s)
{
    struct drawn d = { .op = s->kind == CONV2D ? "conv2d" : s->kind == DEPTHWISE ? "depthwise_conv2d" : "conv1d" };
    struct plain *p = &d.p;

    *p = (struct plain){ .c = s->c, .h = s->h, .w = s->w, .o = s->kind == DEPTHWISE ? s->c * s->o : s->o, .kh = s->kh, .kw = s->kw, .sh = s->sh,
                         .sw = s->sw, .dh = s->dh, .dw = s->dw, .groups = s->groups, .n = s->n };
    p->oh = s->same ? (p->h + p->sh - 1) / p->sh : (p->h - (p->kh - 1) * p->dh - 1) / p->sh + 1;
    p->ow = s->same ? (p->w + p->sw - 1) / p->sw : (p->w - (p->kw - 1) * p->dw - 1) / p->sw + 1;
    p->top = s->same ? pad_before(p->h, p->kh, p->sh, p->dh) : 0;
    p->left = s->same ? pad_before(p->w, p->kw, p->sw, p->dw) : 0;
    d.in = s->kind == CONV1D ? (struct shape){ 2, { p->c, p->w } } : (struct shape){ 3, { p->c, p->h, p->w } };
    if (s->kind == CONV1D)
        snprintf(d.text, sizeof d.text, "{\"filters\": %d, \"kernel_size\": %d, \"stride\": %d, \"dilation\": %d, \"groups\": %d, ", p->o, p->kw,
                 p->sw, p->dw, p->groups);
    else
        snprintf(d.text, sizeof d.text, "{\"%s\": %d, \"kernel_height\": %d, \"kernel_width\": %d, \"stride_height\": %d, \"stride_width\": %d, "
                 "\"dilation_height\": %d, \"dilation_width\": %d, ", s->kind == DEPTHWISE ? "depth_multiplier" : "filters", s->o, p->kh, p->kw, p->sh,
                 p->sw, p->dh, p->dw);
    if (s->kind == CONV2D)
        snprintf(d.text + strlen(d.text), 40, "\"groups\": %d, ", p->groups);
    snprintf(d.text + strlen(d.text), 60, "\"padding\": \"%s\", \"use_bias\": %s}", s->same ? "same" : "valid", s->bias ? "true" : "false");
    return d;
}

static int pick(const struct rng *r, uint64_t *at, int lo, int hi) { return lo + (int)(rng_unit(r, (*at)++) * (hi - lo + 1)); }

static struct sides draw_sides(int i)
{
    static const int batch[] = { 1, 2, 5, 16, 17, 32, 37, 100, 128, 150 };
    const struct rng r = { 9, RNG_TEST, (uint32_t)i, 0 };
    uint64_t at = 0;
    const bool flat = i % 5 == 4;
    struct sides s = { .kind = flat ? CONV1D : i % 5 == 3 ? DEPTHWISE : CONV2D };

    s.same = pick(&r, &at, 0, 1);
    s.bias = pick(&r, &at, 0, 3) > 0;
    s.groups = pick(&r, &at, 0, 2) == 0 ? pick(&r, &at, 2, 3) : 1;
    s.kh = flat ? 1 : pick(&r, &at, 1, 4), s.kw = pick(&r, &at, 1, 4);
    s.sh = flat ? 1 : pick(&r, &at, 1, 3), s.sw = pick(&r, &at, 1, 3);
    s.dh = flat ? 1 : pick(&r, &at, 1, 2), s.dw = pick(&r, &at, 1, 3);
    s.h = flat ? 1 : (s.same ? 1 : (s.kh - 1) * s.dh + 1) + pick(&r, &at, 0, 6);
    s.w = (s.same ? 1 : (s.kw - 1) * s.dw + 1) + pick(&r, &at, 0, 8);
    s.c = s.groups * pick(&r, &at, 1, 5);
    s.o = s.kind == DEPTHWISE ? pick(&r, &at, 1, 3) : s.groups * pick(&r, &at, 1, 11 / s.groups);
    s.groups = s.kind == DEPTHWISE ? s.c : s.groups;
    s.n = batch[pick(&r, &at, 0, 9)];
    return s;
}

/* ---- products ---- */

/* Keeps a share of the kernel's numbers, the others become 0. */
static struct sparse *thin_out(struct layer *l, double density)
{
    const struct rng r = { 4, RNG_TEST, 5, 0 };
    const size_t len = shape_len(&l->plan.weight[0].shape);
    uint8_t *mask = mem_zalloc(len, 1);
    struct sparse *s;

    for (size_t i = 0; i < len; i++) {
        mask[i] = rng_unit(&r, i) < density;
        l->w[i] = mask[i] ? l->w[i] : 0;
    }
    ck_assert_int_eq(sparse_new(&s, mask, l->plan.out.d[0], (int)(len / (size_t)l->plan.out.d[0]), SPARSE_BY_ROW, NULL), ERR_OK);
    sparse_gather(s, l->w);
    mem_free(mask);
    return s;
}

/* The weight gradient of the kept numbers, where the dense one would have it. */
static void spread(struct layer *l, const struct sparse *s, struct plain *p)
{
    const size_t len = shape_len(&l->plan.weight[0].shape);
    float *whole = mem_vector(len);
    const struct sparse at = { .rows = s->rows, .cols = s->cols, .n = s->n, .by_row = s->by_row, .value = l->dw };
    float *kept = mem_vector(len);

    for (size_t i = 0; i < len; i++)
        whole[i] = NAN;
    sparse_scatter(&at, whole);
    for (size_t i = 0; i < len; i++) {
        kept[i] = isnan(whole[i]) ? 0 : whole[i];
        p->dwk[i] = isnan(whole[i]) ? 0 : p->dwk[i];
    }
    memcpy(l->dw, kept, len * sizeof *kept);
    mem_free(whole);
    mem_free(kept);
}

/* density < 0: a dense kernel. */
static void check_case(const struct sides *sides, bool clamp, double density)
{
    struct drawn d = case_of(sides);
    struct plain *p = &d.p;
    struct layer l;
    struct op_call c;
    struct sparse *sparse;
    struct err e = { 0 };
    size_t len, out, in;

    ck_assert_msg(layer_shape(&l, d.op, d.text, d.in, &e) == ERR_OK, "%s: %s", d.text, e.msg);
    layer_fill(&l, p->n, 1);
    len = shape_len(&l.plan.weight[0].shape), out = shape_len(&l.plan.out) * (size_t)p->n, in = shape_len(&l.in) * (size_t)p->n;
    snprintf(d.text + strlen(d.text), 60, " on %d x %d x %d x %d%s, density %g", p->c, p->h, p->w, p->n, clamp ? ", clamped" : "", density);
    sparse = density < 0 ? NULL : thin_out(&l, density);
    c = layer_call(&l, NULL);
    c.clamp = clamp;
    c.sparse = sparse;
    c.w[0] = sparse ? sparse->value : c.w[0];
    ck_assert_uint_eq(out, (size_t)p->o * (size_t)p->oh * (size_t)p->ow * (size_t)p->n);
    ck_assert_uint_eq(l.plan.macs, (uint64_t)len * (uint64_t)p->oh * (uint64_t)p->ow);
    l.op->forward(&c);
    plain_run(p, &l, clamp);
    for (size_t k = 0; clamp && k < out; k++)
        p->y[k] = p->y[k] > 0 ? p->y[k] : 0;
    near(l.y, p->y, p->size, out, 1, "y", d.text);
    l.op->backward(&c);
    near(l.dx, p->dx, p->dx_size, in, 1, "dx", d.text);
    c.accumulate = true;
    c.dx[0] = NULL;
    l.op->backward(&c);
    if (sparse)
        spread(&l, sparse, p);
    near(l.dw, p->dwk, p->dwk_size, len, 2, "dw added", d.text);
    for (int o = 0; o < p->o && l.plan.n_weights > 1; o++)
        ck_assert_msg(fabs((double)l.db[o] - 2 * p->db[o]) <= 1e-5 * p->oh * p->ow * p->n + 1e-5, "bias %d of %s: %g, not %g", o, d.text,
                      (double)l.db[o], 2 * p->db[o]);
    ck_assert(isnan(l.y[out]) && isnan(l.dx[in]) && isnan(l.dw[len]));
    sparse_free(sparse);
    plain_clear(p);
    layer_clear(&l);
}

static void skip_levels(int n)
{
    conv_skip_levels = n;
    winograd_skip_levels = n < winograd_n_levels() ? n : winograd_n_levels() - 1;
}

/* Once per level of vector code, the better ones left out. */
START_TEST(products)
{
    ck_assert(*conv_level_name(_i));
    skip_levels(_i);
    for (int i = 0; i < DRAWS; i++) {
        const struct sides s = draw_sides(i * conv_n_levels() + _i);

        check_case(&s, i % 2, -1);
    }
    for (int i = 0; i < N_LARGE; i += _i + 1)
        check_case(&large[i], (i + _i) % 2, -1);
    for (int o = 1; o <= COUNTS; o++) { /* register blocks of every size */
        const struct sides s = { CONV2D, .c = COUNTS + 1 - o, .h = 3, .w = 9, .o = o, .kh = 2, .kw = 3, .sh = 1, .sw = 1 + o % 2, .dh = 1, .dw = 1,
                                 .groups = 1, .same = true, .bias = true, .n = 130 };

        check_case(&s, o % 2, -1);
    }
    skip_levels(0);
}
END_TEST

START_TEST(sparse_products)
{
    static const double density[] = { 0, 0.02, 0.1, 0.3, 0.7, 1 };

    skip_levels(_i);
    for (int i = 0; i < DRAWS; i++) {
        const struct sides s = draw_sides(1000 + i * conv_n_levels() + _i);

        if (s.groups == 1 && s.kind != DEPTHWISE)
            check_case(&s, i % 2, density[i % 6]);
    }
    for (int i = 0; i < N_LARGE; i += _i + 1)
        if (large[i].kind != DEPTHWISE)
            check_case(&large[i], (i + _i) % 2, density[1 + (i + _i) % 3]);
    skip_levels(0);
}
END_TEST

/* ---- in integers ---- */

struct integers { int8_t *q; float *scale; struct int8 *k; };

/* A share of the kernel's numbers as integers, the others 0. */
static struct integers integers_of(const struct layer *l, const struct plain *p, double density)
{
    const struct rng r = { 4, RNG_TEST, 6, 0 };
    const size_t len = shape_len(&l->plan.weight[0].shape), rows = (size_t)p->o;
    const struct int8_window w = int8_window_of(p->c / p->groups, p->kh, p->kw);
    struct integers i = { mem_alloc(len), mem_vector(rows), NULL };

    for (size_t k = 0; k < len; k++)
        i.q[k] = (int8_t)(rng_unit(&r, 2 * k) < density ? (int)rng_below(&r, 2 * k + 1, 255) - 127 : 0);
    for (size_t k = 0; k < rows; k++)
        i.scale[k] = 0.01f * (float)(1 + k % 5);
    ck_assert_int_eq(int8_new_conv(&i.k, i.q, i.scale, p->o, p->o / p->groups, &w, NULL), ERR_OK);
    return i;
}

static void integers_clear(struct integers *i)
{
    int8_free(i->k);
    mem_free(i->q);
    mem_free(i->scale);
}

/* The byte of number `at` of sample s less the zero, as int8.h defines it. */
static int64_t plain_byte(const struct layer *l, size_t at, struct int8_scale s)
{
    float v = l->x[at] * (1 / s.s);

    return lrintf(fminf(fmaxf(v, s.zero ? -127 : 0), s.zero ? 127 : 255));
}

/* Between its strides a window of one number reads nothing. */
static bool is_read(int place, int outputs, int kernel, int stride) { return kernel > 1 || (place % stride == 0 && place / stride < outputs); }

/* Each group of a sample has its own. */
static struct int8_scale plain_scale(const struct plain *p, const struct layer *l, const struct integers *w, size_t s, int group)
{
    const size_t len = shape_len(&l->in) / (size_t)p->groups, first = (size_t)group * len;
    float low = 0, high = 0;

    for (size_t i = first; i < first + len; i++) {
        const float x = l->x[i * (size_t)l->n + s];

        if (is_read((int)(i / (size_t)p->w) % p->h, p->oh, p->kh, p->sh) && is_read((int)(i % (size_t)p->w), p->ow, p->kw, p->sw)) {
            low = fminf(low, x);
            high = fmaxf(high, x);
        }
    }
    return w->k->input.s == 0 ? int8_scale_of(low, high) : w->k->input;
}

static int64_t plain_integer(const struct plain *p, const struct layer *l, const struct integers *w, int o, int y, int x, size_t s, struct int8_scale scale)
{
    const int cg = p->c / p->groups, taps = p->kh * p->kw;
    int64_t sum = 0;

    for (int k = 0; k < cg * taps; k++) {
        const int c = o / (p->o / p->groups) * cg + k / taps;
        const int yy = y * p->sh - p->top + k / p->kw % p->kh * p->dh, xx = x * p->sw - p->left + k % p->kw * p->dw;

        if (yy >= 0 && yy < p->h && xx >= 0 && xx < p->w)
            sum += w->q[o * cg * taps + k] * plain_byte(l, (((size_t)c * (size_t)p->h + (size_t)yy) * (size_t)p->w + (size_t)xx) * (size_t)p->n + s, scale);
    }
    return sum;
}

static void same_integers(const struct plain *p, const struct layer *l, const struct integers *w, bool clamp, const char *text)
{
    for (size_t s = 0; s < (size_t)p->n; s += p->n > 20 ? 7 : 1) {
        struct int8_scale scale = { 0 };

        for (size_t i = 0; i < shape_len(&l->plan.out); i++) {
            const int o = (int)(i / ((size_t)p->oh * (size_t)p->ow)), at = (int)(i % ((size_t)p->oh * (size_t)p->ow)), rows = p->o / p->groups;

            if (at == 0 && o % rows == 0)
                scale = plain_scale(p, l, w, s, o / rows);
            float want = (float)plain_integer(p, l, w, o, at / p->ow, at % p->ow, s, scale) * (scale.s * w->scale[o]) + (l->plan.n_weights > 1 ? l->bias[o] : 0);

            want = clamp && want < 0 ? 0 : want;
            if (memcmp(&l->y[i * (size_t)p->n + s], &want, sizeof want) != 0)
                ck_abort_msg("%s: output %d of %d, %d, sample %zu is %.9g, not %.9g", text, o, at / p->ow, at % p->ow, s,
                             (double)l->y[i * (size_t)p->n + s], (double)want);
        }
    }
}

/* Exactly the plain sum, at every level, for any team, whatever the kernel has of zeros; fixed: one scale for all samples. */
static void check_integers(const struct sides *sides, bool clamp, double density, bool fixed, struct team *team)
{
    struct drawn d = case_of(sides);
    struct integers w;
    struct layer l;
    struct op_call c;
    struct err e = { 0 };

    ck_assert_msg(layer_shape(&l, d.op, d.text, d.in, &e) == ERR_OK, "%s: %s", d.text, e.msg);
    layer_fill(&l, d.p.n, team_size(team));
    for (size_t i = 0; i < shape_len(&l.in); i++)
        l.x[i * (size_t)d.p.n] = fabsf(l.x[i * (size_t)d.p.n]); /* a sample without negative numbers */
    w = integers_of(&l, &d.p, density);
    w.k->input = fixed ? int8_scale_of(-1.5f, 2) : w.k->input;
    snprintf(d.text + strlen(d.text), 100, " on %d x %d x %d x %d%s, integers of density %g", d.p.c, d.p.h, d.p.w, d.p.n, clamp ? ", clamped" : "", density);
    c = layer_call(&l, team);
    c.training = false;
    c.clamp = clamp;
    c.int8 = w.k;
    c.w[0] = NULL;
    l.op->forward(&c);
    same_integers(&d.p, &l, &w, clamp, d.text);
    ck_assert(isnan(l.y[shape_len(&l.plan.out) * (size_t)d.p.n]));
    integers_clear(&w);
    layer_clear(&l);
}

START_TEST(integer_products)
{
    static const double density[] = { 1, 0.02, 0.6, 0.1, 0 };
    struct team *team;

    ck_assert_int_eq(team_new(&team, 3, NULL), ERR_OK);
    int8_skip_levels = _i;
    for (int i = 0; i < 2 * DRAWS; i++) {
        const struct sides s = draw_sides(2000 + i * int8_n_levels() + _i);

        check_integers(&s, i % 2, density[i % 5], i % 3 == 0, NULL);
    }
    for (int i = 0; i < N_LARGE; i += _i + 1)
        check_integers(&large[i], (i + _i) % 2, density[(i + _i) % 4], i % 3 == 0, team);
    team_free(team);
    int8_skip_levels = 0;
}
END_TEST

/* ---- the same bytes for any team ---- */

static void run_all(struct layer *l, struct team *team, const struct sparse *sparse)
{
    struct op_call c = layer_call(l, team);

    c.sparse = sparse;
    c.w[0] = sparse ? sparse->value : c.w[0];
    l->op->forward(&c);
    l->op->backward(&c);
}

START_TEST(same_bytes_for_any_team)
{
    for (int k = 0; k < 2 * N_LARGE; k++) {
        struct drawn d = case_of(&large[k / 2]);
        struct layer one, many;
        struct sparse *sparse = NULL;
        struct team *team;
        size_t out, in, len;

        if (k % 2 && large[k / 2].kind == DEPTHWISE)
            continue;
        ck_assert_int_eq(layer_shape(&one, d.op, d.text, d.in, NULL), ERR_OK);
        ck_assert_int_eq(layer_shape(&many, d.op, d.text, d.in, NULL), ERR_OK);
        layer_fill(&one, d.p.n, 1);
        layer_fill(&many, d.p.n, _i);
        if (k % 2)
            sparse = thin_out(&one, 0.1);
        ck_assert_int_eq(team_new(&team, _i, NULL), ERR_OK);
        run_all(&one, NULL, sparse);
        run_all(&many, team, sparse);
        out = shape_len(&one.plan.out) * (size_t)d.p.n, in = shape_len(&one.in) * (size_t)d.p.n;
        len = sparse ? sparse->n : shape_len(&one.plan.weight[0].shape);
        ck_assert_msg(memcmp(one.y, many.y, out * sizeof(float)) == 0 && memcmp(one.dx, many.dx, in * sizeof(float)) == 0 &&
                      memcmp(one.dw, many.dw, len * sizeof(float)) == 0, "%s", d.text);
        team_free(team);
        sparse_free(sparse);
        layer_clear(&one);
        layer_clear(&many);
    }
}
END_TEST

/* Strange options have plans of finite size. */
START_TEST(strides_beyond_the_image)
{
    struct layer l;

    ck_assert_int_eq(layer_shape(&l, "conv2d", "{\"filters\": 1, \"kernel_height\": 2, \"kernel_width\": 2, \"stride_height\": 65536, "
                                 "\"stride_width\": 65536, \"dilation_height\": 65535, \"padding\": \"same\"}", (struct shape){ 3, { 1, 3, 3 } }, NULL), ERR_OK);
    layer_fill(&l, 3, 1);
    run_all(&l, NULL, NULL);
    for (int i = 0; i < 3 * 3 * 3; i++)
        ck_assert(isfinite(l.dx[i]));
    layer_clear(&l);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "convolutions");

    gemm_init();
    tcase_add_loop_test(tc, products, 0, conv_n_levels());
    tcase_add_loop_test(tc, integer_products, 0, int8_n_levels());
    tcase_add_loop_test(tc, sparse_products, 0, conv_n_levels());
    tcase_add_loop_test(tc, same_bytes_for_any_team, 2, 5);
    tcase_add_test(tc, strides_beyond_the_image);
}
SUITE_MAIN("convolutions", cases)
