/* price.h - what an hour of a device costs, from datasets/hardware.csv: a price always comes with its source and date.
 * A device that is not in the file has no price: it is never guessed. */
#ifndef PLAN_PRICE_H
#define PLAN_PRICE_H

struct price { double usd_per_h; char source[256]; };

/* Looks for the first row whose `device` stands in the device's text.  1: found; 0: no such row; -1: the file is bad (err_text()). */
int price_find(struct price *p, const char *csv_path, const char *device_text);

#endif
