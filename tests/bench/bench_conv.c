/* The three products of a convolution: direct (core/conv.c), Winograd where it can, and gathered inputs (im2col, a row of the output at once) with
 * OpenBLAS: billions of operations (2 * c * o * kh * kw * oh * ow * n) per second of one thread, in the same run and alternated; the best of some
 * rounds. Also how much faster the sparse kernels are than the direct ones at some densities: what conv_sparse_density is calibrated by; and
 * the forward product in integers against the better one in floats, with scales of each sample's own and with a fixed one.
 *
 *     cmake --build build --target bench_conv && build/tests/bench_conv [--batch N] [--rounds N] [--skip N] [--threads N] [--sparse]
 *             [--int8] [--direct] [c o h k stride] ...
 *
 * Padding is "same" for kernels of 3, "valid" else. --skip: leaves out the N best levels of vector code. */
#include <string.h>

#include "core/conv.h"
#include "core/gemm.h"
#include "core/winograd.h"
#include "tests/bench/bench.h"

enum { FORWARD, INPUT, WEIGHT, PRODUCTS };

/* One thread's own time: the machine may have other work. */
static clockid_t clock_used = CLOCK_THREAD_CPUTIME_ID;

struct layer {
    struct conv g;
    int n;
    float *x, *y, *dx, *dy, *w, *dw, *bias, *db, *tile, *state, *scratch;
    struct sparse *s;
    struct int8 *int8;
    struct winograd_shape wino;
    struct winograd_room room;
    struct team *team;
};

static size_t in_len(const struct layer *l) { return (size_t)(l->g.c * l->g.h * l->g.w) * (size_t)l->n; }
static size_t out_len(const struct layer *l) { return (size_t)(l->g.o * l->g.oh * l->g.ow) * (size_t)l->n; }
static size_t kernel_len(const struct layer *l) { return (size_t)(l->g.o * (l->g.c / l->g.groups) * l->g.kh * l->g.kw); }

static void layer_init(struct layer *l, const int s[5], int n, struct team *team)
{
    const int c = s[0], o = s[1] < 0 ? c : s[1], h = s[2], k = s[3], stride = s[4], same = k == 3;
    const int out = same ? (h + stride - 1) / stride : (h - k) / stride + 1, pad = same ? (out - 1) * stride + k - h : 0;
    const int threads = team_size(team);

    *l = (struct layer){ .g = { c, h, h, o, out, out, k, k, stride, stride, 1, 1, pad / 2, pad / 2, s[1] < 0 ? c : 1 }, .n = n, .team = team };
    l->x = filled(in_len(l), 1), l->dx = filled(in_len(l), 2), l->y = filled(out_len(l), 3), l->dy = filled(out_len(l), 4);
    l->w = filled(kernel_len(l), 5), l->dw = filled(kernel_len(l), 6), l->bias = filled((size_t)o, 7), l->db = filled((size_t)o, 8);
    l->tile = filled((size_t)(c * k * k * out) * (size_t)n, 9);
    l->state = filled(conv_state_len(&l->g) + conv_state_len_per_sample(&l->g) * (size_t)n, 10);
    l->scratch = filled(conv_scratch_len(&l->g) * (size_t)threads, 11);
    l->wino = (struct winograd_shape){ c, o, h, h, n, 1, 1, 1, 1 };
    if (k == 3 && stride == 1 && s[1] > 0)
        l->room = (struct winograd_room){ filled(winograd_shared_len(&l->wino), 12),
                                          filled(winograd_scratch_len(&l->wino) * (size_t)threads, 13), winograd_scratch_len(&l->wino) };
}

static void layer_clear(struct layer *l)
{
    float *a[] = { l->x, l->y, l->dx, l->dy, l->w, l->dw, l->bias, l->db, l->tile, l->state, l->scratch, l->room.shared, l->room.scratch };

    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++)
        mem_free(a[i]);
    sparse_free(l->s);
    int8_free(l->int8);
}

