#!/bin/sh
# make gpu to its last line, as it runs on the emulated GPU with tiny sizes; and its roofline against figures worked out by hand.
build=$1
cd "$(dirname "$0")/.." || exit 1
[ -x "$build/cudaemu/perf_cuda" ] || { echo "skipped: the emulation is not part of a sanitizer build"; exit 0; }
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT

# roofline WANT bw f MEMORY: two requests of 3 tokens in and out; N = 16, V = 6, W = 44 bytes, 8 bytes of KV a token.
echo '{"n_layer":1,"d_model":2,"n_head":1,"n_kv_head":1,"d_head":2,"d_ff":0,"n_vocab":3}' >"$to/shape"
printf '3 3\n3 3\n' >"$to/lengths"
roofline() {
    got=$(awk -f tests/roofline.awk -v wb=2 -v kb=2 -v max_seqs=2 -v bw="$2" -v f="$3" -v memory="$4" "$to/shape" "$to/lengths")
    [ "$got" = "$1" ] || { echo "roofline: \"$got\", not \"$1\""; exit 1; }
}
roofline 1009.6 1e9 1e5 1e9        # bound by products: prompts 216 / f and 72 / (0.63 f), 3 steps of 88 / f
roofline 17.2 1e3 1e12 1e9         # by reading: 3 steps of 44 / bw, contexts 216 / bw
roofline 1052.1 1e9 1e5 36         # room for one: a step holds a prompt's token too, 76 / f, and 6 / (0.63 f) of its attention
roofline '' '' '' 36               # no ceilings were measured

GPU_TOY=1 RESULTS=$to/r tests/gpu.sh "$build" >"$to/out" 2>"$to/err" || { cat "$to/out" "$to/err"; exit 1; }
[ ! -s "$to/err" ] || { cat "$to/err"; exit 1; }
report=$to/r/report.txt
for line in 'table of ops: as the reference' 'default on cpu: score 1' 'default on cuda:0: score 1' '--deterministic: the same tokens' 'read ' 'attention .* TFLOP/s' 'product .* TFLOP/s' \
            '0.6B-mix .* ratio 0' '0.6B-128-128 .* ratio 0' '0.6B-1024-1024 .* ratio 0' '8B-128-128 .* ratio 0' '8B-1024-1024 .* ratio 0'; do
    grep -q -e "^$line" "$report" || { echo "the report has no \"$line\":"; cat "$report"; exit 1; }
done
! grep -E 'FAILED|left out|stopped' "$report" || exit 1

# Without time all is left out, and said so.
GPU_TOY=1 MINUTES=0 RESULTS=$to/none tests/gpu.sh "$build" >"$to/out" 2>&1
[ "$(grep -c 'left out, the time is over' "$to/out")" -ge 10 ] || { cat "$to/out"; exit 1; }
echo "$(grep -c ratio "$report") runs beside their roofline"
