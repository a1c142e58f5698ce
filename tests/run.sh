#!/bin/sh
# Runs every test program of the build folder $1, the script tests and the command-line tests; ends with one line that counts.
build=$1
passed=0 failed=0
run() {
    name=$1
    shift
    if "$@" >"$build/tests/$name.log" 2>&1; then
        passed=$((passed + 1))
        echo "ok    $name  $(grep -ci skipp "$build/tests/$name.log" | sed 's/^0$//; s/^[1-9].*/(with skips)/')"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
        tail -40 "$build/tests/$name.log"
    fi
}
mkdir -p "$build/tests"
for t in "$build"/tests/test_*; do
    case $t in *.o | *.d | *.log) continue ;; esac
    run "$(basename "$t")" "$t"
done
for t in tests/test_*.sh; do
    run "$(basename "$t" .sh)" "$t" "$build"
done
for t in tests/cli/*.sh; do
    run "cli_$(basename "$t" .sh)" tests/cli.sh "$build" "$t"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
