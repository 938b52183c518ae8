/* core/crit_lamp.c: w^2 by the sum of the squares of the weights of the layer that are not smaller (Lee et al. 2021). Scores of layers compare: the largest
 * of each is 1. In global scope that allocates the target among layers.
 *
 * Weights are sorted by digits of |w|, ties by position, and the squares summed from the largest down in double: a sum less the smaller ones
 * would lose the digits of the large weights. */
#include "core/criterion.h"
#include "core/mem.h"
#include "core/order.h"

static void sort_by_digit(uint32_t *to, const uint32_t *from, const struct weight *w, int shift)
{
    size_t place[257] = { 0 };

    for (size_t i = 0; i < w->len; i++)
        place[(order_key(fabsf(w->x[i])) >> shift & 255) + 1]++;
    for (int d = 0; d < 256; d++)
        place[d + 1] += place[d];
    for (size_t i = 0; i < w->len; i++)
        to[place[order_key(fabsf(w->x[from[i]])) >> shift & 255]++] = from[i];
}

/* a and b: scratch, w->len each. */
static void lamp_of(const struct weight *w, uint32_t *a, uint32_t *b, float *score)
{
    double sum = 0;

    for (size_t i = 0; i < w->len; i++)
        a[i] = (uint32_t)i;
    for (int shift = 0; shift < 32; shift += 16) {
        sort_by_digit(b, a, w, shift);
        sort_by_digit(a, b, w, shift + 8);
    }
    for (size_t i = w->len; i-- > 0;) {
        double x = w->x[a[i]];

        sum += x * x;
        score[a[i]] = sum > 0 ? (float)(x * x / sum) : 0;
    }
}

static enum err_code lamp_score(const struct crit_net *in, float *const *score, struct err *e)
{
    size_t longest = 0;
    uint32_t *a, *b;
    enum err_code rc = ERR_OK;

    for (int i = 0; i < in->net->n_weights; i++)
        longest = score[i] && in->net->weight[i].len > longest ? in->net->weight[i].len : longest;
    a = mem_zalloc(longest, sizeof *a);
    b = mem_zalloc(longest, sizeof *b);
    if (!a || !b)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    for (int i = 0; i < in->net->n_weights && rc == ERR_OK; i++)
        if (score[i])
            lamp_of(&in->net->weight[i], a, b, score[i]);
    mem_free(a);
    mem_free(b);
    return rc;
}

const struct criterion crit_lamp = {
    .plug = { "lamp", "w^2 / sum of the layer's squares that are not smaller: magnitude that allocates among layers (Lee et al. 2021).", NULL, 0 },
    .score_net = lamp_score
};
