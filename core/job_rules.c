/* core/job_rules.c: the contract, the rules that end a job, and which model is the better result. All look at validation alone. */
#include "core/job_run.h"

#define ROUNDING 1e-12 /* a drop of exactly what the contract allows keeps it */

bool job_contract_kept(const struct job *j, const json_t *metrics)
{
    const struct stop_conf *s = &j->conf->stop;
    double sign = metric_larger_is_better(j->metric) ? 1 : -1, base = job_metric_of(j, j->state.baseline), now = job_metric_of(j, metrics);
    double drop = sign * (base - now);

    if (!job_has_contract(s))
        return true;
    if (!isfinite(drop))
        return false;
    return !(drop > s->max_drop + ROUNDING) && !(drop > s->max_relative_drop * fabs(base) + ROUNDING) &&
           !(sign * now < sign * s->min_metric - ROUNDING);
}

enum job_reason job_reason_to_stop(const struct job *j, bool kept, const struct net_size *size)
{
    const struct stop_conf *s = &j->conf->stop;
    double sparsity = (double)(size->weights - size->nonzero) / (double)size->weights;
    bool counts = kept || !job_searches(j); /* of a search, only what it would keep */

    if (!kept && !s->continue_on_breach && !job_searches(j))
        return REASON_CONTRACT;
    if (counts && sparsity >= s->target_sparsity)
        return REASON_SPARSITY;
    if (counts && s->target_params > 0 && size->params_nonzero <= (uint64_t)s->target_params)
        return REASON_PARAMS;
    if (job_time_is_up(j))
        return REASON_SECONDS;
    return j->state.iteration >= j->conf->prune.iterations ? REASON_ITERATIONS : REASON_NONE;
}

bool job_is_better(const struct job *j, bool kept, const struct net_size *size, const json_t *metrics)
{
    double sign = metric_larger_is_better(j->metric) ? 1 : -1;

    if (!job_has_contract(&j->conf->stop))
        return true;
    if (!kept || size->nonzero != j->state.kept_nonzero)
        return kept && size->nonzero < j->state.kept_nonzero;
    return j->state.kept_iteration == 0 || sign * job_metric_of(j, metrics) > sign * job_metric_of(j, j->state.kept);
}
