/* Packed files: any net comes back with the same bits, and the same file; how small they are; every truncation and any flipped byte is refused or
 * harmless; nothing stays when memory or disk is short. */
#include "core/packed.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "core/half.h"
#include "core/mem.h"
#include "core/rng.h"
#include "tests/suite.h"

#define SURE(holds, ...) do { if (!(holds)) ck_abort_msg(__VA_ARGS__); } while (0)
static const char *const models[] = { "mlp_keras2", "mlp_keras3", "residual_keras2", "residual_keras3", "layers_keras3",
                                      "residual_image_keras3", "mobile_keras2", "sequence_keras3" };
enum { N_MODELS = sizeof models / sizeof models[0] };

static struct model open_model(const char *name)
{
    char path[300];
    struct model m;
    struct err e = { 0 };
    json_t *doc;

    snprintf(path, sizeof path, SOURCE_DIR "/tests/data/keras/%s.json", name);
    doc = json_load_file(path, 0, NULL);
    ck_assert_msg(doc && keras_read(&m, doc, &e) == ERR_OK, "%s: %s", name, e.msg);
    json_decref(doc);
    return m;
}

static bool pack(struct packed *out, const struct model *m, json_t *arrays)
{
    struct err e = { 0 };

    SURE(packed_make(out, m, arrays, &e) == ERR_OK, "%s", e.msg);
    return packed_is(out->data, out->n);
}

/* ---- what weights may be like ---- */

static float draw(const struct rng *r, size_t i) { return (float)rng_normal(r, i); }
static float thin(const struct rng *r, size_t i) { return rng_unit(r, 2 * i) < 0.05 ? (float)rng_normal(r, 2 * i + 1) : 0; }
static float codes(const struct rng *r, size_t i) { return rng_unit(r, 2 * i) < 0.3 ? 0.1f * (float)(rng_below(r, 2 * i + 1, 30) + 1) : 0; }
static float halves(const struct rng *r, size_t i) { return half_to_float(half_of_float((float)rng_normal(r, i))); }
static float zeros(const struct rng *r, size_t i) { return (void)r, (void)i, 0.0f; }
static float negative_zeros(const struct rng *r, size_t i) { return rng_unit(r, i) < 0.5 ? -0.0f : 0.0f; }
static float constants(const struct rng *r, size_t i) { return (void)r, (void)i, 0.7f; }
static float extremes(const struct rng *r, size_t i)
{
    static const float x[] = { 1e-45f, -1e-40f, 3.4e38f, -3.4e38f, 65504, 65520, 6e-8f, 0 };

    return x[rng_below(r, i, 8)];
}
static const struct kind { const char *name; float (*draw)(const struct rng *r, size_t i); bool int8; } kinds[] = {
    { "random", draw, false }, { "thin", thin, false }, { "codes", codes, false }, { "halves", halves, false }, { "zeros", zeros, false },
    { "negative zeros", negative_zeros, false }, { "constants", constants, false }, { "extremes", extremes, false },
    { "int8", draw, true }, { "thin int8", thin, true }, { "no int8", zeros, true }
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static void quantise(struct net *net, struct weight *w, int seed)
{
    const int rows = w->info.shape.d[0], cols = (int)(w->len / (size_t)rows);
    int8_t *q = mem_alloc(w->len);
    float *scale = mem_vector((size_t)rows);

    for (int r = 0; r < rows; r++) {
        scale[r] = int8_row_scale(w->x + r * cols, cols);
        int8_row(q + r * cols, w->x + r * cols, scale[r], cols);
    }
    ck_assert_int_eq(net_set_int8(net, w, q, scale, seed % 2 ? (struct int8_scale){ 0.25f, 128 } : (struct int8_scale){ 0, 0 }, NULL), ERR_OK);
    mem_free(q);
    mem_free(scale);
}

static void fill(struct net *net, const struct kind *kind, int seed)
{
    for (int w = 0; w < net->n_weights; w++) {
        const struct rng r = { (uint64_t)seed, RNG_TEST, (uint32_t)w, 0 };

        for (size_t i = 0; i < net->weight[w].len; i++)
            net->weight[w].x[i] = kind->draw(&r, i);
        if (kind->int8 && net_can_int8(net, &net->weight[w]))
            quantise(net, &net->weight[w], seed + w);
    }
}

static void same_model(const struct model *a, const struct model *b, const char *what)
{
    ck_assert(json_equal(a->architecture, b->architecture) && a->net->n_weights == b->net->n_weights && b->net->trained);
    for (int i = 0; i < a->net->n_weights; i++) {
        const struct weight *x = &a->net->weight[i], *y = &b->net->weight[i];

        SURE(strcmp(x->name, y->name) == 0 && memcmp(x->x, y->x, x->len * sizeof(float)) == 0, "%s: %s differs", what, x->name);
        SURE((x->int8 == NULL) == (y->int8 == NULL), "%s: %s is int8 on one side", what, x->name);
        SURE(!x->int8 || (memcmp(x->int8->q, y->int8->q, x->len) == 0 && x->int8->input.s == y->int8->input.s &&
                          x->int8->input.zero == y->int8->input.zero &&
                          memcmp(x->int8->scale, y->int8->scale, (size_t)x->int8->rows * sizeof(float)) == 0), "%s: integers of %s", what, x->name);
    }
}

START_TEST(comes_back_with_the_same_bits)
{
    for (int k = 0; k < N_KINDS; k++)
        for (int seed = 1; seed < 4; seed++) {
            struct model m = open_model(models[_i]), back;
            struct packed p, again;
            struct err e = { 0 };

            fill(m.net, &kinds[k], seed);
            ck_assert(pack(&p, &m, NULL));
            SURE(packed_read(&back, p.data, p.n, &e) == ERR_OK, "%s, %s: %s", models[_i], kinds[k].name, e.msg);
            same_model(&m, &back, kinds[k].name);
            ck_assert(pack(&again, &back, NULL));
            SURE(again.n == p.n && memcmp(again.data, p.data, p.n) == 0, "%s, %s: another file", models[_i], kinds[k].name);
            packed_clear(&p);
            packed_clear(&again);
            model_clear(&m);
            model_clear(&back);
        }
}
END_TEST

/* Half precision both ways, over all its numbers and what lies between two of them. */
START_TEST(half_precision)
{
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float a = half_to_float((uint16_t)h), b = half_to_float((uint16_t)(h + 1)), middle = (a + b) / 2;

        SURE(half_of_float(a) == h && half_of_float(-a) == (h | 0x8000), "%x", (unsigned)h);
        SURE(half_of_float(nextafterf(middle, 0)) == h && half_of_float(nextafterf(middle, 1e9f)) == h + 1, "beside %x", (unsigned)h);
        SURE(half_of_float(middle) == (h % 2 ? h + 1 : h), "a tie at %x", (unsigned)h);
    }
    ck_assert(half_of_float(1e30f) == 0x7bff && half_of_float(-65520) == 0xfbff && half_of_float(1e-30f) == 0);
}
END_TEST

