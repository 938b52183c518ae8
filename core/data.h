/* core/data.h: data sets: the compact form on disk, its checks, and mini-batches from it.
 *
 * An upload (a row of data_format_table: IDX, NPY, CSV, images ...) is converted once, streaming, to one or two compact files (features, labels) that jobs map into
 * memory. Bytes stay bytes. Features are stored sample by sample in the order that Keras sees them; a mini-batch is transposed to
 * [features][n] as it is gathered, scaled on the way.
 *
 * Compact file (little endian), known whole before its first number is written, so that it is written in one go:
 *   1. magic "ESPDATA1";
 *   2. u32 kind (0 features, 1 classes, 2 targets), u32 dtype (0 u8, 1 f32, 2 i32);
 *   3. u32 rank, u32 dims[8] of one sample, u32 zero; u64 n samples;
 *   4. u64 offset of the statistics, 0 if none; u64 offset of the notes; zeros to offset 4096;
 *   5. the numbers, sample after sample: features u8 or f32, classes i32, targets f32;
 *   6. at the next multiple of 8, features only: four arrays of one double per feature: mean, sum of squared deviations, min, max;
 *   7. the notes to the end of the file, JSON: {"format", "columns" (CSV with a header, else null)} of features,
 *      {"format", "n_classes", "classes" (names of CSV, else null), "counts"} of classes. */
#ifndef CORE_DATA_H
#define CORE_DATA_H

#include "core/file.h"
#include "core/params.h"
#include "core/team.h"
#include "core/tensor.h"

enum data_split_id { DATA_TRAIN, DATA_VALIDATION, DATA_TEST, DATA_SPLITS };
extern const char *const data_split_name[DATA_SPLITS]; /* "train", "validation", "test" */
enum data_part { DATA_FEATURES, DATA_LABELS, DATA_TABLE, DATA_PARTS };
extern const char *const data_part_name[DATA_PARTS]; /* "features", "labels", "table" */

enum data_scaling { DATA_SCALE_AUTO, DATA_SCALE_NONE, DATA_SCALE_UNIT, DATA_SCALE_MINMAX, DATA_SCALE_STANDARDIZE, DATA_SCALE_CHANNEL };
enum data_channels { DATA_CHANNELS_LAST, DATA_CHANNELS_FIRST };
/* The options of POST /v1/datasets, recorded with the data set. */
struct data_csv_conf {
    int header;        /* "auto|yes|no" */
    char label[128];   /* column by name, or by position ("0" first, "-1" last: the default) */
    char delimiter[8]; /* one character, or "tab"; default "," */
};
struct data_conf {
    char name[128];
    int task;    /* "classification|regression" */
    int scaling; /* enum data_scaling: auto: unit for bytes, none for reals; unit: by 255; statistics are the train split's */
    int channels; /* enum data_channels: of samples of three axes */
    struct plug_value format; /* of data_format_table; absent: told by the first bytes */
    struct data_csv_conf csv;
};
extern const struct param data_params[];
extern const struct plug_table data_format_table;
/* What the table cannot say: the delimiter. ERR_INVALID with its pointer. */
MUST enum err_code data_conf_check(const struct data_conf *conf, struct err *e);

struct data_file_info {
    char hash[FILE_HASH_LEN];
    uint64_t bytes;
    /* New reference: {"kind", "dtype", "shape", "samples", "format"}; kind "classes" also "n_classes", "classes" (the first 100 names, or
     * null: class numbers) and "counts" (samples of the first 100 classes). */
    json_t *json;
};
/* Converts one upload of at most max_bytes (unpacked; 0: no limit) and publishes the compact files: DATA_TABLE writes both, DATA_FEATURES and
 * DATA_LABELS the one of that name; the other path and info may be NULL. Of an upload that holds several splits it takes that one. ERR_SYNTAX for
 * a broken file, ERR_INVALID for values that cannot be taken, naming line and column of CSV, the offset in IDX and NPY, the member of an
 * archive; ERR_TOO_LARGE. Nothing stays on error. scratch: nobody else reads the upload; what has been read of it may be gone afterwards, so that the disk
 * and its cache need not hold both. */
MUST enum err_code data_convert(const char *upload_path, bool scratch, enum data_split_id split, enum data_part part, const struct data_conf *conf,
                                const char *features_path, const char *labels_path, struct data_file_info *features,
                                struct data_file_info *labels, uint64_t max_bytes, struct err *e);

struct data_split {
    int n;                 /* samples; 0: the split is not there */
    bool is_u8;
    const void *x;         /* [n][features] of uint8_t or float */
    const int32_t *label;  /* class numbers 0 .. n_classes-1; or NULL */
    const float *target;   /* [n][n_target]; or NULL */
    struct file_map map[2];
    int32_t *own_label;    /* label, where this split's class names had to be renumbered to the train split's; else NULL */
};
struct dataset {
    struct shape shape; /* of one sample */
    int n_features;
    int n_classes;      /* 0: regression */
    int n_target;
    struct data_split split[DATA_SPLITS];
    float *center, *scale; /* n_features each: x = (raw - center) * scale */
    bool auto_unit;        /* bytes are scaled by 255 since nobody said how */
    bool channels_first;   /* samples are (channels, height, width) */
    bool by_channel;       /* the numbers of a channel are scaled alike */
    json_t *classes;       /* array of names; NULL: the classes are numbers */
};
/* paths[split][0] features, [1] labels; NULL: not uploaded. Checks all that can be wrong between the files: counts, shapes, columns, classes
 * unknown to the train split, labels out of range. ERR_INVALID; `at` is "/train/labels" and so on. The classes are the train split's. */
MUST enum err_code dataset_open(struct dataset **out, const struct data_conf *conf, const char *paths[DATA_SPLITS][2], struct err *e);
void dataset_free(struct dataset *d);

/* Samples of one split, chosen and ordered by index. */
struct data_view {
    const struct dataset *data;
    const struct data_split *split;
    uint32_t *index; /* owned */
    int n;
};
/* The views of a job. Validation is the split of that name, or carved from train: round(fraction * n) samples, stratified by class,
 * a pure function of the seed; both parts in ascending order. ERR_INVALID when one of them would be empty, unless fraction is 0: then
 * validation is. test is empty (n 0) when there is none. */
struct data_views { struct data_view train, validation, test; };
MUST enum err_code data_views_new(struct data_views *out, const struct dataset *d, double fraction, uint64_t seed, struct err *e);
void data_views_free(struct data_views *v);

/* Mini-batch: samples view->index[order ? order[first + i] : first + i], i < n, into x [features][n]; label[n] or target [n_target][n]. */
struct data_batch { float *x; int32_t *label; float *target; };
void data_gather(const struct data_view *v, const uint32_t *order, int first, int n, const struct data_batch *out, struct team *team);
/* The same of images that are changed on the way (core/augment.h). */
struct augment;
void data_gather_augmented(const struct data_view *v, const uint32_t *order, int first, int n, const struct data_batch *out,
                           const struct augment *a, struct team *team);

#endif
