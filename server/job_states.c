/* server/job_states.c: the states of a job, and the one table that says how it may move between them. */
#include <string.h>

#include "server/store.h"

#define X(id, name, final) { name, final },
static const struct { const char *name; bool final; } states[JOB_STATES] = { JOB_STATE_LIST(X) };
#undef X

#define TO(s) (1u << JOB_##s)
static const unsigned moves[JOB_STATES] = {
    [JOB_QUEUED] = TO(RUNNING) | TO(PAUSED) | TO(CANCELLED),
    [JOB_RUNNING] = TO(QUEUED) | TO(PAUSED) | TO(CANCELLING) | TO(SUCCEEDED) | TO(FAILED), /* QUEUED: released, or its process died */
    [JOB_PAUSED] = TO(QUEUED) | TO(CANCELLED),
    [JOB_CANCELLING] = TO(CANCELLED), /* whatever its worker comes to: who asked to cancel gets a cancelled job */
};
#undef TO

const char *job_state_name(enum job_state s)
{
    return states[s].name;
}

bool job_state_final(enum job_state s)
{
    return states[s].final;
}

bool job_state_parse(const char *name, enum job_state *out)
{
    for (int i = 0; i < JOB_STATES; i++)
        if (strcmp(name, states[i].name) == 0) {
            *out = (enum job_state)i;
            return true;
        }
    return false;
}

bool job_may_move(enum job_state from, enum job_state to)
{
    return moves[from] >> to & 1;
}
