/* Models as one JSON document, and weights by Keras' names: bit-exact round trips, golden numbers of numpy, every refusal by its
 * pointer, every truncation, and the memory that reading takes. */
#include "core/model.h"

#include <locale.h>
#include <malloc.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"
#include "tests/suite.h"

#define EXAMPLES SOURCE_DIR "/tests/data/keras/"

static char path[64];

static void scratch(void)
{
    snprintf(path, sizeof path, "/tmp/espalier-doc-%ld", (long)getpid());
}

static struct file_map map_file(const char *name)
{
    struct file_map m;

    ck_assert_msg(file_map_open(&m, name, NULL) == ERR_OK, "%s", name);
    return m;
}

static struct model read_example(const char *name)
{
    char file[256];
    struct file_map map;
    struct model m;
    struct err e = { 0 };

    snprintf(file, sizeof file, "%s%s", EXAMPLES, name);
    map = map_file(file);
    ck_assert_msg(document_read(&m, (const char *)map.data, map.len, &e) == ERR_OK, "%s: %s", e.at, e.msg);
    file_map_close(&map);
    return m;
}

static enum err_code write_as(const struct model *m, const char *format, struct err *e)
{
    const struct model_format *row = (const struct model_format *)(const void *)plug_find(&model_format_table, format);
    struct file_out *f = NULL;
    enum err_code rc = file_out_new(&f, path, e);

    if (rc == ERR_OK)
        rc = row->write(m, f, e);
    if (rc == ERR_OK)
        rc = file_out_publish(f, NULL, e);
    file_out_free(f);
    return rc;
}

/* Numbers of every kind: subnormal, negative zero, the largest; zeros as pruning leaves them. */
static void fill(struct net *net)
{
    static const float special[] = { -0.0f, 1e-45f, 3.4028234e38f, -1.17549435e-38f, 0, 0.1f };
    uint32_t r = 1;

    for (int i = 0; i < net->n_weights; i++)
        for (size_t k = 0; k < net->weight[i].len; k++) {
            r = r * 1664525 + 1013904223;
            net->weight[i].x[k] = k < 6 ? special[k] : (float)(int32_t)r * 1e-9f;
        }
}

static void same_weights(const struct net *a, const struct net *b)
{
    ck_assert_int_eq(a->n_weights, b->n_weights);
    for (int i = 0; i < a->n_weights; i++) {
        ck_assert_str_eq(a->weight[i].name, b->weight[i].name);
        ck_assert_int_eq(memcmp(a->weight[i].x, b->weight[i].x, a->weight[i].len * sizeof(float)), 0);
    }
}

static const char *const examples[] = {
    "mlp_keras2.json", "lenet_300_100_keras3.json", "layers_keras3.json", "residual_keras2.json", "no_input_layer_keras3.json"
};
enum { N_EXAMPLES = sizeof examples / sizeof examples[0] };

START_TEST(document_round_trip)
{
    struct model a = read_example(examples[_i]), b;
    struct file_map map;

    ck_assert(!a.net->trained);
    fill(a.net);
    ck_assert_int_eq(write_as(&a, "document", NULL), ERR_OK);
    map = map_file(path);
    ck_assert_int_eq(document_read(&b, (const char *)map.data, map.len, NULL), ERR_OK);
    ck_assert(b.net->trained);
    ck_assert(json_equal(a.architecture, b.architecture));
    same_weights(a.net, b.net);
    file_map_close(&map);
    unlink(path);
    model_clear(&b);
    model_clear(&a);
}
END_TEST

