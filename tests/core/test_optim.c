/* Optimizers and learning-rate schedules: every row keeps the laws of core/optim.h; trajectories agree with torch.optim (golden/optim.py). */
#include "core/optim.h"

#include <string.h>

#include "core/rng.h"
#include "tests/suite.h"

enum { N = 203 };
struct state { float w[N], g[N], slot[OPTIM_MAX_SLOTS][N]; };

static const struct optimizer *row(int i)
{
    return (const struct optimizer *)(const void *)optimizer_table.rows[i];
}

static int rows_of(const struct plug_table *t)
{
    int n = 0;

    while (t->rows[n])
        n++;
    return n;
}

static struct plug_value parse(const struct plug_table *t, const char *text)
{
    struct plug_value v;
    json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);
    struct err e = { 0 };

    ck_assert_msg(plug_parse(&v, t, j, &e) == ERR_OK, "%s: %s", e.at, e.msg);
    json_decref(j);
    return v;
}

/* The row with every rate of momentum on. */
static struct plug_value with_momentum(const struct plug *p)
{
    char text[120];
    bool has = false;

    for (const struct param *q = p->params; q->name; q++)
        has = has || strcmp(q->name, "momentum") == 0;
    snprintf(text, sizeof text, "{\"type\": \"%s\", \"learning_rate\": 0.01%s}", p->name, has ? ", \"momentum\": 0.9" : "");
    return parse(&optimizer_table, text);
}

static void update(const struct plug_value *v, struct state *s, size_t first, size_t n, int64_t t, double decay)
{
    const struct optimizer *o = (const struct optimizer *)(const void *)v->plug;
    struct optim_call c = {
        .n = n, .w = s->w + first, .g = s->g + first, .slot = { s->slot[0] + first, s->slot[1] + first },
        .lr = ((const struct optim_conf_head *)(const void *)v->conf)->learning_rate, .t = t, .decay = decay, .conf = v->conf
    };

    for (int k = o->n_slots; k < OPTIM_MAX_SLOTS; k++)
        c.slot[k] = NULL;
    o->update(&c);
}

static void fill(struct state *s, uint64_t step)
{
    struct rng r = { .seed = 5, .purpose = RNG_TEST, .step = step };

    for (int i = 0; i < N; i++) {
        s->g[i] = (float)rng_normal(&r, (uint64_t)i);
        if (step == 0)
            s->w[i] = (float)rng_normal(&r, (uint64_t)(N + i));
    }
}

START_TEST(tables_are_complete)
{
    struct err e = { 0 };

    ck_assert_msg(plugs_check(&optimizer_table, &e) == ERR_OK, "%s", e.msg);
    ck_assert_msg(plugs_check(&lr_schedule_table, &e) == ERR_OK, "%s", e.msg);
    for (int i = 0; i < rows_of(&optimizer_table); i++) {
        ck_assert(row(i)->update && row(i)->n_slots <= OPTIM_MAX_SLOTS);
        ck_assert_str_eq(row(i)->plug.params[0].name, "learning_rate");
        ck_assert_uint_eq(row(i)->plug.params[0].offset, offsetof(struct optim_conf_head, learning_rate));
        ck_assert_str_eq(row(i)->plug.params[1].name, "weight_decay");
        ck_assert_uint_eq(row(i)->plug.params[1].offset, offsetof(struct optim_conf_head, weight_decay));
    }
}
END_TEST

START_TEST(zeros_stay_zeros)
{
    struct plug_value v = with_momentum(&row(_i)->plug);
    struct state s = { 0 };

    for (int64_t t = 1; t <= 20; t++) {
        fill(&s, (uint64_t)t);
        for (int i = 0; i < N; i += 3)
            s.g[i] = 0;
        update(&v, &s, 0, N, t, 0.1);
        for (int i = 0; i < N; i++)
            ck_assert(i % 3 ? s.w[i] != 0 : s.w[i] == 0 && s.slot[0][i] == 0 && s.slot[1][i] == 0);
    }
}
END_TEST

START_TEST(any_split_gives_the_same_bytes)
{
    static const size_t cuts[] = { 1, 7, 16, 61 };
    struct plug_value v = with_momentum(&row(_i)->plug);

    for (size_t k = 0; k < sizeof cuts / sizeof cuts[0]; k++) {
        struct state a = { 0 }, b = { 0 };

        for (int64_t t = 1; t <= 5; t++) {
            fill(&a, (uint64_t)t - 1);
            fill(&b, (uint64_t)t - 1);
            update(&v, &a, 0, N, t, 0.1);
            for (size_t i = 0; i < N; i += cuts[k])
                update(&v, &b, i, i + cuts[k] < N ? cuts[k] : N - i, t, 0.1);
        }
        ck_assert_mem_eq(&a, &b, sizeof a);
    }
}
END_TEST

START_TEST(no_number_stays_denormal)
{
    struct plug_value v = with_momentum(&row(_i)->plug);
    struct state s = { 0 };

    fill(&s, 0);
    update(&v, &s, 0, N, 1, 0);
    memset(s.g, 0, sizeof s.g);
    for (int64_t t = 2; t <= 1000; t++)
        update(&v, &s, 0, N, t, 0);
    for (int k = 0; k < OPTIM_MAX_SLOTS; k++)
        for (int i = 0; i < N; i++)
            ck_assert(s.slot[k][i] == 0 || fabsf(s.slot[k][i]) >= 1e-30f);
}
END_TEST

