/* core/train_state.c: a trainer's memory: made, saved to a checkpoint, loaded from one, counted. Arrays in a checkpoint are named
 * "train/slot0/dense/kernel", "train/best/dense/kernel"; they are read back bit by bit, infinities included. Those of a sparse weight are its kept
 * numbers alone, in one dimension. */
#include "core/train_state.h"

#include <stdio.h>
#include <string.h>

#include "core/mem.h"

enum { CHUNK_MAX = 1024, EVAL_N = 256, RANGE = 16384 };
double trainer_small_step = 4e6;

/* ---- making ---- */

static bool new_slots(struct trainer *t)
{
    const struct net *net = t->in.net;

    t->slot = mem_zalloc((size_t)net->n_weights * OPTIM_MAX_SLOTS, sizeof *t->slot);
    if (!t->slot)
        return false;
    for (int w = 0; w < net->n_weights; w++)
        for (int k = 0; net->weight[w].info.trainable && k < t->optimizer->n_slots; k++) {
            float *slot = mem_vector(weight_n_values(&net->weight[w]));

            t->slot[w * OPTIM_MAX_SLOTS + k] = slot;
            if (!slot)
                return false;
        }
    return true;
}

static bool new_best(struct trainer *t)
{
    const struct net *net = t->in.net;

    if (!t->eval || !t->in.conf->early_stopping.restore_best)
        return true;
    t->best_weight = mem_zalloc((size_t)net->n_weights, sizeof *t->best_weight);
    for (int w = 0; t->best_weight && w < net->n_weights; w++) {
        t->best_weight[w] = mem_vector(weight_n_values(&net->weight[w]));
        if (!t->best_weight[w])
            return false;
    }
    return t->best_weight != NULL;
}

static bool new_ranges(struct trainer *t)
{
    const struct net *net = t->in.net;
    size_t n = 0;

    for (int w = 0; w < net->n_weights; w++)
        n += net->weight[w].info.trainable ? (weight_n_values(&net->weight[w]) + RANGE - 1) / RANGE : 0;
    t->range = mem_alloc(n * sizeof *t->range);
    t->partial = mem_alloc(n * sizeof *t->partial);
    if (!t->range || !t->partial)
        return false;
    for (int w = 0; w < net->n_weights; w++) {
        size_t len = net->weight[w].info.trainable ? weight_n_values(&net->weight[w]) : 0;

        for (size_t at = 0; at < len; at += RANGE)
            t->range[t->n_ranges++] = (struct train_range){ w, at, len - at < RANGE ? len - at : RANGE };
    }
    return true;
}

static bool new_scratch(struct trainer *t)
{
    const struct data_view *v = &t->in.views->train;

    t->label = mem_alloc((size_t)t->chunk * sizeof *t->label);
    t->target = mem_alloc((size_t)t->chunk * (size_t)v->data->n_target * sizeof *t->target);
    t->sample = mem_alloc((size_t)t->chunk * sizeof *t->sample);
    if (t->in.behind && !(t->key = mem_alloc(trainer_longest(t->in.net) * sizeof *t->key)))
        return false;
    if (!t->optimizer->full_batch)
        t->order = mem_alloc((size_t)v->n * sizeof *t->order);
    return t->label && t->target && t->sample && (t->order || t->optimizer->full_batch) && (t->fused || new_ranges(t));
}

/* A step of so few multiply-adds is over sooner on one core than its activations have gone from one core's cache to the other's: a 95 % sparse
 * LeNet-300-100 took 0.07 s per epoch on one thread and 0.09 on two. The bytes are the same. */
static struct team *team_of_step(const struct trainer *t)
{
    struct net_size size;

    net_count(t->in.net, &size);
    return (double)size.macs_nonzero * t->chunk < trainer_small_step ? NULL : t->in.team;
}

/* Sparse weights have other kept numbers than before, or are sparse for the first time. */
static bool find_places(struct trainer *t)
{
    for (int i = 0; t->in.moved && i < t->in.net->n_weights; i++) {
        const struct weight *w = &t->in.net->weight[i];
        size_t n = 0;

        if (!w->sparse || !t->in.moved[i])
            continue;
        mem_free(t->place[i]);
        t->place[i] = mem_alloc(w->sparse->n * sizeof *t->place[i]);
        if (!t->place[i])
            return false;
        for (size_t k = 0; k < w->len; k++)
            if (w->mask[k])
                t->place[i][sparse_number(&w->sparse->by_row, n++)] = (uint32_t)k;
    }
    return true;
}

