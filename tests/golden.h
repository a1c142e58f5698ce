/* golden.h - for the tests of whole models: the vectors of tests/golden/, made with transformers by make_golden.py. */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "data/json.h"

static const char *const golden_names[] = {
    "llama2", "llama3", "llama-bias", "mistral", "mistral-full", "qwen2", "qwen2-window", "qwen2.5-tied", "qwen2.5-yarn", "qwen3", "qwen3-sharded",
    "qwen3-wide",
};

enum { N_GOLDEN = sizeof golden_names / sizeof *golden_names };

/* A prompt, its greedy continuation, and the logits [n_row, n_vocab] of the prompt's last rows. */
struct golden { int32_t prompt[64], greedy[64]; uint32_t n_prompt, n_greedy, n_row, n_vocab; float *logits; };

static inline uint32_t read_ids(const struct json *list, int32_t *ids)
{
    for (size_t i = 0; i < json_len(list); i++) {
        int64_t id = 0;
        assert_true(i < 64 && json_int(json_at(list, i), &id));
        ids[i] = (int32_t)id;
    }
    return (uint32_t)json_len(list);
}

static inline void golden_read(struct golden *g, const char *folder)
{
    char path[200];
    snprintf(path, sizeof path, "%s/expected.json", folder);
    struct json *root = json_parse_file(path);
    if (!root)
        fail_msg("%s", err_text());
    const struct json *rows = json_get(root, "logits");
    g->n_prompt = read_ids(json_get(root, "prompt"), g->prompt);
    g->n_greedy = read_ids(json_get(root, "greedy"), g->greedy);
    g->n_row = (uint32_t)json_len(rows), g->n_vocab = (uint32_t)json_len(json_at(rows, 0));
    g->logits = mem_array((size_t)g->n_row * g->n_vocab, sizeof(float));
    for (size_t i = 0; i < (size_t)g->n_row * g->n_vocab; i++) {
        double v = 0;
        assert_true(json_number(json_at(json_at(rows, i / g->n_vocab), i % g->n_vocab), &v));
        g->logits[i] = (float)v;
    }
    json_free(root);
}

#endif
