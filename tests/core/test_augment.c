/* Augmentation: what a plain loop makes of each sample, to the last bit, for any number of threads; its draws are fair; what is no image is
 * refused; nothing asked for changes nothing. */
#include <math.h>
#include <string.h>

#include "core/augment.h"
#include "core/data.h"
#include "core/mem.h"
#include "core/rng.h"
#include "tests/suite.h"

enum { N = 150, MAX_LEN = 20 * 17 * 3 };

static uint8_t bytes[N * MAX_LEN];
static float reals[N * MAX_LEN], center[MAX_LEN], scale[MAX_LEN];

static struct dataset made_up(struct shape shape, bool is_u8)
{
    struct rng r = { .purpose = RNG_TEST };
    struct dataset d = { .shape = shape, .n_features = (int)shape_len(&shape), .center = center, .scale = scale };

    for (int i = 0; i < N * MAX_LEN; i++) {
        bytes[i] = (uint8_t)rng_u32(&r, (uint64_t)i);
        reals[i] = (float)rng_unit(&r, (uint64_t)i) - 0.5f;
    }
    for (int i = 0; i < MAX_LEN; i++) {
        center[i] = (float)i / 8;
        scale[i] = 1.0f / (float)(i + 1);
    }
    d.split[DATA_TRAIN] = (struct data_split){ .n = N, .is_u8 = is_u8, .x = is_u8 ? (const void *)bytes : reals };
    return d;
}

static struct augment bound(const struct dataset *d, bool first, int flip, int shift, int cutout)
{
    struct augment a;

    ck_assert_int_eq(augment_bind(&a, &(struct augment_conf){ flip, shift, cutout }, &(struct augment_samples){ d->shape, false },
                                  &(struct augment_samples){ d->shape, first }, NULL), ERR_OK);
    a.seed = 5;
    a.phase = 2;
    a.epoch = 3;
    return a;
}

/* Flip, then shift, then cut, one pixel at a time. */
static float plain(const struct dataset *d, const struct augment *a, struct augment_pick p, uint32_t sample, int f)
{
    int c = f % a->c, x = f / a->c % a->w, y = f / a->c / a->w % a->h, plane = f / a->c / a->w / a->h, fx = x + p.dx, fy = y + p.dy, at;
    const struct data_split *s = &d->split[DATA_TRAIN];
    size_t i;

    if (fx < 0 || fx >= a->w || fy < 0 || fy >= a->h)
        return 0;
    if (x >= p.cut_x && x < p.cut_x + a->conf.cutout && y >= p.cut_y && y < p.cut_y + a->conf.cutout)
        return 0;
    fx = p.flip_x ? a->w - 1 - fx : fx;
    fy = p.flip_y ? a->h - 1 - fy : fy;
    at = ((plane * a->h + fy) * a->w + fx) * a->c + c;
    i = sample * (size_t)d->n_features + (size_t)at;
    return ((s->is_u8 ? bytes[i] : reals[i]) - center[at]) * scale[at];
}

/* The last one has its channels first. */
static const struct shape shapes[] = { { 3, { 20, 17, 3 } }, { 2, { 9, 13 } }, { 3, { 16, 8, 1 } }, { 3, { 3, 2, 5 } }, { 3, { 3, 16, 17 } } };
static const struct { int flip, shift, cutout; } confs[] = {
    { 0, 0, 0 }, { 1, 0, 0 }, { 2, 0, 0 }, { 3, 0, 0 }, { 0, 1, 0 }, { 0, 0, 1 }, { 0, 0, 2 }, { 3, 1, 2 }, { 1, 4, 5 }, { 3, 7, 8 },
};
enum { N_CONFS = sizeof confs / sizeof confs[0], N_SHAPES = sizeof shapes / sizeof shapes[0] };

START_TEST(as_a_plain_loop)
{
    const struct shape *shape = &shapes[_i / N_CONFS];
    const bool planes = _i / N_CONFS == N_SHAPES - 1;
    int least = shape->d[planes] < shape->d[planes + 1] ? shape->d[planes] : shape->d[planes + 1], flip = confs[_i % N_CONFS].flip;
    int shift = confs[_i % N_CONFS].shift, cutout = confs[_i % N_CONFS].cutout;

    for (int is_u8 = 0; is_u8 < 2; is_u8++) {
        struct dataset d = made_up(*shape, is_u8);
        struct augment a = bound(&d, planes, flip, shift < least ? shift : least - 1, cutout < least ? cutout : least);
        float *x = mem_vector((size_t)d.n_features * N), *unchanged = mem_vector((size_t)d.n_features * N);
        struct data_views v;
        uint32_t order[N];

        ck_assert_int_eq(data_views_new(&v, &d, 0, 0, NULL), ERR_OK);
        for (uint32_t i = 0; i < N; i++)
            order[i] = i;
        rng_shuffle(&(struct rng){ .purpose = RNG_TEST }, order, N);
        for (int threads = 1; threads <= 3; threads += 2) {
            struct team *team = NULL;
            const int first = 11, n = N - 11;

            ck_assert_int_eq(team_new(&team, threads, NULL), ERR_OK);
            memset(x, 0x7f, (size_t)d.n_features * N * sizeof *x);
            data_gather_augmented(&v.train, order, first, n, &(struct data_batch){ .x = x }, &a, team);
            data_gather(&v.train, order, first, n, &(struct data_batch){ .x = unchanged }, team);
            team_free(team);
            for (int i = 0; i < n && a.h > 0; i++) {
                struct augment_pick p = augment_pick(&a, order[first + i]);

                for (int f = 0; f < d.n_features; f++) {
                    float want = plain(&d, &a, p, order[first + i], f);

                    if (x[f * n + i] != want) /* an assertion that holds costs more than the number */
                        ck_abort_msg("feature %d of sample %d is %.9g, must be %.9g", f, i, (double)x[f * n + i], (double)want);
                }
            }
            if (_i % N_CONFS == 0)
                ck_assert_mem_eq(x, unchanged, (size_t)d.n_features * (size_t)n * sizeof *x);
        }
        data_views_free(&v);
        mem_free(x);
        mem_free(unchanged);
    }
}
END_TEST

