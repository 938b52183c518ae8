/* core/checkpoint.c: a running job as one safetensors file, and back.
 *
 *   1. for every weight of the net, as the engine stores it, "mask/<weight>" U8 where it has one, and "net/<weight>" F32: whole, or of a sparse
 *      one the numbers that the mask keeps, in one dimension;
 *   2. "kept/<weight>" F32, for every weight, once there is a kept model, and "kept_mask/<weight>" U8 of prunable ones;
 *   3. "origin/<weight>", "base/<weight>" F32, likewise, once there are weights to rewind to, and a baseline that a control starts from; "moved/<weight>",
 *      "behind/<weight>" F32, of prunable weights, where criterion or regrowth ask for them, and where a search may roll back to the kept model, its own,
 *      "kept_moved/<weight>", "kept_behind/<weight>";
 *   4. "control/<weight>" F32, for every weight of the net that a control trains instead;
 *   5. "train/..." whatever the running training phase remembers (train.h);
 *   6. metadata "job": the state as JSON text, with the training's position under "train". */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/job_impl.h"
#include "core/jsonguard.h"
#include "core/mem.h"

static const char *const phase_names[] = {
#define X(id, name) name,
    JOB_PHASE_LIST(X)
#undef X
};
static const char *const array_names[] = {
#define X(id, name) name,
    JOB_ARRAYS_LIST(X)
#undef X
};

void job_state_clear(struct job_state *s)
{
    json_decref(s->detail);
    json_decref(s->start);
    json_decref(s->baseline);
    json_decref(s->test);
    json_decref(s->pruned);
    json_decref(s->kept);
    json_decref(s->path);
    json_decref(s->kept_path);
    json_decref(s->controls);
    *s = (struct job_state){ 0 };
}

/* ---- state and JSON ---- */

static json_t *or_null(json_t *j) { return j ? json_incref(j) : json_null(); }

static json_t *search_json(const struct job_search *s)
{
    return json_pack("{s:f,s:f,s:f,s:f,s:f,s:I,s:b,s:b}", "level", s->level, "kept", s->kept, "failed", s->failed, "step", s->step, "rate", s->rate,
                     "tries", (json_int_t)s->tries, "down", (int)s->down, "roll_back", (int)s->roll_back);
}

static bool search_from_json(struct job_search *s, const json_t *j)
{
    json_int_t tries;
    int down, back;

    if (json_unpack((json_t *)j, "{s:F,s:F,s:F,s:F,s:F,s:I,s:b,s:b}", "level", &s->level, "kept", &s->kept, "failed", &s->failed, "step", &s->step,
                    "rate", &s->rate, "tries", &tries, "down", &down, "roll_back", &back) != 0)
        return false;
    s->tries = tries;
    s->down = down;
    s->roll_back = back;
    return true;
}

static json_t *state_json(const struct job_state *s)
{
    json_t *j = json_object(), *spent = json_array();
    bool ok = j && spent;

    for (int i = 0; i < SPENT_KINDS && ok; i++)
        ok = json_array_append_new(spent, json_real(s->spent[i])) == 0;
    ok = ok && report_put(j, "phase", json_string(phase_names[s->phase])) && report_put(j, "iteration", json_integer(s->iteration)) &&
         report_put(j, "reason", json_integer(s->reason)) && report_put(j, "detail", or_null(s->detail)) &&
         report_put(j, "seconds", json_real(s->seconds)) &&
         report_put(j, "spent", json_incref(spent)) && report_put(j, "start", or_null(s->start)) &&
         report_put(j, "baseline", or_null(s->baseline)) && report_put(j, "test", or_null(s->test)) &&
         report_put(j, "pruned", or_null(s->pruned)) &&
         report_put(j, "damping", isfinite(s->damping) ? json_real(s->damping) : json_null()) && report_put(j, "search", search_json(&s->search)) &&
         report_put(j, "has_origin", json_boolean(s->has_origin)) &&
         report_put(j, "kept_iteration", json_integer(s->kept_iteration)) &&
         report_put(j, "kept_nonzero", json_integer((json_int_t)s->kept_nonzero)) && report_put(j, "kept", or_null(s->kept)) &&
         report_put(j, "path", or_null(s->path)) && report_put(j, "kept_path", or_null(s->kept_path)) &&
         report_put(j, "control", json_integer(s->control)) && report_put(j, "training", json_integer(s->training)) &&
         report_put(j, "controls", or_null(s->controls));
    json_decref(spent);
    if (ok)
        return j;
    json_decref(j);
    return NULL;
}

static json_t *borrow_object(const json_t *j, const char *key)
{
    json_t *v = json_object_get(j, key);

    return json_is_null(v) ? NULL : json_incref(v);
}

static enum err_code state_from_json(struct job_state *s, const json_t *j, struct err *e)
{
    const char *phase = json_string_value(json_object_get(j, "phase"));
    const json_t *spent = json_object_get(j, "spent");
    int p = 0;

