# scenarios and workloads of bench: what ran is what was asked, request by request
bench() { tokmill bench -q --log-level error --allow-invalid -m "$root/datasets/default" "$@" >out || echo "status $?"; }
# column NAME FILE: its cells, sorted, with how often each one is there
column() { awk -F, -v c="$1" '{ sub(/\r/, "") } NR == 1 { for (i = 1; i <= NF; i++) if ($i == c) k = i } NR > 1 { print $k }' "$2" | sort -n | uniq -c | awk '{ $1 = $1 } 1'; }
summary() { jq -rc "[$2]" "$1/summary.json"; }
# the scenarios; lengths are exact, and latencies only where they have meaning
lengths() { echo "$(column input_tokens "$1/requests.csv" | paste -sd';'), $(column output_tokens "$1/requests.csv" | paste -sd';'), drifted $(jq .drifted "$1/summary.json")"; }
bench --input-len 30 --output-len 5 --num-requests 50 --results offline
summary offline '.scenario, .arrivals, .rate_rps, .concurrency, .done, .input_tokens, .output_tokens, .input_len, .output_len, .repetition, .point'
lengths offline
bench --input-len 30 --output-len 5 --num-requests 50 --rate 200 --results server
summary server '.scenario, .arrivals, .rate_rps, .concurrency, .done'
lengths server
bench --input-len 30 --output-len 5 --num-requests 20 --arrivals constant:100 --results constant
summary constant '.scenario, .arrivals, .rate_rps, (.wall_s > 0.19)'     # the last one comes at 0.19 s
bench --input-len 30 --output-len 5 --num-requests 50 --concurrency 3 --results closed
summary closed '.scenario, .concurrency, .done'
awk -F, 'NR > 1 && $7 > most { most = $7 } END { print "at most " most " at once" }' closed/steps.csv
lengths closed
bench --input-len 30 --output-len 1 --num-requests 20 --scenario single --results single
summary single '.scenario, .concurrency, .done, .tpot_p50_ms, .itl_p50_ms'
awk -F, 'NR > 1 && $7 > most { most = $7 } END { print "at most " most " at once" }' single/steps.csv
# lengths that are drawn stay in their range, the same ones with the same seed and others with another
bench --input-len 4..40 --output-len 'normal(6,2)' --num-requests 50 --results drawn
bench --input-len 4..40 --output-len 'normal(6,2)' --num-requests 50 --results again
bench --input-len 4..40 --output-len 'normal(6,2)' --num-requests 50 --seed 1 --results other
for f in drawn again other; do cut -d, -f1,3,6 $f/requests.csv | sort -n >$f.lengths; done
cmp drawn.lengths again.lengths && echo 'same lengths'
cmp -s drawn.lengths other.lengths || echo 'other lengths'
awk -F, '$1 != "index" && ($2 < 4 || $2 > 40 || $3 < 1) { bad++ } END { print NR - 1 " requests, " bad + 0 " out of range" }' drawn.lengths
jq .drifted drawn/summary.json
# prefixes are shared when asked for, and nothing is left over from one repetition to the next
bench --input-len 20 --output-len 3 --num-requests 40 --prefix-len 32 --prefix-count 2 --repeat 2 --results prefix
for k in 0001 0002; do echo "cached $(column cached_tokens prefix/$k/requests.csv | paste -sd';')"; done
bench --input-len 20 --output-len 3 --num-requests 40 --prefix-len 32 --no-prefix-cache --results uncached
bench --input-len 64 --output-len 3 --num-requests 40 --warmup 5 --repeat 3 --results alone
echo "cached $(for f in uncached/summary.json alone/000?/summary.json; do jq .cached_tokens $f; done | paste -sd' ')"
grep -c 'cache contamination' alone/summary.csv
# recorded requests: lengths, times (twice as fast), and what they begin with
printf 'TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:03.9799600,30,4\r\n2023-11-16 18:17:04.0799600,20,2\r\n2023-11-16 18:17:04.3799600,10,1\r\n' >azure.csv
bench --replay azure.csv --arrivals trace:2x --results azure
summary azure '.scenario, .arrivals, .rate_rps, .input_len, .corpus'
awk -F, 'NR == 1 { next } NR == 2 { t = $7 } { printf "%d %d %d %.2f\n", $1, $3, $6, $7 - t }' azure/requests.csv
for i in 0 1 2; do echo "{\"timestamp\": $i, \"input_length\": $((96 + 4 * i)), \"output_length\": 2, \"hash_ids\": [7]}"; done >mooncake.jsonl
bench --replay mooncake.jsonl --scenario single --results mooncake
summary mooncake '.done, .cached_tokens, .input_tokens'
# a corpus: its own lengths; with its times, without one it comes with the line before
for i in 0 1 2 3; do jq -nc --argjson i $i '{prompt: "abc", max_tokens: (2 + $i), ignore_eos: true} + (if $i == 2 then {} else {arrival_s: ($i * 0.1)} end)'; done >c.jsonl
bench --arrivals trace --results corpus c.jsonl
awk -F, 'NR == 1 { next } NR == 2 { t = $7 } { printf "%d %d %.2f\n", $1, $6, $7 - t }' corpus/requests.csv | sort -n
summary corpus '.scenario, .arrivals, .corpus, .input_len, .drifted'
bench --num-requests 3 --results some c.jsonl c.jsonl
summary some '.scenario, .lines'
# all counted from the start: the last one waited for the others
bench --input-len 30 --output-len 5 --num-requests 50 --max-seqs 4 --arrival all --results all
column arrival_s all/requests.csv | wc -l     # one time for all
