/* server/http_stats.h: counts of requests answered, by route and status, for the whole process (see http_counts in http.h). */
#ifndef SERVER_HTTP_STATS_H
#define SERVER_HTTP_STATS_H

#include "server/http.h"

void http_count_add(const struct route *route, int status, int64_t ms); /* route NULL: unmatched */

#endif
