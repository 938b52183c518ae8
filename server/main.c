/* server/main.c: the process: settings, start in order, signals, stop in reverse. The only file that joins core, server and api, prints for people, and
 * ends the process.
 *
 * Stop order: not ready (503) -> workers: no more claims, running jobs are put back, heartbeats until the last has left -> http: the requests under way
 * -> probes -> store: checkpoint of the write-ahead log, close. A second signal ends the process at once: every start recovers from that. */
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "api/shelf.h"
#include "core/finish.h"
#include "core/gemm.h"
#include "core/job.h"
#include "core/jsonguard.h"
#include "core/mem.h"
#include "server/budget.h"
#include "server/healthcheck.h"
#include "server/housekeeper.h"
#include "server/limits.h"
#include "server/log.h"
#include "server/token.h"

enum { EXIT_USAGE = 2, HTTP_GRACE_MS = 2000, PROBE_CONNECTIONS = 32, HEALTHCHECK_MS = 3000, STORE_NOTE_LEN = 200 };

static atomic_bool draining;

static bool is_draining(void)
{
    return atomic_load(&draining);
}

/* ---- settings ---- */

/* The exit status, or -1: go on. */
static int read_config(struct config *c, int argc, char **argv)
{
    struct err e = { 0 };
    enum config_action action;
    char *help = NULL;
    enum err_code rc = config_load(c, argc, argv, environ, &action, &e);

    if (rc == ERR_OK && action == CONFIG_HELP)
        rc = config_help(&help, &e);
    if (rc != ERR_OK) {
        fprintf(stderr, "espalierd: %s\n", e.msg);
        return EXIT_USAGE;
    }
    if (action == CONFIG_RUN)
        return -1;
    fputs(action == CONFIG_HELP ? help : "espalierd " ESPALIER_VERSION "\n", stdout);
    mem_free(help);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* A row that is not complete is a mistake of whoever wrote it: found at start, not by the first client. */
static enum err_code check_tables(struct err *e)
{
    const struct param *const fields[] = { config_params, data_params, job_params, token_command_params, tenant_limits_params };
    enum err_code rc = ERR_OK;

    for (const struct api_kind *k = api_kinds; k->key && rc == ERR_OK; k++)
        rc = plugs_check(k->table, e);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0] && rc == ERR_OK; i++)
        rc = params_check(fields[i], e);
    return rc;
}

/* What the jobs may use together, in *b. */
static void limit_budget(struct budget *b, const struct config *c)
{
    budget_read(b);
    if (c->threads > 0)
        b->cpus = (int)c->threads;
    b->memory = c->memory_mb > 0 ? (uint64_t)c->memory_mb << 20 : b->memory / 5 * 4;
}

static int per_address(const struct config *c)
{
    if (c->max_connections_per_address > 0)
        return (int)c->max_connections_per_address;
    return http_is_loopback(c->listen) ? 0 : (int)c->max_connections / 2;
}

/* ---- start and stop ---- */

struct parts {
    struct config config;
    struct store *store;
    struct hub *hub;
    struct auth *auth;
    struct quota *quota;
    struct shelf *shelf;
    struct workers *workers;
    struct housekeeper *housekeeper;
    struct http *http, *probes; /* probes NULL: they are on the main listener */
    struct app app;
};

static enum err_code upload_path(void *user, const struct req *rq, char *path, size_t n, uint64_t declared_bytes, struct err *e)
{
    struct store *s = user;
    enum err_code rc = store_room(s, declared_bytes, e);

    if (rc == ERR_OK)
        rc = store_tenant_room(s, rq->tenant, declared_bytes, e);
    if (rc == ERR_OK)
        store_temp_path(s, path, n);
    return rc;
}

static void publish(void *user, const struct event_row *ev)
{
    hub_publish(user, ev);
}

static enum err_code open_store(struct parts *p, struct err *e)
{
    int requeued = 0;
    enum err_code rc = store_open(&p->store, p->config.data, e);

