/* core/conv.c: see conv.h: forward and input gradient: what is packed, where each tap's run begins, and who computes which tile.
 *
 * A pass makes rows of its output. Its tiles are: some rows, of some columns, for a block of samples, of one group. How many of each follows from
 * the shape and the batch alone, so that what is packed stays in the second-level cache. Packed rows are kept in a ring: the next row of the output finds
 * most of what it needs there. Rows outside of the image are not packed: their taps are left out.
 *
 * A gather of all taps (im2col) and a product of OpenBLAS is slower for every shape of tests/bench/bench_conv, so there is none. */
#include "core/conv_impl.h"

#include <string.h>

#include "core/simd.h"

enum {
    ROOM = 72 * 1024,        /* floats that a pass packs, if it can help it */
    TILES = 16               /* of a pass, if there is work for them */
};

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

/* Those that meet the image where `at` (place and padding before it) is: (at - i * d) % s == 0. */
static struct conv_taps taps_meeting(int at, int k, int d, int s)
{
    struct conv_taps t = { 0, s / gcd(d, s), 0 };

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

static struct conv_taps row_taps(const struct conv_pass *p, int y)
{
    return p->back ? taps_meeting(y + p->g->top, p->g->kh, p->g->dh, p->g->sh) : (struct conv_taps){ 0, 1, p->g->kh };
}
static struct conv_taps column_taps(const struct conv_pass *p, int x)
{
    return p->back ? taps_meeting(x + p->g->left, p->g->kw, p->g->dw, p->g->sw) : (struct conv_taps){ 0, 1, p->g->kw };
}

int conv_source_row(const struct conv_pass *p, int y, int i)
{
    const struct conv *g = p->g;
    int64_t at = p->back ? (int64_t)y + g->top - (int64_t)i * g->dh : (int64_t)y * g->sh - g->top + (int64_t)i * g->dh;

    if (p->back && at >= 0)
        at /= g->sh;
    return at < 0 || at >= p->from_h ? -1 : (int)at;
}

/* The row taps of y whose rows are in the image; they are neighbours. */
static struct conv_taps taps_inside(const struct conv_pass *p, int y)
{
    struct conv_taps in = row_taps(p, y);

