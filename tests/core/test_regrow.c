/* Regrowth: when and how much by the cosine; each exchange drops the smallest, grows those with the largest gradient (or any), and leaves the number of
 * each layer's weights as it was; masked numbers and slots stay 0; threads, and going on from a checkpoint, change nothing. */
#include "core/probe.h"
#include "tests/core/train_fixture.h"

enum { SAMPLES = 70 }; /* 56 to train on */

START_TEST(schedule)
{
    static const struct { int64_t done; double share; } golden[] = { { 0, 0.3 }, { 250, 0.225 }, { 375, 0.15 }, { 500, 0.075 }, { 750, 0 } };
    struct regrow_conf c = { .interval = 100, .until = 0.75, .alpha = 0.3 };
    int due = 0;

    for (int64_t done = 1; done <= 1000; done++) {
        due += regrow_due(&c, done, 1000);
        ck_assert(regrow_due(&c, done, 1000) == (done % 100 == 0 && done < 750));
    }
    ck_assert_int_eq(due, 7);
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++)
        ck_assert(fabs((double)regrow_count(&c, golden[i].done, 1000, 1000000) - 1e6 * golden[i].share) <= 1);
    c.until = 1;
    c.interval = 1;
    ck_assert(regrow_due(&c, 999, 1000) && !regrow_due(&c, 1000, 1000)); /* what is grown is trained once at least */
}
END_TEST

static struct plug_value regrowth(const char *name, int64_t interval, double until, double alpha)
{
    struct plug_value v = { .plug = plug_find(&regrow_table, name) };
    const struct regrow_conf c = { .interval = interval, .until = until, .alpha = alpha };

    memcpy(v.conf, &c, sizeof c);
    return v;
}

static struct fixture *open_regrowing(const char *conf, const struct plug_value *regrow, bool noisy, int threads)
{
    struct fixture *f = open_fixture(conf, SAMPLES, 40, noisy, threads);
    struct trainer_in in = inputs(f);

    in.regrow = regrow;
    trainer_free(f->trainer);
    ck_assert_int_eq(trainer_new(&f->trainer, &in, NULL), ERR_OK);
    return f;
}

/* ---- after every step ---- */

struct watch { struct fixture *f; uint8_t *mask[16]; size_t kept[16]; int steps, changes; };

static void look(void *user, const struct train_progress *p)
{
    struct watch *l = user;
    bool changed = false;

    (void)p;
    net_sync(l->f->net);
    for (int w = 0; w < l->f->net->n_weights; w++) {
        const struct weight *weight = &l->f->net->weight[w];
        size_t kept = 0;

        if (!weight->mask)
            continue;
        if (!l->mask[w]) {
            l->mask[w] = mem_alloc(weight->len);
            memcpy(l->mask[w], weight->mask, weight->len);
        }
        for (size_t i = 0; i < weight->len; i++) {
            kept += weight->mask[i] != 0;
            ck_assert(weight->mask[i] || weight->x[i] == 0);
        }
        ck_assert(l->steps == 0 || kept == l->kept[w]);
        ck_assert(!weight->sparse || weight->sparse->n == kept);
        l->kept[w] = kept;
        changed |= memcmp(l->mask[w], weight->mask, weight->len) != 0;
        memcpy(l->mask[w], weight->mask, weight->len);
    }
    l->changes += changed;
    l->steps++;
}

static const char *const confs[] = {
    "{'epochs': 4, 'batch_size': 12}", "{'epochs': 4, 'batch_size': 12, 'optimizer': {'type': 'sgd', 'momentum': 0.9}, 'clip_norm': 0.5}",
    "{'epochs': 4, 'batch_size': 12, 'optimizer': 'rmsprop', 'early_stopping': {'patience': 3}}",
};

START_TEST(counts_stay) /* 20 steps: exchanges after 3, 6, 9, 12, seen a step later */
{
    const struct plug_value v = regrowth(_i % 2 ? "rigl" : "set", 3, 0.75, 0.4);
    struct fixture *f;
    struct watch l = { 0 };

    fixture_sparse = _i / 2 % 2;
    f = open_regrowing(confs[_i / 4], &v, true, 2);
    l.f = f;
    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ .progress = look, .user = &l }, NULL), ERR_OK);
    ck_assert(l.steps == 20 && l.changes >= 3 && l.changes <= 4); /* the last may be of less than one weight */
    for (int w = 0; w < f->net->n_weights; w++)
        mem_free(l.mask[w]);
    close_fixture(f);
}
END_TEST