static void set_density(struct layer *l, double density)
{
    const struct rng r = { 1, RNG_TEST, 14, 0 };
    uint8_t *mask = mem_alloc(kernel_len(l));

    sparse_free(l->s);
    for (size_t i = 0; mask && i < kernel_len(l); i++)
        mask[i] = rng_unit(&r, i) < density;
    if (!mask || sparse_new(&l->s, mask, l->g.o, (int)(kernel_len(l) / (size_t)l->g.o), SPARSE_BY_ROW, NULL) != ERR_OK)
        exit(1);
    sparse_gather(l->s, l->w);
    mem_free(mask);
}

/* Integers that are not 0 with that chance; input 0: each sample has its own scale. */
static void set_int8(struct layer *l, double density, float input)
{
    const struct rng r = { 1, RNG_TEST, 15, 0 };
    const struct int8_window w = int8_window_of(l->g.c / l->g.groups, l->g.kh, l->g.kw);
    int8_t *q = mem_alloc(kernel_len(l));
    float *scale = filled((size_t)l->g.o, 16);

    int8_free(l->int8);
    for (size_t i = 0; q && i < kernel_len(l); i++)
        q[i] = (int8_t)(rng_unit(&r, 2 * i) < density ? (int)rng_below(&r, 2 * i + 1, 255) - 127 : 0);
    if (!q || int8_new_conv(&l->int8, q, scale, l->g.o, l->g.o / l->g.groups, &w, NULL) != ERR_OK)
        exit(1);
    l->int8->input.s = input;
    mem_free(q);
    mem_free(scale);
}

/* Sparse or in integers, once a density is set. */
static void direct(struct layer *l, int product)
{
    const struct shape in = { 3, { l->g.c, l->g.h, l->g.w } };
    struct op_call c = { .sparse = l->s, .int8 = l->int8, .in_shape = { &in }, .n = l->n, .x = { l->x }, .y = l->y, .w = { l->w, l->bias }, .state = l->state, .scratch = l->scratch,
                         .scratch_stride = conv_scratch_len(&l->g), .dy = l->dy, .dw = { l->dw, l->db }, .team = l->team };

    switch (product) {
    case FORWARD: conv_forward(&l->g, &c); break;
    case INPUT: c.dx[0] = l->dx; conv_input_gradient(&l->g, &c); break;
    case WEIGHT: conv_weight_gradient(&l->g, &c); break;
    }
}

static void winograd(struct layer *l, int product)
{
    switch (product) {
    case FORWARD: winograd_forward(&l->wino, l->x, l->w, &(struct winograd_behind){ .bias = l->bias }, l->y, &l->room, l->team); break;
    case INPUT: winograd_input_gradient(&l->wino, l->dy, NULL, l->w, l->dx, &l->room, l->team); break;
    case WEIGHT: winograd_weight_gradient(&l->wino, l->x, l->dy, NULL, l->dw, l->db, false, &l->room, l->team); break;
    }
}

/* One row of the output's inputs, [c][kh][kw][ow][n], from x or added to dx. */
static void gather(struct layer *l, int y, bool back)
{
    const struct conv *g = &l->g;
    const size_t n = (size_t)l->n;
    float *t = l->tile;

    for (int c = 0; c < g->c; c++)
        for (int i = 0; i < g->kh; i++)
            for (int j = 0; j < g->kw; j++)
                for (int x = 0; x < g->ow; x++, t += n) {
                    int yy = y * g->sh - g->top + i, xx = x * g->sw - g->left + j;
                    size_t at = ((size_t)(c * g->h + yy) * (size_t)g->w + (size_t)xx) * n;

                    if (yy < 0 || yy >= g->h || xx < 0 || xx >= g->w) {
                        if (!back)
                            memset(t, 0, n * sizeof *t);
                    } else if (!back) {
                        memcpy(t, l->x + at, n * sizeof *t);
                    } else {
                        for (size_t s = 0; s < n; s++)
                            l->dx[at + s] += t[s];
                    }
                }
}

