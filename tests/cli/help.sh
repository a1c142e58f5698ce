tokmill --help
<<<<<<< HEAD
for c in run verify merge bench compare report inspect make-model tokenize completion man; do
=======
for c in run merge bench compare report inspect make-model tokenize completion man; do
>>>>>>> h10
    echo
    echo "== $c"
    tokmill $c --help
done
