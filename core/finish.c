/* core/finish.c: the table of finishing steps (see finish.h). The work is done elsewhere; here are options, order and what is said about it. */
#include "core/finish.h"

#include <string.h>

#include "core/calibrate.h"
#include "core/compare.h"
#include "core/fold.h"
#include "core/half.h"
#include "core/mem.h"
#include "core/packed.h"
#include "core/shrink.h"

static enum err_code no_memory(struct err *e) { return err_set(e, ERR_NOMEM, "out of memory"); }

/* Takes v. */
static enum err_code say(json_t *report, const char *key, json_t *v, struct err *e)
{
    return json_object_set_new(report, key, v) == 0 ? ERR_OK : no_memory(e);
}

/* Takes more. */
static enum err_code say_all(json_t *report, json_t *more, struct err *e)
{
    enum err_code rc = more && json_object_update(report, more) == 0 ? ERR_OK : no_memory(e);

    json_decref(more);
    return rc;
}

static struct calibration calibration_of(const struct finish_in *in, int64_t samples)
{
    return (struct calibration){ in->train, samples, in->team, in->stop, in->user };
}

/* ---- shrink ---- */

static const struct param shrink_params[] = {
    FIELD_BOOL(struct finish_shrink, approximate, 0, "Also fold constants that a convolution pads with zeros: outputs differ at the edges."),
    FIELD_END
};

static enum err_code run_shrink(struct model *m, const void *conf, const struct finish_in *in, json_t *report, struct err *e)
{
    struct model smaller;
    json_t *own = NULL;
    enum err_code rc = shrink_model(&smaller, &own, m, ((const struct finish_shrink *)conf)->approximate, in->train, in->team, e);

    if (rc != ERR_OK)
        return rc;
    model_clear(m);
    *m = smaller;
    return say_all(report, own, e);
}

static const struct finish_step shrink = {
    { "shrink", "Removes dead neurons for real, from architecture and weights; neurons that are constant go into the next bias.", shrink_params,
      sizeof(struct finish_shrink) },
    offsetof(struct export_conf, shrink), run_shrink
};

/* ---- recalibrate ---- */

static const struct param recalibrate_params[] = {
    FIELD_INT(struct finish_recalibrate, samples, 1, 1e9, 4096, "Training samples, at most."), FIELD_END
};

static enum err_code run_recalibrate(struct model *m, const void *conf, const struct finish_in *in, json_t *report, struct err *e)
{
    const struct calibration c = calibration_of(in, ((const struct finish_recalibrate *)conf)->samples);
    int n_layers;
    enum err_code rc = recalibrate_batch_norm(m->net, &c, &n_layers, e);

    if (rc == ERR_OK)
        rc = n_layers > 0 ? say(report, "batch_norms", json_integer(n_layers), e) : say(report, "skipped", json_string("the model has no batch norm"), e);
    return rc;
}

static const struct finish_step recalibrate = {
    { "recalibrate", "Sets batch norm's mean and variance to those of training samples, pooled exactly; without batch norm nothing is done.",
      recalibrate_params, sizeof(struct finish_recalibrate) },
    offsetof(struct export_conf, recalibrate), run_recalibrate
};

/* ---- fold ---- */

static const struct param fold_params[] = { FIELD_END };

/* Folds, and says how much of a difference that makes: rounding alone. */
static enum err_code fold_norms(struct model *m, const struct finish_in *in, int *n_folded, json_t *report, struct err *e)
{
    struct comparison c = { .n_samples = 0 };
    struct net *before;
    enum err_code rc = net_clone(&before, m->net, e);

    if (rc == ERR_OK)
        rc = fold_batch_norm(m, n_folded, e);
    if (rc == ERR_OK && *n_folded > 0)
        rc = compare_nets(&c, before, m->net, in->train, in->team, e);
    if (rc == ERR_OK && *n_folded > 0 && !(compare_relative(&c) <= SHRINK_TOLERANCE))
        rc = err_set(e, ERR_INTERNAL, "without batch norms the outputs differ by %g, %g of the largest", c.difference, compare_relative(&c));
    if (rc == ERR_OK && *n_folded > 0)
        rc = say_all(report, json_pack("{s:i,s:f}", "batch_norms_folded", *n_folded, "fold_max_relative_difference", compare_relative(&c)), e);
    net_free(before);
    return rc;
}

