/* test_config.c - config.json in its old and new forms, what is refused and how, the built-in shapes, the rope tables. */
#define _DEFAULT_SOURCE     /* mkdtemp, M_PI */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/json.h"
#include "model/arch.h"
#include "model/config.h"

static char dir[] = "/tmp/tokmill-test-XXXXXX";

static void write_file(const char *name, const char *text, size_t len)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);           /* overwriting in place makes ext4 wait for the disk */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    fclose(f);
}

/* A whole config of the type; a later key takes the place of an earlier one, so `more` may change anything. */
static int load(struct model_config *c, const char *model_type, const char *more)
{
    char text[2000];
    snprintf(text, sizeof text, "{\"model_type\":\"%s\",\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":4,\"num_attention_heads\":8,"
             "\"num_key_value_heads\":2,\"vocab_size\":300,\"max_position_embeddings\":1000%s%s}", model_type, *more ? "," : "", more);
    write_file("config.json", text, strlen(text));
    return config_load(c, dir);
}

static struct model_config loaded(const char *model_type, const char *more)
{
    struct model_config c;
    if (load(&c, model_type, more) != 0)
        fail_msg("%s", err_text());
    return c;
}

static void test_defaults(void **state)
{
    (void)state;
    struct model_config c = loaded("llama", "");
    assert_string_equal(c.model_type, "llama");
    assert_true(c.n_layer == 4 && c.n_head == 8 && c.n_kv_head == 2 && c.d_head == 8 && c.d_model == 64 && c.d_ff == 96 && c.n_vocab == 300);
    assert_true(c.max_position == 1000 && c.norm_eps == 1e-6f && !c.tied && c.rope.kind == ROPE_PLAIN && c.rope.theta == 10000);
    assert_true(!c.window && !c.n_eos && !c.qkv_bias && !c.out_bias && !c.mlp_bias && !c.qk_norm);
    c = loaded("llama", "\"num_key_value_heads\":null,\"head_dim\":null,\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true,\"attention_bias\":true,\"mlp_bias\":true");
    assert_true(c.n_kv_head == 8 && c.d_head == 8 && c.norm_eps == 1e-5f && c.tied && c.qkv_bias && c.out_bias && c.mlp_bias);
    c = loaded("qwen2", "");
    assert_true(c.qkv_bias && !c.out_bias && !c.qk_norm && c.d_head == 8);
    c = loaded("qwen3", "\"attention_bias\":false");
    assert_true(c.qk_norm && !c.qkv_bias && c.d_head == 128);
    c = loaded("mistral", "\"head_dim\":16");
    assert_true(c.d_head == 16 && c.window == 4096 && c.window_from == 0);
}

