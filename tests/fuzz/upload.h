/* tests/fuzz/upload.h: what the fuzzers of data set readers share: bytes as an uploaded file, converted, and opened again. */
#ifndef TESTS_FUZZ_UPLOAD_H
#define TESTS_FUZZ_UPLOAD_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/data.h"

/* The upload, and where it is converted to. */
struct upload { char path[64], x[64], y[64]; };

static inline struct upload upload_write(const char *name, const uint8_t *data, size_t size)
{
    struct upload u;
    FILE *f;

    snprintf(u.path, sizeof u.path, "/dev/shm/espalier-%.16s-%d", name, (int)getpid());
    snprintf(u.x, sizeof u.x, "%.60s.x", u.path);
    snprintf(u.y, sizeof u.y, "%.60s.y", u.path);
    f = fopen(u.path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        abort();
    return u;
}

static inline enum err_code upload_convert(const struct upload *u, enum data_split_id split, enum data_part part, const struct data_conf *conf,
                                           struct err *e)
{
    return data_convert(u->path, false, split, part, conf, u->x, u->y, NULL, NULL, 1 << 20, e);
}

/* Opens what was converted; use (may be NULL) looks at it. one: features and labels are the same file, whichever it is. */
static inline void upload_open(const struct upload *u, bool one, const struct data_conf *conf, void (*use)(const struct dataset *d))
{
    const char *written = access(u->x, F_OK) == 0 ? u->x : u->y;
    const char *paths[DATA_SPLITS][2] = { { one ? written : u->x, one ? written : u->y } };
    struct dataset *d;
    struct err e = { 0 };

    if (dataset_open(&d, conf, paths, &e) != ERR_OK)
        return;
    if (use)
        use(d);
    dataset_free(d);
}

static inline void upload_remove(const struct upload *u)
{
    unlink(u->path);
    unlink(u->x);
    unlink(u->y);
}

/* An upload that is one array: the first byte chooses task, scaling, and whether it is features or labels. format NULL: it is told by its first bytes. */
static inline void upload_array(const char *name, const char *format, const uint8_t *data, size_t size, int scalings)
{
    struct data_conf conf = { .csv = { .label = "-1", .delimiter = "," }, .task = data[0] >> 1 & 1, .scaling = data[0] % scalings };
    struct upload u = upload_write(name, data + 1, size - 1);
    struct err e = { 0 };

    conf.format.plug = format ? plug_find(&data_format_table, format) : NULL;
    if (upload_convert(&u, DATA_TRAIN, data[0] & 1 ? DATA_LABELS : DATA_FEATURES, &conf, &e) == ERR_OK)
        upload_open(&u, true, &conf, NULL);
    upload_remove(&u);
}

#endif
