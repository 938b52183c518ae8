/* Layerwise criteria (wanda, sparsegpt, obs): the numbers of tests/golden/layerwise.py, and what every criterion that solves promises: exact
 * counts, masks that only grow, an output nearer to the old one than plain masking leaves it, the same bytes for any team. */
#include "core/layerwise.h"

#include "core/exec.h"
#include "core/gemm.h"
#include "core/mem.h"
#include "core/prune.h"
#include "tests/engine_net.h"
#include "tests/golden.h"
#include "tests/suite.h"

enum { CLASSES = 4 };

/* A data set of n samples, all of them looked at, and a net. */
struct bench {
    struct dataset data;
    struct data_view view;
    struct loss_binding loss;
    struct net *net;
    float *x, *center, *scale;
};

static void bench_data(struct bench *b, struct net *net, int n)
{
    int len = (int)shape_len(net_input(net));

    gemm_init();
    *b = (struct bench){ .net = net, .x = mem_vector((size_t)len * (size_t)n), .center = mem_vector((size_t)len), .scale = mem_vector((size_t)len) };
    b->data = (struct dataset){ .shape = *net_input(net), .n_features = len, .n_classes = CLASSES, .center = b->center, .scale = b->scale,
                                .split = { { .n = n, .x = b->x, .label = mem_zalloc((size_t)n, sizeof(int32_t)) } } };
    b->view = (struct data_view){ &b->data, &b->data.split[0], mem_alloc((size_t)n * sizeof(uint32_t)), n };
    for (int i = 0; i < n; i++)
        b->view.index[i] = (uint32_t)i;
    for (int j = 0; j < len; j++)
        b->scale[j] = 1;
}

/* The net is whole. */
static void bench_net(struct bench *b)
{
    net_init(b->net, 3);
    ck_assert_int_eq(loss_bind(&b->loss, loss_default(b->net, CLASSES), b->net, CLASSES, 0, NULL), ERR_OK);
    for (int w = 0; w < b->net->n_weights; w++)
        if (b->net->weight[w].info.prunable) {
            b->net->weight[w].mask = mem_alloc(b->net->weight[w].len);
            memset(b->net->weight[w].mask, 1, b->net->weight[w].len);
        }
}

/* A net of dense layers: `sizes` of them with relu between. */
static void bench_open(struct bench *b, const int *size, int n_layers, int n, bool use_bias)
{
    char options[80];

    bench_data(b, net_of(size[0]), n);
    for (int l = 1; l <= n_layers; l++) {
        snprintf(options, sizeof options, "{\"units\": %d, \"use_bias\": %s}", size[l], use_bias ? "true" : "false");
        net_chain(b->net, "dense", options, (char[]){ 'd', (char)('0' + l), 0 });
        net_chain(b->net, l < n_layers ? "relu" : "softmax", "", (char[]){ 'a', (char)('0' + l), 0 });
    }
    bench_net(b);
}

/* A convolution and what the loss needs behind it. shape: of the image, or of a sequence. */
static void conv_open(struct bench *b, const struct shape *shape, int n, const char *op, const char *options)
{
    struct net *net;

    ck_assert_int_eq(net_new(&net, shape, NULL), ERR_OK);
    bench_data(b, net, n);
    net_chain(net, op, options, "conv");
    net_chain(net, "reshape", "", "flat");
    net_chain(net, "dense", "{\"units\": 4}", "out");
    net_chain(net, "softmax", "", "out");
    bench_net(b);
}

static void bench_close(struct bench *b)
{
    net_free(b->net);
    mem_free(b->x);
    mem_free(b->center);
    mem_free(b->scale);
    mem_free(b->view.index);
    mem_free((void *)b->data.split[0].label);
}

static struct plug_value conf_of(const char *json)
{
    struct plug_value conf;
    json_t *j = json_loads(json, JSON_DECODE_ANY, NULL);
    struct err e = { 0 };

    ck_assert_msg(plug_parse(&conf, &criterion_table, j, &e) == ERR_OK, "%s: %s %s", json, e.at, e.msg);
    json_decref(j);
    return conf;
}

static struct crit_net in_of(const struct bench *b, const struct plug_value *conf, struct team *team)
{
    return (struct crit_net){ .net = b->net, .train = &b->view, .loss = &b->loss, .team = team, .seed = 1, .step = 1, .conf = conf->conf };
}

static uint64_t n_masked(const struct weight *w)
{
    uint64_t n = 0;

    for (size_t k = 0; k < w->len; k++)
        n += !w->mask[k];
    return n;
}

/* ---- what a layer gives ---- */

/* Outputs of the first layer, [units][n]. */
static float *outputs(struct bench *b)
{
    size_t units = shape_len(&b->net->node[1].plan.out), n = (size_t)b->view.n;
    float *y = mem_alloc(units * n * sizeof *y);
    int32_t *label = mem_alloc(n * sizeof *label);
    struct exec *x;

    ck_assert_int_eq(exec_new(&x, b->net, (int)n, EXEC_KEEP, 1, NULL, NULL), ERR_OK);
    data_gather(&b->view, NULL, 0, (int)n, &(struct data_batch){ .x = exec_input(x), .label = label }, NULL);
    exec_forward(x, (int)n, false, 0);
    memcpy(y, exec_value(x, 1), units * n * sizeof *y);
    exec_free(x);
    mem_free(label);
    return y;
}

