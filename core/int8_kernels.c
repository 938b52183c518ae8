/* core/int8_kernels.c: the product of an integer kernel (see int8.h): the batch is quantised, multiplied in integers, and scaled back.
 *
 * The integer part stands once, in int8_level.h, and is compiled for each level of vector code; the best is chosen at run time. Sums are exact
 * and the float parts are the same code for all levels, so all give the same bytes. AVX2 has no exact product of bytes (vpmaddubsw saturates): it widens
 * them to 16 bits, even and odd ones apart. */
#include "core/int8.h"
#include "core/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

#if defined(__x86_64__)
#define LANES 16
#define LEVEL(name) name##_vnni
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define VECTOR __m512i
#define WEIGHTS __m512i
#define LOAD(p) _mm512_loadu_si512(p)
#define STORE(p, v) _mm512_storeu_si512(p, v)
#define ALL(w) _mm512_set1_epi32(w)
#define READY(v) (v)
#define DOT(sum, x, w) _mm512_dpbusd_epi32(sum, x, w)
#define GATHER(x, at) _mm512_i32gather_epi32(_mm512_loadu_si512(at), x, 4)
#include "core/int8_level.h"

struct pairs { __m256i even, odd; };
#define LANES 8
#define LEVEL(name) name##_avx2
#define TARGET __attribute__((target("avx2")))
#define VECTOR __m256i
#define WEIGHTS struct pairs
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define ALL(w) _mm256_set1_epi32(w)
#define READY(v) ready_avx2(v)
#define DOT(sum, x, w) add4_avx2(sum, x, w)
#define GATHER(x, at) _mm256_i32gather_epi32((const int *)(const void *)(x), LOAD(at), 4)
TARGET SIMD_INLINE struct pairs ready_avx2(__m256i w)
{
    return (struct pairs){ _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(w, 8) };
}
TARGET SIMD_INLINE __m256i add4_avx2(__m256i sum, __m256i x, struct pairs w)
{
    __m256i even = _mm256_and_si256(x, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(x, 8);

    return _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(even, w.even), _mm256_madd_epi16(odd, w.odd)));
}
#include "core/int8_level.h"

