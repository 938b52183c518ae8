/* core/job_publish.c: what the phases share: evaluating, keeping and weighing the net, files and commits. Files are published first, then committed. */
#include "core/job_run.h"

#include <string.h>

enum err_code job_pack(struct job *j, struct err *e)
{
    int64_t n = j->conf->retrain.batch_size;

    return net_pack(j->net, n < j->views.train.n ? (int)n : j->views.train.n, e);
}

enum err_code job_no_memory(struct err *e) { return err_set(e, ERR_NOMEM, "out of memory"); }

enum err_code job_evaluate(struct job *j, const struct data_view *view, bool confusion, json_t **out, struct err *e)
{
    struct metrics m;
    enum err_code rc;

    if (view->n == 0) {
        *out = json_null();
        return ERR_OK;
    }
    rc = metrics_evaluate(&m, j->exec, j->net, &j->loss, view, j->team, job_stop, j, e);
    if (rc != ERR_OK)
        return rc;
    *out = metrics_json(&m, confusion);
    metrics_clear(&m);
    return *out ? ERR_OK : job_no_memory(e);
}

double job_metric_of(const struct job *j, const json_t *metrics)
{
    const json_t *v = json_object_get(metrics, metric_name(j->metric));

    return json_is_number(v) ? json_number_value(v) : NAN;
}

void job_keep(struct job *j, json_t *metrics)
{
    struct net_size size;

    net_count(j->net, &size);
    job_store(j, ARRAYS_KEPT);
    job_copy(j, ARRAYS_KEPT_MOVED, ARRAYS_MOVED);
    job_copy(j, ARRAYS_KEPT_BEHIND, ARRAYS_BEHIND);
    for (int i = 0; i < j->net->n_weights; i++) {
        const struct weight *w = &j->net->weight[i];

        if (w->mask && j->kept_mask[i])
            memcpy(j->kept_mask[i], w->mask, w->len);
        else if (j->kept_mask[i])
            memset(j->kept_mask[i], 1, w->len);
    }
    json_decref(j->state.kept);
    json_decref(j->state.kept_path);
    j->state.kept = metrics;
    j->state.kept_path = json_incref(j->state.path);
    j->state.kept_iteration = j->state.iteration;
    j->state.kept_nonzero = size.nonzero;
}

enum err_code job_take_kept(struct job *j, struct err *e)
{
    job_recall(j, ARRAYS_KEPT);
    job_copy(j, ARRAYS_MOVED, ARRAYS_KEPT_MOVED);
    job_copy(j, ARRAYS_BEHIND, ARRAYS_KEPT_BEHIND);
    for (int i = 0; i < j->net->n_weights; i++) /* the mask was the last iteration's, which need not be this one */
        if (j->net->weight[i].mask)
            memcpy(j->net->weight[i].mask, j->kept_mask[i], j->net->weight[i].len);
    return job_pack(j, e);
}

enum err_code job_adopt(struct job *j, const struct model *m, struct err *e)
{
    enum err_code rc;

    exec_free(j->exec);
    j->exec = NULL;
    j->model = m;
    j->net = m->net;
    rc = job_bind_loss(&j->loss, j->conf, m->net, j->data, e);
    return rc == ERR_OK ? exec_new(&j->exec, m->net, JOB_EVALUATION_BATCH, EXEC_INFER, (uint64_t)j->conf->seed, j->team, e) : rc;
}

/* ---- files and commits ---- */

enum err_code job_publish(struct job *j, const char *kind, job_write_fn *write, struct job_file *out, struct err *e)
{
    struct file_out *f = NULL;
    enum err_code rc = j->hooks->new_file(j->hooks->user, kind, out->path, sizeof out->path, e);

    if (rc == ERR_OK)
        rc = file_out_new(&f, out->path, e);
    if (rc == ERR_OK)
        rc = write(j, f, e);
    if (rc == ERR_OK)
        rc = file_out_publish(f, out->hash, e);
    if (rc == ERR_OK)
        out->bytes = file_out_size(f);
    file_out_free(f);
    return rc;
}

static enum err_code write_weights(struct job *j, struct file_out *f, struct err *e)
{
    const struct model_format *format = (const struct model_format *)(const void *)plug_find(&model_format_table, j->reshaped ? "packed" : "safetensors");

    return format->write(j->model, f, e);
}

static enum err_code write_checkpoint(struct job *j, struct file_out *f, struct err *e)
{
    struct checkpoint c = { .net = j->given->net, .array = (float *const *const *)j->array, .kept_mask = j->kept_mask, .control = j->control.net,
                            .trainer = j->trainer, .state = &j->state };

    return checkpoint_write(&c, f, e);
}

enum err_code job_commit_state(struct job *j, enum job_commit_kind kind, const json_t *record, const struct job_file *weights, struct err *e)
{
    struct job_file checkpoint = { "", "", 0 };
    struct job_commit c = { kind, j->state.iteration, record, &checkpoint, weights };
    enum err_code rc = job_publish(j, "checkpoint", write_checkpoint, &checkpoint, e);

    if (rc == ERR_OK)
        rc = j->hooks->commit(j->hooks->user, &c, e);
    if (rc == ERR_OK)
        j->saved = report_clock();
    return rc;
}

/* That of the training that the net comes from. */
static double clip_weights(const struct job *j)
{
    int64_t iteration = j->state.phase == PHASE_FINISH ? j->state.kept_iteration : j->model == &j->control ? 0 : j->state.iteration;

    return iteration > 0 ? j->conf->retrain.clip_weights : j->conf->train.clip_weights;
}

enum err_code job_measure(struct job *j, json_t *record, struct err *e)
{
    struct latency latency = { 0 };
    json_t *size = NULL;
    enum err_code rc = report_measure(&latency, j->net, job_stop, j, e);

    if (rc == ERR_OK) {
        size = report_size(j->model, clip_weights(j));
        if (!size || json_object_update(record, size) != 0 || !report_put(record, "latency_us", report_latency(&latency, j->net)))
            rc = job_no_memory(e);
    }
    json_decref(size);
    latency_clear(&latency);
    return rc;
}

enum err_code job_weigh(struct job *j, json_t *record, struct job_file *weights, struct err *e)
{
    enum err_code rc = job_publish(j, "weights", write_weights, weights, e);

    return rc == ERR_OK ? job_measure(j, record, e) : rc;
}
