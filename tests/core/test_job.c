/* The cycle end to end on made data of the size of a small table: what is reported, when it stops, what it keeps; and that nothing that may
 * happen to it (threads, stops at any point, crashes at any commit, short memory, a full disk) changes what comes out. */
#include "core/job.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

enum { FEATURES = 12, MAX_EVENTS = 64 };

/* ---- data and net ---- */

struct table {
    struct dataset d;
    float x[3][400 * FEATURES];
    int32_t label[3][400];
    float target[3][400];
    float center[FEATURES], scale[FEATURES];
};

/* Two overlapping clouds; as a regression their signed distance. */
static void table_init(struct table *t, int n_train, int n_validation, int n_test, bool regression)
{
    const int n[3] = { n_train, n_validation, n_test };

    memset(t, 0, sizeof *t);
    t->d = (struct dataset){ .shape = { 1, { FEATURES } }, .n_features = FEATURES, .n_classes = regression ? 0 : 2,
                             .n_target = regression ? 1 : 0, .center = t->center, .scale = t->scale };
    for (int f = 0; f < FEATURES; f++)
        t->scale[f] = 1;
    for (int s = 0; s < 3; s++) {
        struct rng r = { 3, RNG_TEST, (uint32_t)s, 0 };

        for (int i = 0; i < n[s]; i++) {
            t->label[s][i] = (int32_t)(rng_u32(&r, 100000 + (uint64_t)i) & 1);
            for (int f = 0; f < FEATURES; f++) {
                t->x[s][i * FEATURES + f] = (float)rng_normal(&r, (uint64_t)(i * FEATURES + f)) + (t->label[s][i] ? 0.5f : -0.5f) * (float)(f % 3);
                t->target[s][i] += t->x[s][i * FEATURES + f] * (float)(f % 3) / 5;
            }
        }
        t->d.split[s] = (struct data_split){ .n = n[s], .x = t->x[s], .label = regression ? NULL : t->label[s],
                                             .target = regression ? t->target[s] : NULL };
    }
}

static struct net *make_net(bool regression)
{
    struct net *net = net_of(FEATURES);

    net_chain(net, "dense", "{\"units\": 16}", "dense");
    net_chain(net, "relu", "", "dense");
    net_chain(net, "batch_norm", "", "norm");
    net_chain(net, "dropout", "{\"rate\": 0.1}", "dropout");
    net_chain(net, "dense", "{\"units\": 8}", "dense_1");
    net_chain(net, "relu", "", "dense_1");
    net_chain(net, "dense", "{\"units\": 1}", "out");
    if (!regression)
        net_chain(net, "sigmoid", "", "out");
    return net;
}

/* ---- a caller that records commits as the daemon does, and can be stopped or crash ---- */

struct event { enum job_commit_kind kind; int64_t iteration; char *text; char hash[FILE_HASH_LEN]; json_t *record; };
struct caller {
    struct table *table;
    bool regression, sparse; /* sparse: the model comes trained, every second weight zero */
    struct job_conf conf;
    char dir[64], checkpoint[4096];
    int n_files, n_events, n_commits, n_checkpoints;
    struct event event[MAX_EVENTS];
    double checkpoint_seconds, fraction;
    long stop_calls, stop_at;   /* stop() says yes at its stop_at-th call; 0: never */
    int crash_at;               /* the crash_at-th commit is not recorded, and the run ends; 0: never */
    bool stopped;
};

static bool on_stop(void *user)
{
    struct caller *c = user;

    c->stopped = c->stopped || (c->stop_at > 0 && ++c->stop_calls >= c->stop_at);
    if (c->stop_at == 0)
        c->stop_calls++;
    return c->stopped;
}

static void on_progress(void *user, const struct job_progress *p)
{
    struct caller *c = user;

    ck_assert_msg(p->fraction >= c->fraction - 1e-9 && p->fraction <= 1, "%s: %g after %g", p->phase, p->fraction, c->fraction);
    ck_assert(p->iteration >= 0 && p->iteration <= p->iterations && *p->phase);
    c->fraction = p->fraction;
}

