/* core/packed.h: a model as one small file: architecture and weights, without the zeros, entropy coded (after Han, Mao & Dally 2016, "Deep Compression").
 * Extension .espk. Nothing is lost: what is read back has the same bits. Rounding, clustering and quantising come before (finish.h).
 *
 * All numbers are little endian.
 *   1. Eight bytes "ESPACKED", u32 version 1, u32 length of the head, u32 length of the head's frame.
 *   2. The head as one zstd frame, the parts as another, to the end of the file; both with content size and checksum.
 *   3. Head: u32 length and text of the architecture, a Keras model JSON; u32 number of arrays; the arrays' descriptions.
 *   4. Description: u8 length and bytes of the name ("dense/kernel"); u8 rank, u32 dims[rank], dims[0] the outputs, rows contiguous;
 *      u8 places, u8 values; u32 stored: how many numbers have a value; u32 length of the part of places; u32 entries of the table;
 *      f32 scale and u8 zero of the activations that an int8 kernel meets (x = (u - zero) * scale, u 0 .. 255; scale 0: each sample has its own).
 *   5. Parts, array after array: places, table, values.
 *   6. Places, which numbers have a value, the others are 0:
 *      0 all: no bytes. 1 mask: one bit per number, the lowest first; spare bits 0.
 *      2 gaps: one byte per stored number: how many without a value were passed since the last; 255: 255 were passed, and here is no value.
 *   7. Values:
 *      0 float32, 1 float16: all first bytes, then all second ones, and so on; no table.
 *      2 int8: table: one f32 per output; a number is its byte times that.
 *      3 codebook: table: at most 256 f32; a number is the entry that its byte names. */
#ifndef CORE_PACKED_H
#define CORE_PACKED_H

#include "core/model.h"

enum packed_places { PLACES_ALL, PLACES_MASK, PLACES_GAPS, PLACES_KINDS };
enum packed_values { VALUES_F32, VALUES_F16, VALUES_INT8, VALUES_CODEBOOK, VALUES_KINDS };
extern const char *const packed_places_name[PLACES_KINDS]; /* "all", "mask", "gaps" */
extern const char *const packed_values_name[VALUES_KINDS]; /* "float32", "float16", "int8", "codebook" */
enum { PACKED_MAX_HEAD = 4 << 20, PACKED_MAX_CODES = 256 };

/* A packed file in memory. For each array the smallest way that loses nothing. */
struct packed { unsigned char *data; size_t n; };
/* arrays: NULL, or a list that gets {"name", "places", "values", "stored", "bytes"} of each; bytes are those before entropy coding. */
MUST enum err_code packed_make(struct packed *out, const struct model *m, json_t *arrays, struct err *e);
void packed_clear(struct packed *p);
MUST enum err_code packed_write(const struct model *m, struct file_out *f, struct err *e);

/* What gzip and zstd make of the weights as float32, zeros and all: to compare with. */
MUST enum err_code packed_plain_sizes(const struct net *net, uint64_t *gzip, uint64_t *zstd, struct err *e);

/* Do the bytes begin like a packed file? */
bool packed_is(const void *data, size_t n);
/* Kernels that are int8 in the file run in integers. ERR_SYNTAX for a broken file, ERR_INVALID where it does not fit its architecture. Memory follows
 * from the architecture, never from lengths in the file alone. */
MUST enum err_code packed_read(struct model *out, const void *data, size_t n, struct err *e);

#endif
