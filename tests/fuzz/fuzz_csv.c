/* Fuzzes the CSV reader: the first byte chooses task, scaling and header, the second one the label column. What converts must open, and
 * give batches. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct dataset *d)
{
    struct data_views v;
    size_t n = (size_t)d->split[DATA_TRAIN].n;
    float *x = malloc(n * (size_t)d->n_features * sizeof *x), *target = malloc(n * sizeof *target);
    int32_t *label = malloc(n * sizeof *label);

    if (x && target && label && data_views_new(&v, d, 0.3, 1, NULL) == ERR_OK) {
        data_gather(&v.train, NULL, 0, v.train.n, &(struct data_batch){ x, label, target }, NULL);
        data_views_free(&v);
    }
    free(x);
    free(target);
    free(label);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const labels[] = { "-1", "0", "label", "1" };
    static char upload[64], x[64], y[64];
    struct data_conf conf = { .csv = { .delimiter = "," } };
    const char *paths[DATA_SPLITS][2] = { { x, y } };
    struct dataset *d;
    struct err e = { 0 };
    FILE *f;

    if (size < 2)
        return 0;
    snprintf(upload, sizeof upload, "/dev/shm/espalier-csv-%d", (int)getpid());
    snprintf(x, sizeof x, "%s.x", upload);
    snprintf(y, sizeof y, "%s.y", upload);
    f = fopen(upload, "wb");
    if (!f || fwrite(data + 2, 1, size - 2, f) != size - 2 || fclose(f) != 0)
        abort();
    conf.task = data[0] & 1;
    conf.scaling = data[0] / 2 % 5;
    conf.csv.header = data[0] / 10 % 3;
    snprintf(conf.csv.label, sizeof conf.csv.label, "%s", labels[data[1] % 4]);
    if (data_convert(upload, DATA_TRAIN, DATA_TABLE, &conf, x, y, NULL, NULL, 1 << 20, &e) == ERR_OK) {
        if (dataset_open(&d, &conf, paths, &e) == ERR_OK) {
            use(d);
            dataset_free(d);
        }
    } else {
        json_t *msg = json_string(e.msg);

        if (!msg || access(x, F_OK) == 0 || access(y, F_OK) == 0)
            abort(); /* a message that is not UTF-8, or something stayed */
        json_decref(msg);
    }
    unlink(upload);
    unlink(x);
    unlink(y);
    return 0;
}
