/* supervise.h - a run watched by a process that starts it again when it breaks down, and finds the line that is to blame. */
#ifndef CMD_SUPERVISE_H
#define CMD_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>

/* Lines in flight, in a file that outlives the process that writes it: index + 1 by sequence slot, 0 for a free one. */
uint64_t *in_flight_open(const char *path, uint32_t n_slot);           /* what is wrong ends the program */

/* Lines by index: "3,17". */
struct line_set { uint64_t *lines; uint32_t n; };                      /* rising */
int  line_set_parse(struct line_set *s, const char *text);             /* 0, or -1: err_text() */
bool line_set_has(const struct line_set *s, uint64_t line);
void line_set_free(struct line_set *s);

/* Runs the command line (without --supervise) until its output is whole: after a breakdown again, and lines that break it down
 * even alone get an error row.  The exit status. */
int supervise(int argc, char **argv, const char *output);

#endif
