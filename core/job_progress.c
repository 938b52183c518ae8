/* core/job_progress.c: the clock, and how far a job is: the share of its work that is done, counted in samples. */
#include "core/job_run.h"

enum { CHECKPOINT_SECONDS = 20 };

void job_lap(struct job *j)
{
    double now = report_clock(), passed = now - j->lap;

    j->state.spent[job_phases[j->state.phase].spent] += passed;
    j->state.seconds += passed;
    j->lap = now;
}

static double checkpoint_seconds(const struct job *j)
{
    return j->hooks->checkpoint_seconds > 0 ? j->hooks->checkpoint_seconds : CHECKPOINT_SECONDS;
}

bool job_due(void *user)
{
    const struct job *j = user;

    return report_clock() - j->saved >= checkpoint_seconds(j);
}

bool job_stop(void *user)
{
    const struct job *j = user;

    return j->hooks->stop(j->hooks->user);
}

bool job_time_is_up(const struct job *j)
{
    return j->state.seconds + report_clock() - j->lap >= j->conf->stop.max_seconds;
}

void job_show(struct job *j, const struct train_progress *t)
{
    const struct phase *p = &job_phases[j->state.phase];
    struct job_progress shown = { .phase = p->shown, .iteration = j->state.iteration, .iterations = j->conf->prune.iterations, .loss = NAN };
    double done = j->work_done;

    if (t) {
        shown.epoch = t->epoch;
        shown.epochs = t->epochs;
        shown.loss = t->loss;
        done += t->fraction * p->work(j);
    }
    shown.fraction = j->work > 0 ? fmin(done / j->work, 1) : 0;
    j->hooks->progress(j->hooks->user, &shown);
}

void job_show_training(void *user, const struct train_progress *t) { job_show(user, t); }

double job_work_before(const struct job *j, enum job_phase phase, int64_t iteration)
{
    double once = 0, each = 0, before = 0, last = job_phases[PHASE_FINISH].work(j), controls = job_controls_work(j);

    for (int p = PHASE_TRAIN; p < PHASE_CONTROL; p++) {
        bool in_cycle = p >= PHASE_PRUNE;

        *(in_cycle ? &each : &once) += job_phases[p].work(j);
        if (p < (int)phase && in_cycle)
            before += job_phases[p].work(j);
    }
    if (phase < PHASE_PRUNE)
        return phase == PHASE_TRAIN ? 0 : job_phases[PHASE_TRAIN].work(j);
    if (phase >= PHASE_CONTROL)
        return once + each * (double)j->conf->prune.iterations + (phase < PHASE_FINISH ? job_controls_work_done(j) : controls) +
               (phase == PHASE_DONE ? last : 0);
    return once + each * (double)(iteration - (phase > PHASE_PRUNE)) + before;
}
