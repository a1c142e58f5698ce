#!/usr/bin/env python3
"""Makes tests/golden/<name>/: tiny random models of every family and variant that tokmill supports, each with what
transformers computes for it in float32 (expected.json: prompt ids, logits of the last rows, greedy continuation).

    python3 tests/golden/make_golden.py [NAME...]      (default: all; needs torch, transformers, safetensors; takes a minute)

The weights are drawn wide so that attention, norms and biases all matter.  The seed is moved on until the greedy text is
not one token again and again, every choice in it is clear by far more than the rounding of float32, and transformers' own
bfloat16 is near its float32: a model of 32 dimensions can magnify rounding without end, which would test nothing.
"""
import copy
import json
import pathlib
import shutil
import struct
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

HERE = pathlib.Path(__file__).parent
N_PROMPT, N_GREEDY, N_ROWS = 60, 32, 3
MIN_LEAD, MIN_DIFFERENT, MAX_BF16_ERROR = 2e-3, 5, 1e-2

TINY = dict(vocab_size=96, hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2)


def shape(**more):
    return {**TINY, **more}


def rope(kind, theta=10000.0, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


# name: config, dtype of the file, what is done to the folder afterwards
MODELS = {
    "llama2": (LlamaConfig(**shape(num_key_value_heads=4)), torch.float32, []),
    "llama3": (LlamaConfig(**shape(num_attention_heads=8, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True, eos_token_id=[2, 5, 7],
                                   **rope("llama3", 500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                          original_max_position_embeddings=64))), torch.bfloat16, ["old_rope"]),
    "llama-bias": (LlamaConfig(**shape(attention_bias=True, mlp_bias=True, head_dim=40, **rope("linear", factor=4.0))),
                   torch.float16, ["unaligned"]),
    "mistral": (MistralConfig(**shape(num_hidden_layers=3, head_dim=16, sliding_window=24)), torch.bfloat16, []),
    "mistral-full": (MistralConfig(**shape(sliding_window=None)), torch.float16, ["old_rope"]),
    "qwen2": (Qwen2Config(**shape(num_attention_heads=2, num_key_value_heads=1)), torch.bfloat16, ["old_rope"]),
    "qwen2-window": (Qwen2Config(**shape(num_hidden_layers=3, use_sliding_window=True, sliding_window=20, max_window_layers=1)),
                     torch.bfloat16, []),
    "qwen2.5-tied": (Qwen2Config(**shape(tie_word_embeddings=True, **rope("default", 1e6))), torch.bfloat16, ["no_prefix"]),
    "qwen2.5-yarn": (Qwen2Config(**shape(**rope("yarn", 1e4, factor=4.0, original_max_position_embeddings=32))), torch.bfloat16, []),
    "qwen3": (Qwen3Config(**shape(head_dim=16, tie_word_embeddings=True, **rope("default", 1e6))), torch.bfloat16, ["old_rope", "head_twice"]),
    "qwen3-sharded": (Qwen3Config(**shape(num_hidden_layers=3, head_dim=24, attention_bias=True,
                                          **rope("yarn", 1e4, factor=2.0, original_max_position_embeddings=64, beta_fast=16.0,
                                                 beta_slow=2.0, attention_factor=1.25))), torch.bfloat16, ["shards"]),
    "qwen3-wide": (Qwen3Config(**shape(num_hidden_layers=1, num_attention_heads=3, num_key_value_heads=1, head_dim=128)), torch.float16, []),
}


def randomise(model, dtype):
    """Normal weights, norms around 1; values that the file's type holds exactly."""
    for name, p in model.named_parameters():
        if "norm" in name:
            p.data = 1 + 0.2 * torch.randn_like(p)
        else:
            p.data = torch.randn_like(p) * (0.3 if "embed" in name else 0.2 if model.config.tie_word_embeddings else 0.14)
        p.data = p.data.to(dtype).float()


def bf16_error(model, ids):
    """How far the model in bfloat16 is from itself in float32, relative to the largest logit."""
    exact = model(input_ids=ids, use_cache=False).logits[0, -N_ROWS:]
    rounded = copy.deepcopy(model).bfloat16()(input_ids=ids, use_cache=False).logits[0, -N_ROWS:].float()
    return float((rounded - exact).abs().max() / exact.abs().max())


def run(model):
    """The logits of the prompt, the greedy tokens, and the smallest lead of a chosen token (relative to the largest logit);
    None if bfloat16 is too far away."""
    ids = torch.randint(3, TINY["vocab_size"], (1, N_PROMPT))
    prompt, logits, lead = ids[0].tolist(), None, 1.0
    if bf16_error(model, ids) > MAX_BF16_ERROR:
        return None
    for _ in range(N_GREEDY):
        out = model(input_ids=ids, use_cache=False).logits[0]
        logits = out if logits is None else logits
        best = out[-1].topk(2).values
        lead = min(lead, float((best[0] - best[1]) / out[-1].abs().max()))
        ids = torch.cat([ids, out[-1].argmax().view(1, 1)], dim=1)
    return prompt, logits, ids[0, N_PROMPT:].tolist(), lead


def old_rope(folder):
    """config.json as it was written before rope_parameters and dtype."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = None if parameters["rope_type"] == "default" else parameters
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def unaligned(folder):
    """The same file with a header of odd length: the data of two-byte numbers begins at odd addresses."""
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = raw[8:8 + n].rstrip()
    header += b" " * (1 - len(header) % 2)
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + n:])


def no_prefix(folder):
    """The tensors of the bare model, without "model." (as exported by some tools)."""
    path = folder / "model.safetensors"
    save_file({name.removeprefix("model."): t for name, t in load_file(path).items()}, path)


def head_twice(folder):
    """A tied head in the file once more."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, path)


def make(name, config, dtype, steps):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    for seed in range(10000):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        randomise(model, dtype)
        with torch.no_grad():
            result = run(model)
        if result and result[3] >= MIN_LEAD and len(set(result[2])) >= MIN_DIFFERENT:
            break
    prompt, logits, greedy, lead = result
    model.to(dtype).save_pretrained(folder, max_shard_size="24KB" if "shards" in steps else "1GB")
    for step in steps:
        if step != "shards":
            globals()[step](folder)
    rows = [[float(f"{x:.8g}") for x in row] for row in logits[-N_ROWS:].tolist()]
    (folder / "expected.json").write_text(json.dumps({"prompt": prompt, "greedy": greedy, "logits": rows}) + "\n")
    print(f"{name}: seed {seed}, smallest lead {lead:.4f}, {sum(f.stat().st_size for f in folder.iterdir())} bytes, {len(set(greedy))} different tokens")


torch.set_num_threads(1)
for name in sys.argv[1:] or MODELS:
    make(name, *MODELS[name])
