/* core/conv_sparse.c: runs of a pass with a sparse kernel: each kept number meets whole vectors of packed rows (see conv.h, sparse.h). The
 * input gradient runs down the kernel's columns; which of them a row of dx meets changes from row to row, so the numbers of each channel are listed
 * anew for each run. */
#include "core/conv_impl.h"

/* A row outside of the image is one of zeros. */
void conv_all_taps(const struct conv_pass *p, const float *ring, const float *zeros, uint32_t *tap, const struct conv_tile *t, int y)
{
    const struct conv *g = p->g;

    for (int i = 0; i < g->kh; i++) {
        const int sy = conv_source_row(p, y, i);
        const size_t slot = sy < 0 ? (size_t)(zeros - ring) : (size_t)(sy % p->ring) * conv_slot_len(p), step = sy < 0 ? 0 : p->row_len;

        for (int j = 0; j < g->kw; j++) {
            uint32_t at = (uint32_t)slot + conv_tap_place(p, t->columns, t->samples, 0, j);

            for (int c = 0; c < p->from_c; c++)
                tap[(c * g->kh + i) * g->kw + j] = at + (uint32_t)((size_t)c * step);
        }
    }
}

static void forward_run(const struct conv_pass *p, const struct conv_scratch *s, const struct conv_run *r)
{
    const struct sparse *w = p->c->sparse;
    const struct sparse_order *o = &w->by_row;
    const uint32_t *end = o->start + (size_t)o->n_blocks * (size_t)w->rows;
    struct conv_kept k = { .in = s->ring, .tap = s->tap, .across = o->across, .value = w->value, .at = s->at, .clamp = p->c->clamp,
                           .out_stride = r->staged ? conv_run_len(p) : r->out_stride, .n = (int)conv_grains((size_t)r->n * (size_t)r->t->samples) };
    const int step = r->staged ? CONV_OUTPUTS : p->to_c;

    conv_all_taps(p, s->ring, s->zeros, s->tap, r->t, r->y);
    for (int first = 0; first < p->to_c; first += step) {
        float *out = r->out + (size_t)first * r->out_stride;

        k.n_lines = conv_min(step, p->to_c - first);
        k.start = o->start + first;
        k.end = end + first;
        k.bias = p->bias ? p->bias + first : NULL;
        k.out = r->staged ? s->stage : out;
        conv_level()->kept_product(&k);
        if (r->staged)
            conv_unstage(p, r, s, out, k.n_lines);
    }
}

/* The numbers of channel c that meet the run: where each one's run of dy begins, and values. */
static uint32_t list_kept(const struct conv_pass *p, const struct conv_scratch *s, const struct conv_run *r, int c)
{
    const struct sparse *w = p->c->sparse;
    const struct sparse_order *o = &w->by_col;
    const uint32_t *start = o->start, *end = start + (size_t)o->n_blocks * (size_t)w->cols;
    uint32_t n = 0;

    for (int i = 0; i < r->ti.n; i++) {
        const int ki = r->ti.first + i * r->ti.step;
        const size_t slot = (size_t)(conv_source_row(p, r->y, ki) % p->ring) * conv_slot_len(p);

        for (int j = 0; j < r->tj.n; j++) {
            const int kj = r->tj.first + j * r->tj.step, line = (c * p->g->kh + ki) * p->g->kw + kj;
            const size_t at = slot + conv_tap_place(p, r->t->columns, r->t->samples, r->x % p->dest_step, kj);

            for (uint32_t k = start[line]; k < end[line]; k++, n++) {
                s->tap[n] = (uint32_t)(at + o->across[k] * p->row_len);
                s->value[n] = w->value[o->number[k]];
            }
        }
    }
    return n;
}

static void back_run(const struct conv_pass *p, const struct conv_scratch *s, const struct conv_run *r)
{
    struct conv_kept k = { .in = s->ring, .across = s->tap, .value = s->value, .at = s->at, .n_lines = 1,
                           .n = (int)conv_grains((size_t)r->n * (size_t)r->t->samples) };

    for (int c = 0; c < p->to_c; c++) {
        float *out = r->out + (size_t)c * r->out_stride;
        const uint32_t first = 0, end = list_kept(p, s, r, c);

        k.start = &first;
        k.end = &end;
        k.out = r->staged ? s->stage : out;
        conv_level()->kept_product(&k);
        if (r->staged)
            conv_unstage(p, r, s, out, 1);
    }
}

void conv_sparse_run(const struct conv_pass *p, const struct conv_scratch *s, const struct conv_run *r)
{
    if (p->back)
        back_run(p, s, r);
    else
        forward_run(p, s, r);
}
