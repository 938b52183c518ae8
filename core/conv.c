/* core/conv.c: see conv.h: what is packed, where each tap's run begins, and who computes which tile.
 *
 * A pass makes rows of the output (forward: y from x; back: dx from dy). Its tiles are: some rows, of some columns, for a block of samples, of one
 * group. How many of each follows from the shape and the batch alone, so that what is packed stays in the second-level cache. Packed rows are
 * kept in a ring: the next row of the output finds most of what it needs there. Rows outside of the image are not packed: their taps are left out.
 *
 * A gather of all taps (im2col) and a product of OpenBLAS was slower for every shape of tests/bench/bench_conv, so there is none. */
#include "core/conv.h"

#include <string.h>

#include "core/conv_kernels.h"
#include "core/simd.h"

enum {
    ROOM = 72 * 1024,     /* floats that a pass packs, if it can help it */
    DOTS_ROOM = 112 * 1024, /* and a weight gradient */
    DOTS_RUN = 2048,      /* numbers of its dot products, at most */
    FEW_COLUMNS = 8,      /* of a tile, at least */
    MOST_OUTPUTS = 8,     /* of a block, at any level */
    TILES = 16,           /* of a pass, if there is work for them */
    PARTS = 8,            /* partial sums of a weight gradient, at most */
    PARTS_LEN = 1 << 19,  /* and floats of all, unless one needs more */
    RANGE = 16384,        /* numbers that are summed at once */
    SMALL = 1 << 18       /* multiply-adds: less is not worth waking the team */
};

static int min(int a, int b) { return a < b ? a : b; }
static int max(int a, int b) { return a > b ? a : b; }
static int ceil_div(int a, int b) { return (a + b - 1) / b; }
static size_t grains(size_t n) { return (n + CONV_GRAIN - 1) / CONV_GRAIN * CONV_GRAIN; }

static int gcd(int a, int b)
{
    while (b > 0) {
        int r = a % b;

        a = b;
        b = r;
    }
    return a;
}

/* ---- taps ---- */

/* Positions first, first + step, .. in a kernel of k. */
struct taps { int first, step, n; };

/* Those that meet the image where `at` (place and padding before it) is: (at - i * d) % s == 0. */
static struct taps taps_meeting(int at, int k, int d, int s)
{
    struct taps t = { 0, s / gcd(d, s), 0 };

    while (t.first < k && t.first < t.step && (at - (int64_t)t.first * d) % s != 0)
        t.first++;
    if (t.first < k && t.first < t.step)
        t.n = (k - t.first + t.step - 1) / t.step;
    return t;
}

/* How many taps belong to places whose remainder is smaller. */
static int taps_before(int at, int k, int d, int s)
{
    int n = 0;

    for (int i = 0; i < k; i++)
        n += (int)((int64_t)i * d % s) < at % s;
    return n;
}

/* ---- a pass and its blocks ---- */

struct pass {
    const struct conv *g;
    const struct op_call *c;
    bool back;
    const float *from, *mask; /* what is packed; mask: only where it is positive */
    float *to;
    const float *bias;
    int from_c, from_h, from_w, to_c, to_h, to_w; /* channels of one group */
    int step, lead;           /* columns of the input: from one place of a packed row to the next; before the first */
    int phases;               /* packed for each row */
    int dest_step;            /* columns of the output from one place of a run to the next; its phases have runs of their own */
    int more;                 /* places of a packed row beyond those of the run */
    int ring;                 /* packed rows */
    int n, samples, columns, rows; /* batch; of a tile */
    int n_blocks, n_chunks, n_strips;
    size_t row_len, ring_len; /* floats packed for a channel, for all */
    float *packed;            /* kernels */
};

static void pass_shape(struct pass *p, const struct conv *g, bool back)
{
    const int span = (g->kh - 1) * g->dh, wide = (g->kw - 1) * g->dw;

    *p = (struct pass){ .g = g, .back = back };
    p->from_c = (back ? g->o : g->c) / g->groups;
    p->to_c = (back ? g->c : g->o) / g->groups;
    p->from_h = back ? g->oh : g->h;
    p->from_w = back ? g->ow : g->w;
    p->to_h = back ? g->h : g->oh;
    p->to_w = back ? g->w : g->ow;
    p->step = back ? 1 : g->sw;
    p->dest_step = back ? g->sw : 1;
    p->phases = back ? 1 : min(g->sw / gcd(g->dw, g->sw), g->kw);
    p->lead = back ? max(0, (wide - g->left) / g->sw) : g->left;
    p->more = back ? p->lead + (g->sw - 1 + g->left) / g->sw : wide / g->sw;
    p->ring = min(back ? span / g->sh + 1 : span + 1, p->from_h);
}

