# the rows of all shards are those of the whole run, byte by byte: plain and compressed corpora, blank and bad lines, ids that come twice in different shards
model=$root/datasets/default
zstdcat "$root/datasets/default.jsonl.zst" | jq -c '.max_tokens = 8' >all.jsonl
(sed -n '1,20p' all.jsonl | sed 's/$/\n/'; echo '{"prompt": 7}'; sed -n '18,19p' all.jsonl) >a.jsonl       # every second line is blank
sed -n '21,40p' all.jsonl | zstd -q >b.jsonl.zst
(sed -n '41,50p' all.jsonl; echo; echo '  '; sed -n '1p' all.jsonl) | gzip >c.jsonl.gz
set -- -q --results none --no-prefix-cache -m "$model" a.jsonl b.jsonl.zst c.jsonl.gz
say() { echo "status $?"; }
tokmill run "$@" --ordered -o whole.jsonl --log-level error; say
for n in 1 2 5; do
    k=0
    while [ $k -lt $n ]; do
        tokmill run "$@" --log-level error --shard $k/$n -o s$n.jsonl >>log 2>&1 || [ $? = 1 ] || echo "shard $k of $n failed"
        k=$((k + 1))
    done
    tokmill merge --corpus a.jsonl --corpus b.jsonl.zst --corpus c.jsonl.gz m$n.jsonl s$n.*-of-*.jsonl 2>/dev/null; say
    cmp m$n.jsonl whole.jsonl
    wc -l s$n.*-of-*.jsonl | awk '$2 != "total" { print $1, $2 }'
done
# they are cut off where the whole is
for k in 0 1 2; do tokmill run "$@" --limit 31 --log-level error --shard $k/3 --ordered -o cut.jsonl; done 2>/dev/null
cat cut.*-of-*.jsonl | jq .index | sort -n | tail -1

# names, and the folders of result files
mkdir a.b
for o in a.b/x a.b/x.zst a.b/x.jsonl.gz a.b/.x; do tokmill run "$@" --limit 9 --shard 1/12 -o $o; done
set -- -q --no-prefix-cache -m "$model" --limit 30 all.jsonl
for k in 0 1 1; do tokmill run "$@" --results r --errors e.jsonl -o y.jsonl --shard $k/2; rm y.00001*; done 2>/dev/null
tokmill run "$@" --shard 1/2 -o /dev/null
find a.b e.* r/* results/* ! -name '*.csv' ! -name '*.json' | sed 's/2[0-9]*-[0-9]*-/DATE-/' | sort
tokmill run "$@" --results none --shard 1/2 | jq .index | sort -n | head -2 | paste -sd' '

# from the environment
first() { tokmill run "$@" 2>&1 | sed 's/.*"index":\([0-9]*\).*/\1/' | sort -n | head -2 | paste -sd' '; }
set -- "$@" --results none
export SLURM_ARRAY_TASK_ID=7 SLURM_ARRAY_TASK_MIN=5 SLURM_ARRAY_TASK_MAX=8 SLURM_ARRAY_TASK_COUNT=4
first "$@"
first "$@" --shard auto
first "$@" --shard auto/9
first "$@" --shard 1/2
SLURM_ARRAY_TASK_COUNT=3 first "$@" --shard auto
SLURM_ARRAY_TASK_ID=seven first "$@" --shard auto
unset SLURM_ARRAY_TASK_ID
JOB_COMPLETION_INDEX=0 first "$@" --shard auto/3
PARALLEL_SEQ=3 first "$@" --shard auto/3
PARALLEL_SEQ=4 first "$@" --shard auto/3
PARALLEL_SEQ=0 first "$@" --shard auto/3
unset SLURM_ARRAY_TASK_COUNT
JOB_COMPLETION_INDEX=0 first "$@" --shard auto
for s in auto x 3 3/3 1/0 /3 1/ -1/3 1/2/3 auto/ 0/100000; do first "$@" --shard $s; done
