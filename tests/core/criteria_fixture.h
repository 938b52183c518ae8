/* tests/core/criteria_fixture.h: criteria asked about a net with batch norm and dropout, or of convolutions, and samples that overlap. */
#ifndef TESTS_CORE_CRITERIA_FIXTURE_H
#define TESTS_CORE_CRITERIA_FIXTURE_H

#include <string.h>

#include "core/probe.h"
#include "core/prune.h"
#include "tests/core/train_fixture.h"
#include "tests/engine_net.h"

/* ---- one scoring ---- */

struct scores { int n; size_t len[32]; float *at[32]; };

static inline void scores_clear(struct scores *s)
{
    for (int i = 0; i < s->n; i++)
        mem_free(s->at[i]);
}

/* Of every prunable weight, by a criterion as JSON; net stays as it is. in: all but net and conf. */
static inline enum err_code score(struct scores *s, struct crit_net in, const struct net *net, const json_t *criterion, struct err *e)
{
    struct plug_value conf;
    enum err_code rc = plug_parse(&conf, &criterion_table, criterion, e);

    *s = (struct scores){ .n = net->n_weights };
    ck_assert(s->n <= 32 && rc == ERR_OK);
    in.conf = conf.conf;
    ck_assert_int_eq(net_clone(&in.net, net, NULL), ERR_OK);
    for (int i = 0; i < s->n; i++)
        if (net->weight[i].info.prunable)
            s->at[i] = mem_vector(s->len[i] = net->weight[i].len);
    if (criterion_of(conf.plug)->score_net)
        rc = criterion_of(conf.plug)->score_net(&in, s->at, e);
    for (int i = 0; i < s->n && criterion_of(conf.plug)->score; i++)
        if (s->at[i])
            criterion_of(conf.plug)->score(&(struct crit_in){ &net->weight[i], in.seed, (uint32_t)i, in.step, in.conf, NULL }, s->at[i]);
    net_free(in.net);
    return rc;
}

/* ---- a net, its samples and a pruner ---- */

struct room {
    struct fixture f; /* data and net; no trainer */
    struct prune_conf conf;
    struct pruner *pruner;
    struct prune_data data;
};

/* Wide enough for several tiles where large; every third number of the first kernel is masked. */
static inline struct net *make_large(const struct fixture *f, bool large)
{
    struct net *net;

    ck_assert_int_eq(net_new(&net, &f->data.shape, NULL), ERR_OK);
    net_chain(net, "dense", large ? "{\"units\": 160}" : "{\"units\": 6}", "one");
    net_chain(net, "batch_norm", "{}", "norm");
    net_chain(net, "relu", "{}", "relu");
    net_chain(net, "dropout", "{\"rate\": 0.3}", "dropout");
    net_chain(net, "dense", large ? "{\"units\": 130}" : "{\"units\": 5}", "two");
    net_chain(net, "tanh", "{}", "tanh");
    net_chain(net, "dense", "{\"units\": 3}", "out");
    net_chain(net, "softmax", "{}", "out");
    net_init(net, 1);
    net->weight[0].mask = mem_alloc(net->weight[0].len);
    for (size_t k = 0; k < net->weight[0].len; k++)
        net->weight[0].mask[k] = k % 3 != 1;
    net_apply_masks(net);
    return net;
}

/* A value in another shape, channels first. */
static inline void add_reshape(struct net *net, const char *layer, struct shape shape)
{
    struct plug_value conf = { .plug = &op_find("reshape")->plug };
    struct reshape_conf to = { shape };
    int in = net->n_nodes - 1;

    memcpy(conf.conf, &to, sizeof to);
    ck_assert_int_eq(net_add(net, op_of(conf.plug), &conf, layer, &in, 1, NULL, NULL), ERR_OK);
}

static inline void init_masked(struct net *net, const char *kernel)
{
    struct weight *w = net_weight(net, kernel);

    net_init(net, 1);
    w->mask = mem_alloc(w->len);
    for (size_t k = 0; k < w->len; k++)
        w->mask[k] = k % 5 != 1;
    net_apply_masks(net);
}

