/* server/config.c: see config.h. Each setting is a row of a field table (core/params.h): its flag is the row's name with dashes, its variable the
 * name in capitals. The texts found become one JSON object, so types, ranges and defaults are checked where those of jobs are. */
#include "server/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "server/auth.h"
#include "server/log.h"

enum { NAME_LEN = 64, VALUE_LEN = 4096, HELP_LEN = 16384, MAX_SETTINGS = 32 };

const struct param config_params[] = {
    FIELD_TEXT(struct config, listen, "127.0.0.1:8080", "Address and port to listen on; port 0: the system chooses."),
    FIELD_TEXT(struct config, listen_health, "", "Address and port of a listener for /healthz, /readyz and /metrics alone; empty: they are on "
               "the main one."),
    FIELD_TEXT(struct config, data, "./espalier-data", "Data directory, made if missing; on a local disk."),
    FIELD_CHOICE(struct config, access, "auto|token|open", ACCESS_AUTO, "Who may come in. auto: tokens are asked for as soon as there is one, and wherever the "
                 "address is not loopback; token: always; open: never, whoever reaches the address may do everything."),
    FIELD_TEXT(struct config, admin_token, "", "A token, any 32 characters or more, that may do everything of the tenant \"default\"; give it by file."),
    FIELD_INT(struct config, tenant_storage_mb, 0, 1 << 30, 0, "What each tenant may store, MB; uploads and jobs beyond it get 507. 0: no limit."),
    FIELD_INT(struct config, tenant_waiting_jobs, 0, 1 << 30, 0, "Jobs of each tenant that are queued or paused; more get 429. 0: no limit."),
    FIELD_INT(struct config, tenant_running_jobs, 0, 1024, 0, "Jobs of each tenant that run at a time; more wait. 0: no limit."),
    FIELD_INT(struct config, tenant_streams, 0, 65536, 0, "Event streams and waiting requests of each tenant at a time; more get 429. 0: no limit."),
    FIELD_INT(struct config, tenant_requests_per_second, 0, 1000000, 0, "Requests of each tenant a second, in bursts of ten seconds' worth; more get 429. "
              "0: no limit."),
    FIELD_INT(struct config, workers, 1, 64, 1, "Jobs that run at a time."),
    FIELD_INT(struct config, threads, 0, 1024, 0, "Threads of all jobs together; 0: the CPUs this process may use."),
    FIELD_INT(struct config, memory_mb, 0, 1 << 30, 0, "Memory of all jobs together, MB; 0: 80 % of what this process may use."),
    FIELD_INT(struct config, max_upload_mb, 1, 1 << 30, 4096, "Largest upload, MB."),
    FIELD_INT(struct config, max_connections, 8, 65536, 512, "Connections at a time."),
    FIELD_INT(struct config, max_connections_per_address, 0, 65536, 0, "Of one client address; 0: half of all, or on a loopback address no such limit."),
    FIELD_INT(struct config, max_streams, 1, 65536, 256, "Event streams and waiting requests at a time; some connections are left for others."),
    FIELD_INT(struct config, disk_floor_mb, 0, 1 << 30, 64, "Uploads and checkpoints are refused when less is free on the disk, MB."),
    FIELD_INT(struct config, keep_jobs_days, 0, 36500, 0, "Finished jobs are removed after so many days; 0: never."),
    FIELD_INT(struct config, keep_uploads_days, 0, 36500, 0, "Models and data sets that no job uses are removed after so many days; 0: never."),
    FIELD_REAL(struct config, checkpoint_seconds, 0.05, 3600, 20, "A job saves its state at least this often, seconds."),
    FIELD_INT(struct config, crash_limit, 1, 1000, 10, "A job fails after so many deaths of the server without a new checkpoint."),
    FIELD_CHOICE(struct config, log_level, "error|warn|info|debug", LOG_INFO, "What is logged."),
    FIELD_END
};

struct found { char value[VALUE_LEN], source[NAME_LEN]; bool set; }; /* source: "--workers", "ESPALIER_WORKERS", for messages */

static void flag_name(char name[NAME_LEN], const char *row)
{
    snprintf(name, NAME_LEN, "--%s", row);
    for (char *p = name; *p; p++)
        *p = *p == '_' ? '-' : *p;
}

static void variable_name(char name[NAME_LEN], const char *row, const char *suffix)
{
    snprintf(name, NAME_LEN, "ESPALIER_%s%s", row, suffix);
    for (char *p = name; *p; p++)
        *p = (char)toupper((unsigned char)*p);
}

static enum err_code take(struct found *f, const char *source, const char *value, struct err *e)
{
    snprintf(f->source, sizeof f->source, "%s", source);
    if ((size_t)snprintf(f->value, sizeof f->value, "%s", value) >= sizeof f->value)
        return err_set(e, ERR_INVALID, "%s: the value is too long", source);
    f->set = true;
    return ERR_OK;
}

