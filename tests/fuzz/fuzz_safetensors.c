/* Fuzzes the safetensors reader: what it accepts lies within the bytes, and its numbers can be read. */
#include "core/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct st_file f;
    struct err e = { 0 };

    if (st_parse(&f, data, n, &e) != ERR_OK) {
        if (e.code == ERR_OK || !e.msg[0])
            __builtin_trap();
        return 0;
    }
    for (int i = 0; i < f.n; i++) {
        const struct st_array *a = &f.array[i];
        float *x = malloc(shape_len(&a->shape) * sizeof *x);

        if ((const uint8_t *)a->data < data || (const uint8_t *)a->data + a->bytes > data + n)
            __builtin_trap();
        if (st_floats(a, x, &e) == ERR_OK && !(x[0] == x[0]))
            __builtin_trap();
        free(x);
    }
    st_file_free(&f);
    return 0;
}
