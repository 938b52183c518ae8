/* core/crit_synflow.c: synaptic flow (SynFlow: Tanaka et al. 2020). Without looking at data: R is the sum over all paths from inputs to outputs of the product
 * of the absolute weights on them; a weight is worth what it carries of R, |w| dR/d|w|. Each layer carries all of R, so a small layer's weights
 * are worth more; but scored once and cut deep, layers still collapse. So weights are taken away over many rounds and scored again after each. A
 * weight's score is the round it fell in, and within it what it carried: the k smallest are those that the rounds would take, for any k.
 *
 * On the copy, activations and what brings inputs to a range become the identity, biases and means 0, kernels and batch norm's factors absolute: that net's output for an
 * input of ones is R, and backward gives dR/dw. Deep nets leave the range of a float: the input is scaled until R is well inside, and R counts
 * as 1. */
#include <string.h>

#include "core/criterion.h"
#include "core/mem.h"
#include "core/select.h"

struct synflow_conf { int64_t rounds; double density; };
static const struct param synflow_params[] = {
    FIELD_INT(struct synflow_conf, rounds, 1, 1000, 100, "Rounds of scoring and taking away, each the same share of what is left."),
    FIELD_REAL(struct synflow_conf, density, 1e-6, 1, 0.001, "Share of the weights that the last round leaves; those are told apart by one more scoring."),
    FIELD_END
};

struct synflow {
    struct net *net;
    struct exec *exec;
    float *const *score;
    uint32_t *key;       /* of all wanted weights, one after the other */
    struct span *span;   /* per kernel that is wanted: its keys */
    int *weight, n;      /* its number in the net */
    uint64_t len;        /* keys */
};

static void linearize(struct net *net)
{
    for (int i = 0; i < net->n_nodes; i++)
        if (net->node[i].op->activation || net->node[i].op == op_find("rescale") || net->node[i].op == op_find("standardize"))
            net->node[i].op = op_find("linear");
    for (int i = 0; i < net->n_weights; i++) {
        const struct weight *w = &net->weight[i];
        bool factor = w->info.prunable || strcmp(w->info.name, "gamma") == 0;

        if (strcmp(w->info.name, "moving_variance") == 0)
            continue;
        for (size_t k = 0; k < w->len; k++)
            w->x[k] = factor ? fabsf(w->x[k]) : 0;
    }
}

static void fill(float *x, size_t n, double value)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)value;
}

/* Afterwards exec_dw is dR/dw, for R = 1; where no path is left it is 0. */
static enum err_code flow(const struct synflow *s, struct err *e)
{
    static const double scale[] = { 1, 0x1p-60, 0x1p-120, 0x1p60, 0x1p120 };
    int out = s->net->n_nodes - 1;
    size_t n_in = shape_len(net_input(s->net)), n_out = shape_len(net_output(s->net));
    double sum = 0;

    for (size_t i = 0; i < sizeof scale / sizeof scale[0] && !(sum > 1e-30 && sum < 1e30); i++) {
        sum = 0;
        fill(exec_input(s->exec), n_in, scale[i]);
        exec_forward(s->exec, 1, false, 0);
        for (size_t k = 0; k < n_out; k++)
            sum += (double)exec_value(s->exec, out)[k];
    }
    if (!(sum == 0 || (sum > 1e-30 && sum < 1e30)))
        return err_set(e, ERR_DIVERGED, "the product of the weights along the paths is not finite");
    fill(exec_grad(s->exec, out), n_out, sum > 0 ? 1 / sum : 0);
    exec_backward(s->exec, out, false, NULL, NULL);
    return ERR_OK;
}

/* What each weight carries: into its key. The largest of a kernel stays to the last. */
static void weigh(const struct synflow *s)
{
    for (int j = 0; j < s->n; j++) {
        const float *w = s->net->weight[s->weight[j]].x, *g = exec_dw(s->exec, s->weight[j]);
        size_t best = 0;

        for (size_t k = 0; k < s->span[j].n; k++) {
            s->span[j].key[k] = w[k] == 0 ? KEY_DEAD : order_key(w[k] * g[k]);
            best = s->span[j].key[k] > s->span[j].key[best] ? k : best;
        }
        s->span[j].key[best] = KEY_STAYS;
    }
}

