/* A job's configuration: defaults, what retrain inherits, refusals by pointer, dump and back, every allocation failed once. */
#include "core/job.h"

#include <dirent.h>
#include <string.h>

#include "core/mem.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

#define IDS "\"model\": \"mdl_1\", \"dataset\": \"dst_1\""

static enum err_code parse(struct job_conf *c, const char *text, bool trained, struct err *e)
{
    json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);
    enum err_code rc;

    ck_assert_ptr_nonnull(j);
    rc = job_conf_parse(c, j, trained, e);
    json_decref(j);
    return rc;
}

static const struct { const char *json, *at; } refused[] = {
    { "[]", "" }, { "null", "" }, { "{}", "/model" }, { "{\"model\": \"m\"}", "/dataset" }, { "{" IDS ", \"modle\": 1}", "/modle" },
    { "{" IDS ", \"seed\": -1}", "/seed" }, { "{" IDS ", \"seed\": 0.5}", "/seed" }, { "{" IDS ", \"seed\": \"1\"}", "/seed" },
    { "{" IDS ", \"priority\": 1001}", "/priority" }, { "{" IDS ", \"threads\": 1025}", "/threads" },
    { "{" IDS ", \"metric\": \"acc\"}", "/metric" }, { "{" IDS ", \"loss\": \"no\"}", "/loss" },
    { "{" IDS ", \"validation_fraction\": 0}", "/validation_fraction" }, { "{" IDS ", \"train\": 3}", "/train" },
    { "{" IDS ", \"train\": {\"epochs\": -1}}", "/train/epochs" }, { "{" IDS ", \"train\": {\"epoch\": 1}}", "/train/epoch" },
    { "{" IDS ", \"train\": {\"optimizer\": \"adamm\"}}", "/train/optimizer" },
    { "{" IDS ", \"train\": {\"optimizer\": {\"type\": \"adam\", \"learning_rate\": \"x\"}}}", "/train/optimizer/learning_rate" },
    { "{" IDS ", \"train\": {\"augment\": {\"flip\": 1}}}", "/train/augment/flip" }, { "{" IDS ", \"retrain\": []}", "/retrain" }, { "{" IDS ", \"retrain\": {\"batch_size\": 0}}", "/retrain/batch_size" },
    { "{" IDS ", \"retrain\": {\"batches\": 0}}", "/retrain/batches" }, { "{" IDS ", \"train\": [], \"retrain\": {}}", "/train" },
    { "{" IDS ", \"prune\": {\"criterion\": \"no_such\"}}", "/prune/criterion" },
    { "{" IDS ", \"prune\": {\"criterion\": {\"type\": \"magnitude\", \"p\": 9}}}", "/prune/criterion/p" },
    { "{" IDS ", \"prune\": {\"unit\": \"tree\"}}", "/prune/unit" }, { "{" IDS ", \"prune\": {\"scope\": \"all\"}}", "/prune/scope" },
    { "{" IDS ", \"prune\": {\"schedule\": {\"type\": \"cubic\", \"power\": 3}}}", "/prune/schedule/power" },
    { "{" IDS ", \"prune\": {\"iterations\": 0}}", "/prune/iterations" },
    { "{" IDS ", \"prune\": {\"target_sparsity\": 1.01}}", "/prune/target_sparsity" },
    { "{" IDS ", \"prune\": {\"layers\": [{\"layer\": \"a\"}, {\"ignore\": true}]}}", "/prune/layers/1/layer" },
    { "{" IDS ", \"prune\": {\"layers\": [{\"layer\": \"a\", \"max_sparsity\": 2}]}}", "/prune/layers/0/max_sparsity" },
    { "{" IDS ", \"stop\": {\"max_drop\": -0.1}}", "/stop/max_drop" }, { "{" IDS ", \"stop\": {\"target_params\": 1.5}}", "/stop/target_params" },
    { "{" IDS ", \"stop\": {\"continue_on_breach\": 1}}", "/stop/continue_on_breach" },
    { "{" IDS ", \"controls\": {\"random\": 1}}", "/controls/random" }, { "{" IDS ", \"controls\": [\"random\"]}", "/controls" },
    { "{" IDS ", \"controls\": {\"small_dense\": {\"match\": \"bytes\"}}}", "/controls/small_dense/match" },
    { "{" IDS ", \"prune\": {\"regrow\": {\"type\": \"surgery\", \"alpha\": 0.3}}}", "/prune/regrow/alpha" },
    { "{" IDS ", \"name\": \"a\\nb\"}", "/name" }, { "{" IDS ", \"train\": null}", "/train" },
};