    while (in.n > 0 && conv_source_row(p, y, in.first) < 0) {
        in.first += in.step;
        in.n--;
    }
    while (in.n > 0 && conv_source_row(p, y, in.first + (in.n - 1) * in.step) < 0)
        in.n--;
    return in;
}

uint32_t conv_tap_place(const struct conv_pass *p, int columns, int samples, int x, int j)
{
    const struct conv *g = p->g;
    int phase = p->back ? 0 : j % p->phases;
    int place = p->back ? (x + g->left - j * g->dw) / g->sw + p->lead : j * g->dw / g->sw;

    return (uint32_t)(phase * (columns + p->more) + place) * (uint32_t)samples;
}

/* ---- a pass and its blocks ---- */

void conv_pass_shape(struct conv_pass *p, const struct conv *g, bool back)
{
    const int span = (g->kh - 1) * g->dh, wide = (g->kw - 1) * g->dw;

    *p = (struct conv_pass){ .g = g, .back = back };
    p->from_c = (back ? g->o : g->c) / g->groups;
    p->to_c = (back ? g->c : g->o) / g->groups;
    p->from_h = back ? g->oh : g->h;
    p->from_w = back ? g->ow : g->w;
    p->to_h = back ? g->h : g->oh;
    p->to_w = back ? g->w : g->ow;
    p->step = back ? 1 : g->sw;
    p->dest_step = back ? g->sw : 1;
    p->phases = back ? 1 : conv_min(g->sw / gcd(g->dw, g->sw), g->kw);
    p->lead = back ? conv_max(0, (wide - g->left) / g->sw) : g->left;
    p->more = back ? p->lead + (g->sw - 1 + g->left) / g->sw : wide / g->sw;
    p->ring = conv_min(back ? span / g->sh + 1 : span + 1, p->from_h);
}

/* An odd number of cache lines, so that channels do not meet in one set of the cache. */
size_t conv_row_len(const struct conv_pass *p, int columns, int samples)
{
    size_t len = conv_grains((size_t)p->phases * (size_t)(columns + p->more) * (size_t)samples + CONV_GRAIN);

    return len / CONV_GRAIN % 2 ? len : len + CONV_GRAIN;
}

static int all_columns(const struct conv_pass *p) { return conv_ceil(p->to_w, p->dest_step); }

/* Packed floats for each sample, of whole rows. */
static size_t sample_len(const struct conv_pass *p)
{
    return (size_t)p->ring * (size_t)p->from_c * (size_t)p->phases * (size_t)(all_columns(p) + p->more);
}

/* Samples of a block: all, or whole grains, as many as `room` samples allow. */
static int block_samples(int n, size_t room)
{
    int most = room >= (size_t)n ? n : (int)(room / CONV_GRAIN * CONV_GRAIN);

    most = conv_max(most, CONV_GRAIN);
    return n <= most ? n : (int)conv_grains((size_t)conv_ceil(n, conv_ceil(n, most)));
}

static void pass_blocks(struct conv_pass *p, int n)
{
    const size_t places = (size_t)p->ring * (size_t)p->from_c * (size_t)p->phases;
    const int all = all_columns(p);
    int tiles;

    p->n = n;
    p->columns = all;
    p->samples = block_samples(n, ROOM / sample_len(p));
    if (sample_len(p) * (size_t)p->samples > ROOM) {
        size_t fit = ROOM / (places * (size_t)p->samples);

        p->columns = conv_max(conv_min(all, CONV_FEW_COLUMNS), fit > (size_t)p->more ? (int)fit - p->more : 0);
        p->columns = conv_ceil(all, conv_ceil(all, p->columns));
    }
    p->n_chunks = conv_ceil(all, p->columns);
    p->n_blocks = conv_ceil(n, p->samples);
    tiles = conv_min(TILES, p->n_blocks * p->n_chunks * p->g->groups);
    p->rows = conv_ceil(p->to_h, conv_min(p->to_h, TILES / tiles));
    p->n_strips = conv_ceil(p->to_h, p->rows);
    p->row_len = conv_row_len(p, p->columns, p->samples);
}

static size_t taps_len(const struct conv_pass *p) { return conv_grains((size_t)p->from_c * (size_t)p->g->kh * (size_t)p->g->kw); }

static size_t pass_scratch_len(const struct conv_pass *p)
{
    return (size_t)p->ring * conv_slot_len(p) + p->row_len + CONV_OUTPUTS * conv_run_len(p) + 2 * taps_len(p) + conv_grains((size_t)p->ring) +
           conv_grains(2 * conv_run_len(p) / CONV_GRAIN) + (p->image ? conv_int8_scratch_len(p) : 0);
}

static struct conv_scratch cut_scratch(const struct conv_pass *p)
{
    struct conv_scratch s = { .ring = op_scratch(p->c) };

