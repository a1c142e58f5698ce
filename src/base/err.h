/* err.h - the three words for what goes wrong (../README.md, "How it fails").
 *   err_set  data from outside is bad: the caller reports it and the work goes on
 *   die      the user must act: message on stderr, exit status 2
 *   CHECK    we are wrong: abort with the place, on in every build
 * A message is lower case and says what, where (file, line, byte) and what to do, with values in "quotes". */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#ifdef __cplusplus
extern "C" {
#endif

/* Stores the message for this thread, with ? for control characters, and returns -1, so that `return err_set(...)` is the way out. */
int err_set(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Puts "prefix: " before the stored message; returns -1. */
int err_wrap(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The message stored last on this thread; "" if none.  Valid until the next err_set or err_wrap here. */
const char *err_text(void);

/* Prints "tokmill: message" on stderr and exits with 2. */
void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* When this thread dies, last_words(arg) is called between the message and the exit, once: whoever dies in there just exits,
 * as do other threads.  NULL: nothing is called any more. */
void err_before_exit(void (*last_words)(void *arg), void *arg);

void check_failed(const char *file, int line, const char *what) __attribute__((noreturn));
#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond))

#ifdef __cplusplus
}
#endif
#endif
