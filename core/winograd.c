/* core/winograd.c: see winograd.h.
 *
 * The output is cut into cells: a tile of 2x2 outputs times one vector of the batch. Some cells make an item of work: their inputs are
 * transformed into scratch that fits the second-level cache, for each of the 16 numbers of a transformed tile the channels are multiplied
 * in register blocks, and the products are transformed back at once, while they are in the first-level cache. In scratch all lies
 * contiguous: strides of whole batches, often powers of two, are met in the transforms alone. Many channels come in chunks, whose products add up.
 *
 * The vector code stands once, in winograd_level.h, and is compiled for each level that a processor may have. Items are cut by shape and level
 * alone. The build allows contraction to fused multiply-adds in this file and leaves vectors to the code. */
#include "core/winograd.h"

#include <string.h>

#include "core/simd.h"

enum {
    BLOCK = 3,        /* cells of a register block */
    MOST_CHANNELS = 64, /* of a chunk; outputs of an item where there is more than one chunk */
    MOST_BLOCKS = 32,
    GROUP = 8,        /* neighbouring vectors of the batch */
    SMALL = 1 << 17   /* multiply-adds: less is not worth waking the team */
};

/* One tile times one vector of the batch. */
struct cell {
    int out_y, out_x, y, x; /* first output, first input (may lie in the padding) */
    int at, n;              /* columns of the batch */
    unsigned rows, cols;    /* bit i: row i of the inputs is there */
};
/* One convolution: a forward, or an input gradient, which is one with kernels turned round. */
struct pass {
    int c, o, h, w, oh, ow, n, top, left;
    const float *in, *mask, *u, *bias;
    float *out;
    bool clamp;
    /* the plan */
    const struct level *level;
    int chunk, band;      /* channels of a chunk, outputs of an item */
    int blocks, n_cells, n_parts; /* blocks of an item at most, cells and items of a band */
    int tiles_y, tiles_x, vectors;
    /* the call */
    const float *w33;     /* kernels */
    bool turned;
    const struct winograd_room *room;
};

#define UNROLL _Pragma("GCC unroll 16")

#if defined(__x86_64__)
#define LANES 16
#define ROWS 8
#define LEVEL(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#include "core/winograd_level.h"

#define LANES 8
#define ROWS 4
#define LEVEL(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#include "core/winograd_level.h"

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

#define LANES 4
#define ROWS 4
#define LEVEL(name) name##_portable
#define TARGET
#include "core/winograd_level.h"

struct level {
    const char *name;
    int lanes, rows;
    bool (*is_there)(void); /* NULL: always */
    void (*convolve)(const struct pass *p, const struct cell *cell, int n, int first, int last, float *scratch);
};
static const struct level levels[] = {
#if defined(__x86_64__)
    { "avx512", 16, 8, has_avx512, convolve_avx512 },
    { "avx2", 8, 4, has_avx2, convolve_avx2 },
#endif
    { "portable", 4, 4, NULL, convolve_portable },
};
enum { N_LEVELS = sizeof levels / sizeof levels[0] };
int winograd_skip_levels;

static int best_level(void)
{
    int i = 0;

    while (levels[i].is_there && !levels[i].is_there())
        i++;
    return i;
}

int winograd_n_levels(void)
{
    return N_LEVELS - best_level();
}

const char *winograd_level_name(int level)
{
    return levels[best_level() + level].name;
}

/* ---- plan ---- */

