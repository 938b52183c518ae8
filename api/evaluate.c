/* api/evaluate.c: what a model is worth on a split of a data set: the metrics that jobs publish, of any model at any time. */
#include <stdio.h>

#include "api/bench.h"
#include "core/metrics.h"
#include "core/predict.h"
#include "server/log.h"

struct evaluate_conf { char dataset[64]; int split; };
const struct param api_evaluate_params[] = {
    FIELD_TEXT(struct evaluate_conf, dataset, "", "Id of the data set. A job's model: the job's own when absent."),
    FIELD_CHOICE(struct evaluate_conf, split, "train|validation|test", DATA_TEST,
                 "Of a job's own data set, train and validation are what the job took for them."),
    FIELD_END
};

static enum err_code measure(struct metrics *m, struct bench *b, const struct data_view *v, struct err *e)
{
    const int batch = v->n < JOB_EVALUATION_BATCH ? v->n : JOB_EVALUATION_BATCH;
    struct loss_binding loss;
    struct exec *x = NULL;
    enum err_code rc = bench_loss(&loss, b, e);

    if (rc == ERR_OK)
        rc = bench_memory(b, v->n, e);
    if (rc == ERR_OK)
        rc = predict_pack(b->model.net, batch, e);
    if (rc == ERR_OK)
        rc = exec_new(&x, b->model.net, batch, EXEC_INFER, 0, NULL, e);
    if (rc == ERR_OK)
        rc = bench_stopped(b, metrics_evaluate(m, x, b->model.net, &loss, v, NULL, bench_stop, b, e), e);
    exec_free(x);
    return rc;
}

static json_t *evaluation_json(const struct bench *b, const struct metrics *m, int split, int n, double seconds)
{
    struct net_size size;

    net_count(b->model.net, &size);
    return json_pack("{s:s,s:s,s:i,s:o,s:O?,s:I,s:I,s:f,s:I,s:I,s:I,s:f}", "object", "evaluation", "split", data_split_name[split], "samples", n,
                     "metrics", metrics_json(m, true), "classes", b->data->classes, "weights", (json_int_t)size.weights, "nonzero",
                     (json_int_t)size.nonzero, "sparsity", size.weights ? (double)(size.weights - size.nonzero) / (double)size.weights : 0.0,
                     "params", (json_int_t)size.params, "params_nonzero", (json_int_t)size.params_nonzero, "macs", (json_int_t)size.macs_nonzero,
                     "seconds", seconds);
}

static enum err_code evaluate(struct bench *b, int split, const struct req *rq, struct reply *rp, struct err *e)
{
    const struct data_view *v;
    int64_t begun = clock_mono_ms();
    struct metrics m = { .n = 0 };
    json_t *j = NULL;
    enum err_code rc = bench_view(&v, b, split, e);

    if (rc == ERR_OK)
        rc = v->n > 0 ? measure(&m, b, v, e) : err_field(e, ERR_INVALID, "/split", "the data set has no %s split", data_split_name[split]);
    if (rc == ERR_OK) {
        j = evaluation_json(b, &m, split, v->n, (double)(clock_mono_ms() - begun) / 1000);
        rc = bench_names(j, b, rq, e);
    }
    metrics_clear(&m);
    if (rc == ERR_OK)
        return api_reply(rp, 0, j, e);
    json_decref(j);
    return rc;
}

static enum err_code run(api_serve_fn *find, struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    struct bench b = { .app = NULL };
    struct evaluate_conf conf;
    enum err_code rc = params_parse(&conf, sizeof conf, api_evaluate_params, rq->body, e);

    if (rc == ERR_OK)
        rc = bench_open(&b, find, conf.dataset, app, rq, e);
    if (rc == ERR_OK && !b.data)
        rc = err_field(e, ERR_INVALID, "/dataset", "is required");
    if (rc == ERR_OK)
        rc = evaluate(&b, conf.split, rq, rp, e);
    bench_clear(&b);
    return rc;
}

enum err_code api_model_evaluate(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return run(api_served_model, app, rq, rp, e);
}

enum err_code api_job_evaluate(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return run(api_served_job, app, rq, rp, e);
}

enum err_code api_job_iteration_evaluate(struct app *app, const struct req *rq, struct reply *rp, struct err *e)
{
    return run(api_served_iteration, app, rq, rp, e);
}
