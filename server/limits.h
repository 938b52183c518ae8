/* server/limits.h: what one tenant may have: the field table that the API and the command line share, and how it comes from the command line to a daemon that
 * may be running (inbox.h). */
#ifndef SERVER_LIMITS_H
#define SERVER_LIMITS_H

#include "core/params.h"
#include "server/store.h"

extern const struct param tenant_limits_params[]; /* of struct tenant_limits: all but the tenant */
/* Sets the fields that `given` has; the others stay. ERR_INVALID names the field. */
MUST enum err_code limits_change(struct tenant_limits *l, const json_t *given, struct err *e);
/* For a daemon: change the tenant's limits so. */
MUST enum err_code limits_leave(const char *data, const char *tenant, const json_t *given, struct err *e);
/* Shows fn the changes that wait, the oldest first. fn's ERR_OK removes the file if take. */
struct limits_waiting { char tenant[TENANT_LEN]; const json_t *given; };
MUST enum err_code limits_files(const char *data, bool take, store_row_fn *fn, void *user, struct err *e);
/* What the tenant's limits are, or will be once what waits is taken. A daemon may have the data directory. */
MUST enum err_code limits_preview(const char *data, const char *tenant, struct tenant_limits *out, struct err *e);

#endif
