/* server/worker.h: threads that run jobs.
 *
 * A worker claims a job, opens its files, runs job_run with hooks that publish under the job's lease token, and finishes it. One heartbeat
 * thread renews all leases each second (progress, cancel requests); a lease that could not be renewed for TTL - 5 s fences its job: it stops and
 * publishes nothing. Stop order: no more claims; stop flags set; each worker's job is released (its last checkpoint stands); heartbeats run
 * until the last worker has left. */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include "server/config.h"
#include "server/store.h"

struct workers;
/* threads_per_job >= 1; memory_per_job: bytes a job may need by job_memory's estimate, else it fails with "needs more memory". */
MUST enum err_code workers_start(struct workers **out, struct store *s, const struct config *c, int threads_per_job, uint64_t memory_per_job,
                                 struct err *e);
/* A job may be waiting: called after POST /v1/jobs. */
void workers_wake(struct workers *w);
/* Stops the job at its next mini-batch if it runs here; called after store_job_cancel. */
void workers_cancel(struct workers *w, const char *job_id);
/* Lets the job write a checkpoint at its next mini-batch, and then stops it, if it runs here; called after store_job_pause. */
void workers_pause(struct workers *w, const char *job_id);
/* How many workers are alive (their threads tick), for /readyz. */
int workers_alive(struct workers *w);
/* Releases running jobs and joins all threads; wake, cancel and alive stay legal until workers_free. NULL and a second call are legal. */
void workers_stop(struct workers *w);
void workers_free(struct workers *w); /* stops first; NULL is legal */

#endif
