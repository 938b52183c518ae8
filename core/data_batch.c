/* core/data_batch.c: which samples a job looks at, and mini-batches of them.
 *
 * A batch is transposed to [features][n] in tiles of TILE_F features by TILE_N samples, whose sizes do not depend on the threads. Within a
 * tile 16 samples by 16 features at a time are transposed in registers, then scaled and stored as whole vectors. */
#include <math.h>
#include <string.h>

#include "core/augment.h"
#include "core/data.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/simd.h"

/* ---- views ---- */

static enum err_code view_whole(struct data_view *v, const struct dataset *d, enum data_split_id id, struct err *e)
{
    *v = (struct data_view){ .data = d, .split = &d->split[id], .n = d->split[id].n };
    v->index = mem_alloc((size_t)v->n * sizeof *v->index);
    if (!v->index)
        return err_set(e, ERR_NOMEM, "out of memory");
    for (int i = 0; i < v->n; i++)
        v->index[i] = (uint32_t)i;
    return ERR_OK;
}

struct carve {
    const int32_t *label; /* NULL: one class of all */
    int n, n_classes, take;
    uint64_t seed;
    uint32_t *start;      /* n_classes + 1: where each class begins in sorted */
    uint32_t *quota;      /* n_classes: samples to take */
    uint32_t *rest;       /* n_classes: what rounding down left of it, times n */
    uint32_t *sorted;     /* n: samples by class */
    uint8_t *taken;       /* n */
};

static int class_of(const struct carve *c, int i)
{
    return c->label ? c->label[i] : 0;
}

static void sort_by_class(struct carve *c)
{
    for (int i = 0; i < c->n; i++)
        c->start[class_of(c, i) + 1]++;
    for (int k = 0; k < c->n_classes; k++)
        c->start[k + 1] += c->start[k];
    for (int i = 0; i < c->n; i++)
        c->sorted[c->start[class_of(c, i)]++] = (uint32_t)i;
    for (int k = c->n_classes; k > 0; k--)
        c->start[k] = c->start[k - 1];
    c->start[0] = 0;
}

/* take * (class size) / n each, rounded down; what is left goes to the largest remainders, one each, ties to the lower class. */
static void set_quotas(struct carve *c)
{
    int left = c->take;

    for (int k = 0; k < c->n_classes; k++) {
        uint64_t share = (uint64_t)c->take * (c->start[k + 1] - c->start[k]);

        c->quota[k] = (uint32_t)(share / (uint64_t)c->n);
        c->rest[k] = (uint32_t)(share % (uint64_t)c->n);
        left -= (int)c->quota[k];
    }
    for (; left > 0; left--) {
        int best = 0;

        for (int k = 1; k < c->n_classes; k++)
            if (c->rest[k] > c->rest[best])
                best = k;
        c->quota[best]++;
        c->rest[best] = 0;
    }
}

static void draw(struct carve *c)
{
    for (int k = 0; k < c->n_classes; k++) {
        struct rng r = { .seed = c->seed, .purpose = RNG_SPLIT, .stream = (uint32_t)k };
        uint32_t *first = c->sorted + c->start[k];

        rng_shuffle(&r, first, c->start[k + 1] - c->start[k]);
        for (uint32_t i = 0; i < c->quota[k]; i++)
            c->taken[first[i]] = 1;
    }
}

/* Moves take samples of train into validation. */
static enum err_code carve(struct data_views *v, const struct dataset *d, int take, uint64_t seed, struct err *e)
{
    int n_classes = d->n_classes > 0 ? d->n_classes : 1, n = v->train.n, n_train = 0;
    struct carve c = { d->split[DATA_TRAIN].label, n, n_classes, take, seed, NULL, NULL, NULL, NULL, NULL };
    enum err_code rc = ERR_OK;

    v->validation = (struct data_view){ d, &d->split[DATA_TRAIN], mem_alloc((size_t)take * sizeof(uint32_t)), 0 };
    c.start = mem_zalloc((size_t)n_classes + 1, sizeof *c.start);
    c.quota = mem_zalloc((size_t)n_classes, sizeof *c.quota);
    c.rest = mem_zalloc((size_t)n_classes, sizeof *c.rest);
    c.sorted = mem_zalloc((size_t)n, sizeof *c.sorted);
    c.taken = mem_zalloc((size_t)n, 1);
    if (v->validation.index && c.start && c.quota && c.rest && c.sorted && c.taken) {
        sort_by_class(&c);
        set_quotas(&c);
        draw(&c);
        for (int i = 0; i < n; i++)
            if (c.taken[i])
                v->validation.index[v->validation.n++] = (uint32_t)i;
            else
                v->train.index[n_train++] = (uint32_t)i;
        v->train.n = n_train;
    } else {
        rc = err_set(e, ERR_NOMEM, "out of memory");
    }
    mem_free(c.start);
    mem_free(c.quota);
    mem_free(c.rest);
    mem_free(c.sorted);
    mem_free(c.taken);
    return rc;
}

