#include "plan/price.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "data/table.h"
#include "data/zfile.h"

enum { DEVICE, USD_PER_H, PROVIDER, SOURCE, DATE, N_FIELD };

static int read_row(struct price *p, char *line, const char *path, const char *device_text)
{
    char *field[N_FIELD], *end;
    if (table_csv_split(line, ',', field, N_FIELD) < N_FIELD)
        return err_set("%s: a row with fewer than %d fields: \"%s\"", path, N_FIELD, line);
    if (!field[DEVICE][0] || !strstr(device_text, field[DEVICE]))
        return 0;
    p->usd_per_h = strtod(field[USD_PER_H], &end);
    if (end == field[USD_PER_H] || *end || !(p->usd_per_h > 0))
        return err_set("%s: %s: \"%s\" is not a price in US dollars an hour", path, field[DEVICE], field[USD_PER_H]);
    snprintf(p->source, sizeof p->source, "%s, %s, %s", field[PROVIDER], field[SOURCE], field[DATE]);
    return 1;
}

int price_find(struct price *p, const char *csv_path, const char *device_text)
{
    struct zreader *r = zreader_open(csv_path);
    if (!r)
        return -1;
    char *line;
    size_t len;
    int rc = zreader_line(r, &line, &len);     /* the header */
    int found = 0;
    while (rc > 0 && !found && (rc = zreader_line(r, &line, &len)) > 0)
        if (line && len)
            found = read_row(p, line, csv_path, device_text);
    zreader_close(r);
    return rc < 0 ? -1 : found;
}
