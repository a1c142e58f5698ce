#include "kernels/cuda/plans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cache.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"

#define N_PROBE 8

/* The file: a header, n records, and the hash of all that. */
struct header { char magic[8]; uint32_t format, n; struct plans_origin origin; };
struct record { struct plan_key key; cublasLtMatmulAlgo_t algo; };
typedef uint64_t checksum;

static const char MAGIC[8] = "tokplans";
enum { FORMAT = 1 };

struct plan *plans_find(struct plans *p, const struct plan_key *key)
{
    size_t hash = hash_bytes(key, sizeof *key, 0);
    for (size_t i = 0; i < N_PROBE; i++) {
        struct plan *at = &p->at[(hash + i) % N_PLAN];
        if (!at->key.n || !memcmp(&at->key, key, sizeof *key))
            return at;
    }
    return &p->at[hash % N_PLAN];
}

static int file_path(char *path, size_t size, const struct plans_origin *o)
{
    char name[64];
    snprintf(name, sizeof name, "cublaslt-%016llx.plans", (unsigned long long)hash_bytes(o, sizeof *o, FORMAT));
    return cache_path(path, size, name);
}

/* Up to a byte more than a file may have. */
static void read_file(struct buf *b, const char *path)
{
    const size_t most = sizeof(struct header) + N_PLAN * sizeof(struct record) + sizeof(checksum) + 1;
    FILE *f = fopen(path, "rb");
    if (!f)
        return;
    buf_reserve(b, most);
    b->len = fread(b->data, 1, most, f);
    fclose(f);
}

/* How many records there are in what was read; 0 where anything is amiss. */
static uint32_t count_records(const struct buf *b, const struct plans_origin *o)
{
    struct header h;
    checksum sum;
    if (b->len < sizeof h)
        return 0;
    memcpy(&h, b->data, sizeof h);
    size_t end = sizeof h + (size_t)h.n * sizeof(struct record);
    if (memcmp(h.magic, MAGIC, sizeof h.magic) || h.format != FORMAT || memcmp(&h.origin, o, sizeof *o) || b->len != end + sizeof sum)
        return 0;
    memcpy(&sum, b->data + end, sizeof sum);
    return hash_bytes(b->data, end, 0) == sum ? h.n : 0;
}

void plans_read(struct plans *p, const struct plans_origin *o)
{
    char path[512];
    struct buf b = { 0 };
    struct record r;
    if (file_path(path, sizeof path, o))
        return;
    read_file(&b, path);
    uint32_t n = count_records(&b, o);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(&r, b.data + sizeof(struct header) + i * sizeof r, sizeof r);
        struct plan *at = plans_find(p, &r.key);
        if (!at->key.n)
            *at = (struct plan){ .key = r.key, .algo = r.algo, .tuned = true, .unchecked = true };
    }
    log_debug("%u plans of products in \"%s\"", n, path);
    buf_free(&b);
}

void plans_write(const struct plans *p, const struct plans_origin *o)
{
    char path[512];
    struct buf b = { 0 };
    struct header h = { .format = FORMAT, .origin = *o };
    memcpy(h.magic, MAGIC, sizeof h.magic);
    buf_put(&b, &h, sizeof h);
    for (size_t i = 0; i < N_PLAN; i++)
        if (p->at[i].key.n && p->at[i].tuned) {
            buf_put(&b, &(struct record){ p->at[i].key, p->at[i].algo }, sizeof(struct record));
            h.n++;
        }
    memcpy(b.data, &h, sizeof h);
    checksum sum = hash_bytes(b.data, b.len, 0);
    buf_put(&b, &sum, sizeof sum);
    if (file_path(path, sizeof path, o) || cache_write(path, b.data, b.len))
        log_debug("plans of products are not kept: %s", err_text());
    buf_free(&b);
}
