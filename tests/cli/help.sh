tokmill --help
for c in run verify bench compare report inspect make-model tokenize completion man; do
    echo
    echo "== $c"
    tokmill $c --help
done
