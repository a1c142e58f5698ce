# the first SIGTERM lets what runs finish and keeps its rows; the status says that the work is not done
zstdcat "$root/datasets/default.jsonl.zst" | jq -c '.ignore_eos = true | .max_tokens = 300 - .max_tokens' >p.jsonl
tokmill run -q --results r --max-seqs 2 -m "$root/datasets/default" -o out.jsonl p.jsonl &
sleep 2
kill -TERM $!
wait $!; echo "status $?"
[ "$(wc -l <out.jsonl)" -ge 2 ] && echo 'rows kept'
jq -e . out.jsonl >/dev/null && echo 'rows whole'
jq -r .validity_rules r/summary.json | grep -o interrupted
# rows that wait for their turn are written too where no journal says what is left to do
(head -500 p.jsonl; head -3 p.jsonl | sed 's/}$//') >bad.jsonl
tokmill run -q --log-level error --results none --ordered --max-seqs 2 -m "$root/datasets/default" bad.jsonl >out.jsonl &
sleep 2
kill -INT $!
wait $!; echo "status $?"
jq -r .index out.jsonl >index
[ "$(tail -3 index | paste -sd' ')" = '500 501 502' ] && sort -n index | cmp - index && echo 'rows kept, in order'
