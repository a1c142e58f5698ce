/* A model's folder, config.json NUL header NUL data: whatever the config and the header of the safetensors file say of each other,
 * a device is handed matrices that are there as far as their sizes go. */
#include "tests/fuzz/fuzz.h"

#include "base/mem.h"
#include "model/weights.h"

/* A device that only looks at what it gets. */
struct weight { size_t size; };

static void *take(struct device *d, size_t size)
{
    (void)d;
    return mem_alloc(size);
}

static void give_back(struct device *d, void *p, size_t size)
{
    (void)d;
    memset(p, 0, size);         /* as large as it was */
    free(p);
}

static void copy(struct device *d, void *dst, const void *host, size_t size)
{
    (void)d;
    memcpy(dst, host, size);
}

static struct weight *pack(struct device *d, const struct tensor *parts, int n_part, enum dtype dtype)
{
    (void)d, (void)dtype;
    struct weight *w = mem_alloc(sizeof *w);
    for (int i = 0; i < n_part; i++) {
        size_t n = (size_t)parts[i].rows * parts[i].cols;
        float *values = mem_array(n, sizeof *values);
        CHECK(n && parts[i].cols == parts[0].cols && (uintptr_t)parts[i].data % dtype_size(parts[i].dtype) == 0);
        num_to_f32(values, parts[i].data, parts[i].dtype, n);
        w->size += n;
        free(values);
    }
    return w;
}

static size_t size_of(const struct weight *w)
{
    return w->size;
}

static void drop(struct device *d, struct weight *w)
{
    (void)d;
    free(w);
}

static const struct device_ops ops = {
    .alloc = take, .free = give_back, .upload = copy, .weight_pack = pack, .weight_size = size_of, .weight_free = drop,
};

static void check_model(const struct model *m)
{
    const struct model_config *c = &m->config;
    CHECK(m->embed->size == (size_t)c->n_vocab * c->d_model && m->lm_head && m->norm_final && (m->lm_head == m->embed) == c->tied);
    for (uint32_t i = 0; i < c->n_layer; i++) {
        const struct layer *l = &m->layers[i];
        CHECK(l->qkv->size == (size_t)(c->n_head + 2 * c->n_kv_head) * c->d_head * c->d_model);
        CHECK(l->out->size == (size_t)c->n_head * c->d_head * c->d_model && l->down->size == (size_t)c->d_ff * c->d_model);
        CHECK(l->gate_up->size == 2 * l->down->size && l->norm_attn && l->norm_ffn);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct part config = fuzz_part(&data, &size), header = fuzz_part(&data, &size);
    struct device d = { .ops = &ops, .compute = DTYPE_BF16 };
    fuzz_write("config.json", config.at, config.len);
    fuzz_write_framed("model.safetensors", header, data, size);
    struct model *m = model_open(&d, fuzz_path(""), DTYPE_BF16, 0);
    if (m)
        check_model(m);
    else
        fuzz_said_why();
    model_close(m);
    return 0;
}
