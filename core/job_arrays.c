/* core/job_arrays.c: arrays as long as the job's weights, that travel beside its net (JOB_ARRAYS_LIST). */
#include <string.h>

#include "core/job_run.h"
#include "core/mem.h"

static bool is_wanted(const struct job *j, int array)
{
    switch ((enum job_arrays)array) {
    case ARRAYS_ORIGIN: return rewind_of(&j->conf->prune.rewind)->weights == REWIND_SAVED;
    case ARRAYS_BASE: return j->conf->controls.random.on;
    case ARRAYS_MOVED: return criterion_of(j->conf->prune.criterion.plug)->moved;
    case ARRAYS_BEHIND: return regrow_of(&j->conf->prune.regrow)->splices;
    case ARRAYS_KEPT_MOVED: return job_searches(j) && is_wanted(j, ARRAYS_MOVED);
    case ARRAYS_KEPT_BEHIND: return job_searches(j) && is_wanted(j, ARRAYS_BEHIND);
    default: return true;
    }
}

static bool fill(struct job *j, int array)
{
    const struct net *net = j->given->net;
    float **a = j->array[array] = mem_zalloc((size_t)net->n_weights, sizeof *a);

    for (int i = 0; a && i < net->n_weights; i++) {
        if (array >= ARRAYS_MOVED && !net->weight[i].info.prunable)
            continue;
        a[i] = mem_vector(net->weight[i].len);
        if (!a[i])
            return false;
    }
    return a != NULL;
}

enum err_code job_arrays_new(struct job *j, struct err *e)
{
    const struct net *net = j->given->net;
    bool ok = (j->kept_mask = mem_zalloc((size_t)net->n_weights, sizeof *j->kept_mask)) != NULL;

    for (int a = 0; a < JOB_ARRAYS && ok; a++)
        ok = !is_wanted(j, a) || fill(j, a);
    for (int i = 0; i < net->n_weights && ok; i++)
        ok = !net->weight[i].info.prunable || (j->kept_mask[i] = mem_alloc(net->weight[i].len)) != NULL;
    return ok ? ERR_OK : job_no_memory(e);
}

void job_arrays_free(struct job *j)
{
    for (int i = 0; i < j->given->net->n_weights; i++) {
        for (int a = 0; a < JOB_ARRAYS; a++)
            if (j->array[a])
                mem_free(j->array[a][i]);
        if (j->kept_mask)
            mem_free(j->kept_mask[i]);
    }
    for (int a = 0; a < JOB_ARRAYS; a++)
        mem_free(j->array[a]);
    mem_free(j->kept_mask);
}

void job_store(struct job *j, enum job_arrays array)
{
    for (int i = 0; j->array[array] && i < j->net->n_weights; i++)
        memcpy(j->array[array][i], j->net->weight[i].x, j->net->weight[i].len * sizeof(float));
}

void job_recall(struct job *j, enum job_arrays array)
{
    for (int i = 0; i < j->net->n_weights; i++)
        memcpy(j->net->weight[i].x, j->array[array][i], j->net->weight[i].len * sizeof(float));
}

void job_copy(struct job *j, enum job_arrays to, enum job_arrays from)
{
    for (int i = 0; j->array[to] && j->array[from] && i < j->given->net->n_weights; i++)
        if (j->array[to][i])
            memcpy(j->array[to][i], j->array[from][i], j->given->net->weight[i].len * sizeof(float));
}

void job_hold(struct job *j, bool masked_too)
{
    for (int i = 0; j->array[ARRAYS_BEHIND] && i < j->net->n_weights; i++) {
        const struct weight *w = &j->net->weight[i];
        float *behind = j->array[ARRAYS_BEHIND][i];

        for (size_t k = 0; behind && k < w->len; k++)
            if (masked_too || !w->mask || w->mask[k])
                behind[k] = w->x[k];
    }
}
