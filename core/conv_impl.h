/* core/conv_impl.h: what the files of core/conv.h share: passes, their blocks, and what is packed of rows. */
#ifndef CORE_CONV_IMPL_H
#define CORE_CONV_IMPL_H

#include "core/conv.h"
#include "core/conv_kernels.h"

enum {
    CONV_OUTPUTS = 8,       /* of a block of dense kernels, at most */
    CONV_FEW_COLUMNS = 8,   /* of a tile, at least */
    CONV_SMALL = 1 << 18    /* multiply-adds: less is not worth waking the team */
};

static inline int conv_min(int a, int b) { return a < b ? a : b; }
static inline int conv_max(int a, int b) { return a > b ? a : b; }
static inline int conv_ceil(int a, int b) { return (a + b - 1) / b; }
static inline size_t conv_grains(size_t n) { return (n + CONV_GRAIN - 1) / CONV_GRAIN * CONV_GRAIN; }
/* Numbers of the kernel. */
static inline size_t conv_kernel_len(const struct conv *g) { return (size_t)g->o * (size_t)(g->c / g->groups) * (size_t)g->kh * (size_t)g->kw; }
/* The team, where n samples of a kernel of `kept` numbers are worth it. */
static inline struct team *conv_team(const struct conv *g, size_t kept, const struct op_call *c)
{
    return (double)kept * g->oh * g->ow * c->n < CONV_SMALL ? NULL : c->team;
}

/* Positions first, first + step, .. in a side of a kernel. */
struct conv_taps { int first, step, n; };

/* From rows of one array, packed, rows of another: forward y from x, back dx from dy. */
struct conv_pass {
    const struct conv *g;
    const struct conv *image; /* where g is of words (conv_int8.c): what they are made of; else NULL */
    const struct op_call *c;
    bool back;
    const float *from, *mask; /* what is packed; mask: only where it is positive */
    float *to;
    const float *bias, *factor, *summand; /* factor, summand: op_call.factor and more */
    int from_c, from_h, from_w, to_c, to_h, to_w; /* channels of one group */
    int step, lead;           /* columns of the input: from one place of a packed row to the next; before the first */
    int phases;               /* packed for each row */
    int dest_step;            /* columns of the output from one place of a run to the next; its phases have runs of their own */
    int more;                 /* places of a packed row beyond those of the run */
    int ring;                 /* packed rows */
    int n, samples, columns, rows; /* batch; of a tile */
    int n_blocks, n_chunks, n_strips;
    size_t row_len;           /* floats packed for a channel of a row */
    float *packed;            /* dense kernels */
};
/* Samples from_n .. of a block, places first .. of the runs. */
struct conv_tile { int group, strip, from_n, samples, first, columns; };
/* One thread's scratch, cut up. */
struct conv_scratch {
    float *ring, *zeros; /* packed rows; a row of a channel outside of the image */
    float *stage;        /* [CONV_OUTPUTS][run] outputs whose samples are no whole grains */
    uint32_t *tap;       /* [from_c][kh][kw] where each tap's run begins */
    float *value;        /* as many numbers of a sparse kernel */
    int *have;           /* per slot of the ring: row, or -1 */
    size_t *at;          /* per grain of the run: where it goes */
    int placed;          /* places of the run that `at` is of */
    /* a kernel in integers: of each number of a piece of a run, and a grain more */
    float *scale, *inverse;
    int32_t *zero;
    uint32_t *nothing;   /* of each sample: a word of zeros around the image */
    bool same_zero;      /* of all samples */
    int piece;           /* length: whole places */
    uint32_t *single;    /* a row's bytes, one by one */
    const struct int8_floats *floats;
    const struct conv_words_level *words;
};
/* A run of the output: row y, from column x on, n places; ti and tj: the taps that meet the image, tj whatever its columns. */
struct conv_run {
    const struct conv_tile *t;
    int y, x, n;
    struct conv_taps ti, tj;
    bool staged;
    float *out;          /* of the group's first channel */
    size_t out_stride;   /* from one channel to the next */
};

void conv_pass_shape(struct conv_pass *p, const struct conv *g, bool back);
/* Floats of a packed row of one channel. */
size_t conv_row_len(const struct conv_pass *p, int columns, int samples);
/* Row of the input that tap i of row y of the output meets; -1: outside. */
int conv_source_row(const struct conv_pass *p, int y, int i);
/* Place of column tap j in a packed row of so many columns and samples, for outputs whose column has the remainder x. */
uint32_t conv_tap_place(const struct conv_pass *p, int columns, int samples, int x, int j);
/* Row sy of all channels of a group. */
void conv_pack_rows(const struct conv_pass *p, float *out, const struct conv_tile *t, int sy);
/* `places` places from `first` on: columns first * step + shift, .. of x; y: only where it is positive (NULL: all). n: from one column to the next. */
void conv_pack_places(float *out, const float *x, const float *y, int width, int places, int first, int step, int shift, size_t n, size_t samples);
/* Blocks of outputs of a dense kernel, as equal as can be: block b begins at the result and has *n. */
int conv_n_out_blocks(int outputs);
int conv_out_block(int outputs, int b, int *n);
/* Copies `n_out` channels of the stage to out; a summand is added here, and then it is clamped. */
void conv_unstage(const struct conv_pass *p, const struct conv_run *r, const struct conv_scratch *s, float *out, int n_out);
static inline size_t conv_run_len(const struct conv_pass *p) { return conv_grains((size_t)p->columns * (size_t)p->samples); }
static inline size_t conv_slot_len(const struct conv_pass *p) { return (size_t)p->from_c * p->row_len; }

/* conv_sparse.c */
/* Where the runs of all taps begin, in the order of the kernel, for row y of the output of a forward pass. */
void conv_all_taps(const struct conv_pass *p, const float *ring, const float *zeros, uint32_t *tap, const struct conv_tile *t, int y);
void conv_sparse_run(const struct conv_pass *p, const struct conv_scratch *s, const struct conv_run *r);

/* conv_int8.c */
/* The convolution of words that a kernel in integers makes of one. */
struct conv conv_of_words(const struct conv *g);
/* Once for a call; then for each tile; for a row that its ring takes; for a run. */
void conv_int8_scales(struct conv_pass *p, struct team *team);
void conv_int8_tile(const struct conv_pass *p, struct conv_scratch *s, const struct conv_tile *t);
void conv_int8_rows(const struct conv_pass *p, const struct conv_scratch *s, uint32_t *out, const struct conv_tile *t, int sy);
void conv_int8_run(const struct conv_pass *p, const struct conv_scratch *s, const struct conv_run *r);
/* Its share of the scratch, from `at` on. */
size_t conv_int8_scratch_len(const struct conv_pass *p);
void conv_int8_cut(const struct conv_pass *p, struct conv_scratch *s, float *at);

/* conv_gradient.c */
size_t conv_gradient_state_len(const struct conv *g);
size_t conv_gradient_scratch_len(const struct conv *g);

#endif