static enum err_code on_new_file(void *user, const char *kind, char *path, size_t n, struct err *e)
{
    struct caller *c = user;

    (void)e;
    snprintf(path, n, "%s/%s-%d", c->dir, kind, c->n_files++);
    return ERR_OK;
}

static char *stripped(const json_t *record)
{
    json_t *copy = json_deep_copy(record);
    char *text;

    json_object_del(copy, "seconds");
    json_object_del(copy, "latency_us");
    text = json_dumps(copy, 0);
    json_decref(copy);
    return text;
}

static enum err_code on_commit(void *user, const struct job_commit *m, struct err *e)
{
    struct caller *c = user;
    struct event *ev = &c->event[c->n_events];
    long hold = mem_fail_in;

    if (++c->n_commits == c->crash_at)
        return err_set(e, ERR_IO, "crash");
    ck_assert_int_eq(m->checkpoint == NULL, m->kind == JOB_COMMIT_RESULT);
    if (m->checkpoint) {
        ck_assert(access(m->checkpoint->path, R_OK) == 0 && m->checkpoint->bytes > 0 && strlen(m->checkpoint->hash) == 64);
        unlink(c->checkpoint);
        snprintf(c->checkpoint, sizeof c->checkpoint, "%s", m->checkpoint->path);
        c->n_checkpoints++;
    }
    ck_assert_int_eq(m->record == NULL, m->kind == JOB_COMMIT_CHECKPOINT);
    ck_assert_int_eq(m->weights == NULL, m->kind == JOB_COMMIT_CHECKPOINT);
    if (!m->record)
        return ERR_OK;
    ck_assert_int_lt(c->n_events, MAX_EVENTS);
    mem_fail_in = 0;
    *ev = (struct event){ .kind = m->kind, .iteration = m->iteration, .text = stripped(m->record), .record = json_deep_copy(m->record) };
    mem_fail_in = hold;
    memcpy(ev->hash, m->weights->hash, sizeof ev->hash);
    c->n_events++;
    return ERR_OK;
}

static void caller_init(struct caller *c, struct table *t, const char *options)
{
    json_t *j = json_loads(options, 0, NULL);
    struct err e = { 0 };

    ck_assert_msg(j != NULL, "%s", options);
    json_object_set_new(j, "model", json_string("m"));
    json_object_set_new(j, "dataset", json_string("d"));
    *c = (struct caller){ .table = t, .regression = t->d.n_classes == 0, .checkpoint_seconds = 1000 };
    snprintf(c->dir, sizeof c->dir, "%s/job-test-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(c->dir));
    ck_assert_msg(job_conf_parse(&c->conf, j, false, &e) == ERR_OK, "%s: %s", e.at, e.msg);
    json_decref(j);
}

/* Files whose name contains part; all of them are removed when remove is set. */
static int files(const struct caller *c, const char *part, bool remove)
{
    DIR *dir = opendir(c->dir);
    struct dirent *entry;
    char path[400];
    int n = 0;

    ck_assert_ptr_nonnull(dir);
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.' && strstr(entry->d_name, part)) {
            n++;
            snprintf(path, sizeof path, "%s/%s", c->dir, entry->d_name);
            if (remove)
                unlink(path);
        }
    closedir(dir);
    return n;
}

static void caller_clear(struct caller *c)
{
    for (int i = 0; i < c->n_events; i++) {
        mem_free(c->event[i].text);
        json_decref(c->event[i].record);
    }
    files(c, "", true);
    rmdir(c->dir);
}

/* One process: a fresh net, on from the last checkpoint. */
static enum err_code run(struct caller *c, int threads, struct err *e)
{
    struct job_hooks hooks = { on_stop, on_progress, on_new_file, on_commit, c->checkpoint_seconds, c };
    struct net *net = make_net(c->regression);
    struct model model = { net, json_object() };
    enum err_code rc;

