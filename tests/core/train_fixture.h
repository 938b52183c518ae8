/* tests/core/train_fixture.h: a small net, made data, and a training phase of them, for the tests of core/train.c. */
#ifndef TESTS_CORE_TRAIN_FIXTURE_H
#define TESTS_CORE_TRAIN_FIXTURE_H

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/gemm.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/train.h"
#include "tests/suite.h"

enum { FEATURES = 4, CLASSES = 3, MAX_SAMPLES = 2600 };

struct fixture {
    struct dataset data;
    float x[MAX_SAMPLES * FEATURES], center[FEATURES], scale[FEATURES];
    int32_t label[MAX_SAMPLES];
    struct data_views views;
    struct net *net;
    struct loss_binding loss;
    struct train_conf conf;
    struct team *team;
    struct trainer *trainer;
};

/* Three overlapping clouds. */
static inline void make_data(struct fixture *f, int n)
{
    struct rng r = { .seed = 11, .purpose = RNG_TEST };

    for (int i = 0; i < n; i++) {
        f->label[i] = i % CLASSES;
        for (int j = 0; j < FEATURES; j++)
            f->x[i * FEATURES + j] = (float)(rng_normal(&r, (uint64_t)(i * FEATURES + j)) + (j == f->label[i] ? 1.5 : 0));
    }
    for (int j = 0; j < FEATURES; j++)
        f->scale[j] = 1;
    f->data = (struct dataset){
        .shape = { 1, { FEATURES } }, .n_features = FEATURES, .n_classes = CLASSES, .center = f->center, .scale = f->scale,
        .split = { { .n = n, .x = f->x, .label = f->label } }
    };
    ck_assert_int_eq(data_views_new(&f->views, &f->data, 0.2, 1, NULL), ERR_OK);
}

static inline void add_node(struct net *net, const char *op, const char *options, const char *layer)
{
    struct plug_value conf;
    json_t *j = json_loads(options, 0, NULL);
    int last = net->n_nodes - 1;

    json_object_set_new(j, "type", json_string(op));
    ck_assert_int_eq(plug_parse(&conf, &op_table, j, NULL), ERR_OK);
    ck_assert_int_eq(net_add(net, op_of(conf.plug), &conf, layer, &last, 1, NULL, NULL), ERR_OK);
    json_decref(j);
}

/* Set: fixtures keep every seventh number of the kernels, so that the layers run sparse; else two of three, and they run dense. */
static bool fixture_sparse;

/* dense(hidden), relu, and when noisy batch normalisation and dropout; dense, softmax. Kernels are masked. */
static inline void make_net(struct fixture *f, int hidden, bool noisy)
{
    char units[40];

    snprintf(units, sizeof units, "{\"units\": %d}", hidden);
    ck_assert_int_eq(net_new(&f->net, &(struct shape){ 1, { FEATURES } }, NULL), ERR_OK);
    add_node(f->net, "dense", units, "dense");
    if (noisy)
        add_node(f->net, "batch_norm", "{}", "norm");
    add_node(f->net, "relu", "{}", "relu");
    if (noisy)
        add_node(f->net, "dropout", "{\"rate\": 0.3}", "dropout");
    add_node(f->net, "dense", "{\"units\": 3}", "out");
    add_node(f->net, "softmax", "{}", "out");
    net_init(f->net, 1);
    for (int w = 0; w < f->net->n_weights; w++) {
        struct weight *weight = &f->net->weight[w];

        weight->mask = weight->info.prunable ? mem_alloc(weight->len) : NULL;
        for (size_t i = 0; weight->mask && i < weight->len; i++)
            weight->mask[i] = fixture_sparse ? i % 7 == 1 : i % 3 != 1;
    }
    net_apply_masks(f->net);
    ck_assert_int_eq(net_pack(f->net, 12, NULL), ERR_OK);
    ck_assert(fixture_sparse == (net_weight(f->net, "dense/kernel")->sparse != NULL));
    ck_assert_int_eq(loss_bind(&f->loss, loss_default(f->net, CLASSES), f->net, CLASSES, 0, NULL), ERR_OK);
}

static inline struct trainer_in inputs(struct fixture *f)
{
    return (struct trainer_in){ .net = f->net, .views = &f->views, .loss = &f->loss, .conf = &f->conf, .metric = METRIC_ACCURACY, .seed = 3,
                                .phase = 1, .team = f->team };
}

