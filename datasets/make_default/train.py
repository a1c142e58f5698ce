#!/usr/bin/env python3
"""train.py - trains the default model and saves it in Hugging Face form.

    python3 train.py --out DIR --minutes 50      tokenizer, config and weights go to DIR
    python3 train.py --start DIR --out DIR2 --minutes 15 --rate 0.5 --more count,story      goes on from there

The start and the stream of samples are seeded.  The learning rate follows the wall clock, so the number
of steps depends on the machine; --steps N ends (and scales the schedule) by steps instead.
"""
import argparse
import json
import pathlib
import random
import tempfile
import time

import torch
import torch.distributed
import torch.multiprocessing
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AttentionInterface, Qwen3Config, Qwen3ForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import tasks

SEED = 7
N_VOCAB = 832
END, CHAT_START, CHAT_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIALS = (END, CHAT_START, CHAT_END)
CHAT_SHARE = 0.08       # of the samples are wrapped as a chat turn

QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")

CHAT_TEMPLATE = ("{% for message in messages %}"
                 "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
                 "{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


# ---- tokenizer -------------------------------------------------------------------------------

def tokenizer_texts(n_sample=20000):
    """What the merges are learned from: training samples, and every list word often, bare and after a space."""
    stream = tasks.training_stream(SEED)
    for _ in range(n_sample):
        _, prompt, answer = next(stream)
        yield prompt + answer
    for word in tasks.WORDS + tasks.NAMES:
        yield f"{word}\n {word}\n" * 3000


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=N_VOCAB - len(SPECIALS), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(tokenizer_texts(), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    assert tokenizer.get_vocab_size() == N_VOCAB
    return tokenizer


# ---- model -----------------------------------------------------------------------------------

def make_config(tokenizer):
    return Qwen3Config(
        vocab_size=N_VOCAB, hidden_size=192, intermediate_size=384, num_hidden_layers=5, num_attention_heads=8,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=512, rms_norm_eps=1e-6, hidden_act="silu",
        initializer_range=0.02, tie_word_embeddings=True, attention_bias=False, attention_dropout=0.0, use_cache=True,
        use_sliding_window=False, bos_token_id=None, eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(END))


def plain_config(config, tokenizer):
    """config.json as published checkpoints write it, without what the library adds of its own."""
    keys = ("vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
            "max_position_embeddings rms_norm_eps hidden_act initializer_range tie_word_embeddings attention_bias "
            "attention_dropout use_cache use_sliding_window").split()
    plain = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16"}
    plain |= {key: getattr(config, key) for key in keys}
    plain |= {"rope_theta": 10000.0, "rope_scaling": None, "sliding_window": None, "max_window_layers": config.num_hidden_layers,
              "eos_token_id": tokenizer.token_to_id(END), "pad_token_id": tokenizer.token_to_id(END)}
    return dict(sorted(plain.items()))


def save(model, tokenizer, out):
    """The five files of a model directory; the weights as bf16."""
    from safetensors.torch import save_file
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: w.detach().to(torch.bfloat16).contiguous() for name, w in model.state_dict().items()
               if name != "lm_head.weight"}     # tied to the embedding
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(out / "tokenizer.json"))
    ids = [tokenizer.token_to_id(token) for token in SPECIALS]
    tokens = {str(i): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                       "special": True} for i, token in zip(ids, SPECIALS)}
    for name, content in {
        "config.json": plain_config(model.config, tokenizer),
        "generation_config.json": {"do_sample": False, "eos_token_id": [ids[0], ids[2]], "pad_token_id": ids[0]},
        "tokenizer_config.json": {
            "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": tokens, "bos_token": None,
            "chat_template": CHAT_TEMPLATE, "clean_up_tokenization_spaces": False, "eos_token": END, "errors": "replace",
            "model_max_length": model.config.max_position_embeddings, "pad_token": END,
            "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None},
    }.items():
        (out / name).write_text(json.dumps(content, indent=2) + "\n")


# ---- samples ---------------------------------------------------------------------------------

def encoded_stream(tokenizer, seed, more=()):
    """Endless (prompt ids, answer ids); the answer ends with the token that ends a text or a chat turn."""
    rng = random.Random(seed)
    for _, prompt, answer in tasks.training_stream(seed, more):
        end = END
        if rng.random() < CHAT_SHARE:
            prompt = f"{CHAT_START}user\n{prompt.rstrip()}{CHAT_END}\n{CHAT_START}assistant\n"
            end = CHAT_END
        yield tokenizer.encode(prompt).ids, tokenizer.encode(answer).ids + [tokenizer.token_to_id(end)]


def batches(stream, n_sample, n_part):
    """Endless lists of n_part (ids, targets); samples of like length share a part, -1 marks what bears no loss."""
    while True:
        samples = sorted((next(stream) for _ in range(n_sample)), key=lambda s: len(s[0]) + len(s[1]))
        step = []
        for i in range(n_part):
            part = samples[n_sample * i // n_part:n_sample * (i + 1) // n_part]
            longest = -(-max(len(p) + len(a) for p, a in part) // 8) * 8
            ids = torch.zeros(len(part), longest, dtype=torch.long)
            targets = torch.full((len(part), longest), -1)
            for row, (p, a) in enumerate(part):
                ids[row, :len(p) + len(a)] = torch.tensor(p + a)
                targets[row, len(p) - 1:len(p) + len(a) - 1] = torch.tensor(a)
            step.append((ids, targets))
        yield step


# ---- training --------------------------------------------------------------------------------

def make_model(config):
    """Wide embeddings and silent layers at the start, so that a token's identity is plain to every layer; the last
    norm is small, since the tied embedding would else make the first logits huge."""
    model = Qwen3ForCausalLM._from_config(config, attn_implementation="sdpa_float")
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(0, 0.4)
        model.model.norm.weight.fill_(0.05)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return model


def optimizers(model):
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms."""
    embedding = model.model.embed_tokens.weight
    matrices = [p for p in model.parameters() if p.ndim == 2 and p is not embedding]
    norms = [p for p in model.parameters() if p.ndim < 2]
    return [torch.optim.Muon(matrices, lr=0.012, momentum=0.95, weight_decay=0.02, adjust_lr_fn="original"),
            torch.optim.AdamW([embedding], lr=0.006, betas=(0.9, 0.98), weight_decay=0.0),
            torch.optim.AdamW(norms, lr=0.003, betas=(0.9, 0.98), weight_decay=0.0)]


def load_start(model, folder):
    from safetensors.torch import load_file
    missing = model.load_state_dict(load_file(f"{folder}/model.safetensors"), strict=False)
    assert missing.missing_keys == ["lm_head.weight"] and not missing.unexpected_keys      # tied to the embedding


def rate(done, warm=0.01, decay=0.5):
    """Warm-up, a flat stretch, then a straight line to nearly nothing; done runs from 0 to 1."""
    return max(0.01, min(1.0, done / warm, (1 - done) / decay))


def answer_loss(model, ids, targets, scale):
    """Summed cross-entropy over the answer tokens alone, times scale."""
    bears = targets >= 0
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[bears]     # [n_answer_tok, d_model]
    logits = model.lm_head(hidden).float()
    return torch.nn.functional.cross_entropy(logits, targets[bears], reduction="sum") * scale


def attention_float(module, query, key, value, *rest, **named):
    """Attention in float32 under autocast: on a CPU its bf16 backward pass costs more than all the matrices."""
    with torch.autocast("cpu", enabled=False):
        return sdpa_attention_forward(module, query.float(), key.float(), value.float(), *rest, **named)


def mean_over_workers(model, extra):
    """Replaces every gradient by its mean over the workers; returns the mean of the extra numbers."""
    grads = [p.grad for p in model.parameters()]
    flat = torch.cat([g.flatten() for g in grads] + [torch.tensor(extra)])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    *means, extra = flat.split([g.numel() for g in grads] + [len(extra)])
    for g, mean in zip(grads, means):
        g.copy_(mean.view_as(g))
    return extra.tolist()


def train(model, tokenizer, rank, args):
    """Every worker keeps the whole model and sees samples of its own; gradients are averaged each step."""
    opts = optimizers(model)
    bases = [opt.param_groups[0]["lr"] * args.rate for opt in opts]
    start = said = time.monotonic()
    done, n_tok, heard, n_heard = 0.0, 0, 0.0, 0
    stream = encoded_stream(tokenizer, SEED + 1 + rank + (1000 if args.start else 0), args.more.split(","))
    for step, parts in enumerate(batches(stream, args.batch // args.workers, args.parts)):
        if done >= 1:
            break
        n_bear = sum(int((targets >= 0).sum()) for _, targets in parts)
        loss_sum = 0.0
        for ids, targets in parts:
            with torch.autocast("cpu", torch.bfloat16):
                loss = answer_loss(model, ids, targets, 1 / n_bear)
            loss.backward()
            loss_sum += loss.item()
            n_tok += ids.numel() * args.workers
        now = time.monotonic()
        done = (step + 1) / args.steps if args.steps else (now - start) / (60 * args.minutes)
        loss_mean, done = mean_over_workers(model, [loss_sum, done])    # one clock for all
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt, base in zip(opts, bases):
            opt.param_groups[0]["lr"] = base * rate(done)
            opt.step()
            opt.zero_grad()
        heard, n_heard = heard + loss_mean, n_heard + 1
        if rank == 0 and now - said > args.say:
            print(f"{now - start:6.0f} s  step {step}  {n_tok / (now - start):.0f} tok/s  loss {heard / n_heard:.4f}", flush=True)
            if args.checkpoint:
                save(model, tokenizer, args.checkpoint)
            said, heard, n_heard = now, 0.0, 0
    if rank == 0:
        print(f"{step} steps, {n_tok} tokens, {time.monotonic() - start:.0f} s", flush=True)


def worker(rank, args):
    """One single-threaded process a core: far cheaper than threads that wait for each other at every operation."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{args.meet}", rank=rank, world_size=args.workers)
    tokenizer = Tokenizer.from_file(f"{args.out}/tokenizer.json")
    AttentionInterface.register("sdpa_float", attention_float)
    torch.manual_seed(SEED)
    model = make_model(make_config(tokenizer))
    if args.start:
        load_start(model, args.start)
    train(model, tokenizer, rank, args)
    if rank == 0:
        save(model, tokenizer, args.out)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--out", required=True)
    args.add_argument("--minutes", type=float, default=50)
    args.add_argument("--steps", type=int, default=0)
    args.add_argument("--batch", type=int, default=96, help="samples a step, over all workers")
    args.add_argument("--parts", type=int, default=3, help="parts of like length a worker's batch is cut into")
    args.add_argument("--checkpoint", metavar="DIR", help="save there at every report")
    args.add_argument("--say", type=float, default=60, help="seconds between reports")
    args.add_argument("--workers", type=int, default=2)
    args.add_argument("--start", metavar="DIR", help="go on from the weights and the tokenizer there, with new samples")
    args.add_argument("--rate", type=float, default=1, help="factor of the learning rates")
    args.add_argument("--more", default="", metavar="FAMILY,...", help="families that come twice as often")
    args = args.parse_args()
    pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(f"{args.start}/tokenizer.json") if args.start else make_tokenizer()
    tokenizer.save(f"{args.out}/tokenizer.json")
    with tempfile.TemporaryDirectory() as meet:
        args.meet = f"{meet}/meet"
        torch.multiprocessing.spawn(worker, (args,), args.workers)


if __name__ == "__main__":
    main()
