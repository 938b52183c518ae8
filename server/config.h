/* server/config.h: the daemon's settings: flags, then environment ESPALIER_* (each with a _FILE twin), then a default, from one table. */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "core/params.h"

struct config {
    char listen[128];          /* --listen 127.0.0.1:8080 */
    char listen_health[128];   /* --listen-health: of probes and metrics alone; "": they are on the main one */
    char data[3072];           /* --data ./espalier-data */
    int64_t workers;           /* --workers 1: jobs at a time */
    int64_t threads;           /* --threads 0: of all jobs together; 0: the CPUs this process may use */
    int64_t memory_mb;         /* --memory-mb 0: of all jobs together; 0: 80 % of what the process may use (cgroup or host) */
    int64_t max_upload_mb;     /* --max-upload-mb 4096 */
    int64_t max_connections;   /* --max-connections 512 */
    int64_t max_connections_per_address; /* --max-connections-per-address 0: half of them; on a loopback address, where a proxy may be the only client, no limit */
    int64_t max_streams;       /* --max-streams 256: event streams and waiting requests at a time */
    int64_t disk_floor_mb;     /* --disk-floor-mb 64: uploads and checkpoints are refused (507) below it */
    int64_t keep_jobs_days;    /* --keep-jobs-days 0: finished jobs; 0: for ever */
    int64_t keep_uploads_days; /* --keep-uploads-days 0: models and data sets that no job uses; 0: for ever */
    double checkpoint_seconds; /* --checkpoint-seconds 20 */
    int64_t crash_limit;       /* --crash-limit 10 */
    int log_level;             /* --log-level info: enum log_level */
};
extern const struct param config_params[];

enum config_action { CONFIG_RUN, CONFIG_HELP, CONFIG_VERSION };
/* What argv and env ask for; c is filled for CONFIG_RUN. ERR_INVALID names the flag or the variable. env ends with NULL. */
MUST enum err_code config_load(struct config *c, int argc, char **argv, char **env, enum config_action *action, struct err *e);
/* The --help text, from the table; to be mem_freed. */
MUST enum err_code config_help(char **out, struct err *e);

#endif
