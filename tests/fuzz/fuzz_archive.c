/* Fuzzes what comes as an archive or as records: NPZ, CIFAR, pictures (the decoders of PNG and JPEG with them). The first byte chooses the format, or
 * leaves it to the first bytes, and the split. What converts must open again. */
#include "tests/fuzz/upload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = { NULL, "npz", "cifar10", "cifar100", "images" };
    struct data_conf conf = { .csv = { .label = "-1", .delimiter = "," } };
    struct upload u;
    const char *format;
    struct err e = { 0 };

    if (size < 1)
        return 0;
    u = upload_write("archive", data + 1, size - 1);
    format = formats[data[0] % 5];
    conf.scaling = data[0] % 6;
    conf.format.plug = format ? plug_find(&data_format_table, format) : NULL;
    if (upload_convert(&u, (enum data_split_id)(data[0] / 5 % DATA_SPLITS), DATA_TABLE, &conf, &e) == ERR_OK)
        upload_open(&u, false, &conf, NULL);
    upload_remove(&u);
    return 0;
}
