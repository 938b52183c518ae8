/* server/inbox.h: what the command line leaves for a daemon that may be running.
 *
 * Only the daemon writes the database (SQLite 3.40.1's WAL wants one writer), so the command line leaves small files in folders of the data directory,
 * which only who may write that can do. The daemon takes them at start and while it serves, each in a transaction that may be run again, and then
 * removes the file: a crash in between does no harm. */
#ifndef SERVER_INBOX_H
#define SERVER_INBOX_H

#include "server/store.h"

/* <data>/<folder>/<id>.<extension>; folders are made if missing. As root, the file gets the data directory's owner. */
MUST enum err_code inbox_leave(const char *data, const char *folder, const char *id, const char *extension, const char *text, struct err *e);
typedef enum err_code inbox_fn(void *user, const char *path, const char *id, struct err *e);
/* Shows fn the files with ids of this prefix, in the order of their ids, which is that of time. ERR_OK removes the file if take. One that fn finds to be none
 * (ERR_INVALID, ERR_SYNTAX, ERR_TOO_LARGE, ERR_NOT_FOUND) is logged, skipped, and removed too if take. */
MUST enum err_code inbox_each(const char *data, const char *folder, const char *prefix, const char *extension, bool take, inbox_fn *fn, void *user,
                              struct err *e);
/* The JSON in such a file. */
MUST enum err_code inbox_read(json_t **out, const char *path, struct err *e);

#endif
