/* core/data_csv.c: a CSV table to features and labels.
 *
 * The file is read twice. The first pass checks every cell and learns what the compact files need to know before their first number: rows,
 * columns, the classes, whether all features are bytes. The second one writes. So memory holds a row, a chunk and the class names, however
 * long the table is, and nothing is written of a file that is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/data_impl.h"
#include "core/mem.h"
#include "core/utf8.h"

enum { MAX_COLUMNS = 1 << 20 };

struct table {
    const struct data_conf *conf;
    bool classes;     /* else targets */
    struct csv *csv;
    int n_columns, label;
    json_t *first;    /* cells of the first row */
    uint64_t first_line;
    bool header, header_unsure; /* unsure: only its label is text: a header if no other label is */
    bool label_text;            /* a label below the first row is no number */
    uint64_t rows;
    bool all_bytes;
    struct class_names names;
    bool writing;     /* the second pass */
    struct data_writer out;
};

/* "line 3, column 2 (radius): " and the rest; columns count from 1 for people. */
static enum err_code cell_error(const struct table *t, const struct csv_cell *cell, enum err_code code, const char *what, struct err *e)
{
    const char *name = t->header ? json_string_value(json_array_get(t->first, (size_t)cell->column)) : NULL;
    char text[CSV_QUOTE_LEN], column[CSV_QUOTE_LEN];

    if (!cell->text)
        return err_set(e, code, "line %llu: %s", (unsigned long long)cell->line, what);
    return err_set(e, code, "line %llu, column %d%s%s%s: \"%s\" %s", (unsigned long long)cell->line, cell->column + 1, name ? " (" : "",
                   name ? csv_quote(column, name) : "", name ? ")" : "", csv_quote(text, cell->text), what);
}

static enum err_code cell_json(const struct table *t, const struct csv_cell *cell, json_t **out, struct err *e)
{
    if (!utf8_valid(cell->text))
        return cell_error(t, cell, ERR_INVALID, "is not UTF-8", e);
    *out = json_stringn_nocheck(cell->text, cell->len);
    return *out ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

/* ---- class names ---- */

static enum err_code add_class(struct table *t, const struct csv_cell *cell, int at, struct err *e)
{
    json_t *name;
    enum err_code rc;

    if (cell->len == 0 || cell->len > CLASS_NAME_MAX)
        return cell_error(t, cell, ERR_INVALID, "is no label: it must have 1 to 255 bytes", e);
    if (t->names.n == DATA_MAX_CLASSES)
        return cell_error(t, cell, ERR_TOO_LARGE, "would be class 10001: is this the label? (numbers to predict: task regression)", e);
    rc = cell_json(t, cell, &name, e);
    return rc == ERR_OK ? class_names_add(&t->names, name, at, e) : rc;
}

/* ---- cells, in either pass ---- */

static enum err_code take_class(struct table *t, const struct csv_cell *cell, struct err *e)
{
    double v;
    int at;
    bool known = class_names_find(&t->names, cell->text, &at);
    enum err_code rc = ERR_OK;

    if (t->writing) {
        if (!known)
            return err_set(e, ERR_INTERNAL, "the upload changed while it was read");
        *(int32_t *)data_writer_at(&t->out, 1) = t->names.at[at].number;
        return ERR_OK;
    }
    if (!known)
        rc = add_class(t, cell, at, e);
    if (rc != ERR_OK)
        return rc;
    t->names.at[at].count++;
    t->label_text = t->label_text || csv_number(cell->text, &v) == CSV_TEXT;
    return ERR_OK;
}

static enum err_code take_cell(struct table *t, const struct csv_cell *cell, struct err *e)
{
    int at = cell->column - (cell->column > t->label);
    bool label = cell->column == t->label;
    enum csv_number kind;
    double v = 0;

