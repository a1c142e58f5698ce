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
jq -e '.device == "cuda:0" and .device_text == "emulated GPU, 4 multiprocessors, 1.0 GiB" and .done == 24 and .preemptions > 0 and .cached_tokens > 0 and .energy_j > 0
    and .power_mean_w == 350.5 and .clock_min_mhz == 1980 and .clock_mean_mhz == 1980 and .throttle_reasons == "power; heat" and .memory_used_max_bytes > 0' \
    "$to/cuda/summary.json" >/dev/null || { jq . "$to/cuda/summary.json"; exit 1; }

# fp8 weights and KV: nearly the same answers, in half the memory.
run "$build/cudaemu/tokmill" fp8 --device cuda:0 --weight-dtype fp8 --kv-dtype fp8_e4m3 || exit 1
same=$(jq -n --slurpfile a "$to/cuda.jsonl" --slurpfile b "$to/fp8.jsonl" '[range(24) | select($a[.].text == $b[.].text)] | length')
[ "$same" -ge 22 ] || { echo "$same of 24 answers are the same in fp8"; exit 1; }
jq -es '.[0].weight_dtype == "fp8_e4m3" and .[0].kv_dtype == "fp8_e4m3" and .[1].kv_dtype == "bf16" and 2 * .[0].kv_bytes == .[1].kv_bytes and .[0].weight_bytes < 0.7 * .[1].weight_bytes' \
    "$to/fp8/summary.json" "$to/cuda/summary.json" >/dev/null || { jq . "$to/fp8/summary.json"; exit 1; }

# The steps hold readings of the device, a few; those of the CPU none.
readings() { awk -F, 'NR > 1 && $15 == want && $16 != "" && $17 > 0 { n++ } END { print n + 0 }' want=350.5 "$to/$1/steps.csv"; }
n=$(readings cuda) all=$(wc -l <"$to/cuda/steps.csv")
[ "$n" -gt 0 ] && [ "$n" -lt $((all - 1)) ] && ! awk -F, 'NR > 1 && $15 $16 $17 == "" { none++ } END { exit none == NR - 1 }' "$to/cpu/steps.csv" || { echo "$n readings in $all lines of steps.csv"; exit 1; }

# Without --kv-memory: 93 % of the 64 MiB that the products' workspace and the weights leave of 100, less a little for the step.
CUDAEMU=memory=104857600 "$build/cudaemu/tokmill" run -q -m datasets/default --device cuda:0 --limit 1 --max-seqs 64 --max-step-tokens 64 --results "$to/kv" \
    -o /dev/null datasets/default.jsonl.zst && jq -e '.kv_bytes > 58 * 1048576 and .kv_bytes < 60 * 1048576' "$to/kv/summary.json" >/dev/null ||
    { echo "KV takes $(jq .kv_bytes "$to/kv/summary.json") bytes"; exit 1; }

# Out of memory: at the weights, at the buffers of a step, at the KV; each time with what to lower.
too_small() {
    memory=$1 said=$2
    shift 2
    CUDAEMU=memory=$memory "$build/cudaemu/tokmill" run -q -m datasets/default --device cuda:0 --results none -o "$to/none.jsonl" "$@" datasets/default.jsonl.zst \
        2>"$to/err"
    [ $? = 2 ] && grep -q "^tokmill: device \"cuda:0\": out of memory: $said" "$to/err" || { echo "with $memory bytes and \"$*\", not \"$said\" but:"; cat "$to/err"; exit 1; }
}
mib=1048576
too_small $((34 * mib)) 'a matrix of weights takes .* MiB, and .* of its 34.0 MiB are free; lower .*--max-seqs'
too_small $((40 * mib)) 'of the .* MiB that were free, weights take 3.6 and the buffers of a step .*; lower --max-seqs or --max-step-tokens' --max-step-tokens 16384
too_small $((100 * mib)) 'the KV memory takes .* MiB, and .* of its 100.0 MiB are free; lower --kv-memory' --kv-memory 64GiB --max-seqs 4096 --max-step-tokens 4096
echo "24 answers as on the CPU, $same of them in fp8; out of memory is told"
