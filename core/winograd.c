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
    BLOCK = 3,          /* cells of a register block, 2 where its outputs are many */
    MOST_LANES = 16,
    MOST_CHANNELS = 64, /* of a chunk; outputs of an item where there is more than one chunk */
    MOST_BLOCKS = 32,
    MOST_CELLS = BLOCK * MOST_BLOCKS,
    MOST_GROUPS = 16,   /* parts of the cells that the weight gradient is summed up over */
    FEW_GROUPS = 8,     /* where each has vectors to sum up */
    FEW_PAIRS = 13 * 13, /* of channels: more have too many sums for vectors of the batch */
    FEW_VECTORS = 528,  /* vectors of the weight gradient's cells, of each of the 16 numbers, where pairs are few */
    TOO_MANY = 1 << 26, /* cells: no memory holds as many, but somebody may ask whether it would pay */
    GROUP = 8,          /* neighbouring vectors of the batch */
    SMALL = 1 << 17     /* multiply-adds: less is not worth waking the team */
};

/* One tile times one vector of the batch. */
struct cell {
    int out_y, out_x, y, x; /* first output, first input (may lie in the padding) */
    ptrdiff_t in;           /* first input in its channel's plane */
    int at, from, to;       /* first column of its vector; which of them are its own: the last vector of a batch begins in the one before */
    unsigned rows, cols;    /* bit i: row i of the inputs is there */
};
struct level;
/* One convolution: a forward, or an input gradient, which is one with kernels turned round. */
struct pass {
    int c, o, h, w, oh, ow, n, top, left;
    const float *in, *mask, *u;
    float *out;
    struct winograd_behind behind;
    /* the plan */
    const struct level *level;
    int rows, block;      /* outputs of a register block, as equal as can be; cells */
    int chunk, band;      /* channels of a chunk, outputs of an item */
    int blocks, n_cells, n_parts; /* blocks of an item at most, cells and items of a band */
    int tiles_y, tiles_x, vectors;
    /* the call */
    const float *w33;     /* kernels */
    bool turned;
    const struct winograd_room *room;
};

/* A weight gradient. Bands of outputs and of channels, and groups of cells, make its items; the groups' sums are added in order. */
struct gradient {
    struct pass pass; /* of x */
    const float *dy, *gate;
    int ld, o_bands, c_bands; /* outputs of a band, whole vectors; bands of channels are pass.chunk wide */
    int cells, groups;        /* cells at a time */
    bool columns;             /* vectors are of the batch, not of outputs (core/winograd_columns_level.h): one band of each */
    float *part;              /* [group][o_band][c_band][9][channel][ld], then [group][o_band][ld] of db */
    float *dw, *db;
    bool accumulate;
};

struct level {
    const char *name;
    int lanes, rows, rows_of_3; /* outputs of a register block of 2 cells, of 3, at most */
    void (*convolve)(const struct pass *p, const struct cell *cell, int n, int first, int last, float *scratch);
    void (*correlate)(const struct gradient *g, int first, int last, int c, int n_c, int o, int n_o, float *scratch, float *dw, float *db);
    void (*correlate_columns)(const struct gradient *g, int first, int last, float *scratch, float *dw, float *db);
    void (*add_groups)(const float *part, size_t step, int groups, size_t n, float *sum);
};

static int parts(int n, int most)
{
    return (n + most - 1) / most;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* Cells run over the vectors of a group, then tiles, then groups. */
static struct cell cell_at(const struct pass *p, int i)
{
    const int tiles = p->tiles_y * p->tiles_x, group = smaller(i / (tiles * GROUP), (p->vectors - 1) / GROUP);
    const int in_group = smaller(p->vectors - group * GROUP, GROUP), left = i - group * GROUP * tiles;
    const int tile = left / in_group, at = (group * GROUP + left % in_group) * p->level->lanes;
    struct cell t = { .out_y = tile / p->tiles_x * 2, .out_x = tile % p->tiles_x * 2, .to = smaller(p->n, p->level->lanes) };

    t.at = smaller(at, p->n - t.to);
    t.from = at - t.at;
    t.y = t.out_y - p->top;
    t.x = t.out_x - p->left;
    t.in = ((ptrdiff_t)t.y * p->w + t.x) * p->n + t.at;
    for (int k = 0; k < 4; k++) {
        t.rows |= (unsigned)(t.y + k >= 0 && t.y + k < p->h) << k;
        t.cols |= (unsigned)(t.x + k >= 0 && t.x + k < p->w) << k;
    }
    return t;
}

/* From MOST_LANES - k on: of a vector all but the first k columns. */
static const int own_columns[2 * MOST_LANES] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                                 -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 };