/* Squared difference of the first layer's outputs from y. */
static double error_from(struct bench *b, const float *y)
{
    size_t len = shape_len(&b->net->node[1].plan.out) * (size_t)b->view.n;
    float *now = outputs(b);
    double sum = 0;

    for (size_t k = 0; k < len; k++)
        sum += ((double)now[k] - (double)y[k]) * ((double)now[k] - (double)y[k]);
    mem_free(now);
    return sum;
}

/* The n_masked smallest of the kernel go, nothing is repaired. */
static void mask_by_magnitude(struct weight *w, uint64_t n)
{
    memset(w->mask, 1, w->len);
    for (; n > 0; n--) {
        size_t best = w->len;

        for (size_t k = 0; k < w->len; k++)
            if (w->mask[k] && (best == w->len || fabsf(w->x[k]) < fabsf(w->x[best])))
                best = k;
        w->mask[best] = 0;
        w->x[best] = 0;
    }
}

/* ---- golden numbers ---- */

static const struct golden_bound bound = { 1e-6, 2e-5 };

static json_t *golden_open(struct bench *b)
{
    json_t *g = json_load_file(GOLDEN_DIR "/layerwise.json", 0, NULL);
    static const int size[] = { 10, 6, CLASSES };
    int n = (int)json_integer_value(json_object_get(g, "n"));

    bench_open(b, size, 2, n, true);
    golden_floats(b->x, json_object_get(g, "x"), (size_t)(n * size[0]));
    for (size_t l = 0; l < 2; l++) {
        golden_floats(b->net->weight[2 * l].x, json_array_get(json_object_get(g, "kernel"), l), b->net->weight[2 * l].len);
        golden_floats(b->net->weight[2 * l + 1].x, json_array_get(json_object_get(g, "bias"), l), b->net->weight[2 * l + 1].len);
    }
    return g;
}

static const struct { const char *name, *conf; } golden_scores[] = {
    { "wanda_row", "\"wanda\"" }, { "wanda_kernel", "{\"type\": \"wanda\", \"compare\": \"kernel\"}" }, { "sparsegpt", "\"sparsegpt\"" }, { "obs", "\"obs\"" },
};

START_TEST(scores_are_golden)
{
    struct plug_value conf = conf_of(golden_scores[_i].conf);
    struct bench b;
    json_t *g = golden_open(&b), *want = json_object_get(json_object_get(g, "scores"), golden_scores[_i].name);
    struct crit_net in = in_of(&b, &conf, NULL);
    float s[2][60], *score[4] = { s[0], NULL, s[1], NULL };

    ck_assert_int_eq(criterion_of(conf.plug)->score_net(&in, score, NULL), ERR_OK);
    for (size_t l = 0; l < 2; l++) {
        const struct weight *w = &b.net->weight[2 * l];

        for (size_t k = 0; k < w->len; k++) /* scores of zeros do not matter */
            s[l][k] = w->x[k] == 0 ? (float)json_number_value(json_array_get(json_array_get(want, l), k)) : s[l][k];
        golden_near(s[l], json_array_get(want, l), w->len, golden_scores[_i].name, bound);
    }
    json_decref(g);
    bench_close(&b);
}
END_TEST

START_TEST(solutions_are_golden)
{
    static const char *const confs[] = { "{\"type\": \"sparsegpt\", \"block\": 4}", "\"obs\"" };
    struct plug_value conf = conf_of(confs[_i]);
    struct bench b;
    json_t *g = golden_open(&b), *want = json_object_get(json_object_get(g, "solved"), conf.plug->name);
    struct crit_net in = in_of(&b, &conf, NULL);

    for (int l = 0; l < 2; l++) {
        uint64_t go = (uint64_t)json_integer_value(json_array_get(json_object_get(g, "go"), (size_t)l));
        const struct weight *kernel = &b.net->weight[2 * l];

        ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 2 * l, go, NULL), ERR_OK);
        ck_assert_uint_eq(n_masked(kernel), go);
        golden_near(kernel->x, json_array_get(json_object_get(want, "kernel"), (size_t)l), kernel->len, kernel->name, bound);
        golden_near(kernel[1].x, json_array_get(json_object_get(want, "bias"), (size_t)l), kernel[1].len, kernel[1].name, bound);
    }
    json_decref(g);
    bench_close(&b);
}
END_TEST

/* At most keep of every len consecutive columns stay, in rows of cols. */
static bool keeps_runs(const struct weight *w, struct unit_runs runs)
{
    size_t cols = w->len / (size_t)w->info.shape.d[0];

    for (size_t k = 0; k < w->len;) {
        size_t left = cols - k % cols, end = k + (left < (size_t)runs.len ? left : (size_t)runs.len);
        int kept = 0, all = (int)(end - k);

        for (; k < end; k++)
            kept += w->mask[k] != 0;
        if (kept < (all < runs.keep ? all : runs.keep))
            return false;
    }
    return true;
}

