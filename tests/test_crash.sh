#!/bin/sh
# Nothing lost: a run is killed, cut, stopped or left without room, anywhere, and the same command goes on.  In the end the rows are those of an
# uninterrupted run, byte for byte (sorted, where they are not --ordered), the accounts close, and the journal is gone.
# CRASH_POINTS=N: so many kills by the clock (default 24); from 200 on each call is killed in all formats and tails are cut at each byte.  CRASH_SEED=N: other points.
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1
points=${CRASH_POINTS:-24}
[ "$points" -ge 200 ] && full=yes || full=
root=$PWD plain=$build/tokmill crash=$build/tests/tokmill_crash
to=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)/tokmill-crash-XXXXXX")       # syncs cost nothing there
trap 'cd /; [ -z "$mounted" ] || umount "$to/small"; rm -rf "$to"' EXIT
cd "$to" || exit 1
CUDA_VISIBLE_DEVICES=
export CUDA_VISIBLE_DEVICES

fail() {
    echo "FAILED: $*"
    sed 's/^/    /' log
    exit 1
}

# start OUT [OPTION...]: $program in the background, its process in $pid, what it says in log; it is killed at call $at, its read $bad_read fails
start() {
    out=$1
    shift
    CRASH_AT=$at CRASH_TORN=$torn CRASH_READ=$bad_read "$program" run --results none $ordered --no-prefix-cache --max-seqs 8 -m "$root/datasets/default" \
        --errors "$out.err" -o "$out" "$@" "$corpus" >log 2>&1 &
    pid=$!
}

go() {
    start "$@"
    wait $pid 2>/dev/null
    status=$?
}

text() {
    case $1 in *.zst) zstdcat "$1" ;; *.gz) zcat "$1" ;; *) cat "$1" ;; esac
}

arrange() {
    if [ "$ordered" ]; then cat; else sort; fi
}

# whole OUT: as the uninterrupted run
whole() {
    [ "$status" = 1 ] || fail "$1: status $status"
    arrange <rows >want
    text "$1" | arrange | cmp - want || fail "$1: other rows"
    arrange <rows.err >want
    arrange <"$1.err" | cmp - want || fail "$1: other error rows"
    grep -q "lines $n_line = done $n_done + failed $n_failed, redone [0-9]*, lost 0, duplicated 0" log || fail "$1: the accounts"
    [ ! -e "$1.journal" ] || fail "$1: the journal is there"
    "$plain" verify "$1" corpus >log 2>&1 || fail "$1: verify"
}

clear() {
    rm -f "$1" "$1.err" "$1.journal"
}

# corpus_of N: with blank lines, and bad ones, which have error rows; and its rows
corpus_of() {
    zstdcat "$root/datasets/default.jsonl.zst" | awk -v n="$1" 'NR > n { exit } NR % 10 == 3 { print "" } NR % 10 == 7 { print "{\"id\": " NR "}" } { print }' >corpus
    clear rows
    program=$plain
    go rows
    n_line=$(grep -c . corpus) n_failed=$(wc -l <rows.err)
    n_done=$((n_line - n_failed))
    [ "$status $(wc -l <rows)" = "1 $n_line" ] && [ "$n_failed" -gt 0 ] || fail "uninterrupted: status $status"
    program=$crash
}

ms() {
    echo $(($(date +%s%N) / 1000000))
}

said() {
    echo "$*; $(($(ms) - from)) ms"
    from=$(ms)
}

at='' torn='' bad_read='' ordered=--ordered corpus=corpus mounted='' from=$(ms)

# ---- killed at each call that changes a file, one after the other, on the same output: so during the resumes, too; with other steps each time ----

at_each_call() {
    clear "$1"
    for at in $(seq 1000); do
        go "$1" --max-seqs $((at % 7 + 1))
        [ $status = 137 ] || break
        n_kill=$((n_kill + 1))
        cp -f "$1" last.out && cp "$1.err" last.err && cp "$1.journal" last.journal        # as the last kill left it
    done 2>/dev/null
    [ "$at" -gt 12 ] || fail "$1: only $at calls"
    whole "$1"
    at=''
}

