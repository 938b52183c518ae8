/* core/conv_int8.c: convolutions with kernels in integers (see conv.h, int8.h). A pass of words: what is packed of the image's rows are words, quantised on
 * the way, so that to conv.c it is a convolution of words: of a quarter of the channels; or, where a word is of four columns, of one row for every four
 * columns of the window, which is one column wide then. Zeros around the image are zero's bytes. Each group has scales of its own: a depthwise one finds
 * those of a channel right before it packs it.
 *
 * Sums become numbers while they are in registers, where whole grains of a run lie together; else by pieces of runs, while they are in the first-level
 * cache. */
#include "core/conv_int8.h"

#include <string.h>

#include "core/conv_impl.h"
#include "core/simd.h"

enum {
    PIECE = 32 * CONV_GRAIN, /* of a run, at most, if it has several places */
    SLICE = 64               /* samples whose ranges one tile finds */
};

struct conv conv_of_words(const struct conv *g)
{
    const struct int8_window w = int8_window_of(g->c / g->groups, g->kh, g->kw);
    struct conv words = *g;

    words.c = w.depth * g->groups;
    if (w.across) {
        words.w = words.ow;
        words.kw = words.sw = words.dw = 1;
        words.left = 0;
    }
    return words;
}

/* ---- scales of samples: in the call's state ---- */

struct scales { float *s, *inverse; int32_t *zero; }; /* of each sample, for a group */

static struct scales scales_of(const struct op_call *c, int group)
{
    float *at = c->state + 3 * (size_t)group * (size_t)c->n;

    return (struct scales){ at, at + c->n, (int32_t *)(void *)(at + 2 * (size_t)c->n) };
}

/* Few samples: several rows are looked at as one. */
SIMD static void ranges_of_few(const float *x, size_t rows, int n, float *low, float *high)
{
    const int times = SLICE / n;
    float small[2 * SLICE] = { 0 }, large[2 * SLICE] = { 0 };

    int8_ranges(x, (size_t)(times * n), rows / (size_t)times, times * n, small, large);
    int8_ranges(x + rows / (size_t)times * (size_t)(times * n), (size_t)n, rows % (size_t)times, n, small + times * n, large + times * n);
    for (int left = times + 1, half; left > 1; left -= half) {
        const int other = (left - left / 2) * n;

        half = left / 2;
        for (int i = 0; i < half * n; i++) {
            small[i] = small[other + i] < small[i] ? small[other + i] : small[i];
            large[i] = large[other + i] > large[i] ? large[other + i] : large[i];
        }
    }
    memcpy(low, small, (size_t)n * sizeof *low);
    memcpy(high, large, (size_t)n * sizeof *high);
}

/* Few samples, and a window that reads some rows or columns alone: first each number of a row has a range of its own. */
static void ranges_of_columns(const struct conv *g, const float *x, int down, int right, int rows, int n, float *low, float *high)
{
    const int width = g->w * n, channels = g->c / g->groups;

    for (int at = 0; at < width; at += SLICE) {
        const int len = conv_min(SLICE, width - at);
        float small[SLICE] = { 0 }, large[SLICE] = { 0 };

        for (int c = 0; c < channels; c++)
            int8_ranges(x + (size_t)c * (size_t)g->h * (size_t)width + at, (size_t)down * (size_t)width, (size_t)rows, len, small, large);
        for (int i = 0; i < len; i++) {
            const int column = (at + i) / n, j = (at + i) % n;

            if (column % right != 0 || (right > 1 && column / right >= g->ow))
                continue;
            low[j] = small[i] < low[j] ? small[i] : low[j];
            high[j] = large[i] > high[j] ? large[i] : high[j];
        }
    }
}

