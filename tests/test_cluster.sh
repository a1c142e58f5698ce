#!/bin/sh
# An array of 8 shards on a real Slurm of 3 nodes: a node is lost in the middle, another task is killed, and all the same every line is there once.
cd "$(dirname "$0")/.." || exit 1
PATH=$PATH:/usr/sbin
for p in slurmctld slurmd munged sbatch; do
    command -v $p >/dev/null || { echo "skipped: no $p here (apt-get install slurmctld slurmd slurm-client munge)"; exit 0; }
done
[ "$(cd "$1" && pwd)" = "$PWD/build" ] || { echo "skipped: run.sh runs what is in build/"; exit 0; }
to=$(mktemp -d)
export SLURM_CONF="$to/slurm.conf"
trap 'tests/cluster.sh down "$to"; [ -n "$failed" ] || rm -rf "$to"' EXIT
failed=yes
fail() {
    echo "$1 ($to)"
    tail -n 20 "$to"/*.log
    exit 1
}
# wait_until SECONDS COMMAND...
wait_until() {
    end=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -lt $end ] || return 1
        sleep 0.2
    done
}
none_left() { [ -z "$(squeue -h)" ]; }
shard() { printf '%s.%05u-of-00008.jsonl' "$2" "$1"; }
# rows of the shard of node $1's task are on disk; sets k, its number, and job
in_the_middle() {
    set -- $(squeue -h -t R -w "$1" -o '%K %A')
    k=$1 job=$2
    [ -n "$k" ] && [ -s "$(shard "$k" "$to/.out")" ]
}
# the batch step of a job and all that it runs
tree() { pgrep -f "^slurmstepd: \[$1\." | while read -r step; do echo "$step"; pgrep -P "$step" | while read -r p; do echo "$p"; pgrep -P "$p"; done; done; }
restarts() { scontrol show job "$1" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p'; }

tests/cluster.sh up "$to" || exit 1
zstdcat datasets/default.jsonl.zst | jq -c '.ignore_eos = true | .max_tokens = 300 - .max_tokens' | head -400 | zstd -q >"$to/p.jsonl.zst"
array=$(sbatch --parsable --array=0-7 --requeue --output="$to/%a.log" run.sh run -m datasets/default --threads 1 --max-seqs 2 --no-prefix-cache \
    --results none --log-level info -o "$to/out.jsonl" "$to/p.jsonl.zst") || fail "sbatch"

# a machine is lost: daemon, step and task at once
wait_until 20 in_the_middle n2 || fail "no task in the middle on n2"
lost=$k lost_job=$job
kill -9 "$(cat "$to/slurmd.n2.pid")" $(tree "$job")
# a task is killed, its machine is not
wait_until 20 in_the_middle n3 || fail "no task in the middle on n3"
killed=$k killed_job=$job
kill -9 "$(pgrep -P "$(pgrep -P "$(pgrep -f "^slurmstepd: \[$job\.")")" tokmill)"

wait_until 120 none_left || fail "tasks are left: $(squeue -h)"
for k in $lost $killed; do
    grep -q 'going on with .*: [1-9][0-9]* rows are there' "$to/$k.log" || fail "shard $k did not go on where it was"
done
[ "$(restarts "$lost_job")" = 1 ] && [ "$(restarts "$killed_job")" = 1 ] || fail "restarts: $(restarts "$lost_job"), $(restarts "$killed_job")"
build/tokmill merge --corpus "$to/p.jsonl.zst" "$to/merged.jsonl" "$to"/out.*-of-*.jsonl || fail "merge"
build/tokmill run -q -m datasets/default --ordered --no-prefix-cache --results none -o "$to/whole.jsonl" "$to/p.jsonl.zst"
cmp "$to/merged.jsonl" "$to/whole.jsonl" || fail "the shards are not the whole"

# what cannot be mended is not tried again; what is near the end of its time is; what is cancelled stays so
bad=$(sbatch --parsable --requeue --output="$to/bad.log" run.sh run -m "$to/none" "$to/p.jsonl.zst")
gone=$(sbatch --parsable --requeue --output="$to/gone.log" run.sh run -m datasets/default --results none --max-seqs 1 -o "$to/gone.jsonl" "$to/p.jsonl.zst")
went_on() { grep -q 'going on with' "$to/gone.log"; }
wait_until 20 test -s "$to/gone.jsonl" && scancel --batch --signal=USR1 "$gone"
wait_until 30 went_on && scancel "$gone"
wait_until 30 none_left || fail "tasks are left: $(squeue -h)"
scontrol show job "$bad" | grep -q 'JobState=FAILED' && [ "$(restarts "$bad")" = 0 ] || fail "status 2 was tried again"
scontrol show job "$gone" | grep -q 'JobState=CANCELLED' && [ "$(restarts "$gone")" = 1 ] || fail "stopped, gone on with and cancelled: $(scontrol show job "$gone" | grep -E 'JobState|Restarts')"
failed=
echo "array $array: shard $lost went on after its node was lost, shard $killed after it was killed; every line is there once"
