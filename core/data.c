/* core/data.c: opens a data set: the checks between its files, its classes, its scaling. What is wrong within one file was refused when it
 * was converted, and the statistics were taken then: to open costs the same for any number of samples, but for a look at the labels. */
#include "core/data.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#include "core/data_impl.h"
#include "core/mem.h"

const char *const data_split_name[DATA_SPLITS] = { "train", "validation", "test" };
const char *const data_part_name[DATA_PARTS] = { "features", "labels", "table" };

static const struct param csv_params[] = {
    FIELD_CHOICE(struct data_csv_conf, header, "auto|yes|no", DATA_HEADER_AUTO,
                 "Whether the first row names the columns; auto: when it has text where a number is expected."),
    FIELD_TEXT(struct data_csv_conf, label, "-1", "Column of the label: its name, or its position (0 is the first, -1 the last)."),
    FIELD_TEXT(struct data_csv_conf, delimiter, ",", "One character between the cells, or tab."),
    FIELD_END
};
const struct param data_params[] = {
    FIELD_TEXT(struct data_conf, name, "", "A name for people."),
    FIELD_CHOICE(struct data_conf, task, "classification|regression", DATA_CLASSIFICATION,
                 "What the labels are: classes, or numbers to predict."),
    FIELD_CHOICE(struct data_conf, scaling, "auto|none|unit|minmax|standardize|channel", DATA_SCALE_AUTO,
                 "Of the features, by the train split: unit divides by 255, minmax maps to 0..1, standardize to mean 0 and deviation 1, "
                 "channel the same for all pixels of an image's channel alike; auto is unit for bytes and none for reals."),
    FIELD_CHOICE(struct data_conf, channels, "last|first", DATA_CHANNELS_LAST,
                 "Of samples of three axes: images (height, width, channels), or (channels, height, width), for scaling and augmentation."),
    FIELD_PLUG(struct data_conf, format, &data_format_table, "", "What the uploads are; absent: it is told by their first bytes."),
    FIELD_OBJECT(struct data_conf, csv, csv_params, "How CSV files are read."),
    FIELD_END
};

enum err_code data_conf_check(const struct data_conf *conf, struct err *e)
{
    const char *d = conf->csv.delimiter;

    if (strcmp(d, "tab") == 0 || (d[0] > 0 && d[1] == '\0' && !isalnum(d[0]) && !strchr("\"+-.", d[0])))
        return ERR_OK;
    return err_field(e, ERR_INVALID, "/csv/delimiter", "must be one character that is no letter, digit, quote or part of a number, or tab");
}

/* ---- checks between the files ---- */

/* All files while they are compared. */
struct opening {
    struct dataset *d;
    const struct data_conf *conf;
    struct data_in in[DATA_SPLITS][2];
};

static enum err_code check_columns(const json_t *ours, const json_t *train, struct err *e)
{
    char ours_text[CSV_QUOTE_LEN], train_text[CSV_QUOTE_LEN];

    for (size_t i = 0; json_is_array(ours) && json_is_array(train) && i < json_array_size(train); i++) {
        const json_t *a = json_array_get(ours, i), *b = json_array_get(train, i);

        if (!json_equal(a, b))
            return err_set(e, ERR_INVALID, "column \"%s\" stands where the train split has \"%s\"", csv_quote(ours_text, json_string_value(a)),
                           csv_quote(train_text, json_string_value(b)));
    }
    return ERR_OK;
}

static enum err_code check_features(const struct opening *o, enum data_split_id id, struct err *e)
{
    const struct data_in *in = &o->in[id][0], *train = &o->in[DATA_TRAIN][0];
    char a[96], b[96];

    if (in->head.kind != DATA_KIND_FEATURES)
        return err_set(e, ERR_INVALID, "the file holds no features");
    if (!shape_equal(&in->head.shape, &train->head.shape))
        return err_set(e, ERR_INVALID, "samples of shape %s, but %s in the train split", shape_text(&in->head.shape, a, sizeof a),
                       shape_text(&train->head.shape, b, sizeof b));
    return check_columns(json_object_get(in->notes, "columns"), json_object_get(train->notes, "columns"), e);
}

static int classes_of(const struct data_in *in)
{
    json_int_t n = json_integer_value(json_object_get(in->notes, "n_classes"));

    return n > 0 && n <= DATA_MAX_CLASSES ? (int)n : 0;
}

/* Renumbers this split's classes to the train split's by name. */
static enum err_code rename_classes(struct data_split *s, const json_t *names, json_t *train, struct err *e)
{
    json_t *at = json_object();
    int32_t *number = mem_zalloc(json_array_size(names), sizeof *number);
    enum err_code rc = ERR_OK;
    bool short_of = !at || !number;
    char text[CSV_QUOTE_LEN];

