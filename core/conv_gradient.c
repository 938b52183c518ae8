/* core/conv_gradient.c: the weight gradient of a convolution: dot products of runs of dy with runs of x.
 *
 * A unit of work is some rows of dy for a block of samples: few enough numbers that the runs of a block of outputs stay in the first-level cache while
 * those of x pass, many enough that summing up the vectors costs little. The units are dealt to a number of partial sums, by the shape alone; each is
 * filled by one tile for each group, or share of a group's outputs, and in the end they are added in order. */
#include "core/conv_impl.h"

#include <string.h>

#include "core/simd.h"

enum {
    ROOM = 180 * 1024,       /* floats that are packed, if it can be helped */
    SAMPLES = 8 * CONV_GRAIN, /* that are packed at once: columns of whole batches are read in one piece */
    FEW_SAMPLES = 2 * CONV_GRAIN, /* where those do not fit: less is read slowly */
    RUN = 1024,              /* numbers of a dot product, at most */
    PARTS = 8,               /* partial sums, at most */
    PARTS_LEN = 1 << 19,     /* and floats of all, unless two need more */
    RANGE = 16384            /* numbers that are summed at once */
};

struct gradient {
    struct conv_pass x;      /* how x is packed; its blocks are units: `rows` rows of dy at once */
    const struct op_call *c;
    size_t kept;             /* numbers of the kernel that runs */
    int n_parts, n_shares, n_units;
    size_t dy_len;           /* floats of a packed row of dy of one output */
    size_t part_len;         /* of a partial sum: kernel, then bias */
    float *part;
};

/* ---- sizes ---- */

static int parts_of(const struct conv *g)
{
    const size_t n = PARTS_LEN / (conv_kernel_len(g) + (size_t)g->o);

    return g->groups >= PARTS ? 1 : n < 1 ? 1 : n < PARTS ? (int)n : PARTS;
}

/* Shares of a group's outputs, where partial sums alone would leave threads idle. */
static int shares_of(const struct conv *g)
{
    return conv_max(1, conv_min(PARTS / (parts_of(g) * conv_min(g->groups, PARTS)), conv_ceil(g->o / g->groups, CONV_OUTPUTS)));
}

static int share_outputs(const struct gradient *d) { return conv_ceil(d->x.to_c, d->n_shares); }

static void gradient_shape(struct gradient *d, const struct conv *g)
{
    *d = (struct gradient){ .n_parts = parts_of(g), .n_shares = shares_of(g), .kept = conv_kernel_len(g) };
    conv_pass_shape(&d->x, g, false);
}

static size_t dy_row_len(int columns, int samples)
{
    const size_t len = conv_grains((size_t)columns * (size_t)samples);

    return len / CONV_GRAIN % 2 ? len : len + CONV_GRAIN;
}

/* Rows of x that `rows` of dy meet. */
static int ring_rows(const struct conv *g, int rows)
{
    const int64_t n = (int64_t)(rows - 1) * g->sh + (g->kh - 1) * g->dh + 1;

    return n < g->h ? (int)n : g->h;
}

static size_t packed_len(const struct gradient *d, int rows, int columns, int samples)
{
    return (size_t)ring_rows(d->x.g, rows) * (size_t)d->x.from_c * conv_row_len(&d->x, columns, samples) +
           (size_t)rows * (size_t)share_outputs(d) * dy_row_len(columns, samples);
}

