/* core/mem.h: every allocation of the project (Jansson's too, see main.c), so that a test can fail the k-th one. */
#ifndef CORE_MEM_H
#define CORE_MEM_H

#include <stddef.h>

/* Tests: 0 never fails; k = the k-th allocation of this thread from now returns NULL, once. */
extern _Thread_local long mem_fail_in;
/* Tests: bytes that this thread has asked for so far. */
extern _Thread_local size_t mem_asked;

void *mem_alloc(size_t n);                   /* uninitialised; NULL when memory is short. n = 0 gives a valid pointer */
void *mem_zalloc(size_t count, size_t size); /* zeroed; NULL also when count * size overflows */
void *mem_realloc(void *p, size_t n);        /* p stays valid when NULL is returned */
void *mem_vector(size_t n_floats);           /* zeroed float array on a 64-byte boundary, padded to 64 bytes */
char *mem_strdup(const char *s);
void mem_free(void *p); /* NULL is legal; frees what any of the above returned */

#endif
