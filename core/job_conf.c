/* core/job_conf.c: a job's configuration: its field table, what "retrain" inherits, and every check that needs no training. */
#include "core/job_run.h"

#include <string.h>

#include "core/mem.h"

#define SOME_INT 9007199254740992.0 /* 2^53: what every JSON library keeps */

static const struct param stop_params[] = {
    FIELD_REAL(struct stop_conf, max_drop, 0, 1e9, PARAM_NONE, "Contract: the metric at most this much worse than the baseline."),
    FIELD_REAL(struct stop_conf, max_relative_drop, 0, 1e9, PARAM_NONE, "Contract: the same, as a share of the baseline's metric."),
    FIELD_REAL(struct stop_conf, min_metric, -1e9, 1e9, PARAM_NONE,
               "Contract: the metric at least this (a metric where smaller is better: at most)."),
    FIELD_REAL(struct stop_conf, target_sparsity, 0, 1, PARAM_NONE, "Stop when this share of the prunable weights is zero."),
    FIELD_INT(struct stop_conf, target_params, 0, SOME_INT, 0, "Stop when at most this many parameters are not zero; 0: no such rule."),
    FIELD_REAL(struct stop_conf, max_seconds, 0, 1e9, PARAM_NONE, "Stop when this much work was done, restarts included: an iteration still in training is dropped."),
    FIELD_BOOL(struct stop_conf, continue_on_breach, 0, "Go on to the last iteration although the contract broke."), FIELD_END
};

const struct param job_params[] = {
    FIELD_TEXT(struct job_conf, name, "", "For people."),
    FIELD_TEXT(struct job_conf, model, NULL, "Id of the model."),
    FIELD_TEXT(struct job_conf, dataset, NULL, "Id of the data set."),
    FIELD_INT(struct job_conf, seed, 0, SOME_INT, 1, "All random numbers follow from it."),
    FIELD_INT(struct job_conf, priority, -1000, 1000, 0, "Higher runs earlier."),
    FIELD_INT(struct job_conf, threads, 0, 1024, 0, "Threads of this job; 0: the server's share. Results do not depend on it."),
    FIELD_CHOICE(struct job_conf, metric, METRIC_CHOICES, 0, "What contracts and early stopping look at; auto: accuracy, for regression mse."),
    FIELD_PLUG(struct job_conf, loss, &loss_table, "", "What training minimises; absent: what fits model and data."),
    FIELD_REAL(struct job_conf, validation_fraction, 0.001, 0.9, 0.1, "Share of train set apart when the data set has no validation split."),
    FIELD_OBJECT(struct job_conf, train, train_params, "Before pruning. epochs is 0 by default when the model came with weights."),
    FIELD_OBJECT(struct job_conf, prune, prune_params, "What is pruned, and when."),
    FIELD_OBJECT(struct job_conf, retrain, train_params, "After each pruning. A field that is absent is as in train, epochs is 2 unless prune.rewind says otherwise."),
    FIELD_OBJECT(struct job_conf, stop, stop_params, "When to stop, and which model is good enough: by the validation split alone."),
    FIELD_OBJECT(struct job_conf, controls, controls_params, "What the chosen model is to be compared with: trained after it, reported beside it."),
    FIELD_OBJECT(struct job_conf, export, export_params, "Finishing steps of the chosen model, in this order, each evaluated on validation."), FIELD_END
};

enum metric job_metric(const struct job_conf *c, int n_classes)
{
    return c->metric == 0 ? metric_default(n_classes) : (enum metric)(c->metric - 1);
}

/* ---- parse and dump ---- */

/* New reference: the fields of over, and those of base that over does not have; of an object that both have likewise. */
static json_t *merged(const struct param *tab, const json_t *base, const json_t *over)
{
    json_t *out = json_object();
    bool ok = out && json_object_update(out, (json_t *)base) == 0 && json_object_update(out, (json_t *)over) == 0;

    for (; ok && tab->name; tab++) {
        const json_t *below = json_object_get(base, tab->name), *above = json_object_get(over, tab->name);

        if (tab->type == PARAM_OBJECT && json_is_object(below) && json_is_object(above))
            ok = json_object_set_new(out, tab->name, merged(tab->sub, below, above)) == 0;
    }
    if (ok)
        return out;
    json_decref(out);
    return NULL;
}

