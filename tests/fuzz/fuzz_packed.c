/* Fuzzes the reader of packed files: what it accepts is finite, can be written again, and comes back the same. Checksums are not looked at
 * (zstd's fuzzing mode has no part in this: the input is the head and the parts, which are made into a file here). */
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "core/packed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const unsigned char *file, size_t n)
{
    struct model m, again;
    struct packed p;
    struct err e = { 0 };

    if (packed_read(&m, file, n, &e) != ERR_OK) {
        if (e.code == ERR_OK || !e.msg[0])
            __builtin_trap();
        return;
    }
    if (packed_make(&p, &m, NULL, &e) != ERR_OK || packed_read(&again, p.data, p.n, &e) != ERR_OK)
        __builtin_trap();
    for (int i = 0; i < m.net->n_weights; i++)
        if (memcmp(m.net->weight[i].x, again.net->weight[i].x, m.net->weight[i].len * sizeof(float)) != 0)
            __builtin_trap();
    packed_clear(&p);
    model_clear(&m);
    model_clear(&again);
}

/* Bytes 0-1: where the head ends. As a raw file too. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    size_t head, room, a, b;
    uint32_t field[3];
    unsigned char *file;

    check(data, n);
    if (n < 2)
        return 0;
    head = (size_t)data[0] << 8 | data[1];
    data += 2;
    n -= 2;
    head = head < n ? head : n;
    room = 20 + ZSTD_compressBound(head) + ZSTD_compressBound(n - head);
    file = malloc(room);
    a = ZSTD_compress(file + 20, room - 20, data, head, 1);
    b = ZSTD_compress(file + 20 + a, room - 20 - a, data + head, n - head, 1);
    field[0] = 1, field[1] = (uint32_t)head, field[2] = (uint32_t)a;
    memcpy(file, "ESPACKED", 8);
    memcpy(file + 8, field, sizeof field);
    check(file, 20 + a + b);
    free(file);
    return 0;
}