START_TEST(runs_are_golden)
{
    struct bench b;
    json_t *g = golden_open(&b), *want = json_array_get(json_object_get(g, "solved_runs"), (size_t)_i);
    char name[40];
    struct plug_value conf;
    struct crit_net in;

    snprintf(name, sizeof name, "\"%s\"", json_string_value(json_object_get(want, "criterion")));
    conf = conf_of(name);
    in = in_of(&b, &conf, NULL);
    in.runs = (struct unit_runs){ 4, 2 };
    for (int l = 0; l < 2; l++) {
        uint64_t go = (uint64_t)json_integer_value(json_array_get(json_object_get(want, "go"), (size_t)l));
        const struct weight *kernel = &b.net->weight[2 * l];

        ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 2 * l, go, NULL), ERR_OK);
        ck_assert(n_masked(kernel) == go && keeps_runs(kernel, in.runs));
        golden_near(kernel->x, json_array_get(json_object_get(want, "kernel"), (size_t)l), kernel->len, kernel->name, bound);
        golden_near(kernel[1].x, json_array_get(json_object_get(want, "bias"), (size_t)l), kernel[1].len, kernel[1].name, bound);
    }
    json_decref(g);
    bench_close(&b);
}
END_TEST

/* ---- convolutions ---- */

enum { CONVS = 4 };

/* Golden net number i; *of: of json, which the caller releases. */
static json_t *golden_conv(struct bench *b, int i, const json_t **of)
{
    json_t *g = json_load_file(GOLDEN_DIR "/layerwise.json", 0, NULL), *c = json_array_get(json_object_get(g, "convs"), (size_t)i);
    const char *op = json_string_value(json_object_get(c, "op"));
    struct shape shape = { 3, { 0 } };
    int n = (int)json_integer_value(json_object_get(c, "n"));
    char *options = json_dumps(json_object_get(c, "options"), 0);

    for (int k = 0; k < 3; k++)
        shape.d[k] = (int)json_integer_value(json_array_get(json_object_get(c, "image"), (size_t)k));
    if (strcmp(op, "conv1d") == 0)
        shape = (struct shape){ 2, { shape.d[0], shape.d[2] } };
    conv_open(b, &shape, n, op, options);
    golden_floats(b->x, json_object_get(c, "x"), (size_t)n * shape_len(&shape));
    golden_floats(b->net->weight[0].x, json_object_get(c, "kernel"), b->net->weight[0].len);
    if (json_array_size(json_object_get(c, "bias")) > 0)
        golden_floats(b->net->weight[1].x, json_object_get(c, "bias"), b->net->weight[1].len);
    free(options);
    *of = c;
    return g;
}

START_TEST(scores_of_convolutions_are_golden)
{
    for (size_t i = 0; i < sizeof golden_scores / sizeof golden_scores[0]; i++) {
        struct plug_value conf = conf_of(golden_scores[i].conf);
        struct bench b;
        const json_t *c;
        json_t *g = golden_conv(&b, _i, &c), *want = json_object_get(json_object_get(c, "scores"), golden_scores[i].name);
        struct crit_net in = in_of(&b, &conf, NULL);
        const struct weight *w = &b.net->weight[0];
        float s[64], *score[4] = { s };

        ck_assert_uint_le(w->len, 64);
        ck_assert_int_eq(criterion_of(conf.plug)->score_net(&in, score, NULL), ERR_OK);
        for (size_t k = 0; k < w->len; k++) /* scores of zeros do not matter */
            s[k] = w->x[k] == 0 ? (float)json_number_value(json_array_get(want, k)) : s[k];
        golden_near(s, want, w->len, golden_scores[i].name, bound);
        json_decref(g);
        bench_close(&b);
    }
}
END_TEST

START_TEST(solutions_of_convolutions_are_golden) /* whole, and with 2:4 */
{
    for (size_t i = 0; i < 6; i++) {
        struct bench b;
        const json_t *c;
        json_t *g = golden_conv(&b, _i, &c), *want = json_array_get(json_object_get(c, "solved"), i);
        bool obs = strcmp(json_string_value(json_object_get(want, "criterion")), "obs") == 0;
        struct plug_value conf = conf_of(obs ? "\"obs\"" : "{\"type\": \"sparsegpt\", \"block\": 4}");
        struct crit_net in = in_of(&b, &conf, NULL);
        uint64_t go = (uint64_t)json_integer_value(json_object_get(want, "go"));
        const struct weight *kernel = &b.net->weight[0];

        if (json_array_size(json_object_get(want, "runs")) > 0)
            in.runs = (struct unit_runs){ 4, 2 };
        ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, go, NULL), ERR_OK);
        ck_assert(n_masked(kernel) == go && (in.runs.len == 0 || keeps_runs(kernel, in.runs)));
        golden_near(kernel->x, json_object_get(want, "kernel"), kernel->len, conf.plug->name, bound);
        if (json_array_size(json_object_get(want, "bias")) > 0)
            golden_near(kernel[1].x, json_object_get(want, "bias"), kernel[1].len, "bias", bound);
        json_decref(g);
        bench_close(&b);
    }
}
END_TEST

