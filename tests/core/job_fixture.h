/* tests/core/job_fixture.h: made data of the size of a small table, a small net, and a caller of job_run that records commits as the daemon does. */
#ifndef TESTS_CORE_JOB_FIXTURE_H
#define TESTS_CORE_JOB_FIXTURE_H

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
static inline void table_init(struct table *t, int n_train, int n_validation, int n_test, bool regression)
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

static inline struct model make_model(bool regression)
{
    static const char text[] = "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"m\", \"layers\": ["
        "{\"class_name\": \"InputLayer\", \"config\": {\"name\": \"in\", \"batch_input_shape\": [null, 12]}},"
        "{\"class_name\": \"Dense\", \"config\": {\"name\": \"dense\", \"units\": 16, \"activation\": \"relu\"}},"
        "{\"class_name\": \"BatchNormalization\", \"config\": {\"name\": \"norm\"}},"
        "{\"class_name\": \"Dropout\", \"config\": {\"name\": \"dropout\", \"rate\": 0.1}},"
        "{\"class_name\": \"Dense\", \"config\": {\"name\": \"dense_1\", \"units\": 8, \"activation\": \"relu\"}},"
        "{\"class_name\": \"Dense\", \"config\": {\"name\": \"out\", \"units\": 1, \"activation\": \"%s\"}}]}}";
    char filled[2000];
    json_t *doc;
    struct model m;
    struct err e = { 0 };

    snprintf(filled, sizeof filled, text, regression ? "linear" : "sigmoid");
    doc = json_loads(filled, 0, NULL);
    ck_assert_msg(doc && keras_read(&m, doc, &e) == ERR_OK, "%s %s", e.at, e.msg);
    json_decref(doc);
    return m;
}

static inline struct net *make_net(bool regression)
{
    struct model m = make_model(regression);

    json_decref(m.architecture);
    return m.net;
}

/* ---- a caller that records commits as the daemon does, and can be stopped or crash ---- */

struct event { enum job_commit_kind kind; int64_t iteration; char *text; char hash[FILE_HASH_LEN]; json_t *record; };
struct caller {
    struct table *table;
    bool regression, sparse; /* sparse: the model comes trained, every second weight zero */
    struct job_conf conf;
    char dir[64], checkpoint[4096], last_weights[4096];
    int n_files, n_events, n_commits, n_checkpoints;
    struct event event[MAX_EVENTS];
    double checkpoint_seconds, fraction;
    long stop_calls, stop_at;   /* stop() says yes at its stop_at-th call; 0: never */
    int crash_at;               /* the crash_at-th commit is not recorded, and the run ends; 0: never */
    bool stopped;
    struct net *net;            /* of the running process; left to the test when keep_net is set */
    bool keep_net;
    void (*retraining)(struct caller *c); /* called before each retraining; may be NULL */
    int64_t late_in;            /* time is up while this iteration is retrained; 0: never */
};

static inline bool on_stop(void *user)
{
    struct caller *c = user;

    c->stopped = c->stopped || (c->stop_at > 0 && ++c->stop_calls >= c->stop_at);
    if (c->stop_at == 0)
        c->stop_calls++;
    return c->stopped;
}

static inline void on_progress(void *user, const struct job_progress *p)
{
    struct caller *c = user;

    ck_assert_msg(p->fraction >= c->fraction - 1e-9 && p->fraction <= 1, "%s: %g after %g", p->phase, p->fraction, c->fraction);
    ck_assert(p->iteration >= 0 && p->iteration <= p->iterations && *p->phase);
    c->fraction = p->fraction;
    if (c->retraining && p->epoch == 0 && strcmp(p->phase, "retrain") == 0)
        c->retraining(c);
    if (c->late_in > 0 && p->iteration == c->late_in && p->epoch > 0)
        c->conf.stop.max_seconds = 0;
}

static inline enum err_code on_new_file(void *user, const char *kind, char *path, size_t n, struct err *e)
{
    struct caller *c = user;

    (void)e;
    snprintf(path, n, "%s/%s-%d", c->dir, kind, c->n_files++);
    return ERR_OK;
}

static inline char *stripped(const json_t *record)
{
    json_t *copy = json_deep_copy(record);
    char *text;

    json_object_del(copy, "seconds");
    json_object_del(copy, "latency_us");
    for (size_t i = 0; i < json_array_size(json_object_get(copy, "finishing")); i++)
        json_object_del(json_array_get(json_object_get(copy, "finishing"), i), "latency_us");
    for (size_t i = 0; i < json_array_size(json_object_get(copy, "controls")); i++) {
        json_object_del(json_array_get(json_object_get(copy, "controls"), i), "latency_us");
        json_object_del(json_array_get(json_object_get(copy, "controls"), i), "seconds");
    }
    text = json_dumps(copy, 0);
    json_decref(copy);
    return text;
}

