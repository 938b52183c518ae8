/* core/op_input.c: what feeds the net, and what only gives it another shape. Neither computes anything. */
#include "core/op.h"

static enum err_code input_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    (void)in, (void)n_in;
    p->out = ((const struct input_conf *)conf)->shape;
    return shape_check(&p->out, e);
}

const struct op op_input = { .plug = { "input", "The samples.", NULL, sizeof(struct input_conf) }, .shape = input_shape };

/* Row-major order of the features is kept, so the batch-minor array stays what it is. */
static enum err_code reshape_shape(const void *conf, const struct shape *const *in, int n_in, struct op_plan *p, struct err *e)
{
    const struct shape *want = &((const struct reshape_conf *)conf)->shape;
    size_t len = shape_len(in[0]), known = 1;
    int open = -1;
    char text[96];
    enum err_code rc;

    (void)n_in;
    p->out = *want;
    if (want->n_d == 0)
        p->out = (struct shape){ 1, { (int)len } };
    for (int i = 0; i < p->out.n_d && i < SHAPE_MAX; i++) {
        if (p->out.d[i] == -1 && open < 0) {
            open = i;
            p->out.d[i] = 1;
        }
    }
    rc = shape_check(&p->out, e);
    if (rc != ERR_OK)
        return rc;
    known = shape_len(&p->out);
    if (open >= 0 && len % known == 0)
        p->out.d[open] = (int)(len / known);
    if (shape_len(&p->out) != len)
        return err_set(e, ERR_INVALID, "cannot give %zu numbers the shape %s", len, shape_text(want, text, sizeof text));
    p->neurons = p->out.n_d == 1 ? NEURONS_PASS : NEURONS_MIX; /* a grid of neurons stays whole */
    return ERR_OK;
}

const struct op op_reshape = {
    .plug = { "reshape", "The same numbers in another shape; flatten is the shape of one dimension.", NULL, sizeof(struct reshape_conf) },
    .min_in = 1, .max_in = 1, .view = true, .grid = ORDER_MODEL, .flat = ORDER_MODEL, .shape = reshape_shape
};
