/* log.h - what the program says on stderr while it works: one line an event, "tokmill: level: text".
 * Safe from any thread.  Results never go here. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);          /* default LOG_INFO */
void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/* A progress line: on a terminal rewritten in place, elsewhere printed as lines of its own; "" ends it. */
void log_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
