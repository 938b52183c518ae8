/* core/train.c: see train.h. One mini-batch: gather, forward, loss, backward, update.
 *
 * Normally the optimizer runs inside backward: as soon as a piece of a weight's gradient is final it is masked, clipped and applied by the
 * thread that computed it, while it is in the cache. Where the whole gradient must be known first (clipping by norm, a full batch summed
 * over chunks) the same is done afterwards over ranges of fixed length. Both give every number the same treatment, by itself, so nothing depends
 * on who does it; the norm adds its ranges in order. */
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/simd.h"
#include "core/train_state.h"

static const struct param early_stopping_params[] = {
    FIELD_CHOICE(struct early_stopping_conf, monitor, "loss|metric", 0, "Looked at on validation after each epoch: the loss, or the job's metric."),
    FIELD_INT(struct early_stopping_conf, patience, 0, 1e6, 0, "Epochs without improvement after which training stops; 0: never."),
    FIELD_REAL(struct early_stopping_conf, min_delta, 0, 1e12, 0, "The least change that counts as improvement."),
    FIELD_BOOL(struct early_stopping_conf, restore_best, 1, "Whether the weights of the best epoch are kept."), FIELD_END
};
const struct param train_params[] = {
    FIELD_INT(struct train_conf, epochs, 0, 1e6, 10, "Passes over the training set; 0: no training."),
    FIELD_INT(struct train_conf, batch_size, 1, 65536, 128, "Samples per step."),
    FIELD_PLUG(struct train_conf, optimizer, &optimizer_table, "adam", "How the weights follow the gradient."),
    FIELD_PLUG(struct train_conf, learning_rate_schedule, &lr_schedule_table, "constant", "The learning rate over the steps of this phase."),
    FIELD_REAL(struct train_conf, clip_norm, 1e-12, 1e12, PARAM_NONE, "Largest L2 norm of the whole gradient; a longer one is scaled down."),
    FIELD_REAL(struct train_conf, clip_value, 1e-12, 1e12, PARAM_NONE, "Largest absolute value of each number of the gradient."),
    FIELD_REAL(struct train_conf, clip_weights, 1e-12, 1e12, PARAM_NONE, "Largest absolute value of each weight of a kernel, after each step."),
    FIELD_OBJECT(struct train_conf, early_stopping, early_stopping_params, "Ends training when validation no longer improves."),
    FIELD_OBJECT(struct train_conf, augment, augment_params, "Changes images at random each time they are trained on; never for an evaluation."), FIELD_END
};

/* ---- updates ---- */

SIMD static void mask_gradient(float *restrict g, const uint8_t *restrict mask, size_t n)
{
    for (size_t i = 0; i < n; i++)
        g[i] = mask[i] ? g[i] : 0;
}

SIMD static void clip(float *x, size_t n, float limit)
{
    for (size_t i = 0; i < n; i++) {
        float low = x[i] < -limit ? -limit : x[i];

        x[i] = low > limit ? limit : low;
    }
}

SIMD static void cover(float *restrict x, const float *restrict behind, const uint8_t *restrict mask, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = mask[i] ? behind[i] : 0;
}

SIMD static void scale_by(float *x, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

SIMD static double square_sum(const float *x, size_t n)
{
    return simd_dot(x, 0, x, 0, (int)n);
}

/* A range's sum is finite exactly when all its numbers are. */
SIMD static bool all_finite(const float *x, size_t n)
{
    return isfinite(simd_sum(x, (int)n));
}

SIMD static void subtract_product(float *restrict sum, const float *restrict x, const float *restrict g, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] -= x[i] * g[i];
}

/* What the optimizer changes. */
static float *numbers(const struct trainer *t, int w)
{
    float *behind = trainer_behind(t, w);

    return behind ? behind : weight_values(&t->in.net->weight[w]);
}

/* The gradient is the loss' own yet. */
static void note_movement(struct trainer *t, int w, size_t first, size_t n)
{
    const float *x = numbers(t, w) + first, *g = exec_dw(t->exec, w) + first;
    float *sum = t->in.moved[w];

    if (!sum)
        return;
    if (!t->in.net->weight[w].sparse)
        subtract_product(sum + first, x, g, n);
    else
        for (size_t i = 0; i < n; i++)
            sum[t->place[w][first + i]] -= x[i] * g[i];
}

static void prepare_gradient(struct trainer *t, int w, size_t first, size_t n)
{
    const struct weight *weight = &t->in.net->weight[w];
    float *g = exec_dw(t->exec, w) + first;

    if (t->in.moved)
        note_movement(t, w, first, n);
    if (weight->mask && !weight->sparse && !trainer_behind(t, w))
        mask_gradient(g, weight->mask + first, n);
    if (!isnan(t->in.conf->clip_value))
        clip(g, n, (float)t->in.conf->clip_value);
}