enum err_code trainer_bind(struct trainer *t, struct err *e)
{
    exec_free(t->exec);
    t->exec = NULL;
    if (!find_places(t))
        return err_set(e, ERR_NOMEM, "out of memory");
    return exec_new(&t->exec, t->in.net, t->chunk, EXEC_TRAIN, t->in.seed, t->in.team, e);
}

/* Splicing: all kernels dense, and behind each mask what is not hidden as it is. */
static void uncover(struct trainer *t)
{
    if (!t->in.behind)
        return;
    net_unpack(t->in.net);
    for (int w = 0; w < t->in.net->n_weights; w++) {
        const struct weight *weight = &t->in.net->weight[w];
        float *behind = trainer_behind(t, w);

        for (size_t k = 0; behind && k < weight->len; k++)
            behind[k] = weight->mask[k] ? weight->x[k] : behind[k];
    }
}

enum err_code train_bind_augment(struct augment *out, const struct augment_conf *conf, const struct dataset *d, const struct net *net, struct err *e)
{
    const struct augment_samples data = { d->shape, d->channels_first }, input = { *net_input(net), net_channels_first(net) };

    return augment_bind(out, conf, &data, &input, e);
}

static enum err_code new_parts(struct trainer *t, struct err *e)
{
    const struct trainer_in *in = &t->in;
    enum err_code rc = train_bind_augment(&t->augment, &in->conf->augment, in->views->train.data, in->net, e);

    if (rc != ERR_OK)
        return err_at(e, rc, "/augment");
    t->augment.seed = in->seed;
    t->augment.phase = in->phase;
    rc = trainer_bind(t, e);
    if (rc == ERR_OK && in->conf->early_stopping.patience > 0)
        rc = exec_new(&t->eval, in->net, EVAL_N, EXEC_INFER, in->seed, in->team, e);
    if (rc == ERR_OK && !(new_slots(t) && new_best(t) && new_scratch(t)))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    return rc;
}

enum err_code trainer_new(struct trainer **out, const struct trainer_in *in, struct err *e)
{
    const struct train_conf *conf = in->conf;
    int n = in->views->train.n;
    struct trainer *t;
    enum err_code rc;

    *out = NULL;
    if (n == 0)
        return err_set(e, ERR_INVALID, "there are no samples to train on");
    if (conf->early_stopping.patience > 0 && in->views->validation.n == 0)
        return err_field(e, ERR_INVALID, "/early_stopping/patience", "early stopping needs validation samples, and there are none");
    t = mem_zalloc(1, sizeof *t);
    if (!t)
        return err_set(e, ERR_NOMEM, "out of memory");
    t->in = *in;
    t->epoch = in->first_epoch;
    t->in.rate = in->rate > 0 ? in->rate : 1;
    t->optimizer = (const struct optimizer *)(const void *)conf->optimizer.plug;
    t->schedule = (const struct lr_schedule *)(const void *)conf->learning_rate_schedule.plug;
    t->batch_size = t->optimizer->full_batch || conf->batch_size > n ? n : (int)conf->batch_size;
    t->chunk = t->optimizer->full_batch && n > CHUNK_MAX ? CHUNK_MAX : t->batch_size;
    t->steps_per_epoch = (n + t->batch_size - 1) / t->batch_size;
    t->fused = !t->optimizer->full_batch && isnan(conf->clip_norm);
    t->order_epoch = -1;
    t->in.team = team_of_step(t);
    uncover(t);
    t->place = mem_zalloc((size_t)in->net->n_weights, sizeof *t->place);
    rc = t->place ? new_parts(t, e) : err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK)
        *out = t;
    else
        trainer_free(t);
    return rc;
}

static void free_arrays(float **a, int n)
{
    for (int i = 0; a && i < n; i++)
        mem_free(a[i]);
    mem_free(a);
}

void trainer_free(struct trainer *t)
{
    if (!t)
        return;
    free_arrays(t->slot, t->in.net->n_weights * OPTIM_MAX_SLOTS);
    free_arrays(t->best_weight, t->in.net->n_weights);
    for (int w = 0; t->place && w < t->in.net->n_weights; w++)
        mem_free(t->place[w]);
    mem_free(t->place);
    exec_free(t->exec);
    exec_free(t->eval);
    mem_free(t->order);
    mem_free(t->label);
    mem_free(t->target);
    mem_free(t->sample);
    mem_free(t->key);
    mem_free(t->range);
    mem_free(t->partial);
    mem_free(t);
}

