#!/bin/sh
# tests/run.sh BUILD [NAME...]: runs the test programs $PROGRAMS of the build folder, the script tests and the command-line
# tests, or only those named.  A line each with its seconds and what it skipped; of one that fails also what it printed.  The last line counts.
build=$1
shift
names=$*
passed=0 failed='' ran=''

# A log without the tests that passed within it.
show_log() {
    awk '/^\[ RUN  / { held = $0; next }
         /^\[       OK/ && held { held = ""; next }
         { if (held) print held; held = ""; print }
         END { if (held) print held }' "$1" | sed '61,$d'
    echo "      (all of it: $1)"
}

run() {
    name=$1 log=$build/tests/$1.log
    shift
    case " $names " in '  ' | *" $name "*) ;; *) return ;; esac
    ran="$ran $name" from=$(date +%s)
    if "$@" >"$log" 2>&1; then
        word=ok passed=$((passed + 1))
    else
        word=FAIL failed="$failed $name"
    fi
    printf '%-4s %3d s  %s\n' "$word" $(($(date +%s) - from)) "$name"
    [ "$word" = ok ] || show_log "$log"
    sed -n 's/^ *skipped: /            skipped: /p' "$log" | sort -u
}

mkdir -p "$build/tests"
XDG_CACHE_HOME=$(cd "$build" && pwd)/tests/cache           # not the user's, and empty
export XDG_CACHE_HOME
rm -rf "$XDG_CACHE_HOME"
for name in $PROGRAMS; do
    run "$name" "$build/tests/$name"
done
for t in tests/test_*.sh; do
    run "$(basename "$t")" "$t" "$build"
done
for t in tests/cli/*.sh; do
    run "cli_$(basename "$t" .sh)" tests/cli.sh "$build" "$t"
done
for name in $names; do
    case " $ran " in *" $name "*) ;; *) echo "FAIL no test is named \"$name\""; failed="$failed $name" ;; esac
done
echo "$passed passed, $(echo "$failed" | wc -w) failed$failed" | sed 's/failed /failed: /'
[ -z "$failed" ]
