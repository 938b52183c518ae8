/* Fuzzes the CSV reader: the first byte chooses task, scaling and header, the second one the label column. What converts must open, and
 * give batches. */
#include "tests/fuzz/upload.h"

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
    struct data_conf conf = { .csv = { .delimiter = "," } };
    struct upload u;
    struct err e = { 0 };

    if (size < 2)
        return 0;
    u = upload_write("csv", data + 2, size - 2);
    conf.task = data[0] & 1;
    conf.scaling = data[0] / 2 % 5;
    conf.csv.header = data[0] / 10 % 3;
    snprintf(conf.csv.label, sizeof conf.csv.label, "%s", labels[data[1] % 4]);
    if (upload_convert(&u, DATA_TRAIN, DATA_TABLE, &conf, &e) == ERR_OK) {
        upload_open(&u, false, &conf, use);
    } else {
        json_t *msg = json_string(e.msg);

        if (!msg || access(u.x, F_OK) == 0 || access(u.y, F_OK) == 0)
            abort(); /* a message that is not UTF-8, or something stayed */
        json_decref(msg);
    }
    upload_remove(&u);
    return 0;
}