static void apply_gradient(struct trainer *t, int w, size_t first, size_t n)
{
    const struct weight *weight = &t->in.net->weight[w];
    const struct optim_conf_head *head = (const void *)t->in.conf->optimizer.conf;
    struct optim_call c = {
        .n = n, .w = numbers(t, w) + first, .g = exec_dw(t->exec, w) + first, .lr = t->lr,
        .t = (t->epoch - t->in.first_epoch) * t->steps_per_epoch + t->batch + 1,
        .decay = weight->info.decayed ? head->weight_decay : 0, .conf = t->in.conf->optimizer.conf
    };

    for (int k = 0; k < t->optimizer->n_slots; k++)
        c.slot[k] = t->slot[w * OPTIM_MAX_SLOTS + k] + first;
    t->optimizer->update(&c);
    if (weight->info.prunable && !isnan(t->in.conf->clip_weights))
        clip(c.w, n, (float)t->in.conf->clip_weights);
    if (trainer_behind(t, w))
        cover(weight->x + first, c.w, weight->mask + first, n);
}

static void gradient_ready(void *user, int w, size_t first, size_t n)
{
    prepare_gradient(user, w, first, n);
    apply_gradient(user, w, first, n);
}

static void prepare_range(void *user, int tile)
{
    struct trainer *t = user;
    struct train_range r = t->range[tile];

    prepare_gradient(t, r.w, r.first, r.n);
    t->partial[tile] = square_sum(exec_dw(t->exec, r.w) + r.first, r.n);
}

static void apply_range(void *user, int tile)
{
    struct trainer *t = user;
    struct train_range r = t->range[tile];

    if (t->scale != 1)
        scale_by(exec_dw(t->exec, r.w) + r.first, r.n, t->scale);
    apply_gradient(t, r.w, r.first, r.n);
}

static void update_all(struct trainer *t)
{
    double limit = t->in.conf->clip_norm, norm = 0;

    team_for(t->in.team, t->n_ranges, prepare_range, t);
    for (int i = 0; i < t->n_ranges; i++)
        norm += t->partial[i];
    norm = sqrt(norm);
    t->scale = norm > limit ? (float)(limit / norm) : 1; /* limit may be NAN: 1 */
    team_for(t->in.team, t->n_ranges, apply_range, t);
}

/* ---- one step ---- */

static void shuffle(struct trainer *t)
{
    struct rng r = { .seed = t->in.seed, .purpose = RNG_SHUFFLE, .stream = t->in.phase, .step = (uint64_t)t->epoch };

    if (!t->order || t->order_epoch == t->epoch)
        return;
    for (int i = 0; i < t->in.views->train.n; i++)
        t->order[i] = (uint32_t)i;
    rng_shuffle(&r, t->order, (uint32_t)t->in.views->train.n);
    t->order_epoch = t->epoch;
}

static double chunk_loss(struct trainer *t, int first, int n, uint64_t draw, double weight)
{
    const struct loss_binding *b = t->in.loss;
    const struct data_view *v = &t->in.views->train;
    struct data_batch batch = { exec_input(t->exec), t->label, t->target };
    double sum = 0;

    t->augment.epoch = (uint64_t)t->epoch;
    data_gather_augmented(v, t->order, first, n, &batch, &t->augment, t->in.team);
    exec_forward(t->exec, n, true, draw);
    b->loss->run(&(struct loss_call){
        .k = (int)shape_len(&t->in.net->node[b->node].plan.out), .n = n, .z = exec_value(t->exec, b->node),
        .label = v->split->label ? t->label : NULL, .target = v->split->target ? t->target : NULL, .from = b->from, .weight = weight,
        .dz = exec_grad(t->exec, b->node), .sample = t->sample
    });
    for (int i = 0; i < n; i++)
        sum += t->sample[i];
    return sum;
}

static bool wants_stop(const struct train_hooks *h)
{
    return h->stop && h->stop(h->user);
}

static enum err_code diverged(const struct trainer *t, const char *what, struct err *e)
{
    return err_set(e, ERR_DIVERGED, "%s not finite in epoch %lld, step %lld: a smaller learning rate or clipping may help", what,
                   (long long)t->epoch + 1, (long long)t->batch + 1);
}

static enum err_code step(struct trainer *t, const struct train_hooks *h, struct err *e)
{
    const struct train_conf *conf = t->in.conf;
    int64_t at = t->epoch * t->steps_per_epoch + t->batch;
    int first = (int)t->batch * t->batch_size, left = t->in.views->train.n - first, n = left < t->batch_size ? left : t->batch_size;
    int chunks = (t->batch_size + t->chunk - 1) / t->chunk;
    double sum = 0;

