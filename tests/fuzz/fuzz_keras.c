/* Fuzzes the Keras reader: any text either becomes a net that can be described, or is refused with a message. */
#include "core/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct model m;
    struct err e = { 0 };
    json_t *doc = NULL;

    if (json_read(&doc, (const char *)data, n, MODEL_MAX_TOKENS, &e) == ERR_OK && keras_read(&m, doc, &e) == ERR_OK) {
        json_decref(model_describe(m.net));
        model_clear(&m);
    } else if (e.code == ERR_OK || !e.msg[0]) {
        __builtin_trap();
    }
    json_decref(doc);
    return 0;
}