START_TEST(refuses_by_pointer)
{
    struct job_conf c = { .seed = 77 };
    struct err e = { 0 };

    ck_assert_int_eq(parse(&c, refused[_i].json, _i % 2, &e), ERR_INVALID);
    ck_assert_msg(strcmp(e.at, refused[_i].at) == 0, "%s: \"%s\", not \"%s\" (%s)", refused[_i].json, e.at, refused[_i].at, e.msg);
    ck_assert(*e.msg && c.seed == 77);
}
END_TEST

START_TEST(defaults)
{
    struct job_conf c;

    ck_assert_int_eq(params_check(job_params, NULL), ERR_OK);
    ck_assert_int_eq(parse(&c, "{" IDS "}", false, NULL), ERR_OK);
    ck_assert(c.seed == 1 && c.priority == 0 && c.metric == 0 && !c.loss.plug && c.validation_fraction == 0.1);
    ck_assert(c.train.epochs == 10 && c.retrain.epochs == 2 && c.train.batch_size == 128 && c.retrain.batch_size == 128);
    ck_assert_str_eq(c.train.optimizer.plug->name, "adam");
    ck_assert_str_eq(c.prune.criterion.plug->name, "magnitude");
    ck_assert_str_eq(c.prune.schedule.plug->name, "cubic");
    ck_assert(c.prune.iterations == 10 && c.prune.target_sparsity == 0.95 && strcmp(c.prune.scope.plug->name, "global") == 0 && c.prune.n_layers == 0);
    ck_assert(isnan(c.stop.max_drop) && isnan(c.stop.max_seconds) && c.stop.target_params == 0);
    ck_assert(job_metric(&c, 10) == METRIC_ACCURACY && job_metric(&c, 0) == METRIC_MSE);
}
END_TEST

START_TEST(a_trained_model_is_trained_on_request)
{
    struct job_conf c;

    ck_assert_int_eq(parse(&c, "{" IDS ", \"train\": {\"batch_size\": 64}}", true, NULL), ERR_OK);
    ck_assert(c.train.epochs == 0 && c.train.batch_size == 64 && c.retrain.epochs == 2 && c.retrain.batch_size == 64);
    ck_assert_int_eq(parse(&c, "{" IDS ", \"train\": {\"epochs\": 3}}", true, NULL), ERR_OK);
    ck_assert(c.train.epochs == 3 && c.retrain.epochs == 2);
}
END_TEST

START_TEST(retrain_inherits)
{
    struct job_conf c;

    ck_assert_int_eq(parse(&c, "{" IDS ", \"metric\": \"f1\", \"train\": {\"epochs\": 7, \"batch_size\": 32, \"clip_norm\": 1, \"optimizer\": \"sgd\"},"
                              "\"retrain\": {\"clip_norm\": null, \"optimizer\": {\"type\": \"sgd\", \"learning_rate\": 0.001}}}", false, NULL), ERR_OK);
    ck_assert(c.train.epochs == 7 && c.retrain.epochs == 2 && c.retrain.batch_size == 32 && c.train.clip_norm == 1 && isnan(c.retrain.clip_norm));
    ck_assert(((struct optim_conf_head *)(void *)c.retrain.optimizer.conf)->learning_rate == 0.001);
    ck_assert_int_eq(job_metric(&c, 10), METRIC_F1);
    ck_assert_int_eq(parse(&c, "{" IDS ", \"train\": {\"early_stopping\": {\"patience\": 4, \"min_delta\": 0.5}},"
                              "\"retrain\": {\"early_stopping\": {\"patience\": 2}}}", false, NULL), ERR_OK);
    ck_assert(c.train.early_stopping.patience == 4 && c.retrain.early_stopping.patience == 2 && c.retrain.early_stopping.min_delta == 0.5);
    ck_assert_int_eq(parse(&c, "{" IDS ", \"train\": {\"augment\": {\"flip\": \"both\", \"shift\": 4}}, \"retrain\": {\"augment\": {\"shift\": 0}}}", false,
                           NULL), ERR_OK);
    ck_assert(c.train.augment.shift == 4 && c.retrain.augment.shift == 0 && c.retrain.augment.flip == FLIP_BOTH);
    ck_assert_int_eq(parse(&c, "{" IDS ", \"retrain\": {\"epochs\": 0}}", false, NULL), ERR_OK);
    ck_assert(c.train.epochs == 10 && c.retrain.epochs == 0);
}
END_TEST

static const char rich[] = "{" IDS ", \"name\": \"n\", \"seed\": 9, \"loss\": \"mean_squared_error\", \"train\": {\"epochs\": 7, \"clip_norm\": 1.5},"
                           "\"retrain\": {\"epochs\": 0, \"batch_size\": 7}, \"stop\": {\"max_drop\": 0.01, \"target_params\": 5, \"continue_on_breach\": true},"
                           "\"prune\": {\"criterion\": \"random\", \"scope\": \"layer\", \"layers\": [{\"layer\": \"a*\", \"max_sparsity\": 0.5}]}}";

