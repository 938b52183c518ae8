/* core/rewind.h: what retraining starts from, each a row of rewinds.c. Masks stay whatever it is, and the optimizer always starts afresh. */
#ifndef CORE_REWIND_H
#define CORE_REWIND_H

#include "core/params.h"

enum rewind_weights { REWIND_NONE, REWIND_SAVED, REWIND_FRESH }; /* the pruned ones; those of an epoch of training; newly drawn */
struct rewind {
    struct plug plug;
    enum rewind_weights weights;
    bool retrains; /* by default as train trains, from the epoch on */
};
/* Options of the rows that have any; 0 in the others. */
struct rewind_conf { int64_t epoch; };
extern const struct plug_table rewind_table;
static inline const struct rewind *rewind_of(const struct plug_value *v) { return (const struct rewind *)(const void *)v->plug; }
/* Epochs of training that are not repeated. */
static inline int64_t rewind_epoch(const struct plug_value *v) { return ((const struct rewind_conf *)(const void *)v->conf)->epoch; }

#endif