    net_init(net, 42);
    for (int i = 0; c->sparse && i < net->n_weights; i++)
        for (size_t k = 0; k < net->weight[i].len && net->weight[i].info.prunable; k += 2)
            net->weight[i].x[k] = 0;
    c->stop_calls = 0;
    c->fraction = 0;
    c->n_commits = 0;
    c->stopped = false;
    rc = job_run(&c->conf, &model, &c->table->d, *c->checkpoint ? c->checkpoint : NULL, threads, &hooks, e);
    json_decref(model.architecture);
    net_free(net);
    return rc;
}

static void run_through(struct caller *c, int threads)
{
    struct err e = { 0 };
    enum err_code rc = run(c, threads, &e);

    ck_assert_msg(rc == ERR_OK, "%s: %s", err_slug(rc), e.msg);
    ck_assert_int_eq(files(c, ".tmp", false), 0);
}

static void same_history(const struct caller *a, const struct caller *b, const char *what)
{
    ck_assert_msg(a->n_events == b->n_events, "%s: %d events, not %d", what, b->n_events, a->n_events);
    for (int i = 0; i < a->n_events; i++) {
        ck_assert_msg(a->event[i].kind == b->event[i].kind && strcmp(a->event[i].text, b->event[i].text) == 0, "%s: event %d\n%s\n%s", what, i,
                      a->event[i].text, b->event[i].text);
        ck_assert_msg(strcmp(a->event[i].hash, b->event[i].hash) == 0, "%s: weights of event %d", what, i);
    }
}

/* Layers of a record that run sparse. */
static int n_sparse(const json_t *record)
{
    size_t l;
    json_t *layer;
    int n = 0;

    json_array_foreach(json_object_get(record, "layers"), l, layer)
        n += strcmp(json_string_value(json_object_get(layer, "kernel")), "sparse") == 0;
    return n;
}

static double number(const json_t *j, const char *key)
{
    ck_assert_msg(json_is_number(json_object_get(j, key)), "no number %s", key);
    return json_number_value(json_object_get(j, key));
}

static const json_t *result(const struct caller *c)
{
    ck_assert_int_eq(c->event[c->n_events - 1].kind, JOB_COMMIT_RESULT);
    return c->event[c->n_events - 1].record;
}

static const char *text_of(const json_t *j, const char *key) { return json_string_value(json_object_get(j, key)); }

#define TRAIN "\"train\": {\"epochs\": 4, \"batch_size\": 32, \"optimizer\": {\"type\": \"adam\", \"learning_rate\": 0.01}}, \"retrain\": {\"epochs\": 2}"
static const char plain[] = "{" TRAIN ", \"prune\": {\"iterations\": 4, \"target_sparsity\": 0.9}}";

/* ---- what is reported ---- */

static void check_latency(const json_t *l)
{
    static const char *const forms[] = { "dense", "masked", "sparse" }, *const batches[] = { "batch_1", "batch_128" };

    ck_assert(number(l, "threads") == 1);
    for (int b = 0; b < 2; b++) {
        ck_assert(number(l, batches[b]) > 0 && number(json_object_get(l, "p95"), batches[b]) >= number(l, batches[b]));
        for (int f = 0; f < 3; f++) {
            const json_t *t = json_object_get(json_object_get(l, forms[f]), batches[b]);

            ck_assert(number(t, "median") > 0 && number(t, "p95") >= number(t, "median"));
        }
    }
}