static const char *text(const json_t *j, const char *key) { return json_string_value(json_object_get(j, key)); }

/* Each array in the smallest way; close to the entropy of what is in it. */
START_TEST(sizes)
{
    static const struct { int kind; const char *values; double most; /* bytes per number of a kernel */ } want[] = {
        { 0, "float32", 3.9 }, { 1, "float32", 0.24 }, { 3, "float16", 1.95 }, { 2, "codebook", 0.34 }, { 8, "int8", 0.97 },
        { 9, "int8", 0.095 }, { 4, "codebook", 0.002 } };
    struct model m = open_model("lenet_300_100_keras3");

    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        json_t *arrays = json_array();
        struct packed p;

        for (int w = 0; w < m.net->n_weights; w++) {
            int8_free(m.net->weight[w].int8);
            m.net->weight[w].int8 = NULL;
        }
        fill(m.net, &kinds[want[i].kind], 1);
        ck_assert(pack(&p, &m, arrays));
        ck_assert_uint_eq(json_array_size(arrays), (size_t)m.net->n_weights);
        if (want[i].kind != 4)
            ck_assert_str_eq(text(json_array_get(arrays, 0), "values"), want[i].values);
        SURE((double)p.n < want[i].most * 266200 + 4600, "%s: %zu bytes", kinds[want[i].kind].name, p.n);
        packed_clear(&p);
        json_decref(arrays);
    }
    model_clear(&m);
}
END_TEST

/* ---- hostile files ---- */

static enum err_code read_exact(const unsigned char *data, size_t n, const struct model *want, struct err *e)
{
    unsigned char *exact = malloc(n ? n : 1); /* so that a sanitizer sees every step over its end */
    struct model m;
    enum err_code rc;

    memcpy(exact, data, n);
    rc = packed_read(&m, exact, n, e);
    if (rc == ERR_OK && want)
        same_model(want, &m, "damaged");
    if (rc == ERR_OK)
        model_clear(&m);
    free(exact);
    return rc;
}

