/* core/patch.c: see patch.h. */
#include "core/patch.h"

struct conv patch_shape(const struct net *net, int w)
{
    const struct node *node = &net->node[net->weight[w].node];
    const struct shape *in = &net->node[node->in[0]].plan.out;
    const int places = (int)shape_len(in) / in->d[0];
    struct conv g;

    if (conv_geometry(&g, node->op, node->conf.conf, in))
        return g;
    return (struct conv){ .c = in->d[0], .h = 1, .w = places, .o = node->plan.out.d[0], .oh = 1, .ow = places, .kh = 1, .kw = 1, .sh = 1, .sw = 1, .dh = 1, .dw = 1,
                          .groups = 1 };
}

int64_t patch_source(const struct conv *g, int group, int j, int place)
{
    const int taps = patch_taps(g), channel = group * (g->c / g->groups) + j / taps;
    const int64_t y = (int64_t)(place / g->ow) * g->sh - g->top + (int64_t)(j % taps / g->kw) * g->dh;
    const int64_t x = (int64_t)(place % g->ow) * g->sw - g->left + (int64_t)(j % g->kw) * g->dw;

    return y < 0 || y >= g->h || x < 0 || x >= g->w ? -1 : ((int64_t)channel * g->h + y) * g->w + x;
}

void patch_sums(const struct conv *g, int group, const double *input, double *sum)
{
    for (int j = 0; j < patch_columns(g); j++) {
        sum[j] = 0;
        for (int place = 0; place < patch_places(g); place++) {
            int64_t at = patch_source(g, group, j, place);

            sum[j] += at < 0 ? 0 : input[at];
        }
    }
}