static void check_iteration(const json_t *r, int i)
{
    static const char *const metrics[] = { "loss", "accuracy", "f1", "auc", "precision", "recall", "f1_macro", "f1_weighted", "top5_accuracy" };
    double weights = number(r, "weights"), nonzero = number(r, "nonzero"), sum = 0;
    size_t l;
    json_t *layer;

    ck_assert(number(r, "iteration") == i && weights == FEATURES * 16 + 16 * 8 + 8);
    ck_assert(nonzero == weights - floor(number(r, "target_sparsity") * weights + 0.5));
    ck_assert(number(r, "sparsity") == (weights - nonzero) / weights && number(r, "macs") >= nonzero);
    ck_assert(fabs(number(r, "compression_ratio") - number(r, "params") / number(r, "params_nonzero")) < 1e-12);
    json_array_foreach(json_object_get(r, "layers"), l, layer)
        sum += number(layer, "nonzero");
    ck_assert(sum == nonzero && l == 3);
    for (size_t m = 0; m < sizeof metrics / sizeof metrics[0]; m++) {
        double a = number(json_object_get(r, "pruned"), metrics[m]), b = number(json_object_get(r, "retrained"), metrics[m]);

        ck_assert(a >= 0 && b >= 0 && (m == 0 || (a <= 1 && b <= 1)));
    }
    ck_assert(json_array_size(json_object_get(json_object_get(r, "retrained"), "confusion_matrix")) == 2);
    ck_assert(number(json_object_get(r, "bytes"), "dense") > number(json_object_get(r, "bytes"), "packed"));
    ck_assert(number(json_object_get(r, "seconds"), "retrain") > 0);
    check_latency(json_object_get(r, "latency_us"));
}

START_TEST(records_are_sane)
{
    static struct table t;
    struct caller c;
    const json_t *r;

    table_init(&t, 300, 0, 100, false);
    caller_init(&c, &t, plain);
    run_through(&c, 1);
    ck_assert_int_eq(c.n_events, 6);
    ck_assert_int_eq(c.event[0].kind, JOB_COMMIT_BASELINE);
    r = c.event[0].record;
    ck_assert(number(json_object_get(r, "metrics"), "accuracy") > 0.85 && number(json_object_get(r, "test"), "accuracy") > 0.8);
    ck_assert(number(r, "sparsity") == 0 && number(json_object_get(r, "seconds"), "train") > 0);
    for (int i = 1; i <= 4; i++) {
        ck_assert(c.event[i].kind == JOB_COMMIT_ITERATION && c.event[i].iteration == i);
        check_iteration(c.event[i].record, i);
    }
    ck_assert(number(c.event[4].record, "target_sparsity") == 0.9);
    ck_assert(n_sparse(c.event[0].record) == 0 && n_sparse(c.event[4].record) >= 2 && n_sparse(result(&c)) == n_sparse(c.event[4].record));
    r = result(&c);
    ck_assert_str_eq(text_of(r, "reason"), "iterations_done");
    ck_assert(number(r, "chosen_iteration") == 4 && number(r, "sparsity") == number(c.event[4].record, "sparsity"));
    ck_assert_str_eq(c.event[5].hash, c.event[4].hash);
    ck_assert(json_equal(json_object_get(json_object_get(r, "chosen"), "validation"), json_object_get(c.event[4].record, "retrained")));
    ck_assert(json_equal(json_object_get(json_object_get(r, "baseline"), "test"), json_object_get(c.event[0].record, "test")));
    ck_assert(number(json_object_get(json_object_get(r, "chosen"), "test"), "accuracy") > 0.5);
    ck_assert_int_eq(files(&c, "checkpoint", false), 1);
    caller_clear(&c);
}
END_TEST

START_TEST(masked_weights_are_zero_in_the_files)
{
    static struct table t;
    struct caller c;
    char path[160];
    int seen = 0;

    table_init(&t, 200, 60, 0, false);
    caller_init(&c, &t, plain);
    run_through(&c, 2);
    ck_assert(json_is_null(json_object_get(json_object_get(result(&c), "chosen"), "test")));
    for (int i = 0; i < c.n_files; i++) {
        struct file_map m;
        struct st_file f;
        uint64_t nonzero = 0;

        snprintf(path, sizeof path, "%s/weights-%d", c.dir, i);
        if (file_map_open(&m, path, NULL) != ERR_OK)
            continue;
        ck_assert_int_eq(st_parse(&f, m.data, m.len, NULL), ERR_OK);
        for (int a = 0; a < f.n; a++)
            for (size_t k = 0; strstr(f.array[a].name, "kernel") && k < shape_len(&f.array[a].shape); k++) {
                float x;

                memcpy(&x, (const char *)f.array[a].data + 4 * k, 4);
                nonzero += x != 0;
            }
        ck_assert_uint_eq(nonzero, (uint64_t)number(c.event[seen].record, "nonzero"));
        ck_assert_uint_eq(m.len, (uint64_t)number(json_object_get(c.event[seen].record, "bytes"), "dense"));
        seen++;
        st_file_free(&f);
        file_map_close(&m);
    }
    ck_assert_int_eq(seen, c.n_events);
    caller_clear(&c);
}
END_TEST