/* conf: JSON of train_params, with ' for ". */
static inline struct fixture *open_fixture(const char *conf, int samples, int hidden, bool noisy, int threads)
{
    struct fixture *f = mem_zalloc(1, sizeof *f);
    char text[1000];
    struct trainer_in in;
    struct err e = { 0 };
    json_t *j;

    gemm_init();
    snprintf(text, sizeof text, "%s", conf);
    for (char *p = text; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    j = json_loads(text, 0, NULL);
    ck_assert_msg(params_parse(&f->conf, sizeof f->conf, train_params, j, &e) == ERR_OK, "%s: %s %s", text, e.at, e.msg);
    json_decref(j);
    make_data(f, samples);
    if (f->conf.augment.flip || f->conf.augment.shift || f->conf.augment.cutout)
        f->data.shape = (struct shape){ 2, { 2, FEATURES / 2 } }; /* each sample an image, which the net takes flat */
    make_net(f, hidden, noisy);
    trainer_small_step = 0;
    ck_assert_int_eq(team_new(&f->team, threads, NULL), ERR_OK);
    in = inputs(f);
    ck_assert_int_eq(trainer_new(&f->trainer, &in, NULL), ERR_OK);
    return f;
}

static inline void close_fixture(struct fixture *f)
{
    trainer_free(f->trainer);
    team_free(f->team);
    net_free(f->net);
    data_views_free(&f->views);
    mem_free(f);
}

static inline void same_weights(const struct net *a, const struct net *b, const char *what)
{
    for (int w = 0; w < a->n_weights; w++)
        ck_assert_msg(memcmp(a->weight[w].x, b->weight[w].x, a->weight[w].len * sizeof(float)) == 0, "%s: %s differs", what,
                      a->weight[w].name);
}

static inline int n_optimizers(void)
{
    int n = 0;

    while (optimizer_table.rows[n])
        n++;
    return n;
}

/* One row with momentum where it has any; rate, decay and `rest` of the conf as given. */
static inline const char *optimizer_conf(char *buf, size_t n, int row, double rate, double decay, const char *rest)
{
    const struct plug *p = optimizer_table.rows[row];
    bool momentum = false;

    for (const struct param *q = p->params; q->name; q++)
        momentum = momentum || strcmp(q->name, "momentum") == 0;
    snprintf(buf, n, "{'optimizer': {'type': '%s', 'learning_rate': %g, 'weight_decay': %g%s}%s}", p->name, rate, decay,
             momentum ? ", 'momentum': 0.9" : "", rest);
    return buf;
}

/* ---- checkpoints: the net's weights as "w/<name>", and the trainer ---- */

static inline enum err_code save_to(const char *path, struct fixture *f, struct err *e)
{
    struct st_writer *w = NULL;
    struct file_out *out = NULL;
    json_t *meta = json_object(), *texts = json_object();
    char name[OP_NAME_MAX + 8], *text = NULL;
    enum err_code rc = meta && texts ? st_writer_new(&w, e) : ERR_NOMEM;

    for (int i = 0; i < f->net->n_weights && rc == ERR_OK; i++) {
        snprintf(name, sizeof name, "w/%s", f->net->weight[i].name);
        rc = st_add(w, name, ST_F32, &f->net->weight[i].info.shape, f->net->weight[i].x, e);
    }
    if (rc == ERR_OK)
        rc = trainer_save(f->trainer, w, meta, e);
    if (rc == ERR_OK) { /* Jansson 2.14 can lose a key, not the whole text, when memory is short here: not what is tested */
        long k = mem_fail_in;

        mem_fail_in = 0;
        text = json_dumps(meta, 0);
        mem_fail_in = k;
        rc = text && json_object_set_new(texts, "state", json_string(text)) == 0 ? ERR_OK : ERR_NOMEM;
    }
    if (rc == ERR_OK)
        rc = file_out_new(&out, path, e);
    if (rc == ERR_OK)
        rc = st_write(w, texts, out, e);
    if (rc == ERR_OK)
        rc = file_out_publish(out, NULL, e);
    file_out_free(out);
    st_writer_free(w);
    mem_free(text);
    json_decref(meta);
    json_decref(texts);
    return rc;
}

static inline enum err_code load_from(const char *path, struct fixture *f, struct err *e)
{
    struct file_map map = { 0 };
    struct st_file st = { 0 };
    char name[OP_NAME_MAX + 8];
    json_t *meta = NULL;
    enum err_code rc = file_map_open(&map, path, e);

    if (rc == ERR_OK)
        rc = st_parse(&st, map.data, map.len, e);
    for (int i = 0; i < f->net->n_weights && rc == ERR_OK; i++) {
        snprintf(name, sizeof name, "w/%s", f->net->weight[i].name);
        ck_assert(st_find(&st, name) != NULL);
        rc = st_floats(st_find(&st, name), f->net->weight[i].x, e);
        if (f->net->weight[i].sparse)
            sparse_gather(f->net->weight[i].sparse, f->net->weight[i].x);
    }
    if (rc == ERR_OK) {
        meta = json_loads(json_string_value(json_object_get(st.metadata, "state")), 0, NULL);
        rc = meta ? trainer_load(f->trainer, &st, meta, e) : ERR_NOMEM;
    }
    json_decref(meta);
    st_file_free(&st);
    file_map_close(&map);
    return rc;
}

#endif
