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
    get() { sed "s/.*\"$1\":\([^,}]*\).*/\1/" "$folder/$weights/summary.json"; }
    awk -v w="$weights" -v in_="$(get input_tokens)" -v out="$(get output_tokens)" -v s="$(get wall_s)" -v total="$(get total_tokens_per_s)" \
        -v o="$(get output_tokens_per_s)" -v mfu="$(get mfu)" -v mbu="$(get mbu)" -v rss="$(get max_rss_bytes)" 'BEGIN {
        printf "%s: %d in, %d out in %.1f s: %.1f total tokens/s, %.1f output tokens/s, mfu %.1f %%, mbu %.1f %%, %d MiB resident\n",
            w, in_, out, s, total, o, 100 * mfu, 100 * mbu, rss / 1048576 }'
done