    if (label && t->classes)
        return take_class(t, cell, e);
    kind = csv_number(cell->text, &v);
    if (kind != CSV_NUMBER)
        return cell_error(t, cell, ERR_INVALID, csv_number_text[kind], e);
    if (!t->writing)
        t->all_bytes = t->all_bytes && (label || (v >= 0 && v <= 255 && v == (uint8_t)v));
    else if (label)
        *(float *)data_writer_at(&t->out, 1) = (float)v;
    else if (t->all_bytes)
        ((uint8_t *)data_writer_at(&t->out, 0))[at] = (uint8_t)v;
    else
        ((float *)data_writer_at(&t->out, 0))[at] = (float)v;
    return ERR_OK;
}

static enum err_code end_row(struct table *t, struct err *e)
{
    if (t->writing)
        return data_writer_next(&t->out, e);
    t->rows++;
    return ERR_OK;
}

/* All rows from here on. */
static enum err_code take_rows(struct table *t, struct err *e)
{
    struct csv_cell cell;
    enum err_code rc;
    char what[80];

    while ((rc = csv_next(t->csv, &cell, e)) == ERR_OK && cell.text) {
        if (cell.last != (cell.column == t->n_columns - 1)) {
            snprintf(what, sizeof what, "the row has %s%d cells, the first one %d", cell.last ? "" : "more than ",
                     cell.last ? cell.column + 1 : t->n_columns, t->n_columns);
            cell.text = NULL;
            return cell_error(t, &cell, ERR_SYNTAX, what, e);
        }
        rc = take_cell(t, &cell, e);
        if (rc == ERR_OK && cell.last)
            rc = end_row(t, e);
        if (rc != ERR_OK)
            return rc;
    }
    return rc;
}

/* ---- the first row ---- */

static enum err_code read_first_row(struct table *t, struct err *e)
{
    struct csv_cell cell = { .last = false };
    json_t *text = NULL;

    t->first = json_array();
    while (!cell.last) {
        enum err_code rc = csv_next(t->csv, &cell, e);

        if (rc != ERR_OK)
            return rc;
        if (!cell.text)
            return err_set(e, ERR_INVALID, "the CSV file is empty");
        if (cell.column == MAX_COLUMNS)
            return cell_error(t, &cell, ERR_TOO_LARGE, "is one column too many", e);
        rc = cell_json(t, &cell, &text, e);
        if (rc != ERR_OK)
            return rc;
        if (json_array_append_new(t->first, text) != 0)
            return err_set(e, ERR_NOMEM, "out of memory");
        t->first_line = cell.line;
    }
    t->n_columns = (int)json_array_size(t->first);
    return t->n_columns >= 2 ? ERR_OK
                             : err_set(e, ERR_INVALID, "the first row has one cell: a label and a feature are needed (is the delimiter right?)");
}

static const char *first_cell(const struct table *t, int column)
{
    return json_string_value(json_array_get(t->first, (size_t)column));
}

/* The label column; *by_name when it was found in the first row. */
static enum err_code find_label(struct table *t, bool *by_name, struct err *e)
{
    const char *label = t->conf->csv.label;
    long long at;

    *by_name = !class_name_is_integer(label);
    if (!*by_name) {
        at = strtoll(label, NULL, 10);
        at = at < 0 ? at + t->n_columns : at;
        if (at < 0 || at >= t->n_columns)
            return err_field(e, ERR_INVALID, "/csv/label", "column %s: the table has %d columns", label, t->n_columns);
        t->label = (int)at;
        return ERR_OK;
    }
    for (int i = 0; i < t->n_columns; i++)
        if (strcmp(first_cell(t, i), label) == 0) {
            t->label = i;
            return t->conf->csv.header == DATA_HEADER_NO
                       ? err_field(e, ERR_INVALID, "/csv/label", "a column by name needs a header, but /csv/header is no")
                       : ERR_OK;
        }
    return err_field(e, ERR_INVALID, "/csv/label", "no column \"%.80s\" in the first row", label);
}

static void find_header(struct table *t, bool by_name)
{
    double v;

    t->header = by_name || t->conf->csv.header == DATA_HEADER_YES;
    if (t->header || t->conf->csv.header == DATA_HEADER_NO)
        return;
    for (int i = 0; i < t->n_columns; i++)
        if (csv_number(first_cell(t, i), &v) == CSV_TEXT) {
            t->header = t->header || i != t->label || !t->classes;
            t->header_unsure = true;
        }
    t->header_unsure = t->header_unsure && !t->header;
}

/* The first row was data after all. */
static enum err_code take_first_row(struct table *t, struct err *e)
{
    for (int i = 0; i < t->n_columns; i++) {
        struct csv_cell cell = { first_cell(t, i), strlen(first_cell(t, i)), t->first_line, i, i == t->n_columns - 1 };
        enum err_code rc = take_cell(t, &cell, e);

        if (rc != ERR_OK)
            return rc;
    }
    return end_row(t, e);
}

/* ---- the two passes ---- */

static char delimiter(const struct data_conf *conf)
{
    return strcmp(conf->csv.delimiter, "tab") == 0 ? '\t' : conf->csv.delimiter[0];
}

static enum err_code check_pass(struct table *t, struct err *e)
{
    bool by_name;
    enum err_code rc = read_first_row(t, e);