START_TEST(safetensors_and_keras_round_trip)
{
    struct model a = read_example(examples[_i]), b;
    struct file_map map;
    struct st_file f;
    const struct weight *w = &a.net->weight[0]; /* a kernel in all examples */
    float x;

    fill(a.net);
    ck_assert_int_eq(write_as(&a, "keras", NULL), ERR_OK);
    map = map_file(path);
    ck_assert_int_eq(document_read(&b, (const char *)map.data, map.len, NULL), ERR_OK);
    file_map_close(&map);
    ck_assert_int_eq(write_as(&a, "safetensors", NULL), ERR_OK);
    map = map_file(path);
    ck_assert_int_eq(st_parse(&f, map.data, map.len, NULL), ERR_OK);
    ck_assert_int_eq(st_find(&f, w->name)->shape.d[0], w->info.shape.d[1]); /* [in][out] */
    memcpy(&x, (const char *)st_find(&f, w->name)->data + sizeof x, sizeof x);
    ck_assert(x == w->x[w->info.shape.d[1]]); /* (in 0, out 1) */
    ck_assert_int_eq(model_load_weights(b.net, &f, NULL), ERR_OK);
    ck_assert(b.net->trained);
    same_weights(a.net, b.net);
    st_file_free(&f);
    file_map_close(&map);
    unlink(path);
    model_clear(&b);
    model_clear(&a);
}
END_TEST

/* ---- a small model: dense (2, 3) with bias ---- */

#define TINY_LAYERS \
    "[{\"class_name\":\"Dense\",\"config\":{\"name\":\"dense\",\"units\":3,\"activation\":\"relu\",\"batch_input_shape\":[null,2]}}]"
#define TINY "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"s\",\"layers\":" TINY_LAYERS "}}"
#define KERNEL "\"dense/kernel\":{\"shape\":[2,3],\"data\":[[1,2,3],[4,5.5,-6e0]]}"
#define BIAS "\"dense/bias\":{\"shape\":[3],\"data\":\"AACAPwAAAEAAAEBA\"}"
#define DOC(weights) "{\"architecture\":" TINY ",\"weights\":{" weights "}}"

static enum err_code read_text(struct model *m, const char *text, size_t n, struct err *e)
{
    char *exact = malloc(n ? n : 1); /* so that a read behind the end is seen */
    enum err_code rc;

    memcpy(exact, text, n);
    rc = document_read(m, exact, n, e);
    free(exact);
    return rc;
}

static const char *const accepted[] = {
    DOC(KERNEL "," BIAS),
    DOC(BIAS "," KERNEL),
    " {\"weights\": {" KERNEL "," BIAS "},\n \"architecture\": " TINY "} \n",
    DOC("\"dense/kernel:0\":{\"data\":[[1,2,3],[4,5.5,-6]],\"shape\":[2,3]}," BIAS),
    DOC("\"dense\\/kernel\":{\"shape\":[2,3],\"data\":[[1,2,3],[4,5.5,-6.000000001]]}," BIAS),
    DOC(KERNEL ",\"dense/bias\":{\"shape\":[3],\"data\":\"AACAPwAAA\\u0045AAAEBA\"}"),
    DOC("\"dense/kernel\":{\"shape\":[2,3],\"data\":\"AACAPwAAAEAAAEBAAACAQAAAsEAAAMDA\"}," BIAS),
};

START_TEST(accepts)
{
    static const float kernel[] = { 1, 4, 2, 5.5f, 3, -6 }; /* the engine's [out][in] */
    struct model m;
    struct err e = { 0 };

    ck_assert_msg(read_text(&m, accepted[_i], strlen(accepted[_i]), &e) == ERR_OK, "%s: %s", e.at, e.msg);
    ck_assert_int_eq(memcmp(net_weight(m.net, "dense/kernel")->x, kernel, sizeof kernel), 0);
    ck_assert(net_weight(m.net, "dense/bias")->x[2] == 3);
    ck_assert(m.net->trained);
    model_clear(&m);
}
END_TEST

START_TEST(escapes_of_base64_are_undone) /* "/" and "+" as some writers escape them: 0x3fffffff and so on */
{
    static const char *const forms[] = { "+//+P/v/+z////8+", "+\\/\\/+P\\/v\\/+z\\/\\/\\/\\/8+", "\\u002b\\u002F\\u002f+P/v/\\u002Bz////8+" };
    struct model m[3];

    for (int i = 0; i < 3; i++) {
        char text[600];

        snprintf(text, sizeof text, DOC(KERNEL ",\"dense/bias\":{\"shape\":[3],\"data\":\"%s\"}"), forms[i]);
        ck_assert_int_eq(read_text(&m[i], text, strlen(text), NULL), ERR_OK);
        same_weights(m[0].net, m[i].net);
    }
    for (int i = 0; i < 3; i++)
        model_clear(&m[i]);
}
END_TEST

