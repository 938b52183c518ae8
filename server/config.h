/* server/config.h: the daemon's settings: flags, then environment ESPALIER_* (each with a _FILE twin), then a default, from one table. */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "core/params.h"

struct config {
    char listen[128];          /* --listen 127.0.0.1:8080 */
    char listen_health[128];   /* --listen-health: of probes and metrics alone; "": they are on the main one */
    char data[3072];           /* --data ./espalier-data */
    int access;                /* --access auto: enum access */
    char admin_token[256];     /* --admin-token: of TENANT_DEFAULT; "": none */
    int64_t tenant_storage_mb; /* --tenant-storage-mb 0: here and below, of each tenant; 0: no limit */
    int64_t tenant_waiting_jobs; /* --tenant-waiting-jobs 0 */
    int64_t tenant_running_jobs; /* --tenant-running-jobs 0 */
    int64_t tenant_streams;    /* --tenant-streams 0 */
    int64_t tenant_requests_per_second; /* --tenant-requests-per-second 0 */
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
/* Takes the flags of a command's own table out of argv, into conf; what stays is config_load's. given (may be NULL): a new reference to those that were there. */
MUST enum err_code config_options(json_t **given, void *conf, size_t conf_size, const struct param *tab, int *argc, char **argv, struct err *e);
/* All settings as JSON; of a secret only whether it is set. New reference; NULL when memory is short. */
json_t *config_dump(const struct config *c);
/* The --help text, from the table; to be mem_freed. */
MUST enum err_code config_help(char **out, struct err *e);

#endif
