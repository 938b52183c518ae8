/* core/job_search.c: schedule "adaptive": which sparsity the next iteration aims at, from how the ones before came out.
 *
 * Up by `step` while the contract holds. A sparsity that breaks it gets `patience` iterations of retraining more; then it is given up, and the search
 * goes back to the kept model (weights and masks) and aims lower. Each turn of the direction makes the step and the learning rate smaller. What is
 * known is not tried again: below what was kept, and above what was given up, the search turns at once. So it narrows down on the highest sparsity
 * that keeps the contract, and ends when the step is too small, or at prune.target_sparsity. */
#include "core/job_run.h"

#define SAME 1e-9 /* sparsities nearer than this are one */

static const struct adaptive_conf *options(const struct job *j) { return (const void *)j->conf->prune.schedule.conf; }

bool job_searches(const struct job *j)
{
    return schedule_of(j->conf->prune.schedule.plug)->searches;
}

/* The pruner's target at a share of the way from the start to the end. */
static double target_at(struct pruner *p, double share)
{
    pruner_aim(p, share);
    return pruner_target(p, 1);
}

void job_search_aim_at(struct pruner *p, double level)
{
    double start = target_at(p, 0), end = target_at(p, 1);

    if (level < end - SAME)
        pruner_aim(p, (level - start) / (end - start));
}

enum err_code job_search_aim(struct job *j, struct err *e)
{
    struct job_state *s = &j->state;
    json_t *path = json_copy(s->search.roll_back ? s->kept_path : s->path);

    job_search_aim_at(j->pruner, s->search.level);
    if (!path || json_array_append_new(path, json_pack("{s:f,s:f}", "level", s->search.level, "rate", s->search.rate)) != 0) {
        json_decref(path);
        return job_no_memory(e);
    }
    json_decref(s->path);
    s->path = path;
    return ERR_OK;
}

enum err_code job_search_begin(struct job *j, struct err *e)
{
    double start = target_at(j->pruner, 0), first = start + options(j)->initial_step;

    j->state.search = (struct job_search){ .level = fmin(first, target_at(j->pruner, 1)), .kept = start, .failed = 2,
                                           .step = options(j)->initial_step, .rate = 1 };
    return (j->state.path = json_array()) ? ERR_OK : job_no_memory(e);
}

static void turn(struct job_search *s, const struct adaptive_conf *c, bool down)
{
    if (s->down == down)
        return;
    s->down = down;
    s->step *= c->step_factor;
    s->rate *= c->learning_rate_factor;
}

enum job_reason job_search_next(struct job *j, bool kept)
{
    const struct adaptive_conf *c = options(j);
    struct job_search *s = &j->state.search;
    double end = target_at(j->pruner, 1), next;
    bool down = !kept;

    s->roll_back = false;
    if (!kept && s->tries++ < c->patience)
        return REASON_NONE;
    s->tries = 0;
    s->roll_back = !kept;
    *(kept ? &s->kept : &s->failed) = s->level;
    while (s->kept < end - SAME) {
        turn(s, c, down);
        if (s->step < c->minimal_step * (1 - SAME))
            return REASON_SEARCH;
        next = fmin(s->level + (down ? -s->step : s->step), end);
        if (next > s->kept + SAME && next < s->failed - SAME) {
            s->level = next;
            return REASON_NONE;
        }
        down = next > s->kept + SAME;
        s->level = down ? s->failed : s->kept;
    }
    return REASON_SPARSITY;
}

const char *const job_direction_names[] = { "up", "down", "again", NULL };

json_t *job_search_json(const struct job *j)
{
    const struct job_search *s = &j->state.search;

    return json_pack("{s:s,s:f,s:b,s:f}", "direction", job_direction_names[s->tries > 0 ? 2 : s->down], "step", s->step, "rolled_back",
                     (int)s->roll_back, "learning_rate_factor", s->rate);
}
