/* Fuzzes the one-JSON form of a model. */
#include "core/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct model m;
    struct err e = { 0 };

    if (document_read(&m, (const char *)data, n, &e) == ERR_OK) {
        if (!m.net || !m.architecture)
            __builtin_trap();
        model_clear(&m);
    } else if (e.code == ERR_OK || !e.msg[0]) {
        __builtin_trap();
    }
    return 0;
}
