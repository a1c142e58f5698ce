#!/bin/sh
# Fuzzes every reader of bytes from outside (tests/fuzz/), three at a time: none may crash, leak, run long or break what its header
# promises.  FUZZ_SECONDS: each; without it, 30 in the half of the suite with sanitizers, none in the other.  From a fixed seed, so
# that a run finds what the run before it found; FUZZ_LEARN=1 (make fuzz) goes on where the last one ended instead.
# FUZZ_ONLY='NAME...' runs some.  What a fuzzer trips over stays in build/fuzz/crashes/NAME-*: build/fuzz/fuzz_NAME FILE shows it again.
# Called with a name behind the build folder, it is that fuzzer's run.
cd "$(dirname "$0")/.." || exit 1
build=${1%/asan} material=../shared/material

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
    log=$to/$1.log corpus=$to/$1.corpus seed=1 failed=
    [ -z "${FUZZ_LEARN-}" ] || corpus=$build/fuzz/corpus/$1 seed=0
    mkdir -p "$to/$1" "$corpus"
    more_seeds "$1" | while read -r f; do
        [ "$(wc -c <"$f")" -gt 16384 ] || cp "$f" "$to/$1/$(echo "$f" | tr / _)"
    done
    "$build/fuzz/fuzz_$1" -seed=$seed -max_total_time="$FUZZ_SECONDS" -timeout=300 -report_slow_units=300 -rss_limit_mb=2048 -max_len=4096 -dict="$to/words" \
        -artifact_prefix="$build/fuzz/crashes/$1-" -print_final_stats=1 "$corpus" "tests/fuzz/seeds/$1" "$to/$1" >"$log" 2>&1 || failed=1
    echo "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs, $(find "$corpus" -type f | wc -l) inputs kept"
    [ -z "$failed" ] || { grep -v '^#' "$log" | tail -40; exit 1; }
}

if [ $# = 2 ]; then
    fuzz "$2"
    exit
fi
[ "$1" = "$build" ] || : "${FUZZ_SECONDS:=30}"
[ -n "${FUZZ_SECONDS-}" ] || { echo "skipped: fuzzing is in the half with sanitizers (make asan), and make fuzz"; exit 0; }
command -v clang >/dev/null || { echo "skipped: no clang to build fuzzers with"; exit 0; }
MAKEFLAGS='' make --no-print-directory -j2 BUILD="$build" fuzzers || exit 1
to=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)      # in memory: fuzzers write files all the time
trap 'rm -rf "$to"' EXIT
export to FUZZ_SECONDS TMPDIR="$to" ASAN_OPTIONS='' UBSAN_OPTIONS=print_stacktrace=1
mkdir -p "$build/fuzz/crashes"
# Words that readers compare with: a fuzzer would need long to find them.
grep -oh '"[A-Za-z_][A-Za-z_0-9]*"' src/data/*.c src/model/config.c | sort -u >"$to/words"
for f in tests/fuzz/fuzz_*.c; do
    name=${f#tests/fuzz/fuzz_}
    name=${name%.c}
    case " ${FUZZ_ONLY-$name} " in *" $name "*) echo "$name" ;; esac
done | xargs -P3 -n1 tests/test_fuzz.sh "$build"
