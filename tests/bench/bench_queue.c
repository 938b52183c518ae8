/* How long a claim takes when many jobs are queued: opens a store of its own in a temporary folder, queues N jobs of some tenants, claims some.
 *
 *     cmake --build build --target bench_queue && build/tests/bench_queue [N [TENANTS]] */
#include <ftw.h>
#include <string.h>
#include <unistd.h>

#include "server/store.h"
#include "tests/bench/bench.h"

enum { CLAIMS = 200, MOST_TENANTS = 1000 };

static int remove_one(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
    (void)sb;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static struct blob a_blob(struct store *s)
{
    struct blob b = { .bytes = 3 };
    struct err e = { 0 };
    char path[4096];

    blob_new(s, b.id, path, sizeof path);
    must(file_write(path, "abc", 3, &e), &e);
    memset(b.hash, 'a', 64);
    return b;
}

/* The model and the data set that all jobs of a tenant use. */
static struct job_row a_job(struct store *s, long tenant)
{
    struct model_row m = { .name = "net", .created_ms = 1, .architecture = a_blob(s), .summary = (char *)(uintptr_t)"{}" };
    struct dataset_row d = { .name = "data", .created_ms = 1, .conf = (char *)(uintptr_t)"{}" };
    struct job_row j = { .name = "job", .created_ms = 1, .conf = (char *)(uintptr_t)"{}" };
    struct err e = { 0 };

    id_new(m.id, "mdl");
    id_new(d.id, "dst");
    snprintf(j.tenant, sizeof j.tenant, "team-%ld", tenant);
    memcpy(m.tenant, j.tenant, sizeof m.tenant);
    memcpy(d.tenant, j.tenant, sizeof d.tenant);
    must(store_model_add(s, &m, &e), &e);
    must(store_dataset_add(s, &d, &e), &e);
    snprintf(j.model, sizeof j.model, "%s", m.id);
    snprintf(j.dataset, sizeof j.dataset, "%s", d.id);
    snprintf(j.architecture, sizeof j.architecture, "%s", m.architecture.id);
    return j;
}

int main(int argc, char **argv)
{
    long n = argc > 1 ? strtol(argv[1], NULL, 10) : 100000, tenants = argc > 2 ? strtol(argv[2], NULL, 10) : 10;
    char dir[] = "/tmp/bench_queue.XXXXXX";
    struct err e = { 0 };
    struct store *s;
    static struct job_row j[MOST_TENANTS];
    double took[CLAIMS];

    if (!mkdtemp(dir))
        must(err_errno(&e, 0, "temporary folder"), &e);
    must(store_open(&s, dir, &e), &e);
    tenants = tenants < 1 ? 1 : tenants > MOST_TENANTS ? MOST_TENANTS : tenants;
    for (long i = 0; i < tenants; i++)
        j[i] = a_job(s, i);
    for (long i = 0; i < n; i++) {
        id_new(j[i % tenants].id, "job");
        must(store_job_add(s, &j[i % tenants], &e), &e);
    }
    for (int i = 0; i < CLAIMS; i++) {
        struct job_row claimed = { 0 };
        double begun = now();
        bool found = false;

        must(store_job_claim(s, "bench", 2, 30000, &claimed, &found, &e), &e);
        took[i] = 1e3 * (now() - begun);
        job_row_clear(&claimed);
        if (!found)
            break;
    }
    qsort(took, CLAIMS, sizeof took[0], by_size);
    printf("%ld jobs of %ld tenants queued: a claim takes %.2f ms, p95 %.2f ms, most %.2f ms\n", n, tenants, took[CLAIMS / 2], took[CLAIMS * 95 / 100], took[CLAIMS - 1]);
    store_close(s);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
