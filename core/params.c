/* core/params.c: see params.h. One function per thing done with a field (parse, dump, describe, check), each one switch over
 * the types without a default, so that -Wswitch names a forgotten type. */
#include "core/params.h"

#include <stdio.h>
#include <string.h>

#include "core/mem.h"

static enum err_code field_error(struct err *e, const char *key, enum err_code code, const char *msg)
{
    char at[sizeof e->at] = "";

    err_step(at, sizeof at, key);
    return err_field(e, code, at, "%s", msg);
}

/* ---- choices "a|b|c" ---- */

static int choice_index(const char *choices, const char *name)
{
    size_t n = strlen(name);
    int i = 0;

    for (const char *p = choices; p; p = strchr(p, '|'), p = p ? p + 1 : NULL, i++)
        if (strncmp(p, name, n) == 0 && (p[n] == '|' || p[n] == '\0'))
            return i;
    return -1;
}

static void choice_text(const char *choices, int i, char *buf, size_t n)
{
    const char *p = choices;
    const char *end;

    while (i-- > 0 && p)
        p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL;
    end = p ? strchr(p, '|') : NULL;
    snprintf(buf, n, "%.*s", p ? (end ? (int)(end - p) : (int)strlen(p)) : 0, p ? p : "");
}

/* ---- parse ---- */

static enum err_code parse_number(const struct param *p, void *field, const json_t *v, struct err *e)
{
    char msg[160];
    double x;

    if (p->type == PARAM_INT ? !json_is_integer(v) : !json_is_number(v))
        return field_error(e, p->name, ERR_INVALID, p->type == PARAM_INT ? "must be an integer" : "must be a number");
    x = json_number_value(v);
    if (!(x >= p->min && x <= p->max)) {
        snprintf(msg, sizeof msg, "must be between %.15g and %.15g, not %.15g", p->min, p->max, x);
        return field_error(e, p->name, ERR_INVALID, msg);
    }
    if (p->type == PARAM_INT)
        *(int64_t *)field = json_integer_value(v);
    else
        *(double *)field = x;
    return ERR_OK;
}

static enum err_code parse_text(const struct param *p, char *field, const json_t *v, struct err *e)
{
    char msg[120];
    size_t n = json_string_length(v);
    const char *s = json_string_value(v);

    if (!json_is_string(v))
        return field_error(e, p->name, ERR_INVALID, "must be a string");
    if (n >= p->size || (double)n < p->min) {
        snprintf(msg, sizeof msg, "must have %.0f to %zu bytes, not %zu", p->min, p->size - 1, n);
        return field_error(e, p->name, ERR_INVALID, msg);
    }
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            return field_error(e, p->name, ERR_INVALID, "must not contain control characters");
    memset(field, 0, p->size);
    memcpy(field, s, n);
    return ERR_OK;
}

static enum err_code parse_choice(const struct param *p, int *field, const json_t *v, struct err *e)
{
    char msg[240];
    int i = json_is_string(v) ? choice_index(p->choices, json_string_value(v)) : -1;

    if (i < 0) {
        snprintf(msg, sizeof msg, "must be one of %s", p->choices);
        return field_error(e, p->name, ERR_INVALID, msg);
    }
    *field = i;
    return ERR_OK;
}

static enum err_code parse_list(const struct param *p, char *conf, const json_t *v, struct err *e)
{
    char msg[80], step[32];
    size_t n = json_array_size(v);
    enum err_code rc;

    if (!json_is_array(v))
        return field_error(e, p->name, ERR_INVALID, "must be an array");
    if ((double)n > p->max) {
        snprintf(msg, sizeof msg, "must have at most %.0f elements, not %zu", p->max, n);
        return field_error(e, p->name, ERR_INVALID, msg);
    }
    for (size_t i = 0; i < n; i++) {
        rc = params_parse(conf + p->offset + i * p->size, p->size, p->sub, json_array_get(v, i), e);
        if (rc != ERR_OK) {
            snprintf(step, sizeof step, "/%s/%zu", p->name, i);
            return err_at(e, rc, "%s", step);
        }
    }
    *(int *)(void *)(conf + p->n_offset) = (int)n;
    return ERR_OK;
}

static enum err_code parse_default(const struct param *p, char *conf, struct err *e)
{
    void *field = conf + p->offset;
    enum err_code rc;