/* Floats of a packed row: an odd number of cache lines, so that channels do not meet in one set of the cache. */
static size_t packed_row(const struct pass *p, int columns, int samples)
{
    size_t len = grains((size_t)p->phases * (size_t)(columns + p->more) * (size_t)samples + CONV_GRAIN);

    return len / CONV_GRAIN % 2 ? len : len + CONV_GRAIN;
}

/* Samples of a block: all, or a multiple of the grain, as many as `room` samples allow. */
static int block_samples(int n, size_t room)
{
    int most = room >= (size_t)n ? n : (int)(room / CONV_GRAIN * CONV_GRAIN);

    most = max(most, CONV_GRAIN);
    return n <= most ? n : (int)grains((size_t)ceil_div(n, ceil_div(n, most)));
}

/* Samples whose rows, whole ones, there is room for. */
static size_t room_for(const struct pass *p)
{
    return ROOM / ((size_t)p->ring * (size_t)p->from_c * (size_t)p->phases * (size_t)(ceil_div(p->to_w, p->dest_step) + p->more));
}

static void pass_blocks(struct pass *p, int n)
{
    const size_t places = (size_t)p->ring * (size_t)p->from_c * (size_t)p->phases;
    const int all = ceil_div(p->to_w, p->dest_step);
    size_t fit;

    p->n = n;
    p->columns = all;
    p->samples = block_samples(n, room_for(p));
    fit = ROOM / (places * (size_t)p->samples);
    if (fit < (size_t)(all + p->more))
        p->columns = max(min(all, FEW_COLUMNS), fit > (size_t)p->more ? (int)fit - p->more : 0);
    p->columns = ceil_div(all, ceil_div(all, p->columns));
    p->n_chunks = ceil_div(all, p->columns);
    p->n_blocks = ceil_div(n, p->samples);
    p->rows = ceil_div(p->to_h, max(1, min(p->to_h, TILES / max(1, min(TILES, p->n_blocks * p->n_chunks * p->g->groups)))));
    p->n_strips = ceil_div(p->to_h, p->rows);
    p->row_len = packed_row(p, p->columns, p->samples);
    p->ring_len = (size_t)p->ring * (size_t)p->from_c * p->row_len;
}

/* One thread's scratch, cut up. */
struct pass_scratch {
    float *ring, *stage;
    uint32_t *tap;
    int *have;  /* per slot of the ring: row, or -1 */
    size_t *at; /* per grain of the run */
};

static size_t run_len(const struct pass *p) { return grains((size_t)p->columns * (size_t)p->samples); }

static size_t pass_scratch_len(const struct pass *p)
{
    const struct conv *g = p->g;

    return p->ring_len + MOST_OUTPUTS * run_len(p) + grains((size_t)p->from_c * (size_t)g->kh * (size_t)g->kw) + grains((size_t)p->ring) +
           grains(2 * run_len(p) / CONV_GRAIN);
}

static struct pass_scratch cut_scratch(const struct pass *p)
{
    const struct conv *g = p->g;
    struct pass_scratch s = { .ring = op_scratch(p->c) };

    s.stage = s.ring + p->ring_len;
    s.tap = (uint32_t *)(void *)(s.stage + MOST_OUTPUTS * run_len(p));
    s.have = (int *)(void *)(s.tap + grains((size_t)p->from_c * (size_t)g->kh * (size_t)g->kw));
    s.at = (size_t *)(void *)(s.have + grains((size_t)p->ring));
    return s;
}

/* ---- kernels, packed for blocks of outputs ---- */

/* Outputs of block b: first .. first + *n - 1, blocks as equal as can be. */
static int n_out_blocks(int outputs) { return ceil_div(outputs, conv_level()->outputs); }
static int out_block(int outputs, int b, int *n)
{
    int blocks = n_out_blocks(outputs), first = (int)((int64_t)outputs * b / blocks);

    *n = (int)((int64_t)outputs * (b + 1) / blocks) - first;
    return first;
}

