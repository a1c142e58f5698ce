/* make.c - a model with random weights as a Hugging Face folder, written piece by piece. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "data/json.h"
#include "model/random.h"
#include "model/weights.h"

#define SHARD_SIZE ((uint64_t)5000000000)      /* as transformers cuts them by default */
#define PIECE ((size_t)1 << 20)                 /* elements made at a time */

struct shard { size_t first, n; char name[64]; };

static int write_text(const char *folder, const char *name, const struct buf *text)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", folder, name);
    FILE *f = fopen(path.data, "wbe");
    bool failed = !f || fwrite(text->data, 1, text->len, f) != text->len;
    if (f && fclose(f) != 0)
        failed = true;
    int bad = failed ? err_set("%s: cannot be written: %s", path.data, strerror(errno)) : 0;
    buf_free(&path);
    return bad;
}

static uint64_t bytes_of(const struct tensor_info *info)
{
    return random_elements(info) * sizeof(uint16_t);
}

static struct shard *cut(const struct random_model *r, size_t *n_shard)
{
    struct shard *shards = NULL;
    uint64_t size = 0;
    *n_shard = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (i == 0 || size + bytes_of(&r->infos[i]) > SHARD_SIZE) {
            shards = mem_resize(shards, *n_shard + 1, sizeof *shards);
            shards[(*n_shard)++] = (struct shard){ .first = i };
            size = 0;
        }
        shards[*n_shard - 1].n++;
        size += bytes_of(&r->infos[i]);
    }
    for (size_t i = 0; i < *n_shard; i++)
        snprintf(shards[i].name, sizeof shards[i].name, *n_shard == 1 ? "model.safetensors" : "model-%05zu-of-%05zu.safetensors", i + 1, *n_shard);
    return shards;
}

static int write_tensor(struct tensors_writer *w, const struct random_model *r, const struct tensor_info *info, uint16_t *piece)
{
    uint64_t n = random_elements(info);
    for (uint64_t at = 0; at < n; at += PIECE) {
        size_t count = n - at < PIECE ? (size_t)(n - at) : PIECE;
        random_fill(r, info, at, piece, count);
        if (tensors_writer_put(w, piece, count * sizeof *piece) != 0)
            return -1;
    }
    return 0;
}

static int write_shard(const char *folder, const struct random_model *r, const struct shard *s, uint16_t *piece)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", folder, s->name);
    struct tensors_writer *w = tensors_writer_open(path.data, r->infos + s->first, s->n);
    buf_free(&path);
    if (!w)
        return -1;
    for (size_t i = 0; i < s->n; i++)
        if (write_tensor(w, r, &r->infos[s->first + i], piece) != 0)
            break;                      /* closing sees that data is missing, or the error again */
    return tensors_writer_close(w);
}

static int write_index(const char *folder, const struct random_model *r, const struct shard *shards, size_t n_shard)
{
    struct buf b = {0};
    uint64_t total = 0;
    for (size_t i = 0; i < r->n; i++)
        total += bytes_of(&r->infos[i]);
    buf_printf(&b, "{\n  \"metadata\": {\"total_size\": %llu},\n  \"weight_map\": {", (unsigned long long)total);
    for (size_t s = 0; s < n_shard; s++)
        for (size_t i = shards[s].first; i < shards[s].first + shards[s].n; i++)
            buf_printf(&b, "%s\n    \"%s\": \"%s\"", i ? "," : "", r->infos[i].name, shards[s].name);
    buf_puts(&b, "\n  }\n}\n");
    int bad = write_text(folder, "model.safetensors.index.json", &b);
    buf_free(&b);
    return bad;
}

static int write_weights(const char *folder, const struct random_model *r)
{
    size_t n_shard;
    struct shard *shards = cut(r, &n_shard);
    uint16_t *piece = mem_array(PIECE, sizeof *piece);
    int bad = 0;
    for (size_t i = 0; i < n_shard && !bad; i++)
        bad = write_shard(folder, r, &shards[i], piece);
    if (!bad && n_shard > 1)
        bad = write_index(folder, r, shards, n_shard);
    free(piece);
    free(shards);
    return bad;
}

static int write_configs(const char *folder, const struct model_config *c)
{
    struct buf b = {0};
    config_put_generation_json(&b, c);
    int bad = write_text(folder, "generation_config.json", &b);
    buf_clear(&b);
    config_put_json(&b, c);
    if (!bad)
        bad = write_text(folder, "config.json", &b);
    buf_free(&b);
    return bad;
}

static int write_tokenizer(const char *folder, const struct model_config *c)
{
    struct buf b = {0};
    if (c->n_vocab <= BYTE_TOKENIZER_EOS)
        return 0;
    byte_tokenizer_put_json(&b);
    int bad = write_text(folder, "tokenizer.json", &b);
    buf_clear(&b);
    buf_printf(&b, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"eos_token\": \"<|endoftext|>\",\n  \"model_max_length\": %u\n}\n", c->max_position);
    if (!bad)
        bad = write_text(folder, "tokenizer_config.json", &b);
    buf_free(&b);
    return bad;
}

static int make_folder(const char *folder)
{
    struct buf path = {0};
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return err_set("%s: cannot be made: %s", folder, strerror(errno));
    buf_printf(&path, "%s/config.json", folder);
    bool taken = access(path.data, F_OK) == 0;
    buf_free(&path);
    return taken ? err_set("%s: there is a model in this folder already; choose another one", folder) : 0;
}

int model_make(const struct model_config *c, uint64_t seed, const char *folder)
{
    struct random_model r;
    if (make_folder(folder) != 0)
        return -1;
    random_open(&r, c, seed);
    int bad = write_weights(folder, &r);
    random_close(&r);
    if (bad || write_tokenizer(folder, c) != 0)
        return -1;
    return write_configs(folder, c);        /* config.json last: a folder that has one is whole */
}
