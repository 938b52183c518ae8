/* core/team.h: the threads of one job, and the loop they share.
 *
 * Work is cut into tiles whose sizes depend on shapes alone; the number of threads decides only who computes which. A tile
 * writes only what is its own, and partial sums are added in tile order by the caller: so the bytes that come out are the same
 * for any number of threads. Between two loops the helpers spin for a moment, then sleep: an idle team costs nothing. */
#ifndef CORE_TEAM_H
#define CORE_TEAM_H

#include "core/err.h"

struct team;

/* n_threads >= 1, the calling thread included. Only the thread that made the team may call team_for and team_free. */
MUST enum err_code team_new(struct team **out, int n_threads, struct err *e);
void team_free(struct team *t);
int team_size(const struct team *t); /* NULL: 1 */
/* Number of the calling thread in its team, below team_size: 0 for whoever calls team_for. For memory that each thread has for itself: which tiles it
 * computes with it is chance, so nothing may be kept there from one tile to the next. */
int team_number(void);

/* Calls fn(ctx, i) once for every i in 0 .. n_tiles-1 and returns when all are done. t NULL runs them in order, here. */
void team_for(struct team *t, int n_tiles, void (*fn)(void *ctx, int tile), void *ctx);

#endif
