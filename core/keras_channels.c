/* core/keras_channels.c: numbers for each channel that stand in a layer's config (Rescaling, Normalization), into lines (op.h). What stands there is
 * checked when the key is read; whether it is as many as there are channels is seen when the node is there. */
#include <string.h>

#include "core/keras.h"

/* The number, or the array, that a key of channels has: Keras 3 also writes arrays of numpy. */
static const json_t *channels_of(const json_t *v)
{
    const json_t *numpy = json_object_get(v, "class_name"), *value = json_object_get(json_object_get(v, "config"), "value");

    return json_is_string(numpy) && strcmp(json_string_value(numpy), "__numpy__") == 0 && value ? value : v;
}

enum err_code keras_channels_check(const char *key, const json_t *v, struct err *e)
{
    const double least = strcmp(key, "variance") == 0 ? 0 : -1e30;
    const json_t *list = channels_of(v);

    for (size_t i = 0; i < (json_is_array(list) ? json_array_size(list) : 1); i++) {
        const json_t *number = json_is_array(list) ? json_array_get(list, i) : list;

        if (!json_is_number(number) || !(json_number_value(number) >= least && json_number_value(number) <= 1e30))
            return keras_key_error(e, ERR_INVALID, key, least == 0 ? "must be a number of 0 to 1e30, or an array of such, one for each channel"
                                                                   : "must be a number of -1e30 to 1e30, or an array of such, one for each channel");
    }
    return ERR_OK;
}

/* Number i of a key's, of as many as there are channels; absent: dflt. */
static enum err_code number_of(double *out, const json_t *config, const char *name, double dflt, int i, int channels, struct err *e)
{
    const json_t *v = channels_of(json_object_get(config, name));
    char what[120];

    *out = dflt;
    snprintf(what, sizeof what, "must have one number, or %d: one for each channel", channels);
    if (!v || json_is_null(v))
        return isnan(dflt) ? keras_key_error(e, ERR_INVALID, name, "is required") : ERR_OK;
    if (json_is_array(v) && json_array_size(v) != 1 && json_array_size(v) != (size_t)channels)
        return keras_key_error(e, ERR_INVALID, name, what);
    *out = json_number_value(!json_is_array(v) ? v : json_array_get(v, json_array_size(v) == 1 ? 0 : (size_t)i));
    return ERR_OK;
}

enum err_code keras_channels_give(struct node *node, const json_t *config, struct err *e)
{
    const bool scales = json_object_get(config, "scale") || json_object_get(config, "offset");
    const int channels = node->plan.n_lines, positions = node->plan.out.n_d == 1 ? node->positions : 0;
    enum err_code rc = ERR_OK;

    for (int i = 0; i < channels && rc == ERR_OK; i++) {
        double a, b;

        rc = number_of(&a, config, scales ? "scale" : "mean", NAN, i, channels, e);
        if (rc == ERR_OK)
            rc = number_of(&b, config, scales ? "offset" : "variance", scales ? 0 : NAN, i, channels, e);
        if (rc == ERR_OK)
            node->given[model_place((size_t)i, (size_t)channels, positions)] =
                scales ? (struct op_line){ 0, (float)a, (float)b } : op_line_of(a, b, json_is_true(json_object_get(config, "invert")));
    }
    return rc;
}
