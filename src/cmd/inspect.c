/* tokmill inspect: what is in a model and what it needs, without loading it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/num.h"
#include "cmd/cmd.h"
#include "data/table.h"
#include "data/tensors.h"
#include "data/tokenizer.h"
#include "model/arch.h"
#include "model/config.h"

struct inspect_opts { bool json; int64_t seqs, len; };

const struct opt inspect_options[] = {
    {"json", 0, OPT_FLAG, NULL, offsetof(struct inspect_opts, json), NULL, "one JSON object", NULL, 0, 0},
    {"seqs", 0, OPT_INT, "N", offsetof(struct inspect_opts, seqs), "64", "sequences to count memory for", NULL, 1, 1e6},
    {"len", 0, OPT_INT, "TOKENS", offsetof(struct inspect_opts, len), "1024", "tokens of each sequence, prompt and answer", NULL, 1, 1e9},
    {0},
};

/* Everything that is told, for --json as it stands here. */
struct facts {
    const char *model, *family, *class_name, *rope, *weight_types;
    uint64_t n_layer, d_model, n_head, n_kv_head, d_head, d_ff, n_vocab, max_position, window, window_from;
    double rope_theta, rope_factor;
    bool tied;
    uint64_t n_params, n_tensor, file_bytes;
    uint64_t bf16_bytes, int8_bytes, kv_bytes_per_token;
    uint64_t n_seq, seq_tokens, kv_bytes, total_bf16_bytes, total_int8_bytes;
    uint64_t fp8_bytes, kv_fp8_bytes_per_token, total_fp8_bytes;
    const char *eos;
    uint64_t tokenizer_n_vocab;        /* 0: none */
    const char *tokenizer;             /* for people: how many tokens, or why there is none */
};

#define FACT(field, kind) { #field, kind, offsetof(struct facts, field) }

static const struct column columns[] = {
    FACT(model, COLUMN_TEXT), FACT(family, COLUMN_TEXT), FACT(class_name, COLUMN_TEXT), FACT(n_layer, COLUMN_U64), FACT(d_model, COLUMN_U64),
    FACT(n_head, COLUMN_U64), FACT(n_kv_head, COLUMN_U64), FACT(d_head, COLUMN_U64), FACT(d_ff, COLUMN_U64), FACT(n_vocab, COLUMN_U64),
    FACT(max_position, COLUMN_U64), FACT(window, COLUMN_U64), FACT(window_from, COLUMN_U64), FACT(rope, COLUMN_TEXT),
    FACT(rope_theta, COLUMN_REAL), FACT(rope_factor, COLUMN_REAL), FACT(tied, COLUMN_BOOL), FACT(eos, COLUMN_TEXT),
    FACT(n_params, COLUMN_U64), FACT(n_tensor, COLUMN_U64), FACT(weight_types, COLUMN_TEXT), FACT(file_bytes, COLUMN_U64),
    FACT(bf16_bytes, COLUMN_U64), FACT(int8_bytes, COLUMN_U64), FACT(kv_bytes_per_token, COLUMN_U64), FACT(n_seq, COLUMN_U64),
    FACT(seq_tokens, COLUMN_U64), FACT(kv_bytes, COLUMN_U64), FACT(total_bf16_bytes, COLUMN_U64), FACT(total_int8_bytes, COLUMN_U64),
    FACT(tokenizer_n_vocab, COLUMN_U64), FACT(fp8_bytes, COLUMN_U64), FACT(kv_fp8_bytes_per_token, COLUMN_U64),
    FACT(total_fp8_bytes, COLUMN_U64), {0},
};

static void tell_shape(struct facts *f, const struct model_config *c)
{
    static const char *const ropes[] = { [ROPE_PLAIN] = "plain", [ROPE_LINEAR] = "linear", [ROPE_LLAMA3] = "llama3", [ROPE_YARN] = "yarn" };
    f->family = c->arch->model_type, f->class_name = c->arch->class_name;
    f->n_layer = c->n_layer, f->d_model = c->d_model, f->n_head = c->n_head, f->n_kv_head = c->n_kv_head, f->d_head = c->d_head;
    f->d_ff = c->d_ff, f->n_vocab = c->n_vocab, f->max_position = c->max_position, f->window = c->window, f->window_from = c->window_from;
    f->rope = ropes[c->rope.kind], f->rope_theta = c->rope.theta, f->rope_factor = c->rope.kind == ROPE_PLAIN ? 1 : c->rope.factor;
    f->tied = c->tied;
}

static void tell_memory(struct facts *f, const struct model_config *c, const struct inspect_opts *o)
{
    f->n_params = config_params(c);
    f->bf16_bytes = config_packed_bytes(c, DTYPE_BF16);
    f->int8_bytes = config_packed_bytes(c, DTYPE_I8);
    f->kv_bytes_per_token = config_kv_bytes(c, DTYPE_BF16);
    f->n_seq = (uint64_t)o->seqs, f->seq_tokens = (uint64_t)o->len;
    f->kv_bytes = f->n_seq * f->seq_tokens * f->kv_bytes_per_token;
    f->total_bf16_bytes = f->bf16_bytes + f->kv_bytes;
    f->total_int8_bytes = f->int8_bytes + f->kv_bytes;
    f->fp8_bytes = config_packed_bytes(c, DTYPE_E4M3);
    f->kv_fp8_bytes_per_token = config_kv_bytes(c, DTYPE_E4M3);
    f->total_fp8_bytes = f->fp8_bytes + f->n_seq * f->seq_tokens * f->kv_fp8_bytes_per_token;
}