/* Where those of row taps i and column taps j begin: [block of outputs][i][from][j][output]. */
static size_t packed_at(const struct pass *p, int y, int x)
{
    const struct conv *g = p->g;
    int before;

    if (!p->back)
        return 0;
    before = taps_before(y + g->top, g->kh, g->dh, g->sh) * g->kw +
             taps_meeting(y + g->top, g->kh, g->dh, g->sh).n * taps_before(x + g->left, g->kw, g->dw, g->sw);
    return (size_t)before * (size_t)p->from_c * (size_t)p->to_c;
}

static struct taps row_taps(const struct pass *p, int y)
{
    return p->back ? taps_meeting(y + p->g->top, p->g->kh, p->g->dh, p->g->sh) : (struct taps){ 0, 1, p->g->kh };
}
static struct taps column_taps(const struct pass *p, int x)
{
    return p->back ? taps_meeting(x + p->g->left, p->g->kw, p->g->dw, p->g->sw) : (struct taps){ 0, 1, p->g->kw };
}

static void pack_kernel(const struct pass *p, const float *w, float *out, struct taps ti, struct taps tj)
{
    const size_t taps = (size_t)p->g->kh * (size_t)p->g->kw;
    const size_t to = p->back ? taps : taps * (size_t)p->from_c, from = p->back ? taps * (size_t)p->to_c : taps;

    for (int b = 0, n; b < n_out_blocks(p->to_c); b++) {
        const float *block = w + (size_t)out_block(p->to_c, b, &n) * to;

        for (int i = 0; i < ti.n; i++)
            for (int c = 0; c < p->from_c; c++)
                for (int j = 0; j < tj.n; j++) {
                    const float *x = block + (size_t)c * from + (size_t)(ti.first + i * ti.step) * (size_t)p->g->kw + (tj.first + j * tj.step);

                    for (int q = 0; q < n; q++)
                        *out++ = x[(size_t)q * to];
                }
    }
}

static void pack_group(void *ctx, int group)
{
    const struct pass *p = ctx;
    const struct conv *g = p->g;
    size_t len = (size_t)p->from_c * (size_t)p->to_c * (size_t)g->kh * (size_t)g->kw;
    const float *w = p->c->w[0] + (size_t)group * len;
    float *out = p->packed + (size_t)group * len;

    if (!p->back) {
        pack_kernel(p, w, out, row_taps(p, 0), column_taps(p, 0));
        return;
    }
    for (int y = 0; y < g->sh && y < p->to_h; y++)
        for (int x = 0; x < g->sw && x < p->to_w; x++)
            pack_kernel(p, w, out + packed_at(p, y, x), row_taps(p, y), column_taps(p, x));
}

/* ---- packing of rows ---- */

/* `columns` + more places from `first` on of one phase: columns of the input first * step + shift, .. */
static void pack_places(float *out, const float *x, const float *y, int width, int places, int first, int step, int shift, size_t n, size_t samples)
{
    int64_t begin = (int64_t)first * step + shift; /* column of place 0 */
    int before = begin < 0 ? (int)min((-begin + step - 1) / step, places) : 0;
    int64_t inside = begin + (int64_t)before * step < width ? (width - 1 - begin) / step + 1 - before : 0;
    int here = (int)(inside < places - before ? inside : places - before);
    size_t at = (size_t)(begin + (int64_t)before * step) * n;

    memset(out, 0, (size_t)before * samples * sizeof *out);
    out += (size_t)before * samples;
    if (here > 0 && step == 1 && samples == n)
        conv_level()->pack(out, x + at, y ? y + at : NULL, 1, 0, (size_t)here * n);
    else if (here > 0)
        conv_level()->pack(out, x + at, y ? y + at : NULL, here, (size_t)step * n, samples);
    memset(out + (size_t)here * samples, 0, (size_t)(places - before - here) * samples * sizeof *out);
}

/* Row sy of all channels of a group, into slots of row_len. */
static void pack_rows(const struct pass *p, float *out, int group, int sy, int first, int columns, int from_n, int samples)
{
    const struct conv *g = p->g;
    const int places = columns + p->more;
    const size_t used = (size_t)p->phases * (size_t)places * (size_t)samples;

    for (int c = 0; c < p->from_c; c++, out += p->row_len) {
        size_t at = (((size_t)group * (size_t)p->from_c + (size_t)c) * (size_t)p->from_h + (size_t)sy) * (size_t)p->from_w * (size_t)p->n +
                    (size_t)from_n;

        for (int f = 0; f < p->phases; f++)
            pack_places(out + (size_t)f * (size_t)places * (size_t)samples, p->from + at, p->mask ? p->mask + at : NULL, p->from_w, places, first,
                        p->step, (p->back ? 0 : f * g->dw % g->sw) - p->lead, (size_t)p->n, (size_t)samples);
        memset(out + used, 0, (p->row_len - used < CONV_GRAIN ? p->row_len - used : CONV_GRAIN) * sizeof *out);
    }
}

