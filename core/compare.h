/* core/compare.h: two nets on the same samples: by how much their outputs differ. */
#ifndef CORE_COMPARE_H
#define CORE_COMPARE_H

#include "core/data.h"
#include "core/exec.h"

enum { COMPARE_SAMPLES = 1024 }; /* at most */

struct comparison {
    int n_samples;
    double difference, largest; /* the largest difference of two outputs, NaN if there is one; the largest output of a */
};
/* Runs both, as they predict. samples: what they are run on; NULL: normal random numbers. */
MUST enum err_code compare_nets(struct comparison *out, struct net *a, struct net *b, const struct data_view *samples, struct team *team, struct err *e);
/* As a share of the largest output. */
static inline double compare_relative(const struct comparison *c) { return c->difference > 0 ? c->difference / c->largest : c->difference; }
/* Bytes, at most. */
uint64_t compare_memory(const struct net *net);

#endif
