# shards in input order and in order of completion, compressed and not, become the run's rows; what is missing or there twice is named and nothing is written
model=$root/datasets/default
zstdcat "$root/datasets/default.jsonl.zst" | head -12 | jq -c '.max_tokens = 4' >p.jsonl
jq -c '{custom_id: .id, method: "POST", url: "/v1/completions", body: {prompt, max_tokens}}' p.jsonl | sed '5s/"max_tokens"/"n":0,&/' >batch.jsonl
set -- -q --log-level error --no-prefix-cache --price 2 -m "$model"
say() { echo "status $?"; }
tokmill run "$@" --results none --ordered -o whole.jsonl p.jsonl
for k in 0 1 2; do
    tokmill run "$@" --results r --ordered --shard $k/3 -o s.jsonl.zst p.jsonl
    tokmill run "$@" --results none --shard $k/3 -o b.jsonl.gz batch.jsonl
done
tokmill merge m.jsonl s.*-of-*; say
cmp m.jsonl whole.jsonl
tokmill merge --corpus p.jsonl m.jsonl.zst s.*-of-*; say
zstdcat m.jsonl.zst | cmp - whole.jsonl
tokmill merge --unordered - s.*-of-* 2>/dev/null | jq .index | paste -sd' '
tokmill merge --corpus batch.jsonl - b.*-of-* | jq -r '[.custom_id, .response.status_code] | @tsv' | sed -n '4,6p'

# any order within a shard, held in memory up to a bound
zstdcat s.00001-of-00003.jsonl.zst | tac | gzip >t.00001-of-00003.jsonl.gz
zstdcat s.00002-of-00003.jsonl.zst | sort -r >t.00002-of-00003
tokmill merge m.jsonl s.00000-of-00003.jsonl.zst t.*-of-* 2>/dev/null; say
cmp m.jsonl whole.jsonl
rm m.jsonl
tokmill merge --memory 500 m.jsonl s.00000-of-00003.jsonl.zst t.*-of-*; say

# missing, twice, torn, foreign, not at all
two="s.00000-of-00003.jsonl.zst s.00002-of-00003.jsonl.zst" one=u.00001-of-00003.jsonl
rows() { zstdcat s.00001-of-00003.jsonl.zst; }
tokmill merge m.jsonl s.00001-of-00003.jsonl.zst; say
tokmill merge m.jsonl s.*-of-* t.00001-of-00003.jsonl.gz; say
for edit in 2d 2p 4d '$!d' '2s/.\{20\}$//' '1s/"index":1/"index":9/' '1s/"index":1/"index":77/' '3s/.*/{}/' '3s/.*//' '3s/.*/[]/'; do
    echo "= $edit" >&2
    rows | sed "$edit" >$one
    tokmill merge m.jsonl $two $one; say
    tokmill merge --corpus p.jsonl m.jsonl $two $one; say
done
# the very last row: the shards alone cannot tell
zstdcat s.00002-of-00003.jsonl.zst | sed '$d' >v.00002-of-00003.jsonl
tokmill merge - s.0000[01]-of-00003.jsonl.zst v.* 2>/dev/null | wc -l
tokmill merge --corpus p.jsonl m.jsonl s.0000[01]-of-00003.jsonl.zst v.*; say
zstd -dc s.00001-of-00003.jsonl.zst | zstd -q | head -c 200 >u.00001-of-00003.jsonl.zst
tokmill merge m.jsonl $two u.00001-of-00003.jsonl.zst; say
: >$one
tokmill merge m.jsonl $two $one 2>&1 | tail -1
tokmill merge m.jsonl $two none.00001-of-00003.jsonl; say
tokmill merge m.jsonl $two s.00001-of-00004.jsonl; say
tokmill merge m.jsonl $two s.jsonl; say
tokmill merge s.00000-of-00003.jsonl.zst $two; say
tokmill merge m.jsonl; say
tokmill merge /dev/full s.*-of-*; say
tokmill merge no/m.jsonl s.*-of-*; say
tokmill merge --corpus none.jsonl m.jsonl s.*-of-*; say
head -11 p.jsonl >short.jsonl
tokmill merge --corpus short.jsonl m.jsonl s.*-of-*; say
ls -A | grep 'm\.'

# sums of the result files: shard 1 was killed once and interrupted once
mkdir r/00001-of-00003-1 r/00001-of-00003-2 r/00001-of-00002
sed 's/INVALID/VALID/' r/00001-of-00003/summary.csv >r/00001-of-00003-2/summary.csv
tokmill merge --results r m.jsonl s.*-of-* 2>&1 | sed 's/[0-9.]* s,/S s,/; s/[0-9.]* machine/S machine/'
sums() { jq -s "{lines: map(.lines) | add, input_tokens: map(.input_tokens) | add, output_tokens: map(.output_tokens) | add, usd: (map(.usd) | add * 1e9 | round), machine_s: (map($1) | add * 1e6 | round)}"; }
jq .  r/0000?-of-00003/summary.json r/00001-of-00003/summary.json | sums .wall_s >want
sums .machine_s <r/summary.json | diff want - && echo 'the sums are right'
jq -c '[.model, .device, .shards, .runs, .runs_lost, .runs_invalid, .validity, .wall_s > 0, .wall_s <= .machine_s + 60, .usd_per_mtok > 0]' r/summary.json
head -1 r/summary.csv | tr -d '\r'
tokmill merge --results none m.jsonl s.*-of-* 2>&1 | tail -1
tokmill merge --results . m.jsonl s.*-of-* 2>&1 | tail -1