/* ---- tiles of a pass ---- */

struct tile { int group, block, chunk, strip, from_n, samples, first, columns; };

static struct tile tile_of(const struct pass *p, int i)
{
    struct tile t = { .strip = i % p->n_strips, .chunk = i / p->n_strips % p->n_chunks, .block = i / p->n_strips / p->n_chunks % p->n_blocks };

    t.group = i / p->n_strips / p->n_chunks / p->n_blocks;
    t.from_n = t.block * p->samples;
    t.samples = min(p->samples, p->n - t.from_n);
    t.first = t.chunk * p->columns;
    t.columns = min(p->columns, ceil_div(p->to_w, p->dest_step) - t.first);
    return t;
}

static int source_row(const struct pass *p, int y, int i)
{
    const struct conv *g = p->g;
    int64_t at = p->back ? ((int64_t)y + g->top - (int64_t)i * g->dh) / g->sh : (int64_t)y * g->sh - g->top + (int64_t)i * g->dh;

    if (p->back && (int64_t)y + g->top - (int64_t)i * g->dh < 0)
        return -1;
    return at < 0 || at >= p->from_h ? -1 : (int)at;
}

/* The row taps of y whose rows are in the image; they are neighbours. */
static struct taps inside(const struct pass *p, int y, struct taps t, int *skipped)
{
    struct taps in = t;

    *skipped = 0;
    while (in.n > 0 && source_row(p, y, in.first) < 0) {
        in.first += in.step;
        in.n--;
        ++*skipped;
    }
    while (in.n > 0 && source_row(p, y, in.first + (in.n - 1) * in.step) < 0)
        in.n--;
    return in;
}

/* Where the runs of a row's taps begin in the ring; packs what is missing. */
static void ring_rows(const struct pass *p, const struct pass_scratch *s, const struct tile *t, int y, struct taps ti)
{
    for (int i = 0; i < ti.n; i++) {
        int sy = source_row(p, y, ti.first + i * ti.step), slot = sy % p->ring;

        if (s->have[slot] == sy)
            continue;
        pack_rows(p, s->ring + (size_t)slot * (size_t)p->from_c * p->row_len, t->group, sy, t->first, t->columns, t->from_n, t->samples);
        s->have[slot] = sy;
    }
}

/* Place of column tap j in a packed row, for the phase of the output that begins at column x. */
static uint32_t tap_place(const struct pass *p, const struct tile *t, int x, int j)
{
    const struct conv *g = p->g;
    int phase = p->back ? 0 : j % p->phases;
    int place = p->back ? (x + g->left - j * g->dw) / g->sw + p->lead : j * g->dw / g->sw;

    return (uint32_t)(phase * (t->columns + p->more) + place) * (uint32_t)t->samples;
}

static int ring_taps(const struct pass *p, const struct pass_scratch *s, const struct tile *t, int y, int x, struct taps ti, struct taps tj)
{
    uint32_t *tap = s->tap;

    for (int i = 0; i < ti.n; i++) {
        size_t slot = (size_t)(source_row(p, y, ti.first + i * ti.step) % p->ring) * (size_t)p->from_c;

        for (int c = 0; c < p->from_c; c++)
            for (int j = 0; j < tj.n; j++)
                *tap++ = (uint32_t)((slot + (size_t)c) * p->row_len) + tap_place(p, t, x, tj.first + j * tj.step);
    }
    return (int)(tap - s->tap);
}

/* From the stage to the output: runs that do not fall into whole grains there. */
static void unstage(const struct pass *p, const struct tile *t, const float *stage, float *out, int n_out, int run, size_t stride)
{
    for (int q = 0; q < n_out; q++, stage += run_len(p))
        for (int i = 0; i < run; i++)
            memcpy(out + (size_t)q * stride + (size_t)i * (size_t)p->dest_step * (size_t)p->n, stage + (size_t)i * (size_t)t->samples,
                   (size_t)t->samples * sizeof *out);
}