    s.zeros = s.ring + (size_t)p->ring * conv_slot_len(p);
    s.stage = s.zeros + p->row_len;
    s.value = s.stage + CONV_OUTPUTS * conv_run_len(p);
    s.tap = (uint32_t *)(void *)(s.value + taps_len(p));
    s.have = (int *)(void *)(s.tap + taps_len(p));
    s.at = (size_t *)(void *)(s.have + conv_grains((size_t)p->ring));
    if (p->image)
        conv_int8_cut(p, &s, (float *)(void *)(s.at + conv_grains(2 * conv_run_len(p) / CONV_GRAIN) / 2));
    return s;
}

/* ---- dense kernels, packed for blocks of outputs ---- */

int conv_n_out_blocks(int outputs) { return conv_ceil(outputs, conv_level()->outputs); }
int conv_out_block(int outputs, int b, int *n)
{
    int blocks = conv_n_out_blocks(outputs), first = (int)((int64_t)outputs * b / blocks);

    *n = (int)((int64_t)outputs * (b + 1) / blocks) - first;
    return first;
}

/* Where those of the row taps of y and the column taps of x begin: [block of outputs][i][from][j][output]. */
static size_t packed_at(const struct conv_pass *p, int y, int x)
{
    const struct conv *g = p->g;
    int before;

    if (!p->back)
        return 0;
    before = taps_before(y + g->top, g->kh, g->dh, g->sh) * g->kw +
             taps_meeting(y + g->top, g->kh, g->dh, g->sh).n * taps_before(x + g->left, g->kw, g->dw, g->sw);
    return (size_t)before * (size_t)p->from_c * (size_t)p->to_c;
}

/* factor: of the outputs of the group, or NULL. */
static void pack_kernel(const struct conv_pass *p, const float *w, const float *factor, float *out, struct conv_taps ti, struct conv_taps tj)
{
    const size_t taps = (size_t)p->g->kh * (size_t)p->g->kw;
    const size_t to = p->back ? taps : taps * (size_t)p->from_c, from = p->back ? taps * (size_t)p->to_c : taps;

    for (int b = 0, n; b < conv_n_out_blocks(p->to_c); b++) {
        const int first = conv_out_block(p->to_c, b, &n);
        const float *block = w + (size_t)first * to;

        for (int i = 0; i < ti.n; i++)
            for (int c = 0; c < p->from_c; c++)
                for (int j = 0; j < tj.n; j++) {
                    const float *x = block + (size_t)c * from + (size_t)(ti.first + i * ti.step) * (size_t)p->g->kw + (tj.first + j * tj.step);

                    for (int q = 0; q < n; q++)
                        *out++ = x[(size_t)q * to] * (factor ? factor[first + q] : 1);
                }
    }
}

static void pack_group(void *ctx, int group)
{
    const struct conv_pass *p = ctx;
    const size_t len = conv_kernel_len(p->g) / (size_t)p->g->groups;
    const float *w = p->c->w[0] + (size_t)group * len;
    float *out = p->packed + (size_t)group * len;

    for (int y = 0; y < (p->back ? p->g->sh : 1) && y < p->to_h; y++)
        for (int x = 0; x < p->dest_step && x < p->to_w; x++)
            pack_kernel(p, w, p->factor ? p->factor + group * p->to_c : NULL, out + packed_at(p, y, x), row_taps(p, y), column_taps(p, x));
}

/* ---- packing of rows ---- */

void conv_pack_places(float *out, const float *x, const float *y, int width, int places, int first, int step, int shift, size_t n, size_t samples)
{
    const int64_t begin = (int64_t)first * step + shift; /* column of place 0 */
    const int before = begin < 0 ? (int)((-begin + step - 1) / step < places ? (-begin + step - 1) / step : places) : 0;
    const int64_t inside = begin + (int64_t)before * step < width ? (width - 1 - begin) / step + 1 - before : 0;
    const int here = (int)(inside < places - before ? inside : places - before);
    const size_t at = here > 0 ? (size_t)(begin + (int64_t)before * step) * n : 0;

    memset(out, 0, (size_t)before * samples * sizeof *out);
    out += (size_t)before * samples;
    if (here > 0 && step == 1 && samples == n)
        conv_level()->pack(out, x + at, y ? y + at : NULL, 1, 0, (size_t)here * n);
    else if (here > 0)
        conv_level()->pack(out, x + at, y ? y + at : NULL, here, (size_t)step * n, samples);
    memset(out + (size_t)here * samples, 0, (size_t)(places - before - here) * samples * sizeof *out);
}

void conv_pack_rows(const struct conv_pass *p, float *out, const struct conv_tile *t, int sy)
{
    const int places = t->columns + p->more;
    const size_t phase = (size_t)places * (size_t)t->samples, used = (size_t)p->phases * phase, n = (size_t)p->n;

    for (int c = 0; c < p->from_c; c++, out += p->row_len) {
        size_t at = ((size_t)(t->group * p->from_c + c) * (size_t)p->from_h + (size_t)sy) * (size_t)p->from_w * n + (size_t)t->from_n;

        for (int f = 0; f < p->phases; f++)
            conv_pack_places(out + (size_t)f * phase, p->from + at, p->mask ? p->mask + at : NULL, p->from_w, places, t->first, p->step,
                             (p->back ? 0 : f * p->g->dw % p->g->sw) - p->lead, n, (size_t)t->samples);
        memset(out + used, 0, (p->row_len - used < CONV_GRAIN ? p->row_len - used : CONV_GRAIN) * sizeof *out); /* a run's last grain may end there */
    }
}

/* ---- tiles of a pass ---- */

static struct conv_tile tile_of(const struct conv_pass *p, int i)
{
    const int chunk = i / p->n_strips % p->n_chunks, block = i / p->n_strips / p->n_chunks % p->n_blocks;
    struct conv_tile t = { .strip = i % p->n_strips, .group = i / p->n_strips / p->n_chunks / p->n_blocks };

