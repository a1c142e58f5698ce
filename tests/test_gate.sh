#!/bin/sh
# tests/test_gate.sh BUILD: compare as a gate.  In each round A, another A and a B that is 10 % slower are measured in turn, there
# and back, eight times each, every time by a process of its own, because what makes one process slower than another of the same program
# lasts as long as it does; A against A is to pass, A against B to be a regression, with one false alarm and one miss allowed.  Steps take at
# least STEP_MS (tests/slow.c), so that the suite does not depend on what else the machine does.  GATE=20 STEP_MS=0: 20 rounds on the machine
# as it is, which had better be quiet.
build=$(cd "$1" && pwd)
[ "${build%/asan}" = "$build" ] || { echo "skipped: a gate of speed is not for sanitizers"; exit 0; }
cd "$(dirname "$0")/.." || exit 1
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
rounds=${GATE:-4}
export STEP_MS="${STEP_MS:-100}"
size='--max-seqs 1 --num-requests 1 --input-len 8 --output-len 1'           # a step, whoever comes first
[ "$STEP_MS" != 0 ] || size='--max-seqs 32 --num-requests 400 --input-len 16 --output-len 24'

# measure SIDE TURN SLOW
measure() {
    SLOW=$3 "$build/tests/tokmill_slow" bench -q --log-level error --allow-invalid -m datasets/default -t 1 $size --results "$to/$1$2" >"$to/out" ||
        { echo "bench failed: $1"; exit 1; }
}

folders() { for turn in 1 2 3 4 5 6 7 8; do printf '%s,' "$to/$1$turn"; done; }

regression() { # BASE NEW
    base=$(folders "$1") new=$(folders "$2")
    "$build/tokmill" compare "${base%,}" "${new%,}" --metric output_tokens_per_s >"$to/compare"
    status=$?
    [ $status -le 1 ] || { cat "$to/compare"; exit 1; }
    [ $status = 1 ]
}

false_alarms=0 found=0 round=0
while [ $round -lt "$rounds" ]; do
    round=$((round + 1))
    rm -rf "$to"/?.?
    for turn in 1 2 3 4 5 6 7 8; do
        case $((turn % 2)) in 1) order='a. x. b.' ;; *) order='b. x. a.' ;; esac
        for side in $order; do
            case $side in b.) measure $side $turn 0.1 ;; *) measure $side $turn 0 ;; esac
        done
    done
    if regression a. x.; then false_alarms=$((false_alarms + 1)); grep "^output" "$to/compare"; fi
    if regression a. b.; then found=$((found + 1)); else grep "^output" "$to/compare"; fi
done
echo "$false_alarms false alarms, $found regressions found, in $rounds rounds"
[ $false_alarms -le 1 ] && [ $found -ge $((rounds - 1)) ]
