#!/bin/sh
# ./run.sh        sets up, builds, answers the embedded default corpus and prints the table of stages and the score
# ./run.sh test   sets up, builds and runs all tests, then once more with sanitizers
# ./run.sh CMD... the same as build/tokmill CMD... after set-up and build
# sbatch --array=0-63%8 run.sh run ARG...  each task of the array answers its shard (--shard auto), with what is built already
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@60
set -e
need="gcc libc6-dev make libzstd-dev libjansson-dev libpcre2-dev libutf8proc-dev libxxhash-dev zlib1g-dev libdnnl-dev"
[ "$1" != test ] || need="$need libcmocka-dev zstd jq scdoc g++ clang libclang-rt-14-dev"

# A task of Slurm.  One that is stopped (75) is queued again and goes on where it was; one that is killed as well, 5 times.  Slurm
# itself queues again only what dies with its node.
task() {
    [ -x build/tokmill ] || { echo "run.sh: there is no $PWD/build/tokmill yet; build it first: ./run.sh test, or make" >&2; exit 2; }
    if [ "$1" = run ] && [ -n "$SLURM_ARRAY_TASK_ID" ]; then
        case "$*" in *--shard*) ;; *) set -- "$@" --shard auto ;; esac
    fi
    build/tokmill "$@" &
    child=$! status=0 ended=''
    trap 'ended=yes' TERM               # cancelled, or queued again by somebody else; Slurm tells the child, too
    trap 'kill -TERM $child; trap : TERM' USR1          # its time is nearly over
    wait $child || status=$?
    while kill -0 $child 2>/dev/null; do        # it was the signal that ended the wait
        status=0
        wait $child || status=$?
    done
    trap - USR1 TERM
    if [ -z "$ended" ] && { [ $status = 75 ] || { [ $status -gt 128 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 5 ]; }; }; then
        echo "run.sh: status $status: it is queued again" >&2
        scontrol requeue "$SLURM_JOB_ID" && sleep 60    # which Slurm ends
    fi
    exit $status
}

# Slurm runs a copy of this script, which is far from the rest
cd "$(dirname "$0")"
if [ -n "$SLURM_JOB_ID" ] && [ ! -f src/FLOORS ]; then
    cd "$(dirname "$(scontrol show job "$SLURM_JOB_ID" | sed -n '/^ *Command=/{s/^[^=]*=\(.*run\.sh\).*/\1/p;q}')")"
    task "$@"
fi

missing=""
for p in $need; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
    line="apt-get install -y --no-install-recommends$missing"
    if [ "$(id -u)" != 0 ]; then
        echo "run.sh: some packages are missing; as root: $line" >&2
        exit 2
    fi
    echo "run.sh: $line" >&2
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive $line >/dev/null
fi

jobs=$(nproc)
make -j"$jobs" all
case ${1-} in
test)
    make -j"$jobs" test
    exec make -j"$jobs" asan
    ;;
'') exec build/tokmill run -m datasets/default -o results/default.jsonl.zst datasets/default.jsonl.zst ;;
*) exec build/tokmill "$@" ;;
esac