    for (size_t i = 0; i < json_array_size(train) && !short_of; i++)
        short_of = json_object_set_new(at, json_string_value(json_array_get(train, i)), json_integer((json_int_t)i)) != 0;
    for (size_t i = 0; i < json_array_size(names) && !short_of && rc == ERR_OK; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        const json_t *found = json_object_get(at, name);

        number[i] = (int32_t)json_integer_value(found);
        if (!found)
            rc = err_set(e, ERR_INVALID, "class \"%s\" is not in the train split", csv_quote(text, name));
    }
    if (rc == ERR_OK && !short_of)
        s->own_label = mem_alloc((size_t)s->n * sizeof *s->own_label);
    if (rc == ERR_OK && (short_of || !s->own_label))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    for (int i = 0; i < s->n && rc == ERR_OK; i++)
        s->own_label[i] = number[s->label[i]];
    if (rc == ERR_OK)
        s->label = s->own_label;
    mem_free(number);
    json_decref(at);
    return rc;
}

static enum err_code take_classes(struct opening *o, enum data_split_id id, struct err *e)
{
    const struct data_in *in = &o->in[id][1];
    struct data_split *s = &o->d->split[id];
    json_t *names = json_object_get(in->notes, "classes"), *train = o->d->classes;
    int n = classes_of(in);

    s->label = in->x;
    for (int i = 0; i < s->n; i++)
        if (s->label[i] < 0 || s->label[i] >= n)
            return err_set(e, ERR_INVALID, "the label of sample %d is %d, it must be below %d", i, (int)s->label[i], n);
    if (id == DATA_TRAIN) {
        o->d->n_classes = n;
        o->d->classes = json_is_array(names) ? json_incref(names) : NULL;
        return n >= 2 ? ERR_OK : err_set(e, ERR_INVALID, "classification takes at least two classes, the labels have %d", n);
    }
    if (json_is_array(names) != (train != NULL))
        return err_set(e, ERR_INVALID, "the classes have %s, but %s in the train split", train ? "numbers" : "names",
                       train ? "names" : "numbers");
    if (!train && n > o->d->n_classes)
        return err_set(e, ERR_INVALID, "class %d is not in the train split, which has 0 to %d", n - 1, o->d->n_classes - 1);
    return train && !json_equal(names, train) ? rename_classes(s, names, train, e) : ERR_OK;
}

static enum err_code take_labels(struct opening *o, enum data_split_id id, struct err *e)
{
    const struct data_in *in = &o->in[id][1];
    struct data_split *s = &o->d->split[id];
    bool classes = o->conf->task == DATA_CLASSIFICATION;
    int width = (int)data_head_width(&in->head);

    if (in->head.kind != (classes ? DATA_KIND_CLASSES : DATA_KIND_TARGETS))
        return err_set(e, ERR_INVALID, "the file holds no %s", classes ? "classes" : "targets");
    if (in->head.n != (uint64_t)s->n)
        return err_set(e, ERR_INVALID, "%llu labels, but the features are %d samples", (unsigned long long)in->head.n, s->n);
    if (classes)
        return take_classes(o, id, e);
    if (id != DATA_TRAIN && width != o->d->n_target)
        return err_set(e, ERR_INVALID, "%d targets per sample, but %d in the train split", width, o->d->n_target);
    o->d->n_target = width;
    s->target = in->x;
    return ERR_OK;
}

static enum err_code open_part(struct opening *o, enum data_split_id id, int part, const char *path, struct err *e)
{
    struct data_split *s = &o->d->split[id];
    struct data_in *in = &o->in[id][part];
    enum err_code rc = path ? data_in_open(in, path, e) : err_set(e, ERR_INVALID, "is not uploaded");

    if (rc == ERR_OK)
        s->map[part] = in->map; /* the split's from now on */
    if (rc == ERR_OK && part == 0) {
        s->n = (int)in->head.n;
        s->is_u8 = in->head.dtype == DATA_U8;
        s->x = in->x;
        rc = check_features(o, id, e);
    } else if (rc == ERR_OK) {
        rc = take_labels(o, id, e);
    }
    return rc == ERR_OK ? rc : err_at(e, rc, "/%s/%s", data_split_name[id], data_part_name[part]);
}

/* ---- scaling ---- */

