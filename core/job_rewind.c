/* core/job_rewind.c: lottery tickets and their kin: after pruning the weights go back to what they were early in training, or are drawn anew; masks
 * stay. What they go back to is saved once, before training, or after the epoch that the option names, and travels in checkpoints. */
#include "core/job_run.h"

void job_save_origin(struct job *j)
{
    if (!j->array[ARRAYS_ORIGIN] || j->state.has_origin)
        return;
    job_store(j, ARRAYS_ORIGIN);
    j->state.has_origin = true;
}

void job_epoch_done(void *job, int64_t epoch, double loss, const struct metrics *validation)
{
    struct job *j = job;

    (void)loss, (void)validation;
    if (epoch == rewind_epoch(&j->conf->prune.rewind))
        job_save_origin(j);
}

enum err_code job_rewind(struct job *j, int64_t iteration, struct err *e)
{
    /* no client's seed has these bits */
    uint64_t seed = (uint64_t)j->conf->seed ^ (uint64_t)iteration << 54;

    switch (rewind_of(&j->conf->prune.rewind)->weights) {
    case REWIND_NONE: return ERR_OK;
    case REWIND_FRESH: net_draw(j->net, seed); break;
    case REWIND_SAVED: job_recall(j, ARRAYS_ORIGIN);
    }
    job_hold(j, true);
    net_apply_masks(j->net);
    return job_pack(j, e);
}