    if (rc != ERR_OK)
        return rc;
    rc = hub_new(&p->hub, e);
    if (rc != ERR_OK)
        return rc;
    store_listen(p->store, publish, p->hub);
    store_set_disk_floor(p->store, (uint64_t)p->config.disk_floor_mb << 20);
    store_set_limits(p->store, &(struct store_limits){ p->config.tenant_storage_mb << 20, p->config.tenant_waiting_jobs,
                                                       p->config.tenant_running_jobs });
    rc = store_jobs_recover(p->store, clock_ms(), (int)p->config.crash_limit, &requeued, e);
    if (rc == ERR_OK && requeued > 0)
        log_event(LOG_WARN, "jobs of a process that died are queued again", LOG_I("jobs", requeued));
    return rc;
}

static struct auth_conf access_of(const struct config *c)
{
    return (struct auth_conf){ .data = c->data, .admin_token = c->admin_token, .access = (enum access)c->access,
                               .loopback = http_is_loopback(c->listen) };
}

static enum err_code set_quota(void *user, const void *row, struct err *e)
{
    const struct tenant_limits *l = row;

    return quota_set(user, l->tenant, l->requests_per_second, l->streams, clock_mono_ms(), e);
}

static enum err_code start_access(struct parts *p, struct err *e)
{
    const struct config *c = &p->config;
    const struct auth_conf conf = access_of(c);
    enum err_code rc = auth_new(&p->auth, p->store, &conf, clock_ms(), e);

    p->app.auth = p->auth;
    p->app.local_only = conf.loopback && c->access != ACCESS_OPEN;
    if (rc == ERR_OK)
        rc = quota_new(&p->quota, c->tenant_requests_per_second, c->tenant_streams, e);
    if (rc == ERR_OK)
        rc = store_tenant_limits_all(p->store, set_quota, p->quota, e);
    p->app.quota = p->quota;
    if (rc == ERR_OK && !conf.loopback && c->access == ACCESS_OPEN)
        log_event(LOG_WARN, "open to whoever reaches this address: no tokens are asked for", LOG_S("listen", c->listen));
    return rc;
}

static enum err_code start_jobs(struct parts *p, struct err *e)
{
    struct budget b;
    int threads;

    limit_budget(&b, &p->config);
    threads = b.cpus / (int)p->config.workers;
    threads = threads > 0 ? threads : 1;
    p->app.memory_per_job = b.memory / (uint64_t)p->config.workers;
    log_event(LOG_INFO, "budget", LOG_I("workers", p->config.workers), LOG_I("threads_per_job", threads),
              LOG_I("memory_mb_per_job", (int64_t)(p->app.memory_per_job >> 20)), LOG_S("products", gemm_describe()));
    return workers_start(&p->workers, p->store, &p->config, threads, p->app.memory_per_job, e);
}

static enum err_code start_http(struct parts *p, struct err *e)
{
    const bool apart = *p->config.listen_health;
    const struct http_conf probes = {
        .listen = p->config.listen_health, .routes = api_probe_routes, .app = &p->app, .max_connections = PROBE_CONNECTIONS, .threads = 1,
        .problem = api_problem,
    };
    const struct http_conf conf = {
        .listen = p->config.listen, .routes = apart ? api_plain_routes : api_routes, .app = &p->app,
        .max_upload = (uint64_t)p->config.max_upload_mb << 20,
        .max_connections = (int)p->config.max_connections, .max_per_address = per_address(&p->config), .max_streams = (int)p->config.max_streams,
        .admit = api_admit, .temp_path = upload_path, .problem = api_problem, .user = p->store,
    };
    enum err_code rc;

    p->app.store = p->store;
    p->app.workers = p->workers;
    p->app.hub = p->hub;
    p->app.config = &p->config;
    p->app.started_ms = clock_ms();
    p->app.draining = is_draining;
    rc = http_start(&p->http, &conf, e);
    return rc == ERR_OK && apart ? http_start(&p->probes, &probes, e) : rc;
}

static enum err_code take_limits(void *app, struct err *e)
{
    return api_limits_take(app, e);
}

static enum err_code start(struct parts *p, struct err *e)
{
    enum err_code rc = check_tables(e);

