/* A config.json, and behind a NUL byte a generation_config.json: what is read is within the limits that keep every product of sizes
 * in 64 bits, gives finite rotations, and comes back from the file that it is written to. */
#include "tests/fuzz/fuzz.h"

#include <math.h>

#include "model/arch.h"
#include "model/config.h"

static void check_shape(const struct model_config *c)
{
    CHECK(c->n_layer - 1 < 1024 && c->n_head - 1 < 4096 && c->n_kv_head - 1 < c->n_head && c->n_head % c->n_kv_head == 0);
    CHECK(c->d_head - 1 < 256 && c->d_head % 8 == 0 && c->d_model - 1 < 1 << 17 && c->d_ff - 1 < 1 << 20);
    CHECK(c->n_vocab - 1 < 1 << 19 && c->max_position - 1 < 1 << 27);
    CHECK(c->norm_eps >= 0 && c->norm_eps <= 1 && c->n_eos <= CONFIG_MAX_EOS);
    CHECK(c->window ? c->window_from < c->n_layer : !c->window_from);
    for (uint32_t i = 0; i < c->n_eos; i++)
        CHECK(c->eos[i] >= 0);
}

static void check_rope(const struct model_config *c)
{
    float table[3 * 256];
    rope_table(table, 3, c);
    for (uint32_t i = 0; i < 3 * c->d_head; i++)
        CHECK(isfinite(table[i]));
}

static void check_memory(const struct model_config *c)
{
    uint64_t n = config_params(c);
    CHECK(n >= (uint64_t)c->n_vocab * c->d_model && n < (uint64_t)1 << 53 && config_packed_bytes(c, DTYPE_F32) >= 4 * n);
    CHECK(config_kv_bytes(c, DTYPE_F32) < (uint64_t)1 << 40);
}

static void check_written(const struct model_config *c)
{
    struct model_config back;
    struct buf json = {0}, generation = {0};
    config_put_json(&json, c);
    config_put_generation_json(&generation, c);
    fuzz_write("config.json", json.data, json.len);
    fuzz_write("generation_config.json", generation.data, generation.len);
    if (config_load(&back, fuzz_path("")) != 0)
        CHECK(!"a config of ours is read");
    CHECK(back.arch == c->arch && back.n_layer == c->n_layer && back.n_head == c->n_head && back.n_kv_head == c->n_kv_head);
    CHECK(back.d_head == c->d_head && back.d_model == c->d_model && back.d_ff == c->d_ff && back.n_vocab == c->n_vocab);
    CHECK(back.max_position == c->max_position && back.norm_eps == c->norm_eps && back.tied == c->tied && back.window == c->window);
    CHECK(back.window_from == c->window_from && back.rope.kind == c->rope.kind && back.rope.theta == c->rope.theta);
    CHECK(back.n_eos == c->n_eos && memcmp(back.eos, c->eos, c->n_eos * sizeof *c->eos) == 0);
    buf_free(&json);
    buf_free(&generation);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_config c;
    struct part config = fuzz_part(&data, &size);
    fuzz_write("config.json", config.at, config.len);
    if (size)
        fuzz_write("generation_config.json", data, size);
    else
        unlink(fuzz_path("generation_config.json"));
    if (config_load(&c, fuzz_path("")) != 0) {
        fuzz_said_why();
        return 0;
    }
    check_shape(&c);
    check_rope(&c);
    if (c.n_layer <= 4)
        check_memory(&c);
    check_written(&c);
    return 0;
}
