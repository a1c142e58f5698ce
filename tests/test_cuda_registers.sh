#!/bin/sh
# What nvcc makes of the kernels for Hopper: no spill, no local memory, and registers and shared memory of each as in
# tests/golden/cuda_registers.tsv (make emu_nvcc does it for every architecture).
build=$1
cd "$(dirname "$0")/.." || exit 1
golden=tests/golden/cuda_registers.tsv
[ -x "$build/cudaemu/tokmill" ] || { echo "skipped: once is enough, without sanitizers"; exit 0; }
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[ -x "$nvcc" ] || { echo "skipped: there is no nvcc"; exit 0; }
ours=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/# nvcc \1/p')
[ "$ours" = "$(head -1 $golden)" ] || { echo "skipped: \"$ours\", and the table is of \"$(head -1 $golden)\""; exit 0; }
table=$build/cuda/sm_90/registers.tsv
MAKEFLAGS='' make -s BUILD="$build" "$table" || exit 1
grep "	sm_90	" $golden | diff - "$table" || { echo "the registers have changed (>): see make emu_nvcc"; exit 1; }
awk -F'\t' '$5 { print "local memory: " $0; bad = 1 } END { exit bad }' "$table" || exit 1
echo "$(wc -l <"$table") kernels"
