/* Safetensors files: every tensor that is there lies within the file and is as large as its shape says.
 *
 * The first byte says what the rest is: a file as it is ('0'); header NUL data, framed here ('1'); or a folder of two shards, index
 * NUL header NUL header NUL data, both with the same data. */
#include "tests/fuzz/fuzz.h"

#include "data/tensors.h"

static struct tensors *open_any(const uint8_t *data, size_t size)
{
    char kind = size ? (char)data[0] : '0';
    data += size > 0;
    size -= size > 0;
    if (kind == '1') {
        struct part header = fuzz_part(&data, &size);
        fuzz_write_framed("one", header, data, size);
        return tensors_open(fuzz_path("one"));
    }
    if (kind != '2')
        return tensors_open(fuzz_file(data, size));
    struct part index = fuzz_part(&data, &size), a = fuzz_part(&data, &size), b = fuzz_part(&data, &size);
    fuzz_write("model.safetensors.index.json", index.at, index.len);
    fuzz_write_framed("a", a, data, size);
    fuzz_write_framed("b", b, data, size);
    return tensors_open(fuzz_path(""));
}

static void check_tensor(struct tensors *t, const struct tensor_info *info)
{
    uint64_t size = info->is_float ? dtype_size(info->dtype) : 0;
    char shape[64];
    fuzz_touch(info->data, info->size);
    for (int d = 0; d < info->n_dim; d++)
        size *= info->dim[d];
    CHECK(info->n_dim >= 0 && info->n_dim <= TENSOR_MAX_DIM && (!info->is_float || size == info->size));
    CHECK(tensors_find(t, info->name) == info);
    tensors_shape_text(shape, sizeof shape, info);
    CHECK(memchr(shape, 0, sizeof shape));
    tensors_release(t, info);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tensors *t = open_any(data, size);
    uint64_t sum = 0;
    if (!t)
        fuzz_said_why();
    for (size_t i = 0; t && i < tensors_count(t); i++) {
        check_tensor(t, tensors_at(t, i));
        sum += tensors_at(t, i)->size;
    }
    CHECK(!t || sum <= tensors_file_bytes(t));
    tensors_close(t);
    return 0;
}
