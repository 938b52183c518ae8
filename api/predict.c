/* api/predict.c: outputs and classes of samples, which come with the request or are a part of a data set's split. The body may be large: it is a file,
 * read where it lies, and only its few options go through Jansson. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/bench.h"
#include "core/digits.h"
#include "core/jsonguard.h"
#include "core/mem.h"
#include "core/predict.h"

enum { DEPTH = 16, MAX_OPTIONS = 4096 /* bytes of one */, MAX_NUMBERS = 250000 /* in one reply */ };

struct predict_conf { char dataset[64]; int split; bool scale; int64_t first, limit; };
const struct param api_predict_params[] = {
    FIELD_TEXT(struct predict_conf, dataset, "", "Id of the data set whose scaling and classes count. A job's model: the job's own when absent."),
    FIELD_CHOICE(struct predict_conf, split, "none|train|validation|test", 0, "Predict samples of this split of the data set, in place of `samples`."),
    FIELD_BOOL(struct predict_conf, scale, true, "Samples are as the data set has them, and are scaled as it says; false: they are scaled already."),
    FIELD_INT(struct predict_conf, first, 0, INT32_MAX, 0, "Of a split: the first sample, counted from 0."),
    FIELD_INT(struct predict_conf, limit, 1, API_MAX_SAMPLES, 1000, "Of a split: at most so many samples."),
    FIELD_END
};

/* ---- the request ---- */

struct request {
    struct predict_conf conf;
    bool given;               /* there are samples, */
    struct json_scan samples; /* here */
    json_t *options;
};

static enum err_code read_member(void *user, struct json_scan *s, const char *key, struct err *e)
{
    struct request *r = user;
    bool samples = strcmp(key, "samples") == 0;
    size_t tokens = samples ? SIZE_MAX : MAX_OPTIONS;
    struct json_scan at = *s;
    struct json_token t;
    json_t *v;
    enum err_code rc = scan_peek(s, &t, e);

    if (rc == ERR_OK)
        rc = scan_skip(s, DEPTH, &tokens, e);
    if (rc != ERR_OK)
        return rc;
    if (samples ? r->given : json_object_get(r->options, key) != NULL)
        return err_set(e, ERR_SYNTAX, "stands twice");
    if (samples) {
        r->given = true;
        r->samples = at;
        return ERR_OK;
    }
    rc = s->at - t.first <= MAX_OPTIONS ? json_read(&v, s->text + t.first, s->at - t.first, MAX_OPTIONS, e) : err_set(e, ERR_INVALID, "is too long");
    if (rc == ERR_OK && json_object_set_new(r->options, key, v) != 0)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    return rc;
}

static enum err_code read_request(struct request *r, const struct file_map *map, struct err *e)
{
    struct json_scan s = { (const char *)map->data, map->len, 0 };
    struct json_token t;
    enum err_code rc = ERR_OK;

    r->options = json_object();
    if (!r->options)
        return err_set(e, ERR_NOMEM, "out of memory");
    rc = scan_members(&s, read_member, r, e);
    if (rc == ERR_OK)
        rc = scan_expect(&s, SCAN_END, &t, e);
    if (rc == ERR_OK)
        rc = params_parse(&r->conf, sizeof r->conf, api_predict_params, r->options, e);
    if (rc == ERR_OK && r->given == (r->conf.split > 0))
        rc = err_field(e, ERR_INVALID, "/samples", r->given ? "samples and split exclude each other" : "is required, or a split");
    return rc;
}

/* ---- the reply ---- */

struct prediction {
    struct bench *bench;
    const struct data_view *view;
    int first, n, k;
    float *out;      /* [n][k] */
    bool classifies;
    bool labelled;   /* the view is of a split: what is true is known */
};

static json_t *number(float x)
{
    return isfinite(x) ? json_real(digits_of_float(x)) : json_null();
}

static json_t *list(const float *x, int k)
{
    json_t *a = json_array();

    for (int i = 0; i < k; i++)
        if (json_array_append_new(a, number(x[i])) != 0) {
            json_decref(a);
            return NULL;
        }
    return a;
}