#define LEVEL_CODE "core/winograd_level.h"
#include "core/vector_levels.h"

static const struct level levels[] = {
#if defined(SIMD_X86_LEVELS)
    { "avx512", 16, 14, 9, convolve_avx512, correlate_avx512, correlate_columns_avx512, add_groups_avx512 },
    { "avx2", 8, 6, 4, convolve_avx2, correlate_avx2, correlate_columns_avx2, add_groups_avx2 },
#endif
    { "portable", 4, 6, 4, convolve_portable, correlate_portable, correlate_columns_portable, add_groups_portable },
};
enum { N_LEVELS = sizeof levels / sizeof levels[0] };
int winograd_skip_levels;

int winograd_n_levels(void)
{
    return N_LEVELS - simd_best_level();
}

const char *winograd_level_name(int level)
{
    return levels[simd_best_level() + level].name;
}

/* ---- plan ---- */

/* What of the plan follows from c, o, oh, ow and n. */
static void plan(struct pass *p)
{
    const struct level *l = &levels[simd_best_level() + winograd_skip_levels];
    double n_cells;

    p->level = l;
    p->chunk = parts(p->c, parts(p->c, MOST_CHANNELS));
    p->rows = parts(p->o, parts(p->o, l->rows));
    p->block = p->rows <= l->rows_of_3 ? BLOCK : 2;
    p->band = p->chunk == p->c ? p->o : MOST_CHANNELS / p->rows * p->rows;
    p->blocks = smaller(MOST_BLOCKS, parts(MOST_CHANNELS * 16 / l->lanes, p->chunk));
    p->tiles_y = parts(p->oh, 2);
    p->tiles_x = parts(p->ow, 2);
    p->vectors = parts(p->n, l->lanes);
    n_cells = (double)p->tiles_y * p->tiles_x * p->vectors;
    p->n_cells = n_cells <= TOO_MANY ? (int)n_cells : 0;
    p->n_parts = parts(p->n_cells, p->blocks * p->block);
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
    return 16 * (size_t)p->c * (size_t)(parts(p->o, p->rows) * p->rows);
}

static size_t pass_scratch(const struct pass *p)
{
    const size_t width = (size_t)(p->block * p->level->lanes), kept = p->chunk == p->c ? 1 : (size_t)(p->blocks * p->band / p->rows);

    return 16 * ((size_t)p->blocks * ((size_t)p->chunk * width + (size_t)p->level->lanes) + kept * (size_t)p->rows * width);
}

/* What does not depend on n; see winograd_weight_gradient. */
static struct gradient weight_gradient(const struct winograd_shape *s)
{
    struct gradient g = { .pass = forward_pass(s) };
    const int lanes = g.pass.level->lanes;

    g.ld = parts(parts(s->o, parts(s->o, MOST_CHANNELS)), lanes) * lanes;
    g.o_bands = parts(s->o, g.ld);
    g.c_bands = parts(s->c, g.pass.chunk);
    g.columns = g.o_bands * g.c_bands == 1 && s->c * s->o <= FEW_PAIRS;
    g.cells = smaller(MOST_CELLS, g.columns ? FEW_VECTORS / (s->c + s->o) : 4 * MOST_CHANNELS * 16 / lanes / (g.pass.chunk + g.ld));
    g.groups = g.columns ? FEW_GROUPS : g.o_bands * g.c_bands < MOST_GROUPS ? MOST_GROUPS / (g.o_bands * g.c_bands) : 1;
    return g;
}

static size_t kernels_step(const struct gradient *g)
{
    return 9 * (size_t)g->pass.c * (size_t)(g->o_bands * g->ld);
}

static size_t gradient_len(const struct gradient *g)
{
    return (size_t)g->groups * (kernels_step(g) + (size_t)(g->o_bands * g->ld));
}