/* ---- environment ---- */

/* NULL: not there, or empty. */
static const char *variable(char **env, const char *name)
{
    size_t n = strlen(name);

    for (; env && *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=' && (*env)[n + 1])
            return *env + n + 1;
    return NULL;
}

/* The file's text without a line feed at its end. */
static enum err_code take_file(struct found *f, const char *source, const char *path, struct err *e)
{
    char text[VALUE_LEN + 1], what[2 * NAME_LEN];
    size_t n;
    FILE *in = fopen(path, "re");

    if (!in) {
        snprintf(what, sizeof what, "%s: cannot open the file", source);
        return err_set(e, ERR_INVALID, "%s (errno %d)", what, errno);
    }
    n = fread(text, 1, VALUE_LEN, in);
    if (ferror(in) || n == VALUE_LEN || memchr(text, '\0', n)) {
        fclose(in);
        return err_set(e, ERR_INVALID, "%s: the file cannot be read, is too long or is no text", source);
    }
    fclose(in);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        n--;
    text[n] = '\0';
    return take(f, source, text, e);
}

static enum err_code from_env(struct found *f, const char *row, char **env, struct err *e)
{
    char name[NAME_LEN], file_name[NAME_LEN];
    const char *value, *path;

    variable_name(name, row, "");
    variable_name(file_name, row, "_FILE");
    value = variable(env, name);
    path = variable(env, file_name);
    if (value && path)
        return err_set(e, ERR_INVALID, "%s and %s are both set", name, file_name);
    if (path)
        return take_file(f, file_name, path, e);
    return value ? take(f, name, value, e) : ERR_OK;
}

/* ---- flags ---- */

/* Is arg this flag, alone or with "=value"? */
static bool flag_is(const char *arg, const char *row)
{
    char name[NAME_LEN];
    size_t n;

    flag_name(name, row);
    n = strlen(name);
    return strncmp(arg, name, n) == 0 && (arg[n] == '\0' || arg[n] == '=');
}

/* Takes argv[*at], and the value behind it. */
static enum err_code from_flag(struct found *found, int argc, char **argv, int *at, struct err *e)
{
    char name[NAME_LEN];
    const char *arg = argv[*at], *value = strchr(arg, '=');

    for (int i = 0; config_params[i].name; i++) {
        if (!flag_is(arg, config_params[i].name))
            continue;
        flag_name(name, config_params[i].name);
        if (value)
            return take(&found[i], name, value + 1, e);
        if (*at + 1 == argc)
            return err_set(e, ERR_INVALID, "%s needs a value", name);
        return take(&found[i], name, argv[++*at], e);
    }
    return err_set(e, ERR_INVALID, "unknown option %.100s; --help lists them", arg);
}

/* ---- both ---- */

static json_t *to_json(const struct param *p, const char *text)
{
    bool number = p->type == PARAM_INT || p->type == PARAM_REAL;
    json_t *v = NULL;

    if (number && (isdigit((unsigned char)*text) || *text == '-'))
        v = json_loads(text, JSON_DECODE_ANY, NULL);
    return v ? v : json_string(text); /* what is no number is refused as one, with a message */
}

static enum err_code parse(struct config *c, const struct found *found, struct err *e)
{
    json_t *obj = json_object();
    char at[NAME_LEN], msg[sizeof e->msg];
    enum err_code rc = obj ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    for (int i = 0; config_params[i].name && rc == ERR_OK; i++)
        if (found[i].set && json_object_set_new(obj, config_params[i].name, to_json(&config_params[i], found[i].value)) != 0)
            rc = err_set(e, ERR_INVALID, "%s: is not UTF-8", found[i].source);
    if (rc == ERR_OK)
        rc = params_parse(c, sizeof *c, config_params, obj, e);
    json_decref(obj);
    for (int i = 0; config_params[i].name && rc != ERR_OK; i++) {
        snprintf(at, sizeof at, "/%s", config_params[i].name);
        if (strcmp(e->at, at) == 0) {
            memcpy(msg, e->msg, sizeof msg);
            return err_set(e, rc, "%s: %.240s", found[i].source, msg);
        }
    }
    return rc;
}

static enum err_code load(struct config *c, struct found *found, int argc, char **argv, char **env, enum config_action *action, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (int i = 0; config_params[i].name && rc == ERR_OK; i++)
        rc = from_env(&found[i], config_params[i].name, env, e);
    for (int at = 1; at < argc && rc == ERR_OK; at++)
        rc = from_flag(found, argc, argv, &at, e);
    *action = CONFIG_RUN;
    return rc == ERR_OK ? parse(c, found, e) : rc;
}

enum err_code config_load(struct config *c, int argc, char **argv, char **env, enum config_action *action, struct err *e)
{
    struct err own = { 0 };
    struct found *found;
    enum err_code rc;

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "--version") == 0) {
            *action = argv[i][2] == 'h' ? CONFIG_HELP : CONFIG_VERSION;
            return ERR_OK;
        }
    found = mem_zalloc(MAX_SETTINGS, sizeof *found);
    if (!found)
        return err_set(e, ERR_NOMEM, "out of memory");
    rc = load(c, found, argc, argv, env, action, e ? e : &own);
    mem_free(found);
    return rc;
}

