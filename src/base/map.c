#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

struct map_slot { const char *key; uint32_t len, value; uint64_t hash; };

static struct map_slot *find(const struct map *m, const char *key, size_t len, uint64_t hash)
{
    for (size_t i = hash & (m->n_slot - 1);; i = (i + 1) & (m->n_slot - 1)) {
        struct map_slot *s = &m->slots[i];
        if (!s->key || (s->hash == hash && s->len == len && memcmp(s->key, key, len) == 0))
            return s;
    }
}

void map_reserve(struct map *m, size_t n)
{
    size_t want = 16;
    while (want < n * 2)
        want *= 2;
    if (want <= m->n_slot)
        return;
    struct map old = *m;
    m->slots = mem_array(want, sizeof *m->slots);
    m->n_slot = want;
    for (size_t i = 0; i < old.n_slot; i++)
        if (old.slots[i].key)
            *find(m, old.slots[i].key, old.slots[i].len, old.slots[i].hash) = old.slots[i];
    free(old.slots);
}

bool map_put(struct map *m, const char *key, size_t len, uint32_t value)
{
    map_reserve(m, m->n + 1);
    uint64_t hash = hash_bytes(key, len, 0);
    struct map_slot *s = find(m, key, len, hash);
    if (s->key)
        return false;
    *s = (struct map_slot){ .key = key, .len = (uint32_t)len, .value = value, .hash = hash };
    m->n++;
    return true;
}

bool map_get(const struct map *m, const char *key, size_t len, uint32_t *value)
{
    if (!m->n_slot)
        return false;
    const struct map_slot *s = find(m, key, len, hash_bytes(key, len, 0));
    if (s->key)
        *value = s->value;
    return s->key != NULL;
}

void map_free(struct map *m)
{
    free(m->slots);
    *m = (struct map){0};
}