enum err_code data_views_new(struct data_views *out, const struct dataset *d, double fraction, uint64_t seed, struct err *e)
{
    struct data_views v = { 0 };
    bool given = d->split[DATA_VALIDATION].n > 0;
    double take = given ? 0 : round(fraction * d->split[DATA_TRAIN].n);
    enum err_code rc;

    if (!given && fraction != 0 && !(take >= 1 && take < d->split[DATA_TRAIN].n))
        return err_set(e, ERR_INVALID, "validation takes %.0f of the %d samples of train: both must keep some", take,
                       d->split[DATA_TRAIN].n);
    rc = view_whole(&v.train, d, DATA_TRAIN, e);
    if (rc == ERR_OK)
        rc = view_whole(&v.test, d, DATA_TEST, e);
    if (rc == ERR_OK)
        rc = take > 0 ? carve(&v, d, (int)take, seed, e) : view_whole(&v.validation, d, DATA_VALIDATION, e);
    if (rc == ERR_OK)
        *out = v;
    else
        data_views_free(&v);
    return rc;
}

void data_views_free(struct data_views *v)
{
    mem_free(v->train.index);
    mem_free(v->validation.index);
    mem_free(v->test.index);
    *v = (struct data_views){ 0 };
}

/* ---- mini-batches ---- */

enum { TILE_F = 128, TILE_N = 256, LANES = 16, LINE = 64 /* bytes of a cache line */, SMALL = 1 << 14 /* numbers: below, waking the team costs more than it brings */ };

struct gather {
    const struct data_view *v;
    const uint32_t *order;
    int first, n, tiles_f;
    float *x;
    const struct augment *augment; /* NULL: none */
};

static uint32_t sample_at(const struct data_view *v, const uint32_t *order, int i)
{
    return v->index[order ? order[i] : (uint32_t)i];
}

/* Rows of 16 to columns of 16: four rounds of interleaving a[i] with a[i + 8] put bit k of a place where bit k + 4 was. */
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define TRANSPOSE_ROUND(to, from) \
    for (int i = 0; i < LANES / 2; i++) { \
        to[2 * i] = LOW(from[i], from[i + LANES / 2]); \
        to[2 * i + 1] = HIGH(from[i], from[i + LANES / 2]); \
    }

/* Features of up to TILE_N samples, to rows of x that are ld apart; p has pointers for whole groups of 16, repeating the last sample. All samples pass
 * for each 16 features, are transposed into raw, then scaled and written as whole rows; the next cache line of every sample is on its way
 * meanwhile. */
#define GATHER_TILE(name, type) \
    typedef type name##_row __attribute__((vector_size(LANES * sizeof(type)))); \
    SIMD_INLINE void name##_block(type *raw, const type *const *p, int f, int rows) \
    { \
        name##_row a[LANES], b[LANES]; \
        if (rows < LANES) { \
            for (int i = 0; i < rows; i++) \
                for (int j = 0; j < LANES; j++) \
                    raw[i * TILE_N + j] = p[j][f + i]; \
            return; \
        } \
        for (int j = 0; j < LANES; j++) \
            memcpy(&a[j], p[j] + f, sizeof a[j]); \
        TRANSPOSE_ROUND(b, a) \
        TRANSPOSE_ROUND(a, b) \
        TRANSPOSE_ROUND(b, a) \
        TRANSPOSE_ROUND(a, b) \
        for (int i = 0; i < LANES; i++) \
            memcpy(raw + i * TILE_N, &a[i], sizeof a[i]); \
    } \
    SIMD static void name(float *restrict x, size_t ld, const type *const *p, const float *restrict center, const float *restrict scale, \
                          int n_f, int n) \
    { \
        type raw[LANES * TILE_N]; \
        for (int f = 0; f < n_f; f += LANES) { \
            int rows = n_f - f < LANES ? n_f - f : LANES; \
            for (int j = 0; j < n && f * (int)sizeof(type) % LINE == 0; j++) \
                __builtin_prefetch((const char *)(p[j] + f) + LINE); \
            for (int j = 0; j < n; j += LANES) \
                name##_block(raw + j, p + j, f, rows); \
            for (int i = 0; i < rows; i++) { \
                float *restrict to = x + (size_t)(f + i) * ld, c = center[f + i], s = scale[f + i]; \
                for (int j = 0; j < n; j++) \
                    to[j] = ((float)raw[i * TILE_N + j] - c) * s; \
            } \
        } \
    }
