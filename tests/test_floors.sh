#!/bin/sh
# Every include goes down: base < data < kernels/device.h < model < engine < plan < cmd (src/FLOORS).
cd "$(dirname "$0")/.." || exit 1
bad=$(awk '
    FNR == NR { if ($1 !~ /^#/ && NF) floor[$1] = ++n; next }
    /^#include "cudaemu.h"/ { next }                # of the tests, in kernels/cuda/prim.h where there is no nvcc
    /^#include "/ {
        split(FILENAME, path, "/"); split($2, inc, /["\/]/)
        at = path[1] == "src" ? path[2] : "kernels"; to = inc[2]
        if (at == "kernels" && to != "base" && to != "kernels") print FILENAME ": " $2
        else if (at != "kernels" && to == "kernels" && $2 != "\"kernels/device.h\"") print FILENAME ": " $2
        else if (!(to in floor)) print FILENAME ": " $2 " stands on no floor"
        else if (floor[to] > floor[at]) print FILENAME ": " $2
    }' src/FLOORS $(find src kernels -name '*.[ch]'))
if [ -n "$bad" ]; then
    echo "includes that go up:"
    echo "$bad"
    exit 1
fi
for f in $(find src -name '*.c'); do
    module=$(basename "$f" .c)
    folder=$(basename "$(dirname "$f")")
    grep -q "^$folder .*\b${module%%_*}" src/FLOORS || { echo "$f is not in src/FLOORS"; exit 1; }
done
echo "floors hold: $(find src kernels -name '*.[ch]' | wc -l) files"
