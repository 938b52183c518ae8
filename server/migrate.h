/* server/migrate.h: brings a database to the version of this program. */
#ifndef SERVER_MIGRATE_H
#define SERVER_MIGRATE_H

#include "server/db.h"
#include "server/embed.h"

/* Runs those of `files` (NNNN_name.sql, numbered 1, 2, ...; ends with a NULL name) that the database has not seen, one transaction each. ERR_CONFLICT: the
 * database is newer than this program, or a file was changed after it had been applied. */
MUST enum err_code migrate(struct db *db, const struct embedded_file *files, int64_t now_ms, struct err *e);
/* Changes nothing: would migrate take this database? *version: the last file it has seen. */
MUST enum err_code migrate_check(struct db *db, const struct embedded_file *files, int64_t *version, struct err *e);

#endif
