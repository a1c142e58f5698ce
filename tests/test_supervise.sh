#!/bin/sh
# run --supervise with lines that break the engine down: by a signal, and by an error of the device.  They get error rows, all others
# their answers, and a breakdown that no line is to blame for is gone on after.
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
ASAN_OPTIONS=${ASAN_OPTIONS-}:handle_segv=0:handle_abort=0         # these signals are the test
export ASAN_OPTIONS
CUDA_VISIBLE_DEVICES=
export CUDA_VISIBLE_DEVICES
zstd -dc datasets/default.jsonl.zst | head -120 >"$to/good.jsonl"
poison='{"prompt_token_ids":[5,6,829,7],"max_tokens":4}'
awk -v p="$poison" '{ print } NR == 17 || NR == 90 { print p }' "$to/good.jsonl" >"$to/c.jsonl"        # lines 17 and 91, counted from 0
run() {
    "$build/tests/tokmill_broken" run -q -m datasets/default --ordered --no-prefix-cache --max-seqs 16 --results none "$@"
}
fail() { echo "$*"; cat "$to/err"; exit 1; }

run -o "$to/good.rows" "$to/good.jsonl" 2>"$to/err" || fail "it does not run"
for by in 11 6 0; do
    rm -f "$to/out"*
    BREAK_AT=829 BREAK_BY=$by run --supervise -o "$to/out.jsonl" "$to/c.jsonl" 2>"$to/err"
    [ $? = 1 ] || fail "by $by: not exit status 1"
    [ ! -e "$to/out.jsonl.journal" ] && [ ! -e "$to/out.jsonl.in-flight" ] || fail "by $by: files are left: $(ls "$to")"
    [ "$(jq -c 'select(.finish_reason == "error") | .index' "$to/out.jsonl" | tr '\n' ' ')" = '17 91 ' ] || fail "by $by: the error rows are $(jq -c 'select(.error) | .index' "$to/out.jsonl")"
    jq -c 'select(.finish_reason != "error") | del(.index)' "$to/out.jsonl" >"$to/got"
    jq -c 'del(.index)' "$to/good.rows" | cmp - "$to/got" || fail "by $by: other answers"
    grep -q '^tokmill: error: line 17 (counted from 0) breaks the run down' "$to/err" || fail "by $by: not told"
done

# Nobody is to blame: the fault passes (a step of the first process alone), or it does not.
rm -f "$to/out"*
BREAK_STEP=40 BREAK_BY=9 run -o "$to/out.jsonl" "$to/good.jsonl" 2>"$to/err"
[ -e "$to/out.jsonl.journal" ] || fail 'a killed run left no journal'
run --supervise -o "$to/out.jsonl" "$to/good.jsonl" 2>"$to/err" || fail 'it does not go on'
cmp "$to/good.rows" "$to/out.jsonl" || fail 'other rows after a breakdown'
BREAK_STEP=3 BREAK_BY=11 run --supervise -o "$to/never.jsonl" "$to/good.jsonl" 2>"$to/err"
[ $? = 2 ] && grep -q 'giving up' "$to/err" || fail 'it does not give up'
echo "poison lines are found, whatever they do"