/* What the sum of squares of outputs grows by, of a layer of images of which few places are looked at: near to that of all, and less than without repair.
 * Batches cut where they like, any team: the same places. */
START_TEST(few_places_stand_for_all)
{
    static const char *const confs[] = { "{\"type\": \"sparsegpt\", \"places\": %d, \"batch_size\": %d}", "{\"type\": \"obs\", \"places\": %d, \"batch_size\": %d}" };
    static const struct { int places, batch_size; } of[] = { { 144, 50 }, { 9, 50 }, { 9, 7 } };
    const struct shape shape = { 3, { 3, 12, 12 } };
    double error[3], plain;

    for (int i = 0; i < 4; i++) {
        struct plug_value conf;
        struct bench b;
        struct crit_net in;
        char json[80];
        float *y;

        snprintf(json, sizeof json, confs[_i], of[i % 3].places, of[i % 3].batch_size);
        conf = conf_of(json);
        conv_open(&b, &shape, 50, "conv2d", "{\"filters\": 6, \"kernel_height\": 3, \"kernel_width\": 3, \"padding\": \"same\"}");
        fill_normal(b.x, 50 * 3 * 144, 4);
        for (int k = 1; k < 50 * 3 * 144; k++)
            b.x[k] += 0.8f * b.x[k - 1];
        in = in_of(&b, &conf, NULL);
        y = outputs(&b);
        if (i < 3)
            ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, 80, NULL), ERR_OK);
        else
            mask_by_magnitude(&b.net->weight[0], 80);
        *(i < 3 ? &error[i] : &plain) = error_from(&b, y);
        mem_free(y);
        bench_close(&b);
    }
    ck_assert_msg(error[0] < 0.8 * plain && error[1] < 1.1 * error[0], "%g, %g, magnitude's %g", error[0], error[1], plain);
    ck_assert_double_eq_tol(error[2] / error[1], 1, 1e-3);
}
END_TEST

/* H = [[1, 0, 0], [0, 1, .9], [0, .9, 1]], w = (.95, 1, 1): the second weight goes, the third takes over. (Its partner is made the least bit larger.) */
static void three_weights(struct bench *b)
{
    static const int size[] = { 3, CLASSES }; /* all other rows are 0 */
    static const double h[3] = { 1, 1.9, 0.1 };

    bench_open(b, size, 1, 3, false);
    for (int i = 0; i < 3; i++) { /* samples along the axes of H */
        double a = sqrt(3 * h[i]);

        b->x[3 * i] = i == 0 ? (float)a : 0;
        b->x[3 * i + 1] = i > 0 ? (float)(a / sqrt(2)) : 0;
        b->x[3 * i + 2] = i > 0 ? (float)((i == 1 ? a : -a) / sqrt(2)) : 0;
    }
    memset(b->net->weight[0].x, 0, 12 * sizeof(float));
    memcpy(b->net->weight[0].x, ((float[]){ 0.95f, 1, 1.000001f }), 3 * sizeof(float));
}

START_TEST(the_vector_of_the_books)
{
    static const struct { const char *conf; float score[3]; bool solve; } of[] = {
        { "{\"type\": \"obs\", \"damping\": 0}", { 0.9025f, 0.19f, 3.61f }, true }, /* what each step costs */
        { "{\"type\": \"sparsegpt\", \"damping\": 0}", { 0.9025f, 0.19f, 0.19f }, true },
        { "{\"type\": \"sparsegpt\", \"damping\": 0.01}", { 0.911526f, 0.20802f, 0.20802f }, false },
    };
    struct plug_value conf = conf_of(of[_i].conf);
    struct bench b;
    struct crit_net in;
    float score[12], *scores[1] = { score };
    const struct weight *w;

    three_weights(&b);
    in = in_of(&b, &conf, NULL);
    w = &b.net->weight[0];
    ck_assert_int_eq(criterion_of(conf.plug)->score_net(&in, scores, NULL), ERR_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_msg(fabsf(score[i] - of[_i].score[i]) < 1e-5f, "%d is %.8f", i, (double)score[i]);
    ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, 10, NULL), ERR_OK);
    ck_assert_mem_eq(w->mask, ((uint8_t[]){ 1, 0, 1 }), 3);
    ck_assert(!of[_i].solve || (fabsf(w->x[0] - 0.95f) < 1e-5f && w->x[1] == 0 && fabsf(w->x[2] - 1.9f) < 1e-5f));
    bench_close(&b);
}
END_TEST

/* ---- laws of every criterion that solves ---- */

static int n_solvers(void)
{
    int n = 0;

    for (const struct plug *const *row = criterion_table.rows; *row; row++)
        n += criterion_of(*row)->solve != NULL;
    return n;
}

static struct plug_value solver(int i)
{
    struct plug_value conf = { 0 };

