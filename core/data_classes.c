/* core/data_classes.c: the names of classes while a file is converted: sorted by their bytes, found by bisection, numbered at the end. */
#include <stdlib.h>
#include <string.h>

#include "core/data_impl.h"
#include "core/mem.h"

bool class_names_find(const struct class_names *t, const char *name, int *at)
{
    int lo = 0, hi = t->n;

    while (lo < hi) {
        int mid = lo + (hi - lo) / 2, order = strcmp(json_string_value(t->at[mid].name), name);

        if (order == 0) {
            *at = mid;
            return true;
        }
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *at = lo;
    return false;
}

enum err_code class_names_add(struct class_names *t, json_t *name, int at, struct err *e)
{
    if (name && t->n == t->cap) {
        int cap = t->cap ? 2 * t->cap : 64;
        struct class_name *more = mem_realloc(t->at, (size_t)cap * sizeof *more);

        if (more) {
            t->at = more;
            t->cap = cap;
        }
    }
    if (!name || t->n == t->cap) {
        json_decref(name);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    memmove(t->at + at + 1, t->at + at, (size_t)(t->n - at) * sizeof *t->at);
    t->at[at] = (struct class_name){ .name = name };
    t->n++;
    return ERR_OK;
}

void class_names_free(struct class_names *t)
{
    for (int i = 0; i < t->n; i++)
        json_decref(t->at[i].name);
    mem_free(t->at);
    *t = (struct class_names){ NULL, 0, 0 };
}

/* ---- numbers ---- */

bool class_name_is_integer(const char *s)
{
    size_t n;

    s += *s == '-';
    n = strspn(s, "0123456789");
    return n > 0 && n <= 18 && s[n] == '\0';
}

static int by_integer(const void *a, const void *b)
{
    const struct class_name *const *p = a, *const *q = b;
    long long x = strtoll(json_string_value((*p)->name), NULL, 10), y = strtoll(json_string_value((*q)->name), NULL, 10);

    return x != y ? (x < y ? -1 : 1) : strcmp(json_string_value((*p)->name), json_string_value((*q)->name));
}

json_t *class_names_notes(struct class_names *t, const char *format, bool by_value)
{
    struct class_name **order = mem_alloc((size_t)t->n * sizeof(struct class_name *));
    json_t *names = json_array(), *counts = json_array();
    bool bad = !order || !names || !counts;

    for (int i = 0; i < t->n && !bad; i++) {
        order[i] = &t->at[i];
        by_value = by_value && class_name_is_integer(json_string_value(t->at[i].name));
    }
    if (!bad && by_value)
        qsort(order, (size_t)t->n, sizeof(struct class_name *), by_integer);
    for (int i = 0; i < t->n && !bad; i++) {
        order[i]->number = i;
        bad = json_array_append(names, order[i]->name) != 0 || json_array_append_new(counts, json_integer(order[i]->count)) != 0;
    }
    mem_free(order);
    if (!bad)
        return json_pack("{s:s,s:i,s:o,s:o}", "format", format, "n_classes", t->n, "classes", names, "counts", counts);
    json_decref(names);
    json_decref(counts);
    return NULL;
}

json_t *data_class_notes(const char *format, int n_classes, const json_int_t *count)
{
    json_t *counts = json_array();

    for (int i = 0; i < n_classes; i++)
        if (json_array_append_new(counts, json_integer(count[i])) != 0) {
            json_decref(counts);
            return NULL;
        }
    return json_pack("{s:s,s:i,s:n,s:o}", "format", format, "n_classes", n_classes, "classes", "counts", counts);
}
