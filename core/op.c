/* core/op.c: the table of ops, what their backward reads, and the walk of those that work number by number. */
#include "core/op.h"

extern const struct op op_input, op_dense, op_linear, op_relu, op_leaky_relu, op_elu, op_gelu, op_sigmoid, op_tanh, op_hard_sigmoid, op_silu,
    op_hard_silu, op_softplus, op_softsign, op_selu, op_exponential, op_softmax, op_conv2d, op_depthwise_conv2d, op_conv1d, op_dropout, op_reshape,
    op_batch_norm, op_layer_norm, op_add, op_multiply, op_concatenate, op_max_pool2d, op_average_pool2d, op_max_pool1d, op_average_pool1d,
    op_global_max_pool, op_global_average_pool, op_channels_first, op_channels_last, op_zero_pad2d, op_zero_pad1d, op_cropping2d, op_cropping1d,
    op_rescale, op_standardize, op_spatial_dropout;

static const struct plug *const rows[] = {
    &op_input.plug, &op_dense.plug,
    /* activations */
    &op_linear.plug, &op_relu.plug, &op_leaky_relu.plug, &op_elu.plug, &op_gelu.plug, &op_sigmoid.plug, &op_tanh.plug, &op_hard_sigmoid.plug,
    &op_silu.plug, &op_hard_silu.plug, &op_softplus.plug, &op_softsign.plug, &op_selu.plug, &op_exponential.plug, &op_softmax.plug,
    /* convolutions */
    &op_conv2d.plug, &op_depthwise_conv2d.plug, &op_conv1d.plug,
    /* the rest */
    &op_rescale.plug, &op_standardize.plug, &op_dropout.plug, &op_reshape.plug, &op_batch_norm.plug, &op_layer_norm.plug, &op_add.plug, &op_multiply.plug, &op_concatenate.plug,
    /* images and sequences, their channels first */
    &op_max_pool2d.plug, &op_average_pool2d.plug, &op_max_pool1d.plug, &op_average_pool1d.plug, &op_global_max_pool.plug,
    &op_global_average_pool.plug, &op_channels_first.plug, &op_channels_last.plug, &op_zero_pad2d.plug, &op_zero_pad1d.plug,
    &op_cropping2d.plug, &op_cropping1d.plug, &op_spatial_dropout.plug, NULL
};
const struct plug_table op_table = { "op", rows };

const struct op *op_find(const char *name)
{
    const struct plug *p = plug_find(&op_table, name);

    return p ? op_of(p) : NULL;
}

bool op_reads_x(const struct op *op) { return op->backward && !op->linear && !(op->unread & UNREAD_X); }
bool op_reads_y(const struct op *op, bool clamp)
{
    return op->backward && (clamp ? !(op->unread & UNREAD_CLAMPED) : !op->linear && !(op->unread & UNREAD_Y));
}

enum { RANGE = 16384 }; /* floats of one tile */
struct ranges {
    const struct op_call *c;
    op_range_fn *fn;
    size_t len;
};

static void range_tile(void *ctx, int tile)
{
    const struct ranges *r = ctx;
    size_t first = (size_t)tile * RANGE;

    r->fn(r->c, first, r->len - first < RANGE ? r->len - first : RANGE);
}

void op_ranges(const struct op_call *c, op_range_fn *fn)
{
    struct ranges r = { c, fn, shape_len(c->out_shape) * (size_t)c->n };

    team_for(c->team, (int)((r.len + RANGE - 1) / RANGE), range_tile, &r);
}

enum err_code op_check_axis(int64_t axis, const struct shape *in, struct err *e)
{
    if (in->n_d < 1)
        return err_set(e, ERR_INVALID, "there are no channels: at least one dimension is needed");
    if (axis != -1 && axis != in->n_d)
        return err_field(e, axis > in->n_d ? ERR_INVALID : ERR_UNSUPPORTED, "/axis", "must be the channels' axis: the last (%d or -1), or 1", in->n_d);
    return ERR_OK;
}

void op_channels_each(const struct op_call *c, void (*fn)(void *call, int channel))
{
    struct op_call call = *c;

    team_for(c->team, c->out_shape->d[0], fn, &call);
}
