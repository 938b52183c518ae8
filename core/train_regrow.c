/* core/train_regrow.c: exchanges weights between two steps of training (regrow.h): masks, values and the optimizer's slots change together, and what
 * runs sparse is packed again. Splicing changes masks alone: values and slots are kept of all numbers.
 *
 * A weight that is dropped and grown in the same exchange goes on as it was; one that is new starts at 0 with empty slots. Gradients are of a
 * mini-batch, by the dense net: batch norm and dropout as in evaluation. The best epoch so far had other masks: early stopping starts afresh. */
#include <string.h>

#include "core/mem.h"
#include "core/order.h"
#include "core/probe.h"
#include "core/rng.h"
#include "core/select.h"
#include "core/train_state.h"

static int64_t steps_done(const struct trainer *t) { return (t->epoch - t->in.first_epoch) * t->steps_per_epoch + t->batch; }
static int64_t steps_all(const struct trainer *t) { return (t->in.conf->epochs - t->in.first_epoch) * t->steps_per_epoch; }
static const struct regrow_conf *conf_of(const struct trainer *t) { return (const void *)t->in.regrow->conf; }

static uint64_t step_of(const struct trainer *t) { return (uint64_t)t->in.phase << 40 | (uint64_t)steps_done(t); }

bool trainer_regrow_due(const struct trainer *t)
{
    const struct rng r = { t->in.seed, RNG_REGROW, (1u << 24) - 1, step_of(t) };

    return regrow_changes(t->in.regrow) && regrow_due(conf_of(t), steps_done(t), steps_all(t)) && rng_unit(&r, 0) < regrow_chance(conf_of(t), steps_done(t));
}

/* ---- which weights ---- */

/* Scores of what may grow, larger first: |gradient|, or uniform. */
static void score_growth(const struct trainer *t, int w, const float *gradient, float *score)
{
    const struct rng r = { t->in.seed, RNG_REGROW, (uint32_t)w, step_of(t) };

    for (size_t i = 0; i < t->in.net->weight[w].len; i++)
        score[i] = gradient ? fabsf(gradient[i]) : (float)(rng_u32(&r, i) >> 8) * 0x1p-24f;
}

static uint64_t n_exchanged(const struct trainer *t, const struct weight *w)
{
    uint64_t kept = 0, n;

    for (size_t i = 0; i < w->len; i++)
        kept += w->mask[i] != 0;
    n = regrow_count(conf_of(t), steps_done(t), steps_all(t), kept);
    return n < w->len - kept ? n : w->len - kept;
}

/* Writes the new mask. key and score: scratch as long as the weight. */
static enum err_code exchange(const struct trainer *t, int w, const float *gradient, uint32_t *key, float *score, uint8_t *mask, struct err *e)
{
    const struct weight *weight = &t->in.net->weight[w];
    const struct span all = { .key = key, .n = weight->len, .each = 1 };
    uint64_t n = n_exchanged(t, weight);

    score_growth(t, w, gradient, score);
    for (size_t i = 0; i < weight->len; i++) {
        if (!isfinite(score[i]))
            return err_set(e, ERR_DIVERGED, "the gradient of %s is not finite", weight->name);
        key[i] = weight->mask[i] ? order_key(fabsf(weight->x[i])) : KEY_STAYS;
    }
    select_smallest(&all, 1, n);
    for (size_t i = 0; i < weight->len; i++) {
        mask[i] = weight->mask[i] && key[i] == KEY_STAYS;
        key[i] = mask[i] ? KEY_STAYS : order_key(-score[i]);
    }
    select_smallest(&all, 1, n);
    for (size_t i = 0; i < weight->len; i++)
        mask[i] |= key[i] == KEY_GOES;
    return ERR_OK;
}

/* ---- splicing ---- */

/* Each number is measured by its own threshold, so that those that stay are the largest of all. Whether the mask has changed. */
static enum err_code splice(struct trainer *t, int w, uint32_t *key, bool *changed, struct err *e)
{
    struct weight *weight = &t->in.net->weight[w];
    const struct span all = { .key = key, .n = weight->len, .each = 1 };
    const float *behind = trainer_behind(t, w);
    const double low = 1 - conf_of(t)->margin, high = 1 + conf_of(t)->margin;
    uint64_t masked = 0;

    for (size_t i = 0; i < weight->len; i++) {
        float size = (float)((double)fabsf(behind[i]) / (weight->mask[i] ? low : high));

        if (!isfinite(size))
            return err_set(e, ERR_DIVERGED, "number %zu of %s is not finite", i, weight->name);
        masked += !weight->mask[i];
        key[i] = order_key(size);
    }
    select_smallest(&all, 1, masked);
    for (size_t i = 0; i < weight->len; i++) {
        uint8_t stays = key[i] == KEY_STAYS;

        *changed = *changed || stays != (weight->mask[i] != 0);
        weight->mask[i] = stays;
        weight->x[i] = stays ? behind[i] : 0;
    }
    return ERR_OK;
}

static enum err_code splice_all(struct trainer *t, struct err *e)
{
    const struct net *net = t->in.net;
    bool changed = false;
    enum err_code rc = ERR_OK;

    for (int w = 0; w < net->n_weights && rc == ERR_OK; w++)
        if (trainer_behind(t, w) && net->weight[w].info.trainable)
            rc = splice(t, w, t->key, &changed, e);
    t->has_best = t->has_best && !changed;
    t->wait = changed ? 0 : t->wait;
    return rc;
}

