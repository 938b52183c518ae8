/* core/sparse_single.c: a sparse kernel for one sample at a time (see sparse.h).
 *
 * With one column there are no vectors of the batch, and gathering an input for each kept number is as slow here as loading them one by one. So SLICE rows
 * run side by side, a row in each lane, and go through the inputs step by step: a step looks at a window of two vectors of inputs, which are loaded
 * whole, and picks from them, by one shuffle, the input that each row needs next. The window begins where the row that is furthest behind goes on; a row whose
 * next number lies beyond waits. Kept numbers of a slice are spread alike, so most lanes work in most steps; a kernel where they do not is left as it is.
 * The shuffle of two vectors is AVX-512's: other processors go without. */
#include <string.h>

#include "core/mem.h"
#include "core/simd.h"
#include "core/sparse.h"

#if defined(SIMD_X86_LEVELS)
#include <immintrin.h>
#define CAN_SHUFFLE (simd_best_level() == 0)
#else
#define CAN_SHUFFLE false
#endif

enum { SLICE = 16, WINDOW = 32, USED = 128 /* bit of a pick whose lane works */, MOST_SLOTS = 4 /* lanes for each kept number */ };

struct sparse_single {
    int n_slices;
    uint32_t *first;  /* [n_slices + 1] steps */
    uint32_t *window; /* [steps] first input */
    uint8_t *pick;    /* [steps][SLICE] which input of the window, and USED; 0: none */
    float *value;     /* [steps][SLICE] */
};

void sparse_single_drop(struct sparse *s)
{
    if (!s->single)
        return;
    mem_free(s->single->first);
    mem_free(s->single->window);
    mem_free(s->single->pick);
    mem_free(s->single->value);
    mem_free(s->single);
    s->single = NULL;
}

/* Steps of the slice that begins with a row; written where out has arrays. */
static uint32_t fill_slice(const struct sparse *s, int row, struct sparse_single *out, uint32_t step)
{
    const uint32_t *across = s->by_row.across;
    uint32_t at[SLICE], end[SLICE];

    for (int i = 0; i < SLICE; i++) {
        at[i] = (uint32_t)sparse_first(s, row + i < s->rows ? row + i : s->rows);
        end[i] = (uint32_t)sparse_first(s, row + i < s->rows ? row + i + 1 : s->rows);
    }
    for (;; step++) {
        uint32_t from = UINT32_MAX, last = (uint32_t)s->cols - WINDOW;

        for (int i = 0; i < SLICE; i++)
            if (at[i] < end[i] && across[at[i]] < from)
                from = across[at[i]];
        if (from == UINT32_MAX)
            return step;
        from = from / SLICE * SLICE; /* whole lines of the cache */
        from = from < last ? from : last;
        if (out->window)
            out->window[step] = from;
        for (int i = 0; i < SLICE; i++) {
            bool works = at[i] < end[i] && across[at[i]] < from + WINDOW;
            size_t slot = (size_t)step * SLICE + (size_t)i;

            if (out->window) {
                out->pick[slot] = works ? (uint8_t)(USED | (across[at[i]] - from)) : 0;
                out->value[slot] = works ? s->value[at[i]] : 0;
            }
            at[i] += works;
        }
    }
}

static uint32_t fill(const struct sparse *s, struct sparse_single *out)
{
    uint32_t steps = 0;

    for (int i = 0; i < out->n_slices; i++) {
        if (out->first)
            out->first[i] = steps;
        steps = fill_slice(s, i * SLICE, out, steps);
    }
    if (out->first)
        out->first[out->n_slices] = steps;
    return steps;
}

enum err_code sparse_single_make(struct sparse *s, struct err *e)
{
    struct sparse_single made = { .n_slices = (s->rows + SLICE - 1) / SLICE };
    size_t steps;

    sparse_single_drop(s);
    if (!CAN_SHUFFLE || s->cols < WINDOW || s->n == 0)
        return ERR_OK;
    steps = fill(s, &made);
    if (steps * SLICE > MOST_SLOTS * s->n)
        return ERR_OK;
    s->single = mem_zalloc(1, sizeof *s->single);
    if (s->single) {
        s->single->n_slices = made.n_slices;
        s->single->first = mem_alloc(((size_t)made.n_slices + 1) * sizeof *made.first);
        s->single->window = mem_alloc(steps * sizeof *made.window);
        s->single->pick = mem_alloc(steps * SLICE);
        s->single->value = mem_vector(steps * SLICE);
    }
    if (!s->single || !s->single->first || !s->single->window || !s->single->pick || !s->single->value) {
        sparse_single_drop(s);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    fill(s, s->single);
    return ERR_OK;
}

#if defined(SIMD_X86_LEVELS)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))

TARGET SIMD_INLINE __m512 add_step(const struct sparse_single *p, uint32_t step, const float *x, __m512 sum)
{
    const __m128i pick = _mm_loadu_si128((const __m128i *)(const void *)(p->pick + (size_t)step * SLICE));
    const float *window = x + p->window[step];
    const __m512 in = _mm512_maskz_permutex2var_ps(_mm_movepi8_mask(pick), _mm512_loadu_ps(window), _mm512_cvtepu8_epi32(pick),
                                                   _mm512_loadu_ps(window + SLICE));

    return _mm512_fmadd_ps(in, _mm512_load_ps(p->value + (size_t)step * SLICE), sum);
}

/* Four sums in turn: none waits for the one before. */
TARGET static void run_slices(const struct sparse *s, const float *x, const float *bias, float *y)
{
    const struct sparse_single *p = s->single;

    for (int i = 0; i < p->n_slices; i++) {
        const int row = i * SLICE, n = s->rows - row < SLICE ? s->rows - row : SLICE;
        const __mmask16 rows = (__mmask16)((1U << n) - 1);
        uint32_t k = p->first[i], end = p->first[i + 1];
        __m512 a = bias ? _mm512_maskz_loadu_ps(rows, bias + row) : _mm512_setzero_ps(), b = _mm512_setzero_ps(), c = b, d = b;

        for (; k + 4 <= end; k += 4) {
            a = add_step(p, k, x, a);
            b = add_step(p, k + 1, x, b);
            c = add_step(p, k + 2, x, c);
            d = add_step(p, k + 3, x, d);
        }
        for (; k < end; k++)
            a = add_step(p, k, x, a);
        _mm512_mask_storeu_ps(y + row, rows, _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
    }
}
#endif

bool sparse_single_forward(const struct sparse *s, const float *x, const float *bias, float *y)
{
#if defined(SIMD_X86_LEVELS)
    if (s->single)
        run_slices(s, x, bias, y);
#endif
    (void)x, (void)bias, (void)y;
    return s->single != NULL;
}
