#!/usr/bin/env python3
"""check.py - scores a model on the corpus with transformers: greedy, exact match of the text, white space at both ends aside.

    python3 check.py --model ../default --corpus ../default.jsonl.zst [--dtype bfloat16] [--chat] [--limit N]
    python3 check.py --model ../default --corpus ../default.jsonl.zst --golden FILE

Prompts of equal length are run together, so that nothing is padded.  --golden runs one prompt at a time and also
writes the ids and the text of each answer, compressed.
"""
import argparse
import collections

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

import tasks


def prompt_ids(tokenizer, prompt, chat):
    if chat:
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": prompt.rstrip()}], tokenize=False,
                                               add_generation_prompt=True)
    return tokenizer(prompt, add_special_tokens=False)["input_ids"]


@torch.inference_mode()
def generate(model, prompts, n_new):
    """Greedy ids for prompts of one length, each cut after its first end token."""
    ids = torch.tensor(prompts)
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_new)[:, ids.shape[1]:].tolist()
    ends = set(model.generation_config.eos_token_id)
    return [row[:next((i + 1 for i, t in enumerate(row) if t in ends), n_new)] for row in made]


def answers(model, tokenizer, lines, chat, n_batch):
    """Generated ids by line id."""
    by_length = collections.defaultdict(list)
    for line in lines:
        by_length[len(prompt_ids(tokenizer, line["prompt"], chat))].append(line)
    made = {}
    for same in by_length.values():
        same.sort(key=lambda line: line["max_tokens"])
        for i in range(0, len(same), n_batch):
            part = same[i:i + n_batch]
            rows = generate(model, [prompt_ids(tokenizer, line["prompt"], chat) for line in part], part[-1]["max_tokens"])
            made |= {line["id"]: row[:line["max_tokens"]] for line, row in zip(part, rows)}
    return made


def text_of(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True)


def score(tokenizer, lines, made, show):
    right, total = collections.Counter(), collections.Counter()
    for line in lines:
        family, text = line["id"].rsplit("-", 1)[0], text_of(tokenizer, made[line["id"]])
        good = text.strip() == line["expected"]
        total[family] += 1
        right[family] += good
        if not good and show > 0:
            show -= 1
            print(f"{line['id']}: {line['prompt']!r}: {text!r}, expected {line['expected']!r}")
    for family in sorted(total):
        print(f"{family:8} {right[family]:5} of {total[family]:5}  {right[family] / total[family]:.4f}")
    print(f"{'all':8} {right.total():5} of {total.total():5}  {right.total() / total.total():.4f}")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--model", required=True)
    args.add_argument("--corpus", required=True)
    args.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    args.add_argument("--chat", action="store_true", help="send each prompt as a chat turn")
    args.add_argument("--limit", type=int)
    args.add_argument("--golden", metavar="FILE")
    args.add_argument("--show", type=int, default=0, metavar="N", help="print the first N wrong answers")
    args = args.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype)).eval()
    lines = tasks.read_corpus(args.corpus)[:args.limit]
    made = answers(model, tokenizer, lines, args.chat, 1 if args.golden else 64)
    if args.golden:
        tasks.write_corpus(args.golden, [{"id": line["id"], "token_ids": made[line["id"]], "text": text_of(tokenizer, made[line["id"]])}
                                         for line in lines])
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {args.dtype}")
    score(tokenizer, lines, made, args.show)


if __name__ == "__main__":
    main()