/* Of a group's inputs, samples first .. first + n - 1. A window of one row or column reads none between its strides: those do not count. */
static void ranges(const struct conv_pass *p, int group, int first, int n, float *low, float *high)
{
    const struct conv *g = p->image;
    const int down = g->kh == 1 ? g->sh : 1, right = g->kw == 1 ? g->sw : 1, channels = g->c / g->groups, rows = down > 1 ? g->oh : g->h;
    const size_t row_len = (size_t)g->w * (size_t)p->n, len = (size_t)channels * (size_t)g->h * row_len;
    const float *x = p->from + (size_t)group * len + first;
    const bool all = down == 1 && right == 1, few = n == p->n && n < SLICE;

    for (int j = 0; j < n; j++)
        low[j] = high[j] = 0;
    if (few && all)
        ranges_of_few(x, len / (size_t)n, n, low, high);
    else if (few)
        ranges_of_columns(g, x, down, right, rows, n, low, high);
    else if (all)
        int8_ranges(x, (size_t)p->n, len / (size_t)p->n, n, low, high);
    for (int i = 0; i < channels * rows && !few && !all; i++)
        int8_ranges(x + (size_t)(i / rows * g->h + i % rows * down) * row_len, (size_t)right * (size_t)p->n, (size_t)(right > 1 ? g->ow : g->w), n, low,
                    high);
}

/* Of at most SLICE samples. */
static void find_scales(const struct conv_pass *p, int group, int first, int n)
{
    const struct int8_scale fixed = p->c->int8->input;
    const struct scales all = scales_of(p->c, group);
    float low[SLICE], high[SLICE];

    if (fixed.s == 0) {
        ranges(p, group, first, n, low, high);
        int8_scales(low, high, n, all.s + first, all.inverse + first, all.zero + first);
    }
    for (int j = first; j < first + n && fixed.s != 0; j++) {
        all.s[j] = fixed.s;
        all.inverse[j] = 1 / fixed.s;
        all.zero[j] = fixed.zero;
    }
}

static void scales_tile(void *ctx, int tile)
{
    const struct conv_pass *p = ctx;
    const int slices = conv_ceil(p->n, SLICE), first = tile % slices * SLICE;

    find_scales(p, tile / slices, first, conv_min(SLICE, p->n - first));
}

/* Whether a tile has all that a group reads of its samples: then it finds their scales itself, and packs what is in the second-level cache. */
static bool tile_has_all(const struct conv_pass *p) { return p->n_chunks == 1 && p->n_strips == 1; }

void conv_int8_scales(struct conv_pass *p, struct team *team)
{
    if (!tile_has_all(p))
        team_for(p->c->int8->input.s == 0 ? team : NULL, p->g->groups * conv_ceil(p->n, SLICE), scales_tile, p);
}

/* ---- packing: words of rows ---- */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Row sy of a channel of the tile's group. */
static const float *row_at(const struct conv_pass *p, const struct conv_tile *t, int channel, int sy)
{
    const struct conv *g = p->image;
    const size_t row = ((size_t)t->group * (size_t)(g->c / g->groups) + (size_t)channel) * (size_t)g->h + (size_t)sy;

    return p->from + row * (size_t)g->w * (size_t)p->n + t->from_n;
}

/* Four rows, or one (four are the same then), and where they go. */
struct line { const float *row[4]; bool single; int samples; uint32_t *out; };

/* n numbers from number `at` of the rows on. */
static void pack_numbers(const struct conv_scratch *s, const struct line *l, size_t at, size_t to, int n)
{
    const float *const x[4] = { l->row[0] + at, l->row[1] + at, l->row[2] + at, l->row[3] + at };

    if (l->single)
        s->floats->bytes(l->out + to, x[0], s->inverse, s->zero, n);
    else
        s->floats->words(l->out + to, x, s->inverse, s->zero, n);
}

/* n numbers of 32 bits over and over, `len` in all. */
static void repeat(void *restrict out, const void *restrict x, int n, int len)
{
    uint32_t first;

    memcpy(&first, x, sizeof first);
    for (int i = 0; i < len && n == 1; i++)
        memcpy((uint32_t *)out + i, &first, sizeof first);
    for (int at = 0; at < len && n > 1; at += n)
        memcpy((uint32_t *)out + at, x, (size_t)conv_min(n, len - at) * sizeof first);
}

static void pack_zeros(const struct conv_scratch *s, const struct line *l, int first, int places)
{
    const void *zeros = l->single ? (const void *)s->zero : s->nothing;

    repeat(l->out + (size_t)first * (size_t)l->samples, zeros, l->samples, places * l->samples);
}