static void gathered(struct layer *l, int product)
{
    const struct conv *g = &l->g;
    const int k = g->c * g->kh * g->kw, run = g->ow * l->n, stride = g->oh * run;

    if (product == INPUT)
        memset(l->dx, 0, in_len(l) * sizeof *l->dx);
    for (int y = 0; y < g->oh; y++) {
        const float *dy = l->dy + (size_t)y * (size_t)run;

        if (product != INPUT)
            gather(l, y, false);
        switch (product) {
        case FORWARD: blas(false, false, g->o, run, k, l->w, k, l->tile, run, 0, l->y + (size_t)y * (size_t)run, stride); break;
        case INPUT: blas(true, false, k, run, g->o, l->w, k, dy, stride, 0, l->tile, run); gather(l, y, true); break;
        case WEIGHT: blas(false, true, g->o, k, run, dy, stride, l->tile, run, y > 0, l->dw, k); break;
        }
    }
}

static double seconds(struct layer *l, void (*run)(struct layer *l, int product), int product, int repeats)
{
    double start = seconds_of(clock_used);

    for (int i = 0; i < repeats; i++)
        run(l, product);
    return (seconds_of(clock_used) - start) / repeats;
}

enum { WAYS = 3 };
static void (*const way[WAYS])(struct layer *l, int product) = { direct, winograd, gathered };

static void measure(struct layer *l, int rounds, bool only)
{
    double best[WAYS][PRODUCTS], flops = 2.0 * (double)kernel_len(l) * l->g.oh * l->g.ow * l->n;

    for (int p = 0; p < PRODUCTS; p++)
        for (int r = 0; r < rounds; r++)
            for (int k = 0; k < (only ? 1 : WAYS); k++) {
                double t;

                best[k][p] = r == 0 ? 1e9 : best[k][p];
                if ((k == 1 && !l->room.shared) || (k == 2 && l->g.groups > 1))
                    continue;
                t = seconds(l, way[k], p, 1 + (int)(2e7 / flops));
                best[k][p] = t < best[k][p] ? t : best[k][p];
            }
    printf("%4d->%-4d %3dx%-3d k %d s %d n %3d", l->g.c, l->g.o, l->g.h, l->g.w, l->g.kh, l->g.sh, l->n);
    for (int k = 0; k < (only ? 1 : WAYS); k++) {
        printf(" | %s", k == 0 ? "direct" : k == 1 ? "winograd" : "gathered");
        for (int p = 0; p < PRODUCTS; p++)
            printf(" %6.1f", flops / best[k][p] * 1e-9);
        printf(" (%.3f ms)", best[k][0] > 1e8 ? 0 : 1e3 * (best[k][0] + best[k][1] + best[k][2]));
    }
    printf("\n");
    fflush(stdout);
}

/* Time of the three products, the best of each. */
static double all_products(struct layer *l, void (*run)(struct layer *l, int product), int rounds, double best[PRODUCTS])
{
    double sum = 0;

    for (int p = 0; p < PRODUCTS; p++) {
        best[p] = 1e9;
        for (int r = 0; r < rounds; r++) {
            double t = seconds(l, run, p, 1);

            best[p] = t < best[p] ? t : best[p];
        }
        sum += best[p];
    }
    return sum;
}

static void densities(struct layer *l, int rounds)
{
    static const double density[] = { 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.04, 0.02 };
    double d[PRODUCTS], s[PRODUCTS], dense = all_products(l, direct, rounds, d);

    if (l->room.shared) {
        double by_winograd = all_products(l, winograd, rounds, s);

        if (by_winograd < dense) {
            memcpy(d, s, sizeof d);
            dense = by_winograd;
        }
    }
    printf("%4d->%-4d %3dx%-3d k %d s %d n %3d:", l->g.c, l->g.o, l->g.h, l->g.w, l->g.kh, l->g.sh, l->n);
    for (size_t k = 0; k < sizeof density / sizeof density[0]; k++) {
        double t;

        set_density(l, density[k]);
        t = all_products(l, direct, rounds, s);
        printf(" %g: %.2f (%.2f %.2f %.2f)", density[k], dense / t, d[0] / s[0], d[1] / s[1], d[2] / s[2]);
    }
    printf("\n");
    fflush(stdout);
}