static inline enum err_code on_commit(void *user, const struct job_commit *m, struct err *e)
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
    ck_assert_int_eq(m->weights == NULL, m->kind == JOB_COMMIT_CHECKPOINT || m->kind == JOB_COMMIT_CONTROL || json_object_get(m->record, "diverged") != NULL);
    if (!m->record)
        return ERR_OK;
    ck_assert_int_lt(c->n_events, MAX_EVENTS);
    mem_fail_in = 0;
    *ev = (struct event){ .kind = m->kind, .iteration = m->iteration, .text = stripped(m->record), .record = json_deep_copy(m->record) };
    mem_fail_in = hold;
    if (m->weights) {
        memcpy(ev->hash, m->weights->hash, sizeof ev->hash);
        snprintf(c->last_weights, sizeof c->last_weights, "%s", m->weights->path);
    }
    c->n_events++;
    return ERR_OK;
}

static inline void caller_init(struct caller *c, struct table *t, const char *options)
{
    json_t *j = json_loads(options, 0, NULL);
    struct err e = { 0 };

    ck_assert_msg(j != NULL, "%s", options);
    if (!json_object_get(j, "export")) /* finishing steps have tests of their own */
        json_object_set_new(j, "export", json_pack("{s:b}", "recalibrate", 0));
    json_object_set_new(j, "model", json_string("m"));
    json_object_set_new(j, "dataset", json_string("d"));
    *c = (struct caller){ .table = t, .regression = t->d.n_classes == 0, .checkpoint_seconds = 1000 };
    snprintf(c->dir, sizeof c->dir, "%s/job-test-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(c->dir));
    ck_assert_msg(job_conf_parse(&c->conf, j, false, &e) == ERR_OK, "%s: %s", e.at, e.msg);
    json_decref(j);
}

/* Files whose name contains part; all of them are removed when remove is set. */
static inline int files(const struct caller *c, const char *part, bool remove)
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

static inline void caller_clear(struct caller *c)
{
    for (int i = 0; i < c->n_events; i++) {
        mem_free(c->event[i].text);
        json_decref(c->event[i].record);
    }
    files(c, "", true);
    rmdir(c->dir);
}

/* One process: a fresh net, on from the last checkpoint. */
static inline enum err_code run(struct caller *c, int threads, struct err *e)
{
    struct job_hooks hooks = { on_stop, on_progress, on_new_file, on_commit, c->checkpoint_seconds, c };
    long hold = mem_fail_in;
    struct model model;
    struct net *net;
    enum err_code rc;

    mem_fail_in = 0;
    model = make_model(c->regression);
    mem_fail_in = hold;
    c->net = net = model.net;

    net_init(net, 42);
    for (int i = 0; c->sparse && i < net->n_weights; i++)
        for (size_t k = 0; k < net->weight[i].len && net->weight[i].info.prunable; k += 2)
            net->weight[i].x[k] = 0;
    c->stop_calls = 0;
    c->fraction = 0;
    c->n_commits = 0;
    c->stopped = false;
    rc = job_run(&c->conf, &model, &c->table->d, *c->checkpoint ? c->checkpoint : NULL, threads, &hooks, e);
    if (c->keep_net)
        json_decref(model.architecture);
    else
        model_clear(&model);
    return rc;
}

static inline void run_through(struct caller *c, int threads)
{
    struct err e = { 0 };
    enum err_code rc = run(c, threads, &e);

    ck_assert_msg(rc == ERR_OK, "%s: %s", err_slug(rc), e.msg);
    ck_assert_int_eq(files(c, ".tmp", false), 0);
}

static inline void same_history(const struct caller *a, const struct caller *b, const char *what)
{
    ck_assert_msg(a->n_events == b->n_events, "%s: %d events, not %d", what, b->n_events, a->n_events);
    for (int i = 0; i < a->n_events; i++) {
        ck_assert_msg(a->event[i].kind == b->event[i].kind && strcmp(a->event[i].text, b->event[i].text) == 0, "%s: event %d\n%s\n%s", what, i,
                      a->event[i].text, b->event[i].text);
        ck_assert_msg(strcmp(a->event[i].hash, b->event[i].hash) == 0, "%s: weights of event %d", what, i);
    }
}

/* Layers of a record that run sparse. */
static inline int n_sparse(const json_t *record)
{
    size_t l;
    json_t *layer;
    int n = 0;

    json_array_foreach(json_object_get(record, "layers"), l, layer)
        n += strcmp(json_string_value(json_object_get(layer, "kernel")), "sparse") == 0;
    return n;
}

static inline double number(const json_t *j, const char *key)
{
    ck_assert_msg(json_is_number(json_object_get(j, key)), "no number %s", key);
    return json_number_value(json_object_get(j, key));
}

static inline const json_t *result(const struct caller *c)
{
    ck_assert_int_eq(c->event[c->n_events - 1].kind, JOB_COMMIT_RESULT);
    return c->event[c->n_events - 1].record;
}

static inline const char *text_of(const json_t *j, const char *key) { return json_string_value(json_object_get(j, key)); }

#define TRAIN "\"train\": {\"epochs\": 4, \"batch_size\": 32, \"optimizer\": {\"type\": \"adam\", \"learning_rate\": 0.01}}, \"retrain\": {\"epochs\": 2}"
static const char plain[] = "{" TRAIN ", \"prune\": {\"iterations\": 4, \"target_sparsity\": 0.9}}";

#endif