static float carried(const struct synflow *s, int j, size_t k)
{
    return s->net->weight[s->weight[j]].x[k] * exec_dw(s->exec, s->weight[j])[k];
}

/* What is marked falls: score = round + what it carried, as a share of the most of them. */
static void take(struct synflow *s, int64_t round)
{
    float most = 0;

    for (int j = 0; j < s->n; j++)
        for (size_t k = 0; k < s->span[j].n; k++)
            most = s->span[j].key[k] == KEY_GOES ? fmaxf(most, carried(s, j, k)) : most;
    for (int j = 0; j < s->n; j++)
        for (size_t k = 0; k < s->span[j].n; k++) {
            float *w = &s->net->weight[s->weight[j]].x[k];

            if (s->span[j].key[k] == KEY_GOES && *w != 0) {
                s->score[s->weight[j]][k] = (float)round + (most > 0 ? 0.999f * carried(s, j, k) / most : 0);
                *w = 0;
            }
        }
}

static enum err_code run_rounds(struct synflow *s, const struct crit_net *in, struct err *e)
{
    const struct synflow_conf *c = in->conf;
    uint64_t live = 0;

    for (int j = 0; j < s->n; j++)
        for (size_t k = 0; k < s->span[j].n; k++)
            live += s->net->weight[s->weight[j]].x[k] != 0;
    for (int64_t round = 0; round <= c->rounds; round++) {
        uint64_t left = (uint64_t)((double)live * pow(c->density, (double)(round + 1) / (double)c->rounds));
        enum err_code rc = flow(s, e);

        if (rc == ERR_OK && in->stop && in->stop(in->user))
            rc = err_set(e, ERR_STOPPED, "stopped on request");
        if (rc != ERR_OK)
            return rc;
        if (round < c->rounds) {
            weigh(s);
            select_smallest(s->span, s->n, s->len - (left < (uint64_t)s->n ? (uint64_t)s->n : left));
        } else {
            memset(s->key, 0, s->len * sizeof *s->key); /* KEY_GOES: all that is left */
        }
        take(s, round);
    }
    return ERR_OK;
}

static enum err_code synflow_score(const struct crit_net *in, float *const *score, struct err *e)
{
    struct synflow s = { .net = in->net, .score = score };
    enum err_code rc = ERR_OK;

    s.weight = mem_zalloc((size_t)in->net->n_weights, sizeof *s.weight);
    s.span = mem_zalloc((size_t)in->net->n_weights, sizeof *s.span);
    for (int i = 0; i < in->net->n_weights && s.weight; i++)
        if (score[i]) {
            s.weight[s.n++] = i;
            s.len += in->net->weight[i].len;
        }
    s.key = mem_alloc(s.len * sizeof *s.key);
    if (!s.weight || !s.span || !s.key)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    for (uint64_t j = 0, at = 0; rc == ERR_OK && j < (uint64_t)s.n; at += s.span[j++].n)
        s.span[j] = (struct span){ .key = s.key + at, .n = in->net->weight[s.weight[j]].len, .each = 1 };
    if (rc == ERR_OK) {
        linearize(in->net);
        rc = exec_new(&s.exec, in->net, 1, EXEC_KEEP, 0, in->team, e);
    }
    if (rc == ERR_OK)
        rc = run_rounds(&s, in, e);
    exec_free(s.exec);
    mem_free(s.weight);
    mem_free(s.span);
    mem_free(s.key);
    return rc;
}

static uint64_t synflow_memory(const struct net *net, const void *conf)
{
    uint64_t bytes = exec_memory(net, 1, EXEC_KEEP);

    (void)conf;
    for (int i = 0; i < net->n_weights; i++)
        bytes += net->weight[i].info.prunable ? net->weight[i].len * sizeof(uint32_t) : 0;
    return bytes;
}

const struct criterion crit_synflow = {
    .plug = { "synflow", "Keeps the weights on the strongest paths from inputs to outputs, over many rounds, without data (SynFlow: Tanaka et al. 2020).",
              synflow_params, sizeof(struct synflow_conf) },
    .score_net = synflow_score, .memory = synflow_memory
};
