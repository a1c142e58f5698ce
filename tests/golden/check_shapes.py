#!/usr/bin/env python3
"""check_shapes.py - greedy tokens of models of about 20 million parameters, tokmill against transformers, both in float32.

    python3 tests/golden/check_shapes.py [--tokmill build/tokmill] [NAME...]      (needs torch, transformers, safetensors; takes minutes)

The vectors of make_golden.py are of models too small for every path through the kernels.  Here each shape gets random weights
from `tokmill make-model`, widened so that attention is sharp and an answer does not run into one token for ever; transformers
continues 20 prompts of 1 to 400 tokens by 64 tokens, one prompt at a time, and tokmill must give the same tokens alone, in a
batch, with chunked prefill, a prefix cache and too few KV blocks.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

N_PROMPT, N_NEW, MAX_PROMPT, N_VOCAB = 20, 64, 400, 4096

COMMON = {"hidden_act": "silu", "vocab_size": N_VOCAB, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}
SHAPES = {
    "llama": {"model_type": "llama", "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 6, "num_attention_heads": 8,
              "num_key_value_heads": 2, "rope_theta": 500000.0,
              "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                               "original_max_position_embeddings": 128}},
    "qwen3": {"model_type": "qwen3", "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 5, "num_attention_heads": 6,
              "num_key_value_heads": 2, "head_dim": 128, "tie_word_embeddings": True, "rope_theta": 1000000.0},
    "mistral": {"model_type": "mistral", "hidden_size": 640, "intermediate_size": 1200, "num_hidden_layers": 4, "num_attention_heads": 8,
                "num_key_value_heads": 4, "head_dim": 80, "sliding_window": 100},
    "qwen2": {"model_type": "qwen2", "hidden_size": 448, "intermediate_size": 2000, "num_hidden_layers": 6, "num_attention_heads": 7,
              "num_key_value_heads": 1, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}},
}

# options of tokmill run: what may not change a token
WAYS = {
    "alone": ["--max-seqs", "1", "--no-prefix-cache"],
    "batch": ["--max-seqs", "20", "--max-step-tokens", "512"],
    "chunks": ["--max-seqs", "7", "--max-step-tokens", "48", "--order", "longest"],
    "few blocks": ["--max-seqs", "12", "--max-step-tokens", "100", "--kv-blocks", "40", "--threads", "2"],
}


def make_prompts(seed):
    """Lengths spread over the range, both ends in it; every third prompt opens as an earlier one does."""
    rng = random.Random(seed)
    prompts = []
    for i in range(N_PROMPT):
        n = 1 + (MAX_PROMPT - 1) * i // (N_PROMPT - 1)
        shared = rng.choice(prompts)[:n // 2] if i % 3 == 2 else []
        prompts.append(shared + [rng.randrange(N_VOCAB) for _ in range(n - len(shared))])
    rng.shuffle(prompts)
    return prompts


def widen(folder):
    """By powers of two, which bf16 holds exactly."""
    path = f"{folder}/model.safetensors"
    wider = {"q_proj.weight": 4, "k_proj.weight": 4, "q_proj.bias": 16, "k_proj.bias": 16, "q_norm.weight": 2, "k_norm.weight": 2}
    save_file({name: t * wider.get(".".join(name.split(".")[-2:]), 1) for name, t in load_file(path).items()}, path)


@torch.inference_mode()
def continue_greedily(model, prompt):
    """The next tokens, and at each the lead of the best logit over the second, relative to the largest."""
    ids = torch.tensor([prompt])
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=N_NEW, do_sample=False, eos_token_id=None, pad_token_id=0,
                          output_logits=True, return_dict_in_generate=True)
    best = [row[0].topk(2).values for row in made.logits]
    return made.sequences[0, len(prompt):].tolist(), [float((b[0] - b[1]) / row.abs().max()) for b, row in zip(best, made.logits)]


def run_tokmill(tokmill, folder, prompts, options):
    lines = "".join(json.dumps({"prompt_token_ids": p, "max_tokens": N_NEW, "ignore_eos": True}) + "\n" for p in prompts)
    command = [tokmill, "run", "-q", "-m", folder, "--compute", "f32", "--ordered", "--token-ids", "--results", "none", *options, "-"]
    rows = subprocess.run(command, input=lines, check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(row)["token_ids"] for row in rows]


def compare(name, way, made, expected):
    """True if every answer is the same; else says where the first token differs."""
    good = True
    for i, (ours, (theirs, lead)) in enumerate(zip(made, expected, strict=True)):
        if ours != theirs:
            at = next((k for k, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
            print(f"{name}, {way}: prompt {i} differs from token {at} on (lead there {lead[at]:.1e})")
            good = False
    return good


def check(name, shape, tokmill, folder):
    config = pathlib.Path(folder, f"{name}.json")
    config.write_text(json.dumps(COMMON | shape))
    made_at = f"{folder}/{name}"
    subprocess.run([tokmill, "make-model", "--shape", str(config), "--seed", "3", made_at], check=True, stdout=subprocess.DEVNULL)
    widen(made_at)
    model = transformers.AutoModelForCausalLM.from_pretrained(made_at, dtype=torch.float32).eval()
    prompts = make_prompts(name)
    expected = [continue_greedily(model, prompt) for prompt in prompts]
    good = [compare(name, way, run_tokmill(tokmill, made_at, prompts, options), expected) for way, options in WAYS.items()]
    leads = [lead for _, row in expected for lead in row]
    print(f"{name}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters, {sum(good)} of {len(good)} ways the same "
          f"{len(leads)} tokens ({len({t for row, _ in expected for t in row})} different ones), smallest lead {min(leads):.1e}")
    return all(good)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--tokmill", default="build/tokmill")
    args.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SHAPES)} (default: all)")
    args = args.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        good = [check(name, SHAPES[name], args.tokmill, folder) for name in args.names or SHAPES]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
