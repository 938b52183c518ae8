/* server/budget.c: see budget.h. The host's counts say nothing in a container: the kernel throttles whoever runs more threads than its quota, and
 * kills whoever takes more memory than its limit. A limit binds everything below it, so each cgroup from ours up to the root is read, and
 * the least counts. Files that are not there are no limit. */
#include "server/budget.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_LEN = 4096, TEXT_LEN = 8192 };

/* false: not there, or empty */
static bool read_text(char *text, size_t n, const char *path)
{
    FILE *f = fopen(path, "re");
    size_t k;

    if (!f)
        return false;
    k = fread(text, 1, n - 1, f);
    fclose(f);
    text[k] = '\0';
    return k > 0;
}

/* "max" and what is no number: no limit. */
static uint64_t number_at(const char *text)
{
    char *end;
    unsigned long long v = strtoull(text, &end, 10);

    return end == text || *text == '-' ? UINT64_MAX : v;
}

static uint64_t number_in(const char *dir, const char *file)
{
    char path[PATH_LEN + 64], text[128];

    snprintf(path, sizeof path, "%s/%s", dir, file);
    return read_text(text, sizeof text, path) ? number_at(text) : UINT64_MAX;
}

static void limit_cpus(struct budget *b, uint64_t quota, uint64_t period)
{
    uint64_t cpus;

    if (quota == UINT64_MAX || period == UINT64_MAX || period == 0)
        return;
    cpus = quota / period + (quota % period != 0); /* 1.5 CPUs are used whole by two threads */
    if (cpus < (uint64_t)b->cpus)
        b->cpus = cpus > 0 ? (int)cpus : 1;
}

static void limit_memory(struct budget *b, uint64_t bytes)
{
    if (bytes > 0 && bytes < b->memory)
        b->memory = bytes;
}

/* ---- what one cgroup's folder says ---- */

typedef void folder_fn(struct budget *b, const char *dir);

static void cpu_v2(struct budget *b, const char *dir) /* "150000 100000", "max 100000" */
{
    char path[PATH_LEN + 64], text[128];
    const char *period;

    snprintf(path, sizeof path, "%s/cpu.max", dir);
    if (read_text(text, sizeof text, path) && (period = strchr(text, ' ')))
        limit_cpus(b, number_at(text), number_at(period + 1));
}

static void unified(struct budget *b, const char *dir)
{
    cpu_v2(b, dir);
    limit_memory(b, number_in(dir, "memory.max"));
}

static void cpu_v1(struct budget *b, const char *dir)
{
    limit_cpus(b, number_in(dir, "cpu.cfs_quota_us"), number_in(dir, "cpu.cfs_period_us"));
}

static void memory_v1(struct budget *b, const char *dir)
{
    limit_memory(b, number_in(dir, "memory.limit_in_bytes"));
}

/* ---- which cgroups are ours ---- */

static const struct { const char *controller, *mount; folder_fn *fn; } kinds[] = {
    { "", "", unified }, /* version 2 names no controller */
    { "cpu", "/cpu", cpu_v1 },
    { "cpu", "/cpu,cpuacct", cpu_v1 },
    { "memory", "/memory", memory_v1 },
};

/* Is `name` one of the n bytes "cpu,cpuacct"? "" is only in an empty list. */
static bool in_list(const char *list, size_t n, const char *name)
{
    size_t k = strlen(name);

    if (n == 0 || k == 0)
        return n == k;
    for (const char *p = list; p < list + n; p++)
        if ((p == list || p[-1] == ',') && (size_t)(list + n - p) >= k && strncmp(p, name, k) == 0 && (p + k == list + n || p[k] == ','))
            return true;
    return false;
}

/* The folder of the group, then those of its parents, up to the mount point. In a container the path may be the host's, which is not there: then the
 * mount point alone counts, and it is ours. */
static void walk_up(struct budget *b, const char *root, const char *mount, const char *group, folder_fn *fn)
{
    char dir[PATH_LEN];
    size_t base = (size_t)snprintf(dir, sizeof dir, "%s/sys/fs/cgroup%s", root, mount);
    char *slash;

    if (base >= sizeof dir || strstr(group, "/.."))
        return;
    snprintf(dir + base, sizeof dir - base, "%s", group);
    for (;;) {
        fn(b, dir);
        slash = strrchr(dir + base, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

/* One line of /proc/self/cgroup: "4:cpu,cpuacct:/docker/1a2b" or "0::/user.slice". */
static void read_line(struct budget *b, const char *root, const char *line)
{
    const char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;

    if (!group)
        return;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (in_list(list + 1, (size_t)(group - list - 1), kinds[i].controller))
            walk_up(b, root, kinds[i].mount, group + 1, kinds[i].fn);
}

static void read_host_memory(struct budget *b, const char *root)
{
    char path[PATH_LEN], text[TEXT_LEN];
    const char *total;

    b->memory = UINT64_MAX;
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (read_text(text, sizeof text, path) && (total = strstr(text, "MemTotal:"))) {
        uint64_t kb = number_at(total + strlen("MemTotal:"));

        if (kb < UINT64_MAX / 1024)
            b->memory = kb * 1024;
    }
}

void budget_read_at(struct budget *b, const char *root, int affinity)
{
    char path[PATH_LEN], text[TEXT_LEN];
    char *line = text, *end;

    b->cpus = affinity > 0 ? affinity : 1;
    read_host_memory(b, root);
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!read_text(text, sizeof text, path))
        return;
    for (; *line; line = end + 1) {
        end = strchr(line, '\n');
        if (!end)
            return;
        *end = '\0';
        read_line(b, root, line);
    }
}

void budget_read(struct budget *b)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    budget_read_at(b, "", sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1);
}