START_TEST(draws_are_fair)
{
    enum { DRAWS = 20000 };
    struct dataset d = made_up((struct shape){ 3, { 10, 7, 3 } }, true);
    struct augment a = bound(&d, false, FLIP_BOTH, 2, 3), other = a;
    int flips[2] = { 0 }, dx[5] = { 0 }, dy[5] = { 0 }, x[7] = { 0 }, y[10] = { 0 }, both = 0, same = 0;

    other.epoch++;
    for (uint32_t i = 0; i < DRAWS; i++) {
        struct augment_pick p = augment_pick(&a, i), q = augment_pick(&other, i);

        flips[0] += p.flip_x;
        flips[1] += p.flip_y;
        both += p.flip_x && p.flip_y;
        dx[p.dx + 2]++;
        dy[p.dy + 2]++;
        x[p.cut_x + 1]++;
        y[p.cut_y + 1]++;
        same += p.flip_x == q.flip_x && p.flip_y == q.flip_y && p.dx == q.dx && p.dy == q.dy;
    }
#define NEAR(count, share) ck_assert_double_lt(fabs((count) - DRAWS * (share)), 5 * sqrt(DRAWS * (share) * (1 - (share))))
    NEAR(flips[0], 1 / 2.0);
    NEAR(flips[1], 1 / 2.0);
    NEAR(both, 1 / 4.0);
    NEAR(same, 1 / 100.0);
    for (int i = 0; i < 5; i++) {
        NEAR(dx[i], 1 / 5.0);
        NEAR(dy[i], 1 / 5.0);
    }
    for (int i = 0; i < 7; i++)
        NEAR(x[i], 1 / 7.0);
    for (int i = 0; i < 10; i++)
        NEAR(y[i], 1 / 10.0);
#undef NEAR
}
END_TEST

static const struct { struct augment_conf conf; struct augment_samples data, input; const char *at; } bindings[] = {
    { { 1, 0, 0 }, { { 3, { 8, 8, 3 } }, false }, { { 3, { 8, 8, 3 } }, false }, NULL },
    { { 1, 3, 4 }, { { 2, { 8, 4 } }, false }, { { 1, { 32 } }, false }, NULL },           /* images that a flat net takes */
    { { 1, 3, 4 }, { { 1, { 32 } }, false }, { { 3, { 8, 4, 1 } }, false }, NULL },        /* and the other way round */
    { { 0, 0, 0 }, { { 1, { 32 } }, false }, { { 1, { 32 } }, false }, NULL },
    { { 1, 0, 0 }, { { 1, { 32 } }, false }, { { 1, { 32 } }, false }, "" },
    { { 0, 0, 2 }, { { 4, { 2, 2, 2, 4 } }, false }, { { 4, { 2, 2, 2, 4 } }, false }, "" },
    { { 0, 4, 0 }, { { 3, { 8, 4, 3 } }, false }, { { 3, { 8, 4, 3 } }, false }, "/shift" },
    { { 0, 0, 5 }, { { 3, { 8, 4, 3 } }, false }, { { 3, { 8, 4, 3 } }, false }, "/cutout" },
    { { 1, 3, 4 }, { { 3, { 2, 8, 4 } }, false }, { { 3, { 2, 8, 4 } }, true }, NULL },
    { { 1, 3, 4 }, { { 3, { 2, 8, 4 } }, false }, { { 3, { 2, 8, 4 } }, false }, "/shift" },
    { { 1, 3, 4 }, { { 3, { 8, 4, 1 } }, false }, { { 3, { 1, 8, 4 } }, true }, NULL }, /* one channel lies as it lies */
    { { 1, 3, 5 }, { { 1, { 64 } }, false }, { { 3, { 2, 8, 4 } }, true }, "/cutout" },
    { { 1, 3, 4 }, { { 3, { 2, 8, 4 } }, true }, { { 3, { 2, 8, 4 } }, true }, NULL },
    { { 1, 3, 4 }, { { 3, { 2, 8, 4 } }, true }, { { 1, { 64 } }, false }, NULL }, /* the data set alone knows */
    { { 1, 3, 4 }, { { 3, { 1, 8, 4 } }, true }, { { 3, { 8, 4, 1 } }, false }, NULL },
    { { 1, 3, 5 }, { { 3, { 2, 8, 4 } }, true }, { { 1, { 64 } }, false }, "/cutout" },
};

START_TEST(binds_to_images)
{
    const struct shape *data = &bindings[_i].data.shape;
    struct augment a;
    struct err e = { 0 };
    enum err_code rc = augment_bind(&a, &bindings[_i].conf, &bindings[_i].data, &bindings[_i].input, &e);

    ck_assert_int_eq(rc, bindings[_i].at ? ERR_INVALID : ERR_OK);
    if (bindings[_i].at)
        ck_assert_str_eq(e.at, bindings[_i].at);
    if (bindings[_i].data.channels_first && !bindings[_i].at)
        ck_assert(a.planes == data->d[0] && a.h == data->d[1] && a.w == data->d[2] && a.c == 1);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "augment");

    tcase_add_loop_test(tc, as_a_plain_loop, 0, N_CONFS * N_SHAPES);
    tcase_add_test(tc, draws_are_fair);
    tcase_add_loop_test(tc, binds_to_images, 0, sizeof bindings / sizeof bindings[0]);
}
SUITE_MAIN("augment", cases)