static bool has_avx2(void) { return __builtin_cpu_supports("avx2"); }
static bool has_vnni(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif

typedef int32_t lanes4 __attribute__((vector_size(16)));
typedef int32_t packed4 __attribute__((vector_size(16), aligned(4), may_alias)); /* in memory */
struct bytes4 { lanes4 b[4]; };
#define LANES 4
#define LEVEL(name) name##_portable
#define TARGET
#define VECTOR lanes4
#define WEIGHTS struct bytes4
#define LOAD(p) ((lanes4)*(const packed4 *)(const void *)(p))
#define STORE(p, v) (*(packed4 *)(void *)(p) = (v))
#define ALL(w) ((lanes4){ 0 } + (w))
#define READY(v) ready_portable(v)
#define DOT(sum, x, w) add4_portable(sum, x, w)
#define GATHER(x, at) ((lanes4){ (int32_t)(x)[(at)[0]], (int32_t)(x)[(at)[1]], (int32_t)(x)[(at)[2]], (int32_t)(x)[(at)[3]] })
SIMD_INLINE struct bytes4 ready_portable(lanes4 w)
{
    typedef uint32_t bits4 __attribute__((vector_size(16)));
    const bits4 u = (bits4)w;

    return (struct bytes4){ { (lanes4)(u << 24) >> 24, (lanes4)(u << 16) >> 24, (lanes4)(u << 8) >> 24, w >> 24 } };
}
SIMD_INLINE lanes4 add4_portable(lanes4 sum, lanes4 x, struct bytes4 w)
{
    return sum + (x & 255) * w.b[0] + (x >> 8 & 255) * w.b[1] + (x >> 16 & 255) * w.b[2] + (x >> 24 & 255) * w.b[3];
}
#include "core/int8_level.h"

/* ---- levels ---- */

struct level {
    const char *name;
    bool (*is_there)(void); /* NULL: always */
    int (*sums)(const struct product *p, int row, int last);
};
static const struct level levels[] = {
#if defined(__x86_64__)
    { "avx512_vnni", has_vnni, sums_vnni },
    { "avx2", has_avx2, sums_avx2 },
#endif
    { "portable", NULL, sums_portable },
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

const char *int8_level_name(int level)
{
    return levels[best_level() + level].name;
}

/* ---- float to bytes ---- */

/* Smallest and largest number of each sample, and 0. */
SIMD static void ranges(const float *x, size_t stride, int cols, int n, float *restrict low, float *restrict high)
{
    for (int j = 0; j < n; j++)
        low[j] = high[j] = 0;
    for (int c = 0; c < cols; c++, x += stride)
        for (int j = 0; j < n; j++) {
            low[j] = x[j] < low[j] ? x[j] : low[j];
            high[j] = x[j] > high[j] ? x[j] : high[j];
        }
}

/* Adds byte number b to the words of one row: x times inv, rounded to the nearest, ties to even. */
SIMD static void add_bytes(uint32_t *restrict out, const float *restrict x, const float *restrict inv, const int32_t *restrict zero, int n, int b)
{
    for (int j = 0; j < n; j++) {
        float high = zero[j] ? 127.0f : 255.0f, low = zero[j] ? -127.0f : 0.0f, v = x[j] * inv[j];
        uint32_t bits;

        v = v < low ? low : v;
        v = v > high ? high : v;
        v += 12582912.0f; /* 1.5 * 2^23: the integer is left in the low bits */
        memcpy(&bits, &v, sizeof bits);
        bits = ((bits + (uint32_t)zero[j]) & 255) << 8 * b;
        out[j] = b > 0 ? out[j] | bits : bits;
    }
}

/* The same of a single sample, whose numbers lie in a row. */
SIMD static void range_of_one(const float *x, int cols, float *low, float *high)
{
    enum { WIDE = 32 };
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
    float low[INT8_BATCH], high[INT8_BATCH], inv[INT8_BATCH];
    const bool single = p->ld == 1 && p->stride == 1;

    if (k->input.s == 0 && single)
        range_of_one(x, k->cols, low, high);
    else if (k->input.s == 0)
        ranges(x, p->stride, k->cols, p->n, low, high);
    for (int j = 0; j < p->n; j++) {
        const struct int8_scale r = k->input.s == 0 ? int8_scale_of(low[j], high[j]) : k->input;

        p->s[j] = r.s;
        p->zero[j] = r.zero;
        inv[j] = 1 / r.s;
    }
    if (single)
        bytes_of_one((unsigned char *)k->x, x, k->cols, inv[0], p->zero[0]);
    for (int c = 0; !single && c < k->cols; c++)
        add_bytes(k->x + (size_t)(c / 4) * (size_t)p->ld, x + (size_t)c * p->stride, inv, p->zero, p->n, c % 4);
}

/* ---- bytes to float ---- */

SIMD static void scale_back(float *restrict y, const int32_t *restrict sum, const float *restrict s, const int32_t *restrict zero, int n,
                            float scale, int32_t of_weights, float bias)
{
    for (int j = 0; j < n; j++) {
        int32_t v = (int32_t)((uint32_t)sum[j] - (uint32_t)zero[j] * (uint32_t)of_weights);

        y[j] = (float)v * (s[j] * scale) + bias;
    }
}

static void product_tile(void *ctx, int tile)
{
    struct product p = *(const struct product *)ctx;
    const struct level *l = &levels[best_level() + int8_skip_levels];
    int32_t sum[ROWS][INT8_BATCH];

    p.sum = sum;
    for (int row = p.k->tile[tile], last = p.k->tile[tile + 1]; row < last;) {
        int m = l->sums(&p, row, last);

        for (int r = 0; r < m; r++, row++)
            scale_back(p.y + (size_t)row * p.stride, sum[r], p.s, p.zero, p.n, p.k->scale[row], p.k->sum[row], p.bias ? p.bias[row] : 0);
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