    for (const struct plug *const *row = criterion_table.rows; *row; row++)
        if (criterion_of(*row)->solve && i-- == 0) {
            conf.plug = *row;
            ck_assert_int_eq(params_parse(conf.conf, conf.plug->conf_size, conf.plug->params, NULL, NULL), ERR_OK);
        }
    return conf;
}

/* Inputs that hang together, some dead; some weights zero, some of those masked. */
static void random_layer(struct bench *b, int round, int *size, bool use_bias)
{
    struct rng r = { 5, RNG_TEST, 1, (uint64_t)round };
    struct weight *w;
    int n;

    size[0] = 2 + (int)rng_below(&r, 0, 70);
    size[1] = 1 + (int)rng_below(&r, 1, 40);
    size[2] = CLASSES;
    n = 3 + (int)rng_below(&r, 2, 200);
    bench_open(b, size, 2, n, use_bias);
    fill_normal(b->x, (size_t)(n * size[0]), (uint32_t)round);
    for (int i = 0; i < n; i++)
        for (int j = 1; j < size[0]; j++)
            b->x[i * size[0] + j] = j % 9 == 4 ? 0 : 0.7f * b->x[i * size[0] + j - 1] + b->x[i * size[0] + j];
    w = &b->net->weight[0];
    fill_normal(w->x, w->len, 77);
    for (size_t k = 0; k < w->len; k++) {
        w->x[k] = k % 11 == 3 || k % 13 == 5 ? 0 : w->x[k];
        w->mask[k] = k % 11 != 3;
    }
}

static uint64_t zeros(const struct weight *w)
{
    uint64_t n = 0;

    for (size_t k = 0; k < w->len; k++)
        n += w->x[k] == 0;
    return n;
}

/* Repair beats plain masking; that of one sweep is sure to while the later inputs of a row are there to take over. */
static double beats_magnitude_up_to(const char *name) { return strcmp(name, "sparsegpt") == 0 ? 0.5 : 1; }

static void law_round(const struct plug_value *conf, int round, double share)
{
    struct bench b, plain;
    int size[3];
    bool use_bias = round % 3 != 2;
    struct crit_net in;
    struct weight *w;
    uint64_t n;
    float *y;
    double error;
    bool kept = true, clean = true;

    random_layer(&b, round, size, use_bias);
    random_layer(&plain, round, size, use_bias);
    y = outputs(&b);
    in = in_of(&b, conf, NULL);
    w = &b.net->weight[0];
    n = zeros(w) + (uint64_t)(share * (double)(w->len - zeros(w)));
    ck_assert_int_eq(criterion_of(conf->plug)->solve(&in, 0, n, NULL), ERR_OK);
    ck_assert_uint_eq(n_masked(w), n);
    for (size_t k = 0; k < w->len; k++) {
        kept = kept && !(w->mask[k] && k % 11 == 3);
        clean = clean && isfinite(w->x[k]) && (w->mask[k] || w->x[k] == 0);
    }
    for (size_t k = 0; use_bias && k < w[1].len; k++)
        clean = clean && isfinite(w[1].x[k]);
    ck_assert(kept && clean);
    mask_by_magnitude(&plain.net->weight[0], n);
    error = error_from(&b, y);
    ck_assert_msg(share > beats_magnitude_up_to(conf->plug->name) || error <= error_from(&plain, y) * (1 + 1e-5) + 1e-6, "%s, round %d, %g: error %g, magnitude's %g", conf->plug->name, round, share, error,
                  error_from(&plain, y));
    mem_free(y);
    bench_close(&b);
    bench_close(&plain);
}

START_TEST(counts_masks_and_errors)
{
    static const double share[] = { 0, 0.1, 0.5, 0.8, 0.97, 1 };
    struct plug_value conf = solver(_i);

    for (int round = 0; round < 12; round++)
        for (size_t s = 0; s < sizeof share / sizeof share[0]; s++)
            law_round(&conf, round, share[s]);
}
END_TEST

START_TEST(fewer_than_the_zeros) /* a bound may forbid to mask all zeros: those that are masked stay so */
{
    struct plug_value conf = solver(_i);
    struct bench b;
    int size[3];
    struct crit_net in;
    uint64_t n;

    random_layer(&b, 1, size, true);
    in = in_of(&b, &conf, NULL);
    n = n_masked(&b.net->weight[0]) + 1;
    ck_assert_uint_lt(n, zeros(&b.net->weight[0]));
    ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, n, NULL), ERR_OK);
    ck_assert_uint_eq(n_masked(&b.net->weight[0]), n);
    for (size_t k = 3; k < b.net->weight[0].len; k += 11)
        ck_assert(!b.net->weight[0].mask[k]);
    bench_close(&b);
}
END_TEST

/* Of each run the n smallest go, nothing is repaired. */
static void mask_runs_by_magnitude(struct weight *w, struct unit_runs runs)
{
    size_t cols = w->len / (size_t)w->info.shape.d[0];

    for (size_t k = 0, end; k < w->len; k = end) {
        size_t left = cols - k % cols;

        end = k + (left < (size_t)runs.len ? left : (size_t)runs.len);
        for (int go = (int)(end - k) - runs.keep; go > 0; go--) {
            size_t best = end;

            for (size_t i = k; i < end; i++)
                if (w->mask[i] && (best == end || fabsf(w->x[i]) < fabsf(w->x[best])))
                    best = i;
            if (best == end)
                break;
            w->mask[best] = 0;
            w->x[best] = 0;
        }
    }
}

