/* folder.h - where result files go. */
#ifndef CMD_FOLDER_H
#define CMD_FOLDER_H

#include <stddef.h>

/* Makes the folder and those above it, or ends the program. */
void folder_make(const char *path);

/* The folder of a run's result files, made: `given`, or results/<UTC time> for NULL, or "" for "none".  part: one of several runs
 * that are given the same, "00003-of-00008"; each, and each further try of the same part, has a folder of its own; NULL: the only one. */
void folder_choose(char *folder, size_t size, const char *given, const char *part);

#endif
