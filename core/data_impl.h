/* core/data_impl.h: what the files of the data sets share: the compact file, the byte sources, the table of readers. See data.h. */
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
/* The next n samples, at most a chunk; their statistics are taken on the way. */
MUST enum err_code data_out_put(struct data_out *o, const void *samples, size_t n, struct err *e);
/* After head->n samples: statistics and notes (borrowed). Then only data_out_publish is left. */
MUST enum err_code data_out_finish(struct data_out *o, const json_t *notes, struct err *e);
MUST enum err_code data_out_publish(struct data_out *o, struct data_file_info *info, struct err *e);
/* Features and labels, finished: both are published, or none. */
MUST enum err_code data_out_publish_both(struct data_out *const o[2], const char *const paths[2], struct data_file_info *const info[2],
                                         struct err *e);
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
/* From here on the file loses what has been read of it. */
void input_consume(struct input *in, const char *path);
/* Up to n bytes; *got is less than n only at the end. ERR_SYNTAX: the gzip stream is broken. ERR_TOO_LARGE: a limit. */
MUST enum err_code input_read(struct input *in, void *buf, size_t n, size_t *got, struct err *e);
/* What comes out of a packed upload is limited, to max_bytes and to 100 times the bytes taken from it beyond the first MiB: ERR_TOO_LARGE. */
MUST enum err_code input_check(uint64_t given, uint64_t taken, uint64_t max_bytes, const char *what, struct err *e);
uint64_t input_offset(const struct input *in); /* bytes given so far */
uint64_t input_size(const struct input *in);   /* of a plain file; UINT64_MAX: not known before the end */

/* ---- the members of an archive: data_archive.c ---- */

struct members;
/* A zip file, or a tar file, plain or gzip. max_bytes: of all that is read of it, 0: no limit. path is borrowed. */
MUST enum err_code members_open(struct members **out, const char *path, uint64_t max_bytes, struct err *e);
void members_close(struct members *m);
/* Back to before the first member. */
MUST enum err_code members_rewind(struct members *m, struct err *e);
/* The next regular file's path, valid until the next call; NULL at the end. */
MUST enum err_code members_next(struct members *m, const char **name, struct err *e);
/* As input_read, of the member that members_next was at. */
MUST enum err_code members_read(struct members *m, void *buf, size_t n, size_t *got, struct err *e);
/* Which split a word of a name means: "train", "validation", "val", "valid", "test"; n bytes, in either case. -1: none. */
int data_split_word(const char *word, size_t n);

/* ---- the readers ---- */

/* One upload, on its way to compact files. */
struct data_upload {
    const char *path;
    bool scratch;             /* may be removed as it is read */
    enum data_split_id split; /* chooses in uploads that hold several */
    enum data_part part;
    const struct data_conf *conf;
    const char *to[2];               /* features, labels */
    struct data_file_info *info[2];  /* each may be NULL */
    uint64_t max_bytes;
};
/* What is sniffed: the first bytes, unpacked from gzip. */
struct data_start {
    const unsigned char *x;
    size_t n;
    uint64_t size; /* of all, unpacked; UINT64_MAX: not known */
};
struct data_format {
    struct plug plug;
    unsigned parts;                              /* 1 << enum data_part of those that it fills */
    bool images;                                 /* makes samples (height, width, channels), whatever is in the files */
    bool (*sniff)(const struct data_start *start); /* NULL: is taken where no other one is */
    enum err_code (*convert)(const struct data_upload *u, struct err *e);
};
extern const struct data_format data_format_idx, data_format_npy, data_format_npz, data_format_csv, data_format_cifar10, data_format_cifar100,
    data_format_images;
/* What the labels of conf->task are. */
enum data_kind data_label_kind(const struct data_conf *conf);
bool data_start_has(const struct data_start *start, size_t at, const char *text);
bool data_start_is_archive(const struct data_start *start); /* zip or tar */
/* At most n bytes to buf. */
MUST enum err_code data_start_read(struct data_start *start, unsigned char *buf, size_t n, const char *path, struct err *e);

/* data_writer.c: samples with their labels, to both files of an upload. */
struct data_writer {
    const struct data_upload *u;
    struct data_out *out[2];
    unsigned char *x[2]; /* a chunk of samples, and of labels */
    size_t size[2];      /* bytes of one */
    size_t n, chunk;     /* samples in it, and at most */
    uint64_t done, total;
};
/* Memory for the next sample (part 0) and its label (1); data_writer_next takes them. */
MUST enum err_code data_writer_open(struct data_writer *w, const struct data_upload *u, const struct data_head head[2], struct err *e);
void *data_writer_at(const struct data_writer *w, int part);
MUST enum err_code data_writer_next(struct data_writer *w, struct err *e);
/* After head->n samples. notes are borrowed, NULL: memory was short. */
MUST enum err_code data_writer_publish(struct data_writer *w, json_t *const notes[2], struct err *e);
void data_writer_free(struct data_writer *w); /* also of zeros */

/* data_numbers.c: an array of numbers, sample after sample, as IDX and NPY have them. */
struct number_type {
    char kind; /* b: true or false, u: without sign, i: with, f: floating point */
    uint8_t size;
    bool big;  /* endian */
};
struct data_numbers {
    const char *name, *format; /* for messages, and for the notes */
    enum err_code (*read)(void *from, void *buf, size_t n, size_t *got, struct err *e); /* as input_read */
    void *from;
    struct number_type type;
    struct data_head head; /* data_numbers_head fills it */
    uint64_t at, bytes;    /* offset of the first number; of all numbers, data_numbers_head fills it */
};
/* kind, and dims[0 .. rank-1] of the array, the first one counts the samples. ERR_INVALID: they do not go together; ERR_TOO_LARGE. */
MUST enum err_code data_numbers_head(struct data_numbers *a, enum data_kind kind, int rank, const uint64_t *dims, struct err *e);
/* Reads them to the end of the file; *out is finished, to be published. */
MUST enum err_code data_numbers_convert(struct data_out **out, const struct data_numbers *a, const char *path, uint64_t max_bytes,
                                        struct err *e);
/* An upload that is one array, features or labels by u->part; read_head reads what stands before the numbers, from a->from, a struct input. */
MUST enum err_code data_numbers_upload(const struct data_upload *u, const char *name, const char *format,
                                       enum err_code (*read_head)(struct data_numbers *a, enum data_kind kind, struct err *e), struct err *e);

/* data_npy.c: what stands before the numbers; fills name, type, head and at of a. */
MUST enum err_code data_npy_head(struct data_numbers *a, enum data_kind kind, struct err *e);

/* data_classes.c: names of classes, sorted by their bytes. */
enum { CLASS_NAME_MAX = 255 };
struct class_name {
    json_t *name;
    json_int_t count;
    int32_t number; /* set by class_names_notes */
};
struct class_names {
    struct class_name *at;
    int n, cap;
};
/* *at: where it is, or would be. */
bool class_names_find(const struct class_names *t, const char *name, int *at);
/* Takes name (a JSON text; NULL: memory was short). */
MUST enum err_code class_names_add(struct class_names *t, json_t *name, int at, struct err *e);
/* Numbers the classes, and returns the notes of the labels (new reference, NULL: memory is short). by_value: in the order of the integers, where all
 * names are integers. */
json_t *class_names_notes(struct class_names *t, const char *format, bool by_value);
void class_names_free(struct class_names *t);
bool class_name_is_integer(const char *text);
/* Notes of classes that are numbers. */
json_t *data_class_notes(const char *format, int n_classes, const json_int_t *count);

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
