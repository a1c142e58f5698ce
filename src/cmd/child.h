/* child.h - the program runs itself as a process of its own. */
#ifndef CMD_CHILD_H
#define CMD_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A command line, NULL-closed; the words are borrowed.  A zeroed struct is empty. */
struct child { char **word; size_t n; };

void child_add(struct child *c, const char *word);
void child_split(struct child *c, char *text);     /* adds the words between blanks; the text is cut up */

/* Waits for its end; it has signals of its own, what it prints goes nowhere but its messages.  Returns the exit status. */
int  child_run(const struct child *c);

/* The same in two steps: what it prints is seen, and a terminal's signals do not reach it.  The end is waitpid's status. */
pid_t child_start(const struct child *c);
int   child_end(pid_t child);

void child_free(struct child *c);

#endif
