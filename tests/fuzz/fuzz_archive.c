/* Fuzzes what comes as an archive or as records: NPZ, CIFAR, pictures (the decoders of PNG and JPEG with them). The first byte chooses the format, or
 * leaves it to the first bytes, and the split. What converts must open again. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = { NULL, "npz", "cifar10", "cifar100", "images" };
    static char upload[64], x[64], y[64];
    struct data_conf conf = { .csv = { .label = "-1", .delimiter = "," } };
    const char *paths[DATA_SPLITS][2] = { { x, y } }, *format;
    struct dataset *d;
    struct err e = { 0 };
    FILE *f;

    if (size < 1)
        return 0;
    snprintf(upload, sizeof upload, "/dev/shm/espalier-archive-%d", (int)getpid());
    snprintf(x, sizeof x, "%s.x", upload);
    snprintf(y, sizeof y, "%s.y", upload);
    f = fopen(upload, "wb");
    if (!f || fwrite(data + 1, 1, size - 1, f) != size - 1 || fclose(f) != 0)
        abort();
    format = formats[data[0] % 5];
    conf.scaling = data[0] % 6;
    conf.format.plug = format ? plug_find(&data_format_table, format) : NULL;
    if (data_convert(upload, (enum data_split_id)(data[0] / 5 % DATA_SPLITS), DATA_TABLE, &conf, x, y, NULL, NULL, 1 << 20, &e) == ERR_OK &&
        dataset_open(&d, &conf, paths, &e) == ERR_OK)
        dataset_free(d);
    unlink(upload);
    unlink(x);
    unlink(y);
    return 0;
}
