# plain, zstd of several frames, gzip, standard input and output give the same answers
zstdcat "$root/datasets/default.jsonl.zst" | head -6 >p.jsonl
run() { tokmill run -q --results none --ordered -m "$root/datasets/default" "$@"; }
run p.jsonl >plain.out
cat plain.out plain.out | jq -r .text >plain.twice
(head -2 p.jsonl | zstd -qc; tail -n +3 p.jsonl | zstd -qc) >p.jsonl.zst
gzip -kc p.jsonl >p.jsonl.gz
run p.jsonl.zst | cmp - plain.out && echo zstd
run p.jsonl.gz | cmp - plain.out && echo gzip
run - <p.jsonl | cmp - plain.out && echo stdin
run -o out.jsonl.zst p.jsonl && zstdcat out.jsonl.zst | cmp - plain.out && echo 'zstd out'
run -o out.jsonl.gz p.jsonl && gunzip -c out.jsonl.gz | cmp - plain.out && echo 'gzip out'
mkfifo pipe1 pipe2
cat p.jsonl >pipe1 & zstdcat p.jsonl.zst >pipe2 &
run pipe1 pipe2 | jq -r .text | cmp - plain.twice && echo 'named pipes'
run -o rows.out pipe1 &
exec 3>pipe1
head -1 p.jsonl >&3
for i in 1 2 3 4 5 6 7 8 9 10; do [ -s rows.out ] || sleep 1; done
[ -s rows.out ] && echo 'a row does not wait for the next line'
exec 3>&-
wait
printf '%s' "$(cat p.jsonl)" | run - | cmp - plain.out && echo 'no last line end'
sed 's/$/\r/' p.jsonl | run - | cmp - plain.out && echo 'cr lf'
head -c 60 p.jsonl.zst >cut.jsonl.zst
run cut.jsonl.zst | tail -1 | jq -r .error.message | sed 's/byte [0-9]*/byte N/'
echo "status $?"
