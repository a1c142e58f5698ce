/* misuse.h - programs that break a rule of kernels or of the runtime; each must end with a message that holds `text`. */
#ifndef CUDAEMU_MISUSE_H
#define CUDAEMU_MISUSE_H

struct misuse { const char *name; void (*run)(void); const char *text; };
extern const struct misuse misuse[];
extern const int n_misuse;

#endif