START_TEST(dump_parses_again_to_itself)
{
    for (int trained = 0; trained < 4; trained++) {
        struct job_conf a, b;
        json_t *d, *d2;

        ck_assert_int_eq(parse(&a, trained < 2 ? rich : "{" IDS "}", trained % 2, NULL), ERR_OK);
        d = job_conf_dump(&a);
        ck_assert_int_eq(job_conf_parse(&b, d, false, NULL), ERR_OK);
        d2 = job_conf_dump(&b);
        ck_assert(json_equal(d, d2));
        json_decref(d2);
        ck_assert_int_eq(job_conf_parse(&b, d, true, NULL), ERR_OK); /* whatever the model is by then */
        d2 = job_conf_dump(&b);
        ck_assert(json_equal(d, d2));
        json_decref(d2);
        json_decref(d);
    }
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    json_t *j;
    bool fired = true;

    json_set_alloc_funcs(mem_alloc, mem_free);
    j = json_loads(rich, 0, NULL);
    for (long k = 1; fired; k++) {
        struct job_conf c = { .seed = 77 };
        enum err_code rc;

        mem_fail_in = k;
        rc = job_conf_parse(&c, j, false, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_int_eq(rc, fired ? ERR_NOMEM : ERR_OK);
        ck_assert_int_eq(c.seed, fired ? 77 : 9);
    }
    json_decref(j);
}
END_TEST

static void check_job(const char *path, json_t *job, const struct net *net)
{
    const struct dataset mnist = { .shape = { 2, { 28, 28 } }, .n_features = 784, .n_classes = 10, .split = { { .n = 60000 }, { .n = 0 }, { .n = 10000 } } };
    struct job_conf c;
    struct err e = { 0 };

    json_object_set_new(job, "model", json_string("mdl_1"));
    json_object_set_new(job, "dataset", json_string("dst_1"));
    ck_assert_msg(job_conf_parse(&c, job, false, &e) == ERR_OK, "%s: %s %s", path, e.at, e.msg);
    ck_assert_msg(job_check(&c, net, &mnist, &e) == ERR_OK, "%s: %s %s", path, e.at, e.msg);
}

static void check_paper(const char *path, const struct net *net)
{
    json_t *paper = json_load_file(path, 0, NULL), *job = json_object_get(paper, "job"), *claim = json_object_get(paper, "claim");

    ck_assert_msg(job && json_is_string(json_object_get(paper, "paper")), "%s", path);
    ck_assert_msg(json_is_number(json_object_get(claim, "sparsity")) && json_is_number(json_object_get(claim, "error")), "%s", path);
    check_job(path, job, net);
    json_decref(paper);
}

static void check_example(const char *path, const struct net *net)
{
    json_t *job = json_load_file(path, 0, NULL);

    check_job(path, job, net);
    json_decref(job);
}

/* Jobs that stand in files, for LeNet-300-100 on MNIST's data: of the literature, and examples. */
static const struct { const char *folder, *prefix; void (*check)(const char *path, const struct net *net); int least; } files[] = {
    { GOLDEN_DIR "/../bench/papers", "", check_paper, 8 }, { GOLDEN_DIR "/../../api/examples", "job-", check_example, 2 }
};

START_TEST(files_are_jobs)
{
    json_t *lenet = json_load_file(GOLDEN_DIR "/../../api/examples/lenet-300-100.json", 0, NULL);
    DIR *dir = opendir(files[_i].folder);
    struct dirent *entry;
    struct model m;
    char path[600];
    int n = 0;

    ck_assert(dir && lenet && keras_read(&m, lenet, NULL) == ERR_OK);
    while ((entry = readdir(dir)))
        if (strstr(entry->d_name, ".json") && strncmp(entry->d_name, files[_i].prefix, strlen(files[_i].prefix)) == 0) {
            snprintf(path, sizeof path, "%s/%s", files[_i].folder, entry->d_name);
            files[_i].check(path, m.net);
            n++;
        }
    ck_assert_int_ge(n, files[_i].least);
    closedir(dir);
    json_decref(lenet);
    model_clear(&m);
}
END_TEST

/* Bytes are not divided by 255 twice because nobody said how: by the data set, and by a model that rescales its samples. */
START_TEST(scaled_once)
{
    static const struct { const char *layer, *second; bool auto_unit; enum err_code code; } sets[] = {
        { "rescale", "tanh", true, ERR_INVALID }, { "rescale", "tanh", false, ERR_OK }, { "tanh", "rescale", true, ERR_OK },
        { "standardize", "tanh", true, ERR_INVALID }, { "standardize", "tanh", false, ERR_OK }, { "tanh", "standardize", true, ERR_OK }
    };

    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        const struct dataset d = { .shape = { 1, { 4 } }, .n_features = 4, .n_classes = 2, .auto_unit = sets[i].auto_unit };
        struct net *net = net_of(4);
        struct err e = { 0 };

        net_chain(net, sets[i].layer, strcmp(sets[i].layer, "rescale") == 0 ? "{\"scale\": 0.5}" : "", "one");
        net_chain(net, sets[i].second, strcmp(sets[i].second, "rescale") == 0 ? "{\"scale\": 0.5}" : "", "two");
        ck_assert_int_eq(job_check_shape(net, &d, &e), sets[i].code);
        ck_assert(sets[i].code == ERR_OK || (strcmp(e.at, "/dataset") == 0 && strstr(e.msg, "\"one\"") && strstr(e.msg, "none")));
        net_free(net);
    }
}
END_TEST

