/* server/quota.h: what is counted by time or while it lasts: requests and streams of a tenant, wrong tokens of an address. In memory: after a start everybody
 * begins anew. What a tenant stores and queues is counted in the store (store_limits). */
#ifndef SERVER_QUOTA_H
#define SERVER_QUOTA_H

#include "core/err.h"

enum { QUOTA_BURST = 10 /* seconds' worth of requests at once */, QUOTA_WRONG = 10 /* wrong tokens at once, */, QUOTA_WRONG_MS = 6000 /* then one in that time */ };
struct quota;
/* Per tenant; 0: no limit. */
MUST enum err_code quota_new(struct quota **out, int64_t requests_per_second, int64_t streams, struct err *e);
/* Of one tenant, from now on; -1: as all. */
MUST enum err_code quota_set(struct quota *q, const char *tenant, int64_t requests_per_second, int64_t streams, int64_t now_ms, struct err *e);
void quota_free(struct quota *q); /* NULL is legal */
/* ERR_TOO_MANY; *retry_after: seconds until it may be tried again. Here and below, q NULL: no limits. Times are monotonic. */
MUST enum err_code quota_request(struct quota *q, const char *tenant, int64_t now_ms, int *retry_after, struct err *e);
/* One more stream, until quota_stream_close. */
MUST enum err_code quota_stream_open(struct quota *q, const char *tenant, struct err *e);
void quota_stream_close(struct quota *q, const char *tenant);
/* A wrong token came from that address ("192.0.2.1", "2001:db8::1": its network of 64 bits counts). ERR_TOO_MANY: not the first. */
MUST enum err_code quota_wrong_token(struct quota *q, const char *address, int64_t now_ms, int *retry_after, struct err *e);

struct quota_figures { uint64_t wrong_tokens, limited_addresses, requests, streams; }; /* refused so far; the first: whether limited or not */
void quota_figures(struct quota *q, struct quota_figures *out);

#endif
