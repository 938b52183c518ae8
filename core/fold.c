/* core/fold.c: see fold.h. The Keras JSON is edited and read again, and the weights are carried over by their names: so net and architecture cannot
 * disagree. */
#include "core/fold.h"

#include <stdio.h>
#include <string.h>

#include "core/life.h"
#include "core/mem.h"

/* The node that batch norm `node` can be folded into: its kernel has a row for each number that the norm scales. -1: none. */
static int host_of(const struct net *net, int node)
{
    int host, consumers = 0;

    if (net->node[node].op != op_find("batch_norm"))
        return -1;
    host = net->node[node].in[0];
    for (int i = 0; i < net->n_nodes; i++)
        for (int k = 0; k < net->node[i].n_in; k++)
            consumers += net->node[i].in[k] == host;
    if (!node_has_kernel(&net->node[host]) || !life_can_shift(net->node[host].op) || consumers != 1)
        return -1;
    return host;
}

/* ---- the architecture ---- */

static json_t *layers_of(json_t *architecture)
{
    json_t *config = json_object_get(architecture, "config");

    return json_is_array(config) ? config : json_object_get(config, "layers");
}

static size_t layer_place(const json_t *layers, const char *name)
{
    size_t i = 0;

    for (; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i), *beside = json_object_get(layer, "name");
        const char *own = json_string_value(beside ? beside : json_object_get(json_object_get(layer, "config"), "name"));

        if (own && strcmp(own, name) == 0)
            break;
    }
    return i;
}

/* Whoever reads layer `from` reads `to`: places are arrays ["name", 0, 0, ..]. */
static bool redirect(json_t *v, const char *from, const char *to)
{
    const json_t *name = json_array_get(v, 0);
    const char *key;
    json_t *item;
    size_t i;
    bool ok = true;

    if (json_is_string(name) && json_is_integer(json_array_get(v, 1)) && strcmp(json_string_value(name), from) == 0)
        ok = json_array_set_new(v, 0, json_string(to)) == 0;
    json_array_foreach(v, i, item)
        ok = ok && redirect(item, from, to);
    json_object_foreach(v, key, item)
        ok = ok && redirect(item, from, to);
    return ok;
}

static bool take_out(json_t *architecture, const char *norm, const char *into)
{
    json_t *layers = layers_of(architecture), *layer;
    size_t i;
    bool ok = json_array_remove(layers, layer_place(layers, norm)) == 0;
    json_t *host = json_object_get(json_array_get(layers, layer_place(layers, into)), "config");

    ok = ok && json_object_set_new(host, "use_bias", json_true()) == 0;
    json_array_foreach(layers, i, layer)
        ok = ok && redirect(json_object_get(layer, "inbound_nodes"), norm, into);
    return ok && redirect(json_object_get(json_object_get(architecture, "config"), "output_layers"), norm, into);
}

/* ---- the weights ---- */

static enum err_code carry_over(struct net *to, const struct net *from, struct err *e)
{
    for (struct weight *w = to->weight; w < to->weight + to->n_weights; w++) {
        const struct weight *old = net_weight(from, w->name);

        if (!old) {
            memset(w->x, 0, w->len * sizeof *w->x); /* a bias that the layer did not have */
            continue;
        }
        memcpy(w->x, old->x, w->len * sizeof *w->x);
        w->mask = old->mask ? mem_alloc(w->len) : NULL;
        if (old->mask && !w->mask)
            return err_set(e, ERR_NOMEM, "out of memory");
        if (old->mask)
            memcpy(w->mask, old->mask, w->len);
    }
    to->trained = from->trained;
    return ERR_OK;
}

/* Number f of a norm's weight of that name; dflt: it has none. */
static double number_of(const struct net *net, const struct node *norm, const char *name, int f, double dflt)
{
    for (int i = 0; i < norm->plan.n_weights; i++)
        if (strcmp(norm->plan.weight[i].name, name) == 0)
            return (double)net->weight[norm->first_weight + i].x[f];
    return dflt;
}

static double epsilon_of(const struct node *norm)
{
    for (const struct param *p = norm->op->plug.params; p->name; p++)
        if (strcmp(p->name, "epsilon") == 0)
            return *(const double *)(const void *)(norm->conf.conf + p->offset);
    return 0;
}

/* y = gamma (W x + b - mean) / sqrt(variance + epsilon) + beta */
static void fold(struct net *net, const struct node *host, const struct net *from, const struct node *norm)
{
    char name[OP_NAME_MAX];
    struct weight *kernel = net_weight(net, from->weight[host->first_weight].name), *bias;
    const size_t cols = kernel->len / (size_t)kernel->info.shape.d[0];

    snprintf(name, sizeof name, "%s/bias", host->layer);
    bias = net_weight(net, name);
    for (int f = 0; f < norm->plan.out.d[0]; f++) {
        double factor = number_of(from, norm, "gamma", f, 1) / sqrt(number_of(from, norm, "moving_variance", f, 1) + epsilon_of(norm));
        float *row = kernel->x + (size_t)f * cols;

        for (size_t c = 0; c < cols; c++)
            row[c] = (float)((double)row[c] * factor);
        bias->x[f] = (float)(((double)bias->x[f] - number_of(from, norm, "moving_mean", f, 0)) * factor + number_of(from, norm, "beta", f, 0));
    }
}

enum err_code fold_batch_norm(struct model *m, int *n_folded, struct err *e)
{
    json_t *architecture = json_deep_copy(m->architecture);
    struct model made = { 0 };
    bool ok = architecture != NULL;
    enum err_code rc;

    *n_folded = 0;
    for (int i = 1; ok && i < m->net->n_nodes; i++)
        if (host_of(m->net, i) >= 0) {
            ok = take_out(architecture, m->net->node[i].layer, m->net->node[host_of(m->net, i)].layer);
            ++*n_folded;
        }
    rc = ok ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK && *n_folded > 0)
        rc = keras_read(&made, architecture, e);
    if (rc == ERR_OK && *n_folded > 0)
        rc = carry_over(made.net, m->net, e);
    for (int i = 1; rc == ERR_OK && *n_folded > 0 && i < m->net->n_nodes; i++)
        if (host_of(m->net, i) >= 0)
            fold(made.net, &m->net->node[host_of(m->net, i)], m->net, &m->net->node[i]);
    json_decref(architecture);
    if (rc == ERR_OK && *n_folded > 0) {
        model_clear(m);
        *m = made;
    } else {
        model_clear(&made);
    }
    return rc;
}
