#!/bin/sh
# tests/test_gate.sh BUILD: compare as a gate.  In each round A, another A and a B that is 10 % slower are measured in turn, there
# and back, twelve repetitions of one step a turn; A against A is to pass, A against B to be a regression.  GATE=20: so many rounds, and at most
# 1 false alarm and 1 miss among them.  Steps take at least STEP_MS (tests/slow.c); STEP_MS=0 is the machine as it is.
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
rounds=${GATE:-4}
export STEP_MS="${STEP_MS:-100}"

# measure SIDE-TURN SLOW
measure() {
    SLOW=$2 "$build/tests/tokmill_slow" bench -q --log-level error --allow-invalid --format csv -m datasets/default \
        -t 1 --max-seqs 4 --num-requests 4 --input-len 8 --output-len 1 --repeat 12 --results "$to/$1" >"$to/out" || { echo "bench failed: $1"; exit 1; }
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
