#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cmd/cmd.h"

const struct opt no_options[] = { {0} };

const struct command commands[] = {
    {"run", "CORPUS...", "answer every prompt of a corpus and measure it", run_options, cmd_run,
     "Reads JSON lines (plain, .zst, .gz or - for standard input), runs them through the model as one continuous batch, and writes one row a line. "
     "Result files (summary, stages, requests, steps) go to a folder of their own."},
    {"verify", "OUT CORPUS...", "check that every line has exactly one row", verify_options, cmd_verify,
     "OUT: the rows of a run over the corpora, finished or not.  Names lines that have no row or several, and rows that are of no line; with --sample some lines are "
     "run again, and their tokens compared.  Exit status: 0 all is well, 1 it is not, 2 something could not be read."},
    {"merge", "OUT SHARD...", "join the shards of a run and prove that every line is there once", merge_options, cmd_merge,
     "Reads the rows that runs with --shard K/N wrote (their names say which part each is) and writes OUT in input order, once it is proved that every line has one row. "
     "Exit status: 0 merged, 1 merged, and some rows are error rows, 2 something is missing or there twice, and nothing is written."},
    {"bench", "[CORPUS...]", "measure a workload: all at once, at a rate, in sweeps", bench_options, cmd_bench,
     "Runs synthetic requests, a trace or corpora through the model under a scenario, once or in repetitions, over a sweep or in search of the highest rate that keeps an SLO, "
     "and says of each run whether it is valid.  Result files go to a folder; the same command with the same folder goes on where it was interrupted."},
    {"compare", "BASE NEW...", "judge whether runs are as good as others", compare_options, cmd_compare,
     "BASE and each NEW: a result folder, a summary.csv, rows of answers (.jsonl, .jsonl.zst, .jsonl.gz), or several of them with commas between. "
     "Repeated runs (at least 4 a side) are judged metric by metric with Mann-Whitney's test at 0.05 and a limit; answers are joined by id. "
     "Exit status: 0 pass, 1 a regression, 2 could not compare, 3 too few repetitions."},
    {"report", "RESULTS...", "show results folders as a page with charts", report_options, cmd_report,
     "Writes one self-contained HTML file of inline SVG without scripts, or Markdown: the runs, throughput against latency, distributions, stages, "
     "batch over time, roofline, and the change against a baseline."},
    {"inspect", "MODEL", "show what is in a model and what it needs", inspect_options, cmd_inspect,
     "Prints family, shapes, parameters, bytes of weights and KV, and the memory that a number of sequences needs."},
    {"make-model", "OUT", "write a model of a real shape with random weights", make_model_options, cmd_make_model,
     "Writes a Hugging Face folder: config.json, safetensors in bf16, a byte-level tokenizer.  For benchmarks: its answers mean nothing."},
    {"tokenize", "[FILE]", "turn text into token ids, or back", tokenize_options, cmd_tokenize,
     "Reads lines {\"text\": ...} and writes {\"ids\": [...]} a line; with --decode the inverse."},
    {"completion", "", "print a bash completion", no_options, cmd_completion, "Use it with: source <(tokmill completion)"},
    {"man", "", "print the manual page as scdoc source", no_options, cmd_man, "make man turns it into tokmill.1."},
    {0},
};

static const struct command *find_command(const char *name)
{
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

static void print_usage(FILE *to)
{
    fprintf(to, "usage: tokmill COMMAND [OPTION]... [OPERAND]...\n\nOffline batch LLM inference and throughput benchmark.\n\n");
    for (const struct command *c = commands; c->name; c++)
        fprintf(to, "  %-12s %s\n", c->name, c->summary);
    fprintf(to, "\n  --version    the program's version\n  --help       this text; tokmill COMMAND --help for a command's options\n");
    fprintf(to, "\nexample: tokmill run -m MODEL -o answers.jsonl.zst prompts.jsonl.zst\n");
}

static void print_wrapped_paragraph(const char *text)
{
    for (size_t at = 0; *text; text += strspn(text, " ")) {
        size_t word = strcspn(text, " ");
        if (at && at + 1 + word > 80)
            at = 0, putchar('\n');
        at += (size_t)printf("%s%.*s", at ? " " : "", (int)word, text);
        text += word;
    }
    putchar('\n');
}

int cmd_options(void *into, int argc, char **argv)
{
    const struct command *c = find_command(argv[0]);
    CHECK(c);
    int rest, help;
    if (opt_parse(c->options, into, argc, argv, &rest, &help))
        die("%s: %s (tokmill %s --help lists the options)", c->name, err_text(), c->name);
    if (!help)
        return rest;
    printf("usage: tokmill %s [OPTION]... %s\n\n", c->name, c->operands);
    print_wrapped_paragraph(c->text);
    opt_print_help(c->options);
    exit(EXIT_GOOD);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_CANNOT;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return EXIT_GOOD;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("tokmill " TOKMILL_VERSION);
        return EXIT_GOOD;
    }
    const struct command *c = find_command(argv[1]);
    if (!c)
        die("unknown command \"%s\" (tokmill --help lists the commands)", argv[1]);
    return c->main(argc - 1, argv + 1);
}
