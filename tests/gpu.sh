#!/bin/sh
# make gpu: everything that a GPU is needed for, in at most 9 minutes (MINUTES=9), the build included: the conformance vectors of the
# emulation, the table of ops, the embedded default with its score, the ceilings, the speed of ops, and the program end to end with
# random weights, beside S, the output tokens a second that those ceilings allow when nothing overlaps.
# All of it goes to results/gpu-DATE/, the tables to report.txt there.  What finds no time is left out, and says so.
# GPU_TOY=1: the same on the emulated GPU with tiny sizes, to see that it runs.
cd "$(dirname "$0")/.." || exit 1
build=$1
begin=$(date +%s) deadline=$(($(date +%s) + ${MINUTES:-9} * 60 - 10))
to=${RESULTS:-results/gpu-$(date -u +%Y%m%d-%H%M%S)}
failed=0
mkdir -p "$to" || exit 2

say() { echo "$*" | tee -a "$to/report.txt"; }

# part NAME SECONDS COMMAND...: at most so long, and no longer than there is time; its output in NAME.txt.
part() {
    name=$1 limit=$2 left=$((deadline - $(date +%s)))
    shift 2
    [ "$left" -ge 5 ] || { say "$name: left out, the time is over"; return 1; }
    timeout $((left < limit ? left : limit)) "$@" >"$to/$name.txt" 2>&1 && return 0
    case $? in 124) word='stopped, it took too long' ;; *) word="FAILED" failed=1 ;; esac
    say "$name: $word: $(tail -n 2 "$to/$name.txt" | tr '\n' ' ')"
    return 1
}

# ---- what runs ----

if [ -n "$GPU_TOY" ]; then
    tokmill=$build/cudaemu/tokmill perf=$build/cudaemu/perf_cuda
    [ -x "$tokmill" ] && [ -x "$perf" ] || { echo "no emulation in \"$build\"; make test builds it"; exit 2; }
    table="$build/tests/test_cuda gather_test"
    small='random:datasets/default/config.json' large=$small
    n_alone=16
    few='--limit 8 --max-seqs 8 --max-step-tokens 64 --kv-blocks 64' sizes='--max-seqs 8 --max-step-tokens 64 --kv-blocks 64'
else
    tokmill=$build/tokmill perf=$build/gpu/perf_cuda
    make -j"$(nproc)" BUILD="$build" "$tokmill" "$build/gpu/test_cuda" "$perf" || exit 2
    table=$build/gpu/test_cuda
    small=random:qwen3-0.6b large=random:llama-3.1-8b
    n_alone=400
    few='' sizes=''
fi
say "built in $(($(date +%s) - begin)) s"

# ---- is it right ----

if [ -z "$GPU_TOY" ]; then
    part gpu 20 nvidia-smi
    part conformance 60 make BUILD="$build" emu_golden && say "conformance: recorded in tests/golden/cuda_conformance.txt"
fi
part ops 120 $table && say "table of ops: as the reference"

get() { sed "s/.*\"$1\":\([^,}]*\).*/\1/" "$2"; }           # a number of a JSON object

score() {
    part "default-$1" 60 "$tokmill" run -q -m datasets/default --device "$2" $few --results "$to/default-$1" -o "$to/default-$1.jsonl" datasets/default.jsonl.zst &&
        say "default on $2: score $(get score "$to/default-$1/summary.json")"
}
score cpu cpu
score cuda cuda:0

# The same answers, bit by bit, few at a time and many.
alone() {
    name=deterministic-$1
    shift
    part "$name" 60 "$tokmill" run -q -m datasets/default --device cuda:0 --deterministic --ordered --token-ids --logprobs 0 --limit "$n_alone" --results none "$@" \
        -o "$to/$name.jsonl" datasets/default.jsonl.zst
}
if alone few --max-seqs 2 --max-step-tokens 7 --kv-blocks 8 && alone many $sizes; then
    cmp -s "$to/deterministic-few.jsonl" "$to/deterministic-many.jsonl" && say "--deterministic: the same tokens and log-probabilities, few at a time and many" ||
        { say "--deterministic: FAILED: answers depend on the batch"; failed=1; }
fi

# ---- how fast are its parts ----

part ceilings 60 "$tokmill" bench --ceilings --device cuda:0 && cat "$to/ceilings.txt" >>"$to/report.txt" && cat "$to/ceilings.txt"
part speed 60 "$perf" && cat "$to/speed.txt" >>"$to/report.txt" && cat "$to/speed.txt"

# The same shapes through torch, where there is one with a GPU.
cat >"$to/torch.py" <<'END'
import torch, torch.nn.functional as F
def best(f):
    times = []
    for i in range(30):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record(); f(); b.record(); b.synchronize()
        times.append(a.elapsed_time(b) * 1e-3)
    return min(times[3:])
def tell(name, s, flops):
    print(f"torch {name:42} {s * 1e6:9.1f} us {flops / s * 1e-12:8.2f} TFLOP/s")
