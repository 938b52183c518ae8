/* core/group.h: neurons, found from the graph: what must fall together when one is removed.
 *
 * A neuron is an output of a layer (a unit of a dense layer, later a channel). Outputs that are added to others, or that pass through batch norm,
 * activations, flatten and concatenate, carry their consumers along: a bundle is a set of n neurons that have the same members. Neuron j of a bundle is,
 * in each member, the numbers whose index along `axis` lies in offset + j * run .. + run - 1. */
#ifndef CORE_GROUP_H
#define CORE_GROUP_H

#include "core/net.h"

enum group_role {
    GROUP_MAKES,   /* kernel whose rows (axis 0) compute the neuron */
    GROUP_SHIFTS,  /* bias, batch norm's numbers: one per neuron */
    GROUP_READS    /* kernel whose columns (axis 1) read it */
};
struct group_member { int w, axis, offset, run; enum group_role role; };
struct bundle {
    int n;               /* neurons */
    bool fixed;          /* reaches the output (or the input): nothing can be removed */
    int value;           /* the node whose value the readers see (behind norm and activation); several after concatenate: the first */
    int n_members;
    struct group_member *member;
};
struct groups { int n; struct bundle *bundle; };

/* Of the whole net. Each prunable kernel's outputs lie in exactly one bundle. */
MUST enum err_code groups_find(struct groups *out, const struct net *net, struct err *e);
void groups_clear(struct groups *g);

#endif
