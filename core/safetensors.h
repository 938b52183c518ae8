/* core/safetensors.h: the safetensors file format: named arrays behind a JSON header. Used for weights that clients send and fetch,
 * and for our own checkpoints.
 *
 * 1. u64 little endian: length of the header, at most 100 MB (here: 16 MiB). 2. The header, a JSON object: name ->
 * {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]} relative to the end of the header, and optionally "__metadata__", an object of strings.
 * Padded with spaces. 3. The arrays, without gaps or overlaps. */
#ifndef CORE_SAFETENSORS_H
#define CORE_SAFETENSORS_H

#include "core/file.h"
#include "core/tensor.h"

#include <jansson.h>

enum st_dtype { ST_F32, ST_F64, ST_F16, ST_BF16, ST_I64, ST_I32, ST_U8, ST_DTYPES };

struct st_array {
    const char *name;
    enum st_dtype dtype;
    struct shape shape;
    const void *data; /* shape_len numbers, little endian, any alignment */
    size_t bytes;
};
/* A parsed file; borrows the bytes. Every offset, shape and length is checked: names unique, no gaps, no overlap, no trailing bytes. */
struct st_file {
    int n;
    struct st_array *array; /* in the order of their places in the file */
    json_t *header;         /* owns the names */
    const json_t *metadata; /* object of strings, or NULL; borrowed from header */
};
MUST enum err_code st_parse(struct st_file *out, const void *data, size_t n, struct err *e);
void st_file_free(struct st_file *f);
const struct st_array *st_find(const struct st_file *f, const char *name); /* NULL: not there */
/* n floats out of F32, F64, F16 or BF16. ERR_UNSUPPORTED for other dtypes; ERR_INVALID when a value is not finite (names it). */
MUST enum err_code st_floats(const struct st_array *a, float *out, struct err *e);

/* Writing: collect borrowed arrays, then write all at once. Same arrays in the same order: the same bytes. */
struct st_writer;
MUST enum err_code st_writer_new(struct st_writer **out, struct err *e);
/* name is copied; data is borrowed until st_write returns. */
MUST enum err_code st_add(struct st_writer *w, const char *name, enum st_dtype dtype, const struct shape *shape, const void *data, struct err *e);
/* Floats that stand in another order: number i of the array is data[order[i]]; order NULL: as they are. Both are borrowed. */
MUST enum err_code st_add_ordered(struct st_writer *w, const char *name, const struct shape *shape, const float *data, const uint32_t *order,
                                  struct err *e);
/* metadata: object of strings, or NULL. */
MUST enum err_code st_write(const struct st_writer *w, const json_t *metadata, struct file_out *f, struct err *e);
/* Only what stands before the arrays (their data may be NULL then): the caller writes the arrays' bytes itself, in the order added. */
MUST enum err_code st_write_header(const struct st_writer *w, const json_t *metadata, struct file_out *f, struct err *e);
/* Bytes that the file would have. */
MUST enum err_code st_size(const struct st_writer *w, uint64_t *bytes, struct err *e);
void st_writer_free(struct st_writer *w);

#endif