/* ---- stop rules and the choice ---- */

#define CYCLE(stop) "{" TRAIN ", \"prune\": {\"iterations\": 6, \"target_sparsity\": 1, \"schedule\": \"linear\"}, \"stop\": {" stop "}}"
static const struct { const char *json, *reason; int iterations; } rules[] = {
    { CYCLE(""), "iterations_done", 6 },
    { CYCLE("\"target_sparsity\": 0.5"), "target_reached", 3 },
    { CYCLE("\"target_params\": 300"), "target_params_reached", 2 },
    { CYCLE("\"max_seconds\": 1e-9"), "time_spent", 1 },
    { CYCLE("\"min_metric\": 1.1"), "contract_broken", 1 },
    { CYCLE("\"min_metric\": 1.1, \"continue_on_breach\": true"), "iterations_done", 6 },
    { CYCLE("\"max_drop\": 0.02"), "contract_broken", -1 },
    { CYCLE("\"max_relative_drop\": 0.02, \"continue_on_breach\": true"), "iterations_done", 6 },
    { CYCLE("\"max_drop\": 1"), "iterations_done", 6 },
};

/* The choice made again from the records alone. */
static int choose(const struct caller *c, bool contract)
{
    const struct stop_conf *s = &c->conf.stop;
    double base = number(json_object_get(c->event[0].record, "metrics"), "accuracy"), most = -1;
    int chosen = 0;

    for (int i = 1; i < c->n_events - 1; i++) {
        double now = number(json_object_get(c->event[i].record, "retrained"), "accuracy");
        bool kept = !(base - now > s->max_drop + 1e-9) && !(base - now > base * s->max_relative_drop + 1e-9) && !(now < s->min_metric);

        ck_assert(!contract ? json_is_null(json_object_get(c->event[i].record, "contract_kept"))
                            : json_is_true(json_object_get(c->event[i].record, "contract_kept")) == kept);
        if ((kept || !contract) && number(c->event[i].record, "sparsity") > most) {
            most = number(c->event[i].record, "sparsity");
            chosen = i;
        }
    }
    return chosen;
}

START_TEST(stop_rules)
{
    static struct table t;
    struct caller c;
    const json_t *r;
    bool contract;
    int chosen;

    table_init(&t, 300, 0, 40, false);
    caller_init(&c, &t, rules[_i].json);
    run_through(&c, 1);
    r = result(&c);
    contract = strstr(rules[_i].json, "max_drop") || strstr(rules[_i].json, "relative") || strstr(rules[_i].json, "min_metric");
    ck_assert_msg(strcmp(text_of(r, "reason"), rules[_i].reason) == 0, "%s: %s", rules[_i].json, text_of(r, "reason"));
    if (rules[_i].iterations > 0)
        ck_assert_int_eq(c.n_events, rules[_i].iterations + 2);
    ck_assert(number(r, "iterations") == c.n_events - 2);
    chosen = choose(&c, contract);
    ck_assert_int_eq((int)number(r, "chosen_iteration"), chosen);
    ck_assert_str_eq(c.event[c.n_events - 1].hash, c.event[chosen].hash);
    ck_assert(number(r, "nonzero") == number(c.event[chosen].record, "nonzero"));
    ck_assert_ptr_nonnull(strstr(text_of(r, "message"), chosen ? "the result is iteration" : "baseline model"));
    if (rules[_i].iterations == -1)
        ck_assert(chosen == c.n_events - 3 && chosen > 0); /* the one before the breach */
    caller_clear(&c);
}
END_TEST

