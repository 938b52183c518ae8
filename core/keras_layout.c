/* core/keras_layout.c: in which order numbers stand. Keras has the channels of an image last, (h, w, c), and so have data sets; the engine has them
 * first. A flattened image is in Keras the channels of each position together, in the engine the positions of each channel. So every node says how its
 * value stands (node.positions); here inputs are brought into the order that an op takes, and said how it leaves its value.
 *
 * A layer may have the channels first in the model, too (data_format, axis 1): it takes the model's order as it is. Flattened it is what a flattened image is
 * here, since Keras flattens by (h, w, c) even then.
 *
 * Numbers move as rarely as they can: once where the first convolution reads the samples (with one channel never), and back only where the order cannot
 * be carried on: to give an image another shape, to join flattened images, for the output. Who reads a flattened image, a dense layer or a batch norm,
 * has its weights in the engine's order: weight.positions says so, and core/model.c knows where Keras has them. */
#include <string.h>

#include "core/keras.h"

static const struct shape *shape_of(const struct net *net, int node) { return &net->node[node].plan.out; }
static bool is_op(const struct plug_value *v, const char *name) { return strcmp(v->plug->name, name) == 0; }

/* The order that an op takes its inputs in; a reshape that flattens takes any. */
static enum op_order order_of(const struct plug_value *value, bool flat)
{
    const struct op *op = op_of(value->plug);

    if (is_op(value, "reshape") && ((const struct reshape_conf *)(const void *)value->conf)->shape.n_d == 0)
        return ORDER_ANY;
    return flat ? op->flat : op->grid;
}

/* ---- nodes that arrange ---- */

/* Replaces *at by a node that has its numbers in another order or shape; one that stands is taken. shape: of a reshape. */
static enum err_code arrange(struct net *net, const char *op, const struct shape *shape, int positions, const char *layer, int *at, struct err *e)
{
    struct plug_value value = { .plug = &op_find(op)->plug };
    enum err_code rc;

    if (shape)
        memcpy(value.conf, shape, sizeof *shape);
    for (int i = *at + 1; i < net->n_nodes; i++) {
        const struct node *node = &net->node[i];

        if (&node->op->plug == value.plug && node->in[0] == *at && node->positions == positions && (!shape || shape_equal(&node->plan.out, shape))) {
            *at = i;
            return ERR_OK;
        }
    }
    rc = net_add(net, op_of(value.plug), &value, layer, at, 1, at, e);
    if (rc == ERR_OK) {
        net->node[*at].positions = positions;
        net->node[*at].arranges = true;
    }
    return rc;
}

static enum err_code to_first(struct net *net, const char *layer, int *at, struct err *e)
{
    struct shape ours = *shape_of(net, *at);
    int last = ours.n_d - 1, channels = ours.d[last], positions = (int)(shape_len(&ours) / (size_t)channels);

    if (last == 0 || net->node[*at].positions)
        return ERR_OK;
    memmove(&ours.d[1], &ours.d[0], (size_t)last * sizeof ours.d[0]);
    ours.d[0] = channels;
    if (channels == 1 || positions == 1)
        return arrange(net, "reshape", &ours, positions, layer, at, e);
    return arrange(net, "channels_first", NULL, positions, layer, at, e);
}

enum err_code keras_restore(struct net *net, const char *layer, int *at, struct err *e)
{
    const struct shape model = model_value_shape(&net->node[*at]);
    int positions = net->node[*at].positions, len = (int)shape_len(&model);
    struct shape grid = { 2, { positions ? len / positions : 0, positions } };
    enum err_code rc = ERR_OK;

    if (!positions)
        return ERR_OK;
    if (positions == 1 || positions == len)
        return arrange(net, "reshape", &model, 0, layer, at, e);
    if (model.n_d == 1)
        rc = arrange(net, "reshape", &grid, positions, layer, at, e);
    if (rc == ERR_OK)
        rc = arrange(net, "channels_last", NULL, 0, layer, at, e);
    return rc == ERR_OK && model.n_d == 1 ? arrange(net, "reshape", &model, 0, layer, at, e) : rc;
}