/* `samples` numbers each of n places that are `step` numbers apart. */
static void gather(float *restrict out, const float *restrict x, int n, size_t step, int samples)
{
    for (int i = 0; i < n && samples == 1; i++)
        out[i] = x[(size_t)i * step];
    for (int i = 0; i < n && samples > 1; i++, x += step)
        for (int j = 0; j < samples; j++)
            *out++ = x[j];
}

/* n places that are `step` numbers apart, from number `from` of the rows on. Of few samples several places are gathered and packed at once. */
static void pack_apart(const struct conv_scratch *s, const struct line *l, size_t from, size_t step, size_t to, int n)
{
    const int samples = l->samples, most = samples < CONV_GRAIN ? s->piece / samples : 1;
    float some[4][PIECE];
    struct line few = *l;

    for (int m; n > 0; n -= m, from += (size_t)m * step, to += (size_t)(m * samples)) {
        m = conv_min(n, most);
        for (int b = 0; b < (l->single ? 1 : 4) && m > 1; b++)
            gather(some[b], l->row[b] + from, m, step, samples);
        for (int b = 0; b < 4 && m > 1; b++)
            few.row[b] = some[l->single ? 0 : b];
        pack_numbers(s, m > 1 ? &few : l, m > 1 ? 0 : from, to, m * samples);
    }
}

/* `places` places, of columns column, column + step, .. of the image. */
static void pack_line(const struct conv_pass *p, const struct conv_scratch *s, const struct line *l, int64_t column, int step, int places)
{
    const int64_t width = p->image->w, samples = l->samples;
    const int before = (int)(column < 0 ? least((-column + step - 1) / step, places) : 0);
    const int64_t first = column + (int64_t)before * step; /* in the image, if any is */
    const int inside = (int)(first < width ? least((width - 1 - first) / step + 1, places - before) : 0);

    pack_zeros(s, l, 0, before);
    if (step == 1 && samples == p->n) /* straight in memory too */
        for (int64_t k = 0, n = inside * samples; k < n; k += s->piece)
            pack_numbers(s, l, (size_t)(first * samples + k), (size_t)(before * samples + k), (int)least(n - k, s->piece));
    else
        pack_apart(s, l, (size_t)first * (size_t)p->n, (size_t)step * (size_t)p->n, (size_t)before * (size_t)samples, inside);
    pack_zeros(s, l, before + inside, places - before - inside);
}

/* A word of four channels; too many meet weights of 0. */
static void pack_deep(const struct conv_pass *p, const struct conv_scratch *s, uint32_t *out, const struct conv_tile *t, int word, int sy)
{
    const struct conv *g = p->image;
    const int last = g->c / g->groups - 1, places = t->columns + p->more;
    struct line l = { .samples = t->samples };

    for (int b = 0; b < 4; b++)
        l.row[b] = row_at(p, t, conv_min(4 * word + b, last), sy);
    for (int f = 0; f < p->phases; f++) {
        l.out = out + (size_t)f * (size_t)places * (size_t)t->samples;
        pack_line(p, s, &l, (int64_t)t->first * g->sw + (int64_t)f * g->dw % g->sw - g->left, g->sw, places);
    }
}

/* Columns of the image that a row of so many places meets. */
static int span_of(const struct conv *g, int columns) { return (columns - 1) * g->sw + (g->kw - 1) * g->dw + 1; }

/* The words of a channel, of four columns each, neighbours in the image. */
static void pack_rolling(const struct conv_pass *p, const struct conv_scratch *s, uint32_t *out, const struct conv_tile *t, int channel, int sy)
{
    const struct conv *g = p->image;
    const int columns = (t->columns - 1) * g->sw + 4;
    struct int8_line l = { .step = (size_t)p->n, .columns = columns, .samples = t->samples, .every = g->sw, .inverse = s->inverse, .zero = s->zero,
                           .clamp = p->c->int8->input.s != 0 };

    for (int word = 0; 4 * word < g->kw; word++, out += p->row_len) {
        const int column = t->first * g->sw - g->left + 4 * word; /* of the first place */

        l.before = (int)least(column < 0 ? -column : 0, columns);
        l.inside = conv_max(conv_min(g->w - (column + l.before), columns - l.before), 0);
        l.x = row_at(p, t, channel, sy) + (l.inside > 0 ? (size_t)(column + l.before) * (size_t)p->n : 0);
        s->floats->roll(out, &l);
    }
}

