/* core/sparse_single.c: a sparse kernel for one sample at a time (see sparse.h).
 *
 * With one column there are no vectors of the batch, and gathering an input for each kept number is hardly faster than loading them one by one. So as many
 * rows as a vector has lanes run side by side, a row in each lane. Inputs are cut into blocks, a vector each. A step takes up one block; each lane picks, by
 * one shuffle, an input that its row still needs out of this block and the one before, and a lane that finds none rests. Which block a step takes up is chosen
 * here, once: the one that most lanes wait for. What a step costs is its share of three streams (5 bytes a lane) and one load of inputs.
 * Trained rows differ: some keep nothing, some three times the mean. They are sorted by it, so that the rows of a slice end together; the outputs' own
 * order is restored at the end. A lane that rests multiplies some input by 0, so where a result is not finite, the caller does the product number by number.
 *
 * The shuffle is that of AVX-512 or AVX2 (sparse_single_level.h); other processors go without. */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/simd.h"
#include "core/sparse.h"

enum { FOUR = 4 /* steps that share a vector of picks */, SPAN = 64 /* blocks that are looked at for the next step */, MOST_LANES = 16 };

struct sparse_single {
    int level, n_slices, rows;
    uint32_t *first; /* [n_slices + 1] fours of steps */
    uint16_t *block; /* [fours][FOUR] first input of the block that each step takes up; the first one has input 0 before it */
    uint8_t *pick;   /* [fours][lanes][FOUR] which input of the two blocks */
    float *value;    /* [fours][FOUR][lanes] 0: the lane rests */
    uint32_t *place; /* [rows] slice and lane of a row */
    float *sum;      /* [n_slices][lanes] of the sample at hand: a net belongs to one thread */
};

/* ---- products ---- */

#if defined(SIMD_X86_LEVELS)
#include <immintrin.h>
#endif
#define LEVEL_CODE "core/sparse_single_level.h"
#include "core/vector_levels.h"

static const struct level {
    int lanes;
    double most_steps; /* for each lanes numbers of the dense kernel: with more, dense is faster */
    bool (*run)(const struct sparse_single *p, const float *x, const float *bias, float *y);
} levels[] = {
#if defined(SIMD_X86_LEVELS)
    { 16, 0.8, run_avx512 },
    { 8, 0.35, run_avx2 },
#endif
    { 0, 0, NULL },
};
enum { N_LEVELS = sizeof levels / sizeof levels[0] };

bool sparse_single_forward(const struct sparse *s, const float *x, const float *bias, float *y)
{
    return s->single && levels[s->single->level].run(s->single, x, bias, y);
}

/* ---- the form ---- */

struct maker {
    const struct sparse *s;
    int lanes, n_blocks;
    uint64_t *order;    /* [rows] those that keep most first: the row in the lower half */
    uint32_t *next;     /* [n_blocks][lanes] of the slice at hand: the next number of a lane in a block, */
    uint8_t *left;      /* [n_blocks][lanes] and how many are left there */
    uint16_t *waiting;  /* [n_blocks] bits of the lanes that have some left */
    int block;          /* taken up last */
    uint32_t steps;
};

static void maker_clear(struct maker *m)
{
    mem_free(m->order);
    mem_free(m->next);
    mem_free(m->left);
    mem_free(m->waiting);
}

static int ascending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static bool maker_init(struct maker *m, const struct sparse *s, int lanes)
{
    const size_t n_blocks = (size_t)(s->cols + lanes - 1) / (size_t)lanes;

    *m = (struct maker){ .s = s, .lanes = lanes, .n_blocks = (int)n_blocks };
    m->order = mem_alloc((size_t)s->rows * sizeof *m->order);
    m->next = mem_alloc(n_blocks * (size_t)lanes * sizeof *m->next);
    m->left = mem_zalloc(n_blocks * (size_t)lanes, sizeof *m->left);
    m->waiting = mem_zalloc(n_blocks, sizeof *m->waiting);
    if (!m->order || !m->next || !m->left || !m->waiting) {
        maker_clear(m);
        return false;
    }
    for (int r = 0; r < s->rows; r++)
        m->order[r] = (uint64_t)(s->n - (sparse_first(&s->by_row, r + 1) - sparse_first(&s->by_row, r))) << 32 | (uint32_t)r;
    qsort(m->order, (size_t)s->rows, sizeof *m->order, ascending);
    return true;
}

/* The first input of a block; the last one reaches back into the one before it rather than beyond the inputs. */
static uint32_t begin_of(const struct maker *m, int block)
{
    const int most = m->s->cols - m->lanes;

    return (uint32_t)(block * m->lanes < most ? block * m->lanes : most);
}

static int slice_rows(const struct maker *m, int slice)
{
    const int left = m->s->rows - slice * m->lanes;

    return left < m->lanes ? left : m->lanes;
}

static void begin_slice(struct maker *m, int slice)
{
    const uint32_t *across = m->s->by_row.across;

    for (int i = 0; i < slice_rows(m, slice); i++) {
        const int row = (int)(uint32_t)m->order[slice * m->lanes + i];

        for (size_t k = sparse_first(&m->s->by_row, row); k < sparse_first(&m->s->by_row, row + 1); k++) {
            const size_t b = across[k] / (uint32_t)m->lanes, at = b * (size_t)m->lanes + (size_t)i;

            if (m->left[at]++ == 0)
                m->next[at] = (uint32_t)k;
            m->waiting[b] |= (uint16_t)(1U << i);
        }
    }
}