static size_t gradient_scratch(const struct gradient *g)
{
    const size_t lanes = (size_t)g->pass.level->lanes, ld = (size_t)g->ld, c = (size_t)g->pass.chunk, o = (size_t)g->pass.o;

    if (g->columns)
        return (16 * (lanes * ((size_t)g->cells * (c + o) + 2 + c * o) + c * ld) + lanes * o + 15) / 16 * 16;
    return 16 * ((size_t)g->cells * lanes * (c + ld + 2) + c * ld);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t winograd_shared_len(const struct winograd_shape *s)
{
    const struct pass f = forward_pass(s), b = backward_pass(s);

    const struct gradient g = weight_gradient(s);

    return larger(larger(kernels_len(&f), kernels_len(&b)), gradient_len(&g));
}

size_t winograd_scratch_len(const struct winograd_shape *s)
{
    const struct pass f = forward_pass(s), b = backward_pass(s);

    const struct gradient g = weight_gradient(s);

    return larger(larger(pass_scratch(&f), pass_scratch(&b)), gradient_scratch(&g));
}

/* ---- kernels ---- */

/* u = G g G' of a kernel factor * g; the 16 numbers lie step apart. */
static void spread_kernel(const float *g, float factor, bool turned, float *u, size_t step)
{
    float t[4][3];

    for (int j = 0; j < 3; j++) {
        const float a = factor * g[turned ? 8 - j : j], b = factor * g[turned ? 5 - j : 3 + j], c = factor * g[turned ? 2 - j : 6 + j];

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
    const int rows = p->rows, first = tile * rows, last = smaller(first + rows, p->o);

    for (int from = 0; from < p->c; from += p->chunk) {
        const int n_c = smaller(p->chunk, p->c - from);
        float *u = (float *)p->u + ((size_t)first * (size_t)p->c + (size_t)from * (size_t)rows) * 16;

        for (int o = first; o < last; o++)
            for (int c = 0; c < n_c; c++) {
                const size_t i = p->turned ? (size_t)(from + c) * (size_t)p->o + (size_t)o : (size_t)o * (size_t)p->c + (size_t)(from + c);

                spread_kernel(p->w33 + 9 * i, p->behind.factor ? p->behind.factor[o] : 1, p->turned, u + c * rows + (o - first), (size_t)(n_c * rows));
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
    const int first = item / p->n_parts * p->band, most = p->blocks * p->block, from = item % p->n_parts * most;
    const int n = smaller(most, p->n_cells - from);
    struct cell cell[MOST_CELLS];

    for (int i = 0; i < n; i++)
        cell[i] = cell_at(p, from + i);
    p->level->convolve(p, cell, n, first, smaller(first + p->band, p->o), own_scratch(p->room));
}

static double pass_macs(const struct pass *p)
{
    return 16.0 * p->c * p->o * p->n_cells * p->level->lanes;
}

static void run_pass(struct pass *p, const struct winograd_room *room, struct team *team)
{
    p->room = room;
    p->u = room->shared;
    team_for(16.0 * p->c * p->o < SMALL ? NULL : team, parts(p->o, p->rows), kernels_tile, p);
    team_for(pass_macs(p) < SMALL ? NULL : team, p->n_parts * parts(p->o, p->band), pass_item, p);
}

void winograd_forward(const struct winograd_shape *s, const float *x, const float *w, const struct winograd_behind *behind, float *y,
                      const struct winograd_room *room, struct team *team)
{
    struct pass p = forward_pass(s);

    p.in = x;
    p.w33 = w;
    p.behind = *behind;
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

static int first_cell(const struct gradient *g, int group)
{
    return (int)((int64_t)g->pass.n_cells * group / g->groups);
}

/* Item: some cells, a band of outputs, a band of channels. */
static void gradient_item(void *ctx, int item)
{
    const struct gradient *g = ctx;
    const struct pass *p = &g->pass;
    const int bands = g->o_bands * g->c_bands, group = item / bands, o = item % bands / g->c_bands * g->ld, c = item % g->c_bands * p->chunk;
    const int n_c = smaller(p->chunk, p->c - c), first = first_cell(g, group), last = first_cell(g, group + 1);
    float *dw = g->part + (size_t)group * kernels_step(g) + 9 * ((size_t)o * (size_t)p->c + (size_t)c * (size_t)g->ld);
    float *db = g->part + (size_t)g->groups * kernels_step(g) + (size_t)group * (size_t)(g->o_bands * g->ld) + o;

    if (g->columns)
        p->level->correlate_columns(g, first, last, own_scratch(p->room), dw, g->db ? db : NULL);
    else
        p->level->correlate(g, first, last, c, n_c, o, smaller(g->ld, p->o - o), own_scratch(p->room), dw, g->db && c == 0 ? db : NULL);
}

/* Tile: one channel's kernels of a band of outputs. */
static void kernels_sum(void *ctx, int tile)
{
    const struct gradient *g = ctx;
    const struct pass *p = &g->pass;
    const int o = tile / p->c * g->ld, c = tile % p->c, band = c / p->chunk * p->chunk, n_c = smaller(p->chunk, p->c - band);
    const float *part = g->part + 9 * ((size_t)o * (size_t)p->c + (size_t)band * (size_t)g->ld) + (size_t)((c - band) * g->ld);
    float sum[9][MOST_CHANNELS];

    for (int k = 0; k < 9; k++)
        p->level->add_groups(part + (size_t)(k * n_c * g->ld), kernels_step(g), g->groups, (size_t)g->ld, sum[k]);
    for (int r = 0; r < g->ld && o + r < p->o; r++) {
        float *dw = g->dw + 9 * ((size_t)(o + r) * (size_t)p->c + (size_t)c);

        for (int k = 0; k < 9; k++)
            dw[k] = g->accumulate ? dw[k] + sum[k][r] : sum[k][r];
    }
}

static void bias_sum(const struct gradient *g)
{
    const size_t step = (size_t)(g->o_bands * g->ld);
    const float *part = g->part + (size_t)g->groups * kernels_step(g);

    for (int o = 0; o < g->pass.o; o++) {
        float sum = part[o];

        for (int k = 1; k < g->groups; k++)
            sum += part[(size_t)k * step + (size_t)o];
        g->db[o] = g->accumulate ? g->db[o] + sum : sum;
    }
}

void winograd_weight_gradient(const struct winograd_shape *s, const float *x, const float *dy, const float *y, float *dw, float *db,
                              bool accumulate, const struct winograd_room *room, struct team *team)
{
    struct gradient g = weight_gradient(s);

    g.pass.in = x;
    g.pass.room = room;
    g.dy = dy;
    g.gate = y;
    g.part = room->shared;
    g.dw = dw;
    g.db = db;
    g.accumulate = accumulate;
    g.groups = smaller(g.groups, g.pass.n_cells);
    team = pass_macs(&g.pass) < SMALL ? NULL : team;
    team_for(team, g.groups * g.o_bands * g.c_bands, gradient_item, &g);
    team_for(team, g.o_bands * g.pass.c, kernels_sum, &g);
    if (db)
        bias_sum(&g);
}

/* How many times faster than the direct kernels a product is where images and batches fill the cells, as tests/bench/bench_winograd measures it. The
 * transforms pay with the channels on both sides; outputs fill the weight gradient's vectors, where pairs are not few. */
static double times_faster(const struct pass *p, enum winograd_product product)
{
    const double pairs = (double)p->c * p->o, vectors = parts(p->o, p->level->lanes) * p->level->lanes;

    if (product == WINOGRAD_WEIGHT && pairs <= FEW_PAIRS && p->c <= MOST_CHANNELS && p->o <= MOST_CHANNELS)
        return pairs >= 100 ? 1.1 : 0;
    if (product == WINOGRAD_WEIGHT)
        return (pairs > 16 * 16 ? 1.7 : pairs >= 80 ? 1.4 : 0) * p->o / vectors;
    return pairs >= 32 * 32 ? 1.7 : pairs >= 16 * 16 ? 1.35 : pairs >= 12 * 12 ? 1.2 : pairs >= 90 ? 1.1 : 0;
}

/* What part of the cells is of use counts too; few cells do not pay for the transforms of the kernels. */
bool winograd_pays(const struct winograd_shape *s, enum winograd_product product)
{
    const struct pass p = forward_pass(s);
    const double used = (double)p.oh * p.ow * p.n / (4.0 * p.n_cells * p.level->lanes);

    return s->n >= p.level->lanes && p.n_cells >= 8 && times_faster(&p, product) * used > 1;
}
