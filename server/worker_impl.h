/* server/worker_impl.h: what worker.c (threads, leases) and worker_run.c (one job) share.
 *
 * A lease is shared by the worker's thread and the heartbeat thread. Its id and token do not change while it is held; the flags are atomic; the
 * progress has its own lock, innermost of all. */
#ifndef SERVER_WORKER_IMPL_H
#define SERVER_WORKER_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/job.h"
#include "server/worker.h"

enum { LEASE_MS = 30000, FENCE_MS = LEASE_MS - 5000 };

struct lease {
    struct store *store;
    char id[ID_LEN];
    int64_t token;
    atomic_int_least64_t renewed; /* monotonic ms at the START of the last claim or renewal that succeeded: a slow round trip stretches no trust */
    atomic_int_least64_t ticked;  /* monotonic ms when the worker last showed life */
    atomic_bool stop;             /* the daemon is stopping */
    atomic_bool cancel;           /* a client wants the job stopped */
    atomic_bool pause;            /* a client wants it paused: a checkpoint as soon as may be, */
    atomic_bool saved;            /* which is there now: stop */
    atomic_bool lost;             /* another owner, or not renewed in time: nothing may be published */
    pthread_mutex_t progress_lock;
    struct job_progress progress; /* phase "" : none yet */
    char phase[32];
    int64_t started;              /* monotonic ms of the first progress of this attempt, */
    double started_fraction;      /* and the fraction then; */
    int64_t lap_iteration, lap;   /* the same where the running iteration began, */
    double lap_fraction, pace;    /* and what the last whole one took, in seconds per whole job (0: none yet): for the time that is left */
};

/* Cancelled, stopping, saved for a pause, lost, or not renewed for FENCE_MS (then it becomes lost). */
bool lease_must_stop(struct lease *l);
/* Under progress_lock, before p is put down: an iteration that is over says how fast the rest will go. */
void lease_lap(struct lease *l, const struct job_progress *p, int64_t now_ms);
/* Renews the lease and records progress; sets cancel and pause, or lost on ERR_CONFLICT. */
MUST enum err_code lease_renew(struct lease *l, struct err *e);

struct run_conf;
/* Runs a claimed job. ERR_OK: it is finished, with its result recorded. Any other: the caller ends or releases it. */
typedef enum err_code run_fn(struct lease *l, const struct job_row *j, const struct run_conf *c, struct err *e);
struct run_conf {
    int threads;     /* of a job */
    uint64_t memory; /* bytes a job may need */
    double checkpoint_seconds;
    run_fn *run;     /* worker_run, but in tests */
};
run_fn worker_run;
MUST enum err_code workers_start_with(struct workers **out, struct store *s, int n, const struct run_conf *run, struct err *e);

#endif