static void test_window(void **state)
{
    (void)state;
    static const struct { const char *type, *more; uint32_t window, from; } cases[] = {
        { "mistral", "\"sliding_window\":null", 0, 0 }, { "mistral", "\"sliding_window\":24", 24, 0 },
        { "mistral", "\"use_sliding_window\":false,\"sliding_window\":24", 24, 0 },
        { "llama", "\"sliding_window\":24", 0, 0 },
        { "qwen2", "\"sliding_window\":24", 0, 0 }, { "qwen2", "\"sliding_window\":24,\"use_sliding_window\":false", 0, 0 },
        { "qwen2", "\"sliding_window\":24,\"use_sliding_window\":true", 0, 0 },                     /* max_window_layers 28 of 4 */
        { "qwen2", "\"sliding_window\":24,\"use_sliding_window\":true,\"max_window_layers\":3", 24, 3 },
        { "qwen3", "\"use_sliding_window\":true,\"max_window_layers\":0", 4096, 0 },
        { "qwen3", "\"use_sliding_window\":true,\"sliding_window\":24,\"max_window_layers\":1,"
                   "\"layer_types\":[\"full_attention\",\"full_attention\",\"sliding_attention\",\"sliding_attention\"]", 24, 2 },
        { "qwen3", "\"use_sliding_window\":true,\"sliding_window\":24,\"max_window_layers\":1,"
                   "\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\"]", 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_config c = loaded(cases[i].type, cases[i].more);
        if (c.window != cases[i].window || c.window_from != cases[i].from)
            fail_msg("%s %s: window %u from %u", cases[i].type, cases[i].more, c.window, c.window_from);
    }
}

static void test_rope_keys(void **state)
{
    (void)state;
    struct model_config c = loaded("llama", "\"rope_theta\":5e5,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}");
    assert_true(c.rope.kind == ROPE_LINEAR && c.rope.theta == 5e5 && c.rope.factor == 2 && c.max_position == 1000);
    c = loaded("llama", "\"rope_theta\":1,\"rope_theta\":7e5,\"rope_parameters\":{\"rope_theta\":6e5,\"rope_type\":\"default\"}");
    assert_true(c.rope.kind == ROPE_PLAIN && c.rope.theta == 6e5);
    c = loaded("llama", "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.5,\"high_freq_factor\":5,\"original_max_position_embeddings\":500}");
    assert_true(c.rope.kind == ROPE_LLAMA3 && c.rope.low_freq == 1.5 && c.rope.high_freq == 5 && c.rope.original_max == 500);
    c = loaded("qwen2", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4}");      /* trained length: max_position_embeddings */
    assert_true(c.rope.kind == ROPE_YARN && c.rope.original_max == 1000 && c.max_position == 4000 && c.rope.beta_fast == 32 && c.rope.beta_slow == 1);
    assert_true(c.rope.truncate && fabs(c.rope.attention_factor - (0.1 * log(4) + 1)) < 1e-12);
    c = loaded("qwen2", "\"rope_scaling\":{\"type\":\"yarn\",\"original_max_position_embeddings\":250}");
    assert_true(c.rope.factor == 4 && c.max_position == 1000);
    c = loaded("qwen2", "\"original_max_position_embeddings\":100,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"original_max_position_embeddings\":250,"
                        "\"truncate\":false,\"mscale\":0.5,\"mscale_all_dim\":2}");
    assert_true(c.rope.original_max == 100 && !c.rope.truncate);
    assert_true(fabs(c.rope.attention_factor - (0.05 * log(2) + 1) / (0.2 * log(2) + 1)) < 1e-12);
    c = loaded("qwen2", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":32,\"attention_factor\":1.5}");
    assert_true(c.rope.attention_factor == 1.5);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct { const char *type, *more, *why; } cases[] = {
        { "gpt2", "", "model_type \"gpt2\" is not supported; supported are llama, mistral, qwen2, qwen3" },
        { "llama", "\"model_type\":7", "model_type is missing" },
        { "llama", "\"hidden_size\":null", "hidden_size is missing" },
        { "llama", "\"hidden_size\":\"64\"", "hidden_size is \"64\"; a whole number from 1 to 131072" },
        { "llama", "\"hidden_size\":0", "hidden_size is 0;" },
        { "llama", "\"hidden_size\":-64", "hidden_size is -64;" },
        { "llama", "\"hidden_size\":64.5", "hidden_size is 64.5;" },
        { "llama", "\"hidden_size\":1e300", "hidden_size is 1e+300;" },
        { "llama", "\"num_hidden_layers\":1000000", "num_hidden_layers" },
        { "llama", "\"vocab_size\":99999999999", "vocab_size" },
        { "llama", "\"intermediate_size\":[1]", "intermediate_size is [1];" },
        { "llama", "\"num_key_value_heads\":3", "num_attention_heads (8) is not a multiple of num_key_value_heads (3)" },
        { "llama", "\"num_key_value_heads\":16", "not a multiple" },
        { "llama", "\"hidden_size\":60", "is 7; multiples of 8" },
        { "llama", "\"hidden_size\":68", "hidden_size (68) is not a multiple" },
        { "llama", "\"head_dim\":12", "is 12; multiples of 8 up to 256" },
        { "llama", "\"head_dim\":264", "multiples of 8 up to 256" },
        { "llama", "\"hidden_act\":\"gelu\"", "hidden_act is \"gelu\"; silu is supported" },
        { "llama", "\"quantization_config\":{\"quant_method\":\"awq\"}", "quantization_config (awq) is not supported; weights in f32, bf16 and f16 are" },
        { "llama", "\"tie_word_embeddings\":1", "tie_word_embeddings is 1; true or false" },
        { "llama", "\"rms_norm_eps\":-1", "rms_norm_eps" },
        { "llama", "\"rope_theta\":0", "rope_theta is 0;" },
        { "llama", "\"partial_rotary_factor\":0.5", "partial_rotary_factor is 0.5;" },
        { "llama", "\"rope_scaling\":7", "rope_scaling is 7; an object" },
        { "llama", "\"rope_scaling\":{\"type\":\"longrope\"}", "rope_type is \"longrope\"; default, linear, llama3 and yarn are supported" },
        { "llama", "\"rope_scaling\":{\"type\":\"linear\"}", "rope_scaling: factor is missing" },
        { "llama", "\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4}", "must be above" },
        { "llama", "\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"}}", "one for each layer type is not supported" },
        { "llama", "\"eos_token_id\":\"x\"", "eos_token_id is \"x\"; a token id" },
        { "llama", "\"eos_token_id\":[1,2,3,4,5,6,7,8,9]", "at most 8" },
        { "qwen2", "\"use_sliding_window\":true,\"max_window_layers\":0,\"layer_types\":[\"full_attention\"]", "one entry for each layer" },
        { "qwen2", "\"use_sliding_window\":true,\"max_window_layers\":0,\"layer_types\":[\"a\",\"b\",\"c\",\"d\"]", "\"a\"; full_attention and" },
        { "qwen2", "\"use_sliding_window\":true,\"max_window_layers\":0,\"layer_types\":"
                   "[\"sliding_attention\",\"full_attention\",\"full_attention\",\"full_attention\"]", "full_attention after sliding_attention (layer 1)" },
    };
    struct model_config c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(load(&c, cases[i].type, cases[i].more), -1);
        if (!strstr(err_text(), cases[i].why) || !strstr(err_text(), "config.json"))
            fail_msg("\"%s\" does not say \"%s\"", err_text(), cases[i].why);
    }
    assert_int_equal(config_load(&c, "/tmp/no-such-folder"), -1);
}

