#!/bin/sh
# One command-line test: runs tests/cli/NAME.sh in an empty folder and compares standard output, standard error and exit
# status with NAME.out, NAME.err and NAME.exit (missing: empty, empty, 0).  $root is the repository, tokmill is on the PATH.
# UPDATE=1 writes the expected files instead.
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
case_file=$root/${2#"$root"/}
name=${case_file%.sh}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$build:$PATH
CUDA_VISIBLE_DEVICES=      # a GPU's answers may differ in a token
export PATH root CUDA_VISIBLE_DEVICES

(cd "$work" && exec sh "$case_file") >"$work.out" 2>"$work.err"
echo $? >"$work.exit"
trap 'rm -rf "$work" "$work".out "$work".err "$work".exit' EXIT

if [ "${UPDATE-}" = 1 ]; then
    for k in out err; do
        if [ -s "$work.$k" ]; then cp "$work.$k" "$name.$k"; else rm -f "$name.$k"; fi
    done
    if [ "$(cat "$work.exit")" = 0 ]; then rm -f "$name.exit"; else cp "$work.exit" "$name.exit"; fi
    exit 0
fi

status=0
compare() {
    expected=$name.$1
    [ -f "$expected" ] || { expected=$work.expected; printf '%s' "$2" >"$expected"; }
    diff -u "$expected" "$work.$1" || status=1
    rm -f "$work.expected"
}
compare out ''
compare err ''
[ -f "$name.exit" ] && want=$(cat "$name.exit") || want=0
[ "$(cat "$work.exit")" = "$want" ] || { echo "exit status $(cat "$work.exit"), expected $want"; status=1; }
exit $status