/* The same as {"0": .., "1": ..}, for columns. */
static json_t *columns(const float *x, int k)
{
    json_t *o = json_object();
    char key[16];

    for (int i = 0; i < k; i++) {
        snprintf(key, sizeof key, "%d", i);
        if (json_object_set_new(o, key, number(x[i])) != 0) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

/* *label: what the data set says. */
static bool add_truth(json_t *record, const struct prediction *p, int i)
{
    const struct data_split *s = p->view->split;
    size_t at = p->view->index[p->first + i], width = (size_t)p->view->data->n_target;

    if (s->label)
        return json_object_set_new(record, "label", json_integer(s->label[at])) == 0;
    return json_object_set_new(record, "target", list(s->target + at * width, (int)width)) == 0;
}

/* New reference; NULL: out of memory. */
static json_t *record_of(const struct prediction *p, int i, enum api_format format)
{
    const float *out = p->out + (size_t)i * (size_t)p->k;
    const json_t *names = p->bench->data ? p->bench->data->classes : NULL;
    json_t *record = json_pack("{s:i}", "sample", p->first + i);
    int c = p->classifies ? predict_class(p->bench->model.net, out, p->k) : 0;
    bool ok = record != NULL;

    if (ok && p->classifies)
        ok = json_object_set_new(record, "class", json_integer(c)) == 0;
    if (ok && p->classifies && names)
        ok = json_object_set(record, "class_name", json_array_get(names, (size_t)c)) == 0;
    if (ok && p->labelled)
        ok = add_truth(record, p, i);
    if (ok)
        ok = json_object_set_new(record, "outputs", format == API_CSV ? columns(out, p->k) : list(out, p->k)) == 0;
    if (ok)
        return record;
    json_decref(record);
    return NULL;
}

static enum err_code reply_table(const struct prediction *p, enum api_format format, struct reply *rp, struct err *e)
{
    struct api_table t;
    enum err_code rc = api_table_begin(&t, format, e);

    for (int i = 0; i < p->n && rc == ERR_OK; i++)
        rc = api_table_add(&t, record_of(p, i, format), e);
    return api_table_end(&t, rc, rp, e);
}

static enum err_code reply_json(const struct prediction *p, const struct request *r, const struct req *rq, struct reply *rp, struct err *e)
{
    json_t *data = json_array();
    json_t *j = json_pack("{s:s,s:s?,s:i,s:i,s:i,s:b,s:O?,s:o}", "object", "prediction", "split",
                          r->given ? NULL : data_split_name[r->conf.split - 1], "first", p->first, "samples", p->n, "of", p->view->n, "has_more",
                          p->first + p->n < p->view->n, "classes", p->bench->data ? p->bench->data->classes : NULL, "data", data);
    enum err_code rc = j ? bench_names(j, p->bench, rq, e) : err_set(e, ERR_NOMEM, "out of memory");

    for (int i = 0; i < p->n && rc == ERR_OK; i++)
        rc = api_append(data, record_of(p, i, API_JSON), e);
    if (rc == ERR_OK)
        return api_reply(rp, 0, j, e);
    json_decref(j);
    return rc;
}

/* ---- the work ---- */

/* Which samples: the view is set, and how many of it. */
static enum err_code choose(struct prediction *p, struct predict_samples *samples, struct request *r, struct err *e)
{
    struct bench *b = p->bench;
    int64_t left;
    enum err_code rc;

    if (r->given) {
        rc = predict_read(samples, &r->samples, b->model.net, r->conf.scale ? b->data : NULL, API_MAX_SAMPLES, e);
        p->view = &samples->view;
        p->n = samples->view.n;
        return rc == ERR_OK ? rc : err_at(e, rc, "/samples");
    }
    if (!b->data)
        return err_field(e, ERR_INVALID, "/dataset", "is required, to have a split");
    rc = bench_view(&p->view, b, r->conf.split - 1, e);
    if (rc != ERR_OK)
        return rc;
    if (p->view->n == 0)
        return err_field(e, ERR_INVALID, "/split", "the data set has no %s split", data_split_name[r->conf.split - 1]);
    left = p->view->n - r->conf.first;
    if (left <= 0)
        return err_field(e, ERR_INVALID, "/first", "the split has %d samples", p->view->n);
    p->first = (int)r->conf.first;
    p->n = (int)(left < r->conf.limit ? left : r->conf.limit);
    p->labelled = true;
    return ERR_OK;
}

static enum err_code compute(struct prediction *p, struct err *e)
{
    struct bench *b = p->bench;
    enum err_code rc = bench_memory(b, p->n, e);

    p->k = (int)shape_len(net_output(b->model.net));
    if (rc == ERR_OK && (int64_t)p->n * p->k > MAX_NUMBERS)
        rc = err_set(e, ERR_TOO_LARGE, "%d samples of %d outputs are more than %d numbers: ask for fewer samples", p->n, p->k, MAX_NUMBERS);
    if (rc == ERR_OK && !(p->out = mem_alloc((size_t)p->n * (size_t)p->k * sizeof(float))))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    return rc == ERR_OK ? bench_stopped(b, predict_run(p->out, b->model.net, p->view, p->first, p->n, bench_stop, b, e), e) : rc;
}

static enum err_code predict(struct bench *b, struct request *r, const struct req *rq, struct reply *rp, struct err *e)
{
    struct predict_samples samples = { .x = NULL };
    struct prediction p = { .bench = b };
    struct loss_binding loss;
    enum api_format format;
    enum err_code rc = api_format(rq, &format, e);

    if (rc == ERR_OK && b->data)
        rc = bench_loss(&loss, b, e);
    p.classifies = b->data ? b->data->n_classes > 0 : predict_is_classifier(b->model.net);
    if (rc == ERR_OK)
        rc = choose(&p, &samples, r, e);
    if (rc == ERR_OK)
        rc = compute(&p, e);
    if (rc == ERR_OK)
        rc = format == API_JSON ? reply_json(&p, r, rq, rp, e) : reply_table(&p, format, rp, e);
    mem_free(p.out);
    predict_samples_free(&samples);
    return rc;
}

static enum err_code run(api_serve_fn *find, struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct file_map map = { 0 };
    struct bench b = { .app = NULL };
    struct request r = { .given = false };
    enum err_code rc = file_map_open(&map, rq->body_path, e);

    if (rc == ERR_OK)
        rc = read_request(&r, &map, e);
    if (rc == ERR_OK)
        rc = bench_open(&b, find, r.conf.dataset, app, rq, e);
    if (rc == ERR_OK)
        rc = predict(&b, &r, rq, rp, e);
    bench_clear(&b);
    json_decref(r.options);
    file_map_close(&map);
    return rc;
}

enum err_code api_model_predict(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return run(api_served_model, app, rq, rp, e);
}

enum err_code api_job_predict(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return run(api_served_job, app, rq, rp, e);
}

enum err_code api_job_iteration_predict(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return run(api_served_iteration, app, rq, rp, e);
}