static int parts(int n, int most)
{
    return (n + most - 1) / most;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* What of the plan follows from c, o, oh, ow and n. */
static void plan(struct pass *p)
{
    const struct level *l = &levels[best_level() + winograd_skip_levels];

    p->level = l;
    p->chunk = parts(p->c, parts(p->c, MOST_CHANNELS));
    p->band = p->chunk == p->c ? p->o : MOST_CHANNELS;
    p->blocks = smaller(MOST_BLOCKS, parts(MOST_CHANNELS * 16 / l->lanes, p->chunk));
    p->tiles_y = parts(p->oh, 2);
    p->tiles_x = parts(p->ow, 2);
    p->vectors = parts(p->n, l->lanes);
    p->n_cells = p->tiles_y * p->tiles_x * p->vectors;
    p->n_parts = parts(p->n_cells, p->blocks * BLOCK);
}

static struct pass forward_pass(const struct winograd_shape *s)
{
    struct pass p = { .c = s->c, .o = s->o, .h = s->h, .w = s->w, .oh = s->h + s->pad_top + s->pad_bottom - 2,
                      .ow = s->w + s->pad_left + s->pad_right - 2, .n = s->n, .top = s->pad_top, .left = s->pad_left };

    plan(&p);
    return p;
}

static struct pass backward_pass(const struct winograd_shape *s)
{
    struct pass f = forward_pass(s), p = { .c = f.o, .o = f.c, .h = f.oh, .w = f.ow, .oh = f.h, .ow = f.w, .n = f.n, .top = 2 - f.top,
                                           .left = 2 - f.left, .turned = true };

    plan(&p);
    return p;
}

static size_t kernels_len(const struct pass *p)
{
    return 16 * (size_t)p->c * (size_t)(parts(p->o, p->level->rows) * p->level->rows);
}

static size_t pass_scratch(const struct pass *p)
{
    const size_t width = (size_t)(BLOCK * p->level->lanes), kept = p->chunk == p->c ? 1 : (size_t)(p->blocks * p->band / p->level->rows);

    return 16 * ((size_t)p->blocks * ((size_t)p->chunk * width + (size_t)p->level->lanes) + kept * (size_t)p->level->rows * width);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t winograd_shared_len(const struct winograd_shape *s)
{
    const struct pass f = forward_pass(s), b = backward_pass(s);

    return larger(kernels_len(&f), kernels_len(&b));
}

size_t winograd_scratch_len(const struct winograd_shape *s)
{
    const struct pass f = forward_pass(s), b = backward_pass(s);

    return larger(pass_scratch(&f), pass_scratch(&b));
}

/* Cells run over the vectors of a group, then tiles, then groups. */
static struct cell cell_at(const struct pass *p, int i)
{
    const int tiles = p->tiles_y * p->tiles_x, group = smaller(i / (tiles * GROUP), (p->vectors - 1) / GROUP);
    const int in_group = smaller(p->vectors - group * GROUP, GROUP), left = i - group * GROUP * tiles;
    const int tile = left / in_group, at = (group * GROUP + left % in_group) * p->level->lanes;
    struct cell t = { .out_y = tile / p->tiles_x * 2, .out_x = tile % p->tiles_x * 2, .at = at, .n = smaller(p->n - at, p->level->lanes) };

    t.y = t.out_y - p->top;
    t.x = t.out_x - p->left;
    for (int k = 0; k < 4; k++) {
        t.rows |= (unsigned)(t.y + k >= 0 && t.y + k < p->h) << k;
        t.cols |= (unsigned)(t.x + k >= 0 && t.x + k < p->w) << k;
    }
    return t;
}

/* ---- kernels ---- */

/* u = G g G' of a kernel g; the 16 numbers lie step apart. */
static void spread_kernel(const float *g, bool turned, float *u, size_t step)
{
    float t[4][3];

    for (int j = 0; j < 3; j++) {
        const float a = g[turned ? 8 - j : j], b = g[turned ? 5 - j : 3 + j], c = g[turned ? 2 - j : 6 + j];

        t[0][j] = a;
        t[1][j] = 0.5f * (a + b + c);
        t[2][j] = 0.5f * (a - b + c);
        t[3][j] = c;
    }
    for (int i = 0; i < 4; i++, u += 4 * step) {
        u[0] = t[i][0];
        u[step] = 0.5f * (t[i][0] + t[i][1] + t[i][2]);
        u[2 * step] = 0.5f * (t[i][0] - t[i][1] + t[i][2]);
        u[3 * step] = t[i][2];
    }
}

/* Tile: the kernels of one register block of outputs, [chunk][16][channel][rows]. */
static void kernels_tile(void *ctx, int tile)
{
    const struct pass *p = ctx;
    const int rows = p->level->rows, first = tile * rows, last = smaller(first + rows, p->o);

    for (int from = 0; from < p->c; from += p->chunk) {
        const int n_c = smaller(p->chunk, p->c - from);
        float *u = (float *)p->u + ((size_t)first * (size_t)p->c + (size_t)from * (size_t)rows) * 16;

        for (int o = first; o < last; o++)
            for (int c = 0; c < n_c; c++) {
                const size_t i = p->turned ? (size_t)(from + c) * (size_t)p->o + (size_t)o : (size_t)o * (size_t)p->c + (size_t)(from + c);

                spread_kernel(p->w33 + 9 * i, p->turned, u + c * rows + (o - first), (size_t)(n_c * rows));
            }
    }
}

/* ---- the passes ---- */

static float *own_scratch(const struct winograd_room *room)
{
    return room->scratch + (size_t)team_number() * room->scratch_stride;
}

static void pass_item(void *ctx, int item)
{
    const struct pass *p = ctx;
    const int first = item / p->n_parts * p->band, most = p->blocks * BLOCK, from = item % p->n_parts * most;
    const int n = smaller(most, p->n_cells - from);
    struct cell cell[MOST_BLOCKS * BLOCK];

    for (int i = 0; i < n; i++)
        cell[i] = cell_at(p, from + i);
    p->level->convolve(p, cell, n, first, smaller(first + p->band, p->o), own_scratch(p->room));
}

static void run_pass(struct pass *p, const struct winograd_room *room, struct team *team)
{
    const double macs = 4.0 * p->c * p->o * p->n_cells * p->level->lanes;

    p->room = room;
    p->u = room->shared;
    team_for(16 * p->c * p->o < SMALL ? NULL : team, parts(p->o, p->level->rows), kernels_tile, p);
    team_for(macs < SMALL ? NULL : team, p->n_parts * parts(p->o, p->band), pass_item, p);
}

void winograd_forward(const struct winograd_shape *s, const float *x, const float *w, const float *bias, bool clamp, float *y,
                      const struct winograd_room *room, struct team *team)
{
    struct pass p = forward_pass(s);

    p.in = x;
    p.w33 = w;
    p.bias = bias;
    p.clamp = clamp;
    p.out = y;
    run_pass(&p, room, team);
}

void winograd_input_gradient(const struct winograd_shape *s, const float *dy, const float *y, const float *w, float *dx,
                             const struct winograd_room *room, struct team *team)
{
    struct pass p = backward_pass(s);

    p.in = dy;
    p.mask = y;
    p.w33 = w;
    p.out = dx;
    run_pass(&p, room, team);
}

bool winograd_pays(const struct winograd_shape *s)
{
    return s->c >= 8 && s->o >= 8 && s->n >= 8;
}