#define K "/weights/dense~1kernel"
#define B "/weights/dense~1bias"
#define KERNEL_DATA(x) DOC("\"dense/kernel\":{\"shape\":[2,3],\"data\":" x "}," BIAS)
#define BIAS_DATA(x) DOC(KERNEL ",\"dense/bias\":{\"shape\":[3],\"data\":\"" x "\"}")
static const struct { const char *text; enum err_code code; const char *at, *word; } refused[] = {
    { "", ERR_SYNTAX, "", "line 1" },
    { "[]", ERR_INVALID, "", "object" },
    { "7", ERR_INVALID, "", "object" },
    { "{}", ERR_INVALID, "/architecture", "required" },
    { "{\"weights\":{}}", ERR_INVALID, "/architecture", "required" },
    { "{\"architecture\":" TINY "} x", ERR_SYNTAX, "", "column" },
    { "{\"architecture\":" TINY ",\"more\":1}", ERR_INVALID, "/more", "unknown" },
    { "{\"architecture\":" TINY ",\"architecture\":" TINY "}", ERR_SYNTAX, "/architecture", "twice" },
    { "{\"architecture\":\"{}\"}", ERR_INVALID, "/architecture", "string" },
    { "{\"architecture\":{\"class_name\":\"Odd\"}}", ERR_UNSUPPORTED, "/architecture/class_name", "Sequential" },
    { "{\"class_name\":\"Odd\"}", ERR_UNSUPPORTED, "/class_name", "Sequential" },
    { "{\"architecture\":" TINY ",\"weights\":[]}", ERR_INVALID, "/weights", "object" },
    { "{\"architecture\":" TINY ",\"weights\":{}}", ERR_INVALID, "/weights", "dense/kernel" },
    { DOC(KERNEL), ERR_INVALID, "/weights", "dense/bias" },
    { DOC(KERNEL "," BIAS ",\"dense/gamma\":{}"), ERR_INVALID, "/weights/dense~1gamma", "not in the model" },
    { DOC(KERNEL "," KERNEL), ERR_INVALID, K, "twice" },
    { DOC(KERNEL ",\"dense/kernel:0\":{}"), ERR_INVALID, K ":0", "twice" },
    { DOC("\"dense/kernel\":7"), ERR_INVALID, K, "object" },
    { DOC("\"dense/kernel\":{\"shape\":[2,3]}"), ERR_INVALID, K "/data", "required" },
    { DOC("\"dense/kernel\":{\"data\":[]}"), ERR_INVALID, K "/shape", "required" },
    { DOC("\"dense/kernel\":{\"shape\":[2,3],\"data\":[],\"dtype\":1}"), ERR_INVALID, K "/dtype", "unknown" },
    { DOC("\"dense/kernel\":{\"shape\":[2,3],\"shape\":[2,3]}"), ERR_SYNTAX, K "/shape", "twice" },
    { DOC("\"dense/kernel\":{\"shape\":[3,2],\"data\":[[1,2],[3,4],[5,6]]}"), ERR_INVALID, K "/shape", "(2, 3)" },
    { DOC("\"dense/kernel\":{\"shape\":[6],\"data\":[1,2,3,4,5,6]}"), ERR_INVALID, K "/shape", "(2, 3)" },
    { DOC("\"dense/kernel\":{\"shape\":[2,3,1],\"data\":[]}"), ERR_INVALID, K "/shape", "(2, 3)" },
    { DOC("\"dense/kernel\":{\"shape\":[],\"data\":[]}"), ERR_INVALID, K "/shape", "(2, 3)" },
    { DOC("\"dense/kernel\":{\"shape\":[-2,3],\"data\":[]}"), ERR_INVALID, K "/shape", "at least 1" },
    { DOC("\"dense/kernel\":{\"shape\":[2.0,3],\"data\":[]}"), ERR_INVALID, K "/shape", "integers" },
    { DOC("\"dense/kernel\":{\"shape\":[99999999999999999999,3],\"data\":[]}"), ERR_INVALID, K "/shape", "integers" },
    { DOC("\"dense/kernel\":{\"shape\":\"2\",\"data\":[]}"), ERR_INVALID, K "/shape", "array" },
    { DOC("\"dense/kernel\":{\"shape\":[[2],3],\"data\":[]}"), ERR_INVALID, K "/shape", "integers" },
    { KERNEL_DATA("7"), ERR_INVALID, K "/data", "base64" },
    { KERNEL_DATA("null"), ERR_INVALID, K "/data", "base64" },
    { KERNEL_DATA("[[1,2,3]]"), ERR_INVALID, K "/data", "fewer" },
    { KERNEL_DATA("[[1,2,3],[4,5,6],[7,8,9]]"), ERR_INVALID, K "/data", "more" },
    { KERNEL_DATA("[[1,2,3],[4,5]]"), ERR_INVALID, K "/data/1", "fewer" },
    { KERNEL_DATA("[[1,2,3,4],[5,6]]"), ERR_INVALID, K "/data/0", "more" },
    { KERNEL_DATA("[1,2,3,4,5,6]"), ERR_INVALID, K "/data/0", "array" },
    { KERNEL_DATA("[[1,2,3],[4,[5],6]]"), ERR_INVALID, K "/data/1/1", "number" },
    { KERNEL_DATA("[[1,2,3],[4,\"5\",6]]"), ERR_INVALID, K "/data/1/1", "number" },
    { KERNEL_DATA("[[1,2,3],[4,null,6]]"), ERR_INVALID, K "/data/1/1", "number" },
    { KERNEL_DATA("[[1,2,3],[4,1e39,6]]"), ERR_INVALID, K "/data/1/1", "finite" },
    { KERNEL_DATA("[[1,2,3],[4,NaN,6]]"), ERR_SYNTAX, K, "NaN" },
    { KERNEL_DATA("[[1,2,3],[4,-Infinity,6]]"), ERR_SYNTAX, K, "number" },
    { KERNEL_DATA("[[1,2,3],[4,05,6]]"), ERR_SYNTAX, K, "column" },
    { KERNEL_DATA("[[1,2,3],[4,5,6],]"), ERR_SYNTAX, K, "column" },
    { KERNEL_DATA("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"), ERR_TOO_LARGE, K, "deeper" },
    { BIAS_DATA(""), ERR_INVALID, B "/data", "0 characters" },
    { BIAS_DATA("AACAPwAAAEAAAEB"), ERR_INVALID, B "/data", "15 characters" },
    { BIAS_DATA("AACAPwAAAEAAAEBAA"), ERR_INVALID, B "/data", "more than the 16" },
    { BIAS_DATA("AACAPwAAAEAAAEBAAACAPw=="), ERR_INVALID, B "/data", "more than the 16" },
    { BIAS_DATA("AACAPwAAAEAAAEB="), ERR_INVALID, B "/data", "padding" },
    { BIAS_DATA("AACAPwAA=EAAAEBA"), ERR_INVALID, B "/data", "padding" },
    { BIAS_DATA("AACAPwAA EAAAEBA"), ERR_INVALID, B "/data", "character 8" },
    { BIAS_DATA("AACAPwAA\\nEAAAEBA"), ERR_INVALID, B "/data", "character 8" },
    { BIAS_DATA("AACAPwAA-EAAAEB_"), ERR_INVALID, B "/data", "character 8" },
    { BIAS_DATA("AACAPwAA\\u00e9EAAAEB"), ERR_INVALID, B "/data", "character 8" },
    { BIAS_DATA("AACAPwAAwH8AAEBA"), ERR_INVALID, B "/data", "number 1 is not finite" },
    { BIAS_DATA("AACAPwAAgP8AAEBA"), ERR_INVALID, B "/data", "number 1 is not finite" },
};

