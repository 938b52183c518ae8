/* core/sparse_kernels.c: the three products of a sparse layer (see sparse.h).
 *
 * The vector code stands once, in sparse_level.h, and is compiled for each level that a processor may have; the best is chosen at run
 * time. A batch is cut by columns: whole vectors of the best level first, what is left by the next one, the last few columns one by one. Every
 * result is computed by one tile, in an order that the structure and the batch alone decide: threads change no byte. The build allows contraction
 * to fused multiply-adds in this file, and leaves vectors to the code: what the compiler makes of the loops over single columns is slower. */
#include <string.h>

#include "core/simd.h"
#include "core/sparse.h"

enum { SMALL = 1 << 17 }; /* multiply-adds: less is not worth waking the team */

/* out (lines, n) from one block of in (across, n): added to, but for the first block. */
struct product {
    const struct sparse_order *order;
    int block;
    const float *value, *in;
    const float *bias; /* [lines], or NULL */
    float *out;        /* gradients: may be NULL */
    const float *line; /* gradients: (lines, n), x by columns and dy by rows */
    float *dw;         /* gradients: [n] */
    size_t n;
};

/* Where each line begins in the block, and behind them where it ends. */
static const uint32_t *block_start(const struct product *p) { return p->order->start + (size_t)p->block * (size_t)p->order->n_lines; }

#define LEVEL_CODE "core/sparse_level.h"
#include "core/vector_levels.h"

/* ---- one column: of batch 1, or left over ---- */

/* Four sums side by side: quicker here than gathering into vectors. x has a number every ld floats. */
SIMD_INLINE float dot(const float *value, const uint32_t *number, const uint32_t *across, uint32_t n, const float *x, const size_t ld)
{
    float a = 0, b = 0, c = 0, d = 0;
    uint32_t k = 0;

    for (; k + 4 <= n; k += 4) {
        a += value[number ? number[k] : k] * x[across[k] * ld];
        b += value[number ? number[k + 1] : k + 1] * x[across[k + 1] * ld];
        c += value[number ? number[k + 2] : k + 2] * x[across[k + 2] * ld];
        d += value[number ? number[k + 3] : k + 3] * x[across[k + 3] * ld];
    }
    for (; k < n; k++)
        a += value[number ? number[k] : k] * x[across[k] * ld];
    return (a + b) + (c + d);
}

/* What a line's sum in a block is added to. */
static float base(const struct product *p, int line, size_t at)
{
    return p->block > 0 ? p->out[(size_t)line * p->n + at] : p->bias ? p->bias[line] : 0;
}

/* Batch 1: no strides. */
SIMD static void product_vector(const struct product *p, int first, int last)
{
    const uint32_t *start = block_start(p), *end = start + p->order->n_lines, *across = p->order->across, *number = p->order->number;
    const float *value = p->value, *x = p->in;

    for (int l = first; l < last; l++) {
        uint32_t k = start[l], n = end[l] - k;
        float sum = number ? dot(value, number + k, across + k, n, x, 1) : dot(value + k, NULL, across + k, n, x, 1);

        p->out[l] = base(p, l, 0) + sum;
    }
}

SIMD static void product_single(const struct product *p, int first, int last, size_t from, size_t to)
{
    const struct sparse_order *o = p->order;
    const uint32_t *start = block_start(p), *end = start + o->n_lines;

    if (p->n == 1) {
        product_vector(p, first, last);
        return;
    }
    for (size_t at = from; at < to; at++)
        for (int l = first; l < last; l++) {
            uint32_t k = start[l], n = end[l] - k;
            float sum = o->number ? dot(p->value, o->number + k, o->across + k, n, p->in + at, p->n)
                                  : dot(p->value + k, NULL, o->across + k, n, p->in + at, p->n);

            p->out[(size_t)l * p->n + at] = base(p, l, at) + sum;
        }
}

static void backward_single(const struct product *p, int first, int last, size_t from, size_t to, bool add)
{
    const struct sparse_order *o = p->order;
    const uint32_t *start = block_start(p), *end = start + o->n_lines;

    for (size_t at = from; at < to; at++, add = true)
        for (int l = first; l < last; l++) {
            const float *in = p->in + at, line = p->line[(size_t)l * p->n + at];
            float sum = p->out ? base(p, l, at) : 0;

            for (uint32_t k = start[l]; k < end[l]; k++) {
                float x = in[o->across[k] * p->n];

                sum += p->value[k] * x;
                p->dw[k] = (add ? p->dw[k] : 0) + line * x;
            }
            if (p->out)
                p->out[(size_t)l * p->n + at] = sum;
        }
}

/* ---- levels ---- */

struct level {
    const char *name;
    size_t lanes;
    void (*product)(const struct product *p, int first, int last, size_t from, size_t to);
    void (*backward)(const struct product *p, int first, int last, size_t from, size_t to, bool add);
};
static const struct level levels[] = {
#if defined(SIMD_X86_LEVELS)
    { "avx512", 16, product_avx512, backward_avx512 },
    { "avx2", 8, product_avx2, backward_avx2 },
#endif
    { "portable", 4, product_portable, backward_portable },
    { "single", 1, product_single, backward_single },
};
enum { N_LEVELS = sizeof levels / sizeof levels[0] };
int sparse_skip_levels;

int sparse_n_levels(void)
{
    return N_LEVELS - simd_best_level();
}

const char *sparse_level_name(int level)
{
    return levels[simd_best_level() + level].name;
}

/* Calls level after level with its part of the batch. */
static void product_lines(const struct product *p, int first, int last)
{
    size_t at = 0;

    for (int i = simd_best_level() + sparse_skip_levels; at < p->n; i++) {
        size_t to = at + (p->n - at) / levels[i].lanes * levels[i].lanes;

        if (to > at)
            levels[i].product(p, first, last, at, to);
        at = to;
    }
}

static void product_tile(void *ctx, int tile)
{
    const struct product *p = ctx;

    product_lines(p, p->order->tile[tile], p->order->tile[tile + 1]);
}

static void product_all(struct product *p, size_t n, struct team *team)
{
    for (; p->block < p->order->n_blocks; p->block++)
        team_for((double)n * (double)p->n < SMALL ? NULL : team, p->order->n_tiles, product_tile, p);
}

void sparse_forward(const struct sparse *s, const float *x, const float *bias, float *y, int n, struct team *team)
{
    if (n == 1 && sparse_single_forward(s, x, bias, y))
        return;
    product_all(&(struct product){ .order = &s->by_row, .value = s->value, .in = x, .bias = bias, .out = y, .n = (size_t)n }, s->n, team);
}

void sparse_input_gradient(const struct sparse *s, const float *dy, float *dx, int n, struct team *team)
{
    product_all(&(struct product){ .order = &s->by_col, .value = s->value, .in = dy, .out = dx, .n = (size_t)n }, s->n, team);
}

void sparse_gradients(const struct sparse *s, int block, int tile, const float *x, const float *dy, float *dx, float *dw, int n, bool accumulate)
{
    const struct sparse_order *o = sparse_leading(s);
    const bool by_row = o == &s->by_row;
    const struct product p = { .order = o, .block = block, .value = s->value, .in = by_row ? x : dy, .line = by_row ? dy : x, .out = dx, .dw = dw,
                               .n = (size_t)n };
    size_t at = 0;

    for (int i = simd_best_level() + sparse_skip_levels; at < p.n; i++) {
        size_t to = at + (p.n - at) / levels[i].lanes * levels[i].lanes;

        if (to > at)
            levels[i].backward(&p, o->tile[tile], o->tile[tile + 1], at, to, accumulate || at > 0);
        at = to;
    }
}