/* ---- one weight's numbers ---- */

/* A slot as long as the weight; sparse ones are the kept numbers in order. */
static void spread(const struct weight *w, const float *slot, float *whole)
{
    for (size_t i = 0, k = 0; i < w->len; i++)
        whole[i] = !w->sparse || w->mask[i] ? slot[w->sparse ? k++ : i] : 0;
}

static void gather(const struct weight *w, const uint8_t *mask, const float *whole, float *slot)
{
    for (size_t i = 0, k = 0; i < w->len; i++)
        if (!w->sparse || mask[i])
            slot[w->sparse ? k++ : i] = whole[i];
}

/* What the new mask does not have, and what it has and the old one had not, becomes 0. As many numbers are kept, so slots stay as long. */
static void take_mask(struct trainer *t, int w, const uint8_t *mask, float *whole)
{
    struct weight *weight = &t->in.net->weight[w];

    for (int s = 0; s < t->optimizer->n_slots; s++) {
        float *slot = t->slot[w * OPTIM_MAX_SLOTS + s];

        spread(weight, slot, whole);
        for (size_t i = 0; i < weight->len; i++)
            whole[i] = mask[i] && weight->mask[i] ? whole[i] : 0;
        gather(weight, mask, whole, slot);
    }
    for (size_t i = 0; i < weight->len; i++)
        weight->x[i] = mask[i] && weight->mask[i] ? weight->x[i] : 0;
    memcpy(weight->mask, mask, weight->len);
}

/* ---- the whole net ---- */

struct scratch {
    struct net *dense;
    float **gradient; /* per weight, NULL: not wanted */
    uint32_t *key;
    float *score;
    uint8_t *mask;
};

static bool takes_part(const struct weight *w) { return w->mask && w->info.prunable && w->info.trainable; }

static void scratch_clear(struct scratch *s, int n_weights)
{
    for (int w = 0; s->gradient && w < n_weights; w++)
        mem_free(s->gradient[w]);
    mem_free(s->gradient);
    mem_free(s->key);
    mem_free(s->score);
    mem_free(s->mask);
    net_free(s->dense);
}

static bool scratch_new(struct scratch *s, const struct trainer *t)
{
    const struct net *net = t->in.net;
    const size_t longest = trainer_longest(net);

    *s = (struct scratch){ .gradient = mem_zalloc((size_t)net->n_weights, sizeof *s->gradient) };
    for (int w = 0; s->gradient && w < net->n_weights; w++) {
        if (takes_part(&net->weight[w]) && regrow_of(t->in.regrow)->by_gradient && !(s->gradient[w] = mem_vector(net->weight[w].len)))
            return false;
    }
    s->key = mem_alloc(longest * sizeof *s->key);
    s->score = mem_alloc(longest * sizeof *s->score);
    s->mask = mem_alloc(longest);
    return s->gradient && s->key && s->score && s->mask;
}

static enum err_code find_gradients(const struct trainer *t, struct scratch *s, const struct train_hooks *h, struct err *e)
{
    const struct probe_conf conf = { .samples = t->batch_size, .batch_size = t->chunk };
    enum err_code rc = net_clone(&s->dense, t->in.net, e);
    const struct crit_net in = { .net = s->dense, .train = &t->in.views->train, .loss = t->in.loss, .team = t->in.team, .seed = t->in.seed,
                                 .step = step_of(t), .stop = h->stop, .user = h->user };

    return rc == ERR_OK ? probe_gradient(&in, &conf, s->gradient, e) : rc;
}

size_t trainer_longest(const struct net *net)
{
    size_t n = 1;

    for (int w = 0; w < net->n_weights; w++)
        n = net->weight[w].len > n ? net->weight[w].len : n;
    return n;
}

uint64_t trainer_regrow_memory(const struct net *net, const struct plug_value *regrow, int chunk)
{
    uint64_t dense = probe_memory(net, chunk, chunk, PROBE_WEIGHTS);

    for (const struct weight *w = net->weight; w < net->weight + net->n_weights; w++)
        dense += w->len * (w->info.prunable ? 2 * sizeof(float) + 1 : sizeof(float)); /* the copy with its mask, and the gradient */
    if (!regrow_changes(regrow))
        return 0;
    return trainer_longest(net) * (sizeof(uint32_t) + sizeof(float) + 1) + (regrow_of(regrow)->by_gradient ? dense : 0);
}

enum err_code trainer_regrow(struct trainer *t, const struct train_hooks *h, struct err *e)
{
    struct net *net = t->in.net;
    struct scratch s;
    enum err_code rc = ERR_OK;

    if (regrow_of(t->in.regrow)->splices)
        return splice_all(t, e);
    net_sync(net);
    if (!scratch_new(&s, t))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK && regrow_of(t->in.regrow)->by_gradient)
        rc = find_gradients(t, &s, h, e);
    for (int w = 0; w < net->n_weights && rc == ERR_OK; w++) {
        if (!takes_part(&net->weight[w]))
            continue;
        rc = exchange(t, w, s.gradient[w], s.key, s.score, s.mask, e);
        if (rc == ERR_OK)
            take_mask(t, w, s.mask, s.score);
    }
    scratch_clear(&s, net->n_weights);
    if (rc == ERR_OK)
        rc = net_repack(net, e);
    if (rc == ERR_OK)
        rc = trainer_bind(t, e);
    t->has_best = false;
    t->wait = 0;
    return rc;
}
