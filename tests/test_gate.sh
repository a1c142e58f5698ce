#!/bin/sh
# tests/test_gate.sh BUILD: compare as a gate.  In each round A, another A and a B that is 10 % slower are measured in turn, there
# and back, six repetitions a turn; A against A is to pass, A against B to be a regression, with one false alarm and one miss allowed.  Steps take
# at least STEP_MS (tests/slow.c), so that the suite does not depend on what else the machine does.  GATE=20 STEP_MS=0: 20 rounds on the
# machine as it is, which had better be quiet.
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
rounds=${GATE:-4}
export STEP_MS="${STEP_MS:-100}"
size='--max-seqs 1 --num-requests 1 --input-len 8 --output-len 1'           # a step, whoever comes first
[ "$STEP_MS" != 0 ] || size='--max-seqs 32 --num-requests 400 --input-len 16 --output-len 24'

# measure SIDE-TURN SLOW
measure() {
    SLOW=$2 "$build/tests/tokmill_slow" bench -q --log-level error --allow-invalid --format csv -m datasets/default \
        -t 1 $size --repeat 6 --results "$to/$1" >"$to/out" || { echo "bench failed: $1"; exit 1; }
}

regression() { # BASE NEW
    "$build/tokmill" compare "$to/$1-1,$to/$1-2" "$to/$2-1,$to/$2-2" --metric output_tokens_per_s >"$to/compare"
    status=$?
    [ $status -le 1 ] || { cat "$to/compare"; exit 1; }
    [ $status = 1 ]
}

false_alarms=0 found=0 round=0
while [ $round -lt "$rounds" ]; do
    round=$((round + 1))
    rm -rf "$to"/[ab]*
    for side in a-1 aa-1 b-1 b-2 aa-2 a-2; do
        case $side in b*) measure $side 0.1 ;; *) measure $side 0 ;; esac
    done
    if regression a aa; then false_alarms=$((false_alarms + 1)); grep "^output" "$to/compare"; fi
    if regression a b; then found=$((found + 1)); else grep "^output" "$to/compare"; fi
done
echo "$false_alarms false alarms, $found regressions found, in $rounds rounds"
[ $false_alarms -le 1 ] && [ $found -ge $((rounds - 1)) ]
