/* tests/core/prune_conf.h: what to prune, as a job's configuration says it. */
#ifndef TESTS_CORE_PRUNE_CONF_H
#define TESTS_CORE_PRUNE_CONF_H

#include "core/prune.h"
#include "tests/suite.h"

static inline struct prune_conf conf_of(const char *json)
{
    struct prune_conf c;
    json_t *j = json_loads(json, 0, NULL);
    struct err e = { 0 };

    ck_assert_ptr_nonnull(j);
    ck_assert_msg(params_parse(&c, sizeof c, prune_params, j, &e) == ERR_OK, "%s: %s", e.at, e.msg);
    json_decref(j);
    return c;
}

#endif
