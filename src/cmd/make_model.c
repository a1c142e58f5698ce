/* tokmill make-model: a model of a real shape with random weights, for benchmarks. */
#include <stdio.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "model/weights.h"

struct make_model_opts { const char *shape; int64_t seed; };

const struct opt make_model_options[] = {
    {"shape", 0, OPT_TEXT, "NAME|FILE", offsetof(struct make_model_opts, shape), NULL, "a published shape (qwen3-0.6b, llama-3.1-8b, ...; a wrong name lists all) or a config.json", NULL, 0, 0},
    {"seed", 0, OPT_INT, "N", offsetof(struct make_model_opts, seed), "0", "of the weights; random:NAME has those of its run's seed", NULL, 0, 0},
    {0},
};

int cmd_make_model(int argc, char **argv)
{
    struct make_model_opts o = {0};
    struct model_config c;
    int first = cmd_options(&o, argc, argv);
    if (!o.shape)
        die("make-model: no shape: give --shape qwen3-0.6b, or a config.json");
    if (argc - first != 1)
        die("make-model: one folder to write is expected, %d given", argc - first);
    if (config_shape(&c, o.shape) != 0 || model_make(&c, (uint64_t)o.seed, argv[first]) != 0)
        die("%s", err_text());
    printf("%s: %s, %.2f million parameters in bf16, seed %lld%s\n", argv[first], c.model_type, (double)config_params(&c) * 1e-6,
           (long long)o.seed, c.n_vocab > BYTE_TOKENIZER_EOS ? "" : "; its vocabulary is too small for a tokenizer");
    return EXIT_GOOD;
}
