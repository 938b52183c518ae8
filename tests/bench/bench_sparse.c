/* The three products of a sparse layer (y = W x, dx = W' dy, dw = dy x' on the kept numbers) against the whole kernel, by core/gemm.c and by
 * OpenBLAS, one thread, in the same run and alternated; the least time of some rounds of each. It is also what sparse_pays is calibrated by.
 *
 *     cmake --build build --target bench_sparse && build/tests/bench_sparse [--json FILE] [--batch N] [--rounds N] [--pays] [--skip N]
 *
 * --pays: many small shapes and batches near the crossing instead of the table, with what sparse_pays says of each (S, D); --skip: leaves out
 * the N best levels of vector code. */
#include <jansson.h>
#include <string.h>

#include "core/gemm.h"
#include "core/sparse.h"
#include "tests/bench/bench.h"

struct layer {
    int in, out, n;
    float *x, *y, *dx, *dy, *w, *dw;
    struct sparse *s;
};

static void layer_init(struct layer *l, int in, int out, int n)
{
    size_t width = (size_t)in * (size_t)out;

    *l = (struct layer){ .in = in, .out = out, .n = n };
    l->x = filled((size_t)in * (size_t)n, 1);
    l->dx = filled((size_t)in * (size_t)n, 2);
    l->y = filled((size_t)out * (size_t)n, 3);
    l->dy = filled((size_t)out * (size_t)n, 4);
    l->w = filled(width, 5);
    l->dw = filled(width, 6);
}

static void layer_clear(struct layer *l)
{
    float *a[] = { l->x, l->y, l->dx, l->dy, l->w, l->dw };

    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++)
        mem_free(a[i]);
    sparse_free(l->s);
}

static void set_density(struct layer *l, double density)
{
    const struct rng r = { 1, RNG_TEST, 7, 0 };
    size_t width = (size_t)l->in * (size_t)l->out;
    uint8_t *mask = mem_alloc(width);

    sparse_free(l->s);
    for (size_t i = 0; mask && i < width; i++)
        mask[i] = rng_unit(&r, i) < density;
    if (!mask || sparse_new(&l->s, mask, l->out, l->in, SPARSE_BY_COL, NULL) != ERR_OK)
        exit(1);
    sparse_gather(l->s, l->w);
    if (l->n == 1 && sparse_single_make(l->s, NULL) != ERR_OK)
        exit(1);
    mem_free(mask);
}

enum { FORWARD, GRADIENTS, PRODUCTS }; /* both gradients: the sparse kernel computes them in one pass */
static const char *const product_name[PRODUCTS] = { "forward", "gradients" };

static void dense(struct layer *l, int product)
{
    switch (product) {
    case FORWARD: gemm(false, false, l->out, l->n, l->in, l->w, l->in, l->x, l->n, false, l->y, l->n); break;
    case GRADIENTS:
        gemm(true, false, l->in, l->n, l->out, l->w, l->in, l->dy, l->n, false, l->dx, l->n);
        gemm(false, true, l->out, l->in, l->n, l->dy, l->n, l->x, l->n, false, l->dw, l->in);
        break;
    }
}

static void peer(struct layer *l, int product)
{
    switch (product) {
    case FORWARD: blas(false, false, l->out, l->n, l->in, l->w, l->in, l->x, l->n, false, l->y, l->n); break;
    case GRADIENTS:
        blas(true, false, l->in, l->n, l->out, l->w, l->in, l->dy, l->n, false, l->dx, l->n);
        blas(false, true, l->out, l->in, l->n, l->dy, l->n, l->x, l->n, false, l->dw, l->in);
        break;
    }
}

static void sparse(struct layer *l, int product)
{
    switch (product) {
    case FORWARD: sparse_forward(l->s, l->x, NULL, l->y, l->n, NULL); break;
    case GRADIENTS:
        for (int b = 0; b < l->s->by_col.n_blocks; b++)
            for (int t = 0; t < l->s->by_col.n_tiles; t++)
                sparse_gradients(l->s, b, t, l->x, l->dy, l->dx, l->dw, l->n, false);
        break;
    }
}

static double seconds(struct layer *l, void (*run)(struct layer *l, int product), int product, int repeats)
{
    double start = now();

    for (int i = 0; i < repeats; i++)
        run(l, product);
    return (now() - start) / repeats;
}

enum { DENSE, PEER, SPARSE, SIDES };
static void (*const side[SIDES])(struct layer *l, int product) = { dense, peer, sparse };
static const char *const side_name[SIDES] = { "dense_us", "openblas_us", "sparse_us" };
struct times { double of[SIDES][PRODUCTS]; };

static double sum(const double *x) { return x[FORWARD] + x[GRADIENTS]; }
/* How much faster the sparse kernel is, all products. */
static double ratio(const struct times *t, int than) { return sum(t->of[than]) / sum(t->of[SPARSE]); }

/* Each round about 3 ms of each. */
static struct times measure(struct layer *l, int rounds)
{
    struct times least;