for n, l, h, g in (64, 128, 16, 8), (8, 1024, 16, 8), (4, 2048, 32, 8), (2, 4096, 32, 8), (1, 8192, 32, 8):
    q, k, v = (torch.randn(n, m, l, 128, device="cuda", dtype=torch.bfloat16) for m in (h, g, g))
    k, v = (x.repeat_interleave(h // g, 1) for x in (k, v))
    tell(f"SDPA {n} x {l} tokens, {h} heads", best(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)), 2 * n * l * (l + 1) * h * 128)
for m, k, n in (1024, 1024, 6144), (8192, 1024, 6144), (1024, 4096, 6144), (1024, 4096, 28672), (8192, 4096, 28672), (8192, 14336, 4096), (256, 4096, 28672):
    x, w = (torch.randn(r, k, device="cuda", dtype=torch.bfloat16) for r in (m, n))
    tell(f"product {m} x {k} to {n}", best(lambda: F.linear(x, w)), 2 * m * k * n)
END
if python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    part torch 60 python3 "$to/torch.py" && cat "$to/torch.txt" >>"$to/report.txt" && cat "$to/torch.txt"
else
    say "torch: there is none with a GPU"
fi

# ---- how fast is the whole ----

# corpus NAME N FROM TO VOCAB: N prompts and as many answers, each of uniformly FROM to TO tokens, the same in every run.
corpus() {
    awk -v n="$2" -v from="$3" -v to="$4" -v vocab="$5" -v lengths="$to/$1.lengths" '
        function below(m) { x = (x * 16807) % 2147483647; return x % m }       # Park and Miller, 1988
        BEGIN {
            for (x = 42; n--;) {
                len = from + below(to - from + 1); out = from + below(to - from + 1)
                printf "{\"prompt_token_ids\":[%d", below(vocab)
                for (t = 1; t < len; t++) printf ",%d", below(vocab)
                printf "],\"max_tokens\":%d,\"ignore_eos\":true}\n", out
                print len, out >lengths
            }
        }' >"$to/$1.jsonl"
}

ceiling() { awk -v name="$1" '$1 == name { print $2 * 1e9 }' "$to/ceilings.txt"; }

# whole NAME SECONDS MODEL CORPUS WEIGHT_BYTES KV_NUMBER_BYTES OPTIONS...
whole() {
    name=$1 limit=$2 model=$3 lines=$4 wb=$5 kb=$6
    shift 6
    part "$name" "$limit" "$tokmill" run -q -m "$model" --device cuda:0 --no-prefix-cache $sizes "$@" --results "$to/$name" -o /dev/null "$to/$lines.jsonl" || return
    summary=$to/$name/summary.json
    rate=$(get output_tokens_per_s "$summary") s=$(awk -f tests/roofline.awk -v bw="$(ceiling read)" -v f="$(ceiling bf16)" -v f8="$(ceiling fp8)" -v wb="$wb" -v kb="$kb" -v memory="$(get kv_bytes "$summary")" \
        -v max_seqs="$(get max_seqs "$summary")" "$to/inspect-$(basename "$model").txt" "$to/$lines.lengths")
    say "$(awk -v name="$name" -v rate="$rate" -v s="$s" -v load="$(get load_s "$summary")" -v wall="$(get wall_s "$summary")" -v failed="$(get failed "$summary")" -v busy="$(get device_busy "$summary")" 'BEGIN {
        ratio = s > 0 ? sprintf("%.2f", rate / s) : "unknown"
        lost = failed + 0 ? ", " failed " requests FAILED" : ""
        printf "%-26s %10.1f output tokens/s, S %10s, ratio %s, device busy %.1f %%, %.1f s after %.1f s of loading%s", name, rate, s, ratio, 100 * busy, wall, load, lost }')"
}

for model in $small $large; do
    part "inspect-$(basename "$model")" 10 "$tokmill" inspect --json "$model"
done
vocab() { get n_vocab "$to/inspect-$(basename "$1").txt"; }
if [ -n "$GPU_TOY" ]; then
    corpus small-mix 8 4 12 "$(vocab $small)"; corpus small-short 12 8 8 "$(vocab $small)"; corpus small-long 10 16 16 "$(vocab $small)"
    corpus large-short 8 8 8 "$(vocab $large)"; corpus large-long 6 16 16 "$(vocab $large)"
else
    corpus small-mix 256 100 1024 "$(vocab $small)"; corpus small-short 4096 128 128 "$(vocab $small)"; corpus small-long 768 1024 1024 "$(vocab $small)"
    corpus large-short 2048 128 128 "$(vocab $large)"; corpus large-long 384 1024 1024 "$(vocab $large)"
fi
whole 0.6B-mix 60 "$small" small-mix 2 2
whole 0.6B-128-128 60 "$small" small-short 2 2
whole 8B-128-128 90 "$large" large-short 2 2
whole 0.6B-128-128-determ. 60 "$small" small-short 2 2 --deterministic
whole 0.6B-mix-fp8kv 60 "$small" small-mix 2 1 --kv-dtype fp8_e4m3
whole 8B-128-128-fp8 90 "$large" large-short 1 2 --weight-dtype fp8
whole 8B-128-128-fp8-fp8kv 90 "$large" large-short 1 1 --weight-dtype fp8 --kv-dtype fp8_e4m3
whole 0.6B-1024-1024 100 "$small" small-long 2 2
whole 8B-1024-1024 120 "$large" large-long 2 2
whole 8B-1024-1024-fp8 100 "$large" large-long 1 2 --weight-dtype fp8
whole 8B-1024-1024-fp8-fp8kv 100 "$large" large-long 1 1 --weight-dtype fp8 --kv-dtype fp8_e4m3
rm -f "$to"/*.jsonl "$to"/*.lengths "$to/torch.py"
say "$(($(date +%s) - begin)) s; all of it in $to/"
exit $failed