    while (p < JOB_PHASES && !(phase && strcmp(phase, phase_names[p]) == 0))
        p++;
    if (p == JOB_PHASES)
        return err_set(e, ERR_INVALID, "checkpoint: no phase of this job");
    *s = (struct job_state){ .phase = (enum job_phase)p,
                             .iteration = json_integer_value(json_object_get(j, "iteration")),
                             .reason = (enum job_reason)json_integer_value(json_object_get(j, "reason")),
                             .seconds = json_number_value(json_object_get(j, "seconds")),
                             .has_origin = json_is_true(json_object_get(j, "has_origin")),
                             .kept_iteration = json_integer_value(json_object_get(j, "kept_iteration")),
                             .kept_nonzero = (uint64_t)json_integer_value(json_object_get(j, "kept_nonzero")),
                             .damping = json_is_number(json_object_get(j, "damping")) ? json_number_value(json_object_get(j, "damping")) : NAN,
                             .control = (int)json_integer_value(json_object_get(j, "control")),
                             .training = json_integer_value(json_object_get(j, "training")) };
    for (int i = 0; i < SPENT_KINDS; i++)
        s->spent[i] = json_number_value(json_array_get(spent, (size_t)i));
    s->detail = borrow_object(j, "detail");
    s->start = borrow_object(j, "start");
    s->baseline = borrow_object(j, "baseline");
    s->test = borrow_object(j, "test");
    s->pruned = borrow_object(j, "pruned");
    s->kept = borrow_object(j, "kept");
    s->path = borrow_object(j, "path");
    s->kept_path = borrow_object(j, "kept_path");
    s->controls = borrow_object(j, "controls");
    if (!search_from_json(&s->search, json_object_get(j, "search")) || (unsigned)s->reason >= JOB_REASONS || s->iteration < 0 || (p > PHASE_BASELINE && !(s->start && s->baseline && s->kept)) ||
        (p > PHASE_DAMAGE && p < PHASE_CONTROL && !s->pruned) || s->control < 0 || s->training < 0) {
        job_state_clear(s);
        return err_set(e, ERR_INVALID, "checkpoint: its state is not whole");
    }
    return ERR_OK;
}

/* Whether a checkpoint with this state has them, where they are wanted at all. */
static bool is_due(const struct job_state *s, int array)
{
    switch ((enum job_arrays)array) {
    case ARRAYS_KEPT: case ARRAYS_KEPT_MOVED: case ARRAYS_KEPT_BEHIND: return s->kept != NULL;
    case ARRAYS_ORIGIN: return s->has_origin;
    case ARRAYS_BASE: return s->start != NULL;
    default: return true;
    }
}

/* ---- writing ---- */

static enum err_code add(struct st_writer *w, const char *group, const struct weight *weight, enum st_dtype dtype, const struct shape *shape,
                         const void *data, struct err *e)
{
    char name[OP_NAME_MAX + 16];

    snprintf(name, sizeof name, "%s/%s", group, weight->name);
    return st_add(w, name, dtype, shape, data, e);
}

/* All numbers, or those that the mask keeps, in the kernel's own order. */
static enum err_code add_values(struct st_writer *w, const struct weight *weight, struct err *e)
{
    const struct shape shape = weight_values_shape(weight);
    char name[OP_NAME_MAX + 16];

    snprintf(name, sizeof name, "net/%s", weight->name);
    return st_add_ordered(w, name, &shape, weight_values(weight), weight_order(weight), e);
}

static enum err_code add_arrays(const struct checkpoint *c, struct st_writer *w, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (int i = 0; i < c->net->n_weights && rc == ERR_OK; i++) {
        const struct weight *weight = &c->net->weight[i];
        const struct shape *whole = &weight->info.shape;

        if (weight->mask)
            rc = add(w, "mask", weight, ST_U8, whole, weight->mask, e);
        if (rc == ERR_OK)
            rc = add_values(w, weight, e);
        for (int a = 0; a < JOB_ARRAYS && rc == ERR_OK; a++)
            if (c->array[a] && c->array[a][i] && is_due(c->state, a))
                rc = add(w, array_names[a], weight, ST_F32, whole, c->array[a][i], e);
        if (rc == ERR_OK && is_due(c->state, ARRAYS_KEPT) && weight->info.prunable)
            rc = add(w, "kept_mask", weight, ST_U8, whole, c->kept_mask[i], e);
    }
    for (int i = 0; c->control && i < c->control->n_weights && rc == ERR_OK; i++)
        rc = add(w, "control", &c->control->weight[i], ST_F32, &c->control->weight[i].info.shape, c->control->weight[i].x, e);
    return rc;
}

enum err_code checkpoint_write(const struct checkpoint *c, struct file_out *f, struct err *e)
{
    struct st_writer *w = NULL;
    json_t *meta = state_json(c->state), *strings = NULL;
    char *text = NULL;
    enum err_code rc;

    assert(!c->net->ahead);
    rc = meta ? st_writer_new(&w, e) : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK)
        rc = add_arrays(c, w, e);
    if (rc == ERR_OK && c->trainer)
        rc = trainer_save(c->trainer, w, meta, e);
    if (rc == ERR_OK) {
        text = json_text(meta, JSON_COMPACT, NULL);
        strings = text ? json_object() : NULL;
        rc = report_put(strings, "job", text ? json_string(text) : NULL) ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
    }
    if (rc == ERR_OK)
        rc = st_write(w, strings, f, e);
    json_decref(strings);
    json_decref(meta);
    mem_free(text);
    st_writer_free(w);
    return rc;
}