/* ---- a command's own flags ---- */

/* The value of argv[*at], the flag of p. */
static enum err_code take_option(json_t *obj, const struct param *p, int argc, char **argv, int *at, struct err *e)
{
    char name[NAME_LEN];
    const char *value = strchr(argv[*at], '=');

    flag_name(name, p->name);
    if (!value && *at + 1 == argc)
        return err_set(e, ERR_INVALID, "%s needs a value", name);
    value = value ? value + 1 : argv[++*at];
    return json_object_set_new(obj, p->name, to_json(p, value)) == 0 ? ERR_OK : err_set(e, ERR_INVALID, "%s: is not UTF-8", name);
}

enum err_code config_options(json_t **given, void *conf, size_t conf_size, const struct param *tab, int *argc, char **argv, struct err *e)
{
    json_t *obj = json_object();
    char name[NAME_LEN], msg[sizeof e->msg];
    int left = 1;
    enum err_code rc = obj ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    for (int at = 1; at < *argc && rc == ERR_OK; at++) {
        const struct param *p = tab;

        while (p->name && !flag_is(argv[at], p->name))
            p++;
        if (p->name)
            rc = take_option(obj, p, *argc, argv, &at, e);
        else
            argv[left++] = argv[at];
    }
    if (rc == ERR_OK) {
        *argc = left;
        rc = params_parse(conf, conf_size, tab, obj, e);
        if (rc != ERR_OK && e->at[0] == '/') {
            flag_name(name, e->at + 1);
            memcpy(msg, e->msg, sizeof msg);
            rc = err_set(e, rc, "%s: %.240s", name, msg);
        }
    }
    if (rc == ERR_OK && given)
        *given = obj;
    else
        json_decref(obj);
    return rc;
}

json_t *config_dump(const struct config *c)
{
    json_t *j = params_dump(config_params, c);

    if (j && json_object_set_new(j, "admin_token", json_string(*c->admin_token ? "(set)" : "")) != 0) {
        json_decref(j);
        j = NULL;
    }
    return j;
}

/* ---- help ---- */

static void default_text(const struct param *p, char *buf, size_t n)
{
    const char *choice = p->choices, *end;

    if (p->type == PARAM_TEXT) {
        snprintf(buf, n, "%s", p->choices);
        return;
    }
    if (p->type != PARAM_CHOICE) {
        snprintf(buf, n, "%.15g; %.15g to %.15g", p->def, p->min, p->max);
        return;
    }
    for (int i = 0; i < (int)p->def; i++)
        choice = strchr(choice, '|') + 1;
    end = strchr(choice, '|');
    snprintf(buf, n, "%.*s; %s", end ? (int)(end - choice) : (int)strlen(choice), choice, p->choices);
}

enum err_code config_help(char **out, struct err *e)
{
    char flag[NAME_LEN], name[NAME_LEN], def[160];
    char *text = mem_alloc(HELP_LEN);
    size_t n;

    if (!text)
        return err_set(e, ERR_NOMEM, "out of memory");
    n = (size_t)snprintf(text, HELP_LEN, "Usage: espalierd [COMMAND] [--option value ...]\n\nPrunes neural networks, over HTTP.\n\n"
                         "  check                  Checks the settings and the data directory, and prints what they come to.\n"
                         "  backup DIR             Copies the data directory while the daemon runs; a daemon on the copy goes on with it.\n"
                         "  healthcheck            Asks the daemon with these settings for /healthz; the exit status is 0 if it is well.\n"
                         "  token create           Makes a token and prints it: [--tenant T] [--name N] [--scope read|submit|admin] [--expires-days D].\n"
                         "  token list             Prints all tokens, without their secrets.\n"
                         "  token revoke ID        Makes a token invalid. All three may be used while the daemon runs.\n"
                         "  tenant limits TENANT   Prints what the tenant may have. With flags as --tenant-* below, without \"tenant-\" (--storage-mb 5000), sets that\n"
                         "                         first; -1: as the settings have it. Also while the daemon runs.\n\n");
    for (const struct param *p = config_params; p->name; p++) {
        flag_name(flag, p->name);
        variable_name(name, p->name, "");
        default_text(p, def, sizeof def);
        n += (size_t)snprintf(text + n, HELP_LEN - n, "  %-22s %s\n  %-22s (default %s) [%s]\n", flag, p->help, "", def, name);
    }
    snprintf(text + n, HELP_LEN - n, "  --help, --version\n\nA flag comes before its environment variable. Each variable has a twin, NAME_FILE, that names a file with "
             "the value.\n");
    *out = text;
    return ERR_OK;
}
