# the first SIGTERM lets what runs finish and keeps its rows; the status says that the work is not done
zstdcat "$root/datasets/default.jsonl.zst" | jq -c '.ignore_eos = true | .max_tokens = 300' >p.jsonl
tokmill run -q --results r --max-seqs 2 -m "$root/datasets/default" -o out.jsonl p.jsonl &
sleep 2
kill -TERM $!
wait $!; echo "status $?"
[ "$(wc -l <out.jsonl)" -ge 2 ] && echo 'rows kept'
jq -e . out.jsonl >/dev/null && echo 'rows whole'
jq -r .validity_rules r/summary.json | grep -o interrupted