uint64_t train_memory(const struct net *net, const struct train_conf *conf, const struct plug_value *regrow)
{
    const struct optimizer *o = (const struct optimizer *)(const void *)conf->optimizer.plug;
    bool stops = conf->early_stopping.patience > 0;
    int chunk = o->full_batch ? CHUNK_MAX : (int)conf->batch_size;
    uint64_t bytes = exec_memory(net, chunk, EXEC_TRAIN) + (stops ? exec_memory(net, EVAL_N, EXEC_INFER) : 0);

    for (int w = 0; w < net->n_weights; w++)
        bytes += weight_n_values(&net->weight[w]) * sizeof(float) *
                 ((net->weight[w].info.trainable ? (uint64_t)o->n_slots : 0) + (stops && conf->early_stopping.restore_best));
    bytes += trainer_regrow_memory(net, regrow, chunk);
    return bytes + (uint64_t)chunk * (sizeof(double) + sizeof(int32_t) + sizeof(float) * shape_len(net_output(net)));
}

/* ---- checkpoints ---- */

/* Calls fn for every array of the state, in a fixed order, until one fails. A file has the numbers of sparse kernels in the dense kernel's order. */
typedef enum err_code array_fn(void *ctx, const char *name, const struct shape *shape, const uint32_t *order, float *x, struct err *e);

static enum err_code each_array(const struct trainer *t, array_fn *fn, void *ctx, struct err *e)
{
    enum err_code rc = ERR_OK;
    char name[OP_NAME_MAX + 24];

    for (int w = 0; w < t->in.net->n_weights && rc == ERR_OK; w++) {
        const struct weight *weight = &t->in.net->weight[w];
        const uint32_t *order = weight_order(weight);
        const struct shape shape = weight_values_shape(weight);

        for (int k = 0; k < OPTIM_MAX_SLOTS && rc == ERR_OK; k++) {
            float *slot = t->slot[w * OPTIM_MAX_SLOTS + k];

            snprintf(name, sizeof name, "train/slot%d/%s", k, weight->name);
            rc = slot ? fn(ctx, name, &shape, order, slot, e) : ERR_OK;
        }
        snprintf(name, sizeof name, "train/best/%s", weight->name);
        if (rc == ERR_OK && t->best_weight && t->has_best)
            rc = fn(ctx, name, &shape, order, t->best_weight[w], e);
    }
    return rc;
}

static enum err_code save_array(void *ctx, const char *name, const struct shape *shape, const uint32_t *order, float *x, struct err *e)
{
    return st_add_ordered(ctx, name, shape, x, order, e);
}

enum err_code trainer_save(const struct trainer *t, struct st_writer *w, json_t *meta, struct err *e)
{
    /* Jansson prints reals with 17 digits: both are finite and come back to the last bit */
    json_t *state = json_pack("{s:I, s:I, s:f, s:b, s:b, s:f, s:I}", "epoch", (json_int_t)t->epoch, "batch", (json_int_t)t->batch, "loss_sum",
                              t->loss_sum, "finished", (int)t->finished, "has_best", (int)t->has_best, "best", t->best, "wait",
                              (json_int_t)t->wait);

    if (json_object_set_new(meta, "train", state) != 0)
        return err_set(e, ERR_NOMEM, "out of memory");
    return each_array(t, save_array, w, e);
}

static enum err_code load_array(void *ctx, const char *name, const struct shape *shape, const uint32_t *order, float *x, struct err *e)
{
    const struct st_array *a = st_find(ctx, name);
    const size_t len = shape_len(shape);

    if (!a || a->dtype != ST_F32 || !shape_equal(&a->shape, shape))
        return err_set(e, ERR_INVALID, "the checkpoint has no \"%s\" of this shape", name);
    for (size_t i = 0; i < len; i++)
        memcpy(&x[order ? order[i] : i], (const char *)a->data + i * sizeof *x, sizeof *x);
    return ERR_OK;
}

enum err_code trainer_load(struct trainer *t, const struct st_file *f, const json_t *meta, struct err *e)
{
    json_int_t epoch, batch, wait;
    int finished, has_best;

    if (json_unpack((json_t *)meta, "{s:{s:I, s:I, s:F, s:b, s:b, s:F, s:I}}", "train", "epoch", &epoch, "batch", &batch, "loss_sum",
                    &t->loss_sum, "finished", &finished, "has_best", &has_best, "best", &t->best, "wait", &wait) != 0)
        return err_field(e, ERR_INVALID, "/train", "the checkpoint has no position of a training");
    if (epoch < t->in.first_epoch || epoch >= t->in.conf->epochs + finished || batch < 0 || batch > t->steps_per_epoch || wait < 0)
        return err_field(e, ERR_INVALID, "/train", "the checkpoint's position, epoch %lld, batch %lld, is not in this training",
                         (long long)epoch, (long long)batch);
    t->epoch = epoch;
    t->batch = batch;
    t->wait = wait;
    t->finished = finished;
    t->has_best = has_best;
    t->order_epoch = -1;
    return each_array(t, load_array, (void *)f, e);
}
