/* tests/api/value.h: replies as values: some come as JSON, some as the text of it. */
#ifndef TESTS_API_VALUE_H
#define TESTS_API_VALUE_H

#include <string.h>

#include "core/mem.h"
#include "server/http.h"
#include "tests/suite.h"

static inline void reply_value(struct reply *r)
{
    if (!r->text || !r->content_type || strcmp(r->content_type, "application/json") != 0)
        return;
    r->json = json_loads(r->text, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(r->json, "no JSON: %s", r->text);
    mem_free(r->text);
    r->text = NULL;
}

#endif