/* The run of row y that begins at column x: all outputs. */
static void make_run(const struct pass *p, const struct pass_scratch *s, const struct tile *t, int y, int x, int run, struct taps ti, int skipped,
                     int ti_all)
{
    const struct taps tj = column_taps(p, x % p->dest_step);
    const bool straight = p->dest_step == 1 && t->samples == p->n && (size_t)run * (size_t)p->n % CONV_GRAIN == 0;
    const bool staged = !straight && t->samples % CONV_GRAIN != 0;
    const size_t stride = (size_t)p->to_h * (size_t)p->to_w * (size_t)p->n, per = (size_t)p->from_c * (size_t)tj.n;
    const size_t group_len = (size_t)p->from_c * (size_t)p->to_c * (size_t)p->g->kh * (size_t)p->g->kw;
    const float *w = p->packed + (size_t)t->group * group_len + packed_at(p, y, x);
    struct conv_product k = { .in = s->ring, .tap = s->tap, .out_stride = staged ? run_len(p) : stride, .at = s->at, .clamp = p->c->clamp && !p->back };
    float *out = p->to + (size_t)t->group * (size_t)p->to_c * stride + ((size_t)y * (size_t)p->to_w + (size_t)x) * (size_t)p->n + (size_t)t->from_n;

    k.n_taps = ring_taps(p, s, t, y, x % p->dest_step, ti, tj);
    k.n = (int)grains((size_t)run * (size_t)t->samples);
    for (size_t i = 0, at = 0; at < (size_t)k.n; i++, at += CONV_GRAIN)
        s->at[i] = staged || straight ? at : at / (size_t)t->samples * (size_t)p->dest_step * (size_t)p->n + at % (size_t)t->samples;
    for (int b = 0; b < n_out_blocks(p->to_c); b++) {
        int first = out_block(p->to_c, b, &k.n_out);
        float *block = out + (size_t)first * stride;

        k.w = w + (size_t)first * per * (size_t)ti_all + (size_t)skipped * per * (size_t)k.n_out;
        k.bias = p->bias ? p->bias + t->group * p->to_c + first : NULL;
        k.out = staged ? s->stage : block;
        conv_level()->product(&k);
        if (staged)
            unstage(p, t, s->stage, block, k.n_out, run, stride);
    }
}

static void pass_tile(void *ctx, int i)
{
    const struct pass *p = ctx;
    const struct tile t = tile_of(p, i);
    const struct pass_scratch s = cut_scratch(p);

    for (int r = 0; r < p->ring; r++)
        s.have[r] = -1;
    for (int y = t.strip * p->rows; y < p->to_h && y < (t.strip + 1) * p->rows; y++) {
        int skipped;
        const struct taps all = row_taps(p, y), ti = inside(p, y, all, &skipped);

        ring_rows(p, &s, &t, y, ti);
        for (int phase = 0; phase < p->dest_step; phase++) {
            int x = t.first * p->dest_step + phase, run = x < p->to_w ? min(t.columns, (p->to_w - x + p->dest_step - 1) / p->dest_step) : 0;

            if (run > 0)
                make_run(p, &s, &t, y, x, run, ti, skipped, all.n);
        }
    }
}

static size_t kernel_len(const struct conv *g)
{
    return (size_t)g->o * (size_t)(g->c / g->groups) * (size_t)g->kh * (size_t)g->kw;
}

static double work(const struct conv *g, int n) { return (double)kernel_len(g) * g->oh * g->ow * n; }

static void run_pass(struct pass *p)
{
    struct team *team = work(p->g, p->n) < SMALL ? NULL : p->c->team;

    team_for(team, p->g->groups, pack_group, p);
    team_for(team, p->g->groups * p->n_blocks * p->n_chunks * p->n_strips, pass_tile, p);
}

void conv_forward(const struct conv *g, const struct op_call *c)
{
    struct pass p;

    pass_shape(&p, g, false);
    pass_blocks(&p, c->n);
    p.c = c;
    p.from = c->x[0];
    p.to = c->y;
    p.bias = c->w[1];
    p.packed = c->state;
    run_pass(&p);
}

static void input_gradient(const struct conv *g, const struct op_call *c)
{
    struct pass p;

    pass_shape(&p, g, true);
    pass_blocks(&p, c->n);
    p.c = c;
    p.from = c->dy;
    p.mask = c->clamp ? c->y : NULL;
    p.to = c->dx[0];
    p.packed = c->state;
    run_pass(&p);
}

/* ---- weight gradient ---- */

/* Units of work are strips of rows by blocks of samples; they are dealt to n_parts partial sums, which each tile of a part and a group (or a
 * share of its outputs) fills on its own. */
