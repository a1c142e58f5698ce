#!/bin/sh
# Fuzzes every reader of bytes from outside (tests/fuzz/), two at a time: none may crash, leak, run long or break what its header
# promises.  FUZZ_SECONDS: each; without it, 30 in the half of the suite with sanitizers, none in the other.  From a fixed
# seed, so that a run finds what the run before it found; FUZZ_LEARN=1 (make fuzz) goes on where the last one ended instead.
# What a fuzzer trips over stays in build/fuzz/crashes/NAME-*: build/fuzz/fuzz_NAME FILE shows it again.
cd "$(dirname "$0")/.." || exit 1
build=${1%/asan}
[ "$1" = "$build" ] || : "${FUZZ_SECONDS:=30}"
[ -n "${FUZZ_SECONDS-}" ] || { echo "skipped: fuzzing is in the half with sanitizers (make asan), and make fuzz"; exit 0; }
command -v clang >/dev/null || { echo "skipped: no clang to build fuzzers with"; exit 0; }
MAKEFLAGS='' make --no-print-directory -j2 BUILD="$build" fuzzers || exit 1

material=../shared/material seeds=tests/fuzz/seeds
to=$(mktemp -d)
trap 'rm -rf "$to" /dev/shm/tokmill-fuzz-*' EXIT
mkdir -p "$build/fuzz/crashes"
# Words that readers compare with: a fuzzer would need long to find them.
grep -oh '"[A-Za-z_][A-Za-z_0-9]*"' src/data/*.c src/model/config.c | sort -u >"$to/words"

# The public files that are small enough to be seeds of $1.
more_seeds() {
    case $1 in
    request) find $material/5-bad-input/JSONTestSuite $material/5-bad-input/jansson $material/5-bad-input/blns $material/5-bad-input/utf8 -type f ;;
    zfile) find $material/5-bad-input/zstd -type f ;;
    tokenizer) find $material/1-tokenizers $material/3-weights -name 'tokenizer*.json' ;;
    tensors) find $material/3-weights -name '*.safetensors' ;;
    config) find $material/1-tokenizers $material/3-weights -name '*config.json' ;;
    trace) find $material/4-traces-prompts/traces $material/5-bad-input/JSONTestSuite -type f ;;
    csv) find $material/7-prices -type f ;;
    esac 2>/dev/null
}

fuzz() {
    name=$1
    mkdir "$to/$name"
    if [ -n "${FUZZ_LEARN-}" ]; then
        corpus=$build/fuzz/corpus/$name seed=0
        mkdir -p "$corpus"
    else
        corpus=$to/$name.corpus seed=1
        mkdir "$corpus"
    fi
    more_seeds "$name" | while read -r f; do
        [ "$(wc -c <"$f")" -gt 16384 ] || cp "$f" "$to/$name/$(echo "$f" | tr / _)"
    done
    ASAN_OPTIONS='' UBSAN_OPTIONS=print_stacktrace=1 "$build/fuzz/fuzz_$name" -seed=$seed -max_total_time="$FUZZ_SECONDS" -timeout=20 -rss_limit_mb=2048 \
        -max_len=4096 -dict="$to/words" -artifact_prefix="$build/fuzz/crashes/$name-" -print_final_stats=1 \
        "$corpus" $seeds/"$name" "$to/$name" >"$to/$name.log" 2>&1 || touch "$to/failed"
    if grep -q '^SUMMARY\|^==.*ERROR' "$to/$name.log"; then
        tail -60 "$to/$name.log"
    fi
    echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$to/$name.log") runs, $(find "$corpus" -type f | wc -l) inputs kept"
}

lane() {
    for name in "$@"; do
        fuzz "$name"
    done
}

set --
for f in tests/fuzz/fuzz_*.c; do
    name=$(basename "$f" .c)
    name=${name#fuzz_}
    case " ${FUZZ_ONLY-$name} " in *" $name "*) set -- "$@" "$name" ;; esac
done
half=$(($# / 2)) first=''
while [ $# -gt $half ]; do
    first="$first $1"
    shift
done
lane $first &
lane "$@"
wait
[ ! -e "$to/failed" ]
