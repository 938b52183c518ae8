/* core/sparse.c: the structure of a sparse kernel (see sparse.h); its products stand in sparse_kernels.c. */
#include "core/sparse.h"

#include <string.h>

#include "core/mem.h"

enum {
    BLOCK = 1024,     /* lines of activations that stay in the second-level cache: 512 KB at batch 128 */
    TILE_WORK = 1024, /* numbers of a tile, at least: less is not worth a thread's while */
    LINE_WORK = 2     /* a line's own cost, in numbers */
};

static int n_blocks(int across)
{
    return across > 0 ? (across + BLOCK - 1) / BLOCK : 1;
}

static bool order_alloc(struct sparse_order *o, int n_lines, int across, size_t n, bool mapped)
{
    o->n_lines = n_lines;
    o->n_blocks = n_blocks(across);
    o->start = mem_zalloc(((size_t)o->n_blocks + 1) * (size_t)n_lines, sizeof *o->start);
    o->across = mem_alloc(n * sizeof *o->across);
    o->number = mapped ? mem_alloc(n * sizeof *o->number) : NULL;
    return o->start && o->across && (o->number || !mapped);
}

/* Tiles of about equal work. */
static void cut_tiles(struct sparse_order *o, size_t n)
{
    const uint32_t *first = o->start;
    uint64_t work = n + LINE_WORK * (uint64_t)o->n_lines, n_tiles = work / TILE_WORK;
    int line = 0;

    n_tiles = n_tiles < 1 ? 1 : n_tiles > SPARSE_MAX_TILES ? SPARSE_MAX_TILES : n_tiles;
    o->n_tiles = (int)n_tiles;
    for (int t = 1; t < o->n_tiles; t++) {
        while (line < o->n_lines && (first[line] + LINE_WORK * (uint64_t)line) * n_tiles < work * (uint64_t)t)
            line++;
        o->tile[t] = line;
    }
    o->tile[o->n_tiles] = o->n_lines;
}

static void fill_by_row(struct sparse *s, const uint8_t *mask)
{
    struct sparse_order *o = &s->by_row;
    uint32_t k = 0;

    for (int r = 0; r < s->rows; r++) {
        const uint8_t *m = mask + (size_t)r * (size_t)s->cols;
        uint32_t begin = k;

        for (int c = 0; c < s->cols; c++) {
            if (c % BLOCK == 0)
                o->start[(size_t)(c / BLOCK) * (size_t)s->rows + (size_t)r] = k;
            if (m[c])
                o->across[k++] = (uint32_t)c;
        }
        o->start[(size_t)o->n_blocks * (size_t)s->rows + (size_t)r] = k;
        s->empty_rows += k == begin;
    }
}

/* Walks the numbers by rows and appends each to its column. */
static void fill_by_col(struct sparse *s, uint32_t *next)
{
    const struct sparse_order *from = &s->by_row;
    struct sparse_order *o = &s->by_col;
    const uint32_t *begin = from->start, *end = begin + (size_t)from->n_blocks * (size_t)s->rows;
    uint32_t k = 0;

    memset(next, 0, (size_t)s->cols * sizeof *next);
    for (size_t i = 0; i < s->n; i++)
        next[from->across[i]]++;
    for (int c = 0; c < s->cols; c++) {
        uint32_t len = next[c];

        s->empty_cols += len == 0;
        next[c] = k;
        k += len;
    }
    for (int r = 0; r < s->rows; r++) {
        if (r % BLOCK == 0)
            memcpy(o->start + (size_t)(r / BLOCK) * (size_t)s->cols, next, (size_t)s->cols * sizeof *next);
        for (uint32_t i = begin[r]; i < end[r]; i++) {
            uint32_t at = next[from->across[i]]++;

            o->across[at] = (uint32_t)r;
            if (o->number)
                o->number[at] = i;
            else
                s->by_row.number[i] = at;
        }
    }
    memcpy(o->start + (size_t)o->n_blocks * (size_t)s->cols, next, (size_t)s->cols * sizeof *next);
}

static size_t count_kept(const uint8_t *mask, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += mask[i] != 0;
    return n;
}

enum err_code sparse_new(struct sparse **out, const uint8_t *mask, int rows, int cols, enum sparse_lead lead, struct err *e)
{
    struct sparse *s = mem_zalloc(1, sizeof *s);
    uint32_t *next = mem_alloc((size_t)cols * sizeof *next);

    *out = NULL;
    if (s) {
        s->rows = rows;
        s->cols = cols;
        s->n = count_kept(mask, (size_t)rows * (size_t)cols);
        s->value = mem_vector(s->n);
    }
    if (!s || !next || !s->value || !order_alloc(&s->by_row, rows, cols, s->n, lead != SPARSE_BY_ROW) ||
        !order_alloc(&s->by_col, cols, rows, s->n, lead != SPARSE_BY_COL)) {
        mem_free(next);
        sparse_free(s);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    fill_by_row(s, mask);
    fill_by_col(s, next);
    cut_tiles(&s->by_row, s->n);
    cut_tiles(&s->by_col, s->n);
    mem_free(next);
    *out = s;
    return ERR_OK;
}

static void order_clear(struct sparse_order *o)
{
    mem_free(o->start);
    mem_free(o->across);
    mem_free(o->number);
}

void sparse_free(struct sparse *s)
{
    if (!s)
        return;
    order_clear(&s->by_row);
    order_clear(&s->by_col);
    sparse_single_drop(s);
    mem_free(s->value);
    mem_free(s);
}

void sparse_gather(struct sparse *s, const float *dense)
{
    const uint32_t *begin = s->by_row.start, *end = begin + (size_t)s->by_row.n_blocks * (size_t)s->rows;

    sparse_single_drop(s);
    for (int r = 0; r < s->rows; r++)
        for (uint32_t k = begin[r]; k < end[r]; k++)
            s->value[sparse_number(&s->by_row, k)] = dense[(size_t)r * (size_t)s->cols + s->by_row.across[k]];
}

void sparse_scatter(const struct sparse *s, float *dense)
{
    const uint32_t *begin = s->by_row.start, *end = begin + (size_t)s->by_row.n_blocks * (size_t)s->rows;

    for (int r = 0; r < s->rows; r++)
        for (uint32_t k = begin[r]; k < end[r]; k++)
            dense[(size_t)r * (size_t)s->cols + s->by_row.across[k]] = s->value[sparse_number(&s->by_row, k)];
}

uint64_t sparse_memory(int rows, int cols, size_t n)
{
    uint64_t starts = ((uint64_t)n_blocks(cols) + 1) * (uint64_t)rows + ((uint64_t)n_blocks(rows) + 1) * (uint64_t)cols;

    return sizeof(struct sparse) + starts * sizeof(uint32_t) + (uint64_t)n * (3 * sizeof(uint32_t) + sizeof(float));
}

/* Up to which density tests/bench/bench_sparse finds sparse ahead of dense with a margin, for batches of at least n samples; few: of less than
 * FEW multiply-adds a product, where a dense one has a cost of its own. One sample is a matrix-vector product, which is quick dense. */
static const struct { int n; double density, few; } limits[] = { { 32, 0.25, 0.30 }, { 16, 0.18, 0.25 }, { 2, 0.18, 0.30 }, { 1, 0.11, 0.11 } };
enum { FEW = 1 << 20 };

bool sparse_pays(int rows, int cols, size_t kept, int n)
{
    double all = (double)rows * cols;
    int i = 0;

    while (n < limits[i].n)
        i++;
    return kept > 0 && (double)kept <= (all * n < FEW ? limits[i].few : limits[i].density) * all;
}