struct gradient {
    struct pass x; /* how x is packed, of `rows` rows of the output at once */
    const struct op_call *c;
    int n_parts, n_shares, n_units, columns, rows, samples, n_blocks, n_chunks, n_strips, ring;
    size_t dy_len, part_len; /* floats of a packed row of dy; of a partial sum: kernel, bias */
    float *part;
};

static size_t bias_len(const struct conv *g) { return (size_t)g->o; }

static int parts_of(const struct conv *g)
{
    size_t n = PARTS_LEN / (kernel_len(g) + bias_len(g));

    return g->groups >= PARTS ? 1 : (int)(n < 1 ? 1 : n < PARTS ? n : PARTS);
}

/* Shares of a group's outputs, where partial sums alone would leave threads idle. */
static int shares_of(const struct conv *g)
{
    return max(1, min(PARTS / (parts_of(g) * min(g->groups, PARTS)), ceil_div(g->o / g->groups, MOST_OUTPUTS)));
}

static void gradient_shape(struct gradient *d, const struct conv *g)
{
    *d = (struct gradient){ .n_parts = parts_of(g), .n_shares = shares_of(g) };
    pass_shape(&d->x, g, false);
    d->part_len = grains(kernel_len(g) + bias_len(g));
}

static int outputs_of_share(const struct gradient *d) { return ceil_div(d->x.to_c, d->n_shares); }

static size_t gradient_floats(const struct gradient *d, int rows, int columns, int samples)
{
    const struct conv *g = d->x.g;
    int in_rows = min((rows - 1) * g->sh + (g->kh - 1) * g->dh + 1, g->h);
    size_t dy_row = grains((size_t)columns * (size_t)samples) + CONV_GRAIN;

    return (size_t)in_rows * (size_t)d->x.from_c * packed_row(&d->x, columns, samples) + (size_t)rows * (size_t)outputs_of_share(d) * dy_row;
}

/* Few samples, as many columns and then rows as there is room for. */
static void gradient_blocks(struct gradient *d, int n)
{
    const struct conv *g = d->x.g;

    d->samples = min(n, CONV_GRAIN);
    d->columns = g->ow;
    while (d->columns > FEW_COLUMNS && gradient_floats(d, 1, d->columns, d->samples) > DOTS_ROOM)
        d->columns = (d->columns + 1) / 2;
    d->rows = 1;
    while (d->rows < g->oh && (d->rows + 1) * d->columns * d->samples <= DOTS_RUN &&
           gradient_floats(d, d->rows + 1, d->columns, d->samples) <= DOTS_ROOM)
        d->rows++;
    while (d->rows == g->oh && d->samples + CONV_GRAIN <= n && d->rows * d->columns * (d->samples + CONV_GRAIN) <= DOTS_RUN &&
           gradient_floats(d, d->rows, d->columns, d->samples + CONV_GRAIN) <= DOTS_ROOM)
        d->samples += CONV_GRAIN;
    d->rows = ceil_div(g->oh, ceil_div(g->oh, d->rows));
    d->n_blocks = ceil_div(n, d->samples);
    d->n_chunks = ceil_div(g->ow, d->columns);
    d->n_strips = ceil_div(g->oh, d->rows);
    d->n_units = d->n_blocks * d->n_chunks * d->n_strips;
    d->ring = min((d->rows - 1) * g->sh + (g->kh - 1) * g->dh + 1, g->h);
    d->x.n = n;
    d->x.row_len = packed_row(&d->x, d->columns, d->samples);
    d->dy_len = grains((size_t)d->columns * (size_t)d->samples);
    if (d->dy_len / CONV_GRAIN % 2 == 0)
        d->dy_len += CONV_GRAIN;
}

static size_t gradient_taps(const struct conv *g) { return (size_t)(g->c / g->groups) * (size_t)g->kw; }

struct unit { int group, from, n_out, block, chunk, strip, from_n, samples, first, columns, y, rows; };

static struct unit unit_of(const struct gradient *d, int i)
{
    struct unit u = { .strip = i % d->n_strips, .chunk = i / d->n_strips % d->n_chunks, .block = i / d->n_strips / d->n_chunks };

    u.from_n = u.block * d->samples;
    u.samples = min(d->samples, d->x.n - u.from_n);
    u.first = u.chunk * d->columns;
    u.columns = min(d->columns, d->x.g->ow - u.first);
    u.y = u.strip * d->rows;
    u.rows = min(d->rows, d->x.g->oh - u.y);
    return u;
}