/* The same with "epochs", which is not taken from base; NONE: it is. */
enum { NONE = -1 };
static json_t *training(const json_t *base, const json_t *over, int64_t epochs)
{
    json_t *out = merged(train_params, base, over);

    if (out && epochs != NONE && !json_object_get(over, "epochs") && json_object_set_new(out, "epochs", json_integer(epochs)) != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

/* Whether what is asked for retrains as train trains. */
static bool retrains_whole(const json_t *doc)
{
    const json_t *v = json_object_get(json_object_get(doc, "prune"), "rewind"), *name = json_is_object(v) ? json_object_get(v, "type") : v;
    const struct plug *p = json_is_string(name) ? plug_find(&rewind_table, json_string_value(name)) : NULL;

    return p && rewind_of(&(struct plug_value){ .plug = p })->retrains;
}

/* doc with "train" and "retrain" filled in as far as they are objects; what is none is left for the parser to refuse. */
static json_t *filled_in(const json_t *doc, bool trained)
{
    json_t *out = json_object(), *none = json_object();
    const json_t *train = json_object_get(doc, "train"), *retrain = json_object_get(doc, "retrain");
    bool ok = out && none && json_object_update(out, (json_t *)doc) == 0;

    train = train ? train : none;
    retrain = retrain ? retrain : none;
    if (ok && json_is_object(train) && json_is_object(retrain))
        ok = json_object_set_new(out, "retrain", training(train, retrain, retrains_whole(doc) && !(trained && !json_object_get(train, "epochs")) ? NONE : 2)) == 0;
    if (ok && json_is_object(train) && trained && !json_object_get(train, "epochs"))
        ok = json_object_set_new(out, "train", training(none, train, 0)) == 0;
    json_decref(none);
    if (ok)
        return out;
    json_decref(out);
    return NULL;
}

enum err_code job_conf_parse(struct job_conf *c, const json_t *doc, bool trained, struct err *e)
{
    json_t *all;
    enum err_code rc;

    if (!json_is_object(doc))
        return err_set(e, ERR_INVALID, "must be an object");
    all = filled_in(doc, trained);
    if (!all)
        return err_set(e, ERR_NOMEM, "out of memory");
    rc = params_parse(c, sizeof *c, job_params, all, e);
    json_decref(all);
    return rc;
}

json_t *job_conf_dump(const struct job_conf *c)
{
    return params_dump(job_params, c);
}

/* ---- checks against model and data ---- */

/* The same shape, but for dimensions of 1; or the same numbers in a row where one side is flat. */
static bool shapes_fit(const struct shape *a, const struct shape *b)
{
    int i = 0, j = 0;

    if (shape_len(a) != shape_len(b))
        return false;
    if (a->n_d <= 1 || b->n_d <= 1)
        return true;
    while (i < a->n_d || j < b->n_d) {
        if (i < a->n_d && a->d[i] == 1)
            i++;
        else if (j < b->n_d && b->d[j] == 1)
            j++;
        else if (i < a->n_d && j < b->n_d && a->d[i] == b->d[j])
            i++, j++;
        else
            return false;
    }
    return true;
}

/* Of images with more than one channel. */
static enum err_code check_channels(const struct net *net, const struct dataset *d, struct err *e)
{
    if (d->channels_first && d->shape.d[0] > 1 && net_channels_last(net))
        return err_field(e, ERR_INVALID, "/dataset", "the data set has the channels of its images first, the model has them last");
    if (d->by_channel && d->shape.n_d == 3 && !d->channels_first && net_channels_first(net))
        return err_field(e, ERR_INVALID, "/dataset", "the data set scales the last axis as channels, the model has them first: make one with channels first");
    return ERR_OK;
}

static bool rescales_samples(const struct net *net, int i)
{
    const struct op *op = net->node[i].op;
    int from = net->node[i].in[0];

    while (from > 0 && net->node[from].arranges)
        from = net->node[from].in[0];
    return from == 0 && (op == op_find("rescale") || op == op_find("standardize"));
}

enum err_code job_check_shape(const struct net *net, const struct dataset *d, struct err *e)
{
    char want[96], have[96];

    for (int i = 1; i < net->n_nodes && d->auto_unit; i++)
        if (rescales_samples(net, i))
            return err_field(e, ERR_INVALID, "/dataset", "layer \"%s\" of the model rescales the samples, and the data set scales bytes by 255 as well: make "
                             "one with scaling none, or with unit if both are meant", net->node[i].layer);
    if (shapes_fit(net_input(net), &d->shape))
        return check_channels(net, d, e);
    return err_field(e, ERR_INVALID, "/dataset", "the model takes samples of shape %s, the data set has %s",
                     shape_text(net_input(net), want, sizeof want), shape_text(&d->shape, have, sizeof have));
}

static enum err_code check_data(const struct job_conf *c, const struct net *net, const struct dataset *d, struct err *e)
{
    int n = d->split[DATA_TRAIN].n;
    double carved = floor(c->validation_fraction * n + 0.5);
    enum err_code rc = job_check_shape(net, d, e);

    if (rc != ERR_OK)
        return rc;
    if (n < 1)
        return err_field(e, ERR_INVALID, "/dataset", "has no train split");
    if (d->n_classes == 1)
        return err_field(e, ERR_INVALID, "/dataset", "has one class only");
    if (d->split[DATA_VALIDATION].n == 0 && !(carved >= 1 && carved < n))
        return err_field(e, ERR_INVALID, "/validation_fraction", "leaves %.0f of %d samples for validation", carved, n);
    return ERR_OK;
}

enum err_code job_bind_loss(struct loss_binding *out, const struct job_conf *c, const struct net *net, const struct dataset *d, struct err *e)
{
    const struct loss *loss = c->loss.plug ? (const struct loss *)(const void *)c->loss.plug : loss_default(net, d->n_classes);
    enum err_code rc = loss_bind(out, loss, net, d->n_classes, d->n_target, e);

    return rc == ERR_OK ? rc : err_at(e, rc, "%s", c->loss.plug ? "/loss" : "/model");
}

bool job_has_contract(const struct stop_conf *s)
{
    return !(isnan(s->max_drop) && isnan(s->max_relative_drop) && isnan(s->min_metric));
}

static enum err_code check_retraining(const struct job_conf *c, struct err *e)
{
    int64_t epoch = rewind_epoch(&c->prune.rewind);

    if (regrow_changes(&c->prune.regrow) && strcmp(c->prune.unit.plug->name, "weight") != 0)
        return err_field(e, ERR_INVALID, "/prune/regrow", "changes single weights: unit %s would not last", c->prune.unit.plug->name);
    if (epoch > c->train.epochs)
        return err_field(e, ERR_INVALID, "/prune/rewind/epoch", "train ends after %lld epochs", (long long)c->train.epochs);
    if (epoch > 0 && epoch >= c->retrain.epochs)
        return err_field(e, ERR_INVALID, "/prune/rewind/epoch", "leaves no epoch to retrain: retrain.epochs, %lld, counts from the start of training",
                         (long long)c->retrain.epochs);
    return ERR_OK;
}

static enum err_code check_augment(const struct job_conf *c, const struct net *net, const struct dataset *d, struct err *e)
{
    struct augment unused;
    enum err_code rc = train_bind_augment(&unused, &c->train.augment, d, net, e);

    if (rc != ERR_OK)
        return err_at(e, rc, "/train/augment");
    rc = train_bind_augment(&unused, &c->retrain.augment, d, net, e);
    return rc == ERR_OK ? rc : err_at(e, rc, "/retrain/augment");
}

enum err_code job_check(const struct job_conf *c, const struct net *net, const struct dataset *d, struct err *e)
{
    struct pruner *p = NULL;
    struct loss_binding loss;
    enum err_code rc = check_data(c, net, d, e);

    if (rc == ERR_OK) {
        rc = export_conf_check(&c->export, e);
        rc = rc == ERR_OK ? rc : err_at(e, rc, "/export");
    }
    if (rc == ERR_OK)
        rc = job_bind_loss(&loss, c, net, d, e);
    if (rc == ERR_OK && schedule_of(c->prune.schedule.plug)->searches && !job_has_contract(&c->stop))
        rc = err_field(e, ERR_INVALID, "/stop/max_drop", "the adaptive schedule searches within a contract: give max_drop or max_relative_drop");
    if (rc == ERR_OK)
        rc = check_retraining(c, e);
    if (rc == ERR_OK)
        rc = check_augment(c, net, d, e);
    if (rc == ERR_OK && !metric_fits(job_metric(c, d->n_classes), d->n_classes))
        rc = err_field(e, ERR_INVALID, "/metric", "%s is no metric of a %s", metric_name(job_metric(c, d->n_classes)),
                       d->n_classes ? "classification" : "regression");
    if (rc == ERR_OK) {
        rc = pruner_new(&p, &c->prune, net, (uint64_t)c->seed, e);
        rc = rc == ERR_OK ? rc : err_at(e, rc, "/prune");
    }
    pruner_free(p);
    return rc;
}

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Numbers that travel beside the net: kept, and the origin, base, and of prunable weights those of movement and surgery that the job wants. */
static uint64_t arrays_memory(const struct job_conf *c, const struct net_size *size)
{
    const bool searches = schedule_of(c->prune.schedule.plug)->searches;
    uint64_t whole = 1 + (rewind_of(&c->prune.rewind)->weights == REWIND_SAVED) + c->controls.random.on;
    uint64_t kernels = (uint64_t)(criterion_of(c->prune.criterion.plug)->moved + regrow_of(&c->prune.regrow)->splices) * (1 + searches);

    return sizeof(float) * (whole * size->params + kernels * size->weights) + size->weights; /* and the kept mask */
}

/* What stands all the time: the net with its masks, a copy of it that is measured, the arrays, an evaluation; and the largest of what stands in one phase
 * alone: a training (of a control: with its net), a pruning step, finished models. */
uint64_t job_memory(const struct job_conf *c, const struct net *net, const struct dataset *d)
{
    struct net_size size;
    uint64_t k = shape_len(net_output(net)), samples = 0, retraining, phase;

    net_count(net, &size);
    for (int s = 0; s < DATA_SPLITS; s++)
        samples = larger((uint64_t)d->split[s].n, samples);
    retraining = train_memory(net, &c->retrain, &c->prune.regrow) + (criterion_of(c->prune.criterion.plug)->moved ? 4 * size.weights : 0); /* its places */
    phase = larger(train_memory(net, &c->train, NULL) + (c->controls.small_dense.on ? 4 * size.params : 0), retraining);
    phase = larger(phase, larger(pruner_memory(&c->prune, net), finish_memory(&c->export, net)));
    return 2 * sizeof(float) * size.params + size.weights + arrays_memory(c, &size) + exec_memory(net, JOB_EVALUATION_BATCH, EXEC_INFER) +
           net_pack_memory(net) + phase + samples * (k * 4 + 32);
}