/* Full runs and half of them, by steps: exact counts, masks grow, no run loses more than it may, and the layer's output is nearer than without repair. */
START_TEST(runs_keep_their_number)
{
    static const struct unit_runs all[] = { { 4, 2 }, { 8, 3 }, { 5, 1 }, { 64, 63 }, { 3, 3 } };
    struct plug_value conf = solver(_i);

    for (int round = 0; round < 8; round++)
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
            struct bench b, plain;
            struct crit_net in;
            struct weight *w;
            int size[3];
            uint64_t most = 0;
            float *y;

            random_layer(&b, round, size, true);
            random_layer(&plain, round, size, true);
            for (size_t k = 0; k < b.net->weight[0].len; k++)
                b.net->weight[0].mask[k] = plain.net->weight[0].mask[k] = 1;
            y = outputs(&b);
            in = in_of(&b, &conf, NULL);
            in.runs = all[i];
            w = &b.net->weight[0];
            mask_runs_by_magnitude(&plain.net->weight[0], in.runs);
            most = n_masked(&plain.net->weight[0]);
            ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, most / 3, NULL), ERR_OK);
            ck_assert(n_masked(w) == most / 3 && keeps_runs(w, in.runs));
            ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, most, NULL), ERR_OK);
            ck_assert(n_masked(w) == most && keeps_runs(w, in.runs));
            if (size[0] > 8) /* the sweep's last columns have nobody to repair them */
                ck_assert_msg(error_from(&b, y) <= error_from(&plain, y) * 1.02 + 1e-6, "%s, round %d, %d:%d: error %g, magnitude's %g", conf.plug->name,
                              round, all[i].keep, all[i].len, error_from(&b, y), error_from(&plain, y));
            mem_free(y);
            bench_close(&b);
            bench_close(&plain);
        }
}
END_TEST

START_TEST(singular_inputs_are_damped) /* every input is the same, or nearly; more inputs than samples; no damping asked for */
{
    struct plug_value conf = solver(_i);
    static const int size[] = { 30, 8, CLASSES };

    ck_assert_ptr_nonnull(strstr(conf.plug->params[2].name, "damping"));
    *(double *)(void *)(conf.conf + conf.plug->params[2].offset) = 0;
    for (int kind = 0; kind < 3; kind++) {
        struct bench b;
        struct crit_net in;
        struct weight *w;
        double damping = NAN;

        bench_open(&b, size, 2, 10, true);
        fill_normal(b.x, 300, 3);
        for (int k = 0; k < 300 && kind > 0; k++)
            b.x[k] = kind == 1 ? b.x[k / 30 * 30] : 0; /* or all of them dead */
        in = in_of(&b, &conf, NULL);
        in.damping = &damping;
        w = &b.net->weight[0];
        ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, 120, NULL), ERR_OK);
        ck_assert_msg(kind == 2 ? damping == 0 : damping > 0 && damping < 0.01, "%d: %g", kind, damping); /* what was needed is told */
        ck_assert_uint_eq(n_masked(w), 120);
        for (size_t k = 0; k < w->len; k++)
            ck_assert(isfinite(w->x[k]) && fabsf(w->x[k]) < 100);
        bench_close(&b);
    }
}
END_TEST

START_TEST(infinite_inputs_are_an_error)
{
    struct plug_value conf = solver(_i);
    struct bench b;
    int size[3];
    struct crit_net in;
    struct err e = { 0 };

    random_layer(&b, 2, size, true);
    b.x[0] = INFINITY;
    in = in_of(&b, &conf, NULL);
    ck_assert_int_eq(criterion_of(conf.plug)->solve(&in, 0, b.net->weight[0].len / 2, &e), ERR_DIVERGED);
    bench_close(&b);
}
END_TEST

/* ---- a whole step of pruning ---- */

static const char *const step_confs[] = { "\"wanda\"", "\"sparsegpt\"", "\"obs\"" };
static const int step_size[] = { 150, 20, 10, CLASSES }, small_size[] = { 20, 6, 5, CLASSES };

struct trial {
    const char *criterion;
    const int *size;
    int scope, threads;
    long fail;       /* this allocation; 0: none */
    int stop_after;  /* so many questions; -1: never */
    bool fired;      /* out: the allocation was reached */
};

static bool stop(void *user)
{
    struct trial *t = user;

    return t->stop_after >= 0 && t->stop_after-- == 0;
}

/* A step on a net of its own, which stays open. */
static enum err_code run_step(struct bench *b, struct trial *t)
{
    struct prune_conf conf;
    struct pruner *p = NULL;
    struct team *team = NULL;
    struct prune_data data;
    enum err_code rc;

