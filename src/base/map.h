/* map.h - byte strings to 32-bit values, open addressing.  Keys are borrowed: they must outlive the map.
 * A zeroed map is empty. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map { struct map_slot *slots; size_t n, n_slot; };

void map_reserve(struct map *m, size_t n);         /* room for n keys without growing */
bool map_put(struct map *m, const char *key, size_t len, uint32_t value);  /* false: was there, old value kept */
bool map_get(const struct map *m, const char *key, size_t len, uint32_t *value);
void map_free(struct map *m);

#endif
