/* server/budget.h: what this process may use: CPUs by affinity and cgroup (v1, v2) quota, memory by cgroup limit and host. */
#ifndef SERVER_BUDGET_H
#define SERVER_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct budget { int cpus; uint64_t memory; /* bytes */ };
void budget_read(struct budget *b);
/* The parser behind it, for tests: root is "/" there, a made tree in tests. affinity: CPUs in the mask. */
void budget_read_at(struct budget *b, const char *root, int affinity);

#endif