/* Mean and deviation of each channel, over its pixels; of an image without an axis of channels all pixels are one. */
static void scale_channels(struct dataset *d, const struct data_in *train)
{
    const int n_channels = d->shape.n_d == 2 ? 1 : d->shape.d[d->channels_first ? 0 : d->shape.n_d - 1], pixels = d->n_features / n_channels;
    const int step = d->channels_first ? 1 : n_channels;

    for (int c = 0; c < n_channels; c++) {
        const int first = d->channels_first ? c * pixels : c, end = first + pixels * step;
        double mean = 0, m2 = 0, min = train->min[first], max = train->max[first];

        for (int i = first; i < end; i += step) {
            mean += train->mean[i] / pixels;
            min = fmin(min, train->min[i]);
            max = fmax(max, train->max[i]);
        }
        for (int i = first; i < end; i += step) {
            double off = train->mean[i] - mean;

            m2 += train->m2[i] / (double)train->head.n + off * off;
        }
        for (int i = first; i < end; i += step) {
            d->center[i] = (float)mean;
            d->scale[i] = max > min ? (float)(1 / sqrt(m2 / pixels)) : 1; /* m2 of a constant channel is what rounding left */
        }
    }
}

static void scale_features(struct dataset *d, enum data_scaling scaling, const struct data_in *train)
{
    double n = (double)train->head.n;

    for (int i = 0; i < d->n_features; i++) {
        double range = train->max[i] - train->min[i], divisor = 1;

        if (scaling == DATA_SCALE_UNIT) {
            divisor = 255;
        } else if (scaling == DATA_SCALE_MINMAX) {
            divisor = range;
            d->center[i] = (float)train->min[i];
        } else if (scaling == DATA_SCALE_STANDARDIZE) {
            divisor = sqrt(train->m2[i] / n);
            d->center[i] = (float)train->mean[i];
        }
        d->scale[i] = range > 0 || scaling == DATA_SCALE_UNIT ? (float)(1 / divisor) : 1;
    }
}

static enum err_code take_scaling(struct dataset *d, enum data_scaling scaling, const struct data_in *train, struct err *e)
{
    d->auto_unit = scaling == DATA_SCALE_AUTO && train->head.dtype == DATA_U8;
    if (scaling == DATA_SCALE_AUTO)
        scaling = d->auto_unit ? DATA_SCALE_UNIT : DATA_SCALE_NONE;
    d->center = mem_vector((size_t)d->n_features);
    d->scale = mem_vector((size_t)d->n_features);
    if (!d->center || !d->scale)
        return err_set(e, ERR_NOMEM, "out of memory");
    d->by_channel = scaling == DATA_SCALE_CHANNEL;
    if (d->by_channel)
        scale_channels(d, train);
    else
        scale_features(d, scaling, train);
    return ERR_OK;
}

/* ---- open and free ---- */

static enum err_code open_all(struct opening *o, const char *paths[DATA_SPLITS][2], struct err *e)
{
    struct dataset *d = o->d;
    enum err_code rc = ERR_OK;

    for (int id = 0; id < DATA_SPLITS && rc == ERR_OK; id++) {
        if (id != DATA_TRAIN && !paths[id][0] && !paths[id][1])
            continue;
        rc = open_part(o, (enum data_split_id)id, 0, paths[id][0], e);
        if (rc == ERR_OK)
            rc = open_part(o, (enum data_split_id)id, 1, paths[id][1], e);
    }
    if (rc != ERR_OK)
        return rc;
    d->shape = o->in[DATA_TRAIN][0].head.shape;
    d->n_features = (int)shape_len(&d->shape);
    d->channels_first = d->shape.n_d == 3 && o->conf->channels == DATA_CHANNELS_FIRST;
    return take_scaling(d, (enum data_scaling)o->conf->scaling, &o->in[DATA_TRAIN][0], e);
}

enum err_code dataset_open(struct dataset **out, const struct data_conf *conf, const char *paths[DATA_SPLITS][2], struct err *e)
{
    struct opening o = { mem_zalloc(1, sizeof *o.d), conf, { { { .x = NULL } } } };
    enum err_code rc = o.d ? open_all(&o, paths, e) : err_set(e, ERR_NOMEM, "out of memory");

    for (int id = 0; id < DATA_SPLITS; id++)
        for (int part = 0; part < 2; part++)
            json_decref(o.in[id][part].notes);
    if (rc == ERR_OK)
        *out = o.d;
    else
        dataset_free(o.d);
    return rc;
}

void dataset_free(struct dataset *d)
{
    if (!d)
        return;
    for (int id = 0; id < DATA_SPLITS; id++) {
        file_map_close(&d->split[id].map[0]);
        file_map_close(&d->split[id].map[1]);
        mem_free(d->split[id].own_label);
    }
    mem_free(d->center);
    mem_free(d->scale);
    json_decref(d->classes);
    mem_free(d);
}
