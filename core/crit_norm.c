/* core/crit_norm.c: neurons by the weights around them: those that make them, those that read them, or both. The first alone follows the scale of a
 * layer, the second that of the next; their product changes under neither when a layer is scaled up and the next down, which a net of ReLUs
 * does not notice. A channel's weights are whole windows, and all the columns that read it where it is flattened; normalize: fan takes the mean of
 * |w|^p for the sum, so that wide layers and large windows have no advantage. */
#include "core/crit_neuron.h"
#include "core/mem.h"

struct norm_conf {
    double p;
    int normalize;
};
enum { NORM_BY_FAN = NEURON_BY_LAYER + 1 };
static const struct param norm_params[] = {
    FIELD_REAL(struct norm_conf, p, 0.1, 4, 1, "Of the norm: (sum |w|^p)^(1/p)."),
    FIELD_CHOICE(struct norm_conf, normalize, "none|layer|fan", NEURON_BY_LAYER,
                 "layer: scores are divided by their mean over the layer; fan: the mean of |w|^p counts instead of the sum. Either makes layers compare."),
    FIELD_END
};

static double norm(const struct net *net, const struct bundle *b, int j, enum group_role role, const struct norm_conf *conf)
{
    size_t n = 0;
    double sum = neuron_powers(net, b, j, role, conf->p, &n);

    if (conf->normalize == NORM_BY_FAN && n > 0)
        sum /= (double)n;
    return conf->p == 1 ? sum : pow(sum, 1 / conf->p);
}

static enum err_code score(const struct crit_net *in, const struct groups *g, float *const *out, bool makes, bool reads, struct err *e)
{
    const struct norm_conf *conf = in->conf;
    double *s = mem_alloc((size_t)neuron_most(g) * sizeof *s);

    if (!s)
        return err_set(e, ERR_NOMEM, "out of memory");
    for (int b = 0; b < g->n; b++) {
        for (int j = 0; j < g->bundle[b].n && out[b]; j++)
            s[j] = (makes ? norm(in->net, &g->bundle[b], j, GROUP_MAKES, conf) : 1) *
                   (reads ? norm(in->net, &g->bundle[b], j, GROUP_READS, conf) : 1);
        if (out[b])
            neuron_scores(out[b], s, g->bundle[b].n, conf->normalize);
    }
    mem_free(s);
    return ERR_OK;
}

static enum err_code incoming(const struct crit_net *in, const struct groups *g, float *const *out, struct err *e)
{
    return score(in, g, out, true, false, e);
}
static enum err_code outgoing(const struct crit_net *in, const struct groups *g, float *const *out, struct err *e)
{
    return score(in, g, out, false, true, e);
}
static enum err_code product(const struct crit_net *in, const struct groups *g, float *const *out, struct err *e)
{
    return score(in, g, out, true, true, e);
}

const struct criterion crit_incoming_norm = {
    .plug = { "incoming_norm", "Keeps neurons whose incoming weights are large (Li et al. 2017).", norm_params, sizeof(struct norm_conf) },
    .score_neurons = incoming
};
const struct criterion crit_outgoing_norm = {
    .plug = { "outgoing_norm", "Keeps neurons whose outgoing weights are large (He et al. 2014).", norm_params, sizeof(struct norm_conf) },
    .score_neurons = outgoing
};
const struct criterion crit_in_times_out = {
    .plug = { "in_times_out", "Keeps neurons whose norm of incoming weights times that of outgoing ones is large.", norm_params, sizeof(struct norm_conf) },
    .score_neurons = product
};