/* dy as [row][output][x][sample]; padded with zeros to whole grains. */
static void pack_dy(const struct gradient *d, const struct unit *u, float *out, int o)
{
    const struct conv *g = d->x.g;
    const size_t used = (size_t)u->columns * (size_t)u->samples, n = (size_t)d->x.n;

    for (int r = 0; r < u->rows; r++)
        for (int q = 0; q < u->n_out; q++, out += d->dy_len) {
            size_t at = (((size_t)(o + q) * (size_t)g->oh + (size_t)(u->y + r)) * (size_t)g->ow + (size_t)u->first) * n + (size_t)u->from_n;

            pack_places(out, d->c->dy + at, d->c->clamp ? d->c->y + at : NULL, u->columns, u->columns, 0, 1, 0, n, (size_t)u->samples);
            memset(out + used, 0, (grains(used) - used) * sizeof *out);
        }
}

/* Adds what the rows of a unit give to the numbers of kernel row i. */
static void unit_row(const struct gradient *d, const struct unit *u, const float *x, const float *dy, uint32_t *tap, float *part, int o, int i,
                     int first_row)
{
    const struct conv *g = d->x.g;
    const struct tile t = { .columns = u->columns, .samples = u->samples };
    const int taps = g->kh * g->kw, from_c = d->x.from_c;
    int lo = 0, hi = u->rows; /* rows of the output that meet the image */

    while (lo < hi && source_row(&d->x, u->y + lo, i) < 0)
        lo++;
    while (lo < hi && source_row(&d->x, u->y + hi - 1, i) < 0)
        hi--;
    if (lo == hi)
        return;
    for (int c = 0; c < from_c; c++)
        for (int j = 0; j < g->kw; j++)
            tap[c * g->kw + j] = (uint32_t)((size_t)c * d->x.row_len) + tap_place(&d->x, &t, 0, j);
    for (int b = 0, n; b < n_out_blocks(u->n_out); b++) {
        int first = out_block(u->n_out, b, &n);
        const size_t slot = (size_t)from_c * d->x.row_len;
        struct conv_dots k = { .in = x + (size_t)(source_row(&d->x, u->y + lo, i) - first_row) * slot, .in_row = (size_t)g->sh * slot,
                               .dy = dy + ((size_t)lo * (size_t)u->n_out + (size_t)first) * d->dy_len, .dy_row = (size_t)u->n_out * d->dy_len,
                               .dy_stride = d->dy_len, .rows = hi - lo, .n = (int)grains((size_t)u->columns * (size_t)u->samples), .tap = tap,
                               .n_taps = from_c * g->kw, .n_out = n, .sum_stride = (size_t)from_c * (size_t)taps, .place = i * g->kw,
                               .place_step = taps, .kw = g->kw };

        k.sum = part + (size_t)(o + first) * k.sum_stride;
        conv_level()->dots(&k);
    }
}

static void unit_run(const struct gradient *d, const struct unit *u, float *part)
{
    const struct conv *g = d->x.g;
    const int o = u->group * d->x.to_c + u->from, top = max(0, u->y * g->sh - g->top);
    const int bottom = min(g->h, (u->y + u->rows - 1) * g->sh - g->top + (g->kh - 1) * g->dh + 1);
    float *x = op_scratch(d->c), *dy = x + (size_t)d->ring * (size_t)d->x.from_c * d->x.row_len;
    uint32_t *tap = (uint32_t *)(void *)(dy + (size_t)d->rows * (size_t)outputs_of_share(d) * d->dy_len);
    const int n = (int)grains((size_t)u->columns * (size_t)u->samples);

    for (int sy = top; sy < bottom; sy++)
        pack_rows(&d->x, x + (size_t)(sy - top) * (size_t)d->x.from_c * d->x.row_len, u->group, sy, u->first, u->columns, u->from_n, u->samples);
    pack_dy(d, u, dy, o);
    for (int i = 0; i < g->kh; i++)
        unit_row(d, u, x, dy, tap, part, o, i, top);
    for (int q = 0; q < u->n_out; q++)
        for (int r = 0; r < u->rows; r++)
            part[kernel_len(g) + (size_t)(o + q)] += conv_level()->total(dy + ((size_t)r * (size_t)u->n_out + (size_t)q) * d->dy_len, n);
}

