/* server/hub.h: publish and subscribe: what happens to jobs, to whoever follows it just now. The hub remembers nothing: what came before is in the store.
 *
 * A publisher never waits for a subscriber: each has a ring of its own, and one that is too slow is told once that it has missed something. */
#ifndef SERVER_HUB_H
#define SERVER_HUB_H

#include "server/http.h"
#include "server/store.h"

enum { HUB_RING = 64, HUB_CROWD = 500 };
struct hub;
struct hub_sub;
MUST enum err_code hub_new(struct hub **out, struct err *e);
void hub_free(struct hub *h); /* NULL is legal; nobody is subscribed any more */
/* Copies the event. Progress (seq 0) is dropped where there is no room; of anything else the subscriber learns that it is missing. Of more than HUB_CROWD
 * subscribers, each gets progress as much less often. */
void hub_publish(struct hub *h, const struct event_row *ev);

enum hub_want { HUB_EVENTS, HUB_STORED /* only woken, and not by progress: nothing to take */ };
/* Of one tenant. job "": of all its jobs. waker: until hub_unsubscribe. */
MUST enum err_code hub_subscribe(struct hub_sub **out, struct hub *h, const char *tenant, const char *job, enum hub_want want, struct waker *waker,
                                 struct err *e);
void hub_unsubscribe(struct hub_sub *s); /* NULL is legal */
struct hub_message { int refs; struct event_row event; }; /* refs: under the hub's lock */
/* HUB_GAP: the ring ran over since the last call; what is in it now came later. HUB_MESSAGE: give *out back by hub_give. */
enum hub_take { HUB_NONE, HUB_MESSAGE, HUB_GAP };
enum hub_take hub_take(struct hub_sub *s, const struct hub_message **out);
void hub_give(struct hub_sub *s, const struct hub_message *m);
/* Has the ring run over? Then it is as empty as after hub_subscribe. */
bool hub_restart(struct hub_sub *s);

#endif
