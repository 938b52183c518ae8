/* Data sets: Fashion-MNIST converts to what it is, views are carved fairly, batches are what a naive loop makes. */
#include "core/data.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/rng.h"
#include "tests/suite.h"

#define FASHION "/usr/share/datasets/fashion-mnist/"
static const char *const files[DATA_SPLITS][2] = {
    { FASHION "train-images-idx3-ubyte.gz", FASHION "train-labels-idx1-ubyte.gz" },
    { NULL, NULL },
    { FASHION "t10k-images-idx3-ubyte.gz", FASHION "t10k-labels-idx1-ubyte.gz" },
};
static char dir[] = "/tmp/espalier-data-XXXXXX";
static char paths[DATA_SPLITS][2][64];
static const struct data_conf defaults = { .csv = { .label = "-1", .delimiter = "," } };

static void name_paths(void)
{
    memcpy(dir + sizeof dir - 7, "XXXXXX", 6);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    for (int id = 0; id < DATA_SPLITS; id++)
        for (int part = 0; part < 2; part++)
            snprintf(paths[id][part], sizeof paths[id][part], "%s/%d%d", dir, id, part);
}

static void remove_paths(void)
{
    for (int id = 0; id < DATA_SPLITS; id++)
        for (int part = 0; part < 2; part++)
            unlink(paths[id][part]);
    ck_assert_int_eq(rmdir(dir), 0); /* nothing else was left */
}

START_TEST(fashion_mnist)
{
    static const int first_labels[] = { 9, 0, 0, 3, 0 };
    const char *compact[DATA_SPLITS][2] = { { paths[0][0], paths[0][1] }, { NULL, NULL }, { paths[2][0], paths[2][1] } };
    struct data_file_info info = { .json = NULL };
    struct dataset *d = NULL;
    struct data_views v;
    struct err e = { 0 };
    static float x[784];
    int32_t label;

    if (access(files[0][0], R_OK) != 0)
        return;
    for (int id = 0; id < DATA_SPLITS; id += 2)
        for (int part = 0; part < 2; part++) {
            ck_assert_msg(data_convert(files[id][part], false, DATA_TRAIN, (enum data_part)part, &defaults, paths[id][0], paths[id][1], &info, &info, 0, &e) ==
                              ERR_OK, "%s", e.msg);
            if (id == DATA_TRAIN && part == 0)
                ck_assert_uint_eq(info.bytes, 4096 + 60000 * 784 + 4 * 8 * 784 + 16);
            if (id == DATA_TRAIN && part == 1)
                ck_assert_int_eq(json_integer_value(json_array_get(json_object_get(info.json, "counts"), 9)), 6000);
            json_decref(info.json);
        }
    ck_assert_msg(dataset_open(&d, &defaults, compact, &e) == ERR_OK, "%s %s", e.at, e.msg);
    ck_assert_int_eq(d->n_features, 784);
    ck_assert_int_eq(d->n_classes, 10);
    ck_assert_int_eq(d->split[DATA_TRAIN].n, 60000);
    ck_assert_int_eq(d->split[DATA_TEST].n, 10000);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(d->split[DATA_TRAIN].label[i], first_labels[i]);
    ck_assert_int_eq(data_views_new(&v, d, 0.1, 1, &e), ERR_OK);
    ck_assert_int_eq(v.validation.n, 6000);
    data_gather(&v.test, NULL, 3, 1, &(struct data_batch){ .x = x, .label = &label }, NULL);
    for (int i = 0; i < 784; i++)
        ck_assert_float_eq_tol(x[i], ((const uint8_t *)d->split[DATA_TEST].x)[3 * 784 + i] / 255.0, 1e-6);
    data_views_free(&v);
    dataset_free(d);
}
END_TEST

/* ---- carve and gather on a data set made in memory ---- */

enum { N = 701, N_CLASSES = 7, MAX_F = 131 };

static int32_t labels[N];
static uint8_t bytes[N * MAX_F];
static float reals[N * MAX_F], center[MAX_F], scale[MAX_F];

static struct dataset made_up(int n_features, bool is_u8)
{
    struct rng r = { .purpose = RNG_TEST };
    struct dataset d = { .shape = { 1, { n_features } }, .n_features = n_features, .n_classes = N_CLASSES, .n_target = 3,
                         .center = center, .scale = scale };

    for (int i = 0; i < N; i++)
        labels[i] = i < N_CLASSES ? i : (int32_t)(7 * rng_unit(&r, (uint64_t)i) * rng_unit(&r, (uint64_t)i + N));
    for (int i = 0; i < N * MAX_F; i++) {
        bytes[i] = (uint8_t)rng_u32(&r, (uint64_t)i);
        reals[i] = (float)rng_unit(&r, (uint64_t)i) - 0.5f;
    }
    for (int i = 0; i < MAX_F; i++) {
        center[i] = (float)i / 8;
        scale[i] = 1.0f / (float)(i + 1);
    }
    d.split[DATA_TRAIN] = (struct data_split){ .n = N, .is_u8 = is_u8, .x = is_u8 ? (const void *)bytes : reals, .label = labels,
                                               .target = reals };
    return d;
}

static const double fractions[] = { 0.0015, 0.01, 0.1, 1.0 / 3, 0.5, 0.9, 0.9985 };

