/* server/log.h: the log: one JSON object per line on standard output. Values are escaped, so nothing a client sends can forge a line. */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
void log_set_level(enum log_level level);
bool log_level_parse(const char *name, enum log_level *out);

enum log_type { LOG_END, LOG_TYPE_STR, LOG_TYPE_INT, LOG_TYPE_REAL };
struct log_field { const char *key; enum log_type type; union { const char *s; int64_t i; double r; } u; };
#define LOG_S(k, v) ((struct log_field){ k, LOG_TYPE_STR, { .s = (v) } })
#define LOG_I(k, v) ((struct log_field){ k, LOG_TYPE_INT, { .i = (v) } })
#define LOG_R(k, v) ((struct log_field){ k, LOG_TYPE_REAL, { .r = (v) } })
/* log_event(LOG_INFO, "request", LOG_S("route", r), LOG_I("status", 200)); lines up to 4 KiB, longer values are cut. One write() per line; at least one field. */
#define log_event(level, msg, ...) log_fields(level, msg, (const struct log_field[]){ __VA_ARGS__, { 0 } })
void log_fields(enum log_level level, const char *msg, const struct log_field *f);

int64_t clock_ms(void);      /* Unix time */
int64_t clock_mono_ms(void); /* monotonic */

#endif
