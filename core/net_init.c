/* core/net_init.c: Keras' initialisers. Number i of weight w is a pure function of (seed, w, i). */
#include <string.h>

#include "core/mem.h"
#include "core/net.h"
#include "core/rng.h"

/* How an initialiser draws: uniform on [low, high), or normal, cut at two deviations or not. */
enum draw_kind { DRAW_CONSTANT, DRAW_UNIFORM, DRAW_NORMAL, DRAW_TRUNCATED };
struct draw {
    enum draw_kind kind;
    double a, b; /* value; low and high; mean and deviation */
};

/* Standard deviation of a standard normal that is cut at +-2. */
#define CUT_DEVIATION 0.87962566103423978

static struct draw uniform(double variance)
{
    return (struct draw){ DRAW_UNIFORM, -sqrt(3 * variance), sqrt(3 * variance) };
}

static struct draw truncated(double variance)
{
    return (struct draw){ DRAW_TRUNCATED, 0, sqrt(variance) / CUT_DEVIATION };
}

static struct draw draw_of(const struct op_weight *w)
{
    double a = w->init.a, b = w->init.b, in = w->fan_in > 0 ? w->fan_in : 1, out = w->fan_out > 0 ? w->fan_out : 1;

    switch ((enum init_kind)w->init.kind) {
    case INIT_ZEROS: return (struct draw){ DRAW_CONSTANT, 0, 0 };
    case INIT_ONES: return (struct draw){ DRAW_CONSTANT, 1, 0 };
    case INIT_CONSTANT: return (struct draw){ DRAW_CONSTANT, a, 0 };
    case INIT_RANDOM_UNIFORM: return (struct draw){ DRAW_UNIFORM, a, b };
    case INIT_RANDOM_NORMAL: return (struct draw){ DRAW_NORMAL, a, b };
    case INIT_TRUNCATED_NORMAL: return (struct draw){ DRAW_TRUNCATED, a, b };
    case INIT_GLOROT_UNIFORM: return uniform(2 / (in + out));
    case INIT_GLOROT_NORMAL: return truncated(2 / (in + out));
    case INIT_HE_UNIFORM: return uniform(2 / in);
    case INIT_HE_NORMAL: return truncated(2 / in);
    case INIT_LECUN_UNIFORM: return uniform(1 / in);
    case INIT_LECUN_NORMAL: return truncated(1 / in);
    }
    return (struct draw){ DRAW_CONSTANT, 0, 0 };
}

static double draw_number(const struct draw *d, struct rng r, size_t i)
{
    double z;

    switch (d->kind) {
    case DRAW_CONSTANT: return d->a;
    case DRAW_UNIFORM: return d->a + (d->b - d->a) * rng_unit(&r, i);
    case DRAW_NORMAL: return d->a + d->b * rng_normal(&r, i);
    case DRAW_TRUNCATED:
        do {
            z = rng_normal(&r, i);
            r.step++; /* the next attempt */
        } while (fabs(z) > 2);
        return d->a + d->b * z;
    }
    return 0;
}

void net_draw(struct net *net, uint64_t seed)
{
    for (int w = 0; w < net->n_weights; w++) {
        struct weight *weight = &net->weight[w];
        struct draw d = draw_of(&weight->info);
        struct rng r = { seed, RNG_INIT, (uint32_t)w, 0 };

        for (size_t i = 0; i < weight->len && !(weight->info.adapted && net->trained); i++)
            weight->x[i] = (float)draw_number(&d, r, i);
    }
}

void net_init(struct net *net, uint64_t seed)
{
    net_draw(net, seed);
    for (struct weight *weight = net->weight; weight < net->weight + net->n_weights; weight++) {
        mem_free(weight->mask);
        weight->mask = NULL;
        sparse_free(weight->sparse);
        weight->sparse = NULL;
        int8_free(weight->int8);
        weight->int8 = NULL;
    }
    net->trained = net->ahead = false;
    net->packing++;
    net->forward = 0;
}
