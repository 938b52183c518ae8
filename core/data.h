/* core/data.h: data sets: the compact form on disk, its checks, and mini-batches from it.
 *
 * An upload (IDX plain or gzip, CSV) is converted once, streaming, to one or two compact files (features, labels) that jobs map into
 * memory. Bytes stay bytes. Features are stored sample by sample in the order that Keras sees them; a mini-batch is transposed to
 * [features][n] as it is gathered, scaled on the way.
 *
 * Compact file (little endian): 1. magic "ESPDATA1"; 2. u32 kind (0 features, 1 classes, 2 targets), u32 dtype (0 u8, 1 f32, 2 i32);
 * 3. u32 rank, u32 dims[8] of one sample; u64 n samples; 4. u64 offset and length of the notes (JSON: class names, column names, the
 * original format); 5. u64 offset of the statistics (per feature: double mean, m2, min, max), 0 if none; 6. the numbers from offset
 * 4096, sample after sample; 7. statistics and notes behind them. */
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

enum data_scaling { DATA_SCALE_AUTO, DATA_SCALE_NONE, DATA_SCALE_UNIT, DATA_SCALE_MINMAX, DATA_SCALE_STANDARDIZE };
/* The options of POST /v1/datasets, recorded with the data set. */
struct data_conf {
    char name[128];
    int task;    /* "classification|regression" */
    int scaling; /* enum data_scaling: "auto|none|unit|minmax|standardize"; auto: bytes by 255, reals not at all; statistics are the train split's */
    struct {
        int header;         /* "auto|yes|no" */
        char label[128];    /* column by name, or by position ("0" first, "-1" last: the default) */
        char delimiter[8];  /* one character, or "tab"; default "," */
    } csv;
};
extern const struct param data_params[];

/* Converts one upload. features_path / labels_path: where to publish the compact files; DATA_TABLE writes both, the others one (the other
 * path may be NULL). Errors name line and column of CSV, the offset in IDX; nothing stays on error. stop (may be NULL) is asked now and then. */
struct data_file_info {
    char hash[FILE_HASH_LEN];
    uint64_t bytes;
    json_t *json; /* new reference: {"kind","dtype","shape","samples","classes":[...]|null} */
};
MUST enum err_code data_convert(const char *upload_path, enum data_part part, const struct data_conf *conf, const char *features_path,
                                const char *labels_path, struct data_file_info *features, struct data_file_info *labels,
                                uint64_t max_bytes, struct err *e);

struct data_split {
    int n;                 /* samples; 0: the split is not there */
    bool is_u8;
    const void *x;         /* [n][features] of uint8_t or float */
    const int32_t *label;  /* class numbers 0 .. n_classes-1; or NULL */
    const float *target;   /* [n][n_target]; or NULL */
    struct file_map map[2];
    int32_t *own_label;    /* where class names of this split had to be renumbered to the train split's */
};
struct dataset {
    struct shape shape; /* of one sample */
    int n_features;
    int n_classes;      /* 0: regression */
    int n_target;
    struct data_split split[DATA_SPLITS];
    float *scale, *shift; /* n_features each: x = raw * scale + shift */
    json_t *classes;      /* array of names, or NULL */
};
/* paths[split][0] features, [1] labels; NULL: not uploaded. Checks all that can be wrong between the files: counts, shapes, dtypes, classes
 * unknown to the train split, labels out of range. ERR_INVALID; `at` is "/train/labels" and so on. */
MUST enum err_code dataset_open(struct dataset **out, const struct data_conf *conf, const char *const paths[DATA_SPLITS][2], struct err *e);
void dataset_free(struct dataset *d);

/* Samples of one split, chosen and ordered by index. */
struct data_view {
    const struct dataset *data;
    const struct data_split *split;
    uint32_t *index; /* owned */
    int n;
};
/* The views of a job. Validation is the split of that name, or carved from train: round(fraction * n) samples, stratified by class,
 * a pure function of the seed. test is empty (n 0) when there is none. */
struct data_views { struct data_view train, validation, test; };
MUST enum err_code data_views_new(struct data_views *out, const struct dataset *d, double fraction, uint64_t seed, struct err *e);
void data_views_free(struct data_views *v);

/* Mini-batch: samples view->index[order ? order[first + i] : first + i], i < n, into x [features][n]; label[n] or target [n_target][n]. */
struct data_batch { float *x; int32_t *label; float *target; };
void data_gather(const struct data_view *v, const uint32_t *order, int first, int n, const struct data_batch *out, struct team *team);

#endif
