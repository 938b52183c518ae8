/* core/life.h: which numbers of a net are alive: what shrinking (core/shrink.c) needs to know, and nothing of how it is done. */
#ifndef CORE_LIFE_H
#define CORE_LIFE_H

#include "core/exec.h"

/* Flags of numbers: known[node][i] of number i of the node's value: the same for every sample, and value(node)[i] is what it is; needed: the output
 * depends on it. reads[w][c]: a row of kernel w that is needed has weights in column c that are not zero, and the column is not a constant that
 * a bias can take over; NULL where w is no kernel that makes neurons. */
struct life {
    const struct net *net;
    struct exec *exec; /* one sample, all zero: a known number has its value there */
    bool **known, **needed, **reads;
};
/* The net must run dense. */
MUST enum err_code life_new(struct life *out, struct net *net, struct err *e);
void life_clear(struct life *l);

/* Row (index along axis 0) of a kernel that makes neurons. */
bool life_row_needed(const struct life *l, int w, int row);
/* true: all numbers that column c reads are known, alike, and *x, wherever the kernel lies: with zeros around them only 0 is a constant. */
bool life_column_constant(const struct life *l, int w, int column, float *x);
/* Whether the op adds a number to each output, or can. */
bool life_can_shift(const struct op *op);

#endif
