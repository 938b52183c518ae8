/* core/sparse.h: the kernel of a dense layer with its pruned numbers left out.
 *
 * Only the numbers that a mask keeps are held, and two orders of them: by rows and by columns. Activations are [features][n]: a kept number meets
 * a whole row of the batch, so all products run on contiguous vectors, without gather. What a kept number costs is the load of that row, from the
 * second-level cache: so where both gradients are wanted, one pass over the columns computes them, and loads each row of dy once for both. */
#ifndef CORE_SPARSE_H
#define CORE_SPARSE_H

#include "core/team.h"

enum { SPARSE_MAX_TILES = 32 };

/* The kept numbers, line after line: lines are rows, or columns. A line is cut where `across` passes a multiple of SPARSE_BLOCK, so that the rows
 * of activations that a block meets stay in the cache. */
struct sparse_order {
    int n_lines, n_blocks;
    uint32_t *start;  /* [n_blocks + 1][n_lines]: line l of block b is the numbers start[b][l] .. start[b + 1][l] - 1 */
    uint32_t *across; /* [n] position of each number in its line */
    uint32_t *number; /* [n] where its value stands; NULL: in this very order */
    int n_tiles, tile[SPARSE_MAX_TILES + 1]; /* first lines of tiles of about equal work */
};
struct sparse_single;
/* Which order the values stand in: that in which their gradient is computed, so that each tile's are one range, which the optimizer follows at once. */
enum sparse_lead { SPARSE_BY_ROW, SPARSE_BY_COL };
struct sparse {
    int rows, cols;   /* outputs, inputs */
    size_t n;         /* kept numbers */
    int empty_rows, empty_cols;
    struct sparse_order by_row, by_col;
    float *value;     /* [n] in the order that has no `number` */
    struct sparse_single *single; /* the same numbers again, as they were when it was made; NULL: none */
};

/* Where a line begins; line = n_lines: how many numbers there are. */
static inline size_t sparse_first(const struct sparse_order *o, int line)
{
    return line < o->n_lines ? o->start[line] : o->start[((size_t)o->n_blocks + 1) * (size_t)o->n_lines - 1];
}
static inline const struct sparse_order *sparse_leading(const struct sparse *s) { return s->by_row.number ? &s->by_col : &s->by_row; }
/* Which value number k of an order is. */
static inline size_t sparse_number(const struct sparse_order *o, size_t k) { return o->number ? o->number[k] : k; }
/* The structure of a mask ([rows][cols], not 0: kept); values are 0. */
MUST enum err_code sparse_new(struct sparse **out, const uint8_t *mask, int rows, int cols, enum sparse_lead lead, struct err *e);
void sparse_free(struct sparse *s);
/* From and to the dense kernel [rows][cols]; scatter leaves pruned places alone, gather drops the form for single samples. */
void sparse_gather(struct sparse *s, const float *dense);
void sparse_scatter(const struct sparse *s, float *dense);
/* Bytes of the structure of a kernel with n kept numbers, values included. */
uint64_t sparse_memory(int rows, int cols, size_t n);
/* core/sparse_single.c: a form of the kernel for forward passes of one sample, of the values as they are now: who changes them drops it. Where dense is faster,
 * by a count of its steps, or the processor cannot run it, there is none. */
MUST enum err_code sparse_single_make(struct sparse *s, struct err *e);
void sparse_single_drop(struct sparse *s);
/* y = W x + bias; false: there is no such form, or a result is not finite, and y is to be computed without it. */
bool sparse_single_forward(const struct sparse *s, const float *x, const float *bias, float *y);
/* Whether it is worth a try for a kernel of len numbers; and bytes of it, at most. */
#define SPARSE_SINGLE_MAX_DENSITY 0.55
static inline bool sparse_single_may_pay(size_t len, size_t kept) { return kept > 0 && (double)kept <= SPARSE_SINGLE_MAX_DENSITY * (double)len; }
uint64_t sparse_single_memory(int rows, int cols);

/* Whether a layer trains and runs faster sparse, at n samples per batch: never above SPARSE_MAX_DENSITY, and not without numbers. */
#define SPARSE_MAX_DENSITY 0.35
bool sparse_pays(int rows, int cols, size_t kept, int n);

/* core/sparse_kernels.c. x is [cols][n], y and dy are [rows][n]; team may be NULL. The same bytes for any team. */
/* y = W x + bias; bias [rows] may be NULL. */
void sparse_forward(const struct sparse *s, const float *x, const float *bias, float *y, int n, struct team *team);
/* dx = W' dy. */
void sparse_input_gradient(const struct sparse *s, const float *dy, float *dx, int n, struct team *team);
/* dw (+)= dy x' of the kept numbers alone, for one tile of the leading order: written where the tile's lines begin up to where they end. By columns,
 * dx = W' dy of these columns, too, if dx is not NULL; by rows it must be NULL. All blocks of a tile make it whole, in their order; whoever
 * runs block after block over all tiles has the rows that each block meets in the cache. */
void sparse_gradients(const struct sparse *s, int block, int tile, const float *x, const float *dy, float *dx, float *dw, int n, bool accumulate);
/* Levels of vector code that this processor has, best first: for tests and reports. */
int sparse_n_levels(void);
const char *sparse_level_name(int level);
/* Tests: leaves out the best levels. */
extern int sparse_skip_levels;

#endif