static void test_eos(void **state)
{
    (void)state;
    struct model_config c = loaded("llama", "\"eos_token_id\":7");
    assert_true(c.n_eos == 1 && c.eos[0] == 7);
    write_file("generation_config.json", "{\"eos_token_id\":[3,4]}", 22);
    c = loaded("llama", "\"eos_token_id\":7");
    assert_true(c.n_eos == 2 && c.eos[0] == 3 && c.eos[1] == 4);
    write_file("generation_config.json", "{\"eos_token_id\":null}", 21);
    c = loaded("llama", "\"eos_token_id\":[7,8,9]");
    assert_true(c.n_eos == 3 && c.eos[2] == 9);
    write_file("generation_config.json", "{\"eos_token_id\":-1}", 19);
    assert_int_equal(load(&c, "llama", ""), -1);
    assert_non_null(strstr(err_text(), "generation_config.json"));
    char path[200];
    snprintf(path, sizeof path, "%s/generation_config.json", dir);
    unlink(path);
}

/* What is written reads back as the same. */
static void test_round_trip(void **state)
{
    (void)state;
    static const struct { const char *type, *more; } cases[] = {
        { "llama", "\"eos_token_id\":[1,2],\"attention_bias\":true,\"mlp_bias\":true,\"rms_norm_eps\":1e-5" },
        { "llama", "\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"original_max_position_embeddings\":100}" },
        { "mistral", "\"sliding_window\":17,\"head_dim\":24" }, { "mistral", "\"sliding_window\":null,\"eos_token_id\":2" },
        { "qwen2", "\"use_sliding_window\":true,\"sliding_window\":9,\"max_window_layers\":2,\"tie_word_embeddings\":true" },
        { "qwen2", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":500,\"truncate\":false}" },
        { "qwen3", "\"attention_bias\":true,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.5},\"rope_theta\":1e6" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_config a = loaded(cases[i].type, cases[i].more), b;
        struct buf x = {0}, y = {0};
        config_put_json(&x, &a);
        write_file("config.json", x.data, x.len);
        assert_int_equal(config_load(&b, dir), 0);
        config_put_json(&y, &b);
        assert_string_equal(x.data, y.data);
        assert_true(a.window == b.window && a.window_from == b.window_from && a.n_eos == b.n_eos && a.qkv_bias == b.qkv_bias && a.mlp_bias == b.mlp_bias);
        assert_true(a.rope.kind == b.rope.kind && a.rope.factor == b.rope.factor && a.rope.attention_factor == b.rope.attention_factor);
        assert_true(a.norm_eps == b.norm_eps && a.max_position == b.max_position && a.d_head == b.d_head);
        buf_free(&x);
        buf_free(&y);
    }
}

/* The parameters of the published models, as their makers' files count them. */
static void test_shapes(void **state)
{
    (void)state;
    static const struct { const char *name; uint64_t n_params; } cases[] = {
        { "qwen3-0.6b", 596049920 }, { "qwen3-1.7b", 1720574976 }, { "qwen3-4b", 4022468096 }, { "qwen3-8b", 8190735360 },
        { "qwen3-14b", 14768307200 }, { "qwen3-32b", 32762123264 }, { "qwen2.5-0.5b", 494032768 }, { "qwen2.5-1.5b", 1543714304 },
        { "qwen2.5-7b", 7615616512 }, { "llama-2-7b", 6738415616 }, { "llama-3.1-8b", 8030261248 }, { "llama-3.2-1b", 1235814400 },
        { "llama-3.2-3b", 3212749824 }, { "mistral-7b", 7248023552 },
    };
    struct model_config c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(config_shape(&c, cases[i].name), 0);
        assert_int_equal(config_params(&c), cases[i].n_params);
        assert_true(c.arch == arch_find(c.model_type) && c.n_eos == 1 && c.eos[0] == BYTE_TOKENIZER_EOS);
        if (!c.qkv_bias)    /* biases stay f32 */
            assert_in_range(config_packed_bytes(&c, DTYPE_BF16), 2 * cases[i].n_params, 2 * cases[i].n_params + 4 * (1 << 20));
    }
    assert_int_equal(config_kv_bytes(&c, DTYPE_BF16), 131072);
    assert_int_equal(config_shape(&c, "qwen4"), -1);
    assert_non_null(strstr(err_text(), "no shape \"qwen4\"; there are qwen3-0.6b, "));
    assert_int_equal(config_shape(&c, "tests/golden/llama3/config.json"), 0);
    assert_true(c.n_vocab == 96 && c.n_eos == 0);
}