static struct packed small(bool int8)
{
    struct model m = open_model("mlp_keras3");
    struct packed p;

    fill(m.net, &kinds[int8 ? 9 : 2], 5);
    ck_assert(pack(&p, &m, NULL));
    model_clear(&m);
    return p;
}

START_TEST(every_truncation_is_refused)
{
    struct packed p = small(_i);
    unsigned char *longer = malloc(p.n + 1);

    for (size_t n = 0; n < p.n; n += n < 64 ? 1 : 7) {
        struct err e = { 0 };

        SURE(read_exact(p.data, n, NULL, &e) == ERR_SYNTAX && e.msg[0], "%zu bytes", n);
    }
    memcpy(longer, p.data, p.n);
    longer[p.n] = 0;
    ck_assert_int_eq(read_exact(longer, p.n + 1, NULL, NULL), ERR_SYNTAX);
    free(longer);
    packed_clear(&p);
}
END_TEST

/* A few bits of a frame mean nothing: without them the model is the same. */
START_TEST(every_flipped_byte_is_refused)
{
    struct packed p = small(_i);
    struct model want;
    int harmless = 0;

    ck_assert_int_eq(packed_read(&want, p.data, p.n, NULL), ERR_OK);

    for (size_t i = 0; i < p.n; i++) {
        struct err e = { 0 };

        p.data[i] = (unsigned char)(p.data[i] ^ 1 << i % 8);
        harmless += read_exact(p.data, p.n, &want, &e) == ERR_OK;
        ck_assert(e.code == ERR_OK || e.msg[0]);
        p.data[i] = (unsigned char)(p.data[i] ^ 1 << i % 8);
    }
    ck_assert_int_lt(harmless, (int)p.n / 20);
    model_clear(&want);
    packed_clear(&p);
}
END_TEST

START_TEST(lengths_alone_cost_nothing)
{
    unsigned char bomb[28] = "ESPACKED\1\0\0\0\377\377\377\377\10\0\0\0";
    struct err e = { 0 };

    ck_assert_int_eq(read_exact(bomb, sizeof bomb, NULL, &e), ERR_SYNTAX);
    bomb[14] = 0x3f, bomb[15] = 0;
    ck_assert_int_eq(read_exact(bomb, sizeof bomb, NULL, &e), ERR_SYNTAX);
}
END_TEST

/* ---- failures ---- */

START_TEST(survives_every_failure)
{
    struct model m = open_model("mlp_keras3");
    char path[64];
    bool fired = true;

    fill(m.net, &kinds[_i ? 9 : 1], 5);
    for (long k = 1; fired; k++) {
        struct packed p = { 0 };
        struct model back = { 0 };
        enum err_code rc;

        mem_fail_in = k;
        rc = packed_make(&p, &m, NULL, NULL);
        if (rc == ERR_OK)
            rc = packed_read(&back, p.data, p.n, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert(rc == ERR_OK || fired); /* Jansson alone may pass a failed allocation in silence */
        packed_clear(&p);
        model_clear(&back);
    }
    snprintf(path, sizeof path, "/tmp/espalier-packed-%ld", (long)getpid());
    fired = true;
    for (long k = 1; fired; k++) {
        struct file_out *f = NULL;
        enum err_code rc;

        file_fail_in = k;
        rc = file_out_new(&f, path, NULL);
        if (rc == ERR_OK)
            rc = packed_write(&m, f, NULL);
        if (rc == ERR_OK)
            rc = file_out_publish(f, NULL, NULL);
        fired = file_fail_in == 0;
        file_fail_in = 0;
        file_out_free(f);
        ck_assert(rc == (fired ? ERR_NO_SPACE : ERR_OK));
        ck_assert_int_eq(access(path, F_OK) == 0, !fired);
    }
    unlink(path);
    model_clear(&m);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "packed");

    tcase_add_loop_test(tc, comes_back_with_the_same_bits, 0, N_MODELS);
    tcase_add_test(tc, half_precision);
    tcase_add_test(tc, sizes);
    tcase_add_loop_test(tc, every_truncation_is_refused, 0, 2);
    tcase_add_loop_test(tc, every_flipped_byte_is_refused, 0, 2);
    tcase_add_test(tc, lengths_alone_cost_nothing);
    tcase_add_loop_test(tc, survives_every_failure, 0, 2);
}
SUITE_MAIN("packed", cases)