    if (p->def == PARAM_REQUIRED || ((p->type == PARAM_TEXT || p->type == PARAM_PLUG) && !p->choices))
        return field_error(e, p->name, ERR_INVALID, "is required");
    switch (p->type) {
    case PARAM_INT: *(int64_t *)field = (int64_t)p->def; break;
    case PARAM_REAL: *(double *)field = p->def; break;
    case PARAM_BOOL: *(bool *)field = p->def != 0; break;
    case PARAM_CHOICE: *(int *)field = (int)p->def; break;
    case PARAM_TEXT: snprintf(field, p->size, "%s", p->choices); break;
    case PARAM_LIST: *(int *)(void *)(conf + p->n_offset) = 0; break;
    case PARAM_SWITCH: *(bool *)field = p->def != 0; /* fallthrough */
    case PARAM_OBJECT:
        rc = params_parse(field, 0, p->sub, NULL, e);
        return rc == ERR_OK ? rc : err_at(e, rc, "/%s", p->name);
    case PARAM_PLUG:
        memset(field, 0, sizeof(struct plug_value));
        if (!*p->choices)
            return ERR_OK;
        ((struct plug_value *)field)->plug = plug_find(p->plugs, p->choices);
        return params_parse(((struct plug_value *)field)->conf, 0, ((struct plug_value *)field)->plug->params, NULL, e);
    }
    return ERR_OK;
}

static enum err_code parse_field(const struct param *p, char *conf, const json_t *v, struct err *e)
{
    void *field = conf + p->offset;
    enum err_code rc = ERR_OK;
    bool optional = (p->type == PARAM_REAL && isnan(p->def)) || (p->type == PARAM_PLUG && p->choices && !*p->choices);

    if (!v || (json_is_null(v) && optional))
        return parse_default(p, conf, e);
    switch (p->type) {
    case PARAM_INT:
    case PARAM_REAL: return parse_number(p, field, v, e);
    case PARAM_BOOL:
        if (!json_is_boolean(v))
            return field_error(e, p->name, ERR_INVALID, "must be true or false");
        *(bool *)field = json_is_true(v);
        return ERR_OK;
    case PARAM_CHOICE: return parse_choice(p, field, v, e);
    case PARAM_TEXT: return parse_text(p, field, v, e);
    case PARAM_LIST: return parse_list(p, conf, v, e);
    case PARAM_OBJECT: rc = params_parse(field, 0, p->sub, v, e); break;
    case PARAM_SWITCH:
        if (!json_is_boolean(v) && !json_is_object(v))
            return field_error(e, p->name, ERR_INVALID, "must be true, false or an object of options");
        *(bool *)field = !json_is_false(v);
        rc = params_parse(field, 0, p->sub, json_is_object(v) ? v : NULL, e);
        break;
    case PARAM_PLUG: rc = plug_parse(field, p->plugs, v, e); break;
    }
    return rc == ERR_OK ? rc : err_at(e, rc, "/%s", p->name);
}

static enum err_code parse_into(char *conf, const struct param *tab, const json_t *obj, const char *skip, struct err *e)
{
    const char *key;
    json_t *v;
    enum err_code rc;

