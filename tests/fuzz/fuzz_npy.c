/* Fuzzes the NPY reader, plain and through gzip: the first byte chooses what the file is taken for. What converts must open again. */
#include "tests/fuzz/upload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 1)
        upload_array("npy", "npy", data, size, 6);
    return 0;
}