START_TEST(refuses_by_pointer)
{
    struct model m;
    struct err e = { 0 };
    enum err_code rc = read_text(&m, refused[_i].text, strlen(refused[_i].text), &e);

    ck_assert_msg(rc == refused[_i].code, "%s: %s at %s: %s", refused[_i].text, err_slug(rc), e.at, e.msg);
    ck_assert_str_eq(e.at, refused[_i].at);
    ck_assert_msg(strstr(e.msg, refused[_i].word) != NULL, "%s: %s", refused[_i].text, e.msg);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    static const char text[] = DOC(KERNEL "," BIAS);
    struct model m;

    for (size_t n = 0; n < sizeof text - 1; n++)
        ck_assert_int_eq(read_text(&m, text, n, NULL), ERR_SYNTAX);
}
END_TEST

START_TEST(flipped_bytes_do_no_harm)
{
    static const char text[] = DOC(KERNEL "," BIAS);
    char copy[sizeof text];
    uint32_t r = 99;

    for (int i = 0; i < 20000; i++) {
        struct model m;

        memcpy(copy, text, sizeof text);
        for (int k = 0; k <= i % 3; k++) {
            r = r * 1664525 + 1013904223;
            copy[(r >> 8) % (sizeof text - 1)] = "\"{}[],:0123456789.-eE\\u/+=aA \n"[r % 31];
        }
        if (read_text(&m, copy, sizeof text - 1, NULL) == ERR_OK)
            model_clear(&m);
    }
}
END_TEST

