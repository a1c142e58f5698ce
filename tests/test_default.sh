#!/bin/sh
# The embedded default: at most 8 MB; at least 95 % of the held-out corpus is answered exactly; every greedy answer in f32 is that of transformers.
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
bytes=$(cat datasets/default/* | wc -c)
[ "$bytes" -le 8000000 ] || { echo "datasets/default has $bytes bytes"; exit 1; }
"$build/tokmill" run -q -m datasets/default --results "$to/r" -o "$to/rows.jsonl" datasets/default.jsonl.zst || exit 1
jq -e '.scored >= 2000 and .score >= 0.95 and .failed == 0' "$to/r/summary.json" >/dev/null || { echo "score: $(jq .score "$to/r/summary.json")"; exit 1; }
"$build/tokmill" run -q -m datasets/default --compute f32 --ordered --token-ids --results none datasets/default.jsonl.zst >"$to/f32.jsonl" || exit 1
# transformers' ids end with the end-of-text token, which rows leave out
jq -c '[.id, .text, .token_ids]' "$to/f32.jsonl" >"$to/ours"
zstd -dcq tests/golden/default-greedy.jsonl.zst | jq -c '[.id, .text, (.token_ids | if .[-1] as $e | [829, 831] | index($e) then .[:-1] else . end)]' >"$to/theirs"
diff "$to/theirs" "$to/ours" || exit 1
echo "score $(jq .score "$to/r/summary.json"), $(wc -l <"$to/theirs") greedy answers as in transformers"
if command -v python3 >/dev/null; then
    python3 -B datasets/make_default/tasks.py --check datasets/default.jsonl.zst
else
    echo "skipped: no python3 to draw training samples with"
fi
