/* core/regrows.c: the table of regrow.h, and its schedule. */
#include "core/regrow.h"

static const struct param exchange_params[] = {
    FIELD_INT(struct regrow_conf, interval, 1, 1e9, 100, "Steps of retraining from one exchange to the next."),
    FIELD_REAL(struct regrow_conf, until, 0, 1, 0.75, "Share of retraining's steps after which masks no longer change."),
    FIELD_REAL(struct regrow_conf, alpha, 0, 1, 0.3, "Share of a layer's weights that is exchanged at first; falls with half a cosine."), FIELD_END
};

static const struct param surgery_params[] = {
    FIELD_INT(struct regrow_conf, interval, 1, 1e9, 1, "Steps of retraining from one chance to the next."),
    FIELD_REAL(struct regrow_conf, until, 0, 1, 0.75, "Share of retraining's steps after which masks no longer change."),
    FIELD_REAL(struct regrow_conf, gamma, 0, 1e6, 0.0001, "Masks change at a step with probability (1 + gamma step)^-power."),
    FIELD_REAL(struct regrow_conf, power, 0, 100, 1, "See gamma."),
    FIELD_REAL(struct regrow_conf, margin, 0, 0.99, 0.1, "A weight goes below (1 - margin) t and comes back above (1 + margin) t; t is where the layer keeps its number."),
    FIELD_END
};

static const struct regrow none = { .plug = { "none", "Masks stay while the net is retrained.", NULL, 0 } };
static const struct regrow rigl = {
    .plug = { "rigl", "Drops the smallest weights, grows those with the largest gradient (RigL: Evci et al. 2020).", exchange_params,
              sizeof(struct regrow_conf) },
    .exchanges = true, .by_gradient = true
};
static const struct regrow set = {
    .plug = { "set", "Drops the smallest weights, grows others at random (sparse evolutionary training: Mocanu et al. 2018).", exchange_params,
              sizeof(struct regrow_conf) },
    .exchanges = true
};
static const struct regrow surgery = {
    .plug = { "surgery", "Masked weights are trained on behind the mask, and take the place of smaller ones when they have grown (dynamic network surgery: "
              "Guo, Yao & Chen 2016); each layer keeps its number of weights.", surgery_params, sizeof(struct regrow_conf) },
    .splices = true
};

static const struct plug *const rows[] = { &none.plug, &rigl.plug, &set.plug, &surgery.plug, NULL };
const struct plug_table regrow_table = { "regrow", rows };

bool regrow_due(const struct regrow_conf *c, int64_t done, int64_t all)
{
    return done % c->interval == 0 && (double)done < c->until * (double)all;
}

double regrow_chance(const struct regrow_conf *c, int64_t done)
{
    return pow(1 + c->gamma * (double)done, -c->power);
}

uint64_t regrow_count(const struct regrow_conf *c, int64_t done, int64_t all, uint64_t n_kept)
{
    double share = c->alpha / 2 * (1 + cos(3.14159265358979323846 * (double)done / (c->until * (double)all)));

    return (uint64_t)floor(share * (double)n_kept);
}
