/* server/http_stats.h: what this process has answered, for /metrics (see http_counts in http.h). */
#ifndef SERVER_HTTP_STATS_H
#define SERVER_HTTP_STATS_H

#include "server/http.h"

/* A request answered; route NULL: unmatched. body: bytes of the upload, 0 when the route takes none. */
void http_count_add(const struct route *route, int status, int64_t ms, uint64_t body);
void http_in_flight_add(int n);
void http_streams_add(int n);

#endif
