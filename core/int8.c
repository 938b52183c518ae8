/* core/int8.c: the structure of an integer kernel (see int8.h); its product stands in int8_kernels.c, a convolution's in conv_int8.c. */
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

struct int8_window int8_window_of(int channels, int kh, int kw)
{
    struct int8_window w = { channels, kh, kw, (channels + 3) / 4, kw, false };
    int64_t across = (int64_t)channels * ((kw + 3) / 4);

    if (across < (int64_t)w.depth * kw)
        w = (struct int8_window){ channels, kh, kw, (int)across, 1, true };
    return w;
}

/* Number of the row that byte b of word i is; -1: none. */
static int place_of(const struct int8_window *w, int i, int b)
{
    const int deep = i / (w->kh * w->width), y = i / w->width % w->kh, quads = (w->kw + 3) / 4;
    const int channel = w->across ? deep / quads : 4 * deep + b, x = w->across ? 4 * (deep % quads) + b : i % w->width;

    return channel < w->channels && x < w->kw ? (channel * w->kh + y) * w->kw + x : -1;
}

/* Word i of a row. */
static int32_t word_at(const struct int8 *k, int row, int i)
{
    const int8_t *q = k->q + (size_t)row * (size_t)k->cols;
    uint32_t word = 0;

    for (int b = 0; b < 4; b++) {
        int place = place_of(&k->window, i, b);

        word |= place < 0 ? 0 : (uint32_t)(uint8_t)q[place] << 8 * b;
    }
    return (int32_t)word;
}

int int8_n_blocks(int group) { return (group + INT8_OUTPUTS - 1) / INT8_OUTPUTS; }
int int8_block(int group, int b, int *n)
{
    int blocks = int8_n_blocks(group), first = (int)((int64_t)group * b / blocks);

    *n = (int)((int64_t)group * (b + 1) / blocks) - first;
    return first;
}

/* A convolution's, whole: the rows of a block side by side. */
static void fill_blocks(struct int8 *k)
{
    int32_t *out = k->word;

    for (int first = 0; first < k->rows; first += k->group)
        for (int b = 0, n; b < int8_n_blocks(k->group); b++) {
            const int row = first + int8_block(k->group, b, &n);

            for (int i = 0; i < k->words; i++)
                for (int r = 0; r < n; r++)
                    *out++ = word_at(k, row + r, i);
        }
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
    if (k->whole && k->group > 0)
        fill_blocks(k);
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
    k->x = k->group > 0 ? NULL : mem_vector((size_t)k->words * INT8_BATCH);
    if (!k->q || !k->scale || !k->sum || !k->start || (!k->x && k->group == 0))
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

enum err_code int8_new_conv(struct int8 **out, const int8_t *q, const float *scale, int rows, int group, const struct int8_window *w, struct err *e)
{
    const int64_t cols = (int64_t)w->channels * w->kh * w->kw;
    struct int8 *k;

    *out = NULL;
    if (cols > INT8_MAX_COLS)
        return err_set(e, ERR_UNSUPPORTED, "an integer kernel has at most %d inputs, not %lld", INT8_MAX_COLS, (long long)cols);
    k = mem_zalloc(1, sizeof *k);
    if (k)
        *k = (struct int8){ .rows = rows, .cols = (int)cols, .words = w->depth * w->kh * w->width, .window = *w, .group = group };
    if (!k || !alloc(k, q, scale)) {
        int8_free(k);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    fill(k);
    cut_tiles(k);
    *out = k;
    return ERR_OK;
}

enum err_code int8_new(struct int8 **out, const int8_t *q, const float *scale, int rows, int cols, struct err *e)
{
    const struct int8_window inputs = int8_window_of(cols, 1, 1);

    return int8_new_conv(out, q, scale, rows, 0, &inputs, e);
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