START_TEST(architecture_has_limits)
{
    size_t n = 2 * MODEL_MAX_TEXT;
    char *text = malloc(n);
    struct model m;
    struct err e = { 0 };

    memset(text, ' ', n);
    memcpy(text, TINY, strlen(TINY));
    ck_assert_int_eq(document_read(&m, text, n, &e), ERR_TOO_LARGE);
    snprintf(text, n, "{\"architecture\":[");
    for (size_t i = strlen(text); i < n; i++)
        text[i] = i % 2 ? '1' : ',';
    ck_assert_int_eq(document_read(&m, text, n, &e), ERR_TOO_LARGE);
    ck_assert_str_eq(e.at, "/architecture");
    free(text);
}
END_TEST

START_TEST(numbers_ignore_the_locale)
{
    static const char text[] = DOC(KERNEL "," BIAS);
    struct model m;

    if (!setlocale(LC_ALL, "de_DE.UTF-8"))
        return; /* not on this machine */
    ck_assert_int_eq(read_text(&m, text, sizeof text - 1, NULL), ERR_OK);
    ck_assert(net_weight(m.net, "dense/kernel")->x[3] == 5.5f);
    model_clear(&m);
}
END_TEST

/* ---- weights from safetensors ---- */

struct array { const char *name; struct shape shape; const void *data; enum st_dtype dtype; };
static const float six[6] = { 1, 2, 3, 4, 5.5f, -6 }, bad[3] = { 1, INFINITY, 3 };
#define GOOD_KERNEL { "dense/kernel", { 2, { 2, 3 } }, six, ST_F32 }
#define GOOD_BIAS { "dense/bias:0", { 1, { 3 } }, six, ST_F32 }
static const struct { struct array array[3]; enum err_code code; const char *at, *word; } loads[] = {
    { { GOOD_KERNEL, GOOD_BIAS }, ERR_OK, "", "" },
    { { GOOD_KERNEL }, ERR_INVALID, "/dense~1bias", "missing" },
    { { GOOD_KERNEL, GOOD_BIAS, { "more", { 1, { 3 } }, six, ST_F32 } }, ERR_INVALID, "/more", "not in the model" },
    { { GOOD_KERNEL, GOOD_BIAS, { "dense/bias", { 1, { 3 } }, six, ST_F32 } }, ERR_INVALID, "/dense~1bias", "twice" },
    { { GOOD_BIAS, { "dense/kernel", { 2, { 3, 2 } }, six, ST_F32 } }, ERR_INVALID, "/dense~1kernel", "(2, 3)" },
    { { GOOD_KERNEL, { "dense/bias", { 1, { 3 } }, bad, ST_F32 } }, ERR_INVALID, "/dense~1bias", "finite" },
    { { GOOD_KERNEL, { "dense/bias", { 1, { 3 } }, six, ST_I32 } }, ERR_UNSUPPORTED, "/dense~1bias", "I32" },
};

