/* core/predict.h: a net at work on samples: those of a data set's split, or such that somebody brings. */
#ifndef CORE_PREDICT_H
#define CORE_PREDICT_H

#include "core/data.h"
#include "core/jsonread.h"
#include "core/net.h"

/* Samples that are in no data set, as one: view looks at all of them. Zeroed it is empty. */
struct predict_samples {
    float *x; /* [n][features], as they came */
    float *center, *scale;
    struct data_split split;
    struct dataset data;
    struct data_view view;
};
/* Reads an array of 1 to max_n samples at s; each is an array of its numbers, in the order that a data set has them, or nested arrays of the net's input
 * shape, with or without its axes of one number. like: a data set that they are scaled like; NULL: they are taken as they are. ERR_INVALID with the place: "/3/17". */
MUST enum err_code predict_read(struct predict_samples *out, struct json_scan *s, const struct net *net, const struct dataset *like, int max_n,
                                struct err *e);
void predict_samples_free(struct predict_samples *p);

/* Each kernel in the form that is fastest for batches of so many samples: zeros are left out where that pays. They become masks, and the net stays packed so:
 * its values are not to change. */
MUST enum err_code predict_pack(struct net *net, int batch, struct err *e);
/* out[n][outputs]: what the net says of samples first .. first + n - 1 of the view, packed for it. n says which kernels
 * run, and so how sums are rounded. stop(user) is asked for each batch: ERR_STOPPED. */
MUST enum err_code predict_run(float *out, struct net *net, const struct data_view *v, int first, int n, bool (*stop)(void *user), void *user,
                               struct err *e);
/* Does its last activation say so: a softmax, or one sigmoid? */
bool predict_is_classifier(const struct net *net);
/* The class that k outputs mean; one output alone: class 1 above a half, of a logit above 0. */
int predict_class(const struct net *net, const float *out, int k);
/* Peak bytes of predict_run and its result. */
uint64_t predict_memory(const struct net *net, int n);

#endif
