#!/bin/sh
# make bench: the Qwen3-0.6B shape with random weights, 128 tokens in and 128 out, 64 sequences at once (SEQS, LEN_IN, LEN_OUT change that), in bf16
# and int8; prints tokens a second and the share of the machine's measured peaks, and keeps the summaries under results/bench/.
set -e
cd "$(dirname "$0")/.."
build=$1 seqs=${SEQS:-64} in=${LEN_IN:-128} out=${LEN_OUT:-128}
folder=results/bench
mkdir -p "$folder"
awk -v n="$seqs" -v len="$in" -v out="$out" 'BEGIN {
    for (i = 0; i < n; i++) {
        printf "{\"prompt_token_ids\":["
        for (t = 0; t < len; t++)
            printf "%s%d", t ? "," : "", (i * 7919 + t * 104729 + 1) % 150000
        printf "],\"max_tokens\":%d,\"ignore_eos\":true}\n", out
    }
}' >"$folder/corpus.jsonl"
"$build/tokmill" bench --ceilings
for weights in ${TYPES:-bf16 int8}; do
    "$build/tokmill" run -q -m random:qwen3-0.6b --weight-dtype "$weights" --max-seqs "$seqs" ${STEP:+--max-step-tokens $STEP} \
        --no-prefix-cache --results "$folder/$weights" -o /dev/null "$folder/corpus.jsonl"
    awk -F, -v w="$weights" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR == 2 {
        printf "%s: %d in, %d out in %.1f s: %.1f total tokens/s, %.1f output tokens/s, mfu %.1f %%, mbu %.1f %%, %d MiB resident\n", w, $at["input_tokens"], $at["output_tokens"],
            $at["wall_s"], $at["total_tokens_per_s"], $at["output_tokens_per_s"], 100 * $at["mfu"], 100 * $at["mbu"], $at["max_rss_bytes"] / 1048576
    }' "$folder/$weights/summary.csv"
done
