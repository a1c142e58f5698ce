#include "base/opt.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

#define MAX_ROWS 96
#define HELP_KEY 1000
#define FIRST_KEY 1001          /* getopt's value of row i is FIRST_KEY + i */

struct unit { const char *name; double factor; };

static const struct unit size_units[] = {
    {"", 1}, {"B", 1}, {"K", 0x1p10}, {"M", 0x1p20}, {"G", 0x1p30}, {"T", 0x1p40},
    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {0},
};
static const struct unit time_units[] = {
    {"", 1}, {"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"min", 60}, {"h", 3600}, {"d", 86400}, {0},
};
static const struct unit no_units[] = { {"", 1}, {0} };

static bool is_end(const struct opt *o)
{
    return !o->name && !o->help;
}

static int bad_value(const struct opt *o, const char *value, const char *want)
{
    return err_set("--%s: \"%s\" is not %s", o->name, value, want);
}

static int check_range(const struct opt *o, const char *value, double x)
{
    if (o->min == 0 && o->max == 0)
        return 0;
    if (x >= o->min && x <= o->max)
        return 0;
    if (x < o->min && o->max >= 1e15)
        return err_set("--%s: \"%s\" is too small; it must be at least %g", o->name, value, o->min);
    return err_set("--%s: \"%s\" is out of range; it must be from %g to %g", o->name, value, o->min, o->max);
}

/* A number with an optional unit, "8GiB" or "8 GiB". */
static int parse_number(const struct opt *o, const char *value, const struct unit *units, const char *want, double *out)
{
    char *end;
    double x = strtod(value, &end);
    if (end == value || !isfinite(x) || strpbrk(value, "xX"))
        return bad_value(o, value, want);
    while (*end == ' ')
        end++;
    for (; units->name; units++)
        if (strcmp(units->name, end) == 0) {
            *out = x * units->factor;
            return check_range(o, value, *out);
        }
    return bad_value(o, value, want);
}

static int set_int(const struct opt *o, const char *value, int64_t *field)
{
    char *end;
    errno = 0;
    long long x = strtoll(value, &end, 10);
    if (end == value || *end || errno)
        return bad_value(o, value, "a whole number");
    if (check_range(o, value, (double)x))
        return -1;
    *field = x;
    return 0;
}

static int set_size(const struct opt *o, const char *value, int64_t *field)
{
    double x;
    if (parse_number(o, value, size_units, "a size such as 512MiB, 8GiB or 2GB", &x))
        return -1;
    if (x < 0 || x > 0x1p62)
        return bad_value(o, value, "a size that can be");
    *field = (int64_t)x;
    return 0;
}

static int set_choice(const struct opt *o, const char *value, int *field)
{
    size_t len = strlen(value);
    int i = 0;
    for (const char *word = o->choices; word; word = strchr(word, '|'), word = word ? word + 1 : NULL, i++)
        if (strcspn(word, "|") == len && strncmp(word, value, len) == 0) {
            *field = i;
            return 0;
        }
    return err_set("--%s: \"%s\" is not one of %s", o->name, value, o->choices);
}

static int add_text(const struct opt *o, const char *value, struct opt_list *list)
{
    if (list->n == OPT_LIST_MAX)
        return err_set("--%s is given more than %d times", o->name, OPT_LIST_MAX);
    list->texts[list->n++] = value;
    return 0;
}

int opt_set(const struct opt *o, void *into, const char *value)
{
    void *field = (char *)into + o->at;
    switch (o->kind) {
    case OPT_FLAG:     *(bool *)field = true; return 0;
    case OPT_TEXT:     *(const char **)field = value; return 0;
    case OPT_CHOICE:   return set_choice(o, value, field);
    case OPT_INT:      return set_int(o, value, field);
    case OPT_REAL:     return parse_number(o, value, no_units, "a number", field);
    case OPT_SIZE:     return set_size(o, value, field);
    case OPT_DURATION: return parse_number(o, value, time_units, "a duration such as 200ms, 1.5s or 10m", field);
    case OPT_LIST:     return add_text(o, value, field);
    }
    CHECK(!"an option kind");
    return -1;
}

void opt_put_value(struct buf *b, const struct opt *o, const void *from)
{
    const void *field = (const char *)from + o->at;
    const char *text = o->choices;
    switch (o->kind) {
    case OPT_FLAG: buf_puts(b, *(const bool *)field ? "yes" : "no"); break;
    case OPT_TEXT: buf_puts(b, *(const char *const *)field ? *(const char *const *)field : ""); break;
    case OPT_CHOICE:
        for (int i = *(const int *)field; i; i--)
            text += strcspn(text, "|") + 1;
        buf_put(b, text, strcspn(text, "|"));
        break;
    case OPT_INT: case OPT_SIZE: buf_printf(b, "%lld", (long long)*(const int64_t *)field); break;
    case OPT_REAL: case OPT_DURATION: buf_printf(b, "%.17g", *(const double *)field); break;
    case OPT_LIST:
        for (size_t i = 0; i < ((const struct opt_list *)field)->n; i++)
            buf_printf(b, "%s%s", i ? " " : "", ((const struct opt_list *)field)->texts[i]);
        break;
    }
}

/* getopt's two descriptions of the table. */
struct forms { struct option longs[MAX_ROWS + 2]; char shorts[2 * MAX_ROWS + 4]; };

static void describe(const struct opt *table, struct forms *f)
{
    size_t n = 0, s = 0;
    f->shorts[s++] = ':';
    f->shorts[s++] = 'h';
    f->longs[n++] = (struct option){ "help", no_argument, NULL, HELP_KEY };
    for (int i = 0; !is_end(&table[i]); i++) {
        const struct opt *o = &table[i];
        CHECK(i < MAX_ROWS);
        if (!o->name)
            continue;
        f->longs[n++] = (struct option){ o->name, o->kind == OPT_FLAG ? no_argument : required_argument, NULL, FIRST_KEY + i };
        if (o->letter)
            f->shorts[s++] = o->letter;
        if (o->letter && o->kind != OPT_FLAG)
            f->shorts[s++] = ':';
    }
    f->longs[n] = (struct option){0};
    f->shorts[s] = 0;
}

static const struct opt *row_of(const struct opt *table, int key)
{
    if (key >= FIRST_KEY)
        return &table[key - FIRST_KEY];
    for (; !is_end(table); table++)
        if (table->name && table->letter == key)
            return table;
    CHECK(!"a key of the table");
    return NULL;
}

static int bad_option(const struct opt *table, int key, char **argv)
{
    if (key == ':')
        return err_set("--%s needs a value", row_of(table, optopt)->name);
    if (optopt >= FIRST_KEY)
        return err_set("--%s takes no value", row_of(table, optopt)->name);
    if (optopt && optopt != HELP_KEY)
        return err_set("unknown option \"-%c\"", optopt);
    return err_set("unknown or ambiguous option \"%s\"", argv[optind - 1]);
}

int opt_parse(const struct opt *table, void *into, int argc, char **argv, int *rest, int *help)
{
    struct forms f;
    describe(table, &f);
    *help = 0;
    for (const struct opt *o = table; !is_end(o); o++)
        if (o->name && o->def && opt_set(o, into, o->def))
            CHECK(!"a default that can be parsed");
    opterr = 0;
    optind = 0;         /* glibc: start afresh */
    for (;;) {
        int key = getopt_long(argc, argv, f.shorts, f.longs, NULL);
        if (key == -1)
            break;
        if (key == 'h' || key == HELP_KEY) {
            *help = 1;
            return 0;
        }
        if (key == '?' || key == ':')
            return bad_option(table, key, argv);
        if (opt_set(row_of(table, key), into, optarg))
            return -1;
    }
    *rest = optind;
    return 0;
}

static const char *arg_of(const struct opt *o)
{
    return o->kind == OPT_FLAG ? NULL : o->kind == OPT_CHOICE ? o->choices : o->arg;
}

/* Text after the column, broken at words to fit 80 columns. */
static void print_wrapped(const char *text, int column)
{
    int at = column;
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (at > column && at + 1 + word > 80) {
            printf("\n%*s", column, "");
            at = column;
        } else if (at > column) {
            putchar(' ');
            at++;
        }
        printf("%.*s", word, text);
        at += word;
        text += word;
        text += strspn(text, " ");
    }
}

