/* Settings as a table of command lines and environments; what is refused names the option. Budget on made cgroup trees. Log lines stay lines. */
#include "server/config.h"

#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"
#include "server/budget.h"
#include "server/log.h"
#include "tests/suite.h"

static char home[64];

static int remove_one(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
    (void)sb;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static void setup(void)
{
    snprintf(home, sizeof home, "/tmp/espalier-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(home));
}

static void teardown(void)
{
    nftw(home, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Writes <home>/path, folders included. */
static void put_file(const char *path, const char *text)
{
    char full[512];
    FILE *f;

    snprintf(full, sizeof full, "%s/%s", home, path);
    for (char *p = strchr(full + strlen(home) + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        mkdir(full, 0700);
        *p = '/';
    }
    f = fopen(full, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

/* ---- configuration ---- */

#define LIST(...) (char *[]){ __VA_ARGS__, NULL }
static const struct { char **argv, **env; const char *json; const char *error; } configs[] = {
    { LIST("espalierd"), LIST("HOME=/"), "{}", NULL },
    { LIST("d", "--workers", "3"), LIST("A=b"), "{\"workers\":3}", NULL },
    { LIST("d", "--workers=3", "--workers=4"), LIST("A=b"), "{\"workers\":4}", NULL },
    { LIST("d"), LIST("ESPALIER_WORKERS=5"), "{\"workers\":5}", NULL },
    { LIST("d", "--workers=2"), LIST("ESPALIER_WORKERS=5"), "{\"workers\":2}", NULL },
    { LIST("d"), LIST("ESPALIER_WORKERS="), "{}", NULL },
    { LIST("d"), LIST("ESPALIER_WORKERS_OTHER=7", "ESPALIER_PORT=tcp://10.0.0.1:80"), "{}", NULL },
    { LIST("d", "--data=/a=b", "--listen", "[::1]:0"), LIST("A=b"), "{\"data\":\"/a=b\",\"listen\":\"[::1]:0\"}", NULL },
    { LIST("d", "--checkpoint-seconds=0.5", "--log-level=warn"), LIST("A=b"), "{\"checkpoint_seconds\":0.5,\"log_level\":\"warn\"}", NULL },
    { LIST("d"), LIST("ESPALIER_MAX_UPLOAD_MB=1", "ESPALIER_DISK_FLOOR_MB=0"), "{\"max_upload_mb\":1,\"disk_floor_mb\":0}", NULL },
    { LIST("d", "--workers", "0"), LIST("A=b"), NULL, "--workers: must be between 1 and 64, not 0" },
    { LIST("d", "--workers", "x"), LIST("A=b"), NULL, "--workers: must be an integer" },
    { LIST("d", "--workers", "1.5"), LIST("A=b"), NULL, "--workers: must be an integer" },
    { LIST("d", "--workers", "4 5"), LIST("A=b"), NULL, "--workers: must be an integer" },
    { LIST("d", "--workers="), LIST("A=b"), NULL, "--workers: must be an integer" },
    { LIST("d", "--workers", "99999999999999999999"), LIST("A=b"), NULL, "--workers: must be an integer" },
    { LIST("d", "--workers"), LIST("A=b"), NULL, "--workers needs a value" },
    { LIST("d", "--worker", "1"), LIST("A=b"), NULL, "unknown option --worker;" },
    { LIST("d", "--max_upload_mb", "1"), LIST("A=b"), NULL, "unknown option --max_upload_mb;" },
    { LIST("d", "more"), LIST("A=b"), NULL, "unknown option more;" },
    { LIST("d"), LIST("ESPALIER_WORKERS=-1"), NULL, "ESPALIER_WORKERS: must be between" },
    { LIST("d"), LIST("ESPALIER_LOG_LEVEL=loud"), NULL, "ESPALIER_LOG_LEVEL: must be one of error|warn|info|debug" },
    { LIST("d"), LIST("ESPALIER_CHECKPOINT_SECONDS=nan"), NULL, "ESPALIER_CHECKPOINT_SECONDS: must be a number" },
    { LIST("d"), LIST("ESPALIER_WORKERS=1", "ESPALIER_WORKERS_FILE=/dev/null"), NULL, "ESPALIER_WORKERS and ESPALIER_WORKERS_FILE are both set" },
    { LIST("d"), LIST("ESPALIER_WORKERS_FILE=/nowhere/x"), NULL, "ESPALIER_WORKERS_FILE: cannot open the file" },
    { LIST("d"), LIST("ESPALIER_DATA=a\x80"), NULL, "ESPALIER_DATA: is not UTF-8" },
    { LIST("d"), LIST("ESPALIER_DATA=a\nb"), NULL, "ESPALIER_DATA: must not contain control characters" },
};

START_TEST(config_table)
{
    char **argv = configs[_i].argv;
    int argc = 0;
    enum config_action action = CONFIG_HELP;
    struct config c = { 0 }, want = { 0 };
    struct err e = { 0 };
    enum err_code rc;
    json_t *j;

    while (argv[argc])
        argc++;
    rc = config_load(&c, argc, argv, configs[_i].env, &action, &e);
    if (configs[_i].error) {
        ck_assert_int_eq(rc, ERR_INVALID);
        ck_assert_msg(strstr(e.msg, configs[_i].error) == e.msg, "%s", e.msg);
        return;
    }
    ck_assert_msg(rc == ERR_OK, "%s", e.msg);
    ck_assert_int_eq(action, CONFIG_RUN);
    j = json_loads(configs[_i].json, 0, NULL);
    ck_assert_int_eq(params_parse(&want, sizeof want, config_params, j, NULL), ERR_OK);
    ck_assert_mem_eq(&c, &want, sizeof c);
    json_decref(j);
}
END_TEST

START_TEST(config_files)
{
    char variable[128];
    struct config c;
    struct err e = { 0 };
    enum config_action action;

    put_file("workers", "7\n");
    snprintf(variable, sizeof variable, "ESPALIER_WORKERS_FILE=%s/workers", home);
    ck_assert_int_eq(config_load(&c, 1, LIST("d"), LIST(variable), &action, NULL), ERR_OK);
    ck_assert_int_eq(c.workers, 7);
    put_file("workers", "seven\n");
    ck_assert_int_eq(config_load(&c, 1, LIST("d"), LIST(variable), &action, &e), ERR_INVALID);
    ck_assert_str_eq(e.msg, "ESPALIER_WORKERS_FILE: must be an integer");
}
END_TEST

START_TEST(every_setting_is_in_the_help_and_takes_its_default)
{
    enum config_action action = CONFIG_RUN;
    struct config c;
    char *text = NULL, flag[64];

    ck_assert_int_eq(params_check(config_params, NULL), ERR_OK);
    ck_assert_int_eq(config_load(&c, 3, LIST("d", "--nonsense", "--help"), NULL, &action, NULL), ERR_OK);
    ck_assert_int_eq(action, CONFIG_HELP);
    ck_assert_int_eq(config_load(&c, 2, LIST("d", "--version"), NULL, &action, NULL), ERR_OK);
    ck_assert_int_eq(action, CONFIG_VERSION);
    ck_assert_int_eq(config_help(&text, NULL), ERR_OK);
    for (const struct param *p = config_params; p->name; p++) {
        snprintf(flag, sizeof flag, "--%s ", p->name);
        for (char *q = flag; *q; q++)
            *q = *q == '_' ? '-' : *q;
        ck_assert_msg(strstr(text, flag) && strstr(text, p->help), "%s", flag);
    }
    ck_assert_ptr_nonnull(strstr(text, "NAME_FILE"));
    mem_free(text);
}
END_TEST

START_TEST(config_faults)
{
    struct config c;
    enum config_action action;
    bool fired = true;

    json_set_alloc_funcs(mem_alloc, mem_free);
    for (long k = 1; fired; k++) {
        enum err_code rc;

        mem_fail_in = k;
        rc = config_load(&c, 3, LIST("d", "--workers", "3"), NULL, &action, NULL);
        fired = mem_fail_in == 0;
        mem_fail_in = 0;
        ck_assert(fired ? rc != ERR_OK : rc == ERR_OK);
    }
}
END_TEST

/* ---- budget ---- */

enum { MAX_FILES = 8 };
#define MEMINFO "MemTotal:       8000000 kB\nMemFree:  1 kB\n" /* 8,192,000,000 bytes */
static const struct { int affinity, cpus; uint64_t memory; const char *file[MAX_FILES][2]; } trees[] = {
    { 4, 4, 8192000000, { { "proc/meminfo", MEMINFO } } },
    { 4, 4, UINT64_MAX, { { "nothing", "" } } },
    { 0, 1, UINT64_MAX, { { "nothing", "" } } },
    { 8, 2, 1000, { { "proc/meminfo", MEMINFO }, { "proc/self/cgroup", "0::/\n" }, { "sys/fs/cgroup/cpu.max", "150000 100000\n" },
                    { "sys/fs/cgroup/memory.max", "1000\n" } } },
    { 8, 1, 8192000000, { { "proc/meminfo", MEMINFO }, { "proc/self/cgroup", "0::/\n" }, { "sys/fs/cgroup/cpu.max", "1000 100000\n" },
                          { "sys/fs/cgroup/memory.max", "max\n" } } },
    { 3, 3, 500, { { "proc/meminfo", MEMINFO }, { "proc/self/cgroup", "0::/a/b\n" }, { "sys/fs/cgroup/a/b/cpu.max", "max 100000\n" },
                   { "sys/fs/cgroup/a/memory.max", "500\n" }, { "sys/fs/cgroup/a/b/memory.max", "600\n" } } },
    { 8, 2, 700, { { "proc/self/cgroup", "0::/host/path\n" }, { "sys/fs/cgroup/cpu.max", "200000 100000\n" }, { "sys/fs/cgroup/memory.max", "700" } } },
    { 8, 3, 900, { { "proc/meminfo", MEMINFO }, { "proc/self/cgroup", "5:memory:/d\n4:cpu,cpuacct:/d\n1:name=systemd:/d\n" },
                   { "sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_quota_us", "300000\n" }, { "sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_period_us", "100000\n" },
                   { "sys/fs/cgroup/memory/d/memory.limit_in_bytes", "900\n" } } },
    { 8, 8, 8192000000, { { "proc/meminfo", MEMINFO }, { "proc/self/cgroup", "5:memory:/\n4:cpu:/\n" }, { "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n" },
                          { "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n" },
                          { "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n" } } },
    { 8, 8, 8192000000, { { "proc/meminfo", MEMINFO }, { "proc/self/cgroup", "5\nx:y\n0::/../../x\n" }, { "sys/fs/cgroup/cpu.max", "0" } } },
    { 8, 8, 8192000000, { { "proc/meminfo", MEMINFO }, { "proc/self/cgroup", "0::/\n" }, { "sys/fs/cgroup/cpu.max", "5 0\n" } } },
};

START_TEST(budget_trees)
{
    struct budget b;

    for (int i = 0; i < MAX_FILES && trees[_i].file[i][0]; i++)
        put_file(trees[_i].file[i][0], trees[_i].file[i][1]);
    budget_read_at(&b, home, trees[_i].affinity);
    ck_assert_int_eq(b.cpus, trees[_i].cpus);
    ck_assert_uint_eq(b.memory, trees[_i].memory);
    budget_read(&b);
    ck_assert(b.cpus >= 1 && b.memory > 0);
}
END_TEST

/* ---- log ---- */

/* Runs the statement with standard output going to a file, and reads that. */
#define CAPTURE(text, statement) \
    do { \
        char path[128]; \
        int keep = dup(1), fd; \
        ssize_t got; \
        snprintf(path, sizeof path, "%s/log", home); \
        fd = open_rw(path); \
        dup2(fd, 1); \
        statement; \
        dup2(keep, 1); \
        close(keep); \
        got = pread(fd, text, sizeof text - 1, 0); \
        text[got < 0 ? 0 : got] = '\0'; \
        close(fd); \
    } while (0)

static int open_rw(const char *path)
{
    FILE *f = fopen(path, "w+");
    int fd;

    ck_assert_ptr_nonnull(f);
    fd = dup(fileno(f));
    fclose(f);
    return fd;
}

static const char *const nasty[] = {
    "plain", "", "a\nb", "\r\n{\"level\":\"error\"}", "quote\" backslash\\", "\x01\x1f\x7f", "\xff\xfe", "\xc0\xaf", "\xed\xa0\x80",
    "\xe2\x82", "\xf4\x90\x80\x80", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\xb3", "\",\"level\":\"error",
};

START_TEST(log_lines_cannot_be_forged)
{
    char text[8192];
    json_t *j;

    CAPTURE(text, log_event(LOG_WARN, nasty[_i], LOG_S("value", nasty[_i]), LOG_I("n", -3), LOG_I("least", INT64_MIN), LOG_R("x", 0.25), LOG_R("nan", NAN)));
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(j, "%s", text);
    ck_assert_str_eq(json_string_value(json_object_get(j, "level")), "warn");
    ck_assert_int_eq(json_integer_value(json_object_get(j, "n")), -3);
    ck_assert(json_integer_value(json_object_get(j, "least")) == INT64_MIN);
    ck_assert(json_number_value(json_object_get(j, "x")) == 0.25);
    ck_assert(json_is_null(json_object_get(j, "nan")));
    ck_assert_str_eq(json_string_value(json_object_get(j, "msg")), json_string_value(json_object_get(j, "value")));
    if (_i < 6)
        ck_assert_str_eq(json_string_value(json_object_get(j, "value")), nasty[_i]);
    json_decref(j);
}
END_TEST

START_TEST(log_cuts_long_values) /* at every length around the limit; quotes and characters of two bytes are never cut in half */
{
    static char value[6000];
    char text[8192];

    for (size_t n = 3800; n < 4200; n++) {
        json_t *j;

        for (size_t i = 0; i < n; i++)
            value[i] = _i == 0 ? 'a' : _i == 1 ? '"' : i % 2 ? '\xbc' : '\xc3';
        value[n] = '\0';
        CAPTURE(text, log_event(LOG_ERROR, "m", LOG_S("value", value), LOG_I("behind", 1)));
        ck_assert_int_le(strlen(text), 4096);
        j = json_loads(text, 0, NULL);
        ck_assert_msg(j, "%zu: ... %s", n, text + strlen(text) - 40);
        json_decref(j);
        n += 7 * (n % 3 == 0);
    }
}
END_TEST

START_TEST(log_levels)
{
    char text[8192];
    enum log_level level;

    log_set_level(LOG_WARN);
    CAPTURE(text, log_event(LOG_INFO, "no", LOG_I("n", 1)); log_event(LOG_WARN, "yes", LOG_I("n", 1)));
    ck_assert(!strstr(text, "no") && strstr(text, "yes"));
    ck_assert(log_level_parse("debug", &level) && level == LOG_DEBUG && !log_level_parse("x", &level));
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "config");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, config_table, 0, sizeof configs / sizeof configs[0]);
    tcase_add_test(tc, config_files);
    tcase_add_test(tc, every_setting_is_in_the_help_and_takes_its_default);
    tcase_add_test(tc, config_faults);
    tcase_add_loop_test(tc, budget_trees, 0, sizeof trees / sizeof trees[0]);
    tcase_add_loop_test(tc, log_lines_cannot_be_forged, 0, sizeof nasty / sizeof nasty[0]);
    tcase_add_loop_test(tc, log_cuts_long_values, 0, 3);
    tcase_add_test(tc, log_levels);
}
SUITE_MAIN("config", cases)