START_TEST(regression_and_a_metric_where_less_is_better)
{
    static struct table t;
    struct caller c;

    table_init(&t, 300, 80, 40, true);
    caller_init(&c, &t, "{" TRAIN ", \"prune\": {\"iterations\": 8, \"target_sparsity\": 0.99, \"schedule\": \"linear\"},"
                        "\"stop\": {\"max_relative_drop\": 0.5}}");
    run_through(&c, 1);
    ck_assert_str_eq(text_of(result(&c), "metric"), "mse");
    ck_assert_str_eq(text_of(result(&c), "reason"), "contract_broken");
    ck_assert(number(json_object_get(json_object_get(result(&c), "chosen"), "validation"), "mse") <=
              1.5 * number(json_object_get(c.event[0].record, "metrics"), "mse"));
    caller_clear(&c);
}
END_TEST

START_TEST(a_model_that_came_sparse)
{
    static struct table t;
    struct caller c;

    table_init(&t, 200, 60, 0, false);
    caller_init(&c, &t, "{\"train\": {\"epochs\": 0}, \"retrain\": {\"epochs\": 1, \"batch_size\": 64},"
                        "\"prune\": {\"iterations\": 2, \"target_sparsity\": 0.875, \"schedule\": \"exponential\"}}");
    c.sparse = true;
    run_through(&c, 1);
    ck_assert(number(c.event[0].record, "sparsity") == 0.5);
    ck_assert(number(c.event[1].record, "sparsity") == 0.75 && number(c.event[2].record, "target_sparsity") == 0.875);
    caller_clear(&c);
}
END_TEST

/* ---- the same bytes ---- */

START_TEST(any_number_of_threads)
{
    static struct table t;
    struct caller c[3];

    trainer_small_step = 0;
    table_init(&t, 300, 0, 100, false);
    for (int i = 0; i < 3; i++) {
        caller_init(&c[i], &t, plain);
        run_through(&c[i], 1 << i);
        same_history(&c[0], &c[i], "threads");
    }
    for (int i = 0; i < 3; i++)
        caller_clear(&c[i]);
}
END_TEST

static const char *const resumed[] = {
    "{" TRAIN ", \"prune\": {\"iterations\": 4, \"target_sparsity\": 0.9}, \"stop\": {\"max_drop\": 0.05, \"continue_on_breach\": true}}",
    "{\"train\": {\"epochs\": 3, \"batch_size\": 50, \"clip_norm\": 1, \"early_stopping\": {\"patience\": 1},"
    "\"optimizer\": {\"type\": \"sgd\", \"learning_rate\": 0.1, \"momentum\": 0.9}, \"learning_rate_schedule\": \"cosine\"},"
    "\"retrain\": {\"epochs\": 3}, \"prune\": {\"criterion\": \"random\", \"scope\": \"layer\", \"iterations\": 3, \"schedule\": \"exponential\"}}",
};

START_TEST(crash_at_every_commit)
{
    static struct table t;
    struct caller whole, c;
    int n_commits;

    table_init(&t, 200, 0, 50, false);
    caller_init(&whole, &t, resumed[_i]);
    run_through(&whole, 1);
    n_commits = whole.n_commits;
    ck_assert_int_eq(n_commits, whole.n_events);
    for (int at = 1; at <= n_commits; at++) {
        caller_init(&c, &t, resumed[_i]);
        c.crash_at = at;
        ck_assert_int_eq(run(&c, 1, NULL), ERR_IO);
        c.crash_at = 0;
        run_through(&c, 2);
        same_history(&whole, &c, "crash");
        caller_clear(&c);
    }
    caller_clear(&whole);
}
END_TEST