START_TEST(threads_do_not_change_bytes)
{
    const struct plug_value v = regrowth(_i % 2 ? "rigl" : "set", 3, 1, 0.4);
    struct fixture *one, *two;

    fixture_sparse = _i / 2;
    one = open_regrowing(confs[0], &v, true, 1);
    two = open_regrowing(confs[0], &v, true, 3);
    ck_assert_int_eq(trainer_run(one->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK);
    ck_assert_int_eq(trainer_run(two->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK);
    same_weights(one->net, two->net, "regrowth");
    close_fixture(one);
    close_fixture(two);
}
END_TEST

/* ---- one exchange, made again naively ---- */

/* How many of the n numbers that `in` selects come before number i, larger first. */
static size_t rank_of(const float *x, const uint8_t *in, size_t n, size_t i)
{
    size_t before = 0;

    for (size_t k = 0; k < n; k++)
        before += in[k] && (x[k] > x[i] || (x[k] == x[i] && k < i));
    return before;
}

START_TEST(rigl_drops_the_smallest_and_grows_the_steepest) /* at rate 0 nothing else changes */
{
    const struct plug_value v = regrowth("rigl", 3, 1, 0.5);
    struct fixture *f, *before;
    struct net *dense;
    float *gradient[16] = { 0 };
    const struct probe_conf conf = { .samples = 12, .batch_size = 12 };
    struct crit_net in;

    fixture_sparse = _i;
    f = open_regrowing("{'epochs': 1, 'batch_size': 12, 'optimizer': {'type': 'sgd', 'learning_rate': 0}}", &v, false, 1);
    before = open_fixture(confs[0], SAMPLES, 40, false, 1);
    ck_assert_int_eq(trainer_run(f->trainer, &(struct train_hooks){ 0 }, NULL), ERR_OK); /* 5 steps, an exchange after the third */
    ck_assert_int_eq(net_clone(&dense, before->net, NULL), ERR_OK);
    for (int w = 0; w < dense->n_weights; w++)
        gradient[w] = dense->weight[w].mask ? mem_vector(dense->weight[w].len) : NULL;
    in = (struct crit_net){ .net = dense, .train = &f->views.train, .loss = &f->loss, .seed = 3, .step = (uint64_t)1 << 40 | 3 };
    ck_assert_int_eq(probe_gradient(&in, &conf, gradient, NULL), ERR_OK);
    for (int w = 0; w < dense->n_weights; w++) {
        const struct weight *old = &dense->weight[w], *now = &f->net->weight[w];
        size_t kept = 0, n, exchanged = 0;
        uint8_t *may = mem_alloc(old->len);
        float *score = mem_vector(old->len);

        for (size_t i = 0; old->mask && i < old->len; i++)
            kept += old->mask[i];
        n = (size_t)regrow_count((const struct regrow_conf *)(const void *)v.conf, 3, 5, kept);
        for (size_t i = 0; old->mask && i < old->len; i++)
            score[i] = fabsf(old->x[i]);
        for (size_t i = 0; old->mask && i < old->len; i++)
            may[i] = !(old->mask[i] && rank_of(score, old->mask, old->len, i) < kept - n);
        for (size_t i = 0; old->mask && i < old->len; i++)
            score[i] = fabsf(gradient[w][i]);
        for (size_t i = 0; old->mask && i < old->len; i++) {
            ck_assert_int_eq(now->mask[i], !may[i] || rank_of(score, may, old->len, i) < n);
            exchanged += now->mask[i] && !old->mask[i];
            ck_assert(now->x[i] == (now->mask[i] && old->mask[i] ? old->x[i] : 0));
        }
        ck_assert(!old->mask || exchanged > 0);
        mem_free(may);
        mem_free(score);
        mem_free(gradient[w]);
    }
    net_free(dense);
    close_fixture(before);
    close_fixture(f);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "regrow");

    tcase_add_test(tc, schedule);
    tcase_add_loop_test(tc, counts_stay, 0, 4 * (int)(sizeof confs / sizeof confs[0]));
    tcase_add_loop_test(tc, threads_do_not_change_bytes, 0, 4);
    tcase_add_loop_test(tc, rigl_drops_the_smallest_and_grows_the_steepest, 0, 2);
}
SUITE_MAIN("regrow", cases)
