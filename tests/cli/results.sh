# the result files: every column, and that they agree with each other
tokmill run -q --results r --limit 100 --price 0.5 -m "$root/datasets/default" -o out.jsonl "$root/datasets/default.jsonl.zst"; echo "status $?"
ls r
for f in stages requests steps summary; do head -1 r/$f.csv | tr -d '\r'; done
echo "rows $(wc -l <out.jsonl), requests.csv $(($(wc -l <r/requests.csv) - 1)), done $(jq .done r/summary.json)"
jq -r 'if (.usd - ([.stages[].usd // 0] | add) | fabs) < .usd * 0.001 then "money adds up" else "money is lost" end' r/summary.json
size=$(stat -c %s "$root/datasets/default/model.safetensors")
jq -r --argjson size "$size" 'if .load_bytes_per_s > 0.99 * $size / .load_s and .load_bytes_per_s < 1e11 then "loading has a rate" else "loading has a wrong rate" end' r/summary.json
jq -r 'if (.total_tokens_per_s * .wall_s - .total_tokens | fabs) < 1 then "rates agree" else "rates differ" end' r/summary.json