GATHER_TILE(gather_u8, uint8_t)
GATHER_TILE(gather_f32, float)

/* The same where samples are changed: LANES samples a tile, whose changes are drawn once; some features of each are made, scaled, and then transposed as
 * they are. */
static void augmented_tile(void *ctx, int tile)
{
    const struct gather *g = ctx;
    const struct data_split *s = g->v->split;
    const struct dataset *d = g->v->data;
    const int from = tile * LANES, n = g->n - from < LANES ? g->n - from : LANES;
    float made[LANES][TILE_F], zero[TILE_F] = { 0 }, one[TILE_F];
    const float *p[LANES];
    struct augment_pick pick[LANES];
    size_t at[LANES];

    for (int i = 0; i < TILE_F; i++)
        one[i] = 1;
    for (int j = 0; j < LANES; j++) {
        uint32_t sample = sample_at(g->v, g->order, g->first + from + (j < n ? j : n - 1));

        pick[j] = augment_pick(g->augment, sample);
        at[j] = sample * (size_t)d->n_features;
        p[j] = made[j < n ? j : n - 1];
    }
    for (int f = 0; f < d->n_features; f += TILE_F) {
        const int n_f = d->n_features - f < TILE_F ? d->n_features - f : TILE_F;

        for (int j = 0; j < n && s->is_u8; j++)
            augment_u8(made[j], g->augment, pick[j], f, n_f, (const uint8_t *)s->x + at[j], d->center, d->scale);
        for (int j = 0; j < n && !s->is_u8; j++)
            augment_f32(made[j], g->augment, pick[j], f, n_f, (const float *)s->x + at[j], d->center, d->scale);
        gather_f32(g->x + (size_t)f * (size_t)g->n + (size_t)from, (size_t)g->n, p, zero, one, n_f, n);
    }
}

static void gather_tile(void *ctx, int tile)
{
    const struct gather *g = ctx;
    const struct data_split *s = g->v->split;
    const struct dataset *d = g->v->data;
    size_t width = (size_t)d->n_features;
    int f = tile % g->tiles_f * TILE_F, from = tile / g->tiles_f * TILE_N;
    int n_f = d->n_features - f < TILE_F ? d->n_features - f : TILE_F, n = g->n - from < TILE_N ? g->n - from : TILE_N;
    float *x = g->x + (size_t)f * (size_t)g->n + (size_t)from;
    const uint8_t *u8[TILE_N];
    const float *f32[TILE_N];

    for (int j = 0; j < (n + LANES - 1) / LANES * LANES; j++) {
        size_t at = sample_at(g->v, g->order, g->first + from + (j < n ? j : n - 1)) * width + (size_t)f;

        if (s->is_u8)
            __builtin_prefetch(u8[j] = (const uint8_t *)s->x + at);
        else
            __builtin_prefetch(f32[j] = (const float *)s->x + at);
    }
    if (s->is_u8)
        gather_u8(x, (size_t)g->n, u8, d->center + f, d->scale + f, n_f, n);
    else
        gather_f32(x, (size_t)g->n, f32, d->center + f, d->scale + f, n_f, n);
}

void data_gather(const struct data_view *v, const uint32_t *order, int first, int n, const struct data_batch *out, struct team *team)
{
    data_gather_augmented(v, order, first, n, out, NULL, team);
}

void data_gather_augmented(const struct data_view *v, const uint32_t *order, int first, int n, const struct data_batch *out,
                           const struct augment *a, struct team *team)
{
    struct gather g = { v, order, first, n, (v->data->n_features + TILE_F - 1) / TILE_F, out->x, a && a->h > 0 ? a : NULL };
    size_t width = (size_t)v->data->n_target;

    team = (size_t)v->data->n_features * (size_t)n < SMALL ? NULL : team;
    if (g.augment)
        team_for(team, (n + LANES - 1) / LANES, augmented_tile, &g);
    else
        team_for(team, g.tiles_f * ((n + TILE_N - 1) / TILE_N), gather_tile, &g);
    for (int i = 0; i < n; i++) {
        uint32_t at = sample_at(v, order, first + i);

        if (v->split->label)
            out->label[i] = v->split->label[at];
        for (size_t t = 0; v->split->target && t < width; t++)
            out->target[t * (size_t)n + (size_t)i] = v->split->target[at * width + t];
    }
}