static void check_table(const char *more, const double *inv, double scale)
{
    struct model_config c = loaded("llama", more);
    enum { N_POS = 40 };
    float *table = mem_array((size_t)N_POS * c.d_head, sizeof *table);
    rope_table(table, N_POS, &c);
    for (uint32_t pos = 0; pos < N_POS; pos++)
        for (uint32_t i = 0; i < c.d_head / 2; i++) {
            const float *row = table + pos * c.d_head;
            assert_true(fabs((double)row[i] - scale * cos(pos * inv[i])) < 2e-5);
            assert_true(fabs((double)row[i + c.d_head / 2] - scale * sin(pos * inv[i])) < 2e-5);
        }
    free(table);
}

/* Four frequencies (d_head 8, theta 10000): 1, 0.1, 0.01, 0.001, wave lengths 6.3, 63, 628, 6283. */
static void test_rope_table(void **state)
{
    (void)state;
    check_table("", (double[]){ 1, 0.1, 0.01, 0.001 }, 1);
    check_table("\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}", (double[]){ 0.25, 0.025, 0.0025, 0.00025 }, 1);
    /* llama3, trained on 100, low 1, high 4: waves under 25 stay, over 100 are stretched, 62.8 is mixed */
    double smooth = (100 / (20 * M_PI) - 1) / 3;
    check_table("\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"original_max_position_embeddings\":100}",
                (double[]){ 1, 0.1 * ((1 - smooth) / 8 + smooth), 0.01 / 8, 0.001 / 8 }, 1);
    /* yarn, trained on 1000: 32 turns at dimension 8 ln(1000 / 64 pi) / (2 ln 10000) = 0.70 -> 0, 1 turn at 2.20 -> 3 */
    check_table("\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4}",
                (double[]){ 1, 0.1 * (1. / 3 / 4 + 2. / 3), 0.01 * (2. / 3 / 4 + 1. / 3), 0.001 / 4 }, 0.1 * log(4) + 1);
}