/* Nor where the channels of images are brought to the front before: by lists, or by statistics. */
START_TEST(channels_are_scaled_once)
{
    json_t *doc = json_load_file(SOURCE_DIR "/tests/data/keras/ranges_keras2.json", 0, NULL);
    json_t *layers = json_object_get(json_object_get(doc, "config"), "layers");
    const struct dataset d = { .shape = { 3, { 5, 6, 3 } }, .n_classes = 4, .auto_unit = true };
    struct model m;
    struct err e = { 0 };

    for (int k = 0; k <= _i; k++) /* the first layer is then Normalization, or Rescaling by lists */
        ck_assert_int_eq(json_array_remove(layers, 1), 0);
    ck_assert_int_eq(keras_read(&m, doc, NULL), ERR_OK);
    ck_assert_int_eq(job_check_shape(m.net, &d, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, "/dataset");
    model_clear(&m);
    json_decref(doc);
}
END_TEST

/* Where images have their channels is said by the data set and by the model: they must not disagree where it matters. */
static const struct { const char *model, *input; struct shape data; bool first, by_channel, fits; } places[] = {
    { "first", "3, 6, 5", { 3, { 3, 6, 5 } }, true, true, true },   { "first", "3, 6, 5", { 3, { 3, 6, 5 } }, false, false, true },
    { "first", "3, 6, 5", { 3, { 3, 6, 5 } }, false, true, false }, { "last", "6, 5, 3", { 3, { 6, 5, 3 } }, false, true, true },
    { "last", "3, 6, 5", { 3, { 3, 6, 5 } }, true, false, false },  { "last", "6, 5, 1", { 3, { 1, 6, 5 } }, true, true, true },
    { "first", "1, 6, 5", { 2, { 6, 5 } }, false, true, true },
};

START_TEST(channels_agree)
{
    struct dataset d = { .shape = places[_i].data, .n_classes = 2, .channels_first = places[_i].first, .by_channel = places[_i].by_channel };
    struct model m;
    struct err e = { 0 };
    char text[400];
    json_t *doc;

    snprintf(text, sizeof text, "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"m\", \"layers\": [{\"class_name\": \"Conv2D\", \"config\": {"
             "\"name\": \"c\", \"filters\": 2, \"kernel_size\": 1, \"data_format\": \"channels_%s\", \"batch_input_shape\": [null, %s]}}]}}",
             places[_i].model, places[_i].input);
    doc = json_loads(text, 0, NULL);
    ck_assert_msg(keras_read(&m, doc, &e) == ERR_OK, "%s %s", e.at, e.msg);
    ck_assert_int_eq(job_check_shape(m.net, &d, &e), places[_i].fits ? ERR_OK : ERR_INVALID);
    ck_assert(places[_i].fits || (strcmp(e.at, "/dataset") == 0 && strstr(e.msg, "first")));
    json_decref(doc);
    model_clear(&m);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "job configuration");

    tcase_add_loop_test(tc, refuses_by_pointer, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(tc, defaults);
    tcase_add_test(tc, a_trained_model_is_trained_on_request);
    tcase_add_test(tc, retrain_inherits);
    tcase_add_test(tc, dump_parses_again_to_itself);
    tcase_add_test(tc, every_allocation_fails_once);
    tcase_add_loop_test(tc, files_are_jobs, 0, sizeof files / sizeof files[0]);
    tcase_add_test(tc, scaled_once);
    tcase_add_loop_test(tc, channels_are_scaled_once, 0, 2);
    tcase_add_loop_test(tc, channels_agree, 0, sizeof places / sizeof places[0]);
}
SUITE_MAIN("job_conf", cases)
