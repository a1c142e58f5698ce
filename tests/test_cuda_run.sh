#!/bin/sh
# The embedded default through the engine on the emulated CUDA device, with prefill in pieces, preemption and prefixes found again:
# the same greedy text as on the CPU; and with weights and KV in fp8 nearly so, in half the memory.
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1
[ -x "$build/cudaemu/tokmill" ] || { echo "skipped: the emulation is not part of a sanitizer build"; exit 0; }
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
run() {
    program=$1 name=$2
    shift 2
    "$program" run -q -m datasets/default --limit 24 --ordered --max-seqs 6 --max-step-tokens 48 --kv-blocks 6 "$@" \
        --results "$to/$name" -o "$to/$name.jsonl" datasets/default.jsonl.zst && jq -r '.text' "$to/$name.jsonl" >"$to/$name.txt"
}
run "$build/tokmill" cpu --device cpu || exit 1
run "$build/cudaemu/tokmill" cuda --device cuda:0 || exit 1
diff "$to/cpu.txt" "$to/cuda.txt" || exit 1
jq -e '.device == "cuda:0" and .device_text == "emulated GPU, 4 multiprocessors, 1.0 GiB" and .done == 24 and .preemptions > 0 and .cached_tokens > 0 and .energy_j > 0' \
    "$to/cuda/summary.json" >/dev/null || { jq . "$to/cuda/summary.json"; exit 1; }
run "$build/cudaemu/tokmill" fp8 --device cuda:0 --weight-dtype fp8 --kv-dtype fp8_e4m3 || exit 1
same=$(jq -n --slurpfile a "$to/cuda.jsonl" --slurpfile b "$to/fp8.jsonl" '[range(24) | select($a[.].text == $b[.].text)] | length')
[ "$same" -ge 22 ] || { echo "$same of 24 answers are the same in fp8"; exit 1; }
jq -es '.[0].weight_dtype == "fp8_e4m3" and .[0].kv_dtype == "fp8_e4m3" and .[1].kv_dtype == "bf16" and 2 * .[0].kv_bytes == .[1].kv_bytes and .[0].weight_bytes < 0.7 * .[1].weight_bytes' \
    "$to/fp8/summary.json" "$to/cuda/summary.json" >/dev/null || { jq . "$to/fp8/summary.json"; exit 1; }
echo "24 answers as on the CPU, $same of them in fp8"