static enum err_code run_fold(struct model *m, const void *conf, const struct finish_in *in, json_t *report, struct err *e)
{
    int n_folded;
    enum err_code rc = fold_norms(m, in, &n_folded, report, e);

    (void)conf;
    if (rc == ERR_OK && n_folded == 0)
        rc = say(report, "skipped", json_string("the model has no batch norm right behind a kernel"), e);
    return rc;
}

static const struct finish_step fold = {
    { "fold", "Folds batch norm into the kernel before it, of a dense layer or a convolution: the same outputs, sooner. quantize does so anyway.",
      fold_params, sizeof(struct finish_fold) },
    offsetof(struct export_conf, fold), run_fold
};

/* ---- quantize ---- */

static const struct param quantize_params[] = {
    FIELD_CHOICE(struct finish_quantize, activations, QUANTIZE_MODES, 0,
                 "Scale of activations: dynamic, each sample its own; or fixed, by the largest of calibration samples or by a percentile of them."),
    FIELD_REAL(struct finish_quantize, percentile, 50, 100, 99.99, "For activations: percentile; what is larger is cut off."),
    FIELD_INT(struct finish_quantize, samples, 1, 1e9, 1024, "Training samples to calibrate on, at most."), FIELD_END
};

static enum err_code run_quantize(struct model *m, const void *conf, const struct finish_in *in, json_t *report, struct err *e)
{
    static const char *const modes[] = { "dynamic", "max", "percentile" };
    const struct finish_quantize *q = conf;
    const struct calibration c = calibration_of(in, q->samples);
    struct quantized done;
    int n_folded;
    enum err_code rc = fold_norms(m, in, &n_folded, report, e);

    if (rc == ERR_OK)
        rc = quantize_net(m->net, (enum quantize_mode)q->activations, q->percentile, &c, &done, e);
    if (rc != ERR_OK)
        return rc;
    if (done.kernels == 0 && n_folded == 0)
        return say(report, "skipped", json_string("the model has no kernel that runs in integers"), e);
    return say_all(report, json_pack("{s:i,s:s,s:s,s:{s:I,s:I}}", "kernels", done.kernels, "activations",
                                     modes[q->activations], "instructions", int8_level_name(0), "zeros", "pruned", (json_int_t)done.pruned, "rounded",
                                     (json_int_t)done.rounded), e);
}

static const struct finish_step quantize = {
    { "quantize", "Kernels of dense layers and convolutions in int8, symmetric, one scale per output (largest / 127); zeros stay zeros, biases stay float32. Accuracy and "
      "latency are then measured with integer arithmetic. Batch norm is folded into the kernel before it first.", quantize_params,
      sizeof(struct finish_quantize) },
    offsetof(struct export_conf, quantize), run_quantize
};

/* ---- pack ---- */

static const struct param pack_params[] = {
    FIELD_CHOICE(struct finish_pack, values, "as_is|float16|codebook", 0,
                 "Numbers as they are (float32, or int8 after quantize), rounded to float16, or kernels shared by k-means and the others rounded to float16."),
    FIELD_INT(struct finish_pack, bits, 1, 8, 5, "For values: codebook; a kernel has at most 2^bits different numbers that are not zero."), FIELD_END
};

static enum err_code round_values(struct net *net, const struct finish_pack *p, json_t *report, struct err *e)
{
    json_t *codes = p->values == PACK_CODEBOOK ? json_object() : NULL;
    enum err_code rc = ERR_OK;

    for (struct weight *w = net->weight; w < net->weight + net->n_weights && rc == ERR_OK; w++) {
        bool shared = p->values == PACK_CODEBOOK && w->info.prunable;
        int used = 0;

        for (size_t i = 0; p->values != PACK_AS_IS && !shared && i < w->len; i++)
            w->x[i] = half_to_float(half_of_float(w->x[i]));
        if (!shared)
            continue;
        rc = codebook_fit(w->x, w->len, (int)p->bits, &used, e);
        if (rc == ERR_OK)
            rc = say(codes, w->name, json_integer(used), e);
    }
    if (rc == ERR_OK && p->values == PACK_CODEBOOK)
        return say(report, "codes", codes, e);
    json_decref(codes);
    return rc;
}

/* The model becomes what its file says: what is evaluated is what is downloaded. */
static enum err_code through_the_file(struct model *m, const struct packed *p, struct err *e)
{
    struct model back;
    enum err_code rc = packed_read(&back, p->data, p->n, e);

