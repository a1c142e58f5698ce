# the first SIGTERM lets what runs finish and keeps its rows; the status says that the work is not done
zstdcat "$root/datasets/default.jsonl.zst" | jq -c '.ignore_eos = true | .max_tokens = 300 - .max_tokens' >p.jsonl
tokmill run -q --results r --max-seqs 2 -m "$root/datasets/default" -o out.jsonl p.jsonl &
sleep 2
kill -TERM $!
wait $!; echo "status $?"
[ "$(wc -l <out.jsonl)" -ge 2 ] && echo 'rows kept'
jq -e . out.jsonl >/dev/null && echo 'rows whole'
jq -r .validity_rules r/summary.json | grep -o interrupted
# another corpus is not mixed in
(head -500 p.jsonl; head -3 p.jsonl | sed 's/}$//') >bad.jsonl
tokmill run -q --results none -m "$root/datasets/default" -o out.jsonl bad.jsonl; echo "status $?"
# without a journal, rows that wait for their turn are written too
ordered="tokmill run -q --log-level error --results none --ordered --no-prefix-cache --max-seqs 2 -m $root/datasets/default"
$ordered -o - bad.jsonl >pipe.jsonl &
sleep 2
kill -INT $!
wait $!; echo "status $?"
jq -r .index pipe.jsonl >index
[ "$(tail -3 index | paste -sd' ')" = '500 501 502' ] && sort -n index | cmp - index && echo 'rows kept, in order'
# with one they are made again by the same command, in their turn
head -150 p.jsonl >few.jsonl
tail -3 bad.jsonl >>few.jsonl
$ordered -o some.jsonl.zst few.jsonl &
sleep 1
kill -INT $!
wait $!; echo "status $?"
[ -e some.jsonl.zst.journal ] && zstdcat some.jsonl.zst | jq -r .index >index && seq 0 $(($(wc -l <index) - 1)) | cmp - index && echo 'rows kept, no gap'
$ordered --max-seqs 16 -o some.jsonl.zst few.jsonl; echo "status $?"
$ordered --max-seqs 16 -o whole.jsonl.zst few.jsonl
zstdcat some.jsonl.zst >some && zstdcat whole.jsonl.zst | cmp - some && [ ! -e some.jsonl.zst.journal ] && echo 'the same rows'
