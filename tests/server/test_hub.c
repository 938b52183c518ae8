/* The hub: who gets what, in which order, and what becomes of those who are too slow. */
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "server/hub.h"
#include "tests/suite.h"

struct bell { struct waker waker; int rung; };
static struct bell bell;
static struct hub *hub;
static struct err err;

static void ring(struct waker *w)
{
    ((struct bell *)(void *)w)->rung++;
}

static void set_up(void)
{
    bell = (struct bell){ { ring }, 0 };
    ck_assert_int_eq(hub_new(&hub, &err), ERR_OK);
}

static void tear_down(void)
{
    hub_free(hub);
}

static struct hub_sub *subscribe(const char *job, enum hub_want want)
{
    struct hub_sub *s = NULL;

    ck_assert_int_eq(hub_subscribe(&s, hub, TENANT_DEFAULT, job, want, &bell.waker, &err), ERR_OK);
    return s;
}

/* seq 0: progress */
static void publish(const char *job, int64_t seq)
{
    struct event_row ev = { .tenant = TENANT_DEFAULT, .seq = seq, .position = seq, .type = "t", .data = "{}" };

    snprintf(ev.job, sizeof ev.job, "%s", job);
    hub_publish(hub, &ev);
}

/* The number of the next event; -1: none, -2: a gap. */
static int64_t next(struct hub_sub *s)
{
    const struct hub_message *m = NULL;
    enum hub_take what = hub_take(s, &m);
    int64_t seq;

    if (what != HUB_MESSAGE)
        return what == HUB_NONE ? -1 : -2;
    ck_assert_str_eq(m->event.type, "t");
    ck_assert_str_eq(m->event.data, "{}");
    seq = m->event.seq;
    hub_give(s, m);
    return seq;
}

START_TEST(each_gets_what_it_asked_for)
{
    struct hub_sub *a, *all, *waits;

    publish("job_a", 1); /* nobody listens */
    a = subscribe("job_a", HUB_EVENTS);
    all = subscribe("", HUB_EVENTS);
    waits = subscribe("job_b", HUB_STORED);
    publish("job_a", 2);
    publish("job_b", 3);
    publish("job_a", 0);
    ck_assert_int_eq(bell.rung, 2 + 3 + 1);
    publish("job_b", 0); /* progress: of no interest to who waits */
    ck_assert_int_eq(bell.rung, 7);
    ck_assert(next(a) == 2 && next(a) == 0 && next(a) == -1);
    ck_assert(next(all) == 2 && next(all) == 3 && next(all) == 0 && next(all) == 0 && next(all) == -1);
    ck_assert_int_eq(next(waits), -1);
    hub_unsubscribe(all);
    publish("job_a", 4);
    ck_assert_int_eq(bell.rung, 8);
    ck_assert_int_eq(next(a), 4);
    publish("job_a", 5); /* left in the ring */
    hub_unsubscribe(a);
    hub_unsubscribe(waits);
    hub_unsubscribe(NULL);
}
END_TEST

START_TEST(the_slow_are_told_once)
{
    struct hub_sub *s = subscribe("", HUB_EVENTS);
    int i = 1;

    for (; i <= HUB_RING; i++)
        publish("job_a", i);
    publish("job_a", 0); /* progress is dropped without a word */
    ck_assert_int_eq(next(s), 1);
    publish("job_a", i++);
    publish("job_a", i++); /* one too many: all before it is gone */
    publish("job_a", i++);
    ck_assert_int_eq(next(s), -2);
    ck_assert_int_eq(next(s), HUB_RING + 2);
    ck_assert_int_eq(next(s), HUB_RING + 3);
    ck_assert_int_eq(next(s), -1);
    ck_assert(!hub_restart(s));
    for (int k = 0; k < 2 * HUB_RING; k++)
        publish("job_a", i++);
    ck_assert(hub_restart(s));
    ck_assert_int_eq(next(s), -1);
    hub_unsubscribe(s);
}
END_TEST

START_TEST(short_memory_is_a_gap)
{
    struct hub_sub *s = subscribe("", HUB_EVENTS);

    publish("job_a", 1);
    mem_fail_in = 1;
    publish("job_a", 2);
    mem_fail_in = 0;
    publish("job_a", 3);
    ck_assert_int_eq(next(s), -2);
    ck_assert_int_eq(next(s), 3);
    mem_fail_in = 1;
    publish("job_a", 0); /* progress: not worth a word */
    mem_fail_in = 0;
    ck_assert_int_eq(next(s), -1);
    hub_unsubscribe(s);
    mem_fail_in = 1;
    ck_assert_int_eq(hub_subscribe(&s, hub, TENANT_DEFAULT, "", HUB_EVENTS, &bell.waker, &err), ERR_NOMEM);
    mem_fail_in = 0;
}
END_TEST

/* Of a crowd, as many as make it one get progress each second, all in turns; what is stored comes to all at once. */
START_TEST(a_crowd_gets_progress_in_turns)
{
    enum { TURNS = 3, N = TURNS * HUB_CROWD - 100 };
    static struct hub_sub *s[N];
    struct event_row ev = { .tenant = TENANT_DEFAULT, .job = "job_a", .type = "t", .data = "{}" };

    for (int i = 0; i < N; i++)
        s[i] = subscribe(i % 2 ? "job_a" : "", HUB_EVENTS);
    for (int second = 1; second <= 2 * TURNS; second++) {
        bell.rung = 0;
        ev.created_ms = 1000 * second + 7;
        hub_publish(hub, &ev);
        ck_assert_int_le(bell.rung, HUB_CROWD);
    }
    bell.rung = 0;
    publish("job_a", 1);
    ck_assert_int_eq(bell.rung, N);
    for (int i = 0; i < N; i++) {
        ck_assert(next(s[i]) == 0 && next(s[i]) == 0 && next(s[i]) == 1 && next(s[i]) == -1);
        hub_unsubscribe(s[i]);
    }
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "hub");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, each_gets_what_it_asked_for);
    tcase_add_test(tc, the_slow_are_told_once);
    tcase_add_test(tc, short_memory_is_a_gap);
    tcase_add_test(tc, a_crowd_gets_progress_in_turns);
}

SUITE_MAIN("hub", cases)