static void test_byte_tokenizer(void **state)
{
    (void)state;
    struct buf b = {0};
    byte_tokenizer_put_json(&b);
    struct json *root = json_parse(b.data, b.len);
    assert_non_null(root);
    const struct json *vocab = json_get(json_get(root, "model"), "vocab");
    int64_t id = -1;
    assert_int_equal(json_len(vocab), 256);
    assert_true(json_int(json_get(vocab, "a"), &id) && id == 'a');
    assert_true(json_int(json_get(vocab, "\xc4\xa0"), &id) && id == ' ');      /* U+0120 stands for the space */
    assert_true(json_int(json_get(vocab, "\xc3\xbf"), &id) && id == 255);
    json_free(root);
    buf_free(&b);
}

/* Bytes changed at random: refused, or read as something whose sizes are sane. */
static void test_mutations(void **state)
{
    (void)state;
    static const char whole[] =
        "{\"model_type\":\"qwen2\",\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":4,\"num_attention_heads\":8,\"num_key_value_heads\":2,"
        "\"vocab_size\":300,\"max_position_embeddings\":1000,\"use_sliding_window\":true,\"sliding_window\":9,\"max_window_layers\":2,\"eos_token_id\":[1,2],"
        "\"layer_types\":[\"full_attention\",\"full_attention\",\"sliding_attention\",\"sliding_attention\"],"
        "\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":4,\"rope_theta\":10000,\"original_max_position_embeddings\":250}}";
    struct rng r;
    unsigned n_read = 0;
    rng_init(&r, 2);
    for (int i = 0; i < 1500; i++) {
        char text[sizeof whole];
        struct model_config c;
        memcpy(text, whole, sizeof whole);
        for (uint32_t n = rng_below(&r, 3) + 1; n; n--) {
            uint32_t at = rng_below(&r, sizeof whole - 1);
            text[at] = text[at] >= '0' && text[at] <= '9' ? (char)('0' + rng_below(&r, 10)) : (char)(32 + rng_below(&r, 96));
        }
        write_file("config.json", text, sizeof text - 1);
        if (config_load(&c, dir) != 0)
            continue;
        n_read++;
        float row[2 * 256];
        rope_table(row, 2, &c);
        assert_true(c.n_head % c.n_kv_head == 0 && c.d_head % 8 == 0 && c.window_from <= c.n_layer && c.n_eos <= CONFIG_MAX_EOS);
        assert_true(config_params(&c) > 0);
    }
    print_message("  %u of 1500 mutated files are still right\n", n_read);
    assert_in_range(n_read, 1, 1499);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_window), cmocka_unit_test(test_rope_keys), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_eos), cmocka_unit_test(test_round_trip), cmocka_unit_test(test_shapes), cmocka_unit_test(test_rope_table),
        cmocka_unit_test(test_byte_tokenizer), cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
