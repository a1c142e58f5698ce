#!/bin/sh
# --deterministic on the emulated CUDA device: the embedded default gives the same token ids and logprobs, bit by bit, one sequence at a
# time, in steps of a few tokens, after preemptions and from the prefix cache, and all at once; without the option it does not.
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1
[ -x "$build/cudaemu/tokmill" ] || { echo "skipped: the emulation is not part of a sanitizer build"; exit 0; }
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
zstd -dc datasets/default.jsonl.zst | head -4 |
    jq -c '. + {max_tokens: 16, ignore_eos: true, logprobs: (input_line_number % 3), temperature: (input_line_number % 2)} | ., .' >"$to/corpus.jsonl"
run() {
    way=$1
    shift
    "$build/cudaemu/tokmill" run -q -m datasets/default --device cuda:0 --ordered --token-ids -o "$to/$way.jsonl" "$@" "$to/corpus.jsonl" &&
        jq -c '[.token_ids, .logprobs]' "$to/$way.jsonl" >"$to/$way.answers"
}

# ways NAME OPTION...: four ways of running, and how many of three answer as the first one does.
ways() {
    name=$1 n=0
    shift
    run alone --max-seqs 1 --max-step-tokens 64 --no-prefix-cache --results none "$@" &&
        run cut --max-seqs 3 --max-step-tokens 4 --no-prefix-cache --results none "$@" &&
        run few --max-seqs 4 --max-step-tokens 24 --kv-blocks 5 --results "$to/$name" "$@" &&
        run large --max-seqs 16 --max-step-tokens 200 --results none "$@" || exit 1
    for way in cut few large; do
        cmp -s "$to/alone.answers" "$to/$way.answers" && n=$((n + 1))
    done
    echo "$n of 3"
}
got="$(ways bf16 --deterministic), $(ways fp8 --deterministic --weight-dtype fp8 --kv-dtype fp8_e4m3 --limit 2), $(ways without)"
case $got in '3 of 3, 3 of 3, '[012]' of 3') ;; *) echo "answers as alone: bf16, fp8, without --deterministic: $got"; exit 1 ;; esac
jq -e 'length == 2 and (.[0] | length) > 0 and (.[1].token_logprobs | length) > 0' "$to/large.answers" >/dev/null || { cat "$to/large.answers"; exit 1; }
jq -es '.[0].deterministic and .[0].preemptions > 0 and .[0].cached_tokens > 0 and (.[1].deterministic | not)' \
    "$to/bf16/summary.json" "$to/without/summary.json" >/dev/null || { jq -c "[.preemptions, .cached_tokens, .deterministic]" "$to"/*/summary.json; exit 1; }
echo "four ways, the same bits; without --deterministic others"