    if (rc == ERR_SYNTAX) /* the file is our own: Jansson's parser says so when memory is short */
        return no_memory(e);
    if (rc != ERR_OK)
        return rc;
    for (int i = 0; i < m->net->n_weights && rc == ERR_OK; i++)
        if (memcmp(m->net->weight[i].x, back.net->weight[i].x, m->net->weight[i].len * sizeof(float)) != 0)
            rc = err_set(e, ERR_INTERNAL, "the packed file has other numbers in %s", m->net->weight[i].name);
    if (rc != ERR_OK) {
        model_clear(&back);
        return rc;
    }
    model_clear(m);
    *m = back;
    return ERR_OK;
}

static enum err_code run_pack(struct model *m, const void *conf, const struct finish_in *in, json_t *report, struct err *e)
{
    json_t *arrays = json_array();
    struct packed p = { 0 };
    uint64_t gzip = 0, zstd = 0;
    enum err_code rc = arrays ? round_values(m->net, conf, report, e) : no_memory(e);

    if (rc == ERR_OK)
        rc = packed_plain_sizes(m->net, &gzip, &zstd, e);
    if (rc == ERR_OK)
        rc = packed_make(&p, m, arrays, e);
    if (rc == ERR_OK)
        rc = through_the_file(m, &p, e);
    if (rc == ERR_OK)
        rc = say_all(report, json_pack("{s:O,s:{s:I,s:I,s:I,s:I},s:f}", "arrays", arrays, "file", "dense", (json_int_t)in->dense_bytes, "gzip",
                                       (json_int_t)gzip, "zstd", (json_int_t)zstd, "packed", (json_int_t)p.n, "times_smaller",
                                       (double)in->dense_bytes / (double)p.n), e);
    packed_clear(&p);
    json_decref(arrays);
    return rc;
}

static const struct finish_step pack = {
    { "pack", "One small file (?format=packed): zeros left out, entropy coded; evaluated after it was unpacked. Its values may be rounded or shared first.",
      pack_params, sizeof(struct finish_pack) },
    offsetof(struct export_conf, pack), run_pack
};

/* ---- tables ---- */

static const struct plug *const rows[] = { &shrink.plug, &recalibrate.plug, &fold.plug, &quantize.plug, &pack.plug, NULL };
const struct plug_table finish_table = { "finishing step", rows };

const struct param export_params[] = {
    FIELD_SWITCH(struct export_conf, shrink, 0, shrink_params, "Remove what is dead: a smaller architecture that computes the same."),
    FIELD_SWITCH(struct export_conf, recalibrate, 1, recalibrate_params, "Take batch norm's statistics anew."),
    FIELD_SWITCH(struct export_conf, fold, 0, fold_params, "Fold batch norm into the kernels before it."),
    FIELD_SWITCH(struct export_conf, quantize, 0, quantize_params, "Kernels in int8."),
    FIELD_SWITCH(struct export_conf, pack, 0, pack_params, "Pack into one file, and report how small it is."), FIELD_END
};

const void *finish_conf(const struct finish_step *s, const struct export_conf *c)
{
    const char *conf = (const char *)c + s->offset;

    return *(const bool *)conf ? conf : NULL;
}

enum err_code export_conf_check(const struct export_conf *c, struct err *e)
{
    if (c->quantize.on && c->pack.on && c->pack.values != PACK_AS_IS)
        return err_field(e, ERR_INVALID, "/pack/values", "must be as_is after quantize: integers are packed as they are");
    return ERR_OK;
}

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* A copy; where a step makes a new model, another one for the time being; integers beside the floats; what the step that runs most needs for it. */
uint64_t finish_memory(const struct export_conf *c, const struct net *net)
{
    const bool folds = c->fold.on || c->quantize.on;
    uint64_t models = 1 + (c->shrink.on || folds ? 2 : c->pack.on); /* a dense copy and the new one beside the model */
    struct net_size size;

    net_count(net, &size);
    return models * (4 * size.params + size.weights) + (c->quantize.on ? 4 * size.weights : 0) +
           larger(c->shrink.on ? shrink_memory(net) : folds ? compare_memory(net) : 0,
                  c->quantize.on || c->recalibrate.on ? calibration_memory(net, c->quantize.on) : 0);
}
