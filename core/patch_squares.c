/* core/patch_squares.c: a kernel's gradient sample by sample, squared and added up (patch.h).
 *
 * A number's gradient by one sample is a sum over places of dy and x. Samples lie side by side, so it is computed for a vector of them at once, without
 * sums across lanes until the squares: for each vector x is packed with its padding, so that a column of the kernel is a place in it, then a
 * register block of outputs by columns walks over all places. */
#include <string.h>

#include "core/patch.h"
#include "core/simd.h"

enum { SAMPLES = 16, OUTPUTS = 4, COLUMNS = 4 };
typedef float samples __attribute__((vector_size(SAMPLES * sizeof(float))));

struct squares {
    const struct conv *g;
    const float *x, *dy; /* c,h,w,n; o,oh,ow,n */
    int n, first, here;  /* batch; samples first .. first + here - 1 are packed */
    samples *px, *pdy;   /* c,height,width; o,oh,ow */
    float *sum;
};

static int height(const struct conv *g) { return (g->oh - 1) * g->sh + (g->kh - 1) * g->dh + 1; }
static int width(const struct conv *g) { return (g->ow - 1) * g->sw + (g->kw - 1) * g->dw + 1; }
static size_t channel_len(const struct conv *g) { return (size_t)height(g) * (size_t)width(g); }
static int n_blocks(const struct conv *g) { return (g->o / g->groups + OUTPUTS - 1) / OUTPUTS; }

size_t patch_squares_len(const struct conv *g)
{
    return SAMPLES * ((size_t)g->c * channel_len(g) + (size_t)g->o * (size_t)patch_places(g));
}

/* from: of all samples; NULL: zeros. */
static void pack(const struct squares *s, samples *to, const float *from)
{
    float lane[SAMPLES] = { 0 };

    if (from)
        memcpy(lane, from + s->first, (size_t)s->here * sizeof *lane);
    memcpy(to, lane, sizeof *to);
}

static void pack_input(const struct squares *s, int c)
{
    const struct conv *g = s->g;
    samples *to = s->px + (size_t)c * channel_len(g);

    for (int y = -g->top; y < height(g) - g->top; y++)
        for (int x = -g->left; x < width(g) - g->left; x++) {
            const bool inside = y >= 0 && y < g->h && x >= 0 && x < g->w;
            const int64_t at = ((int64_t)c * g->h + y) * g->w + x;

            pack(s, to++, inside ? s->x + (size_t)at * (size_t)s->n : NULL);
        }
}

/* A channel of the input, or an output. */
static void pack_tile(void *ctx, int tile)
{
    const struct squares *s = ctx;
    const size_t places = (size_t)patch_places(s->g), o = (size_t)(tile - s->g->c);

    if (tile < s->g->c)
        pack_input(s, tile);
    else
        for (size_t p = 0; p < places; p++)
            pack(s, &s->pdy[o * places + p], s->dy + (o * places + p) * (size_t)s->n);
}

/* q outputs from o on, t columns whose places are x. */
SIMD_INLINE void block(const struct squares *s, int o, const samples *const *x, float *sum, size_t cols, const int q, const int t)
{
    const struct conv *g = s->g;
    const size_t places = (size_t)patch_places(g);
    const samples *dy = s->pdy + (size_t)o * places;
    samples a[OUTPUTS][COLUMNS] = { { { 0 } } };

    for (int y = 0; y < g->oh; y++)
        for (int at = 0; at < g->ow; at++, dy++) {
            const size_t place = (size_t)y * (size_t)g->sh * (size_t)width(g) + (size_t)at * (size_t)g->sw;

            SIMD_UNROLL
            for (int j = 0; j < t; j++) {
                SIMD_UNROLL
                for (int i = 0; i < q; i++)
                    a[i][j] += dy[(size_t)i * places] * x[j][place];
            }
        }
    for (int i = 0; i < q; i++)
        for (int j = 0; j < t; j++) {
            float total = 0;

            a[i][j] *= a[i][j];
            for (int lane = 0; lane < SAMPLES; lane++)
                total += a[i][j][lane];
            sum[(size_t)i * cols + (size_t)j] += total;
        }
}

SIMD_INLINE void columns(const struct squares *s, int group, int o, const int q)
{
    const struct conv *g = s->g;
    const int cols = patch_columns(g), taps = patch_taps(g);
    float *sum = s->sum + (size_t)o * (size_t)cols;

    for (int j = 0; j < cols; j += COLUMNS) {
        const int t = cols - j < COLUMNS ? cols - j : COLUMNS;
        const samples *x[COLUMNS];

        for (int i = 0; i < t; i++) {
            const int tap = (j + i) % taps;

            x[i] = s->px + (size_t)(group * (g->c / g->groups) + (j + i) / taps) * channel_len(g) + (size_t)(tap / g->kw * g->dh) * (size_t)width(g) +
                   (size_t)(tap % g->kw * g->dw);
        }
        if (t == COLUMNS)
            block(s, o, x, sum + j, (size_t)cols, q, COLUMNS);
        else
            for (int i = 0; i < t; i++)
                block(s, o, x + i, sum + j + i, (size_t)cols, q, 1);
    }
}

SIMD static void outputs(const struct squares *s, int group, int o, int q)
{
    if (q == OUTPUTS)
        columns(s, group, o, OUTPUTS);
    else
        for (int i = 0; i < q; i++)
            columns(s, group, o + i, 1);
}

static void product_tile(void *ctx, int tile)
{
    const struct squares *s = ctx;
    const int rows = s->g->o / s->g->groups, group = tile / n_blocks(s->g), first = tile % n_blocks(s->g) * OUTPUTS;

    outputs(s, group, group * rows + first, rows - first < OUTPUTS ? rows - first : OUTPUTS);
}

void patch_squares(const struct conv *g, const float *x, const float *dy, int n, float *sum, float *room, struct team *team)
{
    struct squares s = { .g = g, .x = x, .dy = dy, .n = n, .px = (samples *)(void *)room, .sum = sum };

    s.pdy = s.px + (size_t)g->c * channel_len(g);
    for (s.first = 0; s.first < n; s.first += SAMPLES) {
        s.here = n - s.first < SAMPLES ? n - s.first : SAMPLES;
        team_for(team, g->c + g->o, pack_tile, &s);
        team_for(team, g->groups * n_blocks(g), product_tile, &s);
    }
}