n_kill=0
corpus_of 60
for torn in 0 1; do
    for name in jsonl.zst jsonl ${full:+jsonl.gz}; do
        at_each_call "$torn.$name"
    done
done
torn='' ordered=''
for name in jsonl.zst ${full:+jsonl jsonl.gz}; do
    at_each_call "unordered.$name"
done
ordered=--ordered
said "killed at $n_kill calls that change a file"

# ---- power cuts: the tail of each file is gone from each byte on; all rows are there, and the journal is, in the state that is cut ----

n_cut=0
cut_tail() {
    size=$(wc -c <"last.$1")
    for n in $(seq $((size > $2 ? size - $2 : 0)) "$3" $((size - 1))); do
        cp last.out cut.jsonl && cp last.err cut.jsonl.err && cp last.journal cut.jsonl.journal
        truncate -s "$n" "cut.jsonl$4"
        go cut.jsonl
        whole cut.jsonl
        n_cut=$((n_cut + 1))
    done
}
at_each_call cut.jsonl
step=${full:+1}
cut_tail out 350 "${step:-67}" ''
cut_tail err 150 "${step:-47}" .err
cut_tail journal 250 "${step:-61}" .journal
said "power cut at $n_cut bytes"

# ---- killed by the clock: loading, computing, writing, finishing; every fourth is stopped and continued before ----

# moments N SECONDS: as many of the time from 0 on
moments() {
    awk -v n="$1" -v most="$2" -v seed="${CRASH_SEED:-1}" 'BEGIN { srand(seed); while (n--) printf "%.3f\n", rand() * most }'
}

# signal_after SECONDS SIGNAL OUT
signal_after() {
    start "$3"
    sleep "$1"
    kill "-$2" $pid 2>/dev/null        # it may have ended
}

corpus_of 150
rm -f cut.*
clock=$(ms)
go rest.jsonl
whole rest.jsonl
length=$(awk -v ms=$(($(ms) - clock)) 'BEGIN { print ms / 1000 }')
most=$(awk -v s="$length" 'BEGIN { print 0.7 * s }')           # what goes on has less to do
n_kill=0 n_end=0 turn=0
while [ $n_kill -lt "$points" ]; do
    for when in $(moments 1000 "$most"); do
        set -- killed.jsonl killed.jsonl.zst killed.jsonl.gz
        shift $((n_end % 3))
        if [ $((turn % 4)) = 3 ]; then
            signal_after "$when" STOP "$1"
            sleep 0.05
            kill -CONT $pid 2>/dev/null
            sleep 0.05
            kill -KILL $pid 2>/dev/null
        else
            signal_after "$when" KILL "$1"
        fi
        wait $pid 2>/dev/null
        status=$? turn=$((turn + 1))
        if [ $status = 137 ]; then
            n_kill=$((n_kill + 1))
            [ $n_kill -lt "$points" ] || break
        else
            whole "$1"
            clear "$1"
            n_end=$((n_end + 1))
        fi
    done
done
go "$1"
whole "$1"
said "killed $n_kill times within the $length s of a run, finished $((n_end + 1)) times between"

# ---- SIGTERM: what runs is finished, so nothing is made again; the second one ends at once ----

# drain N: a run that is slow on purpose gets N SIGTERMs while it computes
drain() {
    clear drained.jsonl
    start drained.jsonl --max-seqs 1
    for i in $(seq 3000); do
        [ ! -s drained.jsonl ] || break
        sleep 0.01
    done
    for i in $(seq "$1"); do
        kill -TERM $pid
    done
    wait $pid 2>/dev/null
    status=$?
    [ $status = 75 ] || fail "$1 SIGTERM: status $status"
    go drained.jsonl
    [ "$1" = 2 ] || grep -q 'redone 0' log || fail "SIGTERM: rows were made again"
    whole drained.jsonl
}