    if (obj && !json_is_object(obj))
        return err_set(e, ERR_INVALID, "must be an object");
    json_object_foreach((json_t *)obj, key, v)
    {
        const struct param *p = tab;

        while (p && p->name && strcmp(p->name, key) != 0)
            p++;
        if ((!p || !p->name) && !(skip && strcmp(key, skip) == 0))
            return field_error(e, key, ERR_INVALID, "unknown field");
    }
    for (const struct param *p = tab; p && p->name; p++) {
        rc = parse_field(p, conf, json_object_get(obj, p->name), e);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

enum err_code params_parse(void *conf, size_t conf_size, const struct param *tab, const json_t *obj, struct err *e)
{
    char *copy;
    enum err_code rc;

    if (conf_size == 0) /* inside a struct that is a copy already */
        return parse_into(conf, tab, obj, NULL, e);
    copy = mem_zalloc(1, conf_size);
    if (!copy)
        return err_set(e, ERR_NOMEM, "out of memory");
    rc = parse_into(copy, tab, obj, NULL, e);
    if (rc == ERR_OK)
        memcpy(conf, copy, conf_size);
    mem_free(copy);
    return rc;
}

enum err_code plug_parse(struct plug_value *out, const struct plug_table *t, const json_t *v, struct err *e)
{
    struct plug_value value = { 0 };
    const json_t *type = json_is_object(v) ? json_object_get(v, "type") : v;
    char names[200];
    enum err_code rc;

    if (!json_is_string(type))
        return err_field(e, ERR_INVALID, json_is_object(v) ? "/type" : "", "must name a %s: one of %s", t->kind,
                         plug_names(t, names, sizeof names));
    value.plug = plug_find(t, json_string_value(type));
    if (!value.plug)
        return err_field(e, ERR_INVALID, json_is_object(v) ? "/type" : "", "no %s \"%.60s\": must be one of %s", t->kind,
                         json_string_value(type), plug_names(t, names, sizeof names));
    rc = parse_into((char *)value.conf, value.plug->params, json_is_object(v) ? v : NULL, "type", e);
    if (rc == ERR_OK)
        *out = value;
    return rc;
}

/* ---- dump ---- */

static json_t *dump_field(const struct param *p, const char *conf)
{
    const void *field = conf + p->offset;
    char text[PARAM_TEXT_MAX];
    json_t *list;

    switch (p->type) {
    case PARAM_INT: return json_integer(*(const int64_t *)field);
    case PARAM_REAL: return isfinite(*(const double *)field) ? json_real(*(const double *)field) : json_null();
    case PARAM_BOOL: return json_boolean(*(const bool *)field);
    case PARAM_CHOICE: choice_text(p->choices, *(const int *)field, text, sizeof text); return json_string(text);
    case PARAM_TEXT: return json_string(field);
    case PARAM_OBJECT: return params_dump(p->sub, field);
    case PARAM_SWITCH: return *(const bool *)field ? params_dump(p->sub, field) : json_false();
    case PARAM_PLUG: return plug_dump(field);
    case PARAM_LIST:
        list = json_array();
        for (int i = 0; i < *(const int *)(const void *)(conf + p->n_offset); i++)
            json_array_append_new(list, params_dump(p->sub, conf + p->offset + (size_t)i * p->size));
        return list;
    }
    return NULL;
}

json_t *params_dump(const struct param *tab, const void *conf)
{
    json_t *obj = json_object();

    for (const struct param *p = tab; p && p->name; p++)
        if (json_object_set_new(obj, p->name, dump_field(p, conf)) != 0) {
            json_decref(obj);
            return NULL;
        }
    return obj;
}

json_t *plug_dump(const struct plug_value *v)
{
    json_t *obj, *options;

    if (!v->plug)
        return json_null();
    obj = json_pack("{s:s}", "type", v->plug->name);
    options = params_dump(v->plug->params, v->conf);
    if (!obj || !options || json_object_update(obj, options) != 0) {
        json_decref(obj);
        obj = NULL;
    }
    json_decref(options);
    return obj;
}

/* ---- describe ---- */

static json_t *describe_choices(const char *choices)
{
    json_t *list = json_array();
    char text[PARAM_TEXT_MAX];

    for (int i = 0;; i++) {
        choice_text(choices, i, text, sizeof text);
        if (!*text)
            return list;
        json_array_append_new(list, json_string(text));
    }
}

static json_t *describe_plugs(const struct plug_table *t)
{
    json_t *names = json_array();

    for (const struct plug *const *r = t->rows; *r; r++)
        json_array_append_new(names, json_string((*r)->name));
    return json_pack("{s:[{s:s,s:O},{s:s,s:{s:{s:o}},s:[s]}]}", "oneOf", "type", "string", "enum", names, "type", "object",
                     "properties", "type", "enum", names, "required", "type");
}

static json_t *describe_field(const struct param *p)
{
    json_t *s = NULL;
    char text[PARAM_TEXT_MAX];

    switch (p->type) {
    case PARAM_INT:
        s = json_pack("{s:s,s:I,s:I}", "type", "integer", "minimum", (json_int_t)p->min, "maximum", (json_int_t)p->max);
        if (p->def != PARAM_REQUIRED)
            json_object_set_new(s, "default", json_integer((json_int_t)p->def));
        break;
    case PARAM_REAL:
        s = json_pack("{s:s}", "type", "number");
        if (isfinite(p->min))
            json_object_set_new(s, "minimum", json_real(p->min));
        if (isfinite(p->max))
            json_object_set_new(s, "maximum", json_real(p->max));
        if (isfinite(p->def))
            json_object_set_new(s, "default", json_real(p->def));
        else if (isnan(p->def))
            json_object_set_new(s, "type", json_pack("[ss]", "number", "null"));
        break;
    case PARAM_BOOL: s = json_pack("{s:s,s:b}", "type", "boolean", "default", p->def != 0); break;
    case PARAM_CHOICE:
        s = json_pack("{s:s,s:o}", "type", "string", "enum", describe_choices(p->choices));
        if (p->def != PARAM_REQUIRED) {
            choice_text(p->choices, (int)p->def, text, sizeof text);
            json_object_set_new(s, "default", json_string(text));
        }
        break;
    case PARAM_TEXT:
        s = json_pack("{s:s,s:I,s:I}", "type", "string", "minLength", (json_int_t)p->min, "maxLength", (json_int_t)p->size - 1);
        if (p->choices)
            json_object_set_new(s, "default", json_string(p->choices));
        break;
    case PARAM_OBJECT: s = params_describe(p->sub); break;
    case PARAM_SWITCH:
        s = json_pack("{s:[{s:s},o],s:b}", "oneOf", "type", "boolean", params_describe(p->sub), "default", p->def != 0);
        break;
    case PARAM_PLUG:
        s = describe_plugs(p->plugs);
        if (p->choices && *p->choices)
            json_object_set_new(s, "default", json_string(p->choices));
        break;
    case PARAM_LIST:
        s = json_pack("{s:s,s:I,s:o}", "type", "array", "maxItems", (json_int_t)p->max, "items", params_describe(p->sub));
        break;
    }
    json_object_set_new(s, "description", json_string(p->help));
    return s;
}

static bool is_required(const struct param *p)
{
    return p->def == PARAM_REQUIRED || ((p->type == PARAM_TEXT || p->type == PARAM_PLUG) && !p->choices);
}

json_t *params_describe(const struct param *tab)
{
    json_t *props = json_object(), *required = json_array();
    json_t *s = json_pack("{s:s,s:o,s:b}", "type", "object", "properties", props, "additionalProperties", 0);

    for (const struct param *p = tab; p && p->name; p++) {
        json_object_set_new(props, p->name, describe_field(p));
        if (is_required(p))
            json_array_append_new(required, json_string(p->name));
    }
    if (json_array_size(required) > 0)
        json_object_set(s, "required", required);
    json_decref(required);
    return s;
}

json_t *plugs_describe(const struct plug_table *t)
{
    json_t *list = json_array();

    for (const struct plug *const *r = t->rows; *r; r++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:o}", "name", (*r)->name, "help", (*r)->help, "options",
                                              params_describe((*r)->params)));
    return list;
}

