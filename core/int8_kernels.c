/* core/int8_kernels.c: the product of an integer kernel (see int8.h): the batch is quantised, multiplied in integers, and scaled back.
 *
 * The integer part stands once, in int8_level.h, and is compiled for each level of vector code; the best is chosen at run time. Sums are exact
 * and the float parts are the same code for all levels, so all give the same bytes. */
#include "core/int8_kernels.h"
#include "core/simd.h"

enum { ROWS = 4, SMALL = 1 << 17 /* words times samples: less is not worth waking the team */ };

/* One batch of at most INT8_BATCH samples. */
struct product {
    const struct int8 *k;
    int n, ld;               /* samples; samples of a row of k->x: padded to 16, but for a single one */
    const float *bias;
    float *y;                /* [rows][stride] */
    size_t stride;
    float s[INT8_BATCH];     /* of each sample */
    int32_t zero[INT8_BATCH];
    int32_t (*sum)[INT8_BATCH]; /* [ROWS], of the tile at hand */
};

SIMD_INLINE int32_t dot_word(uint32_t x, int32_t w)
{
    int32_t sum = 0;

    for (int b = 0; b < 32; b += 8)
        sum += (int32_t)(x >> b & 255) * (int8_t)((uint32_t)w >> b);
    return sum;
}

#define LEVEL_CODE "core/int8_level.h"
#include "core/int8_levels.h"

/* ---- levels ---- */