/* As many samples as are read fast, then columns, rows and samples again, as many as there is room for. */
static void gradient_blocks(struct gradient *d, int n)
{
    const struct conv *g = d->x.g;
    struct conv_pass *p = &d->x;

    p->n = n;
    p->rows = 1;
    for (int most = SAMPLES; most >= FEW_SAMPLES; most /= 4) {
        p->samples = conv_min(n, most);
        p->columns = g->ow;
        while (p->columns > CONV_FEW_COLUMNS && (p->columns * p->samples > RUN || packed_len(d, 1, p->columns, p->samples) > ROOM))
            p->columns = conv_ceil(p->columns, 2);
        if (packed_len(d, 1, p->columns, p->samples) <= ROOM)
            break;
    }
    while (p->rows < g->oh && (p->rows + 1) * p->columns * p->samples <= RUN && packed_len(d, p->rows + 1, p->columns, p->samples) <= ROOM)
        p->rows++;
    while (p->rows == g->oh && p->samples + CONV_GRAIN <= n && p->rows * p->columns * (p->samples + CONV_GRAIN) <= RUN &&
           packed_len(d, p->rows, p->columns, p->samples + CONV_GRAIN) <= ROOM)
        p->samples += CONV_GRAIN;
    p->rows = conv_ceil(g->oh, conv_ceil(g->oh, p->rows));
    p->n_blocks = conv_ceil(n, p->samples);
    p->n_chunks = conv_ceil(g->ow, p->columns);
    p->n_strips = conv_ceil(g->oh, p->rows);
    p->ring = ring_rows(g, p->rows);
    p->row_len = conv_row_len(p, p->columns, p->samples);
    d->n_units = p->n_blocks * p->n_chunks * p->n_strips;
    d->dy_len = dy_row_len(p->columns, p->samples);
}

/* One thread's scratch, cut up. */
struct scratch {
    float *x, *zeros, *dy; /* packed: [slot][channel], a row outside of the image, [row][output] */
    uint32_t *tap, *row;   /* where each tap's run begins in a row, and each row */
    int *have;             /* per slot of the ring of x: row, or -1 */
};

static size_t taps_len(const struct gradient *d) { return conv_grains((size_t)d->x.from_c * (size_t)d->x.g->kh * (size_t)d->x.g->kw); }
static size_t dy_len(const struct gradient *d) { return (size_t)d->x.rows * (size_t)share_outputs(d) * d->dy_len; }

static size_t scratch_len(const struct gradient *d)
{
    return (size_t)d->x.ring * conv_slot_len(&d->x) + d->x.row_len + dy_len(d) + taps_len(d) + conv_grains((size_t)d->x.rows) +
           conv_grains((size_t)d->x.ring);
}

static struct scratch cut_scratch(const struct gradient *d)
{
    struct scratch s = { .x = op_scratch(d->c) };

    s.zeros = s.x + (size_t)d->x.ring * conv_slot_len(&d->x);
    s.dy = s.zeros + d->x.row_len;
    s.tap = (uint32_t *)(void *)(s.dy + dy_len(d));
    s.row = s.tap + taps_len(d);
    s.have = (int *)(void *)(s.row + conv_grains((size_t)d->x.rows));
    return s;
}

/* ---- a unit ---- */

struct unit {
    struct conv_tile t;
    int o, n_out;  /* outputs, of all groups */
    int y, rows;
};

static struct unit unit_of(const struct gradient *d, int i)
{
    const struct conv_pass *p = &d->x;
    const int strip = i % p->n_strips, chunk = i / p->n_strips % p->n_chunks, block = i / p->n_strips / p->n_chunks;
    struct unit u = { .t = { .strip = strip, .from_n = block * p->samples, .first = chunk * p->columns }, .y = strip * p->rows };

    u.t.samples = conv_min(p->samples, p->n - u.t.from_n);
    u.t.columns = conv_min(p->columns, p->to_w - u.t.first);
    u.rows = conv_min(p->rows, p->to_h - u.y);
    return u;
}

static int run_of(const struct unit *u) { return (int)conv_grains((size_t)u->t.columns * (size_t)u->t.samples); }

/* dy as [row][output][x][sample]; padded with zeros to whole grains. */
static void pack_dy(const struct gradient *d, const struct unit *u, float *out)
{
    const struct conv *g = d->x.g;
    const size_t used = (size_t)u->t.columns * (size_t)u->t.samples, n = (size_t)d->x.n;

    for (int r = 0; r < u->rows; r++)
        for (int q = 0; q < u->n_out; q++, out += d->dy_len) {
            size_t at = ((size_t)(u->o + q) * (size_t)g->oh + (size_t)(u->y + r)) * (size_t)g->ow * n + (size_t)u->t.first * n + (size_t)u->t.from_n;

            conv_pack_places(out, d->c->dy + at, d->c->clamp ? d->c->y + at : NULL, u->t.columns, u->t.columns, 0, 1, 0, n, (size_t)u->t.samples);
            memset(out + used, 0, (conv_grains(used) - used) * sizeof *out);
        }
}