/* ---- look up and check ---- */

const struct plug *plug_find(const struct plug_table *t, const char *name)
{
    for (const struct plug *const *r = t->rows; *r; r++)
        if (strcmp((*r)->name, name) == 0)
            return *r;
    return NULL;
}

const char *plug_names(const struct plug_table *t, char *buf, size_t n)
{
    size_t at = 0;

    *buf = '\0';
    for (const struct plug *const *r = t->rows; *r && at < n; r++)
        at += (size_t)snprintf(buf + at, n - at, "%s%s", at ? ", " : "", (*r)->name);
    return buf;
}

static bool name_is_well_formed(const char *s)
{
    if (!s || !*s)
        return false;
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') || *s == '_' || *s == ':'))
            return false;
    return true;
}

enum err_code params_check(const struct param *tab, struct err *e)
{
    enum err_code rc = ERR_OK;
    char text[PARAM_TEXT_MAX];

    for (const struct param *p = tab; p && p->name && rc == ERR_OK; p++) {
        bool number = p->type == PARAM_INT || p->type == PARAM_REAL;

        if (!name_is_well_formed(p->name) || !p->help || !*p->help)
            return err_set(e, ERR_INTERNAL, "field \"%s\": bad name or no help", p->name);
        for (const struct param *q = tab; q < p; q++)
            if (strcmp(p->name, q->name) == 0)
                return err_set(e, ERR_INTERNAL, "field \"%s\" stands twice", p->name);
        if (number && (!(p->min <= p->max) || (isfinite(p->def) && !(p->def >= p->min && p->def <= p->max))))
            return err_set(e, ERR_INTERNAL, "field \"%s\": default out of range", p->name);
        if (p->type == PARAM_CHOICE && p->def != PARAM_REQUIRED) {
            choice_text(p->choices, (int)p->def, text, sizeof text);
            if (!*text)
                return err_set(e, ERR_INTERNAL, "field \"%s\": default is no choice", p->name);
        }
        if (p->type == PARAM_PLUG && p->choices && *p->choices && !plug_find(p->plugs, p->choices))
            return err_set(e, ERR_INTERNAL, "field \"%s\": default \"%s\" is no row", p->name, p->choices);
        if (p->type == PARAM_PLUG)
            rc = plugs_check(p->plugs, e);
        else if (p->type == PARAM_OBJECT || p->type == PARAM_SWITCH || p->type == PARAM_LIST)
            rc = params_check(p->sub, e);
    }
    return rc;
}

enum err_code plugs_check(const struct plug_table *t, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (const struct plug *const *r = t->rows; *r && rc == ERR_OK; r++) {
        if (!name_is_well_formed((*r)->name) || !(*r)->help || !*(*r)->help || (*r)->conf_size > PLUG_CONF_MAX)
            return err_set(e, ERR_INTERNAL, "%s \"%s\": bad name, no help or too many options", t->kind, (*r)->name);
        for (const struct plug *const *q = t->rows; q < r; q++)
            if (strcmp((*r)->name, (*q)->name) == 0)
                return err_set(e, ERR_INTERNAL, "%s \"%s\" stands twice", t->kind, (*r)->name);
        rc = params_check((*r)->params, e);
    }
    return rc;
}