    ck_assert_int_eq(params_parse(&conf, sizeof conf, prune_params, NULL, NULL), ERR_OK);
    conf.criterion = conf_of(t->criterion);
    conf.scope.plug = scope_table.rows[t->scope]; /* global, layer */
    conf.iterations = 1;
    conf.target_sparsity = 0.7;
    bench_open(b, t->size, 3, 100, true);
    fill_normal(b->x, (size_t)t->size[0] * 100, 9);
    ck_assert(t->threads < 2 || team_new(&team, t->threads, NULL) == ERR_OK);
    data = (struct prune_data){ &b->view, &b->loss, team, stop, t, NULL };
    mem_fail_in = t->fail;
    rc = pruner_new(&p, &conf, b->net, 1, NULL);
    if (rc == ERR_OK)
        rc = pruner_step(p, b->net, 1, &data, NULL);
    t->fired = t->fail > 0 && mem_fail_in == 0;
    mem_fail_in = 0;
    ck_assert(rc != ERR_OK || n_masked(&b->net->weight[0]) + n_masked(&b->net->weight[2]) + n_masked(&b->net->weight[4]) == pruner_count(p, 1));
    pruner_free(p);
    team_free(team);
    return rc;
}

static bool same_weights(const struct net *a, const struct net *b)
{
    for (int w = 0; w < a->n_weights; w++)
        if (memcmp(a->weight[w].x, b->weight[w].x, a->weight[w].len * sizeof(float)) != 0)
            return false;
    return true;
}

START_TEST(any_team_gives_the_same_bytes)
{
    struct trial one = { step_confs[_i / 2], step_size, _i % 2, 1, 0, -1, false }, three = { step_confs[_i / 2], step_size, _i % 2, 3, 0, -1, false };
    struct bench a, b;

    ck_assert_int_eq(run_step(&a, &one), ERR_OK);
    ck_assert_int_eq(run_step(&b, &three), ERR_OK);
    ck_assert(same_weights(a.net, b.net));
    bench_close(&a);
    bench_close(&b);
}
END_TEST

START_TEST(the_bias_is_repaired) /* in the net, not in the copy alone */
{
    struct trial t = { step_confs[1 + _i], step_size, 1, 1, 0, -1, false };
    struct bench a, fresh;

    ck_assert_int_eq(run_step(&a, &t), ERR_OK);
    bench_open(&fresh, step_size, 3, 100, true);
    ck_assert_mem_ne(a.net->weight[1].x, fresh.net->weight[1].x, 20 * sizeof(float));
    bench_close(&a);
    bench_close(&fresh);
}
END_TEST

/* Every unit of the table with every criterion that solves: weights, and those whose runs can be said; they fill up over two steps. */
START_TEST(units_that_can_be_repaired)
{
    const struct plug_value conf = solver(_i);

    for (const struct plug *const *row = unit_table.rows; *row; row++) {
        const struct prune_unit *unit = prune_unit_of(*row);
        bool can = !unit->unit_at && !unit->neurons && (!unit->protect || unit->runs);
        struct prune_conf c;
        struct pruner *p = NULL;
        struct bench b;
        struct prune_data data = { 0 };
        struct err e = { 0 };

        ck_assert_int_eq(params_parse(&c, sizeof c, prune_params, NULL, NULL), ERR_OK);
        c.criterion = conf;
        c.iterations = 2;
        c.unit.plug = *row;
        ck_assert_int_eq(params_parse(c.unit.conf, (*row)->conf_size, (*row)->params, NULL, NULL), ERR_OK);
        bench_open(&b, step_size, 3, 100, true);
        fill_normal(b.x, (size_t)step_size[0] * 100, 9);
        data.train = &b.view;
        data.loss = &b.loss;
        ck_assert_int_eq(pruner_new(&p, &c, b.net, 1, &e), can ? ERR_OK : ERR_INVALID);
        ck_assert_str_eq(e.at, can ? "" : "/unit");
        for (int64_t i = 1; can && i <= 2; i++) {
            ck_assert_int_eq(pruner_step(p, b.net, i, &data, NULL), ERR_OK);
            ck_assert_uint_eq(n_masked(&b.net->weight[0]) + n_masked(&b.net->weight[2]) + n_masked(&b.net->weight[4]), pruner_count(p, i));
            ck_assert(pruner_damping(p) >= 0.01); /* the option's default, or more */
            ck_assert(!unit->runs || (keeps_runs(&b.net->weight[0], unit->runs(c.unit.conf)) && keeps_runs(&b.net->weight[2], unit->runs(c.unit.conf))));
        }
        pruner_free(p);
        bench_close(&b);
    }
}
END_TEST

START_TEST(errors_leave_the_net_as_it_was)
{
    struct trial t = { step_confs[_i], small_size, 0, 1, 0, -1, true };
    struct bench b, fresh;
    enum err_code rc;
    int stops = 0;

    bench_open(&fresh, small_size, 3, 100, true);
    for (t.fail = 1; t.fired; t.fail++) {
        rc = run_step(&b, &t);
        ck_assert_int_eq(rc, t.fired ? ERR_NOMEM : ERR_OK);
        ck_assert(!t.fired || same_weights(b.net, fresh.net));
        bench_close(&b);
    }
    t.fail = 0;
    for (rc = ERR_STOPPED; rc != ERR_OK; stops++) {
        t.stop_after = stops;
        rc = run_step(&b, &t);
        ck_assert(rc == ERR_OK || (rc == ERR_STOPPED && same_weights(b.net, fresh.net)));
        bench_close(&b);
    }
    ck_assert_int_gt(stops, 1);
    bench_close(&fresh);
}
END_TEST

