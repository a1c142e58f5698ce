/* The manual page and the completion, from the tables of commands and options. */
#include <stdio.h>

#include "cmd/cmd.h"

int cmd_man(int argc, char **argv)
{
    int none;
    cmd_options(&none, argc, argv);
    printf("tokmill(1)\n\n# NAME\n\ntokmill - offline batch LLM inference and throughput benchmark\n\n# SYNOPSIS\n\n");
    for (const struct command *c = commands; c->name; c++)
        printf("*tokmill %s* [options] %s%s", c->name, c->operands, c[1].name ? "++\n" : "\n\n");
    printf("# COMMANDS\n\n");
    for (const struct command *c = commands; c->name; c++)
        printf("*%s*\n\t%s.\n\n", c->name, c->summary);
    for (const struct command *c = commands; c->name; c++) {
        if (!c->options[0].name && !c->options[0].help)
            continue;
        printf("# OPTIONS OF %s\n\n%s\n\n", c->name, c->text);
        opt_print_man(c->options);
    }
    printf("# EXIT STATUS\n\n*0*\n\tAll is well.\n\n*1*\n\tFinished, but some rows failed.\n\n*2*\n\tCould not run; the same command will not help.\n\n"
           "*75*\n\tInterrupted, or a passing fault; the same command again does the work.\n\n");
    printf("# EXAMPLES\n\n*tokmill run -m datasets/default -o answers.jsonl.zst datasets/default.jsonl.zst*\n\n"
           "*zstdcat prompts.jsonl.zst | tokmill run -m MODEL --limit 100 - | jq -r .text*\n");
    return EXIT_GOOD;
}

int cmd_completion(int argc, char **argv)
{
    int none;
    cmd_options(&none, argc, argv);
    printf("# bash completion of tokmill, made by: tokmill completion\n_tokmill()\n{\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} words=\"\"\n    COMPREPLY=()\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        words=\"");
    for (const struct command *c = commands; c->name; c++)
        printf("%s ", c->name);
    printf("--help --version\"\n    elif [[ $cur == -* ]]; then\n        case ${COMP_WORDS[1]} in\n");
    for (const struct command *c = commands; c->name; c++) {
        printf("        %s) words=\"", c->name);
        opt_print_words(c->options);
        printf("\" ;;\n");
    }
    printf("        esac\n    fi\n    if [ -n \"$words\" ]; then\n        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
           "    else\n        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n    fi\n}\ncomplete -o filenames -F _tokmill tokmill\n");
    return EXIT_GOOD;
}
