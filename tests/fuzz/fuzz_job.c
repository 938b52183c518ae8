/* Fuzzes job configurations as they arrive: the JSON guard, Jansson, the field tables with inheritance. What parses must dump to what parses
 * to the same; what does not must say where. */
#include <stdlib.h>

#include "core/job.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const json_t *doc, bool trained)
{
    struct job_conf c, again;
    struct err e = { 0 };
    json_t *dump, *second;

    if (job_conf_parse(&c, doc, trained, &e) != ERR_OK) {
        if (!*e.msg || (*e.at && *e.at != '/'))
            abort();
        return;
    }
    dump = job_conf_dump(&c);
    if (!dump || job_conf_parse(&again, dump, !trained, &e) != ERR_OK)
        abort();
    second = job_conf_dump(&again);
    if (!json_equal(dump, second))
        abort();
    json_decref(dump);
    json_decref(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = { 0 };
    json_t *doc;

    if (json_read(&doc, (const char *)data, size, 4096, &e) != ERR_OK)
        return 0;
    check(doc, false);
    check(doc, true);
    json_decref(doc);
    return 0;
}
