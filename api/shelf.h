/* api/shelf.h: models that requests have opened, kept for the next ones: to open one takes thousands of times as long as it takes to answer.
 *
 * What was uploaded or trained never changes, and a blob's id is never used again: a model is named by the ids of its architecture and weights. A request has
 * a model for itself, and puts it back when it is done; of several that had the same, one stays. SHELF_PLACES models and SHELF_BYTES at most: the one that
 * was put back the longest ago goes first. */
#ifndef API_SHELF_H
#define API_SHELF_H

#include "core/model.h"

enum { SHELF_PLACES = 8, SHELF_BYTES = 32 << 20 };
struct shelf;

MUST enum err_code shelf_new(struct shelf **out, struct err *e);
void shelf_free(struct shelf *s);
/* False: it is not there. A NULL shelf is empty. */
bool shelf_take(struct shelf *s, const char *architecture, const char *weights, struct model *out);
/* Takes the model, whatever becomes of it. bytes: of its memory. */
void shelf_put(struct shelf *s, const char *architecture, const char *weights, struct model *m, uint64_t bytes);

#endif