void opt_print_help(const struct opt *table)
{
    enum { COLUMN = 30 };
    for (const struct opt *o = table; !is_end(o); o++) {
        if (!o->name) {
            printf("\n%s:\n", o->help);
            continue;
        }
        char left[128], letter[8] = "    ";
        if (o->letter)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        const char *arg = arg_of(o);
        int n = snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name, arg ? " " : "", arg ? arg : "");
        printf("%s%*s", left, n < COLUMN - 1 ? COLUMN - n : 0, "");
        if (n >= COLUMN - 1)
            printf("\n%*s", COLUMN, "");
        char text[512];
        snprintf(text, sizeof text, "%s%s%s%s", o->help, o->def ? " [" : "", o->def ? o->def : "", o->def ? "]" : "");
        print_wrapped(text, COLUMN);
        putchar('\n');
    }
    printf("  -h, --help                  this text\n");
}

/* scdoc reads _ and * as emphasis: they get a backslash. */
static void print_scdoc(const char *s)
{
    for (; *s; s++) {
        if (strchr("_*\\<>#", *s))
            putchar('\\');
        putchar(*s);
    }
}

void opt_print_man(const struct opt *table)
{
    for (const struct opt *o = table; !is_end(o); o++) {
        if (!o->name) {
            printf("## %s\n\n", o->help);
            continue;
        }
        const char *arg = arg_of(o);
        if (o->letter)
            printf("*-%c*, ", o->letter);
        printf("*--%s*", o->name);
        if (arg) {
            printf(" _");
            print_scdoc(arg);
            putchar('_');
        }
        printf("\n\t");
        print_scdoc(o->help);
        putchar('.');
        if (o->def) {
            printf(" Default: ");
            print_scdoc(o->def);
            putchar('.');
        }
        printf("\n\n");
    }
}

void opt_print_words(const struct opt *table)
{
    for (const struct opt *o = table; !is_end(o); o++)
        if (o->name)
            printf("--%s ", o->name);
    printf("--help");
}