START_TEST(carve_is_fair)
{
    struct dataset d = made_up(4, true);
    struct data_views v, again;
    int total[N_CLASSES] = { 0 }, taken[N_CLASSES] = { 0 }, seen[N] = { 0 };
    double fraction = fractions[_i];

    ck_assert_int_eq(data_views_new(&v, &d, fraction, 5, NULL), ERR_OK);
    ck_assert_int_eq(data_views_new(&again, &d, fraction, 5, NULL), ERR_OK);
    ck_assert_int_eq(v.validation.n, (int)round(fraction * N));
    ck_assert_int_eq(v.train.n + v.validation.n, N);
    ck_assert_int_eq(v.test.n, 0);
    ck_assert_mem_eq(v.validation.index, again.validation.index, (size_t)v.validation.n * sizeof(uint32_t));
    data_views_free(&again);
    for (int i = 0; i < v.train.n; i++) {
        seen[v.train.index[i]]++;
        ck_assert(i == 0 || v.train.index[i - 1] < v.train.index[i]);
    }
    for (int i = 0; i < v.validation.n; i++) {
        seen[v.validation.index[i]]++;
        taken[labels[v.validation.index[i]]]++;
        ck_assert(i == 0 || v.validation.index[i - 1] < v.validation.index[i]);
    }
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(seen[i], 1);
        total[labels[i]]++;
    }
    for (int k = 0; k < N_CLASSES; k++)
        ck_assert(fabs(taken[k] - (double)v.validation.n * total[k] / N) < 1);
    if (v.validation.n > 1 && v.train.n > 1) {
        ck_assert_int_eq(data_views_new(&again, &d, fraction, 6, NULL), ERR_OK);
        ck_assert(memcmp(v.validation.index, again.validation.index, (size_t)v.validation.n * sizeof(uint32_t)) != 0);
        data_views_free(&again);
    }
    data_views_free(&v);
}
END_TEST

START_TEST(carve_leaves_both_some)
{
    struct dataset d = made_up(4, true);
    struct data_views v;

    ck_assert_int_eq(data_views_new(&v, &d, 1e-6, 5, NULL), ERR_INVALID);
    ck_assert_int_eq(data_views_new(&v, &d, 1 - 1e-6, 5, NULL), ERR_INVALID);
    ck_assert_int_eq(data_views_new(&v, &d, NAN, 5, NULL), ERR_INVALID);
    ck_assert_int_eq(data_views_new(&v, &d, 0, 5, NULL), ERR_OK);
    ck_assert_int_eq(v.validation.n, 0);
    ck_assert_int_eq(v.train.n, N);
    data_views_free(&v);
    d.split[DATA_VALIDATION] = d.split[DATA_TRAIN];
    ck_assert_int_eq(data_views_new(&v, &d, 0.1, 5, NULL), ERR_OK);
    ck_assert_int_eq(v.validation.n, N);
    ck_assert_int_eq(v.train.n, N);
    data_views_free(&v);
    for (int k = 1;; k++) {
        enum err_code rc;

        d.split[DATA_VALIDATION].n = 0;
        mem_fail_in = k;
        rc = data_views_new(&v, &d, 0.1, 5, NULL);
        mem_fail_in = 0;
        if (rc == ERR_OK)
            break;
        ck_assert_int_eq(rc, ERR_NOMEM);
    }
    data_views_free(&v);
}
END_TEST

static const struct { int n_features, n; } sizes[] = { { 1, 1 }, { 1, 700 }, { 3, 17 }, { 63, 15 }, { 64, 16 }, { 65, 300 }, { 131, 257 } };
static const int threads[] = { 0, 1, 2, 4 };

START_TEST(gather_is_the_naive_loop)
{
    int n_f = sizes[_i / 2].n_features, n = sizes[_i / 2].n;
    struct dataset d = made_up(n_f, _i % 2);
    const struct data_split *s = &d.split[DATA_TRAIN];
    struct data_views v;
    uint32_t order[N];
    float *x = mem_vector((size_t)n_f * (size_t)n), *target = mem_vector((size_t)n * 3);
    int32_t *label = mem_alloc((size_t)n * sizeof *label);

    ck_assert_int_eq(data_views_new(&v, &d, 0, 0, NULL), ERR_OK);
    for (uint32_t i = 0; i < N; i++) {
        order[i] = i;
        v.train.index[i] = N - 1 - i;
    }
    rng_shuffle(&(struct rng){ .purpose = RNG_TEST }, order, N);
    for (size_t t = 0; t < 2 * sizeof threads / sizeof threads[0]; t++) {
        const uint32_t *by = t % 2 ? order : NULL;
        struct team *team = NULL;

        if (threads[t / 2] > 0)
            ck_assert_int_eq(team_new(&team, threads[t / 2], NULL), ERR_OK);
        data_gather(&v.train, by, N - n, n, &(struct data_batch){ x, label, target }, team);
        team_free(team);
        for (int i = 0; i < n; i++) {
            size_t at = v.train.index[by ? by[N - n + i] : (uint32_t)(N - n + i)];

            ck_assert_int_eq(label[i], labels[at]);
            for (int k = 0; k < 3; k++)
                ck_assert(target[k * n + i] == reals[at * 3 + (size_t)k]);
            for (int f = 0; f < n_f; f++) {
                float raw = s->is_u8 ? bytes[at * (size_t)n_f + (size_t)f] : reals[at * (size_t)n_f + (size_t)f];

                ck_assert_float_eq_tol(x[f * n + i], (raw - center[f]) * scale[f], 1e-6);
            }
        }
    }
    data_views_free(&v);
    mem_free(x);
    mem_free(target);
    mem_free(label);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "files");

    tcase_add_checked_fixture(tc, name_paths, remove_paths);
    tcase_add_test(tc, fashion_mnist);
    tc = suite_case(s, "batches");
    tcase_add_loop_test(tc, carve_is_fair, 0, sizeof fractions / sizeof fractions[0]);
    tcase_add_test(tc, carve_leaves_both_some);
    tcase_add_loop_test(tc, gather_is_the_naive_loop, 0, 2 * sizeof sizes / sizeof sizes[0]);
}
SUITE_MAIN("data", cases)
