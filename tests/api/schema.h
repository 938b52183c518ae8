/* tests/api/schema.h: as much of JSON Schema as openapi.json uses, and the way to an operation's schemas. */
#ifndef TESTS_API_SCHEMA_H
#define TESTS_API_SCHEMA_H

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static inline const json_t *schema_resolve(const json_t *doc, const json_t *s)
{
    const char *ref = json_string_value(json_object_get(s, "$ref"));
    char step[100];

    for (const json_t *at = doc; ref;) {
        ref += *ref == '#' ? 2 : 0;
        snprintf(step, sizeof step, "%.*s", (int)strcspn(ref, "/"), ref);
        at = json_object_get(at, step);
        ref += strcspn(ref, "/");
        if (*ref != '/')
            return at;
        ref++;
    }
    return s;
}

static inline bool schema_type_fits(const char *type, const json_t *v)
{
    return strcmp(type, "object") == 0 ? json_is_object(v) : strcmp(type, "array") == 0 ? json_is_array(v)
         : strcmp(type, "string") == 0 ? json_is_string(v) : strcmp(type, "integer") == 0 ? json_is_integer(v)
         : strcmp(type, "number") == 0 ? json_is_number(v) : strcmp(type, "boolean") == 0 ? json_is_boolean(v)
         : strcmp(type, "null") == 0 && json_is_null(v);
}

/* Does v fit? Else *why is the key that does not. */
static inline bool schema_fits(const json_t *doc, const json_t *schema, const json_t *v, const char **why)
{
    const json_t *s = schema_resolve(doc, schema), *type = json_object_get(s, "type"), *list = json_object_get(s, "enum");
    const json_t *props = json_object_get(s, "properties");
    const char *key;
    json_t *item;
    size_t i;
    bool ok = !list;

    if (json_is_string(type) && !schema_type_fits(json_string_value(type), v))
        return *why = json_string_value(type), false;
    json_array_foreach(list, i, item)
        ok = ok || json_equal(item, v);
    if (!ok)
        return *why = "enum", false;
    json_array_foreach(json_object_get(s, "required"), i, item)
        if (!json_object_get(v, json_string_value(item)))
            return *why = json_string_value(item), false;
    json_object_foreach((json_t *)(uintptr_t)v, key, item)
    {
        if (json_object_get(props, key) ? !schema_fits(doc, json_object_get(props, key), item, why)
                                        : json_is_false(json_object_get(s, "additionalProperties")))
            return *why = key, false;
    }
    json_array_foreach(v, i, item)
        if (json_object_get(s, "items") && !schema_fits(doc, json_object_get(s, "items"), item, why))
            return *why = "items", false;
    ok = !json_object_get(s, "oneOf");
    json_array_foreach(json_object_get(s, "oneOf"), i, item)
        ok = ok || schema_fits(doc, item, v, why);
    return ok;
}

/* Does a path ("/v1/jobs/job_1") fit a template? */
static inline bool schema_path_fits(const char *template, const char *path)
{
    while (*template && *path) {
        size_t n = strcspn(template, "/"), k = strcspn(path, "/?");

        if (*template != '{' && (n != k || memcmp(template, path, n) != 0))
            return false;
        template += n;
        path += k;
        if (*template != '/' || *path != '/')
            break;
        template++;
        path++;
    }
    return !*template && (!*path || *path == '?');
}

/* Schema of the JSON that an operation answers with this status; NULL: none is documented. */
static inline const json_t *schema_of_reply(const json_t *doc, const char *method, const char *target, int status)
{
    const char *path;
    json_t *item;
    char name[16], code[16];

    snprintf(code, sizeof code, "%d", status);
    snprintf(name, sizeof name, "%s", method);
    for (char *p = name; *p; p++)
        *p = (char)(*p + ('a' - 'A'));
    json_object_foreach(json_object_get(doc, "paths"), path, item)
    {
        const json_t *responses = json_object_get(json_object_get(item, name), "responses"), *r = json_object_get(responses, code), *content;

        if (!responses || !schema_path_fits(path, target))
            continue;
        content = json_object_get(schema_resolve(doc, r ? r : json_object_get(responses, "default")), "content");
        item = json_object_get(content, "application/json");
        return json_object_get(item ? item : json_object_get(content, "application/problem+json"), "schema");
    }
    return NULL;
}

#endif