/* The block, from the first one that lanes wait for, that serves most lanes which the last one does not. */
SIMD static int choose_block(const struct maker *m, int from)
{
    const unsigned served = m->waiting[m->block];
    const int end = from + SPAN < m->n_blocks ? from + SPAN : m->n_blocks;
    int best = m->block, most = 0;

    for (int b = from; b < end; b++) {
        const int n = __builtin_popcount(m->waiting[b] & ~served);

        if (n > most)
            most = n, best = b;
    }
    return best;
}

/* One number for a lane. */
static void take(struct maker *m, struct sparse_single *out, int block, int lane, bool late)
{
    const size_t at = (size_t)block * (size_t)m->lanes + (size_t)lane, lanes = (size_t)m->lanes;

    if (out->value) {
        const uint32_t k = m->next[at], pick = m->s->by_row.across[k] - begin_of(m, block);

        out->value[m->steps * lanes + (size_t)lane] = m->s->value[sparse_number(&m->s->by_row, k)];
        out->pick[(m->steps / FOUR * lanes + (size_t)lane) * FOUR + m->steps % FOUR] = (uint8_t)(pick + (late ? lanes : 0));
    }
    m->next[at]++;
    if (--m->left[at] == 0)
        m->waiting[block] &= (uint16_t)~(1U << lane);
}

static void add_step(struct maker *m, struct sparse_single *out, int block)
{
    const unsigned before = m->waiting[m->block], now = m->waiting[block];

    if (out->block)
        out->block[m->steps] = (uint16_t)begin_of(m, block);
    for (int i = 0; i < m->lanes; i++)
        if (before >> i & 1)
            take(m, out, m->block, i, false);
        else if (now >> i & 1)
            take(m, out, block, i, true);
    m->block = block;
    m->steps++;
}

/* Steps of all slices, each filled up to fours by such as rest; written where out has arrays. */
static void fill(struct maker *m, struct sparse_single *out)
{
    m->block = 0;
    m->steps = 0;
    for (int i = 0; i < out->n_slices; i++) {
        if (out->first)
            out->first[i] = m->steps / FOUR;
        begin_slice(m, i);
        for (int from = 0;;) {
            while (from < m->n_blocks && m->waiting[from] == 0)
                from++;
            if (from == m->n_blocks)
                break;
            add_step(m, out, choose_block(m, from));
        }
        while (m->steps % FOUR != 0)
            add_step(m, out, m->block);
    }
    if (out->first)
        out->first[out->n_slices] = m->steps / FOUR;
}

static bool alloc(struct sparse_single *p, int rows, size_t steps, size_t lanes)
{
    p->first = mem_alloc(((size_t)p->n_slices + 1) * sizeof *p->first);
    p->block = mem_alloc(steps * sizeof *p->block);
    p->pick = (uint8_t *)mem_vector(steps * lanes / sizeof(float));
    p->value = mem_vector(steps * lanes);
    p->place = mem_alloc((size_t)rows * sizeof *p->place);
    p->sum = mem_vector((size_t)p->n_slices * lanes);
    return p->first && p->block && p->pick && p->value && p->place && p->sum;
}

void sparse_single_drop(struct sparse *s)
{
    struct sparse_single *p = s->single;

    if (!p)
        return;
    mem_free(p->first);
    mem_free(p->block);
    mem_free(p->pick);
    mem_free(p->value);
    mem_free(p->place);
    mem_free(p->sum);
    mem_free(p);
    s->single = NULL;
}

static uint64_t most_steps(const struct level *l, int rows, int cols)
{
    return (uint64_t)(l->most_steps * rows * cols / l->lanes);
}

uint64_t sparse_single_memory(int rows, int cols)
{
    uint64_t most = 0;

    for (int i = 0; i < N_LEVELS - 1; i++) {
        const uint64_t lanes = (uint64_t)levels[i].lanes, n = most_steps(&levels[i], rows, cols), blocks = (uint64_t)cols / lanes + 1;
        const uint64_t bytes = n * (5 * lanes + 2) + ((uint64_t)rows + lanes) * 20 + blocks * (5 * lanes + 2); /* the form; lines, and what making it takes */

        most = bytes > most ? bytes : most;
    }
    return most;
}

/* m has counted the steps. */
static enum err_code make(struct sparse *s, struct maker *m, int level, struct err *e)
{
    s->single = mem_zalloc(1, sizeof *s->single);
    if (s->single) {
        s->single->level = level;
        s->single->rows = s->rows;
        s->single->n_slices = (s->rows + m->lanes - 1) / m->lanes;
    }
    if (!s->single || !alloc(s->single, s->rows, m->steps, (size_t)m->lanes)) {
        sparse_single_drop(s);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    fill(m, s->single);
    for (int i = 0; i < s->rows; i++)
        s->single->place[(uint32_t)m->order[i]] = (uint32_t)i;
    return ERR_OK;
}

enum err_code sparse_single_make(struct sparse *s, struct err *e)
{
    const int level = simd_best_level() + sparse_skip_levels;
    struct sparse_single counted;
    struct maker m;
    enum err_code rc = ERR_OK;

    sparse_single_drop(s);
    if (level >= N_LEVELS || !levels[level].run || s->n == 0 || s->rows < levels[level].lanes || s->cols < levels[level].lanes || s->cols > UINT16_MAX)
        return ERR_OK;
    if (!maker_init(&m, s, levels[level].lanes))
        return err_set(e, ERR_NOMEM, "out of memory");
    counted = (struct sparse_single){ .n_slices = (s->rows + m.lanes - 1) / m.lanes };
    fill(&m, &counted);
    if (m.steps <= most_steps(&levels[level], s->rows, s->cols))
        rc = make(s, &m, level, e);
    maker_clear(&m);
    return rc;
}
