/* The three products of a 3x3 convolution by Winograd's transforms: billions of operations of the plain sum (2 * 9 * c * o * oh * ow * n) per
 * second, with one thread and with two; and how many times faster than the direct kernels each is. The least time of
 * many short rounds of each, alternated. winograd_pays is calibrated by it.
 *
 *     cmake --build build --target bench_winograd && build/tests/bench_winograd [--batch N] [--rounds N] [--skip N] [CHANNELS HEIGHT] ...
 *
 * Without shapes: the layers of ResNet-20 and some more, with what winograd_pays says of each. --skip: leaves out the N best levels of vector code. */
#include <string.h>

#include "core/conv.h"
#include "core/winograd.h"
#include "tests/bench/bench.h"

enum { FORWARD, INPUT, WEIGHT, DIRECT_FORWARD, DIRECT_INPUT, DIRECT_WEIGHT, PRODUCTS };

struct layer {
    struct winograd_shape s;
    float *x, *y, *dx, *dy, *w, *dw, *bias, *db;
    struct winograd_room room;
    struct conv conv;
    struct op_call call;
};

static void layer_init(struct layer *l, int c, int h, int n, int threads)
{
    const size_t len = (size_t)c * (size_t)(h * h) * (size_t)n;

    *l = (struct layer){ .s = { c, c, h, h, n, 1, 1, 1, 1 }, .x = filled(len, 1), .y = filled(len, 2), .dx = filled(len, 3),
                         .dy = filled(len, 4), .w = filled(9 * (size_t)(c * c), 5), .dw = filled(9 * (size_t)(c * c), 6),
                         .bias = filled((size_t)c, 7), .db = filled((size_t)c, 8) };
    l->room = (struct winograd_room){ filled(winograd_shared_len(&l->s), 9),
                                      filled(winograd_scratch_len(&l->s) * (size_t)threads, 10), winograd_scratch_len(&l->s) };
    l->conv = (struct conv){ .c = c, .h = h, .w = h, .o = c, .oh = h, .ow = h, .kh = 3, .kw = 3, .sh = 1, .sw = 1, .dh = 1, .dw = 1, .top = 1,
                             .left = 1, .groups = 1 };
    l->call = (struct op_call){ .n = n, .n_in = 1, .x = { l->x }, .y = l->y, .w = { l->w, l->bias }, .clamp = true, .dy = l->dy, .dx = { l->dx },
                                .dw = { l->dw, l->db }, .scratch_stride = (conv_scratch_len(&l->conv) + 15) / 16 * 16 };
    l->call.state = filled(conv_state_len(&l->conv), 11);
    l->call.scratch = filled(l->call.scratch_stride * (size_t)threads, 12);
}

static void layer_clear(struct layer *l)
{
    float *a[] = { l->x, l->y, l->dx, l->dy, l->w, l->dw, l->bias, l->db, l->room.shared, l->room.scratch, l->call.state, l->call.scratch };

    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++)
        mem_free(a[i]);
}

static void run(struct layer *l, int product, struct team *team)
{
    l->call.team = team;
    switch (product) {
    case FORWARD: winograd_forward(&l->s, l->x, l->w, &(struct winograd_behind){ .bias = l->bias, .clamp = true }, l->y, &l->room, team); break;
    case INPUT: winograd_input_gradient(&l->s, l->dy, l->y, l->w, l->dx, &l->room, team); break;
    case WEIGHT: winograd_weight_gradient(&l->s, l->x, l->dy, l->y, l->dw, l->db, false, &l->room, team); break;
    case DIRECT_FORWARD: conv_forward(&l->conv, &l->call); break;
    case DIRECT_INPUT: conv_input_gradient(&l->conv, &l->call); break;
    case DIRECT_WEIGHT: conv_weight_gradient(&l->conv, &l->call); break;
    }
}

/* The least seconds of each product. */
static void measure(struct layer *l, struct team *team, int rounds, double *least)
{
    for (int p = 0; p < PRODUCTS; p++)
        least[p] = 1e9;
    for (int r = 0; r <= rounds; r++)
        for (int p = 0; p < PRODUCTS; p++) {
            double start = now();

            run(l, p, team);
            start = now() - start;
            least[p] = r > 0 && start < least[p] ? start : least[p];
        }
}

static void row(int c, int h, int n, int rounds, struct team *two)
{
    const double flops = 2.0 * 9 * c * c * h * h * n;
    double one[PRODUCTS], both[PRODUCTS];
    struct layer l;

    layer_init(&l, c, h, n, 2);
    measure(&l, NULL, rounds, one);
    measure(&l, two, rounds, both);
    printf("%4d %4dx%-4d", c, h, h);
    for (int p = FORWARD; p <= WEIGHT; p++)
        printf(" %8.1f %6.1f", flops / one[p] * 1e-9, flops / both[p] * 1e-9);
    for (int p = FORWARD; p <= WEIGHT; p++)
        printf("   %5.2fx %5.2fx %s", one[DIRECT_FORWARD + p] / one[p], both[DIRECT_FORWARD + p] / both[p],
               winograd_pays(&l.s, (enum winograd_product)p) ? "winograd" : "direct  ");
    printf("\n");
    fflush(stdout);
    layer_clear(&l);
}

static const int table[][2] = { { 4, 32 }, { 8, 32 }, { 12, 32 }, { 16, 32 }, { 24, 16 }, { 32, 16 }, { 64, 8 }, { 64, 3 }, { 128, 8 }, { 256, 4 } };

int main(int argc, char **argv)
{
    int n = 128, rounds = 30, shapes = 0;
    struct team *two;

    if (team_new(&two, 2, NULL) != ERR_OK)
        return 1;
    printf("              GFLOP/s, 1 and 2 threads:                          times faster than direct, and what winograd_pays says:\n"
           "   channels  forward         input gradient  weight gradient     forward                 input gradient          weight gradient\n");
    for (int i = 1; i + 1 < argc; i += 2) {
        const int value = (int)strtol(argv[i + 1], NULL, 10);

        if (strcmp(argv[i], "--batch") == 0)
            n = value;
        else if (strcmp(argv[i], "--rounds") == 0)
            rounds = value;
        else if (strcmp(argv[i], "--skip") == 0)
            conv_skip_levels = winograd_skip_levels = value % winograd_n_levels();
        else {
            row((int)strtol(argv[i], NULL, 10), value, n, rounds, two);
            shapes++;
        }
    }
    for (size_t i = 0; shapes == 0 && i < sizeof table / sizeof table[0]; i++)
        row(table[i][0], table[i][1], n, rounds, two);
    printf("%s, batch %d\n", winograd_level_name(winograd_skip_levels), n);
    team_free(two);
    return 0;
}
