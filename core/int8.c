/* core/int8.c: the structure of an integer kernel (see int8.h); its product stands in int8_kernels.c. */
#include "core/int8.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"

enum { TILE_WORK = 1024 /* words of a tile, at least */, LEVELS = 127 };
#define MOSTLY 0.5 /* share of words that are not zero from which on all are held */

float int8_row_scale(const float *w, int n)
{
    float most = 0;

    for (int i = 0; i < n; i++)
        most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
    most /= LEVELS;
    return most > 0 ? most : 1; /* so small that it is 0 / 127: zeros as well */
}

void int8_row(int8_t *q, const float *w, float scale, int n)
{
    for (int i = 0; i < n; i++) {
        long v = lrintf(w[i] / scale);

        q[i] = (int8_t)(v > LEVELS ? LEVELS : v < -LEVELS ? -LEVELS : v);
    }
}

struct int8_scale int8_scale_of(float low, float high)
{
    struct int8_scale r = { 0, low < 0 ? 128 : 0 };
    float most = low < 0 && -low > high ? -low : high;

    r.s = most / (low < 0 ? LEVELS : 255);
    if (!(r.s > 1e-30f)) /* its inverse would not be finite */
        r.s = 1;
    return r;
}

/* ---- structure ---- */

/* Word i of a row. */
static int32_t word_at(const struct int8 *k, int row, int i)
{
    const int8_t *q = k->q + (size_t)row * (size_t)k->cols;
    uint32_t word = 0;

    for (int b = 0; b < 4 && 4 * i + b < k->cols; b++)
        word |= (uint32_t)(uint8_t)q[4 * i + b] << 8 * b;
    return (int32_t)word;
}

static size_t count_words(const struct int8 *k)
{
    size_t n = 0;

    for (int r = 0; r < k->rows; r++)
        for (int i = 0; i < k->words; i++)
            n += word_at(k, r, i) != 0;
    return n;
}

static void fill(struct int8 *k)
{
    uint32_t n = 0;

    for (int r = 0; r < k->rows; r++) {
        k->start[r] = n;
        for (int c = 0; c < k->cols; c++)
            k->sum[r] += k->q[(size_t)r * (size_t)k->cols + (size_t)c];
        for (int i = 0; i < k->words; i++) {
            int32_t word = word_at(k, r, i);

            if (!k->whole && word == 0)
                continue;
            if (!k->whole)
                k->across[n] = (uint32_t)i;
            k->word[n++] = word;
        }
    }
    k->start[k->rows] = n;
}

/* Tiles of about equal work. */
static void cut_tiles(struct int8 *k)
{
    uint64_t work = k->n + (uint64_t)k->rows, n_tiles = work / TILE_WORK;
    int row = 0;

    n_tiles = n_tiles < 1 ? 1 : n_tiles > INT8_MAX_TILES ? INT8_MAX_TILES : n_tiles;
    k->n_tiles = (int)n_tiles;
    for (int t = 1; t < k->n_tiles; t++) {
        while (row < k->rows && (k->start[row] + (uint64_t)row) * n_tiles < work * (uint64_t)t)
            row++;
        k->tile[t] = row;
    }
    k->tile[k->n_tiles] = k->rows;
}

static bool alloc(struct int8 *k, const int8_t *q, const float *scale)
{
    const size_t rows = (size_t)k->rows, len = rows * (size_t)k->cols, words = rows * (size_t)k->words;

    k->q = mem_alloc(len);
    k->scale = mem_vector(rows);
    k->sum = mem_zalloc(rows, sizeof *k->sum);
    k->start = mem_alloc((rows + 1) * sizeof *k->start);
    k->x = mem_vector((size_t)k->words * INT8_BATCH);
    if (!k->q || !k->scale || !k->sum || !k->start || !k->x)
        return false;
    memcpy(k->q, q, len);
    memcpy(k->scale, scale, rows * sizeof *scale);
    k->n = count_words(k);
    k->whole = (double)k->n >= MOSTLY * (double)words;
    k->n = k->whole ? words : k->n;
    k->word = mem_alloc(k->n * sizeof *k->word);
    k->across = k->whole ? NULL : mem_alloc(k->n * sizeof *k->across);
    return k->word && (k->whole || k->across);
}

enum err_code int8_new(struct int8 **out, const int8_t *q, const float *scale, int rows, int cols, struct err *e)
{
    struct int8 *k;

    *out = NULL;
    if (cols > INT8_MAX_COLS)
        return err_set(e, ERR_UNSUPPORTED, "an integer kernel has at most %d inputs, not %d", INT8_MAX_COLS, cols);
    k = mem_zalloc(1, sizeof *k);
    if (k)
        *k = (struct int8){ .rows = rows, .cols = cols, .words = (cols + 3) / 4 };
    if (!k || !alloc(k, q, scale)) {
        int8_free(k);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    fill(k);
    cut_tiles(k);
    *out = k;
    return ERR_OK;
}

void int8_free(struct int8 *k)
{
    if (!k)
        return;
    mem_free(k->q);
    mem_free(k->scale);
    mem_free(k->sum);
    mem_free(k->start);
    mem_free(k->across);
    mem_free(k->word);
    mem_free(k->x);
    mem_free(k);
}

uint64_t int8_memory(int rows, int cols)
{
    uint64_t r = (uint64_t)rows, words = ((uint64_t)cols + 3) / 4;

    return sizeof(struct int8) + r * (uint64_t)cols + 8 * r * words + 12 * (r + 1) + 4 * words * INT8_BATCH;
}
