/* tests/engine_net.h: nets for tests, in one line per node. */
#ifndef TESTS_ENGINE_NET_H
#define TESTS_ENGINE_NET_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/loss.h"
#include "core/rng.h"

/* For tests and benchmarks alike, so without libcheck. */
static inline void net_must(enum err_code rc, const char *what, const struct err *e)
{
    if (rc == ERR_OK)
        return;
    fprintf(stderr, "%s: %s %s\n", what, e->at, e->msg);
    abort();
}

/* Adds op with options as JSON text ("" = defaults); in -1: none. Returns the node. */
static inline int net_with(struct net *net, const char *op, const char *options, const char *layer, int in, int in2)
{
    struct plug_value conf = { .plug = &op_find(op)->plug };
    json_t *json = *options ? json_loads(options, 0, NULL) : NULL;
    struct err e = { 0 };
    int inputs[2] = { in, in2 }, index;

    net_must(params_parse(conf.conf, conf.plug->conf_size, conf.plug->params, json, &e), options, &e);
    json_decref(json);
    net_must(net_add(net, op_of(conf.plug), &conf, layer, inputs, 1 + (in2 >= 0), &index, &e), layer, &e);
    return index;
}

static inline struct net *net_of(int features)
{
    struct net *net;
    struct shape shape = { 1, { features } };
    struct err e = { 0 };

    net_must(net_new(&net, &shape, &e), "input", &e);
    return net;
}

static inline struct net *net_of_image(int channels, int height, int width)
{
    struct net *net;
    struct shape shape = { 3, { channels, height, width } };
    struct err e = { 0 };

    net_must(net_new(&net, &shape, &e), "input", &e);
    return net;
}

static inline int net_chain(struct net *net, const char *op, const char *options, const char *layer)
{
    return net_with(net, op, options, layer, net->n_nodes - 1, -1);
}

static inline void fill_normal(float *x, size_t n, uint32_t stream)
{
    const struct rng r = { 11, RNG_TEST, stream, 0 };

    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&r, i);
}

static inline const struct loss *loss_named(const char *name)
{
    return (const struct loss *)(const void *)plug_find(&loss_table, name);
}

#endif
