/* core/augment.c: see augment.h. */
#include "core/augment.h"

#include <string.h>

#include "core/rng.h"
#include "core/simd.h"

const struct param augment_params[] = {
    FIELD_CHOICE(struct augment_conf, flip, "none|horizontal|vertical|both", FLIP_NONE, "Mirrors every other image, left and right or top and bottom."),
    FIELD_INT(struct augment_conf, shift, 0, 1024, 0, "Moves each image by up to so many pixels in either direction, zeros come in."),
    FIELD_INT(struct augment_conf, cutout, 0, 1024, 0, "Side of a square of zeros in each image, in pixels; 0: none."), FIELD_END
};

static bool is_planes(const struct augment_samples *s) { return s->channels_first && s->shape.n_d == 3; }

enum err_code augment_bind(struct augment *out, const struct augment_conf *conf, const struct augment_samples *data,
                           const struct augment_samples *input, struct err *e)
{
    const bool data_says = !is_planes(input) && (data->shape.n_d == 2 || data->shape.n_d == 3), planes = is_planes(data_says ? data : input);
    const struct shape *s = data_says ? &data->shape : &input->shape;
    int64_t side;
    char text[96];

    *out = (struct augment){ .conf = *conf };
    if (conf->flip == FLIP_NONE && conf->shift == 0 && conf->cutout == 0)
        return ERR_OK;
    if (s->n_d != 2 && s->n_d != 3)
        return err_set(e, ERR_INVALID, "changes images of shape (height, width, channels), but the model takes samples of shape %s",
                       shape_text(&input->shape, text, sizeof text));
    out->planes = planes ? s->d[0] : 1;
    out->h = s->d[planes];
    out->w = s->d[planes + 1];
    out->c = s->n_d == 3 && !planes ? s->d[2] : 1;
    side = out->h < out->w ? out->h : out->w;
    if (conf->shift >= side)
        return err_field(e, ERR_INVALID, "/shift", "must be below the images' height and width, %s", shape_text(s, text, sizeof text));
    if (conf->cutout > side)
        return err_field(e, ERR_INVALID, "/cutout", "must not be above the images' height and width, %s", shape_text(s, text, sizeof text));
    return ERR_OK;
}

/* 0 .. n-1; the bias is below n / 2^32. */
static int below(uint32_t random, int64_t n)
{
    return (int)((uint64_t)random * (uint64_t)n >> 32);
}

struct augment_pick augment_pick(const struct augment *a, uint32_t sample)
{
    struct rng r = { .seed = a->seed, .purpose = RNG_AUGMENT, .stream = a->phase, .step = a->epoch };
    int64_t shifts = 2 * a->conf.shift + 1, half = a->conf.cutout / 2;
    uint32_t out[4];
    int centre;

    rng_block(out, &r, sample);
    centre = below(out[3], (int64_t)a->h * a->w);
    return (struct augment_pick){
        .flip_x = (a->conf.flip & FLIP_HORIZONTAL) && out[0] >> 31, .flip_y = (a->conf.flip & FLIP_VERTICAL) && (out[0] >> 30 & 1),
        .dx = below(out[1], shifts) - (int)a->conf.shift, .dy = below(out[2], shifts) - (int)a->conf.shift,
        .cut_x = centre % a->w - (int)half, .cut_y = centre / a->w - (int)half
    };
}

static int clamp(int x, int low, int high)
{
    return x < low ? low : x > high ? high : x;
}

/* Numbers at .. at+n-1 of row y of the output. A row that is not mirrored is one run of the input, with zeros around it. */
#define AUGMENT(name, type) \
    SIMD static void name##_run(float *restrict to, const type *restrict x, const float *restrict center, const float *restrict scale, int n) \
    { \
        for (int i = 0; i < n; i++) \
            to[i] = ((float)x[i] - center[i]) * scale[i]; \
    } \
    static void name##_row(float *to, const struct augment *a, struct augment_pick p, int y, int at, int n, const type *x, const float *center, \
                           const float *scale) \
    { \
        int width = a->w * a->c, from = p.flip_y ? a->h - 1 - (y + p.dy) : y + p.dy, side = (int)a->conf.cutout; \
        int first = clamp(-p.dx * a->c, at, at + n), last = clamp((a->w - p.dx) * a->c, at, at + n); \
        ptrdiff_t row = (ptrdiff_t)from * width; \
        memset(to, 0, (size_t)n * sizeof *to); \
        if (from < 0 || from >= a->h) \
            return; \
        if (!p.flip_x && first < last) { \
            ptrdiff_t in = row + first + p.dx * a->c; \
            name##_run(to + (first - at), x + in, center + in, scale + in, last - first); \
        } \
        if (p.flip_x && first < last) { /* pixels from the end, the channels of each in their order */ \
            int c = first % a->c; \
            ptrdiff_t in = row + (ptrdiff_t)(a->w - 1 - (first / a->c + p.dx)) * a->c + c; \
            for (int i = first; i < last; i++) { \
                to[i - at] = ((float)x[in] - center[in]) * scale[in]; \
                in++; \
                if (++c == a->c) { \
                    c = 0; \
                    in -= 2 * a->c; \
                } \
            } \
        } \
        if (y >= p.cut_y && y < p.cut_y + side) { \
            first = clamp(p.cut_x * a->c, at, at + n); \
            last = clamp((p.cut_x + side) * a->c, at, at + n); \
            memset(to + (first - at), 0, (size_t)(last - first) * sizeof *to); \
        } \
    } \
    void name(float *to, const struct augment *a, struct augment_pick p, int f, int n, const type *x, const float *center, const float *scale) \
    { \
        int width = a->w * a->c; \
        for (int done = 0, len; done < n; done += len) { \
            int at = (f + done) % width, row = (f + done) / width, plane = row / a->h * a->h * width; \
            len = width - at < n - done ? width - at : n - done; \
            name##_row(to + done, a, p, row % a->h, at, len, x + plane, center + plane, scale + plane); \
        } \
    }
AUGMENT(augment_u8, uint8_t)
AUGMENT(augment_f32, float)
