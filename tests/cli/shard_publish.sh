# a shard has its name only when it is whole, and then never loses it.  The corpus comes through a pipe: it ends when the test lets it.
model=$root/datasets/default
zstdcat "$root/datasets/default.jsonl.zst" | head -40 | jq -c '.max_tokens = 4' >p.jsonl
mkfifo pipe
set -- --log-level warn --results none --no-prefix-cache -m "$model" --shard 1/2 -o out.jsonl.zst pipe
part=.out.00001-of-00002.jsonl.zst whole=out.00001-of-00002.jsonl.zst
rows() { zstdcat "$1" | wc -l; }
# lines of the corpus go in, and the pipe stays open on 8; the rows of so many are on disk within a second or two
feed() {
    exec 8>pipe
    head -"$1" p.jsonl >&8
    for _ in $(seq 100); do
        [ ! -s $part ] || [ "$(rows $part)" -lt "$2" ] || break
        sleep 0.1
    done
    sleep 0.3
}

tokmill run -q "$@" &
feed 20 10
ls -A | grep out
kill -9 $!
wait $! 2>/dev/null; echo "status $?"
exec 8>&-
rows $part

# held by another run: again later
(flock 9; tokmill run -q "$@"; echo "status $?") 9>>$part.journal

tokmill run -q "$@" &
feed 30 15
kill -TERM $!
wait $!; echo "status $?"
exec 8>&-
rows $part
cat p.jsonl >pipe &
tokmill run "$@" --log-level info 2>&1 >table | sed -n '/going on/p; /^tokmill: lines/p'
ls -A | grep out
seq 1 2 39 >lines
zstdcat $whole | jq .index | sort -n | cmp - lines && echo 'each line once'

# there already: nothing is done; come second: nothing is replaced
tokmill run -q "$@"; echo "status $?"
rm $whole
tokmill run -q "$@" &
feed 20 10
echo 'first' >$whole
exec 8>&-
wait $!; echo "status $?"
cat $whole
ls -A | grep out
