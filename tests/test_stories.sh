#!/bin/sh
# stories260K, a real trained model, through the whole program in f32: the greedy stories of the reference program, all at once in small steps.
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1
from=../shared/material/3-weights/stories260K
[ -r "$from/hf/config.json" ] || { echo "skipped: $from is not there"; exit 0; }
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
# the reference program stops at BOS (1), or when its positions are full: ours then goes on a little
jq -c '.[] | {prompt, expected: .output, max_tokens: .max_positions, ignore_eos: true, stop_token_ids: [1]}' "$from/greedy-expected.json" >"$to/prompts.jsonl"
"$build/tokmill" run -q -m "$from/hf" --compute f32 --max-step-tokens 20 --max-seqs 5 --ordered --results none "$to/prompts.jsonl" >"$to/rows.jsonl" || exit 1
jq -sr '[.[:length / 2], .[length / 2:]] | transpose[] | .[0] as $asked | ($asked.prompt + .[1].text) as $told
    | select(($told | startswith($asked.expected) | not) or (.[1].finish_reason == "stop" and $told != $asked.expected))
    | "\($told)\nexpected: \($asked.expected)"' "$to/prompts.jsonl" "$to/rows.jsonl" >"$to/wrong"
cat "$to/wrong"
n=$(wc -l <"$to/rows.jsonl")
[ "$n" -ge 10 ] && [ ! -s "$to/wrong" ] && echo "$n stories as told by the reference program"