/* ---- reading ---- */

enum err_code checkpoint_open(struct checkpoint_file *c, const char *path, struct err *e)
{
    const char *text;
    json_error_t why = { 0 };
    enum err_code rc;

    *c = (struct checkpoint_file){ 0 };
    rc = file_map_open(&c->map, path, e);
    if (rc == ERR_OK)
        rc = st_parse(&c->st, c->map.data, c->map.len, e);
    if (rc == ERR_OK) {
        text = json_string_value(json_object_get(c->st.metadata, "job"));
        c->meta = text ? json_loads(text, 0, &why) : NULL;
        if (!c->meta)
            rc = text && json_error_code(&why) == json_error_out_of_memory ? err_set(e, ERR_NOMEM, "out of memory")
                                                                           : err_set(e, ERR_INVALID, "checkpoint: no state in it");
    }
    if (rc != ERR_OK)
        checkpoint_close(c);
    return rc;
}

void checkpoint_close(struct checkpoint_file *c)
{
    json_decref(c->meta);
    st_file_free(&c->st);
    file_map_close(&c->map);
    *c = (struct checkpoint_file){ 0 };
}

static enum err_code misfit(const char *group, const struct weight *w, struct err *e)
{
    return err_set(e, ERR_INVALID, "checkpoint: %s/%s does not fit the model", group, w->name);
}

/* NULL: not there. */
static const struct st_array *find(const struct checkpoint_file *c, const char *group, const struct weight *w)
{
    char name[OP_NAME_MAX + 16];

    snprintf(name, sizeof name, "%s/%s", group, w->name);
    return st_find(&c->st, name);
}

/* Copies an array of the file, which must be there with this dtype and length. */
static enum err_code fetch(const struct checkpoint_file *c, const char *group, const struct weight *w, enum st_dtype dtype, void *out,
                           size_t bytes, struct err *e)
{
    const struct st_array *a = find(c, group, w);

    if (!a || a->dtype != dtype || a->bytes != bytes)
        return misfit(group, w, e);
    memcpy(out, a->data, bytes);
    return ERR_OK;
}

static enum err_code fetch_mask(const struct checkpoint_file *c, struct weight *w, struct err *e)
{
    if (!find(c, "mask", w)) {
        mem_free(w->mask);
        w->mask = NULL;
        return ERR_OK;
    }
    if (!w->mask)
        w->mask = mem_alloc(w->len);
    if (!w->mask)
        return err_set(e, ERR_NOMEM, "out of memory");
    return fetch(c, "mask", w, ST_U8, w->mask, w->len, e);
}

/* All numbers, or those that the mask keeps. */
static enum err_code fetch_values(const struct checkpoint_file *c, struct weight *w, struct err *e)
{
    const struct st_array *a = find(c, "net", w);
    const char *from;
    size_t kept = 0;

    if (!w->mask || !a || a->shape.n_d == w->info.shape.n_d)
        return fetch(c, "net", w, ST_F32, w->x, w->len * sizeof(float), e);
    for (size_t i = 0; i < w->len; i++)
        kept += w->mask[i] != 0;
    if (a->dtype != ST_F32 || a->bytes != kept * sizeof(float))
        return misfit("net", w, e);
    from = a->data;
    for (size_t i = 0; i < w->len; i++) {
        w->x[i] = 0;
        if (w->mask[i]) {
            memcpy(&w->x[i], from, sizeof(float));
            from += sizeof(float);
        }
    }
    return ERR_OK;
}

enum err_code checkpoint_restore_control(const struct checkpoint_file *c, struct net *control, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (struct weight *w = control->weight; w < control->weight + control->n_weights && rc == ERR_OK; w++)
        rc = fetch(c, "control", w, ST_F32, w->x, w->len * sizeof(float), e);
    return rc;
}

enum err_code checkpoint_restore(const struct checkpoint_file *c, struct net *net, float *const *const *array, uint8_t *const *kept_mask,
                                 struct job_state *s, struct err *e)
{
    enum err_code rc = state_from_json(s, c->meta, e);

    for (int i = 0; i < net->n_weights && rc == ERR_OK; i++) {
        struct weight *w = &net->weight[i];

        rc = fetch_mask(c, w, e);
        if (rc == ERR_OK)
            rc = fetch_values(c, w, e);
        for (int a = 0; a < JOB_ARRAYS && rc == ERR_OK; a++)
            if (array[a] && array[a][i] && is_due(s, a))
                rc = fetch(c, array_names[a], w, ST_F32, array[a][i], w->len * sizeof(float), e);
        if (rc == ERR_OK && is_due(s, ARRAYS_KEPT) && w->info.prunable)
            rc = fetch(c, "kept_mask", w, ST_U8, kept_mask[i], w->len, e);
    }
    return rc;
}
