/* The file of cuBLASLt's algorithms: behind a right header and with a right checksum or without, what is read is in the table, and
 * what is written is read as it was. */
#include "tests/fuzz/fuzz.h"

#include "kernels/cuda/plans.c"     /* for the header */

static const struct plans_origin origin = { "a GPU", 2, 3, 4 };

static void put_file(const uint8_t *data, size_t size)
{
    struct header h = { .format = FORMAT, .n = (uint32_t)(size / sizeof(struct record)), .origin = origin };
    struct buf b = {0};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    if (size % 2)
        buf_put(&b, &h, sizeof h);
    buf_put(&b, data, size % 2 ? h.n * sizeof(struct record) : size);
    checksum sum = hash_bytes(b.data, b.len, 0);
    buf_put(&b, &sum, sizeof sum);
    char path[256];
    CHECK(file_path(path, sizeof path, &origin) == 0);
    fuzz_write(path + strlen(fuzz_path("")) + 1, b.data, b.len);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct plans p, back;
    size_t n = 0;
    memset(&p, 0, sizeof p);
    memset(&back, 0, sizeof back);
    setenv("XDG_CACHE_HOME", fuzz_path(""), 1);
    put_file(data, size);
    plans_read(&p, &origin);
    for (size_t i = 0; i < N_PLAN; i++)
        n += p.at[i].key.n != 0;
    CHECK(n <= size / sizeof(struct record));
    plans_write(&p, &origin);
    plans_read(&back, &origin);
    for (size_t i = 0; i < N_PLAN; i++)
        CHECK(!back.at[i].key.n || memcmp(plans_find(&p, &back.at[i].key), plans_find(&back, &back.at[i].key), sizeof p.at[i]) == 0);
    return 0;
}