START_TEST(a_layer_that_is_too_large_is_refused)
{
    struct prune_conf conf;
    struct pruner *p = NULL;
    struct bench b;
    struct err e = { 0 };

    ck_assert_int_eq(params_parse(&conf, sizeof conf, prune_params, NULL, NULL), ERR_OK);
    conf.criterion = conf_of("{\"type\": \"obs\", \"max_macs\": 6e7}");
    bench_open(&b, step_size, 3, 10, true);
    ck_assert_int_eq(pruner_new(&p, &conf, b.net, 1, &e), ERR_INVALID); /* 20 * 150^3 = 6.75e7 */
    ck_assert_str_eq(e.at, "/criterion/max_macs");
    ck_assert_ptr_nonnull(strstr(e.msg, "layer d1"));
    conf.layers[0] = (struct prune_rule){ .layer = "d1", .ignore = true, .target_sparsity = NAN, .min_sparsity = NAN, .max_sparsity = NAN };
    conf.n_layers = 1;
    ck_assert_int_eq(pruner_new(&p, &conf, b.net, 1, NULL), ERR_OK);
    pruner_free(p);
    bench_close(&b);
}
END_TEST

START_TEST(memory_grows_with_the_layers)
{
    static const int larger[] = { 400, 20, 10, CLASSES };
    struct plug_value conf = conf_of(step_confs[_i]);
    const struct criterion *c = criterion_of(conf.plug);
    struct bench a, b;

    bench_open(&a, step_size, 3, 10, true);
    bench_open(&b, larger, 3, 10, true);
    ck_assert_uint_gt(c->memory(b.net, conf.conf), c->memory(a.net, conf.conf));
    ck_assert_uint_gt(c->memory(a.net, conf.conf), _i == 0 ? 150 * 8 : 150 * 150 * 8 * 2);
    bench_close(&a);
    bench_close(&b);
}
END_TEST

/* ---- factors ---- */

START_TEST(factors)
{
    double a[9] = { 4, 2, -2, 99, 10, 2, 99, 99, 6 }, bad[4] = { 1, 2, 0, 1 };

    ck_assert(cholesky(3, a));
    ck_assert(a[0] == 2 && a[1] == 1 && a[2] == -1 && a[4] == 3 && a[5] == 1 && a[8] == 2); /* below the diagonal nothing has changed */
    ck_assert(a[3] == 99 && a[6] == 99 && a[7] == 99);
    ck_assert(cholesky_inverse(3, a));
    ck_assert(fabs(a[0] - 56 / 144.0) < 1e-12 && fabs(a[1] + 16 / 144.0) < 1e-12 && fabs(a[2] - 24 / 144.0) < 1e-12);
    ck_assert(fabs(a[4] - 20 / 144.0) < 1e-12 && fabs(a[5] + 12 / 144.0) < 1e-12 && fabs(a[8] - 36 / 144.0) < 1e-12);
    ck_assert(!cholesky(2, bad));
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "layerwise");
    int n = n_solvers();

    tcase_add_loop_test(tc, scores_are_golden, 0, sizeof golden_scores / sizeof golden_scores[0]);
    tcase_add_loop_test(tc, solutions_are_golden, 0, 2);
    tcase_add_loop_test(tc, runs_are_golden, 0, 4);
    tcase_add_loop_test(tc, scores_of_convolutions_are_golden, 0, CONVS);
    tcase_add_loop_test(tc, solutions_of_convolutions_are_golden, 0, CONVS);
    tcase_add_loop_test(tc, few_places_stand_for_all, 0, 2);
    tcase_add_loop_test(tc, runs_keep_their_number, 0, n);
    tcase_add_loop_test(tc, the_vector_of_the_books, 0, 3);
    tcase_add_loop_test(tc, counts_masks_and_errors, 0, n);
    tcase_add_loop_test(tc, fewer_than_the_zeros, 0, n);
    tcase_add_loop_test(tc, singular_inputs_are_damped, 0, n);
    tcase_add_loop_test(tc, infinite_inputs_are_an_error, 0, n);
    tcase_add_loop_test(tc, any_team_gives_the_same_bytes, 0, 6);
    tcase_add_loop_test(tc, the_bias_is_repaired, 0, 2);
    tcase_add_loop_test(tc, units_that_can_be_repaired, 0, n);
    tcase_add_loop_test(tc, errors_leave_the_net_as_it_was, 0, 3);
    tcase_add_test(tc, a_layer_that_is_too_large_is_refused);
    tcase_add_loop_test(tc, memory_grows_with_the_layers, 0, 3);
    tcase_add_test(tc, factors);
}
SUITE_MAIN("layerwise", cases)