static double forward_only(struct layer *l, void (*run)(struct layer *l, int product), int rounds)
{
    double best = 1e9;

    for (int r = 0; r < rounds; r++) {
        double t = seconds(l, run, FORWARD, 1);

        best = t < best ? t : best;
    }
    return best;
}

static void integers(struct layer *l, int rounds)
{
    static const double density[] = { 1, 0.2, 0.1, 0.05, 0.02 };
    double t = forward_only(l, direct, rounds), by_winograd = l->room.shared ? forward_only(l, winograd, rounds) : t;

    t = by_winograd < t ? by_winograd : t;
    printf("%4d->%-4d %3dx%-3d k %d s %d n %3d: floats %.3f ms; times faster, own scales (fixed):", l->g.c, l->g.o, l->g.h, l->g.w, l->g.kh, l->g.sh,
           l->n, 1e3 * t);
    for (size_t k = 0; k < sizeof density / sizeof density[0]; k++) {
        double own, fixed;

        set_int8(l, density[k], 0);
        own = forward_only(l, direct, rounds);
        set_int8(l, density[k], 0.01f);
        fixed = forward_only(l, direct, rounds);
        printf(" %g: %.2f (%.2f)", density[k], t / own, t / fixed);
    }
    printf("\n");
    fflush(stdout);
}

static const int shapes[][5] = { /* outputs -1: depthwise */
    { 1, 20, 28, 5, 1 }, { 20, 50, 12, 5, 1 }, { 3, 16, 32, 3, 1 }, { 16, 16, 32, 3, 1 }, { 16, 32, 32, 3, 2 }, { 32, 32, 16, 3, 1 },
    { 32, 64, 16, 3, 2 }, { 64, 64, 8, 3, 1 }, { 16, 32, 32, 1, 2 }, { 64, 64, 8, 1, 1 }, { 11, 13, 16, 3, 1 }, { 128, 128, 16, 3, 1 },
    { 256, 256, 8, 3, 1 }, { 32, -1, 16, 3, 1 },
};

enum { MAX_CUSTOM = 64 };

int main(int argc, char **argv)
{
    static int custom[MAX_CUSTOM][5];
    int n = 128, rounds = 10, threads = 1, numbers = 0;
    bool only = false, sparse = false, int8 = false;
    struct team *team = NULL;
    struct layer l;

    gemm_choose_core(argv);
    gemm_init();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--batch") == 0 && i + 1 < argc)
            n = (int)strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            rounds = (int)strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            threads = (int)strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--skip") == 0 && i + 1 < argc)
            conv_skip_levels = winograd_skip_levels = int8_skip_levels = (int)strtol(argv[++i], NULL, 10) % conv_n_levels();
        else if (strcmp(argv[i], "--direct") == 0)
            only = true;
        else if (strcmp(argv[i], "--sparse") == 0)
            sparse = true;
        else if (strcmp(argv[i], "--int8") == 0)
            int8 = true;
        else if (numbers < 5 * MAX_CUSTOM) {
            custom[numbers / 5][numbers % 5] = (int)strtol(argv[i], NULL, 10);
            numbers++;
        }
    }
    if (threads > 1 && team_new(&team, threads, NULL) != ERR_OK)
        return 1;
    clock_used = team ? CLOCK_MONOTONIC : clock_used;
    for (int i = 0; i < (numbers ? numbers / 5 : (int)(sizeof shapes / sizeof shapes[0])); i++) {
        layer_init(&l, numbers ? custom[i] : shapes[i], n, team);
        if (int8)
            integers(&l, rounds);
        else if (!sparse)
            measure(&l, rounds, only);
        else if (l.g.groups == 1)
            densities(&l, rounds);
        layer_clear(&l);
    }
    team_free(team);
    return 0;
}
