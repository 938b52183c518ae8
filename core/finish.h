/* core/finish.h: finishing steps: what is done to the chosen model before it is the result, in the order of the table, each evaluated by itself.
 *
 * A step is a row: its options, and a function that changes the model. To add one: its function, its row in finish.c, its field in struct export_conf and
 * in export_params, of the same name. Steps are pure functions of the model and the training samples: a job that died among them does them again. */
#ifndef CORE_FINISH_H
#define CORE_FINISH_H

#include "core/data.h"
#include "core/model.h"

struct finish_shrink { bool on, approximate; };
struct finish_recalibrate { bool on; int64_t samples; };
struct finish_fold { bool on; };
struct finish_quantize {
    bool on;
    int activations; /* enum quantize_mode */
    double percentile;
    int64_t samples;
};
enum { PACK_AS_IS, PACK_FLOAT16, PACK_CODEBOOK };
struct finish_pack {
    bool on;
    int values; /* PACK_... */
    int64_t bits;
};
struct export_conf {
    struct finish_shrink shrink;
    struct finish_recalibrate recalibrate;
    struct finish_fold fold;
    struct finish_quantize quantize;
    struct finish_pack pack;
};
extern const struct param export_params[];
/* What the fields cannot say. ERR_INVALID with its pointer. */
MUST enum err_code export_conf_check(const struct export_conf *c, struct err *e);

struct finish_in {
    const struct data_view *train;
    struct team *team;
    bool (*stop)(void *user);
    void *user;
    uint64_t dense_bytes; /* of the model that the job began with, as float32 */
};
struct finish_step {
    struct plug plug;
    size_t offset; /* of its options in struct export_conf; their first member says whether it is on */
    /* Changes *m, or puts "skipped", a sentence, into the report: then m is as it was. Adds what it has to say. On an error m may be changed, but whole. */
    enum err_code (*run)(struct model *m, const void *conf, const struct finish_in *in, json_t *report, struct err *e);
};
extern const struct plug_table finish_table; /* in order */
static inline const struct finish_step *finish_of(const struct plug *p) { return (const struct finish_step *)(const void *)p; }
/* Bytes of the finishing steps, beside the job's own model and its evaluation. */
uint64_t finish_memory(const struct export_conf *c, const struct net *net);
/* Its options; NULL: it is off. */
const void *finish_conf(const struct finish_step *s, const struct export_conf *c);

/* core/codebook.c: the numbers of x that are not zero become one of 2^bits, by k-means: centroids evenly spaced at first (Han et al. 2016: "linear"),
 * then Lloyd's iterations to their end. *used: how many of them are. Deterministic. */
MUST enum err_code codebook_fit(float *x, size_t n, int bits, int *used, struct err *e);

#endif