    t.from_n = block * p->samples;
    t.samples = conv_min(p->samples, p->n - t.from_n);
    t.first = chunk * p->columns;
    t.columns = conv_min(p->columns, all_columns(p) - t.first);
    return t;
}

/* Packs what the taps of a row need and the ring does not have. */
static void fill_ring(const struct conv_pass *p, const struct conv_scratch *s, const struct conv_tile *t, int y, struct conv_taps ti)
{
    for (int i = 0; i < ti.n; i++) {
        int sy = conv_source_row(p, y, ti.first + i * ti.step), slot = sy % p->ring;

        if (s->have[slot] != sy && p->c->int8)
            conv_int8_rows(p, s, (uint32_t *)(void *)(s->ring + (size_t)slot * conv_slot_len(p)), t, sy);
        else if (s->have[slot] != sy)
            conv_pack_rows(p, s->ring + (size_t)slot * conv_slot_len(p), t, sy);
        s->have[slot] = sy;
    }
}

/* The taps of a run in the order of the packed kernel. */
static int run_taps(const struct conv_pass *p, const struct conv_scratch *s, const struct conv_run *r)
{
    uint32_t *tap = s->tap;

    for (int i = 0; i < r->ti.n; i++) {
        size_t slot = (size_t)(conv_source_row(p, r->y, r->ti.first + i * r->ti.step) % p->ring) * conv_slot_len(p);

        for (int c = 0; c < p->from_c; c++)
            for (int j = 0; j < r->tj.n; j++)
                *tap++ = (uint32_t)(slot + (size_t)c * p->row_len) +
                         conv_tap_place(p, r->t->columns, r->t->samples, r->x % p->dest_step, r->tj.first + j * r->tj.step);
    }
    return (int)(tap - s->tap);
}

SIMD static void add_more(float *restrict y, const float *restrict more, size_t n, bool clamp)
{
    const float least = clamp ? 0 : -INFINITY;

    for (size_t i = 0; i < n; i++) {
        const float v = y[i] + more[i];

        y[i] = v < least ? least : v;
    }
}

void conv_unstage(const struct conv_pass *p, const struct conv_run *r, const struct conv_scratch *s, float *out, int n_out)
{
    const float *stage = s->stage;
    const size_t samples = (size_t)r->t->samples;

    for (int q = 0; q < n_out; q++, stage += conv_run_len(p))
        for (int i = 0; i < r->n; i++) {
            float *to = out + (size_t)q * r->out_stride + (size_t)i * (size_t)p->dest_step * (size_t)p->n;

            memcpy(to, stage + (size_t)i * samples, samples * sizeof *to);
            if (p->summand)
                add_more(to, p->summand + (to - p->to), samples, p->c->clamp);
        }
}

static void dense_run(const struct conv_pass *p, const struct conv_scratch *s, const struct conv_run *r)
{
    const struct conv_taps all = row_taps(p, r->y);
    const size_t per = (size_t)p->from_c * (size_t)r->tj.n; /* numbers for each row tap and output */
    const size_t skipped = (size_t)((r->ti.first - all.first) / all.step);
    const float *w = p->packed + (size_t)r->t->group * (conv_kernel_len(p->g) / (size_t)p->g->groups) + packed_at(p, r->y, r->x);
    struct conv_product k = { .in = s->ring, .tap = s->tap, .n_taps = run_taps(p, s, r), .out_stride = r->staged ? conv_run_len(p) : r->out_stride,
                              .at = s->at, .n = (int)conv_grains((size_t)r->n * (size_t)r->t->samples), .clamp = p->c->clamp && !p->back && !(p->summand && r->staged) };

    for (int b = 0; b < conv_n_out_blocks(p->to_c); b++) {
        int first = conv_out_block(p->to_c, b, &k.n_out);
        float *out = r->out + (size_t)first * r->out_stride;

        k.w = w + per * ((size_t)first * (size_t)all.n + skipped * (size_t)k.n_out);
        k.bias = p->bias ? p->bias + r->t->group * p->to_c + first : NULL;
        k.out = r->staged ? s->stage : out;
        k.more = p->summand && !r->staged ? p->summand + (out - p->to) : NULL;
        conv_level()->product(&k);
        if (r->staged)
            conv_unstage(p, r, s, out, k.n_out);
    }
}

/* The run of row y that begins at column x, of all channels of the group. */
static void make_run(const struct conv_pass *p, struct conv_scratch *s, const struct conv_tile *t, int y, int x, int n, struct conv_taps ti)
{
    const size_t samples = (size_t)t->samples, len = conv_grains((size_t)n * samples), step = (size_t)p->dest_step * (size_t)p->n;
    const bool straight = step == samples && (size_t)n * samples % CONV_GRAIN == 0; /* the output's run has no gaps either */
    struct conv_run r = { .t = t, .y = y, .x = x, .n = n, .ti = ti, .tj = column_taps(p, x % p->dest_step),
                          .staged = !straight && samples % CONV_GRAIN != 0, .out_stride = (size_t)p->to_h * (size_t)p->to_w * (size_t)p->n };

    r.out = p->to + (size_t)t->group * (size_t)p->to_c * r.out_stride + ((size_t)y * (size_t)p->to_w + (size_t)x) * (size_t)p->n + (size_t)t->from_n;
    for (size_t i = 0; i < len / CONV_GRAIN && n != s->placed; i++)
        s->at[i] = straight || r.staged ? i * CONV_GRAIN : i * CONV_GRAIN / samples * step + i * CONV_GRAIN % samples;
    s->placed = n;
    if (p->c->int8)
        conv_int8_run(p, s, &r);
    else if (p->c->sparse)
        conv_sparse_run(p, s, &r);
    else
        dense_run(p, s, &r);
}

static void pass_tile(void *ctx, int i)
{
    const struct conv_pass *p = ctx;
    const struct conv_tile t = tile_of(p, i);
    struct conv_scratch s = cut_scratch(p);

    if (p->c->int8)
        conv_int8_tile(p, &s, &t);
    else if (p->c->sparse)
        memset(s.zeros, 0, p->row_len * sizeof *s.zeros);
    for (int r = 0; r < p->ring; r++)
        s.have[r] = -1;
    for (int y = t.strip * p->rows; y < p->to_h && y < (t.strip + 1) * p->rows; y++) {
        const struct conv_taps ti = taps_inside(p, y);

        fill_ring(p, &s, &t, y, ti);
        for (int x = t.first * p->dest_step; x < (t.first + 1) * p->dest_step && x < p->to_w; x++)
            make_run(p, &s, &t, y, x, conv_min(t.columns, conv_ceil(p->to_w - x, p->dest_step)), ti);
    }
}

static void run_pass(struct conv_pass *p, const struct op_call *c)
{
    struct team *team = conv_team(p->g, c->sparse ? c->sparse->n : conv_kernel_len(p->g), c);

    p->c = c;
    p->packed = c->state;
    pass_blocks(p, c->n);
    if (c->int8)
        conv_int8_scales(p, team);
    else if (!c->sparse)
        team_for(team, p->g->groups, pack_group, p);
    team_for(team, p->g->groups * p->n_blocks * p->n_chunks * p->n_strips, pass_tile, p);
}

void conv_forward(const struct conv *g, const struct op_call *c)
{
    const struct conv words = conv_of_words(g);
    struct conv_pass p;

    conv_pass_shape(&p, c->int8 ? &words : g, false);
    p.image = c->int8 ? g : NULL;
    p.from = c->x[0];
    p.to = c->y;
    p.bias = c->w[1];
    p.factor = c->factor;
    p.summand = c->more;
    run_pass(&p, c);
}

void conv_input_gradient(const struct conv *g, const struct op_call *c)
{
    struct conv_pass p;

    conv_pass_shape(&p, g, true);
    p.from = c->dy;
    p.mask = c->clamp ? c->y : NULL;
    p.to = c->dx[0];
    run_pass(&p, c);
}

/* ---- memory ---- */

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

size_t conv_state_len(const struct conv *g)
{
    return larger(conv_kernel_len(g), conv_gradient_state_len(g));
}

/* Scales for a kernel in integers. */
size_t conv_state_len_per_sample(const struct conv *g) { return 3 * (size_t)g->groups; }

static size_t pass_scratch_for(struct conv_pass p, int n)
{
    pass_blocks(&p, n);
    return pass_scratch_len(&p);
}

/* Of any batch. A block of more than a grain of samples, of whole rows, is not larger than that of the largest batch that is one block. */
static size_t pass_scratch(const struct conv *g, bool back, const struct conv *image)
{
    struct conv_pass p;
    size_t most;

    conv_pass_shape(&p, g, back);
    p.image = image;
    most = pass_scratch_for(p, (int)larger(1, ROOM / sample_len(&p)));
    for (int n = 1; n <= CONV_GRAIN; n++)
        most = larger(most, pass_scratch_for(p, n));
    return most;
}

size_t conv_scratch_len(const struct conv *g)
{
    const struct conv words = conv_of_words(g);
    size_t most = larger(pass_scratch(g, false, NULL), pass_scratch(g, true, NULL));

    return conv_grains(larger(most, larger(pass_scratch(&words, false, g), conv_gradient_scratch_len(g))));
}