    if (rc == ERR_OK)
        rc = open_store(p, e);
    if (rc == ERR_OK)
        rc = start_access(p, e);
    if (rc == ERR_OK)
        rc = start_jobs(p, e);
    if (rc == ERR_OK)
        rc = shelf_new(&p->shelf, e);
    p->app.shelf = p->shelf;
    if (rc == ERR_OK)
        rc = start_http(p, e);
    return rc == ERR_OK ? housekeeper_start(&p->housekeeper, p->store, p->auth, &p->config, take_limits, &p->app, e) : rc;
}

static void stop(struct parts *p)
{
    atomic_store(&draining, true);
    workers_stop(p->workers);
    housekeeper_stop(p->housekeeper);
    http_stop(p->http, HTTP_GRACE_MS); /* handlers see the workers until here */
    http_stop(p->probes, 0);
    workers_free(p->workers);
    auth_free(p->auth);
    quota_free(p->quota);
    shelf_free(p->shelf);
    store_close(p->store);
    hub_free(p->hub);
}

static void log_listening(const struct parts *p)
{
    const char *listen = p->config.listen, *colon = strrchr(listen, ':');
    char line[256];

    snprintf(line, sizeof line, "espalierd %s listening on http://%.*s:%d", ESPALIER_VERSION, colon ? (int)(colon - listen) : (int)strlen(listen),
             listen, http_port(p->http));
    log_event(LOG_INFO, line, LOG_S("data", p->config.data), LOG_I("port", http_port(p->http)));
    if (p->probes)
        log_event(LOG_INFO, "probes and metrics on their own port", LOG_S("listen", p->config.listen_health), LOG_I("port", http_port(p->probes)));
}

/* A connection is a descriptor, and 1024 is what most shells allow; what the system allows may be taken. */
static void raise_descriptors(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == r.rlim_max)
        return;
    r.rlim_cur = r.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &r);
}

/* ---- commands ---- */

static int failed(const char *what, const struct err *e)
{
    fprintf(stderr, "espalierd: %s: %s\n", what, e->msg);
    return EXIT_FAILURE;
}

/* {"settings", "budget", "data"} of what a start with these settings would use. */
static json_t *describe(const struct config *c, const char *data)
{
    struct budget b;
    json_int_t workers = c->workers;

    limit_budget(&b, c);
    return json_pack("{s:o,s:{s:I,s:I},s:s}", "settings", config_dump(c), "budget", "threads_per_job",
                     b.cpus > workers ? b.cpus / workers : (json_int_t)1, "memory_mb_per_job", (json_int_t)(b.memory >> 20) / workers, "data", data);
}

