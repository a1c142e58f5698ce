#!/bin/sh
# The emulated CUDA device fails for ever from its n-th operation on, for n from the first copy of a weight to the last step.  The
# program exits with 2 and names the device's error; each request that has begun either has a whole row, the right one and only
# once, or is named as in flight.
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1
[ -x "$build/cudaemu/tokmill" ] || { echo "skipped: the emulation is not part of a sanitizer build"; exit 0; }
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
zstdcat datasets/default.jsonl.zst | head -12 | jq -c '.ignore_eos = true | .max_tokens = if input_line_number == 1 then 24 else 2 + .max_tokens % 4 end' \
    >"$to/corpus.jsonl"       # rows in order wait for the first one

# run N OPTION...: its rows on standard output are in $to/piped, the lines in flight in $to/flying.
run() {
    n=$1
    shift
    rm -f "$to"/rows.*
    CUDAEMU=fail=$n timeout 60 "$build/cudaemu/tokmill" run -q --device cuda:0 -m datasets/default --results none --kv-blocks 24 --max-step-tokens 48 "$@" >"$to/piped" 2>"$to/err"
    status=$?
    sed -n 's/^tokmill: error: in flight: .*corpus.jsonl: line \([0-9]*\), ".*"$/\1/p' "$to/err" >"$to/flying"
}
fail() {
    echo "fail=$n: $*"
    cat "$to/err"
    exit 1
}
fault_told() {
    grep -q '^tokmill: device "cuda:0": .*: an illegal memory access was encountered (cudaErrorIllegalAddress)' "$to/err" || fail "the error of the device is not told"
    [ "$status" = 2 ] || fail "exit status $status"
}
# check_rows FILE: whole rows, those of the run without a fault, as many as the message says
check_rows() {
    jq -c '[.index, .text]' "$1" >"$to/texts" || fail "rows are torn"
    sort "$to/texts" | comm -23 - "$to/good" | grep . && fail "rows are not the right ones"
    sort "$to/texts" | uniq -d | grep . && fail "rows are there twice"
    n_row=$(wc -l <"$1")
    grep -q "^tokmill: error: rows complete in \".*\": $n_row; " "$to/err" || fail "it has $n_row rows"
}
# Lines are taken in order: those that have begun are 1 .. k.
all_begun() {
    { jq '.[0] + 1' "$to/texts"; cat "$to/flying"; } | sort -n >"$to/begun"
    seq "$(wc -l <"$to/begun")" | cmp -s - "$to/begun" || fail "of the lines that have begun, rows and in flight are only $(paste -sd' ' "$to/begun")"
}

run 0 --max-seqs 3 -o - "$to/corpus.jsonl"
[ "$status" = 0 ] || fail "exit status $status without a fault"
jq -c '[.index, .text]' "$to/piped" | sort >"$to/good"

early=0 late=0 turn=0 n=1
while :; do
    case $turn in
    0) run "$n" --max-seqs 3 -o "$to/rows.zst" "$to/corpus.jsonl" ;;
    1) run "$n" --max-seqs 3 -o "$to/rows.gz" --ordered "$to/corpus.jsonl" ;;
    2) run "$n" --max-seqs 3 -o - "$to/corpus.jsonl" ;;
    esac
    [ "$status" = 0 ] && break
    fault_told
    if grep -q 'rows complete' "$to/err"; then
        case $turn in
        0) zstd -qdc "$to/rows.zst" >"$to/rows.jsonl" || fail "the file is torn" ;;
        1) gzip -dc "$to/rows.gz" >"$to/rows.jsonl" || fail "the file is torn" ;;
        2) cp "$to/piped" "$to/rows.jsonl" ;;
        esac
        check_rows "$to/rows.jsonl"
        [ "$turn" = 1 ] || all_begun           # rows that wait for their turn are made again
        [ "$turn" = 1 ] && { jq .index "$to/rows.jsonl" | sort -nc || fail "the rows are not in order"; }
        [ "$n_row" -gt 0 ] && late=$((late + 1))
    else
        [ -s "$to/flying" ] || [ -e "$to/rows.zst" ] || [ -e "$to/rows.gz" ] || [ -s "$to/piped" ] && fail "nothing has begun, and still there are rows"
        early=$((early + 1))
    fi
    turn=$(((turn + 1) % 3)) n=$((n + 160))
done
[ "$early" -ge 2 ] && [ "$late" -ge 4 ] || { echo "$early faults before a request had begun, $late after a row: too few"; exit 1; }

# More in flight than are named; and the reader is in the way of nothing, be it waiting for room or for a line that never comes.
fault_among_many() {
    grep -q '^tokmill: error: in flight: and 4 more$' "$to/err" && [ "$(wc -l <"$to/flying")" = 16 ] || fail "of 20 in flight not 16 are named"
    fault_told
    check_rows "$to/piped"
}
run_many() {
    n=900           # of some 2900, while the first 20 run
    run $n --max-seqs 20 --kv-blocks 120 --max-step-tokens 96 -o - "$1"
    fault_among_many
}
for i in 1 2; do jq -c '.max_tokens = 40 | .prompt = "abc"' "$to/corpus.jsonl"; done >"$to/longer"
for i in $(seq 60); do cat "$to/longer"; done >"$to/many.corpus.jsonl"
run_many "$to/many.corpus.jsonl"
mkfifo "$to/pipe.corpus.jsonl"
exec 9<>"$to/pipe.corpus.jsonl"
cat "$to/longer" >&9
run_many "$to/pipe.corpus.jsonl"
echo "$early faults before a request had begun, $late after a row"
