# every line has one row: plain lines, Batch, trtllm-bench, blank ones, bad ones, ids that are there twice
zstdcat "$root/datasets/default.jsonl.zst" | head -12 >plain.jsonl
sed -n '1,4p' plain.jsonl | jq -c '{custom_id: "b-\(.id)", method: "POST", url: "/v1/completions", body: {prompt, max_tokens}}' >batch.jsonl
(head -2 batch.jsonl; echo; head -1 batch.jsonl; tail -1 batch.jsonl; echo '{"custom_id": 7, "body": {}}') >other.jsonl
jq -c '{task_id: 5, prompt, output_tokens: 3}' plain.jsonl | head -2 | sed 's/}$/}\r/' | zstd -q >more.jsonl.zst
echo '{"prompt": ' >>other.jsonl
corpora='plain.jsonl other.jsonl more.jsonl.zst'
tokmill run -q --results none --log-level error -m "$root/datasets/default" -o out.jsonl.zst --ordered --token-ids $corpora; echo "status $?"
tokmill verify out.jsonl.zst $corpora; echo "status $?"
# rows are lost, there twice, or of no line; others' ids will do
zstdcat out.jsonl.zst | jq -c 'select(.index != 3) | if .custom_id == "b-sort-00038" then .id = "other-1" else . end' >rows.jsonl
(head -2 rows.jsonl; cat rows.jsonl; echo '{"index": 14}'; echo '{"custom_id": "who"}'; echo '[]'; echo '{"index') >wrong.jsonl
tokmill verify wrong.jsonl $corpora; echo "status $?"
tokmill verify rows.jsonl plain.jsonl | tail -1
# a run that has not finished, its last row torn; and one of the first lines
zstdcat out.jsonl.zst | jq -c 'select(.index != null and .index < 5)' >part.jsonl
cp part.jsonl first.jsonl
echo '{"index": 5, "te' >>part.jsonl
touch part.jsonl.journal
tokmill verify part.jsonl plain.jsonl; echo "status $?"
tokmill verify --limit 5 first.jsonl $corpora; echo "status $?"
(cat out.jsonl.zst; head -c 30 out.jsonl.zst) >torn.jsonl.zst
tokmill verify torn.jsonl.zst $corpora 2>torn.err; echo "status $?"
sed 's/at byte [0-9]*/at byte N/' torn.err
# a broken corpus has one row for what is lost of it
zstd -q plain.jsonl -o cut.zst
truncate -s -9 cut.zst
tokmill run -q --results none --log-level error -m "$root/datasets/default" -o cut.jsonl cut.zst plain.jsonl 2>cut.err; echo "status $?"
tokmill verify cut.jsonl cut.zst plain.jsonl; echo "status $?"
# the lines of some rows again: at random too, with the run's options
tokmill verify --sample 6 -m "$root/datasets/default" out.jsonl.zst $corpora; echo "status $?"
tokmill run -q --results none -m "$root/datasets/default" -o drawn.jsonl --temperature 2 -n 2 --seed 3 plain.jsonl
tokmill verify --sample 5 --seed 1 -m "$root/datasets/default" --run '--temperature 2 -n 2 --seed 3' drawn.jsonl plain.jsonl; echo "status $?"
tokmill verify --sample 12 -m "$root/datasets/default" --run '--temperature 2 -n 2 --seed 4' drawn.jsonl plain.jsonl | grep -q '^other tokens' && echo 'other seed, other tokens'
zstdcat out.jsonl.zst | jq -c 'if .index == 2 then .token_ids[1] += 1 else . end' >forged.jsonl
tokmill verify --sample 100 -m "$root/datasets/default" forged.jsonl $corpora; echo "status $?"
# what cannot be
tokmill verify out.jsonl.zst; echo "status $?"
tokmill verify none.jsonl plain.jsonl; echo "status $?"
tokmill verify out.jsonl.zst none.jsonl; echo "status $?"
tokmill verify --sample 1 out.jsonl.zst plain.jsonl; echo "status $?"
tokmill verify --sample 1 -m "$root/datasets/default" --run --frob out.jsonl.zst $corpora; echo "status $?"