/* Every kind of convolution, one behind the other; some numbers of the first one are masked. */
static inline struct net *make_convs(const struct fixture *f)
{
    struct net *net;

    ck_assert_int_eq(net_new(&net, &f->data.shape, NULL), ERR_OK);
    net_chain(net, "dense", "{\"units\": 72}", "one");
    add_reshape(net, "image", (struct shape){ 3, { 2, 6, 6 } });
    net_chain(net, "conv2d", "{\"filters\": 4, \"kernel_height\": 3, \"kernel_width\": 3, \"padding\": \"same\"}", "two");
    net_chain(net, "batch_norm", "{}", "norm");
    net_chain(net, "relu", "{}", "relu");
    net_chain(net, "depthwise_conv2d", "{\"depth_multiplier\": 2, \"kernel_height\": 3, \"kernel_width\": 3, \"stride_height\": 2, \"padding\": \"same\"}", "three");
    net_chain(net, "conv2d", "{\"filters\": 6, \"kernel_height\": 2, \"kernel_width\": 2, \"groups\": 2, \"dilation_width\": 2}", "four");
    net_chain(net, "tanh", "{}", "tanh");
    add_reshape(net, "sequence", (struct shape){ 2, { 6, 8 } });
    net_chain(net, "conv1d", "{\"filters\": 4, \"kernel_size\": 3, \"stride\": 2}", "five");
    net_chain(net, "reshape", "", "flat");
    net_chain(net, "dense", "{\"units\": 3}", "out");
    net_chain(net, "softmax", "{}", "out");
    init_masked(net, "two/kernel");
    return net;
}

/* Dense layers at each place of images. */
static inline struct net *make_places(const struct fixture *f)
{
    struct net *net;

    ck_assert_int_eq(net_new(&net, &f->data.shape, NULL), ERR_OK);
    net_chain(net, "dense", "{\"units\": 60}", "one");
    add_reshape(net, "image", (struct shape){ 3, { 5, 4, 3 } });
    net_chain(net, "dense", "{\"units\": 7}", "two");
    net_chain(net, "batch_norm", "{}", "norm");
    net_chain(net, "relu", "{}", "relu");
    net_chain(net, "dense", "{\"units\": 4, \"use_bias\": false}", "three");
    net_chain(net, "tanh", "{}", "tanh");
    net_chain(net, "reshape", "", "flat");
    net_chain(net, "dense", "{\"units\": 3}", "out");
    net_chain(net, "softmax", "{}", "out");
    init_masked(net, "two/kernel");
    return net;
}

enum kind { SMALL, LARGE, CONVS, PLACES };

static inline bool never(void *user) { return (void)user, false; }

/* options: further members of the criterion, each only where the row has it. */
static inline json_t *criterion_json(int row, const char *options)
{
    const struct plug *p = criterion_table.rows[row];
    json_t *all = json_loads(options, 0, NULL), *out = json_pack("{s:s}", "type", p->name), *v;
    const char *name;

    json_object_foreach(all, name, v)
        for (const struct param *q = p->params; q && q->name; q++)
            if (strcmp(q->name, name) == 0)
                json_object_set(out, name, v);
    json_decref(all);
    return out;
}

static inline struct room *room_open(int row, const char *options, const char *scope, enum kind kind)
{
    struct room *r = mem_zalloc(1, sizeof *r);
    json_t *conf = json_pack("{s:o,s:s,s:i,s:f}", "criterion", criterion_json(row, options), "scope", scope, "iterations", 1, "target_sparsity", 0.7);
    struct err e = { 0 };

    make_data(&r->f, 600);
    r->f.net = kind == CONVS ? make_convs(&r->f) : kind == PLACES ? make_places(&r->f) : make_large(&r->f, kind == LARGE);
    ck_assert_int_eq(loss_bind(&r->f.loss, loss_default(r->f.net, CLASSES), r->f.net, CLASSES, 0, NULL), ERR_OK);
    ck_assert_msg(params_parse(&r->conf, sizeof r->conf, prune_params, conf, &e) == ERR_OK, "%s: %s", e.at, e.msg);
    ck_assert_int_eq(pruner_new(&r->pruner, &r->conf, r->f.net, 1, NULL), ERR_OK);
    r->data = (struct prune_data){ &r->f.views.train, &r->f.loss, NULL, never, NULL, NULL };
    json_decref(conf);
    return r;
}

static inline void room_close(struct room *r)
{
    pruner_free(r->pruner);
    net_free(r->f.net);
    data_views_free(&r->f.views);
    mem_free(r);
}

static inline struct crit_net crit_of(const struct room *r, struct team *team)
{
    return (struct crit_net){ .train = &r->f.views.train, .loss = &r->f.loss, .team = team, .seed = 5, .step = 1, .stop = never };
}

static inline void must_score(struct scores *s, const struct room *r, struct team *team, int row, const char *options)
{
    json_t *criterion = criterion_json(row, options);
    struct err e = { 0 };

    ck_assert_msg(score(s, crit_of(r, team), r->f.net, criterion, &e) == ERR_OK, "%s: %s", criterion_table.rows[row]->name, e.msg);
    json_decref(criterion);
}

#endif