drain 1
drain 2
n_drain=1
for when in $(moments "$([ "$full" ] && echo 20 || echo 3)" "$length"); do
    clear drained.jsonl
    signal_after "$when" TERM drained.jsonl
    wait $pid 2>/dev/null
    status=$?
    case $status in
    75) n_drain=$((n_drain + 1)) ;;
    1 | 143) ;;         # it had finished; it had not begun
    *) fail "SIGTERM: status $status" ;;
    esac
    [ $status = 1 ] || go drained.jsonl
    grep -q 'redone 0' log || fail "SIGTERM: rows were made again"
    whole drained.jsonl
done
said "SIGTERM: $n_drain times drained, once ended at once"

# ---- no room ----

# full OUT MESSAGE: tried twice, with the same room
full() {
    for try in 1 2; do
        go "$1"
        [ $status = 75 ] || fail "no room: status $status"
        grep -q "cannot write \"$1.*$2; .* the same command goes on" log || fail "no room: not said"
    done
}

mkdir small
if mount -t tmpfs -o size=16k none small 2>/dev/null; then
    mounted=yes
    full small/o.jsonl 'No space left on device'
    mount -o remount,size=4m small
else
    echo 'skipped: no small disk can be mounted; a limit for files is one, too'
fi
go small/o.jsonl
whole small/o.jsonl
(trap '' XFSZ; ulimit -f 16; full limited.jsonl 'File too large') || exit 1
go limited.jsonl
whole limited.jsonl
said 'no room: status 75, and goes on with room'

# ---- pipes: closed, slow ----

mkfifo pipe
pipe() {
    "$crash" run -q --results none --ordered --no-prefix-cache --max-seqs 8 -m "$root/datasets/default" --logprobs 5 corpus >pipe 2>log &
    pid=$!
}
pipe
: <pipe
wait $pid 2>/dev/null
status=$?
[ $status = 2 ] && grep -q 'cannot write standard output: Broken pipe' log || fail "closed pipe: status $status"
go long.jsonl --logprobs 5
pipe
(sleep 1; dd bs=1000 2>/dev/null) <pipe >slow.jsonl
wait $pid 2>/dev/null
status=$?
[ $status = 1 ] && cmp slow.jsonl long.jsonl || fail "slow reader: status $status"
said "pipes: closed, slow ($(wc -c <slow.jsonl) bytes)"

# ---- corpora that break off ----

cp corpus good
(head -100 good | zstd -q; tail -n +101 good | zstd -q) >corpus
cp corpus good.zst
truncate -s -100 corpus
go broken.jsonl
n=$(wc -l <broken.jsonl)
[ $status = 1 ] && grep -q 'lost 0, duplicated 0' log || fail "a broken corpus: status $status"
head -$((n - 1)) broken.jsonl | cmp - rows 2>&1 | grep -q 'EOF on -' || fail "a broken corpus: other rows"
tail -1 broken.jsonl | grep -q 'the file ends inside a zstd frame; the rest of the file was not read' || fail 'a broken corpus: not said'
cp good.zst corpus
go broken.jsonl
whole broken.jsonl
rm corpus
mkfifo corpus
head -c 10000 good >corpus &
go fifo.jsonl
[ $status = 1 ] && [ "$(wc -l <fifo.jsonl)" = "$(head -c 10000 good | grep -c .)" ] && grep -q 'lost 0, duplicated 0' log || fail "a pipe that ends: status $status"
rm corpus
mv good corpus
corpus_of 60
n_bad=0
for bad_read in $(seq 15); do
    clear misread.jsonl
    go misread.jsonl
    case $status in
    1) whole misread.jsonl ;;          # the program can do without what was to be read
    2) [ ! -e misread.jsonl ] || fail 'a bad read: status 2' ;;
    75) n_bad=$((n_bad + 1))
        grep -q 'cannot read .*: Input/output error; .* the same command goes on' log || fail 'a bad read: not said' ;;
    *) fail "a bad read: status $status" ;;
    esac
    kept=$bad_read bad_read=''
    go misread.jsonl
    whole misread.jsonl
    bad_read=$kept
done
bad_read=''
[ $n_bad -gt 1 ] || fail 'no read was bad'
said "corpora that break off, and $n_bad bad reads"
