#!/bin/sh
# Inline PTX, intrinsics and launches stand in kernels/cuda/prim.h alone, so that what has to be emulated has one place.
cd "$(dirname "$0")/.." || exit 1
special() {
    grep -noE '\b__[A-Za-z_]+|\basm\b|\batomic[A-Z][A-Za-z]*|<<<|\b(nv)?cuda::|#include *<(cuda_[a-qs-z]|mma|cooperative)[^>]*>' /dev/null "$@" |
        grep -vE ':__(global__|device__|host__|launch_bounds__|forceinline__|restrict__|CUDACC__|cplusplus)$'
}
files=$(ls kernels/cuda/*.cu kernels/cuda/*.h | grep -v '/prim.h$')
for word in asm __shfl_xor_sync __syncthreads; do
    special kernels/cuda/prim.h | grep -q ":$word$" || { echo "\"$word\" is not found even in prim.h"; exit 1; }
done
found=$(special $files)
[ -z "$found" ] || { echo "$found"; echo "what is special stands in kernels/cuda/prim.h"; exit 1; }
echo "nothing special in $(echo "$files" | wc -l) files"