    shuffle(t);
    t->in.net->ahead = true;
    t->lr = t->in.rate * ((const struct optim_conf_head *)(const void *)conf->optimizer.conf)->learning_rate *
            t->schedule->at(conf->learning_rate_schedule.conf, at, conf->epochs * t->steps_per_epoch, t->steps_per_epoch);
    for (int i = 0; i * t->chunk < n; i++) {
        int done = i * t->chunk, len = n - done < t->chunk ? n - done : t->chunk;

        if (wants_stop(h))
            return err_set(e, ERR_STOPPED, "stopped on request");
        sum += chunk_loss(t, first + done, len, (uint64_t)t->in.phase << 40 | (uint64_t)(at * chunks + i), 1.0 / n);
        if (!isfinite(sum))
            return diverged(t, "the loss is", e);
        exec_backward(t->exec, t->in.loss->node, i > 0, t->fused ? gradient_ready : NULL, t);
    }
    if (!t->fused)
        update_all(t);
    t->loss_sum += sum;
    t->batch++;
    return ERR_OK;
}

/* ---- epochs ---- */

static void copy_weights(struct trainer *t, bool to_best)
{
    for (int w = 0; w < t->in.net->n_weights; w++) {
        float *x = weight_values(&t->in.net->weight[w]), *best = t->best_weight[w];

        memcpy(to_best ? best : x, to_best ? x : best, weight_n_values(&t->in.net->weight[w]) * sizeof(float));
    }
}

static void judge(struct trainer *t, const struct metrics *m)
{
    const struct early_stopping_conf *c = &t->in.conf->early_stopping;
    enum metric which = c->monitor == 0 ? METRIC_LOSS : t->in.metric;
    double value = m->value[which], gain = metric_larger_is_better(which) ? value - t->best : t->best - value;

    if (isfinite(value) && (!t->has_best || gain > c->min_delta)) {
        t->has_best = true;
        t->best = value;
        t->wait = 0;
        if (t->best_weight)
            copy_weights(t, true);
    } else {
        t->wait++;
    }
}

static bool weights_are_finite(const struct net *net)
{
    for (int w = 0; w < net->n_weights; w++)
        if (!all_finite(weight_values(&net->weight[w]), weight_n_values(&net->weight[w])))
            return false;
    return true;
}

static void finish(struct trainer *t)
{
    if (t->best_weight && t->has_best) {
        t->in.net->ahead = true;
        copy_weights(t, false);
    }
    t->in.net->trained = t->in.net->trained || t->epoch > 0;
    t->finished = true;
}

static enum err_code end_epoch(struct trainer *t, const struct train_hooks *h, struct err *e)
{
    const struct train_conf *conf = t->in.conf;
    struct metrics m = { 0 };
    enum err_code rc = ERR_OK;

    t->batch--; /* what diverged() names */
    if (!weights_are_finite(t->in.net))
        return diverged(t, "the weights are", e);
    t->batch++;
    if (t->eval)
        rc = metrics_evaluate(&m, t->eval, t->in.net, t->in.loss, &t->in.views->validation, t->in.team, h->stop, h->user, e);
    if (rc != ERR_OK)
        return rc;
    if (t->eval)
        judge(t, &m);
    net_sync(t->in.net);
    if (h->epoch)
        h->epoch(h->user, t->epoch + 1, t->loss_sum / t->in.views->train.n, t->eval ? &m : NULL);
    metrics_clear(&m);
    t->epoch++;
    t->batch = 0;
    t->loss_sum = 0;
    if (t->epoch == conf->epochs || (t->eval && t->wait >= conf->early_stopping.patience))
        finish(t);
    return ERR_OK;
}

static void report(const struct trainer *t, const struct train_hooks *h)
{
    int64_t seen = t->batch * t->batch_size, n = t->in.views->train.n, epochs = t->in.conf->epochs - t->in.first_epoch;
    int64_t epoch = t->epoch - t->in.first_epoch;
    struct train_progress p = {
        .epoch = epoch + 1, .epochs = epochs, .fraction = (double)(epoch * t->steps_per_epoch + t->batch) / (double)(epochs * t->steps_per_epoch),
        .loss = t->loss_sum / (double)(seen < n ? seen : n)
    };

    if (h->progress)
        h->progress(h->user, &p);
}

static enum err_code save(struct trainer *t, const struct train_hooks *h, struct err *e)
{
    net_sync(t->in.net);
    return h->save(h->user, e);
}

enum err_code trainer_run(struct trainer *t, const struct train_hooks *h, struct err *e)
{
    enum err_code rc = ERR_OK;

    if (t->epoch >= t->in.conf->epochs)
        t->finished = true;
    while (rc == ERR_OK && !t->finished) {
        if (t->batch == t->steps_per_epoch) {
            rc = end_epoch(t, h, e);
            continue;
        }
        rc = step(t, h, e);
        if (rc == ERR_OK)
            report(t, h);
        if (rc == ERR_OK && trainer_regrow_due(t))
            rc = trainer_regrow(t, h, e);
        if (rc == ERR_OK && h->checkpoint_due && h->checkpoint_due(h->user))
            rc = save(t, h, e);
    }
    net_sync(t->in.net);
    return rc;
}