START_TEST(loads_weights)
{
    struct model m;
    struct st_writer *w;
    struct file_out *out;
    struct file_map map;
    struct st_file f;
    struct err e = { 0 };

    ck_assert_int_eq(read_text(&m, TINY, strlen(TINY), NULL), ERR_OK);
    ck_assert_int_eq(st_writer_new(&w, NULL), ERR_OK);
    for (int i = 0; i < 3 && loads[_i].array[i].name; i++) {
        const struct array *a = &loads[_i].array[i];

        ck_assert_int_eq(st_add(w, a->name, a->dtype, &a->shape, a->data, NULL), ERR_OK);
    }
    ck_assert_int_eq(file_out_new(&out, path, NULL), ERR_OK);
    ck_assert_int_eq(st_write(w, NULL, out, NULL), ERR_OK);
    ck_assert_int_eq(file_out_publish(out, NULL, NULL), ERR_OK);
    map = map_file(path);
    ck_assert_int_eq(st_parse(&f, map.data, map.len, NULL), ERR_OK);
    ck_assert_int_eq(model_load_weights(m.net, &f, &e), loads[_i].code);
    ck_assert_str_eq(e.at, loads[_i].at);
    ck_assert_msg(strstr(e.msg, loads[_i].word) != NULL, "%s", e.msg);
    ck_assert(m.net->trained == (loads[_i].code == ERR_OK));
    st_file_free(&f);
    file_map_close(&map);
    file_out_free(out);
    st_writer_free(w);
    model_clear(&m);
    unlink(path);
}
END_TEST

/* ---- memory and failures ---- */

static void print_numbers(FILE *f, const struct shape *s)
{
    int rows = s->n_d == 2 ? s->d[0] : 1, columns = s->d[s->n_d - 1];

    for (int r = 0; r < rows; r++) {
        fprintf(f, "%s", r ? ",[" : s->n_d == 2 ? "[[" : "[");
        for (int c = 0; c < columns; c++)
            fprintf(f, c ? ",%d" : "%d", c % 10);
        fprintf(f, "]");
    }
    fprintf(f, "%s", s->n_d == 2 ? "]" : "");
}

static void print_base64(FILE *f, size_t n_floats)
{
    size_t bytes = n_floats * sizeof(float), n_text = (bytes + 2) / 3 * 4, n_pad = (3 - bytes % 3) % 3;

    fprintf(f, "\"");
    for (size_t i = 0; i < n_text; i++)
        fputc(i < n_text - n_pad ? 'A' : '=', f);
    fprintf(f, "\"");
}

/* A document of LeNet-300-100: numbers of one digit in nested arrays, the shortest text there is, or base64. */
static char *large_document(size_t *n, bool nested)
{
    struct model m = read_example("lenet_300_100_keras3.json");
    char *text = NULL, *architecture = json_dumps(m.architecture, JSON_COMPACT);
    FILE *f = open_memstream(&text, n);

    fprintf(f, "{\"architecture\":%s,\"weights\":{", architecture);
    for (int i = 0; i < m.net->n_weights; i++) {
        struct shape s = model_weight_shape(&m.net->weight[i]);

        fprintf(f, "%s\"%s\":{\"shape\":[%d", i ? "," : "", m.net->weight[i].name, s.d[0]);
        if (s.n_d == 2)
            fprintf(f, ",%d", s.d[1]);
        fprintf(f, "],\"data\":");
        if (nested)
            print_numbers(f, &s);
        else
            print_base64(f, m.net->weight[i].len);
        fprintf(f, "}");
    }
    fprintf(f, "}}");
    fclose(f);
    free(architecture);
    model_clear(&m);
    return text;
}