/* Rows of x that the unit meets and that are not in the ring yet. */
static void pack_x(const struct gradient *d, const struct scratch *s, const struct unit *u)
{
    for (int r = 0; r < u->rows; r++)
        for (int i = 0; i < d->x.g->kh; i++) {
            int sy = conv_source_row(&d->x, u->y + r, i), slot = sy % d->x.ring;

            if (sy < 0 || s->have[slot] == sy)
                continue;
            conv_pack_rows(&d->x, s->x + (size_t)slot * conv_slot_len(&d->x), &u->t, sy);
            s->have[slot] = sy;
        }
}

/* Kernel row i of all outputs, from the rows of the unit that meet the image there. */
static void dense_row(const struct gradient *d, const struct scratch *s, const struct unit *u, float *part, int i)
{
    const struct conv *g = d->x.g;
    const int taps = g->kh * g->kw;
    struct conv_dots k = { .in = s->x, .row = s->row, .dy_row = (size_t)u->n_out * d->dy_len, .dy_stride = d->dy_len, .tap = s->tap,
                           .n_taps = d->x.from_c * g->kw, .n = run_of(u), .sum_stride = (size_t)d->x.from_c * (size_t)taps, .place = i * g->kw,
                           .place_step = taps, .kw = g->kw };
    int lo = 0, hi = u->rows;

    while (lo < hi && conv_source_row(&d->x, u->y + lo, i) < 0)
        lo++;
    while (lo < hi && conv_source_row(&d->x, u->y + hi - 1, i) < 0)
        hi--;
    k.rows = hi - lo;
    for (int r = lo; r < hi; r++)
        s->row[r - lo] = (uint32_t)((size_t)(conv_source_row(&d->x, u->y + r, i) % d->x.ring) * conv_slot_len(&d->x));
    for (int b = 0; b < conv_n_out_blocks(u->n_out) && k.rows > 0; b++) {
        int first = conv_out_block(u->n_out, b, &k.n_out);

        k.dy = s->dy + ((size_t)lo * (size_t)u->n_out + (size_t)first) * d->dy_len;
        k.sum = part + (size_t)(u->o + first) * k.sum_stride;
        conv_level()->dots(&k);
    }
}

static void dense_unit(const struct gradient *d, const struct scratch *s, const struct unit *u, float *part)
{
    const struct conv *g = d->x.g;

    for (int c = 0; c < d->x.from_c; c++)
        for (int j = 0; j < g->kw; j++)
            s->tap[c * g->kw + j] = (uint32_t)((size_t)c * d->x.row_len) + conv_tap_place(&d->x, u->t.columns, u->t.samples, 0, j);
    for (int i = 0; i < g->kh; i++)
        dense_row(d, s, u, part, i);
}

/* Row after row: the kept numbers alone. */
static void sparse_unit(const struct gradient *d, const struct scratch *s, const struct unit *u, float *part)
{
    const struct sparse *w = d->c->sparse;
    struct conv_kept k = { .in = s->x, .tap = s->tap, .start = w->by_row.start + u->o, .across = w->by_row.across, .n_lines = u->n_out,
                           .end = w->by_row.start + (size_t)w->by_row.n_blocks * (size_t)w->rows + u->o, .dy_stride = d->dy_len, .n = run_of(u) };

    for (int r = 0; r < u->rows; r++) {
        conv_all_taps(&d->x, s->x, s->zeros, s->tap, &u->t, u->y + r);
        k.dy = s->dy + (size_t)r * (size_t)u->n_out * d->dy_len;
        k.sum = part;
        conv_level()->kept_dots(&k);
    }
}

static void run_unit(const struct gradient *d, const struct scratch *s, const struct unit *u, float *part)
{
    pack_x(d, s, u);
    pack_dy(d, u, s->dy);
    if (d->c->sparse)
        sparse_unit(d, s, u, part);
    else
        dense_unit(d, s, u, part);
    for (int r = 0; r < u->rows && d->c->w[1]; r++) /* of the bias */
        for (int q = 0; q < u->n_out; q++)
            part[d->kept + (size_t)(u->o + q)] += conv_level()->total(s->dy + ((size_t)r * (size_t)u->n_out + (size_t)q) * d->dy_len, run_of(u));
}