/* Bytes of places that are `step` apart. */
SIMD static void join_apart(uint32_t *restrict out, const uint32_t *const in[4], int places, size_t step, int samples)
{
    const uint32_t *a = in[0], *b = in[1], *c = in[2], *d = in[3];

    for (int i = 0; i < places; i++, a += step, b += step, c += step, d += step)
        for (int j = 0; j < samples; j++)
            *out++ = a[j] | b[j] << 8 | c[j] << 16 | d[j] << 24;
}

/* The words of a channel, of four columns each: its bytes one by one, then four together. */
static void pack_across(const struct conv_pass *p, const struct conv_scratch *s, uint32_t *out, const struct conv_tile *t, int channel, int sy)
{
    const struct conv *g = p->image;
    const float *row = row_at(p, t, channel, sy);
    const struct line l = { { row, row, row, row }, true, t->samples, s->single };
    const size_t samples = (size_t)t->samples;

    pack_line(p, s, &l, (int64_t)t->first * g->sw - g->left, 1, span_of(g, t->columns));
    for (int first = 0; first < g->kw; first += 4, out += p->row_len) {
        const uint32_t *in[4];

        for (int b = 0; b < 4; b++)
            in[b] = s->single + (size_t)(conv_min(first + b, g->kw - 1) * g->dw) * samples;
        if (g->sw == 1)
            s->floats->join(out, in, t->columns * t->samples);
        else
            join_apart(out, in, t->columns, (size_t)g->sw * samples, t->samples);
    }
}

void conv_int8_rows(const struct conv_pass *p, const struct conv_scratch *s, uint32_t *out, const struct conv_tile *t, int sy)
{
    const struct int8_window *w = &p->c->int8->window;
    const int quads = w->across ? p->from_c / w->channels : 1;

    for (int f = 0; f < p->from_c; f += quads)
        if (w->across && p->image->dw == 1 && t->samples >= CONV_GRAIN)
            pack_rolling(p, s, out + (size_t)f * p->row_len, t, f / quads, sy);
        else if (w->across)
            pack_across(p, s, out + (size_t)f * p->row_len, t, f / quads, sy);
        else
            pack_deep(p, s, out + (size_t)f * p->row_len, t, f, sy);
}

/* ---- tiles ---- */

/* Of a run: whole places. */
static int piece_len(int samples, int columns) { return conv_min(conv_max(PIECE / samples, 1), columns) * samples; }

static size_t piece_room(const struct conv_pass *p) { return conv_grains((size_t)conv_max(p->samples, PIECE) + CONV_GRAIN); }

static size_t single_room(const struct conv_pass *p)
{
    const struct conv *g = p->image;

    return int8_window_of(g->c / g->groups, g->kh, g->kw).across ? conv_grains((size_t)span_of(g, p->columns) * (size_t)p->samples) : 0;
}

size_t conv_int8_scratch_len(const struct conv_pass *p) { return 4 * piece_room(p) + single_room(p); }

void conv_int8_cut(const struct conv_pass *p, struct conv_scratch *s, float *at)
{
    s->scale = at;
    s->inverse = s->scale + piece_room(p);
    s->zero = (int32_t *)(void *)(s->inverse + piece_room(p));
    s->nothing = (uint32_t *)(void *)(s->zero + piece_room(p));
    s->single = s->nothing + piece_room(p);
}

/* Whether rows outside of the image are met. */
static bool meets_zeros(const struct conv_pass *p)
{
    const struct conv *g = p->g;

    return g->top > 0 || (int64_t)(g->oh - 1) * g->sh - g->top + (int64_t)(g->kh - 1) * g->dh >= g->h;
}

