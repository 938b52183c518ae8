/* core/keras_init.c: Keras' initialisers, as names ("glorot_uniform") or as serialized objects ({"class_name": "GlorotUniform", "config":
 * {...}}), into the options of our ops. Their seeds are ignored: a job's seed decides. */
#include <string.h>

#include "core/keras.h"

static const struct row {
    const char *class_name, *kind, *a, *b; /* a and b: the config keys that hold struct init's numbers */
} rows[] = {
    { "Zeros", "zeros", NULL, NULL },
    { "Ones", "ones", NULL, NULL },
    { "Constant", "constant", "value", NULL },
    { "RandomUniform", "random_uniform", "minval", "maxval" },
    { "RandomNormal", "random_normal", "mean", "stddev" },
    { "TruncatedNormal", "truncated_normal", "mean", "stddev" },
    { "GlorotUniform", "glorot_uniform", NULL, NULL },
    { "GlorotNormal", "glorot_normal", NULL, NULL },
    { "HeUniform", "he_uniform", NULL, NULL },
    { "HeNormal", "he_normal", NULL, NULL },
    { "LecunUniform", "lecun_uniform", NULL, NULL },
    { "LecunNormal", "lecun_normal", NULL, NULL },
    { NULL, NULL, NULL, NULL }
};

/* The named ones are cases of VarianceScaling; older versions print this. */
static const struct {
    double scale;
    const char *mode, *distribution, *kind;
} scalings[] = {
    { 1, "fan_avg", "uniform", "glorot_uniform" }, { 1, "fan_avg", "truncated_normal", "glorot_normal" },
    { 2, "fan_in", "uniform", "he_uniform" },      { 2, "fan_in", "truncated_normal", "he_normal" },
    { 1, "fan_in", "uniform", "lecun_uniform" },   { 1, "fan_in", "truncated_normal", "lecun_normal" }
};

static bool same(const json_t *v, const char *text)
{
    return json_is_string(v) && strcmp(json_string_value(v), text) == 0;
}

/* What a name stands for: its parameters are Keras' defaults. */
static const struct { const char *kind; double a, b; } defaults[] = {
    { "constant", 0, 0 }, { "random_uniform", -0.05, 0.05 }, { "random_normal", 0, 0.05 }, { "truncated_normal", 0, 0.05 }
};

static enum err_code pack(json_t **out, const char *kind, double a, double b, struct err *e)
{
    *out = json_pack("{s:s, s:f, s:f}", "kind", kind, "a", a, "b", b);
    return *out ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

static enum err_code read_number(double *out, const json_t *config, const char *key, struct err *e)
{
    const json_t *v = key ? json_object_get(config, key) : NULL;
    char at[64] = "";

    if (!v)
        return ERR_OK;
    *out = json_number_value(v);
    err_step(at, sizeof at, key);
    if (!json_is_number(v) || !(*out >= -1e30 && *out <= 1e30))
        return err_field(e, ERR_INVALID, at, "must be a number between -1e30 and 1e30");
    return ERR_OK;
}

static enum err_code refuse_unknown(const struct row *row, const json_t *config, struct err *e)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)config, key, v)
    {
        char at[sizeof e->at] = "";

        if (strcmp(key, "seed") == 0 || (row->a && strcmp(key, row->a) == 0) || (row->b && strcmp(key, row->b) == 0))
            continue;
        err_step(at, sizeof at, key);
        return err_field(e, ERR_UNSUPPORTED, at, "option \"%.60s\" of %s is not supported", key, row->class_name);
    }
    return ERR_OK;
}

static enum err_code from_row(json_t **out, const struct row *row, const json_t *config, struct err *e)
{
    double a = 0, b = 0;
    enum err_code rc = refuse_unknown(row, config, e);

    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++)
        if (strcmp(defaults[i].kind, row->kind) == 0) {
            a = defaults[i].a;
            b = defaults[i].b;
        }
    if (rc == ERR_OK)
        rc = read_number(&a, config, row->a, e);
    if (rc == ERR_OK)
        rc = read_number(&b, config, row->b, e);
    return rc == ERR_OK ? pack(out, row->kind, a, b, e) : err_at(e, rc, "/config");
}

static enum err_code from_scaling(json_t **out, const json_t *config, struct err *e)
{
    double scale = json_number_value(json_object_get(config, "scale"));
    const json_t *mode = json_object_get(config, "mode"), *distribution = json_object_get(config, "distribution");

    for (size_t i = 0; i < sizeof scalings / sizeof scalings[0]; i++)
        if (scale == scalings[i].scale && same(mode, scalings[i].mode) &&
            (same(distribution, scalings[i].distribution) || (same(distribution, "normal") && i % 2 == 1)))
            return pack(out, scalings[i].kind, 0, 0, e);
    return err_field(e, ERR_UNSUPPORTED, "/config", "VarianceScaling is supported where it is glorot, he or lecun, not with this scale and mode");
}

enum err_code keras_initializer(json_t **out, const json_t *v, struct err *e)
{
    const json_t *name = json_is_object(v) ? json_object_get(v, "class_name") : v, *config = json_object_get(v, "config");

    if (!json_is_string(name))
        return err_set(e, ERR_INVALID, "must name an initialiser, or be an object with class_name and config");
    if (config && !json_is_object(config))
        return err_field(e, ERR_INVALID, "/config", "must be an object");
    if (same(name, "VarianceScaling"))
        return from_scaling(out, config, e);
    for (const struct row *r = rows; r->kind; r++)
        if (same(name, r->class_name) || same(name, r->kind))
            return from_row(out, r, config, e);
    return err_field(e, ERR_UNSUPPORTED, json_is_object(v) ? "/class_name" : "", "initialiser \"%.60s\" is not supported",
                     json_string_value(name));
}
