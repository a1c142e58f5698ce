/* cmd.h - the subcommands as rows of one table: main, --help, the man page and the completion read it.
 * A command's main gets argv[0] = its name and returns the exit status (results/README.md lists them). */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include "base/opt.h"

enum exit_status { EXIT_GOOD = 0, EXIT_SOME_FAILED = 1, EXIT_CANNOT = 2, EXIT_INCONCLUSIVE = 3, EXIT_AGAIN = 75 };

struct command {
    const char *name, *operands;       /* "run", "CORPUS..." */
    const char *summary;               /* one sentence */
    const struct opt *options;
    int (*main)(int argc, char **argv);
    const char *text;                  /* a paragraph for --help and the man page */
};

extern const struct command commands[];        /* name NULL ends it */

/* Parses the options of command argv[0] into *into; returns the index of the first operand.  --help prints and exits with 0;
 * a bad option dies with a pointer to --help. */
int cmd_options(void *into, int argc, char **argv);

extern const struct opt run_options[], verify_options[], merge_options[], bench_options[], compare_options[], report_options[], inspect_options[],
    make_model_options[], tokenize_options[], no_options[];
int cmd_run(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_make_model(int argc, char **argv);
int cmd_merge(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_completion(int argc, char **argv);     /* prints a bash completion */
int cmd_man(int argc, char **argv);            /* prints the man page as scdoc source */

#endif
