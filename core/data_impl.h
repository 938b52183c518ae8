/* core/data_impl.h: what the files of the data sets share: the compact file, the byte source, the two readers. See data.h. */
#ifndef CORE_DATA_IMPL_H
#define CORE_DATA_IMPL_H

#include "core/data.h"

enum { DATA_MAX_CLASSES = 10000, DATA_MAX_FEATURES = 1 << 22, DATA_CHUNK = 65536 /* bytes converted at a time, at least a sample */ };

enum { DATA_CLASSIFICATION, DATA_REGRESSION };                     /* of data_conf.task */
enum { DATA_HEADER_AUTO, DATA_HEADER_YES, DATA_HEADER_NO };        /* of data_csv_conf.header */

/* ---- the compact file: data_file.c ---- */

enum data_kind { DATA_KIND_FEATURES, DATA_KIND_CLASSES, DATA_KIND_TARGETS, DATA_KINDS };
enum data_dtype { DATA_U8, DATA_F32, DATA_I32, DATA_DTYPES };
extern const char *const data_kind_name[DATA_KINDS], *const data_dtype_name[DATA_DTYPES];
extern const size_t data_dtype_size[DATA_DTYPES];

struct data_head {
    enum data_kind kind;
    enum data_dtype dtype;
    struct shape shape;         /* of one sample */
    uint64_t n;                 /* samples */
    uint64_t stats_at, notes_at; /* filled by the writer */
};
size_t data_head_width(const struct data_head *h); /* numbers of one sample */
/* How many samples make a chunk. */
size_t data_head_chunk(const struct data_head *h);

struct data_out;
/* stats_at and notes_at of head are computed here. ERR_TOO_LARGE when the numbers take more than max_bytes (0: no limit). */
MUST enum err_code data_out_new(struct data_out **out, const char *path, const struct data_head *head, uint64_t max_bytes, struct err *e);
/* The next n samples; their statistics are taken on the way. */
MUST enum err_code data_out_put(struct data_out *o, const void *samples, size_t n, struct err *e);
/* After head->n samples: statistics and notes (borrowed). Then only data_out_publish is left. */
MUST enum err_code data_out_finish(struct data_out *o, const json_t *notes, struct err *e);
MUST enum err_code data_out_publish(struct data_out *o, struct data_file_info *info, struct err *e);
void data_out_free(struct data_out *o); /* removes what was not published; NULL is legal */

struct data_in {
    struct file_map map;
    struct data_head head;
    const void *x;
    const double *mean, *m2, *min, *max; /* of features, else NULL */
    json_t *notes;
};
MUST enum err_code data_in_open(struct data_in *in, const char *path, struct err *e);
void data_in_close(struct data_in *in);

/* ---- the byte source: data_input.c ---- */

struct input;
/* Opens a file, plain or gzip. max_bytes: of what comes out, 0: no limit. */
MUST enum err_code input_open(struct input **out, const char *path, uint64_t max_bytes, struct err *e);
void input_close(struct input *in);
/* Up to n bytes; *got is less than n only at the end. ERR_SYNTAX: the gzip stream is broken. ERR_TOO_LARGE: a limit. */
MUST enum err_code input_read(struct input *in, void *buf, size_t n, size_t *got, struct err *e);
uint64_t input_offset(const struct input *in); /* bytes given so far */
uint64_t input_size(const struct input *in);   /* of a plain file; UINT64_MAX: not known before the end */

/* ---- the readers ---- */

/* data_idx.c: kind FEATURES, CLASSES or TARGETS. */
MUST enum err_code data_idx_convert(const char *upload, enum data_kind kind, const char *path, uint64_t max_bytes,
                                    struct data_file_info *info, struct err *e);
/* data_csv.c: a table to paths[0] features and paths[1] labels. */
MUST enum err_code data_csv_convert(const char *upload, const struct data_conf *conf, const char *const paths[2], uint64_t max_bytes,
                                    struct data_file_info *const info[2], struct err *e);

/* data_csv_scan.c: the cells of a CSV file (RFC 4180: quotes, doubled quotes and line ends inside them; LF or CRLF; a UTF-8 BOM). Blanks
 * around a cell without quotes are dropped, empty lines passed over. */
enum { CSV_CELL_MAX = 4096 };
struct csv;
struct csv_cell {
    const char *text; /* NUL at the end, none inside; NULL: the file is at its end */
    size_t len;
    uint64_t line; /* where it begins, from 1 */
    int column;    /* from 0 */
    bool last;     /* of its row */
};
MUST enum err_code csv_open(struct csv **out, const char *path, char delimiter, uint64_t max_bytes, struct err *e);
void csv_close(struct csv *c);
/* The next cell, valid until the next call. */
MUST enum err_code csv_next(struct csv *c, struct csv_cell *cell, struct err *e);

/* A text from a file, fit for a message: cut, valid UTF-8, without control characters. Returns buf. */
enum { CSV_QUOTE_LEN = 64 };
const char *csv_quote(char buf[CSV_QUOTE_LEN], const char *text);

enum csv_number { CSV_NUMBER, CSV_EMPTY, CSV_TEXT, CSV_NOT_FINITE, CSV_RANGE, CSV_NUMBERS };
extern const char *const csv_number_text[CSV_NUMBERS]; /* what is wrong: "is not a number" */
/* A decimal number (no hex, no inf, no nan) that a float can hold. */
enum csv_number csv_number(const char *text, double *out);

#endif
