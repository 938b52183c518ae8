/* Which way training moves weights, and what it does behind masks: sums and splices as PyTorch makes them (tests/golden/movement.py), for layers that run
 * dense and sparse; the same for pieces of gradient as for whole ones, and for any threads; each layer keeps its number of weights. */
#include "core/criterion.h"
#include "tests/core/train_fixture.h"
#include "tests/golden.h"

enum { N = 12, HIDDEN = 40 };

struct bench {
    struct fixture *f;
    json_t *all;
    float *moved[4], *behind[4];
    struct plug_value regrow;
};

static void fill_weights(struct bench *b)
{
    for (int w = 0; w < b->f->net->n_weights; w++) {
        struct weight *weight = &b->f->net->weight[w];

        golden_floats(weight->x, json_object_get(json_object_get(b->all, "w"), weight->name), weight->len);
        b->moved[w] = weight->info.prunable ? mem_vector(weight->len) : NULL;
        b->behind[w] = weight->info.prunable ? mem_vector(weight->len) : NULL;
        if (b->behind[w])
            memcpy(b->behind[w], weight->x, weight->len * sizeof(float));
    }
    net_apply_masks(b->f->net);
    ck_assert_int_eq(net_pack(b->f->net, N, NULL), ERR_OK);
}

/* The golden samples, as train and validation; conf: JSON of train_params; regrow: of regrow_table, NULL: none. */
static void bench_open(struct bench *b, const char *conf, const char *regrow, int threads)
{
    struct fixture *f = mem_zalloc(1, sizeof *f);
    json_t *j = json_loads(conf, 0, NULL), *r = regrow ? json_loads(regrow, 0, NULL) : NULL;
    struct err e = { 0 };
    struct trainer_in in;

    *b = (struct bench){ .f = f, .all = json_load_file(GOLDEN_DIR "/movement.json", 0, NULL) };
    ck_assert_ptr_nonnull(b->all);
    gemm_init();
    trainer_small_step = 0;
    ck_assert_msg(params_parse(&f->conf, sizeof f->conf, train_params, j, &e) == ERR_OK, "%s %s", e.at, e.msg);
    golden_floats(f->x, json_object_get(b->all, "x"), N * FEATURES);
    for (int i = 0; i < N; i++)
        f->label[i] = (int32_t)json_integer_value(json_array_get(json_object_get(b->all, "label"), (size_t)i));
    for (int i = 0; i < FEATURES; i++)
        f->scale[i] = 1;
    f->data = (struct dataset){ .shape = { 1, { FEATURES } }, .n_features = FEATURES, .n_classes = CLASSES, .center = f->center, .scale = f->scale,
                                .split = { { .n = N, .x = f->x, .label = f->label }, { .n = N, .x = f->x, .label = f->label } } };
    ck_assert_int_eq(data_views_new(&f->views, &f->data, 0.2, 1, NULL), ERR_OK);
    make_net(f, HIDDEN, false);
    fill_weights(b);
    ck_assert_int_eq(team_new(&f->team, threads, NULL), ERR_OK);
    in = inputs(f);
    if (r) {
        ck_assert_msg(plug_parse(&b->regrow, &regrow_table, r, &e) == ERR_OK, "%s %s", e.at, e.msg);
        in.regrow = &b->regrow;
        in.behind = b->behind;
    }
    in.moved = b->moved;
    ck_assert_int_eq(trainer_new(&f->trainer, &in, NULL), ERR_OK);
    json_decref(j);
    json_decref(r);
}

static void bench_close(struct bench *b)
{
    for (int w = 0; w < b->f->net->n_weights; w++) {
        mem_free(b->moved[w]);
        mem_free(b->behind[w]);
    }
    json_decref(b->all);
    close_fixture(b->f);
}