    for (int p = 0; p < PRODUCTS; p++) {
        int n[SIDES];

        for (int i = 0; i < SIDES; i++) {
            n[i] = 1 + (int)(3e-3 / seconds(l, side[i], p, 1));
            least.of[i][p] = 1e9;
        }
        for (int r = 0; r < rounds; r++)
            for (int i = 0; i < SIDES; i++) {
                double s = seconds(l, side[i], p, n[i]);

                least.of[i][p] = s < least.of[i][p] ? s : least.of[i][p];
            }
    }
    return least;
}

static const double table_density[] = { 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01 };
static const int table_shape[][2] = { { 784, 300 }, { 300, 100 }, { 1024, 1024 }, { 4096, 4096 } };

static void table(int n, int rounds, json_t *rows)
{
    printf("%-10s %8s %10s %10s %10s %8s %9s   %s\n", "in x out", "density", "dense us", "OpenBLAS", "sparse us", "dense:", "OpenBLAS:",
           "OpenBLAS: forward, gradients");
    for (size_t i = 0; i < sizeof table_shape / sizeof table_shape[0]; i++) {
        struct layer l;

        layer_init(&l, table_shape[i][0], table_shape[i][1], n);
        for (size_t k = 0; k < sizeof table_density / sizeof table_density[0]; k++) {
            struct times t;
            json_t *row;

            set_density(&l, table_density[k]);
            t = measure(&l, l.in > 2000 ? (rounds + 4) / 5 : rounds);
            printf("%4dx%-5d %8.2f %10.1f %10.1f %10.1f %7.2fx %8.2fx   %.2f %.2f\n", l.in, l.out, table_density[k], 1e6 * sum(t.of[DENSE]),
                   1e6 * sum(t.of[PEER]), 1e6 * sum(t.of[SPARSE]), ratio(&t, DENSE), ratio(&t, PEER), t.of[PEER][0] / t.of[SPARSE][0],
                   t.of[PEER][1] / t.of[SPARSE][1]);
            fflush(stdout);
            row = json_pack("{s:i, s:i, s:i, s:f, s:f, s:f, s:b}", "in", l.in, "out", l.out, "batch", n, "density", table_density[k], "ratio_dense",
                            ratio(&t, DENSE), "ratio_openblas", ratio(&t, PEER), "sparse_pays", sparse_pays(l.out, l.in, l.s->n, n));
            for (int p = 0; p < PRODUCTS; p++) {
                json_t *times = json_object();

                for (int s = 0; s < SIDES; s++)
                    json_object_set_new(times, side_name[s], json_real(1e6 * t.of[s][p]));
                json_object_set_new(row, product_name[p], times);
            }
            json_array_append_new(rows, row);
        }
        layer_clear(&l);
    }
}

static const int pays_shape[][2] = { { 784, 300 }, { 300, 100 }, { 100, 10 }, { 64, 64 }, { 30, 200 }, { 1024, 1024 } };
static const int pays_batch[] = { 1, 4, 8, 16, 32, 64, 100, 128, 512 };
static const double pays_density[] = { 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05 };

static void crossings(int rounds)
{
    for (size_t i = 0; i < sizeof pays_shape / sizeof pays_shape[0]; i++)
        for (size_t b = 0; b < sizeof pays_batch / sizeof pays_batch[0]; b++) {
            struct layer l;

            layer_init(&l, pays_shape[i][0], pays_shape[i][1], pays_batch[b]);
            printf("%4dx%-5d batch %3d:", l.in, l.out, l.n);
            for (size_t k = 0; k < sizeof pays_density / sizeof pays_density[0]; k++) {
                struct times t;

                set_density(&l, pays_density[k]);
                t = measure(&l, rounds);
                printf("  %.2f %5.2fx %s", pays_density[k], ratio(&t, DENSE), sparse_pays(l.out, l.in, l.s->n, l.n) ? "S" : "D");
            }
            printf("\n");
            fflush(stdout);
            layer_clear(&l);
        }
}

int main(int argc, char **argv)
{
    const char *json = NULL;
    int n = 128, rounds = 10;
    bool pays = false;
    json_t *doc = json_object(), *rows = json_array();

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--pays") == 0)
            pays = true;
        else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc)
            json = argv[++i];
        else if (strcmp(argv[i], "--batch") == 0 && i + 1 < argc)
            n = (int)strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            rounds = (int)strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--skip") == 0 && i + 1 < argc)
            sparse_skip_levels = (int)strtol(argv[++i], NULL, 10) % sparse_n_levels();
    }
    gemm_choose_core(argv);
    gemm_init();
    printf("%s; sparse: %s; batch %d, one thread\n", gemm_describe(), sparse_level_name(sparse_skip_levels), n);
    if (pays)
        crossings(rounds);
    else
        table(n, rounds, rows);
    json_object_set_new(doc, "dense", json_string(gemm_describe()));
    json_object_set_new(doc, "sparse", json_string(sparse_level_name(sparse_skip_levels)));
    json_object_set_new(doc, "threads", json_integer(1));
    json_object_set_new(doc, "rows", rows);
    if (json && json_dump_file(doc, json, JSON_INDENT(2)) != 0) {
        fprintf(stderr, "bench_sparse: cannot write %s\n", json);
        return 1;
    }
    json_decref(doc);
    return 0;
}
