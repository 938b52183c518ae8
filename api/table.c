/* api/table.c: records as CSV and NDJSON. A line of NDJSON is the record. A line of CSV has its numbers, objects within it as prefix_name; lists are left
 * out. Columns are what any record has, in the order in which they first come: so a table is written when its last record is there. */
#include <string.h>

#include "api/api.h"
#include "core/digits.h"
#include "core/mem.h"

enum err_code api_format(const struct req *rq, enum api_format *out, struct err *e)
{
    static const struct { const char *name, *accept; } formats[] = { { "json", "application/json" }, { "csv", "text/csv" },
                                                                     { "ndjson", "application/x-ndjson" } };
    const char *format = rq->query(rq, "format"), *accept = rq->header(rq, "Accept");

    *out = API_JSON;
    for (int i = 0; i < 3; i++)
        if (format ? strcmp(format, formats[i].name) == 0 : accept && strstr(accept, formats[i].accept)) {
            *out = (enum api_format)i;
            return ERR_OK;
        }
    return format ? err_field(e, ERR_INVALID, "?format", "format must be json, csv or ndjson") : ERR_OK;
}

enum err_code api_table_begin(struct api_table *t, enum api_format format, struct err *e)
{
    *t = (struct api_table){ .format = format, .records = json_array() };
    api_text_add(&t->text, "%s", "");
    return t->records ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

static void csv_value(struct api_text *t, const json_t *v)
{
    if (json_is_integer(v))
        api_text_add(t, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v)) {
        char text[DIGITS_REAL_LEN];

        digits_real(text, json_real_value(v));
        api_text_add(t, "%s", text);
    } else if (json_is_boolean(v))
        api_text_add(t, "%s", json_is_true(v) ? "true" : "false");
    else if (json_is_string(v)) {
        api_text_add(t, "\"");
        for (const char *s = json_string_value(v); *s; s++)
            api_text_add(t, *s == '"' ? "\"%c" : "%c", *s);
        api_text_add(t, "\"");
    }
}

/* columns gets name: [key, inner key or ""], once. */
static enum err_code add_column(json_t *columns, const char *key, const char *inner, struct err *e)
{
    json_t *name = json_sprintf(*inner ? "%s_%s" : "%s%s", key, inner);
    bool made = name && (json_object_get(columns, json_string_value(name)) ||
                         json_object_set_new(columns, json_string_value(name), json_pack("[ss]", key, inner)) == 0);

    json_decref(name);
    return made ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

static enum err_code add_columns(json_t *columns, const json_t *record, struct err *e)
{
    const char *key, *inner;
    json_t *v, *w;
    enum err_code rc = ERR_OK;

    json_object_foreach((json_t *)(uintptr_t)record, key, v)
    {
        if (json_is_object(v)) {
            json_object_foreach(v, inner, w)
            {
                if (rc == ERR_OK && !json_is_object(w) && !json_is_array(w))
                    rc = add_column(columns, key, inner, e);
            }
        } else if (rc == ERR_OK && !json_is_array(v)) {
            rc = add_column(columns, key, "", e);
        }
    }
    return rc;
}

/* record NULL: the names. */
static void csv_line(struct api_text *t, const json_t *columns, const json_t *record)
{
    const char *name, *comma = "";
    json_t *keys;

    json_object_foreach((json_t *)(uintptr_t)columns, name, keys)
    {
        const char *key = json_string_value(json_array_get(keys, 0)), *inner = json_string_value(json_array_get(keys, 1));

        api_text_add(t, "%s%s", comma, record ? "" : name);
        csv_value(t, *inner ? json_object_get(json_object_get(record, key), inner) : json_object_get(record, key));
        comma = ",";
    }
    api_text_add(t, "\n");
}

static enum err_code write_csv(struct api_table *t, struct err *e)
{
    json_t *columns = json_object(), *record;
    enum err_code rc = columns ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
    size_t i;

    json_array_foreach(t->records, i, record)
        rc = rc == ERR_OK ? add_columns(columns, record, e) : rc;
    if (rc == ERR_OK && json_array_size(t->records) > 0)
        csv_line(&t->text, columns, NULL);
    json_array_foreach(t->records, i, record)
        if (rc == ERR_OK)
            csv_line(&t->text, columns, record);
    json_decref(columns);
    return rc;
}

enum err_code api_table_add(struct api_table *t, json_t *record, struct err *e)
{
    enum err_code rc = record ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    if (rc == ERR_OK && t->format == API_NDJSON) {
        char *line = NULL;

        rc = api_dump(&line, record, e);
        if (rc == ERR_OK)
            api_text_add(&t->text, "%s\n", line);
        mem_free(line);
    } else if (rc == ERR_OK) {
        return api_append(t->records, record, e);
    }
    json_decref(record);
    return rc;
}

enum err_code api_table_end(struct api_table *t, enum err_code rc, struct reply *rp, struct err *e)
{
    if (rc == ERR_OK)
        rc = write_csv(t, e);
    json_decref(t->records);
    if (rc == ERR_OK)
        return api_reply_text(rp, &t->text, t->format == API_CSV ? "text/csv; charset=utf-8" : "application/x-ndjson", e);
    mem_free(t->text.s);
    return rc;
}
