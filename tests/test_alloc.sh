#!/bin/sh
# Every allocation of start-up and of the first requests fails once (tests/fail_alloc.c), one in each run; where there are thousands, those
# of reading JSON, a sample of them.  Each time the program must end with status 2 and say first what ran out, or do its work all the
# same; in both cases no row may be torn, twice or other than it is.
# Called with a number behind the build folder, it is one such run.
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1

# tokmill with allocation $1 failing, rows to $2; what else stands there is options.
failing() {
    number=$1 rows=$2
    shift 2
    timeout 300 env FAIL_AT="$number" LD_PRELOAD="$build/tests/fail_alloc.so" "$build/tokmill" run -q -m datasets/default --limit 2 --results none \
        --max-seqs 2 --max-step-tokens 64 --kv-blocks 32 "$@" -o "$rows" datasets/default.jsonl.zst
}

one() {
    rows=$to/$1.jsonl
    # shellcheck disable=SC2086
    failing "$1" "$rows" $options 2>"$rows.err"
    status=$?
    [ -e "$rows" ] || : >"$rows"
    sort "$rows" | comm -23 - "$to/rows" >"$rows.odd"     # "twice" counts as odd
    good=no
    case $status in
    0) [ ! -s "$rows.odd" ] && [ "$(wc -l <"$rows")" = 2 ] && good=yes ;;
    2) [ ! -s "$rows.odd" ] && head -n 1 "$rows.err" | grep -q '^tokmill: .*\(out of memory\|Cannot allocate memory\|cannot start\)' && good=yes ;;
    # OpenMP, which oneDNN brings along, exits itself
    1) [ "$(grep -c '^libgomp: Out of memory' "$rows.err")" = 1 ] && [ ! -s "$rows" ] && good=yes ;;
    esac
    [ $good = yes ] || { echo "allocation $1 ($options): status $status, $(cat "$rows.err")"; cat "$rows.odd"; }
    echo $status >>"$to/statuses"
    rm -f "$rows" "$rows".*
}

if [ $# = 2 ]; then
    one "$2"
    exit
fi
[ "${build%/asan}" = "$build" ] || { echo "skipped: sanitizers have an allocator of their own; the plain half fails allocations"; exit 0; }
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
export to options
${CC:-cc} -shared -fPIC -O2 -o "$build/tests/fail_alloc.so" tests/fail_alloc.c -ldl || exit 1

# $1: how many of the first, and $2: of the last allocations fail each; $3: between, every which.  In bf16 the first and the last are
# those of the device, the tokenizer, the engine and the requests; in f32 oneDNN's are between.
run() {
    options=$4
    # shellcheck disable=SC2086
    FAIL_COUNT=$to/count failing 0 "$to/whole" $options || exit 1
    sort "$to/whole" >"$to/rows"
    n=$(cat "$to/count")
    { seq 1 "$1"; seq $(($1 + 1)) "$3" $((n - $2)); seq $((n - $2 + 1)) $((n + 20)); } | xargs -P2 -n1 tests/test_alloc.sh "$build" >>"$to/bad"
    echo "of $n allocations ($options) $(wc -l <"$to/statuses") were failed, $(grep -c 2 "$to/statuses") of them fatal"
    rm "$to/statuses"
}
run 130 400 97 '--threads 1'
run 0 0 251 '--threads 2 --compute f32 --n 2 --temperature 1 --logprobs 2'
cat "$to/bad"
[ ! -s "$to/bad" ]
