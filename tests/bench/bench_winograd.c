/* The three products of a 3x3 convolution by Winograd's transforms: billions of operations of the plain sum (2 * 9 * c * o * oh * ow * n) per
 * second, with one thread and with two; the best of many short rounds. What winograd_pays is calibrated by.
 *
 *     cmake --build build --target bench_winograd && build/tests/bench_winograd [--batch N] [--rounds N] [--skip N] [c h] ...
 *
 * Without shapes: the layers of ResNet-20 and some more. --skip: leaves out the N best levels of vector code. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/winograd.h"

enum { FORWARD, INPUT, WEIGHT, PRODUCTS };
static const char *const product_name[PRODUCTS] = { "forward", "input", "weight" };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float *filled(size_t n, uint32_t stream)
{
    const struct rng r = { 1, RNG_TEST, stream, 0 };
    float *x = mem_vector(n), some[64];

    if (!x)
        exit(1);
    for (size_t i = 0; i < 64; i++)
        some[i] = (float)rng_unit(&r, i) - 0.5f;
    for (size_t i = 0; i < n; i++)
        x[i] = some[i % 61];
    return x;
}

struct layer {
    struct winograd_shape s;
    float *x, *y, *dx, *dy, *w, *dw, *bias, *db;
    struct winograd_room room;
};

static void layer_init(struct layer *l, int c, int h, int n, int threads)
{
    const size_t len = (size_t)c * (size_t)(h * h) * (size_t)n;

    *l = (struct layer){ .s = { c, c, h, h, n, 1, 1, 1, 1 }, .x = filled(len, 1), .y = filled(len, 2), .dx = filled(len, 3),
                         .dy = filled(len, 4), .w = filled(9 * (size_t)(c * c), 5), .dw = filled(9 * (size_t)(c * c), 6),
                         .bias = filled((size_t)c, 7), .db = filled((size_t)c, 8) };
    l->room = (struct winograd_room){ filled(winograd_shared_len(&l->s), 9),
                                      filled(winograd_scratch_len(&l->s) * (size_t)threads, 10), winograd_scratch_len(&l->s) };
}

static void layer_clear(struct layer *l)
{
    float *a[] = { l->x, l->y, l->dx, l->dy, l->w, l->dw, l->bias, l->db, l->room.shared, l->room.scratch };

    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++)
        mem_free(a[i]);
}

static void run(struct layer *l, int product, struct team *team)
{
    switch (product) {
    case FORWARD: winograd_forward(&l->s, l->x, l->w, l->bias, true, l->y, &l->room, team); break;
    case INPUT: winograd_input_gradient(&l->s, l->dy, l->y, l->w, l->dx, &l->room, team); break;
    case WEIGHT: winograd_weight_gradient(&l->s, l->x, l->dy, l->y, l->dw, l->db, false, &l->room, team); break;
    }
}

static double best(struct layer *l, int product, struct team *team, int rounds)
{
    double least = 1e9;

    for (int r = 0; r <= rounds; r++) {
        double start = now();

        run(l, product, team);
        start = now() - start;
        least = r > 0 && start < least ? start : least;
    }
    return least;
}

static void measure(int c, int h, int n, int rounds, struct team *two)
{
    const double flops = 2.0 * 9 * c * c * h * h * n;
    struct layer l;

    layer_init(&l, c, h, n, 2);
    printf("%4d %3dx%-3d", c, h, h);
    for (int p = 0; p < PRODUCTS; p++)
        printf("  %s %6.1f %6.1f", product_name[p], flops / best(&l, p, NULL, rounds) * 1e-9, flops / best(&l, p, two, rounds) * 1e-9);
    printf("  scratch %zu KB\n", winograd_scratch_len(&l.s) / 256);
    fflush(stdout);
    layer_clear(&l);
}

static const int table[][2] = { { 8, 32 }, { 16, 32 }, { 32, 16 }, { 64, 8 }, { 64, 16 }, { 128, 8 }, { 256, 4 } };

int main(int argc, char **argv)
{
    int n = 128, rounds = 30, shapes = 0;
    struct team *two;

    if (team_new(&two, 2, NULL) != ERR_OK)
        return 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        const int value = (int)strtol(argv[i + 1], NULL, 10);

        if (strcmp(argv[i], "--batch") == 0)
            n = value;
        else if (strcmp(argv[i], "--rounds") == 0)
            rounds = value;
        else if (strcmp(argv[i], "--skip") == 0)
            winograd_skip_levels = value % winograd_n_levels();
        else {
            measure((int)strtol(argv[i], NULL, 10), value, n, rounds, two);
            shapes++;
        }
    }
    if (shapes == 0)
        printf("%s, batch %d: GFLOP/s of the plain sum, one thread and two\n", winograd_level_name(winograd_skip_levels), n);
    for (size_t i = 0; shapes == 0 && i < sizeof table / sizeof table[0]; i++)
        measure(table[i][0], table[i][1], n, rounds, two);
    team_free(two);
    return 0;
}
