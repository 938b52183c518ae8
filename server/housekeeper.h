/* server/housekeeper.h: a thread that looks each minute for what may go: jobs and uploads older than they are to be kept, answers to requests that
 * nobody repeats any more, the write-ahead log; and each second for what the command line left. */
#ifndef SERVER_HOUSEKEEPER_H
#define SERVER_HOUSEKEEPER_H

#include "server/auth.h"
#include "server/config.h"
#include "server/store.h"

struct housekeeper;
/* The first round is at once. take(user): each second. */
MUST enum err_code housekeeper_start(struct housekeeper **out, struct store *s, struct auth *a, const struct config *c,
                                     enum err_code (*take)(void *user, struct err *e), void *user, struct err *e);
void housekeeper_stop(struct housekeeper *k); /* NULL is legal */

#endif