struct level {
    const char *name;
    bool (*is_there)(void); /* NULL: always */
    int (*sums)(const struct product *p, int row, int last);
    struct int8_floats floats;
};
#if defined(__x86_64__)
static bool has_avx2(void) { return __builtin_cpu_supports("avx2"); }
static bool has_vnni(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif
static const struct level levels[] = {
#if defined(__x86_64__)
    { "avx512_vnni", has_vnni, sums_vnni, { words_vnni, bytes_vnni, join_vnni, roll_vnni, scale_back_vnni } },
    { "avx2", has_avx2, sums_avx2, { words_avx2, bytes_avx2, join_avx2, roll_avx2, scale_back_avx2 } },
#endif
    { "portable", NULL, sums_portable, { words_portable, bytes_portable, join_portable, roll_portable, scale_back_portable } },
};
enum { N_LEVELS = sizeof levels / sizeof levels[0] };
int int8_skip_levels;

static int best_level(void)
{
    int i = 0;

    while (levels[i].is_there && !levels[i].is_there())
        i++;
    return i;
}

int int8_n_levels(void)
{
    return N_LEVELS - best_level();
}

int int8_level(void) { return best_level() + int8_skip_levels; }

const struct int8_floats *int8_floats(void) { return &levels[int8_level()].floats; }

const char *int8_level_name(int level)
{
    return levels[best_level() + level].name;
}

/* ---- float to bytes ---- */

enum { WIDE = 64 };

/* Of WIDE columns, which stay in registers. */
SIMD_INLINE void ranges_wide(const float *x, size_t stride, size_t rows, float *restrict low, float *restrict high)
{
    float small[WIDE], large[WIDE];

    memcpy(small, low, sizeof small);
    memcpy(large, high, sizeof large);
    for (; rows > 0; rows--, x += stride)
        for (int j = 0; j < WIDE; j++) {
            small[j] = x[j] < small[j] ? x[j] : small[j];
            large[j] = x[j] > large[j] ? x[j] : large[j];
        }
    memcpy(low, small, sizeof small);
    memcpy(high, large, sizeof large);
}

SIMD void int8_ranges(const float *x, size_t stride, size_t rows, int n, float *restrict low, float *restrict high)
{
    int first = 0;

    for (; first + WIDE <= n; first += WIDE)
        ranges_wide(x + first, stride, rows, low + first, high + first);
    for (; rows > 0; rows--, x += stride)
        for (int j = first; j < n; j++) {
            low[j] = x[j] < low[j] ? x[j] : low[j];
            high[j] = x[j] > high[j] ? x[j] : high[j];
        }
}

SIMD void int8_scales(const float *restrict low, const float *restrict high, int n, float *restrict s, float *restrict inverse,
                      int32_t *restrict zero)
{
    for (int j = 0; j < n; j++) {
        const float most = low[j] < 0 && -low[j] > high[j] ? -low[j] : high[j], scale = most / (low[j] < 0 ? 127.0f : 255.0f);

        s[j] = scale > 1e-30f ? scale : 1;
        inverse[j] = 1 / s[j];
        zero[j] = low[j] < 0 ? 128 : 0;
    }
}

SIMD bool int8_zeros(uint32_t *restrict out, const int32_t *restrict zero, int n)
{
    int32_t apart = 0;

    for (int j = 0; j < n; j++) {
        out[j] = (uint32_t)zero[j] * 0x01010101u;
        apart |= zero[j] ^ zero[0];
    }
    return apart == 0;
}

/* The range of a single sample, whose numbers lie in a row. */
SIMD static void range_of_one(const float *x, int cols, float *low, float *high)
{
    float small[WIDE] = { 0 }, large[WIDE] = { 0 };
    int c = 0;

    for (; c + WIDE <= cols; c += WIDE)
        for (int j = 0; j < WIDE; j++) {
            small[j] = x[c + j] < small[j] ? x[c + j] : small[j];
            large[j] = x[c + j] > large[j] ? x[c + j] : large[j];
        }
    for (; c < cols; c++) {
        small[0] = x[c] < small[0] ? x[c] : small[0];
        large[0] = x[c] > large[0] ? x[c] : large[0];
    }
    *low = *high = 0;
    for (int j = 0; j < WIDE; j++) {
        *low = small[j] < *low ? small[j] : *low;
        *high = large[j] > *high ? large[j] : *high;
    }
}

SIMD static void bytes_of_one(unsigned char *restrict out, const float *restrict x, int cols, float inv, int zero)
{
    const float high = zero ? 127.0f : 255.0f, low = zero ? -127.0f : 0.0f;

    for (int c = 0; c < cols; c++) {
        float v = x[c] * inv;
        uint32_t bits;

        v = v < low ? low : v;
        v = v > high ? high : v;
        v += 12582912.0f;
        memcpy(&bits, &v, sizeof bits);
        out[c] = (unsigned char)(bits + (uint32_t)zero);
    }
}

static void quantise(struct product *p, const float *x)
{
    const struct int8 *k = p->k;
    const struct int8_floats *floats = int8_floats();
    float low[INT8_BATCH] = { 0 }, high[INT8_BATCH] = { 0 }, inv[INT8_BATCH];
    const bool single = p->ld == 1 && p->stride == 1;

    if (k->input.s == 0 && single)
        range_of_one(x, k->cols, low, high);
    else if (k->input.s == 0)
        int8_ranges(x, p->stride, (size_t)k->cols, p->n, low, high);
    for (int j = 0; j < p->n; j++) {
        const struct int8_scale r = k->input.s == 0 ? int8_scale_of(low[j], high[j]) : k->input;

        p->s[j] = r.s;
        p->zero[j] = r.zero;
        inv[j] = 1 / r.s;
    }
    if (single)
        bytes_of_one((unsigned char *)k->x, x, k->cols, inv[0], p->zero[0]);
    for (int c = 0; !single && c < k->cols; c += 4) {
        const float *in[4];

        for (int b = 0; b < 4; b++)
            in[b] = x + (size_t)(c + b < k->cols ? c + b : c) * p->stride; /* beyond the last one weights are 0 */
        floats->words(k->x + (size_t)(c / 4) * (size_t)p->ld, in, inv, p->zero, p->n);
    }
}

/* ---- the product ---- */

static void product_tile(void *ctx, int tile)
{
    struct product p = *(const struct product *)ctx;
    const struct level *l = &levels[int8_level()];
    int32_t sum[ROWS][INT8_BATCH];

    p.sum = sum;
    for (int row = p.k->tile[tile], last = p.k->tile[tile + 1]; row < last;) {
        int m = l->sums(&p, row, last);

        for (int r = 0; r < m; r++, row++)
            l->floats.scale_back(p.y + (size_t)row * p.stride, sum[r], p.s, p.zero, p.n,
                                 (struct int8_row){ .scale = p.k->scale[row], .bias = p.bias ? p.bias[row] : 0, .of_weights = p.k->sum[row] });
    }
}

void int8_forward(const struct int8 *k, const float *x, const float *bias, float *y, int n, struct team *team)
{
    struct product p = { .k = k, .bias = bias, .stride = (size_t)n };

    for (int at = 0; at < n; at += INT8_BATCH) {
        p.n = n - at < INT8_BATCH ? n - at : INT8_BATCH;
        p.ld = p.n == 1 ? 1 : (p.n + 15) / 16 * 16;
        p.y = y + at;
        quantise(&p, x + at);
        team_for((double)k->n * p.n < SMALL ? NULL : team, k->n_tiles, product_tile, &p);
    }
}