START_TEST(memory_stays_within_three_bodies)
{
    size_t n, before, after;
    char *text = large_document(&n, _i);
    struct model m;
    struct err e = { 0 };

    before = mallinfo2().uordblks + mallinfo2().hblkhd;
    ck_assert_msg(document_read(&m, text, n, &e) == ERR_OK, "%s: %s", e.at, e.msg);
    after = mallinfo2().uordblks + mallinfo2().hblkhd; /* nothing large is freed before: this is the peak */
    ck_assert_msg(after - before < 3 * n, "%zu bytes of heap for a body of %zu", after - before, n);
    model_clear(&m);
    free(text);
}
END_TEST

START_TEST(survives_every_failure)
{
    static const char text[] = DOC(KERNEL "," BIAS);
    static const char *const formats[] = { "keras", "safetensors", "document" };
    struct model m;
    bool fired = true;

    json_set_alloc_funcs(mem_alloc, mem_free);
    for (long k = 1; fired; k++) {
        struct model out = { 0 };

        mem_fail_in = k;
        enum err_code rc = document_read(&out, text, sizeof text - 1, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_msg(fired ? rc != ERR_OK : rc == ERR_OK, "allocation %ld: %s", k, err_slug(rc));
        model_clear(&out);
    }
    ck_assert_int_eq(document_read(&m, text, sizeof text - 1, NULL), ERR_OK);
    for (int i = 0; i < 3; i++)
        for (int files = 0; files < 2; files++) {
            long *fail_in = files ? &file_fail_in : &mem_fail_in;

            fired = true;
            for (long k = 1; fired; k++) {
                *fail_in = k;
                enum err_code rc = write_as(&m, formats[i], NULL);
                fired = *fail_in == 0;
                *fail_in = 0;
                ck_assert_int_eq(rc, fired ? (files ? ERR_NO_SPACE : ERR_NOMEM) : ERR_OK);
                ck_assert_int_eq(access(path, F_OK) == 0, !fired);
            }
            unlink(path);
        }
    fired = true;
    for (long k = 1; fired; k++) {
        mem_fail_in = k;
        json_t *d = model_describe(m.net);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert(fired == !d);
        json_decref(d);
    }
    model_clear(&m);
}
END_TEST

START_TEST(formats_are_complete)
{
    for (const struct plug *const *p = model_format_table.rows; *p; p++) {
        const struct model_format *row = (const struct model_format *)(const void *)*p;

        ck_assert(row->write && row->content_type && row->extension);
    }
    ck_assert_int_eq(plugs_check(&model_format_table, NULL), ERR_OK);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "document");

    tcase_add_checked_fixture(tc, scratch, NULL);
    tcase_add_loop_test(tc, document_round_trip, 0, N_EXAMPLES);
    tcase_add_loop_test(tc, safetensors_and_keras_round_trip, 0, N_EXAMPLES);
    tcase_add_loop_test(tc, accepts, 0, sizeof accepted / sizeof accepted[0]);
    tcase_add_test(tc, escapes_of_base64_are_undone);
    tcase_add_loop_test(tc, refuses_by_pointer, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(tc, every_truncation_is_refused);
    tcase_add_test(tc, flipped_bytes_do_no_harm);
    tcase_add_test(tc, architecture_has_limits);
    tcase_add_test(tc, numbers_ignore_the_locale);
    tcase_add_loop_test(tc, loads_weights, 0, sizeof loads / sizeof loads[0]);
    tcase_add_loop_test(tc, memory_stays_within_three_bodies, 0, 2);
    tcase_add_test(tc, survives_every_failure);
    tcase_add_test(tc, formats_are_complete);
}
SUITE_MAIN("document", cases)
