#!/bin/sh
# ./run.sh        sets up, builds, answers the embedded default corpus and prints the table of stages and the score
# ./run.sh test   sets up, builds and runs all tests, then once more with sanitizers
# ./run.sh CMD... the same as build/tokmill CMD... after set-up and build
set -e
cd "$(dirname "$0")"
need="gcc libc6-dev make libzstd-dev libjansson-dev libpcre2-dev libutf8proc-dev libxxhash-dev zlib1g-dev libdnnl-dev"
[ "$1" != test ] || need="$need libcmocka-dev zstd jq scdoc g++ clang libclang-rt-14-dev"

missing=""
for p in $need; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
    line="apt-get install -y --no-install-recommends$missing"
    if [ "$(id -u)" != 0 ]; then
        echo "run.sh: some packages are missing; as root: $line" >&2
        exit 2
    fi
    echo "run.sh: $line" >&2
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive $line >/dev/null
fi

jobs=$(nproc)
make -j"$jobs" all
case ${1-} in
test)
    make -j"$jobs" test
    exec make -j"$jobs" asan
    ;;
'') exec build/tokmill run -m datasets/default -o results/default.jsonl.zst datasets/default.jsonl.zst ;;
*) exec build/tokmill "$@" ;;
esac