    if (rc == ERR_OK)
        rc = find_label(t, &by_name, e);
    if (rc != ERR_OK)
        return rc;
    find_header(t, by_name);
    if (!t->header && !t->header_unsure)
        rc = take_first_row(t, e);
    if (rc == ERR_OK)
        rc = take_rows(t, e);
    if (rc != ERR_OK)
        return rc;
    if (t->header_unsure) {
        t->header = t->rows > 0 && !t->label_text;
        return t->header ? ERR_OK : take_first_row(t, e);
    }
    return t->rows > 0 ? ERR_OK : err_set(e, ERR_INVALID, "the CSV file has a header, but no rows");
}

static json_t *features_notes(struct table *t)
{
    if (t->header && json_array_remove(t->first, (size_t)t->label) != 0)
        return NULL;
    return json_pack("{s:s,s:O?}", "format", "csv", "columns", t->header ? t->first : NULL);
}

static enum err_code open_out(struct table *t, const struct data_upload *u, struct err *e)
{
    struct data_head head[2] = { { .kind = DATA_KIND_FEATURES, .dtype = t->all_bytes ? DATA_U8 : DATA_F32, .shape = { 1, { t->n_columns - 1 } }, .n = t->rows },
                                 { .kind = DATA_KIND_CLASSES, .dtype = DATA_I32, .n = t->rows } };

    if (!t->classes)
        head[1] = (struct data_head){ .kind = DATA_KIND_TARGETS, .dtype = DATA_F32, .shape = { 1, { 1 } }, .n = t->rows };
    return data_writer_open(&t->out, u, head, e);
}

static enum err_code write_pass(struct table *t, struct err *e)
{
    struct csv_cell cell = { .last = false };
    enum err_code rc = ERR_OK;

    t->writing = true;
    while (t->header && rc == ERR_OK && !cell.last)
        rc = csv_next(t->csv, &cell, e);
    return rc == ERR_OK ? take_rows(t, e) : rc;
}

static enum err_code convert(struct table *t, const struct data_upload *u, json_t *notes[2], struct err *e)
{
    enum err_code rc = csv_open(&t->csv, u->path, delimiter(t->conf), u->max_bytes, e);

    if (rc == ERR_OK)
        rc = check_pass(t, e);
    if (rc != ERR_OK)
        return rc;
    csv_close(t->csv);
    t->csv = NULL;
    notes[1] = t->classes ? class_names_notes(&t->names, "csv", true) : json_pack("{s:s}", "format", "csv");
    rc = csv_open(&t->csv, u->path, delimiter(t->conf), u->max_bytes, e);
    if (rc == ERR_OK)
        rc = open_out(t, u, e);
    if (rc == ERR_OK)
        rc = write_pass(t, e);
    if (rc != ERR_OK)
        return rc;
    notes[0] = features_notes(t);
    return data_writer_publish(&t->out, notes, e);
}

static enum err_code convert_table(const struct data_upload *u, struct err *e)
{
    struct table t = { .conf = u->conf, .classes = u->conf->task == DATA_CLASSIFICATION, .all_bytes = true };
    json_t *notes[2] = { NULL, NULL };
    enum err_code rc = data_conf_check(u->conf, e);

    if (rc == ERR_OK)
        rc = convert(&t, u, notes, e);
    csv_close(t.csv);
    data_writer_free(&t.out);
    json_decref(notes[0]);
    json_decref(notes[1]);
    class_names_free(&t.names);
    json_decref(t.first);
    return rc;
}

const struct data_format data_format_csv = {
    .plug = { "csv", "A table in text: features and labels; see csv.", NULL, 0 }, .parts = 1 << DATA_TABLE, .convert = convert_table
};
