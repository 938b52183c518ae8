/* core/life.h: which numbers of a net are alive: what shrinking (core/shrink.c) needs to know, and nothing of how it is done. */
#ifndef CORE_LIFE_H
#define CORE_LIFE_H

#include "core/exec.h"

/* Flags of numbers: known[node][i] of number i of the node's value: the same for every sample, and value(node)[i] is what it is; needed: the output
 * depends on it. reads[w][c]: a row of kernel w that is needed has weights in column c that are not zero, and the column is not a constant that
 * a bias can take over; NULL where w is no kernel that makes neurons. */
struct life {
    const struct net *net;
    bool approximate;  /* a column that is known is a constant, though a kernel sees zeros beside it at the edges */
    struct exec *exec; /* one sample, all zero: a known number has its value there */
    bool **known, **needed, **reads;
    int n_folded, n_nearly; /* columns of constants that are not 0, which biases are to take over; of those, such as are no constants at the edges */
};
/* The net must run dense. */
MUST enum err_code life_new(struct life *out, struct net *net, bool approximate, struct err *e);
void life_clear(struct life *l);

/* Row (index along axis 0) of a kernel that makes neurons. */
bool life_row_needed(const struct life *l, int w, int row);
/* The numbers that a column reads vary with the sample; or are known, but not alike wherever the kernel lies (of an approximate life only: else they
 * count as varying); or are one constant: with zeros around them only 0 is. */
enum life_column { LIFE_VARIES, LIFE_NEARLY, LIFE_CONSTANT };
enum life_column life_column(const struct life *l, int w, int column);
/* What a column that does not vary adds to the outputs of a row: if they differ by place, to the one in the middle. */
double life_column_gives(const struct life *l, int w, int column, int row);
/* Whether the op adds a number to each output, or can. */
bool life_can_shift(const struct op *op);

#endif
