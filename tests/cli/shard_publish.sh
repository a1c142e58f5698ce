# a shard has its name only when it is whole, and then never loses it
model=$root/datasets/default
zstdcat "$root/datasets/default.jsonl.zst" | jq -c '.ignore_eos = true | .max_tokens = 150' >p.jsonl
set -- --log-level warn --results none --no-prefix-cache --max-seqs 4 --limit 100 -m "$model" --shard 1/2 -o out.jsonl.zst p.jsonl
files() { ls -A | grep out | paste -sd' '; }
rows() { zstdcat "$1" 2>/dev/null | wc -l; }
# until rows have been put on disk
wait_for_rows() { until [ -s .out.00001-of-00002.jsonl.zst ]; do kill -0 $! || break; sleep 0.05; done; sleep 0.2; }

tokmill run -q "$@" &
wait_for_rows
files
kill -9 $!
wait $! 2>/dev/null; echo "status $?"
n=$(rows .out.00001-of-00002.jsonl.zst)
[ "$n" -gt 0 ] && [ "$n" -lt 50 ] && echo 'some rows are there'

# held by another run: again later
(flock 9; tokmill run -q "$@"; echo "status $?") 9>>.out.00001-of-00002.jsonl.zst.journal

tokmill run -q "$@" &
sleep 0.3
kill -TERM $!
wait $!; echo "status $?"
[ "$(rows .out.00001-of-00002.jsonl.zst)" -ge "$n" ] && echo 'no row is lost'
tokmill run "$@" --log-level info 2>&1 >table | sed -n 's/[0-9]* rows are/rows are/p; /^tokmill: lines/p' | sed 's/redone [0-9]*/redone some/; s/, and what.*//'
files
seq 1 2 99 >lines
zstdcat out.00001-of-00002.jsonl.zst | jq .index | sort -n | cmp - lines && echo 'each line once'

# there already: nothing is done; come second: nothing is replaced
tokmill run -q "$@"; echo "status $?"
rm out.00001-of-00002.jsonl.zst
tokmill run -q "$@" &
sleep 0.3
echo 'first' >out.00001-of-00002.jsonl.zst
wait $!; echo "status $?"
cat out.00001-of-00002.jsonl.zst
files
