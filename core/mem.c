/* core/mem.c: see mem.h. The only file that calls malloc and its kin. */
#include "core/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 2 << 20, MANY_PAGES = 2 }; /* a large page; so many of them are worth asking for */

_Thread_local long mem_fail_in;
_Thread_local size_t mem_asked;

static bool refused(size_t n)
{
    mem_asked += n;
    return mem_fail_in > 0 && --mem_fail_in == 0;
}

void *mem_alloc(size_t n)
{
    return refused(n) ? NULL : malloc(n ? n : 1);
}

void *mem_zalloc(size_t count, size_t size)
{
    return refused(count * size) ? NULL : calloc(count ? count : 1, size ? size : 1);
}

void *mem_realloc(void *p, size_t n)
{
    return refused(n) ? NULL : realloc(p, n ? n : 1);
}

void *mem_vector(size_t n_floats)
{
    size_t bytes;
    bool large;
    void *p = NULL;

    if (refused(n_floats * sizeof(float)) || n_floats > SIZE_MAX / sizeof(float) - 64)
        return NULL;
    bytes = (n_floats * sizeof(float) + 63) / 64 * 64;
    large = bytes >= (size_t)MANY_PAGES * PAGE;
    if (posix_memalign(&p, large ? PAGE : 64, bytes ? bytes : 64) != 0)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (large)
        (void)madvise(p, bytes, MADV_HUGEPAGE); /* no matter if the system has none */
#endif
    return memset(p, 0, bytes ? bytes : 64);
}

char *mem_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = mem_alloc(n);

    return p ? memcpy(p, s, n) : NULL;
}

void mem_free(void *p)
{
    free(p);
}
