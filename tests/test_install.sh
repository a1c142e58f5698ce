#!/bin/sh
# make install puts everything where it belongs, and the committed manual page and completion are what the program prints.
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
# -o: as it is built, whatever it is built with
make --no-print-directory -o "$1/tokmill" BUILD="$1" install DESTDIR="$to" PREFIX=/usr || exit 1
for f in bin/tokmill share/man/man1/tokmill.1 share/bash-completion/completions/tokmill share/tokmill/hardware.csv; do
    [ -s "$to/usr/$f" ] || { echo "not installed: $f"; exit 1; }
done
"$to/usr/bin/tokmill" completion | diff - src/cmd/tokmill.bash || { echo "src/cmd/tokmill.bash is old: make man"; exit 1; }
bash -c 'source src/cmd/tokmill.bash; COMP_WORDS=(tokmill run --max-s); COMP_CWORD=2; _tokmill; echo "${COMPREPLY[*]}"' | grep -q -- '--max-seqs --max-step-tokens' ||
    { echo "the completion does not complete"; exit 1; }
if command -v scdoc >/dev/null; then
    # the page's first line holds the day it was made
    "$build/tokmill" man | scdoc | sed '/^\.TH/d' >"$to/page"
    sed '/^\.TH/d' src/cmd/tokmill.1 | diff - "$to/page" || { echo "src/cmd/tokmill.1 is old: make man"; exit 1; }
fi
