# a folder of results a run, and one of the command: what is whole there is not run again
bench() { tokmill bench -q --log-level error --allow-invalid -m "$root/datasets/default" "$@"; }
sums() { (cd "$1" && find . -type f | sort | xargs md5sum); }
# sound FILE...: each has a row at least, and as many cells in every row, as strict readers have it
sound() {
    command -v python3 >/dev/null || return 0
    python3 -c 'import csv, sys
for name in sys.argv[1:]:
    rows = list(csv.reader(open(name, newline="", encoding="utf-8"), strict=True))
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows): print(name, "is broken")' "$@"
}
sweep='--allow-invalid --rate 100 --num-requests 100 --output-len 2 --sweep input-len=8,16,24 --results s --format csv'
sweep() { tokmill bench -q --log-level error -m "$root/datasets/default" $sweep "$@"; }
# interrupted in the second of three
(exec tokmill bench -q --log-level error -m "$root/datasets/default" $sweep >/dev/null) &
for i in 1 2 3 4 5 6 7 8 9 10; do [ -s s/0001/summary.json ] || sleep 0.5; done
sleep 0.3
kill -INT $!
wait $!; echo "status $?"
find s -name summary.json | sort
sums s/0001 >first
sweep >out.csv; echo "status $?"
sums s/0001 | cmp - first && echo 'the first one was not run again'
find s -name summary.json | sort
cmp out.csv s/summary.csv && echo 'printed as kept'
sound s/*.csv s/*/*.csv
cut -d, -f3,4 s/summary.csv | grep -c interrupted
for k in 0001 0002 0003; do jq -c '[.point, .input_len, .done, .input_tokens, .repetition]' s/$k/summary.json; done
# all is there: nothing runs, and the same is said
sums s >all
sweep | cmp - out.csv && echo 'the same again'
sums s | cmp - all && echo 'no file changed'
rm s/summary.csv
sweep >again.csv; cmp again.csv s/summary.csv && echo 'a lost summary.csv is made anew'
# another command has another folder
sweep --seed 1 2>err; echo "status $?"
sed 's/ holds/\n&/' err | tail -1
sums s | cmp - all && echo 'no file changed'
# rows of another version are not mixed with these
sed -i '1s/,validity,/,valid,/' s/0001/summary.csv
sweep; echo "status $?"
# repetitions go round the points
bench --num-requests 5 --input-len 8 --output-len 2 --sweep batch=1,2 --repeat 2 --results r >/dev/null
for k in 0001 0002 0003 0004; do jq -c '[.point, .repetition, .max_seqs]' r/$k/summary.json; done
bench --num-requests 5 --input-len 8 --output-len 2 --sweep 'input-len=4..8,normal(8,3),12' --results v >/dev/null
for k in 0001 0002 0003; do jq -c '[.point, .input_len]' v/$k/summary.json; done
# one run has no folder of its own; none writes nothing
bench --num-requests 5 --input-len 8 --output-len 2 --results one >/dev/null
ls one
(mkdir empty && cd empty && bench --num-requests 5 --input-len 8 --output-len 2 --results none >/dev/null && ls)