/* One part of one group, or of a share of its outputs. */
static void gradient_tile(void *ctx, int i)
{
    const struct gradient *d = ctx;
    const struct conv *g = d->x.g;
    const int part = i % d->n_parts, share = i / d->n_parts % d->n_shares, group = i / d->n_parts / d->n_shares, each = outputs_of_share(d);
    const int from = min(share * each, d->x.to_c), n_out = min(each, d->x.to_c - from), o = group * d->x.to_c + from;
    const size_t per = (size_t)d->x.from_c * (size_t)g->kh * (size_t)g->kw;
    float *sum = d->part + (size_t)part * d->part_len;

    if (n_out == 0)
        return;
    memset(sum + (size_t)o * per, 0, (size_t)n_out * per * sizeof *sum);
    memset(sum + kernel_len(g) + (size_t)o, 0, (size_t)n_out * sizeof *sum);
    for (int k = (int)((int64_t)d->n_units * part / d->n_parts); k < (int)((int64_t)d->n_units * (part + 1) / d->n_parts); k++) {
        struct unit u = unit_of(d, k);

        u.group = group;
        u.from = from;
        u.n_out = n_out;
        unit_run(d, &u, sum);
    }
}

SIMD static void sum_parts(float *restrict out, const float *restrict part, size_t stride, int n_parts, size_t n, bool accumulate)
{
    if (!accumulate)
        memset(out, 0, n * sizeof *out);
    for (int k = 0; k < n_parts; k++)
        for (size_t i = 0; i < n; i++)
            out[i] += part[(size_t)k * stride + i];
}

static void sum_tile(void *ctx, int i)
{
    const struct gradient *d = ctx;
    const struct op_call *c = d->c;
    const size_t len = kernel_len(d->x.g), first = (size_t)i * RANGE, n = len - first < RANGE ? len - first : RANGE, bias = bias_len(d->x.g);

    sum_parts(c->dw[0] + first, d->part + first, d->part_len, d->n_parts, n, c->accumulate);
    if (c->ready)
        c->ready(c->ready_user, 0, first, n);
    if (!c->w[1] || first + n < len)
        return;
    sum_parts(c->dw[1], d->part + len, d->part_len, d->n_parts, bias, c->accumulate);
    if (c->ready)
        c->ready(c->ready_user, 1, 0, bias);
}

void conv_backward(const struct conv *g, const struct op_call *c)
{
    struct gradient d;
    struct team *team = work(g, c->n) < SMALL ? NULL : c->team;

    if (c->dx[0])
        input_gradient(g, c);
    gradient_shape(&d, g);
    gradient_blocks(&d, c->n);
    d.c = d.x.c = c;
    d.x.from = c->x[0];
    d.part = c->state;
    team_for(team, d.n_parts * d.n_shares * g->groups, gradient_tile, &d);
    team_for(team, (int)((kernel_len(g) + RANGE - 1) / RANGE), sum_tile, &d);
}

/* ---- memory ---- */

size_t conv_state_len(const struct conv *g)
{
    size_t parts = (size_t)parts_of(g) * grains(kernel_len(g) + bias_len(g)), kernel = kernel_len(g);

    return parts > kernel ? parts : kernel;
}

static size_t gradient_scratch_len(const struct gradient *d)
{
    return (size_t)d->ring * (size_t)d->x.from_c * d->x.row_len + (size_t)d->rows * (size_t)outputs_of_share(d) * d->dy_len +
           grains(gradient_taps(d->x.g));
}

static size_t most_of(size_t a, size_t b) { return a > b ? a : b; }

static size_t pass_scratch_for(const struct conv *g, bool back, int n)
{
    struct pass p;

    pass_shape(&p, g, back);
    pass_blocks(&p, n);
    return pass_scratch_len(&p);
}

static size_t gradient_scratch_for(const struct conv *g, int n)
{
    struct gradient d;

    gradient_shape(&d, g);
    gradient_blocks(&d, n);
    return gradient_scratch_len(&d);
}

/* Of any batch. Blocks of more than a grain of samples, of whole rows, are not larger than the largest batch that is one block. */
size_t conv_scratch_len(const struct conv *g)
{
    size_t most = gradient_scratch_for(g, DOTS_RUN);

    for (int n = 1; n <= CONV_GRAIN; n++)
        most = most_of(most, gradient_scratch_for(g, n));
    for (int back = 0; back < 2; back++) {
        struct pass p;

        pass_shape(&p, g, back);
        most = most_of(most, pass_scratch_for(g, back, max(1, (int)room_for(&p))));
        for (int n = 1; n <= CONV_GRAIN; n++)
            most = most_of(most, pass_scratch_for(g, back, n));
    }
    return grains(most);
}
