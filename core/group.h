/* core/group.h: neurons, found from the graph: what must fall together when one is removed.
 *
 * A neuron is an output of a layer (a unit of a dense layer, later a channel). Outputs that are added to others, or that pass through batch norm,
 * activations, flatten and concatenate, carry their consumers along: a bundle is a run of n neurons that have the same members. Neuron j of a bundle is,
 * in each member, the numbers whose index along `axis` lies in offset + j * run .. + run - 1.
 *
 * Each op says how it carries neurons (enum op_neurons in op.h); what it does not say is fixed. Neurons are first numbered as they are made, united where
 * values are added, and cut into bundles last, so a layer may be cut into several: one that is added to a concatenation has one bundle for each of
 * its parts. Each index along axis 0 of a kernel lies in exactly one bundle, each along axis 1 in one or, where its op's input is fixed by shape, in none. */
#ifndef CORE_GROUP_H
#define CORE_GROUP_H

#include "core/net.h"

enum group_role {
    GROUP_MAKES,   /* kernel whose rows (axis 0) compute the neuron */
    GROUP_SHIFTS,  /* bias, batch norm's numbers: axis 0 */
    GROUP_READS    /* kernel whose columns (axis 1) read it */
};
struct group_member { int w, axis, offset, run; enum group_role role; };
struct bundle {
    int n;               /* neurons */
    bool fixed;          /* of the input, or reaches the output or an op that mixes: nothing can be removed */
    int n_members;       /* by weight, in the order of the net */
    struct group_member *member;
};
struct groups { int n; struct bundle *bundle; }; /* in the order in which the net makes them: the input's first */

/* Of the whole net. Looks at its structure only. ERR_TOO_LARGE: more neurons than an int counts. */
MUST enum err_code groups_find(struct groups *out, const struct net *net, struct err *e);
void groups_clear(struct groups *g);

/* The numbers of weight w that member m gives neuron j: w->x[first + k * stride .. + len - 1], k < n. */
struct group_slice { size_t first, len, stride; int n; };
struct group_slice group_slice(const struct weight *w, const struct group_member *m, int j);
/* What a member of role GROUP_READS sees of neuron j: len features from `first` of the value of a node (behind norm and activation). */
struct group_value { int node; size_t first, len; };
struct group_value group_value(const struct net *net, const struct group_member *m, int j);

#endif
