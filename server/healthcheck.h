/* server/healthcheck.h: asks a daemon on this machine for /healthz, as a container's health check does: no curl is needed. */
#ifndef SERVER_HEALTHCHECK_H
#define SERVER_HEALTHCHECK_H

#include "core/err.h"

/* listen: the address that the daemon was given; where that means every address, loopback is asked. ERR_OK: it answered 200 in time. */
MUST enum err_code healthcheck(const char *listen, int timeout_ms, struct err *e);

#endif
