/* Fuzzes the NPY reader, plain and through gzip: the first byte chooses what the file is taken for. What converts must open again. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char upload[64], out[64];
    struct data_conf conf = { .csv = { .label = "-1", .delimiter = "," } };
    const char *paths[DATA_SPLITS][2] = { { out, out } };
    struct dataset *d;
    struct err e = { 0 };
    FILE *f;

    if (size < 1)
        return 0;
    snprintf(upload, sizeof upload, "/dev/shm/espalier-npy-%d", (int)getpid());
    snprintf(out, sizeof out, "%s.out", upload);
    f = fopen(upload, "wb");
    if (!f || fwrite(data + 1, 1, size - 1, f) != size - 1 || fclose(f) != 0)
        abort();
    conf.task = data[0] >> 1 & 1;
    conf.scaling = data[0] % 6;
    conf.format.plug = plug_find(&data_format_table, "npy");
    if (data_convert(upload, DATA_TRAIN, data[0] & 1 ? DATA_LABELS : DATA_FEATURES, &conf, out, out, NULL, NULL, 1 << 20, &e) == ERR_OK &&
        dataset_open(&d, &conf, paths, &e) == ERR_OK)
        dataset_free(d);
    unlink(upload);
    unlink(out);
    return 0;
}