START_TEST(stops_at_random_points)
{
    static struct table t;
    struct caller whole, c;
    long calls;
    int checkpoints = 0;

    table_init(&t, 200, 0, 50, false);
    caller_init(&whole, &t, resumed[_i]);
    run_through(&whole, 1);
    calls = whole.stop_calls;
    for (int round = 0; round < 30; round++) {
        struct rng r = { 8, RNG_TEST, (uint32_t)_i, (uint64_t)round };
        enum err_code rc = ERR_STOPPED;

        caller_init(&c, &t, resumed[_i]);
        c.checkpoint_seconds = round % 3 == 0 ? 1e-9 : 1e-3;
        for (uint64_t attempt = 0; rc == ERR_STOPPED; attempt++) {
            c.stop_at = attempt < 5 ? 1 + (long)rng_below(&r, attempt, (uint64_t)calls / (1 + attempt % 2 * 4)) : 0;
            rc = run(&c, 1 + round % 2, NULL);
            ck_assert_int_eq(files(&c, ".tmp", false), 0);
        }
        ck_assert_int_eq(rc, ERR_OK);
        same_history(&whole, &c, "stops");
        checkpoints += c.n_checkpoints;
        caller_clear(&c);
    }
    ck_assert_int_gt(checkpoints, 30 * whole.n_events);
    caller_clear(&whole);
}
END_TEST

START_TEST(stops_at_once)
{
    static struct table t;
    struct caller c;
    struct err e = { 0 };

    table_init(&t, 200, 0, 50, false);
    for (long at = 1; at < 40; at += 3) {
        caller_init(&c, &t, plain);
        c.stop_at = at;
        ck_assert_int_eq(run(&c, 1, &e), ERR_STOPPED);
        ck_assert_int_eq(c.stop_calls, at); /* asked once more by nobody */
        caller_clear(&c);
    }
}
END_TEST

/* ---- what goes wrong ---- */

static const char tiny[] = "{\"train\": {\"epochs\": 1, \"batch_size\": 16}, \"retrain\": {\"epochs\": 1}, \"prune\": {\"iterations\": 1}}";

START_TEST(a_checkpoint_of_another_model)
{
    static struct table t, other;
    struct caller c;
    struct err e = { 0 };

    table_init(&t, 40, 10, 0, false);
    table_init(&other, 40, 10, 0, true);
    caller_init(&c, &t, tiny);
    c.crash_at = 2;
    ck_assert_int_eq(run(&c, 1, NULL), ERR_IO);
    ck_assert_int_eq(truncate(c.checkpoint, 1000), 0);
    ck_assert_int_ne(run(&c, 1, &e), ERR_OK);
    ck_assert(*e.msg);
    ck_assert_int_eq(file_write(c.checkpoint, "", 0, NULL), ERR_OK);
    ck_assert_int_ne(run(&c, 1, &e), ERR_OK);
    unlink(c.checkpoint);
    ck_assert_int_eq(run(&c, 1, &e), ERR_NOT_FOUND);
    caller_clear(&c);
}
END_TEST

static const struct { const char *json, *at; } misfits[] = {
    { "{\"metric\": \"mse\"}", "/metric" },
    { "{\"loss\": \"sparse_categorical_crossentropy\"}", "/loss" },
    { "{\"prune\": {\"layers\": [{\"layer\": \"conv\", \"ignore\": true}]}}", "/prune/layers/0/layer" },
    { "{\"validation_fraction\": 0.01}", "/validation_fraction" },
};

START_TEST(misfits_are_refused_by_pointer)
{
    static struct table t;
    struct caller c;
    struct err e = { 0 };

    table_init(&t, 40, 0, 0, false);
    caller_init(&c, &t, misfits[_i].json);
    ck_assert_int_eq(run(&c, 1, &e), ERR_INVALID);
    ck_assert_msg(strcmp(e.at, misfits[_i].at) == 0, "%s: %s", e.at, e.msg);
    ck_assert(c.n_files == 0);
    t.d.shape = (struct shape){ 1, { FEATURES + 1 } };
    ck_assert_int_eq(run(&c, 1, &e), ERR_INVALID);
    ck_assert_str_eq(e.at, "/dataset");
    caller_clear(&c);
}
END_TEST