static void train(struct bench *b)
{
    ck_assert_int_eq(trainer_run(b->f->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK);
}

static const char whole[] = "{\"epochs\": 25, \"optimizer\": {\"type\": \"gradient_descent\", \"learning_rate\": 0.4}}";
static const char still[] = "{\"epochs\": 1, \"optimizer\": {\"type\": \"gradient_descent\", \"learning_rate\": 0}}";
static const char pieces[] = "{\"epochs\": 1, \"batch_size\": 3, \"clip_value\": 1e-6, \"optimizer\": {\"type\": \"sgd\", \"learning_rate\": 0}}";
static const struct golden_bound bound = { 2e-5, 2e-4 };

static const json_t *golden(const struct bench *b, const char *kind)
{
    return json_object_get(json_object_get(b->all, kind), fixture_sparse ? "sparse" : "dense");
}

/* ---- movement ---- */

START_TEST(sums_are_those_of_torch)
{
    struct bench b;

    fixture_sparse = _i;
    bench_open(&b, whole, NULL, 1);
    train(&b);
    for (int w = 0; w < 4; w++)
        if (b.moved[w])
            golden_near(b.moved[w], json_object_get(golden(&b, "movement"), b.f->net->weight[w].name), b.f->net->weight[w].len,
                        b.f->net->weight[w].name, bound);
    bench_close(&b);
}
END_TEST

START_TEST(pieces_add_up_to_the_whole) /* at rate 0: the gradient of all samples is the mean of those of four batches; clipping comes after */
{
    struct bench all, parts;

    fixture_sparse = _i;
    bench_open(&all, still, NULL, 1);
    bench_open(&parts, pieces, NULL, 3);
    train(&all);
    train(&parts);
    for (int w = 0; w < 4; w++)
        for (size_t k = 0; all.moved[w] && k < all.f->net->weight[w].len; k++) {
            ck_assert(fabsf(parts.moved[w][k] - 4 * all.moved[w][k]) < 1e-5f);
            ck_assert(all.f->net->weight[w].mask[k] || all.moved[w][k] == 0);
        }
    bench_close(&all);
    bench_close(&parts);
}
END_TEST

START_TEST(movement_counts_before_size)
{
    float x[5] = { 5, -4, 0.1f, 3, -2 }, moved[5] = { -1e-20f, 0, 1e-20f, 0, 7 }, score[5];
    const int order[5] = { 4, 2, 1, 3, 0 }; /* best first */
    struct weight w = { .len = 5, .x = x };
    const struct criterion *c = criterion_of(plug_find(&criterion_table, "movement"));

    ck_assert(c && c->moved);
    c->score(&(struct crit_in){ .w = &w, .moved = moved }, score);
    for (int i = 1; i < 5; i++)
        ck_assert(score[order[i - 1]] > score[order[i]]);
}
END_TEST

/* ---- surgery ---- */

#define SURGERY "\"type\": \"surgery\", \"gamma\": 0, \"until\": 1"

START_TEST(splices_are_those_of_torch)
{
    struct bench b;

    fixture_sparse = _i;
    bench_open(&b, whole, "{" SURGERY "}", 1);
    train(&b);
    for (int w = 0; w < 4; w++) {
        const struct weight *weight = &b.f->net->weight[w];
        const json_t *want = json_object_get(golden(&b, "surgery"), weight->name);

        if (!b.behind[w])
            continue;
        ck_assert_ptr_null(weight->sparse);
        golden_near(b.behind[w], json_object_get(want, "behind"), weight->len, weight->name, bound);
        for (size_t k = 0; k < weight->len; k++) {
            ck_assert_int_eq(weight->mask[k], json_integer_value(json_array_get(json_object_get(want, "mask"), k)));
            ck_assert(weight->x[k] == (weight->mask[k] ? b.behind[w][k] : 0));
        }
    }
    bench_close(&b);
}
END_TEST

/* With masks that never change the net trains as it would without: what is behind them is of no account. */
START_TEST(what_is_hidden_changes_nothing)
{
    static const char *const confs[] = { "{\"epochs\": 3, \"batch_size\": 5, \"clip_weights\": 0.5}",
                                         "{\"epochs\": 3, \"batch_size\": 5, \"optimizer\": {\"type\": \"sgd\", \"momentum\": 0.9}}" };
    struct bench with, without;
    int moved = 0;

    fixture_sparse = false;
    bench_open(&with, confs[_i], "{" SURGERY ", \"interval\": 1000}", 2);
    bench_open(&without, confs[_i], NULL, 1);
    train(&with);
    train(&without);
    same_weights(with.f->net, without.f->net, "surgery");
    for (int w = 0; w < 4; w++)
        for (size_t k = 0; with.behind[w] && k < with.f->net->weight[w].len; k++)
            moved += !with.f->net->weight[w].mask[k] && with.behind[w][k] != without.behind[w][k];
    ck_assert_int_gt(moved, 50);
    bench_close(&with);
    bench_close(&without);
}
END_TEST

static size_t count_kept(const struct net *net, int w)
{
    size_t n = 0;

    for (size_t k = 0; net->weight[w].mask && k < net->weight[w].len; k++)
        n += net->weight[w].mask[k];
    return n;
}

struct watch { struct bench *b; size_t kept[4]; uint8_t mask[4][HIDDEN * FEATURES]; int changes; };

static void look(void *user, const struct train_progress *p)
{
    struct watch *l = user;
    const struct net *net = l->b->f->net;
    bool changed = false;

    (void)p;
    for (int w = 0; w < 4; w++) {
        const struct weight *weight = &net->weight[w];

        if (!weight->mask)
            continue;
        ck_assert_uint_eq(count_kept(net, w), l->kept[w]);
        for (size_t k = 0; k < weight->len; k++)
            ck_assert(weight->x[k] == (weight->mask[k] ? l->b->behind[w][k] : 0));
        changed = changed || memcmp(l->mask[w], weight->mask, weight->len) != 0;
        memcpy(l->mask[w], weight->mask, weight->len);
    }
    l->changes += changed;
}

/* Per optimizer row and options: numbers stay, also with early stopping; any threads, the same bytes; with gamma masks change less often. */
START_TEST(numbers_of_weights_stay)
{
    int changes[2];
    struct bench b[2];

    fixture_sparse = _i % 2;
    for (int gamma = 0; gamma < 2; gamma++) {
        for (int i = 0; i < 2; i++) {
            struct watch l = { .b = &b[i] };

            bench_open(&b[i], _i < 2 ? "{\"epochs\": 10, \"batch_size\": 2, \"optimizer\": {\"type\": \"adam\", \"learning_rate\": 0.05}, \"early_stopping\": {\"patience\": 3}}"
                                     : "{\"epochs\": 10, \"batch_size\": 2, \"optimizer\": {\"type\": \"sgd\", \"learning_rate\": 0.2}, \"clip_norm\": 1}",
                       gamma ? "{" SURGERY ", \"gamma\": 1}" : "{" SURGERY "}", 1 + 2 * i);
            for (int w = 0; w < 4; w++) {
                l.kept[w] = count_kept(b[i].f->net, w);
                memcpy(l.mask[w], b[i].f->net->weight[w].mask ? (const void *)b[i].f->net->weight[w].mask : "", b[i].f->net->weight[w].mask ? b[i].f->net->weight[w].len : 0);
            }
            ck_assert_int_eq(trainer_run(b[i].f->trainer, &(struct train_hooks){ .progress = look, .user = &l }, NULL), ERR_OK);
            changes[gamma] = l.changes;
        }
        same_weights(b[0].f->net, b[1].f->net, "threads");
        for (int w = 0; w < 4; w++)
            if (b[0].behind[w]) {
                ck_assert_mem_eq(b[0].behind[w], b[1].behind[w], b[0].f->net->weight[w].len * sizeof(float));
                ck_assert_mem_eq(b[0].moved[w], b[1].moved[w], b[0].f->net->weight[w].len * sizeof(float));
            }
        bench_close(&b[0]);
        bench_close(&b[1]);
    }
    ck_assert_msg(changes[0] > 10 && changes[1] < changes[0], "%d, %d", changes[0], changes[1]);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "movement");

    tcase_add_loop_test(tc, sums_are_those_of_torch, 0, 2);
    tcase_add_loop_test(tc, pieces_add_up_to_the_whole, 0, 2);
    tcase_add_test(tc, movement_counts_before_size);
    tcase_add_loop_test(tc, splices_are_those_of_torch, 0, 2);
    tcase_add_loop_test(tc, what_is_hidden_changes_nothing, 0, 2);
    tcase_add_loop_test(tc, numbers_of_weights_stay, 0, 4);
}
SUITE_MAIN("movement", cases)