/* ---- parts ---- */

/* Where the numbers of output o begin in a partial sum. */
static size_t first_of(const struct gradient *d, int o)
{
    return d->c->sparse ? sparse_first(&d->c->sparse->by_row, o) : d->kept / (size_t)d->x.g->o * (size_t)o;
}

/* One part of one group, or of a share of its outputs. */
static void part_tile(void *ctx, int i)
{
    const struct gradient *d = ctx;
    const struct scratch s = cut_scratch(d);
    const int part = i % d->n_parts, share = i / d->n_parts % d->n_shares, group = i / d->n_parts / d->n_shares;
    const int each = share_outputs(d), from = conv_min(share * each, d->x.to_c), n_out = conv_min(each, d->x.to_c - from), o = group * d->x.to_c + from;
    const int first = (int)((int64_t)d->n_units * part / d->n_parts), end = (int)((int64_t)d->n_units * (part + 1) / d->n_parts);
    float *sum = d->part + (size_t)part * d->part_len;

    if (n_out == 0)
        return;
    memset(s.zeros, 0, d->x.row_len * sizeof *s.zeros);
    memset(sum + first_of(d, o), 0, (first_of(d, o + n_out) - first_of(d, o)) * sizeof *sum);
    memset(sum + d->kept + (size_t)o, 0, (size_t)n_out * sizeof *sum);
    for (int k = first; k < end; k++) {
        struct unit u = unit_of(d, k);

        u.t.group = group;
        u.o = o;
        u.n_out = n_out;
        for (int r = 0; (k == first || u.t.strip == 0) && r < d->x.ring; r++)
            s.have[r] = -1;
        run_unit(d, &s, &u, sum);
    }
}

SIMD static void add_parts(float *restrict out, const float *restrict part, size_t stride, int n_parts, size_t n, bool accumulate)
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
    const size_t first = (size_t)i * RANGE, n = d->kept - first < RANGE ? d->kept - first : RANGE, bias = (size_t)d->x.g->o;

    add_parts(c->dw[0] + first, d->part + first, d->part_len, d->n_parts, n, c->accumulate);
    if (c->ready && n > 0)
        c->ready(c->ready_user, 0, first, n);
    if (!c->w[1] || first + n < d->kept)
        return;
    add_parts(c->dw[1], d->part + d->kept, d->part_len, d->n_parts, bias, c->accumulate);
    if (c->ready)
        c->ready(c->ready_user, 1, 0, bias);
}

void conv_weight_gradient(const struct conv *g, const struct op_call *c)
{
    struct gradient d;
    struct team *team;

    gradient_shape(&d, g);
    gradient_blocks(&d, c->n);
    d.c = d.x.c = c;
    d.kept = c->sparse ? c->sparse->n : d.kept;
    d.part_len = conv_grains(d.kept + (size_t)g->o);
    d.x.from = c->x[0];
    d.part = c->state;
    team = conv_team(g, d.kept, c);
    team_for(team, d.n_parts * d.n_shares * g->groups, part_tile, &d);
    team_for(team, d.kept > RANGE ? (int)((d.kept + RANGE - 1) / RANGE) : 1, sum_tile, &d);
}

/* ---- memory ---- */

size_t conv_gradient_state_len(const struct conv *g)
{
    return (size_t)parts_of(g) * conv_grains(conv_kernel_len(g) + (size_t)g->o);
}

/* Of any batch: of more than SAMPLES, the one that has room for the largest blocks. */
size_t conv_gradient_scratch_len(const struct conv *g)
{
    size_t most = 0;

    for (int n = 1; n <= RUN; n = n < SAMPLES ? n + 1 : n < RUN ? RUN : n + 1) {
        struct gradient d;

        gradient_shape(&d, g);
        gradient_blocks(&d, n);
        most = scratch_len(&d) > most ? scratch_len(&d) : most;
    }
    return most;
}