START_TEST(memory_estimate)
{
    static struct table t;
    struct net *net = make_net(false);
    struct caller c;

    table_init(&t, 200, 0, 50, false);
    caller_init(&c, &t, plain);
    ck_assert_uint_gt(job_memory(&c.conf, net, &t.d), net_memory(net, JOB_EVALUATION_BATCH, false));
    ck_assert_uint_lt(job_memory(&c.conf, net, &t.d), 4 << 20);
    net_free(net);
    caller_clear(&c);
}
END_TEST

#ifdef ESPALIER_SANITIZE
enum { WALK = 11 }; /* thousands of runs: under the sanitizers a part of them */
#else
enum { WALK = 1 };
#endif

START_TEST(every_allocation_fails_once)
{
    static struct table t;
    struct caller c;
    bool fired = true;

    table_init(&t, 24, 8, 8, false);
    json_set_alloc_funcs(mem_alloc, mem_free);
    for (long k = 1; fired; k += WALK) {
        struct job_hooks hooks = { on_stop, on_progress, on_new_file, on_commit, 1000, &c };
        struct net *net = make_net(false);
        struct model model = { net, json_object() };
        struct err e = { 0 };
        enum err_code rc;

        net_init(net, 1);
        caller_init(&c, &t, tiny);
        mem_fail_in = k;
        rc = job_run(&c.conf, &model, &t.d, NULL, 1, &hooks, &e);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert_msg(rc == (fired ? ERR_NOMEM : ERR_OK), "allocation %ld: %s %s", k, err_slug(rc), e.msg);
        ck_assert_int_eq(files(&c, ".tmp", false), 0);
        json_decref(model.architecture);
        net_free(net);
        caller_clear(&c);
    }
}
END_TEST

START_TEST(every_write_fails_once)
{
    static struct table t;
    struct caller whole, c;
    bool fired = true;

    table_init(&t, 24, 8, 8, false);
    caller_init(&whole, &t, tiny);
    run_through(&whole, 1);
    for (long k = 1; fired; k++) {
        enum err_code rc;

        caller_init(&c, &t, tiny);
        file_fail_in = k;
        rc = run(&c, 1, NULL);
        fired = file_fail_in == 0;
        file_fail_in = 0;
        ck_assert_int_eq(rc, fired ? ERR_NO_SPACE : ERR_OK);
        ck_assert_int_eq(files(&c, ".tmp", false), 0);
        if (fired)
            run_through(&c, 1); /* when there is room again */
        same_history(&whole, &c, "full disk");
        caller_clear(&c);
    }
    caller_clear(&whole);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "job");

    tcase_add_test(tc, records_are_sane);
    tcase_add_test(tc, masked_weights_are_zero_in_the_files);
    tcase_add_loop_test(tc, stop_rules, 0, sizeof rules / sizeof rules[0]);
    tcase_add_test(tc, regression_and_a_metric_where_less_is_better);
    tcase_add_test(tc, a_model_that_came_sparse);
    tcase_add_test(tc, any_number_of_threads);
    tcase_add_loop_test(tc, crash_at_every_commit, 0, sizeof resumed / sizeof resumed[0]);
    tcase_add_loop_test(tc, stops_at_random_points, 0, sizeof resumed / sizeof resumed[0]);
    tcase_add_test(tc, stops_at_once);
    tcase_add_test(tc, a_checkpoint_of_another_model);
    tcase_add_loop_test(tc, misfits_are_refused_by_pointer, 0, sizeof misfits / sizeof misfits[0]);
    tcase_add_test(tc, memory_estimate);
    tcase_add_test(tc, every_allocation_fails_once);
    tcase_add_test(tc, every_write_fails_once);
}
SUITE_MAIN("job", cases)