/* ---- an op's inputs and its value ---- */

static bool is_flat(const struct net *net, int node) { return shape_of(net, node)->n_d <= 1; }

/* Whether the inputs stand alike; shapes are the op's business. */
static bool alike(const struct net *net, const int *in, int n_in)
{
    const bool flat = is_flat(net, in[0]);

    for (int k = 1; k < n_in; k++) {
        int a = net->node[in[0]].positions, b = net->node[in[k]].positions;

        if (flat != is_flat(net, in[k]) || (flat ? a != b : !a != !b))
            return false;
    }
    return true;
}

/* The option that is called axis, counted as Keras does, the batch being 0; NULL: there is none. */
static int64_t *axis_of(struct plug_value *value)
{
    for (const struct param *p = value->plug->params; p && p->name; p++)
        if (strcmp(p->name, "axis") == 0)
            return (int64_t *)(void *)(value->conf + p->offset);
    return NULL;
}

/* Whether an op works along the model's first axis, and has its inputs in the model's order or gets them so: then that is the axis it takes first. */
static bool along_first(const struct net *net, const int64_t *axis, bool joins, const int *in, int n_in)
{
    const int n_d = shape_of(net, in[0])->n_d;

    if (!axis || n_d < 2 || (*axis != 1 && *axis != -n_d))
        return false;
    for (int k = 0; k < n_in && joins; k++)
        if (net->node[in[k]].positions)
            return false;
    return true;
}

/* The axis that inputs are joined along, where the channels are now first. */
static void turn_axis(int64_t *axis, int n_d)
{
    const int64_t from_first = *axis < 0 ? *axis + n_d + 1 : *axis;

    if (from_first >= 1 && from_first <= n_d) /* else the op refuses it */
        *axis = from_first % n_d + 1;
}

enum err_code keras_arrange(struct net *net, struct plug_value *value, bool first, const char *layer, int *in, int n_in, struct err *e)
{
    const bool mixed = !alike(net, in, n_in), joins = op_of(value->plug)->max_in > 1;
    int64_t *axis = axis_of(value);
    enum err_code rc = ERR_OK;

    first = first || along_first(net, axis, joins, in, n_in);
    for (int k = 0; k < n_in && rc == ERR_OK; k++) {
        bool flat = is_flat(net, in[k]);
        enum op_order order = order_of(value, flat);

        if (order == ORDER_ANY && mixed)
            order = flat ? ORDER_MODEL : ORDER_CHANNELS;
        if (first && !flat)
            order = ORDER_MODEL;
        if (order != ORDER_ANY)
            rc = order == ORDER_CHANNELS ? to_first(net, layer, &in[k], e) : keras_restore(net, layer, &in[k], e);
    }
    if (rc != ERR_OK || !axis || is_flat(net, in[0]))
        return rc;
    if (!first && joins)
        turn_axis(axis, shape_of(net, in[0])->n_d);
    else if (first && !joins)
        *axis = -1; /* the channels' */
    return ERR_OK;
}

void keras_settle(struct net *net, int number, bool first)
{
    struct node *node = &net->node[number];
    const bool flat = is_flat(net, number), makes = node->plan.neurons == NEURONS_MAKE;
    const struct shape *in = shape_of(net, node->in[0]);
    struct weight *w = &net->weight[node->first_weight];
    const int len = (int)shape_len(&node->plan.out), places = (int)shape_len(in) / in->d[0];
    const int before = first && flat && !is_flat(net, node->in[0]) ? places : net->node[node->in[0]].positions;

    for (int k = 0; k < node->n_in && !flat; k++)
        if (net->node[node->in[k]].positions)
            node->positions = len / node->plan.out.d[0];
    if (flat && before > 1 && before < len && !makes && shape_len(in) == (size_t)len)
        node->positions = before;
    for (int k = 0; k < (makes ? 1 : node->plan.n_weights) && is_flat(net, node->in[0]); k++)
        w[k].positions = before;
    if (node_has_kernel(node) && node->plan.neurons == NEURONS_PLACES) /* depthwise */
        w->multiplier = node->plan.out.d[0] / in->d[0];
}
