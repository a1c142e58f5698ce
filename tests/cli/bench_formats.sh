# what bench prints, its exit status, and the search for the highest rate
bench() { tokmill bench -q --log-level error --results none -m "$root/datasets/default" --num-requests 50 --input-len 8 --output-len 3 "$@"; }
for f in table md csv json jsonl; do bench --sweep concurrency=2,50 --repeat 2 --price 0.5 --allow-invalid --format $f >$f || echo "status $?"; done
awk '/^ *point/ { n = NF; width = length($0) } width && length($0) != width { exit } { rows++ } END { print rows " lines as wide as the first" }' table
grep -c ' mean .* median .* stddev .* over 2 runs$' table
! grep -E -e '-0\.0|nan|inf' table md
awk -F'|' '{ if (NR > 1 && (NF != n || length($0) != width)) print "line " NR " differs"; n = NF; width = length($0) } END { print NR " lines of md" }' md
head -1 md | tr -s ' '
sed -n 2p md | tr -d ' :|-' | wc -c
command -v python3 >/dev/null && python3 -c 'import csv
rows = list(csv.reader(open("csv", newline=""), strict=True))
if len(rows) != 5 or any(len(row) != len(rows[0]) for row in rows): print("csv is broken")'
head -1 csv | tr -d '\r' | tr ',' '\n' >columns
jq -r '[.[].point] | join(" ")' json
jq -r '.[0] | del(.stages) | keys_unsorted[]' json | cmp - columns && echo 'csv and json have the same columns'
jq -sr 'map(.stages | length) | join(" ")' jsonl
wc -l <jsonl
# one run: its own table, and the same cells as in the files
tokmill bench -q --log-level error -m "$root/datasets/default" --num-requests 50 --input-len 8 --output-len 3 --results r --allow-invalid --format csv >csv
cmp csv r/summary.csv && echo 'printed as kept'
tokmill bench --log-level error -m "$root/datasets/default" --num-requests 50 --input-len 8 --output-len 3 --results none --allow-invalid | sed -n 's/  .*//; s/^stage/stages/p; /^validity/p'
# INVALID is status 1, unless allowed; 10 s of arrivals and 44 requests are VALID
bench >/dev/null; echo "status $?"
bench --allow-invalid >/dev/null; echo "status $?"
bench --format csv --arrivals constant:4.7 >csv; echo "status $?"
cut -d, -f3,4 csv
bench --warmup 3 --log-level warn 2>&1 >/dev/null | sed 's/;.*//'
# the search ends and names a rate that was kept and one that was not
find() { tokmill bench -m "$root/datasets/default" --input-len 8 --output-len 3 --results f --find-max --probe-time 0.3s --allow-invalid "$@" 2>err; echo "status $?"; }
find --slo e2el:p90:60ms --rate 200 --precision 0.5 --num-requests 100 --format csv >csv
sed -n 's/^tokmill: highest rate that keeps \(.*\): [0-9.]* requests.s (\([0-9.]*\) does not)$/highest rate, \1/p' err
tail -1 csv
jq -sr 'map(.slo_kept) | unique | join(" ")' f/*/summary.json
jq -sr '(map(select(.slo_kept == "yes").rate_rps) | max) as $kept | (map(select(.slo_kept == "no").rate_rps) | min) as $broken
    | if $broken > $kept and $broken <= 1.5 * $kept then "bounds as near as asked" else "bounds \($kept) \($broken)" end' f/*/summary.json
# too few requests to tell
printf '{"prompt":"a","max_tokens":2}\n' >c.jsonl
rm -r f
find --slo ttft:10s c.jsonl
grep -o 'a probe had too few.*' err