void conv_int8_tile(const struct conv_pass *p, struct conv_scratch *s, const struct conv_tile *t)
{
    const struct scales all = scales_of(p->c, t->group);

    for (int at = 0; at < t->samples && tile_has_all(p); at += SLICE)
        find_scales(p, t->group, t->from_n + at, conv_min(SLICE, t->samples - at));
    s->piece = piece_len(t->samples, span_of(p->image, t->columns)); /* packed rows are the longer ones */
    repeat(s->scale, all.s + t->from_n, t->samples, s->piece + CONV_GRAIN);
    repeat(s->inverse, all.inverse + t->from_n, t->samples, s->piece + CONV_GRAIN);
    repeat(s->zero, all.zero + t->from_n, t->samples, s->piece + CONV_GRAIN);
    s->floats = int8_floats();
    s->words = conv_words_level();
    s->same_zero = int8_zeros(s->nothing, s->zero, t->samples);
    if (meets_zeros(p))
        pack_zeros(s, &(struct line){ .samples = t->samples, .out = (uint32_t *)(void *)s->zeros }, 0, p->phases * (t->columns + p->more));
}

/* ---- runs ---- */

/* Piece of a run: numbers at .. at + n - 1. */
struct piece { const struct conv_run *r; int at, n; };

/* Sums that are no whole grains, of one output, to where they go. */
static void settle(const struct conv_pass *p, const struct conv_scratch *s, const struct piece *x, int output, const int32_t *sum, const struct int8_row *row)
{
    const int samples = x->r->t->samples, step = samples == p->n ? x->n : samples;
    float *out = x->r->out + (size_t)output * x->r->out_stride + (size_t)(x->at / samples) * (size_t)p->n;

    for (int i = 0; i < x->n; i += step, out += p->n)
        s->floats->scale_back(out, sum + i, s->scale, s->zero, step, *row);
}

/* Outputs first .. first + n_out - 1 of the group. */
static void run_outputs(const struct conv_pass *p, const struct conv_scratch *s, const struct piece *x, struct conv_words *w, int first, int n_out,
                        void (*run)(const struct conv_words *w))
{
    const struct int8 *k = p->c->int8;
    struct int8_row row[INT8_OUTPUTS];

    for (int q = 0; q < n_out; q++) {
        const int number = x->r->t->group * k->group + first + q;

        row[q] = (struct int8_row){ .scale = k->scale[number], .bias = p->bias ? p->bias[number] : 0, .of_weights = k->sum[number],
                                    .start = w->zero ? 0 : -s->zero[0] * k->sum[number], .clamp = p->c->clamp };
    }
    w->row = row;
    w->out = w->sum ? NULL : x->r->out + (size_t)first * x->r->out_stride;
    run(w);
    for (int q = 0; w->sum && q < n_out; q++)
        settle(p, s, x, first + q, w->sum + (size_t)q * w->stride, &row[q]);
}

static void run_piece(const struct conv_pass *p, const struct conv_scratch *s, const struct piece *x, struct conv_words *w)
{
    const struct int8 *k = p->c->int8;
    const int first = x->r->t->group * k->group;

    w->w = k->whole ? k->word + (size_t)first * (size_t)k->words : k->word;
    for (int b = 0; k->whole && b < int8_n_blocks(k->group); b++, w->w += (size_t)w->n_out * (size_t)k->words) {
        const int at = int8_block(k->group, b, &w->n_out);

        run_outputs(p, s, x, w, at, w->n_out, s->words->block);
    }
    for (int q = 0; !k->whole && q < k->group; q++) {
        w->start = k->start[first + q];
        w->end = k->start[first + q + 1];
        run_outputs(p, s, x, w, q, 1, s->words->line);
    }
}

void conv_int8_run(const struct conv_pass *p, const struct conv_scratch *s, const struct conv_run *r)
{
    const bool whole = r->t->samples % CONV_GRAIN == 0;
    const int all = r->n * r->t->samples;
    struct conv_words w = { .tap = s->tap, .sum = whole ? NULL : (int32_t *)(void *)s->stage, .n_words = p->c->int8->words, .s = s->scale,
                            .zero = whole && s->same_zero ? NULL : s->zero, .across = p->c->int8->across };

    conv_all_taps(p, s->ring, s->zeros, s->tap, r->t, r->y);
    for (int at = 0; at < all; at += s->piece) {
        const struct piece x = { r, at, conv_min(s->piece, all - at) };

        w.in = (const uint32_t *)(const void *)s->ring + at;
        w.n = (int)conv_grains((size_t)x.n);
        w.at = s->at + at / CONV_GRAIN;
        w.stride = whole ? r->out_stride : (size_t)w.n;
        run_piece(p, s, &x, &w);
    }
}