START_TEST(loss_falls_on_a_quadratic) /* sum of c_i w_i^2 / 2, curvatures 0.1 to 10 */
{
    struct plug_value v = with_momentum(&row(_i)->plug);
    struct state s = { 0 };
    double first = 0, last = 0;

    fill(&s, 0);
    for (int64_t t = 1; t <= 400; t++) {
        last = 0;
        for (int i = 0; i < N; i++) {
            double curvature = 0.1 * pow(100, i / (double)(N - 1));

            s.g[i] = (float)(curvature * s.w[i]);
            last += curvature * s.w[i] * s.w[i] / 2;
        }
        first = t == 1 ? last : first;
        update(&v, &s, 0, N, t, 0);
    }
    ck_assert_msg(last < 0.1 * first, "%s: %g -> %g", v.plug->name, first, last);
}
END_TEST

START_TEST(trajectories_are_torch)
{
    json_t *doc = json_load_file(GOLDEN_DIR "/optim.json", 0, NULL), *one;
    size_t i;

    ck_assert(json_array_size(json_object_get(doc, "cases")) >= 10);
    json_array_foreach(json_object_get(doc, "cases"), i, one)
    {
        char *text = json_dumps(json_object_get(one, "optimizer"), 0);
        struct plug_value v = parse(&optimizer_table, text);
        struct state s = { 0 };
        size_t n = json_array_size(json_object_get(doc, "w0"));

        for (size_t j = 0; j < n; j++)
            s.w[j] = (float)json_number_value(json_array_get(json_object_get(doc, "w0"), j));
        for (size_t t = 0; t < json_array_size(json_object_get(doc, "g")); t++) {
            const json_t *g = json_array_get(json_object_get(doc, "g"), t), *w = json_array_get(json_object_get(one, "w"), t);

            for (size_t j = 0; j < n; j++)
                s.g[j] = (float)json_number_value(json_array_get(g, j));
            update(&v, &s, 0, n, (int64_t)t + 1, ((const struct optim_conf_head *)(const void *)v.conf)->weight_decay);
            for (size_t j = 0; j < n; j++) {
                double want = json_number_value(json_array_get(w, j));

                ck_assert_msg(fabs(s.w[j] - want) <= 2e-6 * (1 + fabs(want)), "%s step %zu number %zu: %.9g, torch %.9g", text, t + 1, j,
                              (double)s.w[j], want);
            }
        }
        free(text);
    }
    json_decref(doc);
}
END_TEST

static double share(const char *text, int64_t t, int64_t n, int64_t steps_per_epoch)
{
    struct plug_value v = parse(&lr_schedule_table, text);

    return ((const struct lr_schedule *)(const void *)v.plug)->at(v.conf, t, n, steps_per_epoch);
}

START_TEST(schedule_laws) /* starts at 1, never rises, stays within 0..1; with warm-up rises evenly to 1, then runs as it does without */
{
    const char *name = lr_schedule_table.rows[_i]->name;
    char plain[60], warm[90];
    double before = 1, now;

    snprintf(plain, sizeof plain, "{\"type\": \"%s\"}", name);
    snprintf(warm, sizeof warm, "{\"type\": \"%s\", \"warm_up_epochs\": 1.5}", name);
    for (int64_t t = 0; t < 100; t++) {
        now = share(plain, t, 100, 10);
        ck_assert_msg(now <= before && now >= 0 && (t > 0 || now == 1), "%s at %d: %g", name, (int)t, now);
        before = now;
    }
    for (int64_t t = 0; t < 15; t++)
        ck_assert_double_eq_tol(share(warm, t, 100, 10), (double)(t + 1) / 15, 1e-12);
    for (int64_t t = 15; t < 100; t++)
        ck_assert_double_eq_tol(share(warm, t, 100, 10), share(plain, t - 15, 85, 10), 1e-12);
    ck_assert_double_eq_tol(share(warm, 3, 5, 10), 4.0 / 15, 1e-12); /* the phase ends within the warm-up */
}
END_TEST

START_TEST(schedule_values)
{
    static const struct { const char *conf; int64_t t; double want; } values[] = {
        { "\"constant\"", 99, 1 },
        { "{\"type\": \"step\", \"factor\": 0.5, \"every\": 3}", 29, 1 },
        { "{\"type\": \"step\", \"factor\": 0.5, \"every\": 3}", 30, 0.5 },
        { "{\"type\": \"step\", \"factor\": 0.5, \"every\": 3}", 99, 0.125 },
        { "{\"type\": \"exponential\", \"factor\": 0.81}", 5, 0.9 },
        { "{\"type\": \"exponential\", \"factor\": 0.81}", 20, 0.6561 },
        { "{\"type\": \"cosine\", \"final\": 0.2}", 50, 0.6 },
        { "{\"type\": \"cosine\", \"final\": 0.2}", 25, 0.2 + 0.8 * (0.5 + 0.25 * M_SQRT2) },
    };

    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        ck_assert_double_eq_tol(share(values[i].conf, values[i].t, 100, 10), values[i].want, 1e-12);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "optimizers");
    int n = rows_of(&optimizer_table);

    tcase_add_test(tc, tables_are_complete);
    tcase_add_loop_test(tc, zeros_stay_zeros, 0, n);
    tcase_add_loop_test(tc, any_split_gives_the_same_bytes, 0, n);
    tcase_add_loop_test(tc, no_number_stays_denormal, 0, n);
    tcase_add_loop_test(tc, loss_falls_on_a_quadratic, 0, n);
    tcase_add_test(tc, trajectories_are_torch);
    tc = suite_case(s, "schedules");
    tcase_add_loop_test(tc, schedule_laws, 0, rows_of(&lr_schedule_table));
    tcase_add_test(tc, schedule_values);
}
SUITE_MAIN("optim", cases)