/* What the files hold: the types that occur ("BF16, F32") and the bytes. */
static void tell_files(struct facts *f, struct buf *types, const struct tensors *t)
{
    f->n_tensor = tensors_count(t);
    f->file_bytes = tensors_file_bytes(t);
    for (size_t i = 0; i < tensors_count(t); i++) {
        const char *type = tensors_at(t, i)->type;
        bool seen = false;
        for (size_t k = 0; k < i && !seen; k++)
            seen = tensors_at(t, k)->type == type;      /* the names of types are one string each */
        if (!seen)
            buf_printf(types, "%s%s", types->len ? ", " : "", type);
    }
    f->weight_types = types->data;
}

static void tell_tokenizer(struct facts *f, struct buf *text, const char *folder)
{
    struct tokenizer *t = tokenizer_open(folder);
    if (t) {
        f->tokenizer_n_vocab = tokenizer_n_vocab(t);
        buf_printf(text, "%llu tokens", (unsigned long long)f->tokenizer_n_vocab);
    } else {
        buf_printf(text, "none: %s", err_text());
    }
    tokenizer_close(t);
    f->tokenizer = text->data;
}

static void tell_eos(struct facts *f, struct buf *text, const struct model_config *c)
{
    for (uint32_t i = 0; i < c->n_eos; i++)
        buf_printf(text, "%s%d", i ? ", " : "", c->eos[i]);
    buf_puts(text, c->n_eos ? "" : "none");
    f->eos = text->data;
}

/* "1.11 GiB"; the text lives until the fourth next call. */
static const char *size_text(uint64_t bytes)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
    static char texts[4][32];
    static int next;
    double v = (double)bytes;
    size_t u = 0;
    for (; v >= 1024 && u < 4; u++)
        v /= 1024;
    char *text = texts[next++ % 4];
    snprintf(text, sizeof texts[0], "%.*f %s", u ? 2 : 0, v, units[u]);
    return text;
}

static void print_shape(const struct facts *f)
{
    printf("model        %s\n", f->model);
    printf("family       %s (%s)\n", f->family, f->class_name);
    printf("layers       %llu, width %llu, FFN %llu\n", (unsigned long long)f->n_layer, (unsigned long long)f->d_model, (unsigned long long)f->d_ff);
    printf("attention    %llu heads of %llu, %llu for keys and values", (unsigned long long)f->n_head, (unsigned long long)f->d_head,
           (unsigned long long)f->n_kv_head);
    if (f->window)
        printf(", window %llu from layer %llu on", (unsigned long long)f->window, (unsigned long long)f->window_from);
    printf("\ncontext      %llu tokens, %s rope of theta %g", (unsigned long long)f->max_position, f->rope, f->rope_theta);
    if (f->rope_factor != 1)
        printf(", factor %g", f->rope_factor);
    printf("\nvocabulary   %llu, end of text %s, %s\n", (unsigned long long)f->n_vocab, f->eos,
           f->tied ? "embedding and head are one" : "embedding and head apart");
}

static void print_facts(const struct facts *f)
{
    print_shape(f);
    printf("parameters   %.2f million\n", (double)f->n_params * 1e-6);
    if (f->n_tensor)
        printf("files        %s: %llu tensors of %s\n", size_text(f->file_bytes), (unsigned long long)f->n_tensor, f->weight_types);
    printf("weights      %s packed in bf16, %s in int8, %s in fp8\n", size_text(f->bf16_bytes), size_text(f->int8_bytes), size_text(f->fp8_bytes));
    printf("KV           %s a token in bf16, %s in fp8\n", size_text(f->kv_bytes_per_token), size_text(f->kv_fp8_bytes_per_token));
    printf("memory       %llu sequences of %llu tokens: KV %s; with the weights %s in bf16, %s in int8, %s all in fp8\n", (unsigned long long)f->n_seq,
           (unsigned long long)f->seq_tokens, size_text(f->kv_bytes), size_text(f->total_bf16_bytes), size_text(f->total_int8_bytes),
           size_text(f->total_fp8_bytes));
    if (f->tokenizer)
        printf("tokenizer    %s\n", f->tokenizer);
}

static void print_json(const struct facts *f)
{
    struct buf b = {0};
    table_json_object(&b, columns, f);
    puts(b.data);
    buf_free(&b);
}

/* A folder with weights, or only a shape: random:NAME, NAME, config.json. */
static bool is_folder(const char *model)
{
    struct stat st;
    return strncmp(model, "random:", 7) != 0 && stat(model, &st) == 0 && S_ISDIR(st.st_mode);
}

int cmd_inspect(int argc, char **argv)
{
    struct inspect_opts o = {0};
    struct model_config c;
    struct facts f = {0};
    struct buf types = {0}, tokenizer = {0}, eos = {0};
    int first = cmd_options(&o, argc, argv);
    if (argc - first != 1)
        die("inspect: one model is expected, %d given", argc - first);
    f.model = argv[first];
    if (is_folder(f.model)) {
        struct tensors *t = config_load(&c, f.model) == 0 ? tensors_open(f.model) : NULL;
        if (!t)
            die("%s", err_text());
        tell_files(&f, &types, t);
        tensors_close(t);
        tell_tokenizer(&f, &tokenizer, f.model);
    } else if (config_shape(&c, f.model + (strncmp(f.model, "random:", 7) == 0 ? 7 : 0)) != 0) {
        die("%s", err_text());
    }
    tell_shape(&f, &c);
    tell_eos(&f, &eos, &c);
    tell_memory(&f, &c, &o);
    (o.json ? print_json : print_facts)(&f);
    buf_free(&types);
    buf_free(&tokenizer);
    buf_free(&eos);
    return EXIT_GOOD;
}