static int run_check(const struct config *c, const char *arg)
{
    struct err e = { 0 };
    const struct auth_conf access = access_of(c);
    char host[256], data[STORE_NOTE_LEN];
    const char *port;
    json_t *j = NULL;
    char *text = NULL;
    enum err_code rc = check_tables(&e);

    (void)arg;
    if (rc == ERR_OK)
        rc = http_split_address(c->listen, host, sizeof host, &port, &e);
    if (rc == ERR_OK && *c->listen_health)
        rc = http_split_address(c->listen_health, host, sizeof host, &port, &e);
    if (rc == ERR_OK)
        rc = store_check(c->data, data, sizeof data, &e);
    if (rc == ERR_OK)
        rc = auth_preview(&access, clock_ms(), &e);
    if (rc != ERR_OK)
        return failed("check", &e);
    j = describe(c, data);
    text = j ? json_text(j, JSON_INDENT(2), NULL) : NULL;
    json_decref(j);
    if (text)
        puts(text);
    mem_free(text);
    return text && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* A command's own flags: as its table has them, and those that were given. */
static union { struct token_conf token; struct tenant_limits limits; } options;
static json_t *given;

static int run_backup(const struct config *c, const char *dir)
{
    struct err e = { 0 };
    struct store_copied copied;

    umask(077);
    if (store_backup(c->data, dir, &copied, &e) != ERR_OK)
        return failed("backup", &e);
    printf("%s: the database and %llu files, %llu bytes; start a daemon with --data on it to restore\n", dir, (unsigned long long)copied.blobs,
           (unsigned long long)copied.bytes);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run_healthcheck(const struct config *c, const char *arg)
{
    const char *listen = *c->listen_health ? c->listen_health : c->listen;
    struct err e = { 0 };

    (void)arg;
    return healthcheck(listen, HEALTHCHECK_MS, &e) == ERR_OK ? EXIT_SUCCESS : failed(listen, &e);
}

/* The token is all that is printed on stdout, so that a script can take it. */
static int run_token_create(const struct config *c, const char *arg)
{
    struct err e = { 0 };
    char text[TOKEN_TEXT_LEN];
    struct token_row row;

    (void)arg;
    umask(077);
    if (!tenant_valid(options.token.tenant)) {
        fprintf(stderr, "espalierd: --tenant: must have 1 to %d of a-z, 0-9, - and _\n", TENANT_LEN - 1);
        return EXIT_FAILURE;
    }
    token_make(&row, text, &options.token, clock_ms());
    if (token_leave(c->data, &row, &e) != ERR_OK)
        return failed("token create", &e);
    fprintf(stderr, "espalierd: %s: scope %s of tenant %s; it is shown this once\n", row.id, scope_name(row.scope), row.tenant);
    puts(text);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static const char *day(char text[32], int64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;

    if (!ms || !gmtime_r(&seconds, &tm) || strftime(text, 32, "%Y-%m-%dT%H:%MZ", &tm) == 0)
        snprintf(text, 32, "-");
    return text;
}

static enum err_code print_token(void *user, const void *row, struct err *e)
{
    const struct token_row *t = row;
    char expires[32], used[32];
    int64_t now = clock_ms();

    (void)e;
    if (*t->hash)
        printf("%-24s  %-16s  %-6s  %-8s  %-17s  %-17s  %s\n", t->id, t->tenant, scope_name(t->scope), *(const bool *)user ? "new" : t->revoked_ms
               ? "revoked" : t->expires_ms && t->expires_ms <= now ? "expired" : "valid", day(expires, t->expires_ms), day(used, t->used_ms), t->name);
    return ERR_OK;
}

static int run_token_list(const struct config *c, const char *arg)
{
    struct err e = { 0 };
    bool waits = false;
    enum err_code rc;

    (void)arg;
    printf("%-24s  %-16s  %-6s  %-8s  %-17s  %-17s  %s\n", "ID", "TENANT", "SCOPE", "STATE", "EXPIRES", "LAST USED", "NAME");
    rc = store_tokens_read(c->data, print_token, &waits, &e);
    waits = true; /* what the daemon has not taken yet */
    if (rc == ERR_OK)
        rc = token_files(c->data, false, print_token, &waits, &e);
    return rc == ERR_OK && fflush(stdout) == 0 ? EXIT_SUCCESS : failed("token list", &e);
}

struct wanted { const char *id; bool found; };

static enum err_code find_token(void *user, const void *row, struct err *e)
{
    struct wanted *w = user;

    (void)e;
    w->found = w->found || strcmp(((const struct token_row *)row)->id, w->id) == 0;
    return ERR_OK;
}

static int run_token_revoke(const struct config *c, const char *id)
{
    struct wanted w = { id, false };
    struct err e = { 0 };
    enum err_code rc = store_tokens_read(c->data, find_token, &w, &e);

    umask(077);
    if (rc == ERR_OK)
        rc = token_files(c->data, false, find_token, &w, &e);
    if (rc == ERR_OK && !w.found)
        rc = err_set(&e, ERR_NOT_FOUND, "there is no token %.40s; espalierd token list shows all", id);
    if (rc == ERR_OK)
        rc = token_leave_revoke(c->data, id, &e);
    return rc == ERR_OK ? EXIT_SUCCESS : failed("token revoke", &e);
}

static int run_tenant_limits(const struct config *c, const char *tenant)
{
    struct tenant_limits l;
    struct err e = { 0 };
    json_t *fields = NULL;
    const char *name;
    json_t *value;
    enum err_code rc = tenant_valid(tenant) ? ERR_OK : err_set(&e, ERR_INVALID, "a tenant has 1 to %d of a-z, 0-9, - and _", TENANT_LEN - 1);

    umask(077);
    if (rc == ERR_OK && json_object_size(given) > 0)
        rc = limits_leave(c->data, tenant, given, &e);
    if (rc == ERR_OK)
        rc = limits_preview(c->data, tenant, &l, &e);
    if (rc == ERR_OK && !(fields = params_dump(tenant_limits_params, &l)))
        rc = err_set(&e, ERR_NOMEM, "out of memory");
    json_object_foreach(fields, name, value)
        printf("%-20s  %lld\n", name, (long long)json_integer_value(value));
    json_decref(fields);
    return rc == ERR_OK && fflush(stdout) == 0 ? EXIT_SUCCESS : failed("tenant limits", &e);
}

/* What the program does other than serve: espalierd NAME [ARGUMENT] [--option value ...] */
static const struct command { const char *name, *arg; int (*run)(const struct config *c, const char *arg); const struct param *options; } commands[] = {
    { "check", NULL, run_check, NULL },
    { "backup", "DIR", run_backup, NULL },
    { "healthcheck", NULL, run_healthcheck, NULL },
    { "token create", NULL, run_token_create, token_command_params },
    { "token list", NULL, run_token_list, NULL },
    { "token revoke", "ID", run_token_revoke, NULL },
    { "tenant limits", "TENANT", run_tenant_limits, tenant_limits_params },
};

/* How many words of argv the name is; 0: they are others. */
static int words_of(const char *name, int argc, char **argv)
{
    int n = 1;

    for (const char *p = name; *p; n++) {
        size_t len = strcspn(p, " ");

        if (n >= argc || strlen(argv[n]) != len || memcmp(argv[n], p, len) != 0)
            return 0;
        p += len + (p[len] == ' ');
    }
    return n - 1;
}

/* The command that argv names, and how many words it takes; NULL: serve. */
static const struct command *find_command(int argc, char **argv, int *n_words)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        *n_words = words_of(commands[i].name, argc, argv);
        if (*n_words > 0) {
            *n_words += commands[i].arg != NULL;
            return &commands[i];
        }
    }
    *n_words = 0;
    return NULL;
}

/* Settings of the process, and the command's own; as read_config. */
static int read_settings(struct config *c, const struct command *command, int argc, char **argv)
{
    struct err e = { 0 };

    if (command && command->options && config_options(&given, &options, sizeof options, command->options, &argc, argv, &e) != ERR_OK) {
        fprintf(stderr, "espalierd: %s\n", e.msg);
        return EXIT_USAGE;
    }
    return read_config(c, argc, argv);
}

/* ---- signals ---- */

/* Before any thread: they inherit the mask, so that only sigwait gets these. */
static void block_signals(sigset_t *set)
{
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    pthread_sigmask(SIG_BLOCK, set, NULL);
}

static void wait_for_signal(const sigset_t *set)
{
    int number = 0;

    while (sigwait(set, &number) != 0)
        continue;
    log_event(LOG_INFO, "stopping", LOG_I("signal", number));
    pthread_sigmask(SIG_UNBLOCK, set, NULL); /* a second one ends the process at once */
}

int main(int argc, char **argv)
{
    static struct parts p;
    struct err e = { 0 };
    sigset_t signals;
    int n_words, status;
    const struct command *command = find_command(argc, argv, &n_words);

    json_set_alloc_funcs(mem_alloc, mem_free);
    if (argc <= n_words) {
        fprintf(stderr, "espalierd: usage: espalierd %s %s [--option value ...]\n", command->name, command->arg);
        return EXIT_USAGE;
    }
    status = read_settings(&p.config, command, argc - n_words, argv + n_words);
    if (status >= 0)
        return command && status != EXIT_SUCCESS ? EXIT_FAILURE : status;
    if (command)
        return command->run(&p.config, argv[n_words]);
    gemm_choose_core(argv);
    mallopt(M_ARENA_MAX, 4); /* an idle thread's arena is memory that nobody uses */
    umask(077);
    raise_descriptors();
    block_signals(&signals);
    log_set_level((enum log_level)p.config.log_level);
    gemm_init();
    if (start(&p, &e) != ERR_OK) {
        fprintf(stderr, "espalierd: cannot start: %s\n", e.msg);
        stop(&p);
        return EXIT_FAILURE;
    }
    log_listening(&p);
    wait_for_signal(&signals);
    stop(&p);
    log_event(LOG_INFO, "stopped", LOG_I("pid", getpid()));
    return EXIT_SUCCESS;
}
